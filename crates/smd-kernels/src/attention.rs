//! Softmax attention over pixels (Vaswani et al. 2017) that never holds all scores.
//!
//! ```text
//! out = softmax(q k^T / sqrt(d)) v        for each image and head
//! ```
//! A block of queries meets the keys block by block, with the largest score so far and the sum of
//! exponentials kept for each query (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022,
//! arXiv:2205.14135). Backward computes the scores again from the queries, the keys and `log_sums`, the
//! logarithm of each query's sum of exponentials.
//!
//! Scores are held with the queries in the lanes: `[keys][queries]`. Then largest values and sums over
//! keys need no step across lanes, and only a block of queries has to be transposed, never the keys.
//!
//! Queries, keys and values are read where a 1x1 convolution leaves them, in `[B, N, 3 * heads * d]`:
//! of each pixel all queries, all keys, all values, each head after head.

mod backward;
mod forward;
pub(crate) mod kernel;
pub(crate) mod panels;
pub(crate) mod rows;

use crate::simd::{self, Level};
use kernel::tasks_together;
use rayon::prelude::*;
use rows::{Rows, RowsMut};

/// The sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attention {
    /// Images, `B`.
    pub batch: usize,
    /// Pixels of an image, `N`.
    pub pixels: usize,
    /// Heads.
    pub heads: usize,
    /// Numbers of a query, a key or a value of one head, `d`.
    pub d_head: usize,
}

impl Attention {
    /// `1 / sqrt(d)`.
    pub(crate) fn scale(&self) -> f32 {
        (1.0 / (self.d_head as f64).sqrt()) as f32
    }

    pub(crate) fn check(&self, qkv: &[f32], out: &[f32]) {
        assert!(
            self.heads > 0 && self.d_head > 0,
            "attention: no head, or heads of nothing"
        );
        let len = self.batch * self.pixels * self.heads * self.d_head;
        assert_eq!(qkv.len(), 3 * len, "attention: queries, keys and values");
        assert_eq!(out.len(), len, "attention: output");
    }

    fn check_log_sums(&self, log_sums: &[f32]) {
        assert_eq!(
            log_sums.len(),
            self.batch * self.heads * self.pixels,
            "attention: one logarithm of a sum for each query"
        );
    }

    /// Queries, keys and values of head `i`, counted through all images.
    pub(crate) fn qkv<'a>(&self, qkv: &'a [f32], i: usize) -> [Rows<'a>; 3] {
        let (image, head) = (i / self.heads, i % self.heads);
        [0, 1, 2].map(|part| self.column(qkv, 3 * self.heads, image, part * self.heads + head))
    }

    /// Head `i`, counted through all images, of `[B, N, heads * d]`.
    pub(crate) fn head<'a>(&self, x: &'a [f32], i: usize) -> Rows<'a> {
        self.column(x, self.heads, i / self.heads, i % self.heads)
    }

    fn column<'a>(&self, x: &'a [f32], columns: usize, image: usize, column: usize) -> Rows<'a> {
        let stride = columns * self.d_head;
        let start = image * self.pixels * stride + column * self.d_head;
        Rows::new(&x[start..], self.pixels, self.d_head, stride)
    }

    /// Queries, keys and values to write to, for all heads of all images.
    pub(crate) fn qkv_mut<'a>(&self, qkv: &'a mut [f32]) -> Vec<[RowsMut<'a>; 3]> {
        let columns = RowsMut::all_columns(qkv, self.pixels, 3 * self.heads, self.d_head);
        let mut heads: Vec<[Option<RowsMut>; 3]> = Vec::new();
        heads.resize_with(columns.len() / 3, || [None, None, None]);
        for (i, column) in columns.into_iter().enumerate() {
            let (image, part) = (i / (3 * self.heads), i / self.heads % 3);
            heads[image * self.heads + i % self.heads][part] = Some(column);
        }
        let all_three = |head: [Option<RowsMut<'a>>; 3]| head.map(|rows| rows.expect("3 * heads"));
        heads.into_iter().map(all_three).collect()
    }

    /// Heads of all images of `[B, N, heads * d]`, to write to.
    pub(crate) fn heads_mut<'a>(&self, x: &'a mut [f32]) -> Vec<RowsMut<'a>> {
        RowsMut::all_columns(x, self.pixels, self.heads, self.d_head)
    }
}

/// Queries of a block, and keys of a block: their scores fit into the first-level cache. Under Miri few, so
/// that its small tests have several.
const BLOCK: usize = if cfg!(miri) { 3 } else { 64 };

/// `out = softmax(q k^T / sqrt(d)) v`, and the logarithm of each query's sum of exponentials of scores.
///
/// # Shapes
/// - `qkv`: `[B, N, 3 * heads * d]`
/// - `out`: `[B, N, heads * d]`, `log_sums`: `[B, heads, N]`
///
/// # Panics
/// If a slice does not have its length, or `heads` or `d` is 0.
pub fn forward(attention: &Attention, qkv: &[f32], out: &mut [f32], log_sums: &mut [f32]) {
    forward_at(simd::level(), attention, qkv, out, log_sums);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(
    level: Level,
    attention: &Attention,
    qkv: &[f32],
    out: &mut [f32],
    log_sums: &mut [f32],
) {
    attention.check(qkv, out);
    attention.check_log_sums(log_sums);
    if out.is_empty() {
        return;
    }
    // As even as can be, and then as many as there are.
    let block = attention.pixels.div_ceil(attention.pixels.div_ceil(BLOCK));
    let blocks = attention.pixels.div_ceil(block);
    let outs: Vec<RowsMut> = attention
        .heads_mut(out)
        .into_iter()
        .flat_map(|head| head.runs(block))
        .collect();
    let log_sums: Vec<&mut [f32]> = log_sums
        .chunks_exact_mut(attention.pixels)
        .flat_map(|head| head.chunks_mut(block))
        .collect();
    let multiplications = 2 * block * attention.pixels * attention.d_head;
    outs.into_par_iter()
        .zip(log_sums)
        .enumerate()
        .with_min_len(tasks_together(multiplications))
        .for_each(|(i, (out, log_sums))| {
            let [q, k, v] = attention.qkv(qkv, i / blocks);
            let share = forward::Block {
                q: q.part(i % blocks * block, out.count()),
                k,
                v,
                scale: attention.scale(),
                out,
                log_sums,
            };
            kernel::run(level, share);
        });
}

/// The gradient of `qkv` of [`forward`], given its results and the gradient of `out`.
///
/// # Shapes
/// - `qkv`, `qkv_out`: `[B, N, 3 * heads * d]`
/// - `out`, `grad`: `[B, N, heads * d]`, `log_sums`: `[B, heads, N]`
///
/// # Panics
/// If a slice does not have its length, or `heads` or `d` is 0.
pub fn backward(
    attention: &Attention,
    qkv: &[f32],
    out: &[f32],
    log_sums: &[f32],
    grad: &[f32],
    qkv_out: &mut [f32],
) {
    backward_at(simd::level(), attention, qkv, out, log_sums, grad, qkv_out);
}

/// [`backward`] with the instruction set of choice.
pub fn backward_at(
    level: Level,
    attention: &Attention,
    qkv: &[f32],
    out: &[f32],
    log_sums: &[f32],
    grad: &[f32],
    qkv_out: &mut [f32],
) {
    attention.check(qkv, out);
    attention.check(qkv_out, grad);
    attention.check_log_sums(log_sums);
    if out.is_empty() {
        return;
    }
    attention
        .qkv_mut(qkv_out)
        .into_par_iter()
        .enumerate()
        .with_min_len(tasks_together(
            5 * attention.pixels.pow(2) * attention.d_head,
        ))
        .for_each(|(i, [q_out, k_out, v_out])| {
            let [q, k, v] = attention.qkv(qkv, i);
            let head = backward::Head {
                q,
                k,
                v,
                scale: attention.scale(),
                out: attention.head(out, i),
                log_sums: &log_sums[i * attention.pixels..][..attention.pixels],
                grad: attention.head(grad, i),
                q_out,
                k_out,
                v_out,
            };
            kernel::run(level, head);
        });
}

#[cfg(test)]
pub(crate) mod tests;

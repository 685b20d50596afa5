//! The gradients of some heads.
//!
//! ```text
//! dp = g context^T / sqrt(d),   dq = p . (dp - sum_d p . dp)        g: the gradient of out
//! dcontext = p^T g / sqrt(d)
//! dv = w dcontext
//! dw = v dcontext^T,   dk = w . (dw - sum_N w . dw)
//! ```
//! The last sum takes no pass over the pixels: `sum_N w . dw = sum_j context[., j] . dcontext[., j]`.

use super::RUN;
use super::forward::{Keys, Statistics, divide, queries};
use crate::attention::kernel::{Kernel, parts};
use crate::attention::panels::{add_transposed_times, gather, multiply, scale_rows, scatter};
use crate::attention::rows::{Rows, RowsMut};
use crate::product::even_blocks;
use crate::simd::Vector;

/// Neighbouring heads of one image.
pub(super) struct Heads<'a> {
    pub q: Rows<'a>,
    pub keys: Keys<'a>,
    pub d: usize,
    /// `1 / sqrt(d)`.
    pub scale: f32,
    pub grad: Rows<'a>,
    pub q_out: RowsMut<'a>,
    pub k_out: RowsMut<'a>,
    pub v_out: RowsMut<'a>,
}

impl Heads<'_> {
    /// Largest keys, sums, means of slopes; three runs of pixels; contexts, their gradients, and the
    /// transposes of either.
    fn parts(&self, lanes: usize) -> [usize; 9] {
        let wide = self.d.next_multiple_of(2 * lanes);
        let all = self.q.len() / self.d * wide;
        let run = all * self.q.count().min(RUN);
        let squares = all * self.d;
        [all, all, all, run, run, run, squares, squares, squares]
    }
}

impl Kernel for Heads<'_> {
    fn scratch_len(&self, lanes: usize) -> usize {
        self.parts(lanes).iter().sum()
    }

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self, scratch: &mut [f32]) {
        let [
            largest,
            sums,
            means,
            one,
            two,
            three,
            contexts,
            slopes,
            turned,
        ] = parts(scratch, self.parts(V::LANES));
        let (d, pixels, all) = (self.d, self.q.count(), largest.len());
        let n = 2 * V::LANES;
        let wide = d.next_multiple_of(n);
        // SAFETY: the caller has the instruction set.
        unsafe {
            let keys = Statistics { largest, sums };
            let kept = Some(&mut self.k_out);
            self.keys.contexts::<V>(d, keys, one, two, contexts, kept);
            divide(1.0, sums);
            for head in 0..all / wide {
                let context = &mut contexts[head * d * wide..][..d * wide];
                scale_rows::<V>(context, &sums[head * wide..][..d]);
                transpose(context, d, n, &mut turned[head * d * wide..][..d * wide]);
            }
        }

        slopes.fill(0.0);
        for (from, count) in even_blocks(pixels, RUN) {
            let len = count * all;
            let (p, g, dp) = (&mut one[..len], &mut two[..len], &mut three[..len]);
            // SAFETY: the caller has the instruction set.
            unsafe {
                queries::<V>(self.q.part(from, count), d, wide, p);
                gather::<V>(self.grad.part(from, count), d, wide, g);
                for head in 0..all / wide {
                    let square = head * d * wide..(head + 1) * d * wide;
                    let weights = Rows::new(&p[head * wide..], count, d, all);
                    let grad = Rows::new(&g[head * wide..], count, wide, all);
                    add_transposed_times::<V>(weights, grad, &mut slopes[square.clone()]);
                    let mut to = RowsMut::new(&mut dp[head * wide..], count, wide, all);
                    multiply::<V>(grad.columns(0, d), &turned[square], &mut to, false);
                }
                through_softmax::<V>(p, dp, wide, self.scale);
                scatter::<V>(dp, wide, d, &mut self.q_out.part(from, count));
            }
        }

        for head in 0..all / wide {
            let (square, channels) = (head * d * wide, head * wide);
            let context = &contexts[square..][..d * wide];
            let slope = &mut slopes[square..][..d * wide];
            let scales = &mut sums[channels..][..d];
            for scale in &mut *scales {
                *scale *= self.scale;
            }
            // SAFETY: the caller has the instruction set.
            unsafe { scale_rows::<V>(slope, scales) };
            row_products(context, slope, n, &mut means[channels..][..wide]);
            transpose(slope, d, n, &mut turned[square..][..d * wide]);
        }
        for (from, count) in even_blocks(pixels, RUN) {
            let len = count * all;
            let (e, v, dw) = (&mut one[..len], &mut two[..len], &mut three[..len]);
            let mut k_out = self.k_out.part(from, count);
            let mut v_out = self.v_out.part(from, count);
            // SAFETY: the caller has the instruction set.
            unsafe {
                gather::<V>(k_out.read(), d, wide, e);
                gather::<V>(self.keys.v.part(from, count), d, wide, v);
                for head in 0..all / wide {
                    let square = head * d * wide..(head + 1) * d * wide;
                    let exps = Rows::new(&e[head * wide..], count, d, all);
                    let slope = &slopes[square.clone()];
                    multiply::<V>(exps, slope, &mut v_out.columns(head * d, d), false);
                    let values = Rows::new(&v[head * wide..], count, d, all);
                    let mut to = RowsMut::new(&mut dw[head * wide..], count, wide, all);
                    multiply::<V>(values, &turned[square], &mut to, false);
                }
                centre::<V>(e, dw, means);
                scatter::<V>(dw, wide, d, &mut k_out);
            }
        }
    }
}

/// Writes the transpose of a `d` by `d` matrix; both in panels of `n` columns.
#[inline(always)]
fn transpose(from: &[f32], d: usize, n: usize, to: &mut [f32]) {
    to.fill(0.0);
    for i in 0..d {
        for j in 0..d {
            to[(i / n * d + j) * n + i % n] = from[(j / n * d + i) * n + j % n];
        }
    }
}

/// `sums[i] = sum_j a[i][j] * b[i][j]`, both in panels of `n` columns.
#[inline(always)]
fn row_products(a: &[f32], b: &[f32], n: usize, sums: &mut [f32]) {
    let rows = a.len() / sums.len();
    sums.fill(0.0);
    for (a, b) in a.chunks_exact(rows * n).zip(b.chunks_exact(rows * n)) {
        let rows = a.chunks_exact(n).zip(b.chunks_exact(n));
        for (sum, (a, b)) in sums.iter_mut().zip(rows) {
            *sum += a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        }
    }
}

/// Turns the gradient of a softmax over rows, `dp`, into that of its input, times `scale`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn through_softmax<V: Vector>(p: &[f32], dp: &mut [f32], wide: usize, scale: f32) {
    for (p, dp) in p.chunks_exact(wide).zip(dp.chunks_exact_mut(wide)) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let mut sums = V::splat(0.0);
            for (p, dp) in p.chunks_exact(V::LANES).zip(dp.chunks_exact(V::LANES)) {
                sums = V::load(p).mul_add(V::load(dp), sums);
            }
            let (mean, scale) = (V::splat(sums.total()), V::splat(scale));
            for (p, dp) in p.chunks_exact(V::LANES).zip(dp.chunks_exact_mut(V::LANES)) {
                let p = V::load(p).mul(scale);
                V::load(dp).sub(mean).mul(p).store(dp);
            }
        }
    }
}

/// `dw = e * (dw - mean)`, with a mean for each channel.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn centre<V: Vector>(e: &[f32], dw: &mut [f32], means: &[f32]) {
    let rows = e
        .chunks_exact(means.len())
        .zip(dw.chunks_exact_mut(means.len()));
    for (e, dw) in rows {
        let channels = e.chunks_exact(V::LANES).zip(means.chunks_exact(V::LANES));
        for (dw, (e, mean)) in dw.chunks_exact_mut(V::LANES).zip(channels) {
            // SAFETY: the caller has the instruction set.
            unsafe { V::load(dw).sub(V::load(mean)).mul(V::load(e)).store(dw) };
        }
    }
}

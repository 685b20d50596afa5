//! Attention whose cost is linear in the pixels (Shen et al. 2018, arXiv:1812.01243).
//!
//! ```text
//! p = softmax over d of q,   w = softmax over the N pixels of k        for each image and head
//! context = w^T v                                                       [d, d]
//! out = p context / sqrt(d)
//! ```
//! Pixels pass in runs that stay in the first-level cache: neither softmax is ever whole in memory.
//! Backward keeps nothing but `qkv` and makes the softmaxes and the context again.
//!
//! Queries, keys and values are read where a 1x1 convolution leaves them, in `[B, N, 3 * heads * d]`:
//! of each pixel all queries, all keys, all values, each head after head.

mod backward;
mod forward;

use crate::attention::Attention;
pub use crate::attention::Attention as LinearAttention;
use crate::attention::kernel::{self, tasks_together};
use crate::simd::{self, Level};
use rayon::prelude::*;

/// Pixels of a run: with four heads of 32 numbers, its queries, keys or values fit into the first-level
/// cache beside the contexts.
const RUN: usize = if cfg!(miri) { 3 } else { 32 };

/// `out = softmax_d(q) (softmax_N(k)^T v) / sqrt(d)`.
///
/// # Shapes
/// - `qkv`: `[B, N, 3 * heads * d]`, `out`: `[B, N, heads * d]`
///
/// # Panics
/// If a slice does not have its length, or `heads` or `d` is 0.
pub fn forward(attention: &Attention, qkv: &[f32], out: &mut [f32]) {
    forward_at(simd::level(), attention, qkv, out);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(level: Level, attention: &Attention, qkv: &[f32], out: &mut [f32]) {
    attention.check(qkv, out);
    let (groups, together) = groups(attention);
    groups
        .heads_mut(out)
        .into_par_iter()
        .enumerate()
        .with_min_len(tasks_together(2 * together))
        .for_each(|(i, out)| {
            let [q, k, v] = groups.qkv(qkv, i);
            let heads = forward::Heads {
                q,
                keys: forward::Keys { k, v },
                d: attention.d_head,
                scale: attention.scale(),
                out,
            };
            kernel::run(level, heads);
        });
}

/// The heads in groups, and the multiplications of a group in one product.
///
/// The heads of a pixel lie side by side: together they are read several times faster than one after
/// the other. They are only taken apart where there are too few images to work on.
fn groups(attention: &Attention) -> (Attention, usize) {
    const TASKS: usize = 8;
    let Attention {
        batch,
        pixels,
        heads,
        d_head,
    } = *attention;
    let fits = |&group: &usize| {
        heads.is_multiple_of(group) && (group == 1 || batch * heads / group >= TASKS)
    };
    let group = (1..=heads).rev().find(fits).unwrap_or(1);
    let groups = Attention {
        heads: heads / group,
        d_head: group * d_head,
        ..*attention
    };
    (groups, pixels * group * d_head.pow(2))
}

/// The gradient of `qkv` of [`forward`], given that of its output.
///
/// # Shapes
/// - `qkv`, `qkv_out`: `[B, N, 3 * heads * d]`, `grad`: `[B, N, heads * d]`
///
/// # Panics
/// If a slice does not have its length, or `heads` or `d` is 0.
pub fn backward(attention: &Attention, qkv: &[f32], grad: &[f32], qkv_out: &mut [f32]) {
    backward_at(simd::level(), attention, qkv, grad, qkv_out);
}

/// [`backward`] with the instruction set of choice.
pub fn backward_at(
    level: Level,
    attention: &Attention,
    qkv: &[f32],
    grad: &[f32],
    qkv_out: &mut [f32],
) {
    attention.check(qkv, grad);
    attention.check(qkv_out, grad);
    let (groups, together) = groups(attention);
    groups
        .qkv_mut(qkv_out)
        .into_par_iter()
        .enumerate()
        .with_min_len(tasks_together(5 * together))
        .for_each(|(i, [q_out, k_out, v_out])| {
            let [q, k, v] = groups.qkv(qkv, i);
            let heads = backward::Heads {
                q,
                keys: forward::Keys { k, v },
                d: attention.d_head,
                scale: attention.scale(),
                grad: groups.head(grad, i),
                q_out,
                k_out,
                v_out,
            };
            kernel::run(level, heads);
        });
}

#[cfg(test)]
mod tests;

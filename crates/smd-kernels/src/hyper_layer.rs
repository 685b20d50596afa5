//! One layer of the paper's hypernetwork (Eq. 12), for rows of `L` numbers: the sum of a matrix of rank
//! one and a scaled identity, which is never formed.
//!
//! ```text
//! out = (v v^T + s I) h = v (v . h) + s h
//!
//! v_grad = grad (v . h) + h (v . grad)
//! h_grad = v (v . grad) + s grad
//! s_grad = sum grad . h               over all rows
//! ```
//! Every inner product is taken in the same sixteen parts under every instruction set, and nothing
//! is fused: results have the same bits under all of them.

use crate::simd::{self, Level, compiled_for_each_level};
use rayon::prelude::*;

/// Numbers that one task works on; fewer are not worth waking another thread.
const NUMBERS_PER_TASK: usize = 32 * 1024;

/// `sum a b` in sixteen interleaved parts, an order that vectors can follow.
///
/// Always inlined, so that it is compiled for the instruction set of the kernel that calls it.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut parts = [0.0_f32; 16];
    let (mut a, mut b) = (a.chunks_exact(16), b.chunks_exact(16));
    for (a, b) in (&mut a).zip(&mut b) {
        for ((part, &a), &b) in parts.iter_mut().zip(a).zip(b) {
            *part += a * b;
        }
    }
    let mut sum = 0.0;
    for (&a, &b) in a.remainder().iter().zip(b.remainder()) {
        sum += a * b;
    }
    // One after the other: adding halves leads the compiler to vectors of two in the loop above.
    for part in parts {
        sum += part;
    }
    sum
}

/// Rows of `width` numbers that one task works on.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (NUMBERS_PER_TASK / width).max(1)
}

compiled_for_each_level! {
    fn forward_rows(v: &[f32], h: &[f32], s: f32, out: &mut [f32], width: usize) {
        let rows = v.chunks_exact(width).zip(h.chunks_exact(width));
        for ((v, h), out) in rows.zip(out.chunks_exact_mut(width)) {
            let v_h = dot(v, h);
            for ((o, &v), &h) in out.iter_mut().zip(v).zip(h) {
                *o = v * v_h + h * s;
            }
        }
    }
}

compiled_for_each_level! {
    /// Returns the rows' part of the gradient of `s`.
    fn backward_rows(
        v: &[f32], h: &[f32], s: f32, grad: &[f32],
        v_grad: &mut [f32], h_grad: &mut [f32], width: usize,
    ) -> f64 {
        let mut s_grad = 0.0;
        for at in (0..v.len()).step_by(width) {
            let (v, h, grad) = (&v[at..][..width], &h[at..][..width], &grad[at..][..width]);
            let (v_grad, h_grad) = (&mut v_grad[at..][..width], &mut h_grad[at..][..width]);
            let (v_h, v_g) = (dot(v, h), dot(v, grad));
            s_grad += f64::from(dot(grad, h));
            for ((o, &h), &g) in v_grad.iter_mut().zip(h).zip(grad) {
                *o = g * v_h + h * v_g;
            }
            for ((o, &v), &g) in h_grad.iter_mut().zip(v).zip(grad) {
                *o = v * v_g + g * s;
            }
        }
        s_grad
    }
}

/// `out = v (v . h) + s h` for each row of `width` numbers.
///
/// # Shapes
/// - `v`, `h`, `out`: `[rows, width]`
///
/// # Panics
/// If `width` is 0 or does not divide the length, or the lengths differ.
pub fn forward(v: &[f32], h: &[f32], s: f32, out: &mut [f32], width: usize) {
    forward_at(simd::level(), v, h, s, out, width);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(level: Level, v: &[f32], h: &[f32], s: f32, out: &mut [f32], width: usize) {
    check(width, [v, h, out]);
    let task = rows_per_task(width) * width;
    out.par_chunks_mut(task)
        .zip(v.par_chunks(task).zip(h.par_chunks(task)))
        .for_each(|(out, (v, h))| forward_rows(level, v, h, s, out, width));
}

/// The gradients of `v` and `h`, written, and of `s`, returned, given that of the output of
/// [`forward`].
///
/// # Shapes
/// - `v`, `h`, `grad`, `v_grad`, `h_grad`: `[rows, width]`
///
/// # Panics
/// If `width` is 0 or does not divide the length, or the lengths differ.
pub fn backward(
    v: &[f32],
    h: &[f32],
    s: f32,
    grad: &[f32],
    v_grad: &mut [f32],
    h_grad: &mut [f32],
    width: usize,
) -> f32 {
    backward_at(simd::level(), v, h, s, grad, v_grad, h_grad, width)
}

/// [`backward`] with the instruction set of choice.
#[allow(clippy::too_many_arguments)]
pub fn backward_at(
    level: Level,
    v: &[f32],
    h: &[f32],
    s: f32,
    grad: &[f32],
    v_grad: &mut [f32],
    h_grad: &mut [f32],
    width: usize,
) -> f32 {
    check(width, [v, h, grad]);
    check(width, [v, v_grad, h_grad]);
    let task = rows_per_task(width) * width;
    let inputs = v.par_chunks(task).zip(h.par_chunks(task));
    let outputs = v_grad.par_chunks_mut(task).zip(h_grad.par_chunks_mut(task));
    let sums: Vec<f64> = inputs
        .zip(grad.par_chunks(task))
        .zip(outputs)
        .map(|(((v, h), grad), (v_grad, h_grad))| {
            backward_rows(level, v, h, s, grad, v_grad, h_grad, width)
        })
        .collect();
    sums.iter().sum::<f64>() as f32
}

fn check(width: usize, same: [&[f32]; 3]) {
    assert!(
        width > 0 && same[0].len().is_multiple_of(width),
        "hyper layer: whole rows"
    );
    for other in same {
        assert_eq!(other.len(), same[0].len(), "hyper layer: one size");
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467) of rows of channels.
//!
//! ```text
//! length = sqrt(sum_c x_c^2 + 1e-24)
//! y_c = sqrt(C) g_c x_c / length
//! ```
//! PyTorch's `normalize` divides by `max(||x||, 1e-12)`; inside the root the gradient at 0 stays
//! finite. Backward keeps the inputs only: the lengths are taken again, while a row is in the cache.

use crate::rows::{dot, rows_per_task};
use crate::simd::{self, Level, compiled_for_each_level};
use rayon::prelude::*;

/// What is added to a squared length.
const TINY: f32 = 1e-24;

/// Rows whose part of the gradient of `g` is summed in f32 before the parts are added in f64.
const ROWS_PER_SUM: usize = 64;

compiled_for_each_level! {
    fn forward_rows(x: &[f32], g: &[f32], y: &mut [f32]) {
        let channels = g.len();
        let root = (channels as f32).sqrt();
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            let scale = root / (dot(x, x) + TINY).sqrt();
            for ((y, &x), &g) in y.iter_mut().zip(x).zip(g) {
                *y = x * scale * g;
            }
        }
    }
}

compiled_for_each_level! {
    /// Writes `x_grad = scale (u - x (u . x) / length^2)` with `u = g grad` and
    /// `scale = sqrt(C) / length`, and adds the rows' part of the gradient of `g` to `g_sums`.
    fn backward_rows(x: &[f32], g: &[f32], grad: &[f32], x_grad: &mut [f32], g_sums: &mut [f32]) {
        let channels = g.len();
        let root = (channels as f32).sqrt();
        let rows = x.chunks_exact(channels).zip(grad.chunks_exact(channels));
        for ((x, grad), out) in rows.zip(x_grad.chunks_exact_mut(channels)) {
            let squared = dot(x, x) + TINY;
            let scale = root / squared.sqrt();
            for ((o, &g), &grad) in out.iter_mut().zip(g).zip(grad) {
                *o = g * grad;
            }
            let along = dot(x, out) / squared;
            for (((o, sum), &x), &grad) in out.iter_mut().zip(g_sums.iter_mut()).zip(x).zip(grad) {
                *o = (*o - x * along) * scale;
                *sum += grad * (x * scale);
            }
        }
    }
}

/// The rows of one task; returns their part of the gradient of `g`.
fn backward_task(level: Level, x: &[f32], g: &[f32], grad: &[f32], x_grad: &mut [f32]) -> Vec<f64> {
    let mut total = vec![0.0; g.len()];
    let mut part = vec![0.0; g.len()];
    let run = ROWS_PER_SUM * g.len();
    let inputs = x.chunks(run).zip(grad.chunks(run));
    for ((x, grad), x_grad) in inputs.zip(x_grad.chunks_mut(run)) {
        part.fill(0.0);
        backward_rows(level, x, g, grad, x_grad, &mut part);
        for (total, &part) in total.iter_mut().zip(&part) {
            *total += f64::from(part);
        }
    }
    total
}

/// `y = sqrt(C) g x / ||x||` for each row.
///
/// # Shapes
/// - `x`, `y`: `[rows, C]`; `g`: `[C]`
///
/// # Panics
/// If a slice does not have its length, or there is no channel.
pub fn forward(x: &[f32], g: &[f32], y: &mut [f32]) {
    forward_at(simd::level(), x, g, y);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(level: Level, x: &[f32], g: &[f32], y: &mut [f32]) {
    check(x, g);
    assert_eq!(x.len(), y.len(), "rms norm: output");
    let task = rows_per_task(g.len()) * g.len();
    y.par_chunks_mut(task)
        .zip(x.par_chunks(task))
        .for_each(|(y, x)| forward_rows(level, x, g, y));
}

/// The gradients of `x` and `g` of [`forward`], given that of its output.
///
/// # Shapes
/// - `x`, `grad`, `x_grad`: `[rows, C]`; `g`, `g_grad`: `[C]`
///
/// # Panics
/// If a slice does not have its length, or there is no channel.
pub fn backward(x: &[f32], g: &[f32], grad: &[f32], x_grad: &mut [f32], g_grad: &mut [f32]) {
    backward_at(simd::level(), x, g, grad, x_grad, g_grad);
}

/// [`backward`] with the instruction set of choice.
pub fn backward_at(
    level: Level,
    x: &[f32],
    g: &[f32],
    grad: &[f32],
    x_grad: &mut [f32],
    g_grad: &mut [f32],
) {
    check(x, g);
    assert_eq!(x.len(), grad.len(), "rms norm: gradient");
    assert_eq!(x.len(), x_grad.len(), "rms norm: gradient of the input");
    assert_eq!(g.len(), g_grad.len(), "rms norm: gradient of the scale");
    let task = rows_per_task(g.len()) * g.len();
    let parts: Vec<Vec<f64>> = x_grad
        .par_chunks_mut(task)
        .zip(x.par_chunks(task).zip(grad.par_chunks(task)))
        .map(|(x_grad, (x, grad))| backward_task(level, x, g, grad, x_grad))
        .collect();
    for (c, g_grad) in g_grad.iter_mut().enumerate() {
        *g_grad = parts.iter().map(|part| part[c]).sum::<f64>() as f32;
    }
}

fn check(x: &[f32], g: &[f32]) {
    assert!(!g.is_empty(), "rms norm: no channel");
    assert!(x.len().is_multiple_of(g.len()), "rms norm: whole rows");
}

#[cfg(test)]
mod tests;

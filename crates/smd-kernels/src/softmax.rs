//! Softmax over the last axis.

use crate::silu::exp;
use crate::simd::{self, Level, compiled_for_each_level};
use rayon::prelude::*;

compiled_for_each_level! {
    fn forward_rows(x: &[f32], y: &mut [f32], width: usize) {
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let largest = x.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
            for (y, &x) in y.iter_mut().zip(x) {
                *y = exp(x - largest);
            }
            let scale = 1.0 / sum(y);
            for y in y {
                *y *= scale;
            }
        }
    }
}

compiled_for_each_level! {
    fn backward_rows(y: &[f32], grad: &[f32], out: &mut [f32], width: usize) {
        let rows = y.chunks_exact(width).zip(grad.chunks_exact(width));
        for ((y, grad), out) in rows.zip(out.chunks_exact_mut(width)) {
            for ((o, &y), &g) in out.iter_mut().zip(y).zip(grad) {
                *o = y * g;
            }
            let mean = sum(out);
            for ((o, &y), &g) in out.iter_mut().zip(y).zip(grad) {
                *o = y * (g - mean);
            }
        }
    }
}

/// The sum of `x` in sixteen interleaved parts, an order that vectors can follow.
#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    let mut parts = [0.0_f32; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (part, &x) in parts.iter_mut().zip(chunk) {
            *part += x;
        }
    }
    let rest: f32 = chunks.remainder().iter().sum();
    parts.iter().sum::<f32>() + rest
}

/// Rows that one task works on.
fn rows_per_task(width: usize) -> usize {
    (16 * 1024 / width).max(1)
}

/// `y = exp(x) / sum exp(x)` for each row of `width` numbers.
///
/// # Panics
/// If `width` is 0 or does not divide the length, or the lengths differ.
pub fn forward(x: &[f32], y: &mut [f32], width: usize) {
    forward_at(simd::level(), x, y, width);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(level: Level, x: &[f32], y: &mut [f32], width: usize) {
    assert_eq!(x.len(), y.len(), "softmax: one output for each input");
    assert!(
        width > 0 && x.len().is_multiple_of(width),
        "softmax: whole rows"
    );
    let chunk = rows_per_task(width) * width;
    y.par_chunks_mut(chunk)
        .zip(x.par_chunks(chunk))
        .for_each(|(y, x)| forward_rows(level, x, y, width));
}

/// The gradient of the input of [`forward`], given its output `y` and the output's gradient.
///
/// # Panics
/// If `width` is 0 or does not divide the length, or the lengths differ.
pub fn backward(y: &[f32], grad: &[f32], out: &mut [f32], width: usize) {
    backward_at(simd::level(), y, grad, out, width);
}

/// [`backward`] with the instruction set of choice.
pub fn backward_at(level: Level, y: &[f32], grad: &[f32], out: &mut [f32], width: usize) {
    assert_eq!(y.len(), out.len(), "softmax: one gradient for each input");
    assert_eq!(y.len(), grad.len(), "softmax: one gradient for each output");
    assert!(
        width > 0 && y.len().is_multiple_of(width),
        "softmax: whole rows"
    );
    let chunk = rows_per_task(width) * width;
    out.par_chunks_mut(chunk)
        .zip(y.par_chunks(chunk))
        .zip(grad.par_chunks(chunk))
        .for_each(|((out, y), grad)| backward_rows(level, y, grad, out, width));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_agree_with_f64_on_every_instruction_set(
            width in 1_usize..70,
            rows in 1_usize..5,
            x in prop::collection::vec(-30.0_f32..30.0, 350),
            g in prop::collection::vec(-1.0_f32..1.0, 350),
        ) {
            let len = width * rows;
            let (x, g) = (&x[..len], &g[..len]);
            for level in simd::available() {
                let (mut y, mut dx) = (vec![0.0; len], vec![0.0; len]);
                forward_at(level, x, &mut y, width);
                backward_at(level, &y, g, &mut dx, width);
                for row in 0..rows {
                    let at = row * width..(row + 1) * width;
                    let e: Vec<f64> = x[at.clone()].iter().map(|&x| f64::from(x).exp()).collect();
                    let total: f64 = e.iter().sum();
                    let dot: f64 =
                        e.iter().zip(&g[at.clone()]).map(|(e, &g)| e / total * f64::from(g)).sum();
                    for (k, i) in at.enumerate() {
                        let want = e[k] / total;
                        prop_assert!((f64::from(y[i]) - want).abs() < 1e-6);
                        let slope = want * (f64::from(g[i]) - dot);
                        prop_assert!((f64::from(dx[i]) - slope).abs() < 3e-6);
                    }
                }
            }
        }
    }
}

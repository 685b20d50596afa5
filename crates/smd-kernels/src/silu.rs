//! SiLU, `x * sigmoid(x)` (Elfwing et al. 2017), and the exponential it needs.

use crate::simd::{self, Level, compiled_for_each_level};
use rayon::prelude::*;

/// Numbers that one task works on.
const CHUNK: usize = 64 * 1024;

/// `exp(x)` to about two units in the last place, as straight code that vectors can follow.
///
/// `x = n ln 2 + r` with integer `n`; a polynomial of degree 6 for `exp(r)`, and `2^n` by the bits
/// of the exponent. Arguments are clamped to [-87, 88], where f32 has normal results; NaN stays NaN.
#[inline(always)]
#[allow(clippy::excessive_precision)]
pub(crate) fn exp(x: f32) -> f32 {
    let clamped = if x < -87.0 { -87.0 } else { x };
    let clamped = if clamped > 88.0 { 88.0 } else { clamped };
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_375 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let e = p * r * r + r + 1.0;
    let two_n = f32::from_bits(((shifted.to_bits() & 0x1ff).wrapping_add(127) & 0xff) << 23);
    e * two_n
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The derivative of `x * sigmoid(x)`.
#[inline(always)]
pub(crate) fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    s + x * s * (1.0 - s)
}

compiled_for_each_level! {
    fn forward_chunk(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * sigmoid(x);
        }
    }
}

compiled_for_each_level! {
    fn backward_chunk(x: &[f32], grad: &[f32], out: &mut [f32]) {
        for ((o, &x), &g) in out.iter_mut().zip(x).zip(grad) {
            *o = g * silu_slope(x);
        }
    }
}

/// `y = x * sigmoid(x)`.
///
/// # Panics
/// If the lengths differ.
pub fn forward(x: &[f32], y: &mut [f32]) {
    forward_at(simd::level(), x, y);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(level: Level, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "silu: one output for each input");
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| forward_chunk(level, x, y));
}

/// The gradient of the input of [`forward`], given that of its output.
///
/// # Panics
/// If the lengths differ.
pub fn backward(x: &[f32], grad: &[f32], out: &mut [f32]) {
    backward_at(simd::level(), x, grad, out);
}

/// [`backward`] with the instruction set of choice.
pub fn backward_at(level: Level, x: &[f32], grad: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "silu: one gradient for each input");
    assert_eq!(x.len(), grad.len(), "silu: one gradient for each output");
    out.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .zip(grad.par_chunks(CHUNK))
        .for_each(|((out, x), grad)| backward_chunk(level, x, grad, out));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sized;

    /// Numbers from -100 to 100, one in every 64th, and the awkward ones.
    fn inputs() -> Vec<f32> {
        let mut x: Vec<f32> = (-6400..=6400)
            .step_by(sized(1, 100))
            .map(|i| i as f32 / 64.0)
            .collect();
        x.extend([0.0, -0.0, 1e-30, -1e-30]);
        x
    }

    #[test]
    fn exp_is_right_to_rounding() {
        for x in inputs().into_iter().filter(|x| x.abs() <= 87.0) {
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (got / want - 1.0).abs() < 3e-7,
                "exp({x}) = {got}, not {want}"
            );
        }
    }

    #[test]
    fn values_and_slopes_are_right_on_every_instruction_set() {
        let x = inputs();
        let ones = vec![1.0; x.len()];
        for level in simd::available() {
            let (mut y, mut slope) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            forward_at(level, &x, &mut y);
            backward_at(level, &x, &ones, &mut slope);
            for (i, &x) in x.iter().enumerate() {
                let x = f64::from(x);
                let s = 1.0 / (1.0 + (-x).exp());
                assert!(
                    (f64::from(y[i]) - x * s).abs() < 1e-6 * x.abs().max(1.0),
                    "{level:?} {x}"
                );
                let want = s + x * s * (1.0 - s);
                assert!(
                    (f64::from(slope[i]) - want).abs() < 2e-6,
                    "{level:?} slope at {x}"
                );
            }
        }
    }

    #[test]
    fn nan_stays_nan() {
        let mut y = [0.0];
        forward(&[f32::NAN], &mut y);
        assert!(y[0].is_nan());
    }
}

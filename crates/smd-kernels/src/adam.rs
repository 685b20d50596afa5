//! AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) and averages of the weights, in one pass.
//!
//! ```text
//! g = grad * scale
//! m = beta_1 m + (1 - beta_1) g
//! v = beta_2 v + (1 - beta_2) g^2
//! w = w (1 - lr weight_decay) - lr (m / (1 - beta_1^n)) / (sqrt(v / (1 - beta_2^n)) + eps)
//! a = a decay + w (1 - decay)          for each average
//! ```
//! The formula is that of Burn 0.22, except that the corrections of the bias are computed in f64 and
//! rounded once: in f32, `1 - beta_2^n` with `beta_2 = 0.999` is off by up to 1e-5 at first.
//!
//! Element by element and without fused multiply-adds: results have the same bits under every
//! instruction set.

use crate::simd::{self, Level, compiled_for_each_level};
use rayon::prelude::*;

/// What a step is made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of gradients, below 1.
    pub beta_1: f32,
    /// Decay of the mean of squared gradients, below 1.
    pub beta_2: f32,
    /// What is added to the root.
    pub eps: f32,
    /// Decoupled weight decay; 0 is Adam.
    pub weight_decay: f32,
    /// The step, from 1.
    pub step: u64,
    /// What the gradient is multiplied with: below 1 where it is clipped.
    pub scale: f64,
}

/// Numbers whose step and averages are made before the next are touched: they stay in the cache.
const CHUNK: usize = 8 * 1024;

/// Chunks of one task: fewer are not worth waking another thread.
const CHUNKS_PER_TASK: usize = 4;

/// Numbers that one task squares.
const SQUARES_PER_TASK: usize = 64 * 1024;

/// The factors of a step, each rounded once.
#[derive(Clone, Copy)]
struct Factors {
    scale: f32,
    beta_1: f32,
    beta_2: f32,
    correct_1: f32,
    correct_2: f32,
    eps: f32,
    keep: f32,
    lr: f32,
}

impl Adam {
    fn factors(&self) -> Factors {
        assert!(self.step > 0, "adam: steps count from 1");
        let correct = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(self.step as f64))) as f32;
        Factors {
            scale: self.scale as f32,
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            correct_1: correct(self.beta_1),
            correct_2: correct(self.beta_2),
            eps: self.eps,
            keep: (1.0 - self.lr * f64::from(self.weight_decay)) as f32,
            lr: self.lr as f32,
        }
    }
}

compiled_for_each_level! {
    fn step_chunk(by: &Factors, weights: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32]) {
        let Factors { scale, beta_1, beta_2, correct_1, correct_2, eps, keep, lr } = *by;
        let (rest_1, rest_2) = (1.0 - beta_1, 1.0 - beta_2);
        for (((w, &g), m), v) in weights.iter_mut().zip(grad).zip(m).zip(v) {
            let g = g * scale;
            *m = *m * beta_1 + g * rest_1;
            *v = *v * beta_2 + g * g * rest_2;
            let delta = *m * correct_1 / ((*v * correct_2).sqrt() + eps);
            *w = *w * keep - delta * lr;
        }
    }
}

compiled_for_each_level! {
    /// `average = average * decay + weights * rest`.
    fn average_chunk(decay: f32, rest: f32, weights: &[f32], average: &mut [f32]) {
        for (a, &w) in average.iter_mut().zip(weights) {
            *a = *a * decay + w * rest;
        }
    }
}

compiled_for_each_level! {
    /// `sum x^2` in f64, in sixteen interleaved parts.
    fn squares(x: &[f32]) -> f64 {
        let mut parts = [0.0_f64; 16];
        for x in x.chunks_exact(16) {
            for (part, &x) in parts.iter_mut().zip(x) {
                *part += f64::from(x) * f64::from(x);
            }
        }
        let mut sum = 0.0;
        for part in parts {
            sum += part;
        }
        for &x in x.chunks_exact(16).remainder() {
            sum += f64::from(x) * f64::from(x);
        }
        sum
    }
}

/// `sum grad^2`, in f64: finite for every finite gradient.
pub fn norm_squared(grad: &[f32]) -> f64 {
    norm_squared_at(simd::level(), grad)
}

/// [`norm_squared`] with the instruction set of choice.
pub fn norm_squared_at(level: Level, grad: &[f32]) -> f64 {
    let parts: Vec<f64> = grad
        .par_chunks(SQUARES_PER_TASK)
        .map(|run| squares(level, run))
        .collect();
    parts.iter().sum()
}

/// Makes a step: changes `weights`, the moments `m` and `v` (zeros before the first step) and every
/// average, given as its decay and its numbers.
///
/// # Panics
/// If the lengths differ, or `adam.step` is 0.
pub fn step(
    adam: &Adam,
    weights: &mut [f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    averages: &mut [(f64, &mut [f32])],
) {
    step_at(simd::level(), adam, weights, grad, m, v, averages);
}

/// [`step`] with the instruction set of choice.
pub fn step_at(
    level: Level,
    adam: &Adam,
    weights: &mut [f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    averages: &mut [(f64, &mut [f32])],
) {
    assert_eq!(grad.len(), weights.len(), "adam: gradient");
    assert_eq!(m.len(), weights.len(), "adam: first moment");
    assert_eq!(v.len(), weights.len(), "adam: second moment");
    for (_, average) in averages.iter() {
        assert_eq!(average.len(), weights.len(), "adam: average");
    }
    let factors = adam.factors();
    chunks(weights, grad, m, v, averages)
        .into_par_iter()
        .with_min_len(CHUNKS_PER_TASK)
        .for_each(|chunk| {
            let weights = chunk.weights;
            step_chunk(level, &factors, weights, chunk.grad, chunk.m, chunk.v);
            for (decay, average) in chunk.averages {
                average_chunk(level, decay as f32, (1.0 - decay) as f32, weights, average);
            }
        });
}

/// The same range of every row.
struct Chunk<'a> {
    weights: &'a mut [f32],
    grad: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    averages: Vec<(f64, &'a mut [f32])>,
}

fn chunks<'a>(
    weights: &'a mut [f32],
    grad: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    averages: &'a mut [(f64, &mut [f32])],
) -> Vec<Chunk<'a>> {
    let mut averages: Vec<_> = averages
        .iter_mut()
        .map(|(decay, average)| (*decay, average.chunks_mut(CHUNK)))
        .collect();
    let rows = weights.chunks_mut(CHUNK).zip(grad.chunks(CHUNK));
    let moments = m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK));
    rows.zip(moments)
        .map(|((weights, grad), (m, v))| Chunk {
            weights,
            grad,
            m,
            v,
            averages: averages
                .iter_mut()
                .map(|(decay, chunks)| (*decay, chunks.next().expect("the length was checked")))
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests;

//! The kernel distance between two sets of features: the squared maximum mean discrepancy with
//! `k(x, y) = (x . y / D + 1)^3`.
//!
//! Its estimator is unbiased: with as few samples as there may be, its mean is that of infinitely many. It is
//! averaged over subsets, those of torch-fidelity by default, number for number; or taken once over all.
//!
//! Source: Binkowski et al. 2018 (arXiv:1801.01401).

use super::features::Features;
use super::products::{inner_products, squares};
use super::subsets::RandomState;
use crate::error::EvalError;
use serde::{Deserialize, Serialize};

/// Which subsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KidOptions {
    /// How many subsets.
    pub subsets: usize,
    /// Images of a subset.
    pub subset_images: usize,
    /// Names their draws.
    pub seed: u32,
}

impl Default for KidOptions {
    /// Those of torch-fidelity: 100 subsets of 1000, seed 2020.
    fn default() -> Self {
        Self {
            subsets: 100,
            subset_images: 1000,
            seed: 2020,
        }
    }
}

/// A mean over subsets, and the deviation between them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Kid {
    /// The distance; a little below 0 where the sets are as good as equal.
    pub mean: f64,
    /// Between subsets, not of the mean.
    pub std: f64,
}

/// The distance, averaged over subsets.
///
/// # Errors
/// Features of different lengths, or fewer images than a subset has.
pub fn kid(
    samples: &Features,
    reference: &Features,
    options: &KidOptions,
) -> Result<Kid, EvalError> {
    samples.same_dim(reference)?;
    let size = options.subset_images;
    let fewest = samples.len().min(reference.len());
    if size < 2 || options.subsets == 0 || fewest < size {
        return Err(EvalError::TooFew {
            what: "a subset of the kernel distance",
            found: fewest as u64,
            expected: size.max(2) as u64,
        });
    }
    let mut random = RandomState::new(options.seed);
    let distances: Vec<f64> = (0..options.subsets)
        .map(|_| {
            // In this order torch-fidelity draws them.
            let ours = samples.select(&random.choice(samples.len(), size));
            let theirs = reference.select(&random.choice(reference.len(), size));
            distance(&ours, &theirs)
        })
        .collect();
    let count = distances.len() as f64;
    let mean = distances.iter().sum::<f64>() / count;
    let var = distances.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    Ok(Kid {
        mean,
        std: var.sqrt(),
    })
}

/// The distance over all pairs.
///
/// # Errors
/// Features of different lengths, or fewer than two images.
pub fn kid_of_all(samples: &Features, reference: &Features) -> Result<f64, EvalError> {
    samples.same_dim(reference)?;
    let fewest = samples.len().min(reference.len());
    if fewest < 2 {
        return Err(EvalError::TooFew {
            what: "the kernel distance",
            found: fewest as u64,
            expected: 2,
        });
    }
    Ok(distance(samples, reference))
}

/// The unbiased estimate.
fn distance(samples: &Features, reference: &Features) -> f64 {
    let dim = samples.dim();
    let (x, y) = (samples.to_f64(), reference.to_f64());
    let [m, n] = [samples.len() as f64, reference.len() as f64];
    let own = |x: &[f64]| sum_of_kernels(x, x, dim) - own_kernels(x, dim);
    own(&x) / (m * (m - 1.0)) + own(&y) / (n * (n - 1.0))
        - 2.0 * sum_of_kernels(&x, &y, dim) / (m * n)
}

/// Rows whose products are formed at once: bounds memory.
const ROWS: usize = 1024;

/// `sum_ij k(x_i, y_j)`.
fn sum_of_kernels(x: &[f64], y: &[f64], dim: usize) -> f64 {
    let kernel = |product: &f64| (product / dim as f64 + 1.0).powi(3);
    let piece = |x: &[f64]| -> f64 { inner_products(x, y, dim).iter().map(kernel).sum() };
    x.chunks(ROWS * dim).map(piece).sum()
}

/// `sum_i k(x_i, x_i)`.
fn own_kernels(x: &[f64], dim: usize) -> f64 {
    let kernel = |square: f64| (square / dim as f64 + 1.0).powi(3);
    squares(x, dim).into_iter().map(kernel).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(count: usize, shift: f32) -> Features {
        let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 1009.0 + shift;
        Features::new(6, (0..count * 6).map(value).collect()).unwrap()
    }

    /// The U-statistic written out.
    #[test]
    fn the_estimate_is_the_sum_over_pairs() {
        let (x, y) = (features(21, 0.0), features(17, 0.4));
        let kernel = |x: &[f32], y: &[f32]| {
            let product: f64 = x
                .iter()
                .zip(y)
                .map(|(x, y)| f64::from(*x) * f64::from(*y))
                .sum();
            (product / 6.0 + 1.0).powi(3)
        };
        let mean = |x: &Features, y: &Features, skip: bool| {
            let (mut sum, mut pairs) = (0.0, 0.0);
            for i in 0..x.len() {
                for j in (0..y.len()).filter(|j| !skip || *j != i) {
                    sum += kernel(x.row(i), y.row(j));
                    pairs += 1.0;
                }
            }
            sum / pairs
        };
        let expected = mean(&x, &x, true) + mean(&y, &y, true) - 2.0 * mean(&x, &y, false);
        let found = kid_of_all(&x, &y).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn subsets_larger_than_the_set_are_refused() {
        let error = kid(
            &features(30, 0.0),
            &features(40, 0.0),
            &KidOptions::default(),
        )
        .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("30") && text.contains("1000"), "{text}");
    }
}

//! The Frechet distance that infinitely many samples would have.
//!
//! A distance of N samples is too large by about `c / N`, with a `c` that depends on the model: at the same N
//! the better of two models may look worse. The distances of subsets of several sizes are fitted
//! by a line in `1 / N`, whose value at 0 is the answer.
//!
//! Source: Chong and Forsyth 2020 (arXiv:1911.07023).

use super::features::Features;
use super::frechet::FrechetReference;
use super::statistics::Statistics;
use super::subsets::RandomState;
use crate::error::EvalError;
use serde::{Deserialize, Serialize};

/// Sizes of subsets.
const SIZES: usize = 15;

/// The fewest images in which a line can be seen: half of them are the smallest subset.
const FEWEST: u64 = 1000;

/// The line's ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FidInfinity {
    /// At infinitely many samples.
    pub value: f64,
    /// Standard error of the line's value there.
    pub std_error: f64,
    /// `c` of `c / N`.
    pub slope: f64,
}

/// The distance extrapolated from subsets of half of the samples to all of them.
///
/// # Errors
/// Features of different lengths, or too few samples.
pub fn fid_infinity(
    samples: &Features,
    reference: &Statistics,
    seed: u32,
) -> Result<FidInfinity, EvalError> {
    let count = samples.len();
    if (count as u64) < FEWEST {
        return Err(EvalError::TooFew {
            what: "the distance at infinitely many samples",
            found: count as u64,
            expected: FEWEST,
        });
    }
    let reference = FrechetReference::new(reference)?;
    let mut random = RandomState::new(seed);
    let points = (0..SIZES).map(|i| {
        let size = count / 2 + (count - count / 2) * i / (SIZES - 1);
        let subset = samples.select(&random.choice(count, size));
        let distance = reference.distance(&Statistics::of(&subset)?)?;
        Ok((1.0 / size as f64, distance))
    });
    Ok(line(&points.collect::<Result<Vec<_>, EvalError>>()?))
}

/// Least squares.
fn line(points: &[(f64, f64)]) -> FidInfinity {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
    let value = y - slope * x;
    let residuals: f64 = points
        .iter()
        .map(|p| (p.1 - value - slope * p.0).powi(2))
        .sum();
    let var = residuals / (count - 2.0) * (1.0 / count + x * x / spread);
    FidInfinity {
        value,
        std_error: var.sqrt(),
        slope,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found() {
        let found = line(&[1.0, 2.0, 4.0, 7.0].map(|x| (x, 3.0 + 0.5 * x)));
        assert!((found.value - 3.0).abs() < 1e-12 && (found.slope - 0.5).abs() < 1e-12);
        assert!(found.std_error < 1e-12, "{found:?}");
    }

    /// Samples of the reference itself: 0 at infinitely many, though every subset is above it.
    #[test]
    fn the_bias_of_few_samples_is_taken_off() {
        let dim = 24;
        let mut random = RandomState::new(1);
        // A sum of twelve uniform numbers is nearly a Gaussian.
        let mut number = |_| (0..12).map(|_| random.uniform()).sum::<f64>() as f32 - 6.0;
        let values: Vec<f32> = (0..4000 * dim).map(&mut number).collect();
        let samples = Features::new(dim, values).unwrap();
        let mut sigma = vec![0.0; dim * dim];
        (0..dim).for_each(|i| sigma[i * (dim + 1)] = 1.0);
        let mu = vec![0.0; dim];
        let truth = Statistics {
            count: None,
            mu,
            sigma,
        };
        let few = FrechetReference::new(&truth).unwrap();
        let few = few.distance(&Statistics::of(&samples).unwrap()).unwrap();
        let found = fid_infinity(&samples, &truth, 0).unwrap();
        assert!(
            few > 0.01 && found.value.abs() < 0.3 * few,
            "{few} {found:?}"
        );
    }
}

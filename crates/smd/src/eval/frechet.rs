//! The Frechet distance between two Gaussians with the moments of two sets of features.
//!
//! ```text
//! FD = ||mu_1 - mu_2||^2 + tr(S_1) + tr(S_2) - 2 tr (S_1 S_2)^(1/2)
//! ```
//! The eigenvalues of `S_1 S_2` are those of the symmetric `S_1^(1/2) S_2 S_1^(1/2)`, so the trace of the root is
//! a sum of square roots of numbers that are not negative: it cannot be complex, and it needs no
//! diagonal added where a covariance is singular, as those of fewer samples than features are.
//!
//! Source: Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500).

use super::features::same_dim;
use super::statistics::Statistics;
use crate::error::EvalError;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par, Side};

/// The distance, in squared feature units.
///
/// # Errors
/// Features of different lengths, or numbers without eigenvalues.
pub fn frechet_distance(samples: &Statistics, reference: &Statistics) -> Result<f64, EvalError> {
    same_dim(samples.dim(), reference.dim())?;
    FrechetReference::new(reference)?.distance(samples)
}

/// What distances are measured from; it is taken apart once for any number of them.
pub struct FrechetReference<'a> {
    statistics: &'a Statistics,
    /// `F` with `F F^T` the covariance.
    factor: Mat<f64>,
}

impl<'a> FrechetReference<'a> {
    /// # Errors
    /// Numbers without eigenvalues.
    pub fn new(statistics: &'a Statistics) -> Result<Self, EvalError> {
        let dim = statistics.dim();
        let eigen = matrix(&statistics.sigma, dim)
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| EvalError::Eigenvalues { dim })?;
        let (vectors, values) = (eigen.U(), eigen.S().column_vector());
        let root = |j: usize| values[j].max(0.0).sqrt();
        Ok(Self {
            statistics,
            factor: Mat::from_fn(dim, dim, |i, j| vectors[(i, j)] * root(j)),
        })
    }

    /// The distance of samples, in squared feature units.
    ///
    /// # Errors
    /// Features of another length, or numbers without eigenvalues.
    pub fn distance(&self, samples: &Statistics) -> Result<f64, EvalError> {
        let (reference, dim) = (self.statistics, samples.dim());
        same_dim(dim, reference.dim())?;
        let means = samples.mu.iter().zip(&reference.mu);
        let means: f64 = means.map(|(a, b)| (a - b).powi(2)).sum();
        let trace = |sigma: &[f64]| (0..dim).map(|i| sigma[i * (dim + 1)]).sum::<f64>();
        let traces = trace(&samples.sigma) + trace(&reference.sigma);
        Ok(means + traces - 2.0 * self.trace_of_root(&samples.sigma)?)
    }

    /// `tr (S R)^(1/2)`: `F^T S F` has the eigenvalues of `S R` with `R = F F^T`.
    fn trace_of_root(&self, sigma: &[f64]) -> Result<f64, EvalError> {
        let dim = self.factor.nrows();
        let inner = product(matrix(sigma, dim), self.factor.as_ref());
        let inner = product(self.factor.transpose(), inner.as_ref());
        let values = inner
            .self_adjoint_eigenvalues(Side::Lower)
            .map_err(|_| EvalError::Eigenvalues { dim })?;
        Ok(values.into_iter().map(|value| value.max(0.0).sqrt()).sum())
    }
}

fn matrix(values: &[f64], dim: usize) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(values, dim, dim)
}

fn product(left: MatRef<f64>, right: MatRef<f64>) -> Mat<f64> {
    let mut out = Mat::zeros(left.nrows(), right.ncols());
    matmul(out.as_mut(), Accum::Replace, left, right, 1.0, Par::Seq);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covariances that commute: the roots are known.
    #[test]
    fn diagonal_covariances_have_a_closed_form() {
        let statistics = |mu: [f64; 3], var: [f64; 3]| Statistics {
            count: None,
            mu: mu.to_vec(),
            sigma: vec![var[0], 0.0, 0.0, 0.0, var[1], 0.0, 0.0, 0.0, var[2]],
        };
        let a = statistics([0.0, 1.0, 2.0], [1.0, 4.0, 0.0]);
        let b = statistics([1.0, 1.0, 0.0], [9.0, 0.25, 2.0]);
        let expected = 5.0 + (1.0_f64 - 3.0).powi(2) + (2.0_f64 - 0.5).powi(2) + 2.0;
        let found = frechet_distance(&a, &b).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        assert!(frechet_distance(&a, &a).unwrap().abs() < 1e-12);
    }

    /// `Q D Q^T` with itself scaled by 4: `tr (4 S S)^(1/2) = 2 tr S`, also where `S` has rank 2 of 6.
    #[test]
    fn a_singular_covariance_needs_no_help() {
        let dim = 6;
        let row = |i: usize, j: usize| (((i + 1) * (j + 3) * 31) % 17) as f64 - 8.0;
        let mut sigma = vec![0.0; dim * dim];
        for i in 0..dim {
            for j in 0..dim {
                sigma[i * dim + j] = (0..2).map(|k| row(k, i) * row(k, j)).sum();
            }
        }
        let trace: f64 = (0..dim).map(|i| sigma[i * (dim + 1)]).sum();
        let scaled: Vec<f64> = sigma.iter().map(|x| 4.0 * x).collect();
        let [one, four] = [sigma, scaled].map(|sigma| Statistics {
            count: None,
            mu: vec![0.0; dim],
            sigma,
        });
        let found = FrechetReference::new(&one)
            .unwrap()
            .trace_of_root(&four.sigma)
            .unwrap();
        assert!(
            (found - 2.0 * trace).abs() < 1e-6 * trace,
            "{found} {trace}"
        );
    }

    #[test]
    fn features_of_other_lengths_are_refused() {
        let flat = |dim: usize| Statistics {
            count: None,
            mu: vec![0.0; dim],
            sigma: vec![0.0; dim * dim],
        };
        let error = frechet_distance(&flat(2048), &flat(1280)).unwrap_err();
        assert!(error.to_string().contains("2048"), "{error}");
    }
}

//! Mean and covariance of features, in one pass that can be merged.

use super::features::{Features, same_dim};
use crate::error::EvalError;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Sums over rows of features: what a shard hands on.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    dim: usize,
    count: u64,
    /// `[D]`: of the rows.
    sum: Vec<f64>,
    /// `[D, D]`: of their outer products.
    outer: Vec<f64>,
}

/// Mean and covariance, as pytorch-fid has them.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Rows behind them; `None` in a file that does not say so.
    pub count: Option<u64>,
    /// `[D]`.
    pub mu: Vec<f64>,
    /// `[D, D]`, divided by one less than the rows.
    pub sigma: Vec<f64>,
}

/// Columns of the covariance of one piece of work.
const COLUMNS: usize = 64;

impl Moments {
    /// Of no row.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            count: 0,
            sum: vec![0.0; dim],
            outer: vec![0.0; dim * dim],
        }
    }

    /// Of all rows.
    pub fn of(features: &Features) -> Self {
        let mut moments = Self::new(features.dim());
        moments.add(features.values());
        moments
    }

    /// Those of rows that are gone.
    ///
    /// # Errors
    /// Statistics that do not say of how many rows they are.
    pub fn from_statistics(statistics: &Statistics) -> Result<Self, EvalError> {
        let count = statistics.count.ok_or(EvalError::NoCount)?;
        let (dim, mu, n) = (statistics.dim(), &statistics.mu, count as f64);
        let outer =
            |i: usize, j: usize| statistics.sigma[i * dim + j] * (n - 1.0) + n * mu[i] * mu[j];
        Ok(Self {
            dim,
            count,
            sum: mu.iter().map(|mu| mu * n).collect(),
            outer: (0..dim * dim).map(|at| outer(at / dim, at % dim)).collect(),
        })
    }

    /// Adds rows.
    ///
    /// # Panics
    /// If `rows` are no whole rows.
    pub fn add(&mut self, rows: &[f32]) {
        let dim = self.dim;
        assert!(rows.len().is_multiple_of(dim), "whole rows of {dim}");
        for piece in rows.chunks(1024 * dim) {
            let count = piece.len() / dim;
            let piece: Vec<f64> = piece.iter().copied().map(f64::from).collect();
            for row in piece.chunks_exact(dim) {
                self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            let rows = MatRef::from_row_major_slice(&piece, count, dim);
            // A block of rows of the symmetric matrix, up to its diagonal.
            let blocks = self.outer.par_chunks_mut(COLUMNS * dim).enumerate();
            blocks.for_each(|(block, out)| {
                let (first, height) = (block * COLUMNS, out.len() / dim);
                let out = MatMut::from_row_major_slice_mut(out, height, dim);
                matmul(
                    out.get_mut(.., ..first + height),
                    Accum::Add,
                    rows.get(.., first..first + height).transpose(),
                    rows.get(.., ..first + height),
                    1.0,
                    Par::Seq,
                );
            });
            self.count += count as u64;
        }
    }

    /// Adds the rows of another shard.
    ///
    /// # Errors
    /// Rows of another length.
    pub fn merge(&mut self, other: &Self) -> Result<(), EvalError> {
        same_dim(self.dim, other.dim)?;
        let add = |to: &mut [f64], from: &[f64]| {
            to.iter_mut().zip(from).for_each(|(sum, more)| *sum += more);
        };
        add(&mut self.sum, &other.sum);
        add(&mut self.outer, &other.outer);
        self.count += other.count;
        Ok(())
    }

    /// Rows.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean and covariance.
    ///
    /// # Errors
    /// Fewer than two rows.
    pub fn statistics(&self) -> Result<Statistics, EvalError> {
        if self.count < 2 {
            return Err(EvalError::TooFew {
                what: "a covariance",
                found: self.count,
                expected: 2,
            });
        }
        let (dim, count) = (self.dim, self.count as f64);
        let mu: Vec<f64> = self.sum.iter().map(|sum| sum / count).collect();
        let mut sigma = vec![0.0; dim * dim];
        for i in 0..dim {
            for j in 0..=i {
                let square = self.outer[i * dim + j] - self.sum[i] * mu[j];
                let value = square / (count - 1.0);
                sigma[i * dim + j] = value;
                sigma[j * dim + i] = value;
            }
        }
        Ok(Statistics {
            count: Some(self.count),
            mu,
            sigma,
        })
    }
}

impl Statistics {
    /// Of all rows.
    ///
    /// # Errors
    /// Fewer than two rows.
    pub fn of(features: &Features) -> Result<Self, EvalError> {
        Moments::of(features).statistics()
    }

    /// Numbers of a row.
    pub fn dim(&self) -> usize {
        self.mu.len()
    }

    /// Checks numbers that come from a file.
    ///
    /// # Errors
    /// A number that is not finite, or sizes that disagree.
    pub fn validate(&self) -> Result<(), EvalError> {
        let dim = self.dim();
        if self.sigma.len() != dim * dim {
            return Err(EvalError::Covariance {
                mu: dim,
                sigma: self.sigma.len(),
            });
        }
        for (what, values) in [("mu", &self.mu), ("sigma", &self.sigma)] {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, found) = (if what == "mu" { at } else { at / dim }, values[at]);
                return Err(EvalError::NotFinite { what, row, found });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(count: usize, dim: usize) -> Features {
        let value = |i: usize| ((i * 7919) % 1013) as f32 / 1013.0 - 0.3;
        Features::new(dim, (0..count * dim).map(value).collect()).unwrap()
    }

    /// The definition, in two passes.
    fn plain(features: &Features) -> (Vec<f64>, Vec<f64>) {
        let (dim, count) = (features.dim(), features.len() as f64);
        let values = features.to_f64();
        let column = |j: usize| values.iter().skip(j).step_by(dim);
        let mu: Vec<f64> = (0..dim).map(|j| column(j).sum::<f64>() / count).collect();
        let cov = |i: usize, j: usize| {
            let products = column(i).zip(column(j));
            products
                .map(|(x, y)| (x - mu[i]) * (y - mu[j]))
                .sum::<f64>()
                / (count - 1.0)
        };
        let sigma = (0..dim * dim).map(|at| cov(at / dim, at % dim)).collect();
        (mu, sigma)
    }

    #[test]
    fn one_pass_agrees_with_two() {
        let features = features(1100, 131);
        let found = Statistics::of(&features).unwrap();
        let (mu, sigma) = plain(&features);
        for (a, b) in found
            .mu
            .iter()
            .zip(&mu)
            .chain(found.sigma.iter().zip(&sigma))
        {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        found.validate().unwrap();
    }

    #[test]
    fn shards_merge_to_the_whole() {
        let features = features(60, 5);
        let mut merged = Moments::new(5);
        for shard in features.values().chunks(17 * 5) {
            let mut part = Moments::new(5);
            part.add(shard);
            merged.merge(&part).unwrap();
        }
        let (merged, whole) = (
            merged.statistics().unwrap(),
            Statistics::of(&features).unwrap(),
        );
        assert_eq!(merged.count, Some(60));
        for (a, b) in merged.sigma.iter().zip(&whole.sigma) {
            assert!((a - b).abs() < 1e-14, "{a} {b}");
        }
        let error = Moments::new(5).merge(&Moments::new(4)).unwrap_err();
        assert!(error.to_string().contains("5 numbers"), "{error}");
    }

    #[test]
    fn what_a_file_may_hold_is_checked() {
        let mut bad = Statistics::of(&features(9, 3)).unwrap();
        bad.sigma[4] = f64::NAN;
        assert!(bad.validate().unwrap_err().to_string().contains("sigma"));
        bad.sigma.pop();
        assert!(bad.validate().unwrap_err().to_string().contains('8'));
        assert!(Statistics::of(&features(1, 3)).is_err());
    }
}

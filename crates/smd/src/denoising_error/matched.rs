//! The Gaussian that has the mean and the covariance of another law.

use std::f64::consts::TAU;

/// `N(m, C)`, by the Cholesky factor of `C`: set anew for every `x_t`, in the same memory.
///
/// `C` is a few numbers wide and this runs once a draw: a general library's call would cost more than the
/// factor itself.
#[derive(Debug, Clone)]
pub(super) struct Matched {
    mean: Vec<f64>,
    /// `L` of `C = L L^T`, `[D, D]`.
    lower: Vec<f64>,
    log_det: f64,
    /// Scratch, `[D]`.
    white: Vec<f64>,
}

impl Matched {
    /// A law of `dim` dimensions, to be set.
    pub(super) fn new(dim: usize) -> Self {
        Self {
            mean: vec![0.0; dim],
            lower: vec![0.0; dim * dim],
            log_det: 0.0,
            white: vec![0.0; dim],
        }
    }

    /// Takes over mean `[D]` and covariance `[D, D]`.
    ///
    /// # Panics
    /// If the covariance is not positive definite.
    pub(super) fn set(&mut self, mean: &[f64], covariance: &[f64]) {
        let dim = mean.len();
        self.mean.copy_from_slice(mean);
        self.log_det = 0.0;
        for i in 0..dim {
            for j in 0..=i {
                let (row_i, row_j) = (i * dim, j * dim);
                let dot: f64 = (0..j)
                    .map(|k| self.lower[row_i + k] * self.lower[row_j + k])
                    .sum();
                let rest = covariance[row_i + j] - dot;
                if i == j {
                    assert!(rest > 0.0, "a covariance with the pivot {rest}");
                    self.lower[row_i + i] = rest.sqrt();
                    self.log_det += rest.ln();
                } else {
                    self.lower[row_i + j] = rest / self.lower[row_j + j];
                }
            }
        }
    }

    /// `log det C`.
    pub(super) fn log_det(&self) -> f64 {
        self.log_det
    }

    /// `log N(x; m, C)` in nats.
    pub(super) fn log_density(&mut self, x: &[f64]) -> f64 {
        let dim = x.len();
        let mut square = 0.0;
        for i in 0..dim {
            let row = &self.lower[i * dim..(i + 1) * dim];
            let known: f64 = row.iter().zip(&self.white[..i]).map(|(l, w)| l * w).sum();
            self.white[i] = (x[i] - self.mean[i] - known) / row[i];
            square += self.white[i] * self.white[i];
        }
        -0.5 * (square + self.log_det + dim as f64 * TAU.ln())
    }

    /// `m + L eps`: a draw, from standard normal numbers.
    pub(super) fn draw(&self, eps: &[f64], out: &mut [f64]) {
        let rows = self.lower.chunks_exact(eps.len());
        for (((i, out), row), mean) in out.iter_mut().enumerate().zip(rows).zip(&self.mean) {
            *out = mean + row[..=i].iter().zip(eps).map(|(l, e)| l * e).sum::<f64>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_density_is_that_of_the_formula() {
        let mut matched = Matched::new(2);
        // The inverse of [[2, 1], [1, 3]] is [[3, -1], [-1, 2]] / 5.
        matched.set(&[1.0, -1.0], &[2.0, 1.0, 1.0, 3.0]);
        let (a, b) = (0.5, 2.0);
        let square = (3.0 * a * a - 2.0 * a * b + 2.0 * b * b) / 5.0;
        let expected = -0.5 * (square + 5.0_f64.ln()) - TAU.ln();
        let found = matched.log_density(&[1.5, 1.0]);
        assert!((found - expected).abs() < 1e-14, "{found}, not {expected}");
        assert!((matched.log_det() - 5.0_f64.ln()).abs() < 1e-14);
    }

    #[test]
    #[should_panic(expected = "pivot")]
    fn a_singular_covariance_panics() {
        Matched::new(2).set(&[0.0; 2], &[1.0, 1.0, 1.0, 1.0]);
    }
}

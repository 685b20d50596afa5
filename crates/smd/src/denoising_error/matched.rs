//! The Gaussian that has the mean and the covariance of another law.

use crate::gmm::GaussianMixture;
use std::f64::consts::TAU;

/// A pivot below this share of its variance is largely rounding.
const SMALLEST_PIVOT: f64 = 1e-6;

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

    /// Takes over mean `[D]` and covariance `[D, D]` of a law.
    ///
    /// A covariance holds squares: a direction that is 1e-8 times as narrow as another is lost in it. `law`,
    /// the same law as a mixture, is asked for then, and the factor is taken from its parts.
    pub(super) fn set(
        &mut self,
        mean: &[f64],
        covariance: &[f64],
        law: impl FnOnce() -> GaussianMixture,
    ) {
        self.mean.copy_from_slice(mean);
        if !self.factor(covariance) {
            self.rotate(&law());
        }
    }

    /// `L` and `log det C` by Cholesky's method; false where rounding reaches them.
    fn factor(&mut self, covariance: &[f64]) -> bool {
        let dim = self.mean.len();
        self.log_det = 0.0;
        for i in 0..dim {
            for j in 0..=i {
                let (row_i, row_j) = (i * dim, j * dim);
                let dot: f64 = (0..j)
                    .map(|k| self.lower[row_i + k] * self.lower[row_j + k])
                    .sum();
                let rest = covariance[row_i + j] - dot;
                if i == j {
                    // NaN goes on: the parts would give no number either.
                    if rest < SMALLEST_PIVOT * covariance[row_i + i] || rest == 0.0 {
                        return false;
                    }
                    self.lower[row_i + i] = rest.sqrt();
                    self.log_det += rest.ln();
                } else {
                    self.lower[row_i + j] = rest / self.lower[row_j + j];
                }
            }
        }
        true
    }

    /// `L` and `log det C` from the parts that `C` is a sum of, each a row times itself, without their
    /// squares: by rotations (Golub and Van Loan, "Matrix Computations", section 6.5.4).
    fn rotate(&mut self, law: &GaussianMixture) {
        let dim = self.mean.len();
        self.lower.fill(0.0);
        let mut row = vec![0.0; dim];
        for component in law.components() {
            for (i, var) in component.variances.iter().enumerate() {
                let std = (component.weight * var).sqrt();
                match component.axes {
                    // So far `L` is diagonal.
                    None => {
                        let diagonal = &mut self.lower[i * dim + i];
                        *diagonal = diagonal.hypot(std);
                    }
                    Some(axes) => {
                        let axis = &axes[i * dim..(i + 1) * dim];
                        for (row, u) in row.iter_mut().zip(axis) {
                            *row = std * u;
                        }
                        self.add(&mut row);
                    }
                }
            }
        }
        for component in law.components() {
            let both = component.mean.iter().zip(&self.mean);
            for (row, (mu, mean)) in row.iter_mut().zip(both) {
                *row = component.weight.sqrt() * (mu - mean);
            }
            self.add(&mut row);
        }
        self.log_det = (0..dim).map(|i| 2.0 * self.lower[i * dim + i].ln()).sum();
    }

    /// Adds `row^T row` to `C`. No entry on the diagonal of `L` becomes smaller. The row is used up.
    fn add(&mut self, row: &mut [f64]) {
        let dim = row.len();
        for j in 0..dim {
            let (l, x) = (self.lower[j * dim + j], row[j]);
            let length = l.hypot(x);
            if length == 0.0 {
                continue;
            }
            let (cos, sin) = (l / length, x / length);
            self.lower[j * dim + j] = length;
            for (i, x) in row.iter_mut().enumerate().skip(j + 1) {
                let l = &mut self.lower[i * dim + j];
                (*l, *x) = (cos * *l + sin * *x, cos * *x - sin * *l);
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
    use crate::gmm::MixtureConfig;

    fn mixture(means: [[f64; 2]; 2], covariance: [[f64; 2]; 2]) -> GaussianMixture {
        GaussianMixture::from_config(&MixtureConfig {
            weights: Some(vec![1.0, 3.0]),
            means: means.map(Vec::from).into(),
            covariances: Some(vec![covariance.map(Vec::from).into(); 2]),
            ..MixtureConfig::default()
        })
        .unwrap()
    }

    #[test]
    fn the_density_is_that_of_the_formula() {
        let mut matched = Matched::new(2);
        // The inverse of [[2, 1], [1, 3]] is [[3, -1], [-1, 2]] / 5.
        matched.set(&[1.0, -1.0], &[2.0, 1.0, 1.0, 3.0], || unreachable!());
        let (a, b) = (0.5, 2.0);
        let square = (3.0 * a * a - 2.0 * a * b + 2.0 * b * b) / 5.0;
        let expected = -0.5 * (square + 5.0_f64.ln()) - TAU.ln();
        let found = matched.log_density(&[1.5, 1.0]);
        assert!((found - expected).abs() < 1e-14, "{found}, not {expected}");
        assert!((matched.log_det() - 5.0_f64.ln()).abs() < 1e-14);
    }

    #[test]
    fn the_factor_of_the_parts_is_that_of_the_covariance() {
        let law = mixture([[0.3, -1.0], [1.2, 0.7]], [[0.3, -0.2], [-0.2, 0.5]]);
        let (mean, covariance) = (law.mean(), law.covariance());
        let mut whole = Matched::new(2);
        whole.set(&mean, &covariance, || unreachable!());
        let mut parts = whole.clone();
        parts.rotate(&law);
        assert!((whole.log_det() - parts.log_det()).abs() < 1e-14);
        for (a, b) in whole.lower.iter().zip(&parts.lower) {
            assert!((a - b).abs() < 1e-14, "{a} and {b}");
        }
    }

    /// On a line through (1, 1), 1e-9 wide across: `log det C` is that of the same law along an axis.
    #[test]
    fn a_narrow_direction_keeps_its_digits() {
        let narrow = 1e-18;
        let law = mixture([[-0.4, -0.4], [0.4, 0.4]], [[narrow, 0.0], [0.0, narrow]]);
        let mut matched = Matched::new(2);
        matched.set(&law.mean(), &law.covariance(), || law.clone());
        // Between the means, weights 1/4 and 3/4 of a distance 0.8 sqrt(2).
        let along = 0.25 * 0.75 * 2.0 * 0.64 + narrow;
        let expected = along.ln() + narrow.ln();
        let off = matched.log_det() - expected;
        assert!(off.abs() < 1e-6, "{off}");
    }

    #[test]
    fn a_point_has_no_density_and_does_not_panic() {
        let law = mixture([[0.0; 2]; 2], [[1.0, 0.0], [0.0, 1.0]]);
        let mut matched = Matched::new(2);
        for covariance in [[0.0; 4], [f64::NAN; 4]] {
            matched.set(&[0.0; 2], &covariance, || law.clone());
            matched.log_density(&[1.0, 2.0]);
        }
    }
}

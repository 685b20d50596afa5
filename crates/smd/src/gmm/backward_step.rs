//! One backward step for many `x_t`: what does not depend on `x_t` is computed once.
//!
//! [`GaussianMixture::backward`](super::GaussianMixture::backward) gives the same law as a mixture of its
//! own; this one is set and read a hundred million times by the exact errors.

use super::{GaussianMixture, axes, log_sum_exp};
use rand::{Rng, RngExt};
use std::f64::consts::TAU;

/// `q(x_{t-1} | x_t)` of a mixture and a step, for every `x_t` (Eq. 6-7).
#[derive(Debug, Clone)]
pub struct BackwardStep {
    /// `q(x_t)`.
    now: GaussianMixture,
    /// Means, variances and axes of `q(x_{t-1})`; the variances are replaced by those of the step.
    step: GaussianMixture,
    /// `log w_k - 1/2 log det(2 pi P)` of `q(x_t)`, `[K]`.
    log_scales_t: Vec<f64>,
    /// `-1/2 log det(2 pi Sigma'_k)`, `[K]`.
    log_scales: Vec<f64>,
    /// `sqrt(alpha_t) P_k / (beta_t + alpha_t P_k)` along the axes, `[K, D]`.
    gains: Vec<f64>,
    /// `Sigma'_k`, `[K, D, D]`; for coordinate axes its diagonal, `[K, D]`.
    covariances: Vec<f64>,
}

/// `q(x_{t-1} | x_t)` of a [`BackwardStep`] at one `x_t`.
#[derive(Debug, Clone)]
pub struct BackwardLaw<'a> {
    step: &'a BackwardStep,
    /// `log w'_k`, `[K]`.
    log_weights: Vec<f64>,
    /// `w'_k`, `[K]`.
    weights: Vec<f64>,
    /// `mu'_k`, `[K, D]`.
    means: Vec<f64>,
    mean: Vec<f64>,
    covariance: Vec<f64>,
    /// Scratch, `[K]` and `[D]`.
    terms: Vec<f64>,
    offset: Vec<f64>,
}

impl BackwardStep {
    /// The step from `t` to `t - 1` for data of `mixture`.
    ///
    /// # Panics
    /// If not `0 <= alpha_bar_t < alpha_bar_prev <= 1`.
    pub fn new(mixture: &GaussianMixture, alpha_bar_t: f64, alpha_bar_prev: f64) -> Self {
        let (now, before) = (
            mixture.marginal(alpha_bar_t),
            mixture.marginal(alpha_bar_prev),
        );
        let origin = vec![0.0; mixture.dim];
        let after = mixture.backward(&origin, alpha_bar_t, alpha_bar_prev);
        let alpha = alpha_bar_t / alpha_bar_prev;
        let variances = before.variances.iter().zip(&now.variances);
        let gains = variances
            .map(|(prev, now)| alpha.sqrt() * prev / now)
            .collect();
        let log_det = |component: super::Component<'_>| -> f64 {
            component.variances.iter().map(|var| (TAU * var).ln()).sum()
        };
        let log_scales_t = now.components().map(|c| c.weight.ln() - 0.5 * log_det(c));
        Self {
            log_scales_t: log_scales_t.collect(),
            log_scales: after.components().map(|c| -0.5 * log_det(c)).collect(),
            gains,
            covariances: covariances(&after),
            step: GaussianMixture {
                variances: after.variances,
                ..before
            },
            now,
        }
    }

    /// `q(x_t)`.
    pub fn marginal(&self) -> &GaussianMixture {
        &self.now
    }

    /// A law to be set; it keeps its memory from one `x_t` to the next.
    pub fn law(&self) -> BackwardLaw<'_> {
        let (k, dim) = (self.log_scales.len(), self.now.dim);
        BackwardLaw {
            step: self,
            log_weights: vec![0.0; k],
            weights: vec![0.0; k],
            means: vec![0.0; k * dim],
            mean: vec![0.0; dim],
            covariance: vec![0.0; dim * dim],
            terms: vec![0.0; k],
            offset: vec![0.0; dim],
        }
    }
}

/// `Sigma_k` of a mixture, `[K, D, D]`; for coordinate axes the diagonals, `[K, D]`.
fn covariances(mixture: &GaussianMixture) -> Vec<f64> {
    let dim = mixture.dim;
    if mixture.axes.is_none() {
        return mixture.variances.clone();
    }
    let mut all = vec![0.0; mixture.weights.len() * dim * dim];
    for (matrix, component) in all.chunks_exact_mut(dim * dim).zip(mixture.components()) {
        for (j, row) in matrix.chunks_exact_mut(dim).enumerate() {
            let mut unit = vec![0.0; dim];
            unit[j] = 1.0;
            let variances = component.variances.iter().copied();
            axes::add_scaled(component.axes, variances, &unit, row);
        }
    }
    all
}

impl BackwardLaw<'_> {
    /// Makes this the law at `x_t`.
    ///
    /// # Shapes
    /// - `x_t`: `[D]`
    pub fn set(&mut self, x_t: &[f64]) {
        let BackwardStep { now, step, .. } = self.step;
        let dim = now.dim;
        for (k, component) in now.components().enumerate() {
            let square = component.square_distance(x_t);
            self.log_weights[k] = self.step.log_scales_t[k] - 0.5 * square;
            for ((offset, x), mu) in self.offset.iter_mut().zip(x_t).zip(component.mean) {
                *offset = x - mu;
            }
            let row = k * dim..(k + 1) * dim;
            let mean = &mut self.means[row.clone()];
            mean.copy_from_slice(&step.means[row.clone()]);
            let gains = self.step.gains[row].iter().copied();
            axes::add_scaled(component.axes, gains, &self.offset, mean);
        }
        let log_density = log_sum_exp(&self.log_weights);
        for (log_weight, weight) in self.log_weights.iter_mut().zip(&mut self.weights) {
            *log_weight -= log_density;
            *weight = log_weight.exp();
        }
        self.set_moments();
    }

    fn set_moments(&mut self) {
        let dim = self.mean.len();
        self.mean.fill(0.0);
        self.covariance.fill(0.0);
        let rows = self.means.chunks_exact(dim);
        for (weight, mu) in self.weights.iter().zip(rows.clone()) {
            for (mean, mu) in self.mean.iter_mut().zip(mu) {
                *mean += weight * mu;
            }
        }
        let stride = self.step.covariances.len() / self.weights.len();
        let within = self.step.covariances.chunks_exact(stride);
        for ((&weight, mu), within) in self.weights.iter().zip(rows).zip(within) {
            if weight == 0.0 {
                continue;
            }
            for i in 0..dim {
                let row = &mut self.covariance[i * dim..(i + 1) * dim];
                let from_mean = weight * (mu[i] - self.mean[i]);
                for ((sum, mu), mean) in row.iter_mut().zip(mu).zip(&self.mean) {
                    *sum += from_mean * (mu - mean);
                }
                if stride == dim {
                    row[i] += weight * within[i];
                } else {
                    let within = &within[i * dim..(i + 1) * dim];
                    for (sum, within) in row.iter_mut().zip(within) {
                        *sum += weight * within;
                    }
                }
            }
        }
    }

    /// `E x_{t-1}`, `[D]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// `Cov x_{t-1}`, `[D, D]`.
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }

    /// `log q(x_{t-1} | x_t)` in nats.
    pub fn log_density(&mut self, x_prev: &[f64]) -> f64 {
        let dim = x_prev.len();
        let components = self
            .step
            .step
            .components()
            .zip(self.means.chunks_exact(dim));
        for (k, (component, mean)) in components.enumerate() {
            let square = super::Component { mean, ..component }.square_distance(x_prev);
            self.terms[k] = self.log_weights[k] + self.step.log_scales[k] - 0.5 * square;
        }
        log_sum_exp(&self.terms)
    }

    /// Two draws of `x_{t-1}` on opposite sides of one component's mean, from the noise `eps`.
    ///
    /// # Shapes
    /// - `eps`, `pair`: `[D]` each
    pub fn draw_pair(&mut self, rng: &mut impl Rng, eps: &[f64], pair: [&mut [f64]; 2]) {
        let dim = eps.len();
        let k = self.draw_component(rng);
        let row = k * dim..(k + 1) * dim;
        self.offset.fill(0.0);
        let stds = self.step.step.variances[row.clone()]
            .iter()
            .map(|var| var.sqrt());
        axes::add_scaled(self.step.step.axes_of(k), stds, eps, &mut self.offset);
        for (x, sign) in pair.into_iter().zip([1.0, -1.0]) {
            let both = self.means[row.clone()].iter().zip(&self.offset);
            for (x, (mean, offset)) in x.iter_mut().zip(both) {
                *x = mean + sign * offset;
            }
        }
    }

    fn draw_component(&self, rng: &mut impl Rng) -> usize {
        let mut rest: f64 = rng.random();
        let mut chosen = 0;
        for (k, &weight) in self.weights.iter().enumerate() {
            // A weight of 0 is never chosen; the last positive one takes what rounding leaves over.
            if weight > 0.0 {
                chosen = k;
                rest -= weight;
                if rest < 0.0 {
                    break;
                }
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gmm::MixtureConfig;
    use crate::noise::{self, Use};

    fn tilted() -> GaussianMixture {
        let config = MixtureConfig {
            weights: Some(vec![1.0, 2.0]),
            means: vec![vec![-1.0, 0.3], vec![0.8, 0.1]],
            covariances: Some(vec![
                vec![vec![0.3, 0.1], vec![0.1, 0.2]],
                vec![vec![0.05, -0.02], vec![-0.02, 0.4]],
            ]),
            ..MixtureConfig::default()
        };
        GaussianMixture::from_config(&config).unwrap()
    }

    #[test]
    fn it_is_the_mixture_that_backward_gives() {
        for mixture in [tilted(), GaussianMixture::grid_7x7()] {
            for (now, before) in [(0.3, 0.8), (0.9, 1.0)] {
                let step = BackwardStep::new(&mixture, now, before);
                let mut law = step.law();
                for x_t in [[0.2, -0.4], [-1.0, 0.5]] {
                    law.set(&x_t);
                    let expected = mixture.backward(&x_t, now, before);
                    for x_prev in [[0.1, 0.2], [-0.6, 0.9]] {
                        let found = law.log_density(&x_prev);
                        let off = found - expected.log_density(&x_prev);
                        assert!(off.abs() < 1e-11 * found.abs().max(1.0), "{found}: {off}");
                    }
                    let (mean, variance) = (expected.mean(), expected.variance());
                    for axis in 0..2 {
                        assert!((law.mean()[axis] - mean[axis]).abs() < 1e-13);
                        let found = law.covariance()[3 * axis];
                        assert!((found - variance[axis]).abs() < 1e-13);
                    }
                }
            }
        }
    }

    #[test]
    fn draws_have_its_covariance() {
        const PAIRS: usize = 40_000;
        let (mixture, mut rng) = (tilted(), noise::rng(1, 2, 3, Use::Example));
        let step = BackwardStep::new(&mixture, 0.5, 0.9);
        let mut law = step.law();
        law.set(&[0.1, 0.2]);
        let (mut sum, mut a, mut b) = ([0.0; 3], [0.0; 2], [0.0; 2]);
        for _ in 0..PAIRS {
            let eps: [f64; 2] = std::array::from_fn(|_| {
                rand_distr::Distribution::sample(&rand_distr::StandardNormal, &mut rng)
            });
            law.draw_pair(&mut rng, &eps, [&mut a, &mut b]);
            for x in [a, b] {
                let d = [x[0] - law.mean()[0], x[1] - law.mean()[1]];
                for (sum, term) in sum.iter_mut().zip([d[0] * d[0], d[0] * d[1], d[1] * d[1]]) {
                    *sum += term / (2 * PAIRS) as f64;
                }
            }
        }
        let cov = law.covariance();
        // A product of two coordinates has at most the variance 3 C_ii C_jj where tails are Gaussian or
        // lighter, and a pair counts as one draw.
        let bound = 5.0 * (3.0 * cov[0].max(cov[3]).powi(2) / PAIRS as f64).sqrt();
        for (found, expected) in sum.iter().zip([cov[0], cov[1], cov[3]]) {
            assert!((found - expected).abs() < bound, "{found}, not {expected}");
        }
        assert_eq!(cov[1], cov[2]);
    }
}

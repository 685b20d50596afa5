//! The exact backward step of a Gaussian mixture, in closed form.
//!
//! Source: Y. Li, B. van Breugel, M. van der Schaar, "Soft Mixture Denoising", ICLR 2024
//! (arXiv:2309.14068), Prop. 3.1 and its proof, Eq. 6-7; written for diagonal covariances.
//!
//! - `q(x_t)`: [`GaussianMixture::marginal`]
//! - `q(x_0 | x_t)`: [`GaussianMixture::posterior_x_0`], `tr Cov`: [`GaussianMixture::trace_cov_x_0`]
//! - `q(x_{t-1} | x_t)`, Eq. 6-7: [`GaussianMixture::backward`]

use super::{GaussianMixture, axes};

impl GaussianMixture {
    /// `q(x_t)` when `x_0` follows this mixture.
    ///
    /// ```text
    /// w_k,   sqrt(alpha_bar) mu_k,   P_k = (1 - alpha_bar) + alpha_bar Sigma_k
    /// ```
    ///
    /// # Panics
    /// If `alpha_bar` is outside `[0, 1]`.
    pub fn marginal(&self, alpha_bar: f64) -> Self {
        assert!(
            (0.0..=1.0).contains(&alpha_bar),
            "alpha_bar is {alpha_bar}, not in [0, 1]"
        );
        let signal = alpha_bar.sqrt();
        let marginal_var = |var| (1.0 - alpha_bar) + alpha_bar * var;
        Self {
            dim: self.dim,
            weights: self.weights.clone(),
            means: self.means.iter().map(|mu| signal * mu).collect(),
            variances: self.variances.iter().map(marginal_var).collect(),
            axes: self.axes.clone(),
        }
    }

    /// `q(x_0 | x_t)` for `x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps`.
    ///
    /// ```text
    /// w'_k   = w_k N(x_t; sqrt(alpha_bar) mu_k, P_k) / q(x_t),   P_k = (1 - alpha_bar) + alpha_bar Sigma_k
    /// mu'_k  = mu_k + sqrt(alpha_bar) Sigma_k P_k^-1 (x_t - sqrt(alpha_bar) mu_k)
    /// Sigma'_k = (1 - alpha_bar) Sigma_k P_k^-1
    /// ```
    /// All three matrices have the axes of `Sigma_k`.
    /// Weights are taken from logarithms, so they are right far away from the data.
    ///
    /// # Shapes
    /// - `x_t`: `[D]`
    ///
    /// # Panics
    /// If `x_t` does not have `D` numbers or `alpha_bar` is outside `[0, 1)`: at 1 the posterior is
    /// a point and has no density.
    pub fn posterior_x_0(&self, x_t: &[f64], alpha_bar: f64) -> Self {
        assert!(
            (0.0..1.0).contains(&alpha_bar),
            "alpha_bar is {alpha_bar}, not in [0, 1)"
        );
        let marginal = self.marginal(alpha_bar);
        let (signal, noise_var) = (alpha_bar.sqrt(), 1.0 - alpha_bar);

        let both = self.variances.iter().zip(&marginal.variances);
        let gains: Vec<f64> = both.clone().map(|(var, p)| signal * var / p).collect();
        let variances = both.map(|(var, p)| noise_var * var / p);
        let mut means = self.means.clone();
        let rows = means
            .chunks_exact_mut(self.dim)
            .zip(marginal.means.chunks_exact(self.dim))
            .zip(gains.chunks_exact(self.dim));
        for (k, ((mean, mean_t), gains)) in rows.enumerate() {
            let offset: Vec<f64> = x_t.iter().zip(mean_t).map(|(x, mu)| x - mu).collect();
            axes::add_scaled(self.axes_of(k), gains.iter().copied(), &offset, mean);
        }
        Self {
            dim: self.dim,
            weights: marginal.responsibilities(x_t),
            variances: variances.collect(),
            means,
            axes: self.axes.clone(),
        }
    }

    /// `tr Cov(x_0 | x_t)`; its mean over `q(x_t)` is the smallest squared error of any denoiser.
    ///
    /// # Panics
    /// As [`Self::posterior_x_0`].
    pub fn trace_cov_x_0(&self, x_t: &[f64], alpha_bar: f64) -> f64 {
        self.posterior_x_0(x_t, alpha_bar).trace_cov()
    }

    /// `q(x_{t-1} | x_t)` of the consecutive steps `t - 1` and `t` (Eq. 6-7).
    ///
    /// ```text
    /// w'_k     = w_k N(x_t; sqrt(alpha_bar_t) mu_k, beta_t + alpha_t P_k) / q(x_t)
    /// mu'_k    = (beta_t + alpha_t P_k)^-1 (beta_t sqrt(alpha_bar_prev) mu_k + sqrt(alpha_t) P_k x_t)
    /// Sigma'_k = beta_t P_k (beta_t + alpha_t P_k)^-1
    ///
    /// P_k = (1 - alpha_bar_prev) + alpha_bar_prev Sigma_k
    /// alpha_t = alpha_bar_t / alpha_bar_prev,   beta_t = 1 - alpha_t
    /// ```
    /// It is the posterior of a mixture seen through one step of noise, the mixture being
    /// `q(x_{t-1})`. At `t = 1`, `alpha_bar_prev` is 1 and this is `q(x_0 | x_1)`.
    ///
    /// # Shapes
    /// - `x_t`: `[D]`
    ///
    /// # Panics
    /// If `x_t` does not have `D` numbers or not `0 <= alpha_bar_t < alpha_bar_prev <= 1`.
    pub fn backward(&self, x_t: &[f64], alpha_bar_t: f64, alpha_bar_prev: f64) -> Self {
        assert!(
            alpha_bar_t < alpha_bar_prev,
            "alpha_bar_t is {alpha_bar_t}, not below alpha_bar_prev, {alpha_bar_prev}"
        );
        self.marginal(alpha_bar_prev)
            .posterior_x_0(x_t, alpha_bar_t / alpha_bar_prev)
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_PI_2, TAU};

    use proptest::prelude::*;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;
    use crate::noise::{Use, rng};

    /// Two bumps on a line, the left one with weight 0.3.
    fn two_bumps() -> GaussianMixture {
        GaussianMixture {
            dim: 1,
            weights: vec![0.3, 0.7],
            means: vec![-1.4, 0.6],
            variances: vec![0.04, 0.09],
            axes: None,
        }
    }

    /// Three lopsided Gaussians in the plane.
    fn lopsided() -> GaussianMixture {
        GaussianMixture {
            dim: 2,
            weights: vec![0.2, 0.5, 0.3],
            means: vec![-1.0, 0.5, 1.5, -0.25, 0.1, 0.2],
            variances: vec![0.04, 0.5, 0.3, 0.1, 1.7, 0.9],
            axes: None,
        }
    }

    /// The same mixture with every mean and component turned by `angle`.
    fn turned(mixture: &GaussianMixture, angle: f64) -> GaussianMixture {
        let (sin, cos) = angle.sin_cos();
        let turn = |x: &[f64]| [cos * x[0] - sin * x[1], sin * x[0] + cos * x[1]];
        GaussianMixture {
            means: mixture.means.chunks_exact(2).flat_map(turn).collect(),
            axes: Some([cos, sin, -sin, cos].repeat(mixture.weights.len()).into()),
            ..mixture.clone()
        }
    }

    /// Full covariances: turning the data turns everything that is computed from it.
    #[test]
    fn a_turned_mixture_has_the_turned_posterior() {
        let (plain, angle) = (lopsided(), 0.7_f64);
        let mixture = turned(&plain, angle);
        let (sin, cos) = angle.sin_cos();
        let turn = |x: &[f64]| [cos * x[0] - sin * x[1], sin * x[0] + cos * x[1]];
        for x_t in [[0.4, -1.3], [2.0, 0.1]] {
            let step = |mixture: &GaussianMixture, x_t: &[f64]| mixture.backward(x_t, 0.3, 0.8);
            let (expected, found) = (step(&plain, &x_t), step(&mixture, &turn(&x_t)));
            for x in [[0.0, 0.0], [0.7, -0.2]] {
                let off = found.log_density(&turn(&x)) - expected.log_density(&x);
                assert!(off.abs() < 1e-12, "{off}");
            }
            let mean = turn(&expected.mean());
            assert!((mean[0] - found.mean()[0]).abs() < 1e-12);
            assert!((expected.trace_cov() - found.trace_cov()).abs() < 1e-12);
        }
        let moved: Vec<f64> = mixture.sample(&mut rng(3, 0, 0, Use::Example));
        assert!(mixture.log_density(&moved).is_finite());
    }

    fn normal_density(x: f64, mean: f64, var: f64) -> f64 {
        (-0.5 * (x - mean).powi(2) / var).exp() / (TAU * var).sqrt()
    }

    /// A mesh over `[-8, 8]`. The trapezoid rule on it is exact to rounding for bumps whose std is
    /// at least twice the step.
    fn mesh(step: f64) -> impl Iterator<Item = f64> + Clone {
        let half = (8.0 / step).round() as i32;
        (-half..=half).map(move |i| f64::from(i) * step)
    }

    #[test]
    fn the_posterior_on_a_line_is_that_of_numeric_bayes() {
        let (mixture, step) = (two_bumps(), 0.02);
        for (x_t, alpha_bar) in [(0.0, 0.5_f64), (-0.7, 0.9), (2.5, 0.02), (0.3, 0.0)] {
            let joint = |x_0: f64| {
                let likelihood = normal_density(x_t, alpha_bar.sqrt() * x_0, 1.0 - alpha_bar);
                mixture.log_density(&[x_0]).exp() * likelihood
            };
            let evidence: f64 = mesh(step).map(joint).sum::<f64>() * step;
            let posterior = mixture.posterior_x_0(&[x_t], alpha_bar);
            let error = |x_0| (posterior.log_density(&[x_0]).exp() - joint(x_0) / evidence).abs();
            let l_1 = mesh(step).map(error).sum::<f64>() * step;
            assert!(
                l_1 < 1e-10,
                "x_t = {x_t}, alpha_bar = {alpha_bar}: L1 error {l_1}"
            );
        }
    }

    #[test]
    fn the_posterior_in_the_plane_is_that_of_numeric_bayes() {
        let (mixture, x_t, alpha_bar, step) = (lopsided(), [0.4, -0.3], 0.6_f64, 0.05);
        let joint = |x_0: [f64; 2]| {
            let noisy = |axis: usize| {
                normal_density(x_t[axis], alpha_bar.sqrt() * x_0[axis], 1.0 - alpha_bar)
            };
            mixture.log_density(&x_0).exp() * noisy(0) * noisy(1)
        };
        let points = mesh(step).flat_map(|x| mesh(step).map(move |y| [x, y]));
        let evidence: f64 = points.clone().map(joint).sum::<f64>() * step * step;
        let posterior = mixture.posterior_x_0(&x_t, alpha_bar);
        let error =
            |x_0: [f64; 2]| (posterior.log_density(&x_0).exp() - joint(x_0) / evidence).abs();
        let l_1 = points.map(error).sum::<f64>() * step * step;
        assert!(l_1 < 1e-10, "L1 error {l_1}");
    }

    /// `q(x_{t-1} | x_t)` is the mean over `q(x_0 | x_t)` of `q(x_{t-1} | x_t, x_0)`, Eq. 5.
    #[test]
    fn the_backward_step_is_the_mean_of_the_gaussian_posterior_over_x_0() {
        let (mixture, step) = (two_bumps(), 0.02);
        for (x_t, now, before) in [(0.1, 0.5, 0.7), (-1.0, 0.05, 0.6), (3.0, 0.001, 0.2)] {
            let (alpha, beta) = (now / before, 1.0 - now / before);
            let c_0 = f64::sqrt(before) * beta / (1.0 - now);
            let c_t = f64::sqrt(alpha) * (1.0 - before) / (1.0 - now);
            let var = beta * (1.0 - before) / (1.0 - now);
            let posterior = mixture.posterior_x_0(&[x_t], now);
            let backward = mixture.backward(&[x_t], now, before);
            for x_prev in [-2.0, -0.8, 0.0, 0.45, 1.3] {
                let term = |x_0: f64| {
                    let given_x_0 = normal_density(x_prev, c_0 * x_0 + c_t * x_t, var);
                    posterior.log_density(&[x_0]).exp() * given_x_0
                };
                let expected = mesh(step).map(term).sum::<f64>() * step;
                let found = backward.log_density(&[x_prev]).exp();
                assert!(
                    (found - expected).abs() < 1e-10,
                    "{found} against {expected}"
                );
            }
        }
    }

    /// The paper's own form: `Lambda_k = alpha_t / beta_t P_k`,
    /// `mu'_k = (I + Lambda_k)^-1 (sqrt(alpha_bar_prev) mu_k + Lambda_k x_t / sqrt(alpha_t))`,
    /// `Sigma'_k = beta_t / alpha_t (I + Lambda_k)^-1 Lambda_k`.
    #[test]
    fn the_backward_step_has_the_form_of_equation_7() {
        let (mixture, x_t, now, before) = (lopsided(), [0.4, -1.3], 0.3, 0.8_f64);
        let (alpha, beta) = (now / before, 1.0 - now / before);
        let backward = mixture.backward(&x_t, now, before);
        for (data, found) in mixture.components().zip(backward.components()) {
            for (axis, x_t) in x_t.into_iter().enumerate() {
                let lambda = alpha / beta * (1.0 - before + before * data.variances[axis]);
                let mean = (before.sqrt() * data.mean[axis] + lambda * x_t / alpha.sqrt())
                    / (1.0 + lambda);
                let var = beta / alpha * lambda / (1.0 + lambda);
                assert!((found.mean[axis] - mean).abs() < 1e-12, "{found:?}");
                assert!((found.variances[axis] - var).abs() < 1e-12, "{found:?}");
            }
        }
    }

    #[test]
    fn the_first_step_is_the_posterior_and_no_signal_leaves_the_data() {
        let mixture = lopsided();
        let x_t = [0.2, 0.9];
        assert_eq!(
            mixture.backward(&x_t, 0.4, 1.0),
            mixture.posterior_x_0(&x_t, 0.4)
        );
        let blind = mixture.posterior_x_0(&x_t, 0.0);
        assert!((blind.trace_cov() - mixture.trace_cov()).abs() < 1e-12);
    }

    #[test]
    fn posterior_variances_and_the_variance_of_posterior_means_add_up() {
        let (mixture, step) = (two_bumps(), 0.02);
        for alpha_bar in [0.05, 0.5, 0.95] {
            let marginal = mixture.marginal(alpha_bar);
            let (mut within, mut between) = (0.0, 0.0);
            for x_t in mesh(step) {
                let mass = marginal.log_density(&[x_t]).exp() * step;
                let posterior = mixture.posterior_x_0(&[x_t], alpha_bar);
                within += mass * mixture.trace_cov_x_0(&[x_t], alpha_bar);
                between += mass * (posterior.mean()[0] - mixture.mean()[0]).powi(2);
            }
            let total = mixture.trace_cov();
            assert!(
                (within + between - total).abs() < 1e-10,
                "{within} + {between}, {total}"
            );
        }
    }

    proptest! {
        #[test]
        fn posterior_weights_sum_to_one(
            x in -1e3..1e3_f64,
            y in -1e3..1e3_f64,
            alpha_bar in 0.0..0.999_f64,
        ) {
            let posterior = lopsided().posterior_x_0(&[x, y], alpha_bar);
            prop_assert!((posterior.weights.iter().sum::<f64>() - 1.0).abs() < 1e-10);
            prop_assert!(posterior.variances.iter().all(|&var| var > 0.0));
        }
    }

    /// The cosine schedule of Nichol and Dhariwal (arXiv:2102.09672, Eq. 17).
    fn cosine_alpha_bar(t: usize, steps: usize) -> f64 {
        let f = |u: f64| ((u + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
        f(t as f64 / steps as f64) / f(0.0)
    }

    /// Prop. 3.1: the exact backward step is a mixture, so even one step loses nothing.
    #[test]
    fn the_exact_backward_chain_returns_the_data_at_any_number_of_steps() {
        const DRAWS: usize = 20_000;
        let mixture = two_bumps();
        let share_se = (0.3_f64 * 0.7 / DRAWS as f64).sqrt();
        // x^2 has the mean E x^2 and the variance E x^4 - (E x^2)^2.
        let moment = |of: fn(f64, f64) -> f64| -> f64 {
            mixture
                .components()
                .map(|c| c.weight * of(c.mean[0], c.variances[0]))
                .sum()
        };
        let second = moment(|mu, var| mu * mu + var);
        let fourth = moment(|mu, var| mu.powi(4) + 6.0 * mu * mu * var + 3.0 * var * var);
        let second_se = ((fourth - second * second) / DRAWS as f64).sqrt();

        for steps in [1, 4, 32] {
            let mut rng = rng(7, 0, steps as u64, Use::Sampler);
            let (mut left, mut square) = (0.0, 0.0);
            for _ in 0..DRAWS {
                let mut x_t: Vec<f64> = vec![StandardNormal.sample(&mut rng)];
                for t in (1..=steps).rev() {
                    let (now, before) =
                        (cosine_alpha_bar(t, steps), cosine_alpha_bar(t - 1, steps));
                    x_t = mixture.backward(&x_t, now, before).sample(&mut rng);
                }
                // Between the bumps: 4.4 std from the left one (6e-6 beyond), 3.7 from the right one (9e-5).
                left += f64::from(u8::from(x_t[0] < -0.52));
                square += x_t[0] * x_t[0];
            }
            let (left, square) = (left / DRAWS as f64, square / DRAWS as f64);
            assert!(
                (left - 0.3).abs() < 5.0 * share_se,
                "T = {steps}: left share {left}"
            );
            assert!(
                (square - second).abs() < 5.0 * second_se,
                "T = {steps}: E x^2 {square}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "alpha_bar is 1, not in [0, 1)")]
    fn a_posterior_without_noise_panics() {
        two_bumps().posterior_x_0(&[0.0], 1.0);
    }

    #[test]
    #[should_panic(expected = "alpha_bar_t is 0.5, not below alpha_bar_prev, 0.5")]
    fn a_step_without_noise_panics() {
        two_bumps().backward(&[0.0], 0.5, 0.5);
    }
}

//! `M_t` of one coordinate that is two equal Gaussians, `N(-u, s^2)` and `N(u, s^2)`: by integrals, no draws.
//!
//! Only two signal-to-noise ratios matter, of `x_t` and of `x_{t-1}`, bump against bump:
//!
//! ```text
//! a^2 = alpha_bar_t u^2 / P_t,   b^2 = alpha_bar_{t-1} u^2 / P_{t-1},   P_t = 1 - alpha_bar_t + alpha_bar_t s^2
//! ```
//! With `x_t = sqrt(P_t) (a + z)` the weight of the upper bump has the logit `l = 2 a^2 + 2 a z`, and the step is,
//! up to a shift and a factor, `q = w N(d, 1) + (1 - w) N(-d, 1)` with `d^2 = b^2 - a^2`. By symmetry `x_t` is
//! only drawn from the upper bump. Both integrals are trapezoid rules: their integrands are analytic up to
//! `Im l = pi`, so the error falls exponentially with the width of a cell.

use std::f64::consts::{PI, TAU};

/// `M_t` of a coordinate, in nats.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Losses {
    /// Of the best Gaussian with one variance for every `x_t`.
    pub(super) one_variance: f64,
    /// Of the best Gaussian with a variance for each `x_t`.
    pub(super) full: f64,
}

/// Standard deviations behind which a Gaussian is nothing: it has 1e-18 there.
const TAIL: f64 = 9.0;

/// The losses, by cells `fineness` times as fine as they need to be.
pub(super) fn losses(a_squared: f64, d_squared: f64, fineness: f64) -> Losses {
    let (a, d) = (a_squared.sqrt(), d_squared.sqrt());
    let (mut full, mut var, mut log_var) = (0.0, 0.0, 0.0);
    let cell = cell(a) / fineness;
    let cells = (TAIL / cell).ceil() as i32;
    for z in (-cells..=cells).map(|i| cell * f64::from(i)) {
        let mass = cell * normal(z);
        let step = Step::new(2.0 * a * (a + z), d);
        full += mass * step.loss(fineness);
        // Less the bumps' own variance of 1, beside which it may be small.
        var += mass * step.between;
        log_var += mass * step.between.ln_1p();
    }
    Losses {
        // E log v <= log E v; rounding may say otherwise where both are almost 0.
        one_variance: full + 0.5 * (var.ln_1p() - log_var).max(0.0),
        full,
    }
}

/// A cell that resolves bumps of width 1 with a logit of slope `2 slope` across them.
fn cell(slope: f64) -> f64 {
    // An error of exp(-pi / 0.08), 1e-17; poles of the sixth order take some of that.
    (0.08 * PI / slope).min(0.25)
}

fn normal(x: f64) -> f64 {
    (-0.5 * x * x).exp() / TAU.sqrt()
}

/// `q(x_{t-1} | x_t)` in units of its bumps, around the middle between them.
struct Step {
    d: f64,
    /// `w` and `1 - w`, each with its digits.
    weights: [f64; 2],
    mean: f64,
    /// The variance is 1 and this, `4 w (1 - w) d^2`.
    between: f64,
}

impl Step {
    fn new(logit: f64, d: f64) -> Self {
        let weights = [logit, -logit].map(|logit| 1.0 / (1.0 + (-logit).exp()));
        let [upper, lower] = weights;
        Self {
            d,
            weights,
            mean: (upper - lower) * d,
            between: 4.0 * upper * lower * d * d,
        }
    }

    /// `KL(q || N(mean, 1 + between))`.
    fn loss(&self, fineness: f64) -> f64 {
        let Self { d, mean, .. } = *self;
        let [upper, lower] = self.weights;
        let var = 1.0 + self.between;
        // Of bumps far apart the loss is large, and a plain mean of log q / N has its digits.
        let near = d < 1.0;
        let reach = if near {
            TAIL * var.sqrt() + d
        } else {
            TAIL + d
        };
        let cell = cell(d) / fineness;
        let cells = (reach / cell).ceil() as i32;
        let term = |x: f64| {
            let q = upper * normal(x - d) + lower * normal(x + d);
            if q == 0.0 {
                return 0.0;
            }
            let log_gauss = -0.5 * ((x - mean).powi(2) / var + (TAU * var).ln());
            let ratio = q.ln() - log_gauss;
            q * if near { excess(ratio) } else { ratio }
        };
        let places = (-cells..=cells).map(|i| cell * f64::from(i));
        cell * places.map(term).sum::<f64>()
    }
}

/// `e^-r - 1 + r`: its mean over q is that of `r = log q / N`, because that of N / q is 1. It is never
/// negative and keeps its digits where the two laws are almost the same.
fn excess(r: f64) -> f64 {
    if r.abs() < 1e-3 {
        r * r * (0.5 - r / 6.0 + r * r / 24.0)
    } else {
        (-r).exp_m1() + r
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoising_error::{Family, step_floors};
    use crate::gmm::{GaussianMixture, MixtureConfig};
    use crate::schedule::{NoiseSchedule, ScheduleConfig};

    /// What draws say, at steps that lose much and little.
    #[test]
    fn they_are_those_of_draws() {
        for (steps, t, u) in [(4, 1, 0.5), (4, 2, 1.3), (16, 9, 1.7), (64, 5, 0.2)] {
            let config = ScheduleConfig {
                steps,
                ..ScheduleConfig::default()
            };
            let schedule = NoiseSchedule::new(&config).unwrap();
            let mixture = GaussianMixture::from_config(&MixtureConfig {
                means: vec![vec![-u], vec![u]],
                stds: Some(vec![0.05 * u; 2]),
                ..MixtureConfig::default()
            })
            .unwrap();
            let drawn = step_floors(&mixture, &schedule, t, 100_000, 1);
            let (now, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
            let noisy = |alpha_bar: f64| 1.0 - alpha_bar + alpha_bar * (0.05 * u).powi(2);
            let [a_squared, b_squared] = [now, before].map(|x| x * u * u / noisy(x));
            let found = losses(a_squared, b_squared - a_squared, 1.0);
            for (found, family) in [
                (found.one_variance, Family::Isotropic),
                (found.full, Family::Full),
            ] {
                let drawn = drawn.floor(family).unwrap();
                assert!(
                    (found - drawn.nats).abs() < 5.0 * drawn.se,
                    "T = {steps}, t = {t}, {family:?}: {found}, drawn {drawn:?}"
                );
            }
        }
    }

    /// From steps that are Gaussian to a part in a million to bumps forty widths apart.
    #[test]
    fn finer_cells_say_the_same() {
        for a_squared in [1e-3, 0.02, 1.0, 9.0, 60.0] {
            for d_squared in [1e-6, 1e-3, 0.3, 0.999, 1.001, 9.0, 400.0] {
                let [coarse, fine] = [1.0, 2.0].map(|by| losses(a_squared, d_squared, by));
                // Rounding: of logarithms of densities, squared for near bumps, and of variances.
                let of_full: f64 = if d_squared < 1.0 { 1e-22 } else { 1e-16 };
                for (coarse, fine, rounding) in [
                    (coarse.full, fine.full, of_full),
                    (coarse.one_variance, fine.one_variance, of_full.max(1e-18)),
                ] {
                    assert!(
                        (coarse - fine).abs() < 1e-8 * fine + rounding,
                        "{a_squared}, {d_squared}: {coarse}, {fine}"
                    );
                }
            }
        }
    }

    /// Bumps far apart, one of two with equal weights: log 2 is known of the bump, and the rest is the width
    /// of the Gaussian.
    #[test]
    fn far_bumps_have_the_closed_form() {
        // At a = 0 weights are equal whatever x_t.
        let d_squared = 400.0_f64;
        let expected = 0.5 * (1.0 + d_squared).ln() - 2.0_f64.ln();
        let found = losses(0.0, d_squared, 1.0);
        assert!((found.full - expected).abs() < 1e-9, "{found:?}");
        assert!((found.one_variance - found.full).abs() < 1e-12);
    }
}

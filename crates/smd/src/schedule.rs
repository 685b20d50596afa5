//! Noise schedules of the forward process, in f64, indexed by the paper's `t` in `1..=T`.
//!
//! Source: Ho et al. 2020 (linear, arXiv:2006.11239), Rombach et al. 2022 (scaled-linear,
//! arXiv:2112.10752), Nichol and Dhariwal 2021 (cosine, arXiv:2102.09672, Eq. 17), Jabri et al. 2022
//! (sigmoid, arXiv:2212.11972), Song et al. 2021 (vp, arXiv:2011.13456). `alpha_bar(0) = 1`.
//!
//! Cosine, sigmoid and vp are curves `alpha_bar(u)`, read at `u = t / T`: a short chain samples the
//! curve at fewer places and no beta is ever scaled. The linear schedules are defined by their betas,
//! `1000 / T` times those of a thousand steps, and exist only while every beta is below 1.

use crate::error::ConfigError;
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// No beta of a curve is larger: at `u = 1` cosine and sigmoid have no signal left.
const LARGEST_BETA: f64 = 0.999;

/// The shape of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Betas in a row from 1e-4 to 0.02 at T = 1000 (Ho et al.).
    Linear,
    /// Square roots of betas in a row from 0.0015 to 0.0195 at T = 1000 (latent diffusion).
    ScaledLinear,
    /// `cos^2((u + 0.008) / 1.008 * pi / 2)`.
    Cosine,
    /// A sigmoid from -3 to 3, as in the authors' code.
    Sigmoid,
    /// `exp(-(0.1 u + 9.95 u^2))`, the variance-preserving SDE.
    Vp,
}

/// `[schedule]` of a config: the forward process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Shape. Default cosine.
    pub kind: ScheduleKind,
    /// Steps of the chain, `T`, at least 1. Default 1000.
    pub steps: usize,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Cosine,
            steps: 1000,
        }
    }
}

/// `beta_t` and `alpha_bar_t` of a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    /// `beta[t]`; `beta[0]` is 0 and never used.
    beta: Vec<f64>,
    /// `alpha_bar[t]`; `alpha_bar[0]` is 1.
    alpha_bar: Vec<f64>,
}

/// `q(x_{t-1} | x_t, x_0) = N(coef_x_0 x_0 + coef_x_t x_t, var I)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Posterior {
    /// `sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t)`, the `c1_t` of the theory notes.
    pub coef_x_0: f64,
    /// `sqrt(alpha_t) (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)`.
    pub coef_x_t: f64,
    /// `tilde beta_t = beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)`; 0 at `t = 1`.
    pub var: f64,
}

impl NoiseSchedule {
    /// The schedule of a config.
    ///
    /// # Errors
    /// `T = 0`, or a linear schedule too short for its betas to stay below 1.
    pub fn new(config: &ScheduleConfig) -> Result<Self, ConfigError> {
        let steps = config.steps;
        if steps == 0 {
            return Err(ConfigError::invalid(
                "schedule.steps",
                "is 0, must be at least 1",
            ));
        }
        let curve = |alpha_bar: &dyn Fn(f64) -> f64| {
            let at = |t: usize| alpha_bar(t as f64 / steps as f64);
            (1..=steps)
                .map(|t| (1.0 - at(t) / at(t - 1)).min(LARGEST_BETA))
                .collect::<Vec<_>>()
        };
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let beta = match config.kind {
            ScheduleKind::Linear => line(steps, 1e-4, 0.02, |beta| beta),
            ScheduleKind::ScaledLinear => {
                line(steps, 0.0015_f64.sqrt(), 0.0195_f64.sqrt(), |root| {
                    root * root
                })
            }
            ScheduleKind::Cosine => curve(&|u| ((u + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2)),
            ScheduleKind::Sigmoid => {
                curve(&|u| (sigmoid(3.0) - sigmoid(6.0 * u - 3.0)) / (sigmoid(3.0) - sigmoid(-3.0)))
            }
            ScheduleKind::Vp => curve(&|u| (-(0.1 * u + 9.95 * u * u)).exp()),
        };
        // 50 * 0.02 is 1 only up to rounding.
        if beta.iter().any(|&beta| beta >= 1.0 - 1e-9) {
            let works = (steps..).find(|&steps| largest_line_beta(config.kind, steps) < 1.0 - 1e-9);
            return Err(ConfigError::invalid(
                "schedule.steps",
                format!(
                    "is {steps}, but the {} schedule would need beta_t >= 1 there; \
                     it works from {} steps on, and `schedule.kind = \"cosine\"` works at any number",
                    kebab(config.kind),
                    works.unwrap_or(1000),
                ),
            ));
        }
        Ok(Self::from_beta(&beta))
    }

    /// A schedule from `beta_1, ..., beta_T`.
    fn from_beta(betas: &[f64]) -> Self {
        let mut alpha_bar = vec![1.0];
        for (t, beta) in betas.iter().enumerate() {
            alpha_bar.push(alpha_bar[t] * (1.0 - beta));
        }
        let beta = std::iter::once(0.0).chain(betas.iter().copied()).collect();
        Self { beta, alpha_bar }
    }

    /// The chain that visits only the steps `kept` (rising, each in `1..=T`): the same `alpha_bar` at
    /// fewer places.
    ///
    /// # Panics
    /// If `kept` is empty, does not rise, or leaves `1..=T`.
    pub fn respaced(&self, kept: &[usize]) -> Self {
        assert!(!kept.is_empty() && kept[0] > 0 && kept.is_sorted_by(|a, b| a < b));
        let alpha_bar: Vec<f64> = std::iter::once(1.0)
            .chain(kept.iter().map(|&t| self.alpha_bar(t)))
            .collect();
        let beta = std::iter::once(0.0)
            .chain(alpha_bar.windows(2).map(|pair| 1.0 - pair[1] / pair[0]))
            .collect();
        Self { beta, alpha_bar }
    }

    /// `T`.
    pub fn steps(&self) -> usize {
        self.beta.len() - 1
    }

    /// `beta_t`, `t` in `1..=T`.
    pub fn beta(&self, t: usize) -> f64 {
        assert!(t >= 1, "beta_t starts at t = 1");
        self.beta[t]
    }

    /// `alpha_bar_t`, `t` in `0..=T`.
    pub fn alpha_bar(&self, t: usize) -> f64 {
        self.alpha_bar[t]
    }

    /// Mean and variance of `q(x_{t-1} | x_t, x_0)`, `t` in `1..=T` (Ho et al., Eq. 6-7).
    pub fn posterior(&self, t: usize) -> Posterior {
        let (beta, now, before) = (self.beta(t), self.alpha_bar(t), self.alpha_bar(t - 1));
        Posterior {
            coef_x_0: before.sqrt() * beta / (1.0 - now),
            coef_x_t: (1.0 - beta).sqrt() * (1.0 - before) / (1.0 - now),
            var: beta * (1.0 - before) / (1.0 - now),
        }
    }

    /// `Gamma_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t))` of Prop. 4.1, in nats per
    /// squared unit of eps, for the variance `step_var` (`sigma_t^2`) of the backward step.
    pub fn gamma(&self, t: usize, step_var: f64) -> f64 {
        let beta = self.beta(t);
        beta * beta / (2.0 * step_var * (1.0 - beta) * (1.0 - self.alpha_bar(t)))
    }
}

/// `T` betas from numbers in a row, scaled by `1000 / T`.
fn line(steps: usize, first: f64, last: f64, beta: impl Fn(f64) -> f64) -> Vec<f64> {
    let scale = 1000.0 / steps as f64;
    let place = |i: usize| {
        if steps == 1 {
            1.0
        } else {
            i as f64 / (steps - 1) as f64
        }
    };
    (0..steps)
        .map(|i| scale * beta(first + (last - first) * place(i)))
        .collect()
}

/// The last beta of a linear schedule of `steps` steps.
fn largest_line_beta(kind: ScheduleKind, steps: usize) -> f64 {
    let last = if kind == ScheduleKind::Linear {
        0.02
    } else {
        0.0195
    };
    last * 1000.0 / steps as f64
}

fn kebab(kind: ScheduleKind) -> &'static str {
    match kind {
        ScheduleKind::Linear => "linear",
        ScheduleKind::ScaledLinear => "scaled-linear",
        ScheduleKind::Cosine => "cosine",
        ScheduleKind::Sigmoid => "sigmoid",
        ScheduleKind::Vp => "vp",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [ScheduleKind; 5] = [
        ScheduleKind::Linear,
        ScheduleKind::ScaledLinear,
        ScheduleKind::Cosine,
        ScheduleKind::Sigmoid,
        ScheduleKind::Vp,
    ];

    prop_compose! {
        pub(crate) fn any_schedule()(kind in 0..KINDS.len(), steps in 21_usize..1500) -> NoiseSchedule {
            NoiseSchedule::new(&ScheduleConfig { kind: KINDS[kind], steps }).unwrap()
        }
    }

    proptest! {
        #[test]
        fn noise_only_grows(schedule in any_schedule()) {
            for t in 1..=schedule.steps() {
                prop_assert!(schedule.beta(t) > 0.0 && schedule.beta(t) < 1.0);
                prop_assert!(schedule.alpha_bar(t) < schedule.alpha_bar(t - 1));
            }
            prop_assert!(schedule.alpha_bar(schedule.steps()) < 0.01);
        }

        /// Averaging `q(x_{t-1} | x_t, x_0)` over `q(x_t | x_0)` must give back `q(x_{t-1} | x_0)`.
        #[test]
        fn posterior_is_consistent_with_the_marginals(schedule in any_schedule(), at in 0.0..1.0_f64) {
            let t = 1 + (at * schedule.steps() as f64) as usize;
            let (now, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
            let posterior = schedule.posterior(t);
            let mean = posterior.coef_x_0 + posterior.coef_x_t * now.sqrt();
            let var = posterior.var + posterior.coef_x_t.powi(2) * (1.0 - now);
            prop_assert!((mean - before.sqrt()).abs() < 1e-10);
            prop_assert!((var - (1.0 - before)).abs() < 1e-10);
        }

        #[test]
        fn respacing_keeps_alpha_bar(schedule in any_schedule(), stride in 1_usize..20) {
            let kept: Vec<usize> = (1..=schedule.steps()).step_by(stride).collect();
            let short = schedule.respaced(&kept);
            for (i, &t) in kept.iter().enumerate() {
                prop_assert!((short.alpha_bar(i + 1) - schedule.alpha_bar(t)).abs() < 1e-15);
                let product: f64 = (1..=i + 1).map(|s| 1.0 - short.beta(s)).product();
                prop_assert!((product / schedule.alpha_bar(t) - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn cosine_at_eight_steps_reads_the_same_curve() {
        let long = NoiseSchedule::new(&ScheduleConfig {
            kind: ScheduleKind::Cosine,
            steps: 1000,
        });
        let short = NoiseSchedule::new(&ScheduleConfig {
            kind: ScheduleKind::Cosine,
            steps: 8,
        });
        let (long, short) = (long.unwrap(), short.unwrap());
        for t in 1..8 {
            assert!((short.alpha_bar(t) - long.alpha_bar(125 * t)).abs() < 1e-12);
        }
    }

    #[test]
    fn linear_at_a_thousand_steps_is_ho_et_al() {
        let schedule = NoiseSchedule::new(&ScheduleConfig {
            kind: ScheduleKind::Linear,
            steps: 1000,
        });
        let schedule = schedule.unwrap();
        assert!(
            (schedule.beta(1) - 1e-4).abs() < 1e-15 && (schedule.beta(1000) - 0.02).abs() < 1e-15
        );
        // Published: alpha_bar_T is about 4e-5.
        assert!((schedule.alpha_bar(1000) - 4.04e-5).abs() < 1e-7);
    }

    #[test]
    fn linear_below_21_steps_says_from_where_it_works() {
        for steps in [1, 8, 20] {
            let config = ScheduleConfig {
                kind: ScheduleKind::Linear,
                steps,
            };
            let message = NoiseSchedule::new(&config).unwrap_err().to_string();
            assert!(message.contains("works from 21 steps on"), "{message}");
            assert!(message.contains("cosine"), "{message}");
        }
        assert!(
            NoiseSchedule::new(&ScheduleConfig {
                kind: ScheduleKind::Linear,
                steps: 21
            })
            .is_ok()
        );
    }

    #[test]
    fn a_chain_of_no_steps_is_an_error() {
        let config = ScheduleConfig {
            kind: ScheduleKind::Cosine,
            steps: 0,
        };
        let message = NoiseSchedule::new(&config).unwrap_err().to_string();
        assert_eq!(message, "schedule.steps is 0, must be at least 1");
    }
}

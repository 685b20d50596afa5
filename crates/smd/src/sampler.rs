//! The backward chain: ancestral (Alg. 2) and DDIM, at any number of steps.
//!
//! Source: Alg. 2 of the paper; Song et al. 2021 (DDIM, arXiv:2010.02502, Eq. 12 and 16); Lin et al.
//! 2024 (trailing steps, arXiv:2305.08891). Both samplers draw `x_0` from the model and then move to
//! the next step in closed form, so they serve every kernel. A chain shorter than the training's
//! visits a part of its steps ([`Spacing`]) with the `alpha_bar` they have.

use crate::denoise::{Denoise, Drawn};
use crate::error::ConfigError;
use crate::noise::{NoiseSource, Use};
use crate::process::StepVar;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// How the chain moves from step to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplerKind {
    /// Algorithm 2: `x_{t-1}` is drawn around the posterior mean with variance `sigma_t^2`.
    Ancestral,
    /// DDIM; `ddim_eta = 0` adds no noise.
    Ddim,
}

/// Which steps of the training's chain a shorter chain visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spacing {
    /// From the first on, evenly: `1 + floor(i T / S)` (DDIM's uniform).
    Uniform,
    /// Dense near the data: `1 + floor((i / (S - 1))^2 0.8 T)` (DDIM's quad).
    Quad,
    /// From `T` down, evenly: starts where the noise is whole.
    Trailing,
}

/// `[sample]` of a config: the backward chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// Steps of the chain; 0 takes all steps of the training. Default 0.
    pub steps: usize,
    /// Default ancestral.
    pub sampler: SamplerKind,
    /// Share of the ancestral noise that DDIM adds. Default 0.
    pub ddim_eta: f64,
    /// Default trailing.
    pub spacing: Spacing,
    /// `sigma_t^2` of the ancestral step. Default fixed-large; kernels that learn a variance or draw `x_0`
    /// take fixed-small and carry the rest themselves.
    pub step_var: StepVar,
    /// Whether `x_0` is held in `[-1, 1]`, as images are; default: for images, not for vectors.
    pub clip: Option<bool>,
    /// Whether the last step draws from a learned variance, or takes its mean as fixed ones do; default:
    /// for vectors, not for images.
    pub last_noise: Option<bool>,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            steps: 0,
            sampler: SamplerKind::Ancestral,
            ddim_eta: 0.0,
            spacing: Spacing::Trailing,
            step_var: StepVar::FixedLarge,
            clip: None,
            last_noise: None,
        }
    }
}

impl SampleConfig {
    /// Checks the chain against a training of `training_steps` steps.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self, training_steps: usize) -> Result<(), ConfigError> {
        if self.steps > training_steps {
            let problem = format!(
                "is {}, but the model was trained with {training_steps} steps and cannot be sampled with more",
                self.steps
            );
            return Err(ConfigError::invalid("sample.steps", problem));
        }
        if !(0.0..=1.0).contains(&self.ddim_eta) {
            let problem = format!("is {}, must be from 0 to 1", self.ddim_eta);
            return Err(ConfigError::invalid("sample.ddim_eta", problem));
        }
        Ok(())
    }

    /// The visited steps of a training of `training_steps` steps, rising.
    pub fn visited(&self, training_steps: usize) -> Vec<usize> {
        let steps = if self.steps == 0 {
            training_steps
        } else {
            self.steps
        };
        visited(training_steps, steps, self.spacing)
    }
}

/// At most `steps` steps out of `1..=training_steps`, rising, without repetition.
fn visited(training_steps: usize, steps: usize, spacing: Spacing) -> Vec<usize> {
    let (all, count) = (training_steps as f64, steps as f64);
    let mut visited: Vec<usize> = (0..steps)
        .map(|i| match spacing {
            Spacing::Uniform => 1 + i * training_steps / steps,
            Spacing::Quad if steps == training_steps => i + 1,
            Spacing::Quad => {
                let place = if steps == 1 {
                    0.0
                } else {
                    i as f64 / (count - 1.0)
                };
                1 + ((place * (0.8 * all).sqrt()).powi(2) as usize).min(training_steps - 1)
            }
            Spacing::Trailing => (all * (i + 1) as f64 / count).round() as usize,
        })
        .collect();
    visited.dedup();
    visited
}

/// Runs the chain back from noise to data.
///
/// Each image's draws are named by its number in `noise` and the step, so an image is the same at any
/// batch size. `on_step` is told how many steps are done.
///
/// # Shapes
/// - `shape`: `[H, W, C]` of one example; returns `[B, H, W, C]`
pub fn sample(
    model: &impl Denoise,
    config: &SampleConfig,
    shape: [usize; 3],
    noise: &NoiseSource,
    mut on_step: impl FnMut(usize),
) -> Tensor<4> {
    let visited = config.visited(model.process().steps());
    let schedule = model.process().schedule().respaced(&visited);
    let images = shape[..2] != [1, 1];
    let clip = config.clip.unwrap_or(images);
    let last_noise = config.last_noise.unwrap_or(!images);
    let mut x_t = noise.normal(0, Use::Start, shape);
    for (done, t) in (1..=visited.len()).rev().enumerate() {
        let step = visited[t - 1];
        let drawn = model.draw(x_t.clone(), &vec![step; noise.len()], noise, step as u64);
        let drawn = Drawn {
            x_0: if clip {
                drawn.x_0.clamp(-1.0, 1.0)
            } else {
                drawn.x_0
            },
            x_0_var: drawn.x_0_var.filter(|_| t > 1 || last_noise),
        };
        let x_0 = drawn.with_noise(noise, step as u64);
        let (now, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
        let normal = || noise.normal(step as u64, Use::Sampler, shape);
        x_t = match config.sampler {
            SamplerKind::Ancestral => {
                let posterior = schedule.posterior(t);
                let mean = x_0 * posterior.coef_x_0 + x_t * posterior.coef_x_t;
                let var = model.step_var(config.step_var).at(&schedule, t);
                with_noise(mean, var, normal)
            }
            SamplerKind::Ddim => {
                let var = config.ddim_eta.powi(2) * schedule.posterior(t).var;
                let eps = (x_t - x_0.clone() * now.sqrt()) / (1.0 - now).sqrt();
                let mean = x_0 * before.sqrt() + eps * (1.0 - before - var).max(0.0).sqrt();
                with_noise(mean, var, normal)
            }
        };
        on_step(done + 1);
    }
    x_t
}

/// A draw of `N(mean, var)`; none is drawn where there is no variance.
fn with_noise(mean: Tensor<4>, var: f64, normal: impl Fn() -> Tensor<4>) -> Tensor<4> {
    if var > 0.0 {
        mean + normal() * var.sqrt()
    } else {
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::Exact;
    use crate::gmm::{GaussianMixture, MixtureConfig};
    use crate::host;
    use crate::schedule::{ScheduleConfig, ScheduleKind};
    use burn::tensor::Device;
    use proptest::prelude::*;

    fn left_share(steps: usize, draws: bool, config: &SampleConfig) -> f64 {
        const DRAWS: usize = 4000;
        let mixture = MixtureConfig {
            weights: Some(vec![0.3, 0.7]),
            means: vec![vec![-1.2], vec![0.5]],
            stds: Some(vec![0.05, 0.05]),
            ..MixtureConfig::default()
        };
        let schedule = ScheduleConfig {
            kind: ScheduleKind::Cosine,
            steps,
        };
        let mixture = GaussianMixture::from_config(&mixture).unwrap();
        let model = Exact::new(mixture, &schedule, draws);
        let noise = NoiseSource::new(4, (0..DRAWS as u64).collect(), &Device::default());
        let x = sample(&model, config, [1, 1, 1], &noise, |_| {});
        let x: Vec<f32> = host::numbers(x);
        // Within five standard deviations of the left bump.
        x.iter().filter(|&&x| (x + 1.2).abs() < 0.25).count() as f64 / DRAWS as f64
    }

    /// Five standard errors of a share of 0.3 among 4,000 draws.
    const FIVE_SE: f64 = 0.036;

    #[test]
    fn an_exact_kernel_returns_the_data_at_any_number_of_steps() {
        let small = SampleConfig {
            step_var: StepVar::FixedSmall,
            ..SampleConfig::default()
        };
        let ddim = SampleConfig {
            sampler: SamplerKind::Ddim,
            ..SampleConfig::default()
        };
        let half = SampleConfig {
            ddim_eta: 0.5,
            ..ddim.clone()
        };
        for config in [&small, &ddim, &half] {
            for steps in [1, 4, 32] {
                let left = left_share(steps, true, config);
                assert!(
                    (left - 0.3).abs() < FIVE_SE,
                    "T = {steps}, {config:?}: {left}"
                );
            }
        }
    }

    #[test]
    fn a_gaussian_step_needs_many_steps_and_fails_at_two() {
        let config = SampleConfig::default();
        let many = left_share(400, false, &config);
        assert!((many - 0.3).abs() < FIVE_SE, "T = 400: {many}");
        let few = left_share(2, false, &config);
        assert!(
            few < 0.3 - 2.0 * FIVE_SE,
            "T = 2 should show the bottleneck, but {few}"
        );
    }

    #[test]
    fn a_short_chain_of_a_long_training_is_exact_for_an_exact_kernel() {
        let base = SampleConfig {
            steps: 6,
            step_var: StepVar::FixedSmall,
            ..SampleConfig::default()
        };
        for spacing in [Spacing::Trailing, Spacing::Uniform] {
            let left = left_share(
                100,
                true,
                &SampleConfig {
                    spacing,
                    ..base.clone()
                },
            );
            // Uniform starts before T, where x_t is not quite noise yet: allow that bias.
            let slack = if spacing == Spacing::Uniform {
                0.02
            } else {
                0.0
            };
            assert!((left - 0.3).abs() < FIVE_SE + slack, "{spacing:?}: {left}");
        }
    }

    proptest! {
        #[test]
        fn visited_steps_rise_within_the_training(
            training in 1_usize..1200,
            share in 0.0..1.0_f64,
            spacing in prop::sample::select(vec![Spacing::Uniform, Spacing::Quad, Spacing::Trailing]),
        ) {
            let steps = 1 + (share * training as f64) as usize;
            let steps = steps.min(training);
            let visited = visited(training, steps, spacing);
            prop_assert!(visited.is_sorted_by(|a, b| a < b));
            prop_assert!(visited[0] >= 1 && visited[visited.len() - 1] <= training);
            prop_assert!(visited.len() <= steps);
            if spacing != Spacing::Quad {
                prop_assert_eq!(visited.len(), steps);
            }
            if spacing == Spacing::Trailing {
                prop_assert_eq!(visited[visited.len() - 1], training);
            }
        }
    }

    #[test]
    fn all_steps_are_all_steps_under_any_spacing() {
        for spacing in [Spacing::Uniform, Spacing::Quad, Spacing::Trailing] {
            assert_eq!(visited(50, 50, spacing), (1..=50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn more_steps_than_the_training_are_refused() {
        let config = SampleConfig {
            steps: 9,
            ..SampleConfig::default()
        };
        let message = config.validate(8).unwrap_err().to_string();
        assert!(
            message.contains("sample.steps is 9") && message.contains("8 steps"),
            "{message}"
        );
    }
}

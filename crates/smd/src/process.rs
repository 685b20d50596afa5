//! The Gaussian forward process and what a network may predict about it.
//!
//! Source: Li, van Breugel, van der Schaar, "Soft Mixture Denoising", ICLR 2024 (arXiv:2309.14068),
//! Eq. 1-5; Ho et al. 2020 (arXiv:2006.11239); `v` from Salimans and Ho 2022 (arXiv:2202.00512).
//!
//! - `q(x_t | x_0)`: [`Process::q_sample`]
//! - the target of a prediction: [`Process::target`], and back to `x_0`: [`Process::x_0_hat`]
//! - `sigma_t^2` of the backward step: [`StepVar`]
//!
//! Time runs over `1..=T`. Images live in `[-1, 1]`. This file knows no network.

use crate::schedule::NoiseSchedule;
use burn::tensor::{Device, Tensor, TensorData, assert_shape};
use serde::{Deserialize, Serialize};

/// What the network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// The noise, `eps`.
    Eps,
    /// The clean image, `x_0`.
    #[serde(rename = "x_0")]
    X0,
    /// `v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0`.
    V,
}

/// `sigma_t^2`, the variance of a Gaussian backward step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepVar {
    /// `tilde beta_t`, the variance of `q(x_{t-1} | x_t, x_0)`.
    FixedSmall,
    /// `beta_t`, the variance of `q(x_t | x_{t-1})`; nothing is added at `t = 1`, as in Algorithm 2.
    FixedLarge,
}

impl StepVar {
    /// `sigma_t^2` at step `t`.
    pub fn at(self, schedule: &NoiseSchedule, t: usize) -> f64 {
        match self {
            Self::FixedSmall => schedule.posterior(t).var,
            Self::FixedLarge if t == 1 => 0.0,
            Self::FixedLarge => schedule.beta(t),
        }
    }
}

/// The forward process of a schedule, on tensors.
#[derive(Debug, Clone)]
pub struct Process {
    schedule: NoiseSchedule,
}

impl Process {
    /// The process of a schedule.
    pub fn new(schedule: NoiseSchedule) -> Self {
        Self { schedule }
    }

    /// Its schedule.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// `T`.
    pub fn steps(&self) -> usize {
        self.schedule.steps()
    }

    /// Draws `x_t` from `q(x_t | x_0)` with the given noise.
    ///
    /// ```text
    /// x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps
    /// ```
    /// Both factors are rounded to f32 once: in f32, `1 - alpha_bar_1` keeps only three digits.
    ///
    /// # Shapes
    /// - `x_0`, `eps`: `[B, H, W, C]`; `t`: `B` steps in `1..=T`
    /// - returns: `[B, H, W, C]`
    ///
    /// # Panics
    /// If the shapes differ or a step is outside `1..=T`.
    pub fn q_sample(&self, x_0: Tensor<4>, t: &[usize], eps: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x_0.dims();
        assert_shape!(eps, [batch, height, width, channels]);
        let (signal, noise) = self.signal_and_noise(t, &x_0);
        signal * x_0 + noise * eps
    }

    /// What a prediction of `kind` should be.
    ///
    /// # Shapes
    /// - `x_0`, `eps`: `[B, H, W, C]`; `t`: `B` steps in `1..=T`; returns `[B, H, W, C]`
    pub fn target(
        &self,
        kind: Prediction,
        x_0: Tensor<4>,
        t: &[usize],
        eps: Tensor<4>,
    ) -> Tensor<4> {
        match kind {
            Prediction::Eps => eps,
            Prediction::X0 => x_0,
            Prediction::V => {
                let (signal, noise) = self.signal_and_noise(t, &x_0);
                signal * eps - noise * x_0
            }
        }
    }

    /// `x_0` from a prediction of `kind` at `x_t`.
    ///
    /// # Shapes
    /// - `x_t`, `output`: `[B, H, W, C]`; `t`: `B` steps in `1..=T`; returns `[B, H, W, C]`
    pub fn x_0_hat(
        &self,
        kind: Prediction,
        x_t: Tensor<4>,
        t: &[usize],
        output: Tensor<4>,
    ) -> Tensor<4> {
        let (signal, noise) = self.signal_and_noise(t, &x_t);
        match kind {
            Prediction::Eps => (x_t - noise * output) / signal,
            Prediction::X0 => output,
            Prediction::V => signal * x_t - noise * output,
        }
    }

    /// By how much the squared error of `x_0` is larger than that of a prediction of `kind`:
    /// `||x_0 - x_0_hat||^2 = factor * ||target - output||^2`.
    pub fn x_0_error_factor(&self, kind: Prediction, t: usize) -> f64 {
        let alpha_bar = self.schedule.alpha_bar(t);
        match kind {
            Prediction::Eps => (1.0 - alpha_bar) / alpha_bar,
            Prediction::X0 => 1.0,
            Prediction::V => 1.0 - alpha_bar,
        }
    }

    /// `sqrt(alpha_bar_t)` and `sqrt(1 - alpha_bar_t)`, each `[B, 1, 1, 1]`.
    fn signal_and_noise(&self, t: &[usize], like: &Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let alpha_bar = |t: usize| {
            assert!(
                (1..=self.steps()).contains(&t),
                "t = {t} is outside 1..={}",
                self.steps()
            );
            self.schedule.alpha_bar(t)
        };
        let device = like.device();
        let signal = per_item(t, |t| alpha_bar(t).sqrt(), &device);
        (
            signal,
            per_item(t, |t| (1.0 - alpha_bar(t)).sqrt(), &device),
        )
    }
}

/// One number for each item of a batch, `[B, 1, 1, 1]`, computed in f64 and rounded once.
pub fn per_item(t: &[usize], value: impl Fn(usize) -> f64, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = t.iter().map(|&t| value(t) as f32).collect();
    Tensor::from_data(TensorData::new(values, [t.len(), 1, 1, 1]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{ScheduleConfig, ScheduleKind};
    use burn::tensor::Distribution;

    fn process(kind: ScheduleKind) -> Process {
        Process::new(NoiseSchedule::new(&ScheduleConfig { kind, steps: 100 }).unwrap())
    }

    #[test]
    fn every_prediction_turns_back_into_x_0() {
        let device = Device::default();
        let normal = || Tensor::<4>::random([3, 2, 2, 3], Distribution::Normal(0.0, 1.0), &device);
        let t = [1, 40, 90];
        for kind in [
            ScheduleKind::Linear,
            ScheduleKind::Cosine,
            ScheduleKind::Sigmoid,
        ] {
            let process = process(kind);
            let (x_0, eps) = (normal(), normal());
            let x_t = process.q_sample(x_0.clone(), &t, eps.clone());
            for prediction in [Prediction::Eps, Prediction::X0, Prediction::V] {
                let output = process.target(prediction, x_0.clone(), &t, eps.clone());
                let back = process.x_0_hat(prediction, x_t.clone(), &t, output);
                let worst = (back - x_0.clone()).abs().max().into_scalar::<f32>();
                assert!(worst < 1e-4, "{kind:?} {prediction:?}: {worst}");
            }
        }
    }

    #[test]
    fn errors_of_predictions_are_proportional() {
        let process = process(ScheduleKind::Cosine);
        let device = Device::default();
        let normal = || Tensor::<4>::random([1, 4, 4, 1], Distribution::Normal(0.0, 1.0), &device);
        for t in [2, 50, 95] {
            let (x_0, eps, off) = (normal(), normal(), normal());
            let x_t = process.q_sample(x_0.clone(), &[t], eps.clone());
            for prediction in [Prediction::Eps, Prediction::X0, Prediction::V] {
                let output =
                    process.target(prediction, x_0.clone(), &[t], eps.clone()) + off.clone();
                let wrong = process.x_0_hat(prediction, x_t.clone(), &[t], output) - x_0.clone();
                let ratio = wrong.square().sum().into_scalar::<f32>()
                    / off.clone().square().sum().into_scalar::<f32>();
                let want = process.x_0_error_factor(prediction, t);
                assert!(
                    (f64::from(ratio) / want - 1.0).abs() < 1e-3,
                    "{prediction:?}: {ratio} {want}"
                );
            }
        }
    }

    #[test]
    fn the_last_step_adds_no_noise() {
        let process = process(ScheduleKind::Cosine);
        assert_eq!(StepVar::FixedSmall.at(process.schedule(), 1), 0.0);
        assert_eq!(StepVar::FixedLarge.at(process.schedule(), 1), 0.0);
        assert!(
            StepVar::FixedLarge.at(process.schedule(), 9)
                > StepVar::FixedSmall.at(process.schedule(), 9)
        );
    }

    #[test]
    #[should_panic(expected = "t = 0 is outside 1..=100")]
    fn steps_start_at_one() {
        let x = Tensor::<4>::zeros([1, 1, 1, 1], &Device::default());
        process(ScheduleKind::Linear).q_sample(x.clone(), &[0], x);
    }
}

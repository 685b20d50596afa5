//! What is minimised: Alg. 1, the bound of Prop. 4.1, and the likelihood of an explicit mixture.
//!
//! For kernels that predict, `mean_m w_t ||target - output(eta_m)||^2` over `m` draws of eta; the
//! weight `w_t` is one of [`LossWeight`]. The mixture minimises `-log p(x_{t-1} | x_t)` of a drawn
//! `x_{t-1}`.

use crate::denoise::{Denoise, Denoiser};
use crate::nn::Dropout;
use crate::noise::{NoiseSource, Use};
use crate::process::{Prediction, Process, StepVar, per_item};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The weight of a step in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossWeight {
    /// 1: the mean squared error of what the network predicts.
    Simple,
    /// The squared error of `eps`, whatever the network predicts (Alg. 1 line 8; the authors' code).
    Eps,
    /// `Gamma_t` times the squared error of `eps`: the bound of Prop. 4.1, in nats for each number.
    Gamma,
}

impl LossWeight {
    /// `w_t` for a prediction of `kind`.
    pub fn at(self, process: &Process, kind: Prediction, step_var: StepVar, t: usize) -> f64 {
        let schedule = process.schedule();
        let alpha_bar = schedule.alpha_bar(t);
        let eps_factor = process.x_0_error_factor(kind, t) * alpha_bar / (1.0 - alpha_bar);
        match self {
            Self::Simple => 1.0,
            Self::Eps => eps_factor,
            Self::Gamma => {
                // The last step adds no noise and so has no density; like Nichol and Dhariwal we give
                // it the variance of its neighbour.
                let var = step_var.at(schedule, t.max(2).min(schedule.steps()));
                let var = if var > 0.0 { var } else { schedule.beta(t) };
                eps_factor * schedule.gamma(t, var)
            }
        }
    }
}

/// What a loss depends on besides the examples.
#[derive(Debug, Clone)]
pub struct Objective {
    /// Weight of the steps.
    pub weight: LossWeight,
    /// Variance of the backward step, for `Gamma_t`.
    pub step_var: StepVar,
    /// Draws of eta for each example (section 5.3).
    pub etas: usize,
}

/// The loss of a batch, its mean over examples and numbers.
///
/// `eps`, `eta` and the drawn `x_{t-1}` come from `noise`, named by `step`.
///
/// # Shapes
/// - `x_0`: `[B, H, W, C]`; `t`: `B` steps; returns `[1]`
pub fn loss(
    denoiser: &Denoiser,
    objective: &Objective,
    x_0: Tensor<4>,
    t: &[usize],
    noise: &NoiseSource,
    dropout: &mut Dropout,
) -> Tensor<1> {
    let [_, height, width, channels] = x_0.dims();
    let shape = [height, width, channels];
    let draw = |step: u64, purpose: Use| noise.normal(step, purpose, shape);
    let eps = draw(0, Use::Eps);
    let process = denoiser.process();
    let x_t = process.q_sample(x_0.clone(), t, eps.clone());
    let weighted = |kind: Prediction, output: Tensor<4>| {
        let target = process.target(kind, x_0.clone(), t, eps.clone());
        weighted_square(process, objective, kind, t, output, target)
    };
    match denoiser {
        Denoiser::Gaussian(kernel) => {
            weighted(kernel.prediction(), kernel.forward(x_t, t, dropout))
        }
        Denoiser::SoftMixture(kernel) => {
            let one = |m: u64, dropout: &mut Dropout| {
                let output = kernel.forward(x_t.clone(), t, draw(m, Use::Eta), dropout);
                weighted(kernel.prediction(), output)
            };
            let first = one(0, dropout);
            let sum = (1..objective.etas as u64).fold(first, |sum, m| sum + one(m, dropout));
            sum / objective.etas as f64
        }
        Denoiser::Mixture(kernel) => {
            let x_prev = x_prev(process, x_0, x_t.clone(), t, draw(0, Use::Previous));
            kernel.nll_nats(x_prev, x_t, t, dropout).mean() / (height * width * channels) as f64
        }
    }
}

/// A draw of `q(x_{t-1} | x_t, x_0)` with the given noise.
fn x_prev(
    process: &Process,
    x_0: Tensor<4>,
    x_t: Tensor<4>,
    t: &[usize],
    noise: Tensor<4>,
) -> Tensor<4> {
    let device = x_0.device();
    let posterior = |t: usize| process.schedule().posterior(t);
    per_item(t, |t| posterior(t).coef_x_0, &device) * x_0
        + per_item(t, |t| posterior(t).coef_x_t, &device) * x_t
        + per_item(t, |t| posterior(t).var.sqrt(), &device) * noise
}

/// `mean w_t (output - target)^2`: first over each example, then over the batch.
///
/// # Shapes
/// - `output`, `target`: `[B, H, W, C]`; `t`: `B` steps; returns `[1]`
pub fn weighted_square(
    process: &Process,
    objective: &Objective,
    kind: Prediction,
    t: &[usize],
    output: Tensor<4>,
    target: Tensor<4>,
) -> Tensor<1> {
    let [batch, height, width, channels] = output.dims();
    let item = (output - target)
        .square()
        .reshape([batch, height * width * channels])
        .mean_dim(1);
    let weight = |t: usize| objective.weight.at(process, kind, objective.step_var, t);
    let weights = per_item(t, weight, &item.device()).reshape([batch, 1]);
    (item * weights).mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{NoiseSchedule, ScheduleConfig, ScheduleKind};

    fn process() -> Process {
        let config = ScheduleConfig {
            kind: ScheduleKind::Sigmoid,
            steps: 1000,
        };
        Process::new(NoiseSchedule::new(&config).unwrap())
    }

    /// The authors' code weights v by `snr / (snr + 1)` and x_0 by `snr`.
    #[test]
    fn the_eps_weight_is_that_of_the_authors() {
        let process = process();
        for t in [1, 500, 999] {
            let alpha_bar = process.schedule().alpha_bar(t);
            let snr = alpha_bar / (1.0 - alpha_bar);
            let weight = |kind| LossWeight::Eps.at(&process, kind, StepVar::FixedSmall, t);
            assert!((weight(Prediction::V) - snr / (snr + 1.0)).abs() < 1e-12);
            assert!((weight(Prediction::X0) / snr - 1.0).abs() < 1e-12);
            assert!((weight(Prediction::Eps) - 1.0).abs() < 1e-12);
        }
    }

    /// `Gamma_t ||eps - eps_hat||^2` is the divergence of two Gaussians of variance `sigma_t^2`, whose
    /// means are apart by `c1 (x_0 - x_0_hat)`.
    #[test]
    fn gamma_is_the_divergence_of_two_gaussians() {
        let process = process();
        for t in [2, 300, 900] {
            let gamma = LossWeight::Gamma.at(&process, Prediction::Eps, StepVar::FixedSmall, t);
            let posterior = process.schedule().posterior(t);
            let x_0_per_eps = process.x_0_error_factor(Prediction::Eps, t);
            let kl = posterior.coef_x_0.powi(2) * x_0_per_eps / (2.0 * posterior.var);
            assert!(
                (gamma / kl - 1.0).abs() < 1e-9,
                "t = {t}: {gamma}, not {kl}"
            );
        }
    }

    #[test]
    fn gamma_is_finite_at_the_last_step_and_in_a_chain_of_one() {
        for steps in [1, 2, 8] {
            let config = ScheduleConfig {
                kind: ScheduleKind::Cosine,
                steps,
            };
            let process = Process::new(NoiseSchedule::new(&config).unwrap());
            for var in [StepVar::FixedSmall, StepVar::FixedLarge] {
                let weight = LossWeight::Gamma.at(&process, Prediction::V, var, 1);
                assert!(weight.is_finite() && weight > 0.0);
            }
        }
    }
}

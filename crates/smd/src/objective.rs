//! What is minimised: Alg. 1 and the bound of Prop. 4.1, and objectives that keep a mixture.
//!
//! The paper's loss, `mean_m w_t ||target - output(eta_m)||^2`, has its minimum where the latent is ignored:
//! given `x_t`, eta knows nothing of `x_0`, and the variance of the outputs is a penalty. [`ObjectiveKind`]
//! lists the others, which do not collapse; [`ObjectiveConfig::validate`] says which fit which kernel.

mod config;
mod energy;

pub use config::{ObjectiveConfig, ObjectiveKind};

use crate::denoise::{Denoise, Denoiser, Gaussian, GaussianVar, SoftMixture};
use crate::nn::Dropout;
use crate::noise::{NoiseSource, Use};
use crate::process::{Prediction, Process, StepVar, per_item};
use burn::tensor::Tensor;
use energy::energy_score;
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
    /// What is minimised.
    pub kind: ObjectiveKind,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Weight of the steps.
    pub weight: LossWeight,
    /// Power of a likelihood's weight; see [`ObjectiveConfig::balance`].
    pub balance: f64,
    /// Variance of the backward step, for `Gamma_t`.
    pub step_var: StepVar,
    /// Draws of eta for each example (section 5.3).
    pub etas: usize,
    /// Of the energy score, at `t = 1` and at `t = T`.
    pub exponent: [f64; 2],
    /// Of the energy score.
    pub repulsion: f64,
    /// Whether the encoder's draws are weighted by importance.
    pub importance: bool,
    /// Share of the encoder's divergence, 0 to 1.
    pub kl_weight: f64,
}

/// Share of the bound beside the squared error, where a Gaussian's variance is learned (Nichol and
/// Dhariwal 2021, Eq. 16). The bound does not move the mean, so the share only balances the trunk.
const VAR_SHARE: f64 = 1e-3;

/// The loss of a batch, its mean over examples and numbers.
///
/// `eps`, `eta` and the drawn `x_{t-1}` come from `noise`, named by `step`.
///
/// # Shapes
/// - `x_0`: `[B, H, W, C]`; `t`: `B` steps; returns `[1]`
///
/// # Panics
/// If the kernel cannot be trained so: [`ObjectiveConfig::validate`] says it before.
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
    let eps = noise.normal(0, Use::Eps, shape);
    let process = denoiser.process();
    let batch = Batch {
        x_t: process.q_sample(x_0.clone(), t, eps.clone()),
        x_0,
        eps,
        t,
        noise,
        process,
        objective,
    };
    let numbers = (height * width * channels) as f64;
    match (denoiser, objective.kind) {
        (Denoiser::Gaussian(kernel), ObjectiveKind::Paper) => batch.squares(kernel, dropout),
        (Denoiser::SoftMixture(kernel), ObjectiveKind::Paper | ObjectiveKind::Energy) => {
            batch.scores(kernel, dropout)
        }
        (Denoiser::SoftMixture(kernel), ObjectiveKind::Encoder) => {
            batch.encoder_bound(kernel, dropout).mean() / numbers
        }
        (_, ObjectiveKind::Exact | ObjectiveKind::MultiSample) => {
            let parts = match denoiser {
                Denoiser::Gaussian(kernel) => {
                    kernel.components(batch.x_t.clone(), t, objective.step_var, dropout)
                }
                Denoiser::SoftMixture(kernel) => {
                    let eta = kernel.draw_etas(noise, 0, objective.etas, shape);
                    kernel.components(batch.x_t.clone(), t, eta, objective.step_var, dropout)
                }
                Denoiser::Codebook(kernel) => kernel.forward(batch.x_t.clone(), t, dropout),
                Denoiser::Mixture(kernel) => kernel.forward(batch.x_t.clone(), t, dropout),
            };
            let nll = parts.nll_nats(process, batch.x_prev(), batch.x_t.clone(), t);
            let (kind, power) = (objective.prediction, objective.balance);
            let nll = match power {
                0.0 => nll,
                _ => nll * parts.balance(process, kind, power, t),
            };
            nll.mean() / numbers
        }
        (_, kind) => panic!("{kind:?} does not train this kernel"),
    }
}

/// A batch and its noise.
struct Batch<'a> {
    x_0: Tensor<4>,
    x_t: Tensor<4>,
    eps: Tensor<4>,
    t: &'a [usize],
    noise: &'a NoiseSource,
    process: &'a Process,
    objective: &'a Objective,
}

impl Batch<'_> {
    fn target(&self, kind: Prediction) -> Tensor<4> {
        let (x_0, eps) = (self.x_0.clone(), self.eps.clone());
        self.process.target(kind, x_0, self.t, eps)
    }

    fn shape(&self) -> [usize; 3] {
        let [_, height, width, channels] = self.x_0.dims();
        [height, width, channels]
    }

    /// A draw of `q(x_{t-1} | x_t, x_0)`.
    fn x_prev(&self) -> Tensor<4> {
        let noise = self.noise.normal(0, Use::Previous, self.shape());
        let device = self.x_0.device();
        let posterior = |t: usize| self.process.schedule().posterior(t);
        per_item(self.t, |t| posterior(t).coef_x_0, &device) * self.x_0.clone()
            + per_item(self.t, |t| posterior(t).coef_x_t, &device) * self.x_t.clone()
            + per_item(self.t, |t| posterior(t).var.sqrt(), &device) * noise
    }

    /// The squared error, and a share of the bound for a learned variance, which leaves the mean alone.
    fn squares(&self, kernel: &Gaussian, dropout: &mut Dropout) -> Tensor<1> {
        let kind = kernel.prediction();
        if kernel.var() == GaussianVar::Fixed {
            let output = kernel.forward(self.x_t.clone(), self.t, dropout);
            return self.weighted_square(kind, output);
        }
        let (output, var) = kernel.forward_with_var(self.x_t.clone(), self.t, dropout);
        let var = var.expect("a variance that is not fixed");
        let bound = self.var_bound(kind, output.clone().detach(), var);
        self.weighted_square(kind, output) + bound * VAR_SHARE
    }

    /// `KL(q(x_{t-1} | x_t, x_0) || p)` for `t >= 2`, `-log p(x_0 | x_1)` at `t = 1`, in nats for each
    /// number, up to what does not depend on the variance.
    fn var_bound(&self, kind: Prediction, output: Tensor<4>, x_0_var: Tensor<3>) -> Tensor<1> {
        let [batch, height, width, channels] = output.dims();
        let x_0_hat = self.process.x_0_hat(kind, self.x_t.clone(), self.t, output);
        let square = (x_0_hat - self.x_0.clone()).square();
        let square = square.reshape([batch, 1, height * width * channels]);
        let posterior = |t: usize| self.process.schedule().posterior(t);
        let rows = |value: &dyn Fn(usize) -> f64| {
            per_item(self.t, value, &square.device()).reshape([batch, 1, 1])
        };
        let tilde_beta = rows(&|t| posterior(t).var);
        let c1_square = rows(&|t| posterior(t).coef_x_0.powi(2));
        let var = tilde_beta.clone() + c1_square.clone() * x_0_var;
        let spread = (tilde_beta + c1_square * square) / var.clone();
        (spread + var.log()).mean() * 0.5
    }

    fn weighted_square(&self, kind: Prediction, output: Tensor<4>) -> Tensor<1> {
        let target = self.target(kind);
        weighted_square(self.process, self.objective, kind, self.t, output, target)
    }

    /// Several draws against the target: squared errors for the paper's objective, else the energy score.
    fn scores(&self, kernel: &SoftMixture, dropout: &mut Dropout) -> Tensor<1> {
        let objective = self.objective;
        let kind = kernel.prediction();
        let eta = kernel.draw_etas(self.noise, 0, objective.etas, self.shape());
        let draws = kernel.forward(self.x_t.clone(), self.t, eta, dropout);
        if objective.kind == ObjectiveKind::Paper {
            let batch = self.t.len();
            let one =
                |k: usize| self.weighted_square(kind, draws.clone().narrow(0, k * batch, batch));
            let sum = (1..objective.etas).fold(one(0), |sum, k| sum + one(k));
            return sum / objective.etas as f64;
        }
        let last = (self.process.steps() - 1).max(1) as f64;
        let [first_exponent, last_exponent] = objective.exponent;
        let exponent =
            |t: usize| first_exponent + (last_exponent - first_exponent) * (t - 1) as f64 / last;
        let weight = |t: usize| {
            objective
                .weight
                .at(self.process, kind, objective.step_var, t)
        };
        let device = draws.device();
        let rows =
            |value: &dyn Fn(usize) -> f64| per_item(self.t, value, &device).reshape([self.t.len()]);
        let (exponents, weights) = (rows(&exponent), rows(&weight));
        energy_score(
            draws,
            self.target(kind),
            exponents,
            weights,
            objective.repulsion,
        )
        .mean()
    }

    /// The negative bound of an inference network, in nats, `[B]`.
    fn encoder_bound(&self, kernel: &SoftMixture, dropout: &mut Dropout) -> Tensor<1> {
        let objective = self.objective;
        let encoder = kernel.encoder().expect("a kernel made for this objective");
        let x_prev = self.x_prev();
        let law = encoder.forward(x_prev.clone(), self.x_t.clone(), self.t, dropout);
        let normal = kernel.draw_etas(self.noise, 0, objective.etas, self.shape());
        let eta = law.draw(normal.clone());
        let step_var = objective.step_var;
        let parts = kernel.components(self.x_t.clone(), self.t, eta.clone(), step_var, dropout);
        if objective.importance {
            let mut parts = parts;
            let ratio = law.log_ratio(eta, normal) * objective.kl_weight;
            parts.log_weights = parts.log_weights + ratio;
            return parts.nll_nats(self.process, x_prev, self.x_t.clone(), self.t);
        }
        let normals = parts.log_normals(self.process, x_prev, self.x_t.clone(), self.t);
        law.kl_nats() * objective.kl_weight - normals.mean_dim(1).squeeze_dim::<1>(1)
    }
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

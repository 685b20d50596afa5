//! The explicit mixture of Eq. 10 for vectors: `K` weights, means and variances.
//!
//! A component is a Gaussian in `x_0`; pushed through `q(x_{t-1} | x_t, x_0)` it becomes
//!
//! ```text
//! N(x_{t-1}; c1 mu_k + c2 x_t, (tilde beta_t + c1^2 s_k^2) I)
//! ```
//! a variance that contains the exact step and cannot shrink to nothing for `t >= 2` (at `t = 1` the
//! floor of `s_k^2` holds it). The likelihood of a drawn `x_{t-1}` is a sum: nothing is bounded.

use super::Denoise;
use crate::host;
use crate::nn::{Dropout, Net};
use crate::noise::{NoiseSource, Use};
use crate::process::{Prediction, Process, StepVar, per_item};
use burn::module::Module;
use burn::tensor::activation::{log_softmax, softplus};
use burn::tensor::{Tensor, TensorData, assert_shape};
use std::f64::consts::PI;
use std::sync::Arc;

/// The least variance of a component in `x_0`, in squared data units.
const VAR_FLOOR: f64 = 1e-6;

/// A network that gives all components at once.
#[derive(Module, Debug)]
pub struct Mixture {
    model: Net,
    components: usize,
    #[module(skip)]
    prediction: Prediction,
    #[module(skip)]
    process: Arc<Process>,
}

/// The components of `p(x_0 | x_t)`.
#[derive(Debug, Clone)]
pub struct Components {
    /// Logarithms of the weights, `[B, K]`.
    pub log_weights: Tensor<2>,
    /// Means, `[B, K, D]`.
    pub means: Tensor<3>,
    /// Variances, the same on each axis, `[B, K]`.
    pub vars: Tensor<2>,
}

impl Mixture {
    /// A step of `components` components made of `model`, whose output has
    /// `components * (D + 2)` numbers: logits, predictions, raw scales.
    pub fn new(
        model: Net,
        components: usize,
        prediction: Prediction,
        process: Arc<Process>,
    ) -> Self {
        Self {
            model,
            components,
            prediction,
            process,
        }
    }

    /// Numbers that the network must give for vectors of `dim` numbers.
    pub fn outputs(components: usize, dim: usize) -> usize {
        components * (dim + 2)
    }

    /// The components at `x_t`.
    ///
    /// # Shapes
    /// - `x_t`: `[B, 1, 1, D]`; `t`: `B` steps
    pub fn forward(&self, x_t: Tensor<4>, t: &[usize], dropout: &mut Dropout) -> Components {
        let [batch, _, _, dim] = x_t.dims();
        assert_shape!(x_t, [batch, 1, 1, dim]);
        let k = self.components;
        let output = self.model.forward(x_t.clone(), t, None, dropout);
        let output = output.reshape([batch, k * (dim + 2)]);
        let log_weights = log_softmax(output.clone().narrow(1, 0, k), 1);
        let predicted = output
            .clone()
            .narrow(1, k, k * dim)
            .reshape([batch, k, 1, dim]);
        let x_t = x_t.expand([batch, k, 1, dim]);
        let means = self.process.x_0_hat(self.prediction, x_t, t, predicted);
        // At first about the variance of x_0 given x_t where little is known, 0.13 (1 - alpha_bar).
        let raw = output.narrow(1, k * (1 + dim), k) - 2.0;
        let alpha_bar = |t: usize| self.process.schedule().alpha_bar(t);
        let width = per_item(t, |t| 1.0 - alpha_bar(t), &raw.device()).reshape([batch, 1]);
        Components {
            log_weights,
            means: means.reshape([batch, k, dim]),
            vars: softplus(raw, 1.0) * width + VAR_FLOOR,
        }
    }

    /// `-log p(x_{t-1} | x_t)` in nats, for each item.
    ///
    /// # Shapes
    /// - `x_prev`, `x_t`: `[B, 1, 1, D]`; `t`: `B` steps; returns `[B]`
    pub fn nll_nats(
        &self,
        x_prev: Tensor<4>,
        x_t: Tensor<4>,
        t: &[usize],
        dropout: &mut Dropout,
    ) -> Tensor<1> {
        let [batch, _, _, dim] = x_t.dims();
        let parts = self.forward(x_t.clone(), t, dropout);
        let device = x_t.device();
        let posterior = |t: usize| self.process.schedule().posterior(t);
        let c1 = per_item(t, |t| posterior(t).coef_x_0, &device);
        let c2 = per_item(t, |t| posterior(t).coef_x_t, &device);
        let tilde_beta = per_item(t, |t| posterior(t).var, &device).reshape([batch, 1]);
        let rest = (x_prev - c2 * x_t).reshape([batch, 1, dim]);
        let c1 = c1.reshape([batch, 1]);
        let var = tilde_beta + c1.clone().square() * parts.vars; // [B, K]
        let off = rest - c1.unsqueeze_dim::<3>(2) * parts.means; // [B, K, D]
        let squares = off.square().sum_dim(2).squeeze_dim::<2>(2);
        let log_normal = ((var.clone() * (2.0 * PI)).log() * dim as f64 + squares / var) * -0.5;
        -log_sum_exp(parts.log_weights + log_normal)
    }
}

/// `log sum exp` over the second axis, `[B, K]` to `[B]`.
fn log_sum_exp(x: Tensor<2>) -> Tensor<1> {
    let largest = x.clone().detach().max_dim(1);
    let sum = (x - largest.clone()).exp().sum_dim(1);
    (sum.log() + largest).squeeze_dim::<1>(1)
}

impl Denoise for Mixture {
    fn process(&self) -> &Process {
        &self.process
    }

    /// Its components carry the rest of the variance, and were trained so.
    fn step_var(&self, _asked: StepVar) -> StepVar {
        StepVar::FixedSmall
    }

    fn draw_x_0(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Tensor<4> {
        let [batch, _, _, dim] = x_t.dims();
        let device = x_t.device();
        let parts = self.forward(x_t, t, &mut Dropout::off());
        let weights: Vec<f32> = host::numbers(parts.log_weights.exp());
        let places = noise.uniform(step, Use::Component);
        let mut chosen = vec![0.0_f32; batch * self.components];
        for (row, (weights, place)) in weights
            .chunks_exact(self.components)
            .zip(places)
            .enumerate()
        {
            chosen[row * self.components + pick(weights, place)] = 1.0;
        }
        let chosen = TensorData::new(chosen, [batch, self.components]);
        let chosen: Tensor<2> = Tensor::from_data(chosen, &device);
        let mean = (parts.means * chosen.clone().unsqueeze_dim::<3>(2)).sum_dim(1);
        let std = (parts.vars * chosen).sum_dim(1).sqrt();
        let normal = noise.normal(step, Use::ComponentNoise, [1, 1, dim]);
        mean.reshape([batch, 1, 1, dim]) + std.reshape([batch, 1, 1, 1]) * normal
    }
}

/// The index at which the running sum of `weights` passes `place` of their total.
fn pick(weights: &[f32], place: f64) -> usize {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let mut left = place * total;
    for (k, &weight) in weights.iter().enumerate() {
        left -= f64::from(weight);
        if left < 0.0 {
            return k;
        }
    }
    weights.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Init, MlpConfig, NetConfig};
    use crate::schedule::{NoiseSchedule, ScheduleConfig, ScheduleKind};
    use burn::tensor::Device;

    fn mixture(dim: usize, components: usize) -> Mixture {
        let device = Device::default();
        let config = ScheduleConfig {
            kind: ScheduleKind::Cosine,
            steps: 4,
        };
        let process = Arc::new(Process::new(NoiseSchedule::new(&config).unwrap()));
        let net = NetConfig::Mlp(MlpConfig {
            dim: 16,
            blocks: 1,
            frequencies: 2,
        });
        let outputs = Mixture::outputs(components, dim);
        let model = net.init(1, dim, outputs, None, &mut Init::new(5, &device));
        Mixture::new(model, components, Prediction::V, process)
    }

    /// A density integrates to one: the likelihood is normalised, c1, c2 and all.
    #[test]
    fn the_likelihood_integrates_to_one() {
        let device = Device::default();
        let kernel = mixture(1, 3);
        const CELLS: usize = 20_000;
        let at = |i: usize| -20.0 + 40.0 * (i as f32 + 0.5) / CELLS as f32;
        for t in 1..=4 {
            let x_prev: Vec<f32> = (0..CELLS).map(at).collect();
            let x_prev = Tensor::from_data(TensorData::new(x_prev, [CELLS, 1, 1, 1]), &device);
            let x_t = Tensor::full([CELLS, 1, 1, 1], 0.7, &device);
            let nll = kernel.nll_nats(x_prev, x_t, &vec![t; CELLS], &mut Dropout::off());
            let mass = f64::from((-nll).exp().sum().into_scalar::<f32>()) * 40.0 / CELLS as f64;
            assert!((mass - 1.0).abs() < 1e-3, "t = {t}: {mass}");
        }
    }

    /// The chain draws what the likelihood was trained on, whatever the config says of Gaussians.
    #[test]
    fn its_step_has_the_variance_of_its_likelihood() {
        for asked in [StepVar::FixedLarge, StepVar::FixedSmall] {
            assert_eq!(mixture(2, 3).step_var(asked), StepVar::FixedSmall);
        }
    }

    /// What is drawn has the mean and the variance of the components.
    #[test]
    fn draws_have_the_moments_of_the_components() {
        const DRAWS: usize = 40_000;
        let device = Device::default();
        let kernel = mixture(1, 3);
        let x_t = Tensor::full([1, 1, 1, 1], -0.4, &device);
        let parts = kernel.forward(x_t.clone(), &[3], &mut Dropout::off());
        let row = host::numbers::<2>;
        let (weights, vars) = (row(parts.log_weights.exp()), row(parts.vars));
        let means = row(parts.means.squeeze_dim::<2>(2));
        let mean: f32 = weights.iter().zip(&means).map(|(w, m)| w * m).sum();
        let second = |k: usize| weights[k] * (vars[k] + (means[k] - mean).powi(2));
        let var: f32 = (0..3).map(second).sum();

        let noise = NoiseSource::new(1, (0..DRAWS as u64).collect(), &device);
        let x_0 = kernel.draw_x_0(x_t.expand([DRAWS, 1, 1, 1]), &vec![3; DRAWS], &noise, 0);
        let x_0: Vec<f32> = host::numbers(x_0);
        let got = x_0.iter().sum::<f32>() / DRAWS as f32;
        let got_var = x_0.iter().map(|x| (x - got).powi(2)).sum::<f32>() / DRAWS as f32;
        assert!(
            (got - mean).abs() < 5.0 * (var / DRAWS as f32).sqrt(),
            "{got}, not {mean}"
        );
        // The variance of a variance is at most about 2 var^2 (lighter tails than a Gaussian's here).
        assert!(
            (got_var / var - 1.0).abs() < 5.0 * (2.0 / DRAWS as f32).sqrt(),
            "{got_var} {var}"
        );
    }
}

//! The baseline: one Gaussian step around the predicted mean (Eq. 2, 4).
//!
//! Its variance is that of `[sample] step_var`, or learned, as `tilde beta_t + c1_t^2 s^2`: one number
//! for each step (whose optimum is the closed form of Analytic-DPM, Bao et al. 2022, arXiv:2201.06503),
//! between the two fixed ones (Nichol and Dhariwal 2021, arXiv:2102.09672), or free for each number.

use super::components::{Components, VAR_FLOOR, x_0_var_of, x_0_vars};
use super::{Denoise, Drawn, StepVar};
use crate::nn::{Dropout, Init, Net};
use crate::noise::NoiseSource;
use crate::process::{Prediction, Process, per_item};
use burn::module::{Module, Param};
use burn::tensor::activation::{sigmoid, softplus};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where the variance of a Gaussian step comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GaussianVar {
    /// `[sample] step_var`: `beta_t` or `tilde beta_t`.
    #[default]
    Fixed,
    /// One number for each step, learned: in the limit `E ||x_0 - x_0_hat||^2 / D` (Analytic-DPM).
    PerStep,
    /// For each number of an example, between `log tilde beta_t` and `log beta_t`.
    LearnedRange,
    /// For each number of an example, any variance that is not below `tilde beta_t`.
    LearnedDiagonal,
}

impl GaussianVar {
    /// Channels that the network must give for examples of `channels` channels.
    pub fn outputs(self, channels: usize) -> usize {
        match self {
            Self::Fixed | Self::PerStep => channels,
            Self::LearnedRange | Self::LearnedDiagonal => 2 * channels,
        }
    }
}

/// A network that predicts `eps`, `x_0` or `v`.
#[derive(Module, Debug)]
pub struct Gaussian {
    model: Net,
    per_step: Option<PerStepVars>,
    #[module(skip)]
    var: GaussianVar,
    #[module(skip)]
    prediction: Prediction,
    #[module(skip)]
    process: Arc<Process>,
}

impl Gaussian {
    /// A step made of `model`, which predicts `prediction`.
    pub fn new(
        model: Net,
        var: GaussianVar,
        prediction: Prediction,
        process: Arc<Process>,
        init: &mut Init,
    ) -> Self {
        let per_step = (var == GaussianVar::PerStep).then(|| PerStepVars::new(&process, init));
        Self {
            model,
            per_step,
            var,
            prediction,
            process,
        }
    }

    /// The same means with the variances `x_0_vars` of `x_0` about them, that of step `t` at `t - 1`:
    /// [`GaussianVar::PerStep`] in closed form. `None` where the network gives variances itself.
    ///
    /// # Panics
    /// If there is not one variance for each step.
    pub fn calibrated(self, x_0_vars: &[f64]) -> Option<Self> {
        let per_step = PerStepVars::of(&self.process, x_0_vars, &self.model.devices()[0]);
        match self.var {
            GaussianVar::Fixed | GaussianVar::PerStep => Some(Self {
                per_step: Some(per_step),
                var: GaussianVar::PerStep,
                ..self
            }),
            GaussianVar::LearnedRange | GaussianVar::LearnedDiagonal => None,
        }
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// Where its variance comes from.
    pub fn var(&self) -> GaussianVar {
        self.var
    }

    /// The network's prediction.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps; returns `[B, H, W, C]`
    pub fn forward(&self, x_t: Tensor<4>, t: &[usize], dropout: &mut Dropout) -> Tensor<4> {
        self.forward_with_var(x_t, t, dropout).0
    }

    /// The prediction, and the learned variance of `x_0` about it where there is one.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps; returns `[B, H, W, C]`, and `[B, 1, D]` or `[B, 1, 1]`
    pub fn forward_with_var(
        &self,
        x_t: Tensor<4>,
        t: &[usize],
        dropout: &mut Dropout,
    ) -> (Tensor<4>, Option<Tensor<3>>) {
        let [batch, height, width, channels] = x_t.dims();
        let output = self.model.forward(x_t, t, None, dropout);
        let prediction = output.clone().narrow(3, 0, channels);
        let raw = || {
            let raw = output.clone().narrow(3, channels, channels);
            raw.reshape([batch, height * width * channels])
        };
        let var = match self.var {
            GaussianVar::Fixed => None,
            GaussianVar::PerStep => self.per_step.as_ref().map(|vars| vars.at(&self.process, t)),
            GaussianVar::LearnedRange => Some(self.in_range(raw(), t)),
            GaussianVar::LearnedDiagonal => Some(x_0_vars(&self.process, raw(), t).swap_dims(1, 2)),
        };
        (prediction, var)
    }

    /// `exp(v log beta_t + (1 - v) log tilde beta_t)` as a variance in `x_0`, `v` in 0 to 1. Where
    /// `tilde beta_t` is 0 its neighbour's takes its place, as Nichol and Dhariwal do.
    fn in_range(&self, raw: Tensor<2>, t: &[usize]) -> Tensor<3> {
        let schedule = self.process.schedule();
        let device = raw.device();
        let rows = |value: &dyn Fn(usize) -> f64| per_item(t, value, &device).reshape([t.len(), 1]);
        let large = |t: usize| schedule.beta(t);
        let small = |t: usize| match schedule.posterior(t).var {
            var if var > 0.0 => var,
            _ => schedule
                .posterior(2.min(schedule.steps()))
                .var
                .min(large(t))
                .max(VAR_FLOOR),
        };
        let v = sigmoid(raw);
        let log_small = rows(&|t| small(t).ln());
        let step_var = (v * rows(&|t| large(t).ln() - small(t).ln()) + log_small).exp();
        let tilde_beta = rows(&|t| schedule.posterior(t).var);
        let c1_square = rows(&|t| schedule.posterior(t).coef_x_0.powi(2));
        let x_0_var = ((step_var - tilde_beta) / c1_square).clamp_min(VAR_FLOOR);
        x_0_var.unsqueeze_dim::<3>(1)
    }

    /// Its one component, with the variance of `step_var` where none is learned; at `t = 1` that of
    /// fixed-large is `beta_1`.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps
    pub fn components(
        &self,
        x_t: Tensor<4>,
        t: &[usize],
        step_var: StepVar,
        dropout: &mut Dropout,
    ) -> Components {
        let (output, var) = self.forward_with_var(x_t.clone(), t, dropout);
        let var = var.unwrap_or_else(|| published_vars(&self.process, step_var, t, &x_t));
        one(self.process.x_0_hat(self.prediction, x_t, t, output), var)
    }
}

impl Denoise for Gaussian {
    fn process(&self) -> &Process {
        &self.process
    }

    fn step_var(&self, asked: StepVar) -> StepVar {
        match self.var {
            GaussianVar::Fixed => asked,
            _ => StepVar::FixedSmall,
        }
    }

    fn draw_x_0(&self, x_t: Tensor<4>, t: &[usize], _noise: &NoiseSource, _step: u64) -> Tensor<4> {
        let output = self.forward(x_t.clone(), t, &mut Dropout::off());
        self.process.x_0_hat(self.prediction, x_t, t, output)
    }

    fn draw(&self, x_t: Tensor<4>, t: &[usize], _noise: &NoiseSource, _step: u64) -> Drawn {
        let [batch, height, width, channels] = x_t.dims();
        let (output, var) = self.forward_with_var(x_t.clone(), t, &mut Dropout::off());
        let shape = |var: Tensor<3>| match var.dims()[2] {
            1 => var.reshape([batch, 1, 1, 1]),
            _ => var.reshape([batch, height, width, channels]),
        };
        Drawn {
            x_0: self.process.x_0_hat(self.prediction, x_t, t, output),
            x_0_var: var.map(shape),
        }
    }
}

/// A single component.
///
/// # Shapes
/// - `mean`: `[B, H, W, C]`; `var`: `[B, 1, D]` or `[B, 1, 1]`
fn one(mean: Tensor<4>, var: Tensor<3>) -> Components {
    let [batch, height, width, channels] = mean.dims();
    Components {
        log_weights: Tensor::zeros([batch, 1], &mean.device()),
        means: mean.reshape([batch, 1, height * width * channels]),
        vars: var,
    }
}

/// The variances in `x_0` of a step with a published variance, `[B, 1, 1]`.
pub(super) fn published_vars(
    process: &Process,
    step_var: StepVar,
    t: &[usize],
    like: &Tensor<4>,
) -> Tensor<3> {
    let var = |t: usize| match step_var {
        StepVar::FixedLarge => x_0_var_of(process, process.schedule().beta(t), t),
        StepVar::FixedSmall => 0.0,
    };
    per_item(t, var, &like.device()).reshape([t.len(), 1, 1])
}

/// A learned variance in `x_0` for each step.
#[derive(Module, Debug)]
pub struct PerStepVars {
    /// `[T]`: the raw number of step `t` at `t - 1`.
    raw: Param<Tensor<1>>,
}

/// How much faster than the weights' learning rate the raw numbers move: there are few of them, each is
/// met in a `T`-th of the examples, and they may have to move by 10.
const RATE: f64 = 20.0;

impl PerStepVars {
    /// Starts at about `0.13 (1 - alpha_bar_t)`.
    pub(super) fn new(process: &Process, init: &mut Init) -> Self {
        Self {
            raw: init.constant([process.steps()], 0.0),
        }
    }

    /// Those whose variances are `x_0_vars`.
    fn of(process: &Process, x_0_vars: &[f64], device: &Device) -> Self {
        assert_eq!(
            x_0_vars.len(),
            process.steps(),
            "one variance for each step"
        );
        let raw = (1..).zip(x_0_vars).map(|(t, var)| {
            let width = 1.0 - process.schedule().alpha_bar(t);
            // The inverse of `at`: softplus(y + log(1 - exp(-y))) = y.
            let y = ((var - VAR_FLOOR) / width).max(f64::MIN_POSITIVE);
            ((y + (-(-y).exp_m1()).ln() + 2.0) / RATE) as f32
        });
        let raw = TensorData::new(raw.collect::<Vec<f32>>(), [x_0_vars.len()]);
        Self {
            raw: Param::from_tensor(Tensor::from_data(raw, device)),
        }
    }

    /// The variances, `[B, 1, 1]`.
    pub(super) fn at(&self, process: &Process, t: &[usize]) -> Tensor<3> {
        let raw = self.raw.val();
        let places: Vec<i64> = t.iter().map(|&t| t as i64 - 1).collect();
        let places = Tensor::from_data(TensorData::new(places, [t.len()]), &raw.device());
        let raw = raw.select(0, places) * RATE;
        let width = |t: usize| 1.0 - process.schedule().alpha_bar(t);
        let width = per_item(t, width, &raw.device()).reshape([t.len()]);
        // Exponential below, a line above: a variance of 1e-6 is reached by -12, not by -1e6.
        (softplus(raw - 2.0, 1.0) * width + VAR_FLOOR).reshape([t.len(), 1, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::super::components::tests::{integrates_to_one, process};
    use super::*;
    use crate::host;
    use crate::nn::{MlpConfig, NetConfig};
    use crate::noise::Use;

    fn gaussian(var: GaussianVar) -> Gaussian {
        let mut init = Init::new(5, &Device::default());
        let net = NetConfig::Mlp(MlpConfig {
            dim: 16,
            blocks: 1,
            frequencies: 2,
        });
        let model = net.init([1, 1, 1], var.outputs(1), None, &mut init);
        Gaussian::new(model, var, Prediction::V, process(), &mut init)
    }

    const VARS: [GaussianVar; 4] = [
        GaussianVar::Fixed,
        GaussianVar::PerStep,
        GaussianVar::LearnedRange,
        GaussianVar::LearnedDiagonal,
    ];

    #[test]
    fn every_likelihood_integrates_to_one() {
        for var in VARS {
            let kernel = gaussian(var);
            integrates_to_one(|x_t, t| {
                kernel.components(x_t, t, StepVar::FixedLarge, &mut Dropout::off())
            });
        }
    }

    /// `tilde beta_t <= tilde beta_t + c1^2 s^2 <= beta_t`, whatever the network says.
    #[test]
    fn a_learned_range_is_kept() {
        let kernel = gaussian(GaussianVar::LearnedRange);
        let process = process();
        let x_t = NoiseSource::new(1, (0..4).collect(), &Device::default());
        let x_t = x_t.normal(0, Use::Eps, [1, 1, 1]) * 30.0;
        let t = [1, 2, 3, 4];
        let (_, vars) = kernel.forward_with_var(x_t, &t, &mut Dropout::off());
        for (t, var) in t.into_iter().zip(host::numbers(vars.unwrap())) {
            let posterior = process.schedule().posterior(t);
            let step_var = posterior.var + posterior.coef_x_0.powi(2) * f64::from(var);
            let range = posterior.var..=process.schedule().beta(t) * (1.0 + 1e-5);
            assert!(range.contains(&step_var), "t = {t}: {step_var}, {range:?}");
        }
    }

    #[test]
    fn a_calibrated_step_has_the_variances_that_it_was_given() {
        let given = [1e-5, 0.02, 0.7, 40.0];
        let kernel = gaussian(GaussianVar::Fixed).calibrated(&given).unwrap();
        let x_t = Tensor::<4>::zeros([4, 1, 1, 1], &Device::default());
        let (_, vars) = kernel.forward_with_var(x_t, &[1, 2, 3, 4], &mut Dropout::off());
        for (var, given) in host::numbers(vars.unwrap()).into_iter().zip(given) {
            let off = f64::from(var) / given - 1.0;
            assert!(off.abs() < 1e-4, "{var} for {given}");
        }
        assert!(
            gaussian(GaussianVar::LearnedRange)
                .calibrated(&given)
                .is_none()
        );
    }

    #[test]
    fn only_a_fixed_variance_asks_the_config() {
        for var in VARS {
            let asked = gaussian(var).step_var(StepVar::FixedLarge);
            let fixed = var == GaussianVar::Fixed;
            assert_eq!(asked == StepVar::FixedLarge, fixed, "{var:?}");
        }
    }
}

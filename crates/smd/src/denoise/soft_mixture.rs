//! Soft mixture denoising (Eq. 11-13): a latent selects the Gaussian.
//!
//! The latent drives hypernetworks after the stem and before the head of the network, as in the authors'
//! code, or enters after a trunk ([`crate::nn::LateHead`]), where `m` latents cost little more than one.

use super::components::{Components, VAR_FLOOR, predicted_and_raw, x_0_vars};
use super::encoder::Encoder;
use super::gaussian::{PerStepVars, published_vars};
use super::{Denoise, Drawn, StepVar};
use crate::nn::{Dropout, Flow, Init, LateConfig, LateHead, LateLatent, Net, repeated};
use crate::noise::{NoiseSource, Use};
use crate::process::{Prediction, Process};
use burn::module::Module;
use burn::tensor::{Tensor, assert_shape};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Searches for the likeliest latent, each closer to the last one's best.
const ROUNDS: u64 = 8;

/// The variance of a component of a soft mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentVar {
    /// That of `[sample] step_var`, as in the paper.
    Published,
    /// `tilde beta_t`: the largest that is exact for every data law, once the latent draws `x_0`.
    Exact,
    /// `tilde beta_t + c1_t^2 s_t^2`, one learned number for each step.
    PerStep,
    /// `tilde beta_t + c1_t^2 s^2(x_t, z, t)`: for a late latent.
    Learned,
}

/// A network whose parameters depend on a latent, and the network that makes the latent.
#[derive(Module, Debug)]
pub struct SoftMixture {
    model: Net,
    /// `g_phi`, where the latent enters throughout.
    identifier: Option<Net>,
    late: Option<Late>,
    per_step: Option<PerStepVars>,
    /// The inference network of the encoder's bound.
    encoder: Option<Encoder>,
    #[module(skip)]
    var: ComponentVar,
    #[module(skip)]
    prediction: Prediction,
    #[module(skip)]
    process: Arc<Process>,
    /// Whether `eta` is 0 instead of drawn: the control of the same capacity.
    eta_off: bool,
    /// Whether a chain takes the likeliest latent instead of a draw.
    at_mode: bool,
}

/// `g_phi` over a trunk's features, and the head that it drives.
#[derive(Module, Debug)]
pub struct Late {
    latent: Option<LateLatent>,
    /// In place of `latent`, where its density shall be known.
    flow: Option<Flow>,
    head: LateHead,
    d_eta: usize,
}

impl Late {
    /// Latent and head of the sizes of `config`, for `outputs` channels.
    pub fn new(config: &LateConfig, outputs: usize, init: &mut Init) -> Self {
        let invertible = config.flow > 0;
        Self {
            latent: (!invertible).then(|| LateLatent::new(config, init)),
            flow: invertible.then(|| Flow::new(config.flow, config.d_eta, config.dim, init)),
            head: LateHead::new(config, outputs, init),
            d_eta: config.d_eta,
        }
    }

    /// `z_t` of the trunk's features and `m` draws for each example.
    fn latent(&self, features: Tensor<4>, eta: Tensor<4>) -> Tensor<4> {
        match (&self.latent, &self.flow) {
            (Some(latent), _) => latent.forward(features, eta),
            (None, Some(flow)) => flow.forward(whole(features), eta).0,
            (None, None) => unreachable!("a latent is invertible or not"),
        }
    }
}

/// What an invertible latent sees of an example: the mean of its features, `[B, 1, 1, F]`.
fn whole(features: Tensor<4>) -> Tensor<4> {
    features.mean_dim(1).mean_dim(2)
}

impl SoftMixture {
    /// A step made of `model`, modulated by the latents of `identifier`.
    pub fn new(model: Net, identifier: Net, prediction: Prediction, process: Arc<Process>) -> Self {
        Self {
            model,
            identifier: Some(identifier),
            late: None,
            per_step: None,
            encoder: None,
            var: ComponentVar::Published,
            prediction,
            process,
            eta_off: false,
            at_mode: false,
        }
    }

    /// A step whose latent enters late, after the features of the trunk `model`.
    pub fn late(model: Net, late: Late, prediction: Prediction, process: Arc<Process>) -> Self {
        Self {
            model,
            identifier: None,
            late: Some(late),
            per_step: None,
            encoder: None,
            var: ComponentVar::Published,
            prediction,
            process,
            eta_off: false,
            at_mode: false,
        }
    }

    /// The same with another variance of its components; `per_step` holds it for
    /// [`ComponentVar::PerStep`].
    pub(super) fn with_var(self, var: ComponentVar, per_step: Option<PerStepVars>) -> Self {
        Self {
            var,
            per_step,
            ..self
        }
    }

    /// The same with an inference network.
    pub(super) fn with_encoder(self, encoder: Option<Encoder>) -> Self {
        Self { encoder, ..self }
    }

    /// The same with `eta = 0` in place of every draw.
    pub(super) fn with_eta_off(self, eta_off: bool) -> Self {
        Self { eta_off, ..self }
    }

    /// The same, whose chains take the likeliest latent; `None` where its density is not known.
    pub fn at_mode(self) -> Option<Self> {
        self.late.as_ref()?.flow.as_ref()?;
        Some(Self {
            at_mode: true,
            ..self
        })
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The variance of its components.
    pub fn var(&self) -> ComponentVar {
        self.var
    }

    /// The inference network of the encoder's bound.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_ref()
    }

    /// `[H, W, C]` of a draw of `eta` for examples of `shape`: as large as the example, or one vector
    /// where the latent enters late.
    pub fn eta_shape(&self, shape: [usize; 3]) -> [usize; 3] {
        match &self.late {
            Some(late) => [1, 1, late.d_eta],
            None => shape,
        }
    }

    /// `count` draws of `eta` for each example, one after the other: `[m B, ...]`. They are named by
    /// `step * count`, `step * count + 1`, ...
    pub fn draw_etas(
        &self,
        noise: &NoiseSource,
        step: u64,
        count: usize,
        shape: [usize; 3],
    ) -> Tensor<4> {
        let shape = self.eta_shape(shape);
        let draw = |k: u64| noise.normal(step * count as u64 + k, Use::Eta, shape);
        let etas = Tensor::cat((0..count as u64).map(draw).collect(), 0);
        if self.eta_off {
            etas.zeros_like()
        } else {
            etas
        }
    }

    /// The `eta` of the likeliest latent, `argmax_z p(z | x_t)` (section 4.2), among 64 draws and `eta = 0`,
    /// then moved uphill by random steps; `None` where the latent's density is not known.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps; returns `[B, 1, 1, E]`
    pub fn mode_eta(
        &self,
        x_t: Tensor<4>,
        t: &[usize],
        noise: &NoiseSource,
        step: u64,
    ) -> Option<Tensor<4>> {
        let late = self.late.as_ref()?;
        let flow = late.flow.as_ref()?;
        let seen = whole(self.model.forward(x_t, t, None, &mut Dropout::off()));
        let shape = [1, 1, late.d_eta];
        let [batch, _, _, _] = seen.dims();
        let draws = |round: u64, count: usize| {
            let draw = |k: u64| noise.normal((step * ROUNDS + round) * 64 + k, Use::Mode, shape);
            Tensor::cat((0..count as u64).map(draw).collect(), 0)
        };
        let mut best = Tensor::zeros([batch, 1, 1, late.d_eta], &seen.device());
        for round in 0..ROUNDS {
            // All over the prior first, then closer and closer to the best so far.
            let moved = match round {
                0 => draws(round, 64),
                _ => repeated(best.clone(), 16) + draws(round, 16) * 0.5_f64.powi(round as i32),
            };
            let tried = Tensor::cat(vec![best, moved], 0);
            let count = tried.dims()[0] / batch;
            let (_, log_det) = flow.forward(seen.clone(), tried.clone());
            let squares = tried.clone().square().sum_dim(3).reshape([count, batch]);
            let log_density = squares * -0.5 - log_det.reshape([count, batch]);
            let chosen = log_density
                .argmax(0)
                .reshape([1, batch, 1])
                .expand([1, batch, late.d_eta]);
            let rows = tried.reshape([count, batch, late.d_eta]);
            best = rows.gather(0, chosen).reshape([batch, 1, 1, late.d_eta]);
        }
        Some(best)
    }

    /// The latent `z_t = g_phi(eta, x_t, t)` that selects a component (Eq. 11).
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `eta`: `[B, H, W, C]`, or `[B, 1, 1, E]` for a late latent; `t`: `B`
    ///   steps; returns `[B, H, W, L]`
    pub fn latent(&self, x_t: Tensor<4>, t: &[usize], eta: Tensor<4>) -> Tensor<4> {
        let dropout = &mut Dropout::off();
        match (&self.identifier, &self.late) {
            (Some(identifier), _) => identify(identifier, x_t, t, eta, dropout),
            (None, Some(late)) => {
                let features = self.model.forward(x_t, t, None, dropout);
                late.latent(features, eta)
            }
            (None, None) => unreachable!("a latent enters throughout or late"),
        }
    }

    /// The predictions of the components that `eta` selects (Eq. 12), `m` for each example, draw by draw.
    /// Dropout acts in both networks, each at its own rate.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `eta`: `[m B, H, W, C]`, or `[m B, 1, 1, E]` for a late latent; `t`: `B`
    ///   steps; returns `[m B, H, W, C]`
    pub fn forward(
        &self,
        x_t: Tensor<4>,
        t: &[usize],
        eta: Tensor<4>,
        dropout: &mut Dropout,
    ) -> Tensor<4> {
        self.outputs(x_t, t, eta, dropout).0
    }

    /// Predictions and, for a learned variance, raw scales, `[m B, 1]`.
    fn outputs(
        &self,
        x_t: Tensor<4>,
        t: &[usize],
        eta: Tensor<4>,
        dropout: &mut Dropout,
    ) -> (Tensor<4>, Option<Tensor<2>>) {
        let batch = t.len();
        let [_, height, width, channels] = x_t.dims();
        let count = eta.dims()[0] / batch;
        assert_shape!(x_t, [batch, _, _, _]);
        assert_eq!(
            eta.dims()[0],
            count * batch,
            "as many etas for each example"
        );
        match (&self.identifier, &self.late) {
            (Some(identifier), _) => {
                let one = |k: usize, dropout: &mut Dropout| {
                    let eta = eta.clone().narrow(0, k * batch, batch);
                    let z_t = identify(identifier, x_t.clone(), t, eta, dropout);
                    self.model.forward(x_t.clone(), t, Some(z_t), dropout)
                };
                let mut outputs: Vec<_> = (0..count).map(|k| one(k, dropout)).collect();
                let all = match count {
                    1 => outputs.remove(0),
                    _ => Tensor::cat(outputs, 0),
                };
                (all, None)
            }
            (None, Some(late)) => {
                let features = self.model.forward(x_t, t, None, dropout);
                let z_t = late.latent(features.clone(), eta);
                let output = late.head.forward(features, z_t, count);
                predicted_and_raw(output, [height, width, channels])
            }
            (None, None) => unreachable!("a latent enters throughout or late"),
        }
    }

    /// The components that `eta` selects, of equal weight; `step_var` is the published variance, which
    /// only [`ComponentVar::Published`] takes (at `t = 1`, `beta_1` for fixed-large).
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `eta`: `[m B, ...]` as in [`SoftMixture::forward`]; `t`: `B` steps
    pub fn components(
        &self,
        x_t: Tensor<4>,
        t: &[usize],
        eta: Tensor<4>,
        step_var: StepVar,
        dropout: &mut Dropout,
    ) -> Components {
        let [batch, height, width, channels] = x_t.dims();
        let (predicted, raw) = self.outputs(x_t.clone(), t, eta, dropout);
        let k = predicted.dims()[0] / batch;
        let dim = height * width * channels;
        let steps = t.repeat(k);
        let x = repeated(x_t.clone(), k);
        let means = self.process.x_0_hat(self.prediction, x, &steps, predicted);
        let per_example = |x: Tensor<2>| {
            let numbers = x.dims()[1];
            x.reshape([k, batch, numbers]).swap_dims(0, 1)
        };
        let shared = |vars: Tensor<3>| vars.expand([batch, k, 1]);
        let vars = match self.var {
            ComponentVar::Published => shared(published_vars(&self.process, step_var, t, &x_t)),
            ComponentVar::Exact => Tensor::full([batch, k, 1], VAR_FLOOR, &x_t.device()),
            ComponentVar::PerStep => {
                let per_step = self.per_step.as_ref().expect("made with this variance");
                shared(per_step.at(&self.process, t))
            }
            ComponentVar::Learned => {
                let raw = per_example(raw.expect("a head with a channel of raw scales"));
                x_0_vars(&self.process, raw.reshape([batch, k]), t)
            }
        };
        Components {
            log_weights: Tensor::full([batch, k], -(k as f64).ln(), &x_t.device()),
            means: per_example(means.reshape([k * batch, dim])),
            vars,
        }
    }
}

/// `g_phi`, with the dropout of its own config.
fn identify(
    identifier: &Net,
    x_t: Tensor<4>,
    t: &[usize],
    eta: Tensor<4>,
    dropout: &mut Dropout,
) -> Tensor<4> {
    let x_t_eta = Tensor::cat(vec![x_t, eta], 3); // [B, H, W, 2C]
    identifier.forward(x_t_eta, t, None, dropout)
}

impl Denoise for SoftMixture {
    fn process(&self) -> &Process {
        &self.process
    }

    fn step_var(&self, asked: StepVar) -> StepVar {
        match self.var {
            ComponentVar::Published => asked,
            _ => StepVar::FixedSmall,
        }
    }

    fn draw(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Drawn {
        let [_, height, width, channels] = x_t.dims();
        let shape = [height, width, channels];
        let mode = if self.at_mode {
            self.mode_eta(x_t.clone(), t, noise, step)
        } else {
            None
        };
        let eta = mode.unwrap_or_else(|| self.draw_etas(noise, step, 1, shape));
        let dropout = &mut Dropout::off();
        match self.var {
            ComponentVar::Published | ComponentVar::Exact => {
                let output = self.forward(x_t.clone(), t, eta, dropout);
                Drawn {
                    x_0: self.process.x_0_hat(self.prediction, x_t, t, output),
                    x_0_var: None,
                }
            }
            ComponentVar::PerStep | ComponentVar::Learned => {
                let parts = self.components(x_t, t, eta, StepVar::FixedSmall, dropout);
                parts.draw(shape, noise, step)
            }
        }
    }
}

#[cfg(test)]
mod tests;

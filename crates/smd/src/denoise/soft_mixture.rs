//! Soft mixture denoising (Eq. 11-13): a latent selects the Gaussian.

use super::Denoise;
use crate::nn::{Dropout, Net};
use crate::noise::{NoiseSource, Use};
use crate::process::{Prediction, Process};
use burn::module::Module;
use burn::tensor::Tensor;
use std::sync::Arc;

/// A network whose parameters depend on a latent, and the network that makes the latent.
#[derive(Module, Debug)]
pub struct SoftMixture {
    model: Net,
    /// `g_phi`.
    identifier: Net,
    #[module(skip)]
    prediction: Prediction,
    #[module(skip)]
    process: Arc<Process>,
}

impl SoftMixture {
    /// A step made of `model`, modulated by the latents of `identifier`.
    pub fn new(model: Net, identifier: Net, prediction: Prediction, process: Arc<Process>) -> Self {
        Self {
            model,
            identifier,
            prediction,
            process,
        }
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The latent `z_t = g_phi(eta, x_t, t)` that selects a component (Eq. 11).
    ///
    /// # Shapes
    /// - `x_t`, `eta`: `[B, H, W, C]`; `t`: `B` steps; returns `[B, H, W, L]`
    pub fn latent(&self, x_t: Tensor<4>, t: &[usize], eta: Tensor<4>) -> Tensor<4> {
        let x_t_eta = Tensor::cat(vec![x_t, eta], 3); // [B, H, W, 2C]
        self.identifier
            .forward(x_t_eta, t, None, &mut Dropout::off())
    }

    /// One component's prediction (Eq. 12).
    ///
    /// # Shapes
    /// - `x_t`, `eta`: `[B, H, W, C]`; `t`: `B` steps; returns `[B, H, W, C]`
    pub fn forward(
        &self,
        x_t: Tensor<4>,
        t: &[usize],
        eta: Tensor<4>,
        dropout: &mut Dropout,
    ) -> Tensor<4> {
        let z_t = self.latent(x_t.clone(), t, eta);
        self.model.forward(x_t, t, Some(z_t), dropout)
    }
}

impl Denoise for SoftMixture {
    fn process(&self) -> &Process {
        &self.process
    }

    fn draw_x_0(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Tensor<4> {
        let [_, height, width, channels] = x_t.dims();
        let eta = noise.normal(step, Use::Eta, [height, width, channels]);
        let output = self.forward(x_t.clone(), t, eta, &mut Dropout::off());
        self.process.x_0_hat(self.prediction, x_t, t, output)
    }
}

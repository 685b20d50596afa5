//! The baseline: one Gaussian step around the predicted mean (Eq. 2, 4).

use super::Denoise;
use crate::nn::{Dropout, Net};
use crate::noise::NoiseSource;
use crate::process::{Prediction, Process};
use burn::module::Module;
use burn::tensor::Tensor;
use std::sync::Arc;

/// A network that predicts `eps`, `x_0` or `v`.
#[derive(Module, Debug)]
pub struct Gaussian {
    model: Net,
    #[module(skip)]
    prediction: Prediction,
    #[module(skip)]
    process: Arc<Process>,
}

impl Gaussian {
    /// A step made of `model`, which predicts `prediction`.
    pub fn new(model: Net, prediction: Prediction, process: Arc<Process>) -> Self {
        Self {
            model,
            prediction,
            process,
        }
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The network's prediction.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps; returns `[B, H, W, C]`
    pub fn forward(&self, x_t: Tensor<4>, t: &[usize], dropout: &mut Dropout) -> Tensor<4> {
        self.model.forward(x_t, t, None, dropout)
    }
}

impl Denoise for Gaussian {
    fn process(&self) -> &Process {
        &self.process
    }

    fn draw_x_0(&self, x_t: Tensor<4>, t: &[usize], _noise: &NoiseSource, _step: u64) -> Tensor<4> {
        let output = self.forward(x_t.clone(), t, &mut Dropout::off());
        self.process.x_0_hat(self.prediction, x_t, t, output)
    }
}

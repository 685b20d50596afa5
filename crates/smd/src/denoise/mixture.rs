//! The explicit mixture of Eq. 10: `K` weights, means and variances, for vectors and whole images.
//!
//! A component is a Gaussian about a whole example: its weight and its variance belong to all numbers
//! together. Mixtures that choose for each pixel or patch apart are no joint model. The likelihood of a
//! drawn `x_{t-1}` is a sum ([`Components`]): nothing is bounded.

use super::components::{Components, x_0_vars};
use super::{Denoise, Drawn, StepVar};
use crate::nn::{Dropout, Init, Linear, Net};
use crate::noise::NoiseSource;
use crate::process::{Prediction, Process};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use std::sync::Arc;

/// Channels of an image that its components' weights and scales are read from.
const GATES: usize = 4;

/// A network that gives all components at once.
#[derive(Module, Debug)]
pub struct Mixture {
    model: Net,
    /// From the channels behind the predictions to logits and raw scales, for images; a vector's are
    /// those channels themselves.
    gates: Option<Linear>,
    components: usize,
    #[module(skip)]
    mixed_steps: Option<[usize; 2]>,
    #[module(skip)]
    prediction: Prediction,
    #[module(skip)]
    process: Arc<Process>,
}

impl Mixture {
    /// A step of `components` components made of `model`, which has [`Mixture::outputs`] channels, for
    /// examples of `shape` (`[H, W, C]`).
    pub fn new(
        model: Net,
        components: usize,
        shape: [usize; 3],
        prediction: Prediction,
        process: Arc<Process>,
        init: &mut Init,
    ) -> Self {
        let [height, width, _] = shape;
        let gates = || Linear::new(height * width * GATES, 2 * components, init);
        Self {
            model,
            gates: (height * width > 1).then(gates),
            components,
            mixed_steps: None,
            prediction,
            process,
        }
    }

    /// A mixture for the steps from the first of `steps` to the second; elsewhere one Gaussian.
    pub fn with_mixed_steps(mut self, steps: Option<[usize; 2]>) -> Self {
        self.mixed_steps = steps;
        self
    }

    /// Channels that the network must give for examples of `shape`: predictions, then what weights and
    /// scales are read from.
    pub fn outputs(components: usize, shape: [usize; 3]) -> usize {
        let [height, width, channels] = shape;
        let gates = if height * width > 1 {
            GATES
        } else {
            2 * components
        };
        predictions(components) * channels + gates
    }

    /// The components at `x_t`.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps
    pub fn forward(&self, x_t: Tensor<4>, t: &[usize], dropout: &mut Dropout) -> Components {
        let [batch, height, width, channels] = x_t.dims();
        let k = self.components;
        let output = self.model.forward(x_t.clone(), t, None, dropout);
        let means = predictions(k) * channels;
        let per_pixel = output.dims()[3] - means;
        let gates = output.clone().narrow(3, means, per_pixel);
        let gates = gates.reshape([batch, 1, 1, height * width * per_pixel]);
        let gates = match &self.gates {
            Some(linear) => linear.forward(gates),
            None => gates,
        };
        let gates = gates.reshape([batch, 2 * k]);
        let log_weights = log_softmax(gates.clone().narrow(1, 0, k), 1);
        let raw = gates.narrow(1, k, k);
        let dim = height * width * channels;
        let predicted = output
            .clone()
            .narrow(3, 0, k * channels)
            .reshape([batch, height * width, k, channels])
            .swap_dims(1, 2)
            .reshape([batch, k, 1, dim]);
        let predicted = if k == 1 {
            predicted
        } else {
            let common = output.narrow(3, k * channels, channels);
            predicted + common.reshape([batch, 1, 1, dim])
        };
        let x_t = x_t.reshape([batch, 1, 1, dim]).expand([batch, k, 1, dim]);
        let means = self.process.x_0_hat(self.prediction, x_t, t, predicted);
        let parts = Components {
            log_weights,
            means: means.reshape([batch, k, dim]),
            vars: x_0_vars(&self.process, raw, t),
        };
        parts.mixed_at(self.mixed_steps, t)
    }
}

/// Predictions of the network: one for each component and, where there are several, one that is added to
/// all of them. That one learns from every example as a Gaussian's does, and a component what sets it
/// apart: where the step is nearly a Gaussian, most of what there is to learn is common.
fn predictions(components: usize) -> usize {
    components + usize::from(components > 1)
}

impl Denoise for Mixture {
    fn process(&self) -> &Process {
        &self.process
    }

    /// Its components carry the rest of the variance, and were trained so.
    fn step_var(&self, _asked: StepVar) -> StepVar {
        StepVar::FixedSmall
    }

    fn draw(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Drawn {
        let [_, height, width, channels] = x_t.dims();
        let parts = self.forward(x_t, t, &mut Dropout::off());
        parts.draw([height, width, channels], noise, step)
    }
}

#[cfg(test)]
mod tests {
    use super::super::components::tests::{integrates_to_one, process};
    use super::*;
    use crate::host;
    use crate::nn::{DdpmUnetConfig, Init, MlpConfig, NetConfig, params};
    use crate::noise::Use;
    use burn::tensor::Device;

    fn mixture(net: NetConfig, size: usize, channels: usize, components: usize) -> Mixture {
        let mut init = Init::new(5, &Device::default());
        let shape = [size, size, channels];
        let outputs = Mixture::outputs(components, shape);
        let model = net.init(shape, outputs, None, &mut init);
        let kernel = Mixture::new(
            model,
            components,
            shape,
            Prediction::V,
            process(),
            &mut init,
        );
        // The last convolution of a U-Net starts at zero and would hide which channel is which.
        let rows: Vec<Tensor<1>> = params::values(&kernel)
            .iter()
            .map(|row| init.normal(row.dims()).val() * 0.3)
            .collect();
        params::with_values(kernel, &rows)
    }

    fn mlp() -> NetConfig {
        NetConfig::Mlp(MlpConfig {
            dim: 16,
            blocks: 1,
            frequencies: 2,
        })
    }

    #[test]
    fn the_likelihood_integrates_to_one() {
        let kernel = mixture(mlp(), 1, 1, 3);
        integrates_to_one(|x_t, t| kernel.forward(x_t, t, &mut Dropout::off()));
    }

    /// The chain draws what the likelihood was trained on, whatever the config says of Gaussians.
    #[test]
    fn its_step_has_the_variance_of_its_likelihood() {
        for asked in [StepVar::FixedLarge, StepVar::FixedSmall] {
            assert_eq!(mixture(mlp(), 1, 2, 3).step_var(asked), StepVar::FixedSmall);
        }
    }

    /// The means of an image's components are its own numbers in their order, pixel by pixel with the channels
    /// together, and the prediction that all share.
    #[test]
    fn a_component_of_an_image_is_an_image() {
        let net = NetConfig::DdpmUnet(DdpmUnetConfig {
            dim: 4,
            multipliers: vec![1],
            blocks: 1,
            attention: vec![],
            groups: 1,
            dropout: 0.0,
        });
        let (components, channels) = (2, 3);
        let kernel = mixture(net, 2, channels, components);
        let noise = NoiseSource::new(2, vec![0, 1], &Device::default());
        let x_t = noise.normal(0, Use::Eps, [2, 2, channels]);
        let t = [2, 4];
        let parts = kernel.forward(x_t.clone(), &t, &mut Dropout::off());
        let output = kernel
            .model
            .forward(x_t.clone(), &t, None, &mut Dropout::off());
        for k in 0..components {
            let own = output.clone().narrow(3, k * channels, channels);
            let common = output.clone().narrow(3, components * channels, channels);
            let predicted = own + common;
            let x_0 = kernel
                .process
                .x_0_hat(Prediction::V, x_t.clone(), &t, predicted);
            let found = host::numbers(parts.means.clone().narrow(1, k, 1));
            assert_eq!(found, host::numbers(x_0), "component {k}");
        }
        let vars = host::numbers(parts.vars);
        assert!(vars.len() == 4 && vars.iter().all(|&var| var > 0.0));
    }
}

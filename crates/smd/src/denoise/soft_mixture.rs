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
        self.identify(x_t, t, eta, &mut Dropout::off())
    }

    /// The latent, with the dropout of `g_phi`'s own config.
    fn identify(
        &self,
        x_t: Tensor<4>,
        t: &[usize],
        eta: Tensor<4>,
        dropout: &mut Dropout,
    ) -> Tensor<4> {
        let x_t_eta = Tensor::cat(vec![x_t, eta], 3); // [B, H, W, 2C]
        self.identifier.forward(x_t_eta, t, None, dropout)
    }

    /// One component's prediction (Eq. 12). Dropout acts in both networks, each at its own rate.
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
        let z_t = self.identify(x_t.clone(), t, eta, dropout);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::nn::{DdpmUnetConfig, HyperNetConfig, Init, NetConfig, params};
    use crate::schedule::{NoiseSchedule, ScheduleConfig};
    use burn::tensor::Device;

    #[test]
    fn the_latent_network_drops_features_while_training() {
        let device = Device::default();
        let net = |dropout| {
            NetConfig::DdpmUnet(DdpmUnetConfig {
                dim: 4,
                multipliers: vec![1],
                blocks: 1,
                attention: vec![],
                groups: 1,
                dropout,
            })
        };
        let hyper = HyperNetConfig {
            d_latent: 3,
            layers: 1,
        };
        let mut init = Init::new(1, &device);
        let model = net(0.0).init(4, 1, 1, Some(&hyper), &mut init);
        let identifier = net(0.5).init(4, 2, 3, None, &mut init);
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
        let process = Arc::new(Process::new(schedule));
        let kernel = SoftMixture::new(model, identifier, Prediction::V, process);
        // The last convolution of a block starts at nearly zero and would hide what is dropped.
        let rows: Vec<Tensor<1>> = params::values(&kernel)
            .iter()
            .map(|row| init.normal(row.dims()).val())
            .collect();
        let kernel = params::with_values(kernel, &rows);

        let noise = NoiseSource::new(2, vec![0], &device);
        let (x_t, eta) = (
            noise.normal(0, Use::Eps, [4, 4, 1]),
            noise.normal(0, Use::Eta, [4, 4, 1]),
        );
        let output = |mut dropout: Dropout| {
            host::numbers(kernel.forward(x_t.clone(), &[5], eta.clone(), &mut dropout))
        };
        let whole = output(Dropout::off());
        assert!(whole.iter().all(|x| x.is_finite()));
        assert_eq!(whole, output(Dropout::off()));
        assert_ne!(whole, output(Dropout::on(3, vec![0])));
    }
}

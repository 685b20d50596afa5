//! The inference network `q(eta | x_{t-1}, x_t)` of the encoder's bound.
//!
//! Prop. 4.1 bounds the likelihood with `q = p(eta)`, and its gap is zero only where the latent is
//! ignored; with a network for `q` the bound is tight for a mixture, too.

use super::components::pooled;
use crate::nn::{Dropout, Net, repeated};
use crate::process::{Process, per_item};
use burn::module::Module;
use burn::tensor::Tensor;
use std::sync::Arc;

/// A Gaussian in `eta`, from a network that sees the step's two ends.
#[derive(Module, Debug)]
pub struct Encoder {
    net: Net,
    d_eta: usize,
    #[module(skip)]
    process: Arc<Process>,
}

/// `q(eta | x_{t-1}, x_t) = N(mean, diag(exp(2 log_std)))`, each `[B, E]`.
#[derive(Debug, Clone)]
pub struct EtaLaw {
    mean: Tensor<2>,
    log_std: Tensor<2>,
}

impl Encoder {
    /// An encoder over `net`, which takes `2 C` channels and gives `2 E`.
    pub fn new(net: Net, d_eta: usize, process: Arc<Process>) -> Self {
        Self {
            net,
            d_eta,
            process,
        }
    }

    /// The law of `eta` given both ends of a step. The network sees `x_t` and what `x_{t-1}` adds to it,
    /// `(x_{t-1} - c2 x_t) / sqrt(c1^2 + tilde beta_t)`, which is of size 1 at every step.
    ///
    /// # Shapes
    /// - `x_prev`, `x_t`: `[B, H, W, C]`; `t`: `B` steps
    pub fn forward(
        &self,
        x_prev: Tensor<4>,
        x_t: Tensor<4>,
        t: &[usize],
        dropout: &mut Dropout,
    ) -> EtaLaw {
        let posterior = |t: usize| self.process.schedule().posterior(t);
        let device = x_t.device();
        let c2 = per_item(t, |t| posterior(t).coef_x_t, &device);
        let scale = |t: usize| (posterior(t).coef_x_0.powi(2) + posterior(t).var).sqrt();
        let new = (x_prev - c2 * x_t.clone()) / per_item(t, scale, &device);
        let both = Tensor::cat(vec![x_t, new], 3); // [B, H, W, 2C]
        let output = pooled(self.net.forward(both, t, None, dropout));
        EtaLaw {
            mean: output.clone().narrow(1, 0, self.d_eta),
            // From exp(-7) to 1: a law wider than the prior says nothing that the prior does not.
            log_std: output.narrow(1, self.d_eta, self.d_eta).clamp(-7.0, 0.0),
        }
    }
}

impl EtaLaw {
    /// `m` draws for each example from standard normal numbers, draw by draw.
    ///
    /// # Shapes
    /// - `normal`: `[m B, 1, 1, E]`; returns the same
    pub fn draw(&self, normal: Tensor<4>) -> Tensor<4> {
        let [batch, d_eta] = self.mean.dims();
        let count = normal.dims()[0] / batch;
        let rows = |x: Tensor<2>| repeated(x.reshape([batch, 1, 1, d_eta]), count);
        rows(self.mean.clone()) + rows(self.log_std.clone().exp()) * normal
    }

    /// `KL(q || N(0, I))` in nats, `[B]`.
    pub fn kl_nats(&self) -> Tensor<1> {
        let var = (self.log_std.clone() * 2.0).exp();
        let twice = self.mean.clone().square() + var - self.log_std.clone() * 2.0 - 1.0;
        (twice.sum_dim(1) * 0.5).squeeze_dim::<1>(1)
    }

    /// `log p(eta) - log q(eta)` of draws made from `normal`, `[B, m]`.
    ///
    /// # Shapes
    /// - `eta`, `normal`: `[m B, 1, 1, E]`
    pub fn log_ratio(&self, eta: Tensor<4>, normal: Tensor<4>) -> Tensor<2> {
        let [batch, d_eta] = self.mean.dims();
        let count = eta.dims()[0] / batch;
        let log_det = self.log_std.clone().sum_dim(1); // [B, 1]
        let squares = (normal.square() - eta.square()) * 0.5;
        let squares = squares.reshape([count, batch, d_eta]).sum_dim(2);
        squares.reshape([count, batch]).swap_dims(0, 1) + log_det
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use burn::tensor::{Device, TensorData};

    fn law(mean: f32, log_std: f32, batch: usize) -> EtaLaw {
        let device = Device::default();
        EtaLaw {
            mean: Tensor::full([batch, 1], mean, &device),
            log_std: Tensor::full([batch, 1], log_std, &device),
        }
    }

    /// The mean of `log q - log p` over draws of `q` is the divergence.
    #[test]
    fn the_ratio_averages_to_the_divergence() {
        const DRAWS: usize = 20_000;
        let law = law(0.7, -1.1, 1);
        let noise =
            crate::noise::NoiseSource::new(1, (0..DRAWS as u64).collect(), &Device::default());
        let normal = noise.normal(0, crate::noise::Use::Eta, [1, 1, 1]);
        let eta = law.draw(normal.clone());
        let ratio = host::numbers(law.log_ratio(eta, normal));
        let mean = -ratio.iter().map(|&x| f64::from(x)).sum::<f64>() / DRAWS as f64;
        let kl = f64::from(host::numbers(law.kl_nats())[0]);
        // log q - log p is (eta^2 - normal^2) / 2 + 1.1: a standard deviation of about 0.7.
        assert!(
            (mean - kl).abs() < 5.0 * 0.75 / (DRAWS as f64).sqrt(),
            "{mean} {kl}"
        );
    }

    /// `q = p` has no divergence, and draws the numbers themselves.
    #[test]
    fn the_prior_has_no_divergence() {
        let law = law(0.0, 0.0, 2);
        assert_eq!(host::numbers(law.kl_nats()), [0.0; 2]);
        let normal = TensorData::new(vec![0.1_f32, 0.2, 0.3, 0.4], [4, 1, 1, 1]);
        let normal = Tensor::<4>::from_data(normal, &Device::default());
        let eta = law.draw(normal.clone());
        assert_eq!(host::numbers(eta.clone()), host::numbers(normal.clone()));
        assert_eq!(host::numbers(law.log_ratio(eta, normal)), [0.0; 4]);
    }
}

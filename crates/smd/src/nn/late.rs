//! A deferred latent: it enters after the trunk, so that `m` latents cost little more than one.
//!
//! The trunk computes features of `(x_t, t)` once. For each latent, layers whose every feature is scaled
//! and shifted by the latent (a hypernetwork of diagonal matrices) turn them into an output:
//!
//! ```text
//! z   = B silu(A_f f + A_eta eta)                        Eq. 11, g_phi over the trunk's features
//! h   = h + W silu((1 + scale(z)) h + shift(z))          for each layer, from h = f
//! out = W_out ((1 + scale(z)) h + shift(z))
//! ```
//! `eta` is one vector for a whole example, so that a draw is a joint one; `z` is a map, one latent for
//! each pixel.

use super::{Init, Linear};
use crate::error::ConfigError;
use crate::ops;
use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Sizes of a [`LateHead`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LateConfig {
    /// Numbers of `eta`. Default 4; for images 16 or more.
    pub d_eta: usize,
    /// Channels of the latent `z_t`. Default 16.
    pub d_latent: usize,
    /// Features of the trunk and of the layers. Default 128.
    pub dim: usize,
    /// Residual layers between the trunk and the output. Default 1.
    pub layers: usize,
    /// Steps of an invertible latent, whose density is known; 0: a latent that is not. Default 0.
    pub flow: usize,
}

impl Default for LateConfig {
    fn default() -> Self {
        Self {
            d_eta: 4,
            d_latent: 16,
            dim: 128,
            layers: 1,
            flow: 0,
        }
    }
}

impl LateConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first size that is 0; `layers` may be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("kernel.late.d_eta", self.d_eta),
            ("kernel.late.d_latent", self.d_latent),
            ("kernel.late.dim", self.dim),
        ] {
            if value == 0 {
                return Err(ConfigError::invalid(field, "is 0, must be at least 1"));
            }
        }
        if self.flow > 0 && self.d_eta < 2 {
            let problem = "is 1, but an invertible latent couples two halves; set it to 2 or more";
            return Err(ConfigError::invalid("kernel.late.d_eta", problem));
        }
        Ok(())
    }

    /// Channels of the latent: an invertible one has as many numbers as `eta`.
    pub fn d_latent(&self) -> usize {
        if self.flow > 0 {
            self.d_eta
        } else {
            self.d_latent
        }
    }
}

/// Makes latents of draws of `eta` and the trunk's features.
#[derive(Module, Debug)]
pub struct LateLatent {
    of_features: Linear,
    of_eta: Linear,
    out: Linear,
}

impl LateLatent {
    /// A latent of the sizes of `config`.
    pub fn new(config: &LateConfig, init: &mut Init) -> Self {
        let d_latent = config.d_latent();
        Self {
            of_features: Linear::new(config.dim, d_latent, init),
            of_eta: Linear::new(config.d_eta, d_latent, init),
            out: Linear::new(d_latent, d_latent, init),
        }
    }

    /// `z_t` of `m` draws for each example, draw by draw.
    ///
    /// # Shapes
    /// - `features`: `[B, H, W, F]`; `eta`: `[m B, 1, 1, E]`; returns `[m B, H, W, L]`
    pub fn forward(&self, features: Tensor<4>, eta: Tensor<4>) -> Tensor<4> {
        let count = eta.dims()[0] / features.dims()[0];
        let seen = repeated(self.of_features.forward(features), count);
        self.out.forward(ops::silu(seen + self.of_eta.forward(eta)))
    }
}

/// What turns features and latents into outputs.
#[derive(Module, Debug)]
pub struct LateHead {
    layers: Vec<Layer>,
    out_film: Linear,
    out: Linear,
}

#[derive(Module, Debug)]
struct Layer {
    film: Linear,
    linear: Linear,
}

impl LateHead {
    /// A head of `c_out` channels.
    pub fn new(config: &LateConfig, c_out: usize, init: &mut Init) -> Self {
        let (dim, d_latent) = (config.dim, config.d_latent());
        Self {
            layers: (0..config.layers)
                .map(|_| Layer {
                    film: Linear::new(d_latent, 2 * dim, init),
                    linear: Linear::new(dim, dim, init),
                })
                .collect(),
            out_film: Linear::new(d_latent, 2 * dim, init),
            out: Linear::new(dim, c_out, init),
        }
    }

    /// Outputs of `m` latents for each example, latent by latent.
    ///
    /// # Shapes
    /// - `features`: `[B, H, W, F]`; `z_t`: `[m B, H, W, L]`, or `[m, 1, 1, L]` where all examples share
    ///   them (`count` is `m`); returns `[m B, H, W, C_out]`
    ///
    /// # Panics
    /// If `z_t` has neither `m` nor `m B` rows.
    pub fn forward(&self, features: Tensor<4>, z_t: Tensor<4>, count: usize) -> Tensor<4> {
        let batch = features.dims()[0];
        let rows = z_t.dims()[0];
        assert!(
            rows == count || rows == count * batch,
            "{rows} latents for {count} draws of {batch} examples"
        );
        let mut h = repeated(features, count);
        for layer in &self.layers {
            let modulated = ops::film(h.clone(), layer.film.forward(z_t.clone()), true);
            h = h + layer.linear.forward(modulated);
        }
        let modulated = ops::film(h, self.out_film.forward(z_t), false);
        self.out.forward(modulated)
    }
}

/// `m` copies, one after the other: `[B, ...]` to `[m B, ...]`.
pub(crate) fn repeated(x: Tensor<4>, count: usize) -> Tensor<4> {
    if count == 1 {
        return x;
    }
    let [batch, height, width, channels] = x.dims();
    x.reshape([1, batch * height * width * channels])
        .expand([count, batch * height * width * channels])
        .reshape([count * batch, height, width, channels])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::noise::{NoiseSource, Use};
    use burn::tensor::Device;

    /// Latents that all examples share give what the same latents give each example apart.
    #[test]
    fn shared_latents_are_latents() {
        let device = Device::default();
        let (batch, count) = (3, 2);
        let config = LateConfig {
            d_eta: 2,
            d_latent: 3,
            dim: 4,
            layers: 2,
            flow: 0,
        };
        let head = LateHead::new(&config, 2, &mut Init::new(1, &device));
        let normal = |items: usize, shape: [usize; 3]| {
            NoiseSource::new(2, (0..items as u64).collect(), &device).normal(0, Use::Eps, shape)
        };
        let features = normal(batch, [2, 2, 4]);
        let codes = normal(count, [1, 1, 3]);
        let shared = head.forward(features.clone(), codes.clone(), count);
        let rows = (0..count).map(|k| codes.clone().narrow(0, k, 1).expand([batch, 2, 2, 3]));
        let apart = head.forward(features, Tensor::cat(rows.collect(), 0), count);
        for (a, b) in host::numbers(shared).iter().zip(host::numbers(apart)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    #[should_panic(expected = "5 latents for 2 draws of 3 examples")]
    fn latents_of_another_number_are_refused() {
        let device = Device::default();
        let config = LateConfig::default();
        let head = LateHead::new(&config, 1, &mut Init::new(0, &device));
        let (features, z_t) = (
            Tensor::zeros([3, 1, 1, 128], &device),
            Tensor::zeros([5, 1, 1, 16], &device),
        );
        head.forward(features, z_t, 2);
    }
}

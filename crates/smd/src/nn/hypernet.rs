//! The hypernetwork: parameters computed from the latent `z_t`, pixel by pixel (Eq. 12).

use super::{Init, Linear};
use crate::error::ConfigError;
use crate::ops::{self, HyperLayers};
use burn::module::{Module, Param};
use burn::tensor::activation::softplus;
use burn::tensor::{Tensor, assert_shape};
use serde::{Deserialize, Serialize};

/// Sizes of a [`HyperNet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HyperNetConfig {
    /// Channels of the latent `z_t`, `L`. Default 32; the authors' script uses 100.
    pub d_latent: usize,
    /// Matrices applied in a row, `K`, at least 1. Default 2.
    pub layers: usize,
}

impl Default for HyperNetConfig {
    fn default() -> Self {
        Self {
            d_latent: 32,
            layers: 2,
        }
    }
}

impl HyperNetConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first field that is 0.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("kernel.hypernet.d_latent", self.d_latent),
            ("kernel.hypernet.layers", self.layers),
        ] {
            if value == 0 {
                return Err(ConfigError::invalid(field, "is 0, must be at least 1"));
            }
        }
        Ok(())
    }
}

/// Modulates features with matrices generated from a latent.
#[derive(Module, Debug)]
pub struct HyperNet {
    param_projs: Vec<Linear>,
    /// `[K]`.
    scales: Param<Tensor<1>>,
    in_proj: Linear,
    out_proj: Linear,
}

impl HyperNet {
    /// A hypernetwork over `d_hidden` channels.
    pub fn new(config: &HyperNetConfig, d_hidden: usize, init: &mut Init) -> Self {
        let d_latent = config.d_latent;
        Self {
            param_projs: (0..config.layers)
                .map(|_| Linear::new(d_latent, d_latent, init))
                .collect(),
            scales: init.normal([config.layers]),
            in_proj: Linear::new(d_hidden, d_latent, init),
            out_proj: Linear::new(d_latent, d_hidden, init),
        }
    }

    /// Modulates `x` with `K` matrices generated from `z_t`.
    ///
    /// ```text
    /// W_k = v_k v_k^T + softplus(s_k) I,   v_k = param_projs_k(z_t)
    /// ```
    /// The matrices are never formed: `O(L)` instead of `O(L^2)` memory per pixel, equal to the matrix form
    /// up to rounding.
    ///
    /// # Shapes
    /// - `x`: `[B, H, W, C]`, `z_t`: `[B, H, W, L]`; returns `[B, H, W, C]`
    ///
    /// # Panics
    /// If `z_t` disagrees with `x` in batch or size.
    pub fn forward(&self, x: Tensor<4>, z_t: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, _] = x.dims();
        assert_shape!(z_t, [batch, height, width, _]);
        let layers = HyperLayers {
            count: self.param_projs.len(),
            precision: self.in_proj.precision(),
        };
        ops::hypernet(x, z_t, self.parameters(), layers)
    }

    /// All parameters in the order of [`ops::hypernet`].
    fn parameters(&self) -> Tensor<1> {
        let flat = |weight: Tensor<2>| {
            let len = weight.dims().iter().product::<usize>();
            weight.reshape([len])
        };
        let (in_weight, in_bias) = self.in_proj.parts();
        let (out_weight, out_bias) = self.out_proj.parts();
        let projs = self.param_projs.iter().map(Linear::parts);
        let (weights, biases): (Vec<_>, Vec<_>) = projs.unzip();
        let mut all = vec![flat(in_weight), in_bias];
        all.extend(weights.into_iter().map(flat));
        all.extend(biases);
        all.push(softplus(self.scales.val(), 1.0));
        all.extend([flat(out_weight), out_bias]);
        Tensor::cat(all, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    /// `W h` with the matrix written out, for one layer.
    #[test]
    fn equals_the_matrix_form() {
        let device = Device::default();
        let (d_hidden, d_latent) = (6, 5);
        let config = HyperNetConfig {
            d_latent,
            layers: 2,
        };
        let net = HyperNet::new(&config, d_hidden, &mut Init::new(3, &device));
        let normal = |c| Tensor::<4>::random([2, 3, 3, c], Distribution::Normal(0.0, 1.0), &device);
        let (x, z_t) = (normal(d_hidden), normal(d_latent));

        let mut h = net.in_proj.forward(x.clone()).reshape([18, d_latent, 1]);
        let eye = Tensor::<2>::eye(d_latent, &device).unsqueeze::<3>();
        let scales = softplus(net.scales.val(), 1.0).split(1, 0);
        for (proj, scale) in net.param_projs.iter().zip(scales) {
            let v = proj.forward(z_t.clone()).reshape([18, d_latent, 1]);
            let matrix = v.clone().matmul(v.swap_dims(1, 2)) + eye.clone() * scale.unsqueeze();
            h = matrix.matmul(h);
        }
        let theirs = net.out_proj.forward(h.reshape([2, 3, 3, d_latent]));

        let ours = net.forward(x, z_t);
        let worst = (ours - theirs).abs().max().into_scalar::<f32>();
        assert!(worst < 1e-5, "{worst}");
    }

    #[test]
    #[should_panic(expected = "assert_shape!(z_t, [batch, height, width, _])")]
    fn a_latent_of_another_size_is_refused() {
        let device = Device::default();
        let net = HyperNet::new(&HyperNetConfig::default(), 4, &mut Init::new(0, &device));
        net.forward(
            Tensor::zeros([1, 4, 4, 4], &device),
            Tensor::zeros([1, 2, 2, 32], &device),
        );
    }
}

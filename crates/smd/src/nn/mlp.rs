//! A residual perceptron for vectors, `[B, 1, 1, D]`, and for images that are small enough to be vectors.
//!
//! The input goes in twice: as it is, and as sines and cosines of its coordinates at rising
//! frequencies (Tancik et al. 2020), without which a perceptron is slow to learn structure much finer
//! than the data's spread. Hypernetworks sit after the stem and before the head.

use super::sizes::check_dim;
use super::{HyperNet, HyperNetConfig, Init, Linear, modulate, sinusoidal};
use crate::error::ConfigError;
use crate::ops;
use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Sizes of an [`Mlp`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Features. Default 128.
    pub dim: usize,
    /// Residual blocks. Default 3.
    pub blocks: usize,
    /// Frequencies of each coordinate: pi/4, pi/2, pi, ... Default 6.
    pub frequencies: usize,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            dim: 128,
            blocks: 3,
            frequencies: 6,
        }
    }
}

impl MlpConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_dim(self.dim)?;
        if self.frequencies > 16 {
            let problem = format!("is {}, must be at most 16", self.frequencies);
            return Err(ConfigError::invalid("net.frequencies", problem));
        }
        Ok(())
    }

    /// A small network of the same kind for `g_phi`: a quarter of the features, one block.
    pub fn latent(&self) -> Self {
        let quarter = (self.dim / 4).max(4);
        Self {
            dim: quarter + quarter % 2,
            blocks: 1,
            frequencies: self.frequencies,
        }
    }
}

/// See the file's header.
#[derive(Module, Debug)]
pub struct Mlp {
    stem: Linear,
    in_hypernet: Option<HyperNet>,
    time_first: Linear,
    time_second: Linear,
    blocks: Vec<Block>,
    out_hypernet: Option<HyperNet>,
    head: Linear,
    d_time: usize,
    frequencies: usize,
    /// `[H, W]` of the output.
    size: [usize; 2],
}

#[derive(Module, Debug)]
struct Block {
    first: Linear,
    second: Linear,
}

impl Mlp {
    /// A network for inputs of `shape` (`[H, W, C]`) with `c_out` numbers a pixel, with hypernetworks where
    /// `hyper` gives their sizes.
    pub fn new(
        config: &MlpConfig,
        shape: [usize; 3],
        c_out: usize,
        hyper: Option<&HyperNetConfig>,
        init: &mut Init,
    ) -> Self {
        let [height, width, _] = shape;
        Self::with_size(config, shape, [height, width], c_out, hyper, init)
    }

    /// A network of features of a whole example, `[B, 1, 1, F]`, for inputs of `shape`.
    pub fn trunk(config: &MlpConfig, shape: [usize; 3], features: usize, init: &mut Init) -> Self {
        Self::with_size(config, shape, [1, 1], features, None, init)
    }

    fn with_size(
        config: &MlpConfig,
        shape: [usize; 3],
        size: [usize; 2],
        c_out: usize,
        hyper: Option<&HyperNetConfig>,
        init: &mut Init,
    ) -> Self {
        let dim = config.dim;
        let d_time = dim.min(64);
        let c_in = shape.iter().product::<usize>();
        let c_out = size[0] * size[1] * c_out;
        Self {
            stem: Linear::new(c_in * (1 + 2 * config.frequencies), dim, init),
            in_hypernet: hyper.map(|config| HyperNet::new(config, dim, init)),
            time_first: Linear::new(d_time, dim, init),
            time_second: Linear::new(dim, dim, init),
            blocks: (0..config.blocks)
                .map(|_| Block {
                    first: Linear::new(dim, dim, init),
                    second: Linear::fan_avg(dim, dim, 0.1, init),
                })
                .collect(),
            out_hypernet: hyper.map(|config| HyperNet::new(config, dim, init)),
            head: Linear::new(dim, c_out, init),
            d_time,
            frequencies: config.frequencies,
            size,
        }
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C]`; `t`: `B` steps; `z_t`: `[B, H, W, L]`, of which an image takes the mean;
    ///   returns `[B, H, W, C_out]`
    pub fn forward(&self, x: Tensor<4>, t: &[usize], z_t: Option<Tensor<4>>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        assert_eq!(t.len(), batch, "one time step per batch item");
        let x = x.reshape([batch, 1, 1, height * width * channels]);
        let z_t = z_t.map(|z_t| z_t.mean_dim(1).mean_dim(2));
        let time = sinusoidal(t, self.d_time, &x.device());
        let time = self
            .time_second
            .forward(ops::silu(self.time_first.forward(time)));

        let mut features = vec![x.clone()];
        for i in 0..self.frequencies {
            let phase = x.clone() * (PI / 4.0 * f64::from(1 << i));
            features.extend([phase.clone().sin(), phase.cos()]);
        }
        let mut x = modulate(
            &self.in_hypernet,
            self.stem.forward(Tensor::cat(features, 3)),
            &z_t,
        );
        for block in &self.blocks {
            let h = block.first.forward(ops::silu(x.clone() + time.clone()));
            x = x + block.second.forward(ops::silu(h));
        }
        let x = modulate(&self.out_hypernet, ops::silu(x), &z_t);
        let x = self.head.forward(x);
        let [height, width] = self.size;
        let c_out = x.dims()[3] / (height * width);
        x.reshape([batch, height, width, c_out])
    }
}

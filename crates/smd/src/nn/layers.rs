//! The small layers. Weights have PyTorch's shapes, so that checkpoints line up.

use super::Init;
use crate::noise::{self, Use};
use crate::ops::{self, Norm, Precision, Window};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;

/// `y = x W^T + b` on the last axis; also a 1x1 convolution.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[C_out, C_in]`.
    weight: Param<Tensor<2>>,
    /// `[C_out]`.
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    precision: Precision,
}

impl Linear {
    /// PyTorch's default: uniform within `1 / sqrt(C_in)`.
    pub fn new(c_in: usize, c_out: usize, init: &mut Init) -> Self {
        let bound = 1.0 / (c_in as f64).sqrt();
        Self {
            weight: init.uniform([c_out, c_in], bound),
            bias: Some(init.uniform([c_out], bound)),
            precision: init.precision(),
        }
    }

    /// The same without a bias.
    pub fn without_bias(c_in: usize, c_out: usize, init: &mut Init) -> Self {
        let weight = init.uniform([c_out, c_in], 1.0 / (c_in as f64).sqrt());
        Self {
            weight,
            bias: None,
            precision: init.precision(),
        }
    }

    /// The initialisation of Ho et al.: uniform with variance `scale / mean(C_in, C_out)`, bias 0.
    pub fn fan_avg(c_in: usize, c_out: usize, scale: f64, init: &mut Init) -> Self {
        let bound = (6.0 * scale / (c_in + c_out) as f64).sqrt();
        Self {
            weight: init.uniform([c_out, c_in], bound),
            bias: Some(init.constant([c_out], 0.0)),
            precision: init.precision(),
        }
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C_in]`; returns `[B, H, W, C_out]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::linear(x, self.weight.val(), self.bias(), self.precision)
    }

    /// Several layers on the same input, as one product: their outputs side by side.
    ///
    /// # Shapes
    /// - `x`: `[B, H, W, C_in]`; returns `[B, H, W, sum of C_out]`
    pub fn side_by_side<const N: usize>(layers: [&Self; N], x: Tensor<4>) -> Tensor<4> {
        let weight = Tensor::cat(layers.map(|layer| layer.weight.val()).to_vec(), 0);
        let bias = Tensor::cat(layers.map(Self::bias).to_vec(), 0);
        ops::linear(x, weight, bias, layers[0].precision)
    }

    /// Weight, `[C_out, C_in]`, and bias.
    pub fn parts(&self) -> (Tensor<2>, Tensor<1>) {
        (self.weight.val(), self.bias())
    }

    /// How it multiplies.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    fn bias(&self) -> Tensor<1> {
        match &self.bias {
            Some(bias) => bias.val(),
            None => {
                let weight = self.weight.val();
                Tensor::zeros([weight.dims()[0]], &weight.device())
            }
        }
    }
}

/// A convolution with a square window.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[C_out, C_in, k, k]`.
    weight: Param<Tensor<4>>,
    /// `[C_out]`.
    bias: Param<Tensor<1>>,
    #[module(skip)]
    window: Window,
}

impl Conv {
    /// PyTorch's default: uniform within `1 / sqrt(fan in)`, size kept.
    pub fn same(c_in: usize, c_out: usize, kernel: usize, init: &mut Init) -> Self {
        let bound = 1.0 / ((c_in * kernel * kernel) as f64).sqrt();
        Self {
            weight: init.uniform([c_out, c_in, kernel, kernel], bound),
            bias: init.uniform([c_out], bound),
            window: Window::same(kernel).with_precision(init.precision()),
        }
    }

    /// A 3x3 convolution with the initialisation of Ho et al.; `scale` 0 starts at zero.
    pub fn fan_avg(c_in: usize, c_out: usize, scale: f64, window: Window, init: &mut Init) -> Self {
        let bound = (6.0 * scale / (9 * (c_in + c_out)) as f64).sqrt();
        Self {
            weight: init.uniform([c_out, c_in, 3, 3], bound),
            bias: init.constant([c_out], 0.0),
            window: window.with_precision(init.precision()),
        }
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C_in]`; returns `[B, H', W', C_out]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::conv2d(x, self.weight.val(), self.bias.val(), self.window)
    }
}

/// Group normalisation with affine weights, then SiLU if asked for.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// `[C]`.
    weight: Param<Tensor<1>>,
    /// `[C]`.
    bias: Param<Tensor<1>>,
    #[module(skip)]
    norm: Norm,
}

impl GroupNorm {
    /// Starts as the plain normalisation.
    pub fn new(channels: usize, norm: Norm, init: &mut Init) -> Self {
        Self {
            weight: init.constant([channels], 1.0),
            bias: init.constant([channels], 0.0),
            norm,
        }
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C]`; returns the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, _, channels] = x.dims();
        let rows = |p: &Param<Tensor<1>>| p.val().reshape([1, channels]).expand([batch, channels]);
        ops::group_norm(x, rows(&self.weight), rows(&self.bias), self.norm)
    }

    /// The normalised input times `1 + scale` plus `shift`.
    ///
    /// # Shapes
    /// - `x`: `[B, H, W, C]`; `scale`, `shift`: `[B, C]`; returns `[B, H, W, C]`
    pub fn forward_modulated(&self, x: Tensor<4>, scale: Tensor<2>, shift: Tensor<2>) -> Tensor<4> {
        let row = |p: &Param<Tensor<1>>| p.val().unsqueeze::<2>();
        let scale = scale + 1.0;
        let shift = scale.clone() * row(&self.bias) + shift;
        ops::group_norm(x, scale * row(&self.weight), shift, self.norm)
    }
}

/// `g sqrt(C) x / ||x||` over the channels.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[1, C, 1, 1]`, as in the authors' checkpoints.
    g: Param<Tensor<4>>,
}

impl RmsNorm {
    /// Starts with `g = 1`.
    pub fn new(channels: usize, init: &mut Init) -> Self {
        Self {
            g: init.constant([1, channels, 1, 1], 1.0),
        }
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C]`; returns the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let channels = x.dims()[3];
        ops::rms_norm(x, self.g.val().reshape([channels]))
    }
}

/// Dropout whose masks are named draws: (seed, example, layer).
///
/// Off where `rate` is 0 or no examples are named, as in sampling.
#[derive(Debug, Clone, Default)]
pub struct Dropout {
    seed: u64,
    /// One number for each item of the batch, different in every step of training.
    examples: Vec<u64>,
    layer: u64,
}

impl Dropout {
    /// No dropout: what a trained network is run with.
    pub fn off() -> Self {
        Self::default()
    }

    /// Masks for a batch of named examples.
    pub fn on(seed: u64, examples: Vec<u64>) -> Self {
        Self {
            seed,
            examples,
            layer: 0,
        }
    }

    /// Sets a share `rate` of the numbers to 0 and scales the rest.
    ///
    /// # Shapes
    /// - `x`: `[B, H, W, C]`; returns the same
    pub fn apply(&mut self, x: Tensor<4>, rate: f64) -> Tensor<4> {
        if rate == 0.0 || self.examples.is_empty() {
            return x;
        }
        self.layer += 1;
        let shape = x.dims();
        let (item, keep) = (shape[1] * shape[2] * shape[3], (1.0 / (1.0 - rate)) as f32);
        let mut mask = Vec::with_capacity(item * self.examples.len());
        for &example in &self.examples {
            let mut rng = noise::rng(self.seed, example, self.layer, Use::Dropout);
            mask.extend((0..item).map(|_| {
                if rng.random::<f32>() < rate as f32 {
                    0.0
                } else {
                    keep
                }
            }));
        }
        let mask = Tensor::from_data(TensorData::new(mask, shape), &x.device());
        x * mask
    }
}

//! Attention over pixels: softmax, and the linear form of the authors' code.

use super::{Init, Linear, RmsNorm};
use crate::ops;
use burn::module::Module;
use burn::tensor::Tensor;

/// Softmax attention after an RMS norm.
#[derive(Module, Debug)]
pub struct Attention {
    norm: RmsNorm,
    to_qkv: Linear,
    to_out: Linear,
    heads: usize,
}

impl Attention {
    /// Attention over `channels` with `heads` heads of `d_head` numbers.
    pub fn new(channels: usize, heads: usize, d_head: usize, init: &mut Init) -> Self {
        Self {
            norm: RmsNorm::new(channels, init),
            to_qkv: Linear::without_bias(channels, 3 * heads * d_head, init),
            to_out: Linear::new(heads * d_head, channels, init),
            heads,
        }
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C]`; returns the same, without the residual
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let qkv = self.to_qkv.forward(self.norm.forward(x));
        self.to_out.forward(ops::attention(qkv, self.heads))
    }
}

/// [`ops::linear_attention`] between two RMS norms.
#[derive(Module, Debug)]
pub struct LinearAttention {
    norm: RmsNorm,
    to_qkv: Linear,
    to_out: Linear,
    out_norm: RmsNorm,
    heads: usize,
}

impl LinearAttention {
    /// Attention over `channels` with `heads` heads of `d_head` numbers.
    pub fn new(channels: usize, heads: usize, d_head: usize, init: &mut Init) -> Self {
        Self {
            norm: RmsNorm::new(channels, init),
            to_qkv: Linear::without_bias(channels, 3 * heads * d_head, init),
            to_out: Linear::new(heads * d_head, channels, init),
            out_norm: RmsNorm::new(channels, init),
            heads,
        }
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C]`; returns the same, without the residual
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let qkv = self.to_qkv.forward(self.norm.forward(x));
        let out = ops::linear_attention(qkv, self.heads);
        self.out_norm.forward(self.to_out.forward(out))
    }
}

//! Attention over pixels: softmax, and the linear form of the authors' code.

use super::{Init, Linear, RmsNorm};
use crate::ops;
use burn::module::Module;
use burn::tensor::Tensor;

/// Queries, keys and values, each `[B, heads, H * W, d]`.
fn split_heads(qkv: Tensor<4>, heads: usize) -> [Tensor<4>; 3] {
    let [batch, height, width, channels] = qkv.dims();
    let d_head = channels / 3 / heads;
    qkv.chunk(3, 3)
        .into_iter()
        .map(|t| {
            t.reshape([batch, height * width, heads, d_head])
                .swap_dims(1, 2)
        })
        .collect::<Vec<_>>()
        .try_into()
        .expect("three chunks")
}

/// `[B, heads, H * W, d]` back to `[B, H, W, heads * d]`.
fn join_heads(x: Tensor<4>, height: usize, width: usize) -> Tensor<4> {
    let [batch, heads, _, d_head] = x.dims();
    x.swap_dims(1, 2)
        .reshape([batch, height, width, heads * d_head])
}

/// `softmax(q k^T / sqrt(d)) v`.
///
/// # Shapes
/// - `q`, `k`, `v`: `[B, heads, N, d]`; returns the same
pub(super) fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let scale = (q.dims()[3] as f64).powf(-0.5);
    ops::softmax((q * scale).matmul(k.swap_dims(2, 3))).matmul(v)
}

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
        let [_, height, width, _] = x.dims();
        let [q, k, v] = split_heads(self.to_qkv.forward(self.norm.forward(x)), self.heads);
        self.to_out
            .forward(join_heads(attend(q, k, v), height, width))
    }
}

/// Attention whose cost is linear in the pixels (Shen et al. 2018, arXiv:1812.01243).
///
/// ```text
/// out = softmax_d(q) / sqrt(d) . (softmax_N(k)^T v)
/// ```
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
        let [_, height, width, _] = x.dims();
        let [q, k, v] = split_heads(self.to_qkv.forward(self.norm.forward(x)), self.heads);
        let scale = (q.dims()[3] as f64).powf(-0.5);
        let k = ops::softmax(k.swap_dims(2, 3)); // [B, heads, d, N], over pixels
        let context = k.matmul(v); // [B, heads, d, d]
        let out = (ops::softmax(q) * scale).matmul(context); // [B, heads, N, d]
        self.out_norm
            .forward(self.to_out.forward(join_heads(out, height, width)))
    }
}

//! The U-Net of Ho et al. 2020 (arXiv:2006.11239, Appendix B).
//!
//! Residual blocks with 32-group norms, single-head attention at chosen resolutions and in the
//! middle, strided 3x3 convolutions down (padded below and to the right, as TensorFlow does), nearest
//! neighbour and 3x3 up. The last convolution of every block starts at zero. Parameters carry the
//! names of `diffusers.UNet2DModel`.

use super::authors_unet::upsample_nearest;
use super::sizes::check_unet;
use super::{Conv, Dropout, GroupNorm, HyperNet, HyperNetConfig, Init, Linear};
use super::{modulate, sinusoidal};
use crate::error::ConfigError;
use crate::ops::{self, Norm, Window};
use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Sizes of a [`DdpmUnet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DdpmUnetConfig {
    /// Channels at full size. Default 128.
    pub dim: usize,
    /// Channels of each stage over `dim`; each stage but the last halves the size. Default 1, 2, 2, 2.
    pub multipliers: Vec<usize>,
    /// Residual blocks of a stage. Default 2.
    pub blocks: usize,
    /// Heights of the feature maps that get attention; each must occur. Default 16.
    pub attention: Vec<usize>,
    /// Groups of each group norm. Default 32.
    pub groups: usize,
    /// Share of features dropped inside a block while training. Default 0.1.
    pub dropout: f64,
}

impl Default for DdpmUnetConfig {
    fn default() -> Self {
        Self {
            dim: 128,
            multipliers: vec![1, 2, 2, 2],
            blocks: 2,
            attention: vec![16],
            groups: 32,
            dropout: 0.1,
        }
    }
}

impl DdpmUnetConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_unet(self.dim, &self.multipliers, self.groups)?;
        if self.blocks == 0 {
            return Err(ConfigError::invalid(
                "net.blocks",
                "is 0, must be at least 1",
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let problem = format!("is {}, must be at least 0 and below 1", self.dropout);
            return Err(ConfigError::invalid("net.dropout", problem));
        }
        Ok(())
    }

    /// Checks that every height of `attention` occurs in images of height `size`.
    pub(super) fn check_attention(&self, size: usize) -> Result<(), ConfigError> {
        let heights: Vec<usize> = (0..self.multipliers.len())
            .map(|stage| size >> stage)
            .collect();
        let Some(missing) = self.attention.iter().find(|asked| !heights.contains(asked)) else {
            return Ok(());
        };
        let nearest = |&asked: &usize| {
            let heights = heights.iter().copied();
            heights.min_by_key(|height| height.abs_diff(asked))
        };
        let mut fix: Vec<usize> = self.attention.iter().filter_map(nearest).collect();
        fix.dedup();
        let heights: Vec<String> = heights.iter().map(usize::to_string).collect();
        let problem = format!(
            "has {missing}, but the feature maps are {} high; set `net.attention = {fix:?}` or \
             `net.attention = []`",
            heights.join(", ")
        );
        Err(ConfigError::invalid("net.attention", problem))
    }

    /// What height and width must be divisible by.
    pub fn factor(&self) -> usize {
        1 << (self.multipliers.len() - 1)
    }

    /// A small network of the same kind for `g_phi`: a quarter of the channels, one block a stage, the
    /// first two stages, no attention, no dropout.
    pub fn latent(&self) -> Self {
        let dim = (self.dim / 4).max(4);
        Self {
            dim: dim + dim % 2,
            multipliers: self.multipliers.iter().copied().take(2).collect(),
            blocks: 1,
            attention: Vec::new(),
            groups: if dim.is_multiple_of(8) { 8 } else { 1 },
            dropout: 0.0,
        }
    }
}

/// See the file's header.
#[derive(Module, Debug)]
pub struct DdpmUnet {
    conv_in: Conv,
    in_hypernet: Option<HyperNet>,
    time_embedding: TimeEmbedding,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    out_hypernet: Option<HyperNet>,
    conv_out: Conv,
    dim: usize,
    factor: usize,
}

#[derive(Module, Debug)]
struct TimeEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

#[derive(Module, Debug)]
struct DownBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<SpatialAttention>,
    downsamplers: Vec<Resample>,
}

#[derive(Module, Debug)]
struct MidBlock {
    attentions: Vec<SpatialAttention>,
    resnets: Vec<Resnet>,
}

#[derive(Module, Debug)]
struct UpBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<SpatialAttention>,
    upsamplers: Vec<Resample>,
}

#[derive(Module, Debug)]
struct Resample {
    conv: Conv,
}

#[derive(Module, Debug)]
struct SpatialAttention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Vec<Linear>,
}

#[derive(Module, Debug)]
struct Resnet {
    norm1: GroupNorm,
    conv1: Conv,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv,
    conv_shortcut: Option<Linear>,
    dropout: f64,
}

/// Nearly zero: what Ho et al. give the last convolution of a block.
const ZERO: f64 = 1e-10;

fn norm(config: &DdpmUnetConfig, silu: bool) -> Norm {
    Norm {
        groups: config.groups,
        eps: 1e-6,
        silu,
    }
}

impl Resnet {
    fn new(config: &DdpmUnetConfig, c_in: usize, c_out: usize, init: &mut Init) -> Self {
        Self {
            norm1: GroupNorm::new(c_in, norm(config, true), init),
            conv1: Conv::fan_avg(c_in, c_out, 1.0, Window::same(3), init),
            time_emb_proj: Linear::fan_avg(4 * config.dim, c_out, 1.0, init),
            norm2: GroupNorm::new(c_out, norm(config, true), init),
            conv2: Conv::fan_avg(c_out, c_out, ZERO, Window::same(3), init),
            conv_shortcut: (c_in != c_out).then(|| Linear::fan_avg(c_in, c_out, 1.0, init)),
            dropout: config.dropout,
        }
    }

    /// `time` has been through SiLU already: every block needs that.
    fn forward(&self, x: Tensor<4>, time: &Tensor<4>, dropout: &mut Dropout) -> Tensor<4> {
        let h = self.conv1.forward(self.norm1.forward(x.clone()));
        let h = h + self.time_emb_proj.forward(time.clone());
        let h = dropout.apply(self.norm2.forward(h), self.dropout);
        let h = self.conv2.forward(h);
        match &self.conv_shortcut {
            Some(conv) => conv.forward(x) + h,
            None => x + h,
        }
    }
}

impl SpatialAttention {
    fn new(config: &DdpmUnetConfig, channels: usize, init: &mut Init) -> Self {
        Self {
            group_norm: GroupNorm::new(channels, norm(config, false), init),
            to_q: Linear::fan_avg(channels, channels, 1.0, init),
            to_k: Linear::fan_avg(channels, channels, 1.0, init),
            to_v: Linear::fan_avg(channels, channels, 1.0, init),
            to_out: vec![Linear::fan_avg(channels, channels, ZERO, init)],
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = self.group_norm.forward(x.clone());
        let qkv = Linear::side_by_side([&self.to_q, &self.to_k, &self.to_v], h);
        let out = ops::attention(qkv, 1);
        self.to_out
            .iter()
            .fold(out, |out, linear| linear.forward(out))
            + x
    }
}

impl DdpmUnet {
    /// A network from `c_in` to `c_out` channels for images of height `size`, with hypernetworks where
    /// `hyper` gives their sizes.
    pub fn new(
        config: &DdpmUnetConfig,
        size: usize,
        c_in: usize,
        c_out: usize,
        hyper: Option<&HyperNetConfig>,
        init: &mut Init,
    ) -> Self {
        let dim = config.dim;
        let stages = config.multipliers.len();
        let width = |stage: usize| config.multipliers[stage] * dim;
        let attends = |stage: usize| config.attention.contains(&(size >> stage));

        let conv_in = Conv::fan_avg(c_in, dim, 1.0, Window::same(3), init);
        let in_hypernet = hyper.map(|config| HyperNet::new(config, dim, init));
        let time_embedding = TimeEmbedding {
            linear_1: Linear::fan_avg(dim, 4 * dim, 1.0, init),
            linear_2: Linear::fan_avg(4 * dim, 4 * dim, 1.0, init),
        };

        let mut skips = vec![dim];
        let mut channels = dim;
        let mut down_blocks = Vec::new();
        for stage in 0..stages {
            let (mut resnets, mut attentions, mut downsamplers) = (vec![], vec![], vec![]);
            for _ in 0..config.blocks {
                resnets.push(Resnet::new(config, channels, width(stage), init));
                channels = width(stage);
                if attends(stage) {
                    attentions.push(SpatialAttention::new(config, channels, init));
                }
                skips.push(channels);
            }
            if stage + 1 < stages {
                let window = Window {
                    stride: 2,
                    pad: [0, 1, 0, 1],
                    ..Window::same(3)
                };
                let conv = Conv::fan_avg(channels, channels, 1.0, window, init);
                downsamplers.push(Resample { conv });
                skips.push(channels);
            }
            down_blocks.push(DownBlock {
                resnets,
                attentions,
                downsamplers,
            });
        }

        let mid_block = MidBlock {
            attentions: vec![SpatialAttention::new(config, channels, init)],
            resnets: (0..2)
                .map(|_| Resnet::new(config, channels, channels, init))
                .collect(),
        };

        let mut up_blocks = Vec::new();
        for stage in (0..stages).rev() {
            let (mut resnets, mut attentions, mut upsamplers) = (vec![], vec![], vec![]);
            for _ in 0..=config.blocks {
                let skip = skips.pop().expect("one skip for each block");
                resnets.push(Resnet::new(config, channels + skip, width(stage), init));
                channels = width(stage);
                if attends(stage) {
                    attentions.push(SpatialAttention::new(config, channels, init));
                }
            }
            if stage > 0 {
                let conv = Conv::fan_avg(channels, channels, 1.0, Window::same(3), init);
                upsamplers.push(Resample { conv });
            }
            up_blocks.push(UpBlock {
                resnets,
                attentions,
                upsamplers,
            });
        }

        Self {
            conv_in,
            in_hypernet,
            time_embedding,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::new(dim * config.multipliers[0], norm(config, true), init),
            out_hypernet: hyper
                .map(|hyper| HyperNet::new(hyper, dim * config.multipliers[0], init)),
            conv_out: Conv::fan_avg(
                dim * config.multipliers[0],
                c_out,
                ZERO,
                Window::same(3),
                init,
            ),
            dim,
            factor: config.factor(),
        }
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C]`; `t`: `B` steps; `z_t`: `[B, H, W, L]`; returns `[B, H, W, C_out]`
    ///
    /// # Panics
    /// If the size is not divisible by the network's factor.
    pub fn forward(
        &self,
        x: Tensor<4>,
        t: &[usize],
        z_t: Option<Tensor<4>>,
        dropout: &mut Dropout,
    ) -> Tensor<4> {
        let [batch, height, width, _] = x.dims();
        assert_eq!(t.len(), batch, "one time step per batch item");
        assert!(
            height.is_multiple_of(self.factor) && width.is_multiple_of(self.factor),
            "{height}x{width} is not divisible by {}",
            self.factor
        );
        let time = sinusoidal(t, self.dim, &x.device());
        let time = ops::silu(self.time_embedding.linear_1.forward(time));
        let time = ops::silu(self.time_embedding.linear_2.forward(time));

        let mut x = modulate(&self.in_hypernet, self.conv_in.forward(x), &z_t);
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            for (i, resnet) in block.resnets.iter().enumerate() {
                x = resnet.forward(x, &time, dropout);
                if let Some(attention) = block.attentions.get(i) {
                    x = attention.forward(x);
                }
                skips.push(x.clone());
            }
            for down in &block.downsamplers {
                x = down.conv.forward(x);
                skips.push(x.clone());
            }
        }
        x = self.mid_block.resnets[0].forward(x, &time, dropout);
        x = self.mid_block.attentions[0].forward(x);
        x = self.mid_block.resnets[1].forward(x, &time, dropout);
        for block in &self.up_blocks {
            for (i, resnet) in block.resnets.iter().enumerate() {
                let skip = skips.pop().expect("one skip for each block");
                x = resnet.forward(Tensor::cat(vec![x, skip], 3), &time, dropout);
                if let Some(attention) = block.attentions.get(i) {
                    x = attention.forward(x);
                }
            }
            for up in &block.upsamplers {
                x = up.conv.forward(upsample_nearest(x));
            }
        }
        let x = modulate(&self.out_hypernet, self.conv_norm_out.forward(x), &z_t);
        self.conv_out.forward(x)
    }
}

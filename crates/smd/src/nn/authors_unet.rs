//! The U-Net of the authors' code (vanderschaarlab/smd, after lucidrains' denoising-diffusion).
//!
//! A 7x7 stem, residual blocks whose group norms are scaled and shifted by time, linear attention at
//! every stage and softmax attention in the middle, pixel-unshuffle down, nearest-neighbour up, and a
//! last block that sees the stem again. Hypernetworks sit after the stem and before the head.

use super::sizes::check_unet;
use super::{Attention, Conv, GroupNorm, HyperNet, HyperNetConfig, Init, Linear, LinearAttention};
use super::{modulate, sinusoidal};
use crate::error::ConfigError;
use crate::ops::{self, Norm};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::gelu;
use serde::{Deserialize, Serialize};

/// Sizes of an [`AuthorsUnet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthorsUnetConfig {
    /// Channels at full size. Default 128.
    pub dim: usize,
    /// Channels of each stage over `dim`; each stage but the last halves the size. Default 1, 2, 2, 2.
    pub multipliers: Vec<usize>,
    /// Groups of each group norm. Default 4.
    pub groups: usize,
    /// Attention heads. Default 4.
    pub heads: usize,
    /// Channels of a head. Default 32.
    pub d_head: usize,
}

impl Default for AuthorsUnetConfig {
    fn default() -> Self {
        Self {
            dim: 128,
            multipliers: vec![1, 2, 2, 2],
            groups: 4,
            heads: 4,
            d_head: 32,
        }
    }
}

impl AuthorsUnetConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_unet(self.dim, &self.multipliers, self.groups)?;
        if self.heads == 0 || self.d_head == 0 {
            return Err(ConfigError::invalid(
                "net.heads",
                "and net.d_head must be at least 1",
            ));
        }
        Ok(())
    }

    /// What height and width must be divisible by.
    pub fn factor(&self) -> usize {
        1 << (self.multipliers.len() - 1)
    }

    /// The small network of the same kind that the authors' script uses as `g_phi`: every size a
    /// quarter (`exp_scale 2`), two stages of multipliers 1, 2.
    pub fn latent(&self) -> Self {
        let quarter = |n: usize| (n / 4).max(1);
        // An embedding of time needs an even number, and whole groups.
        let dim = quarter(self.dim).max(4).next_multiple_of(2);
        let groups = quarter(self.groups);
        Self {
            dim,
            multipliers: (1..=self.multipliers.len().min(2)).collect(),
            groups: if dim.is_multiple_of(groups) {
                groups
            } else {
                1
            },
            heads: quarter(self.heads),
            d_head: quarter(self.d_head),
        }
    }
}

/// See the file's header.
#[derive(Module, Debug)]
pub struct AuthorsUnet {
    init_conv: Conv,
    in_hypernet: Option<HyperNet>,
    time_first: Linear,
    time_second: Linear,
    downs: Vec<Down>,
    mid_block1: ResnetBlock,
    mid_attn: Attention,
    mid_block2: ResnetBlock,
    ups: Vec<Up>,
    final_res_block: ResnetBlock,
    out_hypernet: Option<HyperNet>,
    final_conv: Linear,
    dim: usize,
    factor: usize,
}

/// A stage on the way down. The last stage keeps the size and has a 3x3 convolution instead.
#[derive(Module, Debug)]
struct Down {
    block1: ResnetBlock,
    block2: ResnetBlock,
    attn: LinearAttention,
    unshuffled: Option<Linear>,
    conv: Option<Conv>,
}

/// A stage on the way up; the last one keeps the size.
#[derive(Module, Debug)]
struct Up {
    block1: ResnetBlock,
    block2: ResnetBlock,
    attn: LinearAttention,
    conv: Conv,
    doubles: bool,
}

#[derive(Module, Debug)]
struct ResnetBlock {
    mlp: Linear,
    proj1: Conv,
    norm1: GroupNorm,
    proj2: Conv,
    norm2: GroupNorm,
    res_conv: Option<Linear>,
}

impl ResnetBlock {
    fn new(c_in: usize, c_out: usize, d_time: usize, groups: usize, init: &mut Init) -> Self {
        let norm = Norm {
            groups,
            eps: 1e-5,
            silu: true,
        };
        Self {
            mlp: Linear::new(d_time, 2 * c_out, init),
            proj1: Conv::same(c_in, c_out, 3, init),
            norm1: GroupNorm::new(c_out, norm, init),
            proj2: Conv::same(c_out, c_out, 3, init),
            norm2: GroupNorm::new(c_out, norm, init),
            res_conv: (c_in != c_out).then(|| Linear::new(c_in, c_out, init)),
        }
    }

    /// `time` has been through SiLU already: every block needs that.
    fn forward(&self, x: Tensor<4>, time: &Tensor<4>) -> Tensor<4> {
        let batch = x.dims()[0];
        let scale_shift = self.mlp.forward(time.clone()); // [B or 1, 1, 1, 2C]
        let [rows, _, _, both] = scale_shift.dims();
        let scale_shift = scale_shift.reshape([rows, both]).expand([batch, both]);
        let scale = scale_shift.clone().narrow(1, 0, both / 2);
        let shift = scale_shift.narrow(1, both / 2, both / 2);
        let h = self
            .norm1
            .forward_modulated(self.proj1.forward(x.clone()), scale, shift);
        let h = self.norm2.forward(self.proj2.forward(h));
        match &self.res_conv {
            Some(conv) => h + conv.forward(x),
            None => h + x,
        }
    }
}

impl AuthorsUnet {
    /// A network from `c_in` to `c_out` channels, with hypernetworks where `hyper` gives their sizes.
    pub fn new(
        config: &AuthorsUnetConfig,
        c_in: usize,
        c_out: usize,
        hyper: Option<&HyperNetConfig>,
        init: &mut Init,
    ) -> Self {
        let (dim, groups) = (config.dim, config.groups);
        let (heads, d_head) = (config.heads, config.d_head);
        let d_time = 4 * dim;
        let widths: Vec<usize> = std::iter::once(dim)
            .chain(config.multipliers.iter().map(|m| m * dim))
            .collect();
        let stages: Vec<(usize, usize)> = widths.windows(2).map(|w| (w[0], w[1])).collect();
        let last = stages.len() - 1;
        let block =
            |c_in, c_out, init: &mut Init| ResnetBlock::new(c_in, c_out, d_time, groups, init);

        let init_conv = Conv::same(c_in, dim, 7, init);
        let in_hypernet = hyper.map(|config| HyperNet::new(config, dim, init));
        let (time_first, time_second) = (
            Linear::new(dim, d_time, init),
            Linear::new(d_time, d_time, init),
        );
        let downs = stages
            .iter()
            .enumerate()
            .map(|(i, &(from, to))| Down {
                block1: block(from, from, init),
                block2: block(from, from, init),
                attn: LinearAttention::new(from, heads, d_head, init),
                unshuffled: (i < last).then(|| Linear::new(4 * from, to, init)),
                conv: (i == last).then(|| Conv::same(from, to, 3, init)),
            })
            .collect();
        let mid = widths[widths.len() - 1];
        let mid_block1 = block(mid, mid, init);
        let mid_attn = Attention::new(mid, heads, d_head, init);
        let mid_block2 = block(mid, mid, init);
        let ups = stages
            .iter()
            .rev()
            .enumerate()
            .map(|(i, &(to, from))| Up {
                block1: block(from + to, from, init),
                block2: block(from + to, from, init),
                attn: LinearAttention::new(from, heads, d_head, init),
                conv: Conv::same(from, to, 3, init),
                doubles: i < last,
            })
            .collect();
        Self {
            init_conv,
            in_hypernet,
            time_first,
            time_second,
            downs,
            mid_block1,
            mid_attn,
            mid_block2,
            ups,
            final_res_block: block(2 * dim, dim, init),
            out_hypernet: hyper.map(|config| HyperNet::new(config, dim, init)),
            final_conv: Linear::new(dim, c_out, init),
            dim,
            factor: config.factor(),
        }
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C]`; `t`: `B` steps; `z_t`: `[B, H, W, L]`; returns `[B, H, W, C_out]`
    ///
    /// # Panics
    /// If the size is not divisible by the network's factor.
    pub fn forward(&self, x: Tensor<4>, t: &[usize], z_t: Option<Tensor<4>>) -> Tensor<4> {
        let [batch, height, width, _] = x.dims();
        assert_eq!(t.len(), batch, "one time step per batch item");
        assert!(
            height.is_multiple_of(self.factor) && width.is_multiple_of(self.factor),
            "{height}x{width} is not divisible by {}",
            self.factor
        );
        let time = sinusoidal(t, self.dim, &x.device());
        let time = self
            .time_second
            .forward(gelu(self.time_first.forward(time)));
        let time = ops::silu(time);

        let stem = modulate(&self.in_hypernet, self.init_conv.forward(x), &z_t);
        let mut x = stem.clone();
        let mut skips = Vec::new();
        for down in &self.downs {
            x = down.block1.forward(x, &time);
            skips.push(x.clone());
            x = down.block2.forward(x, &time);
            x = down.attn.forward(x.clone()) + x;
            skips.push(x.clone());
            x = match (&down.unshuffled, &down.conv) {
                (Some(linear), _) => linear.forward(ops::pixel_unshuffle(x)),
                (None, Some(conv)) => conv.forward(x),
                (None, None) => unreachable!("a stage ends in one of the two"),
            };
        }
        x = self.mid_block1.forward(x, &time);
        x = self.mid_attn.forward(x.clone()) + x;
        x = self.mid_block2.forward(x, &time);
        for up in &self.ups {
            for block in [&up.block1, &up.block2] {
                let skip = skips.pop().expect("two skips for each stage");
                x = block.forward(Tensor::cat(vec![x, skip], 3), &time);
            }
            x = up.attn.forward(x.clone()) + x;
            x = if up.doubles {
                ops::upsample_nearest(x)
            } else {
                x
            };
            x = up.conv.forward(x);
        }
        x = self
            .final_res_block
            .forward(Tensor::cat(vec![x, stem], 3), &time);
        self.final_conv
            .forward(modulate(&self.out_hypernet, x, &z_t))
    }
}

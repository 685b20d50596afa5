//! Layers and networks, channels last. They know no schedule.
//!
//! A network maps `x_t [B, H, W, C]` and `B` steps `t` to `[B, H, W, C_out]`; with a [`HyperNet`]
//! it also takes the latent map `z_t` (Eq. 12). [`Net`] is one of
//! - [`AuthorsUnet`]: the U-Net of the authors' code,
//! - [`DdpmUnet`]: the U-Net of Ho et al. 2020,
//! - [`Mlp`]: for vectors, `[B, 1, 1, D]`.

mod attention;
mod authors_unet;
mod config;
mod ddpm_unet;
mod embedding;
mod flow;
mod hypernet;
mod init;
mod late;
mod layers;
mod mlp;
pub mod params;
mod sizes;

pub use attention::{Attention, LinearAttention};
pub use authors_unet::{AuthorsUnet, AuthorsUnetConfig};
pub use config::NetConfig;
pub use ddpm_unet::{DdpmUnet, DdpmUnetConfig};
pub use embedding::sinusoidal;
pub use flow::Flow;
pub use hypernet::{HyperNet, HyperNetConfig};
pub use init::Init;
pub(crate) use late::repeated;
pub use late::{LateConfig, LateHead, LateLatent};
pub use layers::{Conv, Dropout, GroupNorm, Linear, RmsNorm};
pub use mlp::{Mlp, MlpConfig};

use burn::module::Module;
use burn::tensor::Tensor;

/// One of the networks.
#[allow(clippy::large_enum_variant, reason = "there is one of it in a program")]
#[derive(Module, Debug)]
pub enum Net {
    /// The U-Net of the authors' code.
    Authors(AuthorsUnet),
    /// The U-Net of Ho et al.
    Ddpm(DdpmUnet),
    /// A perceptron for vectors.
    Mlp(Mlp),
}

impl Net {
    /// Runs the network.
    ///
    /// # Shapes
    /// - `x`: `[B, H, W, C]`; `t`: `B` steps, from 1; `z_t`: `[B, H, W, L]`, exactly where the network
    ///   has hypernetworks
    /// - returns: `[B, H, W, C_out]`
    ///
    /// # Panics
    /// If a shape disagrees with the network's sizes.
    pub fn forward(
        &self,
        x: Tensor<4>,
        t: &[usize],
        z_t: Option<Tensor<4>>,
        dropout: &mut Dropout,
    ) -> Tensor<4> {
        match self {
            Self::Authors(net) => net.forward(x, t, z_t),
            Self::Ddpm(net) => net.forward(x, t, z_t, dropout),
            Self::Mlp(net) => net.forward(x, t, z_t),
        }
    }
}

/// Adds what the hypernetwork makes of `x` and `z_t`, where there is one.
///
/// # Panics
/// If there is a hypernetwork and no latent, or the other way round.
fn modulate(hypernet: &Option<HyperNet>, x: Tensor<4>, z_t: &Option<Tensor<4>>) -> Tensor<4> {
    match (hypernet, z_t) {
        (Some(hypernet), Some(z_t)) => x.clone() + hypernet.forward(x, z_t.clone()),
        (None, None) => x,
        _ => panic!("a latent z_t belongs to a network with hypernetworks, and only to one"),
    }
}

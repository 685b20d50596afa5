//! Which kernel, and of which sizes.

use super::{Denoiser, Gaussian, Mixture, SoftMixture};
use crate::error::ConfigError;
use crate::nn::{HyperNetConfig, Init, NetConfig};
use crate::process::{Prediction, Process};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `[kernel]` of a config: `kind` and what that kind needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum KernelConfig {
    /// One Gaussian (Eq. 2).
    Gaussian {},
    /// See [`SoftMixtureConfig`].
    SoftMixture(SoftMixtureConfig),
    /// See [`MixtureKernelConfig`].
    Mixture(MixtureKernelConfig),
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self::Gaussian {}
    }
}

/// A latent and the hypernetworks that it drives (Eq. 11-13).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoftMixtureConfig {
    /// Channels of the latent and layers of the hypernetworks.
    pub hypernet: HyperNetConfig,
    /// The network `g_phi`; default: a small one of the same kind as `[net]`.
    pub net: Option<NetConfig>,
}

/// An explicit mixture for vectors (Eq. 10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixtureKernelConfig {
    /// Components, `K`. Default 16.
    pub components: usize,
}

impl Default for MixtureKernelConfig {
    fn default() -> Self {
        Self { components: 16 }
    }
}

impl KernelConfig {
    /// Checks the kernel's own fields, and that examples of `shape` fit.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self, shape: [usize; 3]) -> Result<(), ConfigError> {
        match self {
            Self::Gaussian {} => Ok(()),
            Self::SoftMixture(config) => {
                config.hypernet.validate()?;
                match &config.net {
                    Some(latent) => latent
                        .validate(shape)
                        .map_err(|error| error.renamed("net.", "kernel.net.")),
                    // Derived from `[net]`, and valid where that is.
                    None => Ok(()),
                }
            }
            Self::Mixture(config) if config.components == 0 => Err(ConfigError::invalid(
                "kernel.components",
                "is 0, must be at least 1",
            )),
            Self::Mixture(_) if shape[..2] != [1, 1] => Err(ConfigError::invalid(
                "kernel.kind",
                "is \"mixture\", which is for vectors; for images use \"gaussian\" or \"soft-mixture\"",
            )),
            Self::Mixture(_) => Ok(()),
        }
    }

    /// See [`NetConfig::check_attention`]; for the latent network, where the config names one.
    ///
    /// # Errors
    /// A height that never occurs.
    pub fn check_attention(&self, height: usize) -> Result<(), ConfigError> {
        match self {
            Self::SoftMixture(SoftMixtureConfig { net: Some(net), .. }) => net
                .check_attention(height)
                .map_err(|error| error.renamed("net.", "kernel.net.")),
            _ => Ok(()),
        }
    }

    /// Builds the kernel over a network of `net` for examples of `shape`.
    pub fn init(
        &self,
        net: &NetConfig,
        shape: [usize; 3],
        prediction: Prediction,
        process: Arc<Process>,
        init: &mut Init,
    ) -> Denoiser {
        let [height, _, channels] = shape;
        match self {
            Self::Gaussian {} => {
                let model = net.init(height, channels, channels, None, init);
                Denoiser::Gaussian(Gaussian::new(model, prediction, process))
            }
            Self::SoftMixture(config) => {
                let hyper = &config.hypernet;
                let model = net.init(height, channels, channels, Some(hyper), init);
                let latent = config.net.clone().unwrap_or_else(|| net.latent());
                let identifier = latent.init(height, 2 * channels, hyper.d_latent, None, init);
                Denoiser::SoftMixture(SoftMixture::new(model, identifier, prediction, process))
            }
            Self::Mixture(config) => {
                let outputs = Mixture::outputs(config.components, channels);
                let model = net.init(height, channels, outputs, None, init);
                Denoiser::Mixture(Mixture::new(model, config.components, prediction, process))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::DdpmUnetConfig;

    #[test]
    fn an_error_of_the_latent_network_names_its_own_table() {
        let latent = |groups, attention| {
            KernelConfig::SoftMixture(SoftMixtureConfig {
                net: Some(NetConfig::DdpmUnet(DdpmUnetConfig {
                    dim: 48,
                    groups,
                    attention,
                    ..DdpmUnetConfig::default()
                })),
                ..SoftMixtureConfig::default()
            })
        };
        let message = |kernel: KernelConfig, shape| kernel.validate(shape).unwrap_err().to_string();
        assert_eq!(
            message(latent(32, vec![]), [32, 32, 3]),
            "kernel.net.groups is 32, must divide kernel.net.dim = 48; set `kernel.net.groups = 24`"
        );
        let attention = latent(24, vec![9]).check_attention(32);
        let attention = attention.unwrap_err().to_string();
        assert!(
            attention.contains("set `kernel.net.attention = [8]` or `kernel.net.attention = []`"),
            "{attention}"
        );
        let kind = message(latent(24, vec![]), [1, 1, 2]);
        assert!(kind.ends_with("set `kernel.net.kind = \"mlp\"`"), "{kind}");
    }
}

//! Which network, and of which sizes.

use super::{AuthorsUnet, AuthorsUnetConfig, DdpmUnet, DdpmUnetConfig, HyperNetConfig, Init};
use super::{Mlp, MlpConfig, Net};
use crate::error::ConfigError;
use serde::{Deserialize, Serialize};

/// `[net]` of a config: `kind` and the sizes of that kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum NetConfig {
    /// See [`AuthorsUnetConfig`].
    AuthorsUnet(AuthorsUnetConfig),
    /// See [`DdpmUnetConfig`].
    DdpmUnet(DdpmUnetConfig),
    /// See [`MlpConfig`].
    Mlp(MlpConfig),
}

impl Default for NetConfig {
    fn default() -> Self {
        Self::DdpmUnet(DdpmUnetConfig::default())
    }
}

impl NetConfig {
    /// Checks the sizes, and that examples of `shape` (`[H, W, C]`) fit.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self, shape: [usize; 3]) -> Result<(), ConfigError> {
        let [height, width, _] = shape;
        let factor = match self {
            Self::AuthorsUnet(config) => config.validate().map(|()| config.factor()),
            Self::DdpmUnet(config) => config.validate().map(|()| config.factor()),
            Self::Mlp(config) => config.validate().map(|()| 1),
        }?;
        let is_vector = [height, width] == [1, 1];
        if !matches!(self, Self::Mlp(_)) && is_vector {
            let problem = "is a U-Net, which is for images, but the examples are vectors; set \
                           `net.kind = \"mlp\"`";
            return Err(ConfigError::invalid("net.kind", problem));
        }
        if !height.is_multiple_of(factor) || !width.is_multiple_of(factor) {
            let stages = factor.ilog2() + 1;
            let nearest = |n: usize| n.next_multiple_of(factor);
            let problem = format!(
                "has {stages} stages, so sizes must be divisible by {factor}, but the images are \
                 {height}x{width}; set `data.size = {}` or use fewer stages",
                nearest(height.max(width))
            );
            return Err(ConfigError::invalid("net.multipliers", problem));
        }
        Ok(())
    }

    /// Checks that attention is asked for at heights that occur with images of `height`. For new runs:
    /// an older one may have trained without the attention that its config names.
    ///
    /// # Errors
    /// A height that never occurs.
    pub fn check_attention(&self, height: usize) -> Result<(), ConfigError> {
        match self {
            Self::DdpmUnet(config) => config.check_attention(height),
            _ => Ok(()),
        }
    }

    /// The small network of the same kind that makes a latent, where a config names no other.
    pub fn latent(&self) -> Self {
        match self {
            Self::AuthorsUnet(config) => Self::AuthorsUnet(config.latent()),
            Self::DdpmUnet(config) => Self::DdpmUnet(config.latent()),
            Self::Mlp(config) => Self::Mlp(config.latent()),
        }
    }

    /// Builds the network for inputs of `shape` (`[H, W, C]`), with `c_out` channels of output.
    pub fn init(
        &self,
        shape: [usize; 3],
        c_out: usize,
        hyper: Option<&HyperNetConfig>,
        init: &mut Init,
    ) -> Net {
        let [size, _, c_in] = shape;
        match self {
            Self::AuthorsUnet(config) => {
                Net::Authors(AuthorsUnet::new(config, c_in, c_out, hyper, init))
            }
            Self::DdpmUnet(config) => {
                Net::Ddpm(DdpmUnet::new(config, size, c_in, c_out, hyper, init))
            }
            Self::Mlp(config) => Net::Mlp(Mlp::new(config, shape, c_out, hyper, init)),
        }
    }
}

impl NetConfig {
    /// Builds the trunk before a late latent: `features` channels for each pixel, or for a perceptron of
    /// the whole example, `[B, 1, 1, F]`.
    pub fn trunk(&self, shape: [usize; 3], features: usize, init: &mut Init) -> Net {
        match self {
            Self::Mlp(config) => Net::Mlp(Mlp::trunk(config, shape, features, init)),
            _ => self.init(shape, features, None, init),
        }
    }

    /// Channels behind a trunk for outputs of `channels` a pixel, where its features are those of a whole
    /// example.
    pub fn late_outputs(&self, shape: [usize; 3], channels: usize) -> usize {
        let [height, width, _] = shape;
        match self {
            Self::Mlp(_) => height * width * channels,
            _ => channels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(config: &NetConfig, shape: [usize; 3]) -> String {
        config.validate(shape).unwrap_err().to_string()
    }

    #[test]
    fn attention_at_a_height_that_never_occurs_names_those_that_do() {
        let net = |attention: &[usize], stages: usize| {
            NetConfig::DdpmUnet(DdpmUnetConfig {
                multipliers: vec![1; stages],
                attention: attention.to_vec(),
                ..DdpmUnetConfig::default()
            })
        };
        let refusal =
            |net: &NetConfig, height| net.check_attention(height).unwrap_err().to_string();
        assert_eq!(
            refusal(&net(&[16], 3), 28),
            "net.attention has 16, but the feature maps are 28, 14, 7 high; set \
             `net.attention = [14]` or `net.attention = []`"
        );
        let message = refusal(&net(&[16, 8], 4), 256);
        assert!(
            message.contains("set `net.attention = [32]` or"),
            "{message}"
        );
        net(&[], 3).check_attention(28).unwrap();
        net(&[7, 28], 3).check_attention(28).unwrap();
    }

    #[test]
    fn a_network_of_the_wrong_kind_names_the_setting() {
        let message = refusal(&NetConfig::default(), [1, 1, 2]);
        assert!(message.ends_with("set `net.kind = \"mlp\"`"), "{message}");
    }

    /// So it needs no check of its own.
    #[test]
    fn a_derived_latent_is_valid_where_its_network_is() {
        let images = [32, 32, 3];
        for dim in (4_usize..=64).step_by(2) {
            for groups in (1..=dim).filter(|&groups| dim.is_multiple_of(groups)) {
                let ddpm = NetConfig::DdpmUnet(DdpmUnetConfig {
                    dim,
                    groups,
                    ..DdpmUnetConfig::default()
                });
                let authors = NetConfig::AuthorsUnet(AuthorsUnetConfig {
                    dim,
                    groups,
                    ..AuthorsUnetConfig::default()
                });
                for net in [ddpm, authors] {
                    net.validate(images).unwrap();
                    net.latent().validate(images).unwrap();
                }
            }
            let mlp = NetConfig::Mlp(MlpConfig {
                dim,
                ..MlpConfig::default()
            });
            mlp.latent().validate([1, 1, 2]).unwrap();
        }
    }
}

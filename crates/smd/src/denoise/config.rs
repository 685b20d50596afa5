//! Which kernel, and of which sizes.

use super::encoder::Encoder;
use super::gaussian::PerStepVars;
use super::{Codebook, ComponentVar, Denoiser, Gaussian, GaussianVar, Late, Mixture, SoftMixture};
use crate::error::ConfigError;
use crate::nn::{HyperNetConfig, Init, LateConfig, NetConfig};
use crate::objective::ObjectiveKind;
use crate::process::{Prediction, Process};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `[kernel]` of a config: `kind` and what that kind needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum KernelConfig {
    /// See [`GaussianConfig`].
    Gaussian(GaussianConfig),
    /// See [`SoftMixtureConfig`].
    SoftMixture(SoftMixtureConfig),
    /// See [`CodebookConfig`].
    Codebook(CodebookConfig),
    /// See [`MixtureKernelConfig`].
    Mixture(MixtureKernelConfig),
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self::Gaussian(GaussianConfig::default())
    }
}

/// One Gaussian (Eq. 2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaussianConfig {
    /// Where its variance comes from. Default fixed.
    pub variance: GaussianVar,
}

/// A latent and the hypernetworks that it drives (Eq. 11-13).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoftMixtureConfig {
    /// Channels of the latent and layers of the hypernetworks, where the latent enters throughout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypernet: Option<HyperNetConfig>,
    /// The network `g_phi`; default: a small one of the same kind as `[net]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<NetConfig>,
    /// A latent that enters late, after a trunk, instead of throughout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<LateConfig>,
    /// The network of the encoder's bound; default: a small one of the same kind as `[net]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<NetConfig>,
    /// The variance of a component; default: published for the paper's objective, exact for the energy
    /// score, else per-step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variance: Option<ComponentVar>,
    /// Whether `eta` is 0 instead of drawn: the control of the same capacity. Default false.
    pub eta_off: bool,
}

/// A soft mixture over `K` learned latents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodebookConfig {
    /// Codes, `K`. Default 32.
    pub components: usize,
    /// The first and the last `t` whose step is a mixture, `[1, 3]` say; the others are one calibrated
    /// Gaussian. Default: all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixed_steps: Option<[usize; 2]>,
    /// The head that they enter; its `d_eta` has no meaning here.
    pub late: LateConfig,
}

impl Default for CodebookConfig {
    fn default() -> Self {
        Self {
            components: 32,
            mixed_steps: None,
            late: LateConfig::default(),
        }
    }
}

/// An explicit mixture (Eq. 10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixtureKernelConfig {
    /// Components, `K`. Default 16.
    pub components: usize,
    /// As [`CodebookConfig::mixed_steps`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixed_steps: Option<[usize; 2]>,
}

impl Default for MixtureKernelConfig {
    fn default() -> Self {
        Self {
            components: 16,
            mixed_steps: None,
        }
    }
}

impl SoftMixtureConfig {
    fn validate(&self, shape: [usize; 3]) -> Result<(), ConfigError> {
        if let Some(hypernet) = &self.hypernet {
            hypernet.validate()?;
        }
        if let Some(late) = &self.late {
            late.validate()?;
            let throughout = [
                ("kernel.hypernet", self.hypernet.is_some()),
                ("kernel.net", self.net.is_some()),
            ];
            if let Some((field, _)) = throughout.into_iter().find(|(_, there)| *there) {
                let problem = "belongs to a latent that enters throughout, and [kernel.late] to one \
                               that enters late; keep one of them";
                return Err(ConfigError::invalid(field, problem));
            }
        } else if self.variance == Some(ComponentVar::Learned) {
            let problem =
                "is \"learned\", which a latent that enters late gives; add [kernel.late]";
            return Err(ConfigError::invalid("kernel.variance", problem));
        }
        // Derived from `[net]` the other networks are valid where that is.
        for (table, net) in [
            ("kernel.net.", &self.net),
            ("kernel.encoder.", &self.encoder),
        ] {
            if let Some(net) = net {
                let renamed = |error: ConfigError| error.renamed("net.", table);
                net.validate(shape).map_err(renamed)?;
            }
        }
        Ok(())
    }

    fn variance(&self, objective: ObjectiveKind) -> ComponentVar {
        self.variance.unwrap_or(match objective {
            ObjectiveKind::Paper => ComponentVar::Published,
            ObjectiveKind::Energy => ComponentVar::Exact,
            _ => ComponentVar::PerStep,
        })
    }

    fn init(&self, net: &NetConfig, parts: Parts, init: &mut Init) -> SoftMixture {
        let [height, width, channels] = parts.shape;
        let (prediction, process) = (parts.prediction, parts.process);
        let var = self.variance(parts.objective);
        let kernel = match &self.late {
            Some(late) => {
                let model = net.trunk(parts.shape, late.dim, init);
                let scales = usize::from(var == ComponentVar::Learned);
                let outputs = net.late_outputs(parts.shape, channels) + scales;
                let late = Late::new(late, outputs, init);
                SoftMixture::late(model, late, prediction, process.clone())
            }
            None => {
                let hyper = self.hypernet.clone().unwrap_or_default();
                let model = net.init(parts.shape, channels, Some(&hyper), init);
                let latent = self.net.clone().unwrap_or_else(|| net.latent());
                let seen = [height, width, 2 * channels];
                let identifier = latent.init(seen, hyper.d_latent, None, init);
                SoftMixture::new(model, identifier, prediction, process.clone())
            }
        };
        let per_step = (var == ComponentVar::PerStep).then(|| PerStepVars::new(&process, init));
        let encoder = (parts.objective == ObjectiveKind::Encoder).then(|| {
            let d_eta = self.late.as_ref().map_or(0, |late| late.d_eta);
            let config = self.encoder.clone().unwrap_or_else(|| net.latent());
            let net = config.init([height, width, 2 * channels], 2 * d_eta, None, init);
            Encoder::new(net, d_eta, process)
        });
        kernel
            .with_var(var, per_step)
            .with_encoder(encoder)
            .with_eta_off(self.eta_off)
    }
}

/// What a kernel is built from besides its own sizes and a network's.
pub struct Parts {
    /// `[H, W, C]` of an example.
    pub shape: [usize; 3],
    /// What the network predicts.
    pub prediction: Prediction,
    /// What it will be trained with: it may need variances or an encoder.
    pub objective: ObjectiveKind,
    /// The forward process.
    pub process: Arc<Process>,
}

impl KernelConfig {
    /// Its name in a config.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gaussian(_) => "gaussian",
            Self::SoftMixture(_) => "soft-mixture",
            Self::Codebook(_) => "codebook",
            Self::Mixture(_) => "mixture",
        }
    }

    /// Checks the kernel's own fields, and that examples of `shape` fit.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self, shape: [usize; 3]) -> Result<(), ConfigError> {
        let components = match self {
            Self::Gaussian(_) => 1,
            Self::SoftMixture(config) => {
                config.validate(shape)?;
                1
            }
            Self::Codebook(config) => {
                config.late.validate()?;
                config.components
            }
            Self::Mixture(config) => config.components,
        };
        if components == 0 {
            return Err(ConfigError::invalid(
                "kernel.components",
                "is 0, must be at least 1",
            ));
        }
        Ok(())
    }

    /// Checks that the steps with a mixture are steps of a schedule with `steps`.
    ///
    /// # Errors
    /// A range that holds none of them, or ends behind the last.
    pub fn check_steps(&self, steps: usize) -> Result<(), ConfigError> {
        let mixed = match self {
            Self::Codebook(config) => config.mixed_steps,
            Self::Mixture(config) => config.mixed_steps,
            Self::Gaussian(_) | Self::SoftMixture(_) => None,
        };
        match mixed {
            Some([from, to]) if from == 0 || from > to || to > steps => {
                let problem = format!(
                    "is [{from}, {to}], must be a first and a last step from 1 to {steps} \
                     (schedule.steps), in this order; leave it out for all of them"
                );
                Err(ConfigError::invalid("kernel.mixed_steps", problem))
            }
            _ => Ok(()),
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

    /// Builds the kernel over a network of `net`.
    pub fn init(&self, net: &NetConfig, parts: Parts, init: &mut Init) -> Denoiser {
        let channels = parts.shape[2];
        match self {
            Self::Gaussian(config) => {
                let outputs = config.variance.outputs(channels);
                let model = net.init(parts.shape, outputs, None, init);
                let (prediction, process) = (parts.prediction, parts.process);
                let kernel = Gaussian::new(model, config.variance, prediction, process, init);
                Denoiser::Gaussian(kernel)
            }
            Self::SoftMixture(config) => Denoiser::SoftMixture(config.init(net, parts, init)),
            Self::Codebook(config) => {
                let (k, late) = (config.components, &config.late);
                let model = net.trunk(parts.shape, late.dim, init);
                let (prediction, process) = (parts.prediction, parts.process);
                let outputs = net.late_outputs(parts.shape, channels) + 1;
                let kernel = Codebook::new(model, k, late, outputs, prediction, process, init);
                Denoiser::Codebook(kernel.with_mixed_steps(config.mixed_steps))
            }
            Self::Mixture(config) => {
                let outputs = Mixture::outputs(config.components, parts.shape);
                let model = net.init(parts.shape, outputs, None, init);
                let (prediction, process) = (parts.prediction, parts.process);
                let (components, shape) = (config.components, parts.shape);
                let kernel = Mixture::new(model, components, shape, prediction, process, init);
                Denoiser::Mixture(kernel.with_mixed_steps(config.mixed_steps))
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

    #[test]
    fn a_mixture_is_limited_to_steps_that_there_are() {
        let check = |mixed_steps| {
            let config = MixtureKernelConfig {
                mixed_steps,
                ..MixtureKernelConfig::default()
            };
            KernelConfig::Mixture(config).check_steps(8)
        };
        for right in [None, Some([1, 8]), Some([3, 3])] {
            check(right).unwrap();
        }
        for wrong in [[0, 3], [4, 3], [2, 9]] {
            let message = check(Some(wrong)).unwrap_err().to_string();
            assert!(message.contains("from 1 to 8"), "{message}");
        }
    }

    #[test]
    fn a_latent_enters_late_or_throughout() {
        let message = |config: SoftMixtureConfig| {
            let error = KernelConfig::SoftMixture(config).validate([1, 1, 2]);
            error.unwrap_err().to_string()
        };
        let both = message(SoftMixtureConfig {
            hypernet: Some(HyperNetConfig::default()),
            late: Some(LateConfig::default()),
            ..SoftMixtureConfig::default()
        });
        assert!(
            both.contains("kernel.hypernet belongs") && both.contains("keep one"),
            "{both}"
        );
        let learned = message(SoftMixtureConfig {
            variance: Some(ComponentVar::Learned),
            ..SoftMixtureConfig::default()
        });
        assert!(learned.contains("add [kernel.late]"), "{learned}");
    }
}

//! A run's configuration: one TOML tree, the same text in a file, in a checkpoint and on the screen.
//!
//! Every field has a default. [`RunConfig::validate`] checks what types cannot; an unknown field is an
//! error that names the nearest one. Presets are configs by name ([`preset`]).

mod control;
mod overrides;

pub use overrides::set;

use crate::data::{self, Examples, ReadOptions};
use crate::denoise::{Denoiser, KernelConfig, Parts, SoftMixtureConfig};
use crate::error::ConfigError;
use crate::gmm::{GaussianMixture, MixtureConfig};
use crate::nn::{HyperNetConfig, Init, NetConfig};
use crate::objective::{Objective, ObjectiveConfig};
use crate::ops::Precision;
use crate::process::Process;
use crate::sampler::SampleConfig;
use crate::schedule::{NoiseSchedule, ScheduleConfig};
use crate::train::TrainConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that decides a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// How convolutions and products with weights multiply. Default f32.
    pub precision: Precision,
    /// The examples.
    pub data: DataConfig,
    /// The forward process.
    pub schedule: ScheduleConfig,
    /// The network.
    pub net: NetConfig,
    /// The backward step.
    pub kernel: KernelConfig,
    /// What is minimised.
    pub objective: ObjectiveConfig,
    /// How.
    pub train: TrainConfig,
    /// How samples are drawn while training, and the default of `smd sample`.
    pub sample: SampleConfig,
}

/// `[data]`: where examples come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A folder of images, an LMDB, zip or tar of them, CIFAR-10 binaries, or an IDX file. Also `--data PATH`.
    pub path: Option<PathBuf>,
    /// A Gaussian mixture instead: "grid-7x7", or a table of weights, means and one of stds, variances and
    /// covariances.
    pub mixture: Option<MixtureSource>,
    /// Side of the square that images are resized and cropped to; default: their own size.
    pub size: Option<usize>,
    /// 1 (grey) or 3 (colour); default: that of the images.
    pub channels: Option<usize>,
    /// Whether half of the examples are mirrored. Default false.
    pub flip: bool,
    /// Whether unreadable images are counted and left out. Default false: they are errors.
    pub skip_bad: bool,
    /// At most so many images.
    pub limit: Option<usize>,
    /// `[H, W, C]` of an example; filled in when the data is opened.
    pub shape: Option<[usize; 3]>,
}

/// A mixture by name or by its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MixtureSource {
    /// "grid-7x7".
    Name(String),
    /// Weights, means and spreads.
    Parts(MixtureConfig),
}

impl MixtureSource {
    /// The mixture.
    ///
    /// # Errors
    /// An unknown name, or parts that are no mixture.
    pub fn mixture(&self) -> Result<GaussianMixture, ConfigError> {
        match self {
            Self::Name(name) if name == "grid-7x7" => Ok(GaussianMixture::grid_7x7()),
            Self::Name(name) => {
                let problem = format!("is \"{name}\"; the built-in mixture is \"grid-7x7\"");
                Err(ConfigError::invalid("data.mixture", problem))
            }
            Self::Parts(parts) => Ok(GaussianMixture::from_config(parts)?),
        }
    }
}

impl RunConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// The first problem, with its line, and for an unknown field the nearest that exists. `origin`
    /// names the text in the message.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, ConfigError> {
        overrides::parse(text, origin)
    }

    /// The config without what [`RunConfig::fit`] filled in: it fits other examples too.
    pub fn unfitted(mut self) -> Self {
        self.data.shape = None;
        self
    }

    /// The whole tree as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a config is plain data")
    }

    /// Checks everything but the data itself.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        NoiseSchedule::new(&self.schedule)?;
        self.train.validate()?;
        self.sample.validate(self.schedule.steps)?;
        self.objective.validate(&self.kernel)?;
        self.kernel.check_steps(self.schedule.steps)?;
        if let Some(shape) = self.data.shape {
            if shape.contains(&0) {
                return Err(ConfigError::invalid("data.shape", "has a 0"));
            }
            self.net.validate(shape)?;
            self.kernel.validate(shape)?;
        }
        Ok(())
    }

    /// Opens the data and fills in what depends on it.
    ///
    /// # Errors
    /// Data that cannot be read, or a config that does not fit it.
    pub fn resolve(&mut self) -> Result<Examples, ConfigError> {
        let examples = match (&self.data.path, &self.data.mixture) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::invalid(
                    "data",
                    "has both path and mixture; keep one",
                ));
            }
            (None, None) => {
                let problem = "is missing: name a folder with --data PATH, or set data.mixture";
                return Err(ConfigError::invalid("data.path", problem));
            }
            (None, Some(mixture)) => Examples::Mixture(mixture.mixture()?),
            (Some(path), None) => {
                let options = ReadOptions {
                    size: self.data.size,
                    channels: self.data.channels,
                    skip_bad: self.data.skip_bad,
                    limit: self.data.limit,
                };
                Examples::Images(data::open(path, &options)?)
            }
        };
        self.fit(&examples)?;
        Ok(examples)
    }

    /// Fills in what depends on the examples.
    ///
    /// # Errors
    /// A config that does not fit them.
    pub fn fit(&mut self, examples: &Examples) -> Result<(), ConfigError> {
        let found = examples.shape();
        if let Some(shape) = self.data.shape.filter(|&shape| shape != found) {
            let problem =
                format!("is {shape:?}, but the examples are {found:?}; leave it out of a new run");
            return Err(ConfigError::invalid("data.shape", problem));
        }
        let is_new = self.data.shape.replace(found).is_none();
        self.validate()?;
        if is_new {
            self.net.check_attention(found[0])?;
            self.kernel.check_attention(found[0])?;
        }
        Ok(())
    }

    /// `[H, W, C]` of an example.
    ///
    /// # Errors
    /// Before the data was opened.
    pub fn shape(&self) -> Result<[usize; 3], ConfigError> {
        let missing =
            || ConfigError::invalid("data.shape", "is missing: the data was never opened");
        self.data.shape.ok_or_else(missing)
    }

    /// Builds the model with its initial weights.
    ///
    /// # Errors
    /// A config that does not pass [`RunConfig::validate`], or without a shape.
    pub fn denoiser(&self, device: &burn::tensor::Device) -> Result<Denoiser, ConfigError> {
        self.validate()?;
        let shape = self.shape()?;
        let process = Arc::new(Process::new(NoiseSchedule::new(&self.schedule)?));
        let mut init = Init::new(self.train.seed, device).with_precision(self.precision);
        let parts = Parts {
            shape,
            prediction: self.objective.prediction,
            objective: self.objective.kind(&self.kernel),
            process,
        };
        Ok(self.kernel.init(&self.net, parts, &mut init))
    }

    /// What the loss of step `step` depends on.
    pub fn objective(&self, step: u64) -> Objective {
        let objective = &self.objective;
        let warmup = objective.kl_warmup_steps.max(1);
        Objective {
            kind: objective.kind(&self.kernel),
            prediction: objective.prediction,
            weight: objective.weight,
            balance: objective.balance,
            step_var: self.sample.step_var,
            etas: objective.etas(&self.kernel),
            exponent: objective.exponent,
            repulsion: objective.repulsion,
            importance: objective.importance,
            kl_weight: (step as f64 / warmup as f64).min(1.0),
        }
    }

    /// Makes the backward step a soft mixture, unless it is one, with the latent of a preset's size.
    pub fn add_soft_mixture(&mut self) {
        if matches!(self.kernel, KernelConfig::SoftMixture(_)) {
            return;
        }
        let d_latent = if matches!(self.net, NetConfig::AuthorsUnet(_)) {
            100
        } else {
            32
        };
        let hypernet = HyperNetConfig {
            d_latent,
            layers: 2,
        };
        self.kernel = KernelConfig::SoftMixture(SoftMixtureConfig {
            hypernet: Some(hypernet),
            ..SoftMixtureConfig::default()
        });
    }
}

/// Names and texts of the presets.
pub const PRESETS: [(&str, &str); 4] = [
    ("ddpm-cifar10", include_str!("../presets/ddpm-cifar10.toml")),
    (
        "ddpm-fashion-mnist",
        include_str!("../presets/ddpm-fashion-mnist.toml"),
    ),
    (
        "authors-dim64",
        include_str!("../presets/authors-dim64.toml"),
    ),
    ("gmm-7x7", include_str!("../presets/gmm-7x7.toml")),
];

/// The text of a preset.
///
/// # Errors
/// An unknown name; the message has the names there are.
pub fn preset(name: &str) -> Result<&'static str, ConfigError> {
    PRESETS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
        .ok_or_else(|| {
            let known: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            ConfigError::invalid(
                "--preset",
                format!("\"{name}\" is unknown; there are {}", known.join(", ")),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_survives_a_round_trip() {
        for (name, text) in PRESETS {
            let mut config = RunConfig::from_toml(text, name).unwrap();
            config.data.shape = Some(match name {
                "gmm-7x7" => [1, 1, 2],
                "ddpm-fashion-mnist" => [28, 28, 1],
                _ => [32, 32, 3],
            });
            config.validate().unwrap();
            let again = RunConfig::from_toml(&config.to_toml(), "again").unwrap();
            assert_eq!(config, again, "{name}");
            config.add_soft_mixture();
            config.validate().unwrap();
            let again = RunConfig::from_toml(&config.to_toml(), "again").unwrap();
            assert_eq!(config, again, "{name} with SMD");
        }
    }

    #[test]
    fn the_preset_of_ho_et_al_has_their_size() {
        let mut config = RunConfig::from_toml(preset("ddpm-cifar10").unwrap(), "preset").unwrap();
        config.data.shape = Some([32, 32, 3]);
        let denoiser = config.denoiser(&burn::tensor::Device::default()).unwrap();
        let count: usize = crate::nn::params::infos(&denoiser)
            .iter()
            .map(|info| info.len())
            .sum();
        // Published: 35.7 M.
        assert_eq!(count, 35_746_307);
    }

    #[test]
    fn a_typo_names_line_and_nearest_field() {
        let text = "[train]\nsteps = 5\nbtach = 3\n";
        let message = RunConfig::from_toml(text, "run.toml")
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "run.toml: line 3: unknown field `btach`; did you mean `batch`?"
        );
        let text = "[net]\nkind = \"mlp\"\nblokcs = 3\n";
        let message = RunConfig::from_toml(text, "run.toml")
            .unwrap_err()
            .to_string();
        assert!(message.contains("did you mean `blocks`?"), "{message}");
    }

    #[test]
    fn a_size_that_the_network_cannot_halve_names_one_that_it_can() {
        let mut config = RunConfig::from_toml(preset("ddpm-cifar10").unwrap(), "preset").unwrap();
        config.data.shape = Some([30, 30, 3]);
        let message = config.validate().unwrap_err().to_string();
        assert!(
            message.contains("divisible by 8") && message.contains("data.size = 32"),
            "{message}"
        );
    }

    #[test]
    fn settings_come_after_the_file() {
        let config = set(
            preset("gmm-7x7").unwrap(),
            "preset",
            &["schedule.steps=8".into()],
        )
        .unwrap();
        assert_eq!(config.schedule.steps, 8);
        let message = set("", "none", &["train.stps=8".into()])
            .unwrap_err()
            .to_string();
        assert!(message.contains("did you mean `steps`?"), "{message}");
        let message = set("", "none", &["train".into()]).unwrap_err().to_string();
        assert!(message.contains("key=value"), "{message}");
        let message = set("", "none", &["schedule.steps=0".into()])
            .unwrap()
            .validate()
            .unwrap_err();
        assert_eq!(
            message.to_string(),
            "schedule.steps is 0, must be at least 1"
        );
    }

    #[test]
    fn an_unfitted_config_fits_other_examples() {
        let mut config = RunConfig::from_toml(preset("gmm-7x7").unwrap(), "preset").unwrap();
        config.resolve().unwrap();
        let other = MixtureConfig {
            means: vec![vec![0.0; 3]],
            stds: Some(vec![0.1]),
            ..MixtureConfig::default()
        };
        config.data.mixture = Some(MixtureSource::Parts(other));
        let message = config.resolve().unwrap_err().to_string();
        assert_eq!(
            message,
            "data.shape is [1, 1, 2], but the examples are [1, 1, 3]; leave it out of a new run"
        );
        let mut config = config.unfitted();
        assert!(!config.to_toml().contains("shape"));
        config.resolve().unwrap();
    }

    #[test]
    fn docs_configs_md_has_every_field_with_its_default() {
        let config = |text: &str| RunConfig::from_toml(text, "docs/configs.md").unwrap();
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        let blocks: Vec<&str> = include_str!("../../../docs/configs.md")
            .split("```toml\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap())
            .collect();
        let [
            defaults,
            authors,
            mlp,
            soft_mixture,
            late,
            codebook,
            mixture,
        ] = blocks[..]
        else {
            panic!("{} blocks", blocks.len());
        };
        let all = RunConfig::default();
        assert_eq!(table(defaults), table(&all.to_toml()));
        for (kind, text) in [("authors-unet", authors), ("mlp", mlp)] {
            let of_kind = config(&format!("net.kind = \"{kind}\"")).to_toml();
            assert_eq!(table(text)["net"], table(&of_kind)["net"]);
        }

        let mut images = config(soft_mixture);
        images.data.shape = Some([32, 32, 3]);
        images.validate().unwrap();
        let kernel = SoftMixtureConfig {
            hypernet: Some(HyperNetConfig::default()),
            net: Some(all.net.latent()),
            ..SoftMixtureConfig::default()
        };
        assert_eq!(images.net, all.net);
        assert_eq!(images.kernel, KernelConfig::SoftMixture(kernel));

        for (text, kernel) in [
            (late, "kernel = { kind = \"soft-mixture\", late = {} }"),
            (codebook, "kernel.kind = \"codebook\""),
            (mixture, "kernel.kind = \"mixture\""),
        ] {
            let mut vectors = config(text);
            vectors.resolve().unwrap();
            assert_eq!(vectors.kernel, config(kernel).kernel);
        }
    }
}

//! Where `smd train` and `smd bench` take their config from.

use anyhow::Context;
use smd::config::{self, RunConfig};
use std::fs;
use std::path::{Path, PathBuf};

/// A config in a file or a built-in one, and settings on top.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigSource {
    /// A config in TOML; see docs/configs.md.
    #[arg(value_name = "CONFIG.toml", conflicts_with = "preset")]
    pub config: Option<PathBuf>,
    /// A built-in config: ddpm-cifar10, ddpm-fashion-mnist, authors-dim64, gmm-7x7.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A setting on top of the config, e.g. train.lr=1e-4; may be given again.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

impl ConfigSource {
    /// The config with its settings, and a name for its run.
    ///
    /// # Errors
    /// Neither file nor preset, a file that cannot be read, or a wrong field.
    pub fn read(&self) -> anyhow::Result<(RunConfig, String)> {
        match (&self.config, &self.preset) {
            (Some(path), _) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                Ok((self.read_file(path)?, stem.into_owned()))
            }
            (None, Some(preset)) => {
                let text = config::preset(preset)?;
                let config = config::set(text, &format!("preset {preset}"), &self.settings)?;
                Ok((config, preset.clone()))
            }
            (None, None) => {
                let names: Vec<&str> = config::PRESETS.iter().map(|(name, _)| *name).collect();
                anyhow::bail!(
                    "which config? Name a CONFIG.toml or a preset: --preset {}",
                    names.join(" | ")
                );
            }
        }
    }

    fn read_file(&self, path: &Path) -> anyhow::Result<RunConfig> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("reading the config {}", path.display()))?;
        Ok(config::set(
            &text,
            &path.display().to_string(),
            &self.settings,
        )?)
    }
}

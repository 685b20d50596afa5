//! Checkpoints: one safetensors file with everything a run is.
//!
//! The header's metadata holds the format, the step, what the examples were, and the resolved config
//! as TOML; to sample, the file alone is enough. Tensors are `weights/NAME`, `ema/DECAY/NAME`,
//! `adam/m/NAME` and `adam/v/NAME` in f32 with PyTorch's shapes. See `docs/formats.md`.

mod write;

use crate::config::RunConfig;
use crate::denoise::Denoiser;
use crate::error::CheckpointError;
use crate::nn::params::{self, Info};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The newest format this program reads, and the one it writes.
pub const FORMAT: u32 = 1;

/// Which weights of a checkpoint a model gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Weights {
    /// The last average of the config, or the weights themselves where there is none.
    #[default]
    Best,
    /// The weights as the optimiser left them.
    Raw,
    /// The average of this decay, by its name, e.g. "0.9999".
    Ema(String),
}

impl From<&str> for Weights {
    /// "none" for the weights themselves, else the average of that decay.
    fn from(name: &str) -> Self {
        match name {
            "none" => Self::Raw,
            name => Self::Ema(name.into()),
        }
    }
}

/// The state of a run; its numbers are rows over all parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// What the examples were, by [`Examples::identity`](crate::data::Examples::identity).
    pub data: Option<String>,
    /// `(t, r_t)`: the latent's influence at some steps, by
    /// [`Trainer::influence`](crate::train::Trainer::influence); empty for a kernel without one.
    pub influence: Vec<(usize, f64)>,
    /// The weights.
    pub weights: Vec<f32>,
    /// The averages, in the order of the config; may be empty.
    pub emas: Vec<Vec<f32>>,
    /// First and second moments of the optimiser; `None` before the first step.
    pub moments: Option<[Vec<f32>; 2]>,
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: RunConfig,
    step: u64,
    data: Option<String>,
    influence: Vec<(usize, f64)>,
    header: Metadata,
    /// Where the tensors begin in `bytes`.
    start: usize,
    bytes: Vec<u8>,
}

impl Checkpoint {
    /// Opens a checkpoint, or the newest one of a run's folder.
    ///
    /// # Errors
    /// A file that is missing, cut off, from a newer format, or without a valid config.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let path = newest(path)?;
        let read = |source| CheckpointError::Read {
            path: path.clone(),
            source,
        };
        let bytes = fs::read(&path).map_err(read)?;
        let damaged = |source| CheckpointError::Damaged {
            path: path.clone(),
            source,
        };
        // Also checks that every tensor lies inside the file.
        let (length, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.into()))?;
        let empty = HashMap::new();
        let metadata = header.metadata().as_ref().unwrap_or(&empty);
        let field = |name: &str| {
            metadata.get(name).ok_or_else(|| CheckpointError::Missing {
                path: path.clone(),
                what: format!("the field {name} of its header (is it a checkpoint of smd?)"),
            })
        };
        let number = |name: &str| {
            field(name)?
                .parse::<u64>()
                .map_err(|error| damaged(error.into()))
        };
        let format = number("smd.format")? as u32;
        if format > FORMAT {
            return Err(CheckpointError::Newer {
                path,
                found: format,
                expected: FORMAT,
            });
        }
        let step = number("smd.step")?;
        // Older files do not have it.
        let data = metadata.get("smd.data").cloned();
        let influence = metadata.get("smd.influence").map(String::as_str);
        let influence = influence.unwrap_or_default().split_whitespace();
        let influence = influence.filter_map(parse_influence).collect();
        let refused = |source| CheckpointError::Config {
            path: path.clone(),
            source,
        };
        let config = RunConfig::from_toml(field("smd.config")?, "config").map_err(refused)?;
        config.validate().map_err(refused)?;
        Ok(Self {
            path,
            config,
            step,
            data,
            influence,
            header,
            start: 8 + length,
            bytes,
        })
    }

    /// The resolved config of the run.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What the examples were, by [`Examples::identity`](crate::data::Examples::identity); `None` for
    /// draws of a mixture, after an import, and in older files.
    pub fn data(&self) -> Option<&str> {
        self.data.as_deref()
    }

    /// `(t, r_t)`: the latent's influence at some steps when it was saved; empty for a kernel without a
    /// latent, and in older files.
    pub fn influence(&self) -> &[(usize, f64)] {
        &self.influence
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the averages in the file, in the order of the config.
    pub fn emas(&self) -> Vec<String> {
        let names = self.header.offset_keys();
        let has = |decay: &String| {
            let prefix = format!("ema/{decay}/");
            names.iter().any(|name| name.starts_with(&prefix))
        };
        self.config
            .train
            .ema
            .iter()
            .map(f64::to_string)
            .filter(has)
            .collect()
    }

    /// The name of the average that `weights` means here; `None` for the weights themselves.
    ///
    /// # Errors
    /// An average that is not there.
    pub fn average(&self, weights: &Weights) -> Result<Option<String>, CheckpointError> {
        let mut emas = self.emas();
        match weights {
            Weights::Raw => Ok(None),
            Weights::Best => Ok(emas.pop()),
            Weights::Ema(name) => {
                // By value: 0.90 means the average named 0.9.
                let decay = name.parse::<f64>();
                if let Some(at) = emas.iter().position(|known| known.parse::<f64>() == decay) {
                    return Ok(Some(emas.swap_remove(at)));
                }
                emas.push("none".into());
                Err(CheckpointError::Ema {
                    path: self.path.clone(),
                    found: name.clone(),
                    available: emas,
                })
            }
        }
    }

    /// The model with the chosen weights.
    ///
    /// # Errors
    /// An average that is not there, or a tensor that is missing or of another shape.
    pub fn denoiser(
        &self,
        weights: &Weights,
        device: &Device,
    ) -> Result<Denoiser, CheckpointError> {
        let prefix = match self.average(weights)? {
            Some(decay) => format!("ema/{decay}/"),
            None => "weights/".to_owned(),
        };
        let refused = |source| CheckpointError::Config {
            path: self.path.clone(),
            source,
        };
        let denoiser = self.config.denoiser(device).map_err(refused)?;
        let infos = params::infos(&denoiser);
        let rows: Result<Vec<Tensor<1>>, CheckpointError> = infos
            .iter()
            .map(|info| {
                let values = self.numbers(&prefix, info)?;
                Ok(Tensor::from_data(
                    TensorData::new(values, [info.len()]),
                    device,
                ))
            })
            .collect();
        Ok(params::with_values(denoiser, &rows?))
    }

    /// The state of the training, with the averages of the decays `emas`.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn state(&self, infos: &[Info], emas: &[f64]) -> Result<State, CheckpointError> {
        let row = |prefix: &str| -> Result<Vec<f32>, CheckpointError> {
            let mut all = Vec::new();
            for info in infos {
                all.extend(self.numbers(prefix, info)?);
            }
            Ok(all)
        };
        let names = self.header.offset_keys();
        let has_moments = names.iter().any(|name| name.starts_with("adam/"));
        let emas = emas.iter().map(|decay| row(&format!("ema/{decay}/")));
        Ok(State {
            step: self.step,
            data: self.data.clone(),
            influence: self.influence.clone(),
            weights: row("weights/")?,
            emas: emas.collect::<Result<_, _>>()?,
            moments: if has_moments {
                Some([row("adam/m/")?, row("adam/v/")?])
            } else {
                None
            },
        })
    }

    /// Writes a checkpoint beside `path` and renames it over it.
    ///
    /// # Errors
    /// A folder that cannot be written; an older file of that name is then as it was.
    pub fn write(
        path: &Path,
        config: &RunConfig,
        infos: &[Info],
        state: &State,
    ) -> Result<(), CheckpointError> {
        write::write(path, config, infos, state).map_err(|source| CheckpointError::Write {
            path: path.into(),
            source,
        })
    }

    fn numbers(&self, prefix: &str, info: &Info) -> Result<Vec<f32>, CheckpointError> {
        let name = format!("{prefix}{}", info.name);
        let missing = |what: String| CheckpointError::Missing {
            path: self.path.clone(),
            what,
        };
        let tensor = self
            .header
            .info(&name)
            .ok_or_else(|| missing(format!("the tensor {name}")))?;
        if tensor.dtype != Dtype::F32 {
            return Err(missing(format!("the tensor {name} in f32")));
        }
        if tensor.shape != info.shape {
            return Err(CheckpointError::Shape {
                path: self.path.clone(),
                name,
                found: tensor.shape.clone(),
                expected: info.shape.clone(),
            });
        }
        let (from, to) = tensor.data_offsets;
        let (numbers, _) = self.bytes[self.start + from..self.start + to].as_chunks::<4>();
        Ok(numbers.iter().copied().map(f32::from_le_bytes).collect())
    }
}

/// `t:r_t`, as it is written.
fn parse_influence(text: &str) -> Option<(usize, f64)> {
    let (t, r) = text.split_once(':')?;
    Some((t.parse().ok()?, r.parse().ok()?))
}

/// The file name of the checkpoint at `step`.
pub fn file_name(step: u64) -> String {
    format!("step-{step:09}.safetensors")
}

/// The checkpoints of a run's folder, oldest first.
///
/// # Errors
/// A folder that cannot be read.
pub fn list(run: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let folder = run.join("checkpoints");
    let read = |source| CheckpointError::Read {
        path: folder.clone(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with("step-") && name.ends_with(".safetensors") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// `path` itself, or the newest checkpoint of the run's folder `path`.
fn newest(path: &Path) -> Result<PathBuf, CheckpointError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    if !path.join("checkpoints").is_dir() {
        return Err(CheckpointError::NoRun { path: path.into() });
    }
    list(path)?.pop().ok_or_else(|| CheckpointError::Missing {
        path: path.to_owned(),
        what: "a file checkpoints/step-*.safetensors (the run has not saved yet)".into(),
    })
}

#[cfg(test)]
mod tests;

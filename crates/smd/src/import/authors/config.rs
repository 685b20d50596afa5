//! The config that a checkpoint of theirs was trained with.
//!
//! An option that is given counts most; then what the file's header says (`config`, a JSON object) or
//! the `config.json` that their `main.py` writes beside its checkpoints; then `cases/run_smd.sh`.

use super::Options;
use super::sizes::{Sizes, shape};
use crate::config::{DataConfig, RunConfig};
use crate::denoise::{KernelConfig, SoftMixtureConfig};
use crate::error::ImportError;
use crate::import::TensorFile;
use crate::nn::{AuthorsUnetConfig, HyperNetConfig, NetConfig};
use crate::objective::{LossWeight, ObjectiveConfig};
use crate::ops::Precision;
use crate::process::{Prediction, StepVar};
use crate::sampler::SampleConfig;
use crate::schedule::{NoiseSchedule, ScheduleConfig, ScheduleKind};
use crate::train::TrainConfig;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IntoDeserializer, value};
use std::fs;

/// What a checkpoint's origin says about it, under our names or those of `main.py`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Notes {
    #[serde(alias = "attn_heads")]
    heads: Option<usize>,
    #[serde(alias = "head_dim")]
    d_head: Option<usize>,
    #[serde(alias = "resnet_groups")]
    groups: Option<usize>,
    #[serde(alias = "img_size")]
    image: Option<usize>,
    #[serde(alias = "denoising_iters")]
    timesteps: Option<usize>,
    /// `g_phi` has every size of the U-Net over `2^exp_scale`.
    exp_scale: Option<u32>,
}

impl Notes {
    fn read(file: &TensorFile) -> Result<Self, ImportError> {
        if let Some(text) = file.text("config") {
            return serde_json::from_str(text).map_err(|error| ImportError::Size {
                path: file.path().into(),
                problem: format!("`config` in its header cannot be read: {error}"),
            });
        }
        // Any other program may write a file of this name: one that does not fit says nothing.
        let text = fs::read_to_string(file.path().with_file_name("config.json"));
        let notes = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        Ok(notes.unwrap_or_default())
    }

    /// The size of `g_phi` that belongs to a size of the U-Net.
    fn latent(&self, size: Option<usize>) -> Option<usize> {
        Some(size?.checked_shr(self.exp_scale?).unwrap_or(0))
    }
}

/// The config of the checkpoint whose weights lie below `root`; without averages.
pub(super) fn resolve(
    file: &TensorFile,
    root: &str,
    options: &Options,
) -> Result<RunConfig, ImportError> {
    let notes = Notes::read(file)?;
    let sizes = Sizes::read(file, &format!("{root}model"))?;
    let [heads, d_head] = sizes.heads(
        file,
        options.heads.or(notes.heads),
        options.d_head.or(notes.d_head),
        [4, 32],
        "--heads and --d-head",
    )?;
    let groups = options.groups.or(notes.groups).unwrap_or(4);
    let size = options.size.or(notes.image).unwrap_or(32);
    let channels = sizes.c_in;
    Ok(RunConfig {
        precision: Precision::F32,
        data: DataConfig {
            size: Some(size),
            channels: Some(channels),
            shape: Some([size, size, channels]),
            flip: true,
            ..DataConfig::default()
        },
        schedule: schedule(file, root, options, &notes)?,
        net: unet(sizes, heads, d_head, groups),
        kernel: kernel(file, root, options, &notes)?,
        objective: ObjectiveConfig {
            prediction: word(file, "objective")?.unwrap_or(Prediction::V),
            weight: LossWeight::Eps,
            ..ObjectiveConfig::default()
        },
        train: TrainConfig {
            lr: 1e-4,
            adam_betas: [0.9, 0.99],
            ..TrainConfig::default()
        },
        sample: SampleConfig {
            step_var: StepVar::FixedSmall,
            ..SampleConfig::default()
        },
    })
}

fn unet(sizes: Sizes, heads: usize, d_head: usize, groups: usize) -> NetConfig {
    NetConfig::AuthorsUnet(AuthorsUnetConfig {
        dim: sizes.dim,
        multipliers: sizes.multipliers,
        groups,
        heads,
        d_head,
    })
}

/// A soft mixture where the U-Net has hypernetworks.
fn kernel(
    file: &TensorFile,
    root: &str,
    options: &Options,
    notes: &Notes,
) -> Result<KernelConfig, ImportError> {
    let scales = format!("{root}model.in_hypernet.scales");
    if file.shape(&scales).is_none() {
        return Ok(KernelConfig::default());
    }
    let [layers] = shape(file, &scales)?;
    let [d_latent, _] = shape(file, &format!("{root}model.in_hypernet.in_proj.weight"))?;
    let sizes = Sizes::read(file, &format!("{root}identifier"))?;
    let [heads, d_head] = sizes.heads(
        file,
        options.latent_heads.or(notes.latent(notes.heads)),
        options.latent_d_head.or(notes.latent(notes.d_head)),
        [1, 8],
        "--latent-heads and --latent-d-head",
    )?;
    let groups = options
        .latent_groups
        .or(notes.latent(notes.groups))
        .unwrap_or(1);
    Ok(KernelConfig::SoftMixture(SoftMixtureConfig {
        hypernet: Some(HyperNetConfig { d_latent, layers }),
        net: Some(unet(sizes, heads, d_head, groups)),
        ..SoftMixtureConfig::default()
    }))
}

/// The schedule, held against the buffer `betas` where there is one.
fn schedule(
    file: &TensorFile,
    root: &str,
    options: &Options,
    notes: &Notes,
) -> Result<ScheduleConfig, ImportError> {
    let name = format!("{root}betas");
    let betas = match file.shape(&name) {
        Some(_) => Some(file.numbers(&name)?),
        None => None,
    };
    let steps = options
        .steps
        .or(betas.as_ref().map(Vec::len))
        .or(file.text("timesteps").and_then(|text| text.parse().ok()))
        .or(notes.timesteps);
    let config = ScheduleConfig {
        kind: match options.schedule {
            Some(kind) => kind,
            None => word(file, "schedule")?.unwrap_or(ScheduleKind::Sigmoid),
        },
        steps: steps.unwrap_or(1000),
    };
    let ours = NoiseSchedule::new(&config).map_err(|source| ImportError::Config {
        path: file.path().into(),
        source,
    })?;
    // Their sigmoid curve is computed in f32, which moves the last betas by up to 1e-4.
    let near = |(i, beta): (usize, &f32)| (ours.beta(i + 1) - f64::from(*beta)).abs() < 1e-3;
    match betas {
        Some(betas) if betas.len() != config.steps || !betas.iter().enumerate().all(near) => {
            let problem = format!(
                "its {} betas are not those of {} steps of the {:?} schedule; set --schedule and \
                 --steps as in its training",
                betas.len(),
                config.steps,
                config.kind
            );
            Err(ImportError::Size {
                path: file.path().into(),
                problem,
            })
        }
        _ => Ok(config),
    }
}

/// One of the words of a config, from the file's header.
fn word<T: DeserializeOwned>(file: &TensorFile, field: &str) -> Result<Option<T>, ImportError> {
    let Some(text) = file.text(field) else {
        return Ok(None);
    };
    let read: Result<T, value::Error> = T::deserialize(text.into_deserializer());
    read.map(Some).map_err(|error| ImportError::Size {
        path: file.path().into(),
        problem: format!("`{field}` in its header: {error}"),
    })
}

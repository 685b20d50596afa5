//! Checkpoints of the authors' code (vanderschaarlab/smd, commit 50172d8).
//!
//! Their trainer saves `model-N.pt`: weights and buffers of the diffusion under `model`, averages of
//! ema-pytorch under `ema` (`ema_model.*`), the optimiser under `opt`. A safetensors file with the
//! names of the weights is read too; all else in it is ignored.

mod config;
mod names;
mod sizes;

use super::TensorFile;
use crate::checkpoint::{Checkpoint, State};
use crate::config::RunConfig;
use crate::denoise::KernelConfig;
use crate::error::{CheckpointError, ImportError};
use crate::host;
use crate::nn::NetConfig;
use crate::nn::params::{self, Info};
use crate::schedule::ScheduleKind;
use std::collections::HashSet;
use std::path::Path;

/// What the tensors do not tell. `None` takes what the file's header or the `config.json` beside it
/// says, and then the value of the authors' `cases/run_smd.sh`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Attention heads of the U-Net; there 4.
    pub heads: Option<usize>,
    /// Channels of a head; there 32.
    pub d_head: Option<usize>,
    /// Groups of each group norm; there 4.
    pub groups: Option<usize>,
    /// Attention heads of `g_phi`; there 1.
    pub latent_heads: Option<usize>,
    /// Channels of a head of `g_phi`; there 8.
    pub latent_d_head: Option<usize>,
    /// Groups of each group norm of `g_phi`; there 1.
    pub latent_groups: Option<usize>,
    /// Height and width of the images; there 32.
    pub size: Option<usize>,
    /// Noise schedule; there sigmoid.
    pub schedule: Option<ScheduleKind>,
    /// `T`; the length of the buffer `betas`, or 1000.
    pub steps: Option<usize>,
}

/// A checkpoint of theirs in our terms.
#[derive(Debug)]
pub struct Imported {
    /// The resolved config.
    pub config: RunConfig,
    /// Our parameters.
    pub infos: Vec<Info>,
    /// Weights, the average if there is one, and the step.
    pub state: State,
}

/// The decay of the average that their trainer keeps.
const EMA_DECAY: f64 = 0.995;

/// Where averages are in a file of their trainer.
const AVERAGES: &str = "ema.ema_model.";

/// Reads a checkpoint of the authors' code.
///
/// # Errors
/// A file that is not one, is cut off, or has sizes that do not fit together or to `options`.
pub fn read(path: &Path, options: &Options) -> Result<Imported, ImportError> {
    let file = TensorFile::open(path)?;
    let root = root(&file)?;
    let mut config = config::resolve(&file, root, options)?;
    let refused = |source| ImportError::Config {
        path: path.into(),
        source,
    };
    let denoiser = config.denoiser(&host::device()).map_err(refused)?;
    let infos = params::infos(&denoiser);
    refuse_unexpected(&file, root, &config, &infos)?;
    let weights = row(&file, root, &config, &infos)?;
    let mut emas = Vec::new();
    config.train.ema.clear();
    if file.shape(&format!("{AVERAGES}{FIRST}")).is_some() {
        config.train.ema.push(EMA_DECAY);
        emas.push(row(&file, AVERAGES, &config, &infos)?);
    }
    let state = State {
        step: file.whole_number("step").unwrap_or(0),
        data: None,
        influence: Vec::new(),
        weights,
        emas,
        moments: None,
    };
    config.train.steps = config.train.steps.max(state.step);
    Ok(Imported {
        config,
        infos,
        state,
    })
}

impl Imported {
    /// Writes it as a checkpoint of ours.
    ///
    /// # Errors
    /// A folder that cannot be written; an older file of that name is then as it was.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        Checkpoint::write(path, &self.config, &self.infos, &self.state)
    }
}

/// The tensor by which their checkpoints are known.
const FIRST: &str = "model.init_conv.weight";

/// What comes before `model.` and `identifier.`: `model.` in a file of their trainer, else nothing.
fn root(file: &TensorFile) -> Result<&'static str, ImportError> {
    ["model.", ""]
        .into_iter()
        .find(|root| file.shape(&format!("{root}{FIRST}")).is_some())
        .ok_or_else(|| ImportError::NotTheAuthors {
            path: file.path().into(),
            name: FIRST.into(),
        })
}

/// Their name of our parameter.
fn their_name(config: &RunConfig, name: &str) -> String {
    let net = match &config.kernel {
        KernelConfig::SoftMixture(kernel) if name.starts_with("identifier.") => {
            kernel.net.as_ref().unwrap_or(&config.net)
        }
        _ => &config.net,
    };
    let stages = match net {
        NetConfig::AuthorsUnet(net) => net.multipliers.len(),
        _ => unreachable!("their networks are of this kind"),
    };
    names::theirs(name, stages)
}

/// All numbers below `root`, in the order of our parameters.
fn row(
    file: &TensorFile,
    root: &str,
    config: &RunConfig,
    infos: &[Info],
) -> Result<Vec<f32>, ImportError> {
    let mut row = Vec::with_capacity(infos.iter().map(Info::len).sum());
    for info in infos {
        let name = format!("{root}{}", their_name(config, &info.name));
        let found = file.shape(&name).unwrap_or(&info.shape);
        // A 1x1 convolution is a linear map of the channels.
        let pointwise = info.shape.len() == 2 && found == [&info.shape[..], &[1, 1]].concat();
        if !pointwise && found != info.shape {
            return Err(ImportError::Shape {
                path: file.path().into(),
                found: found.to_vec(),
                expected: format!("{:?} by the sizes of the other tensors", info.shape),
                name,
            });
        }
        row.extend(file.numbers(&name)?);
    }
    Ok(row)
}

/// A part that we would leave out is another model.
fn refuse_unexpected(
    file: &TensorFile,
    root: &str,
    config: &RunConfig,
    infos: &[Info],
) -> Result<(), ImportError> {
    let known: HashSet<String> = infos
        .iter()
        .map(|info| format!("{root}{}", their_name(config, &info.name)))
        .collect();
    let is_ours = |name: &str| {
        let name = name.strip_prefix(root).unwrap_or_default();
        // `eye` is a constant identity matrix.
        let is_part = name.starts_with("model.") || name.starts_with("identifier.");
        is_part && !name.ends_with(".eye")
    };
    match file
        .names()
        .into_iter()
        .find(|name| is_ours(name) && !known.contains(name))
    {
        Some(name) => Err(ImportError::Unexpected {
            path: file.path().into(),
            name,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;
    use safetensors::{Dtype, SafeTensors};
    use std::fs;
    use std::path::PathBuf;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name)
    }

    /// The golden checkpoint without the tensors that begin with `dropped`, and with `added`.
    fn changed(folder: &Path, dropped: &str, added: Option<(&str, Vec<usize>)>) -> PathBuf {
        let bytes = fs::read(golden("official_smd.safetensors")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let zeros = vec![0_u8; 4096];
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = tensors.tensors();
        tensors.retain(|(name, _)| !name.starts_with(dropped));
        if let Some((name, shape)) = added {
            let len = 4 * shape.iter().product::<usize>();
            let view = TensorView::new(Dtype::F32, shape, &zeros[..len]).unwrap();
            tensors.retain(|(other, _)| other != name);
            tensors.push((name.into(), view));
        }
        let path = folder.join("changed.safetensors");
        safetensors::serialize_to_file(tensors, header.metadata().clone(), &path).unwrap();
        path
    }

    fn refused(path: &Path, options: &Options) -> String {
        let error = read(path, options).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    }

    #[test]
    fn sizes_come_from_tensors_and_header() {
        let imported = read(&golden("official_smd.safetensors"), &Options::default()).unwrap();
        let config = &imported.config;
        assert_eq!(config.data.shape, Some([16, 16, 3]));
        assert_eq!(config.schedule.steps, 1000);
        let NetConfig::AuthorsUnet(net) = &config.net else {
            panic!("{:?}", config.net)
        };
        assert_eq!((net.dim, net.multipliers.as_slice()), (16, &[1, 2][..]));
        assert_eq!((net.groups, net.heads, net.d_head), (4, 2, 8));
        let KernelConfig::SoftMixture(kernel) = &config.kernel else {
            panic!("{:?}", config.kernel)
        };
        let hypernet = kernel.hypernet.as_ref().unwrap();
        assert_eq!((hypernet.d_latent, hypernet.layers), (12, 2));
        let Some(NetConfig::AuthorsUnet(net)) = &kernel.net else {
            panic!("{:?}", kernel.net)
        };
        assert_eq!((net.dim, net.groups, net.heads, net.d_head), (8, 1, 1, 8));
        assert!(imported.state.emas.is_empty() && config.train.ema.is_empty());
    }

    #[test]
    fn a_model_without_a_latent_is_a_gaussian() {
        let folder = tempfile::tempdir().unwrap();
        let path = changed(folder.path(), "identifier.", None);
        let message = refused(&path, &Options::default());
        assert!(
            message.contains("has no tensor identifier.init_conv.weight"),
            "{message}"
        );

        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = tensors.tensors();
        tensors.retain(|(name, _)| !name.contains("hypernet"));
        let path = folder.path().join("vanilla.safetensors");
        safetensors::serialize_to_file(tensors, None, &path).unwrap();
        let options = Options {
            heads: Some(2),
            ..Options::default()
        };
        let config = read(&path, &options).unwrap().config;
        assert_eq!(config.kernel, KernelConfig::default());
        let NetConfig::AuthorsUnet(net) = config.net else {
            panic!("{:?}", config.net)
        };
        // 2 heads share 16 channels.
        assert_eq!((net.heads, net.d_head), (2, 8));
        let message = refused(&path, &Options::default());
        assert!(message.contains("--heads and --d-head"), "{message}");
    }

    #[test]
    fn foreign_models_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let message = refused(&golden("ddpm_unet.safetensors"), &Options::default());
        assert!(
            message.contains("no checkpoint of the authors' code")
                && message.contains("model.init_conv.weight"),
            "{message}"
        );
        let learned = Some(("model.time_mlp.0.weights", vec![8]));
        let message = refused(
            &changed(folder.path(), "none", learned),
            &Options::default(),
        );
        assert!(
            message.contains("model.time_mlp.0.weights belongs to no part"),
            "{message}"
        );
        let wrong = Some(("model.ups.1.0.mlp.1.bias", vec![5]));
        let message = refused(&changed(folder.path(), "none", wrong), &Options::default());
        assert!(
            message.contains("model.ups.1.0.mlp.1.bias has shape [5], expected [32]"),
            "{message}"
        );
        let lost = changed(folder.path(), "model.mid_block1.block2.norm.bias", None);
        let message = refused(&lost, &Options::default());
        assert!(
            message.contains("has no tensor model.mid_block1.block2.norm.bias"),
            "{message}"
        );
    }

    #[test]
    fn options_that_contradict_the_tensors_are_refused() {
        let path = golden("official_smd.safetensors");
        let options = Options {
            heads: Some(3),
            ..Options::default()
        };
        let message = refused(&path, &options);
        assert!(message.contains("3 heads of 8"), "{message}");
        let options = Options {
            groups: Some(5),
            ..Options::default()
        };
        let message = refused(&path, &options);
        assert!(
            message.contains("net.groups is 5, must divide"),
            "{message}"
        );
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["official_smd.safetensors", "authors_tiny.pt"] {
            let bytes = fs::read(golden(name)).unwrap();
            let path = folder.path().join(name);
            for part in [7, 100, bytes.len() / 2, bytes.len() - 1] {
                fs::write(&path, &bytes[..part]).unwrap();
                let message = refused(&path, &Options::default());
                assert!(
                    message.contains("is cut off"),
                    "{name} at {part}: {message}"
                );
            }
        }
    }
}

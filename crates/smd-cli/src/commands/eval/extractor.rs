//! Which network makes the features, and where its weights are.

use anyhow::Context;
use burn::tensor::Device;
use smd::eval::extractor::{Extractor, Preparation};
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct ExtractorArgs {
    /// The network, and whose way of resizing: pytorch-fid, clean and adm are Inception, whose distance is
    /// FID; lite0 is EfficientNet-Lite0, whose distance is FD-EffNetLite0 and never FID.
    #[arg(long, value_name = "NAME", default_value = "pytorch-fid")]
    extractor: Name,
    /// Its weights. Default for Inception: where torch.hub keeps them.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Take weights that are not the published ones; the distance then says so in its name.
    #[arg(long)]
    unchecked_weights: bool,
    /// Images in one pass; changes speed and memory.
    #[arg(long, value_name = "N", default_value = "32")]
    batch: NonZeroUsize,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    PytorchFid,
    Clean,
    Adm,
    Lite0,
}

impl Name {
    fn preparation(self) -> Preparation {
        match self {
            Self::PytorchFid => Preparation::PytorchFid,
            Self::Clean => Preparation::Clean,
            Self::Adm => Preparation::Adm,
            Self::Lite0 => Preparation::Lite0,
        }
    }
}

/// Where torch.hub keeps what it fetched, and pytorch-fid finds its weights.
fn torch_hub() -> Option<PathBuf> {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let hub = home("TORCH_HOME").or_else(|| Some(home("HOME")?.join(".cache/torch")))?;
    Some(hub.join("hub/checkpoints/pt_inception-2015-12-05-6726825d.pth"))
}

/// The extractor, opened when the first image comes: files of features need none.
pub struct Lazy<'a> {
    args: &'a ExtractorArgs,
    device: &'a Device,
    open: Option<Extractor>,
}

impl<'a> Lazy<'a> {
    pub fn new(args: &'a ExtractorArgs, device: &'a Device) -> Self {
        let open = None;
        Self { args, device, open }
    }

    pub fn batch(&self) -> usize {
        self.args.batch.get()
    }

    pub fn get(&mut self) -> anyhow::Result<&Extractor> {
        if self.open.is_none() {
            self.open = Some(self.read()?);
        }
        self.open.as_ref().context("just opened")
    }

    fn read(&self) -> anyhow::Result<Extractor> {
        let preparation = self.args.extractor.preparation();
        let path = match &self.args.weights {
            Some(path) => path.clone(),
            None => {
                let found = torch_hub().filter(|_| preparation != Preparation::Lite0);
                let found = found.filter(|path| path.is_file());
                found.with_context(|| preparation.where_from())?
            }
        };
        anyhow::ensure!(
            path.is_file(),
            "{} is no file: {}",
            path.display(),
            preparation.where_from()
        );
        let extractor = Extractor::open(preparation, &path, self.device)?;
        anyhow::ensure!(
            self.args.unchecked_weights || extractor.id().published,
            "{} has SHA-256 {} and is not the file that numbers are published with: {}; or say \
             --unchecked-weights",
            path.display(),
            extractor.id().weights_sha256,
            preparation.where_from()
        );
        Ok(extractor)
    }
}

//! `smd diagnose`: what holds a trained model back at few steps.

pub(super) mod curve;
mod memory;
mod on_data;
mod on_mixture;
mod steps;

use super::theory::{at_least_2, read_mixture};
use crate::say::say;
use burn::tensor::Device;
use smd::checkpoint::{Checkpoint, Weights};
use smd::config::RunConfig;
use smd::gmm::GaussianMixture;
use std::path::PathBuf;

/// Say what holds a trained model back at few steps.
///
/// On a known mixture: M_t of every step, beside the floors of Gaussian steps, and whether the latent is
/// used (r_t: 0 ignored, 1 as random as the truth). On images, of any model, a foreign one included: the
/// nats that Gaussian steps lose at 3 to 50 steps, from the model's errors over noise levels.
#[derive(Debug, clap::Args)]
pub struct DiagnoseArgs {
    /// A checkpoint, or a run's folder for its newest one.
    #[arg(value_name = "CKPT|RUN")]
    checkpoint: PathBuf,
    /// `grid-7x7`, or a TOML file with a [mixture]. Default: that of the model's config, if it has one.
    #[arg(long, value_name = "MIXTURE.toml|grid-7x7", conflicts_with = "data")]
    mixture: Option<PathBuf>,
    /// Examples, best those that the model was not trained on: a folder of images, CIFAR-10 binaries, or
    /// an IDX file.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Draws of (x_t, x_{t-1}) for each step of a mixture; examples of --data, at most.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = at_least_2)]
    points: usize,
    /// Draws of a continuous latent at each; at t = 1 eight times as many.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_2)]
    etas: usize,
    /// Names every draw.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Average of the weights by its decay, e.g. 0.9999, or none. Default: the config's last one.
    #[arg(long, value_name = "NAME")]
    ema: Option<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(args: DiagnoseArgs, device: &Device) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let weights = args.ema.as_deref().map_or(Weights::Best, Weights::from);
    let config = checkpoint.config();
    if let Some(path) = &args.data {
        let examples = curve::examples_at(path, config, args.points)?;
        let denoiser = checkpoint.denoiser(&weights, device)?;
        let memory = memory::measure(&denoiser, config, &examples, args.points, args.seed, device)?;
        let (points, seed, var) = (args.points, args.seed, config.sample.step_var);
        return on_data::run(
            &denoiser, &examples, points, seed, var, memory, args.json, device,
        );
    }
    let mixture = mixture(&args, config)?;
    let shape = config.shape()?;
    anyhow::ensure!(
        shape == [1, 1, mixture.dim()],
        "the mixture has {} dimensions, but the model was trained on examples of {shape:?}; name another \
         --mixture, or --data",
        mixture.dim()
    );
    let denoiser = checkpoint.denoiser(&weights, device)?;
    on_mixture::run(&denoiser, config, &mixture, &args, device)
}

/// The mixture to measure on: the one asked for, or that of the training.
fn mixture(args: &DiagnoseArgs, config: &RunConfig) -> anyhow::Result<GaussianMixture> {
    match (&args.mixture, &config.data.mixture) {
        (Some(name), _) => read_mixture(name),
        (None, Some(mixture)) => Ok(mixture.mixture()?),
        (None, None) => anyhow::bail!(
            "{} was trained on images, whose law is not known: name some with --data PATH",
            args.checkpoint.display()
        ),
    }
}

/// Below it a latent is ignored.
const COLLAPSED: f64 = 0.01;

/// Says that a latent is ignored, why, and what helps.
fn warn(collapsed: bool) {
    if collapsed {
        say(
            "warning: the latent is ignored (r_t below 0.01 at every step): this is a Gaussian denoiser. The \
             paper's objective has its minimum there; train with objective.kind = \"energy\" and \
             [kernel.late], or with kernel.kind = \"mixture\"",
        );
    }
}

//! `smd calibrate`: the best variances of a Gaussian step, in closed form (Analytic-DPM).

use super::diagnose::curve;
use super::theory::at_least_2;
use burn::tensor::Device;
use smd::checkpoint::{Checkpoint, State, Weights};
use smd::denoise::{GaussianConfig, GaussianVar, KernelConfig};
use smd::host;
use smd::nn::params;
use std::io::{self, Write};
use std::path::PathBuf;

/// Give a trained Gaussian step the best variance for each t, without training.
///
/// The best one-number variance of x_0 at a step is the mean squared error of the model's guess there
/// (Analytic-DPM, Bao et al. 2022). It is measured at up to 64 noise levels; the checkpoint written has
/// the same means, `kernel.variance = "per-step"`, and samples with any number of steps. A step of
/// x_{t-1} then has tilde beta_t + c1_t^2 E ||x_0 - x_0_hat||^2 / D.
#[derive(Debug, clap::Args)]
pub struct CalibrateArgs {
    /// A checkpoint of kernel.kind = "gaussian", or a run's folder for its newest one.
    #[arg(value_name = "CKPT|RUN")]
    checkpoint: PathBuf,
    /// Examples, best those that the model was not trained on: a folder of images, CIFAR-10 binaries, or
    /// an IDX file. Default: fresh draws of the mixture of the model's config, if it has one.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The checkpoint to write; must not exist.
    #[arg(long, value_name = "CKPT")]
    out: PathBuf,
    /// Examples, at most.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = at_least_2)]
    points: usize,
    /// Names every draw.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Average of the weights by its decay, e.g. 0.9999, or none. Default: the config's last one.
    #[arg(long, value_name = "NAME")]
    ema: Option<String>,
}

pub fn run(args: CalibrateArgs, device: &Device) -> anyhow::Result<()> {
    anyhow::ensure!(
        !args.out.exists(),
        "{} exists already; choose another --out",
        args.out.display()
    );
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let weights = args.ema.as_deref().map_or(Weights::Best, Weights::from);
    let mut config = checkpoint.config().clone();
    let fits = |var| matches!(var, GaussianVar::Fixed | GaussianVar::PerStep);
    anyhow::ensure!(
        matches!(&config.kernel, KernelConfig::Gaussian(kernel) if fits(kernel.variance)),
        "{} has a kernel \"{}\" that gives its variances itself; only kernel.kind = \"gaussian\" with \
         kernel.variance fixed or per-step can be calibrated",
        args.checkpoint.display(),
        config.kernel.kind()
    );
    let examples = match (&args.data, &config.data.mixture) {
        (Some(path), _) => curve::examples_at(path, &config, args.points)?,
        (None, Some(_)) => config.resolve()?,
        (None, None) => anyhow::bail!(
            "{} was trained on images: name some with --data PATH",
            args.checkpoint.display()
        ),
    };
    let denoiser = checkpoint.denoiser(&weights, device)?;
    let options = curve::options(&denoiser, &examples, args.points, args.seed)?;
    let curve = curve::measure(&denoiser, &examples, &options, device)?;
    let x_0_vars = curve.x_0_vars();
    let denoiser = denoiser.calibrated(&x_0_vars).expect("a kernel that fits");
    config.kernel = KernelConfig::Gaussian(GaussianConfig {
        variance: GaussianVar::PerStep,
    });
    let rows = params::values(&denoiser).into_iter().map(host::numbers);
    let state = State {
        step: checkpoint.step(),
        data: checkpoint.data().map(str::to_owned),
        weights: rows.flatten().collect(),
        ..State::default()
    };
    Checkpoint::write(&args.out, &config, &params::infos(&denoiser), &state)?;
    writeln!(
        io::stdout(),
        "{}: variances of x_0 from {} examples at {} noise levels, {:.3e} at t = 1 to {:.3e} at t = {}",
        args.out.display(),
        options.examples,
        curve.levels.len(),
        x_0_vars[0],
        x_0_vars[x_0_vars.len() - 1],
        x_0_vars.len()
    )?;
    Ok(())
}

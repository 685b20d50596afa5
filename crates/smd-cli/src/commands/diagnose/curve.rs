//! A model's error over noise levels, with a progress bar.

use crate::progress::Progress;
use burn::tensor::Device;
use smd::config::RunConfig;
use smd::data::{Examples, Order};
use smd::denoise::{Denoise, Denoiser};
use smd::eval::error_curve::{CurveOptions, ErrorCurve, error_curve, measured_steps};
use std::path::Path;

/// Draws of `x_0`, for a kernel that draws.
const DRAWS: usize = 8;

/// Numbers of all examples of a pass, about.
const NUMBERS: usize = 1 << 16;

/// Where endless draws start: far behind those of any training.
pub const UNSEEN: u64 = 1 << 40;

/// The first `limit` examples at `path`, read as the model's own data were.
pub fn examples_at(path: &Path, config: &RunConfig, limit: usize) -> anyhow::Result<Examples> {
    let [height, _, channels] = config.shape()?;
    let mut fresh = config.clone();
    fresh.data.path = Some(path.to_owned());
    fresh.data.mixture = None;
    fresh.data.limit = Some(limit);
    fresh.data.size = Some(height);
    fresh.data.channels = Some(channels);
    Ok(fresh.resolve()?)
}

/// How a curve is measured on at most `count` of `examples`.
///
/// # Errors
/// Fewer than two examples.
pub fn options(
    denoiser: &Denoiser,
    examples: &Examples,
    count: usize,
    seed: u64,
) -> anyhow::Result<CurveOptions> {
    let count = examples.len().map_or(count, |len| len.min(count));
    anyhow::ensure!(count >= 2, "too few examples, {count}; two are the least");
    let shape = examples.shape();
    Ok(CurveOptions {
        examples: count,
        batch: (NUMBERS / shape.iter().product::<usize>()).clamp(1, 4096),
        draws: match denoiser {
            Denoiser::Gaussian(_) => 1,
            _ => DRAWS,
        },
        clip: shape[..2] != [1, 1],
        seed,
    })
}

/// The curve.
///
/// # Errors
/// A model that gives numbers that are not finite.
pub fn measure(
    denoiser: &Denoiser,
    examples: &Examples,
    options: &CurveOptions,
    device: &Device,
) -> anyhow::Result<ErrorCurve> {
    let mut order = Order::new(options.seed, examples.len().unwrap_or(1));
    let first = examples.len().map_or(UNSEEN, |_| 0);
    let levels = measured_steps(denoiser.process().schedule()).len();
    let progress = Progress::steps("error curve", (options.examples * levels) as u64);
    let curve = error_curve(
        denoiser,
        |range| {
            let positions = range.start + first..range.end + first;
            examples.batch(positions, &mut order, options.seed, false, device)
        },
        options,
        |done| progress.step(done as u64, ""),
    );
    progress.finish();
    anyhow::ensure!(
        curve.levels.iter().all(|level| level.mse.is_finite()),
        "the model gave a number that is not finite; its training has diverged"
    );
    Ok(curve)
}

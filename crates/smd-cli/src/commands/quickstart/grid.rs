//! The 7x7 grid: three kernels at one chain length.

use super::{Size, Trained, configure, settings_of, train};
use crate::progress::Progress;
use crate::report::{GridChain, GridModel, Step};
use anyhow::Context;
use burn::tensor::Device;
use smd::denoise::Denoiser;
use smd::eval::influence::influence;
use smd::eval::modes::mode_report;
use smd::eval::sliced_wasserstein::sliced_wasserstein_2;
use smd::gmm::GaussianMixture;
use smd::host;
use smd::noise::NoiseSource;
use smd::sampler::{self, SampleConfig};
use std::path::Path;
use std::time::Instant;

/// What the table's columns mean.
pub(super) const NOTE: &str = "A mode counts as covered when at least a fifth of its fair share of the \
    samples lies within three standard deviations of it. A perfect sampler has 98.9 % of its samples \
    within three standard deviations of a mode.";

/// A chain at which no Gaussian step can follow.
const FEW: usize = 8;

/// Points drawn together: bounds memory, never changes the result.
const BATCH: usize = 2_000;

/// Apart from every seed of a training.
const TRUTH_SEED: u64 = 1 << 40;

/// Samples of the truth, at least as many as any model is asked for.
pub(super) fn truth(mixture: &GaussianMixture, count: usize) -> Vec<[f32; 2]> {
    (0..count as u64)
        .map(|i| {
            let mut point = [0.0; 2];
            mixture.sample_into(TRUTH_SEED, i, &mut point);
            point
        })
        .collect()
}

/// Trains the kernels of a chain of `steps` steps and measures them against `truth`.
pub(super) fn chain(
    steps: usize,
    mixture: &GaussianMixture,
    truth: &[[f32; 2]],
    size: &Size,
    out: &Path,
    device: &Device,
) -> anyhow::Result<GridChain> {
    let mut kernels = vec![Step::Gaussian, Step::SoftMixture];
    if steps == FEW {
        kernels.push(Step::Codebook);
    }
    kernels.push(Step::Mixture);
    let models = kernels
        .into_iter()
        .map(|step| model(step, steps, mixture, truth, size, out, device))
        .collect::<anyhow::Result<_>>()?;
    Ok(GridChain { steps, models })
}

fn model(
    step: Step,
    steps: usize,
    mixture: &GaussianMixture,
    truth: &[[f32; 2]],
    size: &Size,
    out: &Path,
    device: &Device,
) -> anyhow::Result<GridModel> {
    let (name, kernel) = settings_of(step);
    let title = format!("{name}, T = {steps}");
    let train_steps = match (step, steps) {
        // The ones that still gain: their components have to become as narrow as the modes.
        (Step::Mixture, FEW) => size.pick(4_800, 250),
        (Step::Mixture, _) => size.pick(2_400, 250),
        (Step::Codebook, _) => size.pick(1_500, 150),
        _ => size.pick(1_200, 150),
    };
    let mut settings = vec![
        kernel.into(),
        format!("schedule.steps={steps}"),
        format!("train.steps={train_steps}"),
    ];
    if step == Step::Codebook {
        // Enough here, and four times as fast as the default.
        settings.extend(["kernel.components=16".into(), "kernel.late.layers=0".into()]);
    }
    let mut config = configure("gmm-7x7", &settings)?;
    let examples = config.resolve()?;
    let Trained {
        trainer,
        losses,
        seconds,
    } = train(&title, config, examples, device)?;
    let file = format!(
        "grid-{}-T{steps}.safetensors",
        name.replace(" + ", "-")
            .replace(", ", "-")
            .replace(' ', "-")
    );
    trainer
        .save(&out.join(file))
        .with_context(|| format!("saving {title}"))?;

    let model = trainer.model(trainer.config().train.ema.last().copied());
    let count = size.pick(if steps > 100 { 2_000 } else { 10_000 }, 1_000);
    let chain_steps = size.pick(steps, steps.min(100));
    let started = Instant::now();
    let points = draw(
        &model,
        &title,
        chain_steps,
        &trainer.config().sample,
        count,
        device,
    );
    let sample_seconds = started.elapsed().as_secs_f64();

    let modes = mode_report(&points, mixture);
    let influence = (step != Step::Gaussian).then(|| {
        let at = [1, 2, 3, steps / 4, steps / 2, steps];
        let mut at: Vec<usize> = at.into_iter().filter(|&t| t >= 1).collect();
        at.sort_unstable();
        at.dedup();
        let r = |t| {
            (
                t,
                influence(&model, mixture, t, size.pick(1_000, 200), 8, 1, device),
            )
        };
        at.into_iter().map(r).collect()
    });
    Ok(GridModel {
        name: name.into(),
        step,
        modes_covered: modes.covered,
        modes: modes.modes,
        share_within: modes.share_within_3_std,
        share_se: modes.share_se,
        swd: sliced_wasserstein_2(&points, truth[..count].as_flattened(), 2, 128, 0),
        points: points.chunks_exact(2).map(|p| [p[0], p[1]]).collect(),
        influence,
        train_seconds: seconds,
        sample_seconds,
        parameters: trainer.parameters(),
        train_steps: train_steps as usize,
        loss_name: match step {
            Step::Codebook | Step::Mixture => "negative log-likelihood, nats per coordinate".into(),
            _ => "squared error of v".into(),
        },
        losses,
    })
}

/// `count` points from seeds 0, 1, ...
fn draw(
    model: &Denoiser,
    title: &str,
    steps: usize,
    config: &SampleConfig,
    count: usize,
    device: &Device,
) -> Vec<f32> {
    let config = SampleConfig {
        steps,
        ..config.clone()
    };
    let progress = Progress::steps(&format!("{title}: {count} samples"), (steps * count) as u64);
    let mut points = Vec::with_capacity(2 * count);
    for first in (0..count).step_by(BATCH) {
        let batch = BATCH.min(count - first);
        let seeds = (first as u64..(first + batch) as u64).collect();
        let noise = NoiseSource::new(0, seeds, device);
        let drawn = sampler::sample(model, &config, [1, 1, 2], &noise, |done| {
            progress.step((first * steps + done * batch) as u64, "");
        });
        points.extend(host::numbers(drawn));
    }
    progress.finish();
    points
}

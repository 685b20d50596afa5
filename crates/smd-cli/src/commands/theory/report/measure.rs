//! One training of the comparison, and everything that is measured on it.

use super::plan::Job;
use crate::report::{ComparisonModel, ComparisonRun, MODELS};
use anyhow::Context;
use burn::tensor::Device;
use smd::checkpoint::Checkpoint;
use smd::data::Examples;
use smd::denoise::Denoiser;
use smd::denoising_error::Estimate;
use smd::eval::influence::influence;
use smd::eval::kernel_error::{self, Probe};
use smd::eval::modes::mode_report;
use smd::eval::sliced_wasserstein::sliced_wasserstein_2;
use smd::gmm::GaussianMixture;
use smd::host;
use smd::noise::NoiseSource;
use smd::sampler;
use smd::train::Trainer;
use std::time::Instant;

/// How much of everything is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) quick: bool,
}

impl Sizes {
    /// Samples of a chain of `steps` steps.
    pub(super) fn samples(self, steps: usize) -> usize {
        match (self.quick, steps > 100) {
            (true, _) => 500,
            (false, true) => 2_000,
            (false, false) => 10_000,
        }
    }

    /// Draws of a step and of a latent.
    fn probe(self, steps: usize, t: usize) -> (usize, usize) {
        match (self.quick, steps, t) {
            (true, ..) => (64, 8),
            (false, 1000.., _) => (256, 8),
            (false, 50.., _) => (1_000, 32),
            (false, _, 1) => (2_000, 1_024),
            (false, ..) => (4_000, 128),
        }
    }
}

/// Points of the latent's influence over a training.
const GAUGED: usize = 14;

/// One run and its history.
pub(super) struct Measured {
    run: ComparisonRun,
    history: Vec<(usize, f64)>,
}

/// Trains a job, and measures the average that samples.
pub(super) fn measure(
    job: &Job,
    mixture: &GaussianMixture,
    sizes: Sizes,
    device: &Device,
    on_update: &(impl Fn(&str) + Sync),
) -> anyhow::Result<Measured> {
    let started = Instant::now();
    let mut history = Vec::new();
    let trainer = train(job, mixture, device, &mut history, on_update)
        .with_context(|| format!("training {} at T = {}", job.name, job.steps))?;
    let seconds = started.elapsed().as_secs_f64();
    let model = trainer.model(trainer.config().train.ema.last().copied());
    let per_t = errors(&model, job, mixture, sizes, device);
    let points = draw(&model, job, sizes.samples(job.steps), device);
    let modes = mode_report(&points, mixture);
    let mut truth = vec![0.0; points.len()];
    for (i, point) in truth.chunks_exact_mut(2).enumerate() {
        mixture.sample_into(1 << 40, i as u64, point);
    }
    let at = [1, 2, 3, job.steps / 2, job.steps];
    let r = |t: usize| (t, influence(&model, mixture, t, 1_000, 8, 1, device));
    Ok(Measured {
        run: ComparisonRun {
            seed: job.seed,
            sum: per_t.iter().fold(Estimate::default(), |a, &b| a + b),
            per_t,
            influence: at.into_iter().map(r).collect(),
            modes: modes.covered,
            share_within: modes.share_within_3_std,
            swd: sliced_wasserstein_2(&points, &truth, 2, 128, 0),
            points: points.chunks_exact(2).map(|p| [p[0], p[1]]).collect(),
            updates: trainer.step(),
            seconds,
            parameters: trainer.parameters(),
        },
        history,
    })
}

/// The training, from its start or from another one's end; at `GAUGED` updates, ever further apart, how
/// much the latent of `t = 2` draws.
fn train(
    job: &Job,
    mixture: &GaussianMixture,
    device: &Device,
    history: &mut Vec<(usize, f64)>,
    on_update: &impl Fn(&str),
) -> anyhow::Result<Trainer> {
    let examples = Examples::Mixture(mixture.clone());
    let mut trainer = match &job.first {
        None => Trainer::new(job.config.clone(), examples, device)?,
        Some(first) => {
            let mut real = Trainer::new(first.clone(), examples.clone(), device)?;
            while real.step() < first.train.steps {
                real.train_step()?;
                on_update(job.name);
            }
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("real.safetensors");
            real.save(&path)?;
            Trainer::resume_as(
                &Checkpoint::open(&path)?,
                job.config.clone(),
                examples,
                device,
            )?
        }
    };
    let (first, last) = (trainer.step(), job.config.train.steps);
    let gauges = !matches!(trainer.model(None), Denoiser::Gaussian(_));
    let mut next = 0;
    while trainer.step() < last {
        let done = trainer.step() - first;
        if gauges && done >= next {
            let model = trainer.model(None);
            let r = influence(&model, mixture, 2.min(job.steps), 200, 8, 1, device);
            history.push((done as usize, r));
            let factor = ((last - first) as f64).powf(1.0 / (GAUGED - 1) as f64);
            next = ((next as f64 * factor) as u64).max(next + 1);
        }
        trainer.train_step()?;
        on_update(job.name);
    }
    Ok(trainer)
}

/// `M_t` at every step, with the kernel's own variance or the best number.
fn errors(
    model: &Denoiser,
    job: &Job,
    mixture: &GaussianMixture,
    sizes: Sizes,
    device: &Device,
) -> Vec<Estimate> {
    let step = |t: usize| {
        let (points, etas) = sizes.probe(job.steps, t);
        let probe = Probe {
            points,
            etas,
            seed: 1,
            step_var: job.config.sample.step_var,
        };
        let error = kernel_error::on_mixture(model, mixture, t, probe, device);
        // Without a variance of its own the energy score's step has no density at t = 1.
        match error.calibrated {
            Some(calibrated) if error.own.nats > 10.0 => calibrated,
            _ => error.own,
        }
    };
    (1..=job.steps).map(step).collect()
}

fn draw(model: &Denoiser, job: &Job, count: usize, device: &Device) -> Vec<f32> {
    const BATCH: usize = 2_000;
    let batches = (0..count).step_by(BATCH).map(|first| {
        let seeds = (first as u64..count.min(first + BATCH) as u64).collect();
        let noise = NoiseSource::new(0, seeds, device);
        host::numbers(sampler::sample(
            model,
            &job.config.sample,
            [1, 1, 2],
            &noise,
            |_| {},
        ))
    });
    batches.flatten().collect()
}

/// The runs of each model, in the order of their first ones.
pub(super) fn models<'a>(
    runs: impl Iterator<Item = (&'a Job, &'a Measured)>,
) -> Vec<ComparisonModel> {
    let runs: Vec<_> = runs.collect();
    let model = |name: &&str| {
        let of: Vec<_> = runs.iter().filter(|(job, _)| job.name == *name).collect();
        let (_, first) = of.first()?;
        Some(ComparisonModel {
            name: (*name).into(),
            runs: of
                .iter()
                .map(|(_, measured)| measured.run.clone())
                .collect(),
            history: first.history.clone(),
        })
    };
    MODELS.iter().filter_map(model).collect()
}

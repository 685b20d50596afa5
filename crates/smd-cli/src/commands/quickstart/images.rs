//! A small U-Net on images, with and without soft mixture denoising.

use super::{Size, Trained, configure, settings_of, train};
use crate::output;
use crate::progress::Progress;
use crate::report::{ImageModel, Step};
use anyhow::Context;
use burn::tensor::Device;
use smd::data::{self, Examples, Images, ReadOptions};
use smd::host;
use smd::noise::NoiseSource;
use smd::sampler::{self, SampleConfig, SamplerKind};
use std::path::Path;

/// The first 3,000 training images of Fashion-MNIST (Zalando SE, MIT).
const SLICE: &[u8] =
    include_bytes!("../../../assets/fashion-mnist/train-3000-images-idx3-ubyte.gz");

/// Side that the images are resized to: a third of the work of 28, and still a shoe.
const SIDE: usize = 16;

/// Images of a grid of samples.
const GRID: usize = 36;

/// Trains the models one after the other.
pub(super) fn models(size: &Size, out: &Path, device: &Device) -> anyhow::Result<Vec<ImageModel>> {
    let name = Path::new("the embedded slice of Fashion-MNIST");
    let images = data::from_idx(
        name,
        SLICE,
        &ReadOptions {
            size: Some(SIDE),
            ..ReadOptions::default()
        },
    )?;
    [Step::Gaussian, Step::SoftMixture]
        .into_iter()
        .map(|step| model(step, &images, size, out, device))
        .collect()
}

fn model(
    step: Step,
    images: &Images,
    size: &Size,
    out: &Path,
    device: &Device,
) -> anyhow::Result<ImageModel> {
    let (name, kernel) = settings_of(step);
    let train_steps = size.pick(180, 16);
    let settings = [
        kernel.to_owned(),
        format!("train.steps={train_steps}"),
        "train.batch=48".into(),
        "train.lr=2e-3".into(),
        "train.lr_schedule=cosine".into(),
        "train.warmup_steps=30".into(),
        "train.ema=[0.98]".into(),
        format!("data.size={SIDE}"),
        "net.attention=[4]".into(),
    ];
    let mut config = configure("ddpm-fashion-mnist", &settings)?;
    let examples = Examples::Images(images.clone());
    config.fit(&examples)?;
    let title = format!("{name}, U-Net on Fashion-MNIST");
    let batch = config.train.batch;
    let Trained {
        trainer,
        losses,
        seconds,
    } = train(&title, config, examples, device)?;
    let file = format!("fashion-mnist-{}.safetensors", name.replace(" + ", "-"));
    trainer
        .save(&out.join(file))
        .with_context(|| format!("saving {title}"))?;

    let model = trainer.model(trainer.config().train.ema.last().copied());
    let chains = size.pick(
        vec![(4, 0.0), (8, 0.0), (8, 1.0), (50, 1.0)],
        vec![(4, 0.0), (8, 1.0)],
    );
    let mut grids = Vec::new();
    for (steps, ddim_eta) in chains {
        let config = SampleConfig {
            steps,
            sampler: SamplerKind::Ddim,
            ddim_eta,
            ..trainer.config().sample.clone()
        };
        let sampler = if ddim_eta == 0.0 { "DDIM" } else { "ancestral" };
        let progress = Progress::steps(&format!("{name}: {steps} steps, {sampler}"), steps as u64);
        let noise = NoiseSource::new(0, (0..GRID as u64).collect(), device);
        let drawn = sampler::sample(&model, &config, images.shape(), &noise, |done| {
            progress.step(done as u64, "");
        });
        progress.finish();
        let drawn = output::Images::from_unit(&host::numbers(drawn), images.shape())?;
        let grid = output::grid(&drawn, 1);
        grids.push((steps, sampler.to_owned(), grid));
    }
    Ok(ImageModel {
        name: name.into(),
        grids,
        truth: Some(truth(images)?),
        loss_name: "squared error of v".into(),
        losses,
        images_per_second: (train_steps as usize * batch) as f64 / seconds,
        train_seconds: seconds,
        parameters: trainer.parameters(),
        train_steps: train_steps as usize,
        note: None,
    })
}

/// Images of the data in a grid.
fn truth(images: &Images) -> anyhow::Result<image::RgbImage> {
    let [height, width, channels] = images.shape();
    let mut values = vec![0.0; GRID * height * width * channels];
    for (i, out) in values
        .chunks_exact_mut(height * width * channels)
        .enumerate()
    {
        images.write_example(i, false, out);
    }
    Ok(output::grid(
        &output::Images::from_unit(&values, images.shape())?,
        1,
    ))
}

//! Whether a model repeats its training images.

use crate::progress::Progress;
use crate::say::say;
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};
use smd::config::RunConfig;
use smd::data::{Examples, Order};
use smd::denoise::Denoiser;
use smd::eval::memory::Memory;
use smd::noise::NoiseSource;
use smd::sampler;
use std::io::{self, Write};

/// Samples that are drawn, and steps of their chain, at most.
const SAMPLES: usize = 256;
const STEPS: usize = 50;

/// Images that are drawn or read at once.
const BATCH: usize = 64;

/// Training images that are compared with, at most: about 200 MB of numbers at a time are none.
const TRAINING: usize = 100_000;

/// Draws samples and looks for the nearest images, where the training's can still be read; `held_out`
/// are others.
pub(super) fn measure(
    denoiser: &Denoiser,
    config: &RunConfig,
    held_out: &Examples,
    count: usize,
    seed: u64,
    device: &Device,
) -> anyhow::Result<Option<Memory>> {
    if config.data.path.is_none() {
        return Ok(None);
    }
    let training = match config.clone().resolve() {
        Ok(training) => training,
        Err(error) => {
            say(format!(
                "the training images cannot be read, so memory is not gauged: {error}"
            ));
            return Ok(None);
        }
    };
    let all = |examples: &Examples, most: usize| -> Vec<Tensor<4>> {
        let len = examples.len().unwrap_or(0).min(most);
        let mut order = Order::new(seed, len.max(1));
        (0..len)
            .step_by(1024)
            .map(|first| {
                let range = first as u64..len.min(first + 1024) as u64;
                examples.batch(range, &mut order, seed, false, device)
            })
            .collect()
    };
    let mut chain = config.sample.clone();
    if config.schedule.steps > STEPS && (chain.steps == 0 || chain.steps > STEPS) {
        chain.steps = STEPS;
    }
    let shape = config.shape()?;
    let progress = Progress::steps("drawing samples", SAMPLES as u64);
    let drawn = (0..SAMPLES as u64).step_by(BATCH).map(|first| {
        let images = (first..first + BATCH as u64).collect();
        let noise = NoiseSource::new(seed, images, device);
        let drawn = sampler::sample(denoiser, &chain, shape, &noise, |_| {});
        progress.step(first + BATCH as u64, "");
        drawn
    });
    let samples = Tensor::cat(drawn.collect(), 0);
    progress.finish();
    let held_out = Tensor::cat(all(held_out, count), 0);
    Ok(Some(Memory::measure(
        &samples,
        &all(&training, TRAINING),
        &held_out,
    )))
}

pub(super) fn to_json(memory: Memory) -> Value {
    json!({
        "to_training": memory.to_training,
        "to_held_out": memory.to_held_out,
        "held_out_to_training": memory.held_out_to_training,
    })
}

pub(super) fn print(out: &mut impl Write, memory: Memory) -> io::Result<()> {
    writeln!(
        out,
        "\nMemory: the mean distance to the nearest image, root mean square of a pixel in -1 to 1, of {SAMPLES} samples: \
         {:.4} to\nthe training, {:.4} to the images here; of these images to the training {:.4}. Samples that are much \
         nearer to the\ntraining than these images are may be remembered.",
        memory.to_training, memory.to_held_out, memory.held_out_to_training
    )
}

//! `smd sample`: from a checkpoint to images.

use crate::output;
use crate::progress::Progress;
use anyhow::Context;
use burn::tensor::Device;
use smd::checkpoint::{Checkpoint, Weights};
use smd::eval::modes::mode_report;
use smd::host;
use smd::noise::NoiseSource;
use smd::sampler::{self, SampleConfig, SamplerKind, Spacing};
use std::collections::HashSet;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// Draw images from a trained model.
///
/// Image i depends on seed i alone, not on the batch, the threads or the other seeds.
#[derive(Debug, clap::Args)]
pub struct SampleArgs {
    /// A checkpoint, or a run's folder for its newest one.
    #[arg(value_name = "CKPT|RUN")]
    checkpoint: PathBuf,
    /// Seeds, one image each.
    #[arg(long, value_name = "FIRST-LAST", default_value = "0-63")]
    seeds: SeedRange,
    #[command(flatten)]
    chain: ChainArgs,
    /// Draw the latent, or take the likeliest one, argmax_z p(z | x_t): for kernel.late.flow.
    #[arg(long, value_name = "LATENT", default_value = "draw")]
    latent: Latent,
    /// Images in one pass; changes speed and memory, never the result.
    #[arg(long, value_name = "N", default_value = "16")]
    batch: NonZeroUsize,
    /// Folder for the images; created if missing.
    #[arg(long, value_name = "DIR", default_value = "samples")]
    out: PathBuf,
    /// Write samples.npz (uint8 NHWC; f32 for vectors) instead of one PNG an image.
    #[arg(long)]
    npz: bool,
    /// Write into a folder that is not empty; removes the samples in it (NNNNNN.png, grid.png,
    /// samples.npz).
    #[arg(long)]
    overwrite: bool,
}

/// The chain, and the weights that run it.
#[derive(Debug, Default, clap::Args)]
pub struct ChainArgs {
    /// Steps of the chain, at most those of the training. Default: as in the config.
    #[arg(long, value_name = "N")]
    steps: Option<NonZeroUsize>,
    /// Default: as in the config.
    #[arg(long, value_name = "SAMPLER")]
    sampler: Option<Sampler>,
    /// Share of the ancestral noise that ddim adds, from 0 to 1. Default: as in the config, 0.
    #[arg(long, value_name = "ETA")]
    ddim_eta: Option<f64>,
    /// Which steps of the training a shorter chain visits. Default: as in the config.
    #[arg(long, value_name = "SPACING")]
    spacing: Option<SpacingName>,
    /// Average of the weights by its decay, e.g. 0.9999, or none. Default: the config's last one.
    #[arg(long, value_name = "NAME")]
    ema: Option<String>,
}

/// Most images of grid.png: more are no picture to look at.
const GRID: usize = 256;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Sampler {
    Ancestral,
    Ddim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Latent {
    Draw,
    Mode,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SpacingName {
    Uniform,
    Quad,
    Trailing,
}

/// `FIRST-LAST`, both included, or one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedRange(pub RangeInclusive<u64>);

impl FromStr for SeedRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim()
                .parse::<u64>()
                .map_err(|_| format!("\"{text}\" is no seed; write FIRST-LAST"))
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        if first > last {
            return Err(format!("runs backwards; write {last}-{first}"));
        }
        if last - first >= 1 << 32 {
            return Err("has more than 2^32 seeds".into());
        }
        Ok(Self(first..=last))
    }
}

pub fn run(args: SampleArgs, device: &Device) -> anyhow::Result<()> {
    // Everything that can fail cheaply, before the model is loaded.
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let config = args.chain.config(&checkpoint)?;
    let weights = args.chain.weights();
    let average = checkpoint.average(&weights)?;
    output::create_out_dir(&args.out, args.overwrite)?;
    let model = checkpoint.denoiser(&weights, device)?;
    let model = match args.latent {
        Latent::Draw => model,
        Latent::Mode => model.at_mode().context(
            "--latent mode needs a latent whose density is known: a soft-mixture trained with \
             kernel.late.flow = 4, say",
        )?,
    };
    let shape = checkpoint.config().shape()?;

    let seeds: Vec<u64> = args.seeds.0.clone().collect();
    let steps = config.visited(checkpoint.config().schedule.steps).len();
    let progress = Progress::steps("sampling", (seeds.len() * steps) as u64);
    let vectors = shape[..2] == [1, 1];
    let len: usize = shape.iter().product();
    // An image is on the disk once it is drawn: what is kept is for the files of many.
    let kept = if vectors || args.npz {
        seeds.len()
    } else {
        GRID
    };
    let mut all = Vec::new();
    let mut done = 0;
    let mut written = HashSet::new();
    for seeds in seeds.chunks(args.batch.get()) {
        let noise = NoiseSource::new(0, seeds.to_vec(), device);
        let drawn = sampler::sample(&model, &config, shape, &noise, |step| {
            progress.step(((done * steps) + step * seeds.len()) as u64, "");
        });
        let drawn = host::numbers(drawn);
        anyhow::ensure!(
            drawn.iter().all(|x| x.is_finite()),
            "the model gave a number that is not finite; its training has diverged"
        );
        if !args.npz && !vectors {
            let images = output::Images::from_unit(&drawn, shape)?;
            for (i, seed) in seeds.iter().enumerate() {
                let name = format!("{seed:06}.png");
                output::write_png(&args.out.join(&name), &images.get(i))?;
                written.insert(name);
            }
        }
        done += seeds.len();
        all.extend(drawn);
        all.truncate(kept * len);
    }
    progress.finish();

    let npz = args.out.join("samples.npz");
    if vectors || args.npz {
        written.insert("samples.npz".into());
    }
    if vectors {
        output::write_npz_vectors(&npz, &all, shape[2])?;
    } else if args.npz {
        output::write_npz(&npz, &output::Images::from_unit(&all, shape)?)?;
    }
    if !vectors || shape[2] == 2 {
        let shown = if vectors {
            all.len()
        } else {
            all.len().min(GRID * len)
        };
        output::write_view(&args.out.join("grid.png"), &all[..shown], shape)?;
        written.insert("grid.png".into());
    }
    if args.overwrite {
        output::remove_older_samples(&args.out, &written)?;
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} samples in {} (step {}, {}, {}, {steps} steps)",
        seeds.len(),
        args.out.display(),
        checkpoint.step(),
        average.map_or("raw weights".into(), |decay| format!("EMA {decay}")),
        sampler_name(&config),
    )?;
    if let Some(mixture) = &checkpoint.config().data.mixture {
        let report = mode_report(&all, &mixture.mixture()?);
        writeln!(
            out,
            "{} of {} modes, {:.1} % (standard error {:.1}) within 3 standard deviations of a mode",
            report.covered,
            report.modes,
            100.0 * report.share_within_3_std,
            100.0 * report.share_se
        )?;
    }
    Ok(())
}

/// The sampler in words.
fn sampler_name(config: &SampleConfig) -> String {
    match config.sampler {
        SamplerKind::Ancestral => "ancestral".into(),
        SamplerKind::Ddim if config.ddim_eta > 0.0 => {
            format!("ddim with eta {}", config.ddim_eta)
        }
        SamplerKind::Ddim => "ddim".into(),
    }
}

impl ChainArgs {
    /// Which weights.
    pub fn weights(&self) -> Weights {
        self.ema.as_deref().map_or(Weights::Best, Weights::from)
    }

    /// The chain of the checkpoint's config with what the command line says.
    pub fn config(&self, checkpoint: &Checkpoint) -> anyhow::Result<SampleConfig> {
        let mut chain = checkpoint.config().sample.clone();
        if let Some(steps) = self.steps {
            chain.steps = steps.get();
        }
        if let Some(sampler) = self.sampler {
            chain.sampler = match sampler {
                Sampler::Ancestral => SamplerKind::Ancestral,
                Sampler::Ddim => SamplerKind::Ddim,
            };
        }
        if let Some(spacing) = self.spacing {
            chain.spacing = match spacing {
                SpacingName::Uniform => Spacing::Uniform,
                SpacingName::Quad => Spacing::Quad,
                SpacingName::Trailing => Spacing::Trailing,
            };
        }
        if let Some(ddim_eta) = self.ddim_eta {
            anyhow::ensure!(
                chain.sampler == SamplerKind::Ddim,
                "--ddim-eta belongs to --sampler ddim; the sampler here is ancestral"
            );
            chain.ddim_eta = ddim_eta;
        }
        chain.validate(checkpoint.config().schedule.steps)?;
        Ok(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_ranges_are_read() {
        assert_eq!("3-5".parse(), Ok(SeedRange(3..=5)));
        assert_eq!("7".parse(), Ok(SeedRange(7..=7)));
        let refuse = |text: &str| text.parse::<SeedRange>().unwrap_err();
        assert_eq!(refuse("9-2"), "runs backwards; write 2-9");
        assert!(refuse("a-2").contains("\"a\" is no seed"));
    }
}

//! `smd bench`: how fast a config trains and samples on this machine.

use super::config_source::ConfigSource;
use crate::machine;
use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use smd::config::RunConfig;
use smd::data::{Examples, Images};
use smd::denoise::KernelConfig;
use smd::host;
use smd::noise::NoiseSource;
use smd::ops::parts::{self, Part};
use smd::sampler::{self, SampleConfig};
use smd::train::Trainer;
use std::io::{self, Write};
use std::time::Instant;

/// Measure training and sampling on random images: images/s, peak memory, time per part of a step.
///
/// Without a config: the preset ddpm-cifar10.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(flatten)]
    source: ConfigSource,
    /// With soft mixture denoising. Default: as in the config.
    #[arg(long, conflicts_with = "no_smd")]
    smd: bool,
    /// With one Gaussian.
    #[arg(long)]
    no_smd: bool,
    /// Images of a step.
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Timed steps, after one that is not; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    steps: usize,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(args: BenchArgs, device: &Device) -> anyhow::Result<()> {
    let config = configure(&args)?;
    let examples = random_images(&config);
    let shape = examples.shape();
    let mut trainer = Trainer::new(config.clone(), examples, device)?;
    let mut train = Timed::default();
    for _ in 0..=args.steps {
        train.step(|| trainer.train_step().map(drop))?;
    }
    let train_peak = machine::peak_memory_bytes();

    let model = trainer.model(None);
    let parameters = trainer.parameters();
    drop(trainer);
    let noise = NoiseSource::new(0, (0..args.batch as u64).collect(), device);
    // Each timed chain has as many steps as it takes to forget its start: two.
    const CHAIN: usize = 2;
    let chain = SampleConfig {
        steps: CHAIN,
        ..config.sample.clone()
    };
    let mut sample = Timed::default();
    for _ in 0..=args.steps {
        sample.step(|| {
            host::numbers(sampler::sample(&model, &chain, shape, &noise, |_| {}));
            anyhow::Ok(())
        })?;
    }
    let (train, sample) = (train.parts(1), sample.parts(CHAIN));
    let rate = |parts: &Parts| args.batch as f64 / parts.seconds;
    let (train_rate, sample_rate) = (rate(&train), rate(&sample));
    let mut out = io::stdout().lock();
    if args.json {
        let object = json!({
            "train_images_per_s": train_rate,
            "sample_images_per_s": sample_rate,
            "train_peak_bytes": train_peak,
            "train_parts_ms": train.to_json(),
            "sample_parts_ms": sample.to_json(),
            "kernels": smd_kernels::simd::level().name(),
            "precision": config.precision,
            "parameters": parameters,
            "batch": args.batch,
            "smd": matches!(config.kernel, KernelConfig::SoftMixture(_)),
            "machine": machine::describe(),
        });
        writeln!(out, "{object}")?;
    } else {
        let level = smd_kernels::simd::level().name();
        writeln!(out, "machine     {}, kernels {level}", machine::describe())?;
        writeln!(out, "parameters  {parameters}")?;
        writeln!(
            out,
            "training    {train_rate:.2} images/s at batch {}",
            args.batch
        )?;
        writeln!(
            out,
            "sampling    {sample_rate:.2} images/s through one step"
        )?;
        if let Some(peak) = train_peak {
            writeln!(
                out,
                "memory      {:.2} GB at its peak in training",
                peak as f64 / 1e9
            )?;
        }
        writeln!(out, "\nms of a step          training   sampling")?;
        for ((name, train), (_, sample)) in train.rows().iter().zip(sample.rows()) {
            writeln!(out, "{name:<18} {train:11.1} {sample:10.1}")?;
        }
    }
    Ok(())
}

fn configure(args: &BenchArgs) -> anyhow::Result<RunConfig> {
    let mut source = args.source.clone();
    if source.config.is_none() {
        source.preset.get_or_insert_with(|| "ddpm-cifar10".into());
    }
    let (mut config, _) = source.read()?;
    anyhow::ensure!(
        args.batch > 0 && args.steps > 0,
        "--batch and --steps must be at least 1"
    );
    if args.smd {
        config.add_soft_mixture();
    }
    if args.no_smd {
        config.kernel = KernelConfig::Gaussian {};
    }
    config.train.batch = args.batch;
    config.train.accumulate = 1;
    config.train.warmup_steps = 0;
    Ok(config)
}

/// Images of the config's size: speed does not depend on what they show.
fn random_images(config: &RunConfig) -> Examples {
    if let Some(mixture) = config
        .data
        .mixture
        .as_ref()
        .and_then(|source| source.mixture().ok())
    {
        return Examples::Mixture(mixture);
    }
    let [height, width, channels] = config.data.shape.unwrap_or_else(|| {
        let channels = config.data.channels.unwrap_or(3);
        let size = config
            .data
            .size
            .unwrap_or(if channels == 1 { 28 } else { 32 });
        [size, size, channels]
    });
    let mut bytes = vec![0; 64 * height * width * channels];
    rand_chacha::ChaCha8Rng::seed_from_u64(0).fill(&mut bytes[..]);
    Examples::Images(Images {
        height,
        width,
        channels,
        bytes,
        skipped: Vec::new(),
    })
}

/// The steps that were timed.
#[derive(Default)]
struct Timed {
    steps: Vec<Parts>,
}

impl Timed {
    fn step<E>(&mut self, step: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let (before, started) = (parts::spent(), Instant::now());
        step()?;
        let (seconds, after) = (started.elapsed().as_secs_f64(), parts::spent());
        let parts = std::array::from_fn(|i| (after[i] - before[i]).as_secs_f64());
        self.steps.push(Parts { seconds, parts });
        Ok(())
    }

    /// Medians without the first step; each is `chain` steps in a row.
    fn parts(&self, chain: usize) -> Parts {
        let of = |value: &dyn Fn(&Parts) -> f64| {
            median(self.steps[1..].iter().map(value).collect()) / chain as f64
        };
        Parts {
            seconds: of(&|step| step.seconds),
            parts: std::array::from_fn(|i| of(&|step| step.parts[i])),
        }
    }
}

/// Seconds of one step and of its parts.
struct Parts {
    seconds: f64,
    parts: [f64; Part::ALL.len()],
}

impl Parts {
    /// Milliseconds of each part, of what is none, and of all.
    fn rows(&self) -> Vec<(&'static str, f64)> {
        let rest = self.seconds - self.parts.iter().sum::<f64>();
        let names = Part::ALL.into_iter().map(Part::name);
        let parts = names.zip(self.parts);
        let all = parts.chain([("everything else", rest), ("all", self.seconds)]);
        all.map(|(name, seconds)| (name, 1e3 * seconds)).collect()
    }

    fn to_json(&self) -> serde_json::Value {
        self.rows()
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v))
            .collect()
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

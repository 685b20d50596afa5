//! `smd bench`: how fast a config trains and samples on this machine.

mod plot;
mod timed;

use self::plot::Picture;
use self::timed::{Parts, Timed};
use super::config_source::ConfigSource;
use crate::device::Kind;
use crate::output::PlotFile;
use crate::{machine, output};
use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use smd::config::RunConfig;
use smd::data::{Examples, Images};
use smd::denoise::KernelConfig;
use smd::host;
use smd::noise::NoiseSource;
use smd::ops::Precision;
use smd::sampler::{self, SampleConfig};
use smd::train::Trainer;
use std::io::{self, Write};

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
    /// Draw where the time of a step goes: FILE.png or FILE.svg. On the CPU, whose parts are counted.
    #[arg(long, value_name = "FILE")]
    plot: Option<PlotFile>,
}

/// `kind` is that of `device`.
pub fn run(args: BenchArgs, kind: Kind, device: &Device) -> anyhow::Result<()> {
    let (config, name) = configure(&args)?;
    if let Some(plot) = &args.plot {
        can_plot(kind)?;
        output::check_beside(plot.path())?;
    }
    let measured = Measured::measure(config, name, args.steps, kind, device)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", measured.to_json())?;
    } else {
        measured.print(&mut out)?;
    }
    // Last: what was measured is not lost where it cannot be drawn.
    if let Some(plot) = &args.plot {
        plot.write(&measured.picture(&args.source.settings))?;
    }
    Ok(())
}

/// Other devices run on their own: all of their time would be "everything else".
fn counts_parts(kind: Kind) -> bool {
    kind == Kind::Cpu
}

fn can_plot(kind: Kind) -> anyhow::Result<()> {
    anyhow::ensure!(
        counts_parts(kind),
        "--plot draws the parts of a step, which are counted on the device cpu alone, not on {kind}; \
         leave out --plot or --device {kind}"
    );
    Ok(())
}

/// What a config costs on this machine.
struct Measured {
    kind: Kind,
    config: RunConfig,
    /// The config's name.
    name: String,
    /// `[H, W, C]` of an example.
    shape: [usize; 3],
    parameters: usize,
    /// Peak of the process when training ends, where it computes itself and the system tells.
    train_peak: Option<u64>,
    train: Parts,
    sample: Parts,
}

impl Measured {
    fn measure(
        mut config: RunConfig,
        name: String,
        steps: usize,
        kind: Kind,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let examples = examples(&mut config)?;
        let shape = examples.shape();
        let mut trainer = Trainer::new(config.clone(), examples, device)?;
        let mut train = Timed::default();
        for _ in 0..=steps {
            train.step(|| trainer.train_step().map(drop))?;
        }
        let train_peak = (kind == Kind::Cpu).then(machine::peak_memory_bytes);

        let model = trainer.model(None);
        let parameters = trainer.parameters();
        drop(trainer);
        let noise = NoiseSource::new(0, (0..config.train.batch as u64).collect(), device);
        // Each timed chain has as many steps as it takes to forget its start: two.
        const CHAIN: usize = 2;
        let chain = SampleConfig {
            steps: CHAIN,
            ..config.sample.clone()
        };
        let mut sample = Timed::default();
        for _ in 0..=steps {
            sample.step(|| {
                host::numbers(sampler::sample(&model, &chain, shape, &noise, |_| {}));
                anyhow::Ok(())
            })?;
        }
        Ok(Self {
            kind,
            config,
            name,
            shape,
            parameters,
            train_peak: train_peak.flatten(),
            train: train.parts(1),
            sample: sample.parts(CHAIN),
        })
    }

    /// Images a second through one step.
    fn images_per_s(&self, step: &Parts) -> f64 {
        self.config.train.batch as f64 / step.seconds
    }

    fn to_json(&self) -> serde_json::Value {
        let mut object = json!({
            "train_images_per_s": self.images_per_s(&self.train),
            "sample_images_per_s": self.images_per_s(&self.sample),
            "train_peak_bytes": self.train_peak,
            "train_parts_ms": self.train.to_json(counts_parts(self.kind)),
            "sample_parts_ms": self.sample.to_json(counts_parts(self.kind)),
            "config": self.name,
            "kernel": self.kernel(),
            "shape": self.shape,
            "device": self.kind.to_string(),
            "precision": self.config.precision,
            "parameters": self.parameters,
            "batch": self.config.train.batch,
            "smd": matches!(self.config.kernel, KernelConfig::SoftMixture(_)),
            "machine": machine::describe(),
        });
        if let Some(kernels) = self.kind.kernels() {
            object["kernels"] = kernels.into();
        }
        object
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let [train_rate, sample_rate] = [&self.train, &self.sample].map(|p| self.images_per_s(p));
        let batch = self.config.train.batch;
        writeln!(out, "config      {}", self.what())?;
        writeln!(out, "machine     {}", where_it_ran(self.kind))?;
        writeln!(out, "parameters  {}", self.parameters)?;
        writeln!(out, "training    {train_rate:.2} images/s at batch {batch}")?;
        writeln!(
            out,
            "sampling    {sample_rate:.2} images/s through one step"
        )?;
        if let Some(peak) = self.train_peak {
            let gb = peak as f64 / 1e9;
            writeln!(out, "memory      {gb:.2} GB at its peak in training")?;
        }
        writeln!(out, "\nms of a step          training   sampling")?;
        let mut row = |name, train, sample| writeln!(out, "{name:<18} {train:11.1} {sample:10.1}");
        if counts_parts(self.kind) {
            let rows = self.train.rows().into_iter().zip(self.sample.rows());
            for ((name, train), (_, sample)) in rows {
                row(name, train, sample)?;
            }
        }
        row("all", self.train.ms(), self.sample.ms())
    }

    fn kernel(&self) -> &'static str {
        match self.config.kernel {
            KernelConfig::Gaussian(_) => "one Gaussian",
            KernelConfig::SoftMixture(_) => "SMD",
            KernelConfig::Codebook(_) => "codebook",
            KernelConfig::Mixture(_) => "explicit mixture",
        }
    }

    /// What was measured, in a line.
    fn what(&self) -> String {
        let precision = match self.config.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        let (batch, [height, width, channels]) = (self.config.train.batch, self.shape);
        format!(
            "{}, {}, batch {batch} of {height}x{width}x{channels}, {precision}",
            self.name,
            self.kernel()
        )
    }

    /// Where every millisecond goes; `settings` are those that the config was changed by.
    fn picture(&self, settings: &[String]) -> Picture {
        let mut notes = vec![where_it_ran(self.kind)];
        if !settings.is_empty() {
            notes.push(format!("with {}", settings.join(", ")));
        }
        let step = |what: &str, parts: &Parts, through: &str| plot::Step {
            heading: format!(
                "{what}: {:.*} ms a step, {:.1} images/s{through}",
                plot::decimals(parts.ms()),
                parts.ms(),
                self.images_per_s(parts)
            ),
            parts: parts.rows(),
        };
        Picture {
            title: self.what(),
            notes,
            steps: vec![
                step("Training", &self.train, ""),
                step("Sampling", &self.sample, " through one step"),
            ],
        }
    }
}

/// The machine, and what it computes with: the processor's kernels, or another device.
fn where_it_ran(kind: Kind) -> String {
    let what = match kind.kernels() {
        Some(kernels) => format!("kernels {kernels}"),
        None => format!("device {kind}"),
    };
    format!("{}, {what}", machine::describe())
}

/// The config to measure, and its name.
fn configure(args: &BenchArgs) -> anyhow::Result<(RunConfig, String)> {
    let mut source = args.source.clone();
    if source.config.is_none() {
        source.preset.get_or_insert_with(|| "ddpm-cifar10".into());
    }
    let (mut config, name) = source.read()?;
    anyhow::ensure!(
        args.batch > 0 && args.steps > 0,
        "--batch and --steps must be at least 1"
    );
    if args.smd {
        config.add_soft_mixture();
    }
    if args.no_smd {
        config.kernel = KernelConfig::default();
    }
    config.train.batch = args.batch;
    config.train.accumulate = 1;
    config.train.warmup_steps = 0;
    Ok((config, name))
}

/// The config's mixture or data, or where their size is known random images of it: speed does not depend on
/// what they show.
fn examples(config: &mut RunConfig) -> anyhow::Result<Examples> {
    let data = &config.data;
    if data.mixture.is_some() || (data.path.is_some() && data.shape.is_none()) {
        return Ok(config.resolve()?);
    }
    let [height, width, channels] = data.shape.unwrap_or_else(|| {
        let channels = data.channels.unwrap_or(3);
        let size = data.size.unwrap_or(if channels == 1 { 28 } else { 32 });
        [size, size, channels]
    });
    let mut bytes = vec![0; 64 * height * width * channels];
    rand_chacha::ChaCha8Rng::seed_from_u64(0).fill(&mut bytes[..]);
    Ok(Examples::Images(Images {
        height,
        width,
        channels,
        bytes,
        skipped: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(kind: Kind) -> Measured {
        Measured {
            kind,
            config: RunConfig::default(),
            name: "a-config".into(),
            shape: [8, 8, 3],
            parameters: 1,
            train_peak: None,
            train: Parts::default(),
            sample: Parts::default(),
        }
    }

    #[test]
    fn kernels_are_named_on_the_processor_alone() {
        let level = smd_kernels::simd::level().name();
        let cases = [
            (Kind::Cpu, "cpu", Some(level), format!(", kernels {level}")),
            (Kind::Cuda, "cuda", None, ", device cuda".into()),
            (Kind::Wgpu, "wgpu", None, ", device wgpu".into()),
        ];
        for (kind, name, kernels, says) in cases {
            let object = measured(kind).to_json();
            assert_eq!(object["device"], name);
            let found = object.get("kernels").and_then(|kernels| kernels.as_str());
            assert_eq!(found, kernels, "{object}");
            let mut text = Vec::new();
            measured(kind).print(&mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert!(
                lines[0].ends_with("a-config, one Gaussian, batch 64 of 8x8x3, f32"),
                "{text}"
            );
            assert!(lines[1].ends_with(&says), "{text}");
            // Parts where they are counted, and the whole step everywhere.
            let parts = &object["train_parts_ms"];
            assert!(parts["all"].is_number(), "{object}");
            assert_eq!(parts.get("linear").is_some(), kind == Kind::Cpu, "{object}");
            assert_eq!(text.contains("\nlinear"), kind == Kind::Cpu, "{text}");
            assert!(text.contains("\nall "), "{text}");
        }
    }

    #[test]
    fn a_device_whose_parts_are_not_counted_is_not_drawn() {
        can_plot(Kind::Cpu).unwrap();
        let message = can_plot(Kind::Cuda).unwrap_err().to_string();
        assert!(message.contains("not on cuda"), "{message}");
    }
}

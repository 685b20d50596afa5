//! `smd train`: from a config to checkpoints.

mod control;

use super::config_source::ConfigSource;
use crate::metrics::{EventWriter, Metrics};
use crate::output;
use crate::progress::Progress;
use crate::run_folder::RunFolder;
use crate::say::say;
use anyhow::Context;
use burn::tensor::Device;
use serde_json::json;
use smd::checkpoint::{self, Checkpoint};
use smd::config::{self, RunConfig};
use smd::data::Examples;
use smd::denoise::KernelConfig;
use smd::noise::NoiseSource;
use smd::train::{StepReport, Trainer};
use smd::{host, sampler};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Train a model on a folder of images, CIFAR-10, IDX files or a Gaussian mixture.
///
/// Ctrl-C finishes the step, saves, and exits; `smd train --resume RUN` goes on bit for bit, also
/// after a crash. A run's folder holds config.toml, metrics.jsonl, TensorBoard events, samples/ and
/// checkpoints/.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    #[command(flatten)]
    source: ConfigSource,
    /// Go on with the run in this folder.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "preset", "out", "data", "smd", "skip_bad", "control"])]
    resume: Option<PathBuf>,
    /// Folder of images, of CIFAR-10 binaries, or an IDX file.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Add soft mixture denoising: a latent network and hypernetworks (Eq. 11-13).
    #[arg(long)]
    smd: bool,
    /// Train a control in place of the model: the same with eta = 0, or one Gaussian with as many
    /// parameters or as much time.
    #[arg(long, value_name = "CONTROL")]
    control: Option<control::Control>,
    /// Leave out images that cannot be read, and count them.
    #[arg(long)]
    skip_bad: bool,
    /// Folder for the run; must be empty or not exist. Default: runs/NAME-N.
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Check config and data, print the resolved config, and stop.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: TrainArgs, device: &Device) -> anyhow::Result<()> {
    match &args.resume {
        Some(run) => resume(run, &args, device),
        None => start(&args, device),
    }
}

fn start(args: &TrainArgs, device: &Device) -> anyhow::Result<()> {
    let (mut config, name) = args.source.read()?;
    if args.smd {
        anyhow::ensure!(
            matches!(
                config.kernel,
                KernelConfig::Gaussian(_) | KernelConfig::SoftMixture(_)
            ),
            "--smd and kernel.kind = \"{}\" are two kernels; keep one",
            config.kernel.kind()
        );
        config.add_soft_mixture();
    }
    if let Some(data) = &args.data {
        config.data.path = Some(data.clone());
        config.data.mixture = None;
    }
    make_path_absolute(&mut config)?;
    config.data.skip_bad |= args.skip_bad;
    config.validate()?;
    let examples = config.resolve()?;
    if let Some(control) = args.control {
        config = control.of(config, &examples, device)?;
    }
    if args.dry_run {
        return print_config(config);
    }
    let text = config.to_toml();
    let folder = match &args.out {
        Some(out) => RunFolder::create(out, &text)?,
        None => RunFolder::create_numbered(Path::new("runs"), &name, &text)?,
    };
    let trainer = Trainer::new(config, examples, device)?;
    train(trainer, &folder)
}

fn resume(run: &Path, args: &TrainArgs, device: &Device) -> anyhow::Result<()> {
    let folder = RunFolder::open(run)?;
    // Killed before the first checkpoint: the config is there, and a start is a resume. A checkpoint
    // that cannot be read is an error, never a reason to start again.
    let checkpoint = if checkpoint::list(run)?.is_empty() {
        None
    } else {
        Some(Checkpoint::open(run).context("resuming")?)
    };
    let text = match &checkpoint {
        Some(checkpoint) => checkpoint.config().to_toml(),
        None => fs::read_to_string(run.join("config.toml"))
            .with_context(|| format!("reading {}", run.join("config.toml").display()))?,
    };
    let mut config = config::set(&text, &run.display().to_string(), &args.source.settings)?;
    make_path_absolute(&mut config)?;
    let examples = config.resolve()?;
    let text = config.to_toml();
    let trainer = match &checkpoint {
        Some(checkpoint) => {
            Trainer::resume_as(checkpoint, config, examples, device).context("resuming")?
        }
        None => Trainer::new(config, examples, device)?,
    };
    if args.dry_run {
        return print_config(trainer.config().clone());
    }
    if trainer.step() == trainer.config().train.steps {
        // Nothing is written: the files say how it was trained.
        say(format!(
            "{} is done at step {}; go on with --set train.steps=N",
            run.display(),
            trainer.step()
        ));
        return Ok(());
    }
    output::write_file(&folder.config(), text.as_bytes())?;
    train(trainer, &folder)
}

/// So that a run is resumed from any folder.
fn make_path_absolute(config: &mut RunConfig) -> anyhow::Result<()> {
    if let Some(path) = &mut config.data.path {
        *path =
            std::path::absolute(&*path).with_context(|| format!("finding {}", path.display()))?;
    }
    Ok(())
}

/// Prints the config as it is used.
fn print_config(config: RunConfig) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    // Of the data, not of the config: in a file it would pin `data.size`.
    writeln!(out, "# data.shape = {:?}", config.shape()?)?;
    out.write_all(config.unfitted().to_toml().as_bytes())?;
    Ok(())
}

/// Runs to the last step, or to Ctrl-C.
fn train(mut trainer: Trainer, folder: &RunFolder) -> anyhow::Result<()> {
    let config = trainer.config().clone();
    let stop = stop_on_ctrl_c()?;
    describe(&trainer, folder);
    let mut log = Log::open(folder, trainer.step())?;
    let progress = Progress::steps("training", config.train.steps).resumed_at(trainer.step());
    let batch = (config.train.batch * config.train.accumulate) as f64;
    let (mut started, mut counted) = (Instant::now(), trainer.step());
    while trainer.step() < config.train.steps && !stop.load(Ordering::Relaxed) {
        let report = trainer.train_step().with_context(|| left(folder))?;
        let step = report.step;
        let rate = (step - counted) as f64 * batch / started.elapsed().as_secs_f64();
        progress.step(
            step,
            &format!("loss {:.4}  {rate:.1} examples/s", report.loss),
        );
        if step.is_multiple_of(config.train.log_every) || step == config.train.steps {
            log.write(&report, rate)?;
            (started, counted) = (Instant::now(), step);
        }
        if step.is_multiple_of(config.train.checkpoint_every) {
            // Before the checkpoint: a run that is killed between them writes the line again.
            log.influence(&trainer)?;
            save(&trainer, folder)?;
        }
        if config.train.sample_every > 0 && step.is_multiple_of(config.train.sample_every) {
            draw(&trainer, folder, &mut log)?;
            (started, counted) = (Instant::now(), step);
        }
    }
    save(&trainer, folder)?;
    progress.finish();
    let run = folder.path().display();
    if trainer.step() < config.train.steps {
        say(format!(
            "stopped at step {}; go on with `smd train --resume {run}`",
            trainer.step()
        ));
    } else {
        say(format!(
            "done; draw images with `smd sample {run} --out samples`"
        ));
    }
    Ok(())
}

/// Where the numbers of a run go: metrics.jsonl and TensorBoard.
struct Log {
    metrics: Metrics,
    events: EventWriter,
}

impl Log {
    /// Starts the files of a run, or goes on after `step`.
    fn open(folder: &RunFolder, step: u64) -> anyhow::Result<Self> {
        let metrics = Metrics::resume(&folder.metrics(), step)?;
        let events = match step {
            0 => EventWriter::create(folder.path())?,
            step => EventWriter::resume(folder.path(), step)?,
        };
        Ok(Self { metrics, events })
    }

    /// How much of the truth's randomness the latent draws, where there is one.
    fn influence(&mut self, trainer: &Trainer) -> anyhow::Result<()> {
        let numbers = trainer.influence();
        let named: Vec<(String, f64)> = numbers
            .iter()
            .map(|(t, r)| (format!("r_{t}"), *r))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let numbers: Vec<(&str, f64)> = named.iter().map(|(name, r)| (name.as_str(), *r)).collect();
        self.numbers(trainer.step(), &numbers)
    }

    fn write(&mut self, report: &StepReport, examples_per_s: f64) -> anyhow::Result<()> {
        let numbers = [
            ("loss", report.loss),
            ("grad_norm", report.grad_norm),
            ("lr", report.lr),
            ("examples_per_s", examples_per_s),
        ];
        self.numbers(report.step, &numbers)
    }

    fn numbers(&mut self, step: u64, numbers: &[(&str, f64)]) -> anyhow::Result<()> {
        let values = numbers
            .iter()
            .map(|&(name, x)| (name.to_owned(), json!(x)))
            .collect();
        self.metrics.write(step, &values)?;
        self.events.scalars(step, numbers)
    }
}

/// Says what is trained on what.
fn describe(trainer: &Trainer, folder: &RunFolder) {
    let [height, width, channels] = trainer.examples().shape();
    let examples = match trainer.examples() {
        Examples::Images(images) => {
            if let Some(first) = images.skipped.first() {
                say(format!(
                    "left out {} images, the first {}: {}",
                    images.skipped.len(),
                    first.path.display(),
                    first.reason
                ));
            }
            format!("{} images of {height}x{width}x{channels}", images.len())
        }
        Examples::Mixture(mixture) => format!("a mixture in {} dimensions", mixture.dim()),
    };
    say(format!(
        "{} parameters on {examples}, in {}",
        trainer.parameters(),
        folder.path().display()
    ));
}

/// A flag that the first Ctrl-C raises; the second one ends the program.
fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        say("\nfinishing the step and saving; Ctrl-C again to stop at once");
    })
    .context("listening for Ctrl-C")?;
    Ok(stop)
}

/// What is left of a run that cannot go on.
fn left(folder: &RunFolder) -> String {
    let files = checkpoint::list(folder.path()).unwrap_or_default();
    match files.last() {
        Some(last) => format!(
            "training stopped; the last checkpoint is kept, {}",
            last.display()
        ),
        None => "training stopped before the first checkpoint".into(),
    }
}

fn save(trainer: &Trainer, folder: &RunFolder) -> anyhow::Result<()> {
    let path = folder.checkpoint(trainer.step());
    trainer.save(&path)?;
    folder.prune(trainer.config().train.keep)
}

/// A picture of samples of the model as it is.
fn draw(trainer: &Trainer, folder: &RunFolder, log: &mut Log) -> anyhow::Result<()> {
    let config = trainer.config();
    let model = trainer.model(config.train.ema.last().copied());
    let shape = trainer.examples().shape();
    let seeds = (0..config.train.sample_count as u64).collect();
    let noise = NoiseSource::new(0, seeds, trainer.device());
    let drawn = host::numbers(sampler::sample(
        &model,
        &config.sample,
        shape,
        &noise,
        |_| {},
    ));
    if let Some(bad) = drawn.iter().find(|x| !x.is_finite()) {
        // Early averages may diverge over a long chain; the training itself is finite.
        say(format!(
            "no picture at step {}: a sample has the value {bad}",
            trainer.step()
        ));
        return Ok(());
    }
    let path = folder
        .samples()
        .join(format!("step-{:09}.png", trainer.step()));
    let vectors = shape[..2] == [1, 1];
    if !vectors || shape[2] == 2 {
        output::write_view(&path, &drawn, shape)?;
    }
    if !vectors {
        let picture = output::grid(&output::Images::from_unit(&drawn, shape)?, 1);
        log.events.image(trainer.step(), "samples", &picture)?;
    }
    Ok(())
}

//! `smd quickstart`: the expressive bottleneck on this machine, in minutes, without a download.

mod grid;
mod images;

use crate::output;
use crate::progress::Progress;
use crate::report::{Report, Step};
use anyhow::Context;
use burn::tensor::Device;
use smd::config::{self, RunConfig};
use smd::data::Examples;
use smd::gmm::GaussianMixture;
use smd::train::Trainer;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// See the expressive bottleneck, and what soft mixtures do about it, on this machine.
///
/// Trains DDPM, DDPM with soft mixture denoising and an explicit mixture on the 7x7 Gaussian grid, at
/// T = 1000 and T = 8 (there also a soft mixture over learned latents), and a small U-Net with and without soft mixture denoising on 3,000 images of
/// Fashion-MNIST that come with the program. Writes one page, report.html, with pictures and numbers.
/// Needs no download and about five minutes on two cores.
#[derive(Debug, clap::Args)]
pub struct QuickstartArgs {
    /// A shorter run of the same code, under a minute: the numbers are worse.
    #[arg(long)]
    quick: bool,
    /// Folder for report.html and the checkpoints of the models; created if missing.
    #[arg(long, value_name = "DIR", default_value = "quickstart")]
    out: PathBuf,
}

/// How much of everything a run does.
struct Size {
    quick: bool,
}

impl Size {
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// One training: what was reached, and how fast.
struct Trained {
    trainer: Trainer,
    losses: Vec<(usize, f64)>,
    seconds: f64,
}

pub fn run(args: QuickstartArgs, device: &Device) -> anyhow::Result<()> {
    let size = Size { quick: args.quick };
    let page = args.out.join("report.html");
    // Again into the folder of an earlier page, but into no other that holds something.
    fs::create_dir_all(&args.out)
        .with_context(|| format!("creating the folder {}", args.out.display()))?;
    anyhow::ensure!(
        page.exists() || fs::read_dir(&args.out)?.next().is_none(),
        "{} holds other files; choose an empty or a new folder for --out",
        args.out.display()
    );
    smd::files::check_writable(&args.out)
        .with_context(|| format!("cannot write to {}", args.out.display()))?;
    let started = Instant::now();

    let mixture = GaussianMixture::grid_7x7();
    let mut report = Report {
        title: "Few steps, one Gaussian: the expressive bottleneck".into(),
        machine: crate::machine::describe(),
        version: env!("CARGO_PKG_VERSION").into(),
        command: format!("smd quickstart{}", if args.quick { " --quick" } else { "" }),
        total_seconds: 0.0,
        quick: args.quick,
        grid: Vec::new(),
        grid_note: Some(grid::NOTE.into()),
        images: Vec::new(),
        truth_points: grid::truth(&mixture, size.pick(10_000, 2_000)),
    };
    for steps in [1000, 8] {
        report.grid.push(grid::chain(
            steps,
            &mixture,
            &report.truth_points,
            &size,
            &args.out,
            device,
        )?);
    }
    report.images = images::models(&size, &args.out, device)?;
    report.total_seconds = started.elapsed().as_secs_f64();

    output::write_file(&page, report.to_html().as_bytes())?;
    print(&report, &page)?;
    Ok(())
}

/// The numbers of the page on the terminal.
fn print(report: &Report, page: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for chain in &report.grid {
        writeln!(out, "\n7x7 grid, T = {}", chain.steps)?;
        for model in &chain.models {
            let influence = model.influence.as_ref().map_or(String::new(), |r| {
                let largest = r.iter().fold(0.0_f64, |m, &(_, r)| m.max(r));
                format!("  latent's influence r_t <= {largest:.4}")
            });
            writeln!(
                out,
                "  {:<18} {:>2} of {} modes  {:>5.1} % within 3 std{influence}",
                model.name,
                model.modes_covered,
                model.modes,
                100.0 * model.share_within,
            )?;
        }
    }
    writeln!(out, "\nFashion-MNIST, 16x16")?;
    for model in &report.images {
        writeln!(
            out,
            "  {:<18} {} parameters, {:.0} images/s in training",
            model.name, model.parameters, model.images_per_second
        )?;
    }
    writeln!(
        out,
        "\nDone in {:.0} s. Open {}",
        report.total_seconds,
        page.display()
    )?;
    Ok(())
}

/// The kernels that the page compares, with the names that it gives them.
fn settings_of(step: Step) -> (&'static str, &'static str) {
    match step {
        Step::Gaussian => ("DDPM", "kernel.kind=gaussian"),
        Step::SoftMixture => ("DDPM + SMD", "kernel.kind=soft-mixture"),
        Step::Codebook => ("SMD, codebook", "kernel.kind=codebook"),
        Step::Mixture => ("explicit mixture", "kernel.kind=mixture"),
    }
}

/// A preset with settings on top.
fn configure(preset: &str, settings: &[String]) -> anyhow::Result<RunConfig> {
    Ok(config::set(config::preset(preset)?, preset, settings)?)
}

/// Trains to the last step of the config.
fn train(
    name: &str,
    config: RunConfig,
    examples: Examples,
    device: &Device,
) -> anyhow::Result<Trained> {
    let steps = config.train.steps;
    let mut trainer = Trainer::new(config, examples, device)?;
    let progress = Progress::steps(name, steps);
    let started = Instant::now();
    let mut losses = Vec::new();
    for step in 1..=steps {
        let report = trainer
            .train_step()
            .with_context(|| format!("training {name}"))?;
        losses.push((step as usize, report.loss));
        progress.step(step, &format!("loss {:.4}", report.loss));
    }
    progress.finish();
    Ok(Trained {
        trainer,
        losses,
        seconds: started.elapsed().as_secs_f64(),
    })
}

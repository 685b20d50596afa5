//! `smd theory report`: the whole comparison on the 7x7 grid, trained and measured, as one page.

mod measure;
mod plan;

use crate::output;
use crate::progress::Progress;
use crate::report::{Comparison, ComparisonChain};
use anyhow::Context;
use burn::tensor::Device;
use measure::{Measured, Sizes};
use plan::Job;
use rayon::prelude::*;
use serde_json::json;
use smd::denoising_error::chain::qualities;
use smd::denoising_error::{self, DenoisingError, Family};
use smd::gmm::GaussianMixture;
use smd::noise::{self, Use};
use smd::schedule::{NoiseSchedule, ScheduleConfig};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Train the whole comparison on the 7x7 grid at T = 4, 8, 16, 50 and 1000, and write one page.
///
/// One Gaussian, soft mixtures as published (from scratch, from a real mixture, and with eta = 0), and the
/// kernels that are real mixtures: samples, M_t beside every floor, and the latent's influence over
/// training. Writes report.html and report.json; needs no download and about 20 minutes on two cores.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Folder for the files; created if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A shorter run of the same code, about two minutes: the numbers are worse.
    #[arg(long)]
    quick: bool,
}

pub(super) fn run(args: ReportArgs, device: &Device) -> anyhow::Result<()> {
    fs::create_dir_all(&args.out)
        .with_context(|| format!("creating the folder {}", args.out.display()))?;
    smd::files::check_writable(&args.out)
        .with_context(|| format!("cannot write to {}", args.out.display()))?;
    let started = Instant::now();
    let mixture = GaussianMixture::grid_7x7();
    let sizes = Sizes { quick: args.quick };
    let jobs = plan::jobs(args.quick);
    let measured = measure_all(&jobs, &mixture, sizes, device)?;
    let chains = plan::LENGTHS
        .iter()
        .map(|&steps| chain(steps, &jobs, &measured, &mixture, sizes))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let comparison = Comparison {
        truth: truth(&mixture),
        chains,
        machine: crate::machine::describe(),
        version: env!("CARGO_PKG_VERSION").into(),
        quick: args.quick,
        seconds: started.elapsed().as_secs_f64(),
    };
    let page = args.out.join("report.html");
    output::write_file(&page, comparison.to_html().as_bytes())?;
    let numbers = serde_json::to_string_pretty(&to_json(&comparison))?;
    output::write_file(&args.out.join("report.json"), numbers.as_bytes())?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}\nDone in {:.0} s. Open {}",
        comparison.to_text(),
        comparison.seconds,
        page.display()
    )?;
    Ok(())
}

/// Every job, as many at a time as there are threads: a perceptron of this size keeps one busy.
fn measure_all(
    jobs: &[Job],
    mixture: &GaussianMixture,
    sizes: Sizes,
    device: &Device,
) -> anyhow::Result<Vec<Measured>> {
    let total: u64 = jobs.iter().map(Job::updates).sum();
    let progress = Progress::steps("training", total);
    let done = AtomicU64::new(0);
    let bar = std::sync::Mutex::new(progress);
    let on_update = |name: &str| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(20)
            && let Ok(bar) = bar.try_lock()
        {
            bar.step(done, name);
        }
    };
    let measured = jobs
        .par_iter()
        .with_max_len(1)
        .map(|job| measure::measure(job, mixture, sizes, device, &on_update))
        .collect();
    if let Ok(bar) = bar.lock() {
        bar.finish();
    }
    measured
}

/// What is known at one length: floors and exact chains, and the models.
fn chain(
    steps: usize,
    jobs: &[Job],
    measured: &[Measured],
    mixture: &GaussianMixture,
    sizes: Sizes,
) -> anyhow::Result<ComparisonChain> {
    let schedule = NoiseSchedule::new(&ScheduleConfig {
        steps,
        ..ScheduleConfig::default()
    })?;
    let draws = if steps > 100 { 4_000 } else { 20_000 };
    let floors: DenoisingError = denoising_error::measure(mixture, &schedule, draws, 0, |_| {});
    let qualities = qualities(mixture, &schedule, &floors, sizes.samples(steps), 0, |_| {});
    let models = jobs.iter().zip(measured);
    let models = models.filter(|(job, _)| job.steps == steps);
    Ok(ComparisonChain {
        steps,
        floors,
        qualities,
        models: measure::models(models),
    })
}

/// Samples of the data, apart from those of any training.
fn truth(mixture: &GaussianMixture) -> Vec<[f32; 2]> {
    let mut rng = noise::rng(1 << 40, 0, 0, Use::Example);
    let point = |_| {
        let point = mixture.sample(&mut rng);
        [point[0] as f32, point[1] as f32]
    };
    (0..10_000).map(point).collect()
}

fn to_json(comparison: &Comparison) -> serde_json::Value {
    let chain = |chain: &ComparisonChain| {
        let floors = Family::ALL.map(|family| {
            let sum = chain.floors.sum_from(1, family);
            json!({"family": family.name(), "sum_m": sum.map(|s| s.nats), "sum_m_se": sum.map(|s| s.se)})
        });
        let models: Vec<_> = chain
            .models
            .iter()
            .map(|model| {
                json!({
                    "name": model.name,
                    "runs": model.runs.iter().map(|run| json!({
                        "seed": run.seed,
                        "sum_m": run.sum.nats,
                        "sum_m_se": run.sum.se,
                        "m": run.per_t.iter().map(|m| m.nats).collect::<Vec<_>>(),
                        "r": run.influence,
                        "modes": run.modes,
                        "share_within_3_std": run.share_within,
                        "sliced_wasserstein": run.swd,
                        "updates": run.updates,
                        "seconds": run.seconds,
                        "parameters": run.parameters,
                    })).collect::<Vec<_>>(),
                    "r_over_training": model.history,
                })
            })
            .collect();
        json!({"T": chain.steps, "floors": floors, "models": models})
    };
    json!({
        "chains": comparison.chains.iter().map(chain).collect::<Vec<_>>(),
        "machine": comparison.machine,
        "version": comparison.version,
        "quick": comparison.quick,
        "seconds": comparison.seconds,
    })
}

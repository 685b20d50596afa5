//! The floors of all Gaussian families at every step.

use super::numbers::{CELL, cell};
use super::plot::Picture;
use super::{Chain, at_least_2, read_mixture, shown};
use crate::output::{self, PlotFile};
use crate::progress::Progress;
use anyhow::Context;
use clap::builder::{PathBufValueParser, TypedValueParser};
use serde_json::{Map, Value, json};
use smd::denoising_error::chain::{self, ChainQuality, qualities};
use smd::denoising_error::{self, DenoisingError, Estimate, Family, measure};
use smd::gmm::GaussianMixture;
use smd::schedule::NoiseSchedule;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct FloorsArgs {
    /// `grid-7x7`, or a TOML file with a [mixture]: means, one of stds, variances, covariances, and
    /// weights.
    #[arg(
        value_name = "MIXTURE.toml|grid-7x7",
        required = true,
        value_parser = PathBufValueParser::new().try_map(no_command)
    )]
    mixture: Option<PathBuf>,
    /// Takes nothing: a place for the message that a command comes before its options.
    #[arg(hide = true, value_name = "MORE", value_parser = no_more)]
    more: Vec<String>,
    #[command(flatten)]
    chain: Chain,
    /// Draws of (x_t, x_{t-1}) for each step.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = at_least_2)]
    draws: usize,
    /// Samples of each chain, 0 for none. The last step adds no noise (Alg. 2), whatever the family; `exact`
    /// draws from the true step.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    samples: usize,
    /// Names every draw.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// Draw M_t over t: FILE.png or FILE.svg.
    #[arg(long, value_name = "FILE")]
    plot: Option<PlotFile>,
}

/// `smd theory --steps 4 exceed 5`: behind an option no command is expected any more.
fn no_command(name: PathBuf) -> Result<PathBuf, String> {
    match name.to_str() {
        Some(command @ ("exceed" | "report")) => Err(format!(
            "options of `{command}` stand behind it: smd theory {command} ... --steps T; a file of that \
             name is ./{command}"
        )),
        _ => Ok(name),
    }
}

fn no_more(_: &str) -> Result<String, String> {
    Err("nothing but options may follow a mixture".into())
}

/// What was measured.
struct Found {
    error: DenoisingError,
    chains: Vec<ChainQuality>,
    /// Why there are no chains though samples were asked for.
    left_out: Option<String>,
}

pub fn run(args: FloorsArgs) -> anyhow::Result<()> {
    assert!(args.more.is_empty(), "clap refuses it");
    let name = args.mixture.as_ref().expect("clap requires it");
    let mixture = read_mixture(name)?;
    let schedule = args.chain.schedule()?;
    denoising_error::check(&mixture, &schedule)
        .with_context(|| format!("{}: [mixture]", name.display()))?;
    let most_samples = MOST_NUMBERS / mixture.dim();
    anyhow::ensure!(
        args.samples <= most_samples,
        "--samples is {}, must be at most {most_samples} in {} dimensions",
        args.samples,
        mixture.dim()
    );
    if let Some(plot) = &args.plot {
        output::check_beside(plot.path())?;
    }
    let found = measure_all(&args, &mixture, &schedule);

    let title = format!("{}, {}", name.display(), args.chain.what());
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", to_json(&args, name, &mixture, &found))?;
    } else {
        let draws = args.draws;
        writeln!(
            out,
            "{title}, {draws} draws a step; nats, D = {}\n",
            mixture.dim()
        )?;
        print(&mut out, &found)?;
    }
    if let Some(plot) = &args.plot {
        plot.write(&Picture::new(title, &found.error))?;
    }
    Ok(())
}

/// Of all samples of a chain: 4 GB.
const MOST_NUMBERS: usize = 1_000_000_000;

fn measure_all(args: &FloorsArgs, mixture: &GaussianMixture, schedule: &NoiseSchedule) -> Found {
    let progress = Progress::steps("floors", schedule.steps() as u64);
    let error = measure(mixture, schedule, args.draws, args.seed, |done| {
        progress.step(done as u64, "");
    });
    progress.finish();
    let (samples, seed) = (args.samples, args.seed);
    let (mut chains, mut left_out) = (Vec::new(), None);
    if samples > 0 {
        match chain::check(mixture) {
            Err(why) => left_out = Some(why.to_string()),
            Ok(()) => {
                let progress = Progress::steps("chains", 1 + Family::ALL.len() as u64);
                let on_chain = |done| progress.step(done as u64, "");
                chains = qualities(mixture, schedule, &error, samples, seed, on_chain);
                progress.finish();
            }
        }
    }
    Found {
        error,
        chains,
        left_out,
    }
}

/// Under `name` the estimate, under `name_se` its standard error; null where there is none.
fn insert(object: &mut Map<String, Value>, name: &str, estimate: Option<Estimate>) {
    object.insert(name.into(), json!(estimate.map(|e| e.nats)));
    object.insert(format!("{name}_se"), json!(estimate.map(|e| e.se)));
}

fn families(mut of: impl FnMut(Family) -> Option<Estimate>) -> Map<String, Value> {
    let mut object = Map::new();
    for family in Family::ALL {
        insert(&mut object, family.name(), of(family));
    }
    object
}

/// The sum over `t >= 2`, which every family has.
fn sum_from_2(error: &DenoisingError, family: Family) -> Option<Estimate> {
    match error.per_t.len() {
        1 => Some(Estimate::default()),
        _ => error.sum_from(2, family),
    }
}

fn to_json(args: &FloorsArgs, name: &Path, mixture: &GaussianMixture, found: &Found) -> Value {
    let error = &found.error;
    let per_t = error.per_t.iter().map(|step| {
        let mut object = families(|family| step.floor(family));
        object.insert("t".into(), json!(step.t));
        object.insert("beta".into(), json!(step.beta));
        object.insert("alpha_bar".into(), json!(step.alpha_bar));
        object.insert("isotropic_var".into(), json!(step.isotropic_var));
        Value::Object(object)
    });
    let chains = found.chains.iter().map(|chain| {
        json!({
            "step": chain.step.name(),
            "modes_covered": chain.modes.covered,
            "modes": chain.modes.modes,
            "share_within_3_std": chain.modes.share_within_3_std,
            "share_se": chain.modes.share_se,
            "within_std_ratio": chain.modes.within_std_ratio,
            "sliced_wasserstein": chain.swd,
        })
    });
    let config = args.chain.config();
    json!({
        "mixture": name.display().to_string(),
        "dim": mixture.dim(),
        "schedule": config.kind,
        "steps": config.steps,
        "draws": args.draws,
        "samples": args.samples,
        "seed": args.seed,
        "per_t": per_t.collect::<Vec<_>>(),
        "kl_T": error.kl_start.nats,
        "kl_T_se": error.kl_start.se,
        "sum_M": families(|family| error.sum_from(1, family)),
        "sum_M_from_2": families(|family| sum_from_2(error, family)),
        "E": families(|family| error.total(family)),
        "chains": chains.collect::<Vec<_>>(),
        "chains_left_out": found.left_out,
    })
}

fn print(out: &mut impl Write, found: &Found) -> io::Result<()> {
    let error = &found.error;
    write!(out, "{:>5} {:>8} {:>9}", "t", "beta", "alpha_bar")?;
    for family in Family::ALL {
        write!(out, " {:>CELL$}", family.name())?;
    }
    writeln!(out)?;
    for step in shown(&error.per_t) {
        let (beta, alpha_bar) = (short(step.beta), short(step.alpha_bar));
        write!(out, "{:>5} {beta:>8} {alpha_bar:>9}", step.t)?;
        for family in Family::ALL {
            write!(out, " {:>CELL$}", cell(step.floor(family)))?;
        }
        writeln!(out)?;
    }
    let mut row = |name: &str, of: &dyn Fn(Family) -> Option<Estimate>| {
        write!(out, "{name:24}")?;
        for family in Family::ALL {
            write!(out, " {:>CELL$}", cell(of(family)))?;
        }
        writeln!(out)
    };
    row("sum of M_t", &|family| error.sum_from(1, family))?;
    row("sum of M_t, t >= 2", &|family| sum_from_2(error, family))?;
    row("E = KL_T + sum of M_t", &|family| error.total(family))?;
    writeln!(
        out,
        "KL_T = KL(q(x_T) || N(0, I))  {}",
        cell(Some(error.kl_start))
    )?;
    if let Some(why) = &found.left_out {
        writeln!(out, "\nNo samples, which are 32-bit numbers: {why}.")?;
    }
    if found.chains.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<12} {:>10} {:>14} {:>12} {:>8}",
        "chain", "modes", "within 3 std", "width ratio", "SWD"
    )?;
    for chain in &found.chains {
        let modes = format!("{} of {}", chain.modes.covered, chain.modes.modes);
        let share = format!("{:.1} %", 100.0 * chain.modes.share_within_3_std);
        writeln!(
            out,
            "{:<12} {modes:>10} {share:>14} {:>12.2} {:>8.4}",
            chain.step.name(),
            chain.modes.within_std_ratio,
            chain.swd
        )?;
    }
    writeln!(
        out,
        "Every chain but the exact one ends with the mean of its last step, without noise (Algorithm 2)."
    )
}

/// Four digits.
fn short(value: f64) -> String {
    if value >= 1e-3 {
        format!("{value:.5}")
    } else {
        format!("{value:.2e}")
    }
}

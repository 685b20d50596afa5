//! The floors of all Gaussian families at every step.

use super::plot::Picture;
use super::{Chain, at_least_2, read_mixture, shown};
use crate::output::{self, PlotFile};
use crate::progress::Progress;
use serde_json::{Map, Value, json};
use smd::denoising_error::chain::{ChainQuality, qualities};
use smd::denoising_error::{DenoisingError, Estimate, Family, measure};
use std::io::{self, Write};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct FloorsArgs {
    /// `grid-7x7`, or a TOML file with a [mixture]: means, one of stds, variances, covariances, and
    /// weights.
    #[arg(value_name = "MIXTURE.toml|grid-7x7", required = true)]
    mixture: Option<PathBuf>,
    #[command(flatten)]
    chain: Chain,
    /// Draws of (x_t, x_{t-1}) for each step.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = at_least_2)]
    draws: usize,
    /// Samples of each chain; 0 for none.
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

pub fn run(args: FloorsArgs) -> anyhow::Result<()> {
    let name = args.mixture.as_ref().expect("clap requires it");
    let mixture = read_mixture(name)?;
    let schedule = args.chain.schedule()?;
    if let Some(plot) = &args.plot {
        output::check_beside(plot.path())?;
    }
    let steps = schedule.steps();
    let progress = Progress::steps("floors", steps as u64);
    let error = measure(&mixture, &schedule, args.draws, args.seed, |done| {
        progress.step(done as u64, "");
    });
    progress.finish();
    let chains = if args.samples == 0 {
        Vec::new()
    } else {
        let progress = Progress::steps("chains", 1 + Family::ALL.len() as u64);
        let on_chain = |done| progress.step(done as u64, "");
        let found = qualities(
            &mixture,
            &schedule,
            &error,
            args.samples,
            args.seed,
            on_chain,
        );
        progress.finish();
        found
    };

    let title = format!("{}, {}", name.display(), args.chain.what());
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", to_json(&error, &chains))?;
    } else {
        let draws = args.draws;
        writeln!(
            out,
            "{title}, {draws} draws a step; nats, D = {}\n",
            mixture.dim()
        )?;
        print(&mut out, &error, &chains)?;
    }
    if let Some(plot) = &args.plot {
        plot.write(&Picture::new(title, &error))?;
    }
    Ok(())
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

fn to_json(error: &DenoisingError, chains: &[ChainQuality]) -> Value {
    let per_t = error.per_t.iter().map(|step| {
        let mut object = families(|family| step.floor(family));
        object.insert("t".into(), json!(step.t));
        object.insert("beta".into(), json!(step.beta));
        object.insert("alpha_bar".into(), json!(step.alpha_bar));
        object.insert("isotropic_var".into(), json!(step.isotropic_var));
        Value::Object(object)
    });
    let chains = chains.iter().map(|chain| {
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
    json!({
        "per_t": per_t.collect::<Vec<_>>(),
        "kl_T": error.kl_start.nats,
        "kl_T_se": error.kl_start.se,
        "sum_M": families(|family| error.sum_from(1, family)),
        "E": families(|family| error.total(family)),
        "chains": chains.collect::<Vec<_>>(),
    })
}

fn print(out: &mut impl Write, error: &DenoisingError, chains: &[ChainQuality]) -> io::Result<()> {
    write!(out, "{:>6} {:>10} {:>10}", "t", "beta", "alpha_bar")?;
    for family in Family::ALL {
        write!(out, " {:>17}", family.name())?;
    }
    writeln!(out)?;
    for step in shown(&error.per_t) {
        let (beta, alpha_bar) = (short(step.beta), short(step.alpha_bar));
        write!(out, "{:>6} {beta:>10} {alpha_bar:>10}", step.t)?;
        for family in Family::ALL {
            write!(out, " {:>17}", cell(step.floor(family)))?;
        }
        writeln!(out)?;
    }
    let mut row = |name: &str, of: &dyn Fn(Family) -> Option<Estimate>| {
        write!(out, "{name:28}")?;
        for family in Family::ALL {
            write!(out, " {:>17}", cell(of(family)))?;
        }
        writeln!(out)
    };
    row("sum of M_t", &|family| error.sum_from(1, family))?;
    row("sum of M_t, t >= 2", &|family| match error.per_t.len() {
        1 => Some(Estimate::default()),
        _ => error.sum_from(2, family),
    })?;
    row("E = KL_T + sum of M_t", &|family| error.total(family))?;
    writeln!(
        out,
        "KL_T = KL(q(x_T) || N(0, I))  {}",
        cell(Some(error.kl_start))
    )?;
    if chains.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<12} {:>10} {:>14} {:>12} {:>8}",
        "chain", "modes", "within 3 std", "width ratio", "SWD"
    )?;
    for chain in chains {
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
    Ok(())
}

/// "0.1234 ± 0.0005", with as many digits as the error leaves.
fn cell(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "-".into(),
        Some(Estimate { nats, se }) => format!("{nats:.5} ± {se:.5}"),
    }
}

/// Four digits.
fn short(value: f64) -> String {
    if value >= 1e-3 {
        format!("{value:.5}")
    } else {
        format!("{value:.2e}")
    }
}

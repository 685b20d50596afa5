//! Theorem 3.1 as a program.

use super::numbers::compact;
use super::{Chain, shown};
use crate::progress::Progress;
use serde_json::json;
use smd::denoising_error::exceed::{Exceeding, exceed};
use std::io::{self, Write};

/// Print data on which every Gaussian step loses more than N nats at every t (Theorem 3.1).
///
/// Every Gaussian: also one with the best covariance matrix for each x_t. The data are independent
/// coordinates, each two narrow Gaussians at -u and u: for every t some scale u leaves the step undecided
/// between them, and copies of the ladder of scales add up. Nothing is drawn: M_t are integrals.
#[derive(Debug, clap::Args)]
pub struct ExceedArgs {
    /// Nats to exceed.
    #[arg(value_name = "N", value_parser = positive)]
    nats: f64,
    #[command(flatten)]
    chain: Chain,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(nats) if nats > 0.0 && nats.is_finite() => Ok(nats),
        _ => Err("must be a positive number of nats".into()),
    }
}

pub fn run(args: ExceedArgs) -> anyhow::Result<()> {
    let schedule = args.chain.schedule()?;
    let progress = Progress::steps("floors", schedule.steps() as u64);
    let found = exceed(args.nats, &schedule, |done| progress.step(done as u64, ""))?;
    progress.finish();
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", to_json(&args, &found))?;
    } else {
        print(&mut out, &args, &found)?;
    }
    Ok(())
}

fn to_json(args: &ExceedArgs, found: &Exceeding) -> serde_json::Value {
    let per_t = found.per_coordinate.iter().zip(&found.full).enumerate();
    let per_t = per_t.map(|(i, (per_coordinate, full))| {
        json!({
            "t": i + 1,
            "per_coordinate": per_coordinate,
            "full": full,
        })
    });
    let config = args.chain.config();
    json!({
        "nats": args.nats,
        "schedule": config.kind,
        "steps": config.steps,
        "dim": found.dim(),
        "copies": found.copies,
        "scales": found.scales,
        "stds": found.scales.iter().map(|&scale| Exceeding::std(scale)).collect::<Vec<_>>(),
        "per_t": per_t.collect::<Vec<_>>(),
    })
}

fn print(out: &mut impl Write, args: &ExceedArgs, found: &Exceeding) -> io::Result<()> {
    let (dim, copies) = (found.dim(), found.copies);
    // 1e-300 would have 300 zeros.
    let nats = match args.nats {
        nats if (1e-3..1e6).contains(&nats) => nats.to_string(),
        nats => format!("{nats:e}"),
    };
    writeln!(
        out,
        "M_t > {nats} nats at every t, of every Gaussian step: {}\n",
        args.chain.what()
    )?;
    writeln!(
        out,
        "D = {dim} independent coordinates, a mixture of 2^{dim} Gaussians: {copies} of each of these,\n\
         each an equal mixture of N(-u, s^2) and N(u, s^2):\n"
    )?;
    writeln!(out, "{:>14} {:>14}", "u", "s")?;
    for &scale in &found.scales {
        let [u, s] = [scale, Exceeding::std(scale)].map(|number| compact(number, 6));
        writeln!(out, "{u:>14} {s:>14}")?;
    }
    writeln!(
        out,
        "\nM_t in nats, at least, of the best Gaussian with\n\n{:>6} {:>38} {:>28}",
        "t", "one variance for each t and coordinate", "any covariance for each x_t"
    )?;
    let rows: Vec<_> = (1..)
        .zip(found.per_coordinate.iter().zip(&found.full))
        .collect();
    for (t, (per_coordinate, full)) in shown(&rows) {
        let [per_coordinate, full] = [per_coordinate, full].map(|nats| compact(**nats, 4));
        writeln!(out, "{t:>6} {per_coordinate:>38} {full:>28}")?;
    }
    let (t, (_, smallest)) = rows
        .iter()
        .min_by(|a, b| a.1.1.total_cmp(b.1.1))
        .expect("a chain has a step");
    writeln!(
        out,
        "\nThe least that any Gaussian step loses is {} nats, at t = {t}. The steps of Eq. 2 have one variance\n\
         for all coordinates and lose no less than the left column says.",
        compact(**smallest, 6)
    )
}

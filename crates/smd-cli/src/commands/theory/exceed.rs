//! Theorem 3.1 as a program.

use super::{Chain, at_least_2};
use crate::progress::Progress;
use serde_json::json;
use smd::denoising_error::exceed::{Exceeding, exceed};
use std::io::{self, Write};

/// Print data on which every Gaussian step loses more than N nats at every t (Theorem 3.1).
///
/// The data are independent coordinates, each two narrow Gaussians at -u and u: for every t some scale u
/// leaves the step undecided between them, and copies of the ladder of scales add up.
#[derive(Debug, clap::Args)]
pub struct ExceedArgs {
    /// Nats to exceed.
    #[arg(value_name = "N", value_parser = positive)]
    nats: f64,
    #[command(flatten)]
    chain: Chain,
    /// Draws of (x_t, x_{t-1}) for each step and scale.
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = at_least_2)]
    draws: usize,
    /// Names every draw.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
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
    let found = exceed(args.nats, &schedule, args.draws, args.seed, |done| {
        progress.step(done as u64, "");
    });
    progress.finish();
    let found = found.ok_or_else(|| {
        anyhow::anyhow!(
            "{} draws do not tell the smallest M_t from 0; raise --draws",
            args.draws
        )
    })?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", to_json(&found))?;
    } else {
        print(&mut out, &args, &found)?;
    }
    Ok(())
}

fn to_json(found: &Exceeding) -> serde_json::Value {
    let per_t = found.isotropic.iter().zip(&found.full).enumerate();
    let per_t = per_t.map(|(i, (isotropic, full))| {
        json!({
            "t": i + 1,
            "isotropic": isotropic.nats,
            "isotropic_se": isotropic.se,
            "full": full.nats,
            "full_se": full.se,
        })
    });
    json!({
        "dim": found.dim(),
        "copies": found.copies,
        "scales": found.scales,
        "stds": found.scales.iter().map(|&scale| Exceeding::std(scale)).collect::<Vec<_>>(),
        "per_t": per_t.collect::<Vec<_>>(),
    })
}

fn print(out: &mut impl Write, args: &ExceedArgs, found: &Exceeding) -> io::Result<()> {
    let (dim, copies) = (found.dim(), found.copies);
    writeln!(
        out,
        "M_t > {} nats at every t: {}\n",
        args.nats,
        args.chain.what()
    )?;
    writeln!(
        out,
        "D = {dim} independent coordinates, a mixture of 2^{dim} Gaussians: {copies} of each of these,\n\
         each an equal mixture of N(-u, s^2) and N(u, s^2):\n"
    )?;
    writeln!(out, "{:>14} {:>14}", "u", "s")?;
    for &scale in &found.scales {
        writeln!(out, "{scale:>14.6} {:>14.6}", Exceeding::std(scale))?;
    }
    writeln!(
        out,
        "\n{:>6} {:>26} {:>26}",
        "t", "M_t, one variance a step", "any covariance for each x_t"
    )?;
    for (i, (isotropic, full)) in found.isotropic.iter().zip(&found.full).enumerate() {
        let cell = |m: &smd::denoising_error::Estimate| format!("{:.3} ± {:.3}", m.nats, m.se);
        writeln!(
            out,
            "{:>6} {:>26} {:>26}",
            i + 1,
            cell(isotropic),
            cell(full)
        )?;
    }
    let smallest = found
        .isotropic
        .iter()
        .map(|m| m.nats - 5.0 * m.se)
        .fold(f64::INFINITY, f64::min);
    writeln!(
        out,
        "\nThe smallest M_t is above {smallest:.3} nats, by five standard errors."
    )
}

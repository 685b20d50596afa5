//! `M_t` of a model on a known mixture, beside the floors of Gaussian steps.

use super::DiagnoseArgs;
use crate::commands::theory::shown;
use crate::progress::Progress;
use burn::tensor::Device;
use serde_json::json;
use smd::config::RunConfig;
use smd::denoise::{Denoise, Denoiser};
use smd::denoising_error::{Estimate, Family, StepFloors, step_floors};
use smd::eval::influence::influence;
use smd::eval::kernel_error::{self, Probe, StepError};
use smd::gmm::GaussianMixture;
use std::io::{self, Write};

/// What is known of one step.
struct Row {
    error: StepError,
    floors: StepFloors,
    r: f64,
}

pub(super) fn run(
    denoiser: &Denoiser,
    config: &RunConfig,
    mixture: &GaussianMixture,
    args: &DiagnoseArgs,
    device: &Device,
) -> anyhow::Result<()> {
    let steps = denoiser.process().steps();
    let progress = Progress::steps("measuring", steps as u64);
    let rows: Vec<Row> = (1..=steps)
        .map(|t| {
            let probe = Probe {
                points: args.points,
                etas: if t == 1 { 8 * args.etas } else { args.etas },
                seed: args.seed,
                step_var: config.sample.step_var,
            };
            let schedule = denoiser.process().schedule();
            let row = Row {
                error: kernel_error::on_mixture(denoiser, mixture, t, probe, device),
                floors: step_floors(mixture, schedule, t, 20_000, args.seed),
                r: influence(
                    denoiser,
                    mixture,
                    t,
                    args.points.min(1_000),
                    8,
                    args.seed,
                    device,
                ),
            };
            progress.step(t as u64, "");
            row
        })
        .collect();
    progress.finish();
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", to_json(&rows))?;
    } else {
        print(&mut out, &rows)?;
    }
    let ignored = rows.iter().all(|row| row.r < super::COLLAPSED);
    super::warn(denoiser.is_implicit() && ignored);
    Ok(())
}

/// The smallest error that is known of a step: the kernel's own, or with the best variance.
fn best(error: &StepError) -> Estimate {
    match error.calibrated {
        Some(calibrated) if calibrated.nats < error.own.nats => calibrated,
        _ => error.own,
    }
}

fn sum(rows: &[Row], of: impl Fn(&Row) -> Estimate) -> Estimate {
    rows.iter().map(of).fold(Estimate::default(), |a, b| a + b)
}

fn floor(row: &Row, family: Family) -> Estimate {
    let floor = row.floors.floor(family);
    floor.unwrap_or_default()
}

fn to_json(rows: &[Row]) -> serde_json::Value {
    let per_t: Vec<_> = rows
        .iter()
        .map(|row| {
            let StepError {
                t,
                own,
                half,
                calibrated,
                calibrated_var,
            } = row.error;
            json!({
                "t": t,
                "m": own.nats,
                "m_se": own.se,
                "m_half_latents": half.map(|half| half.nats),
                "m_calibrated": calibrated.map(|error| error.nats),
                "m_calibrated_se": calibrated.map(|error| error.se),
                "calibrated_x_0_var": calibrated_var,
                "r": row.r,
                "floor_fixed_large": floor(row, Family::FixedLarge).nats,
                "floor_isotropic": floor(row, Family::Isotropic).nats,
                "floor_full": floor(row, Family::Full).nats,
            })
        })
        .collect();
    let (own, best) = (
        sum(rows, |row| row.error.own),
        sum(rows, |row| best(&row.error)),
    );
    json!({
        "per_t": per_t,
        "sum_m": own.nats,
        "sum_m_se": own.se,
        "sum_m_best_var": best.nats,
        "sum_m_best_var_se": best.se,
        "sum_floor_fixed_large": sum(rows, |row| floor(row, Family::FixedLarge)).nats,
        "sum_floor_isotropic": sum(rows, |row| floor(row, Family::Isotropic)).nats,
        "sum_floor_full": sum(rows, |row| floor(row, Family::Full)).nats,
    })
}

fn print(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let cell = |estimate: Option<Estimate>| match estimate {
        None => "-".into(),
        Some(Estimate { nats, se }) => format!("{nats:.4} ± {se:.4}"),
    };
    writeln!(
        out,
        "{:>5} {:>19} {:>12} {:>19} {:>10}  {:>9} {:>9} {:>9}",
        "t", "M_t, nats", "half of z", "best variance", "r_t", "beta_t", "one s_t", "full"
    )?;
    for row in shown(rows) {
        let StepError {
            t,
            own,
            half,
            calibrated,
            ..
        } = row.error;
        let half = half.map_or("-".into(), |half| format!("{:.4}", half.nats));
        writeln!(
            out,
            "{t:>5} {:>19} {half:>12} {:>19} {:>10}  {:>9} {:>9} {:>9}",
            cell(Some(own)),
            cell(calibrated),
            four(row.r),
            four(floor(row, Family::FixedLarge).nats),
            four(floor(row, Family::Isotropic).nats),
            four(floor(row, Family::Full).nats),
        )?;
    }
    let calibrates = rows.iter().any(|row| row.error.calibrated.is_some());
    writeln!(
        out,
        "{:>5} {:>19} {:>12} {:>19} {:>10}  {:>9} {:>9} {:>9}",
        "sum",
        cell(Some(sum(rows, |row| row.error.own))),
        "",
        cell(calibrates.then(|| sum(rows, |row| best(&row.error)))),
        "",
        four(sum(rows, |row| floor(row, Family::FixedLarge)).nats),
        four(sum(rows, |row| floor(row, Family::Isotropic)).nats),
        four(sum(rows, |row| floor(row, Family::Full)).nats),
    )?;
    writeln!(
        out,
        "\nThe last three are the least that any Gaussian step can lose, with the variance beta_t, one number\n\
         for each t, or a covariance matrix for each x_t. A latent's M_t is an upper bound: compare it with\n\
         that from half of the draws, and take more --etas where they differ."
    )
}

/// Four digits behind the point.
fn four(value: f64) -> String {
    format!("{value:.4}")
}

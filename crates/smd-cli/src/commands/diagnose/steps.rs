//! A model's own steps on examples: its likelihood, and whether its latent is used.

use crate::commands::theory::shown;
use crate::progress::Progress;
use burn::tensor::Tensor;
use serde_json::{Value, json};
use smd::denoise::{Denoise, Denoiser};
use smd::denoising_error::Estimate;
use smd::eval::influence::influence_on;
use smd::eval::kernel_error::{self, Probe};
use smd::process::StepVar;
use std::io::{self, Write};

/// Draws of a continuous latent at each example, for its likelihood.
pub(super) const ETAS: usize = 16;

/// Examples at which a continuous latent is drawn so often.
const IMPLICIT: usize = 128;

/// Draws at each example for the latent's influence.
const DRAWS: usize = 4;

/// One step.
pub(super) struct Row {
    t: usize,
    l: Estimate,
    best: Option<Estimate>,
    r: Option<f64>,
}

/// All steps of a short chain, some of a long one.
///
/// # Shapes
/// - `x_0`: `[B, H, W, C]`, at most a thousand or so
pub(super) fn measure(
    denoiser: &Denoiser,
    x_0: &Tensor<4>,
    step_var: StepVar,
    seed: u64,
) -> Vec<Row> {
    let all: Vec<usize> = (1..=denoiser.process().steps()).collect();
    let steps = shown(&all);
    let implicit = denoiser.is_implicit();
    let count = x_0.dims()[0];
    let few = x_0.clone().narrow(0, 0, count.min(IMPLICIT));
    let progress = Progress::steps("the model's steps", steps.len() as u64);
    let row = |(done, &t): (usize, &usize)| {
        let probe = Probe {
            points: count,
            etas: ETAS,
            seed,
            step_var,
        };
        let examples = if implicit { few.clone() } else { x_0.clone() };
        let error = kernel_error::on_examples(denoiser, examples, t, probe);
        let draws = !matches!(denoiser, Denoiser::Gaussian(_));
        progress.step(done as u64 + 1, "");
        Row {
            t,
            l: error.own,
            best: error.calibrated,
            r: draws.then(|| influence_on(denoiser, few.clone(), t, DRAWS, seed)),
        }
    };
    let rows = steps.into_iter().enumerate().map(row).collect();
    progress.finish();
    rows
}

pub(super) fn to_json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "t": row.t,
            "l": row.l.nats,
            "l_se": row.l.se,
            "l_best_var": row.best.map(|best| best.nats),
            "r": row.r,
        })
    };
    rows.iter().map(row).collect()
}

pub(super) fn print(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    writeln!(
        out,
        "\nThe model's own steps: L_t = M_t + the information of the step, nats an example (t = 1: -log p(x_0 | x_1)).\n\
         A better model's L_t on the same examples proves how much this one loses.\n\n\
         {:>5} {:>22} {:>22} {:>8}",
        "t", "L_t", "with the best variance", "r_t"
    )?;
    let cell = |Estimate { nats, se }: Estimate| format!("{nats:.2} ± {se:.2}");
    for row in rows {
        writeln!(
            out,
            "{:>5} {:>22} {:>22} {:>8}",
            row.t,
            cell(row.l),
            row.best.map_or("-".into(), cell),
            row.r.map_or("-".into(), |r| format!("{r:.4}")),
        )?;
    }
    Ok(())
}

/// Whether a latent is drawn, and ignored at every step.
pub(super) fn is_collapsed(denoiser: &Denoiser, rows: &[Row]) -> bool {
    let ignored = |row: &Row| row.r.is_some_and(|r| r < super::COLLAPSED);
    denoiser.is_implicit() && rows.iter().all(ignored)
}

//! What Gaussian steps lose on any data, from a model's errors over noise levels.

use super::curve::{self, UNSEEN};
use super::{memory, steps};
use burn::tensor::Device;
use serde_json::{Map, Value, json};
use smd::data::{Examples, Order};
use smd::denoise::{Denoise, Denoiser};
use smd::denoising_error::Estimate;
use smd::eval::error_curve::{ErrorCurve, GaussianLoss};
use smd::eval::memory::Memory;
use smd::process::StepVar;
use std::io::{self, Write};

/// Steps of the chains.
const CHAINS: [usize; 5] = [3, 5, 10, 20, 50];

/// A smaller share of what the steps have to say is not what holds a chain back.
const SMALL_SHARE: f64 = 0.05;

/// Examples at which the model's own steps are measured, at most.
const SHOWN: usize = 1000;

/// A chain's steps, and what it loses.
type Row = (usize, GaussianLoss);

#[allow(clippy::too_many_arguments, reason = "the flags of one command")]
pub(super) fn run(
    denoiser: &Denoiser,
    examples: &Examples,
    count: usize,
    seed: u64,
    step_var: StepVar,
    memory: Option<Memory>,
    json: bool,
    device: &Device,
) -> anyhow::Result<()> {
    let training = denoiser.process().steps();
    anyhow::ensure!(
        training >= CHAINS[0],
        "the model was trained with {training} steps, and the shortest chain here has {}",
        CHAINS[0]
    );
    let options = curve::options(denoiser, examples, count, seed)?;
    let curve = curve::measure(denoiser, examples, &options, device)?;
    let (count, levels) = (options.examples, curve.levels.len());
    let mut order = Order::new(seed, examples.len().unwrap_or(1));
    let first = examples.len().map_or(UNSEEN, |_| 0);
    let x_0 = examples.batch(
        first..first + count.min(SHOWN) as u64,
        &mut order,
        seed,
        false,
        device,
    );
    let steps = steps::measure(denoiser, &x_0, step_var, seed);
    let collapsed = steps::is_collapsed(denoiser, &steps);
    let rows: Vec<Row> = CHAINS
        .into_iter()
        .filter_map(|steps| Some((steps, curve.gaussian_loss(steps)?)))
        .collect();

    let mut out = io::stdout().lock();
    if json {
        let mut object = to_json(&curve, &rows, training, count);
        object["per_t"] = steps::to_json(&steps);
        object["memory"] = json!(memory.map(memory::to_json));
        writeln!(out, "{object}")?;
        super::warn(collapsed);
        return Ok(());
    }
    writeln!(
        out,
        "nats that Gaussian steps about the model's mean of x_0 lose on an example, t >= 2, from its errors on\n\
         {count} examples at {levels} noise levels; information: what these steps have to say of x_0\n"
    )?;
    print(&mut out, &rows, curve.dim)?;
    writeln!(out, "\n{}", reading(&rows, training))?;
    if options.draws > 1 {
        writeln!(
            out,
            "The model's own step is a mixture: these are the Gaussians that it replaces, at its mean."
        )?;
    }
    steps::print(&mut out, &steps)?;
    if let Some(memory) = memory {
        memory::print(&mut out, memory)?;
    }
    super::warn(collapsed);
    Ok(())
}

/// The columns: their names on the terminal and in JSON, and their numbers.
fn columns(loss: &GaussianLoss) -> [(&'static str, &'static str, Estimate); 4] {
    [
        ("information", "information", loss.information),
        ("lost: tilde beta_t", "fixed_small", loss.fixed_small),
        ("beta_t", "fixed_large", loss.fixed_large),
        ("one best s_t", "calibrated", loss.calibrated),
    ]
}

fn to_json(curve: &ErrorCurve, rows: &[Row], training: usize, count: usize) -> Value {
    let chains = rows.iter().map(|(steps, loss)| {
        let mut object = Map::new();
        object.insert("steps".into(), json!(steps));
        for (_, name, Estimate { nats, se }) in columns(loss) {
            object.insert(name.into(), json!(nats));
            object.insert(format!("{name}_se"), json!(se));
            let per_dim = nats / curve.dim as f64;
            object.insert(format!("{name}_per_dim"), json!(per_dim));
        }
        object.insert("share".into(), json!(share(loss)));
        Value::Object(object)
    });
    let levels = curve.levels.iter().map(|level| {
        json!({
            "t": level.t,
            "snr": level.snr,
            "mse": level.mse,
            "mmse": level.mmse,
        })
    });
    json!({
        "dim": curve.dim,
        "examples": count,
        "training_steps": training,
        "chains": chains.collect::<Vec<_>>(),
        "levels": levels.collect::<Vec<_>>(),
    })
}

/// What the best Gaussians lose, of what their steps have to say.
fn share(loss: &GaussianLoss) -> f64 {
    loss.calibrated.nats / loss.information.nats
}

fn print(out: &mut impl Write, rows: &[Row], dim: usize) -> io::Result<()> {
    let head = |out: &mut dyn Write, last: &str| {
        write!(out, "{:>4}", "T")?;
        for (name, ..) in columns(&rows[0].1) {
            write!(out, " {name:>20}")?;
        }
        writeln!(out, "{last}")
    };
    head(out, "   share")?;
    for (steps, loss) in rows {
        write!(out, "{steps:>4}")?;
        for (.., estimate) in columns(loss) {
            write!(out, " {:>20}", cell(estimate))?;
        }
        writeln!(out, " {:>5.1} %", 100.0 * share(loss))?;
    }
    writeln!(out, "\nfor each of the {dim} numbers of an example")?;
    head(out, "")?;
    for (steps, loss) in rows {
        write!(out, "{steps:>4}")?;
        for (.., estimate) in columns(loss) {
            write!(out, " {:>20.6}", estimate.nats / dim as f64)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// "0.1234 ± 0.0056": two digits of the error.
fn cell(Estimate { nats, se }: Estimate) -> String {
    let digits = if se > 0.0 {
        (1.0 - se.log10().floor()).clamp(0.0, 6.0) as usize
    } else {
        4
    };
    format!("{nats:.digits$} ± {se:.digits$}")
}

/// Three digits or more.
fn short(nats: f64) -> String {
    let digits = (2.0 - nats.abs().max(1e-4).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{nats:.digits$}")
}

/// The table in words: is it the Gaussian that holds few steps back?
fn reading(rows: &[Row], training: usize) -> String {
    let (steps, loss) = &rows[0];
    let (lost, said) = (short(loss.calibrated.nats), short(loss.information.nats));
    let percent = 100.0 * share(loss);
    let least = 100.0 * SMALL_SHARE;
    let mut lines = Vec::new();
    if loss.calibrated.nats < 2.0 * loss.calibrated.se {
        lines.push(format!(
            "At T = {steps} the loss of Gaussians with the best variance cannot be told from 0 with these \
             examples."
        ));
    } else if share(loss) < SMALL_SHARE {
        lines.push(format!(
            "At T = {steps} Gaussians with the best variance lose {lost} nats, {percent:.1} % of the {said} that \
             these steps have to\nsay of an example. They are not held back by being Gaussian: look at the last \
             step, at the network,\nand at the variance."
        ));
    } else {
        lines.push(format!(
            "At T = {steps} Gaussians with the best variance lose {lost} nats, {percent:.1} % of the {said} that \
             these steps have to\nsay of an example: the Gaussian holds few steps back, and steps that are \
             mixtures can win as much."
        ));
        // From where on all longer chains lose little.
        let small = rows
            .iter()
            .rev()
            .take_while(|(_, loss)| share(loss) < SMALL_SHARE);
        lines.push(match small.last() {
            Some((steps, _)) => format!("From T = {steps} on it is less than {least:.0} %."),
            None => format!("No chain here is below {least:.0} %."),
        });
    }
    let more = |of: Estimate| short(of.nats - loss.calibrated.nats);
    lines.push(format!(
        "The published variances lose more at T = {steps}: tilde beta_t by {} nats, beta_t by {}.",
        more(loss.fixed_small),
        more(loss.fixed_large)
    ));
    lines.push(
        "The last step, t = 1, is not counted: the errors do not tell what it loses, and it may be the most."
            .into(),
    );
    if training < CHAINS[CHAINS.len() - 1] {
        lines.push(format!(
            "The model was trained with {training} steps: longer chains are left out, and between its own noise \
             levels\nthe curve is that of a Gaussian."
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(steps: usize, calibrated: f64, information: f64) -> Row {
        let estimate = |nats| Estimate { nats, se: 0.5 };
        let loss = GaussianLoss {
            fixed_small: estimate(calibrated + 40.0),
            fixed_large: estimate(calibrated + 0.25),
            calibrated: estimate(calibrated),
            information: estimate(information),
        };
        (steps, loss)
    }

    #[test]
    fn a_bottleneck_is_told_and_where_it_ends() {
        let rows = [
            row(3, 30.0, 200.0),
            row(5, 20.0, 300.0),
            row(10, 8.0, 400.0),
        ];
        let text = reading(&rows, 1000);
        assert!(
            text.contains("lose 30.0 nats, 15.0 % of the 200 that"),
            "{text}"
        );
        assert!(text.contains("the Gaussian holds few steps back"), "{text}");
        assert!(
            text.contains("From T = 10 on it is less than 5 %."),
            "{text}"
        );
        assert!(
            text.contains("tilde beta_t by 40.0 nats, beta_t by 0.250."),
            "{text}"
        );
        assert!(!text.contains("trained with"), "{text}");
    }

    #[test]
    fn a_loss_that_stays_is_told() {
        let text = reading(&[row(3, 30.0, 200.0), row(5, 50.0, 300.0)], 8);
        assert!(text.contains("No chain here is below 5 %."), "{text}");
        assert!(text.contains("was trained with 8 steps"), "{text}");
    }

    #[test]
    fn no_bottleneck_is_told() {
        let text = reading(&[row(3, 4.0, 200.0)], 1000);
        assert!(text.contains("They are not held back"), "{text}");
        let text = reading(&[row(3, 0.9, 2.0)], 1000);
        assert!(text.contains("cannot be told from 0"), "{text}");
    }

    #[test]
    fn a_cell_has_two_digits_of_its_error() {
        let cell = |nats, se| cell(Estimate { nats, se });
        assert_eq!(cell(812.3456, 3.21), "812.3 ± 3.2");
        assert_eq!(cell(0.1034, 0.0123), "0.103 ± 0.012");
        assert_eq!(cell(5e4, 2e3), "50000 ± 2000");
        assert_eq!(cell(0.0, 0.0), "0.0000 ± 0.0000");
    }

    /// Every chain is in both halves of the table.
    #[test]
    fn the_table_has_a_row_for_each_chain() {
        let rows = [row(3, 30.0, 200.0), row(5, 20.0, 300.0)];
        let mut out = Vec::new();
        print(&mut out, &rows, 100).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 8, "{text}");
        assert!(text.contains("30.00 ± 0.50  15.0 %"), "{text}");
        assert!(text.contains("0.300000"), "{text}");
    }
}

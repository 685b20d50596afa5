//! `smd verify`: a checkpoint held against what another program computed.

use burn::tensor::Device;
use serde_json::json;
use smd::checkpoint::{Checkpoint, Weights};
use smd::verify::{Comparison, Tolerance, verify};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Run a model on recorded inputs and compare with recorded outputs; exit 1 if they differ.
///
/// The reference is a safetensors file with `input.x_0` or `input.x_t`, `input.t` (from 0),
/// `input.eps`, `input.eta`, and any of `expected.x_t`, `expected.z_t`, `expected.eps`,
/// `expected.x_0`, `expected.v`, `expected.loss`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// A checkpoint, or a run's folder for its newest one.
    #[arg(value_name = "CKPT|RUN")]
    checkpoint: PathBuf,
    /// Inputs and expected outputs.
    #[arg(long, value_name = "FILE")]
    reference: PathBuf,
    /// Largest difference relative to the expected number.
    #[arg(long, value_name = "R", default_value_t = Tolerance::default().relative)]
    rtol: f64,
    /// Largest difference on top of it.
    #[arg(long, value_name = "A", default_value_t = Tolerance::default().absolute)]
    atol: f64,
    /// Average of the weights by its decay, e.g. 0.9999, or none. Default: none.
    #[arg(long, value_name = "NAME")]
    ema: Option<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(args: VerifyArgs, device: &Device) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let weights = args.ema.as_deref().map_or(Weights::Raw, Weights::from);
    let denoiser = checkpoint.denoiser(&weights, device)?;
    let tolerance = Tolerance {
        relative: args.rtol,
        absolute: args.atol,
    };
    let config = checkpoint.config();
    let found = verify(&denoiser, config, &args.reference, tolerance, device)?;
    let agrees = found.iter().all(|one| one.agrees);
    // The exit code is the answer, also where nobody reads the numbers (`smd verify ... | head -1`).
    match report(&args, &checkpoint, tolerance, &found, agrees) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        done => done?,
    }
    Ok(if agrees {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(
    args: &VerifyArgs,
    checkpoint: &Checkpoint,
    tolerance: Tolerance,
    found: &[Comparison],
    agrees: bool,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        let object = json!({
            "agrees": agrees,
            "tolerance": tolerance,
            "checkpoint": checkpoint.path(),
            "reference": args.reference,
            "comparisons": found,
        });
        writeln!(out, "{object}")
    } else {
        for one in found {
            print(one, &mut out)?;
        }
        let verdict = if agrees { "agrees" } else { "DIFFERS" };
        let (rtol, atol) = (args.rtol, args.atol);
        writeln!(out, "{verdict} at rtol {rtol:e}, atol {atol:e}")
    }
}

fn print(one: &Comparison, out: &mut impl Write) -> io::Result<()> {
    let verdict = if one.agrees {
        "ok".into()
    } else {
        format!("DIFFERS in {} of {}", one.outside, one.count)
    };
    writeln!(
        out,
        "{:<5} largest difference {:.2e} at {:?}: ours {:.6e}, theirs {:.6e}  {verdict}",
        one.name, one.max_abs, one.index, one.ours, one.theirs
    )
}

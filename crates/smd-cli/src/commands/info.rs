//! `smd info`: what a checkpoint is.

use serde_json::json;
use smd::checkpoint::Checkpoint;
use smd::host;
use smd::nn::params;
use std::io::{self, Write};
use std::path::PathBuf;

/// Say what a checkpoint is: its model, its training, its averages.
#[derive(Debug, clap::Args)]
pub struct InfoArgs {
    /// A checkpoint, or a run's folder for its newest one.
    #[arg(value_name = "CKPT|RUN")]
    checkpoint: PathBuf,
    /// One JSON object, with names and shapes of all parameters.
    #[arg(long)]
    json: bool,
}

pub fn run(args: InfoArgs) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let config = checkpoint.config();
    let infos = params::infos(&config.denoiser(&host::device())?);
    let parameters: usize = infos.iter().map(params::Info::len).sum();
    let mut out = io::stdout().lock();
    if args.json {
        let tensors: serde_json::Map<String, serde_json::Value> = infos
            .iter()
            .map(|info| (info.name.clone(), json!(info.shape)))
            .collect();
        let object = json!({
            "path": checkpoint.path(),
            "step": checkpoint.step(),
            "parameters": parameters,
            "data": checkpoint.data(),
            "influence": checkpoint.influence().iter().map(|(t, r)| json!({"t": t, "r": r})).collect::<Vec<_>>(),
            "ema": checkpoint.emas(),
            "config": config,
            "tensors": tensors,
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    writeln!(out, "checkpoint  {}", checkpoint.path().display())?;
    let (step, steps) = (checkpoint.step(), config.train.steps);
    writeln!(out, "step        {step} of {steps}")?;
    writeln!(out, "parameters  {parameters}")?;
    if let Some(data) = checkpoint.data() {
        writeln!(out, "data        {data}")?;
    }
    if !checkpoint.influence().is_empty() {
        let r = checkpoint.influence().iter();
        let r: Vec<String> = r.map(|(t, r)| format!("r_{t} = {r:.4}")).collect();
        writeln!(
            out,
            "latent      {} (0: ignored, 1: as random as the data)",
            r.join(", ")
        )?;
    }
    let emas = match checkpoint.emas() {
        emas if emas.is_empty() => "none".into(),
        emas => emas.join(", "),
    };
    writeln!(out, "ema         {emas}")?;
    writeln!(out, "\n{}", config.to_toml())?;
    Ok(())
}

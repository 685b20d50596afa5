//! `smd info`: what a checkpoint is.

use burn::tensor::Device;
use serde_json::json;
use smd::checkpoint::Checkpoint;
use smd::nn::params;
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
    let infos = params::infos(&config.denoiser(&Device::default())?);
    let parameters: usize = infos.iter().map(params::Info::len).sum();
    if args.json {
        let tensors: serde_json::Map<String, serde_json::Value> = infos
            .iter()
            .map(|info| (info.name.clone(), json!(info.shape)))
            .collect();
        let object = json!({
            "path": checkpoint.path(),
            "step": checkpoint.step(),
            "parameters": parameters,
            "ema": checkpoint.emas(),
            "config": config,
            "tensors": tensors,
        });
        println!("{object}");
        return Ok(());
    }
    println!("checkpoint  {}", checkpoint.path().display());
    println!(
        "step        {} of {}",
        checkpoint.step(),
        config.train.steps
    );
    println!("parameters  {parameters}");
    let emas = checkpoint.emas();
    println!(
        "ema         {}",
        if emas.is_empty() {
            "none".into()
        } else {
            emas.join(", ")
        }
    );
    println!("\n{}", config.to_toml());
    Ok(())
}

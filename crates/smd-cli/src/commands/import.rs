//! `smd import`: foreign checkpoints into ours.

use smd::import::authors::{self, Options};
use smd::schedule::ScheduleKind;
use std::io::{self, Write};
use std::path::PathBuf;

/// Where a checkpoint comes from.
#[derive(Debug, clap::Subcommand)]
pub enum ImportCommand {
    Authors(AuthorsArgs),
}

/// Turn a checkpoint of the authors' code (vanderschaarlab/smd) into one of ours.
///
/// FILE is a `model-N.pt` of their trainer, or a safetensors file with the same names; a `.pt` is read
/// without executing anything. Most sizes are those of its tensors. The rest comes from these options,
/// else from the file's header or the `config.json` beside it, else from the authors' run_smd.sh.
#[derive(Debug, clap::Args)]
pub struct AuthorsArgs {
    /// Their checkpoint.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The checkpoint to write; must not exist.
    #[arg(long, value_name = "CKPT")]
    out: PathBuf,
    /// Attention heads; run_smd.sh has 4.
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Channels of a head; run_smd.sh has 32.
    #[arg(long, value_name = "N")]
    d_head: Option<usize>,
    /// Groups of each group norm; run_smd.sh has 4.
    #[arg(long, value_name = "N")]
    groups: Option<usize>,
    /// Attention heads of g_phi; run_smd.sh has 1.
    #[arg(long, value_name = "N")]
    latent_heads: Option<usize>,
    /// Channels of a head of g_phi; run_smd.sh has 8.
    #[arg(long, value_name = "N")]
    latent_d_head: Option<usize>,
    /// Groups of each group norm of g_phi; run_smd.sh has 1.
    #[arg(long, value_name = "N")]
    latent_groups: Option<usize>,
    /// Height and width of the images; run_smd.sh has 32.
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Noise schedule: linear, cosine or sigmoid; theirs is sigmoid.
    #[arg(long, value_name = "KIND", value_parser = schedule)]
    schedule: Option<ScheduleKind>,
    /// Steps of the chain. Default: as many as the file has betas, else 1000.
    #[arg(long, value_name = "T")]
    steps: Option<usize>,
}

pub fn run(command: ImportCommand) -> anyhow::Result<()> {
    let ImportCommand::Authors(args) = command;
    anyhow::ensure!(
        !args.out.exists(),
        "{} exists already; choose another --out",
        args.out.display()
    );
    let options = Options {
        heads: args.heads,
        d_head: args.d_head,
        groups: args.groups,
        latent_heads: args.latent_heads,
        latent_d_head: args.latent_d_head,
        latent_groups: args.latent_groups,
        size: args.size,
        schedule: args.schedule,
        steps: args.steps,
    };
    let imported = authors::read(&args.file, &options)?;
    imported.write(&args.out)?;
    let parameters: usize = imported.infos.iter().map(|info| info.len()).sum();
    let average = match imported.config.train.ema.first() {
        Some(decay) => format!("an average of decay {decay}"),
        None => "no average".into(),
    };
    writeln!(
        io::stdout(),
        "{}: {parameters} parameters in {} tensors, {average}, step {}",
        args.out.display(),
        imported.infos.len(),
        imported.state.step
    )?;
    Ok(())
}

fn schedule(text: &str) -> Result<ScheduleKind, String> {
    match text {
        "linear" => Ok(ScheduleKind::Linear),
        "cosine" => Ok(ScheduleKind::Cosine),
        "sigmoid" => Ok(ScheduleKind::Sigmoid),
        _ => Err("expected linear, cosine or sigmoid".into()),
    }
}

//! The command `smd`: train, sample and measure few-step diffusion models.

// A reader that stops reading (`smd info RUN | head`) is no panic: write with `writeln!` and `?`, and to stderr with `say`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod device;
mod font;
mod machine;
mod metrics;
mod output;
mod progress;
mod report;
mod run_folder;
mod say;

use crate::say::say;
use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;

/// Keeps freed memory for the next step (see `main`); the system's allocator asks for it again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Train, sample and measure diffusion models whose backward step is more than one Gaussian.
#[derive(Debug, Parser)]
#[command(name = "smd", version, max_term_width = 100)]
struct Cli {
    /// Where to compute: cpu, or a backend that this program was built with (cuda, rocm, metal,
    /// vulkan, wgpu).
    #[arg(long, global = true, default_value = "cpu", value_name = "DEVICE")]
    device: device::Kind,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(commands::quickstart::QuickstartArgs),
    Train(commands::train::TrainArgs),
    Sample(commands::sample::SampleArgs),
    Info(commands::info::InfoArgs),
    /// Turn a foreign checkpoint into one of ours.
    #[command(subcommand)]
    Import(commands::import::ImportCommand),
    Verify(commands::verify::VerifyArgs),
    Bench(commands::bench::BenchArgs),
    Theory(commands::theory::TheoryArgs),
    Diagnose(commands::diagnose::DiagnoseArgs),
    Calibrate(commands::calibrate::CalibrateArgs),
    Eval(Box<commands::eval::EvalArgs>),
}

fn main() -> ExitCode {
    smd_kernels::memory::keep_freed();
    let cli = Cli::parse();
    // On a thread of the pool: handing each small piece of work over from outside it would cost more
    // than the piece.
    match rayon::scope(|_| run(cli)) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("smd: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of the output has gone; then there is nobody left to tell.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    smd_kernels::simd::try_level()?;
    let device = cli.device.open()?;
    match cli.command {
        Command::Quickstart(args) => commands::quickstart::run(args, &device)?,
        Command::Train(args) => commands::train::run(args, &device)?,
        Command::Sample(args) => commands::sample::run(args, &device)?,
        Command::Info(args) => commands::info::run(args)?,
        Command::Import(command) => commands::import::run(command)?,
        Command::Verify(args) => return commands::verify::run(args, &device),
        Command::Theory(args) => commands::theory::run(args, &device)?,
        Command::Diagnose(args) => commands::diagnose::run(args, &device)?,
        Command::Calibrate(args) => commands::calibrate::run(args, &device)?,
        Command::Eval(args) => commands::eval::run(*args, &device)?,
        Command::Bench(args) => commands::bench::run(args, cli.device, &device)?,
    }
    Ok(ExitCode::SUCCESS)
}

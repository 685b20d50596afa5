//! `smd eval compare`: two results side by side, if they may be.

use super::show;
use anyhow::Context;
use smd::eval::evaluate::Evaluation;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Put two results side by side, or say why they must not be.
///
/// Refuses where the extractor, its weights, the resizing, the reference, the number of samples or the options
/// differ: then a difference of the numbers says nothing of the samples.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// A manifest of `smd eval --out`.
    #[arg(value_name = "A.json")]
    a: PathBuf,
    /// Another one.
    #[arg(value_name = "B.json")]
    b: PathBuf,
}

pub fn run(args: CompareArgs) -> anyhow::Result<()> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let disagreements = a.disagreements(&b);
    if !disagreements.is_empty() {
        let list = disagreements
            .iter()
            .map(|(name, a, b)| format!("{name} ({a}; {b})"))
            .collect::<Vec<_>>()
            .join(", ");
        anyhow::bail!(
            "{} and {} cannot be compared; they disagree in {list}: measure both with the same",
            args.a.display(),
            args.b.display()
        );
    }
    let mut out = io::stdout().lock();
    writeln!(out, "A  {}", a.samples.provenance.source.describe())?;
    writeln!(out, "B  {}\n", b.samples.provenance.source.describe())?;
    for ((name, a), (_, b)) in show::rows(&a).into_iter().zip(show::rows(&b)) {
        writeln!(out, "{name:28} {a:>32} {b:>32}")?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Evaluation> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no manifest of `smd eval --out`", path.display()))
}

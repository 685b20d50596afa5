//! `smd eval`: how far samples are from a reference, and everything that the number depends on.

mod compare;
mod extractor;
mod set;
mod show;

use crate::output;
use anyhow::Context;
use burn::tensor::Device;
use smd::eval::evaluate::{EvalOptions, evaluate};
use smd::eval::feature_set::FeatureSet;
use smd::eval::inception_score::Splits;
use std::io::{self, Write};
use std::path::PathBuf;

/// Measure samples against a reference.
///
/// A SET is a checkpoint or a run's folder (samples are drawn), a folder of images, CIFAR-10 binaries, an IDX
/// file, an .npz of images (arr_0) or of features, or a .npy of features [images, features].
///
///   smd eval features DATA --extractor lite0 --weights efficientnet_lite0.safetensors --out data.npz
///   smd eval RUN --seeds 0-4999 --steps 10 --reference data.npz --extractor lite0 --weights ...
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    verbatim_doc_comment
)]
pub struct EvalArgs {
    #[command(subcommand)]
    command: Option<EvalCommand>,
    #[command(flatten)]
    measure: MeasureArgs,
}

#[derive(Debug, clap::Subcommand)]
enum EvalCommand {
    #[command(visible_alias = "reference")]
    Features(FeaturesArgs),
    Merge(MergeArgs),
    Compare(compare::CompareArgs),
}

#[derive(Debug, clap::Args)]
struct MeasureArgs {
    #[command(flatten)]
    set: set::SetArgs,
    /// What is measured against: statistics of `smd eval features` or pytorch-fid, or any SET.
    #[arg(long, value_name = "SET", required = true)]
    reference: Option<PathBuf>,
    #[command(flatten)]
    extractor: extractor::ExtractorArgs,
    /// Subsets of the kernel distance (KID), of 1000 images or as many as there are.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    kid_subsets: u32,
    /// Images of each side, at most, in which precision, recall, density and coverage look for
    /// neighbours.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = super::theory::at_least_2)]
    neighbour_images: usize,
    /// Seeds of the distance at infinitely many samples, 15 distances each; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 3)]
    infinity_seeds: u32,
    /// Write the result, a manifest, here.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Print the manifest.
    #[arg(long)]
    json: bool,
}

/// Make the features of a set, to be a reference or to be measured later.
///
/// The .npz holds mu and sigma as pytorch-fid has them, the rows, and a manifest.
#[derive(Debug, clap::Args)]
struct FeaturesArgs {
    #[command(flatten)]
    set: set::SetArgs,
    #[command(flatten)]
    extractor: extractor::ExtractorArgs,
    /// The file to write.
    #[arg(long, value_name = "FILE.npz")]
    out: PathBuf,
    /// Leave the rows out: mu and sigma alone, as pytorch-fid writes them.
    #[arg(long)]
    statistics_only: bool,
}

/// Join the parts that `--shard` made, in order.
#[derive(Debug, clap::Args)]
struct MergeArgs {
    /// Files of `smd eval features --shard`.
    #[arg(value_name = "FILE.npz", required = true, num_args = 2..)]
    parts: Vec<PathBuf>,
    /// The file to write.
    #[arg(long, value_name = "FILE.npz")]
    out: PathBuf,
}

pub fn run(args: EvalArgs, device: &Device) -> anyhow::Result<()> {
    match args.command {
        Some(EvalCommand::Features(args)) => features(args, device),
        Some(EvalCommand::Merge(args)) => merge(args),
        Some(EvalCommand::Compare(args)) => compare::run(args),
        None => measure(args.measure, device),
    }
}

fn measure(args: MeasureArgs, device: &Device) -> anyhow::Result<()> {
    if let Some(out) = &args.out {
        output::check_beside(out)?;
    }
    let mut extractor = extractor::Lazy::new(&args.extractor, device);
    let reference = args
        .reference
        .as_deref()
        .context("--reference is required")?;
    let reference = set::SetArgs::plain(reference);
    let reference = reference.read(&mut extractor, "reference", device)?;
    let samples = args.set.read(&mut extractor, "samples", device)?;
    let mut options = EvalOptions {
        neighbour_images: args.neighbour_images,
        infinity_seeds: args.infinity_seeds,
        ..EvalOptions::default()
    };
    options.kid.subsets = args.kid_subsets as usize;
    if samples.provenance.extractor.preparation == "adm" {
        options.inception_score = Splits::InOrder { images: 5000 };
    }
    let evaluation = evaluate(&samples, &reference, &options)?;
    let text = serde_json::to_string_pretty(&evaluation)?;
    if let Some(out) = &args.out {
        output::write_file(out, format!("{text}\n").as_bytes())?;
    }
    let mut stdout = io::stdout().lock();
    if args.json {
        writeln!(stdout, "{text}")?;
    } else {
        show::print(&mut stdout, &evaluation)?;
    }
    Ok(())
}

fn features(args: FeaturesArgs, device: &Device) -> anyhow::Result<()> {
    output::check_beside(&args.out)?;
    let mut extractor = extractor::Lazy::new(&args.extractor, device);
    let mut set = args.set.read(&mut extractor, "features", device)?;
    if args.statistics_only {
        (set.pool, set.logits) = (None, None);
    }
    save(&set, &args.out)
}

fn merge(args: MergeArgs) -> anyhow::Result<()> {
    output::check_beside(&args.out)?;
    let mut parts = args.parts.iter();
    let first = parts.next().context("no part")?;
    let mut whole = FeatureSet::read(first)?;
    set::check_part(&whole, 0, args.parts.len(), first)?;
    for (i, path) in parts.enumerate() {
        let part = FeatureSet::read(path)?;
        set::check_part(&part, i + 1, args.parts.len(), path)?;
        let cannot = || format!("{} does not go with {}", path.display(), first.display());
        whole.append(part).with_context(cannot)?;
    }
    set::make_whole(&mut whole);
    save(&whole, &args.out)
}

fn save(set: &FeatureSet, path: &std::path::Path) -> anyhow::Result<()> {
    output::write_beside(path, |file| Ok(set.write(file)?))?;
    writeln!(
        io::stdout(),
        "{}: {} features of {} images ({})",
        path.display(),
        set.statistics.dim(),
        set.images().unwrap_or(0),
        set.provenance.source.describe()
    )?;
    Ok(())
}

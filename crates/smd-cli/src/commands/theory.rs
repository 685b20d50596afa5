//! `smd theory`: what a Gaussian backward step must lose on a Gaussian mixture, exactly.

mod exceed;
mod floors;
mod numbers;
mod plot;
mod report;

use smd::gmm::{GaussianMixture, MixtureConfig};
use smd::schedule::{NoiseSchedule, ScheduleConfig, ScheduleKind};
use std::path::Path;

/// The exact denoising error of Gaussian steps on a Gaussian mixture: M_t at every step, E of the chain,
/// and what it does to samples. Trains nothing.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct TheoryArgs {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    floors: floors::FloorsArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Other {
    Exceed(exceed::ExceedArgs),
    Report(report::ReportArgs),
}

/// The chain.
#[derive(Debug, clap::Args)]
struct Chain {
    /// Steps of the chain, T; at most a million.
    #[arg(long, value_name = "T", required = true)]
    steps: Option<usize>,
    /// Noise schedule.
    #[arg(long, value_name = "SCHEDULE", default_value = "cosine")]
    schedule: ScheduleName,
}

/// More would take days.
const MOST_STEPS: usize = 1_000_000;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ScheduleName {
    Cosine,
    Vp,
    Linear,
    ScaledLinear,
    Sigmoid,
}

impl From<ScheduleName> for ScheduleKind {
    fn from(name: ScheduleName) -> Self {
        match name {
            ScheduleName::Cosine => Self::Cosine,
            ScheduleName::Vp => Self::Vp,
            ScheduleName::Linear => Self::Linear,
            ScheduleName::ScaledLinear => Self::ScaledLinear,
            ScheduleName::Sigmoid => Self::Sigmoid,
        }
    }
}

impl Chain {
    fn config(&self) -> ScheduleConfig {
        ScheduleConfig {
            kind: self.schedule.into(),
            steps: self.steps.expect("clap requires it"),
        }
    }

    /// "cosine, T = 8".
    fn what(&self) -> String {
        let config = self.config();
        let name = serde_json::to_value(config.kind).expect("a name");
        format!("{}, T = {}", name.as_str().unwrap_or("?"), config.steps)
    }

    fn schedule(&self) -> anyhow::Result<NoiseSchedule> {
        let error = |error: smd::error::ConfigError| {
            // Here the fields of a config are flags.
            let text = error.to_string().replace("schedule.steps", "--steps");
            let text = text.replace("`schedule.kind = \"cosine\"`", "`--schedule cosine`");
            anyhow::anyhow!(text)
        };
        let config = self.config();
        anyhow::ensure!(
            config.steps <= MOST_STEPS,
            "--steps is {}, must be at most {MOST_STEPS}",
            config.steps
        );
        NoiseSchedule::new(&config).map_err(error)
    }
}

pub fn run(args: TheoryArgs, device: &burn::tensor::Device) -> anyhow::Result<()> {
    match args.other {
        None => floors::run(args.floors),
        Some(Other::Exceed(args)) => exceed::run(args),
        Some(Other::Report(args)) => report::run(args, device),
    }
}

/// Rows of a table on the terminal; a longer chain is shown at some of its steps.
const ROWS: usize = 20;

/// All steps of a short chain, some of a long one, the first and the last among them.
pub fn shown<T>(per_t: &[T]) -> Vec<&T> {
    let count = per_t.len();
    if count <= ROWS {
        return per_t.iter().collect();
    }
    // In equal ratios: what Gaussians lose, they lose near the data.
    let place = |i: usize| (count as f64).powf(i as f64 / (ROWS - 1) as f64).round() as usize;
    let mut places: Vec<usize> = (0..ROWS).map(place).collect();
    places.dedup();
    places.into_iter().map(|t| &per_t[t - 1]).collect()
}

/// A standard error needs two draws.
pub fn at_least_2(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0 | 1) => Err("must be at least 2".into()),
        Ok(draws) => Ok(draws),
        Err(error) => Err(format!("{error}")),
    }
}

/// A mixture by name, or the `[mixture]` of a file.
pub fn read_mixture(name: &Path) -> anyhow::Result<GaussianMixture> {
    if name == Path::new("grid-7x7") {
        return Ok(GaussianMixture::grid_7x7());
    }
    let origin = name.display();
    let text = std::fs::read_to_string(name).map_err(|error| {
        anyhow::anyhow!(
            "cannot read the mixture {origin}: {error}; name a TOML file with a [mixture], or grid-7x7, \
             which is built in"
        )
    })?;
    let mut file: toml::Table = toml::from_str(&text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start));
        let line = line.map_or(1, |before| before.matches('\n').count() + 1);
        anyhow::anyhow!("{origin}: line {line}: {}", one_line(&error))
    })?;
    let table = file.remove("mixture").ok_or_else(|| {
        anyhow::anyhow!(
            "{origin}: has no [mixture]; write means = [[...], ...] and one of stds, variances, covariances \
             under it"
        )
    })?;
    if let Some(other) = file.keys().next() {
        anyhow::bail!("{origin}: unknown field `{other}` beside [mixture]");
    }
    // As in a run's config, where a name is allowed too.
    let config: MixtureConfig = match table {
        toml::Value::Table(table) => table
            .try_into()
            .map_err(|error| anyhow::anyhow!("{origin}: [mixture]: {}", one_line(&error)))?,
        toml::Value::String(name) if name == "grid-7x7" => return Ok(GaussianMixture::grid_7x7()),
        other => anyhow::bail!(
            "{origin}: mixture is {other}, expected a table [mixture]; the built-in mixture is \"grid-7x7\""
        ),
    };
    GaussianMixture::from_config(&config)
        .map_err(|error| anyhow::Error::new(error).context(format!("{origin}: [mixture]")))
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

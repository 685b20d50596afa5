//! `--control`: the model that a comparison must have beside the one of the config.

use crate::say::say;
use burn::tensor::Device;
use smd::config::RunConfig;
use smd::data::Examples;
use smd::train::Trainer;
use std::time::{Duration, Instant};

/// Which one.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Control {
    /// The same network with eta = 0 in every draw: its capacity without its mixture.
    EtaOff,
    /// One Gaussian over a network as wide as it takes to have as many parameters.
    WidthMatched,
    /// One Gaussian over the config's network, trained for as much time.
    TimeMatched,
}

/// Time spent on each of the two steps that are compared.
const MEASURED: Duration = Duration::from_secs(3);

impl Control {
    /// The control of a fitted config.
    pub fn of(
        self,
        config: RunConfig,
        examples: &Examples,
        device: &Device,
    ) -> anyhow::Result<RunConfig> {
        Ok(match self {
            Self::EtaOff => config.with_eta_off()?,
            Self::WidthMatched => config.width_matched()?,
            Self::TimeMatched => {
                let theirs = seconds_a_step(config.clone(), examples, device)?;
                let ours = seconds_a_step(config.clone().one_gaussian(), examples, device)?;
                let ratio = theirs / ours;
                say(format!(
                    "a step of the model takes {ratio:.2} times as long as one Gaussian's: the control \
                     takes {ratio:.2} times as many"
                ));
                config.time_matched(ratio)
            }
        })
    }
}

/// The median of the steps that fit into the time, the first one apart.
fn seconds_a_step(config: RunConfig, examples: &Examples, device: &Device) -> anyhow::Result<f64> {
    let mut trainer = Trainer::new(config, examples.clone(), device)?;
    trainer.train_step()?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || started.elapsed() < MEASURED {
        let step = Instant::now();
        trainer.train_step()?;
        times.push(step.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

//! `[train]` of a config.

use crate::error::ConfigError;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the learning rate changes after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrSchedule {
    /// Not at all.
    Constant,
    /// Down to 0 at the last step, along half a cosine.
    Cosine,
}

/// How a model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Steps of the optimiser. Default 100,000.
    pub steps: u64,
    /// Examples of one pass. Default 64.
    pub batch: usize,
    /// Passes whose gradients are averaged for one step. Default 1.
    pub accumulate: usize,
    /// Learning rate. Default 2e-4.
    pub lr: f64,
    /// Default constant.
    pub lr_schedule: LrSchedule,
    /// Steps over which the learning rate rises in a line. Default 0.
    pub warmup_steps: u64,
    /// Default 0.9, 0.999.
    pub adam_betas: [f64; 2],
    /// Default 1e-8.
    pub adam_eps: f64,
    /// Decoupled weight decay (AdamW); 0 is Adam. Default 0.
    pub weight_decay: f64,
    /// Longest gradient; longer ones are scaled down; 0 for no limit. Default 1.
    pub clip: f64,
    /// Decays of the averages of the weights that are kept; warm-up `min(d, (1 + n) / (10 + n))`.
    /// Samples use the last one. Default 0.9999.
    pub ema: Vec<f64>,
    /// Names every random draw. Default 0.
    pub seed: u64,
    /// Steps between checkpoints. Default 1000.
    pub checkpoint_every: u64,
    /// Checkpoints that are kept, the newest. Default 2.
    pub keep: usize,
    /// Steps between grids of samples; 0 for none. Default 0.
    pub sample_every: u64,
    /// Images of such a grid. Default 64.
    pub sample_count: usize,
    /// Steps between lines of metrics. Default 10.
    pub log_every: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 100_000,
            batch: 64,
            accumulate: 1,
            lr: 2e-4,
            lr_schedule: LrSchedule::Constant,
            warmup_steps: 0,
            adam_betas: [0.9, 0.999],
            adam_eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            ema: vec![0.9999],
            seed: 0,
            checkpoint_every: 1000,
            keep: 2,
            sample_every: 0,
            sample_count: 64,
            log_every: 10,
        }
    }
}

impl TrainConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least_1 = [
            ("train.steps", self.steps),
            ("train.batch", self.batch as u64),
            ("train.accumulate", self.accumulate as u64),
            ("train.checkpoint_every", self.checkpoint_every),
            ("train.keep", self.keep as u64),
            ("train.log_every", self.log_every),
            ("train.sample_count", self.sample_count as u64),
        ];
        for (field, value) in at_least_1 {
            if value == 0 {
                return Err(ConfigError::invalid(field, "is 0, must be at least 1"));
            }
        }
        let in_range = |field, value: f64, low: f64, high: f64| {
            if value >= low && value < high {
                return Ok(());
            }
            let problem = format!("is {value}, must be at least {low} and below {high}");
            Err(ConfigError::invalid(field, problem))
        };
        in_range("train.lr", self.lr, 0.0, 10.0)?;
        in_range("train.adam_betas", self.adam_betas[0], 0.0, 1.0)?;
        in_range("train.adam_betas", self.adam_betas[1], 0.0, 1.0)?;
        in_range("train.adam_eps", self.adam_eps, 1e-30, 1.0)?;
        in_range("train.weight_decay", self.weight_decay, 0.0, 1.0)?;
        in_range("train.clip", self.clip, 0.0, f64::INFINITY)?;
        for (i, &decay) in self.ema.iter().enumerate() {
            in_range("train.ema", decay, 0.0, 1.0)?;
            if self.ema[..i].contains(&decay) {
                return Err(ConfigError::invalid(
                    "train.ema",
                    format!("has {decay} twice"),
                ));
            }
        }
        Ok(())
    }

    /// The learning rate of a step, from 1.
    pub fn lr_at(&self, step: u64) -> f64 {
        let warm = (step as f64 / self.warmup_steps.max(1) as f64).min(1.0);
        let done = (step - 1) as f64 / self.steps as f64;
        let rest = match self.lr_schedule {
            LrSchedule::Constant => 1.0,
            LrSchedule::Cosine => 0.5 * (1.0 + (PI * done.min(1.0)).cos()),
        };
        self.lr * warm * rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_warms_up_and_falls() {
        let config = TrainConfig {
            steps: 100,
            lr: 1.0,
            warmup_steps: 10,
            lr_schedule: LrSchedule::Cosine,
            ..TrainConfig::default()
        };
        assert!((config.lr_at(1) - 0.1).abs() < 1e-3);
        assert!(config.lr_at(11) > 0.9);
        assert!((config.lr_at(51) - 0.5).abs() < 1e-12);
        assert!(config.lr_at(100) < 1e-3);
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let refuse = |config: TrainConfig, field: &str| {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(field), "{message}");
        };
        let base = TrainConfig::default;
        refuse(TrainConfig { batch: 0, ..base() }, "train.batch is 0");
        refuse(
            TrainConfig {
                lr: f64::NAN,
                ..base()
            },
            "train.lr is NaN",
        );
        refuse(
            TrainConfig {
                ema: vec![1.0],
                ..base()
            },
            "train.ema is 1",
        );
        refuse(
            TrainConfig {
                ema: vec![0.5, 0.5],
                ..base()
            },
            "train.ema has 0.5 twice",
        );
    }
}

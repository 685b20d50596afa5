//! Training (Alg. 1): one step, averages, learning rate, and the state that a checkpoint holds.
//!
//! All parameters are one row of numbers here; so are the moments of the optimiser and every average.
//! What happens in step `n` is a function of the config and `n` alone: examples, time steps, noise and
//! masks are named draws. A run resumed from step `n` therefore goes on bit for bit.

mod config;
mod ema;

pub use config::{LrSchedule, TrainConfig};

use crate::checkpoint::{Checkpoint, State};
use crate::config::RunConfig;
use crate::data::{Examples, Order};
use crate::denoise::Denoiser;
use crate::error::{CheckpointError, ConfigError, TrainError};
use crate::eval::influence::influence_on;
use crate::host;
use crate::nn::{Dropout, params};
use crate::noise::{self, NoiseSource, Use};
use crate::objective::{self, ObjectiveKind};
use crate::ops::adam::{self, AdamW, Rows};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use std::cell::OnceCell;
use std::path::Path;

/// Examples at which the latent's influence is gauged.
const GAUGED: usize = 64;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The step, from 1.
    pub step: u64,
    /// The loss.
    pub loss: f64,
    /// Length of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
}

/// A model in training.
pub struct Trainer {
    config: RunConfig,
    examples: Examples,
    order: Order,
    autodiff: Device,
    device: Device,
    denoiser: Denoiser,
    infos: Vec<params::Info>,
    /// Weights, moments, and an average for each of `config.train.ema`.
    rows: Rows,
    step: u64,
    /// What the examples are; travels with the checkpoints.
    data: Option<String>,
    /// Gauged once a step, where it is asked for.
    influence: OnceCell<Vec<(usize, f64)>>,
}

impl Trainer {
    /// A run from its start.
    ///
    /// # Errors
    /// A config that does not fit the examples.
    pub fn new(
        mut config: RunConfig,
        examples: Examples,
        device: &Device,
    ) -> Result<Self, ConfigError> {
        config.fit(&examples)?;
        let device = device.clone().inner();
        let autodiff = device.clone().autodiff();
        let denoiser = config.denoiser(&autodiff)?;
        let infos = params::infos(&denoiser);
        let weights = Tensor::cat(params::values(&denoiser), 0);
        let train = &config.train;
        let rows = Rows {
            moments: [weights.zeros_like(), weights.zeros_like()],
            averages: vec![weights.clone(); train.ema.len()],
            weights,
        };
        let order = Order::new(train.seed, examples.len().unwrap_or(1));
        Ok(Self {
            data: examples.identity(),
            config,
            order,
            examples,
            autodiff,
            device,
            denoiser,
            infos,
            rows,
            step: 0,
            influence: OnceCell::new(),
        })
    }

    /// A run as its checkpoint left it.
    ///
    /// # Errors
    /// A checkpoint without the state of a training, or other examples than it was trained on.
    pub fn resume(
        checkpoint: &Checkpoint,
        examples: Examples,
        device: &Device,
    ) -> Result<Self, TrainError> {
        Self::resume_as(checkpoint, checkpoint.config().clone(), examples, device)
    }

    /// A run as its checkpoint left it, under a changed config: more steps, another learning rate.
    ///
    /// # Errors
    /// As [`Trainer::resume`]; a config whose model or averages are not those of the checkpoint, or
    /// that ends before its step.
    pub fn resume_as(
        checkpoint: &Checkpoint,
        config: RunConfig,
        examples: Examples,
        device: &Device,
    ) -> Result<Self, TrainError> {
        check_unchanged(checkpoint.config(), &config)?;
        check_not_past(checkpoint.step(), &config)?;
        let mut trainer = Self::new(config, examples, device)?;
        if let (Some(was), Some(is)) = (checkpoint.data(), trainer.data.as_deref())
            && was != is
        {
            let (was, is) = (was.to_owned(), is.to_owned());
            return Err(TrainError::OtherData { was, is });
        }
        let plain = trainer.device.clone();
        let row = |values: Vec<f32>| {
            let len = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [len]), &plain)
        };
        let state = checkpoint.state(&trainer.infos, &trainer.config.train.ema)?;
        trainer.rows.weights = row(state.weights);
        trainer.rows.averages = state.emas.into_iter().map(row).collect();
        if let Some(moments) = state.moments {
            trainer.rows.moments = moments.map(row);
        }
        trainer.step = state.step;
        trainer.influence.take();
        Ok(trainer)
    }

    /// The device, without automatic differentiation: where its models sample.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Steps done so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The resolved config.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The examples.
    pub fn examples(&self) -> &Examples {
        &self.examples
    }

    /// How many numbers are learned.
    pub fn parameters(&self) -> usize {
        self.infos.iter().map(params::Info::len).sum()
    }

    /// One step of the optimiser over `train.batch * train.accumulate` examples.
    ///
    /// # Errors
    /// A loss or gradient that is not finite; then nothing was changed.
    pub fn train_step(&mut self) -> Result<StepReport, TrainError> {
        let step = self.step + 1;
        let parts = self.config.train.accumulate as u64;
        self.denoiser = params::with_values(self.denoiser.clone(), &self.cut(&self.rows.weights));
        let (mut loss, mut grad) = (0.0, None::<Tensor<1>>);
        for part in 0..parts {
            let (part_loss, part_grad) = self.gradient(self.step * parts + part);
            loss += part_loss / parts as f64;
            grad = Some(match grad {
                Some(grad) => grad + part_grad,
                None => part_grad,
            });
        }
        let grad = grad.expect("at least one part") / parts as f64;
        let grad_norm = adam::norm(&grad);
        if !loss.is_finite() || !grad_norm.is_finite() {
            let loss = if loss.is_finite() { grad_norm } else { loss };
            return Err(TrainError::NonFinite { step, loss });
        }

        let train = &self.config.train;
        let clips = train.clip > 0.0 && grad_norm > train.clip;
        let lr = train.lr_at(step);
        let decays = train.ema.iter().map(|&decay| ema::decay_at(decay, step));
        let adam = AdamW {
            lr,
            betas: train.adam_betas,
            eps: train.adam_eps,
            weight_decay: train.weight_decay,
            step,
            scale: if clips { train.clip / grad_norm } else { 1.0 },
            decays: decays.collect(),
        };
        adam.step(&mut self.rows, grad);
        self.step = step;
        self.influence.take();
        Ok(StepReport {
            step,
            loss,
            grad_norm,
            lr,
        })
    }

    /// Loss and gradient of the `index`-th batch since the start.
    fn gradient(&mut self, index: u64) -> (f64, Tensor<1>) {
        let (seed, batch) = (self.config.train.seed, self.config.train.batch as u64);
        let positions = index * batch..(index + 1) * batch;
        let flips = self.config.data.flip;
        let x_0 = self.examples.batch(
            positions.clone(),
            &mut self.order,
            seed,
            flips,
            &self.autodiff,
        );
        let steps = self.config.schedule.steps;
        let names: Vec<u64> = positions.collect();
        let t: Vec<usize> = names
            .iter()
            .map(|&name| noise::rng(seed, name, 0, Use::Time).random_range(1..=steps))
            .collect();
        let noise = NoiseSource::new(seed, names.clone(), &self.autodiff);
        let mut dropout = Dropout::on(seed, names);
        let objective = self.config.objective(self.step + 1);
        let loss = objective::loss(&self.denoiser, &objective, x_0, &t, &noise, &mut dropout);
        let mut grads = loss.backward();
        let rows = params::gradients(&self.denoiser, &mut grads)
            .into_iter()
            .zip(&self.infos)
            .map(|(row, info)| row.unwrap_or_else(|| Tensor::zeros([info.len()], &self.device)))
            .collect();
        (f64::from(host::numbers(loss)[0]), Tensor::cat(rows, 0))
    }

    /// A row of all parameters cut into one row for each.
    fn cut(&self, all: &Tensor<1>) -> Vec<Tensor<1>> {
        let mut at = 0;
        self.infos
            .iter()
            .map(|info| {
                let row = all.clone().narrow(0, at, info.len());
                at += info.len();
                row
            })
            .collect()
    }

    /// The model for sampling: with the average of the given decay, or `None` for the weights as they
    /// are. Panics never; an unknown decay gives the weights.
    pub fn model(&self, ema: Option<f64>) -> Denoiser {
        let kept = &self.config.train.ema;
        let average = ema.and_then(|decay| kept.iter().position(|&one| one == decay));
        let weights = average.map_or(&self.rows.weights, |i| &self.rows.averages[i]);
        params::with_values(self.denoiser.clone(), &self.cut(weights)).valid()
    }

    /// `(t, r_t)` of the model that samples, at the first step, a quarter and half of the chain, and the
    /// last: how much of the truth's randomness its latent draws, against what its mean leaves
    /// ([`influence_on`]). A gauge from a few examples; empty for one Gaussian.
    pub fn influence(&self) -> &[(usize, f64)] {
        self.influence.get_or_init(|| self.gauge())
    }

    fn gauge(&self) -> Vec<(usize, f64)> {
        if matches!(self.denoiser, Denoiser::Gaussian(_)) {
            return Vec::new();
        }
        let (train, steps) = (&self.config.train, self.config.schedule.steps);
        let count = GAUGED.min(self.examples.len().unwrap_or(usize::MAX)) as u64;
        let mut order = Order::new(train.seed, self.examples.len().unwrap_or(1));
        let x_0 = self
            .examples
            .batch(0..count, &mut order, train.seed, false, &self.device);
        let model = self.model(train.ema.last().copied());
        let mut at = vec![1, steps.div_ceil(4), steps.div_ceil(2), steps];
        at.dedup();
        let r = |t| (t, influence_on(&model, x_0.clone(), t, 4, train.seed));
        at.into_iter().map(r).collect()
    }

    /// Writes a checkpoint beside `path` and renames it over it.
    ///
    /// # Errors
    /// A folder that cannot be written; an older file of that name is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let rows = &self.rows;
        let numbers = |row: &Tensor<1>| host::numbers(row.clone());
        let state = State {
            step: self.step,
            data: self.data.clone(),
            influence: self.influence().to_vec(),
            weights: numbers(&rows.weights),
            emas: rows.averages.iter().map(numbers).collect(),
            moments: Some(rows.moments.each_ref().map(numbers)),
        };
        Checkpoint::write(path, &self.config, &self.infos, &state)
    }
}

/// Refuses a config under which the weights of a run, or its position in the data, would mean
/// something else.
fn check_unchanged(was: &RunConfig, is: &RunConfig) -> Result<(), ConfigError> {
    let same = [
        ("schedule", was.schedule == is.schedule),
        ("net", was.net == is.net),
        ("kernel", was.kernel == is.kernel),
        (
            "objective.prediction",
            was.objective.prediction == is.objective.prediction,
        ),
        ("objective.kind", has_encoder(was) == has_encoder(is)),
        ("data.shape", was.data.shape == is.data.shape),
        ("data.mixture", was.data.mixture == is.data.mixture),
        ("train.seed", was.train.seed == is.train.seed),
        ("train.batch", was.train.batch == is.train.batch),
        (
            "train.accumulate",
            was.train.accumulate == is.train.accumulate,
        ),
        ("train.ema", was.train.ema == is.train.ema),
    ];
    match same.into_iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((field, _)) => {
            let problem = "cannot change when a run goes on; start a new run for it";
            Err(ConfigError::invalid(field, problem))
        }
    }
}

/// Whether an inference network is among the weights.
fn has_encoder(config: &RunConfig) -> bool {
    config.objective.kind(&config.kernel) == ObjectiveKind::Encoder
}

/// Refuses a run that would end before the step it is at.
fn check_not_past(step: u64, config: &RunConfig) -> Result<(), ConfigError> {
    let steps = config.train.steps;
    if steps >= step {
        return Ok(());
    }
    let problem = format!(
        "is {steps}, but the checkpoint is at step {step}; set it to {step} or more, or start a new \
         run"
    );
    Err(ConfigError::invalid("train.steps", problem))
}

#[cfg(test)]
mod tests;

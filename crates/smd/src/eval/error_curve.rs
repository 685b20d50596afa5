//! What Gaussian steps lose on any data, from a denoiser's error over noise levels.
//!
//! `x_t` is `x_0` seen through a Gaussian channel of signal-to-noise ratio `g_t = alpha_bar_t /
//! (1 - alpha_bar_t)`, and what a channel says of `x_0` is an integral of the least squared error behind
//! it (I-MMSE). So the exact step, which nobody knows, enters every `M_t` (Def. 3.1) by a number that
//! can be measured: with `mmse(g) = E ||x_0 - E[x_0 | x_t]||^2` over all `D` numbers of an example,
//! `I_t = I(x_0; x_{t-1} | x_t)` and `dg = g_{t-1} - g_t`,
//!
//! ```text
//! I_t               = 1/2 int_{g_t}^{g_{t-1}} mmse(g) dg
//! M_t[s^2]          = D/2 (log(s^2 / tilde beta_t) + (tilde beta_t + c1_t^2 mmse(g_t) / D) / s^2 - 1) - I_t
//! M_t[tilde beta_t] = 1/2 dg mmse(g_t) - I_t
//! M_t[best number]  = D/2 log(1 + dg mmse(g_t) / D) - I_t
//! ```
//! At `t = 1`, `dg` is infinite: what the last step loses depends on the data below all noise, of which
//! the curve can give no more than a bound. Sums are over `t >= 2`.
//!
//! A denoiser's mean squared error stands for `mmse` and is never below it, so `I_t` is never
//! understated: a sum is at most what a chain of such steps about this denoiser's guesses loses. Where
//! the guess is the exact mean it is the floor, what the best such Gaussians lose. On examples of the
//! training the error is too small.
//!
//! - **Between two levels** `1 / mmse` is a line in `g`, as it is for a Gaussian, `(1 / var + g) / D`; it
//!   cannot turn, and its integral is a logarithm. With 64 levels sums on the 7x7 grid are right to 0.015
//!   nats at any number of steps. A model trained with few steps has only those levels.
//! - **Noise.** `mmse` falls with `g`, so the least error at this level or a noisier one, the constant
//!   guess among them, is as good a bound as the level's own and takes its place. Networks that predict
//!   `eps` need it near `t = T`, where their error is divided by `alpha_bar_t`. An example has the same
//!   `eps` at all levels, so that neighbours err alike.
//!
//! Source: Guo, Shamai, Verdu 2005 (I-MMSE, arXiv:cs/0412108); Kong, Brekelmans, Ver Steeg 2023
//! (likelihoods by it, arXiv:2302.03792); Bao et al. 2022 (the best number, arXiv:2201.06503).

use crate::denoise::Denoise;
use crate::denoising_error::Estimate;
use crate::host;
use crate::noise::{NoiseSource, Use};
use crate::process::StepVar;
use crate::sampler::{SampleConfig, Spacing};
use crate::schedule::NoiseSchedule;
use burn::tensor::Tensor;
use std::iter;
use std::ops::Range;

/// Most levels of a curve.
const LEVELS: usize = 64;

/// Groups of examples for the standard errors.
const GROUPS: u64 = 16;

/// Names the noise of the forward process; training uses 0.
const EPS_STEP: u64 = 1;

/// How a curve is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurveOptions {
    /// How many examples, at least 2.
    pub examples: usize,
    /// Examples in one pass; changes speed and memory, never the result.
    pub batch: usize,
    /// Draws of `x_0` whose mean is the guess: 1 for a kernel that gives the mean, more for one that
    /// draws. What the draws add to the squared error is taken off again.
    pub draws: usize,
    /// Whether `x_0` is held in `[-1, 1]`, as the sampler does for images.
    pub clip: bool,
    /// Names every draw.
    pub seed: u64,
}

/// One noise level of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// The step of the training.
    pub t: usize,
    /// `g_t`.
    pub snr: f64,
    /// `E ||x_0 - x_0_hat||^2` over all numbers of an example, as measured, in squared data units; not
    /// finite where the model's numbers are not.
    pub mse: f64,
    /// The least of it at this level or a noisier one: what stands for `mmse`.
    pub mmse: f64,
}

/// A denoiser's squared error over noise levels.
#[derive(Debug, Clone)]
pub struct ErrorCurve {
    /// The levels, from the noisiest on.
    pub levels: Vec<Level>,
    /// Numbers of an example, `D`.
    pub dim: usize,
    /// Of the training.
    schedule: NoiseSchedule,
    whole: Curve,
    /// Without one group of examples each.
    without: Vec<Curve>,
}

/// What a chain of Gaussian steps about a denoiser's guesses loses for one example, in nats, summed over
/// `t >= 2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaussianLoss {
    /// With the variances `tilde beta_t`.
    pub fixed_small: Estimate,
    /// With the variances `beta_t`.
    pub fixed_large: Estimate,
    /// With the best number for each `t`.
    pub calibrated: Estimate,
    /// The sum of `I_t`, `I(x_0; x_1) - I(x_0; x_T)`: what these steps have to say of `x_0`.
    pub information: Estimate,
}

/// The steps at which a curve is measured, from the noisiest on: all of a training of up to 64 steps, and
/// of a longer one at most 64, evenly in log SNR as far as it has steps there.
pub fn measured_steps(schedule: &NoiseSchedule) -> Vec<usize> {
    let training = schedule.steps();
    if training <= LEVELS {
        return (1..=training).rev().collect();
    }
    let log_snr = |t: usize| snr(schedule, t).ln();
    let (mut kept, mut last) = (vec![training], log_snr(training));
    for t in (1..training).rev() {
        let left = (LEVELS - kept.len()) as f64;
        if log_snr(t) - last >= (log_snr(1) - last) / left {
            kept.push(t);
            last = log_snr(t);
        }
    }
    kept
}

/// Measures the error of `model` on examples, which `batch` gives by their numbers from 0 on.
///
/// `on_pass` is told how many guesses are done, out of the examples times [`measured_steps`].
///
/// # Shapes
/// - `batch(range)`: `[B, H, W, C]`, an example for each number of the range
///
/// # Panics
/// If there are fewer than 2 examples, no draws or an empty batch, or `batch` gives too many or too few.
pub fn error_curve(
    model: &impl Denoise,
    mut batch: impl FnMut(Range<u64>) -> Tensor<4>,
    options: &CurveOptions,
    mut on_pass: impl FnMut(usize),
) -> ErrorCurve {
    assert!(options.examples >= 2, "a standard error needs two examples");
    assert!(options.draws > 0 && options.batch > 0, "nothing to measure");
    let schedule = model.process().schedule();
    let steps = measured_steps(schedule);
    let snrs: Vec<f64> = steps.iter().map(|&t| snr(schedule, t)).collect();
    let examples = options.examples as u64;
    let count = examples.min(GROUPS);
    // One row a group: its examples, then the sums of `||x_0||^2`, the levels' errors and `x_0`.
    let mut groups: Vec<Vec<f64>> = Vec::new();
    let mut done = 0;
    for first in (0..examples).step_by(options.batch) {
        let range = first..examples.min(first + options.batch as u64);
        let x_0 = batch(range.clone());
        let len = x_0.dims()[0];
        assert_eq!(len as u64, range.end - first, "examples of {range:?}");
        let errors = steps.iter().map(|&t| {
            let errors = squared_errors(model, &x_0, t, &range, options);
            done += len;
            on_pass(done);
            errors
        });
        let errors: Vec<Vec<f64>> = errors.collect();
        let numbers = host::numbers(x_0);
        let dim = numbers.len() / len;
        groups.resize(count as usize, vec![0.0; 2 + steps.len() + dim]);
        for (place, x_0) in numbers.chunks_exact(dim).enumerate() {
            let x_0 = x_0.iter().copied().map(f64::from);
            let square: f64 = x_0.clone().map(|x| x * x).sum();
            let errors = errors.iter().map(|of_level| of_level[place]);
            let row = [1.0, square].into_iter().chain(errors).chain(x_0);
            let group = (first + place as u64) * count / examples;
            add(&mut groups[group as usize], row);
        }
    }
    let curve_without = |left_out: Option<usize>| {
        let mut sums = vec![0.0; groups[0].len()];
        for (_, group) in (0..).zip(&groups).filter(|&(i, _)| Some(i) != left_out) {
            add(&mut sums, group.iter().copied());
        }
        Curve::new(&snrs, &sums)
    };
    let whole = curve_without(None);
    let level = |(i, &t): (usize, &usize)| Level {
        t,
        snr: snrs[i],
        mse: groups.iter().map(|group| group[2 + i]).sum::<f64>() / examples as f64,
        mmse: whole.mmse[i],
    };
    ErrorCurve {
        levels: steps.iter().enumerate().map(level).collect(),
        dim: groups[0].len() - 2 - steps.len(),
        schedule: schedule.clone(),
        without: (0..groups.len()).map(|i| curve_without(Some(i))).collect(),
        whole,
    }
}

/// Adds `row` to `sums`, number by number.
fn add(sums: &mut [f64], row: impl Iterator<Item = f64>) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += value;
    }
}

/// `||x_0 - E x_0_hat||^2` of each example at step `t`, free of what the draws of `x_0_hat` add.
fn squared_errors(
    model: &impl Denoise,
    x_0: &Tensor<4>,
    t: usize,
    range: &Range<u64>,
    options: &CurveOptions,
) -> Vec<f64> {
    let [batch, height, width, channels] = x_0.dims();
    let noise =
        |images: Range<u64>| NoiseSource::new(options.seed, images.collect(), &x_0.device());
    let eps = noise(range.clone()).normal(EPS_STEP, Use::Eps, [height, width, channels]);
    let t_of_each = vec![t; batch];
    let process = model.process();
    let x_t = process.q_sample(x_0.clone(), &t_of_each, eps);
    let draw = |draw: usize| {
        let shift = (draw * options.examples) as u64;
        let noise = noise(range.start + shift..range.end + shift);
        let x_0_hat = model.draw_x_0(x_t.clone(), &t_of_each, &noise, t as u64);
        if options.clip {
            x_0_hat.clamp(-1.0, 1.0)
        } else {
            x_0_hat
        }
    };
    let squares = |x: Tensor<4>| {
        let rows = x.square().reshape([batch, height * width * channels]);
        host::numbers(rows.sum_dim(1)).into_iter().map(f64::from)
    };
    let draws: Vec<Tensor<4>> = (0..options.draws).map(draw).collect();
    let count = options.draws as f64;
    let sum = draws.iter().cloned().reduce(|sum, draw| sum + draw);
    let mean = sum.expect("at least one draw") / count;
    let mut errors: Vec<f64> = squares(mean.clone() - x_0.clone()).collect();
    // The mean of n draws is off by their variance over n.
    for draw in draws.into_iter().filter(|_| count > 1.0) {
        for (error, square) in errors.iter_mut().zip(squares(draw - mean.clone())) {
            *error -= square / (count * (count - 1.0));
        }
    }
    errors
}

impl ErrorCurve {
    /// The mean squared error of a number, `E ||x_0 - x_0_hat||^2 / D`, at every step `1..=T` of the
    /// training, as measured: the best variance of `x_0` about this denoiser's guesses that is one
    /// number for each step (Bao et al. 2022). Between two levels its inverse is a line in `g`.
    pub fn x_0_vars(&self) -> Vec<f64> {
        let measured = Curve {
            snr: self.whole.snr.clone(),
            mmse: self.levels.iter().map(|level| level.mse).collect(),
        };
        let var = |t| measured.at(snr(&self.schedule, t)) / self.dim as f64;
        (1..=self.schedule.steps()).map(var).collect()
    }

    /// What a chain of `steps` Gaussian steps loses, which visits the training's steps as the sampler
    /// does with [`Spacing::Trailing`]; `None` for no steps and for more than those of the training.
    ///
    /// Standard errors are those of the examples, by leaving out one of 16 groups at a time.
    pub fn gaussian_loss(&self, steps: usize) -> Option<GaussianLoss> {
        let training = self.schedule.steps();
        if !(1..=training).contains(&steps) {
            return None;
        }
        let config = SampleConfig {
            steps,
            spacing: Spacing::Trailing,
            ..SampleConfig::default()
        };
        let chain = self.schedule.respaced(&config.visited(training));
        let sums = self.whole.sums(&chain, self.dim);
        let without = self.without.iter();
        let without: Vec<_> = without.map(|curve| curve.sums(&chain, self.dim)).collect();
        let estimate = |i: usize| Estimate {
            nats: sums[i],
            se: jackknife(without.iter().map(|sums| sums[i])),
        };
        Some(GaussianLoss {
            fixed_small: estimate(0),
            fixed_large: estimate(1),
            calibrated: estimate(2),
            information: estimate(3),
        })
    }
}

/// `g_t`.
fn snr(schedule: &NoiseSchedule, t: usize) -> f64 {
    schedule.alpha_bar(t) / (1.0 - schedule.alpha_bar(t))
}

/// The standard error of a number from its values without one group each.
fn jackknife(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let count = values.len() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
    (squares * (count - 1.0) / count).sqrt()
}

/// `mmse` at SNRs that rise; it is positive and does not.
#[derive(Debug, Clone)]
struct Curve {
    snr: Vec<f64>,
    mmse: Vec<f64>,
}

impl Curve {
    /// The least error from the noisiest level on, to begin with that of the examples' mean.
    fn new(snr: &[f64], sums: &[f64]) -> Self {
        let (sums, x_0) = sums.split_at(2 + snr.len());
        let mean = |sum: &f64| sum / sums[0];
        let mut least = mean(&sums[1]) - x_0.iter().map(|x| mean(x).powi(2)).sum::<f64>();
        // Few draws may leave nothing of an error, which must have an inverse.
        let floor = (1e-12 * least).max(f64::MIN_POSITIVE);
        let errors = sums[2..].iter().map(|error| {
            least = least.min(mean(error)).max(floor);
            least
        });
        Self {
            mmse: errors.collect(),
            snr: snr.to_vec(),
        }
    }

    /// The error at an SNR from the first to the last.
    fn at(&self, snr: f64) -> f64 {
        if let [only] = self.mmse[..] {
            return only;
        }
        let right = self.snr.partition_point(|&g| g <= snr);
        let right = right.clamp(1, self.snr.len() - 1);
        let (from, to) = (self.snr[right - 1], self.snr[right]);
        let (first, last) = (self.mmse[right - 1], self.mmse[right]);
        first / (1.0 + (first / last - 1.0) * (snr - from) / (to - from))
    }

    /// The integral of the error over the SNR.
    fn integral(&self, from: f64, to: f64) -> f64 {
        let inside = self.snr.iter().copied().filter(|&g| from < g && g < to);
        let places = iter::once(from).chain(inside).chain(iter::once(to));
        let places: Vec<f64> = places.collect();
        let cell = |pair: &[f64]| {
            let (first, last) = (self.at(pair[0]), self.at(pair[1]));
            // The mean of `1 / (1 + fall * place)` over places in 0 to 1.
            let fall = first / last - 1.0;
            let mean = if fall == 0.0 {
                1.0
            } else {
                fall.ln_1p() / fall
            };
            first * mean * (pair[1] - pair[0])
        };
        places.windows(2).map(cell).sum()
    }

    /// `M_t` with `tilde beta_t`, with `beta_t` and with the best number, and `I_t`, each summed over
    /// `t >= 2` of `chain`.
    fn sums(&self, chain: &NoiseSchedule, dim: usize) -> [f64; 4] {
        let dim = dim as f64;
        let mut sums = [0.0; 4];
        for t in 2..=chain.steps() {
            let (now, before) = (snr(chain, t), snr(chain, t - 1));
            let information = 0.5 * self.integral(now, before);
            let posterior = chain.posterior(t);
            // `E ||x_{t-1} - mean||^2 / D`: the best number.
            let best = posterior.var + posterior.coef_x_0.powi(2) * self.at(now) / dim;
            let loss = |step_var: f64| {
                let log_ratio = (step_var / posterior.var).ln();
                0.5 * dim * (log_ratio + best / step_var - 1.0) - information
            };
            let terms = [
                loss(StepVar::FixedSmall.at(chain, t)),
                loss(StepVar::FixedLarge.at(chain, t)),
                loss(best),
                information,
            ];
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum += term;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoise::Drawn;
    use crate::exact::Exact;
    use crate::gmm::{GaussianMixture, MixtureConfig};
    use crate::process::Process;
    use crate::schedule::{ScheduleConfig, ScheduleKind};
    use burn::tensor::{Device, TensorData};

    fn config(kind: ScheduleKind, steps: usize) -> ScheduleConfig {
        ScheduleConfig { kind, steps }
    }

    fn schedule(kind: ScheduleKind, steps: usize) -> NoiseSchedule {
        NoiseSchedule::new(&config(kind, steps)).unwrap()
    }

    /// The curve whose error at the signal `alpha_bar` is known; its standard errors are 0.
    fn known(schedule: NoiseSchedule, dim: usize, mmse: impl Fn(f64) -> f64) -> ErrorCurve {
        let steps = measured_steps(&schedule);
        let whole = Curve {
            snr: steps.iter().map(|&t| snr(&schedule, t)).collect(),
            mmse: steps.iter().map(|&t| mmse(schedule.alpha_bar(t))).collect(),
        };
        ErrorCurve {
            levels: Vec::new(),
            dim,
            schedule,
            without: vec![whole.clone(); 2],
            whole,
        }
    }

    /// That of the 7x7 grid, twice that of seven Gaussians on a line, by the trapezoid rule.
    fn grid_curve(training: usize) -> ErrorCurve {
        let axis_std = (4.0 + 0.05_f64.powi(2)).sqrt();
        let axis = GaussianMixture::from_config(&MixtureConfig {
            means: (-3..=3).map(|k| vec![f64::from(k) / axis_std]).collect(),
            stds: Some(vec![0.05 / axis_std; 7]),
            ..MixtureConfig::default()
        })
        .unwrap();
        let (cells, width) = (1600, 12.0);
        known(schedule(ScheduleKind::Cosine, training), 2, |alpha_bar| {
            let law = axis.marginal(alpha_bar);
            let at = |i: i32| [width * (f64::from(i) / f64::from(cells) - 0.5)];
            let density = |i: i32| law.log_density(&at(i)).exp();
            let seen = (0..=cells).filter(|&i| density(i) > 1e-12);
            let sum: f64 = seen
                .map(|i| density(i) * axis.trace_cov_x_0(&at(i), alpha_bar))
                .sum();
            2.0 * sum * width / f64::from(cells)
        })
    }

    /// The curve of a kernel for a mixture's examples.
    fn measured(kernel: &Exact, examples: usize, batch: usize, draws: usize) -> ErrorCurve {
        let options = CurveOptions {
            examples,
            batch,
            draws,
            clip: false,
            seed: 1,
        };
        let dim = kernel.mixture.dim();
        let examples = |range: Range<u64>| {
            let count = (range.end - range.start) as usize;
            let mut x_0 = vec![0.0; count * dim];
            for (i, x_0) in range.zip(x_0.chunks_exact_mut(dim)) {
                kernel.mixture.sample_into(3, i, x_0);
            }
            let x_0 = TensorData::new(x_0, [count, 1, 1, dim]);
            Tensor::from_data(x_0, &Device::default())
        };
        error_curve(kernel, examples, &options, |_| {})
    }

    /// Sums over `t >= 2` of `smd theory`'s kind (draws of both densities, no error curve): `tilde beta_t`
    /// with its standard error of about 0.02, `beta_t` and the best number. A training of 1000 steps
    /// visited at 8 has the `alpha_bar` of a cosine schedule of 8 steps.
    /// Exact levels at few steps, and a line in `1 / error` between the levels of many.
    #[test]
    fn the_variances_of_a_gaussian_are_known_at_every_step() {
        for steps in [1, 8, 1000] {
            let schedule = schedule(ScheduleKind::Cosine, steps);
            let mmse = |alpha_bar: f64| {
                3.0 * (1.0 - alpha_bar) / (1.0 - alpha_bar + 0.25 * alpha_bar) * 0.25
            };
            let mut curve = known(schedule.clone(), 3, mmse);
            curve.levels = measured_steps(&schedule)
                .into_iter()
                .map(|t| {
                    let (snr, mse) = (snr(&schedule, t), mmse(schedule.alpha_bar(t)));
                    Level {
                        t,
                        snr,
                        mse,
                        mmse: mse,
                    }
                })
                .collect();
            for (t, var) in (1..).zip(curve.x_0_vars()) {
                let exact = mmse(schedule.alpha_bar(t)) / 3.0;
                assert!(
                    (var / exact - 1.0).abs() < 1e-9,
                    "t = {t} of {steps}: {var}, {exact}"
                );
            }
        }
    }

    #[test]
    fn sums_on_the_grid_are_those_of_the_densities() {
        let curve = grid_curve(1000);
        for (steps, small, large, best) in [
            (4, 1.322, 0.067, 0.067),
            (8, 1.768, 0.104, 0.101),
            (16, 2.141, 0.366, 0.361),
            (50, 0.872, 0.788, 0.398),
        ] {
            let loss = curve.gaussian_loss(steps).unwrap();
            let off = [
                (loss.fixed_small.nats - small) / 0.05,
                (loss.fixed_large.nats - large) / 0.015,
                (loss.calibrated.nats - best) / 0.015,
            ];
            assert!(off.iter().all(|off| off.abs() < 1.0), "{steps}: {loss:?}");
        }
    }

    /// Few levels: the training's own eight.
    #[test]
    fn a_training_of_few_steps_is_read_between_its_levels() {
        let loss = grid_curve(8).gaussian_loss(8).unwrap();
        assert!((loss.fixed_small.nats - 1.78).abs() < 0.02, "{loss:?}");
        assert!((loss.calibrated.nats - 0.102).abs() < 0.015, "{loss:?}");
    }

    #[test]
    fn one_gaussian_loses_only_by_a_wrong_variance() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear] {
            let (schedule, dim, var) = (schedule(kind, 400), 3, 0.2);
            let precision = |t: usize| 1.0 / var + snr(&schedule, t);
            let information = 1.5 * (precision(1) / precision(400)).ln();
            let mmse = |alpha_bar: f64| 3.0 / (1.0 / var + alpha_bar / (1.0 - alpha_bar));
            let curve = known(schedule.clone(), dim, mmse);
            for steps in [2, 7, 60, 400] {
                let loss = curve.gaussian_loss(steps).unwrap();
                assert!(loss.calibrated.nats.abs() < 1e-9, "{steps}: {loss:?}");
                assert!(loss.fixed_small.nats > 0.0 && loss.fixed_large.nats > 0.0);
            }
            let found = curve.gaussian_loss(400).unwrap().information.nats;
            assert!((found - information).abs() < 1e-9, "{found} {information}");
        }
    }

    #[test]
    fn a_measured_curve_agrees_with_the_known_one() {
        let cosine = config(ScheduleKind::Cosine, 1000);
        let kernel = Exact::new(GaussianMixture::grid_7x7(), &cosine, false);
        let (found, known) = (measured(&kernel, 1500, 512, 1), grid_curve(1000));
        for steps in [3, 8, 50] {
            let [found, known] = [&found, &known].map(|curve| curve.gaussian_loss(steps).unwrap());
            let of = |loss: &GaussianLoss| {
                [
                    loss.fixed_small,
                    loss.fixed_large,
                    loss.calibrated,
                    loss.information,
                ]
            };
            for (found, known) in of(&found).into_iter().zip(of(&known)) {
                let off = (found.nats - known.nats).abs();
                assert!(off < 5.0 * found.se, "{steps}: {found:?} {known:?}");
                // Forty repetitions of 1000 examples spread by 0.01 to 0.14.
                assert!((0.004..0.25).contains(&found.se), "{steps}: {found:?}");
            }
        }
    }

    #[test]
    fn the_batch_changes_nothing() {
        let cosine = config(ScheduleKind::Cosine, 8);
        let kernel = Exact::new(GaussianMixture::grid_7x7(), &cosine, true);
        let [one, other] = [7, 64].map(|batch| measured(&kernel, 50, batch, 2));
        assert_eq!(one.levels, other.levels);
        assert_eq!(one.gaussian_loss(8), other.gaussian_loss(8));
    }

    #[test]
    fn a_kernel_that_draws_has_the_curve_of_its_mean() {
        let cosine = config(ScheduleKind::Cosine, 8);
        let [mean, draws] = [(false, 1), (true, 4)].map(|(draws, count)| {
            let kernel = Exact::new(GaussianMixture::grid_7x7(), &cosine, draws);
            measured(&kernel, 2000, 2000, count).levels
        });
        for (mean, draws) in mean.iter().zip(draws) {
            // The spread of four draws adds about as much noise to an example's error as it has: 2 % after
            // 2000 examples. Left in, it would add 25 %.
            assert!(
                (draws.mse / mean.mse - 1.0).abs() < 0.1,
                "{draws:?} {mean:?}"
            );
        }
    }

    /// Guesses far away from all data.
    struct Lost(Process);

    impl Denoise for Lost {
        fn process(&self) -> &Process {
            &self.0
        }

        fn draw(&self, x_t: Tensor<4>, _: &[usize], _: &NoiseSource, _: u64) -> Drawn {
            Drawn {
                x_0: x_t.zeros_like() + 9.0,
                x_0_var: None,
            }
        }
    }

    #[test]
    fn no_level_is_worse_than_a_constant_guess() {
        let model = Lost(Process::new(schedule(ScheduleKind::Cosine, 20)));
        let options = CurveOptions {
            examples: 4,
            batch: 4,
            draws: 1,
            clip: false,
            seed: 1,
        };
        let x_0 = |_| {
            Tensor::from_data(
                [[[[0.0_f32]]], [[[2.0]]], [[[4.0]]], [[[6.0]]]],
                &Device::default(),
            )
        };
        let curve = error_curve(&model, x_0, &options, |_| {});
        for level in &curve.levels {
            // The mean of 81, 49, 25, 9, and the variance of 0, 2, 4, 6.
            assert_eq!((level.mse, level.mmse), (41.0, 5.0));
        }
        // On a flat curve `tilde beta_t` loses nothing.
        let loss = curve.gaussian_loss(5).unwrap();
        assert!(loss.fixed_small.nats.abs() < 1e-9, "{loss:?}");
        let clipped = CurveOptions {
            clip: true,
            ..options
        };
        let curve = error_curve(&model, x_0, &clipped, |_| {});
        // The guess is 1: the mean of 1, 1, 9, 25.
        assert_eq!(curve.levels[0].mse, 9.0);
    }

    #[test]
    fn a_chain_is_no_longer_than_the_training() {
        let curve = grid_curve(8);
        assert!(curve.gaussian_loss(9).is_none() && curve.gaussian_loss(0).is_none());
        let one = curve.gaussian_loss(1).unwrap();
        assert_eq!(one.calibrated, Estimate::default());
    }

    #[test]
    fn levels_are_spread_over_the_training() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear] {
            let schedule = schedule(kind, 1000);
            let steps = measured_steps(&schedule);
            assert!((55..=LEVELS).contains(&steps.len()), "{}", steps.len());
            assert_eq!((steps[0], steps[steps.len() - 1]), (1000, 1));
            assert!(steps.is_sorted_by(|a, b| a > b));
        }
        assert_eq!(measured_steps(&schedule(ScheduleKind::Vp, 3)), [3, 2, 1]);
    }
}

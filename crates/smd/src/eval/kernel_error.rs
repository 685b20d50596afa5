//! `M_t` of a trained kernel: what its steps lose, of any kind of kernel, with standard errors.
//!
//! ```text
//! M_t = E [log q(x_{t-1} | x_t) - log p(x_{t-1} | x_t)]                               Def. 3.1
//! L_t = E [log q(x_{t-1} | x_t, x_0) - log p(x_{t-1} | x_t)] = M_t + I(x_0; x_{t-1} | x_t)
//! ```
//! On a known mixture the first is estimated from draws of `(x_t, x_{t-1})`. On other data only the
//! second can be; the information does not depend on the kernel, so a difference of two kernels' `L_t` on
//! the same draws is a difference of their `M_t`: it certifies that the worse one's is at least that large.
//! At `t = 1`, where `q(x_0 | x_1, x_0)` has no density, `L_1` is `-log p(x_0 | x_1)`.
//!
//! The likelihood of a continuous latent is the mean over many draws of it. Its logarithm is too small on
//! average (Jensen), so the error is an upper bound; the same with half of the draws says by how much.

use crate::denoise::{Components, Denoise, Denoiser};
use crate::denoising_error::Estimate;
use crate::gmm::{BackwardStep, GaussianMixture};
use crate::host;
use crate::noise::{self, NoiseSource, Use};
use crate::process::StepVar;
use burn::tensor::{Device, Tensor, TensorData};
use rand_distr::{Distribution, StandardNormal};

/// Latents that go through a network together: bounds memory, never changes the result.
const LATENTS: usize = 1 << 15;

/// Variances that are tried for a kernel without one of its own: `1e-6` to `10`, a ratio of 1.2 apart.
const VARS: i32 = 89;

/// How carefully to measure.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Draws of `(x_t, x_{t-1})`.
    pub points: usize,
    /// Draws of a continuous latent at each.
    pub etas: usize,
    /// Names the draws.
    pub seed: u64,
    /// The published variance, for kernels that take it.
    pub step_var: StepVar,
}

/// What a kernel loses at one step.
#[derive(Debug, Clone, Copy)]
pub struct StepError {
    /// The step, from 1.
    pub t: usize,
    /// With the kernel's own variance.
    pub own: Estimate,
    /// The same from half of the latents; `None` where the likelihood is an exact sum.
    pub half: Option<Estimate>,
    /// With the one best number as variance in `x_0`, chosen on other draws; `None` where the kernel
    /// learned its own.
    pub calibrated: Option<Estimate>,
    /// That number.
    pub calibrated_var: Option<f64>,
}

/// Draws of a step, and the density that the kernel is held against.
struct Draws {
    x_t: Tensor<4>,
    x_prev: Tensor<4>,
    log_q: Vec<f64>,
}

/// `M_t` on a mixture, in nats.
///
/// # Panics
/// If the kernel is for other examples than vectors of the mixture's dimension.
pub fn on_mixture(
    denoiser: &Denoiser,
    mixture: &GaussianMixture,
    t: usize,
    probe: Probe,
    device: &Device,
) -> StepError {
    let schedule = denoiser.process().schedule();
    let (alpha_bar, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
    let posterior = schedule.posterior(t);
    let step = BackwardStep::new(mixture, alpha_bar, before);
    let mut law = step.law();
    let (mut x_t, mut x_prev, mut log_q) = (Vec::new(), Vec::new(), Vec::new());
    for point in 0..probe.points as u64 {
        let mut rng = noise::rng(probe.seed, point, t as u64, Use::KernelError);
        let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
        let eps: Vec<[f64; 2]> = (0..mixture.dim()).map(|_| [normal(), normal()]).collect();
        let x_0 = mixture.sample(&mut rng);
        let now = x_0
            .iter()
            .zip(&eps)
            .map(|(x_0, [eps, _])| alpha_bar.sqrt() * x_0 + (1.0 - alpha_bar).sqrt() * eps);
        let now: Vec<f64> = now.collect();
        let prev = x_0
            .iter()
            .zip(&now)
            .zip(&eps)
            .map(|((x_0, x_t), [_, eps])| {
                posterior.coef_x_0 * x_0 + posterior.coef_x_t * x_t + posterior.var.sqrt() * eps
            });
        let prev: Vec<f64> = prev.collect();
        law.set(&now);
        log_q.push(law.log_density(&prev));
        x_t.extend(now.iter().map(|&x| x as f32));
        x_prev.extend(prev.iter().map(|&x| x as f32));
    }
    let shape = [probe.points, 1, 1, mixture.dim()];
    let tensor = |values| Tensor::from_data(TensorData::new(values, shape), device);
    let draws = Draws {
        x_t: tensor(x_t),
        x_prev: tensor(x_prev),
        log_q,
    };
    measure(denoiser, t, &draws, probe)
}

/// `L_t` on examples, in nats; the draws are named by their place.
///
/// # Shapes
/// - `x_0`: `[B, H, W, C]`; `probe.points` has no meaning here
pub fn on_examples(denoiser: &Denoiser, x_0: Tensor<4>, t: usize, probe: Probe) -> StepError {
    let [count, height, width, channels] = x_0.dims();
    let shape = [height, width, channels];
    let noise = NoiseSource::new(probe.seed, (0..count as u64).collect(), &x_0.device());
    let process = denoiser.process();
    let x_t = process.q_sample(
        x_0.clone(),
        &vec![t; count],
        noise.normal(t as u64, Use::Eps, shape),
    );
    let posterior = process.schedule().posterior(t);
    let eps = noise.normal(t as u64, Use::Previous, shape);
    let numbers = shape.iter().product::<usize>();
    let entropy = match posterior.var {
        0.0 => vec![0.0; count],
        var => {
            let squares = eps.clone().square().reshape([count, numbers]).sum_dim(1);
            let log_det = numbers as f64 * (std::f64::consts::TAU * var).ln();
            let squares = host::numbers(squares).into_iter();
            squares
                .map(|square| -0.5 * (f64::from(square) + log_det))
                .collect()
        }
    };
    let x_prev =
        x_0 * posterior.coef_x_0 + x_t.clone() * posterior.coef_x_t + eps * posterior.var.sqrt();
    let draws = Draws {
        x_t,
        x_prev,
        log_q: entropy,
    };
    measure(denoiser, t, &draws, probe)
}

fn measure(denoiser: &Denoiser, t: usize, draws: &Draws, probe: Probe) -> StepError {
    let points = draws.log_q.len();
    let etas = if denoiser.is_implicit() {
        probe.etas
    } else {
        1
    };
    let chunk = (LATENTS / etas).max(1);
    let calibrates = !denoiser.learns_variance();
    let (mut own, mut half) = (Vec::new(), Vec::new());
    let mut tried = vec![Vec::new(); if calibrates { VARS as usize } else { 0 }];
    for first in (0..points).step_by(chunk) {
        let count = chunk.min(points - first);
        let rows = |x: &Tensor<4>| x.clone().narrow(0, first, count);
        let (x_t, x_prev) = (rows(&draws.x_t), rows(&draws.x_prev));
        let steps = vec![t; count];
        let images = (first as u64..(first + count) as u64).collect();
        let noise = NoiseSource::new(probe.seed, images, &x_t.device());
        let parts =
            denoiser.components(x_t.clone(), &steps, etas, probe.step_var, &noise, t as u64);
        let error = |parts: &Components| {
            let process = denoiser.process();
            let nll = parts.nll_nats(process, x_prev.clone(), x_t.clone(), &steps);
            let log_q = &draws.log_q[first..first + count];
            let nll = host::numbers(nll).into_iter();
            nll.zip(log_q)
                .map(|(nll, log_q)| log_q + f64::from(nll))
                .collect::<Vec<f64>>()
        };
        own.extend(error(&parts));
        if denoiser.is_implicit() {
            half.extend(error(&first_half(&parts)));
        }
        for (i, errors) in tried.iter_mut().enumerate() {
            let vars = parts.vars.full_like(var_of(i));
            errors.extend(error(&Components {
                vars,
                ..parts.clone()
            }));
        }
    }
    let calibrated = calibrated(&tried);
    StepError {
        t,
        own: estimate(&own),
        half: denoiser.is_implicit().then(|| estimate(&half)),
        calibrated: calibrated.map(|(_, error)| error),
        calibrated_var: calibrated.map(|(var, _)| var),
    }
}

fn var_of(i: usize) -> f64 {
    1e-6 * 1.2_f64.powi(i as i32)
}

/// The components that the first half of the latents gives.
fn first_half(parts: &Components) -> Components {
    let k = parts.log_weights.dims()[1];
    let half = k.div_ceil(2);
    Components {
        log_weights: parts.log_weights.clone().narrow(1, 0, half) + (k as f64 / half as f64).ln(),
        means: parts.means.clone().narrow(1, 0, half),
        vars: parts.vars.clone().narrow(1, 0, half),
    }
}

/// The best variance on the even draws, and the error with it on the odd ones.
fn calibrated(tried: &[Vec<f64>]) -> Option<(f64, Estimate)> {
    let every_other = |errors: &Vec<f64>, first: usize| -> Vec<f64> {
        errors.iter().skip(first).step_by(2).copied().collect()
    };
    let on_even = |errors: &Vec<f64>| estimate(&every_other(errors, 0)).nats;
    let best =
        (0..tried.len()).min_by(|&a, &b| on_even(&tried[a]).total_cmp(&on_even(&tried[b])))?;
    Some((var_of(best), estimate(&every_other(&tried[best], 1))))
}

fn estimate(errors: &[f64]) -> Estimate {
    let count = errors.len() as f64;
    let mean = errors.iter().sum::<f64>() / count;
    let var = errors.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / (count - 1.0);
    Estimate {
        nats: mean,
        se: (var / count).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::denoising_error::{Family, step_floors};
    use crate::gmm::MixtureConfig;
    use crate::train::Trainer;

    const PROBE: Probe = Probe {
        points: 2000,
        etas: 8,
        seed: 1,
        step_var: StepVar::FixedLarge,
    };

    /// A Gaussian law: the best step is a Gaussian, so a trained one loses nothing but its training.
    fn one_gaussian() -> GaussianMixture {
        GaussianMixture::from_config(&MixtureConfig {
            means: vec![vec![0.2, -0.1]],
            stds: Some(vec![0.8]),
            ..MixtureConfig::default()
        })
        .unwrap()
    }

    fn trained(kernel: &[&str], mixture: &GaussianMixture) -> Denoiser {
        let mut settings: Vec<String> = [
            "schedule.steps=4",
            "net.dim=32",
            "net.blocks=1",
            "net.frequencies=0",
            "train.steps=400",
            "train.batch=256",
            "train.lr=5e-3",
        ]
        .map(String::from)
        .to_vec();
        settings.extend(kernel.iter().map(|&setting| setting.to_owned()));
        let preset = config::preset("gmm-7x7").unwrap();
        let config = config::set(preset, "preset", &settings).unwrap();
        let examples = crate::data::Examples::Mixture(mixture.clone());
        let mut trainer = Trainer::new(config, examples, &Device::default()).unwrap();
        for _ in 0..400 {
            trainer.train_step().unwrap();
        }
        trainer.model(Some(0.999))
    }

    /// With the best variance a trained Gaussian reaches its family's floor, which is 0 here.
    #[test]
    fn a_trained_gaussian_is_at_its_floor() {
        let mixture = one_gaussian();
        for kernel in ["kernel.variance=fixed", "kernel.variance=per-step"] {
            let denoiser = trained(&[kernel], &mixture);
            for t in 1..=4 {
                let floors = step_floors(&mixture, denoiser.process().schedule(), t, 20_000, 1);
                let error = on_mixture(&denoiser, &mixture, t, PROBE, &Device::default());
                let (found, family) = match error.calibrated {
                    Some(found) => (found, Family::Isotropic),
                    None => (error.own, Family::Isotropic),
                };
                let floor = floors.floor(family).unwrap();
                let off = found.nats - floor.nats;
                // Training leaves some; the floor itself cannot be passed.
                assert!(
                    off > -5.0 * found.se && off < 0.06 + 5.0 * found.se,
                    "{kernel}, t = {t}: {found:?}, floor {floor:?}"
                );
            }
        }
    }

    /// With the published variance the error of a fixed one is its own floor's.
    #[test]
    fn a_fixed_variance_has_the_floor_of_its_family() {
        let mixture = GaussianMixture::grid_7x7();
        let denoiser = trained(&["net.frequencies=4"], &mixture);
        let schedule = denoiser.process().schedule();
        for t in 2..=4 {
            let floor = step_floors(&mixture, schedule, t, 20_000, 1);
            let floor = floor.floor(Family::FixedLarge).unwrap();
            let error = on_mixture(&denoiser, &mixture, t, PROBE, &Device::default()).own;
            let off = error.nats - floor.nats;
            assert!(
                off > -5.0 * error.se && off < 0.1 + 5.0 * error.se,
                "t = {t}: {error:?}, floor {floor:?}"
            );
        }
    }

    /// On examples the error is larger by the same information for every kernel.
    #[test]
    fn a_difference_needs_no_truth() {
        let mixture = one_gaussian();
        let good = trained(&["kernel.variance=per-step"], &mixture);
        let bad = trained(
            &[
                "kernel.variance=per-step",
                "objective.weight=eps",
                "train.seed=3",
            ],
            &mixture,
        );
        let mut x_0 = vec![0.0; 2 * 4000];
        for (i, out) in x_0.chunks_exact_mut(2).enumerate() {
            mixture.sample_into(9, i as u64, out);
        }
        let x_0 = Tensor::from_data(TensorData::new(x_0, [4000, 1, 1, 2]), &Device::default());
        for t in 1..=4 {
            let known = |d| on_mixture(d, &mixture, t, PROBE, &Device::default()).own;
            let unknown = |d| on_examples(d, x_0.clone(), t, PROBE).own;
            let (a, b) = (known(&bad), known(&good));
            let (c, d) = (unknown(&bad), unknown(&good));
            let se = a.se.hypot(b.se).hypot(c.se.hypot(d.se));
            let off = (a.nats - b.nats) - (c.nats - d.nats);
            assert!(off.abs() < 5.0 * se, "t = {t}: {off} of {se}");
        }
    }
}

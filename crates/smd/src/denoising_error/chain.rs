//! What the floors mean in samples: chains of exact steps, and of the best Gaussian ones.
//!
//! The last step of every Gaussian chain is its mean, without noise, as in Algorithm 2: so chains differ in
//! their variances at `t >= 2` alone.

use super::check::Precision;
use super::{DenoisingError, Family, Matched};
use crate::error::TheoryError;
use crate::eval::modes::{ModeReport, mode_report};
use crate::eval::sliced_wasserstein::sliced_wasserstein_2;
use crate::gmm::{BackwardLaw, BackwardStep, GaussianMixture};
use crate::noise::{self, Use};
use crate::schedule::NoiseSchedule;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Samples that walk back together.
const CHUNK: usize = 64;

/// Directions of the sliced Wasserstein distance.
const DIRECTIONS: usize = 128;

/// The step of a chain whose mean is always the exact one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A draw of `q(x_{t-1} | x_t)` itself.
    Exact,
    /// The best Gaussian of a family; at `t = 1` its mean.
    Best(Family),
}

impl Step {
    /// `exact`, `fixed_large`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Best(family) => family.name(),
        }
    }
}

/// How good the samples of a chain are.
#[derive(Debug, Clone, Copy)]
pub struct ChainQuality {
    /// The chain's step.
    pub step: Step,
    /// Coverage and sharpness of the modes.
    pub modes: ModeReport,
    /// Sliced Wasserstein distance to as many samples of the data.
    pub swd: f64,
}

/// Of samples, which are f32 and round to 1e-7.
const SINGLE: Precision = Precision {
    width: 1e-6,
    sizes: [1e-30, 1e30],
};

/// Checks that samples, which are f32, tell the components of a mixture from points.
///
/// # Errors
/// The first that they do not tell, or one whose squares f32 does not hold.
pub fn check(mixture: &GaussianMixture) -> Result<(), TheoryError> {
    SINGLE.check(mixture, mixture, 0)
}

/// The quality of `count` samples of the exact chain and of each family's, all from `N(0, I)`. Of a mixture
/// that does not pass [`check`] it says nothing.
///
/// # Panics
/// If `error` was measured on another schedule, or `count` is 0.
pub fn qualities(
    mixture: &GaussianMixture,
    schedule: &NoiseSchedule,
    error: &DenoisingError,
    count: usize,
    seed: u64,
    mut on_chain: impl FnMut(usize),
) -> Vec<ChainQuality> {
    let dim = mixture.dim();
    let mut truth = vec![0.0; count * dim];
    for (i, x) in truth.chunks_exact_mut(dim).enumerate() {
        mixture.sample_into(seed, i as u64, x);
    }
    let kernels = std::iter::once(Step::Exact).chain(Family::ALL.map(Step::Best));
    kernels
        .enumerate()
        .map(|(done, step)| {
            let x = samples(mixture, schedule, error, step, count, seed);
            on_chain(done + 1);
            ChainQuality {
                step,
                modes: mode_report(&x, mixture),
                swd: sliced_wasserstein_2(&x, &truth, dim, DIRECTIONS, seed),
            }
        })
        .collect()
}

/// `count` samples of a chain, `[count, D]`; sample `i` is a function of `seed` and `i`.
///
/// # Panics
/// As [`qualities`].
pub fn samples(
    mixture: &GaussianMixture,
    schedule: &NoiseSchedule,
    error: &DenoisingError,
    step: Step,
    count: usize,
    seed: u64,
) -> Vec<f32> {
    assert_eq!(
        error.per_t.len(),
        schedule.steps(),
        "floors of this schedule"
    );
    let dim = mixture.dim();
    let steps: Vec<BackwardStep> = (1..=schedule.steps())
        .map(|t| BackwardStep::new(mixture, schedule.alpha_bar(t), schedule.alpha_bar(t - 1)))
        .collect();
    let mut out = vec![0.0; count * dim];
    let chunks = out.par_chunks_mut(CHUNK * dim).enumerate();
    chunks.for_each(|(chunk, out)| {
        let first = (chunk * CHUNK) as u64;
        let mut walkers: Vec<_> = (first..)
            .take(out.len() / dim)
            .map(|i| noise::rng(seed, i, 0, Use::ExactChain))
            .map(|mut rng| {
                (
                    StandardNormal.sample_iter(&mut rng).take(dim).collect(),
                    rng,
                )
            })
            .collect::<Vec<(Vec<f64>, _)>>();
        for (t, exact) in steps
            .iter()
            .enumerate()
            .map(|(i, step)| (i + 1, step))
            .rev()
        {
            let spread = Spread::of(step, schedule, error, t);
            let (mut law, mut matched) = (exact.law(), Matched::new(dim));
            let (now, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
            for (x, rng) in &mut walkers {
                law.set(x);
                let mixture = |x_t: &[f64]| mixture.backward(x_t, now, before);
                spread.draw(&mut law, mixture, &mut matched, rng, x);
            }
        }
        for (out, (x, _)) in out.chunks_exact_mut(dim).zip(walkers) {
            for (out, x) in out.iter_mut().zip(x) {
                *out = x as f32;
            }
        }
    });
    out
}

/// What a step adds to the exact mean.
enum Spread {
    Exact,
    Var(f64),
    PerX,
    Diagonal,
    Full,
}

impl Spread {
    fn of(step: Step, schedule: &NoiseSchedule, error: &DenoisingError, t: usize) -> Self {
        match step {
            Step::Exact => Self::Exact,
            Step::Best(_) if t == 1 => Self::Var(0.0),
            Step::Best(Family::FixedLarge) => Self::Var(schedule.beta(t)),
            Step::Best(Family::FixedSmall) => Self::Var(schedule.posterior(t).var),
            Step::Best(Family::Isotropic) => Self::Var(error.per_t[t - 1].isotropic_var),
            Step::Best(Family::PerX) => Self::PerX,
            Step::Best(Family::Diagonal) => Self::Diagonal,
            Step::Best(Family::Full) => Self::Full,
        }
    }

    /// Turns `x_t` into a draw of `x_{t-1}`; `mixture` is `law` at any `x_t`.
    fn draw(
        &self,
        law: &mut BackwardLaw<'_>,
        mixture: impl Fn(&[f64]) -> GaussianMixture,
        matched: &mut Matched,
        rng: &mut impl Rng,
        x: &mut [f64],
    ) {
        let dim = x.len();
        let eps: Vec<f64> = StandardNormal.sample_iter(&mut *rng).take(dim).collect();
        let var = |i: usize| law.covariance()[i * dim + i];
        let mut around_mean = |std: &dyn Fn(usize) -> f64| {
            for (i, (x, mean)) in x.iter_mut().zip(law.mean()).enumerate() {
                *x = mean + std(i) * eps[i];
            }
        };
        match self {
            Self::Exact => {
                let mut other = vec![0.0; dim];
                law.draw_pair(rng, &eps, [x, &mut other]);
            }
            Self::Var(var) => around_mean(&|_| var.sqrt()),
            Self::PerX => {
                let mean_var = (0..dim).map(var).sum::<f64>() / dim as f64;
                around_mean(&|_| mean_var.sqrt());
            }
            Self::Diagonal => around_mean(&|i| var(i).sqrt()),
            Self::Full => {
                matched.set(law.mean(), law.covariance(), || mixture(x));
                matched.draw(&eps, x);
            }
        }
    }
}

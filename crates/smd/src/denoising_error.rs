//! The denoising error of a backward step, exactly: `M_t` of Gaussian families and `E` of their chain.
//!
//! ```text
//! M_t = E_{x_t} KL(q(x_{t-1} | x_t) || p(x_{t-1} | x_t))        Def. 3.1
//! E   = KL(q(x_T) || N(0, I)) + sum_t M_t                       Def. 3.2
//! ```
//! The chain is Markov in both directions, so `E` is that sum, with no bound in between. For a Gaussian
//! mixture `q(x_{t-1} | x_t)` is known (Prop. 3.1), and the least `M_t` that a family of Gaussians can
//! reach is an expectation over `x_t`: its *floor*. With `C(x_t)` the covariance of the true step and `m`
//! its mean, which every best Gaussian has,
//!
//! ```text
//! KL(q || N(m, S)) = KL(q || N(m, C)) + KL(N(m, C) || N(m, S))
//! ```
//! The second term is closed. The first is what no Gaussian can do; it is estimated as the mean of
//! `log q - log N(m, C)` over draws of the joint law of `(x_t, x_{t-1})`, in pairs on opposite sides of a
//! component's mean. Both densities are taken at the same draw: `log N` is the control variate of `log q`,
//! with the known mean `-1/2 log det(2 pi e C)`. Where the step is nearly Gaussian they differ by little,
//! and the variance is about twice the error itself: that is what makes sums over a thousand steps sharp.
//!
//! - [`check()`]: whether f64 tells the mixture; [`measure`]: floors of all families at all steps
//! - [`chain`]: samples of the exact chain and of each floor's
//! - [`exceed`]: Theorem 3.1 as a program
//!
//! Source: Li, van Breugel, van der Schaar, "Soft Mixture Denoising", ICLR 2024 (arXiv:2309.14068);
//! one variance a step in closed form: Bao et al. 2022, "Analytic-DPM" (arXiv:2201.06503).

pub mod chain;
mod check;
pub mod exceed;
mod matched;
mod moments;
mod two_bumps;

use crate::gmm::{BackwardStep, GaussianMixture};
use crate::noise::{self, Use};
use crate::schedule::NoiseSchedule;
use matched::Matched;
use moments::Moments;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::ops::Add;

pub use check::check;

/// Draws that share a generator: work is split by this, whatever the number of threads.
const CHUNK: usize = 256;

/// Which variances a Gaussian step may have. Its mean is always the best one, `E[x_{t-1} | x_t]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `beta_t`.
    FixedLarge,
    /// `tilde beta_t`; no density at `t = 1`, where it is 0.
    FixedSmall,
    /// The best number for each `t`.
    Isotropic,
    /// The best number for each `x_t`.
    PerX,
    /// The best number for each `x_t` and coordinate.
    Diagonal,
    /// The best covariance matrix for each `x_t`.
    Full,
}

impl Family {
    /// All families, those with fewer choices first.
    pub const ALL: [Self; 6] = [
        Self::FixedLarge,
        Self::FixedSmall,
        Self::Isotropic,
        Self::PerX,
        Self::Diagonal,
        Self::Full,
    ];

    /// `fixed_large`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::FixedLarge => "fixed_large",
            Self::FixedSmall => "fixed_small",
            Self::Isotropic => "isotropic",
            Self::PerX => "per_x",
            Self::Diagonal => "diagonal",
            Self::Full => "full",
        }
    }
}

/// A number of nats and its standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub nats: f64,
    /// Its standard error.
    pub se: f64,
}

/// Of independent estimates.
impl Add for Estimate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            nats: self.nats + other.nats,
            se: self.se.hypot(other.se),
        }
    }
}

/// The floors of one step.
#[derive(Debug, Clone)]
pub struct StepFloors {
    /// The step, from 1.
    pub t: usize,
    /// `beta_t`.
    pub beta: f64,
    /// `alpha_bar_t`.
    pub alpha_bar: f64,
    /// `E tr Cov(x_{t-1} | x_t) / D`: the variance of [`Family::Isotropic`].
    pub isotropic_var: f64,
    floors: [Option<Estimate>; 6],
}

impl StepFloors {
    /// The least `M_t` of a family; `None` where it has no density.
    pub fn floor(&self, family: Family) -> Option<Estimate> {
        self.floors[family as usize]
    }
}

/// What [`measure`] finds.
#[derive(Debug, Clone)]
pub struct DenoisingError {
    /// `KL(q(x_T) || N(0, I))`: what the chain's start loses.
    pub kl_start: Estimate,
    /// The floors, from `t = 1`.
    pub per_t: Vec<StepFloors>,
}

impl DenoisingError {
    /// The sum of `M_t` over all steps from `first` on; `None` where one of them has no density.
    pub fn sum_from(&self, first: usize, family: Family) -> Option<Estimate> {
        let floors = self.per_t[first - 1..]
            .iter()
            .map(|step| step.floor(family));
        floors.sum::<Option<Sum>>().map(|Sum(sum)| sum)
    }

    /// `E` of a chain whose every step is the best of a family (Def. 3.2).
    pub fn total(&self, family: Family) -> Option<Estimate> {
        self.sum_from(1, family).map(|sum| self.kl_start + sum)
    }
}

struct Sum(Estimate);

impl std::iter::Sum<Estimate> for Sum {
    fn sum<I: Iterator<Item = Estimate>>(estimates: I) -> Self {
        Self(estimates.fold(Estimate::default(), Add::add))
    }
}

/// The floors of every family at every step, from `draws` draws of `(x_t, x_{t-1})` for each.
///
/// The same arguments give the same numbers with any number of threads. `on_step` is told how many steps
/// are done. Of a mixture that does not pass [`check()`] they are wrong, or NaN.
///
/// # Panics
/// If `draws` is below 2.
pub fn measure(
    mixture: &GaussianMixture,
    schedule: &NoiseSchedule,
    draws: usize,
    seed: u64,
    mut on_step: impl FnMut(usize),
) -> DenoisingError {
    assert!(draws >= 2, "a standard error needs two draws");
    let per_t = (1..=schedule.steps())
        .map(|t| {
            let floors = step_floors(mixture, schedule, t, draws, seed);
            on_step(t);
            floors
        })
        .collect();
    DenoisingError {
        kl_start: kl_start(mixture, schedule, draws, seed),
        per_t,
    }
}

/// What is averaged over draws: the loss of the best Gaussian, then `tr C`, `log det C`,
/// `sum_i log C_ii` and `log tr C`.
const TERMS: usize = 5;

/// The floors at step `t`, which depend on no other step.
pub fn step_floors(
    mixture: &GaussianMixture,
    schedule: &NoiseSchedule,
    t: usize,
    draws: usize,
    seed: u64,
) -> StepFloors {
    let (alpha_bar, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
    let step = BackwardStep::new(mixture, alpha_bar, before);
    let moments = chunks(draws, |chunk, count| {
        let mut rng = noise::rng(seed, chunk as u64, t as u64, Use::ExactError);
        let dim = mixture.dim();
        let mut law = step.law();
        let mut matched = Matched::new(dim);
        let (mut eps, mut a, mut b) = (vec![0.0; dim], vec![0.0; dim], vec![0.0; dim]);
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            let x_t = step.marginal().sample(&mut rng);
            eps.fill_with(|| StandardNormal.sample(&mut rng));
            law.set(&x_t);
            matched.set(law.mean(), law.covariance(), || {
                mixture.backward(&x_t, alpha_bar, before)
            });
            law.draw_pair(&mut rng, &eps, [&mut a, &mut b]);
            let mut loss = |x: &[f64]| law.log_density(x) - matched.log_density(x);
            let loss = 0.5 * (loss(&a) + loss(&b));
            let (mut trace, mut log_diagonal) = (0.0, 0.0);
            for i in 0..dim {
                let var = law.covariance()[i * dim + i];
                trace += var;
                log_diagonal += var.ln();
            }
            rows.push([loss, trace, matched.log_det(), log_diagonal, trace.ln()]);
        }
        rows
    });
    let dim = mixture.dim() as f64;
    let [_, trace, ..] = moments.mean();
    let isotropic_var = trace / dim;
    // A floor is `constant + gradient . means`, exactly or, for the best number per step, in the limit.
    let floor = |constant: f64, gradient: [f64; TERMS]| {
        let (linear, se) = moments.linear(gradient);
        Estimate {
            nats: constant + linear,
            se,
        }
    };
    let fixed = |var: f64| {
        let constant = 0.5 * dim * (var.ln() - 1.0);
        floor(constant, [1.0, 0.5 / var, -0.5, 0.0, 0.0])
    };
    let floors = Family::ALL.map(|family| match family {
        Family::FixedLarge => Some(fixed(schedule.beta(t))),
        Family::FixedSmall => (t > 1).then(|| fixed(schedule.posterior(t).var)),
        Family::Isotropic => Some(fixed(isotropic_var)),
        Family::PerX => Some(floor(
            -0.5 * dim * dim.ln(),
            [1.0, 0.0, -0.5, 0.0, 0.5 * dim],
        )),
        Family::Diagonal => Some(floor(0.0, [1.0, 0.0, -0.5, 0.5, 0.0])),
        Family::Full => Some(floor(0.0, [1.0, 0.0, 0.0, 0.0, 0.0])),
    });
    StepFloors {
        t,
        beta: schedule.beta(t),
        alpha_bar,
        isotropic_var,
        floors,
    }
}

/// `KL(q(x_T) || N(0, I))`, through the Gaussian that has the moments of `q(x_T)`.
fn kl_start(
    mixture: &GaussianMixture,
    schedule: &NoiseSchedule,
    draws: usize,
    seed: u64,
) -> Estimate {
    let start = mixture.marginal(schedule.alpha_bar(schedule.steps()));
    let (mean, covariance) = (start.mean(), start.covariance());
    let mut matched = Matched::new(mixture.dim());
    matched.set(&mean, &covariance, || start.clone());
    let moments = chunks(draws, |chunk, count| {
        let mut rng = noise::rng(seed, chunk as u64, 0, Use::ExactError);
        let mut matched = matched.clone();
        let mut loss = || {
            let x = start.sample(&mut rng);
            start.log_density(&x) - matched.log_density(&x)
        };
        (0..count).map(|_| [loss()]).collect()
    });
    let dim = mixture.dim();
    let trace: f64 = (0..dim).map(|i| covariance[i * dim + i]).sum();
    let square: f64 = mean.iter().map(|m| m * m).sum();
    let closed = 0.5 * (trace + square - dim as f64 - matched.log_det());
    let (loss, se) = moments.linear([1.0]);
    Estimate {
        nats: closed + loss,
        se,
    }
}

/// The moments of the rows that `rows(chunk, count)` gives, chunk by chunk, in order.
fn chunks<const N: usize>(
    draws: usize,
    rows: impl Fn(usize, usize) -> Vec<[f64; N]> + Sync,
) -> Moments<N> {
    let chunk = |i: usize| rows(i, CHUNK.min(draws - i * CHUNK));
    let all: Vec<Vec<[f64; N]>> = (0..draws.div_ceil(CHUNK))
        .into_par_iter()
        .map(chunk)
        .collect();
    Moments::of(all.iter().flatten())
}

#[cfg(test)]
mod tests;

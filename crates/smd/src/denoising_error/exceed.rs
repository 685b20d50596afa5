//! Theorem 3.1 as a program: data on which every Gaussian step loses more than any given number.
//!
//! One coordinate cannot do it: for any data law and `t >= 2` the best Gaussian loses at most
//! `1/2 log(g_{t-1} / g_t)` nats a coordinate, `g_t` the signal-to-noise ratio, because no data leave more
//! than `1 / g_t` of variance in `x_0` given `x_t`. Many coordinates can: for independent ones `M_t` adds
//! up. So the data are independent coordinates, each two narrow Gaussians at `-u` and `u`. A step is
//! undecided between the two where `g_t u^2` is about 1; a ladder of scales `u` has one for every `t`, and
//! copies of the ladder raise the smallest sum over `N`. A mixture it is: of `2^D` Gaussians.
//!
//! The step of independent coordinates is itself independent, so that no covariance matrix does better
//! than a variance for each coordinate and `x_t`. One coordinate's loss is an integral; nothing is drawn.

use super::two_bumps::{Losses, losses};
use crate::error::TheoryError;
use crate::schedule::NoiseSchedule;
use rayon::prelude::*;

/// From one scale to the next.
const RUNG: f64 = 2.0;

/// `std / u` of each of the two Gaussians.
const STD_PER_SCALE: f64 = 0.05;

/// Coordinates that can still be counted one by one.
const MOST_DIM: f64 = 1e15;

/// Relative error of an `M_t` that nothing measured here comes near.
const SLACK: f64 = 1e-6;

/// Data whose `M_t` exceeds a number at every `t`.
#[derive(Debug, Clone)]
pub struct Exceeding {
    /// `u` of each coordinate of the ladder.
    pub scales: Vec<f64>,
    /// How often the ladder is repeated.
    pub copies: usize,
    /// `M_t` from `t = 1` of the best Gaussian with one variance for each `t` and coordinate, at least; with
    /// one variance for all coordinates (Eq. 2) it is no smaller.
    pub per_coordinate: Vec<f64>,
    /// `M_t` of the best Gaussian with any covariance for each `x_t`, at least: no Gaussian loses less.
    pub full: Vec<f64>,
}

impl Exceeding {
    /// Coordinates of the data, `D`.
    pub fn dim(&self) -> usize {
        self.copies * self.scales.len()
    }

    /// The standard deviation of the two Gaussians at `-scale` and `scale`.
    pub fn std(scale: f64) -> f64 {
        STD_PER_SCALE * scale
    }
}

/// Data on which every Gaussian step, whatever its covariance for each `x_t`, loses more than `nats` at every
/// `t`. `on_step` is told how many steps are done.
///
/// # Errors
/// More than 1e15 coordinates.
///
/// # Panics
/// If `nats` is not a positive number.
pub fn exceed(
    nats: f64,
    schedule: &NoiseSchedule,
    mut on_step: impl FnMut(usize),
) -> Result<Exceeding, TheoryError> {
    assert!(nats > 0.0 && nats.is_finite(), "{nats} nats to exceed");
    let snr = |t: usize| schedule.alpha_bar(t) / (1.0 - schedule.alpha_bar(t));
    let scales = ladder(1.0 / snr(1).sqrt(), 1.0 / snr(schedule.steps()).sqrt());
    let (mut per_coordinate, mut full) = (Vec::new(), Vec::new());
    for t in 1..=schedule.steps() {
        // Collected first: their sum then has one order at any number of threads.
        let of: Vec<Losses> = scales
            .par_iter()
            .filter(|&&scale| is_undecided(snr(t), snr(t - 1), scale))
            .map(|&scale| coordinate(scale, schedule, t))
            .collect();
        per_coordinate.push(of.iter().map(|loss| loss.one_variance).sum::<f64>());
        full.push(of.iter().map(|loss| loss.full).sum::<f64>());
        on_step(t);
    }
    let smallest = (1.0 - SLACK) * full.iter().copied().fold(f64::INFINITY, f64::min);
    let copies = (nats / smallest).floor() + 1.0;
    let most_copies = (MOST_DIM / scales.len() as f64).floor();
    if copies > most_copies {
        let most = round_down(0.99 * most_copies * smallest);
        let most_dim = MOST_DIM;
        return Err(TheoryError::TooMany {
            nats,
            most_dim,
            most,
        });
    }
    let all = |of: Vec<f64>| of.into_iter().map(|loss| copies * loss).collect();
    Ok(Exceeding {
        scales,
        copies: copies as usize,
        per_coordinate: all(per_coordinate),
        full: all(full),
    })
}

/// Whether the step from `t` to `t - 1` may lose something in a coordinate of scale `u`. It does not where `x_t`
/// has decided between the bumps, or where even `x_{t-1}` tells little of them; its `M_t`, never negative, is
/// counted as 0 there.
fn is_undecided(snr_t: f64, snr_prev: f64, scale: f64) -> bool {
    snr_t * scale * scale <= 60.0 && snr_prev * scale * scale >= 0.02
}

/// Scales in equal ratios of at most [`RUNG`], from `first` to `last`; of a chain of one step they are one.
fn ladder(first: f64, last: f64) -> Vec<f64> {
    let rungs = ((last / first).ln() / RUNG.ln()).ceil().max(0.0);
    let ratio = (last / first).powf(1.0 / rungs.max(1.0));
    (0..=rungs as i32).map(|i| first * ratio.powi(i)).collect()
}

/// `M_t` of one coordinate.
fn coordinate(scale: f64, schedule: &NoiseSchedule, t: usize) -> Losses {
    let noisy = |alpha_bar: f64| 1.0 - alpha_bar + alpha_bar * Exceeding::std(scale).powi(2);
    let (now, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
    let a_squared = now * scale * scale / noisy(now);
    let b_squared = before * scale * scale / noisy(before);
    // Their difference, without subtracting what is almost equal.
    losses(a_squared, b_squared * schedule.beta(t) / noisy(now), 1.0)
}

/// Two digits, no larger than `value`.
fn round_down(value: f64) -> f64 {
    let unit = 10_f64.powf(value.log10().floor() - 1.0);
    unit * (value / unit).floor()
}

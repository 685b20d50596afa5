//! Theorem 3.1 as a program: data on which every Gaussian step loses more than any given number.
//!
//! One coordinate cannot do it: for any data law and `t >= 2` the best Gaussian loses at most
//! `1/2 log(g_{t-1} / g_t)` nats a coordinate, `g_t` the signal-to-noise ratio, because no data leave more
//! than `1 / g_t` of variance in `x_0` given `x_t`. Many coordinates can: for independent ones `M_t` adds
//! up. So the data are independent coordinates, each two narrow Gaussians at `-u` and `u`. A step is
//! undecided between the two where `g_t u^2` is about 1; a ladder of scales `u` has one for every `t`, and
//! copies of the ladder raise the smallest sum over `N`. A mixture it is: of `2^D` Gaussians.

use super::{Estimate, Family, step_floors};
use crate::gmm::{GaussianMixture, MixtureConfig};
use crate::schedule::NoiseSchedule;

/// From one scale to the next.
const RUNG: f64 = 2.0;

/// `std / u` of each of the two Gaussians.
const STD_PER_SCALE: f64 = 0.05;

/// `g_t u^2` outside of which a coordinate decides nothing: its `M_t`, never negative, is counted as 0.
const UNDECIDED: std::ops::RangeInclusive<f64> = 0.02..=60.0;

/// Data whose `M_t` exceeds a number at every `t`.
#[derive(Debug, Clone)]
pub struct Exceeding {
    /// `u` of each coordinate of the ladder.
    pub scales: Vec<f64>,
    /// How often the ladder is repeated.
    pub copies: usize,
    /// `M_t` from `t = 1` of the best Gaussian with one variance for each `t` and coordinate; with one
    /// variance for all coordinates (Eq. 2) it is no smaller.
    pub isotropic: Vec<Estimate>,
    /// `M_t` of the best Gaussian with any covariance for each `x_t`.
    pub full: Vec<Estimate>,
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

/// Data on which every Gaussian step with one variance for each `t` loses more than `nats`, by five
/// standard errors of `draws` draws; `None` where that many draws do not resolve the smallest `M_t` of one
/// ladder.
///
/// # Panics
/// If `nats` is not a positive number, or `draws` is below 2.
pub fn exceed(
    nats: f64,
    schedule: &NoiseSchedule,
    draws: usize,
    seed: u64,
    mut on_step: impl FnMut(usize),
) -> Option<Exceeding> {
    assert!(nats > 0.0 && nats.is_finite(), "{nats} nats to exceed");
    let snr = |t: usize| schedule.alpha_bar(t) / (1.0 - schedule.alpha_bar(t));
    let scales = ladder(1.0 / snr(1).sqrt(), 1.0 / snr(schedule.steps()).sqrt());
    let (mut isotropic, mut full) = (Vec::new(), Vec::new());
    for t in 1..=schedule.steps() {
        let mut sums = [Estimate::default(); 2];
        for (i, &scale) in scales.iter().enumerate() {
            if UNDECIDED.contains(&(snr(t) * scale * scale)) {
                let seed = seed.wrapping_add(i as u64);
                let step = step_floors(&two_bumps(scale), schedule, t, draws, seed);
                for (sum, family) in sums.iter_mut().zip([Family::Isotropic, Family::Full]) {
                    let floor = step.floor(family).expect("it has a density at every t");
                    *sum = *sum + floor;
                }
            }
        }
        isotropic.push(sums[0]);
        full.push(sums[1]);
        on_step(t);
    }
    let least = |m: &Estimate| m.nats - 5.0 * m.se;
    let smallest = isotropic.iter().map(least).fold(f64::INFINITY, f64::min);
    if smallest <= 0.0 {
        return None;
    }
    let copies = (nats / smallest).floor() as usize + 1;
    let whole = |sums: Vec<Estimate>| -> Vec<Estimate> {
        let times = |m: Estimate| Estimate {
            nats: copies as f64 * m.nats,
            se: copies as f64 * m.se,
        };
        sums.into_iter().map(times).collect()
    };
    Some(Exceeding {
        scales,
        copies,
        isotropic: whole(isotropic),
        full: whole(full),
    })
}

/// Scales in equal ratios of at most [`RUNG`], from `first` to `last`.
fn ladder(first: f64, last: f64) -> Vec<f64> {
    let rungs = ((last / first).ln() / RUNG.ln()).ceil().max(1.0);
    let ratio = (last / first).powf(1.0 / rungs);
    (0..=rungs as i32).map(|i| first * ratio.powi(i)).collect()
}

/// One coordinate: two narrow Gaussians.
fn two_bumps(scale: f64) -> GaussianMixture {
    let config = MixtureConfig {
        means: vec![vec![-scale], vec![scale]],
        stds: Some(vec![Exceeding::std(scale); 2]),
        ..MixtureConfig::default()
    };
    GaussianMixture::from_config(&config).expect("scales are positive and finite")
}

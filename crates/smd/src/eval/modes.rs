//! Whether samples cover the modes of a known mixture, and how sharply.
//!
//! A component of the mixture is a mode. The distance of a sample from a mode is measured in the
//! mode's standard deviations, along its axes:
//!
//! ```text
//! d_k(x) = sqrt((x - mu_k)^T Sigma_k^-1 (x - mu_k))
//! ```
//! The numbers mean what they say where modes are well separated, by 8 standard deviations or more.
//! In many dimensions nothing is within 3 standard deviations of its own mode (of a perfect model's
//! samples 99 % in the plane, 56 % in 9 dimensions, 2e-11 in 50): this is a report for few dimensions.

use std::f64::consts::PI;

use crate::gmm::{Component, GaussianMixture};

/// The radius of a mode, in standard deviations.
const RADIUS: f64 = 3.0;

/// A mode counts as covered when it holds this share of the samples that a perfect model puts there.
const COVERED_SHARE: f64 = 0.2;

/// How samples lie about the modes of a mixture; see [`mode_report`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModeReport {
    /// Modes that hold at least a fifth of the samples a perfect model puts within 3 standard
    /// deviations of them, `0.2 n w_k` [`share_within_3_std`]`(D)`, and at least one sample.
    pub covered: usize,
    /// Modes of the mixture.
    pub modes: usize,
    /// The share of all samples within 3 standard deviations of a mode; a perfect model has
    /// [`share_within_3_std`]`(D)`.
    pub share_within_3_std: f64,
    /// The binomial standard error of that share, `sqrt(p (1 - p) / n)`.
    pub share_se: f64,
    /// The root mean square distance from the nearest mode over that of a perfect model, `sqrt(D)`
    /// standard deviations: 1 is right, less is over-sharp, more is blurred.
    ///
    /// Taken over the samples that are nearer to the mode's mean than half the way to the next mean,
    /// so that noise between the modes does not count as blur; NaN when there are none.
    pub within_std_ratio: f64,
    /// Samples with a number that is NaN or infinite: in no mode, but in `n`.
    pub non_finite: usize,
}

/// Compares samples with the modes of the mixture that they should follow.
///
/// A sample belongs to the mode with the smallest `d_k`.
///
/// # Shapes
/// - `samples`: `[n, D]` row by row, `n` at least 1
///
/// # Panics
/// If there are no samples, or their numbers do not divide into rows of `D`.
pub fn mode_report(samples: &[f32], mixture: &GaussianMixture) -> ModeReport {
    let dim = mixture.dim();
    assert!(!samples.is_empty(), "no samples");
    assert!(
        samples.len().is_multiple_of(dim),
        "{} numbers in rows of {dim}",
        samples.len()
    );
    let n = (samples.len() / dim) as f64;
    let components: Vec<_> = mixture.components().collect();
    let half_ways = half_ways(&components);

    let mut inside = vec![0_usize; components.len()];
    let (mut squares, mut measured, mut non_finite) = (0.0, 0_usize, 0);
    for sample in samples.chunks_exact(dim) {
        if !sample.iter().all(|x| x.is_finite()) {
            non_finite += 1;
            continue;
        }
        let (mode, square) = nearest(sample, &components);
        if square <= RADIUS * RADIUS {
            inside[mode] += 1;
        }
        if square_length(sample, components[mode].mean) <= half_ways[mode].powi(2) {
            squares += square;
            measured += 1;
        }
    }

    let is_covered = |&(&count, component): &(&usize, &Component<'_>)| {
        let expected = n * component.weight * share_within_3_std(dim);
        count > 0 && count as f64 >= COVERED_SHARE * expected
    };
    let share = inside.iter().sum::<usize>() as f64 / n;
    ModeReport {
        covered: inside.iter().zip(&components).filter(is_covered).count(),
        modes: components.len(),
        share_within_3_std: share,
        share_se: (share * (1.0 - share) / n).sqrt(),
        within_std_ratio: (squares / (measured * dim) as f64).sqrt(),
        non_finite,
    }
}

/// The probability that a Gaussian in `D` dimensions is within 3 standard deviations of its mean.
///
/// ```text
/// P(D/2, 9/2) = e^-x sum_{j>=0} x^(D/2 + j) / Gamma(D/2 + j + 1),   x = 9/2
/// ```
/// The regularised incomplete gamma function by its series (Abramowitz and Stegun, 6.5.29), all of
/// whose terms are positive; `1 - exp(-9/2)` for `D = 2`.
///
/// # Panics
/// If `dim` is 0.
pub fn share_within_3_std(dim: usize) -> f64 {
    assert!(dim > 0, "a Gaussian has at least one dimension");
    let x = RADIUS * RADIUS / 2.0;
    // e^-x x^a / Gamma(a + 1), from a = 0 or 1/2 up to D/2.
    let mut a = if dim.is_multiple_of(2) { 0.0 } else { 0.5 };
    let mut term = (-x).exp() * if a == 0.0 { 1.0 } else { 2.0 * (x / PI).sqrt() };
    while a < dim as f64 / 2.0 {
        a += 1.0;
        term *= x / a;
    }
    let mut sum = 0.0;
    while term > f64::EPSILON * sum {
        sum += term;
        a += 1.0;
        term *= x / a;
    }
    sum
}

/// The mode with the smallest `d_k`, and `d_k^2`.
fn nearest(sample: &[f32], components: &[Component<'_>]) -> (usize, f64) {
    let sample: Vec<f64> = sample.iter().map(|&x| f64::from(x)).collect();
    let mut best = (0, f64::INFINITY);
    for (mode, component) in components.iter().enumerate() {
        let square = component.square_distance(&sample);
        if square < best.1 {
            best = (mode, square);
        }
    }
    best
}

/// Half the distance from each mean to the nearest other one, `[K]`; infinite for a single mode.
fn half_ways(components: &[Component<'_>]) -> Vec<f64> {
    let distance = |a: &Component<'_>, b: &Component<'_>| -> f64 {
        a.mean
            .iter()
            .zip(b.mean)
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let half_way = |(k, from): (usize, &Component<'_>)| {
        let others = components
            .iter()
            .enumerate()
            .filter(|&(other, _)| other != k);
        others
            .map(|(_, to)| distance(from, to) / 2.0)
            .fold(f64::INFINITY, f64::min)
    };
    components.iter().enumerate().map(half_way).collect()
}

fn square_length(sample: &[f32], mean: &[f64]) -> f64 {
    sample
        .iter()
        .zip(mean)
        .map(|(&x, mu)| (f64::from(x) - mu).powi(2))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 20_000;

    fn grid_samples() -> Vec<f32> {
        let grid = GaussianMixture::grid_7x7();
        let mut samples = vec![0.0; 2 * N];
        for (index, out) in (0..).zip(samples.chunks_exact_mut(2)) {
            grid.sample_into(3, index, out);
        }
        samples
    }

    /// Moves each sample `factor` times as far away from its mode.
    fn spread(samples: &[f32], factor: f64) -> Vec<f32> {
        let grid = GaussianMixture::grid_7x7();
        let components: Vec<_> = grid.components().collect();
        let spread_one = |sample: &[f32]| {
            let mean = components[nearest(sample, &components).0].mean;
            [0, 1].map(|i| (mean[i] + factor * (f64::from(sample[i]) - mean[i])) as f32)
        };
        samples.chunks_exact(2).flat_map(spread_one).collect()
    }

    #[test]
    fn the_share_within_3_std_is_the_chi_distribution() {
        let erf = 0.997_300_203_936_740; // erf(3 / sqrt(2)), the three-sigma rule.
        let exp = (-4.5_f64).exp();
        let closed_forms = [
            (1, erf),
            (2, 1.0 - exp),
            (3, erf - 3.0 * (2.0 / PI).sqrt() * exp),
            (4, 1.0 - 5.5 * exp),
        ];
        for (dim, expected) in closed_forms {
            let found = share_within_3_std(dim);
            assert!((found - expected).abs() < 1e-14, "D = {dim}: {found}");
        }
        assert!((share_within_3_std(9) - 0.56).abs() < 5e-3);
        assert!((share_within_3_std(50) / 2e-11 - 1.0).abs() < 0.1);
    }

    #[test]
    fn samples_of_the_mixture_are_right() {
        let report = mode_report(&grid_samples(), &GaussianMixture::grid_7x7());
        assert_eq!(
            (report.covered, report.modes, report.non_finite),
            (49, 49, 0)
        );
        let truth = share_within_3_std(2);
        assert!(
            (report.share_within_3_std - truth).abs() < 5.0 * report.share_se,
            "{report:?}"
        );
        // d^2 / D has variance 2 / D; its root has half the relative error.
        let ratio_se = (2.0 / (2 * N) as f64).sqrt() / 2.0;
        assert!(
            (report.within_std_ratio - 1.0).abs() < 5.0 * ratio_se,
            "{report:?}"
        );
    }

    #[test]
    fn sharp_and_blurred_modes_are_told_apart() {
        let (grid, samples) = (GaussianMixture::grid_7x7(), grid_samples());
        let exact = mode_report(&samples, &grid).within_std_ratio;
        for factor in [0.5, 2.0] {
            let report = mode_report(&spread(&samples, factor), &grid);
            let ratio = report.within_std_ratio / exact;
            assert!((ratio - factor).abs() < 1e-4, "{report:?}"); // f32: 1e-7 of 1.5 in 0.025
            // |x| <= 3 / factor in the plane.
            let truth = 1.0 - (-4.5 / (factor * factor)).exp();
            let standard_error = (truth * (1.0 - truth) / N as f64).sqrt();
            let off = (report.share_within_3_std - truth).abs();
            assert!(off <= 5.0 * standard_error, "{report:?} against {truth}");
        }
    }

    #[test]
    fn a_mode_needs_a_fifth_of_its_share() {
        // 1000 samples: each of two modes expects 500 * 0.9973; a fifth of it is 99.7.
        let mixture = GaussianMixture::from_config(&crate::gmm::MixtureConfig {
            means: vec![vec![-1.0], vec![1.0]],
            stds: Some(vec![0.1, 0.1]),
            ..Default::default()
        })
        .unwrap();
        for (right, covered) in [(0, 1), (99, 1), (100, 2)] {
            let mut samples = vec![-1.0_f32; 1000];
            samples[..right].fill(1.0);
            assert_eq!(
                mode_report(&samples, &mixture).covered,
                covered,
                "{right} on the right"
            );
        }
    }

    #[test]
    fn nan_counts_as_outside() {
        let (grid, mut samples) = (GaussianMixture::grid_7x7(), grid_samples());
        let before = mode_report(&samples, &grid);
        for sample in samples.chunks_exact_mut(2).take(N / 2) {
            sample[1] = f32::NAN;
        }
        let after = mode_report(&samples, &grid);
        assert_eq!(after.non_finite, N / 2);
        assert!(after.share_within_3_std < before.share_within_3_std / 2.0 + 0.01);
        assert!(after.within_std_ratio.is_finite());

        samples.fill(f32::NAN);
        let none = mode_report(&samples, &grid);
        assert_eq!(
            (none.covered, none.share_within_3_std, none.non_finite),
            (0, 0.0, N)
        );
        assert!(none.within_std_ratio.is_nan());
    }

    #[test]
    fn noise_between_the_modes_is_outside_and_not_blur() {
        // One sample at a mean, one in the middle of four modes: 0.354 from each, half way is 0.25.
        let grid = GaussianMixture::grid_7x7();
        let report = mode_report(&[0.0, 0.0, 0.25, 0.25], &grid);
        assert_eq!(report.share_within_3_std, 0.5);
        assert!(report.within_std_ratio < 1e-6, "{report:?}");
    }

    #[test]
    #[should_panic(expected = "3 numbers in rows of 2")]
    fn a_broken_row_panics() {
        mode_report(&[0.0; 3], &GaussianMixture::grid_7x7());
    }
}

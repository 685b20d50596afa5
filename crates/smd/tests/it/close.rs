//! Comparison of numbers with a tolerance that is always written out.

use smd::verify::{Tolerance, compare};

/// `|actual - expected| <= absolute + relative |expected|`, everywhere; returns the largest difference.
///
/// # Panics
/// With the worst place, both numbers there, and how many are apart.
#[track_caller]
pub fn assert_close(name: &str, actual: &[f32], expected: &[f32], rtol: f64, atol: f64) -> f64 {
    let tolerance = Tolerance {
        relative: rtol,
        absolute: atol,
    };
    assert_eq!(actual.len(), expected.len(), "{name}");
    let found = compare(name, &[expected.len()], actual, expected, tolerance);
    assert!(
        found.agrees,
        "{name}: {} of {} numbers are apart, most at {}: {} instead of {}",
        found.outside, found.count, found.index[0], found.ours, found.theirs
    );
    found.max_abs
}

/// Every difference is at most `share` of the largest expected number; returns the largest share.
#[track_caller]
pub fn assert_close_to_largest(name: &str, actual: &[f32], expected: &[f32], share: f64) -> f64 {
    let largest = expected
        .iter()
        .fold(0.0, |a: f64, x| a.max(f64::from(x.abs())));
    assert_close(name, actual, expected, 0.0, share * largest) / largest
}

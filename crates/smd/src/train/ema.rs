//! Averages of the weights over training, with warm-up.

/// What an average of the given decay counts in step `step`, against the new weights.
///
/// Early on that is `(1 + n) / (10 + n)` where it is smaller than the decay: an average that remembers
/// the initial weights for ten thousand steps gives noise for as long.
pub fn decay_at(decay: f64, step: u64) -> f64 {
    decay.min((1 + step) as f64 / (10 + step) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_its_start_while_warming_up() {
        let value = (1..=200).fold(100.0, |value, step| {
            let decay = decay_at(0.9999, step);
            decay * value + (1.0 - decay)
        });
        assert!((value - 1.0_f64).abs() < 1e-3, "{value}");
    }

    #[test]
    fn decays_by_its_rate_once_warm() {
        assert_eq!(decay_at(0.9, 1000), 0.9);
    }
}

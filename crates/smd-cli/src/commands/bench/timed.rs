//! How long a step takes, and each of its parts.

use smd::ops::parts::{self, Part};
use std::time::Instant;

/// The steps that were timed.
#[derive(Default)]
pub struct Timed {
    steps: Vec<Parts>,
}

impl Timed {
    /// Does a step and counts its time.
    ///
    /// # Errors
    /// Those of the step.
    pub fn step<E>(&mut self, step: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let (before, started) = (parts::spent(), Instant::now());
        step()?;
        let (seconds, after) = (started.elapsed().as_secs_f64(), parts::spent());
        let parts = std::array::from_fn(|i| (after[i] - before[i]).as_secs_f64());
        self.steps.push(Parts { seconds, parts });
        Ok(())
    }

    /// Medians without the first step; each is `chain` steps in a row.
    pub fn parts(&self, chain: usize) -> Parts {
        let of = |value: &dyn Fn(&Parts) -> f64| {
            median(self.steps[1..].iter().map(value).collect()) / chain as f64
        };
        Parts {
            seconds: of(&|step| step.seconds),
            parts: std::array::from_fn(|i| of(&|step| step.parts[i])),
        }
    }
}

/// Seconds of one step and of its parts.
#[derive(Default)]
pub struct Parts {
    pub seconds: f64,
    parts: [f64; Part::ALL.len()],
}

impl Parts {
    /// Milliseconds of each part, and of what is none.
    pub fn rows(&self) -> Vec<(&'static str, f64)> {
        let rest = self.seconds - self.parts.iter().sum::<f64>();
        let names = Part::ALL.into_iter().map(Part::name);
        let parts = names.zip(self.parts).chain([("everything else", rest)]);
        parts.map(|(name, seconds)| (name, 1e3 * seconds)).collect()
    }

    /// Milliseconds of the whole step.
    pub fn ms(&self) -> f64 {
        1e3 * self.seconds
    }

    /// `all` as an object, and the rows where they were counted.
    pub fn to_json(&self, counted: bool) -> serde_json::Value {
        let rows = if counted { self.rows() } else { Vec::new() };
        let all = rows.into_iter().chain([("all", self.ms())]);
        all.map(|(name, ms)| (name.to_owned(), ms)).collect()
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let half = seconds.len() / 2;
    (seconds[(seconds.len() - 1) / 2] + seconds[half]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_between_two() {
        assert_eq!(median(vec![3.0, 1.0, 7.0]), 3.0);
        assert_eq!(median(vec![8.0, 1.0, 2.0, 4.0]), 3.0);
    }
}

//! The inception score: how sure a classifier is of each image, and how different its answers are.
//!
//! ```text
//! IS = exp(mean_x KL(p(y | x) || mean_x p(y | x)))
//! ```
//! It knows no reference, and means something for images that its classifier knows, natural ones.
//!
//! Source: Salimans et al. 2016 (arXiv:1606.03498).

use super::features::Features;
use super::subsets::RandomState;
use crate::error::EvalError;
use serde::{Deserialize, Serialize};

/// Over which parts of the images the score is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Splits {
    /// As torch-fidelity: shuffled by numpy's `RandomState(seed)`, then so many parts.
    Shuffled {
        /// Parts.
        parts: usize,
        /// Names the order.
        seed: u32,
    },
    /// As the evaluator of ADM: in order, so many images each, the last part with what is left.
    InOrder {
        /// Images of a part.
        images: usize,
    },
}

impl Default for Splits {
    /// Those of torch-fidelity: 10 parts, seed 2020.
    fn default() -> Self {
        Self::Shuffled {
            parts: 10,
            seed: 2020,
        }
    }
}

/// Mean over the parts, and the deviation between them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InceptionScore {
    /// From 1 on: the more the better.
    pub mean: f64,
    /// Between parts, not of the mean.
    pub std: f64,
}

/// The score of `logits`, the classifier's outputs before the softmax.
///
/// # Errors
/// Fewer images than parts.
pub fn inception_score(logits: &Features, splits: Splits) -> Result<InceptionScore, EvalError> {
    let count = logits.len();
    let order = match splits {
        Splits::Shuffled { seed, .. } => RandomState::new(seed).permutation(count),
        Splits::InOrder { .. } => (0..count).collect(),
    };
    let few = |expected: usize| EvalError::TooFew {
        what: "the parts of an inception score",
        found: count as u64,
        expected: expected.max(1) as u64,
    };
    let parts: Vec<&[usize]> = match splits {
        Splits::Shuffled { parts, .. } if parts == 0 || count < parts => return Err(few(parts)),
        Splits::InOrder { images } if images == 0 || count == 0 => return Err(few(1)),
        Splits::Shuffled { parts, .. } => (0..parts)
            .map(|part| &order[part * count / parts..(part + 1) * count / parts])
            .collect(),
        Splits::InOrder { images } => order.chunks(images).collect(),
    };
    let scores: Vec<f64> = parts.iter().map(|part| score(logits, part)).collect();
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let var = scores.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / scores.len() as f64;
    Ok(InceptionScore {
        mean,
        std: var.sqrt(),
    })
}

/// The score of some rows.
fn score(logits: &Features, rows: &[usize]) -> f64 {
    let count = rows.len() as f64;
    let mut marginal = vec![0.0; logits.dim()];
    // mean KL = mean sum p log p - sum q log q, with the marginal q.
    let mut negative_entropy = 0.0;
    for &row in rows {
        let log_p = log_softmax(logits.row(row));
        for (sum, log_p) in marginal.iter_mut().zip(log_p) {
            let p = log_p.exp();
            *sum += p / count;
            negative_entropy += p * log_p / count;
        }
    }
    // A class of probability 0 adds nothing.
    let of_marginal: f64 = marginal
        .iter()
        .filter(|q| **q > 0.0)
        .map(|q| q * q.ln())
        .sum();
    (negative_entropy - of_marginal).exp()
}

fn log_softmax(logits: &[f32]) -> impl Iterator<Item = f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = move |x: &f32| f64::from(*x) - f64::from(largest);
    let log_sum = logits.iter().map(|x| shifted(x).exp()).sum::<f64>().ln();
    logits.iter().map(move |x| shifted(x) - log_sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sure answers, all classes alike: the score is the number of classes. One answer for all: 1.
    #[test]
    fn the_ends_of_the_scale() {
        let sure = |class: usize| (0..4).map(move |c| if c == class { 60.0 } else { 0.0 });
        let all = Features::new(4, (0..40).flat_map(|i| sure(i % 4)).collect()).unwrap();
        let whole = Splits::InOrder { images: 40 };
        let found = inception_score(&all, whole).unwrap();
        assert!((found.mean - 4.0).abs() < 1e-9, "{found:?}");
        let one = Features::new(4, (0..40).flat_map(|_| sure(2)).collect()).unwrap();
        let found = inception_score(&one, Splits::default()).unwrap();
        assert!(
            (found.mean - 1.0).abs() < 1e-9 && found.std < 1e-9,
            "{found:?}"
        );
    }

    #[test]
    fn fewer_images_than_parts_are_refused() {
        let few = Features::new(2, vec![0.0; 6]).unwrap();
        let error = inception_score(&few, Splits::default()).unwrap_err();
        assert!(error.to_string().contains("10"), "{error}");
    }
}

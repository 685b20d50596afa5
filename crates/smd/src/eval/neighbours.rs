//! What share of the samples is like the reference, and what share of the reference the samples reach, by
//! nearest neighbours among features.
//!
//! - **Improved precision and recall** (Kynkaanniemi et al. 2019, arXiv:1904.06991): a set's manifold is the union of
//!   balls about its members that reach to their k-th neighbour, k = 3; precision is the share of
//!   samples inside that of the reference, recall the share of the reference inside that of the samples.
//! - **Density and coverage** (Naeem et al. 2020, arXiv:2002.09797), k = 5, about the reference alone, which outliers
//!   among the samples cannot enlarge: density counts the balls that a sample lies in, over k; coverage is the
//!   share of balls with a sample in them.

use super::features::Features;
use super::products::{inner_products, squares};
use crate::error::EvalError;
use serde::{Deserialize, Serialize};

/// The four shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Samples inside the reference's manifold.
    pub precision: f64,
    /// Reference inside the samples' manifold.
    pub recall: f64,
    /// Of the reference at the samples; 1 is right, and it may be more.
    pub density: f64,
    /// Reference images with a sample in their ball.
    pub coverage: f64,
}

/// Neighbour that a ball of precision and recall reaches.
const K_MANIFOLD: usize = 3;

/// Neighbour that a ball of density and coverage reaches.
const K_DENSITY: usize = 5;

/// Rows whose distances are formed at once: bounds memory.
const ROWS: usize = 1024;

/// The four shares, of all pairs.
///
/// # Errors
/// Features of different lengths, or fewer than six images.
pub fn neighbours(samples: &Features, reference: &Features) -> Result<Neighbours, EvalError> {
    samples.same_dim(reference)?;
    let fewest = samples.len().min(reference.len());
    if fewest <= K_DENSITY {
        return Err(EvalError::TooFew {
            what: "neighbours",
            found: fewest as u64,
            expected: K_DENSITY as u64 + 1,
        });
    }
    let (samples, reference) = (Points::new(samples), Points::new(reference));
    let of_samples = samples.square_radii([K_MANIFOLD]);
    let of_reference = reference.square_radii([K_MANIFOLD, K_DENSITY]);

    let (mut precise, mut inside) = (0, 0);
    let mut reached = vec![false; reference.len()];
    let mut covered = vec![false; reference.len()];
    samples.square_distances(&reference, |sample, distances| {
        let mut in_manifold = false;
        for (other, &distance) in distances.iter().enumerate() {
            let [manifold, dense] = of_reference[other];
            in_manifold |= distance <= manifold;
            reached[other] |= distance <= of_samples[sample][0];
            covered[other] |= distance < dense;
            inside += usize::from(distance < dense);
        }
        precise += usize::from(in_manifold);
    });
    let share = |hits: usize, of: usize| hits as f64 / of as f64;
    let hits = |of: &[bool]| share(of.iter().filter(|hit| **hit).count(), of.len());
    Ok(Neighbours {
        precision: share(precise, samples.len()),
        recall: hits(&reached),
        density: share(inside, K_DENSITY * samples.len()),
        coverage: hits(&covered),
    })
}

/// Features in double precision, with their squares.
struct Points {
    dim: usize,
    values: Vec<f64>,
    squares: Vec<f64>,
}

impl Points {
    fn new(features: &Features) -> Self {
        let (dim, values) = (features.dim(), features.to_f64());
        Self {
            dim,
            squares: squares(&values, dim),
            values,
        }
    }

    fn len(&self) -> usize {
        self.squares.len()
    }

    /// Hands each point's squared distances to all of `others` on, in order.
    fn square_distances(&self, others: &Self, mut take: impl FnMut(usize, &[f64])) {
        for (piece, rows) in self.values.chunks(ROWS * self.dim).enumerate() {
            let mut products = inner_products(rows, &others.values, self.dim);
            for (row, products) in products.chunks_exact_mut(others.len()).enumerate() {
                let i = piece * ROWS + row;
                for (product, square) in products.iter_mut().zip(&others.squares) {
                    // Rounding may leave less than nothing of equal points.
                    *product = (self.squares[i] + square - 2.0 * *product).max(0.0);
                }
                take(i, products);
            }
        }
    }

    /// The squared distances of each point to some of its neighbours, itself not counted.
    fn square_radii<const N: usize>(&self, neighbours: [usize; N]) -> Vec<[f64; N]> {
        let mut radii = Vec::with_capacity(self.len());
        self.square_distances(self, |i, distances| {
            let mut others = distances.to_vec();
            // Not by its value: another point may lie at the same place.
            others.swap_remove(i);
            radii.push(neighbours.map(|k| *others.select_nth_unstable_by(k - 1, f64::total_cmp).1));
        });
        radii
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: impl IntoIterator<Item = f32>) -> Features {
        Features::new(1, values.into_iter().collect()).unwrap()
    }

    #[test]
    fn a_set_is_like_itself() {
        let set = line((0..50).map(|i| ((i * 37) % 101) as f32));
        let found = neighbours(&set, &set).unwrap();
        assert_eq!(
            (found.precision, found.recall, found.coverage),
            (1.0, 1.0, 1.0)
        );
        // k + 1 points of the set lie in a ball or on its edge, those on the edge do not count.
        assert!((found.density - 1.0).abs() < 0.2, "{found:?}");
    }

    #[test]
    fn a_set_elsewhere_is_unlike() {
        let (near, far) = (
            line((0..20).map(|i| i as f32)),
            line((0..20).map(|i| 1e4 + i as f32)),
        );
        let none = Neighbours {
            precision: 0.0,
            recall: 0.0,
            density: 0.0,
            coverage: 0.0,
        };
        assert_eq!(neighbours(&far, &near).unwrap(), none);
    }

    /// Half of the reference dropped: precise, with half the recall.
    #[test]
    fn a_mode_dropped_costs_recall() {
        let near = (0..40).map(|i| i as f32);
        let both = line(near.clone().chain((0..40).map(|i| 1e4 + i as f32)));
        let found = neighbours(&line(near), &both).unwrap();
        assert_eq!(
            (found.precision, found.recall, found.coverage),
            (1.0, 0.5, 0.5)
        );
    }

    #[test]
    fn too_few_images_are_refused() {
        let few = line([0.0, 1.0, 2.0, 3.0, 4.0]);
        assert!(
            neighbours(&few, &few)
                .unwrap_err()
                .to_string()
                .contains('6')
        );
    }
}

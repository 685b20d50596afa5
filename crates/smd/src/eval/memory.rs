//! Whether a model repeats its training examples: distances to the nearest ones.
//!
//! A low Frechet distance does not tell new images from remembered ones. A model that generalises is about
//! as far from its training examples as real examples are that it never saw; one that remembers is nearer
//! to them than those are, and than it is to held-out ones.

use crate::host;
use burn::tensor::Tensor;

/// Examples that are compared at once: bounds memory, never changes the result.
const CHUNK: usize = 4096;

/// Root mean square differences of a number, on the average to the nearest example, in units of the
/// data's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// From a sample to the training.
    pub to_training: f64,
    /// From a sample to the held-out examples.
    pub to_held_out: f64,
    /// From a held-out example to the training.
    pub held_out_to_training: f64,
}

impl Memory {
    /// The three means.
    ///
    /// # Shapes
    /// - each `[N, H, W, C]` with the same `[H, W, C]`; the training in pieces
    ///
    /// # Panics
    /// If one of them is empty.
    pub fn measure(samples: &Tensor<4>, training: &[Tensor<4>], held_out: &Tensor<4>) -> Self {
        let held = std::slice::from_ref(held_out);
        Self {
            to_training: mean_nearest(samples, training),
            to_held_out: mean_nearest(samples, held),
            held_out_to_training: mean_nearest(held_out, training),
        }
    }
}

/// The mean over `from` of the distance to the nearest of `to`.
fn mean_nearest(from: &Tensor<4>, to: &[Tensor<4>]) -> f64 {
    let flat = |x: &Tensor<4>| {
        let [count, height, width, channels] = x.dims();
        x.clone().reshape([count, height * width * channels])
    };
    let from = flat(from);
    let [count, numbers] = from.dims();
    let mut nearest = vec![f32::INFINITY; count];
    for piece in to {
        let piece = flat(piece);
        for first in (0..piece.dims()[0]).step_by(CHUNK) {
            let rows = CHUNK.min(piece.dims()[0] - first);
            let rows = piece.clone().narrow(0, first, rows);
            for (nearest, square) in nearest.iter_mut().zip(least_squares(&from, rows)) {
                *nearest = nearest.min(square);
            }
        }
    }
    assert!(
        nearest.iter().all(|square| square.is_finite()),
        "no examples"
    );
    let root = |&square: &f32| (f64::from(square).max(0.0) / numbers as f64).sqrt();
    nearest.iter().map(root).sum::<f64>() / count as f64
}

/// The squared distance of each row of `from` to the nearest of `to`, by
/// `||a - b||^2 = ||a||^2 - 2 a . b + ||b||^2`.
fn least_squares(from: &Tensor<2>, to: Tensor<2>) -> Vec<f32> {
    let lengths = |x: &Tensor<2>| x.clone().square().sum_dim(1);
    let squares = lengths(&to).transpose() - from.clone().matmul(to.transpose()) * 2.0;
    host::numbers(squares.min_dim(1) + lengths(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{NoiseSource, Use};
    use burn::tensor::Device;

    fn normal(items: u64, step: u64) -> Tensor<4> {
        let noise = NoiseSource::new(3, (0..items).collect(), &Device::default());
        noise.normal(step, Use::Eps, [2, 3, 1])
    }

    #[test]
    fn distances_are_those_of_the_nearest() {
        let (from, to) = (normal(7, 0), normal(11, 1));
        let rows = |x: &Tensor<4>| host::numbers(x.clone());
        let (a, b) = (rows(&from), rows(&to));
        let distance = |a: &[f32], b: &[f32]| {
            let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
            (squares.sum::<f64>() / 6.0).sqrt()
        };
        let nearest = a.chunks(6).map(|a| {
            let all = b.chunks(6).map(|b| distance(a, b));
            all.fold(f64::INFINITY, f64::min)
        });
        let want = nearest.sum::<f64>() / 7.0;
        let pieces = [to.clone().narrow(0, 0, 4), to.narrow(0, 4, 7)];
        let found = mean_nearest(&from, &pieces);
        assert!((found - want).abs() < 1e-5, "{found}, not {want}");
    }

    /// Copies of the training are at distance 0 from it; new draws are as far as held-out ones.
    #[test]
    fn copies_are_found_out() {
        let (training, held_out, fresh) = (normal(500, 0), normal(500, 1), normal(500, 2));
        let pieces = [training.clone()];
        let copies = Memory::measure(&training.narrow(0, 0, 100), &pieces, &held_out);
        assert!(
            copies.to_training < 1e-3 && copies.to_held_out > 0.1,
            "{copies:?}"
        );
        let honest = Memory::measure(&fresh, &pieces, &held_out);
        let off = honest.to_training / honest.held_out_to_training - 1.0;
        // 500 nearest distances, each good to about a third.
        assert!(off.abs() < 0.1, "{honest:?}");
    }
}

//! Counter-based random numbers: a draw is named, not taken from a queue.
//!
//! Every draw is the function of four integers, (seed, image, step, use). Image `i` is therefore the
//! same at any batch size, thread count or resume point, and a resumed run repeats no draw.
//! The four integers are the 256-bit key of a ChaCha8 stream (Bernstein 2008).

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// What a draw is for: two uses of the same (seed, image, step) are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Use {
    /// The start of the backward chain, `x_T`.
    Start = 1,
    /// The latent's noise, `eta`.
    Eta = 2,
    /// The noise of the forward process, `eps`.
    Eps = 3,
    /// The noise that a sampler adds.
    Sampler = 4,
    /// A time step of training.
    Time = 5,
    /// The order of the examples.
    Order = 6,
    /// Horizontal flips.
    Flip = 7,
    /// Initial weights.
    Init = 8,
    /// Examples of a distribution given by formula.
    Example = 9,
    /// The choice of a mixture's component.
    Component = 10,
    /// The noise inside a mixture's component.
    ComponentNoise = 11,
    /// Dropout masks.
    Dropout = 12,
    /// Directions of projections in a metric.
    Projection = 13,
    /// A sampled `x_{t-1}` in training.
    Previous = 14,
    /// Draws of the exact denoising errors.
    ExactError = 15,
    /// Noise of chains of exact steps.
    ExactChain = 16,
    /// Draws at which a trained kernel is measured.
    KernelError = 17,
    /// The search for the likeliest latent.
    Mode = 18,
}

/// A generator for the draws named (`seed`, `image`, `step`, `purpose`).
pub fn rng(seed: u64, image: u64, step: u64, purpose: Use) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key
        .chunks_exact_mut(8)
        .zip([seed, image, step, purpose as u64])
    {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Fills `out` with standard normal numbers named (`seed`, `image`, `step`, `purpose`).
pub fn fill_normal(seed: u64, image: u64, step: u64, purpose: Use, out: &mut [f32]) {
    let mut rng = rng(seed, image, step, purpose);
    for value in out {
        *value = StandardNormal.sample(&mut rng);
    }
}

/// The draws of some images, as tensors.
///
/// In sampling an image's number is its seed; in training it is the example's position.
#[derive(Debug, Clone)]
pub struct NoiseSource {
    seed: u64,
    images: Vec<u64>,
    device: Device,
}

impl NoiseSource {
    /// The draws of `images` under `seed`.
    pub fn new(seed: u64, images: Vec<u64>, device: &Device) -> Self {
        Self {
            seed,
            images,
            device: device.clone(),
        }
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Standard normal numbers for each image, `[B, H, W, C]` for `shape = [H, W, C]`.
    pub fn normal(&self, step: u64, purpose: Use, shape: [usize; 3]) -> Tensor<4> {
        let len: usize = shape.iter().product();
        let mut values = vec![0.0; len * self.images.len()];
        values
            .par_chunks_mut(len)
            .zip(&self.images)
            .with_min_len(4096 / len.min(4096))
            .for_each(|(out, &image)| fill_normal(self.seed, image, step, purpose, out));
        let [height, width, channels] = shape;
        let shape = [self.images.len(), height, width, channels];
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// One number in `[0, 1)` for each image.
    pub fn uniform(&self, step: u64, purpose: Use) -> Vec<f64> {
        let draw = |&image: &u64| rng(self.seed, image, step, purpose).random::<f64>();
        self.images.iter().map(draw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, image: u64, step: u64, purpose: Use, len: usize) -> Vec<f32> {
        let mut out = vec![0.0; len];
        fill_normal(seed, image, step, purpose, &mut out);
        out
    }

    #[test]
    fn a_draw_is_a_function_of_its_name() {
        assert_eq!(draw(1, 2, 3, Use::Eta, 9), draw(1, 2, 3, Use::Eta, 9));
    }

    #[test]
    fn every_part_of_the_name_matters() {
        let one = draw(1, 2, 3, Use::Eta, 9);
        for other in [
            draw(0, 2, 3, Use::Eta, 9),
            draw(1, 0, 3, Use::Eta, 9),
            draw(1, 2, 0, Use::Eta, 9),
            draw(1, 2, 3, Use::Eps, 9),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn draws_are_standard_normal() {
        const DRAWS: usize = 100_000;
        let draws = draw(7, 0, 0, Use::Eps, DRAWS);
        let mean = draws.iter().map(|&x| f64::from(x)).sum::<f64>() / DRAWS as f64;
        let var = draws.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / DRAWS as f64;
        assert!(mean.abs() < 5.0 / (DRAWS as f64).sqrt(), "mean {mean}");
        assert!(
            (var - 1.0).abs() < 5.0 * (2.0 / DRAWS as f64).sqrt(),
            "variance {var}"
        );
    }
}

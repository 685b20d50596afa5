//! The latent's influence: how much of the truth's randomness a kernel draws.
//!
//! ```text
//! r_t = E tr Cov(x_0_hat | x_t) / E tr Cov(x_0 | x_t)
//! ```
//! The numerator is over the kernel's own draws (eta, or the components). The denominator is that of the
//! exact posterior where the data is a known mixture ([`influence`]), else what the kernel's mean leaves,
//! `E ||x_0 - E x_0_hat||^2` ([`influence_on`]), which is the same for a mean without error. 0: the kernel
//! is one Gaussian, the latent is ignored. 1: it draws `x_0` as at random as the truth.

use crate::denoise::Denoise;
use crate::gmm::GaussianMixture;
use crate::host;
use crate::noise::{NoiseSource, Use};
use burn::tensor::{Device, Tensor, TensorData};

/// `r_t` at one step, over `points` draws of `x_t` with `draws` draws of the kernel at each.
///
/// # Panics
/// If `draws` is below 2 or `points` is 0.
pub fn influence(
    kernel: &impl Denoise,
    mixture: &GaussianMixture,
    t: usize,
    points: usize,
    draws: usize,
    seed: u64,
    device: &Device,
) -> f64 {
    assert!(draws >= 2 && points > 0, "a variance needs two draws");
    let dim = mixture.dim();
    let alpha_bar = kernel.process().schedule().alpha_bar(t);
    let mut x_0 = vec![0.0; points * dim];
    for (i, out) in x_0.chunks_exact_mut(dim).enumerate() {
        mixture.sample_into(seed, i as u64, out);
    }
    let x_0 = Tensor::from_data(TensorData::new(x_0, [points, 1, 1, dim]), device);
    let images: Vec<u64> = (0..points as u64).collect();
    let eps = NoiseSource::new(seed, images, device).normal(t as u64, Use::Eps, [1, 1, dim]);
    let x_t = kernel.process().q_sample(x_0, &vec![t; points], eps);

    let spread = spread(kernel, &x_t, t, draws, seed)
        .iter()
        .map(|(_, var)| var)
        .sum::<f64>();
    let truth: f64 = host::numbers(x_t)
        .chunks_exact(dim)
        .map(|x_t| {
            let x_t: Vec<f64> = x_t.iter().map(|&x| f64::from(x)).collect();
            mixture.trace_cov_x_0(&x_t, alpha_bar)
        })
        .sum();
    spread / truth
}

/// `r_t` at one step on any examples, against what the kernel's own mean leaves.
///
/// # Shapes
/// - `x_0`: `[B, H, W, C]`
///
/// # Panics
/// If `draws` is below 2.
pub fn influence_on(
    kernel: &impl Denoise,
    x_0: Tensor<4>,
    t: usize,
    draws: usize,
    seed: u64,
) -> f64 {
    assert!(draws >= 2, "a variance needs two draws");
    let [count, height, width, channels] = x_0.dims();
    let images = (0..count as u64).collect();
    let eps = NoiseSource::new(seed, images, &x_0.device());
    let eps = eps.normal(t as u64, Use::Eps, [height, width, channels]);
    let x_t = kernel.process().q_sample(x_0.clone(), &vec![t; count], eps);
    let (mut spread_sum, mut rest) = (0.0, 0.0);
    let moments = spread(kernel, &x_t, t, draws, seed);
    for ((mean, var), x_0) in moments.iter().zip(host::numbers(x_0)) {
        spread_sum += var;
        // The mean of a few draws is off by a part of their own variance.
        rest += (f64::from(x_0) - mean).powi(2) - var / draws as f64;
    }
    spread_sum / rest
}

/// Mean and variance of each number of `x_0` over a kernel's draws at `x_t`.
fn spread(
    kernel: &impl Denoise,
    x_t: &Tensor<4>,
    t: usize,
    draws: usize,
    seed: u64,
) -> Vec<(f64, f64)> {
    let points = x_t.dims()[0];
    let values: Vec<Vec<f32>> = (0..draws as u64)
        .map(|draw| {
            let images = (0..points as u64)
                .map(|i| draw * points as u64 + i)
                .collect();
            let noise = NoiseSource::new(seed, images, &x_t.device());
            host::numbers(kernel.draw_x_0(x_t.clone(), &vec![t; points], &noise, t as u64))
        })
        .collect();
    (0..values[0].len())
        .map(|i| {
            let at = |draw: &Vec<f32>| f64::from(draw[i]);
            let mean = values.iter().map(at).sum::<f64>() / draws as f64;
            let squares = values.iter().map(|draw| (at(draw) - mean).powi(2));
            (mean, squares.sum::<f64>() / (draws - 1) as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::Exact;
    use crate::schedule::ScheduleConfig;

    #[test]
    fn the_mean_has_no_influence_and_the_exact_draw_has_all_of_it() {
        for (draws, want) in [(false, 0.0), (true, 1.0)] {
            let schedule = ScheduleConfig {
                steps: 8,
                ..ScheduleConfig::default()
            };
            let kernel = Exact::new(GaussianMixture::grid_7x7(), &schedule, draws);
            let r = influence(&kernel, &kernel.mixture, 3, 1000, 8, 5, &Device::default());
            // Some 8,000 draws: the variance is good to a few per cent.
            assert!((r - want).abs() < 0.08, "{r}, not {want}");

            let mut x_0 = vec![0.0; 2000];
            for (i, out) in x_0.chunks_exact_mut(2).enumerate() {
                kernel.mixture.sample_into(3, i as u64, out);
            }
            let x_0 = TensorData::new(x_0, [1000, 1, 1, 2]);
            let x_0 = Tensor::from_data(x_0, &Device::default());
            let r = influence_on(&kernel, x_0, 3, 8, 5);
            assert!((r - want).abs() < 0.08, "on examples: {r}, not {want}");
        }
    }
}

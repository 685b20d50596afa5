//! The energy score: a proper scoring rule on several draws (De Bortoli et al. 2025, arXiv:2502.02483;
//! Gneiting and Raftery 2007).
//!
//! ```text
//! mean_k d(y, f_k) - lambda / (m (m - 1)) sum_{j < k} d(f_j, f_k),   d(a, b) = (||a - b||^2 / D)^(b / 2)
//! ```
//! For an exponent `b` below 2 and repulsion `lambda = 1` its only minimum is the law of `y`: the latent
//! draws what the data draws. With `b = 2` and `lambda = 0` it is the paper's squared error, whose minimum
//! ignores the latent: the repulsion is what soft mixture denoising lacks.

use burn::tensor::Tensor;

/// Keeps the root's slope finite where two draws are the same; far below any distance that matters.
const TINY: f64 = 1e-12;

/// The score of each example, `[B]`; `weights` multiply squared distances.
///
/// # Shapes
/// - `draws`: `[m B, H, W, C]`, draw by draw; `target`: `[B, H, W, C]`; `exponents`, `weights`: `[B]`
///
/// # Panics
/// If `repulsion` is not 0 for a single draw.
pub(super) fn energy_score(
    draws: Tensor<4>,
    target: Tensor<4>,
    exponents: Tensor<1>,
    weights: Tensor<1>,
    repulsion: f64,
) -> Tensor<1> {
    let [batch, height, width, channels] = target.dims();
    let count = draws.dims()[0] / batch;
    assert!(
        count > 1 || repulsion == 0.0,
        "a single draw has none to repel"
    );
    let numbers = height * width * channels;
    let flat = |x: Tensor<4>| x.reshape([batch, numbers]);
    let draw = |k: usize| flat(draws.clone().narrow(0, k * batch, batch));
    let half = exponents * 0.5;
    let distance = |a: Tensor<2>, b: Tensor<2>| {
        let mean = (a - b).square().mean_dim(1).squeeze_dim::<1>(1);
        // A power by its logarithm: the exponent may differ from item to item.
        let square = mean * weights.clone() + TINY;
        (square.log() * half.clone()).exp()
    };
    let target = flat(target);
    let attraction = (0..count)
        .map(|k| distance(draw(k), target.clone()))
        .reduce(|sum, next| sum + next)
        .expect("at least one draw");
    let attraction = attraction / count as f64;
    if repulsion == 0.0 {
        return attraction;
    }
    let pairs = (0..count).flat_map(|k| (0..k).map(move |j| (j, k)));
    let apart = pairs
        .map(|(j, k)| distance(draw(j), draw(k)))
        .reduce(|sum, next| sum + next)
        .expect("at least two draws");
    attraction - apart * (repulsion / (count * (count - 1)) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::noise::{NoiseSource, Use};
    use burn::tensor::Device;

    fn normal(items: u64, step: u64, dim: usize) -> Tensor<4> {
        let noise = NoiseSource::new(3, (0..items).collect(), &Device::default());
        noise.normal(step, Use::Eps, [1, 1, dim])
    }

    fn row(value: f32, batch: usize) -> Tensor<1> {
        Tensor::full([batch], value, &Device::default())
    }

    #[test]
    fn exponent_2_without_repulsion_is_the_mean_square() {
        let (batch, count) = (3, 2);
        let (draws, target) = (normal(6, 0, 4), normal(3, 1, 4));
        let score = energy_score(
            draws.clone(),
            target.clone(),
            row(2.0, batch),
            row(0.7, batch),
            0.0,
        );
        let square = |k: usize| {
            let off = draws.clone().narrow(0, k * batch, batch) - target.clone();
            off.square().reshape([batch, 4]).mean_dim(1)
        };
        let want = (square(0) + square(1)) * 0.7 / count as f64;
        for (a, b) in host::numbers(score).iter().zip(host::numbers(want)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    /// Among normal laws of the right mean, that of the right width has the least score.
    #[test]
    fn the_truth_scores_best() {
        const ITEMS: usize = 20_000;
        let target = normal(ITEMS as u64, 1, 1);
        let score = |std: f64| {
            let draws = Tensor::cat(
                vec![normal(ITEMS as u64, 2, 1), normal(ITEMS as u64, 3, 1)],
                0,
            );
            let score = energy_score(
                draws * std,
                target.clone(),
                row(1.0, ITEMS),
                row(1.0, ITEMS),
                1.0,
            );
            score.mean().into_scalar::<f32>()
        };
        let right = score(1.0);
        // Of widths 0, 0.7 and 1.4 the score is larger by 0.23, 0.03 and 0.03: far more than the noise
        // of differences of the same draws.
        for wrong in [0.0, 0.7, 1.4] {
            assert!(
                score(wrong) > right + 0.01,
                "{wrong}: {} {right}",
                score(wrong)
            );
        }
    }

    #[test]
    #[should_panic(expected = "none to repel")]
    fn one_draw_repels_none() {
        energy_score(
            normal(1, 0, 1),
            normal(1, 1, 1),
            row(1.0, 1),
            row(1.0, 1),
            1.0,
        );
    }
}

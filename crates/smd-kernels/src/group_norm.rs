//! Group normalisation (Wu and He 2018), a scale and shift per image, and SiLU, in one pass.
//!
//! ```text
//! x_hat = (x - mean) / sqrt(var + eps)      over the pixels and channels of a group
//! u = x_hat * scale + shift                 scale, shift: [B, C]
//! y = silu(u), or u
//! ```
//! The affine weights of the layer and the scale and shift that a time embedding adds are folded
//! into one `scale` and `shift` by the caller. Backward keeps the input and the statistics only.

use crate::silu::{sigmoid, silu_slope};
use crate::simd::{self, Level, compiled_for_each_level};
use rayon::prelude::*;

/// The sizes of a group normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNorm {
    /// Images, `B`.
    pub batch: usize,
    /// Pixels of an image, `H * W`.
    pub pixels: usize,
    /// Channels, `C`.
    pub channels: usize,
    /// Groups of neighbouring channels; divides `C`.
    pub groups: usize,
    /// What is added to the variance.
    pub eps: f32,
    /// Whether SiLU follows.
    pub silu: bool,
}

impl GroupNorm {
    fn check(&self, x: &[f32], affine: [&[f32]; 2]) {
        assert_eq!(
            x.len(),
            self.batch * self.pixels * self.channels,
            "group norm: input"
        );
        assert!(
            self.channels.is_multiple_of(self.groups),
            "group norm: whole groups"
        );
        for affine in affine {
            assert_eq!(
                affine.len(),
                self.batch * self.channels,
                "group norm: scale and shift"
            );
        }
    }

    /// Neighbouring pixels whose channels count as one row: few channels would not fill the vectors.
    fn together(&self) -> usize {
        const LONG: usize = 64;
        let most = (LONG / self.channels.max(1)).max(1);
        let fits = |k: &usize| k.is_power_of_two() && self.pixels.is_multiple_of(*k);
        (1..=most).rev().find(fits).unwrap_or(1)
    }

    /// What each channel is given, for all channels of a row.
    fn row(&self, channels: Vec<f32>) -> Vec<f32> {
        channels.repeat(self.together())
    }

    /// Means over groups of per-channel sums, spread back over channels.
    fn group_mean(&self, sums: &[f64]) -> Vec<f32> {
        let size = self.channels / self.groups;
        let count = (size * self.pixels) as f64;
        let mean = |sums: &[f64]| (sums.iter().sum::<f64>() / count) as f32;
        sums.chunks_exact(size)
            .flat_map(|sums| vec![mean(sums); size])
            .collect()
    }
}

/// Pixels whose sums are taken in f32 before they are added in f64.
const PIXELS_PER_SUM: usize = 64;

compiled_for_each_level! {
    /// Adds `sum x` to `sums`, per channel, over some pixels.
    fn add_sums(x: &[f32], sums: &mut [f32]) {
        for pixel in x.chunks_exact(sums.len()) {
            for (sum, &x) in sums.iter_mut().zip(pixel) {
                *sum += x;
            }
        }
    }
}

compiled_for_each_level! {
    /// Adds `sum (x - mean)^2` to `sums`, per channel, over some pixels.
    fn add_squares(x: &[f32], mean: &[f32], sums: &mut [f32]) {
        for pixel in x.chunks_exact(sums.len()) {
            for ((sum, &x), &mean) in sums.iter_mut().zip(pixel).zip(mean) {
                *sum += (x - mean) * (x - mean);
            }
        }
    }
}

compiled_for_each_level! {
    /// `y = x * a + b` per channel, with SiLU or without.
    fn apply(x: &[f32], a: &[f32], b: &[f32], silu: bool, y: &mut [f32]) {
        let pixels = x.chunks_exact(a.len()).zip(y.chunks_exact_mut(a.len()));
        if silu {
            for (x, y) in pixels {
                for (((y, &x), &a), &b) in y.iter_mut().zip(x).zip(a).zip(b) {
                    let u = x * a + b;
                    *y = u * sigmoid(u);
                }
            }
        } else {
            for (x, y) in pixels {
                for (((y, &x), &a), &b) in y.iter_mut().zip(x).zip(a).zip(b) {
                    *y = x * a + b;
                }
            }
        }
    }
}

compiled_for_each_level! {
    /// Writes `du = grad * slope(x * a + b)` and adds `sum du` and `sum du * x` per channel.
    fn back_through_silu(
        x: &[f32], grad: &[f32], a: &[f32], b: &[f32], silu: bool,
        du: &mut [f32], sums: &mut [f32], sums_x: &mut [f32],
    ) {
        let c = a.len();
        let pixels = x.chunks_exact(c).zip(grad.chunks_exact(c)).zip(du.chunks_exact_mut(c));
        for ((x, grad), du) in pixels {
            if silu {
                for ((((du, &x), &g), &a), &b) in du.iter_mut().zip(x).zip(grad).zip(a).zip(b) {
                    *du = g * silu_slope(x * a + b);
                }
            } else {
                du.copy_from_slice(grad);
            }
            for (((sum, sum_x), &du), &x) in sums.iter_mut().zip(sums_x.iter_mut()).zip(&*du).zip(x) {
                *sum += du;
                *sum_x += du * x;
            }
        }
    }
}

compiled_for_each_level! {
    /// `dx = du * p + x * q + r` per channel, in place of `du`.
    fn finish(x: &[f32], p: &[f32], q: &[f32], r: &[f32], du: &mut [f32]) {
        for (x, du) in x.chunks_exact(p.len()).zip(du.chunks_exact_mut(p.len())) {
            for ((((du, &x), &p), &q), &r) in du.iter_mut().zip(x).zip(p).zip(q).zip(r) {
                *du = *du * p + x * q + r;
            }
        }
    }
}

/// Sums over all pixels of an image, per channel: short runs in f32, runs in f64, in order. `add` adds
/// a run, which begins at its first argument, to the sums of a row.
fn sum_runs(
    norm: &GroupNorm,
    x: &[f32],
    mut add: impl FnMut(usize, &[f32], &mut [f32]),
) -> Vec<f64> {
    let mut total = vec![0.0; norm.channels];
    let mut part = vec![0.0; norm.together() * norm.channels];
    let run_len = PIXELS_PER_SUM * norm.channels;
    for (i, run) in x.chunks(run_len).enumerate() {
        part.fill(0.0);
        add(i * run_len, run, &mut part);
        add_pixels(&part, &mut total);
    }
    total
}

/// Adds the pixels of a row to the sums of their channels.
fn add_pixels(row: &[f32], sums: &mut [f64]) {
    for pixel in row.chunks_exact(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(pixel) {
            *sum += f64::from(x);
        }
    }
}

/// Mean and `1 / sqrt(var + eps)` of an image's groups, spread over channels.
fn statistics(level: Level, norm: &GroupNorm, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let sums = sum_runs(norm, x, |_, x, sums| add_sums(level, x, sums));
    let mean = norm.group_mean(&sums);
    let means = norm.row(mean.clone());
    let squares = sum_runs(norm, x, |_, x, sums| add_squares(level, x, &means, sums));
    let var = norm.group_mean(&squares);
    let rstd = var
        .iter()
        .map(|&var| (1.0 / f64::from(var + norm.eps).sqrt()) as f32)
        .collect();
    (mean, rstd)
}

/// Normalises `x`.
///
/// # Shapes
/// - `x`, `y`: `[B, H * W, C]`; `scale`, `shift`: `[B, C]`
///
/// # Panics
/// If a slice does not have its length, or the groups do not divide the channels.
pub fn forward(norm: &GroupNorm, x: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
    forward_at(simd::level(), norm, x, scale, shift, y);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(
    level: Level,
    norm: &GroupNorm,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    y: &mut [f32],
) {
    norm.check(x, [scale, shift]);
    assert_eq!(x.len(), y.len(), "group norm: output");
    let (c, image) = (norm.channels, norm.pixels * norm.channels);
    y.par_chunks_mut(image)
        .zip(x.par_chunks(image))
        .zip(scale.par_chunks(c).zip(shift.par_chunks(c)))
        .for_each(|((y, x), (scale, shift))| {
            let (mean, rstd) = statistics(level, norm, x);
            let (a, b) = affine(&mean, &rstd, scale, shift);
            apply(level, x, &norm.row(a), &norm.row(b), norm.silu, y);
        });
}

/// `u = x * a + b`, the normalisation and the affine map in one.
fn affine(mean: &[f32], rstd: &[f32], scale: &[f32], shift: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let a: Vec<f32> = rstd.iter().zip(scale).map(|(r, s)| r * s).collect();
    let b = mean
        .iter()
        .zip(&a)
        .zip(shift)
        .map(|((m, a), s)| s - m * a)
        .collect();
    (a, b)
}

/// The gradients of `x`, `scale` and `shift` of [`forward`], given that of its output.
///
/// The statistics are taken again from `x`: that costs two passes over data in cache, and nothing is
/// kept between the passes.
///
/// # Shapes
/// - `x`, `grad`, `x_out`: `[B, H * W, C]`; `scale`, `shift`, `scale_out`, `shift_out`: `[B, C]`
///
/// # Panics
/// If a slice does not have its length, or the groups do not divide the channels.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    norm: &GroupNorm,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    grad: &[f32],
    x_out: &mut [f32],
    scale_out: &mut [f32],
    shift_out: &mut [f32],
) {
    backward_at(
        simd::level(),
        norm,
        x,
        scale,
        shift,
        grad,
        x_out,
        scale_out,
        shift_out,
    );
}

/// [`backward`] with the instruction set of choice.
#[allow(clippy::too_many_arguments)]
pub fn backward_at(
    level: Level,
    norm: &GroupNorm,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    grad: &[f32],
    x_out: &mut [f32],
    scale_out: &mut [f32],
    shift_out: &mut [f32],
) {
    norm.check(x, [scale, shift]);
    norm.check(x_out, [scale_out, shift_out]);
    assert_eq!(x.len(), grad.len(), "group norm: gradient");
    let (c, image) = (norm.channels, norm.pixels * norm.channels);
    let inputs = x.par_chunks(image).zip(grad.par_chunks(image));
    let affines = scale.par_chunks(c).zip(shift.par_chunks(c));
    let affines_out = scale_out.par_chunks_mut(c).zip(shift_out.par_chunks_mut(c));
    x_out
        .par_chunks_mut(image)
        .zip(inputs)
        .zip(affines.zip(affines_out))
        .for_each(
            |((out, (x, grad)), ((scale, shift), (scale_out, shift_out)))| {
                let (mean, rstd) = statistics(level, norm, x);
                let (a, b) = affine(&mean, &rstd, scale, shift);
                let (row_a, row_b) = (norm.row(a), norm.row(b));
                let mut sums_x = vec![0.0; c];
                let mut part_x = vec![0.0; row_a.len()];
                let sums = sum_runs(norm, x, |at, run, part| {
                    part_x.fill(0.0);
                    let (grad, du) = (&grad[at..][..run.len()], &mut out[at..][..run.len()]);
                    back_through_silu(
                        level,
                        run,
                        grad,
                        &row_a,
                        &row_b,
                        norm.silu,
                        du,
                        part,
                        &mut part_x,
                    );
                    add_pixels(&part_x, &mut sums_x);
                });

                // sum du * x_hat, from sum du * x.
                let hat =
                    |i: usize| (sums_x[i] - sums[i] * f64::from(mean[i])) * f64::from(rstd[i]);
                for i in 0..c {
                    scale_out[i] = hat(i) as f32;
                    shift_out[i] = sums[i] as f32;
                }
                // dx = rstd * (scale * du - mean(scale * du) - x_hat * mean(scale * du * x_hat))
                let scaled = |sum: &dyn Fn(usize) -> f64| -> Vec<f64> {
                    (0..c).map(|i| f64::from(scale[i]) * sum(i)).collect()
                };
                let mean_du = norm.group_mean(&scaled(&|i| sums[i]));
                let mean_hat = norm.group_mean(&scaled(&hat));
                let q: Vec<f32> = (0..c).map(|i| -rstd[i] * rstd[i] * mean_hat[i]).collect();
                let r: Vec<f32> = (0..c)
                    .map(|i| -rstd[i] * mean_du[i] - mean[i] * q[i])
                    .collect();
                finish(level, x, &row_a, &norm.row(q), &norm.row(r), out);
            },
        );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::any_numbers;
    use crate::testing::{cases, sized};
    use proptest::prelude::*;

    /// The formula of the header in f64.
    fn plain(norm: &GroupNorm, x: &[f64], scale: &[f64], shift: &[f64]) -> Vec<f64> {
        let (c, size) = (norm.channels, norm.channels / norm.groups);
        let mut y = vec![0.0; x.len()];
        for image in 0..norm.batch {
            for group in 0..norm.groups {
                let places: Vec<usize> = (0..norm.pixels)
                    .flat_map(|p| (0..size).map(move |k| (p, k)))
                    .map(|(p, k)| (image * norm.pixels + p) * c + group * size + k)
                    .collect();
                let count = places.len() as f64;
                let mean = places.iter().map(|&i| x[i]).sum::<f64>() / count;
                let var = places.iter().map(|&i| (x[i] - mean).powi(2)).sum::<f64>() / count;
                for i in places {
                    let at = image * c + i % c;
                    let hat = (x[i] - mean) / (var + f64::from(norm.eps)).sqrt();
                    let u = hat * scale[at] + shift[at];
                    y[i] = if norm.silu { u / (1.0 + (-u).exp()) } else { u };
                }
            }
        }
        y
    }

    /// The slope of `sum(grad * y)` along one number, by central differences in f64.
    fn slope(f: impl Fn(f64) -> Vec<f64>, grad: &[f32]) -> f64 {
        let dot = |y: Vec<f64>| -> f64 { y.iter().zip(grad).map(|(y, &g)| y * f64::from(g)).sum() };
        (dot(f(1e-5)) - dot(f(-1e-5))) / 2e-5
    }

    fn f64s(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| f64::from(x)).collect()
    }

    /// Numbers of the largest case: two images.
    const MOST: usize = 2 * if cfg!(miri) { 7 * 10 } else { 70 * 33 };

    proptest! {
        #![proptest_config(cases(24))]
        #[test]
        fn values_and_gradients_follow_the_formula(
            batch in 1_usize..3,
            pixels in prop::sample::select(sized(vec![1_usize, 2, 7, 48, 49, 70], vec![1, 2, 7])),
            (groups, size) in prop::sample::select(sized(
                vec![(1, 1), (1, 3), (2, 5), (4, 8), (3, 11)],
                vec![(1, 1), (1, 3), (2, 5)],
            )),
            silu in any::<bool>(),
            x in prop::collection::vec(-2.0_f32..3.0, MOST),
            affine in prop::collection::vec(-1.5_f32..1.5, 2 * 2 * 33),
            g in prop::collection::vec(-1.0_f32..1.0, MOST),
        ) {
            let channels = groups * size;
            let norm = GroupNorm { batch, pixels, channels, groups, eps: 1e-2, silu };
            let len = batch * pixels * channels;
            let (x, g) = (&x[..len], &g[..len]);
            let (scale, shift) = (&affine[..batch * channels], &affine[66..][..batch * channels]);
            let (x64, scale64, shift64) = (f64s(x), f64s(scale), f64s(shift));
            let want = plain(&norm, &x64, &scale64, &shift64);
            let moved = |v: &[f64], i: usize, by: f64| {
                let mut v = v.to_vec();
                v[i] += by;
                v
            };
            for level in simd::available() {
                let mut y = any_numbers(len);
                forward_at(level, &norm, x, scale, shift, &mut y);
                for (y, want) in y.iter().zip(&want) {
                    prop_assert!((f64::from(*y) - want).abs() < 2e-5, "{y} not {want}");
                }
                let mut dx = any_numbers(len);
                let mut ds = any_numbers(batch * channels);
                let mut db = any_numbers(batch * channels);
                backward_at(level, &norm, x, scale, shift, g, &mut dx, &mut ds, &mut db);
                for i in [0, len / 3, len - 1] {
                    let want = slope(|h| plain(&norm, &moved(&x64, i, h), &scale64, &shift64), g);
                    prop_assert!((f64::from(dx[i]) - want).abs() < 2e-3, "dx {} not {want}", dx[i]);
                }
                for i in [0, batch * channels - 1] {
                    let want = slope(|h| plain(&norm, &x64, &moved(&scale64, i, h), &shift64), g);
                    prop_assert!((f64::from(ds[i]) - want).abs() < 2e-3, "ds {} not {want}", ds[i]);
                    let want = slope(|h| plain(&norm, &x64, &scale64, &moved(&shift64, i, h)), g);
                    prop_assert!((f64::from(db[i]) - want).abs() < 2e-3, "db {} not {want}", db[i]);
                }
            }
        }
    }
}

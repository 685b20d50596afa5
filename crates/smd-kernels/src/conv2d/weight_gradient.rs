//! The gradient of the weights: a block of input channels by two vectors of output channels.

use super::Conv2d;
#[cfg(target_arch = "x86_64")]
use crate::simd::x86::{Avx2, Avx512};
use crate::simd::{Level, Plain, Vector};
use rayon::prelude::*;

/// Input channels of one task. Each task owns its part of the gradient and walks all pixels in
/// order, so that sums do not depend on who computes them.
const TASK_CHANNELS: usize = 24;

/// `weight_out[co, ci, ky, kx] = sum over pixels of x[pixel + (ky, kx), ci] * grad[pixel, co]`.
pub(super) fn run(level: Level, conv: &Conv2d, x: &[f32], grad: &[f32], weight_out: &mut [f32]) {
    let n = match level {
        Level::Avx512 => 32,
        Level::Avx2 | Level::Portable => 16,
    };
    let [kh, kw] = conv.kernel;
    // Whole vectors of the gradient are read: pad the channels to a multiple of the block.
    let co_padded = conv.c_out.div_ceil(n) * n;
    let padded;
    let grad = if co_padded == conv.c_out {
        grad
    } else {
        padded = pad_channels(grad, conv.c_out, co_padded);
        &padded
    };

    let ci_blocks = conv.c_in.div_ceil(TASK_CHANNELS);
    let parts: Vec<Part> = (0..ci_blocks * (co_padded / n))
        .into_par_iter()
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .map(|task| {
            let ci = task % ci_blocks * TASK_CHANNELS;
            let mut part = Part {
                ci,
                ci_len: TASK_CHANNELS.min(conv.c_in - ci),
                co: task / ci_blocks * n,
                sums: Vec::new(),
            };
            part.sums = vec![0.0; kh * kw * part.ci_len * n];
            match level {
                // SAFETY: the entry of the module checked that the machine has AVX-512.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512(conv, x, grad, co_padded, &mut part) },
                // SAFETY: the entry of the module checked that the machine has AVX2 and FMA.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2(conv, x, grad, co_padded, &mut part) },
                // SAFETY: plain code runs everywhere.
                _ => unsafe { accumulate::<Plain, 4>(conv, x, grad, co_padded, &mut part) },
            }
            part
        })
        .collect();

    for part in parts {
        for (i, sums) in part.sums.chunks_exact(n).enumerate() {
            let (window, ci) = (i / part.ci_len, part.ci + i % part.ci_len);
            for (co, &sum) in (part.co..conv.c_out).zip(sums) {
                weight_out[(co * conv.c_in + ci) * kh * kw + window] = sum;
            }
        }
    }
}

/// Sums over all pixels, in order.
pub(super) fn bias(c_out: usize, grad: &[f32], out: &mut [f32]) {
    const ROWS: usize = 4096;
    let parts: Vec<Vec<f32>> = grad
        .par_chunks(ROWS * c_out)
        .map(|rows| {
            let mut sums = vec![0.0; c_out];
            for row in rows.chunks_exact(c_out) {
                for (sum, &g) in sums.iter_mut().zip(row) {
                    *sum += g;
                }
            }
            sums
        })
        .collect();
    out.fill(0.0);
    for part in parts {
        for (out, sum) in out.iter_mut().zip(part) {
            *out += sum;
        }
    }
}

/// The part of the gradient that one task computes.
struct Part {
    /// First input channel and how many.
    ci: usize,
    ci_len: usize,
    /// First output channel.
    co: usize,
    /// `[kH, kW, ci_len, N]`.
    sums: Vec<f32>,
}

fn pad_channels(grad: &[f32], from: usize, to: usize) -> Vec<f32> {
    let mut out = vec![0.0; grad.len() / from * to];
    out.par_chunks_mut(to)
        .zip(grad.par_chunks(from))
        .with_min_len(1024)
        .for_each(|(out, grad)| {
            out[..from].copy_from_slice(grad);
        });
    out
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512(conv: &Conv2d, x: &[f32], grad: &[f32], co_padded: usize, part: &mut Part) {
    // SAFETY: this function runs only where its features were detected.
    unsafe { accumulate::<Avx512, 12>(conv, x, grad, co_padded, part) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(conv: &Conv2d, x: &[f32], grad: &[f32], co_padded: usize, part: &mut Part) {
    // SAFETY: this function runs only where its features were detected.
    unsafe { accumulate::<Avx2, 6>(conv, x, grad, co_padded, part) }
}

/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn accumulate<V: Vector, const M: usize>(
    conv: &Conv2d,
    x: &[f32],
    grad: &[f32],
    co_padded: usize,
    part: &mut Part,
) {
    let n = 2 * V::LANES;
    let [kh, kw] = conv.kernel;
    let [padded_height, padded_width] = conv.padded_size();
    let [height, width] = conv.output_size();
    let images = x
        .chunks_exact(padded_height * padded_width * conv.c_in)
        .zip(grad.chunks_exact(height * width * co_padded));
    // Image by image, so that both slabs stay in cache for every place of the window.
    for (x, grad) in images {
        for ky in 0..kh {
            for kx in 0..kw {
                let sums = &mut part.sums[(ky * kw + kx) * part.ci_len * n..][..part.ci_len * n];
                let view = View {
                    conv,
                    x: &x[(ky * padded_width + kx) * conv.c_in..],
                    grad: &grad[part.co..],
                    co_padded,
                };
                let mut i = 0;
                // SAFETY: the caller has the instruction set.
                unsafe {
                    while i + M <= part.ci_len {
                        tile::<V, M>(&view, part.ci + i, &mut sums[i * n..]);
                        i += M;
                    }
                    while i + 4 <= part.ci_len {
                        tile::<V, 4>(&view, part.ci + i, &mut sums[i * n..]);
                        i += 4;
                    }
                    while i < part.ci_len {
                        tile::<V, 1>(&view, part.ci + i, &mut sums[i * n..]);
                        i += 1;
                    }
                }
            }
        }
    }
}

/// One image seen from one place of the window.
struct View<'a> {
    conv: &'a Conv2d,
    /// The padded image from that place on.
    x: &'a [f32],
    /// The output's gradient from the block's first channel on.
    grad: &'a [f32],
    co_padded: usize,
}

/// Adds the products of `M` input channels from `ci` and a block of output channels.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize>(view: &View, ci: usize, sums: &mut [f32]) {
    let conv = view.conv;
    let n = 2 * V::LANES;
    let [height, width] = conv.output_size();
    let row_len = conv.padded_size()[1] * conv.c_in;
    let step = conv.stride * conv.c_in;
    // SAFETY: the caller has the instruction set; the slices cut here bound all that is read below.
    unsafe {
        let mut acc: [[V; 2]; M] =
            std::array::from_fn(|m| [V::load(&sums[m * n..]), V::load(&sums[m * n + V::LANES..])]);
        for oy in 0..height {
            let x = &view.x[oy * conv.stride * row_len + ci..][..(width - 1) * step + M];
            let grad =
                &view.grad[oy * width * view.co_padded..][..(width - 1) * view.co_padded + n];
            for ox in 0..width {
                let g = grad.get_unchecked(ox * view.co_padded..);
                let g = [V::load(g), V::load(g.get_unchecked(V::LANES..))];
                let x = x.get_unchecked(ox * step..ox * step + M);
                for (acc, &x) in acc.iter_mut().zip(x) {
                    let x = V::splat(x);
                    acc[0] = x.mul_add(g[0], acc[0]);
                    acc[1] = x.mul_add(g[1], acc[1]);
                }
            }
        }
        for (m, acc) in acc.into_iter().enumerate() {
            acc[0].store(&mut sums[m * n..]);
            acc[1].store(&mut sums[m * n + V::LANES..]);
        }
    }
}

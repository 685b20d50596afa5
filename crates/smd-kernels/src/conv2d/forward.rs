//! The forward kernel: a block of output pixels by two vectors of output channels.

use super::Conv2d;
#[cfg(target_arch = "x86_64")]
use crate::simd::x86::{Avx2, Avx512};
use crate::simd::{Level, Plain, Vector};
use rayon::prelude::*;

/// Output channels of one block: two vectors.
fn block_channels(level: Level) -> usize {
    match level {
        Level::Avx512 => 32,
        Level::Avx2 | Level::Portable => 16,
    }
}

/// Weights as the kernel reads them: `[C_out / N][kH][kW * C_in][N]`, the last block padded with
/// zeros. `at(co, ci, ky, kx)` names a weight.
pub(super) fn pack(
    level: Level,
    conv: &Conv2d,
    at: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
) -> Vec<f32> {
    let [kh, kw] = conv.kernel;
    let n = block_channels(level);
    let mut packed = vec![0.0; conv.c_out.div_ceil(n) * kh * kw * conv.c_in * n];
    packed
        .par_chunks_mut(kh * kw * conv.c_in * n)
        .enumerate()
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .for_each(|(block, out)| {
            for (k, out) in out.chunks_exact_mut(n).enumerate() {
                let (window, ci) = (k / conv.c_in, k % conv.c_in);
                for (lane, out) in out.iter_mut().enumerate() {
                    let co = block * n + lane;
                    if co < conv.c_out {
                        *out = at(co, ci, window / kw, window % kw);
                    }
                }
            }
        });
    packed
}

/// Convolves the padded input `x` with packed weights.
pub(super) fn run(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    packed: &[f32],
    bias: &[f32],
    y: &mut [f32],
) {
    let n = block_channels(level);
    let mut padded_bias = vec![0.0; conv.c_out.div_ceil(n) * n];
    padded_bias[..bias.len()].copy_from_slice(bias);
    let [height, width] = conv.output_size();
    // A task is a run of output pixels of one image; its length depends on the shape alone.
    let pixels = height * width;
    let run = pixels.div_ceil(
        pixels
            .div_ceil(1024)
            .max(if conv.batch > 1 { 1 } else { 2 }),
    );
    let [padded_height, padded_width] = conv.padded_size();
    let image_len = padded_height * padded_width * conv.c_in;
    let work = |x: &[f32], first: usize, y: &mut [f32]| {
        let task = Task {
            conv,
            x,
            packed,
            bias: &padded_bias,
            first,
        };
        match level {
            // SAFETY: the entry of the module checked that the machine has AVX-512.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512(&task, y) },
            // SAFETY: the entry of the module checked that the machine has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2(&task, y) },
            // SAFETY: plain code runs everywhere.
            _ => unsafe { pixels_of::<Plain, 4>(&task, y) },
        }
    };
    if conv.is_small() {
        let images = y.chunks_mut(pixels * conv.c_out).zip(x.chunks(image_len));
        images.for_each(|(y, x)| work(x, 0, y));
        return;
    }
    y.par_chunks_mut(pixels * conv.c_out)
        .zip(x.par_chunks(image_len))
        .for_each(|(y, x)| {
            let runs = y.par_chunks_mut(run * conv.c_out).enumerate();
            runs.for_each(|(i, y)| work(x, i * run, y));
        });
}

/// A run of output pixels of one image.
struct Task<'a> {
    conv: &'a Conv2d,
    /// The padded image.
    x: &'a [f32],
    packed: &'a [f32],
    bias: &'a [f32],
    /// The first output pixel of the run.
    first: usize,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512(task: &Task, y: &mut [f32]) {
    // SAFETY: this function runs only where its features were detected.
    unsafe { pixels_of::<Avx512, 12>(task, y) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(task: &Task, y: &mut [f32]) {
    // SAFETY: this function runs only where its features were detected.
    unsafe { pixels_of::<Avx2, 6>(task, y) }
}

/// Computes the pixels of a task, `M` at a time and the rest in smaller blocks.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn pixels_of<V: Vector, const M: usize>(task: &Task, y: &mut [f32]) {
    let (conv, n) = (task.conv, 2 * V::LANES);
    let pixels = y.len() / conv.c_out;
    for block in 0..conv.c_out.div_ceil(n) {
        let mut at = 0;
        while at + M <= pixels {
            // SAFETY: the caller has the instruction set.
            unsafe { tile::<V, M>(task, block, at, y) };
            at += M;
        }
        while at + 4 <= pixels {
            // SAFETY: as above.
            unsafe { tile::<V, 4>(task, block, at, y) };
            at += 4;
        }
        while at < pixels {
            // SAFETY: as above.
            unsafe { tile::<V, 1>(task, block, at, y) };
            at += 1;
        }
    }
}

/// `M` pixels from `at` by the two vectors of channels of `block`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize>(task: &Task, block: usize, at: usize, y: &mut [f32]) {
    let conv = task.conv;
    let n = 2 * V::LANES;
    let [kh, kw] = conv.kernel;
    let width = conv.output_size()[1];
    let row_len = conv.padded_size()[1] * conv.c_in;
    // In a row of the window, (kx, channel) pairs lie in a row in memory.
    let run = kw * conv.c_in;
    let corner: [usize; M] = std::array::from_fn(|m| {
        let pixel = task.first + at + m;
        let (oy, ox) = (pixel / width, pixel % width);
        oy * conv.stride * row_len + ox * conv.stride * conv.c_in
    });

    // SAFETY: the caller has the instruction set, and every slice below has the length it is cut to.
    unsafe {
        let bias = &task.bias[block * n..][..n];
        let mut acc = [[V::load(bias), V::load(&bias[V::LANES..])]; M];
        for ky in 0..kh {
            let weights = &task.packed[(block * kh + ky) * run * n..][..run * n];
            let rows: [&[f32]; M] =
                std::array::from_fn(|m| &task.x[corner[m] + ky * row_len..][..run]);
            for k in 0..run {
                let w = weights.get_unchecked(k * n..(k + 1) * n);
                let w = [V::load(w), V::load(w.get_unchecked(V::LANES..))];
                for (acc, row) in acc.iter_mut().zip(&rows) {
                    let x = V::splat(*row.get_unchecked(k));
                    acc[0] = x.mul_add(w[0], acc[0]);
                    acc[1] = x.mul_add(w[1], acc[1]);
                }
            }
        }

        let (from, channels) = (block * n, n.min(conv.c_out - block * n));
        for (m, acc) in acc.into_iter().enumerate() {
            let out = &mut y[(at + m) * conv.c_out + from..][..channels];
            if channels == n {
                acc[0].store(out);
                acc[1].store(&mut out[V::LANES..]);
            } else {
                let mut whole = [0.0; 32];
                acc[0].store(&mut whole);
                acc[1].store(&mut whole[V::LANES..]);
                out.copy_from_slice(&whole[..channels]);
            }
        }
    }
}

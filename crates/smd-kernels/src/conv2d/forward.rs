//! Direct summation: a block of output pixels by two vectors of output channels.

use super::Conv2d;
use crate::product::{Block, even_blocks, rows_times, with_rows};
#[cfg(target_arch = "x86_64")]
use crate::simd::x86::{Avx2, Avx512};
use crate::simd::{Level, Plain, Vector};
use rayon::prelude::*;

/// Output pixels of a task: they share the packed weights while those are in the cache.
const TASK_PIXELS: usize = 1024;

/// Weights as the kernel reads them: `[C_out / N][kH][kW * C_in][N]`, the last block padded with
/// zeros. `at(co, ci, ky, kx)` names a weight.
pub(super) fn pack(
    level: Level,
    conv: &Conv2d,
    at: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
) -> Vec<f32> {
    let [kh, kw] = conv.kernel;
    let n = 2 * level.lanes();
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
    let n = 2 * level.lanes();
    let mut whole_bias = vec![0.0; conv.c_out.div_ceil(n) * n];
    whole_bias[..bias.len()].copy_from_slice(bias);
    let [height, width] = conv.output_size();
    let [padded_height, padded_width] = conv.padded_size();
    let image_len = padded_height * padded_width * conv.c_in;
    let min_tasks = if conv.is_small() { usize::MAX } else { 1 };
    let work = |x: &[f32], corner: [usize; 2], cols: usize, y: &mut [f32]| {
        let task = Task {
            conv,
            x,
            packed,
            bias: &whole_bias,
            corner,
            cols,
        };
        match level {
            // SAFETY: the entry of the module checked that the machine has AVX-512.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512(&task, y) },
            // SAFETY: the entry of the module checked that the machine has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2(&task, y) },
            // SAFETY: plain code runs everywhere.
            _ => unsafe { task.run::<Plain, 4>(y) },
        }
    };
    y.par_chunks_mut(height * width * conv.c_out)
        .zip(x.par_chunks(image_len))
        .with_min_len(min_tasks)
        .for_each(|(y, x)| {
            // Whole rows, or parts of one.
            let rows = (TASK_PIXELS / width).max(1);
            y.par_chunks_mut(rows * width * conv.c_out)
                .enumerate()
                .with_min_len(min_tasks)
                .for_each(|(i, y)| {
                    if width <= TASK_PIXELS {
                        return work(x, [i * rows, 0], width, y);
                    }
                    y.par_chunks_mut(TASK_PIXELS * conv.c_out)
                        .enumerate()
                        .with_min_len(min_tasks)
                        .for_each(|(j, y)| {
                            work(x, [i, j * TASK_PIXELS], y.len() / conv.c_out, y);
                        });
                });
        });
}

/// Some rows of output pixels of one image, or a part of one row.
struct Task<'a> {
    conv: &'a Conv2d,
    /// The padded image.
    x: &'a [f32],
    packed: &'a [f32],
    bias: &'a [f32],
    /// Row and column of the first output pixel.
    corner: [usize; 2],
    /// Output pixels of a row.
    cols: usize,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512(task: &Task, y: &mut [f32]) {
    // SAFETY: this function runs only where its features were detected.
    unsafe { task.run::<Avx512, 12>(y) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(task: &Task, y: &mut [f32]) {
    // SAFETY: this function runs only where its features were detected.
    unsafe { task.run::<Avx2, 6>(y) }
}

impl Task<'_> {
    /// # Safety
    /// The machine has the instruction set of `V`, with registers for `M` rows.
    // Closures would be compiled for the plain machine: there are none on the way to the vectors.
    // Few pixels at a time for all channels: their inputs and outputs stay in the first-level cache.
    #[inline(always)]
    unsafe fn run<V: Vector, const M: usize>(&self, y: &mut [f32]) {
        let (conv, n) = (self.conv, 2 * V::LANES);
        let row_len = self.cols * conv.c_out;
        for (row, y) in y.chunks_exact_mut(row_len).enumerate() {
            for (first, cols) in even_blocks(self.cols, 3 * M) {
                for block in 0..conv.c_out.div_ceil(n) {
                    for (from, len) in even_blocks(cols, M) {
                        let from = first + from;
                        let at = [self.corner[0] + row, self.corner[1] + from];
                        let y = &mut y[from * conv.c_out..][..len * conv.c_out];
                        // SAFETY: the caller has the instruction set.
                        unsafe { with_rows!(len, tile::<V>(self, block, at, y)) };
                    }
                }
            }
        }
    }
}

/// The block's channels of the `M` pixels of a row from `at` on.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize>(
    task: &Task,
    block: usize,
    [oy, ox]: [usize; 2],
    y: &mut [f32],
) {
    let (conv, n) = (task.conv, 2 * V::LANES);
    let [kh, kw] = conv.kernel;
    let row_len = conv.padded_size()[1] * conv.c_in;
    let step = conv.stride * conv.c_in;
    // In a row of the window, (column, channel) pairs lie in a row in memory.
    let run = kw * conv.c_in;
    let corner = oy * conv.stride * row_len + ox * step;
    let packed = &task.packed[block * kh * run * n..][..kh * run * n];
    let bias = &task.bias[block * n..][..n];
    assert!(task.x.len() >= corner + (kh - 1) * row_len + (M - 1) * step + run);
    // SAFETY: the caller has the instruction set; the slices cut here and the assertion bound all
    // that is read.
    unsafe {
        let mut sums: Block<V, M> = [[V::load(bias), V::load(&bias[V::LANES..])]; M];
        for ky in 0..kh {
            let x = task.x.as_ptr().add(corner + ky * row_len);
            let weights = packed.as_ptr().add(ky * run * n);
            rows_times(x, step, weights, run, &mut sums);
        }
        let (from, channels) = (block * n, n.min(conv.c_out - block * n));
        let first = channels.min(V::LANES);
        for (sums, y) in sums.into_iter().zip(y.chunks_exact_mut(conv.c_out)) {
            let (low, high) = y[from..][..channels].split_at_mut(first);
            sums[0].write_some(low);
            sums[1].write_some(high);
        }
    }
}

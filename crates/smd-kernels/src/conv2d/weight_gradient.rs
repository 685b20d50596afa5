//! The gradient of the weights by direct summation: window places and input channels by two vectors of
//! output channels.
//!
//! In a row of the window, (column, channel) pairs lie in a row in memory, so each row of the window is
//! one product of matrices: the inputs under it, pixel by pixel, with the output's gradient. A task
//! has a share of the pixels and 64 output channels; its sums lie in its own memory, and the shares
//! are added in order, so that the result does not depend on who computed what. Factors in pairs are
//! those of two neighbouring pixels.

use super::Conv2d;
use crate::product::{Columns, Factors, Strided};
use crate::simd::{self, Kernel, Level, Vector};
use rayon::prelude::*;
use std::marker::PhantomData;

/// Output channels of a task: whole blocks for every instruction set.
pub(super) const TASK_CHANNELS: usize = 64;

/// Tasks that a convolution is cut into at least, where it has so many pixels or images.
pub(super) const TASKS: usize = 8;

/// Pixels of a run: their inputs and gradients stay in the first-level cache while all sums take
/// them in.
const RUN: usize = 32;

/// `weight_out[co, ci, ky, kx] = sum over pixels of x[pixel + (ky, kx), ci] * grad[pixel, co]`; `x` is
/// padded.
pub(super) fn run<F: Factors>(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    grad: &[f32],
    weight_out: &mut [f32],
) {
    let n = 2 * level.lanes();
    let runs = Runs::of(conv);
    let ranges = conv.c_out.div_ceil(TASK_CHANNELS);
    let shares = TASKS.div_ceil(ranges).min(runs.count()).max(1);
    let [kh, kw] = conv.kernel;
    let row = kw * conv.c_in;
    let sums: Vec<Vec<f32>> = (0..shares * ranges)
        .into_par_iter()
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .map(|i| {
            let (share, range) = (i / ranges, i % ranges);
            let channel = range * TASK_CHANNELS;
            let channels = TASK_CHANNELS.min(conv.c_out - channel);
            let mut sums = vec![0.0; channels.div_ceil(n) * kh * row * n];
            let task = Task {
                conv,
                x,
                grad,
                runs: [share, share + 1].map(|s| s * runs.count() / shares),
                channel,
                channels,
                sums: &mut sums,
                factors: PhantomData::<F>,
            };
            simd::run(level, task);
            sums
        })
        .collect();

    weight_out
        .par_chunks_mut(n * conv.c_in * kh * kw)
        .enumerate()
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .for_each(|(block, out)| {
            let total = total_of_shares(&sums, ranges, block * n, kh * row * n, n);
            for (i, total) in total.chunks_exact(n).enumerate() {
                let (window, ci) = (i / conv.c_in, i % conv.c_in);
                let at = ci * kh * kw + window;
                for (out, &sum) in out.chunks_exact_mut(conv.c_in * kh * kw).zip(total) {
                    out[at] = sum;
                }
            }
        });
}

/// The sums of the block of `n` output channels from `channel` on, `size` numbers, added over shares in
/// order. `sums` has share after share, each with `ranges` of [`TASK_CHANNELS`].
pub(super) fn total_of_shares(
    sums: &[Vec<f32>],
    ranges: usize,
    channel: usize,
    size: usize,
    n: usize,
) -> Vec<f32> {
    let (range, first) = (channel / TASK_CHANNELS, channel % TASK_CHANNELS / n * size);
    let mut total = sums[range][first..][..size].to_vec();
    for share in sums.chunks_exact(ranges).skip(1) {
        for (total, &sum) in total.iter_mut().zip(&share[range][first..][..size]) {
            *total += sum;
        }
    }
    total
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

/// The output pixels cut into runs, each of one row of one image.
struct Runs {
    height: usize,
    width: usize,
    batch: usize,
}

impl Runs {
    fn of(conv: &Conv2d) -> Self {
        let [height, width] = conv.output_size();
        Self {
            height,
            width,
            batch: conv.batch,
        }
    }

    fn per_row(&self) -> usize {
        self.width.div_ceil(RUN)
    }

    fn count(&self) -> usize {
        self.batch * self.height * self.per_row()
    }

    /// (image, row, first column, columns) of run `i`.
    fn get(&self, i: usize) -> (usize, usize, usize, usize) {
        let (row, part) = (i / self.per_row(), i % self.per_row());
        let from = part * RUN;
        (
            row / self.height,
            row % self.height,
            from,
            RUN.min(self.width - from),
        )
    }
}

/// Some pixels and some output channels.
struct Task<'a, F> {
    conv: &'a Conv2d,
    /// Padded.
    x: &'a [f32],
    grad: &'a [f32],
    /// The first run and the end.
    runs: [usize; 2],
    channel: usize,
    channels: usize,
    /// `[channels / N][kH][kW * C_in][N]`.
    sums: &'a mut [f32],
    factors: PhantomData<F>,
}

impl<F: Factors> Kernel for Task<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (conv, n) = (self.conv, 2 * V::LANES);
        let [padded_height, padded_width] = conv.padded_size();
        let [kh, kw] = conv.kernel;
        let row_len = kw * conv.c_in;
        let runs = Runs::of(conv);
        let wide = self.channels.next_multiple_of(n);
        // Words of the gradients and of the inputs under a row of the window, where they are copied.
        let (mut grad_words, mut x_words) = (Vec::new(), Vec::new());
        for i in self.runs[0]..self.runs[1] {
            let (image, oy, ox, count) = runs.get(i);
            let pixel = (image * runs.height + oy) * runs.width + ox;
            let grad = Strided {
                values: &self.grad[pixel * conv.c_out + self.channel..],
                stride: conv.c_out,
                count,
            };
            // SAFETY: the caller has the instruction set.
            let grad = unsafe { grad.words::<V, F>(self.channels, true, &mut grad_words) };
            for ky in 0..kh {
                let corner = (image * padded_height + oy * conv.stride + ky) * padded_width
                    + ox * conv.stride;
                let x = Strided {
                    values: &self.x[corner * conv.c_in..],
                    stride: conv.stride * conv.c_in,
                    count,
                };
                // SAFETY: the caller has the instruction set.
                let x = unsafe { x.words::<V, F>(row_len, false, &mut x_words) };
                for block in 0..wide / n {
                    let sums = &mut self.sums[(block * kh + ky) * row_len * n..][..row_len * n];
                    // SAFETY: the caller has the instruction set.
                    unsafe { Columns::of(&x, &grad, block * n).add_to::<V, F>(row_len, sums) };
                }
            }
        }
    }
}

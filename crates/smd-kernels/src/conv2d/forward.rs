//! Direct summation: a block of output pixels by two vectors of output channels.

use super::{Conv2d, Last};
use crate::product::{Block, Factors, even_blocks, rows_times, with_rows};
use crate::simd::{self, Kernel, Level, Vector};
use rayon::prelude::*;

/// Output pixels of a task: they share the packed weights while those are in the cache.
const TASK_PIXELS: usize = 1024;

/// Words of a row of the window: (column, channel) pairs lie in a row in memory.
fn run_words<F: Factors>(conv: &Conv2d) -> usize {
    (conv.kernel[1] * conv.c_in).div_ceil(F::PER_WORD)
}

/// Weights as the kernel reads them: `[C_out / N][kH][kW * C_in][N]` in words, the last ones of a row
/// and the last block padded with zeros. `at(co, ci, ky, kx)` names a weight.
pub(super) fn pack<F: Factors>(
    level: Level,
    conv: &Conv2d,
    at: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
) -> Vec<f32> {
    let [kh, kw] = conv.kernel;
    let (n, run) = (2 * level.lanes(), run_words::<F>(conv));
    let weight = |co: usize, ky: usize, i: usize| {
        if i < kw * conv.c_in {
            at(co, i % conv.c_in, ky, i / conv.c_in)
        } else {
            0.0
        }
    };
    let mut packed = vec![0.0; conv.c_out.div_ceil(n) * kh * run * n];
    packed
        .par_chunks_mut(kh * run * n)
        .enumerate()
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .for_each(|(block, out)| {
            for (k, out) in out.chunks_exact_mut(n).enumerate() {
                let (ky, i) = (k / run, k % run * F::PER_WORD);
                let channels = n.min(conv.c_out - block * n);
                for (lane, out) in out[..channels].iter_mut().enumerate() {
                    let co = block * n + lane;
                    let second = if F::PER_WORD > 1 {
                        weight(co, ky, i + 1)
                    } else {
                        0.0
                    };
                    *out = F::word(weight(co, ky, i), second);
                }
            }
        });
    packed
}

/// Convolves the padded input `x`, see [`super::padded`], with packed weights.
pub(super) fn run<F: Factors>(
    level: Level,
    conv: &Conv2d,
    x: &[F::Number],
    packed: &[f32],
    last: &Last,
    y: &mut [f32],
) {
    let [height, width] = conv.output_size();
    let [padded_height, padded_width] = conv.padded_size();
    let image_len = padded_height * padded_width * conv.c_in;
    let min_tasks = if conv.is_small() { usize::MAX } else { 1 };
    let work = |x: &[F::Number], corner: [usize; 2], cols: usize, y: &mut [f32]| {
        let task = Task::<F> {
            conv,
            x,
            packed,
            last,
            corner,
            cols,
        };
        simd::run(level, Rows { task, y });
    };
    y.par_chunks_mut(height * width * conv.c_out)
        .enumerate()
        .with_min_len(min_tasks)
        .for_each(|(image, y)| {
            // To the end: the last word of a row may have a factor behind it, times zero.
            let x = &x[image * image_len..];
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
struct Task<'a, F: Factors> {
    conv: &'a Conv2d,
    /// The padded image, and what comes after it.
    x: &'a [F::Number],
    packed: &'a [f32],
    last: &'a Last,
    /// Row and column of the first output pixel.
    corner: [usize; 2],
    /// Output pixels of a row.
    cols: usize,
}

/// A task and where its results go.
struct Rows<'a, F: Factors> {
    task: Task<'a, F>,
    y: &'a mut [f32],
}

impl<F: Factors> Kernel for Rows<'_, F> {
    type Out = ();

    // Few pixels at a time for all channels: their inputs and outputs stay in the first-level cache.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (task, n) = (&self.task, 2 * V::LANES);
        let (cols, c_out) = (task.cols, task.conv.c_out);
        for (row, y) in self.y.chunks_exact_mut(cols * c_out).enumerate() {
            for (first, cols) in even_blocks(cols, 3 * V::ROWS) {
                for block in 0..c_out.div_ceil(n) {
                    for (from, len) in even_blocks(cols, V::ROWS) {
                        let from = first + from;
                        let at = [task.corner[0] + row, task.corner[1] + from];
                        let y = &mut y[from * c_out..][..len * c_out];
                        // SAFETY: the caller has the instruction set.
                        unsafe { with_rows!(len, tile::<V, F>(task, block, at, y)) };
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
unsafe fn tile<V: Vector, F: Factors, const M: usize>(
    task: &Task<F>,
    block: usize,
    [oy, ox]: [usize; 2],
    y: &mut [f32],
) {
    let (conv, n) = (task.conv, 2 * V::LANES);
    let kh = conv.kernel[0];
    let row_len = conv.padded_size()[1] * conv.c_in;
    let step = conv.stride * conv.c_in;
    let run = run_words::<F>(conv);
    let corner = oy * conv.stride * row_len + ox * step;
    let packed = &task.packed[block * kh * run * n..][..kh * run * n];
    let bias = &task.last.bias[block * n..][..n];
    assert!(task.x.len() >= corner + (kh - 1) * row_len + (M - 1) * step + run * F::PER_WORD);
    // SAFETY: the caller has the instruction set; the slices cut here and the assertion bound all
    // that is read.
    unsafe {
        let mut sums: Block<V, M> = [[V::load(bias), V::load(&bias[V::LANES..])]; M];
        for ky in 0..kh {
            let x = task.x.as_ptr().add(corner + ky * row_len);
            let weights = packed.as_ptr().add(ky * run * n);
            sums = rows_times::<V, F, M>(x, step, weights, run, sums);
        }
        let (from, channels) = (block * n, n.min(conv.c_out - block * n));
        let first = channels.min(V::LANES);
        for (sums, y) in sums.into_iter().zip(y.chunks_exact_mut(conv.c_out)) {
            let (low, high) = y[from..][..channels].split_at_mut(first);
            task.last.within(sums[0]).write_some(low);
            task.last.within(sums[1]).write_some(high);
        }
    }
}

//! The gradient of the weights: at each of the 16 places, transformed inputs times transformed
//! gradients, summed over tiles.
//!
//! ```text
//! dg = G^T [ sum over tiles of (B^T d B) . (A dY A^T) ] G
//! ```
//! A task has a share of the images and 64 output channels; its sums lie in its own memory, and the
//! shares are added in order, so that the result does not depend on who computed what. Factors in pairs
//! are those of two neighbouring tiles.

use super::transform::{AsNumbers, AsPartners, MOST, Patch, Write};
use super::transform::{gradient_tile, input_tile, windows_from_transforms};
use super::{PLACES, TASK_NUMBERS, place_stride, tile_stride, tiles};
use crate::conv2d::Conv2d;
use crate::conv2d::weight_gradient::{TASK_CHANNELS, TASKS, total_of_shares};
use crate::memory::with_scratch;
use crate::product::{Columns, Factors};
use crate::simd::{self, Kernel, Level, Vector};
use rayon::prelude::*;
use std::marker::PhantomData;

/// `weight_out[co, ci, ky, kx] = sum over pixels of x[pixel + (ky, kx), ci] * grad[pixel, co]`.
pub(in crate::conv2d) fn grad_weight<F: Factors>(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    grad: &[f32],
    weight_out: &mut [f32],
) {
    let n = 2 * level.lanes();
    let ranges = conv.c_out.div_ceil(TASK_CHANNELS);
    let shares = TASKS.div_ceil(ranges).min(conv.batch);
    let x_image = conv.size[0] * conv.size[1] * conv.c_in;
    let grad_image = conv.output_len() / conv.batch;
    // Share after share, each with all ranges of channels.
    let sums: Vec<Vec<f32>> = (0..shares * ranges)
        .into_par_iter()
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .map(|i| {
            let (share, range) = (i / ranges, i % ranges);
            let [from, to] = [share, share + 1].map(|s| s * conv.batch / shares);
            let channel = range * TASK_CHANNELS;
            let channels = TASK_CHANNELS.min(conv.c_out - channel);
            let mut sums = vec![0.0; channels.div_ceil(n) * PLACES * conv.c_in * n];
            let task = Task {
                conv,
                x: &x[from * x_image..to * x_image],
                grad: &grad[from * grad_image..to * grad_image],
                channel,
                channels,
                factors: PhantomData::<F>,
            };
            with_scratch(task.scratch_len(level.lanes()), |scratch| {
                let sums = &mut sums;
                simd::run(
                    level,
                    Sums {
                        task,
                        sums,
                        scratch,
                    },
                );
            });
            sums
        })
        .collect();
    finish(level, conv, &sums, ranges, weight_out);
}

/// Adds the shares and turns them into gradients of the windows.
fn finish(level: Level, conv: &Conv2d, sums: &[Vec<f32>], ranges: usize, weight_out: &mut [f32]) {
    let (c_in, n) = (conv.c_in, 2 * level.lanes());
    weight_out
        .par_chunks_mut(n * c_in * 9)
        .enumerate()
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .for_each(|(block, out)| {
            let total = total_of_shares(sums, ranges, block * n, PLACES * c_in * n, n);
            let mut u = [[0.0; MOST]; PLACES];
            let mut g = [[0.0; MOST]; 9];
            for ci in 0..c_in {
                for (place, u) in u.iter_mut().enumerate() {
                    u[..n].copy_from_slice(&total[(place * c_in + ci) * n..][..n]);
                }
                windows_from_transforms(level, &u, &mut g);
                for (lane, out) in out.chunks_exact_mut(c_in * 9).enumerate() {
                    for (out, g) in out[ci * 9..][..9].iter_mut().zip(&g) {
                        *out = g[lane];
                    }
                }
            }
        });
}

/// Some images and some output channels.
struct Task<'a, F> {
    conv: &'a Conv2d,
    x: &'a [f32],
    grad: &'a [f32],
    channel: usize,
    channels: usize,
    factors: PhantomData<F>,
}

impl<F: Factors> Task<'_, F> {
    fn image_tiles(&self) -> usize {
        tiles(self.conv).iter().product()
    }

    fn images(&self) -> usize {
        self.x.len() / (self.conv.size[0] * self.conv.size[1] * self.conv.c_in)
    }

    /// Tiles that are transformed at once.
    fn strip(&self) -> usize {
        let all = self.images() * self.image_tiles();
        (TASK_NUMBERS / (PLACES * self.conv.c_in)).max(16).min(all)
    }

    /// Numbers between two tiles of the inputs, and of the gradients.
    fn strides(&self, lanes: usize) -> [usize; 2] {
        [self.conv.c_in, self.channels].map(|c| tile_stride(c.next_multiple_of(2 * lanes), lanes))
    }

    /// Words between two places of the inputs, and of the gradients.
    fn place_strides(&self, lanes: usize) -> [usize; 2] {
        let rows = self.strip().div_ceil(F::PER_WORD);
        self.strides(lanes).map(|row| place_stride(rows * row))
    }

    /// Transformed inputs and gradients of a strip.
    fn scratch_len(&self, lanes: usize) -> usize {
        PLACES * self.place_strides(lanes).iter().sum::<usize>()
    }

    /// Transforms the inputs and gradients of one tile.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    unsafe fn transform<V: Vector, W: Write>(&self, tile: usize, x: Row, grad: Row) {
        let at = Place::of(tile, tiles(self.conv));
        // SAFETY: the caller has the instruction set.
        unsafe {
            input_tile::<V, W>(&self.patch(&at), x.words, x.place);
            self.gradient::<V, W>(&at, grad);
        }
    }

    fn patch(&self, at: &Place) -> Patch<'_> {
        let conv = self.conv;
        let len = conv.size[0] * conv.size[1] * conv.c_in;
        Patch {
            x: &self.x[at.image * len..][..len],
            size: conv.size,
            channels: conv.c_in,
            top: (2 * at.row) as isize - conv.pad[0] as isize,
            left: (2 * at.col) as isize - conv.pad[2] as isize,
        }
    }

    /// `A dY A^T` of the task's channels, with zeros outside the image and up to whole vectors.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    unsafe fn gradient<V: Vector, W: Write>(&self, at: &Place, to: Row) {
        let (conv, out, place) = (self.conv, to.words, to.place);
        let [height, width] = conv.output_size();
        let image = &self.grad[at.image * height * width * conv.c_out..];
        assert!(out.len() >= 15 * place + self.channels.next_multiple_of(2 * V::LANES));
        for from in (0..self.channels.next_multiple_of(2 * V::LANES)).step_by(V::LANES) {
            let lanes = V::LANES.min(self.channels.saturating_sub(from));
            // SAFETY: the caller has the instruction set; `out` was checked above.
            unsafe {
                let mut pixels = [V::splat(0.0); 4];
                for (i, to) in pixels.iter_mut().enumerate() {
                    let (row, col) = (2 * at.row + i / 2, 2 * at.col + i % 2);
                    if row < height && col < width && lanes > 0 {
                        let pixel = (row * width + col) * conv.c_out + self.channel + from;
                        *to = V::read_some(&image[pixel..][..lanes]);
                    }
                }
                for (p, t) in gradient_tile(pixels).into_iter().enumerate() {
                    W::write(t, out.as_mut_ptr().add(p * place), from);
                }
            }
        }
    }
}

/// A task, its sums, `[channels / N][16][C_in][N]`, and its scratch memory.
struct Sums<'a, F> {
    task: Task<'a, F>,
    sums: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl<F: Factors> Kernel for Sums<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            task,
            sums,
            scratch,
        } = self;
        let (c_in, n) = (task.conv.c_in, 2 * V::LANES);
        let (all, strip) = (task.images() * task.image_tiles(), task.strip());
        let [x_stride, g_stride] = task.strides(V::LANES);
        let [x_place, g_place] = task.place_strides(V::LANES);
        let (inputs, gradients) = scratch.split_at_mut(PLACES * x_place);
        for first in (0..all).step_by(strip) {
            let count = strip.min(all - first);
            for i in 0..count {
                let row = i / F::PER_WORD;
                let x = Row {
                    words: &mut inputs[row * x_stride..],
                    place: x_place,
                };
                let grad = Row {
                    words: &mut gradients[row * g_stride..],
                    place: g_place,
                };
                // SAFETY: the caller has the instruction set.
                unsafe {
                    if i % F::PER_WORD == 0 {
                        task.transform::<V, AsNumbers>(first + i, x, grad);
                    } else {
                        task.transform::<V, AsPartners>(first + i, x, grad);
                    }
                }
            }
            let rows = count.div_ceil(F::PER_WORD);
            if !count.is_multiple_of(F::PER_WORD) {
                pair_with_zeros::<F>(&mut inputs[(rows - 1) * x_stride..], x_place, x_stride);
                pair_with_zeros::<F>(&mut gradients[(rows - 1) * g_stride..], g_place, g_stride);
            }
            for (block, sums) in sums.chunks_exact_mut(PLACES * c_in * n).enumerate() {
                for (place, sums) in sums.chunks_exact_mut(c_in * n).enumerate() {
                    let columns = Columns {
                        a: &inputs[place * x_place..][..rows * x_stride],
                        a_stride: x_stride,
                        b: &gradients[place * g_place + block * n..],
                        b_stride: g_stride,
                        count: rows,
                    };
                    // SAFETY: the caller has the instruction set, and the slices their lengths.
                    unsafe { columns.add_to::<V, F>(c_in, sums) };
                }
            }
        }
    }
}

/// The row of one tile, or of a pair of them, in each of the sixteen places.
struct Row<'a> {
    /// From the row in the first place on.
    words: &'a mut [f32],
    /// Words between two places.
    place: usize,
}

/// Makes pairs of a row of numbers that has no partner.
fn pair_with_zeros<F: Factors>(words: &mut [f32], place: usize, len: usize) {
    for row in words.chunks_mut(place).take(PLACES) {
        for word in &mut row[..len] {
            *word = F::word(*word, 0.0);
        }
    }
}

/// Which tile of which image.
struct Place {
    image: usize,
    row: usize,
    col: usize,
}

impl Place {
    fn of(tile: usize, [rows, cols]: [usize; 2]) -> Self {
        Self {
            image: tile / (rows * cols),
            row: tile / cols % rows,
            col: tile % cols,
        }
    }
}

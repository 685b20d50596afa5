//! 3x3 convolutions with 16 multiplications for 4 outputs instead of 36 (Winograd 1980; Lavin and
//! Gray 2016, F(2x2, 3x3)).
//!
//! ```text
//! Y = A^T [ (G g G^T) . (B^T d B) ] A          d: 4x4 inputs, g: 3x3 weights, Y: 2x2 outputs
//! ```
//! Summed over input channels, the products of each of the 16 places are a matrix product over tiles.
//! The transformed inputs of some tiles and their products with 32 channels stay in the second-level
//! cache and never go to memory. The transforms only add and halve, and the result
//! differs from direct summation by a few roundings.

mod transform;
mod weight_gradient;

pub(super) use weight_gradient::grad_weight;

use super::{Conv2d, Last, Weights};
use crate::memory::with_scratch;
use crate::product::{Block, Factors, even_blocks, rows_times, with_rows};
use crate::simd::{self, Kernel, Level, Vector};
use rayon::prelude::*;
use std::marker::PhantomData;
use transform::{InRow, OutputPlace, Patch, input_tile, output_tile};

/// Places of a transformed tile.
const PLACES: usize = 16;

/// Numbers of transformed input that one task holds: with the products and the weights of one place they
/// fit into a second-level cache of 512 KiB.
const TASK_NUMBERS: usize = 3 << 15;

/// Whether a convolution is one that this file does, and does faster than direct summation. It must
/// not depend on the batch: an image's result may not.
pub(super) fn suits(conv: &Conv2d) -> bool {
    conv.kernel == [3, 3]
        && conv.stride == 1
        && conv.c_in >= 16
        && conv.c_out >= 16
        && conv.pad.iter().all(|&pad| pad <= 2)
}

/// Tiles of an image: rows and columns of 2x2 outputs.
fn tiles(conv: &Conv2d) -> [usize; 2] {
    conv.output_size().map(|n| n.div_ceil(2))
}

/// Words between two tiles of `channels` words: whole vectors, and never a multiple of 512 bytes, a
/// stride at which rows share few places of the first-level cache.
fn tile_stride(channels: usize, lanes: usize) -> usize {
    let whole = channels.next_multiple_of(lanes);
    if whole.is_multiple_of(128) {
        whole + 16
    } else {
        whole
    }
}

/// Words between two places: an odd number of cache lines. A tile is written to and read from sixteen
/// places at once; at multiples of 4096 bytes all would share one set of the first-level cache.
fn place_stride(words: usize) -> usize {
    16 * (words.div_ceil(16) | 1)
}

/// Whole images, or rows of tiles of one image: what one task computes.
struct Share {
    images: usize,
    rows: usize,
}

fn share(conv: &Conv2d) -> Share {
    let [rows, cols] = tiles(conv);
    let budget = (TASK_NUMBERS / (PLACES * conv.c_in)).max(12);
    if rows * cols >= budget {
        let rows = (budget / cols).clamp(1, rows);
        return Share { images: 1, rows };
    }
    // At least eight tasks, where there are so many images.
    let images = (budget / (rows * cols)).clamp(1, conv.batch.div_ceil(8));
    Share { images, rows }
}

/// `y = conv(x, weights)`, and what is done `last`.
pub(super) fn forward<F: Factors>(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    weights: &Weights,
    last: &Last,
    y: &mut [f32],
) {
    let lanes = level.lanes();
    let packed = transform::pack_weights::<F>(level, conv, weights);
    let (share, [_, width]) = (share(conv), conv.output_size());
    let x_image = conv.size[0] * conv.size[1] * conv.c_in;
    let y_image = conv.output_len() / conv.batch;
    let work = |first_row: usize, x: &[f32], y: &mut [f32]| {
        let task = Task {
            conv,
            x,
            packed: &packed,
            last,
            first_row,
            factors: PhantomData::<F>,
        };
        let scratch_len = task.scratch_len(y, lanes);
        with_scratch(scratch_len, |scratch| {
            simd::run(level, Tiles { task, y, scratch })
        });
    };
    y.par_chunks_mut(share.images * y_image)
        .zip(x.par_chunks(share.images * x_image))
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .for_each(|(y, x)| {
            if share.images > 1 {
                return work(0, x, y);
            }
            y.par_chunks_mut(share.rows * 2 * width * conv.c_out)
                .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
                .enumerate()
                .for_each(|(i, y)| work(i * share.rows, x, y));
        });
}

/// Some whole images, or some rows of tiles of one.
struct Task<'a, F> {
    conv: &'a Conv2d,
    x: &'a [f32],
    /// See [`transform::pack_weights`].
    packed: &'a [f32],
    last: &'a Last,
    /// The first row of tiles.
    first_row: usize,
    factors: PhantomData<F>,
}

impl<F: Factors> Task<'_, F> {
    /// Images, and rows and columns of tiles in each, of a task that writes `y`.
    fn tiles(&self, y: &[f32]) -> [usize; 3] {
        let conv = self.conv;
        let images = self.x.len() / (conv.size[0] * conv.size[1] * conv.c_in);
        let pixel_rows = y.len() / images / (conv.output_size()[1] * conv.c_out);
        [images, pixel_rows.div_ceil(2), tiles(conv)[1]]
    }

    /// Transformed inputs of all tiles, and the products of one block.
    fn scratch_len(&self, y: &[f32], lanes: usize) -> usize {
        let count: usize = self.tiles(y).iter().product();
        let rows = [self.stride(lanes), 2 * lanes];
        PLACES
            * rows
                .map(|row| place_stride(count * row))
                .iter()
                .sum::<usize>()
    }

    /// Words between two tiles of the transformed input.
    fn stride(&self, lanes: usize) -> usize {
        tile_stride(self.words(), lanes)
    }

    /// Words of one place of a tile of the transformed input.
    fn words(&self) -> usize {
        self.conv.c_in.div_ceil(F::PER_WORD)
    }
}

/// A task, where its results go, and its scratch memory.
struct Tiles<'a, F> {
    task: Task<'a, F>,
    y: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl<F: Factors> Kernel for Tiles<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { task, y, scratch } = self;
        let (conv, n) = (task.conv, 2 * V::LANES);
        let [images, rows, cols] = task.tiles(y);
        let (x_image, y_image) = (task.x.len() / images, y.len() / images);
        let width = conv.output_size()[1];
        let (count, stride) = (images * rows * cols, task.stride(V::LANES));
        let (x_place, y_place) = (place_stride(count * stride), place_stride(count * n));
        let (inputs, products) = scratch.split_at_mut(PLACES * x_place);
        for tile in 0..count {
            let (image, row, col) = (tile / (rows * cols), tile / cols % rows, tile % cols);
            let patch = Patch {
                x: &task.x[image * x_image..][..x_image],
                size: conv.size,
                channels: conv.c_in,
                top: (2 * (task.first_row + row)) as isize - conv.pad[0] as isize,
                left: (2 * col) as isize - conv.pad[2] as isize,
            };
            // SAFETY: the caller has the instruction set; there are `count` tiles in each of the 16
            // places of `inputs`.
            unsafe { input_tile::<V, InRow<F>>(&patch, &mut inputs[tile * stride..], x_place) };
        }
        for block in 0..conv.c_out.div_ceil(n) {
            let words = task.words();
            let packed = &task.packed[block * PLACES * words * n..][..PLACES * words * n];
            // Place by place, so that the weights of one stay in the first-level cache for all tiles.
            for place in 0..PLACES {
                let product = Product {
                    inputs: &inputs[place * x_place..][..count * stride],
                    stride,
                    packed: &packed[place * words * n..][..words * n],
                };
                let products = &mut products[place * y_place..][..count * n];
                for (from, len) in even_blocks(count, V::ROWS) {
                    // SAFETY: the caller has the instruction set.
                    unsafe { with_rows!(len, multiply::<V, F>(&product, from, products)) };
                }
            }
            for tile in 0..count {
                let (image, row, col) = (tile / (rows * cols), tile / cols % rows, tile % cols);
                let place = OutputPlace {
                    y: &mut y[image * y_image..][..y_image],
                    width,
                    channels: conv.c_out,
                    row: 2 * row,
                    col: 2 * col,
                    channel: block * n,
                };
                // SAFETY: the caller has the instruction set; every place has `count` tiles.
                unsafe { output_tile::<V>(&products[tile * n..], y_place, task.last, place) };
            }
        }
    }
}

/// Tiles and a block of output channels at one place.
struct Product<'a> {
    /// `[tiles][stride]`.
    inputs: &'a [f32],
    stride: usize,
    /// `[words][N]`.
    packed: &'a [f32],
}

/// Writes rows `from` to `from + M` of `products`, `[tiles][N]`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn multiply<V: Vector, F: Factors, const M: usize>(
    product: &Product,
    from: usize,
    products: &mut [f32],
) {
    let n = 2 * V::LANES;
    let k = product.packed.len() / n;
    let inputs = &product.inputs[from * product.stride..];
    let products = &mut products[from * n..][..M * n];
    assert!(inputs.len() >= (M - 1) * product.stride + k);
    // SAFETY: the asserted lengths hold all that is read and written.
    unsafe {
        let mut block: Block<V, M> = [[V::splat(0.0); 2]; M];
        let (a, b) = (inputs.as_ptr().cast(), product.packed.as_ptr());
        block = rows_times::<V, F, M>(a, product.stride * F::PER_WORD, b, k, block);
        for (sums, out) in block.into_iter().zip(products.chunks_exact_mut(n)) {
            sums[0].store(out);
            sums[1].store(&mut out[V::LANES..]);
        }
    }
}

//! The transforms of F(2x2, 3x3), a vector of channels at a time.
//!
//! ```text
//!       1  0 -1  0           1    0    0
//! B^T = 0  1  1  0     G  =  1/2  1/2  1/2      A^T = 1  1  1  0
//!       0 -1  1  0           1/2 -1/2  1/2            0  1 -1 -1
//!       0  1  0 -1           0    0    1
//! ```

use super::PLACES;
use crate::bf16;
use crate::conv2d::{Conv2d, Last, Weights};
use crate::product::{Factors, Whole};
use crate::simd::{Level, Vector, compiled_for_each_level};
use rayon::prelude::*;
use std::marker::PhantomData;

/// A 4x4 window of an image whose corner may lie outside it.
pub(super) struct Patch<'a> {
    /// `[H, W, C]`.
    pub x: &'a [f32],
    pub size: [usize; 2],
    pub channels: usize,
    pub top: isize,
    pub left: isize,
}

impl Patch<'_> {
    /// Whether all of the window lies in the image.
    fn is_inside(&self) -> bool {
        let fits = |from: isize, size: usize| from >= 0 && from as usize + 4 <= size;
        fits(self.top, self.size[0]) && fits(self.left, self.size[1])
    }

    /// Where pixel (`row`, `col`) of the window starts, or `None` outside the image.
    fn pixel(&self, row: usize, col: usize) -> Option<usize> {
        let y = usize::try_from(self.top + row as isize).ok()?;
        let x = usize::try_from(self.left + col as isize).ok()?;
        (y < self.size[0] && x < self.size[1]).then(|| (y * self.size[1] + x) * self.channels)
    }
}

/// How transformed inputs are written.
pub(super) trait Write {
    /// Factors of one tile in a word.
    const PER_WORD: usize;
    /// Writes the channels from `channel` on to the row that starts at `to`.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`; the row has room for them.
    unsafe fn write<V: Vector>(t: V, to: *mut f32, channel: usize);
}

/// As factors, channel after channel.
pub(super) struct InRow<F>(PhantomData<F>);

/// As numbers: also the first factors of pairs, until their partners come.
pub(super) type AsNumbers = InRow<Whole>;

/// As the second factors of pairs, whose first ones are there as numbers.
pub(super) struct AsPartners;

impl<F: Factors> Write for InRow<F> {
    const PER_WORD: usize = F::PER_WORD;

    #[inline(always)]
    unsafe fn write<V: Vector>(t: V, to: *mut f32, channel: usize) {
        // SAFETY: the caller's.
        unsafe { F::write(t, to.cast::<F::Number>().add(channel)) }
    }
}

impl Write for AsPartners {
    const PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn write<V: Vector>(t: V, to: *mut f32, channel: usize) {
        // SAFETY: the caller's.
        unsafe {
            let to = to.add(channel);
            V::pair(V::read(to), t).write(to);
        }
    }
}

/// `B^T d B` of every channel. Place `p` goes to `out[p * place..]`, `C` of them and zeros up to a
/// whole vector.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn input_tile<V: Vector, W: Write>(patch: &Patch, out: &mut [f32], place: usize) {
    let c = patch.channels;
    assert!(out.len() >= 15 * place + c.next_multiple_of(V::LANES) / W::PER_WORD);
    let mut from = 0;
    if patch.is_inside() {
        let corner = (patch.top as usize * patch.size[1] + patch.left as usize) * c;
        let row_len = patch.size[1] * c;
        assert!(patch.x.len() >= corner + 3 * row_len + 4 * c);
        while from + V::LANES <= c {
            // SAFETY: the caller has the instruction set; the asserted lengths hold the window and
            // all places.
            unsafe {
                let x = patch.x.as_ptr().add(corner + from);
                let mut d = [[V::splat(0.0); 4]; 4];
                for (row, d) in d.iter_mut().enumerate() {
                    for (col, d) in d.iter_mut().enumerate() {
                        *d = V::read(x.add(row * row_len + col * c));
                    }
                }
                write_transformed::<V, W>(d, out.as_mut_ptr(), from, place);
            }
            from += V::LANES;
        }
    }
    while from < c {
        let lanes = V::LANES.min(c - from);
        // SAFETY: the caller has the instruction set; the asserted length holds all places.
        unsafe {
            let mut d = [[V::splat(0.0); 4]; 4];
            for (row, d) in d.iter_mut().enumerate() {
                for (col, d) in d.iter_mut().enumerate() {
                    if let Some(at) = patch.pixel(row, col) {
                        *d = V::read_some(&patch.x[at + from..][..lanes]);
                    }
                }
            }
            write_transformed::<V, W>(d, out.as_mut_ptr(), from, place);
        }
        from += V::LANES;
    }
}

/// Writes `B^T d B`, a vector for each place.
///
/// # Safety
/// The machine has the instruction set of `V`; `out` has sixteen places.
#[inline(always)]
unsafe fn write_transformed<V: Vector, W: Write>(
    d: [[V; 4]; 4],
    out: *mut f32,
    channel: usize,
    place: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut half = [[V::splat(0.0); 4]; 4];
        for col in 0..4 {
            let t = b_transposed([d[0][col], d[1][col], d[2][col], d[3][col]]);
            for (half, t) in half.iter_mut().zip(t) {
                half[col] = t;
            }
        }
        for (row, half) in half.into_iter().enumerate() {
            for (col, t) in b_transposed(half).into_iter().enumerate() {
                W::write(t, out.add((row * 4 + col) * place), channel);
            }
        }
    }
}

/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn b_transposed<V: Vector>(d: [V; 4]) -> [V; 4] {
    // SAFETY: the caller's.
    unsafe {
        [
            d[0].sub(d[2]),
            d[1].add(d[2]),
            d[2].sub(d[1]),
            d[1].sub(d[3]),
        ]
    }
}

/// Where a tile of outputs goes.
pub(super) struct OutputPlace<'a> {
    /// `[rows, W, C]`.
    pub y: &'a mut [f32],
    pub width: usize,
    pub channels: usize,
    pub row: usize,
    pub col: usize,
    /// The block's first channel.
    pub channel: usize,
}

/// `A^T m A`, and what is done `last`, of two vectors of channels; place `p` is read from `m[p * place..]`. Writes what
/// lies inside the image.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn output_tile<V: Vector>(m: &[f32], place: usize, last: &Last, to: OutputPlace) {
    let bias = &last.bias[to.channel..];
    assert!(m.len() >= 15 * place + 2 * V::LANES && bias.len() >= 2 * V::LANES);
    let rows = to.y.len() / (to.width * to.channels);
    for half in 0..2 {
        let channel = to.channel + half * V::LANES;
        if channel >= to.channels {
            return;
        }
        let lanes = V::LANES.min(to.channels - channel);
        // SAFETY: the caller has the instruction set; the reads were checked above.
        unsafe {
            let bias = V::read(bias.as_ptr().add(half * V::LANES));
            let [mut above, mut below] = [[V::splat(0.0); 4]; 2];
            for (col, (above, below)) in above.iter_mut().zip(&mut below).enumerate() {
                let mut column = [V::splat(0.0); 4];
                for (row, m_row) in column.iter_mut().enumerate() {
                    *m_row = V::read(m.as_ptr().add((row * 4 + col) * place + half * V::LANES));
                }
                [*above, *below] = a_transposed(column);
            }
            for (dy, t) in [above, below].into_iter().enumerate() {
                for (dx, y) in a_transposed(t).into_iter().enumerate() {
                    let (row, col) = (to.row + dy, to.col + dx);
                    if row < rows && col < to.width {
                        let at = (row * to.width + col) * to.channels + channel;
                        last.within(y.add(bias))
                            .write_some(&mut to.y[at..at + lanes]);
                    }
                }
            }
        }
    }
}

/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn a_transposed<V: Vector>(m: [V; 4]) -> [V; 2] {
    // SAFETY: the caller's.
    unsafe { [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).sub(m[3])] }
}

/// `A y A^T` of one vector of channels: the transpose of what the forward pass does to products.
/// `gradient` has the pixels (0, 0), (0, 1), (1, 0), (1, 1).
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn gradient_tile<V: Vector>(gradient: [V; 4]) -> [V; PLACES] {
    // SAFETY: the caller's.
    unsafe {
        let left = a_times([gradient[0], gradient[2]]);
        let right = a_times([gradient[1], gradient[3]]);
        let mut out = [V::splat(0.0); PLACES];
        for row in 0..4 {
            for (col, t) in a_times([left[row], right[row]]).into_iter().enumerate() {
                out[row * 4 + col] = t;
            }
        }
        out
    }
}

/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn a_times<V: Vector>(y: [V; 2]) -> [V; 4] {
    // SAFETY: the caller's.
    unsafe {
        [
            y[0],
            y[0].add(y[1]),
            y[0].sub(y[1]),
            V::splat(0.0).sub(y[1]),
        ]
    }
}

/// Channels of the largest block: two vectors of AVX-512; under Miri, which has no vectors, of plain code.
pub(super) const MOST: usize = if cfg!(miri) { 16 } else { 32 };

/// `G g G^T` of all weights, as the products read them: `[C_out / N][16][C_in][N]` in words, `N` two
/// vectors, the last word and the last block padded with zeros.
pub(super) fn pack_weights<F: Factors>(level: Level, conv: &Conv2d, weights: &Weights) -> Vec<f32> {
    let (n, c_in) = (2 * level.lanes(), conv.c_in);
    let words = c_in.div_ceil(F::PER_WORD);
    let mut packed = vec![0.0; conv.c_out.div_ceil(n) * PLACES * words * n];
    packed
        .par_chunks_mut(PLACES * words * n)
        .enumerate()
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .for_each(|(block, out)| {
            let channels = n.min(conv.c_out - block * n);
            let mut g = [[0.0; MOST]; 9];
            let mut u = [[0.0; MOST]; PLACES];
            for ci in 0..c_in {
                for lane in 0..channels {
                    let window = weights.window(block * n + lane, ci);
                    for (g, weight) in g.iter_mut().zip(window) {
                        g[lane] = weight;
                    }
                }
                transform_windows(level, &g, &mut u);
                for (place, u) in u.iter().enumerate() {
                    let out = &mut out[(place * words + ci / F::PER_WORD) * n..][..n];
                    for (word, &u) in out.iter_mut().zip(u) {
                        // The second of a pair joins the first, which was paired with zero.
                        *word = if ci % F::PER_WORD == 0 {
                            F::word(u, 0.0)
                        } else {
                            F::word(bf16::low(*word), u)
                        };
                    }
                }
            }
        });
    packed
}

compiled_for_each_level! {
    /// `G g G^T` of a window in each lane.
    fn transform_windows(g: &[[f32; MOST]; 9], u: &mut [[f32; MOST]; PLACES]) {
        for lane in 0..MOST {
            let mut half = [[0.0; 3]; 4];
            for x in 0..3 {
                let column = side([g[x][lane], g[3 + x][lane], g[6 + x][lane]]);
                for (half, t) in half.iter_mut().zip(column) {
                    half[x] = t;
                }
            }
            for (row, half) in half.into_iter().enumerate() {
                for (x, t) in side(half).into_iter().enumerate() {
                    u[row * 4 + x][lane] = t;
                }
            }
        }
    }
}

/// `G g` of one column.
#[inline(always)]
fn side(g: [f32; 3]) -> [f32; 4] {
    let (even, odd) = (0.5 * (g[0] + g[2]), 0.5 * g[1]);
    [g[0], even + odd, even - odd, g[2]]
}

compiled_for_each_level! {
    /// `G^T u G` in each lane: the gradient of a window from that of its transform.
    pub(super) fn windows_from_transforms(u: &[[f32; MOST]; PLACES], g: &mut [[f32; MOST]; 9]) {
        for lane in 0..MOST {
            let mut half = [[0.0; 4]; 3];
            for x in 0..4 {
                let column = [u[x][lane], u[4 + x][lane], u[8 + x][lane], u[12 + x][lane]];
                for (half, t) in half.iter_mut().zip(side_transposed(column)) {
                    half[x] = t;
                }
            }
            for (row, half) in half.into_iter().enumerate() {
                for (x, t) in side_transposed(half).into_iter().enumerate() {
                    g[row * 3 + x][lane] = t;
                }
            }
        }
    }
}

/// `G^T u` of one column.
#[inline(always)]
fn side_transposed(u: [f32; 4]) -> [f32; 3] {
    let (sum, difference) = (0.5 * (u[1] + u[2]), 0.5 * (u[1] - u[2]));
    [u[0] + sum, difference, sum + u[3]]
}

//! The transforms of F(2x2, 3x3), a vector of channels at a time.
//!
//! ```text
//!       1  0 -1  0           1    0    0
//! B^T = 0  1  1  0     G  =  1/2  1/2  1/2      A^T = 1  1  1  0
//!       0 -1  1  0           1/2 -1/2  1/2            0  1 -1 -1
//!       0  1  0 -1           0    0    1
//! ```

use super::PLACES;
use crate::conv2d::{Conv2d, Weights};
use crate::simd::Vector;
use rayon::prelude::*;

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
    /// Where pixel (`row`, `col`) of the window starts, or `None` outside the image.
    fn pixel(&self, row: usize, col: usize) -> Option<usize> {
        let y = usize::try_from(self.top + row as isize).ok()?;
        let x = usize::try_from(self.left + col as isize).ok()?;
        (y < self.size[0] && x < self.size[1]).then(|| (y * self.size[1] + x) * self.channels)
    }
}

/// `B^T d B` of every channel. Place `p` goes to `out[p * place..]`, `C` numbers and zeros up to a
/// whole vector.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn input_tile<V: Vector>(patch: &Patch, out: &mut [f32], place: usize) {
    let c = patch.channels;
    assert!(out.len() >= 15 * place + c.next_multiple_of(V::LANES));
    let pixels: [Option<usize>; 16] = std::array::from_fn(|i| patch.pixel(i / 4, i % 4));
    for channel in (0..c).step_by(V::LANES) {
        let lanes = V::LANES.min(c - channel);
        // SAFETY: the caller has the instruction set; pixels inside the image have `c` channels, and
        // `out` was checked above.
        unsafe {
            // B^T d, column by column.
            let mut half = [[V::splat(0.0); 4]; 4];
            for col in 0..4 {
                let mut d = [V::splat(0.0); 4];
                for (row, d) in d.iter_mut().enumerate() {
                    if let Some(at) = pixels[row * 4 + col] {
                        *d = V::read_some(&patch.x[at + channel..][..lanes]);
                    }
                }
                let t = b_transposed(d);
                for (half, t) in half.iter_mut().zip(t) {
                    half[col] = t;
                }
            }
            for (row, d) in half.into_iter().enumerate() {
                for (col, t) in b_transposed(d).into_iter().enumerate() {
                    t.write(out.as_mut_ptr().add((row * 4 + col) * place + channel));
                }
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

/// `A^T m A + bias` of two vectors of channels; place `p` is read from `m[p * place..]`. Writes what
/// lies inside the image.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn output_tile<V: Vector>(
    m: &[f32],
    place: usize,
    bias: &[f32],
    to: OutputPlace,
) {
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
                        y.add(bias).write_some(&mut to.y[at..at + lanes]);
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

/// `G g G^T` of all weights, as the products read them: `[C_out / N][16][C_in][N]`, `N` two vectors,
/// the last block padded with zeros.
pub(super) fn pack_weights(conv: &Conv2d, weights: &Weights, lanes: usize) -> Vec<f32> {
    let (n, c_in) = (2 * lanes, conv.c_in);
    let mut packed = vec![0.0; conv.c_out.div_ceil(n) * PLACES * c_in * n];
    packed
        .par_chunks_mut(PLACES * c_in * n)
        .enumerate()
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .for_each(|(block, out)| {
            for co in block * n..conv.c_out.min((block + 1) * n) {
                let lane = co - block * n;
                for ci in 0..c_in {
                    for (place, u) in g_both_sides(weights.window(co, ci)).into_iter().enumerate() {
                        out[(place * c_in + ci) * n + lane] = u;
                    }
                }
            }
        });
    packed
}

/// `G g G^T` of one window.
fn g_both_sides(g: [f32; 9]) -> [f32; PLACES] {
    let side = |g: [f32; 3]| {
        let (even, odd) = (0.5 * (g[0] + g[2]), 0.5 * g[1]);
        [g[0], even + odd, even - odd, g[2]]
    };
    let columns: [[f32; 4]; 3] = std::array::from_fn(|x| side([g[x], g[3 + x], g[6 + x]]));
    let mut out = [0.0; PLACES];
    for row in 0..4 {
        let t = side([columns[0][row], columns[1][row], columns[2][row]]);
        out[row * 4..][..4].copy_from_slice(&t);
    }
    out
}

/// `G^T u G`: the gradient of a window from that of its transform.
pub(super) fn g_transposed(u: [f32; PLACES]) -> [f32; 9] {
    let side = |u: [f32; 4]| {
        let (sum, difference) = (0.5 * (u[1] + u[2]), 0.5 * (u[1] - u[2]));
        [u[0] + sum, difference, sum + u[3]]
    };
    let columns: [[f32; 3]; 4] =
        std::array::from_fn(|x| side([u[x], u[4 + x], u[8 + x], u[12 + x]]));
    let mut out = [0.0; 9];
    for row in 0..3 {
        let t = side(std::array::from_fn(|x| columns[x][row]));
        out[row * 3..][..3].copy_from_slice(&t);
    }
    out
}

//! Feature-wise modulation (FiLM; Perez et al. 2018, arXiv:1709.07871), with SiLU in the same pass where asked.
//!
//! ```text
//! u_pc = (1 + scale_rc) h_pc + shift_rc        y = u, or u * sigmoid(u)
//! ```
//! A row `r` of scales and shifts belongs to as many rows `p` of `h`, one after the other, as there are for
//! each: one where every pixel has its own, many where all pixels of all images share it. Work of the
//! memory alone: as single operations it took five passes forward and eight back. Backward keeps the
//! inputs only.

use crate::rows::rows_per_task;
use crate::silu::{sigmoid, silu_slope};
use crate::simd::{self, Level, compiled_for_each_level};
use rayon::prelude::*;

/// Rows whose gradients are added up before the sums are added: long sums in f32 lose digits.
const ROWS_PER_SUM: usize = 64;

/// The sizes of a modulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Film {
    /// Channels, `C`.
    pub channels: usize,
    /// Whether SiLU follows.
    pub silu: bool,
}

impl Film {
    /// Rows of `h` for each row of scales and shifts.
    fn shared_by(&self, h: &[f32], rows: &[f32]) -> usize {
        let c = self.channels;
        assert!(c > 0, "film: no channel");
        assert!(rows.len().is_multiple_of(2 * c), "film: scales and shifts");
        let count = rows.len() / (2 * c);
        let shared = (h.len() / c).checked_div(count).unwrap_or(0);
        assert_eq!(h.len(), count * shared * c, "film: rows for each scale");
        shared
    }
}

compiled_for_each_level! {
    fn forward_rows(film: Film, shared: usize, h: &[f32], rows: &[f32], y: &mut [f32]) {
        if film.silu {
            modulate::<true>(film.channels, shared, h, rows, y);
        } else {
            modulate::<false>(film.channels, shared, h, rows, y);
        }
    }
}

#[inline(always)]
fn modulate<const SILU: bool>(c: usize, shared: usize, h: &[f32], rows: &[f32], y: &mut [f32]) {
    let blocks = h
        .chunks_exact(shared * c)
        .zip(y.chunks_exact_mut(shared * c));
    for (row, (h, y)) in rows.chunks_exact(2 * c).zip(blocks) {
        let (scale, shift) = row.split_at(c);
        for (h, y) in h.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            for (((y, &h), &scale), &shift) in y.iter_mut().zip(h).zip(scale).zip(shift) {
                let u = h + h * scale + shift;
                *y = if SILU { u * sigmoid(u) } else { u };
            }
        }
    }
}

/// What a backward pass reads and writes.
struct Backward<'a> {
    h: &'a [f32],
    rows: &'a [f32],
    grad: &'a [f32],
    h_grad: &'a mut [f32],
    rows_grad: &'a mut [f32],
}

compiled_for_each_level! {
    fn backward_rows(film: Film, shared: usize, run: Backward<'_>) {
        if film.silu {
            backward_run::<true>(film.channels, shared, run);
        } else {
            backward_run::<false>(film.channels, shared, run);
        }
    }
}

#[inline(always)]
fn backward_run<const SILU: bool>(c: usize, shared: usize, run: Backward<'_>) {
    let mut sums = vec![0.0; 2 * c];
    let block = shared * c;
    let ins = run.h.chunks_exact(block).zip(run.grad.chunks_exact(block));
    let outs = run
        .h_grad
        .chunks_exact_mut(block)
        .zip(run.rows_grad.chunks_exact_mut(2 * c));
    for ((row, (h, grad)), (h_grad, row_grad)) in run.rows.chunks_exact(2 * c).zip(ins).zip(outs) {
        row_grad.fill(0.0);
        let part = ROWS_PER_SUM * c;
        let parts = h
            .chunks(part)
            .zip(grad.chunks(part))
            .zip(h_grad.chunks_mut(part));
        for ((h, grad), h_grad) in parts {
            sums.fill(0.0);
            backward_part::<SILU>(row, h, grad, h_grad, &mut sums);
            for (total, &sum) in row_grad.iter_mut().zip(&sums) {
                *total += sum;
            }
        }
    }
}

/// Writes `h_grad`, and adds to `sums` the gradients of the scales and of the shifts.
#[inline(always)]
fn backward_part<const SILU: bool>(
    row: &[f32],
    h: &[f32],
    grad: &[f32],
    h_grad: &mut [f32],
    sums: &mut [f32],
) {
    let c = row.len() / 2;
    let (scale, shift) = row.split_at(c);
    let (scale_sums, shift_sums) = sums.split_at_mut(c);
    let ins = h.chunks_exact(c).zip(grad.chunks_exact(c));
    for ((h, grad), h_grad) in ins.zip(h_grad.chunks_exact_mut(c)) {
        for i in 0..c {
            let (h, scale) = (h[i], scale[i]);
            let du = if SILU {
                grad[i] * silu_slope(h + h * scale + shift[i])
            } else {
                grad[i]
            };
            h_grad[i] = du + du * scale;
            scale_sums[i] += du * h;
            shift_sums[i] += du;
        }
    }
}

/// Modulates `h`.
///
/// # Shapes
/// - `h`, `y`: `[rows n, C]`; `rows`: `[rows, 2 C]`, scales and then shifts, each for `n` rows of `h`
///
/// # Panics
/// If a slice does not have its length, or there is no channel.
pub fn forward(film: Film, h: &[f32], rows: &[f32], y: &mut [f32]) {
    forward_at(simd::level(), film, h, rows, y);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(level: Level, film: Film, h: &[f32], rows: &[f32], y: &mut [f32]) {
    let shared = film.shared_by(h, rows);
    assert_eq!(h.len(), y.len(), "film: output");
    if h.is_empty() {
        return;
    }
    let block = shared * film.channels;
    let task = rows_per_task(block);
    y.par_chunks_mut(task * block)
        .zip(h.par_chunks(task * block))
        .zip(rows.par_chunks(task * 2 * film.channels))
        .for_each(|((y, h), rows)| forward_rows(level, film, shared, h, rows, y));
}

/// The gradients of `h` and `rows` of [`forward`], given that of its output.
///
/// # Shapes
/// - `h`, `grad`, `h_grad`: `[rows n, C]`; `rows`, `rows_grad`: `[rows, 2 C]`
///
/// # Panics
/// If a slice does not have its length, or there is no channel.
pub fn backward(
    film: Film,
    h: &[f32],
    rows: &[f32],
    grad: &[f32],
    h_grad: &mut [f32],
    rows_grad: &mut [f32],
) {
    backward_at(simd::level(), film, h, rows, grad, h_grad, rows_grad);
}

/// [`backward`] with the instruction set of choice.
pub fn backward_at(
    level: Level,
    film: Film,
    h: &[f32],
    rows: &[f32],
    grad: &[f32],
    h_grad: &mut [f32],
    rows_grad: &mut [f32],
) {
    let shared = film.shared_by(h, rows);
    assert_eq!(h.len(), grad.len(), "film: gradient");
    assert_eq!(h.len(), h_grad.len(), "film: gradient of the input");
    assert_eq!(rows.len(), rows_grad.len(), "film: gradient of the scales");
    if h.is_empty() {
        return rows_grad.fill(0.0);
    }
    let block = shared * film.channels;
    let task = rows_per_task(block);
    let (long, short) = (task * block, task * 2 * film.channels);
    let ins = h
        .par_chunks(long)
        .zip(grad.par_chunks(long))
        .zip(rows.par_chunks(short));
    h_grad
        .par_chunks_mut(long)
        .zip(rows_grad.par_chunks_mut(short))
        .zip(ins)
        .for_each(|((h_grad, rows_grad), ((h, grad), rows))| {
            let run = Backward {
                h,
                rows,
                grad,
                h_grad,
                rows_grad,
            };
            backward_rows(level, film, shared, run);
        });
}

#[cfg(test)]
mod tests;

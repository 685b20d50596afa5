//! Matrices in panels, and the products that read them.
//!
//! A panel has all rows of two vectors of columns, one after the other: `[columns / n][rows][n]`,
//! `n = 2 * LANES`, the last panel padded with zeros. So the inner loops of [`crate::product`] read in
//! order, whatever the number of columns.

use super::rows::{Rows, RowsMut};
use crate::product::{Block, Whole, columns_times, even_blocks, rows_times, with_rows};
use crate::simd::{Kernel, Vector};
use std::hint::black_box;

/// Copies rows of parts of `len` numbers to `[count][parts][wide]`, with zeros after each part.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn gather<V: Vector>(rows: Rows, len: usize, wide: usize, to: &mut [f32]) {
    let parts = rows.len() / len;
    assert!(parts * len == rows.len() && wide >= len && wide.is_multiple_of(V::LANES));
    for (i, to) in to.chunks_exact_mut(parts * wide).enumerate() {
        let parts = rows.row(i).chunks_exact(len);
        for (part, to) in parts.zip(to.chunks_exact_mut(wide)) {
            for (chunk, to) in to.chunks_exact_mut(V::LANES).enumerate() {
                let from = (chunk * V::LANES).min(len);
                // SAFETY: the caller has the instruction set.
                unsafe { V::read_some(&part[from..]).store(to) };
            }
        }
    }
}

/// Copies `[count][parts][wide]` to rows of parts of `len` numbers.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn scatter<V: Vector>(from: &[f32], wide: usize, len: usize, to: &mut RowsMut) {
    let parts = to.len() / len;
    assert!(parts * len == to.len() && wide >= len && from.len() == to.count() * parts * wide);
    for (i, from) in from.chunks_exact(parts * wide).enumerate() {
        let parts = to.row(i).chunks_exact_mut(len);
        for (from, part) in from.chunks_exact(wide).zip(parts) {
            let chunks = from[..len].chunks(V::LANES);
            for (from, to) in chunks.zip(part.chunks_mut(V::LANES)) {
                // SAFETY: the caller has the instruction set.
                unsafe { V::read_some(from).write_some(to) };
            }
        }
    }
}

/// Writes `rows` times `scale` in panels.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn pack<V: Vector>(rows: Rows, scale: f32, to: &mut [f32]) {
    let n = 2 * V::LANES;
    assert_eq!(to.len(), rows.len().next_multiple_of(n) * rows.count());
    for (panel, to) in to.chunks_exact_mut(rows.count() * n).enumerate() {
        for (i, to) in to.chunks_exact_mut(n).enumerate() {
            let row = &rows.row(i)[panel * n..];
            let (low, high) = row.split_at(row.len().min(V::LANES));
            // SAFETY: the caller has the instruction set.
            unsafe {
                let scale = V::splat(scale);
                V::read_some(low).mul(scale).store(to);
                V::read_some(high).mul(scale).store(&mut to[V::LANES..]);
            }
        }
    }
}

/// Writes the transpose of `rows` times `scale` in panels of `n` columns: a lane for each row.
#[inline(always)]
pub(crate) fn pack_transposed(rows: Rows, scale: f32, n: usize, to: &mut [f32]) {
    assert_eq!(to.len(), rows.count().next_multiple_of(n) * rows.len());
    for (panel, to) in to.chunks_exact_mut(rows.len() * n).enumerate() {
        for lane in 0..n {
            let places = to[lane..].iter_mut().step_by(n);
            if panel * n + lane < rows.count() {
                for (to, &x) in places.zip(rows.row(panel * n + lane)) {
                    *to = x * scale;
                }
            } else {
                for to in places {
                    *to = 0.0;
                }
            }
        }
    }
}

/// Writes row `i` of a matrix in panels, times `scales[i]`, to row `i` of `to`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn unpack<V: Vector>(panels: &[f32], scales: &[f32], to: &mut RowsMut) {
    let n = 2 * V::LANES;
    assert_eq!(panels.len(), to.len().next_multiple_of(n) * to.count());
    for (panel, from) in panels.chunks_exact(to.count() * n).enumerate() {
        for (i, from) in from.chunks_exact(n).enumerate() {
            let row = &mut to.row(i)[panel * n..];
            let (low, high) = row.split_at_mut(row.len().min(V::LANES));
            // SAFETY: the caller has the instruction set.
            unsafe {
                let scale = V::splat(scales[i]);
                V::load(from).mul(scale).write_some(low);
                V::load(&from[V::LANES..]).mul(scale).write_some(high);
            }
        }
    }
}

/// Multiplies row `i` of a matrix in panels by `factors[i]`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn scale_rows<V: Vector>(panels: &mut [f32], factors: &[f32]) {
    let n = 2 * V::LANES;
    for panel in panels.chunks_exact_mut(factors.len() * n) {
        for (row, &factor) in panel.chunks_exact_mut(n).zip(factors) {
            let (low, high) = row.split_at_mut(V::LANES);
            // SAFETY: the caller has the instruction set.
            unsafe {
                let factor = V::splat(factor);
                V::load(low).mul(factor).store(low);
                V::load(high).mul(factor).store(high);
            }
        }
    }
}

/// `to[r][c] = sum_k a[r][k] * b[k][c]`, or adds it to what is there; `b` is in panels.
///
/// Compiled once for an instruction set, not once for each use.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn multiply<V: Vector>(a: Rows, b: &[f32], to: &mut RowsMut, add: bool) {
    // SAFETY: the caller's.
    unsafe { V::call(Multiply { a, b, to, add }) }
}

struct Multiply<'a, 'r> {
    a: Rows<'a>,
    b: &'a [f32],
    to: &'a mut RowsMut<'r>,
    add: bool,
}

impl Kernel for Multiply<'_, '_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { a, b, to, add } = self;
        let n = 2 * V::LANES;
        assert_eq!(a.count(), to.count());
        assert_eq!(b.len(), to.len().next_multiple_of(n) * a.len());
        for (panel, b) in b.chunks_exact(a.len() * n).enumerate() {
            for (from, count) in even_blocks(a.count(), V::ROWS) {
                let place = [from, panel * n];
                // SAFETY: the caller has the instruction set.
                unsafe { with_rows!(count, multiply_tile::<V>(a, b, to, place, add)) };
            }
        }
    }
}

/// `M` rows and one panel of a product, from row and column `place` on.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn multiply_tile<V: Vector, const M: usize>(
    a: Rows,
    b: &[f32],
    to: &mut RowsMut,
    [from, column]: [usize; 2],
    add: bool,
) {
    let a = a.part(from, M);
    assert!(b.len() >= a.len() * 2 * V::LANES);
    // SAFETY: the caller has the instruction set; `a` has `M` rows of `len` numbers and `b` as many
    // rows of two vectors.
    unsafe {
        let mut block: Block<V, M> = [[V::splat(0.0); 2]; M];
        // A stride that the compiler knows the origin of is derived again for each row and step, with
        // divisions.
        let stride = black_box(a.stride());
        block = rows_times::<V, Whole, M>(a.at(0), stride, b.as_ptr(), a.len(), block);
        for (m, mut sums) in block.into_iter().enumerate() {
            let row = &mut to.row(from + m)[column..];
            let (low, high) = row.split_at_mut(row.len().min(V::LANES));
            if add {
                sums[0] = sums[0].add(V::read_some(low));
                sums[1] = sums[1].add(V::read_some(high));
            }
            sums[0].write_some(low);
            sums[1].write_some(high);
        }
    }
}

/// Adds `sum_r a[r][i] * b[r][c]` to `to[i][c]`, which is in panels; `b` has whole panels of columns.
///
/// Compiled once for an instruction set, not once for each use.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn add_transposed_times<V: Vector>(a: Rows, b: Rows, to: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { V::call(AddTransposedTimes { a, b, to }) }
}

struct AddTransposedTimes<'a> {
    a: Rows<'a>,
    b: Rows<'a>,
    to: &'a mut [f32],
}

impl Kernel for AddTransposedTimes<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (Self { a, b, to }, n) = (self, 2 * V::LANES);
        assert!(b.len().is_multiple_of(n) && to.len() == a.len() * b.len());
        for (panel, to) in to.chunks_exact_mut(a.len() * n).enumerate() {
            let b = b.columns(panel * n, n);
            for (from, len) in even_blocks(a.len(), V::ROWS) {
                let to = &mut to[from * n..][..len * n];
                // SAFETY: the caller has the instruction set.
                unsafe { with_rows!(len, add_tile::<V>(a, from, b, to)) };
            }
        }
    }
}

/// `M` columns of `a` from `from` on, and one panel.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn add_tile<V: Vector, const M: usize>(a: Rows, from: usize, b: Rows, to: &mut [f32]) {
    let (n, rows) = (2 * V::LANES, a.count());
    let a = a.columns(from, M);
    assert!(b.count() == rows && b.len() >= n && to.len() >= M * n);
    // SAFETY: the caller has the instruction set; the asserted lengths hold all that is read and
    // written.
    unsafe {
        // From zero, not from what is there: sums of sums round less than one long sum.
        let mut block: Block<V, M> = [[V::splat(0.0); 2]; M];
        let (a, b) = ((a.at(0), a.stride()), (b.at(0), b.stride()));
        block = columns_times::<V, Whole, M>(a.0, a.1, b.0, b.1, rows, block);
        for (sums, to) in block.into_iter().zip(to.chunks_exact_mut(n)) {
            let (low, high) = to.split_at_mut(V::LANES);
            sums[0].add(V::load(low)).store(low);
            sums[1].add(V::load(high)).store(high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::any_numbers;
    use crate::simd;
    use crate::testing::sized;

    /// `[rows][columns]` of small integers, whose products are exact.
    fn matrix(rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns)
            .map(|i| (i * 7 % 11) as f32 - 5.0)
            .collect()
    }

    /// `a b`, then `a b` added to it, then half of `a b` by way of the transpose of `a`.
    struct ThreeWays<'a> {
        a: Rows<'a>,
        b: Rows<'a>,
    }

    impl Kernel for ThreeWays<'_> {
        type Out = [Vec<f32>; 3];

        #[inline(always)]
        unsafe fn run<V: Vector>(self) -> Self::Out {
            let (n, Self { a, b }) = (2 * V::LANES, self);
            let (rows, depth, columns) = (a.count(), a.len(), b.len());
            let width = columns.next_multiple_of(n);
            let mut once = vec![1.0; rows * columns];
            // SAFETY: the caller has the instruction set.
            unsafe {
                let mut panels = any_numbers(width * depth);
                pack::<V>(b, 1.0, &mut panels);
                let mut to = RowsMut::new(&mut once, rows, columns, columns);
                multiply::<V>(a, &panels, &mut to, false);
                let mut twice = once.clone();
                let mut to = RowsMut::new(&mut twice, rows, columns, columns);
                multiply::<V>(a, &panels, &mut to, true);

                let mut turned = any_numbers(rows.next_multiple_of(n) * depth);
                pack_transposed(a, 1.0, n, &mut turned);
                let mut a_t = any_numbers(depth * rows);
                let mut to = RowsMut::new(&mut a_t, depth, rows, rows);
                unpack::<V>(&turned, &vec![1.0; depth], &mut to);
                let mut wide_b = any_numbers(depth * width);
                gather::<V>(b, columns, width, &mut wide_b);
                let (a_t, wide_b) = (
                    Rows::new(&a_t, depth, rows, rows),
                    Rows::new(&wide_b, depth, width, width),
                );
                let mut sums = vec![0.0; width * rows];
                add_transposed_times::<V>(a_t, wide_b, &mut sums);
                let mut half = any_numbers(rows * columns);
                let mut to = RowsMut::new(&mut half, rows, columns, columns);
                unpack::<V>(&sums, &vec![0.5; rows], &mut to);
                [once, twice, half]
            }
        }
    }

    #[test]
    fn products_of_panels_are_those_of_matrices() {
        let usual = vec![(1, 1, 1), (5, 3, 16), (7, 17, 33), (12, 32, 31)];
        for (rows, depth, columns) in sized(usual, vec![(1, 1, 1), (5, 3, 17)]) {
            let (a, b) = (matrix(rows, depth), matrix(depth, columns));
            let mut want = vec![0.0; rows * columns];
            for (i, want) in want.iter_mut().enumerate() {
                let (r, c) = (i / columns, i % columns);
                *want = (0..depth)
                    .map(|k| a[r * depth + k] * b[k * columns + c])
                    .sum();
            }
            let a = Rows::new(&a, rows, depth, depth);
            let b = Rows::new(&b, depth, columns, columns);
            for level in simd::available() {
                let got = simd::run(level, ThreeWays { a, b });
                for (got, times) in got.iter().zip([1.0, 2.0, 0.5]) {
                    let want: Vec<f32> = want.iter().map(|x| times * x).collect();
                    assert_eq!(*got, want, "{level:?} {rows} {depth} {columns}");
                }
            }
        }
    }
}

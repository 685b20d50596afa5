//! Products that sum over rows: gradients of weights.

use super::{Block, Factors, columns_times, even_blocks, with_rows};
use crate::simd::Vector;

/// Rows of numbers, `stride` apart.
pub(crate) struct Strided<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub count: usize,
}

impl Strided<'_> {
    /// Rows of `len` words: these themselves, or in `scratch` the words of two neighbours, or copies with
    /// zeros up to a whole block where that is asked for.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    pub unsafe fn words<'s, V: Vector, F: Factors>(
        &'s self,
        len: usize,
        whole_blocks: bool,
        scratch: &'s mut Vec<f32>,
    ) -> Strided<'s> {
        let whole = !whole_blocks || len.is_multiple_of(2 * V::LANES);
        if F::PER_WORD == 1 && whole {
            return Strided { ..*self };
        }
        let stride = len.next_multiple_of(if whole_blocks { 2 * V::LANES } else { V::LANES });
        let count = self.count.div_ceil(F::PER_WORD);
        scratch.resize(count * stride, 0.0);
        for (i, to) in scratch.chunks_exact_mut(stride).enumerate() {
            let first = F::PER_WORD * i;
            for (from, to) in (0..).step_by(V::LANES).zip(to.chunks_exact_mut(V::LANES)) {
                // SAFETY: the caller has the instruction set.
                unsafe {
                    let mut words = self.read::<V>(first, from, len);
                    if F::PER_WORD == 2 {
                        words = V::pair(words, self.read::<V>(first + 1, from, len));
                    }
                    words.store(to);
                }
            }
        }
        Strided {
            values: scratch,
            stride,
            count,
        }
    }

    /// Numbers from `from` of row `i` on; zeros from `len` on and after the last row.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    unsafe fn read<V: Vector>(&self, i: usize, from: usize, len: usize) -> V {
        // SAFETY: the caller has the instruction set.
        unsafe {
            if i >= self.count || from >= len {
                return V::splat(0.0);
            }
            let row = &self.values[i * self.stride + from..];
            V::read_some(&row[..V::LANES.min(len - from)])
        }
    }
}

/// Words of two factors of a sum over rows: `a^T b`.
pub(crate) struct Columns<'a> {
    pub a: &'a [f32],
    pub a_stride: usize,
    pub b: &'a [f32],
    pub b_stride: usize,
    /// Rows.
    pub count: usize,
}

impl<'a> Columns<'a> {
    /// Of all of `a` with the columns of `b` from `column` on.
    pub fn of(a: &Strided<'a>, b: &Strided<'a>, column: usize) -> Self {
        Self {
            a: a.values,
            a_stride: a.stride,
            b: &b.values[column..],
            b_stride: b.stride,
            count: b.count,
        }
    }

    /// Adds the products of the first `len` columns of `a` with two vectors of `b` to `sums`,
    /// `[len][N]`.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    pub unsafe fn add_to<V: Vector, F: Factors>(&self, len: usize, sums: &mut [f32]) {
        let n = 2 * V::LANES;
        for (from, len) in even_blocks(len, V::ROWS) {
            let sums = &mut sums[from * n..][..len * n];
            // SAFETY: the caller has the instruction set.
            unsafe { with_rows!(len, add_block::<V, F>(self, from, sums)) };
        }
    }
}

/// Adds the products of the `M` columns of `a` from `from` on to `sums`, `[M][N]`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // See `rows_times`.
unsafe fn add_block<V: Vector, F: Factors, const M: usize>(
    columns: &Columns,
    from: usize,
    sums: &mut [f32],
) {
    let (n, last) = (2 * V::LANES, columns.count - 1);
    assert!(sums.len() == M * n);
    assert!(columns.a.len() >= last * columns.a_stride + from + M);
    assert!(columns.b.len() >= last * columns.b_stride + n);
    // SAFETY: the asserted lengths hold all that is read and written.
    unsafe {
        let sums = sums.as_mut_ptr();
        let mut block: Block<V, M> = [[V::splat(0.0); 2]; M];
        for (m, block) in block.iter_mut().enumerate() {
            let row = sums.add(m * n);
            *block = [V::read(row), V::read(row.add(V::LANES))];
        }
        let block = columns_times::<V, F, M>(
            columns.a.as_ptr().add(from),
            columns.a_stride,
            columns.b.as_ptr(),
            columns.b_stride,
            columns.count,
            block,
        );
        for m in 0..M {
            block[m][0].write(sums.add(m * n));
            block[m][1].write(sums.add(m * n + V::LANES));
        }
    }
}

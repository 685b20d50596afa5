//! The inner loops of every convolution and matrix product: a block of sums that stays in registers.
//!
//! A block is `M` rows by two vectors of columns. With 32 registers (AVX-512) `M` goes to 12: two
//! loads and twelve broadcasts feed 24 multiply-adds, so the multipliers are the limit.

use crate::simd::Vector;
use std::hint::black_box;

/// `M` rows by two vectors.
pub(crate) type Block<V, const M: usize> = [[V; 2]; M];

/// `block[m][n] += sum_k a[m * stride + k] * b[k * 2 LANES + n]`, `k` in order.
///
/// # Safety
/// The machine has the instruction set of `V`; `a` has `M` rows of `k` numbers, `stride` apart; `b`
/// has `k` rows of two vectors.
#[inline(always)]
pub(crate) unsafe fn rows_times<V: Vector, const M: usize>(
    a: *const f32,
    stride: usize,
    b: *const f32,
    k: usize,
    block: &mut Block<V, M>,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut rows = [a; M];
        for (m, row) in rows.iter_mut().enumerate() {
            // Opaque, so that each row keeps a register: the compiler would rather add the stride
            // anew for every row of every `k`.
            *row = black_box(a.add(m * stride));
        }
        for k in 0..k {
            let b = b.add(k * 2 * V::LANES);
            let b = [V::read(b), V::read(b.add(V::LANES))];
            for (sums, row) in block.iter_mut().zip(&rows) {
                let a = V::splat(*row.add(k));
                sums[0] = a.mul_add(b[0], sums[0]);
                sums[1] = a.mul_add(b[1], sums[1]);
            }
        }
    }
}

/// `block[m][n] += sum_i a[i * a_stride + m] * b[i * b_stride + n]`, `i` in order.
///
/// # Safety
/// The machine has the instruction set of `V`; `a` has `len` rows of `M` numbers, `a_stride` apart;
/// `b` has `len` rows of two vectors, `b_stride` apart.
#[inline(always)]
pub(crate) unsafe fn columns_times<V: Vector, const M: usize>(
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    len: usize,
    block: &mut Block<V, M>,
) {
    // SAFETY: the caller's.
    unsafe {
        for i in 0..len {
            let (a, b) = (a.add(i * a_stride), b.add(i * b_stride));
            let b = [V::read(b), V::read(b.add(V::LANES))];
            for (m, sums) in block.iter_mut().enumerate() {
                let a = V::splat(*a.add(m));
                sums[0] = a.mul_add(b[0], sums[0]);
                sums[1] = a.mul_add(b[1], sums[1]);
            }
        }
    }
}

/// Cuts `len` rows into the fewest blocks of at most `most` rows, as even as can be, so that no block
/// is much smaller than the multipliers' latency asks for: (first row, rows) of each.
pub(crate) fn even_blocks(len: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = len.div_ceil(most).max(1);
    (0..blocks).map(move |i| {
        let (from, to) = (i * len / blocks, (i + 1) * len / blocks);
        (from, to - from)
    })
}

/// Calls `$call::<V, M>(...)` with the `M` that `$rows` is at run time, 1 to 12.
macro_rules! with_rows {
    ($rows:expr, $call:ident::<$vector:ty>($($arg:expr),* $(,)?)) => {
        match $rows {
            1 => $call::<$vector, 1>($($arg),*),
            2 => $call::<$vector, 2>($($arg),*),
            3 => $call::<$vector, 3>($($arg),*),
            4 => $call::<$vector, 4>($($arg),*),
            5 => $call::<$vector, 5>($($arg),*),
            6 => $call::<$vector, 6>($($arg),*),
            7 => $call::<$vector, 7>($($arg),*),
            8 => $call::<$vector, 8>($($arg),*),
            9 => $call::<$vector, 9>($($arg),*),
            10 => $call::<$vector, 10>($($arg),*),
            11 => $call::<$vector, 11>($($arg),*),
            12 => $call::<$vector, 12>($($arg),*),
            rows => unreachable!("{rows} rows in one block"),
        }
    };
}
pub(crate) use with_rows;

#[cfg(test)]
mod tests {
    use super::even_blocks;

    #[test]
    fn blocks_are_even_and_cover_all_rows() {
        for (len, want) in [
            (16, vec![(0, 8), (8, 8)]),
            (12, vec![(0, 12)]),
            (13, vec![(0, 6), (6, 7)]),
            (1, vec![(0, 1)]),
        ] {
            assert_eq!(even_blocks(len, 12).collect::<Vec<_>>(), want);
        }
    }
}

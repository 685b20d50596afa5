//! The inner loops of every convolution and matrix product: a block of sums that stays in registers.
//!
//! A block is `M` rows by two vectors of columns. With 32 registers (AVX-512) `M` goes to 12: two
//! loads and twelve broadcasts feed 24 multiply-adds, so the multipliers are the limit.
//!
//! [`Factors`] says what is multiplied: f32, or pairs of bf16, of which one step of a loop takes two.
//! A word is what has the size of an f32: one number or one pair.

mod columns;
mod matrix;

use crate::bf16;
use crate::simd::{self, Kernel, Level, Vector};
pub(crate) use columns::{Columns, Strided};
pub(crate) use matrix::{Matrix, Times};
use std::hint::black_box;

/// `M` rows by two vectors.
pub(crate) type Block<V, const M: usize> = [[V; 2]; M];

/// What the factors of a product are.
pub(crate) trait Factors: Send + Sync {
    /// One factor.
    type Number: Copy + Default + Send + Sync + 'static;
    /// Factors in a word.
    const PER_WORD: usize;
    /// `x` as a factor.
    fn number(x: f32) -> Self::Number;
    /// Numbers that are factors as they are.
    fn as_factors(x: &[f32]) -> Option<&[Self::Number]>;
    /// The word of `first` and, for pairs, `second`.
    fn word(first: f32, second: f32) -> f32;
    /// Writes the lanes as factors, one after the other.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`; `to` has room for its lanes.
    unsafe fn write<V: Vector>(x: V, to: *mut Self::Number);
    /// `c + a b`, over all factors of a word.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    unsafe fn multiply_add<V: Vector>(a: V, b: V, c: V) -> V;
}

/// f32.
pub(crate) struct Whole;

/// Pairs of bf16.
pub(crate) struct Pairs;

impl Factors for Whole {
    type Number = f32;
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn number(x: f32) -> f32 {
        x
    }

    fn as_factors(x: &[f32]) -> Option<&[f32]> {
        Some(x)
    }

    #[inline(always)]
    fn word(first: f32, _: f32) -> f32 {
        first
    }

    #[inline(always)]
    unsafe fn write<V: Vector>(x: V, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { x.write(to) }
    }

    #[inline(always)]
    unsafe fn multiply_add<V: Vector>(a: V, b: V, c: V) -> V {
        // SAFETY: the caller's.
        unsafe { a.mul_add(b, c) }
    }
}

impl Factors for Pairs {
    type Number = u16;
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn number(x: f32) -> u16 {
        bf16::round(x)
    }

    fn as_factors(_: &[f32]) -> Option<&[u16]> {
        None
    }

    #[inline(always)]
    fn word(first: f32, second: f32) -> f32 {
        bf16::pair(first, second)
    }

    #[inline(always)]
    unsafe fn write<V: Vector>(x: V, to: *mut u16) {
        // SAFETY: the caller's.
        unsafe { x.write_bf16(to) }
    }

    #[inline(always)]
    unsafe fn multiply_add<V: Vector>(a: V, b: V, c: V) -> V {
        // SAFETY: the caller's.
        unsafe { a.dot_pairs(b, c) }
    }
}

/// `block[m][n] + sum_k a[m * stride + k] * b[k * 2 LANES + n]`, `k` in order, `words` words of it.
///
/// Blocks go in and out by value and are counted through by `m`: behind a reference or an iterator the
/// compiler keeps one of the sums in memory, which costs half the speed.
///
/// # Safety
/// The machine has the instruction set of `V`; `a` has `M` rows of `words` words, `stride` factors
/// apart and anywhere in memory; `b` has `words` rows of two vectors.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub(crate) unsafe fn rows_times<V: Vector, F: Factors, const M: usize>(
    a: *const F::Number,
    stride: usize,
    b: *const f32,
    words: usize,
    mut block: Block<V, M>,
) -> Block<V, M> {
    // SAFETY: the caller's.
    unsafe {
        let mut rows = [a.cast::<f32>(); M];
        for (m, row) in rows.iter_mut().enumerate() {
            // Opaque, so that each row keeps a register: the compiler would rather add the stride
            // anew for every row of every `k`.
            *row = black_box(a.add(m * stride).cast());
        }
        for k in 0..words {
            let b = b.add(k * 2 * V::LANES);
            let b = [V::read(b), V::read(b.add(V::LANES))];
            for m in 0..M {
                let a = V::splat(rows[m].add(k).read_unaligned());
                block[m][0] = F::multiply_add(a, b[0], block[m][0]);
                block[m][1] = F::multiply_add(a, b[1], block[m][1]);
            }
        }
    }
    block
}

/// `block[m][n] + sum_i a[i * a_stride + m] * b[i * b_stride + n]`, `i` in order; all in words, of
/// which a pair has one factor of each of two rows.
///
/// # Safety
/// The machine has the instruction set of `V`; `a` has `len` rows of `M` words, `a_stride` apart;
/// `b` has `len` rows of two vectors, `b_stride` apart.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub(crate) unsafe fn columns_times<V: Vector, F: Factors, const M: usize>(
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    len: usize,
    mut block: Block<V, M>,
) -> Block<V, M> {
    // SAFETY: the caller's.
    unsafe {
        for i in 0..len {
            let (a, b) = (a.add(i * a_stride), b.add(i * b_stride));
            let b = [V::read(b), V::read(b.add(V::LANES))];
            for m in 0..M {
                let a = V::splat(*a.add(m));
                block[m][0] = F::multiply_add(a, b[0], block[m][0]);
                block[m][1] = F::multiply_add(a, b[1], block[m][1]);
            }
        }
    }
    block
}

/// Calls `$call::<F>(...)` with the factors of a precision.
macro_rules! with_factors {
    ($precision:expr, $call:ident($($arg:expr),* $(,)?)) => {
        match $precision {
            $crate::bf16::Precision::F32 => $call::<$crate::product::Whole>($($arg),*),
            $crate::bf16::Precision::Bf16 => $call::<$crate::product::Pairs>($($arg),*),
        }
    };
}
pub(crate) use with_factors;

/// Writes numbers as factors.
pub(crate) fn convert<F: Factors>(level: Level, x: &[f32], to: &mut [F::Number]) {
    assert_eq!(x.len(), to.len());
    match F::as_factors(x) {
        Some(x) => to.copy_from_slice(x),
        None => simd::run(level, Convert::<F> { x, to }),
    }
}

struct Convert<'a, F: Factors> {
    x: &'a [f32],
    to: &'a mut [F::Number],
}

impl<F: Factors> Kernel for Convert<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller has the instruction set.
        unsafe { write_factors::<V, F>(self.x, self.to) };
    }
}

/// Writes numbers as factors, in a kernel.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn write_factors<V: Vector, F: Factors>(x: &[f32], to: &mut [F::Number]) {
    assert_eq!(x.len(), to.len());
    if let Some(x) = F::as_factors(x) {
        return to.copy_from_slice(x);
    }
    let x = x.chunks_exact(V::LANES);
    let rest = x.remainder();
    let mut to = to.chunks_exact_mut(V::LANES);
    for (x, to) in x.zip(&mut to) {
        // SAFETY: the caller has the instruction set; `to` has room for a vector.
        unsafe { F::write(V::load(x), to.as_mut_ptr()) };
    }
    for (&x, to) in rest.iter().zip(to.into_remainder()) {
        *to = F::number(x);
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

/// Calls `$call::<..., M>(...)` with the `M` that `$rows` is at run time, 1 to 12.
macro_rules! with_rows {
    ($rows:expr, $call:ident::<$($ty:ty),+>($($arg:expr),* $(,)?)) => {
        match $rows {
            1 => $call::<$($ty),+, 1>($($arg),*),
            2 => $call::<$($ty),+, 2>($($arg),*),
            3 => $call::<$($ty),+, 3>($($arg),*),
            4 => $call::<$($ty),+, 4>($($arg),*),
            5 => $call::<$($ty),+, 5>($($arg),*),
            6 => $call::<$($ty),+, 6>($($arg),*),
            7 => $call::<$($ty),+, 7>($($arg),*),
            8 => $call::<$($ty),+, 8>($($arg),*),
            9 => $call::<$($ty),+, 9>($($arg),*),
            10 => $call::<$($ty),+, 10>($($arg),*),
            11 => $call::<$($ty),+, 11>($($arg),*),
            12 => $call::<$($ty),+, 12>($($arg),*),
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

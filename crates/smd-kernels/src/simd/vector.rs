//! What every instruction set offers: a vector of numbers.

use super::Kernel;

/// Coefficients of `r^7` to `r^2` of a polynomial for `exp(r)`, `|r| <= ln(2) / 2`.
#[allow(clippy::excessive_precision)]
const EXP: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
];

/// `ln 2` in two parts, of which the first has few digits.
#[allow(clippy::excessive_precision)]
const LN_2: [f32; 2] = [0.693_359_375, -2.121_944_4e-4];

/// Adding it rounds to an integer: 1.5 * 2^23.
const ROUND: f32 = 12_582_912.0;

/// A vector of f32 lanes: what a register of the instruction set holds.
///
/// For products of bf16 numbers a lane holds a pair of them: a low and a high half.
///
/// # Safety
/// The methods may only run on a machine that has the implementor's instruction set.
pub(crate) unsafe trait Vector: Copy {
    /// Numbers in one vector.
    const LANES: usize;
    /// Rows of a block of sums (see `product.rs`) for which there are registers; at most 12.
    const ROWS: usize;

    /// Runs `kernel` in a function of its own that is compiled for the instruction set.
    unsafe fn call<K: Kernel>(kernel: K) -> K::Out;

    /// Every lane `x`.
    unsafe fn splat(x: f32) -> Self;
    /// The first `LANES` numbers of `from`, which has at least so many.
    unsafe fn load(from: &[f32]) -> Self;
    /// Writes the lanes to the first `LANES` places of `to`, which has at least so many.
    unsafe fn store(self, to: &mut [f32]);
    /// `self * b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self - b`.
    unsafe fn sub(self, b: Self) -> Self;
    /// `self * b`.
    unsafe fn mul(self, b: Self) -> Self;
    /// `x` where it is larger, else `self`: also where `x` is NaN.
    unsafe fn raised_to(self, x: Self) -> Self;
    /// `x` where it is smaller, else `self`: also where `x` is NaN.
    unsafe fn lowered_to(self, x: Self) -> Self;
    /// `self * 2^n`, where `n` is an integer in [-126, 127].
    unsafe fn times_two_to(self, n: Self) -> Self;
    /// The largest lane, where none is NaN.
    unsafe fn largest(self) -> f32;
    /// The sum of the lanes, in halves.
    unsafe fn total(self) -> f32;

    /// `low` and `high` rounded to bf16, to the nearest and to even: a pair in each lane.
    unsafe fn pair(low: Self, high: Self) -> Self;
    /// Writes the lanes rounded to bf16 to `to`, one after the other: pairs of neighbours.
    unsafe fn write_bf16(self, to: *mut u16);
    /// `c + low * low + high * high` of pairs.
    unsafe fn dot_pairs(self, b: Self, c: Self) -> Self;

    /// `exp(self)` to about two units in the last place, for arguments clamped to [-87, 88], where f32
    /// has normal results; NaN stays NaN.
    ///
    /// `x = n ln 2 + r` with integer `n`, and a polynomial of degree 7 for `exp(r)`.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let x = self.raised_to(Self::splat(-87.0));
            let x = x.lowered_to(Self::splat(88.0));
            let shifted = x.mul_add(Self::splat(std::f32::consts::LOG2_E), Self::splat(ROUND));
            let n = shifted.sub(Self::splat(ROUND));
            let r = n.mul_add(Self::splat(-LN_2[0]), x);
            let r = n.mul_add(Self::splat(-LN_2[1]), r);
            let mut p = Self::splat(EXP[0]);
            for coefficient in &EXP[1..] {
                p = p.mul_add(r, Self::splat(*coefficient));
            }
            let e = p.mul(r).mul_add(r, r).add(Self::splat(1.0));
            e.times_two_to(n)
        }
    }

    /// `LANES` numbers from `from`, which may be read.
    #[inline(always)]
    unsafe fn read(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self::load(std::slice::from_raw_parts(from, Self::LANES)) }
    }

    /// Writes the lanes to `to`, where so many may be written.
    #[inline(always)]
    unsafe fn write(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { self.store(std::slice::from_raw_parts_mut(to, Self::LANES)) }
    }

    /// At most `LANES` numbers, and zeros after them.
    #[inline(always)]
    unsafe fn read_some(from: &[f32]) -> Self {
        // SAFETY: the caller has the instruction set; `lanes` holds the widest vector.
        unsafe {
            if from.len() >= Self::LANES {
                return Self::load(from);
            }
            let mut lanes = [0.0; 16];
            lanes[..from.len()].copy_from_slice(from);
            Self::load(&lanes)
        }
    }

    /// Writes the first lanes, as many as `to` has, at most `LANES`.
    #[inline(always)]
    unsafe fn write_some(self, to: &mut [f32]) {
        // SAFETY: the caller has the instruction set; `lanes` holds the widest vector.
        unsafe {
            if to.len() >= Self::LANES {
                return self.store(to);
            }
            let mut lanes = [0.0; 16];
            self.store(&mut lanes);
            to.copy_from_slice(&lanes[..to.len()]);
        }
    }
}

//! What a softmax needs of a vector: exponentials, and the largest and the sum of the lanes.
//!
//! Plain loops over rows as short as a head are compiled to scalars or to shuffles as often as to
//! vectors; these are always vectors.

use crate::silu;
#[cfg(target_arch = "x86_64")]
use crate::simd::x86::{Avx2, Avx512};
use crate::simd::{Plain, Vector};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Exponentials and steps across lanes.
///
/// # Safety
/// As [`Vector`]: the methods may only run on a machine that has the implementor's instruction set.
pub(crate) unsafe trait Math: Vector {
    /// `x` where it is larger, else `self`: also where `x` is NaN.
    unsafe fn raised_to(self, x: Self) -> Self;
    /// `exp(self)` to about two units in the last place, for arguments clamped to [-87, 88], where f32
    /// has normal results; NaN stays NaN.
    unsafe fn exp(self) -> Self;
    /// The largest lane, where none is NaN.
    unsafe fn largest(self) -> f32;
    /// The sum of the lanes, in halves.
    unsafe fn total(self) -> f32;

    /// `self * b`.
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the caller's. Minus zero, to which adding zero itself changes nothing.
        unsafe { self.mul_add(b, Self::splat(-0.0)) }
    }
}

/// Coefficients of `r^7` to `r^2` of a polynomial for `exp(r)`, `|r| <= ln(2) / 2`; as in
/// [`silu::exp`].
#[cfg(target_arch = "x86_64")]
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
#[cfg(target_arch = "x86_64")]
#[allow(clippy::excessive_precision)]
const LN_2: [f32; 2] = [0.693_359_375, -2.121_944_4e-4];

// SAFETY: plain code runs everywhere.
unsafe impl Math for Plain {
    #[inline(always)]
    unsafe fn raised_to(self, x: Self) -> Self {
        let (mut most, x) = (lanes(self), lanes(x));
        for (most, x) in most.iter_mut().zip(x) {
            *most = if x > *most { x } else { *most };
        }
        vector(most)
    }

    #[inline(always)]
    unsafe fn exp(self) -> Self {
        let mut x = lanes(self);
        for x in &mut x {
            *x = silu::exp(*x);
        }
        vector(x)
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        lanes(self).into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        let x = lanes(self);
        let x: [f32; 4] = std::array::from_fn(|i| x[i] + x[i + 4]);
        (x[0] + x[2]) + (x[1] + x[3])
    }
}

#[inline(always)]
fn lanes(x: Plain) -> [f32; 8] {
    let mut lanes = [0.0; 8];
    // SAFETY: plain code runs everywhere.
    unsafe { x.store(&mut lanes) };
    lanes
}

#[inline(always)]
fn vector(lanes: [f32; 8]) -> Plain {
    // SAFETY: plain code runs everywhere.
    unsafe { Plain::load(&lanes) }
}

/// A vector as the type that its instructions take, and back; `$lanes` are numbers in between, which
/// stay in the register.
macro_rules! registers {
    ($vector:ty, $register:ty, $lanes:literal, $load:ident, $store:ident, $to:ident, $from:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        unsafe fn $to(x: $vector) -> $register {
            let mut lanes = [0.0; $lanes];
            // SAFETY: the caller has the instruction set; `lanes` holds a vector.
            unsafe {
                x.store(&mut lanes);
                $load(lanes.as_ptr())
            }
        }

        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        unsafe fn $from(x: $register) -> $vector {
            let mut lanes = [0.0; $lanes];
            // SAFETY: the caller has the instruction set; `lanes` holds a vector.
            unsafe {
                $store(lanes.as_mut_ptr(), x);
                <$vector>::load(&lanes)
            }
        }
    };
}
registers!(
    Avx2,
    __m256,
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    to_256,
    from_256
);
registers!(
    Avx512,
    __m512,
    16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    to_512,
    from_512
);

// SAFETY: only for machines with AVX2 and FMA, as the type itself.
#[cfg(target_arch = "x86_64")]
unsafe impl Math for Avx2 {
    #[inline(always)]
    unsafe fn raised_to(self, x: Self) -> Self {
        // SAFETY: the caller has AVX2. Of a NaN and a number the instruction gives the second.
        unsafe { from_256(_mm256_max_ps(to_256(x), to_256(self))) }
    }

    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // SAFETY: the caller has AVX2 and FMA.
        unsafe {
            let x = _mm256_max_ps(_mm256_set1_ps(-87.0), to_256(self));
            let x = _mm256_min_ps(_mm256_set1_ps(88.0), x);
            let n = _mm256_mul_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E));
            let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(n);
            let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN_2[0]), x);
            let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN_2[1]), r);
            let mut p = _mm256_set1_ps(EXP[0]);
            for coefficient in &EXP[1..] {
                p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(*coefficient));
            }
            let e = _mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r);
            let e = _mm256_add_ps(e, _mm256_set1_ps(1.0));
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            let two_n = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent));
            from_256(_mm256_mul_ps(e, two_n))
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller has AVX2.
        unsafe {
            let x = to_256(self);
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: the caller has AVX2.
        unsafe {
            let x = to_256(self);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
}

// SAFETY: only for machines with AVX-512, as the type itself.
#[cfg(target_arch = "x86_64")]
unsafe impl Math for Avx512 {
    #[inline(always)]
    unsafe fn raised_to(self, x: Self) -> Self {
        // SAFETY: the caller has AVX-512 F. Of a NaN and a number the instruction gives the second.
        unsafe { from_512(_mm512_max_ps(to_512(x), to_512(self))) }
    }

    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // SAFETY: the caller has AVX-512 F.
        unsafe {
            let x = _mm512_max_ps(_mm512_set1_ps(-87.0), to_512(self));
            let x = _mm512_min_ps(_mm512_set1_ps(88.0), x);
            let n = _mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E));
            let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT }>(n);
            let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN_2[0]), x);
            let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN_2[1]), r);
            let mut p = _mm512_set1_ps(EXP[0]);
            for coefficient in &EXP[1..] {
                p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(*coefficient));
            }
            let e = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r);
            let e = _mm512_add_ps(e, _mm512_set1_ps(1.0));
            from_512(_mm512_scalef_ps(e, n))
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller has AVX-512 F.
        unsafe { _mm512_reduce_max_ps(to_512(self)) }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: the caller has AVX-512 DQ and AVX2.
        unsafe {
            let x = to_512(self);
            let high = _mm512_extractf32x8_ps::<1>(x);
            from_256(_mm256_add_ps(_mm512_castps512_ps256(x), high)).total()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{self, Level};

    /// Exponentials of 16 numbers, and the largest and the sum of the first vector.
    unsafe fn all<V: Math>(x: &[f32; 16]) -> ([f32; 16], f32, f32) {
        let mut e = [0.0; 16];
        // SAFETY: the caller's.
        unsafe {
            for (x, e) in x.chunks(V::LANES).zip(e.chunks_mut(V::LANES)) {
                V::load(x).exp().store(e);
            }
            (e, V::load(x).largest(), V::load(x).total())
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(x: &[f32; 16]) -> ([f32; 16], f32, f32) {
        // SAFETY: this function runs only where its features were detected.
        unsafe { all::<Avx2>(x) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn avx512(x: &[f32; 16]) -> ([f32; 16], f32, f32) {
        // SAFETY: this function runs only where its features were detected.
        unsafe { all::<Avx512>(x) }
    }

    fn at(level: Level, x: &[f32; 16]) -> ([f32; 16], f32, f32) {
        simd::assert_available(level);
        match level {
            // SAFETY: checked above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512(x) },
            // SAFETY: checked above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2(x) },
            // SAFETY: plain code runs everywhere.
            _ => unsafe { all::<Plain>(x) },
        }
    }

    #[test]
    fn exponentials_are_right_to_rounding_and_clamped() {
        for level in simd::available() {
            for i in (-6400..6400).step_by(16) {
                let x: [f32; 16] = std::array::from_fn(|k| (i + k as i32) as f32 / 64.0);
                for (x, got) in x.into_iter().zip(at(level, &x).0) {
                    let want = f64::from(x.clamp(-87.0, 88.0)).exp();
                    assert!(
                        (f64::from(got) / want - 1.0).abs() < 3e-7,
                        "{level:?}: exp({x}) = {got}, not {want}"
                    );
                }
            }
            let (got, ..) = at(level, &[f32::NAN; 16]);
            assert!(got.iter().all(|x| x.is_nan()), "{level:?}");
            let (got, ..) = at(level, &[f32::NEG_INFINITY; 16]);
            assert!(got.iter().all(|&x| (0.0..1e-37).contains(&x)), "{level:?}");
        }
    }

    #[test]
    fn every_lane_takes_part() {
        for level in simd::available() {
            for lane in 0..level.lanes() {
                let mut x = [-2.0; 16];
                x[lane] = 3.0;
                let (_, largest, total) = at(level, &x);
                assert_eq!(largest, 3.0, "{level:?} {lane}");
                assert_eq!(total, 5.0 - 2.0 * level.lanes() as f32, "{level:?} {lane}");
            }
        }
    }
}

//! AVX2 and AVX-512.

use super::{Kernel, Vector};
use std::arch::x86_64::*;

/// The upper half of each lane.
const HIGH: i32 = 0xffff_0000_u32 as i32;

/// Eight lanes of AVX2 with FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

impl Avx2 {
    /// Each lane rounded to bf16, in the upper half of 32 bits; the lower half has what was rounded off.
    ///
    /// # Safety
    /// The machine has AVX2.
    #[inline(always)]
    unsafe fn rounded(self) -> __m256i {
        // SAFETY: the caller's. As `bf16::round`.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let even = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let sum = _mm256_add_epi32(bits, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            _mm256_blendv_epi8(sum, quiet, nan)
        }
    }

    /// The first number of each pair.
    ///
    /// # Safety
    /// The machine has AVX2.
    #[inline(always)]
    unsafe fn low(self) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(self.0))) }
    }

    /// The second number of each pair.
    ///
    /// # Safety
    /// The machine has AVX2.
    #[inline(always)]
    unsafe fn high(self) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_and_ps(self.0, _mm256_castsi256_ps(_mm256_set1_epi32(HIGH))) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Out {
    // SAFETY: this function runs only where its features were detected.
    unsafe { kernel.run::<Avx2>() }
}

// SAFETY: `super::run` hands out this type only where AVX2 and FMA are present.
unsafe impl Vector for Avx2 {
    const LANES: usize = 8;
    const ROWS: usize = 6;

    unsafe fn call<K: Kernel>(kernel: K) -> K::Out {
        // SAFETY: the caller has AVX2 and FMA.
        unsafe { avx2(kernel) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: &[f32]) -> Self {
        debug_assert!(from.len() >= 8);
        // SAFETY: the caller has AVX2 and `from` holds 8 numbers; the load is unaligned.
        Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f32]) {
        debug_assert!(to.len() >= 8);
        // SAFETY: the caller has AVX2 and `to` holds 8 numbers; the store is unaligned.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller has FMA.
        Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_add_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_sub_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_mul_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn raised_to(self, x: Self) -> Self {
        // SAFETY: the caller has AVX2. Of a NaN and a number the instruction gives the second.
        Self(unsafe { _mm256_max_ps(x.0, self.0) })
    }

    #[inline(always)]
    unsafe fn lowered_to(self, x: Self) -> Self {
        // SAFETY: the caller has AVX2. Of a NaN and a number the instruction gives the second.
        Self(unsafe { _mm256_min_ps(x.0, self.0) })
    }

    #[inline(always)]
    unsafe fn times_two_to(self, n: Self) -> Self {
        // SAFETY: the caller has AVX2.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.0), _mm256_set1_epi32(127));
            let two_n = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent));
            Self(_mm256_mul_ps(self.0, two_n))
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller has AVX2.
        unsafe {
            let x = self.0;
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: the caller has AVX2.
        unsafe {
            let x = self.0;
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    unsafe fn pair(low: Self, high: Self) -> Self {
        // SAFETY: the caller has AVX2.
        unsafe {
            let high = _mm256_and_si256(high.rounded(), _mm256_set1_epi32(HIGH));
            let low = _mm256_srli_epi32::<16>(low.rounded());
            Self(_mm256_castsi256_ps(_mm256_or_si256(high, low)))
        }
    }

    #[inline(always)]
    unsafe fn write_bf16(self, to: *mut u16) {
        // SAFETY: the caller has AVX2 and room for eight numbers; the store is unaligned.
        unsafe {
            let halves = _mm256_srli_epi32::<16>(self.rounded());
            let packed = _mm256_packus_epi32(halves, halves);
            let packed = _mm256_permute4x64_epi64::<0b1000>(packed);
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
        }
    }

    #[inline(always)]
    unsafe fn dot_pairs(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller has AVX2 and FMA.
        unsafe {
            let c = _mm256_fmadd_ps(self.low(), b.low(), c.0);
            Self(_mm256_fmadd_ps(self.high(), b.high(), c))
        }
    }
}

/// Sixteen lanes of AVX-512; with `BF16` also its products of bf16 numbers.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const BF16: bool>(__m512);

impl<const BF16: bool> Avx512<BF16> {
    /// Each lane rounded to bf16, in the low half of 32 bits.
    ///
    /// # Safety
    /// The machine has AVX-512, with its bf16 part if `BF16`.
    #[inline(always)]
    unsafe fn rounded(self) -> __m512i {
        // SAFETY: the caller's. The second half is `bf16::round`.
        unsafe {
            if BF16 {
                let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
                return _mm512_cvtepu16_epi32(halves);
            }
            let bits = _mm512_castps_si512(self.0);
            let even = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let sum = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            _mm512_srli_epi32::<16>(_mm512_mask_blend_epi32(nan, sum, quiet))
        }
    }

    /// The first number of each pair.
    ///
    /// # Safety
    /// The machine has AVX-512 F.
    #[inline(always)]
    unsafe fn low(self) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(self.0))) }
    }

    /// The second number of each pair.
    ///
    /// # Safety
    /// The machine has AVX-512 DQ.
    #[inline(always)]
    unsafe fn high(self) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_and_ps(self.0, _mm512_castsi512_ps(_mm512_set1_epi32(HIGH))) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Out {
    // SAFETY: this function runs only where its features were detected.
    unsafe { kernel.run::<Avx512<false>>() }
}

#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512bf16<K: Kernel>(kernel: K) -> K::Out {
    // SAFETY: this function runs only where its features were detected.
    unsafe { kernel.run::<Avx512<true>>() }
}

// SAFETY: `super::run` hands out this type only where AVX-512 F, BW, DQ and VL are present, and the
// one with `BF16` only where that part is too.
unsafe impl<const BF16: bool> Vector for Avx512<BF16> {
    const LANES: usize = 16;
    const ROWS: usize = 12;

    unsafe fn call<K: Kernel>(kernel: K) -> K::Out {
        // SAFETY: the caller has AVX-512, with its bf16 part if `BF16`.
        unsafe {
            if BF16 {
                avx512bf16(kernel)
            } else {
                avx512(kernel)
            }
        }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller has AVX-512 F.
        Self(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: &[f32]) -> Self {
        debug_assert!(from.len() >= 16);
        // SAFETY: the caller has AVX-512 F and `from` holds 16 numbers; the load is unaligned.
        Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f32]) {
        debug_assert!(to.len() >= 16);
        // SAFETY: the caller has AVX-512 F and `to` holds 16 numbers; the store is unaligned.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller has AVX-512 F.
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller has AVX-512 F.
        Self(unsafe { _mm512_add_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the caller has AVX-512 F.
        Self(unsafe { _mm512_sub_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the caller has AVX-512 F.
        Self(unsafe { _mm512_mul_ps(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn raised_to(self, x: Self) -> Self {
        // SAFETY: the caller has AVX-512 F. Of a NaN and a number the instruction gives the second.
        Self(unsafe { _mm512_max_ps(x.0, self.0) })
    }

    #[inline(always)]
    unsafe fn lowered_to(self, x: Self) -> Self {
        // SAFETY: the caller has AVX-512 F. Of a NaN and a number the instruction gives the second.
        Self(unsafe { _mm512_min_ps(x.0, self.0) })
    }

    #[inline(always)]
    unsafe fn times_two_to(self, n: Self) -> Self {
        // SAFETY: the caller has AVX-512 F.
        Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller has AVX-512 F.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: the caller has AVX-512 DQ and AVX2.
        unsafe {
            let high = _mm512_extractf32x8_ps::<1>(self.0);
            Avx2(_mm256_add_ps(_mm512_castps512_ps256(self.0), high)).total()
        }
    }

    #[inline(always)]
    unsafe fn pair(low: Self, high: Self) -> Self {
        // SAFETY: the caller has AVX-512, with its bf16 part if `BF16`.
        unsafe {
            let high = _mm512_slli_epi32::<16>(high.rounded());
            Self(_mm512_castsi512_ps(_mm512_or_si512(high, low.rounded())))
        }
    }

    #[inline(always)]
    unsafe fn write_bf16(self, to: *mut u16) {
        // SAFETY: the caller has AVX-512, with its bf16 part if `BF16`, and room for 16 numbers; the
        // store is unaligned.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(self.rounded())) }
    }

    #[inline(always)]
    unsafe fn dot_pairs(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller has AVX-512, with its bf16 part if `BF16`.
        unsafe {
            if BF16 {
                let [a, b] = std::mem::transmute::<[Self; 2], [__m512bh; 2]>([self, b]);
                return Self(_mm512_dpbf16_ps(c.0, a, b));
            }
            let c = _mm512_fmadd_ps(self.low(), b.low(), c.0);
            Self(_mm512_fmadd_ps(self.high(), b.high(), c))
        }
    }
}

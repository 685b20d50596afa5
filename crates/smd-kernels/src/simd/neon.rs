//! NEON, which every machine of its target has.

use super::{Kernel, Vector};
use std::arch::aarch64::*;

/// Four lanes.
#[derive(Clone, Copy)]
pub(super) struct Neon(float32x4_t);

impl Neon {
    /// Each lane rounded to bf16, in the low half of 32 bits.
    ///
    /// # Safety
    /// The machine has NEON.
    #[inline(always)]
    unsafe fn rounded(self) -> uint32x4_t {
        // SAFETY: the caller's. As `bf16::round`.
        unsafe {
            let bits = vreinterpretq_u32_f32(self.0);
            let even = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let sum = vaddq_u32(bits, vaddq_u32(even, vdupq_n_u32(0x7fff)));
            let quiet = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
            let number = vceqq_f32(self.0, self.0);
            vshrq_n_u32::<16>(vbslq_u32(number, sum, quiet))
        }
    }

    /// The first number of each pair.
    ///
    /// # Safety
    /// The machine has NEON.
    #[inline(always)]
    unsafe fn low(self) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(self.0))) }
    }

    /// The second number of each pair.
    ///
    /// # Safety
    /// The machine has NEON.
    #[inline(always)]
    unsafe fn high(self) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe {
            let bits = vreinterpretq_u32_f32(self.0);
            vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff_0000)))
        }
    }
}

// SAFETY: NEON is part of every machine of this target.
unsafe impl Vector for Neon {
    const LANES: usize = 4;
    const ROWS: usize = 12;

    unsafe fn call<K: Kernel>(kernel: K) -> K::Out {
        // SAFETY: the caller's.
        unsafe { kernel.run::<Self>() }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vdupq_n_f32(x) })
    }

    #[inline(always)]
    unsafe fn load(from: &[f32]) -> Self {
        debug_assert!(from.len() >= 4);
        // SAFETY: the caller has NEON and `from` holds 4 numbers.
        Self(unsafe { vld1q_f32(from.as_ptr()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f32]) {
        debug_assert!(to.len() >= 4);
        // SAFETY: the caller has NEON and `to` holds 4 numbers.
        unsafe { vst1q_f32(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vfmaq_f32(c.0, self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vaddq_f32(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vsubq_f32(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vmulq_f32(self.0, b.0) })
    }

    #[inline(always)]
    unsafe fn raised_to(self, x: Self) -> Self {
        // SAFETY: the caller has NEON. A comparison with NaN is false.
        Self(unsafe { vbslq_f32(vcgtq_f32(x.0, self.0), x.0, self.0) })
    }

    #[inline(always)]
    unsafe fn lowered_to(self, x: Self) -> Self {
        // SAFETY: the caller has NEON. A comparison with NaN is false.
        Self(unsafe { vbslq_f32(vcltq_f32(x.0, self.0), x.0, self.0) })
    }

    #[inline(always)]
    unsafe fn times_two_to(self, n: Self) -> Self {
        // SAFETY: the caller has NEON.
        unsafe {
            let exponent = vaddq_s32(vcvtnq_s32_f32(n.0), vdupq_n_s32(127));
            let two_n = vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent));
            Self(vmulq_f32(self.0, two_n))
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller has NEON.
        unsafe { vmaxvq_f32(self.0) }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: the caller has NEON.
        unsafe {
            let halves = vadd_f32(vget_low_f32(self.0), vget_high_f32(self.0));
            vget_lane_f32::<0>(vpadd_f32(halves, halves))
        }
    }

    #[inline(always)]
    unsafe fn pair(low: Self, high: Self) -> Self {
        // SAFETY: the caller has NEON.
        unsafe {
            let high = vshlq_n_u32::<16>(high.rounded());
            Self(vreinterpretq_f32_u32(vorrq_u32(high, low.rounded())))
        }
    }

    #[inline(always)]
    unsafe fn write_bf16(self, to: *mut u16) {
        // SAFETY: the caller has NEON and room for four numbers.
        unsafe { vst1_u16(to, vmovn_u32(self.rounded())) }
    }

    #[inline(always)]
    unsafe fn dot_pairs(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller has NEON.
        unsafe {
            let c = vfmaq_f32(c.0, self.low(), b.low());
            Self(vfmaq_f32(c, self.high(), b.high()))
        }
    }
}

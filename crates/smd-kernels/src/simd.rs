//! The instruction sets a kernel is compiled for, and the vector they offer it.

use std::sync::OnceLock;

/// An instruction set, from the plainest to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every machine of the target has.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

impl Level {
    /// Numbers in one vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Avx512 => 16,
            Self::Avx2 | Self::Portable => 8,
        }
    }
}

/// The instruction set in use: the widest that the machine has, or less by `SMD_KERNELS`
/// (`portable`, `avx2`, `avx512`). A name that is unknown or that the machine lacks is ignored.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let best = detect();
        let asked = match std::env::var("SMD_KERNELS").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") => Level::Avx2,
            _ => Level::Avx512,
        };
        asked.min(best)
    })
}

/// Every instruction set that this machine can run.
pub fn available() -> Vec<Level> {
    [Level::Portable, Level::Avx2, Level::Avx512]
        .into_iter()
        .filter(|&level| level <= detect())
        .collect()
}

/// Panics where the machine lacks `level`: running its code there would be undefined.
pub(crate) fn assert_available(level: Level) {
    assert!(level <= detect(), "this machine has no {level:?}");
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        Level::Portable
    } else if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
    {
        Level::Avx512
    } else {
        Level::Avx2
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// A vector of f32 lanes: what a register of the instruction set holds.
///
/// # Safety
/// The methods may only run on a machine that has the implementor's instruction set.
pub(crate) unsafe trait Vector: Copy {
    /// Numbers in one vector.
    const LANES: usize;
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

/// Eight lanes of plain code.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 8]);

// SAFETY: plain code runs everywhere.
unsafe impl Vector for Plain {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: &[f32]) -> Self {
        let mut lanes = [0.0; 8];
        lanes.copy_from_slice(&from[..8]);
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f32]) {
        to[..8].copy_from_slice(&self.0);
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // Not `f32::mul_add`: without FMA in hardware that is a slow library call.
        let mut out = c.0;
        for (o, (x, y)) in out.iter_mut().zip(self.0.iter().zip(b.0)) {
            *o += x * y;
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - b.0[i]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    /// Eight lanes of AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    // SAFETY: `level` hands out this type only where AVX2 and FMA are present.
    unsafe impl Vector for Avx2 {
        const LANES: usize = 8;

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
    }

    /// Sixteen lanes of AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    // SAFETY: `level` hands out this type only where AVX-512 F is present.
    unsafe impl Vector for Avx512 {
        const LANES: usize = 16;

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
    }
}

/// Defines `$name` as plain code compiled once for each instruction set.
///
/// The body must be simple loops: the compiler turns them into vectors of the width at hand. The
/// first argument of the generated function is the [`Level`].
macro_rules! compiled_for_each_level {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $visible fn $name(level: $crate::simd::Level, $($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) $(-> $out)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) $(-> $out)? {
                body($($arg),*)
            }

            $crate::simd::assert_available(level);
            match level {
                // SAFETY: checked on the line before the match.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: checked on the line before the match.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use compiled_for_each_level;

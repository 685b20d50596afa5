//! As many multiply-adds as the registers allow: the machine's peak.

#[cfg(target_arch = "x86_64")]
use crate::simd::x86::{Avx2, Avx512};
use crate::simd::{self, Level, Plain, Vector};
use std::hint::black_box;

/// Runs chains of multiply-adds that touch no memory and returns how many floating-point operations
/// they were.
pub fn multiply_adds(level: Level, rounds: usize) -> f64 {
    simd::assert_available(level);
    match level {
        // SAFETY: checked on the line before the match.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(rounds) },
        // SAFETY: checked on the line before the match.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(rounds) },
        // SAFETY: plain code runs everywhere.
        _ => unsafe { chains::<Plain, 4>(rounds) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512(rounds: usize) -> f64 {
    // SAFETY: this function runs only where its features were detected.
    unsafe { chains::<Avx512, 24>(rounds) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: usize) -> f64 {
    // SAFETY: this function runs only where its features were detected.
    unsafe { chains::<Avx2, 12>(rounds) }
}

/// `M` independent chains, enough to hide the latency of one.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn chains<V: Vector, const M: usize>(rounds: usize) -> f64 {
    // SAFETY: the caller has the instruction set, and `lanes` holds one vector.
    unsafe {
        let (a, b) = (V::splat(black_box(0.5)), V::splat(black_box(1.0)));
        let mut acc = [V::splat(black_box(2.0)); M];
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = acc.mul_add(a, b);
            }
        }
        let mut lanes = [0.0; 16];
        for acc in acc {
            acc.store(&mut lanes);
            black_box(lanes);
        }
    }
    (2 * V::LANES * M * rounds) as f64
}

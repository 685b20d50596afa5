//! As many multiply-adds as the registers allow: the machine's peak.

use crate::simd::{self, Kernel, Level, Vector};
use std::hint::black_box;

/// Runs chains of multiply-adds that touch no memory and returns how many floating-point operations
/// they were.
pub fn multiply_adds(level: Level, rounds: usize) -> f64 {
    simd::run(level, Chains { rounds })
}

/// Independent chains, enough to hide the latency of one: what `V::ROWS` rows of a block have.
struct Chains {
    rounds: usize,
}

impl Kernel for Chains {
    type Out = f64;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> f64 {
        // SAFETY: the caller has the instruction set.
        unsafe {
            match V::ROWS {
                12 => chains::<V, 24>(self.rounds),
                6 => chains::<V, 12>(self.rounds),
                _ => chains::<V, 4>(self.rounds),
            }
        }
    }
}

/// `M` chains.
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

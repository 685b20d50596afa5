//! Eight lanes of plain code.

use super::{Kernel, Vector};
use crate::bf16;

/// What every machine has: the compiler makes of it what it can.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 8]);

impl Plain {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

// SAFETY: plain code runs everywhere.
unsafe impl Vector for Plain {
    const LANES: usize = 8;
    const ROWS: usize = 4;

    unsafe fn call<K: Kernel>(kernel: K) -> K::Out {
        // SAFETY: plain code runs everywhere.
        unsafe { kernel.run::<Self>() }
    }

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
        self.zip(b, |x, y| x + y)
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        self.zip(b, |x, y| x - y)
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        self.zip(b, |x, y| x * y)
    }

    #[inline(always)]
    unsafe fn raised_to(self, x: Self) -> Self {
        self.zip(x, |most, x| if x > most { x } else { most })
    }

    #[inline(always)]
    unsafe fn lowered_to(self, x: Self) -> Self {
        self.zip(x, |least, x| if x < least { x } else { least })
    }

    #[inline(always)]
    unsafe fn times_two_to(self, n: Self) -> Self {
        self.zip(n, |x, n| {
            x * f32::from_bits(((n as i32 + 127) as u32) << 23)
        })
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        let x: [f32; 4] = std::array::from_fn(|i| self.0[i] + self.0[i + 4]);
        (x[0] + x[2]) + (x[1] + x[3])
    }

    #[inline(always)]
    unsafe fn pair(low: Self, high: Self) -> Self {
        low.zip(high, bf16::pair)
    }

    #[inline(always)]
    unsafe fn write_bf16(self, to: *mut u16) {
        for (i, x) in self.0.into_iter().enumerate() {
            // SAFETY: the caller's: there is room for eight.
            unsafe { to.add(i).write(bf16::round(x)) };
        }
    }

    #[inline(always)]
    unsafe fn dot_pairs(self, b: Self, c: Self) -> Self {
        let low = self.zip(b, |a, b| bf16::low(a) * bf16::low(b));
        let high = self.zip(b, |a, b| bf16::high(a) * bf16::high(b));
        c.zip(low, |c, x| c + x).zip(high, |c, x| c + x)
    }
}

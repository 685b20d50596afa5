//! What runs one share of an attention: the instruction set chosen, scratch memory at hand.

use super::panels::Products;
#[cfg(target_arch = "x86_64")]
use crate::simd::x86::{Avx2, Avx512};
use crate::simd::{self, Level, Plain};
use std::cell::RefCell;

/// Work for one thread.
pub(crate) trait Kernel {
    /// Numbers of scratch memory, where a vector has `lanes`.
    fn scratch_len(&self, lanes: usize) -> usize;

    /// Does the work. `scratch` has any values.
    ///
    /// Implementors are `#[inline(always)]` and use no closure on the way to the vectors: that would be
    /// compiled for the plain machine.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    unsafe fn run<V: Products>(self, scratch: &mut [f32]);
}

/// Runs a kernel on this thread.
pub(crate) fn run(level: Level, kernel: impl Kernel) {
    simd::assert_available(level);
    with_scratch(kernel.scratch_len(level.lanes()), |scratch| match level {
        // SAFETY: checked above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(kernel, scratch) },
        // SAFETY: checked above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(kernel, scratch) },
        // SAFETY: plain code runs everywhere.
        _ => unsafe { kernel.run::<Plain>(scratch) },
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512(kernel: impl Kernel, scratch: &mut [f32]) {
    // SAFETY: this function runs only where its features were detected.
    unsafe { kernel.run::<Avx512>(scratch) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(kernel: impl Kernel, scratch: &mut [f32]) {
    // SAFETY: this function runs only where its features were detected.
    unsafe { kernel.run::<Avx2>(scratch) }
}

thread_local! {
    /// Scratch memory of a thread, reused from call to call.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with `len` numbers of any value, from the start of a cache line on.
fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    const LINE: usize = 64;
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len + LINE / 4 {
            scratch.resize(len + LINE / 4, 0.0);
        }
        let skip = scratch.as_ptr().align_offset(LINE).min(LINE / 4);
        work(&mut scratch[skip..][..len])
    })
}

/// Cuts scratch memory into parts of these lengths.
pub(crate) fn parts<const K: usize>(mut scratch: &mut [f32], lens: [usize; K]) -> [&mut [f32]; K] {
    lens.map(|len| {
        let (part, rest) = std::mem::take(&mut scratch).split_at_mut(len);
        scratch = rest;
        part
    })
}

/// Multiplications that are worth waking another thread for.
const WORTH_A_TASK: usize = 1 << 20;

/// Of tasks of so many multiplications each, those that one thread takes at least.
pub(crate) fn tasks_together(multiplications: usize) -> usize {
    WORTH_A_TASK.div_ceil(multiplications.max(1))
}

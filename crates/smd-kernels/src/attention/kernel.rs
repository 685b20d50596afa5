//! What runs one share of an attention, with scratch memory at hand.

use crate::memory::with_scratch;
use crate::simd::{self, Level, Vector};

/// Work for one thread.
pub(crate) trait Kernel {
    /// Numbers of scratch memory, where a vector has `lanes`.
    fn scratch_len(&self, lanes: usize) -> usize;

    /// Does the work, as [`simd::Kernel::run`]. `scratch` has any values.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    unsafe fn run<V: Vector>(self, scratch: &mut [f32]);
}

/// Runs a kernel on this thread.
pub(crate) fn run(level: Level, kernel: impl Kernel) {
    with_scratch(kernel.scratch_len(level.lanes()), |scratch| {
        simd::run(level, WithScratch { kernel, scratch });
    });
}

struct WithScratch<'a, K> {
    kernel: K,
    scratch: &'a mut [f32],
}

impl<K: Kernel> simd::Kernel for WithScratch<'_, K> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe { self.kernel.run::<V>(self.scratch) }
    }
}

/// Cuts scratch memory into parts of these lengths.
pub(crate) fn parts<const K: usize>(mut scratch: &mut [f32], lens: [usize; K]) -> [&mut [f32]; K] {
    lens.map(|len| {
        let (part, rest) = std::mem::take(&mut scratch).split_at_mut(len);
        scratch = rest;
        part
    })
}

/// Multiplications that are worth waking another thread for; under Miri any, so that its small tests have
/// tasks on several threads.
const WORTH_A_TASK: usize = if cfg!(miri) { 1 } else { 1 << 20 };

/// Of tasks of so many multiplications each, those that one thread takes at least.
pub(crate) fn tasks_together(multiplications: usize) -> usize {
    WORTH_A_TASK.div_ceil(multiplications.max(1))
}

//! Memory for results: taken without writing it first, and kept from step to step; and scratch memory.

use std::cell::RefCell;

thread_local! {
    /// Scratch memory of a thread, reused from call to call.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with `len` numbers of any value, from the start of a cache line on. `work` runs no other
/// task of the thread that asks for scratch memory.
pub(crate) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    const LINE: usize = 64;
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len + LINE / 4 {
            scratch.resize(len + LINE / 4, 0.0);
        }
        let skip = scratch.as_ptr().align_offset(LINE).min(LINE / 4);
        work(&mut scratch[skip..][..len])
    })
}

/// `len` numbers of any value, for a kernel to write all of them.
///
/// `vec![0.0; len]` would write every number twice: a tenth of the time of a training step. With debug
/// assertions the numbers are NaN, so that tests notice one that was never written.
pub fn any_numbers(len: usize) -> Vec<f32> {
    if cfg!(any(debug_assertions, miri, not(target_arch = "x86_64"))) {
        return vec![f32::NAN; len];
    }
    let mut numbers = Vec::with_capacity(len);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the capacity was just reserved. Every pattern of bits is an f32, and the empty assembly
    // may, as far as the compiler can know, have written them all: none is uninitialised.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) numbers.as_mut_ptr(), options(nostack, preserves_flags));
        numbers.set_len(len);
    }
    numbers
}

/// Makes mimalloc, where it is the program's allocator, keep freed memory instead of handing it back to
/// the system after a while: every step of a training asks for the same again, and the system would
/// clear each page anew. What the program holds is then its peak.
pub fn keep_freed() {
    // `mi_option_purge_delay` of mimalloc's options, which the binding has no name for; -1 is never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number in a table of the allocator; any time and value is allowed.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

#[cfg(test)]
mod tests {
    use super::any_numbers;

    #[test]
    #[cfg_attr(miri, ignore = "Miri runs no foreign code, and the allocator is C")]
    fn the_option_is_the_one_meant() {
        // SAFETY: reads a number of the allocator's table.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(15) };
        // Milliseconds, by default: of the options only this one.
        assert_eq!(delay(), 1000);
        super::keep_freed();
        assert_eq!(delay(), -1);
    }

    #[test]
    fn gives_as_many_as_asked_for() {
        for len in [0, 1, 1000] {
            assert_eq!(any_numbers(len).len(), len);
        }
    }
}

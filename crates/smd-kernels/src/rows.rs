//! What kernels on rows of numbers share.

/// Numbers that one task works on; fewer are not worth waking another thread.
const NUMBERS_PER_TASK: usize = 32 * 1024;

/// `sum a b` in sixteen interleaved parts, an order that vectors can follow.
///
/// Always inlined, so that it is compiled for the instruction set of the kernel that calls it.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut parts = [0.0_f32; 16];
    let (mut a, mut b) = (a.chunks_exact(16), b.chunks_exact(16));
    for (a, b) in (&mut a).zip(&mut b) {
        for ((part, &a), &b) in parts.iter_mut().zip(a).zip(b) {
            *part += a * b;
        }
    }
    let mut sum = 0.0;
    for (&a, &b) in a.remainder().iter().zip(b.remainder()) {
        sum += a * b;
    }
    // One after the other: adding halves leads the compiler to vectors of two in the loop above.
    for part in parts {
        sum += part;
    }
    sum
}

/// Rows of `width` numbers that one task works on.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (NUMBERS_PER_TASK / width).max(1)
}

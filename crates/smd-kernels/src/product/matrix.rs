//! Rows times a matrix that lies as the inner loop reads it.

use super::{Block, Factors, even_blocks, rows_times, with_rows};
use crate::simd::{Kernel, Level, Vector};

/// A matrix of weights and the bias of its outputs.
pub(crate) struct Matrix {
    /// Words of a row that it is multiplied with.
    words: usize,
    /// Outputs, up to a whole block.
    wide: usize,
    /// `[wide / N][words][N]`.
    packed: Vec<f32>,
    /// `[wide]`.
    bias: Vec<f32>,
}

impl Matrix {
    /// Of `outputs` sums over `inputs` products; `weight(output, input)` names a factor. The bias is
    /// `[outputs]` or empty for none.
    pub fn new<F: Factors>(
        level: Level,
        [inputs, outputs]: [usize; 2],
        bias: &[f32],
        weight: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let n = 2 * level.lanes();
        let (words, wide) = (inputs.div_ceil(F::PER_WORD), outputs.next_multiple_of(n));
        let mut packed = vec![0.0; words * wide];
        let weight = |output, input| {
            if output < outputs && input < inputs {
                weight(output, input)
            } else {
                0.0
            }
        };
        for (block, packed) in packed.chunks_exact_mut(words * n).enumerate() {
            for (word, row) in packed.chunks_exact_mut(n).enumerate() {
                for (lane, to) in row.iter_mut().enumerate() {
                    let (output, input) = (block * n + lane, word * F::PER_WORD);
                    let second = if F::PER_WORD == 2 {
                        weight(output, input + 1)
                    } else {
                        0.0
                    };
                    *to = F::word(weight(output, input), second);
                }
            }
        }
        let mut whole_bias = vec![0.0; wide];
        whole_bias[..bias.len()].copy_from_slice(bias);
        Self {
            words,
            wide,
            packed,
            bias: whole_bias,
        }
    }
}

/// `y = a matrix + bias`, for some rows.
pub(crate) struct Times<'a, F: Factors> {
    /// Rows of whole words.
    pub a: &'a [F::Number],
    pub matrix: &'a Matrix,
    /// `[rows, wide]`; the outputs behind the matrix's are 0.
    pub y: &'a mut [f32],
}

impl<F: Factors> Kernel for Times<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Matrix { words, wide, .. } = *self.matrix;
        let (n, row) = (2 * V::LANES, words * F::PER_WORD);
        let rows = self.y.len() / wide;
        assert_eq!(self.a.len(), rows * row, "whole rows");
        for block in 0..wide / n {
            let packed = &self.matrix.packed[block * words * n..][..words * n];
            let bias = &self.matrix.bias[block * n..][..n];
            for (from, len) in even_blocks(rows, V::ROWS) {
                let a = &self.a[from * row..][..len * row];
                let y = &mut self.y[from * wide + block * n..];
                // SAFETY: the caller has the instruction set.
                unsafe { with_rows!(len, times::<V, F>(a, packed, bias, y, wide)) };
            }
        }
    }
}

/// `M` rows of one block of outputs; rows of `y` are `wide` apart.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // See `rows_times`.
unsafe fn times<V: Vector, F: Factors, const M: usize>(
    a: &[F::Number],
    packed: &[f32],
    bias: &[f32],
    y: &mut [f32],
    wide: usize,
) {
    let n = 2 * V::LANES;
    let words = packed.len() / n;
    let row = words * F::PER_WORD;
    assert!(a.len() == M * row && y.len() >= (M - 1) * wide + n);
    // SAFETY: the caller has the instruction set; `packed` has `words` rows of two vectors, and the
    // assertion bounds the rest.
    unsafe {
        let bias: Block<V, M> = [[V::load(bias), V::load(&bias[V::LANES..])]; M];
        let sums = rows_times::<V, F, M>(a.as_ptr(), row, packed.as_ptr(), words, bias);
        let y = y.as_mut_ptr();
        for m in 0..M {
            sums[m][0].write(y.add(m * wide));
            sums[m][1].write(y.add(m * wide + V::LANES));
        }
    }
}

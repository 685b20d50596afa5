//! A block of queries against all keys, block by block.

use super::BLOCK;
use super::kernel::{Kernel, parts};
use super::panels::{add_transposed_times, gather, multiply, pack_transposed, scale_rows, unpack};
use super::rows::{Rows, RowsMut};
use crate::product::even_blocks;
use crate::simd::Vector;

/// At most [`BLOCK`] queries of one head.
pub(super) struct Block<'a> {
    pub q: Rows<'a>,
    pub k: Rows<'a>,
    pub v: Rows<'a>,
    /// `1 / sqrt(d)`.
    pub scale: f32,
    pub out: RowsMut<'a>,
    /// One for each query.
    pub log_sums: &'a mut [f32],
}

impl Block<'_> {
    /// Transposed queries, scores, values, sums of values, and of each query the largest score, the
    /// sum and a factor.
    fn parts(&self, lanes: usize) -> [usize; 7] {
        let n = 2 * lanes;
        let d = self.q.len();
        let (queries, keys) = (self.q.count(), self.k.count().min(BLOCK));
        let (wide_d, wide_q) = (d.next_multiple_of(n), queries.next_multiple_of(n));
        [
            wide_q * d,
            wide_q * keys,
            wide_d * keys,
            wide_d * queries,
            wide_q,
            wide_q,
            wide_q,
        ]
    }
}

impl Kernel for Block<'_> {
    fn scratch_len(&self, lanes: usize) -> usize {
        self.parts(lanes).iter().sum()
    }

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self, scratch: &mut [f32]) {
        let n = 2 * V::LANES;
        let [q_t, scores, values, acc, largest, sums, factors] =
            parts(scratch, self.parts(V::LANES));
        let (queries, wide_q) = (self.q.count(), largest.len());
        let d = self.q.len();
        let wide_d = d.next_multiple_of(n);
        pack_transposed(self.q, self.scale, n, q_t);
        acc.fill(0.0);
        largest.fill(f32::NEG_INFINITY);
        sums.fill(0.0);
        for (from, keys) in even_blocks(self.k.count(), BLOCK) {
            let scores = &mut scores[..keys * wide_q];
            let values = &mut values[..keys * wide_d];
            // SAFETY: the caller has the instruction set.
            unsafe {
                let mut to = RowsMut::new(scores, keys, wide_q, wide_q);
                multiply::<V>(self.k.part(from, keys), q_t, &mut to, false);
                exponentials::<V>(scores, largest, sums, factors);
                if from > 0 {
                    scale_rows::<V>(acc, &factors[..queries]);
                }
                gather::<V>(self.v.part(from, keys), d, wide_d, values);
                let weights = Rows::new(scores, keys, queries, wide_q);
                let values = Rows::new(values, keys, wide_d, wide_d);
                add_transposed_times::<V>(weights, values, acc);
            }
        }
        for (i, log_sum) in self.log_sums.iter_mut().enumerate() {
            *log_sum = largest[i] + sums[i].ln();
            factors[i] = 1.0 / sums[i];
        }
        // SAFETY: the caller has the instruction set.
        unsafe { unpack::<V>(acc, factors, &mut self.out) };
    }
}

/// Turns scores, `[keys][queries]`, into exponentials relative to the largest score so far.
///
/// What was summed relative to an earlier largest score has to be multiplied by `factors`; `sums` is.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn exponentials<V: Vector>(
    scores: &mut [f32],
    largest: &mut [f32],
    sums: &mut [f32],
    factors: &mut [f32],
) {
    let queries = largest.len();
    assert!(queries.is_multiple_of(V::LANES) && sums.len() == queries && factors.len() == queries);
    for at in (0..queries).step_by(V::LANES) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let before = V::load(&largest[at..]);
            let mut most = before;
            for row in scores.chunks_exact(queries) {
                most = most.raised_to(V::load(&row[at..]));
            }
            let mut added = V::splat(0.0);
            for row in scores.chunks_exact_mut(queries) {
                let e = V::load(&row[at..]).sub(most).exp();
                e.store(&mut row[at..]);
                added = added.add(e);
            }
            let factor = before.sub(most).exp();
            factor.store(&mut factors[at..]);
            V::load(&sums[at..])
                .mul_add(factor, added)
                .store(&mut sums[at..]);
            most.store(&mut largest[at..]);
        }
    }
}

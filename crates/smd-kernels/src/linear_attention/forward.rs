//! The two softmaxes and the context of some heads, and their output.

use super::RUN;
use crate::attention::kernel::{Kernel, parts};
use crate::attention::panels::{add_transposed_times, gather, multiply, scale_rows, scatter};
use crate::attention::rows::{Rows, RowsMut};
use crate::product::even_blocks;
use crate::simd::Vector;

/// Neighbouring heads of one image.
pub(super) struct Heads<'a> {
    pub q: Rows<'a>,
    pub keys: Keys<'a>,
    pub d: usize,
    /// `1 / sqrt(d)`.
    pub scale: f32,
    pub out: RowsMut<'a>,
}

impl Heads<'_> {
    /// Largest keys, sums, a run of queries or keys, a run of values, contexts.
    fn parts(&self, lanes: usize) -> [usize; 5] {
        let wide = self.d.next_multiple_of(2 * lanes);
        let all = self.q.len() / self.d * wide;
        let run = all * self.q.count().min(RUN);
        [all, all, run, run, all * self.d]
    }
}

impl Kernel for Heads<'_> {
    fn scratch_len(&self, lanes: usize) -> usize {
        self.parts(lanes).iter().sum()
    }

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self, scratch: &mut [f32]) {
        let [largest, sums, run, values, contexts] = parts(scratch, self.parts(V::LANES));
        let (d, all) = (self.d, largest.len());
        let wide = d.next_multiple_of(2 * V::LANES);
        // SAFETY: the caller has the instruction set.
        unsafe {
            let keys = Statistics { largest, sums };
            self.keys
                .contexts::<V>(d, keys, run, values, contexts, None);
            divide(self.scale, sums);
            for (context, sums) in contexts.chunks_exact_mut(d * wide).zip(sums.chunks(wide)) {
                scale_rows::<V>(context, &sums[..d]);
            }
            for (from, count) in even_blocks(self.q.count(), RUN) {
                let run = &mut run[..count * all];
                queries::<V>(self.q.part(from, count), d, wide, run);
                let mut out = self.out.part(from, count);
                for (head, context) in contexts.chunks_exact(d * wide).enumerate() {
                    let weights = Rows::new(&run[head * wide..], count, d, all);
                    multiply::<V>(weights, context, &mut out.columns(head * d, d), false);
                }
            }
        }
    }
}

/// Keys and values of neighbouring heads.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub k: Rows<'a>,
    pub v: Rows<'a>,
}

/// Of each channel of the keys, over all pixels: the largest, and the sum of the exponentials
/// relative to it.
pub(super) struct Statistics<'a> {
    pub largest: &'a mut [f32],
    pub sums: &'a mut [f32],
}

impl Keys<'_> {
    /// Writes the statistics, and the contexts in panels: not divided by `sums` yet.
    ///
    /// `run` and `values` are scratch memory; `kept` takes the exponentials of all keys.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn contexts<V: Vector>(
        &self,
        d: usize,
        statistics: Statistics,
        run: &mut [f32],
        values: &mut [f32],
        contexts: &mut [f32],
        mut kept: Option<&mut RowsMut>,
    ) {
        let Statistics { largest, sums } = statistics;
        let (pixels, all) = (self.k.count(), largest.len());
        let wide = d.next_multiple_of(2 * V::LANES);
        largest.fill(f32::NEG_INFINITY);
        for (from, count) in even_blocks(pixels, RUN) {
            let run = &mut run[..count * all];
            // SAFETY: the caller has the instruction set.
            unsafe {
                gather::<V>(self.k.part(from, count), d, wide, run);
                raise::<V>(run, largest);
            }
        }
        sums.fill(0.0);
        contexts.fill(0.0);
        for (from, count) in even_blocks(pixels, RUN) {
            let run = &mut run[..count * all];
            let values = &mut values[..count * all];
            // SAFETY: the caller has the instruction set.
            unsafe {
                gather::<V>(self.k.part(from, count), d, wide, run);
                exponentials::<V>(run, largest, sums);
                if let Some(kept) = &mut kept {
                    scatter::<V>(run, wide, d, &mut kept.part(from, count));
                }
                gather::<V>(self.v.part(from, count), d, wide, values);
                for (head, context) in contexts.chunks_exact_mut(d * wide).enumerate() {
                    let weights = Rows::new(&run[head * wide..], count, d, all);
                    let values = Rows::new(&values[head * wide..], count, wide, all);
                    add_transposed_times::<V>(weights, values, context);
                }
            }
        }
    }
}

/// `x = a / x`.
#[inline(always)]
pub(super) fn divide(a: f32, x: &mut [f32]) {
    for x in x {
        *x = a / *x;
    }
}

/// Writes the softmax of each query to `[count][heads][wide]`; after its `d` numbers come some so
/// small that they change no sum.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn queries<V: Vector>(q: Rows, d: usize, wide: usize, to: &mut [f32]) {
    // SAFETY: the caller has the instruction set.
    unsafe {
        gather::<V>(q, d, wide, to);
        for query in to.chunks_exact_mut(wide) {
            if d < wide {
                query[d..].fill(f32::NEG_INFINITY);
            }
            let mut most = V::splat(f32::NEG_INFINITY);
            for x in query.chunks_exact(V::LANES) {
                most = most.raised_to(V::load(x));
            }
            let most = V::splat(most.largest());
            let mut sums = V::splat(0.0);
            for x in query.chunks_exact_mut(V::LANES) {
                let e = V::load(x).sub(most).exp();
                e.store(x);
                sums = sums.add(e);
            }
            let scale = V::splat(1.0 / sums.total());
            for x in query.chunks_exact_mut(V::LANES) {
                V::load(x).mul(scale).store(x);
            }
        }
    }
}

/// Raises `largest` to the numbers of each row.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn raise<V: Vector>(rows: &[f32], largest: &mut [f32]) {
    for row in rows.chunks_exact(largest.len()) {
        for (most, x) in largest
            .chunks_exact_mut(V::LANES)
            .zip(row.chunks_exact(V::LANES))
        {
            // SAFETY: the caller has the instruction set.
            unsafe { V::load(most).raised_to(V::load(x)).store(most) };
        }
    }
}

/// Turns keys into exponentials relative to the largest, and adds them to `sums`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn exponentials<V: Vector>(rows: &mut [f32], largest: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact_mut(largest.len()) {
        let channels = largest
            .chunks_exact(V::LANES)
            .zip(sums.chunks_exact_mut(V::LANES));
        for (x, (largest, sums)) in row.chunks_exact_mut(V::LANES).zip(channels) {
            // SAFETY: the caller has the instruction set.
            unsafe {
                let e = V::load(x).sub(V::load(largest)).exp();
                e.store(x);
                V::load(sums).add(e).store(sums);
            }
        }
    }
}

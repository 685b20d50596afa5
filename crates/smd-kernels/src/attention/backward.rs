//! The gradients of one head.
//!
//! ```text
//! P = exp(q k^T / sqrt(d) - log_sum)                 g: the gradient of out
//! dv = P^T g,  dS = P . (g v^T - sum_d g . out)
//! dq = dS k / sqrt(d),  dk = dS^T q / sqrt(d)
//! ```

use super::BLOCK;
use super::kernel::{Kernel, parts};
use super::panels::{add_transposed_times, gather, multiply, pack, pack_transposed, unpack};
use super::rows::{Rows, RowsMut};
use crate::product::even_blocks;
use crate::simd::Vector;

/// One head of one image.
pub(super) struct Head<'a> {
    pub q: Rows<'a>,
    pub k: Rows<'a>,
    pub v: Rows<'a>,
    /// `1 / sqrt(d)`.
    pub scale: f32,
    pub out: Rows<'a>,
    pub log_sums: &'a [f32],
    pub grad: Rows<'a>,
    pub q_out: RowsMut<'a>,
    pub k_out: RowsMut<'a>,
    pub v_out: RowsMut<'a>,
}

impl Head<'_> {
    /// Of a block of queries: queries and gradients, transposed and not, the gradient of the queries;
    /// keys; scores and their gradients; and of each query the logarithm of the sum, the product of
    /// output and gradient, and a factor.
    fn parts(&self, lanes: usize) -> [usize; 11] {
        let n = 2 * lanes;
        let (d, block) = (self.q.len(), self.q.count().min(BLOCK));
        let (wide_d, wide) = (d.next_multiple_of(n), block.next_multiple_of(n));
        let (turned, whole, scores) = (wide * d, wide_d * block, wide * block);
        [
            turned, turned, whole, whole, whole, whole, scores, scores, wide, wide, wide,
        ]
    }
}

impl Kernel for Head<'_> {
    fn scratch_len(&self, lanes: usize) -> usize {
        self.parts(lanes).iter().sum()
    }

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self, scratch: &mut [f32]) {
        let n = 2 * V::LANES;
        let [q_t, g_t, q, g, dq, k, p, ds, logs, dots, factors] =
            parts(scratch, self.parts(V::LANES));
        let (d, pixels) = (self.q.len(), self.q.count());
        let wide_d = d.next_multiple_of(n);
        factors.fill(self.scale);
        for (first, queries) in even_blocks(pixels, BLOCK) {
            let wide = queries.next_multiple_of(n);
            let (q_t, g_t) = (&mut q_t[..wide * d], &mut g_t[..wide * d]);
            let (q, g) = (&mut q[..wide_d * queries], &mut g[..wide_d * queries]);
            let (logs, dots) = (&mut logs[..wide], &mut dots[..wide]);
            let dq = &mut dq[..wide_d * queries];
            let (queries_in, grads_in) =
                (self.q.part(first, queries), self.grad.part(first, queries));
            pack_transposed(queries_in, self.scale, n, q_t);
            pack_transposed(grads_in, 1.0, n, g_t);
            logs.fill(0.0);
            logs[..queries].copy_from_slice(&self.log_sums[first..][..queries]);
            dots.fill(0.0);
            dq.fill(0.0);
            // SAFETY: the caller has the instruction set.
            unsafe {
                for (i, dot) in dots[..queries].iter_mut().enumerate() {
                    *dot = product::<V>(self.out.row(first + i), grads_in.row(i));
                }
                pack::<V>(queries_in, self.scale, q);
                pack::<V>(grads_in, 1.0, g);
            }
            for (from, keys) in even_blocks(pixels, BLOCK) {
                let (p, ds) = (&mut p[..keys * wide], &mut ds[..keys * wide]);
                let k = &mut k[..wide_d * keys];
                let keys_in = self.k.part(from, keys);
                // SAFETY: the caller has the instruction set.
                unsafe {
                    let mut scores = RowsMut::new(p, keys, wide, wide);
                    multiply::<V>(keys_in, q_t, &mut scores, false);
                    let mut slopes_of_weights = RowsMut::new(ds, keys, wide, wide);
                    let values_in = self.v.part(from, keys);
                    multiply::<V>(values_in, g_t, &mut slopes_of_weights, false);
                    slopes::<V>(p, ds, logs, dots);

                    let p = Rows::new(p, keys, queries, wide);
                    let ds = Rows::new(ds, keys, queries, wide);
                    let add = first > 0;
                    multiply::<V>(p, g, &mut self.v_out.part(from, keys), add);
                    multiply::<V>(ds, q, &mut self.k_out.part(from, keys), add);
                    gather::<V>(keys_in, d, wide_d, k);
                    add_transposed_times::<V>(ds, Rows::new(k, keys, wide_d, wide_d), dq);
                }
            }
            // SAFETY: the caller has the instruction set.
            unsafe { unpack::<V>(dq, factors, &mut self.q_out.part(first, queries)) };
        }
    }
}

/// Turns scores into weights, and the gradients of weights into those of scores; `[keys][queries]`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn slopes<V: Vector>(p: &mut [f32], ds: &mut [f32], logs: &[f32], dots: &[f32]) {
    let queries = logs.len();
    assert!(queries.is_multiple_of(V::LANES) && dots.len() == queries);
    for at in (0..queries).step_by(V::LANES) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (log, dot) = (V::load(&logs[at..]), V::load(&dots[at..]));
            for (p, ds) in p
                .chunks_exact_mut(queries)
                .zip(ds.chunks_exact_mut(queries))
            {
                let (p, ds) = (&mut p[at..], &mut ds[at..]);
                let weight = V::load(p).sub(log).exp();
                weight.store(p);
                V::load(ds).sub(dot).mul(weight).store(ds);
            }
        }
    }
}

/// `sum_i a[i] * b[i]`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn product<V: Vector>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let mut sums = V::splat(0.0);
        for (a, b) in a.chunks(V::LANES).zip(b.chunks(V::LANES)) {
            sums = V::read_some(a).mul_add(V::read_some(b), sums);
        }
        sums.total()
    }
}

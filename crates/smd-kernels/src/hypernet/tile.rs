//! Some pixels on their way through the layers.

use super::{HyperNet, Parameters, TILE, layer};
use crate::product::{Factors, Matrix, Times, write_factors};
use crate::simd::{Level, Vector};

/// The matrices of all layers. Rows of `L` numbers are filled up with zeros to whole blocks.
pub(super) struct Matrices {
    /// `W_in`.
    input: Matrix,
    /// `P_1` to `P_K`, one behind the other.
    proj: Matrix,
    /// `W_out`.
    output: Matrix,
    /// The same transposed, for the backward pass.
    pub(super) transposed: Option<Transposed>,
    pub(super) scales: Vec<f32>,
}

/// Matrices that gradients go back through.
pub(super) struct Transposed {
    pub input: Matrix,
    pub proj: Matrix,
    pub output: Matrix,
}

/// `L` up to a whole block.
pub(super) fn wide(level: Level, net: &HyperNet) -> usize {
    net.latent.next_multiple_of(2 * level.lanes())
}

impl Matrices {
    pub(super) fn forward<F: Factors>(level: Level, net: &HyperNet, p: &Parameters) -> Self {
        let (c, l, wide) = (net.channels, net.latent, wide(level, net));
        // Of output `i` of layer `i / wide`: the row, or none where zeros fill up.
        let row = |i: usize| (i % wide < l).then_some(i / wide * l + i % wide);
        let mut proj_bias = vec![0.0; net.layers * wide];
        for (i, bias) in proj_bias.iter_mut().enumerate() {
            *bias = row(i).map_or(0.0, |row| p.proj_bias[row]);
        }
        Self {
            input: Matrix::new::<F>(level, [c, l], p.in_bias, |o, i| p.in_weight[o * c + i]),
            proj: Matrix::new::<F>(level, [l, net.layers * wide], &proj_bias, |o, i| {
                row(o).map_or(0.0, |row| p.proj_weight[row * l + i])
            }),
            output: Matrix::new::<F>(level, [wide, c], p.out_bias, |o, i| {
                row(i).map_or(0.0, |i| p.out_weight[o * l + i])
            }),
            transposed: None,
            scales: p.scales.to_vec(),
        }
    }

    pub(super) fn backward<F: Factors>(level: Level, net: &HyperNet, p: &Parameters) -> Self {
        let (c, l, wide) = (net.channels, net.latent, wide(level, net));
        let row = |i: usize| (i % wide < l).then_some(i / wide * l + i % wide);
        let transposed = Transposed {
            input: Matrix::new::<F>(level, [wide, c], &[], |o, i| {
                row(i).map_or(0.0, |i| p.in_weight[i * c + o])
            }),
            proj: Matrix::new::<F>(level, [net.layers * wide, l], &[], |o, i| {
                row(i).map_or(0.0, |row| p.proj_weight[row * l + o])
            }),
            output: Matrix::new::<F>(level, [c, l], &[], |o, i| p.out_weight[i * l + o]),
        };
        Self {
            transposed: Some(transposed),
            ..Self::forward::<F>(level, net, p)
        }
    }
}

/// What some pixels are made of on their way.
pub(super) struct Tile<F: Factors> {
    net: HyperNet,
    /// `L` up to a whole block.
    wide: usize,
    /// Pixels in it.
    pub count: usize,
    x: Factored<F>,
    z: Factored<F>,
    /// `h_0` to `h_K`, each `[TILE, wide]`.
    h: Vec<f32>,
    /// `v_1` to `v_K` side by side: `[TILE, K, wide]`.
    pub v: Vec<f32>,
    last: Factored<F>,
    out: Vec<f32>,
}

impl<F: Factors> Tile<F> {
    pub(super) fn new(level: Level, net: &HyperNet) -> Self {
        let wide = wide(level, net);
        Self {
            net: *net,
            wide,
            count: 0,
            x: Factored::default(),
            z: Factored::default(),
            h: vec![0.0; (net.layers + 1) * TILE * wide],
            v: vec![0.0; TILE * net.layers * wide],
            last: Factored::default(),
            out: Vec::new(),
        }
    }

    /// `h_k` of all pixels, `[count, wide]`.
    pub(super) fn h(&self, k: usize) -> &[f32] {
        &self.h[k * TILE * self.wide..][..self.count * self.wide]
    }

    /// Takes some pixels through all layers but the last linear one.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn layers<V: Vector>(&mut self, matrices: &Matrices, x: &[f32], z: &[f32]) {
        let (wide, layers) = (self.wide, self.net.layers);
        self.count = x.len() / self.net.channels;
        // SAFETY: the caller has the instruction set.
        unsafe {
            let x = self.x.of::<V>(x, self.net.channels);
            times::<V, F>(x, &matrices.input, &mut self.h[..self.count * wide]);
            let z = self.z.of::<V>(z, self.net.latent);
            times::<V, F>(z, &matrices.proj, &mut self.v[..self.count * layers * wide]);
        }
        for (k, &s) in matrices.scales.iter().enumerate() {
            let (before, after) = self.h.split_at_mut((k + 1) * TILE * wide);
            let before = &before[k * TILE * wide..];
            for i in 0..self.count {
                let v = &self.v[(i * layers + k) * wide..][..wide];
                let (h, out) = (&before[i * wide..][..wide], &mut after[i * wide..][..wide]);
                layer::forward(v, h, s, out);
            }
        }
    }

    /// Takes them through the last one.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn write_out<V: Vector>(&mut self, matrices: &Matrices, out: &mut [f32]) {
        let h = &self.h[self.net.layers * TILE * self.wide..][..self.count * self.wide];
        // SAFETY: the caller has the instruction set.
        unsafe {
            let h = self.last.of::<V>(h, self.wide);
            write_product::<V, F>(h, &matrices.output, &mut self.out, self.net.channels, out);
        }
    }
}

/// Rows of factors, each of whole words.
pub(super) struct Factored<F: Factors>(Vec<F::Number>);

impl<F: Factors> Default for Factored<F> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F: Factors> Factored<F> {
    /// Rows of `len` numbers as factors, with zeros up to whole words.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn of<V: Vector>(&mut self, x: &[f32], len: usize) -> &[F::Number] {
        let row = len.next_multiple_of(F::PER_WORD);
        let rows = x.len() / len;
        self.0.resize(rows * row, F::Number::default());
        for (x, to) in x.chunks_exact(len).zip(self.0.chunks_exact_mut(row)) {
            let (numbers, rest) = to.split_at_mut(len);
            // SAFETY: the caller has the instruction set.
            unsafe { write_factors::<V, F>(x, numbers) };
            // Not what an earlier use left: zero times infinity is no number.
            rest.fill(F::Number::default());
        }
        &self.0
    }
}

/// `y = a matrix + bias`.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn times<V: Vector, F: Factors>(a: &[F::Number], matrix: &Matrix, y: &mut [f32]) {
    // SAFETY: the caller has the instruction set.
    unsafe { V::call(Times::<F> { a, matrix, y }) };
}

/// The same, without what fills up the rows.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn write_product<V: Vector, F: Factors>(
    a: &[F::Number],
    matrix: &Matrix,
    scratch: &mut Vec<f32>,
    len: usize,
    out: &mut [f32],
) {
    let wide = len.next_multiple_of(2 * V::LANES);
    scratch.resize(out.len() / len * wide, 0.0);
    // SAFETY: the caller has the instruction set.
    unsafe { times::<V, F>(a, matrix, scratch) };
    for (y, out) in scratch.chunks_exact(wide).zip(out.chunks_exact_mut(len)) {
        out.copy_from_slice(&y[..len]);
    }
}

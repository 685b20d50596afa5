//! Gradients: some pixels go through the layers once more, then back.

use super::tile::{Factored, Matrices, Tile, times, wide, write_product};
use super::{HyperNet, TILE, layer};
use crate::product::{Columns, Factors, Strided};
use crate::simd::{self, Kernel, Level, Vector};

/// Sums over pixels, of which gradients of parameters are made: blocks of `N` rows of a weight that has `L`
/// rows, `[wide / N][columns][N]`.
pub(super) struct Sums {
    /// `h_0`'s gradient times `x`.
    input: Vec<f32>,
    /// The gradients of all `v` times `z`.
    proj: Vec<f32>,
    /// `h_K` times the output's gradient.
    output: Vec<f32>,
    in_bias: Vec<f32>,
    proj_bias: Vec<f32>,
    out_bias: Vec<f32>,
    scales: Vec<f64>,
}

impl Sums {
    fn new(net: &HyperNet, wide: usize) -> Self {
        let (c, all) = (net.channels, net.layers * wide);
        Self {
            input: vec![0.0; wide * c],
            proj: vec![0.0; all * net.latent],
            output: vec![0.0; wide * c],
            in_bias: vec![0.0; wide],
            proj_bias: vec![0.0; all],
            out_bias: vec![0.0; c],
            scales: vec![0.0; net.layers],
        }
    }

    /// All sums added in order, in the order of the parameters.
    pub(super) fn total(level: Level, net: &HyperNet, sums: &[Self]) -> Vec<f32> {
        let (c, l, k, wide) = (net.channels, net.latent, net.layers, wide(level, net));
        let n = 2 * level.lanes();
        let mut total = Self::new(net, wide);
        for sums in sums {
            for (to, from) in [
                (&mut total.input, &sums.input),
                (&mut total.proj, &sums.proj),
                (&mut total.output, &sums.output),
                (&mut total.in_bias, &sums.in_bias),
                (&mut total.proj_bias, &sums.proj_bias),
                (&mut total.out_bias, &sums.out_bias),
            ] {
                add(to, from);
            }
            for (to, from) in total.scales.iter_mut().zip(&sums.scales) {
                *to += from;
            }
        }
        // Row `row` of a weight lies in block `row / N`.
        let at =
            |row: usize, column: usize, columns: usize| (row / n * columns + column) * n + row % n;
        let rows = |k: usize| (0..k).flat_map(|k| k * wide..k * wide + l);
        let mut all = Vec::with_capacity(net.parameters_len());
        for row in rows(1) {
            all.extend((0..c).map(|column| total.input[at(row, column, c)]));
        }
        all.extend_from_slice(&total.in_bias[..l]);
        for row in rows(k) {
            all.extend((0..l).map(|column| total.proj[at(row, column, l)]));
        }
        all.extend(rows(k).map(|row| total.proj_bias[row]));
        all.extend(total.scales.iter().map(|&s| s as f32));
        for column in 0..c {
            all.extend((0..l).map(|row| total.output[at(row, column, c)]));
        }
        all.extend_from_slice(&total.out_bias);
        all
    }
}

/// Adds rows of `sums.len()` numbers.
#[inline(always)]
fn add(sums: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

/// One task, and the memory it works in.
pub(super) struct Gradients<'a, F: Factors> {
    net: &'a HyperNet,
    matrices: &'a Matrices,
    wide: usize,
    tile: Tile<F>,
    sums: Sums,
    /// Of `h_k`, `[TILE, wide]`.
    h_grad: Vec<f32>,
    /// `[TILE, K, wide]`.
    v_grad: Vec<f32>,
    factors: Factored<F>,
    scratch: Vec<f32>,
    words: [Vec<f32>; 2],
}

impl<'a, F: Factors> Gradients<'a, F> {
    pub(super) fn new(level: Level, net: &'a HyperNet, matrices: &'a Matrices) -> Self {
        let wide = wide(level, net);
        Self {
            net,
            matrices,
            wide,
            tile: Tile::new(level, net),
            sums: Sums::new(net, wide),
            h_grad: vec![0.0; TILE * wide],
            v_grad: vec![0.0; TILE * net.layers * wide],
            factors: Factored::default(),
            scratch: Vec::new(),
            words: [Vec::new(), Vec::new()],
        }
    }

    /// Writes the gradients of some pixels and returns their part of the parameters'.
    pub(super) fn run(
        mut self,
        level: Level,
        [x, z, grad]: [&[f32]; 3],
        x_grad: &mut [f32],
        z_grad: &mut [f32],
    ) -> Sums {
        let (c, l) = (self.net.channels, self.net.latent);
        let inputs = x.chunks(TILE * c).zip(z.chunks(TILE * l));
        let outputs = x_grad.chunks_mut(TILE * c).zip(z_grad.chunks_mut(TILE * l));
        for (((x, z), grad), (x_grad, z_grad)) in inputs.zip(grad.chunks(TILE * c)).zip(outputs) {
            let pixels = Pixels {
                task: &mut self,
                inputs: [x, z, grad],
                x_grad,
                z_grad,
            };
            simd::run(level, pixels);
        }
        self.sums
    }

    /// From the gradient of `h_K` to those of `h_0` and of all `v`.
    #[inline(always)]
    fn back_through_layers(&mut self) {
        let (wide, layers) = (self.wide, self.net.layers);
        for k in (0..layers).rev() {
            let (h, s) = (self.tile.h(k), self.matrices.scales[k]);
            let mut s_grad = 0.0;
            for i in 0..self.tile.count {
                let at = (i * layers + k) * wide;
                s_grad += f64::from(layer::backward(
                    &self.tile.v[at..][..wide],
                    &h[i * wide..][..wide],
                    s,
                    &mut self.h_grad[i * wide..][..wide],
                    &mut self.v_grad[at..][..wide],
                ));
            }
            self.sums.scales[k] += s_grad;
        }
    }
}

/// A tile of a task.
struct Pixels<'t, 'a, F: Factors> {
    task: &'t mut Gradients<'a, F>,
    /// `x`, `z` and the output's gradient.
    inputs: [&'t [f32]; 3],
    x_grad: &'t mut [f32],
    z_grad: &'t mut [f32],
}

impl<F: Factors> Kernel for Pixels<'_, '_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (task, [x, z, grad]) = (self.task, self.inputs);
        let (c, l, wide) = (task.net.channels, task.net.latent, task.wide);
        let all = task.net.layers * wide;
        let back = task.matrices.transposed.as_ref().expect("made for it");
        // SAFETY: the caller has the instruction set.
        unsafe {
            task.tile.layers::<V>(task.matrices, x, z);
            let count = task.tile.count;
            let factors = task.factors.of::<V>(grad, c);
            times::<V, F>(factors, &back.output, &mut task.h_grad[..count * wide]);
            let h = task.tile.h(task.net.layers);
            let words = &mut task.words;
            add_products::<V, F>([grad, h], [c, wide], words, &mut task.sums.output);
            add(&mut task.sums.out_bias, grad);

            task.back_through_layers();
            let (h_grad, v_grad) = (&task.h_grad[..count * wide], &task.v_grad[..count * all]);
            let words = &mut task.words;
            add_products::<V, F>([x, h_grad], [c, wide], words, &mut task.sums.input);
            add_products::<V, F>([z, v_grad], [l, all], words, &mut task.sums.proj);
            add(&mut task.sums.in_bias, h_grad);
            add(&mut task.sums.proj_bias, v_grad);

            let (factors, scratch) = (&mut task.factors, &mut task.scratch);
            let h_grad = factors.of::<V>(h_grad, wide);
            write_product::<V, F>(h_grad, &back.input, scratch, c, self.x_grad);
            let v_grad = factors.of::<V>(v_grad, all);
            write_product::<V, F>(v_grad, &back.proj, scratch, l, self.z_grad);
        }
    }
}

/// `sums += b^T a` over rows of `a` and `b`, of `widths` numbers.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn add_products<V: Vector, F: Factors>(
    [a, b]: [&[f32]; 2],
    [a_width, b_width]: [usize; 2],
    [a_words, b_words]: &mut [Vec<f32>; 2],
    sums: &mut [f32],
) {
    // SAFETY: the caller has the instruction set.
    unsafe {
        V::call(AddProducts::<F> {
            a: rows(a, a_width),
            b: rows(b, b_width),
            a_words,
            b_words,
            sums,
            factors: std::marker::PhantomData,
        });
    }
}

fn rows(values: &[f32], width: usize) -> Strided<'_> {
    Strided {
        values,
        stride: width,
        count: values.len() / width,
    }
}

/// See [`add_products`].
struct AddProducts<'a, F> {
    a: Strided<'a>,
    b: Strided<'a>,
    a_words: &'a mut Vec<f32>,
    b_words: &'a mut Vec<f32>,
    sums: &'a mut [f32],
    factors: std::marker::PhantomData<F>,
}

impl<F: Factors> Kernel for AddProducts<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (n, len) = (2 * V::LANES, self.a.stride);
        // SAFETY: the caller has the instruction set.
        unsafe {
            let b = self.b.words::<V, F>(self.b.stride, true, self.b_words);
            let a = self.a.words::<V, F>(len, false, self.a_words);
            for (block, sums) in self.sums.chunks_exact_mut(len * n).enumerate() {
                Columns::of(&a, &b, block * n).add_to::<V, F>(len, sums);
            }
        }
    }
}

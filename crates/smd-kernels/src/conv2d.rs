//! Two-dimensional convolution, channels last.
//!
//! Activations are `[B, H, W, C]`, weights PyTorch's `[C_out, C_in, kH, kW]`. 3x3 windows of stride 1
//! go the way of Winograd (`winograd.rs`), all others are summed directly: a block of output pixels
//! times two vectors of output channels stays in registers while the window and the input channels
//! stream by; weights are packed so that the inner loop reads them in order. Nothing like an im2col
//! matrix is formed. The gradient of the input is a convolution of the output's gradient with turned
//! weights; that of the weights has its own kernels ([`grad_weight`]).
//!
//! With [`Precision::Bf16`] the factors of every product are rounded to bf16 first (in Winograd's way
//! after their transforms) and summed in f32.

mod few_channels;
mod forward;
mod weight_gradient;
mod winograd;

pub use crate::bf16::Precision;
use crate::product::{Factors, Whole, convert, with_factors};
use crate::simd::{self, Level, Vector};
use rayon::prelude::*;
use std::borrow::Cow;

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Images, `B`.
    pub batch: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Pixels between windows, the same on both axes.
    pub stride: usize,
    /// Zeros around the input: top, bottom, left, right.
    pub pad: [usize; 4],
    /// How it multiplies.
    pub precision: Precision,
}

impl Conv2d {
    /// Height and width of the output.
    ///
    /// # Panics
    /// If the window does not fit into the padded input, or the stride is 0.
    pub fn output_size(&self) -> [usize; 2] {
        let [height, width] = self.padded_size();
        let [kh, kw] = self.kernel;
        assert!(
            kh <= height && kw <= width,
            "conv2d: the window is larger than the input"
        );
        [
            (height - kh) / self.stride + 1,
            (width - kw) / self.stride + 1,
        ]
    }

    fn padded_size(&self) -> [usize; 2] {
        let [top, bottom, left, right] = self.pad;
        [self.size[0] + top + bottom, self.size[1] + left + right]
    }

    /// Multiplications of one pass: below some millions, waking other threads costs more than it saves.
    fn is_small(&self) -> bool {
        const SMALL: usize = 4_000_000;
        self.output_len() * self.c_in * self.kernel[0] * self.kernel[1] < SMALL
    }

    fn input_len(&self) -> usize {
        assert!(self.batch > 0, "conv2d: no image");
        self.batch * self.size[0] * self.size[1] * self.c_in
    }

    fn output_len(&self) -> usize {
        let [height, width] = self.output_size();
        self.batch * height * width * self.c_out
    }

    fn weight_len(&self) -> usize {
        self.c_out * self.c_in * self.kernel[0] * self.kernel[1]
    }

    /// The convolution that turns the output's gradient, spread by [`spread`], into the input's.
    fn transposed(&self) -> Self {
        let [height, width] = self.output_size();
        let spread = [
            (height - 1) * self.stride + 1,
            (width - 1) * self.stride + 1,
        ];
        let before = [
            self.kernel[0] - 1 - self.pad[0],
            self.kernel[1] - 1 - self.pad[2],
        ];
        let after =
            |axis: usize| self.size[axis] + self.kernel[axis] - 1 - spread[axis] - before[axis];
        Self {
            batch: self.batch,
            size: spread,
            c_in: self.c_out,
            c_out: self.c_in,
            kernel: self.kernel,
            stride: 1,
            pad: [before[0], after(0), before[1], after(1)],
            precision: self.precision,
        }
    }
}

/// `y = conv(x, weight) + bias`.
///
/// # Shapes
/// - `x`: `[B, H, W, C_in]`, `weight`: `[C_out, C_in, kH, kW]`, `bias`: `[C_out]` or empty for none
/// - `y`: `[B, H', W', C_out]`
///
/// # Panics
/// If a slice does not have its length, or there is no image.
pub fn forward(conv: &Conv2d, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    forward_at(simd::level(), conv, x, weight, bias, y);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    y: &mut [f32],
) {
    forward_within_at(level, conv, x, weight, bias, ANYWHERE, y);
}

/// [`forward`] with its results brought into a range, as a rectifier does: `[0, inf]`, or `[0, 6]`.
///
/// # Panics
/// As [`forward`].
pub fn forward_within(
    conv: &Conv2d,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    range: [f32; 2],
    y: &mut [f32],
) {
    forward_within_at(simd::level(), conv, x, weight, bias, range, y);
}

/// [`forward_within`] with the instruction set of choice.
pub fn forward_within_at(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    range: [f32; 2],
    y: &mut [f32],
) {
    simd::assert_available(level);
    assert!(bias.is_empty() || bias.len() == conv.c_out, "conv2d: bias");
    assert_eq!(x.len(), conv.input_len(), "conv2d: input");
    assert_eq!(weight.len(), conv.weight_len(), "conv2d: weight");
    assert_eq!(y.len(), conv.output_len(), "conv2d: output");
    let weights = Weights {
        values: weight,
        kernel: conv.kernel,
        c_in: conv.c_in,
        transposed: false,
    };
    let last = Last::new(level, conv.c_out, bias, range);
    with_factors!(
        conv.precision,
        run_forward(level, conv, x, &weights, &last, y)
    );
}

/// The gradient of the input of [`forward`], given that of its output.
///
/// # Shapes
/// - `grad`: `[B, H', W', C_out]`, `weight`: `[C_out, C_in, kH, kW]`
/// - `out`: `[B, H, W, C_in]`
///
/// # Panics
/// If a slice does not have its length, there is no image, or the padding is as large as the window.
pub fn grad_input(conv: &Conv2d, grad: &[f32], weight: &[f32], out: &mut [f32]) {
    grad_input_at(simd::level(), conv, grad, weight, out);
}

/// [`grad_input`] with the instruction set of choice.
pub fn grad_input_at(level: Level, conv: &Conv2d, grad: &[f32], weight: &[f32], out: &mut [f32]) {
    simd::assert_available(level);
    assert_eq!(grad.len(), conv.output_len(), "conv2d: gradient");
    assert_eq!(weight.len(), conv.weight_len(), "conv2d: weight");
    assert_eq!(out.len(), conv.input_len(), "conv2d: gradient of the input");
    with_factors!(
        conv.precision,
        run_grad_input(level, conv, grad, weight, out)
    );
}

/// The gradients of the weights and the bias of [`forward`], given that of its output.
///
/// # Shapes
/// - `x`: `[B, H, W, C_in]`, `grad`: `[B, H', W', C_out]`
/// - `weight_out`: `[C_out, C_in, kH, kW]`, `bias_out`: `[C_out]` or empty for none
///
/// # Panics
/// If a slice does not have its length, or there is no image.
pub fn grad_weight(
    conv: &Conv2d,
    x: &[f32],
    grad: &[f32],
    weight_out: &mut [f32],
    bias_out: &mut [f32],
) {
    grad_weight_at(simd::level(), conv, x, grad, weight_out, bias_out);
}

/// [`grad_weight`] with the instruction set of choice.
pub fn grad_weight_at(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    grad: &[f32],
    weight_out: &mut [f32],
    bias_out: &mut [f32],
) {
    simd::assert_available(level);
    assert_eq!(x.len(), conv.input_len(), "conv2d: input");
    assert_eq!(grad.len(), conv.output_len(), "conv2d: gradient");
    assert_eq!(
        weight_out.len(),
        conv.weight_len(),
        "conv2d: gradient of the weight"
    );
    with_factors!(
        conv.precision,
        run_grad_weight(level, conv, x, grad, weight_out)
    );
    if !bias_out.is_empty() {
        assert_eq!(bias_out.len(), conv.c_out, "conv2d: gradient of the bias");
        weight_gradient::bias(conv.c_out, grad, bias_out);
    }
}

/// The range that holds every number.
pub const ANYWHERE: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// What is done to every sum before it is written.
struct Last {
    /// Added; zeros up to whole blocks of channels.
    bias: Vec<f32>,
    /// Smaller and larger numbers become these; NaN stays NaN.
    range: [f32; 2],
}

impl Last {
    fn new(level: Level, c_out: usize, bias: &[f32], range: [f32; 2]) -> Self {
        let n = 2 * level.lanes();
        let mut whole = vec![0.0; c_out.div_ceil(n) * n];
        whole[..bias.len()].copy_from_slice(bias);
        Self { bias: whole, range }
    }

    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    unsafe fn within<V: Vector>(&self, sum: V) -> V {
        // SAFETY: the caller's.
        unsafe {
            sum.raised_to(V::splat(self.range[0]))
                .lowered_to(V::splat(self.range[1]))
        }
    }
}

/// Weights, `[C_out, C_in, kH, kW]`, or what the gradient of the input is convolved with: input and
/// output channels swapped, windows turned by half a turn.
struct Weights<'a> {
    values: &'a [f32],
    kernel: [usize; 2],
    /// Input channels of the convolution whose weights these are.
    c_in: usize,
    transposed: bool,
}

impl Weights<'_> {
    fn at(&self, co: usize, ci: usize, ky: usize, kx: usize) -> f32 {
        let [kh, kw] = self.kernel;
        if self.transposed {
            self.values[((ci * self.c_in + co) * kh + (kh - 1 - ky)) * kw + (kw - 1 - kx)]
        } else {
            self.values[((co * self.c_in + ci) * kh + ky) * kw + kx]
        }
    }

    /// A window of 3x3 weights.
    fn window(&self, co: usize, ci: usize) -> [f32; 9] {
        let (row, col) = if self.transposed { (ci, co) } else { (co, ci) };
        let mut window = [0.0; 9];
        window.copy_from_slice(&self.values[(row * self.c_in + col) * 9..][..9]);
        if self.transposed {
            window.reverse();
        }
        window
    }
}

/// A convolution in the way that suits it.
fn run_forward<F: Factors>(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    weights: &Weights,
    last: &Last,
    y: &mut [f32],
) {
    if winograd::suits(conv) {
        winograd::forward::<F>(level, conv, x, weights, last, y);
    } else {
        let packed = forward::pack::<F>(level, conv, |co, ci, ky, kx| weights.at(co, ci, ky, kx));
        forward::run::<F>(level, conv, &padded::<F>(level, conv, x), &packed, last, y);
    }
}

/// The gradient of the input in the way that suits it.
fn run_grad_input<F: Factors>(
    level: Level,
    conv: &Conv2d,
    grad: &[f32],
    weight: &[f32],
    out: &mut [f32],
) {
    let mut weights = Weights {
        values: weight,
        kernel: conv.kernel,
        c_in: conv.c_in,
        transposed: false,
    };
    if few_channels::suits(conv) {
        return few_channels::grad_input::<F>(level, conv, grad, &weights, out);
    }
    weights.transposed = true;
    let (transposed, grad) = (conv.transposed(), spread(conv, grad));
    let last = Last::new(level, transposed.c_out, &[], ANYWHERE);
    run_forward::<F>(level, &transposed, &grad, &weights, &last, out);
}

/// The gradient of the weights in the way that suits it.
fn run_grad_weight<F: Factors>(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    grad: &[f32],
    weight_out: &mut [f32],
) {
    if winograd::suits(conv) {
        winograd::grad_weight::<F>(level, conv, x, grad, weight_out);
    } else {
        let x = padded::<Whole>(level, conv, x);
        weight_gradient::run::<F>(level, conv, &x, grad, weight_out);
    }
}

/// `x` as factors with zeros around each image, and so many more that the last word is whole; or `x`
/// itself where it is that.
fn padded<'a, F: Factors>(level: Level, conv: &Conv2d, x: &'a [f32]) -> Cow<'a, [F::Number]> {
    if let (Some(x), [0, 0, 0, 0]) = (F::as_factors(x), conv.pad) {
        return Cow::Borrowed(x);
    }
    let [top, _, left, _] = conv.pad;
    let [height, width] = conv.padded_size();
    let (row, padded_row) = (conv.size[1] * conv.c_in, width * conv.c_in);
    let len = conv.batch * height * padded_row;
    let mut out = vec![F::Number::default(); len + F::PER_WORD - 1];
    out[..len]
        .par_chunks_mut(height * padded_row)
        .zip(x.par_chunks(conv.size[0] * row))
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .for_each(|(out, x)| {
            let rows = out[top * padded_row..].chunks_exact_mut(padded_row);
            for (to, from) in rows.zip(x.chunks_exact(row)) {
                convert::<F>(level, from, &mut to[left * conv.c_in..][..row]);
            }
        });
    Cow::Owned(out)
}

/// The output's gradient with `stride - 1` zeros between its pixels.
fn spread<'a>(conv: &Conv2d, grad: &'a [f32]) -> Cow<'a, [f32]> {
    if conv.stride == 1 {
        return Cow::Borrowed(grad);
    }
    let [height, width] = conv.output_size();
    let c = conv.c_out;
    let wide = (width - 1) * conv.stride + 1;
    let tall = (height - 1) * conv.stride + 1;
    let mut out = vec![0.0; conv.batch * tall * wide * c];
    for (out, grad) in out
        .chunks_exact_mut(tall * wide * c)
        .zip(grad.chunks_exact(height * width * c))
    {
        for (i, pixel) in grad.chunks_exact(c).enumerate() {
            let at = (i / width * wide + i % width) * conv.stride;
            out[at * c..][..c].copy_from_slice(pixel);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;

//! The operations that each device may do in its own way: the seam between layers and kernels.
//!
//! [`FusedOps`] is a small extension of Burn's backend. Its default bodies compose Burn's own
//! operations, so every device works; the CPU calls `smd-kernels` instead. The backward passes are
//! written by hand once for every device (`ops/autodiff.rs`) and keep only their inputs: a
//! group norm with SiLU keeps `x`, not the seven tensors of its composition. Tests hold values and
//! gradients equal to a composition that Burn differentiates itself.
//!
//! Nothing above this file knows which body ran.

pub mod adam;
mod autodiff;
mod composed;
#[cfg(feature = "flex")]
mod cpu;
pub mod parts;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Tensor, assert_shape};
use serde::{Deserialize, Serialize};

/// How convolutions and products with weights multiply; everything else is f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Factors rounded to bf16, products added up in f32: faster where the device multiplies bf16.
    Bf16,
}

/// Stride, zero padding and precision of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Pixels between windows.
    pub stride: usize,
    /// Zeros around the input: top, bottom, left, right.
    pub pad: [usize; 4],
    /// How it multiplies.
    pub precision: Precision,
}

impl Window {
    /// The window of side `kernel` (odd) that keeps the size, in f32.
    pub fn same(kernel: usize) -> Self {
        Self {
            stride: 1,
            pad: [kernel / 2; 4],
            precision: Precision::F32,
        }
    }

    /// The same in `precision`.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }
}

/// A pooling of square windows; places outside of the image are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// What is taken of a window.
    pub pooling: Pooling,
    /// Side of the window.
    pub kernel: usize,
    /// Pixels between windows.
    pub stride: usize,
    /// Places around the image that a window may reach.
    pub pad: usize,
}

/// What is taken of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest.
    Max,
    /// The mean.
    Mean,
}

/// What a group normalisation needs to know besides its tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Groups of neighbouring channels.
    pub groups: usize,
    /// What is added to the variance.
    pub eps: f32,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// What a hypernetwork needs to know besides its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HyperLayers {
    /// Matrices applied in a row, `K`.
    pub count: usize,
    /// How the linear layers multiply.
    pub precision: Precision,
}

/// Operations with a body of their own on some devices.
#[cfg_attr(
    any(feature = "cuda", feature = "rocm", feature = "metal", feature = "vulkan", feature = "wgpu"),
    backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube)
)]
#[cfg_attr(
    not(any(
        feature = "cuda",
        feature = "rocm",
        feature = "metal",
        feature = "vulkan",
        feature = "wgpu"
    )),
    backend_extension(Autodiff, Flex: cfg(feature = "flex"))
)]
pub trait FusedOps: Backend {
    /// See [`conv2d`].
    fn conv2d_nhwc(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        composed::conv2d::<Self>(x, weight, bias, window)
    }

    /// See [`conv2d_within`].
    fn conv2d_within_nhwc(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: Window,
        range: [f32; 2],
    ) -> FloatTensor<Self> {
        composed::conv2d_within::<Self>(x, weight, bias, window, range)
    }

    /// See [`depthwise_within`].
    fn depthwise_within_nhwc(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: Window,
        range: [f32; 2],
    ) -> FloatTensor<Self> {
        composed::depthwise_within::<Self>(x, weight, bias, window, range)
    }

    /// See [`pool`].
    fn pool_nhwc(x: FloatTensor<Self>, pool: Pool) -> FloatTensor<Self> {
        composed::pool::<Self>(x, pool)
    }

    /// See [`group_norm`].
    fn group_norm_nhwc(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self> {
        composed::group_norm::<Self>(x, scale, shift, norm)
    }

    /// See [`silu`].
    fn silu_fused(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::silu::<Self>(x)
    }

    /// See [`film`].
    fn film_rows(h: FloatTensor<Self>, film: FloatTensor<Self>, silu: bool) -> FloatTensor<Self> {
        composed::film::<Self>(h, film, silu)
    }

    /// See [`rms_norm`].
    fn rms_norm_last(x: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::rms_norm::<Self>(x, g)
    }

    /// See [`hypernet`].
    fn hypernet_nhwc(
        x: FloatTensor<Self>,
        z: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        layers: HyperLayers,
    ) -> FloatTensor<Self> {
        composed::hypernet::<Self>(x, z, parameters, layers)
    }

    /// See [`upsample_nearest`].
    fn upsample_nhwc(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::upsample::<Self>(x)
    }

    /// See [`pixel_unshuffle`].
    fn pixel_unshuffle_nhwc(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::pixel_unshuffle::<Self>(x)
    }

    /// See [`linear_attention`]; `qkv` is `[B, N, 3 * heads * d]`.
    fn linear_attention_qkv(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        composed::linear_attention::<Self>(qkv, heads)
    }

    /// See [`attention`]; `qkv` is `[B, N, 3 * heads * d]`.
    fn attention_qkv(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        composed::attention::<Self>(qkv, heads)
    }
}

/// The backward passes of [`FusedOps`], for a device without automatic differentiation.
pub(crate) trait FusedGradients: FusedOps {
    /// Gradients of `x` (where asked for), `weight` and `bias`.
    fn conv2d_nhwc_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        window: Window,
        want_x: bool,
    ) -> (
        Option<FloatTensor<Self>>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        composed::conv2d_backward::<Self>(x, weight, grad, window, want_x)
    }

    /// Gradients of `x`, `scale` and `shift`.
    fn group_norm_nhwc_backward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        norm: Norm,
    ) -> [FloatTensor<Self>; 3] {
        composed::group_norm_backward::<Self>(x, scale, shift, grad, norm)
    }

    /// Gradient of `x`.
    fn silu_fused_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::silu_backward::<Self>(x, grad)
    }

    /// Gradients of `h` and `film`.
    fn film_rows_backward(
        h: FloatTensor<Self>,
        film: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        silu: bool,
    ) -> [FloatTensor<Self>; 2] {
        composed::film_backward::<Self>(h, film, grad, silu)
    }

    /// Gradients of `x` and `g`.
    fn rms_norm_last_backward(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        composed::rms_norm_backward::<Self>(x, g, grad)
    }

    /// Gradients of `x`, `z` and `parameters`.
    fn hypernet_nhwc_backward(
        x: FloatTensor<Self>,
        z: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        layers: HyperLayers,
    ) -> [FloatTensor<Self>; 3] {
        composed::hypernet_backward::<Self>(x, z, parameters, grad, layers)
    }

    /// Gradient of the input, half the height and width of `grad`.
    fn upsample_nhwc_backward(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::upsample_backward::<Self>(grad)
    }

    /// Gradient of the input, twice the height and width of `grad`.
    fn pixel_unshuffle_nhwc_backward(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::pixel_unshuffle_backward::<Self>(grad)
    }

    /// Gradient of `qkv`.
    fn linear_attention_qkv_backward(
        qkv: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        composed::linear_attention_backward::<Self>(qkv, grad, heads)
    }

    /// The output, and what the backward pass may want besides `qkv`: the logarithm of each softmax's
    /// sum, `[B, heads, N]`.
    fn attention_qkv_for_backward(
        qkv: FloatTensor<Self>,
        heads: usize,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        (Self::attention_qkv(qkv, heads), None)
    }

    /// Gradient of `qkv`, from the output `out` and what was kept beside it.
    fn attention_qkv_backward(
        qkv: FloatTensor<Self>,
        _out: FloatTensor<Self>,
        _log_sums: Option<FloatTensor<Self>>,
        grad: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        composed::attention_backward::<Self>(qkv, grad, heads)
    }
}

#[cfg(any(
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
))]
mod gpu {
    use burn::backend::Cube;

    impl super::FusedOps for Cube {}
    impl super::FusedGradients for Cube {}
}

/// Convolution with zero padding.
///
/// # Shapes
/// - `x`: `[B, H, W, C_in]`, `weight`: `[C_out, C_in, kH, kW]`, `bias`: `[C_out]`
/// - returns: `[B, H', W', C_out]`
///
/// # Panics
/// If the channels disagree.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, window: Window) -> Tensor<4> {
    let [c_out, c_in, _, _] = weight.dims();
    assert_shape!(x, [_, _, _, c_in]);
    assert_shape!(bias, [c_out]);
    Tensor::from_dispatch(Dispatch::conv2d_nhwc(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        window,
    ))
}

/// [`conv2d`] with its results brought into a range, as a rectifier does: `[0, inf]`, or `[0, 6]`.
///
/// # Shapes
/// As [`conv2d`].
pub fn conv2d_within(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    window: Window,
    range: [f32; 2],
) -> Tensor<4> {
    let (x, weight, bias) = (
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    );
    Tensor::from_dispatch(Dispatch::conv2d_within_nhwc(x, weight, bias, window, range))
}

/// Convolution of each channel with a window of its own, brought into a range; f32.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`; `weight`: `[k, k, C]`; `bias`: `[C]`
/// - returns: `[B, H', W', C]`
pub fn depthwise_within(
    x: Tensor<4>,
    weight: Tensor<3>,
    bias: Tensor<1>,
    window: Window,
    range: [f32; 2],
) -> Tensor<4> {
    let (x, weight, bias) = (
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    );
    Tensor::from_dispatch(Dispatch::depthwise_within_nhwc(
        x, weight, bias, window, range,
    ))
}

/// The largest or the mean of square windows.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`
/// - returns: `[B, H', W', C]`
pub fn pool(x: Tensor<4>, pool: Pool) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::pool_nhwc(x.into_dispatch(), pool))
}

/// Group normalisation, then `* scale + shift` per image and channel, then SiLU if asked for.
///
/// ```text
/// y = silu((x - mean) / sqrt(var + eps) * scale + shift)    mean, var over a group's pixels
/// ```
///
/// # Shapes
/// - `x`: `[B, H, W, C]`; `scale`, `shift`: `[B, C]`
/// - returns: `[B, H, W, C]`
///
/// # Panics
/// If the shapes disagree or the groups do not divide the channels.
pub fn group_norm(x: Tensor<4>, scale: Tensor<2>, shift: Tensor<2>, norm: Norm) -> Tensor<4> {
    let [batch, _, _, channels] = x.dims();
    assert_shape!(scale, [batch, channels]);
    assert_shape!(shift, [batch, channels]);
    assert_eq!(
        channels % norm.groups,
        0,
        "{} groups of {channels} channels",
        norm.groups
    );
    Tensor::from_dispatch(Dispatch::group_norm_nhwc(
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        norm,
    ))
}

/// `x * sigmoid(x)`, of any shape.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::silu_fused(x.into_dispatch()))
}

/// `(1 + scale) h + shift`, where asked with SiLU behind it. Scales and shifts belong to one pixel each, or to
/// as many that follow each other.
///
/// # Shapes
/// - `h`: `[N, H, W, C]`; `film`: `[N, H, W, 2 C]`, or `[M, 1, 1, 2 C]` where `M` divides `N`: scales, then
///   shifts; returns `[N, H, W, C]`
///
/// # Panics
/// If the channels disagree, or `M` does not divide `N`.
pub fn film(h: Tensor<4>, film: Tensor<4>, silu: bool) -> Tensor<4> {
    let [batch, height, width, channels] = h.dims();
    let [rows, film_height, film_width, both] = film.dims();
    let own = [rows, film_height, film_width] == [batch, height, width];
    let shared = [film_height, film_width] == [1, 1] && rows > 0 && batch.is_multiple_of(rows);
    assert!(
        both == 2 * channels && (own || shared),
        "scales and shifts {:?} for {:?}",
        film.dims(),
        h.dims()
    );
    Tensor::from_dispatch(Dispatch::film_rows(
        h.into_dispatch(),
        film.into_dispatch(),
        silu,
    ))
}

/// `g sqrt(C) x / ||x||` of each row of channels.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`, `g`: `[C]`; returns `[B, H, W, C]`
///
/// # Panics
/// If the channels disagree.
pub fn rms_norm(x: Tensor<4>, g: Tensor<1>) -> Tensor<4> {
    let [channels] = g.dims();
    assert_shape!(x, [_, _, _, channels]);
    Tensor::from_dispatch(Dispatch::rms_norm_last(
        x.into_dispatch(),
        g.into_dispatch(),
    ))
}

/// The hypernetwork (Eq. 12) for every pixel, with matrices of rank one plus a scaled identity that are never
/// formed:
///
/// ```text
/// h_0 = W_in x + b_in        v_k = P_k z + p_k
/// h_k = (v_k v_k^T + s_k I) h_{k-1} = v_k (v_k . h_{k-1}) + s_k h_{k-1}
/// out = W_out h_K + b_out
/// ```
///
/// # Shapes
/// - `x`: `[B, H, W, C]`, `z`: `[B, H, W, L]`; returns `[B, H, W, C]`
/// - `parameters`, one after the other: `W_in [L, C]`, `b_in [L]`, all `P [K, L, L]`, all `p [K, L]`,
///   `s [K]`, `W_out [C, L]`, `b_out [C]`
///
/// # Panics
/// If the shapes disagree.
pub fn hypernet(
    x: Tensor<4>,
    z: Tensor<4>,
    parameters: Tensor<1>,
    layers: HyperLayers,
) -> Tensor<4> {
    let [batch, height, width, c] = x.dims();
    assert_shape!(z, [batch, height, width, _]);
    let (l, k) = (z.dims()[3], layers.count);
    let all = l * c + l + k * (l * l + l + 1) + c * l + c;
    assert_shape!(parameters, [all]);
    Tensor::from_dispatch(Dispatch::hypernet_nhwc(
        x.into_dispatch(),
        z.into_dispatch(),
        parameters.into_dispatch(),
        layers,
    ))
}

/// Each pixel four times: twice the height and width, by the nearest neighbour.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`; returns `[B, 2 H, 2 W, C]`
pub fn upsample_nearest(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::upsample_nhwc(x.into_dispatch()))
}

/// Each 2x2 square of pixels becomes channels, in the order (channel, row, column).
///
/// # Shapes
/// - `x`: `[B, H, W, C]`; returns `[B, H / 2, W / 2, 4 C]`
///
/// # Panics
/// If height or width is odd.
pub fn pixel_unshuffle(x: Tensor<4>) -> Tensor<4> {
    let [_, height, width, _] = x.dims();
    assert!(
        height.is_multiple_of(2) && width.is_multiple_of(2),
        "{height}x{width} has odd sides"
    );
    Tensor::from_dispatch(Dispatch::pixel_unshuffle_nhwc(x.into_dispatch()))
}

/// Attention whose cost is linear in the pixels (Shen et al. 2018, arXiv:1812.01243), in each head:
///
/// ```text
/// out = softmax_d(q) / sqrt(d) . (softmax_N(k)^T v)
/// ```
///
/// # Shapes
/// - `qkv`: `[B, H, W, 3 * heads * d]`, all queries, then all keys, then all values, head after head
/// - returns: `[B, H, W, heads * d]`
///
/// # Panics
/// If the channels are not three times whole heads.
pub fn linear_attention(qkv: Tensor<4>, heads: usize) -> Tensor<4> {
    over_pixels(qkv, heads, |qkv| {
        Tensor::from_dispatch(Dispatch::linear_attention_qkv(qkv.into_dispatch(), heads))
    })
}

/// `softmax(q k^T / sqrt(d)) v` in each head.
///
/// # Shapes
/// As [`linear_attention`].
///
/// # Panics
/// If the channels are not three times whole heads.
pub fn attention(qkv: Tensor<4>, heads: usize) -> Tensor<4> {
    over_pixels(qkv, heads, |qkv| {
        Tensor::from_dispatch(Dispatch::attention_qkv(qkv.into_dispatch(), heads))
    })
}

/// `[B, H, W, 3 C]` through an operation on `[B, N, 3 C]` to `[B, H, W, C]`.
fn over_pixels(
    qkv: Tensor<4>,
    heads: usize,
    attend: impl FnOnce(Tensor<3>) -> Tensor<3>,
) -> Tensor<4> {
    let [batch, height, width, channels] = qkv.dims();
    assert!(
        channels.is_multiple_of(3 * heads),
        "{channels} channels are not queries, keys and values of {heads} heads"
    );
    let out = attend(qkv.reshape([batch, height * width, channels]));
    out.reshape([batch, height, width, channels / 3])
}

/// `x W^T + b` on the last axis: a product of `[P, C_in]` with `[C_in, C_out]`.
///
/// # Shapes
/// - `x`: `[B, H, W, C_in]`, `weight`: `[C_out, C_in]`, `bias`: `[C_out]`
/// - returns: `[B, H, W, C_out]`
///
/// # Panics
/// If the channels disagree.
pub fn linear(x: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>, precision: Precision) -> Tensor<4> {
    let [batch, height, width, c_in] = x.dims();
    let [c_out, _] = weight.dims();
    // A 1x1 convolution over one long row of pixels.
    let x = x.reshape([1, 1, batch * height * width, c_in]);
    let weight = weight.reshape([c_out, c_in, 1, 1]);
    let window = Window::same(1).with_precision(precision);
    conv2d(x, weight, bias, window).reshape([batch, height, width, c_out])
}

#[cfg(test)]
mod tests;

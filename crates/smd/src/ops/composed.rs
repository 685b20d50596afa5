//! The bodies for any device, composed of Burn's operations, and their gradients.

mod attention;
mod hypernet;
mod pixels;
mod rows;

pub(super) use attention::{
    attention, attention_backward, linear_attention, linear_attention_backward,
};
pub(super) use hypernet::{hypernet, hypernet_backward};
pub(super) use pixels::{pixel_unshuffle, pixel_unshuffle_backward, upsample, upsample_backward};
pub(super) use rows::{rms_norm, rms_norm_backward};

use super::{Norm, Pool, Pooling, Precision, Window};
use burn::backend::ops::ConvOptions;
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{FloatDType, Shape, Slice};

fn options(window: Window) -> ConvOptions<2> {
    let [top, bottom, left, right] = window.pad;
    ConvOptions::new_with_padding(
        [window.stride; 2],
        [(top, bottom), (left, right)],
        [1, 1],
        1,
    )
}

fn to_nchw<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_permute(x, &[0, 3, 1, 2])
}

fn to_nhwc<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_permute(x, &[0, 2, 3, 1])
}

pub(super) fn conv2d<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    window: Window,
) -> FloatTensor<B> {
    let [x, weight, bias] = [to_nchw::<B>(x), weight, bias].map(|t| factor::<B>(t, window));
    let y = B::conv2d(x, weight, Some(bias), options(window));
    to_nhwc::<B>(result::<B>(y, window))
}

pub(super) fn conv2d_within<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    window: Window,
    [least, most]: [f32; 2],
) -> FloatTensor<B> {
    let y = conv2d::<B>(x, weight, bias, window);
    B::float_clamp(y, least.into(), most.into())
}

pub(super) fn depthwise_within<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    window: Window,
    [least, most]: [f32; 2],
) -> FloatTensor<B> {
    let [kernel, _, channels] = weight.shape().dims();
    let weight = B::float_permute(weight, &[2, 0, 1]);
    let weight = B::float_reshape(weight, Shape::new([channels, 1, kernel, kernel]));
    let options = ConvOptions {
        groups: channels,
        ..options(window)
    };
    let y = B::conv2d(to_nchw::<B>(x), weight, Some(bias), options);
    to_nhwc::<B>(B::float_clamp(y, least.into(), most.into()))
}

pub(super) fn pool<B: Backend>(x: FloatTensor<B>, pool: Pool) -> FloatTensor<B> {
    let (x, kernel) = (to_nchw::<B>(x), [pool.kernel; 2]);
    let (stride, pad) = ([pool.stride; 2], [pool.pad; 2]);
    let y = match pool.pooling {
        Pooling::Max => B::max_pool2d(x, kernel, stride, pad, [1, 1], false),
        Pooling::Mean => B::avg_pool2d(x, kernel, stride, pad, false, false),
    };
    to_nhwc::<B>(y)
}

/// A factor of a convolution in its precision.
fn factor<B: Backend>(x: FloatTensor<B>, window: Window) -> FloatTensor<B> {
    match window.precision {
        Precision::F32 => x,
        Precision::Bf16 => B::float_cast(x, FloatDType::BF16),
    }
}

/// A result of a convolution as f32.
fn result<B: Backend>(x: FloatTensor<B>, window: Window) -> FloatTensor<B> {
    match window.precision {
        Precision::F32 => x,
        Precision::Bf16 => B::float_cast(x, FloatDType::F32),
    }
}

pub(super) fn conv2d_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    window: Window,
    want_x: bool,
) -> (Option<FloatTensor<B>>, FloatTensor<B>, FloatTensor<B>) {
    let [batch, height, width, c_out] = grad.shape().dims();
    let [x, weight, nchw] =
        [to_nchw::<B>(x), weight, to_nchw::<B>(grad.clone())].map(|t| factor::<B>(t, window));
    let x_grad = want_x.then(|| {
        let dx = B::conv2d_x_backward(x.clone(), weight.clone(), nchw.clone(), options(window));
        to_nhwc::<B>(result::<B>(dx, window))
    });
    let weight_grad = B::conv2d_weight_backward(x, weight, nchw, options(window));
    let weight_grad = result::<B>(weight_grad, window);
    let rows = B::float_reshape(grad, Shape::new([batch * height * width, c_out]));
    let bias_grad = B::float_reshape(B::float_sum_dim(rows, 0), Shape::new([c_out]));
    (x_grad, weight_grad, bias_grad)
}

/// `[B, H, W, C]` as `[B, H * W, G, C / G]`.
fn grouped<B: Backend>(x: FloatTensor<B>, groups: usize) -> FloatTensor<B> {
    let [batch, height, width, channels] = x.shape().dims();
    B::float_reshape(
        x,
        Shape::new([batch, height * width, groups, channels / groups]),
    )
}

/// Means over the pixels and channels of each group: `[B, 1, G, 1]`.
fn group_mean<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mean_dim(B::float_mean_dim(x, 3), 1)
}

/// The normalised input and `1 / sqrt(var + eps)`, both grouped.
fn normalised<B: Backend>(x: FloatTensor<B>, norm: Norm) -> (FloatTensor<B>, FloatTensor<B>) {
    let x = grouped::<B>(x, norm.groups);
    let centred = B::float_sub(x.clone(), group_mean::<B>(x));
    let var = group_mean::<B>(B::float_mul(centred.clone(), centred.clone()));
    let std = B::float_sqrt(B::float_add_scalar(var, norm.eps.into()));
    let rstd = B::float_recip(std);
    (B::float_mul(centred, rstd.clone()), rstd)
}

/// `[B, C]` as `[B, 1, G, C / G]`.
fn per_image<B: Backend>(affine: FloatTensor<B>, groups: usize) -> FloatTensor<B> {
    let [batch, channels] = affine.shape().dims();
    B::float_reshape(affine, Shape::new([batch, 1, groups, channels / groups]))
}

pub(super) fn group_norm<B: Backend>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    norm: Norm,
) -> FloatTensor<B> {
    let shape = x.shape();
    let (hat, _) = normalised::<B>(x, norm);
    let scaled = B::float_mul(hat, per_image::<B>(scale, norm.groups));
    let u = B::float_add(scaled, per_image::<B>(shift, norm.groups));
    let y = if norm.silu { silu::<B>(u) } else { u };
    B::float_reshape(y, shape)
}

pub(super) fn group_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    grad: FloatTensor<B>,
    norm: Norm,
) -> [FloatTensor<B>; 3] {
    let (x_shape, affine_shape) = (x.shape(), scale.shape());
    let (hat, rstd) = normalised::<B>(x, norm);
    let scale = per_image::<B>(scale, norm.groups);
    let grad = grouped::<B>(grad, norm.groups);
    let du = if norm.silu {
        let u = B::float_add(
            B::float_mul(hat.clone(), scale.clone()),
            per_image::<B>(shift, norm.groups),
        );
        silu_backward::<B>(u, grad)
    } else {
        grad
    };
    let over_pixels =
        |t: FloatTensor<B>| B::float_reshape(B::float_sum_dim(t, 1), affine_shape.clone());
    let scale_grad = over_pixels(B::float_mul(du.clone(), hat.clone()));
    let shift_grad = over_pixels(du.clone());

    let dhat = B::float_mul(du, scale);
    let mean = group_mean::<B>(dhat.clone());
    let mean_hat = group_mean::<B>(B::float_mul(dhat.clone(), hat.clone()));
    let centred = B::float_sub(B::float_sub(dhat, mean), B::float_mul(hat, mean_hat));
    let x_grad = B::float_reshape(B::float_mul(centred, rstd), x_shape);
    [x_grad, scale_grad, shift_grad]
}

pub(super) fn silu<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(x.clone(), B::sigmoid(x))
}

pub(super) fn silu_backward<B: Backend>(x: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
    // s + x s (1 - s) = s (1 + x - x s)
    let s = B::sigmoid(x.clone());
    let inner = B::float_sub(x.clone(), B::float_mul(x, s.clone()));
    B::float_mul(
        grad,
        B::float_mul(s, B::float_add_scalar(inner, 1.0_f32.into())),
    )
}

/// The input as `[rows, n, C]`, and scales and shifts as `[rows, 1, C]` each.
fn film_parts<B: Backend>(h: FloatTensor<B>, film: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let both = film.shape();
    let channels = h.shape()[3];
    let rows = both.num_elements() / (2 * channels);
    let shared = h.shape().num_elements() / (rows * channels);
    let film = B::float_reshape(film, Shape::new([rows, 1, 2 * channels]));
    let half = |from: usize| {
        let slices = [
            Slice::from(0..rows),
            Slice::from(0..1),
            Slice::from(from..from + channels),
        ];
        B::float_slice(film.clone(), &slices)
    };
    let h = B::float_reshape(h, Shape::new([rows, shared, channels]));
    [h, half(0), half(channels)]
}

fn film_u<B: Backend>(parts: [FloatTensor<B>; 3]) -> FloatTensor<B> {
    let [h, scale, shift] = parts;
    let scale = B::float_add_scalar(scale, 1.0_f32.into());
    B::float_add(B::float_mul(h, scale), shift)
}

pub(super) fn film<B: Backend>(
    h: FloatTensor<B>,
    film: FloatTensor<B>,
    silu_follows: bool,
) -> FloatTensor<B> {
    let shape = h.shape();
    let u = film_u::<B>(film_parts::<B>(h, film));
    let y = if silu_follows { silu::<B>(u) } else { u };
    B::float_reshape(y, shape)
}

pub(super) fn film_backward<B: Backend>(
    h: FloatTensor<B>,
    film: FloatTensor<B>,
    grad: FloatTensor<B>,
    silu_follows: bool,
) -> [FloatTensor<B>; 2] {
    let (h_shape, film_shape) = (h.shape(), film.shape());
    let [h, scale, shift] = film_parts::<B>(h, film);
    let grad = B::float_reshape(grad, h.shape());
    let du = if silu_follows {
        silu_backward::<B>(film_u::<B>([h.clone(), scale.clone(), shift]), grad)
    } else {
        grad
    };
    let scale_grad = B::float_sum_dim(B::float_mul(du.clone(), h), 1);
    let shift_grad = B::float_sum_dim(du.clone(), 1);
    let h_grad = B::float_mul(du, B::float_add_scalar(scale, 1.0_f32.into()));
    let film_grad = B::float_cat(vec![scale_grad, shift_grad], 2);
    [
        B::float_reshape(h_grad, h_shape),
        B::float_reshape(film_grad, film_shape),
    ]
}

pub(super) fn softmax<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let last = x.shape().num_dims() - 1;
    B::softmax(x, last)
}

pub(super) fn softmax_backward<B: Backend>(
    y: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let last = y.shape().num_dims() - 1;
    let mean = B::float_sum_dim(B::float_mul(y.clone(), grad.clone()), last);
    B::float_mul(y, B::float_sub(grad, mean))
}

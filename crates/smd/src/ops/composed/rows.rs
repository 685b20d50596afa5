//! Operations on each row of channels.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::Shape;

/// `g` as it multiplies rows of channels, times `sqrt(C)`.
fn gain<B: Backend>(g: FloatTensor<B>) -> FloatTensor<B> {
    let channels = g.shape().num_elements();
    let g = B::float_reshape(g, Shape::new([1, 1, 1, channels]));
    B::float_mul_scalar(g, (channels as f32).sqrt().into())
}

/// `1 / ||x||` of each row.
fn inverse_length<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let squares = B::float_sum_dim(B::float_mul(x.clone(), x), 3);
    // PyTorch divides by max(||x||, 1e-12); inside the root the gradient at 0 stays finite.
    B::float_recip(B::float_sqrt(B::float_add_scalar(
        squares,
        1e-24_f32.into(),
    )))
}

/// Sums over all rows: `[C]`.
fn over_rows<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let channels = x.shape()[3];
    let rows = x.shape().num_elements() / channels;
    let x = B::float_reshape(x, Shape::new([rows, channels]));
    B::float_reshape(B::float_sum_dim(x, 0), Shape::new([channels]))
}

pub fn rms_norm<B: Backend>(x: FloatTensor<B>, g: FloatTensor<B>) -> FloatTensor<B> {
    let hat = B::float_mul(x.clone(), inverse_length::<B>(x));
    B::float_mul(hat, gain::<B>(g))
}

pub fn rms_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    let inverse = inverse_length::<B>(x.clone());
    let hat = B::float_mul(x, inverse.clone());
    let root = (g.shape().num_elements() as f32).sqrt();
    let g_grad = over_rows::<B>(B::float_mul(grad.clone(), hat.clone()));
    let u = B::float_mul(grad, gain::<B>(g));
    let along = B::float_sum_dim(B::float_mul(u.clone(), hat.clone()), 3);
    let x_grad = B::float_mul(B::float_sub(u, B::float_mul(hat, along)), inverse);
    [x_grad, B::float_mul_scalar(g_grad, root.into())]
}

fn dot<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sum_dim(B::float_mul(a, b), 3)
}

fn scalar<B: Backend>(s: FloatTensor<B>) -> FloatTensor<B> {
    B::float_reshape(s, Shape::new([1, 1, 1, 1]))
}

pub fn hyper_layer<B: Backend>(
    v: FloatTensor<B>,
    h: FloatTensor<B>,
    s: FloatTensor<B>,
) -> FloatTensor<B> {
    let along = B::float_mul(v.clone(), dot::<B>(v, h.clone()));
    B::float_add(along, B::float_mul(h, scalar::<B>(s)))
}

pub fn hyper_layer_backward<B: Backend>(
    v: FloatTensor<B>,
    h: FloatTensor<B>,
    s: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let v_dot_h = dot::<B>(v.clone(), h.clone());
    let v_dot_grad = dot::<B>(v.clone(), grad.clone());
    let v_grad = B::float_add(
        B::float_mul(grad.clone(), v_dot_h),
        B::float_mul(h.clone(), v_dot_grad.clone()),
    );
    let s_grad = B::float_sum(B::float_mul(grad.clone(), h));
    let h_grad = B::float_add(
        B::float_mul(v, v_dot_grad),
        B::float_mul(grad, scalar::<B>(s.clone())),
    );
    [v_grad, h_grad, B::float_reshape(s_grad, s.shape())]
}

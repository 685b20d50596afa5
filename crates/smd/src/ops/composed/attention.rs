//! Attention over pixels, from queries, keys and values side by side, `[B, N, 3 * heads * d]`.

use super::{softmax, softmax_backward};
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Slice};

/// Queries, keys and values, each `[B, heads, N, d]`.
fn split<B: Backend>(qkv: FloatTensor<B>, heads: usize) -> [FloatTensor<B>; 3] {
    let [batch, pixels, channels] = qkv.shape().dims();
    let d = channels / 3 / heads;
    let parts = B::float_reshape(qkv, Shape::new([batch, pixels, 3, heads, d]));
    let parts = B::float_permute(parts, &[2, 0, 3, 1, 4]);
    [0, 1, 2].map(|i| {
        let part = B::float_slice(parts.clone(), &[Slice::from(i..i + 1)]);
        B::float_reshape(part, Shape::new([batch, heads, pixels, d]))
    })
}

/// The reverse of [`split`].
fn side_by_side<B: Backend>(parts: [FloatTensor<B>; 3]) -> FloatTensor<B> {
    let [batch, heads, pixels, d] = parts[0].shape().dims();
    let parts = parts
        .into_iter()
        .map(|part| B::float_reshape(part, Shape::new([1, batch, heads, pixels, d])))
        .collect();
    let parts = B::float_permute(B::float_cat(parts, 0), &[1, 3, 0, 2, 4]);
    B::float_reshape(parts, Shape::new([batch, pixels, 3 * heads * d]))
}

/// `[B, N, heads * d]` as `[B, heads, N, d]`.
fn split_heads<B: Backend>(x: FloatTensor<B>, heads: usize) -> FloatTensor<B> {
    let [batch, pixels, channels] = x.shape().dims();
    let x = B::float_reshape(x, Shape::new([batch, pixels, heads, channels / heads]));
    B::float_swap_dims(x, 1, 2)
}

fn join_heads<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, heads, pixels, d] = x.shape().dims();
    let x = B::float_swap_dims(x, 1, 2);
    B::float_reshape(x, Shape::new([batch, pixels, heads * d]))
}

fn transposed<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_swap_dims(x, 2, 3)
}

/// `d^-1/2`.
fn scale<B: Backend>(x: &FloatTensor<B>) -> f32 {
    let [_, _, _, d] = x.shape().dims::<4>();
    (d as f32).powf(-0.5)
}

pub fn linear_attention<B: Backend>(qkv: FloatTensor<B>, heads: usize) -> FloatTensor<B> {
    let [q, k, v] = split::<B>(qkv, heads);
    let scale = scale::<B>(&q);
    let q = B::float_mul_scalar(softmax::<B>(q), scale.into());
    let context = B::float_matmul(softmax::<B>(transposed::<B>(k)), v);
    join_heads::<B>(B::float_matmul(q, context))
}

pub fn linear_attention_backward<B: Backend>(
    qkv: FloatTensor<B>,
    grad: FloatTensor<B>,
    heads: usize,
) -> FloatTensor<B> {
    let [q, k, v] = split::<B>(qkv, heads);
    let scale = scale::<B>(&q);
    let grad = B::float_mul_scalar(split_heads::<B>(grad, heads), scale.into());
    let q = softmax::<B>(q); // [B, heads, N, d]
    let k = softmax::<B>(transposed::<B>(k)); // [B, heads, d, N]
    let context = B::float_matmul(k.clone(), v.clone());
    let context_grad = B::float_matmul(transposed::<B>(q.clone()), grad.clone());
    let q_grad = softmax_backward::<B>(q, B::float_matmul(grad, transposed::<B>(context)));
    let v_grad = B::float_matmul(transposed::<B>(k.clone()), context_grad.clone());
    let k_grad = B::float_matmul(context_grad, transposed::<B>(v));
    let k_grad = transposed::<B>(softmax_backward::<B>(k, k_grad));
    side_by_side::<B>([q_grad, k_grad, v_grad])
}

pub fn attention<B: Backend>(qkv: FloatTensor<B>, heads: usize) -> FloatTensor<B> {
    let [q, k, v] = split::<B>(qkv, heads);
    let scale = scale::<B>(&q);
    let scores = B::float_matmul(B::float_mul_scalar(q, scale.into()), transposed::<B>(k));
    join_heads::<B>(B::float_matmul(softmax::<B>(scores), v))
}

pub fn attention_backward<B: Backend>(
    qkv: FloatTensor<B>,
    grad: FloatTensor<B>,
    heads: usize,
) -> FloatTensor<B> {
    let [q, k, v] = split::<B>(qkv, heads);
    let scale = scale::<B>(&q);
    let grad = split_heads::<B>(grad, heads);
    let q = B::float_mul_scalar(q, scale.into());
    let shares = softmax::<B>(B::float_matmul(q.clone(), transposed::<B>(k.clone())));
    let v_grad = B::float_matmul(transposed::<B>(shares.clone()), grad.clone());
    let scores_grad = softmax_backward::<B>(shares, B::float_matmul(grad, transposed::<B>(v)));
    let k_grad = B::float_matmul(transposed::<B>(scores_grad.clone()), q);
    let q_grad = B::float_mul_scalar(B::float_matmul(scores_grad, k), scale.into());
    side_by_side::<B>([q_grad, k_grad, v_grad])
}

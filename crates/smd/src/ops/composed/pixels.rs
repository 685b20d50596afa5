//! Pixels moved between sizes.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::Shape;

pub fn upsample<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, height, width, channels] = x.shape().dims();
    let x = B::float_reshape(x, Shape::new([batch, height, 1, width, 1, channels]));
    let x = B::float_expand(x, Shape::new([batch, height, 2, width, 2, channels]));
    B::float_reshape(x, Shape::new([batch, 2 * height, 2 * width, channels]))
}

/// The sum of each pixel's four.
pub fn upsample_backward<B: Backend>(grad: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, height, width, channels] = grad.shape().dims();
    let (height, width) = (height / 2, width / 2);
    let squares = Shape::new([batch, height, 2, width, 2, channels]);
    let grad = B::float_sum_dim(B::float_sum_dim(B::float_reshape(grad, squares), 4), 2);
    B::float_reshape(grad, Shape::new([batch, height, width, channels]))
}

pub fn pixel_unshuffle<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, height, width, channels] = x.shape().dims();
    let (height, width) = (height / 2, width / 2);
    let x = B::float_reshape(x, Shape::new([batch, height, 2, width, 2, channels]));
    let x = B::float_permute(x, &[0, 1, 3, 5, 2, 4]);
    B::float_reshape(x, Shape::new([batch, height, width, 4 * channels]))
}

/// Its inverse.
pub fn pixel_unshuffle_backward<B: Backend>(grad: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, height, width, channels] = grad.shape().dims();
    let channels = channels / 4;
    let grad = B::float_reshape(grad, Shape::new([batch, height, width, channels, 2, 2]));
    let grad = B::float_permute(grad, &[0, 1, 4, 2, 5, 3]);
    B::float_reshape(grad, Shape::new([batch, 2 * height, 2 * width, channels]))
}

//! The hypernetwork, layer by layer.

use super::rows::{hyper_layer, hyper_layer_backward};
use super::{conv2d, conv2d_backward};
use crate::ops::{HyperLayers, Window};
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Slice};

/// Weight, `[C_out, C_in, 1, 1]`, and bias.
type Affine<B> = (FloatTensor<B>, FloatTensor<B>);

/// The parameters by name.
struct Parameters<B: Backend> {
    input: Affine<B>,
    projs: Vec<Affine<B>>,
    /// `K` times `[1]`.
    scales: Vec<FloatTensor<B>>,
    output: Affine<B>,
}

fn split<B: Backend>(
    parameters: FloatTensor<B>,
    [c, l]: [usize; 2],
    layers: usize,
) -> Parameters<B> {
    let mut from = 0;
    let mut take = |shape: &[usize]| {
        let to = from + shape.iter().product::<usize>();
        let part = B::float_slice(parameters.clone(), &[Slice::from(from..to)]);
        from = to;
        B::float_reshape(part, Shape::from(shape.to_vec()))
    };
    let input = (take(&[l, c, 1, 1]), take(&[l]));
    let weights: Vec<_> = (0..layers).map(|_| take(&[l, l, 1, 1])).collect();
    let projs = weights.into_iter().map(|w| (w, take(&[l]))).collect();
    let scales = (0..layers).map(|_| take(&[1])).collect();
    let output = (take(&[c, l, 1, 1]), take(&[c]));
    Parameters {
        input,
        projs,
        scales,
        output,
    }
}

/// Sizes `C` and `L`.
fn widths<B: Backend>(x: &FloatTensor<B>, z: &FloatTensor<B>) -> [usize; 2] {
    [x.shape()[3], z.shape()[3]]
}

fn affine<B: Backend>(x: FloatTensor<B>, affine: &Affine<B>, window: Window) -> FloatTensor<B> {
    conv2d::<B>(x, affine.0.clone(), affine.1.clone(), window)
}

/// `h_0` to `h_K` and `v_1` to `v_K`.
fn values<B: Backend>(
    x: FloatTensor<B>,
    z: &FloatTensor<B>,
    parameters: &Parameters<B>,
    window: Window,
) -> [Vec<FloatTensor<B>>; 2] {
    let mut h = affine::<B>(x, &parameters.input, window);
    let (mut all_h, mut all_v) = (vec![h.clone()], Vec::new());
    for (proj, scale) in parameters.projs.iter().zip(&parameters.scales) {
        let v = affine::<B>(z.clone(), proj, window);
        h = hyper_layer::<B>(v.clone(), h, scale.clone());
        all_h.push(h.clone());
        all_v.push(v);
    }
    [all_h, all_v]
}

pub fn hypernet<B: Backend>(
    x: FloatTensor<B>,
    z: FloatTensor<B>,
    parameters: FloatTensor<B>,
    layers: HyperLayers,
) -> FloatTensor<B> {
    let window = Window::same(1).with_precision(layers.precision);
    let parameters = split::<B>(parameters, widths::<B>(&x, &z), layers.count);
    let [mut h, _] = values::<B>(x, &z, &parameters, window);
    affine::<B>(h.pop().expect("h_0 at least"), &parameters.output, window)
}

pub fn hypernet_backward<B: Backend>(
    x: FloatTensor<B>,
    z: FloatTensor<B>,
    parameters: FloatTensor<B>,
    grad: FloatTensor<B>,
    layers: HyperLayers,
) -> [FloatTensor<B>; 3] {
    let window = Window::same(1).with_precision(layers.precision);
    let parameters = split::<B>(parameters, widths::<B>(&x, &z), layers.count);
    let [mut h, v] = values::<B>(x.clone(), &z, &parameters, window);
    let back = |x: FloatTensor<B>, affine: &Affine<B>, grad: FloatTensor<B>| {
        let (x, weight, bias) = conv2d_backward::<B>(x, affine.0.clone(), grad, window, true);
        (x.expect("asked for"), weight, bias)
    };
    let last = h.pop().expect("h_0 at least");
    let (mut h_grad, out_weight, out_bias) = back(last, &parameters.output, grad);
    let mut z_grad: Option<FloatTensor<B>> = None;
    // Of the last layer first.
    let (mut weights, mut biases, mut scales) = (Vec::new(), Vec::new(), Vec::new());
    let layers = v.into_iter().zip(h).zip(&parameters.projs);
    for (((v, h), proj), scale) in layers.zip(&parameters.scales).rev() {
        let [v_grad, before, scale] = hyper_layer_backward::<B>(v, h, scale.clone(), h_grad);
        h_grad = before;
        let (part, weight, bias) = back(z.clone(), proj, v_grad);
        z_grad = Some(match z_grad {
            Some(sum) => B::float_add(sum, part),
            None => part,
        });
        weights.push(weight);
        biases.push(bias);
        scales.push(scale);
    }
    let (x_grad, in_weight, in_bias) = back(x, &parameters.input, h_grad);
    let in_order = |parts: Vec<FloatTensor<B>>| parts.into_iter().rev();
    let all = [in_weight, in_bias]
        .into_iter()
        .chain(in_order(weights))
        .chain(in_order(biases))
        .chain(in_order(scales))
        .chain([out_weight, out_bias])
        .map(|part| {
            let len = part.shape().num_elements();
            B::float_reshape(part, Shape::new([len]))
        })
        .collect();
    let z_grad = z_grad.expect("a layer at least");
    [x_grad, z_grad, B::float_cat(all, 0)]
}

//! The bodies for the CPU: `smd-kernels` on the tensors' own memory.

use super::{FusedGradients, FusedOps, Norm, Window};
use burn::backend::{Flex, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, TensorData};
use smd_kernels::conv2d::{self, Conv2d};
use smd_kernels::group_norm::{self, GroupNorm};
use smd_kernels::{silu, softmax};

type Flexed = FloatTensor<Flex>;

/// A tensor with its numbers in order, as a view or a copy.
fn in_order(x: Flexed) -> Flexed {
    if x.is_contiguous() {
        x
    } else {
        x.to_contiguous()
    }
}

fn numbers(x: &Flexed) -> &[f32] {
    &x.storage::<f32>()[x.layout().start_offset()..][..x.shape().num_elements()]
}

fn tensor(numbers: Vec<f32>, shape: Shape) -> Flexed {
    Flexed::from_data(TensorData::new(numbers, shape))
}

fn conv(x: &Flexed, weight: &Flexed, window: Window) -> Conv2d {
    let [batch, height, width, c_in] = x.shape().dims();
    let [c_out, _, kh, kw] = weight.shape().dims();
    Conv2d {
        batch,
        size: [height, width],
        c_in,
        c_out,
        kernel: [kh, kw],
        stride: window.stride,
        pad: window.pad,
    }
}

fn group(x: &Flexed, norm: Norm) -> GroupNorm {
    let [batch, height, width, channels] = x.shape().dims();
    GroupNorm {
        batch,
        pixels: height * width,
        channels,
        groups: norm.groups,
        eps: norm.eps,
        silu: norm.silu,
    }
}

impl FusedOps for Flex {
    fn conv2d_nhwc(x: Flexed, weight: Flexed, bias: Flexed, window: Window) -> Flexed {
        let (x, weight, bias) = (in_order(x), in_order(weight), in_order(bias));
        let conv = conv(&x, &weight, window);
        let [height, width] = conv.output_size();
        let mut y = vec![0.0; conv.batch * height * width * conv.c_out];
        conv2d::forward(&conv, numbers(&x), numbers(&weight), numbers(&bias), &mut y);
        tensor(y, Shape::new([conv.batch, height, width, conv.c_out]))
    }

    fn group_norm_nhwc(x: Flexed, scale: Flexed, shift: Flexed, norm: Norm) -> Flexed {
        let (x, scale, shift) = (in_order(x), in_order(scale), in_order(shift));
        let mut y = vec![0.0; x.shape().num_elements()];
        let group = group(&x, norm);
        group_norm::forward(
            &group,
            numbers(&x),
            numbers(&scale),
            numbers(&shift),
            &mut y,
        );
        tensor(y, x.shape())
    }

    fn silu_fused(x: Flexed) -> Flexed {
        let x = in_order(x);
        let mut y = vec![0.0; x.shape().num_elements()];
        silu::forward(numbers(&x), &mut y);
        tensor(y, x.shape())
    }

    fn softmax_last(x: Flexed) -> Flexed {
        let x = in_order(x);
        let mut y = vec![0.0; x.shape().num_elements()];
        softmax::forward(numbers(&x), &mut y, last(&x));
        tensor(y, x.shape())
    }
}

/// Length of the last axis.
fn last(x: &Flexed) -> usize {
    let shape = x.shape();
    shape[shape.num_dims() - 1]
}

impl FusedGradients for Flex {
    fn conv2d_nhwc_backward(
        x: Flexed,
        weight: Flexed,
        grad: Flexed,
        window: Window,
        want_x: bool,
    ) -> (Option<Flexed>, Flexed, Flexed) {
        let (x, weight, grad) = (in_order(x), in_order(weight), in_order(grad));
        let conv = conv(&x, &weight, window);
        let x_grad = want_x.then(|| {
            let mut out = vec![0.0; x.shape().num_elements()];
            conv2d::grad_input(&conv, numbers(&grad), numbers(&weight), &mut out);
            tensor(out, x.shape())
        });
        let mut weight_grad = vec![0.0; weight.shape().num_elements()];
        let mut bias_grad = vec![0.0; conv.c_out];
        let (x, grad) = (numbers(&x), numbers(&grad));
        conv2d::grad_weight(&conv, x, grad, &mut weight_grad, &mut bias_grad);
        let bias_grad = tensor(bias_grad, Shape::new([conv.c_out]));
        (x_grad, tensor(weight_grad, weight.shape()), bias_grad)
    }

    fn group_norm_nhwc_backward(
        x: Flexed,
        scale: Flexed,
        shift: Flexed,
        grad: Flexed,
        norm: Norm,
    ) -> [Flexed; 3] {
        let (x, grad) = (in_order(x), in_order(grad));
        let (scale, shift) = (in_order(scale), in_order(shift));
        let mut x_grad = vec![0.0; x.shape().num_elements()];
        let mut scale_grad = vec![0.0; scale.shape().num_elements()];
        let mut shift_grad = vec![0.0; shift.shape().num_elements()];
        group_norm::backward(
            &group(&x, norm),
            numbers(&x),
            numbers(&scale),
            numbers(&shift),
            numbers(&grad),
            &mut x_grad,
            &mut scale_grad,
            &mut shift_grad,
        );
        [
            tensor(x_grad, x.shape()),
            tensor(scale_grad, scale.shape()),
            tensor(shift_grad, shift.shape()),
        ]
    }

    fn silu_fused_backward(x: Flexed, grad: Flexed) -> Flexed {
        let (x, grad) = (in_order(x), in_order(grad));
        let mut out = vec![0.0; x.shape().num_elements()];
        silu::backward(numbers(&x), numbers(&grad), &mut out);
        tensor(out, x.shape())
    }

    fn softmax_last_backward(y: Flexed, grad: Flexed) -> Flexed {
        let (y, grad) = (in_order(y), in_order(grad));
        let mut out = vec![0.0; y.shape().num_elements()];
        softmax::backward(numbers(&y), numbers(&grad), &mut out, last(&y));
        tensor(out, y.shape())
    }
}

//! The bodies for the CPU: `smd-kernels` on the tensors' own memory.

use super::parts::{Part, timed};
use super::{FusedGradients, FusedOps, HyperLayers, Norm, Pool, Pooling, Precision, Window};
use burn::backend::{Flex, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, TensorData};
use smd_kernels::attention::{self, Attention};
use smd_kernels::conv2d::{self, Conv2d};
use smd_kernels::depthwise::{self, Depthwise};
use smd_kernels::film::{self, Film};
use smd_kernels::group_norm::{self, GroupNorm};
use smd_kernels::hypernet::{self, HyperNet};
use smd_kernels::linear_attention;
use smd_kernels::memory::any_numbers;
use smd_kernels::pixels::{self, Grid};
use smd_kernels::{pool, rms_norm, silu};

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
        precision: precision(window.precision),
    }
}

fn precision(precision: Precision) -> conv2d::Precision {
    match precision {
        Precision::F32 => conv2d::Precision::F32,
        Precision::Bf16 => conv2d::Precision::Bf16,
    }
}

fn hyper_net(x: &Flexed, z: &Flexed, layers: HyperLayers) -> HyperNet {
    let [batch, height, width, channels] = x.shape().dims();
    HyperNet {
        pixels: batch * height * width,
        channels,
        latent: last(z),
        layers: layers.count,
        precision: precision(layers.precision),
    }
}

/// What a convolution is counted as.
fn part(conv: &Conv2d) -> Part {
    match conv.kernel {
        [1, 1] => Part::Linear,
        _ => Part::Convolution,
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

/// The sizes of `[B, H, W, C]`.
fn grid(x: &Flexed) -> Grid {
    let [batch, height, width, channels] = x.shape().dims();
    Grid {
        batch,
        size: [height, width],
        channels,
    }
}

/// A tensor of `shape` that `move_pixels` writes.
fn moved(shape: [usize; 4], move_pixels: impl FnOnce(&mut [f32])) -> Flexed {
    let shape = Shape::new(shape);
    let mut y = any_numbers(shape.num_elements());
    timed(Part::Pixels, || move_pixels(&mut y));
    tensor(y, shape)
}

impl FusedOps for Flex {
    fn conv2d_nhwc(x: Flexed, weight: Flexed, bias: Flexed, window: Window) -> Flexed {
        Self::conv2d_within_nhwc(x, weight, bias, window, conv2d::ANYWHERE)
    }

    fn conv2d_within_nhwc(
        x: Flexed,
        weight: Flexed,
        bias: Flexed,
        window: Window,
        range: [f32; 2],
    ) -> Flexed {
        let (x, weight, bias) = (in_order(x), in_order(weight), in_order(bias));
        let conv = conv(&x, &weight, window);
        let [height, width] = conv.output_size();
        let mut y = any_numbers(conv.batch * height * width * conv.c_out);
        let (weight, bias) = (numbers(&weight), numbers(&bias));
        timed(part(&conv), || {
            conv2d::forward_within(&conv, numbers(&x), weight, bias, range, &mut y)
        });
        tensor(y, Shape::new([conv.batch, height, width, conv.c_out]))
    }

    fn depthwise_within_nhwc(
        x: Flexed,
        weight: Flexed,
        bias: Flexed,
        window: Window,
        range: [f32; 2],
    ) -> Flexed {
        let (x, weight, bias) = (in_order(x), in_order(weight), in_order(bias));
        let [batch, height, width, channels] = x.shape().dims();
        let conv = Depthwise {
            batch,
            size: [height, width],
            channels,
            kernel: weight.shape()[0],
            stride: window.stride,
            pad: window.pad,
        };
        let [height, width] = conv.output_size();
        let mut y = any_numbers(batch * height * width * channels);
        let (weight, bias) = (numbers(&weight), numbers(&bias));
        timed(Part::Convolution, || {
            depthwise::forward_within(&conv, numbers(&x), weight, bias, range, &mut y)
        });
        tensor(y, Shape::new([batch, height, width, channels]))
    }

    fn pool_nhwc(x: Flexed, pool: Pool) -> Flexed {
        let x = in_order(x);
        let [batch, height, width, channels] = x.shape().dims();
        let pool = pool::Pool {
            batch,
            size: [height, width],
            channels,
            kernel: pool.kernel,
            stride: pool.stride,
            pad: pool.pad,
            pooling: match pool.pooling {
                Pooling::Max => pool::Pooling::Max,
                Pooling::Mean => pool::Pooling::Mean,
            },
        };
        let [height, width] = pool.output_size();
        let mut y = any_numbers(batch * height * width * channels);
        pool::forward(&pool, numbers(&x), &mut y);
        tensor(y, Shape::new([batch, height, width, channels]))
    }

    fn group_norm_nhwc(x: Flexed, scale: Flexed, shift: Flexed, norm: Norm) -> Flexed {
        let (x, scale, shift) = (in_order(x), in_order(scale), in_order(shift));
        let mut y = any_numbers(x.shape().num_elements());
        let group = group(&x, norm);
        timed(Part::GroupNorm, || {
            group_norm::forward(
                &group,
                numbers(&x),
                numbers(&scale),
                numbers(&shift),
                &mut y,
            )
        });
        tensor(y, x.shape())
    }

    fn silu_fused(x: Flexed) -> Flexed {
        let x = in_order(x);
        let mut y = any_numbers(x.shape().num_elements());
        timed(Part::Silu, || silu::forward(numbers(&x), &mut y));
        tensor(y, x.shape())
    }

    fn film_rows(h: Flexed, film: Flexed, silu: bool) -> Flexed {
        let (h, film) = (in_order(h), in_order(film));
        let mut y = any_numbers(h.shape().num_elements());
        let channels = h.shape()[3];
        timed(Part::HyperNet, || {
            film::forward(Film { channels, silu }, numbers(&h), numbers(&film), &mut y)
        });
        tensor(y, h.shape())
    }

    fn rms_norm_last(x: Flexed, g: Flexed) -> Flexed {
        let (x, g) = (in_order(x), in_order(g));
        let mut y = any_numbers(x.shape().num_elements());
        timed(Part::RmsNorm, || {
            rms_norm::forward(numbers(&x), numbers(&g), &mut y)
        });
        tensor(y, x.shape())
    }

    fn hypernet_nhwc(x: Flexed, z: Flexed, parameters: Flexed, layers: HyperLayers) -> Flexed {
        let (x, z, parameters) = (in_order(x), in_order(z), in_order(parameters));
        let net = hyper_net(&x, &z, layers);
        let mut out = any_numbers(x.shape().num_elements());
        let (numbers_x, numbers_z) = (numbers(&x), numbers(&z));
        timed(Part::HyperNet, || {
            hypernet::forward(&net, numbers_x, numbers_z, numbers(&parameters), &mut out)
        });
        tensor(out, x.shape())
    }

    fn upsample_nhwc(x: Flexed) -> Flexed {
        let x = in_order(x);
        let [batch, height, width, channels] = x.shape().dims();
        moved([batch, 2 * height, 2 * width, channels], |y| {
            pixels::upsample(&grid(&x), numbers(&x), y)
        })
    }

    fn pixel_unshuffle_nhwc(x: Flexed) -> Flexed {
        let x = in_order(x);
        let [batch, height, width, channels] = x.shape().dims();
        moved([batch, height / 2, width / 2, 4 * channels], |y| {
            pixels::unshuffle(&grid(&x), numbers(&x), y)
        })
    }

    fn linear_attention_qkv(qkv: Flexed, heads: usize) -> Flexed {
        let qkv = in_order(qkv);
        let (sizes, shape) = (sizes(&qkv, heads), out_shape(&qkv));
        let mut out = any_numbers(shape.num_elements());
        timed(Part::Attention, || {
            linear_attention::forward(&sizes, numbers(&qkv), &mut out)
        });
        tensor(out, shape)
    }

    fn attention_qkv(qkv: Flexed, heads: usize) -> Flexed {
        Self::attention_qkv_for_backward(qkv, heads).0
    }
}

/// `[B, N, C]` of queries, keys and values `[B, N, 3 C]`.
fn out_shape(qkv: &Flexed) -> Shape {
    let [batch, pixels, channels] = qkv.shape().dims();
    Shape::new([batch, pixels, channels / 3])
}

fn sizes(qkv: &Flexed, heads: usize) -> Attention {
    let [batch, pixels, channels] = qkv.shape().dims();
    Attention {
        batch,
        pixels,
        heads,
        d_head: channels / 3 / heads,
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
            let mut out = any_numbers(x.shape().num_elements());
            timed(part(&conv), || {
                conv2d::grad_input(&conv, numbers(&grad), numbers(&weight), &mut out)
            });
            tensor(out, x.shape())
        });
        let mut weight_grad = any_numbers(weight.shape().num_elements());
        let mut bias_grad = any_numbers(conv.c_out);
        let (x, grad) = (numbers(&x), numbers(&grad));
        timed(part(&conv), || {
            conv2d::grad_weight(&conv, x, grad, &mut weight_grad, &mut bias_grad)
        });
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
        let mut x_grad = any_numbers(x.shape().num_elements());
        let mut scale_grad = any_numbers(scale.shape().num_elements());
        let mut shift_grad = any_numbers(shift.shape().num_elements());
        timed(Part::GroupNorm, || {
            group_norm::backward(
                &group(&x, norm),
                numbers(&x),
                numbers(&scale),
                numbers(&shift),
                numbers(&grad),
                &mut x_grad,
                &mut scale_grad,
                &mut shift_grad,
            )
        });
        [
            tensor(x_grad, x.shape()),
            tensor(scale_grad, scale.shape()),
            tensor(shift_grad, shift.shape()),
        ]
    }

    fn silu_fused_backward(x: Flexed, grad: Flexed) -> Flexed {
        let (x, grad) = (in_order(x), in_order(grad));
        let mut out = any_numbers(x.shape().num_elements());
        timed(Part::Silu, || {
            silu::backward(numbers(&x), numbers(&grad), &mut out)
        });
        tensor(out, x.shape())
    }

    fn film_rows_backward(h: Flexed, film: Flexed, grad: Flexed, silu: bool) -> [Flexed; 2] {
        let (h, film, grad) = (in_order(h), in_order(film), in_order(grad));
        let mut h_grad = any_numbers(h.shape().num_elements());
        let mut film_grad = any_numbers(film.shape().num_elements());
        let channels = h.shape()[3];
        let (numbers_h, numbers_film) = (numbers(&h), numbers(&film));
        timed(Part::HyperNet, || {
            film::backward(
                Film { channels, silu },
                numbers_h,
                numbers_film,
                numbers(&grad),
                &mut h_grad,
                &mut film_grad,
            )
        });
        [tensor(h_grad, h.shape()), tensor(film_grad, film.shape())]
    }

    fn rms_norm_last_backward(x: Flexed, g: Flexed, grad: Flexed) -> [Flexed; 2] {
        let (x, g, grad) = (in_order(x), in_order(g), in_order(grad));
        let mut x_grad = any_numbers(x.shape().num_elements());
        let mut g_grad = any_numbers(g.shape().num_elements());
        let (numbers_x, numbers_g) = (numbers(&x), numbers(&g));
        timed(Part::RmsNorm, || {
            rms_norm::backward(
                numbers_x,
                numbers_g,
                numbers(&grad),
                &mut x_grad,
                &mut g_grad,
            )
        });
        [tensor(x_grad, x.shape()), tensor(g_grad, g.shape())]
    }

    fn hypernet_nhwc_backward(
        x: Flexed,
        z: Flexed,
        parameters: Flexed,
        grad: Flexed,
        layers: HyperLayers,
    ) -> [Flexed; 3] {
        let (x, z) = (in_order(x), in_order(z));
        let (parameters, grad) = (in_order(parameters), in_order(grad));
        let mut x_grad = any_numbers(x.shape().num_elements());
        let mut z_grad = any_numbers(z.shape().num_elements());
        let parameters_grad = timed(Part::HyperNet, || {
            hypernet::backward(
                &hyper_net(&x, &z, layers),
                numbers(&x),
                numbers(&z),
                numbers(&parameters),
                numbers(&grad),
                &mut x_grad,
                &mut z_grad,
            )
        });
        [
            tensor(x_grad, x.shape()),
            tensor(z_grad, z.shape()),
            tensor(parameters_grad, parameters.shape()),
        ]
    }

    fn upsample_nhwc_backward(grad: Flexed) -> Flexed {
        let grad = in_order(grad);
        let [batch, height, width, channels] = grad.shape().dims();
        let grid = Grid {
            batch,
            size: [height / 2, width / 2],
            channels,
        };
        moved([batch, height / 2, width / 2, channels], |x_grad| {
            pixels::upsample_backward(&grid, numbers(&grad), x_grad)
        })
    }

    fn pixel_unshuffle_nhwc_backward(grad: Flexed) -> Flexed {
        let grad = in_order(grad);
        let [batch, height, width, channels] = grad.shape().dims();
        let grid = Grid {
            batch,
            size: [2 * height, 2 * width],
            channels: channels / 4,
        };
        moved([batch, 2 * height, 2 * width, channels / 4], |x_grad| {
            pixels::shuffle(&grid, numbers(&grad), x_grad)
        })
    }

    fn linear_attention_qkv_backward(qkv: Flexed, grad: Flexed, heads: usize) -> Flexed {
        let (qkv, grad) = (in_order(qkv), in_order(grad));
        let mut qkv_grad = any_numbers(qkv.shape().num_elements());
        let sizes = sizes(&qkv, heads);
        timed(Part::Attention, || {
            linear_attention::backward(&sizes, numbers(&qkv), numbers(&grad), &mut qkv_grad)
        });
        tensor(qkv_grad, qkv.shape())
    }

    fn attention_qkv_for_backward(qkv: Flexed, heads: usize) -> (Flexed, Option<Flexed>) {
        let qkv = in_order(qkv);
        let (sizes, shape) = (sizes(&qkv, heads), out_shape(&qkv));
        let mut out = any_numbers(shape.num_elements());
        let rows = Shape::new([sizes.batch, heads, sizes.pixels]);
        let mut log_sums = any_numbers(rows.num_elements());
        timed(Part::Attention, || {
            attention::forward(&sizes, numbers(&qkv), &mut out, &mut log_sums)
        });
        (tensor(out, shape), Some(tensor(log_sums, rows)))
    }

    fn attention_qkv_backward(
        qkv: Flexed,
        out: Flexed,
        log_sums: Option<Flexed>,
        grad: Flexed,
        heads: usize,
    ) -> Flexed {
        let (qkv, out, grad) = (in_order(qkv), in_order(out), in_order(grad));
        let log_sums = in_order(log_sums.expect("kept by the forward pass"));
        let mut qkv_grad = any_numbers(qkv.shape().num_elements());
        timed(Part::Attention, || {
            attention::backward(
                &sizes(&qkv, heads),
                numbers(&qkv),
                numbers(&out),
                numbers(&log_sums),
                numbers(&grad),
                &mut qkv_grad,
            )
        });
        tensor(qkv_grad, qkv.shape())
    }
}

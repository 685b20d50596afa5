//! Each fused operation on the device under test, against a composition on the CPU that Burn
//! differentiates itself.
//!
//! The device under test is Burn's default: the CPU, or in a build with another device that one, or
//! the one that `BURN_DEVICE` names (`docs/checks.md`).

use super::*;
use burn::tensor::module::{avg_pool2d, conv2d as burn_conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Distribution, Gradients, activation};

/// The same random numbers on the device under test and on the CPU, each a leaf of its own graph.
struct Leaf<const D: usize> {
    ours: Tensor<D>,
    theirs: Tensor<D>,
}

fn random<const D: usize>(shape: [usize; D]) -> Leaf<D> {
    normal(shape, 1.0)
}

fn normal<const D: usize>(shape: [usize; D], std: f64) -> Leaf<D> {
    let numbers = Tensor::<D>::random(shape, Distribution::Normal(0.0, std), &Device::flex());
    let on =
        |device: Device| Tensor::from_data(numbers.to_data(), &device.autodiff()).require_grad();
    Leaf {
        ours: on(Device::default()),
        theirs: on(Device::flex()),
    }
}

/// A leaf of any rank.
trait Grads {
    /// Its gradient in our graph and in theirs.
    fn grads(&self, ours: &mut Gradients, theirs: &mut Gradients) -> [Vec<f32>; 2];
}

impl<const D: usize> Grads for Leaf<D> {
    fn grads(&self, ours: &mut Gradients, theirs: &mut Gradients) -> [Vec<f32>; 2] {
        let numbers = |grad: Option<Tensor<D>>| crate::host::numbers(grad.expect("a gradient"));
        [
            numbers(self.ours.grad_remove(ours)),
            numbers(self.theirs.grad_remove(theirs)),
        ]
    }
}

/// Holds values equal, and the gradients of `leaves` under a random gradient of the output.
#[track_caller]
fn assert_same<const D: usize>(ours: Tensor<D>, theirs: Tensor<D>, leaves: &[&dyn Grads]) {
    let numbers = |t: &Tensor<D>| crate::host::numbers(t.clone());
    close(&numbers(&ours), &numbers(&theirs), "values");
    let grad = random(theirs.dims());
    let mut ours = (ours * grad.ours.detach()).sum().backward();
    let mut theirs = (theirs * grad.theirs.detach()).sum().backward();
    for (i, leaf) in leaves.iter().enumerate() {
        let [a, b] = leaf.grads(&mut ours, &mut theirs);
        close(&a, &b, &format!("gradient {i}"));
    }
}

#[track_caller]
fn close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
    let allowed = if Device::default() == Device::flex() {
        // Two orders of summation of some thousand terms.
        2e-5
    } else {
        // A GPU may round the factors of a product to TF32, to eleven bits.
        2.0 * 2.0_f32.powi(-11)
    };
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            (a - b).abs() <= allowed * scale,
            "{what}[{i}]: {a}, not {b}"
        );
    }
}

#[test]
fn conv2d_equals_its_composition() {
    for (c_in, c_out, kernel, window) in [
        (3, 33, 3, Window::same(3)),
        (5, 4, 7, Window::same(7)),
        (
            8,
            6,
            3,
            Window {
                stride: 2,
                pad: [0, 1, 0, 1],
                ..Window::same(3)
            },
        ),
        (4, 2, 1, Window::same(1)),
    ] {
        let x = random([2, 9, 7, c_in]);
        let (w, b) = (random([c_out, c_in, kernel, kernel]), random([c_out]));
        let [top, bottom, left, right] = window.pad;
        let options = ConvOptions::new_with_padding(
            [window.stride; 2],
            [(top, bottom), (left, right)],
            [1, 1],
            1,
        );
        let nchw = x.theirs.clone().permute([0, 3, 1, 2]);
        let theirs = burn_conv2d(nchw, w.theirs.clone(), Some(b.theirs.clone()), options);
        let ours = conv2d(x.ours.clone(), w.ours.clone(), b.ours.clone(), window);
        assert_same(ours, theirs.permute([0, 2, 3, 1]), &[&x, &w, &b]);
    }
}

/// The operations of networks that are only run, on even and odd sizes.
#[test]
fn forward_operations_equal_their_compositions() {
    let window = Window {
        stride: 2,
        pad: [0, 1, 1, 0],
        ..Window::same(3)
    };
    let options = |groups| ConvOptions::new_with_padding([2; 2], [(0, 1), (1, 0)], [1; 2], groups);
    let numbers = |t: Tensor<4>| crate::host::numbers(t);
    let [x, w, b] = [[2, 9, 8, 5], [7, 5, 3, 3], [1, 1, 1, 7]].map(random::<4>);
    let b = [&b.ours, &b.theirs].map(|b| b.clone().reshape([7]));
    let nchw = |x: &Leaf<4>| x.theirs.clone().permute([0, 3, 1, 2]);
    let nhwc = |y: Tensor<4>| numbers(y.permute([0, 2, 3, 1]));
    let [ours_b, theirs_b] = b;
    let ours = conv2d_within(x.ours.clone(), w.ours.clone(), ours_b, window, [0.0, 1.0]);
    let theirs = burn_conv2d(nchw(&x), w.theirs.clone(), Some(theirs_b), options(1));
    close(
        &numbers(ours),
        &nhwc(theirs.clamp(0.0, 1.0)),
        "conv2d_within",
    );

    let (w, b) = (random([3, 3, 5]), random([5]));
    let ours = depthwise_within(x.ours.clone(), w.ours, b.ours, window, [-1.0, 2.0]);
    let w = w.theirs.permute([2, 0, 1]).reshape([5, 1, 3, 3]);
    let theirs = burn_conv2d(nchw(&x), w, Some(b.theirs), options(5));
    close(
        &numbers(ours),
        &nhwc(theirs.clamp(-1.0, 2.0)),
        "depthwise_within",
    );

    for (pooling, stride, pad) in [
        (Pooling::Max, 2, 0),
        (Pooling::Max, 1, 1),
        (Pooling::Mean, 1, 1),
    ] {
        let kernel = 3;
        let ours = pool(
            x.ours.clone(),
            Pool {
                pooling,
                kernel,
                stride,
                pad,
            },
        );
        let theirs = match pooling {
            Pooling::Max => {
                let options = MaxPoolOptions::new([3; 2]).with_stride([stride; 2]);
                max_pool2d(nchw(&x), options.with_padding([pad; 2]))
            }
            Pooling::Mean => {
                let options = AvgPoolOptions::new([3; 2]).with_stride([stride; 2]);
                let options = options.with_padding([pad; 2]);
                avg_pool2d(nchw(&x), options.with_count_include_pad(false))
            }
        };
        close(&numbers(ours), &nhwc(theirs), &format!("{pooling:?}"));
    }
}

#[test]
fn group_norm_equals_its_composition() {
    for silu_follows in [false, true] {
        let norm = Norm {
            groups: 3,
            eps: 1e-5,
            silu: silu_follows,
        };
        let (x, scale, shift) = (random([2, 5, 4, 12]), random([2, 12]), random([2, 12]));
        let grouped = x.theirs.clone().reshape([2, 20, 3, 4]);
        let mean = grouped.clone().mean_dim(3).mean_dim(1);
        let centred = grouped - mean;
        let var = centred.clone().square().mean_dim(3).mean_dim(1);
        let hat = (centred / (var + 1e-5).sqrt()).reshape([2, 5, 4, 12]);
        let affine = |a: &Leaf<2>| a.theirs.clone().reshape([2, 1, 1, 12]);
        let u = hat * affine(&scale) + affine(&shift);
        let theirs = if silu_follows { activation::silu(u) } else { u };
        let ours = group_norm(x.ours.clone(), scale.ours.clone(), shift.ours.clone(), norm);
        assert_same(ours, theirs, &[&x, &scale, &shift]);
    }
}

#[test]
fn silu_equals_its_composition() {
    let x = random([3, 4, 5, 7]);
    let theirs = activation::silu(x.theirs.clone());
    assert_same(silu(x.ours.clone()), theirs, &[&x]);
}

#[test]
fn film_equals_its_composition() {
    for silu_follows in [false, true] {
        for rows in [[6, 3, 2], [2, 1, 1], [1, 1, 1]] {
            let [n, height, width] = rows;
            let (h, film_leaf) = (random([6, 3, 2, 5]), random([n, height, width, 10]));
            let each = 36 / (n * height * width);
            let film_rows = film_leaf.theirs.clone().reshape([36 / each, 1, 10]);
            let film_rows = film_rows
                .expand([36 / each, each, 10])
                .reshape([6, 3, 2, 10]);
            let scale = film_rows.clone().narrow(3, 0, 5);
            let u = (scale + 1.0) * h.theirs.clone() + film_rows.narrow(3, 5, 5);
            let theirs = if silu_follows { activation::silu(u) } else { u };
            let ours = film(h.ours.clone(), film_leaf.ours.clone(), silu_follows);
            assert_same(ours, theirs, &[&h, &film_leaf]);
        }
    }
}

#[test]
#[should_panic(expected = "scales and shifts [4, 1, 1, 10] for [6, 1, 1, 5]")]
fn scales_for_other_rows_are_refused() {
    let (h, scales) = (random([6, 1, 1, 5]), random([4, 1, 1, 10]));
    film(h.ours, scales.ours, true);
}

#[test]
fn rms_norm_equals_its_composition() {
    let (x, g) = (random([2, 5, 3, 13]), random([13]));
    let length = (x.theirs.clone().square().sum_dim(3) + 1e-24).sqrt();
    let scaled = (g.theirs.clone() * 13.0_f64.sqrt()).reshape([1, 1, 1, 13]);
    let theirs = x.theirs.clone() / length * scaled;
    let ours = rms_norm(x.ours.clone(), g.ours.clone());
    assert_same(ours, theirs, &[&x, &g]);
}

#[test]
fn moved_pixels_equal_their_compositions() {
    let x = random([2, 4, 6, 5]);
    let large = x
        .theirs
        .clone()
        .reshape([2, 4, 1, 6, 1, 5])
        .expand([2, 4, 2, 6, 2, 5])
        .reshape([2, 8, 12, 5]);
    assert_same(upsample_nearest(x.ours.clone()), large, &[&x]);

    let x = random([2, 4, 6, 5]);
    let squares = x
        .theirs
        .clone()
        .reshape([2, 2, 2, 3, 2, 5])
        .permute([0, 1, 3, 5, 2, 4])
        .reshape([2, 2, 3, 20]);
    assert_same(pixel_unshuffle(x.ours.clone()), squares, &[&x]);
}

#[test]
fn hypernet_equals_its_composition() {
    let (c, l) = (6, 10);
    let layers = HyperLayers {
        count: 2,
        precision: Precision::F32,
    };
    let (x, z) = (random([2, 5, 3, c]), random([2, 5, 3, l]));
    let shapes = [
        [l, c],
        [1, l],
        [l, l],
        [l, l],
        [1, l],
        [1, l],
        [1, 1],
        [1, 1],
        [c, l],
        [1, c],
    ];
    // As large as a network's, so that no layer drowns another.
    let parts = shapes.map(|shape| normal::<2>(shape, 0.3));
    let flat = parts.each_ref().map(|part| {
        let part = part.ours.clone();
        let len = part.dims().iter().product::<usize>();
        part.reshape([len])
    });
    let ours = hypernet(
        x.ours.clone(),
        z.ours.clone(),
        Tensor::cat(flat.to_vec(), 0),
        layers,
    );

    let [
        in_w,
        in_b,
        proj_1,
        proj_2,
        bias_1,
        bias_2,
        s_1,
        s_2,
        out_w,
        out_b,
    ] = parts.each_ref().map(|part| part.theirs.clone());
    let affine = |x: Tensor<2>, w: Tensor<2>, b: Tensor<2>| x.matmul(w.transpose()) + b;
    let rows = x.theirs.clone().reshape([30, c]);
    let latents = z.theirs.clone().reshape([30, l]);
    let mut h = affine(rows, in_w, in_b);
    for (proj, bias, s) in [(proj_1, bias_1, s_1), (proj_2, bias_2, s_2)] {
        let v = affine(latents.clone(), proj, bias);
        let along = (v.clone() * h.clone()).sum_dim(1);
        h = v * along + h * s;
    }
    let theirs = affine(h, out_w, out_b).reshape([2, 5, 3, c]);

    let mut leaves: Vec<&dyn Grads> = vec![&x, &z];
    leaves.extend(parts.iter().map(|part| part as &dyn Grads));
    assert_same(ours, theirs, &leaves);
}

/// Queries, keys and values, each `[B, heads, N, d]`.
fn split_heads(qkv: &Tensor<4>, heads: usize) -> [Tensor<4>; 3] {
    let [batch, height, width, channels] = qkv.dims();
    let d = channels / 3 / heads;
    [0, 1, 2].map(|i| {
        let part = qkv.clone().narrow(3, i * channels / 3, channels / 3);
        part.reshape([batch, height * width, heads, d])
            .swap_dims(1, 2)
    })
}

#[test]
fn attentions_equal_their_compositions() {
    for (heads, d) in [(1, 5), (3, 8), (2, 32)] {
        let qkv = random([2, 4, 3, 3 * heads * d]);
        let [q, k, v] = split_heads(&qkv.theirs, heads);
        let scale = (d as f64).powf(-0.5);
        let join = |x: Tensor<4>| x.swap_dims(1, 2).reshape([2, 4, 3, heads * d]);
        let scores = (q.clone() * scale).matmul(k.clone().swap_dims(2, 3));
        let full = join(activation::softmax(scores, 3).matmul(v));
        // A graph is walked back once: another one for the other attention.
        let [q, k, v] = split_heads(&qkv.theirs, heads);
        let context = activation::softmax(k.swap_dims(2, 3), 3).matmul(v);
        let linear = join((activation::softmax(q, 3) * scale).matmul(context));
        assert_same(attention(qkv.ours.clone(), heads), full, &[&qkv]);
        assert_same(linear_attention(qkv.ours.clone(), heads), linear, &[&qkv]);
    }
}

type Flexed = burn::backend::tensor::FloatTensor<burn::backend::Flex>;

fn flexed<const D: usize>(shape: [usize; D]) -> Flexed {
    Flexed::from_data(random(shape).theirs.into_data())
}

#[track_caller]
fn close_all<const N: usize>(ours: [Flexed; N], theirs: [Flexed; N], what: &str) {
    for (a, b) in ours.into_iter().zip(theirs) {
        let numbers = |t: Flexed| t.to_contiguous().storage::<f32>().to_vec();
        close(&numbers(a), &numbers(b), what);
    }
}

/// The bodies of every other device, run on this one.
#[test]
fn composed_bodies_equal_the_cpu_kernels() {
    use burn::backend::Flex;
    let (x, grad) = (flexed([2, 6, 5, 8]), flexed([2, 6, 5, 8]));
    let (scale, shift) = (flexed([2, 8]), flexed([2, 8]));
    let norm = Norm {
        groups: 4,
        eps: 1e-5,
        silu: true,
    };
    let args = || (x.clone(), scale.clone(), shift.clone(), grad.clone(), norm);
    let (a, b, c, d, e) = args();
    let ours = Flex::group_norm_nhwc_backward(a, b, c, d, e);
    let (a, b, c, d, e) = args();
    let theirs = composed::group_norm_backward::<Flex>(a, b, c, d, e);
    close_all(ours, theirs, "group norm");

    {
        let (w, b, dy) = (flexed([6, 8, 3, 3]), flexed([6]), flexed([2, 6, 5, 6]));
        let window = Window::same(3);
        let args = || (x.clone(), w.clone(), dy.clone(), window, true);
        let (a, c, ..) = args();
        let ours = Flex::conv2d_nhwc(a, c, b.clone(), window);
        let (a, c, ..) = args();
        let theirs = composed::conv2d::<Flex>(a, c, b, window);
        close_all([ours], [theirs], "convolution");
        let (a, c, d, e, f) = args();
        let ours = Flex::conv2d_nhwc_backward(a, c, d, e, f);
        let (a, c, d, e, f) = args();
        let theirs = composed::conv2d_backward::<Flex>(a, c, d, e, f);
        let all = |(dx, dw, db): (Option<Flexed>, Flexed, Flexed)| [dx.expect("asked for"), dw, db];
        close_all(all(ours), all(theirs), "convolution gradient");
    }

    let g = flexed([8]);
    let args = || (x.clone(), g.clone());
    let ((a, b), (c, d)) = (args(), args());
    close_all(
        [Flex::rms_norm_last(a, b)],
        [composed::rms_norm::<Flex>(c, d)],
        "rms norm",
    );
    let ((a, b), (c, d)) = (args(), args());
    let ours = Flex::rms_norm_last_backward(a, b, grad.clone());
    let theirs = composed::rms_norm_backward::<Flex>(c, d, grad.clone());
    close_all(ours, theirs, "rms norm gradient");

    for silu in [false, true] {
        let film = flexed([2, 1, 1, 16]);
        let args = || (x.clone(), film.clone());
        let ((a, b), (c, d)) = (args(), args());
        let ours = Flex::film_rows(a, b, silu);
        close_all([ours], [composed::film::<Flex>(c, d, silu)], "film");
        let ((a, b), (c, d)) = (args(), args());
        let ours = Flex::film_rows_backward(a, b, grad.clone(), silu);
        let theirs = composed::film_backward::<Flex>(c, d, grad.clone(), silu);
        close_all(ours, theirs, "film gradient");
    }

    let layers = HyperLayers {
        count: 2,
        precision: Precision::F32,
    };
    let (z, parameters) = (
        flexed([2, 6, 5, 3]),
        flexed([8 * 3 + 3 + 2 * 13 + 8 * 3 + 8]),
    );
    let args = || (x.clone(), z.clone(), parameters.clone());
    let ((a, b, c), (d, e, f)) = (args(), args());
    close_all(
        [Flex::hypernet_nhwc(a, b, c, layers)],
        [composed::hypernet::<Flex>(d, e, f, layers)],
        "hypernetwork",
    );
    let ((a, b, c), (d, e, f)) = (args(), args());
    let ours = Flex::hypernet_nhwc_backward(a, b, c, grad.clone(), layers);
    let theirs = composed::hypernet_backward::<Flex>(d, e, f, grad, layers);
    close_all(ours, theirs, "hypernetwork gradient");

    let (qkv, grad) = (flexed([2, 7, 48]), flexed([2, 7, 16]));
    let q = || qkv.clone();
    close_all(
        [Flex::linear_attention_qkv(q(), 2)],
        [composed::linear_attention::<Flex>(q(), 2)],
        "linear attention",
    );
    let ours = Flex::linear_attention_qkv_backward(q(), grad.clone(), 2);
    let theirs = composed::linear_attention_backward::<Flex>(q(), grad.clone(), 2);
    close_all([ours], [theirs], "linear attention gradient");
    let (out, log_sums) = Flex::attention_qkv_for_backward(q(), 2);
    close_all(
        [out.clone()],
        [composed::attention::<Flex>(q(), 2)],
        "attention",
    );
    let ours = Flex::attention_qkv_backward(q(), out, log_sums, grad.clone(), 2);
    let theirs = composed::attention_backward::<Flex>(q(), grad, 2);
    close_all([ours], [theirs], "attention gradient");
}

#[test]
fn composed_moves_of_pixels_equal_the_cpu_kernels() {
    use burn::backend::Flex;
    let (x, large, squares) = (
        flexed([2, 4, 6, 5]),
        flexed([2, 8, 12, 5]),
        flexed([2, 2, 3, 20]),
    );
    close_all(
        [
            Flex::upsample_nhwc(x.clone()),
            Flex::upsample_nhwc_backward(large.clone()),
            Flex::pixel_unshuffle_nhwc(x.clone()),
            Flex::pixel_unshuffle_nhwc_backward(squares.clone()),
        ],
        [
            composed::upsample::<Flex>(x.clone()),
            composed::upsample_backward::<Flex>(large),
            composed::pixel_unshuffle::<Flex>(x),
            composed::pixel_unshuffle_backward::<Flex>(squares),
        ],
        "moved pixels",
    );
}

/// The composition also rounds its results to bf16, which the CPU does not.
#[test]
fn composed_convolution_in_bf16_equals_the_cpu_kernel() {
    use burn::backend::Flex;
    let window = Window::same(3).with_precision(Precision::Bf16);
    let (x, w, b) = (flexed([2, 6, 5, 8]), flexed([6, 8, 3, 3]), flexed([6]));
    let dy = flexed([2, 6, 5, 6]);
    let all = |y: Flexed, (dx, dw, db): (Option<Flexed>, Flexed, Flexed)| {
        [y, dx.expect("asked for"), dw, db].map(|t| t.to_contiguous().storage::<f32>().to_vec())
    };
    let args = || (x.clone(), w.clone(), dy.clone());
    let ((a, c, d), (e, f, g)) = (args(), args());
    let ours = all(
        Flex::conv2d_nhwc(x.clone(), w.clone(), b.clone(), window),
        Flex::conv2d_nhwc_backward(a, c, d, window, true),
    );
    let theirs = all(
        composed::conv2d::<Flex>(x.clone(), w.clone(), b, window),
        composed::conv2d_backward::<Flex>(e, f, g, window, true),
    );
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.len(), theirs.len());
        let scale = theirs.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
        for (a, b) in ours.iter().zip(theirs) {
            // Two roundings, of the bias and of the result, by half of the last of eight bits.
            assert!(
                (a - b).abs() <= 2.0 * 2.0_f32.powi(-9) * scale,
                "{a}, not {b}"
            );
        }
    }
}

/// The step of the device, on the CPU in one pass, against the composition on the CPU, over several
/// steps.
#[test]
fn adam_equals_its_composition() {
    use super::adam::{AdamW, Rows};
    let start = |weights: Tensor<1>| Rows {
        moments: [weights.zeros_like(), weights.zeros_like()],
        averages: vec![weights.clone(), weights.clone()],
        weights,
    };
    let row = || {
        let row = random([1001]);
        (row.ours.inner(), row.theirs.inner())
    };
    let (ours, theirs) = row();
    let (mut ours, mut theirs) = (start(ours), start(theirs));
    for step in 1..=5 {
        let adam = AdamW {
            lr: 1e-2,
            betas: [0.9, 0.99],
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            scale: 0.7,
            decays: vec![0.5, 0.999],
        };
        let (our_grad, their_grad) = row();
        adam.step(&mut ours, our_grad);
        adam.composed(&mut theirs, their_grad);
    }
    let numbers = |rows: Rows| {
        let [m, v] = rows.moments;
        let all = [vec![rows.weights, m, v], rows.averages].concat();
        all.into_iter()
            .map(crate::host::numbers)
            .collect::<Vec<_>>()
    };
    for (a, b) in numbers(ours).iter().zip(&numbers(theirs)) {
        close(a, b, "adam");
    }
}

#[test]
fn the_length_of_a_gradient_is_that_of_its_numbers() {
    let grad = random([5000]).ours.inner();
    let squares = crate::host::numbers(grad.clone())
        .into_iter()
        .map(|x| f64::from(x).powi(2));
    let length = squares.sum::<f64>().sqrt();
    assert!((adam::norm(&grad) - length).abs() < 1e-5 * length);
}

#[test]
#[should_panic(expected = "assert_shape!(x, [_, _, _, c_in])")]
fn channels_must_agree() {
    conv2d(
        random([1, 4, 4, 3]).ours,
        random([2, 5, 3, 3]).ours,
        random([2]).ours,
        Window::same(3),
    );
}

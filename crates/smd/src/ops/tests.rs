//! Each fused operation against a composition that Burn differentiates itself.

use super::*;
use burn::tensor::module::conv2d as burn_conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, activation};

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let device = Device::default().autodiff();
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad()
}

/// The largest difference of values and of gradients of `inputs`, under a random output gradient.
#[track_caller]
fn assert_same<const D: usize>(
    ours: Tensor<D>,
    theirs: Tensor<D>,
    grads: impl Fn(&Tensor<D>) -> Vec<Vec<f32>>,
) {
    let data = |t: &Tensor<D>| crate::host::numbers(t.clone());
    close(&data(&ours), &data(&theirs), "values");
    for (i, (a, b)) in grads(&ours).iter().zip(grads(&theirs)).enumerate() {
        close(a, &b, &format!("gradient {i}"));
    }
}

#[track_caller]
fn close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        // Two orders of summation of some thousand terms.
        assert!((a - b).abs() <= 2e-5 * scale, "{what}[{i}]: {a}, not {b}");
    }
}

fn vec_of<const D: usize>(t: Option<Tensor<D>>) -> Vec<f32> {
    crate::host::numbers(t.expect("a gradient"))
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
        let nchw = x.clone().permute([0, 3, 1, 2]);
        let theirs = burn_conv2d(nchw, w.clone(), Some(b.clone()), options).permute([0, 2, 3, 1]);
        let ours = conv2d(x.clone(), w.clone(), b.clone(), window);
        let weights = random(theirs.dims()).detach();
        assert_same(ours, theirs, |y| {
            let mut g = (y.clone() * weights.clone()).sum().backward();
            vec![
                vec_of(x.grad_remove(&mut g)),
                vec_of(w.grad_remove(&mut g)),
                vec_of(b.grad_remove(&mut g)),
            ]
        });
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
        let grouped = x.clone().reshape([2, 20, 3, 4]);
        let mean = grouped.clone().mean_dim(3).mean_dim(1);
        let centred = grouped - mean;
        let var = centred.clone().square().mean_dim(3).mean_dim(1);
        let hat = (centred / (var + 1e-5).sqrt()).reshape([2, 5, 4, 12]);
        let affine = |a: &Tensor<2>| a.clone().reshape([2, 1, 1, 12]);
        let u = hat * affine(&scale) + affine(&shift);
        let theirs = if silu_follows { activation::silu(u) } else { u };
        let ours = group_norm(x.clone(), scale.clone(), shift.clone(), norm);
        let weights = random([2, 5, 4, 12]).detach();
        assert_same(ours, theirs, |y| {
            let mut g = (y.clone() * weights.clone()).sum().backward();
            vec![
                vec_of(x.grad_remove(&mut g)),
                vec_of(scale.grad_remove(&mut g)),
                vec_of(shift.grad_remove(&mut g)),
            ]
        });
    }
}

#[test]
fn silu_and_softmax_equal_their_compositions() {
    let x = random([3, 4, 5, 7]);
    let weights = random([3, 4, 5, 7]).detach();
    let grads = |y: &Tensor<4>| {
        let mut g = (y.clone() * weights.clone()).sum().backward();
        vec![vec_of(x.grad_remove(&mut g))]
    };
    assert_same(silu(x.clone()), activation::silu(x.clone()), grads);
    assert_same(softmax(x.clone()), activation::softmax(x.clone(), 3), grads);
}

#[test]
fn composed_bodies_equal_the_cpu_kernels() {
    use burn::backend::Flex;
    // The bodies of every other device, run on this one.
    let plain = |t: Tensor<4>| t.into_data();
    let x = random([2, 6, 5, 8]);
    let to =
        |t: &Tensor<4>| burn::backend::tensor::FloatTensor::<Flex>::from_data(plain(t.clone()));
    let flat = |t: &Tensor<2>| burn::backend::tensor::FloatTensor::<Flex>::from_data(t.to_data());
    let norm = Norm {
        groups: 4,
        eps: 1e-5,
        silu: true,
    };
    let (scale, shift, grad) = (random([2, 8]), random([2, 8]), random([2, 6, 5, 8]));
    let ours = Flex::group_norm_nhwc_backward(to(&x), flat(&scale), flat(&shift), to(&grad), norm);
    let theirs =
        composed::group_norm_backward::<Flex>(to(&x), flat(&scale), flat(&shift), to(&grad), norm);
    for (a, b) in ours.into_iter().zip(theirs) {
        let numbers = |t: burn::backend::tensor::FloatTensor<Flex>| t.storage::<f32>().to_vec();
        close(&numbers(a), &numbers(b), "group norm gradient");
    }
}

#[test]
#[should_panic(expected = "assert_shape!(x, [_, _, _, c_in])")]
fn channels_must_agree() {
    conv2d(
        random([1, 4, 4, 3]),
        random([2, 5, 3, 3]),
        random([2]),
        Window::same(3),
    );
}

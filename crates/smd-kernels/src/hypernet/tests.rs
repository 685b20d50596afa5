use super::*;
use crate::testing::{cases, numbers, sized};
use proptest::prelude::*;

/// What a result is made of, in f64.
#[derive(Clone)]
struct Inputs {
    net: HyperNet,
    x: Vec<f64>,
    z: Vec<f64>,
    parameters: Vec<f64>,
    grad: Vec<f64>,
}

impl Inputs {
    fn of(net: HyperNet, [x, z, parameters, grad]: [&[f32]; 4]) -> Self {
        let f64s = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect();
        let (x, z, parameters) = (f64s(x), f64s(z), f64s(parameters));
        let grad = f64s(grad);
        Self {
            net,
            x,
            z,
            parameters,
            grad,
        }
    }

    /// The same without signs: its results bound the sums of the terms of the true ones.
    fn terms(&self) -> Self {
        let mut terms = self.clone();
        for all in terms.places() {
            all.iter_mut().for_each(|x| *x = x.abs());
        }
        terms
    }

    fn places(&mut self) -> [&mut Vec<f64>; 4] {
        [
            &mut self.x,
            &mut self.z,
            &mut self.parameters,
            &mut self.grad,
        ]
    }

    /// Eq. 12 for each pixel, with the matrices written out.
    fn value(&self) -> Vec<f64> {
        let HyperNet {
            channels,
            latent,
            layers,
            ..
        } = self.net;
        let mut rest = &self.parameters[..];
        let [w_in, b_in, proj, proj_bias, scales, w_out, b_out] =
            self.net.parameter_lens().map(|len| {
                let (part, after) = rest.split_at(len);
                rest = after;
                part
            });
        let rows = self.x.chunks(channels).zip(self.z.chunks(latent));
        rows.flat_map(|(x, z)| {
            let mut h = affine(w_in, b_in, x);
            for k in 0..layers {
                let weight = &proj[k * latent * latent..][..latent * latent];
                let v = affine(weight, &proj_bias[k * latent..][..latent], z);
                let matrix: Vec<f64> = (0..latent * latent)
                    .map(|i| (i / latent, i % latent))
                    .map(|(i, j)| v[i] * v[j] + if i == j { scales[k] } else { 0.0 })
                    .collect();
                h = affine(&matrix, &vec![0.0; latent], &h);
            }
            affine(w_out, b_out, &h)
        })
        .collect()
    }

    /// The slope of `grad . out` along number `i` of `x` (0), `z` (1) or the parameters (2).
    fn slope(&self, place: usize, i: usize) -> f64 {
        const BY: f64 = 1e-2;
        let at = |by: f64| -> f64 {
            let mut there = self.clone();
            there.places()[place][i] += by;
            let out = there.value();
            out.iter().zip(&there.grad).map(|(y, g)| y * g).sum()
        };
        // Exact up to the fourth degree; three layers are of the sixth in `z`.
        (8.0 * (at(BY) - at(-BY)) - (at(2.0 * BY) - at(-2.0 * BY))) / (12.0 * BY)
    }
}

fn affine(weight: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
    let rows = weight.chunks(x.len()).zip(bias);
    rows.map(|(row, b)| b + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
        .collect()
}

#[track_caller]
fn assert_close(got: f32, want: f64, terms: f64, precision: Precision, what: &str) {
    // A factor is rounded several times on its way; bf16 has eight digits.
    let tolerance = match precision {
        Precision::F32 => 4e-6,
        Precision::Bf16 => 3e-2,
    };
    let off = (f64::from(got) - want).abs();
    assert!(
        off <= tolerance * terms + 1e-10,
        "{what}: {got}, not {want}"
    );
}

/// Every number of the output and some of each gradient, under every instruction set.
fn check_all(net: HyperNet, seed: u32) {
    let HyperNet {
        pixels,
        channels,
        latent,
        precision,
        ..
    } = net;
    let x = numbers(pixels * channels, seed);
    let z = numbers(pixels * latent, seed + 1);
    // As large as a network's: the slopes would be lost in the digits of larger values.
    let size = 1.0 / latent as f32;
    let parameters = numbers(net.parameters_len(), seed + 2)
        .iter()
        .map(|x| x * size)
        .collect::<Vec<_>>();
    let grad = numbers(pixels * channels, seed + 3);
    let exact = Inputs::of(net, [&x, &z, &parameters, &grad]);
    let terms = exact.terms();
    for level in simd::available() {
        let mut out = vec![f32::NAN; x.len()];
        forward_at(level, &net, &x, &z, &parameters, &mut out);
        for ((&got, want), bound) in out.iter().zip(exact.value()).zip(terms.value()) {
            assert_close(got, want, bound, precision, &format!("{level:?} out"));
        }
        let (mut x_grad, mut z_grad) = (vec![f32::NAN; x.len()], vec![f32::NAN; z.len()]);
        let all = backward_at(
            level,
            &net,
            &x,
            &z,
            &parameters,
            &grad,
            &mut x_grad,
            &mut z_grad,
        );
        assert_eq!(all.len(), parameters.len());
        for (place, got) in [&x_grad, &z_grad, &all].into_iter().enumerate() {
            for i in some_of(got.len(), &net, place) {
                let (want, bound) = (exact.slope(place, i), terms.slope(place, i));
                let what = format!("{level:?} {net:?} gradient {place}[{i}]");
                assert_close(got[i], want, bound, precision, &what);
            }
        }
    }
}

/// First, last and a middle one; of the parameters, of each kind.
fn some_of(len: usize, net: &HyperNet, place: usize) -> Vec<usize> {
    let of = |from: usize, len: usize| [from, from + len / 2, from + len - 1];
    if place < 2 {
        return of(0, len).to_vec();
    }
    let mut from = 0;
    let mut all = Vec::new();
    for len in net.parameter_lens() {
        all.extend(of(from, len));
        from += len;
    }
    all
}

proptest! {
    #![proptest_config(cases(24))]
    #[test]
    fn values_and_gradients_follow_the_definition(
        channels in prop::sample::select(sized(vec![1_usize, 3, 5, 16, 31, 33], vec![1, 3, 17])),
        latent in prop::sample::select(sized(vec![1_usize, 3, 5, 16, 31, 33], vec![1, 3, 17])),
        pixels in prop::sample::select(sized(vec![1_usize, 2, 7, 28], vec![1, 3])),
        layers in 1_usize..4,
        precision in prop::sample::select(vec![Precision::F32, Precision::Bf16]),
        seed in 0_u32..1000,
    ) {
        check_all(HyperNet { pixels, channels, latent, layers, precision }, seed);
    }
}

/// The sizes of the authors' script.
#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn a_hundred_latents_follow_the_definition() {
    let (channels, latent, layers) = (64, 100, 2);
    for precision in [Precision::F32, Precision::Bf16] {
        let net = HyperNet {
            pixels: 5,
            channels,
            latent,
            layers,
            precision,
        };
        check_all(net, 1);
    }
}

fn many(precision: Precision) -> (HyperNet, [Vec<f32>; 4]) {
    let net = HyperNet {
        pixels: 2 * TASK + TILE + 5,
        channels: 5,
        latent: 7,
        layers: 2,
        precision,
    };
    let lens = [5 * net.pixels, 7 * net.pixels, net.parameters_len()];
    let [x, z, parameters] = [0, 1, 2].map(|i| numbers(lens[i], 1 + i as u32));
    (net, [x, z, parameters, numbers(lens[0], 4)])
}

/// Tiles and tasks leave no pixel out, and none knows of another.
#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn a_pixel_among_many_is_as_if_alone() {
    let (net, [x, z, parameters, grad]) = many(Precision::F32);
    let one = HyperNet { pixels: 1, ..net };
    let run = |net: &HyperNet, x: &[f32], z: &[f32], grad: &[f32]| {
        let [mut out, mut x_grad] = [(); 2].map(|()| vec![f32::NAN; x.len()]);
        let mut z_grad = vec![f32::NAN; z.len()];
        forward(net, x, z, &parameters, &mut out);
        let sums = backward(net, x, z, &parameters, grad, &mut x_grad, &mut z_grad);
        (out, x_grad, z_grad, sums)
    };
    let all = run(&net, &x, &z, &grad);
    let mut total = vec![0.0; parameters.len()];
    for i in 0..net.pixels {
        let (x, z, grad) = (&x[5 * i..][..5], &z[7 * i..][..7], &grad[5 * i..][..5]);
        let (out, x_grad, z_grad, sums) = run(&one, x, z, grad);
        assert_eq!(out, all.0[5 * i..][..5]);
        assert_eq!(x_grad, all.1[5 * i..][..5]);
        assert_eq!(z_grad, all.2[7 * i..][..7]);
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += f64::from(sum);
        }
    }
    let size = total.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
    for (&got, want) in all.3.iter().zip(total) {
        assert!((f64::from(got) - want).abs() < 1e-5 * size, "{got} {want}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn the_number_of_threads_changes_no_bit() {
    let (net, [x, z, parameters, grad]) = many(Precision::F32);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (mut out, mut dx, mut dz) = (grad.clone(), x.clone(), z.clone());
            forward(&net, &x, &z, &parameters, &mut out);
            let sums = backward(&net, &x, &z, &parameters, &grad, &mut dx, &mut dz);
            (out, dx, dz, sums)
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn nan_stays_nan_and_in_its_pixel() {
    let cases = [Precision::F32, Precision::Bf16]
        .map(|precision| [0, 1, 3].map(|place| (precision, place)));
    for (precision, place) in cases.into_iter().flatten() {
        let (net, mut inputs) = many(precision);
        // Pixel 1.
        inputs[place][7] = f32::NAN;
        let [x, z, parameters, grad] = &inputs;
        let (mut out, mut dx, mut dz) = (grad.clone(), x.clone(), z.clone());
        forward(&net, x, z, parameters, &mut out);
        let sums = backward(&net, x, z, parameters, grad, &mut dx, &mut dz);
        // The gradient of `x` does not ask what `x` is, nor the output what its gradient is.
        for (values, width, reached) in
            [(&out, 5, place != 3), (&dx, 5, place != 0), (&dz, 7, true)]
        {
            let nan = |pixel: usize| values[pixel * width..][..width].iter().all(|x| x.is_nan());
            assert_eq!(nan(1), reached, "{place}");
            let others = [&values[..width], &values[2 * width..]].concat();
            assert!(!others.iter().any(|x| x.is_nan()));
        }
        assert!(sums.iter().any(|x| x.is_nan()));
    }
}

#[test]
fn no_pixels_give_nothing() {
    let net = HyperNet {
        pixels: 0,
        ..many(Precision::F32).0
    };
    let parameters = numbers(net.parameters_len(), 1);
    forward(&net, &[], &[], &parameters, &mut []);
    let sums = backward(&net, &[], &[], &parameters, &[], &mut [], &mut []);
    assert_eq!(sums, vec![0.0; parameters.len()]);
}

#[test]
#[should_panic(expected = "hypernet: parameters")]
fn a_parameter_too_few_is_refused() {
    let (net, [x, z, parameters, mut out]) = many(Precision::F32);
    forward(&net, &x, &z, &parameters[1..], &mut out);
}

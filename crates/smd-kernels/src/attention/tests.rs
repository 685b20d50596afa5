use super::*;
use crate::memory::any_numbers;
use crate::testing::{cases, sized};
use proptest::prelude::*;

pub(crate) fn numbers(len: usize, seed: u32, size: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * size
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn f64s(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// `|got - want| <= tolerance * (1 + |want|)`; NaN is never close.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (f64::from(got) - want).abs() <= tolerance * (1.0 + want.abs()),
            "{what}[{i}]: {got}, not {want}"
        );
    }
}

/// Places of queries, keys and values of one head in `qkv`, each `[N][d]`.
pub(crate) fn places(sizes: &Attention, image: usize, head: usize) -> [Vec<Vec<usize>>; 3] {
    let Attention {
        pixels,
        heads,
        d_head: d,
        ..
    } = *sizes;
    [0, 1, 2].map(|part| {
        let row = |n: usize| ((image * pixels + n) * 3 + part) * heads * d + head * d;
        (0..pixels)
            .map(|n| (row(n)..row(n) + d).collect())
            .collect()
    })
}

/// Places of one head in `out`, `[N][d]`.
pub(crate) fn out_places(sizes: &Attention, image: usize, head: usize) -> Vec<Vec<usize>> {
    let row = |n: usize| ((image * sizes.pixels + n) * sizes.heads + head) * sizes.d_head;
    (0..sizes.pixels)
        .map(|n| (row(n)..row(n) + sizes.d_head).collect())
        .collect()
}

/// All heads of all images.
pub(crate) fn heads(sizes: &Attention) -> impl Iterator<Item = (usize, usize)> + use<> {
    let heads = sizes.heads;
    (0..sizes.batch).flat_map(move |image| (0..heads).map(move |head| (image, head)))
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn take(x: &[f64], rows: &[Vec<usize>]) -> Vec<Vec<f64>> {
    let row = |places: &Vec<usize>| places.iter().map(|&i| x[i]).collect();
    rows.iter().map(row).collect()
}

pub(crate) fn softmax(x: &[f64]) -> Vec<f64> {
    let largest = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
    let e: Vec<f64> = x.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|e| e / sum).collect()
}

/// The gradient of the input of a softmax from its output and the output's gradient.
pub(crate) fn softmax_back(y: &[f64], grad: &[f64]) -> Vec<f64> {
    let mean = dot(y, grad);
    y.iter().zip(grad).map(|(y, g)| y * (g - mean)).collect()
}

/// The definition, in f64: output, logarithms of sums, and the gradient of `qkv`.
fn plain(sizes: &Attention, qkv: &[f64], grad: &[f64]) -> [Vec<f64>; 3] {
    let (n, d) = (sizes.pixels, sizes.d_head);
    let scale = 1.0 / (d as f64).sqrt();
    let mut out = vec![0.0; grad.len()];
    let mut log_sums = Vec::new();
    let mut qkv_grad = vec![0.0; qkv.len()];
    for (image, head) in heads(sizes) {
        let [q_at, k_at, v_at] = places(sizes, image, head);
        let out_at = out_places(sizes, image, head);
        let [q, k, v] = [&q_at, &k_at, &v_at].map(|at| take(qkv, at));
        let g = take(grad, &out_at);
        for a in 0..n {
            let scores: Vec<f64> = k.iter().map(|k| dot(&q[a], k) * scale).collect();
            let largest = scores.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
            let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
            log_sums.push(largest + sum.ln());
            let p = softmax(&scores);
            let dp: Vec<f64> = v.iter().map(|v| dot(&g[a], v)).collect();
            let ds = softmax_back(&p, &dp);
            for b in 0..n {
                for i in 0..d {
                    out[out_at[a][i]] += p[b] * v[b][i];
                    qkv_grad[q_at[a][i]] += ds[b] * k[b][i] * scale;
                    qkv_grad[k_at[b][i]] += ds[b] * q[a][i] * scale;
                    qkv_grad[v_at[b][i]] += p[b] * g[a][i];
                }
            }
        }
    }
    [out, log_sums, qkv_grad]
}

fn run(level: Level, sizes: &Attention, qkv: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
    let mut out = any_numbers(grad.len());
    let mut log_sums = any_numbers(sizes.batch * sizes.heads * sizes.pixels);
    let mut qkv_grad = any_numbers(qkv.len());
    forward_at(level, sizes, qkv, &mut out, &mut log_sums);
    backward_at(level, sizes, qkv, &out, &log_sums, grad, &mut qkv_grad);
    [out, log_sums, qkv_grad]
}

pub(crate) fn inputs(sizes: &Attention, seed: u32, size: f32) -> (Vec<f32>, Vec<f32>) {
    let len = sizes.batch * sizes.pixels * sizes.heads * sizes.d_head;
    (numbers(3 * len, seed, size), numbers(len, seed + 1, 1.0))
}

fn check(sizes: &Attention, seed: u32, size: f32, tolerance: f64) {
    let (qkv, grad) = inputs(sizes, seed, size);
    let [out, log_sums, qkv_grad] = plain(sizes, &f64s(&qkv), &f64s(&grad));
    for level in simd::available() {
        let got = run(level, sizes, &qkv, &grad);
        assert_close(&got[0], &out, tolerance, "out");
        assert_close(&got[1], &log_sums, tolerance, "log sums");
        assert_close(&got[2], &qkv_grad, tolerance, "gradient of qkv");
    }
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn values_and_gradients_follow_the_definition(
        batch in 1_usize..3,
        pixels in prop::sample::select(sized(vec![1_usize, 2, 7, 49, 65], vec![1, 2, 5])),
        heads in 1_usize..sized(4, 3),
        d_head in prop::sample::select(sized(vec![1_usize, 3, 8, 32, 33], vec![1, 3])),
        seed in 0_u32..1000,
    ) {
        check(&Attention { batch, pixels, heads, d_head }, seed, 1.5, 2e-5);
    }
}

/// Several blocks of queries and keys, one head over many channels, and heads as in the U-Nets.
#[test]
fn many_blocks_follow_the_definition() {
    let usual = vec![(256, 1, 70), (200, 2, 32), (140, 1, 256)];
    for (pixels, heads, d_head) in sized(usual, vec![(4, 1, 17)]) {
        let sizes = Attention {
            batch: 1,
            pixels,
            heads,
            d_head,
        };
        check(&sizes, 5, 1.5, 2e-5);
    }
}

/// The gradients of the definition used above are those of its values, by central differences.
#[test]
#[cfg_attr(miri, ignore = "runs no kernel")]
fn the_definition_has_the_gradients_it_says() {
    let sizes = Attention {
        batch: 1,
        pixels: 5,
        heads: 2,
        d_head: 3,
    };
    let (qkv, grad) = inputs(&sizes, 3, 1.5);
    let (qkv, grad) = (f64s(&qkv), f64s(&grad));
    let [_, _, gradient] = plain(&sizes, &qkv, &grad);
    for (i, want) in gradient.into_iter().enumerate() {
        let loss = |by: f64| {
            let mut qkv = qkv.clone();
            qkv[i] += by;
            dot(&plain(&sizes, &qkv, &grad)[0], &grad)
        };
        let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
        assert!((slope - want).abs() < 1e-8, "{i}: {slope}, not {want}");
    }
}

/// Scores of +-80 and more: their exponentials alone have no f32.
#[test]
#[cfg_attr(miri, ignore = "large, and about numbers")]
fn large_scores_do_not_overflow() {
    let sizes = Attention {
        batch: 1,
        pixels: 70,
        heads: 1,
        d_head: 4,
    };
    let (qkv, _) = inputs(&sizes, 9, 9.0);
    let [_, log_sums, _] = plain(&sizes, &f64s(&qkv), &vec![0.0; 280]);
    assert!(log_sums.iter().fold(0.0_f64, |m, &x| m.max(x)) > 80.0);
    // Rounding of scores near 100 moves exponentials by some 1e-5.
    check(&sizes, 9, 9.0, 3e-4);
    let (mut qkv, grad) = inputs(&sizes, 9, 1.0);
    qkv.iter_mut().for_each(|x| *x = x.signum() * 1e4);
    for level in simd::available() {
        for got in run(level, &sizes, &qkv, &grad) {
            assert!(got.iter().all(|x| x.is_finite()), "{level:?}");
        }
    }
}

#[test]
fn nan_in_one_image_comes_out_of_it_and_of_no_other() {
    let sizes = Attention {
        batch: 2,
        pixels: sized(66, 2),
        heads: 1,
        d_head: 3,
    };
    let (mut qkv, grad) = inputs(&sizes, 4, 1.0);
    // A key of the first image: every query meets it.
    qkv[9 + 3] = f32::NAN;
    for level in simd::available() {
        let [out, log_sums, qkv_grad] = run(level, &sizes, &qkv, &grad);
        for got in [out, log_sums, qkv_grad] {
            let (first, second) = got.split_at(got.len() / 2);
            assert!(first.iter().all(|x| x.is_nan()), "{level:?}");
            assert!(second.iter().all(|x| x.is_finite()), "{level:?}");
        }
    }
}

#[test]
fn neither_threads_nor_batch_change_a_bit() {
    let sizes = Attention {
        batch: sized(3, 2),
        pixels: sized(130, 2),
        heads: 2,
        d_head: sized(32, 2),
    };
    let (qkv, grad) = inputs(&sizes, 6, 1.5);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| run(simd::level(), &sizes, &qkv, &grad))
    };
    let all = on(1);
    for threads in sized(vec![2, 5], vec![2]) {
        assert_eq!(all, on(threads));
    }
    let one = Attention { batch: 1, ..sizes };
    let last = |x: &[f32]| x[x.len() / sizes.batch * (sizes.batch - 1)..].to_vec();
    let alone = run(simd::level(), &one, &last(&qkv), &last(&grad));
    assert_eq!(alone, all.map(|x| last(&x)));
}

#[test]
fn no_image_and_no_pixel_are_nothing_to_do() {
    for (batch, pixels) in [(0, 4), (2, 0)] {
        let sizes = Attention {
            batch,
            pixels,
            heads: 2,
            d_head: 3,
        };
        run(simd::level(), &sizes, &[], &[]);
    }
}

#[test]
#[should_panic(expected = "attention: queries, keys and values")]
fn a_wrong_length_is_refused() {
    let sizes = Attention {
        batch: 1,
        pixels: 2,
        heads: 1,
        d_head: 3,
    };
    forward(&sizes, &[0.0; 17], &mut [0.0; 6], &mut [0.0; 2]);
}

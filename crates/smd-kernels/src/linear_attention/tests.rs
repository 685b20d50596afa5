use super::*;
use crate::attention::tests::{
    assert_close, dot, f64s, heads, inputs, out_places, places, softmax, softmax_back, take,
};
use crate::memory::any_numbers;
use crate::testing::{cases, sized};
use proptest::prelude::*;

fn column(x: &[Vec<f64>], i: usize) -> Vec<f64> {
    x.iter().map(|row| row[i]).collect()
}

/// The definition, in f64: the output and the gradient of `qkv`.
fn plain(sizes: &Attention, qkv: &[f64], grad: &[f64]) -> [Vec<f64>; 2] {
    let (pixels, d) = (sizes.pixels, sizes.d_head);
    let scale = 1.0 / (d as f64).sqrt();
    let mut out = vec![0.0; grad.len()];
    let mut qkv_grad = vec![0.0; qkv.len()];
    for (image, head) in heads(sizes) {
        let [q_at, k_at, v_at] = places(sizes, image, head);
        let out_at = out_places(sizes, image, head);
        let [q, k, v] = [&q_at, &k_at, &v_at].map(|at| take(qkv, at));
        let g = take(grad, &out_at);
        let p: Vec<Vec<f64>> = q.iter().map(|q| softmax(q)).collect();
        let w: Vec<Vec<f64>> = (0..d).map(|i| softmax(&column(&k, i))).collect(); // [d][N]
        let context = |i: usize, j: usize| dot(&w[i], &column(&v, j));
        let context: Vec<Vec<f64>> = (0..d)
            .map(|i| (0..d).map(|j| context(i, j)).collect())
            .collect();
        let slope = |i: usize, j: usize| scale * dot(&column(&p, i), &column(&g, j));
        let slope: Vec<Vec<f64>> = (0..d)
            .map(|i| (0..d).map(|j| slope(i, j)).collect())
            .collect();
        for n in 0..pixels {
            let dp: Vec<f64> = context.iter().map(|row| scale * dot(&g[n], row)).collect();
            for (&at, dq) in q_at[n].iter().zip(softmax_back(&p[n], &dp)) {
                qkv_grad[at] = dq;
            }
            for j in 0..d {
                out[out_at[n][j]] = scale * dot(&p[n], &column(&context, j));
                qkv_grad[v_at[n][j]] = dot(&column(&w, n), &column(&slope, j));
            }
        }
        for i in 0..d {
            let dw: Vec<f64> = v.iter().map(|v| dot(v, &slope[i])).collect();
            for (at, dk) in k_at.iter().zip(softmax_back(&w[i], &dw)) {
                qkv_grad[at[i]] = dk;
            }
        }
    }
    [out, qkv_grad]
}

fn run(level: Level, sizes: &Attention, qkv: &[f32], grad: &[f32]) -> [Vec<f32>; 2] {
    let mut out = any_numbers(grad.len());
    let mut qkv_grad = any_numbers(qkv.len());
    forward_at(level, sizes, qkv, &mut out);
    backward_at(level, sizes, qkv, grad, &mut qkv_grad);
    [out, qkv_grad]
}

fn check(sizes: &Attention, seed: u32, size: f32, tolerance: f64) {
    let (qkv, grad) = inputs(sizes, seed, size);
    let [out, qkv_grad] = plain(sizes, &f64s(&qkv), &f64s(&grad));
    for level in simd::available() {
        let got = run(level, sizes, &qkv, &grad);
        assert_close(&got[0], &out, tolerance, "out");
        assert_close(&got[1], &qkv_grad, tolerance, "gradient of qkv");
    }
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn values_and_gradients_follow_the_definition(
        batch in 1_usize..3,
        pixels in prop::sample::select(sized(vec![1_usize, 2, 7, 49, 65], vec![1, 2, 4])),
        heads in 1_usize..sized(4, 3),
        d_head in prop::sample::select(sized(vec![1_usize, 3, 8, 32, 33], vec![1, 3])),
        seed in 0_u32..1000,
    ) {
        check(&Attention { batch, pixels, heads, d_head }, seed, 3.0, 2e-6);
    }
}

#[test]
fn many_runs_and_wide_heads_follow_the_definition() {
    let usual = vec![(1024, 1, 32), (200, 4, 32), (70, 1, 100)];
    for (pixels, heads, d_head) in sized(usual, vec![(4, 1, 17)]) {
        let sizes = Attention {
            batch: 1,
            pixels,
            heads,
            d_head,
        };
        check(&sizes, 5, 3.0, 2e-6);
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
    let [_, gradient] = plain(&sizes, &qkv, &grad);
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

/// Queries and keys of +-80 and more: their exponentials alone have no f32.
#[test]
#[cfg_attr(miri, ignore = "about numbers")]
fn large_queries_and_keys_do_not_overflow() {
    let sizes = Attention {
        batch: 1,
        pixels: 70,
        heads: 2,
        d_head: 5,
    };
    check(&sizes, 9, 120.0, 1e-4);
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
    // A key of the first image: its channel of the context is in every output.
    qkv[9 + 3] = f32::NAN;
    for level in simd::available() {
        let [out, qkv_grad] = run(level, &sizes, &qkv, &grad);
        let (first, second) = out.split_at(out.len() / 2);
        assert!(first.iter().all(|x| x.is_nan()), "{level:?}");
        assert!(second.iter().all(|x| x.is_finite()), "{level:?}");
        let (first, second) = qkv_grad.split_at(qkv_grad.len() / 2);
        for pixel in first.chunks_exact(9) {
            assert!(pixel[..3].iter().all(|x| x.is_nan()), "{level:?}");
            assert!(pixel[3].is_nan(), "{level:?}");
            assert!(pixel[6..].iter().all(|x| x.is_nan()), "{level:?}");
        }
        assert!(second.iter().all(|x| x.is_finite()), "{level:?}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "large; other tests have tasks on two threads too")]
fn neither_threads_nor_batch_change_a_bit() {
    let sizes = Attention {
        batch: 8,
        pixels: 300,
        heads: 2,
        d_head: 32,
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
    assert_eq!(all, on(2));
    assert_eq!(all, on(5));
    // Alone, an image's heads are not taken together.
    let one = Attention { batch: 1, ..sizes };
    assert_ne!(groups(&one).0.heads, groups(&sizes).0.heads);
    let last = |x: &[f32]| x[x.len() / 8 * 7..].to_vec();
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

use super::*;
use crate::memory::any_numbers;
use crate::testing::{cases, numbers, sized};
use proptest::prelude::*;

/// The formula of the header in f64, for one row.
fn plain(x: &[f64], g: &[f32]) -> Vec<f64> {
    let length = (x.iter().map(|x| x * x).sum::<f64>() + 1e-24).sqrt();
    let scale = (x.len() as f64).sqrt() / length;
    x.iter()
        .zip(g)
        .map(|(x, &g)| x * scale * f64::from(g))
        .collect()
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

fn assert_close(got: f32, want: f64, size: f64, what: &str) {
    let off = (f64::from(got) - want).abs();
    assert!(off <= 3e-6 * size, "{what}: {got}, not {want}");
}

fn check_rows(x: &[f32], g: &[f32], grad: &[f32]) {
    let (c, len) = (g.len(), x.len());
    let mut bits = Vec::new();
    for level in simd::available() {
        let (mut y, mut dx, mut dg) = (any_numbers(len), any_numbers(len), any_numbers(c));
        forward_at(level, x, g, &mut y);
        backward_at(level, x, g, grad, &mut dx, &mut dg);
        let (mut want_dg, mut terms_dg) = (vec![0.0; c], vec![0.0; c]);
        for from in (0..len).step_by(c) {
            let row: Vec<f64> = x[from..from + c].iter().map(|&x| f64::from(x)).collect();
            let grad = &grad[from..from + c];
            for (i, want) in plain(&row, g).into_iter().enumerate() {
                assert_close(y[from + i], want, want.abs(), "y");
            }

            // Central differences, with a step that suits the length of the row.
            let length = norm(row.iter().copied());
            let u = norm(grad.iter().zip(g).map(|(a, b)| f64::from(a * b)));
            let size = (c as f64).sqrt() / length * u;
            for i in [0, c / 2, c - 1] {
                let at = |by: f64| -> f64 {
                    let mut row = row.clone();
                    row[i] += by;
                    plain(&row, g)
                        .iter()
                        .zip(grad)
                        .map(|(y, &g)| y * f64::from(g))
                        .sum()
                };
                let step = 1e-4 * length;
                let want = (at(step) - at(-step)) / (2.0 * step);
                assert_close(dx[from + i], want, size, "x_grad");
            }

            // The output is linear in `g`.
            for (i, x_hat) in plain(&row, &vec![1.0; c]).into_iter().enumerate() {
                want_dg[i] += x_hat * f64::from(grad[i]);
                terms_dg[i] += (x_hat * f64::from(grad[i])).abs();
            }
        }
        for i in 0..c {
            assert_close(dg[i], want_dg[i], terms_dg[i], "g_grad");
        }
        bits.push([y, dx, dg]);
    }
    let same = bits.iter().all(|b| *b == bits[0]);
    assert!(same, "instruction sets differ");
}

/// Numbers of the longest case.
const MOST: usize = if cfg!(miri) { 34 } else { 700 };

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn values_and_gradients_follow_the_formula(
        channels in prop::sample::select(sized(vec![1_usize, 3, 5, 16, 31, 33, 100], vec![1, 3, 17])),
        rows in prop::sample::select(sized(vec![1_usize, 2, 7], vec![1, 2])),
        size in prop::sample::select(vec![1e-6_f32, 1.0, 1e6]),
        x in prop::collection::vec(prop_oneof![-2.0_f32..-0.01, 0.01_f32..3.0], MOST),
        g in prop::collection::vec(-1.5_f32..1.5, 100),
        grad in prop::collection::vec(-1.0_f32..1.0, MOST),
    ) {
        let x: Vec<f32> = x[..rows * channels].iter().map(|x| x * size).collect();
        check_rows(&x, &g[..channels], &grad[..rows * channels]);
    }
}

/// Several tasks and runs, the last of them short.
#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn many_rows_follow_the_formula() {
    for (channels, rows) in [(5, 20_003), (33, 1003), (100, 1001)] {
        let [x, grad] = [1, 2].map(|seed| numbers(channels * rows, seed));
        check_rows(&x, &numbers(channels, 3), &grad);
    }
}

/// `1e-24` rules there: `y = sqrt(C) 1e12 g x`.
#[test]
fn at_zero_everything_is_finite() {
    let (x, g, grad) = ([0.0, 0.0, 1e-18, -2e-18], [1.0, 3.0], [1.0, -1.0, 0.5, 1.0]);
    for level in simd::available() {
        let (mut y, mut dx, mut dg) = ([f32::NAN; 4], [f32::NAN; 4], [f32::NAN; 2]);
        forward_at(level, &x, &g, &mut y);
        backward_at(level, &x, &g, &grad, &mut dx, &mut dg);
        for i in 0..4 {
            let scale = 2.0_f64.sqrt() * 1e12 * f64::from(g[i % 2]);
            assert!((f64::from(y[i]) - scale * f64::from(x[i])).abs() < 1e-11);
            let want = scale * f64::from(grad[i]);
            assert!((f64::from(dx[i]) / want - 1.0).abs() < 1e-5, "{dx:?}");
        }
        assert!(dg.iter().all(|x| x.is_finite()));
    }
}

#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn the_number_of_threads_changes_no_bit() {
    let (channels, len) = (100, 100 * 5003);
    let [x, grad, g] = [(len, 1), (len, 2), (channels, 3)].map(|(len, seed)| numbers(len, seed));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (mut y, mut dx, mut dg) = (vec![0.0; len], vec![0.0; len], vec![0.0; channels]);
            forward(&x, &g, &mut y);
            backward(&x, &g, &grad, &mut dx, &mut dg);
            [y, dx, dg]
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
fn nan_stays_nan_and_in_its_row() {
    let c = 33;
    for at in [c, 2 * c - 1] {
        for in_grad in [false, true] {
            let [mut x, mut grad, g] =
                [(3 * c, 1), (3 * c, 2), (c, 3)].map(|(len, seed)| numbers(len, seed));
            let spoilt = if in_grad { &mut grad } else { &mut x };
            spoilt[at] = f32::NAN;
            let (mut y, mut dx, mut dg) = (vec![0.0; 3 * c], vec![0.0; 3 * c], vec![0.0; c]);
            forward(&x, &g, &mut y);
            backward(&x, &g, &grad, &mut dx, &mut dg);
            for (row, reached) in [(&y, !in_grad), (&dx, true)] {
                assert_eq!(row[c..2 * c].iter().all(|x| x.is_nan()), reached);
                let others = [&row[..c], &row[2 * c..]].concat();
                assert!(!others.iter().any(|x| x.is_nan()));
            }
            for (i, dg) in dg.iter().enumerate() {
                assert_eq!(dg.is_nan(), !in_grad || i == at - c);
            }
        }
    }
}

#[test]
fn no_rows_give_no_gradient() {
    let mut dg = [f32::NAN; 2];
    forward(&[], &[1.0; 2], &mut []);
    backward(&[], &[1.0; 2], &[], &mut [], &mut dg);
    assert_eq!(dg, [0.0; 2]);
}

#[test]
#[should_panic(expected = "rms norm: whole rows")]
fn half_a_row_is_refused() {
    forward(&[1.0; 3], &[1.0; 2], &mut [0.0; 3]);
}

use super::*;
use crate::memory::any_numbers;
use crate::testing::{cases, numbers, sized};
use proptest::prelude::*;

/// `u` or `silu(u)` of the header in f64, and its derivative by `u`.
fn plain(silu: bool, h: f32, scale: f32, shift: f32) -> (f64, f64) {
    let u = (1.0 + f64::from(scale)) * f64::from(h) + f64::from(shift);
    if !silu {
        return (u, 1.0);
    }
    let s = 1.0 / (1.0 + (-u).exp());
    (u * s, s + u * s * (1.0 - s))
}

fn assert_close(got: f32, want: f64, size: f64, what: &str) {
    let off = (f64::from(got) - want).abs();
    assert!(off <= 4e-6 * size.max(1.0), "{what}: {got}, not {want}");
}

fn check(film: Film, h: &[f32], rows: &[f32], grad: &[f32]) {
    let c = film.channels;
    let shared = h.len() * 2 / rows.len();
    for level in simd::available() {
        let (mut y, mut dh) = (any_numbers(h.len()), any_numbers(h.len()));
        let mut drows = any_numbers(rows.len());
        forward_at(level, film, h, rows, &mut y);
        backward_at(level, film, h, rows, grad, &mut dh, &mut drows);
        let (mut want, mut size) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
        for (at, &h) in h.iter().enumerate() {
            let scale_at = at / c / shared * 2 * c + at % c;
            let (scale, shift) = (rows[scale_at], rows[scale_at + c]);
            let (value, slope) = plain(film.silu, h, scale, shift);
            assert_close(y[at], value, value.abs(), "y");
            let du = f64::from(grad[at]) * slope;
            assert_close(dh[at], du * (1.0 + f64::from(scale)), 4.0, "h_grad");
            for (place, term) in [(scale_at, du * f64::from(h)), (scale_at + c, du)] {
                want[place] += term;
                size[place] += term.abs();
            }
        }
        for (i, &got) in drows.iter().enumerate() {
            assert_close(got, want[i], size[i], "gradient of scales and shifts");
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn values_and_gradients_follow_the_formula(
        channels in prop::sample::select(sized(vec![1_usize, 3, 5, 31, 33, 100], vec![1, 3, 17])),
        rows in prop::sample::select(sized(vec![1_usize, 2, 7], vec![1, 2])),
        shared in prop::sample::select(sized(vec![1_usize, 2, 7, 129], vec![1, 2])),
        silu in any::<bool>(),
        seed in 0_u32..1000,
    ) {
        let len = rows * shared * channels;
        let [h, grad] = [seed, seed + 1000].map(|seed| numbers(len, seed));
        check(Film { channels, silu }, &h, &numbers(2 * rows * channels, seed + 2000), &grad);
    }
}

/// Several tasks, the last of them short.
#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn many_rows_follow_the_formula() {
    for (channels, rows, shared) in [(5, 20_003, 1), (33, 3, 1003), (100, 101, 7)] {
        let [h, grad] = [1, 2].map(|seed| numbers(channels * rows * shared, seed));
        let film = Film {
            channels,
            silu: true,
        };
        check(film, &h, &numbers(2 * rows * channels, 3), &grad);
    }
}

#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn the_number_of_threads_changes_no_bit() {
    let film = Film {
        channels: 100,
        silu: true,
    };
    for (rows, shared) in [(5003, 1), (3, 1001)] {
        let len = 100 * rows * shared;
        let [h, grad] = [1, 2].map(|seed| numbers(len, seed));
        let scales = numbers(200 * rows, 3);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let (mut y, mut dh, mut drows) =
                    (vec![0.0; len], vec![0.0; len], vec![0.0; 200 * rows]);
                forward(film, &h, &scales, &mut y);
                backward(film, &h, &scales, &grad, &mut dh, &mut drows);
                [y, dh, drows]
            })
        };
        let one = run(1);
        assert!(run(2) == one && run(5) == one);
    }
}

#[test]
fn nothing_gives_no_gradient() {
    let film = Film {
        channels: 2,
        silu: true,
    };
    let mut rows_grad = [f32::NAN; 4];
    forward(film, &[], &[1.0; 4], &mut []);
    backward(film, &[], &[1.0; 4], &[], &mut [], &mut rows_grad);
    assert_eq!(rows_grad, [0.0; 4]);
}

#[test]
#[should_panic(expected = "film: rows for each scale")]
fn rows_that_no_scale_is_for_are_refused() {
    let film = Film {
        channels: 1,
        silu: false,
    };
    forward(film, &[1.0; 3], &[1.0; 4], &mut [0.0; 3]);
}

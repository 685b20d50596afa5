use super::*;
use proptest::prelude::*;

/// A row times the matrix `v v^T + s I`, written out, in f64.
fn plain(v: &[f64], h: &[f64], s: f64) -> Vec<f64> {
    let row = |i: usize| -> f64 {
        let entry = |j: usize| v[i] * v[j] + if i == j { s } else { 0.0 };
        h.iter().enumerate().map(|(j, h)| entry(j) * h).sum()
    };
    (0..v.len()).map(row).collect()
}

/// What a row is made of: `v`, `h`, `grad`, `s`.
struct Row([Vec<f64>; 3], f64);

impl Row {
    fn of(v: &[f32], h: &[f32], grad: &[f32], s: f32) -> Self {
        let f64s = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect();
        Self([v, h, grad].map(f64s), f64::from(s))
    }

    /// The same without signs: what it gives bounds the terms that the row's results are sums of.
    fn terms(&self) -> Self {
        let Self(rows, s) = self;
        let abs = |x: &Vec<f64>| x.iter().map(|x| x.abs()).collect();
        Self(rows.each_ref().map(abs), s.abs())
    }

    fn value(&self) -> Vec<f64> {
        plain(&self.0[0], &self.0[1], self.1)
    }

    /// The slope of `grad . out` along one number of `v` (0) or `h` (1), or along `s` (2). The function
    /// is of second degree, so central differences are exact.
    fn slope(&self, which: usize, i: usize) -> f64 {
        let Self([v, h, grad], s) = self;
        let at = |by: f64| -> f64 {
            let (mut v, mut h, mut s) = (v.clone(), h.clone(), *s);
            match which {
                0 => v[i] += by,
                1 => h[i] += by,
                _ => s += by,
            }
            plain(&v, &h, s).iter().zip(grad).map(|(y, g)| y * g).sum()
        };
        (at(1.0) - at(-1.0)) / 2.0
    }
}

fn assert_close(got: f32, want: f64, terms: f64, what: &str) {
    let off = (f64::from(got) - want).abs();
    assert!(off <= 2e-6 * terms + 1e-12, "{what}: {got}, not {want}");
}

fn check_rows(width: usize, rows: usize, s: f32, v: &[f32], h: &[f32], g: &[f32]) {
    let len = width * rows;
    let (v, h, g) = (&v[..len], &h[..len], &g[..len]);
    let mut bits = Vec::new();
    for level in simd::available() {
        let [mut out, mut dv, mut dh] = [(); 3].map(|()| vec![f32::NAN; len]);
        forward_at(level, v, h, s, &mut out, width);
        let ds = backward_at(level, v, h, s, g, &mut dv, &mut dh, width);
        let (mut want_ds, mut terms_ds) = (0.0, 0.0);
        for from in (0..len).step_by(width) {
            let at = from..from + width;
            let row = Row::of(&v[at.clone()], &h[at.clone()], &g[at], s);
            let terms = row.terms();
            for (i, (&want, &bound)) in row.value().iter().zip(&terms.value()).enumerate() {
                assert_close(out[from + i], want, bound, "out");
            }
            for i in [0, width / 2, width - 1] {
                assert_close(dv[from + i], row.slope(0, i), terms.slope(0, i), "v_grad");
                assert_close(dh[from + i], row.slope(1, i), terms.slope(1, i), "h_grad");
            }
            want_ds += row.slope(2, 0);
            terms_ds += terms.slope(2, 0);
        }
        assert_close(ds, want_ds, terms_ds, "s_grad");
        bits.push((out, dv, dh, ds));
    }
    let same = bits.iter().all(|b| *b == bits[0]);
    assert!(same, "instruction sets differ");
}

/// Numbers from -1 to 1, the same for the same seed.
pub(crate) fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn values_and_gradients_follow_the_definition(
        width in prop::sample::select(vec![1_usize, 3, 5, 16, 31, 33, 100]),
        rows in prop::sample::select(vec![1_usize, 2, 7]),
        s in -2.0_f32..2.0,
        v in prop::collection::vec(-2.0_f32..2.0, 700),
        h in prop::collection::vec(-2.0_f32..2.0, 700),
        g in prop::collection::vec(-1.0_f32..1.0, 700),
    ) {
        check_rows(width, rows, s, &v, &h, &g);
    }
}

/// Several tasks, the last of them short.
#[test]
fn many_rows_follow_the_definition() {
    for (width, rows) in [(33, 1003), (100, 1001), (1, 70_001)] {
        let len = width * rows;
        let [v, h, g] = [1, 2, 3].map(|seed| numbers(len, seed));
        check_rows(width, rows, 0.7, &v, &h, &g);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (width, len) = (100, 100 * 5003);
    let [v, h, g] = [1, 2, 3].map(|seed| numbers(len, seed));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (mut out, mut dv, mut dh) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
            forward(&v, &h, 0.3, &mut out, width);
            let ds = backward(&v, &h, 0.3, &g, &mut dv, &mut dh, width);
            (out, dv, dh, ds)
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
fn nan_stays_nan_and_in_its_row() {
    let width = 33;
    for place in 0..3 {
        for at in [width, 2 * width - 1] {
            let mut inputs = [1, 2, 3].map(|seed| numbers(3 * width, seed));
            inputs[place][at] = f32::NAN;
            let [v, h, g] = &inputs;
            let (mut out, mut dv, mut dh) = (vec![0.0; 99], vec![0.0; 99], vec![0.0; 99]);
            forward(v, h, 0.5, &mut out, width);
            let ds = backward(v, h, 0.5, g, &mut dv, &mut dh, width);
            // Places: v reaches everything but `s`; `h` not its own gradient; `grad` not the output.
            assert_eq!(ds.is_nan(), place > 0);
            for (row, reached) in [(&out, place != 2), (&dv, true), (&dh, place != 1)] {
                assert_eq!(row[width..2 * width].iter().all(|x| x.is_nan()), reached);
                let others = [&row[..width], &row[2 * width..]].concat();
                assert!(!others.iter().any(|x| x.is_nan()));
            }
        }
    }
}

#[test]
fn no_rows_give_nothing() {
    forward(&[], &[], 1.0, &mut [], 5);
    assert_eq!(backward(&[], &[], 1.0, &[], &mut [], &mut [], 5), 0.0);
}

#[test]
#[should_panic(expected = "hyper layer: whole rows")]
fn half_a_row_is_refused() {
    forward(&[1.0; 3], &[1.0; 3], 1.0, &mut [0.0; 3], 2);
}

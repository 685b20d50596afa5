use super::*;
use crate::testing::{cases, numbers, sized};
use proptest::prelude::*;

/// Weights, moments and averages.
#[derive(Clone, PartialEq)]
struct State {
    weights: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    averages: Vec<(f64, Vec<f32>)>,
}

impl State {
    fn new(weights: &[f32], decays: &[f64]) -> Self {
        Self {
            weights: weights.to_vec(),
            m: vec![0.0; weights.len()],
            v: vec![0.0; weights.len()],
            averages: decays.iter().map(|&d| (d, weights.to_vec())).collect(),
        }
    }

    fn step(&mut self, level: Level, adam: &Adam, grad: &[f32]) {
        let averages = self.averages.iter_mut();
        let mut averages: Vec<_> = averages.map(|(d, a)| (*d, a.as_mut_slice())).collect();
        let (m, v) = (&mut self.m, &mut self.v);
        step_at(level, adam, &mut self.weights, grad, m, v, &mut averages);
    }
}

/// The formula of the header in f64, for one number: weight, moments, one average.
fn plain([w, m, v, a]: [f64; 4], grad: f64, decay: f64, adam: &Adam) -> [f64; 4] {
    let n = i32::try_from(adam.step).unwrap();
    let (beta_1, beta_2) = (f64::from(adam.beta_1), f64::from(adam.beta_2));
    let g = grad * adam.scale;
    let m = beta_1 * m + (1.0 - beta_1) * g;
    let v = beta_2 * v + (1.0 - beta_2) * g * g;
    let (m_hat, v_hat) = (m / (1.0 - beta_1.powi(n)), v / (1.0 - beta_2.powi(n)));
    let decayed = w - adam.lr * f64::from(adam.weight_decay) * w;
    let w = decayed - adam.lr * m_hat / (v_hat.sqrt() + f64::from(adam.eps));
    [w, m, v, decay * a + (1.0 - decay) * w]
}

const ADAM: Adam = Adam {
    lr: 0.01,
    beta_1: 0.9,
    beta_2: 0.999,
    eps: 1e-8,
    weight_decay: 0.5,
    step: 1,
    scale: 1.0,
};

fn assert_close(got: f32, want: f64, size: f64, what: &str) {
    let off = (f64::from(got) - want).abs();
    assert!(off <= size, "{what}: {got}, not {want}");
}

fn check(adam: &Adam, weights: &[f32], grads: &[Vec<f32>], decays: &[f64]) {
    let mut bits = Vec::new();
    for level in simd::available() {
        let mut state = State::new(weights, decays);
        let first = |&w: &f32| [f64::from(w), 0.0, 0.0, f64::from(w)];
        let mut want: Vec<Vec<_>> = decays
            .iter()
            .map(|_| weights.iter().map(first).collect())
            .collect();
        for (n, grad) in grads.iter().enumerate() {
            let adam = Adam {
                step: adam.step + n as u64,
                ..*adam
            };
            state.step(level, &adam, grad);
            for (want, &decay) in want.iter_mut().zip(decays) {
                for (want, &g) in want.iter_mut().zip(grad) {
                    *want = plain(*want, f64::from(g), decay, &adam);
                }
            }
        }
        // Each step rounds the weight, and a change of at most `lr / sqrt(1 - beta_2)`.
        let steps = grads.len() as f64;
        for (want, (_, average)) in want.iter().zip(&state.averages) {
            for (i, &[w, m, v, a]) in want.iter().enumerate() {
                let largest = grads.iter().map(|g| g[i].abs()).fold(0.0, f32::max);
                let largest = f64::from(largest) * adam.scale;
                let weight = f64::from(weights[i].abs()).max(w.abs());
                let size = steps * (2e-7 * weight + 3e-5 * adam.lr);
                assert_close(state.weights[i], w, size, "weight");
                assert_close(average[i], a, 2.0 * size, "average");
                assert_close(state.m[i], m, 1e-6 * largest, "m");
                assert_close(state.v[i], v, 2e-6 * v + 1e-37, "v");
            }
        }
        bits.push(state);
    }
    let same = bits.iter().all(|b| *b == bits[0]);
    assert!(same, "instruction sets differ");
}

/// Numbers of the longest case.
const MOST: usize = if cfg!(miri) { 33 } else { 700 };

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn steps_and_averages_follow_the_formula(
        len in prop::sample::select(sized(vec![1_usize, 3, 5, 31, 33, 100, MOST], vec![1, 3, MOST])),
        steps in 1_usize..6,
        averages in 1_usize..4,
        start in prop::sample::select(vec![1_u64, 2, 1000, 1_000_000]),
        weight_decay in prop::sample::select(vec![0.0_f32, 0.01, 0.5]),
        beta_1 in prop::sample::select(vec![0.0_f32, 0.5, 0.9]),
        scale in prop::sample::select(vec![1.0, 1e-3, 7.0]),
        lr in 1e-5..0.1,
        weights in prop::collection::vec(-2.0_f32..2.0, MOST),
        grads in prop::collection::vec(-1.0_f32..1.0, 5 * MOST),
    ) {
        let adam = Adam { lr, beta_1, weight_decay, scale, step: start, ..ADAM };
        let grads: Vec<Vec<f32>> = grads
            .chunks(MOST)
            .take(steps)
            .map(|grad| grad[..len].to_vec())
            .collect();
        check(&adam, &weights[..len], &grads, &[0.9999, 0.5, 0.0][..averages]);
    }

    #[test]
    fn squares_are_summed_to_rounding_of_f64(
        len in prop::sample::select(sized(vec![0_usize, 1, 3, 5, 31, 33, 100, MOST], vec![0, 1, 3, MOST])),
        x in prop::collection::vec(-1e30_f32..1e30, MOST),
    ) {
        let want: f64 = x[..len].iter().map(|&x| f64::from(x).powi(2)).sum();
        for level in simd::available() {
            prop_assert!((norm_squared_at(level, &x[..len]) - want).abs() <= 1e-13 * want);
        }
    }
}

/// Several chunks and tasks, the last of them short.
#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn many_numbers_follow_the_formula() {
    let len = 9 * CHUNK + 77;
    let grads = [numbers(len, 2), numbers(len, 3)];
    check(&ADAM, &numbers(len, 1), &grads, &[0.999, 0.9]);

    let want: f64 = grads[0].iter().map(|&x| f64::from(x).powi(2)).sum();
    for level in simd::available() {
        // The plain sum rounds once for each number.
        let off = norm_squared_at(level, &grads[0]) / want - 1.0;
        assert!(off.abs() < len as f64 * f64::EPSILON, "{off}");
    }
}

/// Two steps of `torch.optim.AdamW`, from the tests of Burn 0.22.1 (burn-optim, `optim/adamw.rs`): a
/// row of weights and the biases; the gradients are sums of the two rows of inputs, and 2.
#[test]
fn two_steps_are_those_of_pytorch() {
    let weights = [
        -0.3206, 0.1374, 0.4043, 0.3200, 0.0859, 0.0671, -0.3905, 0.0884, -0.0970, 0.1176, 0.1366,
        0.0130,
    ];
    let grads = [
        [1.3446, 1.0499, 1.6069, 1.4508, 1.1167, 1.3193],
        [1.1761, 0.2520, 1.4477, 1.4038, 0.8722, 1.1613],
    ];
    let want = [
        -0.337295, 0.117827, 0.380358, 0.296868, 0.065232, 0.046534, -0.406555, 0.067568,
        -0.115982, 0.096477, 0.115287, -0.007080,
    ];
    for level in simd::available() {
        let mut state = State::new(&weights, &[]);
        for (n, grad) in (1..).zip(&grads) {
            let grad: Vec<f32> = grad.iter().copied().chain([2.0; 6]).collect();
            state.step(level, &Adam { step: n, ..ADAM }, &grad);
        }
        for (got, want) in state.weights.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{got}, not {want}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn the_number_of_threads_changes_no_bit() {
    let len = 30 * CHUNK + 5;
    let [weights, grad] = [1, 2].map(|seed| numbers(len, seed));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut state = State::new(&weights, &[0.9]);
            state.step(simd::level(), &ADAM, &grad);
            (state, norm_squared(&grad))
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
fn nan_stays_nan_and_in_its_place() {
    for at in [0, 32] {
        let mut grad = numbers(33, 2);
        grad[at] = f32::NAN;
        assert!(norm_squared(&grad).is_nan());
        let mut state = State::new(&numbers(33, 1), &[0.9]);
        state.step(simd::level(), &ADAM, &grad);
        for row in [&state.weights, &state.m, &state.v, &state.averages[0].1] {
            assert!((0..33).all(|i| row[i].is_nan() == (i == at)));
        }
    }
}

#[test]
fn without_a_gradient_only_the_decay_is_left() {
    let mut state = State::new(&[2.0], &[]);
    state.step(simd::level(), &ADAM, &[0.0]);
    assert!(state.weights == [1.99] && state.m == [0.0] && state.v == [0.0]);
}

#[test]
#[should_panic(expected = "adam: steps count from 1")]
fn a_step_0_is_refused() {
    State::new(&[2.0], &[]).step(simd::level(), &Adam { step: 0, ..ADAM }, &[0.0]);
}

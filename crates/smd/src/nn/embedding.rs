//! Time as a network sees it: the one place where the paper's `t` becomes a number.

use burn::tensor::{Device, Tensor, TensorData};

/// Sines and cosines of `t - 1` at frequencies from 1 down to 1/10000 (Vaswani et al. 2017; Ho et
/// al. 2020).
///
/// ```text
/// [sin(f_0 s), ..., cos(f_0 s), ...]   s = t - 1,  f_i = 10000^(-i / (dim / 2 - 1))
/// ```
/// The networks of the authors and of Ho et al. count steps from 0; ours from 1, as the paper.
///
/// Where all steps are the same, as in sampling, one row stands for all: what follows from time alone
/// is then computed once.
///
/// # Shapes
/// - `t`: `B` steps, from 1; returns `[B, 1, 1, dim]`, or `[1, 1, 1, dim]` for equal steps
///
/// # Panics
/// If `dim` is odd or below 4.
pub fn sinusoidal(t: &[usize], dim: usize, device: &Device) -> Tensor<4> {
    assert!(
        dim >= 4 && dim.is_multiple_of(2),
        "a time embedding of {dim} numbers"
    );
    let t = if t.iter().all(|&other| other == t[0]) {
        &t[..1]
    } else {
        t
    };
    let half = dim / 2;
    let frequency = |i: usize| (-(10_000_f64.ln()) * i as f64 / (half - 1) as f64).exp();
    let mut values = Vec::with_capacity(t.len() * dim);
    for &t in t {
        let phase = |i: usize| (t - 1) as f64 * frequency(i);
        values.extend((0..half).map(|i| phase(i).sin() as f32));
        values.extend((0..half).map(|i| phase(i).cos() as f32));
    }
    Tensor::from_data(TensorData::new(values, [t.len(), 1, 1, dim]), device)
}

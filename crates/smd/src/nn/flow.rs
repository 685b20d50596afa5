//! An invertible latent: `z = f(eta; x_t, t)` whose density given `x_t` is known.
//!
//! ```text
//! log p(z | x_t) = log N(eta; 0, I) - log |det dz/deta|
//! ```
//! Each step mixes all coordinates by an invertible matrix `L U`, the 1x1 map of Glow (Kingma and Dhariwal
//! 2018, arXiv:1807.03039), and scales and shifts one half by what the other half and the trunk's features
//! say (affine coupling, Dinh et al. 2017, arXiv:1605.08803). Section 4.2 of the paper asks for such a
//! `g_phi` where a chain should follow the likeliest latent.

use super::{Init, Linear, late::repeated};
use crate::ops;
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// Features of the network inside a coupling.
const HIDDEN: usize = 64;

/// An invertible map of vectors of `E` numbers, given features.
#[derive(Module, Debug)]
pub struct Flow {
    steps: Vec<FlowStep>,
}

#[derive(Module, Debug)]
struct FlowStep {
    /// Below the diagonal: `L`, with ones on it.
    lower: Param<Tensor<2>>,
    /// Above the diagonal: `U`.
    upper: Param<Tensor<2>>,
    /// Logarithms of the diagonal of `U`.
    log_scale: Param<Tensor<1>>,
    seen: Linear,
    out: Linear,
    half: usize,
}

impl Flow {
    /// `steps` steps over vectors of `d_eta` numbers, at least 2, given `features` numbers.
    ///
    /// # Panics
    /// If `d_eta` is below 2: nothing would be left to look at.
    pub fn new(steps: usize, d_eta: usize, features: usize, init: &mut Init) -> Self {
        assert!(d_eta >= 2, "a coupling needs two halves");
        let half = d_eta / 2;
        let step = |_| FlowStep {
            lower: init.uniform([d_eta, d_eta], 0.1),
            upper: init.uniform([d_eta, d_eta], 0.1),
            log_scale: init.constant([d_eta], 0.0),
            seen: Linear::new(half + features, HIDDEN, init),
            out: Linear::fan_avg(HIDDEN, 2 * (d_eta - half), 0.1, init),
            half,
        };
        Self {
            steps: (0..steps).map(step).collect(),
        }
    }

    /// The latents of `m` draws for each example, and `log |det dz/deta|`, `[m B]`.
    ///
    /// # Shapes
    /// - `features`: `[B, 1, 1, F]`; `eta`: `[m B, 1, 1, E]`; returns `[m B, 1, 1, E]` first
    pub fn forward(&self, features: Tensor<4>, eta: Tensor<4>) -> (Tensor<4>, Tensor<1>) {
        let [rows, _, _, d_eta] = eta.dims();
        let seen = repeated(features.clone(), rows / features.dims()[0]);
        let mut z = eta;
        let mut log_det = Tensor::zeros([rows], &z.device());
        for step in &self.steps {
            // The other half's turn.
            z = z.flip([3]);
            z = z
                .reshape([rows, d_eta])
                .matmul(step.matrix())
                .reshape([rows, 1, 1, d_eta]);
            let kept = z.clone().narrow(3, 0, step.half);
            let moved = z.narrow(3, step.half, d_eta - step.half);
            let (log_scale, shift) = step.coupling(kept.clone(), seen.clone());
            log_det = log_det
                + step.log_scale.val().sum()
                + log_scale
                    .clone()
                    .reshape([rows, d_eta - step.half])
                    .sum_dim(1)
                    .squeeze_dim::<1>(1);
            z = Tensor::cat(vec![kept, moved * log_scale.exp() + shift], 3);
        }
        (z, log_det)
    }
}

impl FlowStep {
    /// `(L U)^T`, `[E, E]`.
    fn matrix(&self) -> Tensor<2> {
        let (lower, upper) = (self.lower.val(), self.upper.val());
        let size = lower.dims()[0];
        let eye = Tensor::<2>::eye(size, &lower.device());
        let lower = lower.tril(-1) + eye.clone();
        let upper = upper.triu(1) + eye * self.log_scale.val().exp().unsqueeze::<2>();
        lower.matmul(upper).transpose()
    }

    /// Logarithms of scales, within 1 of 0, and shifts of the moved half.
    fn coupling(&self, kept: Tensor<4>, seen: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let both = Tensor::cat(vec![kept, seen], 3);
        let both = self.out.forward(ops::silu(self.seen.forward(both)));
        let moved = both.dims()[3] / 2;
        (
            both.clone().narrow(3, 0, moved).tanh(),
            both.narrow(3, moved, moved),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::nn::params;
    use crate::noise::{NoiseSource, Use};
    use burn::tensor::{Device, TensorData};

    fn flow(d_eta: usize) -> Flow {
        let mut init = Init::new(1, &Device::default());
        let flow = Flow::new(3, d_eta, 4, &mut init);
        let rows: Vec<Tensor<1>> = params::values(&flow)
            .iter()
            .map(|row| init.normal(row.dims()).val() * 0.5)
            .collect();
        params::with_values(flow, &rows)
    }

    /// The determinant of the Jacobian, by differences.
    #[test]
    fn the_log_determinant_is_that_of_the_map() {
        const STEP: f32 = 1e-2;
        let device = Device::default();
        let flow = flow(2);
        let features = NoiseSource::new(5, vec![0], &device).normal(0, Use::Eps, [1, 1, 4]);
        let at = |a: f32, b: f32| {
            let eta = Tensor::from_data(TensorData::new(vec![a, b], [1, 1, 1, 2]), &device);
            let (z, log_det) = flow.forward(features.clone(), eta);
            let z = host::numbers(z);
            (
                [f64::from(z[0]), f64::from(z[1])],
                f64::from(host::numbers(log_det)[0]),
            )
        };
        for (a, b) in [(0.3, -0.7), (1.5, 0.2), (-0.4, -1.1)] {
            let slope = |to: [f64; 2], from: [f64; 2]| {
                [0, 1].map(|i| (to[i] - from[i]) / (2.0 * f64::from(STEP)))
            };
            let da = slope(at(a + STEP, b).0, at(a - STEP, b).0);
            let db = slope(at(a, b + STEP).0, at(a, b - STEP).0);
            let numeric = (da[0] * db[1] - da[1] * db[0]).abs().ln();
            let log_det = at(a, b).1;
            assert!((numeric - log_det).abs() < 2e-2, "{numeric}, not {log_det}");
        }
    }

    /// Draw `k` of example `i` sees the features of example `i`.
    #[test]
    fn draws_see_their_own_example() {
        let device = Device::default();
        let flow = flow(3);
        let noise = NoiseSource::new(5, vec![0, 1], &device);
        let features = noise.normal(0, Use::Eps, [1, 1, 4]);
        let eta = Tensor::cat(
            (1..=3)
                .map(|k| noise.normal(k, Use::Eta, [1, 1, 3]))
                .collect(),
            0,
        );
        let (z, log_det) = flow.forward(features.clone(), eta.clone());
        for i in 0..2 {
            for k in 0..3 {
                let row = 2 * k + i;
                let one = features.clone().narrow(0, i, 1);
                let (z_1, log_det_1) = flow.forward(one, eta.clone().narrow(0, row, 1));
                let pairs = [
                    (
                        host::numbers(z.clone().narrow(0, row, 1)),
                        host::numbers(z_1),
                    ),
                    (
                        host::numbers(log_det.clone().narrow(0, row, 1)),
                        host::numbers(log_det_1),
                    ),
                ];
                for (all, alone) in pairs {
                    for (a, b) in all.iter().zip(&alone) {
                        assert!((a - b).abs() < 1e-5, "{a} {b}");
                    }
                }
            }
        }
    }
}

//! What a kernel is at one `x_t`: finitely many Gaussians in `x_0`.
//!
//! Pushed through `q(x_{t-1} | x_t, x_0)` a Gaussian in `x_0` becomes
//!
//! ```text
//! N(x_{t-1}; c1 mu_k + c2 x_t, tilde beta_t + c1^2 s_k^2)
//! ```
//! a variance that contains the exact step and cannot shrink to nothing for `t >= 2` (at `t = 1`, where
//! `tilde beta_t` is 0, the floor of `s_k^2` holds it). Every kernel can be written so: one Gaussian, an
//! explicit mixture (Eq. 10), a codebook, or finitely many draws of a latent; and one formula gives all
//! their likelihoods.

use super::Drawn;
use crate::host;
use crate::noise::{NoiseSource, Use};
use crate::process::{Prediction, Process, per_item};
use burn::tensor::activation::softplus;
use burn::tensor::{Tensor, TensorData, assert_shape};
use std::f64::consts::TAU;

/// The least variance of a component in `x_0`, in squared data units.
pub(crate) const VAR_FLOOR: f64 = 1e-6;

/// The logarithm of a weight that is 0: finite, so that no product with it is NaN.
const NO_WEIGHT: f32 = -1e9;

/// The components of `p(x_0 | x_t)`; `D` is the number of numbers of an example.
#[derive(Debug, Clone)]
pub struct Components {
    /// Logarithms of the weights, `[B, K]`.
    pub log_weights: Tensor<2>,
    /// Means, `[B, K, D]`.
    pub means: Tensor<3>,
    /// Variances, `[B, K, D]`, or `[B, K, 1]` where all numbers share one.
    pub vars: Tensor<3>,
}

impl Components {
    /// The first component alone for the steps outside of `mixed`, both ends of which are in.
    ///
    /// # Shapes
    /// - `t`: `B` steps
    pub(super) fn mixed_at(mut self, mixed: Option<[usize; 2]>, t: &[usize]) -> Self {
        let Some([from, to]) = mixed else { return self };
        let [batch, k] = self.log_weights.dims();
        let device = self.log_weights.device();
        let kept = per_item(t, |t| f64::from(from <= t && t <= to), &device);
        let kept = kept.reshape([batch, 1]).expand([batch, k]);
        let mut alone = vec![NO_WEIGHT; k];
        alone[0] = 0.0;
        let alone = Tensor::<2>::from_data(TensorData::new(alone, [1, k]), &device);
        self.log_weights = self.log_weights * kept.clone() + (1.0 - kept) * alone;
        self
    }

    /// `log N(x_{t-1}; ...)` of each component, in nats.
    ///
    /// # Shapes
    /// - `x_prev`, `x_t`: `[B, H, W, C]`; `t`: `B` steps; returns `[B, K]`
    ///
    /// # Panics
    /// If an example has not `D` numbers.
    pub fn log_normals(
        &self,
        process: &Process,
        x_prev: Tensor<4>,
        x_t: Tensor<4>,
        t: &[usize],
    ) -> Tensor<2> {
        let [batch, _, dim] = self.means.dims();
        let per_number = dim / self.vars.dims()[2];
        let posterior = |t: usize| process.schedule().posterior(t);
        let rows =
            |value: &dyn Fn(usize) -> f64| per_item(t, value, &x_t.device()).reshape([batch, 1, 1]);
        let c1 = rows(&|t| posterior(t).coef_x_0);
        let c2 = rows(&|t| posterior(t).coef_x_t);
        let tilde_beta = rows(&|t| posterior(t).var);
        let flat = |x: Tensor<4>| x.reshape([batch, 1, dim]);
        let rest = flat(x_prev) - c2 * flat(x_t.clone());
        let vars = tilde_beta + c1.clone().square() * self.vars.clone();
        let squares = (rest - c1 * self.means.clone()).square() / vars.clone();
        let log_det = (vars * TAU).log().sum_dim(2) * per_number as f64;
        ((squares.sum_dim(2) + log_det) * -0.5).squeeze_dim::<2>(2)
    }

    /// `-log p(x_{t-1} | x_t)` in nats.
    ///
    /// # Shapes
    /// - `x_prev`, `x_t`: `[B, H, W, C]`; `t`: `B` steps; returns `[B]`
    pub fn nll_nats(
        &self,
        process: &Process,
        x_prev: Tensor<4>,
        x_t: Tensor<4>,
        t: &[usize],
    ) -> Tensor<1> {
        -log_sum_exp(self.log_weights.clone() + self.log_normals(process, x_prev, x_t, t))
    }

    /// `(2 v / (c1^2 f))^power`, with `v` the mean variance of the components in `x_{t-1}` and `f` the factor
    /// from squared errors of a prediction of `kind` to those of `x_0`. With power 1 the weighted likelihood
    /// of one Gaussian has the gradient of a squared error of the prediction, as in the beta-NLL of Seitzer
    /// et al. (2022). It depends on `x_t` alone and is held constant, so no minimum moves.
    ///
    /// # Shapes
    /// - `t`: `B` steps; returns `[B]`
    pub fn balance(
        &self,
        process: &Process,
        kind: Prediction,
        power: f64,
        t: &[usize],
    ) -> Tensor<1> {
        let posterior = |t: usize| process.schedule().posterior(t);
        let device = self.means.device();
        let rows = |value: &dyn Fn(usize) -> f64| per_item(t, value, &device).reshape([t.len()]);
        let factor = |t: usize| process.x_0_error_factor(kind, t);
        let noise = rows(&|t| 2.0 * posterior(t).var / (posterior(t).coef_x_0.powi(2) * factor(t)));
        let per_var = rows(&|t| 2.0 / factor(t));
        let weights = self.log_weights.clone().exp();
        let vars = self.vars.clone().mean_dim(2).squeeze_dim::<2>(2);
        let var = (weights * vars).sum_dim(1).squeeze_dim::<1>(1);
        (noise + per_var * var).powf_scalar(power).detach()
    }

    /// Draws a component: its mean, and its variance. The draws are named by `step`.
    ///
    /// # Shapes
    /// - for `shape = [H, W, C]`
    pub fn draw(self, shape: [usize; 3], noise: &NoiseSource, step: u64) -> Drawn {
        let [batch, k] = self.log_weights.dims();
        let [height, width, channels] = shape;
        assert_shape!(self.means, [batch, k, _]);
        let device = self.means.device();
        let weights: Vec<f32> = host::numbers(self.log_weights.exp());
        let places = noise.uniform(step, Use::Component);
        let mut chosen = vec![0.0_f32; batch * k];
        for (row, (weights, place)) in weights.chunks_exact(k).zip(places).enumerate() {
            chosen[row * k + pick(weights, place)] = 1.0;
        }
        let chosen: Tensor<3> = Tensor::from_data(TensorData::new(chosen, [batch, k, 1]), &device);
        let mean = (self.means * chosen.clone()).sum_dim(1);
        let var = (self.vars * chosen).sum_dim(1);
        let var = match var.dims()[2] {
            1 => var.reshape([batch, 1, 1, 1]),
            _ => var.reshape([batch, height, width, channels]),
        };
        Drawn {
            x_0: mean.reshape([batch, height, width, channels]),
            x_0_var: Some(var),
        }
    }
}

/// The variance of a component in `x_0` from a network's raw number: at first about
/// `0.13 (1 - alpha_bar_t)`, the variance of `x_0` given `x_t` where little is known.
///
/// # Shapes
/// - `raw`: `[B, K]`; `t`: `B` steps; returns `[B, K, 1]`
pub(super) fn x_0_vars(process: &Process, raw: Tensor<2>, t: &[usize]) -> Tensor<3> {
    let alpha_bar = |t: usize| process.schedule().alpha_bar(t);
    let width = per_item(t, |t| 1.0 - alpha_bar(t), &raw.device()).reshape([t.len(), 1]);
    (softplus(raw - 2.0, 1.0) * width + VAR_FLOOR).unsqueeze_dim::<3>(2)
}

/// The variance in `x_0` with which a Gaussian step has the variance `step_var`:
/// `(step_var - tilde beta_t) / c1^2`.
pub(crate) fn x_0_var_of(process: &Process, step_var: f64, t: usize) -> f64 {
    let posterior = process.schedule().posterior(t);
    ((step_var - posterior.var) / posterior.coef_x_0.powi(2)).max(0.0)
}

/// The mean over all pixels, `[B, H, W, C]` to `[B, C]`.
pub(super) fn pooled(x: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = x.dims();
    x.reshape([batch, height * width, channels])
        .mean_dim(1)
        .squeeze_dim::<2>(1)
}

/// What a head behind a trunk gives: predictions, `[N, H, W, C]`, and where there is one channel more, raw
/// scales, `[N, 1]`. A head over the features of whole examples gives all their numbers in a row.
///
/// # Shapes
/// - `output`: `[N, H, W, C or C + 1]` or `[N, 1, 1, H W C (+ 1)]`, for `shape = [H, W, C]`
pub(super) fn predicted_and_raw(
    output: Tensor<4>,
    shape: [usize; 3],
) -> (Tensor<4>, Option<Tensor<2>>) {
    let [rows, out_height, out_width, outputs] = output.dims();
    let [height, width, channels] = shape;
    let wanted = channels * height * width / (out_height * out_width);
    let predicted = output.clone().narrow(3, 0, wanted);
    let raw = (outputs > wanted).then(|| pooled(output.narrow(3, wanted, 1)));
    (predicted.reshape([rows, height, width, channels]), raw)
}

/// `log sum exp` over the second axis, `[B, K]` to `[B]`.
pub(crate) fn log_sum_exp(x: Tensor<2>) -> Tensor<1> {
    let largest = x.clone().detach().max_dim(1);
    let sum = (x - largest.clone()).exp().sum_dim(1);
    (sum.log() + largest).squeeze_dim::<1>(1)
}

/// The index at which the running sum of `weights` passes `place` of their total.
fn pick(weights: &[f32], place: f64) -> usize {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let mut left = place * total;
    for (k, &weight) in weights.iter().enumerate() {
        left -= f64::from(weight);
        if left < 0.0 {
            return k;
        }
    }
    weights.len() - 1
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::schedule::{NoiseSchedule, ScheduleConfig, ScheduleKind};
    use burn::tensor::Device;
    use std::sync::Arc;

    /// A cosine process of four steps.
    pub(in crate::denoise) fn process() -> Arc<Process> {
        let config = ScheduleConfig {
            kind: ScheduleKind::Cosine,
            steps: 4,
        };
        Arc::new(Process::new(NoiseSchedule::new(&config).unwrap()))
    }

    /// A density integrates to one: the likelihood is normalised, `c1`, `c2` and all.
    pub(in crate::denoise) fn integrates_to_one(parts: impl Fn(Tensor<4>, &[usize]) -> Components) {
        const CELLS: usize = 20_000;
        let device = Device::default();
        let at = |i: usize| -20.0 + 40.0 * (i as f32 + 0.5) / CELLS as f32;
        for t in 1..=4 {
            let x_prev: Vec<f32> = (0..CELLS).map(at).collect();
            let x_prev = Tensor::from_data(TensorData::new(x_prev, [CELLS, 1, 1, 1]), &device);
            let x_t = Tensor::full([CELLS, 1, 1, 1], 0.7, &device);
            let steps = vec![t; CELLS];
            let nll = parts(x_t.clone(), &steps).nll_nats(&process(), x_prev, x_t, &steps);
            let mass = f64::from((-nll).exp().sum().into_scalar::<f32>()) * 40.0 / CELLS as f64;
            assert!((mass - 1.0).abs() < 1e-3, "t = {t}: {mass}");
        }
    }

    /// A variance for each number equals one for all, where they are the same.
    #[test]
    fn one_variance_is_that_of_every_number() {
        let device = Device::default();
        let noise = NoiseSource::new(3, vec![0, 1], &device);
        let normal = |step| noise.normal(step, Use::Eps, [2, 2, 1]);
        let parts = |numbers: usize| Components {
            log_weights: Tensor::from_data([[-0.5_f32, -0.9], [-1.2, -0.4]], &device),
            means: Tensor::cat(vec![normal(0), normal(1)], 1).reshape([2, 2, 4]),
            vars: Tensor::<3>::full([2, 2, numbers], 0.3, &device),
        };
        let nll = |numbers| {
            let nll = parts(numbers).nll_nats(&process(), normal(2), normal(3), &[1, 3]);
            host::numbers(nll)
        };
        for (a, b) in nll(1).iter().zip(nll(4)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    /// A limited mixture is one Gaussian elsewhere: likelihood, draws and gradients.
    #[test]
    fn outside_of_its_steps_the_first_component_is_alone() {
        let device = Device::default().autodiff();
        let noise = NoiseSource::new(3, vec![0, 1], &device);
        let normal = |step| noise.normal(step, Use::Eps, [2, 2, 1]);
        let log_weights =
            Tensor::<2>::from_data([[-2.0_f32, -0.15], [-0.15, -2.0]], &device).require_grad();
        let parts = Components {
            log_weights: log_weights.clone(),
            means: Tensor::cat(vec![normal(0), normal(1)], 1).reshape([2, 2, 4]),
            vars: Tensor::full([2, 2, 1], 0.3, &device),
        };
        let (t, x_prev, x_t) = ([2, 3], normal(2), normal(3));
        let first = -parts.log_normals(&process(), x_prev.clone(), x_t.clone(), &t);
        let whole = parts
            .clone()
            .nll_nats(&process(), x_prev.clone(), x_t.clone(), &t);
        let limited = parts.mixed_at(Some([3, 4]), &t);
        let nll = limited.clone().nll_nats(&process(), x_prev, x_t, &t);
        let (nll_numbers, whole) = (host::numbers(nll.clone()), host::numbers(whole));
        assert_eq!(nll_numbers[0], host::numbers(first)[0]);
        assert_eq!(nll_numbers[1], whole[1]);
        assert_ne!(nll_numbers[0], whole[0]);
        let grads = host::numbers(log_weights.grad(&nll.sum().backward()).unwrap());
        assert_eq!(grads[..2], [0.0, 0.0]);
        assert!(grads[2..].iter().all(|g| g.is_finite() && *g != 0.0));
        let means = host::numbers(limited.means.clone());
        let drawn = host::numbers(limited.draw([2, 2, 1], &noise, 0).x_0);
        assert_eq!(drawn[..4], means[..4]);
    }

    /// Balanced with power 1, the likelihood of one Gaussian pulls at its mean like a squared error of the
    /// prediction, whatever its variance and whatever t.
    #[test]
    fn a_balanced_likelihood_has_the_gradient_of_a_squared_error() {
        let device = Device::default().autodiff();
        let noise = NoiseSource::new(3, vec![0, 1, 2, 3], &device);
        let normal = |step| noise.normal(step, Use::Eps, [2, 1, 1]);
        let (process, t) = (process(), [1, 2, 3, 4]);
        let means = normal(0).reshape([4, 1, 2]).require_grad();
        let vars = Tensor::from_data([[[0.01_f32]], [[0.4]], [[3.0]], [[0.2]]], &device);
        let parts = Components {
            log_weights: Tensor::zeros([4, 1], &device),
            means: means.clone(),
            vars,
        };
        let (x_0, x_t) = (normal(1), normal(2));
        let posterior = |t: usize| process.schedule().posterior(t);
        let x_prev = per_item(&t, |t| posterior(t).coef_x_0, &device) * x_0.clone()
            + per_item(&t, |t| posterior(t).coef_x_t, &device) * x_t.clone();
        for kind in [Prediction::V, Prediction::Eps] {
            let weights = parts.balance(&process, kind, 1.0, &t);
            let nll = parts.nll_nats(&process, x_prev.clone(), x_t.clone(), &t);
            let found = means.grad(&(nll * weights).sum().backward()).unwrap();
            let errors = means.clone().inner() - x_0.clone().inner().reshape([4, 1, 2]);
            let factors = per_item(&t, |t| process.x_0_error_factor(kind, t), &errors.device());
            let want = errors * 2.0 / factors.reshape([4, 1, 1]);
            for (a, b) in host::numbers(found).iter().zip(host::numbers(want)) {
                assert!(
                    (a - b).abs() < 1e-3 * b.abs().max(1e-2),
                    "{kind:?}: {a} {b}"
                );
            }
        }
    }

    /// What is drawn has the mean and the variance of the components.
    #[test]
    fn draws_have_the_moments_of_the_components() {
        const DRAWS: usize = 40_000;
        let device = Device::default();
        let (weights, means, vars) = (
            [0.2_f32, 0.5, 0.3],
            [-1.0_f32, 0.4, 2.0],
            [0.1_f32, 0.5, 0.2],
        );
        let parts = Components {
            log_weights: Tensor::<2>::from_data([weights], &device)
                .log()
                .expand([DRAWS, 3]),
            means: Tensor::<3>::from_data([means.map(|m| [m])], &device).expand([DRAWS, 3, 1]),
            vars: Tensor::<3>::from_data([vars.map(|v| [v])], &device).expand([DRAWS, 3, 1]),
        };
        let mean: f32 = weights.iter().zip(&means).map(|(w, m)| w * m).sum();
        let second = |k: usize| weights[k] * (vars[k] + (means[k] - mean).powi(2));
        let var: f32 = (0..3).map(second).sum();

        let noise = NoiseSource::new(1, (0..DRAWS as u64).collect(), &device);
        let x_0: Vec<f32> = host::numbers(parts.draw([1, 1, 1], &noise, 0).with_noise(&noise, 0));
        let got = x_0.iter().sum::<f32>() / DRAWS as f32;
        let got_var = x_0.iter().map(|x| (x - got).powi(2)).sum::<f32>() / DRAWS as f32;
        assert!(
            (got - mean).abs() < 5.0 * (var / DRAWS as f32).sqrt(),
            "{got}, not {mean}"
        );
        // The variance of a variance is at most about 2 var^2 (lighter tails than a Gaussian's here).
        assert!(
            (got_var / var - 1.0).abs() < 5.0 * (2.0 / DRAWS as f32).sqrt(),
            "{got_var} {var}"
        );
    }

    #[test]
    fn the_published_variances_are_those_of_the_step() {
        let process = process();
        for t in 1..=4 {
            let posterior = process.schedule().posterior(t);
            let beta = process.schedule().beta(t);
            let var = posterior.var + posterior.coef_x_0.powi(2) * x_0_var_of(&process, beta, t);
            assert!((var - beta).abs() < 1e-12);
            assert_eq!(x_0_var_of(&process, posterior.var, t), 0.0);
        }
    }
}

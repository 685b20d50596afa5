//! Gaussian mixtures in f64: the data law whose every step is known.
//!
//! ```text
//! q(x) = sum_k w_k N(x; mu_k, Sigma_k),   Sigma_k = sum_i var_ki u_ki u_ki^T
//! ```
//! A covariance is kept as its eigenvectors `u_ki`, the component's axes, and the variances along
//! them: noise of equal strength in every direction changes the variances and leaves the axes, so every
//! formula of a round component holds along each axis.
//!
//! Under the forward process such a law stays a mixture at every step, in both directions (Li, van
//! Breugel, van der Schaar, "Soft Mixture Denoising", ICLR 2024, arXiv:2309.14068, Prop. 3.1), so
//! errors and samplers are checked against it without training anything.
//!
//! - [`GaussianMixture`]: density, samples, moments
//! - [`MixtureConfig`]: a mixture as it is written in a config file
//! - Prop. 3.1: [`GaussianMixture::posterior_x_0`], [`GaussianMixture::backward`], and for many `x_t`
//!   of one step [`BackwardStep`]

mod axes;
mod backward_step;
mod config;
mod posterior;

use std::f64::consts::TAU;
use std::sync::Arc;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

use crate::noise::{self, Use};

pub use backward_step::{BackwardLaw, BackwardStep};
pub use config::MixtureConfig;

/// A mixture of `K` Gaussians in `D` dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct GaussianMixture {
    /// `D`, at least 1.
    dim: usize,
    /// `w_k`, `[K]`, summing to 1.
    weights: Vec<f64>,
    /// `mu_k`, `[K, D]` row by row.
    means: Vec<f64>,
    /// `var_ki`, `[K, D]` row by row, positive: along the axes.
    variances: Vec<f64>,
    /// `u_ki`, `[K, D, D]`, an orthonormal row each; `None`: the coordinate axes.
    axes: Option<Arc<[f64]>>,
}

/// One Gaussian of a [`GaussianMixture`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Component<'a> {
    /// `w_k`.
    pub weight: f64,
    /// `mu_k`, `[D]`.
    pub mean: &'a [f64],
    /// `var_ki`, `[D]`: variances along its axes, not deviations.
    pub variances: &'a [f64],
    /// `u_ki`, `[D, D]`, a row each; `None`: the coordinate axes.
    pub axes: Option<&'a [f64]>,
}

impl Component<'_> {
    /// `(x - mu_k)^T Sigma_k^-1 (x - mu_k)`: the squared distance in standard deviations.
    ///
    /// # Shapes
    /// - `x`: `[D]`
    pub fn square_distance(&self, x: &[f64]) -> f64 {
        match self.axes {
            None => {
                let axes = x.iter().zip(self.mean).zip(self.variances);
                axes.map(|((x, mu), var)| (x - mu).powi(2) / var).sum()
            }
            Some(axes) => {
                let rows = axes.chunks_exact(x.len()).zip(self.variances);
                let along = |u: &[f64]| -> f64 {
                    let offset = x.iter().zip(self.mean).map(|(x, mu)| x - mu);
                    u.iter().zip(offset).map(|(u, d)| u * d).sum()
                };
                rows.map(|(u, var)| along(u).powi(2) / var).sum()
            }
        }
    }

    /// The diagonal of `Sigma_k`, `[D]`.
    fn coordinate_variances(&self) -> Vec<f64> {
        let Some(axes) = self.axes else {
            return self.variances.to_vec();
        };
        let mut diagonal = vec![0.0; self.mean.len()];
        for (u, var) in axes.chunks_exact(self.mean.len()).zip(self.variances) {
            for (sum, u) in diagonal.iter_mut().zip(u) {
                *sum += var * u * u;
            }
        }
        diagonal
    }
}

impl GaussianMixture {
    /// The 7x7 grid: 49 equal round Gaussians in the plane, scaled to unit variance on each axis.
    ///
    /// Before scaling, means are the integers -3..=3 and the std is 0.05, so an axis has variance
    /// `4 + 0.05^2`. After it the spacing is 0.500 and a component's std 0.0250.
    pub fn grid_7x7() -> Self {
        let component_var = 0.05_f64.powi(2);
        let axis_var = 4.0 + component_var; // 4 is the mean of k^2 over -3..=3.
        let ticks = (-3..=3).map(|k| f64::from(k) / axis_var.sqrt());
        let means: Vec<f64> = ticks
            .clone()
            .flat_map(|x| ticks.clone().flat_map(move |y| [x, y]))
            .collect();
        Self {
            dim: 2,
            weights: vec![1.0 / 49.0; 49],
            variances: vec![component_var / axis_var; means.len()],
            means,
            axes: None,
        }
    }

    /// The number of dimensions, `D`.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The `K` Gaussians, in order.
    pub fn components(&self) -> impl ExactSizeIterator<Item = Component<'_>> + Clone {
        let rows = self
            .means
            .chunks_exact(self.dim)
            .zip(self.variances.chunks_exact(self.dim));
        self.weights
            .iter()
            .zip(rows)
            .enumerate()
            .map(|(k, (&weight, (mean, variances)))| Component {
                weight,
                mean,
                variances,
                axes: self.axes_of(k),
            })
    }

    /// The axes of component `k`, `[D, D]`; `None`: the coordinate axes.
    fn axes_of(&self, k: usize) -> Option<&[f64]> {
        let square = self.dim * self.dim;
        self.axes
            .as_ref()
            .map(|axes| &axes[k * square..(k + 1) * square])
    }

    /// `log q(x)`, in nats; finite far away from every component.
    ///
    /// # Panics
    /// If `x` does not have `D` numbers.
    pub fn log_density(&self, x: &[f64]) -> f64 {
        log_sum_exp(&self.log_terms(x))
    }

    /// The probability of each component given `x`, `[K]`, summing to 1.
    ///
    /// ```text
    /// w_k N(x; mu_k, var_k) / q(x)
    /// ```
    ///
    /// # Panics
    /// If `x` does not have `D` numbers.
    pub fn responsibilities(&self, x: &[f64]) -> Vec<f64> {
        let log_terms = self.log_terms(x);
        let log_density = log_sum_exp(&log_terms);
        log_terms
            .iter()
            .map(|term| (term - log_density).exp())
            .collect()
    }

    /// Draws `x`, `[D]`: first the component, then the noise inside it.
    pub fn sample(&self, rng: &mut impl Rng) -> Vec<f64> {
        let mut rest: f64 = rng.random();
        let mut chosen = 0;
        // A weight of 0 is never chosen; the last positive one takes what rounding leaves over.
        for (k, &weight) in self
            .weights
            .iter()
            .enumerate()
            .filter(|&(_, &weight)| weight > 0.0)
        {
            chosen = k;
            rest -= weight;
            if rest < 0.0 {
                break;
            }
        }
        let row = chosen * self.dim..(chosen + 1) * self.dim;
        let eps: Vec<f64> = StandardNormal.sample_iter(rng).take(self.dim).collect();
        let mut x = self.means[row.clone()].to_vec();
        let stds = self.variances[row].iter().map(|var| var.sqrt());
        axes::add_scaled(self.axes_of(chosen), stds, &eps, &mut x);
        x
    }

    /// Writes example `index` of the data set named `seed`: a function of the two numbers alone.
    ///
    /// # Shapes
    /// - `out`: `[D]`
    ///
    /// # Panics
    /// If `out` does not have `D` places.
    pub fn sample_into(&self, seed: u64, index: u64, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            self.dim,
            "numbers of an example against the mixture's dimensions"
        );
        let x = self.sample(&mut noise::rng(seed, index, 0, Use::Example));
        for (out, x) in out.iter_mut().zip(x) {
            *out = x as f32;
        }
    }

    /// `E x`, `[D]`.
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.dim];
        for component in self.components() {
            for (sum, mu) in mean.iter_mut().zip(component.mean) {
                *sum += component.weight * mu;
            }
        }
        mean
    }

    /// The variance of each coordinate, `[D]`: inside the components plus between them.
    ///
    /// ```text
    /// sum_k w_k (diag Sigma_k + (mu_k - E x)^2)
    /// ```
    pub fn variance(&self) -> Vec<f64> {
        let mean = self.mean();
        let mut variance = vec![0.0; self.dim];
        for component in self.components() {
            let between = component
                .mean
                .iter()
                .zip(&mean)
                .map(|(mu, mean)| (mu - mean).powi(2));
            let both = component.coordinate_variances().into_iter().zip(between);
            for (sum, (within, between)) in variance.iter_mut().zip(both) {
                *sum += component.weight * (within + between);
            }
        }
        variance
    }

    /// `Cov(x)`, `[D, D]` row by row.
    pub fn covariance(&self) -> Vec<f64> {
        let (dim, mean) = (self.dim, self.mean());
        let mut covariance = vec![0.0; dim * dim];
        for component in self.components() {
            let mut add = |factor: f64, a: &[f64]| {
                for (row, a_i) in covariance.chunks_exact_mut(dim).zip(a) {
                    for (sum, a_j) in row.iter_mut().zip(a) {
                        *sum += factor * a_i * a_j;
                    }
                }
            };
            let offset: Vec<f64> = component
                .mean
                .iter()
                .zip(&mean)
                .map(|(a, b)| a - b)
                .collect();
            add(component.weight, &offset);
            for (i, var) in component.variances.iter().enumerate() {
                let mut axis = vec![0.0; dim];
                match component.axes {
                    Some(axes) => axis.copy_from_slice(&axes[i * dim..(i + 1) * dim]),
                    None => axis[i] = 1.0,
                }
                add(component.weight * var, &axis);
            }
        }
        covariance
    }

    /// `tr Cov(x)`: the mean squared distance from the mean.
    pub fn trace_cov(&self) -> f64 {
        self.variance().iter().sum()
    }

    /// `log (w_k N(x; mu_k, var_k))`, `[K]`, in nats.
    fn log_terms(&self, x: &[f64]) -> Vec<f64> {
        assert_eq!(
            x.len(),
            self.dim,
            "numbers of a point against the mixture's dimensions"
        );
        let log_term = |component: Component<'_>| {
            let log_det: f64 = component.variances.iter().map(|var| (TAU * var).ln()).sum();
            component.weight.ln() - 0.5 * (component.square_distance(x) + log_det)
        };
        self.components().map(log_term).collect()
    }
}

/// `log sum_k exp(term_k)` without overflow or underflow; NaN where a term is NaN.
fn log_sum_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return terms.iter().sum(); // -inf - -inf would be NaN.
    }
    largest
        + terms
            .iter()
            .map(|term| (term - largest).exp())
            .sum::<f64>()
            .ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two unequal, lopsided Gaussians in the plane.
    fn lopsided() -> GaussianMixture {
        GaussianMixture {
            dim: 2,
            weights: vec![0.3, 0.7],
            means: vec![-1.0, 0.5, 1.5, -0.25],
            variances: vec![0.04, 0.5, 0.3, 0.1],
            axes: None,
        }
    }

    #[test]
    fn the_density_integrates_to_one() {
        let (mixture, step) = (lopsided(), 0.05);
        let ticks = (-120..=120).map(|i| f64::from(i) * step);
        let points = ticks
            .clone()
            .flat_map(|x| ticks.clone().map(move |y| [x, y]));
        let mass: f64 = points
            .map(|x| mixture.log_density(&x).exp() * step * step)
            .sum();
        assert!((mass - 1.0).abs() < 1e-10, "mass {mass}");
    }

    #[test]
    fn the_log_density_is_exact_where_the_density_underflows() {
        // At x = (1e4, 0) the second component is larger by about 1e9 nats: it alone remains.
        let quadratic = (1e4 - 1.5_f64).powi(2) / 0.3 + 0.25_f64.powi(2) / 0.1;
        let expected = 0.7_f64.ln() - 0.5 * (quadratic + (TAU * 0.3).ln() + (TAU * 0.1).ln());
        let found = lopsided().log_density(&[1e4, 0.0]);
        assert!(
            (found / expected - 1.0).abs() < 1e-14,
            "{found} against {expected}"
        );
        assert_eq!(lopsided().responsibilities(&[1e4, 0.0]), [0.0, 1.0]);
    }

    #[test]
    fn the_log_density_keeps_infinity_and_nan() {
        assert_eq!(
            lopsided().log_density(&[f64::INFINITY, 0.0]),
            f64::NEG_INFINITY
        );
        assert!(lopsided().log_density(&[f64::NAN, 0.0]).is_nan());
    }

    #[test]
    fn the_grid_has_unit_variance_and_the_documented_sizes() {
        let grid = GaussianMixture::grid_7x7();
        assert_eq!((grid.dim(), grid.components().len()), (2, 49));
        for (mean, variance) in grid.mean().iter().zip(grid.variance()) {
            assert!(
                mean.abs() < 1e-14 && (variance - 1.0).abs() < 1e-14,
                "{mean} {variance}"
            );
        }
        assert!((grid.trace_cov() - 2.0).abs() < 1e-14);
        assert!((grid.variances[0].sqrt() - 0.0250).abs() < 5e-5);
        assert!((grid.means[3] - grid.means[1] - 0.500).abs() < 5e-4);
    }

    #[test]
    fn samples_have_the_moments_of_the_mixture() {
        const DRAWS: usize = 100_000;
        let mixture = lopsided();
        let mut rng = noise::rng(1, 0, 0, Use::Example);
        let draws: Vec<_> = (0..DRAWS).map(|_| mixture.sample(&mut rng)).collect();
        for axis in 0..2 {
            let (mu, var) = (mixture.mean()[axis], mixture.variance()[axis]);
            let mean = draws.iter().map(|x| x[axis]).sum::<f64>() / DRAWS as f64;
            assert!(
                (mean - mu).abs() < 5.0 * (var / DRAWS as f64).sqrt(),
                "mean {mean}"
            );

            // For N(m, v) about the mixture's mean: E d^4 = m^4 + 6 m^2 v + 3 v^2.
            let fourth: f64 = mixture
                .components()
                .map(|c| (c.weight, c.mean[axis] - mu, c.variances[axis]))
                .map(|(w, m, v)| w * (m.powi(4) + 6.0 * m * m * v + 3.0 * v * v))
                .sum();
            let standard_error = ((fourth - var * var) / DRAWS as f64).sqrt();
            let found = draws.iter().map(|x| (x[axis] - mu).powi(2)).sum::<f64>() / DRAWS as f64;
            assert!(
                (found - var).abs() < 5.0 * standard_error,
                "variance {found} against {var}"
            );
        }
    }

    #[test]
    fn components_are_drawn_by_their_weights() {
        const DRAWS: usize = 20_000;
        // Far apart and with a component that must never be drawn.
        let mixture = GaussianMixture {
            dim: 1,
            weights: vec![0.2, 0.8, 0.0],
            means: vec![-9.0, 9.0, 99.0],
            variances: vec![1.0; 3],
            axes: None,
        };
        let mut rng = noise::rng(2, 0, 0, Use::Example);
        let draws: Vec<_> = (0..DRAWS).map(|_| mixture.sample(&mut rng)[0]).collect();
        let left = draws.iter().filter(|&&x| x < 0.0).count() as f64 / DRAWS as f64;
        assert!(
            (left - 0.2).abs() < 5.0 * (0.2 * 0.8 / DRAWS as f64).sqrt(),
            "left {left}"
        );
        assert!(draws.iter().all(|&x| x < 50.0));
    }

    #[test]
    fn an_example_is_a_function_of_seed_and_index() {
        let grid = GaussianMixture::grid_7x7();
        let example = |seed, index| {
            let mut out = [0.0; 2];
            grid.sample_into(seed, index, &mut out);
            out
        };
        assert_eq!(example(1, 5), example(1, 5));
        assert_ne!(example(1, 5), example(1, 6));
        assert_ne!(example(1, 5), example(2, 5));
    }

    #[test]
    #[should_panic(expected = "numbers of a point against the mixture's dimensions")]
    fn a_point_of_another_dimension_panics() {
        lopsided().log_density(&[0.0]);
    }
}

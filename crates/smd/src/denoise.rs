//! One learned backward step: the seam between a model and everything that uses one.
//!
//! For any data, `q(x_{t-1} | x_t)` is `q(x_{t-1} | x_t, x_0)` averaged over `q(x_0 | x_t)`: the step
//! is a location mixture whose mixing law is the law of `x_0`. A kernel is therefore a way to draw
//! `x_0` given `x_t`; the sampler does the rest in closed form, at any number of steps.
//!
//! - [`Gaussian`]: one guess of `x_0`, the mean (Eq. 2, 4): the baseline;
//! - [`SoftMixture`]: a guess for each latent `z_t = g_phi(eta, x_t, t)` (Eq. 11-13);
//! - [`Mixture`]: `K` components with weights, means and variances, for vectors (Eq. 10).

mod config;
mod gaussian;
mod mixture;
mod soft_mixture;

pub use config::{KernelConfig, MixtureKernelConfig, SoftMixtureConfig};
pub use gaussian::Gaussian;
pub use mixture::{Components, Mixture};
pub use soft_mixture::SoftMixture;

use crate::noise::NoiseSource;
use crate::process::{Process, StepVar};
use burn::module::Module;
use burn::tensor::Tensor;

/// A model of one backward step.
pub trait Denoise {
    /// The forward process that it was trained to turn back.
    fn process(&self) -> &Process;

    /// The variance of the ancestral step, where a config asks for `asked`: a kernel that draws `x_0`
    /// itself needs that of `q(x_{t-1} | x_t, x_0)` and no more.
    fn step_var(&self, asked: StepVar) -> StepVar {
        asked
    }

    /// Draws `x_0` from the model's `p(x_0 | x_t)`: the mean, for a Gaussian step; a component's draw,
    /// for a mixture. The draws are named by `step`.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps of its process; returns `[B, H, W, C]`
    fn draw_x_0(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Tensor<4>;
}

/// A kernel chosen by a config.
#[allow(clippy::large_enum_variant, reason = "there is one of it in a program")]
#[derive(Module, Debug)]
pub enum Denoiser {
    /// One Gaussian.
    Gaussian(Gaussian),
    /// A soft mixture.
    SoftMixture(SoftMixture),
    /// An explicit mixture.
    Mixture(Mixture),
}

impl Denoise for Denoiser {
    fn process(&self) -> &Process {
        match self {
            Self::Gaussian(kernel) => kernel.process(),
            Self::SoftMixture(kernel) => kernel.process(),
            Self::Mixture(kernel) => kernel.process(),
        }
    }

    fn step_var(&self, asked: StepVar) -> StepVar {
        match self {
            Self::Gaussian(kernel) => kernel.step_var(asked),
            Self::SoftMixture(kernel) => kernel.step_var(asked),
            Self::Mixture(kernel) => kernel.step_var(asked),
        }
    }

    fn draw_x_0(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Tensor<4> {
        match self {
            Self::Gaussian(kernel) => kernel.draw_x_0(x_t, t, noise, step),
            Self::SoftMixture(kernel) => kernel.draw_x_0(x_t, t, noise, step),
            Self::Mixture(kernel) => kernel.draw_x_0(x_t, t, noise, step),
        }
    }
}

//! One learned backward step: the seam between a model and everything that uses one.
//!
//! For any data, `q(x_{t-1} | x_t)` is `q(x_{t-1} | x_t, x_0)` averaged over `q(x_0 | x_t)`: the step
//! is a location mixture whose mixing law is the law of `x_0`. A kernel is therefore a way to draw
//! `x_0` given `x_t`; the sampler does the rest in closed form, at any number of steps.
//!
//! - [`Gaussian`]: one guess of `x_0`, the mean (Eq. 2, 4): the baseline;
//! - [`SoftMixture`]: a guess for each latent `z_t = g_phi(eta, x_t, t)` (Eq. 11-13);
//! - [`Codebook`]: the same with finitely many learned latents;
//! - [`Mixture`]: `K` components with weights, means and variances (Eq. 10).
//!
//! Each can be written as finitely many Gaussians in `x_0`, [`Components`], which have a likelihood.

mod codebook;
pub(crate) mod components;
mod config;
mod encoder;
mod gaussian;
mod mixture;
mod soft_mixture;

pub use codebook::Codebook;
pub use components::Components;
pub use config::{
    CodebookConfig, GaussianConfig, KernelConfig, MixtureKernelConfig, Parts, SoftMixtureConfig,
};
pub use encoder::{Encoder, EtaLaw};
pub use gaussian::{Gaussian, GaussianVar, PerStepVars};
pub use mixture::Mixture;
pub use soft_mixture::{ComponentVar, Late, SoftMixture};

use crate::nn::Dropout;
use crate::noise::{NoiseSource, Use};
use crate::process::{Process, StepVar};
use burn::module::Module;
use burn::tensor::Tensor;

/// What a kernel says of `x_0`.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The draw, `[B, H, W, C]`.
    pub x_0: Tensor<4>,
    /// The variance of `x_0` about it, which the step adds to `tilde beta_t` as `c1^2` times it, of shape
    /// `[B, H, W, C]` or `[B, 1, 1, 1]`; `None`: the step's variance is [`Denoise::step_var`].
    pub x_0_var: Option<Tensor<4>>,
}

impl Drawn {
    /// The draw with noise of its variance, named by `step`.
    ///
    /// # Shapes
    /// - returns: `[B, H, W, C]`
    pub fn with_noise(self, noise: &NoiseSource, step: u64) -> Tensor<4> {
        let [_, height, width, channels] = self.x_0.dims();
        match self.x_0_var {
            None => self.x_0,
            Some(var) => {
                let shape = [height, width, channels];
                self.x_0 + var.sqrt() * noise.normal(step, Use::ComponentNoise, shape)
            }
        }
    }
}

/// A model of one backward step.
pub trait Denoise {
    /// The forward process that it was trained to turn back.
    fn process(&self) -> &Process;

    /// The variance of the ancestral step, where a config asks for `asked`: a kernel that draws `x_0`
    /// itself needs that of `q(x_{t-1} | x_t, x_0)` and no more.
    fn step_var(&self, asked: StepVar) -> StepVar {
        asked
    }

    /// Draws a Gaussian of the model's `p(x_0 | x_t)`: the only one, for a Gaussian step; a component, for
    /// a mixture. The draws are named by `step`.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps of its process
    fn draw(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Drawn;

    /// Draws `x_0` from the model's `p(x_0 | x_t)`: the mean, for a Gaussian step; a draw of a component,
    /// for a mixture.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps of its process; returns `[B, H, W, C]`
    fn draw_x_0(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Tensor<4> {
        self.draw(x_t, t, noise, step).with_noise(noise, step)
    }
}

/// A kernel chosen by a config.
#[allow(clippy::large_enum_variant, reason = "there is one of it in a program")]
#[derive(Module, Debug)]
pub enum Denoiser {
    /// One Gaussian.
    Gaussian(Gaussian),
    /// A soft mixture.
    SoftMixture(SoftMixture),
    /// A soft mixture over finitely many latents.
    Codebook(Codebook),
    /// An explicit mixture.
    Mixture(Mixture),
}

impl Denoiser {
    /// The kernel as finitely many Gaussians in `x_0`. A continuous latent is drawn `etas` times, named by
    /// `step`; `step_var` is the published variance, for kernels that take it.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps
    pub fn components(
        &self,
        x_t: Tensor<4>,
        t: &[usize],
        etas: usize,
        step_var: StepVar,
        noise: &NoiseSource,
        step: u64,
    ) -> Components {
        let dropout = &mut Dropout::off();
        match self {
            Self::Gaussian(kernel) => kernel.components(x_t, t, step_var, dropout),
            Self::SoftMixture(kernel) => {
                let [_, height, width, channels] = x_t.dims();
                let eta = kernel.draw_etas(noise, step, etas, [height, width, channels]);
                kernel.components(x_t, t, eta, step_var, dropout)
            }
            Self::Codebook(kernel) => kernel.forward(x_t, t, dropout),
            Self::Mixture(kernel) => kernel.forward(x_t, t, dropout),
        }
    }

    /// The same, whose chains take the likeliest latent instead of a draw (section 4.2); `None` where the
    /// latent's density is not known.
    pub fn at_mode(self) -> Option<Self> {
        match self {
            Self::SoftMixture(kernel) => kernel.at_mode().map(Self::SoftMixture),
            _ => None,
        }
    }

    /// The same means with other variances of `x_0` about them; see [`Gaussian::calibrated`]. `None` for
    /// a kernel that is no Gaussian or learns its variances otherwise.
    pub fn calibrated(self, x_0_vars: &[f64]) -> Option<Self> {
        match self {
            Self::Gaussian(kernel) => kernel.calibrated(x_0_vars).map(Self::Gaussian),
            _ => None,
        }
    }

    /// Whether its likelihood is a mean over draws of a latent, and not an exact sum.
    pub fn is_implicit(&self) -> bool {
        matches!(self, Self::SoftMixture(_))
    }

    /// Whether its likelihood has a variance that was learned with it.
    pub fn learns_variance(&self) -> bool {
        match self {
            Self::Gaussian(kernel) => kernel.var() != GaussianVar::Fixed,
            Self::SoftMixture(kernel) => {
                matches!(kernel.var(), ComponentVar::PerStep | ComponentVar::Learned)
            }
            Self::Codebook(_) | Self::Mixture(_) => true,
        }
    }

    fn kernel(&self) -> &dyn Denoise {
        match self {
            Self::Gaussian(kernel) => kernel,
            Self::SoftMixture(kernel) => kernel,
            Self::Codebook(kernel) => kernel,
            Self::Mixture(kernel) => kernel,
        }
    }
}

impl Denoise for Denoiser {
    fn process(&self) -> &Process {
        self.kernel().process()
    }

    fn step_var(&self, asked: StepVar) -> StepVar {
        self.kernel().step_var(asked)
    }

    fn draw_x_0(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Tensor<4> {
        self.kernel().draw_x_0(x_t, t, noise, step)
    }

    fn draw(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Drawn {
        self.kernel().draw(x_t, t, noise, step)
    }
}

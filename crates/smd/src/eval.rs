//! How good samples are.
//!
//! - [`modes`]: against a mixture that is known: are all modes there, as sharp as they should be?
//! - [`error_curve`]: what Gaussian steps lose on any data, from a denoiser's errors over noise levels
//! - [`influence`]: how much of the truth's randomness does the latent carry?
//! - [`kernel_error`]: `M_t` of a trained kernel, and its likelihood on any data
//! - [`memory`]: are samples nearer to the training examples than real ones are?
//! - [`sliced_wasserstein`]: the distance between two sets of samples

pub mod error_curve;
pub mod influence;
pub mod kernel_error;
pub mod memory;
pub mod modes;
pub mod sliced_wasserstein;

//! How good samples are.
//!
//! - [`modes`]: against a mixture that is known: are all modes there, as sharp as they should be?
//! - [`influence`]: how much of the truth's randomness does the latent carry?
//! - [`sliced_wasserstein`]: the distance between two sets of samples

pub mod influence;
pub mod modes;
pub mod sliced_wasserstein;

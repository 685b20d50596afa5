//! How good samples are.
//!
//! - [`modes`]: against a mixture that is known: are all modes there, as sharp as they should be?
//! - [`error_curve`]: what Gaussian steps lose on any data, from a denoiser's errors over noise levels
//! - [`extractor`]: the networks that make features of images
//! - [`feature_set`]: the features of a set in one file, [`provenance`]: where they are from
//! - [`evaluate`]: every measure that two such sets allow, as a result that can be defended
//! - [`features`], [`statistics`]: what an extractor says of images, and the moments of it
//! - [`frechet`], [`kid`]: the distance between the features of two sets
//! - [`fid_infinity`]: the Frechet distance of infinitely many samples
//! - [`inception_score`]: how sure a classifier is of each image, and how different its answers are
//! - [`influence`]: how much of the truth's randomness does the latent carry?
//! - [`kernel_error`]: `M_t` of a trained kernel, and its likelihood on any data
//! - [`memory`]: are samples nearer to the training examples than real ones are?
//! - [`neighbours`]: precision and recall, density and coverage
//! - [`sliced_wasserstein`]: the distance between two sets of samples

pub mod error_curve;
pub mod evaluate;
pub mod extractor;
pub mod feature_set;
pub mod features;
pub mod fid_infinity;
pub mod frechet;
pub mod inception_score;
pub mod influence;
pub mod kernel_error;
pub mod kid;
pub mod memory;
pub mod modes;
pub mod neighbours;
mod products;
pub mod provenance;
pub mod sliced_wasserstein;
pub mod statistics;
mod subsets;

//! Diffusion models whose backward step is more than one Gaussian: train, sample and measure them.
//!
//! The method is *soft mixture denoising* (Li, van Breugel, van der Schaar, ICLR 2024). A tour, in
//! the order in which data walks:
//!
//! - [`data`] reads images and vectors, [`noise`] names every random draw;
//! - [`schedule`] and [`process`] are the forward process, [`denoise`] one learned backward step;
//! - [`objective`] is what is minimised, [`train`] minimises it, [`sampler`] runs the chain back;
//! - [`nn`] holds the networks, [`ops`] the operations that each device may do in its own way;
//! - [`gmm`], [`denoising_error`] and [`eval`] say how good the result is; [`import`] reads foreign checkpoints, [`verify`]
//!   holds a model against what another program computed.
//!
//! The library never prints, never exits and never seeds anything globally.

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod denoise;
pub mod denoising_error;
pub mod error;
pub mod eval;
#[cfg(test)]
mod exact;
pub mod files;
pub mod gmm;
pub mod host;
pub mod import;
pub mod nn;
pub mod noise;
pub mod npz;
pub mod objective;
pub mod ops;
pub mod process;
pub mod sampler;
pub mod schedule;
pub mod train;
pub mod verify;

//! CPU kernels on plain slices, channels last, that know no framework.
//!
//! - [`conv2d`]: convolution and its two gradients, also the product of a `[P, C_in]` matrix with
//!   weights (a 1x1 convolution);
//! - [`group_norm`]: group normalisation with a scale and shift per image and SiLU in one pass;
//! - [`peak`]: what the machine could do at most, to hold the kernels against;
//! - [`silu`], [`softmax`]: element-wise and over the last axis.
//!
//! Each kernel is compiled for plain code, AVX2 with FMA, and AVX-512, and the best that the machine
//! has is chosen at run time ([`simd::level`]). Work is split by shape, never by the number of
//! threads, and every sum is taken in a fixed order: a result has the same bits on any number of
//! threads. Between instruction sets results differ by rounding.

pub mod conv2d;
pub mod group_norm;
pub mod peak;
mod product;
pub mod silu;
pub mod simd;
pub mod softmax;

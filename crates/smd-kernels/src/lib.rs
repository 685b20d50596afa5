//! CPU kernels on plain slices, channels last, that know no framework.
//!
//! - [`adam`]: a step of AdamW and of the averages of the weights, in one pass;
//! - [`attention`], [`linear_attention`]: attention over pixels that reads queries, keys and values where
//!   a 1x1 convolution leaves them;
//! - [`conv2d`]: convolution and its two gradients, also the product of a `[P, C_in]` matrix with
//!   weights (a 1x1 convolution);
//! - [`depthwise`]: convolution of each channel by itself;
//! - [`film`]: scales and shifts of features, and SiLU, in one pass;
//! - [`group_norm`]: group normalisation with a scale and shift per image and SiLU in one pass;
//! - [`hypernet`]: the hypernetwork of the paper in one pass;
//! - [`peak`]: what the machine could do at most, to hold the kernels against;
//! - [`pixels`]: nearest-neighbour up-sampling and pixel unshuffle;
//! - [`pool`]: the largest or the mean of windows;
//! - [`rms_norm`]: root-mean-square normalisation of rows of channels;
//! - [`silu`]: element-wise; [`memory`]: results without clearing memory first.
//!
//! Each kernel is compiled for plain code, AVX2 with FMA, and AVX-512, and the best that the machine
//! has is chosen at run time ([`simd::level`]). Work is split by shape, never by the number of
//! threads, and every sum is taken in a fixed order: a result has the same bits on any number of
//! threads. Between instruction sets results differ by rounding.

pub mod adam;
pub mod attention;
pub mod bf16;
pub mod conv2d;
pub mod depthwise;
pub mod film;
pub mod group_norm;
pub mod hypernet;
pub mod linear_attention;
pub mod memory;
pub mod peak;
pub mod pixels;
pub mod pool;
mod product;
pub mod rms_norm;
mod rows;
pub mod silu;
pub mod simd;
#[cfg(test)]
mod testing;

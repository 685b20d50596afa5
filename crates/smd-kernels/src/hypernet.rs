//! The paper's hypernetwork (Eq. 12) in one pass over pixels: `K` matrices generated from a latent `z`,
//! each of rank one plus a scaled identity and never formed, between two linear layers.
//!
//! ```text
//! h_0 = W_in x + b_in        v_k = P_k z + p_k
//! h_k = (v_k v_k^T + s_k I) h_{k-1} = v_k (v_k . h_{k-1}) + s_k h_{k-1}
//! out = W_out h_K + b_out
//! ```
//! Some pixels at a time go through all layers while what they are made of stays in the cache; nothing
//! but the result is written to memory. The backward pass does the same once more for the values it
//! needs: it keeps `x` and `z`. One layer after the other would write and read the
//! `L` numbers of a pixel seven times forward, and keep them.

mod backward;
mod layer;
mod tile;

use crate::bf16::Precision;
use crate::product::{Factors, with_factors};
use crate::simd::{self, Kernel, Level, Vector};
use backward::{Gradients, Sums};
use rayon::prelude::*;
use tile::{Matrices, Tile};

/// Pixels that go through the layers together: what they are made of stays in the cache.
const TILE: usize = 36;

/// Pixels of a task.
const TASK: usize = 12 * TILE;

/// Tasks of the backward pass, where there are so many tiles.
const SHARES: usize = 8;

/// The sizes of a hypernetwork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HyperNet {
    /// Pixels, `P`.
    pub pixels: usize,
    /// Channels of `x` and of the result, `C`.
    pub channels: usize,
    /// Channels of the latent, `L`.
    pub latent: usize,
    /// Matrices applied in a row, `K`.
    pub layers: usize,
    /// How the linear layers multiply.
    pub precision: Precision,
}

impl HyperNet {
    /// Lengths of the parameters, which lie one after the other: `W_in [L, C]`, `b_in [L]`,
    /// `P [K, L, L]`, `p [K, L]`, `s [K]`, `W_out [C, L]`, `b_out [C]`.
    pub fn parameter_lens(&self) -> [usize; 7] {
        let (c, l, k) = (self.channels, self.latent, self.layers);
        [l * c, l, k * l * l, k * l, k, c * l, c]
    }

    /// Length of all parameters.
    pub fn parameters_len(&self) -> usize {
        self.parameter_lens().iter().sum()
    }
}

/// The parameters by name.
struct Parameters<'a> {
    in_weight: &'a [f32],
    in_bias: &'a [f32],
    proj_weight: &'a [f32],
    proj_bias: &'a [f32],
    scales: &'a [f32],
    out_weight: &'a [f32],
    out_bias: &'a [f32],
}

impl<'a> Parameters<'a> {
    fn of(net: &HyperNet, mut all: &'a [f32]) -> Self {
        assert!(
            net.latent > 0 && net.channels > 0 && net.layers > 0,
            "hypernet: no channels or no layers"
        );
        assert_eq!(all.len(), net.parameters_len(), "hypernet: parameters");
        let parts = net.parameter_lens().map(|len| {
            let (part, rest) = all.split_at(len);
            all = rest;
            part
        });
        let [
            in_weight,
            in_bias,
            proj_weight,
            proj_bias,
            scales,
            out_weight,
            out_bias,
        ] = parts;
        Self {
            in_weight,
            in_bias,
            proj_weight,
            proj_bias,
            scales,
            out_weight,
            out_bias,
        }
    }
}

/// Modulates `x` with the matrices generated from `z`.
///
/// # Shapes
/// - `x`, `out`: `[P, C]`; `z`: `[P, L]`; `parameters`: see [`HyperNet::parameter_lens`]
///
/// # Panics
/// If a slice does not have its length or there are no channels or no layers.
pub fn forward(net: &HyperNet, x: &[f32], z: &[f32], parameters: &[f32], out: &mut [f32]) {
    forward_at(simd::level(), net, x, z, parameters, out);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(
    level: Level,
    net: &HyperNet,
    x: &[f32],
    z: &[f32],
    parameters: &[f32],
    out: &mut [f32],
) {
    check(net, [x, out], z);
    with_factors!(
        net.precision,
        run_forward(level, net, x, z, parameters, out)
    );
}

fn run_forward<F: Factors>(
    level: Level,
    net: &HyperNet,
    x: &[f32],
    z: &[f32],
    parameters: &[f32],
    out: &mut [f32],
) {
    let matrices = Matrices::forward::<F>(level, net, &Parameters::of(net, parameters));
    let inputs = x.par_chunks(TASK * net.channels);
    inputs
        .zip(z.par_chunks(TASK * net.latent))
        .zip(out.par_chunks_mut(TASK * net.channels))
        .for_each(|((x, z), out)| {
            let mut tile = Tile::<F>::new(level, net);
            let matrices = &matrices;
            let tile = &mut tile;
            simd::run(
                level,
                Forward {
                    net,
                    matrices,
                    x,
                    z,
                    out,
                    tile,
                },
            );
        });
}

/// Some pixels.
struct Forward<'a, F: Factors> {
    net: &'a HyperNet,
    matrices: &'a Matrices,
    x: &'a [f32],
    z: &'a [f32],
    out: &'a mut [f32],
    tile: &'a mut Tile<F>,
}

impl<F: Factors> Kernel for Forward<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (c, l) = (self.net.channels, self.net.latent);
        let x = self.x.chunks(TILE * c).zip(self.z.chunks(TILE * l));
        for ((x, z), out) in x.zip(self.out.chunks_mut(TILE * c)) {
            // SAFETY: the caller has the instruction set.
            unsafe {
                self.tile.layers::<V>(self.matrices, x, z);
                self.tile.write_out::<V>(self.matrices, out);
            }
        }
    }
}

/// The gradients of `x` and `z`, written, and of the parameters, returned in their order, given that of the
/// output of [`forward`].
///
/// # Shapes
/// - `x`, `grad`, `x_grad`: `[P, C]`; `z`, `z_grad`: `[P, L]`;
///   `parameters`: see [`HyperNet::parameter_lens`]
///
/// # Panics
/// If a slice does not have its length or there are no channels or no layers.
pub fn backward(
    net: &HyperNet,
    x: &[f32],
    z: &[f32],
    parameters: &[f32],
    grad: &[f32],
    x_grad: &mut [f32],
    z_grad: &mut [f32],
) -> Vec<f32> {
    backward_at(simd::level(), net, x, z, parameters, grad, x_grad, z_grad)
}

/// [`backward`] with the instruction set of choice.
#[allow(clippy::too_many_arguments)]
pub fn backward_at(
    level: Level,
    net: &HyperNet,
    x: &[f32],
    z: &[f32],
    parameters: &[f32],
    grad: &[f32],
    x_grad: &mut [f32],
    z_grad: &mut [f32],
) -> Vec<f32> {
    check(net, [x, grad], z);
    check(net, [x, x_grad], z_grad);
    with_factors!(
        net.precision,
        run_backward(level, net, [x, z, grad], parameters, x_grad, z_grad)
    )
}

fn run_backward<F: Factors>(
    level: Level,
    net: &HyperNet,
    [x, z, grad]: [&[f32]; 3],
    parameters: &[f32],
    x_grad: &mut [f32],
    z_grad: &mut [f32],
) -> Vec<f32> {
    let (c, l) = (net.channels, net.latent);
    let matrices = Matrices::backward::<F>(level, net, &Parameters::of(net, parameters));
    // The same shares for any number of threads.
    let share = net.pixels.div_ceil(TILE).div_ceil(SHARES).max(1) * TILE;
    let inputs = x.par_chunks(share * c).zip(z.par_chunks(share * l));
    let outputs = x_grad
        .par_chunks_mut(share * c)
        .zip(z_grad.par_chunks_mut(share * l));
    let sums: Vec<Sums> = inputs
        .zip(grad.par_chunks(share * c))
        .zip(outputs)
        .map(|(((x, z), grad), (x_grad, z_grad))| {
            let task = Gradients::<F>::new(level, net, &matrices);
            task.run(level, [x, z, grad], x_grad, z_grad)
        })
        .collect();
    Sums::total(level, net, &sums)
}

fn check(net: &HyperNet, inputs: [&[f32]; 2], z: &[f32]) {
    for x in inputs {
        assert_eq!(x.len(), net.pixels * net.channels, "hypernet: pixels");
    }
    assert_eq!(z.len(), net.pixels * net.latent, "hypernet: latents");
}

#[cfg(test)]
mod tests;

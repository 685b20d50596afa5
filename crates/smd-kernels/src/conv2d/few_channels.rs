//! The gradient of an input of few channels, such as an image.
//!
//! As a convolution to three channels it would use three of 32 lanes. Here one product of matrices
//! gives what each output pixel sends to each place of its window, `kH kW C_in` numbers, and each input
//! pixel then gathers its own.

use super::{ANYWHERE, Conv2d, Last, Weights, forward, padded};
use crate::memory::any_numbers;
use crate::product::Factors;
use crate::simd::Level;
use rayon::prelude::*;

/// Whether this way is the shorter one. It must not depend on the batch.
pub(super) fn suits(conv: &Conv2d) -> bool {
    conv.c_in <= 4 && conv.stride == 1 && conv.kernel != [1, 1]
}

/// `out[pixel, ci] = sum over (ky, kx), co of grad[pixel - (ky, kx) + pad, co] w[co, ci, ky, kx]`.
pub(super) fn grad_input<F: Factors>(
    level: Level,
    conv: &Conv2d,
    grad: &[f32],
    weights: &Weights,
    out: &mut [f32],
) {
    let [kh, kw] = conv.kernel;
    let [height, width] = conv.output_size();
    let sends = kh * kw * conv.c_in;
    let product = Conv2d {
        batch: conv.batch,
        size: [height, width],
        c_in: conv.c_out,
        c_out: sends,
        kernel: [1, 1],
        stride: 1,
        pad: [0; 4],
        precision: conv.precision,
    };
    let packed = forward::pack::<F>(level, &product, |send, co, _, _| {
        let (window, ci) = (send / conv.c_in, send % conv.c_in);
        weights.at(co, ci, window / kw, window % kw)
    });
    let mut sent = any_numbers(conv.batch * height * width * sends);
    let grad = padded::<F>(level, &product, grad);
    let last = Last::new(level, product.c_out, &[], ANYWHERE);
    forward::run::<F>(level, &product, &grad, &packed, &last, &mut sent);
    out.par_chunks_mut(conv.size[0] * conv.size[1] * conv.c_in)
        .zip(sent.par_chunks(height * width * sends))
        .with_min_len(if conv.is_small() { usize::MAX } else { 1 })
        .for_each(|(out, sent)| gather(conv, sent, out));
}

/// Adds up what the output pixels of one image sent to each input pixel, in the order of the window.
fn gather(conv: &Conv2d, sent: &[f32], out: &mut [f32]) {
    let [kh, kw] = conv.kernel;
    let [height, width] = conv.output_size();
    let (c, sends) = (conv.c_in, kh * kw * conv.c_in);
    out.fill(0.0);
    for (iy, row) in out.chunks_exact_mut(conv.size[1] * c).enumerate() {
        for ky in 0..kh {
            let oy = (iy + conv.pad[0]).wrapping_sub(ky);
            if oy >= height {
                continue;
            }
            for kx in 0..kw {
                // Input columns whose output column `ix + pad - kx` exists.
                let from = kx.saturating_sub(conv.pad[2]);
                let to = (width + kx).saturating_sub(conv.pad[2]).min(conv.size[1]);
                let place = (ky * kw + kx) * c;
                for ix in from..to {
                    let ox = ix + conv.pad[2] - kx;
                    let sent = &sent[(oy * width + ox) * sends + place..][..c];
                    for (out, &sent) in row[ix * c..][..c].iter_mut().zip(sent) {
                        *out += sent;
                    }
                }
            }
        }
    }
}

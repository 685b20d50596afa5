//! One layer for one pixel, and its gradients:
//!
//! ```text
//! out = v (v . h) + s h
//!
//! v_grad = grad (v . h) + h (v . grad)
//! h_grad = v (v . grad) + s grad
//! s_grad = grad . h
//! ```

use crate::rows::dot;

/// `out = v (v . h) + s h`.
#[inline(always)]
pub(super) fn forward(v: &[f32], h: &[f32], s: f32, out: &mut [f32]) {
    let v_h = dot(v, h);
    for ((o, &v), &h) in out.iter_mut().zip(v).zip(h) {
        *o = v * v_h + h * s;
    }
}

/// Writes `v_grad`, replaces the gradient of the output by that of `h`, and returns that of `s`.
#[inline(always)]
pub(super) fn backward(v: &[f32], h: &[f32], s: f32, grad: &mut [f32], v_grad: &mut [f32]) -> f32 {
    let (v_h, v_g, s_grad) = (dot(v, h), dot(v, grad), dot(grad, h));
    for ((o, &h), &g) in v_grad.iter_mut().zip(h).zip(grad.iter()) {
        *o = g * v_h + h * v_g;
    }
    for (g, &v) in grad.iter_mut().zip(v) {
        *g = v * v_g + *g * s;
    }
    s_grad
}

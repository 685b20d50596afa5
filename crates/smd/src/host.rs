//! Numbers of a tensor on the host.

use burn::tensor::Tensor;

/// All numbers of a tensor, in order.
///
/// # Panics
/// If the device fails to give them: then nothing else would work either.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .try_into_vec_as::<f32>()
        .expect("a device hands out its numbers")
}

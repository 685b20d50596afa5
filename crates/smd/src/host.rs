//! The host: its device, and numbers of a tensor on it.

use burn::tensor::{Device, Tensor};

/// Where a network is built that only says its names and shapes: the CPU, so that no GPU is opened
/// for it. A build without the CPU uses what it has.
pub fn device() -> Device {
    #[cfg(feature = "flex")]
    return Device::flex();
    #[cfg(not(feature = "flex"))]
    Device::default()
}

/// All numbers of a tensor, in order.
///
/// # Panics
/// If the device fails to give them: then nothing else would work either.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .try_into_vec_as::<f32>()
        .expect("a device hands out its numbers")
}

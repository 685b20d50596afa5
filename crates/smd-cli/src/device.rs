//! The device of a run, chosen once.

use burn::tensor::Device;
use clap::ValueEnum;
use std::fmt;

/// A backend by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The processor.
    Cpu,
    /// NVIDIA.
    Cuda,
    /// AMD.
    Rocm,
    /// Apple.
    Metal,
    /// Any GPU with Vulkan.
    Vulkan,
    /// Any GPU that wgpu finds.
    Wgpu,
}

impl Kind {
    /// The device.
    ///
    /// # Errors
    /// A backend that this program was built without.
    pub fn open(self) -> anyhow::Result<Device> {
        match self {
            #[cfg(feature = "flex")]
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            #[cfg(feature = "rocm")]
            Self::Rocm => Ok(Device::rocm(0)),
            #[cfg(feature = "metal")]
            Self::Metal => Ok(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[allow(unreachable_patterns, reason = "with every feature nothing is left")]
            missing => anyhow::bail!(
                "this smd was built without the device {missing}; \
                 build it with `cargo build --release --features {missing}`"
            ),
        }
    }

    /// The instruction set of the kernels, which only the processor runs.
    pub fn kernels(self) -> Option<&'static str> {
        (self == Self::Cpu).then(|| smd_kernels::simd::level().name())
    }
}

/// The name that `--device` takes.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.expect("every kind can be named").get_name())
    }
}

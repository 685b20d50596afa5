//! The device of a run, chosen once.

use burn::tensor::Device;

/// A backend by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
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
            missing => {
                let name = format!("{missing:?}").to_lowercase();
                anyhow::bail!(
                    "this smd was built without the device {name}; \
                     build it with `cargo build --release --features {name}`"
                )
            }
        }
    }
}

//! Tests across the library: parity with other programs, import, measures, verification.

mod close;
#[cfg(any(
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
))]
mod device;
mod extractors;
mod formula;
mod import;
mod metrics;
mod parity;
mod verify;

use std::path::{Path, PathBuf};

/// A file of `tests/golden`.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

//! What samples become on disk: pictures, archives that numpy reads, scatter plots.
//!
//! Every file is written beside its target and renamed over it: a reader sees the old file or the
//! whole new one, and a full disk spoils nothing.

mod file;
mod folder;
mod grid;
mod images;
mod npz;
mod plot;
mod points;

pub use file::{check_beside, write_beside};
pub use folder::{create_out_dir, remove_older_samples};
pub use grid::{VIEW_SIDE, grid};
pub use images::{Images, write_png};
pub use npz::{write_npz, write_npz_vectors};
pub use plot::{Drawing, PlotFile};
pub use points::write_scatter;

use std::io::Write;
use std::path::Path;

/// Writes a whole file beside `path` and renames it over it.
///
/// # Errors
/// A folder that cannot be written; an older file is then as it was.
pub fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_beside(path, |file| Ok(file.write_all(bytes)?))
}

/// All samples in one picture: a grid of images, or a scatter plot of vectors in the plane.
///
/// # Errors
/// A sample that is not finite, vectors that are not in the plane, or a folder that cannot be
/// written.
pub fn write_view(path: &Path, values: &[f32], shape: [usize; 3]) -> anyhow::Result<()> {
    if shape[..2] == [1, 1] {
        return write_scatter(path, values, shape[2]);
    }
    write_png(
        path,
        &grid(&Images::from_unit(values, shape)?, VIEW_SIDE).into(),
    )
}

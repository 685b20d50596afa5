//! What samples become on disk: pictures, archives that numpy reads, scatter plots.
//!
//! Every file is written beside its target and renamed over it: a reader sees the old file or the
//! whole new one, and a full disk spoils nothing.

mod file;
mod folder;
mod grid;
mod images;
mod npz;
mod points;

pub use file::write_beside;
pub use folder::create_out_dir;
pub use grid::{VIEW_SIDE, grid};
pub use images::{Images, write_png};
pub use npz::{write_npz, write_npz_vectors};
pub use points::write_scatter;

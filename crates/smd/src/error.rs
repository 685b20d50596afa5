//! What can go wrong, one enum for each boundary.
//!
//! A message names the place, what was found and what was expected, and the fix where there is one.
//! The text of the source error is not repeated: a caller prints the whole chain.

use std::path::PathBuf;

/// Why a set of examples could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

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

/// Why a config does not describe a Gaussian mixture.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MixtureError {
    /// There is no component.
    #[error("`means` is empty, expected one list of numbers per component")]
    NoComponents,
    /// The components have no axes.
    #[error("`means` has empty lists, expected one number per dimension")]
    NoDimensions,
    /// The spread is given twice or not at all.
    #[error("found {found} of `stds` and `variances`, expected exactly one of the two")]
    Spread {
        /// `both` or `neither`.
        found: &'static str,
    },
    /// A list does not have one entry per component.
    #[error(
        "`{field}` has length {found}, expected {expected}, one entry per component of `means`"
    )]
    Count {
        /// The list.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The number of components.
        expected: usize,
    },
    /// A component has another number of dimensions than the first mean.
    #[error("`{field}[{component}]` has length {found}, expected {expected} as in `means[0]`")]
    Dimensions {
        /// The list of lists.
        field: &'static str,
        /// The component, from 0.
        component: usize,
        /// The length of its list.
        found: usize,
        /// The length of the first mean.
        expected: usize,
    },
    /// A number is outside of its range.
    #[error("`{field}[{component}]` is {found}, expected {expected}")]
    Number {
        /// The list.
        field: &'static str,
        /// The component, from 0.
        component: usize,
        /// The number.
        found: f64,
        /// The range.
        expected: &'static str,
    },
}

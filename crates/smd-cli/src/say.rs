//! Messages on stderr.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to stderr, or nothing where nobody listens any more: a training must not end because
/// the reader of its log did.
pub fn say(message: impl Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

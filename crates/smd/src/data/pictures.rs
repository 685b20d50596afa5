//! A set of pictures with names, wherever they are kept, in the order of the names.
//!
//! Pictures are decoded on all threads, and the result does not depend on how many there are: the set is
//! in the order of the names, and so is the first error.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::fit::{Pixels, fit};
use super::{Images, ReadOptions, Skipped, chain, decode};
use crate::error::DataError;

/// Endings that are read, in any case.
const EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"];

/// Files decoded before the next look at errors and the limit.
const CHUNK: usize = 256;

/// Largest file of a picture, in bytes: an archive can announce any size.
pub(super) const MOST_BYTES: u64 = 1 << 29;

/// Files by name.
pub(super) trait Entries: Sync {
    /// The folder or archive.
    fn path(&self) -> &Path;

    /// Names as errors show them, sorted.
    fn names(&self) -> &[PathBuf];

    /// The bytes of file `i`.
    ///
    /// # Errors
    /// A file that is damaged or cannot be read.
    fn read(&self, i: usize) -> Result<Vec<u8>, DataError>;
}

/// Whether the name ends as one of a picture that is read.
pub(super) fn is_picture(name: &Path) -> bool {
    let end = name.extension().unwrap_or_default();
    EXTENSIONS
        .iter()
        .any(|known| end.eq_ignore_ascii_case(known))
}

/// A set without a picture.
pub(super) fn none_in(path: &Path) -> DataError {
    DataError::NoImages {
        path: path.to_owned(),
        extensions: EXTENSIONS.map(|end| format!(".{end}")).join(", "),
    }
}

/// Reads every picture.
///
/// With `skip_bad`, files that cannot be read are recorded and passed over, and `limit` counts good
/// ones. A picture of another size or a mixture of grey and colour is an error all the same: it is
/// the options that have to say what to do.
///
/// # Errors
/// The first bad file in path order, or a folder with no good one.
pub(super) fn read(entries: &impl Entries, options: &ReadOptions) -> Result<Images, DataError> {
    let mut files = entries.names();
    if files.is_empty() {
        return Err(none_in(entries.path()));
    }
    let wanted = options.limit.unwrap_or(usize::MAX).min(files.len());
    if !options.skip_bad {
        files = &files[..wanted];
    }

    let mut set = Set {
        path: entries.path(),
        wanted,
        first: None,
        images: Images::default(),
    };
    let mut first_error = None;
    'chunks: for (chunk, files) in files.chunks(CHUNK).enumerate() {
        let picture = |(i, file): (usize, &PathBuf)| {
            let bytes = entries.read(chunk * CHUNK + i)?;
            decode::decode(file, &bytes).map(|image| fit(image, options))
        };
        let pictures: Vec<_> = files.par_iter().enumerate().map(picture).collect();
        for (file, picture) in files.iter().zip(pictures) {
            match picture {
                Ok(pixels) => set.push(file, &pixels)?,
                Err(error) if options.skip_bad => {
                    set.images.skipped.push(Skipped {
                        path: file.clone(),
                        reason: chain(&error),
                    });
                    first_error.get_or_insert(error);
                }
                Err(error) => {
                    let source = Box::new(error);
                    return Err(DataError::Bad { source });
                }
            }
            if set.images.len() == wanted {
                break 'chunks;
            }
        }
    }
    match first_error {
        Some(error) if set.images.is_empty() => {
            let (path, files) = (entries.path().to_owned(), files.len());
            Err(DataError::AllBad {
                path,
                files,
                source: Box::new(error),
            })
        }
        _ => Ok(set.images),
    }
}

/// A set that grows picture by picture.
struct Set<'a> {
    path: &'a Path,
    wanted: usize,
    /// The picture that fixed the shape.
    first: Option<PathBuf>,
    images: Images,
}

impl Set<'_> {
    /// Appends a picture; the first one fixes the shape and takes the memory for all.
    fn push(&mut self, path: &Path, pixels: &Pixels) -> Result<(), DataError> {
        let [height, width, channels] = pixels.shape;
        let Some(first) = &self.first else {
            self.reserve(pixels.bytes.len())?;
            self.first = Some(path.to_owned());
            (self.images.height, self.images.width, self.images.channels) =
                (height, width, channels);
            self.images.bytes.extend_from_slice(&pixels.bytes);
            return Ok(());
        };
        if channels != self.images.channels {
            let (grey, colour) = if channels == 1 {
                (path, &**first)
            } else {
                (&**first, path)
            };
            let (grey, colour) = (grey.to_owned(), colour.to_owned());
            return Err(DataError::MixedChannels { grey, colour });
        }
        let (found, expected) = ([height, width], [self.images.height, self.images.width]);
        if found != expected {
            let (path, first) = (path.to_owned(), first.clone());
            return Err(DataError::Size {
                path,
                found,
                first,
                expected,
            });
        }
        self.images.bytes.extend_from_slice(&pixels.bytes);
        Ok(())
    }

    fn reserve(&mut self, image_len: usize) -> Result<(), DataError> {
        let (path, images) = (self.path.to_owned(), self.wanted);
        let bytes = image_len.saturating_mul(images);
        let memory = |source| DataError::Memory {
            path,
            images,
            bytes,
            source,
        };
        self.images.bytes.try_reserve_exact(bytes).map_err(memory)
    }
}

//! IDX files of images, the format of MNIST (LeCun), plain or gzip.
//!
//! ```text
//! 0x00000803, images, height, width (big-endian u32 each), then one byte for each pixel
//! ```
//! The first two bytes tell gzip (`1f 8b`), not the name. The header is not trusted: no memory is
//! taken on its word, and no more is decompressed than it announces.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::fit::fit_all;
use super::{Images, ReadOptions};
use crate::error::DataError;

const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;
const HEADER: usize = 16;

/// The file of a folder that is read: `train` before others, then by name.
pub(super) fn choose(names: &[String]) -> Option<&String> {
    let is_images = |name: &&String| {
        !name.starts_with('.') && name.trim_end_matches(".gz").ends_with("idx3-ubyte")
    };
    names
        .iter()
        .filter(is_images)
        .min_by_key(|name| (!name.contains("train"), *name))
}

/// Reads one file.
///
/// # Errors
/// As [`parse`], and [`DataError::Read`].
pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Images, DataError> {
    let file = File::open(path).map_err(|source| DataError::Read {
        path: path.into(),
        source,
    })?;
    parse(path, file, options)
}

/// Reads the images that `source` holds; `path` stands for it in errors.
///
/// # Errors
/// Another magic number, a length that is not what the header announces, or a damaged gzip.
pub(super) fn parse(
    path: &Path,
    source: impl Read,
    options: &ReadOptions,
) -> Result<Images, DataError> {
    let failed = |source| DataError::Read {
        path: path.into(),
        source,
    };
    let mut source = BufReader::new(source);
    let mut start = vec![];
    source
        .by_ref()
        .take(2)
        .read_to_end(&mut start)
        .map_err(failed)?;
    let gzip = start == [0x1f, 0x8b];
    let mut source = io::Cursor::new(start).chain(source);
    if gzip {
        read_pixels(path, &mut MultiGzDecoder::new(source), options)
    } else {
        read_pixels(path, &mut source, options)
    }
}

fn read_pixels(
    path: &Path,
    source: &mut impl Read,
    options: &ReadOptions,
) -> Result<Images, DataError> {
    let short = |found: usize, expected| {
        let (path, found) = (path.to_owned(), found as u64);
        DataError::IdxShort {
            path,
            found,
            expected,
        }
    };
    let header = read_up_to(path, source, HEADER as u64)?;
    let word = |i: usize| {
        let bytes = header.get(4 * i..4 * i + 4)?;
        Some(
            bytes
                .iter()
                .fold(0, |word, &byte| word << 8 | u32::from(byte)),
        )
    };
    match word(0) {
        Some(IMAGES) | None => (),
        Some(LABELS) => return Err(DataError::IdxLabels { path: path.into() }),
        Some(found) => {
            return Err(DataError::IdxMagic {
                path: path.into(),
                found,
                expected: IMAGES,
            });
        }
    }
    let (Some(images), Some(height), Some(width)) = (word(1), word(2), word(3)) else {
        return Err(short(header.len(), HEADER as u64));
    };
    if images == 0 || height == 0 || width == 0 {
        return Err(DataError::IdxEmpty {
            path: path.into(),
            images,
            height,
            width,
        });
    }

    let pixels = [height, width]
        .iter()
        .fold(u64::from(images), |n, &m| n.saturating_mul(m.into()));
    let mut bytes = read_up_to(path, source, pixels.saturating_add(1))?;
    let expected = pixels.saturating_add(HEADER as u64);
    if (bytes.len() as u64) < pixels {
        return Err(short(HEADER + bytes.len(), expected));
    }
    if bytes.len() as u64 > pixels {
        return Err(DataError::IdxLong {
            path: path.into(),
            expected,
        });
    }
    let (height, width) = (height as usize, width as usize);
    bytes.truncate(
        options
            .limit
            .unwrap_or(usize::MAX)
            .saturating_mul(height * width),
    );
    Ok(fit_all(
        Images {
            height,
            width,
            channels: 1,
            bytes,
            skipped: vec![],
        },
        options,
    ))
}

/// The next `limit` bytes, or fewer where the source ends, also in the middle of a gzip stream.
fn read_up_to(path: &Path, source: &mut impl Read, limit: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = vec![];
    match source.take(limit).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(bytes),
        Err(source) => Err(DataError::Read {
            path: path.into(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{from_idx, open};
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn file(header: [u32; 4], pixels: impl IntoIterator<Item = u8>) -> Vec<u8> {
        header
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .chain(pixels)
            .collect()
    }

    /// Three images of 2 x 5.
    fn good() -> Vec<u8> {
        file([IMAGES, 3, 2, 5], 0..30)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn parse_all(bytes: &[u8]) -> Result<Images, DataError> {
        from_idx(Path::new("some-file"), bytes, &ReadOptions::default())
    }

    fn message(bytes: &[u8]) -> String {
        parse_all(bytes).unwrap_err().to_string()
    }

    #[test]
    fn plain_and_gzip_are_told_apart_by_content() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("plain.gz", good()), ("packed", gzip(&good()))] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let images = open(&path, &ReadOptions::default()).unwrap();
            assert_eq!((images.len(), images.shape()), (3, [2, 5, 1]));
            assert_eq!(images.bytes, (0..30).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn a_folder_is_its_train_images() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("train-labels-idx1-ubyte", &file([LABELS, 1, 0, 0], []));
        write("t10k-images-idx3-ubyte", &file([IMAGES, 1, 1, 1], [7]));
        assert_eq!(
            open(folder.path(), &ReadOptions::default()).unwrap().bytes,
            [7]
        );
        write("train-images-idx3-ubyte.gz", &gzip(&good()));
        assert_eq!(
            open(folder.path(), &ReadOptions::default()).unwrap().len(),
            3
        );
    }

    #[test]
    fn limit_size_and_channels_are_applied() {
        let options = ReadOptions {
            limit: Some(2),
            size: Some(8),
            channels: Some(3),
            skip_bad: false,
        };
        let images = from_idx(Path::new("some-file"), &good(), &options).unwrap();
        assert_eq!((images.len(), images.shape()), (2, [8, 8, 3]));
    }

    #[test]
    fn another_magic_number_is_shown_beside_the_right_one() {
        let message = message(b"\x89PNG\r\n\x1a\n");
        assert!(
            message.contains("some-file begins with 0x89504e47, expected 0x00000803"),
            "{message}"
        );
    }

    #[test]
    fn the_labels_file_is_recognised() {
        let message = message(&gzip(&file([LABELS, 60_000, 0x0900_0003, 0], [])));
        assert!(
            message.contains("some-file is the labels file"),
            "{message}"
        );
    }

    #[test]
    fn a_file_cut_short_names_both_lengths() {
        let cut = &good()[..40];
        for bytes in [cut.to_vec(), gzip(cut)] {
            let message = message(&bytes);
            assert!(
                message.contains("some-file has 40 bytes (uncompressed), expected 46"),
                "{message}"
            );
        }
        assert!(message(&good()[..9]).contains("has 9 bytes (uncompressed), expected 16"));
        assert!(message(&[]).contains("has 0 bytes (uncompressed), expected 16"));
    }

    #[test]
    fn a_gzip_stream_cut_short_is_a_short_file() {
        let whole = gzip(&file(
            [IMAGES, 10, 28, 28],
            (0..7840u32).map(|i| (i * i % 251) as u8),
        ));
        let message = message(&whole[..whole.len() / 2]);
        assert!(
            message.contains("(uncompressed), expected 7856: it is cut short"),
            "{message}"
        );
    }

    #[test]
    fn a_damaged_gzip_keeps_its_cause() {
        let mut bytes = gzip(&good());
        let sum = bytes.len() - 8;
        bytes[sum] ^= 1;
        let error = parse_all(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "cannot read some-file");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn bytes_after_the_last_image_are_an_error() {
        let mut bytes = good();
        bytes.push(0);
        let message = message(&bytes);
        assert!(message.contains("goes on after the 46 bytes"), "{message}");
    }

    #[test]
    fn a_header_is_not_trusted() {
        let huge = file([IMAGES, u32::MAX, u32::MAX, u32::MAX], [1, 2, 3]);
        assert!(message(&huge).contains("has 19 bytes"));
        assert!(message(&file([IMAGES, 0, 28, 28], [])).contains("announces 0 images of 28x28"));
        let bomb = gzip(&[&file([IMAGES, 1, 2, 2], [0; 4])[..], &vec![0; 1 << 24]].concat());
        assert!(message(&bomb).contains("goes on after the 20 bytes"));
    }
}

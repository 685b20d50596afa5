//! Where images come from: one file a format, all to the same bytes.
//!
//! - [`open`] recognises what a path holds: a folder or an archive of pictures, CIFAR-10's binaries,
//!   IDX files.
//! - [`Images`] is the set in memory, and the only place that maps bytes to `[-1, 1]`.
//! - [`resample`]: resizing with the bytes of Pillow.
//! - [`Order`] says which example a position of training means, [`flip`] whether it is mirrored.
//!
//! A set is held in memory as bytes, one for each number: 50,000 images of CIFAR-10 are 154 MB,
//! 70,000 of 256x256 in colour are 13.8 GB. `data.size` and `data.limit` make it smaller.

mod archive;
mod cifar10;
mod decode;
mod examples;
mod fit;
mod folder;
mod idx;
mod lmdb;
mod order;
mod pictures;
pub mod resample;

use std::path::{Path, PathBuf};

use crate::error::DataError;
pub use examples::Examples;
pub use order::{Order, flip};

/// How to read a set. The default reads all of it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Side of the square that every image is brought to, in pixels: the short side is resized to
    /// it and the middle is kept. `None` keeps sizes, which then must all be equal.
    pub size: Option<usize>,
    /// 1 (grey) or 3 (colour): every image is brought to it. `None` keeps what the files store,
    /// which then must be all grey or all colour; a colour file with grey content is colour.
    pub channels: Option<usize>,
    /// Leave out pictures that cannot be read, and record them in [`Images::skipped`].
    pub skip_bad: bool,
    /// Read the first so many images only.
    pub limit: Option<usize>,
}

impl ReadOptions {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// [`DataError::Option`] with the first offending field.
    pub fn validate(&self) -> Result<(), DataError> {
        const SIDE: std::ops::RangeInclusive<usize> = 1..=16_384;
        let bad = |field, found, expected| {
            Err(DataError::Option {
                field,
                found,
                expected,
            })
        };
        match *self {
            Self {
                size: Some(size), ..
            } if !SIDE.contains(&size) => bad("data.size", size, "1 to 16384"),
            Self {
                channels: Some(channels),
                ..
            } if ![1, 3].contains(&channels) => {
                bad("data.channels", channels, "1 (grey) or 3 (colour)")
            }
            Self { limit: Some(0), .. } => bad("data.limit", 0, "at least 1"),
            _ => Ok(()),
        }
    }
}

/// A picture that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why, with all causes.
    pub reason: String,
}

/// A set of images of one shape, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// All images one after another, each `[height, width, channels]`, 0 to 255.
    pub bytes: Vec<u8>,
    /// What [`ReadOptions::skip_bad`] left out, in path order.
    pub skipped: Vec<Skipped>,
}

impl Images {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.bytes.len().checked_div(self.image_len()).unwrap_or(0)
    }

    /// Whether there is no image. What [`open`] returns is never empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of every image, `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// The bytes of image `i`, `[height, width, channels]`.
    ///
    /// # Panics
    /// If there is no image `i`.
    pub fn image(&self, i: usize) -> &[u8] {
        assert!(i < self.len(), "image {i} of {}", self.len());
        &self.bytes[i * self.image_len()..][..self.image_len()]
    }

    /// Writes image `i` as `x_0` in `[-1, 1]`, mirrored left to right if `flip`.
    ///
    /// ```text
    /// x_0 = byte / 127.5 - 1
    /// ```
    ///
    /// # Shapes
    /// - `out`: `[height, width, channels]`
    ///
    /// # Panics
    /// If there is no image `i` or `out` has another length.
    ///
    /// # Examples
    /// ```
    /// use smd::data::Images;
    ///
    /// let (height, width, channels) = (1, 2, 1);
    /// let images = Images { height, width, channels, bytes: vec![0, 255], skipped: vec![] };
    /// let mut x_0 = [0.0; 2];
    /// images.write_example(0, true, &mut x_0);
    /// assert_eq!(x_0, [1.0, -1.0]);
    /// ```
    pub fn write_example(&self, i: usize, flip: bool, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            self.image_len(),
            "one number for each byte of an image"
        );
        let image = self.image(i);
        if !flip {
            write_pixels(image, out);
            return;
        }
        let row = self.width * self.channels;
        for (from, to) in image.chunks_exact(row).zip(out.chunks_exact_mut(row)) {
            let pixels = from.chunks_exact(self.channels).rev();
            for (from, to) in pixels.zip(to.chunks_exact_mut(self.channels)) {
                write_pixels(from, to);
            }
        }
    }

    /// Bytes of one image.
    fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }
}

fn write_pixels(bytes: &[u8], out: &mut [f32]) {
    for (&byte, x_0) in bytes.iter().zip(out) {
        *x_0 = f32::from(byte) / 127.5 - 1.0;
    }
}

/// Reads the images at `path`, whatever they are.
///
/// A folder is CIFAR-10 if it holds `data_batch_*.bin` (all of them: the 50,000 of the train split;
/// without them, `test_batch.bin`), an IDX set if it holds a `*idx3-ubyte` or `*idx3-ubyte.gz`
/// (`train-images` before any other), an LMDB as LSUN's
/// if it holds `data.mdb`, shards if it holds `*.tar`, and else a tree of PNG, JPEG, WebP,
/// TIFF and BMP files. A file is CIFAR-10 if its name ends in `.bin`, an archive of pictures if in `.zip`, `.mdb`
/// or `.tar`, and else IDX, plain or gzip.
///
/// # Errors
/// The first thing wrong, in path order; never an empty set.
pub fn open(path: &Path, options: &ReadOptions) -> Result<Images, DataError> {
    options.validate()?;
    let read = |source| DataError::Read {
        path: path.to_owned(),
        source,
    };

    if !std::fs::metadata(path).map_err(read)?.is_dir() {
        return match path.extension() {
            Some(end) if end.eq_ignore_ascii_case("bin") => {
                cifar10::read(&[path.to_owned()], options)
            }
            Some(end) if end.eq_ignore_ascii_case("zip") => {
                pictures::read(&archive::Zip::open(path)?, options)
            }
            Some(end) if end.eq_ignore_ascii_case("mdb") => {
                pictures::read(&lmdb::Lmdb::open(path)?, options)
            }
            Some(end) if end.eq_ignore_ascii_case("tar") => {
                let tars = archive::Tars::open(path, &[path.to_owned()])?;
                pictures::read(&tars, options)
            }
            _ => idx::read(path, options),
        };
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let names: Vec<String> = entries
        .map_err(read)?
        .iter()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    if let Some(files) = cifar10::choose(&names) {
        let files: Vec<PathBuf> = files.iter().map(|name| path.join(name)).collect();
        return cifar10::read(&files, options);
    }
    if names.iter().any(|name| name == lmdb::FILE) {
        return pictures::read(&lmdb::Lmdb::open(path)?, options);
    }
    let mut tars: Vec<PathBuf> = names
        .iter()
        .filter(|name| name.ends_with(".tar"))
        .map(|name| path.join(name))
        .collect();
    if !tars.is_empty() {
        tars.sort_unstable();
        return pictures::read(&archive::Tars::open(path, &tars)?, options);
    }
    match idx::choose(&names) {
        Some(name) => idx::read(&path.join(name), options),
        None => folder::read(path, options),
    }
}

/// Reads IDX images, plain or gzip, from memory; `name` stands for them in errors.
///
/// # Errors
/// As [`open`] for an IDX file.
pub fn from_idx(name: &Path, bytes: &[u8], options: &ReadOptions) -> Result<Images, DataError> {
    options.validate()?;
    idx::parse(name, bytes, options)
}

/// An error and its causes in one line.
fn chain(error: &DataError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_images() -> Images {
        let bytes = (0..12).chain(240..252).collect();
        Images {
            height: 2,
            width: 2,
            channels: 3,
            bytes,
            skipped: vec![],
        }
    }

    #[test]
    fn images_are_indexed_one_after_another() {
        let images = two_images();
        assert_eq!(images.len(), 2);
        assert_eq!(images.shape(), [2, 2, 3]);
        assert_eq!(images.image(1), (240..252).collect::<Vec<u8>>());
    }

    #[test]
    fn an_example_is_in_minus_one_to_one() {
        let images = Images {
            height: 1,
            width: 256,
            channels: 1,
            bytes: (0..=255).collect(),
            skipped: vec![],
        };
        let mut x_0 = [0.0; 256];
        images.write_example(0, false, &mut x_0);
        assert_eq!((x_0[0], x_0[255]), (-1.0, 1.0));
        for (byte, x_0) in x_0.iter().enumerate() {
            assert_eq!(((x_0 + 1.0) * 127.5).round() as usize, byte);
        }
    }

    #[test]
    fn a_flip_mirrors_columns_and_keeps_rows_and_channels() {
        let images = two_images();
        let mut x_0 = [0.0; 12];
        images.write_example(0, true, &mut x_0);
        let bytes: Vec<u8> = x_0
            .iter()
            .map(|x_0| ((x_0 + 1.0) * 127.5).round() as u8)
            .collect();
        assert_eq!(bytes, [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]);
    }

    #[test]
    #[should_panic(expected = "one number for each byte of an image")]
    fn an_example_of_another_length_panics() {
        two_images().write_example(0, false, &mut [0.0; 11]);
    }

    #[test]
    #[should_panic(expected = "image 2 of 2")]
    fn an_image_past_the_end_panics() {
        two_images().image(2);
    }

    #[test]
    fn options_outside_their_range_are_named() {
        let message = |options: ReadOptions| options.validate().unwrap_err().to_string();
        let all = ReadOptions::default();
        assert_eq!(
            message(ReadOptions {
                channels: Some(2),
                ..all.clone()
            }),
            "`data.channels` is 2, expected 1 (grey) or 3 (colour)"
        );
        assert_eq!(
            message(ReadOptions {
                size: Some(0),
                ..all.clone()
            }),
            "`data.size` is 0, expected 1 to 16384"
        );
        assert_eq!(
            message(ReadOptions {
                limit: Some(0),
                ..all
            }),
            "`data.limit` is 0, expected at least 1"
        );
    }

    #[test]
    fn a_path_that_does_not_exist_is_named() {
        let error = open(Path::new("/no/such/set"), &ReadOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /no/such/set");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn a_folder_without_images_lists_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "no pixels").unwrap();
        let error = open(folder.path(), &ReadOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("holds no images: files ending in .png, .jpg, .jpeg"),
            "{error}"
        );
        assert!(
            error.contains(&folder.path().display().to_string()),
            "{error}"
        );
    }
}

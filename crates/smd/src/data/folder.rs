//! A folder of pictures, with its sub-folders.
//!
//! Files with other endings and hidden ones (`.name`) are passed over; links are followed.

use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::pictures::{self, Entries, is_picture};
use super::{Images, ReadOptions};
use crate::error::DataError;

/// Reads every picture under `folder`.
///
/// # Errors
/// As [`pictures::read`].
pub(super) fn read(folder: &Path, options: &ReadOptions) -> Result<Images, DataError> {
    let files = list(folder)?;
    pictures::read(&Folder { folder, files }, options)
}

struct Folder<'a> {
    folder: &'a Path,
    files: Vec<PathBuf>,
}

impl Entries for Folder<'_> {
    fn path(&self) -> &Path {
        self.folder
    }

    fn names(&self) -> &[PathBuf] {
        &self.files
    }

    fn read(&self, i: usize) -> Result<Vec<u8>, DataError> {
        let path = &self.files[i];
        std::fs::read(path).map_err(|source| DataError::Read {
            path: path.clone(),
            source,
        })
    }
}

/// The pictures under `folder`, sorted by path.
fn list(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let hidden = |entry: &DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    let walk = WalkDir::new(folder).follow_links(true).into_iter();
    let mut files = vec![];
    for entry in walk.filter_entry(|entry| entry.depth() == 0 || !hidden(entry)) {
        let entry = entry.map_err(|error| DataError::Read {
            path: error.path().unwrap_or(folder).to_owned(),
            source: error.into(),
        })?;
        if entry.file_type().is_file() && is_picture(entry.path()) {
            files.push(entry.into_path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::chain;
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage};
    use tempfile::TempDir;

    fn folder() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn colour(folder: &TempDir, name: &str, side: [u32; 2], value: u8) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(side[1], side[0], Rgb([value, 0, 255 - value]))
            .save(path)
            .unwrap();
    }

    fn grey(folder: &TempDir, name: &str, side: u32, value: u8) {
        GrayImage::from_pixel(side, side, Luma([value]))
            .save(folder.path().join(name))
            .unwrap();
    }

    fn broken(folder: &TempDir, name: &str) {
        std::fs::write(folder.path().join(name), b"\x89PNG\r\n\x1a\nand no more").unwrap();
    }

    fn all() -> ReadOptions {
        ReadOptions::default()
    }

    fn reds(images: &Images) -> Vec<u8> {
        (0..images.len()).map(|i| images.image(i)[0]).collect()
    }

    fn message(folder: &TempDir, options: &ReadOptions) -> String {
        super::super::open(folder.path(), options)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn pictures_are_read_with_subfolders_in_path_order() {
        let folder = folder();
        for (name, value) in [
            ("b.PNG", 2),
            ("a/z.bmp", 1),
            ("c/d/e.webp", 3),
            ("z.tif", 4),
        ] {
            colour(&folder, name, [4, 6], value);
        }
        colour(&folder, ".hidden.png", [4, 6], 9);
        colour(&folder, ".thumbs/x.png", [4, 6], 9);
        std::fs::write(folder.path().join("labels.csv"), "a,b").unwrap();
        let images = super::super::open(folder.path(), &all()).unwrap();
        assert_eq!(images.shape(), [4, 6, 3]);
        assert_eq!(reds(&images), [1, 2, 3, 4]);
        assert!(images.skipped.is_empty());
    }

    #[test]
    fn a_hidden_root_is_read() {
        let folder = folder();
        colour(&folder, ".cache/a.png", [2, 2], 5);
        assert_eq!(
            reds(&read(&folder.path().join(".cache"), &all()).unwrap()),
            [5]
        );
    }

    #[test]
    fn odd_sizes_come_to_one_size() {
        let folder = folder();
        for (i, side) in [[7, 31], [64, 5], [16, 16], [1, 1], [33, 100]]
            .into_iter()
            .enumerate()
        {
            colour(&folder, &format!("{i}.png"), side, 10 * i as u8);
        }
        let images = read(
            folder.path(),
            &ReadOptions {
                size: Some(16),
                ..all()
            },
        )
        .unwrap();
        assert_eq!(images.shape(), [16, 16, 3]);
        assert_eq!(reds(&images), [0, 10, 20, 30, 40]);
    }

    #[test]
    fn two_sizes_without_a_size_name_both_files_and_the_fix() {
        let folder = folder();
        colour(&folder, "a.png", [4, 6], 0);
        colour(&folder, "b.png", [5, 6], 0);
        let message = message(&folder, &all());
        assert!(
            message.contains("b.png is 6x5 (width x height), but "),
            "{message}"
        );
        assert!(
            message.contains("a.png is 6x4: set `data.size`"),
            "{message}"
        );
    }

    #[test]
    fn grey_files_are_one_channel_and_colour_files_three() {
        let folder = folder();
        grey(&folder, "b.png", 4, 7);
        assert_eq!(read(folder.path(), &all()).unwrap().shape(), [4, 4, 1]);

        colour(&folder, "a.png", [4, 4], 0);
        let message = message(&folder, &all());
        let names = [
            "b.png is grey, but ",
            "a.png is in colour: set `data.channels` to 1 or 3",
        ];
        assert!(names.iter().all(|name| message.contains(name)), "{message}");

        let images = read(
            folder.path(),
            &ReadOptions {
                channels: Some(3),
                ..all()
            },
        )
        .unwrap();
        assert_eq!(images.image(1)[..6], [7; 6]);
        let images = read(
            folder.path(),
            &ReadOptions {
                channels: Some(1),
                ..all()
            },
        )
        .unwrap();
        assert_eq!(images.shape(), [4, 4, 1]);
    }

    #[test]
    fn the_first_bad_file_in_path_order_is_reported() {
        let folder = folder();
        colour(&folder, "a.png", [4, 4], 0);
        for name in ["d.png", "b.png", "c.png"] {
            broken(&folder, name);
        }
        let text = chain(&read(folder.path(), &all()).unwrap_err());
        assert!(
            text.starts_with("an image cannot be used; replace it, or leave such files out with"),
            "{text}"
        );
        assert!(text.contains("b.png is not a readable image: "), "{text}");
    }

    #[test]
    fn bad_files_are_left_out_and_recorded_on_request() {
        let folder = folder();
        broken(&folder, "a.png");
        colour(&folder, "b.png", [4, 4], 1);
        broken(&folder, "c.jpg");
        colour(&folder, "d.png", [4, 4], 2);
        colour(&folder, "e.png", [4, 4], 3);
        let options = ReadOptions {
            skip_bad: true,
            ..all()
        };
        let images = read(folder.path(), &options).unwrap();
        assert_eq!(reds(&images), [1, 2, 3]);
        let skipped: Vec<_> = images
            .skipped
            .iter()
            .map(|s| s.path.file_name().unwrap())
            .collect();
        assert_eq!(skipped, ["a.png", "c.jpg"]);
        let reason = &images.skipped[0].reason;
        assert!(reason.contains("a.png is not a readable image"), "{reason}");
        assert!(!reason.contains("skip_bad"), "{reason}");

        let two = read(
            folder.path(),
            &ReadOptions {
                limit: Some(2),
                ..options
            },
        )
        .unwrap();
        assert_eq!(reds(&two), [1, 2]);
    }

    #[test]
    fn a_folder_of_bad_files_is_an_error_even_then() {
        let folder = folder();
        broken(&folder, "a.png");
        broken(&folder, "b.png");
        let error = read(
            folder.path(),
            &ReadOptions {
                skip_bad: true,
                ..all()
            },
        )
        .unwrap_err();
        let text = chain(&error);
        assert!(
            text.contains("none of the 2 images could be read"),
            "{text}"
        );
        assert!(text.contains("a.png is not a readable image"), "{text}");
        assert!(!text.contains("skip_bad"), "{text}");
    }

    #[test]
    fn the_limit_reads_no_further() {
        let folder = folder();
        colour(&folder, "a.png", [4, 4], 1);
        broken(&folder, "b.png");
        let one = read(
            folder.path(),
            &ReadOptions {
                limit: Some(1),
                ..all()
            },
        )
        .unwrap();
        assert_eq!(reds(&one), [1]);
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bytes() {
        let folder = folder();
        for i in 0..40 {
            colour(&folder, &format!("{i}.jpg"), [20 + i, 50 - i], 6 * i as u8);
        }
        broken(&folder, "5x.png");
        let options = ReadOptions {
            size: Some(8),
            skip_bad: true,
            ..all()
        };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| read(folder.path(), &options).unwrap())
        };
        assert_eq!(run(1), run(2));
    }
}

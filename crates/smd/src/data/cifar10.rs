//! CIFAR-10's official binary files (Krizhevsky 2009).
//!
//! ```text
//! record = label (1 byte, 0 to 9), red plane, green plane, blue plane (1024 bytes each, row by row)
//! ```

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::fit::fit_all;
use super::{Images, ReadOptions};
use crate::error::DataError;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;

/// The files of a folder that make a set: the train split if there is one, else the test split.
pub(super) fn choose(names: &[String]) -> Option<Vec<String>> {
    let is_train = |name: &&String| name.starts_with("data_batch_") && name.ends_with(".bin");
    let mut train: Vec<String> = names.iter().filter(is_train).cloned().collect();
    train.sort_unstable();
    if !train.is_empty() {
        return Some(train);
    }
    names
        .iter()
        .find(|name| *name == "test_batch.bin")
        .map(|test| vec![test.clone()])
}

/// Reads the files one after another; labels are checked and dropped.
///
/// # Errors
/// The first file that is not a whole number of records or has a label above 9.
pub(super) fn read(files: &[PathBuf], options: &ReadOptions) -> Result<Images, DataError> {
    let mut left = options.limit.unwrap_or(usize::MAX);
    let mut bytes = vec![];
    for path in files {
        let read = |source| DataError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::read(path).map_err(read)?;
        check(path, &file)?;

        let records = left.min(file.len() / RECORD);
        left -= records;
        let start = bytes.len();
        bytes.resize(start + records * 3 * PLANE, 0);
        bytes[start..]
            .par_chunks_exact_mut(3 * PLANE)
            .zip(file.par_chunks_exact(RECORD))
            .for_each(|(image, record)| interleave(&record[1..], image));
    }
    let images = Images {
        height: SIDE,
        width: SIDE,
        channels: 3,
        bytes,
        skipped: vec![],
    };
    Ok(fit_all(images, options))
}

fn check(path: &Path, file: &[u8]) -> Result<(), DataError> {
    if file.is_empty() || !file.len().is_multiple_of(RECORD) {
        let records = ((file.len() + RECORD / 2) / RECORD).max(1);
        return Err(DataError::CifarLength {
            path: path.to_owned(),
            found: file.len() as u64,
            expected: (records * RECORD) as u64,
        });
    }
    match file.chunks_exact(RECORD).position(|record| record[0] > 9) {
        Some(record) => {
            let (path, found) = (path.to_owned(), file[record * RECORD]);
            Err(DataError::CifarLabel {
                path,
                record,
                found,
            })
        }
        None => Ok(()),
    }
}

/// From three planes to `[height, width, channels]`.
fn interleave(planes: &[u8], image: &mut [u8]) {
    for (i, pixel) in image.chunks_exact_mut(3).enumerate() {
        pixel.copy_from_slice(&[planes[i], planes[PLANE + i], planes[2 * PLANE + i]]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::*;

    /// Record `i`: planes of `i`, `i + 1` and `i + 2`, but for the second pixel's red, 200.
    fn records(range: std::ops::Range<u8>) -> Vec<u8> {
        let record = |i: u8| {
            let mut record = vec![i % 10];
            (i..i + 3).for_each(|value| record.extend([value; PLANE]));
            record[2] = 200;
            record
        };
        range.flat_map(record).collect()
    }

    fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn message(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "data_batch_1.bin", bytes);
        open(&path, &ReadOptions::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_folder_is_its_train_split_in_order() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "test_batch.bin", &records(100..103));
        let test = open(folder.path(), &ReadOptions::default()).unwrap();
        assert_eq!((test.len(), test.image(0)[0]), (3, 100));

        write(folder.path(), "data_batch_2.bin", &records(4..6));
        write(folder.path(), "data_batch_1.bin", &records(0..4));
        let train = open(folder.path(), &ReadOptions::default()).unwrap();
        assert_eq!((train.len(), train.shape()), (6, [32, 32, 3]));
        for i in 0..6u8 {
            assert_eq!(
                train.image(i.into())[..6],
                [i, i + 1, i + 2, 200, i + 1, i + 2]
            );
        }
        let five = open(
            folder.path(),
            &ReadOptions {
                limit: Some(5),
                ..ReadOptions::default()
            },
        );
        assert_eq!(five.unwrap().bytes, train.bytes[..5 * 3 * PLANE]);
    }

    #[test]
    fn size_and_channels_are_applied() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "any.bin", &records(0..2));
        let options = ReadOptions {
            size: Some(16),
            channels: Some(1),
            ..ReadOptions::default()
        };
        assert_eq!(open(&path, &options).unwrap().shape(), [16, 16, 1]);
    }

    #[test]
    fn a_short_file_names_the_nearest_length() {
        let mut bytes = records(0..3);
        bytes.pop();
        let message = message(&bytes);
        assert!(
            message.contains("data_batch_1.bin has 9218 bytes"),
            "{message}"
        );
        assert!(
            message.contains("expected a multiple of 3073, say 9219"),
            "{message}"
        );
    }

    #[test]
    fn an_empty_file_is_short() {
        assert!(message(&[]).contains("has 0 bytes, expected a multiple of 3073, say 3073"));
    }

    #[test]
    fn a_label_above_nine_asks_what_the_file_is() {
        let mut bytes = records(0..3);
        bytes[RECORD] = 10;
        let message = message(&bytes);
        assert!(
            message.contains("record 1 has label 10, expected 0 to 9"),
            "{message}"
        );
        assert!(message.contains("is this a CIFAR-10 file?"), "{message}");
    }
}

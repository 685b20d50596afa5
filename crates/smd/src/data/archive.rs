//! Pictures in archives: a zip, as EDM makes them, and tar files, as WebDataset cuts sets into.
//!
//! Nothing is unpacked to the disk. Other entries (`dataset.json`, labels) and hidden ones are passed over. Sizes
//! that an archive announces are bounded before memory is asked for.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zip::ZipArchive;

use super::pictures::{Entries, MOST_BYTES, is_picture};
use crate::error::DataError;

/// A zip.
pub(super) struct Zip {
    path: PathBuf,
    /// `path/entry`, sorted.
    names: Vec<PathBuf>,
    /// Where each is in the archive's list.
    indexes: Vec<usize>,
    /// Reading is short beside decoding, so one reader is enough.
    zip: Mutex<ZipArchive<BufReader<File>>>,
}

impl Zip {
    /// Reads the list of entries.
    ///
    /// # Errors
    /// A file that is no zip, or is cut short: the list is at its end.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let file = BufReader::new(open(path)?);
        let zip = ZipArchive::new(file).map_err(|error| damaged(path, error))?;
        let mut found: Vec<(PathBuf, usize)> = vec![];
        for name in zip.file_names() {
            let name = name.map_err(|error| damaged(path, error))?;
            let index = zip.index_for_name(&name);
            found.extend(
                index
                    .filter(|_| wanted(Path::new(&*name)))
                    .map(|at| (path.join(&*name), at)),
            );
        }
        found.sort_unstable();
        let (names, indexes) = found.into_iter().unzip();
        Ok(Self {
            path: path.to_owned(),
            names,
            indexes,
            zip: Mutex::new(zip),
        })
    }
}

impl Entries for Zip {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> &[PathBuf] {
        &self.names
    }

    fn read(&self, i: usize) -> Result<Vec<u8>, DataError> {
        let mut zip = self.zip.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = zip.by_index(self.indexes[i]);
        let entry = entry.map_err(|error| damaged(&self.names[i], error))?;
        bounded(&self.names[i], entry.size(), entry)
    }
}

/// Tar files, one behind the other.
pub(super) struct Tars {
    path: PathBuf,
    names: Vec<PathBuf>,
    /// File, first byte and length of each.
    places: Vec<(usize, u64, u64)>,
    files: Vec<Mutex<File>>,
}

impl Tars {
    /// Reads all headers; `path` is the set, of which `tars` are the parts.
    ///
    /// # Errors
    /// A file that is no tar, or is cut short.
    pub(super) fn open(path: &Path, tars: &[PathBuf]) -> Result<Self, DataError> {
        let mut found = vec![];
        let mut files = vec![];
        for tar in tars {
            let file = open(tar)?;
            let length = file
                .metadata()
                .map_err(|source| read_error(tar, source))?
                .len();
            let mut archive = tar::Archive::new(file);
            let entries = archive
                .entries_with_seek()
                .map_err(|error| damaged(tar, error))?;
            for entry in entries {
                let entry = entry.map_err(|error| damaged(tar, error))?;
                let name = entry
                    .path()
                    .map_err(|error| damaged(tar, error))?
                    .into_owned();
                let place = (files.len(), entry.raw_file_position(), entry.size());
                let past = place.1.checked_add(place.2);
                if past.is_none_or(|past| past > length) {
                    let said = format!("it ends inside {}: the file is cut short", name.display());
                    return Err(damaged(tar, said));
                }
                if entry.header().entry_type().is_file() && wanted(&name) {
                    found.push((tar.join(name), place));
                }
            }
            files.push(Mutex::new(archive.into_inner()));
        }
        // By what is in them: cutting a set otherwise does not change its order.
        let inner = |(name, place): &(PathBuf, (usize, u64, u64))| {
            let inner = name.strip_prefix(&tars[place.0]).unwrap_or(name);
            (inner.to_owned(), place.0)
        };
        found.sort_by_cached_key(inner);
        let (names, places) = found.into_iter().unzip();
        let path = path.to_owned();
        Ok(Self {
            path,
            names,
            places,
            files,
        })
    }
}

impl Entries for Tars {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> &[PathBuf] {
        &self.names
    }

    fn read(&self, i: usize) -> Result<Vec<u8>, DataError> {
        let (file, first, length) = self.places[i];
        let mut file = self.files[file]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let seek = file.seek(SeekFrom::Start(first));
        seek.map_err(|source| read_error(&self.names[i], source))?;
        bounded(&self.names[i], length, &mut *file)
    }
}

/// The bytes of an entry that announces `length` of them.
fn bounded(name: &Path, length: u64, from: impl Read) -> Result<Vec<u8>, DataError> {
    if length > MOST_BYTES {
        let said = format!("it announces {length} bytes; a picture has at most {MOST_BYTES}");
        return Err(damaged(name, said));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // One more than announced: a longer entry shows, and a zip's check sum is looked at only at its end.
    let read = from.take(length + 1).read_to_end(&mut bytes);
    read.map_err(|error| damaged(name, error))?;
    // A tar goes on behind the entry.
    if (bytes.len() as u64) < length {
        let said = format!("it has {} bytes of {length}", bytes.len());
        return Err(damaged(name, said));
    }
    bytes.truncate(length as usize);
    Ok(bytes)
}

/// Whether an entry is a picture that is read: not hidden, nor in a hidden folder, as in folders.
fn wanted(name: &Path) -> bool {
    let hidden = |part: Component| part.as_os_str().as_encoded_bytes().starts_with(b".");
    is_picture(name)
        && !name
            .components()
            .filter(|part| *part != Component::CurDir)
            .any(hidden)
}

fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|source| read_error(path, source))
}

fn read_error(path: &Path, source: std::io::Error) -> DataError {
    DataError::Read {
        path: path.to_owned(),
        source,
    }
}

fn damaged(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DataError {
    DataError::Archive {
        path: path.to_owned(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Images, ReadOptions, chain, open};
    use super::*;
    use image::{Rgb, RgbImage};
    use std::io::{Cursor, Write};
    use zip::write::{SimpleFileOptions, ZipWriter};

    const NAMES: [&str; 4] = ["00/b.png", "00/a.png", "01/c.png", "d.png"];

    /// A picture as a PNG, and what else such sets hold.
    fn entries() -> Vec<(String, Vec<u8>)> {
        let png = |i: usize| {
            let mut file = Cursor::new(vec![]);
            let pixel = |x: u32, y: u32| Rgb([x as u8 * 40, y as u8 * 40, i as u8]);
            RgbImage::from_fn(5, 4, pixel)
                .write_to(&mut file, image::ImageFormat::Png)
                .unwrap();
            file.into_inner()
        };
        let pictures = NAMES
            .iter()
            .enumerate()
            .map(|(i, name)| ((*name).to_owned(), png(i)));
        let other = [
            ("dataset.json".to_owned(), b"{}".to_vec()),
            (".hidden/x.png".into(), vec![1]),
        ];
        pictures.chain(other).collect()
    }

    fn write_zip(path: &Path, method: zip::CompressionMethod) {
        let mut zip = ZipWriter::new(File::create(path).unwrap());
        for (name, bytes) in entries() {
            let options = SimpleFileOptions::DEFAULT.compression_method(method);
            zip.start_file(name, options).unwrap();
            zip.write_all(&bytes).unwrap();
        }
        zip.finish().unwrap();
    }

    fn write_tar(path: &Path, entries: &[(String, Vec<u8>)]) {
        let mut tar = tar::Builder::new(File::create(path).unwrap());
        for (name, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        tar.finish().unwrap();
    }

    fn read(path: &Path) -> Result<Images, DataError> {
        open(path, &ReadOptions::default())
    }

    #[test]
    fn every_way_to_keep_a_set_is_the_same_set() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, bytes) in entries() {
            let path = at("plain").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        write_zip(&at("stored.zip"), zip::CompressionMethod::Stored);
        write_zip(&at("small.zip"), zip::CompressionMethod::Deflated);
        write_tar(&at("one.tar"), &entries());
        std::fs::create_dir(at("shards")).unwrap();
        write_tar(&at("shards/00.tar"), &entries()[..3]);
        write_tar(&at("shards/01.tar"), &entries()[3..]);
        let plain = read(&at("plain")).unwrap();
        assert_eq!(plain.len(), 4);
        let blues: Vec<u8> = (0..4).map(|i| plain.image(i)[2]).collect();
        assert_eq!(blues, [1, 0, 2, 3]);
        for name in ["stored.zip", "small.zip", "one.tar", "shards"] {
            assert_eq!(read(&at(name)).unwrap(), plain, "{name}");
        }
    }

    #[test]
    fn archives_cut_short_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_zip(&at("a.zip"), zip::CompressionMethod::Stored);
        write_tar(&at("a.tar"), &entries());
        for name in ["a.zip", "a.tar"] {
            let bytes = std::fs::read(at(name)).unwrap();
            std::fs::write(at(name), &bytes[..600]).unwrap();
            let text = chain(&read(&at(name)).unwrap_err());
            assert!(
                text.contains(name) && text.contains("damaged or cut short"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_damaged_entry_is_named_and_may_be_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        write_zip(&path, zip::CompressionMethod::Stored);
        let mut bytes = std::fs::read(&path).unwrap();
        // Behind the name in the first local header lies the first picture.
        let at = bytes.windows(4).position(|four| four == b"IDAT").unwrap();
        bytes[at + 6] ^= 0xff;
        std::fs::write(&path, bytes).unwrap();
        let text = chain(&read(&path).unwrap_err());
        assert!(text.contains("a.zip/00/b.png"), "{text}");
        let options = ReadOptions {
            skip_bad: true,
            ..ReadOptions::default()
        };
        let images = open(&path, &options).unwrap();
        assert_eq!((images.len(), images.skipped.len()), (3, 1));
    }

    #[test]
    fn an_entry_that_announces_too_much_is_refused() {
        let error = bounded(Path::new("a.zip/x.png"), MOST_BYTES + 1, &[][..]).unwrap_err();
        assert!(chain(&error).contains("at most"), "{}", chain(&error));
        let error = bounded(Path::new("a.zip/x.png"), 9, &[1, 2][..]).unwrap_err();
        assert!(chain(&error).contains("2 bytes of 9"), "{}", chain(&error));
    }
}

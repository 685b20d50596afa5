//! Arrays that numpy reads and writes: `.npy`, and `.npz`, a zip of them.
//!
//! Sizes are taken from a file only after they were checked: one that announces more than
//! [`MOST_BYTES`] is refused before memory is asked for.

use npyz::{AutoSerialize, NpyFile, Order, WriterBuilder};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Largest array that is read, in bytes: 500,000 rows of 2048 numbers in single precision.
pub const MOST_BYTES: u64 = 1 << 32;

/// Longest text that is read, in bytes.
const MOST_TEXT: u64 = 1 << 24;

/// An array, whatever its numbers are.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sides, the last one the fastest.
    pub shape: Vec<usize>,
    /// As many as the product of the sides.
    pub numbers: Numbers,
}

/// The numbers of an array.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "their names are numpy's")]
pub enum Numbers {
    Float64(Vec<f64>),
    Float32(Vec<f32>),
    Uint8(Vec<u8>),
}

/// Why a file of arrays was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpzError {
    /// The system said no.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// It is no archive, or not whole.
    #[error("{} is no archive of numpy, or is cut short: copy or make it again", .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What the reader of archives said.
        #[source]
        source: zip::result::ZipError,
    },
    /// An array is damaged.
    #[error("{}: the array {name} cannot be read; make the file again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The array.
        name: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// An array is of another kind.
    #[error("{}: the array {name} {found}, expected {expected}", .path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The array.
        name: String,
        /// What it is or has.
        found: String,
        /// What is read.
        expected: &'static str,
    },
}

impl Array {
    /// In double precision.
    pub fn into_f64(self) -> Vec<f64> {
        match self.numbers {
            Numbers::Float64(values) => values,
            Numbers::Float32(values) => values.into_iter().map(f64::from).collect(),
            Numbers::Uint8(values) => values.into_iter().map(f64::from).collect(),
        }
    }

    /// In single precision.
    pub fn into_f32(self) -> Vec<f32> {
        match self.numbers {
            Numbers::Float64(values) => values.into_iter().map(|x| x as f32).collect(),
            Numbers::Float32(values) => values,
            Numbers::Uint8(values) => values.into_iter().map(f32::from).collect(),
        }
    }
}

/// An open `.npz`.
#[derive(Debug)]
pub struct Npz {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
}

impl Npz {
    /// Opens it and reads its list of entries.
    ///
    /// # Errors
    /// A file that cannot be read or is no zip.
    pub fn open(path: &Path) -> Result<Self, NpzError> {
        let file = File::open(path).map_err(|source| NpzError::Read {
            path: path.to_owned(),
            source,
        })?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|source| NpzError::Archive {
            path: path.to_owned(),
            source,
        })?;
        let path = path.to_owned();
        Ok(Self { path, zip })
    }

    /// Whether there is an entry `name`.
    pub fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(name).is_some()
    }

    /// The array `name`, `None` where there is none.
    ///
    /// # Errors
    /// An array that is damaged, too large, or not of floats or bytes.
    pub fn array(&mut self, name: &str) -> Result<Option<Array>, NpzError> {
        let entry = format!("{name}.npy");
        if !self.has(&entry) {
            return Ok(None);
        }
        let path = self.path.clone();
        let entry = self
            .zip
            .by_name(&entry)
            .map_err(|source| NpzError::Archive {
                path: path.clone(),
                source,
            })?;
        let size = entry.size();
        read(entry, size, &path, name).map(Some)
    }

    /// The text of the entry `name`, `None` where there is none.
    ///
    /// # Errors
    /// An entry that is damaged, too large, or no UTF-8.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, NpzError> {
        if !self.has(name) {
            return Ok(None);
        }
        let path = self.path.clone();
        let entry = self.zip.by_name(name).map_err(|source| NpzError::Archive {
            path: path.clone(),
            source,
        })?;
        let mut text = String::new();
        let read = entry.take(MOST_TEXT).read_to_string(&mut text);
        read.map_err(|source| NpzError::Damaged {
            path,
            name: name.to_owned(),
            source,
        })?;
        Ok(Some(text))
    }
}

/// Reads a `.npy`.
///
/// # Errors
/// A file that cannot be read, is damaged, too large, or not of floats or bytes.
pub fn read_npy(path: &Path) -> Result<Array, NpzError> {
    let cannot = |source| NpzError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    read(BufReader::new(file), size, path, "of it")
}

/// One array out of `size` bytes.
fn read(from: impl Read, size: u64, path: &Path, name: &str) -> Result<Array, NpzError> {
    let kind = |found: String, expected| NpzError::Kind {
        path: path.to_owned(),
        name: name.to_owned(),
        found,
        expected,
    };
    let damaged = |source| NpzError::Damaged {
        path: path.to_owned(),
        name: name.to_owned(),
        source,
    };
    if size > MOST_BYTES {
        return Err(kind(format!("has {size} bytes"), "at most 4 GiB"));
    }
    let npy = NpyFile::new(from.take(size)).map_err(damaged)?;
    let shape: Vec<usize> = npy.shape().iter().map(|&side| side as usize).collect();
    let product = shape
        .iter()
        .try_fold(1, |all: usize, side| all.checked_mul(*side));
    if product.is_none_or(|product| product as u64 > size) {
        return Err(kind(
            format!("announces the shape {shape:?}"),
            "numbers that are in the file",
        ));
    }
    if npy.order() == Order::Fortran && shape.len() > 1 {
        return Err(kind(
            "is in Fortran order".into(),
            "C order: numpy.ascontiguousarray",
        ));
    }
    let npy = match npy.try_data::<f64>() {
        Ok(data) => {
            let numbers = data.collect::<io::Result<_>>().map_err(damaged)?;
            return Ok(Array {
                shape,
                numbers: Numbers::Float64(numbers),
            });
        }
        Err(npy) => npy,
    };
    let npy = match npy.try_data::<f32>() {
        Ok(data) => {
            let numbers = data.collect::<io::Result<_>>().map_err(damaged)?;
            return Ok(Array {
                shape,
                numbers: Numbers::Float32(numbers),
            });
        }
        Err(npy) => npy,
    };
    match npy.try_data::<u8>() {
        Ok(data) => {
            let numbers = data.collect::<io::Result<_>>().map_err(damaged)?;
            Ok(Array {
                shape,
                numbers: Numbers::Uint8(numbers),
            })
        }
        Err(npy) => {
            let found = format!("has the type {}", npy.dtype().descr());
            Err(kind(found, "float64, float32 or uint8"))
        }
    }
}

/// Writes a `.npz`. Nothing is compressed, since samples and features hardly shrink, and no clock is asked:
/// the same arrays give the same bytes.
pub struct NpzWriter<W: Write + Seek>(ZipWriter<W>);

impl<W: Write + Seek> NpzWriter<W> {
    /// An archive with no entry.
    pub fn new(file: W) -> Self {
        Self(ZipWriter::new(file))
    }

    /// Adds the array `name`.
    ///
    /// # Errors
    /// What the writer below said.
    ///
    /// # Panics
    /// If `values` do not fill `shape`.
    pub fn array<T: AutoSerialize>(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[T],
    ) -> io::Result<()> {
        assert_eq!(
            shape.iter().product::<usize>(),
            values.len(),
            "{name} of {shape:?}"
        );
        self.start(&format!("{name}.npy"))?;
        let shape: Vec<u64> = shape.iter().map(|size| *size as u64).collect();
        let builder = npyz::WriteOptions::new().default_dtype().shape(&shape);
        let mut npy = builder.writer(&mut self.0).begin_nd()?;
        npy.extend(values)?;
        npy.finish()
    }

    /// Adds an entry that is no array; numpy hands it out as bytes.
    ///
    /// # Errors
    /// What the writer below said.
    pub fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.start(name)?;
        self.0.write_all(text.as_bytes())
    }

    /// Writes the list of entries, without which it is no archive.
    ///
    /// # Errors
    /// What the writer below said.
    pub fn finish(self) -> io::Result<()> {
        self.0.finish()?;
        Ok(())
    }

    fn start(&mut self, name: &str) -> io::Result<()> {
        let options = SimpleFileOptions::DEFAULT
            .compression_method(CompressionMethod::Stored)
            .large_file(true);
        Ok(self.0.start_file(name, options)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(
        name: &str,
        fill: impl FnOnce(&mut NpzWriter<File>),
    ) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let mut npz = NpzWriter::new(File::create(&path).unwrap());
        fill(&mut npz);
        npz.finish().unwrap();
        (folder, path)
    }

    #[test]
    fn arrays_come_back() {
        let (_folder, path) = written("a.npz", |npz| {
            npz.array("mu", &[3], &[1.0_f64, -2.0, 1e-300]).unwrap();
            npz.array("pool", &[2, 2], &[1.5_f32, 0.0, f32::MAX, -1.0])
                .unwrap();
            npz.array("arr_0", &[1, 2], &[0_u8, 255]).unwrap();
            npz.text("manifest.json", "{}").unwrap();
        });
        let mut npz = Npz::open(&path).unwrap();
        let mu = npz.array("mu").unwrap().unwrap();
        assert_eq!(
            (mu.shape.clone(), mu.into_f64()),
            (vec![3], vec![1.0, -2.0, 1e-300])
        );
        let pool = npz.array("pool").unwrap().unwrap();
        assert_eq!(pool.into_f32(), [1.5, 0.0, f32::MAX, -1.0]);
        let bytes = npz.array("arr_0").unwrap().unwrap();
        assert_eq!(bytes.numbers, Numbers::Uint8(vec![0, 255]));
        assert!(npz.array("sigma").unwrap().is_none());
        assert_eq!(npz.text("manifest.json").unwrap().unwrap(), "{}");
    }

    #[test]
    fn other_types_and_lies_about_sizes_are_refused() {
        let (_folder, path) = written("a.npz", |npz| {
            npz.array("labels", &[2], &[1_i64, 2]).unwrap();
        });
        let error = Npz::open(&path).unwrap().array("labels").unwrap_err();
        assert!(
            error.to_string().contains("float64, float32 or uint8"),
            "{error}"
        );

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999,), }";
        bytes.extend(format!("{header:<117}\n").bytes());
        bytes.extend([0; 64]);
        std::fs::write(&path, &bytes).unwrap();
        let error = read_npy(&path).unwrap_err().to_string();
        assert!(
            error.contains("announces the shape [9999999999]"),
            "{error}"
        );
    }

    #[test]
    fn a_file_cut_short_is_refused() {
        let (_folder, path) = written("a.npz", |npz| {
            npz.array("mu", &[100], &[0.5_f64; 100]).unwrap();
        });
        let bytes = std::fs::read(&path).unwrap();
        for kept in [0, 10, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..kept]).unwrap();
            let error = Npz::open(&path).unwrap_err().to_string();
            assert!(
                error.contains("is no archive of numpy, or is cut short"),
                "{error}"
            );
        }
    }
}

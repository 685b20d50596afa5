//! Named tensors of another program's file: PyTorch's `.pt`, or safetensors.
//!
//! A `.pt` is a pickle, which Python would execute; here it is only parsed. Names are dotted paths
//! through its dictionaries: `model.model.init_conv.weight` for `file["model"]["model.init_conv.weight"]`.

use crate::error::ImportError;
use burn::tensor::{bf16, f16};
use pytorch_reader::{PickleValue, PytorchReader};
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// An opened file of named tensors. Numbers are read when they are asked for.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Torch(PytorchReader),
    Safetensors {
        bytes: Vec<u8>,
        /// Where the tensors begin in `bytes`.
        start: usize,
        header: Metadata,
    },
}

/// What a tensor's numbers are stored as, of the kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
}

impl TensorFile {
    /// Opens a file of either kind, told apart by its first bytes.
    ///
    /// # Errors
    /// A file that cannot be read, is cut off, or is of neither kind.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let read = |source| ImportError::Read {
            path: path.into(),
            source,
        };
        let mut begin = Vec::new();
        let file = File::open(path).map_err(read)?;
        file.take(9).read_to_end(&mut begin).map_err(read)?;
        let source = if is_safetensors(&begin) {
            let bytes = fs::read(path).map_err(read)?;
            // Also checks that every tensor lies inside the file.
            let damaged = |source| ImportError::damaged(path, source);
            SafeTensors::deserialize(&bytes).map_err(damaged)?;
            let (length, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
            Source::Safetensors {
                bytes,
                start: 8 + length,
                header,
            }
        } else {
            let damaged = |source| ImportError::damaged(path, source);
            Source::Torch(PytorchReader::new(path).map_err(damaged)?)
        };
        Ok(Self {
            path: path.into(),
            source,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = match &self.source {
            Source::Torch(reader) => reader.keys(),
            Source::Safetensors { header, .. } => header.offset_keys(),
        };
        names.sort();
        names
    }

    /// The shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        match &self.source {
            Source::Torch(reader) => reader.get(name).map(|tensor| tensor.shape()),
            Source::Safetensors { header, .. } => header.info(name).map(|info| &info.shape[..]),
        }
    }

    /// A text of a safetensors file's header.
    pub fn text(&self, field: &str) -> Option<&str> {
        match &self.source {
            Source::Torch(_) => None,
            Source::Safetensors { header, .. } => {
                let texts: Option<&HashMap<String, String>> = header.metadata().as_ref();
                texts?.get(field).map(String::as_str)
            }
        }
    }

    /// A whole number at the top of a `.pt`, as `file["step"]`.
    pub fn whole_number(&self, field: &str) -> Option<u64> {
        let Source::Torch(_) = &self.source else {
            return None;
        };
        match PytorchReader::read_pickle_data(&self.path, Some(field)) {
            Ok(PickleValue::Int(number)) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    /// The numbers of a tensor, from f64, f16 and bf16 rounded to f32.
    ///
    /// # Errors
    /// A tensor that is not there, not of floating point, or damaged.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>, ImportError> {
        let (kind, bytes) = self.bytes(name)?;
        match kind {
            Some(Kind::F32) => Ok(each(&bytes, f32::from_le_bytes)),
            Some(Kind::F64) => Ok(each(&bytes, |bytes| f64::from_le_bytes(bytes) as f32)),
            Some(Kind::F16) => Ok(each(&bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
            Some(Kind::Bf16) => Ok(each(&bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
            _ => Err(self.wrong_type(name, "floating point numbers")),
        }
    }

    /// The numbers of a tensor of whole numbers.
    ///
    /// # Errors
    /// A tensor that is not there, not of 32 or 64 bit integers, or damaged.
    pub fn whole_numbers(&self, name: &str) -> Result<Vec<i64>, ImportError> {
        let (kind, bytes) = self.bytes(name)?;
        match kind {
            Some(Kind::I64) => Ok(each(&bytes, i64::from_le_bytes)),
            Some(Kind::I32) => Ok(each(&bytes, |bytes| i64::from(i32::from_le_bytes(bytes)))),
            _ => Err(self.wrong_type(name, "whole numbers of 32 or 64 bits")),
        }
    }

    fn bytes(&self, name: &str) -> Result<(Option<Kind>, Vec<u8>), ImportError> {
        let missing = || ImportError::Missing {
            path: self.path.clone(),
            name: name.into(),
        };
        match &self.source {
            Source::Torch(reader) => {
                use pytorch_reader::DType;
                let tensor = reader.get(name).ok_or_else(missing)?;
                let kind = match tensor.dtype() {
                    DType::F64 => Some(Kind::F64),
                    DType::F32 => Some(Kind::F32),
                    DType::F16 => Some(Kind::F16),
                    DType::BF16 => Some(Kind::Bf16),
                    DType::I64 => Some(Kind::I64),
                    DType::I32 => Some(Kind::I32),
                    _ => None,
                };
                let bytes = tensor
                    .read()
                    .map_err(|error| ImportError::damaged(&self.path, error))?;
                Ok((kind, bytes))
            }
            Source::Safetensors {
                bytes,
                start,
                header,
            } => {
                use safetensors::Dtype;
                let info = header.info(name).ok_or_else(missing)?;
                let kind = match info.dtype {
                    Dtype::F64 => Some(Kind::F64),
                    Dtype::F32 => Some(Kind::F32),
                    Dtype::F16 => Some(Kind::F16),
                    Dtype::BF16 => Some(Kind::Bf16),
                    Dtype::I64 => Some(Kind::I64),
                    Dtype::I32 => Some(Kind::I32),
                    _ => None,
                };
                let (from, to) = info.data_offsets;
                Ok((kind, bytes[start + from..start + to].to_vec()))
            }
        }
    }

    fn wrong_type(&self, name: &str, expected: &'static str) -> ImportError {
        let found = match &self.source {
            Source::Torch(reader) => reader.get(name).map(|t| format!("{:?}", t.dtype())),
            Source::Safetensors { header, .. } => header.info(name).map(|t| t.dtype.to_string()),
        };
        ImportError::Type {
            path: self.path.clone(),
            name: name.into(),
            found: found.unwrap_or_default(),
            expected,
        }
    }
}

/// A length, then the brace that opens a JSON object.
fn is_safetensors(begin: &[u8]) -> bool {
    begin.get(8) == Some(&b'{') && !begin.starts_with(b"PK")
}

/// The numbers behind groups of `N` bytes.
fn each<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (groups, _) = bytes.as_chunks::<N>();
    groups.iter().map(|group| number(*group)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    fn saved(dtype: Dtype, bytes: &[u8], len: usize) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let view = TensorView::new(dtype, vec![len], bytes).unwrap();
        safetensors::serialize_to_file([("a", view)], None, &path).unwrap();
        (folder, path)
    }

    #[test]
    fn other_floating_point_types_become_f32() {
        let wide: Vec<u8> = [1.5_f64, -2.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let (_folder, path) = saved(Dtype::F64, &wide, 2);
        assert_eq!(
            TensorFile::open(&path).unwrap().numbers("a").unwrap(),
            [1.5, -2.0]
        );
        let (_folder, path) = saved(Dtype::F16, &[0x00, 0x3e, 0x00, 0xc0], 2);
        assert_eq!(
            TensorFile::open(&path).unwrap().numbers("a").unwrap(),
            [1.5, -2.0]
        );
        let (_folder, path) = saved(Dtype::BF16, &[0xc0, 0x3f, 0x00, 0xc0], 2);
        assert_eq!(
            TensorFile::open(&path).unwrap().numbers("a").unwrap(),
            [1.5, -2.0]
        );
    }

    #[test]
    fn a_type_that_does_not_fit_is_named() {
        let (_folder, path) = saved(Dtype::I32, &[1, 0, 0, 0], 1);
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.whole_numbers("a").unwrap(), [1]);
        let message = file.numbers("a").unwrap_err().to_string();
        assert!(
            message.ends_with("a holds I32, expected floating point numbers"),
            "{message}"
        );
        let message = file.numbers("b").unwrap_err().to_string();
        assert!(message.contains("has no tensor b"), "{message}");
    }

    #[test]
    fn neither_kind_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pt");
        fs::write(&path, "a text, not a pickle").unwrap();
        let message = TensorFile::open(&path).unwrap_err().to_string();
        assert!(
            message.contains("neither a PyTorch file nor safetensors"),
            "{message}"
        );
        let message = TensorFile::open(&folder.path().join("b"))
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("cannot read"), "{message}");
    }
}

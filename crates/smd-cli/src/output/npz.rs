//! Arrays that numpy reads: `numpy.load(path)["arr_0"]`, the name that guided-diffusion uses.

use std::io::{Seek, Write};
use std::path::Path;

use anyhow::Result;
use npyz::{AutoSerialize, WriterBuilder};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::{Images, write_beside};

/// The images as bytes, `[n, H, W, C]`.
///
/// # Errors
/// A folder that cannot be written; an older file of that name is then as it was.
pub fn write_npz(path: &Path, images: &Images) -> Result<()> {
    let [height, width, channels] = images.shape();
    let shape = [images.len(), height, width, channels];
    write_beside(path, |file| array(file, &shape, images.bytes()))
}

/// Vectors as `f32`, `[n, D]`.
///
/// # Errors
/// A folder that cannot be written; an older file of that name is then as it was.
///
/// # Panics
/// If `values` is not a whole number of vectors.
pub fn write_npz_vectors(path: &Path, values: &[f32], d: usize) -> Result<()> {
    assert_eq!(
        values.len() % d,
        0,
        "a whole number of vectors of {d} numbers"
    );
    write_beside(path, |file| array(file, &[values.len() / d, d], values))
}

fn array<T: AutoSerialize>(file: impl Write + Seek, shape: &[usize], values: &[T]) -> Result<()> {
    let mut zip = ZipWriter::new(file);
    // Samples hardly shrink. The same samples give the same bytes: no clock in the header.
    let options = SimpleFileOptions::DEFAULT
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    zip.start_file("arr_0.npy", options)?;
    let shape: Vec<u64> = shape.iter().map(|size| *size as u64).collect();
    let builder = npyz::WriteOptions::new().default_dtype().shape(&shape);
    let mut npy = builder.writer(&mut zip).begin_nd()?;
    npy.extend(values)?;
    npy.finish()?;
    zip.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::NpyFile;
    use std::fs::{self, File};
    use zip::ZipArchive;

    fn read<T: npyz::Deserialize>(path: &Path) -> (Vec<u64>, Vec<T>) {
        let mut zip = ZipArchive::new(File::open(path).unwrap()).unwrap();
        assert_eq!(zip.len(), 1);
        let npy = NpyFile::new(zip.by_name("arr_0.npy").unwrap()).unwrap();
        (npy.shape().to_vec(), npy.into_vec().unwrap())
    }

    #[test]
    fn images_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.npz");
        let values: Vec<f32> = (0..2 * 12).map(|i| i as f32 / 12.0 - 1.0).collect();
        for shape in [[3, 4, 1], [2, 2, 3]] {
            let images = Images::from_unit(&values, shape).unwrap();
            write_npz(&path, &images).unwrap();
            let (found, bytes) = read::<u8>(&path);
            assert_eq!(
                found,
                [2, shape[0] as u64, shape[1] as u64, shape[2] as u64]
            );
            assert_eq!(bytes, images.bytes());
        }
        let first = fs::read(&path).unwrap();
        write_npz(&path, &Images::from_unit(&values, [2, 2, 3]).unwrap()).unwrap();
        assert_eq!(first, fs::read(&path).unwrap());
    }

    #[test]
    fn vectors_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.npz");
        let values = [0.5, -3.0, f32::MAX, 1e-30, 0.0, 7.0];
        write_npz_vectors(&path, &values, 3).unwrap();
        assert_eq!(read::<f32>(&path), (vec![2, 3], values.to_vec()));
        write_npz_vectors(&path, &[], 2).unwrap();
        assert_eq!(read::<f32>(&path), (vec![0, 2], vec![]));
    }

    /// For a look with numpy and with the eyes.
    #[test]
    fn leaves_an_example_where_asked() {
        let Some(folder) = std::env::var_os("SMD_EXAMPLE_OUTPUT") else {
            return;
        };
        let folder = Path::new(&folder);
        let values: Vec<f32> = (0..7 * 12).map(|i| i as f32 / 42.0 - 1.0).collect();
        let images = Images::from_unit(&values, [2, 2, 3]).unwrap();
        write_npz(&folder.join("images.npz"), &images).unwrap();
        write_npz_vectors(&folder.join("vectors.npz"), &values, 2).unwrap();
        let picture = super::super::grid(&images, super::super::VIEW_SIDE);
        super::super::write_png(&folder.join("grid.png"), &picture.into()).unwrap();
    }
}

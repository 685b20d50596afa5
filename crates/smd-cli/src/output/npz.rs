//! Arrays that numpy reads: `numpy.load(path)["arr_0"]`, the name that guided-diffusion uses.

use std::path::Path;

use anyhow::Result;
use smd::npz::NpzWriter;

use super::{Images, write_beside};

/// The images as bytes, `[n, H, W, C]`.
///
/// # Errors
/// A folder that cannot be written; an older file of that name is then as it was.
pub fn write_npz(path: &Path, images: &Images) -> Result<()> {
    let [height, width, channels] = images.shape();
    let shape = [images.len(), height, width, channels];
    write_beside(path, |file| {
        let mut npz = NpzWriter::new(file);
        npz.array("arr_0", &shape, images.bytes())?;
        Ok(npz.finish()?)
    })
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
    write_beside(path, |file| {
        let mut npz = NpzWriter::new(file);
        npz.array("arr_0", &[values.len() / d, d], values)?;
        Ok(npz.finish()?)
    })
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

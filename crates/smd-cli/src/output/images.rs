//! Samples in `[-1, 1]` as images of bytes.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use image::{DynamicImage, GrayImage, ImageEncoder, RgbImage, codecs::png::PngEncoder};

use super::write_beside;

/// Images of one size, `[images, height, width, channels]`, grey (1 channel) or colour (3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    bytes: Vec<u8>,
    shape: [usize; 3],
}

impl Images {
    /// Rounds `(x + 1) * 127.5` to bytes; numbers beyond `[-1, 1]` become its ends.
    ///
    /// # Shapes
    /// - `values`: `[n, H, W, C]`; `shape`: `[H, W, C]`
    ///
    /// # Errors
    /// A number that is not finite, or a number of channels that no picture has.
    ///
    /// # Panics
    /// If `values` is not a whole number of images.
    pub fn from_unit(values: &[f32], shape: [usize; 3]) -> Result<Self> {
        let [height, width, channels] = shape;
        ensure!(
            matches!(channels, 1 | 3) && height * width > 0,
            "a sample of {height} x {width} with {channels} channels is no picture, expected 1 \
             channel (grey) or 3 (colour): write an npz instead"
        );
        let len = height * width * channels;
        assert_eq!(
            values.len() % len,
            0,
            "a whole number of images of {shape:?}"
        );
        let byte = |(i, x): (usize, &f32)| {
            if !x.is_finite() {
                let (image, row) = (i / len, i % len / (width * channels));
                bail!("image {image} has the value {x} in row {row}: the sampling diverged");
            }
            Ok(((x.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8)
        };
        let bytes = values.iter().enumerate().map(byte).collect::<Result<_>>()?;
        Ok(Self { bytes, shape })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.shape.iter().product::<usize>()
    }

    /// `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// All pixels, image after image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Image `i`, in grey or in colour.
    ///
    /// # Panics
    /// If there is no image `i`.
    pub fn get(&self, i: usize) -> DynamicImage {
        let [height, width, channels] = self.shape;
        let len = height * width * channels;
        let bytes = self.bytes[i * len..(i + 1) * len].to_vec();
        let (width, height) = (width as u32, height as u32);
        if channels == 1 {
            GrayImage::from_raw(width, height, bytes)
                .expect("one byte a pixel")
                .into()
        } else {
            RgbImage::from_raw(width, height, bytes)
                .expect("three bytes a pixel")
                .into()
        }
    }
}

/// Writes one image as PNG.
///
/// # Errors
/// A folder that cannot be written; an older file of that name is then as it was.
pub fn write_png(path: &Path, image: &DynamicImage) -> Result<()> {
    write_beside(path, |file| {
        let colour = image.color().into();
        let encoder = PngEncoder::new(file);
        Ok(encoder.write_image(image.as_bytes(), image.width(), image.height(), colour)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_and_clamps() {
        let images = Images::from_unit(&[-1.0, 1.0, 0.0, -7.0, 7.0, 0.001], [1, 3, 1]).unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images.bytes(), [0, 255, 128, 0, 255, 128]);
        // Every byte survives the way to [-1, 1] and back.
        let values: Vec<f32> = (0..=255).map(|byte| byte as f32 / 127.5 - 1.0).collect();
        let images = Images::from_unit(&values, [16, 16, 1]).unwrap();
        assert_eq!(images.bytes(), (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn refuses_what_is_no_number() {
        for bad in [f32::NAN, f32::INFINITY] {
            let values = [0.0, 0.0, 0.0, bad];
            let message = Images::from_unit(&values, [2, 1, 1])
                .unwrap_err()
                .to_string();
            assert!(message.starts_with("image 1 has the value"), "{message}");
            assert!(
                message.contains("in row 1: the sampling diverged"),
                "{message}"
            );
        }
        let message = Images::from_unit(&[0.0; 2], [1, 1, 2])
            .unwrap_err()
            .to_string();
        assert!(message.contains("2 channels is no picture"), "{message}");
    }

    #[test]
    fn writes_what_a_reader_sees() {
        let folder = tempfile::tempdir().unwrap();
        for channels in [1, 3] {
            let values: Vec<f32> = (0..12 * channels).map(|i| i as f32 / 20.0 - 0.9).collect();
            let images = Images::from_unit(&values, [3, 2, channels]).unwrap();
            assert_eq!(images.len(), 2);
            let path = folder.path().join("1.png");
            write_png(&path, &images.get(1)).unwrap();
            let read = image::open(&path).unwrap();
            assert_eq!(read, images.get(1));
            assert_eq!((read.width(), read.height()), (2, 3));
            assert_eq!(read.as_bytes(), &images.bytes()[6 * channels..]);
        }
    }
}

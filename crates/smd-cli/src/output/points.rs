//! Vectors of two numbers as a picture.

use std::path::Path;

use anyhow::{Result, ensure};
use image::{Rgba, RgbaImage, imageops};

use super::write_png;
use crate::report::{COLOURS, Frame, scatter};

/// Points in the plane as a PNG on white ground; the darker, the more of them.
///
/// # Errors
/// Vectors of another length than 2, or a folder that cannot be written.
pub fn write_scatter(path: &Path, values: &[f32], d: usize) -> Result<()> {
    ensure!(
        d == 2,
        "vectors of {d} numbers are no points in the plane, expected 2: write an npz"
    );
    let points: Vec<[f32; 2]> = values
        .chunks_exact(2)
        .map(|point| [point[0], point[1]])
        .collect();
    let points = scatter(&points, Frame::around(&points), COLOURS[0]).into_rgba8();
    let (width, height) = points.dimensions();
    let mut picture = RgbaImage::from_pixel(width, height, Rgba([255; 4]));
    imageops::overlay(&mut picture, &points, 0, 0);
    write_png(path, &image::DynamicImage::from(picture).into_rgb8().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_points() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scatter.png");
        write_scatter(&path, &[1.0, 1.0, -1.0, 0.0, f32::NAN, 0.0], 2).unwrap();
        let picture = image::open(&path).unwrap().into_rgb8();
        let inked = picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
        assert!((2..200).contains(&inked), "{inked}");
    }

    #[test]
    fn refuses_more_than_a_plane() {
        let message = write_scatter(Path::new("a.png"), &[0.0; 3], 3)
            .unwrap_err()
            .to_string();
        assert!(message.contains("vectors of 3 numbers"), "{message}");
    }
}

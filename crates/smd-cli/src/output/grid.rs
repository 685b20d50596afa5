//! Many images as one picture.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::Images;

/// Pixels between and around the images.
const GAP: u32 = 2;
const GROUND: Rgb<u8> = Rgb([128, 128, 128]);

/// What the shorter side of an image is enlarged to where people look at it.
pub const VIEW_SIDE: u32 = 64;

/// The images row by row on grey ground, about as many columns as rows.
///
/// Each pixel is enlarged by the smallest whole number that brings the shorter side of an image to
/// `least_side`; 1 leaves the natural size.
pub fn grid(images: &Images, least_side: u32) -> RgbImage {
    let [height, width, _] = images.shape().map(|size| size as u32);
    let zoom = least_side.div_ceil(height.min(width)).max(1);
    let (width, height) = (width * zoom, height * zoom);
    let count = images.len() as u32;
    let columns = (1..)
        .find(|columns| columns * columns >= count)
        .unwrap_or(1);
    let rows = count.div_ceil(columns);
    let side = |images: u32, size: u32| images * (size + GAP) + GAP;
    let mut picture = RgbImage::from_pixel(side(columns, width), side(rows, height), GROUND);
    for i in 0..count {
        let image = images.get(i as usize).into_rgb8();
        let image = imageops::resize(&image, width, height, FilterType::Nearest);
        let place = |index, size| i64::from(side(index, size));
        imageops::replace(
            &mut picture,
            &image,
            place(i % columns, width),
            place(i / columns, height),
        );
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    fn black(count: usize, shape: [usize; 3]) -> Images {
        Images::from_unit(&vec![-1.0; count * shape.iter().product::<usize>()], shape).unwrap()
    }

    #[test]
    fn is_nearly_square() {
        for (count, columns, rows) in [(0, 1, 0), (1, 1, 1), (2, 2, 1), (7, 3, 3), (64, 8, 8)] {
            let picture = grid(&black(count, [3, 5, 1]), 1);
            assert_eq!(
                picture.dimensions(),
                (columns * 7 + 2, rows * 5 + 2),
                "{count} images"
            );
        }
    }

    #[test]
    fn puts_each_image_in_its_place() {
        let values: Vec<f32> = (0..5 * 6).map(|i| (i / 6) as f32 / 2.0 - 1.0).collect();
        let images = Images::from_unit(&values, [2, 3, 1]).unwrap();
        for least_side in [1, 6] {
            let picture = grid(&images, least_side);
            let zoom = if least_side == 1 { 1 } else { 3 };
            for (row, column) in (0..2).flat_map(|row| (0..3).map(move |column| (row, column))) {
                let (left, top) = (2 + column * (3 * zoom + 2), 2 + row * (2 * zoom + 2));
                let byte = images.bytes().get((row * 3 + column) as usize * 6).copied();
                let expected = byte.map_or(GROUND, |byte| Rgb([byte; 3]));
                assert_eq!(*picture.get_pixel(left, top), expected);
                assert_eq!(
                    *picture.get_pixel(left + 3 * zoom - 1, top + 2 * zoom - 1),
                    expected
                );
                assert_eq!(*picture.get_pixel(left - 1, top), GROUND);
                assert_eq!(*picture.get_pixel(left + 3 * zoom, top), GROUND);
            }
        }
    }

    #[test]
    fn enlarges_small_images_only() {
        for (side, expected) in [(28, 84), (32, 64), (64, 64), (100, 100)] {
            let picture = grid(&black(1, [side, side, 3]), VIEW_SIDE);
            assert_eq!(picture.width(), expected + 4);
        }
    }
}

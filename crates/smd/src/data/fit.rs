//! From a decoded picture to the pixels of a set: alpha, channels, size.
//!
//! - Transparent pixels are laid over white.
//! - 16-bit and float pictures are rounded to 8 bits.
//! - Colour becomes grey by the weights of Rec. 709 (.2126, .7152, .0722); grey becomes three equal
//!   channels.
//! - Resizing is bicubic (Catmull-Rom) and widened when shrinking, so it does not alias; a picture
//!   whose short side is right already is only cropped.

use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, RgbImage};
use rayon::prelude::*;

use super::{Images, ReadOptions};

/// Longest side kept before resizing, in short sides. Only the middle square survives anyway, and
/// without it a picture of 1 x 65,535 pixels would ask for gigabytes.
const LONGEST: u32 = 4;

/// One picture as its set wants it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    pub shape: [usize; 3],
    /// `[height, width, channels]`.
    pub bytes: Vec<u8>,
}

/// Brings a picture to 8 bits, and to the size and channels that the options set.
pub(super) fn fit(image: DynamicImage, options: &ReadOptions) -> Pixels {
    let stored = if image.color().has_color() { 3 } else { 1 };
    let image = over_white(image);
    let channels = options.channels.unwrap_or(stored);
    let image = match channels {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        _ => DynamicImage::ImageRgb8(image.into_rgb8()),
    };
    let image = match options.size {
        Some(size) => square(image, size as u32),
        None => image,
    };
    let shape = [image.height() as usize, image.width() as usize, channels];
    Pixels {
        shape,
        bytes: image.into_bytes(),
    }
}

/// [`fit`] for a whole set; free if the set already is as the options want it.
pub(super) fn fit_all(images: Images, options: &ReadOptions) -> Images {
    let [height, width] = options
        .size
        .map_or([images.height, images.width], |size| [size; 2]);
    let channels = options.channels.unwrap_or(images.channels);
    if [height, width, channels] == images.shape() {
        return images;
    }
    let mut bytes = vec![0; images.len() * height * width * channels];
    bytes
        .par_chunks_exact_mut(height * width * channels)
        .enumerate()
        .for_each(|(i, out)| {
            out.copy_from_slice(&fit(picture(&images, i), options).bytes);
        });
    Images {
        height,
        width,
        channels,
        bytes,
        skipped: images.skipped,
    }
}

/// Image `i` of a set as a picture.
fn picture(images: &Images, i: usize) -> DynamicImage {
    let (width, height) = (images.width as u32, images.height as u32);
    if images.channels == 1 {
        let mut picture = GrayImage::new(width, height);
        picture.copy_from_slice(images.image(i));
        DynamicImage::ImageLuma8(picture)
    } else {
        let mut picture = RgbImage::new(width, height);
        picture.copy_from_slice(images.image(i));
        DynamicImage::ImageRgb8(picture)
    }
}

/// The picture without alpha, laid over white.
fn over_white(image: DynamicImage) -> DynamicImage {
    let over = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let (width, height) = (image.width(), image.height());
    match (image.color().has_alpha(), image.color().has_color()) {
        (false, _) => image,
        (true, false) => {
            let from = image.into_luma_alpha8();
            let pixel = |x, y| {
                let [grey, alpha] = from.get_pixel(x, y).0;
                [over(grey, alpha)].into()
            };
            DynamicImage::ImageLuma8(GrayImage::from_fn(width, height, pixel))
        }
        (true, true) => {
            let from = image.into_rgba8();
            let pixel = |x, y| {
                let [red, green, blue, alpha] = from.get_pixel(x, y).0;
                [over(red, alpha), over(green, alpha), over(blue, alpha)].into()
            };
            DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, pixel))
        }
    }
}

/// The middle square of the picture, `size` pixels a side.
fn square(image: DynamicImage, size: u32) -> DynamicImage {
    let (width, height) = (image.width(), image.height());
    let longest = width.min(height).saturating_mul(LONGEST);
    let (kept_width, kept_height) = (width.min(longest), height.min(longest));
    let image = if (kept_width, kept_height) == (width, height) {
        image
    } else {
        let (x, y) = ((width - kept_width) / 2, (height - kept_height) / 2);
        image.crop_imm(x, y, kept_width, kept_height)
    };
    image.resize_to_fill(size, size, FilterType::CatmullRom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};

    fn to(size: Option<usize>, channels: Option<usize>) -> ReadOptions {
        ReadOptions {
            size,
            channels,
            ..ReadOptions::default()
        }
    }

    /// Three vertical stripes, each a square: red, green, blue.
    fn stripes(side: u32) -> DynamicImage {
        let pixel = |x, _| {
            let mut colour = [0; 3];
            colour[(x / side) as usize] = 255;
            Rgb(colour)
        };
        DynamicImage::ImageRgb8(RgbImage::from_fn(3 * side, side, pixel))
    }

    #[test]
    fn the_middle_square_is_kept_at_any_size() {
        for (side, size) in [(8, 8), (64, 7), (63, 16), (5, 32)] {
            let pixels = fit(stripes(side), &to(Some(size), None));
            assert_eq!(pixels.shape, [size, size, 3]);
            let middle = (size / 2 * size + size / 2) * 3;
            assert_eq!(pixels.bytes[middle..][..3], [0, 255, 0], "{side} to {size}");
        }
    }

    #[test]
    fn a_short_side_that_is_right_is_only_cropped() {
        let pixels = fit(stripes(9), &to(Some(9), None));
        assert!(
            pixels
                .bytes
                .chunks_exact(3)
                .all(|pixel| pixel == [0, 255, 0])
        );
    }

    #[test]
    fn shrinking_does_not_alias() {
        let board = GrayImage::from_fn(64, 64, |x, y| {
            Luma([if (x + y) % 2 == 0 { 0 } else { 255 }])
        });
        let pixels = fit(board.into(), &to(Some(8), None));
        assert!(
            pixels.bytes.iter().all(|&grey| (100..156).contains(&grey)),
            "{:?}",
            pixels.bytes
        );
    }

    #[test]
    fn a_thread_of_pixels_costs_no_memory() {
        let pixels = fit(GrayImage::new(1, 60_000).into(), &to(Some(64), None));
        assert_eq!(pixels.shape, [64, 64, 1]);
    }

    #[test]
    fn alpha_is_laid_over_white() {
        let colour = ImageBuffer::from_pixel(1, 1, Rgba([255u8, 0, 0, 127]));
        assert_eq!(fit(colour.into(), &to(None, None)).bytes, [255, 128, 128]);
        let grey = ImageBuffer::from_pixel(1, 1, LumaA([9u8, 0]));
        assert_eq!(
            fit(grey.into(), &to(None, None)),
            Pixels {
                shape: [1, 1, 1],
                bytes: vec![255]
            }
        );
    }

    #[test]
    fn sixteen_bits_become_eight() {
        let deep = ImageBuffer::from_fn(3, 1, |x, _| Luma([[0u16, 0x8080, 0xffff][x as usize]]));
        assert_eq!(fit(deep.into(), &to(None, None)).bytes, [0, 128, 255]);
    }

    #[test]
    fn grey_and_colour_turn_into_each_other() {
        let white = RgbImage::from_pixel(1, 1, Rgb([255; 3]));
        assert_eq!(fit(white.into(), &to(None, Some(1))).bytes, [255]);
        let red = RgbImage::from_pixel(1, 1, Rgb([255, 0, 0]));
        assert_eq!(fit(red.into(), &to(None, Some(1))).bytes, [54]);
        let grey = GrayImage::from_pixel(1, 1, Luma([7]));
        assert_eq!(fit(grey.into(), &to(None, Some(3))).bytes, [7; 3]);
    }

    #[test]
    fn a_set_that_fits_is_returned_as_it_is() {
        let bytes: Vec<u8> = (0..32).collect();
        let images = Images {
            height: 4,
            width: 4,
            channels: 1,
            bytes,
            skipped: vec![],
        };
        assert_eq!(fit_all(images.clone(), &to(Some(4), Some(1))), images);
        let colour = fit_all(images.clone(), &to(None, Some(3)));
        assert_eq!((colour.len(), colour.shape()), (2, [4, 4, 3]));
        assert_eq!(colour.image(1)[..6], [16, 16, 16, 17, 17, 17]);
        assert_eq!(fit_all(images, &to(Some(2), None)).shape(), [2, 2, 1]);
    }
}

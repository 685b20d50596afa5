//! Pictures inside the page: PNG as base64.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat, RgbImage};

use super::escape;

/// One colour a model, in the middle of the lightness range: they hold on white and on black.
/// `style.css` has the same ones as `--series-0` and on.
pub const COLOURS: [[u8; 3]; 8] = [
    [47, 127, 193],
    [209, 113, 30],
    [28, 148, 112],
    [142, 99, 186],
    [196, 78, 110],
    [122, 130, 44],
    [96, 112, 128],
    [176, 132, 60],
];

/// The colour of the data.
pub const TRUTH: [u8; 3] = [128, 128, 132];

/// An `<img>` of the picture with its text, or a line in its place where it has no pixel.
pub fn img(picture: &DynamicImage, class: &str, alt: &str) -> String {
    let (width, height) = (picture.width(), picture.height());
    if width == 0 || height == 0 {
        return "<p class=\"nothing\">no picture</p>".into();
    }
    let mut png = Cursor::new(Vec::new());
    picture
        .write_to(&mut png, ImageFormat::Png)
        .expect("a PNG is written to memory");
    format!(
        "<img class=\"{class}\" width=\"{width}\" height=\"{height}\" alt=\"{}\" \
         src=\"data:image/png;base64,{}\">",
        escape(alt),
        STANDARD.encode(png.into_inner())
    )
}

/// The picture as grey where all of it is grey: a third of the bytes.
pub fn compact(picture: &RgbImage) -> DynamicImage {
    let picture = DynamicImage::from(picture.clone());
    let grey = picture
        .to_rgb8()
        .pixels()
        .all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]);
    if grey {
        picture.to_luma8().into()
    } else {
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_the_style() {
        let css = include_str!("style.css");
        for (i, [r, g, b]) in COLOURS.into_iter().enumerate() {
            let line = format!("--series-{i}: #{r:02x}{g:02x}{b:02x};");
            assert!(css.contains(&line), "{line}");
        }
    }

    #[test]
    fn grey_pictures_lose_their_colours() {
        let mut picture = RgbImage::from_pixel(4, 4, image::Rgb([9, 9, 9]));
        assert_eq!(compact(&picture).color().channel_count(), 1);
        picture.put_pixel(1, 2, image::Rgb([9, 9, 8]));
        assert_eq!(compact(&picture).color().channel_count(), 3);
    }
}

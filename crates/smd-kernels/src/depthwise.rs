//! Convolution of each channel with a window of its own, channels last: the middle of an inverted residual
//! (Sandler et al. 2018, arXiv:1801.04381). Forward only: no network that is trained here has one.
//!
//! A block of pixels of a row by one vector of channels stays in registers while the window streams by.
//! The work is the memory's: each input is read as often as windows cover it, from the first-level cache.

use crate::simd::{self, Kernel, Level, Vector};
use rayon::prelude::*;

/// Pixels of a block: with as many sums, a weight and an input, 16 registers are enough.
const PIXELS: usize = 8;

/// The sizes of such a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depthwise {
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
    /// Zeros around the input: top, bottom, left, right.
    pub pad: [usize; 4],
}

impl Depthwise {
    /// Height and width of the output.
    ///
    /// # Panics
    /// If the window does not fit into the padded input, or the stride is 0.
    pub fn output_size(&self) -> [usize; 2] {
        let [top, bottom, left, right] = self.pad;
        [self.size[0] + top + bottom, self.size[1] + left + right].map(|side| {
            assert!(
                self.kernel <= side,
                "depthwise: the window is larger than the input"
            );
            (side - self.kernel) / self.stride + 1
        })
    }
}

/// `y = conv(x, weight) + bias`, brought into a range as a rectifier does: `[0, inf]`, or `[0, 6]`.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`, `weight`: `[k, k, C]`, `bias`: `[C]`
/// - `y`: `[B, H', W', C]`
///
/// # Panics
/// If a slice does not have its length, or there is no image or channel.
pub fn forward_within(
    conv: &Depthwise,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    range: [f32; 2],
    y: &mut [f32],
) {
    forward_within_at(simd::level(), conv, x, weight, bias, range, y);
}

/// [`forward_within`] with the instruction set of choice.
pub fn forward_within_at(
    level: Level,
    conv: &Depthwise,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    range: [f32; 2],
    y: &mut [f32],
) {
    simd::assert_available(level);
    let ([height, width], c) = (conv.output_size(), conv.channels);
    assert!(conv.batch > 0 && c > 0, "depthwise: no image or no channel");
    let image = conv.size[0] * conv.size[1] * c;
    assert_eq!(x.len(), conv.batch * image, "depthwise: input");
    assert_eq!(
        weight.len(),
        conv.kernel * conv.kernel * c,
        "depthwise: weight"
    );
    assert_eq!(bias.len(), c, "depthwise: bias");
    assert_eq!(
        y.len(),
        conv.batch * height * width * c,
        "depthwise: output"
    );
    y.par_chunks_mut(width * c)
        .enumerate()
        .for_each(|(row, y)| {
            let x = &x[row / height * image..][..image];
            let row = row % height;
            simd::run(
                level,
                Row {
                    conv,
                    x,
                    weight,
                    bias,
                    range,
                    row,
                    y,
                },
            );
        });
}

/// One row of output pixels.
struct Row<'a> {
    conv: &'a Depthwise,
    /// The image.
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    range: [f32; 2],
    /// Which row.
    row: usize,
    y: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let (conv, c) = (self.conv, self.conv.channels);
        let width = self.y.len() / c;
        // Pixels whose windows lie inside of the image from side to side.
        let first = conv.pad[2].div_ceil(conv.stride).min(width);
        let past = (conv.size[1] + conv.pad[2]).checked_sub(conv.kernel);
        let past = past
            .map_or(0, |last| last / conv.stride + 1)
            .clamp(first, width);
        let whole = c / V::LANES * V::LANES;
        for channel in (0..whole).step_by(V::LANES) {
            let mut col = first;
            // SAFETY: the caller has the instruction set; the windows of the pixels lie inside.
            unsafe {
                while col + PIXELS <= past {
                    self.block::<V, PIXELS>(channel, col);
                    col += PIXELS;
                }
                while col < past {
                    self.block::<V, 1>(channel, col);
                    col += 1;
                }
            }
        }
        for col in 0..width {
            let inside = (first..past).contains(&col);
            self.pixel(if inside { whole } else { 0 }..c, col);
        }
    }
}

impl Row<'_> {
    /// Rows of the window that lie inside of the image, and the image's row under the first of them.
    #[inline(always)]
    fn window_rows(&self) -> (std::ops::Range<usize>, usize) {
        let (conv, top) = (self.conv, self.row * self.conv.stride);
        let first = conv.pad[0].saturating_sub(top);
        let past = (conv.size[0] + conv.pad[0])
            .saturating_sub(top)
            .min(conv.kernel);
        (first..past.max(first), top + first - conv.pad[0])
    }

    /// One vector of channels of `M` pixels.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`; the channels exist, and the windows lie inside of the
    /// image from side to side.
    #[inline(always)]
    unsafe fn block<V: Vector, const M: usize>(&mut self, channel: usize, col: usize) {
        let (conv, c) = (self.conv, self.conv.channels);
        let (rows, top) = self.window_rows();
        let left = col * conv.stride - conv.pad[2];
        let step = conv.stride * c;
        // SAFETY: the caller's; the slices bound what is read and written.
        unsafe {
            let mut sums = [V::load(&self.bias[channel..]); M];
            for (i, ky) in rows.enumerate() {
                let x = &self.x[((top + i) * conv.size[1] + left) * c + channel..];
                for kx in 0..conv.kernel {
                    let weight = V::load(&self.weight[(ky * conv.kernel + kx) * c + channel..]);
                    let x = &x[kx * c..];
                    assert!(x.len() >= (M - 1) * step + V::LANES);
                    for (m, sum) in sums.iter_mut().enumerate() {
                        *sum = V::read(x.as_ptr().add(m * step)).mul_add(weight, *sum);
                    }
                }
            }
            let (low, high) = (V::splat(self.range[0]), V::splat(self.range[1]));
            for (m, sum) in sums.into_iter().enumerate() {
                sum.raised_to(low)
                    .lowered_to(high)
                    .store(&mut self.y[(col + m) * c + channel..]);
            }
        }
    }

    /// Some channels of any pixel.
    #[inline(always)]
    fn pixel(&mut self, channels: std::ops::Range<usize>, col: usize) {
        let (conv, c) = (self.conv, self.conv.channels);
        let (rows, top) = self.window_rows();
        let y = &mut self.y[col * c..][channels.clone()];
        y.copy_from_slice(&self.bias[channels.clone()]);
        for (i, ky) in rows.enumerate() {
            for kx in 0..conv.kernel {
                let ix = (col * conv.stride + kx).wrapping_sub(conv.pad[2]);
                if ix >= conv.size[1] {
                    continue;
                }
                let x = &self.x[((top + i) * conv.size[1] + ix) * c..][channels.clone()];
                let weight = &self.weight[(ky * conv.kernel + kx) * c..][channels.clone()];
                for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                    *y += x * weight;
                }
            }
        }
        for y in y {
            // Not `clamp`: NaN stays NaN in both, but this compiles to two instructions.
            *y = if *y < self.range[0] {
                self.range[0]
            } else {
                *y
            };
            *y = if *y > self.range[1] {
                self.range[1]
            } else {
                *y
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cases, numbers, sized};
    use proptest::prelude::*;

    /// The definition, in f64.
    fn plain(conv: &Depthwise, x: &[f32], w: &[f32], b: &[f32], range: [f32; 2]) -> Vec<f64> {
        let ([height, width], c) = (conv.output_size(), conv.channels);
        let value = |i: usize| {
            let (channel, pixel) = (i % c, i / c);
            let (ox, oy) = (pixel % width, pixel / width % height);
            let image = pixel / width / height;
            let mut sum = f64::from(b[channel]);
            for (ky, kx) in (0..conv.kernel).flat_map(|ky| (0..conv.kernel).map(move |kx| (ky, kx)))
            {
                let iy = (oy * conv.stride + ky).wrapping_sub(conv.pad[0]);
                let ix = (ox * conv.stride + kx).wrapping_sub(conv.pad[2]);
                if iy < conv.size[0] && ix < conv.size[1] {
                    let xi = ((image * conv.size[0] + iy) * conv.size[1] + ix) * c + channel;
                    let wi = (ky * conv.kernel + kx) * c + channel;
                    sum += f64::from(x[xi]) * f64::from(w[wi]);
                }
            }
            sum.clamp(range[0].into(), range[1].into())
        };
        (0..conv.batch * height * width * c).map(value).collect()
    }

    proptest! {
        #![proptest_config(cases(60))]

        #[test]
        fn every_instruction_set_agrees_with_the_definition(
            batch in 1..3_usize,
            height in 1..sized(14_usize, 4),
            width in 1..sized(23_usize, 5),
            channels in 1..sized(40_usize, 10),
            kernel in 1..6_usize,
            stride in 1..4_usize,
            pad in [0..4_usize, 0..4, 0..4, 0..4],
            seed: u32,
        ) {
            let conv = Depthwise { batch, size: [height, width], channels, kernel, stride, pad };
            prop_assume!(kernel <= height + pad[0] + pad[1] && kernel <= width + pad[2] + pad[3]);
            let x = numbers(batch * height * width * channels, seed);
            let w = numbers(kernel * kernel * channels, seed ^ 1);
            let b = numbers(channels, seed ^ 2);
            let range = [-0.5, 1.5];
            let want = plain(&conv, &x, &w, &b, range);
            for level in simd::available() {
                let mut y = vec![f32::NAN; want.len()];
                forward_within_at(level, &conv, &x, &w, &b, range, &mut y);
                for (got, want) in y.iter().zip(&want) {
                    prop_assert!((f64::from(*got) - want).abs() < 1e-5, "{level:?}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn a_number_that_is_none_stays_seen() {
        let conv = Depthwise {
            batch: 1,
            size: [3, 20],
            channels: 17,
            kernel: 3,
            stride: 1,
            pad: [1; 4],
        };
        let mut x = numbers(3 * 20 * 17, 1);
        x[17 * 30..17 * 31].fill(f32::NAN);
        for level in simd::available() {
            let mut y = vec![0.0; x.len()];
            let (w, b) = (numbers(9 * 17, 2), numbers(17, 3));
            forward_within_at(level, &conv, &x, &w, &b, [0.0, 6.0], &mut y);
            assert_eq!(y.iter().filter(|y| y.is_nan()).count(), 9 * 17, "{level:?}");
        }
    }
}

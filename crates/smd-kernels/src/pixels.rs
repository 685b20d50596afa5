//! Pixels moved between sizes: each four times (nearest neighbour, twice the height and width), and
//! each square of four as channels (pixel unshuffle, half the height and width).
//!
//! Work of the memory alone; a general strided copy took several times as long, one number at a time.

use rayon::prelude::*;

/// The sizes of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Images, `B`.
    pub batch: usize,
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Channels, `C`.
    pub channels: usize,
}

impl Grid {
    /// Numbers of all pixels.
    fn len(&self) -> usize {
        self.batch * self.row_len() * self.size[0]
    }

    /// Numbers of one row of pixels.
    fn row_len(&self) -> usize {
        self.size[1] * self.channels
    }
}

/// Rows of a task: some tens of kilobytes.
fn rows_together(row_len: usize) -> usize {
    const NUMBERS: usize = 16 * 1024;
    NUMBERS.div_ceil(row_len.max(1))
}

/// Writes each pixel four times.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`; `y`: `[B, 2 H, 2 W, C]`
///
/// # Panics
/// If a slice does not have its length.
pub fn upsample(grid: &Grid, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), grid.len(), "upsample: input");
    assert_eq!(y.len(), 4 * grid.len(), "upsample: output");
    if x.is_empty() {
        return;
    }
    let (row, c) = (grid.row_len(), grid.channels);
    x.par_chunks_exact(row)
        .zip(y.par_chunks_exact_mut(4 * row))
        .with_min_len(rows_together(4 * row))
        .for_each(|(x, y)| {
            let (above, below) = y.split_at_mut(2 * row);
            for (x, pair) in x.chunks_exact(c).zip(above.chunks_exact_mut(2 * c)) {
                let (left, right) = pair.split_at_mut(c);
                left.copy_from_slice(x);
                right.copy_from_slice(x);
            }
            below.copy_from_slice(above);
        });
}

/// The gradient of the input of [`upsample`], given that of its output: the sum of each pixel's four.
///
/// # Shapes
/// - `grad`: `[B, 2 H, 2 W, C]`; `x_grad`: `[B, H, W, C]`
///
/// # Panics
/// If a slice does not have its length.
pub fn upsample_backward(grid: &Grid, grad: &[f32], x_grad: &mut [f32]) {
    assert_eq!(x_grad.len(), grid.len(), "upsample: gradient of the input");
    assert_eq!(
        grad.len(),
        4 * grid.len(),
        "upsample: gradient of the output"
    );
    if x_grad.is_empty() {
        return;
    }
    let (row, c) = (grid.row_len(), grid.channels);
    x_grad
        .par_chunks_exact_mut(row)
        .zip(grad.par_chunks_exact(4 * row))
        .with_min_len(rows_together(4 * row))
        .for_each(|(x_grad, grad)| {
            let (above, below) = grad.split_at(2 * row);
            let pairs = above.chunks_exact(2 * c).zip(below.chunks_exact(2 * c));
            for (out, (above, below)) in x_grad.chunks_exact_mut(c).zip(pairs) {
                let (a, b) = above.split_at(c);
                let (d, e) = below.split_at(c);
                for ((((out, a), b), d), e) in out.iter_mut().zip(a).zip(b).zip(d).zip(e) {
                    *out = (a + b) + (d + e);
                }
            }
        });
}

/// Makes channels of each square of four pixels, in the order (channel, row, column).
///
/// # Shapes
/// - `x`: `[B, H, W, C]`, `H` and `W` even; `y`: `[B, H / 2, W / 2, 4 C]`
///
/// # Panics
/// If a slice does not have its length, or height or width is odd.
pub fn unshuffle(grid: &Grid, x: &[f32], y: &mut [f32]) {
    check_squares(grid, x, y);
    if x.is_empty() {
        return;
    }
    let (row, c) = (grid.row_len(), grid.channels);
    x.par_chunks_exact(2 * row)
        .zip(y.par_chunks_exact_mut(2 * row))
        .with_min_len(rows_together(2 * row))
        .for_each(|(x, y)| {
            let (above, below) = x.split_at(row);
            let pairs = above.chunks_exact(2 * c).zip(below.chunks_exact(2 * c));
            for (y, (above, below)) in y.chunks_exact_mut(4 * c).zip(pairs) {
                let (squares, _) = y.as_chunks_mut::<4>();
                for (i, square) in squares.iter_mut().enumerate() {
                    *square = [above[i], above[c + i], below[i], below[c + i]];
                }
            }
        });
}

/// The inverse of [`unshuffle`], and so its backward pass.
///
/// # Shapes
/// - `y`: `[B, H / 2, W / 2, 4 C]`; `x`: `[B, H, W, C]`, the sizes of `grid`
///
/// # Panics
/// If a slice does not have its length, or height or width is odd.
pub fn shuffle(grid: &Grid, y: &[f32], x: &mut [f32]) {
    check_squares(grid, x, y);
    if x.is_empty() {
        return;
    }
    let (row, c) = (grid.row_len(), grid.channels);
    x.par_chunks_exact_mut(2 * row)
        .zip(y.par_chunks_exact(2 * row))
        .with_min_len(rows_together(2 * row))
        .for_each(|(x, y)| {
            let (above, below) = x.split_at_mut(row);
            let pairs = above
                .chunks_exact_mut(2 * c)
                .zip(below.chunks_exact_mut(2 * c));
            for (y, (above, below)) in y.chunks_exact(4 * c).zip(pairs) {
                let (squares, _) = y.as_chunks::<4>();
                for (i, square) in squares.iter().enumerate() {
                    [above[i], above[c + i], below[i], below[c + i]] = *square;
                }
            }
        });
}

fn check_squares(grid: &Grid, x: &[f32], y: &[f32]) {
    let [height, width] = grid.size;
    assert!(
        height.is_multiple_of(2) && width.is_multiple_of(2),
        "unshuffle: {height}x{width} has odd sides"
    );
    assert_eq!(x.len(), grid.len(), "unshuffle: pixels");
    assert_eq!(y.len(), grid.len(), "unshuffle: channels");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::any_numbers;
    use crate::testing::{cases, numbers};
    use proptest::prelude::*;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    }

    proptest! {
        #![proptest_config(cases(48))]

        #[test]
        fn pixels_go_where_they_should(
            batch in 1..3_usize, half in [1..5_usize, 1..5_usize], channels in 1..9_usize,
        ) {
            let [height, width] = half.map(|n| 2 * n);
            let grid = Grid { batch, size: [height, width], channels };
            let x = numbers(grid.len(), 1);
            let at = |b: usize, i: usize, j: usize, c: usize| {
                x[((b * height + i) * width + j) * channels + c]
            };

            let mut large = any_numbers(4 * grid.len());
            upsample(&grid, &x, &mut large);
            let mut squares = any_numbers(grid.len());
            unshuffle(&grid, &x, &mut squares);
            for b in 0..batch {
                for c in 0..channels {
                    for (i, j) in (0..2 * height).flat_map(|i| (0..2 * width).map(move |j| (i, j))) {
                        let got = large[((b * 2 * height + i) * 2 * width + j) * channels + c];
                        prop_assert_eq!(got, at(b, i / 2, j / 2, c));
                    }
                    for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
                        let square = (b * half[0] + i / 2) * half[1] + j / 2;
                        let channel = c * 4 + i % 2 * 2 + j % 2;
                        let got = squares[square * 4 * channels + channel];
                        prop_assert_eq!(got, at(b, i, j, c));
                    }
                }
            }
            let mut again = any_numbers(grid.len());
            shuffle(&grid, &squares, &mut again);
            prop_assert_eq!(&again, &x);
        }

        /// <up x, g> = <x, up^T g>.
        #[test]
        fn backward_is_the_transpose(
            batch in 1..3_usize, size in [1..6_usize, 1..6_usize], channels in 1..9_usize,
        ) {
            let grid = Grid { batch, size, channels };
            let (x, g) = (numbers(grid.len(), 1), numbers(4 * grid.len(), 2));
            let mut y = any_numbers(4 * grid.len());
            upsample(&grid, &x, &mut y);
            let mut x_grad = any_numbers(grid.len());
            upsample_backward(&grid, &g, &mut x_grad);
            let (there, back) = (dot(&y, &g), dot(&x, &x_grad));
            prop_assert!((there - back).abs() < 1e-4 * (1.0 + there.abs()), "{} {}", there, back);
        }
    }

    #[test]
    #[should_panic(expected = "odd sides")]
    fn odd_sides_have_no_squares() {
        let grid = Grid {
            batch: 1,
            size: [2, 3],
            channels: 1,
        };
        unshuffle(&grid, &[0.0; 6], &mut [0.0; 6]);
    }
}

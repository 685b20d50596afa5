//! Points in the plane as a picture that reads as a density.

use image::{DynamicImage, Rgba, RgbaImage};

/// Side of a picture, in pixels.
const SIDE: u32 = 480;
/// Radius of one point, in pixels.
const RADIUS: f32 = 1.5;
/// So many points on one pixel are fully opaque; one alone has a quarter of that.
const FULL: f32 = 15.0;

/// The square `[-reach, reach]^2` that all pictures share.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Half its side.
    pub reach: f32,
}

impl Frame {
    /// The square around the points with a margin; `[-2, 2]^2` without a point.
    pub fn around(points: &[[f32; 2]]) -> Self {
        let finite = points.iter().flatten().filter(|value| value.is_finite());
        let farthest = finite.fold(0.0, |farthest: f32, value| farthest.max(value.abs()));
        Self {
            reach: if farthest > 0.0 {
                (farthest * 1.18 * 10.0).ceil() / 10.0
            } else {
                2.0
            },
        }
    }

    /// How many of the points lie outside.
    pub fn count_outside(self, points: &[[f32; 2]]) -> usize {
        let inside = |value: &f32| value.abs() <= self.reach;
        points
            .iter()
            .filter(|point| !point.iter().all(inside))
            .count()
    }

    /// A place in pixels, `y` upwards.
    fn place(self, [x, y]: [f32; 2]) -> [f32; 2] {
        let scale = SIDE as f32 / (2.0 * self.reach);
        [(x + self.reach) * scale, (self.reach - y) * scale]
    }
}

/// The points in one colour on a transparent ground, so that it suits a light and a dark page.
///
/// Every point is a small disc with a soft edge. Opacity grows with the logarithm of the number of
/// discs on a pixel: single points stay visible where thousands lie together.
pub fn scatter(points: &[[f32; 2]], frame: Frame, [r, g, b]: [u8; 3]) -> DynamicImage {
    let mut discs = vec![0.0_f32; (SIDE * SIDE) as usize];
    for point in points
        .iter()
        .filter(|point| frame.count_outside(&[**point]) == 0)
    {
        let [x, y] = frame.place(*point);
        let around = |middle: f32| {
            let first = (middle - RADIUS - 1.0).max(0.0) as u32;
            first..((middle + RADIUS + 1.0) as u32 + 1).min(SIDE)
        };
        for row in around(y) {
            for column in around(x) {
                let distance = (column as f32 + 0.5 - x).hypot(row as f32 + 0.5 - y);
                discs[(row * SIDE + column) as usize] += (RADIUS + 0.5 - distance).clamp(0.0, 1.0);
            }
        }
    }
    let opacity = |count: f32| ((1.0 + count).ln() / (1.0 + FULL).ln()).min(1.0);
    RgbaImage::from_fn(SIDE, SIDE, |column, row| {
        let opacity = opacity(discs[(row * SIDE + column) as usize]);
        Rgba([r, g, b, (opacity * 255.0).round() as u8])
    })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_a_point_where_it_is() {
        let frame = Frame { reach: 2.0 };
        let picture = scatter(&[[1.0, 1.0], [9.0, 0.0]], frame, [1, 2, 3]).into_rgba8();
        let inked: Vec<_> = picture
            .enumerate_pixels()
            .filter(|(_, _, p)| p[3] > 0)
            .collect();
        assert!(!inked.is_empty());
        for (column, row, pixel) in inked {
            assert!(
                column.abs_diff(360) <= 2 && row.abs_diff(120) <= 2,
                "{column} {row}"
            );
            assert_eq!(pixel.0[..3], [1, 2, 3]);
        }
        assert_eq!(
            frame.count_outside(&[[1.0, 1.0], [9.0, 0.0], [f32::NAN, 0.0]]),
            2
        );
    }

    #[test]
    fn frame_holds_the_points() {
        assert_eq!(Frame::around(&[]).reach, 2.0);
        let frame = Frame::around(&[[1.5, -1.6], [f32::NAN, 0.0]]);
        assert!(frame.reach > 1.7 && frame.reach <= 2.0);
    }
}

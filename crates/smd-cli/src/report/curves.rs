//! Loss curves as inline SVG: a smooth line over the faint values that it summarises.

use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::table::short;
use crate::font::sans_serif;

/// One model's losses.
pub struct Series<'a> {
    /// Its place in the colours of the page.
    pub colour: usize,
    /// `(optimiser step, loss)`.
    pub losses: &'a [(usize, f64)],
}

/// Units of the drawing in one pixel: plotters rounds places to whole units, lines should not jump.
const FINE: i32 = 4;
/// Size of a chart, in pixels, at which its text has its natural size.
const SIZE: (i32, i32) = (500, 270);
/// At most so many values of a series are drawn.
const DRAWN: usize = 400;

/// The chart, or `None` where no series has a finite value.
pub fn curves(series: &[Series], y_name: &str) -> Option<String> {
    let lines: Vec<Line> = series.iter().filter_map(Line::new).collect();
    let y = span(
        lines
            .iter()
            .flat_map(|line| [line.usual.start, line.usual.end]),
    )?;
    let last = lines
        .iter()
        .flat_map(|line| line.raw.last())
        .map(|point| point.0)
        .max()?;
    let mut svg = String::new();
    let size = ((SIZE.0 * FINE) as u32, (SIZE.1 * FINE) as u32);
    let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let x = 0..last.max(1);
    // Two decades on a straight axis hide one of them.
    if y.start > 0.0 && y.end / y.start > 5.0 {
        draw(
            &root,
            &lines,
            x,
            (y.start..y.end).log_scale().with_key_points(log_ticks(&y)),
            &y,
            y_name,
        )
    } else {
        draw(&root, &lines, x, y.start..y.end, &y, y_name)
    }
    .expect("a chart is drawn into memory");
    drop(root);
    Some(with_colours_of_the_page(&svg))
}

/// What is drawn of a series.
struct Line {
    colour: usize,
    raw: Vec<(usize, f64)>,
    smooth: Vec<(usize, f64)>,
    /// Where all but the rarest values lie.
    usual: Range<f64>,
}

impl Line {
    fn new(series: &Series) -> Option<Self> {
        let finite: Vec<_> = series
            .losses
            .iter()
            .copied()
            .filter(|loss| loss.1.is_finite())
            .collect();
        let mut sorted: Vec<f64> = finite.iter().map(|loss| loss.1).collect();
        sorted.sort_by(f64::total_cmp);
        let rare = sorted.len() / 200;
        let usual = *sorted.get(rare)?..sorted[sorted.len() - 1 - rare];
        let smooth = thinned(&smoothed(&finite));
        Some(Self {
            colour: series.colour,
            raw: thinned(&finite),
            smooth,
            usual,
        })
    }
}

/// The mean of each value and its neighbours, a fortieth of the curve in all.
fn smoothed(losses: &[(usize, f64)]) -> Vec<(usize, f64)> {
    let half = losses.len() / 80;
    (0..losses.len())
        .map(|i| {
            // As many before as after, so that a steep start is not drawn inwards; at the flat end the
            // later ones are missing, and one value alone would be a spike.
            let before = half.min(i);
            let near = &losses[i - before..losses.len().min(i + before + 1)];
            (
                losses[i].0,
                near.iter().map(|loss| loss.1).sum::<f64>() / near.len() as f64,
            )
        })
        .collect()
}

/// Every so-manieth value, and the last.
fn thinned(losses: &[(usize, f64)]) -> Vec<(usize, f64)> {
    let stride = losses.len().div_ceil(DRAWN).max(1);
    let mut kept: Vec<_> = losses.iter().copied().step_by(stride).collect();
    if !losses.is_empty() && !(losses.len() - 1).is_multiple_of(stride) {
        kept.extend(losses.last());
    }
    kept
}

/// From the least to the largest value, widened where that is one point.
fn span(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let all = values.fold(None, |span: Option<Range<f64>>, value| {
        let span = span.unwrap_or(value..value);
        Some(span.start.min(value)..span.end.max(value))
    })?;
    let widen = if all.start == all.end {
        all.start.abs().max(1.0) * 0.1
    } else {
        0.0
    };
    Some(all.start - widen..all.end + widen)
}

/// 1, 2 and 5 times the powers of ten in a short range, the powers alone in a long one.
fn log_ticks(limits: &Range<f64>) -> Vec<f64> {
    let powers = limits.start.log10().floor() as i32..=limits.end.log10().floor() as i32;
    let factors: &[f64] = if limits.end / limits.start < 300.0 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let ticks = powers.flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)));
    ticks.filter(|tick| limits.contains(tick)).collect()
}

/// Colours of the drawing that [`with_colours_of_the_page`] replaces.
const TEXT: RGBColor = RGBColor(251, 0, 1);
const RULE: RGBColor = RGBColor(251, 0, 2);

fn series_colour(index: usize) -> RGBColor {
    RGBColor(250, 0, index as u8)
}

/// Writes the style's variables in place of the drawing's colours: they follow light and dark.
fn with_colours_of_the_page(svg: &str) -> String {
    let mut svg = svg.replace(" xmlns=\"http://www.w3.org/2000/svg\"", "");
    let text = (TEXT, "var(--muted)".to_string());
    let rule = (RULE, "var(--rule)".to_string());
    let series = (0..super::picture::COLOURS.len())
        .map(|i| (series_colour(i), format!("var(--series-{i})")));
    for (RGBColor(r, g, b), variable) in [text, rule].into_iter().chain(series) {
        svg = svg.replace(&format!("#{r:02X}{g:02X}{b:02X}"), &variable);
    }
    svg
}

fn draw<Y>(
    root: &DrawingArea<SVGBackend, plotters::coord::Shift>,
    lines: &[Line],
    x: Range<usize>,
    y: impl AsRangedCoord<CoordDescType = Y, Value = f64>,
    limits: &Range<f64>,
    y_name: &str,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let text = sans_serif(16 * FINE).color(&TEXT);
    let mut chart = ChartBuilder::on(root)
        .margin_top(24 * FINE)
        .margin_right(14 * FINE)
        .x_label_area_size(26 * FINE)
        .y_label_area_size(52 * FINE)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RULE.stroke_width(FINE as u32))
        .axis_style(RULE.stroke_width(FINE as u32))
        .label_style(text.clone())
        .x_labels(5)
        .y_labels(5)
        .x_label_formatter(&|step| short(*step as f64))
        .y_label_formatter(&|loss| short(*loss))
        .draw()?;
    root.draw(&Text::new(y_name.to_string(), (6 * FINE, 2 * FINE), text))?;
    let inside = |points: &[(usize, f64)]| -> Vec<(usize, f64)> {
        points
            .iter()
            .map(|point| (point.0, point.1.clamp(limits.start, limits.end)))
            .collect()
    };
    for line in lines {
        let faint = series_colour(line.colour)
            .mix(0.22)
            .stroke_width(FINE as u32);
        chart.draw_series(LineSeries::new(inside(&line.raw), faint))?;
    }
    for line in lines {
        let full = series_colour(line.colour).stroke_width(2 * FINE as u32);
        chart.draw_series(LineSeries::new(inside(&line.smooth), full))?;
    }
    root.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_draw_is_no_chart() {
        let of = |losses: &[(usize, f64)]| curves(&[Series { colour: 0, losses }], "loss");
        assert!(of(&[]).is_none());
        assert!(of(&[(0, f64::NAN), (1, f64::INFINITY)]).is_none());
        assert!(of(&[(0, 1.0)]).is_some_and(|svg| svg.contains("var(--series-0)")));
        assert!(of(&[(0, -1.0), (1, f64::NAN), (2, -3.0)]).is_some());
    }

    #[test]
    fn a_log_axis_is_labelled() {
        let close = |a: Vec<f64>, b: &[f64]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a / b - 1.0).abs() < 1e-12)
        };
        assert!(close(log_ticks(&(0.06..0.9)), &[0.1, 0.2, 0.5]));
        assert!(close(log_ticks(&(0.003..4.0)), &[0.01, 0.1, 1.0]));
    }

    #[test]
    fn smoothing_keeps_a_straight_line() {
        let line: Vec<_> = (0..1000).map(|i| (i, i as f64)).collect();
        let smooth = smoothed(&line);
        for ((_, smooth), (_, raw)) in smooth.iter().zip(&line).take(1000 - 1000 / 80) {
            assert!((smooth - raw).abs() < 1e-9);
        }
        assert!((smooth[999].1 - 999.0).abs() <= 6.0, "{:?}", smooth[999]);
        let thin = thinned(&line);
        assert!(thin.len() <= DRAWN + 1 && thin.last() == line.last());
    }
}

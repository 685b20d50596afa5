//! `M_t` over t, one line a family of Gaussians.

mod axis;

use super::numbers::ROUNDING_NATS;
use crate::font::sans_serif;
use crate::output::Drawing;
use crate::report::COLOURS;
use axis::Axis;
use plotters::backend::DrawingBackend;
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::DashedPathElement;
use plotters::prelude::{
    ChartBuilder, Circle, Color, LineSeries, PathElement, RGBColor, SeriesLabelPosition,
    ShapeStyle, Text, WHITE,
};
use smd::denoising_error::{DenoisingError, Estimate, Family};

/// What is drawn, with logarithms of base 10 on the upright axis, and on the other where T is large.
#[derive(Debug)]
pub struct Picture {
    title: String,
    steps: usize,
    lines: Vec<Line>,
    /// Logarithms of the least and the largest `M_t` shown.
    limits: [f64; 2],
}

#[derive(Debug)]
struct Line {
    family: Family,
    /// `t` and the logarithm of `M_t`, in stretches without a gap.
    runs: Vec<Vec<(usize, f64)>>,
    /// How many earlier lines it lies on, each on the other: so much finer it is dashed.
    above: u32,
}

/// A place in the drawing.
type Pixel = (i32, i32);

/// Units of the drawing in a pixel: sharp on fine screens.
const FINE: i32 = 2;
const WIDTH: i32 = 800;
const HEIGHT: i32 = 460;

const INK: RGBColor = RGBColor(34, 34, 38);
const MUTED: RGBColor = RGBColor(100, 100, 106);
const RULE: RGBColor = RGBColor(226, 226, 230);

/// From one dash to the next.
const PERIOD: f64 = (FINE * 16) as f64;

/// Of a longer chain everything happens in the first steps: its t are drawn by their logarithms.
const SHORT: usize = 64;

/// An `M_t` below this share of the largest is not shown.
const SMALLEST_SHARE: f64 = 1e-8;

/// Whether an `M_t` is told from 0.
fn is_told(floor: &Estimate) -> bool {
    floor.nats > (2.0 * floor.se).max(ROUNDING_NATS)
}

impl Picture {
    pub fn new(title: String, error: &DenoisingError) -> Self {
        let told = |family| {
            let floors = error.per_t.iter().map(move |step| step.floor(family));
            floors.map(|floor| floor.filter(is_told).map(|floor| floor.nats))
        };
        let all = || Family::ALL.into_iter().flat_map(told).flatten();
        let largest = all().fold(f64::MIN_POSITIVE, f64::max);
        let least = all()
            .filter(|&nats| nats > SMALLEST_SHARE * largest)
            .fold(largest / 10.0, f64::min);
        let limits = match all().next() {
            None => [-1.0, 0.0],
            Some(_) => [(least / 1.5).log10(), (largest * 1.5).log10()],
        };
        let line = |family| {
            let points: Vec<_> = (1..).zip(told(family)).collect();
            let is_shown = |nats: Option<f64>| nats.is_some_and(|nats| nats >= least);
            let runs = points.split(|&(_, nats)| !is_shown(nats));
            let logs = |run: &[(usize, Option<f64>)]| -> Vec<_> {
                let told = run.iter().filter_map(|&(t, nats)| Some((t, nats?.log10())));
                told.collect()
            };
            Line {
                family,
                runs: runs.filter(|run| !run.is_empty()).map(logs).collect(),
                above: 0,
            }
        };
        let mut lines: Vec<Line> = Vec::new();
        for mut line in Family::ALL.map(line) {
            // Two pixels.
            let near = 0.006 * (limits[1] - limits[0]);
            let under = lines.iter().filter(|other| line.lies_on(other, near));
            line.above = under.map(|other| other.above + 1).max().unwrap_or(0);
            lines.push(line);
        }
        Self {
            title,
            steps: error.per_t.len(),
            lines,
            limits,
        }
    }

    fn is_long(&self) -> bool {
        self.steps > SHORT
    }

    /// Where `t` is on its axis.
    fn place(&self, t: usize) -> f64 {
        if self.is_long() {
            (t as f64).log10()
        } else {
            t as f64
        }
    }
}

impl Line {
    fn points(&self) -> impl Iterator<Item = (usize, f64)> {
        self.runs.iter().flatten().copied()
    }

    /// Whether at least half of its points are as near as that to those of `other`.
    fn lies_on(&self, other: &Self, near: f64) -> bool {
        let theirs: std::collections::HashMap<_, _> = other.points().collect();
        let off = |(t, level): (usize, f64)| theirs.get(&t).map(|other| (level - other).abs());
        let there = self
            .points()
            .filter(|&p| off(p).is_some_and(|off| off < near));
        let count = self.points().count();
        count > 0 && 2 * there.count() >= count
    }

    /// Length of a dash; of a line on nothing the whole line.
    fn dash(&self) -> f64 {
        match self.above {
            0 => f64::INFINITY,
            above => PERIOD / 2_f64.powi(above as i32),
        }
    }
}

impl Drawing for Picture {
    fn size(&self) -> (u32, u32) {
        ((FINE * WIDTH) as u32, (FINE * HEIGHT) as u32)
    }

    fn draw<DB: DrawingBackend>(
        &self,
        backend: DB,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let root = backend.into_drawing_area();
        root.fill(&WHITE)?;
        let text = |size: i32, colour: RGBColor| sans_serif(FINE * size).color(&colour);
        root.draw(&Text::new(
            format!("What the best Gaussian step loses: {}", self.title),
            (FINE * 20, FINE * 12),
            text(18, INK),
        ))?;
        let [least, largest] = self.limits;
        let mut chart = ChartBuilder::on(&root)
            .margin_top(FINE * 46)
            .margin_right(FINE * 20)
            .margin_left(FINE * 8)
            .margin_bottom(FINE * 4)
            .x_label_area_size(FINE * 40)
            .y_label_area_size(FINE * 64)
            .build_cartesian_2d(
                Axis::of_steps(self.steps, self.is_long()),
                Axis::of_logarithms(least..largest),
            )?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE.mix(0.0))
            .bold_line_style(RULE.stroke_width(FINE as u32))
            .axis_style(MUTED.stroke_width(FINE as u32))
            .label_style(text(14, MUTED))
            .axis_desc_style(text(15, INK))
            .x_desc("t")
            .y_desc("M_t, nats")
            .draw()?;
        for (line, [r, g, b]) in self.lines.iter().zip(COLOURS.into_iter().cycle()) {
            let colour = RGBColor(r, g, b);
            let style = ShapeStyle::from(&colour).stroke_width(2 * FINE as u32);
            for run in &line.runs {
                let at = |&(t, level): &(usize, f64)| chart.backend_coord(&(self.place(t), level));
                let path: Vec<Pixel> = run.iter().map(at).collect();
                // A piece at a time: corners of a polyline have spikes.
                for piece in dashes(&thinned(&path), line.dash()) {
                    root.draw(&PathElement::new(piece.to_vec(), style))?;
                }
                let dots: &[Pixel] = match path.len() {
                    1 => &path,
                    _ if self.is_long() => &[],
                    _ => &path,
                };
                // On another line's dots they are smaller.
                let radius = if self.is_long() {
                    FINE * 3 / 2
                } else {
                    FINE * 3
                };
                let radius = radius * 2 / (2 + line.above as i32);
                for &dot in dots {
                    root.draw(&Circle::new(dot, radius, colour.filled()))?;
                }
            }
            // The legend's entry alone: the line is there.
            let entry = chart.draw_series(LineSeries::new([], style))?;
            if line.runs.is_empty() {
                entry.label(format!("{}: not told from 0", line.family.name()));
                continue;
            }
            let dash = line.dash().min(1e4) as i32;
            let gap = (PERIOD as i32 - dash).max(1);
            entry.label(line.family.name()).legend(move |(x, y)| {
                DashedPathElement::new([(x, y), (x + FINE * 20, y)], dash, gap, style)
            });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(FINE * 8)
            .legend_area_size(FINE * 26)
            .background_style(WHITE.mix(0.85))
            .border_style(RULE)
            .label_font(text(14, INK))
            .draw()?;
        root.present()
    }
}

/// The path without points that are less than a pixel behind the one before.
fn thinned(path: &[Pixel]) -> Vec<Pixel> {
    let mut kept: Vec<Pixel> = Vec::new();
    for &point in path {
        if kept.last().is_none_or(|last| point.0 >= last.0 + FINE) {
            kept.push(point);
        }
    }
    kept
}

/// The straight pieces of a path that are drawn: dashes of a length, every [`PERIOD`].
fn dashes(path: &[Pixel], dash: f64) -> Vec<[Pixel; 2]> {
    let mut pieces = Vec::new();
    let mut walked = 0.0;
    for ends in path.windows(2) {
        let [from, to] = [ends[0], ends[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        let at = |place: f64| {
            let share = if length > 0.0 { place / length } else { 0.0 };
            (
                (from.0 + share * dx).round() as i32,
                (from.1 + share * dy).round() as i32,
            )
        };
        if dash >= PERIOD {
            pieces.push([ends[0], ends[1]]);
            continue;
        }
        // Dashes begin at multiples of the period, measured along the path.
        let mut begin = (walked / PERIOD).floor() * PERIOD - walked;
        while begin < length {
            let (a, b) = (begin.max(0.0), (begin + dash).min(length));
            if a < b {
                pieces.push([at(a), at(b)]);
            }
            begin += PERIOD;
        }
        walked += length;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use smd::denoising_error::measure;
    use smd::gmm::{GaussianMixture, MixtureConfig};
    use smd::schedule::{NoiseSchedule, ScheduleConfig};

    fn error(mixture: &GaussianMixture, steps: usize) -> DenoisingError {
        let config = ScheduleConfig {
            steps,
            ..ScheduleConfig::default()
        };
        let schedule = NoiseSchedule::new(&config).unwrap();
        measure(mixture, &schedule, 100, 1, |_| {})
    }

    #[test]
    fn draws_a_line_for_each_family_also_of_one_step() {
        for steps in [1, 3] {
            let error = error(&GaussianMixture::grid_7x7(), steps);
            let svg = Picture::new("grid".into(), &error).to_svg();
            for family in Family::ALL {
                assert!(svg.contains(family.name()), "{}", family.name());
            }
            // fixed_small has no density at t = 1.
            let floors = error.per_t.iter();
            let floors = floors.flat_map(|step| Family::ALL.map(|family| step.floor(family)));
            let told = floors.flatten().filter(is_told).count();
            assert_eq!(svg.matches("<circle").count(), told);
        }
    }

    #[test]
    fn a_long_chain_has_logarithms_of_t() {
        let error = error(&GaussianMixture::grid_7x7(), 200);
        let picture = Picture::new("grid".into(), &error);
        let svg = picture.to_svg();
        for label in ["\n1\n", "\n50\n", "\n200\n"] {
            assert!(svg.contains(label), "{svg}");
        }
    }

    #[test]
    fn what_is_0_is_not_drawn() {
        let one = GaussianMixture::from_config(&MixtureConfig {
            means: vec![vec![0.3]],
            stds: Some(vec![0.5]),
            ..MixtureConfig::default()
        });
        let error = error(&one.unwrap(), 4);
        let picture = Picture::new("one Gaussian".into(), &error);
        let empty = picture.lines.iter().filter(|line| line.runs.is_empty());
        // All but the fixed variances.
        assert_eq!(empty.count(), 4);
        assert!(picture.to_svg().contains("full: not told from 0"));
    }

    /// On a line three families are one; in the plane of the grid two.
    #[test]
    fn lines_on_each_other_are_dashed() {
        let bumps = GaussianMixture::from_config(&MixtureConfig {
            means: vec![vec![-1.0], vec![1.0]],
            stds: Some(vec![0.1, 0.1]),
            ..MixtureConfig::default()
        });
        let picture = Picture::new("bumps".into(), &error(&bumps.unwrap(), 3));
        let above = |picture: &Picture| picture.lines.iter().map(|line| line.above).collect();
        let above: Vec<u32> = above(&picture);
        assert_eq!(above[4..], [above[3] + 1, above[3] + 2]);
        let dash = |i: usize| picture.lines[i].dash();
        assert!(dash(5) < dash(4) && dash(4) < PERIOD);
    }

    #[test]
    fn dashes_go_on_behind_a_corner() {
        let (period, corner) = (PERIOD as i32, PERIOD as i32 / 4);
        let path = [(0, 0), (corner, 0), (corner, 2 * period)];
        let pieces = dashes(&path, PERIOD / 2.0);
        assert_eq!(
            pieces[..2],
            [[(0, 0), (corner, 0)], [(corner, 0), (corner, corner)]]
        );
        let next = [(corner, 3 * corner), (corner, 5 * corner)];
        assert_eq!(pieces[2], next);
        assert_eq!(dashes(&path, f64::INFINITY).len(), 2);
    }
}

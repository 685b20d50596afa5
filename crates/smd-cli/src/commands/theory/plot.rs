//! `M_t` over t, one line a family of Gaussians.

use crate::font::sans_serif;
use crate::output::Drawing;
use crate::report::COLOURS;
use plotters::backend::DrawingBackend;
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea};
use plotters::prelude::{
    ChartBuilder, Circle, Color, EmptyElement, IntoLogRange, LineSeries, PathElement, RGBColor,
    SeriesLabelPosition, ShapeStyle, Text, WHITE,
};
use smd::denoising_error::{DenoisingError, Family};

/// A line: the family's name, and its points `(t, M_t)`.
type Line = (&'static str, Vec<(f64, f64)>);

/// What is drawn.
#[derive(Debug)]
pub struct Picture {
    title: String,
    steps: usize,
    lines: Vec<Line>,
    /// Least and largest `M_t` shown.
    limits: [f64; 2],
}

/// Units of the drawing in a pixel: sharp on fine screens.
const FINE: i32 = 2;
const WIDTH: i32 = 800;
const HEIGHT: i32 = 460;

const INK: RGBColor = RGBColor(34, 34, 38);
const MUTED: RGBColor = RGBColor(100, 100, 106);
const RULE: RGBColor = RGBColor(226, 226, 230);

/// An `M_t` below this share of the largest is drawn at the foot: there draws see no more than noise.
const SMALLEST_SHARE: f64 = 1e-6;

impl Picture {
    pub fn new(title: String, error: &DenoisingError) -> Self {
        let line = |family: Family| -> Line {
            let points = error.per_t.iter().filter_map(|step| {
                let floor = step.floor(family)?;
                Some((step.t as f64, floor.nats))
            });
            (family.name(), points.collect())
        };
        let lines: Vec<Line> = Family::ALL.map(line).into();
        let nats = || lines.iter().flat_map(|line| &line.1).map(|point| point.1);
        let largest = nats().fold(f64::MIN_POSITIVE, f64::max);
        let least = nats()
            .filter(|&nats| nats > SMALLEST_SHARE * largest)
            .fold(largest / 10.0, f64::min);
        Self {
            title,
            steps: error.per_t.len(),
            lines,
            limits: [least / 1.5, largest * 1.5],
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
        let last = self.steps as f64;
        let mut chart = ChartBuilder::on(&root)
            .margin_top(FINE * 46)
            .margin_right(FINE * 20)
            .margin_left(FINE * 8)
            .margin_bottom(FINE * 4)
            .x_label_area_size(FINE * 40)
            .y_label_area_size(FINE * 64)
            .build_cartesian_2d(0.5_f64..last + 0.5, (least..largest).log_scale())?;
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
            .x_labels(self.steps.min(10))
            .x_label_formatter(&|t| format!("{t:.0}"))
            .y_label_formatter(&|nats| format!("{nats}"))
            .draw()?;
        for (i, (name, points)) in self.lines.iter().enumerate() {
            let [r, g, b] = COLOURS[i % COLOURS.len()];
            let colour = RGBColor(r, g, b);
            let inside = |&(t, nats): &(f64, f64)| (t, nats.clamp(least, largest));
            let line = ShapeStyle::from(&colour).stroke_width(2 * FINE as u32);
            let drawn = LineSeries::new(points.iter().map(inside), line);
            chart
                .draw_series(drawn)?
                .label(*name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + FINE * 20, y)], line));
            if self.steps <= 64 {
                chart.draw_series(points.iter().map(inside).map(|point| {
                    EmptyElement::at(point) + Circle::new((0, 0), FINE * 3, colour.filled())
                }))?;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use smd::denoising_error::measure;
    use smd::gmm::GaussianMixture;
    use smd::schedule::{NoiseSchedule, ScheduleConfig};

    #[test]
    fn draws_a_line_for_each_family_also_of_one_step() {
        for steps in [1, 3] {
            let config = ScheduleConfig {
                steps,
                ..ScheduleConfig::default()
            };
            let schedule = NoiseSchedule::new(&config).unwrap();
            let error = measure(&GaussianMixture::grid_7x7(), &schedule, 100, 1, |_| {});
            let svg = Picture::new("grid".into(), &error).to_svg();
            for family in Family::ALL {
                assert!(svg.contains(family.name()), "{}", family.name());
            }
            // fixed_small has no density at t = 1.
            let points = 6 * steps - 1;
            assert_eq!(svg.matches("<circle").count(), points);
        }
    }
}

//! Where the time of a step goes, as a picture.

use crate::font::sans_serif;
use crate::output::Drawing;
use crate::report::COLOURS;
use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, WHITE};

/// What is drawn: a title, lines under it, and for each kind of step its parts, longest first.
#[derive(Debug, Clone)]
pub struct Picture {
    pub title: String,
    pub notes: Vec<String>,
    pub steps: Vec<Step>,
}

/// A kind of step.
#[derive(Debug, Clone)]
pub struct Step {
    pub heading: String,
    /// Names and milliseconds of all its parts, in the same order in every step: equal places have
    /// equal colours. The last is what no name was found for.
    pub parts: Vec<(&'static str, f64)>,
}

/// Units of the drawing in one pixel of the measures below: sharp on fine screens.
const FINE: f64 = 2.0;
const WIDTH: f64 = 800.0;
const MARGIN: f64 = 24.0;
const TITLE: f64 = 22.0;
const NOTE: f64 = 15.0;
const HEADING: f64 = 18.0;
const ROW: f64 = 16.0;
/// From one line of text to the next, in heights of its letters.
const LEADING: f64 = 1.5;
/// Free space above a heading.
const GAP: f64 = 20.0;
/// Height of the bar that is a whole step.
const WHOLE: f64 = 22.0;
/// Where the columns of numbers end, and where the bars begin.
const MS_END: f64 = 250.0;
const SHARE_END: f64 = 325.0;
const BARS: f64 = 343.0;

const INK: RGBColor = RGBColor(34, 34, 38);
const MUTED: RGBColor = RGBColor(100, 100, 106);
/// After the colours of the report.
const MORE_COLOURS: [[u8; 3]; 3] = [[94, 178, 214], [146, 92, 64], [214, 108, 164]];
const UNNAMED: [u8; 3] = [160, 160, 166];

impl Drawing for Picture {
    fn size(&self) -> (u32, u32) {
        let head = LEADING * (TITLE + NOTE * self.notes.len() as f64);
        let step = |step: &Step| {
            GAP + LEADING * HEADING + WHOLE + LEADING * ROW * (0.5 + step.shown().len() as f64)
        };
        let height = 2.0 * MARGIN + head + self.steps.iter().map(step).sum::<f64>();
        ((FINE * WIDTH) as u32, (FINE * height) as u32)
    }

    fn draw<DB: DrawingBackend>(
        &self,
        backend: DB,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let root = backend.into_drawing_area();
        root.fill(&WHITE)?;
        let canvas = Canvas(&root);
        let text = |y: &mut f64, height: f64, colour: RGBColor, text: &str| {
            let middle = *y + 0.5 * LEADING * height;
            *y += LEADING * height;
            canvas.text(text, height, colour, HPos::Left, MARGIN, middle)
        };
        let mut y = MARGIN;
        text(&mut y, TITLE, INK, &self.title)?;
        for note in &self.notes {
            text(&mut y, NOTE, MUTED, note)?;
        }
        // The same length means the same share in every step.
        let shares = self.steps.iter().flat_map(Step::shown);
        let largest = shares
            .map(|part| part.share)
            .fold(f64::MIN_POSITIVE, f64::max);
        for step in &self.steps {
            y += GAP;
            text(&mut y, HEADING, INK, &step.heading)?;
            let mut x = MARGIN;
            for part in step.shown() {
                let end = x + part.share * (WIDTH - 2.0 * MARGIN);
                canvas.bar([x, end], [y, y + WHOLE], part.colour)?;
                x = end;
            }
            y += WHOLE + 0.5 * LEADING * ROW;
            for part in step.shown() {
                let middle = y + 0.5 * LEADING * ROW;
                let name = |text, colour, at, x| canvas.text(text, ROW, colour, at, x, middle);
                name(part.name, INK, HPos::Left, MARGIN)?;
                let (ms, share) = (step.ms_text(part.ms), share_text(part.share));
                name(&ms, INK, HPos::Right, MS_END)?;
                name(&share, MUTED, HPos::Right, SHARE_END)?;
                let end = BARS + part.share / largest * (WIDTH - MARGIN - BARS);
                let half = 0.5 * ROW;
                canvas.bar([BARS, end], [middle - half, middle + half], part.colour)?;
                y += LEADING * ROW;
            }
        }
        root.present()
    }
}

/// A part as it is shown.
struct Shown {
    name: &'static str,
    ms: f64,
    /// Of the step, in `0..=1`.
    share: f64,
    colour: RGBColor,
}

impl Step {
    /// Without what is below nothing: medians of parts may add up to more than that of the whole.
    fn ms(&self) -> f64 {
        self.parts.iter().map(|(_, ms)| ms.max(0.0)).sum()
    }

    /// The parts that took time, longest first.
    fn shown(&self) -> Vec<Shown> {
        let all = self.ms();
        let colours = COLOURS.iter().chain(&MORE_COLOURS).cycle();
        let mut shown: Vec<Shown> = self
            .parts
            .iter()
            .zip(colours)
            .enumerate()
            .filter(|(_, ((_, ms), _))| *ms > 0.0)
            .map(|(i, (&(name, ms), &colour))| {
                let last = i + 1 == self.parts.len();
                let [r, g, b] = if last { UNNAMED } else { colour };
                Shown {
                    name,
                    ms,
                    share: ms / all,
                    colour: RGBColor(r, g, b),
                }
            })
            .collect();
        shown.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        shown
    }

    /// As many decimals for every part of the step.
    fn ms_text(&self, ms: f64) -> String {
        format!("{} ms", positive(ms, decimals(self.ms())))
    }
}

/// How many decimals the milliseconds of a step and of its parts have.
pub fn decimals(ms: f64) -> usize {
    match ms {
        ms if ms < 10.0 => 3,
        ms if ms < 100.0 => 2,
        _ => 1,
    }
}

fn share_text(share: f64) -> String {
    format!("{} %", positive(100.0 * share, 1))
}

/// What is more than nothing never reads as 0.
fn positive(value: f64, decimals: usize) -> String {
    let least = 0.1_f64.powi(decimals as i32);
    if value < 0.5 * least {
        format!("< {least:.decimals$}")
    } else {
        format!("{value:.decimals$}")
    }
}

/// Draws in pixels of the measures above.
struct Canvas<'a, DB: DrawingBackend>(&'a DrawingArea<DB, Shift>);

impl<DB: DrawingBackend> Canvas<'_, DB> {
    /// A line of text, cut off where the picture ends.
    fn text(
        &self,
        text: &str,
        height: f64,
        colour: RGBColor,
        at: HPos,
        x: f64,
        middle: f64,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let text = fitted(text, height, WIDTH - 2.0 * MARGIN);
        // The pixels' backend sets a line above its middle, the SVG's below it: this is between them.
        let place = (units(x), units(middle + 0.15 * height));
        let style = sans_serif(units(height))
            .color(&colour)
            .pos(Pos::new(at, VPos::Center));
        self.0.draw(&Text::new(text, place, style))
    }

    /// A filled rectangle, never thinner than can be seen.
    fn bar(
        &self,
        x: [f64; 2],
        y: [f64; 2],
        colour: RGBColor,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let [left, right] = x.map(units);
        let [top, foot] = y.map(units);
        let corners = [(left, top), (right.max(left + 1), foot)];
        self.0.draw(&Rectangle::new(corners, colour.filled()))
    }
}

fn units(pixels: f64) -> i32 {
    (FINE * pixels).round() as i32
}

/// The text, with its end left out where it is wider than `width` pixels.
fn fitted(text: &str, height: f64, width: f64) -> String {
    let font = sans_serif(units(height));
    let fits = |text: &str| {
        let size = font.box_size(text).expect("the embedded font is one");
        f64::from(size.0) <= FINE * width
    };
    if fits(text) {
        return text.into();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let cut: String = kept.iter().chain(&['…']).collect();
        if fits(&cut) {
            return cut;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests;

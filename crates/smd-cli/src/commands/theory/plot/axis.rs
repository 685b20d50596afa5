//! An axis with marks where they are wanted.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Places in equal parts, and the texts at some of them.
pub(super) struct Axis {
    range: Range<f64>,
    marks: Vec<(f64, String)>,
}

impl Axis {
    /// Steps of a chain; of a long one by logarithms of base 10.
    pub(super) fn of_steps(steps: usize, is_long: bool) -> Self {
        let last = steps as f64;
        if is_long {
            let decades = (0..).map(|i| 10_usize.pow(i));
            let few = decades.flat_map(|decade| [1, 2, 5].map(|digit| digit * decade));
            let marks = few.take_while(|&t| t <= steps);
            return Self {
                range: -0.05..last.log10() + 0.05,
                marks: marks.map(|t| ((t as f64).log10(), t.to_string())).collect(),
            };
        }
        let every = [1, 2].into_iter().find(|every| steps / every <= 16);
        let has_mark = |t: &usize| *t == 1 || t.is_multiple_of(every.unwrap_or(5));
        let marks = (1..=steps).filter(has_mark);
        Self {
            range: 0.5..last + 0.5,
            marks: marks.map(|t| (t as f64, t.to_string())).collect(),
        }
    }

    /// Numbers by their logarithms of base 10: marks at powers of ten, and where these are few at 2 and 5 times
    /// them.
    pub(super) fn of_logarithms(range: Range<f64>) -> Self {
        let digits: &[f64] = if range.end - range.start > 3.0 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let decades = range.start.floor() as i32..=range.end.ceil() as i32;
        let places = decades.flat_map(|i| digits.iter().map(move |x| f64::from(i) + x.log10()));
        let inside = places.filter(|place| range.contains(place));
        Self {
            marks: inside.map(|place| (place, short(place))).collect(),
            range,
        }
    }
}

/// 10 to that power, one digit of it: 0.01, 1e-5.
fn short(power: f64) -> String {
    let text = format!("{:.0e}", 10_f64.powf(power));
    match text.parse::<f64>() {
        Ok(number) if (1e-3..1e4).contains(&number) => number.to_string(),
        _ => text,
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No light lines between the marks.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.marks.iter().map(|mark| mark.0).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let mark = self.marks.iter().find(|mark| mark.0 == *value);
        mark.map_or(String::new(), |mark| mark.1.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|mark| mark.1.as_str()).collect()
    }

    #[test]
    fn numbers_are_short() {
        let few = Axis::of_logarithms(-2.1..0.4);
        assert_eq!(
            texts(&few),
            ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]
        );
        let many = Axis::of_logarithms(-5.5..-1.0);
        assert_eq!(texts(&many), ["1e-5", "1e-4", "0.001", "0.01"]);
        assert_eq!(many.format_ext(&-5.0), "1e-5");
    }

    #[test]
    fn steps_are_as_many_as_fit() {
        let short = Axis::of_steps(20, false);
        assert_eq!(texts(&short)[..3], ["1", "2", "4"]);
        assert_eq!(texts(&Axis::of_steps(1, false)), ["1"]);
        let long = Axis::of_steps(300, true);
        assert_eq!(
            texts(&long),
            ["1", "2", "5", "10", "20", "50", "100", "200"]
        );
    }

    #[test]
    fn ends_are_at_the_ends() {
        let axis = Axis::of_logarithms(-3.0..1.0);
        assert_eq!(
            [-3.0, -1.0, 1.0].map(|x| axis.map(&x, (400, 0))),
            [400, 200, 0]
        );
    }
}

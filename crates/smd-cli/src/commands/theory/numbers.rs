//! Numbers of a table: as many digits as mean something, in a column that never breaks.

use smd::denoising_error::Estimate;

/// Characters of the widest [`cell`].
pub(super) const CELL: usize = 15;

/// Digits of a number without an error.
const DIGITS: usize = 5;

/// Nats that sums over draws leave to rounding, and more.
pub(super) const ROUNDING_NATS: f64 = 1e-10;

/// "0.0668 ± 0.0004" or "1.23e-5 ± 4e-7", with as many digits as the error leaves; "0.50000" without one,
/// "< 1e-10" for what may be 0 but for rounding, "-" for nothing.
pub(super) fn cell(estimate: Option<Estimate>) -> String {
    let Some(Estimate { nats, se }) = estimate else {
        return "-".into();
    };
    if !(nats.is_finite() && se.is_finite()) {
        return "no number".into();
    }
    if se < ROUNDING_NATS {
        return match nats.abs() {
            0.0 => "0".into(),
            nats if nats < ROUNDING_NATS => format!("< {ROUNDING_NATS:e}"),
            _ => compact(nats, DIGITS),
        };
    }
    let place = exponent(se, 0);
    if nats.abs().max(se) >= 1e-3 && nats.abs() < 1e6 {
        let decimals = (-place).max(0) as usize;
        let text = format!("{} ± {se:.decimals$}", fixed(nats, decimals));
        if text.chars().count() <= CELL {
            return text;
        }
    }
    // To the place of the error's digit: that many, or fewer where the column ends.
    let digits = (exponent(nats, 0) - place + 1).clamp(1, DIGITS as i32) as usize;
    let text = |digits| format!("{} ± {se:.0e}", compact(nats, digits));
    let fits = |digits: &usize| text(*digits).chars().count() <= CELL;
    text((1..=digits).rev().find(fits).unwrap_or(1))
}

/// So many significant digits: "0.00123", "12.3", and from 1e6 on or below 1e-3 "1.23e-5".
pub(super) fn compact(number: f64, digits: usize) -> String {
    let more = digits.max(1) - 1;
    let place = exponent(number, more);
    if number == 0.0 {
        "0".into()
    } else if (-3..6).contains(&place) {
        fixed(number, (more as i32 - place).max(0) as usize)
    } else {
        format!("{number:.more$e}")
    }
}

/// What rounds to 0 has no sign.
fn fixed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.trim_matches(['0', '.']).is_empty() => rest.into(),
        _ => text,
    }
}

/// The place of the first digit, after rounding to so many more.
fn exponent(number: f64, more: usize) -> i32 {
    let text = format!("{number:.more$e}");
    let place = text.split('e').nth(1).and_then(|place| place.parse().ok());
    place.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(nats: f64, se: f64) -> String {
        cell(Some(Estimate { nats, se }))
    }

    #[test]
    fn the_error_says_how_many_digits_there_are() {
        for (nats, se, expected) in [
            (3.310_61, 0.002_02, "3.311 ± 0.002"),
            (0.066_83, 0.000_43, "0.0668 ± 0.0004"),
            (0.001_234, 0.000_012, "0.00123 ± 1e-5"),
            (1.234_5e-5, 2.2e-7, "1.23e-5 ± 2e-7"),
            (0.1, 0.04, "0.10 ± 0.04"),
            (27.66, 1.2, "28 ± 1"),
            (2.766, 0.96, "3 ± 1"),
            (1234.5, 30.0, "1234 ± 30"),
            (0.5, 0.0, "0.50000"),
            (-0.002, 1e-17, "-0.0020000"),
            (-4e-12, 3e-14, "< 1e-10"),
            (-0.0, 0.0, "0"),
        ] {
            assert_eq!(text(nats, se), expected);
        }
        assert_eq!(cell(None), "-");
        assert_eq!(text(f64::NAN, f64::NAN), "no number");
    }

    #[test]
    fn what_drowns_in_its_error_is_not_0_plus_minus_0() {
        for (nats, se, expected) in [
            (-0.000_01, 0.02, "0.00 ± 0.02"),
            (-1e-7, 3e-5, "-1e-7 ± 3e-5"),
            (-0.03, 0.02, "-0.03 ± 0.02"),
        ] {
            assert_eq!(text(nats, se), expected);
        }
    }

    #[test]
    fn no_cell_is_wider_than_its_column() {
        let sizes = [
            3.3e-17,
            4.4e-9,
            2.2e-4,
            9.999_97e-4,
            0.123_456,
            9.999_99,
            123.456,
            7.7e5,
            8.8e9,
        ];
        for nats in sizes.into_iter().flat_map(|size| [size, -size, 0.0]) {
            for se in sizes.into_iter().chain([0.0]) {
                let text = text(nats, se);
                assert!(text.chars().count() <= CELL, "{text}");
            }
        }
    }

    #[test]
    fn a_number_has_its_digits_at_every_size() {
        for (number, expected) in [
            (5.277_7, "5.278"),
            (0.416_666, "0.4167"),
            (20_411.3, "20411"),
            (999_999.9, "1.000e6"),
            (0.000_012_34, "1.234e-5"),
        ] {
            assert_eq!(compact(number, 4), expected);
        }
    }
}

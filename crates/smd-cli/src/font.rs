//! The font of pictures: the same letters on every machine, also where none is installed.

use plotters::style::{FontDesc, FontStyle, IntoFont, register_font};
use std::sync::Once;

const DEJAVU_SANS: &[u8] = include_bytes!("../assets/dejavu/DejaVuSans-latin.ttf");

/// Letters without serifs, `size` units from the top of the highest to the foot of the lowest. In an
/// SVG they are those of the reader's machine; DejaVu Sans is among the widest, so that what fits
/// here fits there.
pub fn sans_serif(size: i32) -> FontDesc<'static> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let font = register_font("sans-serif", FontStyle::Normal, DEJAVU_SANS);
        assert!(font.is_ok(), "the embedded font is one");
    });
    ("sans-serif", size).into_font()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_letters_of_names_and_numbers() {
        let width = |text: &str| sans_serif(100).box_size(text).unwrap().0;
        assert!(width("W") > width("i"));
        // A letter that is not there has the box's width.
        let missing = width("\u{4e2d}");
        for letter in "abcxyzABCXYZ0123456789.,<%()=-_/@äñ…–".chars() {
            assert_ne!(width(&letter.to_string()), missing, "{letter}");
        }
    }
}

//! Numbers of 16 bits: the upper half of an f32, eight bits of exponent and seven of fraction.
//!
//! Products of two of them are exact in f32; sums are kept in f32. A pair of them lies in the place of
//! one f32, the first in its low half.

/// How convolutions and matrix products multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Factors rounded to bf16, products added up in f32. Inputs and results are f32.
    Bf16,
}

/// The nearest bf16, ties to even. A NaN stays one.
#[inline(always)]
pub(crate) fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    // Half of the last place that stays, and one less where that place is even.
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Two numbers, rounded, in the place of one.
#[inline(always)]
pub(crate) fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(u32::from(round(high)) << 16 | u32::from(round(low)))
}

/// The first of a pair.
#[inline(always)]
pub(crate) fn low(pair: f32) -> f32 {
    f32::from_bits(pair.to_bits() << 16)
}

/// The second of a pair.
#[inline(always)]
pub(crate) fn high(pair: f32) -> f32 {
    f32::from_bits(pair.to_bits() & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_and_to_even() {
        let bits = |x: f32| u32::from(round(x)) << 16;
        for (x, want) in [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0), // half way: to the even one
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0), // half way: to the even one
            (1.0 + 1.01 / 256.0, 1.0 + 2.0 / 256.0),
            (-2.5, -2.5),
            (0.0, 0.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(f32::from_bits(bits(x)), want, "{x}");
        }
        assert!(f32::from_bits(bits(f32::NAN)).is_nan());
        // A NaN whose fraction lies in the lower half alone.
        assert!(f32::from_bits(bits(f32::from_bits(0x7f80_0001))).is_nan());
    }

    #[test]
    fn a_pair_gives_back_its_numbers() {
        let both = pair(1.5, -3.25);
        assert_eq!((low(both), high(both)), (1.5, -3.25));
    }
}

use super::*;
use crate::bf16;
use crate::testing::sized;

/// What the vectors of an instruction set make of some numbers.
struct Numbers {
    exp: [f32; 16],
    largest: f32,
    total: f32,
}

/// Exponentials of 16 numbers, and the largest and the sum of the first vector.
struct Math<'a>(&'a [f32; 16]);

impl Kernel for Math<'_> {
    type Out = Numbers;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Numbers {
        let mut exp = [0.0; 16];
        // SAFETY: the caller has the instruction set.
        unsafe {
            for (x, e) in self.0.chunks(V::LANES).zip(exp.chunks_mut(V::LANES)) {
                V::load(x).exp().store(e);
            }
            Numbers {
                exp,
                largest: V::load(self.0).largest(),
                total: V::load(self.0).total(),
            }
        }
    }
}

#[test]
fn exponentials_are_right_to_rounding_and_clamped() {
    for level in available() {
        for i in (-6400..6400).step_by(sized(16, 1600)) {
            let x: [f32; 16] = std::array::from_fn(|k| (i + k as i32) as f32 / 64.0);
            for (x, got) in x.into_iter().zip(run(level, Math(&x)).exp) {
                let want = f64::from(x.clamp(-87.0, 88.0)).exp();
                assert!(
                    (f64::from(got) / want - 1.0).abs() < 3e-7,
                    "{level:?}: exp({x}) = {got}, not {want}"
                );
            }
        }
        let got = run(level, Math(&[f32::NAN; 16])).exp;
        assert!(got.iter().all(|x| x.is_nan()), "{level:?}");
        let got = run(level, Math(&[f32::NEG_INFINITY; 16])).exp;
        assert!(got.iter().all(|&x| (0.0..1e-37).contains(&x)), "{level:?}");
    }
}

#[test]
fn every_lane_takes_part() {
    for level in available() {
        for lane in 0..level.lanes() {
            let mut x = [-2.0; 16];
            x[lane] = 3.0;
            let got = run(level, Math(&x));
            assert_eq!(got.largest, 3.0, "{level:?} {lane}");
            let want = 5.0 - 2.0 * level.lanes() as f32;
            assert_eq!(got.total, want, "{level:?} {lane}");
        }
    }
}

/// Pairs of numbers and their products, of one vector: the pairs, `low` one after the other, and
/// `1 + low low + high high`.
struct Pairs<'a> {
    low: &'a [f32; 16],
    high: &'a [f32; 16],
}

impl Kernel for Pairs<'_> {
    type Out = ([f32; 16], [u16; 16], [f32; 16]);

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Self::Out {
        let (mut pairs, mut row, mut dots) = ([0.0; 16], [0; 16], [0.0; 16]);
        // SAFETY: the caller has the instruction set; a vector fits into each array.
        unsafe {
            let pair = V::pair(V::load(self.low), V::load(self.high));
            pair.store(&mut pairs);
            V::load(self.low).write_bf16(row.as_mut_ptr());
            pair.dot_pairs(pair, V::splat(1.0)).store(&mut dots);
        }
        (pairs, row, dots)
    }
}

#[test]
fn pairs_are_rounded_and_multiplied_alike_on_every_instruction_set() {
    let mut x = 0.37_f32;
    for round in 0..sized(200, 9) {
        let mut next = || {
            x = (x * 997.0 + 0.123).fract() + 1e-3;
            (x - 0.5) * 4.0_f32.powi(round % 9 - 4)
        };
        let low: [f32; 16] = std::array::from_fn(|_| next());
        let high: [f32; 16] = std::array::from_fn(|_| next());
        for level in available() {
            let (pairs, row, dots) = run(
                level,
                Pairs {
                    low: &low,
                    high: &high,
                },
            );
            for i in 0..level.lanes() {
                assert_eq!(row[i], bf16::round(low[i]), "{level:?}");
                let want = bf16::pair(low[i], high[i]);
                assert_eq!(pairs[i].to_bits(), want.to_bits(), "{level:?}");
                let [a, b] = [bf16::low(want), bf16::high(want)].map(f64::from);
                let want = 1.0 + a * a + b * b;
                assert!(
                    (f64::from(dots[i]) - want).abs() <= 2e-7 * want,
                    "{level:?}: {} not {want}",
                    dots[i]
                );
            }
        }
    }
    for level in available() {
        let nan = [f32::NAN, f32::from_bits(0x7f80_0001)].repeat(8);
        let nan: [f32; 16] = std::array::from_fn(|i| nan[i]);
        let (low, high) = (&nan, &[1.0; 16]);
        let (_, row, dots) = run(level, Pairs { low, high });
        for i in 0..level.lanes() {
            let number = f32::from_bits(u32::from(row[i]) << 16);
            assert!(number.is_nan() && dots[i].is_nan(), "{level:?}");
        }
    }
}

#[test]
fn the_names_of_levels_are_their_own() {
    let names: Vec<&str> = Level::ALL.iter().map(|level| level.name()).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    assert_eq!(available()[0], Level::Portable);
}

#[test]
fn a_level_is_chosen_by_name_or_refused() {
    assert_eq!(choose(None).ok(), available().last().copied());
    for level in available() {
        assert_eq!(choose(Some(level.name().into())), Ok(level));
    }
    let error = choose(Some("avx1024".into())).unwrap_err().to_string();
    assert!(
        error.starts_with("SMD_KERNELS is \"avx1024\"; this machine has portable"),
        "{error}"
    );
}

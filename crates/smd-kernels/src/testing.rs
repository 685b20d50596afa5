//! What the tests of several kernels share: how much they do, and on what.

use proptest::prelude::ProptestConfig;

/// `usual` cases of a property, or as many as `PROPTEST_CASES` asks for: few under an interpreter or an
/// emulator, many for a long search.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    // The default reads the variable, and is 256 without it.
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = usual;
    }
    config
}

/// `usual`, or `small` under Miri, which runs some thousand times slower.
pub(crate) fn sized<T>(usual: T, small: T) -> T {
    if cfg!(miri) { small } else { usual }
}

/// Numbers from -1 to 1, the same for the same seed.
pub(crate) fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

//! How much the tests of this crate do.

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

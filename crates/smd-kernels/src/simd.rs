//! The instruction sets a kernel is compiled for.
//!
//! Two ways lead to code for each of them: `run` takes a `Kernel` written over the `Vector` of
//! an instruction set, and `compiled_for_each_level!` takes plain loops that the compiler turns into
//! vectors of the width at hand. Every other file is free of instruction sets.

#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::error::Error;
use std::fmt;
use std::sync::OnceLock;
pub(crate) use vector::Vector;

/// An instruction set, from the plainest to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every machine of the target has.
    Portable,
    /// 128-bit vectors of ARM.
    Neon,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
    /// The same, and products of bf16 numbers.
    Avx512Bf16,
}

impl Level {
    const ALL: [Self; 5] = [
        Self::Portable,
        Self::Neon,
        Self::Avx2,
        Self::Avx512,
        Self::Avx512Bf16,
    ];

    /// The name that `SMD_KERNELS` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    /// Numbers in one vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Avx512 | Self::Avx512Bf16 => 16,
            Self::Avx2 | Self::Portable => 8,
            Self::Neon => 4,
        }
    }

    /// Whether this machine has it.
    fn is_here(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_here()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Self::Avx512.is_here() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// `SMD_KERNELS` names no instruction set of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLevel {
    /// What it is.
    pub asked: String,
    /// What it may be here.
    pub available: Vec<&'static str>,
}

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, names) = (&self.asked, self.available.join(", "));
        write!(f, "SMD_KERNELS is \"{asked}\"; this machine has {names}")
    }
}

impl Error for UnknownLevel {}

/// The instruction set to use: the widest that the machine has, or the one that `SMD_KERNELS` names
/// (`portable`, `neon`, `avx2`, `avx512`, `avx512bf16`).
///
/// # Errors
/// If `SMD_KERNELS` names one that is unknown or that the machine lacks.
pub fn try_level() -> Result<Level, UnknownLevel> {
    choose(std::env::var("SMD_KERNELS").ok())
}

fn choose(asked: Option<String>) -> Result<Level, UnknownLevel> {
    let here = available();
    let Some(asked) = asked else {
        return Ok(here[here.len() - 1]);
    };
    let found = here.iter().find(|level| level.name() == asked);
    found.copied().ok_or_else(|| UnknownLevel {
        available: here.iter().map(|level| level.name()).collect(),
        asked,
    })
}

/// [`try_level`], asked once.
///
/// # Panics
/// Where that is an error: a program asks [`try_level`] first.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| try_level().unwrap_or_else(|error| panic!("{error}")))
}

/// Every instruction set that this machine can run, from the plainest to the widest.
pub fn available() -> Vec<Level> {
    Level::ALL.into_iter().filter(|x| x.is_here()).collect()
}

/// Panics where the machine lacks `level`: running its code there would be undefined.
pub(crate) fn assert_available(level: Level) {
    assert!(level.is_here(), "this machine has no {level:?}");
}

/// Work of one thread, written over the vector of an instruction set.
pub(crate) trait Kernel {
    /// What it returns.
    type Out;

    /// Does the work.
    ///
    /// Implementors are `#[inline(always)]` and use no closure on the way to the vectors: that would be
    /// compiled for the plain machine.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    unsafe fn run<V: Vector>(self) -> Self::Out;
}

/// Runs a kernel on this thread.
///
/// # Panics
/// If the machine lacks `level`.
pub(crate) fn run<K: Kernel>(level: Level, kernel: K) -> K::Out {
    assert_available(level);
    match level {
        // SAFETY: checked above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16 => unsafe { x86::Avx512::<true>::call(kernel) },
        // SAFETY: checked above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::Avx512::<false>::call(kernel) },
        // SAFETY: checked above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::Avx2::call(kernel) },
        // SAFETY: checked above.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => unsafe { neon::Neon::call(kernel) },
        // SAFETY: plain code runs everywhere.
        _ => unsafe { plain::Plain::call(kernel) },
    }
}

/// Defines `$name` as plain code compiled once for each instruction set.
///
/// The body must be simple loops: the compiler turns them into vectors of the width at hand. The
/// first argument of the generated function is the [`Level`].
macro_rules! compiled_for_each_level {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $visible fn $name(level: $crate::simd::Level, $($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) $(-> $out)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) $(-> $out)? {
                body($($arg),*)
            }

            $crate::simd::assert_available(level);
            match level {
                // SAFETY: checked on the line before the match.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512 | $crate::simd::Level::Avx512Bf16 => unsafe {
                    avx512($($arg),*)
                },
                // SAFETY: checked on the line before the match.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                // NEON is what every machine of its target has.
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use compiled_for_each_level;

#[cfg(test)]
mod tests;

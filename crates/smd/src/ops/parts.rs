//! Where the time of a step goes: how long the process has spent in each fused operation of the CPU.
//!
//! The CPU's kernels return when they are done, so their wall time is their cost. Other devices run on
//! their own and are not counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
#[cfg(feature = "flex")]
use std::time::Instant;

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Convolutions with a window.
    Convolution,
    /// Products of pixels with weights: 1x1 convolutions.
    Linear,
    /// Group norm with SiLU.
    GroupNorm,
    /// RMS norm.
    RmsNorm,
    /// SiLU on its own.
    Silu,
    /// Softmax and linear attention.
    Attention,
    /// The hypernetwork, and scales and shifts by a latent.
    HyperNet,
    /// Up-sampling and pixel unshuffle.
    Pixels,
    /// AdamW and the averages.
    Optimiser,
}

impl Part {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Convolution,
        Self::Linear,
        Self::GroupNorm,
        Self::RmsNorm,
        Self::Silu,
        Self::Attention,
        Self::HyperNet,
        Self::Pixels,
        Self::Optimiser,
    ];

    /// What it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Convolution => "convolution",
            Self::Linear => "linear",
            Self::GroupNorm => "group norm",
            Self::RmsNorm => "RMS norm",
            Self::Silu => "SiLU",
            Self::Attention => "attention",
            Self::HyperNet => "hypernetwork",
            Self::Pixels => "up and unshuffle",
            Self::Optimiser => "optimiser",
        }
    }
}

/// Nanoseconds since the process began.
static SPENT: [AtomicU64; Part::ALL.len()] = [const { AtomicU64::new(0) }; Part::ALL.len()];

/// What the process has spent in each part so far, on all its threads that train or sample, in the
/// order of [`Part::ALL`]. The difference of two calls is what lies between them.
pub fn spent() -> [Duration; Part::ALL.len()] {
    std::array::from_fn(|i| Duration::from_nanos(SPENT[i].load(Ordering::Relaxed)))
}

/// Does the work and counts its time.
#[cfg(feature = "flex")]
pub(super) fn timed<R>(part: Part, work: impl FnOnce() -> R) -> R {
    let started = Instant::now();
    let result = work();
    SPENT[part as usize].fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_place() {
        for (i, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, i);
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn time_is_counted_where_it_was_spent() {
        // Other tests add to every part but never take away.
        let before = spent();
        let slept = Duration::from_millis(20);
        timed(Part::HyperNet, || std::thread::sleep(slept));
        let after = spent();
        let place = Part::HyperNet as usize;
        assert!(after[place] - before[place] >= slept);
    }
}

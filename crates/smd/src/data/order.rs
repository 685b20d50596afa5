//! Which example a position of training means.
//!
//! A position counts examples since the first step. It alone says which image is read and whether
//! it is mirrored, so a resumed run needs to know nothing else, and any number of readers agree.

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::noise::{self, Use};

/// The order of the examples: a new permutation every epoch.
///
/// # Examples
/// ```
/// use smd::data::Order;
///
/// let mut order = Order::new(7, 3);
/// let mut epoch: Vec<usize> = (0..3).map(|position| order.index(position)).collect();
/// epoch.sort();
/// assert_eq!(epoch, [0, 1, 2]);
/// ```
#[derive(Debug, Clone)]
pub struct Order {
    seed: u64,
    /// The epoch that `permutation` belongs to; `None` before the first look.
    epoch: Option<u64>,
    /// Of `0..len`.
    permutation: Vec<usize>,
}

impl Order {
    /// The order of `len` examples under `seed`.
    ///
    /// # Panics
    /// If `len` is 0.
    pub fn new(seed: u64, len: usize) -> Self {
        assert!(len > 0, "an order needs at least one example");
        Self {
            seed,
            epoch: None,
            permutation: vec![0; len],
        }
    }

    /// The example at `position`, counted from the first step, in `0..len`.
    ///
    /// Epoch `position / len` is shuffled by the draws named (seed, 0, epoch, [`Use::Order`]) and
    /// kept, so positions are cheap in order and dear when they jump between epochs.
    pub fn index(&mut self, position: u64) -> usize {
        let len = self.permutation.len() as u64;
        let epoch = position / len;
        if self.epoch != Some(epoch) {
            for (i, index) in self.permutation.iter_mut().enumerate() {
                *index = i;
            }
            self.permutation
                .shuffle(&mut noise::rng(self.seed, 0, epoch, Use::Order));
            self.epoch = Some(epoch);
        }
        self.permutation[(position % len) as usize]
    }
}

/// Whether the example at `position` is mirrored: a fair coin named by (seed, position).
pub fn flip(seed: u64, position: u64) -> bool {
    noise::rng(seed, position, 0, Use::Flip).random()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(seed: u64, len: usize, positions: std::ops::Range<u64>) -> Vec<usize> {
        let mut order = Order::new(seed, len);
        positions.map(|position| order.index(position)).collect()
    }

    #[test]
    fn every_epoch_visits_every_example_once() {
        for len in [1, 2, 7, 100] {
            for epoch in indexes(3, len, 0..5 * len as u64).chunks(len) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..len).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_restart_in_the_middle_goes_on_with_the_same_sequence() {
        let whole = indexes(3, 7, 0..40);
        for start in [1, 6, 7, 8, 25] {
            assert_eq!(indexes(3, 7, start..40), whole[start as usize..]);
        }
        assert_eq!(indexes(3, 7, u64::MAX - 3..u64::MAX).len(), 3);
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let two = indexes(3, 50, 0..100);
        assert_ne!(two[..50], two[50..]);
        assert_ne!(indexes(4, 50, 0..50), two[..50]);
    }

    /// A new version of `rand` that shuffles otherwise would change resumed runs: notice it here.
    #[test]
    fn the_sequence_is_pinned() {
        assert_eq!(indexes(0, 8, 0..8), [0, 7, 1, 4, 2, 5, 6, 3]);
        let flips: Vec<u8> = (0..8).map(|position| flip(0, position).into()).collect();
        assert_eq!(flips, [1, 0, 1, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn flips_are_a_fair_coin_named_by_the_position() {
        const FLIPS: u64 = 10_000;
        let heads = (0..FLIPS).filter(|&position| flip(5, position)).count() as f64;
        let off = (heads - FLIPS as f64 / 2.0).abs();
        assert!(
            off < 5.0 * (FLIPS as f64 / 4.0).sqrt(),
            "{heads} of {FLIPS}"
        );
        assert_eq!(flip(5, 77), flip(5, 77));
    }

    #[test]
    #[should_panic(expected = "at least one example")]
    fn an_order_of_nothing_panics() {
        Order::new(0, 0);
    }
}

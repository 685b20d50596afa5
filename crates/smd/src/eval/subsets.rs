//! Random subsets as numpy's `RandomState` draws them, so that scores equal those of tools in Python.

use rand_mt::Mt;

/// numpy's legacy generator.
pub(super) struct RandomState(Mt);

impl RandomState {
    /// `numpy.random.RandomState(seed)`.
    pub(super) fn new(seed: u32) -> Self {
        Self(Mt::new(seed))
    }

    /// `permutation(len)`.
    pub(super) fn permutation(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for i in (1..len).rev() {
            let j = self.at_most(i as u32);
            order.swap(i, j as usize);
        }
        order
    }

    /// `choice(len, count, replace=False)`.
    pub(super) fn choice(&mut self, len: usize, count: usize) -> Vec<usize> {
        let mut order = self.permutation(len);
        order.truncate(count);
        order
    }

    /// `random_sample()`: in `0..1`.
    #[cfg(test)]
    pub(super) fn uniform(&mut self) -> f64 {
        let (high, low) = (self.0.next_u32() >> 5, self.0.next_u32() >> 6);
        (f64::from(high) * f64::from(1 << 26) + f64::from(low)) / (1_u64 << 53) as f64
    }

    /// A number in `0..=max`: the lowest bits of a draw, until they are small enough.
    fn at_most(&mut self, max: u32) -> u32 {
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let value = self.0.next_u32() & mask;
            if value <= max {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.RandomState(2020)`: `permutation(10)`, then `choice(1000, 5, replace=False)`.
    #[test]
    fn draws_are_those_of_numpy() {
        let mut random = RandomState::new(2020);
        assert_eq!(random.permutation(10), [2, 4, 9, 1, 5, 7, 6, 3, 8, 0]);
        assert_eq!(random.choice(1000, 5), [358, 763, 430, 530, 677]);
    }
}

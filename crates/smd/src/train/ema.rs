//! Averages of the weights over training, with warm-up.

use burn::tensor::Tensor;

/// An exponential moving average.
#[derive(Debug, Clone)]
pub struct Ema {
    decay: f64,
    value: Tensor<1>,
}

impl Ema {
    /// Starts at `value`.
    pub fn new(decay: f64, value: Tensor<1>) -> Self {
        Self { decay, value }
    }

    /// Its decay, which is also its name.
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// The average.
    pub fn value(&self) -> &Tensor<1> {
        &self.value
    }

    /// Replaces the average.
    pub fn set(&mut self, value: Tensor<1>) {
        self.value = value;
    }

    /// Takes in the weights after step `step`.
    ///
    /// Early on the decay is `(1 + n) / (10 + n)` where that is smaller: an average that remembers the
    /// initial weights for ten thousand steps gives noise for as long.
    pub fn update(&mut self, weights: &Tensor<1>, step: u64) {
        let decay = self.decay.min((1 + step) as f64 / (10 + step) as f64);
        self.value = self.value.clone() * decay + weights.clone() * (1.0 - decay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn forgets_its_start_while_warming_up() {
        let row = |x: f32| Tensor::<1>::from_floats([x], &Device::default());
        let mut ema = Ema::new(0.9999, row(100.0));
        for step in 1..=200 {
            ema.update(&row(1.0), step);
        }
        let value = ema.value().clone().into_scalar::<f32>();
        assert!((value - 1.0).abs() < 1e-3, "{value}");
    }

    #[test]
    fn decays_by_its_rate_once_warm() {
        let row = |x: f32| Tensor::<1>::from_floats([x], &Device::default());
        let mut ema = Ema::new(0.9, row(0.0));
        ema.update(&row(1.0), 1000);
        assert!((ema.value().clone().into_scalar::<f32>() - 0.1).abs() < 1e-6);
    }
}

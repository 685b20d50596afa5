//! Initial weights from a seed: parameter `n` of a network is a function of (seed, n).

use crate::noise::{self, Use};
use crate::ops::Precision;
use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

/// Draws the parameters of a network, one after the other.
#[derive(Debug)]
pub struct Init {
    seed: u64,
    drawn: u64,
    precision: Precision,
    device: Device,
}

impl Init {
    /// Starts at the first parameter.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self {
            seed,
            drawn: 0,
            precision: Precision::F32,
            device: device.clone(),
        }
    }

    /// The same for layers that multiply in `precision`.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// How the layers multiply.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Uniform in `[-bound, bound]`.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64) -> Param<Tensor<D>> {
        let mut rng = noise::rng(self.seed, self.drawn, 0, Use::Init);
        let len: usize = shape.iter().product();
        let values = (0..len)
            .map(|_| (rng.random_range(-1.0..=1.0) * bound) as f32)
            .collect();
        self.param(values, shape)
    }

    /// Standard normal.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D]) -> Param<Tensor<D>> {
        let mut rng = noise::rng(self.seed, self.drawn, 0, Use::Init);
        let len: usize = shape.iter().product();
        let values = (0..len).map(|_| StandardNormal.sample(&mut rng)).collect();
        self.param(values, shape)
    }

    /// Every number `value`.
    pub fn constant<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.param(vec![value; shape.iter().product()], shape)
    }

    fn param<const D: usize>(&mut self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        self.drawn += 1;
        Param::from_tensor(Tensor::from_data(
            TensorData::new(values, shape),
            &self.device,
        ))
    }
}

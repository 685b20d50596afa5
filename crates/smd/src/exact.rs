//! The exact backward step of a Gaussian mixture: a kernel for the tests of what uses one.

use crate::denoise::{Denoise, Drawn};
use crate::gmm::GaussianMixture;
use crate::host;
use crate::noise::{self, NoiseSource, Use};
use crate::process::Process;
use crate::schedule::{NoiseSchedule, ScheduleConfig};
use burn::tensor::{Tensor, TensorData};

/// The posterior of `x_0` under a mixture: as a draw, or its mean, the best Gaussian step there is.
pub(crate) struct Exact {
    pub(crate) mixture: GaussianMixture,
    process: Process,
    /// Whether to draw: then a chain is exact at any `T`.
    draws: bool,
}

impl Exact {
    pub(crate) fn new(mixture: GaussianMixture, schedule: &ScheduleConfig, draws: bool) -> Self {
        Self {
            mixture,
            process: Process::new(NoiseSchedule::new(schedule).unwrap()),
            draws,
        }
    }
}

impl Denoise for Exact {
    fn process(&self) -> &Process {
        &self.process
    }

    fn draw(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Drawn {
        let (device, dims) = (x_t.device(), x_t.dims());
        let alpha_bar = self.process.schedule().alpha_bar(t[0]);
        let places = noise.uniform(step, Use::Component);
        assert_eq!(places.len(), dims[0], "one draw for each example");
        let out: Vec<f32> = host::numbers(x_t)
            .chunks_exact(dims[3])
            .zip(places)
            .flat_map(|(x, place)| {
                let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let posterior = self.mixture.posterior_x_0(&x, alpha_bar);
                let mut rng = noise::rng((place * 1e18) as u64, 0, 0, Use::Start);
                if self.draws {
                    posterior.sample(&mut rng)
                } else {
                    posterior.mean()
                }
            })
            .map(|x| x as f32)
            .collect();
        Drawn {
            x_0: Tensor::from_data(TensorData::new(out, dims), &device),
            x_0_var: None,
        }
    }
}

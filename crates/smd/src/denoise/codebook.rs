//! A soft mixture whose latent is one of `K` learned codes: the likelihood is an exact sum.
//!
//! ```text
//! p(x_{t-1} | x_t) = sum_k w_k(x_t, t) N(x_{t-1}; c1 x_0_hat(x_t, z_k, t) + c2 x_t, tilde beta_t + c1^2 s_k^2)
//! ```
//! The codes enter late ([`LateHead`]); the trunk also gives the weights.

use super::components::{Components, pooled, predicted_and_raw, x_0_vars};
use super::{Denoise, Drawn, StepVar};
use crate::nn::{Dropout, Init, LateConfig, LateHead, Linear, Net};
use crate::noise::NoiseSource;
use crate::ops;
use crate::process::{Prediction, Process};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use std::sync::Arc;

/// A trunk, codes, and the head that they drive.
#[derive(Module, Debug)]
pub struct Codebook {
    model: Net,
    /// `[K, L]`.
    codes: Param<Tensor<2>>,
    logits: Linear,
    head: LateHead,
    #[module(skip)]
    mixed_steps: Option<[usize; 2]>,
    #[module(skip)]
    prediction: Prediction,
    #[module(skip)]
    process: Arc<Process>,
}

impl Codebook {
    /// A step of `components` codes over `model`, which gives `late.dim` features, with `outputs` channels
    /// behind it: the prediction, of a pixel or of a whole example, and a raw scale.
    pub fn new(
        model: Net,
        components: usize,
        late: &LateConfig,
        outputs: usize,
        prediction: Prediction,
        process: Arc<Process>,
        init: &mut Init,
    ) -> Self {
        Self {
            model,
            codes: init.normal([components, late.d_latent()]),
            logits: Linear::new(late.dim, components, init),
            head: LateHead::new(late, outputs, init),
            mixed_steps: None,
            prediction,
            process,
        }
    }

    /// A mixture for the steps from the first of `steps` to the second; elsewhere one Gaussian.
    pub fn with_mixed_steps(mut self, steps: Option<[usize; 2]>) -> Self {
        self.mixed_steps = steps;
        self
    }

    /// The components at `x_t`. Logits and raw scales are means over all pixels.
    ///
    /// # Shapes
    /// - `x_t`: `[B, H, W, C]`; `t`: `B` steps
    pub fn forward(&self, x_t: Tensor<4>, t: &[usize], dropout: &mut Dropout) -> Components {
        let [batch, height, width, channels] = x_t.dims();
        let [k, d_latent] = self.codes.val().dims();
        let features = self.model.forward(x_t.clone(), t, None, dropout);
        let logits = pooled(self.logits.forward(ops::silu(features.clone())));
        let codes = self.codes.val().reshape([k, 1, 1, d_latent]);
        let output = self.head.forward(features, codes, k);
        let (predicted, raw) = predicted_and_raw(output, [height, width, channels]);
        let dim = height * width * channels;
        let predicted = predicted
            .reshape([k, batch, dim])
            .swap_dims(0, 1)
            .reshape([batch, k, 1, dim]);
        let raw = raw.expect("a channel of raw scales");
        let raw = raw.reshape([k, batch]).swap_dims(0, 1);
        let x_t = x_t.reshape([batch, 1, 1, dim]).expand([batch, k, 1, dim]);
        let means = self.process.x_0_hat(self.prediction, x_t, t, predicted);
        let parts = Components {
            log_weights: log_softmax(logits, 1),
            means: means.reshape([batch, k, dim]),
            vars: x_0_vars(&self.process, raw, t),
        };
        parts.mixed_at(self.mixed_steps, t)
    }
}

impl Denoise for Codebook {
    fn process(&self) -> &Process {
        &self.process
    }

    /// Its components carry the rest of the variance, and were trained so.
    fn step_var(&self, _asked: StepVar) -> StepVar {
        StepVar::FixedSmall
    }

    fn draw(&self, x_t: Tensor<4>, t: &[usize], noise: &NoiseSource, step: u64) -> Drawn {
        let [_, height, width, channels] = x_t.dims();
        let parts = self.forward(x_t, t, &mut Dropout::off());
        parts.draw([height, width, channels], noise, step)
    }
}

#[cfg(test)]
mod tests {
    use super::super::components::tests::{integrates_to_one, process};
    use super::*;
    use crate::host;
    use crate::nn::{MlpConfig, NetConfig};
    use crate::noise::Use;
    use burn::tensor::Device;

    fn codebook(size: usize, channels: usize) -> Codebook {
        let mut init = Init::new(5, &Device::default());
        let net = NetConfig::Mlp(MlpConfig {
            dim: 16,
            blocks: 1,
            frequencies: 2,
        });
        let late = LateConfig {
            dim: 12,
            ..LateConfig::default()
        };
        let shape = [size, size, channels];
        let model = net.trunk(shape, late.dim, &mut init);
        let outputs = net.late_outputs(shape, channels) + 1;
        Codebook::new(
            model,
            3,
            &late,
            outputs,
            Prediction::V,
            process(),
            &mut init,
        )
    }

    #[test]
    fn the_likelihood_integrates_to_one() {
        let kernel = codebook(1, 1);
        integrates_to_one(|x_t, t| kernel.forward(x_t, t, &mut Dropout::off()));
    }

    /// Item by item: a component belongs to the example whose features it was made of.
    #[test]
    fn an_item_does_not_depend_on_its_batch() {
        let kernel = codebook(2, 2);
        let noise = NoiseSource::new(2, vec![0, 1, 2], &Device::default());
        let x_t = noise.normal(0, Use::Eps, [2, 2, 2]);
        let t = [1, 3, 4];
        let whole = kernel.forward(x_t.clone(), &t, &mut Dropout::off());
        for i in 0..3 {
            let one = kernel.forward(x_t.clone().narrow(0, i, 1), &t[i..=i], &mut Dropout::off());
            let pairs = [
                (whole.log_weights.clone().narrow(0, i, 1), one.log_weights),
                (
                    whole.vars.clone().narrow(0, i, 1).squeeze_dim::<2>(2),
                    one.vars.squeeze_dim::<2>(2),
                ),
                (
                    whole.means.clone().narrow(0, i, 1).reshape([3, 8]),
                    one.means.reshape([3, 8]),
                ),
            ];
            for (a, b) in pairs {
                for (a, b) in host::numbers(a).iter().zip(host::numbers(b)) {
                    assert!((a - b).abs() < 1e-5, "{a} {b}");
                }
            }
        }
    }
}

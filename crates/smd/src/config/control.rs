//! Controls: models that a comparison must have beside it.
//!
//! A soft mixture has more weights and takes more time than one Gaussian. Where its latent is ignored, a
//! gain is theirs; these configs show how much of it.

use super::RunConfig;
use crate::denoise::KernelConfig;
use crate::error::ConfigError;
use crate::host;
use crate::nn::{NetConfig, params};
use crate::objective::ObjectiveConfig;

impl RunConfig {
    /// The same soft mixture with `eta = 0` in every draw, under the paper's objective: the capacity, and
    /// no mixture.
    ///
    /// # Errors
    /// A kernel without a drawn latent.
    pub fn with_eta_off(mut self) -> Result<Self, ConfigError> {
        let KernelConfig::SoftMixture(kernel) = &mut self.kernel else {
            let problem = format!(
                "eta-off is for kernel.kind = \"soft-mixture\", but this one is \"{}\"; use \
                 width-matched or time-matched",
                self.kernel.kind()
            );
            return Err(ConfigError::invalid("--control", problem));
        };
        kernel.eta_off = true;
        self.objective = paper(&self.objective);
        Ok(self)
    }

    /// One Gaussian over a network of the same kind, as wide as it takes to have as many parameters.
    ///
    /// # Errors
    /// A config that is not valid, or was not fitted to its data.
    pub fn width_matched(self) -> Result<Self, ConfigError> {
        let wanted = parameters(&self)?;
        let plain = self.one_gaussian();
        let step = plain.net.width_step();
        let wide = |dim: usize| -> Result<(usize, Self), ConfigError> {
            let mut wide = plain.clone();
            wide.net = wide.net.with_width(dim);
            Ok((parameters(&wide)?.abs_diff(wanted), wide))
        };
        // Parameters grow with the square of the width: start near, then walk while it gets better.
        let ratio = (wanted as f64 / parameters(&plain)? as f64).sqrt();
        let near = (plain.net.width() as f64 * ratio) as usize;
        let mut dim = (near / step).max(1) * step;
        let mut best = wide(dim)?;
        for up in [true, false] {
            loop {
                let next = if up {
                    dim + step
                } else {
                    dim.saturating_sub(step)
                };
                if next == 0 {
                    break;
                }
                let found = wide(next)?;
                if found.0 >= best.0 {
                    break;
                }
                (best, dim) = (found, next);
            }
        }
        Ok(best.1)
    }

    /// One Gaussian over the same network, trained for `ratio` times as many steps: what a step of the
    /// other kernel takes longer, it has more of.
    pub fn time_matched(self, ratio: f64) -> Self {
        let mut plain = self.one_gaussian();
        plain.train.steps = ((plain.train.steps as f64 * ratio).round() as u64).max(1);
        plain
    }

    /// The same with one Gaussian as its backward step.
    pub fn one_gaussian(mut self) -> Self {
        self.kernel = KernelConfig::default();
        self.objective = paper(&self.objective);
        self
    }
}

/// The paper's objective with the same prediction and weights.
fn paper(objective: &ObjectiveConfig) -> ObjectiveConfig {
    ObjectiveConfig {
        prediction: objective.prediction,
        weight: objective.weight,
        ..ObjectiveConfig::default()
    }
}

fn parameters(config: &RunConfig) -> Result<usize, ConfigError> {
    let infos = params::infos(&config.denoiser(&host::device())?);
    Ok(infos.iter().map(params::Info::len).sum())
}

impl NetConfig {
    /// Features at full size.
    fn width(&self) -> usize {
        match self {
            Self::AuthorsUnet(config) => config.dim,
            Self::DdpmUnet(config) => config.dim,
            Self::Mlp(config) => config.dim,
        }
    }

    /// By how much a width may change: it is even, and its norms' groups divide it.
    fn width_step(&self) -> usize {
        let groups = match self {
            Self::AuthorsUnet(config) => config.groups,
            Self::DdpmUnet(config) => config.groups,
            Self::Mlp(_) => 1,
        };
        if groups.is_multiple_of(2) {
            groups
        } else {
            2 * groups
        }
    }

    fn with_width(mut self, dim: usize) -> Self {
        match &mut self {
            Self::AuthorsUnet(config) => config.dim = dim,
            Self::DdpmUnet(config) => config.dim = dim,
            Self::Mlp(config) => config.dim = dim,
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{preset, set};

    fn config(settings: &[&str]) -> RunConfig {
        let settings: Vec<String> = settings.iter().map(|&s| s.into()).collect();
        let mut config = set(preset("gmm-7x7").unwrap(), "preset", &settings).unwrap();
        config.resolve().unwrap();
        config
    }

    #[test]
    fn a_wider_gaussian_has_as_many_parameters() {
        for kernel in ["kernel.kind=soft-mixture", "kernel.kind=codebook"] {
            let soft = config(&[kernel, "net.dim=32"]);
            let wide = soft.clone().width_matched().unwrap();
            let (ours, theirs) = (parameters(&soft).unwrap(), parameters(&wide).unwrap());
            assert_eq!(wide.kernel, KernelConfig::default());
            assert!(
                (ours as f64 / theirs as f64 - 1.0).abs() < 0.06,
                "{kernel}: {ours} and {theirs}"
            );
        }
    }

    #[test]
    fn only_a_drawn_latent_can_be_switched_off() {
        let energy = config(&["kernel.kind=soft-mixture", "objective.kind=energy"]);
        let off = energy.with_eta_off().unwrap();
        off.validate().unwrap();
        assert_eq!(off.objective.kind, None);
        assert!(off.to_toml().contains("eta_off = true"));
        let refused = config(&["kernel.kind=mixture"]).with_eta_off();
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("use width-matched"), "{message}");
    }

    #[test]
    fn a_faster_step_is_taken_more_often() {
        let mixture = config(&["kernel.kind=mixture", "train.steps=1000"]);
        let plain = mixture.time_matched(1.5);
        plain.validate().unwrap();
        assert_eq!(
            (plain.train.steps, plain.kernel),
            (1500, KernelConfig::default())
        );
    }
}

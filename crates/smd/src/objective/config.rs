//! `[objective]` of a config: what is minimised, and for which kernels.

use super::LossWeight;
use crate::denoise::{GaussianVar, KernelConfig};
use crate::error::ConfigError;
use crate::process::Prediction;
use serde::{Deserialize, Serialize};

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// Squared errors, each draw of eta on its own (Alg. 1, Prop. 4.1).
    Paper,
    /// `-log mean_k p(x_{t-1} | x_t, z_k)`: a bound that tightens with the number of latents.
    MultiSample,
    /// `-log p(x_{t-1} | x_t)`, where that is a finite sum.
    Exact,
    /// The bound of an inference network `q(eta | x_{t-1}, x_t)`.
    Encoder,
    /// The energy score of several draws: a proper scoring rule.
    Energy,
}

/// `[objective]`: what the network predicts and what is minimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Default: exact where the kernel's likelihood is a finite sum of several components, else paper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ObjectiveKind>,
    /// Default v.
    pub prediction: Prediction,
    /// Of the steps, in the paper's objective. Default simple.
    pub weight: LossWeight,
    /// Of the likelihoods of `exact` and `multi-sample`, 0 to 1. With 0 each is a number of nats, and the
    /// steps near t = 1, whose variances are small, move the network most; with 1 all steps move it as in
    /// `simple`. The minimum is the same for each `x_t`. Default 0.
    pub balance: f64,
    /// Draws of eta for each example (section 5.3). Default 1; 3 for the energy score, 16 for
    /// multi-sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etas: Option<usize>,
    /// Of the energy score, above 0 and at most 2: at `t = 1` and at `t = T`, between them in a line.
    /// Default 1, 1.
    pub exponent: [f64; 2],
    /// Of the energy score, 0 to 1: how much its draws repel each other. Default 1.
    pub repulsion: f64,
    /// Whether the encoder's draws are weighted by importance, which tightens the bound with their number.
    /// Default false.
    pub importance: bool,
    /// Steps over which the encoder's divergence is phased in. Default 500.
    pub kl_warmup_steps: u64,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            kind: None,
            prediction: Prediction::V,
            weight: LossWeight::Simple,
            balance: 0.0,
            etas: None,
            exponent: [1.0; 2],
            repulsion: 1.0,
            importance: false,
            kl_warmup_steps: 500,
        }
    }
}

/// Which objectives a kernel can be trained with, the default first.
fn objectives(kernel: &KernelConfig) -> &'static [(ObjectiveKind, &'static str)] {
    use ObjectiveKind::{Encoder, Energy, Exact, MultiSample, Paper};
    match kernel {
        KernelConfig::Gaussian(_) => &[(Paper, "paper"), (Exact, "exact")],
        KernelConfig::SoftMixture(config) if config.late.is_none() => &[
            (Paper, "paper"),
            (MultiSample, "multi-sample"),
            (Energy, "energy"),
        ],
        KernelConfig::SoftMixture(_) => &[
            (Paper, "paper"),
            (MultiSample, "multi-sample"),
            (Energy, "energy"),
            (Encoder, "encoder"),
        ],
        KernelConfig::Codebook(_) | KernelConfig::Mixture(_) => &[(Exact, "exact")],
    }
}

impl ObjectiveConfig {
    /// What is minimised for `kernel`.
    pub fn kind(&self, kernel: &KernelConfig) -> ObjectiveKind {
        self.kind.unwrap_or(objectives(kernel)[0].0)
    }

    /// Draws of eta for each example.
    pub fn etas(&self, kernel: &KernelConfig) -> usize {
        self.etas.unwrap_or(match self.kind(kernel) {
            ObjectiveKind::Energy => 3,
            ObjectiveKind::MultiSample => 16,
            _ => 1,
        })
    }

    /// Checks the fields, and that `kernel` can be trained so.
    ///
    /// # Errors
    /// The first offending field.
    pub fn validate(&self, kernel: &KernelConfig) -> Result<(), ConfigError> {
        let kind = self.kind(kernel);
        let known = objectives(kernel);
        if !known.iter().any(|(known, _)| *known == kind) {
            let names: Vec<String> = known
                .iter()
                .map(|(_, name)| format!("\"{name}\""))
                .collect();
            let late = match kernel {
                KernelConfig::SoftMixture(config) if config.late.is_none() => {
                    ", and \"encoder\" where the latent enters late ([kernel.late])"
                }
                _ => "",
            };
            let problem = format!(
                "is \"{}\", but kernel.kind = \"{}\" is trained with {}{late}",
                name(kind),
                kernel.kind(),
                names.join(" or "),
            );
            return Err(ConfigError::invalid("objective.kind", problem));
        }
        let fixed = |config: &crate::denoise::GaussianConfig| config.variance == GaussianVar::Fixed;
        if kind == ObjectiveKind::Exact && matches!(kernel, KernelConfig::Gaussian(c) if fixed(c)) {
            let problem =
                "is \"exact\", which learns a variance; set `kernel.variance = \"per-step\"`";
            return Err(ConfigError::invalid("objective.kind", problem));
        }
        let etas = self.etas(kernel);
        let least = if kind == ObjectiveKind::Energy { 2 } else { 1 };
        if etas < least {
            let problem = match least {
                1 => format!("is {etas}, must be at least 1"),
                _ => format!("is {etas}, but draws repel each other only from 2 on"),
            };
            return Err(ConfigError::invalid("objective.etas", problem));
        }
        for exponent in self.exponent {
            if !(exponent > 0.0 && exponent <= 2.0) {
                let problem = format!("has {exponent}, must be above 0 and at most 2");
                return Err(ConfigError::invalid("objective.exponent", problem));
            }
        }
        for (field, value) in [
            ("objective.balance", self.balance),
            ("objective.repulsion", self.repulsion),
        ] {
            if !(0.0..=1.0).contains(&value) {
                let problem = format!("is {value}, must be from 0 to 1");
                return Err(ConfigError::invalid(field, problem));
            }
        }
        Ok(())
    }
}

fn name(kind: ObjectiveKind) -> &'static str {
    match kind {
        ObjectiveKind::Paper => "paper",
        ObjectiveKind::MultiSample => "multi-sample",
        ObjectiveKind::Exact => "exact",
        ObjectiveKind::Encoder => "encoder",
        ObjectiveKind::Energy => "energy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunConfig;

    fn refusal(text: &str) -> String {
        let config = RunConfig::from_toml(text, "test").unwrap();
        let error = config.objective.validate(&config.kernel).unwrap_err();
        error.to_string()
    }

    #[test]
    fn an_illegal_pair_names_the_legal_ones() {
        assert_eq!(
            refusal("kernel.kind = \"mixture\"\nobjective.kind = \"energy\""),
            "objective.kind is \"energy\", but kernel.kind = \"mixture\" is trained with \"exact\""
        );
        assert_eq!(
            refusal("kernel.kind = \"soft-mixture\"\nobjective.kind = \"encoder\""),
            "objective.kind is \"encoder\", but kernel.kind = \"soft-mixture\" is trained with \
             \"paper\" or \"multi-sample\" or \"energy\", and \"encoder\" where the latent enters late \
             ([kernel.late])"
        );
        let gaussian = refusal("objective.kind = \"exact\"");
        assert!(
            gaussian.ends_with("set `kernel.variance = \"per-step\"`"),
            "{gaussian}"
        );
    }

    #[test]
    fn numbers_out_of_range_name_their_field() {
        let energy = "kernel.kind = \"soft-mixture\"\nobjective.kind = \"energy\"\n";
        for (setting, field) in [
            ("objective.etas = 1", "objective.etas is 1"),
            (
                "objective.exponent = [1.0, 2.5]",
                "objective.exponent has 2.5",
            ),
            ("objective.repulsion = -0.1", "objective.repulsion is -0.1"),
            ("objective.balance = 1.5", "objective.balance is 1.5"),
        ] {
            let message = refusal(&format!("{energy}{setting}"));
            assert!(message.starts_with(field), "{message}");
        }
    }

    #[test]
    fn a_kernel_has_a_default_objective() {
        let kind = |text: &str| {
            let config = RunConfig::from_toml(text, "test").unwrap();
            config.objective.validate(&config.kernel).unwrap();
            (
                config.objective.kind(&config.kernel),
                config.objective.etas(&config.kernel),
            )
        };
        assert_eq!(
            kind("kernel.kind = \"gaussian\""),
            (ObjectiveKind::Paper, 1)
        );
        assert_eq!(
            kind("kernel.kind = \"soft-mixture\""),
            (ObjectiveKind::Paper, 1)
        );
        assert_eq!(
            kind("kernel.kind = \"codebook\""),
            (ObjectiveKind::Exact, 1)
        );
        let energy = "kernel.kind = \"soft-mixture\"\nobjective.kind = \"energy\"";
        assert_eq!(kind(energy), (ObjectiveKind::Energy, 3));
    }
}

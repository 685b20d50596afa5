//! A mixture as it is written in a config file, checked number by number.

use serde::{Deserialize, Serialize};

use super::{GaussianMixture, axes};
use crate::error::MixtureError;

/// A Gaussian mixture of `K` components in `D` dimensions.
///
/// The spread is given by exactly one of `stds` (round components), `variances` (a number per
/// coordinate) and `covariances` (a matrix per component). In TOML:
///
/// ```
/// # use smd::gmm::{GaussianMixture, MixtureConfig};
/// let config: MixtureConfig = toml::from_str(
///     "weights = [1, 3]
///      means = [[-1.0, 0.0], [1.0, 0.5]]
///      stds = [0.1, 0.2]",
/// )?;
/// let mixture = GaussianMixture::from_config(&config)?;
/// assert_eq!(mixture.dim(), 2);
/// assert_eq!(mixture.mean()[0], 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureConfig {
    /// Positive, one per component; scaled to sum to 1. Default: all equal.
    pub weights: Option<Vec<f64>>,
    /// `K` lists of `D` numbers, in the unit of the data.
    pub means: Vec<Vec<f64>>,
    /// Positive standard deviations, one per component, in the unit of the data.
    pub stds: Option<Vec<f64>>,
    /// Positive variances, `K` lists of `D` numbers, in the unit of the data squared.
    pub variances: Option<Vec<Vec<f64>>>,
    /// Symmetric positive definite matrices, `K` lists of `D` rows of `D` numbers, in the unit of the
    /// data squared.
    pub covariances: Option<Vec<Vec<Vec<f64>>>>,
}

impl GaussianMixture {
    /// The mixture that `config` describes, its weights scaled to sum to 1.
    ///
    /// # Errors
    /// The first of: no means, means of different lengths, none or several of `stds`, `variances` and
    /// `covariances`, a list whose length does not fit `means`, a number that is not finite, a weight,
    /// std or variance that is not positive, a covariance that is not symmetric or has a variance that
    /// is not positive.
    pub fn from_config(config: &MixtureConfig) -> Result<Self, MixtureError> {
        let dim = match config.means.first() {
            None => return Err(MixtureError::NoComponents),
            Some(mean) if mean.is_empty() => return Err(MixtureError::NoDimensions),
            Some(mean) => mean.len(),
        };
        let components = config.means.len();

        check_rows("means", &config.means, components, dim)?;
        for (component, mean) in config.means.iter().enumerate() {
            check_all("means", component, mean, f64::is_finite, "a finite number")?;
        }
        let weights = match &config.weights {
            None => vec![1.0 / components as f64; components],
            Some(weights) => normalised(weights, components)?,
        };
        let (variances, axes) = match (&config.stds, &config.variances, &config.covariances) {
            (Some(stds), None, None) => (round_variances(stds, components, dim)?, None),
            (None, Some(variances), None) => {
                check_rows("variances", variances, components, dim)?;
                for (component, row) in variances.iter().enumerate() {
                    check_all("variances", component, row, is_positive, POSITIVE)?;
                }
                (variances.concat(), None)
            }
            (None, None, Some(covariances)) => {
                check_count("covariances", covariances.len(), components)?;
                let (variances, axes) = axes::of_covariances(covariances, dim)?;
                (variances, Some(axes.into()))
            }
            (None, None, None) => return Err(MixtureError::Spread { found: "none" }),
            _ => return Err(MixtureError::Spread { found: "several" }),
        };
        Ok(Self {
            dim,
            weights,
            means: config.means.concat(),
            variances,
            axes,
        })
    }
}

/// Weights that sum to 1, in the ratios of `weights`.
fn normalised(weights: &[f64], components: usize) -> Result<Vec<f64>, MixtureError> {
    check_count("weights", weights.len(), components)?;
    for (component, &weight) in weights.iter().enumerate() {
        check_all("weights", component, &[weight], is_positive, POSITIVE)?;
    }
    // By the largest first, so that the sum cannot overflow.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let sum: f64 = weights.iter().map(|weight| weight / largest).sum();
    Ok(weights
        .iter()
        .map(|weight| weight / largest / sum)
        .collect())
}

/// Variances `[K, D]` of round components.
fn round_variances(stds: &[f64], components: usize, dim: usize) -> Result<Vec<f64>, MixtureError> {
    check_count("stds", stds.len(), components)?;
    for (component, &std) in stds.iter().enumerate() {
        // Its square must be a variance too: 1e-200 is positive, its square is 0.
        let is_std = |std: f64| is_positive(std) && is_positive(std * std);
        check_all("stds", component, &[std], is_std, POSITIVE)?;
    }
    Ok(stds
        .iter()
        .flat_map(|std| std::iter::repeat_n(std * std, dim))
        .collect())
}

const POSITIVE: &str = "a positive finite number";

fn is_positive(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

fn check_count(field: &'static str, found: usize, expected: usize) -> Result<(), MixtureError> {
    if found == expected {
        Ok(())
    } else {
        Err(MixtureError::Count {
            field,
            found,
            expected,
        })
    }
}

fn check_rows(
    field: &'static str,
    rows: &[Vec<f64>],
    components: usize,
    dim: usize,
) -> Result<(), MixtureError> {
    check_count(field, rows.len(), components)?;
    match rows.iter().enumerate().find(|(_, row)| row.len() != dim) {
        None => Ok(()),
        Some((component, row)) => Err(MixtureError::Dimensions {
            field,
            component,
            found: row.len(),
            expected: dim,
        }),
    }
}

pub(super) fn check_all(
    field: &'static str,
    component: usize,
    values: &[f64],
    is_good: impl Fn(f64) -> bool,
    expected: &'static str,
) -> Result<(), MixtureError> {
    match values.iter().find(|&&value| !is_good(value)) {
        None => Ok(()),
        Some(&found) => Err(MixtureError::Number {
            field,
            component,
            found,
            expected,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GaussianMixture, String> {
        let config: MixtureConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        GaussianMixture::from_config(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn stds_and_equal_variances_are_the_same_mixture() {
        let round = read("means = [[0, 1], [2, 3]]\nstds = [0.5, 2]").unwrap();
        let diagonal =
            read("means = [[0, 1], [2, 3]]\nvariances = [[0.25, 0.25], [4, 4]]").unwrap();
        assert_eq!(round, diagonal);
    }

    #[test]
    fn diagonal_covariances_are_variances() {
        let full = read("means = [[0, 1]]\ncovariances = [[[0.25, 0], [0, 4]]]").unwrap();
        let diagonal = read("means = [[0, 1]]\nvariances = [[0.25, 4]]").unwrap();
        for x in [[0.0, 0.0], [1.0, -3.0]] {
            let off = full.log_density(&x) - diagonal.log_density(&x);
            assert!(off.abs() < 1e-14, "{off}");
        }
        assert!((full.variance()[1] - 4.0).abs() < 1e-14);
    }

    /// `(1, 1)` is the long axis: variance 1.5; `(1, -1)` the short one: 0.5.
    #[test]
    fn a_covariance_has_its_density() {
        let full = read("means = [[0, 0]]\ncovariances = [[[1, 0.5], [0.5, 1]]]").unwrap();
        let density = full.log_density(&[1.0, 1.0]);
        let expected = -0.5 * (2.0 / 1.5 + (std::f64::consts::TAU.powi(2) * 0.75).ln());
        assert!(
            (density - expected).abs() < 1e-14,
            "{density}, not {expected}"
        );
    }

    #[test]
    fn weights_are_normalised_and_equal_by_default() {
        let weights = |text: &str| read(text).unwrap().weights;
        assert_eq!(weights("means = [[0], [1]]\nstds = [1, 1]"), [0.5, 0.5]);
        assert_eq!(
            weights("weights = [1, 3]\nmeans = [[0], [1]]\nstds = [1, 1]"),
            [0.25, 0.75]
        );
        let huge = weights("weights = [1e308, 1e308]\nmeans = [[0], [1]]\nstds = [1, 1]");
        assert_eq!(huge, [0.5, 0.5]);
    }

    #[test]
    fn a_config_survives_toml() {
        let config = MixtureConfig {
            weights: None,
            means: vec![vec![0.1, -2.0]],
            stds: None,
            variances: Some(vec![vec![0.3, 1e-9]]),
            covariances: None,
        };
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<MixtureConfig>(&text).unwrap(), config);
    }

    #[test]
    fn a_bad_config_names_the_field_and_the_component() {
        let cases = [
            ("means = []\nstds = []", "`means` is empty"),
            ("means = [[]]\nstds = [1]", "`means` has empty lists"),
            (
                "means = [[0, 1], [2]]\nstds = [1, 1]",
                "`means[1]` has length 1, expected 2",
            ),
            ("means = [[0]]", "found none"),
            (
                "means = [[0]]\nstds = [1]\nvariances = [[1]]",
                "found several",
            ),
            (
                "means = [[0, 0]]\ncovariances = [[[1, 0.5], [0.4, 1]]]",
                "`covariances[0]` is not symmetric",
            ),
            (
                "means = [[0, 0]]\ncovariances = [[[1, 2], [2, 1]]]",
                "has the variance -1",
            ),
            (
                "means = [[0, 0]]\ncovariances = [[[1, 2]]]",
                "`covariances[0]` has length 1, expected 2",
            ),
            (
                "means = [[0]]\ncovariances = [[[nan]]]",
                "`covariances[0]` is NaN",
            ),
            (
                "means = [[0], [1]]\nstds = [1]",
                "`stds` has length 1, expected 2",
            ),
            (
                "means = [[0]]\nstds = [0]",
                "`stds[0]` is 0, expected a positive finite number",
            ),
            ("means = [[0]]\nstds = [1e-200]", "`stds[0]`"),
            ("means = [[0]]\nstds = [nan]", "`stds[0]` is NaN"),
            (
                "means = [[0], [inf]]\nstds = [1, 1]",
                "`means[1]` is inf, expected a finite",
            ),
            (
                "means = [[0]]\nvariances = [[1, 1]]",
                "`variances[0]` has length 2, expected 1",
            ),
            ("means = [[0]]\nvariances = [[-1]]", "`variances[0]` is -1"),
            (
                "weights = [1, 1]\nmeans = [[0]]\nstds = [1]",
                "`weights` has length 2, expected 1",
            ),
            (
                "weights = [0]\nmeans = [[0]]\nstds = [1]",
                "`weights[0]` is 0",
            ),
            ("means = [[0]]\nstd = [1]", "unknown field `std`"),
        ];
        for (text, expected) in cases {
            let message = read(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}

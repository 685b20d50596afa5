//! A model held against what another program computed with the same weights.
//!
//! A reference is a safetensors file: `input.x_0` or `input.x_t`, `input.t`, `input.eps`, `input.eta`,
//! and what came of them, `expected.x_t`, `expected.z_t`, `expected.eps`, `expected.x_0` or
//! `expected.v`, and `expected.loss`. Images are `[B, C, H, W]`, steps count from 0. See
//! `docs/formats.md`.

mod reference;

use crate::config::RunConfig;
use crate::denoise::{Denoise, Denoiser};
use crate::error::ImportError;
use crate::host;
use crate::nn::Dropout;
use crate::objective;
use crate::process::Prediction;
use burn::tensor::{Device, Tensor};
use reference::Reference;
use serde::Serialize;
use std::path::Path;

/// How far two numbers may be apart: `|ours - theirs| <= absolute + relative |theirs|`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// Default 1e-4.
    pub relative: f64,
    /// Default 1e-5.
    pub absolute: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            relative: 1e-4,
            absolute: 1e-5,
        }
    }
}

/// How one of the quantities compares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What follows `expected.` in the reference.
    pub name: String,
    /// The largest difference; NaN if one of the numbers is.
    pub max_abs: f64,
    /// Where it is, in the reference's layout.
    pub index: Vec<usize>,
    /// Our number there.
    pub ours: f32,
    /// Theirs.
    pub theirs: f32,
    /// How many numbers are outside of the tolerance.
    pub outside: usize,
    /// How many numbers there are.
    pub count: usize,
    /// Whether none is.
    pub agrees: bool,
}

/// Runs a model on the inputs of a reference and compares each output that the reference has.
///
/// # Errors
/// A file that is no reference, or does not suit the model.
pub fn verify(
    denoiser: &Denoiser,
    config: &RunConfig,
    reference: &Path,
    tolerance: Tolerance,
    device: &Device,
) -> Result<Vec<Comparison>, ImportError> {
    let reference = Reference::open(reference, config, device)?;
    let process = denoiser.process();
    let t = reference.steps(process.steps())?;
    let mut found: Vec<(&str, Tensor<4>)> = Vec::new();

    let (x_t, x_0) = match reference.x_0()? {
        Some(x_0) => {
            let x_t = process.q_sample(x_0.clone(), &t, reference.image("input.eps")?);
            found.push(("x_t", x_t.clone()));
            (x_t, Some(x_0))
        }
        None => (reference.image("input.x_t")?, None),
    };
    let mut off = Dropout::off();
    let (kind, output) = match denoiser {
        Denoiser::Gaussian(kernel) => (
            kernel.prediction(),
            kernel.forward(x_t.clone(), &t, &mut off),
        ),
        Denoiser::SoftMixture(kernel) => {
            let eta = reference.image("input.eta")?;
            if reference.expects("z_t") {
                found.push(("z_t", kernel.latent(x_t.clone(), &t, eta.clone())));
            }
            let output = kernel.forward(x_t.clone(), &t, eta, &mut off);
            (kernel.prediction(), output)
        }
        Denoiser::Codebook(_) | Denoiser::Mixture(_) => {
            return Err(reference.refuse(
                "holds one prediction, but the model gives several at once; verify a gaussian or a \
                 soft-mixture",
            ));
        }
    };
    found.push((name(kind), output.clone()));
    reference.refuse_others(&["x_t", "z_t", name(kind), "loss"], &found, name(kind))?;

    let mut comparisons = Vec::new();
    for (name, ours) in found {
        if reference.expects(name) {
            let ours = ours.permute([0, 3, 1, 2]); // [B, C, H, W]
            let shape = ours.dims();
            let theirs = reference.expected(name, &shape)?;
            comparisons.push(compare(
                name,
                &shape,
                &host::numbers(ours),
                &theirs,
                tolerance,
            ));
        }
    }
    if reference.expects("loss") {
        let eps = reference.image("input.eps")?;
        let x_0 = x_0.unwrap_or_else(|| process.x_0_hat(Prediction::Eps, x_t, &t, eps.clone()));
        let target = process.target(kind, x_0, &t, eps);
        let objective = config.objective(1);
        let loss = objective::weighted_square(process, &objective, kind, &t, output, target);
        let theirs = reference.expected("loss", &[1])?;
        comparisons.push(compare(
            "loss",
            &[1],
            &host::numbers(loss),
            &theirs,
            tolerance,
        ));
    }
    if comparisons.is_empty() {
        return Err(reference.refuse("has no expected.* that this model computes"));
    }
    Ok(comparisons)
}

/// What follows `expected.` for a prediction.
fn name(kind: Prediction) -> &'static str {
    match kind {
        Prediction::Eps => "eps",
        Prediction::X0 => "x_0",
        Prediction::V => "v",
    }
}

/// Compares two lists of numbers, each of `shape`.
///
/// # Panics
/// If one of them is empty or has another length.
pub fn compare(
    name: &str,
    shape: &[usize],
    ours: &[f32],
    theirs: &[f32],
    tolerance: Tolerance,
) -> Comparison {
    let count: usize = shape.iter().product();
    assert!(
        count > 0 && ours.len() == count && theirs.len() == count,
        "{name}"
    );
    let difference = |i: usize| (f64::from(ours[i]) - f64::from(theirs[i])).abs();
    let within = |i: usize| {
        difference(i) <= tolerance.absolute + tolerance.relative * f64::from(theirs[i]).abs()
    };
    // NaN counts as the largest, and is within no tolerance.
    let worst = (1..count).fold(0, |worst, i| {
        if difference(i).total_cmp(&difference(worst)).is_gt() {
            i
        } else {
            worst
        }
    });
    let outside = (0..count).filter(|&i| !within(i)).count();
    Comparison {
        name: name.into(),
        max_abs: difference(worst),
        index: unravel(worst, shape),
        ours: ours[worst],
        theirs: theirs[worst],
        outside,
        count,
        agrees: outside == 0,
    }
}

/// The place of element `i` of an array of `shape`, whose last axis runs fastest.
fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let place = i % size;
            i /= size;
            place
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_difference_is_named() {
        let tolerance = Tolerance::default();
        let theirs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let same = compare("v", &[2, 3], &theirs, &theirs, tolerance);
        assert!(same.agrees && same.max_abs == 0.0);
        let ours = [1.0, 2.1, 3.0, 4.0, 5.0, 5.5];
        let other = compare("v", &[2, 3], &ours, &theirs, tolerance);
        assert_eq!(
            (other.index, other.ours, other.theirs),
            (vec![1, 2], 5.5, 6.0)
        );
        assert_eq!((other.outside, other.count, other.agrees), (2, 6, false));
    }

    #[test]
    fn the_tolerance_is_that_of_allclose() {
        let tolerance = Tolerance {
            relative: 0.125,
            absolute: 0.5,
        };
        let at = |ours: f32| compare("v", &[1], &[ours], &[4.0], tolerance).agrees;
        assert!(at(5.0) && at(3.0) && !at(5.001) && !at(2.999));
    }

    #[test]
    fn nan_agrees_with_nothing() {
        let nan = f32::NAN;
        let one = compare(
            "v",
            &[3],
            &[9.0, nan, 0.0],
            &[0.0, nan, 0.0],
            Tolerance::default(),
        );
        assert!(!one.agrees && one.max_abs.is_nan());
        assert_eq!(one.index, [1]);
    }
}

//! Whether numbers of some precision tell the components of a mixture from points.
//!
//! A draw is a place plus a width, rounded to the precision of the place. A component much narrower than
//! that has draws without its width, and densities there mean nothing.

use crate::error::TheoryError;
use crate::gmm::GaussianMixture;
use crate::schedule::NoiseSchedule;

/// What a kind of numbers tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Precision {
    /// Least width of a component over the largest number near by.
    pub(super) width: f64,
    /// Least and largest size.
    pub(super) sizes: [f64; 2],
}

/// Of f64, which rounds to 1e-16: widths to a few digits, and no square overflows.
const DOUBLE: Precision = Precision {
    width: 1e-12,
    sizes: [1e-100, 1e100],
};

/// Checks that f64 tells the components of a mixture from points at every step of a chain.
///
/// # Errors
/// The first that it does not tell, with its step, or one whose squares f64 does not hold.
pub fn check(mixture: &GaussianMixture, schedule: &NoiseSchedule) -> Result<(), TheoryError> {
    DOUBLE.check(mixture, mixture, 0)?;
    let origin = vec![0.0; mixture.dim()];
    for t in 1..=schedule.steps() {
        let (now, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
        let widths = mixture.backward(&origin, now, before);
        DOUBLE.check(&widths, &mixture.marginal(before), t)?;
    }
    Ok(())
}

impl Precision {
    /// Checks the widths of the components of one law where means are those of another.
    pub(super) fn check(
        self,
        widths: &GaussianMixture,
        means: &GaussianMixture,
        t: usize,
    ) -> Result<(), TheoryError> {
        let [least, most] = self.sizes;
        let mut reach = 0.0_f64;
        for (component, (width, mean)) in widths.components().zip(means.components()).enumerate() {
            let stds = width.variances.iter().map(|var| var.sqrt());
            let sizes = mean.mean.iter().map(|mu| mu.abs()).chain(stds.clone());
            let largest = sizes.fold(0.0, f64::max);
            let smallest = stds.fold(f64::INFINITY, f64::min);
            for found in [smallest, largest] {
                if !(least..=most).contains(&found) {
                    return Err(TheoryError::Size {
                        component,
                        found,
                        least,
                        most,
                    });
                }
            }
            reach = reach.max(largest);
        }
        for (component, width) in widths.components().enumerate() {
            let stds = width.variances.iter().map(|var| var.sqrt());
            let std = stds.fold(f64::INFINITY, f64::min);
            if std < self.width * reach {
                return Err(TheoryError::Narrow {
                    component,
                    t,
                    std,
                    reach,
                    least: self.width,
                });
            }
        }
        Ok(())
    }
}

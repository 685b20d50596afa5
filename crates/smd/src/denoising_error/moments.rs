//! Means of several numbers over draws, and the standard error of what is linear in them.

/// Means and covariances of rows of `N` numbers.
#[derive(Debug, Clone)]
pub(super) struct Moments<const N: usize> {
    count: f64,
    mean: [f64; N],
    /// Covariances of one row, `[N, N]`.
    covariance: [[f64; N]; N],
}

impl<const N: usize> Moments<N> {
    /// The moments of at least two rows, summed in their order.
    pub(super) fn of<'a>(rows: impl Iterator<Item = &'a [f64; N]> + Clone) -> Self {
        let mut sum = [0.0; N];
        let mut count = 0.0;
        for row in rows.clone() {
            count += 1.0;
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += value;
            }
        }
        let mean = sum.map(|sum| sum / count);
        // In a second pass: numbers of size 20 may differ by 1e-6.
        let mut covariance = [[0.0; N]; N];
        for row in rows {
            for i in 0..N {
                for j in 0..N {
                    covariance[i][j] += (row[i] - mean[i]) * (row[j] - mean[j]) / (count - 1.0);
                }
            }
        }
        Self {
            count,
            mean,
            covariance,
        }
    }

    /// The means.
    pub(super) fn mean(&self) -> [f64; N] {
        self.mean
    }

    /// `gradient . mean` and its standard error.
    pub(super) fn linear(&self, gradient: [f64; N]) -> (f64, f64) {
        let value = gradient
            .iter()
            .zip(self.mean)
            .map(|(g, mean)| g * mean)
            .sum();
        let rows = gradient.iter().zip(&self.covariance);
        let var: f64 = rows
            .map(|(g, row)| {
                g * gradient
                    .iter()
                    .zip(row)
                    .map(|(h, cov)| h * cov)
                    .sum::<f64>()
            })
            .sum();
        (value, (var.max(0.0) / self.count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_equal_numbers_has_no_error() {
        let rows: Vec<[f64; 2]> = (0..10)
            .map(|i| [f64::from(i), f64::from(i) + 0.5])
            .collect();
        let moments = Moments::of(rows.iter());
        let (value, se) = moments.linear([-1.0, 1.0]);
        assert!((value - 0.5).abs() < 1e-14 && se < 1e-12, "{value} {se}");
        // The variance of 0..=9 is 55 / 6.
        let (value, se) = moments.linear([1.0, 0.0]);
        assert_eq!(value, 4.5);
        assert!((se - (55.0_f64 / 60.0).sqrt()).abs() < 1e-14, "{se}");
    }
}

//! Symmetric matrices by their eigenvectors: the axes of a component.

use super::config::check_all;
use crate::error::MixtureError;
use faer::{Mat, Side};

/// Adds `sum_i factor_i u_i (u_i . d)` to `out`: a symmetric matrix, given by its axes `u_i` and a factor
/// along each, times `d`.
///
/// # Shapes
/// - `axes`: `[D, D]`, an orthonormal row each, or `None` for the coordinate axes; the others: `[D]`
pub(super) fn add_scaled(
    axes: Option<&[f64]>,
    factors: impl Iterator<Item = f64>,
    d: &[f64],
    out: &mut [f64],
) {
    let Some(axes) = axes else {
        for ((out, factor), d) in out.iter_mut().zip(factors).zip(d) {
            *out += factor * d;
        }
        return;
    };
    for (u, factor) in axes.chunks_exact(d.len()).zip(factors) {
        let along: f64 = u.iter().zip(d).map(|(u, d)| u * d).sum();
        for (out, u) in out.iter_mut().zip(u) {
            *out += factor * along * u;
        }
    }
}

/// Variances `[K, D]` and axes `[K, D, D]` of covariance matrices.
pub(super) fn of_covariances(
    covariances: &[Vec<Vec<f64>>],
    dim: usize,
) -> Result<(Vec<f64>, Vec<f64>), MixtureError> {
    let (mut variances, mut axes) = (Vec::new(), Vec::new());
    for (component, rows) in covariances.iter().enumerate() {
        check_shape(component, rows, dim)?;
        let matrix = Mat::from_fn(dim, dim, |i, j| rows[i][j]);
        let problem = |problem| MixtureError::Covariance { component, problem };
        let eigen = matrix
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| problem("has no eigenvectors that could be found".into()))?;
        for i in 0..dim {
            let var = eigen.S().column_vector()[i];
            if var <= 0.0 {
                let direction: Vec<f64> = (0..dim).map(|j| eigen.U()[(j, i)]).collect();
                return Err(problem(format!(
                    "has the variance {var} in the direction {direction:.3?}, expected a positive one"
                )));
            }
            variances.push(var);
            axes.extend((0..dim).map(|j| eigen.U()[(j, i)]));
        }
    }
    Ok((variances, axes))
}

/// Checks that the rows are a symmetric matrix of finite numbers.
fn check_shape(component: usize, rows: &[Vec<f64>], dim: usize) -> Result<(), MixtureError> {
    if let Some(found) = std::iter::once(rows.len())
        .chain(rows.iter().map(Vec::len))
        .find(|&len| len != dim)
    {
        return Err(MixtureError::Dimensions {
            field: "covariances",
            component,
            found,
            expected: dim,
        });
    }
    for row in rows {
        check_all(
            "covariances",
            component,
            row,
            f64::is_finite,
            "a finite number",
        )?;
    }
    for i in 0..dim {
        for j in 0..i {
            let (a, b) = (rows[i][j], rows[j][i]);
            if (a - b).abs() > 1e-9 * (rows[i][i] * rows[j][j]).abs().sqrt() {
                return Err(MixtureError::Covariance {
                    component,
                    problem: format!(
                        "is not symmetric: row {i} has {a} in column {j}, row {j} has {b} in column {i}"
                    ),
                });
            }
        }
    }
    Ok(())
}

//! What an extractor says of a set of images: a row of numbers for each.

use crate::error::EvalError;

/// Rows of numbers, one for each image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    dim: usize,
    values: Vec<f32>,
}

impl Features {
    /// Rows of `dim` numbers, one after the other.
    ///
    /// # Errors
    /// A number that is not finite, by its row.
    ///
    /// # Panics
    /// If `values` are no whole rows.
    pub fn new(dim: usize, values: Vec<f32>) -> Result<Self, EvalError> {
        assert!(
            dim > 0 && values.len().is_multiple_of(dim),
            "{} numbers in rows of {dim}",
            values.len()
        );
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(EvalError::NotFinite {
                what: "features",
                row: at / dim,
                found: f64::from(values[at]),
            });
        }
        Ok(Self { dim, values })
    }

    /// Numbers of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All numbers, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If there is none.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..][..self.dim]
    }

    /// Some of the rows, in the order of `rows`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            dim: self.dim,
            values: rows.iter().flat_map(|&i| self.row(i)).copied().collect(),
        }
    }

    /// The first `count` rows, or all where there are fewer.
    pub fn first(&self, count: usize) -> Self {
        let len = count.min(self.len());
        Self {
            dim: self.dim,
            values: self.values[..len * self.dim].to_vec(),
        }
    }

    /// Adds the rows of another shard behind its own.
    ///
    /// # Errors
    /// Rows of another length.
    pub fn append(&mut self, mut more: Self) -> Result<(), EvalError> {
        if self.is_empty() {
            *self = more;
            return Ok(());
        }
        self.same_dim(&more)?;
        self.values.append(&mut more.values);
        Ok(())
    }

    /// Checks that rows can be compared.
    ///
    /// # Errors
    /// Rows of different lengths.
    pub fn same_dim(&self, other: &Self) -> Result<(), EvalError> {
        same_dim(self.dim, other.dim)
    }

    /// The numbers in double precision.
    pub(super) fn to_f64(&self) -> Vec<f64> {
        self.values.iter().copied().map(f64::from).collect()
    }
}

/// Two lengths of rows that must be one.
pub(super) fn same_dim(samples: usize, reference: usize) -> Result<(), EvalError> {
    if samples != reference {
        return Err(EvalError::Dim { samples, reference });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_named_by_its_row() {
        let error = Features::new(2, vec![0.0, 1.0, 2.0, f32::NAN]).unwrap_err();
        assert!(error.to_string().contains("row 1"), "{error}");
    }

    #[test]
    fn shards_are_put_together() {
        let part = |values: &[f32]| Features::new(2, values.to_vec()).unwrap();
        let mut all = Features::default();
        all.append(part(&[0.0, 1.0])).unwrap();
        all.append(part(&[2.0, 3.0, 4.0, 5.0])).unwrap();
        assert_eq!((all.len(), all.row(2)), (3, &[4.0, 5.0][..]));
        assert_eq!(all.select(&[2, 0]), part(&[4.0, 5.0, 0.0, 1.0]));
        let error = all
            .append(Features::new(3, vec![0.0; 3]).unwrap())
            .unwrap_err();
        assert!(error.to_string().contains('3'), "{error}");
    }
}

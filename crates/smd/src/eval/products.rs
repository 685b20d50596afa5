//! Products of many rows with many rows, in double precision.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows of one piece of work; the split does not depend on the number of threads.
const ROWS: usize = 64;

/// `a b^T`: the inner products of the rows of `a` with those of `b`.
///
/// # Shapes
/// - `a`: `[M, D]`, `b`: `[N, D]`; returns `[M, N]`
pub(super) fn inner_products(a: &[f64], b: &[f64], dim: usize) -> Vec<f64> {
    let columns = b.len() / dim;
    let mut out = vec![0.0; a.len() / dim * columns];
    let right = MatRef::from_row_major_slice(b, columns, dim).transpose();
    out.par_chunks_mut(ROWS * columns)
        .zip(a.par_chunks(ROWS * dim))
        .for_each(|(out, a)| {
            let rows = a.len() / dim;
            matmul(
                MatMut::from_row_major_slice_mut(out, rows, columns),
                Accum::Replace,
                MatRef::from_row_major_slice(a, rows, dim),
                right,
                1.0,
                Par::Seq,
            );
        });
    out
}

/// `||a_i||^2` of every row.
pub(super) fn squares(a: &[f64], dim: usize) -> Vec<f64> {
    let square = |row: &[f64]| row.iter().map(|x| x * x).sum();
    a.chunks_exact(dim).map(square).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_a_plain_loop() {
        let dim = 7;
        let a: Vec<f64> = (0..dim * 150).map(|i| ((i * 37) % 101) as f64).collect();
        let b: Vec<f64> = (0..dim * 11).map(|i| ((i * 53) % 97) as f64).collect();
        let found = inner_products(&a, &b, dim);
        for (i, x) in a.chunks(dim).enumerate() {
            for (j, y) in b.chunks(dim).enumerate() {
                let sum: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                assert_eq!(found[i * 11 + j], sum);
            }
        }
        let square: f64 = a[21..28].iter().map(|x| x * x).sum();
        assert_eq!(squares(&a, dim)[3], square);
    }
}

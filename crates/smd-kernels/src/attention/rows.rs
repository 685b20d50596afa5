//! Rows of numbers inside wider rows: one head's keys in `[B, N, 3 * heads * d]`.

use std::marker::PhantomData;

/// `count` rows of `len` numbers, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    start: *const f32,
    count: usize,
    len: usize,
    stride: usize,
    life: PhantomData<&'a [f32]>,
}

// SAFETY: as shared slices of numbers are.
unsafe impl Send for Rows<'_> {}
// SAFETY: as shared slices of numbers are.
unsafe impl Sync for Rows<'_> {}

impl<'a> Rows<'a> {
    /// Rows from the start of `values` on.
    pub(crate) fn new(values: &'a [f32], count: usize, len: usize, stride: usize) -> Self {
        assert_fits(values, count, len, stride);
        Self {
            start: values.as_ptr(),
            count,
            len,
            stride,
            life: PhantomData,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The first number of row `i`.
    #[inline(always)]
    pub(crate) fn at(&self, i: usize) -> *const f32 {
        assert!(i < self.count, "row {i} of {}", self.count);
        // SAFETY: there are `count` rows, by `new`.
        unsafe { self.start.add(i * self.stride) }
    }

    #[inline(always)]
    pub(crate) fn row(&self, i: usize) -> &'a [f32] {
        // SAFETY: every row has `len` numbers, which nobody writes to while `'a` lasts.
        unsafe { std::slice::from_raw_parts(self.at(i), self.len) }
    }

    /// `count` rows from row `from` on.
    #[inline(always)]
    pub(crate) fn part(&self, from: usize, count: usize) -> Self {
        assert!(count > 0 && count <= self.count && from <= self.count - count);
        Self {
            start: self.at(from),
            count,
            ..*self
        }
    }

    /// `len` numbers of each row from number `from` on.
    #[inline(always)]
    pub(crate) fn columns(&self, from: usize, len: usize) -> Self {
        assert!(len > 0 && len <= self.len && from <= self.len - len);
        Self {
            // SAFETY: the first row has a number `from`.
            start: unsafe { self.start.add(from) },
            len,
            ..*self
        }
    }
}

/// [`Rows`] to write to. Rows of several of them may interleave; they have no number in common.
pub(crate) struct RowsMut<'a> {
    start: *mut f32,
    count: usize,
    len: usize,
    stride: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: as unique slices of numbers are.
unsafe impl Send for RowsMut<'_> {}

impl<'a> RowsMut<'a> {
    /// Rows from the start of `values` on.
    pub(crate) fn new(values: &'a mut [f32], count: usize, len: usize, stride: usize) -> Self {
        assert_fits(values, count, len, stride);
        Self {
            start: values.as_mut_ptr(),
            count,
            len,
            stride,
            life: PhantomData,
        }
    }

    /// The columns of `[images][pixels][columns][len]`, image after image.
    pub(crate) fn all_columns(
        values: &'a mut [f32],
        pixels: usize,
        columns: usize,
        len: usize,
    ) -> Vec<Self> {
        let stride = columns * len;
        if values.is_empty() {
            return Vec::new();
        }
        values
            .chunks_exact_mut(pixels * stride)
            .flat_map(|image| {
                let start = image.as_mut_ptr();
                (0..columns).map(move |column| Self {
                    // SAFETY: an image has a row of `columns * len` numbers for each pixel, and
                    // no two columns share a number.
                    start: unsafe { start.add(column * len) },
                    count: pixels,
                    len,
                    stride,
                    life: PhantomData,
                })
            })
            .collect()
    }

    /// Cuts into runs of `count` rows and a last one of at most so many.
    pub(crate) fn runs(self, count: usize) -> impl Iterator<Item = Self> {
        (0..self.count).step_by(count).map(move |from| Self {
            // SAFETY: row `from` exists, and no two runs share a row.
            start: unsafe { self.start.add(from * self.stride) },
            count: count.min(self.count - from),
            ..self
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(crate) fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.count, "row {i} of {}", self.count);
        // SAFETY: every row has `len` numbers, which are only reached through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.stride), self.len) }
    }

    /// The same rows, to read.
    pub(crate) fn read(&self) -> Rows<'_> {
        Rows {
            start: self.start,
            count: self.count,
            len: self.len,
            stride: self.stride,
            life: PhantomData,
        }
    }

    /// `count` rows from row `from` on, for a while.
    #[inline(always)]
    pub(crate) fn part(&mut self, from: usize, count: usize) -> RowsMut<'_> {
        assert!(count > 0 && count <= self.count && from <= self.count - count);
        RowsMut {
            // SAFETY: row `from` exists.
            start: unsafe { self.start.add(from * self.stride) },
            count,
            ..*self
        }
    }

    /// `len` numbers of each row from number `from` on, for a while.
    #[inline(always)]
    pub(crate) fn columns(&mut self, from: usize, len: usize) -> RowsMut<'_> {
        assert!(len > 0 && len <= self.len && from <= self.len - len);
        RowsMut {
            // SAFETY: the first row has a number `from`.
            start: unsafe { self.start.add(from) },
            len,
            ..*self
        }
    }
}

fn assert_fits(values: &[f32], count: usize, len: usize, stride: usize) {
    assert!(
        count > 0 && len > 0 && len <= stride && values.len() >= (count - 1) * stride + len,
        "{count} rows of {len} numbers, {stride} apart, in {}",
        values.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_runs_reach_every_number_once() {
        let (images, pixels, columns, len) = (2, 5, 3, 2);
        let mut values = vec![0.0; images * pixels * columns * len];
        let all = RowsMut::all_columns(&mut values, pixels, columns, len);
        assert_eq!(all.len(), images * columns);
        for (column, rows) in all.into_iter().enumerate() {
            for (run, mut rows) in rows.runs(2).enumerate() {
                for i in 0..rows.count() {
                    for (k, x) in rows.row(i).iter_mut().enumerate() {
                        *x += (column * 100 + (run * 2 + i) * 10 + k) as f32;
                    }
                }
            }
        }
        for (at, &x) in values.iter().enumerate() {
            let (k, column) = (at % len, at / len % columns);
            let (pixel, image) = (at / len / columns % pixels, at / len / columns / pixels);
            assert_eq!(
                x,
                ((image * columns + column) * 100 + pixel * 10 + k) as f32
            );
        }
    }

    #[test]
    #[should_panic(expected = "row 2 of 2")]
    fn a_row_too_many_is_refused() {
        RowsMut::new(&mut [0.0; 7], 2, 3, 4).row(2);
    }
}

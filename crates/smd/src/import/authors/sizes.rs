//! Sizes of one of their U-Nets, read from the shapes of its tensors.

use crate::error::ImportError;
use crate::import::TensorFile;

/// What the shapes tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Channels of the input.
    pub c_in: usize,
    /// Channels at full size.
    pub dim: usize,
    /// Channels of each stage over `dim`.
    pub multipliers: Vec<usize>,
    /// Heads times channels of a head.
    pub attention: usize,
}

impl Sizes {
    /// Reads the sizes of the network below `net`, as `model.identifier`.
    pub fn read(file: &TensorFile, net: &str) -> Result<Self, ImportError> {
        let [dim, c_in, _, _] = shape(file, &format!("{net}.init_conv.weight"))?;
        let mut multipliers = Vec::new();
        // The last stage does not resample, and so has one number less in its name.
        let mut resamples = true;
        while resamples {
            let stage = format!("{net}.downs.{}.3", multipliers.len());
            resamples = file.shape(&format!("{stage}.1.weight")).is_some();
            let inner = if resamples { ".1" } else { "" };
            let name = format!("{stage}{inner}.weight");
            let [width, c_in, height, w] = shape(file, &name)?;
            if dim == 0 || width == 0 || !width.is_multiple_of(dim) {
                return Err(ImportError::Shape {
                    path: file.path().into(),
                    name,
                    found: vec![width, c_in, height, w],
                    expected: format!("a multiple of the stem's {dim} channels on the first axis"),
                });
            }
            multipliers.push(width / dim);
        }
        let [rows, _, _, _] = shape(file, &format!("{net}.mid_attn.to_qkv.weight"))?;
        Ok(Self {
            c_in,
            dim,
            multipliers,
            attention: rows / 3,
        })
    }

    /// Heads and channels of a head: as given, and where nothing is given, `default`.
    pub fn heads(
        &self,
        file: &TensorFile,
        heads: Option<usize>,
        d_head: Option<usize>,
        default: [usize; 2],
        flags: &str,
    ) -> Result<[usize; 2], ImportError> {
        let share = |n: usize| self.attention.checked_div(n).unwrap_or(0);
        let [heads, d_head] = match (heads, d_head) {
            (Some(heads), Some(d_head)) => [heads, d_head],
            (Some(heads), None) => [heads, share(heads)],
            (None, Some(d_head)) => [share(d_head), d_head],
            (None, None) => default,
        };
        if heads * d_head == self.attention {
            return Ok([heads, d_head]);
        }
        let problem = format!(
            "its attention has {} channels, which are not {heads} heads of {d_head}; set {flags} as \
             in its training",
            self.attention
        );
        Err(ImportError::Size {
            path: file.path().into(),
            problem,
        })
    }
}

/// The shape of a tensor that must be there, with `N` axes.
pub(super) fn shape<const N: usize>(
    file: &TensorFile,
    name: &str,
) -> Result<[usize; N], ImportError> {
    let found = file.shape(name).ok_or_else(|| ImportError::Missing {
        path: file.path().into(),
        name: name.into(),
    })?;
    found.try_into().map_err(|_| ImportError::Shape {
        path: file.path().into(),
        name: name.into(),
        found: found.to_vec(),
        expected: format!("{N} axes"),
    })
}

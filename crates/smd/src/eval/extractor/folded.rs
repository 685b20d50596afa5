//! A convolution with the batch normalisation that follows folded into it.
//!
//! ```text
//! gamma (conv(x) - mean) / sqrt(var + eps) + beta = conv'(x) + bias'
//! ```
//! The factors are formed in f64.

use crate::error::ImportError;
use crate::import::TensorFile;
use crate::ops::{self, Precision, Window};
use burn::tensor::{Device, Tensor, TensorData};

/// The range of a rectifier.
pub(super) const RELU: [f32; 2] = [0.0, f32::INFINITY];

/// The range of ReLU6.
pub(super) const RELU6: [f32; 2] = [0.0, 6.0];

/// The range of no rectifier.
pub(super) const LINEAR: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// Zeros around the input.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pad {
    /// So many above and below, left and right.
    Fixed([usize; 2]),
    /// TensorFlow's "SAME": as few as make the output `ceil(size / stride)`, an odd one below and right.
    Same,
}

/// Stride, padding and rectifier of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub stride: usize,
    pub pad: Pad,
    pub range: [f32; 2],
}

impl Shape {
    fn window(&self, size: [usize; 2], kernel: [usize; 2]) -> Window {
        let pad = match self.pad {
            Pad::Fixed([rows, cols]) => [rows, rows, cols, cols],
            Pad::Same => {
                let around = |axis: usize| {
                    let out = size[axis].div_ceil(self.stride);
                    let covered = (out - 1) * self.stride + kernel[axis];
                    let pad = covered.saturating_sub(size[axis]);
                    [pad / 2, pad - pad / 2]
                };
                let ([top, bottom], [left, right]) = (around(0), around(1));
                [top, bottom, left, right]
            }
        };
        Window {
            stride: self.stride,
            pad,
            precision: Precision::F32,
        }
    }
}

/// A convolution, its normalisation and its rectifier.
#[derive(Debug)]
pub(super) struct Folded {
    /// `[C_out, C_in, kH, kW]`.
    weight: Tensor<4>,
    bias: Tensor<1>,
    shape: Shape,
}

impl Folded {
    /// Reads the layer `conv` with the normalisation `norm`.
    ///
    /// # Errors
    /// A tensor that is missing, or of another shape than `[c_out, c_in, kernel]`.
    pub fn read(
        file: &TensorFile,
        [conv, norm]: [&str; 2],
        eps: f64,
        dims: [usize; 4],
        shape: Shape,
        device: &Device,
    ) -> Result<Self, ImportError> {
        let (weight, bias) = folded(file, conv, norm, eps, dims)?;
        Ok(Self {
            weight: Tensor::from_data(TensorData::new(weight, dims), device),
            bias: Tensor::from_data(TensorData::new(bias, [dims[0]]), device),
            shape,
        })
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C_in]`; returns `[B, H', W', C_out]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let [c_out, _, kh, kw] = self.weight.dims();
        let window = self.shape.window([height, width], [kh, kw]);
        let layer = |x| {
            let (weight, bias) = (self.weight.clone(), self.bias.clone());
            ops::conv2d_within(x, weight, bias, window, self.shape.range)
        };
        if [kh, kw, window.stride] != [1, 1, 1] {
            return layer(x);
        }
        // One long row: blocks of pixels are then whole.
        let x = x.reshape([1, 1, batch * height * width, channels]);
        layer(x).reshape([batch, height, width, c_out])
    }
}

/// The same for a window on each channel by itself.
#[derive(Debug)]
pub(super) struct FoldedDepthwise {
    /// `[k, k, C]`.
    weight: Tensor<3>,
    bias: Tensor<1>,
    shape: Shape,
}

impl FoldedDepthwise {
    /// As [`Folded::read`], of `[channels, 1, kernel, kernel]`.
    pub fn read(
        file: &TensorFile,
        [conv, norm]: [&str; 2],
        eps: f64,
        [channels, kernel]: [usize; 2],
        shape: Shape,
        device: &Device,
    ) -> Result<Self, ImportError> {
        let dims = [channels, 1, kernel, kernel];
        let (weight, bias) = folded(file, conv, norm, eps, dims)?;
        let weight: Tensor<3> =
            Tensor::from_data(TensorData::new(weight, [channels, kernel, kernel]), device);
        Ok(Self {
            weight: weight.permute([1, 2, 0]),
            bias: Tensor::from_data(TensorData::new(bias, [channels]), device),
            shape,
        })
    }

    /// # Shapes
    /// - `x`: `[B, H, W, C]`; returns `[B, H', W', C]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let kernel = self.weight.dims()[0];
        let window = self.shape.window([height, width], [kernel; 2]);
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        ops::depthwise_within(x, weight, bias, window, self.shape.range)
    }
}

/// Weights and biases.
fn folded(
    file: &TensorFile,
    conv: &str,
    norm: &str,
    eps: f64,
    dims: [usize; 4],
) -> Result<(Vec<f32>, Vec<f32>), ImportError> {
    let mut weight = numbers(file, &format!("{conv}.weight"), &dims)?;
    let part = |name: &str| numbers(file, &format!("{norm}.{name}"), &dims[..1]);
    let (gamma, beta) = (part("weight")?, part("bias")?);
    let (mean, var) = (part("running_mean")?, part("running_var")?);
    let mut bias = Vec::with_capacity(dims[0]);
    let windows = weight.chunks_exact_mut(dims[1] * dims[2] * dims[3]);
    for (c, window) in windows.enumerate() {
        let factor = f64::from(gamma[c]) / (f64::from(var[c]) + eps).sqrt();
        for weight in window {
            *weight = (f64::from(*weight) * factor) as f32;
        }
        bias.push((f64::from(beta[c]) - f64::from(mean[c]) * factor) as f32);
    }
    Ok((weight, bias))
}

/// The numbers of a tensor of the shape `dims`.
pub(super) fn numbers(
    file: &TensorFile,
    name: &str,
    dims: &[usize],
) -> Result<Vec<f32>, ImportError> {
    let numbers = file.numbers(name)?;
    let found = file.shape(name).unwrap_or_default();
    if found != dims {
        return Err(ImportError::Shape {
            path: file.path().into(),
            name: name.into(),
            found: found.to_vec(),
            expected: format!("{dims:?}"),
        });
    }
    Ok(numbers)
}

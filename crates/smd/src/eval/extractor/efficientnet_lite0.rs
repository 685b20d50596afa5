//! EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946; the "lite" variant has ReLU6 and no squeeze-and-excite),
//! up to the mean of its last features.

use super::folded::{Folded, FoldedDepthwise, LINEAR, Pad, RELU6, Shape};
use crate::error::ImportError;
use crate::import::TensorFile;
use burn::tensor::{Device, Tensor};

/// Height and width of its input.
pub const SIDE: usize = 224;

/// Features of an image.
pub const DIM: usize = 1280;

/// Of its batch normalisations.
const EPS: f64 = 1e-3;

/// Blocks in a row that differ in their first stride only.
struct Stage {
    repeat: usize,
    expand: usize,
    out: usize,
    kernel: usize,
    stride: usize,
}

#[rustfmt::skip]
const STAGES: [Stage; 7] = [
    Stage { repeat: 1, expand: 1, out:  16, kernel: 3, stride: 1 },
    Stage { repeat: 2, expand: 6, out:  24, kernel: 3, stride: 2 },
    Stage { repeat: 2, expand: 6, out:  40, kernel: 5, stride: 2 },
    Stage { repeat: 3, expand: 6, out:  80, kernel: 3, stride: 2 },
    Stage { repeat: 3, expand: 6, out: 112, kernel: 5, stride: 1 },
    Stage { repeat: 4, expand: 6, out: 192, kernel: 5, stride: 2 },
    Stage { repeat: 1, expand: 6, out: 320, kernel: 3, stride: 1 },
];

const STEM: usize = 32;

fn layer(stride: usize, range: [f32; 2]) -> Shape {
    Shape {
        stride,
        pad: Pad::Same,
        range,
    }
}

/// The network.
#[derive(Debug)]
pub struct EfficientNetLite0 {
    stem: Folded,
    blocks: Vec<Block>,
    head: Folded,
}

/// An inverted residual: more channels, a window on each, fewer channels.
#[derive(Debug)]
struct Block {
    expand: Option<Folded>,
    depthwise: FoldedDepthwise,
    project: Folded,
    /// Whether the input is added.
    residual: bool,
}

impl EfficientNetLite0 {
    /// Reads the weights: tensors `_conv_stem`, `_blocks.N`, `_conv_head` and their normalisations.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn read(file: &TensorFile, device: &Device) -> Result<Self, ImportError> {
        let conv = |names, dims, shape| Folded::read(file, names, EPS, dims, shape, device);
        let stem = conv(["_conv_stem", "_bn0"], [STEM, 3, 3, 3], layer(2, RELU6))?;
        let (mut blocks, mut channels) = (vec![], STEM);
        for stage in STAGES {
            for i in 0..stage.repeat {
                let stride = if i == 0 { stage.stride } else { 1 };
                let prefix = format!("_blocks.{}", blocks.len());
                let block = Block::read(file, &prefix, &stage, [channels, stride], device)?;
                blocks.push(block);
                channels = stage.out;
            }
        }
        let head = conv(
            ["_conv_head", "_bn1"],
            [DIM, channels, 1, 1],
            layer(1, RELU6),
        )?;
        Ok(Self { stem, blocks, head })
    }

    /// Means over the last 7x7 features.
    ///
    /// # Shapes
    /// - `x`: `[B, 224, 224, 3]`, `(byte - 127) / 128`; returns `[B, 1280]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self
            .blocks
            .iter()
            .fold(self.stem.forward(x), |x, block| block.forward(x));
        let x = self.head.forward(x);
        let [batch, height, width, channels] = x.dims();
        x.reshape([batch, height * width, channels])
            .mean_dim(1)
            .reshape([batch, channels])
    }
}

impl Block {
    fn read(
        file: &TensorFile,
        prefix: &str,
        stage: &Stage,
        [channels, stride]: [usize; 2],
        device: &Device,
    ) -> Result<Self, ImportError> {
        let wide = channels * stage.expand;
        let name = |part: &str| format!("{prefix}.{part}");
        let conv = |names: [&str; 2], dims, range| {
            let [conv, norm] = names.map(name);
            Folded::read(file, [&conv, &norm], EPS, dims, layer(1, range), device)
        };
        let expand = (stage.expand > 1)
            .then(|| conv(["_expand_conv", "_bn0"], [wide, channels, 1, 1], RELU6))
            .transpose()?;
        let [depthwise, norm] = ["_depthwise_conv", "_bn1"].map(name);
        Ok(Self {
            expand,
            depthwise: FoldedDepthwise::read(
                file,
                [&depthwise, &norm],
                EPS,
                [wide, stage.kernel],
                layer(stride, RELU6),
                device,
            )?,
            project: conv(["_project_conv", "_bn2"], [stage.out, wide, 1, 1], LINEAR)?,
            residual: stride == 1 && channels == stage.out,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let wide = match &self.expand {
            Some(expand) => expand.forward(x.clone()),
            None => x.clone(),
        };
        let y = self.project.forward(self.depthwise.forward(wide));
        if self.residual { x + y } else { y }
    }
}

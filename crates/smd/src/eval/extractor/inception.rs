//! Inception v3 of 2015-12-05 as pytorch-fid runs it (Szegedy et al. 2015, arXiv:1512.00567): the network of FID.
//!
//! It differs from torchvision's: average pools leave the padding out, and the last block pools the largest.

use super::folded::{Folded, Pad, RELU, Shape, numbers};
use crate::error::ImportError;
use crate::import::TensorFile;
use crate::ops::{self, Pooling, Precision, Window};
use burn::tensor::{Device, Tensor, TensorData};

/// Height and width of its input.
pub const SIDE: usize = 299;

/// Features of an image.
pub const DIM: usize = 2048;

/// Classes of its classifier.
pub const CLASSES: usize = 1008;

/// Channels that sFID looks at, of 17x17 places each (Nash et al. 2021, arXiv:2103.03841).
const SPATIAL: usize = 7;

/// Of its batch normalisations.
const EPS: f64 = 1e-3;

/// What the network says of images.
#[derive(Debug)]
pub struct Answers {
    /// `[B, 2048]`: means of the last features, for FID, KID, precision and recall.
    pub pool: Tensor<2>,
    /// `[B, 2023]`: 7 channels of `mixed_6/conv` at 17x17 places, for sFID.
    pub spatial: Tensor<2>,
    /// `[B, 1008]`: outputs of the classifier without its bias, for the inception score.
    pub logits: Tensor<2>,
}

/// The network.
#[derive(Debug)]
pub struct Inception {
    stem: [Folded; 5],
    mixed_5: [Branches; 3],
    mixed_6a: Branches,
    mixed_6: [Branches; 4],
    /// The first channels of a 1x1 convolution inside `mixed_6[2]`, before its normalisation.
    spatial: Tensor<4>,
    mixed_7a: Branches,
    mixed_7: [Branches; 2],
    /// `[1008, 2048]`.
    classifier: Tensor<2>,
}

/// Branches side by side; their outputs are put one behind the other.
#[derive(Debug)]
struct Branches(Vec<Branch>);

#[derive(Debug)]
struct Branch {
    pool: Option<Pool>,
    convs: Vec<Folded>,
    /// Two more on the same features, side by side.
    fork: Vec<Folded>,
}

#[derive(Debug, Clone, Copy)]
enum Pool {
    /// Means over 3x3 places, those outside left out.
    Mean,
    /// The largest of 3x3 places.
    Max,
    /// The same at every second place, without padding.
    MaxStride2,
}

impl Inception {
    /// Reads the weights: torchvision's names, `Conv2d_1a_3x3.conv.weight` and so on.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn read(file: &TensorFile, device: &Device) -> Result<Self, ImportError> {
        let read = Reader { file, device };
        let tensor = |numbers: Vec<f32>, dims: [usize; 2]| -> Tensor<2> {
            Tensor::from_data(TensorData::new(numbers, dims), device)
        };
        let spatial = numbers(file, "Mixed_6d.branch1x1.conv.weight", &[192, 768, 1, 1])?;
        let classifier = numbers(file, "fc.weight", &[CLASSES, DIM])?;
        Ok(Self {
            stem: [
                read.conv("Conv2d_1a_3x3", [32, 3, 3, 3], 2, [0, 0])?,
                read.conv("Conv2d_2a_3x3", [32, 32, 3, 3], 1, [0, 0])?,
                read.conv("Conv2d_2b_3x3", [64, 32, 3, 3], 1, [1, 1])?,
                read.conv("Conv2d_3b_1x1", [80, 64, 1, 1], 1, [0, 0])?,
                read.conv("Conv2d_4a_3x3", [192, 80, 3, 3], 1, [0, 0])?,
            ],
            mixed_5: [
                read.mixed_a("Mixed_5b", 192, 32)?,
                read.mixed_a("Mixed_5c", 256, 64)?,
                read.mixed_a("Mixed_5d", 288, 64)?,
            ],
            mixed_6a: read.mixed_b("Mixed_6a", 288)?,
            mixed_6: [
                read.mixed_c("Mixed_6b", 128)?,
                read.mixed_c("Mixed_6c", 160)?,
                read.mixed_c("Mixed_6d", 160)?,
                read.mixed_c("Mixed_6e", 192)?,
            ],
            spatial: tensor(spatial[..SPATIAL * 768].to_vec(), [SPATIAL, 768])
                .reshape([SPATIAL, 768, 1, 1]),
            mixed_7a: read.mixed_d("Mixed_7a", 768)?,
            mixed_7: [
                read.mixed_e("Mixed_7b", 1280, Pool::Mean)?,
                read.mixed_e("Mixed_7c", 2048, Pool::Max)?,
            ],
            classifier: tensor(classifier, [CLASSES, DIM]),
        })
    }

    /// # Shapes
    /// - `x`: `[B, 299, 299, 3]` in `[-1, 1]`
    pub fn forward(&self, x: Tensor<4>) -> Answers {
        let [a, b, c, d, e] = &self.stem;
        let x = pool(Pool::MaxStride2, c.forward(b.forward(a.forward(x))));
        let x = pool(Pool::MaxStride2, e.forward(d.forward(x)));
        let x = self.mixed_5.iter().fold(x, |x, block| block.forward(x));
        let x = self.mixed_6a.forward(x);
        let [b, c, d, e] = &self.mixed_6;
        let x = c.forward(b.forward(x));
        let spatial = self.spatial(x.clone());
        let x = self.mixed_7a.forward(e.forward(d.forward(x)));
        let x = self.mixed_7.iter().fold(x, |x, block| block.forward(x));
        let [batch, height, width, channels] = x.dims();
        let pool = x.reshape([batch, height * width, channels]).mean_dim(1);
        let pool = pool.reshape([batch, channels]);
        let logits = pool.clone().matmul(self.classifier.clone().transpose());
        Answers {
            pool,
            spatial,
            logits,
        }
    }

    fn spatial(&self, x: Tensor<4>) -> Tensor<2> {
        let bias = Tensor::zeros([SPATIAL], &x.device());
        let window = Window {
            stride: 1,
            pad: [0; 4],
            precision: Precision::F32,
        };
        ops::conv2d(x, self.spatial.clone(), bias, window).flatten(1, 3)
    }
}

impl Branches {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let outputs = self.0.iter().flat_map(|branch| branch.forward(x.clone()));
        Tensor::cat(outputs.collect(), 3)
    }
}

impl Branch {
    fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let x = self.pool.map_or(x.clone(), |kind| pool(kind, x));
        let x = self.convs.iter().fold(x, |x, conv| conv.forward(x));
        if self.fork.is_empty() {
            return vec![x];
        }
        self.fork
            .iter()
            .map(|conv| conv.forward(x.clone()))
            .collect()
    }
}

fn pool(kind: Pool, x: Tensor<4>) -> Tensor<4> {
    let (pooling, stride, pad) = match kind {
        Pool::Mean => (Pooling::Mean, 1, 1),
        Pool::Max => (Pooling::Max, 1, 1),
        Pool::MaxStride2 => (Pooling::Max, 2, 0),
    };
    let pool = ops::Pool {
        pooling,
        kernel: 3,
        stride,
        pad,
    };
    ops::pool(x, pool)
}

/// Reads layers by their names.
struct Reader<'a> {
    file: &'a TensorFile,
    device: &'a Device,
}

impl Reader<'_> {
    fn conv(
        &self,
        name: &str,
        dims: [usize; 4],
        stride: usize,
        pad: [usize; 2],
    ) -> Result<Folded, ImportError> {
        let names = [format!("{name}.conv"), format!("{name}.bn")];
        let shape = Shape {
            stride,
            pad: Pad::Fixed(pad),
            range: RELU,
        };
        Folded::read(
            self.file,
            [&names[0], &names[1]],
            EPS,
            dims,
            shape,
            self.device,
        )
    }

    /// Layers in a row: `(name, channels out, window)`. Strides are 1 and sizes kept, but that the last
    /// layer of a branch with `stride` 2 has no padding.
    fn branch(
        &self,
        block: &str,
        pool: Option<Pool>,
        mut c_in: usize,
        layers: &[(&str, usize, [usize; 2])],
        stride: usize,
    ) -> Result<Branch, ImportError> {
        let mut convs = vec![];
        for (i, &(name, c_out, [kh, kw])) in layers.iter().enumerate() {
            let last = i + 1 == layers.len() && stride == 2;
            let (stride, pad) = if last {
                (2, [0, 0])
            } else {
                (1, [kh / 2, kw / 2])
            };
            let name = format!("{block}.{name}");
            convs.push(self.conv(&name, [c_out, c_in, kh, kw], stride, pad)?);
            c_in = c_out;
        }
        Ok(Branch {
            pool,
            convs,
            fork: vec![],
        })
    }

    /// 35x35 places.
    fn mixed_a(&self, name: &str, c: usize, pooled: usize) -> Result<Branches, ImportError> {
        let (one, three, five) = ([1, 1], [3, 3], [5, 5]);
        let double = [
            ("branch3x3dbl_1", 64, one),
            ("branch3x3dbl_2", 96, three),
            ("branch3x3dbl_3", 96, three),
        ];
        Ok(Branches(vec![
            self.branch(name, None, c, &[("branch1x1", 64, one)], 1)?,
            self.branch(
                name,
                None,
                c,
                &[("branch5x5_1", 48, one), ("branch5x5_2", 64, five)],
                1,
            )?,
            self.branch(name, None, c, &double, 1)?,
            self.branch(
                name,
                Some(Pool::Mean),
                c,
                &[("branch_pool", pooled, one)],
                1,
            )?,
        ]))
    }

    /// From 35x35 to 17x17 places.
    fn mixed_b(&self, name: &str, c: usize) -> Result<Branches, ImportError> {
        let (one, three) = ([1, 1], [3, 3]);
        let double = [
            ("branch3x3dbl_1", 64, one),
            ("branch3x3dbl_2", 96, three),
            ("branch3x3dbl_3", 96, three),
        ];
        Ok(Branches(vec![
            self.branch(name, None, c, &[("branch3x3", 384, three)], 2)?,
            self.branch(name, None, c, &double, 2)?,
            self.branch(name, Some(Pool::MaxStride2), c, &[], 1)?,
        ]))
    }

    /// 17x17 places, windows of 7 in one direction at a time.
    fn mixed_c(&self, name: &str, inner: usize) -> Result<Branches, ImportError> {
        let (one, row, col, c) = ([1, 1], [1, 7], [7, 1], 768);
        let seven = [
            ("branch7x7_1", inner, one),
            ("branch7x7_2", inner, row),
            ("branch7x7_3", 192, col),
        ];
        let double = [
            ("branch7x7dbl_1", inner, one),
            ("branch7x7dbl_2", inner, col),
            ("branch7x7dbl_3", inner, row),
            ("branch7x7dbl_4", inner, col),
            ("branch7x7dbl_5", 192, row),
        ];
        Ok(Branches(vec![
            self.branch(name, None, c, &[("branch1x1", 192, one)], 1)?,
            self.branch(name, None, c, &seven, 1)?,
            self.branch(name, None, c, &double, 1)?,
            self.branch(name, Some(Pool::Mean), c, &[("branch_pool", 192, one)], 1)?,
        ]))
    }

    /// From 17x17 to 8x8 places.
    fn mixed_d(&self, name: &str, c: usize) -> Result<Branches, ImportError> {
        let (one, three) = ([1, 1], [3, 3]);
        let seven = [
            ("branch7x7x3_1", 192, one),
            ("branch7x7x3_2", 192, [1, 7]),
            ("branch7x7x3_3", 192, [7, 1]),
            ("branch7x7x3_4", 192, three),
        ];
        let single = [("branch3x3_1", 192, one), ("branch3x3_2", 320, three)];
        Ok(Branches(vec![
            self.branch(name, None, c, &single, 2)?,
            self.branch(name, None, c, &seven, 2)?,
            self.branch(name, Some(Pool::MaxStride2), c, &[], 1)?,
        ]))
    }

    /// 8x8 places; the windows of two branches fork.
    fn mixed_e(&self, name: &str, c: usize, pool: Pool) -> Result<Branches, ImportError> {
        let (one, three) = ([1, 1], [3, 3]);
        let fork = |mut branch: Branch, layers: [&str; 2]| {
            for (layer, [kh, kw]) in layers.into_iter().zip([[1, 3], [3, 1]]) {
                let (layer, pad) = (format!("{name}.{layer}"), [kh / 2, kw / 2]);
                branch
                    .fork
                    .push(self.conv(&layer, [384, 384, kh, kw], 1, pad)?);
            }
            Ok::<_, ImportError>(branch)
        };
        let single = self.branch(name, None, c, &[("branch3x3_1", 384, one)], 1)?;
        let double = [("branch3x3dbl_1", 448, one), ("branch3x3dbl_2", 384, three)];
        let double = self.branch(name, None, c, &double, 1)?;
        Ok(Branches(vec![
            self.branch(name, None, c, &[("branch1x1", 320, one)], 1)?,
            fork(single, ["branch3x3_2a", "branch3x3_2b"])?,
            fork(double, ["branch3x3dbl_3a", "branch3x3dbl_3b"])?,
            self.branch(name, Some(pool), c, &[("branch_pool", 192, one)], 1)?,
        ]))
    }
}

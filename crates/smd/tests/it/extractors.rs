//! The networks behind Frechet distances beside the ones in Python, with weights from one formula.

use crate::golden;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use smd::eval::extractor::{EFFICIENTNET_SIDE, EfficientNetLite0, INCEPTION_SIDE, Inception};
use smd::host;
use smd::import::TensorFile;
use std::path::Path;

const IMAGES: usize = 2;

/// Uniform in `[-1, 1)`: the upper 24 bits of SplitMix64, seeded by the FNV-1a hash of the name.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let number = |i: u64| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        ((z >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
    };
    (1..=count as u64).map(number).collect()
}

/// A file of tensors filled by the formula.
fn write_weights(path: &Path, shapes: &[(String, Vec<usize>)]) {
    let fill = |(name, shape): &(String, Vec<usize>)| -> Vec<u8> {
        let count = shape.iter().product();
        let (scale, centre) = match name.rsplit('.').next().unwrap() {
            _ if shape.len() > 1 => {
                let fan_in = shape[1..].iter().product::<usize>() as f64;
                ((5.0 / fan_in).sqrt() as f32, 0.0)
            }
            "running_var" | "weight" => (0.5, 1.0),
            _ => (0.25, 0.0),
        };
        let weights = numbers(name, count).into_iter().map(|x| x * scale + centre);
        weights.flat_map(f32::to_le_bytes).collect()
    };
    let bytes: Vec<Vec<u8>> = shapes.iter().map(fill).collect();
    let view = |((name, shape), bytes): (&(String, Vec<usize>), _)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    };
    let tensors = shapes.iter().zip(bytes.iter().map(Vec::as_slice)).map(view);
    safetensors::serialize_to_file(tensors, None, path).unwrap();
}

/// A layer and its normalisation.
fn layer(names: [String; 2], shape: [usize; 4]) -> Vec<(String, Vec<usize>)> {
    let [conv, norm] = names;
    let parts = ["weight", "bias", "running_mean", "running_var"];
    let norms = parts.map(|part| (format!("{norm}.{part}"), vec![shape[0]]));
    [(format!("{conv}.weight"), shape.to_vec())]
        .into_iter()
        .chain(norms)
        .collect()
}

fn file(shapes: &[(String, Vec<usize>)]) -> TensorFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    write_weights(&path, shapes);
    TensorFile::open(&path).unwrap()
}

fn images(side: usize) -> Tensor<4> {
    let values = numbers(&format!("images {side}"), IMAGES * side * side * 3);
    let data = TensorData::new(values, [IMAGES, side, side, 3]);
    Tensor::from_data(data, &Device::default())
}

#[track_caller]
fn check(name: &str, found: Tensor<2>) {
    let golden = TensorFile::open(&golden("extractors.safetensors")).unwrap();
    let expected = golden.numbers(name).unwrap();
    let found = host::numbers(found);
    assert_eq!(found.len(), expected.len(), "{name}");
    let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let worst = off.fold(0.0, f32::max);
    assert!(worst < 1e-4, "{name}: {worst:e} off");
}

#[test]
fn inception_is_that_of_pytorch_fid() {
    let file = file(&inception());
    let network = Inception::read(&file, &Device::default()).unwrap();
    let answers = network.forward(images(INCEPTION_SIDE));
    check("inception.pool", answers.pool);
    check("inception.spatial", answers.spatial);
    check("inception.logits", answers.logits);
}

#[test]
fn efficientnet_lite0_is_that_of_pytorch() {
    let file = file(&efficientnet_lite0());
    let network = EfficientNetLite0::read(&file, &Device::default()).unwrap();
    check(
        "efficientnet_lite0.pool",
        network.forward(images(EFFICIENTNET_SIDE)),
    );
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let mut shapes = efficientnet_lite0();
    let at = shapes
        .iter()
        .position(|(name, _)| name == "_blocks.3._bn0.bias")
        .unwrap();
    shapes[at].1 = vec![7];
    let error = EfficientNetLite0::read(&file(&shapes), &Device::default()).unwrap_err();
    assert!(error.to_string().contains("_blocks.3._bn0.bias"), "{error}");
    shapes.remove(at);
    let error = EfficientNetLite0::read(&file(&shapes), &Device::default()).unwrap_err();
    assert!(error.to_string().contains("_blocks.3._bn0.bias"), "{error}");
}

fn efficientnet_lite0() -> Vec<(String, Vec<usize>)> {
    // Repeats, expansion, channels, window: as published.
    let stages = [
        [1, 1, 16, 3],
        [2, 6, 24, 3],
        [2, 6, 40, 5],
        [3, 6, 80, 3],
        [3, 6, 112, 5],
        [4, 6, 192, 5],
        [1, 6, 320, 3],
    ];
    let names = |conv: &str, norm: &str| [conv.to_owned(), norm.to_owned()];
    let mut shapes = layer(names("_conv_stem", "_bn0"), [32, 3, 3, 3]);
    let (mut block, mut c) = (0, 32);
    for [repeats, expand, out, kernel] in stages {
        for _ in 0..repeats {
            let names =
                |conv: &str, norm: &str| [conv, norm].map(|part| format!("_blocks.{block}.{part}"));
            let wide = c * expand;
            if expand > 1 {
                shapes.extend(layer(names("_expand_conv", "_bn0"), [wide, c, 1, 1]));
            }
            let window = [wide, 1, kernel, kernel];
            shapes.extend(layer(names("_depthwise_conv", "_bn1"), window));
            shapes.extend(layer(names("_project_conv", "_bn2"), [out, wide, 1, 1]));
            (block, c) = (block + 1, out);
        }
    }
    shapes.extend(layer(names("_conv_head", "_bn1"), [1280, c, 1, 1]));
    shapes
}

fn inception() -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![("fc.weight".to_owned(), vec![1008, 2048])];
    let mut add = |name: &str, out: usize, c: usize, kh: usize, kw: usize| {
        let names = ["conv", "bn"].map(|part| format!("{name}.{part}"));
        shapes.extend(layer(names, [out, c, kh, kw]));
    };
    add("Conv2d_1a_3x3", 32, 3, 3, 3);
    add("Conv2d_2a_3x3", 32, 32, 3, 3);
    add("Conv2d_2b_3x3", 64, 32, 3, 3);
    add("Conv2d_3b_1x1", 80, 64, 1, 1);
    add("Conv2d_4a_3x3", 192, 80, 3, 3);
    for (block, c, pooled) in [("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)] {
        let mut add = |name: &str, out, c, k| add(&format!("Mixed_{block}.{name}"), out, c, k, k);
        add("branch1x1", 64, c, 1);
        add("branch5x5_1", 48, c, 1);
        add("branch5x5_2", 64, 48, 5);
        add("branch3x3dbl_1", 64, c, 1);
        add("branch3x3dbl_2", 96, 64, 3);
        add("branch3x3dbl_3", 96, 96, 3);
        add("branch_pool", pooled, c, 1);
    }
    add("Mixed_6a.branch3x3", 384, 288, 3, 3);
    add("Mixed_6a.branch3x3dbl_1", 64, 288, 1, 1);
    add("Mixed_6a.branch3x3dbl_2", 96, 64, 3, 3);
    add("Mixed_6a.branch3x3dbl_3", 96, 96, 3, 3);
    for (block, c) in [("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)] {
        let mut add = |name: &str, out, c, kh, kw| {
            add(&format!("Mixed_{block}.{name}"), out, c, kh, kw);
        };
        add("branch1x1", 192, 768, 1, 1);
        add("branch7x7_1", c, 768, 1, 1);
        add("branch7x7_2", c, c, 1, 7);
        add("branch7x7_3", 192, c, 7, 1);
        add("branch7x7dbl_1", c, 768, 1, 1);
        add("branch7x7dbl_2", c, c, 7, 1);
        add("branch7x7dbl_3", c, c, 1, 7);
        add("branch7x7dbl_4", c, c, 7, 1);
        add("branch7x7dbl_5", 192, c, 1, 7);
        add("branch_pool", 192, 768, 1, 1);
    }
    add("Mixed_7a.branch3x3_1", 192, 768, 1, 1);
    add("Mixed_7a.branch3x3_2", 320, 192, 3, 3);
    add("Mixed_7a.branch7x7x3_1", 192, 768, 1, 1);
    add("Mixed_7a.branch7x7x3_2", 192, 192, 1, 7);
    add("Mixed_7a.branch7x7x3_3", 192, 192, 7, 1);
    add("Mixed_7a.branch7x7x3_4", 192, 192, 3, 3);
    for (block, c) in [("7b", 1280), ("7c", 2048)] {
        let mut add = |name: &str, out, c, kh, kw| {
            add(&format!("Mixed_{block}.{name}"), out, c, kh, kw);
        };
        add("branch1x1", 320, c, 1, 1);
        add("branch3x3_1", 384, c, 1, 1);
        add("branch3x3_2a", 384, 384, 1, 3);
        add("branch3x3_2b", 384, 384, 3, 1);
        add("branch3x3dbl_1", 448, c, 1, 1);
        add("branch3x3dbl_2", 384, 448, 3, 3);
        add("branch3x3dbl_3a", 384, 384, 1, 3);
        add("branch3x3dbl_3b", 384, 384, 3, 1);
        add("branch_pool", 192, c, 1, 1);
    }
    shapes
}

//! The networks behind Frechet distances beside the ones in Python, with weights from one formula.

use crate::formula::{efficientnet_lite0, layer, numbers, write_weights};
use crate::golden;
use burn::tensor::{Device, Tensor, TensorData};
use smd::eval::extractor::{EFFICIENTNET_SIDE, EfficientNetLite0, INCEPTION_SIDE, Inception};
use smd::host;
use smd::import::TensorFile;

const IMAGES: usize = 2;

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

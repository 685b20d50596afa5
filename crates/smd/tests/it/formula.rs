//! Weights from a formula, the same here and in Python, so that networks are compared without a download.

use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;

/// Uniform in `[-1, 1)`: the upper 24 bits of SplitMix64, seeded by the FNV-1a hash of the name.
pub fn numbers(name: &str, count: usize) -> Vec<f32> {
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
pub fn write_weights(path: &Path, shapes: &[(String, Vec<usize>)]) {
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
pub fn layer(names: [String; 2], shape: [usize; 4]) -> Vec<(String, Vec<usize>)> {
    let [conv, norm] = names;
    let parts = ["weight", "bias", "running_mean", "running_var"];
    let norms = parts.map(|part| (format!("{norm}.{part}"), vec![shape[0]]));
    [(format!("{conv}.weight"), shape.to_vec())]
        .into_iter()
        .chain(norms)
        .collect()
}

/// Names and shapes of EfficientNet-Lite0.
pub fn efficientnet_lite0() -> Vec<(String, Vec<usize>)> {
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

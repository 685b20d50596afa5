//! Measures of images beside the tools that define them, on the same features.

use crate::golden;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use smd::eval::features::Features;
use smd::eval::frechet::frechet_distance;
use smd::eval::inception_score::{Splits, inception_score};
use smd::eval::kid::{KidOptions, kid};
use smd::eval::neighbours::neighbours;
use smd::eval::statistics::Statistics;
use std::collections::HashMap;

const SETS: [&str; 3] = ["regular", "singular", "one-singular"];

struct Golden {
    bytes: Vec<u8>,
    expected: HashMap<String, f64>,
}

impl Golden {
    fn read() -> Self {
        let bytes = std::fs::read(golden("metrics.safetensors")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let expected = &header.metadata().as_ref().unwrap()["expected"];
        let expected = serde_json::from_str(expected).unwrap();
        Self { bytes, expected }
    }

    fn features(&self, name: &str) -> Features {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32);
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
        let values = tensor.data().chunks_exact(4).map(number).collect();
        Features::new(tensor.shape()[1], values).unwrap()
    }

    fn sets(&self, name: &str) -> [Features; 2] {
        ["samples", "reference"].map(|side| self.features(&format!("{name}.{side}")))
    }

    #[track_caller]
    fn check(&self, name: &str, found: f64) {
        let expected = self.expected[name];
        let off = (found / expected - 1.0).abs();
        assert!(
            off < 1e-6,
            "{name}: {found}, expected {expected}: {off:e} off"
        );
    }
}

#[test]
fn frechet_distances_are_those_of_three_tools() {
    let golden = Golden::read();
    for set in SETS {
        let [samples, reference] = golden.sets(set).map(|x| Statistics::of(&x).unwrap());
        let found = frechet_distance(&samples, &reference).unwrap();
        for tool in ["pytorch-fid", "torch-fidelity", "adm"] {
            golden.check(&format!("{set}.{tool}.fid"), found);
        }
    }
}

#[test]
fn kernel_distances_are_those_of_torch_fidelity() {
    let golden = Golden::read();
    let options = KidOptions {
        subsets: 7,
        subset_images: 40,
        seed: 2020,
    };
    for set in SETS {
        let [samples, reference] = golden.sets(set);
        let found = kid(&samples, &reference, &options).unwrap();
        golden.check(&format!("{set}.torch-fidelity.kid"), found.mean);
        golden.check(&format!("{set}.torch-fidelity.kid_std"), found.std);
    }
}

#[test]
fn precision_and_recall_are_those_of_torch_fidelity_and_adm() {
    let golden = Golden::read();
    for set in SETS {
        let [samples, reference] = golden.sets(set);
        let found = neighbours(&samples, &reference).unwrap();
        for tool in ["torch-fidelity", "adm"] {
            golden.check(&format!("{set}.{tool}.precision"), found.precision);
            golden.check(&format!("{set}.{tool}.recall"), found.recall);
        }
    }
}

#[test]
fn inception_scores_are_those_of_torch_fidelity_and_adm() {
    let golden = Golden::read();
    let logits = golden.features("logits");
    let shuffled = inception_score(&logits, Splits::default()).unwrap();
    golden.check("torch-fidelity.isc", shuffled.mean);
    golden.check("torch-fidelity.isc_std", shuffled.std);
    let in_order = inception_score(&logits, Splits::InOrder { images: 70 }).unwrap();
    golden.check("adm.isc", in_order.mean);
}

//! `smd verify`: agreement, disagreement, and references that do not suit.

use crate::golden;
use burn::tensor::Device;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use smd::import::authors::{self, Imported, Options};
use smd::verify::{Comparison, Tolerance, verify};
use std::fs;
use std::path::{Path, PathBuf};

fn official() -> Imported {
    authors::read(&golden("official_smd.safetensors"), &Options::default()).unwrap()
}

fn run(imported: &Imported, reference: &Path) -> Result<Vec<Comparison>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    imported.write(&path).unwrap();
    let device = Device::default();
    let checkpoint = smd::checkpoint::Checkpoint::open(&path).unwrap();
    let denoiser = checkpoint.denoiser(&Default::default(), &device).unwrap();
    verify(
        &denoiser,
        &imported.config,
        reference,
        Tolerance::default(),
        &device,
    )
    .map_err(|error| error.to_string())
}

/// The inputs and outputs of the golden file, some of them left out or renamed.
fn reference(folder: &Path, rename: impl Fn(&str) -> Option<String>) -> PathBuf {
    let bytes = fs::read(golden("official_smd.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors: Vec<(String, TensorView)> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .filter(|(name, _)| name.starts_with("input.") || name.starts_with("expected."))
        .filter_map(|(name, view)| Some((rename(&name)?, view)))
        .collect();
    let path = folder.join("reference.safetensors");
    safetensors::serialize_to_file(tensors, header.metadata().clone(), &path).unwrap();
    path
}

#[test]
fn the_authors_model_agrees_and_a_changed_one_does_not() {
    let mut imported = official();
    let path = golden("official_smd.safetensors");
    let found = run(&imported, &path).unwrap();
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|one| one.agrees), "{found:?}");

    let place = imported
        .infos
        .iter()
        .position(|info| info.name == "model.final_conv.bias");
    let start: usize = imported.infos[..place.unwrap()]
        .iter()
        .map(|info| info.len())
        .sum();
    imported.state.weights[start + 1] += 0.25;
    let found = run(&imported, &path).unwrap();
    let one = |name: &str| found.iter().find(|one| one.name == name).unwrap();
    assert!(one("x_t").agrees && one("z_t").agrees);
    let v = one("v");
    assert!(!v.agrees && (v.max_abs - 0.25).abs() < 1e-5, "{v:?}");
    // Only the second channel is off.
    assert_eq!((v.index[1], v.outside, v.count), (1, 3 * 256, 3 * 3 * 256));
}

#[test]
fn x_t_may_be_given_instead_of_x_0() {
    let folder = tempfile::tempdir().unwrap();
    let path = reference(folder.path(), |name| match name {
        "input.x_0" => None,
        "expected.x_t" => Some("input.x_t".into()),
        _ => Some(name.into()),
    });
    let found = run(&official(), &path).unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|one| one.agrees), "{found:?}");
}

#[test]
fn a_reference_that_does_not_suit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let imported = official();
    let refused = |from: &str, to: Option<&str>| {
        let path = reference(folder.path(), |name| {
            if name == from {
                to.map(str::to_owned)
            } else {
                Some(name.into())
            }
        });
        run(&imported, &path).unwrap_err()
    };
    let cases = [
        ("input.x_0", None, "has neither input.x_0 nor input.x_t"),
        ("input.t", None, "has no tensor input.t"),
        ("input.eta", None, "has no tensor input.eta"),
        (
            "expected.v",
            Some("expected.eps"),
            "has expected.eps, but the model predicts v",
        ),
        (
            "expected.v",
            Some("expected.w"),
            "has expected.w, but only x_t, z_t, v, loss are known",
        ),
    ];
    for (from, to, problem) in cases {
        let message = refused(from, to);
        assert!(message.contains(problem), "{from}: {message}");
    }
    let message = run(&imported, &golden("authors_tiny.safetensors")).unwrap_err();
    assert!(
        message.contains("has shape [2, 3, 8, 8], expected [B, 3, 16, 16]"),
        "{message}"
    );
}

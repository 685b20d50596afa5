//! `smd eval`: from images to numbers that can be defended.

use super::{assert_says, formula, pictures, refusal, smd};
use serde_json::Value;
use std::path::Path;

/// A folder with pictures and weights that a formula makes.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let weights = folder.path().join("lite0.safetensors");
    formula::write_weights(&weights, &formula::efficientnet_lite0());
    folder
}

const LITE0: [&str; 5] = [
    "--extractor",
    "lite0",
    "--weights",
    "lite0.safetensors",
    "--unchecked-weights",
];

fn features(folder: &Path, more: &[&str]) {
    smd(folder)
        .args(["eval", "features"])
        .args(more)
        .args(LITE0)
        .assert()
        .success();
}

fn measured(folder: &Path, args: &[&str]) -> Value {
    let output = smd(folder)
        .arg("eval")
        .args(args)
        .args(LITE0)
        .arg("--json")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn images_against_themselves_have_no_distance_and_a_provenance() {
    let folder = folder();
    let folder = folder.path();
    features(folder, &["images", "--out", "reference.npz"]);
    let found = measured(
        folder,
        &["images", "--reference", "reference.npz", "--out", "a.json"],
    );
    assert_eq!(found["distance"], "FD-EffNetLite0, unchecked weights");
    let frechet = found["measures"]["frechet"].as_f64().unwrap();
    assert!(frechet.abs() < 1e-6, "{frechet}");
    assert_eq!(found["measures"]["neighbours"]["recall"], 1.0);
    assert_eq!(found["samples"]["images"], 10);
    let source = &found["samples"]["provenance"]["source"];
    assert!(
        source["identity"]
            .as_str()
            .unwrap()
            .starts_with("10 images (crc32c ")
    );
    assert!(
        found["notes"][0]
            .as_str()
            .unwrap()
            .contains("fewer directions")
    );
    let saved: Value =
        serde_json::from_slice(&std::fs::read(folder.join("a.json")).unwrap()).unwrap();
    assert_eq!(saved, found);
}

#[test]
fn shards_merge_to_the_whole() {
    let folder = folder();
    let folder = folder.path();
    for part in ["0", "1", "2"] {
        let (shard, out) = (format!("{part}/3"), format!("{part}.npz"));
        features(folder, &["images", "--shard", &shard, "--out", &out]);
    }
    features(folder, &["images", "--out", "whole.npz"]);
    let merge = |files: &[&str]| {
        let mut command = smd(folder);
        command
            .args(["eval", "merge"])
            .args(files)
            .args(["--out", "merged.npz"]);
        command
    };
    merge(&["0.npz", "1.npz", "2.npz"]).assert().success();
    let [merged, whole] =
        ["merged.npz", "whole.npz"].map(|name| std::fs::read(folder.join(name)).unwrap());
    assert!(merged == whole, "the same bytes");
    let message = refusal(&mut merge(&["0.npz", "2.npz"]));
    assert_says(&message, &["0.npz", "part 0 of 3", "expected part 0 of 2"]);
    let message = refusal(&mut merge(&["1.npz", "0.npz", "2.npz"]));
    assert_says(&message, &["1.npz", "in order"]);
}

#[test]
fn results_that_must_not_be_compared_are_refused() {
    let folder = folder();
    let folder = folder.path();
    features(folder, &["images", "--out", "all.npz"]);
    features(folder, &["images", "--limit", "8", "--out", "eight.npz"]);
    for (reference, out) in [
        ("all.npz", "a.json"),
        ("all.npz", "b.json"),
        ("eight.npz", "c.json"),
    ] {
        measured(
            folder,
            &["eight.npz", "--reference", reference, "--out", out],
        );
    }
    let compare = |a: &str, b: &str| {
        let mut command = smd(folder);
        command.args(["eval", "compare", a, b]);
        command
    };
    let output = compare("a.json", "b.json").assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert_says(&text, &["FD-EffNetLite0", "precision"]);
    let message = refusal(&mut compare("a.json", "c.json"));
    assert_says(
        &message,
        &["reference statistics", "reference images (10; 8)"],
    );
}

#[test]
fn weights_that_are_missing_or_others_are_named() {
    let folder = folder();
    let folder = folder.path();
    let eval = |args: &[&str]| {
        let mut command = smd(folder);
        command
            .env("TORCH_HOME", folder)
            .args(["eval", "features", "images", "--out", "x.npz"]);
        refusal(command.args(args))
    };
    assert_says(
        &eval(&[]),
        &[
            "pt_inception-2015-12-05-6726825d.pth",
            "github.com/mseitzer/pytorch-fid",
            "6726825d",
        ],
    );
    let message = eval(&["--extractor", "lite0"]);
    assert_says(&message, &["efficientnet-lite0-57934424.pth", "57934424"]);
    let message = eval(&["--extractor", "lite0", "--weights", "lite0.safetensors"]);
    assert_says(&message, &["SHA-256", "--unchecked-weights"]);
    assert!(!folder.join("x.npz").exists());
}

#[test]
fn features_of_another_width_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, dim: usize| {
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (9, {dim}), }}");
        bytes.extend(format!("{header:<117}\n").bytes());
        bytes.extend((0..9 * dim).flat_map(|i| ((i * 31 % 17) as f32).to_le_bytes()));
        std::fs::write(folder.path().join(name), bytes).unwrap();
    };
    write("a.npy", 3);
    write("b.npy", 4);
    let eval = |reference: &str| {
        let mut command = smd(folder.path());
        command.args(["eval", "a.npy", "--reference", reference]);
        command
    };
    assert_says(
        &refusal(&mut eval("b.npy")),
        &["3 numbers", "4", "one extractor"],
    );
    let output = eval("a.npy").assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert_says(
        &text,
        &[
            "FD of an unknown extractor",
            "does not say of which extractor",
        ],
    );
}

/// A checkpoint is measured as it draws.
#[test]
fn samples_of_a_checkpoint_are_measured() {
    let folder = folder();
    let folder = folder.path();
    let settings = [
        "data.path=\"images\"",
        "schedule.steps=4",
        "net.kind=\"mlp\"",
        "net.dim=16",
        "net.blocks=1",
        "train.batch=4",
        "train.steps=4",
    ];
    std::fs::write(folder.join("run.toml"), "").unwrap();
    let sets = settings.iter().flat_map(|set| ["--set", set]);
    smd(folder)
        .args(["train", "run.toml", "--out", "run"])
        .args(sets)
        .assert()
        .success();
    let args = [
        "run",
        "--seeds",
        "0-9",
        "--steps",
        "2",
        "--reference",
        "images",
    ];
    let found = measured(folder, &args);
    let source = &found["samples"]["provenance"]["source"];
    assert_eq!(source["kind"], "samples");
    assert_eq!((&source["passes"], &source["step"]), (&2.into(), &4.into()));
    assert_eq!(source["seeds"], serde_json::json!([0, 9]));
    assert!(found["measures"]["frechet"].as_f64().unwrap() > 0.0);
}

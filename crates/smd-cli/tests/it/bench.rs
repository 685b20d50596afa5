//! `smd bench`, the instruction sets and the precision of the kernels.

use crate::{TINY, assert_says, metrics, refusal, smd, tiny_run};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn bench(folder: &Path, kernels: &str) -> Value {
    let mut command = smd(folder);
    command.env("SMD_KERNELS", kernels);
    command.args(["bench", "--preset", "gmm-7x7", "--set", "net.dim=16"]);
    command.args(["--batch", "16", "--steps", "2", "--json"]);
    let output = command.assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn parts_of_a_step_add_up_to_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let report = bench(folder.path(), "portable");
    assert_eq!(report["device"], "cpu");
    assert_eq!(report["kernels"], "portable");
    for parts in ["train_parts_ms", "sample_parts_ms"] {
        let parts = report[parts].as_object().unwrap();
        let ms = |name: &str| parts[name].as_f64().unwrap();
        let sum: f64 = parts.keys().map(|name| ms(name)).sum::<f64>() - ms("all");
        assert!((sum - ms("all")).abs() < 1e-6 * ms("all"), "{parts:?}");
        assert!(ms("linear") > 0.0 && ms("linear") < ms("all"), "{parts:?}");
    }
    assert!(report["train_parts_ms"]["optimiser"].as_f64().unwrap() > 0.0);
    assert_eq!(report["sample_parts_ms"]["optimiser"], 0.0);
}

#[test]
fn an_instruction_set_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = smd(folder.path());
    command.env("SMD_KERNELS", "avx1024");
    let message = refusal(command.args(["bench", "--preset", "gmm-7x7"]));
    assert_says(&message, &["SMD_KERNELS is \"avx1024\"", "portable"]);
}

#[test]
fn the_parts_of_a_step_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let plot = |file: &str| {
        let mut command = smd(folder.path());
        command.args([
            "bench",
            "--preset",
            "gmm-7x7",
            "--set",
            "net.dim=16",
            "--steps",
            "1",
        ]);
        command.args(["--batch", "16", "--plot", file]);
        command
    };
    plot("step.png").assert().success();
    let picture = image::open(folder.path().join("step.png")).unwrap();
    assert!(picture.width() > picture.height() / 2 && picture.height() > 500);
    plot("step.svg").assert().success();
    let svg = fs::read_to_string(folder.path().join("step.svg")).unwrap();
    let title = "gmm-7x7, one Gaussian, batch 16 of 1x1x2, f32";
    assert_says(&svg, &[title, "with net.dim=16", "images/s", "linear", "%"]);

    let message = refusal(&mut plot("none/step.png"));
    assert_says(&message, &["none/step.png", "folder does not exist"]);
    let output = plot("step.jpg").assert().code(2).get_output().clone();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_says(&message, &["step.jpg", "--plot", "ends in .png or .svg"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// The losses that a run logged.
fn losses(run: &Path) -> Vec<f64> {
    let lines = metrics(run);
    lines
        .iter()
        .filter_map(|line| line["loss"].as_f64())
        .collect()
}

#[test]
fn training_in_bf16_is_nearly_the_same_and_not_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let whole = losses(&tiny_run(folder.path()));
    let mut command = smd(folder.path());
    command.arg("train").args(TINY);
    command.args(["--set", "precision=bf16", "--out", "rounded"]);
    command.assert().success();
    let rounded = losses(&folder.path().join("rounded"));
    assert_ne!(whole, rounded);
    assert_eq!(whole.len(), rounded.len());
    for (a, b) in whole.iter().zip(&rounded) {
        assert!((a - b).abs() < 0.03 * a, "{whole:?} and {rounded:?}");
    }
}

/// The size that counts is that of the data, as in training.
#[test]
fn the_data_of_the_config_says_the_size() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    for i in 0..3 {
        let name = images.join(format!("{i}.png"));
        image::RgbImage::new(16, 16).save(name).unwrap();
    }
    let bench = |settings: &[&str]| {
        let mut command = smd(folder.path());
        command.args(["bench", "--preset", "ddpm-cifar10", "--steps", "1"]);
        command.args([
            "--batch",
            "2",
            "--set",
            "net.dim=8",
            "--set",
            "net.groups=4",
        ]);
        command.args(["--set", "net.attention=[8]", "--json"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command
    };
    let output = bench(&["data.path=images"]).assert().success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["shape"], serde_json::json!([16, 16, 3]));
    let message = refusal(&mut bench(&["data.path=nothere"]));
    assert_says(&message, &["nothere"]);
    let message = refusal(&mut bench(&["data.mixture=typo"]));
    assert_says(&message, &["typo"]);
}

//! The command as a user runs it.

mod bad_input;
mod bench;
mod diagnose;
mod eval;
#[path = "../../../smd/tests/it/formula.rs"]
#[allow(
    dead_code,
    reason = "the networks of the library's own tests are there too"
)]
mod formula;
mod resume;
mod sample;
mod theory;

use assert_cmd::Command;
use std::path::{Path, PathBuf};

/// The command, in `folder`.
fn smd(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smd"));
    command.current_dir(folder);
    command
}

/// Settings of a run that takes a second.
const TINY: [&str; 14] = [
    "--preset",
    "gmm-7x7",
    "--set",
    "schedule.steps=8",
    "--set",
    "net.dim=16",
    "--set",
    "net.blocks=1",
    "--set",
    "train.batch=16",
    "--set",
    "train.steps=40",
    "--set",
    "train.checkpoint_every=10",
];

/// Trains the tiny model into `folder/run` and returns that path.
fn tiny_run(folder: &Path) -> PathBuf {
    smd(folder)
        .arg("train")
        .args(TINY)
        .args(["--out", "run"])
        .assert()
        .success();
    folder.join("run")
}

/// What a run logged, a value a line.
fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Writes `folder/images` with ten pictures of 8x8 pixels.
fn pictures(folder: &Path) {
    let images = folder.join("images");
    std::fs::create_dir(&images).unwrap();
    for i in 0..10_u8 {
        let pixel = |x: u32, y: u32| image::Rgb([(x as u8) * 30, (y as u8) * 30, i * 25]);
        image::RgbImage::from_fn(8, 8, pixel)
            .save(images.join(format!("{i}.png")))
            .unwrap();
    }
}

/// What the command said when it failed with exit code 1: one line.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    let output = command.assert().code(1).get_output().clone();
    let text = String::from_utf8(output.stderr).expect("text");
    let last = text
        .trim_end()
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned();
    assert!(last.starts_with("smd: "), "{text}");
    last
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(
            message.contains(part),
            "\"{message}\" does not say \"{part}\""
        );
    }
}

#[test]
fn without_a_command_the_usage_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    smd(folder.path()).assert().code(2);
    smd(folder.path())
        .args(["train", "--no-such-flag"])
        .assert()
        .code(2);
}

#[test]
fn a_dry_run_prints_the_resolved_config_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = smd(folder.path())
        .arg("train")
        .args(TINY)
        .arg("--dry-run")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("shape = [1, 1, 2]"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn info_prints_one_json_object() {
    let folder = tempfile::tempdir().unwrap();
    let run = tiny_run(folder.path());
    let output = smd(folder.path())
        .arg("info")
        .arg(run)
        .arg("--json")
        .output()
        .unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["step"], 40);
    assert_eq!(object["config"]["schedule"]["steps"], 8);
    assert!(object["tensors"]["model.stem.weight"].is_array());
}

#[test]
fn bench_prints_rates() {
    let folder = tempfile::tempdir().unwrap();
    let output = smd(folder.path())
        .args([
            "bench", "--preset", "gmm-7x7", "--batch", "8", "--steps", "1", "--json",
        ])
        .output()
        .unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for field in ["train_images_per_s", "sample_images_per_s"] {
        assert!(object[field].as_f64().unwrap() > 0.0, "{object}");
    }
}

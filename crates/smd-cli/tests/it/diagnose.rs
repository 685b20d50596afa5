//! `smd diagnose` and `smd train --control`.

use crate::{TINY, assert_says, metrics, pictures, refusal, smd};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Trains a tiny model with more settings.
fn run(folder: &Path, name: &str, settings: &[&str]) -> PathBuf {
    let mut command = smd(folder);
    command.arg("train").args(TINY);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.args(["--out", name]).assert().success();
    folder.join(name)
}

fn diagnose(folder: &Path, run: &Path, words: &[&str]) -> (Value, String) {
    let mut command = smd(folder);
    command.arg("diagnose").arg(run).args(words).arg("--json");
    let output = command.assert().success().get_output().clone();
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (report, String::from_utf8(output.stderr).unwrap())
}

const FEW: [&str; 4] = ["--points", "64", "--etas", "4"];

/// Every step, its error beside the floors, and sums that are sums.
#[test]
fn a_kernel_is_measured_against_the_floors() {
    let folder = tempfile::tempdir().unwrap();
    for (name, settings, implicit) in [
        ("gaussian", vec![], false),
        (
            "late",
            vec![
                "kernel.kind=soft-mixture",
                "kernel.late.dim=16",
                "objective.kind=energy",
            ],
            true,
        ),
        ("mixture", vec!["kernel.kind=mixture"], false),
    ] {
        let run = run(folder.path(), name, &settings);
        let (report, _) = diagnose(folder.path(), &run, &FEW);
        let steps = report["per_t"].as_array().unwrap();
        assert_eq!(steps.len(), 8);
        let sum: f64 = steps.iter().map(|step| step["m"].as_f64().unwrap()).sum();
        let said = report["sum_m"].as_f64().unwrap();
        assert!((sum - said).abs() < 1e-9 * said.abs(), "{sum} {said}");
        for step in steps {
            assert!(step["m_se"].as_f64().unwrap() > 0.0);
            assert_eq!(step["m_half_latents"].is_number(), implicit, "{name}");
            assert_eq!(
                step["m_calibrated"].is_number(),
                name != "mixture",
                "{name}"
            );
            assert!(step["floor_full"].as_f64() <= step["floor_fixed_large"].as_f64());
        }
        let r = steps[0]["r"].as_f64().unwrap();
        assert_eq!(r == 0.0, name == "gaussian", "{name}: {r}");
    }
}

#[test]
fn an_ignored_latent_is_a_warning_that_names_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(
        folder.path(),
        "off",
        &["kernel.kind=soft-mixture", "kernel.eta_off=true"],
    );
    let (_, said) = diagnose(folder.path(), &run, &FEW);
    assert_says(
        &said,
        &["the latent is ignored", "objective.kind = \"energy\""],
    );
    let info = smd(folder.path()).arg("info").arg(&run).output().unwrap();
    let info = String::from_utf8(info.stdout).unwrap();
    assert!(info.contains("r_1 = 0.0000"), "{info}");
    assert!(metrics(&run).iter().any(|line| line["r_1"] == 0.0));
}

/// On images: what Gaussian steps lose, the model's own steps, and its latent.
#[test]
fn any_model_is_measured_on_images() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let mut command = smd(folder.path());
    command.args([
        "train", "--preset", "gmm-7x7", "--data", "images", "--out", "run",
    ]);
    for setting in [
        "schedule.steps=8",
        "net.dim=16",
        "kernel.kind=mixture",
        "kernel.components=2",
        "train.steps=5",
        "train.batch=4",
    ] {
        command.args(["--set", setting]);
    }
    command.assert().success();
    let run = folder.path().join("run");
    let (report, _) = diagnose(folder.path(), &run, &["--data", "images"]);
    assert_eq!(report["dim"], 8 * 8 * 3);
    assert!(report["chains"][0]["calibrated"].is_number(), "{report}");
    assert_eq!(report["per_t"].as_array().unwrap().len(), 8);
    assert!(report["per_t"][3]["l"].is_number() && report["per_t"][3]["r"].is_number());
    let message = refusal(smd(folder.path()).arg("diagnose").arg(&run));
    assert_says(&message, &["trained on images", "--data PATH"]);
}

#[test]
fn a_control_is_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let resolved = |control: &str, kernel: &str| {
        let mut command = smd(folder.path());
        command.arg("train").args(TINY).args(["--set", kernel]);
        command.args(["--control", control, "--dry-run"]);
        command
    };
    let text = |control: &str| {
        let output = resolved(control, "kernel.kind=soft-mixture")
            .assert()
            .success();
        let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        text.parse::<toml::Table>().unwrap()
    };
    assert_eq!(text("eta-off")["kernel"]["eta_off"].as_bool(), Some(true));
    let wide = text("width-matched");
    assert_eq!(wide["kernel"]["kind"].as_str(), Some("gaussian"));
    assert!(wide["net"]["dim"].as_integer() > Some(16));
    let long = text("time-matched");
    assert_eq!(long["net"]["dim"].as_integer(), Some(16));
    assert!(long["train"]["steps"].as_integer() > Some(40));
    let message = refusal(&mut resolved("eta-off", "kernel.kind=mixture"));
    assert_says(
        &message,
        &[
            "eta-off is for kernel.kind = \"soft-mixture\"",
            "width-matched",
        ],
    );
}

/// Its steps have the calibrated errors that `diagnose` gives for the fixed variance, and lose less.
#[test]
fn a_calibrated_step_loses_what_the_best_number_loses() {
    let folder = tempfile::tempdir().unwrap();
    let gaussian = run(folder.path(), "gaussian", &[]);
    let calibrated = folder.path().join("calibrated.safetensors");
    let calibrate = |run: &Path| {
        let mut command = smd(folder.path());
        command.arg("calibrate").arg(run);
        command.args(["--points", "4000", "--out"]).arg(&calibrated);
        command
    };
    calibrate(&gaussian).assert().success();
    let (before, _) = diagnose(folder.path(), &gaussian, &FEW);
    let (after, _) = diagnose(folder.path(), &calibrated, &FEW);
    for (before, after) in before["per_t"]
        .as_array()
        .unwrap()
        .iter()
        .zip(after["per_t"].as_array().unwrap())
    {
        let best = before["m_calibrated"].as_f64().unwrap();
        let (m, se) = (
            after["m"].as_f64().unwrap(),
            after["m_se"].as_f64().unwrap(),
        );
        assert!(
            (m - best).abs() < 0.02 + 5.0 * se,
            "{m} ± {se}, best {best}"
        );
    }
    assert!(after["sum_m"].as_f64() < before["sum_m"].as_f64());
    assert_says(
        &refusal(&mut calibrate(&gaussian)),
        &["exists already", "--out"],
    );

    let mixture = run(folder.path(), "mixture", &["kernel.kind=mixture"]);
    std::fs::remove_file(&calibrated).unwrap();
    let said = refusal(&mut calibrate(&mixture));
    assert_says(&said, &["\"mixture\"", "only kernel.kind = \"gaussian\""]);
}

//! Each bad input: a clear error, and nothing lost.

use crate::{TINY, assert_says, refusal, smd, tiny_run};
use std::fs;
use std::path::Path;

fn png(path: &Path, grey: bool) {
    let image = image::DynamicImage::new_rgb8(8, 8);
    let image = if grey { image.to_luma8().into() } else { image };
    image.save(path).unwrap();
}

/// Tries to train on `data`, without writing anything.
fn train_on(folder: &Path, data: &str) -> assert_cmd::Command {
    let mut command = smd(folder);
    command.args([
        "train",
        "--preset",
        "ddpm-cifar10",
        "--dry-run",
        "--data",
        data,
        "--set",
        "net.attention=[]",
    ]);
    command
}

#[test]
fn a_truncated_or_wrong_image_is_named_and_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    png(&images.join("a.png"), false);
    let whole = fs::read(images.join("a.png")).unwrap();
    fs::write(images.join("b.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(images.join("c.jpg"), b"this is no picture").unwrap();

    let message = refusal(&mut train_on(folder.path(), "images"));
    assert_says(&message, &["b.png"]);
    train_on(folder.path(), "images")
        .arg("--skip-bad")
        .assert()
        .success();
}

#[test]
fn a_folder_without_images_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let message = refusal(&mut train_on(folder.path(), "empty"));
    assert_says(&message, &["empty", "png"]);
    let message = refusal(&mut train_on(folder.path(), "missing"));
    assert_says(&message, &["missing"]);
}

#[test]
fn mixed_channels_are_an_error_with_its_fix() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    png(&images.join("a.png"), false);
    png(&images.join("b.png"), true);
    let message = refusal(&mut train_on(folder.path(), "images"));
    assert_says(&message, &["data.channels"]);
    train_on(folder.path(), "images")
        .args(["--set", "data.channels=3"])
        .assert()
        .success();
}

#[test]
fn a_short_cifar_file_and_a_wrong_idx_magic_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("cifar")).unwrap();
    fs::write(
        folder.path().join("cifar/data_batch_1.bin"),
        vec![0; 3073 + 100],
    )
    .unwrap();
    let message = refusal(&mut train_on(folder.path(), "cifar"));
    assert_says(&message, &["data_batch_1.bin", "3173"]);

    fs::write(folder.path().join("train-images-idx3-ubyte"), [9; 64]).unwrap();
    let message = refusal(&mut train_on(folder.path(), "train-images-idx3-ubyte"));
    assert_says(
        &message,
        &["train-images-idx3-ubyte", "expected 0x00000803"],
    );
}

#[test]
fn a_typo_in_a_key_names_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("run.toml"), "[train]\nstpes = 3\n").unwrap();
    let message = refusal(smd(folder.path()).args(["train", "run.toml"]));
    assert_says(&message, &["run.toml: line 2", "did you mean `steps`?"]);
    let message = refusal(
        smd(folder.path())
            .arg("train")
            .args(TINY)
            .args(["--set", "net.dmi=4"]),
    );
    assert_says(&message, &["did you mean `dim`?"]);
    let message = refusal(smd(folder.path()).args(["train", "--preset", "ddpm-cifar"]));
    assert_says(&message, &["ddpm-cifar10"]);
}

#[test]
fn no_steps_and_sizes_that_cannot_be_halved_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = smd(folder.path());
    command
        .arg("train")
        .args(TINY)
        .args(["--set", "schedule.steps=0"]);
    assert_says(&refusal(&mut command), &["schedule.steps is 0"]);

    let mut command = smd(folder.path());
    command
        .arg("train")
        .args(TINY)
        .args(["--set", "schedule.kind=linear"]);
    assert_says(&refusal(&mut command), &["from 21 steps on", "cosine"]);

    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    image::RgbImage::new(30, 30)
        .save(images.join("a.png"))
        .unwrap();
    let message = refusal(&mut train_on(folder.path(), "images"));
    assert_says(&message, &["divisible by 8", "data.size = 32"]);
}

#[test]
fn a_checkpoint_that_is_cut_off_newer_or_of_another_shape_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = tiny_run(folder.path());
    let path = run.join("checkpoints/step-000000040.safetensors");
    let whole = fs::read(&path).unwrap();
    let cases: [(&str, Vec<u8>, &str); 3] = [
        (
            "cut.safetensors",
            whole[..whole.len() - 10].to_vec(),
            "is cut off or no checkpoint",
        ),
        (
            "newer.safetensors",
            replaced(&whole, "\"smd.format\":\"1\"", "\"smd.format\":\"7\""),
            "has format 7",
        ),
        (
            "shape.safetensors",
            replaced(&whole, "dim = 16", "dim = 18"),
            "this model needs [18",
        ),
    ];
    for (name, bytes, says) in cases {
        fs::write(folder.path().join(name), bytes).unwrap();
        let mut command = smd(folder.path());
        command.args(["sample", name, "--seeds", "0-1", "--out", "drawn"]);
        assert_says(&refusal(&mut command), &[name, says]);
        fs::remove_dir_all(folder.path().join("drawn")).ok();
    }
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[test]
fn an_output_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    tiny_run(folder.path());
    let mut again = smd(folder.path());
    again.arg("train").args(TINY).args(["--out", "run"]);
    assert_says(&refusal(&mut again), &["holds a run already", "--resume"]);

    fs::create_dir(folder.path().join("full")).unwrap();
    fs::write(folder.path().join("full/mine.txt"), "mine").unwrap();
    let mut command = smd(folder.path());
    command.args(["sample", "run", "--seeds", "0-1", "--out", "full"]);
    assert_says(&refusal(&mut command), &["full", "--overwrite"]);
    assert_eq!(
        fs::read_to_string(folder.path().join("full/mine.txt")).unwrap(),
        "mine"
    );
}

#[test]
fn a_seed_range_backwards_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let output = smd(folder.path())
        .args(["sample", "x", "--seeds", "9-2"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("runs backwards; write 2-9"));
}

/// A folder where nothing can be written, also for the superuser: a file stands in its place.
#[test]
fn a_folder_that_cannot_be_written_is_known_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let mut command = smd(folder.path());
    command.arg("train").args(TINY).args(["--out", "file/run"]);
    assert_says(&refusal(&mut command), &["file/run"]);
}

/// A full disk while saving: `/dev/full` takes the place of the folder's file system by a limit on
/// the size of files, which fails a write in the same way.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_while_saving_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = tiny_run(folder.path());
    let before = fs::read(run.join("checkpoints/step-000000040.safetensors")).unwrap();
    let script = format!(
        "trap '' XFSZ; ulimit -f 4; exec {} train --resume run --set train.steps=60",
        env!("CARGO_BIN_EXE_smd")
    );
    let output = std::process::Command::new("bash")
        .current_dir(folder.path())
        .args(["-c", &script])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_says(&message, &["cannot write checkpoint"]);
    let after = fs::read(run.join("checkpoints/step-000000040.safetensors")).unwrap();
    assert_eq!(before, after);
    // With room again it goes on.
    smd(folder.path())
        .args(["train", "--resume", "run", "--set", "train.steps=60"])
        .assert()
        .success();
}

#[test]
fn a_loss_that_is_not_finite_stops_and_says_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "--set train.lr=9.9 --set train.clip=0 --set train.steps=4000 \
         --set objective.prediction=eps --set objective.weight=gamma --set train.warmup_steps=0 \
         --set train.adam_betas=[0.0,0.0] --set train.lr_schedule=constant \
         --set kernel.kind=soft-mixture";
    for (every, kept) in [
        ("1", "the last checkpoint is kept, saved/checkpoints/step-"),
        ("5000", "stopped before the first checkpoint"),
    ] {
        let out = if every == "1" { "saved" } else { "unsaved" };
        let mut command = smd(folder.path());
        command.arg("train").args(TINY).args(["--out", out]);
        command.args(settings.split_whitespace());
        command.args(["--set", &format!("train.checkpoint_every={every}")]);
        let message = refusal(&mut command);
        assert_says(&message, &[kept, "at step", "lower train.lr"]);
    }
}

#[test]
fn files_that_are_there_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "kept").unwrap();
    let import = ["import", "authors", "mine", "--out", "mine"];
    let message = refusal(smd(folder.path()).args(import));
    assert_says(&message, &["mine exists already"]);
    let message = refusal(smd(folder.path()).args(["quickstart", "--quick", "--out", "."]));
    assert_says(&message, &["holds other files"]);
    let message = refusal(
        smd(folder.path())
            .arg("train")
            .args(TINY)
            .args(["--out", "."]),
    );
    assert_says(&message, &["holds other files (mine)"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn two_kernels_at_once_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mixture = ["--set", "kernel.kind=mixture", "--smd", "--dry-run"];
    let message = refusal(smd(folder.path()).arg("train").args(TINY).args(mixture));
    assert_says(&message, &["keep one"]);
}

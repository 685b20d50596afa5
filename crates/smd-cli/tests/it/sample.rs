//! What is drawn depends on the seed alone.

use crate::{assert_says, pictures, refusal, smd, tiny_run};
use std::fs;
use std::path::Path;

/// Trains a small U-Net on ten pictures and returns the run's name.
fn image_run(folder: &Path) {
    pictures(folder);
    smd(folder)
        .args([
            "train",
            "--preset",
            "ddpm-cifar10",
            "--smd",
            "--data",
            "images",
            "--out",
            "run",
        ])
        .args([
            "--set",
            "net.dim=8",
            "--set",
            "net.groups=4",
            "--set",
            "net.multipliers=[1, 2]",
            "--set",
            "net.attention=[]",
        ])
        .args([
            "--set",
            "net.blocks=1",
            "--set",
            "train.steps=3",
            "--set",
            "train.batch=4",
        ])
        .assert()
        .success();
}

#[test]
fn images_do_not_depend_on_batch_threads_or_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    image_run(folder.path());
    let draw = |out: &str, seeds: &str, batch: &str, threads: &str| {
        smd(folder.path())
            .env("RAYON_NUM_THREADS", threads)
            .args(["sample", "run", "--steps", "4", "--out", out])
            .args(["--seeds", seeds, "--batch", batch])
            .assert()
            .success();
    };
    draw("one", "0-63", "1", "1");
    draw("seven", "0-63", "7", "2");
    draw("all", "0-63", "64", "2");
    draw("some", "40-41", "64", "1");
    let bytes = |out: &str, name: &str| fs::read(folder.path().join(out).join(name)).unwrap();
    for seed in 0..64 {
        let name = format!("{seed:06}.png");
        let one = bytes("one", &name);
        assert_eq!(one, bytes("seven", &name), "seed {seed}, batch 7");
        assert_eq!(one, bytes("all", &name), "seed {seed}, batch 64");
    }
    assert_eq!(bytes("one", "000040.png"), bytes("some", "000040.png"));
    assert_eq!(bytes("one", "grid.png"), bytes("all", "grid.png"));
}

#[test]
fn every_sampler_and_spacing_draws() {
    let folder = tempfile::tempdir().unwrap();
    tiny_run(folder.path());
    for sampler in ["ancestral", "ddim"] {
        for spacing in ["uniform", "quad", "trailing"] {
            let out = format!("{sampler}-{spacing}");
            smd(folder.path())
                .args([
                    "sample", "run", "--seeds", "0-19", "--steps", "3", "--out", &out,
                ])
                .args(["--sampler", sampler, "--spacing", spacing])
                .assert()
                .success();
            assert!(folder.path().join(&out).join("samples.npz").exists());
            assert!(folder.path().join(&out).join("grid.png").exists());
        }
    }
}

#[test]
fn averages_are_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    tiny_run(folder.path());
    let draw = |ema: &str, out: &str| {
        smd(folder.path())
            .args([
                "sample", "run", "--seeds", "0-3", "--ema", ema, "--out", out,
            ])
            .assert()
            .success();
        fs::read(folder.path().join(out).join("samples.npz")).unwrap()
    };
    assert_ne!(draw("0.999", "ema"), draw("none", "raw"));
}

#[test]
fn a_call_says_what_it_used_and_replaces_the_samples_of_another() {
    let folder = tempfile::tempdir().unwrap();
    image_run(folder.path());
    let drawn = folder.path().join("drawn");
    let draw = |args: &str| {
        let mut command = smd(folder.path());
        command.args(["sample", "run", "--steps", "2", "--out", "drawn"]);
        command.args(args.split_whitespace());
        let output = command.assert().success().get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        draw("--seeds 0-259 --batch 65"),
        "260 samples in drawn (step 3, EMA 0.9999, ancestral, 2 steps)\n"
    );
    // 16 x 16 of the 260 images: each 64 pixels wide, with gaps of 2.
    let grid = image::open(drawn.join("grid.png")).unwrap();
    assert_eq!((grid.width(), grid.height()), (1058, 1058));

    fs::write(drawn.join("mine.txt"), "mine").unwrap();
    assert_eq!(
        draw("--seeds 7 --overwrite --sampler ddim --ema none"),
        "1 samples in drawn (step 3, raw weights, ddim, 2 steps)\n"
    );
    let mut left: Vec<_> = fs::read_dir(&drawn)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["000007.png", "grid.png", "mine.txt"]);
}

#[test]
fn an_eta_without_ddim_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    tiny_run(folder.path());
    let mut command = smd(folder.path());
    command.args(["sample", "run", "--ddim-eta", "0.5", "--out", "drawn"]);
    let message = refusal(&mut command);
    assert_says(&message, &["belongs to --sampler ddim", "is ancestral"]);
    assert!(!folder.path().join("drawn").exists());
    command.args(["--sampler", "ddim"]).assert().success();
}

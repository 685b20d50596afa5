//! What is drawn depends on the seed alone.

use crate::{smd, tiny_run};
use std::fs;
use std::path::Path;

/// Trains a small U-Net on images of noise and returns the run's name.
fn image_run(folder: &Path) {
    let images = folder.join("images");
    fs::create_dir(&images).unwrap();
    for i in 0..8_u8 {
        let pixel = |x: u32, y: u32| image::Rgb([(x as u8) * 30, (y as u8) * 30, i * 30]);
        image::RgbImage::from_fn(8, 8, pixel)
            .save(images.join(format!("{i}.png")))
            .unwrap();
    }
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

//! Training and sampling on the device under test, against the CPU with the same seed.
//!
//! The device under test is Burn's default: in a build with a GPU feature that GPU, or what
//! `BURN_DEVICE` names (`docs/checks.md`).

use burn::tensor::Device;
use smd::config::RunConfig;
use smd::data::{Examples, Images};
use smd::host;
use smd::nn::params;
use smd::noise::NoiseSource;
use smd::sampler;
use smd::train::Trainer;

const STEPS: usize = 3;

const AUTHORS: &str = r#"
    net = { kind = "authors-unet", dim = 16, multipliers = [1, 2], groups = 4, heads = 2, d_head = 8 }
    kernel = { kind = "soft-mixture", hypernet = { d_latent = 12, layers = 2 } }
    objective = { prediction = "v", weight = "eps" }
    data.shape = [8, 8, 3]
"#;

const HO: &str = r#"
    net = { kind = "ddpm-unet", dim = 16, multipliers = [1, 2], blocks = 1, attention = [4], groups = 4 }
    kernel = { kind = "soft-mixture", hypernet = { d_latent = 12, layers = 2 } }
    objective = { prediction = "eps", weight = "simple" }
    data.shape = [8, 8, 3]
"#;

const VECTORS: &str = r#"
    net = { kind = "mlp", dim = 32, blocks = 2 }
    kernel = { kind = "soft-mixture", hypernet = { d_latent = 8, layers = 2 } }
    data.mixture = "grid-7x7"
    data.shape = [1, 1, 2]
"#;

const MIXTURE: &str = r#"
    net = { kind = "mlp", dim = 32, blocks = 2 }
    kernel = { kind = "mixture", components = 4 }
    data.mixture = "grid-7x7"
    data.shape = [1, 1, 2]
"#;

const TRAIN: &str = r#"
    schedule = { kind = "cosine", steps = 8 }
    train = { batch = 6, steps = 10, lr = 1e-3, weight_decay = 0.01, ema = [0.9], clip = 1.0 }
"#;

fn examples(config: &RunConfig) -> Examples {
    if let Some(source) = &config.data.mixture {
        return Examples::Mixture(source.mixture().unwrap());
    }
    let [height, width, channels] = config.data.shape.unwrap();
    Examples::Images(Images {
        height,
        width,
        channels,
        // Any pictures do: a scramble of the place.
        bytes: (0..10 * height * width * channels)
            .map(|i| (i * i % 251) as u8)
            .collect(),
        skipped: Vec::new(),
    })
}

fn weights(trainer: &Trainer, ema: Option<f64>) -> Vec<f32> {
    params::values(&trainer.model(ema))
        .into_iter()
        .flat_map(host::numbers)
        .collect()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Trains and samples on both devices.
fn hold_against_the_cpu(name: &str, model: &str) {
    let (device, cpu) = (Device::default(), Device::flex());
    assert_ne!(
        device, cpu,
        "BURN_DEVICE must name a device other than the CPU"
    );
    let config = RunConfig::from_toml(&format!("{model}{TRAIN}"), name).unwrap();
    let [mut ours, mut theirs] = [&device, &cpu]
        .map(|device| Trainer::new(config.clone(), examples(&config), device).unwrap());
    let start = weights(&theirs, None);
    assert_eq!(weights(&ours, None), start, "{name}: initial weights");

    for _ in 0..STEPS {
        let (a, b) = (ours.train_step().unwrap(), theirs.train_step().unwrap());
        let apart = |a: f64, b: f64| (a - b).abs() / b.abs();
        let (loss, grad) = (apart(a.loss, b.loss), apart(a.grad_norm, b.grad_norm));
        println!(
            "{name} step {}: loss {:.6}, apart {loss:.1e}; gradient {:.6}, apart {grad:.1e}",
            a.step, b.loss, b.grad_norm
        );
        assert!(loss < 1e-4, "{name}: loss {} and {}", a.loss, b.loss);
        assert!(
            grad < 1e-3,
            "{name}: gradient {} and {}",
            a.grad_norm,
            b.grad_norm
        );
    }
    for ema in [None, Some(0.9)] {
        let (a, b) = (weights(&ours, ema), weights(&theirs, ema));
        let share = distance(&a, &b) / distance(&b, &start);
        println!("{name} weights ({ema:?}): apart {share:.1e} of the way trained");
        assert!(share < 1e-2, "{name}: weights apart {share} of the way");
    }

    let shape = config.data.shape.unwrap();
    let [a, b] = [(&ours, &device), (&theirs, &cpu)].map(|(trainer, device)| {
        let noise = NoiseSource::new(5, vec![0, 1], device);
        let model = trainer.model(Some(0.9));
        host::numbers(sampler::sample(
            &model,
            &config.sample,
            shape,
            &noise,
            |_| {},
        ))
    });
    let largest = b.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let worst = a
        .iter()
        .zip(&b)
        .fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    println!("{name} samples: apart {worst:.1e} of {largest:.1}");
    assert!(
        worst <= 1e-2 * largest,
        "{name}: samples apart {worst} of {largest}"
    );
}

#[test]
fn the_authors_unet_with_soft_mixture() {
    hold_against_the_cpu("authors-unet", AUTHORS);
}

#[test]
fn the_unet_of_ho_et_al_with_soft_mixture() {
    hold_against_the_cpu("ddpm-unet", HO);
}

#[test]
fn the_perceptron_with_soft_mixture() {
    hold_against_the_cpu("mlp", VECTORS);
}

#[test]
fn the_perceptron_with_an_explicit_mixture() {
    hold_against_the_cpu("mixture", MIXTURE);
}

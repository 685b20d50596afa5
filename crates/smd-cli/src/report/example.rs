//! A report of made-up data, for the tests and for the eye:
//! `SMD_EXAMPLE_REPORT=/tmp/report.html cargo test -p smd-cli report`.

use image::{Rgb, RgbImage};

use super::{GridChain, GridModel, ImageModel, Report, Step};

/// Uniform numbers in `0..1` from a linear congruence: good enough for a picture.
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// Samples of the 7x7 grid with the given deviation, a share of them anywhere.
    fn grid(&mut self, std: f64, astray: f64) -> Vec<[f32; 2]> {
        let mut axis = |astray: bool| {
            let middle = (self.uniform() * 7.0).floor() - 3.0;
            let spread = if astray { 0.5 } else { std };
            ((middle + spread * self.normal()) / 2.0006) as f32
        };
        (0..10_000)
            .map(|i| i as f64 / 1e4 < astray)
            .map(|astray| [axis(astray), axis(astray)])
            .collect()
    }

    /// A falling curve, with noise that falls along where it can.
    fn losses(&mut self, start: f64, end: f64) -> Vec<(usize, f64)> {
        let curve = |i: usize| end + (start - end) * (-(i as f64) / 120.0).exp();
        let mut noisy = |value: f64| match end > 0.0 {
            true => value * (0.3 * self.normal()).exp(),
            false => value + 0.3 * self.normal(),
        };
        (0..3000).map(|i| (i, noisy(curve(i)))).collect()
    }

    /// Tiles of bright shapes on black.
    fn tiles(&mut self, blur: f64) -> RgbImage {
        let sizes: Vec<[f64; 2]> = (0..64)
            .map(|_| [4.0 + 8.0 * self.uniform(), 4.0 + 8.0 * self.uniform()])
            .collect();
        RgbImage::from_fn(224, 224, |x, y| {
            let [a, b] = sizes[(y / 28 * 8 + x / 28) as usize];
            let (u, v) = (f64::from(x % 28) - 13.5, f64::from(y % 28) - 13.5);
            let inside = ((1.0 - (u / a).powi(4) - (v / b).powi(4)) / blur).clamp(0.0, 1.0);
            let value =
                (255.0 * inside * (0.7 + 0.3 * (u + v).sin())) + blur * 12.0 * self.normal();
            Rgb([value as u8; 3])
        })
    }
}

/// Two chains of three models, and two models of images.
pub fn report() -> Report {
    let mut draws = Draws(7);
    let mut model =
        |name: &str, step, (std, astray), modes_covered, share_within: f64, influence| {
            let loss = if step == Step::Mixture {
                (2.0, -1.4)
            } else {
                (1.1, 0.06)
            };
            GridModel {
                name: name.into(),
                step,
                points: draws.grid(std, astray),
                modes_covered,
                modes: 49,
                share_within,
                share_se: (share_within * (1.0 - share_within) / 1e4).sqrt(),
                swd: 0.01 + 0.1 * astray,
                influence,
                train_seconds: 31.4,
                sample_seconds: 2.7,
                parameters: 68_354,
                train_steps: 3000,
                loss_name: match step {
                    Step::Mixture => "negative log-likelihood, nats".into(),
                    _ => "squared error of eps, per element".into(),
                },
                losses: draws.losses(loss.0, loss.1),
            }
        };
    let latent = |scale: f64| Some((1..=8).map(|t| (t, scale / t as f64)).collect());
    let (soft, mixture) = (Step::SoftMixture, Step::Mixture);
    let grid = vec![
        GridChain {
            steps: 1000,
            models: vec![
                model("DDPM", Step::Gaussian, (0.055, 0.03), 49, 0.951, None),
                model("DDPM + SMD", soft, (0.055, 0.03), 49, 0.948, latent(0.0021)),
                model("explicit mixture", mixture, (0.052, 0.01), 49, 0.968, None),
            ],
        },
        GridChain {
            steps: 8,
            models: vec![
                model("DDPM", Step::Gaussian, (0.3, 0.6), 10, 0.121, None),
                model("DDPM + SMD", soft, (0.3, 0.6), 11, 0.124, latent(0.0003)),
                model("explicit mixture", mixture, (0.052, 0.02), 49, 0.957, None),
            ],
        },
    ];
    let truth = draws.tiles(0.2);
    let mut image_model = |name: &str, end: f64| ImageModel {
        name: name.into(),
        grids: [(8, 1.6), (50, 0.6), (1000, 0.3)]
            .map(|(steps, blur)| {
                let sampler = if steps < 1000 {
                    "DDIM, eta 0"
                } else {
                    "ancestral"
                };
                (steps, sampler.to_string(), draws.tiles(blur))
            })
            .into(),
        truth: Some(truth.clone()),
        loss_name: "squared error of eps, per element".into(),
        losses: draws.losses(1.0, end),
        images_per_second: 412.3,
        train_seconds: 61.0,
        parameters: 1_204_113,
        train_steps: 3000,
        note: None,
    };
    Report {
        title: "Few-step diffusion, with and without soft mixtures".into(),
        machine: "2 cores, Intel Xeon Platinum 8488C".into(),
        version: "0.1.0".into(),
        command: "smd quickstart --out quickstart".into(),
        total_seconds: 283.0,
        quick: false,
        grid,
        grid_note: Some(
            "A mode is covered when enough samples lie within 3 standard deviations.".into(),
        ),
        images: vec![
            image_model("U-Net", 0.05),
            image_model("U-Net + SMD", 0.045),
        ],
        truth_points: draws.grid(0.05, 0.0),
    }
}

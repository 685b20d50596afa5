//! Images a second of an extractor, one line of JSON; `reference/bench_extractors.py` runs it beside PyTorch.
//! Run: `cargo run --release -p smd --example extractor_bench -- inception|efficientnet WEIGHTS BATCH STEPS`

use burn::tensor::{Device, Distribution, Tensor};
use smd::eval::extractor::{EFFICIENTNET_SIDE, EfficientNetLite0, INCEPTION_SIDE, Inception};
use smd::host;
use smd::import::TensorFile;
use std::path::Path;
use std::time::Instant;

// As the command has it: a system allocator hands pages back after every layer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, weights, batch, steps] = args.try_into().expect("NAME WEIGHTS BATCH STEPS");
    let (batch, steps): (usize, usize) = (batch.parse().unwrap(), steps.parse().unwrap());
    let (file, device) = (
        TensorFile::open(Path::new(&weights)).unwrap(),
        Device::default(),
    );
    let images = |side| {
        Tensor::<4>::random(
            [batch, side, side, 3],
            Distribution::Uniform(-1.0, 1.0),
            &device,
        )
    };
    let seconds = if name == "inception" {
        let (network, x) = (
            Inception::read(&file, &device).unwrap(),
            images(INCEPTION_SIDE),
        );
        median(steps, || {
            drop(host::numbers(network.forward(x.clone()).pool))
        })
    } else {
        let (network, x) = (
            EfficientNetLite0::read(&file, &device).unwrap(),
            images(EFFICIENTNET_SIDE),
        );
        median(steps, || drop(host::numbers(network.forward(x.clone()))))
    };
    println!("{{\"images_per_s\": {}}}", batch as f64 / seconds);
}

/// The median of some runs after one, in seconds.
fn median(steps: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut seconds: Vec<f64> = (0..steps)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[steps / 2]
}

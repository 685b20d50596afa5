//! Speed of the convolution, one line of JSON for each size; `reference/bench_peers.py` runs it beside
//! PyTorch. Run: `cargo run --release -p smd-kernels --example conv_bench [-- [bf16] [NAME]]`

use smd_kernels::conv2d::{Conv2d, Precision, forward, grad_input, grad_weight};
use std::time::Instant;

/// (batch, channels in, channels out, side, window)
const SIZES: [(usize, usize, usize, usize, usize); 14] = [
    (16, 128, 128, 32, 3),
    (16, 256, 256, 16, 3),
    (16, 256, 256, 8, 3),
    (64, 32, 32, 32, 3),
    (128, 3, 64, 32, 3),
    (8, 64, 64, 64, 3),
    (16, 64, 64, 32, 3),
    (16, 128, 128, 8, 3),
    (16, 3, 64, 32, 7),
    (16, 128, 128, 32, 1),
    (16, 16, 16, 32, 3),
    (16, 32, 16, 32, 3),
    (16, 6, 16, 32, 7),
    (16, 100, 100, 32, 1),
];

/// The median of some runs, in seconds.
fn median(mut run: impl FnMut()) -> f64 {
    run();
    let mut seconds: Vec<f64> = (0..15)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() {
    let mut words = std::env::args().skip(1).peekable();
    let precision = match words.next_if(|word| word == "bf16") {
        Some(_) => Precision::Bf16,
        None => Precision::F32,
    };
    let asked = words.next();
    for (batch, c_in, c_out, side, window) in SIZES {
        let name = format!("{batch}x{c_in}->{c_out}@{side}k{window}");
        if asked.as_ref().is_some_and(|asked| *asked != name) {
            continue;
        }
        let conv = Conv2d {
            batch,
            size: [side, side],
            c_in,
            c_out,
            kernel: [window; 2],
            stride: 1,
            pad: [window / 2; 4],
            precision,
        };
        let pixels = batch * side * side;
        let weights = c_out * c_in * window * window;
        let numbers = |len: usize| -> Vec<f32> {
            (0..len)
                .map(|i| (i * 37 % 101) as f32 / 101.0 - 0.5)
                .collect()
        };
        let (x, w, b) = (numbers(pixels * c_in), numbers(weights), numbers(c_out));
        let (mut y, mut dx) = (numbers(pixels * c_out), vec![0.0; pixels * c_in]);
        let (mut dw, mut db) = (vec![0.0; weights], vec![0.0; c_out]);
        let gradient = numbers(pixels * c_out);
        let seconds = [
            median(|| forward(&conv, &x, &w, &b, &mut y)),
            median(|| grad_input(&conv, &gradient, &w, &mut dx)),
            median(|| grad_weight(&conv, &x, &gradient, &mut dw, &mut db)),
        ];
        // Of direct summation, whatever way was taken.
        let gflop = 2.0 * (pixels * weights) as f64 / 1e9;
        let [forward, input, weight] = seconds.map(|s| s * 1e3);
        let [forward_rate, input_rate, weight_rate] = seconds.map(|s| gflop / s);
        println!(
            "{{\"name\": \"{name}\", \"forward_ms\": {forward:.3}, \"grad_input_ms\": {input:.3}, \
             \"grad_weight_ms\": {weight:.3}, \"forward_gflops\": {forward_rate:.0}, \
             \"grad_input_gflops\": {input_rate:.0}, \"grad_weight_gflops\": {weight_rate:.0}}}"
        );
    }
}

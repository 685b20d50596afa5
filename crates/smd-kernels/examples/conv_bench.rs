//! Speed of the convolution at some sizes. Run: `cargo run --release -p smd-kernels --example conv_bench`
use smd_kernels::conv2d::{Conv2d, forward, grad_input, grad_weight};
use std::time::Instant;

fn best(name: &str, flops: f64, mut run: impl FnMut()) {
    run();
    let mut best = f64::MAX;
    for _ in 0..8 {
        let started = Instant::now();
        run();
        best = best.min(started.elapsed().as_secs_f64());
    }
    println!(
        "{name:>28}  {:8.2} ms  {:6.0} GFLOP/s",
        best * 1e3,
        flops / best / 1e9
    );
}

fn main() {
    // (batch, channels in, channels out, side, window)
    let sizes = [
        (16, 64, 64, 32, 3),
        (16, 128, 128, 32, 3),
        (16, 256, 256, 16, 3),
        (16, 128, 128, 8, 3),
        (48, 32, 32, 28, 3),
        (16, 3, 64, 32, 7),
        (16, 128, 128, 32, 1),
        (1, 128, 128, 512, 0),
    ];
    for (batch, c_in, c_out, side, window) in sizes {
        let (size, kernel) = if window == 0 {
            ([1, side], 1)
        } else {
            ([side, side], window)
        };
        let pad = [kernel / 2; 4];
        let conv = Conv2d {
            batch,
            size,
            c_in,
            c_out,
            kernel: [kernel, kernel],
            stride: 1,
            pad,
        };
        let pixels = batch * size[0] * size[1];
        let (x, mut dx) = (vec![0.5; pixels * c_in], vec![0.0; pixels * c_in]);
        let (w, mut dw) = (
            vec![0.1; c_out * c_in * kernel * kernel],
            vec![0.0; c_out * c_in * kernel * kernel],
        );
        let (b, mut db) = (vec![0.0; c_out], vec![0.0; c_out]);
        let mut y = vec![0.0; pixels * c_out];
        let flops = 2.0 * (pixels * c_in * c_out * kernel * kernel) as f64;
        let title = format!("{batch}x{c_in}->{c_out} {}x{} k{kernel}", size[0], size[1]);
        best(&title, flops, || forward(&conv, &x, &w, &b, &mut y));
        best("gradient of x", flops, || {
            grad_input(&conv, &y, &w, &mut dx)
        });
        best("gradient of w", flops, || {
            grad_weight(&conv, &x, &y, &mut dw, &mut db)
        });
    }
}

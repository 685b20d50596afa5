//! The machine's peak of f32 fused multiply-adds, by threads: what every kernel is held against.
//! Run: `cargo run --release -p smd-kernels --example peak`

use smd_kernels::{peak, simd};
use std::time::Instant;

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in 1..=cores {
        // Machines are shared: the median of many short runs, and the best.
        let mut rates: Vec<f64> = (0..21).map(|_| rate(threads)).collect();
        rates.sort_by(f64::total_cmp);
        println!(
            "{threads} threads, {:?}: median {:.0}, best {:.0} GFLOP/s",
            simd::level(),
            rates[rates.len() / 2],
            rates[rates.len() - 1]
        );
    }
}

/// GFLOP/s of `threads` threads at once.
fn rate(threads: usize) -> f64 {
    const ROUNDS: usize = 2_000_000;
    let started = Instant::now();
    let flops: f64 = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| peak::multiply_adds(simd::level(), ROUNDS)))
            .collect();
        running
            .into_iter()
            .map(|one| one.join().expect("no panic"))
            .sum()
    });
    flops / started.elapsed().as_secs_f64() / 1e9
}

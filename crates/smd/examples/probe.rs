//! probe
use smd::{config, eval::*, gmm::GaussianMixture, noise::NoiseSource, sampler, train::Trainer};
use std::time::Instant;
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut c = config::set(config::preset("gmm-7x7").unwrap(), "p", &args).unwrap();
    let ex = c.resolve().unwrap();
    let dev = burn::tensor::Device::default();
    let mut t = Trainer::new(c.clone(), ex, &dev).unwrap();
    let s = Instant::now();
    let mut acc = 0.;
    for i in 0..c.train.steps {
        let r = t.train_step().unwrap();
        acc += r.loss;
        if (i + 1) % 500 == 0 {
            println!(
                "{} loss {:.4} {:.1}s",
                i + 1,
                acc / 500.,
                s.elapsed().as_secs_f64()
            );
            acc = 0.;
        }
    }
    println!("params {}", t.parameters());
    let g = GaussianMixture::grid_7x7();
    let m = t.model(Some(c.train.ema[0]));
    for st in [8usize, 50, 250, 1000] {
        if st > c.schedule.steps {
            continue;
        }
        let s = Instant::now();
        let n = if st > 250 { 2000 } else { 4000 };
        let noise = NoiseSource::new(1, (0..n).collect(), &dev);
        let sc = sampler::SampleConfig {
            steps: st,
            ..c.sample.clone()
        };
        let x = sampler::sample(&m, &sc, [1, 1, 2], &noise, |_| {});
        let x = smd::host::numbers(x);
        let r = modes::mode_report(&x, &g);
        println!(
            "S={st} covered {} share {:.3} within {:.2} {:.1}s",
            r.covered,
            r.share_within_3_std,
            r.within_std_ratio,
            s.elapsed().as_secs_f64()
        );
    }
    for tt in 1..=3 {
        println!(
            "r_{tt} {:.4}",
            influence::influence(&m, &g, tt, 500, 8, 3, &dev)
        );
    }
}

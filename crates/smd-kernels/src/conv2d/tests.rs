use super::*;
use proptest::prelude::*;

/// A convolution written as its definition, in f64, with all three gradients.
struct Plain {
    y: Vec<f64>,
    x_grad: Vec<f64>,
    w_grad: Vec<f64>,
    b_grad: Vec<f64>,
}

fn plain(conv: &Conv2d, x: &[f32], w: &[f32], b: &[f32], g: &[f32]) -> Plain {
    let [height, width] = conv.output_size();
    let [kh, kw] = conv.kernel;
    let mut out = Plain {
        y: vec![0.0; conv.output_len()],
        x_grad: vec![0.0; x.len()],
        w_grad: vec![0.0; w.len()],
        b_grad: vec![0.0; b.len()],
    };
    for (i, y) in out.y.iter_mut().enumerate() {
        let (co, pixel) = (i % conv.c_out, i / conv.c_out);
        let (ox, oy, image) = (
            pixel % width,
            pixel / width % height,
            pixel / width / height,
        );
        *y = f64::from(b[co]);
        out.b_grad[co] += f64::from(g[i]);
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let iy = (oy * conv.stride + ky).wrapping_sub(conv.pad[0]);
            let ix = (ox * conv.stride + kx).wrapping_sub(conv.pad[2]);
            if iy >= conv.size[0] || ix >= conv.size[1] {
                continue;
            }
            for ci in 0..conv.c_in {
                let xi = ((image * conv.size[0] + iy) * conv.size[1] + ix) * conv.c_in + ci;
                let wi = ((co * conv.c_in + ci) * kh + ky) * kw + kx;
                *y += f64::from(x[xi]) * f64::from(w[wi]);
                out.x_grad[xi] += f64::from(g[i]) * f64::from(w[wi]);
                out.w_grad[wi] += f64::from(g[i]) * f64::from(x[xi]);
            }
        }
    }
    out
}

fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn assert_close(got: &[f32], want: &[f64], terms: usize, what: &str) {
    // Rounding of a sum of products of numbers below 1 grows at most like the number of terms.
    let tolerance = 2e-7 * (terms as f64).max(8.0);
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!(
            (f64::from(g) - w).abs() <= tolerance,
            "{what}[{i}]: {g}, not {w}"
        );
    }
}

fn check(conv: &Conv2d, seed: u32) {
    let x = numbers(conv.input_len(), seed);
    let w = numbers(conv.weight_len(), seed + 1);
    let b = numbers(conv.c_out, seed + 2);
    let g = numbers(conv.output_len(), seed + 3);
    let want = plain(conv, &x, &w, &b, &g);
    for level in simd::available() {
        let mut y = vec![f32::NAN; g.len()];
        forward_at(level, conv, &x, &w, &b, &mut y);
        let window = conv.kernel[0] * conv.kernel[1];
        assert_close(&y, &want.y, window * conv.c_in, "y");
        let mut dx = vec![f32::NAN; x.len()];
        grad_input_at(level, conv, &g, &w, &mut dx);
        assert_close(&dx, &want.x_grad, window * conv.c_out, "gradient of x");
        let (mut dw, mut db) = (vec![f32::NAN; w.len()], vec![f32::NAN; b.len()]);
        grad_weight_at(level, conv, &x, &g, &mut dw, &mut db);
        let pixels = g.len() / conv.c_out;
        assert_close(&dw, &want.w_grad, pixels, "gradient of w");
        assert_close(&db, &want.b_grad, pixels, "gradient of b");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn values_and_gradients_follow_the_definition(
        batch in 1_usize..3,
        height in prop::sample::select(vec![1_usize, 2, 5, 7, 28]),
        width in prop::sample::select(vec![1_usize, 2, 7, 13]),
        c_in in prop::sample::select(vec![1_usize, 3, 5, 31, 33]),
        c_out in prop::sample::select(vec![1_usize, 3, 32, 33, 100]),
        kernel in prop::sample::select(vec![1_usize, 3, 7]),
        stride in 1_usize..3,
        lopsided in any::<bool>(),
        seed in 0_u32..1000,
    ) {
        let pad = kernel / 2;
        let before = if lopsided && kernel > 1 { 0 } else { pad };
        let conv = Conv2d {
            batch,
            size: [height.max(kernel - pad - before), width.max(kernel - pad - before)],
            c_in,
            c_out,
            kernel: [kernel, kernel],
            stride,
            pad: [before, pad, before, pad],
        };
        check(&conv, seed);
    }
}

/// Sizes that are cut into rows of tiles, into several images, into strips and ranges of channels.
#[test]
fn every_way_to_cut_the_work_follows_the_definition() {
    let same = [1; 4];
    for (batch, size, c_in, c_out, pad) in [
        (1, [18, 18], 128, 40, same),
        (17, [5, 3], 16, 72, same),
        (9, [10, 10], 256, 16, same),
        (2, [7, 6], 20, 33, [0, 2, 2, 0]),
    ] {
        let conv = Conv2d {
            batch,
            size,
            c_in,
            c_out,
            kernel: [3, 3],
            stride: 1,
            pad,
        };
        assert!(winograd::suits(&conv));
        check(&conv, 7);
    }
    // The matrix product: one long row of pixels.
    let linear = Conv2d {
        batch: 1,
        size: [1, 777],
        c_in: 70,
        c_out: 90,
        kernel: [1, 1],
        stride: 1,
        pad: [0; 4],
    };
    check(&linear, 8);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let conv = Conv2d {
        batch: 3,
        size: [18, 18],
        c_in: 128,
        c_out: 72,
        kernel: [3, 3],
        stride: 1,
        pad: [1; 4],
    };
    let (x, w) = (numbers(conv.input_len(), 1), numbers(conv.weight_len(), 2));
    let (b, g) = (numbers(conv.c_out, 3), numbers(conv.output_len(), 4));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (mut y, mut dx) = (vec![0.0; g.len()], vec![0.0; x.len()]);
            let (mut dw, mut db) = (vec![0.0; w.len()], vec![0.0; b.len()]);
            forward(&conv, &x, &w, &b, &mut y);
            grad_input(&conv, &g, &w, &mut dx);
            grad_weight(&conv, &x, &g, &mut dw, &mut db);
            [y, dx, dw, db]
        })
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(5));
}

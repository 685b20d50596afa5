use super::*;
use crate::memory::any_numbers;
use crate::testing::{cases, sized};
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

/// The numbers a convolution and its gradients start from.
struct Start {
    x: Vec<f32>,
    w: Vec<f32>,
    b: Vec<f32>,
    g: Vec<f32>,
}

impl Start {
    fn new(conv: &Conv2d, seed: u32) -> Self {
        Self {
            x: numbers(conv.input_len(), seed),
            w: numbers(conv.weight_len(), seed + 1),
            b: numbers(conv.c_out, seed + 2),
            g: numbers(conv.output_len(), seed + 3),
        }
    }

    /// `y`, and the gradients of `x`, `w` and `b`.
    fn run(&self, level: Level, conv: &Conv2d) -> [Vec<f32>; 4] {
        let Self { x, w, b, g } = self;
        let [mut y, mut dx, mut dw, mut db] = [g, x, w, b].map(|like| any_numbers(like.len()));
        forward_at(level, conv, x, w, b, &mut y);
        grad_input_at(level, conv, g, w, &mut dx);
        grad_weight_at(level, conv, x, g, &mut dw, &mut db);
        [y, dx, dw, db]
    }

    fn plain(&self, conv: &Conv2d) -> [Vec<f64>; 4] {
        let plain = plain(conv, &self.x, &self.w, &self.b, &self.g);
        [plain.y, plain.x_grad, plain.w_grad, plain.b_grad]
    }
}

const NAMES: [&str; 4] = ["y", "gradient of x", "gradient of w", "gradient of b"];

/// Products that each number of a result sums.
fn terms(conv: &Conv2d) -> [usize; 4] {
    let window = conv.kernel[0] * conv.kernel[1];
    let pixels = conv.output_len() / conv.c_out;
    [window * conv.c_in, window * conv.c_out, pixels, pixels]
}

fn check(conv: &Conv2d, seed: u32) {
    let start = Start::new(conv, seed);
    let want = start.plain(conv);
    for level in simd::available() {
        let got = start.run(level, conv);
        for (i, terms) in terms(conv).into_iter().enumerate() {
            assert_close(&got[i], &want[i], terms, NAMES[i]);
        }
        let (mut within, range) = (any_numbers(got[0].len()), [-0.25, 0.5]);
        let Start { x, w, b, .. } = &start;
        forward_within_at(level, conv, x, w, b, range, &mut within);
        let clamped: Vec<f32> = got[0].iter().map(|y| y.clamp(range[0], range[1])).collect();
        assert_eq!(within, clamped, "{level:?}");
    }
    check_bf16(conv, &start, &want);
}

/// Direct sums are those of rounded factors. Winograd's way rounds after its transforms: it is held to the
/// plain code, which does the same, and to the size that such an error has.
fn check_bf16(conv: &Conv2d, start: &Start, exact: &[Vec<f64>; 4]) {
    let conv = &Conv2d {
        precision: Precision::Bf16,
        ..*conv
    };
    let rounded = |x: &[f32]| -> Vec<f32> {
        let number = |&x: &f32| f32::from_bits(u32::from(crate::bf16::round(x)) << 16);
        x.iter().map(number).collect()
    };
    let with_rounded = Start {
        x: rounded(&start.x),
        w: rounded(&start.w),
        b: start.b.clone(),
        g: rounded(&start.g),
    };
    let plain = start.run(Level::Portable, conv);
    let of_rounded = with_rounded.plain(conv);
    let by_winograd = [
        winograd::suits(conv),
        !few_channels::suits(conv) && winograd::suits(&conv.transposed()),
        winograd::suits(conv),
        false,
    ];
    for level in simd::available() {
        let got = match level {
            Level::Portable => plain.clone(),
            _ => start.run(level, conv),
        };
        for (i, terms) in terms(conv).into_iter().enumerate() {
            let what = format!("{} in bf16 at {level:?}", NAMES[i]);
            if i == 3 {
                // Nothing is multiplied.
                assert_close(&got[i], &exact[i], terms, &what);
            } else if by_winograd[i] {
                let plain: Vec<f64> = plain[i].iter().map(|&x| x.into()).collect();
                assert_close(&got[i], &plain, terms, &what);
                let squares = got[i]
                    .iter()
                    .zip(&exact[i])
                    .map(|(&g, e)| (f64::from(g) - e).powi(2));
                let rms = (squares.sum::<f64>() / got[i].len() as f64).sqrt();
                // Numbers within 1, each factor off by at most 2^-9 of itself.
                let bound = 2.0_f64.powi(-9) * (terms as f64).sqrt();
                assert!(rms < bound, "{what}: off by {rms}, not {bound}");
            } else {
                assert_close(&got[i], &of_rounded[i], terms, &what);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn values_and_gradients_follow_the_definition(
        batch in 1_usize..3,
        height in prop::sample::select(sized(vec![1_usize, 2, 5, 7, 28], vec![1, 2])),
        width in prop::sample::select(sized(vec![1_usize, 2, 7, 13], vec![1, 3])),
        c_in in prop::sample::select(sized(vec![1_usize, 3, 5, 31, 33], vec![1, 3])),
        c_out in prop::sample::select(sized(vec![1_usize, 3, 32, 33, 100], vec![1, 3, 17])),
        kernel in prop::sample::select(sized(vec![1_usize, 3, 7], vec![1, 3])),
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
            precision: Precision::F32,
        };
        check(&conv, seed);
    }
}

/// Sizes that are cut into rows of tiles, into several images, into strips and ranges of channels.
#[test]
fn every_way_to_cut_the_work_follows_the_definition() {
    let same = [1; 4];
    let usual = vec![
        (1, [18, 18], 128, 40, same),
        (17, [5, 3], 16, 72, same),
        (9, [10, 10], 256, 16, same),
        (2, [7, 6], 20, 33, [0, 2, 2, 0]),
    ];
    let small = vec![(1, [1, 1], 16, 16, same)];
    for (batch, size, c_in, c_out, pad) in sized(usual, small) {
        let conv = Conv2d {
            batch,
            size,
            c_in,
            c_out,
            kernel: [3, 3],
            stride: 1,
            pad,
            precision: Precision::F32,
        };
        assert!(winograd::suits(&conv));
        check(&conv, 7);
    }
}

/// One long row of pixels.
#[test]
fn a_matrix_product_follows_the_definition() {
    let linear = Conv2d {
        batch: 1,
        size: [1, sized(777, 5)],
        c_in: sized(70, 3),
        c_out: sized(90, 17),
        kernel: [1, 1],
        stride: 1,
        pad: [0; 4],
        precision: Precision::F32,
    };
    check(&linear, 8);
}

#[test]
#[cfg_attr(miri, ignore = "large, and cut into tasks by safe code")]
fn the_number_of_threads_changes_no_bit() {
    for precision in [Precision::F32, Precision::Bf16] {
        let conv = Conv2d {
            batch: 3,
            size: [18, 18],
            c_in: 128,
            c_out: 72,
            kernel: [3, 3],
            stride: 1,
            pad: [1; 4],
            precision,
        };
        let start = Start::new(&conv, 1);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            pool.install(|| start.run(simd::level(), &conv))
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(5));
    }
}

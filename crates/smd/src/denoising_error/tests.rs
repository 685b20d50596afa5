use super::chain::{self, Step, qualities};
use super::exceed::{Exceeding, exceed};
use super::*;
use crate::error::TheoryError;
use crate::gmm::MixtureConfig;
use crate::schedule::{ScheduleConfig, ScheduleKind};

fn schedule(kind: ScheduleKind, steps: usize) -> NoiseSchedule {
    NoiseSchedule::new(&ScheduleConfig { kind, steps }).unwrap()
}

fn on_a_line(weights: &[f64], means: &[f64], stds: &[f64]) -> GaussianMixture {
    GaussianMixture::from_config(&MixtureConfig {
        weights: Some(weights.to_vec()),
        means: means.iter().map(|&mean| vec![mean]).collect(),
        stds: Some(stds.to_vec()),
        ..MixtureConfig::default()
    })
    .unwrap()
}

/// The trapezoid rule with `cells` cells; exact to rounding for sums of Gaussians that it resolves.
fn integral(from: f64, to: f64, cells: usize, f: impl Fn(f64) -> f64) -> f64 {
    let step = (to - from) / cells as f64;
    (0..=cells).map(|i| f(from + step * i as f64)).sum::<f64>() * step
}

/// Floors on a line by two nested integrals over densities alone: no draws, no posterior moments, no
/// decomposition. On a line `per_x`, `diagonal` and `full` are one family.
fn floors_by_quadrature(mixture: &GaussianMixture, schedule: &NoiseSchedule, t: usize) -> [f64; 4] {
    let (now, before) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1));
    let (alpha, beta) = (now / before, 1.0 - now / before);
    let (q_t, q_prev) = (mixture.marginal(now), mixture.marginal(before));
    let forward = |x_prev: f64, x_t: f64| {
        let square = (x_t - alpha.sqrt() * x_prev).powi(2) / beta;
        -0.5 * (square + (std::f64::consts::TAU * beta).ln())
    };
    // E over x_t of: the step's variance, its logarithm, and its negative entropy.
    let over_x_t = |of: &dyn Fn(f64, f64) -> f64| {
        integral(-7.0, 7.0, 700, |x_t| {
            let mass = q_t.log_density(&[x_t]).exp();
            if mass < 1e-16 {
                return 0.0;
            }
            let log_q =
                |x: f64| q_prev.log_density(&[x]) + forward(x, x_t) - q_t.log_density(&[x_t]);
            let mean_of = |f: &dyn Fn(f64) -> f64| {
                integral(-7.0, 7.0, 2800, |x| {
                    let log_q = log_q(x);
                    if log_q < -60.0 {
                        0.0
                    } else {
                        log_q.exp() * f(x)
                    }
                })
            };
            let mean = mean_of(&|x| x);
            let var = mean_of(&|x| (x - mean).powi(2));
            mass * of(var, mean_of(&log_q))
        })
    };
    let var = over_x_t(&|var, _| var);
    let log_var = over_x_t(&|var, _| var.ln());
    let negative_entropy = over_x_t(&|_, log_q| log_q);
    let fixed = |s2: f64| 0.5 * ((std::f64::consts::TAU * s2).ln() + var / s2) + negative_entropy;
    let best = 0.5 * (std::f64::consts::TAU.ln() + 1.0 + log_var) + negative_entropy;
    let small = if t > 1 {
        fixed(schedule.posterior(t).var)
    } else {
        f64::NAN
    };
    [fixed(beta), small, fixed(var), best]
}

#[test]
fn floors_on_a_line_are_those_of_quadrature() {
    let cases = [
        (
            on_a_line(&[0.3, 0.7], &[-1.2, 0.5], &[0.1, 0.2]),
            ScheduleKind::Cosine,
            4,
        ),
        (
            on_a_line(&[0.2, 0.5, 0.3], &[-1.5, 0.0, 1.1], &[0.1, 0.3, 0.15]),
            ScheduleKind::Vp,
            8,
        ),
    ];
    for (mixture, kind, steps) in cases {
        let schedule = schedule(kind, steps);
        for t in 1..=steps {
            let found = step_floors(&mixture, &schedule, t, 200_000, 1);
            let [large, small, isotropic, best] = floors_by_quadrature(&mixture, &schedule, t);
            let expected = [
                (Family::FixedLarge, large),
                (Family::FixedSmall, small),
                (Family::Isotropic, isotropic),
                (Family::PerX, best),
                (Family::Diagonal, best),
                (Family::Full, best),
            ];
            for (family, expected) in expected {
                let Some(Estimate { nats, se }) = found.floor(family) else {
                    assert!((family, t) == (Family::FixedSmall, 1));
                    continue;
                };
                let off = (nats - expected).abs();
                assert!(
                    off < 1e-3 * expected.abs() + 5.0 * se,
                    "{kind:?} t = {t} {family:?}: {nats} +- {se}, not {expected}"
                );
                assert!(se < 0.01, "{se}");
            }
        }
    }
}

/// Sums over t on the 7x7 grid that a prototype measured (`fixed_large` and `full`).
#[test]
fn floors_of_the_grid_are_the_known_ones() {
    for (steps, large, full) in [(4, 3.37, 3.22), (8, 3.24, 2.89), (16, 2.60, 0.94)] {
        let schedule = schedule(ScheduleKind::Cosine, steps);
        let error = measure(&GaussianMixture::grid_7x7(), &schedule, 20_000, 3, |_| {});
        for (family, expected) in [(Family::FixedLarge, large), (Family::Full, full)] {
            let Estimate { nats, se } = error.sum_from(1, family).unwrap();
            assert!(
                (nats - expected).abs() < 0.02 + 5.0 * se,
                "T = {steps} {family:?}: {nats} +- {se}, not {expected}"
            );
        }
    }
}

/// Every family contains the ones before it, so its floor is no higher.
#[test]
fn more_freedom_is_never_worse() {
    let tilted = GaussianMixture::from_config(&MixtureConfig {
        means: vec![vec![-1.0, 0.2], vec![1.0, 0.1]],
        covariances: Some(vec![
            vec![vec![0.2, 0.1], vec![0.1, 0.1]],
            vec![vec![0.1, -0.05], vec![-0.05, 0.2]],
        ]),
        ..MixtureConfig::default()
    })
    .unwrap();
    for mixture in [tilted, GaussianMixture::grid_7x7()] {
        let error = measure(
            &mixture,
            &schedule(ScheduleKind::Cosine, 6),
            4000,
            3,
            |_| {},
        );
        for step in &error.per_t {
            let floor = |family| step.floor(family).unwrap().nats;
            let order = [
                Family::FixedLarge,
                Family::Isotropic,
                Family::PerX,
                Family::Diagonal,
                Family::Full,
            ];
            for pair in order.windows(2) {
                assert!(
                    floor(pair[0]) >= floor(pair[1]) - 1e-12,
                    "t = {}: {pair:?}",
                    step.t
                );
            }
            assert!(floor(Family::Full) > -5.0 * step.floor(Family::Full).unwrap().se);
        }
    }
}

/// A single Gaussian has Gaussian steps: everything is 0 but what a wrong fixed variance costs.
#[test]
fn one_gaussian_has_no_bottleneck() {
    let mixture = on_a_line(&[1.0], &[0.3], &[0.5]);
    let schedule = schedule(ScheduleKind::Cosine, 5);
    let error = measure(&mixture, &schedule, 100, 3, |_| {});
    for family in [
        Family::Isotropic,
        Family::PerX,
        Family::Diagonal,
        Family::Full,
    ] {
        let Estimate { nats, se } = error.sum_from(1, family).unwrap();
        assert!(nats.abs() < 1e-12 && se < 1e-12, "{family:?}: {nats} {se}");
    }
    for step in &error.per_t {
        let (p, beta) = (step.isotropic_var, step.beta);
        let expected = 0.5 * (p / beta - 1.0 - (p / beta).ln());
        let found = step.floor(Family::FixedLarge).unwrap();
        assert!((found.nats - expected).abs() < 1e-12 && found.se < 1e-12);
    }
    // The start is one Gaussian too: KL(N(m, v) || N(0, 1)).
    let alpha_bar = schedule.alpha_bar(5);
    let (m, v) = (alpha_bar.sqrt() * 0.3, 1.0 - 0.75 * alpha_bar);
    let expected = 0.5 * (v + m * m - 1.0 - v.ln());
    assert!((error.kl_start.nats - expected).abs() < 1e-12);
    assert!(error.total(Family::Full).unwrap().nats - expected < 1e-12);
    assert!(error.total(Family::FixedSmall).is_none());
}

#[test]
fn the_exact_chain_has_all_modes_and_the_best_gaussian_one_has_not() {
    let (grid, schedule) = (
        GaussianMixture::grid_7x7(),
        schedule(ScheduleKind::Cosine, 4),
    );
    let error = measure(&grid, &schedule, 2000, 3, |_| {});
    let found = qualities(&grid, &schedule, &error, 4000, 5, |_| {});
    let of = |step| found.iter().find(|one| one.step == step).unwrap();
    let exact = of(Step::Exact).modes;
    assert_eq!(exact.covered, 49);
    // The truth has 1 - exp(-9 / 2).
    assert!(
        (exact.share_within_3_std - 0.9889).abs() < 5.0 * exact.share_se,
        "{exact:?}"
    );
    for family in Family::ALL {
        let best = of(Step::Best(family)).modes;
        assert!(best.share_within_3_std < 0.2, "{family:?}: {best:?}");
    }
    assert!(of(Step::Exact).swd < of(Step::Best(Family::Full)).swd);
}

/// Theorem 3.1: of every Gaussian step.
#[test]
fn any_number_of_nats_is_exceeded_at_every_step() {
    for steps in [1, 2, 8, 200] {
        let schedule = schedule(ScheduleKind::Cosine, steps);
        let [few, many] = [1.0, 1e6].map(|nats| {
            let found = exceed(nats, &schedule, |_| {}).unwrap();
            assert_eq!(found.full.len(), steps);
            for (per_coordinate, full) in found.per_coordinate.iter().zip(&found.full) {
                assert!(*full > nats && per_coordinate >= full, "{found:?}");
            }
            assert!(found.scales.is_sorted_by(|a, b| a < b), "{found:?}");
            found
        });
        assert!(many.copies > 1000 * few.copies);
        assert_eq!(many.dim(), many.copies * few.scales.len());
    }
}

#[test]
fn a_number_that_needs_too_many_coordinates_says_which_does_not() {
    let schedule = schedule(ScheduleKind::Cosine, 4);
    let error = exceed(1e30, &schedule, |_| {}).unwrap_err();
    let TheoryError::TooMany { most, .. } = error else {
        panic!("{error}");
    };
    assert!(error.to_string().contains("1e30 nats"), "{error}");
    assert!(exceed(most, &schedule, |_| {}).is_ok());
    assert!(exceed(2.0 * most, &schedule, |_| {}).is_err());
}

/// The ladder as a mixture of 2^D Gaussians, by draws.
#[test]
fn what_exceeds_does_so_by_draws() {
    let schedule = schedule(ScheduleKind::Cosine, 2);
    let found = exceed(0.1, &schedule, |_| {}).unwrap();
    assert_eq!(found.copies, 1);
    let dim = found.dim();
    let sign = |k: usize, i: usize| if (k >> i) & 1 == 1 { 1.0 } else { -1.0 };
    let mean = |k| {
        let scales = found.scales.iter().enumerate();
        scales.map(|(i, u)| sign(k, i) * u).collect()
    };
    let square = |scale: &f64| Exceeding::std(*scale).powi(2);
    let variances: Vec<f64> = found.scales.iter().map(square).collect();
    let mixture = GaussianMixture::from_config(&MixtureConfig {
        means: (0..1 << dim).map(mean).collect(),
        variances: Some(vec![variances; 1 << dim]),
        ..MixtureConfig::default()
    })
    .unwrap();
    for t in 1..=2 {
        let drawn = step_floors(&mixture, &schedule, t, 500, 1);
        let [isotropic, full] =
            [Family::Isotropic, Family::Full].map(|family| drawn.floor(family).unwrap());
        // Coordinates that are left out lose a little; one variance for all loses more.
        let off = full.nats - found.full[t - 1];
        assert!(off.abs() < 0.01 + 5.0 * full.se, "{full:?}, {found:?}");
        let bound = found.per_coordinate[t - 1] - 5.0 * isotropic.se;
        assert!(isotropic.nats > bound, "{isotropic:?}, {found:?}");
    }
}

#[test]
fn the_numbers_do_not_depend_on_the_number_of_threads() {
    let one = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let grid = GaussianMixture::grid_7x7();
            let floors = step_floors(&grid, &schedule(ScheduleKind::Cosine, 8), 2, 3000, 3);
            Family::ALL.map(|family| floors.floor(family).unwrap().nats)
        })
    };
    assert_eq!(one(1), one(3));
}

fn two_points(at: f64, std: f64) -> GaussianMixture {
    GaussianMixture::from_config(&MixtureConfig {
        means: vec![vec![-at, -at], vec![at, at]],
        stds: Some(vec![std; 2]),
        ..MixtureConfig::default()
    })
    .unwrap()
}

/// Two narrow bumps on the diagonal of the plane lose what they lose on a line, though the covariance of
/// their step has no digit of their width.
#[test]
fn narrow_components_lose_what_they_lose_on_a_line() {
    let schedule = schedule(ScheduleKind::Cosine, 4);
    for std in [1e-3, 1e-9, 1e-11] {
        let plane = two_points(0.4, std);
        let far = 0.4 * 2.0_f64.sqrt();
        let line = on_a_line(&[1.0, 1.0], &[-far, far], &[std; 2]);
        check(&plane, &schedule).unwrap();
        for t in 1..=4 {
            let [plane, line] = [&plane, &line].map(|mixture| {
                let floors = step_floors(mixture, &schedule, t, 20_000, 1);
                floors.floor(Family::Full).unwrap()
            });
            let off = (plane.nats - line.nats).abs();
            assert!(
                off < 5.0 * plane.se.hypot(line.se),
                "std {std}, t = {t}: {plane:?}, on a line {line:?}"
            );
        }
    }
}

/// What f64 does not tell is refused, by step and component; and what is measured of it anyway, or drawn,
/// is wrong without a panic.
#[test]
fn extreme_mixtures_are_refused_and_never_panic() {
    let schedule = schedule(ScheduleKind::Cosine, 4);
    let say = |mixture: &GaussianMixture| check(mixture, &schedule).map_err(|e| e.to_string());
    let narrow = say(&two_points(0.4, 1e-14)).unwrap_err();
    assert!(
        narrow.contains("at t = 0 component 0") && narrow.contains("widen it"),
        "{narrow}"
    );
    let large = say(&two_points(1e200, 1.0)).unwrap_err();
    assert!(large.contains("rescale"), "{large}");
    let dust = say(&two_points(0.0, 1e-120)).unwrap_err();
    assert!(dust.contains("rescale"), "{dust}");
    assert!(say(&GaussianMixture::grid_7x7()).is_ok());

    for (at, std) in [
        (0.4, 1e-9),
        (0.4, 1e-14),
        (0.4, 1e-150),
        (1e20, 1.0),
        (1e200, 1.0),
        (1e300, 1e-150),
        (0.0, 1e150),
        (0.0, 1e-150),
    ] {
        let mixture = two_points(at, std);
        let error = measure(&mixture, &schedule, 200, 0, |_| {});
        assert_eq!(error.per_t.len(), 4);
        qualities(&mixture, &schedule, &error, 100, 0, |_| {});
    }
}

/// Samples are f32: they tell less.
#[test]
fn samples_tell_less_than_f64() {
    assert!(chain::check(&GaussianMixture::grid_7x7()).is_ok());
    let message = chain::check(&two_points(0.4, 1e-9))
        .unwrap_err()
        .to_string();
    assert!(message.contains("component 0 is 1.0e-9 wide"), "{message}");
}

/// Algorithm 2: without noise at the last step every family's samples of one step are the mean.
#[test]
fn the_last_step_of_a_gaussian_chain_is_its_mean() {
    let (grid, schedule) = (
        GaussianMixture::grid_7x7(),
        schedule(ScheduleKind::Cosine, 1),
    );
    let error = measure(&grid, &schedule, 100, 3, |_| {});
    let samples = |step| chain::samples(&grid, &schedule, &error, step, 100, 5);
    let means = samples(Step::Best(Family::Full));
    for family in Family::ALL {
        assert_eq!(samples(Step::Best(family)), means, "{family:?}");
    }
    assert_ne!(samples(Step::Exact), means);
}

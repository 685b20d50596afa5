use super::*;
use crate::config::{self, RunConfig};
use crate::data::Images;

fn tiny(settings: &[&str]) -> RunConfig {
    let mut all = vec![
        "schedule.steps=8",
        "net.dim=16",
        "net.blocks=1",
        "train.batch=16",
        "train.steps=40",
        "train.warmup_steps=2",
        "train.ema=[0.9, 0.99]",
    ];
    all.extend(settings);
    let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    config::set(config::preset("gmm-7x7").unwrap(), "preset", &all).unwrap()
}

fn trainer(settings: &[&str]) -> Trainer {
    let mut config = tiny(settings);
    let examples = config.resolve().unwrap();
    Trainer::new(config, examples, &Device::default()).unwrap()
}

fn run(trainer: &mut Trainer, steps: usize) -> Vec<StepReport> {
    (0..steps).map(|_| trainer.train_step().unwrap()).collect()
}

fn weights(trainer: &Trainer) -> Vec<Vec<f32>> {
    std::iter::once(&trainer.rows.weights)
        .chain(&trainer.rows.averages)
        .map(|row| host::numbers(row.clone()))
        .collect()
}

/// Every kernel with every objective that it can have.
const MODELS: [&[&str]; 13] = [
    &["kernel.kind=gaussian"],
    &["kernel.variance=per-step"],
    &["kernel.variance=learned-range"],
    &["kernel.variance=learned-diagonal"],
    &["kernel.variance=learned-diagonal", "objective.kind=exact"],
    &["kernel.kind=soft-mixture"],
    &["kernel.kind=soft-mixture", "objective.kind=energy"],
    &[
        "kernel.kind=soft-mixture",
        "kernel.late.dim=16",
        "objective.kind=energy",
    ],
    &[
        "kernel.kind=soft-mixture",
        "kernel.late.dim=16",
        "objective.kind=encoder",
    ],
    &[
        "kernel.kind=soft-mixture",
        "kernel.late.dim=16",
        "objective.kind=encoder",
        "objective.importance=true",
        "objective.etas=3",
    ],
    &[
        "kernel.kind=soft-mixture",
        "kernel.late.dim=16",
        "kernel.variance=learned",
        "objective.kind=multi-sample",
    ],
    &["kernel.kind=codebook", "kernel.late.dim=16"],
    &["kernel.kind=mixture"],
];

#[test]
fn the_loss_of_every_kernel_falls() {
    for kernel in MODELS {
        let mut settings = vec![
            "train.steps=150",
            "train.lr=5e-3",
            "objective.kl_warmup_steps=1",
        ];
        settings.extend(kernel);
        let mut trainer = trainer(&settings);
        let reports = run(&mut trainer, 150);
        let mean =
            |part: &[StepReport]| part.iter().map(|r| r.loss).sum::<f64>() / part.len() as f64;
        let (first, last) = (mean(&reports[..10]), mean(&reports[130..]));
        assert!(last < first - 0.03, "{kernel:?}: {first} to {last}");
    }
}

#[test]
fn a_resumed_run_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for kernel in MODELS {
        let mut whole = trainer(kernel);
        let straight = run(&mut whole, 12);

        let mut first = trainer(kernel);
        run(&mut first, 5);
        first.save(&path).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let examples = checkpoint.config().clone().resolve().unwrap();
        let mut second = Trainer::resume(&checkpoint, examples, &Device::default()).unwrap();
        assert_eq!(second.step(), 5);
        assert_eq!(run(&mut second, 7), straight[5..]);
        assert_eq!(weights(&second), weights(&whole));
    }
}

#[test]
fn a_resume_before_the_first_step_is_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    trainer(&[]).save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let examples = checkpoint.config().clone().resolve().unwrap();
    let mut resumed = Trainer::resume(&checkpoint, examples, &Device::default()).unwrap();
    assert_eq!(run(&mut resumed, 3), run(&mut trainer(&[]), 3));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut trainer = trainer(&["train.batch=256", "net.dim=64"]);
            run(&mut trainer, 4);
            weights(&trainer)
        })
    };
    assert_eq!(with(1), with(2));
}

#[test]
fn accumulated_passes_are_one_large_batch() {
    let mut once = trainer(&["train.batch=32"]);
    let mut twice = trainer(&["train.batch=16", "train.accumulate=2"]);
    let (once, twice) = (run(&mut once, 1)[0], run(&mut twice, 1)[0]);
    assert!((once.loss - twice.loss).abs() < 1e-5, "{once:?} {twice:?}");
    assert!(
        (once.grad_norm / twice.grad_norm - 1.0).abs() < 1e-3,
        "{once:?} {twice:?}"
    );
}

#[test]
fn a_loss_that_is_not_finite_stops_and_changes_nothing() {
    let mut trainer = trainer(&[]);
    run(&mut trainer, 2);
    trainer.rows.weights = trainer.rows.weights.clone() * f32::NAN;
    let before = trainer.step();
    let error = trainer.train_step().unwrap_err();
    assert!(error.to_string().contains("at step 3"), "{error}");
    assert_eq!(trainer.step(), before);
}

#[test]
fn several_etas_cost_one_loss() {
    let mut trainer = trainer(&["kernel.kind=soft-mixture", "objective.etas=3"]);
    assert!(run(&mut trainer, 2)[1].loss.is_finite());
}

#[test]
fn a_run_cannot_go_on_as_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    trainer(&[]).save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    for (setting, field) in [
        ("objective.prediction=eps", "objective.prediction"),
        ("schedule.steps=9", "schedule"),
        ("train.batch=8", "train.batch"),
        ("train.seed=3", "train.seed"),
        (
            "data.mixture={means = [[0.0, 1.0]], stds = [0.1]}",
            "data.mixture",
        ),
    ] {
        let mut config = tiny(&[setting]);
        let examples = config.resolve().unwrap();
        let refused = Trainer::resume_as(&checkpoint, config, examples, &Device::default());
        let error = refused.err().expect("refused");
        let message = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            message.starts_with(&format!("{field} cannot change")),
            "{message}"
        );
    }
}

#[test]
fn a_run_cannot_go_on_with_other_images() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let device = Device::default();
    let images = |bytes: &[u8]| {
        Examples::Images(Images {
            height: 1,
            width: 1,
            channels: 2,
            bytes: bytes.to_vec(),
            skipped: vec![],
        })
    };
    let mut trainer = Trainer::new(tiny(&[]), images(b"1234"), &device).unwrap();
    run(&mut trainer, 1);
    trainer.save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    Trainer::resume(&checkpoint, images(b"1234"), &device).unwrap();
    for (bytes, count) in [(&b"1235"[..], 2), (&b"123456"[..], 3)] {
        let refused = Trainer::resume(&checkpoint, images(bytes), &device);
        let message = refused.err().expect("refused").to_string();
        assert!(
            message.starts_with("the run was trained on 2 images (crc32c "),
            "{message}"
        );
        let found = format!("this data has {count} images (crc32c ");
        assert!(message.contains(&found), "{message}");
    }

    // A checkpoint from before this was written.
    let mut state = checkpoint.state(&trainer.infos, &[0.9, 0.99]).unwrap();
    state.data = None;
    Checkpoint::write(&path, trainer.config(), &trainer.infos, &state).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    Trainer::resume(&checkpoint, images(b"12"), &device).unwrap();
}

#[test]
fn a_run_cannot_end_before_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut first = trainer(&[]);
    run(&mut first, 5);
    first.save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let resume = |setting: &str| {
        let mut config = tiny(&[setting]);
        let examples = config.resolve().unwrap();
        Trainer::resume_as(&checkpoint, config, examples, &Device::default())
    };
    assert_eq!(resume("train.steps=5").unwrap().step(), 5);
    let error = resume("train.steps=4").err().expect("refused");
    let message = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        message.starts_with("train.steps is 4, but the checkpoint is at step 5; "),
        "{message}"
    );
}

/// From a real mixture back to the paper's objective: the same weights, another loss. Not to or from the
/// encoder's, which has weights of its own.
#[test]
fn a_run_goes_on_under_another_objective() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let energy = trainer(&[
        "kernel.kind=soft-mixture",
        "kernel.late.dim=16",
        "kernel.variance=exact",
        "objective.kind=energy",
    ]);
    energy.save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let resume = |kind: &str| {
        let setting = format!("objective.kind={kind}");
        let config = config::set(&checkpoint.config().to_toml(), "run", &[setting]).unwrap();
        let examples = config.clone().resolve().unwrap();
        Trainer::resume_as(&checkpoint, config, examples, &Device::default())
    };
    let mut paper = resume("paper").unwrap();
    assert!(run(&mut paper, 2).iter().all(|report| report.loss > 0.0));
    let refused = resume("encoder").map(drop).unwrap_err();
    let message = format!("{}", std::error::Error::source(&refused).unwrap());
    assert!(
        message.starts_with("objective.kind cannot change"),
        "{message}"
    );
}

/// A kernel that draws is gauged, and the gauge travels with the checkpoint.
#[test]
fn the_latents_influence_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut mixture = trainer(&["kernel.kind=mixture"]);
    run(&mut mixture, 2);
    let gauged = mixture.influence().to_vec();
    assert_eq!(
        gauged.iter().map(|(t, _)| *t).collect::<Vec<_>>(),
        [1, 2, 4, 8]
    );
    assert!(gauged.iter().all(|(_, r)| *r > 0.0));
    mixture.save(&path).unwrap();
    assert_eq!(Checkpoint::open(&path).unwrap().influence(), gauged);
    assert!(trainer(&[]).influence().is_empty());
}

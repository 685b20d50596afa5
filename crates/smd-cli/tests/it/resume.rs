//! A run that is stopped in any way goes on as if it had not been.

use crate::{TINY, assert_says, metrics, pictures, refusal, smd, tiny_run};
use smd::checkpoint::Checkpoint;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Bytes of the newest checkpoint's tensors, and the metrics without what depends on the clock.
fn outcome(run: &Path) -> (u64, Vec<u8>, Vec<serde_json::Value>) {
    let checkpoint = Checkpoint::open(run).unwrap();
    let bytes = fs::read(checkpoint.path()).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut metrics = metrics(run);
    for line in &mut metrics {
        line.as_object_mut().unwrap().remove("examples_per_s");
    }
    (checkpoint.step(), bytes[8 + header..].to_vec(), metrics)
}

/// Trains `settings` once without a break into `straight`, and once into `killed` with `kill -9` at
/// twenty instants spread over the run, each followed by a resume: both must end the same.
#[track_caller]
fn assert_survives_kills(folder: &Path, settings: &[&str]) {
    smd(folder)
        .arg("train")
        .args(settings)
        .args(["--out", "straight"])
        .assert()
        .success();
    let killed = folder.join("killed");
    let step = || Checkpoint::open(&killed).map_or(0, |checkpoint| checkpoint.step());
    let mut resumed_from = Vec::new();
    for attempt in 0..20_u64 {
        let before = step();
        resumed_from.push(before);
        let mut child = start_or_resume(folder, settings, &killed);
        // From the third on, after a new checkpoint: at once, or into the steps or the next write.
        while attempt >= 2 && step() == before {
            assert!(child.try_wait().unwrap().is_none(), "the run is too short");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(5 * (attempt % 11)));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "the run is too short");
    }
    resumed_from.dedup();
    assert!(resumed_from.len() > 10, "resumed from {resumed_from:?}");
    let mut last = start_or_resume(folder, settings, &killed);
    assert!(last.wait().unwrap().success());
    let files = fs::read_dir(killed.join("checkpoints")).unwrap();
    for file in files {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with("step-"), "{name} was left behind");
    }
    assert_eq!(outcome(&killed), outcome(&folder.join("straight")));
    let samples = ["straight", "killed"].map(|run| {
        let out = format!("{run}-samples");
        smd(folder)
            .args(["sample", run, "--seeds", "0-3", "--steps", "4", "--npz"])
            .args(["--out", &out])
            .assert()
            .success();
        fs::read(folder.join(out).join("samples.npz")).unwrap()
    });
    assert!(samples[0] == samples[1], "the samples differ");
}

fn start_or_resume(folder: &Path, settings: &[&str], run: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smd"));
    command
        .current_dir(folder)
        .arg("train")
        .stderr(Stdio::null());
    if run.join("config.toml").exists() {
        command.arg("--resume").arg(run);
    } else {
        command.args(settings).arg("--out").arg(run);
    }
    command.spawn().unwrap()
}

#[test]
fn killed_twenty_times_it_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = TINY.to_vec();
    settings.extend(["--set", "train.steps=5000"]);
    settings.extend(["--set", "train.checkpoint_every=37"]);
    assert_survives_kills(folder.path(), &settings);
}

/// The same with a U-Net, soft mixture denoising, dropout and mirrored images.
#[test]
fn a_unet_killed_twenty_times_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let settings = "--preset ddpm-cifar10 --smd --data images --set net.dim=16 --set net.groups=4 \
         --set net.multipliers=[1,2] --set net.blocks=1 --set net.attention=[4] \
         --set schedule.steps=20 --set schedule.kind=cosine --set train.batch=4 \
         --set train.steps=400 --set train.checkpoint_every=7 --set train.sample_every=0 \
         --set train.warmup_steps=0 --set train.ema=[0.9]";
    let settings: Vec<&str> = settings.split_whitespace().collect();
    assert_survives_kills(folder.path(), &settings);
}

#[test]
fn one_thread_and_two_give_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    for threads in ["1", "2"] {
        smd(folder.path())
            .env("RAYON_NUM_THREADS", threads)
            .arg("train")
            .args(TINY)
            .args(["--out", threads])
            .assert()
            .success();
    }
    assert_eq!(
        outcome(&folder.path().join("1")),
        outcome(&folder.path().join("2"))
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_saves_and_exits() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_smd"))
        .current_dir(folder.path())
        .arg("train")
        .args(TINY)
        .args([
            "--set",
            "train.steps=1000000",
            "--set",
            "train.checkpoint_every=100000000",
        ])
        .args(["--out", "run"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("go on with `smd train --resume run`"),
        "{text}"
    );
    assert!(Checkpoint::open(&folder.path().join("run")).unwrap().step() > 0);
}

/// What a finished run was trained with stays written as it was.
#[test]
fn a_finished_run_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = tiny_run(folder.path());
    let config = fs::read(run.join("config.toml")).unwrap();
    let files = fs::read_dir(&run).unwrap().count();
    let resume = ["train", "--resume", "run", "--set", "train.lr=1e-5"];
    smd(folder.path()).args(resume).assert().success();
    assert!(fs::read(run.join("config.toml")).unwrap() == config);
    assert_eq!(fs::read_dir(&run).unwrap().count(), files);
}

#[test]
fn a_finished_run_can_be_given_more_steps() {
    let folder = tempfile::tempdir().unwrap();
    let run = tiny_run(folder.path());
    smd(folder.path())
        .args(["train", "--resume", "run", "--set", "train.steps=50"])
        .assert()
        .success();
    assert_eq!(Checkpoint::open(&run).unwrap().step(), 50);
    assert!(run.join("metrics.jsonl").exists());
    let events = fs::read_dir(&run).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("events.out.tfevents")
    });
    assert_eq!(events.count(), 2, "one file of events for each start");
}

#[test]
fn a_run_goes_on_with_its_own_images_only() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let settings = "train --preset ddpm-cifar10 --data images --out run --set net.dim=8 \
         --set net.groups=4 --set net.multipliers=[1,2] --set net.attention=[] --set net.blocks=1 \
         --set train.batch=4 --set train.steps=2";
    smd(folder.path())
        .args(settings.split_whitespace())
        .assert()
        .success();
    let mut again = smd(folder.path());
    again.args(["train", "--resume", "run", "--set", "train.steps=3"]);
    let moved = folder.path().join("images/9.png");
    fs::rename(&moved, folder.path().join("9.png")).unwrap();
    let message = refusal(&mut again);
    assert_says(&message, &["was trained on 10 images (", "has 9 images ("]);
    fs::rename(folder.path().join("9.png"), &moved).unwrap();
    again.assert().success();
}

/// `smd train 2>&1 | head -1`: the reader of the log goes, the training stays.
#[test]
fn a_training_outlives_the_reader_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_smd"))
        .current_dir(folder.path())
        .arg("train")
        .args(TINY)
        .args(["--out", "run"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(
        Checkpoint::open(&folder.path().join("run")).unwrap().step(),
        40
    );
}

/// `smd info RUN | head -1`.
#[test]
fn a_reader_that_stops_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    tiny_run(folder.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_smd"))
        .current_dir(folder.path())
        .args(["info", "run", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

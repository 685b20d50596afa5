//! A run that is stopped in any way goes on as if it had not been.

use crate::{TINY, assert_says, pictures, refusal, smd, tiny_run};
use smd::checkpoint::Checkpoint;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Bytes of the newest checkpoint's tensors, and the metrics without what depends on the clock.
fn outcome(run: &Path) -> (u64, Vec<u8>, Vec<serde_json::Value>) {
    let checkpoint = Checkpoint::open(run).unwrap();
    let bytes = fs::read(checkpoint.path()).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut metrics = Vec::new();
    for line in fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
    {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("examples_per_s");
        metrics.push(line);
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
    let mut kills = 0;
    for attempt in 0..60_u64 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smd"));
        command
            .current_dir(folder)
            .arg("train")
            .stderr(Stdio::null());
        if killed.join("config.toml").exists() {
            command.args(["--resume", "killed"]);
        } else {
            command.args(settings).args(["--out", "killed"]);
        }
        let mut child = command.spawn().unwrap();
        if kills < 20 {
            // Instants that fall before, into and after a write.
            std::thread::sleep(Duration::from_millis(30 + 13 * (attempt % 11)));
            child.kill().unwrap();
        }
        let ended = child.wait().unwrap();
        if ended.success() {
            break;
        }
        kills += 1;
    }
    assert_eq!(kills, 20, "the run is too short to be killed twenty times");
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

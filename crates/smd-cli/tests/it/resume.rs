//! A run that is stopped in any way goes on as if it had not been.

use crate::{TINY, smd, tiny_run};
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

/// `kill -9` at twenty instants spread over a run, each followed by a resume.
#[test]
fn killed_twenty_times_it_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let straight = folder.path().join("straight");
    let settings = [
        "--set",
        "train.steps=5000",
        "--set",
        "train.checkpoint_every=37",
    ];
    smd(folder.path())
        .arg("train")
        .args(TINY)
        .args(settings)
        .args(["--out", "straight"])
        .assert()
        .success();

    let killed = folder.path().join("killed");
    let mut kills = 0;
    for attempt in 0..60_u64 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smd"));
        command
            .current_dir(folder.path())
            .arg("train")
            .stderr(Stdio::null());
        if killed.join("config.toml").exists() {
            command.args(["--resume", "killed"]);
        } else {
            command.args(TINY).args(settings).args(["--out", "killed"]);
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
    assert_eq!(outcome(&killed), outcome(&straight));
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

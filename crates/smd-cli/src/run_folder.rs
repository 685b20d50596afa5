//! The folder of one run.
//!
//! ```text
//! RUN/config.toml                the resolved config
//! RUN/metrics.jsonl
//! RUN/events.out.tfevents.*
//! RUN/samples/                   grids on the way
//! RUN/checkpoints/               step-*.safetensors
//! RUN/.lock                      held while a process trains in it
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use smd::{checkpoint, files};

use crate::output::write_beside;

/// A run's folder that belongs to this process until the value is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The system frees it when the process ends, however that comes about.
    _lock: File,
}

impl RunFolder {
    /// Begins a run in `path` and writes its resolved config.
    ///
    /// # Errors
    /// A folder that holds a run or anything else, is in use or cannot be written.
    pub fn create(path: &Path, config: &str) -> Result<Self> {
        let make = |path: &Path| {
            fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
        };
        make(path)?;
        if let Some(name) = stranger(path)? {
            bail!(
                "{} holds other files ({name}); choose an empty or a new folder for --out",
                path.display()
            );
        }
        let run = Self {
            path: path.into(),
            _lock: lock(path)?,
        };
        ensure!(
            !run.config().exists() && checkpoint::list(path).map_or(true, |files| files.is_empty()),
            "{0} holds a run already; continue it with `smd train --resume {0}` or choose another \
             --out",
            path.display()
        );
        make(&run.checkpoints())?;
        make(&run.samples())?;
        // Last: a folder with a config is a run, and can be resumed from here on.
        write_beside(&run.config(), |file| Ok(file.write_all(config.as_bytes())?))?;
        Ok(run)
    }

    /// Begins a run in `RUNS/STEM-N` with the first `N` that is free.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn create_numbered(runs: &Path, stem: &str, config: &str) -> Result<Self> {
        let create = || -> std::io::Result<PathBuf> {
            fs::create_dir_all(runs)?;
            for number in 1_u64.. {
                // The system lets one of several processes have a name.
                let path = runs.join(format!("{stem}-{number}"));
                match fs::create_dir(&path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    created => return created.map(|()| path),
                }
            }
            unreachable!("so many runs fit on no disk")
        };
        let path =
            create().with_context(|| format!("cannot create a run in {}", runs.display()))?;
        Self::create(&path, config)
    }

    /// Takes over the folder of a run that ended, and clears away what it left half written.
    ///
    /// # Errors
    /// A folder that holds no run, is in use or cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        ensure!(
            path.join("config.toml").is_file(),
            "{} is not the folder of a run: it has no config.toml",
            path.display()
        );
        let run = Self {
            path: path.into(),
            _lock: lock(path)?,
        };
        for folder in [path.to_owned(), run.samples(), run.checkpoints()] {
            clear(&folder)?;
        }
        fs::create_dir_all(run.samples())
            .with_context(|| format!("cannot create {}", run.samples().display()))?;
        Ok(run)
    }

    /// The folder itself; event files lie in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved config.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The lines of metrics.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The folder of grids.
    pub fn samples(&self) -> PathBuf {
        self.path.join("samples")
    }

    /// The checkpoint at `step`.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.checkpoints().join(checkpoint::file_name(step))
    }

    /// Removes all checkpoints but the newest `keep`; the newest one always stays.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn prune(&self, keep: usize) -> Result<()> {
        let mut files = checkpoint::list(&self.path)?;
        files.truncate(files.len().saturating_sub(keep.max(1)));
        for path in files {
            remove(&path)?;
        }
        Ok(())
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }
}

/// Name of a file in `folder` that no run puts there; none where the folder is a run.
fn stranger(folder: &Path) -> Result<Option<String>> {
    if folder.join("config.toml").exists() {
        return Ok(None);
    }
    let read = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(read)? {
        let name = entry.with_context(read)?.file_name();
        let name = name.to_string_lossy();
        let ours = [".lock", "checkpoints", "samples"].contains(&&*name)
            || name.starts_with(files::SCRATCH);
        if !ours {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}

/// Takes the lock of the folder and leaves the number of this process in it.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Some systems let nobody read a locked file.
            let read = file.read_to_string(&mut pid).is_ok() && !pid.is_empty();
            let pid = if read {
                format!(" (pid {})", pid.trim())
            } else {
                String::new()
            };
            bail!("{} is in use by another smd{pid}", folder.display());
        }
        Err(TryLockError::Error(error)) => {
            let message = format!("cannot lock {}: use a disk with file locks", path.display());
            return Err(error).context(message);
        }
    }
    let mut note = || {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    note().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// Removes the files of `folder` that a killed process left half written.
fn clear(folder: &Path) -> Result<()> {
    let read = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(read)?,
    };
    for entry in entries {
        let entry = entry.with_context(read)?;
        let scratch = entry
            .file_name()
            .to_string_lossy()
            .starts_with(files::SCRATCH);
        if scratch && entry.file_type().with_context(read)?.is_file() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn begins_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/a");
        let run = RunFolder::create(&path, "[train]\n").unwrap();
        assert_eq!(fs::read_to_string(run.config()).unwrap(), "[train]\n");
        assert!(run.samples().is_dir());
        assert_eq!(
            run.checkpoint(7),
            path.join("checkpoints/step-000000007.safetensors")
        );
        assert!(run.checkpoint(7).parent().unwrap().is_dir());
        assert_eq!(run.metrics(), run.path().join("metrics.jsonl"));
    }

    #[test]
    fn refuses_a_folder_that_holds_a_run() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunFolder::create(folder.path(), "").unwrap());
        fs::write(
            folder.path().join("checkpoints/step-000000001.safetensors"),
            "",
        )
        .unwrap();
        for left in ["config.toml", "checkpoints"] {
            let message = message(RunFolder::create(folder.path(), ""));
            assert!(message.contains("holds a run already; continue it with `smd train --resume"));
            assert!(
                message.ends_with("or choose another --out"),
                "{left}: {message}"
            );
            fs::remove_file(folder.path().join("config.toml")).ok();
        }
        fs::remove_dir_all(folder.path().join("checkpoints")).unwrap();
        RunFolder::create(folder.path(), "").unwrap();
    }

    #[test]
    fn refuses_a_folder_of_something_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let message = message(RunFolder::create(folder.path(), ""));
        assert!(
            message.contains("holds other files (thesis.tex)"),
            "{message}"
        );
        assert!(!folder.path().join("checkpoints").exists());
    }

    #[test]
    fn lets_one_process_in() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(folder.path(), "").unwrap();
        let expected = format!("is in use by another smd (pid {})", std::process::id());
        for second in [
            RunFolder::open(folder.path()),
            RunFolder::create(folder.path(), ""),
        ] {
            let message = message(second);
            assert!(message.ends_with(&expected), "{message}");
        }
        drop(run);
        RunFolder::open(folder.path()).unwrap();
    }

    #[test]
    fn clears_what_a_killed_run_left() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunFolder::create(folder.path(), "").unwrap());
        let name = format!("{}abc", files::SCRATCH);
        let places = ["", "samples", "checkpoints"].map(|place| folder.path().join(place));
        for place in &places {
            fs::write(place.join(&name), "half").unwrap();
            fs::write(place.join("kept"), "whole").unwrap();
        }
        RunFolder::open(folder.path()).unwrap();
        for place in &places {
            assert!(!place.join(&name).exists() && place.join("kept").exists());
        }
    }

    #[test]
    fn opens_nothing_but_a_run() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("none")] {
            let message = message(RunFolder::open(&path));
            assert!(message.contains("is not the folder of a run"), "{message}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn keeps_the_newest_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(folder.path(), "").unwrap();
        let left = || {
            (1..=30)
                .filter(|step| run.checkpoint(*step).exists())
                .collect::<Vec<u64>>()
        };
        for step in [9, 10, 1, 30, 2] {
            fs::write(run.checkpoint(step), "").unwrap();
        }
        run.prune(9).unwrap();
        assert_eq!(left(), [1, 2, 9, 10, 30]);
        run.prune(2).unwrap();
        assert_eq!(left(), [10, 30]);
        run.prune(0).unwrap();
        assert_eq!(left(), [30]);
    }

    #[test]
    fn numbers_runs_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        for expected in ["gmm-1", "gmm-2", "gmm-4"] {
            let run = RunFolder::create_numbered(&runs, "gmm", "").unwrap();
            assert_eq!(run.path(), runs.join(expected));
            fs::create_dir_all(runs.join("gmm-3")).unwrap();
        }
    }
}

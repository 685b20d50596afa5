//! `metrics.jsonl`: one JSON object a line, the first field the step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::output::write_beside;

#[derive(Serialize)]
struct Line<'a> {
    step: u64,
    #[serde(flatten)]
    values: &'a Map<String, Value>,
}

/// What is read of a line when a run is resumed.
#[derive(Deserialize)]
struct Stamp {
    step: u64,
}

/// The open file; every line is handed to the system as a whole.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Begins a new file.
    ///
    /// # Errors
    /// A file that is there already, or a folder that cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(path);
        Ok(Self {
            file: file.with_context(|| format!("cannot create {}", path.display()))?,
            path: path.into(),
        })
    }

    /// Goes on after `step`: later lines, and one that a killed run left torn, are dropped.
    ///
    /// # Errors
    /// A file that cannot be read or written; a missing one is begun anew.
    pub fn resume(path: &Path, step: u64) -> Result<Self> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::create(path),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let kept = |line: &&[u8]| {
            let stamp = serde_json::from_slice::<Stamp>(line);
            line.ends_with(b"\n") && stamp.is_ok_and(|stamp| stamp.step <= step)
        };
        write_beside(path, |file| {
            let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(kept);
            Ok(lines.try_for_each(|line| file.write_all(line))?)
        })?;
        let file = OpenOptions::new().append(true).open(path);
        Ok(Self {
            file: file.with_context(|| format!("cannot open {}", path.display()))?,
            path: path.into(),
        })
    }

    /// Adds a line; a number that is not finite becomes `null`.
    ///
    /// # Errors
    /// A disk that is full or gone.
    pub fn write(&mut self, step: u64, values: &Map<String, Value>) -> Result<()> {
        let append = || -> io::Result<()> {
            let mut line = serde_json::to_vec(&Line { step, values })?;
            line.push(b'\n');
            (&self.file).write_all(&line)
        };
        append().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(loss: f64) -> Map<String, Value> {
        Map::from_iter([("loss".into(), json!(loss)), ("lr".into(), json!(2e-4))])
    }

    #[test]
    fn writes_an_object_a_line_with_the_step_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::create(&path).unwrap();
        metrics.write(10, &values(0.5)).unwrap();
        metrics.write(20, &values(f64::NAN)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":10,\"loss\":0.5,\"lr\":0.0002}\n{\"step\":20,\"loss\":null,\"lr\":0.0002}\n"
        );
        let message = format!("{:#}", Metrics::create(&path).unwrap_err());
        assert!(message.contains("metrics.jsonl"), "{message}");
    }

    #[test]
    fn a_resumed_run_leaves_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::resume(&path, 0).unwrap();
        for step in 1..=5 {
            metrics.write(step, &values(0.1 * step as f64)).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        for torn in ["", "{\"st", "{\"step\":3}", "\0\0\0\n"] {
            metrics.file.write_all(torn.as_bytes()).unwrap();
            metrics = Metrics::resume(&path, 3).unwrap();
            for step in 4..=5 {
                metrics.write(step, &values(0.1 * step as f64)).unwrap();
            }
            assert_eq!(fs::read(&path).unwrap(), whole, "after {torn:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

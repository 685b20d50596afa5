//! The folder that samples go to.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use smd::files;

use super::file::cannot_write;

/// Makes sure that `path` is a folder that can be written, and empty unless `overwrite` is set.
///
/// Nothing is removed; that is for [`remove_older_samples`], when the new ones are there.
///
/// # Errors
/// A folder that holds something, cannot be created or cannot be written, or a file of that name.
pub fn create_out_dir(path: &Path, overwrite: bool) -> Result<()> {
    if path.exists() && !path.is_dir() {
        bail!(
            "{} is a file, expected a folder: use another name",
            path.display()
        );
    }
    fs::create_dir_all(path).map_err(|error| cannot_write(path, error.into()))?;
    let mut entries =
        fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !overwrite && entries.next().is_some() {
        bail!(
            "{} is not empty; use another folder, or --overwrite to replace the samples in it",
            path.display()
        );
    }
    files::check_writable(path).map_err(|error| cannot_write(&path.join("*"), error.into()))
}

/// Removes what earlier calls of `smd sample` wrote to `folder` and this one did not write again, and
/// nothing else.
///
/// # Errors
/// A folder that cannot be read or written.
pub fn remove_older_samples(folder: &Path, written: &HashSet<String>) -> Result<()> {
    let read = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(read)? {
        let entry = entry.with_context(read)?;
        let is_file = entry.file_type().with_context(read)?.is_file();
        let is_older = |name: &str| is_sample(name) && !written.contains(name);
        if is_file && entry.file_name().to_str().is_some_and(is_older) {
            let path = entry.path();
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether `smd sample` writes a file of this name: NNNNNN.png of a seed, grid.png or samples.npz.
fn is_sample(name: &str) -> bool {
    let is_seed = |stem: &str| {
        let seed = stem.parse::<u64>();
        seed.is_ok_and(|seed| format!("{seed:06}") == stem)
    };
    name.strip_suffix(".png").is_some_and(is_seed) || ["grid.png", "samples.npz"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_the_folder_with_its_parents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        for _ in 0..2 {
            create_out_dir(&path, false).unwrap();
            assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        }
    }

    #[test]
    fn refuses_a_folder_that_holds_something() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "a").unwrap();
        let message = create_out_dir(folder.path(), false)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("is not empty; use another folder, or --overwrite"),
            "{message}"
        );
        create_out_dir(folder.path(), true).unwrap();
        assert!(folder.path().join("a.txt").exists());
    }

    #[test]
    fn removes_samples_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let samples = ["000000.png", "1234567.png", "grid.png", "samples.npz"];
        let others = ["0.png", "0000012.png", "cat.png", "000000.jpg", "mine.npz"];
        for name in samples.iter().chain(&others) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("000001.png")).unwrap();
        fs::write(folder.path().join("000003.png"), "").unwrap();
        let written = HashSet::from(["000003.png".to_owned()]);
        remove_older_samples(folder.path(), &written).unwrap();
        assert!(!samples.iter().any(|name| folder.path().join(name).exists()));
        assert!(folder.path().join("000003.png").exists());
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
        assert!(folder.path().join("000001.png").is_dir());
    }

    #[test]
    fn refuses_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "a").unwrap();
        let message = create_out_dir(&path, true).unwrap_err().to_string();
        assert!(
            message.contains("a.txt is a file, expected a folder"),
            "{message}"
        );
        let message = create_out_dir(&path.join("b"), true)
            .unwrap_err()
            .to_string();
        assert!(message.contains("cannot write"), "{message}");
    }
}

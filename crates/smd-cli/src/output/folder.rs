//! The folder that samples go to.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::file::{cannot_write, scratch_in};

/// Makes sure that `path` is a folder that can be written, and empty unless `overwrite` is set.
///
/// Nothing is deleted: with `overwrite`, files of the same names are replaced one by one.
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
            "{} is not empty; use another folder or --overwrite",
            path.display()
        );
    }
    scratch_in(path).map_err(|error| cannot_write(&path.join("*"), error.into()))?;
    Ok(())
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
            message.contains("is not empty; use another folder or --overwrite"),
            "{message}"
        );
        create_out_dir(folder.path(), true).unwrap();
        assert!(folder.path().join("a.txt").exists());
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

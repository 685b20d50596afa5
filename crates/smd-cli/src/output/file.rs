//! One file, whole or not at all, and what to do where it cannot be written.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Result;
use smd::files;

/// Lets `fill` write a new file beside `path`, brings it to the disk and renames it over `path`.
///
/// # Errors
/// What `fill` or the system said, with the way out where there is one; `path` is then as it was.
pub fn write_beside(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
) -> Result<()> {
    let write = |scratch: &Path| -> Result<()> {
        let file = File::options().write(true).open(scratch)?;
        let mut writer = BufWriter::new(&file);
        fill(&mut writer)?;
        Ok(writer.flush()?)
    };
    files::replace(path, write).map_err(|error| cannot_write(path, error))
}

/// Makes sure that a file can be written beside `path`, before the work that is to fill it.
///
/// # Errors
/// A folder that is missing or cannot be written.
pub fn check_beside(path: &Path) -> Result<()> {
    if files::is_special(path) {
        return Ok(());
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    files::check_writable(folder.unwrap_or(Path::new(".")))
        .map_err(|error| cannot_write(path, error.into()))
}

/// `error` with the path in front and, where one is known, the way out.
pub(super) fn cannot_write(path: &Path, error: anyhow::Error) -> anyhow::Error {
    let advice = error.chain().find_map(advice).unwrap_or_default();
    error.context(format!("cannot write {}{advice}", path.display()))
}

fn advice(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    match cause.downcast_ref::<io::Error>()?.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some(": the disk is full, free space there or use another folder")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Some(": its folder may not be written, use another one")
        }
        ErrorKind::NotFound => Some(": its folder does not exist, create it first"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn keeps_the_old_file_on_a_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        let full = |file: &mut BufWriter<&File>| {
            file.write_all(b"half")?;
            Err(io::Error::from(ErrorKind::StorageFull).into())
        };
        let message = format!("{:#}", write_beside(&path, full).unwrap_err());
        assert!(message.contains("a.txt: the disk is full"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_a_missing_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("a.txt");
        for error in [write_beside(&path, |_| Ok(())), check_beside(&path)] {
            let message = format!("{:#}", error.unwrap_err());
            assert!(
                message.contains("a.txt: its folder does not exist"),
                "{message}"
            );
        }
        check_beside(&folder.path().join("a.txt")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn names_a_folder_that_may_not_be_written() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
        // The superuser may write everywhere.
        let Err(error) = write_beside(&path, |_| Ok(())) else {
            return;
        };
        let message = format!("{error:#}");
        assert!(
            message.contains("a.txt: its folder may not be written"),
            "{message}"
        );
    }
}

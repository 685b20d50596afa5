//! One file, whole or not at all.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Result;
use smd::checkpoint::SCRATCH;
use tempfile::NamedTempFile;

/// Lets `fill` write a new file beside `path`, brings it to the disk and renames it over `path`.
///
/// # Errors
/// What `fill` or the system said, with the way out where there is one; `path` is then as it was.
pub fn write_beside(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
) -> Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let write = || -> Result<()> {
        let scratch = scratch_in(folder.unwrap_or(Path::new(".")))?;
        let mut writer = BufWriter::new(scratch.as_file());
        fill(&mut writer)?;
        writer.flush()?;
        drop(writer);
        // On disk before the name points to it: a power cut leaves the old file or the new one.
        scratch.as_file().sync_all()?;
        scratch.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| cannot_write(path, error))
}

/// A new file in `folder` that goes away when it is dropped; a killed run leaves it behind.
///
/// # Errors
/// A folder that is missing or cannot be written.
pub(super) fn scratch_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(SCRATCH);
    // As any other file of the user, not readable by the owner alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
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
    fn replaces_the_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for text in ["old", "new"] {
            write_beside(&path, |file| Ok(file.write_all(text.as_bytes())?)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

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
        let message = format!("{:#}", write_beside(&path, |_| Ok(())).unwrap_err());
        assert!(
            message.contains("a.txt: its folder does not exist"),
            "{message}"
        );
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

    #[cfg(unix)]
    #[test]
    fn may_be_read_by_others_as_the_umask_says() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, plain] = ["ours", "plain"].map(|name| folder.path().join(name));
        write_beside(&ours, |_| Ok(())).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }
}

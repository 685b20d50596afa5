//! A file, whole or not at all: written beside its target and renamed over it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use tempfile::NamedTempFile;

/// How the names of files begin that a killed process leaves behind.
pub const SCRATCH: &str = ".unfinished-";

/// Lets `fill` write a new file beside `path`, brings it to the disk and renames it over `path`.
/// A pipe or a device, as `/dev/null`, stays what it is: the new file is made elsewhere and
/// copied into it.
///
/// # Errors
/// What `fill` or the system said; `path` is then as it was.
pub fn replace<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    if is_special(path) {
        let scratch = scratch_in(&std::env::temp_dir())?.into_temp_path();
        fill(&scratch)?;
        let mut special = File::options().write(true).open(path)?;
        io::copy(&mut File::open(&scratch)?, &mut special)?;
        return Ok(());
    }
    let scratch = scratch_in(folder_of(path))?.into_temp_path();
    fill(&scratch)?;
    // On disk before the name points to it: a power cut leaves the old file or the new one.
    File::options().write(true).open(&scratch)?.sync_all()?;
    scratch.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Whether `path` is there and is neither a file nor a folder.
pub fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Brings the names in the folder of `path` to the disk: a power cut may undo a rename before.
///
/// # Errors
/// What the system said. A system that cannot do it, as Windows, does nothing.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    use ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder_of(path)).and_then(|folder| folder.sync_all()) {
        // Some network disks know no such thing; some folders may be written but not read.
        Err(error) if matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {
            Ok(())
        }
        done => done,
    }
}

/// Makes and removes a file in `folder`.
///
/// # Errors
/// A folder that is missing or cannot be written.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    scratch_in(folder).map(drop)
}

/// A new file in `folder` that goes away when it is dropped.
fn scratch_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(SCRATCH);
    // As any other file of the user, not readable by the owner alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
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
            replace(&path, |scratch| fs::write(scratch, text)).unwrap();
            sync_folder_of(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn keeps_the_old_file_when_the_new_one_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        let half = |scratch: &Path| -> io::Result<()> {
            fs::write(scratch, "half")?;
            Err(io::Error::from(ErrorKind::StorageFull))
        };
        let error = replace(&path, half).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        check_writable(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = check_writable(&folder.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_stays_a_device() {
        // Reached by a link: a failure of this test then costs the link, not the device.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        replace(&path, |scratch| fs::write(scratch, "text")).unwrap();
        assert!(is_special(&path));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn may_be_read_by_others_as_the_umask_says() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, plain] = ["ours", "plain"].map(|name| folder.path().join(name));
        replace(&ours, |scratch| fs::write(scratch, "")).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }
}

//! Files without a name, for what is put aside: nothing is left of them, however the process ends.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::super::Error;
use super::super::local::place_failure;
use super::partial;

/// Makes a file of mode 0600 in `folder` that has no name there, to be written and read.
///
/// # Errors
/// [`Error::ReadOnly`], [`Error::Denied`], [`Error::NoRoom`] or [`Error::Place`] of the folder.
pub(super) fn unnamed(folder: &Path) -> Result<File, Error> {
    let failed = |errno: Errno| place_failure(folder, errno);
    #[cfg(target_os = "linux")]
    {
        // With EXCL nobody can give it a name later.
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
            // Not known to every file system, and an old system takes it for an attempt to write a folder.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => (),
            made => return made.map(File::from).map_err(failed),
        }
    }
    made_and_unlinked(folder).map_err(failed)
}

/// The same where files can't be made without a name: it loses its name at once.
fn made_and_unlinked(folder: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let name = partial::name_for("spool".as_ref());
        match rustix::fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => (),
            made => {
                let file = made?;
                rustix::fs::unlinkat(&folder, &name, AtFlags::empty())?;
                return Ok(File::from(file));
            }
        }
    }
}

/// What an error of the system means for a place.
pub(super) fn failure(place: &Path, error: &io::Error) -> Error {
    match Errno::from_io_error(error) {
        Some(errno) => place_failure(place, errno),
        None => Error::Place { place: place.display().to_string(), source: io::Error::from(error.kind()) },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_put_aside_has_no_name_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        for file in [unnamed(folder.path()).unwrap(), made_and_unlinked(folder.path()).unwrap()] {
            file.write_all_at(b"x", 5).unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        assert!(matches!(unnamed(&folder.path().join("none")), Err(Error::Place { .. })));
    }
}

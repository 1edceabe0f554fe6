//! One writer at a time for a file: a lock on what is there, and a look whether it still is.

use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::Error;
use super::file;

/// What a file was when it was looked at: the same values later mean that nobody wrote to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last write, and of the last change of any kind.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of an open file.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|meta| Self::new(&meta))
    }

    /// Of what a name leads to.
    ///
    /// # Errors
    /// What the system says; of kind `NotFound` if there is nothing.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        path.metadata().map(|meta| Self::new(&meta))
    }

    fn new(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether both are of one file, whatever was done to it between.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// An exclusive lock on a file, whatever that is called by now; it ends when this is dropped.
///
/// It binds those alone who ask for it: nobody is kept from reading.
pub(super) struct Hold(#[expect(dead_code, reason = "the lock lasts as long as it is open")] File);

impl Hold {
    /// Locks what is at `path`; nothing if no plain file is there that can be read.
    ///
    /// Where files can't be locked it counts as locked: then looking at it again has to do.
    ///
    /// # Errors
    /// [`Error::Busy`] if another writer has the lock, or put another file there meanwhile.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, Error> {
        let Ok(Some((file, _))) = file::open(path) else { return Ok(None) };
        let busy = || Error::Busy { place: path.display().to_string() };
        if !lock(&file) {
            return Err(busy());
        }
        // Who held the lock before may have given the name to another file.
        match (Stamp::of(&file), Stamp::at(path)) {
            (Ok(locked), Ok(there)) if locked.is_same_file(&there) => Ok(Some(Self(file))),
            _ => Err(busy()),
        }
    }
}

/// Locks a file, or finds that files can't be locked where it lies; not if another writer has it.
pub(super) fn lock(file: &File) -> bool {
    !matches!(super::super::lock::take(file), Ok(false))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_has_one_holder_and_keeps_it_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("x"), folder.path().join("y"));
        assert!(Hold::take(&path).unwrap().is_none());
        fs::write(&path, "x").unwrap();
        let hold = Hold::take(&path).unwrap();
        assert!(hold.is_some());
        assert!(matches!(Hold::take(&path), Err(Error::Busy { .. })));
        fs::rename(&path, &moved).unwrap();
        assert!(matches!(Hold::take(&moved), Err(Error::Busy { .. })));
        drop(hold);
        assert!(Hold::take(&moved).unwrap().is_some());
    }

    #[test]
    fn a_stamp_tells_a_write_and_another_file_of_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("x"), folder.path().join("y"));
        fs::write(&path, "same").unwrap();
        fs::write(&other, "same").unwrap();
        let stamp = Stamp::of(&File::open(&path).unwrap()).unwrap();
        assert_eq!(Stamp::at(&path).unwrap(), stamp);
        assert!(!Stamp::at(&other).unwrap().is_same_file(&stamp));
        fs::write(&path, "longer").unwrap();
        assert_ne!(Stamp::at(&path).unwrap(), stamp);
    }
}

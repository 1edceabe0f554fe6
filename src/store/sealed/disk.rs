//! What is done to the names of a sealed file in its folder.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::super::local;

/// The system's operations; a test may put failing ones in their place.
#[derive(Clone, Copy)]
pub(super) struct Disk {
    /// Makes a file or folder survive a power cut.
    pub(super) sync: fn(BorrowedFd<'_>) -> Result<(), Errno>,
    /// Renames within a folder, in place of what has the name.
    pub(super) rename: fn(&OwnedFd, &OsStr, &OsStr) -> Result<(), Errno>,
    /// Renames within a folder; `Errno::EXIST` if the name is taken.
    pub(super) place: fn(&OwnedFd, &OsStr, &OsStr) -> Result<(), Errno>,
    /// Removes a name.
    pub(super) unlink: fn(&OwnedFd, &OsStr) -> Result<(), Errno>,
}

impl Disk {
    /// What the system does.
    pub(super) const SYSTEM: Self = Self {
        sync: local::sync,
        rename: |folder, from, to| rustix::fs::renameat(folder, from, folder, to),
        place: |folder, from, to| local::rename_without_replacing(folder, from, to),
        unlink: |folder, name| rustix::fs::unlinkat(folder, name, AtFlags::empty()),
    };
}

/// Whether something has this name, be it a link that leads nowhere.
///
/// # Errors
/// What the system says, if it can't tell.
pub(super) fn is_there(folder: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

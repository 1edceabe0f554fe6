//! Removing trees through handles: never by a path, through a link or into another file system.

use super::Error;
use super::Staging;
use super::Target;
use super::beneath::Identity;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use rustix::fd::AsFd as _;
use rustix::fd::BorrowedFd;
use rustix::fd::OwnedFd;
use rustix::fs;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// How many levels of a tree are held open while it is removed; those above are found again.
const LEVELS_OPEN_MAX: usize = 64;

/// What [`Target::remove_extra`] did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Removed {
    /// How many names went, everything below them included; in a dry run without what is below.
    pub entries: u64,
    /// How many directories stayed because another file system is mounted there, or below.
    pub mounted: u64,
}

/// A directory on the way down to where we remove.
struct Level {
    /// Open if it is one of the deepest.
    fd: Option<OwnedFd>,
    identity: Identity,
    name: Vec<u8>,
    /// Directories in it that are left to be removed.
    rest: Vec<Vec<u8>>,
    /// Whether it can't go because something in it stays.
    stays: bool,
}

impl Target {
    /// Removes what stands in the directory `path` and isn't in `keep`, the names sorted by bytes.
    ///
    /// Only if the policy says `delete`, or in a staging directory that an earlier run left: what somebody put
    /// there was never restored. After all files of the directory are finished; `each` is
    /// told every name that goes, with its path. Nothing outside the target is touched, links go
    /// without being followed, and a mounted file system stays with what is above it.
    ///
    /// # Errors
    /// [`Error::Entry`] if something can't be removed; [`Error::Exchanged`].
    pub fn remove_extra(
        &self,
        path: &TreePath,
        keep: &[Name],
        mut each: impl FnMut(&TreePath),
    ) -> Result<Removed, Error> {
        debug_assert!(keep.is_sorted(), "the names to keep are sorted");
        let mut removed = Removed::default();
        if !self.removes_extra() {
            return Ok(removed);
        }
        let Some(directory) = self.resolve(path, false)? else { return Ok(removed) };
        let Some(fd) = &directory.fd else { return Ok(removed) };
        let names = self.names(fd.as_fd(), path)?;
        for (name, _) in names.iter().filter(|(name, _)| keep.binary_search(name).is_err()) {
            let place = path.join(name);
            each(&place);
            if self.policy.dry_run {
                removed.entries += 1;
                continue;
            }
            let gone = self.remove(fd.as_fd(), name.as_bytes(), &place)?;
            removed.entries += gone.entries;
            removed.mounted += gone.mounted;
        }
        Ok(removed)
    }

    /// What stands in a directory, with its kind as far as the file system tells.
    fn names(&self, fd: BorrowedFd<'_>, path: &TreePath) -> Result<Vec<(Name, FileType)>, Error> {
        let failed = |errno| Error::entry(path.clone(), "read", errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // `.` and `..` are no names.
            if let Ok(name) = Name::new(entry.file_name().to_bytes()) {
                names.push((name, entry.file_type()));
            }
        }
        Ok(names)
    }

    /// Removes temporary files that an interrupted run left in a directory.
    pub(super) fn sweep(&self, fd: BorrowedFd<'_>, path: &TreePath) -> Result<(), Error> {
        if self.is_fresh() || self.has_such_names.load(Ordering::Relaxed) {
            return Ok(());
        }
        let prefix = self.temporary_prefix.as_bytes();
        for (name, kind) in self.names(fd, path)? {
            let ours = name.as_bytes().strip_prefix(prefix);
            let is_serial = ours.is_some_and(|serial| serial.iter().all(u8::is_ascii_hexdigit));
            if !is_serial || kind == FileType::Directory {
                continue;
            }
            let stat = fs::statat(fd, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|stat| stat.st_uid == self.user) {
                // What can't be removed does no harm.
                let _ = fs::unlinkat(fd, name.as_bytes(), AtFlags::empty());
            }
        }
        Ok(())
    }

    /// Removes the tree in our own staging directory.
    pub(super) fn remove_staged(&self, staging: &Staging) -> Result<(), Error> {
        self.remove(staging.fd.as_fd(), super::STAGED_TREE.as_bytes(), &TreePath::root()).map(|_| ())
    }

    /// Removes `name` and what is below it.
    fn remove(&self, parent: BorrowedFd<'_>, name: &[u8], path: &TreePath) -> Result<Removed, Error> {
        match remove_one(parent, name) {
            Ok(One::Gone) => Ok(Removed { entries: 1, mounted: 0 }),
            Ok(One::Filled) => self.remove_tree(parent, name, path),
            Ok(One::Mounted) => Ok(Removed { entries: 0, mounted: 1 }),
            Err(errno) => Err(Error::entry(path.clone(), "removed", errno)),
        }
    }

    /// Removes the directory `name` and what is below it, however deep, in a bounded number of handles.
    ///
    /// On the way up, a directory that is no longer open is found as `..` and held against what it
    /// was on the way down, so that moving it away meanwhile ends the removal.
    pub(super) fn remove_tree(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &TreePath,
    ) -> Result<Removed, Error> {
        let failed = |errno| Error::entry(path.clone(), "removed", errno);
        let mut removed = Removed::default();
        let mut levels: Vec<Level> = Vec::new();
        let mut next = Some(name.to_vec());
        loop {
            if let Some(name) = next.take() {
                let above = deepest(&levels, parent);
                match self.open_level(above, name, &mut removed) {
                    Ok(Some(level)) => levels.push(level),
                    Ok(None) => {}
                    Err(Errno::XDEV) => {
                        removed.mounted += 1;
                        levels.last_mut().into_iter().for_each(|level| level.stays = true);
                    }
                    Err(errno) => return Err(failed(errno)),
                }
                if let Some(far) = levels.len().checked_sub(LEVELS_OPEN_MAX + 1) {
                    levels[far].fd = None;
                }
            }
            let Some(level) = levels.last_mut() else { return Ok(removed) };
            next = level.rest.pop();
            if next.is_some() {
                continue;
            }

            let done = levels.pop().expect("there was a last one");
            if let (Some(above), Some(fd)) = (levels.last_mut(), &done.fd)
                && above.fd.is_none()
            {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let found = fs::openat(fd, "..", flags, Mode::empty()).map_err(failed)?;
                if Identity::held(&found) != Ok(above.identity) {
                    return Err(Error::Exchanged { path: path.clone() });
                }
                above.fd = Some(found);
            }
            let above = deepest(&levels, parent);
            if !done.stays {
                match fs::unlinkat(above, done.name.as_slice(), AtFlags::REMOVEDIR) {
                    Ok(()) => removed.entries += 1,
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(failed(errno)),
                }
            } else if let Some(level) = levels.last_mut() {
                level.stays = true;
            }
        }
    }

    /// Opens the directory `name` and removes from it all but directories that aren't empty.
    ///
    /// `None` if it is gone, or was exchanged for something else, which is then removed.
    fn open_level(
        &self,
        above: BorrowedFd<'_>,
        name: Vec<u8>,
        removed: &mut Removed,
    ) -> Result<Option<Level>, Errno> {
        let (fd, stat) = match self.beneath.open_directory(above, &name, true) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                fs::unlinkat(above, name.as_slice(), AtFlags::empty())?;
                removed.entries += 1;
                return Ok(None);
            }
            Err(errno) => return Err(errno),
        };
        let mut level =
            Level { fd: None, identity: Identity::of(&stat), name, rest: Vec::new(), stays: false };
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            match remove_one(fd.as_fd(), name)? {
                One::Gone => removed.entries += 1,
                One::Filled => level.rest.push(name.to_vec()),
                One::Mounted => {
                    removed.mounted += 1;
                    level.stays = true;
                }
            }
        }
        level.fd = Some(fd);
        Ok(Some(level))
    }
}

/// The directory that is worked in: the deepest of `levels`, or `parent` if there is none.
fn deepest<'a>(levels: &'a [Level], parent: BorrowedFd<'a>) -> BorrowedFd<'a> {
    levels.last().map_or(parent, |level| level.fd.as_ref().expect("the deepest levels are open").as_fd())
}

/// What came of removing one name.
enum One {
    /// It isn't there any more.
    Gone,
    /// It is a directory that isn't empty.
    Filled,
    /// Another file system is mounted there.
    Mounted,
}

/// Removes a file, a link, or a directory if it is empty.
fn remove_one(directory: BorrowedFd<'_>, name: &[u8]) -> Result<One, Errno> {
    match fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(One::Gone),
        Err(Errno::BUSY) => return Ok(One::Mounted),
        // POSIX has PERM for a directory, Linux ISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    match fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(One::Gone),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(One::Filled),
        Err(Errno::BUSY) => Ok(One::Mounted),
        // It was no directory after all: the first error is the one that counts.
        Err(Errno::NOTDIR) => Err(Errno::PERM),
        Err(errno) => Err(errno),
    }
}

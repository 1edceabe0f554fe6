//! A new file, or its parts, that take their names when all of it is whole.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Uid;
use rustix::io::Errno;

use super::super::Error;
use super::super::local::place_failure;
use super::super::local::rename_without_replacing;
use super::super::local::sync;
use super::super::local::sync_folder;
use super::file::PARTS_MAX;
use super::file::part_of;
use super::joined::Joined;
use super::joined::length_of;
use super::spool;
use super::spool::partial;
use super::target::PART_BYTES_MIN;

/// A file or its parts, under other names until all of them are whole.
pub(super) struct Files {
    /// Of the whole.
    pub(super) path: PathBuf,
    folder: OwnedFd,
    /// Whether there are parts, with numbers in their names.
    in_parts: bool,
    replaces: bool,
    pub(super) joined: Joined,
    /// What each of them is called while it isn't whole.
    temporaries: Vec<OsString>,
    at: u64,
    /// Makes a file or folder survive a power cut; a test may put a failing one here.
    pub(super) sync: fn(BorrowedFd<'_>) -> Result<(), Errno>,
}

impl Files {
    pub(super) fn new(path: PathBuf, part_bytes: Option<u64>, replaces: bool) -> Result<Self, Error> {
        let place = || path.display().to_string();
        if part_bytes.is_some_and(|bytes| bytes < PART_BYTES_MIN) {
            return Err(Error::PartSize { place: place() });
        }
        if path.file_name().is_none() {
            return Err(Error::Place {
                place: place(),
                source: io::Error::from(io::ErrorKind::InvalidInput),
            });
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle =
            rustix::fs::open(folder, flags, Mode::empty()).map_err(|errno| place_failure(folder, errno))?;
        let files = Self {
            folder: handle,
            in_parts: part_bytes.is_some(),
            replaces,
            joined: Joined::of_parts(part_bytes.unwrap_or(u64::MAX)),
            temporaries: Vec::new(),
            at: 0,
            sync,
            path,
        };
        files.check_free()?;
        Ok(files)
    }

    /// Refuses names that are taken.
    fn check_free(&self) -> Result<(), Error> {
        let check = |path: &Path| match self.stat(path) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(place_failure(path, errno)),
            Ok(_) => Err(Error::Occupied { place: path.display().to_string() }),
        };
        // A whole file would be read instead of the parts, for ever.
        if self.in_parts || !self.replaces {
            check(&self.path)?;
        }
        if self.in_parts && !self.replaces {
            (1..=PARTS_MAX).try_for_each(|number| check(&part_of(&self.path, number)))?;
        }
        Ok(())
    }

    /// What is there under the name that `path` ends in, be it a link.
    fn stat(&self, path: &Path) -> Result<rustix::fs::Stat, Errno> {
        rustix::fs::statat(&self.folder, name_in(path), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What the file with this index will be called.
    fn path_of(&self, index: usize) -> PathBuf {
        if self.in_parts { part_of(&self.path, index + 1) } else { self.path.clone() }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (index, within, room) = self.joined.locate(self.at);
            if index == self.temporaries.len() {
                self.begin(index)?;
            }
            let length = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
            let (now, later) = rest.split_at(length);
            let written = self.joined.files()[index].write_all_at(now, within);
            written.map_err(|error| spool::failure(&self.path_of(index), &error))?;
            self.at += length_of(now);
            rest = later;
        }
        Ok(())
    }

    /// Makes the file with this index, mode 0600, under a name that nothing has.
    fn begin(&mut self, index: usize) -> Result<(), Error> {
        if index >= PARTS_MAX {
            return Err(Error::PartSize { place: self.path.display().to_string() });
        }
        let path = self.path_of(index);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let temporary = partial(name_in(&path));
            match rustix::fs::openat(&self.folder, &temporary, flags, Mode::RUSR | Mode::WUSR) {
                Err(Errno::EXIST) => (),
                made => {
                    let made = made.map_err(|errno| place_failure(&path, errno))?;
                    self.temporaries.push(temporary);
                    self.joined.push(File::from(made));
                    return Ok(());
                }
            }
        }
    }

    /// Syncs all files and names them, the first one last: without it, nothing is there to be read.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        for (index, file) in self.joined.files().iter().enumerate() {
            // Asked for once, as a second time may get a false yes.
            (self.sync)(file.as_fd()).map_err(|errno| place_failure(&self.path_of(index), errno))?;
        }
        self.check_free()?;
        for index in (0..self.temporaries.len()).rev() {
            self.place_one(index).inspect_err(|_| self.take_back(index + 1))?;
        }
        if self.in_parts && self.replaces {
            // What the parts before had more of would be taken for parts of these.
            (self.temporaries.len()..PARTS_MAX).for_each(|index| self.unlink(&self.path_of(index)));
        }
        // Whether they would survive is unknown then, and asking again may get a false yes.
        sync_folder(self.folder.as_fd(), self.sync).map_err(|errno| {
            self.take_back(0);
            place_failure(&self.path, errno)
        })
    }

    /// Removes the files from this index on, which have their names, unless others were there before.
    fn take_back(&self, first: usize) {
        if !self.replaces {
            (first..self.temporaries.len()).for_each(|index| self.unlink(&self.path_of(index)));
        }
    }

    /// Gives a file its name.
    fn place_one(&self, index: usize) -> Result<(), Error> {
        let path = self.path_of(index);
        let (from, to) = (self.temporaries[index].as_os_str(), name_in(&path));
        let placed = if self.replaces {
            self.give_to_owner(index, &path);
            rustix::fs::renameat(&self.folder, from, &self.folder, to)
        } else {
            rename_without_replacing(&self.folder, from, to)
        };
        placed.map_err(|errno| match errno {
            Errno::EXIST => Error::Occupied { place: path.display().to_string() },
            errno => place_failure(&path, errno),
        })
    }

    /// Gives what root writes over somebody's file to the owner of that file, who could else not read it
    /// any more. Where files have no owners, nothing has to be done.
    fn give_to_owner(&self, index: usize, path: &Path) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        if let Ok(stat) = self.stat(path) {
            let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            let _ = rustix::fs::fchown(&self.joined.files()[index], Some(user), Some(group));
        }
    }

    /// Removes what isn't whole.
    pub(super) fn abandon(&mut self) {
        for temporary in self.temporaries.drain(..) {
            // Those that got their names are no longer called that.
            let _ = rustix::fs::unlinkat(&self.folder, &temporary, AtFlags::empty());
        }
    }

    /// Removes what has the name that `path` ends in, if it is there and can be removed.
    fn unlink(&self, path: &Path) {
        let _ = rustix::fs::unlinkat(&self.folder, name_in(path), AtFlags::empty());
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// The last part of a path that has one.
fn name_in(path: &Path) -> &OsStr {
    path.file_name().expect("targets end in a name, which was looked at first")
}

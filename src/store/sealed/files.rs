//! A new file, or its parts, that take their names when all of it is whole.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Advice;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Uid;
use rustix::io::Errno;

use super::super::Error;
use super::super::local::place_failure;
use super::super::local::sync_folder;
use super::aside;
use super::aside::Aside;
use super::disk::Disk;
use super::disk::is_there;
use super::file::PARTS_MAX;
use super::file::part_of;
use super::hold::Hold;
use super::hold::Stamp;
use super::joined::Joined;
use super::joined::length_of;
use super::partial;
use super::spool;
use super::target::PART_BYTES_MIN;

/// How much is given to the disk at once.
const WRITE_BEHIND_BYTES: u64 = 1 << 20;

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
    /// Up to where which file was last given to the disk.
    behind: (usize, u64),
    /// The locks on what is to be replaced: a first part, a whole file.
    _holds: [Option<Hold>; 2],
    /// What has to be there to be replaced; nothing if anything may be.
    before: Vec<Stamp>,
    pub(super) disk: Disk,
}

impl Files {
    pub(super) fn new(
        path: PathBuf,
        part_bytes: Option<u64>,
        replaces: bool,
        before: &[Stamp],
    ) -> Result<Self, Error> {
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
        aside::settle(&path)?;
        let in_parts = part_bytes.is_some();
        let first = if in_parts && replaces { Hold::take(&part_of(&path, 1))? } else { None };
        let whole = if replaces { Hold::take(&path)? } else { None };
        let files = Self {
            folder: handle,
            in_parts,
            replaces,
            _holds: [first, whole],
            before: if replaces { before.to_vec() } else { Vec::new() },
            joined: Joined::of_parts(part_bytes.unwrap_or(u64::MAX)),
            temporaries: Vec::new(),
            at: 0,
            behind: (0, 0),
            disk: Disk::SYSTEM,
            path,
        };
        files.check_free()?;
        files.check_unchanged()?;
        partial::clear(&files.folder, name_in(&files.path));
        Ok(files)
    }

    /// Refuses names that are taken.
    fn check_free(&self) -> Result<(), Error> {
        let check = |path: &Path| match is_there(&self.folder, name_in(path)) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Error::Occupied { place: path.display().to_string() }),
            Err(errno) => Err(place_failure(path, errno)),
        };
        if self.replaces {
            let first = self.in_parts.then(|| part_of(&self.path, 1));
            return [Some(self.path.clone()), first]
                .iter()
                .flatten()
                .try_for_each(|path| self.check_plain(path));
        }
        // A whole file would be read instead of the parts, for ever.
        check(&self.path)?;
        if self.in_parts {
            (1..=PARTS_MAX).try_for_each(|number| check(&part_of(&self.path, number)))?;
        }
        Ok(())
    }

    /// Refuses to replace what is no plain file: a pipe, a device or a folder was put there for something else.
    fn check_plain(&self, path: &Path) -> Result<(), Error> {
        match rustix::fs::statat(&self.folder, name_in(path), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                Err(Error::Occupied { place: path.display().to_string() })
            }
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(place_failure(path, errno)),
        }
    }

    /// Refuses to replace anything but what has to be there.
    fn check_unchanged(&self) -> Result<(), Error> {
        for (index, stamp) in self.before.iter().enumerate() {
            let path = self.path_of(index);
            if Stamp::at(&path).ok().as_ref() != Some(stamp) {
                return Err(Error::Changed { place: path.display().to_string() });
            }
        }
        Ok(())
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
            self.write_behind(index, within + length_of(now));
            rest = later;
        }
        Ok(())
    }

    /// Has the system begin to write out what a file holds up to `end`, if that is worth it by now: the disk is
    /// then at work while the next packs are made, and the sync at the end has little left to wait for.
    fn write_behind(&mut self, index: usize, end: u64) {
        let begin = if self.behind.0 == index { self.behind.1 } else { 0 };
        let Some(length) = NonZeroU64::new(end - begin).filter(|length| length.get() >= WRITE_BEHIND_BYTES)
        else {
            return;
        };
        // What is not on the disk yet stays in memory: this only begins to put it there.
        let _ = rustix::fs::fadvise(&self.joined.files()[index], begin, Some(length), Advice::DontNeed);
        self.behind = (index, end);
    }

    /// Makes the file with this index, mode 0600, under a name that nothing has.
    fn begin(&mut self, index: usize) -> Result<(), Error> {
        if index >= PARTS_MAX {
            return Err(Error::PartSize { place: self.path.display().to_string() });
        }
        let path = self.path_of(index);
        let (file, temporary) =
            partial::make(&self.folder, name_in(&path)).map_err(|errno| place_failure(&path, errno))?;
        self.temporaries.push(temporary);
        self.joined.push(file);
        Ok(())
    }

    /// Syncs all files and names them.
    ///
    /// # Errors
    /// What can't be done. A new file has none of its names then, and a whole one that was to be replaced is as it
    /// was, unless its folder could not be synced: then the new one has its name, and nobody knows whether it would
    /// survive a power cut. Parts that were to be replaced are as they were, but after [`Error::Unfinished`].
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        for (index, file) in self.joined.files().iter().enumerate() {
            if self.replaces {
                self.liken(index);
            }
            // Asked for once, as a second time may get a false yes.
            (self.disk.sync)(file.as_fd()).map_err(|errno| place_failure(&self.path_of(index), errno))?;
        }
        self.check_free()?;
        self.check_unchanged()?;
        if self.in_parts {
            self.place_parts()?
        } else {
            self.place_whole()?
        }
        // They are whole now, and free for the next writer.
        self.joined.files().iter().for_each(|file| drop(file.unlock()));
        Ok(())
    }

    /// Names a single file.
    fn place_whole(&self) -> Result<(), Error> {
        let give = if self.replaces { self.disk.rename } else { self.disk.place };
        self.place_one(0, give)?;
        sync_folder(self.folder.as_fd(), self.disk.sync).map_err(|errno| {
            // Whether it would survive is unknown, and asking again may get a false yes.
            if !self.replaces {
                self.unlink(&self.path);
            }
            place_failure(&self.path, errno)
        })
    }

    /// Names all parts, those that were there set aside until all of these have their names.
    fn place_parts(&self) -> Result<(), Error> {
        let aside = match self.replaces {
            true => Some(Aside::set(&self.folder, &self.path, self.disk)?),
            false => None,
        };
        if let Err(error) = self.place_all() {
            aside.map_or(Ok(()), |aside| aside.put_back())?;
            return Err(error);
        }
        // They are in nobody's way, and the next writer tries again.
        let _ = aside.map(|aside| aside.remove());
        Ok(())
    }

    /// Names all parts, the first one last: without it, nothing is there to be read. Or none of them.
    fn place_all(&self) -> Result<(), Error> {
        let take_back = |first: usize| {
            (first..self.temporaries.len()).for_each(|index| self.unlink(&self.path_of(index)))
        };
        for index in (0..self.temporaries.len()).rev() {
            self.place_one(index, self.disk.place).inspect_err(|_| take_back(index + 1))?;
        }
        // Whether they would survive is unknown then, and asking again may get a false yes.
        sync_folder(self.folder.as_fd(), self.disk.sync).map_err(|errno| {
            take_back(0);
            place_failure(&self.path, errno)
        })
    }

    /// Gives a file its name.
    fn place_one(
        &self,
        index: usize,
        give: fn(&OwnedFd, &OsStr, &OsStr) -> Result<(), Errno>,
    ) -> Result<(), Error> {
        let path = self.path_of(index);
        give(&self.folder, &self.temporaries[index], name_in(&path)).map_err(|errno| match errno {
            Errno::EXIST => Error::Occupied { place: path.display().to_string() },
            errno => place_failure(&path, errno),
        })
    }

    /// Gives a file the owner, group and mode of the one that it replaces, or of the first part if there are
    /// more parts now, as far as that is allowed: who could read it still can, and nobody else.
    fn liken(&self, index: usize) {
        let stat = |index| self.path_of(index).metadata().ok().filter(Metadata::is_file);
        let file = &self.joined.files()[index];
        let whole = || self.path.metadata().ok().filter(Metadata::is_file);
        let old = stat(index).or_else(|| stat(0)).or_else(whole);
        let (Some(old), Ok(new)) = (old, file.metadata()) else { return };
        if old.uid() != new.uid() {
            let _ = rustix::fs::fchown(file, Some(Uid::from_raw(old.uid())), None);
        }
        let keeps_group =
            old.gid() == new.gid() || rustix::fs::fchown(file, None, Some(Gid::from_raw(old.gid()))).is_ok();
        // Rights of one group aren't another group's.
        let mode = old.mode() & if keeps_group { 0o777 } else { 0o707 };
        // Where files have no modes, nothing has to be done.
        let _ = rustix::fs::fchmod(file, Mode::from_raw_mode(mode));
    }

    /// Removes what isn't whole.
    pub(super) fn abandon(&mut self) {
        for temporary in self.temporaries.drain(..) {
            // Those that got their names are no longer called that.
            let _ = (self.disk.unlink)(&self.folder, &temporary);
        }
    }

    /// Removes what has the name that `path` ends in, if it is there and can be removed.
    fn unlink(&self, path: &Path) {
        let _ = (self.disk.unlink)(&self.folder, name_in(path));
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::super::super::Store;
    use super::super::file::SealedFile;
    use super::super::samples::ADMIN_RING;
    use super::super::samples::END;
    use super::super::samples::GENESIS;
    use super::super::samples::READ_RING;
    use super::super::samples::TABLE;
    use super::super::samples::file;
    use super::super::samples::name;
    use super::super::samples::names;
    use super::super::samples::new;
    use super::*;

    thread_local! {
        /// How many operations of [`FAILING`] still work, and whether those after the next one do again.
        static LEFT: Cell<(u32, bool)> = const { Cell::new((0, false)) };
    }

    /// Takes one of the operations that work.
    fn step() -> Result<(), Errno> {
        let (left, recovers) = LEFT.get();
        match left {
            0 if recovers => LEFT.set((u32::MAX, false)),
            0 => (),
            _ => LEFT.set((left - 1, recovers)),
        }
        if left == 0 { Err(Errno::IO) } else { Ok(()) }
    }

    const FAILING: Disk = Disk {
        sync: |handle| step().and_then(|()| (Disk::SYSTEM.sync)(handle)),
        rename: |folder, from, to| step().and_then(|()| (Disk::SYSTEM.rename)(folder, from, to)),
        place: |folder, from, to| step().and_then(|()| (Disk::SYSTEM.place)(folder, from, to)),
        unlink: |folder, name| step().and_then(|()| (Disk::SYSTEM.unlink)(folder, name)),
    };

    /// The bytes of a sealed file with this pack.
    fn sealed(pack: &[u8]) -> Vec<u8> {
        file(&[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/1", pack), END])
    }

    /// Replaces what is at `path` by parts with this pack.
    fn replace(path: &Path, disk: Disk, pack: &[u8]) -> Result<(), Error> {
        let mut files = Files::new(path.to_owned(), Some(PART_BYTES_MIN), true, &[])?;
        files.disk = disk;
        files.write(&sealed(pack))?;
        files.finish()
    }

    fn pack_at(path: &Path) -> Vec<u8> {
        SealedFile::load(path).unwrap().get(&name("p/1"), u64::MAX).unwrap()
    }

    /// Runs `check` after replacing old parts by new ones failed at its first operation, the second, and so on
    /// until it works, with one part and several, fewer and more, and a whole file (0) in the place of the old
    /// ones: with the folder, its name, old and new pack, and what came of it.
    fn at_each_operation(recovers: bool, check: impl Fn(&TempDir, &Path, [&[u8]; 2], Result<(), Error>)) {
        for (old, new) in [(1, 1), (1, 3), (3, 1), (4, 3), (3, 6), (0, 1), (0, 3)] {
            let is_whole = old == 0;
            let (old, new) = (vec![1; 60_000 * old.max(1)], vec![2; 60_000 * new]);
            for left in 0.. {
                assert!(left < 100, "it never works");
                let (folder, path) = self::new();
                if is_whole {
                    fs::write(&path, sealed(&old)).unwrap();
                } else {
                    replace(&path, Disk::SYSTEM, &old).unwrap();
                }
                LEFT.set((left, recovers));
                let replaced = replace(&path, FAILING, &new);
                let all_worked = LEFT.get().0 > 0 && LEFT.get().1 == recovers;
                check(&folder, &path, [&old, &new], replaced);
                if all_worked {
                    break;
                }
            }
        }
    }

    #[test]
    fn parts_whose_replacing_fails_anywhere_are_as_they_were() {
        at_each_operation(true, |folder, path, [old, new], replaced| {
            let expected = if replaced.is_ok() { new } else { old };
            // Those set aside are in nobody's way if they can't be removed, and the next one does.
            if replaced.is_err() {
                let parts = sealed(old).len().div_ceil(usize::try_from(PART_BYTES_MIN).unwrap());
                let parts = if path.exists() { 1 } else { parts };
                assert_eq!(names(folder).len(), parts, "{replaced:?}: {:?}", names(folder));
            }
            assert!(pack_at(path) == expected, "{replaced:?}: {:?}", names(folder));
        });
    }

    #[test]
    fn after_a_power_cut_anywhere_all_old_parts_are_there_or_all_new_ones() {
        at_each_operation(false, |folder, path, [old, new], replaced| {
            let left = names(folder);
            let pack = pack_at(path);
            assert!(pack == new || (pack == old && replaced.is_err()), "{replaced:?}: {left:?}");
            // The next writer leaves nothing of it.
            replace(path, Disk::SYSTEM, old).unwrap();
            assert!(pack_at(path) == old);
            let parts = sealed(old).len().div_ceil(usize::try_from(PART_BYTES_MIN).unwrap());
            assert_eq!(names(folder).len(), parts, "{left:?}");
        });
    }

    #[test]
    fn what_cannot_be_put_back_is_said_and_found_as_a_file() {
        let (_folder, path) = new();
        replace(&path, Disk::SYSTEM, &[1; 200_000]).unwrap();
        // Two files synced, four parts set aside.
        LEFT.set((6, false));
        assert!(matches!(replace(&path, FAILING, &[2; 100_000]), Err(Error::Unfinished { .. })));
        assert!(SealedFile::was_cut_off(&path));
        assert_eq!(pack_at(&part_of(&path, 1)), [1; 200_000]);
        assert!(!SealedFile::was_cut_off(&path));
    }

    #[test]
    fn a_folder_called_as_a_part_is_not_set_aside() {
        let (folder, path) = new();
        replace(&path, Disk::SYSTEM, &[1; 100_000]).unwrap();
        fs::create_dir(part_of(&path, 7)).unwrap();
        assert!(matches!(replace(&path, Disk::SYSTEM, &[2]), Err(Error::Occupied { .. })));
        fs::remove_dir(part_of(&path, 7)).unwrap();
        assert_eq!(pack_at(&path), [1; 100_000]);
        assert_eq!(names(&folder).len(), 2);
    }

    #[test]
    fn what_replaces_a_file_has_its_mode_but_no_setuid_bit() {
        for in_parts in [None, Some(PART_BYTES_MIN)] {
            let (folder, path) = new();
            let first = if in_parts.is_some() { part_of(&path, 1) } else { path.clone() };
            fs::write(&first, "old").unwrap();
            fs::set_permissions(&first, fs::Permissions::from_mode(0o4640)).unwrap();
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::chown(&first, Some(1234), Some(1235)).unwrap();
                fs::set_permissions(&first, fs::Permissions::from_mode(0o4640)).unwrap();
            }
            let old = first.metadata().unwrap();
            let mut files = Files::new(path.clone(), in_parts, true, &[]).unwrap();
            files.write(&sealed(&[1; 100_000])).unwrap();
            files.finish().unwrap();
            for name in names(&folder) {
                let new = folder.path().join(name).metadata().unwrap();
                assert_eq!(new.mode() & 0o7777, 0o640);
                assert_eq!((new.uid(), new.gid()), (old.uid(), old.gid()));
            }
        }
    }

    #[test]
    fn what_a_writer_left_that_was_cut_off_is_cleared_by_the_next() {
        let (folder, path) = new();
        LEFT.set((0, false));
        assert!(matches!(replace(&path, FAILING, &[1; 100_000]), Err(Error::Place { .. })));
        assert_eq!(names(&folder).len(), 2);
        let mut at_work = Files::new(path.clone(), None, false, &[]).unwrap();
        assert_eq!(names(&folder), [""; 0]);
        at_work.write(b"half").unwrap();
        let _second = Files::new(path, None, false, &[]).unwrap();
        assert_eq!(names(&folder).len(), 1);
    }
}

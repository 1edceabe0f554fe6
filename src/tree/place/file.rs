//! Writing files: under a temporary name or out of sight, until they are whole.

use super::DirHandle;
use super::Error;
use super::Site;
use super::beneath::Identity;
use super::beneath::kind;
use super::directory::Decision;
use super::directory::modified;
use super::settle::Held;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Time;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use rustix::fd::AsFd as _;
use rustix::fd::OwnedFd;
use rustix::fs;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::io::Errno;

/// What file systems give or spare at least: zeros are looked for in aligned blocks of this size.
const HOLE_BYTES: usize = 4096;

/// What becomes of a file that is to be placed.
pub enum Begin<'t> {
    /// It is to be written.
    Write(PlacedFile<'t>),
    /// The policy keeps the one that is there.
    Keep,
    /// It would be written, if this weren't a dry run.
    Planned,
}

/// A file that is being written; removed again unless it is finished. Used by several threads.
pub struct PlacedFile<'t> {
    directory: DirHandle<'t>,
    file: OwnedFd,
    name: Name,
    /// The name that it has until it is whole, if not its own.
    temporary: Option<String>,
    decision: Decision,
    /// Whether an existing file goes for it, which must not be lost to a power cut.
    replaces_file: bool,
    finished: bool,
}

/// A file that was placed whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// For [`DirHandle::hard_link`]; only for an entry with several names.
    pub id: Option<PlacedId>,
}

/// An inode that this run placed, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedId {
    pub(super) identity: Identity,
    pub(super) directory: TreePath,
    pub(super) name: Name,
}

/// A file that was there before, ours alone, to be compared with what is to be placed.
pub struct ExistingFile<'t> {
    directory: DirHandle<'t>,
    file: OwnedFd,
    name: Name,
    stat: Stat,
}

impl<'t> DirHandle<'t> {
    /// Starts to place the file `entry`.
    ///
    /// It has mode 0600 and, in a target that existed before, a temporary name, until
    /// [`PlacedFile::finish`].
    ///
    /// # Errors
    /// [`Error::InTheWay`] for something that stays; [`Error::SameName`] for a name that is another
    /// one on this file system; [`Error::NoSpace`]; [`Error::Entry`].
    pub fn begin_file(&self, entry: &Entry) -> Result<Begin<'t>, Error> {
        let target = self.target;
        target.note_name(&entry.name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        if target.is_fresh() {
            let Some(fd) = &self.directory.fd else { return Ok(Begin::Planned) };
            let opened = target.beneath.open(fd.as_fd(), entry.name.as_bytes(), flags, mode);
            let file = opened.map_err(|errno| match errno {
                Errno::EXIST => Error::SameName { path: self.path().join(&entry.name) },
                _ => self.failed(&entry.name, "made")(errno),
            })?;
            return Ok(Begin::Write(self.placed(entry, file, None, Decision::Free, false)));
        }

        let existing = self.existing(&entry.name)?;
        let mut decision = self.decide(existing.as_ref(), entry)?;
        if decision == Decision::Same && !self.keep_same(existing.as_ref(), entry)? {
            decision = Decision::Replace;
        }
        if matches!(decision, Decision::Keep | Decision::Same) {
            return Ok(Begin::Keep);
        }
        let Some(fd) = self.directory.fd.as_ref().filter(|_| !target.policy.dry_run) else {
            return Ok(Begin::Planned);
        };
        let (temporary, file) =
            self.make_temporary(&entry.name, |name| target.beneath.open(fd.as_fd(), name, flags, mode))?;
        let replaces_file = matches!(target.site, Site::Direct)
            && existing.is_some_and(|stat| kind(&stat) == FileType::RegularFile);
        Ok(Begin::Write(self.placed(entry, file, Some(temporary), decision, replaces_file)))
    }

    fn placed(
        &self,
        entry: &Entry,
        file: OwnedFd,
        temporary: Option<String>,
        decision: Decision,
        replaces_file: bool,
    ) -> PlacedFile<'t> {
        let (directory, name) = (self.clone(), entry.name.clone());
        PlacedFile { directory, file, name, temporary, decision, replaces_file, finished: false }
    }

    /// Gives a file with the right content its metadata; whether it could be kept.
    fn keep_same(&self, existing: Option<&Stat>, entry: &Entry) -> Result<bool, Error> {
        if self.target.policy.dry_run {
            return Ok(true);
        }
        match self.existing_for_reuse(entry)? {
            Some(file) => file.keep(entry).map(|_| true),
            // It isn't ours alone, so neither is its metadata: that has to be right already.
            None => Ok(existing.is_some_and(|stat| self.target.has_mode_and_owner(stat, entry))),
        }
    }

    /// The regular file that stands where `entry` belongs, to be compared with its content.
    ///
    /// A caller that finds it the same calls [`ExistingFile::keep`]; one that finds parts of it the
    /// same takes them from here instead of the vault. Nothing if there is no such file. Outside our
    /// own staging directory, nothing either if it has other names or another owner: what isn't ours
    /// alone may change while we look at it, and its other names may lie anywhere.
    ///
    /// # Errors
    /// [`Error::Entry`] if the directory can't be read.
    pub fn existing_for_reuse(&self, entry: &Entry) -> Result<Option<ExistingFile<'t>>, Error> {
        let Some(fd) = &self.directory.fd else { return Ok(None) };
        // Looked at before it is opened: opening a device can do things.
        let is_file = |stat: &Stat| kind(stat) == FileType::RegularFile;
        if self.target.is_fresh() || !self.existing(&entry.name)?.is_some_and(|stat| is_file(&stat)) {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let Ok(file) = self.target.beneath.open(fd.as_fd(), entry.name.as_bytes(), flags, Mode::empty())
        else {
            return Ok(None);
        };
        let stat = fs::fstat(&file).map_err(self.failed(&entry.name, "read"))?;
        let ours_alone = matches!(self.target.site, Site::Staged(_))
            || (stat.st_nlink == 1 && stat.st_uid == self.target.user);
        if !is_file(&stat) || !ours_alone {
            return Ok(None);
        }
        Ok(Some(ExistingFile { directory: self.clone(), file, name: entry.name.clone(), stat }))
    }
}

impl PlacedFile<'_> {
    /// Writes `bytes` at `offset`; what is never written is a hole.
    ///
    /// Each part is written at most once: with [`Policy::sparse`](super::Policy::sparse), zeros are
    /// left out, as the file is zero there anyway.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::Entry`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = if self.directory.target.policy.sparse {
            write_data(&self.file, offset, bytes)
        } else {
            write_all(&self.file, offset, bytes)
        };
        written.map_err(self.directory.failed(&self.name, "written"))
    }

    /// Reads back what was written, as much as there is, and tells how much.
    ///
    /// # Errors
    /// [`Error::Entry`].
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, Error> {
        read_up_to(&self.file, offset, bytes).map_err(self.directory.failed(&self.name, "read"))
    }

    /// Makes it `length` bytes long, with a hole at the end if it was shorter.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::Entry`].
    pub fn set_len(&self, length: u64) -> Result<(), Error> {
        fs::ftruncate(&self.file, length).map_err(self.directory.failed(&self.name, "written"))
    }

    /// Gives it its length, owner, attributes, mode and time, and its name.
    ///
    /// # Errors
    /// [`Error::InTheWay`] if something that stays came to stand there; [`Error::Exchanged`] if its
    /// temporary name was taken from it; [`Error::NoSpace`]; [`Error::Entry`]. It is removed then,
    /// and what was there before stays.
    ///
    /// # Panics
    /// If `entry` is no file.
    pub fn finish(mut self, entry: &Entry) -> Result<Finished, Error> {
        let EntryKind::File { size, .. } = entry.kind else { panic!("the entry is a file") };
        let directory = &self.directory;
        let stat = fs::fstat(&self.file).map_err(directory.failed(&self.name, "read"))?;
        if u64::try_from(stat.st_size) != Ok(size) {
            self.set_len(size)?;
        }
        directory
            .target
            .settle(Held::Open(self.file.as_fd()), entry)
            .map_err(directory.failed(&self.name, "finished"))?;
        if let Some(temporary) = &self.temporary {
            if self.replaces_file {
                fs::fdatasync(&self.file).map_err(directory.failed(&self.name, "written"))?;
            }
            if !self.is_at(temporary.as_bytes(), Identity::of(&stat)) {
                return Err(Error::Exchanged { path: directory.path().join(&self.name) });
            }
            directory.move_into_place(temporary, &self.name, self.decision)?;
        }
        self.finished = true;
        let id = entry.link_group.map(|_| PlacedId {
            identity: Identity::of(&stat),
            directory: self.directory.path().clone(),
            name: self.name.clone(),
        });
        Ok(Finished { id })
    }

    /// Whether the file of `identity` is what stands at `name`.
    fn is_at(&self, name: &[u8], identity: Identity) -> bool {
        self.directory.directory.fd.as_ref().is_some_and(|fd| {
            fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| Identity::of(&stat) == identity)
        })
    }
}

impl Drop for PlacedFile<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Half a file is nobody's; but what stands at its name by now may be somebody's.
        let name = self.temporary.as_ref().map_or(self.name.as_bytes(), |temporary| temporary.as_bytes());
        if let (Some(fd), Ok(identity)) = (&self.directory.directory.fd, Identity::held(&self.file))
            && self.is_at(name, identity)
        {
            let _ = fs::unlinkat(fd, name, AtFlags::empty());
        }
    }
}

impl ExistingFile<'_> {
    /// How long it is, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// When it was last changed.
    #[must_use]
    pub fn modified(&self) -> Time {
        modified(&self.stat)
    }

    /// Reads at `offset` until `bytes` is full or the file ends, and tells how much it read.
    ///
    /// # Errors
    /// [`Error::Entry`].
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, Error> {
        read_up_to(&self.file, offset, bytes).map_err(self.directory.failed(&self.name, "read"))
    }

    /// Keeps it as `entry`, whose content it was found to have, and gives it its metadata.
    ///
    /// # Errors
    /// [`Error::Exchanged`] if another file stands there by now; [`Error::Entry`].
    pub fn keep(self, entry: &Entry) -> Result<Finished, Error> {
        let directory = &self.directory;
        let identity = Identity::of(&self.stat);
        if !directory.existing(&self.name)?.is_some_and(|stat| Identity::of(&stat) == identity) {
            return Err(Error::Exchanged { path: directory.path().join(&self.name) });
        }
        if !directory.target.policy.dry_run {
            // A user's attributes go only to a file that its owner may write to.
            let may_write = self.stat.st_mode & 0o200 != 0;
            let settled = if may_write || entry.xattrs.is_empty() {
                Ok(())
            } else {
                fs::fchmod(&self.file, Mode::RUSR | Mode::WUSR)
            };
            settled
                .and_then(|()| directory.target.settle(Held::Open(self.file.as_fd()), entry))
                .map_err(directory.failed(&self.name, "finished"))?;
        }
        let id = entry.link_group.map(|_| PlacedId {
            identity,
            directory: directory.path().clone(),
            name: self.name.clone(),
        });
        Ok(Finished { id })
    }
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_all(file: &OwnedFd, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = &bytes[written..];
                offset = offset.checked_add(written as u64).ok_or(Errno::FBIG)?;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes those aligned blocks of `bytes` that aren't all zero, neighbours in one go.
fn write_data(file: &OwnedFd, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let is_zero = |block: &[u8]| block.iter().all(|&byte| byte == 0);
    let misaligned = usize::try_from(offset % HOLE_BYTES as u64).expect("a remainder of 4096");
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        let block_bytes = if at == 0 { HOLE_BYTES - misaligned } else { HOLE_BYTES };
        let end = bytes.len().min(at + block_bytes);
        if is_zero(&bytes[at..end]) {
            write_all(file, offset + start as u64, &bytes[start..at])?;
            start = end;
        }
        at = end;
    }
    write_all(file, offset + start as u64, &bytes[start..])
}

/// Reads at `offset` until `bytes` is full or the file ends; how much it read.
pub(super) fn read_up_to(file: &OwnedFd, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::pread(file, &mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

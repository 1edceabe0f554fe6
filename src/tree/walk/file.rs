//! Open files on the source disk with their holes, and links, pipes and devices held without opening.

use std::num::NonZeroU64;

use rustix::buffer::spare_capacity;
use rustix::fd::AsFd as _;
use rustix::fd::OwnedFd;
use rustix::fs::Advice;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::tree::entry::DataRun;
use crate::tree::entry::Xattr;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::walk::Doing;
use crate::tree::walk::Error;
use crate::tree::walk::SourceDir;
use crate::tree::walk::Stat;
use crate::tree::walk::attributes::Attributes;
use crate::tree::walk::examine;
use crate::tree::walk::handle_path;
use crate::tree::walk::io_error;

/// An open regular file on the source disk.
#[derive(Debug)]
pub struct SourceFile<'a> {
    pub(super) handle: OwnedFd,
    pub(super) directory: &'a SourceDir,
    pub(super) name: &'a Name,
    pub(super) stat: Stat,
}

impl SourceFile<'_> {
    /// Its absolute path, without the leading slash.
    #[must_use]
    pub fn path(&self) -> TreePath {
        self.directory.path().join(self.name)
    }

    /// What it was when it was opened.
    #[must_use]
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Asks again what it is: whether it grew, shrank or was written to meanwhile.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be told.
    pub fn examine(&self) -> Result<Stat, Error> {
        examine(self.handle.as_fd(), b"").map_err(|source| io_error(&self.path(), Doing::Examine, source))
    }

    /// Reads on from where the last `read` ended; 0 bytes are the end.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be read.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.reading(|| rustix::io::read(&self.handle, &mut *buffer))
    }

    /// The same into what `bytes` has room for behind what is in it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_on(&self, bytes: &mut Vec<u8>) -> Result<usize, Error> {
        self.reading(|| rustix::io::read(&self.handle, spare_capacity(bytes)))
    }

    /// Reads from `offset` and leaves alone where `read` is; 0 bytes are the end.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be read.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        self.reading(|| rustix::io::pread(&self.handle, &mut *buffer, offset))
    }

    /// Does it again for as long as only a signal came between.
    fn reading(&self, mut read: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Error> {
        loop {
            match read() {
                Err(Errno::INTR) => {}
                result => return result.map_err(|source| io_error(&self.path(), Doing::Read, source)),
            }
        }
    }

    /// The runs that hold data if it has holes; `None` if it has none, or nobody can tell.
    ///
    /// At most [`DataRun::COUNT_MAX`]: of a file with more, the shortest holes count as data. To be asked
    /// before the first [`read`](Self::read), which it sets back to the start.
    ///
    /// # Errors
    /// [`Error::Io`] if the file can't be read.
    pub fn data_runs(&self) -> Result<Option<Box<[DataRun]>>, Error> {
        let size = self.stat.size;
        if self.stat.blocks.saturating_mul(512) >= size {
            return Ok(None);
        }
        let runs = self.find_runs(size);
        self.seek(SeekFrom::Start(0)).map_err(|source| io_error(&self.path(), Doing::Read, source))?;
        match runs {
            Ok(mut runs) => {
                keep_longest_holes(&mut runs, DataRun::COUNT_MAX);
                let data: u64 = runs.iter().map(|run| run.length).sum();
                Ok((data < size).then(|| runs.into()))
            }
            // This file system doesn't tell holes from data.
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(None),
            Err(source) => Err(io_error(&self.path(), Doing::Read, source)),
        }
    }

    /// Finds the runs, some more than are kept.
    fn find_runs(&self, size: u64) -> Result<Vec<DataRun>, Errno> {
        let mut runs = Vec::new();
        let mut searched = 0;
        while searched < size {
            let offset = match self.seek(SeekFrom::Data(searched)) {
                Ok(offset) => offset.max(searched),
                // Nothing but a hole from here on.
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error),
            };
            let end = match self.seek(SeekFrom::Hole(offset)) {
                Ok(end) => end.min(size),
                // Cut short since: reading it will tell.
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error),
            };
            if end <= offset {
                break;
            }
            runs.push(DataRun { offset, length: end - offset });
            if runs.len() >= 2 * DataRun::COUNT_MAX {
                keep_longest_holes(&mut runs, DataRun::COUNT_MAX);
            }
            searched = end;
        }
        Ok(runs)
    }

    fn seek(&self, to: SeekFrom) -> Result<u64, Errno> {
        rustix::fs::seek(&self.handle, to)
    }

    /// Tells the kernel that it will be read from start to end.
    pub fn advise_sequential(&self) {
        // Advice that isn't taken costs nothing but speed.
        let _ = rustix::fs::fadvise(&self.handle, 0, None, Advice::Sequential);
    }

    /// Tells the kernel that these bytes won't be read again, so they needn't displace others in memory.
    pub fn advise_done(&self, offset: u64, length: u64) {
        if let Some(length) = NonZeroU64::new(length) {
            let _ = rustix::fs::fadvise(&self.handle, offset, Some(length), Advice::DontNeed);
        }
    }

    /// Its extended attributes, sorted by name; none where the file system has no such thing.
    ///
    /// # Errors
    /// [`Error::Io`] if one can't be read, [`Error::TooMuch`] if they have more bytes than an entry takes.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, Error> {
        Attributes::Handle(self.handle.as_fd()).load(|| self.path())
    }
}

/// Joins runs across the shortest holes until there are at most `count_max`, at least 1.
pub(super) fn keep_longest_holes(runs: &mut Vec<DataRun>, count_max: usize) {
    let Some(excess) = runs.len().checked_sub(count_max).filter(|&excess| excess > 0) else { return };
    let hole = |pair: &[DataRun]| pair[1].offset - (pair[0].offset + pair[0].length);
    let mut holes: Vec<u64> = runs.windows(2).map(hole).collect();
    let (shorter, &mut longest_joined, _) = holes.select_nth_unstable(excess - 1);
    let mut ties = excess - shorter.iter().filter(|&&length| length < longest_joined).count();
    runs.dedup_by(|later, earlier| {
        let length = later.offset - (earlier.offset + earlier.length);
        let is_tie = length == longest_joined && ties > 0;
        if is_tie {
            ties -= 1;
        }
        let joins = length < longest_joined || is_tie;
        if joins {
            earlier.length = later.offset + later.length - earlier.offset;
        }
        joins
    });
}

/// A link, pipe, device or socket on the source disk, held but not open.
#[derive(Debug)]
pub struct SourceNode<'a> {
    pub(super) handle: OwnedFd,
    pub(super) directory: &'a SourceDir,
    pub(super) name: &'a Name,
    pub(super) stat: Stat,
}

impl SourceNode<'_> {
    fn path(&self) -> TreePath {
        self.directory.path().join(self.name)
    }

    /// What it is.
    #[must_use]
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Where the symbolic link points to.
    ///
    /// # Errors
    /// [`Error::Io`] if it is none or can't be read.
    pub fn read_link(&self) -> Result<Box<[u8]>, Error> {
        rustix::fs::readlinkat(&self.handle, c"", Vec::new())
            .map(|target| target.into_bytes().into())
            .map_err(|source| io_error(&self.path(), Doing::Read, source))
    }

    /// Its extended attributes, sorted by name; none where the file system has no such thing.
    ///
    /// # Errors
    /// [`Error::Io`] if one can't be read, [`Error::TooMuch`] if they have more bytes than an entry takes.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, Error> {
        Attributes::Path(handle_path(self.handle.as_fd())).load(|| self.path())
    }
}

//! Reads the source disk, through handles alone (R-32), and never follows a symbolic link below a source.
//!
//! A [`SourceDir`] is an open directory. Its names are listed, each is examined without following it,
//! and what is opened must still be what was examined; from then on everything is read through the
//! handle. So nobody who renames directories or plants links and pipes while a backup runs can lead
//! it elsewhere or make it wait, and paths may be longer than the operating system takes.
//!
//! Nothing here recurses: a caller holds the open directories between a source and where it is.
//! Everything that fails is an [`Error`] of one source path, which has no way to become an error of a
//! store: a source that can't be read is reported, and the backup goes on.

use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::Owner;
use crate::tree::entry::Time;
use crate::tree::entry::Xattr;
use crate::tree::filter::Marker;
use crate::tree::path;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use nix::unistd::{Gid, Group, Uid, User};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Advice, AtFlags, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use walkdir::WalkDir;

/// How a directory can be named by a handle, so that its path's length and its parents don't matter.
const HANDLES: &str = "/proc/self/fd";

/// The longest list of attribute names, and the longest value, that Linux gives: 64 KiB.
const XATTR_BUFFER_BYTES: usize = 64 << 10;

/// The longest list of attribute names or value that is read at the first try.
const XATTR_FIRST_TRY_BYTES: usize = 1_024;

/// How deep directories are walked into, however many files may be open. Whoever reads a snapshot holds
/// a part of each directory on the way down, up to some 100 KB, so this bounds what a tree that somebody
/// made to do harm costs him: deeper than anything that serves a purpose.
const DEPTH_MAX: usize = 4_096;

/// What was being done when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Finding where a source really is.
    Resolve,
    /// Listing the names in a directory.
    List,
    /// Asking what a name stands for.
    Examine,
    /// Opening it.
    Open,
    /// Reading its contents, or the target of a link.
    Read,
    /// Reading its extended attributes.
    ReadAttributes,
}

/// Why something on the source disk was not read; always about one path.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused.
    Io {
        /// The path, in bytes.
        path: Box<[u8]>,
        /// What was being done.
        doing: Doing,
        /// Why.
        source: io::Error,
    },
    /// It is no longer what it was when it was examined.
    Changed {
        /// The path, in bytes.
        path: Box<[u8]>,
    },
    /// A file system gave a name that is none.
    Name {
        /// The directory, in bytes.
        path: Box<[u8]>,
        /// The name, in bytes.
        name: Box<[u8]>,
        /// What is wrong with it.
        source: path::Error,
    },
    /// There is more of something than a snapshot keeps.
    TooMuch {
        /// The path, in bytes.
        path: Box<[u8]>,
        /// More of what.
        what: &'static str,
    },
}

impl Error {
    /// The path in bytes: absolute, unless it is a source that couldn't be found.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Io { path, .. }
            | Self::Changed { path }
            | Self::Name { path, .. }
            | Self::TooMuch { path, .. } => path,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = printable(self.path());
        match self {
            Self::Io { doing: Doing::Resolve, .. } => write!(f, "{path} could not be found"),
            Self::Io { doing: Doing::List, .. } => write!(f, "directory {path} could not be listed"),
            Self::Io { doing: Doing::Examine, .. } => write!(f, "{path} could not be examined"),
            Self::Io { doing: Doing::Open, .. } => write!(f, "{path} could not be opened"),
            Self::Io { doing: Doing::Read, .. } => write!(f, "{path} could not be read"),
            Self::Io { doing: Doing::ReadAttributes, .. } => {
                write!(f, "extended attributes of {path} could not be read")
            }
            Self::Changed { .. } => write!(f, "{path} was replaced while it was being read"),
            Self::Name { name, .. } => {
                write!(f, "directory {path} holds {}, which is no name", printable(name))
            }
            Self::TooMuch { what, .. } => write!(f, "{path} has more {what} than a snapshot keeps"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Name { source, .. } => Some(source),
            Self::Changed { .. } | Self::TooMuch { .. } => None,
        }
    }
}

/// The absolute path that a tree path stands for on this machine.
fn absolute(path: &TreePath) -> Box<[u8]> {
    [b"/", path.as_bytes()].concat().into()
}

/// An error of the operating system about a tree path.
fn io_error(path: &TreePath, doing: Doing, source: impl Into<io::Error>) -> Error {
    Error::Io { path: absolute(path), doing, source: source.into() }
}

/// What a name on the source disk stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// The driver.
        major: u32,
        /// The device of that driver.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver.
        major: u32,
        /// The device of that driver.
        minor: u32,
    },
    /// A socket: it means nothing without the process that made it, and isn't kept.
    Socket,
    /// Something that Linux doesn't have.
    Unknown,
}

/// What is known of a name on the source disk without opening it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: SourceKind,
    /// Its permissions, with setuid, setgid and sticky: the bits `0o7777`.
    pub mode: u32,
    /// The user whom it belongs to.
    pub uid: u32,
    /// The group that it belongs to.
    pub gid: u32,
    /// Its length in bytes.
    pub size: u64,
    /// How many units of 512 bytes are set aside for it; fewer than its size needs if it has holes.
    pub blocks: u64,
    /// When its contents were last changed, as anybody may set it.
    pub modified: Time,
    /// When anything about it was last changed, as the kernel sets it.
    pub changed: Time,
    /// Which file system it is in.
    pub device: u64,
    /// Which of the files of that file system it is.
    pub inode: u64,
    /// How many names it has.
    pub links: u32,
}

impl Stat {
    /// Takes what the kernel says.
    fn new(statx: &Statx) -> Self {
        let (major, minor) = (statx.stx_rdev_major, statx.stx_rdev_minor);
        let kind = match FileType::from_raw_mode(u32::from(statx.stx_mode)) {
            FileType::RegularFile => SourceKind::File,
            FileType::Directory => SourceKind::Directory,
            FileType::Symlink => SourceKind::Symlink,
            FileType::Fifo => SourceKind::Fifo,
            FileType::CharacterDevice => SourceKind::CharDevice { major, minor },
            FileType::BlockDevice => SourceKind::BlockDevice { major, minor },
            FileType::Socket => SourceKind::Socket,
            FileType::Unknown => SourceKind::Unknown,
        };
        let time = |seconds, nanos: u32| Time { seconds, nanos: nanos.min(999_999_999) };
        Self {
            kind,
            mode: u32::from(statx.stx_mode) & 0o7777,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            size: statx.stx_size,
            blocks: statx.stx_blocks,
            modified: time(statx.stx_mtime.tv_sec, statx.stx_mtime.tv_nsec),
            changed: time(statx.stx_ctime.tv_sec, statx.stx_ctime.tv_nsec),
            device: u64::from(statx.stx_dev_major) << 32 | u64::from(statx.stx_dev_minor),
            inode: statx.stx_ino,
            links: statx.stx_nlink,
        }
    }

    /// Whether both are the same inode and of the same type.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode && self.kind == other.kind
    }

    /// Whether both are the same inode with, as far as the kernel tells, the same contents.
    #[must_use]
    pub fn is_unchanged(&self, other: &Self) -> bool {
        self.is_same_file(other)
            && self.size == other.size
            && self.modified == other.modified
            && self.changed == other.changed
    }

    /// Whether both are in one file system: what `--one-file-system` asks of a directory and its source.
    #[must_use]
    pub fn is_on_same_file_system(&self, other: &Self) -> bool {
        self.device == other.device
    }
}

/// Asks what `name` in `directory` is, without following it; what `directory` itself is, if it is empty.
fn examine(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    let how = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | how;
    loop {
        match rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS) {
            Err(Errno::INTR) => {}
            result => return result.map(|statx| Stat::new(&statx)),
        }
    }
}

/// Opens `name` in `directory` without following it, waiting for it or changing when it was last read.
fn open(directory: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let always = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let quietly = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOATIME;
    let mut flags = if flags.contains(OFlags::PATH) { flags | always } else { flags | always | quietly };
    loop {
        match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Err(Errno::INTR) => {}
            // Only a file's owner and root may leave the time of the last access alone.
            Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => flags -= OFlags::NOATIME,
            result => return result,
        }
    }
}

/// The path by which the kernel leads to what `handle` holds, even if it is a symbolic link.
fn handle_path(handle: BorrowedFd<'_>) -> String {
    format!("{HANDLES}/{}", handle.as_raw_fd())
}

// ---- extended attributes -----------------------------------------------------------------------

/// How the extended attributes of something held are reached.
enum Attributes<'a> {
    /// Through the handle.
    Handle(BorrowedFd<'a>),
    /// By the handle's path: a handle that isn't open for reading can't give them.
    Path(String),
}

impl Attributes<'_> {
    fn list(&self, names: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Handle(handle) => rustix::fs::flistxattr(handle, names),
            Self::Path(path) => rustix::fs::listxattr(path.as_str(), names),
        }
    }

    fn get(&self, name: &[u8], value: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Handle(handle) => rustix::fs::fgetxattr(handle, name, value),
            Self::Path(path) => rustix::fs::getxattr(path.as_str(), name, value),
        }
    }

    /// All of them, sorted by name.
    fn load(&self, path: &TreePath) -> Result<Vec<Xattr>, Error> {
        let failed = |source: Errno| io_error(path, Doing::ReadAttributes, source);
        let names = match read_growing(|buffer| self.list(buffer)) {
            Ok(names) => names,
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut xattrs: Vec<Xattr> = Vec::new();
        let mut bytes = 0;
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let value = match read_growing(|buffer| self.get(name, buffer)) {
                Ok(value) => value,
                // Removed since it was listed, or listed by a file system that doesn't give it.
                Err(Errno::NODATA | Errno::NOTSUP) => continue,
                Err(source) => return Err(failed(source)),
            };
            bytes += name.len() + value.len();
            if bytes > Entry::XATTR_BYTES_MAX {
                return Err(Error::TooMuch { path: absolute(path), what: "extended attributes" });
            }
            xattrs.push((name.into(), value.into()));
        }
        xattrs.sort_unstable();
        xattrs.dedup_by(|later, earlier| later.0 == earlier.0);
        Ok(xattrs)
    }
}

/// What `read` puts into a buffer: a small one, or one as large as the kernel can need.
fn read_growing(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; XATTR_FIRST_TRY_BYTES];
    match read(&mut small) {
        Ok(bytes) => Ok(small[..bytes].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; XATTR_BUFFER_BYTES];
            let bytes = read(&mut large)?;
            large.truncate(bytes);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

// ---- directories -------------------------------------------------------------------------------

/// The names in a directory, sorted by their bytes: one buffer, and 8 bytes more a name.
#[derive(Default)]
pub struct Names {
    bytes: Vec<u8>,
    spans: Vec<(u32, u8)>,
    refused: Vec<Error>,
}

impl Names {
    /// Adds a name, wherever it belongs.
    fn add(&mut self, name: &[u8], directory: &TreePath) -> Result<(), Error> {
        if let Err(source) = Name::new(name) {
            self.refused.push(Error::Name { path: absolute(directory), name: name.into(), source });
            return Ok(());
        }
        let too_much = |_| Error::TooMuch { path: absolute(directory), what: "names" };
        let offset = u32::try_from(self.bytes.len()).map_err(too_much)?;
        let length = u8::try_from(name.len()).expect("a name has at most 255 bytes");
        self.bytes.extend_from_slice(name);
        self.spans.push((offset, length));
        Ok(())
    }

    /// Sorts them. A directory that changes while it is listed can give a name twice: it is kept once.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|&one, &other| slice(bytes, one).cmp(slice(bytes, other)));
        self.spans.dedup_by(|one, other| slice(bytes, *one) == slice(bytes, *other));
        self.bytes.shrink_to_fit();
        self.spans.shrink_to_fit();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The name at `index`, from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Name> {
        self.spans.get(index).map(|&span| self.name(span))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Name> + ExactSizeIterator {
        self.spans.iter().map(|&span| self.name(span))
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, name: &Name) -> bool {
        self.spans.binary_search_by(|&span| slice(&self.bytes, span).cmp(name.as_bytes())).is_ok()
    }

    /// One error for each name that the file system gave and that is none; they are not among the names.
    pub fn take_refused(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.refused)
    }

    /// The name in this stretch.
    fn name(&self, span: (u32, u8)) -> Name {
        Name::new(slice(&self.bytes, span)).expect("only names are added")
    }
}

/// The stretch of `bytes` that a name has.
fn slice(bytes: &[u8], (offset, length): (u32, u8)) -> &[u8] {
    let start = usize::try_from(offset).expect("memory has at least 32 bits");
    &bytes[start..start + usize::from(length)]
}

/// An open directory on the source disk.
#[derive(Debug)]
pub struct SourceDir {
    handle: OwnedFd,
    path: Arc<TreePath>,
    stat: Stat,
    /// Held only to go on from, not open for reading: one may pass through directories that one can't read.
    is_passage: bool,
}

impl SourceDir {
    /// Opens the directory that `path` leads to, following links on the way as any program does.
    ///
    /// # Errors
    /// [`Error::Io`] if there is none or it can't be read, [`Error::Changed`] if it is being replaced.
    pub fn load_root(path: &Path) -> Result<Self, Error> {
        let real = real_path(path, path)?;
        Source::load_real(&real)?.open_dir()
    }

    /// Opens `/` to go on from.
    fn load_passage_root() -> Result<Self, Error> {
        let path = TreePath::root();
        let handle = open(rustix::fs::CWD, b"/", OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|source| io_error(&path, Doing::Open, source))?;
        let stat = examine(handle.as_fd(), b"").map_err(|source| io_error(&path, Doing::Examine, source))?;
        Ok(Self { handle, path: Arc::new(path), stat, is_passage: true })
    }

    /// Its absolute path, without the leading slash.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// The same, to be held beside it: on a deep way down, paths are most of what is in memory.
    #[must_use]
    pub fn shared_path(&self) -> Arc<TreePath> {
        Arc::clone(&self.path)
    }

    /// What it was when it was opened.
    #[must_use]
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Lists its names, sorted.
    ///
    /// Takes about 8 bytes a name more than the names themselves, whatever else is in the directory.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be listed to its end. Also if `/proc` isn't mounted: it is listed by its
    /// handle, and that is where handles have names.
    pub fn names(&self) -> Result<Names, Error> {
        let mut names = Names::default();
        for found in WalkDir::new(handle_path(self.handle.as_fd())).min_depth(1).max_depth(1) {
            match found {
                Ok(found) => names.add(found.file_name().as_bytes(), &self.path)?,
                Err(error) => {
                    let source = error.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into());
                    return Err(io_error(&self.path, Doing::List, source));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Asks what `name` in it is, without following it.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be told: it may be gone.
    pub fn examine(&self, name: &Name) -> Result<Stat, Error> {
        examine(self.handle.as_fd(), name.as_bytes())
            .map_err(|source| io_error(&self.path.join(name), Doing::Examine, source))
    }

    /// Opens `name` and makes sure that it is what was examined.
    fn open(&self, name: &Name, examined: &Stat, flags: OFlags) -> Result<(OwnedFd, TreePath, Stat), Error> {
        let path = self.path.join(name);
        let handle = match open(self.handle.as_fd(), name.as_bytes(), flags) {
            Ok(handle) => handle,
            // Now a link, no directory, or a pipe or socket that has no other end.
            Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {
                return Err(Error::Changed { path: absolute(&path) });
            }
            Err(source) => return Err(io_error(&path, Doing::Open, source)),
        };
        let stat = examine(handle.as_fd(), b"").map_err(|source| io_error(&path, Doing::Examine, source))?;
        if stat.is_same_file(examined) {
            Ok((handle, path, stat))
        } else {
            Err(Error::Changed { path: absolute(&path) })
        }
    }

    /// Opens the directory `name`, which `examined` was about.
    ///
    /// # Errors
    /// [`Error::Changed`] if it is another one now or none, [`Error::Io`] if it can't be opened.
    pub fn open_dir(&self, name: &Name, examined: &Stat) -> Result<Self, Error> {
        let (handle, path, stat) = self.open(name, examined, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self { handle, path: Arc::new(path), stat, is_passage: false })
    }

    /// Opens the directory `name` only to go on from.
    fn open_passage(&self, name: &Name) -> Result<Self, Error> {
        let examined = self.examine(name)?;
        let (handle, path, stat) = self.open(name, &examined, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Self { handle, path: Arc::new(path), stat, is_passage: true })
    }

    /// Opens the regular file `name`, which `examined` was about.
    ///
    /// # Errors
    /// [`Error::Changed`] if it is another one now or none, [`Error::Io`] if it can't be opened.
    pub fn open_file(&self, name: &Name, examined: &Stat) -> Result<SourceFile, Error> {
        if examined.kind != SourceKind::File {
            return Err(Error::Changed { path: absolute(&self.path.join(name)) });
        }
        let (handle, path, stat) = self.open(name, examined, OFlags::RDONLY)?;
        Ok(SourceFile { handle, path, stat })
    }

    /// Takes hold of `name`, which `examined` was about, without opening it: a link, pipe, device or socket.
    ///
    /// # Errors
    /// [`Error::Changed`] if it is another one now, [`Error::Io`] if it can't be had.
    pub fn hold(&self, name: &Name, examined: &Stat) -> Result<SourceNode, Error> {
        let (handle, path, stat) = self.open(name, examined, OFlags::PATH)?;
        Ok(SourceNode { handle, path, stat })
    }

    /// Its extended attributes, sorted by name; none where the file system has no such thing.
    ///
    /// # Errors
    /// [`Error::Io`] if one can't be read, [`Error::TooMuch`] if they have more bytes than an entry takes.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, Error> {
        let handle = self.handle.as_fd();
        let by =
            if self.is_passage { Attributes::Path(handle_path(handle)) } else { Attributes::Handle(handle) };
        by.load(&self.path)
    }

    /// The first `bytes_max` bytes of the regular file `name`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Changed`] if it can't be read.
    pub fn read_start(&self, name: &Name, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
        let examined = match examine(self.handle.as_fd(), name.as_bytes()) {
            Ok(stat) if stat.kind == SourceKind::File => stat,
            Ok(_) | Err(Errno::NOENT) => return Ok(None),
            Err(source) => return Err(io_error(&self.path.join(name), Doing::Examine, source)),
        };
        let file = self.open_file(name, &examined)?;
        let expected = usize::try_from(examined.size).unwrap_or(usize::MAX).min(bytes_max);
        let mut bytes = vec![0; expected];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read(&mut bytes[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(Some(bytes))
    }

    /// All of the regular file `name`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::TooMuch`] if it has more than `bytes_max` bytes; [`Error::Io`] or [`Error::Changed`] if it
    /// can't be read.
    pub fn read_whole(&self, name: &Name, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
        let bytes = self.read_start(name, bytes_max.saturating_add(1))?;
        if bytes.as_ref().is_some_and(|bytes| bytes.len() > bytes_max) {
            return Err(Error::TooMuch { path: absolute(&self.path.join(name)), what: "bytes" });
        }
        Ok(bytes)
    }

    /// Whether it holds `marker`, a file that says to leave the rest of the directory out.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Changed`] if the marker's first bytes are asked for and can't be read.
    pub fn is_marked_by(&self, marker: &Marker, names: &Names) -> Result<bool, Error> {
        if !names.contains(&marker.name) {
            return Ok(false);
        }
        if marker.header.is_empty() {
            return Ok(true);
        }
        let start = self.read_start(&marker.name, marker.header.len())?;
        Ok(start.is_some_and(|start| *start == *marker.header))
    }
}

// ---- files and the rest ------------------------------------------------------------------------

/// An open regular file on the source disk.
#[derive(Debug)]
pub struct SourceFile {
    handle: OwnedFd,
    path: TreePath,
    stat: Stat,
}

impl SourceFile {
    /// Its absolute path, without the leading slash.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        &self.path
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
        examine(self.handle.as_fd(), b"").map_err(|source| io_error(&self.path, Doing::Examine, source))
    }

    /// Reads on from where the last `read` ended; 0 bytes are the end.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be read.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.reading(|| rustix::io::read(&self.handle, &mut *buffer))
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
                result => return result.map_err(|source| io_error(&self.path, Doing::Read, source)),
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
        self.seek(SeekFrom::Start(0)).map_err(|source| io_error(&self.path, Doing::Read, source))?;
        match runs {
            Ok(mut runs) => {
                keep_longest_holes(&mut runs, DataRun::COUNT_MAX);
                let data: u64 = runs.iter().map(|run| run.length).sum();
                Ok((data < size).then(|| runs.into()))
            }
            // This file system doesn't tell holes from data.
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(None),
            Err(source) => Err(io_error(&self.path, Doing::Read, source)),
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
        Attributes::Handle(self.handle.as_fd()).load(&self.path)
    }
}

/// Joins runs across the shortest holes until there are at most `count_max`, at least 1.
fn keep_longest_holes(runs: &mut Vec<DataRun>, count_max: usize) {
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
pub struct SourceNode {
    handle: OwnedFd,
    path: TreePath,
    stat: Stat,
}

impl SourceNode {
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
            .map_err(|source| io_error(&self.path, Doing::Read, source))
    }

    /// Its extended attributes, sorted by name; none where the file system has no such thing.
    ///
    /// # Errors
    /// [`Error::Io`] if one can't be read, [`Error::TooMuch`] if they have more bytes than an entry takes.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, Error> {
        Attributes::Path(handle_path(self.handle.as_fd())).load(&self.path)
    }
}

// ---- sources -----------------------------------------------------------------------------------

/// One path that somebody asked to back up, found on the disk, with its parents held.
#[derive(Debug)]
pub struct Source {
    path: TreePath,
    parents: Vec<SourceDir>,
}

impl Source {
    /// Finds what `path` names.
    ///
    /// Links among its parents are followed, as any program does; if the last name is a link, the
    /// source is that link itself, unless a slash follows it. The parents are then opened from `/`
    /// down, none of them a link any more.
    ///
    /// # Errors
    /// [`Error::Io`] if a parent can't be found or passed, [`Error::Changed`] if one is being replaced.
    /// Whether the source itself is there, [`examine`](Self::examine) tells.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = path.as_os_str().as_bytes();
        let ends_in_name = !bytes.ends_with(b"/") && !bytes.ends_with(b"/.") && bytes != b".";
        let (Some(name), true) = (path.file_name(), ends_in_name) else {
            return Self::load_real(&real_path(path, path)?);
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut real = real_path(parent.unwrap_or(Path::new(".")), path)?;
        let name = Name::new(name.as_bytes()).map_err(|source| Error::Name {
            path: bytes.into(),
            name: name.as_bytes().into(),
            source,
        })?;
        real.push(&name);
        Self::load_real(&real)
    }

    /// Opens the parents of a path that has no links among them.
    fn load_real(path: &TreePath) -> Result<Self, Error> {
        let mut parents = vec![SourceDir::load_passage_root()?];
        let mut names: Vec<Name> = path.components().collect();
        names.pop();
        for name in names {
            let parent = parents.last().expect("the root was put in").open_passage(&name)?;
            parents.push(parent);
        }
        Ok(Self { path: path.clone(), parents })
    }

    /// Its absolute path, without the leading slash.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// The directories that lead to it: `/`, and so on down to the one that holds it, whose entry for it
    /// is the last name of [`path`](Self::path). If the source is `/`, that alone.
    ///
    /// They may be examined and asked for attributes; they can't be listed.
    #[must_use]
    pub fn parents(&self) -> &[SourceDir] {
        &self.parents
    }

    /// The directory that holds it; `/` if it is that itself.
    #[must_use]
    pub fn parent(&self) -> &SourceDir {
        self.parents.last().expect("the root was put in")
    }

    /// Asks what it is.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be told: there may be nothing.
    pub fn examine(&self) -> Result<Stat, Error> {
        match self.path.last() {
            Some(name) => self.parent().examine(&name),
            None => Ok(*self.parent().stat()),
        }
    }

    /// Opens it as a directory.
    ///
    /// # Errors
    /// [`Error::Io`] if it is none or can't be opened, [`Error::Changed`] if it is being replaced.
    pub fn open_dir(&self) -> Result<SourceDir, Error> {
        let examined = self.examine()?;
        if examined.kind != SourceKind::Directory {
            return Err(io_error(&self.path, Doing::Open, Errno::NOTDIR));
        }
        match self.path.last() {
            Some(name) => self.parent().open_dir(&name, &examined),
            None => {
                let handle = open(rustix::fs::CWD, b"/", OFlags::RDONLY | OFlags::DIRECTORY)
                    .map_err(|source| io_error(&self.path, Doing::Open, source))?;
                let path = Arc::new(TreePath::root());
                Ok(SourceDir { handle, path, stat: examined, is_passage: false })
            }
        }
    }
}

/// Where `path` really is; `asked` is what an error names.
fn real_path(path: &Path, asked: &Path) -> Result<TreePath, Error> {
    let asked = asked.as_os_str().as_bytes();
    let real = std::fs::canonicalize(path).map_err(|source| Error::Io {
        path: asked.into(),
        doing: Doing::Resolve,
        source,
    })?;
    let bytes = real.as_os_str().as_bytes();
    TreePath::parse(bytes.strip_prefix(b"/").unwrap_or(bytes)).map_err(|source| Error::Name {
        path: asked.into(),
        name: bytes.into(),
        source,
    })
}

// ---- the machine -------------------------------------------------------------------------------

/// Names of users and groups, looked up once each.
#[derive(Default)]
pub struct Owners {
    users: HashMap<u32, Arc<str>>,
    groups: HashMap<u32, Arc<str>>,
}

impl Owners {
    /// Nobody looked up yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The owner with these numbers, and with their names where this machine knows them.
    pub fn owner(&mut self, uid: u32, gid: u32) -> Owner {
        let user = self.users.entry(uid).or_insert_with(|| {
            keepable(User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name))
        });
        let group = self.groups.entry(gid).or_insert_with(|| {
            keepable(Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name))
        });
        Owner { uid, gid, user: Arc::clone(user), group: Arc::clone(group) }
    }
}

/// A name that an entry can keep; the empty one in place of any other.
fn keepable(name: Option<String>) -> Arc<str> {
    name.filter(|name| name.len() <= 255 && !name.contains('\0')).unwrap_or_default().into()
}

/// Lets this process open as many files as it may: a handle is held for each directory that it is in.
///
/// Gives how many that are; `None` if there is no limit.
pub fn raise_open_files_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // It stays as it was if this fails, and is told as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// How many directories deep a walk may go in this process: each on the way is held open, and a quarter
/// of the files that may be open is left for everything else, such as the store.
#[must_use]
pub fn depth_max() -> usize {
    use rustix::process::{Resource, getrlimit};
    depth_within(getrlimit(Resource::Nofile).current)
}

fn depth_within(open_files: Option<u64>) -> usize {
    let held = open_files.map_or(u64::MAX, |limit| limit - limit / 4);
    usize::try_from(held).unwrap_or(usize::MAX).min(DEPTH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, XattrFlags};
    use std::ffi::OsStr;
    use std::fs;
    use std::io::{Seek, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    fn name(bytes: &[u8]) -> Name {
        Name::new(bytes).unwrap()
    }

    fn temporary() -> (TempDir, SourceDir) {
        let directory = tempfile::tempdir().unwrap();
        let source = SourceDir::load_root(directory.path()).unwrap();
        (directory, source)
    }

    fn is_changed<T>(result: Result<T, Error>) -> bool {
        matches!(result, Err(Error::Changed { .. }))
    }

    #[test]
    fn hostile_names_are_listed_in_order_and_read() {
        let (directory, source) = temporary();
        let mut hostile: Vec<Vec<u8>> =
            [&b"new\nline"[..], b"\x1b[2J", b"\xff\xfe", &[0xee; 255], b"-rf", b" "]
                .map(<[u8]>::to_vec)
                .into();
        for bytes in &hostile {
            fs::write(directory.path().join(OsStr::from_bytes(bytes)), bytes).unwrap();
        }
        hostile.sort();
        let mut names = source.names().unwrap();
        let listed: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(listed, hostile);
        assert!(names.take_refused().is_empty());
        assert_eq!((names.len(), names.is_empty()), (6, false));
        assert!(names.contains(&name(b"-rf")) && !names.contains(&name(b"-r")));
        for name in names.iter() {
            let read = source.read_whole(&name, 255).unwrap();
            assert_eq!(read.as_deref(), Some(name.as_bytes()));
        }
        assert_eq!(names.get(6), None);
    }

    #[test]
    fn what_a_name_stands_for_is_told_without_following_it() {
        let (directory, source) = temporary();
        fs::write(directory.path().join("file"), b"12345").unwrap();
        fs::set_permissions(directory.path().join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(directory.path().join("file"), directory.path().join("other")).unwrap();
        symlink("/etc/passwd", directory.path().join("link")).unwrap();
        rustix::fs::mknodat(CWD, directory.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();

        let file = source.examine(&name(b"file")).unwrap();
        assert_eq!((file.kind, file.mode, file.size, file.links), (SourceKind::File, 0o4751, 5, 2));
        assert_eq!(file.device, source.stat().device);
        assert!(file.is_on_same_file_system(source.stat()) && !file.is_same_file(source.stat()));
        assert!(file.is_same_file(&source.examine(&name(b"other")).unwrap()));
        let link = source.examine(&name(b"link")).unwrap();
        assert_eq!(link.kind, SourceKind::Symlink);
        let held = source.hold(&name(b"link"), &link).unwrap();
        assert_eq!(&*held.read_link().unwrap(), b"/etc/passwd");
        assert!(held.xattrs().is_ok() && held.stat().is_same_file(&link));
        let pipe = source.examine(&name(b"pipe")).unwrap();
        assert_eq!(pipe.kind, SourceKind::Fifo);
        let held = source.hold(&name(b"pipe"), &pipe).unwrap();
        assert!(held.read_link().is_err() && held.xattrs().is_ok());
        assert_eq!(source.examine(&name(b"socket")).unwrap().kind, SourceKind::Socket);
        drop(socket);

        let missing = source.examine(&name(b"not\x1bthere")).unwrap_err();
        let path = directory.path().canonicalize().unwrap();
        let expected = format!("{}/not\\x1bthere could not be examined", path.display());
        assert_eq!(missing.to_string(), expected);
        assert!(matches!(missing, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn whatever_takes_a_name_after_it_was_examined_is_not_read() {
        let (directory, source) = temporary();
        let at = directory.path().join("victim");
        fs::write(directory.path().join("secret"), b"secret").unwrap();
        fs::create_dir(directory.path().join("elsewhere")).unwrap();
        let victim = name(b"victim");

        fs::write(&at, b"harmless").unwrap();
        let file = source.examine(&victim).unwrap();
        assert!(source.open_file(&victim, &file).is_ok());
        fs::rename(&at, directory.path().join("away")).unwrap();
        symlink("secret", &at).unwrap();
        assert!(is_changed(source.open_file(&victim, &file)), "a link to a file");
        assert!(is_changed(source.hold(&victim, &file)), "a link to a file, held");
        fs::remove_file(&at).unwrap();
        rustix::fs::mknodat(CWD, &at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(is_changed(source.open_file(&victim, &file)), "a pipe without another end");
        fs::remove_file(&at).unwrap();
        fs::write(&at, b"another").unwrap();
        assert!(is_changed(source.open_file(&victim, &file)), "another file");
        fs::remove_file(&at).unwrap();

        fs::create_dir(&at).unwrap();
        let folder = source.examine(&victim).unwrap();
        assert!(source.open_dir(&victim, &folder).is_ok());
        assert!(is_changed(source.open_file(&victim, &folder)), "a directory as a file");
        fs::rename(&at, directory.path().join("moved")).unwrap();
        symlink("elsewhere", &at).unwrap();
        assert!(is_changed(source.open_dir(&victim, &folder)), "a link to a directory");
        fs::remove_file(&at).unwrap();
        fs::create_dir(&at).unwrap();
        assert!(is_changed(source.open_dir(&victim, &folder)), "another directory");
        fs::remove_dir(&at).unwrap();
        let gone = source.open_dir(&victim, &folder);
        assert!(matches!(gone, Err(Error::Io { doing: Doing::Open, .. })), "nothing");
    }

    #[test]
    fn a_directory_is_read_where_it_was_even_if_its_path_leads_elsewhere_now() {
        let (directory, source) = temporary();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("a/b/mine"), b"").unwrap();
        let a = source.open_dir(&name(b"a"), &source.examine(&name(b"a")).unwrap()).unwrap();
        fs::rename(directory.path().join("a"), directory.path().join("moved")).unwrap();
        symlink("/etc", directory.path().join("a")).unwrap();
        let b = a.open_dir(&name(b"b"), &a.examine(&name(b"b")).unwrap()).unwrap();
        let names: Vec<Name> = b.names().unwrap().iter().collect();
        assert_eq!(names, [name(b"mine")]);
    }

    #[test]
    fn paths_longer_than_the_system_takes_are_walked() {
        let (_directory, source) = temporary();
        let long = name(&[b'd'; 255]);
        let mut at = rustix::io::fcntl_dupfd_cloexec(&source.handle, 0).unwrap();
        for _ in 0..40 {
            rustix::fs::mkdirat(&at, long.as_bytes(), Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, long.as_bytes(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let file = rustix::fs::openat(&at, "deep", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
        rustix::io::write(&file, b"down here").unwrap();

        let mut source = source;
        let mut depth = 0;
        while let Some(next) = source.names().unwrap().get(0).filter(|name| *name == long) {
            source = source.open_dir(&next, &source.examine(&next).unwrap()).unwrap();
            depth += 1;
        }
        assert_eq!(depth, 40);
        assert!(source.path().as_bytes().len() > 10_000);
        let names: Vec<Name> = source.names().unwrap().iter().collect();
        assert_eq!(names, [name(b"deep")]);
        assert_eq!(source.read_whole(&names[0], 9).unwrap().as_deref(), Some(&b"down here"[..]));
        assert!(matches!(source.read_whole(&names[0], 8), Err(Error::TooMuch { what: "bytes", .. })));
        assert_eq!(source.read_start(&names[0], 4).unwrap().as_deref(), Some(&b"down"[..]));
        assert_eq!(source.read_start(&name(b"absent"), 4).unwrap(), None);
    }

    #[test]
    fn a_file_is_read_from_its_start_and_at_any_place() {
        let (directory, source) = temporary();
        let path = directory.path().join("file");
        fs::write(&path, b"0123456789").unwrap();
        let file = name(b"file");
        let open = source.open_file(&file, &source.examine(&file).unwrap()).unwrap();
        open.advise_sequential();
        let mut buffer = [0; 4];
        assert_eq!(open.read_at(&mut buffer, 6).unwrap(), 4);
        assert_eq!(&buffer, b"6789");
        assert_eq!(open.read(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer, b"0123");
        open.advise_done(0, 4);
        assert_eq!(open.read_at(&mut buffer, 10).unwrap(), 0);
        assert!(open.examine().unwrap().is_unchanged(open.stat()));
        assert_eq!(open.data_runs().unwrap(), None);
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        let now = open.examine().unwrap();
        assert!(!now.is_unchanged(open.stat()) && now.is_same_file(open.stat()));
        assert_eq!(now.size, 14);
    }

    #[test]
    fn the_data_of_a_sparse_file_is_found() {
        let (directory, source) = temporary();
        let mut file = fs::File::create(directory.path().join("sparse")).unwrap();
        for offset in [1_u64 << 20, 32 << 20] {
            file.seek(io::SeekFrom::Start(offset)).unwrap();
            file.write_all(&[1; 65_536]).unwrap();
        }
        file.set_len(64 << 20).unwrap();
        fs::File::create(directory.path().join("empty hole")).unwrap().set_len(1 << 20).unwrap();

        let runs = |bytes: &[u8]| {
            let stat = source.examine(&name(bytes)).unwrap();
            source.open_file(&name(bytes), &stat).unwrap().data_runs().unwrap()
        };
        let run = |offset| DataRun { offset, length: 65_536 };
        assert_eq!(runs(b"sparse").as_deref(), Some(&[run(1 << 20), run(32 << 20)][..]));
        assert_eq!(runs(b"empty hole").as_deref(), Some(&[][..]));
    }

    #[test]
    fn of_too_many_holes_the_longest_are_kept() {
        let run = |offset, length| DataRun { offset, length };
        let many = vec![run(0, 1), run(3, 1), run(5, 1), run(9, 1), run(11, 1), run(20, 1)];
        let kept = |count| {
            let mut runs = many.clone();
            keep_longest_holes(&mut runs, count);
            runs
        };
        assert_eq!(kept(6), many);
        assert_eq!(kept(5), [run(0, 1), run(3, 3), run(9, 1), run(11, 1), run(20, 1)]);
        assert_eq!(kept(3), [run(0, 6), run(9, 3), run(20, 1)]);
        assert_eq!(kept(1), [run(0, 21)]);
    }

    #[test]
    fn extended_attributes_are_read_through_what_is_held() {
        let (directory, source) = temporary();
        let path = directory.path().join("file");
        fs::write(&path, b"").unwrap();
        let set = |key: &str, value: &[u8]| rustix::fs::setxattr(&path, key, value, XattrFlags::empty());
        if set("user.b", b"").is_err() {
            return; // This file system has none, so there is nothing to read.
        }
        set("user.a", &[7; 3_000]).unwrap();
        let file = source.open_file(&name(b"file"), &source.examine(&name(b"file")).unwrap()).unwrap();
        let xattrs: Vec<Xattr> =
            file.xattrs().unwrap().into_iter().filter(|(key, _)| key.starts_with(b"user.")).collect();
        let expected: [Xattr; 2] =
            [(b"user.a"[..].into(), [7; 3_000][..].into()), (b"user.b"[..].into(), Box::default())];
        assert_eq!(xattrs, expected);
        let held = source.hold(&name(b"file"), file.stat()).unwrap();
        assert_eq!(held.xattrs().unwrap(), file.xattrs().unwrap());

        rustix::fs::setxattr(directory.path(), "user.d", b"x", XattrFlags::empty()).unwrap();
        let found = Source::load(&path).unwrap();
        let passage = found.parent().xattrs().unwrap();
        assert!(passage.contains(&(b"user.d"[..].into(), b"x"[..].into())));
        assert_eq!(passage, source.xattrs().unwrap());
    }

    #[test]
    fn a_source_is_found_through_links_but_may_be_one_itself() {
        let (directory, root) = temporary();
        fs::create_dir_all(directory.path().join("real/inner")).unwrap();
        symlink("real", directory.path().join("link")).unwrap();
        let real = |text: &str| TreePath::parse(&[root.path().as_bytes(), text.as_bytes()].concat()).unwrap();

        let found = Source::load(&directory.path().join("link/inner")).unwrap();
        assert_eq!(found.path(), &real("/real/inner"));
        assert_eq!(found.examine().unwrap().kind, SourceKind::Directory);
        assert!(found.open_dir().unwrap().names().unwrap().is_empty());
        let parents: Vec<TreePath> = found.parents().iter().map(|parent| parent.path().clone()).collect();
        assert_eq!(parents.first(), Some(&TreePath::root()));
        assert_eq!(parents.last(), Some(&real("/real")));
        assert_eq!(parents.len(), found.path().components().count());

        let found = Source::load(&directory.path().join("link")).unwrap();
        assert_eq!(found.path(), &real("/link"));
        assert_eq!(found.examine().unwrap().kind, SourceKind::Symlink);
        assert!(matches!(found.open_dir(), Err(Error::Io { doing: Doing::Open, .. })));
        for directory_asked_for in ["link/", "link/.", "link/inner/.."] {
            let found = Source::load(&directory.path().join(directory_asked_for)).unwrap();
            assert_eq!(found.path(), &real("/real"), "{directory_asked_for}");
        }

        let top = Source::load(Path::new("/")).unwrap();
        assert!(top.path().is_root() && top.parents().len() == 1);
        assert_eq!(top.examine().unwrap().kind, SourceKind::Directory);
        assert!(top.open_dir().unwrap().names().unwrap().contains(&name(b"proc")));

        let absent = Source::load(&directory.path().join("absent")).unwrap();
        assert!(absent.examine().is_err());
        let error = Source::load(&directory.path().join("no/where")).unwrap_err();
        assert!(error.to_string().ends_with("/no/where could not be found"), "{error}");
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            Source::load(Path::new("src")).unwrap().path().as_bytes(),
            &here.join("src").as_os_str().as_bytes()[1..]
        );
        assert_eq!(
            Source::load(Path::new(".")).unwrap().path().as_bytes(),
            &here.as_os_str().as_bytes()[1..]
        );
    }

    #[test]
    fn a_marker_counts_only_if_it_begins_as_it_should() {
        let (directory, source) = temporary();
        let tag = directory.path().join("TAG");
        let plain = Marker::parse("TAG").unwrap();
        let signed = Marker::parse("TAG:Signature").unwrap();
        let is_marked = |marker| source.is_marked_by(marker, &source.names().unwrap()).unwrap();
        assert!(!is_marked(&plain) && !is_marked(&signed));
        fs::write(&tag, b"Sign").unwrap();
        assert!(is_marked(&plain) && !is_marked(&signed));
        fs::write(&tag, b"Signature: 1").unwrap();
        assert!(is_marked(&signed));
        fs::remove_file(&tag).unwrap();
        fs::write(directory.path().join("other"), b"Signature: 1").unwrap();
        symlink("other", &tag).unwrap();
        assert!(is_marked(&plain) && !is_marked(&signed));
    }

    #[test]
    fn names_in_any_order_and_twice_are_sorted_and_kept_once() {
        let mut names = Names::default();
        for bytes in [&b"b"[..], b"a", b"b", b"..", b"a\xff", b"a/b"] {
            names.add(bytes, &TreePath::root()).unwrap();
        }
        names.sort();
        let listed: Vec<Name> = names.iter().collect();
        assert_eq!(listed, [name(b"a"), name(b"a\xff"), name(b"b")]);
        let refused: Vec<String> = names.take_refused().iter().map(ToString::to_string).collect();
        assert_eq!(
            refused,
            ["directory / holds .., which is no name", "directory / holds a/b, which is no name"]
        );
    }

    #[test]
    fn owners_have_names_where_the_machine_knows_them() {
        let mut owners = Owners::new();
        let root = owners.owner(0, 0);
        assert_eq!((&*root.user, root.uid), ("root", 0));
        let again = owners.owner(0, 0);
        assert!(Arc::ptr_eq(&root.user, &again.user));
        let nobody = owners.owner(3_999_999_999, 3_999_999_999);
        assert_eq!((&*nobody.user, &*nobody.group), ("", ""));
        assert_eq!(&*keepable(Some("x".repeat(256))), "");
    }

    #[test]
    fn the_depth_follows_from_the_files_that_may_be_open() {
        let depths = [Some(0), Some(1_024), Some(4_096), Some(5_464), Some(1 << 20), None].map(depth_within);
        assert_eq!(depths, [0, 768, 3_072, 4_096, 4_096, 4_096]);
    }

    #[test]
    fn as_many_files_as_allowed_can_be_opened() {
        let limit = raise_open_files_limit();
        let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!((now.current, limit), (now.maximum, now.maximum));
    }
}

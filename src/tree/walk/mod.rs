//! Reads the source disk, through handles alone, and never follows a symbolic link below a source.
//!
//! A [`SourceDir`] is an open directory. Its names are listed, each is examined without following it,
//! and what is opened must still be what was examined; what was listed as a regular file may also be
//! opened at once, and must be one. From then on everything is read through the handle. So nobody who
//! renames directories or plants links and pipes while a backup runs can lead it elsewhere or make it
//! wait, and paths may be longer than the operating system takes.
//!
//! Nothing here recurses: a caller holds the open directories between a source and where it is.
//! Everything that fails is an [`Error`] of one source path, which has no way to become an error of a
//! store: a source that can't be read is reported, and the backup goes on.

mod attributes;
mod directory;
mod file;
mod machine;
pub mod remove;
mod source;
#[cfg(test)]
mod tests;

pub use crate::tree::walk::directory::Names;
pub use crate::tree::walk::directory::SourceDir;
pub use crate::tree::walk::directory::bytes_below;
pub use crate::tree::walk::file::SourceFile;
pub use crate::tree::walk::file::SourceNode;
pub use crate::tree::walk::machine::Owners;
pub use crate::tree::walk::machine::depth_max;
pub use crate::tree::walk::machine::group_number;
pub use crate::tree::walk::machine::raise_open_files_limit;
pub use crate::tree::walk::machine::user_number;
pub use crate::tree::walk::source::Source;

use std::fmt;
use std::io;

use rustix::fd::AsRawFd as _;
use rustix::fd::BorrowedFd;
use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Statx;
use rustix::fs::StatxFlags;
use rustix::io::Errno;

use crate::tree::entry::Time;
use crate::tree::path;
use crate::tree::path::TreePath;
use crate::tree::path::printable;

/// How a directory can be named by a handle, so that its path's length and its parents don't matter.
const HANDLES: &str = "/proc/self/fd";

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

//! Why something could not be placed.

use crate::tree::path::TreePath;
use crate::tree::path::printable;
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

/// Why something could not be placed. Paths are printed as they are safe to print.
#[derive(Debug)]
pub enum Error {
    /// The target has something in it, and the policy doesn't say what is to become of it.
    NotEmpty {
        /// The target.
        target: PathBuf,
    },
    /// The target is something else than a directory.
    NotDirectory {
        /// The target.
        target: PathBuf,
    },
    /// The target is a symbolic link that belongs to somebody else.
    ForeignLink {
        /// The target.
        target: PathBuf,
    },
    /// Another run places files there now.
    Busy {
        /// The target or its staging directory.
        target: PathBuf,
    },
    /// A staging directory of that name exists and is not a part of this same restore.
    Leftover {
        /// The staging directory.
        staging: PathBuf,
    },
    /// Something came to stand at the target while its files were placed; they are in `staging`.
    Appeared {
        /// The target.
        target: PathBuf,
        /// Where the files are.
        staging: PathBuf,
    },
    /// The target itself could not be reached, made or put in place.
    Target {
        /// The target, its parent or its staging directory.
        target: PathBuf,
        /// What was tried: "made", "read".
        tried: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Something that the policy keeps stands where an entry belongs.
    InTheWay {
        /// The entry.
        path: TreePath,
    },
    /// Two names of one directory are the same to this file system.
    SameName {
        /// The second of them.
        path: TreePath,
    },
    /// Somebody else exchanged or took away what was placed, while the run went on.
    Exchanged {
        /// What is no longer what it was.
        path: TreePath,
    },
    /// Another file system is mounted there.
    OtherFileSystem {
        /// The directory.
        path: TreePath,
    },
    /// The file system or the user's quota is full.
    NoSpace {
        /// What was being written.
        path: TreePath,
        /// As the system says it.
        source: io::Error,
    },
    /// An entry could not be written.
    Entry {
        /// The entry.
        path: TreePath,
        /// What was tried: "made", "written".
        tried: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// What `errno` means for the entry at `path`.
    pub(super) fn entry(path: TreePath, tried: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace { path, source: errno.into() },
            _ => Self::Entry { path, tried, source: errno.into() },
        }
    }

    /// What `errno` means for the target itself.
    pub(super) fn target(target: &Path, tried: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace { path: TreePath::root(), source: errno.into() },
            _ => Self::Target { target: target.to_owned(), tried, source: errno.into() },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &Path| printable(path.as_os_str().as_bytes());
        match self {
            Self::NotEmpty { target } => write!(f, "{} is not empty", shown(target)),
            Self::NotDirectory { target } => write!(f, "{} is not a directory", shown(target)),
            Self::ForeignLink { target } => {
                write!(f, "{} is a symbolic link that belongs to somebody else", shown(target))
            }
            Self::Busy { target } => write!(f, "another run is writing to {}", shown(target)),
            Self::Leftover { staging } => {
                write!(f, "{} exists and is not from an earlier run of this same restore", shown(staging))
            }
            Self::Appeared { target, staging } => write!(
                f,
                "something came to stand at {} meanwhile; the files are in {}",
                shown(target),
                shown(staging)
            ),
            Self::Target { target, tried, .. } => write!(f, "{} could not be {tried}", shown(target)),
            Self::InTheWay { path } => write!(f, "something else stands where {path} belongs"),
            Self::SameName { path } => {
                write!(f, "{path} has the same name as another entry on this file system")
            }
            Self::Exchanged { path } => {
                write!(f, "{path} was exchanged or taken away by somebody else while it was restored")
            }
            Self::OtherFileSystem { path } => write!(f, "another file system is mounted at {path}"),
            Self::NoSpace { path, .. } => write!(f, "no space was left to write {path}"),
            Self::Entry { path, tried, .. } => write!(f, "{path} could not be {tried}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Target { source, .. } | Self::NoSpace { source, .. } | Self::Entry { source, .. } => {
                Some(source)
            }
            _ => None,
        }
    }
}

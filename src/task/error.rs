//! Why a task could not be done.

use std::fmt;
use std::io;

use crate::chunk::join;
use crate::pack;
use crate::task::verify::Problem;
use crate::tree;
use crate::tree::place;
use crate::tree::walk;
use crate::vault::error;

/// Why a task ended before its end. What could not be read of a source is no such thing: that is
/// counted and named, and the task goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The vault could not be read or written, or is not as it should be.
    Vault(error::Error),
    /// A path that was to be backed up isn't there.
    Source(walk::Error),
    /// The target of a restore could not be written.
    Target(place::Error),
    /// What was asked for would do harm, or can't be done.
    Refused {
        /// What, and why not, lower case.
        what: String,
    },
    /// There isn't room for the files that are to be restored.
    NoRoom {
        /// How many bytes they have.
        needed: u64,
        /// How many are free.
        free: u64,
    },
    /// The stream that was to be backed up failed.
    Stream(io::Error),
    /// The archive that was to be imported is not taken.
    Archive(tree::tar::Error),
    /// Where a file's bytes were to be written failed.
    Output(io::Error),
    /// A chunk could not be packed, or this machine computes wrongly.
    Pack(pack::Error),
    /// A tree or list could not be laid out or read.
    Node(tree::node::Error),
    /// The chunks of a file don't make the file.
    Join(join::Error),
    /// A check found something that no part of the vault is to blame for alone.
    Found(Problem),
    /// There is nothing to do.
    Nothing {
        /// What there is nothing of, lower case.
        what: &'static str,
    },
    /// Objects keep vanishing from the vault while they are being relied on.
    Unsteady {
        /// How many were missing at the last look.
        missing: usize,
    },
    /// The person ended it.
    Interrupted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault(error) => error.fmt(f),
            Self::Source(error) => error.fmt(f),
            Self::Target(error) => error.fmt(f),
            Self::Archive(error) => error.fmt(f),
            Self::Refused { what } => f.write_str(what),
            Self::NoRoom { needed, free } => {
                write!(f, "the files have {needed} bytes, and where they are to go {free} are free")
            }
            Self::Output(_) => write!(f, "what was read could not be written out"),
            Self::Stream(_) => write!(f, "what was to be backed up could not be read to its end"),
            Self::Pack(error) => error.fmt(f),
            Self::Node(error) => error.fmt(f),
            Self::Join(error) => error.fmt(f),
            Self::Found(problem) => problem.fmt(f),
            Self::Nothing { what } => write!(f, "there is nothing to do: {what}"),
            Self::Unsteady { missing } => {
                write!(f, "{missing} objects that were just stored are not in the vault")
            }
            Self::Interrupted => write!(f, "interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Vault(error) => error.source(),
            Self::Source(error) => error.source(),
            Self::Target(error) => error.source(),
            Self::Archive(error) => error.source(),
            Self::Stream(error) | Self::Output(error) => Some(error),
            Self::Pack(error) => error.source(),
            Self::Node(error) => error.source(),
            Self::Join(error) => error.source(),
            Self::Found(_)
            | Self::Nothing { .. }
            | Self::Refused { .. }
            | Self::NoRoom { .. }
            | Self::Unsteady { .. }
            | Self::Interrupted => None,
        }
    }
}

impl From<error::Error> for Error {
    fn from(error: error::Error) -> Self {
        Self::Vault(error)
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Vault(error) => Self::Vault(error),
            problem => Self::Found(problem),
        }
    }
}

impl From<join::Error> for Error {
    fn from(error: join::Error) -> Self {
        Self::Join(error)
    }
}

impl From<place::Error> for Error {
    fn from(error: place::Error) -> Self {
        Self::Target(error)
    }
}

impl From<tree::tar::Error> for Error {
    fn from(error: tree::tar::Error) -> Self {
        Self::Archive(error)
    }
}

impl From<pack::Error> for Error {
    fn from(error: pack::Error) -> Self {
        Self::Pack(error)
    }
}

impl From<tree::node::CallError<Error>> for Error {
    fn from(error: tree::node::CallError<Error>) -> Self {
        match error {
            tree::node::CallError::Call(error) => error,
            tree::node::CallError::Node(error) => Self::Node(error),
        }
    }
}

impl From<tree::node::CallError<error::Error>> for Error {
    fn from(error: tree::node::CallError<error::Error>) -> Self {
        match error {
            tree::node::CallError::Call(error) => Self::Vault(error),
            tree::node::CallError::Node(error) => Self::Node(error),
        }
    }
}

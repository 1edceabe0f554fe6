//! Why an archive isn't taken.

use std::fmt;
use std::io;

use crate::codec;
use crate::tree::entry::DataRun;
use crate::tree::path;
use crate::tree::path::printable;
use crate::tree::tar::collect::BYTES_MAX;
use crate::tree::tar::collect::DEPTH_MAX;
use crate::tree::tar::collect::PATH_BYTES_MAX;

/// Why an archive isn't taken.
#[derive(Debug)]
pub enum Error {
    /// It could not be read.
    Io(io::Error),
    /// It begins with nothing that a tar archive begins with.
    NotTar,
    /// It is compressed; this prints it as it was.
    Compressed {
        /// Program and arguments.
        with: &'static str,
    },
    /// It ends before its end.
    CutShort,
    /// Something follows its end.
    Trailing,
    /// A header or record is not as it was written.
    Damaged {
        /// Where, in bytes from the beginning.
        at: u64,
        /// What it is about, lower case.
        what: &'static str,
    },
    /// A member is refused.
    Refused {
        /// Its name in the archive.
        name: Box<[u8]>,
        /// Why.
        why: Why,
    },
    /// It has more members than can be held.
    TooMuch,
}

/// Why a member of an archive is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its name could lead out of the folder that it is put into, or is none.
    Path(path::Error),
    /// Its name, or that of what it is a further name of, begins with a slash.
    Absolute,
    /// The root of the archive is no directory.
    Root,
    /// It lies too deep.
    Deep,
    /// Its path is too long.
    Long,
    /// It is of a type that isn't known.
    Type(u8),
    /// Its header and its records tell two lengths.
    Size,
    /// It has content and is of a type that has none.
    Content,
    /// A record is there twice, or one that would hold for all members.
    Record(Box<[u8]>),
    /// What a record or field says can't be.
    Value(&'static str),
    /// Its holes don't fit its length or its data.
    Holes,
    /// It has more holes than a snapshot keeps.
    ManyHoles,
    /// The path is in the archive twice.
    Twice,
    /// Something that is no directory is in its way.
    Below,
    /// It is a further name of something that isn't before it in the archive.
    LinkTarget(Box<[u8]>),
    /// A snapshot can't keep it.
    Kept(codec::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => write!(f, "the archive could not be read"),
            Self::NotTar => write!(f, "this is no tar archive"),
            Self::Compressed { .. } => write!(f, "the archive is compressed"),
            Self::CutShort => write!(f, "the archive is cut short"),
            Self::Trailing => write!(f, "something follows the end of the archive"),
            Self::Damaged { at, what } => write!(f, "the archive is damaged at byte {at}: {what}"),
            Self::Refused { name, why } => write!(f, "{} in the archive {why}", printable(name)),
            Self::TooMuch => write!(f, "the archive has more members than fit into {} MiB", BYTES_MAX >> 20),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => write!(f, "has a path that is not taken: {error}"),
            Self::Absolute => write!(f, "has a name that begins with a slash"),
            Self::Root => write!(f, "is the root and no directory"),
            Self::Deep => write!(f, "lies more than {DEPTH_MAX} directories deep"),
            Self::Long => write!(f, "has a path of more than {PATH_BYTES_MAX} bytes"),
            Self::Type(flag) => write!(f, "is of the unknown type {:?}", char::from(*flag)),
            Self::Size => write!(f, "has two different lengths"),
            Self::Content => write!(f, "has content and is no file"),
            Self::Record(keyword) => write!(f, "has a record that is not taken: {}", printable(keyword)),
            Self::Value(what) => write!(f, "has {what} that can't be"),
            Self::Holes => write!(f, "has holes that don't fit its data"),
            Self::ManyHoles => write!(f, "has more than {} holes", DataRun::COUNT_MAX),
            Self::Twice => write!(f, "is there twice"),
            Self::Below => write!(f, "lies below something that is no directory"),
            Self::LinkTarget(target) => {
                write!(f, "is a hard link to {}, which is no file before it", printable(target))
            }
            Self::Kept(error) => write!(f, "can't be kept: {error}"),
        }
    }
}

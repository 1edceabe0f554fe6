//! Where a new sealed file goes: to a name, to parts, or into a stream.

use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use rustix::io::Errno;

use super::super::Error;
use super::file::PARTS_MAX;
use super::files::Files;
use super::hold::Stamp;
use super::joined::Joined;

/// The shortest parts that a file is cut into.
pub const PART_BYTES_MIN: u64 = 64 << 10;

/// Where a new sealed file is to go.
pub struct Target(Kind);

enum Kind {
    Named { path: PathBuf, part_bytes: Option<u64>, replaces: bool },
    Stream(Box<dyn Write + Send>),
}

impl Target {
    /// A file at `path`, which must be free. A link there counts as something that is there.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self(Kind::Named { path: path.to_owned(), part_bytes: None, replaces: false })
    }

    /// Files `path.001`, `path.002` and so on of `part_bytes` bytes, the last one shorter or as long.
    ///
    /// At least [`PART_BYTES_MIN`] bytes each and at most 999 files; none may be there, nor one at `path`.
    #[must_use]
    pub fn parts(path: &Path, part_bytes: u64) -> Self {
        Self(Kind::Named { path: path.to_owned(), part_bytes: Some(part_bytes), replaces: false })
    }

    /// A stream, such as a pipe, of which nothing can be read back.
    #[must_use]
    pub fn stream(writer: Box<dyn Write + Send>) -> Self {
        Self(Kind::Stream(writer))
    }

    /// The same, in place of what has the name or names, once the new file is whole.
    ///
    /// It keeps the mode and, as far as that is allowed, the owner of what was there. Parts can't all be
    /// replaced at once, nor a whole file by parts: what was there is set aside meanwhile, and whoever comes after a
    /// power cut finds either all of it or all new parts.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        if let Kind::Named { replaces, .. } = &mut self.0 {
            *replaces = true;
        }
        self
    }
}

/// A target that is being written to. Dropped before it is finished it leaves no file behind.
pub(super) enum Sink {
    Files(Files),
    Stream(Box<dyn Write + Send>),
}

impl Sink {
    /// Looks whether the target may be written to, and locks what it is to replace; nothing is made before the
    /// first write. `before` is what has to be there to be replaced, or empty if anything may be.
    ///
    /// # Errors
    /// [`Error::Busy`]; [`Error::Changed`];
    /// [`Error::Occupied`]; [`Error::PartSize`]; [`Error::Denied`], [`Error::ReadOnly`] or
    /// [`Error::Place`] of the folder.
    pub(super) fn new(target: Target, before: &[Stamp]) -> Result<Self, Error> {
        Ok(match target.0 {
            Kind::Named { path, part_bytes, replaces } => {
                Self::Files(Files::new(path, part_bytes, replaces, before)?)
            }
            Kind::Stream(writer) => Self::Stream(writer),
        })
    }

    /// Where this is, for messages.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Files(files) => files.path.display().to_string(),
            Self::Stream(_) => "the output".to_owned(),
        }
    }

    /// Refuses a whole of `bytes` bytes that would take too many parts.
    pub(super) fn check_length(&self, bytes: u64) -> Result<(), Error> {
        match self {
            Self::Files(files) if bytes > 0 && files.joined.locate(bytes - 1).0 >= PARTS_MAX => {
                Err(Error::PartSize { place: self.place() })
            }
            _ => Ok(()),
        }
    }

    /// Appends `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Files(files) => files.write(bytes),
            Self::Stream(writer) => {
                writer.write_all(bytes).map_err(|source| stream_failure(self.place(), source))
            }
        }
    }

    /// What was written, to be read; nothing if it can't be.
    pub(super) fn written(&self) -> Option<Joined> {
        match self {
            Self::Files(files) => Some(files.joined.clone()),
            Self::Stream(_) => None,
        }
    }

    /// Leaves nothing of it behind, but for what a stream has taken.
    pub(super) fn abandon(&mut self) {
        if let Self::Files(files) = self {
            files.abandon();
        }
    }

    /// Ends it: files survive a power cut and have their names once this returns.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        match self {
            Self::Files(files) => files.finish(),
            Self::Stream(writer) => writer.flush().map_err(|source| stream_failure(self.place(), source)),
        }
    }
}

/// What it means that a stream can't be written to.
fn stream_failure(place: String, source: io::Error) -> Error {
    match Errno::from_io_error(&source) {
        Some(Errno::NOSPC | Errno::DQUOT) => Error::NoRoom { place },
        _ => Error::Place { place, source },
    }
}

//! Files read as one, end to end: the parts of a sealed file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::id::ObjectName;

use super::super::Error;

/// One file, or several of one length of which the last may be shorter; a clone reads the same files.
#[derive(Clone)]
pub(super) struct Joined {
    files: Vec<Arc<File>>,
    part_bytes: u64,
}

impl Joined {
    /// A single file.
    pub(super) fn one(file: File) -> Self {
        Self { files: vec![Arc::new(file)], part_bytes: u64::MAX }
    }

    /// No file yet; all but the last will have `part_bytes`, which isn't 0.
    pub(super) fn of_parts(part_bytes: u64) -> Self {
        Self { files: Vec::new(), part_bytes }
    }

    /// Appends a part.
    pub(super) fn push(&mut self, file: File) {
        self.files.push(Arc::new(file));
    }

    /// The parts in order.
    pub(super) fn files(&self) -> &[Arc<File>] {
        &self.files
    }

    /// The index of the part that holds the byte at `offset`, the offset in it, and how many bytes of the
    /// part lie from there on.
    pub(super) fn locate(&self, offset: u64) -> (usize, u64, u64) {
        let within = offset % self.part_bytes;
        let index = usize::try_from(offset / self.part_bytes).unwrap_or(usize::MAX);
        (index, within, self.part_bytes - within)
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Of kind `UnexpectedEof` if the files end before; what the system says otherwise.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut rest, mut at) = (buffer, offset);
        while !rest.is_empty() {
            let (index, within, room) = self.locate(at);
            let file = self.files.get(index).ok_or(io::ErrorKind::UnexpectedEof)?;
            let length = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
            let (now, later) = rest.split_at_mut(length);
            file.read_exact_at(now, within)?;
            (rest, at) = (later, at + length_of(now));
        }
        Ok(())
    }

    /// The bytes of an object at `range`, which the caller has held against what there is.
    ///
    /// # Errors
    /// [`Error::Short`] if the files were cut since; [`Error::TooLarge`] if there is no memory for that
    /// much; [`Error::Io`].
    pub(super) fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let too_large = || Error::TooLarge { name: name.clone() };
        let wanted = usize::try_from(range.end - range.start).map_err(|_| too_large())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(wanted).map_err(|_| too_large())?;
        bytes.resize(wanted, 0);
        self.read_exact_at(&mut bytes, range.start).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::Short { name: name.clone() },
            _ => Error::Io { name: name.clone(), source },
        })?;
        Ok(bytes)
    }
}

/// The part of an object of `bytes` bytes at `offset` that `range` means.
///
/// # Errors
/// [`Error::Short`] if the object ends before the range does, or the range before it starts.
pub(super) fn within(
    name: &ObjectName,
    range: &Range<u64>,
    offset: u64,
    bytes: u64,
) -> Result<Range<u64>, Error> {
    if range.start <= range.end && range.end <= bytes {
        Ok(offset + range.start..offset + range.end)
    } else {
        Err(Error::Short { name: name.clone() })
    }
}

/// How many bytes these are, in the type that offsets have.
pub(super) fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits 64 bits")
}

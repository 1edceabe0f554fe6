//! The snapshot's body: all that is said of a snapshot beside its header, for readers only.

use std::fmt;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::id::ChunkId;
use crate::id::Digest;
use crate::id::JobId;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::TreeRef;
use crate::vault::record::Head;
use crate::vault::record::read_heads;
use crate::vault::record::write_heads;

/// The version of the layout.
const VERSION: u32 = 1;
/// The most index objects that a body names.
pub const INDEXES_MAX: usize = 64;
/// The most that a body has, in bytes: far beyond what `backup` writes, far below what hurts.
pub const BODY_BYTES_MAX: u64 = 16 << 20;

/// The most bytes of a host's or program's name, or of one tag.
pub const TEXT_BYTES_MAX: usize = 65_535;

/// Why bytes are no body of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The layout is broken.
    Layout(codec::Error),
    /// Another version of the layout.
    Newer,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(error) => error.fmt(f),
            Self::Newer => f.write_str("its body was made by a newer strongroom"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Layout(error) => Some(error),
            Self::Newer => None,
        }
    }
}

impl From<codec::Error> for Error {
    fn from(error: codec::Error) -> Self {
        Self::Layout(error)
    }
}

/// What was counted while the snapshot was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else that is in the snapshot: links, FIFOs, devices.
    pub others: u64,
    /// Of all files, as their sizes say.
    pub bytes: u64,
    /// Files that were not in the parent snapshot.
    pub files_new: u64,
    /// Files that were in it with other content.
    pub files_changed: u64,
    /// Files that were in it with this content, read again or not.
    pub files_unchanged: u64,
    /// Bytes of chunks that the vault did not hold.
    pub bytes_new: u64,
    /// Bytes that were stored for them.
    pub bytes_stored: u64,
    /// Sockets and other things that a backup leaves out.
    pub skipped: u64,
    /// Entries that could not be read.
    pub errors: u64,
}

impl Counts {
    const FIELDS: usize = 11;

    fn fields(&self) -> [u64; Self::FIELDS] {
        [
            self.files,
            self.directories,
            self.others,
            self.bytes,
            self.files_new,
            self.files_changed,
            self.files_unchanged,
            self.bytes_new,
            self.bytes_stored,
            self.skipped,
            self.errors,
        ]
    }

    fn from_fields(fields: [u64; Self::FIELDS]) -> Self {
        let [files, directories, others, bytes, files_new, files_changed, rest @ ..] = fields;
        let [files_unchanged, bytes_new, bytes_stored, skipped, errors] = rest;
        Self {
            files,
            directories,
            others,
            bytes,
            files_new,
            files_changed,
            files_unchanged,
            bytes_new,
            bytes_stored,
            skipped,
            errors,
        }
    }
}

/// An index object that the snapshot's chunks are found by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexRef {
    /// As a header of the device lists it.
    pub name: Digest,
    /// The first id in it, cut to 16 bytes; zero in the first part of an index.
    pub first: [u8; 16],
}

/// An entry of the source that could not be read or was not as it had been listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadError {
    /// Raw path bytes.
    pub path: Vec<u8>,
    /// What happened.
    pub message: String,
}

/// A snapshot's body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    /// Names the job: the same paths and profile on the same device give the same 16 bytes.
    pub job: JobId,
    /// The paths that were backed up, absolute.
    pub paths: Vec<Vec<u8>>,
    /// The tree of `/`.
    pub root: TreeRef,
    /// What was counted.
    pub counts: Counts,
    /// What could not be read; the first [`Body::ERRORS_MAX`] of them.
    pub errors: Vec<ReadError>,
    /// The name of the machine, or what was given for it.
    pub host: String,
    /// When the backup began, in nanoseconds since 1970 UTC; what `--time` gave.
    pub begun: u64,
    /// How long it took, in nanoseconds.
    pub took: u64,
    /// Name and version of the program.
    pub program: String,
    /// What the person said of it.
    pub tags: Vec<String>,
    /// The indexes that hold its chunks, newest first.
    pub indexes: Vec<IndexRef>,
    /// Chain places of the device's own snapshots whose chunks this one uses again.
    pub reused: Vec<u64>,
    /// The newest states of other devices that this one had seen.
    pub seen: Vec<Head>,
    /// Where it came from, if it was copied or imported.
    pub origin: Option<String>,
    /// The sender's signature and proof, if it was sealed with one.
    pub sender: Option<Vec<u8>>,
}

impl Body {
    /// How many read errors are kept by name; all are counted.
    pub const ERRORS_MAX: usize = 1_000;

    /// What it has more of than the format takes, if anything: to be asked before [`Body::encode`].
    #[must_use]
    pub fn excess(&self) -> Option<&'static str> {
        if self.host.len() > TEXT_BYTES_MAX {
            return Some("letters in the machine's name");
        }
        if self.program.len() > TEXT_BYTES_MAX {
            return Some("letters in the program's name");
        }
        if self.tags.iter().any(|tag| tag.len() > TEXT_BYTES_MAX) {
            return Some("letters in a tag");
        }
        (self.indexes.len() > INDEXES_MAX).then_some("indexes")
    }

    /// Encodes it, without padding.
    ///
    /// # Panics
    /// If a text is longer than its length field can say: [`Body::excess`] tells before.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u32(VERSION).bytes(&self.job.0);
        out.count(self.paths.len());
        for path in &self.paths {
            out.sized(path);
        }
        out.u8(self.root.depth).bytes(&self.root.reference.id.0).u32(self.root.reference.length);
        for field in self.counts.fields() {
            out.u64(field);
        }
        out.count(self.errors.len());
        for error in &self.errors {
            out.sized(&error.path).sized(error.message.as_bytes());
        }
        out.sized_short(self.host.as_bytes()).u64(self.begun).u64(self.took);
        out.sized_short(self.program.as_bytes());
        out.count(self.tags.len());
        for tag in &self.tags {
            out.sized_short(tag.as_bytes());
        }
        out.count(self.indexes.len());
        for index in &self.indexes {
            out.bytes(&index.name.0).bytes(&index.first);
        }
        out.count(self.reused.len());
        for seq in &self.reused {
            out.u64(*seq);
        }
        write_heads(&mut out, &self.seen);
        for optional in [self.origin.as_deref().map(str::as_bytes), self.sender.as_deref()] {
            match optional {
                None => out.u8(0),
                Some(bytes) => out.u8(1).sized(bytes),
            };
        }
        out.finish()
    }

    /// Reads a body and checks that only zero padding follows.
    ///
    /// # Errors
    /// [`Error::Layout`] or [`Error::Newer`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut from = Reader::new(bytes);
        if from.u32()? != VERSION {
            return Err(Error::Newer);
        }
        let job = JobId(from.array()?);
        let paths = rows(&mut from, 4, |from| Ok(from.sized()?.to_vec()))?;
        let root = TreeRef {
            depth: from.u8()?,
            reference: ChunkRef { id: ChunkId(from.array()?), length: from.u32()? },
        };
        let mut fields = [0; Counts::FIELDS];
        for field in &mut fields {
            *field = from.u64()?;
        }
        let errors = rows(&mut from, 8, |from| {
            Ok(ReadError { path: from.sized()?.to_vec(), message: long_text(from)? })
        })?;
        let host = from.text()?.to_owned();
        let begun = from.u64()?;
        let took = from.u64()?;
        let program = from.text()?.to_owned();
        let tags = rows(&mut from, 2, |from| Ok(from.text()?.to_owned()))?;
        let indexes =
            rows(&mut from, 48, |from| Ok(IndexRef { name: Digest(from.array()?), first: from.array()? }))?;
        let reused = rows(&mut from, 8, |from| from.u64())?;
        let seen = read_heads(&mut from)?;
        let origin = optional(&mut from, long_text)?;
        let sender = optional(&mut from, |from| Ok(from.sized()?.to_vec()))?;
        let padding = from.remaining();
        from.zeros(padding)?;
        if indexes.len() > INDEXES_MAX || !in_order(&indexes) {
            return Err(codec::Error::NotCanonical("indexes").into());
        }
        Ok(Self {
            job,
            paths,
            root,
            counts: Counts::from_fields(fields),
            errors,
            host,
            begun,
            took,
            program,
            tags,
            indexes,
            reused,
            seen,
            origin,
            sender,
        })
    }
}

/// Whether each index begins with a part from zero on and goes on with ascending ones: a look-up
/// leans on it.
#[must_use]
pub fn in_order(indexes: &[IndexRef]) -> bool {
    let begins = indexes.first().is_none_or(|index| index.first == [0; 16]);
    begins && indexes.windows(2).all(|pair| pair[1].first == [0; 16] || pair[0].first < pair[1].first)
}

fn rows<'a, T>(
    from: &mut Reader<'a>,
    row_bytes_min: usize,
    read: impl Fn(&mut Reader<'a>) -> Result<T, codec::Error>,
) -> Result<Vec<T>, codec::Error> {
    let count = from.count(row_bytes_min)?;
    (0..count).map(|_| read(from)).collect()
}

fn long_text(from: &mut Reader<'_>) -> Result<String, codec::Error> {
    String::from_utf8(from.sized()?.to_vec()).map_err(|_| codec::Error::NotCanonical("text"))
}

fn optional<'a, T>(
    from: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, codec::Error>,
) -> Result<Option<T>, codec::Error> {
    match from.u8()? {
        0 => Ok(None),
        1 => read(from).map(Some),
        _ => Err(codec::Error::NotCanonical("option")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Body {
        Body {
            job: JobId([1; 16]),
            paths: vec![b"/home".to_vec()],
            root: TreeRef { depth: 0, reference: ChunkRef { id: ChunkId([2; 32]), length: 9 } },
            counts: Counts::default(),
            errors: Vec::new(),
            host: "host".to_owned(),
            begun: 1,
            took: 2,
            program: "strongroom".to_owned(),
            tags: vec!["tag".to_owned()],
            indexes: Vec::new(),
            reused: vec![1],
            seen: Vec::new(),
            origin: None,
            sender: None,
        }
    }

    fn indexes(firsts: &[u8]) -> Vec<IndexRef> {
        let reference = |first: &u8| IndexRef { name: Digest([9; 32]), first: [*first; 16] };
        firsts.iter().map(reference).collect()
    }

    #[test]
    fn a_body_of_another_version_is_newer_and_not_damaged() {
        let mut bytes = body().encode();
        assert_eq!(Body::decode(&bytes), Ok(body()));
        bytes[0] = 2;
        assert_eq!(Body::decode(&bytes), Err(Error::Newer));
    }

    #[test]
    fn an_index_whose_parts_do_not_ascend_is_refused() {
        for (firsts, good) in
            [(&[0, 3, 7, 0, 0, 5][..], true), (&[0, 7, 3], false), (&[0, 3, 3], false), (&[3], false)]
        {
            let body = Body { indexes: indexes(firsts), ..body() };
            assert_eq!(Body::decode(&body.encode()).is_ok(), good, "{firsts:?}");
        }
    }

    #[test]
    fn what_no_reader_takes_is_told_before_it_is_encoded() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert_eq!(body().excess(), None);
        assert!(Body { host: long.clone(), ..body() }.excess().is_some());
        assert!(Body { program: long.clone(), ..body() }.excess().is_some());
        assert!(Body { tags: vec![long[1..].to_owned()], ..body() }.excess().is_none());
        assert!(Body { tags: vec![long], ..body() }.excess().is_some());
        assert!(Body { indexes: indexes(&[0; INDEXES_MAX + 1]), ..body() }.excess().is_some());
    }
}

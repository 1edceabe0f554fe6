//! Members of an archive, one after the other, with their content.
//!
//! Read are archives of the seventh edition, ustar, GNU ones (long names, old sparse files) and pax ones
//! (GNU's sparse forms 0.0, 0.1 and 1.0). A leading `./` is the root of the archive, as `tar .` writes it.
//! Refused are names that begin with `/`, which some programs take for the root of the disk, and what
//! programs read differently: a length that header and record don't agree on, records that are there twice,
//! a member with content that should have none, types that aren't known; and so is an archive without its
//! end or with anything but zeros behind it.

use std::io;
use std::io::Read;
use std::sync::Arc;

use tar::GnuExtSparseHeader;
use tar::Header;

use crate::tree::entry::DataRun;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Owner;
use crate::tree::entry::Time;
use crate::tree::entry::Xattr;
use crate::tree::path::TreePath;
use crate::tree::tar::BLOCK_BYTES;
use crate::tree::tar::describe::Before;
use crate::tree::tar::describe::Described;
use crate::tree::tar::describe::Holes;
use crate::tree::tar::describe::add_listed;
use crate::tree::tar::error::Error;
use crate::tree::tar::error::Why;
use crate::tree::tar::keyword;
use crate::tree::tar::padding;
use crate::tree::tar::pax;
use crate::tree::tar::pax::Record;
use crate::tree::tar::sparse;

/// The most that the records or the long name of one member may have: all that an entry keeps, twice.
const EXTENSION_BYTES_MAX: u64 = 2 << 20;

/// How compressed files begin, and what prints them as they were.
const COMPRESSED: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip -dc"),
    (b"\x28\xb5\x2f\xfd", "zstd -dc"),
    (b"\xfd7zXZ\0", "xz -dc"),
    (b"BZh", "bzip2 -dc"),
    (b"\x04\x22\x4d\x18", "lz4 -dc"),
    (b"LZIP", "lzip -dc"),
];

/// The type bytes of what says something about a member to come.
mod flag {
    pub const GNU_LONG_NAME: u8 = b'L';
    pub const GNU_LONG_TARGET: u8 = b'K';
    pub const RECORDS: u8 = b'x';
    pub const RECORDS_FOR_ALL: u8 = b'g';
}

/// Something in an archive.
#[derive(Debug)]
pub struct Member {
    /// Where it lies; the root of the archive is one of its members at times.
    pub path: TreePath,
    /// What it is.
    pub what: What,
    /// Permissions, with setuid, setgid and sticky.
    pub mode: u32,
    /// Whom it belongs to.
    pub owner: Owner,
    /// When its contents were last changed.
    pub modified: Time,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// What could not be made sense of and is not among these, lower case.
    pub lost: Option<String>,
}

/// What a member is.
#[derive(Debug)]
pub enum What {
    /// A file, whose content [`TarReader::read`] gives.
    File {
        /// Its length, holes included.
        size: u64,
        /// Where its data lies, if it has holes.
        sparse: Option<Box<[DataRun]>>,
    },
    /// A further name of another member.
    HardLink {
        /// Where that lies.
        target: TreePath,
    },
    /// Anything else; a directory is without its entries.
    Other(EntryKind),
}

/// Reads an archive from its beginning to its end, once.
pub struct TarReader<R> {
    from: R,
    /// How much was read.
    at: u64,
    content_left: u64,
    padding: u64,
    /// Records that hold for every member that has none of the same keyword.
    for_all: Vec<Record>,
    /// The owner of the member before, whose names many have.
    last_owner: Owner,
}

impl<R: Read> TarReader<R> {
    /// An archive that is read from its first byte.
    pub fn new(from: R) -> Self {
        let last_owner = Owner { uid: 0, gid: 0, user: Arc::default(), group: Arc::default() };
        Self { from, at: 0, content_left: 0, padding: 0, for_all: Vec::new(), last_owner }
    }

    /// The next member; none once the archive's end was read, and nothing but zeros behind it.
    ///
    /// Content of the last member that wasn't read is passed over.
    ///
    /// # Errors
    /// One of [`Error`]; nothing can be read after it.
    pub fn next_member(&mut self) -> Result<Option<Member>, Error> {
        self.skip_content()?;
        let mut before = Before::default();
        loop {
            let at = self.at;
            let Some(header) = self.header()? else {
                if !before.is_empty() {
                    return Err(Error::Damaged { at, what: "records that no member follows" });
                }
                return Ok(None);
            };
            match header.entry_type().as_byte() {
                flag::RECORDS => once(&mut before.records, self.records(&header, at)?, at)?,
                flag::RECORDS_FOR_ALL => self.add_for_all(&header, at)?,
                flag::GNU_LONG_NAME => once(&mut before.name, self.long_name(&header, at)?, at)?,
                flag::GNU_LONG_TARGET => once(&mut before.target, self.long_name(&header, at)?, at)?,
                _ => return self.member(&header, before).map(Some),
            }
        }
    }

    /// Reads content of the member that was given last: of a sparse file its data alone, one run after
    /// the other. Gives 0 at its end, and for a member without content.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::CutShort`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let wanted = usize::try_from(self.content_left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.read_some(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(Error::CutShort);
        }
        self.content_left -= read as u64;
        Ok(read)
    }

    /// How much of the member's content [`TarReader::read`] has still to give.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.content_left
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        let mut passed_over = [0; 16 * BLOCK_BYTES];
        while self.read(&mut passed_over)? > 0 {}
        self.content_left = std::mem::take(&mut self.padding);
        while self.read(&mut passed_over)? > 0 {}
        Ok(())
    }

    /// As much as comes at once.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.from.read(buffer) {
                Ok(read) => {
                    self.at += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
    }

    /// Reads a block, and says how much of it there was.
    fn fill(&mut self, block: &mut [u8; BLOCK_BYTES]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.read_some(&mut block[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// The next block.
    fn block(&mut self) -> Result<[u8; BLOCK_BYTES], Error> {
        let mut block = [0; BLOCK_BYTES];
        if self.fill(&mut block)? == BLOCK_BYTES { Ok(block) } else { Err(Error::CutShort) }
    }

    /// The next header, its sum checked; none at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let at = self.at;
        let mut block = [0; BLOCK_BYTES];
        let filled = self.fill(&mut block)?;
        let header = Header::from_byte_slice(&block).clone();
        let is_sound = filled == BLOCK_BYTES && header.cksum().ok() == Some(sum(&block));
        if filled == BLOCK_BYTES && block == [0; BLOCK_BYTES] {
            return self.end().map(|()| None);
        }
        if at == 0 && !is_sound {
            return Err(no_archive(&block[..filled]));
        }
        if filled < BLOCK_BYTES {
            return Err(Error::CutShort);
        }
        if !is_sound {
            return Err(Error::Damaged { at, what: "a header's sum is wrong" });
        }
        let is_known = header.as_ustar().is_some() || header.as_gnu().is_some();
        if !is_known && block[257..].starts_with(b"ustar") {
            return Err(Error::Damaged { at, what: "a header is of an unknown format" });
        }
        Ok(Some(header))
    }

    /// Reads on from the first empty block: there must be a second, and nothing but zeros behind it.
    fn end(&mut self) -> Result<(), Error> {
        let at = self.at;
        if self.block()? != [0; BLOCK_BYTES] {
            return Err(Error::Damaged { at, what: "an empty block stands alone" });
        }
        let mut behind = [0; 16 * BLOCK_BYTES];
        loop {
            match self.read_some(&mut behind)? {
                0 => return Ok(()),
                read if behind[..read].iter().any(|byte| *byte != 0) => return Err(Error::Trailing),
                _ => {}
            }
        }
    }

    /// The content of a header that says something about a member to come.
    fn extension(&mut self, header: &Header, at: u64) -> Result<Vec<u8>, Error> {
        let bytes = header.entry_size().ok().filter(|bytes| *bytes <= EXTENSION_BYTES_MAX);
        let bytes = bytes.ok_or(Error::Damaged { at, what: "records or a name are too long" })?;
        self.content_left = bytes;
        self.padding = padding(bytes);
        let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let mut filled = 0;
        while filled < content.len() {
            filled += self.read(&mut content[filled..])?;
        }
        self.skip_content()?;
        Ok(content)
    }

    fn records(&mut self, header: &Header, at: u64) -> Result<Vec<Record>, Error> {
        let bytes = self.extension(header, at)?;
        pax::parse(&bytes).ok_or(Error::Damaged { at, what: "records that are none" })
    }

    /// Keeps records that hold for every member from here on: none may say which one is meant.
    fn add_for_all(&mut self, header: &Header, at: u64) -> Result<(), Error> {
        for (keyword, value) in self.records(header, at)? {
            let about_one = [keyword::PATH, keyword::LINK_PATH, keyword::SIZE].contains(&&*keyword)
                || keyword.starts_with(keyword::SPARSE);
            if about_one {
                let why = Why::Record(keyword);
                return Err(Error::Refused { name: header.path_bytes().into(), why });
            }
            self.for_all.retain(|(other, _)| *other != keyword);
            self.for_all.push((keyword, value));
        }
        Ok(())
    }

    /// A name that doesn't fit into a header, as GNU tar writes it: with a NUL behind.
    fn long_name(&mut self, header: &Header, at: u64) -> Result<Vec<u8>, Error> {
        let mut name = self.extension(header, at)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// Puts together what header and records say of a member.
    fn member(&mut self, header: &Header, before: Before) -> Result<Member, Error> {
        let described = Described::new(header, before, &self.for_all)?;
        let what = match described.other()? {
            Some(other) => other,
            None => self.file(&described)?,
        };
        let owner = described.owner(&self.last_owner)?;
        self.last_owner = owner.clone();
        described.member(what, owner)
    }

    /// Gets ready to read a file's content.
    fn file(&mut self, described: &Described<'_>) -> Result<What, Error> {
        let stored = described.stored_bytes()?;
        self.content_left = stored;
        self.padding = padding(stored);
        let (size, listed) = match described.holes()? {
            Holes::None => return Ok(What::File { size: stored, sparse: None }),
            Holes::Listed { size, runs } => (size, runs),
            Holes::InContent { size } => (size, self.map_in_content(described)?),
            Holes::InHeaders { size, runs, more } => (size, self.map_in_headers(described, runs, more)?),
        };
        let runs = sparse::runs(size, &listed, self.content_left);
        Ok(What::File { size, sparse: runs.map_err(|why| described.refused(why))? })
    }

    /// Reads the map before the data of a sparse file of the form 1.0: a count, then offsets and lengths,
    /// a number a line, padded to whole blocks.
    fn map_in_content(&mut self, described: &Described<'_>) -> Result<Vec<(u64, u64)>, Error> {
        let refused = |why| described.refused(why);
        let mut text = Vec::new();
        loop {
            if self.content_left < BLOCK_BYTES as u64 {
                return Err(refused(Why::Holes));
            }
            let block = self.block()?;
            self.content_left -= BLOCK_BYTES as u64;
            text.extend_from_slice(&block);
            if let Some(runs) = sparse::parse_lines(&text).map_err(refused)? {
                return Ok(runs);
            }
        }
    }

    /// Reads the blocks that go on with a map which a GNU header begins.
    fn map_in_headers(
        &mut self,
        described: &Described<'_>,
        mut runs: Vec<(u64, u64)>,
        mut more: bool,
    ) -> Result<Vec<(u64, u64)>, Error> {
        while more {
            let mut extension = GnuExtSparseHeader::new();
            *extension.as_mut_bytes() = self.block()?;
            add_listed(&mut runs, extension.sparse()).map_err(|why| described.refused(why))?;
            more = extension.is_extended();
        }
        Ok(runs)
    }
}

/// Keeps what is said of a member to come, unless that was said before.
fn once<T>(place: &mut Option<T>, said: T, at: u64) -> Result<(), Error> {
    match place.replace(said) {
        None => Ok(()),
        Some(_) => Err(Error::Damaged { at, what: "the same is said twice of one member" }),
    }
}

/// What to say of something that begins like this, and not like an archive.
fn no_archive(beginning: &[u8]) -> Error {
    if beginning.is_empty() {
        return Error::CutShort;
    }
    match COMPRESSED.iter().find(|(magic, _)| beginning.starts_with(magic)) {
        Some((_, with)) => Error::Compressed { with },
        None => Error::NotTar,
    }
}

/// The sum of a header's bytes, those of the field that holds it taken for spaces.
fn sum(block: &[u8; BLOCK_BYTES]) -> u32 {
    let spaces = 8 * u32::from(b' ');
    block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + spaces
}

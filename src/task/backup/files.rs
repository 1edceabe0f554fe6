//! What a job's last snapshot knew of each file, so that an unchanged one need not be read again.
//!
//! One sealed file a job. Directories and names are in it as keyed hashes only, so even with the
//! device's key a thief reads no name from it.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::digest::Digester;
use crate::crypto::secret::SecretBytes;
use crate::id::ChunkId;
use crate::id::Digest;
use crate::id::IdMap;
use crate::id::JobId;
use crate::store::state::StateDir;
use crate::store::state::StateWriter;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::DataRun;
use crate::tree::entry::Time;
use crate::tree::entry::TreeRef;
use crate::tree::entry::Xattr;
use crate::tree::walk::Stat;
use crate::vault::device::DeviceVault;
use crate::vault::device::io_error;

/// How many files of one directory are sealed together.
const FILES_A_PIECE: usize = 4_096;
/// How many bytes of rows are sealed together at most, once a row has gone over it.
const PIECE_BYTES: usize = 1 << 20;
/// How many pieces of one directory are held while its names are looked up: names come in the order
/// in which they were written, so the next one is in this piece or soon after.
const PIECES_HELD: usize = 3;
/// How many refs of a long file are sealed together: its refs are kept apart from its row, so that
/// they are never in memory twice.
const REFS_A_PIECE: usize = 16_384;
/// Stands for the number of refs where they are kept apart.
const REFS_APART: u32 = u32::MAX;
/// The index at the end of the file: hash, offset and length of each piece, and before that its own
/// place.
const TRAILER_BYTES: u64 = 16;

/// A keyed hash of a path or a name.
pub type Hash = [u8; 16];

/// What is known of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Its size, holes included.
    pub size: u64,
    /// When its content changed last.
    pub modified: Time,
    /// When anything of it changed last.
    pub changed: Time,
    /// Its number in its file system.
    pub inode: u64,
    /// Whether it may be taken over unread. What was touched just before it was read, or since, may be
    /// touched again within the same step of the file system's clock: it is read once more.
    pub settled: bool,
    /// Its bytes, if they are few.
    pub inline: Option<Box<[u8]>>,
    /// The chunks of its content otherwise.
    pub refs: Vec<ChunkRef>,
    /// Where refs are that are kept apart, until they are read.
    pub pieces: Vec<(u64, u32)>,
    /// Its runs of data, if it has holes.
    pub sparse: Option<Box<[DataRun]>>,
    /// Its extended attributes.
    pub xattrs: Vec<Xattr>,
}

impl Known {
    /// Whether a file that looks like `stat` can be taken over unread.
    #[must_use]
    pub fn fits(&self, stat: &Stat, ignore_ctime: bool, ignore_inode: bool) -> bool {
        self.settled
            && self.size == stat.size
            && self.modified == stat.modified
            && (ignore_ctime || self.changed == stat.changed)
            && (ignore_inode || self.inode == stat.inode)
    }

    /// The same for the same content, wherever it was read from and whatever else is known.
    #[must_use]
    pub fn content(&self) -> Digest {
        let mut digester = Digester::new();
        digester.update(&self.size.to_le_bytes());
        digester.update(self.inline.as_deref().unwrap_or_default());
        for reference in &self.refs {
            digester.update(&reference.id.0).update(&reference.length.to_le_bytes());
        }
        for run in self.sparse.iter().flatten() {
            digester.update(&run.offset.to_le_bytes()).update(&run.length.to_le_bytes());
        }
        digester.finish()
    }

    fn write(&self, out: &mut Writer) {
        out.u64(self.size).i64(self.modified.seconds).u32(self.modified.nanos);
        out.i64(self.changed.seconds).u32(self.changed.nanos).u64(self.inode).u8(u8::from(self.settled));
        match &self.inline {
            Some(bytes) => out.u8(1).sized(bytes),
            None => out.u8(0),
        };
        if self.pieces.is_empty() {
            out.count(self.refs.len());
            write_refs(out, &self.refs);
        } else {
            out.u32(REFS_APART).count(self.pieces.len());
            for (at, length) in &self.pieces {
                out.u64(*at).u32(*length);
            }
        }
        match &self.sparse {
            Some(runs) => {
                out.u8(1).count(runs.len());
                for run in runs {
                    out.u64(run.offset).u64(run.length);
                }
            }
            None => {
                out.u8(0);
            }
        }
        out.count(self.xattrs.len());
        for (name, value) in &self.xattrs {
            out.sized(name).sized(value);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let mut known = Self {
            size: from.u64()?,
            modified: Time { seconds: from.i64()?, nanos: from.u32()? },
            changed: Time { seconds: from.i64()?, nanos: from.u32()? },
            inode: from.u64()?,
            settled: from.u8()? != 0,
            inline: match from.u8()? {
                0 => None,
                _ => Some(from.sized()?.into()),
            },
            refs: Vec::new(),
            pieces: Vec::new(),
            sparse: None,
            xattrs: Vec::new(),
        };
        if from.clone().u32()? == REFS_APART {
            from.u32()?;
            let count = from.count(12)?;
            known.pieces =
                (0..count).map(|_| Ok((from.u64()?, from.u32()?))).collect::<Result<_, codec::Error>>()?;
        } else {
            let count = from.count(REF_BYTES)?;
            known.refs = read_refs(from, count)?;
        }
        known.sparse = match from.u8()? {
            0 => None,
            _ => {
                let count = from.count(16)?;
                let runs = (0..count)
                    .map(|_| Ok(DataRun { offset: from.u64()?, length: from.u64()? }))
                    .collect::<Result<Vec<_>, codec::Error>>()?;
                Some(runs.into())
            }
        };
        let count = from.count(8)?;
        known.xattrs = (0..count)
            .map(|_| Ok((from.sized()?.into(), from.sized()?.into())))
            .collect::<Result<_, codec::Error>>()?;
        Ok(known)
    }
}

const REF_BYTES: usize = 36;

fn write_refs(out: &mut Writer, refs: &[ChunkRef]) {
    for reference in refs {
        out.bytes(&reference.id.0).u32(reference.length);
    }
}

fn read_refs(from: &mut Reader<'_>, count: usize) -> Result<Vec<ChunkRef>, codec::Error> {
    (0..count).map(|_| Ok(ChunkRef { id: ChunkId(from.array()?), length: from.u32()? })).collect()
}

/// The same for the same tree of the same sources.
fn stamp(vault: &DeviceVault, places: &[u8], root: &TreeRef) -> Hash {
    vault.namer().local_hash(b"files of", &[&root.reference.id.0, places].concat())
}

/// The files of a job's last snapshot.
pub struct LastFiles<'a> {
    vault: &'a DeviceVault,
    memory: &'a StateDir,
    name: String,
    file: Option<File>,
    index: Index,
}

/// The index at the end of the file.
#[derive(Default)]
struct Index {
    /// Where the pieces of each directory are: offset and length.
    directories: IdMap<Hash, Vec<(u64, u32)>>,
    /// What [`stamp`] gave for the sources and the tree that was made of them.
    stamp: Option<Hash>,
}

/// The files of one directory in it.
pub struct LastDirectory {
    pieces: VecDeque<(u64, u32)>,
    held: VecDeque<IdMap<Hash, Known>>,
}

/// How the names of these files begin in a machine's state.
pub const FILES_PREFIX: &str = "files-";

fn file_name(job: &JobId) -> String {
    format!("{FILES_PREFIX}{job}")
}

impl<'a> LastFiles<'a> {
    /// Opens a job's file in `memory`. Where there is none, or none that opens, every file is read.
    #[must_use]
    pub fn load(vault: &'a DeviceVault, memory: &'a StateDir, job: &JobId) -> Self {
        let name = file_name(job);
        let mut files = Self { vault, memory, name, file: None, index: Index::default() };
        if let Some((file, index)) = files.read_index() {
            files.file = Some(file);
            files.index = index;
        }
        files
    }

    /// Whether these are exactly the files of this tree, which was made of sources at these places.
    #[must_use]
    pub fn are_of(&self, places: &[u8], root: &TreeRef) -> bool {
        self.index.stamp == Some(stamp(self.vault, places, root))
    }

    fn read_index(&self) -> Option<(File, Index)> {
        let file = self.memory.reader(&self.name).ok()??;
        let end = file.metadata().ok()?.len().checked_sub(TRAILER_BYTES)?;
        let mut trailer = [0; 16];
        file.read_exact_at(&mut trailer, end).ok()?;
        let mut from = Reader::new(&trailer);
        let (at, length) = (from.u64().ok()?, from.u64().ok()?);
        if at.checked_add(length)? != end {
            return None;
        }
        let mut sealed = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut sealed, at).ok()?;
        let index = self.vault.unprotect(&format!("{}/index", self.name), &sealed)?;
        let index = index.expose(|bytes| {
            let mut from = Reader::new(bytes);
            let count = from.count(28).ok()?;
            let mut index = Index::default();
            index.directories.reserve(count);
            for _ in 0..count {
                let hash = from.array().ok()?;
                index.directories.entry(hash).or_default().push((from.u64().ok()?, from.u32().ok()?));
            }
            index.stamp = from.array().ok();
            Some(index)
        })?;
        Some((file, index))
    }

    /// What the last snapshot had in a directory.
    #[must_use]
    pub fn directory(&self, path: &Hash) -> LastDirectory {
        let pieces = self.index.directories.get(path).cloned().unwrap_or_default();
        LastDirectory { pieces: pieces.into(), held: VecDeque::new() }
    }

    /// Looks up names of a directory, a group at a time and in order.
    #[must_use]
    pub fn find(&self, directory: &mut LastDirectory, names: &[Hash]) -> Vec<Option<Known>> {
        let mut found: Vec<Option<Known>> = names.iter().map(|name| directory.take(name)).collect();
        // A group that spans a seam, or after many removed names, is in pieces not read yet.
        let mut read = 0;
        while found.iter().any(Option::is_none)
            && (read < PIECES_HELD || found.iter().all(Option::is_none))
            && let Some(place) = directory.pieces.pop_front()
        {
            read += 1;
            let Some(piece) = self.read_piece(place) else { continue };
            directory.held.push_back(piece);
            if directory.held.len() > PIECES_HELD {
                directory.held.pop_front();
            }
            for (name, found) in names.iter().zip(&mut found) {
                if found.is_none() {
                    *found = directory.take(name);
                }
            }
        }
        for found in &mut found {
            if found.as_ref().is_some_and(|known| !known.pieces.is_empty()) {
                *found = found.take().and_then(|known| self.with_refs(known));
            }
        }
        found
    }

    /// Reads the refs that are kept apart; a file of which they can't be read is read itself.
    fn with_refs(&self, mut known: Known) -> Option<Known> {
        let pieces = std::mem::take(&mut known.pieces);
        known.refs.reserve_exact(pieces.len() * REFS_A_PIECE);
        for place in pieces {
            let piece = self.open_piece(place)?;
            let refs = piece.expose(|bytes| read_refs(&mut Reader::new(bytes), bytes.len() / REF_BYTES));
            known.refs.extend(refs.ok()?);
        }
        Some(known)
    }

    fn open_piece(&self, (at, length): (u64, u32)) -> Option<SecretBytes> {
        let mut sealed = vec![0; length as usize];
        self.file.as_ref()?.read_exact_at(&mut sealed, at).ok()?;
        self.vault.unprotect(&format!("{}/{at}", self.name), &sealed)
    }

    fn read_piece(&self, place: (u64, u32)) -> Option<IdMap<Hash, Known>> {
        let piece = self.open_piece(place)?;
        piece.expose(|bytes| {
            let mut from = Reader::new(bytes);
            let mut files = IdMap::default();
            while from.remaining() > 0 {
                files.insert(from.array().ok()?, Known::read(&mut from).ok()?);
            }
            Some(files)
        })
    }
}

impl LastDirectory {
    /// Whether no name will be found here any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.held.iter().all(HashMap::is_empty)
    }

    fn take(&mut self, name: &Hash) -> Option<Known> {
        self.held.iter_mut().find_map(|piece| piece.remove(name))
    }
}

/// The memory of this run, written as it goes.
pub struct FilesWriter<'a> {
    vault: &'a DeviceVault,
    memory: &'a StateDir,
    name: String,
    file: StateWriter,
    at: u64,
    index: Writer,
    pieces: usize,
}

/// The files of one directory, waiting to be sealed together.
#[derive(Default)]
pub struct Rows {
    out: Writer,
    count: usize,
}

impl<'a> FilesWriter<'a> {
    /// Begins a job's file in `memory` anew; the old one stays until [`FilesWriter::finish`].
    ///
    /// # Errors
    /// [`crate::vault::error::Error::State`].
    pub fn begin(vault: &'a DeviceVault, memory: &'a StateDir, job: &JobId) -> Result<Self, Error> {
        let name = file_name(job);
        let file = memory.writer(&name).map_err(|error| io_error(memory, &name, &error))?;
        Ok(Self { vault, memory, name, file, at: 0, index: Writer::new(), pieces: 0 })
    }

    /// Remembers a file of the directory that `rows` are of.
    ///
    /// # Errors
    /// [`crate::vault::error::Error::State`].
    pub fn add(&mut self, path: &Hash, rows: &mut Rows, name: &Hash, known: &mut Known) -> Result<(), Error> {
        if known.refs.len() > REFS_A_PIECE {
            for refs in known.refs.chunks(REFS_A_PIECE) {
                let mut piece = Writer::with_capacity(refs.len() * REF_BYTES);
                write_refs(&mut piece, refs);
                let at = self.at;
                known.pieces.push((at, self.write(&at.to_string(), piece.as_slice())?));
            }
        }
        rows.out.bytes(name);
        known.write(&mut rows.out);
        rows.count += 1;
        if rows.count >= FILES_A_PIECE || rows.out.len() >= PIECE_BYTES {
            self.flush(path, rows)?;
        }
        Ok(())
    }

    /// Seals what is left of a directory.
    ///
    /// # Errors
    /// [`crate::vault::error::Error::State`].
    pub fn flush(&mut self, path: &Hash, rows: &mut Rows) -> Result<(), Error> {
        let rows = std::mem::take(rows);
        if rows.count == 0 {
            return Ok(());
        }
        let at = self.at;
        let length = self.write(&at.to_string(), rows.out.as_slice())?;
        self.index.bytes(path).u64(at).u32(length);
        self.pieces += 1;
        Ok(())
    }

    fn write(&mut self, place: &str, bytes: &[u8]) -> Result<u32, Error> {
        let sealed = self.vault.protect(&format!("{}/{place}", self.name), bytes);
        self.write_plain(&sealed)?;
        Ok(u32::try_from(sealed.len()).expect("a piece holds one file's refs or a few MB"))
    }

    fn write_plain(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| io_error(self.memory, &self.name, &error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Takes the place of the last run's memory; `root` is the tree that was made of these files, which lie at
    /// `places`.
    ///
    /// # Errors
    /// [`crate::vault::error::Error::State`].
    pub fn finish(mut self, places: &[u8], root: &TreeRef) -> Result<(), Error> {
        let mut index = Writer::with_capacity(self.index.len() + 20);
        index.count(self.pieces).bytes(self.index.as_slice()).bytes(&stamp(self.vault, places, root));
        let at = self.at;
        let length = self.write("index", index.as_slice())?;
        let mut trailer = Writer::new();
        trailer.u64(at).u64(u64::from(length));
        self.write_plain(trailer.as_slice())?;
        let (memory, name) = (self.memory, &self.name);
        self.file.finish_cache().map_err(|error| io_error(memory, name, &error).into())
    }
}

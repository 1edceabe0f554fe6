//! What can be read of a group of names at once, without a thought for their order.

use crate::chunk::cut::Cutter;
use crate::id::Digest;
use crate::pack::packer::ChunkKind;
use crate::pack::room::Room;
use crate::task::backup::files::Hash;
use crate::task::backup::files::Known as KnownFile;
use crate::task::backup::read::INLINE_BYTES_MAX;
use crate::task::backup::read::SMALL_FILE_BYTES;
use crate::task::backup::read::outlet::reference;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::DataRun;
use crate::tree::entry::Xattr;
use crate::tree::path::Name;
use crate::tree::walk;
use crate::tree::walk::SourceDir;
use crate::tree::walk::SourceFile;
use crate::tree::walk::SourceKind;
use crate::tree::walk::Stat;
use crate::vault::namer::Namer;

/// How much of a file is read that has more than it says, as those of `/proc` do, which say 0.
const UNTOLD_BYTES_MAX: usize = 64 << 10;

/// What was found under a name, before anything of it is read.
pub(super) struct Examined {
    pub(super) name: Name,
    pub(super) hash: Hash,
    pub(super) stat: Stat,
    /// What the last snapshot had, if that still holds.
    pub(super) known: Option<KnownFile>,
    /// The content that it had there, if the file is read all the same.
    pub(super) before: Option<Digest>,
    /// The chunks that it had there, if it was small: some of them it may have no more.
    pub(super) gone: Vec<ChunkRef>,
    /// All of it, if it was read before anything else was asked about it.
    pub(super) read: Option<Box<SmallFile>>,
}

/// What reading gave.
pub(super) enum Loaded {
    /// A file taken over, or one to be read piece by piece.
    Later,
    Small(Box<SmallFile>),
    Other {
        target: Option<Box<[u8]>>,
        xattrs: Result<Vec<Xattr>, walk::Error>,
    },
    Failed(walk::Error),
}

pub(super) struct SmallFile {
    pub(super) stat: Stat,
    pub(super) bytes: Vec<u8>,
    pub(super) chunks: Vec<ChunkRef>,
    pub(super) sparse: Option<Box<[DataRun]>>,
    pub(super) xattrs: Result<Vec<Xattr>, walk::Error>,
    pub(super) changed: bool,
}

impl Examined {
    pub(super) fn new(name: Name, hash: Hash, stat: Stat) -> Self {
        Self { name, hash, stat, known: None, before: None, gone: Vec::new(), read: None }
    }

    /// How many bytes of memory it takes, read already.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.as_ref().map_or(0, |small| small.bytes.len() as u64)
    }

    /// How many bytes of memory reading it whole takes.
    pub(super) fn bytes_to_read(&self) -> u64 {
        let whole =
            self.needs_reading() && self.stat.kind == SourceKind::File && self.stat.size <= SMALL_FILE_BYTES;
        if whole { self.stat.size } else { 0 }
    }

    /// Whether anything of it is still to be read.
    pub(super) fn needs_reading(&self) -> bool {
        self.known.is_none() && self.read.is_none()
    }
}

/// Reads files of a directory beside one another.
pub(super) struct Loader<'a> {
    pub(super) directory: &'a SourceDir,
    pub(super) namer: &'a Namer,
    pub(super) cutter: &'a Cutter,
    /// Room for the bytes of files.
    pub(super) room: &'a Room,
}

impl Loader<'_> {
    /// Reads a file of at most `bytes_max` bytes that was listed as one, and says what it is; of another one says only
    /// that, as of one that `is_wanted` refuses for its size.
    pub(super) fn read_listed(
        &self,
        name: &Name,
        bytes_max: u64,
        is_wanted: impl FnOnce(u64) -> bool,
    ) -> Result<(Stat, Option<Box<SmallFile>>), walk::Error> {
        let opened = self.directory.open_listed_file(name)?;
        let stat = *opened.stat();
        if stat.size > bytes_max.min(SMALL_FILE_BYTES) || !is_wanted(stat.size) {
            return Ok((stat, None));
        }
        Ok((stat, Some(Box::new(self.read_small(&opened)?))))
    }

    /// Reads what can be read beside others.
    pub(super) fn load(&self, file: &mut Examined) -> Loaded {
        if let Some(small) = file.read.take() {
            return Loaded::Small(small);
        }
        let other = |target: Option<Box<[u8]>>, xattrs| Loaded::Other { target, xattrs };
        match file.stat.kind {
            SourceKind::File if file.known.is_some() || file.stat.size > SMALL_FILE_BYTES => Loaded::Later,
            SourceKind::File => {
                let opened = self.directory.open_file(&file.name, &file.stat);
                match opened.and_then(|opened| self.read_small(&opened)) {
                    Ok(small) => Loaded::Small(Box::new(small)),
                    Err(error) => Loaded::Failed(error),
                }
            }
            SourceKind::Directory | SourceKind::Socket | SourceKind::Unknown => other(None, Ok(Vec::new())),
            SourceKind::Symlink
            | SourceKind::Fifo
            | SourceKind::CharDevice { .. }
            | SourceKind::BlockDevice { .. } => {
                let held = match self.directory.hold(&file.name, &file.stat) {
                    Ok(held) => held,
                    Err(error) => return Loaded::Failed(error),
                };
                let target = match file.stat.kind {
                    SourceKind::Symlink => match held.read_link() {
                        Ok(target) => Some(target),
                        Err(error) => return Loaded::Failed(error),
                    },
                    _ => None,
                };
                other(target, held.xattrs())
            }
        }
    }

    fn read_small(&self, opened: &SourceFile<'_>) -> Result<SmallFile, walk::Error> {
        let mut stat = *opened.stat();
        let mut sparse = opened.data_runs()?;
        let mut source = RunReader::new(opened, sparse.as_deref());
        let expected = usize::try_from(stat.size.min(SMALL_FILE_BYTES)).unwrap_or(0);
        let bytes_max = UNTOLD_BYTES_MAX.max(expected) + 1;
        // One byte more than there should be: a file that grew is noticed without another call.
        let mut bytes = self.room.take(expected + 1);
        while source.read_on(&mut bytes)? > 0 && bytes.len() < bytes_max {
            if bytes.len() == expected && sparse.is_none() {
                // As long as it says. Should it have grown since, it is found to have changed.
                break;
            }
            if bytes.len() == bytes.capacity() {
                bytes.reserve_exact(bytes_max - bytes.len());
            }
        }
        // It grows under our hands. This much is kept; a log is complete up to here.
        let is_cut = bytes.len() >= bytes_max;
        bytes.truncate(bytes_max);
        let short = source.is_short();
        if short {
            sparse = None;
        }
        if sparse.is_none() {
            stat.size = bytes.len() as u64;
        }
        let changed = short || is_cut || opened.examine().is_ok_and(|now| !now.is_unchanged(opened.stat()));
        let xattrs = opened.xattrs();
        let mut chunks = Vec::new();
        if bytes.len() > INLINE_BYTES_MAX {
            let mut rest = &bytes[..];
            while let Some(length) = self.cutter.next(rest, true) {
                let (chunk, after) = rest.split_at(length);
                chunks.push(reference(self.namer.name(ChunkKind::Data, chunk), length));
                rest = after;
            }
        }
        Ok(SmallFile { stat, bytes, chunks, sparse, xattrs, changed })
    }
}

/// Reads a file from its start to its end, or its runs of data one after the other.
pub(super) struct RunReader<'a> {
    file: &'a SourceFile<'a>,
    runs: Option<&'a [DataRun]>,
    at: u64,
    short: bool,
}

impl<'a> RunReader<'a> {
    pub(super) fn new(file: &'a SourceFile<'a>, runs: Option<&'a [DataRun]>) -> Self {
        Self { file, runs, at: 0, short: false }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, walk::Error> {
        let Some(runs) = &mut self.runs else { return self.file.read(buffer) };
        let Some(run) = runs.first() else { return Ok(0) };
        let left = usize::try_from(run.length - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..wanted], run.offset + self.at)?;
        self.at += read as u64;
        if read == 0 && wanted > 0 {
            // Cut short since its runs were found: its holes no longer tell where its bytes were.
            self.short = true;
            self.runs = Some(&[]);
        } else if self.at == run.length {
            self.at = 0;
            self.runs = runs.get(1..);
        }
        Ok(read)
    }

    /// The same into what `bytes` has room for behind what is in it.
    pub(super) fn read_on(&mut self, bytes: &mut Vec<u8>) -> Result<usize, walk::Error> {
        let Some(runs) = self.runs else { return self.file.read_on(bytes) };
        let left = runs.first().map_or(0, |run| usize::try_from(run.length - self.at).unwrap_or(usize::MAX));
        let filled = bytes.len();
        bytes.resize(filled + left.min(bytes.capacity() - filled), 0);
        let read = self.read(&mut bytes[filled..]);
        bytes.truncate(filled + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Whether the file ended before its last run did.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }
}

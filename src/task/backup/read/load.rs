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
use crate::tree::filter::Decision;
use crate::tree::filter::Scope;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::walk;
use crate::tree::walk::SourceDir;
use crate::tree::walk::SourceFile;
use crate::tree::walk::SourceKind;
use crate::tree::walk::Stat;
use crate::vault::namer::Namer;

/// How much of a file is read that has more than it says, as those of `/proc` do, which say 0.
const UNTOLD_BYTES_MAX: usize = 64 << 10;

/// Room for the bytes of small files. Of longer ones than these, getting it is little beside reading them.
pub(super) static SMALL_FILES: Room = Room::new(128 << 10, 8 << 20);

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
    /// How many bytes of memory reading it whole takes.
    pub(super) fn bytes_read_whole(&self) -> u64 {
        let whole =
            self.stat.kind == SourceKind::File && self.known.is_none() && self.stat.size <= SMALL_FILE_BYTES;
        if whole { self.stat.size } else { 0 }
    }
}

impl Loaded {
    /// How many bytes of memory it takes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Small(small) => small.bytes.capacity() as u64,
            _ => 0,
        }
    }
}

/// Reads names of a directory beside one another.
pub(super) struct Loader<'a> {
    pub(super) directory: &'a SourceDir,
    pub(super) scope: &'a Scope,
    pub(super) namer: &'a Namer,
    pub(super) cutter: &'a Cutter,
}

impl Loader<'_> {
    /// Says what a name is; nothing if it is left out.
    pub(super) fn examine(&self, name: &Name) -> Result<Option<Examined>, walk::Error> {
        let stat = self.directory.examine(name)?;
        let is_directory = stat.kind == SourceKind::Directory;
        let is_kept = self.keeps(&self.directory.path().join(name), is_directory, stat.size);
        Ok(is_kept.then(|| self.examined(name.clone(), stat)))
    }

    /// Reads a name of which nothing is known, and says what it is; nothing if it is left out.
    ///
    /// What was listed as a file is opened before anything else is asked about it, which saves looking its name up
    /// twice; not if its length decides whether it is left out, as nothing is opened that is. One of more than
    /// `bytes_max` bytes waits for its turn unread, unless it is one that is read piece by piece.
    pub(super) fn read_at_once(
        &self,
        name: Name,
        is_file: bool,
        bytes_max: u64,
    ) -> Result<Option<(Examined, Option<Loaded>)>, walk::Error> {
        let keeps = || self.keeps(&self.directory.path().join(&name), false, 0);
        if is_file
            && !self.scope.asks_for_length()
            && keeps()
            && let Ok(opened) = self.directory.open_listed_file(&name)
        {
            let stat = *opened.stat();
            let loaded = match stat.size {
                size if size > SMALL_FILE_BYTES => Some(Loaded::Later),
                size if size > bytes_max => None,
                _ => Some(self.read_small(&opened)),
            };
            return Ok(Some((self.examined(name, stat), loaded)));
        }
        // Where it can't be opened, too: what is there by now is asked as of any name.
        let Some(file) = self.examine(&name)? else { return Ok(None) };
        let waits = file.stat.kind == SourceKind::File && file.stat.size <= SMALL_FILE_BYTES;
        let loaded = if waits { None } else { Some(self.load(&file)) };
        Ok(Some((file, loaded)))
    }

    fn keeps(&self, path: &TreePath, is_directory: bool, size: u64) -> bool {
        self.scope.decides(path, is_directory, size) == Decision::Keep
    }

    fn examined(&self, name: Name, stat: Stat) -> Examined {
        let hash = self.namer.local_hash(b"name", name.as_bytes());
        Examined { name, hash, stat, known: None, before: None, gone: Vec::new() }
    }

    /// Reads what can be read beside others.
    pub(super) fn load(&self, file: &Examined) -> Loaded {
        let other = |target: Option<Box<[u8]>>, xattrs| Loaded::Other { target, xattrs };
        match file.stat.kind {
            SourceKind::File if file.known.is_some() || file.stat.size > SMALL_FILE_BYTES => Loaded::Later,
            SourceKind::File => match self.directory.open_file(&file.name, &file.stat) {
                Ok(opened) => self.read_small(&opened),
                Err(error) => Loaded::Failed(error),
            },
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

    fn read_small(&self, opened: &SourceFile<'_>) -> Loaded {
        self.read_whole(opened).map_or_else(Loaded::Failed, |small| Loaded::Small(Box::new(small)))
    }

    fn read_whole(&self, opened: &SourceFile<'_>) -> Result<SmallFile, walk::Error> {
        let mut stat = *opened.stat();
        let mut sparse = opened.data_runs()?;
        let mut source = RunReader::new(opened, sparse.as_deref());
        let expected = usize::try_from(stat.size.min(SMALL_FILE_BYTES)).unwrap_or(0);
        let bytes_max = UNTOLD_BYTES_MAX.max(expected) + 1;
        // One byte more than there should be: a file that grew is noticed without another call.
        let mut bytes = SMALL_FILES.take(expected + 1);
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

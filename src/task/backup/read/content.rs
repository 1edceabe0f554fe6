//! What becomes of each name once it is examined and read, in order: its content goes on as chunks, its
//! entry into the tree, and what is known of it into the memory of files.

use std::io;
use std::io::Read;

use rayon::prelude::*;

use crate::id::ChunkId;
use crate::observe::Event;
use crate::pack::packer::ChunkKind;
use crate::task::backup::files::FilesWriter;
use crate::task::backup::files::Known as KnownFile;
use crate::task::backup::read::Frame;
use crate::task::backup::read::INLINE_BYTES_MAX;
use crate::task::backup::read::Listing;
use crate::task::backup::read::SMALL_FILE_BYTES;
use crate::task::backup::read::Taken;
use crate::task::backup::read::Walker;
use crate::task::backup::read::load::Examined;
use crate::task::backup::read::load::Loaded;
use crate::task::backup::read::load::RunReader;
use crate::task::backup::read::load::SMALL_FILES;
use crate::task::backup::read::load::SmallFile;
use crate::task::backup::read::outlet::reference;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Owner;
use crate::tree::entry::Time;
use crate::tree::entry::Xattr;
use crate::tree::node;
use crate::tree::node::TreeBuilder;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::walk::SourceDir;
use crate::tree::walk::SourceKind;
use crate::tree::walk::Stat;

/// How much of a large file is read before its chunks are named, on all cores.
const WINDOW_BYTES: usize = 2 << 20;

/// How much more than twice its size is read of a large file that grows meanwhile.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// File systems' clocks go in steps of 10 ms as a rule and of two seconds at worst: two changes within
/// one leave the same time.
const FILE_CLOCK_STEP_NS: u64 = 2_000_000_000;

impl<'a> Walker<'a> {
    /// Makes a snapshot of one stream under the name that was given for it.
    ///
    /// # Errors
    /// [`Error::Stream`] if it can't be read to its end.
    pub fn stream(mut self, reader: &mut dyn Read, path: &TreePath, owner: Owner) -> Result<Listing, Error> {
        let now = self.options.time.unwrap_or(self.options.now);
        let modified = Time {
            seconds: i64::try_from(now / 1_000_000_000).unwrap_or(i64::MAX),
            nanos: u32::try_from(now % 1_000_000_000).unwrap_or(0),
        };
        let mut failure = None;
        let mut read = |buffer: &mut [u8]| loop {
            match reader.read(buffer) {
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    failure = Some(error);
                    return Err(());
                }
            }
        };
        let streamed = self.pieces(&mut read, 0)?;
        if let Some(error) = failure {
            return Err(Error::Stream(error));
        }
        let size = streamed.bytes();
        let content = match streamed.inline {
            Some(bytes) => Content::Inline(bytes),
            None => self.outlet.content(&streamed.refs)?,
        };
        let Some(name) = path.last() else { return Err(Error::Nothing { what: "the stream has no name" }) };
        let kind = EntryKind::File { size, content, sparse: None };
        let xattrs = Vec::new();
        let mut entry = Entry { name, kind, mode: 0o600, owner, modified, xattrs, link_group: None };
        self.counts.files += 1;
        self.counts.files_new += 1;
        self.counts.bytes += size;
        // Its time is always now.
        self.note_source(path, &Entry { modified: Time { seconds: 0, nanos: 0 }, ..entry.clone() });
        let mut parent = path.parent();
        let namer = self.outlet.namer;
        loop {
            let mut tree = TreeBuilder::new(|name: &[u8]| namer.cut_hash(name));
            tree.add(&entry, &mut |kind, bytes: Vec<u8>| self.outlet.node(kind, &bytes))?;
            let root = tree.finish(&mut |kind, bytes: Vec<u8>| self.outlet.node(kind, &bytes))?;
            let Some(name) = parent.as_ref().and_then(TreePath::last) else {
                self.outlet.finish()?;
                self.counts.bytes_new = self.outlet.bytes_new;
                let sources = self.sources.finish();
                let Self { counts, errors, .. } = self;
                return Ok(Listing { root, counts, errors, sources, files_known: 0 });
            };
            self.counts.directories += 1;
            entry = Entry { name, kind: EntryKind::Directory { tree: root }, mode: 0o700, ..entry };
            parent = parent.and_then(|parent| parent.parent());
        }
    }

    /// Hands the content of one thing on, and makes its entry.
    pub(super) fn take(
        &mut self,
        frame: &mut Frame,
        directory: &SourceDir,
        mut file: Examined,
        loaded: Loaded,
    ) -> Result<Option<Taken>, Error> {
        if self.observer.interrupted() {
            return Err(self.interrupted());
        }
        let path = directory.path().join(&file.name);
        self.observer.event(&Event::Entry(path.as_bytes()));
        let (target, xattrs) = match loaded {
            Loaded::Failed(error) => {
                self.problem(&error);
                return Ok(None);
            }
            Loaded::Small(small) => {
                let SmallFile { stat, bytes, chunks, sparse, xattrs, changed } = *small;
                if changed {
                    self.report(&path, "it changed while it was being read".to_owned());
                }
                let content = self.take_small(bytes, chunks)?;
                let xattrs = self.attributes(xattrs);
                let found = Found { stat, content, sparse, xattrs, is_known: false };
                return self.finish_file(frame, file, found).map(Some);
            }
            Loaded::Later => {
                return match file.known.take() {
                    Some(known) => self.take_over(frame, file, known).map(Some),
                    None => self.take_large(frame, directory, file, &path),
                };
            }
            Loaded::Other { target, xattrs } => (target, xattrs),
        };
        let kind = match file.stat.kind {
            SourceKind::Directory => return Ok(Some(Taken::Directory(file.name, file.stat))),
            SourceKind::Symlink => EntryKind::Symlink { target: target.unwrap_or_default() },
            SourceKind::Fifo => EntryKind::Fifo,
            SourceKind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
            SourceKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
            SourceKind::File | SourceKind::Socket | SourceKind::Unknown => {
                self.counts.skipped += 1;
                return Ok(None);
            }
        };
        self.counts.others += 1;
        let xattrs = self.attributes(xattrs);
        let entry = self.entry(file.name, directory.path(), &file.stat, kind, xattrs);
        Ok(self.keep(&path, entry))
    }

    /// Takes a file over as the last snapshot had it.
    fn take_over(&mut self, frame: &mut Frame, file: Examined, known: KnownFile) -> Result<Taken, Error> {
        for reference in &known.refs {
            self.outlet.known.uses(ChunkKind::Data, &reference.id);
        }
        let KnownFile { refs, inline, sparse, xattrs, .. } = known;
        let content = FileContent { refs, inline };
        let found = Found { stat: file.stat, content, sparse, xattrs, is_known: true };
        self.finish_file(frame, file, found)
    }

    fn take_small(&mut self, bytes: Vec<u8>, chunks: Vec<ChunkRef>) -> Result<FileContent, Error> {
        if bytes.len() <= INLINE_BYTES_MAX {
            let inline = Some(bytes[..].into());
            SMALL_FILES.give_back(bytes);
            return Ok(FileContent { refs: Vec::new(), inline });
        }
        let mut rest = &bytes[..];
        for reference in &chunks {
            let (chunk, after) = rest.split_at(reference.length as usize);
            self.outlet.take(ChunkKind::Data, reference.id, chunk)?;
            rest = after;
        }
        SMALL_FILES.give_back(bytes);
        Ok(FileContent { refs: chunks, inline: None })
    }

    /// Reads a large file piece by piece.
    fn take_large(
        &mut self,
        frame: &mut Frame,
        directory: &SourceDir,
        file: Examined,
        path: &TreePath,
    ) -> Result<Option<Taken>, Error> {
        let opened = match directory.open_file(&file.name, &file.stat) {
            Ok(opened) => opened,
            Err(error) => {
                self.problem(&error);
                return Ok(None);
            }
        };
        opened.advise_sequential();
        let xattrs = self.attributes(opened.xattrs());
        let sparse = match opened.data_runs() {
            Ok(sparse) => sparse,
            Err(error) => {
                self.problem(&error);
                return Ok(None);
            }
        };
        let mut source = RunReader::new(&opened, sparse.as_deref());
        let mut failure = None;
        // A file that grows as fast as it is read has an end all the same.
        let size = opened.stat().size;
        let mut left = size.saturating_mul(2).saturating_add(GROWTH_BYTES_MAX);
        let content = self.pieces(
            &mut |buffer| {
                let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let read = source.read(&mut buffer[..wanted]).map_err(|error| failure = Some(error))?;
                left -= read as u64;
                Ok(read)
            },
            size,
        )?;
        if let Some(error) = failure {
            self.problem(&error);
            return Ok(None);
        }
        let short = source.is_short();
        let read = content.bytes();
        let mut stat = *opened.stat();
        if short || left == 0 || opened.examine().is_ok_and(|now| !now.is_unchanged(&stat)) {
            self.report(path, "it changed while it was being read".to_owned());
        }
        let sparse = if short { None } else { sparse };
        if sparse.is_none() {
            // What was read is what there is, however long it was when it was examined.
            stat.size = read;
        }
        let found = Found { stat, content, sparse, xattrs, is_known: false };
        self.finish_file(frame, file, found).map(Some)
    }

    /// Cuts, names and hands on a stream of bytes.
    ///
    /// `expected` is about how many bytes there will be; 0 if nobody knows.
    pub(super) fn pieces(
        &mut self,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, ()>,
        expected: u64,
    ) -> Result<FileContent, Error> {
        let mut window = vec![0; WINDOW_BYTES];
        // A little more than there will be on average: a vector that doubles would take twice as much.
        let expected = expected / self.cutter.sizes().average() as u64;
        let mut refs = Vec::with_capacity(usize::try_from(expected + expected / 8).unwrap_or(0));
        let mut filled = 0;
        loop {
            let mut at_end = false;
            while filled < window.len() && !at_end {
                match read(&mut window[filled..]) {
                    Ok(0) => at_end = true,
                    Ok(read) => filled += read,
                    // The caller has the error and drops what was read.
                    Err(()) => return Ok(FileContent::default()),
                }
            }
            if at_end && refs.is_empty() && filled <= INLINE_BYTES_MAX {
                return Ok(FileContent { refs, inline: Some(window[..filled].into()) });
            }
            let mut cuts = Vec::new();
            let mut cut = 0;
            while let Some(length) = self.cutter.next(&window[cut..filled], at_end) {
                cuts.push(cut..cut + length);
                cut += length;
            }
            let namer = self.outlet.namer;
            let ids: Vec<ChunkId> =
                cuts.par_iter().map(|cut| namer.name(ChunkKind::Data, &window[cut.clone()])).collect();
            for (cut, id) in cuts.iter().zip(ids) {
                let bytes = &window[cut.clone()];
                self.outlet.take(ChunkKind::Data, id, bytes)?;
                refs.push(reference(id, bytes.len()));
                self.observer.event(&Event::Progress { items: 0, bytes: bytes.len() as u64 });
            }
            if at_end {
                return Ok(FileContent { refs, inline: None });
            }
            if self.observer.interrupted() {
                return Err(self.interrupted());
            }
            window.copy_within(cut..filled, 0);
            filled -= cut;
        }
    }

    /// Ends the walk; what is on its way is stored all the same.
    pub(super) fn interrupted(&mut self) -> Error {
        self.outlet.finish().err().unwrap_or(Error::Interrupted)
    }

    fn finish_file(&mut self, frame: &mut Frame, file: Examined, found: Found) -> Result<Taken, Error> {
        let Found { stat, content, sparse, xattrs, is_known } = found;
        self.counts.files += 1;
        self.counts.bytes += stat.size;
        let streamed = !is_known && stat.size > SMALL_FILE_BYTES;
        let bytes = if streamed { 0 } else { stat.size };
        self.observer.event(&Event::Progress { items: 1, bytes });
        let mut known = KnownFile {
            size: stat.size,
            modified: stat.modified,
            changed: stat.changed,
            inode: stat.inode,
            settled: nanoseconds(stat.changed).saturating_add(FILE_CLOCK_STEP_NS) < self.options.now,
            inline: content.inline,
            refs: content.refs,
            pieces: Vec::new(),
            sparse,
            xattrs,
        };
        self.files_known += u64::from(is_known || file.before.is_some());
        let count = match file.before {
            _ if is_known => &mut self.counts.files_unchanged,
            None => &mut self.counts.files_new,
            Some(before) if before == known.content() => &mut self.counts.files_unchanged,
            Some(_) => &mut self.counts.files_changed,
        };
        *count += 1;
        self.remember(|files| files.add(&frame.path_hash, &mut frame.rows, &file.hash, &mut known));
        let content = match known.inline {
            Some(bytes) => Content::Inline(bytes),
            None => self.outlet.content(&known.refs)?,
        };
        let kind = EntryKind::File { size: stat.size, content, sparse: known.sparse };
        Ok(Taken::Entry(Box::new(self.entry(file.name, &frame.path, &stat, kind, known.xattrs))))
    }

    /// Has something written into the memory of files, which is given up when it can't be.
    pub(super) fn remember(&mut self, write: impl FnOnce(&mut FilesWriter<'a>) -> Result<(), Error>) {
        if let Some(mut files) = self.files.take() {
            self.files = self.caches.keep(write(&mut files)).map(|()| files);
        }
    }

    /// The entry of `name`, which lies in `parent`.
    fn entry(
        &mut self,
        name: Name,
        parent: &TreePath,
        stat: &Stat,
        kind: EntryKind,
        xattrs: Vec<Xattr>,
    ) -> Entry {
        let link_group = (stat.links > 1).then(|| {
            let namer = self.outlet.namer;
            let first = || namer.local_hash(b"link", parent.join(&name).as_bytes());
            *self.links.entry((stat.device, stat.inode)).or_insert_with(first)
        });
        let (mode, modified) = (stat.mode, stat.modified);
        let owner = self.owners.owner(stat.uid, stat.gid);
        Entry { name, kind, mode, owner, modified, xattrs, link_group }
    }

    /// What the format can't keep is left out and named rather than ending the backup.
    fn keep(&mut self, path: &TreePath, entry: Entry) -> Option<Taken> {
        match node::check(&entry) {
            Ok(()) => Some(Taken::Entry(Box::new(entry))),
            Err(error) => {
                self.report(path, format!("it can't be kept: {error}"));
                None
            }
        }
    }
}

/// What was found of a file.
struct Found {
    stat: Stat,
    content: FileContent,
    sparse: Option<Box<[DataRun]>>,
    xattrs: Vec<Xattr>,
    /// Whether it was taken over unread.
    is_known: bool,
}

/// The content of a file once its chunks are handed on.
#[derive(Default)]
pub(super) struct FileContent {
    pub(super) refs: Vec<ChunkRef>,
    pub(super) inline: Option<Box<[u8]>>,
}

impl FileContent {
    fn bytes(&self) -> u64 {
        let inline = self.inline.as_ref().map_or(0, |bytes| bytes.len() as u64);
        inline + self.refs.iter().map(|reference| u64::from(reference.length)).sum::<u64>()
    }
}

fn nanoseconds(time: Time) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(time.nanos))
}

//! Comparing a snapshot with a disk, name by name and chunk by chunk.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::Path;

use crate::id::ChunkId;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::pack::packer::ChunkKind;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::entry::Xattr;
use crate::tree::node;
use crate::tree::node::CallError;
use crate::tree::node::EntryReader;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::walk;
use crate::tree::walk::Names;
use crate::tree::walk::Source;
use crate::tree::walk::SourceDir;
use crate::tree::walk::SourceFile;
use crate::tree::walk::SourceKind;
use crate::tree::walk::Stat;
use crate::vault::error;
use crate::vault::read::SnapshotReader;

/// How many differences are kept; all are counted.
pub const DIFFERENCES_MAX: usize = 10_000;
/// The longest part of a file that is read at once: the longest chunk.
const CHUNK_BYTES_MAX: usize = ChunkRef::LENGTH_MAX as usize;
/// Holes are read in pieces of this size, to see that they are zero.
const ZEROS_BYTES: u64 = 1 << 20;

/// How something on the disk differs from the snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is in the snapshot alone.
    OnlyInSnapshot,
    /// It is on the disk alone.
    OnlyOnDisk,
    /// It is of another kind, or another device.
    Kind,
    /// It has another length.
    Size,
    /// It has other bytes.
    Content,
    /// It has other permissions.
    Mode,
    /// It was changed at another time.
    Modified,
    /// The link points elsewhere.
    Target,
    /// It belongs to others, by their numbers; told by [`against_all_of_source`] alone.
    Owner,
    /// It has other extended attributes or access lists; told by [`against_all_of_source`] alone.
    Attributes,
    /// It shares its contents with other names than it did; told by [`against_all_of_source`] alone.
    Links,
    /// The disk's side can't be read, so nothing can be said: why.
    Unreadable(String),
    /// The snapshot's side can't be read, so nothing can be said: why.
    Damaged(String),
}

/// A path at which disk and snapshot differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// In the snapshot.
    pub path: TreePath,
    /// How; several may be true at once.
    pub changes: Vec<Change>,
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The differences, in the order of the walk; the first [`DIFFERENCES_MAX`] of them.
    pub differences: Vec<Difference>,
    /// How many there are in all.
    pub total: u64,
    /// Entries that were held against each other.
    pub compared: u64,
    /// Bytes of files that were read on the disk and held against chunk ids.
    pub bytes: u64,
    /// How many of the differences are damage in the vault.
    pub damaged: u64,
}

/// Compares what `reader`'s snapshot holds at `subpath` with what is at `root` on the disk.
///
/// Kind, permissions, time of change, size, contents and where links point. Files are read at the
/// lengths of their chunks and held against the chunks' ids, so nothing but trees is read from the vault.
///
/// # Errors
/// [`Error::Source`] if there is nothing at `root`; [`Error::Vault`] if there is nothing at `subpath`;
/// [`Error::Interrupted`].
pub fn against_source(
    reader: &SnapshotReader<'_>,
    root: &Path,
    subpath: &TreePath,
    observer: &dyn Observer,
) -> Result<Comparison, Error> {
    compare(reader, root, subpath, None, observer)
}

/// The same with everything that a snapshot keeps: owners by number, extended attributes and access lists, and
/// which names share their contents, too.
///
/// # Errors
/// As [`against_source`].
pub fn against_all_of_source(
    reader: &SnapshotReader<'_>,
    root: &Path,
    subpath: &TreePath,
    observer: &dyn Observer,
) -> Result<Comparison, Error> {
    compare(reader, root, subpath, Some(Shared::default()), observer)
}

fn compare(
    reader: &SnapshotReader<'_>,
    root: &Path,
    subpath: &TreePath,
    shared: Option<Shared>,
    observer: &dyn Observer,
) -> Result<Comparison, Error> {
    observer.event(&Event::Phase(Phase::Verifying));
    let mut comparing =
        Comparing { reader, observer, found: Comparison::default(), buffer: Vec::new(), shared };
    let source = Source::load(root).map_err(Error::Source)?;
    let stat = source.examine().map_err(Error::Source)?;
    match entry_at(reader, subpath)? {
        None => {
            comparing.tree(TreePath::root(), reader.body().root, source.open_dir().map_err(Error::Source)?)?
        }
        Some(entry) => match (&entry.kind, source.path().last()) {
            (EntryKind::Directory { tree }, _) if stat.kind == SourceKind::Directory => {
                let directory = source.open_dir().map_err(Error::Source)?;
                let xattrs = comparing.xattrs(&entry, || directory.xattrs());
                comparing.attributes(subpath, &entry, &stat, xattrs.into_iter().collect());
                comparing.tree(subpath.clone(), *tree, directory)?;
            }
            (_, Some(name)) => comparing.entry(subpath.clone(), &entry, source.parent(), &name, &stat)?,
            (_, None) => comparing.add(subpath.clone(), vec![Change::Kind]),
        },
    }
    Ok(comparing.found)
}

/// The entry at a path; the root has none.
fn entry_at(reader: &SnapshotReader<'_>, path: &TreePath) -> Result<Option<Entry>, Error> {
    let mut tree = Some(reader.body().root);
    let mut found = None;
    for name in path.components() {
        let nothing = || Error::Vault(error::Error::NoSuchEntry { path: path.to_string() });
        let fetch = |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
        let entry = node::find(&tree.ok_or_else(nothing)?, &name, fetch);
        let entry = entry.map_err(|error| match error {
            CallError::Call(error) => Error::Vault(error),
            CallError::Node(error) => Error::Node(error),
        })?;
        let entry = entry.ok_or_else(nothing)?;
        tree = match &entry.kind {
            EntryKind::Directory { tree } => Some(*tree),
            _ => None,
        };
        found = Some(entry);
    }
    Ok(found)
}

struct Comparing<'a> {
    reader: &'a SnapshotReader<'a>,
    observer: &'a dyn Observer,
    found: Comparison,
    buffer: Vec<u8>,
    /// If everything is compared.
    shared: Option<Shared>,
}

/// Which inodes the groups of names with shared contents have turned out to be, and the other way round.
#[derive(Default)]
struct Shared {
    inodes: HashMap<[u8; 16], (u64, u64)>,
    groups: HashMap<(u64, u64), [u8; 16]>,
}

impl Shared {
    /// Whether an entry is in the group that the inode's other names are in.
    fn fits(&mut self, entry: &Entry, stat: &Stat) -> bool {
        let inode = (stat.device, stat.inode);
        match entry.link_group {
            None => !self.groups.contains_key(&inode),
            Some(group) => {
                *self.inodes.entry(group).or_insert(inode) == inode
                    && *self.groups.entry(inode).or_insert(group) == group
            }
        }
    }
}

/// A directory of both sides, read in the order of its names.
struct Frame<F> {
    path: TreePath,
    entries: EntryReader<F>,
    next: Option<Entry>,
    disk: SourceDir,
    names: Names,
    at: usize,
    /// After damage, names of the disk can't be told to be missing in the snapshot.
    is_whole: bool,
}

impl Comparing<'_> {
    fn add(&mut self, path: TreePath, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.found.total += 1;
        if changes.iter().any(|change| matches!(change, Change::Damaged(_))) {
            self.found.damaged += 1;
        }
        if self.found.differences.len() < DIFFERENCES_MAX {
            self.found.differences.push(Difference { path, changes });
        }
    }

    fn unreadable(&mut self, path: TreePath, error: &walk::Error) {
        self.add(path, vec![Change::Unreadable(error.to_string())]);
    }

    /// Compares two directories with everything below them.
    fn tree(&mut self, path: TreePath, tree: TreeRef, disk: SourceDir) -> Result<(), Error> {
        let reader = self.reader;
        let fetch = move |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
        let names = disk.names().map_err(Error::Source)?;
        let entries = EntryReader::new(tree, fetch);
        let mut frames = vec![Frame { path, entries, next: None, disk, names, at: 0, is_whole: true }];
        while let Some(top) = frames.last_mut() {
            if self.observer.interrupted() {
                return Err(Error::Interrupted);
            }
            if top.next.is_none() {
                top.next = match top.entries.next() {
                    None => None,
                    Some(Ok(entry)) => Some(entry),
                    Some(Err(error)) => {
                        top.is_whole = false;
                        let path = top.path.clone();
                        self.add(path, vec![Change::Damaged(error.to_string())]);
                        continue;
                    }
                };
            }
            let name = top.names.get(top.at);
            let order = match (&top.next, &name) {
                (None, None) => {
                    frames.pop();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(entry), Some(name)) => entry.name.cmp(name),
            };
            if order == Ordering::Less {
                let missing = top.next.take().map(|entry| top.path.join(&entry.name));
                if let Some(path) = missing {
                    self.add(path, vec![Change::OnlyInSnapshot]);
                }
                continue;
            }
            top.at += 1;
            let Some(name) = name else { continue };
            if order == Ordering::Greater {
                if top.is_whole {
                    let path = top.path.join(&name);
                    self.add(path, vec![Change::OnlyOnDisk]);
                }
                continue;
            }
            let Some(entry) = top.next.take() else { continue };
            let path = top.path.join(&name);
            let stat = match top.disk.examine(&name) {
                Ok(stat) => stat,
                Err(error) => {
                    self.unreadable(path, &error);
                    continue;
                }
            };
            match &entry.kind {
                EntryKind::Directory { tree } if stat.kind == SourceKind::Directory => {
                    let below = top.disk.open_dir(&name, &stat);
                    let below = below.and_then(|disk| disk.names().map(|names| (disk, names)));
                    match below {
                        Ok((disk, names)) => {
                            let xattrs = self.xattrs(&entry, || disk.xattrs());
                            self.attributes(&path, &entry, &stat, xattrs.into_iter().collect());
                            let entries = EntryReader::new(*tree, fetch);
                            frames.push(Frame {
                                path,
                                entries,
                                next: None,
                                disk,
                                names,
                                at: 0,
                                is_whole: true,
                            });
                        }
                        Err(error) => {
                            let unreadable = vec![Change::Unreadable(error.to_string())];
                            self.attributes(&path, &entry, &stat, unreadable);
                        }
                    }
                }
                _ => self.entry(path, &entry, &top.disk, &name, &stat)?,
            }
        }
        Ok(())
    }

    /// Compares anything but two directories.
    fn entry(
        &mut self,
        path: TreePath,
        entry: &Entry,
        disk: &SourceDir,
        name: &Name,
        stat: &Stat,
    ) -> Result<(), Error> {
        self.observer.event(&Event::Entry(path.as_bytes()));
        if !is_same_kind(&entry.kind, stat.kind) {
            self.add(path, vec![Change::Kind]);
            return Ok(());
        }
        let mut changes = Vec::new();
        match &entry.kind {
            EntryKind::File { size, .. } if *size != stat.size => changes.push(Change::Size),
            EntryKind::File { content, sparse, .. } => match disk.open_file(name, stat) {
                Err(error) => changes.push(Change::Unreadable(error.to_string())),
                Ok(file) => {
                    changes.extend(self.content(entry, content, sparse.as_deref(), &file)?);
                    changes.extend(self.xattrs(entry, || file.xattrs()));
                }
            },
            EntryKind::Symlink { target } => match disk.hold(name, stat).and_then(|node| node.read_link()) {
                Err(error) => changes.push(Change::Unreadable(error.to_string())),
                Ok(there) if there != *target => changes.push(Change::Target),
                Ok(_) => changes.extend(self.held_xattrs(entry, disk, name, stat)),
            },
            _ => changes.extend(self.held_xattrs(entry, disk, name, stat)),
        }
        self.attributes(&path, entry, stat, changes);
        Ok(())
    }

    fn attributes(&mut self, path: &TreePath, entry: &Entry, stat: &Stat, mut changes: Vec<Change>) {
        self.found.compared += 1;
        self.observer.event(&Event::Progress { items: 1, bytes: 0 });
        // Nobody can set a link's permissions.
        if entry.mode != stat.mode && stat.kind != SourceKind::Symlink {
            changes.push(Change::Mode);
        }
        if entry.modified != stat.modified {
            changes.push(Change::Modified);
        }
        if let Some(shared) = &mut self.shared {
            if (entry.owner.uid, entry.owner.gid) != (stat.uid, stat.gid) {
                changes.push(Change::Owner);
            }
            if stat.kind != SourceKind::Directory && !shared.fits(entry, stat) {
                changes.push(Change::Links);
            }
        }
        self.add(path.clone(), changes);
    }

    /// How the extended attributes differ that `load` gives, if they are compared.
    fn xattrs(
        &self,
        entry: &Entry,
        load: impl FnOnce() -> Result<Vec<Xattr>, walk::Error>,
    ) -> Option<Change> {
        self.shared.as_ref()?;
        match load() {
            Ok(there) if there == entry.xattrs => None,
            Ok(_) => Some(Change::Attributes),
            Err(error) => Some(Change::Unreadable(error.to_string())),
        }
    }

    fn held_xattrs(&self, entry: &Entry, disk: &SourceDir, name: &Name, stat: &Stat) -> Option<Change> {
        self.xattrs(entry, || disk.hold(name, stat)?.xattrs())
    }

    /// Whether a file of the right size has the right bytes.
    fn content(
        &mut self,
        entry: &Entry,
        content: &Content,
        sparse: Option<&[DataRun]>,
        file: &SourceFile<'_>,
    ) -> Result<Option<Change>, Error> {
        let whole = [DataRun { offset: 0, length: file.stat().size }];
        let runs = sparse.unwrap_or(&whole);
        let compared = if let Content::Inline(bytes) = content {
            self.read_run_parts(file, runs, &mut 0, bytes.len()).map(|()| self.buffer == **bytes)
        } else {
            self.chunks(entry, content, runs, file)?
        };
        let compared = match compared {
            Ok(true) if sparse.is_some() => self.are_holes_zero(file, runs),
            compared => compared,
        };
        Ok(match compared {
            Ok(true) => None,
            Ok(false) => Some(Change::Content),
            Err(Unlike::Disk(error)) => Some(Change::Unreadable(error.to_string())),
            Err(Unlike::Vault(what)) => Some(Change::Damaged(what)),
        })
    }

    fn chunks(
        &mut self,
        entry: &Entry,
        content: &Content,
        runs: &[DataRun],
        file: &SourceFile<'_>,
    ) -> Result<Result<bool, Unlike>, Error> {
        let reader = self.reader;
        let fetch = |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
        let mut at = 0;
        for reference in RefReader::new(content, entry.kind.content_bytes(), fetch) {
            if self.observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let reference = match reference {
                Ok(reference) => reference,
                Err(error) => return Ok(Err(Unlike::Vault(error.to_string()))),
            };
            let length = usize::try_from(reference.length).unwrap_or(CHUNK_BYTES_MAX).min(CHUNK_BYTES_MAX);
            if let Err(error) = self.read_run_parts(file, runs, &mut at, length) {
                return Ok(Err(error));
            }
            let id: ChunkId = reader.namer().name(ChunkKind::Data, &self.buffer);
            if id != reference.id {
                return Ok(Ok(false));
            }
        }
        Ok(Ok(true))
    }

    /// Fills the buffer with the next `length` bytes that are in runs; `at` counts those before them.
    fn read_run_parts(
        &mut self,
        file: &SourceFile<'_>,
        runs: &[DataRun],
        at: &mut u64,
        length: usize,
    ) -> Result<(), Unlike> {
        self.buffer.clear();
        self.buffer.resize(length, 0);
        let mut filled = 0;
        let mut before = 0_u64;
        for run in runs {
            let skipped = at.saturating_sub(before).min(run.length);
            before += run.length;
            let wanted = (length - filled).min(usize::try_from(run.length - skipped).unwrap_or(usize::MAX));
            let read = read_exactly(file, &mut self.buffer[filled..filled + wanted], run.offset + skipped)?;
            filled += read;
            *at += read as u64;
            if read < wanted || filled == length {
                break;
            }
        }
        // A file that shrank meanwhile gives fewer bytes, which no id fits.
        self.buffer.truncate(filled);
        self.found.bytes += filled as u64;
        self.observer.event(&Event::Progress { items: 0, bytes: filled as u64 });
        Ok(())
    }

    fn are_holes_zero(&mut self, file: &SourceFile<'_>, runs: &[DataRun]) -> Result<bool, Unlike> {
        let mut at = 0;
        let end = DataRun { offset: file.stat().size, length: 0 };
        for run in runs.iter().chain([&end]) {
            while at < run.offset {
                let length = (run.offset - at).min(ZEROS_BYTES);
                self.buffer.resize(usize::try_from(length).unwrap_or(0), 0);
                let read = read_exactly(file, &mut self.buffer, at)?;
                if read < self.buffer.len() || self.buffer.iter().any(|byte| *byte != 0) {
                    return Ok(false);
                }
                at += length;
            }
            at = run.offset + run.length;
        }
        Ok(true)
    }
}

/// Why contents could not be compared.
enum Unlike {
    Disk(walk::Error),
    Vault(String),
}

/// Reads until `buffer` is full or the file ends.
fn read_exactly(file: &SourceFile<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Unlike> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64).map_err(Unlike::Disk)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn is_same_kind(kept: &EntryKind, there: SourceKind) -> bool {
    match (kept, there) {
        (EntryKind::File { .. }, SourceKind::File)
        | (EntryKind::Directory { .. }, SourceKind::Directory)
        | (EntryKind::Symlink { .. }, SourceKind::Symlink)
        | (EntryKind::Fifo, SourceKind::Fifo) => true,
        (
            EntryKind::CharDevice { major, minor },
            SourceKind::CharDevice { major: there_major, minor: there_minor },
        )
        | (
            EntryKind::BlockDevice { major, minor },
            SourceKind::BlockDevice { major: there_major, minor: there_minor },
        ) => *major == there_major && *minor == there_minor,
        _ => false,
    }
}

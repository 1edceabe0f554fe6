//! The first half of a backup: the source is walked in order, files are examined and read in
//! parallel, cut into chunks and named; what the vault doesn't hold goes on as blocks.
//!
//! A directory is taken in groups of names. Of a group everything is examined at once, then all its
//! small files are read at once, then the results are taken in order, so that the same source
//! always gives the same trees and packs. Subdirectories follow after the files of their group.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use rayon::prelude::*;

use crate::chunk::cut::Cutter;
use crate::crypto::digest::Digester;
use crate::id::ChunkId;
use crate::id::Digest;
use crate::observe::Event;
use crate::observe::Observer;
use crate::pack::packer::Blocker;
use crate::pack::packer::ChunkKind;
use crate::pack::packer::RawBlock;
use crate::task::backup::Options;
use crate::task::backup::caches::Caches;
use crate::task::backup::files::FilesWriter;
use crate::task::backup::files::Hash;
use crate::task::backup::files::Known as KnownFile;
use crate::task::backup::files::LastDirectory;
use crate::task::backup::files::LastFiles;
use crate::task::backup::files::Rows;
use crate::task::backup::known::Known;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Owner;
use crate::tree::entry::Time;
use crate::tree::entry::TreeRef;
use crate::tree::entry::Xattr;
use crate::tree::filter;
use crate::tree::filter::Decision;
use crate::tree::filter::Scope;
use crate::tree::node;
use crate::tree::node::ListBuilder;
use crate::tree::node::NodeKind;
use crate::tree::node::TreeBuilder;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use crate::tree::walk;
use crate::tree::walk::Names;
use crate::tree::walk::Owners;
use crate::tree::walk::Source;
use crate::tree::walk::SourceDir;
use crate::tree::walk::SourceFile;
use crate::tree::walk::SourceKind;
use crate::tree::walk::Stat;
use crate::vault::body::Body;
use crate::vault::body::Counts;
use crate::vault::body::ReadError;
use crate::vault::namer::Namer;

/// Names that are examined at once.
const GROUP_NAMES: usize = 1_024;
/// Bytes of small files that are read at once; bounds what a group holds in memory.
const GROUP_BYTES: u64 = 8 << 20;
/// Files up to this size are read whole, several at once; larger ones are read piece by piece.
const SMALL_FILE_BYTES: u64 = 1 << 20;
/// How much of a large file is read before its chunks are named, on all cores.
const WINDOW_BYTES: usize = 2 << 20;
/// How much of a file is read that has more than it says, as those of `/proc` do, which say 0.
const UNTOLD_BYTES_MAX: usize = 64 << 10;
/// How much more than twice its size is read of a large file that grows meanwhile.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// File systems' clocks go in steps of 10 ms as a rule and of two seconds at worst: two changes within
/// one leave the same time.
const FILE_CLOCK_STEP_NS: u64 = 2_000_000_000;
/// How many bytes the paths of all directories on the way down may have together: they grow with the
/// square of the depth, and this is more than 4,096 directories with names of 15 bytes take.
const PATHS_BYTES_MAX: usize = 136 << 20;
/// Contents up to this many bytes stand in the tree itself: a chunk of its own would take more than
/// a hundred bytes in tree, directory and index.
const INLINE_BYTES_MAX: usize = 96;

/// What a session read, once all of it was handed on.
pub struct Listing {
    /// The tree of `/`.
    pub root: TreeRef,
    /// What was counted.
    pub counts: Counts,
    /// What could not be read.
    pub errors: Vec<ReadError>,
    /// The same for the same sources with the same content and metadata, whatever else changed in the
    /// directories that lead to them.
    pub sources: Digest,
}

/// Chunks on their way: what is new goes into blocks, what is known is relied on.
struct Outlet<'a> {
    namer: &'a Namer,
    known: &'a mut Known,
    blocks: SyncSender<RawBlock>,
    data: Blocker,
    nodes: Blocker,
    bytes_new: u64,
    /// Trees of the directories that lead to the sources, if it isn't known yet whether they are needed.
    held_back: Vec<(ChunkKind, ChunkId, Vec<u8>)>,
    holds_back: bool,
}

impl Outlet<'_> {
    fn take(&mut self, kind: ChunkKind, id: ChunkId, bytes: &[u8]) -> Result<(), Error> {
        if self.known.uses(&id) {
            return Ok(());
        }
        self.known.expect(&id);
        self.bytes_new += bytes.len() as u64;
        let blocker = if kind == ChunkKind::Data { &mut self.data } else { &mut self.nodes };
        match blocker.add(id, kind, bytes)? {
            Some(block) => self.send(block),
            None => Ok(()),
        }
    }

    /// If the other half has ended, it has an error to tell, and this one's doesn't matter.
    fn send(&self, block: RawBlock) -> Result<(), Error> {
        self.blocks.send(block).map_err(|_| Error::Interrupted)
    }

    fn node(&mut self, kind: NodeKind, bytes: &[u8]) -> Result<ChunkRef, Error> {
        let kind = match kind {
            NodeKind::Tree => ChunkKind::Tree,
            NodeKind::List => ChunkKind::List,
        };
        let reference = reference(self.namer.name(kind, bytes), bytes.len());
        if self.holds_back {
            self.held_back.push((kind, reference.id, bytes.to_vec()));
        } else {
            self.take(kind, reference.id, bytes)?;
        }
        Ok(reference)
    }

    fn content(&mut self, refs: &[ChunkRef]) -> Result<Content, Error> {
        let mut list = ListBuilder::new();
        for reference in refs {
            list.add(*reference, &mut |kind, bytes: Vec<u8>| self.node(kind, &bytes))?;
        }
        Ok(list.finish(&mut |kind, bytes: Vec<u8>| self.node(kind, &bytes))?)
    }

    /// Hands on what was held back.
    fn release(&mut self) -> Result<(), Error> {
        for (kind, id, bytes) in std::mem::take(&mut self.held_back) {
            self.take(kind, id, &bytes)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        for block in [self.data.finish(), self.nodes.finish()].into_iter().flatten() {
            self.send(block)?;
        }
        Ok(())
    }
}

fn reference(id: ChunkId, length: usize) -> ChunkRef {
    ChunkRef { id, length: u32::try_from(length).expect("chunks have at most 8 MiB") }
}

/// What to walk: the directories that lead to the sources, and the sources.
enum Plan {
    Passage { stat: Stat, xattrs: Vec<Xattr>, below: BTreeMap<Name, Plan> },
    Source(Box<Source>),
}

/// A directory being walked.
struct Frame {
    entry: Option<Entry>,
    /// Whether it was asked for itself.
    is_source: bool,
    path: Arc<TreePath>,
    path_hash: Hash,
    /// Its names; a passage has none but those in its plan.
    listed: Option<Box<Listed>>,
    rows: Rows,
    /// The group at hand; directories in it are still to be walked.
    group: std::vec::IntoIter<Taken>,
}

impl Frame {
    /// Whether it is there only because a source lies below it, or to be empty.
    fn leads_on(&self) -> bool {
        self.listed.is_none()
    }
}

struct Listed {
    directory: SourceDir,
    names: Names,
    next: usize,
    scope: Scope,
    last: LastDirectory,
}

/// An entry of a group, in the order of names.
enum Taken {
    Entry(Box<Entry>),
    Directory(Name, Stat),
    Plan(Name, Plan),
}

/// What was found under a name, before anything of it is read.
struct Examined {
    name: Name,
    hash: Hash,
    stat: Stat,
    /// What the last snapshot had, if that still holds.
    known: Option<KnownFile>,
    /// The content that it had there, if the file is read all the same.
    before: Option<Digest>,
}

/// What reading gave.
enum Loaded {
    /// A file taken over, or one to be read piece by piece.
    Later,
    Small(Box<SmallFile>),
    Other {
        target: Option<Box<[u8]>>,
        xattrs: Result<Vec<Xattr>, walk::Error>,
    },
    Failed(walk::Error),
}

struct SmallFile {
    stat: Stat,
    bytes: Vec<u8>,
    chunks: Vec<ChunkRef>,
    sparse: Option<Box<[DataRun]>>,
    xattrs: Result<Vec<Xattr>, walk::Error>,
    changed: bool,
}

/// Walks, reads and names.
pub struct Walker<'a> {
    options: &'a Options,
    observer: &'a dyn Observer,
    cutter: &'a Cutter,
    outlet: Outlet<'a>,
    last: LastFiles<'a>,
    files: Option<FilesWriter<'a>>,
    caches: &'a Caches<'a>,
    owners: Owners,
    links: HashMap<(u64, u64), [u8; 16]>,
    /// Directories, by device and inode, whose contents are never backed up.
    left_out: Vec<(u64, u64)>,
    counts: Counts,
    errors: Vec<ReadError>,
    sources: Digester,
    /// If the sources turn out to be these, no snapshot is wanted.
    unless: Option<Digest>,
}

type Tree<'a> = TreeBuilder<Box<dyn Fn(&[u8]) -> u64 + 'a>>;

impl<'a> Walker<'a> {
    /// A walker that sends blocks of what isn't `known`.
    #[expect(clippy::too_many_arguments, reason = "what a walk needs, each thing once")]
    pub fn new(
        options: &'a Options,
        observer: &'a dyn Observer,
        namer: &'a Namer,
        cutter: &'a Cutter,
        known: &'a mut Known,
        blocks: SyncSender<RawBlock>,
        last: LastFiles<'a>,
        files: Option<FilesWriter<'a>>,
        unless: Option<Digest>,
        caches: &'a Caches<'a>,
    ) -> Self {
        let outlet = Outlet {
            namer,
            known,
            blocks,
            data: Blocker::new(),
            nodes: Blocker::new(),
            bytes_new: 0,
            held_back: Vec::new(),
            holds_back: false,
        };
        Self {
            options,
            observer,
            cutter,
            outlet,
            last,
            files,
            caches,
            owners: Owners::new(),
            links: HashMap::new(),
            left_out: options
                .left_out
                .iter()
                .filter_map(|path| SourceDir::load_root(path).ok())
                .map(|directory| (directory.stat().device, directory.stat().inode))
                .collect(),
            counts: Counts::default(),
            errors: Vec::new(),
            sources: Digester::new(),
            unless,
        }
    }

    /// Walks all sources.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and what laying out trees says. What can't be read of the source is
    /// counted instead.
    pub fn walk(mut self, sources: Vec<Source>) -> Result<Listing, Error> {
        let namer = self.outlet.namer;
        let tree = || -> Tree<'a> { TreeBuilder::new(Box::new(|name: &[u8]| namer.cut_hash(name))) };
        let scope = self.options.filter.root();
        let plan = Self::plan(sources);
        let Some(root) = self.open_plan(None, TreePath::root(), plan, &scope) else {
            return Err(Error::Nothing { what: "the root directory can't be read" });
        };
        let depth_max = walk::depth_max();
        let mut frames = vec![(root, tree())];
        let mut paths_bytes = 0;
        loop {
            if self.observer.interrupted() {
                // What is on its way is stored and remembered, so that the next run goes on from here.
                self.outlet.finish()?;
                return Err(Error::Interrupted);
            }
            self.outlet.holds_back = false;
            let depth = frames.len();
            let (frame, tree_here) = frames.last_mut().expect("the root's frame ends the loop");
            let opened = match frame.group.next() {
                Some(Taken::Entry(entry)) => {
                    self.outlet.holds_back = self.unless.is_some() && frame.leads_on();
                    tree_here.add(&entry, &mut |kind, bytes: Vec<u8>| self.outlet.node(kind, &bytes))?;
                    None
                }
                Some(Taken::Directory(name, _)) if depth > depth_max || paths_bytes > PATHS_BYTES_MAX => {
                    let what = if depth > depth_max {
                        format!("it lies more than {depth_max} directories deep")
                    } else {
                        format!("the paths that lead to it have more than {PATHS_BYTES_MAX} bytes")
                    };
                    self.report(&frame.path.join(&name), what);
                    None
                }
                Some(Taken::Directory(name, stat)) => self.open_directory(frame, name, &stat),
                Some(Taken::Plan(name, plan)) => {
                    let path = frame.path.join(&name);
                    match plan {
                        Plan::Source(source) if !is_directory(&source) => {
                            let last = self.last.directory(&frame.path_hash);
                            let taken = self.single(frame, &source, last, &scope, name)?;
                            for taken in &taken {
                                if let Taken::Entry(entry) = taken {
                                    self.note_source(&path, entry);
                                }
                            }
                            frame.group = taken
                                .into_iter()
                                .chain(std::mem::take(&mut frame.group))
                                .collect::<Vec<_>>()
                                .into_iter();
                            None
                        }
                        plan => self.open_plan(Some(name), path, plan, &scope),
                    }
                }
                None if self.next_group(frame)? => None,
                None => {
                    let (mut frame, tree) = frames.pop().expect("the last frame was just looked at");
                    paths_bytes -= frame.path.as_bytes().len();
                    self.remember(|files| files.flush(&frame.path_hash, &mut frame.rows));
                    self.outlet.holds_back = self.unless.is_some() && frame.leads_on();
                    let tree = tree.finish(&mut |kind, bytes: Vec<u8>| self.outlet.node(kind, &bytes))?;
                    let is_source = frame.is_source;
                    let (Some(mut entry), Some((above, parent))) = (frame.entry, frames.last_mut()) else {
                        if is_source {
                            // Of the root as a source, the tree is all there is.
                            self.sources.update(&tree.reference.id.0);
                        }
                        let sources = self.sources.finish();
                        if self.unless != Some(sources) {
                            self.outlet.release()?;
                        }
                        self.outlet.finish()?;
                        self.counts.bytes_new = self.outlet.bytes_new;
                        if let Some(files) = self.files {
                            // Before the snapshot exists: what it says is only believed of chunks
                            // that the vault is known to hold.
                            self.caches.keep(files.finish());
                        }
                        return Ok(Listing { root: tree, counts: self.counts, errors: self.errors, sources });
                    };
                    entry.kind = EntryKind::Directory { tree };
                    self.counts.directories += 1;
                    if is_source {
                        self.note_source(&frame.path, &entry);
                    }
                    self.outlet.holds_back = self.unless.is_some() && above.leads_on();
                    parent.add(&entry, &mut |kind, bytes: Vec<u8>| self.outlet.node(kind, &bytes))?;
                    None
                }
            };
            if let Some(frame) = opened {
                paths_bytes += frame.path.as_bytes().len();
                frames.push((frame, tree()));
            }
        }
    }

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
                return Ok(Listing { root, counts: self.counts, errors: self.errors, sources });
            };
            self.counts.directories += 1;
            entry = Entry { name, kind: EntryKind::Directory { tree: root }, mode: 0o700, ..entry };
            parent = parent.and_then(|parent| parent.parent());
        }
    }

    /// Lays the sources out by their paths; one within another is part of that.
    fn plan(mut sources: Vec<Source>) -> Plan {
        sources.sort_by(|one, other| one.path().as_bytes().cmp(other.path().as_bytes()));
        let mut root: Option<Plan> = None;
        for source in sources {
            let mut names: Vec<Name> = source.path().components().collect();
            let Some(last) = names.pop() else { return Plan::Source(Box::new(source)) };
            let mut here = root.get_or_insert_with(|| passage(&source.parents()[0]));
            let mut within = false;
            for (name, parent) in names.iter().zip(&source.parents()[1..]) {
                let Plan::Passage { below, .. } = here else {
                    within = true;
                    break;
                };
                here = below.entry(name.clone()).or_insert_with(|| passage(parent));
            }
            if let (Plan::Passage { below, .. }, false) = (here, within) {
                below.insert(last, Plan::Source(Box::new(source)));
            }
        }
        root.expect("a task without any source is refused before")
    }

    /// Opens what a plan has at `path`: a passage, or a source that is a directory.
    fn open_plan(&mut self, name: Option<Name>, path: TreePath, plan: Plan, scope: &Scope) -> Option<Frame> {
        match plan {
            Plan::Passage { stat, xattrs, below } => {
                let entry = name.map(|name| self.directory_entry(name, &stat, xattrs));
                let mut frame = self.frame(entry, Arc::new(path), None);
                let plans: Vec<Taken> =
                    below.into_iter().map(|(name, plan)| Taken::Plan(name, plan)).collect();
                frame.group = plans.into_iter();
                Some(frame)
            }
            Plan::Source(source) => match source.open_dir() {
                Ok(directory) => {
                    let frame = self.enter(name, directory, scope)?;
                    Some(Frame { is_source: true, ..frame })
                }
                Err(error) => {
                    self.problem(&error);
                    None
                }
            },
        }
    }

    /// Notes what a source is: its path, and its entry with the tree or content in it.
    fn note_source(&mut self, path: &TreePath, entry: &Entry) {
        // What can't be encoded isn't in the snapshot either.
        if let Ok(bytes) = node::encode_entries(std::slice::from_ref(entry)) {
            for part in [path.as_bytes(), &bytes] {
                self.sources.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
        }
    }

    /// Opens a directory of the group at hand.
    fn open_directory(&mut self, frame: &Frame, name: Name, stat: &Stat) -> Option<Frame> {
        let listed = frame.listed.as_ref()?;
        match listed.directory.open_dir(&name, stat) {
            Ok(directory) => {
                let elsewhere = !directory.stat().is_on_same_file_system(listed.directory.stat());
                if elsewhere && self.options.filter.is_one_file_system() {
                    // The mount point is kept, empty.
                    let entry = self.directory_entry(name, stat, Vec::new());
                    return Some(self.frame(Some(entry), directory.shared_path(), None));
                }
                if self.left_out.contains(&(stat.device, stat.inode)) {
                    let path = [b"/", directory.path().as_bytes()].concat();
                    self.observer.event(&Event::Notice(format!(
                        "{} is the vault or this machine's own state: kept empty in the snapshot",
                        printable(&path)
                    )));
                    let entry = self.directory_entry(name, stat, Vec::new());
                    return Some(self.frame(Some(entry), directory.shared_path(), None));
                }
                let scope = listed.scope.clone();
                self.enter(Some(name), directory, &scope)
            }
            Err(error) => {
                self.problem(&error);
                None
            }
        }
    }

    fn enter(&mut self, name: Option<Name>, directory: SourceDir, above: &Scope) -> Option<Frame> {
        let mut names = match directory.names() {
            Ok(names) => names,
            Err(error) => {
                self.problem(&error);
                return None;
            }
        };
        for error in names.take_refused() {
            self.problem(&error);
        }
        let xattrs = self.attributes(directory.xattrs());
        let scope = self.scope(&directory, &names, above);
        let entry = name.map(|name| self.directory_entry(name, directory.stat(), xattrs));
        let path = directory.shared_path();
        let mut frame = self.frame(entry, path, None);
        let last = self.last.directory(&frame.path_hash);
        frame.listed = Some(Box::new(Listed { directory, names, next: 0, scope, last }));
        Some(frame)
    }

    fn frame(&self, entry: Option<Entry>, path: Arc<TreePath>, listed: Option<Box<Listed>>) -> Frame {
        let path_hash = self.outlet.namer.local_hash(b"path", path.as_bytes());
        Frame {
            entry,
            is_source: false,
            path,
            path_hash,
            listed,
            rows: Rows::default(),
            group: Vec::new().into_iter(),
        }
    }

    /// The rules in a directory: its ignore file and its markers.
    fn scope(&mut self, directory: &SourceDir, names: &Names, above: &Scope) -> Scope {
        let filter = &self.options.filter;
        for marker in filter.markers() {
            match directory.is_marked_by(marker, names) {
                Ok(true) => return above.marked(marker),
                Ok(false) => {}
                Err(error) => self.problem(&error),
            }
        }
        let ignore_file = filter.ignore_file().filter(|name| names.contains(name));
        let contents = ignore_file
            .map_or(Ok(None), |name| directory.read_whole(name, filter::IGNORE_FILE_BYTES_MAX))
            .unwrap_or_else(|error| {
                self.problem(&error);
                None
            });
        let mut refused = Vec::new();
        let scope = above.enter(directory.path(), contents.as_deref(), &mut refused);
        for error in refused {
            self.report(directory.path(), error.to_string());
        }
        scope
    }

    /// Takes the next group of a frame's names; false if there are no more.
    fn next_group(&mut self, frame: &mut Frame) -> Result<bool, Error> {
        let Some(mut listed) = frame.listed.take() else { return Ok(false) };
        let until = (listed.next + GROUP_NAMES).min(listed.names.len());
        let names: Vec<Name> = (listed.next..until).filter_map(|at| listed.names.get(at)).collect();
        listed.next = until;
        let Listed { directory, scope, last, .. } = &mut *listed;
        let taken = self.group(frame, directory, &names, scope, last)?;
        frame.group = taken.into_iter();
        frame.listed = Some(listed);
        Ok(!names.is_empty())
    }

    /// Takes a source that is no directory.
    fn single(
        &mut self,
        frame: &mut Frame,
        source: &Source,
        mut last: LastDirectory,
        scope: &Scope,
        name: Name,
    ) -> Result<Vec<Taken>, Error> {
        self.group(frame, source.parent(), &[name], scope, &mut last)
    }

    /// Examines, reads and names a group of a directory's names.
    fn group(
        &mut self,
        frame: &mut Frame,
        directory: &SourceDir,
        names: &[Name],
        scope: &Scope,
        last: &mut LastDirectory,
    ) -> Result<Vec<Taken>, Error> {
        let examined = self.examine(directory, names, scope, last);
        let mut taken = Vec::with_capacity(examined.len());
        let mut rest = &examined[..];
        while !rest.is_empty() {
            // As many as fit into memory at once, at least one.
            let mut bytes = 0;
            let fitting = rest
                .iter()
                .take_while(|file| {
                    bytes += file.bytes_read_whole();
                    bytes <= GROUP_BYTES
                })
                .count();
            let (now, later) = rest.split_at(fitting.max(1));
            rest = later;
            let (namer, cutter) = (self.outlet.namer, self.cutter);
            let loaded: Vec<Loaded> =
                now.par_iter().map(|file| load(directory, file, namer, cutter)).collect();
            for (file, loaded) in now.iter().zip(loaded) {
                if self.observer.interrupted() {
                    return Ok(taken);
                }
                taken.extend(self.take(frame, directory, file, loaded)?);
            }
        }
        Ok(taken)
    }

    fn examine(
        &mut self,
        directory: &SourceDir,
        names: &[Name],
        scope: &Scope,
        last: &mut LastDirectory,
    ) -> Vec<Examined> {
        let namer = self.outlet.namer;
        let stats: Vec<(Hash, Result<Stat, walk::Error>)> = names
            .par_iter()
            .with_min_len(32)
            .map(|name| (namer.local_hash(b"name", name.as_bytes()), directory.examine(name)))
            .collect();
        let mut kept = Vec::with_capacity(names.len());
        for (name, (hash, stat)) in names.iter().zip(stats) {
            match stat {
                Ok(stat) => {
                    let path = directory.path().join(name);
                    let is_directory = stat.kind == SourceKind::Directory;
                    if scope.decides(&path, is_directory, stat.size) == Decision::Keep {
                        kept.push(Examined { name: name.clone(), hash, stat, known: None, before: None });
                    }
                }
                Err(error) => self.problem(&error),
            }
        }
        let files = || kept.iter().filter(|file| file.stat.kind == SourceKind::File);
        let hashes: Vec<Hash> = files().map(|file| file.hash).collect();
        let found = self.last.find(last, &hashes);
        let of_files = kept.iter_mut().filter(|file| file.stat.kind == SourceKind::File);
        for (file, known) in of_files.zip(found) {
            let Some(known) = known else { continue };
            let is_good = !self.options.force
                && known.fits(&file.stat, self.options.ignore_ctime, self.options.ignore_inode)
                && known.refs.iter().all(|reference| self.outlet.known.holds(&reference.id));
            if is_good {
                file.known = Some(known);
            } else {
                file.before = Some(known.content());
            }
        }
        kept
    }

    /// Hands the content of one thing on, and makes its entry.
    fn take(
        &mut self,
        frame: &mut Frame,
        directory: &SourceDir,
        file: &Examined,
        loaded: Loaded,
    ) -> Result<Option<Taken>, Error> {
        let path = directory.path().join(&file.name);
        self.observer.event(&Event::Entry(path.as_bytes()));
        let (target, xattrs) = match loaded {
            Loaded::Failed(error) => {
                self.problem(&error);
                return Ok(None);
            }
            Loaded::Small(small) => {
                let content = self.take_small(&path, &small)?;
                let xattrs = self.attributes(small.xattrs);
                return self.finish_file(frame, file, &small.stat, content, small.sparse, xattrs).map(Some);
            }
            Loaded::Later => {
                return match &file.known {
                    Some(known) => self.take_over(frame, file, known).map(Some),
                    None => self.take_large(frame, directory, file, &path),
                };
            }
            Loaded::Other { target, xattrs } => (target, xattrs),
        };
        let kind = match file.stat.kind {
            SourceKind::Directory => return Ok(Some(Taken::Directory(file.name.clone(), file.stat))),
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
        let entry = self.entry(file, &path, &file.stat, kind, xattrs);
        Ok(self.keep(&path, entry))
    }

    /// Takes a file over as the last snapshot had it.
    fn take_over(&mut self, frame: &mut Frame, file: &Examined, known: &KnownFile) -> Result<Taken, Error> {
        for reference in &known.refs {
            self.outlet.known.uses(&reference.id);
        }
        let content = FileContent { refs: known.refs.clone(), inline: known.inline.clone() };
        self.finish_file(frame, file, &file.stat, content, known.sparse.clone(), known.xattrs.clone())
    }

    fn take_small(&mut self, path: &TreePath, small: &SmallFile) -> Result<FileContent, Error> {
        if small.changed {
            self.report(path, "it changed while it was being read".to_owned());
        }
        if small.bytes.len() <= INLINE_BYTES_MAX {
            return Ok(FileContent { refs: Vec::new(), inline: Some(small.bytes.clone().into()) });
        }
        let mut rest = &small.bytes[..];
        for reference in &small.chunks {
            let (chunk, after) = rest.split_at(reference.length as usize);
            self.outlet.take(ChunkKind::Data, reference.id, chunk)?;
            rest = after;
        }
        Ok(FileContent { refs: small.chunks.clone(), inline: None })
    }

    /// Reads a large file piece by piece.
    fn take_large(
        &mut self,
        frame: &mut Frame,
        directory: &SourceDir,
        file: &Examined,
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
        self.finish_file(frame, file, &stat, content, sparse, xattrs).map(Some)
    }

    /// Cuts, names and hands on a stream of bytes.
    ///
    /// `expected` is about how many bytes there will be; 0 if nobody knows.
    fn pieces(
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
    fn interrupted(&mut self) -> Error {
        self.outlet.finish().err().unwrap_or(Error::Interrupted)
    }

    fn finish_file(
        &mut self,
        frame: &mut Frame,
        file: &Examined,
        stat: &Stat,
        content: FileContent,
        sparse: Option<Box<[DataRun]>>,
        xattrs: Vec<Xattr>,
    ) -> Result<Taken, Error> {
        let path = frame.path.join(&file.name);
        self.counts.files += 1;
        self.counts.bytes += stat.size;
        let streamed = file.known.is_none() && stat.size > SMALL_FILE_BYTES;
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
        let count = match file.before {
            _ if file.known.is_some() => &mut self.counts.files_unchanged,
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
        Ok(Taken::Entry(Box::new(self.entry(file, &path, stat, kind, known.xattrs))))
    }

    /// Has something written into the memory of files, which is given up when it can't be.
    fn remember(&mut self, write: impl FnOnce(&mut FilesWriter<'a>) -> Result<(), Error>) {
        if let Some(mut files) = self.files.take() {
            self.files = self.caches.keep(write(&mut files)).map(|()| files);
        }
    }

    fn entry(
        &mut self,
        file: &Examined,
        path: &TreePath,
        stat: &Stat,
        kind: EntryKind,
        xattrs: Vec<Xattr>,
    ) -> Entry {
        let link_group = (stat.links > 1).then(|| {
            let namer = self.outlet.namer;
            *self
                .links
                .entry((stat.device, stat.inode))
                .or_insert_with(|| namer.local_hash(b"link", path.as_bytes()))
        });
        Entry {
            name: file.name.clone(),
            kind,
            mode: stat.mode,
            owner: self.owners.owner(stat.uid, stat.gid),
            modified: stat.modified,
            xattrs,
            link_group,
        }
    }

    /// An entry for a directory, whose tree is not known yet.
    fn directory_entry(&mut self, name: Name, stat: &Stat, xattrs: Vec<Xattr>) -> Entry {
        let tree = TreeRef { depth: 0, reference: ChunkRef { id: ChunkId([0; 32]), length: 0 } };
        Entry {
            name,
            kind: EntryKind::Directory { tree },
            mode: stat.mode,
            owner: self.owners.owner(stat.uid, stat.gid),
            modified: stat.modified,
            xattrs,
            link_group: None,
        }
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

    fn attributes(&mut self, xattrs: Result<Vec<Xattr>, walk::Error>) -> Vec<Xattr> {
        xattrs.unwrap_or_else(|error| {
            self.problem(&error);
            Vec::new()
        })
    }

    fn problem(&mut self, error: &walk::Error) {
        use std::error::Error as _;
        let why = error.source().map_or_else(String::new, |source| format!(": {source}"));
        let path = error.path().to_vec();
        self.add_error(path, format!("{error}{why}"));
    }

    fn report(&mut self, path: &TreePath, what: String) {
        let absolute = [b"/", path.as_bytes()].concat();
        let message = format!("{}: {what}", printable(&absolute));
        self.add_error(absolute, message);
    }

    fn add_error(&mut self, path: Vec<u8>, message: String) {
        self.observer.event(&Event::Problem { path: &path, message: message.clone() });
        self.counts.errors += 1;
        if self.errors.len() < Body::ERRORS_MAX {
            self.errors.push(ReadError { path, message });
        }
    }
}

/// The content of a file once its chunks are handed on.
#[derive(Default)]
struct FileContent {
    refs: Vec<ChunkRef>,
    inline: Option<Box<[u8]>>,
}

impl FileContent {
    fn bytes(&self) -> u64 {
        let inline = self.inline.as_ref().map_or(0, |bytes| bytes.len() as u64);
        inline + self.refs.iter().map(|reference| u64::from(reference.length)).sum::<u64>()
    }
}

impl Examined {
    /// How many bytes of memory reading it whole takes.
    fn bytes_read_whole(&self) -> u64 {
        let whole =
            self.stat.kind == SourceKind::File && self.known.is_none() && self.stat.size <= SMALL_FILE_BYTES;
        if whole { self.stat.size } else { 0 }
    }
}

/// Reads what can be read beside others.
fn load(directory: &SourceDir, file: &Examined, namer: &Namer, cutter: &Cutter) -> Loaded {
    let other = |target: Option<Box<[u8]>>, xattrs| Loaded::Other { target, xattrs };
    match file.stat.kind {
        SourceKind::File if file.known.is_some() || file.stat.size > SMALL_FILE_BYTES => Loaded::Later,
        SourceKind::File => load_small(directory, file, namer, cutter).unwrap_or_else(Loaded::Failed),
        SourceKind::Directory | SourceKind::Socket | SourceKind::Unknown => other(None, Ok(Vec::new())),
        SourceKind::Symlink
        | SourceKind::Fifo
        | SourceKind::CharDevice { .. }
        | SourceKind::BlockDevice { .. } => {
            let held = match directory.hold(&file.name, &file.stat) {
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

fn load_small(
    directory: &SourceDir,
    file: &Examined,
    namer: &Namer,
    cutter: &Cutter,
) -> Result<Loaded, walk::Error> {
    let opened = directory.open_file(&file.name, &file.stat)?;
    let mut stat = *opened.stat();
    let mut sparse = opened.data_runs()?;
    let mut source = RunReader::new(&opened, sparse.as_deref());
    let expected = usize::try_from(stat.size.min(SMALL_FILE_BYTES)).unwrap_or(0);
    // One byte more than there should be: a file that grew is noticed without another call.
    let mut bytes = vec![0; expected + 1];
    let (mut filled, mut is_cut) = (0, false);
    loop {
        if filled == bytes.len() {
            if filled > UNTOLD_BYTES_MAX.max(expected) {
                // It grows under our hands. This much is kept; a log is complete up to here.
                is_cut = true;
                break;
            }
            bytes.resize(UNTOLD_BYTES_MAX.max(expected) + 1, 0);
        }
        match source.read(&mut bytes[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    let short = source.is_short();
    if short {
        sparse = None;
    }
    if sparse.is_none() {
        stat.size = filled as u64;
    }
    let changed = short || is_cut || opened.examine().is_ok_and(|now| !now.is_unchanged(opened.stat()));
    let xattrs = opened.xattrs();
    let mut chunks = Vec::new();
    if bytes.len() > INLINE_BYTES_MAX {
        let mut rest = &bytes[..];
        while let Some(length) = cutter.next(rest, true) {
            let (chunk, after) = rest.split_at(length);
            chunks.push(reference(namer.name(ChunkKind::Data, chunk), length));
            rest = after;
        }
    }
    Ok(Loaded::Small(Box::new(SmallFile { stat, bytes, chunks, sparse, xattrs, changed })))
}

/// Reads a file from its start to its end, or its runs of data one after the other.
struct RunReader<'a> {
    file: &'a SourceFile,
    runs: Option<&'a [DataRun]>,
    at: u64,
    short: bool,
}

impl<'a> RunReader<'a> {
    fn new(file: &'a SourceFile, runs: Option<&'a [DataRun]>) -> Self {
        Self { file, runs, at: 0, short: false }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, walk::Error> {
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

    /// Whether the file ended before its last run did.
    fn is_short(&self) -> bool {
        self.short
    }
}

fn is_directory(source: &Source) -> bool {
    source.examine().is_ok_and(|stat| stat.kind == SourceKind::Directory)
}

fn passage(directory: &SourceDir) -> Plan {
    // A parent's attributes are a courtesy: whoever may pass through it may not always ask for them.
    let xattrs = directory.xattrs().unwrap_or_default();
    Plan::Passage { stat: *directory.stat(), xattrs, below: BTreeMap::new() }
}

fn nanoseconds(time: Time) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(time.nanos))
}

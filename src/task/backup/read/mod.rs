//! The first half of a backup: the source is walked in order, files are examined and read in
//! parallel, cut into chunks and named; what the vault doesn't hold goes on as blocks.
//!
//! A directory is taken in groups of names. Of a group everything is examined at once; then its small
//! files are read on all cores, and one after the other is taken in order while the next are read, so
//! that the same source always gives the same trees and packs. Where nothing is known of a directory's
//! files, both are done in one. Subdirectories follow after the files of their group.

mod ahead;
mod content;
mod load;
mod outlet;
mod plan;
mod tar;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::sync::mpsc::SyncSender;

use rayon::prelude::*;

use crate::chunk::cut::Cutter;
use crate::crypto::digest::Digester;
use crate::id::ChunkId;
use crate::id::Digest;
use crate::observe::Event;
use crate::observe::Observer;
use crate::task::backup::Options;
use crate::task::backup::blocks::Blocks;
use crate::task::backup::blocks::Material;
use crate::task::backup::caches::Caches;
use crate::task::backup::carry::Wanted;
use crate::task::backup::files::FilesWriter;
use crate::task::backup::files::Hash;
use crate::task::backup::files::LastDirectory;
use crate::task::backup::files::LastFiles;
use crate::task::backup::files::Rows;
use crate::task::backup::known::Known;
use crate::task::backup::read::ahead::in_order;
use crate::task::backup::read::load::Examined;
use crate::task::backup::read::load::Loaded;
use crate::task::backup::read::load::Loader;
use crate::task::backup::read::outlet::Outlet;
use crate::task::backup::read::plan::Plan;
use crate::task::backup::read::plan::is_directory;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::entry::Xattr;
use crate::tree::filter;
use crate::tree::filter::Scope;
use crate::tree::node;
use crate::tree::node::TreeBuilder;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use crate::tree::walk;
use crate::tree::walk::Names;
use crate::tree::walk::Owners;
use crate::tree::walk::Source;
use crate::tree::walk::SourceDir;
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
    /// How many files the memory of files knew by their names.
    pub files_known: u64,
}

/// Where sources lie, as bytes that no others have.
pub fn places(sources: &[Source]) -> Vec<u8> {
    let mut paths: Vec<&[u8]> = sources.iter().map(|source| source.path().as_bytes()).collect();
    paths.sort_unstable();
    paths.join(&0)
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

/// Walks, reads and names.
pub struct Walker<'a> {
    options: &'a Options<'a>,
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
    files_known: u64,
    sources: Digester,
    /// If the sources turn out to be these, no snapshot is wanted.
    unless: Option<Digest>,
}

type Tree<'a> = TreeBuilder<Box<dyn Fn(&[u8]) -> u64 + 'a>>;

impl<'a> Walker<'a> {
    /// A walker that sends blocks of what isn't `known`.
    #[expect(clippy::too_many_arguments, reason = "what a walk needs, each thing once")]
    pub fn new(
        options: &'a Options<'a>,
        observer: &'a dyn Observer,
        namer: &'a Namer,
        cutter: &'a Cutter,
        known: &'a mut Known,
        blocks: SyncSender<Material>,
        carrier: Option<Sender<Wanted>>,
        last: LastFiles<'a>,
        files: Option<FilesWriter<'a>>,
        unless: Option<Digest>,
        caches: &'a Caches<'a>,
    ) -> Self {
        let outlet = Outlet {
            namer,
            known,
            blocks: Blocks::new(blocks),
            carrier,
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
            files_known: 0,
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
        let places = places(&sources);
        let plan = match &self.options.sealing {
            None => plan::plan(sources),
            Some(_) => plan::plan_flat(sources),
        };
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
                            self.caches.keep(files.finish(&places, &tree));
                        }
                        let Self { counts, errors, files_known, .. } = self;
                        return Ok(Listing { root: tree, counts, errors, sources, files_known });
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
        let name = |at| Some((listed.names.get(at)?, listed.names.is_file(at)));
        let names: Vec<(Name, bool)> = (listed.next..until).filter_map(name).collect();
        let has_any = !names.is_empty();
        listed.next = until;
        let Listed { directory, scope, last, .. } = &mut *listed;
        let taken = self.group(frame, directory, names, scope, last)?;
        frame.group = taken.into_iter();
        frame.listed = Some(listed);
        Ok(has_any)
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
        self.group(frame, source.parent(), vec![(name, false)], scope, &mut last)
    }

    /// Examines, reads and names a group of a directory's names, each with whether it was listed as that of a file.
    fn group(
        &mut self,
        frame: &mut Frame,
        directory: &SourceDir,
        names: Vec<(Name, bool)>,
        scope: &Scope,
        last: &mut LastDirectory,
    ) -> Result<Vec<Taken>, Error> {
        let loader = Loader { directory, scope, namer: self.outlet.namer, cutter: self.cutter };
        let mut taken = Vec::with_capacity(names.len());
        let mut rest: Vec<(Examined, Option<Loaded>)> = Vec::new();
        if last.is_empty() {
            let share = GROUP_BYTES / names.len().max(1) as u64;
            let read = |(name, is_file)| loader.read_at_once(name, is_file, share);
            in_order(names, &read, |read| {
                match read {
                    Ok(Some((file, Some(loaded)))) if rest.is_empty() => {
                        taken.extend(self.take(frame, directory, file, loaded)?);
                    }
                    Ok(read) => rest.extend(read),
                    Err(error) => self.problem(&error),
                }
                Ok::<(), Error>(())
            })?;
        } else {
            rest.extend(self.examine(&loader, &names, last).into_iter().map(|file| (file, None)));
        }
        while !rest.is_empty() {
            // As many as fit into memory at once, at least one; what is read already is there anyway.
            let mut bytes =
                rest.iter().filter_map(|(_, loaded)| loaded.as_ref()).map(Loaded::bytes).sum::<u64>();
            let fitting = rest
                .iter()
                .take_while(|(file, loaded)| {
                    let more = if loaded.is_none() { file.bytes_read_whole() } else { 0 };
                    bytes += more;
                    more == 0 || bytes <= GROUP_BYTES
                })
                .count();
            let later = rest.split_off(fitting.max(1));
            let now = std::mem::replace(&mut rest, later);
            let load = |(file, loaded): (Examined, Option<Loaded>)| {
                let loaded = loaded.unwrap_or_else(|| loader.load(&file));
                (file, loaded)
            };
            // Without anything to read, asking other threads would take longer than doing it.
            let reads = now.iter().any(|(file, loaded)| file.known.is_none() && loaded.is_none());
            let mut take = |(mut file, loaded): (Examined, Loaded)| {
                let gone = std::mem::take(&mut file.gone);
                taken.extend(self.take(frame, directory, file, loaded)?);
                self.outlet.drop_chunks(&gone);
                Ok::<(), Error>(())
            };
            if reads {
                in_order(now, &load, take)?;
            } else {
                now.into_iter().map(load).try_for_each(&mut take)?;
            }
        }
        self.outlet.carry()?;
        Ok(taken)
    }

    fn examine(
        &mut self,
        loader: &Loader<'_>,
        names: &[(Name, bool)],
        last: &mut LastDirectory,
    ) -> Vec<Examined> {
        let found: Vec<Result<Option<Examined>, walk::Error>> =
            names.par_iter().with_min_len(32).map(|(name, _)| loader.examine(name)).collect();
        let mut kept = Vec::with_capacity(names.len());
        for found in found {
            match found {
                Ok(file) => kept.extend(file),
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
                if known.size <= SMALL_FILE_BYTES {
                    file.gone = known.refs;
                }
            }
        }
        kept
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

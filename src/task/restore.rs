//! Restoring a snapshot, or a part of one, to a directory.
//!
//! ```text
//! plan       walks the trees, makes directories, cuts the files' chunks into batches     this thread
//! execute    reads the blocks that a batch needs, checks and writes their chunks         all threads
//! settle     walks the trees again: links, pipes, deletions, metadata, the deepest first  this thread
//! ```
//!
//! Whatever is placed was checked. The header is signed and chained; it names the body by its digest;
//! the body names the root; and every tree, list and chunk is held against the keyed digest by which
//! what is above it names it, before a byte of it is used. So a restored tree is the one that the device
//! signed, and no order, part or repetition of it is the vault's choice (R-17).
//!
//! It keeps its part of the rule that objects are stored in an order that leaves nothing half made: a
//! file comes to stand whole under its name or not at all, links come after files, directories get their
//! metadata when they are full, and a new target appears under its name when all is there.
//!
//! A damaged or missing chunk costs the files that hold it, a damaged tree the directory that it is (or
//! that part of it); both are named, and the rest is restored.
//!
//! Memory doesn't grow with files: what is in it is a few batches' lists of chunks, the blocks that
//! threads are at, and a directory's part on each level of the way down.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::hash_map;
use std::mem;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use rayon::prelude::*;

use crate::crypto::digest;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::pack::packer::ChunkKind;
use crate::pack::unpacker::Place;
use crate::task::browse::At;
use crate::task::browse::Damaged;
use crate::task::browse::Step;
use crate::task::browse::Walk;
use crate::task::browse::entry_at;
use crate::task::browse::layout;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::filter::Choice;
use crate::tree::filter::Selection;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::place;
use crate::tree::place::Begin;
use crate::tree::place::Dropped;
use crate::tree::place::ExistingFile;
use crate::tree::place::Outcome;
use crate::tree::place::Overwrite;
use crate::tree::place::PlacedFile;
use crate::tree::place::PlacedId;
use crate::tree::place::Policy;
use crate::tree::place::Run;
use crate::tree::place::Target;
use crate::vault::read::PackReader;
use crate::vault::read::SnapshotReader;

/// How many bytes of content a batch is for. They aren't in memory at once: enough blocks for many
/// threads, and few chunks asked for twice because a block's chunks lie in two batches.
const BATCH_BYTES: u64 = 64 << 20;

/// How many files a batch is for, in a target where nothing can stand already: some 2 MB of lists.
const BATCH_FILES: usize = 4096;

/// The same where each file is begun, and so held open, before it is known what of it is needed.
const BATCH_FILES_EXISTING: usize = 128;

/// How many bytes of files that stand in their entries a batch has: these are in memory.
const BATCH_BYTES_INLINE: usize = 2 << 20;

/// How many files of a batch may need more than one chunk: each may be open until the batch is done.
const BATCH_FILES_OPEN: usize = 128;

/// How many batches are executed at once: the second keeps the threads busy while the first ends.
const BATCHES_AT_ONCE: usize = 2;

/// How many batches wait to be executed: one, so that planning never holds up writing.
const BATCHES_WAITING: usize = 1;

/// How many bytes of a pack are read at once, as stored: about one block that doesn't compress.
const RUN_BYTES: u64 = 1 << 20;

/// How many neighbouring blocks are read at once at most, so that there is work for all threads.
const RUN_BLOCKS: u32 = 4;

/// How many small files one thread takes at a time.
const INLINE_FILES_AT_ONCE: usize = 32;

/// How many damaged entries are named; beyond that they are only counted.
pub const DAMAGED_NAMED_MAX: usize = 10_000;

/// What to restore, and how.
pub struct Options {
    /// Which part: a directory, whose entries go into the target, or anything else, which itself does.
    pub subpath: TreePath,
    /// What may be done to the target.
    pub policy: Policy,
    /// What of it, by patterns tied to `subpath`.
    pub selection: Selection,
}

impl Default for Options {
    /// Everything, into a directory that isn't there yet or is empty.
    fn default() -> Self {
        Self { subpath: TreePath::root(), policy: Policy::default(), selection: Selection::everything() }
    }
}

/// What a restore did; in a dry run, what it would do.
#[derive(Debug, Default)]
pub struct Summary {
    /// Files that were written, further names of one file among them.
    pub files: u64,
    /// Directories that were made or given their metadata.
    pub directories: u64,
    /// Links, pipes and devices.
    pub others: u64,
    /// Of the files that were written, as their sizes say.
    pub bytes: u64,
    /// Of `files`, those that became a second name of one written before.
    pub hard_links: u64,
    /// Files and others that stand there already as they should be, or that the policy keeps.
    pub kept: u64,
    /// Names that were deleted because the snapshot doesn't have them.
    pub removed: u64,
    /// What was left out of what was placed.
    pub dropped: Dropped,
    /// Entries that are damaged in the vault, and were not placed: [`DAMAGED_NAMED_MAX`] of them.
    pub damaged: Vec<Damaged>,
    /// How many there are.
    pub damaged_count: u64,
    /// Entries that could not be written to the target; each was an event.
    pub problems: u64,
    /// Whether an interrupted restore went on.
    pub resumed: bool,
    /// Nothing was written.
    pub dry_run: bool,
}

/// Restores what `options` say of a snapshot into the directory `target`.
///
/// A target that doesn't exist or is empty is built beside its place and appears when it is whole. One
/// with files in it needs a policy that says what becomes of them.
///
/// # Errors
/// [`Error::Interrupted`] when the observer says so: what was restored is kept, and the same restore
/// goes on from there. [`Error::Refused`] if there isn't room for the files, or for patterns together
/// with deletion. [`Error::Target`] if the target can't be had or is full. [`Error::Vault`] or
/// [`Error::Node`] if what leads to the subpath is damaged, or nothing stands there. What is damaged
/// below it is no error but in the [`Summary`].
pub fn restore(
    reader: &SnapshotReader<'_>,
    target: &Path,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Summary, Error> {
    if options.policy.delete && !options.selection.is_everything() {
        // What the patterns leave out isn't extra, and by name alone they can't be told apart.
        let what =
            "deleting what the snapshot doesn't have goes only with a whole directory, not with patterns";
        return Err(Error::Refused { what: what.to_owned() });
    }
    let start = Start::find(reader, &options.subpath)?;
    let run = run_of(reader, options);
    let target = match Target::stage(target, &run, options.policy) {
        Err(place::Error::NotEmpty { .. }) if options.policy.overwrite != Overwrite::Refuse => {
            Target::in_place(target, &run, options.policy)?
        }
        staged => staged?,
    };
    let restoration = Restoration::new(reader, &target, options, observer);
    let done = restoration.run(&start);
    let summary = restoration.into_summary();
    if let Err(error) = done {
        if let Some(staging) = target.staging_path() {
            let kept = format!("what was restored so far is kept in {}", staging.display());
            observer.event(&Event::Notice(kept));
        }
        return Err(error);
    }
    target.finish()?;
    Ok(summary)
}

/// What decides which files lie in a staging directory.
fn run_of(reader: &SnapshotReader<'_>, options: &Options) -> Run {
    let snapshot = reader.snapshot();
    let chosen = [options.subpath.as_bytes(), b"\n", options.selection.words().as_bytes()].concat();
    let mut tag = [0; 4];
    tag.copy_from_slice(&snapshot.digest.0[..4]);
    let marker = format!("snapshot {}\npart {}\n", snapshot.digest, digest::digest(&chosen));
    Run { tag, marker }
}

/// Where a restore begins.
enum Start {
    /// A directory, with its entry unless it is the root.
    Directory(TreeRef, Option<Entry>),
    /// Anything else.
    Other(Entry),
}

impl Start {
    fn find(reader: &SnapshotReader<'_>, subpath: &TreePath) -> Result<Self, Error> {
        Ok(match entry_at(reader, subpath)? {
            At::Root(tree) => Self::Directory(tree, None),
            At::Entry(entry) => match entry.kind {
                EntryKind::Directory { tree } => Self::Directory(tree, Some(entry)),
                _ => Self::Other(entry),
            },
        })
    }
}

/// A file between being planned and being whole.
struct Open<'t> {
    directory: Arc<TreePath>,
    entry: Entry,
    state: RwLock<State<'t>>,
    /// Writes that are planned and not done, and one while more may be planned.
    left: AtomicU64,
}

enum State<'t> {
    Waiting,
    Writing(PlacedFile<'t>),
    /// Whole, kept, or given up.
    Settled,
}

impl<'t> Open<'t> {
    fn new(directory: Arc<TreePath>, entry: Entry) -> Self {
        Self { directory, entry, state: RwLock::new(State::Waiting), left: AtomicU64::new(1) }
    }

    fn path(&self) -> TreePath {
        self.directory.join(&self.entry.name)
    }

    fn is_settled(&self) -> bool {
        matches!(*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Settled)
    }

    fn settle(&self) -> State<'t> {
        mem::replace(&mut *self.state.write().unwrap_or_else(PoisonError::into_inner), State::Settled)
    }
}

/// A part of a chunk that goes to one place.
struct Write<'t> {
    open: Arc<Open<'t>>,
    chunk: ChunkRef,
    offset: u64,
    in_chunk: Range<u32>,
}

/// Files and parts of files that are restored together.
#[derive(Default)]
struct Batch<'t> {
    writes: Vec<Write<'t>>,
    /// Files whose bytes stand in their entries.
    inline: Vec<Arc<Open<'t>>>,
    inline_bytes: usize,
    files_open: usize,
    bytes: u64,
}

impl Batch<'_> {
    fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.inline.is_empty()
    }
}

/// A write, and where its chunk is.
struct Found<'t> {
    /// Which of the batch's packs.
    pack: usize,
    place: Place,
    write: Write<'t>,
}

/// A chunk, and its bytes if they are the right ones.
type Checked<'b> = (ChunkRef, Result<&'b [u8], Arc<Error>>);

/// Files that are names of one inode.
struct Group {
    /// The first that was met: it gets the content.
    first: TreePath,
    /// What became of it, once it is whole.
    placed: Option<PlacedId>,
}

/// Takes the batches that planning fills; false if nobody wants more.
type Sink<'s, 't> = &'s mut dyn FnMut(Batch<'t>) -> bool;

/// What is known of a directory while walking through it.
struct Around {
    choice: Choice,
    /// Whether it has to be there.
    wanted: bool,
    /// Its names, if what else stands there is to be deleted.
    names: Vec<Name>,
    damaged: bool,
}

impl Around {
    fn new(choice: Choice) -> Self {
        Self { choice, wanted: choice == Choice::Take, names: Vec::new(), damaged: false }
    }
}

/// Counted by all threads.
#[derive(Default)]
struct Counters {
    files: AtomicU64,
    directories: AtomicU64,
    others: AtomicU64,
    bytes: AtomicU64,
    hard_links: AtomicU64,
    kept: AtomicU64,
    removed: AtomicU64,
    damaged: AtomicU64,
    problems: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only whole values are kept: a thread that panicked left nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Restoration<'r, 'v, 't> {
    reader: &'r SnapshotReader<'v>,
    target: &'t Target,
    options: &'r Options,
    observer: &'r dyn Observer,
    /// Whether nothing but what this run places can stand in the target.
    is_fresh: bool,
    counters: Counters,
    damaged: Mutex<Vec<Damaged>>,
    groups: Mutex<HashMap<[u8; 16], Group>>,
    /// Why all threads are to stop.
    fatal: Mutex<Option<Error>>,
    is_stopped: AtomicBool,
}

impl<'r, 'v, 't> Restoration<'r, 'v, 't> {
    fn new(
        reader: &'r SnapshotReader<'v>,
        target: &'t Target,
        options: &'r Options,
        observer: &'r dyn Observer,
    ) -> Self {
        Self {
            reader,
            target,
            options,
            observer,
            is_fresh: target.staging_path().is_some() && !target.is_resumed(),
            counters: Counters::default(),
            damaged: Mutex::new(Vec::new()),
            groups: Mutex::new(HashMap::new()),
            fatal: Mutex::new(None),
            is_stopped: AtomicBool::new(false),
        }
    }

    fn into_summary(self) -> Summary {
        let told = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let mut damaged = lock(&self.damaged);
        damaged.sort_by(|a, b| a.path.cmp(&b.path));
        Summary {
            files: told(&counters.files),
            directories: told(&counters.directories),
            others: told(&counters.others),
            bytes: told(&counters.bytes),
            hard_links: told(&counters.hard_links),
            kept: told(&counters.kept),
            removed: told(&counters.removed),
            dropped: self.target.dropped(),
            damaged: mem::take(&mut *damaged),
            damaged_count: told(&counters.damaged),
            problems: told(&counters.problems),
            resumed: self.target.is_resumed(),
            dry_run: self.options.policy.dry_run,
        }
    }

    fn run(&self, start: &Start) -> Result<(), Error> {
        let (items, bytes) = self.check_room(start)?;
        self.observer.event(&Event::Phase(Phase::Restoring));
        self.observer.event(&Event::Total { items, bytes });
        let unreachable = thread::scope(|scope| {
            let (sender, batches) = mpsc::sync_channel(BATCHES_WAITING);
            let batches = Arc::new(Mutex::new(batches));
            for _ in 0..BATCHES_AT_ONCE {
                let batches = Arc::clone(&batches);
                scope.spawn(move || {
                    loop {
                        let batch = lock(&batches).recv();
                        let Ok(batch) = batch else { break };
                        self.execute(batch);
                    }
                });
            }
            drop(batches);
            self.plan(start, &mut |batch| sender.send(batch).is_ok())
        });
        self.check_stopped()?;
        self.settle(start, &unreachable);
        self.check_stopped()
    }

    // ---- stopping, and telling what went wrong -------------------------------------------------

    /// Whether to stop, after asking the person.
    fn stops(&self) -> bool {
        if !self.is_stopped.load(Ordering::Relaxed) && self.observer.interrupted() {
            self.stop(Error::Interrupted);
        }
        self.is_stopped.load(Ordering::Relaxed)
    }

    fn stop(&self, error: Error) {
        lock(&self.fatal).get_or_insert(error);
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    fn check_stopped(&self) -> Result<(), Error> {
        lock(&self.fatal).take().map_or(Ok(()), Err)
    }

    /// The path in the snapshot of what goes to `path` in the target.
    fn shown(&self, path: &TreePath) -> TreePath {
        if self.options.subpath.is_root() {
            return path.clone();
        }
        path.components().fold(self.options.subpath.clone(), |mut shown, name| {
            shown.push(&name);
            shown
        })
    }

    /// Something could not be written; a full disk ends everything.
    fn tell_problem(&self, path: &TreePath, error: place::Error) {
        if matches!(error, place::Error::NoSpace { .. }) {
            return self.stop(Error::Target(error));
        }
        add(&self.counters.problems, 1);
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        self.observer.event(&Event::Problem { path: self.shown(path).as_bytes(), message });
    }

    fn tell_damage(&self, path: &TreePath, is_directory: bool, error: Arc<Error>) {
        add(&self.counters.damaged, 1);
        let path = self.shown(path);
        self.observer.event(&Event::Problem { path: path.as_bytes(), message: error.to_string() });
        let mut damaged = lock(&self.damaged);
        if damaged.len() < DAMAGED_NAMED_MAX {
            damaged.push(Damaged { path, is_directory, error });
        }
    }

    /// Gives a file up because of what the vault holds of it; once.
    fn give_up(&self, open: &Open<'_>, error: &Arc<Error>) {
        if !matches!(open.settle(), State::Settled) {
            self.tell_damage(&open.path(), false, Arc::clone(error));
        }
    }

    /// Gives a file up because of the target.
    fn fail(&self, open: &Open<'_>, error: place::Error) {
        if !matches!(open.settle(), State::Settled) {
            self.tell_problem(&open.path(), error);
        }
    }

    // ---- counting ------------------------------------------------------------------------------

    /// The walk from the start, if it is a directory.
    fn walk(&self, start: &Start) -> Option<Walk<'r, 'v, Around>> {
        match start {
            Start::Directory(tree, entry) => {
                let around = Around::new(self.options.selection.root());
                Some(Walk::new(self.reader, TreePath::root(), *tree, entry.clone(), around))
            }
            Start::Other(_) => None,
        }
    }

    /// What becomes of an entry of the directory that a walk is in.
    fn decide(&self, walk: &mut Walk<'_, '_, Around>, path: &TreePath, entry: &Entry) -> Choice {
        let parent = walk.state().choice;
        self.options.selection.decides(path, entry.kind.is_directory(), parent)
    }

    /// How much there is to do, in files and bytes; refused if there isn't room (R-36).
    ///
    /// What the body says is enough if it is all wanted and fits. Else the trees tell: without holes,
    /// each inode once, and less what the files replace.
    fn check_room(&self, start: &Start) -> Result<(u64, u64), Error> {
        let counts = self.reader.body().counts;
        let is_all = self.options.subpath.is_root() && self.options.selection.is_everything();
        let free = if self.options.policy.dry_run { u64::MAX } else { self.target.free_bytes()? };
        if is_all && counts.bytes <= free {
            return Ok((counts.files, counts.bytes));
        }
        self.observer.event(&Event::Phase(Phase::Counting));
        let (mut files, mut bytes, mut needed) = (0_u64, 0_u64, 0_u64);
        let mut groups = HashSet::new();
        let mut count = |path: &TreePath, entry: &Entry| {
            if let EntryKind::File { size, .. } = entry.kind {
                files += 1;
                bytes = bytes.saturating_add(size);
                if entry.link_group.is_none_or(|group| groups.insert(group)) {
                    let there = self.bytes_there(path, entry);
                    needed = needed.saturating_add(entry.kind.content_bytes().saturating_sub(there));
                }
            }
        };
        match start {
            Start::Other(entry) => count(&TreePath::root(), entry),
            Start::Directory(..) => {
                let mut walk = self.walk(start);
                while let Some(step) = walk.as_mut().and_then(Walk::step) {
                    let (Step::Entry(entry), Some(walk)) = (step, walk.as_mut()) else { continue };
                    if self.stops() {
                        break;
                    }
                    let path = walk.path().join(&entry.name);
                    match self.decide(walk, &path, &entry) {
                        Choice::Skip => {}
                        choice if entry.kind.is_directory() => walk.enter(entry, Around::new(choice)),
                        _ => count(walk.path(), &entry),
                    }
                }
            }
        }
        self.check_stopped()?;
        if needed > free {
            let what = format!("the files need {needed} bytes, and where they are to go {free} are free");
            return Err(Error::Refused { what });
        }
        Ok((files, bytes))
    }

    /// How many bytes of a file's room are taken already, by what stands in its place.
    fn bytes_there(&self, directory: &TreePath, entry: &Entry) -> u64 {
        if self.is_fresh || self.options.policy.dry_run {
            return 0;
        }
        // Asking opens directories on the way, which have to be there anyway.
        let existing =
            self.target.directory(directory).and_then(|directory| directory.existing_for_reuse(entry));
        existing.ok().flatten().map_or(0, |existing| existing.size())
    }

    // ---- planning ------------------------------------------------------------------------------

    /// Makes directories and plans files. Returns the directories that could not be had.
    fn plan(&self, start: &Start, sink: Sink<'_, 't>) -> HashSet<TreePath> {
        let mut unreachable = HashSet::new();
        let mut batch = Batch::default();
        if let Start::Other(entry) = start {
            self.plan_file(&Arc::new(TreePath::root()), entry, &mut batch, sink);
        }
        let mut walk = self.walk(start);
        let mut here = Arc::new(TreePath::root());
        while let (Some(walk), false) = (walk.as_mut(), self.stops()) {
            let Some(step) = walk.step() else { break };
            match step {
                Step::Damaged(error) => self.tell_damage(walk.path(), true, Arc::new(error)),
                Step::Leave { .. } => {}
                Step::Entry(entry) => {
                    let path = walk.path().join(&entry.name);
                    let choice = self.decide(walk, &path, &entry);
                    if choice == Choice::Skip || unreachable.contains(walk.path()) {
                        continue;
                    }
                    if choice == Choice::Take && !walk.state().wanted {
                        // The first entry that is taken here: the directory has to be there for it.
                        walk.state().wanted = true;
                        if let Err(error) = self.target.directory(walk.path()) {
                            self.tell_problem(walk.path(), error);
                            unreachable.insert(walk.path().clone());
                            continue;
                        }
                    }
                    if entry.kind.is_directory() {
                        // Here and not where files are written: two threads that make one directory
                        // couldn't tell each other from two names that are one to the file system.
                        if choice == Choice::Take
                            && let Err(error) = self.target.directory(&path)
                        {
                            self.tell_problem(&path, error);
                            unreachable.insert(path);
                        } else {
                            walk.enter(entry, Around::new(choice));
                        }
                    } else if matches!(entry.kind, EntryKind::File { .. }) {
                        if *here != *walk.path() {
                            here = Arc::new(walk.path().clone());
                        }
                        self.plan_file(&here, &entry, &mut batch, sink);
                    }
                }
            }
        }
        if !batch.is_empty() {
            sink(batch);
        }
        unreachable
    }

    /// Plans a file unless it is a further name of one that is planned.
    fn plan_file(&self, directory: &Arc<TreePath>, entry: &Entry, batch: &mut Batch<'t>, sink: Sink<'_, 't>) {
        if !matches!(entry.kind, EntryKind::File { .. }) {
            return;
        }
        if let Some(group) = entry.link_group {
            match lock(&self.groups).entry(group) {
                hash_map::Entry::Occupied(_) => return,
                hash_map::Entry::Vacant(slot) => {
                    slot.insert(Group { first: directory.join(&entry.name), placed: None });
                }
            }
        }
        self.plan_content(&Arc::new(Open::new(Arc::clone(directory), entry.clone())), batch, sink);
    }

    /// Plans the writes of a file, over as many batches as it takes.
    fn plan_content(&self, open: &Arc<Open<'t>>, batch: &mut Batch<'t>, sink: Sink<'_, 't>) {
        let EntryKind::File { size, content, sparse } = &open.entry.kind else { return };
        let files_max = if self.is_fresh { BATCH_FILES } else { BATCH_FILES_EXISTING };
        match content {
            Content::Inline(bytes) => {
                batch.inline.push(Arc::clone(open));
                batch.inline_bytes += bytes.len();
                let is_full = batch.inline.len() >= files_max || batch.inline_bytes >= BATCH_BYTES_INLINE;
                self.send_if(is_full, batch, sink);
                return;
            }
            Content::Refs(refs) if refs.len() == 1 => {}
            _ => {
                batch.files_open += 1;
                if !self.is_fresh {
                    // It may be there already; then its lists needn't even be read.
                    self.begin(open);
                }
            }
        }
        let planned = self.plan_writes(open, *size, content, sparse.as_deref(), batch, sink);
        if let Err(error) = planned {
            self.give_up(open, &Arc::new(error));
        }
        // Before the batch goes, so that whoever writes last finds nothing else left to do.
        self.release(open, 1);
        let is_full = batch.bytes >= BATCH_BYTES
            || batch.writes.len() >= files_max
            || batch.files_open >= BATCH_FILES_OPEN;
        self.send_if(is_full, batch, sink);
    }

    fn plan_writes(
        &self,
        open: &Arc<Open<'t>>,
        size: u64,
        content: &Content,
        sparse: Option<&[DataRun]>,
        batch: &mut Batch<'t>,
        sink: Sink<'_, 't>,
    ) -> Result<(), Error> {
        let mut layout = layout(size, sparse)?;
        let fetch = |kind: NodeKind, wanted: &ChunkRef| self.reader.node(kind, wanted);
        for chunk in RefReader::new(content, open.entry.kind.content_bytes(), fetch) {
            let chunk = chunk?;
            if open.is_settled() || self.stops() {
                return Ok(());
            }
            let length = usize::try_from(chunk.length).unwrap_or(usize::MAX);
            layout.next(length, |piece| {
                let in_chunk = u32::try_from(piece.in_chunk.start).unwrap_or(u32::MAX)
                    ..u32::try_from(piece.in_chunk.end).unwrap_or(u32::MAX);
                open.left.fetch_add(1, Ordering::Relaxed);
                batch.writes.push(Write { open: Arc::clone(open), chunk, offset: piece.offset, in_chunk });
                Ok::<(), Error>(())
            })?;
            batch.bytes += u64::from(chunk.length);
            if self.send_if(batch.bytes >= BATCH_BYTES, batch, sink) {
                batch.files_open = 1;
            }
        }
        Ok(layout.finish()?)
    }

    /// Hands a full batch on; whether it was full.
    fn send_if(&self, is_full: bool, batch: &mut Batch<'t>, sink: Sink<'_, 't>) -> bool {
        if is_full && !sink(mem::take(batch)) {
            // Only a panic of whoever takes them leaves nobody: it comes up when the threads are joined.
            self.is_stopped.store(true, Ordering::Relaxed);
        }
        is_full
    }

    // ---- executing -----------------------------------------------------------------------------

    /// Restores a batch, on all threads.
    fn execute(&self, batch: Batch<'t>) {
        if self.stops() {
            return;
        }
        let Batch { mut writes, inline, .. } = batch;
        if !self.is_fresh {
            // What is there already needn't be read from the vault.
            let mut opens: Vec<&Arc<Open<'t>>> = writes.iter().map(|write| &write.open).collect();
            opens.dedup_by(|a, b| Arc::ptr_eq(a, b));
            opens.into_par_iter().with_max_len(1).for_each(|open| self.begin(open));
        }
        let mut packs: Vec<Arc<PackReader>> = Vec::new();
        let mut numbers: HashMap<usize, usize> = HashMap::new();
        let mut found: Vec<Found<'t>> = Vec::with_capacity(writes.len());
        for write in writes.drain(..) {
            if write.open.is_settled() {
                self.release(&write.open, 1);
                continue;
            }
            match self.reader.find(&write.chunk.id) {
                Err(error) => {
                    self.give_up(&write.open, &Arc::new(error.into()));
                    self.release(&write.open, 1);
                }
                Ok((pack, place)) => {
                    // Every pack of the batch is held, so no other can come to have its address.
                    let number = *numbers.entry(Arc::as_ptr(&pack).addr()).or_insert(packs.len());
                    if number == packs.len() {
                        packs.push(pack);
                    }
                    found.push(Found { pack: number, place, write });
                }
            }
        }
        found.sort_by_key(|found| (found.pack, found.place.block, found.place.offset_in_block));

        rayon::join(
            || {
                runs(&packs, &found).into_par_iter().with_max_len(1).for_each(|run| {
                    self.execute_run(&packs[run[0].pack], run);
                });
            },
            || {
                inline.par_chunks(INLINE_FILES_AT_ONCE).for_each(|opens| {
                    for open in opens {
                        if self.stops() {
                            return;
                        }
                        self.execute_inline(open);
                    }
                });
            },
        );
    }

    /// Reads neighbouring blocks of a pack and writes what is wanted of each.
    fn execute_run(&self, pack: &PackReader, run: &[Found<'t>]) {
        if self.stops() {
            return;
        }
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
        let mut rest = run;
        pack.read_blocks(self.reader.vault(), first.place.block..last.place.block + 1, |number, block| {
            let (here, behind) = rest.split_at(rest.partition_point(|found| found.place.block <= number));
            rest = behind;
            match block {
                Ok(block) => self.write_block(pack, &block, here),
                Err(error) => {
                    let error = Arc::new(Error::from(error));
                    here.iter().for_each(|found| self.give_up(&found.write.open, &error));
                }
            }
            here.iter().for_each(|found| self.release(&found.write.open, 1));
        });
    }

    /// Checks the chunks of a block and writes each to wherever it is wanted.
    fn write_block(&self, pack: &PackReader, block: &[u8], wanted: &[Found<'t>]) {
        let mut checked: Option<Checked<'_>> = None;
        for Found { place, write, .. } in wanted {
            let known = checked.take().filter(|(chunk, _)| *chunk == write.chunk);
            let (_, chunk) = checked.insert(known.unwrap_or_else(|| {
                let bytes = place.of(block).ok_or_else(|| pack.damaged("a chunk reaches past its block"));
                let right = bytes.and_then(|bytes| {
                    self.reader.check(pack, ChunkKind::Data, &write.chunk, bytes).map(|()| bytes)
                });
                (write.chunk, right.map_err(|error| Arc::new(Error::from(error))))
            }));
            match chunk {
                Err(error) => self.give_up(&write.open, error),
                Ok(bytes) => {
                    let part = usize::try_from(write.in_chunk.start).unwrap_or(usize::MAX)
                        ..usize::try_from(write.in_chunk.end).unwrap_or(usize::MAX);
                    self.write(&write.open, write.offset, &bytes[part]);
                }
            }
        }
    }

    fn execute_inline(&self, open: &Open<'t>) {
        self.begin(open);
        if let EntryKind::File { size, content: Content::Inline(bytes), sparse } = &open.entry.kind {
            let laid_out = layout(*size, sparse.as_deref()).and_then(|mut layout| {
                layout.next(bytes.len(), |piece| {
                    self.write(open, piece.offset, &bytes[piece.in_chunk]);
                    Ok::<(), Error>(())
                })?;
                Ok(layout.finish()?)
            });
            if let Err(error) = laid_out {
                self.give_up(open, &Arc::new(error));
            }
        }
        self.release(open, 1);
    }

    /// Begins a file if nobody did, and finds out whether it needs to be written.
    fn begin(&self, open: &Open<'t>) {
        let mut state = open.state.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Waiting) {
            return;
        }
        let path = open.path();
        self.observer.event(&Event::Entry(self.shown(&path).as_bytes()));
        *state = match self.begin_file(open) {
            Ok(Begin::Write(file)) => State::Writing(file),
            Ok(Begin::Keep) => {
                add(&self.counters.kept, 1);
                self.progress(1, size_of(&open.entry));
                State::Settled
            }
            Ok(Begin::Planned) => {
                self.count_written(&open.entry);
                self.progress(1, size_of(&open.entry));
                State::Settled
            }
            Err(error) => {
                self.tell_problem(&path, error);
                State::Settled
            }
        };
    }

    fn begin_file(&self, open: &Open<'t>) -> Result<Begin<'t>, place::Error> {
        let directory = self.target.directory(&open.directory)?;
        if self.may_reuse()
            && let Some(existing) = directory.existing_for_reuse(&open.entry)?
            && existing.size() == size_of(&open.entry)
        {
            // One of the same time is what the policy means by unchanged: that is not compared.
            let is_unchanged = !self.target.is_resumed()
                && self.options.policy.overwrite == Overwrite::IfChanged
                && existing.modified() == open.entry.modified;
            if !is_unchanged && self.is_same(&existing, &open.entry) {
                let finished = existing.keep(&open.entry)?;
                self.remember(&open.entry, finished.id);
                return Ok(Begin::Keep);
            }
        }
        directory.begin_file(&open.entry)
    }

    /// Whether a file that stands there may be looked into, to be kept if it is the same.
    fn may_reuse(&self) -> bool {
        let policy = &self.options.policy;
        let replaces = matches!(policy.overwrite, Overwrite::Always | Overwrite::IfChanged);
        !self.is_fresh && !policy.dry_run && (self.target.is_resumed() || replaces)
    }

    /// Whether a file has the content of `entry`: every chunk of it gives the chunk's id.
    ///
    /// Whatever goes wrong with it only means that the file is written anew. Nor is a file with holes
    /// compared: what is in its holes has no id.
    fn is_same(&self, existing: &ExistingFile<'_>, entry: &Entry) -> bool {
        let EntryKind::File { content, sparse: None, .. } = &entry.kind else { return false };
        let mut buffer = Vec::new();
        if let Content::Inline(bytes) = content {
            buffer.resize(bytes.len(), 0);
            let read = existing.read_at(0, &mut buffer);
            return read.is_ok_and(|length| length == bytes.len()) && *buffer == **bytes;
        }
        let fetch = |kind: NodeKind, wanted: &ChunkRef| self.reader.node(kind, wanted);
        let mut offset = 0;
        for chunk in RefReader::new(content, entry.kind.content_bytes(), fetch) {
            let Ok(chunk) = chunk else { return false };
            buffer.resize(usize::try_from(chunk.length).unwrap_or(usize::MAX), 0);
            let is_there = existing.read_at(offset, &mut buffer).is_ok_and(|length| length == buffer.len());
            let id = self.reader.namer().name(ChunkKind::Data, &buffer);
            if !is_there || !digest::equal(&id.0, &chunk.id.0) || self.stops() {
                return false;
            }
            offset += u64::from(chunk.length);
        }
        true
    }

    fn write(&self, open: &Open<'t>, offset: u64, bytes: &[u8]) {
        if self.is_fresh {
            self.begin(open);
        }
        let state = open.state.read().unwrap_or_else(PoisonError::into_inner);
        let State::Writing(file) = &*state else { return };
        let written = file.write_at(offset, bytes);
        drop(state);
        match written {
            Ok(()) => self.progress(0, bytes.len() as u64),
            Err(error) => self.fail(open, error),
        }
    }

    /// Counts writes as done; with the last, the file is finished.
    fn release(&self, open: &Open<'t>, count: u64) {
        if open.left.fetch_sub(count, Ordering::AcqRel) == count {
            self.finish(open);
        }
    }

    fn finish(&self, open: &Open<'t>) {
        if matches!(*open.state.read().unwrap_or_else(PoisonError::into_inner), State::Waiting) {
            // A file without bytes.
            self.begin(open);
        }
        // After a stop, writes are passed over and yet released; such a file isn't whole.
        let State::Writing(file) = open.settle() else { return };
        if self.is_stopped.load(Ordering::Acquire) {
            return;
        }
        match file.finish(&open.entry) {
            Ok(finished) => {
                self.remember(&open.entry, finished.id);
                self.count_written(&open.entry);
                self.progress(1, size_of(&open.entry) - open.entry.kind.content_bytes());
            }
            Err(error) => self.tell_problem(&open.path(), error),
        }
    }

    fn count_written(&self, entry: &Entry) {
        add(&self.counters.files, 1);
        add(&self.counters.bytes, size_of(entry));
    }

    fn progress(&self, items: u64, bytes: u64) {
        self.observer.event(&Event::Progress { items, bytes });
    }

    /// Remembers which inode a group of hard links has.
    fn remember(&self, entry: &Entry, id: Option<PlacedId>) {
        if let Some(group) = entry.link_group
            && let Some(group) = lock(&self.groups).get_mut(&group)
        {
            group.placed = group.placed.take().or(id);
        }
    }

    // ---- settling ------------------------------------------------------------------------------

    /// Walks once more, and does all that has to wait until every file is there.
    fn settle(&self, start: &Start, unreachable: &HashSet<TreePath>) {
        if let Start::Other(entry) = start {
            self.settle_entry(&Arc::new(TreePath::root()), entry);
        }
        let mut walk = self.walk(start);
        let mut here = Arc::new(TreePath::root());
        while let (Some(walk), false) = (walk.as_mut(), self.stops()) {
            let Some(step) = walk.step() else { break };
            match step {
                // It was told when files were planned.
                Step::Damaged(_) => walk.state().damaged = true,
                Step::Leave { path, entry, state } => {
                    let is_wanted = self.settle_directory(&path, entry.as_ref(), &state);
                    if is_wanted && !path.is_root() {
                        walk.state().wanted = true;
                    }
                }
                Step::Entry(entry) => {
                    let path = walk.path().join(&entry.name);
                    let choice = self.decide(walk, &path, &entry);
                    if self.options.policy.delete {
                        walk.state().names.push(entry.name.clone());
                    }
                    if choice == Choice::Skip || unreachable.contains(&path) {
                        continue;
                    }
                    if entry.kind.is_directory() {
                        walk.enter(entry, Around::new(choice));
                    } else if !unreachable.contains(walk.path()) {
                        walk.state().wanted = true;
                        if *here != *walk.path() {
                            here = Arc::new(walk.path().clone());
                        }
                        self.settle_entry(&here, &entry);
                    }
                }
            }
        }
    }

    /// Deletes what is extra in a directory and gives it its metadata; whether it had to be there.
    fn settle_directory(&self, path: &TreePath, entry: Option<&Entry>, state: &Around) -> bool {
        if state.choice == Choice::Take && !state.damaged {
            // In a damaged directory nobody knows what is extra.
            let removed = self.target.remove_extra(path, &state.names, |path| {
                self.observer.event(&Event::Entry(self.shown(path).as_bytes()));
            });
            match removed {
                Ok(removed) => add(&self.counters.removed, removed.entries),
                Err(error) => self.tell_problem(path, error),
            }
        }
        // A directory that the person made, or stands in, keeps its own mode and owner.
        let is_ours = !path.is_root() || self.target.staging_path().is_some();
        if let Some(entry) = entry.filter(|_| state.wanted && is_ours) {
            match self.target.finish_directory(path, entry) {
                Ok(()) => add(&self.counters.directories, 1),
                Err(error) => self.tell_problem(path, error),
            }
        }
        state.wanted
    }

    /// Places what is no file and no directory, and further names of files.
    fn settle_entry(&self, directory: &Arc<TreePath>, entry: &Entry) {
        let path = directory.join(&entry.name);
        if matches!(entry.kind, EntryKind::File { .. }) {
            return self.settle_link(directory, &path, entry);
        }
        let placed = self.target.directory(directory).and_then(|directory| match entry.kind {
            EntryKind::Symlink { .. } => directory.symlink(entry),
            EntryKind::Fifo => directory.fifo(entry),
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => directory.device(entry),
            EntryKind::File { .. } | EntryKind::Directory { .. } => Ok(Outcome::Dropped),
        });
        match placed {
            Ok(Outcome::Placed | Outcome::Planned) => add(&self.counters.others, 1),
            Ok(Outcome::Kept) => add(&self.counters.kept, 1),
            Ok(Outcome::Dropped | Outcome::Impossible) => {}
            Err(error) => self.tell_problem(&path, error),
        }
    }

    /// Places a further name of a file: a link, or a copy where there can be none.
    fn settle_link(&self, directory: &Arc<TreePath>, path: &TreePath, entry: &Entry) {
        let first = match entry.link_group.and_then(|group| {
            let groups = lock(&self.groups);
            groups.get(&group).map(|group| (group.first == *path, group.placed.clone()))
        }) {
            None | Some((true, _)) => return,
            Some((false, placed)) => placed,
        };
        let linked = first.map(|first| {
            self.target.directory(directory).and_then(|directory| directory.hard_link(entry, &first))
        });
        match linked {
            Some(Ok(Outcome::Placed | Outcome::Planned)) => {
                add(&self.counters.hard_links, 1);
                self.count_written(entry);
                self.progress(1, size_of(entry));
            }
            Some(Ok(Outcome::Kept)) => {
                add(&self.counters.kept, 1);
                self.progress(1, size_of(entry));
            }
            Some(Err(error)) => self.tell_problem(path, error),
            // Its first name was damaged, kept or given up; or the file system has no such links.
            None | Some(Ok(Outcome::Impossible | Outcome::Dropped)) => {
                let open = Arc::new(Open::new(Arc::clone(directory), entry.clone()));
                let mut batch = Batch::default();
                let sink: Sink<'_, 't> = &mut |batch| {
                    self.execute(batch);
                    true
                };
                self.plan_content(&open, &mut batch, sink);
                if !batch.is_empty() {
                    self.execute(batch);
                }
            }
        }
    }
}

/// A file's length.
fn size_of(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size, .. } => size,
        _ => 0,
    }
}

/// Cuts what was found into runs of neighbouring blocks of one pack, to be read at once.
fn runs<'f, 't>(packs: &[Arc<PackReader>], found: &'f [Found<'t>]) -> Vec<&'f [Found<'t>]> {
    let mut runs = Vec::new();
    let mut first = 0;
    for number in 1..=found.len() {
        let goes_on = found.get(number).is_some_and(|next| {
            let (begin, last) = (&found[first], &found[number - 1]);
            let directory = packs[next.pack].directory();
            let is_near = next.pack == begin.pack
                && next.place.block <= last.place.block + 1
                && next.place.block - begin.place.block < RUN_BLOCKS;
            is_near
                && (next.place.block == begin.place.block
                    || directory.block(next.place.block).range.end
                        - directory.block(begin.place.block).range.start
                        <= RUN_BYTES)
        });
        if !goes_on {
            runs.push(&found[first..number]);
            first = number;
        }
    }
    runs
}

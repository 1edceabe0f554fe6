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

mod batch;
mod execute;
mod plan;
mod settle;

use std::collections::HashMap;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use crate::crypto::digest;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::task::browse::At;
use crate::task::browse::Damaged;
use crate::task::browse::Walk;
use crate::task::browse::entry_at;
use crate::task::error::Error;
use crate::task::restore::batch::Group;
use crate::task::restore::batch::Open;
use crate::task::restore::batch::State;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::filter::Choice;
use crate::tree::filter::Selection;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::place;
use crate::tree::place::Dropped;
use crate::tree::place::Overwrite;
use crate::tree::place::Policy;
use crate::tree::place::Run;
use crate::tree::place::Target;
use crate::vault::error::Error as VaultError;
use crate::vault::read::SnapshotReader;

/// How many batches are executed at once: the second keeps the threads busy while the first ends.
const BATCHES_AT_ONCE: usize = 2;

/// How many batches wait to be executed: one, so that planning never holds up writing.
const BATCHES_WAITING: usize = 1;

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
    /// Whether nothing is to be left if any of it is damaged, can't be written, or the restore is cut off.
    pub all_or_nothing: bool,
    /// Whether the target is to be what is restored itself, if that is no directory, and not a directory that it
    /// goes into.
    pub is_itself: bool,
}

impl Default for Options {
    /// Everything, into a directory that isn't there yet or is empty.
    fn default() -> Self {
        Self {
            subpath: TreePath::root(),
            policy: Policy::default(),
            selection: Selection::everything(),
            all_or_nothing: false,
            is_itself: false,
        }
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
    /// Of `kept`, the files.
    pub files_kept: u64,
    /// How long these are, as their sizes say.
    pub bytes_kept: u64,
    /// Names that were deleted because the snapshot doesn't have them.
    pub removed: u64,
    /// What was left out of what was placed.
    pub dropped: Dropped,
    /// Entries that are damaged in the vault, and were not placed: [`DAMAGED_NAMED_MAX`] of them.
    pub damaged: Vec<Damaged>,
    /// How many there are.
    pub damaged_count: u64,
    /// Indexes of the snapshot that can't be used: what they lead to was found in the packs themselves.
    pub unusable_indexes: Vec<Arc<VaultError>>,
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
/// below it, or an index that can't be used, is no error but in the [`Summary`].
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
    let staged = match &start {
        Start::Other(entry) if options.is_itself => {
            Target::stage_entry(target, &entry.name, &run, options.policy)
        }
        _ if options.all_or_nothing => Target::stage_whole(target, &run, options.policy),
        _ => Target::stage(target, &run, options.policy),
    };
    let target = match staged {
        Err(place::Error::NotEmpty { .. }) if options.policy.overwrite != Overwrite::Refuse => {
            Target::in_place(target, &run, options.policy)?
        }
        staged => staged?,
    };
    let restoration = Restoration::new(reader, &target, options, observer);
    let done = restoration.run(&start);
    let summary = restoration.into_summary();
    let is_whole = done.is_ok() && summary.damaged_count == 0 && summary.problems == 0;
    if options.all_or_nothing && !is_whole {
        target.abandon()?;
        return done.map(|()| summary);
    }
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

/// Sees to it that a restore can begin: that there is what `options` ask for, and that the target can be had. Of
/// this nothing stays but the folders above the target.
///
/// # Errors
/// As those of [`restore`] that come before anything is written.
pub fn check(reader: &SnapshotReader<'_>, target: &Path, options: &Options) -> Result<(), Error> {
    Start::find(reader, &options.subpath)?;
    let staged = Target::stage(target, &run_of(reader, options), options.policy)?;
    // What an interrupted restore has left is for the next one.
    if staged.is_resumed() { Ok(()) } else { Ok(staged.abandon()?) }
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
    files_kept: AtomicU64,
    bytes_kept: AtomicU64,
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
            files_kept: told(&counters.files_kept),
            bytes_kept: told(&counters.bytes_kept),
            removed: told(&counters.removed),
            dropped: self.target.dropped(),
            damaged: mem::take(&mut *damaged),
            damaged_count: told(&counters.damaged),
            unusable_indexes: self.reader.unusable_indexes().cloned().collect(),
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

    fn count_written(&self, entry: &Entry) {
        add(&self.counters.files, 1);
        add(&self.counters.bytes, size_of(entry));
    }

    fn count_kept(&self, entry: &Entry) {
        add(&self.counters.kept, 1);
        add(&self.counters.files_kept, 1);
        add(&self.counters.bytes_kept, size_of(entry));
    }

    fn progress(&self, items: u64, bytes: u64) {
        self.observer.event(&Event::Progress { items, bytes });
    }
}

/// A file's length.
fn size_of(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size, .. } => size,
        _ => 0,
    }
}

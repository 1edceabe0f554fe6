//! What the holder of a way in can check beyond that: bodies, indexes, trees, and every chunk.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::crypto::digest;
use crate::crypto::random;
use crate::id::ChunkId;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::JobId;
use crate::id::ObjectName;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::pack::packer::ChunkKind;
use crate::pack::unpacker;
use crate::seal::pseal;
use crate::seal::pseal::Kind;
use crate::task::error::Error;
use crate::task::verify::Lost;
use crate::task::verify::Problem;
use crate::task::verify::Report;
use crate::task::verify::Walked;
use crate::task::verify::objects::Run;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::node::CallError;
use crate::tree::node::EntryReader;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::tree::path::TreePath;
use crate::vault::Vault;
use crate::vault::authority::damaged;
use crate::vault::body;
use crate::vault::body::Body;
use crate::vault::error;
use crate::vault::header::Snapshot;
use crate::vault::history::History;
use crate::vault::history::Located;
use crate::vault::index::Index;
use crate::vault::name::Place;
use crate::vault::namer::Namer;
use crate::vault::pins::Pins;
use crate::vault::read::SnapshotReader;
use crate::vault::receipt::Receipt;
use crate::vault::sender::Sender;

/// How many bytes of sealed objects are in memory at once, whatever the number of threads; each
/// takes about as much again once opened.
const BYTES_AT_ONCE: u64 = 64 << 20;
/// How many directories are remembered as whole, 40 bytes each; beyond that shared ones are read again.
const WHOLE_MAX: usize = 1_000_000;
/// The bytes of a sealed object's header that say what it is.
const PEEK_BYTES: u64 = 48;

/// How much of the vault's contents is read; with a way in, it is opened too.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ReadData {
    /// Nothing; with a way in, bodies, indexes and trees alone.
    None,
    /// Everything.
    All,
    /// The objects that fall to part `number`, from 1, of `of` parts: so many runs cover all.
    Subset {
        /// Which part.
        number: u32,
        /// Of how many.
        of: u32,
    },
    /// So many hundredths of all bytes, drawn at random.
    Percent(f64),
    /// About so many bytes, drawn at random.
    Bytes(u64),
}

/// Checks all that can be checked with a way in.
///
/// Everything that [`verify_public`](super::verify_public) checks but the digests; then the objects
/// that `read` selects, whole: length, digest, header, commitment, segments, directory, compression and
/// each chunk's id; then the body, the indexes and the tree of every snapshot that isn't forgotten, and
/// that each chunk is found. Files that damage takes along are told for each finding.
///
/// # Errors
/// [`Error::Vault`] if the store can't be listed; [`Error::Interrupted`]. Whatever is wrong with the
/// vault itself is in the report.
pub fn verify_private(
    vault: &Vault,
    pins: Option<&Pins>,
    expect: &[Receipt],
    read: &ReadData,
    observer: &dyn Observer,
) -> Result<Report, Error> {
    let mut run = Run::new(vault.locked(), observer);
    run.check_objects(pins, expect)?;
    if *read != ReadData::None {
        let (selected, seed) = select(run.must_exist(), read);
        run.report.seed = seed;
        run.report.opened = true;
        let opener = Opener::new(vault, &run);
        run.read(&selected, &|located, name| opener.check(located, name))?;
    }
    check_snapshots(&mut run, vault)?;
    check_acts(&mut run, vault, pins);
    run.finish()
}

// ---- whole objects -----------------------------------------------------------------------------

/// Which objects are read whole, and what a random choice was drawn with.
pub(super) fn select(
    mut all: Vec<(Located, ObjectName)>,
    read: &ReadData,
) -> (Vec<(Located, ObjectName)>, Option<u64>) {
    let total: u64 = all.iter().map(|(located, _)| u64::from(located.length)).sum();
    let wanted = match read {
        ReadData::None => return (Vec::new(), None),
        ReadData::All => return (all, None),
        ReadData::Subset { number, of } => {
            let of = u64::from(*of).max(1);
            all.retain(|(located, _)| beginning(&located.name) % of == u64::from(number.saturating_sub(1)));
            return (all, None);
        }
        ReadData::Percent(percent) => share(total, *percent),
        ReadData::Bytes(bytes) => *bytes,
    };
    let seed = u64::from_le_bytes(random::bytes());
    (draw(all, wanted, seed), Some(seed))
}

/// Objects in an order that `seed` decides, until they have `wanted` bytes; one at least.
fn draw(mut all: Vec<(Located, ObjectName)>, wanted: u64, seed: u64) -> Vec<(Located, ObjectName)> {
    all.sort_by_cached_key(|(located, _)| {
        let mut digester = digest::Digester::new();
        digester.update(&seed.to_le_bytes()).update(located.name.as_bytes());
        digester.finish()
    });
    let mut bytes = 0_u64;
    let enough = all.iter().position(|(located, _)| {
        let before = bytes;
        bytes += u64::from(located.length);
        before >= wanted && before > 0
    });
    all.truncate(enough.unwrap_or(all.len()));
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of the bytes needn't be exact"
)]
fn share(total: u64, percent: f64) -> u64 {
    (total as f64 * percent.clamp(0.0, 100.0) / 100.0).ceil() as u64
}

fn beginning(digest: &Digest) -> u64 {
    digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// Opens whole objects, a bounded number of bytes at once.
struct Opener<'a> {
    vault: &'a Vault,
    namers: HashMap<DeviceId, Namer>,
    budget: Budget,
}

impl<'a> Opener<'a> {
    fn new(vault: &'a Vault, run: &Run<'_>) -> Self {
        let namers = run.histories.keys().map(|device| (*device, vault.namer(*device))).collect();
        Self { vault, namers, budget: Budget::new(BYTES_AT_ONCE) }
    }

    fn check(&self, located: &Located, name: &ObjectName) -> Result<(), error::Error> {
        let Some(Place::Pack { device, .. }) = Place::parse(name) else { return Ok(()) };
        let _taken = self.budget.take(u64::from(located.length));
        // What it claims to be; that it is nothing else follows from its digest and its commitment.
        let head = self.vault.store().get_range(name, 0..PEEK_BYTES.min(u64::from(located.length)));
        let claimed = head.ok().and_then(|head| pseal::peek(&head).ok());
        let kind = claimed.map_or(Kind::Data, |header| header.kind);
        let plaintext = self.vault.whole_object(device, located, kind)?;
        let wrong = |error: &dyn std::fmt::Display| damaged(name, &error.to_string());
        match kind {
            Kind::Data => {
                let namer = self.namers.get(&device);
                let is_named = |id: &ChunkId, bytes: &[u8]| namer.is_some_and(|namer| namer.names(id, bytes));
                unpacker::unpack_all(&plaintext, is_named).map(drop).map_err(|error| wrong(&error))
            }
            Kind::Index => Index::decode(plaintext).map(drop).map_err(|error| wrong(&error)),
            Kind::Body => Body::decode(&plaintext).map(drop).map_err(|error| match error {
                body::Error::Newer => error::Error::Newer { name: name.clone() },
                body::Error::Layout(error) => wrong(&error),
            }),
            Kind::Message | Kind::Log => Err(wrong(&"it is of a kind that no header lists")),
        }
    }
}

/// Lets threads wait until there is room for the bytes that they are about to hold.
struct Budget {
    most: u64,
    free: Mutex<u64>,
    freed: Condvar,
}

struct Taken<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    fn new(most: u64) -> Self {
        Self { most, free: Mutex::new(most), freed: Condvar::new() }
    }

    /// Waits for `bytes`; an object larger than all there is takes all of it.
    ///
    /// Whoever holds some goes on without asking for more, so the wait ends.
    fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.most);
        let mut free = self.lock();
        while *free < bytes {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Taken { budget: self, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // A number is never half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.budget.lock() += self.bytes;
        self.budget.freed.notify_all();
    }
}

// ---- snapshots ---------------------------------------------------------------------------------

/// Opens all bodies first, then reads indexes and trees, the snapshots of one job together: they
/// share most of what they hold.
fn check_snapshots(run: &mut Run<'_>, vault: &Vault) -> Result<(), Error> {
    let histories: Vec<Arc<History>> = run.histories.values().map(Arc::clone).collect();
    let log = vault.log();
    let mut walked = Walked::default();
    let wanted =
        histories.iter().flat_map(|history| history.snapshots().iter().map(move |one| (history, one)));
    let wanted: Vec<_> =
        wanted.filter(|(history, one)| !log.is_forgotten(history.device(), one.header.seq)).collect();
    run.observer.event(&Event::Phase(Phase::Reading));
    run.observer.event(&Event::Total { items: wanted.len() as u64, bytes: 0 });
    let mut jobs: BTreeMap<(DeviceId, JobId), Vec<Wanted<'_>>> = BTreeMap::new();
    for (history, snapshot) in wanted {
        run.stop_if_asked()?;
        match vault.body(history, snapshot) {
            Err(error) => run.lose(Problem::Vault(error), snapshot, TreePath::root(), true),
            Ok(body) => {
                if let Some(bytes) = &body.sender
                    && let Err(refused) = Sender::check(bytes, &log.fingerprint(), &body.root)
                {
                    let digest = snapshot.header.body;
                    let name = Place::Pack { device: history.device(), digest }.name();
                    run.find(damaged(&name, &refused.to_string()));
                }
                // Each device tells what it had seen of others.
                for head in &body.seen {
                    run.check_head(head);
                }
                jobs.entry((history.device(), body.job)).or_default().push((history, snapshot));
            }
        }
    }
    let mut indexes = HashSet::new();
    for snapshots in jobs.into_values() {
        let mut job = Job { indexes: Vec::new(), whole: HashSet::new() };
        for (history, snapshot) in snapshots {
            check_snapshot(run, vault, history, snapshot, &mut indexes, &mut job, &mut walked)?;
            run.observer.event(&Event::Progress { items: 1, bytes: 0 });
        }
    }
    run.report.walked = Some(walked);
    Ok(())
}

/// Who did what: an owner's key checks every entry and that none is gone from the middle; others see by their names.
fn check_acts(run: &mut Run<'_>, vault: &Vault, pins: Option<&Pins>) {
    match vault.acts() {
        Ok(acts) => acts.problems.into_iter().for_each(|problem| run.find(problem)),
        Err(error::Error::NotOwner) => return run.check_acts(pins),
        Err(error) => run.find(error),
    }
    run.check_seen_acts(pins);
}

/// A snapshot, and the chain that it is part of.
type Wanted<'a> = (&'a Arc<History>, &'a Snapshot);

/// What is known of the snapshots of one job so far.
struct Job {
    /// By which all chunks below what is `whole` are found.
    indexes: Vec<Digest>,
    /// Directories and lists that were read with everything below them, and found whole.
    whole: HashSet<Node>,
}

/// A directory, or a list of a file's chunks: its id, its depth, and what the file's size has to be.
type Node = ([u8; 16], u8, u64);

impl Run<'_> {
    fn lose(&mut self, problem: Problem, snapshot: &Snapshot, path: TreePath, is_directory: bool) {
        self.report.findings.add_loss(problem, Lost { snapshot: snapshot.id(), path, is_directory });
    }
}

fn check_snapshot(
    run: &mut Run<'_>,
    vault: &Vault,
    history: &Arc<History>,
    snapshot: &Snapshot,
    indexes: &mut HashSet<(DeviceId, Digest)>,
    job: &mut Job,
    walked: &mut Walked,
) -> Result<(), Error> {
    let reader = match SnapshotReader::load(vault, Arc::clone(history), snapshot) {
        Ok(reader) => reader,
        Err(error) => {
            run.lose(Problem::Vault(error), snapshot, TreePath::root(), true);
            return Ok(());
        }
    };
    let names: Vec<Digest> = reader.body().indexes.iter().map(|index| index.name).collect();
    for name in names.iter().filter(|name| indexes.insert((history.device(), **name))) {
        let located = history.locate(vault.log(), *name);
        if let Err(error) = located.and_then(|located| vault.index(history.device(), &located)) {
            // It takes nothing along by itself: what it would lead to is found in the packs.
            run.report.findings.add(Problem::Vault(error));
        }
    }
    if !job.whole.is_empty() && !is_covered(vault, &reader, &job.indexes, &names) {
        job.whole.clear();
    }
    job.indexes = names;
    walked.snapshots += 1;
    Walk { run, reader: &reader, snapshot, whole: &mut job.whole, walked }.walk()
}

/// Whether everything that `before` found is found just so by the snapshot at hand: only then are
/// directories that it shares with earlier ones known to be whole in it too.
///
/// Asked of the indexes that only one of both names; those that both name tell the same to both.
fn is_covered(vault: &Vault, reader: &SnapshotReader<'_>, before: &[Digest], now: &[Digest]) -> bool {
    let history = reader.history();
    let gone = before.iter().filter(|name| !now.contains(name));
    for name in gone.chain(now.iter().filter(|name| !before.contains(name))) {
        let located = history.locate(vault.log(), *name);
        let Ok(index) = located.and_then(|located| vault.index(history.device(), &located)) else {
            return false;
        };
        if !index.entries().all(|(prefix, pack)| reader.indexes_agree(&prefix, &pack)) {
            return false;
        }
    }
    true
}

/// Reads the tree of one snapshot.
struct Walk<'w, 'r> {
    run: &'w mut Run<'r>,
    reader: &'w SnapshotReader<'w>,
    snapshot: &'w Snapshot,
    whole: &'w mut HashSet<Node>,
    walked: &'w mut Walked,
}

/// A directory that is being read.
struct Frame<F> {
    node: Node,
    path: TreePath,
    entries: EntryReader<F>,
    is_whole: bool,
}

impl Walk<'_, '_> {
    fn walk(mut self) -> Result<(), Error> {
        let reader = self.reader;
        let fetch = |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
        let frame = |path: TreePath, tree: TreeRef| Frame {
            node: directory(&tree),
            path,
            entries: EntryReader::new(tree, fetch),
            is_whole: true,
        };
        let root = reader.body().root;
        if self.whole.contains(&directory(&root)) {
            return Ok(());
        }
        let mut frames = vec![frame(TreePath::root(), root)];
        while let Some(top) = frames.last_mut() {
            match top.entries.next() {
                Some(Ok(entry)) => match &entry.kind {
                    EntryKind::Directory { tree } => {
                        if !self.whole.contains(&directory(tree)) {
                            let below = frame(top.path.join(&entry.name), *tree);
                            frames.push(below);
                        }
                    }
                    _ => {
                        self.walked.files += 1;
                        let path = &top.path;
                        if !self.check_file(&entry, path) {
                            top.is_whole = false;
                        }
                    }
                },
                Some(Err(error)) => {
                    top.is_whole = false;
                    let path = top.path.clone();
                    self.lose(error, path, true);
                }
                None => {
                    self.run.stop_if_asked()?;
                    self.walked.directories += 1;
                    let (node, is_whole) = (top.node, top.is_whole);
                    frames.pop();
                    if is_whole {
                        self.remember(node);
                    } else if let Some(above) = frames.last_mut() {
                        above.is_whole = false;
                    }
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, node: Node) {
        if self.whole.len() < WHOLE_MAX {
            self.whole.insert(node);
        }
    }

    fn lose(&mut self, error: CallError<error::Error>, path: TreePath, is_directory: bool) {
        let problem = match error {
            CallError::Call(error) => Problem::Vault(error),
            CallError::Node(error) => {
                Problem::Tree { snapshot: self.snapshot.id(), path: path.clone(), what: error.to_string() }
            }
        };
        self.run.lose(problem, self.snapshot, path, is_directory);
    }

    /// Whether every chunk of a file is found, and where its pack is known to be damaged, reads whole.
    fn check_file(&mut self, entry: &Entry, directory: &TreePath) -> bool {
        let EntryKind::File { content, .. } = &entry.kind else { return true };
        let bytes = entry.kind.content_bytes();
        let node = match content {
            Content::Inline(_) => return true,
            Content::Refs(_) => None,
            Content::List { depth, reference } => Some((half(&reference.id), *depth, bytes)),
        };
        if node.is_some_and(|node| self.whole.contains(&node)) {
            return true;
        }
        let reader = self.reader;
        let fetch = |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
        for reference in RefReader::new(content, bytes, fetch) {
            let checked = reference.and_then(|wanted| self.check_chunk(&wanted).map_err(CallError::Call));
            if let Err(error) = checked {
                self.lose(error, directory.join(&entry.name), false);
                return false;
            }
        }
        if let Some(node) = node {
            self.remember(node);
        }
        true
    }

    fn check_chunk(&self, wanted: &ChunkRef) -> Result<(), error::Error> {
        let (pack, place) = self.reader.find(&wanted.id)?;
        if place.length != wanted.length {
            return Err(damaged(pack.name(), "a chunk in it is not as long as its tree says"));
        }
        if self.run.report.findings.names(pack.name()) {
            self.reader.chunk(ChunkKind::Data, wanted)?;
        }
        Ok(())
    }
}

fn directory(tree: &TreeRef) -> Node {
    // No file has this size, so a file's list is never taken for a directory's.
    (half(&tree.reference.id), tree.depth, u64::MAX)
}

fn half(id: &ChunkId) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&id.0[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(count: u32) -> Vec<(Located, ObjectName)> {
        (0..count)
            .map(|number| {
                let name = digest::digest(&number.to_le_bytes());
                let located = Located { listed: name, name, length: 1_000 };
                (located, Place::Pack { device: DeviceId([1; 16]), digest: name }.name())
            })
            .collect()
    }

    #[test]
    fn all_parts_of_a_subset_together_are_every_object_once() {
        let mut seen: Vec<_> = (1..=7)
            .flat_map(|number| select(objects(200), &ReadData::Subset { number, of: 7 }).0)
            .map(|(_, name)| name)
            .collect();
        assert!(seen.len() < 201 && select(objects(200), &ReadData::Subset { number: 3, of: 7 }).0.len() > 5);
        seen.sort();
        let mut all: Vec<_> = objects(200).into_iter().map(|(_, name)| name).collect();
        all.sort();
        assert_eq!(seen, all);
    }

    #[test]
    fn a_random_choice_has_as_many_bytes_as_asked_for_and_its_seed_gives_it_again() {
        let (chosen, seed) = select(objects(100), &ReadData::Percent(12.5));
        assert_eq!(chosen.len(), 13);
        let again = draw(objects(100), 12_500, seed.unwrap());
        assert_eq!(chosen, again, "seed {seed:?}");
        assert_eq!(select(objects(100), &ReadData::Bytes(4_000)).0.len(), 4);
        assert_eq!(select(objects(100), &ReadData::Bytes(1)).0.len(), 1);
        assert_eq!(select(objects(100), &ReadData::Percent(100.0)).0.len(), 100);
        let draws: HashSet<Vec<ObjectName>> = (0..8)
            .map(|seed| draw(objects(100), 10_000, seed).into_iter().map(|(_, name)| name).collect())
            .collect();
        assert_eq!(draws.len(), 8, "every seed chooses otherwise");
    }

    #[test]
    fn a_budget_is_never_overdrawn_and_takes_even_what_is_larger_than_it() {
        let budget = Budget::new(10);
        let holding = Mutex::new(0_u64);
        std::thread::scope(|scope| {
            for bytes in [3, 4, 5, 10, 99, 1] {
                let (budget, holding) = (&budget, &holding);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let taken = budget.take(bytes);
                        let held = {
                            let mut holding = holding.lock().unwrap();
                            *holding += taken.bytes;
                            *holding
                        };
                        assert!(held <= 10);
                        *holding.lock().unwrap() -= taken.bytes;
                    }
                });
            }
        });
        assert_eq!(*budget.lock(), 10);
    }
}

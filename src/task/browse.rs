//! Looking into a vault: its snapshots, what they hold, and how two of them differ.
//!
//! All that is told was checked: a snapshot's header is signed and chained, its body is named by the
//! header, and every tree and chunk is held against the id that its signed root leads to. What is
//! damaged is named, and the rest is shown all the same.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::io::Write;
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use rayon::prelude::*;

use crate::chunk::join::Joiner;
use crate::crypto::digest::Digester;
use crate::id::ChunkId;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::pack::packer::ChunkKind;
use crate::pack::unpacker::Place;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Time;
use crate::tree::entry::TreeRef;
use crate::tree::filter::Choice;
use crate::tree::filter::Selection;
use crate::tree::node;
use crate::tree::node::EntryReader;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::tree::path::TreePath;
use crate::vault::Vault;
use crate::vault::body::Body;
use crate::vault::error::Error as VaultError;
use crate::vault::header::Snapshot;
use crate::vault::history::History;
use crate::vault::read::PackReader;
use crate::vault::read::SnapshotReader;

/// How many bytes of one file are read at once, by all threads; twice as many are in memory.
const WINDOW_BYTES: usize = 8 << 20;

/// How many windows wait to be written out: one, while the next is read.
const WINDOWS_WAITING: usize = 1;

/// A snapshot and what is known of it.
pub struct Listed {
    /// Whose it is.
    pub device: DeviceId,
    /// The device's verified chain, which it is part of.
    pub history: Arc<History>,
    /// Its header.
    pub snapshot: Snapshot,
    /// Its body: not there if it is forgotten, damaged or missing.
    pub body: Option<Body>,
    /// Whether an owner has forgotten it; it may still be there to be read.
    pub forgotten: bool,
    /// Why there is no body, though it isn't forgotten.
    pub error: Option<VaultError>,
}

impl Listed {
    /// When the backup began, in nanoseconds since 1970 UTC; of one without a body, when it ended.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.body.as_ref().map_or(self.snapshot.header.time, |body| body.begun)
    }
}

/// All snapshots of a vault.
pub struct Listing {
    /// Oldest first; those of one time by device and place in its chain.
    pub snapshots: Vec<Listed>,
    /// Devices whose chains can't be read or don't verify; none of their snapshots is listed.
    pub broken: Vec<(DeviceId, VaultError)>,
}

/// Reads the chains of all devices, and the bodies of all snapshots that aren't forgotten.
///
/// A chain or a body that is damaged is told and stops nothing.
#[must_use]
pub fn snapshots(vault: &Vault) -> Listing {
    let devices: Vec<DeviceId> = vault.log().devices().keys().copied().collect();
    let chains: Vec<_> = devices
        .into_par_iter()
        .map(|device| (device, vault.locked().history(device).map(Arc::new)))
        .collect();
    let mut listing = Listing { snapshots: Vec::new(), broken: Vec::new() };
    let mut found = Vec::new();
    for (device, chain) in chains {
        match chain {
            Err(error) => listing.broken.push((device, error)),
            Ok(history) => {
                let all = history.snapshots().iter().cloned();
                found.extend(all.map(|snapshot| (Arc::clone(&history), snapshot)));
            }
        }
    }
    listing.snapshots =
        found.into_par_iter().map(|(history, snapshot)| look_at(vault, history, snapshot)).collect();
    listing.snapshots.sort_by_key(|listed| (listed.time(), listed.device, listed.snapshot.header.seq));
    listing
}

fn look_at(vault: &Vault, history: Arc<History>, snapshot: Snapshot) -> Listed {
    let device = history.device();
    let forgotten = vault.log().is_forgotten(device, snapshot.header.seq);
    let (body, error) = if forgotten {
        (None, None)
    } else {
        match vault.body(&history, &snapshot) {
            Ok(body) => (Some(body), None),
            Err(error) => (None, Some(error)),
        }
    };
    Listed { device, history, snapshot, body, forgotten, error }
}

/// Which snapshot is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// The newest that passes the filters, or the one so many before it.
    Latest {
        /// How many newer ones are passed over.
        back: usize,
    },
    /// The one whose id begins with these hex digits.
    Id(String),
}

impl Which {
    /// Reads `latest`, `latest~N` or the beginning of an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest { back: 0 });
        }
        if let Some(back) = text.strip_prefix("latest~") {
            return back.parse().ok().map(|back| Self::Latest { back });
        }
        let is_hex =
            !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| Self::Id(text.to_ascii_lowercase()))
    }

    fn words(&self) -> String {
        match self {
            Self::Latest { back: 0 } => "latest".to_owned(),
            Self::Latest { back } => format!("latest~{back}"),
            Self::Id(digits) => digits.clone(),
        }
    }
}

/// What a snapshot must have to be listed or chosen; nothing is asked by default.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Filters {
    /// One of these hosts, if any are given.
    pub hosts: Vec<String>,
    /// All tags of one of these sets, if any are given.
    pub tags: Vec<Vec<String>>,
    /// All of these paths among those that were backed up.
    pub paths: Vec<Vec<u8>>,
    /// Begun at this time or before, in nanoseconds since 1970 UTC.
    pub before: Option<u64>,
}

impl Filters {
    /// Whether `listed` passes. One without a body passes only if nothing is asked that it would tell.
    #[must_use]
    pub fn pass(&self, listed: &Listed) -> bool {
        if self.before.is_some_and(|before| listed.time() > before) {
            return false;
        }
        let Some(body) = &listed.body else {
            return self.hosts.is_empty() && self.tags.is_empty() && self.paths.is_empty();
        };
        (self.hosts.is_empty() || self.hosts.contains(&body.host))
            && (self.tags.is_empty()
                || self.tags.iter().any(|set| set.iter().all(|tag| body.tags.contains(tag))))
            && self.paths.iter().all(|path| body.paths.contains(path))
    }
}

/// Chooses one snapshot.
///
/// The newest is chosen even if its body is damaged, unless a filter asks what the body would tell: a
/// person must not be handed an older one unawares. Forgotten ones are chosen only by their id.
///
/// # Errors
/// [`VaultError::NoSuchSnapshot`].
pub fn choose<'l>(listed: &'l [Listed], which: &Which, filters: &Filters) -> Result<&'l Listed, Error> {
    let passing = listed.iter().filter(|listed| filters.pass(listed));
    let none = |ambiguous| Err(Error::Vault(VaultError::NoSuchSnapshot { wanted: which.words(), ambiguous }));
    match which {
        Which::Latest { back } => {
            let newest_first = passing.filter(|listed| !listed.forgotten).collect::<Vec<_>>();
            newest_first.into_iter().rev().nth(*back).map_or_else(|| none(false), Ok)
        }
        Which::Id(digits) => {
            let fits = |listed: &&Listed| listed.snapshot.id().to_string().starts_with(digits.as_str());
            let mut fitting = passing.filter(fits);
            match (fitting.next(), fitting.next()) {
                (Some(listed), None) => Ok(listed),
                (None, _) => none(false),
                (Some(_), Some(_)) => none(true),
            }
        }
    }
}

/// Opens a snapshot to be read.
///
/// # Errors
/// [`Error::Vault`] of its body.
pub fn reader<'v>(vault: &'v Vault, listed: &Listed) -> Result<SnapshotReader<'v>, Error> {
    Ok(SnapshotReader::load(vault, Arc::clone(&listed.history), &listed.snapshot)?)
}

/// What stands at a path of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum At {
    /// The root, of which only its entries are kept.
    Root(TreeRef),
    /// Anything else.
    Entry(Entry),
}

impl At {
    /// Its entries, if it is a directory.
    #[must_use]
    pub fn tree(&self) -> Option<TreeRef> {
        match self {
            Self::Root(tree) => Some(*tree),
            Self::Entry(entry) => tree_of(entry),
        }
    }
}

fn tree_of(entry: &Entry) -> Option<TreeRef> {
    match entry.kind {
        EntryKind::Directory { tree } => Some(tree),
        _ => None,
    }
}

/// Finds what stands at `path`, reading only the parts of directories that lead there.
///
/// # Errors
/// [`VaultError::NoSuchEntry`] if nothing does; [`Error::Vault`] or [`Error::Node`] for a directory on
/// the way that is damaged.
pub fn entry_at(reader: &SnapshotReader<'_>, path: &TreePath) -> Result<At, Error> {
    let mut at = At::Root(reader.body().root);
    for name in path.components() {
        let nothing = || VaultError::NoSuchEntry { path: path.to_string() };
        let tree = at.tree().ok_or_else(nothing)?;
        let found = node::find(&tree, &name, |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted))?;
        at = At::Entry(found.ok_or_else(nothing)?);
    }
    Ok(at)
}

/// Something of a snapshot that could not be read.
#[derive(Debug)]
pub struct Damaged {
    /// Which entry.
    pub path: TreePath,
    /// Whether it is a directory, so that entries below it are missing too.
    pub is_directory: bool,
    /// Why.
    pub error: Arc<Error>,
}

type Fetch<'r> = Box<dyn FnMut(NodeKind, &ChunkRef) -> Result<Vec<u8>, VaultError> + 'r>;
type Entries<'r> = EntryReader<Fetch<'r>>;

fn entries<'r>(reader: &'r SnapshotReader<'_>, tree: TreeRef) -> Entries<'r> {
    EntryReader::new(tree, Box::new(|kind, wanted| reader.node(kind, wanted)))
}

/// A directory that a [`Walk`] is in.
struct Frame<'r, T> {
    entry: Option<Entry>,
    entries: Entries<'r>,
    state: T,
}

/// What a [`Walk`] comes upon.
pub(crate) enum Step<T> {
    /// An entry of the directory that it is in. A directory is gone into only by [`Walk::enter`].
    Entry(Entry),
    /// The directory that it is in, or a part of it, can't be read; it goes on behind it.
    Damaged(Error),
    /// All of a directory was given.
    Leave {
        /// Where it is.
        path: TreePath,
        /// Its entry; that where the walk began may have none.
        entry: Option<Entry>,
        /// What was kept about it.
        state: T,
    },
}

/// Goes through a tree in the order of names, each directory's entries where its name stands.
///
/// No recursion: its depth is the tree's, in memory. Each directory on the way carries a `T`.
pub(crate) struct Walk<'r, 'v, T> {
    reader: &'r SnapshotReader<'v>,
    frames: Vec<Frame<'r, T>>,
    path: TreePath,
}

impl<'r, 'v, T> Walk<'r, 'v, T> {
    /// Begins in the directory `tree`, whose path shall be `path`.
    pub(crate) fn new(
        reader: &'r SnapshotReader<'v>,
        path: TreePath,
        tree: TreeRef,
        entry: Option<Entry>,
        state: T,
    ) -> Self {
        let frames = vec![Frame { entry, entries: entries(reader, tree), state }];
        Self { reader, frames, path }
    }

    /// The directory that it is in.
    pub(crate) fn path(&self) -> &TreePath {
        &self.path
    }

    /// What is kept about the directory that it is in.
    ///
    /// # Panics
    /// If the walk is over.
    pub(crate) fn state(&mut self) -> &mut T {
        &mut self.frames.last_mut().expect("the walk isn't over").state
    }

    /// Goes into the directory that [`Walk::step`] just gave.
    pub(crate) fn enter(&mut self, entry: Entry, state: T) {
        if let Some(tree) = tree_of(&entry) {
            self.path.push(&entry.name);
            let entries = entries(self.reader, tree);
            self.frames.push(Frame { entry: Some(entry), entries, state });
        }
    }

    /// The next step; nothing when the directory that it began in was left.
    pub(crate) fn step(&mut self) -> Option<Step<T>> {
        match self.frames.last_mut()?.entries.next() {
            Some(Ok(entry)) => Some(Step::Entry(entry)),
            Some(Err(error)) => Some(Step::Damaged(error.into())),
            None => {
                let frame = self.frames.pop()?;
                let path = self.path.clone();
                if !self.frames.is_empty() {
                    self.path.pop();
                }
                Some(Step::Leave { path, entry: frame.entry, state: frame.state })
            }
        }
    }
}

/// Shows the entries of the directory `from`, and of those below it if `recursive`; or `from` itself if
/// it is no directory. `each` may end it. Returns the directories that can't be read.
///
/// # Errors
/// As [`entry_at`].
pub fn walk(
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    recursive: bool,
    mut each: impl FnMut(&TreePath, &Entry) -> ControlFlow<()>,
) -> Result<Vec<Damaged>, Error> {
    walk_chosen(reader, from, |path, entry| match each(path, entry) {
        ControlFlow::Break(()) => ControlFlow::Break(()),
        ControlFlow::Continue(()) => ControlFlow::Continue(recursive),
    })
}

/// The same; `each` tells whether to go into a directory.
fn walk_chosen(
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    mut each: impl FnMut(&TreePath, &Entry) -> ControlFlow<(), bool>,
) -> Result<Vec<Damaged>, Error> {
    let mut damaged: Vec<Damaged> = Vec::new();
    let (tree, entry) = match entry_at(reader, from)? {
        At::Root(tree) => (tree, None),
        At::Entry(entry) => match tree_of(&entry) {
            Some(tree) => (tree, Some(entry)),
            None => {
                let _ = each(from, &entry);
                return Ok(damaged);
            }
        },
    };
    let mut walk = Walk::new(reader, from.clone(), tree, entry, ());
    while let Some(step) = walk.step() {
        match step {
            Step::Entry(entry) => match each(&walk.path().join(&entry.name), &entry) {
                ControlFlow::Break(()) => break,
                ControlFlow::Continue(true) => walk.enter(entry, ()),
                ControlFlow::Continue(false) => {}
            },
            Step::Damaged(error) => {
                let path = walk.path().clone();
                damaged.push(Damaged { path, is_directory: true, error: Arc::new(error) });
            }
            Step::Leave { .. } => {}
        }
    }
    Ok(damaged)
}

/// The kinds of entries that a search tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Regular files.
    File,
    /// Directories.
    Directory,
    /// Symbolic links.
    Symlink,
    /// Named pipes and device nodes.
    Special,
}

impl Kind {
    /// That of an entry.
    #[must_use]
    pub fn of(kind: &EntryKind) -> Self {
        match kind {
            EntryKind::File { .. } => Self::File,
            EntryKind::Directory { .. } => Self::Directory,
            EntryKind::Symlink { .. } => Self::Symlink,
            EntryKind::Fifo | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => Self::Special,
        }
    }
}

/// What is searched for: an entry has to meet all that is given.
pub struct Search {
    /// Which paths; without patterns all.
    pub selection: Selection,
    /// Which kinds; none given, all.
    pub kinds: Vec<Kind>,
    /// Changed at this time or after.
    pub newest_before: Option<Time>,
    /// Changed at this time or before.
    pub oldest_after: Option<Time>,
    /// Files of this many bytes or more.
    pub bytes_min: Option<u64>,
    /// Files of this many bytes or fewer.
    pub bytes_max: Option<u64>,
}

impl Search {
    fn meets(&self, entry: &Entry) -> bool {
        let bytes = match entry.kind {
            EntryKind::File { size, .. } => Some(size),
            _ => None,
        };
        (self.kinds.is_empty() || self.kinds.contains(&Kind::of(&entry.kind)))
            && self.newest_before.is_none_or(|time| entry.modified >= time)
            && self.oldest_after.is_none_or(|time| entry.modified <= time)
            && self.bytes_min.is_none_or(|least| bytes.is_some_and(|bytes| bytes >= least))
            && self.bytes_max.is_none_or(|most| bytes.is_some_and(|bytes| bytes <= most))
    }
}

/// Shows every entry below the directory `from` that `search` is for. What lies below a directory whose
/// path matches is shown only if it is matched by its own name or the pattern asks for it: a search for
/// `*.jpg` shows files, one for `photos` the directory and what is in it.
///
/// # Errors
/// As [`entry_at`].
pub fn find(
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    search: &Search,
    mut each: impl FnMut(&TreePath, &Entry) -> ControlFlow<()>,
) -> Result<Vec<Damaged>, Error> {
    let (tree, entry) = match entry_at(reader, from)? {
        At::Root(tree) => (tree, None),
        At::Entry(entry) => match tree_of(&entry) {
            Some(tree) => (tree, Some(entry)),
            None => {
                let parent = search.selection.root();
                if search.selection.decides(from, false, parent) == Choice::Take && search.meets(&entry) {
                    let _ = each(from, &entry);
                }
                return Ok(Vec::new());
            }
        },
    };
    let mut damaged: Vec<Damaged> = Vec::new();
    // Patterns are tied to the snapshot's root, so what they make of the way to `from` counts.
    let mut choice = search.selection.root();
    let mut way = TreePath::root();
    for name in from.components() {
        way.push(&name);
        choice = search.selection.decides(&way, true, choice);
    }
    let mut walk = Walk::new(reader, from.clone(), tree, entry, choice);
    while let Some(step) = walk.step() {
        match step {
            Step::Entry(entry) => {
                let path = walk.path().join(&entry.name);
                let parent = *walk.state();
                let choice = search.selection.decides(&path, entry.kind.is_directory(), parent);
                if choice == Choice::Take && search.meets(&entry) && each(&path, &entry).is_break() {
                    break;
                }
                if choice != Choice::Skip {
                    walk.enter(entry, choice);
                }
            }
            Step::Damaged(error) => {
                let path = walk.path().clone();
                damaged.push(Damaged { path, is_directory: true, error: Arc::new(error) });
            }
            Step::Leave { .. } => {}
        }
    }
    Ok(damaged)
}

/// Where the chunks of a file go, one after the other.
pub(crate) type Layout = Joiner<std::vec::IntoIter<(u64, u64)>>;

/// Where the chunks of a file of `size` bytes go, whose data is in `sparse` runs if there are any.
///
/// # Errors
/// [`Error::Join`] for runs that can't be.
pub(crate) fn layout(size: u64, sparse: Option<&[DataRun]>) -> Result<Layout, Error> {
    let runs = match sparse {
        Some(runs) => runs.iter().map(|run| (run.offset, run.length)).collect(),
        // A file without holes is one run; an empty one has none.
        None if size == 0 => Vec::new(),
        None => vec![(0, size)],
    };
    Ok(Joiner::sparse(size, runs.into_iter())?)
}

/// Reads chunks, each block once and all in parallel, in the order of `wanted`, checked.
fn fetch(reader: &SnapshotReader<'_>, wanted: &[ChunkRef]) -> Result<Vec<Vec<u8>>, Error> {
    struct Group {
        pack: Arc<PackReader>,
        block: u32,
        chunks: Vec<(usize, Place)>,
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<(usize, u32), usize> = HashMap::new();
    for (number, chunk) in wanted.iter().enumerate() {
        let (pack, place) = reader.find(&chunk.id)?;
        // The pack is held in its group, so no other can come to have its address.
        let key = (Arc::as_ptr(&pack).addr(), place.block);
        let group = *known.entry(key).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Group { pack, block: place.block, chunks: Vec::new() });
        }
        groups[group].chunks.push((number, place));
    }
    let read: Vec<Vec<(usize, Vec<u8>)>> = groups
        .into_par_iter()
        .with_max_len(1)
        .map(|Group { pack, block, chunks }| {
            let bytes = pack.read_block(reader.vault(), block)?;
            let take = |(number, place): (usize, Place)| {
                let chunk = place.of(&bytes).ok_or_else(|| pack.damaged("a chunk reaches past its block"))?;
                reader.check(&pack, ChunkKind::Data, &wanted[number], chunk)?;
                Ok((number, chunk.to_vec()))
            };
            chunks.into_iter().map(take).collect::<Result<Vec<_>, Error>>()
        })
        .collect::<Result<_, _>>()?;
    let mut in_order: Vec<(usize, Vec<u8>)> = read.into_iter().flatten().collect();
    in_order.sort_unstable_by_key(|(number, _)| *number);
    Ok(in_order.into_iter().map(|(_, bytes)| bytes).collect())
}

/// Reads the chunks of `content` in windows and hands them to `windows`, until nobody takes them.
fn read_ahead(
    reader: &SnapshotReader<'_>,
    content: &Content,
    bytes: u64,
    windows: &mpsc::SyncSender<Result<Vec<Vec<u8>>, Error>>,
) {
    let fetch_list = |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
    let mut refs = RefReader::new(content, bytes, fetch_list);
    let mut over = false;
    while !over {
        let (mut wanted, mut length) = (Vec::new(), 0);
        let gathered = loop {
            match refs.next() {
                None => {
                    over = true;
                    break Ok(());
                }
                Some(Err(error)) => break Err(Error::from(error)),
                Some(Ok(chunk)) => {
                    length += chunk.length as usize;
                    wanted.push(chunk);
                    if length >= WINDOW_BYTES {
                        break Ok(());
                    }
                }
            }
        };
        let window = gathered.and_then(|()| fetch(reader, &wanted));
        over |= window.is_err();
        if windows.send(window).is_err() {
            return;
        }
    }
}

/// Writes the bytes of a file to `out` as they come, holes as zeros.
///
/// Every byte was checked before it is written. If the file is damaged, what comes before the damage
/// has been written when the error is returned.
///
/// # Errors
/// [`Error::Refused`] if `entry` is no file; [`Error::Output`] if `out` fails; [`Error::Vault`],
/// [`Error::Node`] or [`Error::Join`] for what is damaged.
pub fn dump(reader: &SnapshotReader<'_>, entry: &Entry, out: &mut dyn Write) -> Result<(), Error> {
    let EntryKind::File { size, content, sparse } = &entry.kind else {
        return Err(Error::Refused { what: format!("{} is not a file", entry.name) });
    };
    let mut layout = layout(*size, sparse.as_deref())?;
    let mut written = 0;
    let mut put = |bytes: &[u8]| {
        layout.next(bytes.len(), |piece| {
            write_zeros(out, piece.offset - written)?;
            written = piece.offset + piece.in_chunk.len() as u64;
            out.write_all(&bytes[piece.in_chunk]).map_err(Error::Output)
        })
    };
    if let Content::Inline(bytes) = content {
        put(bytes)?;
    } else {
        thread::scope(|scope| {
            let (sender, windows) = mpsc::sync_channel(WINDOWS_WAITING);
            scope.spawn(move || read_ahead(reader, content, entry.kind.content_bytes(), &sender));
            for window in windows {
                for chunk in window? {
                    put(&chunk)?;
                }
            }
            Ok::<(), Error>(())
        })?;
    }
    layout.finish().map_err(Error::Join)?;
    write_zeros(out, size - written)
}

fn write_zeros(out: &mut dyn Write, mut count: u64) -> Result<(), Error> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while count > 0 {
        let part = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        out.write_all(&ZEROS[..part]).map_err(Error::Output)?;
        count -= part as u64;
    }
    Ok(())
}

/// Digests what is written to it.
struct Digesting(Digester);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The digest of a file's bytes, holes as zeros, for comparing it with one that isn't in the snapshot.
///
/// # Errors
/// As [`dump`].
pub fn content_digest(reader: &SnapshotReader<'_>, entry: &Entry) -> Result<Digest, Error> {
    let mut digester = Digesting(Digester::new());
    dump(reader, entry, &mut digester)?;
    Ok(digester.0.finish())
}

/// How an entry differs between two snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'e> {
    /// Only the second has it.
    Added(&'e Entry),
    /// Only the first has it.
    Removed(&'e Entry),
    /// Both have it, and it isn't the same.
    Changed {
        /// As the first has it.
        before: &'e Entry,
        /// As the second has it.
        after: &'e Entry,
        /// Whether it is another kind of thing.
        kind: bool,
        /// Whether its bytes, its target or its device numbers are others.
        content: bool,
        /// Whether its mode, owner, time or attributes are others.
        metadata: bool,
    },
}

/// One entry's reader, with the next entry to be looked at; of a side that hasn't the directory, none.
struct Side<'r> {
    entries: Option<Peekable<Entries<'r>>>,
}

impl<'r> Side<'r> {
    fn new(reader: &'r SnapshotReader<'_>, tree: Option<TreeRef>) -> Self {
        Self { entries: tree.map(|tree| entries(reader, tree).peekable()) }
    }

    /// Takes errors off the front, then tells the next name.
    fn ready(&mut self, path: &TreePath, damaged: &mut Vec<Damaged>) -> Option<&Entry> {
        let entries = self.entries.as_mut()?;
        while let Some(Err(_)) = entries.peek() {
            if let Some(Err(error)) = entries.next() {
                let error = Arc::new(Error::from(error));
                damaged.push(Damaged { path: path.clone(), is_directory: true, error });
            }
        }
        entries.peek().and_then(|entry| entry.as_ref().ok())
    }

    fn take(&mut self) -> Option<Entry> {
        self.entries.as_mut()?.next()?.ok()
    }
}

/// Shows how the second snapshot differs from the first, below `from`, in the order of names.
///
/// Between snapshots of one device, directories and contents with the same ids are the same and are
/// passed over unread. Ids of two devices have nothing to do with each other: there, everything
/// is read, and two files of the same size and time count as the same unless `compare_bytes`, which
/// reads and compares them. Returns what can't be read; below it nothing is told.
///
/// # Errors
/// As [`entry_at`], for `from`; [`Error::Vault`] if files whose bytes are compared can't be read is
/// among what is returned.
pub fn diff(
    first: &SnapshotReader<'_>,
    second: &SnapshotReader<'_>,
    from: &TreePath,
    compare_bytes: bool,
    mut each: impl FnMut(&TreePath, Change<'_>) -> ControlFlow<()>,
) -> Result<Vec<Damaged>, Error> {
    let mut damaged = Vec::new();
    let one_device = first.history().device() == second.history().device();
    let (before, after) = (side_at(first, from)?, side_at(second, from)?);
    if before.is_none() && after.is_none() {
        return Err(Error::Vault(VaultError::NoSuchEntry { path: from.to_string() }));
    }
    if one_device && before == after {
        return Ok(damaged);
    }
    let mut path = from.clone();
    let mut frames = VecDeque::from([(Side::new(first, before), Side::new(second, after))]);
    while let Some((left, right)) = frames.back_mut() {
        let (a, b) = (left.ready(&path, &mut damaged), right.ready(&path, &mut damaged));
        let order = match (a, b) {
            (None, None) => {
                frames.pop_back();
                path.pop();
                continue;
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.name.cmp(&b.name),
        };
        let before = if order.is_le() { left.take() } else { None };
        let after = if order.is_ge() { right.take() } else { None };
        let Some(name) = before.as_ref().or(after.as_ref()).map(|entry| entry.name.clone()) else { continue };
        path.push(&name);
        let change = match (&before, &after) {
            (Some(before), None) => Some(Change::Removed(before)),
            (None, Some(after)) => Some(Change::Added(after)),
            (Some(before), Some(after)) => {
                let compared = compare((first, before), (second, after), one_device, compare_bytes);
                compared.unwrap_or_else(|error| {
                    let path = path.clone();
                    damaged.push(Damaged { path, is_directory: false, error: Arc::new(error) });
                    None
                })
            }
            (None, None) => None,
        };
        if change.is_some_and(|change| each(&path, change).is_break()) {
            break;
        }
        let trees = (before.as_ref().and_then(tree_of), after.as_ref().and_then(tree_of));
        if trees == (None, None) || (one_device && trees.0 == trees.1) {
            path.pop();
        } else {
            frames.push_back((Side::new(first, trees.0), Side::new(second, trees.1)));
        }
    }
    Ok(damaged)
}

fn side_at(reader: &SnapshotReader<'_>, path: &TreePath) -> Result<Option<TreeRef>, Error> {
    match entry_at(reader, path) {
        Ok(at) => Ok(at.tree()),
        Err(Error::Vault(VaultError::NoSuchEntry { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How two entries of one name differ, if they do.
fn compare<'e>(
    (first, before): (&SnapshotReader<'_>, &'e Entry),
    (second, after): (&SnapshotReader<'_>, &'e Entry),
    one_device: bool,
    compare_bytes: bool,
) -> Result<Option<Change<'e>>, Error> {
    let kind = std::mem::discriminant(&before.kind) != std::mem::discriminant(&after.kind);
    let content = match (&before.kind, &after.kind) {
        // What is in a directory is told of its entries.
        (EntryKind::Directory { .. }, EntryKind::Directory { .. }) => false,
        (EntryKind::File { size: a, .. }, EntryKind::File { size: b, .. }) if !one_device => {
            a != b
                || if compare_bytes {
                    content_digest(first, before)? != content_digest(second, after)?
                } else {
                    before.modified != after.modified
                }
        }
        (before, after) => before != after,
    };
    let metadata = before.mode != after.mode
        || before.owner != after.owner
        || before.modified != after.modified
        || before.xattrs != after.xattrs;
    let differs = kind || content || metadata;
    Ok(differs.then_some(Change::Changed { before, after, kind, content, metadata }))
}

/// How much a snapshot holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Regular files, each name of one that has several.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Of all files as their sizes say: what a restore without holes and hard links would take.
    pub bytes: u64,
    /// Different chunks of contents.
    pub chunks: u64,
    /// Bytes of different chunks.
    pub bytes_unique: u64,
    /// Bytes of the blocks, as they are stored, that hold these chunks. Such a block may hold chunks of
    /// other snapshots too. 0 unless asked for.
    pub bytes_stored: u64,
}

/// Counts what lies at and below `from`; with `stored` also how much it takes in the vault, for which
/// the directory of every pack is read. Needs some 60 bytes of memory a chunk.
///
/// # Errors
/// As [`entry_at`]. What is damaged is returned and not counted.
pub fn stats(
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    stored: bool,
) -> Result<(Stats, Vec<Damaged>), Error> {
    let mut stats = Stats::default();
    let mut chunks: HashSet<ChunkId> = HashSet::new();
    let mut blocks: HashSet<(Digest, u32)> = HashSet::new();
    let mut damaged_files = Vec::new();
    let mut count = |path: &TreePath, entry: &Entry| {
        match &entry.kind {
            EntryKind::Directory { .. } => stats.directories += 1,
            EntryKind::File { size, content, .. } => {
                stats.files += 1;
                stats.bytes = stats.bytes.saturating_add(*size);
                let fetch_list = |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
                for chunk in RefReader::new(content, entry.kind.content_bytes(), fetch_list) {
                    let counted = chunk.map_err(Error::from).and_then(|chunk| {
                        if !chunks.insert(chunk.id) {
                            return Ok(());
                        }
                        stats.chunks += 1;
                        stats.bytes_unique += u64::from(chunk.length);
                        if stored {
                            let (pack, place) = reader.find(&chunk.id)?;
                            if blocks.insert((pack.listed(), place.block)) {
                                let range = pack.directory().block(place.block).range;
                                stats.bytes_stored += range.end - range.start;
                            }
                        }
                        Ok(())
                    });
                    if let Err(error) = counted {
                        let error = Arc::new(error);
                        damaged_files.push(Damaged { path: path.clone(), is_directory: false, error });
                        break;
                    }
                }
            }
            _ => stats.others += 1,
        }
        ControlFlow::Continue(())
    };
    let mut damaged = walk(reader, from, true, &mut count)?;
    damaged.extend(damaged_files);
    Ok((stats, damaged))
}

//! A reseed: a device that lost its memory, or was set back to an older state of itself, gets from an owner
//! what it needs to go on: where its chain ends, and which chunks its jobs' newest snapshots use.
//!
//! It is told exactly what it would remember had it lost nothing, and no more: the chunks of the newest
//! snapshot of each job that ran in the last 45 days, none of an older or a forgotten one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::JobId;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::task::backup::ages::KEPT_NS;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::node::EntryReader;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::vault::Vault;
use crate::vault::body::Body;
use crate::vault::body::IndexRef;
use crate::vault::device::Message;
use crate::vault::error;
use crate::vault::header::Snapshot;
use crate::vault::history::History;
use crate::vault::index::Prefix;
use crate::vault::index::prefix;
use crate::vault::read::SnapshotReader;
use crate::vault::record::Head;
use crate::vault::reseed::IndexGroup;
use crate::vault::reseed::IndexPart;
use crate::vault::reseed::ListedPack;
use crate::vault::reseed::NO_INDEX;
use crate::vault::reseed::Objects;
use crate::vault::reseed::RESEED_BYTES_MAX;
use crate::vault::reseed::Reseed;
use crate::vault::reseed::Row;

/// What a device was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Where its chain ends.
    pub head: Head,
    /// Of how many jobs.
    pub jobs: usize,
    /// The ids of how many chunks.
    pub chunks: usize,
    /// Chunks of these snapshots that it was not told of, as no index finds them or there was no room: its
    /// next backup sends them again.
    pub left_out: usize,
    /// Directories, files and whole snapshots that could not be read; what they hold is sent again too.
    pub damaged: usize,
}

/// Seals to a device what it would remember, and names it in one record.
///
/// # Errors
/// [`error::Error::NotOwner`], [`error::Error::Revoked`]; [`Error::Nothing`] if it has no snapshot; as
/// [`History::load`] and [`Vault::tell_device`]; [`Error::Interrupted`]: then nothing has changed. What is
/// damaged in its snapshots is told, and costs an upload.
pub fn reseed(
    vault: &mut Vault,
    device: DeviceId,
    now: u64,
    wait: &dyn Fn(u32),
    observer: &dyn Observer,
) -> Result<Summary, Error> {
    vault.admin()?;
    if vault.log().devices().get(&device).is_some_and(|known| known.revoked.is_some()) {
        return Err(error::Error::Revoked { device }.into());
    }
    let history = Arc::new(vault.locked().history(device)?);
    let head = history.head().ok_or(Error::Nothing { what: "the device has no snapshot" })?;
    let mut summary = Summary { head, jobs: 0, chunks: 0, left_out: 0, damaged: 0 };
    let newest = newest_of_jobs(vault, &history, &mut summary, observer);
    observer.event(&Event::Phase(Phase::Reading));
    let items = newest.iter().fold(0_u64, |sum, (_, body)| sum.saturating_add(body.counts.files));
    observer.event(&Event::Total { items, bytes: 0 });
    let listed = Listed::of(&history);
    let mut messages = Vec::new();
    for (snapshot, body) in newest {
        let job = body.job;
        let reader = SnapshotReader::new(vault, Arc::clone(&history), snapshot, body);
        let ids = chunks_of(&reader, &mut summary, observer)?;
        let (objects, rows) = listed.places(&reader, &ids);
        let mut reseed =
            Reseed { newest: head.seq, digest: head.digest, job, seq: snapshot.header.seq, objects, rows };
        reseed.shorten(RESEED_BYTES_MAX);
        summary.jobs += 1;
        summary.chunks += reseed.rows.len();
        summary.left_out += ids.len() - reseed.rows.len();
        messages.push(Message::Reseed(reseed));
    }
    if messages.is_empty() {
        messages.push(Message::Reseed(Reseed {
            newest: head.seq,
            digest: head.digest,
            job: JobId([0; 16]),
            seq: 0,
            objects: Objects::default(),
            rows: Vec::new(),
        }));
    }
    vault.tell_device(device, &messages, now, wait)?;
    Ok(summary)
}

/// What a device would remember of one of its snapshots whose indexes have all that it uses and nothing else, as
/// those of a sealed file do, but for the indexes: what leads to the chunks isn't read.
///
/// # Errors
/// [`error::Error::Missing`], [`error::Error::Damaged`] or [`error::Error::Store`] of an index.
pub fn of_indexes(reader: &SnapshotReader<'_>) -> Result<Reseed, Error> {
    let (vault, history, body) = (reader.vault(), reader.history(), reader.body());
    let head = history.head().ok_or(Error::Nothing { what: "the device has no snapshot" })?;
    let listed = Listed::of(history);
    let mut packs = Packs::of(&listed);
    let mut rows: HashMap<Prefix, Row> = HashMap::new();
    for part in &body.indexes {
        let located = history.locate(vault.log(), part.name)?;
        let index = vault.index(history.device(), &located)?;
        rows.reserve(index.len());
        for (id, pack) in index.entries() {
            if let Some(pack) = packs.number(pack) {
                rows.entry(id).or_insert(Row { id, pack, index: NO_INDEX });
            }
        }
    }
    let objects = Objects { packs: packs.packs, indexes: Vec::new() };
    let rows = rows.into_values().collect();
    let seq = reader.snapshot().header.seq;
    Ok(Reseed { newest: head.seq, digest: head.digest, job: body.job, seq, objects, rows })
}

/// The newest snapshot of each job that the device would still remember, with its body.
///
/// A job's age counts up to the device's newest snapshot, and not to today: a machine that is away ages
/// none of its jobs.
fn newest_of_jobs<'h>(
    vault: &Vault,
    history: &'h History,
    summary: &mut Summary,
    observer: &dyn Observer,
) -> Vec<(&'h Snapshot, Body)> {
    let log = vault.log();
    let last = history.snapshots().last().map_or(0, |snapshot| snapshot.header.time);
    let mut jobs = BTreeSet::new();
    let mut newest = Vec::new();
    for snapshot in history.snapshots().iter().rev() {
        let header = &snapshot.header;
        if log.is_forgotten(history.device(), header.seq) || last.saturating_sub(header.time) > KEPT_NS {
            continue;
        }
        match vault.body(history, snapshot) {
            Ok(body) if jobs.insert(body.job) => newest.push((snapshot, body)),
            Ok(_) => {}
            Err(error) => damaged(&error.into(), summary, observer),
        }
    }
    newest
}

fn damaged(error: &Error, summary: &mut Summary, observer: &dyn Observer) {
    summary.damaged += 1;
    observer.event(&Event::Notice(format!("{error}; what it holds is sent again")));
}

/// The ids of all that a snapshot uses: directories, lists and contents. What can't be read isn't among
/// them, so that a device stores it anew.
fn chunks_of(
    reader: &SnapshotReader<'_>,
    summary: &mut Summary,
    observer: &dyn Observer,
) -> Result<HashSet<Prefix>, Error> {
    let ids = RefCell::new(HashSet::new());
    let fetch = |kind: NodeKind, wanted: &ChunkRef| {
        let node = reader.node(kind, wanted)?;
        ids.borrow_mut().insert(prefix(&wanted.id));
        Ok::<_, error::Error>(node)
    };
    let is_known = |reference: &ChunkRef| ids.borrow().contains(&prefix(&reference.id));
    let directory = |tree: TreeRef| EntryReader::new(tree, &fetch);
    let mut open = vec![directory(reader.body().root)];
    while let Some(top) = open.last_mut() {
        match top.next() {
            None => {
                open.pop();
            }
            Some(Err(error)) => damaged(&error.into(), summary, observer),
            Some(Ok(Entry { kind: EntryKind::Directory { tree }, .. })) => {
                // The same directory as one before it, with all that is below.
                if !is_known(&tree.reference) {
                    open.push(directory(tree));
                }
            }
            Some(Ok(Entry { kind: kind @ EntryKind::File { .. }, .. })) => {
                if observer.interrupted() {
                    return Err(Error::Interrupted);
                }
                let EntryKind::File { content, .. } = &kind else { continue };
                let is_read = matches!(content, Content::List { reference, .. } if is_known(reference));
                let chunks = (!is_read).then(|| RefReader::new(content, kind.content_bytes(), &fetch));
                for chunk in chunks.into_iter().flatten() {
                    match chunk {
                        Ok(chunk) => {
                            ids.borrow_mut().insert(prefix(&chunk.id));
                        }
                        Err(error) => damaged(&error.into(), summary, observer),
                    }
                }
                observer.event(&Event::Progress { items: 1, bytes: 0 });
            }
            Some(Ok(_)) => {}
        }
    }
    Ok(ids.into_inner())
}

/// Which header lists each object, and with which length.
struct Listed(HashMap<Digest, (u64, u32)>);

impl Listed {
    fn of(history: &History) -> Self {
        let mut listed = HashMap::new();
        for Snapshot { header, .. } in history.snapshots() {
            for object in &header.objects {
                listed.entry(object.name).or_insert((header.seq, object.length));
            }
        }
        Self(listed)
    }

    /// Where the snapshot's indexes find these chunks. One that none finds is left out.
    fn places(&self, reader: &SnapshotReader<'_>, ids: &HashSet<Prefix>) -> (Objects, Vec<Row>) {
        let mut ids: Vec<&Prefix> = ids.iter().collect();
        ids.sort_unstable();
        let mut objects = Objects::default();
        let groups: Vec<Option<u32>> = groups(&reader.body().indexes)
            .into_iter()
            .map(|parts| {
                objects.indexes.push(self.group(parts)?);
                u32::try_from(objects.indexes.len() - 1).ok()
            })
            .collect();
        let mut packs = Packs::of(self);
        let mut rows = Vec::new();
        for id in ids {
            let Some((index, name)) = reader.indexed(id) else { continue };
            let Some(pack) = packs.number(name) else { continue };
            let index = groups.get(index).copied().flatten().unwrap_or(NO_INDEX);
            rows.push(Row { id: *id, pack, index });
        }
        objects.packs = packs.packs;
        (objects, rows)
    }

    fn group(&self, parts: &[IndexRef]) -> Option<IndexGroup> {
        let listed = self.0.get(&parts.first()?.name)?.0;
        let part = |reference: &IndexRef| {
            let length = self.0.get(&reference.name)?.1;
            Some(IndexPart { reference: *reference, length })
        };
        Some(IndexGroup { listed, parts: parts.iter().map(part).collect::<Option<_>>()? })
    }
}

/// The packs that chunks are found in, numbered as they come.
struct Packs<'l> {
    listed: &'l Listed,
    numbers: HashMap<Digest, Option<u32>>,
    packs: Vec<ListedPack>,
}

impl<'l> Packs<'l> {
    fn of(listed: &'l Listed) -> Self {
        Self { listed, numbers: HashMap::new(), packs: Vec::new() }
    }

    /// The number of a pack; nothing if no header lists it.
    fn number(&mut self, name: Digest) -> Option<u32> {
        *self.numbers.entry(name).or_insert_with(|| {
            let (listed, length) = *self.listed.0.get(&name)?;
            self.packs.push(ListedPack { name, length, listed });
            u32::try_from(self.packs.len() - 1).ok()
        })
    }
}

/// The parts of each index, in the order in which a body names them.
fn groups(indexes: &[IndexRef]) -> Vec<&[IndexRef]> {
    let begins: Vec<usize> = (0..indexes.len()).filter(|at| indexes[*at].first == [0; 16]).collect();
    let ends = begins.iter().skip(1).copied().chain([indexes.len()]);
    begins.iter().zip(ends).map(|(begin, end)| &indexes[*begin..end]).collect()
}

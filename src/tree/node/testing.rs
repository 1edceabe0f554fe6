//! What the tests of several layouts need: entries by number, and chunks kept in memory.

use crate::id::ChunkId;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Owner;
use crate::tree::entry::Time;
use crate::tree::entry::TreeRef;
use crate::tree::node::ListBuilder;
use crate::tree::node::NodeKind;
use crate::tree::node::TREE_BYTES_MAX;
use crate::tree::node::TreeBuilder;
use crate::tree::path::Name;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A hash that is as good as keyed for these tests.
pub(super) fn hash(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn id(parts: impl Hash + Copy) -> ChunkId {
    let mut bytes = [0; 32];
    for (index, eight) in bytes.chunks_exact_mut(8).enumerate() {
        eight.copy_from_slice(&hash((index, parts)).to_le_bytes());
    }
    ChunkId(bytes)
}

pub(super) fn chunk(number: usize) -> ChunkRef {
    ChunkRef { id: id(number), length: 1_000 }
}

/// Chunks by their id.
#[derive(Default)]
pub(super) struct Chunks(pub(super) BTreeMap<[u8; 32], (NodeKind, Vec<u8>)>);

impl Chunks {
    pub(super) fn put(&mut self, kind: NodeKind, bytes: Vec<u8>) -> Result<ChunkRef, Never> {
        assert!(bytes.len() <= kind.bytes_max());
        let reference =
            ChunkRef { id: id((kind, bytes.as_slice())), length: u32::try_from(bytes.len()).unwrap() };
        self.0.insert(*reference.id.as_bytes(), (kind, bytes));
        Ok(reference)
    }

    pub(super) fn get(&self, kind: NodeKind, reference: &ChunkRef) -> Result<Vec<u8>, Missing> {
        match self.0.get(reference.id.as_bytes()) {
            Some((found, bytes)) if *found == kind => Ok(bytes.clone()),
            _ => Err(Missing),
        }
    }

    pub(super) fn not_in(&self, other: &Self) -> usize {
        self.0.keys().filter(|id| !other.0.contains_key(*id)).count()
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Never {}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Missing;

pub(super) fn pipe(name: &str) -> Entry {
    Entry {
        name: Name::new(name.as_bytes()).unwrap(),
        kind: EntryKind::Fifo,
        mode: 0o644,
        owner: Owner { uid: 1_000, gid: 100, user: "anna".into(), group: "users".into() },
        modified: Time { seconds: 1_700_000_000, nanos: 999_999_999 },
        xattrs: Vec::new(),
        link_group: None,
    }
}

pub(super) fn file(name: &str, size: u64, content: Content, sparse: Option<Box<[DataRun]>>) -> Entry {
    Entry { kind: EntryKind::File { size, content, sparse }, ..pipe(name) }
}

pub(super) fn inline(bytes: usize) -> Content {
    Content::Inline(vec![7; bytes].into())
}

pub(super) fn build(entries: impl IntoIterator<Item = Entry>) -> (TreeRef, Chunks) {
    let mut chunks = Chunks::default();
    let mut put = |kind, bytes| chunks.put(kind, bytes);
    let mut builder = TreeBuilder::new(|name: &[u8]| hash(name));
    for entry in entries {
        builder.add(&entry, &mut put).unwrap();
        assert!(builder.held_bytes() <= TREE_BYTES_MAX, "more than one tree is held");
    }
    (builder.finish(&mut put).unwrap(), chunks)
}

pub(super) fn build_list(refs: impl IntoIterator<Item = ChunkRef>) -> (Content, u64, Chunks) {
    let mut chunks = Chunks::default();
    let mut put = |kind, bytes| chunks.put(kind, bytes);
    let mut builder = ListBuilder::new();
    for reference in refs {
        builder.add(reference, &mut put).unwrap();
    }
    let bytes = builder.content_bytes();
    (builder.finish(&mut put).unwrap(), bytes, chunks)
}

pub(super) fn numbered(count: usize) -> impl Iterator<Item = Entry> {
    (0..count).map(|number| file(&format!("customer-{number:07}"), 20, inline(20), None))
}

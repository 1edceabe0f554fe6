//! Reading a snapshot: from an id in the signed tree to the bytes it names, checked.

mod lookup;
mod pack;
mod rebuilt;
mod recent;
mod segments;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::crypto::digest;
use crate::id::ChunkId;
use crate::id::Digest;
use crate::pack::packer::ChunkKind;
use crate::pack::unpacker::Place as ChunkPlace;
use crate::tree::entry::ChunkRef;
use crate::tree::node::NodeKind;
use crate::vault::Vault;
use crate::vault::body::Body;
use crate::vault::error::Error;
use crate::vault::header::Snapshot;
use crate::vault::history::History;
use crate::vault::history::Located;
use crate::vault::index;
use crate::vault::name::Place;
use crate::vault::namer::Namer;
use crate::vault::read::lookup::IndexPart;
use crate::vault::read::recent::Recent;

pub use crate::vault::read::pack::PackReader;
pub use crate::vault::read::rebuilt::Rebuilt;

/// How many packs' directories are kept: some 50 KB each.
const PACKS_KEPT: usize = 192;
/// How many unpacked blocks are kept for single chunks (trees, lists, `dump`): up to 8 MiB each, 1 MiB as a rule.
const BLOCKS_KEPT: usize = 8;

/// A block: its pack as listed, and its number there.
type BlockKey = (Digest, u32);

/// One snapshot, ready to be read by several threads.
pub struct SnapshotReader<'a> {
    vault: &'a Vault,
    history: Arc<History>,
    snapshot: Snapshot,
    body: Body,
    namer: Namer,
    /// Newest first; the parts of each ascend by their first ids.
    indexes: Vec<Vec<IndexPart>>,
    packs: Mutex<Recent<Digest, Arc<PackReader>>>,
    blocks: Mutex<Recent<BlockKey, Arc<Vec<u8>>>>,
    found: Mutex<HashMap<Digest, Located>>,
}

impl<'a> SnapshotReader<'a> {
    /// Opens a snapshot's body. Indexes are read when they are asked.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] or [`Error::Store`] of the body.
    pub fn load(vault: &'a Vault, history: Arc<History>, snapshot: &Snapshot) -> Result<Self, Error> {
        let body = vault.body(&history, snapshot)?;
        Ok(Self::new(vault, history, snapshot, body))
    }

    /// The same with the snapshot's body at hand.
    #[must_use]
    pub fn new(vault: &'a Vault, history: Arc<History>, snapshot: &Snapshot, body: Body) -> Self {
        let mut indexes: Vec<Vec<IndexPart>> = Vec::new();
        for reference in &body.indexes {
            let part = IndexPart::new(reference);
            match indexes.last_mut() {
                Some(parts) if reference.first != [0; 16] => parts.push(part),
                _ => indexes.push(vec![part]),
            }
        }
        Self {
            namer: vault.namer(history.device()),
            vault,
            history,
            snapshot: snapshot.clone(),
            body,
            indexes,
            packs: Mutex::new(Recent::new(PACKS_KEPT)),
            blocks: Mutex::new(Recent::new(BLOCKS_KEPT)),
            found: Mutex::new(HashMap::new()),
        }
    }

    /// The header.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The device's history that the snapshot is part of.
    #[must_use]
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> &'a Vault {
        self.vault
    }

    /// Finds the pack that holds a chunk, and the chunk's place in it.
    ///
    /// An index that is damaged or missing is passed over ([`SnapshotReader::unusable_indexes`]); for a
    /// chunk that no other knows, the directories of all packs are read, once. Where an index leads to a
    /// pack that can't be read, another index may know the chunk in another pack.
    ///
    /// # Errors
    /// [`Error::Unindexed`] if an index can't be used and no pack has the chunk; [`Error::Damaged`] naming
    /// the body if all can and none knows it; as reading a pack does.
    pub fn find(&self, id: &ChunkId) -> Result<(Arc<PackReader>, ChunkPlace), Error> {
        let wanted = index::prefix(id);
        let mut first_error = None;
        for listed in self.indexes.iter().filter_map(|parts| self.ask(parts, &wanted)) {
            match self.find_in(&listed, id) {
                Ok(found) => return Ok(found),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if let Some(unusable) = self.unusable_indexes().next() {
            let found = self.rebuilt().find(id);
            return match found.map(|listed| self.find_in(&listed, id)).find(Result::is_ok) {
                Some(found) => found,
                None => Err(first_error.unwrap_or_else(|| Error::Unindexed(Arc::clone(unusable)))),
            };
        }
        Err(first_error.unwrap_or_else(|| {
            let body = self.snapshot.header.body;
            let name = Place::Pack { device: self.history.device(), digest: body }.name();
            Error::Damaged { name, what: "no index of its snapshot knows one of its chunks".to_owned() }
        }))
    }

    /// Why indexes of this snapshot can't be used, of those that were asked so far. What they would lead
    /// to is found in the packs all the same.
    pub fn unusable_indexes(&self) -> impl Iterator<Item = &Arc<Error>> {
        self.indexes.iter().flatten().filter_map(IndexPart::unusable)
    }

    /// Whether the snapshot's indexes agree that a chunk is in the pack that a header lists as `pack`:
    /// one of them says so at least, and none says otherwise.
    #[must_use]
    pub fn indexes_agree(&self, wanted: &index::Prefix, pack: &Digest) -> bool {
        let mut said = self.indexes.iter().filter_map(|parts| self.ask(parts, wanted)).peekable();
        said.peek().is_some() && said.all(|listed| listed == *pack)
    }

    /// Which of the snapshot's indexes knows a chunk, by its number, newest first; and in which pack it says
    /// that the chunk is. An index that can't be used is passed over, as for [`SnapshotReader::find`].
    #[must_use]
    pub fn indexed(&self, wanted: &index::Prefix) -> Option<(usize, Digest)> {
        self.indexes.iter().enumerate().find_map(|(at, parts)| Some((at, self.ask(parts, wanted)?)))
    }

    fn rebuilt(&self) -> &Rebuilt {
        self.history.rebuilt.get_or_init(|| Rebuilt::load(self.vault, &self.history))
    }

    /// Asks one index, which may be in several parts.
    fn ask(&self, parts: &[IndexPart], wanted: &index::Prefix) -> Option<Digest> {
        let at = parts.partition_point(|part| part.first() <= wanted);
        let part = parts.get(at.checked_sub(1)?)?;
        part.find(self.vault, &self.history, wanted)
    }

    fn find_in(&self, listed: &Digest, id: &ChunkId) -> Result<(Arc<PackReader>, ChunkPlace), Error> {
        let pack = self.pack(listed)?;
        match pack.directory.find(id) {
            Some(place) => Ok((pack, place)),
            None => Err(pack.segments.damaged(&"a chunk that the index finds here isn't in it")),
        }
    }

    /// The pack that a header lists by this name, its directory read.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Damaged`] naming it.
    pub fn pack(&self, listed: &Digest) -> Result<Arc<PackReader>, Error> {
        if let Some(pack) = lock(&self.packs).get(listed) {
            return Ok(pack);
        }
        let known = lock(&self.found).get(listed).copied();
        let located = match known {
            Some(located) => located,
            None => self.history.locate(self.vault.log(), *listed)?,
        };
        lock(&self.found).insert(*listed, located);
        let pack = Arc::new(PackReader::load(self.vault, self.history.device(), &located)?);
        lock(&self.packs).put(*listed, Arc::clone(&pack));
        Ok(pack)
    }

    /// Whether `bytes` are the chunk that the signed tree names; nothing is believed before.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the pack.
    pub fn check(
        &self,
        pack: &PackReader,
        kind: ChunkKind,
        wanted: &ChunkRef,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let right = bytes.len() as u64 == u64::from(wanted.length)
            && digest::equal(&self.namer.name(kind, bytes).0, &wanted.id.0);
        if right { Ok(()) } else { Err(pack.segments.damaged(&"a chunk in it does not match its id")) }
    }

    /// Reads one chunk, checked.
    ///
    /// # Errors
    /// As [`SnapshotReader::find`] and [`SnapshotReader::check`].
    pub fn chunk(&self, kind: ChunkKind, wanted: &ChunkRef) -> Result<Vec<u8>, Error> {
        let (pack, place) = self.find(&wanted.id)?;
        let key = (pack.listed, place.block);
        let kept = lock(&self.blocks).get(&key);
        let block = match kept {
            Some(block) => block,
            None => {
                let block = Arc::new(pack.read_block(self.vault, place.block)?);
                lock(&self.blocks).put(key, Arc::clone(&block));
                block
            }
        };
        let from = place.offset_in_block as usize;
        let bytes = block
            .get(from..from + place.length as usize)
            .ok_or_else(|| pack.segments.damaged(&"a chunk reaches past its block"))?;
        self.check(&pack, kind, wanted, bytes)?;
        Ok(bytes.to_vec())
    }

    /// Reads a tree or a list, checked.
    ///
    /// # Errors
    /// As [`SnapshotReader::chunk`].
    pub fn node(&self, kind: NodeKind, wanted: &ChunkRef) -> Result<Vec<u8>, Error> {
        let kind = match kind {
            NodeKind::Tree => ChunkKind::Tree,
            NodeKind::List => ChunkKind::List,
        };
        self.chunk(kind, wanted)
    }

    /// The device's way of naming chunks.
    #[must_use]
    pub fn namer(&self) -> &Namer {
        &self.namer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is kept is only ever whole values: a thread that panicked left nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

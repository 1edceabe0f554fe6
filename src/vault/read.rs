//! Reading a snapshot: from an id in the signed tree to the bytes it names, checked.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use crate::crypto::digest;
use crate::id::ChunkId;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::ObjectName;
use crate::pack::packer::ChunkKind;
use crate::pack::unpacker::BlockPlace;
use crate::pack::unpacker::Directory;
use crate::pack::unpacker::Place as ChunkPlace;
use crate::seal::pseal;
use crate::seal::pseal::Kind;
use crate::seal::pseal::Opener;
use crate::seal::pseal::SEGMENT_BYTES;
use crate::tree::entry::ChunkRef;
use crate::tree::node::NodeKind;
use crate::vault::Vault;
use crate::vault::body::Body;
use crate::vault::error::Error;
use crate::vault::header::Snapshot;
use crate::vault::history::History;
use crate::vault::history::Located;
use crate::vault::index;
use crate::vault::index::Index;
use crate::vault::name::Place;
use crate::vault::namer::Namer;

/// How many packs' directories are kept: some 50 KB each.
const PACKS_KEPT: usize = 192;
/// How many unpacked blocks are kept for single chunks (trees, lists, `dump`): up to 8 MiB each, 1 MiB as a rule.
const BLOCKS_KEPT: usize = 8;
/// Index objects up to this size are read whole at the first look-up; of larger ones only the
/// segments that a look-up needs, until it pays to read the rest.
const INDEX_WHOLE_BYTES: u64 = 4 << 20;
/// After so many look-ups in one index object it is read whole.
const LOOKUPS_BEFORE_WHOLE: usize = 32;

/// A sealed object of which segments can be read, each checked, without the rest.
struct Segments {
    name: ObjectName,
    object_bytes: u64,
    opener: Opener,
}

impl Segments {
    fn load(vault: &Vault, device: DeviceId, located: &Located, kind: Kind) -> Result<Self, Error> {
        let name = Place::Pack { device, digest: located.name }.name();
        let object_bytes = u64::from(located.length);
        let head_bytes = (pseal::HEAD_BYTES as u64).min(object_bytes);
        let head = vault.store().get_range(&name, 0..head_bytes).map_err(|error| short(&name, error))?;
        let opener = vault.opener(&name, device, kind, &head)?;
        Ok(Self { name, object_bytes, opener })
    }

    fn plaintext_bytes(&self) -> Result<u64, Error> {
        pseal::plaintext_len(self.object_bytes).map_err(|error| self.damaged(&error))
    }

    /// The plaintext of `range` and perhaps more on both sides: whole segments. Returns where
    /// the bytes begin.
    fn read(&self, vault: &Vault, range: &std::ops::Range<u64>) -> Result<(Vec<u8>, usize), Error> {
        let (object_range, first) =
            pseal::segments_for(range, self.object_bytes).map_err(|error| self.damaged(&error))?;
        let sealed =
            vault.store().get_range(&self.name, object_range).map_err(|error| short(&self.name, error))?;
        let plaintext =
            self.opener.range(self.object_bytes, first, &sealed).map_err(|error| self.damaged(&error))?;
        let begins = range.start - first * SEGMENT_BYTES as u64;
        Ok((plaintext, usize::try_from(begins).unwrap_or(usize::MAX)))
    }

    /// Exactly the plaintext of `range`.
    fn read_exactly(&self, vault: &Vault, range: &std::ops::Range<u64>) -> Result<Vec<u8>, Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let (mut plaintext, begins) = self.read(vault, range)?;
        plaintext.drain(..begins);
        plaintext.truncate(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        Ok(plaintext)
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Damaged { name: self.name.clone(), what: error.to_string() }
    }
}

/// An object shorter than its signed length is damaged.
fn short(name: &ObjectName, error: crate::store::Error) -> Error {
    match error {
        crate::store::Error::Short { .. } => {
            Error::Damaged { name: name.clone(), what: "it is shorter than its signed length".to_owned() }
        }
        error => error.into(),
    }
}

/// A data pack of which blocks can be read.
pub struct PackReader {
    listed: Digest,
    segments: Segments,
    directory: Directory,
}

impl PackReader {
    /// Which object it is, for messages.
    #[must_use]
    pub fn name(&self) -> &ObjectName {
        &self.segments.name
    }

    /// The name that its header lists it by.
    #[must_use]
    pub fn listed(&self) -> Digest {
        self.listed
    }

    /// What is in it.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Reads and unpacks one block. Its chunks are not believed yet: whoever takes one compares its
    /// id ([`SnapshotReader::check`]).
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Missing`] or [`Error::Store`].
    pub fn read_block(&self, vault: &Vault, block: u32) -> Result<Vec<u8>, Error> {
        let place = self.directory.block(block);
        let (plaintext, begins) = self.segments.read(vault, &place.range)?;
        self.unpack(&place, &plaintext, begins)
    }

    /// Reads neighbouring blocks at once and hands them to `each` one by one, unpacked.
    ///
    /// Should that fail, each is read by itself, so that damage costs no more than the blocks that it
    /// hit. Nothing is believed yet, as in [`PackReader::read_block`], whose errors `each` is handed.
    pub fn read_blocks(
        &self,
        vault: &Vault,
        blocks: std::ops::Range<u32>,
        mut each: impl FnMut(u32, Result<Vec<u8>, Error>),
    ) {
        if blocks.len() < 2 {
            return blocks.for_each(|block| each(block, self.read_block(vault, block)));
        }
        let start = self.directory.block(blocks.start).range.start;
        let end = self.directory.block(blocks.end - 1).range.end;
        let together = self.segments.read(vault, &(start..end)).ok();
        for block in blocks {
            let unpacked = match &together {
                None => self.read_block(vault, block),
                Some((plaintext, begins)) => {
                    let place = self.directory.block(block);
                    let before = usize::try_from(place.range.start - start).unwrap_or(usize::MAX);
                    self.unpack(&place, plaintext, begins.saturating_add(before))
                }
            };
            each(block, unpacked);
        }
    }

    /// Unpacks the block whose bytes begin at `begins` of `plaintext`.
    fn unpack(&self, place: &BlockPlace, plaintext: &[u8], begins: usize) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(place.range.end - place.range.start).unwrap_or(usize::MAX);
        let packed = begins.checked_add(length).and_then(|end| plaintext.get(begins..end));
        let packed = packed.ok_or_else(|| self.segments.damaged(&"a block reaches past its end"))?;
        place.unpack(packed).map_err(|error| self.segments.damaged(&error))
    }

    /// That something else in this pack isn't as it should be.
    #[must_use]
    pub fn damaged(&self, what: &str) -> Error {
        self.segments.damaged(&what)
    }

    fn load(vault: &Vault, device: DeviceId, located: &Located) -> Result<Self, Error> {
        let segments = Segments::load(vault, device, located, Kind::Data)?;
        let plaintext_bytes = segments.plaintext_bytes()?;
        let damaged = |error: &dyn std::fmt::Display| segments.damaged(error);
        // Most directories fit in the first segment, which has to be read anyhow.
        let first_bytes = plaintext_bytes.min(SEGMENT_BYTES as u64);
        let mut prefix = segments.read_exactly(vault, &(0..first_bytes))?;
        let head = prefix.first_chunk().ok_or_else(|| damaged(&"it is too short for a directory"))?;
        let needed = Directory::bytes_needed(head).map_err(|error| damaged(&error))?;
        if needed > prefix.len() {
            if needed as u64 > plaintext_bytes {
                return Err(damaged(&"its directory is longer than the pack"));
            }
            prefix.extend(segments.read_exactly(vault, &(first_bytes..needed as u64))?);
        }
        prefix.truncate(needed);
        let directory = Directory::parse(&prefix, plaintext_bytes).map_err(|error| damaged(&error))?;
        Ok(Self { listed: located.listed, segments, directory })
    }
}

/// A part of an index: one object, read whole or where a look-up leads.
struct IndexPart {
    located: Located,
    first: index::Prefix,
    segments: OnceLock<Segments>,
    whole: OnceLock<Index>,
    lookups: std::sync::atomic::AtomicUsize,
}

impl IndexPart {
    fn find(&self, vault: &Vault, device: DeviceId, wanted: &index::Prefix) -> Result<Option<Digest>, Error> {
        let lookups = self.lookups.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let small = u64::from(self.located.length) <= INDEX_WHOLE_BYTES;
        if let Some(whole) = self.whole.get() {
            return Ok(whole.find(wanted));
        }
        if small || lookups >= LOOKUPS_BEFORE_WHOLE {
            let whole = vault.index(device, &self.located)?;
            return Ok(self.whole.get_or_init(|| whole).find(wanted));
        }
        self.find_lazily(vault, device, wanted)
    }

    /// Ids are evenly spread, so where one stands can be guessed to within a segment or two.
    fn find_lazily(
        &self,
        vault: &Vault,
        device: DeviceId,
        wanted: &index::Prefix,
    ) -> Result<Option<Digest>, Error> {
        let segments = match self.segments.get() {
            Some(segments) => segments,
            None => {
                let loaded = Segments::load(vault, device, &self.located, Kind::Index)?;
                self.segments.get_or_init(|| loaded)
            }
        };
        let plaintext_bytes = segments.plaintext_bytes()?;
        let head = segments.read_exactly(vault, &(0..index::HEAD_BYTES as u64))?;
        let layout =
            index::Layout::decode(&head, plaintext_bytes).map_err(|error| segments.damaged(&error))?;
        let entries_at = layout.entries_at() as u64;
        let (mut low, mut high) = (0_u64, layout.entries as u64);
        let (mut low_key, mut high_key) = (key(&self.first), u64::MAX);
        while low < high {
            let span = u128::from(high_key.saturating_sub(low_key)).max(1);
            let ahead = u128::from(key(wanted).saturating_sub(low_key)) * u128::from(high - low) / span;
            let guess = (low + u64::try_from(ahead).unwrap_or(u64::MAX)).min(high - 1);
            // All entries that lie whole in the guessed one's segment.
            let at = entries_at + guess * index::ENTRY_BYTES as u64;
            let segment = SEGMENT_BYTES as u64;
            let from = (at / segment * segment).max(entries_at).min(at);
            let first = (from - entries_at).div_ceil(index::ENTRY_BYTES as u64).max(low);
            let until = ((at / segment + 1) * segment).max(at + index::ENTRY_BYTES as u64);
            let last = ((until - entries_at) / index::ENTRY_BYTES as u64).min(high).max(guess + 1);
            let range =
                entries_at + first * index::ENTRY_BYTES as u64..entries_at + last * index::ENTRY_BYTES as u64;
            let bytes = segments.read_exactly(vault, &range)?;
            let entries: Vec<(&[u8], u32)> =
                bytes.chunks_exact(index::ENTRY_BYTES).map(index::entry_in).collect();
            match entries.binary_search_by(|(prefix, _)| (*prefix).cmp(&wanted[..])) {
                Ok(at) => {
                    let pack = u64::from(entries[at].1);
                    if pack >= layout.packs as u64 {
                        return Err(segments.damaged(&"an entry names no pack"));
                    }
                    let at = index::HEAD_BYTES as u64 + pack * 32;
                    let name = segments.read_exactly(vault, &(at..at + 32))?;
                    return Ok(name.first_chunk().map(|name| Digest(*name)));
                }
                Err(0) => {
                    high = first;
                    high_key = entries.first().map_or(0, |(prefix, _)| key_of(prefix));
                }
                Err(at) if at == entries.len() => {
                    low = last;
                    low_key = entries.last().map_or(u64::MAX, |(prefix, _)| key_of(prefix));
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn key(prefix: &index::Prefix) -> u64 {
    key_of(prefix)
}

fn key_of(prefix: &[u8]) -> u64 {
    prefix.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// A small store of what was used last.
struct Recent<K, V> {
    kept: VecDeque<(K, V)>,
    most: usize,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self { kept: VecDeque::new(), most }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        let at = self.kept.iter().position(|(kept, _)| kept == key)?;
        let entry = self.kept.remove(at)?;
        let value = entry.1.clone();
        self.kept.push_front(entry);
        Some(value)
    }

    fn put(&mut self, key: K, value: V) {
        self.kept.push_front((key, value));
        self.kept.truncate(self.most);
    }
}

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
    /// Opens a snapshot's body and finds its indexes.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] or [`Error::Store`] of the body.
    pub fn load(vault: &'a Vault, history: Arc<History>, snapshot: &Snapshot) -> Result<Self, Error> {
        let body = vault.body(&history, snapshot)?;
        let mut indexes: Vec<Vec<IndexPart>> = Vec::new();
        for reference in &body.indexes {
            let part = IndexPart {
                located: history.locate(vault.log(), reference.name)?,
                first: reference.first,
                segments: OnceLock::new(),
                whole: OnceLock::new(),
                lookups: std::sync::atomic::AtomicUsize::new(0),
            };
            match indexes.last_mut() {
                Some(parts) if reference.first != [0; 16] => parts.push(part),
                _ => indexes.push(vec![part]),
            }
        }
        Ok(Self {
            namer: vault.namer(history.device()),
            vault,
            history,
            snapshot: snapshot.clone(),
            body,
            indexes,
            packs: Mutex::new(Recent::new(PACKS_KEPT)),
            blocks: Mutex::new(Recent::new(BLOCKS_KEPT)),
            found: Mutex::new(HashMap::new()),
        })
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
    /// # Errors
    /// [`Error::Damaged`] naming the body if no index knows the chunk; as reading index and pack does.
    pub fn find(&self, id: &ChunkId) -> Result<(Arc<PackReader>, ChunkPlace), Error> {
        let wanted = index::prefix(id);
        for parts in &self.indexes {
            let Some(listed) = self.find_in(parts, &wanted)? else { continue };
            let pack = self.pack(&listed)?;
            return match pack.directory.find(id) {
                Some(place) => Ok((pack, place)),
                None => Err(pack.segments.damaged(&"a chunk that the index finds here isn't in it")),
            };
        }
        let name = Place::Pack { device: self.history.device(), digest: self.snapshot.header.body }.name();
        Err(Error::Damaged { name, what: "no index of its snapshot knows one of its chunks".to_owned() })
    }

    /// Whether the snapshot's indexes agree that a chunk is in the pack that a header lists as `pack`:
    /// one of them says so at least, and none says otherwise.
    ///
    /// # Errors
    /// As reading an index does.
    pub fn indexes_agree(&self, wanted: &index::Prefix, pack: &Digest) -> Result<bool, Error> {
        let mut is_known = false;
        for parts in &self.indexes {
            match self.find_in(parts, wanted)? {
                Some(listed) if listed == *pack => is_known = true,
                Some(_) => return Ok(false),
                None => {}
            }
        }
        Ok(is_known)
    }

    /// Asks one index, which may be in several parts.
    fn find_in(&self, parts: &[IndexPart], wanted: &index::Prefix) -> Result<Option<Digest>, Error> {
        let at = parts.partition_point(|part| part.first <= *wanted);
        let Some(part) = at.checked_sub(1).and_then(|at| parts.get(at)) else { return Ok(None) };
        part.find(self.vault, self.history.device(), wanted)
    }

    fn pack(&self, listed: &Digest) -> Result<Arc<PackReader>, Error> {
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

//! Chunks out of packs that are used in part: a sealed file takes what it still needs of them into packs that
//! hold nothing else, and the rest goes with the old ones.
//!
//! That goes on beside the walk, which tells what is wanted as soon as it knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;

use rayon::prelude::*;

use crate::id::ChunkId;
use crate::id::Digest;
use crate::id::IdMap;
use crate::id::IdSet;
use crate::observe::Observer;
use crate::pack;
use crate::pack::packer::ChunkKind;
use crate::pack::unpacker::Place;
use crate::task::backup::blocks::Blocks;
use crate::task::backup::caches::Caches;
use crate::task::backup::journal::StoredPack;
use crate::task::backup::store;
use crate::task::backup::store::BLOCKS_WAITING;
use crate::task::backup::store::Packing;
use crate::task::error::Error;
use crate::vault::Vault;
use crate::vault::device::DeviceVault;
use crate::vault::error;
use crate::vault::index::Prefix;
use crate::vault::index::prefix;
use crate::vault::read::PackReader;
use crate::vault::read::SnapshotReader;

/// What is wanted: chunks, by the beginnings of their ids and the names that headers list their packs by.
#[derive(Default)]
pub struct Wanted {
    by_pack: BTreeMap<Digest, IdMap<Prefix, ChunkKind>>,
    chunks: usize,
}

impl Wanted {
    /// Wants one chunk more, which wasn't wanted before.
    pub fn add(&mut self, pack: Digest, kind: ChunkKind, chunk: Prefix) {
        self.by_pack.entry(pack).or_default().insert(chunk, kind);
        self.chunks += 1;
    }

    /// How many chunks are wanted.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks
    }
}

/// Takes what is wanted out of the packs that `reader` has as it is told, and stores it in new ones, which it
/// returns.
///
/// # Errors
/// As reading a pack, of which everything wanted has to be there; as [`store::store`].
pub fn carry(
    vault: &DeviceVault,
    reader: &SnapshotReader<'_>,
    wanted: &Receiver<Wanted>,
    packing: Packing<'_>,
    caches: &Caches<'_>,
    observer: &dyn Observer,
) -> Result<Vec<StoredPack>, Error> {
    thread::scope(|scope| {
        let (to_packer, blocks) = mpsc::sync_channel(BLOCKS_WAITING);
        let storing = scope.spawn(move || store::store(vault, &blocks, packing, None, caches, observer));
        let unpacked = unpack(reader, wanted, Blocks::new(to_packer), observer);
        let stored = storing.join().expect("the storing thread returns its errors and never panics");
        let stored = stored.map_err(|error| blame(reader, error))?;
        unpacked.map(|()| stored)
    })
}

/// Hands on what is wanted. Whether a chunk is what its id names is seen where it is packed, as of any chunk.
fn unpack(
    reader: &SnapshotReader<'_>,
    wanted: &Receiver<Wanted>,
    mut blocks: Blocks,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let mut waiting: Vec<Rest> = Vec::new();
    for (name, kinds) in wanted.iter().flat_map(|wanted| wanted.by_pack) {
        gather(reader.pack(&name)?, &kinds, &mut waiting)?;
        // More may be wanted of the last block, which is to be unpacked once.
        let last = waiting.pop();
        hand_on(reader, std::mem::take(&mut waiting), &mut blocks, observer)?;
        waiting.extend(last);
    }
    hand_on(reader, waiting, &mut blocks, observer)?;
    blocks.finish()
}

/// What is wanted of a block.
struct Rest {
    pack: Arc<PackReader>,
    block: u32,
    chunks: Vec<(ChunkKind, ChunkId, Place)>,
}

/// Finds what is wanted of a pack, block by block.
fn gather(
    pack: Arc<PackReader>,
    kinds: &IdMap<Prefix, ChunkKind>,
    waiting: &mut Vec<Rest>,
) -> Result<(), Error> {
    let mut found = IdSet::default();
    for (id, place) in pack.directory().chunks() {
        let prefix = prefix(&id);
        let Some(kind) = kinds.get(&prefix) else { continue };
        if !found.insert(prefix) {
            return Err(pack.damaged("two chunks in it have ids that begin alike").into());
        }
        let chunk = (*kind, id, place);
        match waiting.last_mut() {
            Some(rest) if rest.block == place.block && rest.pack.listed() == pack.listed() => {
                rest.chunks.push(chunk);
            }
            _ => waiting.push(Rest { pack: Arc::clone(&pack), block: place.block, chunks: vec![chunk] }),
        }
    }
    if found.len() < kinds.len() {
        return Err(pack.damaged("chunks that the index finds here aren't in it").into());
    }
    Ok(())
}

impl Rest {
    /// Whether all of the block is wanted: chunks lie in it end to end.
    fn is_whole(&self) -> bool {
        let wanted: u64 = self.chunks.iter().map(|(_, _, place)| u64::from(place.length)).sum();
        wanted == u64::from(self.pack.directory().block(self.block).raw_len)
    }

    /// The block as it is stored, if all of it is wanted, and unpacked otherwise.
    fn read(&self, vault: &Vault) -> Result<Vec<u8>, error::Error> {
        if self.is_whole() {
            self.pack.read_stored(vault, self.block)
        } else {
            self.pack.read_block(vault, self.block)
        }
    }
}

fn hand_on(
    reader: &SnapshotReader<'_>,
    mut rests: Vec<Rest>,
    blocks: &mut Blocks,
    observer: &dyn Observer,
) -> Result<(), Error> {
    for rests in rests.chunks_mut(BLOCKS_WAITING) {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let read: Vec<Vec<u8>> =
            rests.par_iter().map(|rest| rest.read(reader.vault())).collect::<Result<_, _>>()?;
        for (rest, bytes) in rests.iter_mut().zip(read) {
            rest.chunks.sort_by_key(|(_, _, place)| place.offset_in_block);
            if rest.is_whole() {
                blocks.add_whole(bytes, &rest.pack.directory().block(rest.block), &rest.chunks)?;
            } else {
                blocks.add_rest(bytes, &rest.chunks)?;
            }
        }
    }
    Ok(())
}

/// Why a chunk isn't what its id names: it may not have been in its old pack either.
fn blame(reader: &SnapshotReader<'_>, error: Error) -> Error {
    let Error::Pack(pack::Error::Unfaithful { chunk }) = &error else { return error };
    let check = || {
        let (pack, place) = reader.find(chunk)?;
        let block = pack.read_block(reader.vault(), place.block)?;
        let is_right = place.of(&block).is_some_and(|bytes| reader.namer().names(chunk, bytes));
        if is_right { Ok(()) } else { Err(pack.damaged("a chunk in it does not match its id")) }
    };
    match check() {
        Ok(()) => error,
        Err(found) => error::Error::into(found),
    }
}

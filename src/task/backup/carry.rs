//! Chunks out of packs that are used in part: a sealed file takes what it still needs of them into packs that
//! hold nothing else, and the rest goes with the old ones.

use std::collections::HashSet;
use std::sync::mpsc;
use std::thread;

use rayon::prelude::*;

use crate::crypto::digest;
use crate::id::ChunkId;
use crate::id::Digest;
use crate::observe::Observer;
use crate::pack::packer::ChunkKind;
use crate::pack::unpacker::Place;
use crate::task::backup::blocks::Blocks;
use crate::task::backup::caches::Caches;
use crate::task::backup::journal::StoredPack;
use crate::task::backup::store;
use crate::task::backup::store::BLOCKS_WAITING;
use crate::task::backup::store::Packing;
use crate::task::error::Error;
use crate::vault::device::DeviceVault;
use crate::vault::error;
use crate::vault::index::Prefix;
use crate::vault::index::prefix;
use crate::vault::namer::Namer;
use crate::vault::read::PackReader;
use crate::vault::read::SnapshotReader;

/// What is wanted of a pack: the name that its header lists it by, and the beginnings of the chunks' ids.
pub type Wanted = (Digest, HashSet<Prefix>);

/// Takes what is wanted out of the packs that `reader` has, and stores it in new ones, which it returns.
///
/// # Errors
/// As reading a pack, of which everything wanted has to be there; as [`store::store`].
pub fn carry(
    vault: &DeviceVault,
    reader: &SnapshotReader<'_>,
    wanted: &[Wanted],
    packing: Packing,
    caches: &Caches<'_>,
    observer: &dyn Observer,
) -> Result<Vec<StoredPack>, Error> {
    thread::scope(|scope| {
        let (to_packer, blocks) = mpsc::sync_channel(BLOCKS_WAITING);
        let storing = scope.spawn(move || store::store(vault, &blocks, packing, None, caches, observer));
        let unpacked = unpack(reader, wanted, Blocks::new(to_packer), observer);
        let stored = storing.join().expect("the storing thread returns its errors and never panics")?;
        unpacked.map(|()| stored)
    })
}

fn unpack(
    reader: &SnapshotReader<'_>,
    wanted: &[Wanted],
    mut blocks: Blocks,
    observer: &dyn Observer,
) -> Result<(), Error> {
    for (name, ids) in wanted {
        let pack = reader.pack(name)?;
        let mut chunks: Vec<(ChunkId, Place)> =
            pack.directory().chunks().filter(|(id, _)| ids.contains(&prefix(id))).collect();
        if chunks.len() < ids.len() {
            return Err(pack.damaged("chunks that the index finds here aren't in it").into());
        }
        // A pack's directory has them by their ids; together with their neighbours they compress better.
        chunks.sort_by_key(|(_, place)| (place.block, place.offset_in_block));
        let of_blocks: Vec<&[(ChunkId, Place)]> = chunks.chunk_by(|a, b| a.1.block == b.1.block).collect();
        for some in of_blocks.chunks(BLOCKS_WAITING) {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let read: Vec<Vec<Chunk>> =
                some.par_iter().map(|chunks| read_block(reader, &pack, chunks)).collect::<Result<_, _>>()?;
            for Chunk { kind, id, bytes } in read.into_iter().flatten() {
                blocks.add(kind, id, &bytes)?;
            }
        }
    }
    blocks.finish()
}

/// A chunk that was checked against its id.
struct Chunk {
    kind: ChunkKind,
    id: ChunkId,
    bytes: Vec<u8>,
}

/// Some chunks of one block.
fn read_block(
    reader: &SnapshotReader<'_>,
    pack: &PackReader,
    chunks: &[(ChunkId, Place)],
) -> Result<Vec<Chunk>, error::Error> {
    let Some((_, first)) = chunks.first() else { return Ok(Vec::new()) };
    let block = pack.read_block(reader.vault(), first.block)?;
    let mut kind = ChunkKind::Data;
    let read = |(id, place): &(ChunkId, Place)| {
        let bytes = place.of(&block).ok_or_else(|| pack.damaged("a chunk reaches past its block"))?;
        kind = kind_of(reader.namer(), id, bytes, kind)
            .ok_or_else(|| pack.damaged("a chunk in it does not match its id"))?;
        Ok(Chunk { kind, id: *id, bytes: bytes.to_vec() })
    };
    chunks.iter().map(read).collect()
}

/// Of which kind these bytes have this id: most likely of the same as the chunk before them.
fn kind_of(namer: &Namer, id: &ChunkId, bytes: &[u8], likely: ChunkKind) -> Option<ChunkKind> {
    [likely, ChunkKind::Data, ChunkKind::Tree, ChunkKind::List]
        .into_iter()
        .find(|kind| digest::equal(&namer.name(*kind, bytes).0, &id.0))
}

//! Chunks into blocks, and blocks to the half of a backup that stores them.

use std::sync::mpsc::SyncSender;

use crate::id::ChunkId;
use crate::pack;
use crate::pack::packer::BLOCK_BYTES;
use crate::pack::packer::Blocker;
use crate::pack::packer::ChunkKind;
use crate::pack::packer::RawBlock;
use crate::pack::packer::RawChunk;
use crate::pack::packer::StoredBlock;
use crate::pack::unpacker::BlockPlace;
use crate::pack::unpacker::Place;
use crate::task::error::Error;

/// What is left of a block stays one by itself from this length on; shorter ones would make smaller and smaller blocks.
const REST_BYTES_MIN: usize = BLOCK_BYTES / 4 * 3;

const REACHES_PAST: pack::Error = pack::Error::Damaged("a chunk reaches past its block");

/// What becomes a block in a new pack.
pub enum Material {
    /// Chunks.
    Raw(RawBlock),
    /// A block of an older pack, all of which is kept.
    Stored(StoredBlock),
}

impl Material {
    /// Whether it goes where contents go, or else where trees and lists do.
    #[must_use]
    pub fn is_data(&self) -> bool {
        let (Self::Raw(RawBlock { chunks, .. }) | Self::Stored(StoredBlock { chunks, .. })) = self;
        chunks.first().is_none_or(|chunk| chunk.kind == ChunkKind::Data)
    }
}

/// Gathers chunks into blocks, contents apart from trees and lists, and sends them on.
pub struct Blocks {
    to_packer: SyncSender<Material>,
    data: Blocker,
    nodes: Blocker,
}

impl Blocks {
    /// Blocks on their way to whoever has the other end.
    #[must_use]
    pub fn new(to_packer: SyncSender<Material>) -> Self {
        Self { to_packer, data: Blocker::new(), nodes: Blocker::new() }
    }

    /// Takes one more chunk.
    ///
    /// # Errors
    /// [`Error::Pack`] if it is empty or too long; [`Error::Interrupted`] if the other half has ended: it has an
    /// error to tell then, and this one doesn't matter.
    pub fn add(&mut self, kind: ChunkKind, id: ChunkId, bytes: &[u8]) -> Result<(), Error> {
        let blocker = if kind == ChunkKind::Data { &mut self.data } else { &mut self.nodes };
        let full = blocker.add(id, kind, bytes)?;
        full.map_or(Ok(()), |block| self.send(Material::Raw(block)))
    }

    /// Takes what is kept of a block of an older pack, in the order in which it lies there. If that is most of it, it
    /// stays a block: nothing is moved but what comes after a gap.
    ///
    /// # Errors
    /// As [`Blocks::add`]; [`Error::Pack`] if a chunk isn't where it is said to be.
    pub fn add_rest(
        &mut self,
        mut bytes: Vec<u8>,
        chunks: &[(ChunkKind, ChunkId, Place)],
    ) -> Result<(), Error> {
        let kept: usize = chunks.iter().map(|(_, _, place)| place.length as usize).sum();
        let is_data = chunks.iter().all(|(kind, ..)| *kind == ChunkKind::Data);
        if !is_data || kept < REST_BYTES_MIN {
            return chunks.iter().try_for_each(|(kind, id, place)| {
                self.add(*kind, *id, place.of(&bytes).ok_or(REACHES_PAST)?)
            });
        }
        let mut end = 0;
        for (_, _, place) in chunks {
            let begins = place.offset_in_block as usize;
            let past = begins + place.of(&bytes).ok_or(REACHES_PAST)?.len();
            bytes.copy_within(begins..past, end);
            end += past - begins;
        }
        bytes.truncate(end);
        self.send(Material::Raw(RawBlock { bytes, chunks: raw_chunks(chunks) }))
    }

    /// Takes a block of an older pack of which all is kept, as it is stored.
    ///
    /// # Errors
    /// [`Error::Interrupted`], as [`Blocks::add`].
    pub fn add_whole(
        &self,
        stored: Vec<u8>,
        place: &BlockPlace,
        chunks: &[(ChunkKind, ChunkId, Place)],
    ) -> Result<(), Error> {
        let BlockPlace { raw_len, zstd, .. } = *place;
        self.send(Material::Stored(StoredBlock { stored, raw_len, zstd, chunks: raw_chunks(chunks) }))
    }

    /// Sends what is left; more can be added after it.
    ///
    /// # Errors
    /// As [`Blocks::add`].
    pub fn finish(&mut self) -> Result<(), Error> {
        let last = [self.data.finish(), self.nodes.finish()];
        last.into_iter().flatten().try_for_each(|block| self.send(Material::Raw(block)))
    }

    fn send(&self, block: Material) -> Result<(), Error> {
        self.to_packer.send(block).map_err(|_| Error::Interrupted)
    }
}

fn raw_chunks(chunks: &[(ChunkKind, ChunkId, Place)]) -> Vec<RawChunk> {
    chunks.iter().map(|(kind, id, place)| RawChunk { id: *id, kind: *kind, length: place.length }).collect()
}

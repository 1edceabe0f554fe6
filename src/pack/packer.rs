//! Chunks into blocks, blocks into packs.
//!
//! A [`Blocker`] gathers chunks, [`Block::build`] compresses and checks what it gathered (the only
//! costly step, and one that any thread can do), a [`Packer`] puts the blocks together. The order of
//! chunks is kept throughout, so the same input gives the same packs.

use std::mem;

use crate::codec::Writer;
use crate::id::ChunkId;
use crate::id::IdSet;

use super::compress;
use super::{
    BLOCK_BYTES_MAX, BLOCK_ROW_BYTES, BLOCKS, CHUNK_ROW_BYTES, CHUNKS_MAX, Error, FLAG_ZSTD, HEAD_BYTES,
    PLAINTEXT_BYTES_MAX,
};

/// How long a block becomes before it is closed, unless one chunk is longer.
///
/// Source: at 1 MiB small files compress within 1 % of the best that any length gives, and a reader
/// of one small file decompresses no more than that.
pub const BLOCK_BYTES: usize = 1 << 20;

/// How long a pack becomes before it is closed.
///
/// Several are in memory at once: one that grows, one that is sealed and one that is stored.
pub const PACK_BYTES_TARGET: usize = 8 << 20;

/// How many chunks a block holds at most, so that tiny ones don't fill a pack's directory at once.
const BLOCK_CHUNKS_MAX: usize = 8_192;

/// What a chunk is; ids of each kind are made with another key, so none passes for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChunkKind {
    /// A part of a file's content.
    Data,
    /// A directory or a part of one.
    Tree,
    /// A list of references to chunks.
    List,
}

/// A chunk in a block that is not yet built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawChunk {
    /// Its id.
    pub id: ChunkId,
    /// What it is.
    pub kind: ChunkKind,
    /// How many bytes it has.
    pub length: u32,
}

/// A compression unit before compression: chunks end to end.
#[derive(Default)]
pub struct RawBlock {
    /// The chunks' bytes.
    pub bytes: Vec<u8>,
    /// What they are, in the same order.
    pub chunks: Vec<RawChunk>,
}

/// A compression unit as it lies in a pack.
pub struct StoredBlock {
    /// Its bytes there.
    pub stored: Vec<u8>,
    /// How many it has before compression.
    pub raw_len: u32,
    /// Whether it is compressed.
    pub zstd: bool,
    /// All its chunks, in order.
    pub chunks: Vec<RawChunk>,
}

/// Gathers chunks into [`RawBlock`]s of about 1 MiB, or of one chunk that is longer.
#[derive(Default)]
pub struct Blocker {
    block: RawBlock,
}

impl Blocker {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one more chunk; returns a block whenever one is full.
    ///
    /// # Errors
    /// [`Error::Unpackable`] if the chunk is empty or longer than [`BLOCK_BYTES_MAX`]. It is not taken
    /// then.
    pub fn add(&mut self, id: ChunkId, kind: ChunkKind, bytes: &[u8]) -> Result<Option<RawBlock>, Error> {
        if bytes.is_empty() || bytes.len() > BLOCK_BYTES_MAX {
            return Err(Error::Unpackable("one is empty or longer than 8 MiB"));
        }
        let length = u32::try_from(bytes.len()).expect("8 MiB are fewer than 2^32 bytes");
        let would_overflow = self.block.bytes.len() + bytes.len() > BLOCK_BYTES;
        let full = if would_overflow { self.take() } else { None };
        if self.block.bytes.is_empty() && bytes.len() < BLOCK_BYTES {
            self.block.bytes = BLOCKS.take(BLOCK_BYTES);
        }
        self.block.bytes.extend_from_slice(bytes);
        self.block.chunks.push(RawChunk { id, kind, length });
        let is_full = self.block.bytes.len() >= BLOCK_BYTES || self.block.chunks.len() >= BLOCK_CHUNKS_MAX;
        // With one full block to hand out already, the next waits for the next chunk.
        Ok(if full.is_none() && is_full { self.take() } else { full })
    }

    /// How many bytes wait for their block to fill.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.block.bytes.len()
    }

    /// The last block, if any chunk is left; the blocker is empty again.
    pub fn finish(&mut self) -> Option<RawBlock> {
        self.take()
    }

    fn take(&mut self) -> Option<RawBlock> {
        if self.block.chunks.is_empty() { None } else { Some(mem::take(&mut self.block)) }
    }
}

/// A block as it will be stored. There is no other way to one than [`Block::build`] and [`Block::keep`], which check it.
pub struct Block {
    stored: Vec<u8>,
    raw_len: u32,
    zstd: bool,
    chunks: Vec<(ChunkId, u32)>,
}

impl Block {
    /// Compresses `raw` at `level` (see [`compress::compress`]), then decompresses what will be stored
    /// and makes the id of each chunk anew from that with `recompute`.
    ///
    /// # Errors
    /// [`Error::Unfaithful`] if an id differs or decompression fails. [`Error::Unpackable`] if the
    /// chunks' lengths don't add up, one is empty or there twice, or there are too many or too long.
    pub fn build(
        raw: RawBlock,
        level: i32,
        recompute: &dyn Fn(ChunkKind, &[u8]) -> ChunkId,
    ) -> Result<Self, Error> {
        let RawBlock { bytes, chunks } = raw;
        let raw_len = u32::try_from(bytes.len()).map_err(|_| Error::Unpackable("a block is too long"))?;
        check_layout(raw_len, &chunks)?;
        let (stored, zstd) = match compress::compress(level, &bytes) {
            Some(compressed) => {
                BLOCKS.give_back(bytes);
                (compressed, true)
            }
            None => (bytes, false),
        };
        Self::check(StoredBlock { stored, raw_len, zstd, chunks }, recompute)
    }

    /// Takes a block over from another pack as it is stored there, once it is checked in the same way.
    ///
    /// # Errors
    /// As [`Block::build`].
    pub fn keep(block: StoredBlock, recompute: &dyn Fn(ChunkKind, &[u8]) -> ChunkId) -> Result<Self, Error> {
        check_layout(block.raw_len, &block.chunks)?;
        Self::check(block, recompute)
    }

    fn check(block: StoredBlock, recompute: &dyn Fn(ChunkKind, &[u8]) -> ChunkId) -> Result<Self, Error> {
        let StoredBlock { stored, raw_len, zstd, chunks } = block;
        let first = chunks.first().map(|chunk| chunk.id).ok_or(Error::Unpackable("there are none"))?;
        if zstd {
            let raw_len = usize::try_from(raw_len).map_err(|_| Error::Unpackable("a block is too long"))?;
            compress::decompress_and(&stored, raw_len, |raw| check_ids(raw, &chunks, recompute))
                .map_err(|_| Error::Unfaithful { chunk: first })??;
        } else {
            check_ids(&stored, &chunks, recompute)?;
        }
        let chunks = chunks.into_iter().map(|chunk| (chunk.id, chunk.length)).collect();
        Ok(Self { stored, raw_len, zstd, chunks })
    }

    /// How many bytes it has before compression.
    #[must_use]
    pub fn raw_len(&self) -> u32 {
        self.raw_len
    }

    /// How many bytes it takes in a pack, without its rows in the directory.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        self.stored.len()
    }

    /// Its chunks in order, with their lengths.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = (ChunkId, u32)> + '_ {
        self.chunks.iter().copied()
    }

    fn directory_bytes(&self) -> usize {
        BLOCK_ROW_BYTES + self.chunks.len() * CHUNK_ROW_BYTES
    }
}

fn check_layout(raw_len: u32, chunks: &[RawChunk]) -> Result<(), Error> {
    let total = chunks.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>();
    if u64::from(raw_len) != total || chunks.iter().any(|chunk| chunk.length == 0) {
        return Err(Error::Unpackable("their lengths don't add up"));
    }
    if total > BLOCK_BYTES_MAX as u64 || chunks.len() > CHUNKS_MAX {
        return Err(Error::Unpackable("there are too many for a block"));
    }
    let mut ids = IdSet::default();
    ids.reserve(chunks.len());
    if chunks.iter().all(|chunk| ids.insert(chunk.id)) {
        Ok(())
    } else {
        Err(Error::Unpackable("one comes twice"))
    }
}

fn check_ids(
    mut raw: &[u8],
    chunks: &[RawChunk],
    recompute: &dyn Fn(ChunkKind, &[u8]) -> ChunkId,
) -> Result<(), Error> {
    for &RawChunk { id, kind, length } in chunks {
        let taken = usize::try_from(length).ok().and_then(|length| raw.split_at_checked(length));
        let (chunk, rest) = taken.ok_or(Error::Unfaithful { chunk: id })?;
        if recompute(kind, chunk) != id {
            return Err(Error::Unfaithful { chunk: id });
        }
        raw = rest;
    }
    if raw.is_empty() { Ok(()) } else { Err(Error::Unpackable("their lengths don't add up")) }
}

/// Puts blocks together until they make a pack.
pub struct Packer {
    target: usize,
    blocks: Vec<Block>,
    ids: IdSet<ChunkId>,
    directory_bytes: usize,
    blocks_bytes: usize,
}

impl Packer {
    /// A packer that closes a pack as soon as it has `target_bytes`, see [`PACK_BYTES_TARGET`].
    #[must_use]
    pub fn new(target_bytes: usize) -> Self {
        Self {
            target: target_bytes.min(PLAINTEXT_BYTES_MAX),
            blocks: Vec::new(),
            ids: IdSet::default(),
            directory_bytes: HEAD_BYTES,
            blocks_bytes: 0,
        }
    }

    /// Takes one more block; returns a pack whenever one is full.
    ///
    /// A pack is also closed, before this block, if the block doesn't fit into it or has a chunk that is
    /// in it already.
    pub fn add(&mut self, block: Block) -> Option<Pack> {
        let bytes = self.plaintext_len() + block.directory_bytes() + block.stored.len();
        let fits = bytes <= PLAINTEXT_BYTES_MAX && self.ids.len() + block.chunks.len() <= CHUNKS_MAX;
        let closed = if fits && !block.chunks.iter().any(|(id, _)| self.ids.contains(id)) {
            None
        } else {
            self.finish()
        };
        self.ids.extend(block.chunks.iter().map(|(id, _)| id));
        self.directory_bytes += block.directory_bytes();
        self.blocks_bytes += block.stored.len();
        self.blocks.push(block);
        if closed.is_none() && self.plaintext_len() >= self.target { self.finish() } else { closed }
    }

    /// How long the pack is that grows here.
    #[must_use]
    pub fn plaintext_len(&self) -> usize {
        self.directory_bytes + self.blocks_bytes
    }

    /// The last pack, if any block is left; the packer is empty again.
    pub fn finish(&mut self) -> Option<Pack> {
        if self.blocks.is_empty() {
            return None;
        }
        let mut directory = Writer::with_capacity(self.directory_bytes);
        directory.count(self.directory_bytes).count(self.blocks.len()).count(self.ids.len());
        for block in &self.blocks {
            directory.count(block.stored.len()).u32(block.raw_len).count(block.chunks.len());
            directory.u8(if block.zstd { FLAG_ZSTD } else { 0 }).zeros(3);
        }
        for (id, length) in self.blocks.iter().flat_map(|block| &block.chunks) {
            directory.bytes(id.as_bytes()).u32(*length);
        }
        let pack = Pack {
            directory: directory.finish(),
            blocks: mem::take(&mut self.blocks),
            plaintext_len: self.plaintext_len(),
        };
        self.ids.clear();
        self.directory_bytes = HEAD_BYTES;
        self.blocks_bytes = 0;
        Some(pack)
    }
}

/// A pack that is ready to be sealed.
pub struct Pack {
    directory: Vec<u8>,
    blocks: Vec<Block>,
    plaintext_len: usize,
}

impl Pack {
    /// The plaintext, part by part and without padding: the directory, then each block.
    #[must_use]
    pub fn parts(&self) -> Vec<&[u8]> {
        let blocks = self.blocks.iter().map(|block| &block.stored[..]);
        std::iter::once(self.directory()).chain(blocks).collect()
    }

    /// The directory. Its chunk ids commit to all the rest, so its digest names the whole plaintext.
    #[must_use]
    pub fn directory(&self) -> &[u8] {
        &self.directory
    }

    /// All chunks in order, with their lengths.
    pub fn chunks(&self) -> impl Iterator<Item = (ChunkId, u32)> + '_ {
        self.blocks.iter().flat_map(Block::chunks)
    }

    /// How many bytes [`Self::parts`] have, at most [`PLAINTEXT_BYTES_MAX`].
    #[must_use]
    pub fn plaintext_len(&self) -> usize {
        self.plaintext_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::digest;
    use crate::crypto::secret::Secret;

    fn id_of(kind: ChunkKind, bytes: &[u8]) -> ChunkId {
        let key = Secret::<32>::take(&mut [kind as u8; 32]);
        ChunkId(digest::keyed(&key, &[bytes]))
    }

    fn raw_block(chunks: &[&[u8]]) -> RawBlock {
        let kind = ChunkKind::Data;
        let row = |bytes: &&[u8]| RawChunk {
            id: id_of(kind, bytes),
            kind,
            length: u32::try_from(bytes.len()).unwrap(),
        };
        RawBlock { bytes: chunks.concat(), chunks: chunks.iter().map(row).collect() }
    }

    fn build(chunks: &[&[u8]]) -> Block {
        Block::build(raw_block(chunks), 3, &id_of).unwrap()
    }

    /// Chunks of 4 bytes, no two alike.
    fn tiny(count: u32) -> Vec<[u8; 4]> {
        (0..count).map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_chunk_that_is_not_what_its_id_says_is_never_built_into_a_block() {
        let other = |kind, bytes: &[u8]| id_of(kind, &bytes[1..]);
        for level in [compress::LEVEL_STORE, 3] {
            let raw = raw_block(&[&[b'a'; 1_000], &[b'b'; 1_000]]);
            let expected = Some(Error::Unfaithful { chunk: raw.chunks[0].id });
            assert_eq!(Block::build(raw, level, &other).err(), expected);
            // One bit changes in memory after the id was made.
            let mut raw = raw_block(&[&[b'a'; 1_000], &[b'b'; 1_000]]);
            raw.bytes[1_999] ^= 1;
            let expected = Some(Error::Unfaithful { chunk: raw.chunks[1].id });
            assert_eq!(Block::build(raw, level, &id_of).err(), expected);
        }
    }

    #[test]
    fn a_block_is_taken_over_as_it_is_stored_if_its_chunks_are_what_their_ids_say() {
        let chunks: [&[u8]; 2] = [&[b'a'; 1_000], &[b'b'; 1_000]];
        for level in [compress::LEVEL_STORE, 3] {
            let built = Block::build(raw_block(&chunks), level, &id_of).unwrap();
            let stored = || StoredBlock {
                stored: built.stored.clone(),
                raw_len: built.raw_len,
                zstd: built.zstd,
                chunks: raw_block(&chunks).chunks,
            };
            let kept = Block::keep(stored(), &id_of).unwrap();
            assert!(kept.stored == built.stored && kept.chunks == built.chunks && kept.zstd == (level == 3));

            let refused = |block| Block::keep(block, &id_of).err();
            let first = built.chunks[0].0;
            let swapped = raw_block(&[chunks[1], chunks[0]]).chunks;
            let expected = Some(Error::Unfaithful { chunk: swapped[0].id });
            assert_eq!(refused(StoredBlock { chunks: swapped, ..stored() }), expected);
            let expected = Some(Error::Unfaithful { chunk: first });
            assert_eq!(refused(StoredBlock { zstd: !built.zstd, ..stored() }), expected);
            let unpackable = |block| matches!(refused(block), Some(Error::Unpackable(_)));
            assert!(unpackable(StoredBlock { raw_len: 1_999, ..stored() }));
            let longer = [&built.stored[..], b"!"].concat();
            assert!(refused(StoredBlock { stored: longer, ..stored() }).is_some());
            assert!(unpackable(StoredBlock { chunks: raw_block(&chunks[..1]).chunks, ..stored() }));
        }
    }

    #[test]
    fn a_chunk_of_one_kind_does_not_pass_for_another() {
        let mut raw = raw_block(&[b"some bytes"]);
        raw.chunks[0].kind = ChunkKind::Tree;
        assert!(matches!(Block::build(raw, 3, &id_of), Err(Error::Unfaithful { .. })));
    }

    #[test]
    fn chunks_that_no_block_can_hold_are_refused() {
        let refused = |raw| matches!(Block::build(raw, 3, &id_of), Err(Error::Unpackable(_)));
        assert!(refused(RawBlock::default()));
        assert!(refused(raw_block(&[b""])));
        assert!(refused(raw_block(&[b"a", b""])));
        assert!(refused(raw_block(&[b"a", b"b", b"a"])));
        assert!(refused(raw_block(&[&vec![0; BLOCK_BYTES_MAX + 1]])));
        let mut raw = raw_block(&[b"abc"]);
        raw.bytes.push(0);
        assert!(refused(raw));
    }

    #[test]
    fn blocks_keep_the_order_and_reach_about_a_mebibyte() {
        let sizes = [300_000, 300_000, 300_000, 300_000, 2_000_000, 10, BLOCK_BYTES_MAX, 1_048_576, 5];
        let mut blocker = Blocker::new();
        let mut blocks = Vec::new();
        for (number, size) in (0_u8..).zip(sizes) {
            let bytes = vec![number; size];
            let id = id_of(ChunkKind::Data, &bytes);
            blocks.extend(blocker.add(id, ChunkKind::Data, &bytes).unwrap());
        }
        while let Some(block) = blocker.finish() {
            blocks.push(block);
        }
        let lengths: Vec<usize> = blocks.iter().map(|block| block.bytes.len()).collect();
        assert_eq!(lengths, [900_000, 300_000, 2_000_000, 10, BLOCK_BYTES_MAX, 1_048_576, 5]);
        let firsts: Vec<u8> = blocks
            .iter()
            .flat_map(|block| {
                let mut at = 0;
                block.chunks.iter().map(move |chunk| {
                    let first = block.bytes[at];
                    at += usize::try_from(chunk.length).unwrap();
                    first
                })
            })
            .collect();
        assert_eq!(firsts, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        for block in blocks {
            assert!(Block::build(block, 1, &id_of).is_ok());
        }
    }

    #[test]
    fn a_blocker_refuses_empty_chunks_and_those_over_8_mib() {
        let mut blocker = Blocker::new();
        for bytes in [Vec::new(), vec![0; BLOCK_BYTES_MAX + 1]] {
            assert!(blocker.add(ChunkId([0; 32]), ChunkKind::Data, &bytes).is_err());
        }
        assert!(blocker.finish().is_none());
    }

    #[test]
    fn tiny_chunks_close_a_block_before_they_fill_a_directory() {
        let mut blocker = Blocker::new();
        let mut blocks = 0;
        for bytes in tiny(20_000) {
            if let Some(block) = blocker.add(id_of(ChunkKind::Data, &bytes), ChunkKind::Data, &bytes).unwrap()
            {
                assert_eq!(block.chunks.len(), BLOCK_CHUNKS_MAX);
                blocks += 1;
            }
        }
        assert_eq!(blocks, 2);
    }

    #[test]
    fn a_pack_is_closed_at_its_target_and_before_it_breaks_a_bound() {
        let mut packer = Packer::new(1_500);
        assert!(packer.finish().is_none());
        let noise = |seed: u8| digest::digest(&[seed]).as_bytes().to_vec();
        assert!(packer.add(build(&[&noise(1)])).is_none());
        // A chunk that the pack has already: the pack is closed first.
        let pack = packer.add(build(&[&noise(2), &noise(1)])).unwrap();
        assert_eq!(pack.chunks().count(), 1);
        let pack = packer.finish().unwrap();
        assert_eq!(pack.chunks().count(), 2);
        assert!(packer.finish().is_none());

        let chunks = tiny(65_536 + 8);
        let mut packer = Packer::new(usize::MAX);
        let mut packs: Vec<Pack> = Vec::new();
        for part in chunks.chunks(8_191) {
            let part: Vec<&[u8]> = part.iter().map(|chunk| &chunk[..]).collect();
            packs.extend(packer.add(build(&part)));
        }
        packs.extend(packer.finish());
        assert_eq!(packs.iter().map(|pack| pack.chunks().count()).collect::<Vec<_>>(), [65_528, 16]);
    }

    #[test]
    fn a_pack_is_never_longer_than_64_mib() {
        let mut packer = Packer::new(usize::MAX);
        let mut packs = Vec::new();
        for number in 0..9_u8 {
            let bytes = vec![number; BLOCK_BYTES_MAX];
            let raw = raw_block(&[&bytes]);
            packs.extend(packer.add(Block::build(raw, compress::LEVEL_STORE, &id_of).unwrap()));
        }
        packs.extend(packer.finish());
        assert_eq!(packs.iter().map(|pack| pack.chunks().count()).collect::<Vec<_>>(), [7, 2]);
        for pack in &packs {
            let parts: usize = pack.parts().iter().map(|part| part.len()).sum();
            assert_eq!(parts, pack.plaintext_len());
            assert!(parts <= PLAINTEXT_BYTES_MAX);
        }
    }

    #[test]
    fn a_pack_is_laid_out_as_the_format_says() {
        let mut packer = Packer::new(usize::MAX);
        packer.add(build(&[b"one", b"two two"]));
        packer.add(build(&[&[b'x'; 500]]));
        let pack = packer.finish().unwrap();
        let compressed = compress::compress(3, &[b'x'; 500]).unwrap();
        let mut expected = Vec::new();
        for number in [
            12 + 2 * 16 + 3 * 36_u32,
            2,
            3,
            10,
            10,
            2,
            0,
            u32::try_from(compressed.len()).unwrap(),
            500,
            1,
            1,
        ] {
            expected.extend(number.to_le_bytes());
        }
        for (bytes, length) in [(&b"one"[..], 3_u32), (b"two two", 7), (&[b'x'; 500], 500)] {
            expected.extend(id_of(ChunkKind::Data, bytes).as_bytes());
            expected.extend(length.to_le_bytes());
        }
        assert_eq!(pack.directory(), expected);
        expected.extend(b"onetwo two");
        expected.extend(compressed);
        assert_eq!(pack.parts().concat(), expected);
        assert_eq!(pack.plaintext_len(), expected.len());
    }
}

//! Packs into chunks.
//!
//! A [`Directory`] is read from a pack's first bytes and tells where each chunk is, so that a reader
//! fetches and decompresses only what it wants. Nothing here is believed: what comes out of a block is
//! a chunk only once its id was made anew from it.

use std::ops::Range;

use crate::codec::Error as LayoutError;
use crate::codec::Reader;
use crate::id::ChunkId;

use super::compress;
use super::{
    BLOCK_BYTES_MAX, BLOCK_ROW_BYTES, CHUNK_ROW_BYTES, CHUNKS_MAX, Error, FLAG_ZSTD, HEAD_BYTES,
    PLAINTEXT_BYTES_MAX,
};

/// Where a chunk is in its pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which block it is in, see [`Directory::block`].
    pub block: u32,
    /// Where it begins in that block, decompressed.
    pub offset_in_block: u32,
    /// How many bytes it has.
    pub length: u32,
}

impl Place {
    /// The chunk's bytes in its block, decompressed; nothing if that isn't the block it is in.
    #[must_use]
    pub fn of<'a>(&self, block: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset_in_block).ok()?;
        let length = usize::try_from(self.length).ok()?;
        block.get(start..start.checked_add(length)?)
    }
}

/// Where a block is in its pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockPlace {
    /// Which bytes of the pack's plaintext it takes.
    pub range: Range<u64>,
    /// How many bytes it has once decompressed.
    pub raw_len: u32,
    /// Whether it is compressed.
    pub zstd: bool,
}

impl BlockPlace {
    /// The chunks of this block end to end, from the bytes of its range.
    ///
    /// # Errors
    /// [`Error::Damaged`] if `bytes` are not as many as its range, or don't decompress to exactly what
    /// the directory says.
    pub fn unpack(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.check_length(bytes)?;
        if self.zstd { compress::decompress(bytes, length(self.raw_len)?) } else { Ok(bytes.to_vec()) }
    }

    /// Lends the same to `read`, without leaving anything to free.
    fn unpack_and<T>(&self, bytes: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<T, Error> {
        self.check_length(bytes)?;
        if self.zstd { compress::decompress_and(bytes, length(self.raw_len)?, read) } else { Ok(read(bytes)) }
    }

    fn check_length(&self, bytes: &[u8]) -> Result<(), Error> {
        match u64::try_from(bytes.len()) {
            Ok(length) if length == self.range.end - self.range.start => Ok(()),
            _ => Err(Error::Damaged("a block isn't as long as the directory says")),
        }
    }
}

/// A block's row, in memory. Places in a pack are below 2^26, so they fit.
struct Row {
    start: u32,
    stored_len: u32,
    raw_len: u32,
    first_chunk: u32,
    zstd: bool,
}

/// What a pack holds, and where. Takes 38 bytes a chunk and 20 a block.
pub struct Directory {
    blocks: Box<[Row]>,
    ids: Box<[ChunkId]>,
    lengths: Box<[u32]>,
    /// Numbers of chunks, in the order of their ids.
    by_id: Box<[u16]>,
    content_len: u64,
}

/// The numbers that a directory begins with, checked against each other.
struct Head {
    directory_bytes: usize,
    blocks: usize,
    chunks: usize,
}

impl Head {
    fn parse(head: &[u8; HEAD_BYTES]) -> Result<Self, Error> {
        let mut reader = Reader::new(head);
        let mut next = || reader.u32().map_err(too_short).and_then(length);
        let (directory_bytes, blocks, chunks) = (next()?, next()?, next()?);
        if chunks > CHUNKS_MAX {
            return Err(Error::Damaged("it has too many chunks"));
        }
        if blocks == 0 || blocks > chunks {
            return Err(Error::Damaged("it has no block, or more blocks than chunks"));
        }
        if directory_bytes != HEAD_BYTES + blocks * BLOCK_ROW_BYTES + chunks * CHUNK_ROW_BYTES {
            return Err(Error::Damaged("the directory isn't as long as its rows"));
        }
        Ok(Self { directory_bytes, blocks, chunks })
    }
}

impl Directory {
    /// How many bytes of a pack one must have before [`Self::parse`], from its first 12; at most 4 MiB.
    ///
    /// # Errors
    /// [`Error::Damaged`] if no directory begins like that.
    pub fn bytes_needed(head: &[u8; 12]) -> Result<usize, Error> {
        Head::parse(head).map(|head| head.directory_bytes)
    }

    /// Reads a directory from the first bytes of a pack whose plaintext has `plaintext_len` bytes, its
    /// padding included.
    ///
    /// # Errors
    /// [`Error::Damaged`] if `prefix` is shorter than [`Self::bytes_needed`], or if anything isn't as a
    /// [`Packer`](super::packer::Packer) writes it.
    pub fn parse(prefix: &[u8], plaintext_len: u64) -> Result<Self, Error> {
        let head = Head::parse(prefix.first_chunk().ok_or(Error::Damaged("the directory is cut off"))?)?;
        let directory =
            prefix.get(..head.directory_bytes).ok_or(Error::Damaged("the directory is cut off"))?;
        if u64::try_from(PLAINTEXT_BYTES_MAX).is_ok_and(|max| plaintext_len > max) {
            return Err(Error::Damaged("it is too long"));
        }
        let mut reader = Reader::new(&directory[HEAD_BYTES..]);
        let (blocks, end) = parse_blocks(&mut reader, &head, plaintext_len)?;
        let (ids, lengths) = parse_chunks(&mut reader, &blocks, head.chunks)?;
        reader.finish().map_err(too_short)?;

        let mut by_id: Box<[u16]> = (0..=u16::MAX).take(ids.len()).collect();
        by_id.sort_unstable_by_key(|&chunk| ids[usize::from(chunk)]);
        if by_id.windows(2).any(|pair| ids[usize::from(pair[0])] == ids[usize::from(pair[1])]) {
            return Err(Error::Damaged("a chunk stands in it twice"));
        }
        Ok(Self { blocks, ids, lengths, by_id, content_len: end })
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.ids.len()
    }

    /// How many blocks there are.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Where the padding begins: how long the plaintext was before it was padded.
    #[must_use]
    pub fn content_len(&self) -> u64 {
        self.content_len
    }

    /// About how much memory it takes, for whoever keeps many.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.blocks.len() * size_of::<Row>() + self.ids.len() * (CHUNK_ROW_BYTES + 2)
    }

    /// Where the chunk with this id is, if it is in this pack.
    #[must_use]
    pub fn find(&self, id: &ChunkId) -> Option<Place> {
        let found = self.by_id.binary_search_by_key(id, |&chunk| self.ids[usize::from(chunk)]).ok()?;
        let chunk = usize::from(self.by_id[found]);
        let number = u32::try_from(chunk).ok()?;
        let block = self.blocks.partition_point(|row| row.first_chunk <= number).checked_sub(1)?;
        let first = usize::try_from(self.blocks[block].first_chunk).ok()?;
        Some(Place {
            block: u32::try_from(block).ok()?,
            offset_in_block: self.lengths[first..chunk].iter().sum(),
            length: self.lengths[chunk],
        })
    }

    /// Where a block is.
    ///
    /// # Panics
    /// If there is no such block: `block` is that of a [`Place`] in this same directory.
    #[must_use]
    pub fn block(&self, block: u32) -> BlockPlace {
        let row = usize::try_from(block).ok().and_then(|block| self.blocks.get(block));
        let row = row.expect("a place tells a block of its own directory");
        let start = u64::from(row.start);
        BlockPlace { range: start..start + u64::from(row.stored_len), raw_len: row.raw_len, zstd: row.zstd }
    }

    /// All blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = BlockPlace> + '_ {
        (0_u32..).take(self.blocks.len()).map(|block| self.block(block))
    }

    /// All chunks in the order in which they lie, and where.
    pub fn chunks(&self) -> impl Iterator<Item = (ChunkId, Place)> + '_ {
        let mut place = Place { block: 0, offset_in_block: 0, length: 0 };
        let mut nexts = self.blocks.iter().skip(1).map(|row| row.first_chunk).peekable();
        (0_u32..).zip(&self.ids).zip(&self.lengths).map(move |((number, id), &length)| {
            if nexts.next_if_eq(&number).is_some() {
                place = Place { block: place.block + 1, offset_in_block: 0, length };
            } else {
                place = Place { offset_in_block: place.offset_in_block + place.length, length, ..place };
            }
            (*id, place)
        })
    }

    /// Checks what comes after the last block, all of it or a part.
    ///
    /// # Errors
    /// [`Error::Damaged`] unless all of it is zero.
    pub fn check_padding(after: &[u8]) -> Result<(), Error> {
        if after.iter().all(|&byte| byte == 0) {
            Ok(())
        } else {
            Err(Error::Damaged("its padding isn't zero"))
        }
    }
}

fn parse_blocks(
    reader: &mut Reader<'_>,
    head: &Head,
    plaintext_len: u64,
) -> Result<(Box<[Row]>, u64), Error> {
    let mut rows = Vec::with_capacity(head.blocks);
    let (mut start, mut first_chunk) = (u64::try_from(head.directory_bytes).unwrap_or(u64::MAX), 0_usize);
    for _ in 0..head.blocks {
        let stored_len = reader.u32().map_err(too_short)?;
        let raw_len = reader.u32().map_err(too_short)?;
        let chunks = reader.u32().map_err(too_short).and_then(length)?;
        let flags = reader.u8().map_err(too_short)?;
        reader.zeros(3).map_err(|_| Error::Damaged("the directory's zeros aren't"))?;
        if length(raw_len)? > BLOCK_BYTES_MAX {
            return Err(Error::Damaged("a block is too long"));
        }
        let stored_well = match flags {
            0 => stored_len == raw_len,
            FLAG_ZSTD => stored_len < raw_len,
            _ => return Err(Error::Damaged("a block has an unknown flag")),
        };
        if stored_len == 0 || !stored_well {
            return Err(Error::Damaged("a block has a length that no packer writes"));
        }
        let end = start + u64::from(stored_len);
        if end > plaintext_len {
            return Err(Error::Damaged("its blocks are longer than it is"));
        }
        if chunks == 0 || chunks > head.chunks - first_chunk {
            return Err(Error::Damaged("its blocks don't have as many chunks as it has"));
        }
        let row = Row {
            start: u32::try_from(start).map_err(|_| Error::Damaged("it is too long"))?,
            stored_len,
            raw_len,
            first_chunk: u32::try_from(first_chunk).map_err(|_| Error::Damaged("it has too many chunks"))?,
            zstd: flags == FLAG_ZSTD,
        };
        rows.push(row);
        start = end;
        first_chunk += chunks;
    }
    if first_chunk != head.chunks {
        return Err(Error::Damaged("its blocks don't have as many chunks as it has"));
    }
    Ok((rows.into_boxed_slice(), start))
}

type IdsAndLengths = (Box<[ChunkId]>, Box<[u32]>);

fn parse_chunks(reader: &mut Reader<'_>, blocks: &[Row], chunks: usize) -> Result<IdsAndLengths, Error> {
    let (mut ids, mut lengths) = (Vec::with_capacity(chunks), Vec::with_capacity(chunks));
    for (number, row) in blocks.iter().enumerate() {
        let next = blocks.get(number + 1).map_or(Ok(chunks), |next| length(next.first_chunk))?;
        // A sum of up to 2^16 numbers below 2^32.
        let mut sum = 0_u64;
        while ids.len() < next {
            ids.push(ChunkId(reader.array().map_err(too_short)?));
            let chunk = reader.u32().map_err(too_short)?;
            if chunk == 0 {
                return Err(Error::Damaged("a chunk is empty"));
            }
            sum += u64::from(chunk);
            lengths.push(chunk);
        }
        if sum != u64::from(row.raw_len) {
            return Err(Error::Damaged("a block isn't as long as its chunks"));
        }
    }
    Ok((ids.into_boxed_slice(), lengths.into_boxed_slice()))
}

/// Reads a whole pack, the padding included, and hands each chunk in order to `accept`, which tells
/// whether these are the bytes that the id names. (It makes the id anew under each kind that the
/// chunk may have: a directory doesn't tell.)
///
/// # Errors
/// [`Error::Damaged`] if anything isn't as a packer writes it. [`Error::WrongChunk`] for the first chunk
/// that isn't accepted; those before it were.
pub fn unpack_all(
    plaintext: &[u8],
    mut accept: impl FnMut(&ChunkId, &[u8]) -> bool,
) -> Result<Directory, Error> {
    let plaintext_len = u64::try_from(plaintext.len()).map_err(|_| Error::Damaged("it is too long"))?;
    let directory = Directory::parse(plaintext, plaintext_len)?;
    let (_, padding) = split(plaintext, directory.content_len())?;
    Directory::check_padding(padding)?;
    let mut chunks = directory.chunks().peekable();
    for (number, block) in (0_u32..).zip(directory.blocks()) {
        let (before_end, _) = split(plaintext, block.range.end)?;
        let (_, stored) = split(before_end, block.range.start)?;
        block.unpack_and(stored, |raw| {
            while let Some((id, place)) = chunks.next_if(|(_, place)| place.block == number) {
                if !place.of(raw).is_some_and(|bytes| accept(&id, bytes)) {
                    return Err(Error::WrongChunk { chunk: id });
                }
            }
            Ok(())
        })??;
    }
    drop(chunks);
    Ok(directory)
}

fn split(bytes: &[u8], at: u64) -> Result<(&[u8], &[u8]), Error> {
    let at = usize::try_from(at).ok();
    at.and_then(|at| bytes.split_at_checked(at)).ok_or(Error::Damaged("its blocks are longer than it is"))
}

fn length(length: u32) -> Result<usize, Error> {
    usize::try_from(length).map_err(|_| Error::Damaged("it is too long"))
}

fn too_short(_: LayoutError) -> Error {
    Error::Damaged("the directory is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::digest;
    use crate::crypto::secret::Secret;
    use crate::pack::packer::Block;
    use crate::pack::packer::Blocker;
    use crate::pack::packer::ChunkKind;
    use crate::pack::packer::Packer;
    use proptest::prelude::*;

    fn id_of(_: ChunkKind, bytes: &[u8]) -> ChunkId {
        ChunkId(digest::keyed(&Secret::take(&mut [7; 32]), &[bytes]))
    }

    fn is_right(id: &ChunkId, bytes: &[u8]) -> bool {
        id_of(ChunkKind::Data, bytes) == *id
    }

    fn pack(blocks: &[&[&[u8]]]) -> Vec<u8> {
        let mut packer = Packer::new(usize::MAX);
        for chunks in blocks {
            let mut blocker = Blocker::new();
            for chunk in *chunks {
                blocker.add(id_of(ChunkKind::Data, chunk), ChunkKind::Data, chunk).unwrap();
            }
            let block = Block::build(blocker.finish().unwrap(), 3, &id_of).unwrap();
            assert!(packer.add(block).is_none());
        }
        packer.finish().unwrap().parts().concat()
    }

    /// Two blocks, of which the second is compressed; three chunks.
    fn sample() -> Vec<u8> {
        pack(&[&[b"one", b"two two"], &[&[b'x'; 500]]])
    }

    /// Where things are in [`sample`].
    const FIRST_BLOCK: usize = 12;
    const SECOND_BLOCK: usize = 28;
    const FIRST_CHUNK: usize = 44;
    const SECOND_CHUNK: usize = 80;
    const THIRD_CHUNK: usize = 116;
    const CONTENT: usize = 152;

    fn why(plaintext: &[u8]) -> Error {
        unpack_all(plaintext, is_right).err().expect("it is refused")
    }

    /// Why a sample is refused after the number at `at` became `number`.
    fn why_with(changes: &[(usize, u32)]) -> Error {
        let mut plaintext = sample();
        for &(at, number) in changes {
            plaintext[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        why(&plaintext)
    }

    #[test]
    fn chunks_are_found_and_come_out_as_they_went_in() {
        let mut plaintext = sample();
        plaintext.resize(1_000, 0);
        let head = plaintext.first_chunk().unwrap();
        assert_eq!(Directory::bytes_needed(head), Ok(CONTENT));
        let directory = Directory::parse(&plaintext[..CONTENT], 1_000).unwrap();
        assert_eq!((directory.chunk_count(), directory.block_count()), (3, 2));
        for chunk in [&b"one"[..], b"two two", &[b'x'; 500]] {
            let place = directory.find(&id_of(ChunkKind::Data, chunk)).unwrap();
            let block = directory.block(place.block);
            let stored = &plaintext
                [usize::try_from(block.range.start).unwrap()..usize::try_from(block.range.end).unwrap()];
            assert_eq!(place.of(&block.unpack(stored).unwrap()), Some(chunk));
            assert!(block.unpack(&stored[1..]).is_err());
        }
        assert_eq!(directory.find(&ChunkId([0; 32])), None);
        let end = usize::try_from(directory.content_len()).unwrap();
        assert_eq!(Directory::check_padding(&plaintext[end..]), Ok(()));
        assert_eq!(end, sample().len());
        let all: Vec<Place> = directory.chunks().map(|(_, place)| place).collect();
        let places = [(0, 0, 3), (0, 3, 7), (1, 0, 500)];
        let expected =
            places.map(|(block, offset_in_block, length)| Place { block, offset_in_block, length });
        assert_eq!(all, expected);
    }

    #[test]
    fn every_number_of_a_directory_is_held_against_the_rest() {
        let damaged = |what| Error::Damaged(what);
        assert_eq!(why_with(&[(0, 151)]), damaged("the directory isn't as long as its rows"));
        assert_eq!(why_with(&[(0, u32::MAX)]), damaged("the directory isn't as long as its rows"));
        assert_eq!(why_with(&[(4, 0)]), damaged("it has no block, or more blocks than chunks"));
        assert_eq!(why_with(&[(4, 4)]), damaged("it has no block, or more blocks than chunks"));
        assert_eq!(why_with(&[(8, 65_537)]), damaged("it has too many chunks"));
        assert_eq!(why_with(&[(8, 65_536)]), damaged("the directory isn't as long as its rows"));
        assert_eq!(why_with(&[(0, 12 + 32 + 65_536 * 36), (8, 65_536)]), damaged("the directory is cut off"));
        assert_eq!(
            why_with(&[(FIRST_BLOCK, 0), (FIRST_BLOCK + 4, 0)]),
            damaged("a block has a length that no packer writes")
        );
        assert_eq!(why_with(&[(FIRST_BLOCK, 9)]), damaged("a block has a length that no packer writes"));
        assert_eq!(why_with(&[(FIRST_BLOCK, 11)]), damaged("a block has a length that no packer writes"));
        assert_eq!(why_with(&[(SECOND_BLOCK, 500)]), damaged("a block has a length that no packer writes"));
        assert_eq!(why_with(&[(SECOND_BLOCK, 499)]), damaged("its blocks are longer than it is"));
        assert_eq!(why_with(&[(SECOND_BLOCK + 4, (8 << 20) + 1)]), damaged("a block is too long"));
        assert_eq!(
            why_with(&[(FIRST_BLOCK + 8, 0)]),
            damaged("its blocks don't have as many chunks as it has")
        );
        assert_eq!(
            why_with(&[(FIRST_BLOCK + 8, 1), (SECOND_BLOCK + 8, 2)]),
            damaged("a block isn't as long as its chunks")
        );
        assert_eq!(
            why_with(&[(FIRST_BLOCK + 8, 3)]),
            damaged("its blocks don't have as many chunks as it has")
        );
        assert_eq!(
            why_with(&[(FIRST_BLOCK + 8, 4)]),
            damaged("its blocks don't have as many chunks as it has")
        );
        assert_eq!(
            why_with(&[(SECOND_BLOCK + 8, u32::MAX)]),
            damaged("its blocks don't have as many chunks as it has")
        );
        assert_eq!(why_with(&[(FIRST_BLOCK + 12, 2)]), damaged("a block has an unknown flag"));
        assert_eq!(why_with(&[(FIRST_BLOCK + 12, 0x0100)]), damaged("the directory's zeros aren't"));
        assert_eq!(why_with(&[(SECOND_BLOCK + 12, 0x0100_0001)]), damaged("the directory's zeros aren't"));
        assert_eq!(why_with(&[(FIRST_CHUNK + 32, 4)]), damaged("a block isn't as long as its chunks"));
        assert_eq!(why_with(&[(FIRST_CHUNK + 32, 0), (SECOND_CHUNK + 32, 10)]), damaged("a chunk is empty"));
        assert_eq!(why_with(&[(THIRD_CHUNK + 32, u32::MAX)]), damaged("a block isn't as long as its chunks"));
    }

    #[test]
    fn fewer_chunks_in_the_blocks_than_in_the_pack_is_damage() {
        // Three blocks' chunk counts sum to two of three: the first block claims one.
        let mut plaintext = pack(&[&[b"aaa", b"bbb"]]);
        plaintext[12 + 8..12 + 12].copy_from_slice(&1_u32.to_le_bytes());
        plaintext[12..16].copy_from_slice(&3_u32.to_le_bytes());
        plaintext[16..20].copy_from_slice(&3_u32.to_le_bytes());
        assert_eq!(why(&plaintext), Error::Damaged("its blocks don't have as many chunks as it has"));
    }

    #[test]
    fn chunks_that_share_bytes_with_each_other_or_another_block_do_not_add_up() {
        // 3 + 7 bytes become 10 + 10, of 10.
        assert!(matches!(why_with(&[(FIRST_CHUNK + 32, 10), (SECOND_CHUNK + 32, 10)]), Error::Damaged(_)));
        // Sums that would be right again modulo 2^32.
        assert!(matches!(
            why_with(&[(FIRST_CHUNK + 32, u32::MAX), (SECOND_CHUNK + 32, 11)]),
            Error::Damaged(_)
        ));
    }

    #[test]
    fn a_chunk_that_stands_in_a_pack_twice_is_damage() {
        let mut plaintext = sample();
        plaintext.copy_within(FIRST_CHUNK..FIRST_CHUNK + 32, THIRD_CHUNK);
        assert_eq!(why(&plaintext), Error::Damaged("a chunk stands in it twice"));
    }

    #[test]
    fn a_chunk_under_another_id_is_named() {
        let mut plaintext = sample();
        plaintext[SECOND_CHUNK] ^= 1;
        let mut id = [0; 32];
        id.copy_from_slice(&plaintext[SECOND_CHUNK..SECOND_CHUNK + 32]);
        assert_eq!(why(&plaintext), Error::WrongChunk { chunk: ChunkId(id) });
        // Bytes and ids agree, but not with each other's place.
        let mut plaintext = sample();
        plaintext[CONTENT] ^= 1;
        assert!(matches!(why(&plaintext), Error::WrongChunk { .. }));
    }

    #[test]
    fn an_empty_or_cut_off_pack_is_damage() {
        let plaintext = sample();
        for length in 0..plaintext.len() {
            assert!(matches!(why(&plaintext[..length]), Error::Damaged(_)), "{length}");
        }
        let mut empty = [0; 100];
        empty[0] = 12;
        assert_eq!(why(&empty), Error::Damaged("it has no block, or more blocks than chunks"));
        assert!(Directory::parse(&plaintext[..CONTENT - 1], 1_000).is_err());
        assert!(Directory::parse(&plaintext, (64 << 20) + 1).is_err());
        assert!(Directory::parse(&plaintext, 64 << 20).is_ok());
    }

    #[test]
    fn padding_that_is_not_zero_is_damage() {
        let mut plaintext = sample();
        plaintext.extend([0, 0, 1, 0]);
        assert_eq!(why(&plaintext), Error::Damaged("its padding isn't zero"));
    }

    #[test]
    fn no_head_asks_for_more_than_four_mebibytes() {
        let head = |numbers: [u32; 3]| {
            let mut head = [0; 12];
            for (bytes, number) in head.chunks_mut(4).zip(numbers) {
                bytes.copy_from_slice(&number.to_le_bytes());
            }
            Directory::bytes_needed(&head)
        };
        let most = 12 + 52 * 65_536;
        assert!(most <= 4 << 20);
        assert_eq!(head([most, 65_536, 65_536]), Ok(usize::try_from(most).unwrap()));
        assert!(head([most + 52, 65_537, 65_537]).is_err());
        assert!(head([u32::MAX; 3]).is_err());
        assert!(head([0; 3]).is_err());
        assert!(head([12, 0, 0]).is_err());
    }

    #[test]
    fn the_fullest_pack_is_read_and_every_chunk_found() {
        let mut packer = Packer::new(usize::MAX);
        let mut blocker = Blocker::new();
        for number in 0..65_536_u32 {
            let bytes = number.to_le_bytes();
            if let Some(raw) = blocker.add(id_of(ChunkKind::Data, &bytes), ChunkKind::Data, &bytes).unwrap() {
                assert!(packer.add(Block::build(raw, 1, &id_of).unwrap()).is_none());
            }
        }
        assert!(blocker.finish().is_none());
        let plaintext = packer.finish().unwrap().parts().concat();
        let directory = unpack_all(&plaintext, is_right).unwrap();
        assert_eq!(directory.chunk_count(), 65_536);
        for (id, place) in directory.chunks().step_by(97) {
            assert_eq!(directory.find(&id), Some(place));
        }
    }

    /// The files of tests/vectors/pack: what comes of it, and the plaintext in hex.
    #[test]
    fn each_published_vector_gives_the_result_that_it_says() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pack");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let vector = std::fs::read_to_string(&path).unwrap();
            let mut result = None;
            let mut plaintext = Vec::new();
            for line in vector.lines().filter(|line| !line.starts_with('#')) {
                match line.split_once(": ") {
                    Some(("result", text)) => result = Some(text.to_owned()),
                    Some(("zeros", count)) => {
                        plaintext.resize(plaintext.len() + count.parse::<usize>().unwrap(), 0)
                    }
                    _ => plaintext.extend(data_encoding::HEXLOWER.decode(line.as_bytes()).unwrap()),
                }
            }
            let outcome = match unpack_all(&plaintext, is_right) {
                Ok(directory) => {
                    format!("{} chunks in {} blocks", directory.chunk_count(), directory.block_count())
                }
                Err(error) => error.to_string(),
            };
            assert_eq!(Some(outcome), result, "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 15, "only {seen} vectors");
    }

    fn any_chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let even = prop::collection::vec(any::<u8>(), 1..2_000);
        let uneven = (any::<u8>(), 1_usize..300_000).prop_map(|(byte, length)| vec![byte; length]);
        prop::collection::vec(prop_oneof![even, uneven], 1..60).prop_map(|mut chunks| {
            chunks.sort();
            chunks.dedup();
            chunks
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_chunks_pack_and_unpack_to_themselves(
            chunks in any_chunks().prop_shuffle(),
            target in 1_usize..3_000_000,
            level in -3..6,
            padding in 0_usize..100_000,
        ) {
            let mut blocker = Blocker::new();
            let mut packer = Packer::new(target);
            let mut packs = Vec::new();
            for chunk in &chunks {
                if let Some(raw) = blocker.add(id_of(ChunkKind::Data, chunk), ChunkKind::Data, chunk).unwrap() {
                    packs.extend(packer.add(Block::build(raw, level, &id_of).unwrap()));
                }
            }
            if let Some(raw) = blocker.finish() {
                packs.extend(packer.add(Block::build(raw, level, &id_of).unwrap()));
            }
            packs.extend(packer.finish());
            let mut unpacked = Vec::new();
            for pack in packs {
                let mut plaintext = pack.parts().concat();
                prop_assert_eq!(plaintext.len(), pack.plaintext_len());
                plaintext.resize(plaintext.len() + padding, 0);
                let directory = unpack_all(&plaintext, |id, bytes| {
                    unpacked.push(bytes.to_vec());
                    is_right(id, bytes)
                }).unwrap();
                for (id, place) in directory.chunks() {
                    prop_assert_eq!(directory.find(&id), Some(place));
                }
                let listed: Vec<_> = directory.chunks().map(|(id, place)| (id, place.length)).collect();
                prop_assert_eq!(listed, pack.chunks().collect::<Vec<_>>());
            }
            prop_assert_eq!(unpacked, chunks);
        }

        #[test]
        fn no_changed_byte_of_a_directory_goes_unnoticed(
            chunks in any_chunks(),
            place: prop::sample::Index,
            change in 1_u8..,
        ) {
            let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk[..chunk.len().min(9_000)]).collect();
            let mut chunks = chunks;
            chunks.sort_unstable();
            chunks.dedup();
            let mut plaintext = pack(&[&chunks]);
            plaintext.resize(plaintext.len() + 5_000, 0);
            let end = Directory::bytes_needed(plaintext.first_chunk().unwrap()).unwrap();
            plaintext[place.index(end)] ^= change;
            prop_assert!(unpack_all(&plaintext, is_right).is_err());
        }

        #[test]
        fn no_bytes_make_a_directory_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), blocks in 0_u32..4, chunks in 0_u32..6, length: u64) {
            let mut prefix = Vec::new();
            for number in [12 + 16 * blocks + 36 * chunks, blocks, chunks] {
                prefix.extend(number.to_le_bytes());
            }
            prefix.extend(&bytes);
            if let Ok(directory) = Directory::parse(&prefix, length) {
                prop_assert_eq!(directory.chunks().count(), directory.chunk_count());
            }
            let _ = Directory::parse(&bytes, length);
        }
    }
}

//! Blocks of chunks, compressed, in one directory: what a data pack holds before it is sealed.
//!
//! ```text
//! off            len              field
//! 0              4                bytes of the directory, these 12 among them
//! 4              4                blocks, b
//! 8              4                chunks, n
//! 12             16 x b           a block: stored length 4, length 4, chunks 4, flags 1 (1 = zstd), zero 3
//! 12 + 16 b      36 x n           a chunk: id 32, length 4
//! 12 + 16 b + 36 n                the blocks as stored, one after the other
//! ..             ..               zeros, added by whoever seals the pack
//! ```
//!
//! Where a chunk lies follows from the lengths before it. There is one way to write a pack: no
//! chunk, block or pack is empty, no chunk stands in a pack twice, a block is compressed only if that
//! makes it shorter, and every sum is exact. Anything else is damage.

use std::fmt;

use crate::id::ChunkId;
use crate::pack::room::Room;

pub mod compress;
pub mod packer;
pub mod room;
pub mod unpacker;

/// Room for blocks, about as many as are at work on a few cores.
static BLOCKS: Room = Room::new(2 << 20, 12 << 20);

/// How long a block may be before compression, so also a chunk.
pub const BLOCK_BYTES_MAX: usize = 8 << 20;

/// How many chunks a pack may hold.
pub const CHUNKS_MAX: usize = 65_536;

/// How long a pack's plaintext may be, its padding included. (Padding ends at this length too: it is
/// one of the lengths that packs are padded to.)
pub const PLAINTEXT_BYTES_MAX: usize = 64 << 20;

/// The bytes of a directory before its rows.
const HEAD_BYTES: usize = 12;

/// The bytes of a block's row.
const BLOCK_ROW_BYTES: usize = 16;

/// The bytes of a chunk's row.
const CHUNK_ROW_BYTES: usize = ChunkId::BYTES + 4;

/// The flag of a block that is compressed.
const FLAG_ZSTD: u8 = 1;

/// What goes wrong with packs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// A pack is not as it was written: what doesn't fit.
    Damaged(&'static str),
    /// A chunk in a pack isn't the one that its id names.
    WrongChunk {
        /// The id.
        chunk: ChunkId,
    },
    /// A chunk that was just packed doesn't come out again as it went in (R-37): a fault of memory,
    /// processor or compressor. Nothing of its block may be stored.
    Unfaithful {
        /// The chunk.
        chunk: ChunkId,
    },
    /// Chunks were handed over that no pack can hold: what is wrong with them.
    Unpackable(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(what) => write!(f, "pack is damaged: {what}"),
            Self::WrongChunk { chunk } => {
                write!(f, "pack is damaged: chunk {} is not what its id names", chunk.short())
            }
            Self::Unfaithful { chunk } => write!(
                f,
                "chunk {} was not the same after packing: this machine's memory or processor is at fault",
                chunk.short()
            ),
            Self::Unpackable(what) => write!(f, "chunks could not be packed: {what}"),
        }
    }
}

impl std::error::Error for Error {}

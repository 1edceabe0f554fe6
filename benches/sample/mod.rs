//! Content for benches that is the same every time.

use strongroom::id::ChunkId;
use strongroom::pack::packer::ChunkKind;

/// Bytes that look random (xorshift64*).
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Rows of a table of customers.
#[allow(dead_code, reason = "not every bench compresses")]
pub fn table_rows(length: usize) -> Vec<u8> {
    let lines = (1_u64..).flat_map(|line| {
        format!("{line};customer {};{};paid\r\n", line * line % 977, line.wrapping_mul(0x9e37_79b9) % 100_000)
            .into_bytes()
    });
    lines.take(length).collect()
}

/// A chunk's id under a key of no consequence.
#[allow(dead_code, reason = "not every bench names chunks")]
pub fn id_of(_: ChunkKind, bytes: &[u8]) -> ChunkId {
    ChunkId(*blake3::keyed_hash(&[7; 32], bytes).as_bytes())
}

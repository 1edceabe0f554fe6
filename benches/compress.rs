//! How fast blocks of 1 MiB are built, in bytes a second before compression, on one core.
//!
//! The processor should be the limit. On the machine of our tables, a Zen 4 core: zstd level 1
//! 0.30 to 0.45 GB/s on text, level 3 0.17 to 0.28; decompressing, which checking each block adds,
//! 1.0 to 1.5; keyed BLAKE3, the other part of checking, 6. Content that doesn't compress should cost
//! no more than a probe of about 0.03 s/GB, and its digest.

use divan::Bencher;
use divan::black_box;
use divan::counter::BytesCount;
use strongroom::id::ChunkId;
use strongroom::pack::compress;
use strongroom::pack::packer::Block;
use strongroom::pack::packer::ChunkKind;
use strongroom::pack::packer::RawBlock;
use strongroom::pack::packer::RawChunk;

const LENGTH: usize = 1 << 20;

fn main() {
    divan::main();
}

/// Bytes that look random and are the same every time (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

fn table_rows(length: usize) -> Vec<u8> {
    let lines = (1_u64..).flat_map(|line| {
        format!("{line};customer {};{};paid\r\n", line * line % 977, line.wrapping_mul(0x9e37_79b9) % 100_000)
            .into_bytes()
    });
    lines.take(length).collect()
}

fn id_of(_: ChunkKind, bytes: &[u8]) -> ChunkId {
    ChunkId(*blake3::keyed_hash(&[7; 32], bytes).as_bytes())
}

fn raw_block(bytes: &[u8]) -> RawBlock {
    let kind = ChunkKind::Data;
    let chunks = bytes.chunks(64 << 10).map(|chunk| RawChunk {
        id: id_of(kind, chunk),
        kind,
        length: u32::try_from(chunk.len()).expect("64 KiB"),
    });
    RawBlock { bytes: bytes.to_vec(), chunks: chunks.collect() }
}

/// Compressing alone; random content is the probe alone.
#[divan::bench(args = [1, 3, 6])]
fn compress_text(bencher: Bencher<'_, '_>, level: i32) {
    let raw = table_rows(LENGTH);
    bencher.counter(BytesCount::new(LENGTH)).bench_local(|| compress::compress(level, black_box(&raw)));
}

#[divan::bench]
fn compress_random(bencher: Bencher<'_, '_>) {
    let raw = noise(LENGTH);
    bencher.counter(BytesCount::new(LENGTH)).bench_local(|| compress::compress(3, black_box(&raw)));
}

/// Compressing, decompressing again and making each id anew.
#[divan::bench(args = [1, 3, 6])]
fn build_text(bencher: Bencher<'_, '_>, level: i32) {
    let raw = table_rows(LENGTH);
    bencher
        .counter(BytesCount::new(LENGTH))
        .with_inputs(|| raw_block(&raw))
        .bench_local_values(|raw| Block::build(raw, level, &id_of).expect("it is faithful"));
}

#[divan::bench]
fn build_random(bencher: Bencher<'_, '_>) {
    let raw = noise(LENGTH);
    bencher
        .counter(BytesCount::new(LENGTH))
        .with_inputs(|| raw_block(&raw))
        .bench_local_values(|raw| Block::build(raw, 3, &id_of).expect("it is faithful"));
}

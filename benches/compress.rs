//! How fast blocks of 1 MiB are built, in bytes a second before compression, on one core.
//!
//! The processor should be the limit. On the machine of our tables, a Zen 4 core: zstd level 1
//! 0.30 to 0.45 GB/s on text, level 3 0.17 to 0.28; decompressing, which checking each block adds,
//! 1.0 to 1.5; keyed BLAKE3, the other part of checking, 6. Content that doesn't compress should cost
//! no more than a probe of about 0.03 s/GB, and its digest.

mod sample;

use divan::Bencher;
use divan::black_box;
use divan::counter::BytesCount;
use sample::id_of;
use sample::noise;
use sample::table_rows;
use strongroom::pack::compress;
use strongroom::pack::packer::Block;
use strongroom::pack::packer::ChunkKind;
use strongroom::pack::packer::RawBlock;
use strongroom::pack::packer::RawChunk;

const LENGTH: usize = 1 << 20;

fn main() {
    divan::main();
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

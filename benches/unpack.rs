//! How fast packs of 16 MiB are read, in bytes a second after decompression, on one core.
//!
//! The processor should be the limit. On the machine of our tables, a Zen 4 core: zstd decompresses
//! 1.0 to 1.5 GB/s of text, keyed BLAKE3 digests 6. A directory has no such limit: its time is that of
//! sorting its ids.

mod sample;

use divan::Bencher;
use divan::black_box;
use divan::counter::BytesCount;
use divan::counter::ItemsCount;
use sample::id_of;
use sample::noise;
use sample::table_rows;
use strongroom::pack::packer::Block;
use strongroom::pack::packer::Blocker;
use strongroom::pack::packer::ChunkKind;
use strongroom::pack::packer::Packer;
use strongroom::pack::unpacker::Directory;
use strongroom::pack::unpacker::unpack_all;

fn main() {
    divan::main();
}

fn pack(content: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let (mut blocker, mut packer) = (Blocker::new(), Packer::new(usize::MAX));
    let mut add = |raw| {
        let closed = packer.add(Block::build(raw, 3, &id_of).expect("it is faithful"));
        assert!(closed.is_none(), "one pack holds everything");
    };
    for chunk in content.chunks(chunk_bytes) {
        let full = blocker.add(id_of(ChunkKind::Data, chunk), ChunkKind::Data, chunk);
        if let Some(raw) = full.expect("it fits a block") {
            add(raw);
        }
    }
    if let Some(raw) = blocker.finish() {
        add(raw);
    }
    packer.finish().expect("it has content").parts().concat()
}

fn unpack(bencher: Bencher<'_, '_>, content: &[u8], check: bool) {
    let plaintext = pack(content, 64 << 10);
    bencher.counter(BytesCount::new(content.len())).bench_local(|| {
        unpack_all(black_box(&plaintext), |id, bytes| !check || id_of(ChunkKind::Data, bytes) == *id)
            .map(|directory| directory.chunk_count())
    });
}

/// Text, `true` with the check of each id.
#[divan::bench(args = [false, true])]
fn text(bencher: Bencher<'_, '_>, check: bool) {
    unpack(bencher, &table_rows(32 << 20), check);
}

/// Content that doesn't compress.
#[divan::bench(args = [false, true])]
fn random(bencher: Bencher<'_, '_>, check: bool) {
    unpack(bencher, &noise(16 << 20), check);
}

/// Directories alone, in chunks a second.
#[divan::bench(args = [256, 4_096, 65_536])]
fn directory(bencher: Bencher<'_, '_>, chunks: usize) {
    let plaintext = pack(&noise(chunks * 16), 16);
    let length = u64::try_from(plaintext.len()).expect("a pack's length");
    bencher.counter(ItemsCount::new(chunks)).bench_local(|| Directory::parse(black_box(&plaintext), length));
}

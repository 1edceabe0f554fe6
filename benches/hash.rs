//! Naming: keyed BLAKE3 over chunks, one thread. The limits of one core: 2.9 GB/s at 4 KiB, 6.0 at 16 KiB,
//! 6.4 at 64 KiB; the limit is the core, as long as what is hashed is in its cache.

#![allow(missing_docs, reason = "a bench has no users")]

use divan::Bencher;
use divan::counter::BytesCount;
use strongroom::crypto::digest;
use strongroom::crypto::secret::Secret;

fn main() {
    divan::main();
}

#[divan::bench(args = [4_096, 16_384, 32_768, 65_536, 1_048_576])]
fn name_a_chunk(bencher: Bencher<'_, '_>, bytes: usize) {
    let key = Secret::<32>::generate();
    let chunk = vec![0x5a_u8; bytes];
    bencher.counter(BytesCount::new(bytes)).bench(|| digest::keyed(&key, &[divan::black_box(&chunk)]));
}

//! How fast content is cut, in bytes a second on one core.
//!
//! The processor should be the limit: what is measured is additions that wait for each other. On the
//! machine of our tables, a Zen 4 core, such a hash reaches 1.9 to 2.2 GB/s one byte at a time, and
//! 2.7 to 3.2 in strips; reading a warm file gives 10.

mod sample;

use divan::Bencher;
use divan::black_box;
use divan::counter::BytesCount;
use sample::noise;
use sample::table_rows;
use strongroom::chunk::cut::Cutter;
use strongroom::chunk::cut::Sizes;

const LENGTH: usize = 16 << 20;

fn main() {
    divan::main();
}

fn cut(bencher: Bencher<'_, '_>, content: &[u8], average: usize) {
    let table: [u8; 2_048] = noise(2_048).try_into().expect("as many as asked for");
    let cutter = Cutter::new(&table, Sizes::around(average).expect("a valid average"));
    bencher.counter(BytesCount::new(content.len())).bench_local(|| {
        let mut rest = black_box(content);
        let mut chunks = 0_u32;
        while let Some(length) = cutter.next(rest, true) {
            rest = &rest[length..];
            chunks += 1;
        }
        chunks
    });
}

/// Content that doesn't compress.
#[divan::bench(args = [16 << 10, 64 << 10, 256 << 10, 1 << 20])]
fn random(bencher: Bencher<'_, '_>, average: usize) {
    cut(bencher, &noise(LENGTH), average);
}

/// Rows of a table.
#[divan::bench(args = [16 << 10, 64 << 10, 256 << 10, 1 << 20])]
fn text(bencher: Bencher<'_, '_>, average: usize) {
    cut(bencher, &table_rows(LENGTH), average);
}

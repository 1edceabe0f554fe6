//! How fast content is cut, in bytes a second on one core.
//!
//! The processor should be the limit: what is measured is additions that wait for each other. On the
//! machine of our tables, a Zen 4 core, such a hash reaches 1.9 to 2.2 GB/s one byte at a time, and
//! 2.7 to 3.2 in strips; reading a warm file gives 10.

use divan::Bencher;
use divan::black_box;
use divan::counter::BytesCount;
use strongroom::chunk::cut::Cutter;
use strongroom::chunk::cut::Sizes;

const LENGTH: usize = 16 << 20;

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

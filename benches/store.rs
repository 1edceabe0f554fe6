//! What a local store takes in and gives out, in bytes a second.
//!
//! `put` syncs, so the disk should be its limit; what is read was just written and comes from
//! memory, so there copying is the limit. Set `TMPDIR` to the disk in question.

use divan::Bencher;
use divan::counter::BytesCount;
use divan::counter::ItemsCount;
use strongroom::id::ObjectName;
use strongroom::store::Local;
use strongroom::store::Store;
use tempfile::TempDir;

fn main() {
    divan::main();
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("the names in this file are names")
}

fn store() -> (TempDir, Local) {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let store = Local::create(&directory.path().join("vault")).expect("a new vault");
    (directory, store)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(length).collect()
}

/// Objects of the sizes of a header, a small pack and a pack, made to last; limit: the disk.
#[divan::bench(args = [4 << 10, 1 << 20, 32 << 20], sample_count = 20, sample_size = 1)]
fn put(bencher: Bencher, length: usize) {
    let (_directory, store) = store();
    let bytes = bytes(length);
    let mut number = 0;
    bencher
        .counter(BytesCount::new(length))
        .with_inputs(|| {
            number += 1;
            name(&format!("p/00/{:02x}/{number}", number % 8))
        })
        .bench_local_values(|object| store.put(&object, &bytes));
}

/// Whole objects from the page cache; limit: memory.
#[divan::bench(args = [4 << 10, 1 << 20, 32 << 20])]
fn get(bencher: Bencher, length: usize) {
    let (_directory, store) = store();
    let object = name("p/00/7c/1");
    store.put(&object, &bytes(length)).expect("room for it");
    bencher.counter(BytesCount::new(length)).bench(|| store.get(&object, u64::MAX));
}

/// One sealed segment out of a pack, as a partial restore reads it; limit: system calls.
#[divan::bench]
fn get_range(bencher: Bencher) {
    let (_directory, store) = store();
    let object = name("p/00/7c/1");
    store.put(&object, &bytes(32 << 20)).expect("room for it");
    bencher.counter(BytesCount::new(65_552_usize)).bench(|| store.get_range(&object, 655_520..721_072));
}

/// A device's headers, in objects a second; limit: system calls.
#[divan::bench(sample_count = 20)]
fn list(bencher: Bencher) {
    let (directory, store) = store();
    // Written past the store: syncing each one would take all the time.
    let folder = directory.path().join("vault/s/00");
    std::fs::create_dir_all(&folder).expect("a folder");
    for number in 0..5_000 {
        std::fs::write(folder.join(format!("{number:016x}-ab")), "header").expect("a file");
    }
    bencher.counter(ItemsCount::new(5_000_usize)).bench(|| store.list("s/00/"));
}

//! Whole backups and restores of generated data, on the disk of the temporary folder: bytes a second.
//!
//! `cargo bench --bench whole` prints a row for each kind of data and each step. The limit of a first
//! backup is compression for text (0.17 to 0.28 GB/s a core at level 3) and the disk for random data
//! (about 1.1 GB/s); of a restore decompression (1.0 GB/s a core) and the disk. The figures of one
//! run belong together: machines differ, and so do hours.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a bench prints and may panic")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use harness::Site;
use strongroom::store::Local;

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Rows of a customer table: words from a small vocabulary, numbers that rarely repeat.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "Muster",
        "Keller",
        "Bern",
        "Winterthur",
        "invoice",
        "paid",
        "open",
        "reminder",
        "GmbH",
        "AG",
        "street",
        "delivery",
        "2026",
        "discount",
        "customer",
        "note",
    ];
    let mut noise = Noise(seed * 2 + 1);
    let mut out = Vec::with_capacity(bytes + 100);
    while out.len() < bytes {
        let word = |noise: &mut Noise| WORDS[usize::try_from(noise.next() >> 60).unwrap()];
        let (a, b, c) = (word(&mut noise), word(&mut noise), word(&mut noise));
        writeln!(
            out,
            "{};{a} {b};{c};{}.{:02};{:x}",
            out.len(),
            noise.next() % 90_000,
            noise.next() % 100,
            noise.next()
        )
        .unwrap();
    }
    out.truncate(bytes);
    out
}

fn random(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = Noise(seed * 2 + 1);
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        out.extend_from_slice(&noise.next().to_le_bytes());
    }
    out.truncate(bytes);
    out
}

fn size_of(folder: &Path) -> u64 {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() { size_of(&entry.path()) } else { meta.len() }
        })
        .sum()
}

fn measure(what: &str, make: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    make(&source);
    let bytes = size_of(&source);
    let vault = folder.path().join("vault");
    let site = Site::new(Arc::new(Local::create(&vault).unwrap()));
    let report = |step: &str, begun: Instant| {
        let seconds = begun.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate of three digits")]
        let rate = bytes as f64 / seconds / 1e9;
        println!(
            "{what:<22} {step:<16} {seconds:>7.2} s  {rate:>6.3} GB/s  vault {} MB",
            size_of(&vault) / 1_000_000
        );
    };
    let begun = Instant::now();
    site.backup(&source).unwrap();
    report("first backup", begun);
    let begun = Instant::now();
    site.backup(&source).unwrap();
    report("unchanged", begun);
    let begun = Instant::now();
    let (summary, _) = site.restore_latest(&source, "restored");
    assert_eq!((summary.damaged_count, summary.problems), (0, 0));
    report("restore", begun);
}

fn main() {
    // `cargo test --benches` asks only whether this builds.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    measure("text, 400 MB", |source| {
        for at in 0..8 {
            fs::write(source.join(format!("table {at}.csv")), text(at + 1, 50_000_000)).unwrap();
        }
    });
    measure("random, 400 MB", |source| {
        for at in 0..4 {
            fs::write(source.join(format!("photos {at}.bin")), random(at + 1, 100_000_000)).unwrap();
        }
    });
    measure("20,000 small, 80 MB", |source| {
        for at in 0..20_000_u64 {
            let folder = source.join(format!("{}", at / 200));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("{at}.txt")), text(at + 1, 4_000)).unwrap();
        }
    });
}

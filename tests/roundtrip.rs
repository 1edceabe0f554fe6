//! Backups and restores the whole way, compared with the source.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use harness::Site;
use harness::describe;
use strongroom::store::Local;
use strongroom::store::Memory;

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(bytes)
    .collect()
}

fn make_source(root: &Path) {
    fs::create_dir_all(root.join("letters/old")).unwrap();
    fs::write(root.join("letters/one.txt"), "Dear customer,\n".repeat(400)).unwrap();
    fs::write(root.join("letters/old/empty"), "").unwrap();
    fs::write(root.join("letters/old/tiny"), "x").unwrap();
    fs::write(root.join("noise"), noise(1, 700_000)).unwrap();
    fs::write(root.join("large"), noise(2, 6_000_000)).unwrap();
    fs::write(root.join("table.csv"), "id;name;town\n17;Muster;Bern\n".repeat(120_000)).unwrap();
    symlink("letters/one.txt", root.join("link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    fs::hard_link(root.join("noise"), root.join("noise too")).unwrap();
    fs::create_dir(root.join("empty directory")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(3, 100_000), 20 << 20).unwrap();
    let odd = std::os::unix::ffi::OsStringExt::from_vec(b"odd \xff\x1b[31m\nname".to_vec());
    let odd: std::ffi::OsString = odd;
    fs::write(root.join(odd), "odd").unwrap();
}

#[test]
fn what_was_backed_up_is_restored_exactly_through_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    make_source(&source);
    let store = Arc::new(Local::create(&folder.path().join("vault")).unwrap());
    let site = Site::new(store);
    let summary = site.backup(&source).unwrap();
    assert_eq!(summary.counts.errors, 0, "{:?}", summary.errors);
    let (restored, target) = site.restore_latest(&source, "restored");
    assert_eq!((restored.damaged_count, restored.problems), (0, 0), "{restored:?}");
    assert_eq!(describe(&source), describe(&target));
}

#[test]
fn an_unchanged_source_is_not_read_or_stored_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    make_source(&source);
    let site = Site::new(Arc::new(Memory::new()));
    let first = site.backup(&source).unwrap();
    let second = site.backup(&source).unwrap();
    assert_eq!(second.counts.files_unchanged, first.counts.files);
    // The folders above the source have times of their own, and other tests work in them meanwhile.
    assert!(second.counts.bytes_new < 1_000, "{:?}", second.counts);
    let (_, target) = site.restore_latest(&source, "restored");
    assert_eq!(describe(&source), describe(&target));
}

#[test]
fn after_edits_only_what_changed_is_stored_and_the_newest_snapshot_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    make_source(&source);
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    for round in 0..6_u64 {
        let mut large = fs::read(source.join("large")).unwrap();
        large.splice(3_000_000..3_000_000, noise(round + 10, 1_000));
        fs::write(source.join("large"), large).unwrap();
        fs::write(source.join(format!("new {round}")), noise(round, 10_000)).unwrap();
        if round == 2 {
            fs::remove_dir_all(source.join("letters")).unwrap();
        }
        let summary = site.backup(&source).unwrap();
        assert!(summary.counts.bytes_new < 700_000, "round {round}: {:?}", summary.counts);
        let (restored, target) = site.restore_latest(&source, &format!("restored {round}"));
        assert_eq!(restored.damaged_count, 0);
        assert_eq!(describe(&source), describe(&target), "round {round}");
    }
}

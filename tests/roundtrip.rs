//! Backups and restores the whole way, compared with the source.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use harness::Site;
use harness::describe;
use harness::noise;
use harness::options;
use proptest::prelude::*;
use strongroom::observe::Silent;
use strongroom::store::Local;
use strongroom::store::Memory;
use strongroom::task::backup;
use strongroom::task::backup::Input;
use strongroom::task::backup::Options;

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

/// On the first backup files are opened as they are listed, on one that reads everything again they are examined before.
#[test]
fn a_directory_of_files_of_all_lengths_is_kept_the_same_in_both_ways_of_reading() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("0444 folder")).unwrap();
    // More than are read at once, around what is kept in the tree, what each may have of the memory of a group, and
    // what is read whole.
    let lengths = [0, 1, 96, 97, 5_000, 8_191, 8_192, 8_193, 40_000, 300_000];
    for number in 0..1_500_usize {
        let length = lengths[number % if number % 100 < 10 { 10 } else { 7 }];
        fs::write(source.join(format!("{number:04}")), noise(number as u64, length)).unwrap();
    }
    fs::write(source.join("0555 large"), noise(1, (1 << 20) + 1)).unwrap();
    symlink("0001", source.join("0556 link")).unwrap();
    let site = Site::new(Arc::new(Memory::new()));
    let first = site.backup(&source).unwrap();
    assert_eq!((first.counts.files, first.counts.others, first.counts.errors), (1_501, 1, 0));
    let (restored, target) = site.restore_latest(&source, "restored");
    assert_eq!(restored.damaged_count, 0);
    assert_eq!(describe(&source), describe(&target));

    let input = Input { paths: vec![source], stream: None };
    let all = Options { force: true, ..options() };
    let again = backup::backup(&mut site.device().unwrap(), input, &all, &Silent).unwrap();
    assert_eq!((again.counts.files_unchanged, again.counts.files_new, again.counts.errors), (1_501, 0, 0));
    // The folders above the source have times of their own.
    assert!(again.counts.bytes_new < 1_000, "{:?}", again.counts);
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

/// What a person may do to a folder between two backups.
#[derive(Clone, Debug)]
enum Edit {
    Write { file: usize, bytes: usize, seed: u64 },
    Insert { file: usize, at: usize, bytes: usize, seed: u64 },
    Cut { file: usize, bytes: usize },
    Remove { file: usize },
    Rename { file: usize, to: usize },
    Link { file: usize, to: usize },
    Point { file: usize, to: usize },
    Mode { file: usize, mode: u32 },
    Date { file: usize, seconds: u32, nanos: u32 },
    BackUp,
}

/// A few names, in folders and not, so that edits meet each other.
fn place(root: &Path, file: usize) -> PathBuf {
    let folder = ["", "a", "a/b", "c d", "ümlaut"][file % 5];
    root.join(folder).join(["one", "two.csv", "\u{1b}[31mred", "long ".repeat(20).trim()][file / 5 % 4])
}

fn edit(root: &Path, edit: &Edit) {
    let clear = |path: &Path| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(path);
    };
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    match *edit {
        Edit::Write { file, bytes, seed } => {
            let path = place(root, file);
            clear(&path);
            fs::write(path, noise(seed, bytes)).unwrap();
        }
        Edit::Insert { file, at, bytes, seed } => {
            let path = place(root, file);
            if is_file(&path) {
                let mut content = fs::read(&path).unwrap();
                let at = at % (content.len() + 1);
                content.splice(at..at, noise(seed, bytes));
                fs::write(path, content).unwrap();
            }
        }
        Edit::Cut { file, bytes } => {
            let path = place(root, file);
            if is_file(&path) {
                let content = fs::read(&path).unwrap();
                fs::write(path, &content[..content.len().saturating_sub(bytes)]).unwrap();
            }
        }
        Edit::Remove { file } => drop(fs::remove_file(place(root, file))),
        Edit::Rename { file, to } => {
            let (from, to) = (place(root, file), place(root, to));
            if from != to && from.symlink_metadata().is_ok() {
                clear(&to);
                fs::rename(from, to).unwrap();
            }
        }
        Edit::Link { file, to } => {
            let (from, to) = (place(root, file), place(root, to));
            if from != to && is_file(&from) {
                clear(&to);
                fs::hard_link(from, to).unwrap();
            }
        }
        Edit::Point { file, to } => {
            let path = place(root, file);
            clear(&path);
            symlink(place(Path::new("/elsewhere"), to), path).unwrap();
        }
        Edit::Mode { file, mode } => {
            let path = place(root, file);
            if is_file(&path) {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode | 0o400);
                fs::set_permissions(path, mode).unwrap();
            }
        }
        Edit::Date { file, seconds, nanos } => {
            let path = place(root, file);
            if is_file(&path) {
                let time = std::time::UNIX_EPOCH + std::time::Duration::new(u64::from(seconds), nanos);
                fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
            }
        }
        Edit::BackUp => {}
    }
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let file = || 0..20_usize;
    let size = || prop_oneof![Just(0_usize), 1..200_usize, 1_000..90_000_usize, 200_000..1_500_000_usize];
    let one = prop_oneof![
        4 => (file(), size(), any::<u64>()).prop_map(|(file, bytes, seed)| Edit::Write { file, bytes, seed: seed >> 2 }),
        2 => (file(), any::<usize>(), 1..5_000_usize, any::<u64>())
            .prop_map(|(file, at, bytes, seed)| Edit::Insert { file, at, bytes, seed: seed >> 2 }),
        1 => (file(), 0..100_000_usize).prop_map(|(file, bytes)| Edit::Cut { file, bytes }),
        1 => file().prop_map(|file| Edit::Remove { file }),
        1 => (file(), file()).prop_map(|(file, to)| Edit::Rename { file, to }),
        1 => (file(), file()).prop_map(|(file, to)| Edit::Link { file, to }),
        1 => (file(), file()).prop_map(|(file, to)| Edit::Point { file, to }),
        1 => (file(), 0..0o777_u32).prop_map(|(file, mode)| Edit::Mode { file, mode }),
        1 => (file(), any::<u32>(), 0..1_000_000_000_u32)
            .prop_map(|(file, seconds, nanos)| Edit::Date { file, seconds, nanos }),
        2 => Just(Edit::BackUp),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    // Each case makes a vault and several snapshots; a failing one prints its edits and its seed.
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_edits_and_backups_restores_to_what_the_folder_was(edits in edits()) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        let site = Site::new(Arc::new(Memory::new()));
        for (at, each) in edits.iter().chain([&Edit::BackUp]).enumerate() {
            edit(&source, each);
            if matches!(each, Edit::BackUp) {
                let summary = site.backup(&source).unwrap();
                prop_assert_eq!(summary.counts.errors, 0);
                let (restored, target) = site.restore_latest(&source, &format!("restored {at}"));
                prop_assert_eq!((restored.damaged_count, restored.problems), (0, 0));
                prop_assert_eq!(describe(&source), describe(&target));
            }
        }
    }
}

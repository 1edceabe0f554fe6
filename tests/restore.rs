//! What comes back out of a vault is what went in, or is named.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use strongroom::observe::Event;
use strongroom::observe::Observer;
use strongroom::observe::Silent;
use strongroom::seal::pseal::Kind;
use strongroom::task::browse;
use strongroom::task::browse::At;
use strongroom::task::browse::Change;
use strongroom::task::browse::Filters;
use strongroom::task::browse::Which;
use strongroom::task::error::Error;
use strongroom::task::restore::Options;
use strongroom::task::restore::Summary;
use strongroom::task::restore::restore;
use strongroom::tree::filter::Selection;
use strongroom::tree::place;
use strongroom::tree::place::Overwrite;
use strongroom::tree::place::Policy;
use strongroom::vault::read::SnapshotReader;

use support::Item;
use support::TestVault;
use support::Watched;
use support::What;
use support::chunks;
use support::damage;
use support::directory;
use support::fifo;
use support::file;
use support::latest;
use support::noise;
use support::path;
use support::sparse;
use support::symlink;

/// Holds what stands in `at` against what was put into the snapshot.
fn assert_restored(at: &Path, items: &[Item]) {
    let mut expected: Vec<Vec<u8>> = items.iter().map(|item| item.name.as_bytes().to_vec()).collect();
    expected.sort();
    assert_eq!(names(at), expected, "names in {}", at.display());
    for item in items {
        let here = at.join(item.name.to_string());
        let found = fs::symlink_metadata(&here).unwrap();
        assert_eq!(
            (found.mtime(), found.mtime_nsec()),
            (item.modified.seconds, i64::from(item.modified.nanos)),
            "time of {}",
            here.display()
        );
        if !matches!(item.what, What::Symlink(_)) {
            assert_eq!(found.permissions().mode() & 0o7777, item.mode, "mode of {}", here.display());
        }
        match &item.what {
            What::File(bytes) => assert!(fs::read(&here).unwrap() == *bytes, "bytes of {}", here.display()),
            What::Sparse(size, runs) => {
                let mut bytes = vec![0; usize::try_from(*size).unwrap()];
                for (offset, run) in runs {
                    let offset = usize::try_from(*offset).unwrap();
                    bytes[offset..offset + run.len()].copy_from_slice(run);
                }
                assert!(fs::read(&here).unwrap() == bytes, "bytes of {}", here.display());
            }
            What::Symlink(target) => assert_eq!(fs::read_link(&here).unwrap(), Path::new(target)),
            What::Fifo => assert!(std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type())),
            What::Directory(items) => assert_restored(&here, items),
        }
    }
}

fn names(at: &Path) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut names: Vec<Vec<u8>> =
        fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name().as_bytes().to_vec()).collect();
    names.sort();
    names
}

fn sample() -> Vec<Item> {
    vec![
        directory(
            "home",
            vec![
                file("empty", ""),
                file("short", "a few bytes"),
                file("middle", noise(1, 300_000)),
                file("repeated", noise(2, 64 << 10).repeat(40)),
                file("large", noise(3, 9_000_000)),
                directory("nothing", vec![]),
                directory("deep", vec![directory("deeper", vec![file("deepest", vec![b'x'; 5000])])]),
                symlink("link", "../elsewhere"),
                fifo("pipe"),
                file("one", noise(4, 70_000)).linked(1),
                sparse("holes", 4_000_000, vec![(65_536, noise(5, 100_000)), (2_097_152, noise(6, 8192))]),
                sparse("all hole", 1_000_000, vec![]),
            ],
        ),
        directory("other", vec![file("one again", noise(4, 70_000)).linked(1), file("plain", "text")]),
    ]
}

fn with_policy(overwrite: Overwrite) -> Options {
    Options { policy: Policy { overwrite, ..Policy::default() }, ..Options::default() }
}

struct Scene {
    vault: TestVault,
    scratch: tempfile::TempDir,
}

impl Scene {
    fn new(items: &[Item]) -> Self {
        let mut vault = TestVault::new();
        vault.snapshot(items, "host", &[]);
        Self { vault, scratch: tempfile::tempdir().unwrap() }
    }

    fn target(&self) -> std::path::PathBuf {
        self.scratch.path().join("target")
    }

    fn restore(&self, options: &Options) -> Result<Summary, Error> {
        let vault = self.vault.open();
        restore(&latest(&vault), &self.target(), options, &Silent)
    }
}

#[test]
fn a_restored_tree_is_the_one_that_was_backed_up() {
    let items = sample();
    let scene = Scene::new(&items);
    let summary = scene.restore(&Options::default()).unwrap();
    // Hard links have the time of either name's entry, which are the same inode's.
    let mut expected = items.clone();
    let one = match &expected[0].what {
        What::Directory(items) => items.iter().find(|item| item.name.as_bytes() == b"one").unwrap().clone(),
        _ => unreachable!(),
    };
    if let What::Directory(items) = &mut expected[1].what {
        items[0].modified = one.modified;
    }
    assert_restored(&scene.target(), &expected);
    let inode = |at: &str| fs::metadata(scene.target().join(at)).unwrap().ino();
    assert_eq!(inode("home/one"), inode("other/one again"));
    let on_disk = fs::metadata(scene.target().join("home/holes")).unwrap().blocks() * 512;
    assert!(on_disk < 1_000_000, "{on_disk} bytes on the disk: its holes were filled");
    assert_eq!(
        (summary.files, summary.directories, summary.others, summary.hard_links, summary.kept),
        (11, 5, 2, 1, 0)
    );
    assert!(summary.damaged.is_empty() && summary.problems == 0 && !summary.resumed);
    assert_eq!(names(scene.scratch.path()), [b"target"]);
}

#[test]
fn a_part_goes_into_the_target_itself() {
    let items = sample();
    let scene = Scene::new(&items);
    let vault = scene.vault.open();
    let reader = latest(&vault);
    let part = |at: &str, to: &str| {
        let options = Options { subpath: path(at), ..Options::default() };
        restore(&reader, &scene.scratch.path().join(to), &options, &Silent)
    };
    part("home/deep", "directory").unwrap();
    let deeper = scene.scratch.path().join("directory");
    assert_eq!(fs::read(deeper.join("deeper/deepest")).unwrap(), vec![b'x'; 5000]);
    assert_eq!(fs::metadata(&deeper).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(part("home/middle", "file").unwrap().files, 1);
    assert_eq!(names(&scene.scratch.path().join("file")), [b"middle"]);
    assert_eq!(part("home/link", "link").unwrap().others, 1);
    assert_eq!(names(&scene.scratch.path().join("link")), [b"link"]);
    part("other/one again", "linked").unwrap();
    assert!(fs::read(scene.scratch.path().join("linked/one again")).unwrap() == noise(4, 70_000));
    let nothing = part("home/nobody", "nothing").unwrap_err();
    assert_eq!(nothing.to_string(), "the snapshot holds nothing at home/nobody");
    assert!(!scene.scratch.path().join("nothing").exists());
}

#[test]
fn patterns_choose_and_only_directories_with_something_chosen_are_made() {
    let scene = Scene::new(&sample());
    let selection = Selection::new(&[("deepest", false), ("/other/plain", false)], &[]).unwrap();
    let summary = scene.restore(&Options { selection, ..Options::default() }).unwrap();
    assert_eq!(summary.files, 2);
    assert_eq!(names(&scene.target()), [&b"home"[..], b"other"]);
    assert_eq!(names(&scene.target().join("home")), [b"deep"]);
    let home = fs::metadata(scene.target().join("home")).unwrap();
    assert_eq!((home.permissions().mode() & 0o777, home.mtime()), (0o750, 1_600_000_004));
}

/// The files that have a chunk in the same block as the `number`th of `at`.
fn in_one_block(reader: &SnapshotReader<'_>, at: &str, number: usize, all: &[&str]) -> BTreeSet<String> {
    let place = |chunk: &_| {
        let chunk: &strongroom::tree::entry::ChunkRef = chunk;
        let (pack, place) = reader.find(&chunk.id).unwrap();
        (pack.name().to_string(), place.block)
    };
    let wanted = place(&chunks(reader, at)[number]);
    let hit = |at: &&&str| chunks(reader, at).iter().any(|chunk| place(chunk) == wanted);
    all.iter().filter(hit).map(ToString::to_string).collect()
}

#[test]
fn a_damaged_chunk_costs_the_files_that_hold_it_and_no_other() {
    let items = sample();
    let all = [
        "home/middle",
        "home/repeated",
        "home/large",
        "home/one",
        "other/one again",
        "home/deep/deeper/deepest",
    ];
    for (at, number) in [("home/large", 40), ("home/one", 0), ("home/middle", 2)] {
        let scene = Scene::new(&items);
        let vault = scene.vault.open();
        let reader = latest(&vault);
        let expected = in_one_block(&reader, at, number, &all);
        assert!(expected.contains(at) && expected.len() < all.len());
        damage(&scene.vault.store, &reader, &chunks(&reader, at)[number]);
        let summary = restore(&reader, &scene.target(), &Options::default(), &Silent).unwrap();
        let named: BTreeSet<String> =
            summary.damaged.iter().map(|damaged| damaged.path.to_string()).collect();
        assert!(expected.is_subset(&named), "{named:?} lacks some of {expected:?}");
        for damaged in &summary.damaged {
            let pack = reader.find(&chunks(&reader, at)[number].id).unwrap().0;
            assert!(damaged.error.to_string().contains(pack.name().as_str()), "{}", damaged.error);
            assert!(!scene.target().join(damaged.path.to_string()).exists(), "{} is there", damaged.path);
        }
        for other in all.iter().filter(|other| !named.contains(**other)) {
            assert!(scene.target().join(other).exists(), "{other} isn't there though it isn't damaged");
        }
        assert_eq!(summary.damaged_count, named.len() as u64);
    }
}

#[test]
fn a_damaged_tree_costs_its_directory_and_what_is_there_is_not_deleted_for_it() {
    let mut vault = TestVault::new();
    vault.trees_apart = true;
    vault.snapshot(&sample(), "host", &[]);
    let scene = Scene { vault, scratch: tempfile::tempdir().unwrap() };
    let vault = scene.vault.open();
    let reader = latest(&vault);
    damage(&scene.vault.store, &reader, &chunks(&reader, "home/deep")[0]);
    fs::create_dir_all(scene.target().join("home/deep")).unwrap();
    fs::write(scene.target().join("home/deep/there"), "x").unwrap();
    fs::write(scene.target().join("home/extra"), "x").unwrap();

    // What was read before the damage is remembered, so it is read anew.
    let reader = latest(&vault);
    let mut options = with_policy(Overwrite::Always);
    options.policy.delete = true;
    let summary = restore(&reader, &scene.target(), &options, &Silent).unwrap();
    let named: Vec<_> =
        summary.damaged.iter().map(|damaged| (damaged.path.to_string(), damaged.is_directory)).collect();
    assert_eq!(named, [("home/deep".to_owned(), true)]);
    assert!(scene.target().join("home/large").exists() && scene.target().join("other/plain").exists());
    assert!(scene.target().join("home/deep/there").exists(), "nobody knows whether it is extra");
    assert!(!scene.target().join("home/extra").exists());
    let walked = browse::walk(&reader, &path(""), true, |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(walked.len(), 1);
}

#[test]
fn what_exists_is_treated_as_the_policy_says() {
    let items = vec![directory(
        "d",
        vec![file("same", noise(1, 200_000)), file("other", noise(2, 200_000)), file("small", "s")],
    )];
    let scene = Scene::new(&items);
    scene.restore(&Options::default()).unwrap();
    let at = |name: &str| scene.target().join("d").join(name);
    let again = |overwrite| scene.restore(&with_policy(overwrite));

    assert!(matches!(again(Overwrite::Refuse), Err(Error::Target(_))));
    let summary = again(Overwrite::IfChanged).unwrap();
    assert_eq!((summary.files, summary.kept), (0, 3));

    fs::write(at("other"), "changed").unwrap();
    fs::write(at("extra"), "not in the snapshot").unwrap();
    let summary = again(Overwrite::Never).unwrap();
    assert_eq!((summary.files, summary.kept), (0, 3));
    assert_eq!(fs::read(at("other")).unwrap(), b"changed");

    let inode = fs::metadata(at("same")).unwrap().ino();
    let summary = again(Overwrite::Always).unwrap();
    assert_eq!((summary.files, summary.kept), (1, 2), "what is the same is kept");
    assert_eq!(fs::metadata(at("same")).unwrap().ino(), inode);
    assert!(fs::read(at("other")).unwrap() == noise(2, 200_000));
    assert!(at("extra").exists());

    // The same time and length, and not the same bytes.
    let same = fs::metadata(at("same")).unwrap();
    let mut bytes = noise(1, 200_000);
    bytes[150_000] ^= 1;
    fs::write(at("same"), &bytes).unwrap();
    fs::File::options()
        .append(true)
        .open(at("same"))
        .unwrap()
        .set_modified(same.modified().unwrap())
        .unwrap();
    assert_eq!(again(Overwrite::IfChanged).unwrap().kept, 3);
    assert_eq!(again(Overwrite::Always).unwrap().files, 1);

    let mut options = with_policy(Overwrite::Always);
    options.policy.delete = true;
    options.policy.dry_run = true;
    fs::write(at("small"), "t").unwrap();
    let summary = scene.restore(&options).unwrap();
    assert_eq!((summary.removed, summary.dry_run), (1, true));
    assert!(at("extra").exists());
    options.policy.dry_run = false;
    assert_eq!(scene.restore(&options).unwrap().removed, 1);
    assert_restored(&scene.target(), &items);

    options.selection = Selection::new(&[("*.jpg", false)], &[]).unwrap();
    assert!(matches!(scene.restore(&options), Err(Error::Refused { .. })));
}

#[test]
fn a_dry_run_into_nothing_counts_and_makes_nothing() {
    let scene = Scene::new(&sample());
    let options = Options { policy: Policy { dry_run: true, ..Policy::default() }, ..Options::default() };
    let summary = scene.restore(&options).unwrap();
    assert_eq!((summary.files, summary.others), (11, 2));
    assert!(names(scene.scratch.path()).is_empty());
}

/// Interrupts when so many files are done.
struct Impatient {
    files: AtomicU64,
    most: u64,
    told: AtomicBool,
}

impl Observer for Impatient {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Progress { items, .. } => {
                self.files.fetch_add(*items, Ordering::Relaxed);
            }
            Event::Notice(_) => self.told.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    fn interrupted(&self) -> bool {
        self.files.load(Ordering::Relaxed) >= self.most
    }
}

#[test]
fn an_interrupted_restore_goes_on_where_it_was_and_believes_nothing() {
    let items: Vec<Item> =
        (0..300).map(|number| file(&format!("f{number:03}"), noise(number, 40_000))).collect();
    let scene = Scene::new(&items);
    let vault = scene.vault.open();
    let reader = latest(&vault);
    let impatient = Impatient { files: AtomicU64::new(0), most: 50, told: AtomicBool::new(false) };
    let ended = restore(&reader, &scene.target(), &Options::default(), &impatient);
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert!(impatient.told.load(Ordering::Relaxed));
    assert!(!scene.target().exists());

    // What the first run left isn't believed either.
    let staging = fs::read_dir(scene.scratch.path()).unwrap().next().unwrap().unwrap().path();
    let first = names(&staging.join("tree")).into_iter().next().unwrap();
    let spoilt = staging.join("tree").join(String::from_utf8(first).unwrap());
    let mut bytes = fs::read(&spoilt).unwrap();
    bytes[100] ^= 1;
    fs::write(&spoilt, bytes).unwrap();

    // Nor what somebody put beside it.
    fs::create_dir(staging.join("tree/planted")).unwrap();
    fs::write(staging.join("tree/planted/file"), "planted").unwrap();

    let summary = restore(&reader, &scene.target(), &Options::default(), &Silent).unwrap();
    assert!(summary.resumed && summary.kept >= 40 && summary.files + summary.kept == 300, "{summary:?}");
    assert_eq!((summary.files_kept, summary.removed), (summary.kept, 0));
    assert_eq!(summary.bytes + summary.bytes_kept, 300 * 40_000);
    assert_restored(&scene.target(), &items);
    assert_eq!(names(scene.scratch.path()), [b"target"]);
}

#[test]
fn a_file_that_is_the_target_itself_goes_on_where_it_was_too() {
    let items = [file("text", noise(1, 40_000))];
    let scene = Scene::new(&items);
    let vault = scene.vault.open();
    let reader = latest(&vault);
    let options = Options { subpath: path("text"), is_itself: true, ..Options::default() };
    let impatient = Impatient { files: AtomicU64::new(0), most: 0, told: AtomicBool::new(false) };
    let ended = restore(&reader, &scene.target(), &options, &impatient);
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    let staging = fs::read_dir(scene.scratch.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(staging.join("tree/planted"), "planted").unwrap();

    let summary = restore(&reader, &scene.target(), &options, &Silent).unwrap();
    assert!(summary.resumed && summary.files == 1, "{summary:?}");
    assert_eq!(fs::read(scene.target()).unwrap(), noise(1, 40_000));
    assert_eq!(names(scene.scratch.path()), [b"target"]);

    // What is there isn't replaced.
    let again = restore(&reader, &scene.target(), &options, &Silent);
    assert!(matches!(again, Err(Error::Target(place::Error::NotDirectory { .. }))), "{again:?}");
    fs::remove_file(scene.target()).unwrap();
    fs::create_dir(scene.target()).unwrap();
    let again = restore(&reader, &scene.target(), &options, &Silent);
    assert!(matches!(again, Err(Error::Target(place::Error::Target { .. }))), "{again:?}");
}

#[test]
fn many_small_files_come_back() {
    let directories = (0..100).map(|number| {
        let files = (0..200).map(|file_number| {
            let length = usize::try_from((number * 200 + file_number) % 3000).unwrap();
            file(&format!("f{file_number}"), noise(number * 1000 + file_number, length))
        });
        directory(&format!("d{number}"), files.collect())
    });
    let items: Vec<Item> = directories.collect();
    let scene = Scene::new(&items);
    let summary = scene.restore(&Options::default()).unwrap();
    assert_eq!((summary.files, summary.directories), (20_000, 100));
    assert_restored(&scene.target(), &items);
}

#[test]
fn a_file_too_long_for_one_batch_comes_back() {
    let mut bytes = noise(1, 20 << 20).repeat(4);
    bytes.extend(noise(2, 12_345));
    let items = vec![file("large", bytes), file("a", noise(3, 5000)), file("z", noise(4, 5000))];
    let scene = Scene::new(&items);
    assert_eq!(scene.restore(&Options::default()).unwrap().files, 3);
    assert_restored(&scene.target(), &items);
    let summary = scene.restore(&with_policy(Overwrite::Always)).unwrap();
    assert_eq!((summary.files, summary.kept), (0, 3));
}

#[test]
fn progress_adds_up_to_the_total() {
    struct Watching(Mutex<BTreeMap<&'static str, u64>>);
    impl Observer for Watching {
        fn event(&self, event: &Event<'_>) {
            let mut seen = self.0.lock().unwrap();
            if let Event::Phase(_) = event {
                // From here on all counts anew, the total too.
                return seen.clear();
            }
            let mut add = |what, count| *seen.entry(what).or_insert(0) += count;
            match event {
                Event::Total { items, bytes } => {
                    add("files of all", *items);
                    add("bytes of all", *bytes);
                }
                Event::Progress { items, bytes } => {
                    add("files", *items);
                    add("bytes", *bytes);
                }
                Event::Entry(_) => add("entries", 1),
                _ => {}
            }
        }
    }
    let scene = Scene::new(&sample());
    let vault = scene.vault.open();
    for overwrite in [Overwrite::Refuse, Overwrite::IfChanged] {
        let watching = Watching(Mutex::default());
        restore(&latest(&vault), &scene.target(), &with_policy(overwrite), &watching).unwrap();
        let seen = watching.0.into_inner().unwrap();
        assert_eq!(seen["files"], seen["files of all"], "{overwrite:?}");
        assert_eq!(seen["bytes"], seen["bytes of all"], "{overwrite:?}");
    }
}

#[test]
fn a_file_is_dumped_as_it_was_with_zeros_for_holes() {
    let scene = Scene::new(&sample());
    let vault = scene.vault.open();
    let reader = latest(&vault);
    let dumped = |at: &str| {
        let At::Entry(entry) = browse::entry_at(&reader, &path(at)).unwrap() else { panic!() };
        let mut out = Vec::new();
        browse::dump(&reader, &entry, &mut out).map(|()| out)
    };
    assert!(dumped("home/large").unwrap() == noise(3, 9_000_000));
    assert_eq!(dumped("home/short").unwrap(), b"a few bytes");
    assert_eq!(dumped("home/empty").unwrap(), b"");
    assert!(dumped("home/all hole").unwrap() == vec![0; 1_000_000]);
    let mut holes = vec![0; 4_000_000];
    holes[65_536..165_536].copy_from_slice(&noise(5, 100_000));
    holes[2_097_152..2_105_344].copy_from_slice(&noise(6, 8192));
    assert!(dumped("home/holes").unwrap() == holes);
    assert!(matches!(dumped("home/link"), Err(Error::Refused { .. })));
    damage(&scene.vault.store, &reader, &chunks(&reader, "home/large")[100]);
    assert!(matches!(dumped("home/large"), Err(Error::Vault(_))));
}

#[test]
fn a_dump_that_nobody_takes_ends() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let scene = Scene::new(&[file("f", noise(1, 40_000_000))]);
    let vault = scene.vault.open();
    let reader = latest(&vault);
    let At::Entry(entry) = browse::entry_at(&reader, &path("f")).unwrap() else { panic!() };
    assert!(matches!(browse::dump(&reader, &entry, &mut Full), Err(Error::Output(_))));
}

#[test]
fn snapshots_are_chosen_by_age_id_host_and_tag() {
    let mut vault = TestVault::new();
    for (host, tags) in [("a", &["x"][..]), ("b", &[]), ("a", &["x", "y"])] {
        vault.snapshot(&[file("f", host.as_bytes())], host, tags);
    }
    let opened = vault.open();
    let listing = browse::snapshots(&opened);
    let all = &listing.snapshots;
    assert_eq!(all.iter().map(|listed| listed.snapshot.header.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let seq = |which: &str, filters: &Filters| {
        browse::choose(all, &Which::parse(which).unwrap(), filters).map(|listed| listed.snapshot.header.seq)
    };
    let any = Filters::default();
    let of = |hosts: &[&str], tags: &[&str]| Filters {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        tags: if tags.is_empty() { vec![] } else { vec![tags.iter().map(ToString::to_string).collect()] },
        ..Filters::default()
    };
    assert_eq!(seq("latest", &any).unwrap(), 3);
    assert_eq!(seq("latest~2", &any).unwrap(), 1);
    assert_eq!(seq("latest", &of(&["b"], &[])).unwrap(), 2);
    assert_eq!(seq("latest~1", &of(&["a"], &["x"])).unwrap(), 1);
    assert_eq!(seq("latest", &of(&[], &["y"])).unwrap(), 3);
    let before = Filters { before: Some(all[1].time()), ..Filters::default() };
    assert_eq!(seq("latest", &before).unwrap(), 2);
    assert_eq!(seq(&all[1].snapshot.id().to_string()[..12], &any).unwrap(), 2);
    assert_eq!(seq("latest~3", &any).unwrap_err().to_string(), "there is no snapshot latest~3");
    assert!(Which::parse("newest").is_none() && Which::parse("latest~x").is_none());

    // The newest one's body is damaged: it is listed, and not passed over in silence.
    let body =
        strongroom::vault::name::Place::Pack { device: all[2].device, digest: all[2].snapshot.header.body };
    vault.store.flip(&body.name(), 20_000);
    let listing = browse::snapshots(&opened);
    assert!(listing.snapshots[2].body().is_err());
    let chosen = browse::choose(&listing.snapshots, &Which::Latest { back: 0 }, &any).unwrap();
    assert_eq!(chosen.snapshot.header.seq, 3);
    assert!(browse::reader(&opened, chosen).is_err());
}

#[test]
fn a_snapshot_is_chosen_with_as_few_bodies_read_as_that_takes() {
    let store = Arc::new(Watched::default());
    let mut vault = TestVault::with_store(Arc::<Watched>::clone(&store));
    for number in 0..6 {
        vault.snapshot(&[file("f", [number])], if number == 2 { "b" } else { "a" }, &["x"]);
    }
    let opened = vault.open();
    let ids: Vec<String> =
        browse::snapshots(&opened).snapshots.iter().map(|listed| listed.snapshot.id().to_string()).collect();
    let host = |host: &str| Filters { hosts: vec![host.to_owned()], ..Filters::default() };
    let any = Filters::default;
    for (which, filters, seq, bodies) in [
        ("latest", any(), 6, 1),
        ("latest~4", any(), 2, 1),
        (&ids[0], any(), 1, 1),
        ("latest", host("a"), 6, 1),
        ("latest", host("b"), 3, 4),
        ("latest~1", host("a"), 5, 2),
        (&ids[4], host("a"), 5, 1),
    ] {
        store.forget();
        let listing = browse::snapshots(&opened);
        assert_eq!(store.read(Kind::Body), 0);
        let chosen = browse::choose(&listing.snapshots, &Which::parse(which).unwrap(), &filters).unwrap();
        assert_eq!(browse::reader(&opened, chosen).unwrap().snapshot().header.seq, seq, "{which}");
        assert_eq!(store.read(Kind::Body), bodies, "{which} {filters:?}");
    }
}

#[test]
fn two_snapshots_differ_in_what_was_changed() {
    let mut vault = TestVault::new();
    let unchanged = directory("same", vec![file("f", noise(9, 3000))]);
    let before = vec![
        unchanged.clone(),
        directory("d", vec![file("gone", "g"), file("kept", "k"), file("text", "before"), file("mode", "m")]),
        directory("old", vec![file("x", "x")]),
        file("turns", "file"),
    ];
    let mut mode = file("mode", "m");
    mode.mode = 0o600;
    let after = vec![
        unchanged,
        directory("d", vec![file("kept", "k"), file("new", "n"), file("text", "after!"), mode]),
        directory("turns", vec![file("inner", "i")]),
    ];
    vault.snapshot(&before, "a", &[]);
    vault.snapshot(&after, "a", &[]);
    let opened = vault.open();
    let listing = browse::snapshots(&opened);
    let first = browse::reader(&opened, &listing.snapshots[0]).unwrap();
    let second = browse::reader(&opened, &listing.snapshots[1]).unwrap();
    let mut told = Vec::new();
    let damaged = browse::diff(&first, &second, &path(""), false, |path, change| {
        let sign = match change {
            Change::Added(_) => "+".to_owned(),
            Change::Removed(_) => "-".to_owned(),
            Change::Changed { kind, content, metadata, .. } => [(kind, "T"), (content, "M"), (metadata, "U")]
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, sign)| *sign)
                .collect(),
        };
        told.push(format!("{sign} {path}"));
        ControlFlow::Continue(())
    });
    assert!(damaged.unwrap().is_empty());
    let expected =
        ["- d/gone", "U d/mode", "+ d/new", "M d/text", "- old", "- old/x", "TMU turns", "+ turns/inner"];
    assert_eq!(told, expected);
}

#[test]
fn a_tree_is_listed_searched_and_counted() {
    let scene = Scene::new(&sample());
    let vault = scene.vault.open();
    let reader = latest(&vault);
    let listed = |from: &str, recursive| {
        let mut told = Vec::new();
        let damaged = browse::walk(&reader, &path(from), recursive, |path, _| {
            told.push(path.to_string());
            ControlFlow::Continue(())
        });
        assert!(damaged.unwrap().is_empty());
        told
    };
    assert_eq!(listed("", false), ["home", "other"]);
    assert_eq!(listed("home/deep", true), ["home/deep/deeper", "home/deep/deeper/deepest"]);
    assert_eq!(listed("other/plain", true), ["other/plain"]);
    assert_eq!(listed("", true).len(), 18);

    let search = browse::Search {
        selection: Selection::new(&[("*e*", false)], &[]).unwrap(),
        kinds: vec![browse::Kind::File],
        newest_before: None,
        oldest_after: None,
        bytes_min: Some(1_000_000),
        bytes_max: None,
    };
    let mut found = Vec::new();
    let damaged = browse::find(&reader, &path(""), &search, |path, _| {
        found.push(path.to_string());
        ControlFlow::Continue(())
    });
    assert!(damaged.unwrap().is_empty());
    assert_eq!(found, ["home/all hole", "home/holes", "home/large", "home/repeated"]);

    let (stats, damaged) = browse::stats(&reader, &path(""), true).unwrap();
    assert!(damaged.is_empty());
    assert_eq!((stats.files, stats.directories, stats.others), (11, 5, 2));
    assert!(stats.bytes_unique < stats.bytes && stats.bytes_stored > 9_000_000, "{stats:?}");
}

#[test]
fn a_sender_whose_signature_does_not_fit_is_damage_that_verify_tells() {
    use strongroom::task::verify::Class;
    use strongroom::task::verify::ReadData;
    use strongroom::task::verify::verify_private;

    let mut test = TestVault::new();
    test.snapshot(&[file("a", "one")], "here", &[]);
    let verify = |test: &TestVault| verify_private(&test.open(), None, &[], &ReadData::All, &Silent).unwrap();
    assert!(verify(&test).is_sound());
    test.sender = Some(b"nobody".to_vec());
    test.snapshot(&[file("a", "two")], "here", &[]);
    let report = verify(&test);
    assert!(!report.is_sound());
    assert_eq!(report.class(), Some(Class::Integrity));
}

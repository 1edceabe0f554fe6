//! What goes wrong around a backup: objects that vanish, owners that forget meanwhile, files that lie.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use harness::Site;
use harness::describe;
use harness::noise;
use harness::now;
use harness::options;
use strongroom::crypto::digest;
use strongroom::crypto::sign::SigningKey;
use strongroom::id::Digest;
use strongroom::id::ObjectName;
use strongroom::observe::Event;
use strongroom::observe::Observer;
use strongroom::observe::Phase;
use strongroom::observe::Silent;
use strongroom::seal::pseal;
use strongroom::seal::pseal::Kind;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task::backup;
use strongroom::task::backup::Input;
use strongroom::task::backup::Summary;
use strongroom::task::browse;
use strongroom::task::error::Error;
use strongroom::task::restore;
use strongroom::tree::path::TreePath;
use strongroom::tree::place::Overwrite;
use strongroom::tree::place::Policy;
use strongroom::tree::walk;
use strongroom::vault::authority::Log;
use strongroom::vault::header::Header;
use strongroom::vault::history;
use strongroom::vault::name::Place;
use strongroom::vault::record;
use strongroom::vault::record::ForgetRow;
use strongroom::vault::record::Head;
use strongroom::vault::record::ListRef;
use strongroom::vault::record::Payload;
use strongroom::vault::record::PurgeRow;

/// Runs something once, when the packs are stored and the rest isn't.
struct AtCommit<'a>(Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>);

impl<'a> AtCommit<'a> {
    fn new(what: impl FnOnce() + Send + 'a) -> Self {
        Self(Mutex::new(Some(Box::new(what))))
    }
}

impl Observer for AtCommit<'_> {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Phase(Phase::Committing))
            && let Some(what) = self.0.lock().unwrap().take()
        {
            what();
        }
    }
}

fn backup_watched(site: &Site, source: &Path, observer: &dyn Observer) -> Result<Summary, Error> {
    let input = Input { paths: vec![source.to_owned()], stream: None };
    backup::backup(&mut site.device().unwrap(), input, &options(), observer)
}

fn objects(site: &Site, kind: Kind) -> Vec<ObjectName> {
    let listed = site.store.list("p/").unwrap();
    let is_kind =
        |name: &ObjectName| pseal::peek(&site.store.get(name, 64 << 20).unwrap()).unwrap().kind == kind;
    listed.into_iter().map(|listed| listed.name).filter(is_kind).collect()
}

fn headers(site: &Site) -> Vec<(Header, Digest)> {
    let listed = site.store.list("s/").unwrap();
    let mut headers: Vec<(Header, Digest)> = listed
        .iter()
        .map(|listed| {
            let (header, bytes) = history::fetch_header(&*site.store, &listed.name).unwrap();
            (header, digest::digest(&bytes))
        })
        .collect();
    headers.sort_by_key(|(header, _)| header.seq);
    headers
}

fn append(site: &Site, payload: impl Fn(&Log) -> Payload) -> u64 {
    let vault = site.unlock();
    let key = SigningKey::from_seed(vault.admin().unwrap().authority_seed.duplicate());
    let mut log = Log::load(&*site.store, Some(&site.fingerprint)).unwrap();
    log.append(&*site.store, &key, now(), &|_| {}, &|log| Ok(payload(log))).unwrap().seq
}

fn put_list<R: record::Row>(site: &Site, rows: &mut [R]) -> ListRef {
    rows.sort_unstable();
    let bytes = record::encode_list(site.fingerprint.vault_id(), rows);
    let digest = digest::digest(&bytes);
    site.store.put(&Place::List(digest).name(), &bytes).unwrap();
    site.store.put(&Place::List(digest).name().second(), &bytes).unwrap();
    ListRef { digest, length: u32::try_from(bytes.len()).unwrap(), rows: u32::try_from(rows.len()).unwrap() }
}

/// An owner forgets the device's snapshots up to `seq`, or the objects that are named.
fn forget(site: &Site, mut rows: Vec<ForgetRow>) -> u64 {
    let list = put_list(site, &mut rows);
    append(site, |_| Payload::Forget(list))
}

/// And later, knowing `heads`, ends these objects.
fn purge(site: &Site, forget_seq: u64, heads: &[Head], names: &[Digest]) {
    let device = heads[0].device;
    let mut rows: Vec<PurgeRow> = names.iter().map(|listed| PurgeRow { device, listed: *listed }).collect();
    let list = put_list(site, &mut rows);
    append(site, |_| Payload::Purge { list, forget_seq, heads: heads.to_vec() });
    for name in names {
        let _ = site.store.remove(&Place::Pack { device, digest: *name }.name());
    }
}

fn source_of(folder: &Path) -> std::path::PathBuf {
    let source = folder.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("large"), noise(1, 3_000_000)).unwrap();
    fs::write(source.join("small"), noise(2, 5_000)).unwrap();
    source
}

fn check(site: &Site, source: &Path, name: &str) {
    let (restored, target) = site.restore_latest(source, name);
    assert_eq!((restored.damaged_count, restored.problems), (0, 0), "{restored:?}");
    assert_eq!(describe(source), describe(&target));
}

#[test]
fn packs_that_are_gone_are_stored_again_by_the_next_backup() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    for name in objects(&site, Kind::Data) {
        site.store.remove(&name).unwrap();
    }
    for round in 0..2 {
        let again = site.backup(&source);
        assert!(again.is_ok(), "round {round}: {}", again.err().unwrap());
        check(&site, &source, &format!("restored {round}"));
    }
}

#[test]
fn an_index_that_goes_while_a_backup_runs_is_not_relied_on() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    fs::write(source.join("new"), noise(3, 5_000)).unwrap();
    let old = objects(&site, Kind::Index);
    let observer = AtCommit::new(|| old.iter().for_each(|name| site.store.remove(name).unwrap()));
    backup_watched(&site, &source, &observer).unwrap();
    check(&site, &source, "restored");
}

#[test]
fn an_index_that_was_cut_short_is_not_relied_on() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    fs::write(source.join("new"), noise(3, 5_000)).unwrap();
    for name in objects(&site, Kind::Index) {
        let bytes = site.store.get(&name, 64 << 20).unwrap();
        site.store.remove(&name).unwrap();
        site.store.put(&name, &bytes[..bytes.len() / 2]).unwrap();
    }
    site.backup(&source).unwrap();
    check(&site, &source, "restored");
}

#[test]
fn a_snapshot_forgotten_while_a_backup_runs_is_not_relied_on() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    let (first, digest) = headers(&site).remove(0);
    let head = Head { device: first.device, seq: 1, digest };
    fs::write(source.join("new"), noise(3, 5_000)).unwrap();
    let forgot = Mutex::new(0);
    // The owner announces, lists headers (there is one), and acts on that once the grace is over.
    let observer = AtCommit::new(|| {
        let row = ForgetRow { device: first.device, seq: 1, name: Digest([0; 32]) };
        *forgot.lock().unwrap() = forget(&site, vec![row]);
    });
    backup_watched(&site, &source, &observer).unwrap();
    let names: Vec<Digest> = first.objects.iter().map(|object| object.name).collect();
    purge(&site, *forgot.lock().unwrap(), &[head], &names);
    check(&site, &source, "restored");
    fs::write(source.join("newer"), noise(4, 5_000)).unwrap();
    site.backup(&source).unwrap();
    check(&site, &source, "restored again");
}

#[test]
fn an_object_forgotten_while_a_backup_runs_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    let device = site.device().unwrap().device();
    let strays = Mutex::new(Vec::new());
    // To the owner, the packs of a run that hasn't committed yet are strays.
    let observer = AtCommit::new(|| {
        let names: Vec<Digest> = objects(&site, Kind::Data)
            .iter()
            .filter_map(|name| match Place::parse(name) {
                Some(Place::Pack { digest, .. }) => Some(digest),
                _ => None,
            })
            .collect();
        forget(&site, names.iter().map(|name| ForgetRow { device, seq: 0, name: *name }).collect());
        *strays.lock().unwrap() = names;
    });
    backup_watched(&site, &source, &observer).unwrap();
    for digest in strays.lock().unwrap().iter() {
        site.store.remove(&Place::Pack { device, digest: *digest }.name()).unwrap();
    }
    check(&site, &source, "restored");
}

#[test]
fn a_file_that_says_it_is_empty_and_is_not_is_kept_whole() {
    let site = Site::new(Arc::new(Memory::new()));
    let source = Path::new("/proc/filesystems");
    let expected = fs::read(source).unwrap();
    assert_eq!((source.metadata().unwrap().len(), expected.len() > 100), (0, true));
    site.backup(source).unwrap();
    let (restored, target) = site.restore_latest(source, "restored");
    assert_eq!(restored.damaged_count, 0);
    assert_eq!(fs::read(target.join("filesystems")).unwrap(), expected);
}

#[test]
fn a_file_changed_just_before_is_read_again_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    let changed = source.join("small").metadata().unwrap();
    let changed = u64::try_from(changed.ctime() * 1_000_000_000 + changed.ctime_nsec()).unwrap();
    // The clock that stamps files ticks each 10 ms as a rule, and each two seconds on some drives.
    site.backup_with(&source, |options| options.now = changed + 1_000_000_000).unwrap();
    let again = site.backup_with(&source, |options| options.now = changed + 60_000_000_000).unwrap();
    let counts = again.counts;
    assert_eq!((counts.files_new, counts.files_changed, counts.files_unchanged), (0, 0, 2));
    let third = site.backup_with(&source, |options| options.now = changed + 61_000_000_000).unwrap();
    assert_eq!(third.counts.files_unchanged, 2);
}

#[test]
fn a_change_that_left_no_trace_in_a_files_times_is_found_by_reading_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    let small = source.join("small");
    let before = small.metadata().unwrap();
    let changed = u64::try_from(before.ctime() * 1_000_000_000 + before.ctime_nsec()).unwrap();
    site.backup_with(&source, |options| options.now = changed + 1_000_000_000).unwrap();
    // Within one step of the clock: nothing but its content tells.
    fs::write(&small, noise(77, 5_000)).unwrap();
    fs::File::options().write(true).open(&small).unwrap().set_modified(before.modified().unwrap()).unwrap();
    let again = |now: u64| {
        let of = |options: &mut backup::Options| (options.now, options.ignore_ctime) = (now, true);
        let counts = site.backup_with(&source, of).unwrap().counts;
        (counts.files_new, counts.files_changed, counts.files_unchanged)
    };
    assert_eq!(again(changed + 60_000_000_000), (0, 1, 1));
    check(&site, &source, "restored");
    assert_eq!(again(changed + 61_000_000_000), (0, 0, 2));
}

#[test]
fn what_is_read_again_is_counted_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    let touched = fs::File::options().write(true).open(source.join("large")).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let counts = |force: bool| {
        let counts = site.backup_with(&source, |options| options.force = force).unwrap().counts;
        (counts.files_new, counts.files_changed, counts.files_unchanged)
    };
    assert_eq!(counts(false), (0, 0, 2));
    assert_eq!(counts(true), (0, 0, 2));
    fs::write(source.join("large"), b"small now").unwrap();
    assert_eq!(counts(true), (0, 1, 1));
}

/// Keeps what is said to a person.
#[derive(Default)]
struct Notices(Mutex<Vec<String>>);

impl Observer for Notices {
    fn event(&self, event: &Event<'_>) {
        if let Event::Notice(what) = event {
            self.0.lock().unwrap().push(what.clone());
        }
    }
}

#[test]
fn caches_that_cannot_be_written_or_read_end_no_backup() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    let state = site.machine.vault_state(&site.fingerprint);
    let caches: Vec<String> = state
        .names()
        .unwrap()
        .into_iter()
        .filter(|name| name.starts_with("chunks-") || name.starts_with("files-"))
        .chain(["journal".to_owned()])
        .collect();
    assert_eq!(caches.len(), 3, "{caches:?}");
    // In the way of writing: what is written anew gets this name first.
    for name in &caches {
        fs::create_dir_all(state.path().join(format!("{name}.new/in the way"))).unwrap();
    }
    let check_run = |number: u64, is_known: bool| {
        fs::write(source.join("new"), noise(number, 50_000)).unwrap();
        let notices = Notices::default();
        let summary = backup_watched(&site, &source, &notices).unwrap();
        assert_eq!(summary.counts.bytes_new < 1_000_000, is_known, "round {number}");
        let said = notices.0.into_inner().unwrap();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("the backup goes on"), "{said:?}");
        check(&site, &source, &format!("restored {number}"));
    };
    check_run(21, true);
    check_run(23, true);
    // And in the way of reading.
    for name in &caches {
        let _ = fs::remove_file(state.path().join(name));
        fs::create_dir(state.path().join(name)).unwrap();
    }
    check_run(25, false);
    check_run(27, false);
}

#[test]
fn what_soundness_rests_on_must_be_kept_before_the_header_is_put() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    let state = site.machine.vault_state(&site.fingerprint);
    fs::create_dir(state.path().join("commit.new")).unwrap();
    let failed = site.backup(&source).err().unwrap();
    assert!(failed.to_string().contains("commit"), "{failed}");
    assert_eq!(headers(&site).len(), 1);
    fs::remove_dir(state.path().join("commit.new")).unwrap();
    site.backup(&source).unwrap();
}

#[test]
fn a_clock_that_was_wrong_once_costs_no_upload() {
    const DAY: u64 = 24 * 3600 * 1_000_000_000;
    for wrong in [30 * 365 * DAY, 0] {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        for (source, seed) in [(&one, 1), (&other, 9)] {
            fs::create_dir(source).unwrap();
            fs::write(source.join("file"), noise(seed, 1_000_000)).unwrap();
        }
        let site = Site::new(Arc::new(Memory::new()));
        let start = now();
        let new_at = |source: &Path, time: u64| {
            let summary = site.backup_with(source, |options| options.now = time).unwrap();
            summary.counts.bytes_new
        };
        assert!(new_at(&one, start) > 1_000_000 && new_at(&other, start) > 1_000_000);
        let then = if wrong == 0 { 3 * DAY } else { start + wrong };
        for time in [then, start + DAY, start + 2 * DAY] {
            // What may change is the time of the folder that others make theirs in.
            assert!(new_at(&one, time) < 10_000, "{time}");
            assert!(new_at(&other, time) < 10_000, "{time}");
        }
    }
}

#[test]
fn a_job_that_runs_no_more_is_forgotten_after_45_days() {
    const DAY: u64 = 24 * 3600 * 1_000_000_000;
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    let state = site.machine.vault_state(&site.fingerprint);
    let tables = || {
        let names = state.names().unwrap();
        ["chunks-", "files-"].map(|kind| names.iter().filter(|name| name.starts_with(kind)).count())
    };
    site.backup(&source.join("small")).unwrap();
    let start = now();
    for day in (0..=44).step_by(4) {
        site.backup_with(&source, |options| options.now = start + day * DAY).unwrap();
        assert_eq!(tables(), [2, 2], "day {day}");
    }
    site.backup_with(&source, |options| options.now = start + 46 * DAY).unwrap();
    assert_eq!(tables(), [1, 1]);
}

#[test]
fn a_dry_run_changes_nothing_that_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    let state = site.machine.vault_state(&site.fingerprint);
    let names = || {
        let mut names: Vec<String> =
            state.names().unwrap().into_iter().filter(|name| !name.ends_with(".new")).collect();
        names.sort();
        names
    };
    let before = names();
    site.backup_with(&source, |options| {
        options.dry_run = true;
        // Long enough for every table to be out of date.
        options.now += 100 * 24 * 3600 * 1_000_000_000;
    })
    .unwrap();
    assert_eq!(names(), before);
}

/// Makes a directory `deep` in `source`, so many levels deep, with a file at the bottom. Paths this long
/// can't be named at once: it is made from the inside out.
fn make_deep(folder: &Path, source: &Path, levels: usize) {
    let mut inner = folder.join("d0");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("bottom"), noise(5, 1_000)).unwrap();
    for number in 1..levels {
        let outer = folder.join(format!("d{number}"));
        fs::create_dir(&outer).unwrap();
        fs::rename(&inner, outer.join("d")).unwrap();
        inner = outer;
    }
    fs::rename(&inner, source.join("deep")).unwrap();
}

/// What removes it again, as `remove_dir_all` recurses.
struct RemovedAtEnd<'a>(&'a Path);

impl Drop for RemovedAtEnd<'_> {
    fn drop(&mut self) {
        std::process::Command::new("rm").arg("-rf").arg(self.0).status().unwrap();
    }
}

#[test]
fn a_tree_of_1500_levels_is_backed_up_restored_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    walk::raise_open_files_limit();
    if walk::depth_max() < 1_600 {
        eprintln!("skipped: this process may not have enough files open");
        return;
    }
    make_deep(folder.path(), &source, 1_500);
    let site = Site::new(Arc::new(Memory::new()));
    let _removed = [RemovedAtEnd(folder.path()), RemovedAtEnd(site.home.path())];
    let summary = site.backup(&source).unwrap();
    assert_eq!((summary.counts.errors, summary.counts.files), (0, 3), "{:?}", summary.errors);
    check(&site, &source, "restored");

    fs::rename(source.join("deep"), folder.path().join("away")).unwrap();
    site.backup(&source).unwrap();
    let vault = site.unlock();
    let listing = browse::snapshots(&vault);
    let which = browse::Which::parse("latest").unwrap();
    let listed = browse::choose(&listing.snapshots, &which, &browse::Filters::default()).unwrap();
    let inside = source.canonicalize().unwrap();
    let options = restore::Options {
        subpath: TreePath::parse(&inside.to_str().unwrap().as_bytes()[1..]).unwrap(),
        policy: Policy { overwrite: Overwrite::IfChanged, delete: true, ..Policy::default() },
        ..restore::Options::default()
    };
    let target = site.home.path().join("restored");
    let summary =
        restore::restore(&browse::reader(&vault, listed).unwrap(), &target, &options, &Silent).unwrap();
    assert_eq!((summary.damaged_count, summary.problems), (0, 0), "{summary:?}");
    // A target that was there keeps its own time.
    assert_eq!(describe(&source)[1..], describe(&target)[1..]);
}

#[test]
fn directories_that_lie_too_deep_are_named_and_the_rest_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    walk::raise_open_files_limit();
    let depth_max = walk::depth_max();
    make_deep(folder.path(), &source, depth_max + 10);
    let site = Site::new(Arc::new(Memory::new()));
    let _removed = [RemovedAtEnd(folder.path()), RemovedAtEnd(site.home.path())];
    let summary = site.backup(&source).unwrap();
    assert_eq!(summary.counts.errors, 1, "{:?}", summary.errors);
    let expected = format!("it lies more than {depth_max} directories deep");
    assert!(summary.errors[0].message.ends_with(&expected), "{}", summary.errors[0].message);
    assert_eq!((summary.counts.directories, summary.counts.files), (depth_max as u64, 2));
    let (restored, _) = site.restore_latest(&source, "restored");
    assert_eq!((restored.damaged_count, restored.problems), (0, 0));
}

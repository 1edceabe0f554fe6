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
use strongroom::seal::pseal;
use strongroom::seal::pseal::Kind;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task::backup;
use strongroom::task::backup::Input;
use strongroom::task::backup::Summary;
use strongroom::task::error::Error;
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
    assert_eq!(again.counts.files_unchanged, 0);
    let third = site.backup_with(&source, |options| options.now = changed + 61_000_000_000).unwrap();
    assert_eq!(third.counts.files_unchanged, 2);
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

#[test]
fn directories_that_lie_too_deep_are_named_and_the_rest_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_of(folder.path());
    // Paths this long can't be named at once: made from the inside out.
    let mut inner = folder.path().join("d0");
    fs::create_dir(&inner).unwrap();
    for number in 1..800 {
        let outer = folder.path().join(format!("d{number}"));
        fs::create_dir(&outer).unwrap();
        fs::rename(&inner, outer.join("d")).unwrap();
        inner = outer;
    }
    fs::rename(&inner, source.join("deep")).unwrap();
    let site = Site::new(Arc::new(Memory::new()));
    let summary = site.backup(&source).unwrap();
    assert_eq!(summary.counts.errors, 1, "{:?}", summary.errors);
    assert!(summary.errors[0].message.contains("768 directories deep"));
    assert!(summary.counts.directories > 700 && summary.counts.files == 2);
    let (restored, _) = site.restore_latest(&source, "restored");
    assert_eq!(restored.damaged_count, 0);
}

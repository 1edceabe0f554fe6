//! Re-encryption: what older keys open is gone afterwards, at whichever write it is cut off, and backups
//! and restores go on beside it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use harness::Site;
use harness::describe;
use harness::now;
use strongroom::id::Epoch;
use strongroom::id::ObjectName;
use strongroom::observe::Event;
use strongroom::observe::Observer;
use strongroom::observe::Silent;
use strongroom::store;
use strongroom::store::Fault;
use strongroom::store::Faulty;
use strongroom::store::Kind;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task::error::Error;
use strongroom::task::reencrypt;
use strongroom::task::reencrypt::Ended;
use strongroom::task::reencrypt::Options;
use strongroom::task::reencrypt::Summary;
use strongroom::vault::Vault;
use strongroom::vault::error;

fn in_memory() -> (Site, Arc<Faulty<Memory>>) {
    let store = Arc::new(Faulty::new(Memory::new()));
    (Site::new(Arc::<Faulty<Memory>>::clone(&store)), store)
}

fn write_source(root: &Path, round: u8) {
    fs::create_dir_all(root.join("deep")).unwrap();
    fs::write(root.join("letter"), format!("Dear customer {round},\n").repeat(5_000)).unwrap();
    fs::write(root.join(format!("deep/note {round}")), [round; 3_000]).unwrap();
}

fn rotate(vault: &mut Vault) {
    vault
        .change_keys(now(), &|_| {}, &|draft| {
            draft.start_epoch();
            Ok(())
        })
        .unwrap();
    vault.remove_older_generations().unwrap();
}

fn run(vault: &mut Vault, observer: &dyn Observer) -> Result<Summary, Error> {
    reencrypt::reencrypt(vault, &Options { until: None, clock: now, wait: &|_| {} }, observer)
}

fn is_complete(summary: &Summary) -> bool {
    matches!(summary.ended, Ended::Complete { .. }) && summary.kept == 0 && summary.left.objects == 0
}

/// The epochs that the packs, indexes and bodies in the store are sealed under.
fn epochs(store: &dyn Store) -> BTreeSet<u32> {
    let packs = store.list("p/").unwrap();
    packs
        .iter()
        .map(|listed| {
            strongroom::seal::pseal::peek(&store.get(&listed.name, u64::MAX).unwrap()).unwrap().epoch.0
        })
        .collect()
}

/// Two snapshots under epoch 1, one under epoch 2.
fn rotated(site: &Site, source: &Path) {
    for round in 1..3 {
        write_source(source, round);
        site.backup(source).unwrap();
    }
    rotate(&mut site.unlock());
    write_source(source, 3);
    site.backup(source).unwrap();
}

#[test]
fn afterwards_no_object_is_under_an_older_epoch_and_its_secrets_are_gone() {
    let (site, store) = in_memory();
    let source = site.home.path().join("source");
    rotated(&site, &source);
    assert_eq!(epochs(&store), [1, 2].into());
    let mut owner = site.unlock();
    let seed = owner.ring().epoch(Epoch(1)).unwrap().seal_seed.duplicate();
    let before = site.unlock().ring().epochs.len();
    let summary = run(&mut owner, &Silent).unwrap();
    assert!(is_complete(&summary), "{summary:?}");
    assert!(matches!(summary.ended, Ended::Complete { dropped: Some(Epoch(1)) }));
    assert!(summary.done.objects >= 6 && before == 2);
    assert_eq!(epochs(&store), [2].into());
    let keys = site.unlock().log().keys().clone();
    assert_eq!((keys.oldest, keys.open, keys.newest), (Epoch(2), Epoch(2), Epoch(2)));
    let ring = site.unlock();
    assert_eq!(ring.ring().epochs.len(), 1);
    let same = ring.ring().epochs[0].seal_seed.expose(|new| seed.expose(|old| new == old));
    assert!(!same);

    for which in ["latest", "latest~1", "latest~2"] {
        let (restored, _) = restore(&site, &source, which);
        assert_eq!((restored.damaged_count, restored.problems), (0, 0), "{which}");
    }
    let (_, target) = site.restore_latest(&source, "after");
    assert_eq!(describe(&target), describe(&source));
    // What the device knows of its chunks goes on being good.
    let again = site.backup(&source).unwrap();
    assert!(again.counts.bytes_stored < 70_000, "{}: no more than trees", again.counts.bytes_stored);
    // There is nothing left to do, and it says so.
    let summary = run(&mut site.unlock(), &Silent).unwrap();
    assert!(is_complete(&summary) && summary.done.objects == 0, "{summary:?}");
}

fn restore(
    site: &Site,
    source: &Path,
    which: &str,
) -> (strongroom::task::restore::Summary, std::path::PathBuf) {
    use strongroom::task::browse;
    let vault = site.unlock();
    let listing = browse::snapshots(&vault);
    let wanted = browse::Which::parse(which).unwrap();
    let listed = browse::choose(&listing.snapshots, &wanted, &browse::Filters::default()).unwrap();
    let reader = browse::reader(&vault, listed).unwrap();
    let target = site.home.path().join(format!("{which} {}", now()));
    let source = source.canonicalize().unwrap();
    let subpath = source.to_str().unwrap().trim_start_matches('/');
    let options = strongroom::task::restore::Options {
        subpath: strongroom::tree::path::TreePath::parse(subpath.as_bytes()).unwrap(),
        ..strongroom::task::restore::Options::default()
    };
    (strongroom::task::restore::restore(&reader, &target, &options, &Silent).unwrap(), target)
}

#[test]
fn it_can_be_cut_off_at_any_write_and_goes_on_with_backups_in_between() {
    for kind in [Kind::Io, Kind::Full] {
        for at in 1.. {
            let (site, store) = in_memory();
            let source = site.home.path().join("source");
            rotated(&site, &source);
            let mut owner = site.unlock();
            let first = store.writes() + at;
            store.plan(Some(Fault::lasting(kind, first)));
            let ended = run(&mut owner, &Silent);
            store.plan(None);
            let which = format!("{kind:?} at write {at}: {ended:?}");
            let through = ended.as_ref().is_ok_and(is_complete);

            let (restored, target) = site.restore_latest(&source, "between");
            assert_eq!((restored.damaged_count, restored.problems), (0, 0), "{which}");
            assert_eq!(describe(&target), describe(&source), "{which}");
            write_source(&source, 4);
            site.backup(&source).unwrap();
            let packs = store.list("p/").unwrap().len();
            let summary = run(&mut site.unlock(), &Silent).unwrap();
            assert!(is_complete(&summary), "{which}, then {summary:?}");
            assert!(store.list("p/").unwrap().len() <= packs, "{which}: what was sealed before is used");
            assert_eq!(epochs(&store), [2].into(), "{which}");
            let (restored, target) = site.restore_latest(&source, "after");
            assert_eq!((restored.damaged_count, restored.problems), (0, 0), "{which}");
            assert_eq!(describe(&target), describe(&source), "{which}");
            if through {
                assert!(at > 15, "it makes more writes than {at}");
                break;
            }
        }
    }
}

#[test]
fn going_on_after_a_cut_opens_what_was_sealed_before_once_and_no_more() {
    let operations_of = |is_cut: bool| {
        let (site, store) = in_memory();
        let source = site.home.path().join("source");
        for round in 0..12 {
            write_source(&source, round);
            site.backup(&source).unwrap();
        }
        rotate(&mut site.unlock());
        let objects = reencrypt::survey(site.unlock().locked(), &Silent).unwrap().left.objects;
        if is_cut {
            // All are sealed anew and put; the record that says so is not.
            store.plan(Some(Fault::lasting(Kind::Io, store.writes() + objects + 1)));
            assert!(run(&mut site.unlock(), &Silent).is_err());
            store.plan(None);
        }
        let packs = store.list("p/").unwrap().len() as u64;
        assert_eq!(packs, if is_cut { objects * 2 } else { objects });
        let mut owner = site.unlock();
        let before = store.operations();
        assert!(is_complete(&run(&mut owner, &Silent).unwrap()));
        assert_eq!(store.list("p/").unwrap().len() as u64, objects, "what was sealed before is used");
        (objects, store.operations() - before)
    };
    let (objects, fresh) = operations_of(false);
    let (again, resumed) = operations_of(true);
    assert_eq!(objects, again);
    assert!(
        resumed <= fresh + 3 * objects,
        "{objects} objects: {fresh} operations, and {resumed} after a cut"
    );
}

/// Lets a backup run at each step of a re-encryption.
struct Meanwhile<'a> {
    site: &'a Site,
    source: &'a Path,
    rounds: std::sync::Mutex<u8>,
}

impl Observer for Meanwhile<'_> {
    fn event(&self, event: &Event<'_>) {
        if let Event::Progress { .. } | Event::Phase(_) = event {
            // Two that re-encrypt at once don't wait for one another's backup.
            let Ok(mut round) = self.rounds.try_lock() else { return };
            *round += 1;
            write_source(self.source, *round);
            // A backup waits for the pool, so it can't run on one of the pool's own threads.
            std::thread::scope(|scope| {
                scope.spawn(|| self.site.backup(self.source).unwrap()).join().unwrap();
            });
        }
    }
}

#[test]
fn backups_go_on_at_every_step_of_it() {
    let (site, store) = in_memory();
    let source = site.home.path().join("source");
    rotated(&site, &source);
    let meanwhile = Meanwhile { site: &site, source: &source, rounds: 10.into() };
    let summary = run(&mut site.unlock(), &meanwhile).unwrap();
    assert!(is_complete(&summary), "{summary:?}");
    assert!(*meanwhile.rounds.lock().unwrap() > 13);
    assert_eq!(epochs(&store), [2].into());
    let (restored, target) = site.restore_latest(&source, "after");
    assert_eq!((restored.damaged_count, restored.problems), (0, 0));
    assert_eq!(describe(&target), describe(&source));
}

struct EndsAfter(std::sync::atomic::AtomicU64);

impl Observer for EndsAfter {
    fn event(&self, event: &Event<'_>) {
        if let Event::Progress { .. } = event {
            let left = self.0.load(std::sync::atomic::Ordering::Relaxed);
            self.0.store(left.saturating_sub(1), std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn interrupted(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed) == 0
    }
}

#[test]
fn what_was_done_before_an_interruption_stays_done() {
    let (site, _) = in_memory();
    let source = site.home.path().join("source");
    rotated(&site, &source);
    let before = reencrypt::survey(site.unlock().locked(), &Silent).unwrap().left;
    let ended = run(&mut site.unlock(), &EndsAfter(2.into()));
    assert!(matches!(ended, Err(Error::Interrupted)));
    let after = reencrypt::survey(site.unlock().locked(), &Silent).unwrap().left;
    assert!(after.objects < before.objects && after.objects > 0, "{before:?} {after:?}");
    assert!(is_complete(&run(&mut site.unlock(), &Silent).unwrap()));
}

#[test]
fn a_damaged_object_keeps_its_epochs_secrets_and_all_others_are_sealed_anew() {
    let (site, store) = in_memory();
    let source = site.home.path().join("source");
    rotated(&site, &source);
    let device = site.device().unwrap().device();
    let listed = store.list(&format!("p/{device}/")).unwrap();
    let old = listed.iter().find(|listed| {
        strongroom::seal::pseal::peek(&store.get(&listed.name, u64::MAX).unwrap()).unwrap().epoch == Epoch(1)
    });
    let name = &old.unwrap().name;
    let mut bytes = store.get(name, u64::MAX).unwrap();
    bytes[2_000] ^= 1;
    store.remove(name).unwrap();
    store.put(name, &bytes).unwrap();
    let summary = run(&mut site.unlock(), &Silent).unwrap();
    let Ended::Hindered(problems) = &summary.ended else { panic!("{summary:?}") };
    assert!(matches!(&problems[..], [error::Error::Damaged { name: damaged, .. }] if damaged == name));
    assert_eq!(summary.left.objects, 1);
    assert_eq!(site.unlock().log().keys().oldest, Epoch(1));
    assert_eq!(site.unlock().ring().epochs.len(), 2);
}

#[test]
fn a_restore_that_began_before_goes_on_after_everything_has_moved() {
    use strongroom::task::browse;
    let (site, store) = in_memory();
    let source = site.home.path().join("source");
    write_source(&source, 1);
    site.backup(&source).unwrap();
    let vault = site.unlock();
    let listing = browse::snapshots(&vault);
    let latest = browse::Which::parse("latest").unwrap();
    let listed = browse::choose(&listing.snapshots, &latest, &browse::Filters::default()).unwrap();
    // One reader that has read something already, one that has read nothing but the body.
    let readers = [browse::reader(&vault, listed).unwrap(), browse::reader(&vault, listed).unwrap()];
    let subpath = source.canonicalize().unwrap();
    let subpath = subpath.to_str().unwrap().trim_start_matches('/');
    let path = |below: &str| {
        strongroom::tree::path::TreePath::parse(format!("{subpath}{below}").as_bytes()).unwrap()
    };
    let dump = |reader| {
        let browse::At::Entry(entry) = browse::entry_at(reader, &path("/letter")).unwrap() else { panic!() };
        let mut bytes = Vec::new();
        browse::dump(reader, &entry, &mut bytes).map(|()| bytes)
    };
    let letter = dump(&readers[0]).unwrap();
    // Twice: the second time the epoch that it moved to is new to the readers as well.
    for round in 0..2 {
        rotate(&mut site.unlock());
        assert!(is_complete(&run(&mut site.unlock(), &Silent).unwrap()));
        for (number, reader) in readers.iter().enumerate() {
            assert!(dump(reader).unwrap() == letter, "round {round}, reader {number}");
            let target = site.home.path().join(format!("target {round} {number}"));
            let options = strongroom::task::restore::Options {
                subpath: path(""),
                ..strongroom::task::restore::Options::default()
            };
            let restored = strongroom::task::restore::restore(reader, &target, &options, &Silent).unwrap();
            assert_eq!((restored.damaged_count, restored.problems), (0, 0), "round {round}, reader {number}");
            assert_eq!(describe(&target), describe(&source));
        }
    }
    // What is gone is gone: nobody looks for it for ever.
    for listed in store.list("p/").unwrap() {
        store.remove(&listed.name).unwrap();
    }
    assert!(matches!(
        browse::reader(&site.unlock(), listed),
        Err(Error::Vault(error::Error::Missing { .. }))
    ));
}

/// A store that lets something happen right before the next header is put.
struct BeforeHeader {
    inner: Memory,
    meanwhile: std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Store for BeforeHeader {
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), store::Error> {
        let meanwhile = name.as_str().starts_with("s/").then(|| self.meanwhile.lock().unwrap().take());
        if let Some(happen) = meanwhile.flatten() {
            happen();
        }
        self.inner.put(name, bytes)
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, store::Error> {
        self.inner.get(name, bytes_max)
    }

    fn get_range(&self, name: &ObjectName, range: std::ops::Range<u64>) -> Result<Vec<u8>, store::Error> {
        self.inner.get_range(name, range)
    }

    fn size(&self, name: &ObjectName) -> Result<u64, store::Error> {
        self.inner.size(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<store::Listed>, store::Error> {
        self.inner.list(prefix)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), store::Error> {
        self.inner.remove(name)
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn writable(&self) -> Result<(), store::Error> {
        self.inner.writable()
    }
}

#[test]
fn a_header_that_goes_in_between_the_announcement_and_the_owners_list_is_committed_again() {
    let store = Arc::new(BeforeHeader { inner: Memory::new(), meanwhile: None.into() });
    let site = Site::new(Arc::<BeforeHeader>::clone(&store));
    let source = site.home.path().join("source");
    write_source(&source, 1);
    let mut owner = site.unlock();
    rotate(&mut owner);
    // The owner closes the older epoch and lists headers; this one is not among them yet.
    let owner = Arc::new(std::sync::Mutex::new(owner));
    let closing = Arc::clone(&owner);
    *store.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let close = |draft: &mut strongroom::vault::change::Draft| {
            draft.close_older_epochs();
            Ok(())
        };
        closing.lock().unwrap().change_keys(now(), &|_| {}, &close).unwrap();
    }));
    site.backup(&source).unwrap();
    assert!(store.meanwhile.lock().unwrap().is_none());
    let mut owner = owner.lock().unwrap();
    owner
        .change_keys(now(), &|_| {}, &|draft| {
            draft.drop_older_epochs(Vec::new());
            Ok(())
        })
        .unwrap();

    let history = site.unlock().locked().history(site.device().unwrap().device()).unwrap();
    assert_eq!(history.invalid().len(), 1, "the first header came too late");
    let (restored, target) = site.restore_latest(&source, "after");
    assert_eq!((restored.damaged_count, restored.problems), (0, 0));
    assert_eq!(describe(&target), describe(&source));
    // And so for what rests on it.
    fs::write(source.join("more"), [9; 200_000]).unwrap();
    site.backup(&source).unwrap();
    let (restored, target) = site.restore_latest(&source, "later");
    assert_eq!((restored.damaged_count, restored.problems), (0, 0));
    assert_eq!(describe(&target), describe(&source));
}

#[test]
fn a_reader_re_encrypts_nothing() {
    let (site, _) = in_memory();
    let mut owner = site.unlock();
    let way = harness::way(2);
    let (keys, lock) = strongroom::vault::slot::generate(
        &site.fingerprint,
        strongroom::vault::slot::Role::Reader,
        &way,
        &strongroom::crypto::kdf::Argon2Settings::DEFAULT,
        "reader",
    )
    .unwrap();
    owner
        .change_keys(now(), &|_| {}, &|draft| {
            draft.add_slot(strongroom::vault::change::DraftSlot {
                role: strongroom::vault::slot::Role::Reader,
                keys: keys.duplicate(),
                lock: lock.clone(),
            })
        })
        .unwrap();
    let mut reader = site.unlock_with(&way).unwrap();
    assert!(matches!(run(&mut reader, &Silent), Err(Error::Vault(error::Error::NotOwner))));
}

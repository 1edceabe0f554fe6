//! A device that lost its memory, or was set back to an older state, goes on once an owner says where it was.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use harness::Site;
use harness::copy;
use harness::describe;
use harness::noise;
use harness::now;
use harness::way;
use strongroom::crypto::kdf::Argon2Settings;
use strongroom::id::DeviceId;
use strongroom::observe::Silent;
use strongroom::store::Fault;
use strongroom::store::Faulty;
use strongroom::store::Kind;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task;
use strongroom::task::reseed;
use strongroom::task::reseed::Summary;
use strongroom::task::verify::ReadData;
use strongroom::task::verify::verify_private;
use strongroom::vault::change::DraftSlot;
use strongroom::vault::error::Error;
use strongroom::vault::machine::Machine;
use strongroom::vault::slot;
use strongroom::vault::slot::Role;

/// More than the folders on the way to a source take, which change as other tests run; less than any file.
const LITTLE: u64 = 5_000;

/// A vault, its device, and a folder that it backs up.
struct Case {
    memory: Memory,
    site: Site,
    source: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let memory = Memory::new();
        let site = Site::new(Arc::new(memory.clone()));
        let case = Self { memory, site, source: tempfile::tempdir().unwrap() };
        case.write("first", 1);
        case
    }

    /// Writes a file of some chunks that no compression makes small.
    fn write(&self, name: &str, seed: u64) {
        std::fs::write(self.source.path().join(name), noise(seed, 300_000)).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.source.path().join(name)).unwrap();
    }

    /// Backs up, and says how many bytes were new.
    fn backup(&self) -> u64 {
        self.site.backup(self.source.path()).unwrap().counts.bytes_new
    }

    fn device(&self) -> DeviceId {
        self.site.machine.device(&self.site.fingerprint).unwrap().unwrap()
    }

    fn state(&self) -> PathBuf {
        self.site.machine.vault_state(&self.site.fingerprint).path().to_owned()
    }

    fn reseed(&self) -> Summary {
        reseed::reseed(&mut self.site.unlock(), self.device(), now(), &|_| (), &Silent).unwrap()
    }

    /// What the disk forgot: all that is only a cache.
    fn lose_caches(&self) {
        for name in names(&self.state()) {
            if ["chunks-", "files-", "jobs", "journal"].iter().any(|cache| name.starts_with(cache)) {
                std::fs::remove_file(self.state().join(name)).unwrap();
            }
        }
    }

    fn reseeds(&self) -> Vec<String> {
        names(&self.state()).into_iter().filter(|name| name.starts_with("reseed-")).collect()
    }

    /// A copy of the state as it is now, to be put back.
    fn keep_state(&self) -> tempfile::TempDir {
        let kept = tempfile::tempdir().unwrap();
        copy(&self.site.home.path().join("state"), kept.path());
        kept
    }

    fn put_back(&self, kept: &tempfile::TempDir) {
        let state = self.site.home.path().join("state");
        std::fs::remove_dir_all(&state).unwrap();
        copy(kept.path(), &state);
    }

    fn is_whole(&self, snapshots: usize) {
        assert_eq!(self.site.snapshots(), snapshots);
        let report = verify_private(&self.site.unlock(), None, &[], &ReadData::All, &Silent).unwrap();
        assert!(report.is_sound());
        let (restored, target) = self.site.restore_latest(self.source.path(), &format!("restored {}", now()));
        assert_eq!(restored.damaged_count, 0);
        assert_eq!(describe(&target), describe(self.source.path()));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_lost_cache_costs_one_upload_and_after_a_reseed_none() {
    let case = Case::new();
    assert!(case.backup() > 300_000);
    case.lose_caches();
    assert!(case.backup() > 300_000, "nothing is known, all is sent");
    case.lose_caches();
    let told = case.reseed();
    assert_eq!((told.jobs, told.left_out, told.damaged, told.head.seq), (1, 0, 0, 2));
    assert!(told.chunks > 5);
    assert!(case.backup() < LITTLE, "nothing is sent but folders on the way");
    case.is_whole(3);
    // From here on the table tells, and what the owner gave is gone.
    assert_eq!(case.reseeds(), [""; 0]);
    assert!(case.backup() < LITTLE);
}

#[test]
fn a_reseed_waits_for_each_of_its_jobs() {
    let case = Case::new();
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("other"), noise(9, 200_000)).unwrap();
    case.backup();
    case.site.backup(other.path()).unwrap();
    case.lose_caches();
    assert_eq!(case.reseed().jobs, 2);
    assert!(case.backup() < LITTLE);
    assert_eq!(case.reseeds().len(), 1);
    assert!(case.backup() < LITTLE);
    assert!(case.site.backup(other.path()).unwrap().counts.bytes_new < LITTLE);
    assert_eq!(case.reseeds(), [""; 0]);
}

#[test]
fn a_reseed_gives_no_chunk_that_only_an_older_snapshot_had() {
    let case = Case::new();
    case.write("letter", 2);
    let both = case.backup();
    case.remove("letter");
    case.backup();
    case.lose_caches();
    case.reseed();
    case.write("letter", 2);
    let sent = case.backup();
    assert!(sent > 300_000 && sent < both, "{sent} of {both}");
    case.is_whole(3);
}

#[test]
fn jobs_that_ran_no_more_for_45_days_are_left_out() {
    let case = Case::new();
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("other"), noise(9, 200_000)).unwrap();
    let day = 24 * 3600 * 1_000_000_000;
    let at = |days: u64| Some(2_100_000_000_000_000_000 + days * day);
    case.site.backup_with(other.path(), |options| options.time = at(0)).unwrap();
    case.site.backup_with(case.source.path(), |options| options.time = at(45)).unwrap();
    assert_eq!(case.reseed().jobs, 2);
    case.site.backup_with(case.source.path(), |options| options.time = at(46)).unwrap();
    assert_eq!(case.reseed().jobs, 1);
}

#[test]
fn a_device_set_back_to_an_older_state_goes_on_where_an_owner_says() {
    let case = Case::new();
    case.backup();
    let older = case.keep_state();
    case.write("second", 2);
    case.backup();
    case.write("third", 3);
    case.backup();
    case.put_back(&older);
    assert!(matches!(case.site.device(), Err(Error::Cloned { seq: 3, .. })));
    assert_eq!(case.reseed().head.seq, 3);
    assert_eq!(case.site.device().unwrap().head().unwrap().seq, 3);
    assert!(case.backup() < LITTLE);
    case.is_whole(4);
}

#[test]
fn what_a_device_set_back_remembers_of_an_older_snapshot_is_forgotten() {
    let case = Case::new();
    case.write("letter", 2);
    case.backup();
    let older = case.keep_state();
    case.remove("letter");
    case.backup();
    case.put_back(&older);
    case.reseed();
    case.write("letter", 2);
    assert!(case.backup() > 300_000, "the table of the first snapshot counts no more");
    case.is_whole(3);
}

#[test]
fn a_clone_that_adds_snapshots_is_refused_before_and_after() {
    let case = Case::new();
    case.backup();
    let home = tempfile::tempdir().unwrap();
    copy(&case.site.home.path().join("state"), &home.path().join("state"));
    let clone = Site {
        store: Arc::new(case.memory.clone()),
        machine: Machine::new(&home.path().join("state")),
        fingerprint: case.site.fingerprint,
        home,
    };
    case.reseed();
    // The second machine adds what the owner hasn't seen.
    case.write("second", 2);
    clone.backup(case.source.path()).unwrap();
    assert!(matches!(case.site.device(), Err(Error::Cloned { seq: 2, .. })));
    assert!(clone.device().is_ok());
    // Whoever is let go on, of two that both run one always stops.
    case.reseed();
    case.backup();
    assert!(matches!(clone.device(), Err(Error::Cloned { seq: 3, .. })));
}

#[test]
fn a_reseed_that_was_made_before_the_devices_newest_snapshot_gives_nothing() {
    let case = Case::new();
    case.write("letter", 2);
    case.backup();
    let told = case.reseed();
    // The device hasn't read it when it adds the next snapshot: as if both happened at once.
    let record = case.memory.list("a/").unwrap().pop().unwrap().name;
    let kept = [record.clone(), record.second()]
        .map(|name| (name.clone(), case.memory.get(&name, 1 << 20).unwrap()));
    for (name, _) in &kept {
        case.memory.remove(name).unwrap();
    }
    case.remove("letter");
    case.backup();
    case.lose_caches();
    for (name, bytes) in &kept {
        case.memory.put(name, bytes).unwrap();
    }
    assert_eq!((told.head.seq, case.site.device().unwrap().head().unwrap().seq), (1, 2));
    assert_eq!(case.reseeds(), [""; 0]);
}

#[test]
fn a_reseed_file_that_is_damaged_costs_an_upload_and_is_removed() {
    let case = Case::new();
    case.backup();
    case.lose_caches();
    case.reseed();
    drop(case.site.device().unwrap());
    let file = case.state().join(&case.reseeds()[0]);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(case.backup() > 300_000);
    assert!(!file.exists());
    case.is_whole(2);
}

#[test]
fn a_reader_reseeds_nobody_and_a_revoked_device_is_not_reseeded() {
    let case = Case::new();
    case.backup();
    let mut owner = case.site.unlock();
    let (keys, lock) =
        slot::generate(&case.site.fingerprint, Role::Reader, &way(2), &Argon2Settings::LEAST, "reader")
            .unwrap();
    owner
        .change_keys(now(), &|_| (), &|draft| {
            let (keys, lock) = (keys.duplicate(), lock.clone());
            draft.add_slot(DraftSlot { role: Role::Reader, keys, lock })
        })
        .unwrap();
    let mut reader = case.site.unlock_with(&way(2)).unwrap();
    let refused = reseed::reseed(&mut reader, case.device(), now(), &|_| (), &Silent);
    assert!(matches!(refused, Err(task::error::Error::Vault(Error::NotOwner))));
    owner.revoke_device(case.device(), None, now(), &|_| ()).unwrap();
    let refused = reseed::reseed(&mut case.site.unlock(), case.device(), now(), &|_| (), &Silent);
    assert!(matches!(refused, Err(task::error::Error::Vault(Error::Revoked { .. }))));
}

#[test]
fn a_device_is_reseeded_across_rotations() {
    let case = Case::new();
    case.backup();
    let older = case.keep_state();
    let rotate = || {
        let mut vault = case.site.unlock();
        vault
            .change_keys(now(), &|_| (), &|draft| {
                draft.start_epoch();
                Ok(())
            })
            .unwrap();
    };
    rotate();
    case.write("second", 2);
    case.backup();
    case.reseed();
    rotate();
    case.put_back(&older);
    assert!(case.backup() < LITTLE);
    case.is_whole(3);
}

#[test]
fn a_reseed_cut_off_at_any_write_has_happened_or_not() {
    for kind in [Kind::Io, Kind::AfterWrite] {
        let mut at = 1;
        loop {
            let store = Arc::new(Faulty::new(Memory::new()));
            let site = Site::new(Arc::<Faulty<Memory>>::clone(&store));
            let source = tempfile::tempdir().unwrap();
            std::fs::write(source.path().join("file"), noise(1, 100_000)).unwrap();
            site.backup(source.path()).unwrap();
            let state = site.machine.vault_state(&site.fingerprint).path().to_owned();
            for name in
                names(&state).iter().filter(|name| name.starts_with("chunks-") || name.starts_with("files-"))
            {
                std::fs::remove_file(state.join(name)).unwrap();
            }
            let device = site.machine.device(&site.fingerprint).unwrap().unwrap();
            let mut vault = site.unlock();
            store.plan(Some(Fault::lasting(kind, store.writes() + at)));
            let ended = reseed::reseed(&mut vault, device, now(), &|_| (), &Silent);
            store.plan(None);
            let again = site.backup(source.path()).unwrap();
            if ended.is_ok() {
                assert!(again.counts.bytes_new < LITTLE, "{kind:?} at write {at}");
                assert!(at > 4, "message and record are put twice");
                break;
            }
            let sent = again.counts.bytes_new;
            assert!(!(LITTLE..100_000).contains(&sent), "{kind:?} at write {at}: {sent}");
            site.restore_latest(source.path(), "after");
            at += 1;
        }
    }
}

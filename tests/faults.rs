//! A store whose power is cut, whose disk is full or whose answers are lost, at the first write, then
//! the second, and so on until a backup gets through; every time the vault holds what it held.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use harness::Site;
use harness::describe;
use harness::now;
use harness::way;
use strongroom::crypto::kdf::Argon2Settings;
use strongroom::id::Fingerprint;
use strongroom::observe::Silent;
use strongroom::store::Fault;
use strongroom::store::Faulty;
use strongroom::store::Kind;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task::verify::ReadData;
use strongroom::task::verify::verify_public;
use strongroom::vault;
use strongroom::vault::LockedVault;
use strongroom::vault::device::DeviceKeys;
use strongroom::vault::init::DeviceHome;
use strongroom::vault::init::NewSlot;
use strongroom::vault::init::NewVault;
use strongroom::vault::init::Opens;
use strongroom::vault::machine::Machine;
use strongroom::vault::slot::Role;

fn write_source(root: &Path, round: u8) {
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("letter"), format!("Dear customer {round},\n").repeat(5_000)).unwrap();
    fs::write(root.join("deep/er/note"), [round; 3_000]).unwrap();
    fs::write(root.join(format!("deep/only in {round}")), [round; 40]).unwrap();
}

/// Runs a backup with each fault in turn, and after each one without.
fn each_write_fails_once(kind: Kind, lasting: bool) {
    let mut at = 1;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        write_source(&source, 1);
        let store = Arc::new(Faulty::new(Memory::new()));
        let site = Site::new(Arc::<Faulty<Memory>>::clone(&store));
        site.backup(&source).unwrap();
        let before = describe(&source);
        write_source(&source, 2);
        let first = store.writes() + at;
        let fault = if lasting { Fault::lasting(kind, first) } else { Fault::once(kind, first) };
        store.plan(Some(fault));
        let ended = site.backup(&source);
        store.plan(None);
        let got_through = ended.is_ok();

        // What was committed before is whole, and so is what was said to be committed now.
        let (restored, target) = site.restore_latest(&source, "after");
        assert_eq!((restored.damaged_count, restored.problems), (0, 0), "{kind:?} at write {at}");
        let now = describe(&target);
        let second = describe(&source);
        assert!(now == before || now == second, "{kind:?} at write {at}");
        assert!(!got_through || now == second, "{kind:?} at write {at}: committed and not there");

        // The next run goes on from whatever is left.
        let again = site.backup(&source);
        assert!(again.is_ok(), "{kind:?} at write {at}: {}", again.err().unwrap());
        let (restored, target) = site.restore_latest(&source, "again");
        assert_eq!((restored.damaged_count, restored.problems), (0, 0), "{kind:?} at write {at}");
        assert_eq!(describe(&target), second, "{kind:?} at write {at}");
        if got_through && kind != Kind::AfterWrite {
            assert!(at > 4, "a backup makes several writes");
            return;
        }
        if at > 40 {
            return;
        }
        at += 1;
    }
}

#[test]
fn the_power_can_be_cut_at_any_write() {
    each_write_fails_once(Kind::Io, true);
}

#[test]
fn any_write_can_fail_once() {
    each_write_fails_once(Kind::Io, false);
}

#[test]
fn the_disk_can_be_full_at_any_write() {
    each_write_fails_once(Kind::Full, true);
}

#[test]
fn any_answer_can_be_lost() {
    each_write_fails_once(Kind::AfterWrite, false);
}

/// Whether a backup gets through of whose writes the `at`-th, or all from there on, are acknowledged and
/// lost; nothing if it makes fewer. If it does, its snapshot is there and whole; if not, none is.
fn gets_through(at: u64, lasting: bool) -> Option<bool> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    write_source(&source, 1);
    let store = Arc::new(Faulty::new(Memory::new()));
    let site = Site::new(Arc::<Faulty<Memory>>::clone(&store));
    site.backup(&source).unwrap();
    let first = describe(&source);
    write_source(&source, 2);
    let lost = store.writes() + at;
    let fault = if lasting { Fault::lasting(Kind::Lost, lost) } else { Fault::once(Kind::Lost, lost) };
    store.plan(Some(fault));
    let ended = site.backup(&source);
    store.plan(None);
    if store.writes() < lost {
        return None;
    }
    let listing = site.snapshots();
    let expected = if ended.is_ok() { (2, describe(&source)) } else { (1, first) };
    assert_eq!(listing, expected.0, "snapshots when write {at} was lost: {:?}", ended.err());
    let (restored, target) = site.restore_latest(&source, "after");
    assert_eq!((restored.damaged_count, restored.problems), (0, 0), "write {at}");
    assert_eq!(describe(&target), expected.1, "write {at}");
    // The next run goes on from whatever is left.
    site.backup(&source).unwrap();
    assert_eq!(describe(&site.restore_latest(&source, "again").1), describe(&source), "write {at}");
    Some(expected.0 == 2)
}

#[test]
fn a_write_that_is_acknowledged_and_lost_is_noticed_before_the_snapshot_exists() {
    // One alone is put once more, or is of a header, which has a second copy.
    let once: Vec<bool> = (1..).map_while(|at| gets_through(at, false)).collect();
    assert!(once.len() > 4 && once.iter().all(|through| *through), "{once:?}");
    // Once nothing is kept any more, only the header's second copy can be spared.
    let lasting: Vec<bool> = (1..).map_while(|at| gets_through(at, true)).collect();
    let (last, before) = lasting.split_last().unwrap();
    assert!(*last && before.len() > 3 && before.iter().all(|through| !through), "{lasting:?}");
}

/// Makes a vault with a new device that has its state below `home`.
fn init(store: &Arc<dyn Store>, home: &Path) -> Result<(Machine, Fingerprint), vault::error::Error> {
    let machine = Machine::new(&home.join("state"));
    let (device, way) = (DeviceKeys::generate(), way(1));
    let slots = [NewSlot { opens: Opens::Way(&way), label: "owner", role: Role::Owner }];
    let new = NewVault::generate(
        &slots,
        &Argon2Settings::DEFAULT,
        (&device, "laptop"),
        DeviceHome::Machine,
        now(),
    )?;
    let fingerprint = new.fingerprint();
    new.put(store, &device, &machine.vault_state(&fingerprint), now())?;
    Ok((machine, fingerprint))
}

#[test]
fn an_init_can_end_at_any_write_and_the_next_one_makes_a_vault_that_is_whole_and_has_nothing_else_in_it() {
    for kind in [Kind::Io, Kind::Full, Kind::AfterWrite] {
        let mut at = 1;
        loop {
            let home = tempfile::tempdir().unwrap();
            let faulty = Arc::new(Faulty::with_fault(Memory::new(), Fault::lasting(kind, at)));
            let store: Arc<dyn Store> = Arc::<Faulty<Memory>>::clone(&faulty);
            let first = init(&store, home.path());
            faulty.plan(None);
            if first.is_ok() {
                break;
            }
            match init(&store, home.path()) {
                Ok((_, fingerprint)) => {
                    let locked = LockedVault::load(Arc::clone(&store), Some(&fingerprint)).unwrap();
                    locked.unlock(&way(1)).unwrap();
                }
                // It got as far as its device, and only the end was not told.
                Err(vault::error::Error::VaultExists { .. }) => {
                    assert!(LockedVault::load(Arc::clone(&store), None).unwrap().log().devices().len() == 1);
                }
                Err(error) => panic!("{kind:?} at write {at}: {error}"),
            }
            let locked = LockedVault::load(Arc::clone(&store), None).unwrap();
            let report = verify_public(&locked, None, &[], &ReadData::All, &Silent).unwrap();
            assert_eq!(report.strays, 0, "{kind:?} at write {at}");
            at += 1;
        }
        assert!(at > 15, "{kind:?}: an init makes more writes than {at}");
    }
}

#[test]
fn a_run_cut_off_between_the_two_copies_of_its_last_object_is_completed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    write_source(&source, 1);
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let site = Site::new(Arc::clone(&store));
    site.backup(&source).unwrap();
    let newest = |prefix: &str| store.list(prefix).unwrap().pop().unwrap().name;
    // Of the header its second copy is not there yet; the record, as if it were so, has only that.
    let (header, record) = (newest("s/"), newest("a/"));
    store.remove(&header.second()).unwrap();
    store.remove(&record).unwrap();
    write_source(&source, 2);
    site.backup(&source).unwrap();
    let locked = LockedVault::load(Arc::clone(&store), Some(&site.fingerprint)).unwrap();
    assert!(verify_public(&locked, None, &[], &ReadData::All, &Silent).unwrap().is_sound());
}

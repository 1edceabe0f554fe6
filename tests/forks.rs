//! Two records at the last place of the authority log: everybody stops, and an owner settles it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::sync::Arc;

use harness::Site;
use harness::now;
use harness::way;
use strongroom::crypto::kdf::Argon2Settings;
use strongroom::crypto::sign::SigningKey;
use strongroom::id::Digest;
use strongroom::observe::Silent;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task::verify::ReadData;
use strongroom::task::verify::verify_public;
use strongroom::vault::LockedVault;
use strongroom::vault::Vault;
use strongroom::vault::authority::Log;
use strongroom::vault::authority::LogHead;
use strongroom::vault::authority::record_name;
use strongroom::vault::change::DraftSlot;
use strongroom::vault::error::Error;
use strongroom::vault::fetch;
use strongroom::vault::fork::Fork;
use strongroom::vault::name::Place;
use strongroom::vault::name::first8;
use strongroom::vault::record::Payload;
use strongroom::vault::record::Record;
use strongroom::vault::slot;
use strongroom::vault::slot::Role;

struct Case {
    memory: Memory,
    store: Arc<dyn Store>,
    site: Site,
    source: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let memory = Memory::new();
        let site = Site::new(Arc::new(memory.clone()));
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("file"), "something").unwrap();
        site.backup(source.path()).unwrap();
        Self { store: Arc::new(memory.clone()), memory, site, source }
    }

    fn key(&self) -> SigningKey {
        SigningKey::from_seed(self.site.unlock().admin().unwrap().authority_seed.duplicate())
    }

    /// Puts a record after `log`, its digest as `is_right` wants it.
    fn put(&self, log: &Log, key: &SigningKey, is_right: impl Fn(&Digest) -> bool) -> LogHead {
        let signed = (1..)
            .map(|time| log.next(Payload::Seen(Vec::new()), time).sign(key))
            .find(|signed| is_right(&signed.digest()))
            .unwrap();
        let seq = log.head().seq + 1;
        fetch::put_twice(&self.memory, &record_name(seq, &signed), signed.bytes()).unwrap();
        LogHead { seq, digest: signed.digest() }
    }

    /// What the last record says; there is one alone.
    fn last(&self) -> Payload {
        let name = self.memory.list("a/").unwrap().pop().unwrap().name;
        Record::decode(&self.memory.get(&name, 1 << 20).unwrap()).unwrap().payload
    }

    fn fork(&self) -> Result<Fork, Error> {
        Fork::load(&self.store, Some(&self.site.fingerprint))
    }

    fn settle(&self) -> Digest {
        let fork = self.fork().unwrap();
        let mut vault = fork.unlock(&way(1)).unwrap();
        fork.settle(&mut vault, now(), &|_| ()).unwrap();
        let Payload::Void(loser) = self.last() else { panic!("the last record is the VOID") };
        loser
    }

    fn stops_everybody(&self) {
        assert!(matches!(self.site.device(), Err(Error::Rivals { .. })));
        assert!(matches!(LockedVault::load(Arc::clone(&self.store), None), Err(Error::Rivals { .. })));
    }

    fn goes_on(&self) {
        self.site.backup(self.source.path()).unwrap();
        let locked = self.site.unlock();
        assert!(verify_public(locked.locked(), None, &[], &ReadData::All, &Silent).unwrap().is_sound());
        self.site.restore_latest(self.source.path(), &format!("restored {}", now()));
    }
}

fn rotate(vault: &mut Vault) -> LogHead {
    let start = |draft: &mut strongroom::vault::change::Draft| {
        draft.start_epoch();
        Ok(())
    };
    vault.change_keys(now(), &|_| (), &start).unwrap()
}

#[test]
fn of_two_records_at_the_last_place_an_owner_lets_one_stand_and_all_goes_on() {
    let case = Case::new();
    let mut owner = case.site.unlock();
    let (keys, lock) =
        slot::generate(&case.site.fingerprint, Role::Reader, &way(2), &Argon2Settings::LEAST, "reader")
            .unwrap();
    owner
        .change_keys(now(), &|_| (), &|draft| {
            draft.add_slot(DraftSlot { role: Role::Reader, keys: keys.duplicate(), lock: lock.clone() })
        })
        .unwrap();
    let (log, key) = (owner.log(), case.key());
    let one = case.put(log, &key, |_| true);
    let other = case.put(log, &key, |digest| *digest != one.digest);
    for rival in [one, other] {
        // Cut off between the two copies.
        let name = Place::Record { seq: rival.seq, digest: first8(&rival.digest) }.name();
        case.memory.remove(&name.second()).unwrap();
    }
    case.stops_everybody();

    let fork = case.fork().unwrap();
    assert_eq!(fork.seq(), one.seq);
    let mut reader = fork.unlock(&way(2)).unwrap();
    assert!(matches!(fork.settle(&mut reader, now(), &|_| ()), Err(Error::NotOwner)));
    case.stops_everybody();
    assert_eq!(case.settle(), one.digest.max(other.digest), "the lower digest stands");
    assert_eq!(case.site.unlock().log().at(one.seq).unwrap().digest, one.digest.min(other.digest));
    case.goes_on();
}

#[test]
fn two_owners_may_settle_it_at_the_same_time() {
    let case = Case::new();
    let (owner, key) = (case.site.unlock(), case.key());
    let one = case.put(owner.log(), &key, |_| true);
    case.put(owner.log(), &key, |digest| *digest != one.digest);
    let fork = case.fork().unwrap();
    let mut slower = fork.unlock(&way(1)).unwrap();
    case.settle();
    let records = case.memory.list("a/").unwrap().len();
    fork.settle(&mut slower, now(), &|_| ()).unwrap();
    assert_eq!(case.memory.list("a/").unwrap().len(), records);
    case.goes_on();
}

#[test]
fn a_record_that_a_snapshot_knew_of_stands_whatever_its_digest() {
    let case = Case::new();
    let (owner, key) = (case.site.unlock(), case.key());
    let known = case.put(owner.log(), &key, |digest| digest.0[0] > 0);
    case.site.backup(case.source.path()).unwrap();
    let rival = case.put(owner.log(), &key, |digest| *digest < known.digest);
    case.stops_everybody();
    assert_eq!(case.settle(), rival.digest);
    case.goes_on();
}

#[test]
fn keys_that_came_to_rule_stand_and_their_own_key_signs_the_void() {
    for keys_are_lower in [false, true] {
        let case = Case::new();
        let (before, key) = (case.site.unlock().log().clone(), case.key());
        let mut owner = case.site.unlock();
        let keys = rotate(&mut owner);
        owner.remove_older_generations().unwrap();
        let rival = case.put(&before, &key, |digest| (keys.digest < *digest) == keys_are_lower);
        case.stops_everybody();
        assert_eq!(case.settle(), rival.digest);
        assert_eq!(case.site.unlock().log().keys().generation, 2);
        case.goes_on();
    }
}

#[test]
fn keys_whose_slot_table_or_rings_are_missing_can_not_stand() {
    for prefix in ["k/", "r/"] {
        let case = Case::new();
        let (before, key) = (case.site.unlock().log().clone(), case.key());
        let keys = rotate(&mut case.site.unlock());
        let rival = case.put(&before, &key, |digest| keys.digest < *digest);
        for name in fetch::list_both(&case.memory, prefix).unwrap() {
            if let Some(Place::SlotTable { generation: 2, .. } | Place::Ring { generation: 2, .. }) =
                Place::parse(&name)
            {
                case.memory.remove(&name).unwrap();
                case.memory.remove(&name.second()).unwrap();
            }
        }
        assert_eq!(case.settle(), keys.digest, "{prefix}");
        let vault = case.site.unlock();
        assert_eq!((vault.log().keys().generation, vault.log().at(rival.seq)), (1, Some(rival)));
        drop(vault);
        case.goes_on();
    }
}

#[test]
fn two_records_before_the_last_place_or_three_at_it_are_not_settled() {
    let case = Case::new();
    let (owner, key) = (case.site.unlock(), case.key());
    let one = case.put(owner.log(), &key, |_| true);
    let first = Log::load(&case.memory, None).unwrap();
    let other = case.put(owner.log(), &key, |digest| *digest != one.digest);
    let whole = case.memory.snapshot();
    case.put(owner.log(), &key, |digest| *digest != one.digest && *digest != other.digest);
    assert!(matches!(case.fork(), Err(Error::Forked { .. })));
    case.memory.restore(&whole);
    case.put(&first, &key, |_| true);
    assert!(matches!(case.fork(), Err(Error::Forked { .. })));
    assert!(matches!(LockedVault::load(Arc::clone(&case.store), None), Err(Error::Forked { .. })));
}

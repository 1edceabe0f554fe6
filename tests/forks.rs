//! An authority log that two histories claim: who stops, who goes on, and how an owner settles it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::sync::Arc;

use harness::Site;
use harness::now;
use harness::way;
use strongroom::crypto::digest;
use strongroom::crypto::kdf::Argon2Settings;
use strongroom::crypto::random;
use strongroom::crypto::sign::SignatureType;
use strongroom::crypto::sign::SigningKey;
use strongroom::id::DeviceId;
use strongroom::id::Digest;
use strongroom::id::ObjectName;
use strongroom::observe::Silent;
use strongroom::store;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task::verify::ReadData;
use strongroom::task::verify::verify_public;
use strongroom::vault::LockedVault;
use strongroom::vault::Vault;
use strongroom::vault::authority::Log;
use strongroom::vault::authority::LogHead;
use strongroom::vault::authority::record_name;
use strongroom::vault::change::Draft;
use strongroom::vault::change::DraftSlot;
use strongroom::vault::error::Error;
use strongroom::vault::fetch;
use strongroom::vault::fork::Branch;
use strongroom::vault::fork::Fork;
use strongroom::vault::history;
use strongroom::vault::name::Place;
use strongroom::vault::name::first8;
use strongroom::vault::receipt::Receipt;
use strongroom::vault::record;
use strongroom::vault::record::ForgetRow;
use strongroom::vault::record::Head;
use strongroom::vault::record::ListRef;
use strongroom::vault::record::Payload;
use strongroom::vault::record::PurgeRow;
use strongroom::vault::record::Record;
use strongroom::vault::record::SupersedeRow;
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

    fn remove(&self, name: &ObjectName) {
        self.memory.remove(name).unwrap();
        self.memory.remove(&name.second()).unwrap();
    }

    fn list<R: record::Row>(&self, rows: &[R]) -> ListRef {
        let bytes = record::encode_list(self.site.fingerprint.vault_id(), rows);
        let digest = digest::digest(&bytes);
        fetch::put_twice(&self.memory, &Place::List(digest).name(), &bytes).unwrap();
        ListRef {
            digest,
            length: u32::try_from(bytes.len()).unwrap(),
            rows: u32::try_from(rows.len()).unwrap(),
        }
    }

    fn fork(&self) -> Result<Fork, Error> {
        Fork::load(&self.store, Some(&self.site.fingerprint), None)
    }

    fn settle(&self) -> Digest {
        self.settle_as(&self.fork().unwrap(), None)
    }

    /// Lets one stand, as the person says if nobody else does.
    fn settle_as(&self, fork: &Fork, stands: Option<Digest>) -> Digest {
        let winner = match stands {
            Some(digest) => fork.find(&digest.to_string()[..8]).unwrap(),
            None => fork.decided().unwrap(),
        };
        let mut vault = fork.unlock(winner, &way(1)).unwrap();
        fork.settle(winner, &mut vault, now(), &|_| ()).unwrap();
        let Payload::Void(loser) = self.last() else { panic!("the last record is the VOID") };
        loser
    }

    /// The log as it is read by whoever has seen `seen`.
    fn log_from(&self, seen: LogHead) -> Result<Log, Error> {
        Log::load_from(&self.memory, Some(&self.site.fingerprint), Some(seen.into()))
    }

    fn log(&self) -> Result<Log, Error> {
        Log::load(&self.memory, None)
    }

    /// What an owner on a machine that has seen `seen` makes of a fork.
    fn branch(&self, seen: LogHead) -> Branch {
        Branch::load(&self.store, Some(&self.site.fingerprint), seen.into()).unwrap()
    }

    fn sign(&self, log: &Log, seq_before: LogHead, key: &SigningKey, payload: Payload) -> LogHead {
        let record = Record {
            vault: log.fingerprint().vault_id(),
            seq: seq_before.seq + 1,
            time: now(),
            prev: seq_before.digest,
            payload,
        };
        let signed = record.sign(key);
        fetch::put_twice(&self.memory, &record_name(record.seq, &signed), signed.bytes()).unwrap();
        LogHead { seq: record.seq, digest: signed.digest() }
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
    let start = |draft: &mut Draft| {
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
    let winner = fork.decided().unwrap();
    let mut reader = fork.unlock(winner, &way(2)).unwrap();
    assert!(matches!(fork.settle(winner, &mut reader, now(), &|_| ()), Err(Error::NotOwner)));
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
    let winner = fork.decided().unwrap();
    let mut slower = fork.unlock(winner, &way(1)).unwrap();
    case.settle();
    let records = case.memory.list("a/").unwrap().len();
    fork.settle(winner, &mut slower, now(), &|_| ()).unwrap();
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
    assert!(matches!(case.log(), Err(Error::Rivals { .. })));
    case.site.device().unwrap();
    assert_eq!(case.settle(), rival.digest);
    case.goes_on();
}

#[test]
fn a_person_says_whether_keys_with_another_authority_stand_and_their_own_key_signs_the_void() {
    for keys_are_lower in [false, true] {
        let case = Case::new();
        let (before, key) = (case.site.unlock().log().clone(), case.key());
        let mut owner = case.site.unlock();
        let keys = rotate(&mut owner);
        owner.remove_older_generations().unwrap();
        let rival = case.put(&before, &key, |digest| (keys.digest < *digest) == keys_are_lower);
        case.stops_everybody();
        let fork = case.fork().unwrap();
        assert_eq!(fork.decided(), None, "whoever was an owner could make the digest, and remove the tables");
        let at = fork.find(&rival.digest.to_string()).unwrap();
        assert!(matches!(fork.unlock(at, &way(1)), Err(Error::Missing { .. })));
        assert_eq!(case.settle_as(&fork, Some(keys.digest)), rival.digest);
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
                case.remove(&name);
            }
        }
        let fork = case.fork().unwrap();
        let at = fork.find(&keys.digest.to_string()).unwrap();
        assert!(matches!(fork.rivals()[at].locked(), Err(Error::Missing { .. })), "{prefix}");
        assert_eq!(case.settle_as(&fork, Some(rival.digest)), keys.digest, "{prefix}");
        let vault = case.site.unlock();
        assert_eq!((vault.log().keys().generation, vault.log().at(rival.seq)), (1, Some(rival)));
        drop(vault);
        case.goes_on();
    }
}

#[test]
fn two_records_before_the_last_place_or_three_at_it_take_somebody_who_knows_the_right_one() {
    let case = Case::new();
    let (owner, key) = (case.site.unlock(), case.key());
    let one = case.put(owner.log(), &key, |_| true);
    let first = Log::load(&case.memory, None).unwrap();
    let other = case.put(owner.log(), &key, |digest| *digest != one.digest);
    let whole = case.memory.snapshot();
    case.put(owner.log(), &key, |digest| *digest != one.digest && *digest != other.digest);
    assert!(matches!(case.fork(), Err(Error::Forked { .. })));
    case.memory.restore(&whole);
    let last = case.put(&first, &key, |_| true);
    assert!(matches!(case.fork(), Err(Error::Forked { .. })));
    assert!(matches!(LockedVault::load(Arc::clone(&case.store), None), Err(Error::Forked { .. })));

    // Who has seen either branch goes on with it; the other one's records go.
    assert_eq!(case.log_from(one).unwrap().head(), last);
    assert!(matches!(case.log_from(other), Err(Error::Forked { .. })), "the other branch has gone further");
    let branch = case.branch(one);
    assert_eq!(branch.others(), [name_of(other)]);
    branch.remove_others().unwrap();
    assert_eq!(case.log().unwrap().head(), last);
    case.goes_on();
}

fn name_of(record: LogHead) -> ObjectName {
    Place::Record { seq: record.seq, digest: first8(&record.digest) }.name()
}

#[test]
fn a_rival_whose_writer_was_cut_off_before_he_withdrew_it_ends_nothing_for_good() {
    let case = Case::new();
    let (before, key) = (case.site.unlock().log().clone(), case.key());
    let mut first = case.site.unlock();
    let seen = |_: &Vault| Ok(Payload::Seen(Vec::new()));
    let own = first.append(now(), &|_| (), &seen).unwrap();
    // The other one had looked before that, and puts its first copy after it.
    let rival = case.put(&before, &key, |digest| *digest != own.digest);
    case.memory.remove(&name_of(rival).second()).unwrap();
    let found = first.append(now(), &|_| (), &seen);
    assert!(matches!(found, Err(Error::OtherBranch { name }) if name == name_of(rival)));
    assert_eq!(case.memory.list("a/").unwrap().len(), before.records().len() + 2, "nothing follows either");
    case.stops_everybody();

    // The machine that has seen the right one knows; elsewhere an owner lets one stand.
    let fresh = case.memory.snapshot();
    let branch = case.branch(own);
    assert_eq!((branch.others(), branch.is_voided()), (&[name_of(rival)][..], false));
    branch.remove_others().unwrap();
    let last = first.append(now(), &|_| (), &seen).unwrap();
    assert_eq!(case.log().unwrap().head(), last);
    case.goes_on();
    case.memory.restore(&fresh);
    let loser = case.settle();
    assert_eq!(case.log().unwrap().head().seq, own.seq + 1);
    assert!(loser == own.digest || loser == rival.digest);
}

#[test]
fn a_log_that_has_gone_on_beside_a_rival_is_read_by_who_has_seen_it_and_mended() {
    let case = Case::new();
    let (before, key) = (case.site.unlock().log().clone(), case.key());
    let own = case.put(&before, &key, |_| true);
    let last = case.put(&case.log().unwrap(), &key, |_| true);
    case.site.device().unwrap();
    let rival = case.put(&before, &key, |digest| *digest != own.digest);
    assert!(matches!(case.log(), Err(Error::Forked { .. })));
    case.site.backup(case.source.path()).unwrap();
    for seen in [own, last] {
        assert_eq!(case.log_from(seen).unwrap().head(), last);
    }
    let locked = LockedVault::load_from(Arc::clone(&case.store), None, Some(last.into())).unwrap();
    let report = verify_public(&locked, None, &[], &ReadData::None, &Silent).unwrap();
    assert!(report.is_sound() && report.strays > 0, "what counts for nothing is counted");
    case.branch(last).remove_others().unwrap();
    assert_eq!(case.log().unwrap().head(), last);
    assert!(!case.memory.list("a/").unwrap().iter().any(|listed| listed.name == name_of(rival)));
    case.goes_on();
}

/// What somebody who was an owner before `removal` signs with the key of then: a rival of it, a VOID of it,
/// and what follows.
fn takeover(case: &Case, before: &Log, key: &SigningKey, removal: LogHead) -> Vec<LogHead> {
    let rival = case.sign(before, before.head(), key, Payload::Seen(Vec::new()));
    let void = case.sign(before, rival, key, Payload::Void(removal.digest));
    vec![rival, void, case.sign(before, void, key, Payload::Seen(Vec::new()))]
}

#[test]
fn a_removed_owner_can_not_void_his_removal_once_the_log_has_gone_on() {
    let case = Case::new();
    let (before, key) = (case.site.unlock().log().clone(), case.key());
    let mut owner = case.site.unlock();
    let removal = rotate(&mut owner);
    let last = owner.append(now(), &|_| (), &|_| Ok(Payload::Seen(Vec::new()))).unwrap();
    case.site.backup(case.source.path()).unwrap();
    let his = takeover(&case, &before, &key, removal);

    assert!(matches!(case.log(), Err(Error::Forked { .. })), "a fresh machine follows neither");
    // His branch has even gone further than what this machine has seen, which goes on as before.
    assert_eq!(case.log_from(last).unwrap().head(), last);
    case.site.backup(case.source.path()).unwrap();
    let added = owner.append(now(), &|_| (), &|_| Ok(Payload::Seen(Vec::new())));
    assert!(matches!(added, Err(Error::OtherBranch { name }) if name == name_of(his[0])));
    let forked = case.memory.snapshot();
    let branch = case.branch(last);
    assert_eq!(branch.others(), his.iter().map(|record| name_of(*record)).collect::<Vec<_>>());
    assert!(!branch.is_voided());
    branch.remove_others().unwrap();
    assert_eq!(case.log().unwrap().head(), last);
    case.goes_on();

    // A receipt from then on is as good on a fresh machine.
    case.memory.restore(&forked);
    let receipt = Receipt::new(
        case.site.fingerprint.vault_id(),
        last,
        &Head { device: DeviceId([0; 16]), seq: 0, digest: Digest([0; 32]) },
    );
    let by_receipt = Log::load_from(&case.memory, None, Some((&receipt).into())).unwrap();
    assert_eq!(by_receipt.head(), last);
    let other = Receipt { authority_digest: [7; 16], ..receipt };
    let by_other = Log::load_from(&case.memory, None, Some((&other).into()));
    assert!(matches!(by_other, Err(Error::Forked { .. })));
}

#[test]
fn a_removal_that_is_the_last_record_is_kept_by_who_has_seen_it() {
    let case = Case::new();
    let (before, key) = (case.site.unlock().log().clone(), case.key());
    let removal = rotate(&mut case.site.unlock());
    case.site.backup(case.source.path()).unwrap();
    let his = takeover(&case, &before, &key, removal);
    assert!(matches!(case.site.device(), Err(Error::Forked { .. })));
    assert!(matches!(case.log_from(removal), Err(Error::Forked { .. })));
    // It looks as if an owner had settled a fork and this machine had seen the loser: a person decides.
    let branch = case.branch(removal);
    assert!(branch.is_voided() && branch.others().len() == his.len());
    branch.remove_others().unwrap();
    assert_eq!(case.log().unwrap().head(), removal);
    case.goes_on();
}

#[test]
fn headers_that_nobody_signed_or_of_a_device_that_a_rival_shuts_out_speak_for_no_record() {
    let case = Case::new();
    let owner = case.site.unlock();
    let (key, device) = (case.key(), case.site.device().unwrap().device());
    let head = owner.locked().history(device).unwrap().head().unwrap();
    let lower = case.put(owner.log(), &key, |digest| digest.0[0] < 0x40);
    let known = |case: &Case, digest: Digest| {
        let fork = case.fork().unwrap();
        fork.rivals()[fork.find(&digest.to_string()).unwrap()].is_known()
    };
    let alone = case.memory.snapshot();
    let rival = case.put(owner.log(), &key, |digest| digest.0[0] > 0x40);
    assert!(!known(&case, rival.digest));

    // A header that says it knew of the rival, and isn't the device's.
    let name = case.memory.list(&format!("s/{device}/")).unwrap().pop().unwrap().name;
    let (mut header, _) = history::fetch_header(&case.memory, &name).unwrap();
    (header.seq, header.prev) = (2, head.digest);
    (header.auth_seq, header.auth_head) = (rival.seq, rival.digest);
    let forged = header.sign(&SigningKey::generate());
    let forged_name = forged.place().name();
    fetch::put_twice(&case.memory, &forged_name, forged.bytes()).unwrap();
    assert!(!known(&case, rival.digest));
    case.remove(&forged_name);
    assert_eq!(case.settle(), rival.digest, "the lower digest stands, as without it");

    // The device's own, and the other record is what shuts it out.
    case.memory.restore(&alone);
    case.site.backup(case.source.path()).unwrap();
    assert!(matches!(case.log().map(|log| log.head()), Ok(there) if there == lower));
    case.sign(owner.log(), owner.log().head(), &key, Payload::DeviceRevoke { head });
    assert!(!known(&case, lower.digest));
}

#[test]
fn a_record_whose_deletions_have_begun_stands_whatever_its_digest() {
    for purges in [false, true] {
        for is_lower in [false, true] {
            let case = Case::new();
            let mut owner = case.site.unlock();
            let device = case.site.device().unwrap().device();
            let history = owner.locked().history(device).unwrap();
            let listed = history.must_exist(owner.log())[0];
            let forget = case.list(&[ForgetRow { device, seq: 1, name: Digest([0; 32]) }]);
            let forget = owner.append(now(), &|_| (), &|_| Ok(Payload::Forget(forget))).unwrap();
            let old = Place::Pack { device, digest: listed.name }.name();
            let current = Digest([7; 32]);
            let new = Place::Pack { device, digest: current }.name();
            case.memory.put(&new, &case.memory.get(&old, u64::MAX).unwrap()).unwrap();
            let payload = match purges {
                true => Payload::Purge {
                    list: case.list(&[PurgeRow { device, listed: listed.listed }]),
                    forget_seq: forget.seq,
                    heads: Vec::new(),
                },
                false => Payload::Supersede(case.list(&[SupersedeRow {
                    device,
                    listed: listed.listed,
                    current,
                    length: listed.length,
                }])),
            };
            let key = case.key();
            let moves = case.sign(owner.log(), owner.log().head(), &key, payload);
            case.put(owner.log(), &key, |digest| (moves.digest < *digest) == is_lower);
            let stands = |case: &Case| {
                let fork = case.fork().unwrap();
                fork.rivals()[fork.decided().unwrap()].digest()
            };
            assert_eq!(stands(&case) == moves.digest, is_lower, "nothing is gone yet: the lower digest");
            case.memory.remove(&old).unwrap();
            assert_eq!(stands(&case), moves.digest);
            if !purges {
                case.memory.remove(&new).unwrap();
                assert_eq!(
                    stands(&case) == moves.digest,
                    is_lower,
                    "it put nothing in place: that is damage"
                );
            }
        }
    }
}

#[test]
fn what_nobody_signed_is_no_newer_record() {
    let case = Case::new();
    let log = case.log().unwrap();
    let key = case.key();
    let newer = |signed: bool, at: usize| {
        let mut bytes = log.next(Payload::Seen(Vec::new()), 1).sign(&key).bytes().to_vec();
        bytes[24] = u8::try_from(at).unwrap();
        // The version, or the type.
        bytes[if at == 0 { 6 } else { 72 }] = 99;
        bytes.truncate(bytes.len() - 64);
        let signer =
            if signed { SigningKey::from_seed(key.seed().duplicate()) } else { SigningKey::generate() };
        let signature = signer.sign(SignatureType::Authority, &bytes);
        bytes.extend(signature);
        let digest = digest::digest(&bytes);
        (Place::Record { seq: at as u64, digest: first8(&digest) }.name(), bytes)
    };
    for at in 0..log.records().len() {
        let (name, bytes) = newer(false, at);
        fetch::put_twice(&case.memory, &name, &bytes).unwrap();
    }
    assert_eq!(case.log().unwrap().head(), log.head());
    case.goes_on();
    let next = log.records().len();
    let (name, bytes) = newer(false, next);
    fetch::put_twice(&case.memory, &name, &bytes).unwrap();
    assert!(matches!(case.log(), Err(Error::Damaged { .. })));
    case.remove(&name);
    let (name, bytes) = newer(true, next);
    fetch::put_twice(&case.memory, &name, &bytes).unwrap();
    assert!(matches!(case.log(), Err(Error::Newer { .. })));
}

/// A store in which something happens while a reader waits.
struct Meanwhile {
    inner: Memory,
    happens: std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Store for Meanwhile {
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), store::Error> {
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
    fn pause(&self, _turn: u32) {
        if let Some(happen) = self.happens.lock().unwrap().take() {
            happen();
        }
    }
}

#[test]
fn a_reader_who_meets_what_is_about_to_be_withdrawn_looks_again() {
    let case = Case::new();
    let (log, key) = (case.log().unwrap(), case.key());
    let reads = |goes: Vec<ObjectName>| {
        let inner = case.memory.clone();
        let happens = move || goes.iter().for_each(|name| inner.remove(name).unwrap());
        let happens = std::sync::Mutex::new(Some(Box::new(happens) as Box<dyn FnOnce() + Send>));
        Log::load(&Meanwhile { inner: case.memory.clone(), happens }, None).map(|log| log.head())
    };
    // Alone, in one copy yet: its writer hasn't looked for rivals.
    let alone = case.put(&log, &key, |_| true);
    case.memory.remove(&name_of(alone).second()).unwrap();
    assert_eq!(reads(vec![name_of(alone)]).unwrap(), log.head());
    assert_eq!(reads(vec![]).unwrap(), log.head());

    // Two, of which one goes; and one that somebody has followed already.
    let stays = case.put(&log, &key, |_| true);
    let goes = case.put(&log, &key, |digest| *digest != stays.digest);
    let both = |record| vec![name_of(record), name_of(record).second()];
    assert_eq!(reads(both(goes)).unwrap(), stays);
    let last = case.put(&case.log().unwrap(), &key, |_| true);
    let goes = case.put(&log, &key, |digest| *digest != stays.digest);
    assert_eq!(reads(both(goes)).unwrap(), last);

    // What its writer left when he was cut off between the copies counts, and the next one completes it.
    let cut = case.put(&case.log().unwrap(), &key, |_| true);
    case.memory.remove(&name_of(cut).second()).unwrap();
    assert_eq!(reads(vec![]).unwrap(), cut);
    case.site.unlock().append(now(), &|_| (), &|_| Ok(Payload::Seen(Vec::new()))).unwrap();
    assert!(case.memory.size(&name_of(cut).second()).is_ok());
}

/// Waits longer with each loss, by chance, up to half a second or so.
fn by_chance(lost: u32) {
    let [chance] = random::bytes::<1>();
    std::thread::sleep(std::time::Duration::from_micros((u64::from(chance) * 20) << lost.min(7)));
}

#[test]
fn of_eight_owners_who_add_to_the_log_at_once_none_fails_and_no_reader_does() {
    let case = Case::new();
    let (start, key) = (case.log().unwrap(), case.key());
    let before = case.memory.snapshot();
    for _ in 0..20 {
        case.memory.restore(&before);
        std::thread::scope(|scope| {
            for owner in 0..8 {
                let (case, key) = (&case, &key);
                scope.spawn(move || {
                    let mut log = case.log().unwrap();
                    let build = |_: &Log| Ok(Payload::Seen(Vec::new()));
                    log.append(&case.memory, key, owner, &by_chance, &build).unwrap();
                });
            }
            scope.spawn(|| (0..8).for_each(|_| assert!(case.log_from(start.head()).is_ok())));
        });
        assert_eq!(case.log().unwrap().records().len(), start.records().len() + 8);
    }
}

#[test]
fn of_eight_owners_who_change_the_ways_in_at_once_none_fails() {
    let case = Case::new();
    std::thread::scope(|scope| {
        for byte in 2..10 {
            let case = &case;
            scope.spawn(move || {
                let (fingerprint, settings) = (&case.site.fingerprint, &Argon2Settings::LEAST);
                let (keys, lock) =
                    slot::generate(fingerprint, Role::Owner, &way(byte), settings, &byte.to_string())
                        .unwrap();
                let add = |draft: &mut Draft| {
                    draft.add_slot(DraftSlot {
                        role: Role::Owner,
                        keys: keys.duplicate(),
                        lock: lock.clone(),
                    })
                };
                case.site.unlock().change_keys(now(), &by_chance, &add).unwrap();
            });
        }
    });
    assert_eq!(case.site.unlock().slots().slots.len(), 9);
}

//! Who did what: each slot's signed log, which owners read, and what is told when it is not whole.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::sync::Arc;

use harness::Site;
use harness::now;
use harness::way;
use strongroom::crypto::digest;
use strongroom::crypto::kdf::Argon2Settings;
use strongroom::crypto::sign::SigningKey;
use strongroom::id::ObjectName;
use strongroom::id::SlotId;
use strongroom::id::VaultId;
use strongroom::observe::Silent;
use strongroom::store::Fault;
use strongroom::store::Faulty;
use strongroom::store::Kind;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task::verify::ReadData;
use strongroom::task::verify::Report;
use strongroom::task::verify::verify_private;
use strongroom::task::verify::verify_public;
use strongroom::vault::Vault;
use strongroom::vault::acts::Act;
use strongroom::vault::acts::Acts;
use strongroom::vault::acts::Deed;
use strongroom::vault::acts::Entry;
use strongroom::vault::change::DraftSlot;
use strongroom::vault::change::withdraw;
use strongroom::vault::error::Error;
use strongroom::vault::fetch;
use strongroom::vault::name::Place;
use strongroom::vault::name::first8;
use strongroom::vault::slot;
use strongroom::vault::slot::Role;

/// A vault of an owner, `way(1)`, and a reader, `way(2)`, called anna.
struct Case {
    site: Site,
    store: Arc<Faulty<Memory>>,
}

impl Case {
    fn new() -> Self {
        let store = Arc::new(Faulty::new(Memory::new()));
        let site = Site::new(Arc::<Faulty<Memory>>::clone(&store));
        let case = Self { site, store };
        let mut owner = case.owner();
        let fingerprint = case.site.fingerprint;
        let (keys, lock) =
            slot::generate(&fingerprint, Role::Reader, &way(2), &Argon2Settings::LEAST, "anna").unwrap();
        let draft = || DraftSlot { role: Role::Reader, keys: keys.duplicate(), lock: lock.clone() };
        owner.change_keys(now(), &|_| {}, &|change| change.add_slot(draft())).unwrap();
        owner.remove_older_generations().unwrap();
        case
    }

    fn owner(&self) -> Vault {
        self.site.unlock()
    }

    fn reader(&self) -> Vault {
        self.site.unlock_with(&way(2)).unwrap()
    }

    fn acts(&self) -> Acts {
        self.owner().acts().unwrap()
    }

    /// What was done, in the order in which it is told.
    fn told(&self) -> Vec<String> {
        let (owner, acts) = (self.owner(), self.acts());
        let label = |slot| owner.slot_label(slot).unwrap_or("nobody").to_owned();
        acts.done.iter().map(|done| format!("{} {}", label(done.slot), done.act.command)).collect()
    }

    /// The entries of a slot, the oldest first.
    fn names(&self, slot: SlotId) -> Vec<ObjectName> {
        fetch::list_both(&*self.store, &format!("u/{slot}/")).unwrap()
    }

    fn bytes(&self, name: &ObjectName) -> Vec<u8> {
        self.store.get(name, u64::MAX).unwrap()
    }

    /// Stores `bytes` as an entry of this slot and place.
    fn plant(&self, slot: SlotId, seq: u64, bytes: &[u8]) {
        let place = Place::Log { slot, seq, digest: first8(&digest::digest(bytes)) };
        fetch::put_twice(&*self.store, &place.name(), bytes).unwrap();
    }

    fn verify(&self) -> Report {
        verify_private(&self.owner(), None, &[], &ReadData::None, &Silent).unwrap()
    }
}

fn act(command: &str) -> Act {
    Act { host: "desk".to_owned(), command: command.to_owned(), deed: Deed::Given(String::new()) }
}

fn does(vault: &Vault, command: &str) {
    vault.record_act(&act(command), now()).unwrap();
}

fn key_of(vault: &Vault) -> SigningKey {
    SigningKey::from_seed(vault.slot().0.log_seed.duplicate())
}

fn words(errors: &[Error]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn each_slot_has_a_chain_and_owners_alone_read_them() {
    let case = Case::new();
    let (owner, reader) = (case.owner(), case.reader());
    for round in 0..3 {
        does(&owner, &format!("ls {round}"));
        does(&reader, &format!("restore {round}"));
    }
    assert!(case.acts().problems.is_empty());
    let told: Vec<String> =
        (0..3).flat_map(|round| [format!("owner ls {round}"), format!("anna restore {round}")]).collect();
    assert_eq!(case.told(), told);
    let seqs: Vec<u64> = case.acts().done.iter().map(|done| done.seq).collect();
    assert_eq!(seqs, [1, 1, 2, 2, 3, 3]);
    assert!(matches!(reader.acts(), Err(Error::NotOwner)));
    // What a person did can't be told from how long the entry is, and not from its bytes.
    let long = Act { deed: Deed::Given("x".repeat(3_000)), ..act("find") };
    reader.record_act(&long, now()).unwrap();
    let lengths: Vec<usize> =
        case.names(reader.slot().0.id).iter().map(|name| case.bytes(name).len()).collect();
    assert_eq!(lengths, [lengths[0]; 4]);
}

#[test]
fn nobody_but_an_owner_opens_an_entry() {
    let case = Case::new();
    let reader = case.reader();
    does(&reader, "restore");
    let bytes = case.bytes(&case.names(reader.slot().0.id)[0]);
    let entry = Entry::decode(&bytes).unwrap();
    assert!(!bytes.windows(7).any(|window| window == b"restore"));
    // Neither the epoch's key, which a reader has, nor the log's.
    let header = strongroom::seal::pseal::peek(&entry.sealed).unwrap();
    let held = reader.ring().epochs.iter().map(|keys| keys.seal_seed.duplicate());
    for seed in held.chain([reader.slot().0.log_seed.duplicate()]) {
        let opened = strongroom::seal::pseal::open(
            &case.site.fingerprint,
            &strongroom::crypto::kem::KemSecretKey::from_seed(seed),
            &strongroom::seal::pseal::no_psk(),
            &header,
            &entry.sealed,
        );
        assert_eq!(opened, Err(strongroom::seal::pseal::Error::WrongKey));
    }
}

#[test]
fn entries_of_all_epochs_are_read_after_keys_were_rotated() {
    let case = Case::new();
    does(&case.reader(), "first");
    for command in ["second", "third"] {
        let mut owner = case.owner();
        let before = owner.log().keys().owners_key.as_bytes().to_vec();
        let rotated = owner.change_keys(now(), &|_| {}, &|draft| {
            draft.start_epoch();
            Ok(())
        });
        rotated.unwrap();
        assert!(owner.log().keys().owners_key.as_bytes()[..] != before[..], "the owners' key is another");
        does(&case.reader(), command);
    }
    assert_eq!(case.told(), ["anna first", "anna second", "anna third"]);
    assert!(case.acts().problems.is_empty());
}

/// Renews the authority, as taking an owner's way in away does.
fn renew(case: &Case) {
    let mut owner = case.owner();
    let renewed = owner.change_keys(now(), &|_| {}, &|draft| {
        draft.start_epoch();
        Ok(())
    });
    renewed.unwrap();
}

#[test]
fn who_was_an_owner_signs_in_nobodys_name_once_the_authority_is_another() {
    let case = Case::new();
    let stale = case.reader();
    does(&stale, "first");
    // What every owner holds: the log seeds of all slots.
    let id = stale.slot().0.id;
    let seed =
        case.owner().admin().unwrap().slots.iter().find(|slot| slot.id == id).unwrap().log_seed.duplicate();
    renew(&case);
    let reader = case.reader();
    assert!(
        key_of(&reader).public() != SigningKey::from_seed(seed.duplicate()).public(),
        "the seed is another"
    );
    does(&reader, "second");
    does(&case.reader(), "third");
    let seqs: Vec<u64> = case.acts().done.iter().map(|done| done.seq).collect();
    assert_eq!(seqs, [1, 2, 3], "the log goes on where it was");
    assert!(case.acts().problems.is_empty() && case.acts().done.iter().all(|done| !done.is_by_retired_key));

    // By its time; and, though it claims an older one, by the owners' key that it is sealed to.
    does(&stale, "forged");
    let names = case.names(id);
    let [first, newest] = [&names[0], names.last().unwrap()].map(|name| case.bytes(name));
    let honest = Entry::decode(&newest).unwrap();
    let forged = Entry { seq: 2, time: 1, prev: digest::digest(&first), ..honest };
    case.plant(id, 2, &forged.sign(&SigningKey::from_seed(seed)).0);
    let acts = case.acts();
    let retired: Vec<(u64, &str)> = acts
        .done
        .iter()
        .filter(|done| done.is_by_retired_key)
        .map(|done| (done.time.min(2), done.act.command.as_str()))
        .collect();
    assert_eq!(retired, [(1, "third"), (2, "forged")]);
    assert!(acts.problems.is_empty());
    // What can't be told: all of it made to look as if it were from before.
    stale.record_act(&act("backdated"), 2).unwrap();
    assert!(case.acts().done.iter().any(|done| done.act.command == "backdated" && !done.is_by_retired_key));
}

#[test]
fn an_owners_log_goes_on_through_many_keys_and_after_the_slot_is_gone() {
    let case = Case::new();
    let reader = case.reader().slot().0.id;
    for _ in 0..3 {
        does(&case.owner(), "ls");
        does(&case.reader(), "ls");
        let mut owner = case.owner();
        renew(&case);
        owner.reload().unwrap();
        does(&owner, "stats");
    }
    case.owner().change_keys(now(), &|_| {}, &|draft| draft.remove_slot(reader)).unwrap();
    let acts = case.acts();
    assert_eq!((acts.done.len(), acts.problems.len()), (9, 0));
    assert!(acts.done.iter().all(|done| !done.is_by_retired_key));
    assert_eq!(case.owner().slot_label(reader), Some("anna"));
    assert!(case.verify().is_sound());
}

#[test]
fn rubbish_in_a_readers_log_costs_him_neither_his_place_nor_his_numbers() {
    let case = Case::new();
    let reader = case.reader();
    does(&reader, "first");
    let id = reader.slot().0.id;
    let bytes = case.bytes(&case.names(id)[0]);
    let honest = Entry::decode(&bytes).unwrap();
    let thief = SigningKey::generate();
    renew(&case);
    for seq in [u64::MAX, 9] {
        let rubbish = Entry { seq, prev: digest::digest(&bytes), ..honest.clone() };
        case.plant(id, seq, &rubbish.sign(&thief).0);
    }
    does(&case.reader(), "second");
    does(&case.reader(), "third");
    let acts = case.acts();
    let told: Vec<(u64, &str)> = acts.done.iter().map(|done| (done.seq, done.act.command.as_str())).collect();
    assert_eq!(told, [(1, "first"), (10, "second"), (11, "third")]);
    assert_eq!(acts.problems.len(), 3, "two that the slot didn't sign, and the gap: {:?}", acts.problems);
}

#[test]
fn what_the_holder_of_a_slot_did_is_verified_and_read_after_the_slot_is_gone() {
    let case = Case::new();
    let reader = case.reader();
    does(&reader, "restore");
    let id = reader.slot().0.id;
    case.owner().change_keys(now(), &|_| {}, &|draft| draft.remove_slot(id)).unwrap();
    assert_eq!(case.told(), ["anna restore"]);
    assert!(case.acts().problems.is_empty() && case.verify().is_sound());
    let name = &case.names(id)[0];
    for name in [name, &name.second()] {
        case.store.inner().flip(name, 8 * 100);
    }
    assert_eq!(
        words(&case.acts().problems),
        [format!("object {name} is damaged: it does not match its digest")]
    );
}

#[test]
fn two_machines_that_use_one_slot_at_once_both_have_their_entries() {
    let case = Case::new();
    let owner = case.owner();
    does(&owner, "first");
    let before = case.store.inner().snapshot();
    does(&owner, "here");
    let id = owner.slot().0.id;
    let here = case.bytes(case.names(id).last().unwrap());
    case.store.inner().restore(&before);
    does(&owner, "there");
    case.plant(id, 2, &here);
    does(&owner, "after");
    assert!(case.acts().problems.is_empty() && case.verify().is_sound());
    assert_eq!(case.told(), ["owner first", "owner here", "owner there", "owner after"]);
    let seqs: Vec<u64> = case.acts().done.iter().map(|done| done.seq).collect();
    assert_eq!(seqs, [1, 2, 2, 3]);
}

#[test]
fn an_entry_that_is_gone_from_the_middle_is_told_and_the_others_are_read() {
    for gone in 0..2 {
        let case = Case::new();
        let owner = case.owner();
        for command in ["one", "two", "three"] {
            does(&owner, command);
        }
        let id = owner.slot().0.id;
        withdraw(&*case.store, &case.names(id)[gone]).unwrap();
        let told = format!(
            "the vault's history is incomplete: entry {} of the log of slot {} can't be found",
            gone + 1,
            id.short()
        );
        assert_eq!(words(&case.acts().problems).join("\n"), told);
        assert_eq!(case.told().len(), 2);
        let report = case.verify();
        let found: Vec<String> =
            report.findings.list().iter().map(|finding| finding.problem.to_string()).collect();
        assert_eq!(found, [told]);
    }
}

#[test]
fn an_entry_of_another_slot_vault_or_place_is_refused() {
    let (case, other) = (Case::new(), Case::new());
    let (owner, reader) = (case.owner(), case.reader());
    does(&owner, "mine");
    does(&reader, "hers");
    does(&other.owner(), "elsewhere");
    let (id, key) = (owner.slot().0.id, key_of(&owner));
    let mine = Entry::decode(&case.bytes(&case.names(id)[0])).unwrap();
    let hers = case.bytes(&case.names(reader.slot().0.id)[0]);
    let elsewhere = other.bytes(&other.names(other.owner().slot().0.id)[0]);
    let signed = |change: &dyn Fn(&mut Entry)| {
        let mut entry = mine.clone();
        change(&mut entry);
        entry.sign(&key).0
    };
    let before = case.store.inner().snapshot();
    let hers_sealed = Entry::decode(&hers).unwrap().sealed;
    for (slot, seq, bytes, what) in [
        (id, 1, hers.clone(), "it is not signed by its slot"),
        (id, 1, elsewhere.clone(), "it is not signed by its slot"),
        (id, 2, case.bytes(&case.names(id)[0]), "it belongs elsewhere"),
        (id, 1, signed(&|entry| entry.vault = VaultId([9; 16])), "it belongs elsewhere"),
        (id, 1, signed(&|entry| entry.slot = reader.slot().0.id), "it belongs elsewhere"),
        (id, 1, signed(&|entry| entry.sealed = hers_sealed.clone()), "device"),
        (id, 1, signed(&|entry| entry.sealed.truncate(2_000)), ""),
        (id, 1, signed(&|entry| entry.sealed.clear()), "too short"),
        (SlotId([9; 16]), 1, hers.clone(), "it is of an unknown slot"),
    ] {
        case.plant(slot, seq, &bytes);
        let problems = words(&case.acts().problems);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("object u/") && problems[0].contains(what), "{what}: {problems:?}");
        assert_eq!(case.told(), ["owner mine", "anna hers"], "{what}");
        assert!(!case.verify().is_sound(), "{what}");
        // What isn't the slot's own doesn't keep its holder from going on.
        does(&owner, "next");
        assert!(case.told().contains(&"owner next".to_owned()), "{what}");
        case.store.inner().restore(&before);
    }
}

#[test]
fn a_command_that_was_cut_off_between_the_two_copies_is_mended_by_the_next() {
    let case = Case::new();
    let owner = case.owner();
    does(&owner, "one");
    let written = case.store.writes();
    case.store.plan(Some(Fault::once(Kind::Io, written + 2)));
    assert!(matches!(owner.record_act(&act("two"), now()), Err(Error::Store(_))));
    let report = case.verify();
    let due: Vec<ObjectName> =
        case.names(owner.slot().0.id).last().map(ObjectName::second).into_iter().collect();
    assert!(report.is_sound() && report.due == due, "what the next command puts is no damage");
    does(&owner, "three");
    assert!(case.verify().is_sound() && case.verify().due.is_empty());
    assert_eq!(case.told(), ["owner one", "owner two", "owner three"]);
}

#[test]
fn a_store_that_takes_nothing_more_is_told_and_stays_as_it_is() {
    let case = Case::new();
    let reader = case.reader();
    let before = case.store.inner().snapshot();
    case.store.plan(Some(Fault::lasting(Kind::Full, case.store.writes() + 1)));
    assert!(matches!(reader.record_act(&act("restore"), now()), Err(Error::Store(_))));
    assert!(case.store.inner().snapshot() == before);
}

#[test]
fn a_second_copy_stands_for_a_damaged_first_and_verify_tells_of_both_without_a_key() {
    let case = Case::new();
    let owner = case.owner();
    does(&owner, "one");
    does(&owner, "two");
    let name = &case.names(owner.slot().0.id)[0];
    let public = || verify_public(case.owner().locked(), None, &[], &ReadData::None, &Silent).unwrap();
    let sound = public();
    assert!(sound.is_sound() && sound.strays == 0 && sound.strangers == 0);
    case.store.inner().flip(name, 8 * 1_000);
    assert_eq!(case.told(), ["owner one", "owner two"]);
    assert!(case.acts().problems.is_empty());
    let found: Vec<String> =
        public().findings.list().iter().map(|finding| finding.problem.to_string()).collect();
    assert_eq!(found, [format!("copy {name} is damaged; the other copy is whole")]);
}

#[test]
fn what_a_newer_strongroom_did_is_told_as_that() {
    let case = Case::new();
    let owner = case.owner();
    let newer = Act { deed: Deed::Newer(200), ..act("fly") };
    owner.record_act(&newer, now()).unwrap();
    let acts = case.acts();
    assert!(acts.problems.is_empty());
    assert_eq!(acts.done[0].act, newer);
}

//! Ways in that come and go, epochs that start, devices that join and leave: each change is one signed
//! record, and whoever lost his way in has lost it.

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
use strongroom::crypto::kem::KemSecretKey;
use strongroom::crypto::secret::Secret;
use strongroom::crypto::secret::SecretBytes;
use strongroom::id::Epoch;
use strongroom::id::SlotId;
use strongroom::store::Fault;
use strongroom::store::Faulty;
use strongroom::store::Kind;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task;
use strongroom::vault::LockedVault;
use strongroom::vault::Vault;
use strongroom::vault::change::DraftSlot;
use strongroom::vault::device::DeviceKeys;
use strongroom::vault::error::Error;
use strongroom::vault::join;
use strongroom::vault::join::Request;
use strongroom::vault::record::Head;
use strongroom::vault::slot;
use strongroom::vault::slot::CardSet;
use strongroom::vault::slot::Role;
use strongroom::vault::slot::Way;

fn in_memory() -> (Site, Arc<Faulty<Memory>>) {
    let store = Arc::new(Faulty::new(Memory::new()));
    (Site::new(Arc::<Faulty<Memory>>::clone(&store)), store)
}

fn add(vault: &mut Vault, role: Role, way: &Way, label: &str) -> Result<SlotId, Error> {
    let (keys, lock) = slot::generate(&vault.log().fingerprint(), role, way, &Argon2Settings::LEAST, label)?;
    let id = keys.id;
    vault.change_keys(now(), &|_| {}, &|draft| {
        draft.add_slot(DraftSlot { role, keys: keys.duplicate(), lock: lock.clone() })
    })?;
    Ok(id)
}

fn remove(vault: &mut Vault, id: SlotId) -> Result<(), Error> {
    vault.change_keys(now(), &|_| {}, &|draft| draft.remove_slot(id))?;
    assert_eq!(vault.remove_older_generations().unwrap().objects, 0);
    Ok(())
}

fn rotate(vault: &mut Vault) -> Result<(), Error> {
    vault.change_keys(now(), &|_| {}, &|draft| {
        draft.start_epoch();
        Ok(())
    })?;
    Ok(())
}

fn passphrase(text: &str) -> Option<SecretBytes> {
    Some(SecretBytes::from_slice(text.as_bytes()))
}

fn write_source(root: &Path, round: u8) {
    fs::create_dir_all(root.join("deep")).unwrap();
    fs::write(root.join("letter"), format!("Dear customer {round},\n").repeat(5_000)).unwrap();
    fs::write(root.join("deep/note"), [round; 3_000]).unwrap();
}

/// One way of each kind that locks a slot, made anew at each call.
fn ways() -> Vec<(&'static str, Way)> {
    let file = || Secret::from_slice(&[9; 32]);
    let cards =
        CardSet { set: [5; 8], threshold: 2, count: 3, secret: Secret::from_slice(&[6; 32]).unwrap() };
    vec![
        ("passphrase", Way { passphrase: passphrase("tall ships"), ..Way::default() }),
        ("joint", Way { passphrase: passphrase("tall ships"), key_file: file(), ..Way::default() }),
        ("key file", Way { key_file: file(), ..Way::default() }),
        ("code", Way { recovery_code: Secret::from_slice(&[7; 20]), ..Way::default() }),
        ("cards", Way { cards: Some(cards), ..Way::default() }),
    ]
}

#[test]
fn a_slot_of_each_kind_opens_the_vault_until_it_is_taken_away() {
    for role in [Role::Owner, Role::Reader] {
        for (kind, way) in ways() {
            let (site, _) = in_memory();
            let mut owner = site.unlock();
            let id = add(&mut owner, role, &way, kind).unwrap();
            let opened = site.unlock_with(&way).unwrap();
            assert_eq!((opened.slot().0.id, opened.slot().1), (id, role), "{kind}");
            assert_eq!(opened.admin().is_ok(), role == Role::Owner, "{kind}");
            rotate(&mut owner).unwrap();
            assert_eq!(site.unlock_with(&way).unwrap().ring().epochs.len(), 2, "{kind} after a rotation");

            remove(&mut owner, id).unwrap();
            let refused = site.unlock_with(&way).err().unwrap();
            assert!(matches!(refused, Error::WrongKey | Error::NoSlotForKey { .. }), "{kind}: {refused}");
            assert!(site.unlock_with(&harness::way(1)).is_ok());
        }
    }
}

#[test]
fn an_outside_recipient_opens_with_his_own_key_and_nobody_elses() {
    let (site, _) = in_memory();
    let mut owner = site.unlock();
    let own = KemSecretKey::generate();
    let (keys, lock) = slot::for_recipient(own.public(), "auditor");
    owner
        .change_keys(now(), &|_| {}, &|draft| {
            let (keys, lock) = (keys.duplicate(), lock.clone());
            draft.add_slot(DraftSlot { role: Role::Reader, keys, lock })
        })
        .unwrap();
    rotate(&mut owner).unwrap();
    let other = Way { identities: vec![KemSecretKey::generate()], ..Way::default() };
    assert!(matches!(site.unlock_with(&other), Err(Error::WrongKey)));
    let way = Way { identities: vec![KemSecretKey::generate(), own], ..Way::default() };
    let opened = site.unlock_with(&way).unwrap();
    assert!(opened.slot().1 == Role::Reader && opened.admin().is_err());
    remove(&mut owner, keys.id).unwrap();
    assert!(matches!(site.unlock_with(&way), Err(Error::NoSlotForKey { .. })));
}

#[test]
fn a_set_of_cards_of_another_threshold_or_set_is_another_key() {
    let (site, _) = in_memory();
    let mut owner = site.unlock();
    let (_, cards) = ways().pop().unwrap();
    add(&mut owner, Role::Owner, &cards, "cards").unwrap();
    for (set, threshold) in [([5; 8], 3), ([4; 8], 2)] {
        let secret = Secret::from_slice(&[6; 32]).unwrap();
        let way = Way { cards: Some(CardSet { set, threshold, count: 3, secret }), ..Way::default() };
        assert!(site.unlock_with(&way).is_err());
    }
}

#[test]
fn a_reader_changes_nothing() {
    let (site, _) = in_memory();
    let mut owner = site.unlock();
    add(&mut owner, Role::Reader, &way(2), "reader").unwrap();
    let before = owner.log().head();
    let mut reader = site.unlock_with(&way(2)).unwrap();
    let request = Request::new(site.fingerprint.vault_id(), &DeviceKeys::generate());
    assert!(matches!(rotate(&mut reader), Err(Error::NotOwner)));
    assert!(matches!(add(&mut reader, Role::Reader, &way(3), "third"), Err(Error::NotOwner)));
    assert!(matches!(reader.add_device(&request, "x", now(), &|_| {}), Err(Error::NotOwner)));
    assert_eq!(site.unlock().log().head(), before);
}

#[test]
fn the_last_owner_stays_and_no_two_slots_have_one_label() {
    let (site, _) = in_memory();
    let mut owner = site.unlock();
    let own = owner.slot().0.id;
    add(&mut owner, Role::Reader, &way(2), "reader").unwrap();
    assert!(matches!(remove(&mut owner, own), Err(Error::LastOwner)));
    assert!(matches!(add(&mut owner, Role::Owner, &way(3), "reader"), Err(Error::LabelTaken { .. })));
    add(&mut owner, Role::Owner, &way(3), "second owner").unwrap();
    remove(&mut owner, own).unwrap();
    assert!(site.unlock_with(&way(1)).is_err());
    assert!(site.unlock_with(&way(3)).is_ok());
}

#[test]
fn an_owner_whose_slot_went_can_sign_nothing_any_more() {
    let (site, _) = in_memory();
    let mut owner = site.unlock();
    let second = add(&mut owner, Role::Owner, &way(2), "second").unwrap();
    let mut gone = site.unlock_with(&way(2)).unwrap();
    let seed = gone.admin().unwrap().authority_seed.duplicate();
    remove(&mut owner, second).unwrap();
    // Who knew the authority's key signs a record with it.
    let key = strongroom::crypto::sign::SigningKey::from_seed(seed);
    let mut log = owner.log().clone();
    let forged = log.append(&*site.store, &key, now(), &|_| {}, &|_| {
        Ok(strongroom::vault::record::Payload::Seen(Vec::new()))
    });
    assert!(matches!(forged, Err(Error::Damaged { .. })));
    assert!(matches!(gone.reload(), Err(Error::SlotGone)));
    assert!(matches!(rotate(&mut gone), Err(Error::SlotGone)));
    assert_eq!(site.unlock().log().head(), owner.log().head());
}

#[test]
fn an_older_slot_table_with_its_rings_opens_nothing_when_it_is_put_back() {
    let (site, store) = in_memory();
    let mut owner = site.unlock();
    let second = add(&mut owner, Role::Owner, &way(2), "second").unwrap();
    let old: Vec<_> = ["k/", "r/", "2/k/", "2/r/"]
        .iter()
        .flat_map(|prefix| store.list(prefix).unwrap())
        .map(|listed| (listed.name.clone(), store.get(&listed.name, u64::MAX).unwrap()))
        .collect();
    remove(&mut owner, second).unwrap();
    rotate(&mut owner).unwrap();
    owner.remove_older_generations().unwrap();
    for (name, bytes) in &old {
        store.put(name, bytes).unwrap();
    }
    assert!(matches!(site.unlock_with(&way(2)), Err(Error::WrongKey)));
    assert_eq!(site.unlock().ring().epochs.len(), 2);

    // Under the names of the new ones they are damage.
    let table = site.unlock().locked().slot_table().unwrap().1;
    let (_, bytes) = old.iter().find(|(name, _)| name.as_str().starts_with("k/")).unwrap();
    for name in [&table, &table.second()] {
        store.remove(name).unwrap();
        store.put(name, bytes).unwrap();
    }
    for way in [way(1), way(2)] {
        assert!(matches!(site.unlock_with(&way), Err(Error::Damaged { .. })));
    }
}

#[test]
fn devices_seal_under_the_new_epoch_on_their_next_run_and_old_snapshots_stay_readable() {
    let (site, _) = in_memory();
    let source = site.home.path().join("source");
    write_source(&source, 1);
    site.backup(&source).unwrap();
    for round in 2..5 {
        rotate(&mut site.unlock()).unwrap();
        write_source(&source, round);
        site.backup(&source).unwrap();
        assert_eq!(site.device().unwrap().epoch(), Epoch(u32::from(round)));
        let (restored, target) = site.restore_latest(&source, &format!("round {round}"));
        assert_eq!((restored.damaged_count, restored.problems), (0, 0));
        assert_eq!(describe(&target), describe(&source));
    }
    // Three rotations that a device slept through.
    for _ in 0..3 {
        rotate(&mut site.unlock()).unwrap();
    }
    write_source(&source, 9);
    site.backup(&source).unwrap();
    assert_eq!(site.device().unwrap().epoch(), Epoch(7));
}

#[test]
fn a_change_of_keys_that_is_cut_off_anywhere_leaves_the_old_keys_or_the_new() {
    for (kind, lasting) in [(Kind::Io, true), (Kind::AfterWrite, false), (Kind::Full, false)] {
        let mut at = 1;
        loop {
            let (site, store) = in_memory();
            let source = site.home.path().join("source");
            write_source(&source, 1);
            site.backup(&source).unwrap();
            let mut owner = site.unlock();
            add(&mut owner, Role::Reader, &way(2), "reader").unwrap();
            let first = store.writes() + at;
            store.plan(Some(if lasting { Fault::lasting(kind, first) } else { Fault::once(kind, first) }));
            let ended = rotate(&mut owner)
                .and_then(|()| owner.remove_older_generations())
                .map(|leftover| leftover.objects);
            store.plan(None);
            let which = format!("{kind:?} at write {at}: {ended:?}");

            let log = LockedVault::load(Arc::clone(&site.store), Some(&site.fingerprint)).unwrap();
            let newest = log.log().keys().newest;
            assert!(ended.is_err() || newest == Epoch(2), "{which}");
            for way in [way(1), way(2)] {
                let opened = site.unlock_with(&way).unwrap();
                assert_eq!(opened.ring().epochs.len(), newest.0 as usize, "{which}");
            }
            site.backup(&source).unwrap();
            // The same again goes through.
            rotate(&mut site.unlock()).unwrap();
            write_source(&source, 2);
            site.backup(&source).unwrap();
            let (restored, target) = site.restore_latest(&source, "after");
            assert_eq!((restored.damaged_count, restored.problems), (0, 0), "{which}");
            assert_eq!(describe(&target), describe(&source), "{which}");
            if matches!(ended, Ok(0)) && kind != Kind::AfterWrite || at > 40 {
                assert!(at > 8, "a rotation makes more writes than {at}");
                break;
            }
            at += 1;
        }
    }
}

/// How many writes a change takes that starts no epoch: slot table, two rings and the record, each put twice.
const WRITES_OF_A_CHANGE: u64 = 8;

#[test]
fn a_change_whose_record_lacks_its_second_copy_is_in_force_and_told_as_done() {
    for kind in [Kind::Io, Kind::Full, Kind::Torn, Kind::AfterWrite] {
        let (site, store) = in_memory();
        let mut owner = site.unlock();
        let seq = owner.log().head().seq + 1;
        let copies = || {
            let of = |folder: &str| store.list(&format!("{folder}a/{seq:016x}-")).unwrap().len();
            (of(""), of("2/"))
        };
        store.plan(Some(Fault::once(kind, store.writes() + WRITES_OF_A_CHANGE)));
        let id = add(&mut owner, Role::Reader, &way(2), "reader").unwrap();
        store.plan(None);
        assert_eq!(copies(), (1, usize::from(kind == Kind::AfterWrite)), "{kind:?}");
        assert_eq!(owner.log().head().seq, seq, "{kind:?}");
        assert_eq!(site.unlock_with(&way(2)).unwrap().slot().0.id, id, "{kind:?}");
        // Who made the change goes on from it, and so does everybody else.
        add(&mut owner, Role::Reader, &way(3), "another").unwrap();
        rotate(&mut site.unlock()).unwrap();
        for byte in 1..=3 {
            assert_eq!(site.unlock_with(&way(byte)).unwrap().ring().epochs.len(), 2, "{kind:?}");
        }
    }
}

#[test]
fn a_change_whose_record_was_put_stands_though_nothing_could_be_read_after_it() {
    let (site, store) = in_memory();
    let mut owner = site.unlock();
    store.plan(Some(Fault::lasting(Kind::Io, store.writes() + WRITES_OF_A_CHANGE)));
    let told = add(&mut owner, Role::Reader, &way(2), "reader");
    assert!(matches!(told, Err(Error::Store(_))), "{told:?}");
    store.plan(None);
    // The error may not be taken for a change that never was: all that it put is there.
    assert!(site.unlock_with(&way(2)).is_ok());

    // One write earlier there is no record, and nothing has changed.
    store.plan(Some(Fault::once(Kind::Io, store.writes() + WRITES_OF_A_CHANGE - 1)));
    let told = add(&mut site.unlock(), Role::Reader, &way(3), "another");
    assert!(matches!(told, Err(Error::Store(_))), "{told:?}");
    store.plan(None);
    assert!(matches!(site.unlock_with(&way(3)).err(), Some(Error::WrongKey)));
}

#[test]
fn of_two_owners_at_once_both_get_their_change() {
    let (site, _) = in_memory();
    let mut first = site.unlock();
    add(&mut first, Role::Owner, &way(2), "second").unwrap();
    let mut second = site.unlock_with(&way(2)).unwrap();
    // Neither knows of the other's record when it thinks out its own.
    rotate(&mut first).unwrap();
    add(&mut second, Role::Reader, &way(3), "reader").unwrap();
    rotate(&mut second).unwrap();
    add(&mut first, Role::Reader, &way(4), "another").unwrap();
    for byte in 1..=4 {
        assert_eq!(site.unlock_with(&way(byte)).unwrap().ring().epochs.len(), 3);
    }
    let keys = site.unlock().log().keys().clone();
    assert_eq!((keys.generation, keys.newest), (6, Epoch(3)));
}

fn join(site: &Site, vault: &mut Vault, name: &str) -> (Site, Result<(), Error>) {
    let home = tempfile::tempdir().unwrap();
    let machine = strongroom::vault::machine::Machine::new(&home.path().join("state"));
    let keys = DeviceKeys::generate();
    keys.save(&site.fingerprint, &machine.vault_state(&site.fingerprint)).unwrap();
    let other = Site { store: Arc::clone(&site.store), machine, fingerprint: site.fingerprint, home };
    let code = Request::put(&site.fingerprint, &keys, &*site.store).unwrap();
    let waiting = join::requests(&*site.store, &site.fingerprint).unwrap();
    let request = waiting
        .iter()
        .filter_map(|waiting| waiting.request.as_ref().ok())
        .find(|(_, found)| *found == code)
        .unwrap();
    let added = vault.add_device(&request.0, name, now(), &|_| {}).map(|_| ());
    (other, added)
}

/// A machine's request to join.
fn request(site: &Site) -> Request {
    let keys = DeviceKeys::generate();
    let code = Request::put(&site.fingerprint, &keys, &*site.store).unwrap();
    let waiting = join::requests(&*site.store, &site.fingerprint).unwrap();
    let found = waiting.into_iter().filter_map(|waiting| waiting.request.ok()).find(|(_, of)| *of == code);
    found.unwrap().0
}

#[test]
fn a_machine_that_two_owners_approve_at_once_has_the_name_that_the_one_who_took_it_in_gave_it() {
    let (site, _) = in_memory();
    let mut first = site.unlock();
    add(&mut first, Role::Owner, &way(2), "second").unwrap();
    let mut second = site.unlock_with(&way(2)).unwrap();
    let asked = request(&site);
    first.add_device(&asked, "alpha", now(), &|_| {}).unwrap();
    let head = first.log().head();
    // The second doesn't know of it when it begins.
    let refused = second.add_device(&asked, "beta", now(), &|_| {});
    assert!(matches!(refused, Err(Error::DeviceExists { device }) if device == asked.device));
    assert_eq!(site.unlock().device_name(asked.device), Some("alpha"));
    assert_eq!(site.unlock().log().head(), head, "a refused command changes nothing");

    for round in 0..8_u64 {
        let asked = request(&site);
        let names = [format!("alpha {round}"), format!("beta {round}")];
        let ways = [way(1), way(2)];
        let added: Vec<bool> = std::thread::scope(|scope| {
            let tries = [0, 1].map(|who: usize| {
                let (site, asked, name, way) = (&site, &asked, &names[who], &ways[who]);
                scope.spawn(move || {
                    let pause = |lost: u32| {
                        std::thread::sleep(std::time::Duration::from_millis(
                            u64::from(lost) * (5 + who as u64 * 7),
                        ));
                    };
                    site.unlock_with(way).unwrap().add_device(asked, name, now(), &pause).is_ok()
                })
            });
            tries.map(|one| one.join().unwrap()).to_vec()
        });
        let winners: Vec<&String> =
            names.iter().zip(&added).filter(|(_, added)| **added).map(|(name, _)| name).collect();
        assert_eq!(winners.len(), 1, "round {round}: {added:?}");
        assert_eq!(site.unlock().device_name(asked.device), Some(winners[0].as_str()), "round {round}");
    }
}

#[test]
fn a_device_that_joins_adds_snapshots_and_its_name_is_the_owners_alone() {
    let (site, store) = in_memory();
    let mut owner = site.unlock();
    add(&mut owner, Role::Reader, &way(2), "reader").unwrap();
    rotate(&mut owner).unwrap();
    let (laptop, added) = join(&site, &mut owner, "the board's laptop");
    added.unwrap();
    let source = laptop.home.path().join("source");
    write_source(&source, 3);
    laptop.backup(&source).unwrap();
    rotate(&mut owner).unwrap();
    write_source(&source, 4);
    laptop.backup(&source).unwrap();
    let (_, target) = laptop.restore_latest(&source, "restored");
    assert_eq!(describe(&target), describe(&source));

    let id = laptop.device().unwrap().device();
    assert_eq!(owner.device_name(id), Some("the board's laptop"));
    assert_eq!(site.unlock_with(&way(2)).unwrap().device_name(id), None);
    for listed in store.list("").unwrap() {
        let bytes = store.get(&listed.name, u64::MAX).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"board's"), "{}", listed.name);
    }
    // A second device of that name would be taken for the first.
    assert!(matches!(join(&site, &mut owner, "the board's laptop").1, Err(Error::LabelTaken { .. })));
}

#[test]
fn joining_that_is_cut_off_anywhere_makes_a_device_or_none() {
    for at in 1.. {
        let (site, store) = in_memory();
        let mut owner = site.unlock();
        let requested = store.writes() + 2;
        store.plan(Some(Fault::lasting(Kind::Io, requested + at)));
        let (laptop, added) = join(&site, &mut owner, "second");
        store.plan(None);
        let known = site.unlock().log().devices().len();
        assert!(known == 2 || added.is_err(), "write {at}");
        if added.is_ok() {
            assert!(at > 6);
            return;
        }
        match laptop.device() {
            Ok(_) => assert_eq!(known, 2, "write {at}"),
            Err(error) => {
                assert!(matches!(error, Error::NotApproved { .. }), "write {at}: {error}");
                let (again, added) = join(&site, &mut site.unlock(), "third");
                added.unwrap();
                again.device().unwrap();
            }
        }
    }
}

#[test]
fn what_a_revoked_device_adds_is_refused_by_every_reader_and_by_itself() {
    let (site, store) = in_memory();
    let mut owner = site.unlock();
    let (laptop, added) = join(&site, &mut owner, "stolen");
    added.unwrap();
    let source = laptop.home.path().join("source");
    write_source(&source, 1);
    let committed = laptop.backup(&source).unwrap().committed.unwrap().head;
    // The thief has opened the vault already, and goes on with what he knows of it.
    let before: Vec<_> = ["a/", "2/a/"].iter().flat_map(|prefix| store.list(prefix).unwrap()).collect();
    owner.revoke_device(committed.device, Some(committed), now(), &|_| {}).unwrap();
    assert!(matches!(laptop.device(), Err(Error::Revoked { .. })));
    let records: Vec<_> = ["a/", "2/a/"]
        .iter()
        .flat_map(|prefix| store.list(prefix).unwrap())
        .filter(|listed| before.iter().all(|before| before.name != listed.name))
        .map(|listed| (listed.name.clone(), store.get(&listed.name, u64::MAX).unwrap()))
        .collect();
    for (name, _) in &records {
        store.remove(name).unwrap();
    }
    write_source(&source, 2);
    let forced = laptop.backup(&source).unwrap().committed.unwrap().head;
    for (name, bytes) in &records {
        store.put(name, bytes).unwrap();
    }

    let history = site.unlock().locked().history(committed.device).unwrap();
    assert_eq!(history.snapshots().iter().map(|snapshot| snapshot.header.seq).collect::<Vec<_>>(), [1]);
    assert_eq!((history.head(), history.ignored()), (Some(committed), 1));
    assert!(history.check_head(&forced).is_err());
    let vault = site.unlock();
    assert_eq!(task::browse::snapshots(&vault).snapshots.len(), 1);
    assert!(matches!(
        laptop.device(),
        Err(Error::Revoked { .. } | Error::RolledBack { .. } | Error::Forked { .. })
    ));
    let moved = Head { seq: 2, ..forced };
    assert!(matches!(
        owner.revoke_device(committed.device, Some(moved), now(), &|_| {}),
        Err(Error::Damaged { .. })
    ));
}

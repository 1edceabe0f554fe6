//! Who opens a sealed file: added without touching the packs, taken away with all of them sealed anew.

use std::collections::HashSet;

use strongroom::cli::failure::Exit;
use strongroom::cli::failure::Failure;
use strongroom::crypto::kdf::Argon2Settings;
use strongroom::crypto::kem::KemSecretKey;
use strongroom::observe::Silent;
use strongroom::store::Target;
use strongroom::task::error::Error;
use strongroom::task::seal;
use strongroom::vault::Vault;
use strongroom::vault::change::DraftSlot;
use strongroom::vault::error;
use strongroom::vault::init::NewSlot;
use strongroom::vault::init::Opens;
use strongroom::vault::slot;
use strongroom::vault::slot::Role;
use strongroom::vault::slot::Way;

use crate::desk::Desk;
use crate::desk::admit;
use crate::harness::now;
use crate::harness::way;
use crate::layout;

/// The names of the packs, indexes and bodies.
fn sealed_objects(desk: &Desk) -> HashSet<String> {
    let members = layout::members(&desk.bytes()).into_iter();
    members.map(|member| member.name).filter(|name| name.starts_with("p/")).collect()
}

fn change<T>(
    desk: &Desk,
    way: &Way,
    takes_away: bool,
    change: impl FnOnce(&mut Vault) -> Result<T, error::Error>,
) -> Result<(), Error> {
    let (mut vault, draft) = desk.unlock_draft(way)?;
    if takes_away {
        seal::renew_keys(&mut vault, now, &Silent)?;
    }
    change(&mut vault)?;
    seal::finish_slots(&vault, &draft, &Silent).map(drop)
}

fn draft_slot(vault: &Vault, way: &Way, label: &str) -> Result<DraftSlot, error::Error> {
    let (keys, lock) =
        slot::generate(&vault.log().fingerprint(), Role::Reader, way, &Argon2Settings::LEAST, label)?;
    Ok(DraftSlot { role: Role::Reader, keys, lock })
}

fn copy(slot: &DraftSlot) -> DraftSlot {
    DraftSlot { role: slot.role, keys: slot.keys.duplicate(), lock: slot.lock.clone() }
}

/// The slot of that name.
fn id(vault: &Vault, label: &str) -> strongroom::id::SlotId {
    vault.slots().slots.iter().find(|slot| vault.slot_label(slot.id) == Some(label)).unwrap().id
}

fn opens(desk: &Desk, way: &Way) -> bool {
    match admit(&desk.bytes()).unwrap().unlock(way) {
        Ok(_) => true,
        Err(error::Error::WrongKey | error::Error::NoSlotForKey { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_slot_is_added_and_every_pack_stays() {
    let desk = Desk::new();
    desk.seal();
    let before = sealed_objects(&desk);
    change(&desk, &way(1), false, |vault| {
        let slot = draft_slot(vault, &way(3), "auditor")?;
        vault.change_keys(now(), &|_| {}, &|draft| draft.add_slot(copy(&slot)))
    })
    .unwrap();
    assert_eq!(sealed_objects(&desk), before);
    desk.is_sound();
    for key in 1..=3 {
        desk.opens_to_the_source(&way(key));
    }
    // And it is sealed again as before.
    desk.seal_again().unwrap();
    (1..=3).for_each(|key| assert!(opens(&desk, &way(key))));
}

#[test]
fn whose_slot_was_removed_opens_nothing_of_the_new_file() {
    let desk = Desk::new();
    desk.seal();
    let (old, before) = (desk.bytes(), sealed_objects(&desk));
    change(&desk, &way(1), true, |vault| {
        let reader = id(vault, "colleague");
        vault.change_keys(now(), &|_| {}, &|draft| draft.remove_slot(reader))
    })
    .unwrap();
    assert!(sealed_objects(&desk).is_disjoint(&before));
    assert!(opens(&desk, &way(1)) && !opens(&desk, &way(2)));
    desk.is_sound();
    desk.opens_to_the_source(&way(1));

    // Whoever kept the old file and its keys opens no object of the new one.
    let reader = admit(&old).unwrap().unlock(&way(2)).unwrap();
    let owner = admit(&desk.bytes()).unwrap().unlock(&way(1)).unwrap();
    let old_epochs: Vec<_> = reader.ring().epochs.iter().map(|keys| keys.epoch).collect();
    for member in layout::members(&desk.bytes()).iter().filter(|member| member.name.starts_with("p/")) {
        let header = strongroom::seal::pseal::peek(&member.bytes).unwrap();
        assert!(!old_epochs.contains(&header.epoch), "{}", member.name);
    }
    assert!(owner.ring().epochs.iter().all(|keys| !old_epochs.contains(&keys.epoch) || keys.epoch.0 == 1));

    desk.seal_again().unwrap();
    desk.is_sound();
    desk.opens_to_the_source(&way(1));
    assert!(!opens(&desk, &way(2)));
}

#[test]
fn a_slot_gets_another_secret_and_the_other_ways_stay() {
    let desk = Desk::new();
    desk.seal();
    let before = sealed_objects(&desk);
    change(&desk, &way(1), true, |vault| {
        let own = id(vault, "colleague");
        let slot = draft_slot(vault, &way(9), "colleague")?;
        vault.change_keys(now(), &|_| {}, &|draft| draft.replace_slot(own, copy(&slot)))
    })
    .unwrap();
    assert!(sealed_objects(&desk).is_disjoint(&before));
    assert!(opens(&desk, &way(1)) && !opens(&desk, &way(2)) && opens(&desk, &way(9)));
    desk.is_sound();
    desk.opens_to_the_source(&way(9));
}

#[test]
fn slots_change_again_and_again_between_edits() {
    let desk = Desk::new();
    desk.seal();
    for round in 10..14 {
        change(&desk, &way(1), false, |vault| {
            let slot = draft_slot(vault, &way(round), "guest")?;
            vault.change_keys(now(), &|_| {}, &|draft| draft.add_slot(copy(&slot)))
        })
        .unwrap();
        std::fs::write(desk.source().join("letter.txt"), [round; 3_000]).unwrap();
        desk.seal_again().unwrap();
        assert!(opens(&desk, &way(round)));
        change(&desk, &way(1), true, |vault| {
            let guest = id(vault, "guest");
            vault.change_keys(now(), &|_| {}, &|draft| draft.remove_slot(guest))
        })
        .unwrap();
        assert!(!opens(&desk, &way(round)));
        desk.is_sound();
        desk.opens_to_the_source(&way(2));
    }
}

#[test]
fn an_owner_replaces_the_very_slot_that_he_opened_or_takes_it_away() {
    let desk = Desk::new();
    desk.seal();
    change(&desk, &way(1), true, |vault| {
        let new =
            slot::generate(&vault.log().fingerprint(), Role::Owner, &way(7), &Argon2Settings::LEAST, "me")?;
        let new = DraftSlot { role: Role::Owner, keys: new.0, lock: new.1 };
        let own = vault.slot().0.id;
        vault.change_keys(now(), &|_| {}, &|draft| draft.replace_slot(own, copy(&new)))
    })
    .unwrap();
    assert!(!opens(&desk, &way(1)));
    assert!(opens(&desk, &way(7)));
    desk.opens_to_the_source(&way(7));
    change(&desk, &way(7), true, |vault| {
        let heir =
            slot::generate(&vault.log().fingerprint(), Role::Owner, &way(8), &Argon2Settings::LEAST, "heir")?;
        let heir = DraftSlot { role: Role::Owner, keys: heir.0, lock: heir.1 };
        let own = vault.slot().0.id;
        vault.change_keys(now(), &|_| {}, &|draft| {
            draft.add_slot(copy(&heir))?;
            draft.remove_slot(own)
        })
    })
    .unwrap();
    assert!(!opens(&desk, &way(7)));
    desk.opens_to_the_source(&way(8));
}

#[test]
fn a_reader_changes_no_slots() {
    let desk = Desk::new();
    desk.seal();
    let before = desk.bytes();
    let tried = change(&desk, &way(2), false, |vault| {
        let slot = draft_slot(vault, &way(3), "friend")?;
        vault.change_keys(now(), &|_| {}, &|draft| draft.add_slot(copy(&slot)))
    });
    assert_eq!(Failure::from(tried.unwrap_err()).exit, Exit::Refused);
    assert!(desk.bytes() == before);
}

#[test]
fn a_change_that_is_given_up_leaves_the_file_as_it_was() {
    let desk = Desk::new();
    desk.seal();
    let (before, names) = (desk.bytes(), desk.names());
    let (mut vault, draft) = desk.unlock_draft(&way(1)).unwrap();
    let reader = id(&vault, "colleague");
    vault.change_keys(now(), &|_| {}, &|draft| draft.remove_slot(reader)).unwrap();
    drop((vault, draft));
    assert!(desk.bytes() == before);
    assert_eq!(desk.names(), names);
}

#[test]
fn a_recipient_opens_it_with_his_own_key_and_nobody_elses() {
    let desk = Desk::new();
    let own = KemSecretKey::generate();
    let (public, owner) = (own.public(), way(1));
    let slots = [
        NewSlot { opens: Opens::Way(&owner), label: "you", role: Role::Owner },
        NewSlot { opens: Opens::Recipient(&public), label: "auditor", role: Role::Reader },
    ];
    desk.seal_for(&slots, None, Target::file(&desk.file())).unwrap();
    let other = Way { identities: vec![KemSecretKey::generate()], ..Way::default() };
    assert!(!opens(&desk, &other));
    let way = Way { identities: vec![KemSecretKey::generate(), own], ..Way::default() };
    desk.opens_to_the_source(&way);
    // He reads, and no more.
    let refused = desk.seal_again_as(&way, None, &Silent).err().unwrap();
    assert_eq!(Failure::from(refused).exit, Exit::Refused);
    desk.seal_again().unwrap();
    desk.opens_to_the_source(&way);
}

#[test]
fn of_recipients_alone_each_is_an_owner() {
    let desk = Desk::new();
    let own = KemSecretKey::generate();
    let public = own.public();
    let slots = [NewSlot { opens: Opens::Recipient(&public), label: "auditor", role: Role::Owner }];
    desk.seal_for(&slots, None, Target::file(&desk.file())).unwrap();
    let way = Way { identities: vec![own], ..Way::default() };
    desk.opens_to_the_source(&way);
    desk.seal_again_as(&way, None, &Silent).unwrap();
    desk.opens_to_the_source(&way);
}

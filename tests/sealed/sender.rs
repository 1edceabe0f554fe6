//! Who sealed a file, if a device signed it.

use std::sync::Arc;

use strongroom::store::Memory;
use strongroom::store::Target;
use strongroom::vault::LockedVault;
use strongroom::vault::device::DeviceKeys;
use strongroom::vault::init::NewSlot;
use strongroom::vault::init::Opens;
use strongroom::vault::sender::Refused;
use strongroom::vault::sender::Sender;
use strongroom::vault::sender::Signer;
use strongroom::vault::slot::Role;

use crate::desk::Desk;
use crate::desk::Newest;
use crate::desk::admit;
use crate::desk::fingerprint;
use crate::harness::Site;
use crate::harness::way;
use crate::layout;

/// The hand of a device of a vault.
fn signer(site: &Site) -> Signer {
    let locked = LockedVault::load(Arc::clone(&site.store), Some(&site.fingerprint)).unwrap();
    let state = site.machine.vault_state(&site.fingerprint);
    let keys = DeviceKeys::load(&site.fingerprint, &state).unwrap().unwrap();
    Signer::load(locked.store(), locked.log(), keys).unwrap()
}

fn sealed(signer: Option<Signer>) -> Desk {
    let desk = Desk::new();
    let owner = way(1);
    let slots = [NewSlot { opens: Opens::Way(&owner), label: "you", role: Role::Owner }];
    desk.seal_for(&slots, signer, Target::file(&desk.file())).unwrap();
    desk
}

/// What a file's snapshot says of its sender, and who that is.
fn sender(desk: &Desk) -> (Option<Vec<u8>>, Option<Result<Sender, Refused>>) {
    let vault = admit(&desk.bytes()).unwrap().unlock(&way(1)).unwrap();
    let body = Newest::of(&vault).body(&vault);
    let checked =
        body.sender.as_ref().map(|bytes| Sender::check(bytes, &vault.log().fingerprint(), &body.root));
    (body.sender, checked)
}

#[test]
fn a_signed_file_names_the_vault_and_the_device() {
    let site = Site::new(Arc::new(Memory::new()));
    let desk = sealed(Some(signer(&site)));
    let sender = sender(&desk).1.unwrap().unwrap();
    assert_eq!(sender.vault, site.fingerprint);
    desk.opens_to_the_source(&way(1));
    desk.is_sound();
    assert_eq!(self::sender(&sealed(None)), (None, None));
}

#[test]
fn a_signature_does_not_outlive_what_it_signed() {
    let site = Site::new(Arc::new(Memory::new()));
    let desk = sealed(Some(signer(&site)));
    std::fs::write(desk.source().join("letter.txt"), b"Dear customer, pay twice\n").unwrap();
    desk.seal_again().unwrap();
    // Whoever seals again and doesn't sign leaves no signature.
    assert_eq!(sender(&desk), (None, None));
    desk.seal_again_as(&way(1), Some(signer(&site)), &strongroom::observe::Silent).unwrap();
    assert_eq!(sender(&desk).1.unwrap().unwrap().vault, site.fingerprint);
}

#[test]
fn a_signature_taken_from_another_file_is_refused() {
    let site = Site::new(Arc::new(Memory::new()));
    let (one, other) = (sealed(Some(signer(&site))), sealed(None));
    let signature = sender(&one).0.unwrap();
    let vault = admit(&other.bytes()).unwrap().unlock(&way(1)).unwrap();
    let body = Newest::of(&vault).body(&vault);
    // The same folder, another file.
    assert_eq!(Sender::check(&signature, &fingerprint(&other.bytes()), &body.root), Err(Refused::Signature));
    // The same file, another folder.
    assert_eq!(Sender::check(&signature, &fingerprint(&one.bytes()), &body.root), Err(Refused::Signature));
}

#[test]
fn the_device_that_signed_is_in_the_clear_nowhere() {
    let site = Site::new(Arc::new(Memory::new()));
    let desk = sealed(Some(signer(&site)));
    let device = sender(&desk).1.unwrap().unwrap().device;
    for member in layout::members(&desk.bytes()) {
        assert!(!member.name.contains(&device.to_string()));
        assert!(!member.bytes.windows(16).any(|window| window == device.0));
    }
}

//! A file in parts: read as one, sealed again as parts, and refused if one isn't as it was.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use strongroom::cli::failure::Exit;
use strongroom::cli::failure::Failure;
use strongroom::observe::Silent;
use strongroom::store::PART_BYTES_MIN;
use strongroom::store::SealedFile;
use strongroom::store::Target;
use strongroom::task::seal;
use strongroom::vault::LockedVault;
use strongroom::vault::init::NewSlot;
use strongroom::vault::init::Opens;
use strongroom::vault::slot::Role;

use crate::desk::Desk;
use crate::desk::exit;
use crate::harness::way;

fn part(desk: &Desk, number: usize) -> PathBuf {
    desk.path(&format!("Customers.strongroom.{number:03}"))
}

/// The folder sealed in parts.
fn sealed() -> Desk {
    let desk = Desk::new();
    let owner = way(1);
    let slots = [NewSlot { opens: Opens::Way(&owner), label: "you", role: Role::Owner }];
    desk.seal_for(&slots, None, Target::parts(&desk.file(), PART_BYTES_MIN)).unwrap();
    desk
}

fn joined(desk: &Desk) -> Vec<u8> {
    (1..)
        .map(|number| part(desk, number))
        .take_while(|path| path.exists())
        .flat_map(|path| fs::read(path).unwrap())
        .collect()
}

fn load(path: &Path) -> Result<(), Failure> {
    let locked = LockedVault::load_sealed_file(Arc::new(SealedFile::load(path)?))?;
    seal::check(&locked, &Silent)?;
    Ok(())
}

#[test]
fn parts_are_the_file_cut_into_pieces() {
    let desk = sealed();
    let parts = desk.names().len() - 1;
    assert!(parts >= 4, "{parts}");
    for number in 1..parts {
        assert_eq!(fs::metadata(part(&desk, number)).unwrap().len(), PART_BYTES_MIN);
    }
    load(&desk.file()).unwrap();
    load(&part(&desk, 1)).unwrap();
    let whole = joined(&desk);
    assert_eq!(exit(&whole), Exit::Done);
    fs::write(desk.file(), whole).unwrap();
    desk.opens_to_the_source(&way(1));
}

#[test]
fn any_part_that_is_missing_cut_swapped_or_changed_is_damage() {
    type Damage = fn(&Desk, usize);
    let damage: [(&str, Damage); 6] = [
        ("missing", |desk, number| fs::remove_file(part(desk, number)).unwrap()),
        ("a byte shorter", |desk, number| {
            let bytes = fs::read(part(desk, number)).unwrap();
            fs::write(part(desk, number), &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("a byte longer", |desk, number| {
            let bytes = fs::read(part(desk, number)).unwrap();
            fs::write(part(desk, number), [&bytes[..], b"x"].concat()).unwrap();
        }),
        ("empty", |desk, number| fs::write(part(desk, number), b"").unwrap()),
        ("another", |desk, number| {
            let other = if number == 2 { 3 } else { 2 };
            fs::write(part(desk, number), fs::read(part(desk, other)).unwrap()).unwrap();
        }),
        ("swapped", |desk, number| {
            let other = if number == 2 { 3 } else { 2 };
            fs::rename(part(desk, number), desk.path("aside")).unwrap();
            fs::rename(part(desk, other), part(desk, number)).unwrap();
            fs::rename(desk.path("aside"), part(desk, other)).unwrap();
        }),
    ];
    for (what, damage) in damage {
        let count = sealed().names().len() - 1;
        for number in 1..=count {
            let desk = sealed();
            damage(&desk, number);
            let failure = load(&desk.file()).expect_err(what);
            // Without its first part nothing says that there is a file, and random bytes are no beginning of one.
            let expected = match (what, number) {
                ("missing", 1) | ("another" | "swapped", 1) => Exit::NoVault,
                _ => Exit::Damaged,
            };
            assert_eq!(failure.exit, expected, "part {number} {what}: {}", failure.message);
        }
    }
}

#[test]
fn a_part_of_another_file_is_damage() {
    let (desk, other) = (sealed(), sealed());
    fs::copy(part(&other, 2), part(&desk, 2)).unwrap();
    assert_eq!(load(&desk.file()).unwrap_err().exit, Exit::Damaged);
}

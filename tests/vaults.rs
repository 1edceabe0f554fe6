//! Vaults that earlier versions made, kept in `tests/vaults`: all of them open for ever.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use strongroom::crypto::digest;
use strongroom::crypto::text;
use strongroom::observe::Silent;
use strongroom::store::Local;
use strongroom::store::Store;
use strongroom::task::browse;
use strongroom::task::restore;
use strongroom::task::verify;
use strongroom::vault::LockedVault;
use strongroom::vault::Vault;
use strongroom::vault::slot::Way;

fn store() -> Arc<dyn Store> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vaults/v1/vault");
    Arc::new(Local::load(&place).unwrap())
}

fn file(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vaults/v1").join(name)).unwrap()
}

fn unlock(way: &Way) -> Vault {
    LockedVault::load(store(), None).unwrap().unlock(way).unwrap()
}

fn by_key_file() -> Way {
    Way { key_file: Some(text::decode_key_file(&file("key")).unwrap()), ..Way::default() }
}

#[test]
fn the_vault_of_version_1_opens_by_both_its_ways_and_is_sound_to_the_last_byte() {
    let page = String::from_utf8(file("recovery-code.txt")).unwrap();
    let code = Way { recovery_code: Some(text::find_recovery_code(&page).unwrap()), ..Way::default() };
    for way in [by_key_file(), code] {
        let vault = unlock(&way);
        let report = verify::verify_private(&vault, None, &[], &verify::ReadData::All, &Silent).unwrap();
        assert!(report.is_sound());
        assert_eq!(report.snapshots, 2);
    }
}

#[test]
fn the_files_of_version_1_come_back_as_they_were() {
    let vault = unlock(&by_key_file());
    let listing = browse::snapshots(&vault);
    let folder = tempfile::tempdir().unwrap();
    for (snapshot, tiny) in listing.snapshots.iter().zip(["x", "changed"]) {
        let reader = browse::reader(&vault, snapshot).unwrap();
        let target = folder.path().join(tiny);
        let summary = restore::restore(&reader, &target, &restore::Options::default(), &Silent).unwrap();
        assert_eq!((summary.files, summary.damaged_count, summary.problems), (3, 0, 0));
        let source = target.join("tmp/vf/source");
        assert_eq!(fs::read_to_string(source.join("tiny")).unwrap(), tiny);
        assert_eq!(fs::read_to_string(source.join("link")).unwrap(), "Dear customer,\n".repeat(40));
        let noise = digest::digest(&fs::read(source.join("noise")).unwrap());
        assert_eq!(noise.to_string(), "cc672336178dfb7a07247e86712aa34c05d85117efc954194769cfd29b5b14eb");
    }
}

//! A thief has the laptop's whole state and a copy of the vault: nothing of it opens.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use harness::Site;
use strongroom::crypto::derive::derive;
use strongroom::crypto::kem::KemSecretKey;
use strongroom::crypto::secret::Secret;
use strongroom::seal::cseal;
use strongroom::seal::pseal;
use strongroom::store::Local;
use strongroom::vault::error::Error;
use strongroom::vault::slot::Way;

const NAME: &str = "canary-name-of-a-customer";
const CONTENT: &str = "canary content of a letter";

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn backed_up() -> (tempfile::TempDir, Site) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join(NAME), CONTENT.repeat(1_000)).unwrap();
    fs::write(source.join("small"), CONTENT).unwrap();
    let site = Site::new(Arc::new(Local::create(&folder.path().join("vault")).unwrap()));
    site.backup(&source).unwrap();
    (folder, site)
}

/// All that the device's key opens of its own state, in the clear.
fn opened_state(site: &Site) -> Vec<Vec<u8>> {
    let state = site.machine.vault_state(&site.fingerprint);
    let key_file = fs::read(state.path().join("device.key")).unwrap();
    let own = &key_file[key_file.len() - 32..];
    let state_key: Secret<32> = derive(own, &[], "state", &site.fingerprint.0);
    let mut opened = vec![key_file.clone()];
    for name in ["grant", "pins", "commit"] {
        let sealed = fs::read(state.path().join(name)).unwrap();
        let context = [&site.fingerprint.0[..], name.as_bytes()].concat();
        let plain = state_key.expose(|key| cseal::unwrap(key, "local-state", &context, &sealed)).unwrap();
        opened.push(plain.expose(<[u8]>::to_vec));
    }
    opened
}

#[test]
fn neither_vault_nor_state_shows_a_name_or_a_byte_of_content() {
    let (folder, site) = backed_up();
    let places = [folder.path().join("vault"), site.home.path().join("state")];
    let files: Vec<PathBuf> = places.iter().flat_map(|place| files_below(place)).collect();
    assert!(files.len() > 20, "the test looks at the real thing: {files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for canary in [NAME, CONTENT, "source"] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{} shows {canary:?}", file.display());
        }
        assert!(!file.to_str().unwrap().contains("canary"), "{}", file.display());
    }
}

#[test]
fn no_32_bytes_of_the_opened_state_open_a_pack_an_index_or_a_body() {
    let (folder, site) = backed_up();
    let state = opened_state(&site);
    // dedup 32, count of messages 8, count of epochs 4, epoch 4, psk 32: all that the thief can have.
    let psk = Secret::<32>::from_slice(&state[1][48..80]).unwrap();
    let packs = files_below(&folder.path().join("vault/p"));
    assert!(packs.len() >= 4, "data, trees, index and body: {packs:?}");
    let mut tried = 0;
    for pack in packs {
        let object = fs::read(&pack).unwrap();
        let header = pseal::peek(&object).unwrap();
        for seed in state.iter().flat_map(|bytes| bytes.windows(32)) {
            let secret = KemSecretKey::from_seed(Secret::from_slice(seed).unwrap());
            for psk in [&psk, &pseal::no_psk()] {
                let opened = pseal::open(&site.fingerprint, &secret, psk, &header, &object);
                assert_eq!(opened.err(), Some(pseal::Error::WrongKey), "{}", pack.display());
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000);
}

#[test]
fn no_bytes_of_the_opened_state_open_a_slot() {
    let (_folder, site) = backed_up();
    for bytes in opened_state(&site) {
        for window in bytes.windows(32) {
            let key_file = Way { key_file: Secret::from_slice(window), ..Way::default() };
            assert!(matches!(site.unlock_with(&key_file), Err(Error::WrongKey)));
        }
    }
}

//! Re-encryption of a vault on the disk of the temporary folder, bytes a second, beside its floor: the same
//! objects read, opened, sealed under another key and written with nothing around it.
//!
//! `cargo bench --bench reencrypt` prints both and their ratio, in turn and several times, as machines are
//! noisy and only a ratio of one run says anything. The limits: ChaCha20-Poly1305 at 2.2 GB/s a core, twice
//! for the floor and three times for us, as all that is sealed anew is opened again before the old object
//! goes; BLAKE3 at 6 GB/s, to check a name and to make one; and the disk, about 1.1 GB/s.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a bench prints and may panic")]

#[path = "../tests/harness/mod.rs"]
mod harness;
mod sample;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use harness::Site;
use rayon::iter::IntoParallelRefIterator;
use rayon::iter::ParallelIterator;
use strongroom::id::DeviceId;
use strongroom::id::Epoch;
use strongroom::observe::Silent;
use strongroom::seal::pseal;
use strongroom::seal::pseal::Check;
use strongroom::seal::pseal::Sealer;
use strongroom::store::Local;
use strongroom::store::Store;
use strongroom::task::reencrypt;
use strongroom::task::reencrypt::Ended;
use strongroom::vault::Vault;
use strongroom::vault::history::Located;
use strongroom::vault::name::Place;

const BYTES: usize = 600_000_000;
const ROUNDS: usize = 3;

fn rotate(vault: &mut Vault) {
    vault
        .change_keys(harness::now(), &|_| {}, &|draft| {
            draft.start_epoch();
            Ok(())
        })
        .unwrap();
}

/// Reads, opens, seals and writes all objects, and forgets what it wrote.
fn floor(vault: &Vault, folder: &Path) -> f64 {
    let elsewhere = Local::create(&folder.join("floor")).unwrap();
    let objects: Vec<(DeviceId, Located)> = vault
        .log()
        .devices()
        .keys()
        .flat_map(|device| {
            let history = vault.locked().history(*device).unwrap();
            history.must_exist(vault.log()).into_iter().map(|located| (*device, located)).collect::<Vec<_>>()
        })
        .collect();
    let fingerprint = vault.log().fingerprint();
    let begun = Instant::now();
    objects.par_iter().for_each(|(device, located)| {
        let (epoch, kind) = vault.locked().sealed_under(*device, located.name).unwrap();
        let plaintext = vault.whole_object(*device, located, kind).unwrap();
        let recipient = vault.log().keys().newest_key.clone();
        let psk = vault.ring().epoch(epoch).unwrap().device_psk(&fingerprint, *device);
        let sealer = Sealer::new(fingerprint, recipient, psk, vault.hedge().unwrap());
        let header = pseal::Header { vault: fingerprint.vault_id(), device: *device, epoch: Epoch(9), kind };
        let sealed = sealer.seal(&header, &[&plaintext], None, Check::Sample).unwrap();
        let name = Place::Pack { device: *device, digest: sealed.digest() }.name();
        elsewhere.put(&name, sealed.bytes()).unwrap();
    });
    let seconds = begun.elapsed().as_secs_f64();
    fs::remove_dir_all(folder.join("floor")).unwrap();
    seconds
}

fn main() {
    // `cargo test --benches` asks only whether this builds.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("photos"), sample::noise(BYTES)).unwrap();
    let site = Site::new(Arc::new(Local::create(&folder.path().join("vault")).unwrap()));
    site.backup(&source).unwrap();
    #[allow(clippy::cast_precision_loss, reason = "a rate of three digits")]
    let rate = |seconds: f64| BYTES as f64 / seconds / 1e9;
    for round in 1..=ROUNDS {
        let mut vault = site.unlock();
        rotate(&mut vault);
        let floor = floor(&vault, folder.path());
        let begun = Instant::now();
        let options = reencrypt::Options { until: None, clock: harness::now, wait: &|_| {} };
        let summary = reencrypt::reencrypt(&mut vault, &options, &Silent).unwrap();
        let own = begun.elapsed().as_secs_f64();
        assert!(matches!(summary.ended, Ended::Complete { .. }) && summary.left.objects == 0);
        println!(
            "round {round}: floor {floor:.2} s ({:.3} GB/s), re-encryption {own:.2} s ({:.3} GB/s), ratio {:.2}",
            rate(floor),
            rate(own),
            own / floor
        );
    }
}

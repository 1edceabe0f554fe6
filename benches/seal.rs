//! Sealing and opening packs, in bytes a second on one core, and what stands around it once an object.
//!
//! What should be the limit, on one core of an AMD EPYC (Zen 4), in decimal GB a second: ChaCha20-Poly1305
//! 2.2 to 2.4 in segments of 64 KiB (AVX-512), BLAKE3 6.4 while the bytes are in the cache, a copy about 12.
//! Sealing does all three, 1/(1/2.3 + 1/6.4 + 1/12) = 1.5; opening the first and a copy, 1.9. Without
//! `commit_to` sealing hashes its plaintext as well, 1.2. Measured on a quiet machine: sealing a pack 1.7,
//! opening it 2.4, as all of these are faster there.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;
use strongroom::crypto::derive;
use strongroom::crypto::digest;
use strongroom::crypto::kdf;
use strongroom::crypto::kdf::Argon2Settings;
use strongroom::crypto::kem::KemSecretKey;
use strongroom::crypto::secret::Secret;
use strongroom::crypto::secret::SecretBytes;
use strongroom::crypto::sign::SignatureType;
use strongroom::crypto::sign::SigningKey;
use strongroom::id::DeviceId;
use strongroom::id::Epoch;
use strongroom::id::Fingerprint;
use strongroom::seal::pseal;
use strongroom::seal::pseal::Check;
use strongroom::seal::pseal::Header;
use strongroom::seal::pseal::Kind;
use strongroom::seal::pseal::Sealer;

fn main() {
    divan::main();
}

const MIB: usize = 1024 * 1024;
const FINGERPRINT: Fingerprint = Fingerprint([7; 32]);

fn header() -> Header {
    Header { vault: FINGERPRINT.vault_id(), device: DeviceId([1; 16]), epoch: Epoch(1), kind: Kind::Data }
}

fn recipient() -> KemSecretKey {
    KemSecretKey::from_seed(Secret::take(&mut [3; 32]))
}

fn sealer() -> Sealer {
    Sealer::new(FINGERPRINT, recipient().public(), pseal::no_psk(), Secret::take(&mut [4; 32]))
}

/// A pack in blocks of 1 MiB, committed to by its directory, each into the memory of the last.
#[divan::bench(args = [1, 16, 32])]
fn seal(bencher: Bencher<'_, '_>, mib: usize) {
    let block = vec![0x5a; MIB];
    let parts = vec![&block[..]; mib];
    let (sealer, directory) = (sealer(), digest::digest(b"directory"));
    let mut buffer = Vec::new();
    bencher.counter(BytesCount::new(mib * MIB)).bench_local(|| {
        let memory = std::mem::take(&mut buffer);
        buffer = sealer
            .seal_into(memory, &header(), &parts, Some(&directory), Check::Sample)
            .expect("memory is sound")
            .into_bytes();
    });
}

/// As above, into memory that is new each time.
#[divan::bench(args = [16])]
fn seal_into_new_memory(bencher: Bencher<'_, '_>, mib: usize) {
    let block = vec![0x5a; MIB];
    let parts = vec![&block[..]; mib];
    let (sealer, directory) = (sealer(), digest::digest(b"directory"));
    bencher
        .counter(BytesCount::new(mib * MIB))
        .bench_local(|| black_box(sealer.seal(&header(), &parts, Some(&directory), Check::Sample)));
}

/// As above, and opened again whole, as `--paranoid` has it.
#[divan::bench(args = [16])]
fn seal_and_open_again(bencher: Bencher<'_, '_>, mib: usize) {
    let block = vec![0x5a; MIB];
    let parts = vec![&block[..]; mib];
    let (sealer, directory) = (sealer(), digest::digest(b"directory"));
    bencher
        .counter(BytesCount::new(mib * MIB))
        .bench_local(|| black_box(sealer.seal(&header(), &parts, Some(&directory), Check::Whole)));
}

/// A whole pack.
#[divan::bench(args = [1, 16])]
fn open(bencher: Bencher<'_, '_>, mib: usize) {
    let object = sealer()
        .seal(&header(), &[&vec![0x5a; mib * MIB]], None, Check::Sample)
        .expect("memory is sound")
        .into_bytes();
    let (secret, psk) = (recipient(), pseal::no_psk());
    bencher.counter(BytesCount::new(mib * MIB)).bench_local(|| {
        pseal::open(&FINGERPRINT, &secret, &psk, &header(), black_box(&object)).expect("it was just sealed")
    });
}

/// The head alone. Limit: X-Wing, whose crate expands the key from its seed twice each time, 0.2 ms.
#[divan::bench]
fn open_head(bencher: Bencher<'_, '_>) {
    let object =
        sealer().seal(&header(), &[b"some"], None, Check::Sample).expect("memory is sound").into_bytes();
    let (secret, psk) = (recipient(), pseal::no_psk());
    bencher.bench_local(|| {
        pseal::Opener::new(&FINGERPRINT, &secret, &psk, &header(), black_box(&object)).is_ok()
    });
}

/// Limit: a dozen blocks of SHA-256, about 0.4 us.
#[divan::bench]
fn derive_key() -> Secret<32> {
    derive::derive(black_box(&[1; 32]), b"", "bench", black_box(b"context"))
}

/// Limit: ML-KEM-768 and two X25519 multiplications, 0.1 ms.
#[divan::bench]
fn encapsulate(bencher: Bencher<'_, '_>) {
    let public = recipient().public();
    bencher.bench_local(|| public.encapsulate());
}

/// Limit: two fixed-base multiplications, as the key is expanded from its seed each time, 22 us.
#[divan::bench]
fn sign(bencher: Bencher<'_, '_>) {
    let key = SigningKey::generate();
    bencher.bench_local(|| key.sign(SignatureType::Snapshot, black_box(&[9; 200])));
}

/// Limit: one double multiplication, about 30 us.
#[divan::bench]
fn verify(bencher: Bencher<'_, '_>) {
    let key = SigningKey::generate();
    let (public, signature) = (key.public(), key.sign(SignatureType::Snapshot, &[9; 200]));
    bencher.bench_local(|| public.verify(SignatureType::Snapshot, black_box(&[9; 200]), &signature));
}

/// The default settings, of which the memory is the limit: 256 MiB three times.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn stretch_a_passphrase(bencher: Bencher<'_, '_>) {
    let passphrase = SecretBytes::from_slice(b"ten words or so");
    bencher.bench_local(|| kdf::stretch(&passphrase, &[5; 32], &Argon2Settings::DEFAULT).is_ok());
}

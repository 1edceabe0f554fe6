//! Small secrets under a key: what slots, rings and a device's own state are wrapped in.
//!
//! ```text
//! off  len  field
//! 0    32   salt = BLAKE3-keyed(KDF(key, "", "cseal-salt", context), 32 random bytes || plaintext)
//! 32   32   commitment
//! 64   n    ciphertext
//! ..   16   tag
//!
//! k(32) || nonce(12) || commitment(32) = KDF(key, salt, label, context)
//! ```

use std::fmt;

use zeroize::Zeroize;

use crate::crypto::aead;
use crate::crypto::derive;
use crate::crypto::digest;
use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;

/// How many bytes more than its plaintext a wrapped secret has.
pub const OVERHEAD_BYTES: usize = SALT_BYTES + COMMITMENT_BYTES + aead::TAG_BYTES;

const SALT_BYTES: usize = 32;
const COMMITMENT_BYTES: usize = 32;
const KEYS_BYTES: usize = 32 + aead::NONCE_BYTES + COMMITMENT_BYTES;

/// Why wrapped bytes don't open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There is no room for salt, commitment and tag.
    TooShort,
    /// They were wrapped under another key, label or context (or salt or commitment are damaged).
    WrongKey,
    /// The key is right and the rest is not what was wrapped.
    Damaged,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(f, "the wrapped secret is too short to be one"),
            Self::WrongKey => write!(f, "the key does not open this"),
            Self::Damaged => write!(f, "the wrapped secret is damaged"),
        }
    }
}

impl std::error::Error for Error {}

/// Wraps `plaintext` under `key` for the purpose `label` in the place `context`, which go into the
/// derived key: elsewhere the result doesn't open.
///
/// The salt is hedged: a repeated random draw still gives another key for other bytes (R-10).
#[must_use]
pub fn wrap(key: &[u8], label: &str, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
    wrap_with(&random::bytes(), key, label, context, plaintext)
}

fn wrap_with(random: &[u8; 32], key: &[u8], label: &str, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let salt_key: Secret<32> = derive::derive(key, b"", "cseal-salt", context);
    let salt = digest::keyed(&salt_key, &[random, plaintext]);
    let keys = Keys::derive(key, &salt, label, context);

    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
    sealed.extend_from_slice(&salt);
    sealed.extend_from_slice(&keys.commitment);
    sealed.extend_from_slice(plaintext);
    let tag = aead::seal(&keys.key, keys.nonce, &mut sealed[SALT_BYTES + COMMITMENT_BYTES..]);
    sealed.extend_from_slice(&tag);
    sealed
}

/// Unwraps what [`wrap`] gave for the same key, label and context.
///
/// # Errors
/// [`Error::TooShort`] if there is no room for its fixed parts; [`Error::WrongKey`] if the commitment
/// isn't the key's, found in constant time and before any decryption (R-12); [`Error::Damaged`] if the
/// tag doesn't match: none of the plaintext is returned then.
pub fn unwrap(key: &[u8], label: &str, context: &[u8], sealed: &[u8]) -> Result<SecretBytes, Error> {
    let (salt, rest) = sealed.split_first_chunk::<SALT_BYTES>().ok_or(Error::TooShort)?;
    let (commitment, rest) = rest.split_first_chunk::<COMMITMENT_BYTES>().ok_or(Error::TooShort)?;
    let (ciphertext, tag) = rest.split_last_chunk::<{ aead::TAG_BYTES }>().ok_or(Error::TooShort)?;

    let keys = Keys::derive(key, salt, label, context);
    if !digest::equal(&keys.commitment, commitment) {
        return Err(Error::WrongKey);
    }
    let mut opened = SecretBytes::from_slice(ciphertext);
    opened
        .expose_mut(|buffer| aead::open(&keys.key, &keys.nonce, buffer, tag))
        .map_err(|_| Error::Damaged)?;
    Ok(opened)
}

struct Keys {
    key: Secret<32>,
    nonce: aead::Nonce,
    commitment: [u8; COMMITMENT_BYTES],
}

impl Keys {
    fn derive(key: &[u8], salt: &[u8], label: &str, context: &[u8]) -> Self {
        let derived: Secret<KEYS_BYTES> = derive::derive(key, salt, label, context);
        derived.expose(|bytes| {
            let mut nonce = [0; aead::NONCE_BYTES];
            nonce.copy_from_slice(&bytes[32..44]);
            let mut commitment = [0; COMMITMENT_BYTES];
            commitment.copy_from_slice(&bytes[44..]);
            let keys = Self { key: derived.part(0), nonce: aead::Nonce::derived(nonce), commitment };
            nonce.zeroize();
            keys
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    #[test]
    fn wrapped_secrets_are_those_of_the_vectors_and_open() {
        for case in vectors::cases(include_str!("../../tests/vectors/cseal.txt")) {
            let (key, label, context) = (case.bytes("key"), case.text("label"), case.bytes("context"));
            let plaintext = case.bytes("plaintext");
            let sealed = wrap_with(&case.array("random"), &key, label, &context, &plaintext);
            assert_eq!(sealed, case.bytes("sealed"));
            assert_eq!(sealed.len(), plaintext.len() + OVERHEAD_BYTES);
            unwrap(&key, label, &context, &sealed).unwrap().expose(|opened| assert_eq!(opened, plaintext));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let sealed = wrap(b"key", "label", b"context", b"secret");
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 0x10;
            let expected = if at < 64 { Error::WrongKey } else { Error::Damaged };
            assert_eq!(unwrap(b"key", "label", b"context", &flipped).err(), Some(expected), "byte {at}");
        }
        for length in 0..sealed.len() {
            let expected = if length < OVERHEAD_BYTES { Error::TooShort } else { Error::Damaged };
            assert_eq!(unwrap(b"key", "label", b"context", &sealed[..length]).err(), Some(expected));
        }
        let extended = [&sealed[..], &[0]].concat();
        assert_eq!(unwrap(b"key", "label", b"context", &extended).err(), Some(Error::Damaged));
    }

    #[test]
    fn another_key_label_or_context_does_not_open() {
        let sealed = wrap(b"key", "label", b"context", b"secret");
        assert_eq!(unwrap(b"kez", "label", b"context", &sealed).err(), Some(Error::WrongKey));
        assert_eq!(unwrap(b"key", "labem", b"context", &sealed).err(), Some(Error::WrongKey));
        assert_eq!(unwrap(b"key", "label", b"contexu", &sealed).err(), Some(Error::WrongKey));
    }

    #[test]
    fn a_ciphertext_made_for_two_keys_opens_under_the_one_it_commits_to() {
        for case in vectors::cases(include_str!("../../tests/vectors/cseal-two-keys.txt")) {
            let (label, context, sealed) = (case.text("label"), case.bytes("context"), case.bytes("sealed"));
            let (opens, refuses) = (case.bytes("opens"), case.bytes("refuses"));
            assert!(unwrap(&opens, label, &context, &sealed).is_ok());
            assert_eq!(unwrap(&refuses, label, &context, &sealed).err(), Some(Error::WrongKey));

            // Without the commitment both would open: with the other key's in its place, that one does.
            let mut other = sealed;
            let keys = Keys::derive(&refuses, &other[..SALT_BYTES], label, &context);
            other[SALT_BYTES..SALT_BYTES + COMMITMENT_BYTES].copy_from_slice(&keys.commitment);
            assert!(unwrap(&refuses, label, &context, &other).is_ok());
            assert_eq!(unwrap(&opens, label, &context, &other).err(), Some(Error::WrongKey));
        }
    }

    #[test]
    fn a_repeated_random_draw_still_gives_other_bytes_another_salt_and_key() {
        let wrapped = |plaintext: &[u8]| wrap_with(&[7; 32], b"key", "label", b"context", plaintext);
        let (first, second) = (wrapped(b"one secret"), wrapped(b"two secret"));
        assert_ne!(first[..SALT_BYTES], second[..SALT_BYTES]);
        assert_ne!(first[SALT_BYTES..64], second[SALT_BYTES..64], "the commitment tells the key");
    }
}

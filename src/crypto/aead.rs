//! Authenticated encryption: ChaCha20-Poly1305 in place.
//!
//! There is no associated data: what bytes are for goes into the key they are encrypted under, and
//! an empty one keeps Poly1305 on its fast path.

use chacha20poly1305::AeadInOut;
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::KeyInit;

use crate::crypto::secret::Secret;

/// Bytes of a tag.
pub(crate) const TAG_BYTES: usize = 16;

/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 12;

/// A nonce. Only `seal` makes one, from what it derives together with the key; it has no `Clone`,
/// and sealing takes it by value, so the same one isn't used twice by an oversight.
pub(crate) struct Nonce([u8; NONCE_BYTES]);

impl Nonce {
    /// A nonce that was derived with the key it is for.
    pub(crate) fn derived(bytes: [u8; NONCE_BYTES]) -> Self {
        Self(bytes)
    }
}

/// The tag doesn't match: another key, another nonce or other bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mismatch;

/// Encrypts `buffer` in place and returns its tag.
///
/// # Panics
/// Beyond 256 GiB, far above what any layout of ours holds.
///
/// Source: RFC 8439 §2.8.
pub(crate) fn seal(key: &Secret<32>, nonce: Nonce, buffer: &mut [u8]) -> [u8; TAG_BYTES] {
    let cipher = key.expose(|key| ChaCha20Poly1305::new(key.into()));
    cipher
        .encrypt_inout_detached(&nonce.0.into(), b"", buffer.into())
        .expect("a buffer is far shorter than the cipher's bound")
        .into()
}

/// Decrypts `buffer` in place, once `tag` matches; else it is left as it was.
pub(crate) fn open(
    key: &Secret<32>,
    nonce: &Nonce,
    buffer: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), Mismatch> {
    let cipher = key.expose(|key| ChaCha20Poly1305::new(key.into()));
    cipher.decrypt_inout_detached(&nonce.0.into(), b"", buffer.into(), tag.into()).map_err(|_| Mismatch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    #[test]
    fn chacha20poly1305_gives_the_published_ciphertexts_and_opens_them() {
        for case in vectors::cases(include_str!("../../tests/vectors/chacha20poly1305.txt")) {
            let key: Secret<32> = Secret::take(&mut case.array("key"));
            let nonce: [u8; NONCE_BYTES] = case.array("nonce");
            let mut buffer = case.bytes("plaintext");
            let tag: [u8; TAG_BYTES] = if case.bytes("aad").is_empty() {
                seal(&key, Nonce::derived(nonce), &mut buffer)
            } else {
                // We have no associated data, so the RFC's vector goes to the crate.
                key.expose(|key| ChaCha20Poly1305::new(key.into()))
                    .encrypt_inout_detached(&nonce.into(), &case.bytes("aad"), (&mut buffer[..]).into())
                    .unwrap()
                    .into()
            };
            assert_eq!(buffer, case.bytes("ciphertext"));
            assert_eq!(tag, case.array("tag"));
            if case.bytes("aad").is_empty() {
                open(&key, &Nonce::derived(nonce), &mut buffer, &tag).unwrap();
                assert_eq!(buffer, case.bytes("plaintext"));
            }
        }
    }

    #[test]
    fn what_wycheproof_calls_invalid_does_not_open_and_what_is_valid_does() {
        for case in vectors::cases(include_str!("../../tests/vectors/wycheproof/chacha20poly1305.txt")) {
            let what = format!("{}: {}", case.text("case"), case.text("what"));
            let key: Secret<32> = Secret::take(&mut case.array("key"));
            let (nonce, tag): ([u8; NONCE_BYTES], [u8; TAG_BYTES]) = (case.array("nonce"), case.array("tag"));
            let aad = case.bytes("aad");
            let mut buffer = case.bytes("ciphertext");
            let opened = if aad.is_empty() {
                open(&key, &Nonce::derived(nonce), &mut buffer, &tag)
            } else {
                // As above: associated data is the crate's alone.
                key.expose(|key| ChaCha20Poly1305::new(key.into()))
                    .decrypt_inout_detached(&nonce.into(), &aad, (&mut buffer[..]).into(), &tag.into())
                    .map_err(|_| Mismatch)
            };
            assert_eq!(opened.is_ok(), case.is_valid(), "{what}");
            assert_eq!(
                buffer,
                case.bytes(if case.is_valid() { "plaintext" } else { "ciphertext" }),
                "{what}"
            );
            if case.is_valid() && aad.is_empty() {
                assert_eq!(seal(&key, Nonce::derived(nonce), &mut buffer), tag, "{what}");
                assert_eq!(buffer, case.bytes("ciphertext"), "{what}");
            }
        }
    }

    #[test]
    fn a_buffer_that_does_not_match_its_tag_is_left_as_it_was() {
        let key = Secret::generate();
        let mut buffer = b"sixteen bytes or more".to_vec();
        let tag = seal(&key, Nonce::derived([1; NONCE_BYTES]), &mut buffer);
        let sealed = buffer.clone();
        let other_nonce = Nonce::derived([2; NONCE_BYTES]);
        assert_eq!(open(&key, &other_nonce, &mut buffer, &tag), Err(Mismatch));
        assert_eq!(buffer, sealed);
    }
}

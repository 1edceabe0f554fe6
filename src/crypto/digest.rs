//! Digests: BLAKE3-256, plain for objects and records, keyed for ids and check values.

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::crypto::secret::Secret;
use crate::id::Digest;

/// The digest of `bytes`.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// A [`digest`] of bytes that come in pieces.
#[derive(Default)]
pub struct Digester(blake3::Hasher);

impl Digester {
    /// A digester that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest of all that was taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl Drop for Digester {
    fn drop(&mut self) {
        // What it has buffered may be plaintext.
        self.0.zeroize();
    }
}

/// A digest under a key of bytes that come in pieces.
pub struct KeyedDigester(blake3::Hasher);

impl KeyedDigester {
    /// A digester under `key` that has seen nothing.
    #[must_use]
    pub fn new(key: &Secret<32>) -> Self {
        Self(key.expose(blake3::Hasher::new_keyed))
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest of all that was taken in.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

impl Drop for KeyedDigester {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The digest under `key` of `parts` one after the other.
///
/// Nothing separates the parts: whoever gives several fixes their lengths.
#[must_use]
pub fn keyed(key: &Secret<32>, parts: &[&[u8]]) -> [u8; 32] {
    if let [whole] = parts {
        // No digester to make and to wipe, which takes as long as a kilobyte of digest; what is on the stack at its end
        // stays there either way.
        return key.expose(|key| *blake3::keyed_hash(key, whole).as_bytes());
    }
    let mut digester = KeyedDigester::new(key);
    for part in parts {
        digester.update(part);
    }
    digester.finish()
}

/// Whether `a` and `b` are the same, in a time that tells only whether their lengths are.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    #[test]
    fn blake3_gives_the_published_digests_whole_and_in_pieces() {
        let key = Secret::from_slice(b"whats the Elvish word for friend").unwrap();
        for case in vectors::cases(include_str!("../../tests/vectors/blake3.txt")) {
            let input = vectors::pattern(case.number("input_bytes"));
            let mut plain = Digester::new();
            let mut under_key = KeyedDigester::new(&key);
            for piece in input.chunks(1000) {
                plain.update(piece);
                under_key.update(piece);
            }
            assert_eq!(digest(&input), plain.finish());
            assert_eq!(digest(&input).0, case.array("hash"));
            assert_eq!(under_key.finish(), case.array("keyed_hash"));
            assert_eq!(keyed(&key, &[&input]), case.array("keyed_hash"));
            let (start, rest) = input.split_at(input.len() / 3);
            assert_eq!(keyed(&key, &[start, rest]), case.array("keyed_hash"));
        }
    }

    #[test]
    fn only_equal_bytes_of_equal_length_are_equal() {
        assert!(equal(b"same", b"same"));
        assert!(!equal(b"same", b"sane"));
        assert!(!equal(b"same", b"same "));
    }
}

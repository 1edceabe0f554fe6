//! Signatures: Ed25519 with strict verification.

use std::fmt;

use ed25519_dalek::Signature;
use ed25519_dalek::Signer;

use crate::crypto::digest;
use crate::crypto::secret::Secret;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Stands before what is signed, so that no signature of ours is one of another program's.
const PREFIX: &[u8] = b"strongroom/v1/sig/";

/// What a signature is for; it holds for nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureType {
    /// A record of the authority log.
    Authority,
    /// A snapshot header.
    Snapshot,
    /// A record of a person's log.
    User,
    /// A device's request to join.
    Request,
    /// The end of a sealed file.
    End,
    /// Who sealed a file.
    SealedBy,
    /// What an owner states about the vault, for people.
    Statement,
}

impl SignatureType {
    fn label(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Snapshot => "snapshot",
            Self::User => "user",
            Self::Request => "request",
            Self::End => "end",
            Self::SealedBy => "sealed-by",
            Self::Statement => "statement",
        }
    }

    /// What is signed for `bytes`: `"strongroom/v1/sig/" label 0x00 BLAKE3(bytes)`.
    fn message(self, bytes: &[u8]) -> Vec<u8> {
        [PREFIX, self.label().as_bytes(), &[0], digest::digest(bytes).as_bytes()].concat()
    }
}

/// Why a key or a signature was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The bytes are no key that an honest signer has: no point, not its one encoding, or small order.
    Key,
    /// The signature is not this key's over these bytes for this purpose.
    Signature,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => write!(f, "the public key is not one that an honest signer has"),
            Self::Signature => write!(f, "the signature does not match"),
        }
    }
}

impl std::error::Error for Error {}

/// Who has it signs as its [`VerifyingKey`].
pub struct SigningKey {
    seed: Secret<32>,
}

impl SigningKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_seed(Secret::generate())
    }

    /// The key that `seed` stands for.
    #[must_use]
    pub fn from_seed(seed: Secret<32>) -> Self {
        Self { seed }
    }

    /// The seed it was made from.
    #[must_use]
    pub fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// The public key that verifies what it signs.
    #[must_use]
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.expand().verifying_key())
    }

    /// Signs `bytes`, all that stand before the signature, for the purpose `ty`.
    #[must_use]
    pub fn sign(&self, ty: SignatureType, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.sign_message(&ty.message(bytes))
    }

    fn sign_message(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.expand().sign(message).to_bytes()
    }

    fn expand(&self) -> ed25519_dalek::SigningKey {
        self.seed.expose(ed25519_dalek::SigningKey::from_bytes)
    }
}

/// A public key, checked: the one encoding of a point that is not of small order.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Takes `bytes` as a key.
    ///
    /// # Errors
    /// [`Error::Key`] if they are no point, not the one encoding of a point, or of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| Error::Key)?;
        // The crate keeps what it was given, so whether y < p = 2^255 - 19 is looked at here. A sign
        // bit that x = 0 can't have goes with small order.
        let y_over =
            bytes[31] | 0x80 == 0xff && bytes[1..31].iter().all(|&byte| byte == 0xff) && bytes[0] >= 0xed;
        if y_over || key.is_weak() { Err(Error::Key) } else { Ok(Self(key)) }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Checks that `signature` is this key's over `bytes` for the purpose `ty`.
    ///
    /// # Errors
    /// [`Error::Signature`] if not, or if the signature is not in its one encoding.
    ///
    /// Source: RFC 8032 §5.1.7 without cofactor, and S < L, R and key not of small order.
    pub fn verify(&self, ty: SignatureType, bytes: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
        self.verify_message(&ty.message(bytes), signature)
    }

    fn verify_message(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| Error::Signature)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", data_encoding::HEXLOWER.encode(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    const TYPES: [SignatureType; 6] = [
        SignatureType::Authority,
        SignatureType::Snapshot,
        SignatureType::User,
        SignatureType::Request,
        SignatureType::End,
        SignatureType::SealedBy,
    ];

    #[test]
    fn ed25519_gives_the_published_keys_and_signatures() {
        for case in vectors::cases(include_str!("../../tests/vectors/ed25519.txt")) {
            let key = SigningKey::from_seed(Secret::take(&mut case.array("seed")));
            assert_eq!(key.public().as_bytes(), &case.array("public"));
            let signature = key.sign_message(&case.bytes("message"));
            assert_eq!(signature, case.array("signature"));
            let public = VerifyingKey::from_bytes(&case.array("public")).unwrap();
            assert_eq!(public.verify_message(&case.bytes("message"), &signature), Ok(()));
        }
    }

    #[test]
    fn keys_that_no_honest_signer_has_are_refused() {
        for case in vectors::cases(include_str!("../../tests/vectors/ed25519-keys-refused.txt")) {
            let answer = VerifyingKey::from_bytes(&case.array("public"));
            assert_eq!(answer, Err(Error::Key), "{}", case.text("what"));
        }
    }

    #[test]
    fn signatures_that_are_lax_are_refused() {
        for case in vectors::cases(include_str!("../../tests/vectors/ed25519-signatures-refused.txt")) {
            let key = VerifyingKey::from_bytes(&case.array("public")).unwrap();
            let answer = key.verify_message(&case.bytes("message"), &case.array("signature"));
            assert_eq!(answer, Err(Error::Signature), "{}", case.text("what"));
        }
    }

    #[test]
    fn every_signature_that_wycheproof_calls_invalid_is_refused_and_every_valid_one_is_taken() {
        for case in vectors::cases(include_str!("../../tests/vectors/wycheproof/ed25519.txt")) {
            let key = VerifyingKey::from_bytes(&case.array("public")).unwrap();
            let answer = key.verify_message(&case.bytes("message"), &case.array("signature"));
            assert_eq!(answer.is_ok(), case.is_valid(), "{}: {}", case.text("case"), case.text("what"));
        }
    }

    #[test]
    fn a_signature_holds_for_its_type_its_bytes_and_its_key_alone() {
        let other = SigningKey::generate().public();
        let cases = vectors::cases(include_str!("../../tests/vectors/sign.txt"));
        assert_eq!(cases.len(), TYPES.len());
        for case in cases {
            let key = SigningKey::from_seed(Secret::take(&mut case.array("seed")));
            let (bytes, signature) = (case.text("bytes").as_bytes(), case.array("signature"));
            for ty in TYPES {
                if ty.label() == case.text("type") {
                    assert_eq!(key.sign(ty, bytes), signature);
                    assert_eq!(key.public().verify(ty, bytes, &signature), Ok(()));
                    assert_eq!(key.public().verify(ty, b"some recorD", &signature), Err(Error::Signature));
                    assert_eq!(other.verify(ty, bytes, &signature), Err(Error::Signature));
                } else {
                    assert_eq!(key.public().verify(ty, bytes, &signature), Err(Error::Signature));
                }
            }
        }
    }
}

//! Public-key sealing: X-Wing, which holds as long as X25519 or ML-KEM-768 does.
//!
//! Source: draft-connolly-cfrg-xwing-kem, HPKE KEM id 0x647a.

use std::fmt;

use x_wing::DecapsulationKeyRejectNonContrib;
use x_wing::Decapsulator;
use x_wing::EncapsulationKey;
use x_wing::KeyExport;
use x_wing::KeyInit;
use x_wing::TryDecapsulate;
use x_wing::TryKeyInit;
use zeroize::Zeroize;

use crate::crypto::digest;
use crate::crypto::secret::Secret;

/// Bytes of a public key: ML-KEM-768's 1,184, then X25519's 32.
pub const PUBLIC_KEY_BYTES: usize = 1216;

/// Bytes of a ciphertext: ML-KEM-768's 1,088, then X25519's 32.
pub const CIPHERTEXT_BYTES: usize = 1120;

/// Why a ciphertext was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Its X25519 half would force the shared secret; nobody honest makes one.
    Ciphertext,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ciphertext => write!(f, "the key encapsulation is not one that an honest sender makes"),
        }
    }
}

impl std::error::Error for Error {}

/// Who has it can open what was sealed to its [`KemPublicKey`]. Only the seed is kept; the key is
/// expanded from it at each use, so that nothing secret stands outside locked memory for long.
pub struct KemSecretKey {
    seed: Secret<32>,
}

impl KemSecretKey {
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

    /// The public key to seal to.
    #[must_use]
    pub fn public(&self) -> KemPublicKey {
        let mut bytes = Box::new([0; PUBLIC_KEY_BYTES]);
        bytes.copy_from_slice(&self.expand().encapsulation_key().to_bytes());
        KemPublicKey(bytes)
    }

    /// The secret that the sender of `ciphertext` shares with us. A ciphertext for somebody else, or a
    /// damaged one, mostly gives another secret and no error: what it opens must tell.
    ///
    /// # Errors
    /// [`Error::Ciphertext`] if its X25519 half is of small order, so that it forces the outcome.
    pub fn decapsulate(&self, ciphertext: &[u8; CIPHERTEXT_BYTES]) -> Result<Secret<32>, Error> {
        let mut shared = self.expand().try_decapsulate(ciphertext.into()).map_err(|_| Error::Ciphertext)?;
        let secret = Secret::filled(|place| place.copy_from_slice(&shared));
        shared.zeroize();
        Ok(secret)
    }

    fn expand(&self) -> Box<DecapsulationKeyRejectNonContrib> {
        self.seed.expose(|seed| Box::new(DecapsulationKeyRejectNonContrib::new(seed.into())))
    }
}

/// A public key, checked: its ML-KEM part is one that ML-KEM makes.
#[derive(Clone, PartialEq, Eq)]
pub struct KemPublicKey(Box<[u8; PUBLIC_KEY_BYTES]>);

impl KemPublicKey {
    /// Takes `bytes` as a key, or nothing unless there are 1,216 and ML-KEM's modulus check passes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key: Box<[u8; PUBLIC_KEY_BYTES]> = Box::<[u8]>::from(bytes).try_into().ok()?;
        EncapsulationKey::new((&*key).into()).ok().map(|_| Self(key))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.0
    }

    /// A ciphertext for the holder of the secret key, and the secret that both then share.
    #[must_use]
    pub fn encapsulate(&self) -> ([u8; CIPHERTEXT_BYTES], Secret<32>) {
        self.encapsulate_with(&Secret::generate())
    }

    /// As [`encapsulate`](Self::encapsulate), from 64 random bytes that are used for nothing else: 32
    /// for ML-KEM, 32 for X25519.
    pub(crate) fn encapsulate_with(&self, random: &Secret<64>) -> ([u8; CIPHERTEXT_BYTES], Secret<32>) {
        let key = EncapsulationKey::new((&*self.0).into()).expect("it was checked when it became a key");
        let (ciphertext, mut shared) = random.expose(|random| key.encapsulate_deterministic(random.into()));
        let secret = Secret::filled(|place| place.copy_from_slice(&shared));
        shared.zeroize();
        (ciphertext.into(), secret)
    }
}

impl fmt::Debug for KemPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KemPublicKey({}..)", digest::digest(&self.0[..]).short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;
    use ml_kem::Decapsulate as _;
    use ml_kem::ml_kem_768::DecapsulationKey;

    #[test]
    fn x_wing_gives_the_published_keys_ciphertexts_and_secrets() {
        for case in vectors::cases(include_str!("../../tests/vectors/xwing.txt")) {
            let secret = KemSecretKey::from_seed(Secret::take(&mut case.array("seed")));
            assert_eq!(secret.public().as_bytes(), &case.array("public"));
            let public = KemPublicKey::from_bytes(&case.bytes("public")).unwrap();
            let (ciphertext, shared) = public.encapsulate_with(&Secret::take(&mut case.array("random")));
            assert_eq!(ciphertext, case.array("ciphertext"));
            shared.expose(|shared| assert_eq!(shared, &case.array("shared")));
            let opened = secret.decapsulate(&ciphertext).unwrap();
            opened.expose(|shared| assert_eq!(shared, &case.array("shared")));
        }
    }

    #[test]
    fn a_ciphertext_that_forces_the_x25519_secret_is_refused() {
        let secret = KemSecretKey::generate();
        let (mut ciphertext, _) = secret.public().encapsulate();
        let mut forcing = 0;
        for case in vectors::cases(include_str!("../../tests/vectors/wycheproof/x25519.txt")) {
            ciphertext[1088..].copy_from_slice(&case.bytes("public"));
            let is_refused = secret.decapsulate(&ciphertext).is_err();
            let is_zero = case.bytes("shared") == [0; 32];
            assert_eq!(is_refused, is_zero, "{}: {}", case.text("case"), case.text("what"));
            forcing += usize::from(is_zero);
        }
        // The points of small order, each in all its encodings.
        assert_eq!(forcing, 14);
    }

    #[test]
    fn x25519_gives_the_secrets_of_wycheproof() {
        for case in vectors::cases(include_str!("../../tests/vectors/wycheproof/x25519.txt")) {
            let shared = x25519_dalek::x25519(case.array("secret"), case.array("public"));
            assert_eq!(shared, case.array("shared"), "{}: {}", case.text("case"), case.text("what"));
        }
    }

    #[test]
    fn ml_kem_gives_the_published_keys_ciphertexts_and_secrets() {
        for case in vectors::cases(include_str!("../../tests/vectors/mlkem768.txt")) {
            let what = case.text("what");
            #[allow(deprecated, reason = "a key that no seed of the final standard stands for")]
            let key = if case.has("expanded") {
                DecapsulationKey::from_expanded(&case.array::<2400>("expanded").into()).unwrap()
            } else {
                DecapsulationKey::from_seed(case.array::<64>("seed").into())
            };
            let public = key.encapsulation_key();
            assert_eq!(public.to_bytes()[..], case.bytes("public"), "{what}");
            if case.has("random") {
                let (made, shared) = public.encapsulate_deterministic(&case.array::<32>("random").into());
                assert_eq!(made[..], case.bytes("ciphertext"), "{what}");
                assert_eq!(shared[..], case.bytes("shared"), "{what}");
            }
            let shared = key.decapsulate(&case.array::<1088>("ciphertext").into());
            assert_eq!(shared[..], case.bytes("shared"), "{what}");
        }
    }

    #[test]
    fn a_key_with_a_coefficient_that_is_not_below_the_modulus_is_refused() {
        for case in vectors::cases(include_str!("../../tests/vectors/mlkem768-keys-refused.txt")) {
            let mut public = *KemSecretKey::generate().public().as_bytes();
            public[..1184].copy_from_slice(&case.bytes("public"));
            assert_eq!(KemPublicKey::from_bytes(&public), None, "{}", case.text("case"));
        }
    }

    #[test]
    fn bytes_that_ml_kem_never_makes_are_no_key() {
        let public = KemSecretKey::generate().public();
        assert_eq!(KemPublicKey::from_bytes(public.as_bytes()), Some(public.clone()));
        let mut over_the_modulus = *public.as_bytes();
        over_the_modulus[..3].fill(0xff);
        assert_eq!(KemPublicKey::from_bytes(&over_the_modulus), None);
        assert_eq!(KemPublicKey::from_bytes(&public.as_bytes()[1..]), None);
        assert_eq!(KemPublicKey::from_bytes(&[&public.as_bytes()[..], &[0]].concat()), None);
    }

    #[test]
    fn each_encapsulation_shares_another_secret() {
        let secret = KemSecretKey::generate();
        let (first, second) = (secret.public().encapsulate(), secret.public().encapsulate());
        assert_ne!(first.0, second.0);
        assert_ne!(first.1.expose(|shared| *shared), second.1.expose(|shared| *shared));
        let other = KemSecretKey::generate().decapsulate(&first.0).unwrap();
        assert_ne!(first.1.expose(|shared| *shared), other.expose(|shared| *shared));
    }
}

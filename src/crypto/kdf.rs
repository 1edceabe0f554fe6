//! Keys from passphrases: Argon2id.

use std::fmt;

use argon2::Algorithm;
use argon2::Argon2;
use argon2::Block;
use argon2::Params;
use argon2::Version;
use zeroize::Zeroize;

use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;

/// What a guess at a passphrase costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argon2Settings {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u8,
    /// Parts of that memory which threads may fill at once.
    pub lanes: u8,
}

impl Argon2Settings {
    /// What new slots get: 256 MiB, 3 passes, 4 lanes.
    pub const DEFAULT: Self = Self { memory_kib: 256 * 1024, passes: 3, lanes: 4 };

    /// The least that [`check`](Self::check) allows.
    pub const LEAST: Self = Self { memory_kib: 64 * 1024, passes: 1, lanes: 1 };

    /// The most of each that [`check`](Self::check) allows.
    pub const MOST: Self = Self { memory_kib: 2 * 1024 * 1024, passes: 16, lanes: 8 };

    /// The most memory times passes, in KiB.
    pub const WORK_KIB_MAX: u64 = 8 * 1024 * 1024;

    /// Whether these settings, which may come from somebody else's file, can be tried at all.
    ///
    /// # Errors
    /// [`Error::Settings`] unless 64 MiB <= memory <= 2 GiB, 1 <= passes <= 16, 1 <= lanes <= 8 and
    /// memory x passes <= 8 GiB.
    pub fn check(&self) -> Result<(), Error> {
        let memory = (Self::LEAST.memory_kib..=Self::MOST.memory_kib).contains(&self.memory_kib);
        let passes = (Self::LEAST.passes..=Self::MOST.passes).contains(&self.passes);
        let lanes = (Self::LEAST.lanes..=Self::MOST.lanes).contains(&self.lanes);
        let work = u64::from(self.memory_kib) * u64::from(self.passes) <= Self::WORK_KIB_MAX;
        if memory && passes && lanes && work { Ok(()) } else { Err(Error::Settings(*self)) }
    }
}

impl Default for Argon2Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a passphrase was not stretched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The settings are out of bounds; no memory was asked for.
    Settings(Argon2Settings),
    /// The system doesn't give so much memory, in KiB.
    Memory(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(Argon2Settings { memory_kib, passes, lanes }) => write!(
                f,
                "key derivation with {memory_kib} KiB, {passes} passes and {lanes} lanes is out of bounds"
            ),
            Self::Memory(kib) => write!(f, "the {kib} KiB of memory that key derivation takes can't be had"),
        }
    }
}

impl std::error::Error for Error {}

/// Stretches a passphrase into a key. The memory it used is wiped.
///
/// # Errors
/// [`Error::Settings`] if they are out of bounds; [`Error::Memory`] if the system refuses the memory.
///
/// Source: Argon2id version 1.3, RFC 9106.
pub fn stretch(
    passphrase: &SecretBytes,
    salt: &[u8; 32],
    settings: &Argon2Settings,
) -> Result<Secret<32>, Error> {
    settings.check()?;
    passphrase.expose(|passphrase| run(passphrase, salt, settings))
}

/// As [`stretch`], with any settings and salt: published vectors are smaller than what we allow.
fn run(passphrase: &[u8], salt: &[u8], settings: &Argon2Settings) -> Result<Secret<32>, Error> {
    let params =
        Params::new(settings.memory_kib, u32::from(settings.passes), u32::from(settings.lanes), Some(32))
            .map_err(|_| Error::Settings(*settings))?;

    let mut memory = Vec::new();
    memory.try_reserve_exact(params.block_count()).map_err(|_| Error::Memory(settings.memory_kib))?;
    memory.resize(params.block_count(), Block::new());

    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let key = Secret::filled(|key| {
        argon2
            .hash_password_into_with_memory(passphrase, salt, key, &mut memory[..])
            .expect("lengths are within what Argon2 takes, and the memory is as its parameters say");
    });
    memory.zeroize();
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    #[test]
    fn argon2id_gives_the_published_keys() {
        for case in vectors::cases(include_str!("../../tests/vectors/argon2id.txt")) {
            let settings = Argon2Settings {
                memory_kib: case.number("memory_kib"),
                passes: case.number("passes"),
                lanes: case.number("lanes"),
            };
            let key = run(case.text("passphrase").as_bytes(), &case.bytes("salt"), &settings).unwrap();
            key.expose(|key| assert_eq!(key, &case.array("key"), "{settings:?}"));
        }
    }

    #[test]
    fn settings_out_of_bounds_are_refused_before_any_memory_is_asked_for() {
        let good = Argon2Settings::DEFAULT;
        assert_eq!(good.check(), Ok(()));
        assert_eq!(Argon2Settings::LEAST.check(), Ok(()));
        for refused in [
            Argon2Settings { memory_kib: 64 * 1024 - 1, ..good },
            Argon2Settings { memory_kib: 2 * 1024 * 1024 + 1, ..good },
            Argon2Settings { memory_kib: u32::MAX, ..good },
            Argon2Settings { passes: 0, ..good },
            Argon2Settings { passes: 17, ..good },
            Argon2Settings { lanes: 0, ..good },
            Argon2Settings { lanes: 9, ..good },
            Argon2Settings { memory_kib: 2 * 1024 * 1024, passes: 5, lanes: 1 },
            Argon2Settings { memory_kib: 1024 * 1024, passes: 9, lanes: 1 },
        ] {
            assert_eq!(refused.check(), Err(Error::Settings(refused)));
            let answer = stretch(&SecretBytes::from_slice(b"passphrase"), &[0; 32], &refused);
            assert_eq!(answer.err(), Some(Error::Settings(refused)));
        }
        assert_eq!(Argon2Settings { memory_kib: 2 * 1024 * 1024, passes: 4, lanes: 8 }.check(), Ok(()));
        assert_eq!(Argon2Settings { memory_kib: 512 * 1024, passes: 16, lanes: 8 }.check(), Ok(()));
    }

    #[test]
    fn another_salt_gives_another_key() {
        let passphrase = SecretBytes::from_slice(b"passphrase");
        let key =
            |salt: u8| stretch(&passphrase, &[salt; 32], &Argon2Settings::LEAST).unwrap().expose(|key| *key);
        assert_eq!(key(1), key(1));
        assert_ne!(key(1), key(2));
    }
}

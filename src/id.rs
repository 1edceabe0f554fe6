//! The names of things: fixed-size identifiers and the names of objects in a store.
//!
//! All of them are public: they stand in the clear in a vault (all but [`ChunkId`] and [`JobId`], which
//! appear only inside sealed objects) and may be printed.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;

/// Defines an identifier of `$bytes` bytes that prints as lower-case hex.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// How many bytes it has.
            pub const BYTES: usize = $bytes;

            /// Its bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Reads it from exactly `2 * BYTES` lower-case hex digits; anything else is `None`.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0_u8; $bytes];
                let decoded = data_encoding::HEXLOWER
                    .decode_len(text.len())
                    .ok()
                    .filter(|&length| length == $bytes)
                    .and_then(|_| data_encoding::HEXLOWER.decode_mut(text.as_bytes(), &mut bytes).ok());
                decoded.map(|_| Self(bytes))
            }

            /// The first 8 hex digits: enough for a person to tell two apart, not to name one.
            #[must_use]
            pub fn short(&self) -> String {
                data_encoding::HEXLOWER.encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

identifier!(
    /// A BLAKE3-256 digest of all the bytes of a stored object or record.
    Digest,
    32
);
identifier!(
    /// F: the digest of a vault's first record, which holds its first authority key. For life.
    Fingerprint,
    32
);
identifier!(
    /// The first 16 bytes of the [`Fingerprint`], as they stand in every object.
    VaultId,
    16
);
identifier!(
    /// A device's random pseudonym; also names the receiver of a message or a slot's log.
    DeviceId,
    16
);
identifier!(
    /// A slot's random name.
    SlotId,
    16
);
identifier!(
    /// The keyed digest of a chunk's bytes. Never leaves a sealed object.
    ChunkId,
    32
);
identifier!(
    /// What a snapshot is called: the first 16 bytes of its header's digest.
    SnapshotId,
    16
);

identifier!(
    /// What the backups of the same paths by one device have in common. Stands in sealed objects and in the names
    /// of the files in which the device remembers them.
    JobId,
    16
);

impl Fingerprint {
    /// The vault id that this fingerprint begins with.
    #[must_use]
    pub fn vault_id(&self) -> VaultId {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        VaultId(bytes)
    }
}

impl Digest {
    /// The id of the snapshot whose header has this digest.
    #[must_use]
    pub fn snapshot_id(&self) -> SnapshotId {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        SnapshotId(bytes)
    }
}

/// A map by ids, or by the beginnings of ids.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A set of ids, or of the beginnings of ids.
pub type IdSet<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

/// For ids that are keyed digests: their first bytes are as good as any hash of them, and nobody without the key
/// chooses them. What others name, as objects in a header, belongs into an ordinary map.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// A generation of sealing keys, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of an object in a store: a short relative path such as `p/<device id>/7c/<62 hex>`.
///
/// Only ASCII letters, digits, `-`, `.` and `/`, no empty part and none that begins with a dot,
/// so a name can't lead a store out of its folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

impl ObjectName {
    /// The longest name there is, in bytes.
    pub const BYTES_MAX: usize = 160;

    /// Takes `text` as a name, or nothing if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-./".contains(&byte));
        let parts = text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        (letters && parts && text.len() <= Self::BYTES_MAX).then(|| Self(text.to_owned()))
    }

    /// The name as it stands in the store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of this object's second copy, `2/` and the name.
    #[must_use]
    pub fn second(&self) -> Self {
        Self(format!("2/{}", self.0))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectName({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_of_another_length_or_case_is_no_identifier() {
        let id = DeviceId([0xab; 16]);
        assert_eq!(DeviceId::from_hex(&id.to_string()), Some(id));
        assert_eq!(DeviceId::from_hex(&id.to_string()[..30]), None);
        assert_eq!(DeviceId::from_hex(&id.to_string().to_uppercase()), None);
        assert_eq!(DeviceId::from_hex(&format!("{id}00")), None);
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_store() {
        for refused in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.tmp", "a\\b", "a b", "a\0"] {
            assert_eq!(ObjectName::parse(refused), None, "{refused:?}");
        }
        assert!(ObjectName::parse("p/00/7c/ab-1.read").is_some());
    }
}

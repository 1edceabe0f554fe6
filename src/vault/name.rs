//! Where each kind of object stands in a store: names put together and taken apart.

use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::ObjectName;
use crate::id::SlotId;

/// The fixed text for whoever finds the vault.
pub const README: &str = "README.txt";

/// A name from a store, understood.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// `README.txt`
    Readme,
    /// `a/<seq>-<digest>`: a record of the authority log.
    Record {
        /// Its place in the log.
        seq: u64,
        /// The first 8 bytes of its digest.
        digest: [u8; 8],
    },
    /// `c/<digest>`: a list that a record names.
    List(Digest),
    /// `k/<generation>-<digest>`: a slot table.
    SlotTable {
        /// The generation of the keys in it.
        generation: u32,
        /// The first 8 bytes of its digest.
        digest: [u8; 8],
    },
    /// `r/<generation>-<digest>.read` or `.admin`: a ring.
    Ring {
        /// The generation of the key that wraps it.
        generation: u32,
        /// The first 8 bytes of its digest.
        digest: [u8; 8],
        /// Whether it is the owners' ring.
        admin: bool,
    },
    /// `s/<device id>/<seq>-<digest>`: a snapshot header.
    Header {
        /// Who wrote it.
        device: DeviceId,
        /// Its place in the device's chain.
        seq: u64,
        /// The first 8 bytes of its digest.
        digest: [u8; 8],
    },
    /// `p/<device id>/<xx>/<62 hex>`: a sealed pack, index or snapshot body.
    Pack {
        /// Who wrote it.
        device: DeviceId,
        /// The digest of all its bytes.
        digest: Digest,
    },
    /// `m/<device id>/<digest>`: a message to a device.
    Message {
        /// To whom.
        device: DeviceId,
        /// The digest of all its bytes.
        digest: Digest,
    },
    /// `q/<device id>-<digest>`: a device's request to join.
    Request {
        /// Who asks.
        device: DeviceId,
        /// The first 8 bytes of its digest.
        digest: [u8; 8],
    },
    /// `u/<slot id>/<seq>-<digest>`: an entry of a person's log.
    Log {
        /// Whose.
        slot: SlotId,
        /// Its place in the slot's chain.
        seq: u64,
        /// The first 8 bytes of its digest.
        digest: [u8; 8],
    },
}

impl Place {
    /// The name of the object that stands here.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        let text = match self {
            Self::Readme => README.to_owned(),
            Self::Record { seq, digest } => format!("a/{seq:016x}-{}", hex(digest)),
            Self::List(digest) => format!("c/{digest}"),
            Self::SlotTable { generation, digest } => format!("k/{generation:08x}-{}", hex(digest)),
            Self::Ring { generation, digest, admin } => {
                format!("r/{generation:08x}-{}.{}", hex(digest), if *admin { "admin" } else { "read" })
            }
            Self::Header { device, seq, digest } => format!("s/{device}/{seq:016x}-{}", hex(digest)),
            Self::Pack { device, digest } => {
                let digest = digest.to_string();
                format!("p/{device}/{}/{}", &digest[..2], &digest[2..])
            }
            Self::Message { device, digest } => format!("m/{device}/{digest}"),
            Self::Request { device, digest } => format!("q/{device}-{}", hex(digest)),
            Self::Log { slot, seq, digest } => format!("u/{slot}/{seq:016x}-{}", hex(digest)),
        };
        ObjectName::parse(&text).expect("names built here are well-formed")
    }

    /// What the name says, or nothing if strongroom never gives such a name.
    ///
    /// A second copy's name is not understood: strip its `2/` first.
    #[must_use]
    pub fn parse(name: &ObjectName) -> Option<Self> {
        let text = name.as_str();
        let parts: Vec<&str> = text.split('/').collect();
        let place = match parts.as_slice() {
            [README] => Self::Readme,
            ["a", file] => {
                let (seq, digest) = numbered(file)?;
                Self::Record { seq, digest }
            }
            ["c", file] => Self::List(Digest::from_hex(file)?),
            ["k", file] => {
                let (generation, digest) = generation(file)?;
                Self::SlotTable { generation, digest }
            }
            ["r", file] => {
                let (stem, admin) = match file.strip_suffix(".read") {
                    Some(stem) => (stem, false),
                    None => (file.strip_suffix(".admin")?, true),
                };
                let (generation, digest) = generation(stem)?;
                Self::Ring { generation, digest, admin }
            }
            ["s", device, file] => {
                let (seq, digest) = numbered(file)?;
                Self::Header { device: DeviceId::from_hex(device)?, seq, digest }
            }
            ["p", device, first, rest] => Self::Pack {
                device: DeviceId::from_hex(device)?,
                digest: Digest::from_hex(&format!("{first}{rest}"))?,
            },
            ["m", device, file] => {
                Self::Message { device: DeviceId::from_hex(device)?, digest: Digest::from_hex(file)? }
            }
            ["q", file] => {
                let (device, digest) = file.split_once('-')?;
                Self::Request { device: DeviceId::from_hex(device)?, digest: short(digest)? }
            }
            ["u", slot, file] => {
                let (seq, digest) = numbered(file)?;
                Self::Log { slot: SlotId::from_hex(slot)?, seq, digest }
            }
            _ => return None,
        };
        // Only the one spelling that `name` gives: no other case, no shorter number.
        (place.name() == *name).then_some(place)
    }
}

/// The first 8 bytes of a digest, as they stand in names.
#[must_use]
pub fn first8(digest: &Digest) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    first
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn short(text: &str) -> Option<[u8; 8]> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn numbered(file: &str) -> Option<(u64, [u8; 8])> {
    let (seq, digest) = file.split_once('-')?;
    Some((u64::from_str_radix(seq, 16).ok()?, short(digest)?))
}

fn generation(file: &str) -> Option<(u32, [u8; 8])> {
    let (generation, digest) = file.split_once('-')?;
    Some((u32::from_str_radix(generation, 16).ok()?, short(digest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_found_again_by_its_name_and_by_no_other_spelling() {
        let device = DeviceId([0xa1; 16]);
        let digest = Digest([0xbc; 32]);
        let first = first8(&digest);
        let places = [
            Place::Readme,
            Place::Record { seq: 10, digest: first },
            Place::List(digest),
            Place::SlotTable { generation: 3, digest: first },
            Place::Ring { generation: 3, digest: first, admin: false },
            Place::Ring { generation: 3, digest: first, admin: true },
            Place::Header { device, seq: 255, digest: first },
            Place::Pack { device, digest },
            Place::Message { device, digest },
            Place::Request { device, digest: first },
            Place::Log { slot: SlotId([7; 16]), seq: 1, digest: first },
        ];
        for place in places {
            let name = place.name();
            assert_eq!(Place::parse(&name), Some(place), "{name}");
            if place != Place::Readme {
                let shouted = ObjectName::parse(&name.as_str().to_uppercase()).unwrap();
                assert_eq!(Place::parse(&shouted), None, "{shouted}");
            }
        }
        for odd in ["a/0-bcbcbcbcbcbcbcbc", "a/+00000000000000a-bcbcbcbcbcbcbcbc", "x/1", "a/b/c"] {
            assert_eq!(Place::parse(&ObjectName::parse(&odd.replace('+', "-")).unwrap()), None, "{odd}");
        }
    }
}

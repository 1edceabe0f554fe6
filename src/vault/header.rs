//! Snapshot headers: what a device signs for each snapshot, and the chain that they form.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::digest;
use crate::crypto::sign::SignatureType;
use crate::crypto::sign::SigningKey;
use crate::crypto::sign::VerifyingKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::SnapshotId;
use crate::id::VaultId;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record::Error;

const MAGIC: &[u8; 8] = b"SRSNAP\x01\x00";
const SIGNATURE_BYTES: usize = 64;
/// The most objects that one header names.
pub const OBJECTS_MAX: usize = 1 << 20;
/// The most that a header has, in bytes.
pub const HEADER_BYTES_MAX: usize = 256 + OBJECTS_MAX * 36;

/// A new object that a header names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NewObject {
    /// The digest of all its bytes, its name.
    pub name: Digest,
    /// In bytes.
    pub length: u32,
}

/// What a device signs when it adds a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The vault.
    pub vault: VaultId,
    /// Who signs.
    pub device: DeviceId,
    /// The newest epoch at `auth_seq`.
    pub epoch: Epoch,
    /// Its place in the device's chain, from 1.
    pub seq: u64,
    /// When the backup began, as in the body: nanoseconds since 1970 UTC, by the device's clock.
    pub time: u64,
    /// The digest of the header before; zero in the first.
    pub prev: Digest,
    /// The newest record of the authority log that the device had seen.
    pub auth_seq: u64,
    /// Its digest.
    pub auth_head: Digest,
    /// The snapshot's body.
    pub body: Digest,
    /// All objects that are new with this snapshot, the body among them, sorted by name.
    pub objects: Vec<NewObject>,
}

/// A header's bytes, signed: the only form in which one is put.
pub struct SignedHeader {
    bytes: Vec<u8>,
    digest: Digest,
    place: Place,
}

impl SignedHeader {
    /// All bytes, signature included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of all its bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Where it goes.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }
}

impl Header {
    /// Encodes and signs it.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedHeader {
        let mut out = Writer::with_capacity(256 + self.objects.len() * 36);
        out.bytes(MAGIC).bytes(&self.vault.0).bytes(&self.device.0).u32(self.epoch.0);
        out.count(self.objects.len());
        out.u64(self.seq).u64(self.time).bytes(&self.prev.0).u64(self.auth_seq).bytes(&self.auth_head.0);
        out.bytes(&self.body.0);
        for object in &self.objects {
            out.bytes(&object.name.0).u32(object.length);
        }
        let signature = key.sign(SignatureType::Snapshot, out.as_slice());
        out.bytes(&signature);
        let bytes = out.finish();
        let digest = digest::digest(&bytes);
        let place = Place::Header { device: self.device, seq: self.seq, digest: first8(&digest) };
        SignedHeader { bytes, digest, place }
    }

    /// Reads a header; its signature is checked by [`Header::verify`].
    ///
    /// # Errors
    /// [`Error::Layout`] or [`Error::Newer`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut from = Reader::new(bytes);
        from.exactly(&MAGIC[..6], "magic")?;
        if from.array::<2>()? != [1, 0] {
            return Err(Error::Newer);
        }
        let vault = VaultId(from.array()?);
        let device = DeviceId(from.array()?);
        let epoch = Epoch(from.u32()?);
        let count = usize::try_from(from.u32()?).map_err(|_| codec::Error::TooShort)?;
        let seq = from.u64()?;
        let time = from.u64()?;
        let prev = Digest(from.array()?);
        let auth_seq = from.u64()?;
        let auth_head = Digest(from.array()?);
        let body = Digest(from.array()?);
        if count > OBJECTS_MAX || from.remaining() != count * 36 + SIGNATURE_BYTES {
            return Err(codec::Error::NotCanonical("number of objects").into());
        }
        let objects = (0..count)
            .map(|_| Ok(NewObject { name: Digest(from.array()?), length: from.u32()? }))
            .collect::<Result<Vec<_>, codec::Error>>()?;
        from.bytes(SIGNATURE_BYTES)?;
        from.finish()?;
        if objects.windows(2).any(|pair| pair[0].name >= pair[1].name) {
            return Err(codec::Error::NotCanonical("order of objects").into());
        }
        if objects.binary_search_by_key(&body, |object| object.name).is_err() || seq == 0 {
            return Err(codec::Error::NotCanonical("body").into());
        }
        Ok(Self { vault, device, epoch, seq, time, prev, auth_seq, auth_head, body, objects })
    }

    /// Checks the signature of a header's bytes.
    ///
    /// # Errors
    /// [`Error::Signature`] if it isn't `key`'s.
    pub fn verify(bytes: &[u8], key: &VerifyingKey) -> Result<(), Error> {
        let (signed, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(codec::Error::TooShort)?;
        key.verify(SignatureType::Snapshot, signed, signature).map_err(|_| Error::Signature)
    }
}

/// A header with its digest, found valid.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What was signed.
    pub header: Header,
    /// Of all the header's bytes.
    pub digest: Digest,
}

impl Snapshot {
    /// What people call it.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.digest.snapshot_id()
    }
}

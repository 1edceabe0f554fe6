//! Who sealed a file: the signature of a device of some vault, and the records that prove that it is one.

use std::fmt;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::digest;
use crate::crypto::sign::SIGNATURE_BYTES;
use crate::crypto::sign::SignatureType;
use crate::crypto::sign::VerifyingKey;
use crate::id::DeviceId;
use crate::id::Fingerprint;
use crate::store::Store;
use crate::tree::entry::TreeRef;
use crate::vault::authority::Log;
use crate::vault::authority::damaged;
use crate::vault::device::DeviceKeys;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record;
use crate::vault::record::Payload;
use crate::vault::record::Record;

/// The most records that a proof has: far more changes of an authority's key than a vault lives through.
const RECORDS_MAX: usize = 4_096;

/// A device's hand, and what proves whose it is.
pub struct Signer {
    keys: DeviceKeys,
    vault: Fingerprint,
    proof: Vec<Vec<u8>>,
}

/// Who sealed a file, as its signature proves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// The vault that the device belongs to: whoever knows its fingerprint knows who sealed the file.
    pub vault: Fingerprint,
    /// The device.
    pub device: DeviceId,
}

/// Why a signature proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The layout is broken, or a newer version's.
    Layout,
    /// The records don't show that the vault's authority added the device.
    Proof,
    /// The device did not sign this.
    Signature,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Layout => "its sender's signature is not as this version writes one",
            Self::Proof => "its sender's records don't prove whose device signed it",
            Self::Signature => "its sender's signature does not fit what is in it",
        })
    }
}

impl std::error::Error for Refused {}

impl From<codec::Error> for Refused {
    fn from(_: codec::Error) -> Self {
        Self::Layout
    }
}

impl Signer {
    /// The hand of this machine's device in the vault that `log` is of.
    ///
    /// # Errors
    /// [`Error::NotApproved`] or [`Error::Revoked`] if it is no device there; as [`Log::load`].
    pub fn load(store: &dyn Store, log: &Log, keys: DeviceKeys) -> Result<Self, Error> {
        let device = keys.device;
        match log.devices().get(&device) {
            None => return Err(Error::NotApproved { device }),
            Some(known) if known.revoked.is_some() => return Err(Error::Revoked { device }),
            Some(_) => {}
        }
        let mut proof = Vec::new();
        let mut authority: Option<VerifyingKey> = None;
        for head in log.records() {
            let name = Place::Record { seq: head.seq, digest: first8(&head.digest) }.name();
            let bytes = fetch::checked(store, &name, record::RECORD_BYTES_MAX as u64, |bytes| {
                if digest::digest(bytes) == head.digest {
                    Ok(bytes.to_vec())
                } else {
                    Err(damaged(&name, "it is not the one that the log has"))
                }
            })?;
            let record = Record::decode(&bytes).map_err(|_| damaged(&name, "it does not read back"))?;
            match record.payload {
                Payload::Genesis { authority: key, .. } => authority = Some(key),
                Payload::Keys(keys) if authority.as_ref() != Some(&keys.authority) => {
                    authority = Some(keys.authority);
                }
                Payload::DeviceAdd { device: added, .. } if added == device => {
                    proof.push(bytes);
                    return Ok(Self { keys, vault: log.fingerprint(), proof });
                }
                _ => continue,
            }
            proof.push(bytes);
        }
        Err(Error::NotApproved { device })
    }

    /// Signs that what hangs from `root` was sealed into the file of fingerprint `sealed`: the bytes for a
    /// body's `sender`.
    #[must_use]
    pub fn sign(&self, sealed: &Fingerprint, root: &TreeRef) -> Vec<u8> {
        let signature =
            self.keys.signing.sign(SignatureType::SealedBy, &signed_bytes(sealed, &self.vault, root));
        let mut out = Writer::new();
        out.bytes(&self.keys.device.0).count(self.proof.len());
        for record in &self.proof {
            out.sized(record);
        }
        out.bytes(&signature);
        out.finish()
    }
}

impl Sender {
    /// Checks a body's `sender`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(bytes: &[u8], sealed: &Fingerprint, root: &TreeRef) -> Result<Self, Refused> {
        let mut from = Reader::new(bytes);
        let device = DeviceId(from.array()?);
        let count = from.count(4)?;
        if count > RECORDS_MAX {
            return Err(Refused::Layout);
        }
        let records = (0..count).map(|_| from.sized()).collect::<Result<Vec<_>, _>>()?;
        let signature: [u8; SIGNATURE_BYTES] = from.array()?;
        from.finish()?;
        let (vault, key) = follow(&records, device)?;
        key.verify(SignatureType::SealedBy, &signed_bytes(sealed, &vault, root), &signature)
            .map_err(|_| Refused::Signature)?;
        Ok(Self { vault, device })
    }
}

/// The key by which the device signs, as the records of a body's `sender` have it.
///
/// # Errors
/// As [`Sender::check`], but for the signature.
pub fn key_in(bytes: &[u8]) -> Result<VerifyingKey, Refused> {
    let mut from = Reader::new(bytes);
    let device = DeviceId(from.array()?);
    let count = from.count(4)?;
    if count > RECORDS_MAX {
        return Err(Refused::Layout);
    }
    let records = (0..count).map(|_| from.sized()).collect::<Result<Vec<_>, _>>()?;
    Ok(follow(&records, device)?.1)
}

/// The vault that the records begin, and the key of the device that the last of them adds to it.
fn follow(records: &[&[u8]], device: DeviceId) -> Result<(Fingerprint, VerifyingKey), Refused> {
    let decode = |bytes: &[u8]| Record::decode(bytes).map_err(|_| Refused::Layout);
    let (genesis, rest) = records.split_first().ok_or(Refused::Proof)?;
    let first = decode(genesis)?;
    let (Payload::Genesis { authority, .. }, 0) = (first.payload, first.seq) else {
        return Err(Refused::Proof);
    };
    Record::verify(genesis, &authority).map_err(|_| Refused::Proof)?;
    let vault = Fingerprint(digest::digest(genesis).0);
    let (mut authority, mut seq) = (authority, 0);
    for (at, bytes) in rest.iter().enumerate() {
        let record = decode(bytes)?;
        Record::verify(bytes, &authority).map_err(|_| Refused::Proof)?;
        if record.vault != vault.vault_id() || record.seq <= seq {
            return Err(Refused::Proof);
        }
        seq = record.seq;
        match record.payload {
            Payload::Keys(keys) => authority = keys.authority,
            Payload::DeviceAdd { device: added, verifying_key, .. }
                if added == device && at + 1 == rest.len() =>
            {
                return Ok((vault, verifying_key));
            }
            _ => return Err(Refused::Proof),
        }
    }
    Err(Refused::Proof)
}

fn signed_bytes(sealed: &Fingerprint, vault: &Fingerprint, root: &TreeRef) -> Vec<u8> {
    let mut out = Writer::with_capacity(101);
    out.bytes(&sealed.0).bytes(&vault.0);
    out.bytes(&root.reference.id.0).u32(root.reference.length).u8(root.depth);
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sign::SigningKey;
    use crate::id::ChunkId;
    use crate::tree::entry::ChunkRef;
    use crate::vault::testing::Owner;

    fn root(id: u8) -> TreeRef {
        TreeRef { depth: 0, reference: ChunkRef { id: ChunkId([id; 32]), length: 7 } }
    }

    /// A vault whose authority changed twice before it added the device.
    fn signed() -> (Owner, DeviceKeys, Vec<u8>) {
        let mut owner = Owner::new();
        owner.renew_authority();
        owner.renew_authority();
        let keys = DeviceKeys::generate();
        owner.add(&keys);
        let log = Log::load(&owner.store, None).unwrap();
        let copy = DeviceKeys::decode(&keys.encode()).unwrap();
        let signer = Signer::load(&owner.store, &log, copy).unwrap();
        let bytes = signer.sign(&Fingerprint([3; 32]), &root(1));
        (owner, keys, bytes)
    }

    #[test]
    fn a_signature_tells_the_vault_and_the_device_and_fits_one_file_and_tree() {
        let (owner, keys, bytes) = signed();
        let fingerprint = Log::load(&owner.store, None).unwrap().fingerprint();
        let sealed = Fingerprint([3; 32]);
        let sender = Sender::check(&bytes, &sealed, &root(1)).unwrap();
        assert_eq!(sender, Sender { vault: fingerprint, device: keys.device });
        assert_eq!(Sender::check(&bytes, &sealed, &root(2)), Err(Refused::Signature));
        assert_eq!(Sender::check(&bytes, &Fingerprint([4; 32]), &root(1)), Err(Refused::Signature));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            Sender::check(&bad, &sealed, &root(1)).unwrap_err();
        }
        for length in 0..bytes.len() {
            Sender::check(&bytes[..length], &sealed, &root(1)).unwrap_err();
        }
    }

    #[test]
    fn records_that_the_authority_did_not_sign_prove_nothing() {
        let (owner, keys, _) = signed();
        let log = Log::load(&owner.store, None).unwrap();
        let copy = || DeviceKeys::decode(&keys.encode()).unwrap();
        let whole = Signer::load(&owner.store, &log, copy()).unwrap();
        let count = whole.proof.len();
        let check = |proof: Vec<Vec<u8>>| {
            let signer = Signer { keys: copy(), vault: log.fingerprint(), proof };
            Sender::check(&signer.sign(&Fingerprint([3; 32]), &root(1)), &Fingerprint([3; 32]), &root(1))
        };
        check(whole.proof.clone()).unwrap();
        // Any record left out, doubled, or in another's place.
        for at in 0..count {
            let mut proof = whole.proof.clone();
            proof.remove(at);
            assert_eq!(check(proof), Err(Refused::Proof), "without record {at}");
            let mut proof = whole.proof.clone();
            proof.insert(at, whole.proof[at].clone());
            assert_eq!(check(proof), Err(Refused::Proof), "record {at} twice");
        }
        // A device that somebody else's authority added.
        let forged = log
            .next(
                Payload::DeviceAdd {
                    device: keys.device,
                    verifying_key: keys.signing.public(),
                    kem_key: Box::new(keys.kem.public()),
                    message: crate::id::Digest([1; 32]),
                },
                1,
            )
            .sign(&SigningKey::generate());
        let mut proof = whole.proof.clone();
        proof[count - 1] = forged.bytes().to_vec();
        assert_eq!(check(proof), Err(Refused::Proof));
    }
}

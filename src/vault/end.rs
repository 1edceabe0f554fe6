//! The end of a sealed file: what the authority signs of which members it has, and in which order.
//!
//! Members are bound by their names, which carry digests; the end binds that all of them are there, that
//! there are no others, and where each stands. A file that was cut, extended, joined or put in another order
//! has no end that holds.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::digest::Digester;
use crate::crypto::sign::SIGNATURE_BYTES;
use crate::crypto::sign::SignatureType;
use crate::crypto::sign::SigningKey;
use crate::id::Digest;
use crate::id::ObjectName;
use crate::id::VaultId;
use crate::store::Listed;
use crate::store::Store;
use crate::vault::authority::Log;
use crate::vault::authority::damaged;
use crate::vault::error::Error;

const MAGIC: &[u8; 6] = b"SREND\0";
const VERSION: [u8; 2] = [1, 0];
/// How many bytes an end has.
pub const END_BYTES: usize = 8 + 16 + 8 + 32 + SIGNATURE_BYTES;
/// What the member is called.
const NAME: &str = "end";

/// The name of the member that is the end.
///
/// # Panics
/// Never: the name is well-formed.
#[must_use]
pub fn name() -> ObjectName {
    ObjectName::parse(NAME).expect("the name is well-formed")
}

/// Signs the end of a file with these members before it.
#[must_use]
pub fn encode(vault: VaultId, members: &[Listed], key: &SigningKey) -> Vec<u8> {
    let mut out = Writer::with_capacity(END_BYTES);
    out.bytes(MAGIC).bytes(&VERSION).bytes(&vault.0);
    out.u64(members.len() as u64).bytes(&digest_of(members).0);
    let signature = key.sign(SignatureType::End, out.as_slice());
    out.bytes(&signature);
    out.finish()
}

/// Holds the end of a file against its members, all of them, and against the log in it.
///
/// # Errors
/// [`Error::Damaged`] naming the end; [`Error::Missing`] if there is none; [`Error::Newer`].
pub fn check(store: &dyn Store, members: &[Listed], log: &Log) -> Result<(), Error> {
    let name = name();
    let Some((last, before)) = members.split_last().filter(|(last, _)| last.name == name) else {
        return Err(Error::Missing { name });
    };
    let bytes = store.get(&last.name, END_BYTES as u64)?;
    match check_bytes(&bytes, before, log) {
        Err(Error::Newer { name }) => {
            // A newer version's, unless it was signed as this one's and a bit of its version has changed since.
            let rest = bytes.get(MAGIC.len() + VERSION.len()..).unwrap_or_default();
            let own = [&MAGIC[..], &VERSION, rest].concat();
            Err(match check_bytes(&own, before, log) {
                Ok(()) => damaged(&name, "its version is not the one that was signed"),
                Err(_) => Error::Newer { name },
            })
        }
        checked => checked,
    }
}

/// Holds the bytes of an end against the members before it and the log.
fn check_bytes(bytes: &[u8], before: &[Listed], log: &Log) -> Result<(), Error> {
    let name = name();
    let end = End::decode(bytes).map_err(|error| damaged(&name, &error.to_string()))?;
    let Some(end) = end else { return Err(Error::Newer { name }) };
    if end.vault != log.fingerprint().vault_id() {
        return Err(damaged(&name, "it is another file's"));
    }
    if end.members != before.len() as u64 || end.digest != digest_of(before) {
        return Err(damaged(&name, "the file has other parts than those it was sealed with"));
    }
    let signed = &bytes[..END_BYTES - SIGNATURE_BYTES];
    log.authority()
        .verify(SignatureType::End, signed, &end.signature)
        .map_err(|_| damaged(&name, "whoever may seal this file anew did not sign it"))
}

struct End {
    vault: VaultId,
    members: u64,
    digest: Digest,
    signature: [u8; SIGNATURE_BYTES],
}

impl End {
    /// Reads an end; none is a newer version's.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, codec::Error> {
        let mut from = Reader::new(bytes);
        from.exactly(MAGIC, "magic")?;
        if from.array()? != VERSION {
            return Ok(None);
        }
        let end = Self {
            vault: VaultId(from.array()?),
            members: from.u64()?,
            digest: Digest(from.array()?),
            signature: from.array()?,
        };
        from.finish()?;
        Ok(Some(end))
    }
}

fn digest_of(members: &[Listed]) -> Digest {
    let mut digester = Digester::new();
    for member in members {
        let mut out = Writer::with_capacity(256);
        let name = member.name.as_str().as_bytes();
        out.u8(u8::try_from(name.len()).expect("names have at most 160 bytes")).bytes(name).u64(member.bytes);
        digester.update(out.as_slice());
    }
    digester.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::testing::Owner;

    fn member(name: &str, bytes: u64) -> Listed {
        Listed { name: ObjectName::parse(name).unwrap(), bytes }
    }

    #[test]
    fn an_end_holds_for_its_members_their_order_and_lengths_and_its_authority_alone() {
        let owner = Owner::new();
        let log = Log::load(&owner.store, None).unwrap();
        let vault = log.fingerprint().vault_id();
        let members = [member("k/a", 1), member("r/b", 2), member("s/c", 3)];
        let other_length = [member("k/a", 1), member("r/b", 3), member("s/c", 3)];
        let other_order = [member("r/b", 2), member("k/a", 1), member("s/c", 3)];
        let one_less = [member("k/a", 1), member("r/b", 2)];
        let one_more = [member("k/a", 1), member("r/b", 2), member("s/c", 3), member("s/d", 4)];
        let check = |bytes: &[u8], members: &[Listed]| {
            let store = crate::store::Memory::new();
            store.put(&name(), bytes).unwrap();
            let all = [members, &[Listed { name: name(), bytes: bytes.len() as u64 }]].concat();
            super::check(&store, &all, &log)
        };
        let good = encode(vault, &members, &owner.key);
        assert_eq!(good.len(), END_BYTES);
        check(&good, &members).unwrap();
        for others in [&other_length[..], &other_order, &one_less, &one_more, &[]] {
            assert!(matches!(check(&good, others), Err(Error::Damaged { .. })));
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let refused = check(&bad, &members).unwrap_err();
            assert!(matches!(refused, Error::Damaged { .. }), "{at}: {refused}");
        }
        // One of another version through and through is a newer program's.
        let mut newer = good.clone();
        newer[6] = 2;
        newer[40] ^= 1;
        assert!(matches!(check(&newer, &members), Err(Error::Newer { .. })));
        let strange = encode(vault, &members, &SigningKey::generate());
        assert!(matches!(check(&strange, &members), Err(Error::Damaged { .. })));
        let store = crate::store::Memory::new();
        assert!(matches!(super::check(&store, &members, &log), Err(Error::Missing { .. })));
    }
}

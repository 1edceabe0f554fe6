//! Who did what: each person's log, signed by his slot, sealed to the owners.
//!
//! An entry is put before a command reads or changes anything, so that no crash hides what was read; it says
//! what was about to be done. What came of a change stands in the authority log. Each entry names the one
//! before it in its slot, so that none can be taken out of the middle unseen. Two machines may use one slot
//! at the same moment: then two entries stand at one place, both after one that is there.

use std::collections::HashMap;
use std::collections::HashSet;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::derive::derive;
use crate::crypto::digest;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::secret::Secret;
use crate::crypto::sign::SIGNATURE_BYTES;
use crate::crypto::sign::SignatureType;
use crate::crypto::sign::SigningKey;
use crate::crypto::sign::VerifyingKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::SlotId;
use crate::id::SnapshotId;
use crate::id::VaultId;
use crate::seal::pseal;
use crate::seal::pseal::Check;
use crate::seal::pseal::Kind;
use crate::seal::pseal::Sealer;
use crate::vault::Vault;
use crate::vault::authority::damaged;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record;
use crate::vault::ring::AdminRing;

const MAGIC: &[u8; 8] = b"SRUSER\x01\x00";
/// Magic, vault, slot, seq, time, prev and the length of what is sealed.
const HEAD_BYTES: usize = 8 + 16 + 16 + 8 + 8 + 32 + 4;
/// The most that an entry has, in bytes.
pub const ENTRY_BYTES_MAX: u64 = 128 << 10;

/// What is kept of the texts of an act: together they fill no more than the least padding, so that all
/// entries have one length.
const HOST_BYTES_MAX: usize = 255;
const COMMAND_BYTES_MAX: usize = 64;
const ABOUT_BYTES_MAX: usize = 2_048;
const SNAPSHOTS_MAX: usize = 32;

/// What a person did, or was about to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Act {
    /// The machine that it was done on, as it calls itself.
    pub host: String,
    /// The command's words.
    pub command: String,
    /// What with.
    pub deed: Deed,
}

/// What a command had to do with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Whatever it was given, such as a label: it lists, checks or changes.
    Given(String),
    /// It reads these snapshots, from this path in them on.
    Reads {
        /// Which.
        snapshots: Vec<SnapshotId>,
        /// Where in them; empty for all.
        path: Vec<u8>,
    },
    /// Something that a newer strongroom did.
    Newer(u8),
}

impl Act {
    /// Its bytes; texts that are too long are cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(match &self.deed {
            Deed::Given(_) => 1,
            Deed::Reads { .. } => 2,
            Deed::Newer(ty) => *ty,
        });
        out.sized_short(cut(&self.host, HOST_BYTES_MAX)).sized_short(cut(&self.command, COMMAND_BYTES_MAX));
        match &self.deed {
            Deed::Given(about) => {
                out.sized_short(cut(about, ABOUT_BYTES_MAX));
            }
            Deed::Reads { snapshots, path } => {
                let snapshots = &snapshots[..snapshots.len().min(SNAPSHOTS_MAX)];
                out.count(snapshots.len());
                for snapshot in snapshots {
                    out.bytes(&snapshot.0);
                }
                out.sized_short(&path[..path.len().min(ABOUT_BYTES_MAX)]);
            }
            Deed::Newer(_) => {}
        }
        out.finish()
    }

    /// Reads an act with its padding. Of a type that this version doesn't know, host and command are read.
    ///
    /// # Errors
    /// What is wrong with the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut from = Reader::new(bytes);
        let ty = from.u8()?;
        let (host, command) = (from.text()?.to_owned(), from.text()?.to_owned());
        let deed = match ty {
            0 => return Err(codec::Error::NotCanonical("type")),
            1 => Deed::Given(from.text()?.to_owned()),
            2 => {
                let count = from.count(16)?;
                let snapshots = (0..count).map(|_| Ok(SnapshotId(from.array()?)));
                let snapshots = snapshots.collect::<Result<_, codec::Error>>()?;
                Deed::Reads { snapshots, path: from.sized_short()?.to_vec() }
            }
            newer => return Ok(Self { host, command, deed: Deed::Newer(newer) }),
        };
        let padding = from.remaining();
        from.zeros(padding)?;
        Ok(Self { host, command, deed })
    }
}

/// As much of `text` as has at most `bytes_max` bytes, whole characters only.
fn cut(text: &str, bytes_max: usize) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(bytes_max)]
}

/// An entry of a person's log, as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The vault.
    pub vault: VaultId,
    /// Whose log.
    pub slot: SlotId,
    /// Its place in that log, from 1.
    pub seq: u64,
    /// When, by that machine's clock, in nanoseconds since 1970 UTC.
    pub time: u64,
    /// The digest of the entry before; zero in the first.
    pub prev: Digest,
    /// The act, sealed to the owners.
    pub sealed: Vec<u8>,
}

impl Entry {
    /// Encodes and signs it; returns its bytes and where they go.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> (Vec<u8>, Place) {
        let mut out = Writer::with_capacity(HEAD_BYTES + self.sealed.len() + SIGNATURE_BYTES);
        out.bytes(MAGIC).bytes(&self.vault.0).bytes(&self.slot.0).u64(self.seq).u64(self.time);
        out.bytes(&self.prev.0).sized(&self.sealed);
        let signature = key.sign(SignatureType::User, out.as_slice());
        out.bytes(&signature);
        let bytes = out.finish();
        let place = Place::Log { slot: self.slot, seq: self.seq, digest: first8(&digest::digest(&bytes)) };
        (bytes, place)
    }

    /// Reads an entry; its signature is checked by [`Entry::verify`].
    ///
    /// # Errors
    /// [`record::Error::Layout`] or [`record::Error::Newer`].
    pub fn decode(bytes: &[u8]) -> Result<Self, record::Error> {
        let mut from = Reader::new(bytes);
        from.exactly(&MAGIC[..6], "magic")?;
        if from.array::<2>()? != [1, 0] {
            return Err(record::Error::Newer);
        }
        let vault = VaultId(from.array()?);
        let slot = SlotId(from.array()?);
        let (seq, time) = (from.u64()?, from.u64()?);
        let prev = Digest(from.array()?);
        let sealed = from.sized()?.to_vec();
        from.bytes(SIGNATURE_BYTES)?;
        from.finish()?;
        if seq == 0 || (seq == 1) != (prev == Digest([0; 32])) {
            return Err(codec::Error::NotCanonical("place in the chain").into());
        }
        Ok(Self { vault, slot, seq, time, prev, sealed })
    }

    /// Checks the signature of an entry's bytes.
    ///
    /// # Errors
    /// [`record::Error::Signature`] if it isn't `key`'s.
    pub fn verify(bytes: &[u8], key: &VerifyingKey) -> Result<(), record::Error> {
        let (signed, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(codec::Error::TooShort)?;
        key.verify(SignatureType::User, signed, signature).map_err(|_| record::Error::Signature)
    }
}

/// An act, and who did it when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// Whose slot.
    pub slot: SlotId,
    /// Its place in the slot's log.
    pub seq: u64,
    /// When, by that machine's clock, in nanoseconds since 1970 UTC.
    pub time: u64,
    /// What.
    pub act: Act,
}

/// What all slots' holders did.
#[derive(Debug, Default)]
pub struct Acts {
    /// The oldest first.
    pub done: Vec<Done>,
    /// Entries that can't be read, and gaps: [`Error::Damaged`], [`Error::Newer`], [`Error::HistoryMissing`].
    pub problems: Vec<Error>,
}

/// An entry that was read, and is its slot's.
struct Found {
    name: ObjectName,
    entry: Entry,
    digest: Digest,
}

impl Vault {
    /// Adds to the log of the slot that was opened, after its newest entry.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::TooMuch`] at the end of all numbers.
    pub fn record_act(&self, act: &Act, now: u64) -> Result<(), Error> {
        let store = self.store();
        store.writable()?;
        let slot = self.slot().0.id;
        let key = SigningKey::from_seed(self.slot().0.log_seed.duplicate());
        let newest = self.newest_entry(slot, &key.public())?;
        if let Some(newest) = &newest {
            // Whatever ended the command that put it may have come between its two copies.
            fetch::complete(store, &newest.name, &newest.digest)?;
        }
        let (before, prev) = newest.map_or((0, Digest([0; 32])), |newest| (newest.entry.seq, newest.digest));
        let seq = before.checked_add(1).ok_or(Error::TooMuch { what: "entries in a slot's log" })?;
        let vault = self.log().fingerprint().vault_id();
        let entry = Entry { vault, slot, seq, time: now, prev, sealed: self.seal_act(slot, act)? };
        let (bytes, place) = entry.sign(&key);
        fetch::put_twice(store, &place.name(), &bytes)
    }

    fn seal_act(&self, slot: SlotId, act: &Act) -> Result<Vec<u8>, Error> {
        let fingerprint = self.log().fingerprint();
        let keys = self.log().keys();
        let hedge = match self.hedge() {
            Err(Error::NotOwner) => reader_hedge(&fingerprint, &self.slot().0.log_seed),
            hedge => hedge?,
        };
        let sealer = Sealer::new(fingerprint, keys.owners_key.clone(), pseal::no_psk(), hedge);
        let header = pseal::Header {
            vault: fingerprint.vault_id(),
            device: DeviceId(slot.0),
            epoch: keys.newest,
            kind: Kind::Log,
        };
        let sealed = sealer.seal(&header, &[&act.encode()], None, Check::Whole).map_err(Error::Unfaithful)?;
        Ok(sealed.into_bytes())
    }

    /// The newest entry of a slot; what isn't signed by it is none.
    fn newest_entry(&self, slot: SlotId, key: &VerifyingKey) -> Result<Option<Found>, Error> {
        for name in fetch::list_both(self.store(), &format!("u/{slot}/"))?.into_iter().rev() {
            match self.entry(&name, key) {
                Ok(found) => return Ok(Some(found)),
                Err(error @ Error::Store(_)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Reads the entry of this name, and checks that it is that and signed by `key`.
    fn entry(&self, name: &ObjectName, key: &VerifyingKey) -> Result<Found, Error> {
        let Some(Place::Log { slot, seq, digest: first }) = Place::parse(name) else {
            return Err(damaged(name, "its name is none of strongroom's"));
        };
        fetch::checked(self.store(), name, ENTRY_BYTES_MAX, |bytes| {
            let digest = digest::digest(bytes);
            if first8(&digest) != first {
                return Err(damaged(name, "it does not match its digest"));
            }
            let entry = Entry::verify(bytes, key).and_then(|()| Entry::decode(bytes));
            let entry = entry.map_err(|error| match error {
                record::Error::Newer => Error::Newer { name: name.clone() },
                record::Error::Signature => damaged(name, "it is not signed by its slot"),
                record::Error::Layout(error) => damaged(name, &error.to_string()),
            })?;
            if (entry.vault, entry.slot, entry.seq) != (self.log().fingerprint().vault_id(), slot, seq) {
                return Err(damaged(name, "it belongs elsewhere"));
            }
            Ok(Found { name: name.clone(), entry, digest })
        })
    }

    /// What the holders of all slots did, of those too that are gone.
    ///
    /// Damage and gaps end nothing: they are told beside what could be read. That the newest entries of a
    /// slot were removed can't be told.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::Store`] if the names can't be listed.
    pub fn acts(&self) -> Result<Acts, Error> {
        let admin = self.admin()?;
        let secrets: Vec<KemSecretKey> =
            admin.owners_seeds.iter().rev().map(|seed| KemSecretKey::from_seed(seed.duplicate())).collect();
        let keys = self.log_keys(admin);
        let mut acts = Acts::default();
        let mut found = Vec::new();
        for name in fetch::list_both(self.store(), "u/")? {
            let key = match Place::parse(&name) {
                Some(Place::Log { slot, .. }) => keys.get(&slot),
                // No name of strongroom's: `verify` counts it with what nothing names.
                _ => continue,
            };
            let entry = match key {
                None => Err(damaged(&name, "it is of an unknown slot")),
                Some(None) => Err(damaged(&name, "its slot's key can't be used")),
                Some(Some(key)) => self.entry(&name, key),
            };
            match entry {
                Ok(entry) => found.push(entry),
                Err(error) => acts.problems.push(error),
            }
        }
        acts.problems.extend(gaps(&found));
        for each in &found {
            let Entry { slot, seq, time, .. } = each.entry;
            match self.open_act(each, &secrets) {
                Ok(act) => acts.done.push(Done { slot, seq, time, act }),
                Err(error) => acts.problems.push(error),
            }
        }
        acts.done.sort_by_key(|done| (done.time, done.slot, done.seq));
        Ok(acts)
    }

    /// What verifies the log of each slot, of those too that are gone; nothing where that is no key.
    fn log_keys(&self, admin: &AdminRing) -> HashMap<SlotId, Option<VerifyingKey>> {
        let present = self.slots().slots.iter().map(|slot| (slot.id, slot.log_key));
        let former = admin.former.iter().map(|slot| (slot.id, slot.log_key));
        present.chain(former).map(|(id, key)| (id, VerifyingKey::from_bytes(&key).ok())).collect()
    }

    /// Opens an act with the owners' keys, the newest first.
    fn open_act(&self, found: &Found, secrets: &[KemSecretKey]) -> Result<Act, Error> {
        let wrong = |error: &dyn std::fmt::Display| damaged(&found.name, &error.to_string());
        let fingerprint = self.log().fingerprint();
        let sealed = &found.entry.sealed;
        let claimed = pseal::peek(sealed).map_err(|error| match error {
            pseal::Error::NewerVersion => Error::Newer { name: found.name.clone() },
            error => wrong(&error),
        })?;
        let expected = pseal::Header {
            vault: fingerprint.vault_id(),
            device: DeviceId(found.entry.slot.0),
            epoch: claimed.epoch,
            kind: Kind::Log,
        };
        let mut opened = Err(pseal::Error::WrongKey);
        for secret in secrets {
            opened = pseal::open(&fingerprint, secret, &pseal::no_psk(), &expected, sealed);
            if opened != Err(pseal::Error::WrongKey) {
                break;
            }
        }
        let plaintext = opened.map_err(|error| wrong(&error))?;
        Act::decode(&plaintext).map_err(|error| wrong(&error))
    }
}

/// What goes into the salt of all that a reader seals.
fn reader_hedge(fingerprint: &Fingerprint, log_seed: &Secret<32>) -> Secret<32> {
    log_seed.expose(|seed| derive::<32>(seed, &[], "hedge", &fingerprint.0))
}

/// Each entry that another one names and that isn't there.
fn gaps(found: &[Found]) -> Vec<Error> {
    let place = |found: &Found| (found.entry.slot, found.entry.seq, found.digest);
    let there: HashSet<_> = found.iter().map(place).collect();
    let mut told = HashSet::new();
    found
        .iter()
        .filter(|each| each.entry.seq > 1)
        .map(|each| (each.entry.slot, each.entry.seq - 1, each.entry.prev))
        .filter(|before| !there.contains(before) && told.insert(*before))
        .map(|(slot, seq, _)| Error::HistoryMissing {
            what: format!("entry {seq} of the log of slot {} can't be found", slot.short()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acts() -> [Act; 3] {
        let act = |command: &str, deed| Act { host: "désk".to_owned(), command: command.to_owned(), deed };
        let snapshots = vec![SnapshotId([1; 16]), SnapshotId([2; 16])];
        [
            act("slot add", Deed::Given("anna".to_owned())),
            act("diff", Deed::Reads { snapshots, path: b"home/\xff\n".to_vec() }),
            act("fly", Deed::Newer(9)),
        ]
    }

    fn signed() -> (SigningKey, Entry, Vec<u8>) {
        let key = SigningKey::from_seed(Secret::filled(|seed| seed.fill(3)));
        let entry = Entry {
            vault: VaultId([1; 16]),
            slot: SlotId([2; 16]),
            seq: 2,
            time: 5,
            prev: Digest([4; 32]),
            sealed: b"sealed".to_vec(),
        };
        let (bytes, place) = entry.sign(&key);
        assert_eq!(place, Place::Log { slot: entry.slot, seq: 2, digest: first8(&digest::digest(&bytes)) });
        (key, entry, bytes)
    }

    #[test]
    fn an_act_reads_back_with_any_padding_and_with_nothing_else_behind_it() {
        for act in acts() {
            let mut bytes = act.encode();
            assert_eq!(Act::decode(&bytes), Ok(act.clone()));
            for length in 0..bytes.len() {
                assert!(Act::decode(&bytes[..length]).is_err(), "{length} bytes of {act:?}");
            }
            bytes.extend([0; 50]);
            assert_eq!(Act::decode(&bytes), Ok(act.clone()));
            bytes.push(1);
            let is_newer = matches!(act.deed, Deed::Newer(_));
            assert_eq!(Act::decode(&bytes).is_ok(), is_newer, "{act:?}");
        }
        assert_eq!(Act::decode(&[0; 64]), Err(codec::Error::NotCanonical("type")));
    }

    #[test]
    fn long_texts_are_cut_between_characters_so_that_all_entries_have_one_length() {
        let host = "é".repeat(40_000);
        let given = Deed::Given(format!("a{host}"));
        let reads = Deed::Reads { snapshots: vec![SnapshotId([7; 16]); 1_000], path: vec![b'x'; 100_000] };
        for deed in [given, reads] {
            let bytes = Act { host: host.clone(), command: host.clone(), deed }.encode();
            assert!(bytes.len() as u64 <= Kind::Log.plaintext_bytes_min());
            let act = Act::decode(&bytes).unwrap();
            assert_eq!((act.host, act.command), ("é".repeat(127), "é".repeat(32)));
        }
    }

    #[test]
    fn an_entry_reads_back_and_no_other_bytes_pass_for_it() {
        let (key, entry, bytes) = signed();
        let read = |bytes: &[u8]| {
            Entry::verify(bytes, &key.public()).and_then(|()| Entry::decode(bytes)).map_err(drop)
        };
        assert_eq!(read(&bytes), Ok(entry));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(read(&flipped), Err(()), "byte {at}");
            assert_eq!(read(&bytes[..at]), Err(()), "{at} bytes");
        }
        assert_eq!(read(&[&bytes[..], &[0]].concat()), Err(()));
        let other = SigningKey::generate().public();
        assert_eq!(Entry::verify(&bytes, &other), Err(record::Error::Signature));
    }

    #[test]
    fn what_its_slot_would_never_write_is_refused_though_it_is_signed() {
        let (key, entry, bytes) = signed();
        let zero = Digest([0; 32]);
        for (seq, prev) in [(0, zero), (0, entry.prev), (1, entry.prev), (2, zero)] {
            let (bytes, _) = Entry { seq, prev, ..entry.clone() }.sign(&key);
            assert!(matches!(Entry::decode(&bytes), Err(record::Error::Layout(_))), "{seq} {prev}");
        }
        let mut newer = bytes.clone();
        newer[6] = 2;
        assert_eq!(Entry::decode(&newer), Err(record::Error::Newer));
        let mut longer = bytes.clone();
        longer[HEAD_BYTES - 4] += 1;
        assert!(matches!(Entry::decode(&longer), Err(record::Error::Layout(_))));
        longer.push(0);
        assert!(Entry::decode(&longer).is_ok() && Entry::verify(&longer, &key.public()).is_err());
    }
}

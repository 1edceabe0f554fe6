//! Who did what: each person's log, signed by his slot, sealed to the owners.
//!
//! An entry is put before a command reads or changes anything, so that no crash hides what was read; it says
//! what was about to be done. What came of a change stands in the authority log. Each entry names the one
//! before it in its slot, so that none can be taken out of the middle unseen. Two machines may use one slot
//! at the same moment: then two entries stand at one place, both after one that is there.
//!
//! Each change of the authority draws every slot's log key anew, so that an owner who is none any more signs in
//! nobody's name. A slot's log goes on under the new key after what stands there.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
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
use crate::store;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::authority::LogHead;
use crate::vault::authority::damaged;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record;
use crate::vault::ring::AdminRing;
use crate::vault::ring::FormerSlot;

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

/// How many entries that a reader's key didn't sign are looked at for one that it did. A reader doesn't know
/// his slot's former keys, so after a change of keys all entries are of this kind, however many.
const STRANGERS_MAX: usize = 64;
/// The highest place of an entry of an unknown key that another one follows: rubbish must not use the numbers up.
const STRANGER_SEQ_MAX: u64 = 1 << 62;

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

/// Which entry of a slot's log this is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ActHead {
    /// Whose log.
    pub slot: SlotId,
    /// Its place in that log.
    pub seq: u64,
    /// Of all its bytes.
    pub digest: Digest,
}

impl ActHead {
    /// That this entry was there and isn't any more.
    #[must_use]
    pub fn is_gone(&self) -> Error {
        Error::HistoryMissing {
            what: format!(
                "entry {} of the log of slot {}, which this machine has seen, is gone",
                self.seq,
                self.slot.short()
            ),
        }
    }
}

impl LockedVault {
    /// Those of `seen` that stand in the store no more, in neither copy.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn acts_gone<'a>(&self, seen: impl IntoIterator<Item = &'a ActHead>) -> Result<Vec<ActHead>, Error> {
        let is_there = |name: &ObjectName| match self.store().size(name) {
            Err(store::Error::Missing { .. }) => Ok(false),
            result => result.map(|_| true),
        };
        let mut gone = Vec::new();
        for head in seen {
            let name = Place::Log { slot: head.slot, seq: head.seq, digest: first8(&head.digest) }.name();
            if !is_there(&name)? && !is_there(&name.second())? {
                gone.push(*head);
            }
        }
        Ok(gone)
    }

    /// Each place in a slot's log at which no entry stands though a later one does, as far as names tell.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn act_gaps(&self) -> Result<Vec<Error>, Error> {
        let mut places: BTreeMap<SlotId, BTreeSet<u64>> = BTreeMap::new();
        for name in fetch::list_both(self.store(), "u/")? {
            if let Some(Place::Log { slot, seq, .. }) = Place::parse(&name) {
                places.entry(slot).or_default().insert(seq);
            }
        }
        let gaps = places.iter().flat_map(|(slot, seqs)| {
            let before = seqs.iter().filter_map(|seq| seq.checked_sub(1));
            before.filter(|before| *before > 0 && !seqs.contains(before)).map(|before| gap(*slot, before))
        });
        Ok(gaps.collect())
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
    /// Whether it is signed by a key of the slot that was retired before, as far as that can be told: whoever
    /// was an owner until then can have made it.
    pub is_by_retired_key: bool,
}

/// What all slots' holders did.
#[derive(Debug, Default)]
pub struct Acts {
    /// The oldest first.
    pub done: Vec<Done>,
    /// The newest entry of each slot.
    pub heads: Vec<ActHead>,
    /// Entries that can't be read, and gaps: [`Error::Damaged`], [`Error::Newer`], [`Error::HistoryMissing`].
    pub problems: Vec<Error>,
}

/// An entry that was read, and is its slot's.
struct Found {
    name: ObjectName,
    entry: Entry,
    digest: Digest,
    /// Which of the slot's keys signed it, the oldest first.
    key: usize,
}

/// What verifies entries of a slot's log.
struct LogKey {
    key: VerifyingKey,
    /// How often the authority has been renewed since, or as, this key went, at least; 0 if it is in force.
    renewals_since: usize,
}

impl Vault {
    /// Adds to the log of the slot that was opened, after its newest entry; says which entry it is.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::TooMuch`] at the end of all numbers.
    pub fn record_act(&self, act: &Act, now: u64) -> Result<ActHead, Error> {
        let store = self.store();
        store.writable()?;
        let slot = self.slot().0.id;
        let key = SigningKey::from_seed(self.slot().0.log_seed.duplicate());
        let newest = self.newest_entry(slot, key.public())?;
        if let Some(newest) = &newest {
            // Whatever ended the command that put it may have come between its two copies.
            fetch::complete(store, &newest.name, &newest.digest)?;
        }
        let (before, prev) = newest.map_or((0, Digest([0; 32])), |newest| (newest.entry.seq, newest.digest));
        let seq = before.checked_add(1).ok_or(Error::TooMuch { what: "entries in a slot's log" })?;
        let vault = self.log().fingerprint().vault_id();
        let entry = Entry { vault, slot, seq, time: now, prev, sealed: self.seal_act(slot, act)? };
        let (bytes, place) = entry.sign(&key);
        fetch::put_twice(store, &place.name(), &bytes)?;
        Ok(ActHead { slot, seq, digest: digest::digest(&bytes) })
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

    /// The entry that the next one follows: the newest that the slot signed.
    ///
    /// A reader can't tell what his slot's former keys signed from rubbish. If nothing near the end is signed
    /// with the present one, he follows the last that stands there; owners see what it is.
    fn newest_entry(&self, slot: SlotId, own: VerifyingKey) -> Result<Option<Found>, Error> {
        let mut keys = match self.admin() {
            Ok(admin) => self.log_keys(admin).remove(&slot).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        keys.push(LogKey { key: own, renewals_since: 0 });
        let mut strangers = 0;
        let mut newest_stranger = None;
        for name in fetch::list_both(self.store(), &format!("u/{slot}/"))?.into_iter().rev() {
            match self.entry(&name, &keys, keys.len() - 1) {
                Ok(found) => return Ok(Some(found)),
                Err(error @ Error::Store(_)) => return Err(error),
                Err(_) => {}
            }
            strangers += 1;
            if newest_stranger.is_none() {
                let stranger = self.checked_entry(&name, |_| Ok(0)).ok();
                newest_stranger = stranger.filter(|found| found.entry.seq <= STRANGER_SEQ_MAX);
            }
            if newest_stranger.is_some() && strangers >= STRANGERS_MAX {
                break;
            }
        }
        Ok(newest_stranger)
    }

    /// Reads the entry of this name, and checks that it is that and signed by one of `keys`, of which the one at
    /// `first` is tried first.
    fn entry(&self, name: &ObjectName, keys: &[LogKey], first: usize) -> Result<Found, Error> {
        self.checked_entry(name, |bytes| {
            let mut error = record::Error::Signature;
            for at in (first..keys.len()).chain(0..first.min(keys.len())) {
                match Entry::verify(bytes, &keys[at].key) {
                    Ok(()) => return Ok(at),
                    Err(other) => error = other,
                }
            }
            Err(error)
        })
    }

    /// Reads the entry of this name, and checks that it is that and passes `verify`, which says by which key.
    fn checked_entry(
        &self,
        name: &ObjectName,
        verify: impl Fn(&[u8]) -> Result<usize, record::Error>,
    ) -> Result<Found, Error> {
        let Some(Place::Log { slot, seq, digest: first }) = Place::parse(name) else {
            return Err(damaged(name, "its name is none of strongroom's"));
        };
        fetch::checked(self.store(), name, ENTRY_BYTES_MAX, |bytes| {
            let digest = digest::digest(bytes);
            if first8(&digest) != first {
                return Err(damaged(name, "it does not match its digest"));
            }
            let read = verify(bytes).and_then(|key| Ok((key, Entry::decode(bytes)?)));
            let (key, entry) = read.map_err(|error| match error {
                record::Error::Newer => Error::Newer { name: name.clone() },
                record::Error::Signature => damaged(name, "it is not signed by its slot"),
                record::Error::Layout(error) => damaged(name, &error.to_string()),
            })?;
            if (entry.vault, entry.slot, entry.seq) != (self.log().fingerprint().vault_id(), slot, seq) {
                return Err(damaged(name, "it belongs elsewhere"));
            }
            Ok(Found { name: name.clone(), entry, digest, key })
        })
    }

    /// What the holders of all slots did, of those too that are gone.
    ///
    /// Damage and gaps end nothing: they are told beside what could be read. That the newest entries of a
    /// slot were removed is for [`LockedVault::acts_gone`] to tell, from what a machine has seen.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::Store`] if the names can't be listed.
    pub fn acts(&self) -> Result<Acts, Error> {
        let admin = self.admin()?;
        let secrets: Vec<KemSecretKey> =
            admin.owners_seeds.iter().rev().map(|seed| KemSecretKey::from_seed(seed.duplicate())).collect();
        let keys = self.log_keys(admin);
        let mut acts = Acts::default();
        let mut found: Vec<Found> = Vec::new();
        for name in fetch::list_both(self.store(), "u/")? {
            let key = match Place::parse(&name) {
                Some(Place::Log { slot, .. }) => keys.get(&slot),
                // No name of strongroom's: `verify` counts it with what nothing names.
                _ => continue,
            };
            // Names come in the order of slots and places, so the key that signed the last one hardly changes.
            let first = found.last().map_or(0, |last| last.key);
            let entry = match key {
                None => Err(damaged(&name, "it is of an unknown slot")),
                Some(keys) if keys.is_empty() => Err(damaged(&name, "its slot's key can't be used")),
                Some(keys) => self.entry(&name, keys, first),
            };
            match entry {
                Ok(entry) => found.push(entry),
                Err(error) => acts.problems.push(error),
            }
        }
        acts.problems.extend(gaps(&found));
        acts.heads = newest(&found);
        let retirement = Retirement { by_digest: by_digest(&found), times: self.renewal_times()? };
        for each in &found {
            let Entry { slot, seq, time, .. } = each.entry;
            match self.open_act(each, &secrets) {
                Ok((act, owners_keys_after)) => {
                    let key = keys.get(&slot).and_then(|keys| keys.get(each.key));
                    let is_by_retired_key =
                        key.is_some_and(|key| retirement.is_before(key, each, owners_keys_after));
                    acts.done.push(Done { slot, seq, time, act, is_by_retired_key });
                }
                Err(error) => acts.problems.push(error),
            }
        }
        acts.done.sort_by_key(|done| (done.time, done.slot, done.seq));
        Ok(acts)
    }

    /// What verifies the log of each slot, of those too that are gone, the oldest key first; none where that
    /// is no key.
    fn log_keys(&self, admin: &AdminRing) -> HashMap<SlotId, Vec<LogKey>> {
        let slots = &self.slots().slots;
        let present: HashSet<SlotId> = slots.iter().map(|slot| slot.id).collect();
        let former = admin.former.iter().zip(renewals_since(&admin.former, &present));
        let former = former.map(|(slot, renewals)| (slot.id, slot.log_key, renewals));
        let mut keys: HashMap<SlotId, Vec<LogKey>> = HashMap::new();
        for (id, key, renewals_since) in former.chain(slots.iter().map(|slot| (slot.id, slot.log_key, 0))) {
            let of_slot = keys.entry(id).or_default();
            of_slot.extend(VerifyingKey::from_bytes(&key).ok().map(|key| LogKey { key, renewals_since }));
        }
        keys
    }

    /// When the authority was renewed, by the owners' clocks, the newest first.
    fn renewal_times(&self) -> Result<Vec<u64>, Error> {
        let log = self.log();
        let authority = |seq: u64| log.authority_at(seq).map(|(key, _)| key);
        let is_renewal = |at: &&LogHead| at.seq > 1 && authority(at.seq) != authority(at.seq - 1);
        let renewals = log.records().iter().rev().filter(is_renewal);
        renewals.map(|at| Ok(self.locked().record(at)?.time)).collect()
    }

    /// Opens an act with the owners' keys, the newest first; says how many came after the one that opens it.
    fn open_act(&self, found: &Found, secrets: &[KemSecretKey]) -> Result<(Act, usize), Error> {
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
        let mut keys_after = 0;
        for (at, secret) in secrets.iter().enumerate() {
            opened = pseal::open(&fingerprint, secret, &pseal::no_psk(), &expected, sealed);
            keys_after = at;
            if opened != Err(pseal::Error::WrongKey) {
                break;
            }
        }
        let plaintext = opened.map_err(|error| wrong(&error))?;
        let act = Act::decode(&plaintext).map_err(|error| wrong(&error))?;
        Ok((act, keys_after))
    }
}

/// Of each former key, how often the authority was renewed since it went, or as it went: no more than that.
///
/// Each renewal leaves one row of every slot that stays, so the rows of any one slot count renewals.
pub(super) fn renewals_since(former: &[FormerSlot], present: &HashSet<SlotId>) -> Vec<usize> {
    let mut counts: HashMap<SlotId, usize> = HashMap::new();
    let mut most = 0;
    let mut since: Vec<usize> = former
        .iter()
        .rev()
        .map(|slot| {
            if present.contains(&slot.id) {
                let count = counts.entry(slot.id).or_default();
                *count += 1;
                most = most.max(*count);
            }
            most
        })
        .collect();
    since.reverse();
    since
}

/// What tells whether a key was retired before an entry was signed with it.
struct Retirement {
    /// Which key of its slot signed an entry.
    by_digest: HashMap<Digest, usize>,
    /// When the authority was renewed, the newest first.
    times: Vec<u64>,
}

fn by_digest(found: &[Found]) -> HashMap<Digest, usize> {
    found.iter().map(|each| (each.digest, each.key)).collect()
}

impl Retirement {
    /// Whether `key` was retired before `found` was signed with it: the entry is sealed to an owners' key that
    /// came later, or follows an entry of a later key, or says so by its time.
    fn is_before(&self, key: &LogKey, found: &Found, owners_keys_after: usize) -> bool {
        if key.renewals_since == 0 {
            return false;
        }
        let follows = self.by_digest.get(&found.entry.prev);
        owners_keys_after < key.renewals_since
            || follows.is_some_and(|before| *before > found.key)
            || self.times.get(key.renewals_since - 1).is_some_and(|retired| found.entry.time > *retired)
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
        .map(|(slot, seq, _)| gap(slot, seq))
        .collect()
}

fn gap(slot: SlotId, seq: u64) -> Error {
    Error::HistoryMissing { what: format!("entry {seq} of the log of slot {} can't be found", slot.short()) }
}

fn newest(found: &[Found]) -> Vec<ActHead> {
    let mut heads: BTreeMap<SlotId, ActHead> = BTreeMap::new();
    for Found { entry, digest, .. } in found {
        let head = ActHead { slot: entry.slot, seq: entry.seq, digest: *digest };
        let newest = heads.entry(entry.slot).or_insert(head);
        *newest = head.max(*newest);
    }
    heads.into_values().collect()
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
    fn renewals_are_counted_by_the_rows_of_slots_that_stayed() {
        let row = |id: u8| FormerSlot { id: SlotId([id; 16]), log_key: [0; 32], label: String::new() };
        let rows = |ids: &[u8]| ids.iter().map(|id| row(*id)).collect::<Vec<_>>();
        let present = HashSet::from([SlotId([1; 16]), SlotId([2; 16])]);
        // Slot 9 goes as the authority is renewed, and once more later.
        assert_eq!(renewals_since(&rows(&[9, 1, 2, 1, 2]), &present), [2, 2, 2, 1, 1]);
        // Slot 9 stays at the first renewal and goes without one: at least as many as can be told.
        assert_eq!(renewals_since(&rows(&[1, 9, 9, 1]), &present), [2, 1, 1, 1]);
        assert_eq!(renewals_since(&rows(&[9]), &present), [0]);
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

//! Reading the log: which of the records that a store holds make the chain, one place after the other.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use crate::crypto::digest;
use crate::id::Digest;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::VaultId;
use crate::store::Store;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::damaged;
use crate::vault::authority::refused;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record;
use crate::vault::record::Payload;
use crate::vault::record::Record;

impl Log {
    /// Reads and verifies the whole log.
    ///
    /// # Errors
    /// [`Error::NoVault`] if there is none; [`Error::Unfinished`] if one was only begun; [`Error::Damaged`], [`Error::Missing`] or [`Error::Newer`]
    /// naming the record; [`Error::HistoryMissing`] for a gap; [`Error::Forked`] for two records at one
    /// place, [`Error::Rivals`] if it is the last; [`Error::OtherVault`] if `expected` is another fingerprint.
    pub fn load(store: &dyn Store, expected: Option<&Fingerprint>) -> Result<Self, Error> {
        let names = places(store)?;
        let mut log = Self::begin(store, names.get(&0).map_or(&[], Vec::as_slice), expected)?;
        let last = names.last_key_value().map_or(0, |(seq, _)| *seq);
        for seq in 1..=last {
            let next = names.get(&(seq + 1)).map_or(&[][..], Vec::as_slice);
            let here = names.get(&seq).map_or(&[][..], Vec::as_slice);
            log.step(store, seq, here, next).map_err(|error| match error {
                Error::Rivals { seq } if seq != last => two_records(seq),
                error => error,
            })?;
        }
        if log.keys.is_none() {
            return Err(Self::ends_early(store)?);
        }
        log.settle(store)?;
        Ok(log)
    }

    /// A log with two records at its last place: all before them, and the two, by their digests.
    ///
    /// # Errors
    /// As [`Log::load`]; [`Error::Forked`] if it isn't the log's last place where they stand, if they aren't
    /// two, or if there are no keys before them.
    pub fn load_before_rivals(
        store: &dyn Store,
        expected: Option<&Fingerprint>,
    ) -> Result<(Self, [(Record, Digest); 2]), Error> {
        let names = places(store)?;
        let mut log = Self::begin(store, names.get(&0).map_or(&[], Vec::as_slice), expected)?;
        let (last, rivals) = names.last_key_value().ok_or(Error::NoVault { place: store.place() })?;
        for seq in 1..*last {
            let next = names.get(&(seq + 1)).map_or(&[][..], Vec::as_slice);
            let here = names.get(&seq).map_or(&[][..], Vec::as_slice);
            log.step(store, seq, here, next).map_err(|error| match error {
                Error::Rivals { seq } => two_records(seq),
                error => error,
            })?;
        }
        let mut found = rivals
            .iter()
            .map(|name| log.fetch_next(store, *last, name))
            .collect::<Result<Vec<_>, Error>>()?;
        found.sort_unstable_by_key(|(_, digest)| *digest);
        match <[_; 2]>::try_from(found) {
            Ok(rivals) if log.keys.is_some() => Ok((log, rivals)),
            _ => Err(two_records(*last)),
        }
    }

    /// The log with one record more, as a reader would take it in.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Missing`] if no reader would take it.
    pub fn with(&self, store: &dyn Store, record: Record, digest: Digest) -> Result<Self, Error> {
        let mut log = self.clone();
        log.apply(store, record, digest)?;
        log.settle(store)?;
        Ok(log)
    }

    /// A log of GENESIS alone: was its vault never finished, or did the rest get lost?
    fn ends_early(store: &dyn Store) -> Result<Error, Error> {
        for prefix in ["c/", "s/", "p/", "m/"] {
            if !fetch::list_both(store, prefix)?.is_empty() {
                return Ok(Error::HistoryMissing { what: "its log ends before the first keys".to_owned() });
            }
        }
        Ok(Error::Unfinished { place: store.place() })
    }

    fn begin(store: &dyn Store, names: &[ObjectName], expected: Option<&Fingerprint>) -> Result<Self, Error> {
        let mut first: Option<(Fingerprint, Record)> = None;
        for name in names {
            let (record, bytes) = fetch_record(store, name)?;
            let digest = digest::digest(&bytes);
            let zero = record.vault == VaultId([0; 16]) && record.prev == Digest([0; 32]);
            let Payload::Genesis { authority, .. } = &record.payload else {
                return Err(damaged(name, "it is not a genesis record"));
            };
            if !zero || record.seq != 0 {
                return Err(damaged(name, "it is not a genesis record"));
            }
            Record::verify(&bytes, authority).map_err(|error| refused(name, error))?;
            let found = Fingerprint(digest.0);
            if expected == Some(&found) || first.is_none() {
                first = Some((found, record));
            } else if expected.is_none() {
                return Err(Error::Forked { what: "it has two genesis records".to_owned() });
            }
        }
        let Some((fingerprint, record)) = first else {
            return Err(Error::HistoryMissing { what: "its genesis record is missing".to_owned() });
        };
        if let Some(expected) = expected
            && *expected != fingerprint
        {
            return Err(Error::OtherVault { expected: *expected, found: fingerprint });
        }
        let Payload::Genesis { authority, .. } = record.payload else {
            unreachable!("only genesis records are kept above");
        };
        Ok(Self {
            fingerprint,
            heads: vec![LogHead { seq: 0, digest: Digest(fingerprint.0) }],
            times: vec![record.time],
            authority,
            keys: None,
            epochs: Vec::new(),
            devices: BTreeMap::new(),
            seen: BTreeMap::new(),
            forgotten: HashSet::new(),
            forgotten_objects: HashSet::new(),
            current: HashMap::new(),
            announced: HashMap::new(),
            late: Vec::new(),
            pending: Vec::new(),
            forget_lists: Vec::new(),
            forget_rows: 0,
            map_lists: Vec::new(),
            map_rows: 0,
        })
    }

    /// Takes the one record that continues the chain at `seq`.
    fn step(
        &mut self,
        store: &dyn Store,
        seq: u64,
        names: &[ObjectName],
        next: &[ObjectName],
    ) -> Result<(), Error> {
        let mut fitting: Vec<(Record, Digest)> = Vec::new();
        let mut first_error = None;
        for name in names {
            match self.fetch_next(store, seq, name) {
                Ok(found) => fitting.push(found),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if fitting.len() > 1 {
            let voided = self.voided(store, seq + 1, next, &fitting);
            fitting.retain(|(_, digest)| Some(*digest) != voided);
            if fitting.len() > 1 {
                return Err(Error::Rivals { seq });
            }
        }
        match (fitting.pop(), first_error) {
            // What a newer version signed may be a rival of the one that fits.
            (Some(_) | None, Some(error @ Error::Newer { .. })) | (None, Some(error)) => Err(error),
            (None, None) => {
                Err(Error::HistoryMissing { what: format!("record {seq} of its log is missing") })
            }
            // Beside the one that fits, rubbish under a name of the same place says nothing.
            (Some((record, digest)), _) => self.apply(store, record, digest),
        }
    }

    fn fetch_next(&self, store: &dyn Store, seq: u64, name: &ObjectName) -> Result<(Record, Digest), Error> {
        let (record, bytes) = fetch_record(store, name)?;
        Record::verify(&bytes, &self.authority).map_err(|error| refused(name, error))?;
        if record.vault != self.fingerprint.vault_id() || record.seq != seq {
            return Err(damaged(name, "it is another vault's or another place's"));
        }
        if record.prev != self.head().digest {
            return Err(Error::Forked { what: format!("record {seq} of its log follows another one") });
        }
        Ok((record, digest::digest(&bytes)))
    }

    /// Which of two rivals a VOID record right after them names.
    fn voided(
        &self,
        store: &dyn Store,
        seq: u64,
        names: &[ObjectName],
        rivals: &[(Record, Digest)],
    ) -> Option<Digest> {
        names.iter().find_map(|name| {
            let (record, bytes) = fetch_record(store, name).ok()?;
            let Payload::Void(loser) = record.payload else { return None };
            let winner = rivals.iter().find(|(_, digest)| *digest == record.prev)?;
            // A rival that changed the authority's key signs what follows it.
            let key = match &winner.0.payload {
                Payload::Keys(keys) => &keys.authority,
                _ => &self.authority,
            };
            Record::verify(&bytes, key).ok()?;
            let named = rivals.iter().any(|(_, digest)| *digest == loser) && loser != winner.1;
            (named && record.seq == seq && record.vault == self.fingerprint.vault_id()).then_some(loser)
        })
    }
}

/// The names of all records by their places.
fn places(store: &dyn Store) -> Result<BTreeMap<u64, Vec<ObjectName>>, Error> {
    let mut names: BTreeMap<u64, Vec<ObjectName>> = BTreeMap::new();
    for name in fetch::list_both(store, "a/")? {
        if let Some(Place::Record { seq, .. }) = Place::parse(&name) {
            names.entry(seq).or_default().push(name);
        }
    }
    if names.is_empty() { Err(Error::NoVault { place: store.place() }) } else { Ok(names) }
}

fn two_records(seq: u64) -> Error {
    Error::Forked { what: format!("two records stand at place {seq} of its log") }
}

fn fetch_record(store: &dyn Store, name: &ObjectName) -> Result<(Record, Vec<u8>), Error> {
    fetch::checked(store, name, record::RECORD_BYTES_MAX as u64, |bytes| {
        // Before anything else: a flipped bit in the version is damage that the second copy mends.
        let said = match Place::parse(name) {
            Some(Place::Record { seq, digest }) if digest == first8(&digest::digest(bytes)) => seq,
            _ => return Err(damaged(name, "it does not match its name")),
        };
        let record = Record::decode(bytes).map_err(|error| refused(name, error))?;
        if record.seq != said {
            return Err(damaged(name, "it does not match its name"));
        }
        Ok((record, bytes.to_vec()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::kdf::Argon2Settings;
    use crate::crypto::secret::Secret;
    use crate::id::DeviceId;
    use crate::store::Memory;
    use crate::store::state::StateDir;
    use crate::vault::authority::record_name;
    use crate::vault::device::DeviceKeys;
    use crate::vault::init::NewSlot;
    use crate::vault::init::NewVault;
    use crate::vault::name::first8;
    use crate::vault::slot::Way;

    #[test]
    fn a_record_with_any_byte_flipped_is_read_from_its_second_copy() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let folder = tempfile::tempdir().unwrap();
        let device = DeviceKeys::generate();
        let way = Way { key_file: Some(Secret::generate()), ..Way::default() };
        let slots = [NewSlot { way: &way, label: "test" }];
        let vault = NewVault::generate(&slots, &Argon2Settings::DEFAULT, (&device, "test"), 1).unwrap();
        let log = vault.put(&store, &device, &StateDir::new(folder.path()), 1).unwrap();

        for head in log.records() {
            let name = Place::Record { seq: head.seq, digest: first8(&head.digest) }.name();
            let good = store.get(&name, 1 << 20).unwrap();
            for at in (0..good.len()).filter(|at| *at < 96 || at % 97 == 0) {
                let mut bad = good.clone();
                bad[at] ^= 1;
                store.remove(&name).unwrap();
                store.put(&name, &bad).unwrap();
                let (record, bytes) = fetch_record(&*store, &name).unwrap();
                assert!(bytes == good && record.seq == head.seq, "byte {at} of {name}");
            }
            store.remove(&name).unwrap();
            store.put(&name, &good).unwrap();
        }
    }

    #[test]
    fn a_log_of_its_first_record_alone_is_unfinished_only_if_nothing_else_was_stored() {
        let (_, genesis) = crate::vault::testing::genesis();
        let store = Memory::new();
        store.put(&record_name(0, &genesis), genesis.bytes()).unwrap();
        assert!(matches!(Log::load(&store, None), Err(Error::Unfinished { .. })));
        let name = Place::Pack { device: DeviceId([1; 16]), digest: Digest([2; 32]) }.name();
        store.put(&name, b"anything").unwrap();
        assert!(matches!(Log::load(&store, None), Err(Error::HistoryMissing { .. })));
    }
}

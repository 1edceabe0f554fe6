//! Reading the log: which of the records that a store holds make the chain, one place after the other.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use crate::crypto::digest;
use crate::crypto::sign::VerifyingKey;
use crate::id::Digest;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::VaultId;
use crate::store::Store;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::Vouched;
use crate::vault::authority::damaged;
use crate::vault::authority::places::Places;
use crate::vault::authority::refused;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record;
use crate::vault::record::Payload;
use crate::vault::record::Record;

/// How often the log is read, as a record may be about to be withdrawn by whoever put it.
const LOOKS: u32 = 5;

impl Log {
    /// Reads and verifies the whole log, of a vault of which nothing is known but, perhaps, its fingerprint.
    ///
    /// # Errors
    /// As [`Log::load_from`].
    pub fn load(store: &dyn Store, expected: Option<&Fingerprint>) -> Result<Self, Error> {
        Self::load_from(store, expected, None)
    }

    /// Reads and verifies the whole log; up to a record that is `vouched` for, what doesn't lead to it counts
    /// for nothing.
    ///
    /// Where two owners write at the same moment, a reader may meet what one of them is about to withdraw.
    /// So what looks wrong is looked at again a few times, and what stays is reported.
    ///
    /// # Errors
    /// [`Error::NoVault`] if there is none; [`Error::Unfinished`] if one was only begun; [`Error::Damaged`], [`Error::Missing`] or [`Error::Newer`]
    /// naming the record; [`Error::HistoryMissing`] for a gap; [`Error::Forked`] for two records at one
    /// place, [`Error::Rivals`] if it is the last; [`Error::OtherVault`] if `expected` is another fingerprint;
    /// as [`Vouched::check`].
    pub fn load_from(
        store: &dyn Store,
        expected: Option<&Fingerprint>,
        vouched: Option<Vouched>,
    ) -> Result<Self, Error> {
        let mut turn = 1;
        loop {
            match Self::look(store, expected, vouched) {
                Ok((log, is_settled)) if is_settled || turn == LOOKS => return Ok(log),
                Err(error) if turn >= looks(&error) => return Err(error),
                _ => store.pause(turn),
            }
            turn += 1;
        }
    }

    /// Reads the log anew, as it goes on from this one.
    ///
    /// # Errors
    /// As [`Log::load_from`].
    pub fn reload(&self, store: &dyn Store) -> Result<Self, Error> {
        Self::load_from(store, Some(&self.fingerprint), Some(self.head().into()))
    }

    /// Reads the log once; whether it can't be that its last record is withdrawn yet.
    fn look(
        store: &dyn Store,
        expected: Option<&Fingerprint>,
        vouched: Option<Vouched>,
    ) -> Result<(Self, bool), Error> {
        let mut places = Places::load(store)?;
        if let Some(vouched) = vouched {
            places.keep_chain(store, vouched)?;
        }
        let log = Self::read(store, &places, expected)?;
        vouched.map_or(Ok(()), |vouched| vouched.check(&log))?;
        Ok((log, places.is_settled()))
    }

    /// The branch of a forked log that a record is on, with what follows it, and the names of all records
    /// that are on another one.
    ///
    /// # Errors
    /// As [`Log::load_from`].
    pub fn load_branch(
        store: &dyn Store,
        expected: Option<&Fingerprint>,
        vouched: Vouched,
    ) -> Result<(Self, Vec<ObjectName>), Error> {
        let mut places = Places::load(store)?;
        let aside = places.keep_branch(store, vouched)?;
        let log = Self::read(store, &places, expected)?;
        vouched.check(&log)?;
        Ok((log, aside))
    }

    /// A log with two records at its last place: all before them, and the two, by their digests.
    ///
    /// # Errors
    /// As [`Log::load_from`]; [`Error::Forked`] if it isn't the log's last place where they stand, if they
    /// aren't two, or if there are no keys before them.
    pub fn load_before_rivals(
        store: &dyn Store,
        expected: Option<&Fingerprint>,
        vouched: Option<Vouched>,
    ) -> Result<(Self, [(Record, Digest); 2]), Error> {
        let mut places = Places::load(store)?;
        if let Some(vouched) = vouched {
            places.keep_chain(store, vouched)?;
        }
        let last = places.last();
        let mut log = Self::begin(store, &places, expected)?;
        log.take_until(store, &places, last)?;
        vouched.filter(|vouched| vouched.seq() < last).map_or(Ok(()), |vouched| vouched.check(&log))?;
        let mut found = places
            .at(last)
            .iter()
            .map(|name| log.fetch_next(store, last, name))
            .collect::<Result<Vec<_>, Error>>()?;
        found.sort_unstable_by_key(|(_, digest)| *digest);
        match <[_; 2]>::try_from(found) {
            Ok(rivals) if log.keys.is_some() => Ok((log, rivals)),
            _ => Err(two_records(last)),
        }
    }

    /// The records below `a/`, of whatever branch, whose digests begin with these hex digits.
    ///
    /// # Errors
    /// [`Error::NoVault`]; [`Error::Store`]; what reading one that fits says.
    pub fn find_records(store: &dyn Store, begin: &str) -> Result<Vec<LogHead>, Error> {
        let places = Places::load(store)?;
        let mut found = Vec::new();
        for (seq, name) in places.all() {
            let (_, said) = name.as_str().rsplit_once('-').unwrap_or_default();
            if said.starts_with(&begin[..begin.len().min(said.len())]) {
                let (_, bytes) = fetch_record(store, name, None)?;
                found.push(LogHead { seq, digest: digest::digest(&bytes) });
            }
        }
        found.retain(|head| head.digest.to_string().starts_with(begin));
        Ok(found)
    }

    /// The fingerprint of the one vault that a store's log begins.
    ///
    /// # Errors
    /// [`Error::NoVault`]; [`Error::HistoryMissing`] if the first record is missing; [`Error::Forked`] if there
    /// are two; [`Error::Damaged`] or [`Error::Newer`].
    pub fn find_fingerprint(store: &dyn Store) -> Result<Fingerprint, Error> {
        Ok(genesis(store, Places::load(store)?.at(0), None)?.0)
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

    fn read(store: &dyn Store, places: &Places, expected: Option<&Fingerprint>) -> Result<Self, Error> {
        let last = places.last();
        let mut log = Self::begin(store, places, expected)?;
        log.take_until(store, places, last)?;
        if last > 0 {
            log.step(store, places, last)?;
        }
        if log.keys.is_none() {
            return Err(Self::ends_early(store)?);
        }
        log.settle(store)?;
        Ok(log)
    }

    fn begin(store: &dyn Store, places: &Places, expected: Option<&Fingerprint>) -> Result<Self, Error> {
        let (fingerprint, authority, made) = genesis(store, places.at(0), expected)?;
        Ok(Self {
            fingerprint,
            heads: vec![LogHead { seq: 0, digest: Digest(fingerprint.0) }],
            times: vec![made],
            first_authority: authority.clone(),
            authority,
            keys: None,
            epochs: Vec::new(),
            devices: BTreeMap::new(),
            seen: BTreeMap::new(),
            voided: HashSet::new(),
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

    /// Takes the records before the last place: two that stand there can't be settled by a VOID.
    fn take_until(&mut self, store: &dyn Store, places: &Places, last: u64) -> Result<(), Error> {
        for seq in 1..last {
            self.step(store, places, seq).map_err(|error| match error {
                Error::Rivals { seq } => two_records(seq),
                error => error,
            })?;
        }
        Ok(())
    }

    /// Takes the one record that continues the chain at `seq`.
    fn step(&mut self, store: &dyn Store, places: &Places, seq: u64) -> Result<(), Error> {
        let mut fitting: Vec<(Record, Digest)> = Vec::new();
        let mut first_error = None;
        for name in places.at(seq) {
            match self.fetch_next(store, seq, name) {
                Ok(found) => fitting.push(found),
                // The authority has signed it, so it may be a rival of one that fits.
                Err(error @ Error::Newer { .. }) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if fitting.len() > 1 {
            let voided = self.voided(store, places.at(seq + 1), &fitting);
            fitting.retain(|(_, digest)| Some(*digest) != voided);
            if fitting.len() > 1 {
                return Err(Error::Rivals { seq });
            }
        }
        match (fitting.pop(), first_error) {
            // Beside the one that fits, rubbish under a name of the same place says nothing.
            (Some((record, digest)), _) => self.apply(store, record, digest),
            (None, Some(error)) => Err(error),
            (None, None) => Err(gap(seq)),
        }
    }

    fn fetch_next(&self, store: &dyn Store, seq: u64, name: &ObjectName) -> Result<(Record, Digest), Error> {
        let (record, bytes) = fetch_record(store, name, Some(&self.authority))?;
        if record.vault != self.fingerprint.vault_id() || record.seq != seq {
            return Err(damaged(name, "it is another vault's or another place's"));
        }
        // Before its signature: on another branch, another key may be in force.
        if record.prev != self.head().digest {
            return Err(Error::Forked { what: format!("record {seq} of its log follows another one") });
        }
        Record::verify(&bytes, &self.authority).map_err(|error| refused(name, error))?;
        Ok((record, digest::digest(&bytes)))
    }

    /// Which of two rivals a VOID record right after them names.
    ///
    /// One that a record follows can't be named any more: it was the log to somebody, and whoever knew the
    /// key that was in force before it could otherwise void what took that key from him.
    fn voided(&self, store: &dyn Store, names: &[ObjectName], rivals: &[(Record, Digest)]) -> Option<Digest> {
        let followers: Vec<Record> =
            names.iter().filter_map(|name| self.follower(store, name, rivals)).collect();
        let loser = followers.iter().find_map(|record| match record.payload {
            Payload::Void(loser) if loser != record.prev => Some(loser),
            _ => None,
        })?;
        let is_rival = rivals.iter().any(|(_, digest)| *digest == loser);
        (is_rival && followers.iter().all(|record| record.prev != loser)).then_some(loser)
    }

    /// A record that follows one of the rivals, signed by the key in force after that one.
    fn follower(&self, store: &dyn Store, name: &ObjectName, rivals: &[(Record, Digest)]) -> Option<Record> {
        let (record, bytes) = fetch_record(store, name, None).ok()?;
        let (before, _) = rivals.iter().find(|(_, digest)| *digest == record.prev)?;
        // A rival that changed the authority's key signs what follows it.
        let key = match &before.payload {
            Payload::Keys(keys) => &keys.authority,
            _ => &self.authority,
        };
        Record::verify(&bytes, key).ok()?;
        (record.vault == self.fingerprint.vault_id()).then_some(record)
    }
}

/// The first record: the fingerprint, the key in it, and when the vault was made.
///
/// What is no first record says nothing beside one that is.
fn genesis(
    store: &dyn Store,
    names: &[ObjectName],
    expected: Option<&Fingerprint>,
) -> Result<(Fingerprint, VerifyingKey, u64), Error> {
    let (mut found, mut first_error) = (Vec::new(), None);
    for name in names {
        match fetch_genesis(store, name) {
            Ok(genesis) => found.push(genesis),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    if let Some(at) = found.iter().position(|(fingerprint, ..)| expected == Some(fingerprint)) {
        return Ok(found.swap_remove(at));
    }
    if found.len() > 1 && expected.is_none() {
        return Err(Error::Forked { what: "it has two genesis records".to_owned() });
    }
    match (found.pop(), expected, first_error) {
        (Some((found, ..)), Some(expected), _) => Err(Error::OtherVault { expected: *expected, found }),
        (Some(genesis), None, _) => Ok(genesis),
        (None, _, Some(error)) => Err(error),
        (None, _, None) => Err(Error::HistoryMissing { what: "its genesis record is missing".to_owned() }),
    }
}

fn fetch_genesis(store: &dyn Store, name: &ObjectName) -> Result<(Fingerprint, VerifyingKey, u64), Error> {
    let (record, bytes) = fetch_record(store, name, None)?;
    let is_first = record.vault == VaultId([0; 16]) && record.prev == Digest([0; 32]) && record.seq == 0;
    match record.payload {
        Payload::Genesis { authority, .. } if is_first => {
            Record::verify(&bytes, &authority).map_err(|error| refused(name, error))?;
            Ok((Fingerprint(digest::digest(&bytes).0), authority, record.time))
        }
        _ => Err(damaged(name, "it is not a genesis record")),
    }
}

/// How often the log is read before an error is reported that can come of reading what another owner is about
/// to withdraw.
fn looks(error: &Error) -> u32 {
    let is_of_log =
        |name: &ObjectName| matches!(Place::parse(name), Some(Place::Record { .. } | Place::List(_)));
    match error {
        Error::Rivals { .. } | Error::Forked { .. } | Error::HistoryMissing { .. } => LOOKS,
        Error::Missing { name } if is_of_log(name) => LOOKS,
        // One more look shows whether what it should follow is gone: bytes that are damaged stay so.
        Error::Damaged { name, .. } if is_of_log(name) => 2,
        _ => 1,
    }
}

pub(super) fn gap(seq: u64) -> Error {
    Error::HistoryMissing { what: format!("record {seq} of its log is missing") }
}

fn two_records(seq: u64) -> Error {
    Error::Forked { what: format!("two records stand at place {seq} of its log") }
}

/// Whether a record is a VOID of another one.
#[must_use]
pub fn voids(store: &dyn Store, name: &ObjectName, loser: &Digest) -> bool {
    fetch_record(store, name, None).is_ok_and(|(record, _)| record.payload == Payload::Void(*loser))
}

/// Reads a record and holds it against its name; its signature is checked by [`Record::verify`].
///
/// # Errors
/// [`Error::Newer`] for what only a newer version can read, if `key` signed it where one is given:
/// what nobody signed tells nothing. [`Error::Damaged`], [`Error::Missing`] or [`Error::Store`].
pub(super) fn fetch_record(
    store: &dyn Store,
    name: &ObjectName,
    key: Option<&VerifyingKey>,
) -> Result<(Record, Vec<u8>), Error> {
    fetch::checked(store, name, record::RECORD_BYTES_MAX as u64, |bytes| {
        // Before anything else: a flipped bit in the version is damage that the second copy mends.
        let said = match Place::parse(name) {
            Some(Place::Record { seq, digest }) if digest == first8(&digest::digest(bytes)) => seq,
            _ => return Err(damaged(name, "it does not match its name")),
        };
        let record = Record::decode(bytes).map_err(|error| match (error, key) {
            (record::Error::Newer, Some(key)) => {
                refused(name, Record::verify(bytes, key).err().unwrap_or(error))
            }
            _ => refused(name, error),
        })?;
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
    use crate::vault::init::DeviceHome;
    use crate::vault::init::NewSlot;
    use crate::vault::init::NewVault;
    use crate::vault::init::Opens;
    use crate::vault::name::first8;
    use crate::vault::slot::Role;
    use crate::vault::slot::Way;

    #[test]
    fn a_record_with_any_byte_flipped_is_read_from_its_second_copy() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let folder = tempfile::tempdir().unwrap();
        let device = DeviceKeys::generate();
        let way = Way { key_file: Some(Secret::generate()), ..Way::default() };
        let slots = [NewSlot { opens: Opens::Way(&way), label: "test", role: Role::Owner }];
        let vault =
            NewVault::generate(&slots, &Argon2Settings::DEFAULT, (&device, "test"), DeviceHome::Machine, 1)
                .unwrap();
        let log = vault.put(&store, &device, &StateDir::new(folder.path()), 1).unwrap();

        for head in log.records() {
            let name = Place::Record { seq: head.seq, digest: first8(&head.digest) }.name();
            let good = store.get(&name, 1 << 20).unwrap();
            for at in (0..good.len()).filter(|at| *at < 96 || at % 97 == 0) {
                let mut bad = good.clone();
                bad[at] ^= 1;
                store.remove(&name).unwrap();
                store.put(&name, &bad).unwrap();
                let (record, bytes) = fetch_record(&*store, &name, None).unwrap();
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

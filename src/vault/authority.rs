//! The authority log: the one signed chain that says which keys, devices and objects a vault has.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use crate::crypto::digest;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::sign::SigningKey;
use crate::crypto::sign::VerifyingKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::VaultId;
use crate::store::Store;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record;
use crate::vault::record::ForgetRow;
use crate::vault::record::Head;
use crate::vault::record::Keys;
use crate::vault::record::ListRef;
use crate::vault::record::Payload;
use crate::vault::record::PurgeRow;
use crate::vault::record::Record;
use crate::vault::record::Row;
use crate::vault::record::SignedRecord;
use crate::vault::record::SupersedeRow;

/// How often an owner's command tries again when others write at the same moment.
const APPEND_TRIES: u32 = 8;

/// How many rows the lists have together that a reader keeps: those of every FORGET, and those of the map
/// of current names from the last INVENTORY on.
///
/// A list has at most 64 MiB, but a log may name any number of them, and nobody has vouched for a vault
/// that is met for the first time: the bound keeps what it can make a reader hold below some 800 MB,
/// about 90 bytes a row in a table that is up to twice as large. A row is a pack, and so many of 16 MiB are
/// 64 TB, or ten years of 20 GB a night.
pub const ROWS_MAX: u64 = 1 << 22;

/// A record's place in the log and its digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogHead {
    /// From 0, GENESIS.
    pub seq: u64,
    /// Of all the record's bytes.
    pub digest: Digest,
}

/// A device as the log knows it.
#[derive(Clone)]
pub struct Device {
    /// Verifies its headers.
    pub verifying_key: VerifyingKey,
    /// Its messages are sealed to it.
    pub kem_key: KemPublicKey,
    /// When an owner added it: nanoseconds since 1970 UTC.
    pub added: u64,
    /// Its last accepted header, if it was revoked; seq 0 if it has none.
    pub revoked: Option<Head>,
    /// Its messages, in the order of their records.
    pub messages: Vec<Digest>,
}

/// Which object stands for a listed one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Current {
    /// This one, with its length.
    Object(Digest, u32),
    /// None has to exist any more.
    Purged,
}

/// Late headers that don't count: beyond their device's head here, made without knowing record `announced`.
#[derive(Clone)]
struct Late {
    heads: Vec<Head>,
    announced: u64,
    /// Whether that is a FORGET, for which only a device that it names can be late.
    is_forget: bool,
}

/// A record that changes which object stands for a listed one; its lists may not have been read yet.
#[derive(Clone)]
enum Change {
    Supersede(ListRef),
    /// Takes the place of all changes before it.
    Inventory(Vec<ListRef>),
    Purge(ListRef),
}

impl Change {
    fn lists(&self) -> &[ListRef] {
        match self {
            Self::Supersede(list) | Self::Purge(list) => std::slice::from_ref(list),
            Self::Inventory(lists) => lists,
        }
    }
}

/// What holds from a KEYS record on.
#[derive(Clone)]
struct Since {
    seq: u64,
    oldest: Epoch,
    open: Epoch,
    newest: Epoch,
    authority: VerifyingKey,
}

/// The log, verified from GENESIS on, and all that follows from it.
#[derive(Clone)]
pub struct Log {
    fingerprint: Fingerprint,
    heads: Vec<LogHead>,
    times: Vec<u64>,
    /// Signs the next record.
    authority: VerifyingKey,
    /// None only while the first two records are read.
    keys: Option<Keys>,
    /// What holds from each KEYS record on.
    epochs: Vec<Since>,
    devices: BTreeMap<DeviceId, Device>,
    seen: BTreeMap<DeviceId, Head>,
    forgotten: HashSet<(DeviceId, u64)>,
    forgotten_objects: HashSet<(DeviceId, Digest)>,
    current: HashMap<(DeviceId, Digest), Current>,
    /// The devices that each FORGET names.
    announced: HashMap<u64, HashSet<DeviceId>>,
    late: Vec<Late>,
    /// Changes of `current` whose lists are still to be read.
    pending: Vec<Change>,
    /// Lists of FORGET, all of which stay.
    forget_lists: Vec<ListRef>,
    forget_rows: u64,
    /// Lists that `current` was made of: those of the last INVENTORY and all after it.
    map_lists: Vec<ListRef>,
    map_rows: u64,
}

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

    fn apply(&mut self, store: &dyn Store, record: Record, digest: Digest) -> Result<(), Error> {
        let seq = record.seq;
        let name = Place::Record { seq, digest: first8(&digest) }.name();
        let wrong = |what: &str| damaged(&name, what);
        match record.payload {
            Payload::Genesis { .. } => return Err(wrong("a second genesis record")),
            Payload::Keys(keys) => {
                let onward = self.keys.as_ref().map_or(keys.generation == 1, |before| {
                    keys.generation == before.generation + 1
                        && keys.oldest >= before.oldest
                        && keys.open >= before.open
                        && keys.newest >= before.newest
                });
                if !onward {
                    return Err(wrong("its generation or epochs go backwards"));
                }
                if self.keys.as_ref().is_some_and(|before| keys.oldest > before.oldest) {
                    let announced = self.epochs.iter().find(|since| since.open >= keys.oldest);
                    let announced = announced.map_or(seq, |since| since.seq);
                    self.late.push(Late { heads: keys.heads.clone(), announced, is_forget: false });
                }
                for (device, message) in &keys.messages {
                    let device = self.devices.get_mut(device).ok_or_else(|| wrong("an unknown device"))?;
                    device.messages.push(*message);
                }
                self.epochs.push(Since {
                    seq,
                    oldest: keys.oldest,
                    open: keys.open,
                    newest: keys.newest,
                    authority: keys.authority.clone(),
                });
                self.take_heads(&keys.heads);
                self.authority = keys.authority.clone();
                self.keys = Some(*keys);
            }
            Payload::DeviceAdd { device, verifying_key, kem_key, message } => {
                let added = Device {
                    verifying_key,
                    kem_key: *kem_key,
                    added: record.time,
                    revoked: None,
                    messages: vec![message],
                };
                if self.devices.insert(device, added).is_some() {
                    return Err(wrong("a device that is there already"));
                }
            }
            Payload::DeviceRevoke { head } => {
                let device = self.devices.get_mut(&head.device).ok_or_else(|| wrong("an unknown device"))?;
                // To raise it would bring back headers whose objects may be gone.
                if device.revoked.is_some_and(|before| before != head && before.seq <= head.seq) {
                    return Err(wrong("a device's last header moved forward"));
                }
                device.revoked = Some(head);
            }
            Payload::Message { device, names } => {
                let device = self.devices.get_mut(&device).ok_or_else(|| wrong("an unknown device"))?;
                device.messages.extend(names);
            }
            Payload::Seen(heads) => self.take_heads(&heads),
            Payload::Forget(list) => {
                let rows = self.fetch_list::<ForgetRow>(store, &list)?;
                self.forget_rows += rows.len() as u64;
                self.announced.insert(seq, rows.iter().map(|row| row.device).collect());
                for row in rows {
                    if row.seq == 0 {
                        self.forgotten_objects.insert((row.device, row.name));
                    } else {
                        self.forgotten.insert((row.device, row.seq));
                    }
                }
                self.forget_lists.push(list);
            }
            Payload::Supersede(list) => self.pending.push(Change::Supersede(list)),
            Payload::Inventory { lists, heads } => {
                // What it replaces is never read: those lists may be gone.
                self.pending = vec![Change::Inventory(lists)];
                self.take_heads(&heads);
            }
            Payload::Purge { list, forget_seq, heads } => {
                if !self.announced.contains_key(&forget_seq) {
                    return Err(wrong("nothing announced it"));
                }
                self.pending.push(Change::Purge(list));
                self.take_heads(&heads);
                self.late.push(Late { heads, announced: forget_seq, is_forget: true });
            }
            Payload::Void(_) => {}
        }
        self.heads.push(LogHead { seq, digest });
        self.times.push(record.time);
        Ok(())
    }

    /// Reads the lists of all changes that are pending, in order.
    fn settle(&mut self, store: &dyn Store) -> Result<(), Error> {
        for change in std::mem::take(&mut self.pending) {
            match &change {
                Change::Supersede(list) => {
                    for row in self.fetch_map(store, list)? {
                        if row.is_purged() {
                            return Err(damaged(
                                &Place::List(list.digest).name(),
                                "it puts nothing in place",
                            ));
                        }
                        let now = Current::Object(row.current, row.length);
                        let current = self.current.entry((row.device, row.listed)).or_insert(now);
                        // What was purged stays purged.
                        if *current != Current::Purged {
                            *current = now;
                        }
                    }
                }
                Change::Inventory(lists) => {
                    self.current.clear();
                    self.map_lists.clear();
                    self.map_rows = 0;
                    for list in lists {
                        for row in self.fetch_map(store, list)? {
                            let object = Current::Object(row.current, row.length);
                            let now = if row.is_purged() { Current::Purged } else { object };
                            if self.current.insert((row.device, row.listed), now).is_some() {
                                return Err(twice(list));
                            }
                        }
                    }
                }
                Change::Purge(list) => {
                    let rows = self.fetch_list::<PurgeRow>(store, list)?;
                    self.map_rows += rows.len() as u64;
                    for row in rows {
                        self.current.insert((row.device, row.listed), Current::Purged);
                    }
                }
            }
            self.map_lists.extend(change.lists());
        }
        Ok(())
    }

    /// A list of current names, one for each listed name.
    fn fetch_map(&mut self, store: &dyn Store, list: &ListRef) -> Result<Vec<SupersedeRow>, Error> {
        let rows = self.fetch_list::<SupersedeRow>(store, list)?;
        self.map_rows += rows.len() as u64;
        // Sorted: two for one name stand side by side.
        let same =
            |pair: &[SupersedeRow]| pair[0].device == pair[1].device && pair[0].listed == pair[1].listed;
        if rows.windows(2).any(same) { Err(twice(list)) } else { Ok(rows) }
    }

    fn fetch_list<R: Row>(&self, store: &dyn Store, list: &ListRef) -> Result<Vec<R>, Error> {
        let name = Place::List(list.digest).name();
        if list.length as usize > record::LIST_BYTES_MAX {
            return Err(damaged(&name, "its record says that it is longer than any list"));
        }
        if self.forget_rows + self.map_rows + u64::from(list.rows) > ROWS_MAX {
            let what =
                format!("with it, the log's lists have more than {ROWS_MAX} rows, the most that are read");
            return Err(damaged(&name, &what));
        }
        fetch::checked(store, &name, u64::from(list.length), |bytes| {
            if digest::digest(bytes) != list.digest {
                return Err(damaged(&name, "it does not match its name"));
            }
            let rows = record::decode_list::<R>(self.fingerprint.vault_id(), bytes)
                .map_err(|error| refused(&name, error))?;
            if rows.len() as u64 != u64::from(list.rows) {
                return Err(damaged(&name, "it has another number of rows"));
            }
            Ok(rows)
        })
    }

    fn take_heads(&mut self, heads: &[Head]) {
        for head in heads {
            let seen = self.seen.entry(head.device).or_insert(*head);
            if head.seq > seen.seq {
                *seen = *head;
            }
        }
    }

    /// F.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The newest record.
    #[must_use]
    pub fn head(&self) -> LogHead {
        *self.heads.last().expect("a log begins with its genesis record")
    }

    /// The record at `seq`, if the log is that long.
    #[must_use]
    pub fn at(&self, seq: u64) -> Option<LogHead> {
        usize::try_from(seq).ok().and_then(|seq| self.heads.get(seq)).copied()
    }

    /// Every record's place, in order.
    #[must_use]
    pub fn records(&self) -> &[LogHead] {
        &self.heads
    }

    /// When the vault was made, in nanoseconds since 1970 UTC.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.times.first().copied().unwrap_or_default()
    }

    /// The keys in force.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        self.keys.as_ref().expect("a log without keys is never returned")
    }

    /// Verifies the next record.
    #[must_use]
    pub fn authority(&self) -> &VerifyingKey {
        &self.authority
    }

    /// All devices ever added.
    #[must_use]
    pub fn devices(&self) -> &BTreeMap<DeviceId, Device> {
        &self.devices
    }

    /// The newest header of each device that any record names.
    #[must_use]
    pub fn seen(&self) -> &BTreeMap<DeviceId, Head> {
        &self.seen
    }

    /// The lists that must exist: those of every FORGET, of the last INVENTORY, and of every SUPERSEDE
    /// and PURGE after it.
    #[must_use]
    pub fn lists(&self) -> Vec<ListRef> {
        self.forget_lists.iter().chain(&self.map_lists).copied().collect()
    }

    /// What an INVENTORY would say now: every name whose object is another one or none, sorted.
    ///
    /// Its lists are made of these rows, each of at most [`record::LIST_BYTES_MAX`].
    #[must_use]
    pub fn inventory(&self) -> Vec<SupersedeRow> {
        let row = |((device, listed), now): (&(DeviceId, Digest), &Current)| match *now {
            Current::Purged => SupersedeRow::purged(*device, *listed),
            Current::Object(current, length) => {
                SupersedeRow { device: *device, listed: *listed, current, length }
            }
        };
        let mut rows: Vec<SupersedeRow> = self.current.iter().map(row).collect();
        rows.sort_unstable();
        rows
    }

    /// Whether an owner hid this snapshot.
    #[must_use]
    pub fn is_forgotten(&self, device: DeviceId, seq: u64) -> bool {
        self.forgotten.contains(&(device, seq))
    }

    /// Whether an owner named this object, that no header lists, for deletion.
    #[must_use]
    pub fn is_forgotten_object(&self, device: DeviceId, name: &Digest) -> bool {
        self.forgotten_objects.contains(&(device, *name))
    }

    /// What stands for an object that a header lists with `length`.
    #[must_use]
    pub fn current(&self, device: DeviceId, listed: Digest, length: u32) -> Current {
        self.current.get(&(device, listed)).copied().unwrap_or(Current::Object(listed, length))
    }

    /// The newest epoch when `seq` was the newest record.
    #[must_use]
    pub fn newest_epoch_at(&self, seq: u64) -> Option<Epoch> {
        self.epochs.iter().rev().find(|since| since.seq <= seq).map(|since| since.newest)
    }

    /// The authority's key after record `seq`, and the oldest epoch whose secrets existed then.
    #[must_use]
    pub fn authority_at(&self, seq: u64) -> Option<(&VerifyingKey, Epoch)> {
        let since = self.epochs.iter().rev().find(|since| since.seq <= seq)?;
        Some((&since.authority, since.oldest))
    }

    /// Whether a header at `seq`, made knowing the log up to `auth_seq`, came too late to count.
    #[must_use]
    pub fn is_late(&self, device: DeviceId, seq: u64, auth_seq: u64) -> bool {
        self.late_from(device).any(|(listed, announced)| seq > listed && auth_seq < announced)
    }

    /// Whether a record after `knew` announced something that may yet make headers of `device` late that
    /// were made knowing no more than that.
    #[must_use]
    pub fn is_announced_after(&self, device: DeviceId, knew: u64) -> bool {
        let open_then = self.epochs.iter().rev().find(|since| since.seq <= knew).map(|since| since.open);
        let closes = self.epochs.iter().any(|since| since.seq > knew && Some(since.open) > open_then);
        closes || self.announced.iter().any(|(seq, devices)| *seq > knew && devices.contains(&device))
    }

    /// Which headers of `device` can be late: those past a place that knew less of the log than a record;
    /// a place and a record for each time that an owner acted on an announcement that concerns it.
    pub fn late_from(&self, device: DeviceId) -> impl Iterator<Item = (u64, u64)> {
        let concerns = move |late: &&Late| {
            let named = self.announced.get(&late.announced);
            !late.is_forget || named.is_some_and(|devices| devices.contains(&device))
        };
        self.late.iter().filter(concerns).map(move |late| {
            let listed = late.heads.iter().find(|head| head.device == device);
            (listed.map_or(0, |head| head.seq), late.announced)
        })
    }

    /// The record that would come next and say `payload`.
    #[must_use]
    pub fn next(&self, payload: Payload, now: u64) -> Record {
        let head = self.head();
        Record {
            vault: self.fingerprint.vault_id(),
            seq: head.seq + 1,
            time: now,
            prev: head.digest,
            payload,
        }
    }

    /// Appends what `build` makes of the log as it stands, and takes it in.
    ///
    /// A record that no reader would take is never put. If another owner took the place first, the own
    /// record is withdrawn, `wait` is called with the number of losses so far, and `build` is asked
    /// anew. Two who withdraw at once and don't wait by chance may meet again; nothing but the time it
    /// takes rests on it, so `wait` can be anything from nothing to a short random sleep.
    ///
    /// # Errors
    /// [`Error::Contended`] after a few such losses; [`Error::Damaged`] if the record would not be
    /// taken; what `build` or the store says.
    pub fn append(
        &mut self,
        store: &dyn Store,
        key: &SigningKey,
        now: u64,
        wait: &dyn Fn(u32),
        build: &dyn Fn(&Self) -> Result<Payload, Error>,
    ) -> Result<LogHead, Error> {
        for lost in 1..=APPEND_TRIES {
            let signed = self.next(build(self)?, now).sign(key);
            let seq = self.head().seq + 1;
            let name = record_name(seq, &signed);
            // As a reader would, before anybody can see it: one bad record would close the log for good.
            let record = Record::decode(signed.bytes()).map_err(|error| refused(&name, error))?;
            Record::verify(signed.bytes(), &self.authority).map_err(|error| refused(&name, error))?;
            let mut onward = self.clone();
            onward.apply(store, record, signed.digest())?;
            onward.settle(store)?;
            fetch::put_twice(store, &name, signed.bytes())?;
            let rivals = fetch::list_both(store, "a/")?.into_iter().any(|other| {
                other != name
                    && matches!(Place::parse(&other), Some(Place::Record { seq: at, .. }) if at == seq)
            });
            if !rivals {
                *self = onward;
                return Ok(self.head());
            }
            store.remove(&name)?;
            store.remove(&name.second())?;
            wait(lost);
            *self = Self::load(store, Some(&self.fingerprint))?;
        }
        Err(Error::Contended)
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

fn twice(list: &ListRef) -> Error {
    damaged(&Place::List(list.digest).name(), "it says two objects for one name")
}

/// Where a signed record goes.
#[must_use]
pub fn record_name(seq: u64, signed: &SignedRecord) -> ObjectName {
    Place::Record { seq, digest: first8(&signed.digest()) }.name()
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

/// An object that fails its check.
#[must_use]
pub fn damaged(name: &ObjectName, what: &str) -> Error {
    Error::Damaged { name: name.clone(), what: what.to_owned() }
}

/// A record, list or header that could not be taken.
#[must_use]
pub fn refused(name: &ObjectName, error: record::Error) -> Error {
    match error {
        record::Error::Newer => Error::Newer { name: name.clone() },
        record::Error::Layout(error) => damaged(name, &error.to_string()),
        record::Error::Signature => damaged(name, "its signature is not the right key's"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::kdf::Argon2Settings;
    use crate::crypto::secret::Secret;
    use crate::store::Memory;
    use crate::store::state::StateDir;
    use crate::vault::device::DeviceKeys;
    use crate::vault::init::DeviceHome;
    use crate::vault::init::NewSlot;
    use crate::vault::init::NewVault;
    use crate::vault::init::Opens;
    use crate::vault::slot::Role;
    use crate::vault::slot::Way;
    use crate::vault::testing::Owner;

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
                let (record, bytes) = fetch_record(&*store, &name).unwrap();
                assert!(bytes == good && record.seq == head.seq, "byte {at} of {name}");
            }
            store.remove(&name).unwrap();
            store.put(&name, &good).unwrap();
        }
    }

    fn load(owner: &Owner) -> Result<Log, Error> {
        Log::load(&owner.store, None)
    }

    fn drop_list(owner: &Owner, list: &ListRef) {
        let name = Place::List(list.digest).name();
        owner.store.remove(&name).unwrap();
        owner.store.remove(&name.second()).unwrap();
    }

    #[test]
    fn an_inventory_stands_in_for_all_lists_before_it_but_those_of_forget() {
        let mut owner = Owner::new();
        let device = owner.add_device().device;
        let name = |byte: u8| Digest([byte; 32]);
        let row = |listed: u8, current: u8| SupersedeRow {
            device,
            listed: name(listed),
            current: name(current),
            length: u32::from(current),
        };
        let first = owner.list(&[row(1, 11), row(2, 12)]);
        owner.append(Payload::Supersede(first));
        let forget = owner.list(&[ForgetRow { device, seq: 1, name: Digest([0; 32]) }]);
        let forget_seq = owner.next_seq();
        owner.append(Payload::Forget(forget));
        let purge = owner.list(&[PurgeRow { device, listed: name(2) }]);
        owner.append(Payload::Purge { list: purge, forget_seq, heads: Vec::new() });
        let before = load(&owner).unwrap();
        assert_eq!(before.inventory(), [row(1, 11), SupersedeRow::purged(device, name(2))]);
        assert_eq!(before.lists(), [forget, first, purge]);

        let whole = owner.list(&before.inventory());
        owner.append(Payload::Inventory { lists: vec![whole], heads: Vec::new() });
        let later = owner.list(&[row(2, 22), row(3, 13)]);
        owner.append(Payload::Supersede(later));
        drop_list(&owner, &first);
        drop_list(&owner, &purge);
        let log = load(&owner).unwrap();
        assert_eq!(log.current(device, name(1), 5), Current::Object(name(11), 11));
        assert_eq!(log.current(device, name(2), 5), Current::Purged, "what was purged stays purged");
        assert_eq!(log.current(device, name(3), 5), Current::Object(name(13), 13));
        assert_eq!(log.current(device, name(4), 5), Current::Object(name(4), 5));
        assert_eq!(log.lists(), [forget, whole, later]);

        // The whole map: what an inventory doesn't say is as its header lists it.
        let empty = owner.list::<SupersedeRow>(&[]);
        owner.append(Payload::Inventory { lists: vec![empty], heads: Vec::new() });
        assert_eq!(load(&owner).unwrap().current(device, name(1), 5), Current::Object(name(1), 5));

        drop_list(&owner, &forget);
        assert!(matches!(load(&owner), Err(Error::Missing { .. })));
    }

    #[test]
    fn a_list_that_says_two_objects_for_one_name_is_refused() {
        let device = DeviceId([1; 16]);
        let row = |current: u8| SupersedeRow {
            device,
            listed: Digest([9; 32]),
            current: Digest([current; 32]),
            length: 1,
        };
        let owner = || Owner::new();
        let mut one = owner();
        let list = one.list(&[row(1), row(2)]);
        one.append(Payload::Supersede(list));
        assert!(matches!(load(&one), Err(Error::Damaged { .. })));

        let mut two = owner();
        let lists = vec![two.list(&[row(1)]), two.list(&[row(2)])];
        two.append(Payload::Inventory { lists, heads: Vec::new() });
        assert!(matches!(load(&two), Err(Error::Damaged { .. })));

        let mut three = owner();
        let list = three.list(&[SupersedeRow::purged(device, Digest([9; 32]))]);
        three.append(Payload::Supersede(list));
        assert!(matches!(load(&three), Err(Error::Damaged { .. })));
    }

    #[test]
    fn lists_with_more_rows_than_a_reader_keeps_are_refused_unread() {
        let mut owner = Owner::new();
        let device = owner.add_device().device;
        let name = |byte: u8| Digest([byte; 32]);
        let row = |listed: u8| SupersedeRow { device, listed: name(listed), current: name(100), length: 1 };
        let forget = owner.list(&[ForgetRow { device, seq: 1, name: name(0) }]);
        owner.append(Payload::Forget(forget));
        let before = owner.list(&[row(1), row(2)]);
        owner.append(Payload::Supersede(before));
        // Lists that aren't there: whoever goes for one finds it missing.
        let most = u32::try_from(ROWS_MAX).unwrap();
        let absent = |rows: u32| ListRef { digest: name(200), length: 1 << 20, rows };
        let load_with = |owner: &Owner, payload: Payload| {
            let mut owner = owner.duplicate();
            owner.append(payload);
            load(&owner).err().unwrap()
        };
        let read = |error| matches!(error, Error::Missing { .. });
        let refused =
            |error: Error| error.to_string().ends_with("more than 4194304 rows, the most that are read");
        let inventory = |lists| Payload::Inventory { lists, heads: Vec::new() };
        let purge = |rows| Payload::Purge { list: absent(rows), forget_seq: 3, heads: Vec::new() };
        // One row of FORGET and two of the map are kept.
        for (payload, beyond) in [(Payload::Supersede as fn(ListRef) -> Payload, 3), (Payload::Forget, 1)] {
            assert!(read(load_with(&owner, payload(absent(most - beyond)))));
            assert!(refused(load_with(&owner, payload(absent(most - beyond + 1)))));
        }
        assert!(read(load_with(&owner, purge(most - 3))) && refused(load_with(&owner, purge(most - 2))));
        // An inventory takes the place of what the map was made of.
        assert!(read(load_with(&owner, inventory(vec![absent(most - 1)]))));
        assert!(refused(load_with(&owner, inventory(vec![absent(most)]))));
        assert!(refused(load_with(&owner, inventory(vec![before, absent(most - 2)]))));
    }

    #[test]
    fn a_purge_that_no_forget_announced_is_refused() {
        let mut owner = Owner::new();
        let device = owner.add_device().device;
        let list = owner.list(&[PurgeRow { device, listed: Digest([9; 32]) }]);
        owner.append(Payload::Purge { list, forget_seq: 1, heads: Vec::new() });
        assert!(matches!(load(&owner), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_second_revocation_moves_a_devices_last_header_back_only() {
        let revoked = |seqs: &[(u64, u8)]| {
            let mut owner = Owner::new();
            let device = owner.add_device().device;
            for (seq, byte) in seqs {
                let head = Head { device, seq: *seq, digest: Digest([*byte; 32]) };
                owner.append(Payload::DeviceRevoke { head });
            }
            load(&owner).map(|log| log.devices()[&device].revoked.map(|head| head.seq))
        };
        assert_eq!(revoked(&[(5, 1), (5, 1), (3, 2), (0, 0)]).unwrap(), Some(0));
        for bad in [&[(5, 1), (6, 2)][..], &[(5, 1), (5, 2)], &[(0, 0), (1, 1)], &[(0, 1)], &[(1, 0)]] {
            assert!(matches!(revoked(bad), Err(Error::Damaged { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_record_that_no_reader_would_take_is_never_put() {
        let mut owner = Owner::new();
        let device = owner.add_device().device;
        let mut log = load(&owner).unwrap();
        let list = owner.list(&[PurgeRow { device, listed: Digest([9; 32]) }]);
        let before = log.head();
        let put = log.append(&owner.store, &owner.key, 1, &|_| {}, &|_| {
            Ok(Payload::Purge { list, forget_seq: 1, heads: Vec::new() })
        });
        assert!(matches!(put, Err(Error::Damaged { .. })));
        assert_eq!((log.head(), load(&owner).unwrap().head()), (before, before));
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

    #[test]
    fn whoever_loses_a_place_in_the_log_withdraws_waits_and_comes_next() {
        let owner = Owner::new();
        let mut log = load(&owner).unwrap();
        let rival = log.next(Payload::Seen(Vec::new()), 7).sign(&owner.key);
        let name = record_name(2, &rival);
        let losses = std::cell::RefCell::new(Vec::new());
        let head = log
            .append(&owner.store, &owner.key, 1, &|lost| losses.borrow_mut().push(lost), &|_| {
                // The other one puts his while this one is still being made.
                fetch::put_twice(&owner.store, &name, rival.bytes())?;
                Ok(Payload::Seen(Vec::new()))
            })
            .unwrap();
        assert_eq!((head.seq, &losses.borrow()[..]), (3, &[1][..]));
        let read = load(&owner).unwrap();
        assert_eq!((read.head(), read.at(2).unwrap().digest), (head, rival.digest()));
    }
}

//! The authority log: the one signed chain that says which keys, devices and objects a vault has.

mod append;
mod apply;
mod places;
mod read;
mod vouched;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use crate::crypto::kem::KemPublicKey;
use crate::crypto::sign::VerifyingKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::vault::error::Error;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record;
use crate::vault::record::Head;
use crate::vault::record::Keys;
use crate::vault::record::ListRef;
use crate::vault::record::SignedRecord;
use crate::vault::record::SupersedeRow;

pub use crate::vault::authority::read::voids;
pub use crate::vault::authority::vouched::Vouched;

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
    /// Signed the first record.
    first_authority: VerifyingKey,
    /// Signs the next record.
    authority: VerifyingKey,
    /// None only while the first two records are read.
    keys: Option<Keys>,
    /// What holds from each KEYS record on.
    epochs: Vec<Since>,
    devices: BTreeMap<DeviceId, Device>,
    seen: BTreeMap<DeviceId, Head>,
    /// Losers of two records at one place.
    voided: HashSet<Digest>,
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
}

/// Where a signed record goes.
#[must_use]
pub fn record_name(seq: u64, signed: &SignedRecord) -> ObjectName {
    Place::Record { seq, digest: first8(&signed.digest()) }.name()
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

//! What the objects of a vault mean together; the only caller of a store.
//!
//! A [`LockedVault`] has verified its log and knows no secret; [`Vault`] is what a slot opens; a
//! [`DeviceVault`](device::DeviceVault) adds snapshots and can't read.

pub mod acts;
pub mod authority;
pub mod body;
pub mod change;
pub mod device;
pub mod end;
pub mod error;
pub mod fetch;
pub mod fork;
pub mod header;
pub mod history;
pub mod index;
pub mod init;
pub mod join;
pub mod machine;
pub mod name;
pub mod namer;
pub mod pins;
pub mod purge;
pub mod read;
pub mod receipt;
pub mod record;
pub mod reseal;
pub mod reseed;
pub mod ring;
pub mod sender;
pub mod shut_out;
pub mod slot;
pub mod statement;
#[cfg(test)]
mod testing;
pub mod witness;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::crypto::digest;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::secret::Secret;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::SlotId;
use crate::seal::pseal;
use crate::seal::pseal::Kind;
use crate::seal::pseal::Opener;
use crate::store::SealedFile;
use crate::store::Store;
use crate::vault::authority::Current;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::Vouched;
use crate::vault::authority::damaged;
use crate::vault::body::Body;
use crate::vault::error::Error;
use crate::vault::header::Snapshot;
use crate::vault::history::History;
use crate::vault::history::Located;
use crate::vault::index::Index;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::namer::Namer;
use crate::vault::ring::AdminRing;
use crate::vault::ring::EpochKeys;
use crate::vault::ring::RING_BYTES_MAX;
use crate::vault::ring::ReadRing;
use crate::vault::slot::OpenedSlot;
use crate::vault::slot::Role;
use crate::vault::slot::SlotTable;
use crate::vault::slot::TABLE_BYTES_MAX;
use crate::vault::slot::TableError;
use crate::vault::slot::Way;

/// A vault whose log is verified; no key is known.
pub struct LockedVault {
    store: Arc<dyn Store>,
    log: Log,
}

impl LockedVault {
    /// Reads and verifies the log.
    ///
    /// # Errors
    /// As [`Log::load`].
    pub fn load(store: Arc<dyn Store>, expected: Option<&Fingerprint>) -> Result<Self, Error> {
        Self::load_from(store, expected, None)
    }

    /// The same of a vault that was seen before: what is `vouched` for says which history is its.
    ///
    /// # Errors
    /// As [`Log::load_from`].
    pub fn load_from(
        store: Arc<dyn Store>,
        expected: Option<&Fingerprint>,
        vouched: Option<Vouched>,
    ) -> Result<Self, Error> {
        let log = Log::load_from(&*store, expected, vouched)?;
        Ok(Self { store, log })
    }

    /// Reads and verifies the log of a sealed file, and its end: all parts of the file are there, none is
    /// added, and each stands where it was sealed.
    ///
    /// # Errors
    /// As [`LockedVault::load`] and [`end::check`]; a file has no history but its own, so what lacks in that
    /// or contradicts itself is [`Error::Damaged`].
    pub fn load_sealed_file(file: Arc<SealedFile>) -> Result<Self, Error> {
        let log = Log::load(&*file, None).map_err(|error| match error {
            Error::HistoryMissing { .. }
            | Error::RolledBack { .. }
            | Error::Forked { .. }
            | Error::Rivals { .. } => damaged(&end::name(), &error.to_string()),
            error => error,
        })?;
        end::check(&*file, file.members(), &log)?;
        Ok(Self { store: file, log })
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Where the objects are.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Reads the slot table that the log names.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] or [`Error::Newer`] naming it.
    pub fn slot_table(&self) -> Result<(SlotTable, ObjectName), Error> {
        let keys = self.log.keys();
        let name = Place::SlotTable { generation: keys.generation, digest: first8(&keys.slot_table) }.name();
        let bytes = self.fetch_named(&name, &keys.slot_table, TABLE_BYTES_MAX)?;
        let table = SlotTable::decode(&self.log.fingerprint(), &bytes).map_err(|error| match error {
            TableError::Newer => Error::Newer { name: name.clone() },
            TableError::Layout(error) => damaged(&name, &error.to_string()),
        })?;
        if table.generation != keys.generation {
            return Err(damaged(&name, "it is another generation's"));
        }
        Ok((table, name))
    }

    fn ring(&self, admin: bool) -> Result<(Vec<u8>, ObjectName), Error> {
        let keys = self.log.keys();
        let digest = if admin { &keys.admin_ring } else { &keys.read_ring };
        let name = Place::Ring { generation: keys.generation, digest: first8(digest), admin }.name();
        Ok((self.fetch_named(&name, digest, RING_BYTES_MAX)?, name))
    }

    fn fetch_named(&self, name: &ObjectName, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, Error> {
        fetch::checked(&*self.store, name, bytes_max, |bytes| {
            if digest::digest(bytes) == *digest {
                Ok(bytes.to_vec())
            } else {
                Err(damaged(name, "it is not the one that the log names"))
            }
        })
    }

    /// Opens the vault with what a person holds.
    ///
    /// # Errors
    /// [`Error::WrongKey`], [`Error::NoSlotForKey`], [`Error::ExpensiveKdf`]; [`Error::Missing`] or
    /// [`Error::Damaged`] naming slot table or ring.
    pub fn unlock(mut self, way: &Way) -> Result<Vault, Error> {
        let (table, name) = self.newest_slot_table()?;
        self.unlock_by(table, &name, way)
    }

    /// The same with another way, put in the place of `way`, as long as that is a wrong key and `again` gives one.
    ///
    /// # Errors
    /// As [`LockedVault::unlock`].
    pub fn unlock_or(
        mut self,
        way: &mut Way,
        again: &mut dyn FnMut() -> Option<Way>,
    ) -> Result<Vault, Error> {
        let (table, name) = self.newest_slot_table()?;
        let opened = loop {
            match table.unlock(&self.log.fingerprint(), &name, way) {
                Err(Error::WrongKey) => *way = again().ok_or(Error::WrongKey)?,
                result => break result?,
            }
        };
        self.opened_by(table, opened)
    }

    /// The slot table, as it is by now.
    fn newest_slot_table(&mut self) -> Result<(SlotTable, ObjectName), Error> {
        match self.slot_table() {
            // The keys may have changed since the log was read, and with them table and rings.
            Err(error @ Error::Missing { .. }) if !self.read_on()? => Err(error),
            Err(Error::Missing { .. }) => self.slot_table(),
            result => result,
        }
    }

    fn unlock_by(self, table: SlotTable, name: &ObjectName, way: &Way) -> Result<Vault, Error> {
        let opened = table.unlock(&self.log.fingerprint(), name, way)?;
        self.opened_by(table, opened)
    }

    fn opened_by(mut self, table: SlotTable, opened: OpenedSlot) -> Result<Vault, Error> {
        match self.rings(&table, &opened) {
            // They may change while a passphrase is stretched, too.
            Err(error @ Error::Missing { .. }) => {
                if !self.read_on()? {
                    return Err(error);
                }
                let (table, name) = self.slot_table()?;
                let opened = table.reopen(&self.log.fingerprint(), &name, &opened)?;
                self.open(table, opened)
            }
            Err(error) => Err(error),
            Ok(rings) => Ok(self.opened(table, opened, rings)),
        }
    }

    /// Reads the log anew; true if it has gone on.
    fn read_on(&mut self) -> Result<bool, Error> {
        let log = self.log.reload(&*self.store)?;
        let has_gone_on = log.head() != self.log.head();
        self.log = log;
        Ok(has_gone_on)
    }

    /// The vault as a slot opens it.
    fn open(self, table: SlotTable, opened: OpenedSlot) -> Result<Vault, Error> {
        let rings = self.rings(&table, &opened)?;
        Ok(self.opened(table, opened, rings))
    }

    /// Opens the rings with what a slot gave.
    fn rings(&self, table: &SlotTable, opened: &OpenedSlot) -> Result<(ReadRing, Option<AdminRing>), Error> {
        let (fingerprint, generation) = (self.log.fingerprint(), table.generation);
        let (sealed, name) = self.ring(false)?;
        let ring = ReadRing::unwrap(&fingerprint, generation, &opened.root.read, &sealed)
            .map_err(|what| Error::Damaged { name, what })?;
        let Some(key) = &opened.root.admin else { return Ok((ring, None)) };
        let (sealed, name) = self.ring(true)?;
        let admin = AdminRing::unwrap(&fingerprint, generation, key, &sealed)
            .map_err(|what| Error::Damaged { name, what })?;
        Ok((ring, Some(admin)))
    }

    fn opened(self, table: SlotTable, opened: OpenedSlot, rings: (ReadRing, Option<AdminRing>)) -> Vault {
        let (ring, admin) = rings;
        let secrets = epoch_secrets(&ring);
        Vault { locked: self, table, ring, admin, opened, secrets, newer: Mutex::new(None) }
    }

    /// A device's verified chain.
    ///
    /// # Errors
    /// As [`History::load`].
    pub fn history(&self, device: DeviceId) -> Result<History, Error> {
        History::load(&*self.store, &self.log, device)
    }

    /// The same up to a place of the chain, whatever comes after it.
    ///
    /// # Errors
    /// As [`History::load_until`].
    pub fn history_until(&self, device: DeviceId, until: u64) -> Result<History, Error> {
        History::load_until(&*self.store, &self.log, device, until)
    }
}

/// A vault that a person's slot has opened.
pub struct Vault {
    locked: LockedVault,
    table: SlotTable,
    ring: ReadRing,
    admin: Option<AdminRing>,
    opened: OpenedSlot,
    secrets: HashMap<Epoch, KemSecretKey>,
    /// The same vault read anew, since an object was no longer where this one's log says.
    newer: Mutex<Option<Arc<Vault>>>,
}

impl Vault {
    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.locked.log
    }

    /// Where the objects are.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.locked.store
    }

    /// The same, for somebody else to hold as well.
    #[must_use]
    pub fn shared_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.locked.store)
    }

    /// The same vault as those see it who hold no key.
    #[must_use]
    pub fn locked(&self) -> &LockedVault {
        &self.locked
    }

    /// The slot that `way` opens, passphrases left untried: they take long, and belong to heads.
    ///
    /// # Errors
    /// As [`SlotTable::unlock`], but for a key that fits none.
    pub fn slot_of(&self, way: &Way) -> Result<Option<SlotId>, Error> {
        if way.passphrase.is_some() {
            return Ok(None);
        }
        let keys = self.log().keys();
        let name = Place::SlotTable { generation: keys.generation, digest: first8(&keys.slot_table) }.name();
        match self.table.unlock(&self.log().fingerprint(), &name, way) {
            Ok(opened) => Ok(Some(opened.id)),
            Err(Error::WrongKey | Error::NoSlotForKey { .. } | Error::OtherCards { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The slot that was opened.
    #[must_use]
    pub fn slot(&self) -> (&OpenedSlot, Role) {
        (&self.opened, self.opened.role)
    }

    /// All slots.
    #[must_use]
    pub fn slots(&self) -> &SlotTable {
        &self.table
    }

    /// The owners' ring.
    ///
    /// # Errors
    /// [`Error::NotOwner`].
    pub fn admin(&self) -> Result<&AdminRing, Error> {
        self.admin.as_ref().ok_or(Error::NotOwner)
    }

    /// The readers' ring.
    #[must_use]
    pub fn ring(&self) -> &ReadRing {
        &self.ring
    }

    /// How a device names its chunks.
    #[must_use]
    pub fn namer(&self, device: DeviceId) -> Namer {
        let fingerprint = self.log().fingerprint();
        Namer::derive(&fingerprint, &self.ring.dedup_secret(&fingerprint, device))
    }

    /// The header that a pack, index or body of `device` must have, with the epoch that it claims,
    /// and the keys of that epoch.
    fn expect(
        &self,
        name: &ObjectName,
        device: DeviceId,
        kind: Kind,
        head: &[u8],
    ) -> Result<(pseal::Header, &KemSecretKey, Secret<32>), Error> {
        let claimed = pseal::peek(head).map_err(|error| match error {
            pseal::Error::NewerVersion => Error::Newer { name: name.clone() },
            error => damaged(name, &error.to_string()),
        })?;
        let fingerprint = self.log().fingerprint();
        let keys = self.ring.epoch(claimed.epoch).zip(self.secrets.get(&claimed.epoch));
        let Some((keys, secret)) = keys else {
            return Err(damaged(name, "it claims an epoch whose keys don't exist"));
        };
        let expected = pseal::Header { vault: fingerprint.vault_id(), device, epoch: claimed.epoch, kind };
        Ok((expected, secret, keys.device_psk(&fingerprint, device)))
    }

    /// Opens the head of an object of which only parts are read.
    fn opener(&self, name: &ObjectName, device: DeviceId, kind: Kind, head: &[u8]) -> Result<Opener, Error> {
        let (expected, secret, psk) = self.expect(name, device, kind, head)?;
        Opener::new(&self.log().fingerprint(), secret, &psk, &expected, head)
            .map_err(|error| damaged(name, &error.to_string()))
    }

    /// Reads a whole object in the order of checks that the format sets: length and digest as
    /// listed, header, commitment, segments.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] or [`Error::Newer`] naming it.
    pub fn whole_object(&self, device: DeviceId, located: &Located, kind: Kind) -> Result<Vec<u8>, Error> {
        self.follow(device, located, |vault, located| vault.whole_object_there(device, located, kind))
    }

    /// Reads an object, or a part of it, wherever it is by now.
    ///
    /// Objects move while somebody reads, as re-encryption and pruning go on beside it: whoever meets a
    /// missing name reads the log again, and then looks where that says.
    ///
    /// # Errors
    /// What `read` says; [`Error::Missing`] if the log has not gone on either.
    fn follow<T>(
        &self,
        device: DeviceId,
        located: &Located,
        read: impl Fn(&Self, &Located) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let newer = self.newer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let first = match &newer {
            None => read(self, located),
            Some(newer) => newer.relocate(device, located).and_then(|located| read(newer, &located)),
        };
        let Err(error @ Error::Missing { .. }) = first else { return first };
        let known = newer.as_deref().unwrap_or(self).log().head();
        match self.renewed(known)? {
            None => Err(error),
            Some(newer) => read(&newer, &newer.relocate(device, located)?),
        }
    }

    /// This vault read anew, if its log has gone on beyond `known`.
    fn renewed(&self, known: LogHead) -> Result<Option<Arc<Self>>, Error> {
        // One thread reads, the others wait for what it finds.
        let mut newer = self.newer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newer = |vault: &Arc<Self>| vault.log().head() != known;
        if newer.as_ref().is_none_or(|newer| !is_newer(newer)) {
            *newer = Some(Arc::new(self.reloaded()?));
        }
        Ok(newer.clone().filter(is_newer))
    }

    /// Where an object is by this log.
    fn relocate(&self, device: DeviceId, located: &Located) -> Result<Located, Error> {
        match self.log().current(device, located.listed, located.length) {
            Current::Object(name, length) => Ok(Located { name, length, ..*located }),
            Current::Purged => {
                Err(Error::Missing { name: Place::Pack { device, digest: located.name }.name() })
            }
        }
    }

    fn whole_object_there(&self, device: DeviceId, located: &Located, kind: Kind) -> Result<Vec<u8>, Error> {
        let name = Place::Pack { device, digest: located.name }.name();
        let object = whole_object_bytes(self.store(), &name, located)?;
        let (expected, secret, psk) = self.expect(&name, device, kind, &object)?;
        pseal::open(&self.log().fingerprint(), secret, &psk, &expected, &object)
            .map_err(|error| damaged(&name, &error.to_string()))
    }

    /// Reads a whole index object.
    ///
    /// # Errors
    /// As [`Vault::whole_object`].
    pub fn index(&self, device: DeviceId, located: &Located) -> Result<Index, Error> {
        let plaintext = self.whole_object(device, located, Kind::Index)?;
        Index::decode(plaintext).map_err(|error| {
            damaged(&Place::Pack { device, digest: located.name }.name(), &error.to_string())
        })
    }

    /// Reads a snapshot's body.
    ///
    /// # Errors
    /// As [`Vault::whole_object`].
    pub fn body(&self, history: &History, snapshot: &Snapshot) -> Result<Body, Error> {
        let device = history.device();
        let located = history.locate(self.log(), snapshot.header.body)?;
        let plaintext = self.whole_object(device, &located, Kind::Body)?;
        let name = Place::Pack { device, digest: located.name }.name();
        Body::decode(&plaintext).map_err(|error| match error {
            body::Error::Newer => Error::Newer { name },
            body::Error::Layout(error) => damaged(&name, &error.to_string()),
        })
    }

    /// What people call a slot, if this slot's holder may know.
    #[must_use]
    pub fn slot_label(&self, slot: SlotId) -> Option<&str> {
        let admin = self.admin.as_ref()?;
        let present = admin.slots.iter().map(|keys| (keys.id, keys.label.as_str()));
        let former = admin.former.iter().rev().map(|former| (former.id, former.label.as_str()));
        present.chain(former).find(|(id, _)| *id == slot).map(|(_, label)| label)
    }

    /// What people call a device, if this slot's holder may know.
    #[must_use]
    pub fn device_name(&self, device: DeviceId) -> Option<&str> {
        let devices = &self.admin.as_ref()?.devices;
        devices.iter().find(|(id, _)| *id == device).map(|(_, name)| name.as_str())
    }
}

/// The keys that open what was sealed under each live epoch.
fn epoch_secrets(ring: &ReadRing) -> HashMap<Epoch, KemSecretKey> {
    let key = |keys: &EpochKeys| (keys.epoch, KemSecretKey::from_seed(keys.seal_seed.duplicate()));
    ring.epochs.iter().map(key).collect()
}

/// Reads all bytes of a listed object and holds length and digest against the list.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Damaged`] naming it.
pub fn whole_object_bytes(store: &dyn Store, name: &ObjectName, located: &Located) -> Result<Vec<u8>, Error> {
    let bytes = match store.get(name, u64::from(located.length)) {
        Err(crate::store::Error::TooLarge { .. }) => {
            return Err(damaged(name, "it is longer than its signed length"));
        }
        result => result?,
    };
    if bytes.len() as u64 != u64::from(located.length) {
        return Err(damaged(name, "it is shorter than its signed length"));
    }
    if digest::digest(&bytes) != located.name {
        return Err(damaged(name, "it does not match its name"));
    }
    Ok(bytes)
}

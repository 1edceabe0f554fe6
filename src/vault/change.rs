//! The next generation of keys: who has a way in and what the epochs are, made true by one record.
//!
//! Slot table, rings and messages are put first and mean nothing; the KEYS record that names them is the
//! commit. So whenever this is cut off, the old generation rules or the new one does, never neither. What
//! the old generation needed is removed only after that.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::crypto::derive::derive;
use crate::crypto::digest;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::secret::Secret;
use crate::crypto::sign::SigningKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::SlotId;
use crate::store;
use crate::store::Store;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::device;
use crate::vault::device::Message;
use crate::vault::epoch_secrets;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record::Head;
use crate::vault::record::Keys;
use crate::vault::record::Payload;
use crate::vault::ring::AdminRing;
use crate::vault::ring::EpochKeys;
use crate::vault::ring::FormerSlot;
use crate::vault::ring::RING_BYTES_MAX;
use crate::vault::ring::ReadRing;
use crate::vault::ring::newest_former;
use crate::vault::slot::Lock;
use crate::vault::slot::Role;
use crate::vault::slot::RootKeys;
use crate::vault::slot::SLOTS_MAX;
use crate::vault::slot::STRETCHES_MAX;
use crate::vault::slot::SlotKeys;
use crate::vault::slot::SlotTable;
use crate::vault::slot::TABLE_BYTES_MAX;

/// How often a change is thought out anew because another owner was faster.
const TRIES: u32 = 8;

/// The longest label of a slot and name of a device, in bytes.
pub const LABEL_BYTES_MAX: usize = 255;

/// A slot of the generation to come.
pub struct DraftSlot {
    /// What its holder may do.
    pub role: Role,
    /// What later generations are wrapped to.
    pub keys: SlotKeys,
    /// What holds its secret.
    pub lock: Lock,
}

/// What the next generation is to be, begun as the one in force.
pub struct Draft {
    slots: Vec<DraftSlot>,
    /// The slots of the generation in force.
    before: BTreeSet<SlotId>,
    former: Vec<FormerSlot>,
    devices: Vec<(DeviceId, String)>,
    /// The devices that may add snapshots.
    enrolled: BTreeSet<DeviceId>,
    oldest: Epoch,
    open: Epoch,
    newest: Epoch,
    starts_epoch: bool,
    renews_authority: bool,
    heads: Vec<Head>,
}

impl Draft {
    fn of(vault: &Vault) -> Result<Self, Error> {
        let (admin, keys) = (vault.admin()?, vault.log().keys());
        let enrolled = vault.log().devices().iter().filter(|(_, known)| known.revoked.is_none());
        let slots = vault.slots().slots.iter().map(|slot| {
            let keys = admin.slots.iter().find(|keys| keys.id == slot.id).ok_or_else(|| Error::Damaged {
                name: ring_name(keys.generation, &keys.admin_ring, true),
                what: "it lacks the keys of a slot".to_owned(),
            })?;
            Ok(DraftSlot { role: slot.role, keys: keys.duplicate(), lock: slot.lock.clone() })
        });
        Ok(Self {
            slots: slots.collect::<Result<_, Error>>()?,
            before: admin.slots.iter().map(|slot| slot.id).collect(),
            former: admin.former.clone(),
            devices: admin.devices.clone(),
            enrolled: enrolled.map(|(device, _)| *device).collect(),
            oldest: keys.oldest,
            open: keys.open,
            newest: keys.newest,
            starts_epoch: false,
            renews_authority: false,
            heads: Vec::new(),
        })
    }

    /// The slots as they will be.
    #[must_use]
    pub fn slots(&self) -> &[DraftSlot] {
        &self.slots
    }

    /// Adds a slot.
    ///
    /// # Errors
    /// [`Error::LabelTaken`]; [`Error::NoRoom`]; [`Error::TooManyPassphrases`].
    pub fn add_slot(&mut self, slot: DraftSlot) -> Result<(), Error> {
        let label = &slot.keys.label;
        if self.slots.iter().any(|other| other.keys.label == *label) {
            return Err(Error::LabelTaken { label: label.clone() });
        }
        if self.slots.len() >= SLOTS_MAX || label.len() > LABEL_BYTES_MAX {
            return Err(Error::NoRoom { what: "slots, or bytes in a label" });
        }
        // One passphrase is tried on so many slots and no more: a further one would never open.
        let stretched = |slot: &&DraftSlot| matches!(slot.lock, Lock::Passphrase(..) | Lock::Joint(..));
        if stretched(&&slot) && self.slots.iter().filter(stretched).count() >= STRETCHES_MAX {
            return Err(Error::TooManyPassphrases);
        }
        self.slots.push(slot);
        Ok(())
    }

    /// Takes a slot away.
    ///
    /// Whoever held an owner's slot knew the authority's key, so that is drawn anew.
    ///
    /// # Errors
    /// [`Error::SlotGone`]; [`Error::LastOwner`] if nobody could change the vault any more.
    pub fn remove_slot(&mut self, id: SlotId) -> Result<(), Error> {
        let at = self.slots.iter().position(|slot| slot.keys.id == id).ok_or(Error::SlotGone)?;
        let gone = self.slots.remove(at);
        if !self.slots.iter().any(|slot| slot.role == Role::Owner) {
            return Err(Error::LastOwner);
        }
        self.renews_authority |= gone.role == Role::Owner;
        let log_key = *SigningKey::from_seed(gone.keys.log_seed).public().as_bytes();
        self.former.push(FormerSlot { id, log_key, label: gone.keys.label });
        Ok(())
    }

    /// Puts a slot in the place of another: the same person, another secret.
    ///
    /// # Errors
    /// As [`Draft::add_slot`] and [`Draft::remove_slot`].
    pub fn replace_slot(&mut self, id: SlotId, slot: DraftSlot) -> Result<(), Error> {
        let at = self.slots.iter().position(|old| old.keys.id == id).ok_or(Error::SlotGone)?;
        let old = self.slots.remove(at);
        self.renews_authority |= old.role == Role::Owner;
        let log_key = *SigningKey::from_seed(old.keys.log_seed).public().as_bytes();
        self.former.push(FormerSlot { id, log_key, label: old.keys.label });
        self.add_slot(slot)?;
        // In its old place: the order in which slots are tried stays.
        let new = self.slots.pop().ok_or(Error::SlotGone)?;
        self.slots.insert(at, new);
        if self.slots.iter().any(|slot| slot.role == Role::Owner) { Ok(()) } else { Err(Error::LastOwner) }
    }

    /// Locks a slot otherwise; its secret and its holder's powers stay.
    ///
    /// # Errors
    /// [`Error::SlotGone`].
    pub fn relock_slot(&mut self, id: SlotId, lock: Lock) -> Result<(), Error> {
        let slot = self.slots.iter_mut().find(|slot| slot.keys.id == id).ok_or(Error::SlotGone)?;
        slot.lock = lock;
        Ok(())
    }

    /// Whether a device is one that may add snapshots.
    #[must_use]
    pub fn is_enrolled(&self, device: DeviceId) -> bool {
        self.enrolled.contains(&device)
    }

    /// Says what a device is called. The name of one that was revoked, or never came to join, is free.
    ///
    /// # Errors
    /// [`Error::LabelTaken`] if another one is; [`Error::NoRoom`].
    pub fn name_device(&mut self, device: DeviceId, name: &str) -> Result<(), Error> {
        let is_taken = |(other, taken): &(DeviceId, String)| {
            *other != device && taken == name && self.enrolled.contains(other)
        };
        if self.devices.iter().any(is_taken) {
            return Err(Error::LabelTaken { label: name.to_owned() });
        }
        if name.len() > LABEL_BYTES_MAX {
            return Err(Error::NoRoom { what: "bytes in a device's name" });
        }
        self.devices.retain(|(other, _)| *other != device);
        self.devices.push((device, name.to_owned()));
        Ok(())
    }

    /// Draws the log keys of all slots anew that were slots before.
    ///
    /// Every owner held the seeds of all. Who is one no more could go on signing in everybody's name; the new
    /// seeds travel in the slots' wraps, so nobody is asked for anything.
    fn renew_log_keys(&mut self) {
        for slot in &mut self.slots {
            if !self.before.contains(&slot.keys.id) {
                continue;
            }
            let old = std::mem::replace(&mut slot.keys.log_seed, Secret::generate());
            let log_key = *SigningKey::from_seed(old).public().as_bytes();
            // Without its label, which the slot has: there may be many of these.
            self.former.push(FormerSlot { id: slot.keys.id, log_key, label: String::new() });
        }
    }

    /// The epoch that devices seal under.
    #[must_use]
    pub fn newest(&self) -> Epoch {
        self.newest
    }

    /// Starts the next epoch: what is sealed from here on takes new keys, and so does the authority.
    pub fn start_epoch(&mut self) {
        self.starts_epoch = true;
        self.renews_authority = true;
    }

    /// From here on headers list no object of an epoch before the newest one.
    pub fn close_older_epochs(&mut self) {
        self.open = self.newest;
    }

    /// Gives up the secrets of all epochs before the newest one.
    ///
    /// `heads` are those that the owner listed after the epochs were closed: a header beyond them that
    /// doesn't know of the closing doesn't count.
    pub fn drop_older_epochs(&mut self, heads: Vec<Head>) {
        self.oldest = self.newest;
        self.open = self.newest;
        self.heads = heads;
    }
}

/// Everything that a new generation puts, thought out and not yet put.
struct Generation {
    objects: Vec<(ObjectName, Vec<u8>)>,
    keys: Keys,
    table: SlotTable,
    ring: ReadRing,
    admin: AdminRing,
    root: RootKeys,
}

impl Generation {
    fn seal(mut draft: Draft, vault: &Vault) -> Result<Self, Error> {
        let (log, held) = (vault.log(), vault.admin()?);
        let (fingerprint, before) = (log.fingerprint(), log.keys());
        let generation = before.generation + 1;
        let (read, admin_key) = (Secret::<32>::generate(), Secret::<32>::generate());

        let mut epochs: Vec<EpochKeys> = vault.ring().epochs.iter().map(EpochKeys::duplicate).collect();
        let mut newest = draft.newest;
        if draft.starts_epoch {
            newest = Epoch(newest.0 + 1);
            epochs.push(EpochKeys::generate(newest));
        }
        epochs.retain(|keys| keys.epoch >= draft.oldest);
        let newest_key = match draft.starts_epoch {
            false => before.newest_key.clone(),
            true => sealing_key(&epochs, newest),
        };
        let ring = ReadRing { dedup_root: vault.ring().dedup_root.duplicate(), epochs };

        let mut owners_seeds: Vec<_> = held.owners_seeds.iter().map(Secret::duplicate).collect();
        let mut authority = SigningKey::from_seed(held.authority_seed.duplicate());
        if draft.renews_authority {
            owners_seeds.push(Secret::generate());
            authority = SigningKey::generate();
            draft.renew_log_keys();
        }
        let owners_key = match owners_seeds.last() {
            Some(seed) => KemSecretKey::from_seed(seed.duplicate()).public(),
            None => before.owners_key.clone(),
        };

        let wanted: Vec<_> =
            draft.slots.iter().map(|slot| (slot.role, &slot.keys, slot.lock.clone())).collect();
        let table = SlotTable::wrap(&fingerprint, generation, &wanted, &read, &admin_key);
        let admin = AdminRing {
            authority_seed: authority.seed().duplicate(),
            owners_seeds,
            slots: draft.slots.into_iter().map(|slot| slot.keys).collect(),
            devices: draft.devices,
            device_secrets: held.device_secrets.duplicate(),
            former: newest_former(draft.former),
        };

        let mut objects = Vec::new();
        let mut messages = Vec::new();
        if draft.starts_epoch {
            for (device, message) in epoch_messages(log, vault.ring(), &ring, newest, &admin_key) {
                let digest = digest::digest(&message);
                objects.push((Place::Message { device, digest }.name(), message));
                messages.push((device, digest));
            }
        }
        let sealed = [
            table.encode(&fingerprint),
            ring.wrap(&fingerprint, generation, &read),
            admin.wrap(&fingerprint, generation, &admin_key),
        ];
        let digests = [0, 1, 2].map(|at| digest::digest(&sealed[at]));
        let names = [
            Place::SlotTable { generation, digest: first8(&digests[0]) }.name(),
            ring_name(generation, &digests[1], false),
            ring_name(generation, &digests[2], true),
        ];
        objects.extend(names.into_iter().zip(sealed));
        let keys = Keys {
            generation,
            oldest: draft.oldest,
            open: draft.open,
            newest,
            authority: authority.public(),
            newest_key,
            owners_key,
            slot_table: digests[0],
            read_ring: digests[1],
            admin_ring: digests[2],
            heads: draft.heads,
            messages,
        };
        let root = RootKeys { read, admin: Some(admin_key) };
        let sealed = Self { objects, keys, table, ring, admin, root };
        sealed.check(vault)?;
        Ok(sealed)
    }

    /// Opens what is about to be put as its readers would: keys that nobody can use are never put.
    fn check(&self, vault: &Vault) -> Result<(), Error> {
        let fingerprint = vault.log().fingerprint();
        let [.., (table_name, table), (read_name, read), (admin_name, admin)] = &self.objects[..] else {
            unreachable!("slot table and rings are put last");
        };
        check_room(table, read, admin)?;
        let damaged = |name: &ObjectName, what: String| Error::Damaged { name: name.clone(), what };
        let table = SlotTable::decode(&fingerprint, table)
            .map_err(|_| damaged(table_name, "it does not read back".to_owned()))?;
        match table.reopen(&fingerprint, table_name, &vault.opened) {
            // Whoever takes the own slot away has nothing to try.
            Ok(_) | Err(Error::SlotGone) => {}
            Err(error) => return Err(error),
        }
        let generation = self.keys.generation;
        ReadRing::unwrap(&fingerprint, generation, &self.root.read, read)
            .map_err(|what| damaged(read_name, what))?;
        let key = self.root.admin.as_ref().expect("a change of keys is an owner's");
        AdminRing::unwrap(&fingerprint, generation, key, admin).map_err(|what| damaged(admin_name, what))?;
        Ok(())
    }
}

/// Holds slot table and rings against what a reader takes: longer ones would shut everybody out.
fn check_room(table: &[u8], read: &[u8], admin: &[u8]) -> Result<(), Error> {
    let is_over = |bytes: &[u8], bytes_max: u64| bytes.len() as u64 > bytes_max;
    if is_over(table, TABLE_BYTES_MAX) {
        return Err(Error::NoRoom { what: "slots" });
    }
    if is_over(read, RING_BYTES_MAX) {
        return Err(Error::NoRoom { what: "epochs: `strongroom reencrypt` ends the older ones" });
    }
    if is_over(admin, RING_BYTES_MAX) {
        return Err(Error::NoRoom { what: "names of slots and machines, those of former ones among them" });
    }
    Ok(())
}

/// What each device that isn't revoked is told of a new epoch, sealed to it under the psk of the last one.
fn epoch_messages(
    log: &Log,
    before: &ReadRing,
    ring: &ReadRing,
    newest: Epoch,
    admin_key: &Secret<32>,
) -> Vec<(DeviceId, Vec<u8>)> {
    let fingerprint = log.fingerprint();
    let last = log.keys().newest;
    let psk = |ring: &ReadRing, epoch: Epoch, device: DeviceId| {
        ring.epoch(epoch).map(|keys| keys.device_psk(&fingerprint, device))
    };
    let devices = log.devices().iter().filter(|(_, known)| known.revoked.is_none());
    devices
        .map(|(device, known)| {
            let psk_of =
                |ring, epoch| psk(ring, epoch, *device).expect("the newest epochs are never dropped");
            let message = Message::Epoch { epoch: newest, psk: psk_of(ring, newest) };
            let held = Some((last, psk_of(before, last)));
            let hedge = hedge(&fingerprint, admin_key);
            let sealed = device::seal_message(&fingerprint, *device, &known.kem_key, held, hedge, &message);
            (*device, sealed.bytes().to_vec())
        })
        .collect()
}

/// What goes into the salt of everything that an owner seals.
#[must_use]
pub fn hedge(fingerprint: &Fingerprint, admin_key: &Secret<32>) -> Secret<32> {
    admin_key.expose(|key| derive::<32>(key, &[], "hedge", &fingerprint.0))
}

fn sealing_key(epochs: &[EpochKeys], epoch: Epoch) -> crate::crypto::kem::KemPublicKey {
    let keys = epochs.iter().find(|keys| keys.epoch == epoch).expect("it was just drawn");
    KemSecretKey::from_seed(keys.seal_seed.duplicate()).public()
}

fn ring_name(generation: u32, digest: &Digest, admin: bool) -> ObjectName {
    Place::Ring { generation, digest: first8(digest), admin }.name()
}

/// What is left of an older generation because the store didn't remove it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Leftover {
    /// How many slot tables and rings.
    pub objects: usize,
}

impl Vault {
    /// Puts a new generation of keys into force: `change` says what is different in it.
    ///
    /// Both root keys are drawn anew and wrapped to all slots, their holders not being asked. If another
    /// owner's command came first, `wait` is called (as for [`Log::append`]) and `change` is asked anew,
    /// on top of what stands then. Afterwards this is the vault in its new generation, whether the own slot is still one of its
    /// slots or not.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; what `change` says; [`Error::Contended`]; [`Error::Store`]: then nothing has
    /// changed, unless the log can't be read either.
    pub fn change_keys(
        &mut self,
        now: u64,
        wait: &dyn Fn(u32),
        change: &dyn Fn(&mut Draft) -> Result<(), Error>,
    ) -> Result<LogHead, Error> {
        for lost in 1..=TRIES {
            let mut draft = Draft::of(self)?;
            change(&mut draft)?;
            let new = Generation::seal(draft, self)?;
            for (name, bytes) in &new.objects {
                fetch::put_twice(self.store(), name, bytes)?;
            }
            // Messages name all devices and the rings all names, so these keys follow this record alone.
            let follows = self.log().head();
            let key = SigningKey::from_seed(self.admin()?.authority_seed.duplicate());
            let mut log = self.log().clone();
            let appended = log.append(self.store(), &key, now, wait, &|log| {
                if log.head() == follows {
                    Ok(Payload::Keys(Box::new(new.keys.clone())))
                } else {
                    Err(Error::Contended)
                }
            });
            match appended {
                Ok(head) => {
                    self.take(log, new);
                    return Ok(head);
                }
                Err(error @ (Error::Contended | Error::OtherBranch { .. })) => {
                    for (name, _) in &new.objects {
                        withdraw(self.store(), name)?;
                    }
                    if !matches!(error, Error::Contended) {
                        return Err(error);
                    }
                    wait(lost);
                    self.reload()?;
                }
                // The record may stand although its second copy doesn't: then it is in force.
                Err(error @ Error::Store(_)) => match self.standing(&new) {
                    Some(log) => {
                        let head = log.head();
                        self.take(log, new);
                        return Ok(head);
                    }
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
        Err(Error::Contended)
    }

    /// The log, if the keys of `new` are in force in it.
    fn standing(&self, new: &Generation) -> Option<Log> {
        let log = self.log().reload(self.store()).ok()?;
        (*log.keys() == new.keys).then_some(log)
    }

    fn take(&mut self, log: Log, new: Generation) {
        self.locked.log = log;
        self.table = new.table;
        self.secrets = epoch_secrets(&new.ring);
        self.ring = new.ring;
        if let Some(own) = new.admin.slots.iter().find(|slot| slot.id == self.opened.id) {
            self.opened.log_seed = own.log_seed.duplicate();
        }
        self.admin = Some(new.admin);
        self.opened.root = new.root;
        self.newer = Mutex::new(None);
    }

    /// Appends a record to the log; `build` is asked what it says, on top of what stands.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; what `build` says; as [`Log::append`].
    pub fn append(
        &mut self,
        now: u64,
        wait: &dyn Fn(u32),
        build: &dyn Fn(&Self) -> Result<Payload, Error>,
    ) -> Result<LogHead, Error> {
        for lost in 1..=TRIES {
            let key = SigningKey::from_seed(self.admin()?.authority_seed.duplicate());
            let follows = self.log().head();
            let mut log = self.log().clone();
            let appended = log.append(self.store(), &key, now, wait, &|log| {
                // Another owner may have changed the very key that this is signed with.
                if log.head() == follows { build(self) } else { Err(Error::Contended) }
            });
            match appended {
                Ok(head) => {
                    self.locked.log = log;
                    return Ok(head);
                }
                Err(Error::Contended) => {
                    wait(lost);
                    self.reload()?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Contended)
    }

    /// Reads the log anew, and opens what it names by now with the slot that was opened before.
    ///
    /// # Errors
    /// [`Error::RolledBack`] or [`Error::Forked`] if the log doesn't go on where it was;
    /// [`Error::SlotGone`] if the slot was taken away meanwhile; as [`LockedVault::load`].
    pub fn reload(&mut self) -> Result<(), Error> {
        *self = self.reloaded()?;
        Ok(())
    }

    /// As [`Vault::reload`], beside this one.
    ///
    /// # Errors
    /// As [`Vault::reload`].
    pub fn reloaded(&self) -> Result<Self, Error> {
        let fingerprint = self.log().fingerprint();
        let store = self.locked.store.clone();
        let locked = LockedVault { log: self.log().reload(&*store)?, store };
        let (table, name) = locked.slot_table()?;
        let opened = table.reopen(&fingerprint, &name, &self.opened)?;
        locked.open(table, opened)
    }

    /// Removes slot tables and rings that aren't, or never were, those in force; both copies of each.
    ///
    /// An old table and an old passphrase open what the old generation held, so what a store keeps is
    /// counted: its owner should know.
    ///
    /// # Errors
    /// [`Error::Store`] if the names can't be listed.
    pub fn remove_older_generations(&self) -> Result<Leftover, Error> {
        let keys = self.log().keys();
        let generation = keys.generation;
        let in_force = [
            Place::SlotTable { generation, digest: first8(&keys.slot_table) }.name(),
            ring_name(generation, &keys.read_ring, false),
            ring_name(generation, &keys.admin_ring, true),
        ];
        let mut leftover = Leftover::default();
        for prefix in ["k/", "r/"] {
            for name in fetch::list_both(self.store(), prefix)? {
                // Those of this generation that the log doesn't name were put by a change that was cut off:
                // no record can name them any more, and older secrets open them.
                let is_over = match Place::parse(&name) {
                    Some(Place::SlotTable { generation: of, .. } | Place::Ring { generation: of, .. }) => {
                        of < generation || of == generation && !in_force.contains(&name)
                    }
                    _ => false,
                };
                if is_over && withdraw(self.store(), &name).is_err() {
                    leftover.objects += 1;
                }
            }
        }
        Ok(leftover)
    }

    /// What goes into the salt of all that this owner seals.
    ///
    /// # Errors
    /// [`Error::NotOwner`].
    pub fn hedge(&self) -> Result<Secret<32>, Error> {
        let key = self.opened.root.admin.as_ref().ok_or(Error::NotOwner)?;
        Ok(hedge(&self.log().fingerprint(), key))
    }
}

/// Removes both copies of an object, as far as they are there.
///
/// # Errors
/// [`Error::Store`].
pub fn withdraw(store: &dyn Store, name: &ObjectName) -> Result<(), Error> {
    let second = (!store.is_sealed_file()).then(|| name.second());
    for name in second.iter().chain([name]) {
        match store.remove(name) {
            Err(store::Error::Missing { .. }) => {}
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_reader_would_take_is_not_put() {
        let bytes = |length: u64| vec![0; usize::try_from(length).unwrap()];
        let (table, ring) = (bytes(TABLE_BYTES_MAX), bytes(RING_BYTES_MAX));
        let (longer_table, longer_ring) = (bytes(TABLE_BYTES_MAX + 1), bytes(RING_BYTES_MAX + 1));
        assert!(check_room(&table, &ring, &ring).is_ok());
        for (table, read, admin) in
            [(&longer_table, &ring, &ring), (&table, &longer_ring, &ring), (&table, &ring, &longer_ring)]
        {
            assert!(matches!(check_room(table, read, admin), Err(Error::NoRoom { .. })));
        }
    }
}

//! Making a vault: keys first, then everything put in an order that leaves nothing half made.

use std::sync::Arc;

use crate::crypto::derive::derive;
use crate::crypto::digest;
use crate::crypto::kdf::Argon2Settings;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;
use crate::crypto::sign::SigningKey;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::VaultId;
use crate::store;
use crate::store::Store;
use crate::store::state::StateDir;
use crate::vault::authority::Log;
use crate::vault::authority::record_name;
use crate::vault::change::hedge;
use crate::vault::change::withdraw;
use crate::vault::device;
use crate::vault::device::DeviceKeys;
use crate::vault::device::Message;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record::Keys;
use crate::vault::record::Payload;
use crate::vault::record::Record;
use crate::vault::record::SignedRecord;
use crate::vault::ring::AdminRing;
use crate::vault::ring::EpochKeys;
use crate::vault::ring::ReadRing;
use crate::vault::slot;
use crate::vault::slot::Role;
use crate::vault::slot::SlotTable;
use crate::vault::slot::Way;

/// The words for a finder of the drive. Fixed: it names nobody.
pub const README_TEXT: &str = include_str!("README.txt");

/// A vault that is thought out and not yet put anywhere: its recovery code can be confirmed first.
pub struct NewVault {
    fingerprint: Fingerprint,
    authority: SigningKey,
    genesis: SignedRecord,
    objects: Vec<(ObjectName, Vec<u8>)>,
    keys_record: SignedRecord,
    admin_key: Secret<32>,
    epoch: EpochKeys,
    dedup_root: Secret<32>,
}

/// A slot that a new vault gets.
pub struct NewSlot<'a> {
    /// What opens it.
    pub opens: Opens<'a>,
    /// What people call it.
    pub label: &'a str,
    /// What its holder may do.
    pub role: Role,
}

/// What opens a new slot.
#[derive(Clone, Copy)]
pub enum Opens<'a> {
    /// What a person holds, which locks it.
    Way(&'a Way),
    /// Somebody's own key.
    Recipient(&'a KemPublicKey),
}

/// Where the first device's secrets are to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceHome {
    /// On this machine, and nowhere else.
    Machine,
    /// In the owners' ring, as a sealed file has them.
    Ring,
}

impl NewVault {
    /// Draws all keys and seals slot table and rings.
    ///
    /// `device` is what this machine will be called, and becomes part of the owners' ring at once, so
    /// that the name is never in the clear.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if a way holds nothing that locks a slot.
    pub fn generate(
        slots: &[NewSlot<'_>],
        settings: &Argon2Settings,
        device: (&DeviceKeys, &str),
        home: DeviceHome,
        now: u64,
    ) -> Result<Self, Error> {
        let authority = SigningKey::generate();
        let genesis = Record {
            vault: VaultId([0; 16]),
            seq: 0,
            time: now,
            prev: Digest([0; 32]),
            payload: Payload::Genesis { authority: authority.public(), random: random::bytes() },
        }
        .sign(&authority);
        let fingerprint = Fingerprint(genesis.digest().0);
        let (read_key, admin_key) = (Secret::<32>::generate(), Secret::<32>::generate());
        let owners_seed = Secret::<32>::generate();
        let epoch = EpochKeys::generate(Epoch(1));

        let mut locked = Vec::new();
        for new in slots {
            locked.push(match new.opens {
                Opens::Way(way) => slot::generate(&fingerprint, new.role, way, settings, new.label)?,
                Opens::Recipient(key) => slot::for_recipient(key.clone(), new.label),
            });
        }
        let roles = slots.iter().map(|slot| slot.role);
        let wanted: Vec<_> =
            locked.iter().zip(roles).map(|((keys, lock), role)| (role, keys, lock.clone())).collect();
        let table = SlotTable::wrap(&fingerprint, 1, &wanted, &read_key, &admin_key).encode(&fingerprint);

        let newest_key = KemSecretKey::from_seed(epoch.seal_seed.duplicate()).public();
        let owners_key = KemSecretKey::from_seed(owners_seed.duplicate()).public();
        let ring = ReadRing { dedup_root: Secret::generate(), epochs: vec![epoch.duplicate()] };
        let admin = AdminRing {
            authority_seed: authority.seed().duplicate(),
            owners_seeds: vec![owners_seed],
            slots: locked.into_iter().map(|(keys, _)| keys).collect(),
            devices: vec![(device.0.device, device.1.to_owned())],
            device_secrets: match home {
                DeviceHome::Machine => SecretBytes::new(Vec::new()),
                DeviceHome::Ring => device.0.encode(),
            },
            former: Vec::new(),
        };
        let read_ring = ring.wrap(&fingerprint, 1, &read_key);
        let admin_ring = admin.wrap(&fingerprint, 1, &admin_key);
        let digests = [&table, &read_ring, &admin_ring].map(|bytes| digest::digest(bytes));
        let keys_record = Record {
            vault: fingerprint.vault_id(),
            seq: 1,
            time: now,
            prev: genesis.digest(),
            payload: Payload::Keys(Box::new(Keys {
                generation: 1,
                oldest: Epoch(1),
                open: Epoch(1),
                newest: Epoch(1),
                authority: authority.public(),
                newest_key,
                owners_key,
                slot_table: digests[0],
                read_ring: digests[1],
                admin_ring: digests[2],
                heads: Vec::new(),
                messages: Vec::new(),
            })),
        }
        .sign(&authority);
        let short = digests.map(|digest| first8(&digest));
        let objects = vec![
            (Place::SlotTable { generation: 1, digest: short[0] }.name(), table),
            (Place::Ring { generation: 1, digest: short[1], admin: false }.name(), read_ring),
            (Place::Ring { generation: 1, digest: short[2], admin: true }.name(), admin_ring),
        ];
        let dedup_root = ring.dedup_root;
        Ok(Self { fingerprint, authority, genesis, objects, keys_record, admin_key, epoch, dedup_root })
    }

    /// F, which people may note before anything is put.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The key that signs its log, and the end of a sealed file.
    #[must_use]
    pub fn authority(&self) -> SigningKey {
        SigningKey::from_seed(self.authority.seed().duplicate())
    }

    /// Puts the vault into an empty store and enrols `device` in it, by the way any device joins.
    ///
    /// A vault that was begun there and never finished is given up first: its records go, and without
    /// them the slot tables and rings that it may have left are nothing; they go once this vault stands.
    /// Of two who make a vault in one place at the same moment, one at most gets it.
    ///
    /// # Errors
    /// As [`left_behind`]; [`Error::State`].
    pub fn put(
        self,
        store: &Arc<dyn Store>,
        device: &DeviceKeys,
        state: &StateDir,
        now: u64,
    ) -> Result<Log, Error> {
        let left = left_behind(&**store)?;
        // The newest first: whatever is left of them begins with GENESIS, and can be given up again.
        for record in left.iter().rev().filter(|name| is_record(name)) {
            withdraw(&**store, record)?;
        }
        // The device's key first: without it the vault would name a device that nobody has.
        device.save(&self.fingerprint, state)?;
        if !store.is_sealed_file() {
            fetch::put_twice(&**store, &fetch::readme(), README_TEXT.as_bytes())?;
        }
        for (name, bytes) in &self.objects {
            fetch::put_twice(&**store, name, bytes)?;
        }
        let first = record_name(0, &self.genesis);
        fetch::put_twice(&**store, &first, self.genesis.bytes())?;
        // Whoever began at the same moment may have taken this one for unfinished, or put another.
        if fetch::list_both(&**store, "a/")? != [first.clone()] {
            withdraw(&**store, &first)?;
            return Err(Error::VaultExists { place: store.place() });
        }
        let second = record_name(1, &self.keys_record);
        fetch::put_twice(&**store, &second, self.keys_record.bytes())?;
        let mut log = Log::load(&**store, Some(&self.fingerprint))?;

        let hedge = hedge(&self.fingerprint, &self.admin_key);
        let context = [&self.fingerprint.0[..], &device.device.0].concat();
        let grant = Message::Grant {
            fingerprint: self.fingerprint,
            epoch: Epoch(1),
            psk: self.epoch.device_psk(&self.fingerprint, device.device),
            dedup: self.dedup_root.expose(|root| derive(root, &[], "dedup", &context)),
        };
        let kem_key = device.kem.public();
        let sealed = device::seal_message(&self.fingerprint, device.device, &kem_key, None, hedge, &grant);
        let message = sealed.digest();
        let name = Place::Message { device: device.device, digest: message }.name();
        fetch::put_twice(&**store, &name, sealed.bytes())?;
        // Nobody else knows of this vault yet, so there is nobody to wait for.
        log.append(&**store, &self.authority, now, &|_| {}, &|_| {
            Ok(Payload::DeviceAdd {
                device: device.device,
                verifying_key: device.signing.public(),
                kem_key: Box::new(kem_key.clone()),
                message,
            })
        })?;
        let head = log.head();
        let third = Place::Record { seq: head.seq, digest: first8(&head.digest) }.name();
        let own = [first, second, third];
        // Until the device was added, somebody else may still have given this vault up.
        if fetch::list_both(&**store, "a/")? != own {
            own.iter().rev().try_for_each(|record| withdraw(&**store, record))?;
            return Err(Error::VaultExists { place: store.place() });
        }
        device::pin(device, &log, state)?;
        let kept = |left: &ObjectName| {
            *left == name || *left == fetch::readme() || self.objects.iter().any(|(name, _)| name == left)
        };
        for left in left.iter().filter(|left| !is_record(left) && !kept(left)) {
            // The vault stands. What can't be removed is nothing to it, and `verify` counts it.
            let _ = withdraw(&**store, left);
        }
        Ok(log)
    }
}

/// What is in the way of a new vault and may go: the objects, by the names of their first copies, of one
/// that was begun here and never got as far as its first device. An empty store has none.
///
/// # Errors
/// [`Error::VaultExists`] if there is a vault, or what may be left of one; [`Error::Store`] with
/// [`store::Error::NotEmpty`] if other objects are there, or if the store can't be read.
pub fn left_behind(store: &dyn Store) -> Result<Vec<ObjectName>, Error> {
    let names = fetch::list_both(store, "")?;
    let names: Vec<_> = names.into_iter().filter(|name| !name.as_str().starts_with(fetch::SECOND)).collect();
    let is_begun = names.iter().all(|name| is_of_beginning(store, name));
    match Log::load(store, None) {
        Err(Error::NoVault { .. } | Error::Unfinished { .. }) if is_begun => Ok(names),
        Ok(log) if is_begun && log.devices().is_empty() => Ok(names),
        Err(Error::NoVault { place }) => Err(store::Error::NotEmpty { place }.into()),
        Err(Error::Store(error)) => Err(error.into()),
        _ => Err(Error::VaultExists { place: store.place() }),
    }
}

/// Whether an object is one that [`NewVault::put`] puts before a vault has its first device.
fn is_of_beginning(store: &dyn Store, name: &ObjectName) -> bool {
    match Place::parse(name) {
        Some(Place::Readme) => {
            [name.clone(), name.second()].iter().all(|copy| match store.get(copy, README_TEXT.len() as u64) {
                Ok(bytes) => bytes == README_TEXT.as_bytes(),
                Err(error) => matches!(error, store::Error::Missing { .. }),
            })
        }
        Some(Place::SlotTable { generation, .. } | Place::Ring { generation, .. }) => generation == 1,
        Some(Place::Record { seq, .. }) => seq < 2,
        Some(Place::Message { .. }) => true,
        _ => false,
    }
}

fn is_record(name: &ObjectName) -> bool {
    matches!(Place::parse(name), Some(Place::Record { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    fn make(store: &Arc<dyn Store>, state: &std::path::Path) -> Result<Log, Error> {
        let device = DeviceKeys::generate();
        let way = Way { key_file: Some(Secret::generate()), ..Way::default() };
        let slots = [NewSlot { opens: Opens::Way(&way), label: "test", role: Role::Owner }];
        let device = (&device, "test");
        let vault = NewVault::generate(&slots, &Argon2Settings::DEFAULT, device, DeviceHome::Machine, 1)?;
        vault.put(store, device.0, &StateDir::new(state), 1)
    }

    #[test]
    fn a_vault_that_was_only_begun_makes_way_for_another_and_a_finished_one_does_not() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let (_, genesis) = crate::vault::testing::genesis();
        // Cut off between the two copies.
        store.put(&record_name(0, &genesis), genesis.bytes()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let log = make(&store, folder.path()).unwrap();
        assert_ne!(log.fingerprint().0, genesis.digest().0);
        assert_eq!(Log::load(&*store, None).unwrap().head(), log.head());
        assert!(matches!(make(&store, folder.path()), Err(Error::VaultExists { .. })));
    }

    #[test]
    fn where_anything_else_lies_no_vault_is_made_and_nothing_is_touched() {
        let (_, genesis) = crate::vault::testing::genesis();
        let first = record_name(0, &genesis).to_string();
        let whole = README_TEXT.as_bytes();
        let cases: [&[(&str, &[u8])]; 6] = [
            &[("README.txt", b"my notes")],
            &[("README.txt", whole), ("2/README.txt", b"my notes")],
            &[("README.txt", whole), ("k/photo.jpg", b"x")],
            &[("README.txt", whole), ("photo.jpg", b"x")],
            &[("README.txt", whole), ("r/00000002-0011223344556677.read", b"x")],
            // The log of a vault that lost all but its first record.
            &[(&first, genesis.bytes()), ("q/00112233445566778899aabbccddeeff-0011223344556677", b"x")],
        ];
        for objects in cases {
            let memory = Arc::new(Memory::new());
            let store: Arc<dyn Store> = Arc::<Memory>::clone(&memory);
            for (name, bytes) in objects {
                store.put(&ObjectName::parse(name).unwrap(), bytes).unwrap();
            }
            let before = memory.snapshot();
            let folder = tempfile::tempdir().unwrap();
            let refused = make(&store, folder.path()).err().unwrap();
            let is_refused =
                matches!(refused, Error::VaultExists { .. } | Error::Store(store::Error::NotEmpty { .. }));
            assert!(is_refused, "{refused}");
            assert!(memory.snapshot() == before, "{objects:?}");
        }
    }
}

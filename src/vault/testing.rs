//! A vault's log and headers without rings and packs: what tests of this module sign by hand.

use std::ops::Range;
use std::sync::Mutex;

use crate::crypto::kem::KemSecretKey;
use crate::crypto::random;
use crate::crypto::sign::SigningKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::ObjectName;
use crate::id::VaultId;
use crate::store;
use crate::store::Memory;
use crate::store::Store;
use crate::vault::authority::Log;
use crate::vault::authority::record_name;
use crate::vault::device::DeviceKeys;
use crate::vault::fetch;
use crate::vault::header::Header;
use crate::vault::header::NewObject;
use crate::vault::name::Place;
use crate::vault::record::Head;
use crate::vault::record::Keys;
use crate::vault::record::ListRef;
use crate::vault::record::Payload;
use crate::vault::record::Record;
use crate::vault::record::Row;
use crate::vault::record::SignedRecord;
use crate::vault::record::encode_list;

/// Whoever may write the log.
pub struct Owner {
    pub store: Memory,
    pub key: SigningKey,
    pub vault: VaultId,
    heads: Vec<Digest>,
}

/// A device's signing hand.
pub struct Writer {
    pub device: DeviceId,
    seed: [u8; 32],
    head: Option<Head>,
}

/// GENESIS of a new vault, and the key that signs what follows.
pub fn genesis() -> (SigningKey, SignedRecord) {
    let key = SigningKey::generate();
    let record = Record {
        vault: VaultId([0; 16]),
        seq: 0,
        time: 1,
        prev: Digest([0; 32]),
        payload: Payload::Genesis { authority: key.public(), random: random::bytes() },
    };
    let signed = record.sign(&key);
    (key, signed)
}

impl Owner {
    /// A vault of two records, with keys that nothing is sealed under.
    pub fn new() -> Self {
        let (key, genesis) = genesis();
        let store = Memory::new();
        fetch::put_twice(&store, &record_name(0, &genesis), genesis.bytes()).unwrap();
        let vault = crate::id::Fingerprint(genesis.digest().0).vault_id();
        let mut owner = Self { store, key, vault, heads: vec![genesis.digest()] };
        owner.append(Payload::Keys(Box::new(Keys {
            generation: 1,
            oldest: Epoch(1),
            open: Epoch(1),
            newest: Epoch(1),
            authority: owner.key.public(),
            newest_key: KemSecretKey::generate().public(),
            owners_key: KemSecretKey::generate().public(),
            slot_table: Digest([1; 32]),
            read_ring: Digest([2; 32]),
            admin_ring: Digest([3; 32]),
            heads: Vec::new(),
            messages: Vec::new(),
        })));
        owner
    }

    /// Puts the next record, whatever it says.
    pub fn append(&mut self, payload: Payload) {
        let seq = self.heads.len() as u64;
        let prev = *self.heads.last().unwrap();
        let signed = Record { vault: self.vault, seq, time: 1, prev, payload }.sign(&self.key);
        fetch::put_twice(&self.store, &record_name(seq, &signed), signed.bytes()).unwrap();
        self.heads.push(signed.digest());
    }

    /// The same vault once more, to go on in another way.
    pub fn duplicate(&self) -> Self {
        let store = Memory::new();
        store.restore(&self.store.snapshot());
        let key = SigningKey::from_seed(self.key.seed().duplicate());
        Self { store, key, vault: self.vault, heads: self.heads.clone() }
    }

    pub fn add_device(&mut self) -> Writer {
        let writer = Writer { device: DeviceId(random::bytes()), seed: random::bytes(), head: None };
        self.append(Payload::DeviceAdd {
            device: writer.device,
            verifying_key: writer.key().public(),
            kem_key: Box::new(KemSecretKey::generate().public()),
            message: Digest([4; 32]),
        });
        writer
    }

    /// Adds the device that holds these keys.
    pub fn add(&mut self, keys: &DeviceKeys) {
        self.append(Payload::DeviceAdd {
            device: keys.device,
            verifying_key: keys.signing.public(),
            kem_key: Box::new(keys.kem.public()),
            message: Digest([4; 32]),
        });
    }

    /// Another key signs from here on.
    pub fn renew_authority(&mut self) {
        let before = self.log().keys().clone();
        let key = SigningKey::generate();
        let (generation, authority) = (before.generation + 1, key.public());
        self.append(Payload::Keys(Box::new(Keys { generation, authority, ..before })));
        self.key = key;
    }

    /// Puts a list, its rows sorted.
    pub fn list<R: Row + Clone>(&self, rows: &[R]) -> ListRef {
        let mut rows = rows.to_vec();
        rows.sort();
        let bytes = encode_list(self.vault, &rows);
        let digest = crate::crypto::digest::digest(&bytes);
        fetch::put_twice(&self.store, &Place::List(digest).name(), &bytes).unwrap();
        let length = u32::try_from(bytes.len()).unwrap();
        ListRef { digest, length, rows: u32::try_from(rows.len()).unwrap() }
    }

    pub fn head_at(&self, seq: usize) -> Digest {
        self.heads[seq]
    }

    pub fn next_seq(&self) -> u64 {
        self.heads.len() as u64
    }

    pub fn log(&self) -> Log {
        Log::load(&self.store, None).unwrap()
    }
}

impl Writer {
    fn key(&self) -> SigningKey {
        SigningKey::from_seed(crate::crypto::secret::Secret::from_slice(&self.seed).unwrap())
    }

    /// The same device a second time, as a copied state is.
    pub fn duplicate(&self) -> Self {
        Self { device: self.device, seed: self.seed, head: self.head }
    }

    /// Puts the next header, after `change` had its way with it.
    pub fn put(&mut self, owner: &Owner, change: impl FnOnce(&mut Header)) -> Head {
        let body = Digest(random::bytes());
        let mut header = Header {
            vault: owner.vault,
            device: self.device,
            epoch: Epoch(1),
            seq: self.head.map_or(0, |head| head.seq) + 1,
            time: 1,
            prev: self.head.map_or(Digest([0; 32]), |head| head.digest),
            auth_seq: owner.next_seq() - 1,
            auth_head: *owner.heads.last().unwrap(),
            body,
            objects: vec![NewObject { name: body, length: 100 }],
        };
        change(&mut header);
        let signed = header.sign(&self.key());
        fetch::put_twice(&owner.store, &signed.place().name(), signed.bytes()).unwrap();
        let head = Head { device: self.device, seq: header.seq, digest: signed.digest() };
        self.head = Some(head);
        head
    }
}

/// What another writer does between two steps of one.
type Meanwhile = Box<dyn FnOnce(&Memory, &ObjectName) + Send>;

/// A store in which something happens right after the next put.
pub struct AfterPut {
    pub inner: Memory,
    pub happens: Mutex<Option<Meanwhile>>,
}

impl Store for AfterPut {
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), store::Error> {
        self.inner.put(name, bytes)?;
        let happens = self.happens.lock().unwrap().take();
        happens.into_iter().for_each(|happen| happen(&self.inner, name));
        Ok(())
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, store::Error> {
        self.inner.get(name, bytes_max)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, store::Error> {
        self.inner.get_range(name, range)
    }

    fn size(&self, name: &ObjectName) -> Result<u64, store::Error> {
        self.inner.size(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<store::Listed>, store::Error> {
        self.inner.list(prefix)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), store::Error> {
        self.inner.remove(name)
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn writable(&self) -> Result<(), store::Error> {
        self.inner.writable()
    }

    fn pause(&self, turn: u32) {
        self.inner.pause(turn);
    }
}

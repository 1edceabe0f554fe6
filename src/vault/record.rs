//! The byte layouts of the authority log: records, what each type says, and the lists they name.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::digest;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::sign::SignatureType;
use crate::crypto::sign::SigningKey;
use crate::crypto::sign::VerifyingKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::VaultId;

/// `SRAUTH` and the version of the layout, as every record begins.
const MAGIC: &[u8; 8] = b"SRAUTH\x01\x00";
/// `SRLIST` and the version of the layout, as every list begins.
const LIST_MAGIC: &[u8; 8] = b"SRLIST\x01\x00";
/// The bytes of a record before its payload.
const HEAD_BYTES: usize = 8 + 16 + 8 + 8 + 32 + 1 + 3 + 4;
/// The bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;
/// The most that a payload has, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The most that a whole record has, in bytes.
pub const RECORD_BYTES_MAX: usize = HEAD_BYTES + PAYLOAD_BYTES_MAX + SIGNATURE_BYTES;
/// The most that a list has, in bytes.
pub const LIST_BYTES_MAX: usize = 64 << 20;

/// Why bytes are no record or list of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The layout is broken.
    Layout(codec::Error),
    /// Another version of the layout, or a type that this version doesn't know.
    Newer,
    /// The signature is not the expected key's.
    Signature,
}

impl From<codec::Error> for Error {
    fn from(error: codec::Error) -> Self {
        Self::Layout(error)
    }
}

/// The newest state of a device: its last snapshot header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Head {
    /// Whose.
    pub device: DeviceId,
    /// The header's place in the chain, from 1.
    pub seq: u64,
    /// The digest of the header.
    pub digest: Digest,
}

/// How a record names a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListRef {
    /// Of all its bytes.
    pub digest: Digest,
    /// In bytes.
    pub length: u32,
    /// How many rows it has.
    pub rows: u32,
}

/// What KEYS says: the keys in force from its record on.
#[derive(Clone, PartialEq)]
pub struct Keys {
    /// Counts KEYS records, from 1; part of the names of slot table and rings.
    pub generation: u32,
    /// The oldest epoch whose secrets still exist.
    pub oldest: Epoch,
    /// The oldest epoch whose objects headers may still list.
    pub open: Epoch,
    /// The epoch that devices seal under.
    pub newest: Epoch,
    /// Signs the records after this one.
    pub authority: VerifyingKey,
    /// Devices seal packs to it.
    pub newest_key: KemPublicKey,
    /// The log entries of people are sealed to it.
    pub owners_key: KemPublicKey,
    /// Of the slot table.
    pub slot_table: Digest,
    /// Of the readers' ring.
    pub read_ring: Digest,
    /// Of the owners' ring.
    pub admin_ring: Digest,
    /// Of every device, where the record raises `oldest`; otherwise as known.
    pub heads: Vec<Head>,
    /// The message that tells each device its new secrets.
    pub messages: Vec<(DeviceId, Digest)>,
}

/// What a record says.
#[derive(Clone, PartialEq)]
pub enum Payload {
    /// The first record: the authority's first key and what makes the vault unique.
    Genesis {
        /// Signs this record and those after it.
        authority: VerifyingKey,
        /// From the generator.
        random: [u8; 32],
    },
    /// The keys from here on.
    Keys(Box<Keys>),
    /// A device may add snapshots.
    DeviceAdd {
        /// Its pseudonym.
        device: DeviceId,
        /// Signs its headers.
        verifying_key: VerifyingKey,
        /// Its messages are sealed to it.
        kem_key: Box<KemPublicKey>,
        /// The message that grants it its secrets.
        message: Digest,
    },
    /// A device may add no more after the header named.
    DeviceRevoke {
        /// The last accepted state: seq 0 and a zero digest if none is.
        head: Head,
    },
    /// Messages to a device.
    Message {
        /// To whom.
        device: DeviceId,
        /// Digests of the messages, in the order in which they are to be read.
        names: Vec<Digest>,
    },
    /// What an owner had seen of every device.
    Seen(Vec<Head>),
    /// Snapshots hidden, stray objects named for deletion.
    Forget(ListRef),
    /// Objects that took the place of others.
    Supersede(ListRef),
    /// The whole map of names, in place of earlier lists.
    Inventory {
        /// Rows as of SUPERSEDE, one list after another.
        lists: Vec<ListRef>,
        /// The heads that it covers.
        heads: Vec<Head>,
    },
    /// Objects that no longer have to exist.
    Purge {
        /// Which.
        list: ListRef,
        /// The FORGET that announced it.
        forget_seq: u64,
        /// The heads that the owner had listed before he acted.
        heads: Vec<Head>,
    },
    /// The loser of two records at one seq.
    Void(Digest),
}

impl Payload {
    fn type_byte(&self) -> u8 {
        match self {
            Self::Genesis { .. } => 1,
            Self::Keys(_) => 2,
            Self::DeviceAdd { .. } => 3,
            Self::DeviceRevoke { .. } => 4,
            Self::Message { .. } => 5,
            Self::Seen(_) => 6,
            Self::Forget(_) => 7,
            Self::Supersede(_) => 8,
            Self::Inventory { .. } => 9,
            Self::Purge { .. } => 10,
            Self::Void(_) => 11,
        }
    }

    /// What people call a record of this type.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Genesis { .. } => "genesis",
            Self::Keys(_) => "keys",
            Self::DeviceAdd { .. } => "device added",
            Self::DeviceRevoke { .. } => "device revoked",
            Self::Message { .. } => "message",
            Self::Seen(_) => "seen",
            Self::Forget(_) => "forget",
            Self::Supersede(_) => "supersede",
            Self::Inventory { .. } => "inventory",
            Self::Purge { .. } => "purge",
            Self::Void(_) => "void",
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Genesis { authority, random } => {
                out.bytes(authority.as_bytes()).bytes(random);
            }
            Self::Keys(keys) => {
                out.u32(keys.generation).u32(keys.oldest.0).u32(keys.open.0).u32(keys.newest.0);
                out.bytes(keys.authority.as_bytes());
                out.bytes(keys.newest_key.as_bytes()).bytes(keys.owners_key.as_bytes());
                out.bytes(&keys.slot_table.0).bytes(&keys.read_ring.0).bytes(&keys.admin_ring.0);
                write_heads(&mut out, &keys.heads);
                out.count(keys.messages.len());
                for (device, name) in &keys.messages {
                    out.bytes(&device.0).bytes(&name.0);
                }
            }
            Self::DeviceAdd { device, verifying_key, kem_key, message } => {
                out.bytes(&device.0).bytes(verifying_key.as_bytes()).bytes(kem_key.as_bytes());
                out.bytes(&message.0);
            }
            Self::DeviceRevoke { head } => write_head(&mut out, head),
            Self::Message { device, names } => {
                out.bytes(&device.0).count(names.len());
                for name in names {
                    out.bytes(&name.0);
                }
            }
            Self::Seen(heads) => write_heads(&mut out, heads),
            Self::Forget(list) | Self::Supersede(list) => write_list_ref(&mut out, list),
            Self::Inventory { lists, heads } => {
                out.count(lists.len());
                for list in lists {
                    write_list_ref(&mut out, list);
                }
                write_heads(&mut out, heads);
            }
            Self::Purge { list, forget_seq, heads } => {
                write_list_ref(&mut out, list);
                out.u64(*forget_seq);
                write_heads(&mut out, heads);
            }
            Self::Void(digest) => {
                out.bytes(&digest.0);
            }
        }
        out.finish()
    }

    fn decode(type_byte: u8, bytes: &[u8]) -> Result<Self, Error> {
        let mut from = Reader::new(bytes);
        let payload = match type_byte {
            1 => Self::Genesis { authority: read_verifying_key(&mut from)?, random: from.array()? },
            2 => Self::Keys(Box::new(Keys {
                generation: from.u32()?,
                oldest: Epoch(from.u32()?),
                open: Epoch(from.u32()?),
                newest: Epoch(from.u32()?),
                authority: read_verifying_key(&mut from)?,
                newest_key: read_kem_key(&mut from)?,
                owners_key: read_kem_key(&mut from)?,
                slot_table: Digest(from.array()?),
                read_ring: Digest(from.array()?),
                admin_ring: Digest(from.array()?),
                heads: read_heads(&mut from)?,
                messages: {
                    let count = from.count(48)?;
                    let messages = (0..count)
                        .map(|_| Ok((DeviceId(from.array()?), Digest(from.array()?))))
                        .collect::<Result<Vec<_>, codec::Error>>()?;
                    ascending(&messages, |row| row.0, "devices of the messages")?;
                    messages
                },
            })),
            3 => Self::DeviceAdd {
                device: DeviceId(from.array()?),
                verifying_key: read_verifying_key(&mut from)?,
                kem_key: Box::new(read_kem_key(&mut from)?),
                message: Digest(from.array()?),
            },
            4 => {
                let head = read_head(&mut from)?;
                if (head.seq == 0) != (head.digest == Digest([0; 32])) {
                    return Err(codec::Error::NotCanonical("last header").into());
                }
                Self::DeviceRevoke { head }
            }
            5 => Self::Message {
                device: DeviceId(from.array()?),
                names: {
                    let count = from.count(32)?;
                    (0..count).map(|_| Ok(Digest(from.array()?))).collect::<Result<_, codec::Error>>()?
                },
            },
            6 => Self::Seen(read_heads(&mut from)?),
            7 => Self::Forget(read_list_ref(&mut from)?),
            8 => Self::Supersede(read_list_ref(&mut from)?),
            9 => Self::Inventory {
                lists: {
                    let count = from.count(40)?;
                    (0..count).map(|_| read_list_ref(&mut from)).collect::<Result<_, _>>()?
                },
                heads: read_heads(&mut from)?,
            },
            10 => Self::Purge {
                list: read_list_ref(&mut from)?,
                forget_seq: from.u64()?,
                heads: read_heads(&mut from)?,
            },
            11 => Self::Void(Digest(from.array()?)),
            _ => return Err(Error::Newer),
        };
        from.finish()?;
        if let Self::Keys(keys) = &payload {
            let ordered = Epoch(1) <= keys.oldest && keys.oldest <= keys.open && keys.open <= keys.newest;
            if !ordered || keys.generation == 0 {
                return Err(codec::Error::NotCanonical("epochs").into());
            }
        }
        Ok(payload)
    }
}

/// A record that is well-formed; whether its signature holds is asked separately.
#[derive(Clone, PartialEq)]
pub struct Record {
    /// Zero in GENESIS.
    pub vault: VaultId,
    /// Its place in the log, from 0.
    pub seq: u64,
    /// When, in nanoseconds since 1970 UTC, by its writer's clock.
    pub time: u64,
    /// The digest of the record before; zero in GENESIS.
    pub prev: Digest,
    /// What it says.
    pub payload: Payload,
}

/// A record's bytes, signed: the only form in which one is put.
pub struct SignedRecord {
    bytes: Vec<u8>,
    digest: Digest,
}

impl SignedRecord {
    /// All bytes, signature included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of all its bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Record {
    /// Encodes and signs it.
    ///
    /// # Panics
    /// If the payload has over 1 MiB: whoever builds one bounds its rows first.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedRecord {
        let payload = self.payload.encode();
        assert!(payload.len() <= PAYLOAD_BYTES_MAX, "payloads are bounded by their builders");
        let mut out = Writer::new();
        out.bytes(MAGIC).bytes(&self.vault.0).u64(self.seq).u64(self.time).bytes(&self.prev.0);
        out.u8(self.payload.type_byte()).zeros(3).sized(&payload);
        let signature = key.sign(SignatureType::Authority, out.as_slice());
        out.bytes(&signature);
        let bytes = out.finish();
        let digest = digest::digest(&bytes);
        SignedRecord { bytes, digest }
    }

    /// Reads a record and returns it with what [`Record::verify`] needs.
    ///
    /// # Errors
    /// [`Error::Layout`] or [`Error::Newer`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut from = Reader::new(bytes);
        from.exactly(&MAGIC[..6], "magic")?;
        if from.array::<2>()? != [1, 0] {
            return Err(Error::Newer);
        }
        let vault = VaultId(from.array()?);
        let seq = from.u64()?;
        let time = from.u64()?;
        let prev = Digest(from.array()?);
        let type_byte = from.u8()?;
        from.zeros(3)?;
        let length = from.count(1)?;
        if length > PAYLOAD_BYTES_MAX {
            return Err(codec::Error::NotCanonical("length").into());
        }
        let payload = Payload::decode(type_byte, from.bytes(length)?)?;
        from.bytes(SIGNATURE_BYTES)?;
        from.finish()?;
        Ok(Self { vault, seq, time, prev, payload })
    }

    /// Checks the signature of a record's bytes.
    ///
    /// # Errors
    /// [`Error::Signature`] if it isn't `key`'s.
    pub fn verify(bytes: &[u8], key: &VerifyingKey) -> Result<(), Error> {
        let (signed, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(codec::Error::TooShort)?;
        key.verify(SignatureType::Authority, signed, signature).map_err(|_| Error::Signature)
    }
}

/// The kinds of rows that a list may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListType {
    /// [`ForgetRow`]
    Forget,
    /// [`SupersedeRow`]: of SUPERSEDE and INVENTORY.
    Supersede,
    /// [`PurgeRow`]
    Purge,
}

impl ListType {
    fn byte(self) -> u8 {
        match self {
            Self::Forget => 1,
            Self::Supersede => 2,
            Self::Purge => 3,
        }
    }
}

/// Names a snapshot, or with seq 0 an object that no header lists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ForgetRow {
    /// Whose.
    pub device: DeviceId,
    /// Of the snapshot; 0 for an object.
    pub seq: u64,
    /// Of the object; zero for a snapshot.
    pub name: Digest,
}

/// Says which object stands for a listed one from here on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SupersedeRow {
    /// Whose.
    pub device: DeviceId,
    /// As a header lists it.
    pub listed: Digest,
    /// The object now; zero in an INVENTORY if none has to exist.
    pub current: Digest,
    /// Of the object now, in bytes; 0 if none has to exist.
    pub length: u32,
}

impl SupersedeRow {
    /// The row of an object that no longer has to exist: of an INVENTORY alone.
    #[must_use]
    pub fn purged(device: DeviceId, listed: Digest) -> Self {
        Self { device, listed, current: Digest([0; 32]), length: 0 }
    }

    /// Whether it says that the object no longer has to exist.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        self.current == Digest([0; 32])
    }
}

/// Names a listed object that doesn't have to exist any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PurgeRow {
    /// Whose.
    pub device: DeviceId,
    /// As a header lists it.
    pub listed: Digest,
}

/// A row of a list: fixed length, ordered.
pub trait Row: Sized + Ord {
    /// Which list it stands in.
    const LIST: ListType;
    /// Its bytes.
    const BYTES: usize;
    /// Writes it.
    fn write(&self, out: &mut Writer);
    /// Reads it.
    ///
    /// # Errors
    /// If the layout is broken.
    fn read(from: &mut Reader<'_>) -> Result<Self, codec::Error>;
}

impl Row for ForgetRow {
    const LIST: ListType = ListType::Forget;
    const BYTES: usize = 56;

    fn write(&self, out: &mut Writer) {
        out.bytes(&self.device.0).u64(self.seq).bytes(&self.name.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let row = Self { device: DeviceId(from.array()?), seq: from.u64()?, name: Digest(from.array()?) };
        if (row.seq == 0) == (row.name == Digest([0; 32])) {
            return Err(codec::Error::NotCanonical("forgotten name"));
        }
        Ok(row)
    }
}

impl Row for SupersedeRow {
    const LIST: ListType = ListType::Supersede;
    const BYTES: usize = 84;

    fn write(&self, out: &mut Writer) {
        out.bytes(&self.device.0).bytes(&self.listed.0).bytes(&self.current.0).u32(self.length);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let row = Self {
            device: DeviceId(from.array()?),
            listed: Digest(from.array()?),
            current: Digest(from.array()?),
            length: from.u32()?,
        };
        if row.is_purged() != (row.length == 0) {
            return Err(codec::Error::NotCanonical("length of a current object"));
        }
        Ok(row)
    }
}

impl Row for PurgeRow {
    const LIST: ListType = ListType::Purge;
    const BYTES: usize = 48;

    fn write(&self, out: &mut Writer) {
        out.bytes(&self.device.0).bytes(&self.listed.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        Ok(Self { device: DeviceId(from.array()?), listed: Digest(from.array()?) })
    }
}

/// Encodes `rows`, sorted, none twice.
#[must_use]
pub fn encode_list<R: Row>(vault: VaultId, rows: &[R]) -> Vec<u8> {
    let mut out = Writer::with_capacity(32 + rows.len() * R::BYTES);
    out.bytes(LIST_MAGIC).bytes(&vault.0).u8(R::LIST.byte()).zeros(3).count(rows.len());
    for row in rows {
        row.write(&mut out);
    }
    out.finish()
}

/// Reads a list of rows of type `R`.
///
/// # Errors
/// [`Error::Layout`] if it is not such a list, of this vault, sorted, with no row twice.
pub fn decode_list<R: Row>(vault: VaultId, bytes: &[u8]) -> Result<Vec<R>, Error> {
    let mut from = Reader::new(bytes);
    from.exactly(&LIST_MAGIC[..6], "magic")?;
    if from.array::<2>()? != [1, 0] {
        return Err(Error::Newer);
    }
    from.exactly(&vault.0, "vault")?;
    from.exactly(&[R::LIST.byte(), 0, 0, 0], "type")?;
    let count = from.count(R::BYTES)?;
    let rows = (0..count).map(|_| R::read(&mut from)).collect::<Result<Vec<R>, _>>()?;
    from.finish()?;
    if rows.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(codec::Error::NotCanonical("order").into());
    }
    Ok(rows)
}

fn write_head(out: &mut Writer, head: &Head) {
    out.bytes(&head.device.0).u64(head.seq).bytes(&head.digest.0);
}

fn read_head(from: &mut Reader<'_>) -> Result<Head, codec::Error> {
    Ok(Head { device: DeviceId(from.array()?), seq: from.u64()?, digest: Digest(from.array()?) })
}

/// Writes heads behind their count.
pub fn write_heads(out: &mut Writer, heads: &[Head]) {
    out.count(heads.len());
    for head in heads {
        write_head(out, head);
    }
}

/// Reads heads behind their count: one a device, in the order of the ids.
///
/// # Errors
/// If the layout is broken.
pub fn read_heads(from: &mut Reader<'_>) -> Result<Vec<Head>, codec::Error> {
    let count = from.count(56)?;
    let heads = (0..count).map(|_| read_head(from)).collect::<Result<Vec<_>, _>>()?;
    ascending(&heads, |head| head.device, "devices of the heads")?;
    Ok(heads)
}

fn write_list_ref(out: &mut Writer, list: &ListRef) {
    out.bytes(&list.digest.0).u32(list.length).u32(list.rows);
}

fn read_list_ref(from: &mut Reader<'_>) -> Result<ListRef, codec::Error> {
    Ok(ListRef { digest: Digest(from.array()?), length: from.u32()?, rows: from.u32()? })
}

pub(crate) fn read_verifying_key(from: &mut Reader<'_>) -> Result<VerifyingKey, codec::Error> {
    VerifyingKey::from_bytes(&from.array()?).map_err(|_| codec::Error::NotCanonical("verifying key"))
}

pub(crate) fn read_kem_key(from: &mut Reader<'_>) -> Result<KemPublicKey, codec::Error> {
    KemPublicKey::from_bytes(from.bytes(1216)?).ok_or(codec::Error::NotCanonical("sealing key"))
}

fn ascending<T, K: Ord>(rows: &[T], key: impl Fn(&T) -> K, field: &'static str) -> Result<(), codec::Error> {
    if rows.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])) {
        Ok(())
    } else {
        Err(codec::Error::NotCanonical(field))
    }
}

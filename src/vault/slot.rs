//! The slot table: one way in for each person, every one a recipient of the same read key.
//!
//! A slot owns a KEM key pair. What a person holds (passphrase, file, code) locks the pair's seed;
//! the pair's public key lets any later generation of keys be wrapped to the slot without them.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::derive::derive;
use crate::crypto::digest;
use crate::crypto::kdf;
use crate::crypto::kdf::Argon2Settings;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;
use crate::crypto::sign::SigningKey;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::SlotId;
use crate::seal::cseal;
use crate::vault::authority::damaged;
use crate::vault::error::Error;

const MAGIC: &[u8; 8] = b"SRSLOT\x01\x00";
const MAC_BYTES: usize = 32;
/// kind, role, 2 zero, slot id, log key, KEM ciphertext: what the wrap's context covers.
const HEAD_BYTES: usize = 4 + 16 + 32 + KEM_CIPHERTEXT_BYTES;
const KEM_CIPHERTEXT_BYTES: usize = 1120;
const WRAP_BYTES: usize = 96 + cseal::OVERHEAD_BYTES;
const LOCK_BYTES: usize = 64 + cseal::OVERHEAD_BYTES;
/// The most slots that a table has.
pub const SLOTS_MAX: usize = 255;
/// The most that a slot table has, in bytes.
pub const TABLE_BYTES_MAX: u64 = 1 << 20;
/// How many passphrase slots are tried with one passphrase before giving up.
pub const STRETCHES_MAX: usize = 8;

/// What a slot's holder may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Everything.
    Owner,
    /// List, verify, restore, drill.
    Reader,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Reader => "reader",
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Owner => 1,
            Self::Reader => 2,
        }
    }
}

/// How a slot's secret is locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lock {
    /// By a passphrase.
    Passphrase(Stretch, [u8; LOCK_BYTES]),
    /// By a passphrase and a key file together, so that a guess can't be tested without the file.
    Joint(Stretch, [u8; LOCK_BYTES]),
    /// By a key file.
    KeyFile([u8; LOCK_BYTES]),
    /// By a recovery code.
    RecoveryCode([u8; LOCK_BYTES]),
    /// By `threshold` of `count` cards.
    Cards {
        /// Which set of cards.
        set: [u8; 8],
        /// How many are needed.
        threshold: u8,
        /// How many were made.
        count: u8,
        /// The lock.
        lock: [u8; LOCK_BYTES],
    },
    /// By nothing of ours: the KEM key is the recipient's own.
    Recipient,
}

/// How a passphrase is stretched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Cost.
    pub settings: Argon2Settings,
    /// Of this slot alone.
    pub salt: [u8; 32],
}

impl Lock {
    /// The word for a lock that takes several things.
    pub const CARDS: &str = "cards";
    /// The word for a lock that is somebody's own key.
    pub const RECIPIENT: &str = "outside recipient";

    fn byte(&self) -> u8 {
        match self {
            Self::Passphrase(..) => 1,
            Self::Joint(..) => 2,
            Self::KeyFile(_) => 3,
            Self::RecoveryCode(_) => 4,
            Self::Cards { .. } => 5,
            Self::Recipient => 6,
        }
    }

    /// The words for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passphrase(..) => "passphrase",
            Self::Joint(..) => "passphrase + key file",
            Self::KeyFile(_) => "key file",
            Self::RecoveryCode(_) => "recovery code",
            Self::Cards { .. } => Self::CARDS,
            Self::Recipient => Self::RECIPIENT,
        }
    }

    /// Whether it is written down to be kept for the day when all else is lost: a recovery code, or cards.
    #[must_use]
    pub fn is_code(&self) -> bool {
        matches!(self, Self::RecoveryCode(_) | Self::Cards { .. })
    }

    /// The fields before the lock itself.
    fn write_settings(&self, out: &mut Writer) {
        match self {
            Self::Passphrase(stretch, _) | Self::Joint(stretch, _) => write_stretch(out, stretch),
            Self::Cards { set, threshold, count, .. } => {
                out.bytes(set).u8(*threshold).u8(*count).zeros(6);
            }
            Self::KeyFile(_) | Self::RecoveryCode(_) | Self::Recipient => {}
        }
    }

    fn lock(&self) -> &[u8] {
        match self {
            Self::Passphrase(_, lock)
            | Self::Joint(_, lock)
            | Self::KeyFile(lock)
            | Self::RecoveryCode(lock)
            | Self::Cards { lock, .. } => lock,
            Self::Recipient => &[],
        }
    }

    fn write(&self, out: &mut Writer) {
        self.write_settings(out);
        out.bytes(self.lock());
    }

    fn read(kind: u8, from: &mut Reader<'_>) -> Result<Self, TableError> {
        Ok(match kind {
            1 => Self::Passphrase(read_stretch(from)?, from.array()?),
            2 => Self::Joint(read_stretch(from)?, from.array()?),
            3 => Self::KeyFile(from.array()?),
            4 => Self::RecoveryCode(from.array()?),
            5 => {
                let set = from.array()?;
                let (threshold, count) = (from.u8()?, from.u8()?);
                from.zeros(6)?;
                Self::Cards { set, threshold, count, lock: from.array()? }
            }
            6 => Self::Recipient,
            _ => return Err(TableError::Newer),
        })
    }
}

/// One way in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// What its holder may do.
    pub role: Role,
    /// Its random name.
    pub id: SlotId,
    /// Verifies the entries of its holder's log.
    pub log_key: [u8; 32],
    /// What holds its secret.
    pub lock: Lock,
    kem_ciphertext: Box<[u8; KEM_CIPHERTEXT_BYTES]>,
    wrap: [u8; WRAP_BYTES],
}

/// What an owner knows of a slot so that later keys can be wrapped to it: it stands in the admin ring.
pub struct SlotKeys {
    /// The slot.
    pub id: SlotId,
    /// Sealed to.
    pub kem_key: KemPublicKey,
    /// Mixed into the wrap's key.
    pub psk: Secret<32>,
    /// Seed of the key that signs its holder's log.
    pub log_seed: Secret<32>,
    /// What people call it.
    pub label: String,
}

/// The keys that every slot leads to.
pub struct RootKeys {
    /// Opens the read ring.
    pub read: Secret<32>,
    /// Opens the admin ring; readers have none.
    pub admin: Option<Secret<32>>,
}

/// What the holder of a slot has once it is open.
pub struct OpenedSlot {
    /// Which.
    pub id: SlotId,
    /// What its holder may do.
    pub role: Role,
    /// The keys it leads to.
    pub root: RootKeys,
    /// Seed of the key that signs this person's log.
    pub log_seed: Secret<32>,
    /// What the slot's lock held: it opens the slot in later generations too, without its holder.
    secret: SlotSecret,
}

/// What a slot's lock holds.
struct SlotSecret {
    kem: KemSecretKey,
    psk: Secret<32>,
}

/// The secrets that a person brings to open a vault, or to make a slot of.
#[derive(Default)]
pub struct Way {
    /// UTF-8, NFC.
    pub passphrase: Option<SecretBytes>,
    /// The secret in a key file.
    pub key_file: Option<Secret<32>>,
    /// 160 bits.
    pub recovery_code: Option<Secret<20>>,
    /// What a set of cards shares.
    pub cards: Option<CardSet>,
    /// Outside recipients' own keys; they open slots and make none.
    pub identities: Vec<KemSecretKey>,
    /// Whether settings above the program's own are tried too.
    pub allow_expensive_kdf: bool,
}

/// A secret that enough cards of one set give.
pub struct CardSet {
    /// Which set.
    pub set: [u8; 8],
    /// How many cards are needed.
    pub threshold: u8,
    /// How many were made.
    pub count: u8,
    /// What they share.
    pub secret: Secret<32>,
}

/// Why bytes are no slot table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableError {
    /// The layout is broken.
    Layout(codec::Error),
    /// A version, kind or role that this version doesn't know.
    Newer,
}

impl From<codec::Error> for TableError {
    fn from(error: codec::Error) -> Self {
        Self::Layout(error)
    }
}

/// All ways in of one generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotTable {
    /// Whose keys are wrapped here.
    pub generation: u32,
    /// In the order in which they were added.
    pub slots: Vec<Slot>,
    mac: [u8; MAC_BYTES],
}

/// Makes a new slot's secret and locks it with `way`, under the program's own policy.
///
/// The kind follows from what `way` holds: passphrase and key file together make one joint slot.
///
/// # Errors
/// [`Error::WrongKey`] if `way` holds nothing; [`Error::Memory`] if a passphrase takes more memory than
/// there is; [`Error::TooMuch`] if `settings` are out of bounds.
pub fn generate(
    fingerprint: &Fingerprint,
    role: Role,
    way: &Way,
    settings: &Argon2Settings,
    label: &str,
) -> Result<(SlotKeys, Lock), Error> {
    let id = SlotId(random::bytes());
    let secret = Secret::<64>::generate();
    let keys = SlotKeys {
        id,
        kem_key: KemSecretKey::from_seed(secret.part::<32>(0)).public(),
        psk: secret.part::<32>(32),
        log_seed: Secret::generate(),
        label: label.to_owned(),
    };
    let lock = lock_secret(fingerprint, role, &id, way, settings, &secret)?;
    Ok((keys, lock))
}

/// A slot for somebody whose key is his own: nothing of ours locks it.
///
/// Its psk is zero, so it rests on the KEM alone.
#[must_use]
pub fn for_recipient(kem_key: KemPublicKey, label: &str) -> (SlotKeys, Lock) {
    let keys = SlotKeys {
        id: SlotId(random::bytes()),
        kem_key,
        psk: no_psk(),
        log_seed: Secret::generate(),
        label: label.to_owned(),
    };
    (keys, Lock::Recipient)
}

/// Locks an open slot's secret anew with the same `way`, under the program's own settings.
///
/// # Errors
/// As [`generate`].
pub fn relock(
    fingerprint: &Fingerprint,
    opened: &OpenedSlot,
    way: &Way,
    settings: &Argon2Settings,
) -> Result<Lock, Error> {
    let OpenedSlot { secret: SlotSecret { kem, psk }, .. } = opened;
    let secret = kem.seed().expose(|seed| psk.expose(|psk| Secret::<64>::concat(&[seed, psk])));
    lock_secret(fingerprint, opened.role, &opened.id, way, settings, &secret)
}

/// Locks a slot's secret with what `way` holds, which says the kind of the lock.
fn lock_secret(
    fingerprint: &Fingerprint,
    role: Role,
    id: &SlotId,
    way: &Way,
    settings: &Argon2Settings,
    secret: &Secret<64>,
) -> Result<Lock, Error> {
    let stretch = || Stretch { settings: *settings, salt: random::bytes() };
    let empty = [0; LOCK_BYTES];
    let mut lock = match (&way.passphrase, &way.key_file, &way.recovery_code, &way.cards) {
        (Some(_), None, None, None) => Lock::Passphrase(stretch(), empty),
        (Some(_), Some(_), None, None) => Lock::Joint(stretch(), empty),
        (None, Some(_), None, None) => Lock::KeyFile(empty),
        (None, None, Some(_), None) => Lock::RecoveryCode(empty),
        (None, None, None, Some(cards)) => {
            let CardSet { set, threshold, count, .. } = *cards;
            Lock::Cards { set, threshold, count, lock: empty }
        }
        _ => return Err(Error::WrongKey),
    };
    let kek = derive_kek(fingerprint, &lock, way)
        .map_err(|error| match error {
            kdf::Error::Memory(kib) => Error::Memory { kib },
            kdf::Error::Settings(_) => {
                Error::TooMuch { what: "KiB or passes in the settings for passphrases" }
            }
        })?
        .expect("the lock's kind was chosen by what the way holds");
    let context = lock_context(fingerprint, role, id, &lock);
    let sealed = kek.expose(|kek| secret.expose(|secret| cseal::wrap(kek, "slot-lock", &context, secret)));
    let sealed: [u8; LOCK_BYTES] =
        sealed.try_into().expect("a sealed 64-byte secret has the length of a lock");
    match &mut lock {
        Lock::Passphrase(_, lock)
        | Lock::Joint(_, lock)
        | Lock::KeyFile(lock)
        | Lock::RecoveryCode(lock)
        | Lock::Cards { lock, .. } => *lock = sealed,
        Lock::Recipient => {}
    }
    Ok(lock)
}

impl SlotTable {
    /// Wraps `root` to every slot.
    ///
    /// Readers get a zero admin key: the layout doesn't tell the roles apart by length.
    ///
    /// # Panics
    /// If there are over 255 slots: the commands that add one refuse it before.
    #[must_use]
    pub fn wrap(
        fingerprint: &Fingerprint,
        generation: u32,
        slots: &[(Role, &SlotKeys, Lock)],
        read: &Secret<32>,
        admin: &Secret<32>,
    ) -> Self {
        assert!(slots.len() <= SLOTS_MAX, "commands refuse a slot beyond the last");
        let slots = slots
            .iter()
            .map(|(role, keys, lock)| {
                let (ciphertext, shared) = keys.kem_key.encapsulate();
                let log_key = *SigningKey::from_seed(keys.log_seed.duplicate()).public().as_bytes();
                let mut slot = Slot {
                    role: *role,
                    id: keys.id,
                    log_key,
                    lock: lock.clone(),
                    kem_ciphertext: Box::new(ciphertext),
                    wrap: [0; WRAP_BYTES],
                };
                let zero = [0; 32];
                let plaintext: Secret<96> = read.expose(|read| {
                    admin.expose(|admin| {
                        let admin = if *role == Role::Owner { admin } else { &zero };
                        keys.log_seed.expose(|log| Secret::concat(&[read, admin, log]))
                    })
                });
                let context = wrap_context(fingerprint, generation, &slot, &keys.kem_key);
                let wrapped = wrap_key(&shared, &keys.psk)
                    .expose(|key| plaintext.expose(|bytes| cseal::wrap(key, "slot-wrap", &context, bytes)));
                slot.wrap = wrapped.try_into().expect("96 sealed bytes have the length of a wrap");
                slot
            })
            .collect();
        let mut table = Self { generation, slots, mac: [0; MAC_BYTES] };
        table.mac = table.mac_under(fingerprint, read);
        table
    }

    /// Encodes it for the vault that `fingerprint` names.
    #[must_use]
    pub fn encode(&self, fingerprint: &Fingerprint) -> Vec<u8> {
        let mut out = self.encode_unauthenticated(fingerprint);
        out.bytes(&self.mac);
        out.finish()
    }

    fn encode_unauthenticated(&self, fingerprint: &Fingerprint) -> Writer {
        let mut out = Writer::new();
        out.bytes(MAGIC).bytes(&fingerprint.vault_id().0).u32(self.generation);
        out.u8(u8::try_from(self.slots.len()).expect("a table has at most 255 slots")).zeros(3);
        for slot in &self.slots {
            out.bytes(&slot.head()).bytes(&slot.wrap);
            slot.lock.write(&mut out);
        }
        out
    }

    /// Reads a table; nothing in it is believed before [`SlotTable::unlock`].
    ///
    /// # Errors
    /// [`TableError::Layout`] if the layout is broken or it is another vault's;
    /// [`TableError::Newer`] for a version, kind or role that this version doesn't know.
    pub fn decode(fingerprint: &Fingerprint, bytes: &[u8]) -> Result<Self, TableError> {
        let mut from = Reader::new(bytes);
        from.exactly(&MAGIC[..6], "magic")?;
        if from.array::<2>()? != [1, 0] {
            return Err(TableError::Newer);
        }
        from.exactly(&fingerprint.vault_id().0, "vault")?;
        let generation = from.u32()?;
        let count = from.u8()?;
        from.zeros(3)?;
        let mut slots = Vec::new();
        for _ in 0..count {
            let kind = from.u8()?;
            let role = match from.u8()? {
                1 => Role::Owner,
                2 => Role::Reader,
                _ => return Err(TableError::Newer),
            };
            from.zeros(2)?;
            let id = SlotId(from.array()?);
            let log_key = from.array()?;
            let kem_ciphertext = Box::new(from.array()?);
            let wrap = from.array()?;
            let lock = Lock::read(kind, &mut from)?;
            slots.push(Slot { role, id, log_key, lock, kem_ciphertext, wrap });
        }
        let mac = from.array()?;
        from.finish()?;
        Ok(Self { generation, slots, mac })
    }

    /// Opens the first slot that `way` fits, an owner's before a reader's: what opens both is to do all it can.
    ///
    /// Settings out of bounds are refused before anything is allocated for them.
    ///
    /// # Errors
    /// [`Error::NoSlotForKey`] if no slot takes such a key, and [`Error::OtherCards`]; [`Error::WrongKey`] if none opens;
    /// [`Error::ExpensiveKdf`]; [`Error::Memory`]; [`Error::Damaged`] if a slot opens and the table is not of one piece.
    pub fn unlock(
        &self,
        fingerprint: &Fingerprint,
        name: &ObjectName,
        way: &Way,
    ) -> Result<OpenedSlot, Error> {
        let mut tried = false;
        let mut stretches = 0;
        // What kept a slot from being tried at all.
        let mut untried = None;
        if let Some(opened) = self.unlock_with_identities(fingerprint, name, way, &mut tried)? {
            return Ok(opened);
        }
        for slot in self.owners_first() {
            if let Lock::Passphrase(stretch, _) | Lock::Joint(stretch, _) = &slot.lock {
                let fits = way.passphrase.is_some()
                    && (matches!(slot.lock, Lock::Passphrase(..)) || way.key_file.is_some());
                if !fits {
                    continue;
                }
                // One slot that asks for much doesn't keep the others' holders out.
                if let Err(error) = check_settings(stretch, name, way) {
                    untried = untried.or(Some(error));
                    continue;
                }
                if stretches == STRETCHES_MAX {
                    continue;
                }
                stretches += 1;
            }
            let kek = match derive_kek(fingerprint, &slot.lock, way) {
                Ok(Some(kek)) => kek,
                Ok(None) => continue,
                Err(kdf::Error::Memory(kib)) => {
                    untried = untried.or(Some(Error::Memory { kib }));
                    continue;
                }
                Err(error) => return Err(damaged(name, &error.to_string())),
            };
            tried = true;
            let context = lock_context(fingerprint, slot.role, &slot.id, &slot.lock);
            let secret = kek.expose(|kek| cseal::unwrap(kek, "slot-lock", &context, slot.lock.lock()));
            match secret {
                Err(cseal::Error::WrongKey) => {}
                Err(error) => {
                    return Err(damaged(name, &format!("a slot: {error}")));
                }
                Ok(secret) => {
                    let secret = secret
                        .expose(Secret::<64>::from_slice)
                        .ok_or_else(|| damaged(name, "a slot's secret has another length"))?;
                    let kem = KemSecretKey::from_seed(secret.part::<32>(0));
                    let secret = SlotSecret { kem, psk: secret.part::<32>(32) };
                    let opened = self.open_slot(fingerprint, name, slot, secret)?;
                    return opened.ok_or_else(|| damaged(name, "a slot's keys don't open with its secret"));
                }
            }
        }
        if let Some(error) = untried {
            return Err(error);
        }
        if tried {
            return Err(Error::WrongKey);
        }
        let sets = self.slots.iter().filter_map(|slot| match slot.lock {
            Lock::Cards { set, .. } => Some(set),
            _ => None,
        });
        match (&way.cards, sets.collect::<Vec<_>>()) {
            (Some(cards), known) if !known.is_empty() => {
                return Err(Error::OtherCards { given: cards.set, known });
            }
            _ => {}
        }
        let mut kinds: Vec<&str> = self.slots.iter().map(|slot| slot.lock.word()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        Err(Error::NoSlotForKey { kinds })
    }

    /// All slots in the order in which they are tried.
    fn owners_first(&self) -> impl Iterator<Item = &Slot> {
        let of = |role| self.slots.iter().filter(move |slot| slot.role == role);
        of(Role::Owner).chain(of(Role::Reader))
    }

    /// Tries outside recipients' keys: which slot is whose can't be seen from outside.
    fn unlock_with_identities(
        &self,
        fingerprint: &Fingerprint,
        name: &ObjectName,
        way: &Way,
        tried: &mut bool,
    ) -> Result<Option<OpenedSlot>, Error> {
        for slot in self.owners_first().filter(|slot| slot.lock == Lock::Recipient) {
            for identity in &way.identities {
                *tried = true;
                let kem = KemSecretKey::from_seed(identity.seed().duplicate());
                let secret = SlotSecret { kem, psk: no_psk() };
                if let Some(opened) = self.open_slot(fingerprint, name, slot, secret)? {
                    return Ok(Some(opened));
                }
            }
        }
        Ok(None)
    }

    /// Opens the same slot in this generation, its holder not being asked again.
    ///
    /// # Errors
    /// [`Error::SlotGone`] if the slot was taken away or replaced; [`Error::Damaged`].
    pub fn reopen(
        &self,
        fingerprint: &Fingerprint,
        name: &ObjectName,
        before: &OpenedSlot,
    ) -> Result<OpenedSlot, Error> {
        let slot = self.slots.iter().find(|slot| slot.id == before.id).ok_or(Error::SlotGone)?;
        self.open_slot(fingerprint, name, slot, before.secret.duplicate())?.ok_or(Error::SlotGone)
    }

    /// Opens a slot with the secret that its lock holds; `None` if it is another's.
    fn open_slot(
        &self,
        fingerprint: &Fingerprint,
        name: &ObjectName,
        slot: &Slot,
        secret: SlotSecret,
    ) -> Result<Option<OpenedSlot>, Error> {
        // A ciphertext made for another key gives another secret, and no error but for forged ones.
        let Ok(shared) = secret.kem.decapsulate(&slot.kem_ciphertext) else { return Ok(None) };
        let context = wrap_context(fingerprint, self.generation, slot, &secret.kem.public());
        let opened = wrap_key(&shared, &secret.psk)
            .expose(|key| cseal::unwrap(key, "slot-wrap", &context, &slot.wrap));
        let opened = match opened {
            Err(cseal::Error::WrongKey) => return Ok(None),
            opened => opened.map_err(|error| damaged(name, &format!("a slot: {error}")))?,
        };
        let opened = opened
            .expose(Secret::<96>::from_slice)
            .ok_or_else(|| damaged(name, "a slot's keys have another length"))?;
        let read = opened.part::<32>(0);
        if !digest::equal(&self.mac_under(fingerprint, &read), &self.mac) {
            return Err(damaged(name, "its slots are not of one piece"));
        }
        let admin = (slot.role == Role::Owner).then(|| opened.part::<32>(32));
        Ok(Some(OpenedSlot {
            id: slot.id,
            role: slot.role,
            root: RootKeys { read, admin },
            log_seed: opened.part::<32>(64),
            secret,
        }))
    }

    /// Binds all slots to one read key.
    fn mac_under(&self, fingerprint: &Fingerprint, read: &Secret<32>) -> [u8; MAC_BYTES] {
        let key = read.expose(|read| derive::<32>(read, &[], "slots-mac", &fingerprint.0));
        digest::keyed(&key, &[self.encode_unauthenticated(fingerprint).as_slice()])
    }
}

impl Slot {
    fn head(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(HEAD_BYTES);
        out.u8(self.lock.byte()).u8(self.role.byte()).zeros(2).bytes(&self.id.0).bytes(&self.log_key);
        out.bytes(self.kem_ciphertext.as_slice());
        out.finish()
    }
}

/// The key-encryption key that `way` gives for a lock of this kind, if it holds what that takes.
fn derive_kek(fingerprint: &Fingerprint, lock: &Lock, way: &Way) -> Result<Option<Secret<32>>, kdf::Error> {
    let stretched = |stretch: &Stretch, passphrase: &SecretBytes| {
        kdf::stretch(passphrase, &stretch.salt, &stretch.settings)
    };
    if let (Lock::Cards { set, threshold, count, .. }, Some(cards)) = (lock, &way.cards) {
        let same = (*set, *threshold, *count) == (cards.set, cards.threshold, cards.count);
        return Ok(same.then(|| cards.secret.duplicate()));
    }
    Ok(match (lock, &way.passphrase, &way.key_file, &way.recovery_code) {
        (Lock::Passphrase(stretch, _), Some(passphrase), _, _) => Some(stretched(stretch, passphrase)?),
        (Lock::Joint(stretch, _), Some(passphrase), Some(file), _) => {
            let stretched = stretched(stretch, passphrase)?;
            let both: Secret<64> =
                stretched.expose(|first| file.expose(|second| Secret::concat(&[first, second])));
            Some(both.expose(|both| derive(both, &[], "joint", &fingerprint.0)))
        }
        (Lock::KeyFile(_), _, Some(file), _) => Some(file.duplicate()),
        (Lock::RecoveryCode(_), _, _, Some(code)) => {
            Some(code.expose(|code| derive(code, &[], "code", &fingerprint.0)))
        }
        _ => None,
    })
}

impl SlotSecret {
    fn duplicate(&self) -> Self {
        Self { kem: KemSecretKey::from_seed(self.kem.seed().duplicate()), psk: self.psk.duplicate() }
    }
}

impl SlotKeys {
    /// A second copy, for a second owner.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            id: self.id,
            kem_key: self.kem_key.clone(),
            psk: self.psk.duplicate(),
            log_seed: self.log_seed.duplicate(),
            label: self.label.clone(),
        }
    }
}

/// What stands for the pre-shared key of an outside recipient.
fn no_psk() -> Secret<32> {
    Secret::filled(|_| {})
}

fn check_settings(stretch: &Stretch, name: &ObjectName, way: &Way) -> Result<(), Error> {
    let settings = &stretch.settings;
    let asked = || {
        let Argon2Settings { memory_kib, passes, lanes } = settings;
        format!("{memory_kib} KiB of memory, {passes} passes and {lanes} lanes")
    };
    let within = settings.check().is_ok();
    let own = &Argon2Settings::DEFAULT;
    let usual = settings.memory_kib <= own.memory_kib && settings.passes <= own.passes;
    if within && (usual || way.allow_expensive_kdf) {
        return Ok(());
    }
    Err(Error::ExpensiveKdf { name: name.clone(), asked: asked() })
}

fn lock_context(fingerprint: &Fingerprint, role: Role, id: &SlotId, lock: &Lock) -> Vec<u8> {
    let mut out = Writer::new();
    out.bytes(&fingerprint.0).u8(lock.byte()).u8(role.byte()).bytes(&id.0);
    lock.write_settings(&mut out);
    out.finish()
}

fn wrap_context(fingerprint: &Fingerprint, generation: u32, slot: &Slot, kem_key: &KemPublicKey) -> Vec<u8> {
    let mut out = Writer::new();
    out.bytes(&fingerprint.0).u32(generation).bytes(&slot.head()).bytes(kem_key.as_bytes());
    out.finish()
}

fn wrap_key(shared: &Secret<32>, psk: &Secret<32>) -> Secret<64> {
    shared.expose(|shared| psk.expose(|psk| Secret::concat(&[shared, psk])))
}

fn write_stretch(out: &mut Writer, stretch: &Stretch) {
    out.u32(stretch.settings.memory_kib).u8(stretch.settings.passes).u8(stretch.settings.lanes).zeros(2);
    out.bytes(&stretch.salt);
}

fn read_stretch(from: &mut Reader<'_>) -> Result<Stretch, codec::Error> {
    let settings = Argon2Settings { memory_kib: from.u32()?, passes: from.u8()?, lanes: from.u8()? };
    from.zeros(2)?;
    Ok(Stretch { settings, salt: from.array()? })
}

//! A device: the keys with which a machine adds snapshots and can't read them, and what it remembers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::derive::derive;
use crate::crypto::digest;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;
use crate::crypto::sign::SigningKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::seal::cseal;
use crate::seal::pseal;
use crate::seal::pseal::Check;
use crate::seal::pseal::Kind;
use crate::seal::pseal::Sealed;
use crate::seal::pseal::Sealer;
use crate::store;
use crate::store::Store;
use crate::store::state::StateDir;
use crate::store::state::StateLock;
use crate::vault::authority::Device;
use crate::vault::authority::Log;
use crate::vault::authority::Vouched;
use crate::vault::authority::damaged;
use crate::vault::body::Body;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::header::Header;
use crate::vault::header::NewObject;
use crate::vault::header::SignedHeader;
use crate::vault::history;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::namer::Namer;
use crate::vault::pins::PINS_BYTES_MAX;
use crate::vault::pins::Pins;
use crate::vault::receipt::Receipt;
use crate::vault::record::Head;
use crate::vault::reseed::Reseed;

const KEY_MAGIC: &[u8; 8] = b"SRDEVK\x01\x00";
/// Device id, three secrets.
const SECRETS_BYTES: usize = 16 + 96;
/// magic, F, and those.
const KEY_BYTES: usize = 8 + 32 + SECRETS_BYTES;
/// The file with the device's own secrets; the only one in the clear.
pub const KEY_FILE: &str = "device.key";
const GRANT_FILE: &str = "grant";
const PINS_FILE: &str = "pins";
const COMMIT_FILE: &str = "commit";
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
const STATE_BYTES_MAX: u64 = 64 << 20;

/// A device's own secrets, drawn on the device; they never leave it (a sealed file's stay in its ring).
pub struct DeviceKeys {
    /// Its pseudonym.
    pub device: DeviceId,
    /// Signs its headers.
    pub signing: SigningKey,
    /// Opens its messages.
    pub kem: KemSecretKey,
    own: Secret<32>,
}

/// What an owner's messages gave the device.
struct Grant {
    dedup: Secret<32>,
    psks: BTreeMap<Epoch, Secret<32>>,
    /// How many of its messages it has read.
    read: usize,
}

/// What an owner tells a device.
pub enum Message {
    /// It may add snapshots from this epoch on.
    Grant {
        /// The vault that says so.
        fingerprint: Fingerprint,
        /// From which epoch on.
        epoch: Epoch,
        /// Its pre-shared key of that epoch.
        psk: Secret<32>,
        /// Its dedup secret.
        dedup: Secret<32>,
    },
    /// A new epoch began.
    Epoch {
        /// Which.
        epoch: Epoch,
        /// Its pre-shared key of that epoch.
        psk: Secret<32>,
    },
    /// What it has lost.
    Reseed(Reseed),
}

impl Message {
    /// Encodes it, without padding.
    #[must_use]
    pub fn encode(&self) -> SecretBytes {
        let mut out = Writer::with_capacity(128);
        match self {
            Self::Grant { fingerprint, epoch, psk, dedup } => {
                out.u8(1).bytes(&fingerprint.0).u32(epoch.0);
                psk.expose(|psk| out.bytes(psk).len());
                dedup.expose(|dedup| out.bytes(dedup).len());
            }
            Self::Epoch { epoch, psk } => {
                out.u8(2).u32(epoch.0);
                psk.expose(|psk| out.bytes(psk).len());
            }
            Self::Reseed(reseed) => reseed.write(out.u8(3)),
        }
        SecretBytes::new(out.finish())
    }

    /// Reads a message; `None` is one that this version doesn't know.
    ///
    /// # Errors
    /// If the layout is broken.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, codec::Error> {
        let mut from = Reader::new(bytes);
        let secret =
            |from: &mut Reader<'_>| Secret::<32>::from_slice(from.bytes(32)?).ok_or(codec::Error::TooShort);
        let message = match from.u8()? {
            1 => Self::Grant {
                fingerprint: Fingerprint(from.array()?),
                epoch: Epoch(from.u32()?),
                psk: secret(&mut from)?,
                dedup: secret(&mut from)?,
            },
            2 => Self::Epoch { epoch: Epoch(from.u32()?), psk: secret(&mut from)? },
            3 => Self::Reseed(Reseed::read(&mut from)?),
            _ => return Ok(None),
        };
        let padding = from.remaining();
        from.zeros(padding)?;
        Ok(Some(message))
    }
}

impl DeviceKeys {
    /// A new device.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            device: DeviceId(random::bytes()),
            signing: SigningKey::generate(),
            kem: KemSecretKey::generate(),
            own: Secret::generate(),
        }
    }

    /// As the owners' ring of a sealed file holds them.
    #[must_use]
    pub fn encode(&self) -> SecretBytes {
        let mut out = Writer::with_capacity(SECRETS_BYTES);
        self.write(&mut out);
        SecretBytes::new(out.finish())
    }

    /// Reads what [`DeviceKeys::encode`] wrote.
    ///
    /// # Errors
    /// If the layout is another one.
    pub fn decode(bytes: &SecretBytes) -> Result<Self, codec::Error> {
        bytes.expose(|bytes| Self::read(Reader::new(bytes)))
    }

    fn write(&self, out: &mut Writer) {
        out.bytes(&self.device.0);
        self.signing.seed().expose(|seed| out.bytes(seed).len());
        self.kem.seed().expose(|seed| out.bytes(seed).len());
        self.own.expose(|own| out.bytes(own).len());
    }

    fn read(mut from: Reader<'_>) -> Result<Self, codec::Error> {
        let device = DeviceId(from.array()?);
        let mut secret = || Secret::<32>::from_slice(from.bytes(32)?).ok_or(codec::Error::TooShort);
        let (signing, kem, own) = (secret()?, secret()?, secret()?);
        from.finish()?;
        Ok(Self { device, signing: SigningKey::from_seed(signing), kem: KemSecretKey::from_seed(kem), own })
    }

    /// Keeps them in the state folder, readable by this user alone.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn save(&self, fingerprint: &Fingerprint, state: &StateDir) -> Result<(), Error> {
        let mut out = Writer::with_capacity(KEY_BYTES);
        self.write(out.bytes(KEY_MAGIC).bytes(&fingerprint.0));
        let bytes = SecretBytes::new(out.finish());
        bytes
            .expose(|bytes| state.replace(KEY_FILE, bytes))
            .map_err(|error| io_error(state, KEY_FILE, &error))
    }

    /// Reads them from the state folder; `None` if this machine is no device of the vault.
    ///
    /// # Errors
    /// [`Error::State`], also if anybody but this user and root may read or change the file.
    pub fn load(fingerprint: &Fingerprint, state: &StateDir) -> Result<Option<Self>, Error> {
        let file = state.reader(KEY_FILE).map_err(|error| io_error(state, KEY_FILE, &error))?;
        let Some(file) = file else { return Ok(None) };
        // Of the file that is read, not of the name: nothing can be swapped in between.
        let about = file.metadata().map_err(|error| io_error(state, KEY_FILE, &error))?;
        if about.uid() != 0 && about.uid() != rustix::process::geteuid().as_raw() {
            return Err(state_error(state, KEY_FILE, "it belongs to another user"));
        }
        if about.mode() & 0o077 != 0 {
            return Err(state_error(state, KEY_FILE, "others than its owner may read or change it"));
        }
        let mut bytes = Vec::with_capacity(KEY_BYTES);
        file.take(KEY_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| io_error(state, KEY_FILE, &error))?;
        let bytes = SecretBytes::new(bytes);
        let keys = bytes.expose(|bytes| -> Result<Self, codec::Error> {
            let mut from = Reader::new(bytes);
            from.exactly(KEY_MAGIC, "magic")?;
            from.exactly(&fingerprint.0, "vault")?;
            Self::read(from)
        });
        keys.map(Some).map_err(|error| state_error(state, KEY_FILE, &error.to_string()))
    }

    /// Seals what this machine remembers: nothing but this device's key opens it.
    fn protect(&self, fingerprint: &Fingerprint, name: &str, bytes: &[u8]) -> Vec<u8> {
        let context = [&fingerprint.0[..], name.as_bytes()].concat();
        self.state_key(fingerprint).expose(|key| cseal::wrap(key, "local-state", &context, bytes))
    }

    fn unprotect(&self, fingerprint: &Fingerprint, name: &str, sealed: &[u8]) -> Option<SecretBytes> {
        let context = [&fingerprint.0[..], name.as_bytes()].concat();
        self.state_key(fingerprint).expose(|key| cseal::unwrap(key, "local-state", &context, sealed)).ok()
    }

    fn state_key(&self, fingerprint: &Fingerprint) -> Secret<32> {
        self.own.expose(|own| derive(own, &[], "state", &fingerprint.0))
    }

    fn hedge(&self, fingerprint: &Fingerprint) -> Secret<32> {
        self.own.expose(|own| derive(own, &[], "hedge", &fingerprint.0))
    }
}

/// A vault as a device sees it: it can be added to, and nothing in this type can read.
pub struct DeviceVault {
    store: Arc<dyn Store>,
    log: Log,
    keys: DeviceKeys,
    grant: Grant,
    pins: Pins,
    /// The device's newest header in the vault.
    head: Option<Head>,
    /// Places of its chain whose headers came too late to count; none if that couldn't be told.
    late: Option<BTreeSet<u64>>,
    namer: Namer,
    sealer: Sealer,
    has_sealed: AtomicBool,
    checks_whole: bool,
    state: StateDir,
    _lock: StateLock,
}

/// A snapshot that stands in the vault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Its header.
    pub head: Head,
    /// What names the new state.
    pub receipt: Receipt,
}

impl DeviceVault {
    /// Takes the state for this run, verifies the log from the pin on and reads new messages.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::NotEnrolled`]; [`Error::NotApproved`]; [`Error::Revoked`];
    /// [`Error::Cloned`] if the vault has a header of this device that it didn't make; what
    /// [`Log::load`], [`Pins::check_log`], [`history::newest_header`] and [`history::other_heads`] say.
    pub fn load(store: Arc<dyn Store>, fingerprint: &Fingerprint, state: &StateDir) -> Result<Self, Error> {
        Self::load_from(store, fingerprint, state, None)
    }

    /// The same, where a person on this machine may have `seen` more of the log than the device's pins say.
    ///
    /// # Errors
    /// As [`DeviceVault::load`].
    pub fn load_from(
        store: Arc<dyn Store>,
        fingerprint: &Fingerprint,
        state: &StateDir,
        seen: Option<Vouched>,
    ) -> Result<Self, Error> {
        let Some(keys) = DeviceKeys::load(fingerprint, state)? else {
            return Err(Error::NotEnrolled { fingerprint: *fingerprint });
        };
        let lock = state.lock().map_err(|error| io_error(state, "lock", &error))?;
        let Some(lock) = lock else {
            return Err(Error::Locked { place: state.path().join("lock").display().to_string() });
        };
        let pinned = load_pins(&keys, fingerprint, state)?;
        let vouched = Vouched::newer(pinned.as_ref().map(|pins| pins.log.into()), seen);
        let log = Log::load_from(&*store, Some(fingerprint), vouched)?;
        Self::open(store, log, keys, pinned, state, lock)
    }

    /// The device of a sealed file, which remembers nothing between runs: `log` and `head` were just read
    /// from the file and verified, and stand for its pins.
    ///
    /// # Errors
    /// As [`DeviceVault::load`].
    pub fn of_sealed_file(
        store: Arc<dyn Store>,
        log: Log,
        keys: DeviceKeys,
        head: Option<Head>,
    ) -> Result<Self, Error> {
        let state = StateDir::forgetful();
        let lock = state.lock().map_err(|error| io_error(&state, "lock", &error))?;
        let Some(lock) = lock else { unreachable!("nobody else holds what isn't kept") };
        let mut pins = Pins::new(&log);
        pins.advance(log.head(), head);
        Self::open(store, log, keys, Some(pins), &state, lock)
    }

    fn open(
        store: Arc<dyn Store>,
        log: Log,
        keys: DeviceKeys,
        pinned: Option<Pins>,
        state: &StateDir,
        lock: StateLock,
    ) -> Result<Self, Error> {
        let fingerprint = &log.fingerprint();
        let mut pins = pinned.clone().unwrap_or_else(|| Pins::new(&log));
        pins.check_log(&log)?;
        let known =
            log.devices().get(&keys.device).ok_or(Error::NotApproved { device: keys.device })?.clone();
        if known.revoked.is_some() {
            return Err(Error::Revoked { device: keys.device });
        }
        let grant = current_grant(&*store, &log, &keys, &known, &mut pins, state)?;
        let sealer = sealer(&log, &keys, &grant)?;
        let namer = Namer::derive(fingerprint, &grant.dedup);
        let head = own_head(&*store, &log, &keys, &known, &mut pins, state)?;
        let others = history::other_heads(&*store, &log, keys.device, &pins.heads)?;
        pins.advance(log.head(), others);
        let moved = pinned.as_ref() != Some(&pins);
        let late = history::late_seqs(&*store, &log, keys.device, &known).ok();
        let vault = Self {
            store,
            log,
            keys,
            grant,
            pins,
            head,
            late,
            namer,
            sealer,
            has_sealed: AtomicBool::new(false),
            checks_whole: false,
            state: state.clone(),
            _lock: lock,
        };
        if moved {
            vault.save_pins()?;
        }
        Ok(vault)
    }

    fn save_pins(&self) -> Result<(), Error> {
        save_pins(&self.keys, &self.pins, &self.state)
    }

    /// How this device names chunks.
    #[must_use]
    pub fn namer(&self) -> &Namer {
        &self.namer
    }

    /// The authority log as it stood when it was last read.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The device's pseudonym.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.keys.device
    }

    /// The device's newest snapshot in the vault.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Whether the header at this place of the chain came too late to count, so that what it lists is not
    /// there for anybody; true of all if that can't be told.
    #[must_use]
    pub fn is_late(&self, seq: u64) -> bool {
        self.late.as_ref().is_none_or(|late| late.contains(&seq))
    }

    /// The newest states of other devices that this machine has seen.
    pub fn others(&self) -> impl Iterator<Item = Head> {
        self.pins.heads.values().filter(|head| head.device != self.keys.device).copied()
    }

    /// Whether this device still may list objects sealed under `epoch`.
    #[must_use]
    pub fn is_open(&self, epoch: Epoch) -> bool {
        epoch >= self.log.keys().open && self.grant.psks.contains_key(&epoch)
    }

    /// The epoch that it seals under.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.log.keys().newest
    }

    /// From here on, all of each object is opened again before it is put.
    pub fn check_whole(&mut self) {
        self.checks_whole = true;
    }

    /// Seals one object; `commit_to` as in [`Sealer::seal`]. The first is opened again whole, of the
    /// others a sample.
    ///
    /// # Errors
    /// [`Error::Unfaithful`] if it doesn't open to what it was made of.
    pub fn seal(&self, kind: Kind, parts: &[&[u8]], commit_to: Option<&Digest>) -> Result<Sealed, Error> {
        let is_first = !self.has_sealed.swap(true, Ordering::Relaxed);
        let check = if self.checks_whole || is_first { Check::Whole } else { Check::Sample };
        let header = pseal::Header {
            vault: self.log.fingerprint().vault_id(),
            device: self.keys.device,
            epoch: self.epoch(),
            kind,
        };
        self.sealer.seal(&header, parts, commit_to, check).map_err(Error::Unfaithful)
    }

    /// How a header would list a sealed object.
    ///
    /// # Panics
    /// Never: sealing takes at most 64 MiB.
    #[must_use]
    pub fn object(&self, sealed: &Sealed) -> NewObject {
        let length = u32::try_from(sealed.bytes().len()).expect("a sealed object has at most 64 MiB");
        NewObject { name: sealed.digest(), length }
    }

    /// Stores a sealed object below this device's name.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn put(&self, sealed: &Sealed) -> Result<NewObject, Error> {
        let object = self.object(sealed);
        let NewObject { name: digest, length } = object;
        let name = Place::Pack { device: self.keys.device, digest }.name();
        match self.store.put(&name, sealed.bytes()) {
            // An answer that was lost on its way: what is there under this digest is this.
            Err(store::Error::Exists { .. })
                if self.store.size(&name).is_ok_and(|bytes| bytes == u64::from(length)) => {}
            result => result?,
        }
        Ok(object)
    }

    /// All objects of this device that the store lists, with their lengths.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn stored(&self) -> Result<HashMap<Digest, u64>, Error> {
        let listed = self.store.list(&format!("p/{}/", self.keys.device))?;
        Ok(listed
            .into_iter()
            .filter_map(|listed| match Place::parse(&listed.name) {
                Some(Place::Pack { digest, .. }) => Some((digest, listed.bytes)),
                _ => None,
            })
            .collect())
    }

    /// Reads the log again; true if anything new stands in it. If a new epoch began, what is sealed
    /// from here on is sealed under it: header and key never say different epochs.
    ///
    /// # Errors
    /// As [`Log::load`]; [`Error::Revoked`]; [`Error::NotApproved`] if the new epoch's secrets aren't
    /// there yet; [`Error::Cloned`] if an owner says that the device's chain has gone on without this run.
    pub fn refresh(&mut self) -> Result<bool, Error> {
        let log = self.log.reload(&*self.store)?;
        let known = log.devices().get(&self.keys.device).filter(|device| device.revoked.is_none());
        let known = known.ok_or(Error::Revoked { device: self.keys.device })?;
        let newer = log.head() != self.log.head();
        if newer {
            let grant = current_grant(&*self.store, &log, &self.keys, known, &mut self.pins, &self.state)?;
            self.sealer = sealer(&log, &self.keys, &grant)?;
            self.grant = grant;
            self.late = history::late_seqs(&*self.store, &log, self.keys.device, known).ok();
            // What this run would add stands beside what is there already; the next one goes on from that.
            match self.pins.heads.get(&self.keys.device) {
                Some(head) if Some(*head) != self.head => {
                    return Err(Error::Cloned { device: self.keys.device, seq: head.seq });
                }
                _ => {}
            }
        }
        self.log = log;
        Ok(newer)
    }

    /// Signs and stores the header for `body`: from here on the snapshot exists.
    ///
    /// `objects` are all that no header of this device lists yet, the body among them. The header is
    /// remembered before it is put, so that a run cut off in between knows its own doing.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::State`], [`Error::TooMuch`]; [`Error::Missing`] or [`Error::Damaged`] if
    /// what the store acknowledged isn't there.
    pub fn commit(
        &mut self,
        body: Digest,
        mut objects: Vec<NewObject>,
        now: u64,
    ) -> Result<Committed, Error> {
        objects.sort_unstable();
        objects.dedup();
        if objects.len() > crate::vault::header::OBJECTS_MAX {
            return Err(Error::TooMuch { what: "new objects" });
        }
        let fingerprint = self.log.fingerprint();
        let log = self.log.head();
        let header = Header {
            vault: fingerprint.vault_id(),
            device: self.keys.device,
            epoch: self.epoch(),
            seq: self.head.map_or(0, |head| head.seq) + 1,
            time: now,
            prev: self.head.map_or(Digest([0; 32]), |head| head.digest),
            auth_seq: log.seq,
            auth_head: log.digest,
            body,
            objects,
        };
        self.complete_newest()?;
        let signed = header.sign(&self.keys.signing);
        let head = Head { device: self.keys.device, seq: header.seq, digest: signed.digest() };
        self.remember_commit(&fingerprint, &signed)?;
        let name = signed.place().name();
        fetch::put_twice(&*self.store, &name, signed.bytes())?;
        // The receipt says that it is there: a store that acknowledged and kept nothing is found out now.
        fetch::checked(&*self.store, &name, signed.bytes().len() as u64, |there| {
            if there == signed.bytes() {
                Ok(())
            } else {
                Err(damaged(&name, "it is not what was just stored"))
            }
        })?;
        self.head = Some(head);
        self.pins.advance(log, [head]);
        self.save_pins()?;
        let receipt = Receipt::new(fingerprint.vault_id(), self.log.head(), &head);
        Ok(Committed { head, receipt })
    }

    /// Puts what a run that was cut off left undone at its very end: the second copy of the device's newest
    /// header, or of the newest record, which may be the one that made the device one.
    fn complete_newest(&self) -> Result<(), Error> {
        let log = self.log.head();
        let record = Place::Record { seq: log.seq, digest: first8(&log.digest) };
        fetch::complete(&*self.store, &record.name(), &log.digest)?;
        let Some(head) = self.head else { return Ok(()) };
        let header = Place::Header { device: head.device, seq: head.seq, digest: first8(&head.digest) };
        fetch::complete(&*self.store, &header.name(), &head.digest)
    }

    fn remember_commit(&self, fingerprint: &Fingerprint, signed: &SignedHeader) -> Result<(), Error> {
        let sealed = self.keys.protect(fingerprint, COMMIT_FILE, &signed.digest().0);
        self.state.replace(COMMIT_FILE, &sealed).map_err(|error| io_error(&self.state, COMMIT_FILE, &error))
    }

    /// Seals something that this machine is to remember under `name`.
    #[must_use]
    pub fn protect(&self, name: &str, bytes: &[u8]) -> Vec<u8> {
        self.keys.protect(&self.log.fingerprint(), name, bytes)
    }

    /// Opens what was sealed under the same `name`; `None` if it is anything else.
    #[must_use]
    pub fn unprotect(&self, name: &str, sealed: &[u8]) -> Option<SecretBytes> {
        self.keys.unprotect(&self.log.fingerprint(), name, sealed)
    }

    /// Where this machine keeps what it remembers.
    #[must_use]
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// Seals a body and stores it.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Unfaithful`]; [`Error::TooMuch`] if the body, or a part of it, is longer than any reader takes.
    ///
    /// # Panics
    /// If its indexes are out of order: no reader would take it.
    pub fn put_body(&self, body: &Body) -> Result<NewObject, Error> {
        if let Some(what) = body.excess() {
            return Err(Error::TooMuch { what });
        }
        assert!(crate::vault::body::in_order(&body.indexes), "a backup names the parts of an index in order");
        let bytes = body.encode();
        if bytes.len() as u64 > crate::vault::body::BODY_BYTES_MAX {
            return Err(Error::TooMuch { what: "paths, tags or errors" });
        }
        self.put(&self.seal(Kind::Body, &[&bytes], None)?)
    }
}

/// Pins a vault for a new device and keeps the first state.
///
/// # Errors
/// [`Error::State`].
pub fn pin(keys: &DeviceKeys, log: &Log, state: &StateDir) -> Result<(), Error> {
    save_pins(keys, &Pins::new(log), state)
}

fn save_pins(keys: &DeviceKeys, pins: &Pins, state: &StateDir) -> Result<(), Error> {
    let sealed = keys.protect(&pins.fingerprint, PINS_FILE, &pins.encode());
    state.replace(PINS_FILE, &sealed).map_err(|error| io_error(state, PINS_FILE, &error))
}

/// The pins of this machine's device, for checks that need no key.
///
/// # Errors
/// [`Error::State`].
pub fn device_pins(fingerprint: &Fingerprint, state: &StateDir) -> Result<Option<Pins>, Error> {
    let Some(keys) = DeviceKeys::load(fingerprint, state)? else { return Ok(None) };
    load_pins(&keys, fingerprint, state)
}

fn load_pins(keys: &DeviceKeys, fingerprint: &Fingerprint, state: &StateDir) -> Result<Option<Pins>, Error> {
    let Some(bytes) = load_protected(keys, fingerprint, state, PINS_FILE)? else { return Ok(None) };
    let pins = bytes.expose(Pins::decode);
    pins.map(Some).map_err(|error| state_error(state, PINS_FILE, &error.to_string()))
}

/// Seals a message to a device.
///
/// # Panics
/// If what was just sealed doesn't open: then this machine miscomputes.
#[must_use]
pub fn seal_message(
    fingerprint: &Fingerprint,
    device: DeviceId,
    known: &crate::crypto::kem::KemPublicKey,
    held: Option<(Epoch, Secret<32>)>,
    hedge: Secret<32>,
    message: &Message,
) -> Sealed {
    let (epoch, psk) = held.unwrap_or_else(|| (Epoch(0), pseal::no_psk()));
    let header = pseal::Header { vault: fingerprint.vault_id(), device, epoch, kind: Kind::Message };
    let sealer = Sealer::new(*fingerprint, known.clone(), psk, hedge);
    let sealed = message.encode().expose(|bytes| sealer.seal(&header, &[bytes], None, Check::Whole));
    sealed.expect("what was just sealed opens")
}

/// Seals under the newest epoch of `log`.
fn sealer(log: &Log, keys: &DeviceKeys, grant: &Grant) -> Result<Sealer, Error> {
    let fingerprint = log.fingerprint();
    let psk = grant.psks.get(&log.keys().newest).ok_or(Error::NotApproved { device: keys.device })?;
    let (recipient, hedge) = (log.keys().newest_key.clone(), keys.hedge(&fingerprint));
    Ok(Sealer::new(fingerprint, recipient, psk.duplicate(), hedge))
}

/// Reads all messages after those that `grant` has taken in, and hands reseeds on.
fn read_messages(
    store: &dyn Store,
    log: &Log,
    keys: &DeviceKeys,
    known: &Device,
    grant: Option<Grant>,
) -> Result<(Grant, Vec<Reseed>), Error> {
    let fingerprint = log.fingerprint();
    let already = grant.as_ref().map_or(0, |grant| grant.read);
    let mut dedup = grant.as_ref().map(|grant| grant.dedup.duplicate());
    let mut psks = grant.map(|grant| grant.psks).unwrap_or_default();
    let mut reseeds = Vec::new();
    for digest in known.messages.iter().skip(already) {
        let name = Place::Message { device: keys.device, digest: *digest }.name();
        let object = fetch::checked(store, &name, MESSAGE_BYTES_MAX, |bytes| {
            if digest::digest(bytes) == *digest {
                Ok(bytes.to_vec())
            } else {
                Err(damaged(&name, "it does not match its name"))
            }
        })?;
        let wrong = |what: String| Error::Damaged { name: name.clone(), what };
        let header = pseal::peek(&object).map_err(|error| match error {
            pseal::Error::NewerVersion => Error::Newer { name: name.clone() },
            error => wrong(error.to_string()),
        })?;
        let psk = match header.epoch {
            Epoch(0) => pseal::no_psk(),
            epoch => psks
                .get(&epoch)
                .map(Secret::duplicate)
                .ok_or_else(|| wrong("it needs a key that this device was never given".to_owned()))?,
        };
        let expected = pseal::Header {
            vault: fingerprint.vault_id(),
            device: keys.device,
            epoch: header.epoch,
            kind: Kind::Message,
        };
        let plaintext = pseal::open(&fingerprint, &keys.kem, &psk, &expected, &object)
            .map(SecretBytes::new)
            .map_err(|error| wrong(error.to_string()))?;
        let message = plaintext.expose(Message::decode).map_err(|error| wrong(error.to_string()))?;
        match message {
            None => return Err(Error::Newer { name }),
            Some(Message::Grant { fingerprint: of, epoch, psk, dedup: secret }) => {
                if of != fingerprint {
                    return Err(Error::OtherVault { expected: fingerprint, found: of });
                }
                dedup = Some(secret);
                psks.insert(epoch, psk);
            }
            Some(Message::Epoch { epoch, psk }) => {
                psks.insert(epoch, psk);
            }
            Some(Message::Reseed(reseed)) => reseeds.push(reseed),
        }
    }
    let dedup = dedup.ok_or(Error::NotApproved { device: keys.device })?;
    let oldest = log.keys().oldest;
    psks.retain(|epoch, _| *epoch >= oldest);
    Ok((Grant { dedup, psks, read: known.messages.len() }, reseeds))
}

/// Moves the pin to where an owner says that the device's chain ends, and keeps the chunk lists until their
/// jobs run.
///
/// Only forward, and no further than that: a header beyond it is one that nobody has vouched for. What was
/// written before the device's newest snapshot that it knows of would bring chunks back that no snapshot
/// uses any more, and is passed over.
fn take_reseeds(
    reseeds: Vec<Reseed>,
    keys: &DeviceKeys,
    pins: &mut Pins,
    state: &StateDir,
) -> Result<(), Error> {
    let Some(head) = reseeds.iter().map(|reseed| reseed.head(keys.device)).max_by_key(|head| head.seq) else {
        return Ok(());
    };
    pins.advance(pins.log, [head]);
    if pins.heads.get(&keys.device) != Some(&head) {
        return Ok(());
    }
    for reseed in reseeds.iter().filter(|reseed| reseed.head(keys.device) == head && !reseed.rows.is_empty())
    {
        let name = Reseed::file_name(&reseed.job);
        let mut out = Writer::new();
        reseed.write(&mut out);
        let sealed = keys.protect(&pins.fingerprint, &name, out.as_slice());
        state.replace(&name, &sealed).map_err(|error| io_error(state, &name, &error))?;
    }
    // Before the messages count as read: whatever cuts this off, they are read again.
    save_pins(keys, pins, state)
}

/// The device's newest header, held against what it remembers having put.
fn own_head(
    store: &dyn Store,
    log: &Log,
    keys: &DeviceKeys,
    known: &Device,
    pins: &mut Pins,
    state: &StateDir,
) -> Result<Option<Head>, Error> {
    let fingerprint = log.fingerprint();
    let pinned = pins.heads.get(&keys.device).copied();
    let mut newest = history::newest_header(store, log, keys.device, known)?;
    if let Some(head) = newest
        && head.seq > pinned.map_or(0, |head| head.seq)
    {
        // A run that was cut off between putting its header and pinning it left the digest behind.
        let remembered = load_protected(keys, &fingerprint, state, COMMIT_FILE)?;
        let own = remembered.is_some_and(|bytes| bytes.expose(|bytes| bytes == head.digest.0));
        if !own || head.seq != pinned.map_or(0, |head| head.seq) + 1 {
            return Err(Error::Cloned { device: keys.device, seq: head.seq });
        }
        pins.advance(log.head(), [head]);
    } else if newest != pinned {
        let seq = pinned.map_or(0, |head| head.seq);
        let what = format!("snapshot {seq} of device {} was there and is gone", keys.device.short());
        return match newest {
            Some(head) if head.seq == seq => Err(Error::Cloned { device: keys.device, seq }),
            _ => Err(Error::RolledBack { what }),
        };
    }
    if newest.is_none() {
        newest = pinned;
    }
    Ok(newest)
}

/// What the device was given up to now; kept if there is anything new in it.
fn current_grant(
    store: &dyn Store,
    log: &Log,
    keys: &DeviceKeys,
    known: &Device,
    pins: &mut Pins,
    state: &StateDir,
) -> Result<Grant, Error> {
    let fingerprint = log.fingerprint();
    let held = load_grant(keys, &fingerprint, state)?;
    let before = held.as_ref().map(|grant| (grant.read, grant.psks.len()));
    let (grant, reseeds) = read_messages(store, log, keys, known, held)?;
    take_reseeds(reseeds, keys, pins, state)?;
    if before != Some((grant.read, grant.psks.len())) {
        save_grant(keys, &fingerprint, state, &grant)?;
    }
    Ok(grant)
}

fn load_grant(
    keys: &DeviceKeys,
    fingerprint: &Fingerprint,
    state: &StateDir,
) -> Result<Option<Grant>, Error> {
    let Some(bytes) = load_protected(keys, fingerprint, state, GRANT_FILE)? else { return Ok(None) };
    let grant = bytes.expose(|bytes| -> Result<Grant, codec::Error> {
        let mut from = Reader::new(bytes);
        let secret =
            |from: &mut Reader<'_>| Secret::<32>::from_slice(from.bytes(32)?).ok_or(codec::Error::TooShort);
        let dedup = secret(&mut from)?;
        let read = usize::try_from(from.u64()?).map_err(|_| codec::Error::TooShort)?;
        let count = from.count(36)?;
        let mut psks = BTreeMap::new();
        for _ in 0..count {
            psks.insert(Epoch(from.u32()?), secret(&mut from)?);
        }
        from.finish()?;
        Ok(Grant { dedup, psks, read })
    });
    grant.map(Some).map_err(|error| state_error(state, GRANT_FILE, &error.to_string()))
}

fn save_grant(
    keys: &DeviceKeys,
    fingerprint: &Fingerprint,
    state: &StateDir,
    grant: &Grant,
) -> Result<(), Error> {
    let mut out = Writer::with_capacity(44 + grant.psks.len() * 36);
    grant.dedup.expose(|dedup| out.bytes(dedup).len());
    out.u64(grant.read as u64).count(grant.psks.len());
    for (epoch, psk) in &grant.psks {
        out.u32(epoch.0);
        psk.expose(|psk| out.bytes(psk).len());
    }
    let plaintext = SecretBytes::new(out.finish());
    let sealed = plaintext.expose(|bytes| keys.protect(fingerprint, GRANT_FILE, bytes));
    state.replace(GRANT_FILE, &sealed).map_err(|error| io_error(state, GRANT_FILE, &error))
}

fn load_protected(
    keys: &DeviceKeys,
    fingerprint: &Fingerprint,
    state: &StateDir,
    name: &str,
) -> Result<Option<SecretBytes>, Error> {
    let sealed = state.read(name, STATE_BYTES_MAX.max(PINS_BYTES_MAX));
    let Some(sealed) = sealed.map_err(|error| io_error(state, name, &error))? else { return Ok(None) };
    let opened = keys.unprotect(fingerprint, name, &sealed);
    opened.map(Some).ok_or_else(|| state_error(state, name, "it does not open with this device's key"))
}

/// Local state that fails its check.
#[must_use]
pub fn state_error(state: &StateDir, name: &str, what: &str) -> Error {
    Error::State { place: state.path().join(name).display().to_string(), what: what.to_owned() }
}

/// Local state that could not be read or written.
#[must_use]
pub fn io_error(state: &StateDir, name: &str, error: &io::Error) -> Error {
    state_error(state, name, &error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_device_key_that_others_may_read_or_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let fingerprint = Fingerprint([5; 32]);
        assert!(DeviceKeys::load(&fingerprint, &state).unwrap().is_none());
        let keys = DeviceKeys::generate();
        keys.save(&fingerprint, &state).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o602, false), (0o610, false)] {
            std::fs::set_permissions(folder.path().join(KEY_FILE), Permissions::from_mode(mode)).unwrap();
            match DeviceKeys::load(&fingerprint, &state) {
                Ok(loaded) => assert!(good && loaded.unwrap().device == keys.device, "{mode:o}"),
                Err(error) => assert!(!good && matches!(error, Error::State { .. }), "{mode:o}: {error}"),
            }
        }
    }
}

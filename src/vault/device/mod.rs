//! A device: the keys with which a machine adds snapshots and can't read them, and what it remembers.

mod grant;
mod keys;
mod message;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::crypto::secret::SecretBytes;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::Fingerprint;
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
use crate::vault::device::grant::Grant;
use crate::vault::device::grant::current_grant;
use crate::vault::device::keys::load_protected;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::header::Header;
use crate::vault::header::NewObject;
use crate::vault::header::SignedHeader;
use crate::vault::history;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::namer::Namer;
use crate::vault::pins::Pins;
use crate::vault::receipt::Receipt;
use crate::vault::record::Head;

pub use crate::vault::device::keys::DeviceKeys;
pub use crate::vault::device::keys::KEY_FILE;
pub use crate::vault::device::keys::io_error;
pub use crate::vault::device::keys::state_error;
pub use crate::vault::device::message::Message;
pub use crate::vault::device::message::seal_message;

const PINS_FILE: &str = "pins";
const COMMIT_FILE: &str = "commit";
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

/// Seals under the newest epoch of `log`.
fn sealer(log: &Log, keys: &DeviceKeys, grant: &Grant) -> Result<Sealer, Error> {
    let fingerprint = log.fingerprint();
    let psk = grant.psks.get(&log.keys().newest).ok_or(Error::NotApproved { device: keys.device })?;
    let (recipient, hedge) = (log.keys().newest_key.clone(), keys.hedge(&fingerprint));
    Ok(Sealer::new(fingerprint, recipient, psk.duplicate(), hedge))
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

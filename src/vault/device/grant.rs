//! What a device has been given by its owners' messages, and keeps.

use std::collections::BTreeMap;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::digest;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::seal::pseal;
use crate::seal::pseal::Kind;
use crate::store::Store;
use crate::store::state::StateDir;
use crate::vault::authority::Device;
use crate::vault::authority::Log;
use crate::vault::authority::damaged;
use crate::vault::device::DeviceKeys;
use crate::vault::device::Message;
use crate::vault::device::io_error;
use crate::vault::device::keys::load_protected;
use crate::vault::device::save_pins;
use crate::vault::device::state_error;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::pins::Pins;
use crate::vault::reseed::Reseed;

const GRANT_FILE: &str = "grant";
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// What an owner's messages gave the device.
pub(super) struct Grant {
    pub(super) dedup: Secret<32>,
    pub(super) psks: BTreeMap<Epoch, Secret<32>>,
    /// How many of its messages it has read.
    read: usize,
}

/// What the device was given up to now; kept if there is anything new in it.
pub(super) fn current_grant(
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

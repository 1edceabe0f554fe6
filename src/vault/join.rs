//! How a machine becomes a device: its request, the code that people compare, an owner's grant.

use std::fmt;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::crockford;
use crate::crypto::digest;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::sign::SignatureType;
use crate::crypto::sign::VerifyingKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::VaultId;
use crate::store;
use crate::store::Store;
use crate::vault::Vault;
use crate::vault::authority::LogHead;
use crate::vault::authority::damaged;
use crate::vault::authority::refused;
use crate::vault::change::withdraw;
use crate::vault::device;
use crate::vault::device::DeviceKeys;
use crate::vault::device::Message;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record;
use crate::vault::record::Payload;

/// The digits of a request's code: 80 bits.
const CODE_DIGITS: usize = 16;
const MAGIC: &[u8; 8] = b"SRJOIN\x01\x00";
const SIGNATURE_BYTES: usize = 64;
/// magic, vault, device, two public keys, signature.
const REQUEST_BYTES: usize = 8 + 16 + 16 + 32 + 1216 + SIGNATURE_BYTES;
/// How often a grant is made anew because the keys changed meanwhile.
const TRIES: u32 = 8;

/// What a machine asks an owner to take into the vault: its public keys, signed by themselves.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The vault.
    pub vault: VaultId,
    /// Its pseudonym.
    pub device: DeviceId,
    /// Verifies its headers.
    pub verifying_key: VerifyingKey,
    /// Its messages are sealed to it.
    pub kem_key: KemPublicKey,
}

/// The first 80 bits of a request's digest. Who compares them all knows that the request in the vault is
/// the one that his machine made: to make another one with the same code takes 2^80 tries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestCode(pub [u8; 10]);

impl RequestCode {
    fn of(request: &[u8]) -> Self {
        let mut code = [0; 10];
        code.copy_from_slice(&digest::digest(request).0[..10]);
        Self(code)
    }

    /// Reads a code as people type it: 16 digits of Crockford's base32, in any case and grouping.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = [0; CODE_DIGITS];
        let count = crockford::read(text, &mut digits).ok()?;
        let mut code = [0; 10];
        crockford::to_bytes(&digits, &mut code);
        (count == CODE_DIGITS).then_some(Self(code))
    }
}

impl fmt::Display for RequestCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; CODE_DIGITS];
        crockford::to_digits(&self.0, &mut digits);
        let mut text = String::new();
        crockford::append(&digits, &mut text);
        f.write_str(&text)
    }
}

impl Request {
    /// What a machine with these keys asks.
    #[must_use]
    pub fn new(vault: VaultId, keys: &DeviceKeys) -> Self {
        Self { vault, device: keys.device, verifying_key: keys.signing.public(), kem_key: keys.kem.public() }
    }

    /// Encodes and signs it, with the keys that it names.
    #[must_use]
    pub fn sign(&self, keys: &DeviceKeys) -> Vec<u8> {
        let mut out = Writer::with_capacity(REQUEST_BYTES);
        out.bytes(MAGIC).bytes(&self.vault.0).bytes(&self.device.0);
        out.bytes(self.verifying_key.as_bytes()).bytes(self.kem_key.as_bytes());
        let signature = keys.signing.sign(SignatureType::Request, out.as_slice());
        out.bytes(&signature);
        out.finish()
    }

    /// The code to compare: the same keys always ask for the same.
    #[must_use]
    pub fn code(&self, keys: &DeviceKeys) -> RequestCode {
        RequestCode::of(&self.sign(keys))
    }

    /// Reads a request and checks that whoever made it holds its signing key.
    ///
    /// # Errors
    /// [`record::Error`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, RequestCode), record::Error> {
        let mut from = Reader::new(bytes);
        from.exactly(&MAGIC[..6], "magic")?;
        if from.array::<2>()? != [1, 0] {
            return Err(record::Error::Newer);
        }
        let (vault, device) = (VaultId(from.array()?), DeviceId(from.array()?));
        let verifying_key = record::read_verifying_key(&mut from)?;
        let kem_key = record::read_kem_key(&mut from)?;
        from.bytes(SIGNATURE_BYTES)?;
        from.finish()?;
        let (signed, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(codec::Error::TooShort)?;
        verifying_key
            .verify(SignatureType::Request, signed, signature)
            .map_err(|_| record::Error::Signature)?;
        Ok((Self { vault, device, verifying_key, kem_key }, RequestCode::of(bytes)))
    }

    /// Puts the request of a machine that wants to join, and returns the code to compare.
    ///
    /// The same keys always make the same bytes, and so the same name: a copy that was damaged is put anew.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn put(
        fingerprint: &Fingerprint,
        keys: &DeviceKeys,
        store: &dyn Store,
    ) -> Result<RequestCode, Error> {
        let bytes = Self::new(fingerprint.vault_id(), keys).sign(keys);
        let digest = digest::digest(&bytes);
        let name = Place::Request { device: keys.device, digest: first8(&digest) }.name();
        match fetch::put_twice(store, &name, &bytes) {
            Err(Error::Store(store::Error::Exists { .. })) => put_over_damage(store, &name, &bytes)?,
            result => result?,
        }
        Ok(RequestCode::of(&bytes))
    }
}

/// Puts a request where other bytes stand: its name is the digest of these alone, so what stands there is no
/// request. Where nothing can be removed, one good copy does.
fn put_over_damage(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
    if withdraw(store, name).is_ok() {
        return fetch::put_twice(store, name, bytes);
    }
    let is_whole = |name: &ObjectName| store.get(name, bytes.len() as u64).is_ok_and(|there| there == bytes);
    if is_whole(name) || is_whole(&name.second()) {
        return Ok(());
    }
    Ok(store.put(&name.second(), bytes)?)
}

/// A request that stands in the vault.
#[derive(Debug)]
pub struct Waiting {
    /// What it asks; what is wrong with it, if anything.
    pub request: Result<(Request, RequestCode), Error>,
    /// Where it stands.
    pub name: ObjectName,
}

/// All requests that stand in the vault, good and bad.
///
/// # Errors
/// [`Error::Store`] if they can't be listed.
pub fn requests(store: &dyn Store, fingerprint: &Fingerprint) -> Result<Vec<Waiting>, Error> {
    let mut waiting = Vec::new();
    for name in fetch::list_both(store, "q/")? {
        let Some(Place::Request { device, digest }) = Place::parse(&name) else { continue };
        let request = fetch::checked(store, &name, REQUEST_BYTES as u64, |bytes| {
            if first8(&digest::digest(bytes)) != digest {
                return Err(damaged(&name, "it does not match its name"));
            }
            let (request, code) = Request::decode(bytes).map_err(|error| refused(&name, error))?;
            if request.device != device || request.vault != fingerprint.vault_id() {
                return Err(damaged(&name, "it is another device's or another vault's"));
            }
            Ok((request, code))
        });
        waiting.push(Waiting { request, name });
    }
    Ok(waiting)
}

impl Vault {
    /// Takes a machine into the vault under a name that only owners see.
    ///
    /// The name comes first, in a new generation of the rings; then the grant, sealed to the machine;
    /// then the record. Cut off before the last, the machine is not a device, and the same again makes
    /// it one.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::DeviceExists`]; [`Error::LabelTaken`]; as [`Vault::change_keys`].
    pub fn add_device(
        &mut self,
        request: &Request,
        name: &str,
        now: u64,
        wait: &dyn Fn(u32),
    ) -> Result<LogHead, Error> {
        let device = request.device;
        if self.log().devices().contains_key(&device) {
            return Err(Error::DeviceExists { device });
        }
        for lost in 1..=TRIES {
            self.name_new_device(device, name, now, wait)?;
            let epoch = self.log().keys().newest;
            let message = self.put_message(device, &request.kem_key, None, &self.grant(device, epoch)?)?;
            let added = self.append(now, wait, &|vault| {
                // A grant of an epoch that is over would let the device seal nothing.
                if vault.log().keys().newest != epoch {
                    return Err(Error::EpochChanged);
                }
                if vault.log().devices().contains_key(&device) {
                    return Err(Error::DeviceExists { device });
                }
                // Another owner has given it another name meanwhile, and may be about to take it in.
                if vault.device_name(device) != Some(name) {
                    return Err(Error::Renamed);
                }
                Ok(Payload::DeviceAdd {
                    device,
                    verifying_key: request.verifying_key.clone(),
                    kem_key: Box::new(request.kem_key.clone()),
                    message,
                })
            });
            match added {
                Err(error @ (Error::EpochChanged | Error::Renamed | Error::DeviceExists { .. })) => {
                    withdraw(self.store(), &Place::Message { device, digest: message }.name())?;
                    if matches!(error, Error::DeviceExists { .. }) {
                        return Err(error);
                    }
                    wait(lost);
                }
                result => return result,
            }
        }
        Err(Error::Contended)
    }

    /// Gives a machine that is to join its name, unless another owner took it in meanwhile.
    fn name_new_device(
        &mut self,
        device: DeviceId,
        name: &str,
        now: u64,
        wait: &dyn Fn(u32),
    ) -> Result<(), Error> {
        if self.device_name(device) == Some(name) && !self.log().devices().contains_key(&device) {
            return Ok(());
        }
        self.change_keys(now, wait, &|draft| {
            if draft.is_enrolled(device) {
                return Err(Error::DeviceExists { device });
            }
            draft.name_device(device, name)
        })?;
        Ok(())
    }

    /// What a new device is given.
    fn grant(&self, device: DeviceId, epoch: crate::id::Epoch) -> Result<Message, Error> {
        let fingerprint = self.log().fingerprint();
        let keys = self.ring().epoch(epoch).ok_or(Error::EpochChanged)?;
        Ok(Message::Grant {
            fingerprint,
            epoch,
            psk: keys.device_psk(&fingerprint, device),
            dedup: self.ring().dedup_secret(&fingerprint, device),
        })
    }

    /// Seals a message to a device and puts it; it means something once a record names it.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::Store`].
    pub fn put_message(
        &self,
        device: DeviceId,
        kem_key: &KemPublicKey,
        held: Option<crate::id::Epoch>,
        message: &Message,
    ) -> Result<Digest, Error> {
        let fingerprint = self.log().fingerprint();
        let held = held.and_then(|epoch| {
            self.ring().epoch(epoch).map(|keys| (epoch, keys.device_psk(&fingerprint, device)))
        });
        let sealed = device::seal_message(&fingerprint, device, kem_key, held, self.hedge()?, message);
        let digest = sealed.digest();
        fetch::put_twice(self.store(), &Place::Message { device, digest }.name(), sealed.bytes())?;
        Ok(digest)
    }

    /// Tells a device something, sealed under the newest epoch: all of `messages` in one record, or none.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::NotApproved`] if there is no such device; [`Error::Revoked`]; as
    /// [`Vault::append`].
    pub fn tell_device(
        &mut self,
        device: DeviceId,
        messages: &[Message],
        now: u64,
        wait: &dyn Fn(u32),
    ) -> Result<LogHead, Error> {
        for lost in 1..=TRIES {
            let (epoch, kem_key) = (self.log().keys().newest, told(self, device)?);
            let put = |message| self.put_message(device, &kem_key, Some(epoch), message);
            let names = messages.iter().map(put).collect::<Result<Vec<Digest>, Error>>()?;
            let appended = self.append(now, wait, &|vault| {
                // A record after this epoch's end would name what the device may open no more.
                if vault.log().keys().newest != epoch {
                    return Err(Error::EpochChanged);
                }
                told(vault, device)?;
                Ok(Payload::Message { device, names: names.clone() })
            });
            match appended {
                Err(Error::EpochChanged) => {
                    for digest in names {
                        withdraw(self.store(), &Place::Message { device, digest }.name())?;
                    }
                    wait(lost);
                }
                result => return result,
            }
        }
        Err(Error::Contended)
    }

    /// Ends a device: what it adds after `last` counts nowhere. `None` if nothing that it added counts.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::Damaged`] if it was revoked before at an earlier state.
    pub fn revoke_device(
        &mut self,
        device: DeviceId,
        last: Option<record::Head>,
        now: u64,
        wait: &dyn Fn(u32),
    ) -> Result<LogHead, Error> {
        let none = record::Head { device, seq: 0, digest: Digest([0; 32]) };
        let head = last.unwrap_or(none);
        self.append(now, wait, &|_| Ok(Payload::DeviceRevoke { head }))
    }
}

/// The key to which messages to a device that isn't revoked are sealed.
fn told(vault: &Vault, device: DeviceId) -> Result<KemPublicKey, Error> {
    match vault.log().devices().get(&device) {
        None => Err(Error::NotApproved { device }),
        Some(known) if known.revoked.is_some() => Err(Error::Revoked { device }),
        Some(known) => Ok(known.kem_key.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[test]
    fn a_request_whose_copies_are_damaged_is_put_anew() {
        let (keys, fingerprint) = (DeviceKeys::generate(), Fingerprint([7; 32]));
        let store = Memory::new();
        let code = Request::put(&fingerprint, &keys, &store).unwrap();
        let name = requests(&store, &fingerprint).unwrap().remove(0).name;
        let copies = [name.clone(), name.second()];
        for damaged in [&copies[..1], &copies[1..], &copies[..]] {
            for copy in damaged {
                store.flip(copy, 999);
            }
            assert_eq!(Request::put(&fingerprint, &keys, &store).unwrap(), code);
            let found = requests(&store, &fingerprint).unwrap();
            assert!(matches!(&found[..], [Waiting { request: Ok(_), .. }]), "{found:?}");
            let bytes = copies.clone().map(|copy| store.get(&copy, u64::MAX).unwrap());
            assert_eq!(bytes[0], bytes[1]);
        }
    }

    #[test]
    fn a_request_reads_back_and_none_of_its_bytes_can_change() {
        let keys = DeviceKeys::generate();
        let fingerprint = Fingerprint([7; 32]);
        let request = Request::new(fingerprint.vault_id(), &keys);
        let bytes = request.sign(&keys);
        let (read, code) = Request::decode(&bytes).unwrap();
        assert_eq!(read, request);
        assert_eq!(RequestCode::parse(&code.to_string()), Some(code));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Request::decode(&bad).is_err(), "byte {at}");
        }
        assert!(Request::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(Request::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_request_of_another_vault_or_under_another_name_is_told_as_damaged() {
        let keys = DeviceKeys::generate();
        let store = Memory::new();
        Request::put(&Fingerprint([7; 32]), &keys, &store).unwrap();
        let here = requests(&store, &Fingerprint([7; 32])).unwrap();
        assert!(
            matches!(&here[..], [Waiting { request: Ok((request, _)), .. }] if request.device == keys.device)
        );
        let elsewhere = requests(&store, &Fingerprint([8; 32])).unwrap();
        assert!(matches!(&elsewhere[..], [Waiting { request: Err(Error::Damaged { .. }), .. }]));

        let moved = Place::Request { device: DeviceId([1; 16]), digest: [0; 8] }.name();
        let bytes = store.get(&here[0].name, u64::MAX).unwrap();
        store.put(&moved, &bytes).unwrap();
        let bad = requests(&store, &Fingerprint([7; 32])).unwrap();
        assert_eq!(bad.iter().filter(|waiting| waiting.request.is_err()).count(), 1);
    }

    #[test]
    fn a_code_is_read_as_people_type_it_and_has_sixteen_digits() {
        let code = RequestCode([0x00, 0x44, 0x32, 0x14, 0xc7, 0xff, 0xff, 0xff, 0x00, 0x01]);
        assert_eq!(code.to_string(), "012345-67ZZZZ-Y001");
        assert_eq!(RequestCode::parse("o1 2345\u{2013}67zzz z-y0oL"), Some(code));
        for wrong in ["", "012345-67ZZZZ-Y00", "012345-67ZZZZ-Y0011", "012345-6UZZZZ-Y001"] {
            assert_eq!(RequestCode::parse(wrong), None, "{wrong}");
        }
    }
}

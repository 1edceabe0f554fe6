//! The secrets of a device, and what it keeps of them and under them on its machine.

use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::derive::derive;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;
use crate::crypto::sign::SigningKey;
use crate::id::DeviceId;
use crate::id::Fingerprint;
use crate::seal::cseal;
use crate::store::state::StateDir;
use crate::vault::error::Error;
use crate::vault::pins::PINS_BYTES_MAX;

const KEY_MAGIC: &[u8; 8] = b"SRDEVK\x01\x00";
/// Device id, three secrets.
const SECRETS_BYTES: usize = 16 + 96;
/// magic, F, and those.
const KEY_BYTES: usize = 8 + 32 + SECRETS_BYTES;
/// The file with the device's own secrets; the only one in the clear.
pub const KEY_FILE: &str = "device.key";
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
    pub(super) fn protect(&self, fingerprint: &Fingerprint, name: &str, bytes: &[u8]) -> Vec<u8> {
        let context = [&fingerprint.0[..], name.as_bytes()].concat();
        self.state_key(fingerprint).expose(|key| cseal::wrap(key, "local-state", &context, bytes))
    }

    pub(super) fn unprotect(
        &self,
        fingerprint: &Fingerprint,
        name: &str,
        sealed: &[u8],
    ) -> Option<SecretBytes> {
        let context = [&fingerprint.0[..], name.as_bytes()].concat();
        self.state_key(fingerprint).expose(|key| cseal::unwrap(key, "local-state", &context, sealed)).ok()
    }

    fn state_key(&self, fingerprint: &Fingerprint) -> Secret<32> {
        self.own.expose(|own| derive(own, &[], "state", &fingerprint.0))
    }

    pub(super) fn hedge(&self, fingerprint: &Fingerprint) -> Secret<32> {
        self.own.expose(|own| derive(own, &[], "hedge", &fingerprint.0))
    }
}

/// Opens what this machine remembers under `name`; nothing if it remembers nothing.
pub(super) fn load_protected(
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

//! The rings: what readers and owners hold once their slot is open, sealed under K_read and K_admin.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::derive::derive;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;
use crate::id::DeviceId;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::id::SlotId;
use crate::seal::cseal;
use crate::vault::slot::SlotKeys;

/// Rings are padded to multiples of this, in bytes, so their length tells little.
const RING_STEP_BYTES: usize = 4096;
/// The most that a ring has, in bytes: 255 slots with long labels, thousands of devices.
pub const RING_BYTES_MAX: u64 = 4 << 20;

/// The secrets of one epoch.
pub struct EpochKeys {
    /// Which.
    pub epoch: Epoch,
    /// Seed of the key pair that packs are sealed to.
    pub seal_seed: Secret<32>,
    /// Every device's pre-shared key of this epoch comes from it.
    pub device_root: Secret<32>,
}

/// What a reader holds.
pub struct ReadRing {
    /// Every device's dedup secret comes from it; the same in all epochs.
    pub dedup_root: Secret<32>,
    /// Of every live epoch, ascending.
    pub epochs: Vec<EpochKeys>,
}

/// What an owner holds beside that.
pub struct AdminRing {
    /// Seed of the authority's key.
    pub authority_seed: Secret<32>,
    /// Seeds of the owners' key, this one last: entries of people's logs are sealed to it.
    pub owners_seeds: Vec<Secret<32>>,
    /// Of every slot.
    pub slots: Vec<SlotKeys>,
    /// What people call the devices.
    pub devices: Vec<(DeviceId, String)>,
    /// Secrets of a sealed file's own device, as `vault::device` encodes them; empty in a vault.
    pub device_secrets: SecretBytes,
    /// Slots that were taken away or replaced, and log keys of slots that stayed, in the order in which they went:
    /// what was done with them stays readable in the log.
    pub former: Vec<FormerSlot>,
}

/// What is kept of a slot that is gone, or of a log key that a slot had before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormerSlot {
    /// Which.
    pub id: SlotId,
    /// Verifies the entries of its holder's log.
    pub log_key: [u8; 32],
    /// What people called it; empty if the slot stayed and only its log key went.
    pub label: String,
}

impl FormerSlot {
    fn bytes(&self) -> usize {
        50 + self.label.len()
    }
}

/// How much of a ring former slots and keys take, in bytes: 40,000 keys. A ring that outgrew its bound would
/// let nobody change a key any more.
pub const FORMER_BYTES_MAX: usize = 2 << 20;

/// The newest of `former`, as many as there is room for.
#[must_use]
pub fn newest_former(mut former: Vec<FormerSlot>) -> Vec<FormerSlot> {
    let mut bytes = 0;
    let fits = |slot: &&FormerSlot| {
        bytes += slot.bytes();
        bytes <= FORMER_BYTES_MAX
    };
    let kept = former.iter().rev().take_while(fits).count();
    former.drain(..former.len() - kept);
    former
}

impl ReadRing {
    /// Seals it under `key` for one generation.
    #[must_use]
    pub fn wrap(&self, fingerprint: &Fingerprint, generation: u32, key: &Secret<32>) -> Vec<u8> {
        // With room for all of it from the start: what grows leaves copies behind.
        let mut out = Writer::with_capacity((36 + 68 * self.epochs.len()).next_multiple_of(RING_STEP_BYTES));
        self.dedup_root.expose(|root| out.bytes(root).count(self.epochs.len()).len());
        for keys in &self.epochs {
            out.u32(keys.epoch.0);
            keys.seal_seed.expose(|seed| out.bytes(seed).len());
            keys.device_root.expose(|root| out.bytes(root).len());
        }
        wrap_padded(out, "read-ring", fingerprint, generation, key)
    }

    /// Opens a ring.
    ///
    /// # Errors
    /// What of it is damaged, in words.
    pub fn unwrap(
        fingerprint: &Fingerprint,
        generation: u32,
        key: &Secret<32>,
        sealed: &[u8],
    ) -> Result<Self, String> {
        let plaintext = unwrap(key, "read-ring", fingerprint, generation, sealed)?;
        plaintext.expose(Self::decode).map_err(|error| error.to_string())
    }

    fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut from = Reader::new(bytes);
        let dedup_root = read_secret(&mut from)?;
        let count = from.count(68)?;
        let epochs = (0..count)
            .map(|_| {
                Ok(EpochKeys {
                    epoch: Epoch(from.u32()?),
                    seal_seed: read_secret(&mut from)?,
                    device_root: read_secret(&mut from)?,
                })
            })
            .collect::<Result<Vec<_>, codec::Error>>()?;
        let padding = from.remaining();
        from.zeros(padding)?;
        if epochs.windows(2).any(|pair| pair[0].epoch >= pair[1].epoch) {
            return Err(codec::Error::NotCanonical("epochs"));
        }
        Ok(Self { dedup_root, epochs })
    }

    /// The keys of `epoch`, if it is live.
    #[must_use]
    pub fn epoch(&self, epoch: Epoch) -> Option<&EpochKeys> {
        self.epochs.iter().find(|keys| keys.epoch == epoch)
    }

    /// The dedup secret of `device`: its chunk ids and cut points come from it.
    #[must_use]
    pub fn dedup_secret(&self, fingerprint: &Fingerprint, device: DeviceId) -> Secret<32> {
        let context = [&fingerprint.0[..], &device.0].concat();
        self.dedup_root.expose(|root| derive(root, &[], "dedup", &context))
    }
}

impl EpochKeys {
    /// New secrets for `epoch`.
    #[must_use]
    pub fn generate(epoch: Epoch) -> Self {
        Self { epoch, seal_seed: Secret::generate(), device_root: Secret::generate() }
    }

    /// A second copy, for a second owner.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let (seal_seed, device_root) = (self.seal_seed.duplicate(), self.device_root.duplicate());
        Self { epoch: self.epoch, seal_seed, device_root }
    }

    /// The pre-shared key that `device` mixes into the key of each pack of this epoch.
    #[must_use]
    pub fn device_psk(&self, fingerprint: &Fingerprint, device: DeviceId) -> Secret<32> {
        let context = [&fingerprint.0[..], &device.0].concat();
        self.device_root.expose(|root| derive(root, &[], "device-psk", &context))
    }
}

impl AdminRing {
    /// Seals it under `key` for one generation.
    #[must_use]
    pub fn wrap(&self, fingerprint: &Fingerprint, generation: u32, key: &Secret<32>) -> Vec<u8> {
        let names = self.devices.iter().map(|(_, name)| 18 + name.len()).sum::<usize>()
            + self.former.iter().map(FormerSlot::bytes).sum::<usize>();
        let room = RING_STEP_BYTES * (2 + self.slots.len()) + 32 * self.owners_seeds.len() + names;
        let mut out = Writer::with_capacity(room + self.device_secrets.len());
        self.authority_seed.expose(|seed| out.bytes(seed).count(self.owners_seeds.len()).len());
        for seed in &self.owners_seeds {
            seed.expose(|seed| out.bytes(seed).len());
        }
        out.count(self.slots.len());
        for slot in &self.slots {
            out.bytes(&slot.id.0).bytes(slot.kem_key.as_bytes());
            slot.psk.expose(|psk| out.bytes(psk).len());
            slot.log_seed.expose(|seed| out.bytes(seed).len());
            out.sized_short(slot.label.as_bytes());
        }
        out.count(self.devices.len());
        for (device, name) in &self.devices {
            out.bytes(&device.0).sized_short(name.as_bytes());
        }
        self.device_secrets.expose(|secrets| out.sized(secrets).len());
        out.count(self.former.len());
        for slot in &self.former {
            out.bytes(&slot.id.0).bytes(&slot.log_key).sized_short(slot.label.as_bytes());
        }
        wrap_padded(out, "admin-ring", fingerprint, generation, key)
    }

    /// Opens a ring.
    ///
    /// # Errors
    /// What of it is damaged, in words.
    pub fn unwrap(
        fingerprint: &Fingerprint,
        generation: u32,
        key: &Secret<32>,
        sealed: &[u8],
    ) -> Result<Self, String> {
        let plaintext = unwrap(key, "admin-ring", fingerprint, generation, sealed)?;
        plaintext.expose(Self::decode).map_err(|error| error.to_string())
    }

    fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut from = Reader::new(bytes);
        let authority_seed = read_secret(&mut from)?;
        let count = from.count(32)?;
        let owners_seeds = (0..count).map(|_| read_secret(&mut from)).collect::<Result<Vec<_>, _>>()?;
        let count = from.count(1298)?;
        let slots = (0..count)
            .map(|_| {
                Ok(SlotKeys {
                    id: SlotId(from.array()?),
                    kem_key: KemPublicKey::from_bytes(from.bytes(1216)?)
                        .ok_or(codec::Error::NotCanonical("sealing key"))?,
                    psk: read_secret(&mut from)?,
                    log_seed: read_secret(&mut from)?,
                    label: from.text()?.to_owned(),
                })
            })
            .collect::<Result<Vec<_>, codec::Error>>()?;
        let count = from.count(18)?;
        let devices = (0..count)
            .map(|_| Ok((DeviceId(from.array()?), from.text()?.to_owned())))
            .collect::<Result<Vec<_>, codec::Error>>()?;
        let device_secrets = SecretBytes::new(from.sized()?.to_vec());
        let count = from.count(50)?;
        let former = (0..count)
            .map(|_| {
                let (id, log_key) = (SlotId(from.array()?), from.array()?);
                Ok(FormerSlot { id, log_key, label: from.text()?.to_owned() })
            })
            .collect::<Result<Vec<_>, codec::Error>>()?;
        let padding = from.remaining();
        from.zeros(padding)?;
        Ok(Self { authority_seed, owners_seeds, slots, devices, device_secrets, former })
    }
}

fn context(fingerprint: &Fingerprint, generation: u32) -> Vec<u8> {
    [&fingerprint.0[..], &generation.to_le_bytes()].concat()
}

fn wrap_padded(
    mut out: Writer,
    label: &str,
    fingerprint: &Fingerprint,
    generation: u32,
    key: &Secret<32>,
) -> Vec<u8> {
    let padding = out.len().next_multiple_of(RING_STEP_BYTES) - out.len();
    debug_assert!(out.has_room(padding), "what grows leaves copies of secrets behind");
    out.zeros(padding);
    let plaintext = SecretBytes::new(out.finish());
    let context = context(fingerprint, generation);
    key.expose(|key| plaintext.expose(|bytes| cseal::wrap(key, label, &context, bytes)))
}

fn unwrap(
    key: &Secret<32>,
    label: &str,
    fingerprint: &Fingerprint,
    generation: u32,
    sealed: &[u8],
) -> Result<SecretBytes, String> {
    let context = context(fingerprint, generation);
    key.expose(|key| cseal::unwrap(key, label, &context, sealed)).map_err(|error| error.to_string())
}

fn read_secret(from: &mut Reader<'_>) -> Result<Secret<32>, codec::Error> {
    Secret::from_slice(from.bytes(32)?).ok_or(codec::Error::TooShort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_former_the_oldest_goes_when_there_is_no_room() {
        let slot = |at: usize| FormerSlot { id: SlotId([1; 16]), log_key: [2; 32], label: at.to_string() };
        let few: Vec<FormerSlot> = (0..3).map(slot).collect();
        assert_eq!(newest_former(few.clone()), few);
        let many: Vec<FormerSlot> = (0..50_000).map(slot).collect();
        let kept = newest_former(many.clone());
        let bytes: usize = kept.iter().map(FormerSlot::bytes).sum();
        assert!(bytes <= FORMER_BYTES_MAX && bytes > FORMER_BYTES_MAX - 100, "{bytes}");
        assert_eq!(kept[..], many[many.len() - kept.len()..]);
    }
}

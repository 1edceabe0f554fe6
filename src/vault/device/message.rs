//! What an owner tells a device, sealed to it.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;
use crate::id::DeviceId;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::seal::pseal;
use crate::seal::pseal::Check;
use crate::seal::pseal::Kind;
use crate::seal::pseal::Sealed;
use crate::seal::pseal::Sealer;
use crate::vault::reseed::Reseed;

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

//! Pins: the newest state of a vault that this machine has seen, so that an older one is noticed.

use std::collections::BTreeMap;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Fingerprint;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::Vouched;
use crate::vault::error::Error;
use crate::vault::record::Head;
use crate::vault::record::read_heads;
use crate::vault::record::write_heads;

const MAGIC: &[u8; 8] = b"SRPINS\x01\x00";
/// The most that pins have, in bytes.
pub const PINS_BYTES_MAX: u64 = 16 << 20;

/// What this machine has seen. It holds no secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pins {
    /// Which vault.
    pub fingerprint: Fingerprint,
    /// The newest record of its authority log.
    pub log: LogHead,
    /// The newest header of each device.
    pub heads: BTreeMap<DeviceId, Head>,
}

impl Pins {
    /// Pins the state of a log, without any device's head.
    #[must_use]
    pub fn new(log: &Log) -> Self {
        Self { fingerprint: log.fingerprint(), log: log.head(), heads: BTreeMap::new() }
    }

    /// Encodes them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.bytes(MAGIC).bytes(&self.fingerprint.0).u64(self.log.seq).bytes(&self.log.digest.0);
        let heads: Vec<Head> = self.heads.values().copied().collect();
        write_heads(&mut out, &heads);
        out.finish()
    }

    /// Reads pins.
    ///
    /// # Errors
    /// If the layout is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut from = Reader::new(bytes);
        from.exactly(MAGIC, "magic")?;
        let fingerprint = Fingerprint(from.array()?);
        let log = LogHead { seq: from.u64()?, digest: Digest(from.array()?) };
        let heads = read_heads(&mut from)?.into_iter().map(|head| (head.device, head)).collect();
        from.finish()?;
        Ok(Self { fingerprint, log, heads })
    }

    /// Checks that a log continues the pinned one.
    ///
    /// # Errors
    /// [`Error::OtherVault`]; [`Error::RolledBack`] if it ends before; [`Error::Forked`] if it differs.
    pub fn check_log(&self, log: &Log) -> Result<(), Error> {
        if log.fingerprint() != self.fingerprint {
            return Err(Error::OtherVault { expected: self.fingerprint, found: log.fingerprint() });
        }
        Vouched::from(self.log).check(log)
    }

    /// Remembers a newer state.
    pub fn advance(&mut self, log: LogHead, heads: impl IntoIterator<Item = Head>) {
        if log.seq > self.log.seq {
            self.log = log;
        }
        for head in heads {
            let pinned = self.heads.entry(head.device).or_insert(head);
            if head.seq > pinned.seq {
                *pinned = head;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_only_move_forward() {
        let device = DeviceId([1; 16]);
        let head = |seq: u64| Head { device, seq, digest: Digest([9; 32]) };
        let log = |seq: u64| LogHead { seq, digest: Digest([8; 32]) };
        let mut pins = Pins { fingerprint: Fingerprint([7; 32]), log: log(4), heads: BTreeMap::new() };
        pins.advance(log(3), [head(5)]);
        pins.advance(log(6), [head(2)]);
        assert_eq!((pins.log.seq, pins.heads[&device].seq), (6, 5));
        assert_eq!(Pins::decode(&pins.encode()), Ok(pins));
    }
}

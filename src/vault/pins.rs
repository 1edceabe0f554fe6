//! Pins: the newest state of a vault that this machine has seen, so that an older one is noticed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Fingerprint;
use crate::id::SlotId;
use crate::vault::acts::ActHead;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::Vouched;
use crate::vault::error::Error;
use crate::vault::record::Head;
use crate::vault::record::read_heads;
use crate::vault::record::write_heads;

const MAGIC: &[u8; 6] = b"SRPINS";
/// Without entries of people's logs, and with them.
const VERSIONS: [[u8; 2]; 2] = [[1, 0], [2, 0]];
/// The most that pins have, in bytes.
pub const PINS_BYTES_MAX: u64 = 16 << 20;

/// An entry of a slot's log: slot, place, digest.
const ACT_BYTES: usize = 16 + 8 + 32;

/// What this machine has seen. It holds no secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pins {
    /// Which vault.
    pub fingerprint: Fingerprint,
    /// The newest record of its authority log.
    pub log: LogHead,
    /// The newest header of each device.
    pub heads: BTreeMap<DeviceId, Head>,
    /// The newest entry of each slot's log, and those before that were there once and are gone.
    pub acts: BTreeSet<ActHead>,
}

impl Pins {
    /// Pins the state of a log, without any device's head.
    #[must_use]
    pub fn new(log: &Log) -> Self {
        Self {
            fingerprint: log.fingerprint(),
            log: log.head(),
            heads: BTreeMap::new(),
            acts: BTreeSet::new(),
        }
    }

    /// Encodes them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        let version = VERSIONS[usize::from(!self.acts.is_empty())];
        out.bytes(MAGIC)
            .bytes(&version)
            .bytes(&self.fingerprint.0)
            .u64(self.log.seq)
            .bytes(&self.log.digest.0);
        let heads: Vec<Head> = self.heads.values().copied().collect();
        write_heads(&mut out, &heads);
        if !self.acts.is_empty() {
            out.count(self.acts.len());
        }
        for act in &self.acts {
            out.bytes(&act.slot.0).u64(act.seq).bytes(&act.digest.0);
        }
        out.finish()
    }

    /// Reads pins.
    ///
    /// # Errors
    /// If the layout is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut from = Reader::new(bytes);
        from.exactly(MAGIC, "magic")?;
        let version = from.array::<2>()?;
        if !VERSIONS.contains(&version) {
            return Err(codec::Error::NotCanonical("version"));
        }
        let fingerprint = Fingerprint(from.array()?);
        let log = LogHead { seq: from.u64()?, digest: Digest(from.array()?) };
        let heads = read_heads(&mut from)?.into_iter().map(|head| (head.device, head)).collect();
        let count = if version == VERSIONS[1] { from.count(ACT_BYTES)? } else { 0 };
        let acts = (0..count).map(|_| {
            Ok(ActHead { slot: SlotId(from.array()?), seq: from.u64()?, digest: Digest(from.array()?) })
        });
        let acts = acts.collect::<Result<_, codec::Error>>()?;
        from.finish()?;
        Ok(Self { fingerprint, log, heads, acts })
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

    /// Remembers newer entries of people's logs. Of those remembered before, `gone` are not there any more: they
    /// stay, so that this is told again.
    pub fn advance_acts(&mut self, heads: &[ActHead], gone: &[ActHead]) {
        for head in heads {
            let is_newer = |pinned: &ActHead| pinned.slot == head.slot && pinned.seq > head.seq;
            if self.acts.iter().any(|pinned| is_newer(pinned) && !gone.contains(pinned)) {
                continue;
            }
            self.acts.retain(|pinned| pinned.slot != head.slot || gone.contains(pinned));
            self.acts.insert(*head);
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
        let (fingerprint, heads, acts) = (Fingerprint([7; 32]), BTreeMap::new(), BTreeSet::new());
        let mut pins = Pins { fingerprint, log: log(4), heads, acts };
        pins.advance(log(3), [head(5)]);
        pins.advance(log(6), [head(2)]);
        assert_eq!((pins.log.seq, pins.heads[&device].seq), (6, 5));
        let encoded = pins.encode();
        assert!(encoded.starts_with(b"SRPINS\x01\x00"), "as before there were entries in them");
        assert_eq!(Pins::decode(&encoded).as_ref(), Ok(&pins));

        let act = |seq: u64, byte: u8| ActHead { slot: SlotId([2; 16]), seq, digest: Digest([byte; 32]) };
        let other = ActHead { slot: SlotId([3; 16]), ..act(1, 1) };
        pins.advance_acts(&[act(1, 1), other], &[]);
        pins.advance_acts(&[act(3, 3)], &[]);
        pins.advance_acts(&[act(2, 2)], &[]);
        assert_eq!(pins.acts, [act(3, 3), other].into());
        assert_eq!(Pins::decode(&pins.encode()).as_ref(), Ok(&pins));
        // One that is gone stays beside what came in its place.
        pins.advance_acts(&[act(3, 9)], &[act(3, 3)]);
        pins.advance_acts(&[act(4, 4)], &[act(3, 3)]);
        assert_eq!(pins.acts, [act(3, 3), act(4, 4), other].into());
        let mut newer = pins.encode();
        newer[6] = 3;
        assert_eq!(Pins::decode(&newer), Err(codec::Error::NotCanonical("version")));
    }
}

//! What vouches for a device's headers when its own word is worth nothing: the log's records, which knew some of
//! them by an owner's clock, and the chain as far as it is whole.

use crate::crypto::digest;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::vault::LockedVault;
use crate::vault::authority::LogHead;
use crate::vault::authority::damaged;
use crate::vault::authority::refused;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::history::History;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record::Head;
use crate::vault::record::Payload;
use crate::vault::record::RECORD_BYTES_MAX;
use crate::vault::record::Record;

/// A device's chain as far as it is whole, and what stands beyond.
pub struct Whole {
    /// Up to the last place at which it can be read.
    pub history: History,
    /// Why it can't be read further; none if it is whole to its end.
    pub hindrance: Option<Error>,
    /// What stands at later places: each one's place and the first 8 bytes of its digest.
    pub beyond: Vec<(u64, [u8; 8])>,
}

impl LockedVault {
    /// A device's chain as far as it is whole. Whoever has its key and the storage can put a second header at a
    /// place that is taken, and so make the rest unreadable; what is before that stays what it was.
    ///
    /// # Errors
    /// As [`LockedVault::history`] for a device that was revoked; [`Error::Store`].
    pub fn whole_history(&self, device: DeviceId) -> Result<Whole, Error> {
        let (history, hindrance) = History::load_as_far(self.store(), self.log(), device, u64::MAX)?;
        let mut beyond = Vec::new();
        if hindrance.is_some() {
            let whole = history.head().map_or(0, |head| head.seq);
            for name in fetch::list_both(self.store(), &format!("s/{device}/"))? {
                if let Some(Place::Header { seq, digest, .. }) = Place::parse(&name)
                    && seq > whole
                {
                    beyond.push((seq, digest));
                }
            }
        }
        Ok(Whole { history, hindrance, beyond })
    }

    /// The furthest header of `device` that a record names which was made before `time`, by its owner's clock:
    /// the device had made that one and all before it by then.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] or [`Error::Newer`] naming a record; [`Error::Store`].
    pub fn known_before(&self, device: DeviceId, time: u64) -> Result<Option<Head>, Error> {
        let mut known: Option<Head> = None;
        for at in self.log().records() {
            let record = self.record(at)?;
            if record.time >= time {
                continue;
            }
            let head = heads(&record.payload).iter().find(|head| head.device == device);
            if let Some(head) = head.filter(|head| known.is_none_or(|known| head.seq > known.seq)) {
                known = Some(*head);
            }
        }
        Ok(known)
    }

    /// A record of the log, which was verified when the log was read.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] or [`Error::Newer`] naming it; [`Error::Store`].
    pub fn record(&self, at: &LogHead) -> Result<Record, Error> {
        let name = Place::Record { seq: at.seq, digest: first8(&at.digest) }.name();
        fetch::checked(self.store(), &name, RECORD_BYTES_MAX as u64, |bytes| {
            if digest::digest(bytes) != at.digest {
                return Err(damaged(&name, "it is not the one that the log names"));
            }
            Record::decode(bytes).map_err(|error| refused(&name, error))
        })
    }
}

/// The headers that a record names as the newest that its owner had seen.
fn heads(payload: &Payload) -> &[Head] {
    match payload {
        Payload::Keys(keys) => &keys.heads,
        Payload::Seen(heads) | Payload::Inventory { heads, .. } | Payload::Purge { heads, .. } => heads,
        // It names where a chain ends, and with that what its device had made.
        Payload::DeviceRevoke { head } if head.digest != Digest([0; 32]) => std::slice::from_ref(head),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::vault::testing::Owner;

    #[test]
    fn the_furthest_header_that_a_record_from_before_names_is_found() {
        let mut owner = Owner::new();
        let (mut writer, other) = (owner.add_device(), owner.add_device());
        let heads: Vec<Head> = (0..3).map(|_| writer.put(&owner, |_| {})).collect();
        owner.append(Payload::Seen(vec![heads[1]]));
        owner.append(Payload::Seen(vec![heads[0]]));
        let vault = LockedVault::load(Arc::new(owner.duplicate().store), None).unwrap();
        assert_eq!(vault.known_before(writer.device, u64::MAX).unwrap(), Some(heads[1]));
        assert_eq!(vault.known_before(writer.device, 0).unwrap(), None, "no record is from before that");
        assert_eq!(vault.known_before(other.device, u64::MAX).unwrap(), None);
    }

    #[test]
    fn a_chain_is_whole_up_to_a_place_that_is_taken_twice() {
        let mut owner = Owner::new();
        let mut writer = owner.add_device();
        let locked = |owner: &Owner| LockedVault::load(Arc::new(owner.duplicate().store), None).unwrap();
        let heads: Vec<Head> = (0..3).map(|_| writer.put(&owner, |_| {})).collect();
        let whole = locked(&owner).whole_history(writer.device).unwrap();
        assert!(whole.hindrance.is_none() && whole.beyond.is_empty());

        let mut thief = writer.duplicate();
        writer.put(&owner, |_| {});
        thief.put(&owner, |header| header.time = 99);
        writer.put(&owner, |_| {});
        let whole = locked(&owner).whole_history(writer.device).unwrap();
        assert_eq!(whole.history.head(), Some(heads[2]));
        assert!(matches!(whole.hindrance, Some(Error::ForkedChain { seq: 4, .. })));
        let places: Vec<u64> = whole.beyond.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(places, [4, 4, 5]);
    }
}

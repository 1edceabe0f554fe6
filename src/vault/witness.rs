//! Which of a device's headers the log's records knew, and when: an owner's clock in place of the device's.

use crate::crypto::digest;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::vault::LockedVault;
use crate::vault::authority::LogHead;
use crate::vault::authority::damaged;
use crate::vault::authority::refused;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record::Head;
use crate::vault::record::Payload;
use crate::vault::record::RECORD_BYTES_MAX;
use crate::vault::record::Record;

impl LockedVault {
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
}

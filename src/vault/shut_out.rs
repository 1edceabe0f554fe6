//! Whether what was shut out of a vault knows any key that is still in use.

use crate::id::DeviceId;
use crate::id::Epoch;
use crate::id::SlotId;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::acts::renewals_since;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::history::History;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record::Payload;

impl LockedVault {
    /// The place of the record that began the newest epoch; none if there was only ever one.
    fn newest_epoch_began(&self) -> Option<u64> {
        let newest = self.log().keys().newest;
        let is_newest = |seq: &u64| self.log().newest_epoch_at(*seq) == Some(newest);
        let began = self.log().records().iter().map(|at| at.seq).find(is_newest);
        began.filter(|_| newest > Epoch(1))
    }

    /// What stands under a device's name beside its chain, or past where that ends: each one's place and the first 8
    /// bytes of its digest.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn headers_beside(&self, history: &History) -> Result<Vec<(u64, [u8; 8])>, Error> {
        let names = fetch::list_both(self.store(), &format!("s/{}/", history.device()))?;
        let beside = names.iter().filter_map(|name| match Place::parse(name) {
            Some(Place::Header { seq, digest, .. })
                if history.at(seq).is_none_or(|head| first8(&head.digest) != digest) =>
            {
                Some((seq, digest))
            }
            _ => None,
        });
        Ok(beside.collect())
    }

    /// Whether the newest epoch began after `device` was shut out for the last time.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] or [`Error::Newer`] naming a record; [`Error::Store`].
    pub fn has_new_keys_since_revocation(&self, device: DeviceId) -> Result<bool, Error> {
        let is_shut_out = self.log().devices().get(&device).is_some_and(|known| known.revoked.is_some());
        let Some(began) = self.newest_epoch_began().filter(|_| is_shut_out) else { return Ok(false) };
        for at in self.log().records().iter().rev().take_while(|at| at.seq > began) {
            let payload = self.record(at)?.payload;
            if matches!(payload, Payload::DeviceRevoke { head } if head.device == device) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Vault {
    /// Whether the newest epoch began as a slot went, or later. If that can't be told, it did not.
    ///
    /// # Errors
    /// [`Error::NotOwner`].
    pub fn has_new_keys_since_slot(&self, id: SlotId) -> Result<bool, Error> {
        let former = &self.admin()?.former;
        let present = self.slots().slots.iter().map(|slot| slot.id).collect();
        let (Some(at), Some(began)) =
            (former.iter().rposition(|slot| slot.id == id), self.locked().newest_epoch_began())
        else {
            return Ok(false);
        };
        // Each new epoch renews the authority: so many renewals go back to the one that began the newest.
        let authority = |seq: u64| self.log().authority_at(seq).map(|(key, _)| key);
        let records = self.log().records().iter().filter(|at| at.seq >= began);
        let renewals = records.filter(|at| authority(at.seq) != authority(at.seq - 1)).count();
        Ok(renewals_since(former, &present)[at] >= renewals)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::id::Digest;
    use crate::vault::record::Head;
    use crate::vault::record::Keys;
    use crate::vault::testing::Owner;

    #[test]
    fn new_keys_count_only_if_they_came_after_the_machine_was_shut_out() {
        let mut owner = Owner::new();
        let writer = owner.add_device();
        let tell = |owner: &Owner| {
            let vault = LockedVault::load(Arc::new(owner.duplicate().store), None).unwrap();
            vault.has_new_keys_since_revocation(writer.device).unwrap()
        };
        let none = Head { device: writer.device, seq: 0, digest: Digest([0; 32]) };
        assert!(!tell(&owner), "it is in use");
        owner.append(Payload::DeviceRevoke { head: none });
        assert!(!tell(&owner), "there was only ever one epoch");
        let before = owner.log().keys().clone();
        let (generation, newest) = (before.generation + 1, Epoch(2));
        owner.append(Payload::Keys(Box::new(Keys { generation, newest, ..before })));
        assert!(tell(&owner));
        owner.append(Payload::Seen(Vec::new()));
        assert!(tell(&owner));
    }
}

//! What an owner takes out of a vault: snapshots first hidden, then what only they used.

use std::collections::HashSet;

use crate::id::DeviceId;
use crate::id::Digest;
use crate::vault::Vault;
use crate::vault::error::Error;
use crate::vault::record::ForgetRow;
use crate::vault::record::Head;
use crate::vault::record::Payload;
use crate::vault::record::PurgeRow;

impl Vault {
    /// Hides snapshots of a device, given by their places in its chain, and returns the place of the record.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; as [`Vault::append`].
    pub fn forget(
        &mut self,
        device: DeviceId,
        seqs: &[u64],
        now: u64,
        wait: &dyn Fn(u32),
    ) -> Result<u64, Error> {
        let mut rows: Vec<ForgetRow> =
            seqs.iter().map(|seq| ForgetRow { device, seq: *seq, name: Digest([0; 32]) }).collect();
        rows.sort_unstable();
        let head = self.append(now, wait, &|vault| Ok(Payload::Forget(vault.put_list(&rows)?)))?;
        Ok(head.seq)
    }

    /// Says that these objects of a device, by the names under which headers list them, no longer have to
    /// exist. `forget_seq` is the record that announced it, `heads` what was listed after that.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; as [`Vault::append`].
    pub fn purge(
        &mut self,
        device: DeviceId,
        listed: &HashSet<Digest>,
        (forget_seq, heads): (u64, &[Head]),
        now: u64,
        wait: &dyn Fn(u32),
    ) -> Result<(), Error> {
        let mut rows: Vec<PurgeRow> =
            listed.iter().map(|listed| PurgeRow { device, listed: *listed }).collect();
        rows.sort_unstable();
        self.append(now, wait, &|vault| {
            Ok(Payload::Purge { list: vault.put_list(&rows)?, forget_seq, heads: heads.to_vec() })
        })?;
        Ok(())
    }
}

//! Receipts: one line that names the newest state, for a machine that has seen none of it.

use std::fmt;

use crate::crypto::digest;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::VaultId;
use crate::vault::LockedVault;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::Vouched;
use crate::vault::error::Error;
use crate::vault::history::History;
use crate::vault::record::Head;

const PREFIX: &str = "strongroom1:";
const BYTES: usize = 72;
const CHECK_BYTES: usize = 3;

/// What a receipt says; digests are cut to 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The vault.
    pub vault: VaultId,
    /// The newest record of the authority log.
    pub authority_seq: u32,
    /// The first half of its digest.
    pub authority_digest: [u8; 16],
    /// The device that added the snapshot.
    pub device: DeviceId,
    /// The snapshot's place in the device's chain; 0 if it has none yet.
    pub seq: u32,
    /// The first half of its header's digest.
    pub digest: [u8; 16],
}

impl Receipt {
    /// The receipt for these heads.
    #[must_use]
    pub fn new(vault: VaultId, log: LogHead, head: &Head) -> Self {
        Self {
            vault,
            authority_seq: u32::try_from(log.seq).unwrap_or(u32::MAX),
            authority_digest: half(&log.digest),
            device: head.device,
            seq: u32::try_from(head.seq).unwrap_or(u32::MAX),
            digest: half(&head.digest),
        }
    }

    /// Reads one, in any case, with white space around it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let body = text.get(PREFIX.len()..)?;
        if !text.get(..PREFIX.len())?.eq_ignore_ascii_case(PREFIX) {
            return None;
        }
        let bytes = data_encoding::BASE32_NOPAD.decode(body.to_ascii_uppercase().as_bytes()).ok()?;
        let (said, check) = bytes.split_at_checked(BYTES)?;
        if check != self::check(said) {
            return None;
        }
        let array = |from: usize| -> Option<[u8; 16]> { said.get(from..from + 16)?.try_into().ok() };
        let number = |from: usize| -> Option<u32> {
            Some(u32::from_le_bytes(said.get(from..from + 4)?.try_into().ok()?))
        };
        Some(Self {
            vault: VaultId(array(0)?),
            authority_seq: number(16)?,
            authority_digest: array(20)?,
            device: DeviceId(array(36)?),
            seq: number(52)?,
            digest: array(56)?,
        })
    }

    /// Checks that a vault goes on from the state that this names. Which vault it is, the caller has checked.
    ///
    /// # Errors
    /// As [`Receipt::check_log`] and [`Receipt::check_history`]; as loading the device's history.
    pub fn check(&self, locked: &LockedVault) -> Result<(), Error> {
        self.check_log(locked.log())?;
        if self.seq == 0 { Ok(()) } else { self.check_history(locked.log(), &locked.history(self.device)?) }
    }

    /// Checks that a log goes on from the record that this names, and knows the device.
    ///
    /// # Errors
    /// [`Error::RolledBack`] if it ends before, or has no such device; [`Error::Forked`] if it differs.
    pub fn check_log(&self, log: &Log) -> Result<(), Error> {
        Vouched::from(self).check(log)?;
        if self.seq > 0 && !log.devices().contains_key(&self.device) {
            let what = format!("device {}, which the receipt names, is not in it", self.device.short());
            return Err(Error::RolledBack { what });
        }
        Ok(())
    }

    /// Checks that the chain of its device holds the snapshot that this names. Whatever was seen of a revoked
    /// device, an owner has settled what counts of it.
    ///
    /// # Errors
    /// [`Error::RolledBack`] if the chain ends before; [`Error::Forked`] if it has another one there.
    pub fn check_history(&self, log: &Log, history: &History) -> Result<(), Error> {
        let is_settled = log.devices().get(&self.device).is_some_and(|known| known.revoked.is_some());
        if self.seq == 0 || is_settled {
            return Ok(());
        }
        let place = format!("snapshot {} of device {}", self.seq, self.device.short());
        match history.at(u64::from(self.seq)) {
            Some(head) if half(&head.digest) == self.digest => Ok(()),
            Some(_) => Err(Error::Forked { what: format!("{place} is not the one that the receipt names") }),
            None => Err(Error::RolledBack { what: format!("{place}, which the receipt names, is gone") }),
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES + CHECK_BYTES);
        bytes.extend_from_slice(&self.vault.0);
        bytes.extend_from_slice(&self.authority_seq.to_le_bytes());
        bytes.extend_from_slice(&self.authority_digest);
        bytes.extend_from_slice(&self.device.0);
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(&self.digest);
        bytes.extend_from_slice(&check(&bytes));
        write!(f, "{PREFIX}{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

fn half(digest: &Digest) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_bytes()[..16]);
    half
}

/// Against mistyping: a receipt is no secret and proves nothing by itself.
fn check(said: &[u8]) -> [u8; CHECK_BYTES] {
    let mut digester = digest::Digester::new();
    digester.update(b"strongroom/receipt/1\0");
    digester.update(said);
    let digest = digester.finish();
    [digest.0[0], digest.0[1], digest.0[2]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            vault: VaultId([1; 16]),
            authority_seq: 7,
            authority_digest: [2; 16],
            device: DeviceId([3; 16]),
            seq: 9,
            digest: [4; 16],
        }
    }

    #[test]
    fn a_receipt_is_one_line_of_132_characters_and_reads_back_in_any_case() {
        let line = receipt().to_string();
        assert_eq!(line.len(), 132);
        assert_eq!(Receipt::parse(&line), Some(receipt()));
        assert_eq!(Receipt::parse(&format!(" {} \n", line.to_uppercase())), Some(receipt()));
    }

    #[test]
    fn a_receipt_with_one_character_wrong_is_refused() {
        let line = receipt().to_string();
        for at in 12..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(Receipt::parse(std::str::from_utf8(&bytes).unwrap()), None, "character {at}");
        }
        assert_eq!(Receipt::parse(&line[..131]), None);
        assert_eq!(Receipt::parse(""), None);
    }
}

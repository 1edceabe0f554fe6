//! A record of the log that something beside the vault itself names.

use crate::id::Digest;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::error::Error;
use crate::vault::receipt::Receipt;

/// A record that this machine's pins, a log that was verified before, or a receipt names.
///
/// It commits to every record before it. So up to there it alone says which chain is the vault's history,
/// whatever else somebody may have signed who once knew the authority's key.
#[derive(Clone, Copy, Debug)]
pub struct Vouched {
    seq: u64,
    digest: [u8; 32],
    /// How many bytes of the digest are known.
    known: usize,
    /// Who says so, for messages.
    by: &'static str,
}

impl Vouched {
    /// Its place in the log.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether a record with this digest can be the one.
    #[must_use]
    pub fn fits(&self, digest: &Digest) -> bool {
        self.digest[..self.known] == digest.0[..self.known]
    }

    /// The same, by the eight bytes that a record's name says of its digest.
    #[must_use]
    pub fn fits_name(&self, first: &[u8; 8]) -> bool {
        self.digest[..8] == first[..]
    }

    /// Of two, the one that commits to more.
    #[must_use]
    pub fn newer(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).max_by_key(Self::seq)
    }

    /// Checks that a log has the record.
    ///
    /// # Errors
    /// [`Error::RolledBack`] if it ends before; [`Error::Forked`] if another stands at its place.
    pub fn check(&self, log: &Log) -> Result<(), Error> {
        match log.at(self.seq) {
            Some(head) if self.fits(&head.digest) => Ok(()),
            Some(_) => Err(self.is_another()),
            None => Err(self.ends_before(log.head().seq)),
        }
    }

    /// What to say of a log that ends at `last`.
    pub(super) fn ends_before(&self, last: u64) -> Error {
        let (by, seq) = (self.by, self.seq);
        Error::RolledBack { what: format!("its log ends at record {last}, {by} record {seq}") }
    }

    /// What to say of a log in which another record stands at this place.
    pub(super) fn is_another(&self) -> Error {
        let (by, seq) = (self.by, self.seq);
        Error::Forked { what: format!("record {seq} of its log is not the one that {by}") }
    }
}

impl From<LogHead> for Vouched {
    fn from(head: LogHead) -> Self {
        Self { seq: head.seq, digest: head.digest.0, known: 32, by: "this machine has seen" }
    }
}

impl From<&Receipt> for Vouched {
    fn from(receipt: &Receipt) -> Self {
        let mut digest = [0; 32];
        digest[..16].copy_from_slice(&receipt.authority_digest);
        Self { seq: u64::from(receipt.authority_seq), digest, known: 16, by: "the receipt names" }
    }
}

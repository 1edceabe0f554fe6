//! A log that two histories claim, and what an owner can do about it.
//!
//! Two records at its last place ([`Fork`]) come of two owners' commands that meet and are both cut off
//! before either could withdraw its record. Nobody reads the vault then, as nobody can know which of the two
//! the other readers have seen; a VOID names the loser.
//!
//! Two branches ([`Branch`]) can be the same that went on, or the doing of somebody who once knew the
//! authority's key and signs another history with it. What this machine has seen, a receipt or a person says
//! which one is the vault's; the records of the other one are removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::store::Store;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::Vouched;
use crate::vault::authority::voids;
use crate::vault::change::withdraw;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::history;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record::Payload;
use crate::vault::record::Record;
use crate::vault::slot::Way;

/// One of two records at the last place of a log.
pub struct Rival {
    record: Record,
    digest: Digest,
    /// The vault as it is with this one alone, if all is there that it rests on.
    locked: Result<LockedVault, Error>,
    /// Whether a device's newest snapshot knew of it.
    is_known: bool,
    /// Whether objects are gone that it let its writer delete.
    has_begun: bool,
    /// Whether it puts another key of the authority into force.
    renews_authority: bool,
}

impl Rival {
    /// What it says.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.record.payload
    }

    /// Of all its bytes: what a person calls it by.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The vault as it is with this one alone.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Damaged`] if it can't stand: its slot table or rings aren't there, or
    /// those beside it were removed as the other one came to rule.
    pub fn locked(&self) -> Result<&LockedVault, &Error> {
        self.locked.as_ref()
    }

    /// Whether a device that no record revokes has added a snapshot that knew of it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether objects are gone that it let its writer delete.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether it puts another key of the authority into force.
    #[must_use]
    pub fn renews_authority(&self) -> bool {
        self.renews_authority
    }
}

/// Two records at the last place of a log, of which nothing that this machine has seen says which is to stand.
pub struct Fork {
    before: LockedVault,
    rivals: [Rival; 2],
}

impl Fork {
    /// Reads the log up to its last place, and the two that stand there.
    ///
    /// # Errors
    /// As [`Log::load_before_rivals`]; [`Error::Missing`] or [`Error::Damaged`] if neither can stand.
    pub fn load(
        store: &Arc<dyn Store>,
        expected: Option<&Fingerprint>,
        vouched: Option<Vouched>,
    ) -> Result<Self, Error> {
        let (before, rivals) = Log::load_before_rivals(&**store, expected, vouched)?;
        let shut_out = rivals.iter().filter_map(|(record, _)| match &record.payload {
            Payload::DeviceRevoke { head } => Some(head.device),
            _ => None,
        });
        let known = known_records(&**store, &before, &shut_out.collect());
        // Lists that an INVENTORY stands in for may be gone, and then it is the one that can stand.
        let settled = before.settled(&**store).ok();
        let has_begun = |payload: &Payload| {
            settled.as_ref().is_some_and(|log| log.has_begun(&**store, payload).unwrap_or(false))
        };
        let rivals = rivals.map(|(record, digest)| Rival {
            locked: stand(store, &before, &record, digest),
            is_known: known.contains(&digest),
            has_begun: has_begun(&record.payload),
            renews_authority: matches!(&record.payload, Payload::Keys(keys) if keys.authority != *before.authority()),
            record,
            digest,
        });
        let fork = Self { before: LockedVault { store: Arc::clone(store), log: before }, rivals };
        fork.check()
    }

    /// One at least can stand, and nothing but what is missing or damaged keeps the other one from it.
    fn check(mut self) -> Result<Self, Error> {
        let is_lacking = |error: &Error| matches!(error, Error::Missing { .. } | Error::Damaged { .. });
        let [first, second] = &self.rivals;
        let fatal = match (&first.locked, &second.locked) {
            (Err(error), _) if !is_lacking(error) => Some(0),
            (_, Err(error)) if !is_lacking(error) => Some(1),
            (Err(_), Err(_)) => Some(0),
            _ => None,
        };
        match fatal.map(|at: usize| std::mem::replace(&mut self.rivals[at].locked, Err(Error::Contended))) {
            Some(Err(error)) => Err(error),
            _ => Ok(self),
        }
    }

    /// Their place in the log.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.rivals[0].record.seq
    }

    /// The two, the lower digest first.
    #[must_use]
    pub fn rivals(&self) -> &[Rival; 2] {
        &self.rivals
    }

    /// Which of the two is to stand where nobody has to be asked: all owners choose alike.
    ///
    /// The one that can; the one whose deletions have begun; the one that a device's newest snapshot knew of;
    /// otherwise the one with the lower digest. But where one of them renews the authority's key, it may be
    /// what takes that key from somebody, and the other one what he signed against it, with a digest as low,
    /// snapshots and deletions as he likes: then a person has to say.
    #[must_use]
    pub fn decided(&self) -> Option<usize> {
        let [first, second] = &self.rivals;
        if first.renews_authority || second.renews_authority {
            return None;
        }
        for quality in [|rival: &Rival| rival.locked.is_ok(), Rival::has_begun, Rival::is_known] {
            match (quality(first), quality(second)) {
                (true, false) => return Some(0),
                (false, true) => return Some(1),
                (true, true) if first.has_begun && second.has_begun => return None,
                _ => {}
            }
        }
        Some(0)
    }

    /// Which of the two a person means by these first hex digits of its digest.
    #[must_use]
    pub fn find(&self, begin: &str) -> Option<usize> {
        let fits = |rival: &Rival| !begin.is_empty() && rival.digest.to_string().starts_with(begin);
        match self.rivals.each_ref().map(fits) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// Opens the vault as it is with one of the two alone.
    ///
    /// # Errors
    /// As [`LockedVault::unlock`]; [`Error::Missing`] or [`Error::Damaged`] if that one can't stand.
    pub fn unlock(&self, winner: usize, way: &Way) -> Result<Vault, Error> {
        let rival = &self.rivals[winner];
        let (record, digest) = (&rival.record, rival.digest);
        let locked = stand(&self.before.store, &self.before.log, record, digest)?;
        let (table, name) = locked.slot_table()?;
        locked.unlock_by(table, &name, way)
    }

    /// Names the loser in a VOID right after the winner, with which alone `vault` was opened. If another owner
    /// has done so meanwhile, or the loser was withdrawn, that is as good.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; as [`Vault::append`].
    pub fn settle(
        &self,
        winner: usize,
        vault: &mut Vault,
        now: u64,
        wait: &dyn Fn(u32),
    ) -> Result<(), Error> {
        vault.admin()?;
        let (stands, loser) = (self.rivals[winner].digest, self.rivals[1 - winner].digest);
        for digest in [stands, loser] {
            // Whoever was cut off may have been so between the two copies, and nobody else looks back.
            let name = Place::Record { seq: self.seq(), digest: first8(&digest) }.name();
            fetch::complete(vault.store(), &name, &digest)?;
        }
        let follows = LogHead { seq: self.seq(), digest: stands };
        let settled = vault.append(now, wait, &|vault| {
            // Anywhere else it would name nobody's rival.
            if vault.log().head() == follows { Ok(Payload::Void(loser)) } else { Err(Error::Contended) }
        });
        match settled {
            Err(error @ Error::Contended) => vault.reload().map_err(|_| error),
            result => result.map(drop),
        }
    }
}

/// One of the branches of a log, with what follows it, and the records of all others.
pub struct Branch {
    locked: LockedVault,
    others: Vec<ObjectName>,
    is_voided: bool,
}

impl Branch {
    /// Reads the branch that a record is on, and finds the records that are on another one.
    ///
    /// # Errors
    /// As [`Log::load_branch`].
    pub fn load(
        store: &Arc<dyn Store>,
        expected: Option<&Fingerprint>,
        vouched: Vouched,
    ) -> Result<Self, Error> {
        let (log, others) = Log::load_branch(&**store, expected, vouched)?;
        let is_voided = others.iter().any(|name| voids(&**store, name, &log.head().digest));
        Ok(Self { locked: LockedVault { store: Arc::clone(store), log }, others, is_voided })
    }

    /// The vault as it is without the others.
    #[must_use]
    pub fn locked(&self) -> &LockedVault {
        &self.locked
    }

    /// The same, to be opened.
    #[must_use]
    pub fn into_locked(self) -> LockedVault {
        self.locked
    }

    /// The records on another branch.
    #[must_use]
    pub fn others(&self) -> &[ObjectName] {
        &self.others
    }

    /// Whether another branch voids the last record of this one: that is what an owner's settling looks like
    /// to a machine that had seen the loser.
    #[must_use]
    pub fn is_voided(&self) -> bool {
        self.is_voided
    }

    /// Removes the records of all other branches, both copies; the last ones first, so that what is left, if
    /// this is cut off, begins where it did.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn remove_others(&self) -> Result<(), Error> {
        self.others.iter().rev().try_for_each(|name| withdraw(self.locked.store(), name))
    }
}

/// The vault with one of the rivals alone, if all is there that it rests on.
fn stand(
    store: &Arc<dyn Store>,
    before: &Log,
    record: &Record,
    digest: Digest,
) -> Result<LockedVault, Error> {
    let log = before.with(&**store, record.clone(), digest)?;
    let locked = LockedVault { store: Arc::clone(store), log };
    locked.slot_table()?;
    locked.ring(false)?;
    locked.ring(true)?;
    Ok(locked)
}

/// The records that the newest headers of all devices knew of, but of those that are revoked or that one of
/// the rivals shuts out. What can't be read, or isn't signed, knew of none.
fn known_records(store: &dyn Store, log: &Log, shut_out: &BTreeSet<DeviceId>) -> BTreeSet<Digest> {
    let counts = |device: &DeviceId, revoked: bool| !revoked && !shut_out.contains(device);
    let devices = log.devices().iter().filter(|(device, known)| counts(device, known.revoked.is_some()));
    devices
        .filter_map(|(device, known)| history::newest_snapshot(store, log, *device, known).ok().flatten())
        .map(|newest| newest.header.auth_head)
        .collect()
}

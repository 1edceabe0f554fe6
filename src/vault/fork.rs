//! Two records at the last place of the log, and the VOID with which an owner settles it.
//!
//! It takes two owners' commands that meet and are both cut off before either could withdraw its record.
//! Nobody reads the vault then, as nobody can know which of the two the other readers have seen.

use std::sync::Arc;

use crate::id::Digest;
use crate::id::Fingerprint;
use crate::store::Store;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::authority::Log;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::history;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record::Payload;
use crate::vault::record::Record;
use crate::vault::slot::Way;

/// Two records at the last place of a log, and which of them is to stand.
pub struct Fork {
    locked: LockedVault,
    winner: Record,
    loser: Record,
    loser_digest: Digest,
}

impl Fork {
    /// Reads the log up to its last place and chooses.
    ///
    /// That which a device's newest snapshot knew of is to stand, otherwise that with the lower digest: all
    /// owners choose alike. But KEYS whose slot table or rings aren't there can't stand, and neither can a
    /// record beside KEYS that came to rule and had the older ones removed.
    ///
    /// # Errors
    /// As [`Log::load_before_rivals`]; [`Error::Missing`] or [`Error::Damaged`] if neither can stand.
    pub fn load(store: &Arc<dyn Store>, expected: Option<&Fingerprint>) -> Result<Self, Error> {
        let (before, mut rivals) = Log::load_before_rivals(&**store, expected)?;
        if is_known(&**store, &before, &rivals[1].1) && !is_known(&**store, &before, &rivals[0].1) {
            rivals.swap(0, 1);
        }
        let [first, second] = rivals;
        match stand(store, &before, &first) {
            Ok(locked) => Ok(Self::new(locked, first, second)),
            Err(error @ (Error::Missing { .. } | Error::Damaged { .. })) => {
                match stand(store, &before, &second) {
                    Ok(locked) => Ok(Self::new(locked, second, first)),
                    Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn new(
        locked: LockedVault,
        (winner, _): (Record, Digest),
        (loser, loser_digest): (Record, Digest),
    ) -> Self {
        Self { locked, winner, loser, loser_digest }
    }

    /// The vault as it is with the winner alone.
    #[must_use]
    pub fn locked(&self) -> &LockedVault {
        &self.locked
    }

    /// Their place in the log.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.winner.seq
    }

    /// What the record says that is to stand.
    #[must_use]
    pub fn winner(&self) -> &Payload {
        &self.winner.payload
    }

    /// What the other one says, which will have been as if it were never put.
    #[must_use]
    pub fn loser(&self) -> &Payload {
        &self.loser.payload
    }

    /// Opens the vault as it is with the winner alone.
    ///
    /// # Errors
    /// As [`LockedVault::unlock`].
    pub fn unlock(&self, way: &Way) -> Result<Vault, Error> {
        let locked = LockedVault { store: Arc::clone(&self.locked.store), log: self.locked.log.clone() };
        let (table, name) = locked.slot_table()?;
        locked.unlock_by(table, &name, way)
    }

    /// Names the loser in a VOID right after the winner. If another owner has done so meanwhile, or the
    /// loser was withdrawn, that is as good.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; as [`Vault::append`].
    pub fn settle(&self, vault: &mut Vault, now: u64, wait: &dyn Fn(u32)) -> Result<(), Error> {
        vault.admin()?;
        let follows = self.locked.log.head();
        for digest in [follows.digest, self.loser_digest] {
            // Whoever was cut off may have been so between the two copies, and nobody else looks back.
            let name = Place::Record { seq: self.seq(), digest: first8(&digest) }.name();
            fetch::complete(vault.store(), &name, &digest)?;
        }
        let settled = vault.append(now, wait, &|vault| {
            // Anywhere else it would name nobody's rival.
            if vault.log().head() == follows {
                Ok(Payload::Void(self.loser_digest))
            } else {
                Err(Error::Contended)
            }
        });
        match settled {
            Err(error @ Error::Contended) => vault.reload().map_err(|_| error),
            result => result.map(drop),
        }
    }
}

/// The vault with one of the rivals alone, if all is there that it rests on.
fn stand(
    store: &Arc<dyn Store>,
    before: &Log,
    (record, digest): &(Record, Digest),
) -> Result<LockedVault, Error> {
    let log = before.with(&**store, record.clone(), *digest)?;
    let locked = LockedVault { store: Arc::clone(store), log };
    locked.slot_table()?;
    locked.ring(false)?;
    locked.ring(true)?;
    Ok(locked)
}

/// Whether the newest header of any device knew of a record. What can't be read knew of none.
fn is_known(store: &dyn Store, log: &Log, digest: &Digest) -> bool {
    log.devices().keys().any(|device| {
        let names = fetch::list_both(store, &format!("s/{device}/")).unwrap_or_default();
        let seq = |name: &_| match Place::parse(name) {
            Some(Place::Header { seq, .. }) => seq,
            _ => 0,
        };
        let newest = names.iter().max_by_key(|name| seq(name));
        let header = newest.and_then(|name| history::fetch_header(store, name).ok());
        header.is_some_and(|(header, _)| header.auth_head == *digest)
    })
}

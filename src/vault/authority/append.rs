//! Adding to the log, beside other owners who do the same.

use crate::crypto::sign::SigningKey;
use crate::store::Store;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::record_name;
use crate::vault::authority::refused;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::record::Payload;
use crate::vault::record::Record;

/// How often an owner's command tries again when others write at the same moment.
const APPEND_TRIES: u32 = 8;

impl Log {
    /// The record that would come next and say `payload`.
    #[must_use]
    pub fn next(&self, payload: Payload, now: u64) -> Record {
        let head = self.head();
        Record {
            vault: self.fingerprint.vault_id(),
            seq: head.seq + 1,
            time: now,
            prev: head.digest,
            payload,
        }
    }

    /// Appends what `build` makes of the log as it stands, and takes it in.
    ///
    /// A record that no reader would take is never put. If another owner took the place first, the own
    /// record is withdrawn, `wait` is called with the number of losses so far, and `build` is asked
    /// anew. Two who withdraw at once and don't wait by chance may meet again; nothing but the time it
    /// takes rests on it, so `wait` can be anything from nothing to a short random sleep.
    ///
    /// # Errors
    /// [`Error::Contended`] after a few such losses; [`Error::Damaged`] if the record would not be
    /// taken; what `build` or the store says.
    pub fn append(
        &mut self,
        store: &dyn Store,
        key: &SigningKey,
        now: u64,
        wait: &dyn Fn(u32),
        build: &dyn Fn(&Self) -> Result<Payload, Error>,
    ) -> Result<LogHead, Error> {
        for lost in 1..=APPEND_TRIES {
            let signed = self.next(build(self)?, now).sign(key);
            let seq = self.head().seq + 1;
            let name = record_name(seq, &signed);
            // As a reader would, before anybody can see it: one bad record would close the log for good.
            let record = Record::decode(signed.bytes()).map_err(|error| refused(&name, error))?;
            Record::verify(signed.bytes(), &self.authority).map_err(|error| refused(&name, error))?;
            let mut onward = self.clone();
            onward.apply(store, record, signed.digest())?;
            onward.settle(store)?;
            fetch::put_twice(store, &name, signed.bytes())?;
            let rivals = fetch::list_both(store, "a/")?.into_iter().any(|other| {
                other != name
                    && matches!(Place::parse(&other), Some(Place::Record { seq: at, .. }) if at == seq)
            });
            if !rivals {
                *self = onward;
                return Ok(self.head());
            }
            store.remove(&name)?;
            store.remove(&name.second())?;
            wait(lost);
            *self = Self::load(store, Some(&self.fingerprint))?;
        }
        Err(Error::Contended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;
    use crate::vault::record::PurgeRow;
    use crate::vault::testing::Owner;

    fn load(owner: &Owner) -> Result<Log, Error> {
        Log::load(&owner.store, None)
    }

    #[test]
    fn a_record_that_no_reader_would_take_is_never_put() {
        let mut owner = Owner::new();
        let device = owner.add_device().device;
        let mut log = load(&owner).unwrap();
        let list = owner.list(&[PurgeRow { device, listed: Digest([9; 32]) }]);
        let before = log.head();
        let put = log.append(&owner.store, &owner.key, 1, &|_| {}, &|_| {
            Ok(Payload::Purge { list, forget_seq: 1, heads: Vec::new() })
        });
        assert!(matches!(put, Err(Error::Damaged { .. })));
        assert_eq!((log.head(), load(&owner).unwrap().head()), (before, before));
    }

    #[test]
    fn whoever_loses_a_place_in_the_log_withdraws_waits_and_comes_next() {
        let owner = Owner::new();
        let mut log = load(&owner).unwrap();
        let rival = log.next(Payload::Seen(Vec::new()), 7).sign(&owner.key);
        let name = record_name(2, &rival);
        let losses = std::cell::RefCell::new(Vec::new());
        let head = log
            .append(&owner.store, &owner.key, 1, &|lost| losses.borrow_mut().push(lost), &|_| {
                // The other one puts his while this one is still being made.
                fetch::put_twice(&owner.store, &name, rival.bytes())?;
                Ok(Payload::Seen(Vec::new()))
            })
            .unwrap();
        assert_eq!((head.seq, &losses.borrow()[..]), (3, &[1][..]));
        let read = load(&owner).unwrap();
        assert_eq!((read.head(), read.at(2).unwrap().digest), (head, rival.digest()));
    }
}

//! Adding to the log, beside other owners who do the same.

use crate::crypto::digest;
use crate::crypto::sign::SigningKey;
use crate::id::Digest;
use crate::id::ObjectName;
use crate::store::Store;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::read::fetch_record;
use crate::vault::authority::record_name;
use crate::vault::authority::refused;
use crate::vault::change::withdraw;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record::Payload;
use crate::vault::record::Record;
use crate::vault::record::SignedRecord;

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
    /// A record that no reader would take is never put. Its second copy is put once no other record is seen
    /// to stand at its place: until then a reader waits, as it may be withdrawn. If another owner took the
    /// place first, `wait` is called with the number of losses so far, and `build` is asked
    /// anew. Two who withdraw at once and don't wait by chance may meet again; nothing but the time it
    /// takes rests on it, so `wait` can be anything from nothing to a short random sleep.
    ///
    /// # Errors
    /// [`Error::Contended`] after a few such losses, or [`Error::OtherBranch`] if what is in the way stands
    /// beside a record of this log; [`Error::Damaged`] if the record would not be
    /// taken; what `build` or the store says; as [`Log::load_from`].
    pub fn append(
        &mut self,
        store: &dyn Store,
        key: &SigningKey,
        now: u64,
        wait: &dyn Fn(u32),
        build: &dyn Fn(&Self) -> Result<Payload, Error>,
    ) -> Result<LogHead, Error> {
        let mut in_the_way = Error::Contended;
        for lost in 1..=APPEND_TRIES {
            let signed = self.next(build(self)?, now).sign(key);
            match self.try_append(store, &signed)? {
                Ok(onward) => {
                    *self = onward;
                    return Ok(self.head());
                }
                Err(error) => in_the_way = error,
            }
            wait(lost);
            *self = self.reload(store)?;
        }
        Err(in_the_way)
    }

    /// Puts a record and makes sure that it is the only one at its place, or withdraws it and says what was in
    /// the way.
    fn try_append(&self, store: &dyn Store, signed: &SignedRecord) -> Result<Result<Self, Error>, Error> {
        let onward = self.onward(store, signed)?;
        let name = record_name(onward.head().seq, signed);
        let head = self.head();
        let before = Place::Record { seq: head.seq, digest: first8(&head.digest) }.name();
        // Whoever put it may have been cut off between its two copies, and nobody else looks back.
        fetch::complete(store, &before, &head.digest)?;
        if let Some(error) = onward.in_the_way(store)? {
            return Ok(Err(error));
        }
        fetch::put_once(store, &name, signed.bytes())?;
        if let Some(error) = onward.in_the_way(store)? {
            withdraw(store, &name)?;
            return Ok(Err(error));
        }
        fetch::put_second(store, &name, signed.bytes())?;
        Ok(Ok(onward))
    }

    /// The log with the record, as a reader will take it in: before anybody can see it, as one bad record
    /// would close the log for good.
    fn onward(&self, store: &dyn Store, signed: &SignedRecord) -> Result<Self, Error> {
        let name = record_name(self.head().seq + 1, signed);
        let record = Record::decode(signed.bytes()).map_err(|error| refused(&name, error))?;
        Record::verify(signed.bytes(), &self.authority).map_err(|error| refused(&name, error))?;
        self.with(store, record, signed.digest())
    }

    /// What stands in the store that keeps the last record from being the log's next, if anything does.
    ///
    /// If another writer's record follows it already, it is the log to him, and stays.
    fn in_the_way(&self, store: &dyn Store) -> Result<Option<Error>, Error> {
        let own = self.head();
        let mut is_before_there = false;
        let mut in_the_way = None;
        for name in fetch::list_both(store, "a/")? {
            let Some(Place::Record { seq, digest }) = Place::parse(&name) else { continue };
            match self.at(seq) {
                Some(head) if first8(&head.digest) == digest => is_before_there |= seq + 1 == own.seq,
                Some(_) if seq == own.seq => in_the_way = in_the_way.or(Some(Error::Contended)),
                Some(_) if self.is_rival(store, seq, &name) => in_the_way = Some(Error::OtherBranch { name }),
                // Rubbish beside a record says nothing.
                Some(_) => {}
                None if follows(store, &name, &own.digest) => return Ok(None),
                None => in_the_way = in_the_way.or(Some(Error::Contended)),
            }
        }
        Ok(if is_before_there { in_the_way } else { Some(Error::Contended) })
    }

    /// Whether a record at a place of this log is one that a reader could take for the log's own.
    fn is_rival(&self, store: &dyn Store, seq: u64, name: &ObjectName) -> bool {
        let Some(before) = seq.checked_sub(1).and_then(|before| self.at(before)) else { return false };
        let key = self.authority_at(before.seq).map_or(&self.first_authority, |(key, _)| key);
        match fetch_record(store, name, Some(key)) {
            Ok((record, bytes)) => {
                record.prev == before.digest
                    && Record::verify(&bytes, key).is_ok()
                    && !self.voided.contains(&digest::digest(&bytes))
            }
            Err(error) => matches!(error, Error::Newer { .. }),
        }
    }
}

/// Whether a record says that it comes after another one.
fn follows(store: &dyn Store, name: &ObjectName, before: &Digest) -> bool {
    fetch_record(store, name, None).is_ok_and(|(record, _)| record.prev == *before)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::vault::record::PurgeRow;
    use crate::vault::testing::AfterPut;
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

    /// Appends while `happens` right after the record's first copy was put; where it came to stand.
    fn append_while(
        owner: &Owner,
        happens: impl FnOnce(&crate::store::Memory, &ObjectName) + Send + 'static,
    ) -> (Result<LogHead, Error>, u32) {
        let store = AfterPut { inner: owner.store.clone(), happens: Mutex::new(Some(Box::new(happens))) };
        let losses = std::cell::Cell::new(0);
        let mut log = load(owner).unwrap();
        let seen = |_: &Log| Ok(Payload::Seen(Vec::new()));
        let put = log.append(&store, &owner.key, 1, &|lost| losses.set(lost), &seen);
        (put, losses.get())
    }

    #[test]
    fn a_rival_that_comes_after_the_first_look_is_seen_at_the_second() {
        let owner = Owner::new();
        let log = load(&owner).unwrap();
        let rival = log.next(Payload::Seen(Vec::new()), 7).sign(&owner.key);
        let (name, digest) = (record_name(2, &rival), rival.digest());
        let (put, losses) = append_while(&owner, move |store, _| {
            fetch::put_twice(store, &name, rival.bytes()).unwrap();
        });
        assert_eq!((put.unwrap().seq, losses), (3, 1));
        assert_eq!(load(&owner).unwrap().at(2).unwrap().digest, digest);
    }

    #[test]
    fn a_rival_of_an_earlier_record_keeps_the_log_from_going_on() {
        let mut owner = Owner::new();
        let before = load(&owner).unwrap();
        owner.append(Payload::Seen(Vec::new()));
        let rival = before.next(Payload::Seen(Vec::new()), 7).sign(&owner.key);
        let name = record_name(2, &rival);
        let stands = name.clone();
        let (put, _) = append_while(&owner, move |store, _| {
            fetch::put_once(store, &name, rival.bytes()).unwrap();
        });
        assert!(matches!(put, Err(Error::OtherBranch { name }) if name == stands));
        let names = fetch::list_both(&owner.store, "a/").unwrap();
        assert_eq!(names.len(), 4, "the own record was withdrawn");
    }

    #[test]
    fn a_record_that_another_one_follows_already_stays() {
        let owner = Owner::new();
        let (key, vault) = (SigningKey::from_seed(owner.key.seed().duplicate()), owner.vault);
        let (put, losses) = append_while(&owner, move |store, own| {
            let prev = digest::digest(&store.get(own, 1 << 20).unwrap());
            let next = Record { vault, seq: 3, time: 1, prev, payload: Payload::Seen(Vec::new()) }.sign(&key);
            fetch::put_twice(store, &record_name(3, &next), next.bytes()).unwrap();
        });
        assert_eq!((put.unwrap().seq, losses), (2, 0));
        assert_eq!(load(&owner).unwrap().head().seq, 3);
    }
}

//! Taking records in: what each of them changes, and the lists that they name.

use std::collections::BTreeSet;
use std::collections::HashSet;

use crate::crypto::digest;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::store::Store;
use crate::vault::authority::Change;
use crate::vault::authority::Current;
use crate::vault::authority::Device;
use crate::vault::authority::Late;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::authority::ROWS_MAX;
use crate::vault::authority::Since;
use crate::vault::authority::damaged;
use crate::vault::authority::refused;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::record;
use crate::vault::record::ForgetRow;
use crate::vault::record::Head;
use crate::vault::record::ListRef;
use crate::vault::record::Payload;
use crate::vault::record::PurgeRow;
use crate::vault::record::Record;
use crate::vault::record::Row;
use crate::vault::record::SupersedeRow;

impl Log {
    /// Takes the next record in.
    pub(super) fn apply(&mut self, store: &dyn Store, record: Record, digest: Digest) -> Result<(), Error> {
        let seq = record.seq;
        let name = Place::Record { seq, digest: first8(&digest) }.name();
        let wrong = |what: &str| damaged(&name, what);
        match record.payload {
            Payload::Genesis { .. } => return Err(wrong("a second genesis record")),
            Payload::Keys(keys) => {
                let onward = self.keys.as_ref().map_or(keys.generation == 1, |before| {
                    keys.generation == before.generation + 1
                        && keys.oldest >= before.oldest
                        && keys.open >= before.open
                        && keys.newest >= before.newest
                });
                if !onward {
                    return Err(wrong("its generation or epochs go backwards"));
                }
                if self.keys.as_ref().is_some_and(|before| keys.oldest > before.oldest) {
                    let announced = self.epochs.iter().find(|since| since.open >= keys.oldest);
                    let announced = announced.map_or(seq, |since| since.seq);
                    self.late.push(Late { heads: keys.heads.clone(), announced, is_forget: false });
                }
                for (device, message) in &keys.messages {
                    let device = self.devices.get_mut(device).ok_or_else(|| wrong("an unknown device"))?;
                    device.messages.push(*message);
                }
                self.epochs.push(Since {
                    seq,
                    oldest: keys.oldest,
                    open: keys.open,
                    newest: keys.newest,
                    authority: keys.authority.clone(),
                });
                self.take_heads(&keys.heads);
                self.authority = keys.authority.clone();
                self.keys = Some(*keys);
            }
            Payload::DeviceAdd { device, verifying_key, kem_key, message } => {
                let added = Device {
                    verifying_key,
                    kem_key: *kem_key,
                    added: record.time,
                    revoked: None,
                    messages: vec![message],
                };
                if self.devices.insert(device, added).is_some() {
                    return Err(wrong("a device that is there already"));
                }
            }
            Payload::DeviceRevoke { head } => {
                let device = self.devices.get_mut(&head.device).ok_or_else(|| wrong("an unknown device"))?;
                // To raise it would bring back headers whose objects may be gone.
                if device.revoked.is_some_and(|before| before != head && before.seq <= head.seq) {
                    return Err(wrong("a device's last header moved forward"));
                }
                device.revoked = Some(head);
            }
            Payload::Message { device, names } => {
                let device = self.devices.get_mut(&device).ok_or_else(|| wrong("an unknown device"))?;
                device.messages.extend(names);
            }
            Payload::Seen(heads) => self.take_heads(&heads),
            Payload::Forget(list) => {
                let rows = self.fetch_list::<ForgetRow>(store, &list)?;
                self.forget_rows += rows.len() as u64;
                self.announced.insert(seq, rows.iter().map(|row| row.device).collect());
                for row in rows {
                    if row.seq == 0 {
                        self.forgotten_objects.insert((row.device, row.name));
                    } else {
                        self.forgotten.insert((row.device, row.seq));
                    }
                }
                self.forget_lists.push(list);
            }
            Payload::Supersede(list) => self.pending.push(Change::Supersede(list)),
            Payload::Inventory { lists, heads } => {
                // What it replaces is never read: those lists may be gone.
                self.pending = vec![Change::Inventory(lists)];
                self.take_heads(&heads);
            }
            Payload::Purge { list, forget_seq, heads } => {
                if !self.announced.contains_key(&forget_seq) {
                    return Err(wrong("nothing announced it"));
                }
                self.pending.push(Change::Purge(list));
                self.take_heads(&heads);
                self.late.push(Late { heads, announced: forget_seq, is_forget: true });
            }
            Payload::Void(loser) => {
                self.voided.insert(loser);
            }
        }
        self.heads.push(LogHead { seq, digest });
        self.times.push(record.time);
        Ok(())
    }

    /// Reads the lists of all changes that are pending, in order.
    pub(super) fn settle(&mut self, store: &dyn Store) -> Result<(), Error> {
        for change in std::mem::take(&mut self.pending) {
            match &change {
                Change::Supersede(list) => {
                    for row in self.fetch_map(store, list)? {
                        if row.is_purged() {
                            return Err(damaged(
                                &Place::List(list.digest).name(),
                                "it puts nothing in place",
                            ));
                        }
                        let now = Current::Object(row.current, row.length);
                        let current = self.current.entry((row.device, row.listed)).or_insert(now);
                        // What was purged stays purged.
                        if *current != Current::Purged {
                            *current = now;
                        }
                    }
                }
                Change::Inventory(lists) => {
                    self.current.clear();
                    self.map_lists.clear();
                    self.map_rows = 0;
                    for list in lists {
                        for row in self.fetch_map(store, list)? {
                            let object = Current::Object(row.current, row.length);
                            let now = if row.is_purged() { Current::Purged } else { object };
                            if self.current.insert((row.device, row.listed), now).is_some() {
                                return Err(twice(list));
                            }
                        }
                    }
                }
                Change::Purge(list) => {
                    let rows = self.fetch_list::<PurgeRow>(store, list)?;
                    self.map_rows += rows.len() as u64;
                    for row in rows {
                        self.current.insert((row.device, row.listed), Current::Purged);
                    }
                }
            }
            self.map_lists.extend(change.lists());
        }
        Ok(())
    }

    /// The log with all lists read, as [`Log::load`] gives it.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Damaged`] naming a list.
    pub fn settled(&self, store: &dyn Store) -> Result<Self, Error> {
        let mut log = self.clone();
        log.settle(store)?;
        Ok(log)
    }

    /// Whether objects are gone that `payload`, as the next record, lets its writer delete. Then nothing but
    /// that record leads to what it put in their place.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Damaged`] naming its list; [`Error::Store`].
    pub fn has_begun(&self, store: &dyn Store, payload: &Payload) -> Result<bool, Error> {
        let rows: Vec<(DeviceId, Digest, Option<Digest>)> = match payload {
            Payload::Supersede(list) => {
                let rows = self.fetch_list::<SupersedeRow>(store, list)?.into_iter();
                rows.map(|row| (row.device, row.listed, Some(row.current))).collect()
            }
            Payload::Purge { list, .. } => {
                let rows = self.fetch_list::<PurgeRow>(store, list)?.into_iter();
                rows.map(|row| (row.device, row.listed, None)).collect()
            }
            _ => return Ok(false),
        };
        let mut stored = HashSet::new();
        for device in rows.iter().map(|(device, ..)| *device).collect::<BTreeSet<_>>() {
            stored.extend(store.list(&format!("p/{device}/"))?.into_iter().map(|listed| listed.name));
        }
        let is_there = |device, digest| stored.contains(&Place::Pack { device, digest }.name());
        Ok(rows.into_iter().any(|(device, listed, instead)| match self.current(device, listed, 0) {
            Current::Object(before, _) => {
                !is_there(device, before) && instead.is_none_or(|now| is_there(device, now))
            }
            Current::Purged => false,
        }))
    }

    /// A list of current names, one for each listed name.
    fn fetch_map(&mut self, store: &dyn Store, list: &ListRef) -> Result<Vec<SupersedeRow>, Error> {
        let rows = self.fetch_list::<SupersedeRow>(store, list)?;
        self.map_rows += rows.len() as u64;
        // Sorted: two for one name stand side by side.
        let same =
            |pair: &[SupersedeRow]| pair[0].device == pair[1].device && pair[0].listed == pair[1].listed;
        if rows.windows(2).any(same) { Err(twice(list)) } else { Ok(rows) }
    }

    fn fetch_list<R: Row>(&self, store: &dyn Store, list: &ListRef) -> Result<Vec<R>, Error> {
        let name = Place::List(list.digest).name();
        if list.length as usize > record::LIST_BYTES_MAX {
            return Err(damaged(&name, "its record says that it is longer than any list"));
        }
        if self.forget_rows + self.map_rows + u64::from(list.rows) > ROWS_MAX {
            let what =
                format!("with it, the log's lists have more than {ROWS_MAX} rows, the most that are read");
            return Err(damaged(&name, &what));
        }
        fetch::checked(store, &name, u64::from(list.length), |bytes| {
            if digest::digest(bytes) != list.digest {
                return Err(damaged(&name, "it does not match its name"));
            }
            let rows = record::decode_list::<R>(self.fingerprint.vault_id(), bytes)
                .map_err(|error| refused(&name, error))?;
            if rows.len() as u64 != u64::from(list.rows) {
                return Err(damaged(&name, "it has another number of rows"));
            }
            Ok(rows)
        })
    }

    fn take_heads(&mut self, heads: &[Head]) {
        for head in heads {
            let seen = self.seen.entry(head.device).or_insert(*head);
            if head.seq > seen.seq {
                *seen = *head;
            }
        }
    }
}

fn twice(list: &ListRef) -> Error {
    damaged(&Place::List(list.digest).name(), "it says two objects for one name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::testing::Owner;

    fn load(owner: &Owner) -> Result<Log, Error> {
        Log::load(&owner.store, None)
    }

    fn drop_list(owner: &Owner, list: &ListRef) {
        let name = Place::List(list.digest).name();
        owner.store.remove(&name).unwrap();
        owner.store.remove(&name.second()).unwrap();
    }

    #[test]
    fn an_inventory_stands_in_for_all_lists_before_it_but_those_of_forget() {
        let mut owner = Owner::new();
        let device = owner.add_device().device;
        let name = |byte: u8| Digest([byte; 32]);
        let row = |listed: u8, current: u8| SupersedeRow {
            device,
            listed: name(listed),
            current: name(current),
            length: u32::from(current),
        };
        let first = owner.list(&[row(1, 11), row(2, 12)]);
        owner.append(Payload::Supersede(first));
        let forget = owner.list(&[ForgetRow { device, seq: 1, name: Digest([0; 32]) }]);
        let forget_seq = owner.next_seq();
        owner.append(Payload::Forget(forget));
        let purge = owner.list(&[PurgeRow { device, listed: name(2) }]);
        owner.append(Payload::Purge { list: purge, forget_seq, heads: Vec::new() });
        let before = load(&owner).unwrap();
        assert_eq!(before.inventory(), [row(1, 11), SupersedeRow::purged(device, name(2))]);
        assert_eq!(before.lists(), [forget, first, purge]);

        let whole = owner.list(&before.inventory());
        owner.append(Payload::Inventory { lists: vec![whole], heads: Vec::new() });
        let later = owner.list(&[row(2, 22), row(3, 13)]);
        owner.append(Payload::Supersede(later));
        drop_list(&owner, &first);
        drop_list(&owner, &purge);
        let log = load(&owner).unwrap();
        assert_eq!(log.current(device, name(1), 5), Current::Object(name(11), 11));
        assert_eq!(log.current(device, name(2), 5), Current::Purged, "what was purged stays purged");
        assert_eq!(log.current(device, name(3), 5), Current::Object(name(13), 13));
        assert_eq!(log.current(device, name(4), 5), Current::Object(name(4), 5));
        assert_eq!(log.lists(), [forget, whole, later]);

        // The whole map: what an inventory doesn't say is as its header lists it.
        let empty = owner.list::<SupersedeRow>(&[]);
        owner.append(Payload::Inventory { lists: vec![empty], heads: Vec::new() });
        assert_eq!(load(&owner).unwrap().current(device, name(1), 5), Current::Object(name(1), 5));

        drop_list(&owner, &forget);
        assert!(matches!(load(&owner), Err(Error::Missing { .. })));
    }

    #[test]
    fn a_list_that_says_two_objects_for_one_name_is_refused() {
        let device = DeviceId([1; 16]);
        let row = |current: u8| SupersedeRow {
            device,
            listed: Digest([9; 32]),
            current: Digest([current; 32]),
            length: 1,
        };
        let owner = || Owner::new();
        let mut one = owner();
        let list = one.list(&[row(1), row(2)]);
        one.append(Payload::Supersede(list));
        assert!(matches!(load(&one), Err(Error::Damaged { .. })));

        let mut two = owner();
        let lists = vec![two.list(&[row(1)]), two.list(&[row(2)])];
        two.append(Payload::Inventory { lists, heads: Vec::new() });
        assert!(matches!(load(&two), Err(Error::Damaged { .. })));

        let mut three = owner();
        let list = three.list(&[SupersedeRow::purged(device, Digest([9; 32]))]);
        three.append(Payload::Supersede(list));
        assert!(matches!(load(&three), Err(Error::Damaged { .. })));
    }

    #[test]
    fn lists_with_more_rows_than_a_reader_keeps_are_refused_unread() {
        let mut owner = Owner::new();
        let device = owner.add_device().device;
        let name = |byte: u8| Digest([byte; 32]);
        let row = |listed: u8| SupersedeRow { device, listed: name(listed), current: name(100), length: 1 };
        let forget = owner.list(&[ForgetRow { device, seq: 1, name: name(0) }]);
        owner.append(Payload::Forget(forget));
        let before = owner.list(&[row(1), row(2)]);
        owner.append(Payload::Supersede(before));
        // Lists that aren't there: whoever goes for one finds it missing.
        let most = u32::try_from(ROWS_MAX).unwrap();
        let absent = |rows: u32| ListRef { digest: name(200), length: 1 << 20, rows };
        let load_with = |owner: &Owner, payload: Payload| {
            let mut owner = owner.duplicate();
            owner.append(payload);
            load(&owner).err().unwrap()
        };
        let read = |error| matches!(error, Error::Missing { .. });
        let refused =
            |error: Error| error.to_string().ends_with("more than 4194304 rows, the most that are read");
        let inventory = |lists| Payload::Inventory { lists, heads: Vec::new() };
        let purge = |rows| Payload::Purge { list: absent(rows), forget_seq: 3, heads: Vec::new() };
        // One row of FORGET and two of the map are kept.
        for (payload, beyond) in [(Payload::Supersede as fn(ListRef) -> Payload, 3), (Payload::Forget, 1)] {
            assert!(read(load_with(&owner, payload(absent(most - beyond)))));
            assert!(refused(load_with(&owner, payload(absent(most - beyond + 1)))));
        }
        assert!(read(load_with(&owner, purge(most - 3))) && refused(load_with(&owner, purge(most - 2))));
        // An inventory takes the place of what the map was made of.
        assert!(read(load_with(&owner, inventory(vec![absent(most - 1)]))));
        assert!(refused(load_with(&owner, inventory(vec![absent(most)]))));
        assert!(refused(load_with(&owner, inventory(vec![before, absent(most - 2)]))));
    }

    #[test]
    fn a_purge_that_no_forget_announced_is_refused() {
        let mut owner = Owner::new();
        let device = owner.add_device().device;
        let list = owner.list(&[PurgeRow { device, listed: Digest([9; 32]) }]);
        owner.append(Payload::Purge { list, forget_seq: 1, heads: Vec::new() });
        assert!(matches!(load(&owner), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_second_revocation_moves_a_devices_last_header_back_only() {
        let revoked = |seqs: &[(u64, u8)]| {
            let mut owner = Owner::new();
            let device = owner.add_device().device;
            for (seq, byte) in seqs {
                let head = Head { device, seq: *seq, digest: Digest([*byte; 32]) };
                owner.append(Payload::DeviceRevoke { head });
            }
            load(&owner).map(|log| log.devices()[&device].revoked.map(|head| head.seq))
        };
        assert_eq!(revoked(&[(5, 1), (5, 1), (3, 2), (0, 0)]).unwrap(), Some(0));
        for bad in [&[(5, 1), (6, 2)][..], &[(5, 1), (5, 2)], &[(0, 0), (1, 1)], &[(0, 1)], &[(1, 0)]] {
            assert!(matches!(revoked(bad), Err(Error::Damaged { .. })), "{bad:?}");
        }
    }
}

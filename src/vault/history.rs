//! A device's history: its chain of snapshot headers, verified against the authority log.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use crate::crypto::digest;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::ObjectName;
use crate::store::Store;
use crate::vault::authority::Current;
use crate::vault::authority::Device;
use crate::vault::authority::Log;
use crate::vault::authority::damaged;
use crate::vault::authority::refused;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::header::HEADER_BYTES_MAX;
use crate::vault::header::Header;
use crate::vault::header::Snapshot;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::read::Rebuilt;
use crate::vault::record::Head;

/// An object that must exist: what a header calls it, and what it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    /// As its header lists it: bodies and indexes say this name.
    pub listed: Digest,
    /// Where its bytes are.
    pub name: Digest,
    /// How many there are.
    pub length: u32,
}

/// Why a header that its device signed doesn't count. It stays in the chain and lists nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It came after a prune or a rotation that had not seen it.
    Late,
    /// It names another epoch than the newest of the log that it knew.
    Epoch,
    /// It knew less of the log than a header before it.
    Falling,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "it came too late for what an owner's command had announced",
            Self::Epoch => "it was made under another epoch than the one in force",
            Self::Falling => "it knew less of the authority log than a header before it",
        })
    }
}

/// All headers of one device: those that are valid, and which aren't.
pub struct History {
    device: DeviceId,
    snapshots: Vec<Snapshot>,
    /// The whole chain, valid or not, from seq 1 on.
    chain: Vec<Digest>,
    /// The most of the log that any header so far knew.
    auth_seq: u64,
    lengths: HashMap<Digest, u32>,
    invalid: Vec<(Head, Why)>,
    /// Headers past a revocation, or of a branch that an owner didn't choose.
    revoked: u64,
    /// What the device's packs say of themselves, once an index couldn't be used. It stands here because
    /// all who read snapshots of this chain share it.
    pub(super) rebuilt: OnceLock<Rebuilt>,
}

impl History {
    /// Reads a device's chain from its first header on.
    ///
    /// Of a revoked device, the chain is the one that ends in the header that the owner named.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Newer`] naming the header; [`Error::HistoryMissing`] if one is
    /// missing; [`Error::ForkedChain`] if two stand at one place; [`Error::RolledBack`] if one was made
    /// knowing more of the authority log than there is.
    pub fn load(store: &dyn Store, log: &Log, device: DeviceId) -> Result<Self, Error> {
        Self::load_until(store, log, device, u64::MAX)
    }

    /// The same up to a place of the chain: what comes after it is not looked at, and can be anything.
    ///
    /// # Errors
    /// As [`History::load`], for what stands up to there.
    pub fn load_until(store: &dyn Store, log: &Log, device: DeviceId, until: u64) -> Result<Self, Error> {
        match Self::load_as_far(store, log, device, until)? {
            (history, None) => Ok(history),
            (_, Some(hindrance)) => Err(hindrance),
        }
    }

    /// The same as far as the chain is whole, and why it can't be read further: a header is valid if the chain
    /// up to it is whole, whatever comes after it.
    ///
    /// # Errors
    /// [`Error::Store`]; as [`History::load`] for a device that was revoked: its chain is one or none.
    pub fn load_as_far(
        store: &dyn Store,
        log: &Log,
        device: DeviceId,
        until: u64,
    ) -> Result<(Self, Option<Error>), Error> {
        let mut history = Self {
            device,
            snapshots: Vec::new(),
            chain: Vec::new(),
            auth_seq: 0,
            lengths: HashMap::new(),
            invalid: Vec::new(),
            revoked: 0,
            rebuilt: OnceLock::new(),
        };
        let Some(known) = log.devices().get(&device) else {
            // Nobody added this device: whatever stands under its name is nothing.
            return Ok((history, None));
        };
        let names = fetch::list_both(store, &format!("s/{device}/"))?;
        if let Some(last) = known.revoked {
            let branch = load_branch(store, log, known, &names, &last)?;
            let headers =
                names.iter().filter(|name| matches!(Place::parse(name), Some(Place::Header { .. })));
            history.revoked = (headers.count() as u64).saturating_sub(branch.len() as u64);
            for snapshot in branch {
                history.take(log, snapshot)?;
            }
            return Ok((history, None));
        }
        match history.take_all(store, log, known, names, until) {
            Ok(()) => Ok((history, None)),
            Err(error @ Error::Store(_)) => Err(error),
            Err(hindrance) => Ok((history, Some(hindrance))),
        }
    }

    /// Appends what stands at each place, up to one of them or to the first that can't be taken.
    fn take_all(
        &mut self,
        store: &dyn Store,
        log: &Log,
        known: &Device,
        names: Vec<ObjectName>,
        until: u64,
    ) -> Result<(), Error> {
        let device = self.device;
        let mut places: BTreeMap<u64, Vec<ObjectName>> = BTreeMap::new();
        for name in names {
            if let Some(Place::Header { seq, .. }) = Place::parse(&name) {
                places.entry(seq).or_default().push(name);
            }
        }
        let last = places.last_key_value().map_or(0, |(seq, _)| *seq);
        for seq in 1..=last.min(until) {
            let here = places.get(&seq).map_or(&[][..], Vec::as_slice);
            let mut found = Vec::new();
            for name in here {
                found.push(fetch_snapshot(store, log, known, name)?);
            }
            if found.len() > 1 {
                return Err(Error::ForkedChain { device, seq });
            }
            let Some(snapshot) = found.pop() else { return Err(gap(device, seq)) };
            self.take(log, snapshot)?;
        }
        Ok(())
    }

    /// Appends a header to the chain; whether it is valid follows from the log.
    fn take(&mut self, log: &Log, snapshot: Snapshot) -> Result<(), Error> {
        let header = &snapshot.header;
        let place = |what: &str| format!("snapshot {} of device {} {what}", header.seq, self.device.short());
        if header.prev != self.chain.last().copied().unwrap_or(Digest([0; 32])) {
            return Err(Error::Forked { what: place("follows another one") });
        }
        match log.at(header.auth_seq) {
            None => {
                return Err(Error::RolledBack {
                    what: place("knew more of the authority log than there is"),
                });
            }
            Some(head) if head.digest != header.auth_head => {
                return Err(Error::Forked { what: place("knew another authority log") });
            }
            Some(_) => {}
        }
        let why = if header.auth_seq < self.auth_seq {
            Some(Why::Falling)
        } else if log.newest_epoch_at(header.auth_seq) != Some(header.epoch) {
            Some(Why::Epoch)
        } else if log.is_late(self.device, header.seq, header.auth_seq) {
            Some(Why::Late)
        } else {
            None
        };
        self.auth_seq = self.auth_seq.max(header.auth_seq);
        self.chain.push(snapshot.digest);
        if let Some(why) = why {
            let head = Head { device: self.device, seq: header.seq, digest: snapshot.digest };
            self.invalid.push((head, why));
            return Ok(());
        }
        for object in &header.objects {
            self.lengths.entry(object.name).or_insert(object.length);
        }
        self.snapshots.push(snapshot);
        Ok(())
    }

    /// Whose.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// All valid snapshots, oldest first, forgotten ones among them.
    #[must_use]
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// The newest header of the chain, valid or not, if there is one.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let digest = *self.chain.last()?;
        Some(Head { device: self.device, seq: self.chain.len() as u64, digest })
    }

    /// The header at a place of the chain, valid or not.
    #[must_use]
    pub fn at(&self, seq: u64) -> Option<Head> {
        let place = usize::try_from(seq.checked_sub(1)?).ok()?;
        let digest = *self.chain.get(place)?;
        Some(Head { device: self.device, seq, digest })
    }

    /// The headers of the chain that don't count, and why.
    #[must_use]
    pub fn invalid(&self) -> &[(Head, Why)] {
        &self.invalid
    }

    /// How many headers don't count: invalid, made after a revocation, or of a branch not chosen.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.invalid.len() as u64 + self.revoked
    }

    /// Where an object that a header lists is now.
    ///
    /// # Errors
    /// [`Error::Missing`] if no header lists it or it was purged.
    pub fn locate(&self, log: &Log, listed: Digest) -> Result<Located, Error> {
        let missing = || Error::Missing { name: Place::Pack { device: self.device, digest: listed }.name() };
        let length = *self.lengths.get(&listed).ok_or_else(missing)?;
        match log.current(self.device, listed, length) {
            Current::Object(name, length) => Ok(Located { listed, name, length }),
            Current::Purged => Err(missing()),
        }
    }

    /// Every object that must exist: the current names of all that valid headers list.
    #[must_use]
    pub fn must_exist(&self, log: &Log) -> Vec<Located> {
        let mut all: Vec<Located> =
            self.lengths.keys().filter_map(|listed| self.locate(log, *listed).ok()).collect();
        all.sort_unstable_by_key(|located| (located.name, located.listed));
        all
    }

    /// Whether the chain holds this state.
    ///
    /// # Errors
    /// [`Error::RolledBack`] if it ends before; [`Error::Forked`] if another header stands there.
    pub fn check_head(&self, expected: &Head) -> Result<(), Error> {
        match self.at(expected.seq) {
            Some(head) if head.digest == expected.digest => Ok(()),
            Some(_) => Err(other_head(expected)),
            None => Err(missing_head(expected)),
        }
    }
}

/// Checks the states of other devices that a snapshot says it had seen.
///
/// `histories` are those that could be read; a device whose history couldn't is passed over, as that
/// is an error by itself. What an owner revoked is passed over too: he has settled what counts.
///
/// # Errors
/// [`Error::RolledBack`] if one isn't there any more, or its device was never added;
/// [`Error::Forked`] if another header stands at its place.
pub fn check_seen(log: &Log, histories: &BTreeMap<DeviceId, History>, seen: &[Head]) -> Result<(), Error> {
    for head in seen {
        match (log.devices().get(&head.device), histories.get(&head.device)) {
            (None, _) => return Err(missing_head(head)),
            (Some(known), Some(history)) if known.revoked.is_none() => history.check_head(head)?,
            (Some(_), _) => {}
        }
    }
    Ok(())
}

/// The chain that ends in the header that an owner named when he revoked the device, oldest first.
fn load_branch(
    store: &dyn Store,
    log: &Log,
    known: &Device,
    names: &[ObjectName],
    last: &Head,
) -> Result<Vec<Snapshot>, Error> {
    let mut branch = Vec::new();
    let mut wanted = last.digest;
    for seq in (1..=last.seq).rev() {
        let name = Place::Header { device: last.device, seq, digest: first8(&wanted) }.name();
        if names.binary_search(&name).is_err() {
            return Err(if seq == last.seq { missing_head(last) } else { gap(last.device, seq) });
        }
        let snapshot = fetch_snapshot(store, log, known, &name)?;
        if snapshot.digest != wanted {
            return Err(other_head(&Head { device: last.device, seq, digest: wanted }));
        }
        wanted = snapshot.header.prev;
        branch.push(snapshot);
    }
    branch.reverse();
    Ok(branch)
}

/// Reads a header that its device signed for this vault and this place.
fn fetch_snapshot(
    store: &dyn Store,
    log: &Log,
    known: &Device,
    name: &ObjectName,
) -> Result<Snapshot, Error> {
    let (header, bytes) = fetch_header(store, name)?;
    Header::verify(&bytes, &known.verifying_key).map_err(|error| refused(name, error))?;
    if header.vault != log.fingerprint().vault_id() {
        return Err(damaged(name, "it is another vault's"));
    }
    Ok(Snapshot { digest: digest::digest(&bytes), header })
}

/// The newest header of a device, its signature checked, without reading those before it: of those,
/// the names alone must be there.
///
/// # Errors
/// [`Error::ForkedChain`] if two stand at one place; [`Error::HistoryMissing`] if none stands at one
/// before the newest; as [`fetch_header`].
pub fn newest_header(
    store: &dyn Store,
    log: &Log,
    device: DeviceId,
    known: &Device,
) -> Result<Option<Head>, Error> {
    let names = fetch::list_both(store, &format!("s/{device}/"))?;
    // First, so that the place at which a fork begins is told, and not where it has come to.
    check_single(store, log, device, known, &names)?;
    let newest = newest_among(store, log, device, known, &names)?;
    check_whole(&names, device, newest.map_or(0, |head| head.seq))?;
    Ok(newest)
}

/// Checks that no two headers that the device signed stand at one place: what follows a fork counts for nothing,
/// so a device must not go on after one. Only where two names stand is anything read.
fn check_single(
    store: &dyn Store,
    log: &Log,
    device: DeviceId,
    known: &Device,
    names: &[ObjectName],
) -> Result<(), Error> {
    let mut places: BTreeMap<u64, Vec<&ObjectName>> = BTreeMap::new();
    for name in names {
        if let Some(seq) = seq_of(name) {
            places.entry(seq).or_default().push(name);
        }
    }
    for (seq, here) in places.into_iter().filter(|(_, here)| here.len() > 1) {
        let signed = here.iter().filter(|name| fetch_snapshot(store, log, known, name).is_ok());
        if signed.count() > 1 {
            return Err(Error::ForkedChain { device, seq });
        }
    }
    Ok(())
}

/// The newest headers of all devices but the revoked ones, none older than `pinned`.
///
/// Rubbish or damage below one device's name must not stop the others: such a device is left out, so
/// that what was pinned of it stays; so is one whose chain has a gap. `verify` tells of it.
///
/// # Errors
/// [`Error::RolledBack`] or [`Error::Forked`] if a pinned header is gone; [`Error::Store`] if the names
/// can't be listed.
pub fn newest_headers(
    store: &dyn Store,
    log: &Log,
    pinned: &BTreeMap<DeviceId, Head>,
) -> Result<Vec<Head>, Error> {
    let mut heads = Vec::new();
    for (device, known) in log.devices().iter().filter(|(_, known)| known.revoked.is_none()) {
        let names = fetch::list_both(store, &format!("s/{device}/"))?;
        heads.extend(newest_after(store, log, *device, known, &names, pinned.get(device))?);
    }
    Ok(heads)
}

/// As [`newest_headers`], for a writer: of the devices but its `own`. A gap before a pinned header, or
/// before the one that an owner named when he revoked the device, is evidence that somebody deletes,
/// as is a pinned header that is gone. What nobody has vouched for yet may be rubbish, and is left out.
///
/// # Errors
/// As [`newest_headers`]; [`Error::HistoryMissing`] if there is such a gap.
pub fn other_heads(
    store: &dyn Store,
    log: &Log,
    own: DeviceId,
    pinned: &BTreeMap<DeviceId, Head>,
) -> Result<Vec<Head>, Error> {
    let mut heads = Vec::new();
    for (device, known) in log.devices().iter().filter(|(device, _)| **device != own) {
        let names = fetch::list_both(store, &format!("s/{device}/"))?;
        if let Some(last) = known.revoked {
            check_whole(&names, *device, last.seq)?;
            continue;
        }
        let pinned = pinned.get(device);
        heads.extend(newest_after(store, log, *device, known, &names, pinned)?);
        check_whole(&names, *device, pinned.map_or(0, |head| head.seq))?;
    }
    Ok(heads)
}

/// The newest header of a device, if it can be read and none before it is missing.
fn newest_after(
    store: &dyn Store,
    log: &Log,
    device: DeviceId,
    known: &Device,
    names: &[ObjectName],
    pinned: Option<&Head>,
) -> Result<Option<Head>, Error> {
    if let Some(pinned) = pinned {
        check_among(names, pinned)?;
    }
    let Ok(Some(head)) = newest_among(store, log, device, known, names) else { return Ok(None) };
    // Names say half of a digest: two headers could be made to share one.
    if let Some(pinned) = pinned
        && pinned.seq == head.seq
        && pinned.digest != head.digest
    {
        return Err(other_head(pinned));
    }
    Ok(check_whole(names, device, head.seq).is_ok().then_some(head))
}

/// Checks by names alone that something stands at each place of a chain up to `last`.
fn check_whole(names: &[ObjectName], device: DeviceId, last: u64) -> Result<(), Error> {
    let places: BTreeSet<u64> = names.iter().filter_map(seq_of).collect();
    match (1..=last).find(|seq| !places.contains(seq)) {
        Some(seq) => Err(gap(device, seq)),
        None => Ok(()),
    }
}

fn seq_of(name: &ObjectName) -> Option<u64> {
    match Place::parse(name) {
        Some(Place::Header { seq, .. }) => Some(seq),
        _ => None,
    }
}

/// The newest header of a device, signed by it.
///
/// # Errors
/// [`Error::ForkedChain`] if two stand at the newest place; as [`fetch_header`].
pub fn newest_snapshot(
    store: &dyn Store,
    log: &Log,
    device: DeviceId,
    known: &Device,
) -> Result<Option<Snapshot>, Error> {
    snapshot_among(store, log, device, known, &fetch::list_both(store, &format!("s/{device}/"))?)
}

fn newest_among(
    store: &dyn Store,
    log: &Log,
    device: DeviceId,
    known: &Device,
    names: &[ObjectName],
) -> Result<Option<Head>, Error> {
    let newest = snapshot_among(store, log, device, known, names)?;
    Ok(newest.map(|newest| Head { device, seq: newest.header.seq, digest: newest.digest }))
}

fn snapshot_among(
    store: &dyn Store,
    log: &Log,
    device: DeviceId,
    known: &Device,
    names: &[ObjectName],
) -> Result<Option<Snapshot>, Error> {
    let Some(seq) = names.iter().filter_map(seq_of).max() else { return Ok(None) };
    let mut newest = names.iter().filter(|name| seq_of(name) == Some(seq));
    let (Some(name), None) = (newest.next(), newest.next()) else {
        return Err(Error::ForkedChain { device, seq });
    };
    fetch_snapshot(store, log, known, name).map(Some)
}

/// The chain places of a device's headers that came too late to count.
///
/// A header never knows less of the log than the one before it, so reading ends at the first that knew of
/// what was announced.
///
/// # Errors
/// As [`fetch_header`], for the few headers that are read.
pub fn late_seqs(
    store: &dyn Store,
    log: &Log,
    device: DeviceId,
    known: &Device,
) -> Result<BTreeSet<u64>, Error> {
    let mut late = BTreeSet::new();
    let mut rules = log.late_from(device).peekable();
    if rules.peek().is_none() {
        return Ok(late);
    }
    let mut names: BTreeMap<u64, Vec<ObjectName>> = BTreeMap::new();
    for name in fetch::list_both(store, &format!("s/{device}/"))? {
        if let Some(Place::Header { seq, .. }) = Place::parse(&name) {
            names.entry(seq).or_default().push(name);
        }
    }
    for (listed, announced) in rules {
        'chain: for (seq, names) in names.range(listed + 1..) {
            for name in names {
                if fetch_snapshot(store, log, known, name)?.header.auth_seq >= announced {
                    break 'chain;
                }
                late.insert(*seq);
            }
        }
    }
    Ok(late)
}

/// Checks by name alone that a header that was seen is still listed.
///
/// # Errors
/// [`Error::RolledBack`] if nothing stands at its place; [`Error::Forked`] if another header does.
pub fn check_listed(store: &dyn Store, head: &Head) -> Result<(), Error> {
    check_among(&fetch::list_both(store, &format!("s/{}/", head.device))?, head)
}

fn check_among(names: &[ObjectName], head: &Head) -> Result<(), Error> {
    let wanted = Place::Header { device: head.device, seq: head.seq, digest: first8(&head.digest) };
    let mut there = false;
    for name in names {
        match Place::parse(name) {
            Some(place) if place == wanted => return Ok(()),
            Some(Place::Header { seq, .. }) if seq == head.seq => there = true,
            _ => {}
        }
    }
    Err(if there { other_head(head) } else { missing_head(head) })
}

fn missing_head(head: &Head) -> Error {
    Error::RolledBack {
        what: format!("snapshot {} of device {} was there and is gone", head.seq, head.device.short()),
    }
}

fn other_head(head: &Head) -> Error {
    Error::Forked {
        what: format!("snapshot {} of device {} is not the one that was seen", head.seq, head.device.short()),
    }
}

fn gap(device: DeviceId, seq: u64) -> Error {
    Error::HistoryMissing { what: format!("snapshot {seq} of device {} is missing", device.short()) }
}

/// Reads a header and holds it against its name; its signature is checked by [`Header::verify`].
///
/// # Errors
/// [`Error::Damaged`], [`Error::Newer`], [`Error::Missing`] or [`Error::Store`].
pub fn fetch_header(store: &dyn Store, name: &ObjectName) -> Result<(Header, Vec<u8>), Error> {
    fetch::checked(store, name, HEADER_BYTES_MAX as u64, |bytes| {
        // Before anything else: a flipped bit in the version is damage that the second copy mends.
        let (device, seq) = match Place::parse(name) {
            Some(Place::Header { device, seq, digest }) if digest == first8(&digest::digest(bytes)) => {
                (device, seq)
            }
            _ => return Err(damaged(name, "it does not match its name")),
        };
        let header = Header::decode(bytes).map_err(|error| refused(name, error))?;
        if (header.device, header.seq) != (device, seq) {
            return Err(damaged(name, "it does not match its name"));
        }
        Ok((header, bytes.to_vec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::testing::Owner;
    use crate::vault::testing::Writer;

    fn load(owner: &Owner, writer: &Writer) -> Result<History, Error> {
        History::load(&owner.store, &Log::load(&owner.store, None)?, writer.device)
    }

    fn seqs(history: &History) -> Vec<u64> {
        history.snapshots().iter().map(|snapshot| snapshot.header.seq).collect()
    }

    #[test]
    fn a_header_of_a_wrong_epoch_or_a_falling_log_is_passed_over_and_the_chain_goes_on() {
        let mut owner = Owner::new();
        let mut writer = owner.add_device();
        writer.put(&owner, |_| {});
        let wrong_epoch = writer.put(&owner, |header| header.epoch = crate::id::Epoch(7));
        let older = owner.head_at(1);
        let falling = writer.put(&owner, |header| (header.auth_seq, header.auth_head) = (1, older));
        let last = writer.put(&owner, |_| {});

        let history = load(&owner, &writer).unwrap();
        assert_eq!(seqs(&history), [1, 4]);
        assert_eq!(history.head(), Some(last));
        assert_eq!(history.invalid(), [(wrong_epoch, Why::Epoch), (falling, Why::Falling)]);
        assert_eq!(history.ignored(), 2);
        assert!(history.check_head(&falling).is_ok(), "it stands in the chain");
    }

    #[test]
    fn a_damaged_header_is_damage_of_its_devices_history() {
        let mut owner = Owner::new();
        let mut writer = owner.add_device();
        let head = writer.put(&owner, |_| {});
        let name = Place::Header { device: head.device, seq: 1, digest: first8(&head.digest) }.name();
        owner.store.flip(&name, 999);
        owner.store.flip(&name.second(), 999);
        assert!(matches!(load(&owner, &writer), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_revocation_chooses_the_branch_by_walking_back_from_its_head() {
        let mut owner = Owner::new();
        let mut writer = owner.add_device();
        writer.put(&owner, |_| {});
        let mut clone = writer.duplicate();
        for _ in 0..3 {
            writer.put(&owner, |_| {});
        }
        let other: Vec<Head> = (0..3).map(|_| clone.put(&owner, |header| header.time = 99)).collect();
        let log = owner.log();
        let device = writer.device;
        let newest = |log: &Log| newest_header(&owner.store, log, device, &log.devices()[&device]);
        assert!(matches!(newest(&log), Err(Error::ForkedChain { seq: 2, .. })));
        writer.put(&owner, |_| {});
        assert!(
            matches!(newest(&log), Err(Error::ForkedChain { seq: 2, .. })),
            "one stands at the newest place"
        );
        assert!(matches!(load(&owner, &writer), Err(Error::ForkedChain { seq: 2, .. })));

        owner.append(crate::vault::record::Payload::DeviceRevoke { head: other[1] });
        let history = load(&owner, &writer).unwrap();
        assert_eq!(seqs(&history), [1, 2, 3]);
        assert_eq!(history.head(), Some(other[1]));
        // Four of the branch that wasn't chosen, one past the head.
        assert_eq!(history.ignored(), 5);
    }

    #[test]
    fn rubbish_below_one_devices_name_keeps_no_other_from_moving_on() {
        let mut owner = Owner::new();
        let (mut first, mut second) = (owner.add_device(), owner.add_device());
        let pinned = first.put(&owner, |_| {});
        let newest = second.put(&owner, |_| {});
        let rubbish = Place::Header { device: first.device, seq: 9, digest: [7; 8] }.name();
        owner.store.put(&rubbish, b"rubbish").unwrap();

        let log = owner.log();
        let pins = BTreeMap::from([(pinned.device, pinned)]);
        assert_eq!(newest_headers(&owner.store, &log, &pins).unwrap(), [newest]);

        let name = Place::Header { device: pinned.device, seq: 1, digest: first8(&pinned.digest) }.name();
        owner.store.remove(&name).unwrap();
        owner.store.remove(&name.second()).unwrap();
        let gone = newest_headers(&owner.store, &log, &pins);
        assert!(matches!(gone, Err(Error::RolledBack { .. })));
    }

    #[test]
    fn a_gap_in_another_devices_chain_is_reported_up_to_what_somebody_vouched_for() {
        let mut owner = Owner::new();
        let (mut first, own) = (owner.add_device(), owner.add_device());
        let heads: Vec<Head> = (0..4).map(|_| first.put(&owner, |_| {})).collect();
        let seen = |seq: usize| BTreeMap::from([(first.device, heads[seq - 1])]);
        let others = |owner: &Owner, pins: &BTreeMap<DeviceId, Head>| {
            other_heads(&owner.store, &owner.log(), own.device, pins)
        };
        assert_eq!(others(&owner, &seen(2)).unwrap(), [heads[3]]);

        let name = Place::Header { device: first.device, seq: 2, digest: first8(&heads[1].digest) }.name();
        owner.store.remove(&name).unwrap();
        assert_eq!(others(&owner, &seen(3)).unwrap(), [heads[3]], "the second copy stands there");
        owner.store.remove(&name.second()).unwrap();
        assert!(matches!(others(&owner, &seen(3)), Err(Error::HistoryMissing { .. })));
        assert_eq!(others(&owner, &seen(1)).unwrap(), [], "nothing after the gap is pinned");
        assert_eq!(
            newest_headers(&owner.store, &owner.log(), &seen(3)).unwrap(),
            [],
            "people read what is left"
        );

        owner.append(crate::vault::record::Payload::DeviceRevoke { head: heads[2] });
        assert!(matches!(others(&owner, &seen(1)), Err(Error::HistoryMissing { .. })));
        owner.append(crate::vault::record::Payload::DeviceRevoke { head: heads[0] });
        assert_eq!(others(&owner, &seen(3)).unwrap(), []);
    }

    #[test]
    fn what_a_snapshot_had_seen_of_another_device_must_be_there_still() {
        let mut owner = Owner::new();
        let (mut first, second) = (owner.add_device(), owner.add_device());
        let seen = first.put(&owner, |_| {});
        let log = owner.log();
        let histories = |log: &Log| -> BTreeMap<DeviceId, History> {
            [first.device, second.device]
                .map(|device| (device, History::load(&owner.store, log, device).unwrap()))
                .into()
        };
        assert!(check_seen(&log, &histories(&log), &[seen]).is_ok());
        let later = Head { seq: 2, ..seen };
        assert!(matches!(check_seen(&log, &histories(&log), &[later]), Err(Error::RolledBack { .. })));
        let other = Head { digest: Digest([3; 32]), ..seen };
        assert!(matches!(check_seen(&log, &histories(&log), &[other]), Err(Error::Forked { .. })));
        let unknown = Head { device: DeviceId([5; 16]), ..seen };
        assert!(matches!(check_seen(&log, &histories(&log), &[unknown]), Err(Error::RolledBack { .. })));
    }
}

//! What anyone can check who holds no key: that everything signed for is there, whole and in order.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use rayon::prelude::*;

use crate::crypto::digest;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::ObjectName;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::store;
use crate::store::Store;
use crate::task::error::Error;
use crate::task::verify::Findings;
use crate::task::verify::Problem;
use crate::task::verify::ReadData;
use crate::task::verify::Report;
use crate::task::verify::contents::select;
use crate::vault::LockedVault;
use crate::vault::authority::Log;
use crate::vault::authority::damaged;
use crate::vault::end;
use crate::vault::error;
use crate::vault::fetch;
use crate::vault::fetch::SECOND;
use crate::vault::header::HEADER_BYTES_MAX;
use crate::vault::history::History;
use crate::vault::history::Located;
use crate::vault::init::README_TEXT;
use crate::vault::name::Place;
use crate::vault::name::first8;
use crate::vault::pins::Pins;
use crate::vault::receipt::Receipt;
use crate::vault::record::Head;

/// The most that an object with two copies has: a list of 64 MiB.
const COPIED_BYTES_MAX: u64 = 64 << 20;
/// Objects are read in pieces of this size when only their digest is wanted: little memory, few requests.
const PIECE_BYTES: u64 = 4 << 20;

/// A check that is under way.
pub(super) struct Run<'a> {
    pub(super) locked: &'a LockedVault,
    pub(super) observer: &'a dyn Observer,
    pub(super) report: Report,
    /// The chains that verify.
    pub(super) histories: BTreeMap<DeviceId, Arc<History>>,
}

/// Checks all that can be checked without a key.
///
/// `pins` is what this machine has seen, `expect` are receipts that the vault must go on from. The
/// objects that `read` selects are read and held against their digests, of the others the length alone
/// is checked.
///
/// # Errors
/// [`Error::Vault`] if the store can't be listed; [`Error::Interrupted`]. Whatever is wrong with the
/// vault itself is in the report.
pub fn verify_public(
    locked: &LockedVault,
    pins: Option<&Pins>,
    expect: &[Receipt],
    read: &ReadData,
    observer: &dyn Observer,
) -> Result<Report, Error> {
    let mut run = Run::new(locked, observer);
    run.check_objects(pins, expect)?;
    run.check_acts(pins);
    if *read != ReadData::None {
        let (selected, seed) = select(run.must_exist(), read);
        run.report.seed = seed;
        run.read(&selected, &|located, name| digest_matches(locked.store(), located, name))?;
    }
    run.finish()
}

impl<'a> Run<'a> {
    pub(super) fn new(locked: &'a LockedVault, observer: &'a dyn Observer) -> Self {
        let log = locked.log();
        let report = Report {
            fingerprint: log.fingerprint(),
            records: log.records().len() as u64,
            devices: log.devices().len() as u64,
            snapshots: 0,
            forgotten: 0,
            ignored: 0,
            invalid: Vec::new(),
            objects: 0,
            bytes: 0,
            copied: 0,
            due: Vec::new(),
            read: 0,
            read_bytes: 0,
            opened: false,
            walked: None,
            strays: 0,
            stray_bytes: 0,
            strangers: 0,
            seed: None,
            moved: false,
            findings: Findings::default(),
        };
        Self { locked, observer, report, histories: BTreeMap::new() }
    }

    /// Everything but the contents of packs, indexes and bodies.
    pub(super) fn check_objects(&mut self, pins: Option<&Pins>, expect: &[Receipt]) -> Result<(), Error> {
        self.observer.event(&Event::Phase(Phase::Verifying));
        self.check_log(pins, expect);
        self.load_histories();
        self.check_heads(pins, expect);
        // Listed after the chains: whatever a header names was there before it.
        let listing = Listing::load(self.locked.store(), self.locked.log())?;
        let mut named = self.check_copies(&listing)?;
        self.check_lengths(&listing);
        for located in self.must_exist() {
            named.insert(located.1);
        }
        self.count_strays(&listing, &named);
        self.report.strangers = self.locked.store().strangers().map_err(error::Error::from)?;
        self.stop_if_asked()
    }

    pub(super) fn finish(mut self) -> Result<Report, Error> {
        if !self.report.is_sound() {
            // A prune or rotation that ran meanwhile took away what the log told at the beginning.
            let now = self.locked.log().reload(self.locked.store());
            self.report.moved = now.is_ok_and(|now| now.head() != self.locked.log().head());
        }
        Ok(self.report)
    }

    pub(super) fn stop_if_asked(&self) -> Result<(), Error> {
        if self.observer.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }

    pub(super) fn find(&mut self, error: error::Error) {
        self.report.findings.add(Problem::Vault(error));
    }

    fn check_log(&mut self, pins: Option<&Pins>, expect: &[Receipt]) {
        let log = self.locked.log();
        if let Some(Err(error)) = pins.map(|pins| pins.check_log(log)) {
            self.find(error);
        }
        for receipt in expect {
            if receipt.vault != log.fingerprint().vault_id() {
                self.report.findings.add(Problem::OtherReceipt);
                continue;
            }
            if let Err(error) = receipt.check_log(log) {
                self.find(error);
            }
        }
    }

    /// One device's damage or fork doesn't hide another's.
    fn load_histories(&mut self) {
        let devices: Vec<DeviceId> = self.locked.log().devices().keys().copied().collect();
        let loaded: Vec<_> =
            devices.into_par_iter().map(|device| (device, self.locked.history(device))).collect();
        for (device, history) in loaded {
            match history {
                Ok(history) => {
                    self.report.snapshots += history.snapshots().len() as u64;
                    self.report.ignored += history.ignored();
                    self.report.invalid.extend_from_slice(history.invalid());
                    let log = self.locked.log();
                    let forgotten = history.snapshots().iter();
                    let forgotten =
                        forgotten.filter(|snapshot| log.is_forgotten(device, snapshot.header.seq)).count();
                    self.report.forgotten += forgotten as u64;
                    self.histories.insert(device, Arc::new(history));
                }
                Err(error) => self.find(error),
            }
        }
    }

    /// States that an owner's record, this machine or a receipt has seen must be in the chains.
    fn check_heads(&mut self, pins: Option<&Pins>, expect: &[Receipt]) {
        let log = self.locked.log();
        let pinned = pins.into_iter().flat_map(|pins| pins.heads.values());
        let heads: BTreeSet<Head> = log.seen().values().chain(pinned).copied().collect();
        for head in heads {
            self.check_head(&head);
        }
        for receipt in expect.iter().filter(|receipt| receipt.vault == log.fingerprint().vault_id()) {
            self.check_receipt(receipt);
        }
    }

    /// Holds a state that somebody has seen against the chain of its device.
    pub(super) fn check_head(&mut self, head: &Head) {
        let Some(known) = self.locked.log().devices().get(&head.device) else {
            let what = format!("device {} was there and is gone", head.device.short());
            return self.find(error::Error::RolledBack { what });
        };
        let Some(history) = self.histories.get(&head.device) else { return };
        // Whatever was seen of a revoked device, an owner has settled what counts of it.
        if known.revoked.is_none()
            && let Err(error) = history.check_head(head)
        {
            self.find(error);
        }
    }

    fn check_receipt(&mut self, receipt: &Receipt) {
        let Some(history) = self.histories.get(&receipt.device) else { return };
        if let Err(error) = receipt.check_history(self.locked.log(), history) {
            self.find(error);
        }
    }

    /// Reads both copies of everything that has two, and returns the names of all of it.
    fn check_copies(&mut self, listing: &Listing) -> Result<HashSet<ObjectName>, Error> {
        let expected = self.expected_copies(listing);
        self.observer.event(&Event::Total { items: expected.len() as u64, bytes: 0 });
        let store = self.locked.store();
        let observer = self.observer;
        let checked: Vec<Vec<Problem>> = expected
            .par_iter()
            .map(|(name, expected)| {
                if observer.interrupted() {
                    return Vec::new();
                }
                let problems = check_pair(store, name, *expected);
                observer.event(&Event::Progress { items: 1, bytes: 0 });
                problems
            })
            .collect();
        self.stop_if_asked()?;
        if checked.iter().flatten().any(Problem::is_second_missing) {
            // Whoever put the first copy may be about to put the second.
            store.pause(1);
        }
        let newest = newest_of_chains(&expected);
        for ((name, expected), problems) in expected.iter().zip(checked) {
            let problems = match &problems[..] {
                [problem] if problem.is_second_missing() => check_pair(store, name, *expected),
                _ => problems,
            };
            match &problems[..] {
                // A run that was cut off left it so, and the next one of its writer puts it.
                [problem] if problem.is_second_missing() && newest.contains(name) => {
                    self.report.due.push(name.second());
                }
                _ => {
                    for problem in problems {
                        self.report.findings.add(problem);
                    }
                }
            }
        }
        self.report.copied = expected.len() as u64;
        let mut named: HashSet<ObjectName> =
            expected.into_iter().flat_map(|(name, _)| [name.second(), name]).collect();
        if store.is_sealed_file() {
            // What it says was checked when the file was loaded.
            named.insert(end::name());
        }
        Ok(named)
    }

    /// Everything that must stand twice, and what tells whether a copy is right.
    fn expected_copies(&self, listing: &Listing) -> Vec<(ObjectName, Expected)> {
        let log = self.locked.log();
        let mut expected: BTreeMap<ObjectName, Expected> = BTreeMap::new();
        if !self.locked.store().is_sealed_file() {
            expected.insert(fetch::readme(), Expected::Whole(digest::digest(README_TEXT.as_bytes())));
        }
        let mut exact = |place: Place, digest: Digest| {
            expected.insert(place.name(), Expected::Whole(digest));
        };
        for head in log.records() {
            exact(Place::Record { seq: head.seq, digest: first8(&head.digest) }, head.digest);
        }
        for list in log.lists() {
            exact(Place::List(list.digest), list.digest);
        }
        let keys = log.keys();
        let generation = keys.generation;
        exact(Place::SlotTable { generation, digest: first8(&keys.slot_table) }, keys.slot_table);
        for (digest, admin) in [(keys.read_ring, false), (keys.admin_ring, true)] {
            exact(Place::Ring { generation, digest: first8(&digest), admin }, digest);
        }
        for (device, known) in log.devices() {
            for message in &known.messages {
                exact(Place::Message { device: *device, digest: *message }, *message);
            }
        }
        for (device, history) in &self.histories {
            for head in (1..).map_while(|seq| history.at(seq)) {
                let place = Place::Header { device: *device, seq: head.seq, digest: first8(&head.digest) };
                exact(place, head.digest);
            }
        }
        // Headers past a revocation or of a broken chain, requests and logs are known by name alone.
        for (name, digest) in &listing.dated {
            expected.entry(name.clone()).or_insert(Expected::Beginning(*digest));
        }
        expected.into_iter().collect()
    }

    /// What of people's logs names alone tell: that entries are gone from the middle, or that this machine has seen.
    pub(super) fn check_acts(&mut self, pins: Option<&Pins>) {
        match self.locked.act_gaps() {
            Ok(gaps) => gaps.into_iter().for_each(|gap| self.find(gap)),
            Err(error) => self.find(error),
        }
        self.check_seen_acts(pins);
    }

    pub(super) fn check_seen_acts(&mut self, pins: Option<&Pins>) {
        match self.locked.acts_gone(pins.into_iter().flat_map(|pins| &pins.acts)) {
            Ok(gone) => gone.iter().for_each(|head| self.find(head.is_gone())),
            Err(error) => self.find(error),
        }
    }

    fn check_lengths(&mut self, listing: &Listing) {
        for (located, name) in self.must_exist() {
            self.report.objects += 1;
            self.report.bytes += u64::from(located.length);
            match listing.packs.get(&name) {
                None => self.find(error::Error::Missing { name }),
                Some(bytes) if *bytes > u64::from(located.length) => {
                    self.find(damaged(&name, "it is longer than its signed length"));
                }
                Some(bytes) if *bytes < u64::from(located.length) => {
                    self.find(damaged(&name, "it is shorter than its signed length"));
                }
                Some(_) => {}
            }
        }
    }

    /// Every pack, index and body that must exist, once, in the order of their names.
    pub(super) fn must_exist(&self) -> Vec<(Located, ObjectName)> {
        let mut all = Vec::new();
        for (device, history) in &self.histories {
            let mut located = history.must_exist(self.locked.log());
            // Several old packs may have become one.
            located.dedup_by_key(|located| located.name);
            all.extend(
                located
                    .into_iter()
                    .map(|located| (located, Place::Pack { device: *device, digest: located.name }.name())),
            );
        }
        all
    }

    fn count_strays(&mut self, listing: &Listing, named: &HashSet<ObjectName>) {
        let broken = |name: &ObjectName| match Place::parse(name) {
            // What a broken chain would have named can't be told.
            Some(Place::Pack { device, .. }) => {
                self.locked.log().devices().contains_key(&device) && !self.histories.contains_key(&device)
            }
            _ => false,
        };
        let all = listing.packs.iter().chain(&listing.others);
        let (mut strays, mut bytes) = (0, 0);
        for (_, length) in all.filter(|(name, _)| !named.contains(*name) && !broken(name)) {
            strays += 1;
            bytes += *length;
        }
        (self.report.strays, self.report.stray_bytes) = (strays, bytes);
    }

    /// Has `check` read objects, in parallel, and takes down what it says.
    pub(super) fn read(
        &mut self,
        objects: &[(Located, ObjectName)],
        check: &(dyn Fn(&Located, &ObjectName) -> Result<(), error::Error> + Sync),
    ) -> Result<(), Error> {
        let bytes = objects.iter().map(|(located, _)| u64::from(located.length)).sum();
        self.observer.event(&Event::Phase(Phase::Reading));
        self.observer.event(&Event::Total { items: objects.len() as u64, bytes });
        let observer = self.observer;
        let findings = &self.report.findings;
        let failed: Vec<error::Error> = objects
            .par_iter()
            .with_max_len(1)
            .filter_map(|(located, name)| {
                if observer.interrupted() {
                    return None;
                }
                // Missing or of another length: that was said, and there is nothing to read.
                let result = if findings.names(name) { Ok(()) } else { check(located, name) };
                observer.event(&Event::Progress { items: 1, bytes: u64::from(located.length) });
                result.err()
            })
            .collect();
        self.stop_if_asked()?;
        self.report.read = objects.len() as u64;
        self.report.read_bytes = bytes;
        for error in failed {
            self.find(error);
        }
        Ok(())
    }
}

/// What tells whether a copy is right.
#[derive(Clone, Copy)]
enum Expected {
    /// Its digest.
    Whole(Digest),
    /// The first bytes of its digest, which its name tells.
    Beginning([u8; 8]),
}

/// All objects of a store, by what they are.
struct Listing {
    /// Below `p/`, with their lengths.
    packs: HashMap<ObjectName, u64>,
    /// Everything else, with its length.
    others: HashMap<ObjectName, u64>,
    /// Headers, requests and people's logs, in first copy or second, with what their names say of them.
    dated: BTreeMap<ObjectName, [u8; 8]>,
}

impl Listing {
    fn load(store: &dyn Store, log: &Log) -> Result<Self, Error> {
        let mut listing = Self { packs: HashMap::new(), others: HashMap::new(), dated: BTreeMap::new() };
        for listed in store.list("").map_err(error::Error::from)? {
            let name = listed.name;
            let first = name.as_str().strip_prefix(SECOND).and_then(ObjectName::parse);
            let place = Place::parse(first.as_ref().unwrap_or(&name));
            if let Some(digest) = place.as_ref().and_then(|place| digest_in(place, log)) {
                listing.dated.insert(first.clone().unwrap_or_else(|| name.clone()), digest);
            }
            let is_pack = first.is_none() && matches!(place, Some(Place::Pack { .. }));
            let kept = if is_pack { &mut listing.packs } else { &mut listing.others };
            kept.insert(name, listed.bytes);
        }
        Ok(listing)
    }
}

/// What the name of a header, request or log entry says of its digest.
fn digest_in(place: &Place, log: &Log) -> Option<[u8; 8]> {
    match place {
        // Nobody added such a device: what stands under its name is nothing.
        Place::Header { device, .. } if !log.devices().contains_key(device) => None,
        Place::Header { digest, .. } | Place::Request { digest, .. } | Place::Log { digest, .. } => {
            Some(*digest)
        }
        _ => None,
    }
}

/// The newest record, header of each device and entry of each slot's log, and requests to join: what a writer who is
/// at work, or was cut off, may have put once only.
fn newest_of_chains(expected: &[(ObjectName, Expected)]) -> HashSet<ObjectName> {
    let place = |name: &ObjectName| match Place::parse(name)? {
        Place::Record { seq, .. } => Some(((0_u8, [0; 16]), seq)),
        Place::Header { device, seq, .. } => Some(((1, device.0), seq)),
        Place::Log { slot, seq, .. } => Some(((2, slot.0), seq)),
        Place::Request { device, .. } => Some(((3, device.0), 0)),
        _ => None,
    };
    let mut ends = HashMap::new();
    for (chain, seq) in expected.iter().filter_map(|(name, _)| place(name)) {
        let end = ends.entry(chain).or_insert(seq);
        *end = seq.max(*end);
    }
    let is_newest =
        |name: &&ObjectName| place(name).is_some_and(|(chain, seq)| ends.get(&chain) == Some(&seq));
    expected.iter().map(|(name, _)| name).filter(is_newest).cloned().collect()
}

/// Reads both copies of an object.
fn check_pair(store: &dyn Store, name: &ObjectName, expected: Expected) -> Vec<Problem> {
    let bytes_max = match Place::parse(name) {
        Some(Place::Header { .. }) => HEADER_BYTES_MAX as u64,
        _ => COPIED_BYTES_MAX,
    };
    let read = |copy: &ObjectName| {
        let bytes = match store.get(copy, bytes_max) {
            Ok(bytes) => bytes,
            Err(store::Error::TooLarge { .. }) => {
                return Err(damaged(copy, "it is longer than any such object"));
            }
            Err(error) => return Err(error.into()),
        };
        let digest = digest::digest(&bytes);
        let right = match expected {
            Expected::Whole(expected) => digest == expected,
            Expected::Beginning(expected) => first8(&digest) == expected,
        };
        if right { Ok(digest) } else { Err(damaged(copy, "it does not match its digest")) }
    };
    if store.is_sealed_file() {
        return read(name).err().map(Problem::Vault).into_iter().collect();
    }
    match [name, &name.second()].map(read) {
        [Ok(first), Ok(second)] if first == second => Vec::new(),
        [Ok(_), Ok(_)] => vec![Problem::Vault(damaged(name, "its two copies differ"))],
        [Err(error), Ok(_)] => vec![bad_copy(name.clone(), &error)],
        [Ok(_), Err(error)] => vec![bad_copy(name.second(), &error)],
        [Err(first), Err(second)] => vec![Problem::Vault(first), Problem::Vault(second)],
    }
}

fn bad_copy(name: ObjectName, error: &error::Error) -> Problem {
    Problem::Copy { name, missing: matches!(error, error::Error::Missing { .. }) }
}

/// Reads an object piece by piece and holds it against its name.
fn digest_matches(store: &dyn Store, located: &Located, name: &ObjectName) -> Result<(), error::Error> {
    let length = u64::from(located.length);
    let mut digester = digest::Digester::new();
    let mut at = 0;
    while at < length {
        let end = (at + PIECE_BYTES).min(length);
        match store.get_range(name, at..end) {
            Ok(piece) => digester.update(&piece),
            Err(store::Error::Short { .. }) => {
                return Err(damaged(name, "it is shorter than its signed length"));
            }
            Err(error) => return Err(error.into()),
        };
        at = end;
    }
    if digester.finish() == located.name { Ok(()) } else { Err(damaged(name, "it does not match its name")) }
}

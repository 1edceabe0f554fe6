//! Each kind of object times each kind of damage, and the finding or error that names it.

#![allow(clippy::print_stdout, reason = "a random case prints its seed")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::path::Path;
use std::sync::Arc;

use strongroom::crypto::sign::SigningKey;
use strongroom::id::Digest;
use strongroom::id::ObjectName;
use strongroom::observe::Silent;
use strongroom::seal::pseal;
use strongroom::seal::pseal::Kind;
use strongroom::store::Memory;
use strongroom::store::State;
use strongroom::store::Store;
use strongroom::task::error::Error as TaskError;
use strongroom::task::verify::Class;
use strongroom::task::verify::Problem;
use strongroom::task::verify::ReadData;
use strongroom::task::verify::Report;
use strongroom::task::verify::verify_private;
use strongroom::task::verify::verify_public;
use strongroom::vault::LockedVault;
use strongroom::vault::authority::Log;
use strongroom::vault::device::DeviceVault;
use strongroom::vault::error::Error;
use strongroom::vault::fetch;
use strongroom::vault::machine::Machine;
use strongroom::vault::name::Place;
use strongroom::vault::record;
use strongroom::vault::record::ForgetRow;
use strongroom::vault::record::ListRef;
use strongroom::vault::record::Payload;

use harness::Site;
use harness::copy;
use harness::noise;

/// A small vault with two snapshots and every kind of object but requests and people's logs.
struct Case {
    memory: Memory,
    site: Site,
    source: tempfile::TempDir,
    whole: State,
}

impl Case {
    fn new() -> Self {
        let memory = Memory::new();
        let site = Site::new(Arc::new(memory.clone()));
        let source = tempfile::tempdir().unwrap();
        let path = |name: &str| source.path().join(name);
        std::fs::create_dir(path("sub")).unwrap();
        std::fs::write(path("notes.txt"), b"a few words").unwrap();
        std::fs::write(path("photo.jpg"), noise(1, 3_000_000)).unwrap();
        std::fs::write(path("sub/table.csv"), "name,amount\n".repeat(40_000)).unwrap();
        site.backup(source.path()).unwrap();
        forget_a_stray(&site);
        std::fs::write(path("sub/scan.tif"), &noise(1, 3_575_000)[3_500_000..]).unwrap();
        site.backup(source.path()).unwrap();
        site.machine.pin(&LockedVault::load(Arc::new(memory.clone()), None).unwrap()).unwrap();
        let whole = memory.snapshot();
        Self { memory, site, source, whole }
    }

    fn reset(&self) {
        self.memory.restore(&self.whole);
    }

    fn names(&self) -> Vec<ObjectName> {
        self.memory.list("").unwrap().into_iter().map(|listed| listed.name).collect()
    }

    fn bytes(&self, name: &ObjectName) -> Vec<u8> {
        self.memory.get(name, u64::MAX).unwrap()
    }

    fn locked(&self) -> Result<LockedVault, Error> {
        LockedVault::load(Arc::new(self.memory.clone()), Some(&self.site.fingerprint))
    }

    fn public(&self, read_all: bool) -> Report {
        let read = if read_all { &ReadData::All } else { &ReadData::None };
        verify_public(&self.locked().unwrap(), None, &[], read, &Silent).unwrap()
    }

    fn private(&self, read: &ReadData) -> Report {
        verify_private(&self.site.unlock(), None, &[], read, &Silent).unwrap()
    }

    /// The sealed objects of one kind.
    fn sealed(&self, kind: Kind) -> Vec<ObjectName> {
        let mut names = self.names();
        names.retain(|name| {
            name.as_str().starts_with("p/") && pseal::peek(&self.bytes(name)).unwrap().kind == kind
        });
        names
    }
}

/// An owner's record that names a list: so that the vault has one.
fn forget_a_stray(site: &Site) {
    let vault = site.unlock();
    let device = *vault.log().devices().keys().next().unwrap();
    let rows = [ForgetRow { device, seq: 0, name: Digest([7; 32]) }];
    let list = record::encode_list(site.fingerprint.vault_id(), &rows);
    let digest = strongroom::crypto::digest::digest(&list);
    fetch::put_twice(&*site.store, &Place::List(digest).name(), &list).unwrap();
    let key = SigningKey::from_seed(vault.admin().unwrap().authority_seed.duplicate());
    let mut log = Log::load(&*site.store, Some(&site.fingerprint)).unwrap();
    let list = ListRef { digest, length: u32::try_from(list.len()).unwrap(), rows: 1 };
    log.append(&*site.store, &key, harness::now(), &|_| (), &|_| Ok(Payload::Forget(list))).unwrap();
}

/// What happens to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    Flip,
    Cut,
    Extend,
    Empty,
    Delete,
    /// Another object of its kind, or of any, stands in its place.
    Swap,
    /// An object of its kind of another vault, opened by the same key file, stands in its place.
    Replay,
}

const DAMAGES: [Damage; 7] =
    [Damage::Flip, Damage::Cut, Damage::Extend, Damage::Empty, Damage::Delete, Damage::Swap, Damage::Replay];

/// An object in the same folder as `name`, if there is another, else any other; `bytes` are not its.
fn other_of_its_kind(case: &Case, name: &ObjectName, bytes: &[u8]) -> Vec<u8> {
    let folder = |name: &ObjectName| {
        let text = name.as_str();
        let first = text.strip_prefix("2/").unwrap_or(text);
        first.split('/').next().unwrap().to_owned()
    };
    let kind = |bytes: &[u8]| pseal::peek(bytes).ok().map(|header| header.kind);
    let mut others = case.names();
    others.retain(|other| case.bytes(other) != bytes);
    let rank = |other: &ObjectName| {
        let same_folder = folder(other) == folder(name);
        let same_length = case.bytes(other).len() == bytes.len();
        (!(same_folder && kind(&case.bytes(other)) == kind(bytes)), !same_folder, !same_length)
    };
    others.sort_by_key(rank);
    case.bytes(&others[0])
}

fn apply(case: &Case, other: &Case, name: &ObjectName, damage: Damage) {
    let bytes = case.bytes(name);
    match damage {
        Damage::Flip => case.memory.flip(name, bytes.len() / 2 * 8 + 3),
        Damage::Cut => case.memory.cut(name, bytes.len() * 2 / 3),
        Damage::Extend => case.memory.extend(name, &[0; 16]),
        Damage::Empty => case.memory.cut(name, 0),
        Damage::Delete => case.memory.remove(name).unwrap(),
        Damage::Swap => case.memory.replace(name, &other_of_its_kind(case, name, &bytes)),
        Damage::Replay => case.memory.replace(name, &other_of_its_kind(other, name, &bytes)),
    }
}

/// Findings in short: what of which object.
fn findings(report: &Report) -> Vec<(&'static str, String)> {
    let word = |problem: &Problem| match problem {
        Problem::Vault(Error::Damaged { .. }) => "damaged",
        Problem::Vault(Error::Missing { .. }) => "missing",
        Problem::Vault(Error::Newer { .. }) => "newer",
        Problem::Vault(Error::HistoryMissing { .. }) => "history missing",
        Problem::Vault(Error::RolledBack { .. }) => "rolled back",
        Problem::Vault(Error::Forked { .. } | Error::ForkedChain { .. } | Error::Rivals { .. }) => "forked",
        Problem::Vault(_) => "another error",
        Problem::Copy { missing: true, .. } => "copy missing",
        Problem::Copy { missing: false, .. } => "copy damaged",
        Problem::Tree { .. } => "tree",
        Problem::OtherReceipt => "another vault's receipt",
    };
    let list = report.findings.list().iter();
    list.map(|finding| {
        let object = finding.problem.object().map(ToString::to_string).unwrap_or_default();
        (word(&finding.problem), object)
    })
    .collect()
}

fn lost_names(report: &Report) -> BTreeSet<String> {
    let lost = report.findings.list().iter().flat_map(|finding| &finding.lost);
    lost.filter_map(|lost| lost.path.last())
        .map(|name| String::from_utf8(name.as_bytes().to_vec()).unwrap())
        .collect()
}

fn is_copied(name: &ObjectName) -> bool {
    !name.as_str().starts_with("p/")
}

#[test]
fn a_whole_vault_has_no_findings_and_nothing_that_nobody_names() {
    let case = Case::new();
    for report in
        [case.public(false), case.public(true), case.private(&ReadData::None), case.private(&ReadData::All)]
    {
        assert_eq!(findings(&report), []);
        assert_eq!((report.strays, report.strangers, report.ignored), (0, 0, 0));
        assert_eq!((report.devices, report.snapshots, report.records), (1, 2, 4));
        assert_eq!(report.objects, case.names().iter().filter(|name| !is_copied(name)).count() as u64);
        let copied = case.names().iter().filter(|name| name.as_str().starts_with("2/")).count();
        assert_eq!(report.copied, copied as u64);
        assert!(!report.moved && report.is_sound() && report.class().is_none());
    }
    assert_eq!(case.public(false).read, 0);
    assert_eq!(case.public(true).read, case.public(true).objects);
    let walked = case.private(&ReadData::None).walked.unwrap();
    assert_eq!(walked.snapshots, 2);
    assert!(walked.files >= 4, "three files, then a new one");
    for kind in [Kind::Data, Kind::Index, Kind::Body] {
        assert!(case.sealed(kind).len() >= 2, "there are two of {kind:?} to be swapped");
    }
    for folder in ["a/", "c/", "k/", "r/", "s/", "p/", "m/", "README.txt"] {
        assert!(!case.memory.list(folder).unwrap().is_empty(), "there is one in {folder}");
    }
}

#[test]
fn damage_of_one_copy_is_told_and_costs_nothing() {
    let (case, other) = (Case::new(), Case::new());
    let copies: Vec<_> = case.names().into_iter().filter(is_copied).collect();
    // What a writer puts last: cut off before that, the next run puts it.
    let newest = ["2/a/", "2/s/"].map(|folder| case.memory.list(folder).unwrap().pop().unwrap().name);
    for name in copies {
        for damage in DAMAGES {
            case.reset();
            apply(&case, &other, &name, damage);
            let word = if damage == Damage::Delete { "copy missing" } else { "copy damaged" };
            let is_due = damage == Damage::Delete && newest.contains(&name);
            let expected = if is_due { vec![] } else { vec![(word, name.to_string())] };
            let due: Vec<ObjectName> = Some(name.clone()).filter(|_| is_due).into_iter().collect();
            let report = case.public(false);
            assert_eq!((findings(&report), report.due), (expected.clone(), due), "{damage:?} of {name}");
            let report = case.private(&ReadData::None);
            assert_eq!(findings(&report), expected, "{damage:?} of {name}, keyed");
            assert_eq!(report.class(), if is_due { None } else { Some(Class::Integrity) });
            assert_eq!(report.walked.unwrap().snapshots, 2);
        }
    }
}

#[test]
fn a_vault_of_which_every_first_copy_is_damaged_still_restores() {
    let case = Case::new();
    let firsts: Vec<_> =
        case.names().into_iter().filter(|name| is_copied(name) && !name.as_str().starts_with("2/")).collect();
    for name in &firsts {
        case.memory.flip(name, 8 * 20);
    }
    let report = case.private(&ReadData::All);
    let expected: BTreeSet<_> = firsts.iter().map(|name| ("copy damaged", name.to_string())).collect();
    assert_eq!(findings(&report).into_iter().collect::<BTreeSet<_>>(), expected);
    let (summary, target) = case.site.restore_latest(case.source.path(), "back");
    assert_eq!(summary.damaged.len(), 0);
    assert_eq!(harness::describe(&target), harness::describe(case.source.path()));
    case.site.backup(case.source.path()).unwrap();
}

/// What is wrong with a vault if both copies of an object are.
fn expected_of_both(case: &Case, name: &ObjectName, damage: Damage) -> Vec<(&'static str, String)> {
    let word = if damage == Damage::Delete { "missing" } else { "damaged" };
    let both = vec![(word, name.to_string()), (word, name.second().to_string())];
    match Place::parse(name).unwrap() {
        Place::Readme | Place::SlotTable { .. } | Place::Ring { .. } | Place::Message { .. } => both,
        Place::Header { seq: 2, .. } if damage == Damage::Delete => vec![],
        Place::Header { .. } if damage == Damage::Delete => vec![("history missing", String::new())],
        Place::Header { .. } => both,
        place => panic!("{place:?} of {} is looked at elsewhere", case.site.fingerprint),
    }
}

#[test]
fn damage_of_both_copies_is_named() {
    let (case, other) = (Case::new(), Case::new());
    for name in case.names() {
        let is_first = is_copied(&name) && !name.as_str().starts_with("2/");
        if !is_first || name.as_str().starts_with("a/") || name.as_str().starts_with("c/") {
            continue;
        }
        for damage in DAMAGES {
            case.reset();
            apply(&case, &other, &name, damage);
            apply(&case, &other, &name.second(), damage);
            let report = case.public(true);
            assert_eq!(findings(&report), expected_of_both(&case, &name, damage), "{damage:?} of {name}");
            let is_way_in =
                matches!(Place::parse(&name).unwrap(), Place::SlotTable { .. } | Place::Ring { .. });
            match case.site.unlock_with(&harness::way(1)) {
                Ok(_) => assert!(!is_way_in, "{damage:?} of {name}"),
                Err(Error::Missing { name: found }) => {
                    assert!(damage == Damage::Delete && found == name, "{damage:?} of {name}");
                }
                Err(Error::Damaged { name: found, .. }) => {
                    assert!(damage != Damage::Delete && found == name, "{damage:?} of {name}");
                }
                Err(error) => panic!("{damage:?} of {name}: {error}"),
            }
        }
    }
}

#[test]
fn a_log_of_which_both_copies_are_damaged_is_not_believed() {
    let (case, other) = (Case::new(), Case::new());
    let last = case.memory.list("a/").unwrap().pop().unwrap().name;
    for folder in ["a/", "c/"] {
        for listed in case.memory.list(folder).unwrap() {
            for damage in DAMAGES {
                case.reset();
                apply(&case, &other, &listed.name, damage);
                apply(&case, &other, &listed.name.second(), damage);
                let found = case.locked().map(|locked| locked.log().head().seq);
                match (folder, damage, found) {
                    // Nothing tells that there was one more record, but what somebody has seen.
                    ("a/", Damage::Delete, Ok(2)) => {
                        assert_eq!(listed.name, last);
                        let pins = case.site.machine.pins(&case.site.fingerprint).unwrap();
                        let locked = case.locked().unwrap();
                        let report =
                            verify_public(&locked, pins.as_ref(), &[], &ReadData::None, &Silent).unwrap();
                        assert_eq!(findings(&report)[0].0, "rolled back");
                        assert_eq!(report.class(), Some(Class::History));
                    }
                    ("a/", Damage::Delete, Err(Error::HistoryMissing { .. })) => {
                        assert_ne!(listed.name, last)
                    }
                    ("c/", Damage::Delete, Err(Error::Missing { name })) => assert_eq!(name, listed.name),
                    (_, damage, Err(Error::Damaged { name, .. })) if damage != Damage::Delete => {
                        assert_eq!(name, listed.name);
                    }
                    (_, _, found) => panic!("{damage:?} of {}: {:?}", listed.name, found.err()),
                }
            }
        }
    }
}

#[test]
fn every_damage_of_a_pack_index_or_body_is_named_with_what_it_costs() {
    let (case, other) = (Case::new(), Case::new());
    for kind in [Kind::Data, Kind::Index, Kind::Body] {
        for name in case.sealed(kind) {
            for damage in DAMAGES {
                case.reset();
                apply(&case, &other, &name, damage);
                let word = if damage == Damage::Delete { "missing" } else { "damaged" };
                let expected = [(word, name.to_string())];
                let about = format!("{damage:?} of {kind:?} {name}");
                assert_eq!(findings(&case.public(true)), expected, "{about}");
                let report = case.private(&ReadData::All);
                assert_eq!(findings(&report), expected, "{about}");
                assert_eq!(report.class(), Some(Class::Integrity), "{about}");
                let finding = &report.findings.list()[0];
                // A longer pack still has in it what it had; what an index says stands in the packs too.
                let is_harmless = kind == Kind::Index || (kind == Kind::Data && damage == Damage::Extend);
                assert_eq!(finding.lost_total == 0, is_harmless, "{about}");
                assert_eq!(finding.lost_total, finding.lost.len() as u64);
                if kind == Kind::Body {
                    assert!(finding.lost_total == 1 && finding.lost[0].path.is_root(), "{about}");
                }
                let unread = case.public(false);
                match damage {
                    Damage::Flip => assert!(unread.is_sound(), "lengths alone don't tell: {about}"),
                    Damage::Swap | Damage::Replay => {}
                    _ => assert_eq!(findings(&unread), expected, "{about}"),
                }
                if kind != Kind::Data {
                    assert_eq!(findings(&case.private(&ReadData::None)), expected, "{about}");
                }
            }
        }
    }
}

/// The newest index of the newest snapshot.
fn newest_index(case: &Case) -> ObjectName {
    let vault = case.site.unlock();
    let device = *vault.log().devices().keys().next().unwrap();
    let history = vault.locked().history(device).unwrap();
    let body = vault.body(&history, history.snapshots().last().unwrap()).unwrap();
    assert!(body.indexes.len() > 1, "there are others");
    Place::Pack { device, digest: body.indexes[0].name }.name()
}

/// Restores the newest snapshot, and tells what of its indexes could not be used.
fn restore_without_indexes(case: &Case, name: &str) -> BTreeSet<String> {
    let (summary, target) = case.site.restore_latest(case.source.path(), name);
    assert_eq!((summary.damaged_count, summary.problems), (0, 0), "{name}");
    assert_eq!(harness::describe(&target), harness::describe(case.source.path()), "{name}");
    let unusable = summary.unusable_indexes.iter().map(|error| match &**error {
        Error::Damaged { name, .. } | Error::Missing { name } => name.to_string(),
        error => panic!("{name}: {error}"),
    });
    unusable.collect()
}

#[test]
fn a_lost_index_costs_no_file_and_is_told() {
    let (case, other) = (Case::new(), Case::new());
    assert_eq!(restore_without_indexes(&case, "whole"), BTreeSet::new());
    let newest = newest_index(&case);
    for (number, damage) in DAMAGES.into_iter().enumerate() {
        case.reset();
        apply(&case, &other, &newest, damage);
        let unusable = restore_without_indexes(&case, &format!("newest {number}"));
        assert_eq!(unusable, BTreeSet::from([newest.to_string()]), "{damage:?}");
    }
    case.reset();
    let all = case.sealed(Kind::Index);
    all.iter().for_each(|name| case.memory.remove(name).unwrap());
    let names: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(restore_without_indexes(&case, "none"), names);
    let report = case.private(&ReadData::All);
    assert_eq!(report.walked.unwrap().snapshots, 2);
    assert_eq!(report.findings.list().iter().map(|finding| finding.lost_total).sum::<u64>(), 0);
    // The next backup brings what snapshots are found by from then on.
    case.site.backup(case.source.path()).unwrap();
    restore_without_indexes(&case, "next");
}

#[test]
fn without_an_index_a_lost_pack_costs_what_is_in_it_and_no_more() {
    let case = Case::new();
    let mut packs = case.sealed(Kind::Data);
    packs.sort_by_key(|name| std::cmp::Reverse(case.bytes(name).len()));
    case.memory.remove(&packs[0]).unwrap();
    case.sealed(Kind::Index).iter().for_each(|name| case.memory.flip(name, 2_000 * 8));
    let (summary, target) = case.site.restore_latest(case.source.path(), "rest");
    let lost: Vec<_> = summary.damaged.iter().map(|damaged| damaged.path.last().unwrap()).collect();
    assert_eq!(
        lost.iter().map(|name| name.as_bytes()).collect::<Vec<_>>(),
        [&b"photo.jpg"[..], b"table.csv"]
    );
    assert!(matches!(&*summary.damaged[0].error, TaskError::Vault(Error::Unindexed(_))));
    assert!(target.join("sub/scan.tif").exists() && target.join("notes.txt").exists());
}

#[test]
fn damage_in_the_middle_of_a_pack_costs_only_the_files_that_lie_there() {
    let case = Case::new();
    let mut packs = case.sealed(Kind::Data);
    packs.sort_by_key(|name| std::cmp::Reverse(case.bytes(name).len()));
    case.memory.flip(&packs[0], 150_000 * 8);
    let report = case.private(&ReadData::All);
    let lost = lost_names(&report);
    assert!(lost.contains("photo.jpg"), "{lost:?}");
    for whole in ["notes.txt", "scan.tif", "sub"] {
        assert!(!lost.contains(whole), "{lost:?}");
    }
    let of: BTreeSet<_> = report.findings.list()[0].lost.iter().map(|lost| lost.snapshot).collect();
    assert_eq!(of.len(), 2, "both snapshots hold it");
    // The padding at the end belongs to nobody's file.
    case.reset();
    let length = case.bytes(&packs[0]).len();
    case.memory.flip(&packs[0], (length - 1) * 8);
    let report = case.private(&ReadData::All);
    assert_eq!(findings(&report), [("damaged", packs[0].to_string())]);
}

#[test]
fn objects_of_another_vault_are_strays_under_their_own_names() {
    let (case, other) = (Case::new(), Case::new());
    let device = case.memory.list("s/").unwrap()[0].name.as_str().split('/').nth(1).unwrap().to_owned();
    let pack = &other.sealed(Kind::Data)[0];
    let bytes = other.bytes(pack);
    let digest = pack.as_str().splitn(3, '/').nth(2).unwrap();
    for name in [pack.clone(), ObjectName::parse(&format!("p/{device}/{digest}")).unwrap()] {
        case.reset();
        case.memory.put(&name, &bytes).unwrap();
        let report = case.private(&ReadData::All);
        assert_eq!(findings(&report), []);
        assert_eq!((report.strays, report.stray_bytes), (1, bytes.len() as u64));
    }
    // A header of a device that nobody added is none.
    case.reset();
    let header = &other.memory.list("s/").unwrap()[0].name;
    case.memory.put(header, &other.bytes(header)).unwrap();
    let report = case.public(true);
    assert_eq!((findings(&report), report.strays, report.snapshots), (vec![], 1, 2));
}

#[test]
fn another_vault_in_the_same_place_is_told_from_the_one_that_was_pinned() {
    let (case, other) = (Case::new(), Case::new());
    case.memory.restore(&other.whole);
    assert!(matches!(case.locked(), Err(Error::OtherVault { .. })));
    // Both open with the same key file, and neither takes the other's genesis beside its own.
    case.reset();
    for listed in other.memory.list("a/").unwrap().into_iter().take(1) {
        case.memory.put(&listed.name, &other.bytes(&listed.name)).unwrap();
    }
    assert!(matches!(LockedVault::load(Arc::new(case.memory.clone()), None), Err(Error::Forked { .. })));
}

#[test]
fn a_subset_opens_its_part_and_all_parts_together_find_what_one_missed() {
    let case = Case::new();
    let packs = case.sealed(Kind::Data);
    let pack = packs.into_iter().max_by_key(|name| case.bytes(name).len()).unwrap();
    let length = case.bytes(&pack).len();
    case.memory.flip(&pack, (length - 1) * 8);
    let reports: Vec<_> = (1..=3).map(|number| case.private(&ReadData::Subset { number, of: 3 })).collect();
    assert_eq!(reports.iter().map(|report| report.read).sum::<u64>(), reports[0].objects);
    assert_eq!(reports.iter().filter(|report| !report.is_sound()).count(), 1);
    let drawn = case.private(&ReadData::Percent(100.0));
    assert!(drawn.seed.is_some() && !drawn.is_sound());
}

/// Every byte counts: whatever bit of a vault is flipped, it is found out.
#[test]
fn any_flipped_bit_anywhere_is_found() {
    let case = Case::new();
    let seed = RandomState::new().hash_one("damage");
    println!("seed {seed}");
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for name in case.names() {
        let length = case.bytes(&name).len();
        let tries = if length <= 400 { length.div_ceil(3) } else { 24 };
        for number in 0..tries {
            // One of any three bytes of small objects; of larger ones the beginning, the end and some between.
            let byte = match number {
                _ if length <= 400 => (number * 3 + random(3)).min(length - 1),
                0..8 => random(160.min(length)),
                8..12 => length - 1 - random(100.min(length)),
                _ => random(length),
            };
            let bit = byte * 8 + random(8);
            case.memory.flip(&name, bit);
            let report = match case.site.unlock_with(&harness::way(1)) {
                Err(error) => {
                    panic!("bit {bit} of {name}, seed {seed}: the other copy is whole, but {error}")
                }
                Ok(vault) => verify_private(&vault, None, &[], &ReadData::All, &Silent).unwrap(),
            };
            let named: Vec<_> = findings(&report).into_iter().map(|(_, object)| object).collect();
            assert_eq!(named, [name.to_string()], "bit {bit} of {name}, seed {seed}");
            case.memory.flip(&name, bit);
        }
    }
    assert!(case.memory.snapshot() == case.whole);
}

#[test]
fn the_source_is_the_snapshot_until_something_in_it_changes() {
    use strongroom::task::browse;
    use strongroom::task::verify::Change;
    use strongroom::task::verify::against_source;
    use strongroom::tree::path::TreePath;

    let case = Case::new();
    let vault = case.site.unlock();
    let listing = browse::snapshots(&vault);
    let reader = browse::reader(&vault, listing.snapshots.last().unwrap()).unwrap();
    let source = case.source.path().canonicalize().unwrap();
    let subpath = TreePath::parse(source.to_str().unwrap().trim_start_matches('/').as_bytes()).unwrap();
    let compare = || {
        let found = against_source(&reader, &source, &subpath, &Silent).unwrap();
        let short = |path: &TreePath| {
            let text = path.to_string();
            text.strip_prefix(&subpath.to_string()).unwrap().trim_start_matches('/').to_owned()
        };
        let changes = found.differences.iter().map(|one| (short(&one.path), one.changes.clone()));
        (changes.collect::<Vec<_>>(), found.compared)
    };
    let (none, compared) = compare();
    assert_eq!(none, []);
    assert_eq!(compared, 6, "two directories and four files");

    let touch = |path: &Path, bytes: &[u8]| {
        let modified = path.metadata().unwrap().modified().unwrap();
        std::fs::write(path, bytes).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    };
    let mut photo = noise(1, 3_000_000);
    photo[222_222] ^= 1;
    touch(&source.join("photo.jpg"), &photo);
    touch(&source.join("notes.txt"), b"a few wordz");
    touch(&source.join("sub/table.csv"), b"name,amount\n");
    std::fs::remove_file(source.join("sub/scan.tif")).unwrap();
    std::os::unix::fs::symlink("photo.jpg", source.join("sub/new")).unwrap();
    let changed = [
        ("notes.txt", vec![Change::Content]),
        ("photo.jpg", vec![Change::Content]),
        ("sub", vec![Change::Modified]),
        ("sub/new", vec![Change::OnlyOnDisk]),
        ("sub/scan.tif", vec![Change::OnlyInSnapshot]),
        ("sub/table.csv", vec![Change::Size]),
    ];
    let changed = changed.map(|(path, changes)| (path.to_owned(), changes));
    assert_eq!(compare().0, changed);
}

#[test]
fn a_snapshot_whose_own_index_lacks_a_chunk_is_told_though_an_earlier_one_finds_it() {
    use strongroom::vault::body::IndexRef;
    use strongroom::vault::index;

    let case = Case::new();
    let vault = case.site.unlock();
    let device = *vault.log().devices().keys().next().unwrap();
    let history = vault.locked().history(device).unwrap();
    let mut body = vault.body(&history, &history.snapshots()[1]).unwrap();
    let mut entries = Vec::new();
    for index in &body.indexes {
        let located = history.locate(vault.log(), index.name).unwrap();
        entries.extend(vault.index(device, &located).unwrap().entries());
    }
    entries.sort_unstable();
    let mut broken = 0;
    for lacking in 0..entries.len() {
        case.reset();
        let (mut writer, _home) = writer(&case);
        let mut kept = entries.clone();
        kept.remove(lacking);
        let mut packs: Vec<Digest> = kept.iter().map(|(_, pack)| *pack).collect();
        packs.sort_unstable();
        packs.dedup();
        let number = |pack: &Digest| u32::try_from(packs.binary_search(pack).unwrap()).unwrap();
        let rows: Vec<_> = kept.iter().map(|(prefix, pack)| (*prefix, number(pack))).collect();
        let plaintext = index::encode(&packs, &rows);
        let object = writer.put(&writer.seal(Kind::Index, &[&plaintext], None).unwrap()).unwrap();
        body.indexes = vec![IndexRef { name: object.name, first: [0; 16] }];
        let sealed_body = writer.put_body(&body).unwrap();
        writer.commit(sealed_body.name, vec![object, sealed_body], harness::now()).unwrap();
        // Everything else was found whole in the snapshots before, from which it differs in nothing else.
        let report = case.private(&ReadData::None);
        assert_eq!(report.snapshots, 3);
        if !report.is_sound() {
            broken += 1;
            let lost = &report.findings.list()[0].lost;
            let third = vault.locked().history(device).unwrap().snapshots()[2].id();
            assert!(!lost.is_empty() && lost.iter().all(|lost| lost.snapshot == third));
        }
    }
    // Only trees of the first snapshot are of no use to the third.
    assert!(broken >= entries.len() - 4 && broken > 3, "{broken} of {}", entries.len());
}

/// The device as it was when the case was made, whatever it did since.
fn writer(case: &Case) -> (DeviceVault, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    copy(case.site.home.path(), home.path());
    let state = Machine::new(&home.path().join("state")).vault_state(&case.site.fingerprint);
    let store = Arc::new(case.memory.clone());
    (DeviceVault::load(store, &case.site.fingerprint, &state).unwrap(), home)
}

#[test]
fn a_pack_that_its_device_signed_with_a_wrong_chunk_in_it_is_found_by_opening_it() {
    use strongroom::id::ChunkId;
    use strongroom::pack::packer::Block;
    use strongroom::pack::packer::ChunkKind;
    use strongroom::pack::packer::Packer;
    use strongroom::pack::packer::RawBlock;
    use strongroom::pack::packer::RawChunk;

    let case = Case::new();
    let vault = case.site.unlock();
    let device = *vault.log().devices().keys().next().unwrap();
    let history = vault.locked().history(device).unwrap();
    let body = vault.body(&history, &history.snapshots()[1]).unwrap();
    let (mut writer, _home) = writer(&case);
    let right = writer.namer().name(ChunkKind::List, b"a chunk");
    for id in [right, ChunkId([9; 32])] {
        let chunk = RawChunk { id, kind: ChunkKind::List, length: 7 };
        let raw = RawBlock { bytes: b"a chunk".to_vec(), chunks: vec![chunk] };
        let mut packer = Packer::new(1 << 20);
        assert!(packer.add(Block::build(raw, 3, &|_, _| id).unwrap()).is_none());
        let pack = packer.finish().unwrap();
        let object = writer.put(&writer.seal(Kind::Data, &pack.parts(), None).unwrap()).unwrap();
        let sealed_body = writer.put_body(&body).unwrap();
        writer.commit(sealed_body.name, vec![object, sealed_body], harness::now()).unwrap();
        assert!(case.public(true).is_sound() && case.private(&ReadData::None).is_sound());
        let report = case.private(&ReadData::All);
        if id == right {
            assert_eq!(findings(&report), []);
        } else {
            let name = Place::Pack { device, digest: object.name }.name();
            assert_eq!(findings(&report), [("damaged", name.to_string())]);
            assert_eq!(report.findings.list()[0].lost_total, 0);
        }
    }
}

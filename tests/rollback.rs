//! Who notices that a vault is not the newest, not whole or not the only one: the writer, another
//! client that has seen it, and a fresh one with a receipt and without.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;

use std::sync::Arc;

use strongroom::crypto::secret::Secret;
use strongroom::crypto::sign::SigningKey;
use strongroom::id::Epoch;
use strongroom::id::ObjectName;
use strongroom::observe::Silent;
use strongroom::seal::pseal;
use strongroom::seal::pseal::Kind;
use strongroom::store::Memory;
use strongroom::store::Store;
use strongroom::task::verify::Class;
use strongroom::task::verify::Problem;
use strongroom::task::verify::ReadData;
use strongroom::task::verify::Report;
use strongroom::task::verify::verify_private;
use strongroom::task::verify::verify_public;
use strongroom::vault::LockedVault;
use strongroom::vault::authority::Log;
use strongroom::vault::device;
use strongroom::vault::device::DeviceKeys;
use strongroom::vault::device::Message;
use strongroom::vault::error::Error;
use strongroom::vault::fetch;
use strongroom::vault::machine::Machine;
use strongroom::vault::name::Place;
use strongroom::vault::pins::Pins;
use strongroom::vault::receipt::Receipt;
use strongroom::vault::record::Head;
use strongroom::vault::record::Payload;

use harness::Site;
use harness::copy;

/// A vault, its writer, somebody else's machine that has seen it, and something to back up.
struct Case {
    memory: Memory,
    writer: Site,
    client: Machine,
    _client_home: tempfile::TempDir,
    source: tempfile::TempDir,
    snapshots: u32,
}

impl Case {
    /// With so many snapshots.
    fn new(snapshots: u32) -> Self {
        let memory = Memory::new();
        let writer = Site::new(Arc::new(memory.clone()));
        let client_home = tempfile::tempdir().unwrap();
        let client = Machine::new(client_home.path());
        let source = tempfile::tempdir().unwrap();
        let mut case = Self { memory, writer, client, _client_home: client_home, source, snapshots: 0 };
        for _ in 0..snapshots {
            case.backup();
        }
        case
    }

    /// Adds a snapshot with a new file in it, and returns its receipt.
    fn backup(&mut self) -> Receipt {
        self.snapshots += 1;
        self.change();
        self.writer.backup(self.source.path()).unwrap().committed.unwrap().receipt
    }

    fn change(&self) {
        let number = self.snapshots;
        let bytes: Vec<u8> = (0..100_000_u32)
            .flat_map(|at| at.wrapping_mul(at).wrapping_mul(number + 1).to_le_bytes())
            .collect();
        std::fs::write(self.source.path().join(format!("file-{number}")), bytes).unwrap();
    }

    fn locked(&self) -> LockedVault {
        LockedVault::load(Arc::new(self.memory.clone()), Some(&self.writer.fingerprint)).unwrap()
    }

    /// The client sees the vault as it is now.
    fn client_looks(&self) {
        self.client.pin(&self.locked()).unwrap();
    }

    fn report(&self, pins: Option<&Pins>, expect: &[Receipt]) -> Report {
        verify_public(&self.locked(), pins, expect, &ReadData::All, &Silent).unwrap()
    }

    fn pins_of(&self, machine: &Machine) -> Pins {
        machine.pins(&self.writer.fingerprint).unwrap().unwrap()
    }

    /// What the writer, another client, and fresh ones with a receipt and without get to know.
    fn four_views(&self, receipt: &Receipt) -> [Vec<&'static str>; 4] {
        [
            words(&self.report(Some(&self.pins_of(&self.writer.machine)), &[])),
            words(&self.report(Some(&self.pins_of(&self.client)), &[])),
            words(&self.report(None, &[*receipt])),
            words(&self.report(None, &[])),
        ]
    }

    fn header(&self, site: &Site, seq: u64) -> ObjectName {
        let device = site.machine.device(&site.fingerprint).unwrap().unwrap();
        let mut headers = self.memory.list(&format!("s/{device}/{seq:016x}-")).unwrap();
        assert_eq!(headers.len(), 1);
        headers.remove(0).name
    }

    fn remove_both(&self, name: &ObjectName) {
        self.memory.remove(name).unwrap();
        self.memory.remove(&name.second()).unwrap();
    }

    /// An owner's command.
    fn append(&self, payload: &Payload) {
        let vault = self.writer.unlock();
        let key = SigningKey::from_seed(vault.admin().unwrap().authority_seed.duplicate());
        let mut log = Log::load(&self.memory, Some(&self.writer.fingerprint)).unwrap();
        log.append(&self.memory, &key, harness::now(), &|_| (), &|_| Ok(payload.clone())).unwrap();
    }

    fn heads(&self) -> Vec<Head> {
        let locked = self.locked();
        let devices: Vec<_> = locked.log().devices().keys().copied().collect();
        devices.into_iter().filter_map(|device| locked.history(device).unwrap().head()).collect()
    }

    /// A second machine becomes a device of the vault.
    fn join(&self) -> Site {
        let fingerprint = self.writer.fingerprint;
        let home = tempfile::tempdir().unwrap();
        let machine = Machine::new(&home.path().join("state"));
        let state = machine.vault_state(&fingerprint);
        let keys = DeviceKeys::generate();
        keys.save(&fingerprint, &state).unwrap();
        let vault = self.writer.unlock();
        let grant = Message::Grant {
            fingerprint,
            epoch: Epoch(1),
            psk: vault.ring().epoch(Epoch(1)).unwrap().device_psk(&fingerprint, keys.device),
            dedup: vault.ring().dedup_secret(&fingerprint, keys.device),
        };
        let kem_key = keys.kem.public();
        let sealed =
            device::seal_message(&fingerprint, keys.device, &kem_key, None, Secret::generate(), &grant);
        let message = sealed.digest();
        let name = Place::Message { device: keys.device, digest: message }.name();
        fetch::put_twice(&self.memory, &name, sealed.bytes()).unwrap();
        self.append(&Payload::DeviceAdd {
            device: keys.device,
            verifying_key: keys.signing.public(),
            kem_key: Box::new(kem_key),
            message,
        });
        device::pin(&keys, self.locked().log(), &state).unwrap();
        Site { store: Arc::new(self.memory.clone()), machine, fingerprint, home }
    }

    /// Another machine with a copy of the writer's state as it is now.
    fn clone_writer(&self) -> Site {
        let home = tempfile::tempdir().unwrap();
        copy(&self.writer.home.path().join("state"), &home.path().join("state"));
        Site {
            store: Arc::new(self.memory.clone()),
            machine: Machine::new(&home.path().join("state")),
            fingerprint: self.writer.fingerprint,
            home,
        }
    }
}

/// The findings in short.
fn words(report: &Report) -> Vec<&'static str> {
    let word = |problem: &Problem| match problem {
        Problem::Vault(Error::Missing { .. }) => "missing",
        Problem::Vault(Error::Damaged { .. }) => "damaged",
        Problem::Vault(Error::HistoryMissing { .. }) => "history missing",
        Problem::Vault(Error::RolledBack { .. }) => "rolled back",
        Problem::Vault(Error::Forked { .. } | Error::ForkedChain { .. }) => "forked",
        Problem::Vault(_) => "another error",
        Problem::Copy { .. } => "copy",
        Problem::Tree { .. } => "tree",
        Problem::OtherReceipt => "another vault's receipt",
    };
    let list: Vec<_> = report.findings.list().iter().map(|finding| word(&finding.problem)).collect();
    let class = match list.first() {
        None => None,
        Some(&("missing" | "damaged" | "copy" | "tree")) => Some(Class::Integrity),
        Some(_) => Some(Class::History),
    };
    assert_eq!(report.class(), class);
    list
}

#[test]
fn a_vault_that_only_grew_is_accepted_by_everyone() {
    let mut case = Case::new(2);
    case.client_looks();
    let receipt = case.backup();
    case.append(&Payload::Seen(case.heads()));
    assert_eq!(case.four_views(&receipt), [[""; 0]; 4]);
    assert!(case.client.check(&case.locked()).unwrap().is_some());
    case.backup();
    assert_eq!(case.four_views(&receipt), [[""; 0]; 4]);
}

#[test]
fn newest_snapshots_removed_are_missed_by_who_has_seen_them() {
    let mut case = Case::new(2);
    let receipt = case.backup();
    case.client_looks();
    case.remove_both(&case.header(&case.writer, 3));
    let gone = vec!["rolled back"];
    assert_eq!(case.four_views(&receipt), [gone.clone(), gone.clone(), gone, vec![]]);
    assert!(matches!(case.writer.device(), Err(Error::RolledBack { .. })));
    assert!(matches!(case.client.check(&case.locked()), Err(Error::RolledBack { .. })));
    // The one before as well.
    case.remove_both(&case.header(&case.writer, 2));
    assert_eq!(case.four_views(&receipt)[2], ["rolled back"]);
    assert!(matches!(case.writer.device(), Err(Error::RolledBack { .. })));
}

#[test]
fn newest_snapshots_removed_that_a_client_had_not_seen_are_missed_by_the_writer_and_the_receipt() {
    let mut case = Case::new(2);
    case.client_looks();
    let receipt = case.backup();
    case.remove_both(&case.header(&case.writer, 3));
    let gone = vec!["rolled back"];
    assert_eq!(case.four_views(&receipt), [gone.clone(), vec![], gone, vec![]]);
}

#[test]
fn newest_snapshots_removed_are_missed_by_everyone_if_an_owners_record_names_them() {
    let case = Case::new(3);
    case.client_looks();
    case.append(&Payload::Seen(case.heads()));
    case.remove_both(&case.header(&case.writer, 3));
    assert_eq!(words(&case.report(None, &[])), ["rolled back"]);
}

#[test]
fn newest_snapshots_removed_are_missed_by_readers_if_another_devices_snapshot_names_them() {
    let case = Case::new(2);
    let second = case.join();
    second.backup(case.source.path()).unwrap();
    case.remove_both(&case.header(&case.writer, 2));
    assert_eq!(words(&case.report(None, &[])), [""; 0], "the name stands in a sealed body");
    let report = verify_private(&case.writer.unlock(), None, &[], &ReadData::None, &Silent).unwrap();
    assert_eq!(words(&report), ["rolled back"]);
    assert!(matches!(second.device(), Err(Error::RolledBack { .. })), "the second device has pinned it");
}

#[test]
fn a_vault_rolled_back_as_a_whole_is_refused_by_all_but_a_fresh_client_without_a_receipt() {
    for log_moves in [false, true] {
        let mut case = Case::new(2);
        let before = case.memory.snapshot();
        if log_moves {
            case.append(&Payload::Seen(case.heads()));
        }
        let receipt = case.backup();
        case.client_looks();
        case.memory.restore(&before);
        // With a shorter log two things are older: the log and the chain.
        let gone = vec!["rolled back"; if log_moves { 2 } else { 1 }];
        assert_eq!(case.four_views(&receipt), [gone.clone(), gone.clone(), gone, vec![]]);
        assert!(matches!(case.writer.device(), Err(Error::RolledBack { .. })));
        assert!(matches!(case.client.check(&case.locked()), Err(Error::RolledBack { .. })));
    }
}

#[test]
fn a_log_that_ends_before_what_a_header_knew_is_noticed_by_everyone() {
    let mut case = Case::new(1);
    case.client_looks();
    case.append(&Payload::Seen(case.heads()));
    let receipt = case.backup();
    case.client_looks();
    let last = case.memory.list("a/").unwrap().pop().unwrap().name;
    case.remove_both(&last);
    let views = case.four_views(&receipt);
    assert_eq!(views[3], ["rolled back"], "the header names a record that isn't there");
    assert!(views.iter().all(|view| view.iter().all(|word| *word == "rolled back")));
}

#[test]
fn a_snapshot_removed_from_the_middle_is_missed_by_everyone() {
    let mut case = Case::new(2);
    let receipt = case.backup();
    case.client_looks();
    case.remove_both(&case.header(&case.writer, 2));
    assert_eq!(case.four_views(&receipt), [["history missing"]; 4].map(Vec::from));
    assert!(matches!(case.writer.device(), Err(Error::HistoryMissing { .. })));
    let case = Case::new(2);
    case.remove_both(&case.header(&case.writer, 1));
    assert_eq!(words(&case.report(None, &[])), ["history missing"]);
    assert!(matches!(case.writer.device(), Err(Error::HistoryMissing { .. })));
}

#[test]
fn a_snapshot_removed_from_the_middle_of_another_devices_chain_is_missed_by_who_had_seen_a_later_one() {
    let case = Case::new(3);
    let (seen, fresh) = (case.join(), case.join());
    seen.backup(case.source.path()).unwrap();
    case.remove_both(&case.header(&case.writer, 2));
    assert!(matches!(seen.device(), Err(Error::HistoryMissing { .. })));
    assert!(seen.backup(case.source.path()).is_err());
    // To a machine that has never seen it, what stands there may be anything.
    fresh.backup(case.source.path()).unwrap();
    // People still read what is left.
    case.client_looks();
    assert!(case.client.check(&case.locked()).unwrap().is_some());
}

#[test]
fn a_pack_removed_from_the_middle_is_missed_by_everyone() {
    let mut case = Case::new(2);
    let receipt = case.backup();
    case.client_looks();
    let second =
        strongroom::vault::history::fetch_header(&case.memory, &case.header(&case.writer, 2)).unwrap();
    for object in &second.0.objects {
        let name = Place::Pack { device: second.0.device, digest: object.name }.name();
        let bytes = case.memory.get(&name, u64::MAX).unwrap();
        let kind = pseal::peek(&bytes).unwrap().kind;
        case.memory.remove(&name).unwrap();
        assert_eq!(case.four_views(&receipt), [["missing"]; 4].map(Vec::from), "{kind:?}");
        let report = case.report(None, &[]);
        assert_eq!(report.findings.list()[0].problem.object(), Some(&name));
        if kind == Kind::Data {
            // The writer puts again what it misses, and says so by needing more than nothing.
            assert!(case.writer.device().unwrap().stored().unwrap().len() as u64 + 1 == report.objects);
        }
        case.memory.replace(&name, &bytes);
    }
}

#[test]
fn the_second_writer_with_a_cloned_state_stops_at_its_own_seq() {
    let mut case = Case::new(1);
    let clone = case.clone_writer();
    case.backup();
    match clone.device() {
        Err(Error::Cloned { device, seq: 2 }) => {
            assert_eq!(Some(device), clone.machine.device(&clone.fingerprint).unwrap());
        }
        other => panic!("{:?}", other.err()),
    }
    // The same for a machine that was set back to an older image of itself, however old.
    case.backup();
    assert!(matches!(clone.device(), Err(Error::Cloned { seq: 3, .. })));
    assert!(case.writer.device().is_ok());
}

#[test]
fn a_cloned_writer_that_the_storage_kept_apart_is_a_fork_to_everyone() {
    let mut case = Case::new(1);
    case.client_looks();
    let second = case.join();
    second.backup(case.source.path()).unwrap();
    let clone = case.clone_writer();
    let before = case.memory.snapshot();
    let receipt = case.backup();
    let header = case.header(&case.writer, 2);
    let one = case.memory.get(&header, u64::MAX).unwrap();
    let kept: Vec<_> = case.memory.list("p/").unwrap();
    let kept: Vec<_> = kept
        .into_iter()
        .map(|listed| (listed.name.clone(), case.memory.get(&listed.name, u64::MAX).unwrap()))
        .collect();
    // The other one doesn't see it, and both stand there afterwards.
    case.memory.restore(&before);
    case.snapshots += 1;
    case.change();
    clone.backup(case.source.path()).unwrap();
    for (name, bytes) in kept {
        case.memory.replace(&name, &bytes);
    }
    for name in [&header, &header.second()] {
        case.memory.replace(name, &one);
    }
    assert_eq!(case.four_views(&receipt), [["forked"]; 4].map(Vec::from));
    for site in [&case.writer, &clone] {
        assert!(matches!(site.device(), Err(Error::ForkedChain { .. })));
    }
    // The other device's chain is still looked at: damage of its pack is found too.
    let devices = second.machine.device(&second.fingerprint).unwrap().unwrap();
    let pack = case.memory.list(&format!("p/{devices}/")).unwrap().remove(0).name;
    case.memory.remove(&pack).unwrap();
    assert_eq!(words(&case.report(None, &[])), ["forked", "missing"]);
    // The owner says which branch counts: what was seen of the other is no rollback any more.
    let head = Head {
        device: case.writer.machine.device(&case.writer.fingerprint).unwrap().unwrap(),
        seq: 2,
        digest: strongroom::crypto::digest::digest(&one),
    };
    case.append(&Payload::DeviceRevoke { head });
    for machine in [&case.writer.machine, &clone.machine, &second.machine] {
        assert_eq!(words(&case.report(Some(&case.pins_of(machine)), &[])), ["missing"]);
    }
}

#[test]
fn snapshots_after_a_revocation_count_for_nothing_and_are_no_rollback() {
    let mut case = Case::new(1);
    let head = case.heads()[0];
    let receipt = case.backup();
    case.client_looks();
    case.append(&Payload::DeviceRevoke { head });
    let report = case.report(Some(&case.pins_of(&case.client)), &[receipt]);
    assert_eq!(words(&report), [""; 0]);
    assert_eq!((report.snapshots, report.ignored), (1, 1));
    assert!(report.strays > 0, "what the second snapshot alone listed is nobody's now");
    assert!(matches!(case.writer.device(), Err(Error::Revoked { .. })));
    case.client.check(&case.locked()).unwrap();
}

#[test]
fn a_receipt_of_another_history_or_another_vault_is_refused() {
    let mut case = Case::new(1);
    let receipt = case.backup();
    assert_eq!(words(&case.report(None, &[receipt])), [""; 0]);
    let other_header = Receipt { digest: [1; 16], ..receipt };
    let other_log = Receipt { authority_digest: [1; 16], ..receipt };
    let other_device = Receipt { device: strongroom::id::DeviceId([1; 16]), ..receipt };
    let later = Receipt { seq: 9, ..receipt };
    let later_log = Receipt { authority_seq: 99, ..receipt };
    assert_eq!(words(&case.report(None, &[other_header])), ["forked"]);
    assert_eq!(words(&case.report(None, &[other_log])), ["forked"]);
    assert_eq!(words(&case.report(None, &[other_device])), ["rolled back"]);
    assert_eq!(words(&case.report(None, &[later])), ["rolled back"]);
    assert_eq!(words(&case.report(None, &[later_log])), ["rolled back"]);
    let elsewhere = Case::new(0).backup();
    assert_eq!(words(&case.report(None, &[receipt, elsewhere])), ["another vault's receipt"]);
}

#[test]
fn pins_of_another_history_of_the_same_vault_are_a_fork() {
    let mut case = Case::new(1);
    let before = case.memory.snapshot();
    case.append(&Payload::Seen(case.heads()));
    case.client_looks();
    // An owner's key in other hands told others another story since then.
    case.memory.restore(&before);
    case.append(&Payload::Seen(Vec::new()));
    assert!(matches!(case.client.check(&case.locked()), Err(Error::Forked { .. })));
    assert_eq!(words(&case.report(Some(&case.pins_of(&case.client)), &[])), ["forked"]);
    case.backup();
}

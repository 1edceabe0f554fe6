//! Sealing again: what didn't change is taken over byte for byte, and what is gone from the folder is gone
//! from the file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;

use strongroom::cli::failure::Exit;
use strongroom::cli::failure::Failure;
use strongroom::id::Digest;
use strongroom::observe::Silent;
use strongroom::pack::unpacker;
use strongroom::seal::pseal;
use strongroom::seal::pseal::Kind;
use strongroom::store::state::StateDir;
use strongroom::task::error::Error;
use strongroom::task::lost::Lost;
use strongroom::task::seal;
use strongroom::tree::entry::ChunkRef;
use strongroom::tree::entry::EntryKind;
use strongroom::tree::node::EntryReader;
use strongroom::tree::node::NodeKind;
use strongroom::tree::node::RefReader;
use strongroom::vault::index::Prefix;
use strongroom::vault::index::prefix;
use strongroom::vault::name::Place;

use crate::desk::Desk;
use crate::desk::Impatient;
use crate::desk::NAME;
use crate::desk::Newest;
use crate::desk::admit;
use crate::harness::noise;
use crate::harness::way;
use crate::layout;

/// The packs of a file and what they hold, sealed.
fn packs(bytes: &[u8]) -> HashMap<String, Vec<u8>> {
    let members = layout::members(bytes).into_iter();
    let data = members.filter(|member| {
        member.name.starts_with("p/") && pseal::peek(&member.bytes).unwrap().kind == Kind::Data
    });
    data.map(|member| (member.name, member.bytes)).collect()
}

/// All that an owner finds who opens every pack of the file, listed or not.
fn contents(bytes: &[u8]) -> HashMap<Prefix, Vec<u8>> {
    let vault = admit(bytes).unwrap().unlock(&way(1)).unwrap();
    let newest = Newest::of(&vault);
    let device = newest.history.device();
    let located: HashMap<Digest, _> =
        newest.history.must_exist(vault.log()).into_iter().map(|located| (located.name, located)).collect();
    let stored: HashSet<String> =
        vault.store().list("p/").unwrap().iter().map(|each| each.name.to_string()).collect();
    let named: HashSet<String> =
        located.keys().map(|digest| Place::Pack { device, digest: *digest }.name().to_string()).collect();
    assert_eq!(stored, named, "what is in the file must exist, and what must exist is in it");
    let mut found = HashMap::new();
    for (digest, located) in &located {
        let name = Place::Pack { device, digest: *digest }.name();
        if pseal::peek(&vault.store().get(&name, u64::MAX).unwrap()).unwrap().kind != Kind::Data {
            continue;
        }
        let plain = vault.whole_object(device, located, Kind::Data).unwrap();
        unpacker::unpack_all(&plain, |id, chunk| {
            found.insert(prefix(id), chunk.to_vec());
            true
        })
        .unwrap();
    }
    found
}

/// The ids of the chunks that the file's snapshot uses.
fn used(bytes: &[u8]) -> HashSet<Prefix> {
    let vault = admit(bytes).unwrap().unlock(&way(1)).unwrap();
    let reader = seal::reader(&vault).unwrap().unwrap();
    let ids = RefCell::new(HashSet::new());
    let fetch = |kind: NodeKind, wanted: &ChunkRef| {
        ids.borrow_mut().insert(prefix(&wanted.id));
        reader.node(kind, wanted)
    };
    let mut trees = vec![reader.body().root];
    while let Some(tree) = trees.pop() {
        for entry in EntryReader::new(tree, &fetch) {
            let kind = entry.unwrap().kind;
            match &kind {
                EntryKind::Directory { tree } => trees.push(*tree),
                EntryKind::File { content, .. } => {
                    for chunk in RefReader::new(content, kind.content_bytes(), &fetch) {
                        ids.borrow_mut().insert(prefix(&chunk.unwrap().id));
                    }
                }
                _ => {}
            }
        }
    }
    ids.into_inner()
}

/// The file is sound, opens to the folder, and holds what its snapshot uses and nothing else.
#[track_caller]
fn holds_the_source_and_nothing_else(desk: &Desk) {
    desk.is_sound();
    desk.opens_to_the_source(&way(1));
    let bytes = desk.bytes();
    let found: HashSet<Prefix> = contents(&bytes).into_keys().collect();
    assert_eq!(found, used(&bytes));
    let vault = admit(&bytes).unwrap().unlock(&way(1)).unwrap();
    let history = Newest::of(&vault).history;
    let shown = history
        .snapshots()
        .iter()
        .filter(|each| !vault.log().is_forgotten(history.device(), each.header.seq));
    assert_eq!(shown.count(), 1);
}

#[test]
fn most_packs_stay_as_they_are_when_one_file_of_several_changes() {
    let desk = Desk::of_large_files(10);
    desk.seal();
    let before = packs(&desk.bytes());
    desk.write_large(5, 105);
    let summary = desk.seal_again().unwrap();
    let after = packs(&desk.bytes());
    let kept: Vec<_> = before.iter().filter(|(name, bytes)| after.get(*name) == Some(bytes)).collect();
    // A file of three megabytes lies in two packs of eight at most.
    assert!(before.len() >= 4 && kept.len() + 2 >= before.len(), "{} of {}", kept.len(), before.len());
    assert_eq!(summary.bytes_kept, kept.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    assert!(summary.backup.counts.bytes_stored < 20_000_000, "{}", summary.backup.counts.bytes_stored);
    assert_eq!(summary.file_bytes, desk.bytes().len() as u64);
    holds_the_source_and_nothing_else(&desk);
}

#[test]
fn a_file_whose_times_stand_is_read_again_only_where_nothing_is_remembered_of_it() {
    for remembers in [true, false] {
        let mut desk = Desk::of_large_files(2);
        if remembers {
            desk.memory = StateDir::new(&desk.path("memory"));
        }
        desk.seal();
        let path = desk.source().join("large1");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        desk.write_large(1, 99);
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        desk.seal_again().unwrap();
        let held = contents(&desk.bytes());
        let begins = |seed: u64| held.values().any(|chunk| noise(seed + 1, 3_000_000).starts_with(chunk));
        assert_eq!((begins(1), begins(99)), (remembers, !remembers));
    }
}

#[test]
fn what_is_remembered_of_another_file_costs_nothing_but_reading() {
    let mut desk = Desk::of_large_files(2);
    desk.memory = StateDir::new(&desk.path("memory"));
    desk.seal();
    let older = desk.bytes();
    desk.write_large(2, 2);
    desk.seal_again().unwrap();
    // The file of before doesn't have what the machine knows of the newest one.
    fs::write(desk.file(), &older).unwrap();
    desk.seal_again().unwrap();
    holds_the_source_and_nothing_else(&desk);
    let remembered = desk.memory.names().unwrap();
    assert_eq!(remembered.len(), 1);
    let bytes = fs::read(desk.memory.path().join(&remembered[0])).unwrap();
    assert!(!bytes.windows(6).any(|part| part == b"large1"));
}

#[test]
fn what_was_deleted_is_found_by_nobody_who_opens_every_pack() {
    let desk = Desk::of_large_files(2);
    let secret = noise(77, 5_000);
    fs::write(desk.source().join("secret"), &secret).unwrap();
    fs::write(desk.source().join("small"), b"a line that stands in its entry").unwrap();
    desk.seal();
    let is_there = |needle: &[u8]| {
        let contents = contents(&desk.bytes());
        let begins = |chunk: &[u8], at: usize| chunk[at] == needle[0] && chunk[at..].starts_with(needle);
        contents.values().any(|chunk| (0..chunk.len()).any(|at| begins(chunk, at)))
    };
    assert!(is_there(&secret[..64]) && is_there(b"a line that stands"));
    fs::remove_file(desk.source().join("secret")).unwrap();
    fs::write(desk.source().join("small"), b"another line").unwrap();
    desk.seal_again().unwrap();
    assert!(!is_there(&secret[..64]) && !is_there(b"a line that stands"));
    holds_the_source_and_nothing_else(&desk);
}

#[test]
fn of_small_files_that_change_here_and_there_nothing_stays_and_the_others_are_carried() {
    let desk = Desk::of_small_files();
    desk.seal();
    for round in 0..3_u64 {
        for number in (round..3_000).step_by(50) {
            desk.write_small(number, 5_000 * (round + 1) + number);
        }
        // What one file no longer has another one has, which comes later.
        fs::rename(desk.small(7 + round), desk.small(907 + round)).unwrap();
        desk.write_small(7 + round, 90_000 + round);
        fs::remove_file(desk.small(1_033 + round)).unwrap();
        let summary = desk.seal_again().unwrap();
        let counts = summary.backup.counts;
        assert_eq!((counts.files, counts.files_new), (2_999 - round, 0));
        // Of 6,000,000 bytes few are of files that changed.
        assert!(counts.bytes_new < 400_000, "{counts:?}");
        holds_the_source_and_nothing_else(&desk);
    }
}

#[test]
fn a_block_of_which_all_is_kept_is_not_compressed_anew() {
    let mut desk = Desk::empty();
    desk.write_text("a", 1, 2_000_000);
    desk.write_text("b", 2, 1_000);
    desk.seal();
    fs::remove_file(desk.source().join("b")).unwrap();
    // So that what is compressed anew is as long as it was.
    desk.level = 0;
    let stored = desk.seal_again().unwrap().backup.counts.bytes_stored;
    assert!(stored < 1_700_000, "{stored}");
    holds_the_source_and_nothing_else(&desk);
    desk.write_text("a", 3, 2_000_000);
    assert!(desk.seal_again().unwrap().backup.counts.bytes_stored > 2_000_000);
}

#[test]
fn files_that_go_are_told_whatever_is_remembered() {
    let desk = Desk::of_small_files();
    desk.seal();
    desk.write_small(5, 20_000);
    assert_eq!(desk.seal_again_told(), None);
    // As many as before, and another name.
    let older = desk.bytes();
    let lost = |told: Option<Lost>| told.map(|lost| (lost.before, lost.files));
    fs::remove_file(desk.small(17)).unwrap();
    desk.write_small(3_000, 30_000);
    assert_eq!(lost(desk.seal_again_told()), Some((3_000, 1)));
    assert_eq!(desk.seal_again_told(), None);
    // The memory has all names that are in the folder, and is of a newer file than this one.
    fs::write(desk.file(), older).unwrap();
    assert_eq!(lost(desk.seal_again_told()), Some((3_000, 1)));
}

#[test]
fn files_that_stand_elsewhere_in_the_file_are_told_as_gone_if_they_also_changed() {
    let mut desk = Desk::empty();
    desk.memory = StateDir::new(&desk.path("memory"));
    fs::create_dir(desk.source().join(NAME)).unwrap();
    let path = |number: u64| desk.source().join(NAME).join(number.to_string());
    (0..3).for_each(|number| fs::write(path(number), noise(number, 500)).unwrap());
    desk.seal();
    fs::write(path(0), noise(77, 500)).unwrap();
    // All that is remembered is there again, and lay one folder deeper in the file.
    desk.below = NAME;
    assert_eq!(desk.seal_again_told().map(|lost| (lost.before, lost.files)), Some((3, 1)));
}

#[test]
fn ten_times_over_it_stays_sound_and_grows_by_no_more_than_its_log() {
    let desk = Desk::of_large_files(3);
    desk.seal();
    let first = desk.bytes().len();
    for round in 0..10 {
        desk.write_large(round % 3, 200 + round);
        fs::write(desk.source().join(format!("note{round}")), noise(300 + round, 2_000)).unwrap();
        desk.seal_again().unwrap();
        if round % 3 == 0 {
            holds_the_source_and_nothing_else(&desk);
        }
    }
    let last = desk.bytes().len();
    assert!(last < first + 1_000_000, "{first} -> {last}");
}

#[test]
fn with_nothing_changed_every_pack_stays() {
    let desk = Desk::of_large_files(3);
    desk.seal();
    let before = packs(&desk.bytes());
    for _ in 0..2 {
        let summary = desk.seal_again().unwrap();
        assert_eq!(packs(&desk.bytes()), before);
        assert_eq!(summary.bytes_kept, before.values().map(|bytes| bytes.len() as u64).sum::<u64>());
        holds_the_source_and_nothing_else(&desk);
    }
}

#[test]
fn with_everything_deleted_nothing_stays() {
    let desk = Desk::of_large_files(2);
    desk.seal();
    let before = packs(&desk.bytes());
    for number in 0..2 {
        fs::remove_file(desk.source().join(format!("large{number}"))).unwrap();
    }
    let summary = desk.seal_again().unwrap();
    assert_eq!(summary.bytes_kept, 0);
    assert!(packs(&desk.bytes()).keys().all(|name| !before.contains_key(name)));
    holds_the_source_and_nothing_else(&desk);
    desk.write_large(0, 7);
    desk.seal_again().unwrap();
    holds_the_source_and_nothing_else(&desk);
}

#[test]
fn what_is_not_finished_leaves_the_old_file_as_it_was() {
    let desk = Desk::of_large_files(3);
    desk.seal();
    let (before, names) = (desk.bytes(), desk.names());
    desk.write_large(1, 50);
    drop(desk.unlock_draft(&way(1)).unwrap());
    let mut interrupted = 0;
    for patience in 0..40 {
        match desk.seal_again_as(&way(1), None, &Impatient::after(patience)) {
            Err(Error::Interrupted) => interrupted += 1,
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
        assert_eq!(desk.names(), names);
        assert!(desk.bytes() == before, "after {patience} events");
    }
    assert!(interrupted > 3);
    fs::write(desk.file(), &before).unwrap();
    fs::remove_dir_all(desk.source()).unwrap();
    assert!(matches!(desk.seal_again(), Err(Error::Source(_))));
    assert!(desk.bytes() == before);
}

#[test]
fn what_is_carried_while_somebody_loses_patience_leaves_the_old_file_as_it_was() {
    let desk = Desk::of_small_files();
    desk.seal();
    let before = desk.bytes();
    (0..3_000).step_by(100).for_each(|number| desk.write_small(number, 5_000 + number));
    let mut interrupted = 0;
    for patience in (0..20_000).step_by(900) {
        match desk.seal_again_as(&way(1), None, &Impatient::after(patience)) {
            Err(Error::Interrupted) => interrupted += 1,
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
        assert!(desk.bytes() == before, "after {patience} events");
    }
    assert!(interrupted > 3);
    holds_the_source_and_nothing_else(&desk);
}

#[test]
fn a_pack_that_rotted_meanwhile_is_made_anew() {
    let desk = Desk::of_large_files(2);
    desk.seal();
    let mut bytes = desk.bytes();
    let headers = layout::headers(&bytes);
    let members = layout::members(&bytes);
    let largest = members.iter().enumerate().max_by_key(|(_, member)| member.bytes.len()).unwrap().0;
    bytes[headers[largest] + layout::BLOCK + members[largest].bytes.len() / 2] ^= 1;
    fs::write(desk.file(), &bytes).unwrap();
    let summary = desk.seal_again().unwrap();
    assert!(summary.bytes_kept > 0 && summary.bytes_kept < summary.file_bytes - 1_000_000);
    desk.is_sound();
    desk.opens_to_the_source(&way(1));
}

#[test]
fn a_reader_can_not_seal_again() {
    let desk = Desk::new();
    desk.seal();
    let before = desk.bytes();
    let failure = Failure::from(desk.seal_again_as(&way(2), None, &Silent).err().unwrap());
    assert_eq!(failure.exit, Exit::Refused);
    assert!(desk.bytes() == before);
}

//! What was sealed comes back, and two files of the same tell nobody that they are.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use strongroom::cli::failure::Exit;
use strongroom::observe::Silent;
use strongroom::store::Target;
use strongroom::task::browse;
use strongroom::task::error::Error;
use strongroom::task::seal;
use strongroom::tree::path::TreePath;
use strongroom::vault::init::NewSlot;
use strongroom::vault::init::Opens;
use strongroom::vault::slot::Role;

use crate::desk::Desk;
use crate::desk::Impatient;
use crate::desk::NAME;
use crate::desk::Newest;
use crate::desk::Pipe;
use crate::desk::admit;
use crate::harness::way;
use crate::layout;

#[test]
fn every_kind_of_entry_comes_back_for_each_who_may_open_it() {
    let desk = Desk::new();
    let summary = desk.seal();
    assert_eq!(summary.file_bytes, desk.bytes().len() as u64);
    assert_eq!(desk.names(), [NAME, "Customers.strongroom"]);
    desk.opens_to_the_source(&way(1));
    desk.opens_to_the_source(&way(2));
    assert!(desk.open(&way(3), "refused").is_err());
    assert_eq!(desk.names(), [NAME, "Customers.strongroom"]);
    desk.is_sound();
}

#[test]
fn nothing_of_where_it_lay_or_on_which_machine_is_in_the_file() {
    let desk = Desk::new();
    desk.seal();
    let vault = admit(&desk.bytes()).unwrap().unlock(&way(1)).unwrap();
    let newest = Newest::of(&vault);
    let body = newest.body(&vault);
    assert_eq!(body.paths, [format!("/{NAME}").into_bytes()]);
    assert_eq!((body.host.as_str(), body.sender), ("", None));
    let reader = newest.reader(&vault);
    let root = browse::entry_at(&reader, &TreePath::root()).unwrap();
    assert!(matches!(root, browse::At::Root(_)));
}

#[test]
fn a_folder_and_a_file_and_nothing_at_all_can_be_sealed() {
    let desk = Desk::empty();
    desk.seal();
    desk.opens_to_the_source(&way(1));
    desk.is_sound();
}

#[test]
fn sealing_the_same_folder_twice_shares_no_16_bytes_of_ciphertext() {
    let desk = Desk::new();
    let blocks = || {
        desk.seal();
        let members = layout::members(&desk.bytes());
        fs::remove_file(desk.file()).unwrap();
        let mut blocks = HashSet::new();
        for member in members.iter().filter(|member| "pkrm".contains(&member.name[..1])) {
            // What every object of its kind begins with: magic, version and the count of what follows.
            let head = if member.name.starts_with(['p', 'm']) { 48 } else { 32 };
            blocks.extend(member.bytes[head..].chunks_exact(16).map(<[u8]>::to_vec));
        }
        blocks
    };
    let (first, second) = (blocks(), blocks());
    assert!(first.len() > 10_000, "{}", first.len());
    let shared: Vec<_> = first.intersection(&second).collect();
    assert!(shared.is_empty(), "{shared:02x?}");
}

#[test]
fn tar_lists_and_takes_apart_what_was_sealed() {
    let desk = Desk::new();
    desk.seal();
    // Not every machine has one.
    let Ok(listed) = Command::new("tar").arg("-tvf").arg(desk.file()).output() else { return };
    assert!(listed.status.success() && listed.stderr.is_empty());
    let members = layout::members(&desk.bytes());
    let text = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<&str> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(names, members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>());
    let folder = desk.path("apart");
    fs::create_dir(&folder).unwrap();
    let done = Command::new("tar").arg("-xf").arg(desk.file()).arg("-C").arg(&folder).status().unwrap();
    assert!(done.success());
    for member in &members {
        assert!(fs::read(folder.join(&member.name)).unwrap() == member.bytes, "{}", member.name);
    }
    assert_eq!(layout::file(&members), desk.bytes());
}

#[test]
fn a_pipe_gets_the_file_that_a_disk_gets() {
    let desk = Desk::new();
    let pipe = Pipe::default();
    let owner = way(1);
    let slots = [NewSlot { opens: Opens::Way(&owner), label: "you", role: Role::Owner }];
    let summary = desk.seal_for(&slots, None, Target::stream(Box::new(pipe.clone()))).unwrap();
    let bytes = pipe.0.lock().unwrap().clone();
    assert_eq!(summary.file_bytes, bytes.len() as u64);
    fs::write(desk.file(), bytes).unwrap();
    desk.opens_to_the_source(&way(1));
    desk.is_sound();
}

#[test]
fn an_open_that_is_cut_off_leaves_nothing() {
    let desk = Desk::new();
    desk.seal();
    let names = desk.names();
    let mut interrupted = 0;
    for patience in 0..60 {
        match desk.open_watched(&way(1), "opened", &Impatient::after(patience)) {
            Err(failure) => assert_eq!(failure.exit, Exit::Interrupted, "{}", failure.message),
            Ok(_) => break,
        }
        interrupted += 1;
        assert_eq!(desk.names(), names, "after {patience} events");
    }
    assert!(interrupted > 2);
}

#[test]
fn a_source_is_held_against_the_file_entry_by_entry() {
    let desk = Desk::new();
    desk.seal();
    let vault = admit(&desk.bytes()).unwrap().unlock(&way(1)).unwrap();
    let reader = Newest::of(&vault).reader(&vault);
    let name = TreePath::parse(NAME.as_bytes()).unwrap();
    let check = || seal::check_source(&reader, &desk.source(), &name, &Silent);
    check().unwrap();
    let path = |name: &str| desk.source().join(name);
    type Change<'a> = (&'a str, &'a dyn Fn());
    let letter = fs::read(path("letter.txt")).unwrap();
    let time = fs::metadata(path("letter.txt")).unwrap().modified().unwrap();
    let put_back = || {
        fs::write(path("letter.txt"), &letter).unwrap();
        fs::File::options().write(true).open(path("letter.txt")).unwrap().set_modified(time).unwrap();
    };
    let changes: [Change<'_>; 4] = [
        ("another content of the same length and time", &|| {
            fs::write(path("letter.txt"), b"Dear customer;\n").unwrap();
            fs::File::options().write(true).open(path("letter.txt")).unwrap().set_modified(time).unwrap();
        }),
        ("longer", &|| fs::write(path("letter.txt"), b"Dear customer,\nPS\n").unwrap()),
        ("gone", &|| fs::remove_file(path("letter.txt")).unwrap()),
        ("a folder now", &|| {
            fs::remove_file(path("letter.txt")).unwrap();
            fs::create_dir(path("letter.txt")).unwrap();
        }),
    ];
    for (what, change) in changes {
        change();
        assert!(matches!(check(), Err(Error::Refused { .. })), "{what}");
        let _ = fs::remove_dir(path("letter.txt"));
        put_back();
    }
    fs::write(path("2026/new"), b"").unwrap();
    assert!(matches!(check(), Err(Error::Refused { .. })));
}

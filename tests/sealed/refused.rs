//! What somebody without keys can do to a file: all of it is refused before anything is released, and as
//! damage (exit code 20).

use std::fs;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::process::Command;

use strongroom::cli::failure::Exit;

use crate::desk::Desk;
use crate::desk::admit;
use crate::desk::exit;
use crate::harness::noise;
use crate::layout;
use crate::layout::BLOCK;
use crate::layout::Member;

/// A sealed file.
fn sealed() -> Vec<u8> {
    let desk = Desk::new();
    desk.seal();
    desk.bytes()
}

#[track_caller]
fn refused(bytes: &[u8], what: impl std::fmt::Display) {
    match admit(bytes) {
        Ok(_) => panic!("{what}: taken for whole"),
        Err(failure) => assert_eq!(failure.exit, Exit::Damaged, "{what}: {}", failure.message),
    }
}

/// Numbers below `below`, and their seed.
fn random(what: &str) -> (u64, impl FnMut(usize) -> usize) {
    let seed = RandomState::new().hash_one(what);
    println!("{what}: seed {seed}");
    let mut state = seed | 1;
    let next = move |below: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % below
    };
    (seed, next)
}

#[test]
fn a_file_that_was_cut_at_any_block() {
    let whole = sealed();
    assert_eq!(exit(&whole), Exit::Done);
    for length in (0..whole.len()).step_by(BLOCK) {
        refused(&whole[..length], format_args!("cut to {length}"));
    }
}

#[test]
fn a_file_that_was_cut_anywhere() {
    let whole = sealed();
    let (seed, mut next) = random("cuts");
    let ends = [1, 17, 99, 100, 511, whole.len() - 1, whole.len() - 511, whole.len() - 513];
    for length in ends.into_iter().chain((0..500).map(|_| next(whole.len()))) {
        refused(&whole[..length], format_args!("cut to {length}, seed {seed}"));
    }
}

#[test]
fn a_file_that_goes_on() {
    let whole = sealed();
    let short = &whole[..whole.len() - 2 * BLOCK];
    for more in [&[0][..], &[0; BLOCK], &[0; 10_240], b"x", &noise(3, BLOCK), &whole] {
        refused(&[&whole, more].concat(), format_args!("{} bytes more", more.len()));
    }
    refused(&[short, &whole].concat(), "joined, without the zeros between");
    let other = sealed();
    refused(&[&whole, &other[..]].concat(), "joined with another");
    refused(&[short, &other].concat(), "joined with another, without the zeros between");
}

#[test]
fn members_that_are_dropped_doubled_renamed_or_stand_elsewhere() {
    let members = layout::members(&sealed());
    for at in 0..members.len() {
        let name = &members[at].name;
        let mut others = members.clone();
        others.remove(at);
        refused(&layout::file(&others), format_args!("without {name}"));

        let mut others = members.clone();
        others.insert(at, members[at].clone());
        refused(&layout::file(&others), format_args!("{name} twice"));

        for to in (0..members.len()).filter(|to| *to != at) {
            let mut others = members.clone();
            let moved = others.remove(at);
            others.insert(to, moved);
            refused(&layout::file(&others), format_args!("{name} at place {to}"));
        }

        let digits = name.rfind(|each: char| each.is_ascii_hexdigit()).unwrap();
        let other = if name.as_bytes()[digits] == b'0' { "1" } else { "0" };
        let changed = format!("{}{other}{}", &name[..digits], &name[digits + 1..]);
        for new in [changed.as_str(), "README.txt", "../x", "/etc/passwd", "p/x", "zzz", &format!("./{name}")]
        {
            let mut others = members.clone();
            new.clone_into(&mut others[at].name);
            refused(&layout::file(&others), format_args!("{name} called {new}"));
        }

        let mut others = members.clone();
        others[at].bytes.push(0);
        refused(&layout::file(&others), format_args!("{name} a byte longer"));
        let mut others = members.clone();
        others[at].bytes.pop();
        refused(&layout::file(&others), format_args!("{name} a byte shorter"));
        let mut others = members.clone();
        others[at].bytes.clear();
        refused(&layout::file(&others), format_args!("{name} empty"));
    }
}

#[test]
fn members_of_another_file_added_or_put_in_place() {
    let (members, others) = (layout::members(&sealed()), layout::members(&sealed()));
    for (at, member) in members.iter().enumerate() {
        // The same owner's key opens both: the file's own names, orders and digests must do it.
        let kind = &member.name[..2];
        let Some(other) = others.iter().rfind(|other| other.name.starts_with(kind)) else {
            panic!("the other has a {kind}")
        };
        let mut swapped = members.clone();
        swapped[at] = other.clone();
        refused(&layout::file(&swapped), format_args!("{} in place of {}", other.name, member.name));
        let mut swapped = members.clone();
        swapped[at].bytes.clone_from(&other.bytes);
        refused(&layout::file(&swapped), format_args!("{} holds what {} does", member.name, other.name));
        let mut added = members.clone();
        added.insert(at + 1, other.clone());
        refused(&layout::file(&added), format_args!("{} after {}", other.name, member.name));
    }
    for other in &others {
        // Wherever the order lets it stand.
        let mut added = members.clone();
        let at = added.iter().position(|each| each.name[..1] == other.name[..1]).unwrap();
        added.insert(at, other.clone());
        added[at..].sort_by_key(rank);
        refused(&layout::file(&added), format_args!("{} added", other.name));
    }
}

/// The order of members, roughly: enough for a file that only the `end` shows to be wrong.
fn rank(member: &Member) -> (usize, String) {
    if member.name.starts_with("a/0000000000000000-") {
        return (0, member.name.clone());
    }
    let kind = ["k", "r", "a", "c", "m", "p", "s", "u", "e"]
        .iter()
        .position(|kind| member.name.starts_with(kind))
        .unwrap();
    (kind + 1, if member.name.starts_with('p') { String::new() } else { member.name.clone() })
}

#[test]
fn an_older_state_under_a_newer_end_and_the_other_way_round() {
    let desk = Desk::new();
    desk.seal();
    let old = layout::members(&desk.bytes());
    fs::write(desk.source().join("letter.txt"), b"Dear customers,\n").unwrap();
    desk.seal_again().unwrap();
    let new = layout::members(&desk.bytes());
    let end = |of: &[Member]| of.last().unwrap().clone();
    let under =
        |members: &[Member], end: Member| layout::file(&[&members[..members.len() - 1], &[end][..]].concat());
    assert_eq!(exit(&under(&new, end(&new))), Exit::Done);
    refused(&under(&old, end(&new)), "the old one under the new end");
    refused(&under(&new, end(&old)), "the new one under the old end");
    // All of both, each once.
    let mut both: Vec<Member> = new.clone();
    both.extend(old.iter().filter(|member| !new.iter().any(|each| each.name == member.name)).cloned());
    both.sort_by_key(rank);
    refused(&layout::file(&both), "all of both");
}

#[test]
fn headers_of_other_kinds_of_tar() {
    let whole = sealed();
    for at in layout::headers(&whole) {
        for kind in [b'x', b'g', b'L', b'K', b'1', b'2', b'5', b'7', b'S', 0] {
            let mut changed = whole.clone();
            changed[at + 156] = kind;
            layout::sum_up(&mut changed[at..at + BLOCK]);
            refused(&changed, format_args!("type {kind} at {at}"));
        }
        let mut pax = Member { name: "PaxHeaders/x".to_owned(), bytes: b"20 path=../../escape\n".to_vec() };
        for (name, kind) in
            [("PaxHeaders/x", b'x'), ("././@PaxHeader", b'x'), ("g", b'g'), ("././@LongLink", b'L')]
        {
            name.clone_into(&mut pax.name);
            let mut header = layout::header(&pax);
            header[156] = kind;
            layout::sum_up(&mut header);
            let mut block = [0; BLOCK];
            block[..pax.bytes.len()].copy_from_slice(&pax.bytes);
            let changed = [&whole[..at], &header, &block, &whole[at..]].concat();
            refused(&changed, format_args!("{name} before {at}"));
        }
        for (offset, field) in
            [(100, &b"0000644"[..]), (108, b"0001750"), (136, b"15000000000"), (265, b"root"), (345, b"..")]
        {
            let mut changed = whole.clone();
            changed[at + offset..at + offset + field.len()].copy_from_slice(field);
            layout::sum_up(&mut changed[at..at + BLOCK]);
            refused(&changed, format_args!("{offset} of the header at {at}"));
        }
    }
}

#[test]
fn what_tar_makes_of_the_members() {
    let desk = Desk::new();
    desk.seal();
    let members = layout::members(&desk.bytes());
    let folder = desk.path("apart");
    fs::create_dir(&folder).unwrap();
    for member in &members {
        let path = folder.join(&member.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &member.bytes).unwrap();
    }
    for format in ["ustar", "gnu", "pax", "oldgnu", "v7"] {
        let mut tar = Command::new("tar");
        tar.args(["--format", format, "-cf", "-", "-C"]).arg(&folder);
        tar.args(members.iter().map(|member| member.name.as_str()));
        let Ok(made) = tar.output() else { return };
        // The oldest kind has no names of that length.
        if made.status.success() {
            refused(&made.stdout, format);
        }
    }
}

#[test]
fn any_byte_of_a_header_or_of_what_fills_a_block() {
    let whole = sealed();
    let (seed, mut next) = random("headers");
    let members = layout::members(&whole);
    for (at, member) in layout::headers(&whole).into_iter().zip(&members) {
        let padding = (at + BLOCK + member.bytes.len()..)
            .take(member.bytes.len().next_multiple_of(BLOCK) - member.bytes.len());
        // Of the first header all, of the others a part.
        let own: Vec<usize> = (at..at + BLOCK).chain(padding).collect();
        let chosen: Vec<usize> = if at == 0 { own } else { (0..60).map(|_| own[next(own.len())]).collect() };
        for byte in chosen {
            let mut changed = whole.clone();
            changed[byte] ^= 1 << next(8);
            refused(&changed, format_args!("byte {byte} of {}, seed {seed}", member.name));
        }
    }
    for byte in whole.len() - 2 * BLOCK..whole.len() {
        let mut changed = whole.clone();
        changed[byte] ^= 1 << next(8);
        refused(&changed, format_args!("byte {byte} of the last blocks"));
    }
}

#[test]
fn any_byte_of_what_members_hold() {
    let whole = sealed();
    let (seed, mut next) = random("bytes");
    let mut changed = whole.clone();
    let mut flip = |byte: usize, bit: usize, what: &str| {
        changed[byte] ^= 1 << bit;
        refused(&changed, format_args!("bit {bit} of byte {byte}, {what}, seed {seed}"));
        changed[byte] = whole[byte];
    };
    for (at, member) in layout::headers(&whole).into_iter().zip(layout::members(&whole)) {
        // Magic, version, lengths: what a reader looks at first.
        for byte in 0..64.min(member.bytes.len()) {
            flip(at + BLOCK + byte, next(8), &member.name);
        }
        for _ in 0..20 {
            flip(at + BLOCK + next(member.bytes.len()), next(8), &member.name);
        }
    }
    for _ in 0..200 {
        flip(next(whole.len()), next(8), "anywhere");
    }
}

#[test]
fn what_is_no_tar_at_all_is_no_sealed_file() {
    for other in [&b"a letter"[..], &noise(5, 5_000), &[0; 1_024], b"PK\x03\x04"] {
        assert_eq!(exit(other), Exit::NoVault);
    }
}

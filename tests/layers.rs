//! The layers of the crate and the doors of outside crates, read from the source.
//!
//! A module imports only from lower layers; each outside crate has one door; `unsafe` has one
//! file. Comments and texts don't count; tests at the foot of a file do.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::fs;
use std::path::Path;

/// Each module of the crate and its layer.
const LAYERS: [(&str, u8); 13] = [
    ("id", 0),
    ("codec", 0),
    ("observe", 0),
    ("crypto", 1),
    ("chunk", 1),
    ("tree", 1),
    ("store", 1),
    ("pack", 2),
    ("seal", 2),
    ("vault", 3),
    ("task", 4),
    ("cli", 5),
    // The program stands above the library.
    ("main", 6),
];

/// Neighbours that may know each other all the same: names are what the lowest layer is made of.
const ALLOWED: [(&str, &str); 2] = [("codec", "id"), ("observe", "id")];

/// Each outside crate that has a door, and the file or folder that is it.
const DOORS: [(&str, &str); 18] = [
    ("clap", "cli/"),
    ("clap_complete", "cli/"),
    ("clap_mangen", "cli/"),
    ("indicatif", "cli/"),
    ("qrcodegen", "cli/qr.rs"),
    ("rayon", "task/"),
    ("zstd", "pack/compress.rs"),
    ("walkdir", "tree/walk/"),
    ("argon2", "crypto/kdf.rs"),
    ("chacha20poly1305", "crypto/aead.rs"),
    ("scrypt", "crypto/age.rs"),
    ("getrandom", "crypto/random.rs"),
    ("blake3", "crypto/digest.rs"),
    ("x_wing", "crypto/kem.rs"),
    ("ml_kem", "crypto/kem.rs"),
    ("x25519_dalek", "crypto/kem.rs"),
    ("ed25519_dalek", "crypto/sign.rs"),
    ("tar", "tree/tar/"),
];

/// The only file that may say `unsafe`.
const UNSAFE_FILE: &str = "crypto/memory.rs";

/// What is wrong with `source`, the text of `file` (a path below `src`, with `/`), a line each.
fn violations(file: &str, source: &str) -> Vec<String> {
    let code = code_of(source);
    let module = file.split(['/', '.']).next().unwrap_or_default();
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let here = format!("src/{file}:{}", index + 1);
        // The map of the crate names them all.
        if module != "lib" {
            for imported in after(line, "crate::").chain(after(line, "strongroom::")) {
                found.extend(import_violation(module, imported).map(|what| format!("{here}: {what}")));
            }
        }
        for (outside, door) in DOORS {
            let at_door = if door.ends_with('/') {
                file.starts_with(door) || file == format!("{}.rs", door.trim_end_matches('/'))
            } else {
                file == door
            };
            if !at_door && names_crate(line, outside) {
                found.push(format!("{here}: {outside} is used only in src/{door}"));
            }
        }
        if file != UNSAFE_FILE && words(line).any(|word| word == "unsafe") {
            found.push(format!("{here}: unsafe code stands only in src/{UNSAFE_FILE}"));
        }
    }
    found
}

/// What is wrong with `module` importing what `rest` begins with.
fn import_violation(module: &str, rest: &str) -> Option<String> {
    let layer = |name: &str| LAYERS.iter().find(|(each, _)| *each == name).map(|(_, layer)| *layer);
    if rest.starts_with(['{', '*']) {
        return Some("one `use crate::x::Y;` a line, so that imports can be read".to_owned());
    }
    let imported = words(rest).next().unwrap_or_default();
    let (Some(own), Some(other)) = (layer(module), layer(imported)) else {
        return Some(format!("{module} or {imported} has no layer in tests/layers.rs"));
    };
    if imported == module || other < own || ALLOWED.contains(&(module, imported)) {
        None
    } else if other == own {
        Some(format!("{module} imports its neighbour {imported}, both of layer {own}"))
    } else {
        Some(format!("{module}, layer {own}, imports {imported}, layer {other}, which is above it"))
    }
}

/// What follows each `start` that isn't the end of a longer word.
fn after<'a>(line: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(start)
        .filter(|(at, _)| !line[..*at].ends_with(in_word))
        .map(|(at, _)| &line[at + start.len()..])
}

/// Whether a line reaches into an outside crate: `x::`, `use x;`, `use x as y;` or `extern crate x`.
fn names_crate(line: &str, outside: &str) -> bool {
    line.match_indices(outside).any(|(at, _)| {
        let (before, rest) = (&line[..at], &line[at + outside.len()..]);
        // `pack::zstd::` is a module of ours, `::zstd::` is the crate.
        let inside = before.strip_suffix("::").is_some_and(|path| path.ends_with(|c| in_word(c) || c == '>'));
        let whole = !before.ends_with(in_word) && !rest.starts_with(in_word) && !inside;
        let introduced = ["use ", "use ::", "extern crate "].iter().any(|each| before.ends_with(each));
        whole && (rest.starts_with("::") || introduced)
    })
}

fn in_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter| !in_word(letter)).filter(|word| !word.is_empty())
}

/// `source` without comments and with every text emptied; lines stay where they are.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(in_word);
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_length(rest),
            '"' => text_length(rest),
            'r' | 'b' | 'c' if !after_word => raw_text_length(rest),
            '\'' => letter_length(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            code.extend(rest[..skipped].chars().filter(|letter| *letter == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

/// How long the comment is that `rest` begins with, others inside it included.
fn comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// How long the text in quotes is that `rest` begins with.
fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// How long the text is that begins with `r"`, `r#"`, `br"` or the like; 0 if none does.
fn raw_text_length(rest: &str) -> usize {
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c']).len();
    let Some(raw) = rest[prefix..].strip_prefix('r').filter(|_| prefix <= 1) else { return 0 };
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    if !raw[hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = prefix + 1 + hashes + 1;
    rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
}

/// How long the letter in quotes is that `rest` begins with; 0 if it is a lifetime.
fn letter_length(rest: &str) -> usize {
    let inner = &rest[1..];
    if let Some(escape) = inner.strip_prefix('\\') {
        // The letter after the backslash may itself be a quote.
        let skipped = escape.chars().next().map_or(0, char::len_utf8);
        return escape[skipped..].find('\'').map_or(0, |at| 2 + skipped + at + 1);
    }
    let letter = inner.chars().next().map_or(0, char::len_utf8);
    if inner[letter..].starts_with('\'') { 1 + letter + 1 } else { 0 }
}

/// The path below `src` and the text of every source file.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                sources.push((file, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources.sort();
    sources
}

#[test]
fn imports_point_downward_and_every_outside_crate_has_one_door() {
    let sources = sources();
    assert!(sources.iter().any(|(file, _)| file == "store/local.rs"), "the source was found");
    let found: Vec<String> = sources.iter().flat_map(|(file, source)| violations(file, source)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn an_import_that_points_upward_is_named() {
    let found = violations("store/local.rs", "use std::fs;\n\nuse crate::vault::Vault;\n");
    assert_eq!(found, ["src/store/local.rs:3: store, layer 1, imports vault, layer 3, which is above it"]);
    assert_eq!(violations("vault/mod.rs", "fn f() -> crate::cli::Exit { crate::task::run() }").len(), 2);
    assert_eq!(violations("task/backup.rs", "pub(in crate::cli) use crate::id::Digest;").len(), 1);
    assert_eq!(violations("id.rs", "use crate::crypto::Key;").len(), 1);
}

#[test]
fn an_import_of_a_neighbour_is_named_and_one_of_the_module_itself_is_not() {
    let found = violations("pack/mod.rs", "use crate::seal::Sealed;");
    assert_eq!(found, ["src/pack/mod.rs:1: pack imports its neighbour seal, both of layer 2"]);
    assert_eq!(violations("codec.rs", "use crate::observe::Event;").len(), 1);
    assert_eq!(violations("id.rs", "use crate::codec::Reader;").len(), 1);
    assert_eq!(violations("codec.rs", "use crate::id::Digest;"), [""; 0]);
    assert_eq!(violations("pack/packer.rs", "use crate::pack::Block;"), [""; 0]);
    assert_eq!(violations("task/backup.rs", "use crate::store::Store;"), [""; 0]);
}

#[test]
fn what_cannot_be_judged_is_named_too() {
    assert_eq!(violations("vault/mod.rs", "use crate::{id::Digest, cli::Exit};").len(), 1);
    assert_eq!(violations("vault/mod.rs", "use crate::*;").len(), 1);
    assert_eq!(violations("vault/mod.rs", "use crate::util::Thing;").len(), 1);
    assert_eq!(violations("util.rs", "use crate::id::Digest;").len(), 1);
}

#[test]
fn an_outside_crate_beside_its_door_is_named() {
    let found = violations("vault/mod.rs", "use zstd::bulk;");
    assert_eq!(found, ["src/vault/mod.rs:1: zstd is used only in src/pack/compress.rs"]);
    for line in
        ["use ::zstd::bulk;", "use zstd;", "use zstd as z;", "extern crate zstd;", "f(zstd::bulk::x())"]
    {
        assert_eq!(violations("pack/mod.rs", line).len(), 1, "{line}");
        assert_eq!(violations("pack/compress.rs", line), [""; 0], "{line}");
    }
    for line in ["crate::pack::zstd::x()", "let zstd = 1;", "zstd_safe::x()", "my_zstd::x()", "flags.zstd"] {
        assert_eq!(violations("pack/mod.rs", line), [""; 0], "{line}");
    }
    assert_eq!(violations("cli/args.rs", "use clap::Parser;"), [""; 0]);
    assert_eq!(violations("task/args.rs", "#[derive(clap::Parser)]").len(), 1);
}

#[test]
fn unsafe_code_beside_its_file_is_named() {
    assert_eq!(violations("store/local.rs", "let x = unsafe { f() };").len(), 1);
    assert_eq!(violations("crypto/memory.rs", "let x = unsafe { f() };"), [""; 0]);
    assert_eq!(violations("crypto/kdf.rs", "#![forbid(unsafe_code)]"), [""; 0]);
}

#[test]
fn comments_and_texts_are_not_code_and_what_follows_them_is() {
    let hidden = [
        "// use crate::cli::X;",
        "/// [`crate::cli::X`]",
        "/* a /* crate::cli::X */ unsafe */",
        "let a = \"unsafe \\\" crate::cli::X\";",
        "let a = r#\"unsafe \" zstd::x\"#;",
        "let a = br\"unsafe\";",
        "let a = b\"unsafe\";",
    ];
    for line in hidden {
        assert_eq!(violations("store/mod.rs", line), [""; 0], "{line}");
        let followed = format!("{line}\n  unsafe");
        let expected = "src/store/mod.rs:2: unsafe code stands only in src/crypto/memory.rs";
        assert_eq!(violations("store/mod.rs", &followed), [expected], "{line}");
    }
    for line in [
        "'\"' unsafe '\"'",
        "'\\'' unsafe",
        "'\\\\' unsafe '\\u{22}'",
        "fn f<'a>() unsafe 'x'",
        "for r unsafe",
    ] {
        assert_eq!(violations("store/mod.rs", line).len(), 1, "{line}");
    }
    assert_eq!(violations("store/mod.rs", "\"two\nlines\" unsafe")[0].split(':').nth(1), Some("2"));
}

//! What `--json` prints is what docs/json.md says, field by field.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::bench::Bench;

const DOCUMENT: &str = include_str!("../../docs/json.md");

/// The part of the document under a heading that has `message` in it.
fn section(message: &str) -> &'static str {
    let marked = format!("`{message}`");
    let sections = DOCUMENT.split("\n### ");
    let found = sections.into_iter().find(|section| section.lines().next().unwrap().contains(&marked));
    found.unwrap_or_else(|| panic!("docs/json.md has no heading with {marked}"))
}

/// All that stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The fields that a message of this kind always has: those in the first column that aren't in italics.
fn always(section: &str) -> BTreeSet<&str> {
    let rows =
        section.lines().filter_map(|line| line.strip_prefix("| ")).filter_map(|row| row.split(" | ").next());
    let rows = rows.filter(|first| !first.starts_with("field") && !first.starts_with("---"));
    rows.flat_map(|first| first.split(", ").filter(|field| field.starts_with('`')).flat_map(quoted)).collect()
}

/// The names of all fields, those within fields too.
fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            names(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

/// Holds each message against the section of its kind, or of the command where several have a `summary`.
#[track_caller]
fn hold_against_document(command: &str, messages: &[Value]) {
    assert!(!messages.is_empty(), "{command} says nothing");
    for message in messages {
        let kind = message["message_type"].as_str().unwrap();
        assert_eq!(message["schema"], 1, "{command}");
        let section = section(if kind == "summary" || kind == "finding" { command } else { kind });
        let documented: BTreeSet<&str> = quoted(section).collect();
        let mut printed = BTreeSet::new();
        names(message, &mut printed);
        for name in printed.iter().filter(|name| !["message_type", "schema"].contains(&name.as_str())) {
            let is_bytes = name.strip_suffix("_base64").is_some_and(|text| documented.contains(text));
            assert!(is_bytes || documented.contains(name.as_str()), "{command}: `{name}` is not documented");
        }
        if kind == "finding" || kind == "statistics" || kind == "change" {
            continue;
        }
        for field in always(section) {
            assert!(!message[field].is_null(), "{command}: `{field}` is documented and missing in {message}");
        }
    }
}

#[test]
fn every_field_of_every_result_is_documented_and_every_documented_one_is_there() {
    let bench = Bench::with_snapshots();
    let second = bench.inner("second");
    let init = ["-r", &second, "init", "--key-file", "key", "--recovery-code-out", "page", "--json"];
    hold_against_document("init", &bench.run(&init).ends(0).json());
    hold_against_document("backup", &bench.run(&["backup", "source", "--json"]).ends(0).json());
    let source = bench.inner("source");
    let restore = format!("latest:{source}");
    let commands: [&[&str]; 11] = [
        &["snapshots"],
        &["ls", "latest"],
        &["find", "a.txt"],
        &["diff", "latest~2", "latest"],
        &["stats"],
        &["stats", "latest", "--mode", "raw-data"],
        &["restore", &restore, "--target", "out"],
        &["status", "--max-age", "26h"],
        &["verify"],
        &["verify", "--read-data-subset", "50%"],
        &["inspect"],
    ];
    for command in commands {
        let run = bench.keyed(&[command, &["--json"]].concat()).ends(0);
        hold_against_document(command[0], &run.json());
    }
}

#[test]
fn a_passphrase_slot_is_told_with_what_a_guess_costs() {
    let bench = Bench::new();
    let password = "echo violet anchor tundra kettle";
    bench.run(&["init", "--password-command", password, "--without-recovery-code"]).ends(0);
    let messages = bench.run(&["inspect", "--json"]).ends(0).json();
    hold_against_document("inspect", &messages);
    assert_eq!(messages[0]["slots"][0]["kdf"]["name"], "argon2id");
    assert_eq!(messages[0]["slots"][0]["kind"], "passphrase");
    assert_eq!(messages[0]["has_recovery_code"], false);
    assert_eq!(messages[0]["vault"], bench.inner("vault"));
    hold_against_document("status", &bench.run(&["status", "--json"]).ends(0).json());
}

#[test]
fn damage_is_told_with_what_it_touches_and_the_verdict() {
    let bench = Bench::with_snapshots();
    let files = crate::bench::tree(&bench.path("vault"));
    let (largest, _) =
        files.iter().filter(|(path, _)| path.starts_with("p")).max_by_key(|(_, bytes)| bytes.len()).unwrap();
    std::fs::remove_file(bench.path("vault").join(largest)).unwrap();
    let messages = bench.keyed(&["verify", "--read-all", "--json"]).ends(20).json();
    hold_against_document("verify", &messages);
    let finding = messages.iter().find(|message| message["message_type"] == "finding").unwrap();
    assert_eq!(finding["class"], "integrity");
    assert!(finding["lost_total"].as_u64().unwrap() > 0, "{finding}");
    assert_eq!(messages.last().unwrap()["exit_code"], 20);
    assert_eq!(messages.last().unwrap()["is_sound"], false);
}

#[test]
fn whatever_does_not_end_with_0_says_so_in_its_last_line() {
    let bench = Bench::with_snapshots();
    let last = |args: &[&str], code: i32| {
        let run = bench.keyed(&[args, &["--json"]].concat()).ends(code);
        let line = run.err.lines().last().unwrap_or_default().to_owned();
        let message: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&message["message_type"], &message["code"]),
            (&"exit_error".into(), &code.into()),
            "{args:?}"
        );
    };
    last(&["rotate", "--budget", "0s"], 2);
    last(&["rotate", "--reencrypt", "--budget", "0s"], 25);
    last(&["reencrypt", "--budget", "0s"], 25);
    last(&["incident", "--slot", "recovery code", "--yes", "--budget", "0s"], 25);
    last(&["status", "--max-age", "0s"], 22);
    let (entry, _) = crate::bench::tree(&bench.path("vault/u")).remove(0);
    std::fs::remove_file(bench.path("vault/u").join(&entry)).unwrap();
    std::fs::remove_file(bench.path("vault/2/u").join(&entry)).unwrap();
    last(&["log"], 21);
    bench.damage_indexes();
    last(&["verify"], 20);
}

#[test]
fn a_path_that_is_no_text_stands_beside_its_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::with_vault();
    let name = std::ffi::OsStr::from_bytes(b"source-\xff");
    std::fs::write(bench.path("").join(name), b"x").unwrap();
    bench.write("list", &[&b"source-\xff"[..], b"\0"].concat());
    bench.run(&["backup", "--files-from-raw", "list"]).ends(0);
    let messages = bench.keyed(&["snapshots", "--json"]).ends(0).json();
    hold_against_document("snapshots", &messages);
    let encoded = messages[0]["paths_base64"][0].as_str().unwrap();
    let bytes = data_encoding::BASE64.decode(encoded.as_bytes()).unwrap();
    assert!(bytes.ends_with(b"/source-\xff"), "{encoded}");
}

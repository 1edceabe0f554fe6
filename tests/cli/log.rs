//! `log`: who did what, word for word.

use std::fs;

use crate::bench::Bench;
use crate::bench::tree;

/// With a vault, and a reader called anna whose key file is `anna.key`; nothing is in the log yet.
fn with_reader() -> Bench {
    let bench = Bench::with_snapshots();
    bench.keyed(&["slot", "add", "anna", "--new-key-file", "anna.key"]).ends(0);
    forget(&bench);
    bench
}

/// Takes all entries away, and what the machine knows of them.
fn forget(bench: &Bench) {
    for folder in ["vault/u", "vault/2/u"] {
        fs::remove_dir_all(bench.path(folder)).unwrap();
    }
    let state = bench.path("home/.local/state/strongroom");
    for (path, _) in tree(&state).into_iter().filter(|(path, _)| path.ends_with("seen")) {
        fs::remove_file(state.join(path)).unwrap();
    }
}

fn by_anna(bench: &Bench, args: &[&str]) -> crate::bench::Run {
    bench.run_with(args, &[("STRONGROOM_KEY_FILE", "anna.key")], b"")
}

/// Each line's words from the second column on.
fn lines(out: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    out.lines().skip(1).map(words).collect()
}

#[test]
fn each_command_that_opens_the_vault_is_in_the_log_with_what_it_was_about() {
    let bench = with_reader();
    let inner = bench.inner("source");
    let file = bench.inner("source/a.txt");
    by_anna(&bench, &["restore", "latest", "--target", "out"]).ends(0);
    by_anna(&bench, &["ls", &format!("latest:{inner}")]).ends(0);
    by_anna(&bench, &["dump", "latest", &file, "-q"]).ends(0);
    by_anna(&bench, &["ls", "latest~7"]).ends(1);
    by_anna(&bench, &["diff", "latest~1", "latest"]).ends(0);
    by_anna(&bench, &["find", "*.txt", "--json"]).ends(0);
    by_anna(&bench, &["find", "\u{1b}[2J", "--type", "dir"]).ends(0);
    by_anna(&bench, &["rotate"]).ends(26);
    bench.keyed(&["snapshots"]).ends(0);
    bench.keyed(&["stats"]).ends(0);
    bench.keyed(&["verify"]).ends(0);
    bench.keyed(&["slot", "test"]).ends(0);
    bench.keyed(&["slot", "remove", "recovery code"]).ends(0);
    bench.keyed(&["device", "list"]).ends(0);
    bench.keyed(&["rotate", "--reencrypt"]).ends(0);
    let run = bench.keyed(&["log"]).ends(0).complains("");
    let head: Vec<&str> = run.out.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["Time", "Slot", "Role", "Host", "What"]);
    assert_eq!(
        lines(&run.out),
        [
            "anna reader HOST restore ID /".to_owned(),
            format!("anna reader HOST ls ID {}", inner.replace(bench.path("").to_str().unwrap(), "DIR/")),
            format!("anna reader HOST dump ID {}", file.replace(bench.path("").to_str().unwrap(), "DIR/")),
            "anna reader HOST ls (no such snapshot)".to_owned(),
            "anna reader HOST diff ID ID /".to_owned(),
            "anna reader HOST find *.txt".to_owned(),
            "anna reader HOST find \\x1b[2J".to_owned(),
            "anna reader HOST rotate (refused)".to_owned(),
            "owner owner HOST snapshots".to_owned(),
            "owner owner HOST stats".to_owned(),
            "owner owner HOST verify".to_owned(),
            "owner owner HOST slot test".to_owned(),
            "owner owner HOST slot remove recovery code".to_owned(),
            "owner owner HOST device list".to_owned(),
            "owner owner HOST rotate --reencrypt".to_owned(),
            "owner owner HOST log".to_owned(),
        ]
    );
    bench.keyed(&["verify", "--read-all"]).ends(0);
    bench.run(&["verify"]).ends(0);
}

#[test]
fn the_log_is_asked_for_one_slot_from_a_time_on_and_for_programs() {
    let bench = with_reader();
    by_anna(&bench, &["ls"]).ends(0);
    bench.keyed(&["snapshots"]).ends(0);
    bench.keyed(&["slot", "remove", "anna"]).ends(0);
    let run = bench.keyed(&["log", "--slot", "anna"]).ends(0);
    assert_eq!(lines(&run.out), ["anna HOST ls ID /"]);
    let acts = bench.keyed(&["log", "--slot", "anna", "--json"]).ends(0).json();
    assert_eq!(acts.len(), 1);
    let act = &acts[0];
    assert_eq!(act["message_type"], "act");
    assert_eq!((&act["label"], &act["command"], &act["path"]), (&"anna".into(), &"ls".into(), &"/".into()));
    assert_eq!(act["snapshots"].as_array().unwrap().len(), 1);
    let id = act["slot"].as_str().unwrap().to_owned();
    bench.keyed(&["log", "--slot", &id[..8]]).ends(0);
    assert_eq!(lines(&bench.keyed(&["log", "--since", "1d", "--slot", "anna"]).ends(0).out).len(), 1);
    bench.keyed(&["log", "--since", "2099-01-01"]).ends(0).says("").complains("no entry fits\n");
    bench.keyed(&["log", "--slot", "eve"]).ends(1).complains(
        "error: nothing in this vault is called eve\n  \
         hint: `strongroom slot list` and `strongroom device list` show what there is\n",
    );
    bench.keyed(&["log", "--since", "yesterday"]).ends(2);
}

#[test]
fn what_kind_of_slot_was_added_and_whether_an_incident_was_a_dry_run_is_told() {
    let bench = with_reader();
    let cards = ["--role", "owner", "--cards", "2/3", "--cards-out", "cards"];
    bench.keyed(&[&["slot", "add", "board"], &cards[..]].concat()).ends(0);
    bench.keyed(&["slot", "passwd", "anna", "--new-key-file", "new.key"]).ends(0);
    bench.keyed(&["incident", "--slot", "board"]).ends(0);
    bench.keyed(&["incident", "--slot", "board", "--yes"]).ends(0);
    assert_eq!(
        lines(&bench.keyed(&["log"]).ends(0).out),
        [
            "owner owner HOST slot add board --role owner --cards 2/3",
            "owner owner HOST slot passwd anna --new-key-file",
            "owner owner HOST incident board",
            "owner owner HOST incident board --yes",
            "owner owner HOST log",
        ]
    );
}

#[test]
fn a_reader_is_refused_and_that_too_is_in_the_log() {
    let bench = with_reader();
    by_anna(&bench, &["log"]).ends(26).says("").complains(
        "error: that key may read and verify; this takes an owner's\n  \
         hint: ask an owner, or use an owner's key\n",
    );
    assert_eq!(
        lines(&bench.keyed(&["log"]).ends(0).out),
        ["anna reader HOST log (refused)", "owner owner HOST log"]
    );
}

#[test]
fn a_wrong_key_and_commands_without_one_leave_nothing_in_the_log() {
    let bench = with_reader();
    let other = Bench::with_vault();
    fs::copy(other.path("key"), bench.path("wrong")).unwrap();
    let before = tree(&bench.path("vault"));
    for args in [&["snapshots"][..], &["log"], &["rotate"]] {
        bench.run_with(args, &[("STRONGROOM_KEY_FILE", "wrong")], b"").ends(12);
    }
    bench.run(&["verify"]).ends(0);
    bench.run(&["status"]).ends(0);
    assert!(tree(&bench.path("vault")) == before);
}

#[test]
fn an_entry_that_was_taken_out_is_told_by_log_and_by_verify() {
    let bench = with_reader();
    for _ in 0..3 {
        by_anna(&bench, &["ls"]).ends(0);
    }
    let files = tree(&bench.path("vault/u"));
    let (second, _) = &files[1];
    for folder in ["vault/u", "vault/2/u"] {
        fs::remove_file(bench.path(folder).join(second)).unwrap();
    }
    let run = bench.keyed(&["log", "--slot", "anna"]).ends(21);
    assert_eq!(lines(&run.out).len(), 2);
    assert_eq!(
        run.err,
        "warning: the vault's history is incomplete: entry 2 of the log of slot ID can't be found\n"
    );
    for run in [bench.keyed(&["verify"]).ends(21), bench.run(&["verify", "--public"]).ends(21)] {
        assert!(
            run.out.starts_with("history: the vault's history is incomplete: entry 2 of the log"),
            "{}",
            run.out
        );
        assert!(run.out.contains("1 finding: "), "{}", run.out);
    }
}

#[test]
fn a_vault_that_takes_no_entry_is_read_all_the_same() {
    let bench = with_reader();
    // A file where the folder of the log would be: nothing can be put there, whoever runs this.
    bench.write("vault/u", b"");
    let run = by_anna(&bench, &["restore", "latest", "--target", "out", "-q"]).ends(0);
    let warning = "warning: the log of who did what has no entry of this: ";
    assert!(run.err.starts_with(warning) && run.err.lines().count() == 1, "{}", run.err);
    assert_eq!(
        tree(&bench.path("out").join(bench.inner("source").trim_start_matches('/'))),
        tree(&bench.path("source"))
    );
    // What changes the vault is not done unseen.
    let before = bench.but_for_the_log();
    let run = bench.keyed(&["slot", "remove", "anna"]).ends(26);
    let error = "error: the log of who did what can't take an entry of this: ";
    assert!(run.err.starts_with(error) && run.err.contains("\n  hint: nothing was changed; "), "{}", run.err);
    assert!(bench.but_for_the_log() == before);
}

#[test]
fn entries_that_this_machine_has_seen_are_missed_wherever_they_stood() {
    let bench = with_reader();
    for _ in 0..3 {
        by_anna(&bench, &["ls"]).ends(0);
    }
    bench.keyed(&["log"]).ends(0);
    bench.keyed(&["verify"]).ends(0);
    let gone = |seq: u64| {
        format!(
            "the vault's history is incomplete: entry {seq} of the log of slot ID, which this machine has seen, is \
             gone\n"
        )
    };
    // The newest entry of a slot.
    let newest = tree(&bench.path("vault/u")).into_iter().map(|(path, _)| path).find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("0000000000000003"))
    });
    let newest = newest.unwrap();
    for folder in ["vault/u", "vault/2/u"] {
        fs::remove_file(bench.path(folder).join(&newest)).unwrap();
    }
    assert_eq!(bench.keyed(&["log"]).ends(21).err, format!("warning: {}", gone(3)));
    assert!(bench.keyed(&["verify"]).ends(21).out.starts_with(&format!("history: {}", gone(3))));
    assert!(bench.run(&["verify", "--public"]).ends(21).out.starts_with(&format!("history: {}", gone(3))));
    // Another entry at its place doesn't hide it.
    by_anna(&bench, &["ls"]).ends(0);
    by_anna(&bench, &["ls"]).ends(0);
    assert_eq!(bench.keyed(&["log"]).ends(21).err, format!("warning: {}", gone(3)));

    // And all of a slot's log.
    forget(&bench);
    by_anna(&bench, &["ls"]).ends(0);
    let folder = newest.parent().unwrap();
    for parent in ["vault/u", "vault/2/u"] {
        fs::remove_dir_all(bench.path(parent).join(folder)).unwrap();
    }
    assert_eq!(bench.keyed(&["log"]).ends(21).err, format!("warning: {}", gone(1)));
}

#[test]
fn what_failed_does_not_read_as_done() {
    let bench = with_reader();
    bench.keyed(&["slot", "remove", "recovery code"]).ends(0);
    bench.keyed(&["slot", "remove", "owner"]).ends(26);
    bench.keyed(&["device", "approve", "0000000000000000", "--name", "x"]).ends(1);
    bench.keyed(&["rotate"]).ends(0);
    by_anna(&bench, &["rotate"]).ends(26);
    assert_eq!(
        lines(&bench.keyed(&["log"]).ends(0).complains("").out),
        [
            "owner owner HOST slot remove recovery code",
            "owner owner HOST slot remove owner (ended with exit code 26)",
            "owner owner HOST device approve 0000000000000000 (ended with exit code 1)",
            "owner owner HOST rotate",
            "anna reader HOST rotate (refused)",
            "owner owner HOST log",
        ]
    );
    let acts = bench.keyed(&["log", "--json"]).ends(0).json();
    assert_eq!((&acts[0]["ended_with"], &acts[1]["ended_with"]), (&serde_json::Value::Null, &26.into()));
    bench.keyed(&["verify"]).ends(0);
}

#[test]
fn a_code_that_is_tried_for_a_page_is_in_the_log() {
    let bench = with_reader();
    bench.run(&["recovery-kit", "--out", "kit.html", "--recovery-code-file", "code"]).ends(0);
    assert_eq!(
        lines(&bench.keyed(&["log"]).ends(0).out),
        ["recovery code owner HOST recovery-kit", "owner owner HOST log"]
    );
}

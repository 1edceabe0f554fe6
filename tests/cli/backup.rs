use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::bench::Bench;
use crate::bench::tree;

/// A summary without what differs from run to run.
fn steady(text: &str) -> String {
    text.lines()
        .map(|line| match line.split_once(' ') {
            Some(("added", _)) => "added\n".to_owned(),
            Some(("took", _)) => "took\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn a_backup_says_what_it_added_and_gives_a_receipt() {
    let bench = Bench::with_vault();
    bench.write("source/a", b"alpha");
    bench.write("source/b", b"beta");
    let run = bench.run(&["backup", "source"]).ends(0).complains("");
    assert_eq!(
        steady(&run.out),
        "files     2 new, 0 changed, 0 unchanged (9 B)\nadded\ntook\nsnapshot  ID\nreceipt   RECEIPT\n"
    );
    bench.write("source/b", b"changed");
    let run = bench.run(&["create", "source"]).ends(0);
    assert!(run.out.starts_with("files     0 new, 1 changed, 1 unchanged (12 B)\n"), "{}", run.out);
}

#[test]
fn programs_get_the_summary_with_the_names_that_they_know() {
    let bench = Bench::with_vault();
    bench.write("source/a", b"alpha");
    let messages = bench.run(&["backup", "source", "--json"]).ends(0).json();
    let summary = messages.last().unwrap();
    let table = [
        ("message_type", serde_json::json!("summary")),
        ("schema", serde_json::json!(1)),
        ("files_new", serde_json::json!(1)),
        ("files_changed", serde_json::json!(0)),
        ("files_unmodified", serde_json::json!(0)),
        ("total_files_processed", serde_json::json!(1)),
        ("total_bytes_processed", serde_json::json!(5)),
        ("dry_run", serde_json::json!(false)),
    ];
    for (name, value) in table {
        assert_eq!(summary[name], value, "{name}");
    }
    assert_eq!(summary["snapshot_id"].as_str().unwrap().len(), 32);
    assert!(summary["receipt"].as_str().unwrap().starts_with("strongroom1:"));
    for name in ["data_added", "data_added_packed", "total_duration"] {
        assert!(summary[name].is_number(), "{name}");
    }
}

#[test]
fn a_dry_run_stores_nothing() {
    let bench = Bench::with_vault();
    bench.write("source/a", b"alpha");
    let before = tree(&bench.path("vault"));
    let run = bench.run(&["backup", "source", "--dry-run"]).ends(0);
    assert!(run.out.starts_with("files     1 new, 0 changed, 0 unchanged (5 B)\nwould add"), "{}", run.out);
    assert!(run.out.ends_with("nothing was stored: this was a dry run\n"), "{}", run.out);
    assert_eq!(tree(&bench.path("vault")), before);
}

#[test]
fn a_snapshot_that_would_say_nothing_new_is_skipped_if_that_is_wanted() {
    let bench = Bench::with_vault();
    bench.write("source/a", b"alpha");
    let args = ["backup", "source", "--skip-if-unchanged"];
    let first = bench.run(&args).ends(0);
    assert!(first.out.ends_with("snapshot  ID\nreceipt   RECEIPT\n"), "{}", first.out);
    let snapshots = || bench.keyed(&["snapshots", "--json"]).ends(0).json();
    let id = snapshots()[0]["id"].clone();
    // What else changes in the folders above is not what is backed up.
    bench.write("beside", b"x");
    let run = bench.run(&args).ends(0).complains("");
    assert_eq!(
        steady(&run.out),
        "files     0 new, 0 changed, 1 unchanged (5 B)\nadded\ntook\nnothing changed: snapshot ID stands, and none \
         was added\n"
    );
    let run = bench.run(&["backup", "source", "--skip-if-unchanged", "--force", "--json"]).ends(0);
    let summary = run.json().pop().unwrap();
    assert_eq!(summary["unchanged_snapshot_id"], id);
    assert!(summary["snapshot_id"].is_null() && summary["receipt"].is_null(), "{summary}");
    assert_eq!(snapshots().len(), 1);
    // It is said of these paths alone, and only while it is wanted.
    bench.write("source/b", b"beta");
    bench.run(&args).ends(0);
    bench.run(&["backup", "source/a", "--skip-if-unchanged"]).ends(0);
    let run = bench.run(&["backup", "source", "--json"]).ends(0);
    assert!(run.json().pop().unwrap()["unchanged_snapshot_id"].is_null());
    assert_eq!(snapshots().len(), 4);
    // A stream's time is always new; its content counts.
    let stream = ["backup", "--stdin", "--skip-if-unchanged"];
    bench.run_with(&stream, &[], b"same").ends(0);
    let run = bench.run_with(&stream, &[], b"same").ends(0);
    assert!(run.out.contains("nothing changed: "), "{}", run.out);
    bench.run_with(&stream, &[], b"other").ends(0);
    assert_eq!(snapshots().len(), 6);
}

#[test]
fn a_snapshot_that_lost_something_does_not_stand_for_what_is_unchanged() {
    for number in 0..4 {
        let bench = Bench::with_vault();
        bench.write("source/a", &[7; 10_000]);
        bench.run(&["backup", "source"]).ends(0);
        let objects = tree(&bench.path("vault/p"));
        assert_eq!(objects.len(), 4, "data, trees, an index and a body");
        std::fs::remove_file(bench.path("vault/p").join(&objects[number].0)).unwrap();
        let again = || bench.run(&["backup", "source", "--skip-if-unchanged", "--json"]).ends(0).json();
        assert!(again().pop().unwrap()["snapshot_id"].is_string(), "object {number}");
        assert!(again().pop().unwrap()["unchanged_snapshot_id"].is_string());
    }
}

#[test]
fn a_paranoid_backup_is_one_like_any_other() {
    let bench = Bench::with_vault();
    bench.write("source/a", &[7; 300_000]);
    bench.run(&["backup", "source", "--paranoid"]).ends(0).complains("");
    bench.keyed(&["verify", "--read-all"]).ends(0);
}

#[test]
fn what_is_excluded_is_not_there() {
    let bench = Bench::with_vault();
    for name in
        ["keep.txt", "drop.tmp", "SHOUT.TMP", "cache/CACHEDIR.TAG", "cache/x", "marked/.nobackup", "marked/y"]
    {
        bench.write(&format!("source/{name}"), b"Signature: 8a477f597d28d172789f06886806bc55");
    }
    bench.write("source/large", &[0; 5_000]);
    bench.write("patterns", b"# nothing\n/nowhere\n");
    let args = [
        "backup",
        "source",
        "--iexclude",
        "*.tmp",
        "--exclude-caches",
        "--exclude-if-present",
        ".nobackup",
        "--exclude-larger-than",
        "4K",
        "--exclude-file",
        "patterns",
    ];
    bench.run(&args).ends(0);
    let listed = bench.keyed(&["ls", "-R", "latest", &bench.inner("source"), "-q"]).ends(0);
    assert_eq!(
        listed.out,
        "DIR/source/cache\nDIR/source/cache/CACHEDIR.TAG\nDIR/source/keep.txt\nDIR/source/marked\n\
         DIR/source/marked/.nobackup\n"
    );
    let run = bench.run(&["backup", "source", "--exclude", "a/../b"]).ends(2);
    assert!(run.err.contains("is no pattern"), "{}", run.err);
}

#[test]
fn paths_come_from_files_as_they_stand_there() {
    let bench = Bench::with_vault();
    for name in ["a", "b c", "*"] {
        bench.write(&format!("source/{name}"), b"x");
    }
    bench.write("lines", b"source/a\nsource/*\n");
    bench.run(&["backup", "--files-from", "lines", "--files-from-raw", "zeros"]).ends(1);
    bench.write("zeros", b"source/b c\0");
    bench.run(&["backup", "--files-from", "lines", "--files-from-raw", "zeros"]).ends(0);
    let listed = bench.keyed(&["ls", "latest", &bench.inner("source"), "-q"]).ends(0);
    assert_eq!(listed.out, "DIR/source/*\nDIR/source/a\nDIR/source/b c\n");
    let run = bench.run_with(&["backup", "--files-from", "-"], &[], b"source/a\n").ends(0);
    assert!(run.out.starts_with("files     1 new"), "{}", run.out);
}

#[test]
fn standard_input_and_the_output_of_a_command_become_a_file() {
    let bench = Bench::with_vault();
    bench.run_with(&["backup", "--stdin", "--stdin-filename", "in.txt"], &[], b"typed").ends(0);
    bench.keyed(&["dump", "latest", "in.txt", "-q"]).ends(0).says("typed");
    let args =
        ["backup", "--stdin-filename", "db/dump.sql", "--stdin-from-command", "--", "printf", "%s", "rows"];
    bench.run(&args).ends(0);
    bench.keyed(&["dump", "latest:db/dump.sql", "-q"]).ends(0).says("rows");
}

#[test]
fn a_command_that_fails_leaves_no_snapshot() {
    let bench = Bench::with_vault();
    let args = ["backup", "--stdin-from-command", "--", "sh", "-c", "printf half; exit 3"];
    bench.run(&args).ends(1).says("").complains(
        "error: what was to be backed up could not be read to its end: the command sh failed: exit status: 3\n  hint: \
         a command that fails leaves no snapshot: the vault is as it was\n",
    );
    assert!(bench.keyed(&["snapshots", "--json"]).ends(0).json().is_empty());
    let run = bench.run(&["backup", "--stdin-from-command", "--", "./no-such-command"]).ends(1);
    assert!(
        run.err.starts_with("error: the command ./no-such-command could not be started: "),
        "{}",
        run.err
    );
}

#[test]
fn what_nobody_can_read_is_named_and_all_else_is_stored() {
    let bench = Bench::with_vault();
    bench.write("source/open", b"x");
    // A process's memory begins with nothing: not even a superuser reads it from there.
    let run = bench.run(&["backup", "source", "/proc/self/mem"]).ends(3);
    assert!(run.out.contains("snapshot  ID\n"), "{}", run.out);
    assert!(run.err.contains("/mem could not be "), "{}", run.err);
    assert!(
        run.err.contains("error: 1 entry could not be read; the snapshot holds everything else\n"),
        "{}",
        run.err
    );
    bench.keyed(&["dump", "latest", &bench.inner("source/open"), "-q"]).ends(0).says("x");
}

#[test]
fn two_runs_of_one_device_do_not_add_at_once() {
    let bench = Bench::with_vault();
    bench.write("source/a", b"alpha");
    let state = bench.path("home/.local/state/strongroom");
    bench.run(&["backup", "source"]).ends(0);
    let locks: Vec<_> = tree(&state).into_iter().filter(|(path, _)| path.ends_with("lock")).collect();
    assert_eq!(locks.len(), 1);
    let held = std::fs::File::options().append(true).open(state.join(&locks[0].0)).unwrap();
    held.try_lock().unwrap();
    let before = tree(&bench.path("vault"));
    let run = bench.run(&["backup", "source"]).ends(11).says("");
    assert!(run.err.starts_with("error: another run of this device is at work (DIR/home/"), "{}", run.err);
    assert!(run.err.contains("/lock)\n  hint: wait until it is done"), "{}", run.err);
    assert_eq!(tree(&bench.path("vault")), before);
    drop(held);
    bench.run(&["backup", "source"]).ends(0);
}

#[test]
fn a_full_disk_is_said_and_leaves_older_snapshots_whole() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("vault")).unwrap();
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(12_000_000)
    .collect();
    bench.write("large", &noise);
    bench.write("small", b"small");
    // A small disk of our own, in a namespace of our own: it goes with the last process in it.
    let script = r#"
        mount -t tmpfs -o size=6m tmpfs vault || exit 99
        "$0" init --key-file key --recovery-code-out code >/dev/null || exit 1
        "$0" backup small >/dev/null || exit 2
        "$0" backup small large; echo "ended with $?"
        "$0" verify --read-all --key-file key >/dev/null; echo "verified with $?"
        "$0" dump latest "$PWD/small" --key-file key -q; echo
        rm large; echo more >large
        "$0" backup small large >/dev/null; echo "then $?"
    "#;
    let run = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_strongroom")])
        .current_dir(bench.path(""))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", bench.path("home"))
        .env("STRONGROOM_VAULT", bench.path("vault"))
        .output();
    let Ok(run) = run else {
        eprintln!("skipped: there is no unshare");
        return;
    };
    let (out, err) =
        (bench.normal(&String::from_utf8_lossy(&run.stdout)), String::from_utf8_lossy(&run.stderr));
    if out.is_empty() && !err.contains("strongroom") && [Some(99), Some(1)].contains(&run.status.code()) {
        eprintln!("skipped: no file system can be mounted here: {err}");
        return;
    }
    assert_eq!(out, "ended with 1\nverified with 0\nsmall\nthen 0\n", "{err}");
    assert!(err.contains("error: there is no room left for object p/"), "{err}");
    assert!(err.contains("hint: make room on the vault's disk"), "{err}");
}

#[test]
fn what_cannot_be_read_is_named_and_all_else_is_stored() {
    let bench = Bench::with_vault();
    bench.write("source/open", b"x");
    bench.write("source/shut", b"x");
    let shut = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(bench.path("source/shut"), shut).unwrap();
    if std::fs::File::open(bench.path("source/shut")).is_ok() {
        // A superuser reads everything.
        return;
    }
    let run = bench.run(&["backup", "source"]).ends(3);
    assert!(run.out.contains("snapshot  ID\n"), "{}", run.out);
    assert!(
        run.err.contains("error: 1 entry could not be read; the snapshot holds everything else\n"),
        "{}",
        run.err
    );
    bench.keyed(&["dump", "latest", &bench.inner("source/open"), "-q"]).ends(0).says("x");
}

#[test]
fn a_path_that_is_not_there_is_an_error_and_nothing_is_stored() {
    let bench = Bench::with_vault();
    let run = bench.run(&["backup", "nowhere"]).ends(1);
    assert!(run.err.starts_with("error: "), "{}", run.err);
    assert!(run.err.contains("nowhere could not be examined: No such file or directory"), "{}", run.err);
    bench.run(&["backup"]).ends(2).complains(
        "error: there is nothing to back up: no path was given\n  hint: `strongroom backup PATH..`, or --files-from, \
         --stdin or --stdin-from-command\n",
    );
    assert!(bench.keyed(&["snapshots", "--json"]).ends(0).json().is_empty());
}

#[test]
fn no_vault_is_made_unasked() {
    let bench = Bench::new();
    bench.write("x", b"x");
    let run = bench.run(&["backup", "x"]).ends(10);
    assert!(
        run.err.contains("  hint: is the drive attached? `--init` makes a new vault there"),
        "{}",
        run.err
    );
    let run = bench.run_with(&["backup", "x"], &[("STRONGROOM_VAULT", "")], b"y\n").ends(10);
    assert!(
        run.err.starts_with("error: there is no vault at DIR/home/.local/share/strongroom/vault\n"),
        "{}",
        run.err
    );
    assert!(!bench.path("vault").exists());
}

#[test]
fn init_comes_first_if_it_is_asked_for() {
    let bench = Bench::new();
    bench.write("x", b"x");
    let run =
        bench.run(&["backup", "x", "--init", "--key-file", "key", "--recovery-code-out", "code"]).ends(0);
    assert!(
        run.out.starts_with("vault        DIR/vault\n") && run.out.ends_with("receipt   RECEIPT\n"),
        "{}",
        run.out
    );
}

#[test]
fn a_first_run_offers_to_make_the_default_vault() {
    let bench = Bench::new();
    bench.write("x", b"x");
    let default = [("STRONGROOM_VAULT", "")];
    let mut terminal = bench.at_terminal(&["backup", "x"], &default);
    terminal.sees("There is no vault yet in ");
    terminal.sees("Make one now? [Y/n] ");
    terminal.types("n");
    let (text, exit) = terminal.ends();
    assert_eq!(exit, 10, "{text}");
    let args = ["backup", "x", "--key-file", "key", "--recovery-code-out", "code"];
    let mut terminal = bench.at_terminal(&args, &default);
    terminal.sees("Make one now? [Y/n] ");
    terminal.types("");
    let (text, exit) = terminal.ends();
    assert!(exit == 0 && text.contains("receipt   strongroom1:"), "{text}");
}

#[test]
fn a_machine_that_is_no_device_of_the_vault_adds_nothing() {
    let bench = Bench::with_vault();
    bench.write("x", b"x");
    let stranger = bench.path("stranger");
    std::fs::create_dir(&stranger).unwrap();
    let run = bench.run_with(&["backup", "x"], &[("HOME", stranger.to_str().unwrap())], b"").ends(26);
    assert!(
        run.err.starts_with("error: this machine is not enrolled as a device of vault ID\n"),
        "{}",
        run.err
    );
}

#[test]
fn names_that_would_move_a_cursor_are_escaped() {
    let bench = Bench::with_vault();
    std::fs::create_dir(bench.path("source")).unwrap();
    let name = OsStr::from_bytes(b"a\x1b[31m\nb\xff");
    std::fs::write(bench.path("source").join(name), b"x").unwrap();
    bench.run(&["backup", "source", "-vv"]).ends(0);
    let listed = bench.keyed(&["ls", "latest", &bench.inner("source"), "-q"]).ends(0);
    assert_eq!(listed.out, "DIR/source/a\\x1b[31m\\nb\\xff\n");
    let listed = bench.keyed(&["ls", "latest", &bench.inner("source"), "-q", "-0"]).ends(0);
    assert!(listed.raw.ends_with(b"/source/a\x1b[31m\nb\xff\0"));
    let messages = bench.keyed(&["ls", "latest", &bench.inner("source"), "--json"]).ends(0).json();
    assert!(messages[0]["path_base64"].is_string(), "{messages:?}");
}

#[test]
fn ctrl_c_ends_a_backup_and_leaves_the_vault_sound() {
    let bench = Bench::with_vault();
    let args = ["backup", "--stdin-from-command", "--", "sh", "-c", "while :; do echo more; done"];
    let mut terminal = bench.at_terminal(&args, &[]);
    terminal.sees("backing up");
    terminal.breaks();
    let (text, exit) = terminal.ends();
    assert_eq!(exit, 130, "{text}");
    assert!(text.contains("error: interrupted") && text.contains("hint: the vault is sound"), "{text}");
    assert!(bench.keyed(&["snapshots", "--json"]).ends(0).json().is_empty());
    bench.write("x", b"x");
    bench.run(&["backup", "x"]).ends(0);
}

#[test]
fn the_vault_and_the_state_of_this_machine_are_never_in_a_snapshot() {
    let bench = Bench::with_vault();
    bench.write("source/a", b"alpha");
    let run = bench.run(&["backup", "."]).ends(0);
    assert!(run.err.contains("kept empty in the snapshot"), "{}", run.err);
    let listed = bench.keyed(&["ls", "-R", "latest"]).ends(0);
    assert!(listed.out.contains("source/a"), "{}", listed.out);
    for secret in ["device.key", "README.txt"] {
        assert!(!listed.out.contains(secret), "{}", listed.out);
    }
}

#[test]
fn a_list_that_others_can_change_is_not_followed_and_how_to_mend_it_is_said() {
    let bench = Bench::with_vault();
    bench.write("source/a", b"a");
    bench.write("list", b"source\n");
    let chmod =
        |mode| std::fs::set_permissions(bench.path("list"), std::fs::Permissions::from_mode(mode)).unwrap();
    for option in ["--exclude-file", "--iexclude-file", "--files-from", "--files-from-raw"] {
        for mode in [0o664, 0o646] {
            chmod(mode);
            bench.run(&["backup", "source", option, "list"]).ends(26).complains(
                "error: list can be changed by other users\n  hint: take that right away: chmod go-w list\n",
            );
        }
    }
    chmod(0o644);
    bench.run(&["backup", "--files-from", "list"]).ends(0);
}

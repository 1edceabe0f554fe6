use crate::bench::Bench;

#[test]
fn help_and_version_are_results() {
    let bench = Bench::new();
    let version = format!("strongroom {}\n", env!("CARGO_PKG_VERSION"));
    bench.run(&["--version"]).ends(0).says(&version).complains("");
    let help = bench.run(&["help"]).ends(0);
    for word in ["init", "backup", "snapshots", "restore", "status", "Exit codes: 0 done"] {
        assert!(help.out.contains(word), "{word}");
    }
    assert!(bench.run(&["restore", "--help"]).ends(0).out.contains("--privileged"));
}

#[test]
fn no_command_is_wrong_use() {
    let run = Bench::new().run(&[]).ends(2).says("");
    assert!(run.err.contains("Usage: strongroom"));
}

#[test]
fn words_of_other_programs_get_a_hint() {
    let bench = Bench::new();
    let table = [
        ("passwd", "ways in are called slots here"),
        ("forget", "nothing is ever removed in this version"),
        ("prune", "nothing is ever removed in this version"),
        ("unlock", "nothing has to be unlocked"),
        ("mount", "`strongroom ls`, `find` and `dump`"),
    ];
    for (word, hint) in table {
        let run = bench.run(&[word]).ends(2);
        assert!(run.err.contains(&format!("unrecognized subcommand '{word}'")), "{}", run.err);
        assert!(run.err.contains("  hint: ") && run.err.contains(hint), "{}", run.err);
    }
    let run = bench.run(&["snapshots", "--password", "x"]).ends(2);
    assert!(run.err.contains("a passphrase never stands in the arguments"), "{}", run.err);
}

#[test]
fn wrong_use_is_json_too_if_that_is_wanted() {
    let run = Bench::new().run(&["forget", "--json"]).ends(2);
    let message: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(message["message_type"], "exit_error");
    assert_eq!(message["code"], 2);
}

#[test]
fn a_secret_in_the_environment_is_refused() {
    let bench = Bench::with_vault();
    for name in ["STRONGROOM_PASSWORD", "STRONGROOM_PASSPHRASE", "STRONGROOM_KEY", "STRONGROOM_RECOVERY_CODE"]
    {
        let run = bench.run_with(&["snapshots"], &[(name, "hunter2")], b"").ends(2).says("");
        assert!(run.err.starts_with(&format!("error: {name} is set")), "{}", run.err);
        assert!(!run.err.contains("hunter2"), "{}", run.err);
    }
}

#[test]
fn a_vault_that_is_not_there_is_said_with_its_place() {
    let bench = Bench::new();
    for command in [&["snapshots"][..], &["status"], &["restore", "latest", "--target", "out"]] {
        bench.run(command).ends(10).says("").complains(
            "error: there is no vault at DIR/vault\n  hint: give its place with `--vault` or STRONGROOM_VAULT; \
             `strongroom init` makes a new one\n",
        );
    }
    std::fs::create_dir(bench.path("vault")).unwrap();
    let run = bench.run(&["snapshots"]).ends(10);
    assert!(run.err.starts_with("error: there is no vault in DIR/vault\n"), "{}", run.err);
    let run = bench.run(&["--vault", "s3://bucket/x", "snapshots"]).ends(2);
    assert!(run.err.contains("this version keeps vaults in folders, not at s3\n"), "{}", run.err);
}

#[test]
fn repo_is_another_name_for_vault_and_file_another_form_of_a_path() {
    let bench = Bench::with_vault();
    let place = bench.inner("vault");
    let elsewhere = [("STRONGROOM_VAULT", ""), ("STRONGROOM_KEY_FILE", "key")];
    bench.run_with(&["--repo", &place, "snapshots"], &elsewhere, b"").ends(0);
    bench.run_with(&["snapshots", "-r", &format!("file:{place}")], &elsewhere, b"").ends(0);
}

#[test]
fn a_wrong_key_ends_with_12_and_changes_nothing() {
    let bench = Bench::with_snapshots();
    let other = Bench::with_vault();
    std::fs::copy(other.path("key"), bench.path("wrong")).unwrap();
    let before = crate::bench::tree(&bench.path("vault"));
    for command in [&["snapshots"][..], &["restore", "latest", "--target", "out"]] {
        let run = bench.run_with(command, &[("STRONGROOM_KEY_FILE", "wrong")], b"").ends(12).says("");
        assert!(
            run.err.starts_with("error: no slot of this vault opens with that key\n  hint: "),
            "{}",
            run.err
        );
    }
    assert!(!bench.path("out").exists());
    assert_eq!(crate::bench::tree(&bench.path("vault")), before);
}

#[test]
fn without_a_key_and_a_terminal_the_options_are_named() {
    let run = Bench::with_vault().run(&["snapshots"]).ends(2).says("");
    assert_eq!(
        run.err,
        "error: this vault opens with: key file, recovery code; none was given\n  hint: give --password-file, \
         --password-command, --password-fd, --key-file, --recovery-code-file, --card-file or --identity\n"
    );
}

#[test]
fn a_key_file_that_others_can_read_is_not_used() {
    let bench = Bench::with_vault();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(bench.path("key"), mode).unwrap();
    bench.keyed(&["snapshots"]).ends(26).complains(
        "error: key can be read or changed by other users\n  hint: take their rights away: chmod 600 key\n",
    );
}

#[test]
fn the_recovery_code_opens_the_vault() {
    let bench = Bench::with_snapshots();
    let run = bench.run(&["snapshots", "--recovery-code-file", "code", "--json"]).ends(0);
    assert_eq!(run.json().len(), 2);
}

#[test]
fn another_vault_at_a_known_place_is_noticed() {
    let bench = Bench::with_vault();
    std::fs::rename(bench.path("vault"), bench.path("away")).unwrap();
    let other = Bench::with_vault();
    std::fs::rename(other.path("vault"), bench.path("vault")).unwrap();
    let run = bench.keyed(&["snapshots"]).ends(21);
    assert!(
        run.err.starts_with("error: this is another vault: its fingerprint is FINGERPRINT ("),
        "{}",
        run.err
    );
    bench.write("x", b"x");
    bench.run(&["backup", "x"]).ends(21);
}

#[test]
fn a_vault_put_back_to_an_older_state_is_noticed() {
    let bench = Bench::with_vault();
    bench.write("x", b"x");
    bench.run(&["backup", "x"]).ends(0);
    let copied =
        std::process::Command::new("cp").args(["-a", "vault", "old"]).current_dir(bench.path("")).status();
    assert!(copied.unwrap().success());
    bench.run(&["backup", "x"]).ends(0);
    std::fs::remove_dir_all(bench.path("vault")).unwrap();
    std::fs::rename(bench.path("old"), bench.path("vault")).unwrap();
    let run = bench.keyed(&["snapshots"]).ends(21);
    assert!(
        run.err
            .starts_with("error: the vault was rolled back: snapshot 2 of device ID was there and is gone\n")
    );
    bench.run(&["status"]).ends(21);
    bench.run(&["backup", "x"]).ends(21);
}

#[test]
fn a_fingerprint_that_does_not_fit_ends_it() {
    let bench = Bench::with_vault();
    let wrong = "ab".repeat(32);
    bench.keyed(&["snapshots", "--fingerprint", &wrong]).ends(21);
    bench.keyed(&["snapshots", "--fingerprint", "abc"]).ends(2);
}

#[test]
fn completions_and_manual_are_printed() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = bench.run(&["completions", shell]).ends(0);
        assert!(run.out.contains("strongroom") && run.out.contains("snapshots"), "{shell}");
    }
    assert!(bench.run(&["man"]).ends(0).out.contains(".TH strongroom 1"));
    bench.run(&["man", "--out", "pages"]).ends(0).says("").complains("the pages are in pages\n");
    assert!(bench.path("pages/strongroom.1").exists() && bench.path("pages/strongroom-restore.1").exists());
}

#[test]
fn a_reader_that_goes_away_ends_it_without_a_word() {
    let bench = Bench::with_snapshots();
    let program = env!("CARGO_BIN_EXE_strongroom");
    let script = format!("{program} ls -R latest -q; echo $? >code.txt");
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("({script}) 2>errors.txt | true; sleep 0; wait")])
        .current_dir(bench.path(""))
        .env("HOME", bench.path("home"))
        .env("STRONGROOM_VAULT", bench.path("vault"))
        .env("STRONGROOM_KEY_FILE", "key")
        .status();
    assert!(output.unwrap().success());
    assert_eq!(std::fs::read_to_string(bench.path("errors.txt")).unwrap(), "");
    assert_eq!(std::fs::read_to_string(bench.path("code.txt")).unwrap(), "0\n");
}

#[test]
fn without_a_home_the_variables_are_named() {
    let bench = Bench::new();
    let run = bench.run_with(&["snapshots"], &[("HOME", ""), ("STRONGROOM_VAULT", "")], b"").ends(2);
    assert_eq!(
        run.err,
        "error: neither XDG_DATA_HOME nor HOME names a folder\n  hint: services often have no HOME: set it, or \
         XDG_STATE_HOME and XDG_DATA_HOME\n"
    );
}

#[test]
fn ctrl_c_at_a_prompt_ends_it() {
    let bench = Bench::new();
    let mut terminal = bench.at_terminal(&["init"], &[]);
    terminal.sees("New passphrase: ");
    terminal.breaks();
    let (text, exit) = terminal.ends();
    assert_eq!(exit, 130, "{text}");
    assert!(!bench.path("vault").exists());
}

#[test]
fn variables_of_other_programs_are_pointed_out() {
    let bench = Bench::with_vault();
    let run = bench.run_with(&["snapshots"], &[("RESTIC_PASSWORD", "x")], b"").ends(2);
    assert!(run.err.contains("hint: RESTIC_PASSWORD is set, and strongroom doesn't read it"), "{}", run.err);
}

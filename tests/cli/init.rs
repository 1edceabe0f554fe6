use std::os::unix::fs::PermissionsExt as _;

use crate::bench::Bench;
use crate::bench::tree;

const MADE: &str = "vault        DIR/vault\nfingerprint  WORDS\n             FINGERPRINT\nways in      key file, recovery code\n\
    device       HOST (ID)\n\nKeep apart from this machine and from the vault:\n  - the recovery code, now in code: \
    move it away\n  - a copy of the new key file key\n  - the fingerprint, to know this vault again\n\nThis machine can \
    now add snapshots to the vault, and can't read them: strongroom backup PATH\n";

/// What the maker of a vault in a folder of his own is told.
const NOTE: &str = "note: this machine can delete and overwrite what the vault holds, and so can whoever takes it over: \
    `strongroom verify` shows it, nothing undoes it. Where the storage allows it, give the machine access that only adds\n";

/// Replaces the twelve words.
fn without_words(text: &str) -> String {
    text.lines()
        .map(|line| match line.strip_prefix("fingerprint  ") {
            Some(words) if words.split(' ').count() == 12 => "fingerprint  WORDS\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn a_vault_is_made_and_all_is_said() {
    let bench = Bench::new();
    let run =
        bench.run(&["init", "--key-file", "key", "--recovery-code-out", "code"]).ends(0).complains(NOTE);
    assert_eq!(without_words(&run.out), MADE);
    for file in ["key", "code"] {
        let mode = bench.path(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(bench.path("vault").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert!(bench.path("vault/README.txt").exists());
}

#[test]
fn programs_get_the_same() {
    let bench = Bench::new();
    let args = ["init", "--key-file", "key", "--recovery-code-out", "code", "--name", "desk", "--json"];
    let messages = bench.run(&args).ends(0).json();
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(message["message_type"], "initialized");
    assert_eq!(message["device_name"], "desk");
    assert_eq!(message["slots"], serde_json::json!(["key file", "recovery code"]));
    assert_eq!(message["key_file_created"], "key");
    assert_eq!(message["fingerprint_words"].as_str().unwrap().split(' ').count(), 12);
}

#[test]
fn an_existing_key_file_is_used_and_stays_as_it_is() {
    let bench = Bench::with_vault();
    let before = std::fs::read(bench.path("key")).unwrap();
    let second = bench.inner("second");
    let args = ["-r", &second, "init", "--key-file", "key", "--without-recovery-code"];
    let run = bench.run(&args).ends(0);
    assert_eq!(
        run.err,
        format!("warning: there is no recovery code: whoever loses the only way in loses everything\n{NOTE}")
    );
    assert!(run.out.contains("ways in      key file\n"), "{}", run.out);
    assert_eq!(std::fs::read(bench.path("key")).unwrap(), before);
    bench.keyed(&["-r", &second, "snapshots"]).ends(0);
}

#[test]
fn a_vault_is_never_made_over_anything() {
    let bench = Bench::with_vault();
    let before = tree(&bench.path("vault"));
    let args = ["init", "--key-file", "key", "--without-recovery-code"];
    bench.run(&args).ends(26).says("").complains(
        "error: there is a vault in DIR/vault already\n  hint: a vault is never made over another one: choose another \
         place\n",
    );
    assert_eq!(tree(&bench.path("vault")), before);
    bench.write("full/file", b"x");
    let full = bench.inner("full");
    let run = bench.run(&["-r", &full, "init", "--key-file", "new", "--without-recovery-code"]).ends(26);
    assert!(run.err.starts_with("error: DIR/full is not empty\n"), "{}", run.err);
    assert!(!bench.path("new").exists());
}

#[test]
fn a_recovery_code_is_never_written_over_a_file() {
    let bench = Bench::new();
    bench.write("code", b"mine");
    let args = ["init", "--key-file", "key", "--recovery-code-out", "code"];
    bench
        .run(&args)
        .ends(26)
        .complains("error: code exists already\n  hint: nothing is ever overwritten: name a new file\n");
    assert_eq!(std::fs::read(bench.path("code")).unwrap(), b"mine");
    assert!(!bench.path("vault").exists() && !bench.path("key").exists());
}

#[test]
fn without_a_terminal_everything_must_be_given() {
    let bench = Bench::new();
    bench.run(&["init", "--key-file", "key"]).ends(2).complains(
        "error: there is no terminal to show the recovery code at\n  hint: `--recovery-code-out FILE` writes it to a \
         file; `--without-recovery-code` makes none\n",
    );
    bench.run(&["init", "--without-recovery-code"]).ends(2).complains(
        "error: there has to be a way in, and there is no terminal to ask for a passphrase at\n  hint: give \
         --password-file, --password-command, --password-fd or --key-file\n",
    );
    assert!(!bench.path("vault").exists() && !bench.path("key").exists());
}

#[test]
fn a_weak_passphrase_is_refused() {
    let bench = Bench::new();
    let args = ["init", "--password-command", "echo password1", "--without-recovery-code"];
    let run = bench.run(&args).ends(26);
    assert!(run.err.starts_with("error: this passphrase is very weak: "), "{}", run.err);
    assert!(!bench.path("vault").exists());
}

#[test]
fn a_vault_with_a_passphrase_and_a_typed_back_code_is_made_and_opened_at_a_terminal() {
    let bench = Bench::new();
    let mut terminal = bench.at_terminal(&["init"], &[]);
    terminal.sees("New passphrase: ");
    terminal.types("password1");
    terminal.sees("This passphrase is very weak");
    terminal.sees("New passphrase: ");
    terminal.types("violet anchor tundra kettle");
    terminal.sees("The same again: ");
    terminal.types("violet anchor tundra kettle");
    terminal.sees("Your recovery code.");
    let shown = terminal.sees("Type it back from the paper: ");
    let code = shown.lines().map(str::trim).find(|line| line.matches('-').count() >= 5).unwrap().to_owned();
    assert!(!bench.path("vault").exists(), "the code is confirmed before anything is put");
    let other = if code.starts_with('7') { "8" } else { "7" };
    terminal.types(&code.replace(code.chars().next().unwrap(), other));
    terminal.sees("That is ");
    terminal.sees("Type it back from the paper: ");
    terminal.types(&code.to_lowercase().replace('-', " "));
    let (text, exit) = terminal.ends();
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("ways in      passphrase, recovery code"), "{text}");
    assert!(text.contains("  - the recovery code, on paper"), "{text}");

    bench.write("x", b"x");
    bench.run(&["backup", "x"]).ends(0);
    let mut terminal = bench.at_terminal(&["snapshots"], &[]);
    terminal.sees("Passphrase for the vault in ");
    terminal.types("violet anchor tundra kettle");
    let (text, exit) = terminal.ends();
    assert!(exit == 0 && text.contains("1 snapshot"), "{text}");
    assert!(!text.contains("violet"), "{text}");
    let command = ["snapshots", "--password-command", "echo violet anchor tundra kettl"];
    bench.run(&command).ends(12);
}

#[test]
fn a_code_that_is_not_typed_back_makes_no_vault() {
    let bench = Bench::new();
    let mut terminal = bench.at_terminal(&["init", "--key-file", "key"], &[]);
    for _ in 0..3 {
        terminal.sees("Type it back from the paper: ");
        terminal.types("no");
    }
    let (text, exit) = terminal.ends();
    assert!(exit == 1 && text.contains("error: the recovery code was not typed back"), "{text}");
    assert!(!bench.path("vault").exists() && !bench.path("key").exists());
}

#[test]
fn a_vault_is_not_made_where_this_machine_knows_another_one() {
    let bench = Bench::with_vault();
    bench.write("x", b"x");
    bench.run(&["backup", "x"]).ends(0);
    // A drive that isn't attached, one that is empty, and one where somebody began another vault.
    let init = ["init", "--key-file", "key", "--without-recovery-code"];
    let backup = ["backup", "x", "--init", "--key-file", "key", "--without-recovery-code"];
    let begun = |bench: &Bench| {
        bench.write("vault/README.txt", &std::fs::read(bench.path("away/README.txt")).unwrap())
    };
    let empty = |bench: &Bench| std::fs::create_dir(bench.path("vault")).unwrap();
    let absent = |_: &Bench| ();
    let places: [&dyn Fn(&Bench); 3] = [&absent, &empty, &begun];
    std::fs::rename(bench.path("vault"), bench.path("away")).unwrap();
    for place in places {
        let _ = std::fs::remove_dir_all(bench.path("vault"));
        place(&bench);
        let before = tree(&bench.path("vault"));
        for args in [&init[..], &backup] {
            let run = bench.run(args).ends(26).says("");
            assert!(
                run.err.starts_with("error: this machine knows a vault in DIR/vault, and it is not there: "),
                "{}",
                run.err
            );
            assert!(
                run.err.ends_with(
                    "\n  hint: is the right drive attached, and is the vault whole on it? If it is gone for good, or was \
                     moved, `--replace-known` makes a new one in its place\n"
                ),
                "{}",
                run.err
            );
            assert_eq!(tree(&bench.path("vault")), before);
        }
    }
    // However the place is reached.
    std::fs::remove_dir_all(bench.path("vault")).unwrap();
    std::os::unix::fs::symlink(bench.path(""), bench.path("link")).unwrap();
    bench.run(&[&["-r", "link/vault"], &init[..]].concat()).ends(26);

    bench.run(&[&init[..], &["--replace-known"]].concat()).ends(0);
    bench.run(&["backup", "x"]).ends(0);
    bench.keyed(&["snapshots"]).ends(0);
}

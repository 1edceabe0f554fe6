//! `slot`, `device`, `rotate`, `reencrypt`: people and machines that come and go.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bench::Bench;
use crate::bench::Run;
use crate::bench::set_mode;
use crate::incident;

/// With a vault, and a reader called anna whose key file is `anna.key`.
fn with_reader() -> Bench {
    let bench = Bench::with_snapshots();
    bench
        .keyed(&["slot", "add", "anna", "--new-key-file", "anna.key"])
        .ends(0)
        .says(
            "keep         the new key file anna.key\n\
             anna opens the vault by key file: all snapshots of all devices, and changes nothing\n",
        )
        .complains("");
    bench
}

fn by(bench: &Bench, key: &str, args: &[&str]) -> crate::bench::Run {
    bench.run_with(args, &[("STRONGROOM_KEY_FILE", key)], b"")
}

#[test]
fn slots_are_listed_with_their_names_to_owners_only() {
    let bench = with_reader();
    bench.keyed(&["slot", "list"]).ends(0).complains("").says(
        "ID  owner   owner                     key file  (opened now)\n\
         ID  owner   recovery code             recovery code\n\
         ID  reader  anna                      key file\n",
    );
    by(&bench, "anna.key", &["slot", "list"]).ends(0).says(
        "ID  owner   (named to owners only)    key file\n\
         ID  owner   (named to owners only)    recovery code\n\
         ID  reader  (named to owners only)    key file  (opened now)\n",
    );
    let slots = bench.keyed(&["key", "list", "--json"]).ends(0).json();
    assert_eq!(slots[2]["label"], "anna");
    assert_eq!(slots[2]["role"], "reader");
}

#[test]
fn a_reader_reads_and_changes_nothing() {
    let bench = with_reader();
    by(&bench, "anna.key", &["restore", "latest", "--target", "out"]).ends(0);
    by(&bench, "anna.key", &["slot", "test"]).ends(0).complains("");
    let refused = "error: that key may read and verify; this takes an owner's\n  \
                   hint: ask an owner, or use an owner's key\n";
    for args in [
        &["slot", "add", "eve", "--new-key-file", "eve.key"][..],
        &["slot", "remove", "owner"],
        &["slot", "passwd", "--new-key-file", "new.key"],
        &["device", "revoke", "HOST"],
        &["device", "add"],
        &["device", "reseed", "HOST"],
        &["rotate"],
        &["reencrypt"],
    ] {
        by(&bench, "anna.key", args).ends(26).complains(refused);
    }
    assert!(!bench.path("eve.key").exists() && !bench.path("new.key").exists());
}

#[test]
fn a_slot_that_was_taken_away_opens_nothing_and_the_command_says_what_is_left_to_do() {
    let bench = with_reader();
    bench.keyed(&["slot", "remove", "anna"]).ends(0).complains("").says(
        "anna no longer opens the vault\n\
         What anna could read until now stays readable to whoever has that key file and an old copy of the vault's \
         slot table,\n\
         and so does what is added from now on until the keys change: run `strongroom rotate --reencrypt`\n",
    );
    by(&bench, "anna.key", &["snapshots"]).ends(12);
    bench.keyed(&["slot", "remove", "anna"]).ends(1).complains(
        "error: nothing in this vault is called anna\n  \
         hint: `strongroom slot list` and `strongroom device list` show what there is\n",
    );
    bench.keyed(&["slot", "remove", "recovery code"]).ends(0);
    bench.keyed(&["slot", "remove", "owner"]).ends(26).complains(
        "error: the vault would be left without an owner\n  \
         hint: add another owner's slot first: `strongroom slot add`\n",
    );
}

#[test]
fn a_slot_gets_another_secret_and_the_old_one_opens_nothing() {
    let bench = with_reader();
    let run = bench.keyed(&["slot", "passwd", "--new-key-file", "new.key"]).ends(0).complains("");
    assert!(run.out.contains("owner opens the vault by the new key file only\n"), "{}", run.out);
    bench.keyed(&["snapshots"]).ends(12);
    by(&bench, "new.key", &["slot", "passwd", "anna", "--recovery-code-out", "anna.code"]).ends(0);
    by(&bench, "anna.key", &["snapshots"]).ends(12);
    bench.run(&["slot", "test", "--recovery-code-file", "anna.code"]).ends(0);
    by(&bench, "new.key", &["slot", "test"])
        .ends(0)
        .says("this key file opens slot owner as owner\n")
        .complains("");
}

#[test]
fn names_files_and_kinds_are_checked_before_anything_changes() {
    let bench = with_reader();
    let before = bench.but_for_the_log();
    for (args, code, error) in [
        (
            &["slot", "add", "anna", "--new-key-file", "second.key"][..],
            26,
            "error: anna is the name of another one already\n  hint: choose another name\n",
        ),
        (
            &["slot", "add", "bob", "--recovery-code-out", "code"],
            26,
            "error: code exists already, and a secret is never written over a file\n  \
             hint: name a file that isn't there yet\n",
        ),
        (
            &["slot", "add", "bob", "--new-key-file", "x", "--recovery-code-out", "y"],
            2,
            "error: one slot has one way in\n  \
             hint: a passphrase and a key file together are one; add the others as slots of their own\n",
        ),
        (
            &["slot", "add", "bob"],
            2,
            "error: nothing says what the new way in is, and nobody can be asked\n  \
             hint: give --new-password-file, --new-key-file, --recovery-code-out, --cards or --recipient\n",
        ),
    ] {
        bench.keyed(args).ends(code).complains(error);
    }
    let nonsense = format!("age1pq1{}", "nonsense".repeat(200));
    let run = bench.keyed(&["slot", "add", "bob", "--recipient", &nonsense]).ends(2);
    assert!(run.err.starts_with("error: age1pq1nonsensenonsensen...: "), "{}", run.err);
    bench.keyed(&["slot", "add", "bob", "--cards", "1/3", "--cards-out", "cards"]).ends(2);
    bench.write_secret("weak", b"password1\n");
    bench.keyed(&["slot", "add", "bob", "--new-password-file", "weak"]).ends(26);
    for absent in ["second.key", "x", "y", "cards"] {
        assert!(!bench.path(absent).exists(), "{absent}");
    }
    assert!(bench.but_for_the_log() == before);
}

#[test]
fn enough_cards_of_one_set_open_the_vault_and_fewer_say_so() {
    let bench = Bench::with_snapshots();
    bench
        .keyed(&["slot", "add", "board", "--role", "owner", "--cards", "2/3", "--cards-out", "cards"])
        .ends(0);
    bench.keyed(&["slot", "add", "others", "--cards", "2/2", "--cards-out", "others"]).ends(0);
    let folder = fs::metadata(bench.path("cards")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&folder) & 0o777, 0o700);
    let card = |number: u8| format!("cards/card-{number}-of-3.txt");
    let (one, two, three) = (card(1), card(2), card(3));
    for pair in [[&one, &two], [&two, &three], [&three, &one]] {
        let args = ["slot", "test", "--card-file", pair[0], "--card-file", pair[1]];
        bench.run(&args).ends(0).says("these cards open slot board as owner\n");
    }
    bench.run(&["slot", "test", "--card-file", &one]).ends(12).complains(
        "error: it takes 2 cards; given: 1\n  hint: give enough cards of one set, each with --card-file\n",
    );
    let run =
        bench.run(&["slot", "test", "--card-file", &one, "--card-file", "others/card-1-of-2.txt"]).ends(12);
    assert!(run.err.starts_with("error: the cards are of different sets: "), "{}", run.err);
    let run = bench.run(&["slot", "test", "--card-file", &one, "--card-file", &one]).ends(2);
    assert!(run.err.starts_with("error: card 1 is there twice\n"), "{}", run.err);
    let page = fs::read_to_string(bench.path(&one)).unwrap();
    let wrong = page.replacen("STRONGROOM-CARD-1:2", "STRONGROOM-CARD-1:3", 1);
    assert!(wrong != page);
    bench.write_secret("wrong", wrong.as_bytes());
    let run = bench.run(&["slot", "test", "--card-file", "wrong", "--card-file", &two]).ends(2);
    assert!(run.err.contains("\n  hint: compare it with the paper letter by letter, "), "{}", run.err);
    assert!(bench.path("cards/card-1-of-3.svg").exists());
}

#[test]
fn an_outside_recipient_says_at_first_that_it_is_the_right_vault() {
    use strongroom::crypto::kem::KemSecretKey;
    use strongroom::crypto::recipient;
    let bench = Bench::with_snapshots();
    let key = KemSecretKey::generate();
    let recipient = recipient::encode_recipient(&key.public());
    bench
        .write_secret("identity", format!("# a comment\n{}\n", *recipient::encode_identity(&key)).as_bytes());
    bench.keyed(&["slot", "add", "auditor", "--recipient", &recipient]).ends(0).says(
        "auditor opens the vault by outside recipient: all snapshots of all devices, and changes nothing\n",
    );
    let stranger = bench.path("stranger");
    fs::create_dir(&stranger).unwrap();
    let home = [("HOME", stranger.to_str().unwrap())];
    let run = bench.run_with(&["snapshots", "-i", "identity"], &home, b"").ends(26);
    assert!(run.err.contains("hint: give --fingerprint"), "{}", run.err);
    let fingerprint = fingerprint(&bench);
    let args = ["snapshots", "--identity", "identity", "--fingerprint", &fingerprint];
    bench.run_with(&args, &home, b"").ends(0);
    // From then on the machine knows.
    bench.run_with(&["snapshots", "-i", "identity"], &home, b"").ends(0);
    bench.run_with(&["slot", "list", "-i", "identity"], &home, b"").ends(0);
}

/// A file of `tests/vectors/age-passphrase.txt`, what is in it if it opens, written to `name` for this user alone.
fn write_encrypted(bench: &Bench, case: &str, name: &str) -> Option<Vec<u8>> {
    let vectors = include_str!("../vectors/age-passphrase.txt");
    let (_, case) = vectors.split_once(&format!("case = {case}\n")).unwrap();
    let bytes = |field: &str| {
        let line = case.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix(field));
        line.map(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap())
    };
    bench.write_secret(name, &bytes("file = ").unwrap());
    bytes("plaintext = ")
}

#[test]
fn an_identity_that_age_encrypted_opens_by_the_passphrase_that_is_asked_for() {
    use strongroom::crypto::recipient;
    let bench = Bench::with_snapshots();
    let plain = write_encrypted(&bench, "age 1.1.1, armored", "id.age").unwrap();
    let key = recipient::decode_identity_file(&plain).unwrap().pop().unwrap();
    let recipient = recipient::encode_recipient(&key.public());
    bench.keyed(&["slot", "add", "auditor", "--recipient", &recipient]).ends(0);

    let test = ["slot", "test", "-i", "id.age"];
    let answer = |passphrase: &str| {
        let mut terminal = bench.at_terminal(&test, &[]);
        terminal.sees("Passphrase for the identity file id.age: ");
        terminal.types(passphrase);
        terminal.ends()
    };
    let (said, code) = answer("correct horse battery staple");
    assert_eq!(bench.normal(said.trim()), "this recipient's key opens slot ID as reader");
    assert_eq!(code, 0);
    let (said, code) = answer("correct horse battery stable");
    assert!(said.contains("error: id.age: the passphrase does not open it\r\n"), "{said}");
    assert!(said.contains("hint: it is the one that `age -p` asked for, not one of a vault"), "{said}");
    assert_eq!(code, 12);
    // The vault's passphrase is another one, and nobody is asked where nobody is.
    bench.write_secret("password", b"correct horse battery staple\n");
    for args in [&test[..], &["slot", "test", "-i", "id.age", "--password-file", "password"]] {
        bench.run(args).ends(2).complains(
            "error: id.age is encrypted, and there is no terminal to ask for its passphrase at\n  \
             hint: decrypt it with `age -d`; a shell's `-i <(age -d FILE)` leaves no copy of it\n",
        );
    }
}

#[test]
fn an_encrypted_file_that_no_passphrase_opens_is_refused_before_any_is_asked_for() {
    let bench = Bench::with_vault();
    for (case, code, error) in [
        (
            "a work factor of 21",
            26,
            "to try a passphrase on it would take more than 2^20 steps of scrypt, the most allowed",
        ),
        ("CCTV hybrid", 2, "it is encrypted to somebody's key, not with a passphrase"),
        ("a version as long", 2, "it is encrypted in a later version of age's format"),
        ("cut off in the MAC", 2, "it is not a file as age encrypts it with a passphrase"),
    ] {
        write_encrypted(&bench, case, "id.age");
        let run = bench.run(&["slot", "test", "-i", "id.age"]).ends(code);
        assert!(run.err.starts_with(&format!("error: id.age: {error}\n  hint: ")), "{}", run.err);
    }
}

/// Has the `age-keygen` of this machine make a key in `file`, and returns its recipient; why not, if there is
/// none that makes hybrid keys.
fn age_keygen(file: &Path) -> Result<String, String> {
    let run = |args: &[&str]| {
        let output = Command::new("age-keygen").args(args).arg(file).output();
        let output = output.map_err(|error| format!("age-keygen: {error}"))?;
        let said = |text: &[u8]| String::from_utf8_lossy(text).trim().to_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    };
    run(&["-pq", "-o"])?;
    run(&["-y"])
}

#[test]
fn a_key_that_the_real_age_keygen_makes_is_a_way_in() {
    let bench = Bench::with_snapshots();
    let recipient = match age_keygen(&bench.path("id")) {
        Ok(recipient) => recipient,
        Err(reason) => return println!("skipped: no age-keygen that knows -pq: {reason}"),
    };
    bench.keyed(&["slot", "add", "auditor", "--recipient", &recipient]).ends(0);
    bench.run(&["slot", "test", "-i", "id"]).ends(0).says("this recipient's key opens slot ID as reader\n");
    bench.run(&["restore", "latest", "--target", "out", "-i", "id"]).ends(0);
}

/// What a machine is told that can change `what` behind strongroom's back.
fn note(can: &str, what: &str) -> String {
    format!(
        "note: this machine can {can} {what}, and so can whoever takes it over: `strongroom verify` shows it, nothing \
         undoes it. Where the storage allows it, give the machine access that only adds\n"
    )
}

#[test]
fn a_machine_that_joins_is_told_if_it_could_delete_and_overwrite() {
    let bench = Bench::with_snapshots();
    let fingerprint = fingerprint(&bench);
    let all = note("delete and overwrite", "what the vault holds");
    let home = |name: &str| {
        fs::create_dir(bench.path(name)).unwrap();
        bench.path(name).to_str().unwrap().to_owned()
    };
    let (laptop, desk) = (home("laptop"), home("desk"));
    let ask = ["device", "request", "--name", "laptop", "--fingerprint", &fingerprint];
    bench.run_with(&ask, &[("HOME", &laptop)], b"").ends(0).complains(&all);
    let asked = bench.run_with(&[&ask[..], &["--json"]].concat(), &[("HOME", &laptop)], b"").ends(0).json();
    assert_eq!((&asked[0]["can_remove"], &asked[0]["can_overwrite"]), (&true.into(), &true.into()));
    let environment = [("HOME", desk.as_str()), ("STRONGROOM_KEY_FILE", "key")];
    bench.run_with(&["device", "add", "--name", "desk"], &environment, b"").ends(0).complains(&all);
}

#[test]
fn another_user_is_told_what_modes_and_sticky_folders_let_him_do() {
    const USER: u32 = 54_321;
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can run the program as another user");
    }
    let bench = Bench::with_snapshots();
    let fingerprint = fingerprint(&bench);
    let modes = |folder: &str, folder_mode: u32, file_mode: u32| {
        let mut waiting = vec![bench.path(folder)];
        while let Some(path) = waiting.pop() {
            set_mode(&path, if path.is_dir() { folder_mode } else { file_mode });
            let below = fs::read_dir(&path).into_iter().flatten();
            waiting.extend(below.map(|entry| entry.unwrap().path()));
        }
    };
    modes("vault", 0o755, 0o644);
    // Others may ask to be taken in, and take away nothing but what is theirs.
    for folder in ["vault/q", "vault/2/q"] {
        fs::create_dir(bench.path(folder)).unwrap();
        set_mode(&bench.path(folder), 0o1777);
    }
    let ask = ["device", "request", "--fingerprint", &fingerprint];
    let held = "what the vault holds";
    for (folder_mode, file_mode, can, what) in [
        (0o755, 0o644, "delete and overwrite", "what it adds"),
        (0o1777, 0o644, "delete and overwrite", "what it adds"),
        (0o755, 0o666, "overwrite", held),
        (0o1777, 0o666, "overwrite", held),
        (0o777, 0o644, "delete and overwrite", held),
    ] {
        modes("vault/s", folder_mode, file_mode);
        bench.run_as(USER, "other", &ask).ends(0).complains(&note(can, what));
    }
}

/// The vault's fingerprint, as an owner would tell it.
fn fingerprint(bench: &Bench) -> String {
    bench.run(&["status", "--json"]).ends(0).json()[0]["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn a_machine_asks_an_owner_compares_and_its_next_backup_finds_its_keys() {
    let bench = Bench::with_snapshots();
    let laptop = bench.path("laptop");
    fs::create_dir(&laptop).unwrap();
    let home = [("HOME", laptop.to_str().unwrap())];
    let run = bench.run_with(&["device", "request"], &home, b"").ends(26);
    assert!(run.err.contains("nobody can be asked whether it is the right one"), "{}", run.err);
    let fingerprint = fingerprint(&bench);

    let ask = ["device", "request", "--name", "anna's laptop", "--fingerprint", &fingerprint, "--json"];
    let asked = bench.run_with(&ask, &home, b"").ends(0).json();
    let code = asked[0]["code"].as_str().unwrap().to_owned();
    // Asking again is the same request.
    assert_eq!(bench.run_with(&ask, &home, b"").ends(0).json()[0]["code"], code.as_str());
    let early = bench.run_with(&["backup", "source"], &home, b"").ends(26);
    assert!(
        early.err.starts_with("error: an owner has not approved this device yet (ID)\n"),
        "{}",
        early.err
    );

    let run = bench.keyed(&["device", "approve"]).ends(0);
    assert!(run.out.ends_with("  asks to be taken in\n") && !run.out.contains(&code), "{}", run.out);
    bench.keyed(&["device", "approve", "000000-000000-0000", "--name", "x"]).ends(1);
    bench.keyed(&["device", "approve", "12", "--name", "x"]).ends(2);
    bench.keyed(&["device", "approve", &code.to_lowercase(), "--name", "anna's laptop"]).ends(0).says(
        "device  anna's laptop (ID)\nIt finds its keys in the vault at its next `strongroom backup PATH`.\n",
    );
    bench.keyed(&["device", "approve", &code, "--name", "y"]).ends(1);
    bench.run_with(&["backup", "source"], &home, b"").ends(0);
    let listed = bench.keyed(&["device", "list"]).ends(0);
    assert!(listed.out.contains("ID  anna's laptop: snapshot 1 of DATE TIME, "), "{}", listed.out);
    assert!(listed.out.contains("          RECEIPT\n"), "{}", listed.out);

    bench.keyed(&["device", "revoke", "anna's laptop"]).ends(0).says(
        "anna's laptop is shut out; its snapshots up to number 1 stay and can be restored\n\
         It held no key that reads. Take away its access to the storage too, so that it can't delete: that is done \
         where the storage is kept\n",
    );
    let refused = bench.run_with(&["backup", "source"], &home, b"").ends(26);
    assert!(refused.err.starts_with("error: an owner revoked this device (ID)\n"), "{}", refused.err);
    assert!(bench.keyed(&["device", "list"]).ends(0).out.contains("anna's laptop (revoked)"));
    bench.keyed(&["snapshots"]).ends(0);
}

#[test]
fn a_machine_that_asked_to_join_follows_the_log_that_it_saw_then() {
    let bench = Bench::with_snapshots();
    let fingerprint = fingerprint(&bench);
    fs::create_dir(bench.path("laptop")).unwrap();
    let home = [("HOME", bench.path("laptop").to_str().unwrap().to_owned())];
    let home = home.each_ref().map(|(name, value)| (*name, value.as_str()));
    let copy = |from: &str, to: &str| {
        let _ = fs::remove_dir_all(bench.path(to));
        let (from, to) = (bench.path(from), bench.path(to));
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    let add = |label: &str| {
        let file = format!("{label}.key");
        bench.keyed(&["slot", "add", label, "--new-key-file", &file]).ends(0);
    };
    // The log as it was before anna came, with anna in it, and one that has bob in her place.
    copy("vault", "older");
    add("anna");
    copy("vault", "newer");
    let ask = ["device", "request", "--fingerprint", &fingerprint];
    bench.run_with(&ask, &home, b"").ends(0);

    let refuses = |error: &str| {
        for args in [&["backup", "source"][..], &["device", "request"], &ask] {
            let run = bench.run_with(args, &home, b"").ends(21);
            assert!(run.err.starts_with(&format!("error: {error}")), "{args:?}: {}", run.err);
        }
    };
    copy("older", "vault");
    refuses("the vault was rolled back: its log ends at record 2, this machine has seen record 3");
    let second = bench.path("second");
    fs::create_dir(&second).unwrap();
    let owner = [("HOME", second.to_str().unwrap()), ("STRONGROOM_KEY_FILE", "key")];
    bench.run_with(&["slot", "add", "bob", "--new-key-file", "bob.key"], &owner, b"").ends(0);
    refuses("the vault's history was forked: record 3 of its log is not the one that this machine has seen");
    copy("newer", "vault");
    let early = bench.run_with(&["backup", "source"], &home, b"").ends(26);
    assert!(
        early.err.starts_with("error: an owner has not approved this device yet (ID)\n"),
        "{}",
        early.err
    );
}

#[test]
fn a_machine_that_joins_with_a_receipt_refuses_an_older_vault_before_it_pins_anything() {
    let bench = Bench::with_vault();
    let fingerprint = fingerprint(&bench);
    bench.write("source/a", b"a");
    let backup = |place: &str| {
        let args = ["-r", &bench.inner(place), "backup", "source", "--json"];
        let summary = bench.run(&args).ends(0).json().pop().unwrap();
        summary["receipt"].as_str().unwrap().to_owned()
    };
    let first = backup("vault");
    let copied = Command::new("cp").arg("-a").args([bench.path("vault"), bench.path("older")]).status();
    assert!(copied.unwrap().success());
    bench.write("source/b", b"b");
    let second = backup("vault");
    let other = ["-r", &bench.inner("other"), "init", "--key-file", "key", "--without-recovery-code"];
    bench.run(&other).ends(0);
    let foreign = backup("other");

    fs::create_dir(bench.path("laptop")).unwrap();
    let laptop = bench.path("laptop");
    let ask = |place: &str, receipts: &[&str]| {
        let place = bench.inner(place);
        let mut args = vec!["-r", &place, "device", "request", "--fingerprint", &fingerprint];
        args.extend(receipts.iter().flat_map(|receipt| ["--expect", receipt]));
        bench.run_with(&args, &[("HOME", laptop.to_str().unwrap())], b"")
    };
    let run = ask("older", &[&first, &second]).ends(21).says("");
    let error =
        "error: the vault was rolled back: snapshot 2 of device ID, which the receipt names, is gone\n";
    assert!(run.err.starts_with(error), "{}", run.err);
    ask("vault", &[&foreign]).ends(21).complains(
        "error: the receipt was given by another vault\n  \
         hint: look whether `--vault` names the right place, and whether the receipt is this vault's\n",
    );
    assert!(ask("vault", &["strongroom1:nonsense"]).ends(2).err.contains("this is no receipt"));
    // Nothing was remembered and nobody asked to be taken in.
    assert_eq!(crate::bench::tree(&laptop), []);
    assert!(!bench.path("older/q").exists() && !bench.path("vault/q").exists());
    ask("vault", &[&first, &second]).ends(0);
    assert!(bench.path("vault/q").exists());
}

#[test]
fn a_machine_set_back_to_an_older_state_stops_until_an_owner_says_where_it_was() {
    let bench = Bench::with_snapshots();
    let name = bench.keyed(&["device", "list", "--json"]).ends(0).json()[0]["name"].clone();
    let name = name.as_str().unwrap();
    let (state, kept) = (bench.path("home/.local/state/strongroom"), bench.path("kept"));
    let copied = std::process::Command::new("cp").arg("-a").args([&state, &kept]).status();
    assert!(copied.unwrap().success());
    bench.write("source/d.bin", &[9; 100_000]);
    bench.run(&["backup", "source"]).ends(0);
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&kept, &state).unwrap();
    bench.run(&["backup", "source"]).ends(21).complains(
        "error: snapshot 3 of device ID in the vault is not this machine's doing\n  \
         hint: if this machine was set back to an older state of itself, an owner's `strongroom device reseed NAME` \
         lets it go on; if its state was copied and a second machine adds snapshots as this one, an owner ends it with \
         `strongroom device revoke NAME --last N`, N its last good snapshot, and each machine is enrolled anew\n",
    );
    let told = bench.keyed(&["device", "reseed", name, "--json"]).ends(0).json().pop().unwrap();
    assert_eq!(told["message_type"], "device_reseeded");
    for (field, number) in [("jobs", 1), ("chunks_left_out", 0), ("damaged", 0), ("last", 3)] {
        assert_eq!(told[field], number, "{field}");
    }
    let chunks = told["chunks"].as_u64().unwrap();
    bench.keyed(&["device", "reseed", name]).ends(0).complains("").says(&format!(
        "Sealed to HOST: the ids of {chunks} chunks of 1 job, those of the newest snapshot of each and no more\n\
         HOST goes on where its newest snapshot (number 3) is, at its next backup\n"
    ));
    let backup = bench.run(&["backup", "source", "--json"]).ends(0).json().pop().unwrap();
    assert!(backup["data_added"].as_u64().unwrap() < 5_000, "{backup}");
    bench.keyed(&["verify", "--read-all"]).ends(0);
    bench.keyed(&["device", "reseed", "nobody"]).ends(1);
}

/// Runs one command in the vault and one in a copy of it, each by an owner on a machine of his own, and then
/// lets both their records stand in the vault. What runs a command as an owner elsewhere.
fn fork(bench: &Bench, here: &[&str], there: &[&str]) -> impl Fn(&str, &[&str]) -> Run {
    let by = |home: &str, args: &[&str]| {
        fs::create_dir_all(bench.path(home)).unwrap();
        let home = bench.path(home).to_str().unwrap().to_owned();
        bench.run_with(args, &[("HOME", &home), ("STRONGROOM_KEY_FILE", "key")], b"")
    };
    let (vault, copy) = (bench.path("vault"), bench.path("copy"));
    let copied = std::process::Command::new("cp").arg("-a").args([&vault, &copy]).status();
    assert!(copied.unwrap().success());
    bench.keyed(here).ends(0);
    by("second", &[&["--vault", copy.to_str().unwrap()], there].concat()).ends(0);
    for (name, bytes) in crate::bench::tree(&copy) {
        if !vault.join(&name).exists() {
            bench.write(vault.join(&name).to_str().unwrap(), &bytes);
        }
    }
    by
}

const ANNA: [&str; 5] = ["slot", "add", "anna", "--new-key-file", "anna.key"];

#[test]
fn where_two_owners_were_cut_off_as_they_met_all_stop_until_one_of_them_settles_it() {
    let bench = Bench::with_snapshots();
    let by = fork(&bench, &ANNA, &["slot", "add", "bob", "--new-key-file", "bob.key"]);
    let stop = "error: the vault's history was forked: two records stand at place 3, the last of its log\n  \
                hint: two owners' commands were cut off as they met: any command that takes an owner's key and changes \
                something, such as `strongroom rotate`, lets one of them stand with `--settle-fork`\n";
    by("third", &["verify", "--public"]).ends(21).complains(stop);
    by("third", &["snapshots"]).ends(21).complains(stop);
    by("third", &["rotate"]).ends(21).complains(stop);
    let settle = ["slot", "add", "carl", "--new-key-file", "carl.key", "--settle-fork"];
    let run = by("third", &settle).ends(0);
    let keys = "keys, generation 2, epoch 1 the newest, with the slot ";
    assert!(
        run.err.starts_with("warning: two owners' commands had been cut off as they met; `"),
        "{}",
        run.err
    );
    for name in ["anna", "bob"] {
        assert!(run.err.contains(&format!("{keys}{name} (")), "{}", run.err);
    }
    let slots = by("third", &["slot", "list"]).ends(0).out;
    assert!(slots.contains("carl") && (slots.contains("anna") != slots.contains("bob")), "{slots}");
    by("third", &["verify"]).ends(0);
}

#[test]
fn a_machine_that_has_seen_one_of_two_histories_keeps_it_and_removes_the_other() {
    let bench = Bench::with_snapshots();
    let by = fork(&bench, &ANNA, &["slot", "add", "bob", "--new-key-file", "bob.key"]);
    by("third", &["snapshots"]).ends(21);
    let backup = bench.run(&["backup", "source", "--json"]).ends(0).json().pop().unwrap();
    let receipt = backup["receipt"].as_str().unwrap();
    by("fourth", &["verify", "--public"]).ends(21);
    by("fourth", &["verify", "--public", "--expect", receipt]).ends(0);
    let run = bench.keyed(&["rotate"]).ends(21);
    assert!(run.err.contains("is not of the log that this machine knows"), "{}", run.err);
    let run = bench.keyed(&["rotate", "--settle-fork"]).ends(0);
    let removed = "warning: the vault's log was forked: what is not of the history that stands was removed: \
                   a/0000000000000003-";
    assert!(run.err.starts_with(removed), "{}", run.err);
    let slots = by("third", &["slot", "list"]).ends(0).out;
    assert!(slots.contains("anna") && !slots.contains("bob"), "{slots}");
    bench.keyed(&["verify"]).ends(0);
}

#[test]
fn of_two_records_one_of_which_changes_the_authority_a_person_says_which_stands() {
    let bench = Bench::with_snapshots();
    let by = fork(&bench, &["rotate"], &["slot", "add", "bob", "--new-key-file", "bob.key"]);
    let asked = by("third", &["rotate", "--settle-fork"]).ends(21).err;
    assert!(asked.contains("nothing says which is right: "), "{asked}");
    assert!(asked.contains("epoch 2 the newest, another key that owners sign with"), "{asked}");
    assert!(asked.contains("with the slot bob (reader, key file) that the other one lacks"), "{asked}");
    let digits = |of: &str| {
        let before = &asked[..asked.find(of).unwrap()];
        before[before.rfind(" keys").unwrap() - 12..][..12].to_owned()
    };
    by("third", &["rotate", "--settle-fork=00"]).ends(2);
    let wrong = by("third", &["rotate", "--settle-fork=0000000000000000"]).ends(21);
    assert!(wrong.err.contains("begins with 0000000000000000"), "{}", wrong.err);
    let choice = format!("--settle-fork={}", digits(", another key"));
    let settled = by("third", &["slot", "add", "carl", "--new-key-file", "carl.key", &choice]).ends(0);
    assert!(
        settled
            .err
            .contains("with the slot bob (reader, key file) that the other one lacks` counts for nothing"),
        "{}",
        settled.err
    );
    let slots = by("third", &["slot", "list"]).ends(0).out;
    assert!(slots.contains("carl") && !slots.contains("bob"), "{slots}");
    bench.keyed(&["verify"]).ends(0);
}

#[test]
fn rotation_asks_nobody_and_re_encryption_ends_the_older_keys() {
    let bench = with_reader();
    bench.keyed(&["rotate"]).ends(0).complains("").says(
        "Epoch 2 has begun: new keys for reading, for owners and for the authority, in 3 slots\n\
         1 device will seal under them from the next backup on; nobody has to do anything\n\
         What was in the vault before stays under the older keys until `strongroom reencrypt` is done\n",
    );
    by(&bench, "anna.key", &["restore", "latest", "--target", "one"]).ends(0);
    bench.run(&["slot", "test", "--recovery-code-file", "code"]).ends(0);
    bench.run(&["backup", "source"]).ends(0);

    let status = bench.run(&["status"]).ends(0);
    assert!(status.out.contains(" objects still under older keys, "), "{}", status.out);

    let run = bench.keyed(&["reencrypt", "--budget", "0s"]).ends(25);
    assert!(run.out.ends_with("still under older keys: run `strongroom reencrypt` again\n"), "{}", run.out);
    let run = bench.keyed(&["reencrypt"]).ends(0).complains("");
    let said = "No object that was here is readable with keys of epoch 1 or before; copies elsewhere are\n\
                This is stated and signed in DIR/home/.local/state/strongroom/";
    assert!(run.out.contains(said), "{}", run.out);
    let state = bench.path("home/.local/state/strongroom");
    let mut kept = crate::bench::tree(&state).into_iter();
    let (path, text) = kept.find(|(path, _)| path.ends_with("statement-epoch-1.txt")).unwrap();
    let path = state.join(path);
    let checked = bench.run(&["verify", "--statement", path.to_str().unwrap()]).ends(0).complains("");
    let stated =
        "This vault's authority stated on DATE TIME that no object in it is readable with keys of epoch 1";
    assert!(checked.out.starts_with(stated), "{}", checked.out);
    assert!(checked.out.ends_with(" objects that are here now is\n"), "{}", checked.out);
    bench.write("forged", String::from_utf8(text).unwrap().replace("epoch: 1", "epoch: 2").as_bytes());
    bench.run(&["verify", "--statement", "forged"]).ends(20).complains(
        "error: forged: this vault's authority didn't sign it\n  \
         hint: believe it only of the vault that it names, as its re-encryption wrote it\n",
    );
    assert!(!bench.run(&["status"]).ends(0).out.contains("older keys"));
    by(&bench, "anna.key", &["restore", "latest~1", "--target", "two"]).ends(0);
    bench.keyed(&["verify", "--read-all"]).ends(0);
    bench.run(&["backup", "source"]).ends(0);
    let again = bench.keyed(&["rotate", "--reencrypt", "--json"]).ends(0).json();
    assert_eq!(again[0]["epoch"], 3);
    let last = again.last().unwrap();
    assert_eq!((last["complete"].as_bool(), last["oldest_epoch"].as_u64()), (Some(true), Some(3)));
}

#[test]
fn nothing_is_stated_while_a_machine_may_add_under_older_keys_and_what_it_adds_is_told() {
    let bench = with_reader();
    let old = crate::bench::tree(&bench.path("vault/p")).remove(0);
    let run = bench.keyed(&["rotate", "--reencrypt"]).ends(0);
    assert!(
        run.err.starts_with("note: 1 device has not backed up since the keys changed (HOST): "),
        "{}",
        run.err
    );
    assert!(!run.out.contains("stated"), "{}", run.out);
    bench.run(&["backup", "source"]).ends(0);
    let message = bench.keyed(&["reencrypt", "--json"]).ends(0).json().remove(0);
    assert_eq!(message["devices_behind"], 0);
    let statement = message["statement"].as_str().unwrap();
    bench.run(&["verify", "--statement", statement]).ends(0);
    bench.keyed(&["reencrypt", "--statement", "stated.txt"]).ends(0);
    bench.run(&["verify", "--statement", "stated.txt"]).ends(0);
    bench.keyed(&["reencrypt", "--statement", "stated.txt"]).ends(26);

    // As a backup leaves it that ran beside the rotation; the digest in its name is right.
    bench.write(bench.path("vault/p").join(&old.0).to_str().unwrap(), &old.1);
    let run = bench.run(&["verify", "--statement", statement]).ends(25);
    assert!(run.err.starts_with("error: 1 object ("), "{}", run.err);
    assert!(run.err.contains("that keys of epoch 1 or before open: here now, "), "{}", run.err);
    let message = bench.run(&["verify", "--statement", statement, "--json"]).ends(25).json().remove(0);
    assert_eq!((&message["holds"], &message["objects_older"]), (&false.into(), &1.into()));
    bench.keyed(&["reencrypt"]).ends(0);
    bench.run(&["verify", "--statement", statement]).ends(0);
}

#[test]
fn a_change_that_fails_says_what_becomes_of_what_was_made_for_it() {
    let bench = Bench::with_vault();
    // Where a file is no slot table's second copy can be put.
    fs::rename(bench.path("vault/2/k"), bench.path("k")).unwrap();
    bench.write("vault/2/k", b"");
    let run = bench.keyed(&["slot", "add", "anna", "--new-key-file", "anna.key"]).ends(20);
    let hint = "\n  hint: nothing was changed, and what was made now opens nothing: delete anna.key; ";
    assert!(run.err.contains(hint), "{}", run.err);
    let run = bench.keyed(&["slot", "passwd", "recovery code", "--recovery-code-out", "new-code"]).ends(20);
    let hint =
        "\n  hint: the old one still opens the vault, and what was made now opens nothing: delete new-code; ";
    assert!(run.err.contains(hint), "{}", run.err);
    bench.run(&["slot", "test", "--recovery-code-file", "code"]).ends(0);
}

#[test]
fn who_takes_his_own_way_in_away_is_told_if_only_a_code_is_left() {
    let bench = Bench::with_vault();
    bench.keyed(&["slot", "add", "second", "--role", "owner", "--new-key-file", "second.key"]).ends(0);
    bench.keyed(&["slot", "remove", "second"]).ends(0).complains("");
    let run = bench.keyed(&["slot", "remove", "owner"]).ends(0);
    let said = "warning: nothing but a recovery code or cards opens the vault with an owner's powers now: ";
    assert!(run.err.starts_with(said), "{}", run.err);
}

#[test]
fn whose_secret_changes_is_said_before_a_new_one_is_asked_for() {
    let bench = Bench::with_vault();
    let mut terminal = bench.at_terminal(&["slot", "passwd"], &[("STRONGROOM_KEY_FILE", "key")]);
    terminal.sees("This gives owner, the slot that you opened, another secret.");
    terminal.breaks();
    let (_, exit) = terminal.ends();
    assert!(exit != 0);
    bench.keyed(&["slot", "test"]).ends(0);
}

#[test]
fn where_two_machines_have_one_state_what_came_before_is_there_and_the_cure_is_named() {
    let bench = Bench::with_snapshots();
    let listed = bench.keyed(&["snapshots", "--json"]).ends(0).json();
    let first = listed[0]["short_id"].as_str().unwrap().to_owned();
    let device = listed[0]["device"].as_str().unwrap().to_owned();
    incident::fork(&bench);
    let cure = "two machines have the same state, such as a copied disk or virtual machine, or somebody put back a \
                copy: an owner's `strongroom device revoke ID --last 2` keeps what came before, then each machine \
                is enrolled anew";
    let forked = "the vault's history was forked: device ID has two snapshots at place 3";
    let warning = format!(
        "warning: device ID (HOST): {forked}; none of its snapshots from number 3 on counts. What to do: {cure}\n"
    );

    let run = bench.keyed(&["snapshots"]).ends(21).complains(&warning);
    assert!(run.out.ends_with("2 snapshots\n"), "{}", run.out);
    let run = bench.keyed(&["restore", &first, "--target", "first"]).ends(0);
    assert!(run.err.contains(&warning), "{}", run.err);
    let run = bench.keyed(&["restore", "latest", "--target", "latest"]).ends(0);
    let unawares = "warning: the newest snapshot that counts is taken; newer ones may stand where the history is forked\n";
    assert!(run.err.contains(&warning) && run.err.contains(unawares), "{}", run.err);
    let run = bench.keyed(&["restore", "ffffffff", "--target", "none"]).ends(21);
    assert!(
        run.err
            .ends_with(&format!("error: there is no snapshot ID among those that count\n  hint: {cure}\n")),
        "{}",
        run.err
    );
    assert!(bench.keyed(&["find", "*", "--json"]).ends(21).out.contains("\"match\""));
    bench.keyed(&["stats"]).ends(21);

    let error = format!("error: {forked}\n  hint: {cure}\n");
    bench.run(&["backup", "source"]).ends(21).complains(&error);
    let run = bench.run(&["status"]).ends(21).complains(&error);
    assert!(run.out.contains(": 2 snapshots, the newest of DATE TIME, "), "{}", run.out);
    assert!(run.out.contains(", forked at number 3\n"), "{}", run.out);
    bench.keyed(&["rotate"]).ends(0);
    bench.keyed(&["reencrypt"]).ends(21).complains(&error);
    let run = bench.keyed(&["device", "list"]).ends(21).complains(&warning);
    assert!(run.out.contains("HOST (this machine): snapshot 2 of DATE TIME, "), "{}", run.out);
    let run = bench.keyed(&["verify"]).ends(21);
    assert!(run.err.contains(cure), "{}", run.err);
    bench.keyed(&["device", "revoke", &device]).ends(21).complains(&error);

    bench.keyed(&["device", "revoke", &device[..8], "--last", "2"]).ends(0);
    bench.keyed(&["snapshots"]).ends(0);
    bench.keyed(&["verify"]).ends(0);
}

#[test]
fn a_key_that_opens_a_slot_already_is_no_way_into_another_one() {
    let bench = with_reader();
    let before = bench.but_for_the_log();
    let hint = "hint: nothing was changed; give another key, as whoever holds this one would keep it when one slot goes\n";
    let twice = format!("error: this key opens slot anna already\n  {hint}");
    bench.keyed(&["slot", "add", "anna2", "--new-key-file", "anna.key"]).ends(26).complains(&twice);
    bench.keyed(&["slot", "passwd", "--new-key-file", "anna.key"]).ends(26).complains(&twice);
    assert!(bench.but_for_the_log() == before);
    let seed = strongroom::crypto::secret::Secret::<32>::generate();
    let key = strongroom::crypto::kem::KemSecretKey::from_seed(seed);
    let recipient = strongroom::crypto::recipient::encode_recipient(&key.public());
    bench.keyed(&["slot", "add", "ben", "--recipient", &recipient]).ends(0);
    let run = bench.keyed(&["slot", "add", "carl", "--recipient", &recipient]).ends(26);
    assert_eq!(run.err, format!("error: this recipient's key opens slot ben already\n  {hint}"));
}

#[test]
fn cards_of_another_set_are_told_from_no_cards() {
    let bench = Bench::with_vault();
    let two = |folder: &str| {
        let card = |number: u8| format!("{folder}/card-{number}-of-2.txt");
        bench.run(&["slot", "test", "--card-file", &card(1), "--card-file", &card(2)])
    };
    let deal = |command: &str, folder: &str| {
        bench.keyed(&["slot", command, "board", "--cards", "2/2", "--cards-out", folder]).ends(0)
    };
    deal("add", "old");
    two("old").ends(0);
    let run = deal("passwd", "new");
    assert!(run.out.contains("\nThe old cards still open old copies of the vault, "), "{}", run.out);
    let run = two("old").ends(12);
    let begin = "error: these cards are of set ";
    assert!(run.err.starts_with(begin) && run.err.contains("; this vault's are of set "), "{}", run.err);
    two("new").ends(0);
    bench.keyed(&["slot", "remove", "board"]).ends(0);
    let run = two("new").ends(12);
    assert!(run.err.starts_with("error: no slot of this vault takes that kind of key"), "{}", run.err);
}

#[test]
fn a_request_that_is_damaged_is_told_from_a_wrong_code() {
    let bench = Bench::with_vault();
    let home = bench.path("other");
    fs::create_dir_all(&home).unwrap();
    let environment = [("HOME", home.to_str().unwrap())];
    let fingerprint = fingerprint(&bench);
    let ask = || {
        let args = ["device", "request", "--name", "laptop", "--fingerprint", &fingerprint, "--json"];
        let json = bench.run_with(&args, &environment, b"").ends(0).json();
        json[0]["code"].as_str().unwrap().to_owned()
    };
    let code = ask();
    for folder in ["vault/q", "vault/2/q"] {
        for (file, bytes) in crate::bench::tree(&bench.path(folder)) {
            set_mode(&bench.path(folder).join(&file), 0o600);
            fs::write(bench.path(folder).join(&file), &bytes[1..]).unwrap();
        }
    }
    let approve = ["device", "approve", &code, "--name", "laptop"];
    let run = bench.keyed(&approve).ends(20);
    assert!(
        run.err.starts_with("error: no request that can be read has that code, and one can't be: object q/"),
        "{}",
        run.err
    );
    assert!(run.err.ends_with("\n  hint: run `strongroom device request` on that machine once more: it puts its request there anew\n"));
    assert_eq!(ask(), code);
    bench.keyed(&approve).ends(0);
}

#[test]
fn programs_are_told_what_is_left_of_an_old_secret_and_what_a_machine_may_do() {
    let bench = with_reader();
    let replaced =
        bench.keyed(&["slot", "passwd", "anna", "--new-key-file", "new.key", "--json"]).ends(0).json();
    let removed = bench.keyed(&["slot", "remove", "anna", "--json"]).ends(0).json();
    for message in [&replaced[0], &removed[0]] {
        assert_eq!(message["old_kind"], "key file");
        assert_eq!(
            message["old_still_opens"],
            serde_json::json!(["vault_copies", "added_until_keys_change"])
        );
        assert_eq!(message["ended_by"], "strongroom rotate --reencrypt");
    }
    let home = bench.path("other");
    fs::create_dir_all(&home).unwrap();
    let environment = [("HOME", home.to_str().unwrap()), ("STRONGROOM_KEY_FILE", "key")];
    let added =
        bench.run_with(&["device", "add", "--name", "laptop", "--json"], &environment, b"").ends(0).json();
    assert!(added[0]["can_remove"].is_boolean() && added[0]["can_overwrite"].is_boolean(), "{}", added[0]);
}

#[test]
fn a_key_that_opens_nothing_gets_the_hint_of_its_kind() {
    let bench = with_reader();
    bench.keyed(&["slot", "remove", "anna"]).ends(0);
    by(&bench, "anna.key", &["snapshots"]).ends(12).complains(
        "error: no slot of this vault opens with that key\n  \
         hint: this key file is for something else, or its slot was taken away or got another secret\n",
    );
    bench.keyed(&["slot", "passwd", "recovery code", "--recovery-code-out", "code2"]).ends(0);
    let run = bench.run(&["snapshots", "--recovery-code-file", "code"]).ends(12);
    assert!(
        run.err.contains("\n  hint: this code is for something else, or a new one took its place: "),
        "{}",
        run.err
    );

    let key = strongroom::crypto::kem::KemSecretKey::from_seed(
        strongroom::crypto::secret::Secret::<32>::generate(),
    );
    let recipient = strongroom::crypto::recipient::encode_recipient(&key.public());
    bench.keyed(&["slot", "add", "ben", "--recipient", &recipient]).ends(0);
    let other = strongroom::crypto::kem::KemSecretKey::from_seed(
        strongroom::crypto::secret::Secret::<32>::generate(),
    );
    bench.write_secret("id", strongroom::crypto::recipient::encode_identity(&other).as_bytes());
    let run = bench.run(&["snapshots", "-i", "id"]).ends(12);
    assert!(run.err.contains("\n  hint: no slot is sealed to this key: "), "{}", run.err);

    bench.run(&["snapshots", "-i", "key"]).ends(2).complains(
        "error: key is a key file that strongroom made, and no identity of age\n  hint: give it with `--key-file`\n",
    );
    bench.write_secret("old", b"AGE-SECRET-KEY-1QQQQ\n");
    let run = bench.run(&["snapshots", "-i", "old"]).ends(2);
    assert!(
        run.err.starts_with("error: old: line 1 can't be used: it is an identity of another kind: "),
        "{}",
        run.err
    );
    assert!(
        run.err.contains("\n  hint: slots are sealed to keys that `age-keygen -pq` makes"),
        "{}",
        run.err
    );
}

#[test]
fn nothing_of_a_secret_key_that_is_given_for_a_public_one_is_shown_or_kept() {
    let bench = Bench::with_vault();
    let key = strongroom::crypto::kem::KemSecretKey::from_seed(
        strongroom::crypto::secret::Secret::<32>::generate(),
    );
    let secret = strongroom::crypto::recipient::encode_identity(&key);
    let before = crate::bench::tree(&bench.path("vault"));
    bench.write("folder/a", b"a");
    let error = "error: this is a secret key: give its public one, which begins with age1pq1\n  \
                 hint: whoever could see the command has it now: make another one with `age-keygen -pq`, which prints its \
                 public key\n";
    for args in [
        &["slot", "add", "ben", "--recipient", &*secret][..],
        &["slot", "passwd", "--recipient", &*secret],
        &["seal", "folder", "--recipient", &*secret],
        &["seal", "folder", "--recipient", &format!("ben={}", &*secret)],
    ] {
        bench.keyed(args).ends(2).complains(error);
    }
    assert!(crate::bench::tree(&bench.path("vault")) == before);
}

#[test]
fn a_card_is_taken_without_its_prefix_and_with_blanks_for_hyphens() {
    let bench = Bench::with_vault();
    bench.keyed(&["slot", "add", "board", "--cards", "2/2", "--cards-out", "cards"]).ends(0);
    let page = |number: u8| fs::read_to_string(bench.path(&format!("cards/card-{number}-of-2.txt"))).unwrap();
    let line = |number: u8| {
        page(number).lines().find(|line| line.contains("STRONGROOM-CARD-1:")).unwrap().trim().to_owned()
    };
    bench.write_secret("one", line(1).replace("STRONGROOM-CARD-1:", "").as_bytes());
    bench.write_secret("two", line(2).replace('-', " ").to_lowercase().as_bytes());
    bench.run(&["slot", "test", "--card-file", "one", "--card-file", "two"]).ends(0);
    bench.write_secret("none", b"hello\n");
    let run = bench.run(&["slot", "test", "--card-file", "none"]).ends(2);
    assert!(
        run.err.contains("\n  hint: a card is one line that begins with STRONGROOM-CARD-1: "),
        "{}",
        run.err
    );
}

#[test]
fn a_machine_that_is_not_taken_in_is_told_how_it_is() {
    let bench = Bench::with_snapshots();
    let home = bench.path("other");
    fs::create_dir_all(&home).unwrap();
    let home = [("HOME", home.to_str().unwrap())];
    let run = bench.run_with(&["backup", "source"], &home, b"").ends(26);
    assert!(
        run.err.ends_with(
            "\n  hint: only an enrolled machine adds snapshots: `strongroom device request --name NAME` here asks an owner to \
             take this one in, and with an owner's key at hand `strongroom device add --name NAME` does it at once\n"
        ),
        "{}",
        run.err
    );
    let fingerprint = fingerprint(&bench);
    let asked = bench
        .run_with(&["device", "request", "--json", "--fingerprint", &fingerprint], &home, b"")
        .ends(0)
        .json();
    let code = asked[0]["code"].as_str().unwrap();
    let run = bench.run_with(&["backup", "source"], &home, b"").ends(26);
    assert!(run.err.contains(&format!("by `strongroom device approve {code} --name NAME`; ")), "{}", run.err);
}

#[test]
fn who_ends_a_chain_is_told_what_it_costs_and_that_it_is_for_good() {
    let bench = Bench::with_snapshots();
    let listed = bench.keyed(&["snapshots", "--json"]).ends(0).json();
    let device = listed[0]["device"].as_str().unwrap().to_owned();
    bench.run(&["backup", "source"]).ends(0);
    let revoke = |last: &str| bench.keyed(&["device", "revoke", &device, "--last", last]);
    let run = revoke("1").ends(0);
    let said = "HOST is shut out; its snapshots up to number 1 stay and can be restored; 2 other snapshots of it count no more\n";
    assert!(run.out.starts_with(said), "{}", run.out);
    revoke("3").ends(1).complains(
        "error: snapshot 3 of device ID counts no more: it was shut out at number 1\n  \
         hint: a chain that an owner has ended is never made longer; `--last` with a lower number ends it earlier\n",
    );
    let run = revoke("4").ends(1);
    assert!(run.err.starts_with("error: device ID has no snapshot number 4\n"), "{}", run.err);
    let run = revoke("0").ends(0);
    assert!(
        run.out.starts_with("HOST is shut out; nothing of it counts any more: 3 snapshots\n"),
        "{}",
        run.out
    );
    let json = bench.keyed(&["device", "revoke", &device, "--last", "0", "--json"]).ends(0).json();
    assert_eq!((&json[0]["last"], &json[0]["ignored"]), (&0.into(), &3.into()));
}

#[test]
fn requests_are_listed_without_a_code_and_a_machine_without_snapshots_needs_no_memory() {
    let bench = Bench::with_vault();
    let home = bench.path("other");
    fs::create_dir_all(&home).unwrap();
    let home = [("HOME", home.to_str().unwrap())];
    let fingerprint = fingerprint(&bench);
    let asked = bench
        .run_with(&["device", "request", "--json", "--fingerprint", &fingerprint], &home, b"")
        .ends(0)
        .json();
    let run = bench.keyed(&["device", "approve"]).ends(0);
    assert_eq!(run.out, "ID  asks to be taken in\n");
    let listed = bench.keyed(&["device", "approve", "--json"]).ends(0).json();
    assert_eq!((listed.len(), &listed[0]["code"]), (1, &asked[0]["code"]));
    assert_eq!(listed[0]["is_device"], false);
    bench.keyed(&["device", "approve", asked[0]["code"].as_str().unwrap(), "--name", "laptop"]).ends(0);
    bench
        .keyed(&["device", "reseed", "laptop"])
        .ends(0)
        .says("laptop has no snapshot in the vault: there is nothing to give it, and nothing was changed\n");
}

#[test]
fn what_slots_are_like_is_told_to_programs_and_whose_owner_goes_to_all() {
    let bench = Bench::with_vault();
    bench
        .keyed(&["slot", "add", "board", "--role", "owner", "--cards", "2/3", "--cards-out", "cards"])
        .ends(0);
    bench.write_secret("words", b"correct horse battery staple\n");
    bench.keyed(&["slot", "add", "anna", "--new-password-file", "words"]).ends(0);
    let slots = bench.keyed(&["slot", "list", "--json"]).ends(0).json();
    assert_eq!((&slots[2]["threshold"], &slots[2]["count"]), (&2.into(), &3.into()));
    assert!(slots[3]["kdf"]["memory_kib"].as_u64().unwrap() >= 1 << 16, "{}", slots[3]);
    let run = bench.keyed(&["slot", "remove", "board"]).ends(0);
    assert!(
        run.out.ends_with(
            "The vault's signing key changed with it: machines that know the vault follow; give people who check receipts a \
             new one\n"
        ),
        "{}",
        run.out
    );
    let run = bench.keyed(&["slot", "delete", "anna"]).ends(2);
    assert!(run.err.ends_with("  hint: `strongroom slot remove NAME` takes a way in away\n"), "{}", run.err);
    let run = bench.keyed(&["device", "remove", "x"]).ends(2);
    assert!(
        run.err.ends_with("  hint: `strongroom device revoke NAME` shuts a machine out\n"),
        "{}",
        run.err
    );

    let key = strongroom::crypto::kem::KemSecretKey::from_seed(
        strongroom::crypto::secret::Secret::<32>::generate(),
    );
    let recipient = strongroom::crypto::recipient::encode_recipient(&key.public());
    bench.keyed(&["slot", "add", "ben", "--recipient", &recipient]).ends(0);
    bench.write_secret("id", strongroom::crypto::recipient::encode_identity(&key).as_bytes());
    let environment = [("STRONGROOM_IDENTITY", "id")];
    bench
        .run_with(&["slot", "test"], &environment, b"")
        .ends(0)
        .says("this recipient's key opens slot ID as reader\n");
}

#[test]
fn a_fingerprint_with_a_slip_or_of_another_vault_is_told_as_people_read_it() {
    let bench = Bench::with_vault();
    let own = fingerprint(&bench);
    let (rest, last) = own.split_at(51);
    let slip = format!("{rest}{}", if last == "b" { "c" } else { "b" });
    let run = bench.run(&["status", "--fingerprint", &slip]).ends(2);
    assert!(run.err.contains("no fingerprint ends in that character"), "{}", run.err);
    let other = format!("{}{}", if own.starts_with('a') { "b" } else { "a" }, &own[1..]);
    let run = bench.run(&["status", "--fingerprint", &other]).ends(21);
    assert!(
        run.err.starts_with("error: this is another vault: its fingerprint is FINGERPRINT ("),
        "{}",
        run.err
    );
}

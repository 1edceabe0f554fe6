//! `recover` and `recovery-kit`: back in with nothing but the vault and a code, cards or a key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::bench::Bench;
use crate::bench::Run;

/// A machine that has never seen the vault.
fn bare(bench: &Bench) -> String {
    let home = bench.path("bare");
    fs::create_dir_all(&home).unwrap();
    home.to_str().unwrap().to_owned()
}

fn on_bare(bench: &Bench, args: &[&str]) -> Run {
    bench.run_with(args, &[("HOME", &bare(bench))], b"")
}

fn labels(bench: &Bench, key: &str) -> Vec<String> {
    let run = bench.run_with(&["slot", "list", "--json"], &[("STRONGROOM_KEY_FILE", key)], b"").ends(0);
    run.json().iter().map(|slot| slot["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_code_lets_its_holder_in_again_and_is_retired_at_once() {
    let bench = Bench::with_snapshots();
    let args = [
        "recover",
        "--recovery-code-file",
        "code",
        "--label",
        "anna",
        "--new-key-file",
        "new.key",
        "--recovery-code-out",
        "new.code",
        "--restore",
        "latest",
        "--target",
        "out",
    ];
    let run = on_bare(&bench, &args).ends(0);
    assert!(
        run.out.starts_with("vault        DIR/vault\nfingerprint  "),
        "the vault's name comes first: {}",
        run.out
    );
    for said in [
        "opened by    recovery code, as owner\n",
        "ID  HOST  alice  DATE TIME  ID\n",
        "keep         the new key file new.key\n",
        "keep         the recovery code, now in new.code: move it away\n",
        "anna opens the vault by key file, as owner\n",
        "The recovery code that you used no longer opens it;",
        "to out, all verified\n",
        "strongroom device add --name NAME",
    ] {
        // Columns are as wide as the longest name, which is this machine's.
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed(&run.out).contains(&squeezed(said)), "{said}\n---\n{}", run.out);
    }
    assert!(bench.path("out").exists());

    // The restore is the new way in's doing, and signed with its key.
    let log = bench.run(&["log", "--key-file", "new.key"]).ends(0).out;
    let restore = log.lines().find(|line| line.contains(" restore ")).unwrap();
    assert!(restore.contains(" anna ") && !log.contains("retired"), "{log}");
    bench.run(&["snapshots", "--recovery-code-file", "code"]).ends(12);
    bench
        .run(&["slot", "test", "--recovery-code-file", "new.code"])
        .ends(0)
        .says("this recovery code opens slot recovery code as owner\n");
    bench
        .run(&["slot", "test", "--key-file", "new.key"])
        .ends(0)
        .says("this key file opens slot anna as owner\n");
    assert_eq!(labels(&bench, "key"), ["owner", "recovery code", "anna"]);
    for file in ["new.key", "new.code"] {
        assert_eq!(fs::metadata(bench.path(file)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn nothing_changes_if_something_is_missing_or_a_name_is_taken() {
    let bench = Bench::with_snapshots();
    let before = bench.but_for_the_log();
    let code = ["recover", "--recovery-code-file", "code"];
    let table: [(&[&str], i32, &str); 6] = [
        (&[], 2, "error: nothing says what the new way in is, and nobody can be asked\n"),
        (
            &["--recovery-code-out", "x"],
            2,
            "error: nothing says what the new way in is, and nobody can be asked\n",
        ),
        (&["--new-key-file", "x"], 2, "error: there is no terminal to show the recovery code at\n"),
        (&["--new-key-file", "x", "--recovery-code-out", "code"], 26, "error: code exists already\n"),
        (
            &["--label", "owner", "--new-key-file", "x", "--recovery-code-out", "y"],
            26,
            "error: owner is the name of ",
        ),
        (&["--restore", "no such", "--target", "out"], 2, "error: no such names no snapshot\n"),
    ];
    for (more, exit, error) in table {
        let run = on_bare(&bench, &[&code[..], more].concat()).ends(exit);
        assert!(run.err.starts_with(error), "{more:?}: {}", run.err);
    }
    for absent in ["x", "y", "out"] {
        assert!(!bench.path(absent).exists(), "{absent}");
    }
    assert!(bench.but_for_the_log() == before);
    on_bare(&bench, &["recover", "--restore", "latest"]).ends(2);
}

#[test]
fn nothing_changes_if_what_is_asked_for_can_not_be_restored() {
    let bench = Bench::with_snapshots();
    let before = bench.but_for_the_log();
    bench.write("full/of/it", b"x");
    let new = ["--new-key-file", "x", "--recovery-code-out", "y"];
    let code = [&["recover", "--recovery-code-file", "code"], &new[..]].concat();
    let table: [([&str; 2], i32, &str); 5] = [
        (
            ["latest", "full"],
            26,
            "error: full is not empty\n  hint: nothing was changed; name a new folder with ",
        ),
        (["ffffffff", "out"], 1, "error: there is no snapshot ID\n"),
        (["latest:no/such", "out"], 1, "error: "),
        (["latest", "full/of/it/out"], 1, "error: "),
        (["latest", "full/of/it"], 26, "error: full/of/it is not a directory\n"),
    ];
    for ([snapshot, target], exit, error) in table {
        let asked = ["--restore", snapshot, "--target", target];
        let run = on_bare(&bench, &[&code[..], &asked].concat()).ends(exit);
        assert!(run.err.contains(error), "{asked:?}: {}", run.err);
        assert!(run.err.contains("hint: nothing was changed; "), "{asked:?}: {}", run.err);
    }
    for absent in ["x", "y", "out"] {
        assert!(!bench.path(absent).exists(), "{absent}");
    }
    assert!(bench.but_for_the_log() == before);
    let names: Vec<_> =
        fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("strongroom-")), "{names:?}");
}

#[test]
fn cards_are_retired_too_and_a_key_file_is_not() {
    let bench = Bench::with_snapshots();
    bench
        .keyed(&["slot", "add", "board", "--role", "owner", "--cards", "2/3", "--cards-out", "cards"])
        .ends(0);
    let cards = ["--card-file", "cards/card-1-of-3.txt", "--card-file", "cards/card-3-of-3.txt"];
    let new = ["--new-key-file", "new.key", "--recovery-code-out", "new.code", "--json"];
    let messages = on_bare(&bench, &[&["recover"], &cards[..], &new].concat()).ends(0).json();
    assert_eq!(messages[0]["message_type"], "recover_opened");
    assert_eq!(messages[0]["label"], "board");
    assert_eq!(messages[1]["message_type"], "recover_device");
    assert_eq!(messages[1]["hosts"][0], "alice");
    assert_eq!(messages[2]["message_type"], "recovered");
    assert_eq!(messages[2]["retired"], "cards");
    // The code that was there is somebody's still.
    assert_eq!(messages[2]["recovery_code_label"], "recovery code 2");
    assert_eq!(messages[2]["older_codes"], 1);
    bench.run(&[&["slot", "test"], &cards[..]].concat()).ends(12);
    let owner = messages[2]["label"].as_str().unwrap();
    assert!(owner.starts_with("owner (recovered 20"), "{owner}");
    assert_eq!(labels(&bench, "new.key"), ["owner", "recovery code", "recovery code 2", owner]);

    let again = ["--new-key-file", "newer.key", "--recovery-code-out", "newer.code", "--json"];
    let messages = bench.keyed(&[&["recover"], &again[..]].concat()).ends(0).json();
    assert_eq!(messages[2]["retired"], serde_json::Value::Null);
    assert_eq!(messages[2]["label"].as_str(), Some(format!("{owner} 2").as_str()));
    bench.keyed(&["slot", "test"]).ends(0);
}

#[test]
fn a_codes_page_says_what_the_guide_says() {
    let page = fs::read_to_string(Bench::with_vault().path("code")).unwrap();
    assert!(page.contains("\n    strongroom --vault VAULT --recovery-code-file FILE recover\n"), "{page}");
    assert!(
        page.contains("if it is an owner's code, change who else can") && !page.contains("latest"),
        "{page}"
    );
}

#[test]
fn a_reader_lists_and_restores_and_is_told_the_rest() {
    let bench = Bench::with_snapshots();
    bench.keyed(&["slot", "add", "anna", "--new-key-file", "anna.key"]).ends(0);
    let before = bench.but_for_the_log();
    let args = ["recover", "--key-file", "anna.key", "--restore", "latest", "--target", "out"];
    let run = on_bare(&bench, &args).ends(26);
    assert!(run.out.contains("opened by    key file, as reader\n"), "{}", run.out);
    assert!(
        run.err.contains(
            "error: the slot that was opened is a reader's: it lists and restores, and can't make new "
        ),
        "{}",
        run.err
    );
    assert!(bench.path("out").exists());
    assert!(bench.but_for_the_log() == before);
}

#[test]
fn at_a_terminal_all_is_asked_and_the_newest_snapshot_is_offered() {
    let bench = Bench::with_snapshots();
    let page = fs::read_to_string(bench.path("code")).unwrap();
    let code = page.lines().map(str::trim).find(|line| line.split('-').count() == 6).unwrap();
    let home = bare(&bench);
    bench.write("Restored/before", b"x");
    let mut terminal = bench.at_terminal(&["recover", "--new-key-file", "new.key"], &[("HOME", &home)]);
    terminal.sees("Recovery code or card: ");
    terminal.types("012345");
    terminal.sees("That is not it: ");
    terminal.sees("Recovery code or card: ");
    terminal.types(code);
    let said = terminal.sees("Type it back from the paper: ");
    let new = said.lines().map(str::trim).find(|line| line.split('-').count() == 6).unwrap().to_owned();
    assert!(new != code);
    terminal.types(&new);
    terminal.sees("into Restored-2 now? [Y/n] ");
    terminal.types("");
    let (text, exit) = terminal.ends();
    assert_eq!(exit, 0, "{text}");
    assert!(bench.path("Restored-2").exists());
    bench.run(&["slot", "test", "--recovery-code-file", "code"]).ends(12);
    bench.write("typed", new.as_bytes());
    fs::set_permissions(bench.path("typed"), fs::Permissions::from_mode(0o600)).unwrap();
    bench.run(&["slot", "test", "--recovery-code-file", "typed"]).ends(0);
}

/// What stands between `start` and the next `<`.
fn between<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
    page.split(start).skip(1).map(|rest| rest.split('<').next().unwrap()).collect()
}

fn kit(bench: &Bench, args: &[&str]) -> String {
    bench.run(&[&["recovery-kit", "--out", "kit.html"], args].concat()).ends(0).complains("");
    let file = bench.path("kit.html");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let page = fs::read_to_string(file).unwrap();
    assert!(!page.contains("<script"), "{page}");
    let without_namespace = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for outside in ["http", "src=", "href=", "url(", "@import"] {
        assert!(!without_namespace.contains(outside), "{outside}");
    }
    page
}

#[test]
fn a_kit_without_a_key_names_the_vault_and_has_a_line_to_write_on() {
    let bench = Bench::with_snapshots();
    let page = kit(&bench, &[]);
    let status = bench.run(&["status", "--json"]).ends(0).json();
    let receipt = bench.keyed(&["device", "list", "--json"]).ends(0).json()[0]["receipt"].clone();
    for part in [status[0]["fingerprint"].as_str().unwrap(), receipt.as_str().unwrap(), &bench.inner("vault")]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("______ - ______") && !page.contains("<svg"), "{page}");

    assert!(page.contains("<p>With this page, the storage"), "{page}");
    bench.keyed(&["slot", "remove", "recovery code"]).ends(0);
    let run = bench.run(&["recovery-kit", "--out", "none.html"]).ends(0);
    assert!(
        run.err.starts_with("warning: this vault has no recovery code, so the page alone opens"),
        "{}",
        run.err
    );
    let none = fs::read_to_string(bench.path("none.html")).unwrap();
    assert!(none.contains("This vault has no recovery code") && !none.contains("______ - "), "{none}");

    bench
        .run(&["recovery-kit", "--out", "kit.html"])
        .ends(26)
        .complains("error: kit.html exists already\n  hint: nothing is ever overwritten: name a new file\n");
}

#[test]
fn the_code_on_a_kit_opens_the_vault_and_one_that_does_not_is_refused() {
    let bench = Bench::with_snapshots();
    let page = kit(&bench, &["--recovery-code-file", "code"]);
    let code = between(&page, "<p class=\"secret\">");
    assert_eq!((code.len(), page.matches("<svg").count()), (1, 1));
    // Once to read, and never inside a command.
    assert_eq!(page.matches("strongroom1:").count(), 1, "{page}");
    assert!(page.contains("<span class=\"word\">--expect</span> RECEIPT</pre>"), "{page}");
    bench.write("typed", code[0].as_bytes());
    fs::set_permissions(bench.path("typed"), fs::Permissions::from_mode(0o600)).unwrap();
    bench.run(&["slot", "test", "--recovery-code-file", "typed"]).ends(0);

    let other = Bench::with_vault();
    fs::copy(other.path("code"), bench.path("other")).unwrap();
    bench.run(&["recovery-kit", "--out", "x.html", "--recovery-code-file", "other"]).ends(12);
    let both = ["--recovery-code-file", "code", "--card-file", "code"];
    bench.run(&[&["recovery-kit", "--out", "x.html"], &both[..]].concat()).ends(2);
    assert!(!bench.path("x.html").exists());
}

#[test]
fn each_card_has_a_sheet_that_says_how_many_are_needed_and_names_are_escaped() {
    let bench = Bench::with_snapshots();
    bench
        .keyed(&["slot", "add", "board", "--role", "owner", "--cards", "2/3", "--cards-out", "cards"])
        .ends(0);
    let moved = bench.path("a & <b>");
    fs::rename(bench.path("vault"), &moved).unwrap();
    let place = moved.to_str().unwrap();
    let files = ["cards/card-1-of-3.txt", "cards/card-2-of-3.txt", "cards/card-3-of-3.txt"];
    let cards: Vec<&str> = files.iter().flat_map(|file| ["--card-file", file]).collect();
    let page = kit(&bench, &[&["--vault", place], &cards[..]].concat());
    assert!(page.contains("/a &amp; &lt;b&gt;</code>") && !page.contains("<b>"), "{page}");
    let counts = [
        "<section class=\"sheet\">",
        "<svg",
        "2 of 3 such cards are needed",
        "<p>With 2 of such pages, the storage",
    ];
    assert_eq!(counts.map(|part| page.matches(part).count()), [3, 3, 3, 3]);
    for (at, card) in between(&page, "<p class=\"secret\">").into_iter().enumerate() {
        assert!(fs::read_to_string(bench.path(files[at])).unwrap().contains(card));
    }
    let one = ["recovery-kit", "--vault", place, "--out", "x.html", "--card-file", files[0]];
    bench.run(&one).ends(12);
}

#[test]
fn where_two_owners_were_cut_off_as_they_met_it_lets_one_stand_and_goes_on() {
    let bench = Bench::with_snapshots();
    let (vault, copy) = (bench.path("vault"), bench.path("copy"));
    let copied = std::process::Command::new("cp").arg("-a").args([&vault, &copy]).status();
    assert!(copied.unwrap().success());
    bench.keyed(&["slot", "add", "anna", "--new-key-file", "anna.key"]).ends(0);
    let there = copy.to_str().unwrap();
    fs::create_dir(bench.path("second")).unwrap();
    let second = [("HOME", bench.path("second").to_str().unwrap().to_owned())];
    let second = [(second[0].0, second[0].1.as_str()), ("STRONGROOM_KEY_FILE", "key")];
    bench
        .run_with(&["--vault", there, "slot", "add", "bob", "--new-key-file", "bob.key"], &second, b"")
        .ends(0);
    for (name, bytes) in crate::bench::tree(&copy) {
        if !vault.join(&name).exists() {
            bench.write(vault.join(&name).to_str().unwrap(), &bytes);
        }
    }

    let args =
        ["recover", "--key-file", "key", "--new-key-file", "new.key", "--recovery-code-out", "new-code"];
    on_bare(&bench, &args).ends(21);
    let run = on_bare(&bench, &[&args[..], &["--settle-fork"]].concat()).ends(0);
    assert!(
        run.err.starts_with("warning: two owners' commands had been cut off as they met; "),
        "{}",
        run.err
    );
    // The machine that gave the command which doesn't stand would follow the vault no more.
    on_bare(&bench, &["slot", "test", "--recovery-code-file", "new-code"]).ends(0);
}

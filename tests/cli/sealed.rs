//! Sealed files: what is said of them, and what becomes of what lies beside them.

use std::fs;

use crate::bench::Bench;
use crate::bench::Run;

/// With a folder sealed, a key file opening it.
fn sealed() -> Bench {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    bench.write("Customers/b.txt", b"beta\n");
    bench.keyed(&["seal", "Customers"]).ends(0);
    bench
}

/// A command on the sealed file.
fn on_file(bench: &Bench, args: &[&str]) -> Run {
    bench.keyed(&[&["--vault", "Customers.strongroom"], args].concat())
}

/// What lies in the folder of the test, hidden or not.
fn names(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != "home");
    names.sort();
    names
}

// ---- an older copy --------------------------------------------------------------------------------

/// With a reader who was taken out of the file, and the file of before in its place.
fn rolled_back() -> Bench {
    let bench = sealed();
    on_file(&bench, &["slot", "add", "anna", "--new-key-file", "anna.key"]).ends(0);
    fs::copy(bench.path("Customers.strongroom"), bench.path("old")).unwrap();
    on_file(&bench, &["slot", "remove", "anna"]).ends(0);
    fs::rename(bench.path("old"), bench.path("Customers.strongroom")).unwrap();
    bench
}

#[test]
fn an_older_copy_is_read_with_a_warning() {
    let bench = rolled_back();
    let warning = "this machine has sealed a newer one of this file: who was taken out of it since, this one still \
                   opens for";
    for command in [
        &["open", "Customers.strongroom", "-t", "out"][..],
        &["ls", "-r", "Customers.strongroom", "latest"],
        &["restore", "-r", "Customers.strongroom", "latest", "--target", "out2"],
        &["slot", "-r", "Customers.strongroom", "list"],
        &["inspect", "Customers.strongroom"],
    ] {
        let run = bench.keyed(command).ends(0);
        assert_eq!(run.err.matches(warning).count(), 1, "{command:?}: {}", run.err);
    }
    let run = bench.keyed(&["open", "Customers.strongroom", "-t", "out3", "--json", "--no-progress"]).ends(0);
    assert_eq!(run.err, format!("{{\"message_type\":\"warning\",\"schema\":1,\"message\":\"{warning}\"}}\n"));
}

#[test]
fn an_older_copy_is_not_changed_and_there_is_a_way_on() {
    let bench = rolled_back();
    for command in [
        &["seal", "Customers"][..],
        &["-r", "Customers.strongroom", "slot", "add", "eve", "--new-key-file", "eve.key"],
        &["-r", "Customers.strongroom", "slot", "remove", "anna"],
    ] {
        let run = bench.keyed(command).ends(21).says("");
        assert!(
            run.err.ends_with(
                "Customers.strongroom is older than what this machine has sealed of it\n  hint: whoever was taken out \
                 of the file since would be let in again: look for the newer one, perhaps under another name; if it is \
                 lost, `strongroom open` opens this one, and `strongroom seal DIR --force` makes a new file\n"
            ) && !run.err.contains("warning"),
            "{}",
            run.err
        );
    }
    assert!(!bench.path("eve.key").exists());
    let run = on_file(&bench, &["verify"]).ends(21);
    assert!(
        run.out.starts_with("history: the file was rolled back: ") && !run.out.contains("vault"),
        "{}",
        run.out
    );
    assert!(
        run.err.contains("this machine has sealed a newer one of this file") && !run.err.contains("vault"),
        "{}",
        run.err
    );
    bench.keyed(&["seal", "Customers", "--force"]).ends(0).complains("");
}

// ---- keys and pages that are made -----------------------------------------------------------------

#[test]
fn the_page_of_a_recovery_code_says_how_a_file_is_opened() {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    bench.keyed(&["seal", "Customers", "--recovery-code-out", "page"]).ends(0);
    on_file(&bench, &["slot", "add", "safe", "--recovery-code-out", "second"]).ends(0);
    for page in ["page", "second"] {
        let text = fs::read_to_string(bench.path(page)).unwrap();
        assert!(text.contains("\n    strongroom open FILE --recovery-code-file CODE\n"), "{text}");
        assert!(
            text.contains("sealed file:  ") && !text.contains("vault") && !text.contains("backup"),
            "{text}"
        );
        let out = format!("{page}-out");
        bench.run(&["open", "Customers.strongroom", "--recovery-code-file", page, "-t", &out]).ends(0);
    }
}

#[test]
fn a_key_that_is_made_is_named_to_be_kept() {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    bench.write_secret("password", b"correct horse battery staple wardrobe\n");
    let run = bench.run(&["seal", "Customers", "--key-file", "new"]).ends(0);
    assert!(run.out.starts_with("made new: keep it; without it nobody opens the file\n"), "{}", run.out);
    let run = bench.run(&["seal", "Customers", "--key-file", "new"]).ends(0);
    assert!(!run.out.contains("made"), "{}", run.out);
    let more = ["--key-file", "both", "--password-file", "password", "--recovery-code-out", "page"];
    let run = bench.run(&[&["seal", "Customers", "-o", "x"][..], &more].concat()).ends(0);
    assert!(
        run.out.starts_with(
            "made both: keep it; the passphrase alone opens nothing\n\
             made page: print it, keep it apart from the file, and delete it\nx: 1 file"
        ),
        "{}",
        run.out
    );
    let more = ["--key-file", "third", "--recovery-code-out", "page2", "--json", "--no-progress"];
    let run = bench.run(&[&["seal", "Customers", "-o", "y"][..], &more].concat()).ends(0);
    let sealed = run.json().pop().unwrap();
    assert_eq!(
        (&sealed["key_file_created"], &sealed["recovery_code_file"]),
        (&"third".into(), &"page2".into())
    );
    let run = bench.run(&["seal", "Customers", "-o", "-", "--key-file", "fourth"]).ends(0);
    assert!(run.err.contains("made fourth: keep it; without it nobody opens the file\n"), "{}", run.err);
}

#[test]
fn what_was_made_for_a_file_that_was_not_sealed_goes_again() {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    let made = ["seal", "Customers", "-o", "x", "--key-file", "key", "--recovery-code-out"];
    // The key file is made first, and then there is no place for the page.
    bench.run(&[&made[..], &["nowhere/page"]].concat()).ends(1).says("");
    assert_eq!(names(&bench), ["Customers"]);
    bench.run(&[&made[..], &["page"]].concat()).ends(0);
    assert_eq!(names(&bench), ["Customers", "key", "page", "x"]);
}

#[test]
fn a_file_and_what_opens_it_have_names_of_their_own() {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    for names in [
        ["-o", "one", "--key-file", "key", "--recovery-code-out", "./one"],
        ["-o", "two", "--key-file", "Customers/../two", "--recovery-code-out", "page"],
        ["-o", "x", "--key-file", "three", "--recovery-code-out", "three"],
    ] {
        let run = bench.run(&[&["seal", "Customers"], &names[..]].concat()).ends(26).says("");
        assert!(run.err.contains(" is named twice: "), "{}", run.err);
    }
    assert_eq!(self::names(&bench), ["Customers"]);
    bench.run(&["seal", "Customers", "--key-file", "key"]).ends(0);
    let key = fs::read(bench.path("key")).unwrap();
    bench.run(&["seal", "Customers", "--key-file", "key", "-o", "key", "--force"]).ends(26);
    assert_eq!(fs::read(bench.path("key")).unwrap(), key);
}

// ---- what programs are told -----------------------------------------------------------------------

#[test]
fn programs_get_names_as_they_are() {
    let bench = Bench::new();
    bench.write("a\nb/a.txt", b"alpha\n");
    let sealed = bench.keyed(&["seal", "a\nb", "--json"]).ends(0).json().pop().unwrap();
    assert_eq!(sealed["file"], "a\nb.strongroom");
    let args = ["open", "a\nb.strongroom", "-t", "c\u{1b}d", "--json"];
    let opened = bench.keyed(&args).ends(0).json().pop().unwrap();
    assert_eq!(opened["target"], "c\u{1b}d");
}

#[test]
fn programs_are_told_of_a_file_whose_source_stays() {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    bench.write("Customers/cache", b"left out");
    let run = bench
        .keyed(&["seal", "Customers", "--remove-source", "-e", "cache", "--json", "--no-progress"])
        .ends(26);
    let sealed = run.json().pop().unwrap();
    assert_eq!((&sealed["message_type"], &sealed["source_removed"]), (&"sealed".into(), &false.into()));
}

// ---- what `open` leaves when it is killed ---------------------------------------------------------

#[test]
fn what_killed_runs_have_left_is_named_and_stays() {
    let bench = sealed();
    bench.write(".Customers.strongroom-0123abcd/tree/a.txt", b"alpha\n");
    bench.write(".Customers.strongroom-0123abcg/tree/a.txt", b"alpha\n");
    let warning = "warning: DIR/.Customers.strongroom-0123abcd holds what an `open` that was cut off has put there: look \
                   what is in it, then delete it\n";
    bench.keyed(&["seal", "Customers"]).ends(0).complains(warning);
    fs::remove_dir_all(bench.path("Customers")).unwrap();
    let run = bench.keyed(&["open", "Customers.strongroom"]).ends(0);
    assert_eq!(run.err, warning.replace("DIR/", ""));
    assert!(bench.path(".Customers.strongroom-0123abcd/tree/a.txt").exists());
}

#[test]
fn a_file_comes_back_over_nothing() {
    let bench = Bench::new();
    bench.write("one.pdf", b"one\n");
    bench.keyed(&["seal", "one.pdf", "--remove-source"]).ends(0);
    fs::create_dir(bench.path("one.pdf")).unwrap();
    bench.keyed(&["open", "one.pdf.strongroom"]).ends(26).complains(
        "error: one.pdf is there already, and a folder, where a file is to be\n  hint: nothing is written over what is \
         there: `--target DIR` opens the file elsewhere\n",
    );
    assert!(bench.path("one.pdf").is_dir());
    fs::rename(bench.path("one.pdf.strongroom"), bench.path("two.pdf.strongroom")).unwrap();
    bench.write(".two.pdf.strongroom-0123abcd/tree/one.pdf", b"one\n");
    let run = bench.keyed(&["open", "two.pdf.strongroom"]).ends(0);
    assert!(run.err.contains(".two.pdf.strongroom-0123abcd holds"), "{}", run.err);
    assert_eq!(fs::read(bench.path("two.pdf")).unwrap(), b"one\n");
    assert_eq!(
        names(&bench),
        [".two.pdf.strongroom-0123abcd", "key", "one.pdf", "two.pdf", "two.pdf.strongroom"]
    );
}

#[test]
fn what_is_no_file_is_not_replaced_by_force() {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    let pipe = bench.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for more in [&[][..], &["--split", "1MB"]] {
        let run =
            bench.keyed(&[&["seal", "Customers", "-o", "pipe", "--force"], more].concat()).ends(26).says("");
        assert!(run.err.starts_with("error: "), "{}", run.err);
    }
    assert_eq!(names(&bench), ["Customers", "pipe"]);
}

// ---- what is said ---------------------------------------------------------------------------------

#[test]
fn what_can_not_be_opened_is_called_what_it_is() {
    let bench = sealed();
    bench.write("pw.txt", b"not sealed\n");
    let table = [
        ("Customers", 2, "error: Customers is a folder, and no sealed file\n"),
        ("pw.txt", 10, "error: pw.txt is not a sealed file\n"),
        ("/dev/null", 10, "error: /dev/null is not a sealed file\n"),
        ("nothing", 10, "error: there is no file nothing\n"),
    ];
    for (file, exit, message) in table {
        let run = bench.keyed(&["open", file]).ends(exit).says("");
        assert!(run.err.starts_with(message), "{file}: {}", run.err);
    }
    fs::copy(bench.path("Customers.strongroom"), bench.path("...strongroom")).unwrap();
    let run = bench.keyed(&["open", "...strongroom"]).ends(2).says("");
    assert!(run.err.contains("give `--target DIR`"), "{}", run.err);
}

#[test]
fn a_bad_line_of_recipients_is_named() {
    let bench = sealed();
    bench.write("team", b"# the team\n\nanna=age1nonsense\n");
    let run = bench.run(&["seal", "Customers", "-o", "x", "-R", "team"]).ends(2).says("");
    assert!(run.err.starts_with("error: team, line 3: "), "{}", run.err);
}

#[test]
fn a_file_for_one_recipient_asks_for_that_key() {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    let key = strongroom::crypto::kem::KemSecretKey::generate();
    let recipient = strongroom::crypto::recipient::encode_recipient(&key.public());
    bench.run(&["seal", "Customers", "--recipient", &recipient]).ends(0);
    bench.run(&["open", "Customers.strongroom", "-t", "out"]).ends(2).complains(
        "error: this file opens with: outside recipient; none was given\n  hint: give `-i FILE`, your own key as \
         `age-keygen -pq -o FILE` made it\n",
    );
}

#[test]
fn a_folder_that_takes_no_file_is_told_before_anything_is_asked() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = Bench::new();
    bench.write("shut/Customers/a.txt", b"alpha\n");
    for is_there in [false, true] {
        if is_there {
            bench.keyed(&["seal", "shut/Customers"]).ends(0);
        }
        let run = bench.run_as(1234, "guest", &["seal", "shut/Customers"]).ends(1).says("");
        assert!(
            run.err.starts_with("error: no file can be made in shut: ")
                && run.err.ends_with("  hint: `-o FILE` makes it in another folder\n"),
            "{}",
            run.err
        );
    }
}

#[test]
fn a_passphrase_that_was_mistyped_is_asked_for_again() {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    bench.write_secret("password", b"tall ships at dawn in the outer harbour\n");
    bench.run(&["seal", "Customers", "--password-file", "password"]).ends(0);
    let wrong = "tall ships at dusk in the outer harbour";
    for (command, tries, exit) in [
        (&["open", "Customers.strongroom", "-t", "out"][..], 3, 0),
        (&["open", "Customers.strongroom", "-t", "out2"], 4, 12),
        (&["seal", "Customers"], 2, 0),
        (&["-r", "Customers.strongroom", "ls", "latest"], 2, 0),
    ] {
        let mut terminal = bench.at_terminal(command, &[]);
        for number in 1..=tries.min(3) {
            terminal.sees("Passphrase for ");
            let is_right = number == tries;
            terminal.types(if is_right { "tall ships at dawn in the outer harbour" } else { wrong });
            if !is_right && number < 3 {
                terminal.sees("That passphrase opens nothing here.");
            }
        }
        let (text, ended) = terminal.ends();
        assert_eq!(ended, exit, "{command:?}: {text}");
    }
    let args = ["open", "Customers.strongroom", "-t", "out3", "--password-file", "wrong"];
    bench.write_secret("wrong", wrong.as_bytes());
    let (text, ended) = bench.at_terminal(&args, &[]).ends();
    assert!(ended == 12 && !text.contains("Passphrase for"), "{text}");
}

#[test]
fn the_fingerprint_beside_sign_is_that_of_the_vault() {
    let bench = Bench::with_vault();
    bench.write("Customers/a.txt", b"alpha\n");
    let vault =
        bench.keyed(&["inspect", "--json"]).ends(0).json()[0]["fingerprint"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        bench.keyed(&["seal", "Customers", "--sign", "--fingerprint", &vault]).ends(0);
    }
    bench.keyed(&["seal", "Customers", "--fingerprint", &vault]).ends(21);
    bench.keyed(&["seal", "Customers", "--sign", "--fingerprint", &"ab".repeat(32)]).ends(21);
}

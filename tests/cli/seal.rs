//! `seal`, `open`, and what other commands make of a sealed file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::bench::Bench;
use crate::bench::Run;
use crate::bench::tree;

/// With a folder to seal, and no vault.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    bench.write("Customers/sub/b.bin", &[7; 100_000]);
    std::os::unix::fs::symlink("a.txt", bench.path("Customers/link")).unwrap();
    bench
}

/// With the folder sealed, a key file opening it.
fn sealed() -> Bench {
    let bench = bench();
    bench.keyed(&["seal", "Customers"]).ends(0);
    bench
}

/// A command on the sealed file.
fn on_file(bench: &Bench, args: &[&str]) -> Run {
    bench.keyed(&[&["--vault", "Customers.strongroom"], args].concat())
}

/// What lies in the folder of the test, hidden or not.
fn names(bench: &Bench) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(bench.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "home")
        .collect();
    names.sort();
    names
}

#[test]
fn a_folder_becomes_a_file_beside_it_and_a_folder_again() {
    let bench = bench();
    let before = tree(&bench.path("Customers"));
    bench
        .keyed(&["seal", "Customers"])
        .ends(0)
        .says(
            "made key: keep it; without it nobody opens the file\n\
             Customers.strongroom: 2 files, 100 kB in 176 kB, sealed for you\n",
        )
        .complains("");
    assert_eq!(names(&bench), ["Customers", "Customers.strongroom", "key"]);
    let mode = fs::metadata(bench.path("Customers.strongroom")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    bench.keyed(&["open", "Customers.strongroom"]).ends(26).says("").complains(
        "error: Customers is there already, and not empty: is it open already?\n  \
         hint: nothing is written over what is there: `--target DIR` opens the file elsewhere\n",
    );
    fs::remove_dir_all(bench.path("Customers")).unwrap();
    bench
        .keyed(&["open", "Customers.strongroom"])
        .ends(0)
        .says("sender unverified: nobody signed it\nCustomers: 2 files, 100 kB, all verified\n")
        .complains("");
    assert_eq!(tree(&bench.path("Customers")), before);
    bench.write("Customers/a.txt", b"beta\n");
    let run = bench.keyed(&["seal", "Customers"]).ends(0).complains("");
    assert!(
        run.out.starts_with("Customers.strongroom: 2 files, 100 kB in ")
            && run.out.contains(" kB, sealed for you; ")
            && run.out.ends_with(" kB of it kept as it was\n"),
        "{}",
        run.out
    );
    assert_eq!(names(&bench), ["Customers", "Customers.strongroom", "key"]);
    bench.keyed(&["open", "Customers.strongroom", "--target", "deep/er"]).ends(0);
    assert_eq!(fs::read(bench.path("deep/er/a.txt")).unwrap(), b"beta\n");
}

#[test]
fn the_file_has_the_folders_own_name_however_it_is_written() {
    let table: [(&str, &str, &str); 5] = [
        ("Customers/", "Customers.strongroom", "Customers"),
        ("./Customers", "./Customers.strongroom", "Customers"),
        ("Customers/.", "Customers.strongroom", "Customers"),
        ("Customers/sub/..", "DIR/Customers.strongroom", "Customers"),
        ("Customers/sub", "Customers/sub.strongroom", "sub"),
    ];
    for (given, file, name) in table {
        let bench = bench();
        let run = bench.keyed(&["seal", given]).ends(0);
        assert!(run.out.contains(&format!("\n{file}: ")), "{given}: {}", run.out);
        let file = file.replace("DIR/", "");
        bench.keyed(&["--vault", &file, "ls", "latest", "-q"]).ends(0).says(&format!("/{name}\n"));
    }
}

#[test]
fn several_folders_take_a_name_for_the_file_and_come_back_side_by_side() {
    let bench = bench();
    bench.write("Letters/l.txt", b"Dear customer,\n");
    bench
        .keyed(&["seal", "Customers", "Letters"])
        .ends(2)
        .says("")
        .complains("error: of several folders, none gives the file its name\n  hint: give `-o FILE`\n");
    bench.keyed(&["seal", "Customers", "sub/../Customers", "-o", "x.strongroom"]).ends(1);
    bench.write("old/Letters/l.txt", b"");
    bench.keyed(&["seal", "Letters", "old/Letters", "-o", "x.strongroom"]).ends(2).complains(
        "error: two of the folders are called Letters\n  \
         hint: in the file each has its own name: seal them into two files, or rename one\n",
    );
    bench.keyed(&["seal", "Customers", "Letters", "-o", "both.strongroom"]).ends(0);
    bench
        .keyed(&["open", "both.strongroom"])
        .ends(0)
        .says("sender unverified: nobody signed it\nboth: 3 files, 100 kB, all verified\n");
    assert_eq!(tree(&bench.path("both/Letters")), tree(&bench.path("Letters")));
    assert_eq!(tree(&bench.path("both/Customers")), tree(&bench.path("Customers")));
    bench.keyed(&["seal", "Letters", "-o", "both.strongroom"]).ends(26).says("").complains(
        "error: both.strongroom is there already, and holds something else: Customers, Letters\n  \
         hint: it is sealed again from all of those, by these names: rename yours, then `strongroom seal Customers \
         Letters -o both.strongroom`; `-o FILE` makes another file, `--force` a new one in its place, for whom this \
         command names\n",
    );
}

#[test]
fn a_single_file_is_sealed_too() {
    let bench = bench();
    bench.keyed(&["seal", "Customers/a.txt", "-o", "a.strongroom"]).ends(0);
    bench.keyed(&["open", "a.strongroom"]).ends(0);
    assert_eq!(fs::read(bench.path("a")).unwrap(), b"alpha\n");
}

#[test]
fn what_is_there_already_stays_unless_it_is_forced_away() {
    let bench = bench();
    bench.write("mine", b"a letter");
    bench.write("empty", b"");
    let hint = "  hint: `-o FILE` names another file; `--force` makes a new one in its place\n";
    bench
        .keyed(&["seal", "Customers", "-o", "mine"])
        .ends(26)
        .says("")
        .complains(&format!("error: mine is there already, and is no sealed file\n{hint}"));
    assert_eq!(fs::read(bench.path("mine")).unwrap(), b"a letter");
    fs::create_dir(bench.path("folder")).unwrap();
    bench
        .keyed(&["seal", "Customers", "-o", "folder"])
        .ends(26)
        .complains(&format!("error: folder is there already, and is no sealed file\n{hint}"));
    bench.keyed(&["seal", "Customers", "-o", "folder", "--force"]).ends(26);
    assert!(bench.path("folder").is_dir());
    bench.keyed(&["seal", "Customers", "-o", "mine", "--force"]).ends(0);
    bench.keyed(&["open", "mine", "--target", "out"]).ends(0);
    bench.keyed(&["seal", "Customers", "-o", "Customers/x"]).ends(26).says("").complains(
        "error: the file would be inside what it seals\n  hint: `-o FILE` says where else it is to be\n",
    );
    bench.keyed(&["seal", "nothing"]).ends(1).says("").complains("error: there is no nothing to seal\n");
    assert_eq!(names(&bench), ["Customers", "empty", "folder", "key", "mine", "out"]);
}

#[test]
fn who_opens_a_file_that_is_there_is_changed_by_slots_and_not_by_sealing() {
    let bench = sealed();
    let before = fs::read(bench.path("Customers.strongroom")).unwrap();
    bench.keyed(&["seal", "Customers", "--recovery-code-out", "code"]).ends(26).says("").complains(
        "error: Customers.strongroom is there already, and is sealed for those it was made for\n  \
         hint: without `--recipient`, `--recipients-file` and `--recovery-code-out` it is sealed again for those; \
         `strongroom slot add` and `slot remove` change who they are, and `--force` makes a new file in its place\n",
    );
    bench.keyed(&["seal", "Customers", "--split", "1MB"]).ends(26).says("").complains(
        "error: Customers.strongroom is there already, and is cut as it was made\n  \
         hint: without `--split` it is sealed again in the parts that it has; `--force` makes a new file in its place, \
         for whom this command names\n",
    );
    assert!(!bench.path("code").exists());
    assert!(fs::read(bench.path("Customers.strongroom")).unwrap() == before);
}

#[test]
fn the_source_is_removed_once_the_file_was_read_back() {
    let bench = bench();
    bench
        .keyed(&["seal", "Customers", "--remove-source"])
        .ends(0)
        .says(
            "made key: keep it; without it nobody opens the file\n\
             Customers.strongroom: 2 files, 100 kB in 176 kB, sealed for you; the source was removed\n",
        )
        .complains(
            "note: what was deleted may still be on the disk: flash storage can't be wiped; encrypt the disk to be safe \
             from its thief\n",
        );
    assert_eq!(names(&bench), ["Customers.strongroom", "key"]);
    bench.keyed(&["open", "Customers.strongroom"]).ends(0);
    assert_eq!(fs::read(bench.path("Customers/a.txt")).unwrap(), b"alpha\n");
    bench.keyed(&["seal", "Customers", "--remove-source"]).ends(0);
    assert_eq!(names(&bench), ["Customers.strongroom", "key"]);
}

#[test]
fn a_source_of_which_something_was_left_out_is_not_removed() {
    let bench = bench();
    bench.write("Customers/draft.tmp", b"not sealed\n");
    let run = bench.keyed(&["seal", "Customers", "--exclude", "*.tmp", "--remove-source"]).ends(26);
    assert!(run.out.ends_with(", sealed for you\n"), "{}", run.out);
    assert!(run.err.starts_with("error: ") && run.err.contains("draft.tmp"), "{}", run.err);
    assert!(run.err.contains("; the file was sealed, and the source stays"), "{}", run.err);
    assert_eq!(tree(&bench.path("Customers")).len(), 4);
    assert_eq!(names(&bench), ["Customers", "Customers.strongroom", "key"]);

    // A socket is no file that could be brought back.
    let bench = self::bench();
    let _socket = std::os::unix::net::UnixListener::bind(bench.path("Customers/socket")).unwrap();
    bench.keyed(&["seal", "Customers", "--remove-source"]).ends(26);
    assert!(bench.path("Customers/socket").symlink_metadata().is_ok());
    assert!(bench.path("Customers/a.txt").exists());
}

#[test]
fn a_source_that_only_others_could_check_is_not_removed() {
    let bench = bench();
    let key = strongroom::crypto::kem::KemSecretKey::generate();
    let recipient = strongroom::crypto::recipient::encode_recipient(&key.public());
    bench
        .run(&["seal", "Customers", "--recipient", &recipient, "--remove-source"])
        .ends(2)
        .says("")
        .complains(
            "error: what only others can open can't be checked before the source goes\n  \
         hint: give yourself a way in, too: a passphrase or a key file\n",
        );
    assert_eq!(names(&bench), ["Customers"]);
    bench
        .keyed(&["seal", "Customers", "-o", "-", "--remove-source"])
        .ends(2)
        .says("")
        .complains("error: `--remove-source` and `--split` take a file, not a pipe\n");
}

#[test]
fn recipients_come_from_options_and_files_with_or_without_names() {
    let bench = bench();
    let keys: Vec<_> = (0..3).map(|_| strongroom::crypto::kem::KemSecretKey::generate()).collect();
    let lines: Vec<String> =
        keys.iter().map(|key| strongroom::crypto::recipient::encode_recipient(&key.public())).collect();
    bench.write("team", format!("# the team\nanna={}\n\n{}\n", lines[0], lines[1]).as_bytes());
    for (number, key) in keys.iter().enumerate() {
        let name = format!("identity{number}");
        let text = format!("{}\n", *strongroom::crypto::recipient::encode_identity(key));
        bench.write(&name, text.as_bytes());
        fs::set_permissions(bench.path(&name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let also = ["--recipient", &lines[2], "--recovery-code-out", "code", "--key-file", "key"];
    let run = bench.keyed(&[&["seal", "Customers", "-R", "team"], &also[..]].concat()).ends(0).complains("");
    assert!(
        run.out.ends_with(" kB, sealed for you, recovery code, recipient 1, anna and recipient 3\n"),
        "{}",
        run.out
    );
    for number in 0..3 {
        let (identity, target) = (format!("identity{number}"), format!("out{number}"));
        bench.run(&["open", "Customers.strongroom", "-i", &identity, "--target", &target]).ends(0);
        assert_eq!(tree(&bench.path(&target)), tree(&bench.path("Customers")));
    }
    bench.run(&["open", "Customers.strongroom", "--recovery-code-file", "code", "--target", "out"]).ends(0);
    let refused = bench.run(&["seal", "Customers", "-i", "identity0"]).ends(26).says("");
    assert_eq!(
        refused.err,
        "error: that key may read and verify; this takes an owner's\n  hint: ask an owner, or use an owner's key\n"
    );
    let run = bench.run(&["seal", "Customers", "-o", "x", "--recipient", "age1pq1nonsense"]).ends(2);
    assert!(run.err.starts_with("error: "), "{}", run.err);
    bench
        .run(&["seal", "Customers", "-o", "x", "--recipient", &format!("={}", lines[0])])
        .ends(2)
        .complains("error: a recipient's name has 1 to 255 bytes\n");
}

#[test]
fn without_a_key_and_a_terminal_nothing_is_made() {
    let bench = bench();
    bench.run(&["seal", "Customers"]).ends(2).says("").complains(
        "error: there has to be a way in, and there is no terminal to ask for a passphrase at\n  \
         hint: give --password-file, --password-command, --password-fd or --key-file\n",
    );
    assert_eq!(names(&bench), ["Customers"]);
    let bench = sealed();
    for command in [&["open", "Customers.strongroom", "--target", "out"][..], &["seal", "Customers"]] {
        bench.run(command).ends(2).says("").complains(
            "error: this file opens with: key file; none was given\n  hint: give --password-file, \
             --password-command, --password-fd, --key-file, --recovery-code-file, --card-file or --identity\n",
        );
    }
}

#[test]
fn a_passphrase_opens_it_and_a_wrong_one_ends_with_12() {
    let bench = bench();
    for (name, passphrase) in [
        ("right", "tall ships at dawn in the outer harbour\n"),
        ("wrong", "tall ships at dusk in the outer harbour\n"),
    ] {
        bench.write(name, passphrase.as_bytes());
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    bench.run(&["seal", "Customers", "--password-file", "right"]).ends(0);
    let command = ["open", "Customers.strongroom", "--target", "out", "--password-file"];
    let run = bench.run(&[&command[..], &["wrong"]].concat()).ends(12).says("");
    assert!(run.err.starts_with("error: "), "{}", run.err);
    assert!(!bench.path("out").exists());
    bench.run(&[&command[..], &["right"]].concat()).ends(0);
}

#[test]
fn a_passphrase_is_asked_for_at_the_terminal() {
    let bench = bench();
    let mut terminal = bench.at_terminal(&["seal", "Customers"], &[]);
    terminal.sees("New passphrase: ");
    terminal.types("tall ships at dawn in the outer harbour");
    terminal.sees("again");
    terminal.types("tall ships at dawn in the outer harbour");
    let (text, exit) = terminal.ends();
    assert_eq!(exit, 0, "{text}");
    fs::remove_dir_all(bench.path("Customers")).unwrap();
    let mut terminal = bench.at_terminal(&["open", "Customers.strongroom"], &[]);
    terminal.sees("Passphrase for ");
    terminal.types("tall ships at dawn in the outer harbour");
    let (text, exit) = terminal.ends();
    assert_eq!(exit, 0, "{text}");
    assert!(bench.path("Customers/a.txt").exists());
    // A file is no result to look at.
    let mut terminal = bench.at_terminal(&["seal", "Customers", "-o", "-"], &[]);
    terminal.sees("a sealed file is not for a terminal");
    assert_eq!(terminal.ends().1, 2);
}

#[test]
fn what_is_no_sealed_file_or_not_there_ends_with_10() {
    let bench = bench();
    bench.write("letter.strongroom", b"Dear customer,\n");
    bench.keyed(&["open", "letter.strongroom"]).ends(10).says("").complains(
        "error: letter.strongroom is not a sealed file\n  \
         hint: is it the right file? the first part of one that was split ends in .001\n",
    );
    let run = bench.keyed(&["open", "none.strongroom"]).ends(10).says("");
    assert!(run.err.starts_with("error: "), "{}", run.err);
    bench.keyed(&["open", "letter"]).ends(10).says("");
    bench.keyed(&["seal", "Customers", "-o", "letter"]).ends(0);
    bench.keyed(&["open", "letter"]).ends(2).says("").complains(
        "error: letter does not end in .strongroom\n  hint: give `--target DIR` to say where it is to be opened\n",
    );
    assert_eq!(names(&bench), ["Customers", "key", "letter", "letter.strongroom"]);
}

#[test]
fn pipes_carry_a_file_both_ways() {
    let bench = bench();
    let run = bench.keyed(&["seal", "Customers", "-o", "-"]).ends(0).complains(
        "made key: keep it; without it nobody opens the file\nto the pipe: 2 files, 100 kB in 176 kB, sealed for you\n",
    );
    assert_eq!(names(&bench), ["Customers", "key"]);
    let key = [("STRONGROOM_KEY_FILE", "key")];
    bench
        .run_with(&["open", "-", "--target", "out"], &key, &run.raw)
        .ends(0)
        .says("sender unverified: nobody signed it\nout: 2 files, 100 kB, all verified\n")
        .complains("");
    assert_eq!(tree(&bench.path("out")), tree(&bench.path("Customers")));
    bench
        .run_with(&["open", "-"], &key, &run.raw)
        .ends(2)
        .says("")
        .complains("error: a pipe has no name to open it under\n  hint: give `--target DIR`\n");
    bench.run_with(&["open", "-", "--target", "cut"], &key, &run.raw[..run.raw.len() / 2]).ends(20).says("");
    bench.run_with(&["open", "-", "--target", "cut"], &key, b"").ends(20).says("");
    bench.run_with(&["open", "-", "--target", "cut"], &key, b"something else").ends(10).says("");
    assert_eq!(names(&bench), ["Customers", "key", "out"]);
}

#[test]
fn a_file_that_was_cut_or_changed_ends_with_20_and_leaves_nothing() {
    let bench = sealed();
    let whole = fs::read(bench.path("Customers.strongroom")).unwrap();
    let before = names(&bench);
    let mut changed = vec![Vec::new(), whole[..1].to_vec(), whole[..511].to_vec(), whole[..512].to_vec()];
    for part in [10, 4, 3, 2] {
        changed.push(whole[..whole.len() - whole.len() / part].to_vec());
    }
    changed.push(whole[..whole.len() - 1].to_vec());
    changed.push(whole[..whole.len() - 1_024].to_vec());
    changed.push([&whole[..], b"\0"].concat());
    changed.push([&whole[..], &whole].concat());
    changed.push([&whole[..whole.len() - 1_024], &whole].concat());
    let in_a_pack = changed.len();
    for at in [whole.len() / 2, 0, 130, 600, whole.len() - 1_100] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        changed.push(flipped);
    }
    for (number, bytes) in changed.iter().enumerate() {
        fs::write(bench.path("Customers.strongroom"), bytes).unwrap();
        let run = bench.keyed(&["open", "Customers.strongroom", "--target", "out"]);
        assert_eq!(run.code, 20, "{number}: {}", run.err);
        assert_eq!(run.out, "", "{number}");
        assert_eq!(names(&bench), before, "{number}");
        let again = bench.keyed(&["seal", "Customers"]);
        if number == in_a_pack {
            // The folder has what the pack held.
            again.ends(0);
            on_file(&bench, &["verify", "--read-all"]).ends(0);
            continue;
        }
        assert_eq!(again.code, 20, "{number}: {}", again.err);
        assert!(fs::read(bench.path("Customers.strongroom")).unwrap() == *bytes, "{number}");
    }
}

#[test]
fn programs_get_a_message() {
    let bench = bench();
    let run = bench.keyed(&["seal", "Customers", "--json"]).ends(0);
    // What it does is told meanwhile, and last what came of it.
    let messages = run.json();
    let sealed = messages.last().unwrap();
    assert_eq!(sealed["message_type"], "sealed");
    assert_eq!(sealed["schema"], 1);
    assert_eq!(sealed["file"], "Customers.strongroom");
    assert_eq!(
        (&sealed["files"], &sealed["dirs"], &sealed["bytes"]),
        (&2.into(), &2.into(), &100_006.into())
    );
    assert_eq!(sealed["file_bytes"], fs::metadata(bench.path("Customers.strongroom")).unwrap().len());
    assert_eq!(sealed["sealed_for"], serde_json::json!(["you"]));
    for no in ["again", "signed", "source_removed"] {
        assert_eq!(sealed[no], false, "{no}");
    }
    let messages = bench.keyed(&["seal", "Customers", "--json"]).ends(0).json();
    let again = messages.last().unwrap();
    assert_eq!(again["again"], true);
    assert!(again["bytes_kept"].as_u64().unwrap() > 0);
    let messages = bench.keyed(&["open", "Customers.strongroom", "--target", "out", "--json"]).ends(0).json();
    let opened = messages.last().unwrap();
    assert_eq!(opened["message_type"], "opened");
    assert_eq!((&opened["target"], &opened["files"]), (&"out".into(), &2.into()));
    assert_eq!((&opened["sender_vault"], &opened["sender_known"]), (&serde_json::Value::Null, &false.into()));
    let run = bench.keyed(&["open", "Customers.strongroom", "--target", "out", "--json"]).ends(26).says("");
    let failure: serde_json::Value = serde_json::from_str(run.err.lines().last().unwrap()).unwrap();
    assert_eq!((&failure["message_type"], &failure["code"]), (&"exit_error".into(), &26.into()));
}

#[test]
fn commands_that_read_work_on_a_sealed_file() {
    let bench = sealed();
    on_file(&bench, &["ls", "latest"]).ends(0).says("/Customers\n").complains("snapshot ID, DATE TIME\n");
    on_file(&bench, &["ls", "-R", "latest", "-q"])
        .ends(0)
        .says("/Customers\n/Customers/a.txt\n/Customers/link\n/Customers/sub\n/Customers/sub/b.bin\n");
    on_file(&bench, &["find", "b.*"])
        .ends(0)
        .says("in snapshot ID, DATE TIME:\n/Customers/sub/b.bin\n")
        .complains("");
    on_file(&bench, &["dump", "latest", "Customers/a.txt"])
        .ends(0)
        .says("alpha\n")
        .complains("snapshot ID, DATE TIME\n");
    on_file(&bench, &["restore", "latest:Customers/sub", "--target", "out"])
        .ends(0)
        .says("restored 1 file, 1 folder (100 kB) to out, all verified\n")
        .complains("snapshot ID, DATE TIME\n");
    assert_eq!(fs::read(bench.path("out/b.bin")).unwrap(), [7; 100_000]);
    on_file(&bench, &["verify", "--read-all"]).ends(0).complains("").says(
        "all 4 objects of 1 snapshot are there, in order and signed for; every directory reads whole, and every \
         chunk was opened and is what its id names\n",
    );
    let run = on_file(&bench, &["snapshots"]).ends(0);
    assert!(run.out.ends_with("  2  100 kB  /Customers\n1 snapshot\n"), "{}", run.out);
    on_file(&bench, &["stats", "-q"]).ends(0);
    on_file(&bench, &["diff", "latest", "latest", "-q"]).ends(0).says("");
    on_file(&bench, &["slot", "list"])
        .ends(0)
        .says("ID  owner   you                       key file  (opened now)\n");
    on_file(&bench, &["slot", "test"]).ends(0).says("this key file opens slot you as owner\n");
    // Sealed again, it has still one snapshot, to whichever command.
    bench.write("Customers/a.txt", b"beta\n");
    bench.keyed(&["seal", "Customers"]).ends(0);
    let run = on_file(&bench, &["verify", "--read-all"]).ends(0);
    assert!(run.out.contains(" of 1 snapshot are there"), "{}", run.out);
    on_file(&bench, &["dump", "latest", "Customers/a.txt", "-q"]).ends(0).says("beta\n");
    on_file(&bench, &["dump", "latest~1", "Customers/a.txt", "-q"]).ends(1).says("");
    assert_eq!(names(&bench), ["Customers", "Customers.strongroom", "key", "out"]);
}

#[test]
fn a_sealed_file_is_shown_for_what_it_is() {
    let bench = sealed();
    let run = bench.run(&["inspect", "Customers.strongroom"]).ends(0).complains("");
    assert!(run.out.starts_with("sealed file   DIR/Customers.strongroom\nformat        1\n"), "{}", run.out);
    assert!(run.out.lines().last().unwrap().starts_with("end "), "{}", run.out);
    let inspection = &bench.run(&["inspect", "Customers.strongroom", "--json"]).ends(0).json()[0];
    assert_eq!(inspection["kind"], "sealed file");
    let run = on_file(&bench, &["status"]).ends(0).complains("");
    assert!(run.out.starts_with("sealed file  DIR/Customers.strongroom\n"), "{}", run.out);
}

#[test]
fn commands_for_vaults_say_so() {
    let bench = sealed();
    let before = fs::read(bench.path("Customers.strongroom")).unwrap();
    for command in [
        &["rotate"][..],
        &["rotate", "--reencrypt"],
        &["reencrypt"],
        &["device", "list"],
        &["device", "add"],
        &["device", "approve"],
        &["device", "revoke", "x"],
        &["incident", "--device", "x"],
        &["log"],
    ] {
        on_file(&bench, command).ends(2).says("").complains(&format!(
            "error: {} is for vaults, and this is a sealed file\n  \
             hint: `strongroom slot` changes who opens it, `strongroom seal` seals its folder again\n",
            command[0]
        ));
    }
    on_file(&bench, &["recover"]).ends(2).says("").complains(
        "error: recover is for vaults, and this is a sealed file\n  \
         hint: `strongroom open FILE --recovery-code-file CODE` gets back what is in it\n",
    );
    on_file(&bench, &["recovery-kit", "--out", "kit"]).ends(2).says("").complains(
        "error: recovery-kit is for vaults, and this is a sealed file\n  \
         hint: `strongroom slot add NAME --recovery-code-out PAGE` makes a page with a code, by which `strongroom \
         open` gets back what is in it\n",
    );
    on_file(&bench, &["backup", "Customers"]).ends(2).says("").complains(
        "error: a backup goes into a vault, and this is a sealed file\n  \
         hint: `strongroom seal FOLDER` seals a folder again into its file\n",
    );
    on_file(&bench, &["init"]).ends(26).says("");
    assert!(fs::read(bench.path("Customers.strongroom")).unwrap() == before);
    assert_eq!(names(&bench), ["Customers", "Customers.strongroom", "key"]);
}

#[test]
fn ways_into_a_file_come_and_go() {
    let bench = sealed();
    on_file(&bench, &["slot", "add", "anna", "--new-key-file", "anna.key"]).ends(0).complains("").says(
        "keep         the new key file anna.key\n\
         anna opens the file by key file: all of it, and changes nothing\n",
    );
    let open = |key: &str| {
        let args = ["open", "Customers.strongroom", "--target", key, "--key-file"];
        bench.run(&[&args[..], &[&format!("{key}.key")]].concat())
    };
    open("anna").ends(0);
    let slot = ["--vault", "Customers.strongroom", "--key-file", "anna.key", "slot"];
    bench.run(&[&slot[..], &["add", "eve", "--new-key-file", "eve.key"]].concat()).ends(26).says("");
    bench.run(&["seal", "Customers", "--key-file", "anna.key"]).ends(26).says("");
    assert!(!bench.path("eve.key").exists());
    on_file(&bench, &["slot", "passwd", "anna", "--new-key-file", "new.key"]).ends(0).says(
        "keep         the new key file new.key\n\
         This file is open to anna by the new key file only\n\
         Copies of the file as it was still open with the old key file\n",
    );
    fs::remove_dir_all(bench.path("anna")).unwrap();
    open("anna").ends(12);
    open("new").ends(0);
    on_file(&bench, &["slot", "remove", "anna"]).ends(0).complains("").says(
        "This file is no longer open to anna: all of it was sealed anew under new keys\n\
         Copies of the file as it was still open with that key file\n",
    );
    fs::remove_dir_all(bench.path("new")).unwrap();
    open("new").ends(12);
    on_file(&bench, &["verify", "--read-all"]).ends(0);
    on_file(&bench, &["slot", "remove", "you"]).ends(26).says("");
    bench.keyed(&["open", "Customers.strongroom", "--target", "out"]).ends(0);
    assert_eq!(tree(&bench.path("out")), tree(&bench.path("Customers")));
}

#[test]
fn a_file_in_parts_is_read_and_sealed_again_as_one() {
    let bench = Bench::new();
    for number in 0..3_u8 {
        bench.write(&format!("Scans/{number}"), &noise(number, 300_000));
    }
    let run = bench.keyed(&["seal", "Scans", "--split", "200kB"]).ends(0).complains("");
    assert!(run.out.contains("\nScans.strongroom: 3 files, 900 kB in "), "{}", run.out);
    let parts = names(&bench);
    assert!(parts.len() > 5 && parts.contains(&"Scans.strongroom.005".to_owned()), "{parts:?}");
    assert!(!bench.path("Scans.strongroom").exists());
    bench.keyed(&["open", "Scans.strongroom", "--target", "one"]).ends(0);
    bench.keyed(&["open", "Scans.strongroom.001", "--target", "two"]).ends(0);
    assert_eq!(tree(&bench.path("one")), tree(&bench.path("Scans")));
    assert_eq!(tree(&bench.path("two")), tree(&bench.path("Scans")));
    bench.write("Scans/0", b"small now");
    bench.keyed(&["seal", "Scans"]).ends(0).complains("");
    assert!(!bench.path("Scans.strongroom").exists());
    bench.keyed(&["open", "Scans.strongroom.001", "--target", "three"]).ends(0);
    assert_eq!(tree(&bench.path("three")), tree(&bench.path("Scans")));
    bench.keyed(&["--vault", "Scans.strongroom", "verify", "--read-all"]).ends(0);

    fs::rename(bench.path("Scans.strongroom.002"), bench.path("away")).unwrap();
    let run = bench.keyed(&["open", "Scans.strongroom.001", "--target", "four"]).ends(20).says("");
    assert!(run.err.contains("Scans.strongroom.002") && run.err.contains("a missing part"), "{}", run.err);
    assert!(!bench.path("four").exists());
    bench.keyed(&["seal", "Scans", "-o", "x", "--split", "10"]).ends(2).says("");
}

/// Bytes that don't compress.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 0x9e37_79b9_7f4a_7c15;
    let step = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state >> 24).to_le_bytes()[0]
    };
    std::iter::repeat_with(step).take(length).collect()
}

#[test]
fn who_signed_a_file_is_told_to_whoever_opens_it() {
    let bench = Bench::with_vault();
    bench.write("Customers/a.txt", b"alpha\n");
    let run = bench.keyed(&["seal", "Customers", "--sign"]).ends(0).complains("");
    assert!(run.out.ends_with(", sealed for you; signed\n"), "{}", run.out);
    let open = |bench: &Bench, target: &str, more: &[&str]| {
        bench.keyed(&[&["open", "Customers.strongroom", "--target", target], more].concat())
    };
    let known = open(&bench, "one", &[]).ends(0).complains("");
    assert!(
        known.out.starts_with("sealed by device ID of a vault that this machine knows: "),
        "{}",
        known.out
    );
    let inspection = &bench.run(&["inspect", "--json"]).ends(0).json()[0];
    let own = inspection["fingerprint"].as_str().unwrap().to_owned();
    open(&bench, "two", &["--from", &own]).ends(0);
    let messages = open(&bench, "json", &["--json"]).ends(0).json();
    let opened = messages.last().unwrap();
    assert_eq!(
        (opened["sender_vault"].as_str(), &opened["sender_known"]),
        (Some(own.as_str()), &true.into())
    );
    open(&bench, "three", &["--from", &"ab".repeat(32)])
        .ends(26)
        .says("")
        .complains("error: a device of another vault sealed this file; nothing was opened\n");
    assert!(!bench.path("three").exists());

    // On another machine.
    let other = Bench::new();
    for name in ["key", "Customers.strongroom"] {
        fs::copy(bench.path(name), other.path(name)).unwrap();
    }
    let unknown = open(&other, "one", &[]).ends(0).complains("");
    assert!(
        unknown.out.starts_with("sender unverified: signed by device ID of the vault "),
        "{}",
        unknown.out
    );
    assert!(unknown.out.contains("; whether it was shut out since was not checked\n"), "{}", unknown.out);
    assert!(unknown.out.contains(" (FINGERPRINT); whether"), "{}", unknown.out);
    let words = inspection["fingerprint_words"].as_str().unwrap();
    for (number, from) in [own.as_str(), words, &words.to_uppercase()].into_iter().enumerate() {
        let named = open(&other, &format!("named{number}"), &["--from", from]).ends(0);
        let is_named = named.out.starts_with("sealed by device ID of the vault that was named: ");
        assert!(is_named && named.out.contains("was not checked\n"), "{}", named.out);
    }
    let messages = open(&other, "two", &["--from", words, "--json"]).ends(0).json();
    assert_eq!(messages.last().unwrap()["sender_known"], true);
    let typed = words.replacen(' ', " zoo ", 1);
    open(&other, "three", &["--from", &typed]).ends(2).says("");

    // Sealed again without signing, nobody signed it.
    bench.write("Customers/a.txt", b"beta\n");
    bench.keyed(&["seal", "Customers"]).ends(0);
    open(&bench, "four", &["--from", &own]).ends(26).says("").complains(
        "error: nobody signed this file; nothing was opened\n  \
         hint: whoever seals it signs it with `strongroom seal --sign`\n",
    );
    let none = Bench::new();
    none.write("Customers/a.txt", b"alpha\n");
    none.keyed(&["seal", "Customers", "--sign"]).ends(10).says("");
    assert_eq!(names(&none), ["Customers"]);
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let bench = Bench::new();
    // Compressing this as well as can be takes many seconds.
    let text: String =
        (0..1_500_000_u64).map(|number| format!("row {number}, {}\n", number * 7_919 % 10_007)).collect();
    bench.write("Rows/rows.csv", text.as_bytes());
    let key = [("STRONGROOM_KEY_FILE", "key")];
    let args = ["seal", "Rows", "--compression", "19", "--recovery-code-out", "page"];
    let mut terminal = bench.at_terminal(&args, &key);
    terminal.sees("sealing");
    terminal.breaks();
    let (text, exit) = terminal.ends();
    assert_eq!(exit, 130, "{text}");
    assert_eq!(names(&bench), ["Rows"]);

    bench.keyed(&["seal", "Rows", "--compression", "1"]).ends(0);
    let before = fs::read(bench.path("Rows.strongroom")).unwrap();
    let mut rows = fs::read(bench.path("Rows/rows.csv")).unwrap();
    rows.iter_mut().step_by(20_000).for_each(|byte| *byte ^= 1);
    bench.write("Rows/rows.csv", &rows);
    let mut terminal = bench.at_terminal(&["seal", "Rows", "--compression", "19"], &key);
    terminal.sees("sealing");
    terminal.breaks();
    let (text, exit) = terminal.ends();
    assert_eq!(exit, 130, "{text}");
    assert_eq!(names(&bench), ["Rows", "Rows.strongroom", "key"]);
    assert!(fs::read(bench.path("Rows.strongroom")).unwrap() == before);
}

/// Reading, packing and carrying wait for each other, and have one thread of each kind then.
#[test]
fn a_machine_with_one_core_seals_a_folder_and_seals_it_again() {
    let bench = bench();
    // More than lies between those who read and those who pack, and no two stretches alike.
    let rows: String = (0..700_000)
        .map(|number: u64| format!("{:016x}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    bench.write("Customers/rows.csv", rows.as_bytes());
    for number in 0..300_u32 {
        bench.write(&format!("Customers/many/{number}.txt"), format!("{number:04000}").as_bytes());
    }
    let one = [("STRONGROOM_KEY_FILE", "key"), ("RAYON_NUM_THREADS", "1")];
    bench.run_with(&["seal", "Customers"], &one, b"").ends(0);
    for number in (0..300_u32).step_by(7) {
        bench.write(&format!("Customers/many/{number}.txt"), format!("{number:04001}").as_bytes());
    }
    bench.run_with(&["seal", "Customers"], &one, b"").ends(0);
    bench.run_with(&["open", "Customers.strongroom", "--target", "opened"], &one, b"").ends(0);
    assert!(tree(&bench.path("opened")) == tree(&bench.path("Customers")));
}

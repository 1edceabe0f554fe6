//! `slot`, `device`, `rotate`, `reencrypt`: people and machines that come and go.

use std::fs;

use crate::bench::Bench;

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
    bench.write("weak", b"password1\n");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(bench.path("weak"), private).unwrap();
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
    let card = |number: u8| format!("cards/card-{number}-of-3.txt");
    let (one, two, three) = (card(1), card(2), card(3));
    for pair in [[&one, &two], [&two, &three], [&three, &one]] {
        let args = ["slot", "test", "--card-file", pair[0], "--card-file", pair[1]];
        bench.run(&args).ends(0).says("these cards open slot board as owner\n");
    }
    bench.run(&["slot", "test", "--card-file", &one]).ends(12).complains(
        "error: it takes 2 cards, and here are 1\n  hint: give enough cards of one set, each with --card-file\n",
    );
    let run =
        bench.run(&["slot", "test", "--card-file", &one, "--card-file", "others/card-1-of-2.txt"]).ends(12);
    assert!(run.err.starts_with("error: the cards are of different sets: "), "{}", run.err);
    let run = bench.run(&["slot", "test", "--card-file", &one, "--card-file", &one]).ends(2);
    assert!(run.err.starts_with("error: card 1 is there twice\n"), "{}", run.err);
    let page = fs::read_to_string(bench.path(&one)).unwrap();
    let wrong = page.replacen("STRONGROOM-CARD-1:2", "STRONGROOM-CARD-1:3", 1);
    assert!(wrong != page);
    bench.write("wrong", wrong.as_bytes());
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(bench.path("wrong"), private).unwrap();
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
    bench.write("identity", format!("# a comment\n{}\n", *recipient::encode_identity(&key)).as_bytes());
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(bench.path("identity"), private).unwrap();
    bench.keyed(&["slot", "add", "auditor", "--recipient", &recipient]).ends(0).says(
        "auditor opens the vault by outside recipient: all snapshots of all devices, and changes nothing\n",
    );
    let stranger = bench.path("stranger");
    fs::create_dir(&stranger).unwrap();
    let home = [("HOME", stranger.to_str().unwrap())];
    let run = bench.run_with(&["snapshots", "-i", "identity"], &home, b"").ends(26);
    assert!(run.err.contains("hint: give --fingerprint"), "{}", run.err);
    let status = bench.run(&["status", "--json"]).ends(0).json();
    let fingerprint = status[0]["fingerprint"].as_str().unwrap().to_owned();
    let args = ["snapshots", "--identity", "identity", "--fingerprint", &fingerprint];
    bench.run_with(&args, &home, b"").ends(0);
    // From then on the machine knows.
    bench.run_with(&["snapshots", "-i", "identity"], &home, b"").ends(0);
    bench.run_with(&["slot", "list", "-i", "identity"], &home, b"").ends(0);
}

#[test]
fn a_machine_asks_an_owner_compares_and_its_next_backup_finds_its_keys() {
    let bench = Bench::with_snapshots();
    let laptop = bench.path("laptop");
    fs::create_dir(&laptop).unwrap();
    let home = [("HOME", laptop.to_str().unwrap())];
    let run = bench.run_with(&["device", "request"], &home, b"").ends(26);
    assert!(run.err.contains("nobody can be asked whether it is the right one"), "{}", run.err);
    let status = bench.run(&["status", "--json"]).ends(0).json();
    let fingerprint = status[0]["fingerprint"].as_str().unwrap().to_owned();

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

    let run = bench.keyed(&["device", "approve"]).ends(2);
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

#[test]
fn where_two_owners_were_cut_off_as_they_met_all_stop_until_one_of_them_settles_it() {
    let bench = Bench::with_snapshots();
    let home = |name: &str| {
        fs::create_dir_all(bench.path(name)).unwrap();
        bench.path(name).to_str().unwrap().to_owned()
    };
    let (second, third) = (home("second"), home("third"));
    // Each adds somebody to a copy of his own, and then both stand in one.
    let (vault, copy) = (bench.path("vault"), bench.path("copy"));
    let copied = std::process::Command::new("cp").arg("-a").args([&vault, &copy]).status();
    assert!(copied.unwrap().success());
    bench.keyed(&["slot", "add", "anna", "--new-key-file", "anna.key"]).ends(0);
    let by = |home: &str, args: &[&str]| {
        bench.run_with(args, &[("HOME", home), ("STRONGROOM_KEY_FILE", "key")], b"")
    };
    let there = copy.to_str().unwrap();
    by(&second, &["--vault", there, "slot", "add", "bob", "--new-key-file", "bob.key"]).ends(0);
    for (name, bytes) in crate::bench::tree(&copy) {
        if !vault.join(&name).exists() {
            bench.write(vault.join(&name).to_str().unwrap(), &bytes);
        }
    }

    let stop = "error: the vault's history was forked: two records stand at place 3, the last of its log\n  \
                hint: two owners' commands were cut off as they met: any command that takes an owner's key and changes \
                something, such as `strongroom rotate`, lets one of them stand with `--settle-fork`\n";
    bench.run(&["backup", "source"]).ends(21).complains(stop);
    by(&third, &["snapshots"]).ends(21).complains(stop);
    by(&third, &["rotate"]).ends(21).complains(stop);
    let run = by(&third, &["slot", "add", "carl", "--new-key-file", "carl.key", "--settle-fork"]).ends(0);
    assert_eq!(
        run.err,
        "warning: two owners' commands had been cut off as they met; `keys, generation 2, epoch 1 the newest` stands, and \
         `keys, generation 2, epoch 1 the newest` counts for nothing: whoever gave that command gives it again\n"
    );
    let slots = by(&third, &["slot", "list"]).ends(0).out;
    assert!(slots.contains("carl") && (slots.contains("anna") != slots.contains("bob")), "{slots}");
    by(&third, &["verify"]).ends(0);
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
    assert!(run.err.starts_with("note: 1 device has not backed up since the keys changed: "), "{}", run.err);
    assert!(!run.out.contains("stated"), "{}", run.out);
    bench.run(&["backup", "source"]).ends(0);
    let message = bench.keyed(&["reencrypt", "--json"]).ends(0).json().remove(0);
    assert_eq!(message["devices_behind"], 0);
    let statement = message["statement"].as_str().unwrap();
    bench.run(&["verify", "--statement", statement]).ends(0);

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

//! `incident`: what a theft exposes, and shutting out what was stolen.

use std::fs;

use serde_json::Value;

use crate::bench::Bench;

/// With a reader called anna, and two snapshots of this machine, called laptop, years apart.
fn with_people() -> Bench {
    let bench = Bench::new();
    bench.run(&["init", "--name", "laptop", "--key-file", "key", "--recovery-code-out", "code"]).ends(0);
    bench.write("source/a.txt", b"alpha\n");
    bench.run(&["backup", "source", "--time", "2030-01-01T12:00:00Z"]).ends(0);
    bench.write("source/a.txt", b"beta\n");
    bench.run(&["backup", "source", "--time", "2031-01-01T12:00:00Z"]).ends(0);
    bench.keyed(&["slot", "add", "anna", "--new-key-file", "anna.key"]).ends(0);
    bench
}

fn snapshots(bench: &Bench) -> usize {
    bench.keyed(&["snapshots", "--json"]).ends(0).json().len()
}

fn lines(message: &Value, name: &str) -> String {
    let sections = message["sections"].as_array().unwrap();
    let section = sections.iter().find(|section| section["name"] == name).unwrap();
    section["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn without_yes_nothing_is_changed_and_all_is_told() {
    let bench = with_people();
    let before = bench.but_for_the_log();
    for stolen in [["--device", "laptop"], ["--slot", "anna"], ["--slot", "recovery code"]] {
        let run = bench.keyed(&[&["incident"], &stolen[..]].concat()).ends(0).complains("");
        assert!(run.out.contains("\nWhat would be done: nothing was changed\n"), "{}", run.out);
        assert!(run.out.contains("  - Run the same with --yes\n"), "{}", run.out);
    }
    assert!(bench.but_for_the_log() == before);
    bench.run(&["backup", "source"]).ends(0);
    bench.keyed(&["incident", "--slot", "anna", "--budget", "1m"]).ends(2);
}

#[test]
fn a_stolen_machine_is_shut_out_at_the_snapshot_that_is_named() {
    let bench = with_people();
    let args = ["incident", "--device", "laptop", "--since", "2030-06-01"];
    let last = ["--last", "1", "--yes", "--json", "--report", "r.html"];
    let messages = bench.keyed(&[&args[..], &last].concat()).ends(0).json();
    let message = messages.iter().find(|message| message["message_type"] == "incident").unwrap();
    assert_eq!((&message["dry_run"], &message["complete"]), (&Value::Bool(false), &Value::Bool(true)));
    assert_eq!((&message["device"]["last"], &message["newest_epoch"]), (&1.into(), &2.into()));
    let suspects = message["device"]["suspects"].as_array().unwrap();
    assert_eq!(
        (suspects.len(), &suspects[0]["seq"], &suspects[0]["counts"]),
        (1, &2.into(), &Value::Bool(false))
    );
    assert!(lines(message, "could_not").contains("Read anything in the vault"), "{message}");
    assert!(lines(message, "added").contains("gone for good once all is sealed anew"), "{message}");
    assert!(lines(message, "done").contains("its snapshots up to number 1 count"), "{message}");
    assert_eq!(messages.last().unwrap()["message_type"], "reencrypted");
    // The page has every line that the others have.
    let page = fs::read_to_string(bench.path("r.html")).unwrap();
    assert!(!page.contains("<script") && !page.contains("http"), "{page}");
    assert!(!page.contains('`') && page.contains("<code>strongroom verify</code>"), "{page}");
    let marks = ["<code>", "</code>", "<span class=\"word\">", "</span>"];
    let plain = marks.iter().fold(page.clone(), |page, mark| page.replace(mark, ""));
    for section in message["sections"].as_array().unwrap() {
        for line in section["lines"].as_array().unwrap() {
            let line = line.as_str().unwrap().replace('`', "").replace('\'', "&#39;").replace('"', "&quot;");
            assert!(plain.contains(&format!("<li>{line}</li>")), "{line}\n{plain}");
        }
    }
    assert_eq!(snapshots(&bench), 1);
    let run = bench.run(&["backup", "source"]).ends(26);
    assert!(run.err.starts_with("error: an owner revoked this device (ID)\n"), "{}", run.err);
    bench.keyed(&["verify", "--read-all"]).ends(0);

    assert!(
        lines(message, "stolen").contains(&format!("Backed up of it was: {}", bench.inner("source"))),
        "{message}"
    );
    assert!(!lines(message, "added").contains("They stay"), "{message}");
    assert!(lines(message, "remains").contains("Run `strongroom verify`"), "{message}");

    // Once more changes nothing about the machine.
    let again = bench.keyed(&["incident", "--device", "laptop"]).ends(0);
    assert!(again.out.contains("laptop was shut out before, and stays so\n"), "{}", again.out);
    let past = "  - Snapshot 2 (ID) stands past where the machine was shut out, put there before or since: it counts for \
                nothing\n";
    assert!(again.out.contains(past), "{}", again.out);
}

#[test]
fn the_name_of_a_machine_that_was_shut_out_means_the_one_that_has_it_now() {
    let bench = with_people();
    let machine = |bench: &Bench| {
        let devices = bench.keyed(&["device", "list", "--json"]).ends(0).json();
        let own = devices.into_iter().find(|device| device["this_machine"] == true).unwrap();
        own["device"].as_str().unwrap().to_owned()
    };
    // Ids are drawn, and the first by id was taken: with three of one name it hardly was the right one each time.
    for _ in 0..3 {
        let old = machine(&bench);
        bench.keyed(&["device", "revoke", "laptop"]).ends(0);
        fs::remove_dir_all(bench.path("home/.local/state/strongroom")).unwrap();
        bench.keyed(&["device", "add", "--name", "laptop"]).ends(0);
        let new = machine(&bench);
        let found = |name: &str| {
            let messages = bench.keyed(&["incident", "--device", name, "--json"]).ends(0).json();
            messages[0]["device"]["device"].as_str().unwrap().to_owned()
        };
        assert_eq!(found("laptop"), new);
        assert_eq!(found(&old), old, "by its id it is still there");
    }
    bench.keyed(&["device", "revoke", "laptop"]).ends(0);
    let run = bench.keyed(&["device", "revoke", "laptop"]).ends(1);
    assert!(
        run.err.starts_with("error: 4 machines can be meant by laptop: ID (revoked), ID (revoked), "),
        "{}",
        run.err
    );
}

#[test]
fn no_clock_costs_a_snapshot() {
    let bench = with_people();
    // The clock ran years ahead once: what was made after it, and before the theft, is as good as any.
    bench.run(&["backup", "source", "--time", "2026-01-01T12:00:00Z"]).ends(0);
    let since = ["incident", "--device", "laptop", "--since", "2030-06-01"];
    let message = bench.keyed(&[&since[..], &["--json"]].concat()).ends(0).json().remove(0);
    assert_eq!((&message["device"]["last"], &message["device"]["clock_is_off"]), (&3.into(), &true.into()));
    let run = bench.keyed(&[&since[..], &["--yes"]].concat()).ends(0);
    for said in [
        "  - Snapshot 2 (ID) of DATE TIME +00:00: goes on counting\n",
        "  - Snapshot 3 (ID) of DATE TIME +00:00: goes on counting\n",
        "the machine's clock was wrong, or somebody wrote what he liked, and all of them may be good\n",
        "to let those from 2 on count no more, give `--last 1`, here or to `strongroom device revoke`\n",
        "laptop is shut out; its snapshots up to number 3 count\n",
    ] {
        assert!(run.out.contains(said), "{said}\n---\n{}", run.out);
    }
    assert_eq!(snapshots(&bench), 3);
    bench.keyed(&["restore", "latest", "--target", "out"]).ends(0);
    // What is none of the machine's can be taken out later, too.
    let listed = |last: &str| {
        bench.keyed(&["device", "revoke", "laptop", "--last", last]).ends(0);
        bench.keyed(&["device", "list"]).ends(0).out
    };
    assert!(listed("2").contains("          1 of its snapshots doesn't count\n"));
    let run = bench.keyed(&["verify"]).ends(0);
    assert!(run.err.contains("1 snapshot of revoked devices counts for nothing\n"), "{}", run.err);
    assert!(listed("1").contains("          2 of its snapshots don't count\n"));
    assert_eq!(snapshots(&bench), 1);
    assert!(listed("0").contains("(revoked): none of its snapshots counts\n"));
}

/// Adds what a thief adds who has the machine's state: a second snapshot at the next place.
pub fn fork(bench: &Bench) {
    let shell = |script: &str| {
        let status =
            std::process::Command::new("sh").args(["-ec", script]).current_dir(bench.path("")).status();
        assert!(status.unwrap().success());
    };
    shell("cp -a vault before; cp -a home/.local/state state");
    bench.run(&["backup", "source", "--time", "2032-01-01T12:00:00Z"]).ends(0);
    shell("mv vault after; mv before vault; rm -rf home/.local/state; mv state home/.local/state");
    bench.write("source/a.txt", b"a thief's\n");
    bench.run(&["backup", "source", "--time", "2033-01-01T12:00:00Z"]).ends(0);
    shell("chmod -R u+w vault after; cp -rn after/. vault/ || true");
}

#[test]
fn a_thief_who_forks_the_machines_chain_does_not_keep_it_from_being_shut_out() {
    let bench = with_people();
    fork(&bench);
    let list = bench.keyed(&["device", "list"]).ends(21);
    assert!(list.err.starts_with("warning: device ID (laptop): "), "{}", list.err);
    let args = ["incident", "--device", "laptop", "--since", "2031-06-01"];
    let run = bench.keyed(&args).ends(0);
    for said in [
        "Its chain can't be read to its end: the vault's history was forked: device ID has two snapshots at place 3. ",
        "  - Snapshot 3 (ID): by the machine or by its thief; can't count\n",
        "With --yes: laptop is shut out; its snapshots up to number 2 count\n",
    ] {
        assert!(run.out.contains(said), "{said}\n---\n{}", run.out);
    }
    let run = bench.keyed(&[&args[..], &["--yes"]].concat()).ends(26);
    assert!(run.err.contains("\n  hint: `--last 2` ends its chain there and shuts it out; "), "{}", run.err);
    bench.keyed(&[&args[..], &["--yes", "--last", "2"]].concat()).ends(0);
    assert_eq!(snapshots(&bench), 2);
    bench.keyed(&["verify", "--read-all"]).ends(0);
}

#[test]
fn where_no_new_keys_can_be_made_the_machine_is_shut_out_and_what_remains_is_said() {
    let bench = with_people();
    // Where a file is no slot table's second copy can be put.
    fs::rename(bench.path("vault/2/k"), bench.path("k")).unwrap();
    bench.write("vault/2/k", b"");
    let run = bench.keyed(&["incident", "--device", "laptop", "--yes", "--report", "r.html"]).ends(20);
    let hint = "\n  hint: the machine is shut out, and the keys are as they were: `strongroom rotate --reencrypt` does the rest";
    assert!(run.err.contains(hint), "{}", run.err);
    for said in [
        "  - laptop is shut out; its snapshots up to number 2 count\n",
        "  - No new keys were made: ",
        "  - Run `strongroom rotate --reencrypt`: ",
    ] {
        assert!(run.out.contains(said), "{said}\n---\n{}", run.out);
    }
    assert!(fs::read_to_string(bench.path("r.html")).unwrap().contains("No new keys were made"));
    bench.run(&["backup", "source"]).ends(26);
    fs::remove_file(bench.path("vault/2/k")).unwrap();
    fs::rename(bench.path("k"), bench.path("vault/2/k")).unwrap();
    bench.keyed(&["rotate", "--reencrypt"]).ends(0);
}

#[test]
fn what_an_owners_record_knew_before_the_theft_is_said_to_be_no_thiefs() {
    let bench = with_people();
    bench.keyed(&["rotate", "--reencrypt"]).ends(0);
    bench.run(&["backup", "source", "--time", "2032-01-01T12:00:00Z"]).ends(0);
    let args = ["incident", "--device", "laptop", "--since", "2030-01-01", "--json"];
    let message = bench.keyed(&args).ends(0).json().remove(0);
    let suspects = message["device"]["suspects"].as_array().unwrap();
    let known: Vec<&Value> = suspects.iter().map(|suspect| &suspect["known_from_before"]).collect();
    assert_eq!(known, [true, true, false], "{message}");
    assert!(lines(&message, "added").contains("so it is no thief's"), "{message}");
}

#[test]
fn without_a_number_all_snapshots_stay_and_one_that_is_not_there_is_refused() {
    let bench = with_people();
    let args = ["incident", "--device", "laptop", "--since", "2030-06-01"];
    let run = bench.keyed(&args).ends(0);
    assert!(run.out.contains("  - Snapshot 2 (ID) of DATE TIME +00:00: goes on counting\n"), "{}", run.out);
    let run = bench.keyed(&["incident", "--device", "laptop", "--last", "0"]).ends(0);
    assert!(
        run.out.contains("With --yes: laptop is shut out; none of its snapshots counts\n"),
        "{}",
        run.out
    );
    let run = bench.keyed(&["incident", "--device", "laptop", "--last", "3", "--yes"]).ends(26);
    let hint = "has no snapshot number 3\n  hint: the report without `--last` lists its snapshots\n";
    assert!(run.err.contains(hint), "{}", run.err);
    let run = bench.keyed(&["incident", "--device", "laptop", "--yes"]).ends(0);
    assert!(run.out.contains("laptop is shut out; its snapshots up to number 2 count\n"), "{}", run.out);
    assert_eq!(snapshots(&bench), 2);
}

#[test]
fn a_stolen_way_in_is_taken_away_with_new_keys_and_what_was_there_is_sealed_anew() {
    let bench = with_people();
    let run = bench
        .keyed(&["incident", "--slot", "anna", "--yes", "--budget", "0s", "--report", "r.html"])
        .ends(25);
    for said in [
        "  - anna (ID), a way in: key file, as reader\n",
        "Read everything, of all machines: now 2 snapshots of 1 machine, ",
        "  - Nothing: a reader's key adds nothing\n",
        "  - A key file has 256 random bits: it can't be guessed, only copied\n",
        "  - anna no longer opens the vault\n",
        "  - Epoch 2 has begun, with new keys. ",
        "  - Run `strongroom reencrypt` until it ends with 0: ",
        "the report is in r.html\n",
    ] {
        assert!(run.out.contains(said), "{said}\n---\n{}", run.out);
    }
    let since = "  - It opened the vault since DATE TIME +00:00, as the log of who did what has it: slot add anna \
                 --new-key-file\n";
    assert!(run.out.contains(since), "{}", run.out);
    bench.run_with(&["snapshots"], &[("STRONGROOM_KEY_FILE", "anna.key")], b"").ends(12);
    bench.keyed(&["reencrypt"]).ends(0);

    let run = bench.keyed(&["incident", "--slot", "recovery code", "--yes"]).ends(0);
    for said in [
        "10^33",
        "Epoch 3",
        "older keys are gone\n",
        "The vault has no recovery code any more: ",
        "  - Nothing says when it was made: it is at most as old as the vault, ",
        "  - Run `strongroom reencrypt` again after the next backup of every machine: ",
    ] {
        assert_eq!(run.out.contains(said), said != "10^33", "{said}\n---\n{}", run.out);
    }
    bench.run(&["slot", "test", "--recovery-code-file", "code"]).ends(12);
    bench.run(&["backup", "source"]).ends(0);
    bench.keyed(&["verify", "--read-all"]).ends(0);
}

#[test]
fn run_again_it_goes_on_with_what_is_left_and_writes_its_own_report_anew() {
    let bench = with_people();
    let yes = ["incident", "--slot", "anna", "--yes", "--report", "r.html"];
    bench.keyed(&[&yes[..], &["--budget", "0s"]].concat()).ends(25);
    assert!(fs::read_to_string(bench.path("r.html")).unwrap().contains("until it ends with 0"));
    let run = bench.keyed(&yes).ends(0);
    for said in [
        "  - anna (ID), a way in: key file, as reader\n",
        "  - A key file has 256 random bits: it can't be guessed, only copied\n",
        "  - anna was taken away before, and opens the vault no more\n",
        "  - Epoch 2 had begun since, with new keys. ",
        "older keys are gone\n",
    ] {
        assert!(run.out.contains(said), "{said}\n---\n{}", run.out);
    }
    assert!(fs::read_to_string(bench.path("r.html")).unwrap().contains("the older keys are gone"));
    // The report of one theft is not written over that of another.
    let run = bench.keyed(&["incident", "--device", "laptop", "--report", "r.html"]).ends(26);
    assert!(run.err.starts_with("error: r.html exists already\n"), "{}", run.err);

    // Another machine knows no more than the vault: that there was such a slot.
    fs::remove_dir_all(bench.path("home/.local/state/strongroom")).unwrap();
    let run = bench.keyed(&["incident", "--slot", "anna", "--yes"]).ends(0);
    assert!(run.out.contains("  - anna (ID), a way in that was taken away before. "), "{}", run.out);
    assert!(run.out.contains("  - Epoch 2 had begun since, with new keys. "), "{}", run.out);
}

#[test]
fn what_was_shut_out_without_new_keys_gets_them() {
    let bench = with_people();
    bench.keyed(&["slot", "remove", "anna"]).ends(0);
    let run = bench.keyed(&["incident", "--slot", "anna", "--yes"]).ends(0);
    assert!(run.out.contains("  - Epoch 2 has begun, with new keys. "), "{}", run.out);
    bench.keyed(&["device", "revoke", "laptop"]).ends(0);
    let run = bench.keyed(&["incident", "--device", "laptop", "--yes", "--budget", "0s"]).ends(25);
    assert!(run.out.contains("  - Epoch 3 has begun, with new keys. "), "{}", run.out);
    let run = bench.keyed(&["incident", "--device", "laptop", "--yes"]).ends(0);
    assert!(run.out.contains("  - Epoch 3 had begun since, with new keys. "), "{}", run.out);
    // An owner's slot whose removal renewed the authority and began no epoch.
    bench.keyed(&["slot", "remove", "recovery code"]).ends(0);
    let run = bench.keyed(&["incident", "--slot", "recovery code", "--yes"]).ends(0);
    assert!(run.out.contains("  - Epoch 4 has begun, with new keys. "), "{}", run.out);
    let run = bench.keyed(&["incident", "--slot", "recovery code", "--yes"]).ends(0);
    assert!(run.out.contains("  - Epoch 4 had begun since, with new keys. "), "{}", run.out);
}

#[test]
fn machines_that_an_owners_thief_may_have_taken_in_are_listed() {
    let bench = with_people();
    let message = |since: &str| {
        bench
            .keyed(&["incident", "--slot", "recovery code", "--since", since, "--json"])
            .ends(0)
            .json()
            .remove(0)
    };
    assert!(lines(&message("2020-01-01"), "added").contains("Machine laptop ("));
    assert!(lines(&message("2020-01-01"), "added").contains(": slot add anna --new-key-file"));
    let none = message("2099-01-01");
    assert!(lines(&none, "added").contains("No machine was taken in since"));
    assert!(lines(&none, "added").contains("No way in was made since"));
}

#[test]
fn wrong_names_readers_the_last_owner_and_ones_own_way_in_are_refused() {
    let bench = with_people();
    let before = bench.but_for_the_log();
    let unknown = "error: nothing in this vault is called ben\n";
    for what in ["--device", "--slot"] {
        let run = bench.keyed(&["incident", what, "ben", "--yes"]).ends(1);
        assert!(run.err.starts_with(unknown), "{}", run.err);
    }
    let run = bench.keyed(&["incident", "--yes"]).ends(2);
    assert!(run.err.contains("<--device <NAME>|--slot <LABEL>>"), "{}", run.err);
    bench.keyed(&["incident", "--slot", "anna", "--last", "3"]).ends(2);
    bench.keyed(&["incident", "--device", "laptop", "--slot", "anna"]).ends(2);
    bench.keyed(&["incident", "--slot", "owner", "--yes"]).ends(26).complains(
        "error: the vault was opened with the very slot that was stolen\n  \
         hint: open the vault with another owner's way in; `strongroom slot add` makes one\n",
    );
    bench.keyed(&["incident", "--device", "laptop", "--report", "code", "--yes"]).ends(26);
    let anna = [("STRONGROOM_KEY_FILE", "anna.key")];
    bench.run_with(&["incident", "--device", "laptop"], &anna, b"").ends(26);
    assert!(bench.but_for_the_log() == before);

    bench.keyed(&["slot", "remove", "recovery code"]).ends(0);
    bench.keyed(&["incident", "--slot", "owner"]).ends(26).complains(
        "error: the vault would be left without an owner\n  \
         hint: add another owner's slot first: `strongroom slot add`\n",
    );
}

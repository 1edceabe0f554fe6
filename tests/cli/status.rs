use crate::bench::Bench;

#[test]
fn the_age_of_the_newest_snapshot_is_told_without_a_key() {
    let bench = Bench::with_snapshots();
    let run = bench.run(&["status"]).ends(0).complains("");
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines[0], "vault        DIR/vault");
    assert_eq!(lines[3], "ways in      1 key file, 1 recovery code");
    assert!(
        lines[4].starts_with("device       ID (this machine): 2 snapshots, the newest of DATE TIME, "),
        "{}",
        lines[4]
    );
    bench.run(&["status", "--max-age", "26h"]).ends(0);
}

#[test]
fn a_snapshot_that_is_too_old_ends_with_22() {
    let bench = Bench::with_snapshots();
    let run = bench.run(&["status", "--max-age", "0s"]).ends(22);
    assert!(run.out.contains(", too old\n"), "{}", run.out);
    assert_eq!(
        run.err,
        "error: the newest snapshot of device ID is too old\n  hint: see why the last backups did not run: `strongroom \
         backup` says it\n"
    );
    let messages = bench.run(&["status", "--max-age", "0s", "--json"]).ends(22).json();
    assert_eq!(messages[0]["message_type"], "vault_status");
    assert_eq!(messages[0]["stale"], true);
    assert_eq!(messages[0]["devices"][0]["snapshots"], 2);
    bench.run(&["status", "--max-age", "26"]).ends(2);
}

#[test]
fn a_vault_without_a_recovery_code_keeps_warning() {
    let bench = Bench::new();
    bench.run(&["init", "--key-file", "key", "--without-recovery-code"]).ends(0);
    let run = bench.run(&["status"]).ends(0);
    assert_eq!(
        run.err,
        "warning: this vault has no recovery code: whoever loses all other ways in loses everything in it\n"
    );
}

#[test]
fn a_machine_that_never_saw_the_vault_says_so() {
    let bench = Bench::with_snapshots();
    let stranger = bench.path("stranger");
    std::fs::create_dir(&stranger).unwrap();
    let home = [("HOME", stranger.to_str().unwrap())];
    let note =
        "this machine has not seen this vault before: compare the fingerprint with the one you noted\n";
    bench.run_with(&["status"], &home, b"").ends(0).complains(note);
    // Asking how old it is does not make it the right one.
    bench.run_with(&["status"], &home, b"").ends(0).complains(note);
    let known = bench.run(&["status", "--json"]).ends(0).json();
    let fingerprint = known[0]["fingerprint"].as_str().unwrap();
    bench.run_with(&["status", "--fingerprint", fingerprint], &home, b"").ends(0);
    bench.run_with(&["status"], &home, b"").ends(0).complains("");
}

#[test]
fn one_device_can_be_asked_for() {
    let bench = Bench::with_snapshots();
    let messages = bench.run(&["status", "--json"]).ends(0).json();
    let id = messages[0]["devices"][0]["device"].as_str().unwrap().to_owned();
    bench.run(&["status", "--device", &id[..6]]).ends(0);
    let run = bench.run(&["status", "--device", "zz"]).ends(1);
    assert!(run.err.starts_with("error: the vault has no such device\n"), "{}", run.err);
}

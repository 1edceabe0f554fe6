//! verify, inspect

use crate::bench::Bench;
use crate::bench::tree;

#[test]
fn a_sound_vault_is_said_to_be_sound_with_and_without_a_key() {
    let bench = Bench::with_snapshots();
    let run = bench.run(&["verify"]).ends(0);
    assert!(run.out.contains("of 2 snapshots are there, in order and signed for"), "{}", run.out);
    let run = bench.keyed(&["check", "--read-all"]).ends(0);
    assert!(run.out.contains("every chunk was opened and is what its id names"), "{}", run.out);
    let messages = bench.run(&["verify", "--json"]).ends(0).json();
    assert_eq!(messages.last().unwrap()["is_sound"], true);
}

#[test]
fn a_passphrase_that_the_environment_names_is_a_key_like_any_other() {
    let bench = Bench::new();
    let command = "echo violet anchor tundra kettle";
    bench.run(&["init", "--password-command", command, "--without-recovery-code"]).ends(0);
    let run = bench.run_with(&["verify"], &[("STRONGROOM_PASSWORD_COMMAND", command)], b"").ends(0);
    assert!(run.out.contains("every directory reads whole"), "{}", run.out);
    let run =
        bench.run_with(&["verify", "--public"], &[("STRONGROOM_PASSWORD_COMMAND", command)], b"").ends(0);
    assert!(!run.out.contains("every directory reads whole"), "{}", run.out);
}

#[test]
fn a_missing_pack_ends_with_20_and_a_missing_snapshot_with_21() {
    let bench = Bench::with_snapshots();
    let vault = bench.path("vault");
    let files = tree(&vault);
    let (pack, bytes) = files.iter().find(|(path, _)| path.starts_with("p")).unwrap();
    std::fs::remove_file(vault.join(pack)).unwrap();
    bench.run(&["verify"]).ends(20);
    std::fs::write(vault.join(pack), bytes).unwrap();
    bench.run(&["verify"]).ends(0);
    for (header, _) in files.iter().filter(|(path, _)| path.starts_with("s") || path.starts_with("2/s")) {
        std::fs::remove_file(vault.join(header)).unwrap();
    }
    bench.run(&["verify"]).ends(21);
}

#[test]
fn what_a_vault_is_made_of_is_shown_without_a_key() {
    let bench = Bench::with_snapshots();
    let run = bench.run(&["inspect"]).ends(0);
    for words in ["format        1\n", "post-quantum  yes", "recovery code", "key file"] {
        assert!(run.out.contains(words), "{words}\n{}", run.out);
    }
    let messages = bench.run(&["inspect", "--json"]).ends(0).json();
    assert_eq!(messages[0]["message_type"], "inspection");
}

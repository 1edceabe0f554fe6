//! export

use crate::bench::Bench;

#[test]
fn an_archive_goes_to_standard_output_and_the_summary_beside_it() {
    let bench = Bench::with_snapshots();
    let run = bench.keyed(&["export", &format!("latest:{}", bench.inner("source"))]).ends(0);
    assert_eq!(run.raw.len() % 10_240, 0);
    assert!(run.raw.ends_with(&[0; 1_024]) && run.raw.windows(8).any(|bytes| bytes == b"source/\0"));
    assert!(run.err.ends_with("exported 3 files, 2 folders (100 kB), all verified\n"), "{}", run.err);
    let run = bench.keyed(&["log"]).ends(0);
    assert!(run.out.contains(" export  ") || run.out.contains(" export "), "{}", run.out);
}

#[test]
fn a_file_gets_its_name_when_it_is_whole_and_never_takes_another_ones() {
    let bench = Bench::with_snapshots();
    let from = format!("latest:{}", bench.inner("source"));
    let run = bench.keyed(&["export", &from, "-o", "out.tar"]).ends(0);
    assert_eq!(run.out, "exported 3 files, 2 folders (100 kB), all verified, to out.tar\n");
    let whole = std::fs::read(bench.path("out.tar")).unwrap();
    let run = bench.keyed(&["export", "latest", "-o", "out.tar"]).ends(26).says("");
    assert_eq!(
        run.err,
        "error: out.tar is there already\n  hint: name a new file, or replace this one with `--force`\n"
    );
    bench.keyed(&["export", &format!("{from}/a.txt"), "-o", "out.tar", "--force"]).ends(0);
    assert!(std::fs::read(bench.path("out.tar")).unwrap().len() < whole.len());
    assert_eq!(parts(&bench), [""; 0]);
    let run = bench.keyed(&["export", &from, "-o", "nowhere/out.tar"]).ends(1).says("");
    assert!(run.err.contains("error: nowhere/out.tar could not be written: "), "{}", run.err);
}

/// Files that an export left unfinished.
fn parts(bench: &Bench) -> Vec<String> {
    let names = std::fs::read_dir(bench.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".part")).collect()
}

#[test]
fn programs_get_the_summary_of_a_file_and_no_archive_among_messages() {
    let bench = Bench::with_snapshots();
    let run = bench.keyed(&["export", "latest", "--json"]).ends(2).says("");
    assert!(run.err.contains("--json and the archive can't both go to standard output"), "{}", run.err);
    let from = format!("latest:{}", bench.inner("source"));
    let messages = bench.keyed(&["export", &from, "--json", "-o", "out.tar"]).ends(0).json();
    let summary = messages.last().unwrap();
    assert_eq!(summary["message_type"], "summary");
    assert_eq!(summary["files_exported"], 3);
    assert_eq!(summary["dirs_exported"], 2);
    assert_eq!(summary["bytes_exported"], 100_019);
}

#[test]
fn of_what_is_damaged_there_is_no_file() {
    let bench = Bench::with_snapshots();
    bench.damage_packs();
    let from = format!("latest:{}", bench.inner("source/sub"));
    let run = bench.keyed(&["export", &from, "-o", "out.tar"]).ends(20).says("");
    assert!(run.err.contains("error: ") && run.err.contains(" is damaged: "), "{}", run.err);
    assert!(!bench.path("out.tar").exists());
    assert_eq!(parts(&bench), [""; 0]);
    bench.keyed(&["export", &from]).ends(20).says("");
}

#[test]
fn a_terminal_gets_no_archive() {
    let bench = Bench::with_snapshots();
    let terminal = bench.at_terminal(&["export", "latest"], &[("STRONGROOM_KEY_FILE", "key")]);
    let (text, exit) = terminal.ends();
    assert!(exit == 2 && text.contains("an archive is nothing for a terminal"), "{text}");
}

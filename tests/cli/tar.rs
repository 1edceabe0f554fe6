//! export, import

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

/// The source of the newest snapshot as an archive.
fn exported(bench: &Bench) -> Vec<u8> {
    bench.keyed(&["export", &format!("latest:{}", bench.inner("source"))]).ends(0).raw
}

#[test]
fn an_archive_becomes_a_snapshot_without_a_passphrase() {
    let bench = Bench::with_snapshots();
    bench.write("old.tar", &exported(&bench));
    let run =
        bench.run(&["import", "old.tar", "--host", "attic", "--tag", "old", "--time", "2020-01-02"]).ends(0);
    assert!(run.out.starts_with("files     3 new, 0 changed, 0 unchanged (100 kB)\n"), "{}", run.out);
    assert!(run.out.ends_with("\nreceipt   RECEIPT\n"), "{}", run.out);
    let listed = bench.keyed(&["snapshots", "--json", "--host", "attic"]).ends(0).json();
    assert_eq!(listed[0]["tags"], serde_json::json!(["old"]));
    assert_eq!(listed[0]["paths"], serde_json::json!(["/"]));
    assert!(listed[0]["time"].as_str().unwrap().starts_with("2020-01-02"), "{listed:?}");
    let dump = ["dump", "latest:source/a.txt", "--host", "attic", "-q"];
    bench.keyed(&dump).ends(0).says("alpha, changed\n");
}

#[test]
fn an_archive_comes_from_standard_input_too_and_programs_are_told() {
    let bench = Bench::with_snapshots();
    let archive = exported(&bench);
    let args = ["import", "-", "--path", "/srv/www", "--json"];
    let messages = bench.run_with(&args, &[], &archive).ends(0).json();
    let summary = messages.last().unwrap();
    assert_eq!(summary["message_type"], "summary");
    assert_eq!(summary["total_files_processed"], 3);
    assert_eq!(summary["dirs_processed"], 2);
    assert!(summary["data_added"].as_u64().unwrap() < 2_000, "the vault holds the contents: {summary}");
    let listed = bench.keyed(&["snapshots", "latest", "--json"]).ends(0).json();
    assert_eq!(listed[0]["paths"], serde_json::json!(["/srv/www"]));
}

#[test]
fn what_is_wrong_with_an_archive_is_said_and_no_snapshot_is_added() {
    let bench = Bench::with_snapshots();
    let whole = exported(&bench);
    let mut joined = whole.clone();
    joined.extend_from_slice(&whole);
    let table: [(&[u8], i32, &str); 5] = [
        (
            b"\x28\xb5\x2f\xfd and so on",
            2,
            "error: the archive is compressed\n  hint: unpack it on the way: `zstd -dc FILE | strongroom import -`\n",
        ),
        (
            b"a letter",
            2,
            "error: this is no tar archive\n  hint: a single file is added by `strongroom backup`\n",
        ),
        (
            &whole[..3_000],
            20,
            "error: the archive is cut short\n  hint: no snapshot was added: get the archive again from where it came\n",
        ),
        (
            &joined,
            20,
            "error: something follows the end of the archive\n  hint: no snapshot was added: archives that were \
             joined are imported one by one\n",
        ),
        (
            &[&whole[..1_536], &whole].concat(),
            26,
            "error: source in the archive is there twice\n  hint: no snapshot was added: ask whoever made the \
             archive for one without it; programs that unpack it may do harm\n",
        ),
    ];
    for (archive, exit, message) in table {
        bench.write("in.tar", archive);
        bench.run(&["import", "in.tar"]).ends(exit).says("").complains(message);
    }
    let run = bench.run(&["import", "nowhere.tar"]).ends(1).says("");
    assert!(run.err.contains("error: nowhere.tar could not be opened: "), "{}", run.err);
    assert_eq!(bench.keyed(&["snapshots", "--json"]).ends(0).json().len(), 2);
}

#[test]
fn a_dry_import_adds_nothing() {
    let bench = Bench::with_snapshots();
    let archive = exported(&bench);
    let run = bench.run_with(&["import", "-", "-n"], &[], &archive).ends(0);
    assert!(run.out.ends_with("nothing was stored: this was a dry run\n"), "{}", run.out);
    assert_eq!(bench.keyed(&["snapshots", "--json"]).ends(0).json().len(), 2);
}

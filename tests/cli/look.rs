//! snapshots, ls, find, dump, diff, stats

use crate::bench::Bench;

#[test]
fn snapshots_are_listed_oldest_first() {
    let bench = Bench::with_snapshots();
    let run = bench.keyed(&["list"]).ends(0).complains("");
    let lines: Vec<&str> = run.out.lines().collect();
    let [head, first, second, sum] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(head.starts_with("ID        Time                 Host   Device"), "{head}");
    assert!(
        first.starts_with("ID  DATE TIME  alice") && first.contains(" one ") && first.ends_with("DIR/source")
    );
    assert!(second.contains(" two "), "{second}");
    assert_eq!(*sum, "2 snapshots");
}

#[test]
fn snapshots_are_filtered() {
    let bench = Bench::with_snapshots();
    let source = bench.inner("source");
    let table: [(&[&str], usize); 10] = [
        (&[], 2),
        (&["--host", "alice"], 2),
        (&["--host", "bob"], 0),
        (&["--tag", "one"], 1),
        (&["--tag", "one,two"], 0),
        (&["--tag", "one", "--tag", "two"], 2),
        (&["--path", &source], 2),
        (&["--path", "/nowhere"], 0),
        (&["--time", "2020-01-01"], 0),
        (&["--latest", "1"], 1),
    ];
    for (filter, count) in table {
        let args = [&["snapshots", "--json"], filter].concat();
        assert_eq!(bench.keyed(&args).ends(0).json().len(), count, "{filter:?}");
    }
    bench.keyed(&["snapshots", "--host", "bob"]).ends(0).says("").complains("no snapshot fits\n");
}

#[test]
fn programs_get_a_snapshot_a_line() {
    let bench = Bench::with_snapshots();
    let messages = bench.keyed(&["snapshots", "--json"]).ends(0).json();
    let first = &messages[0];
    assert_eq!(first["message_type"], "snapshot");
    assert_eq!(first["hostname"], "alice");
    assert_eq!(first["tags"], serde_json::json!(["one"]));
    assert_eq!(first["paths"], serde_json::json!([bench.inner("source")]));
    assert_eq!(first["summary"]["total_files_processed"], 2);
    assert!(first["id"].as_str().unwrap().starts_with(first["short_id"].as_str().unwrap()));
}

#[test]
fn a_snapshot_is_chosen_by_age_or_by_the_beginning_of_its_id() {
    let bench = Bench::with_snapshots();
    let messages = bench.keyed(&["snapshots", "--json"]).ends(0).json();
    let id = messages[0]["id"].as_str().unwrap();
    let file = bench.inner("source/a.txt");
    bench.keyed(&["dump", "latest", &file, "-q"]).ends(0).says("alpha, changed\n");
    bench.keyed(&["dump", "latest~1", &file, "-q"]).ends(0).says("alpha\n");
    bench.keyed(&["dump", &id[..10], &file, "-q"]).ends(0).says("alpha\n");
    bench.keyed(&["dump", &format!("{id}:{file}"), "-q"]).ends(0).says("alpha\n");
    let run = bench.keyed(&["dump", "latest~2", &file]).ends(1);
    assert!(run.err.starts_with("error: there is no snapshot latest~2\n"), "{}", run.err);
    let run = bench.keyed(&["dump", "newest", &file]).ends(2);
    assert!(run.err.starts_with("error: newest names no snapshot\n"), "{}", run.err);
}

#[test]
fn a_folder_is_listed_flat_or_whole() {
    let bench = Bench::with_snapshots();
    let source = bench.inner("source");
    bench
        .keyed(&["ls", "latest~1", &source])
        .ends(0)
        .complains("snapshot ID of alice, DATE TIME\n")
        .says("DIR/source/a.txt\nDIR/source/link\nDIR/source/sub\n");
    let part = format!("latest:{source}");
    bench
        .keyed(&["ls", "-R", &part, "-q"])
        .ends(0)
        .says("DIR/source/a.txt\nDIR/source/c.txt\nDIR/source/sub\nDIR/source/sub/b.bin\n");
    let run = bench.keyed(&["ls", "-l", "latest~1", &source, "-q"]).ends(0);
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(
        lines[0].starts_with("-rw-") && lines[0].contains(" 6 DATE TIME DIR/source/a.txt"),
        "{}",
        run.out
    );
    assert!(
        lines[1].starts_with("lrwxrwxrwx") && lines[1].ends_with("DIR/source/link -> a.txt"),
        "{}",
        run.out
    );
    assert!(lines[2].starts_with("drwx") && lines[2].contains(" - DATE"), "{}", run.out);
    let run = bench.keyed(&["ls", "latest", "/nowhere"]).ends(1);
    assert!(run.err.contains("error: the snapshot holds nothing at nowhere\n"), "{}", run.err);
}

#[test]
fn things_are_found_in_all_snapshots() {
    let bench = Bench::with_snapshots();
    bench.keyed(&["find", "*.TXT", "--ignore-case"]).ends(0).complains("").says(
        "in snapshot ID of alice, DATE TIME:\nDIR/source/a.txt\nDIR/source/c.txt\n\
         in snapshot ID of alice, DATE TIME:\nDIR/source/a.txt\n",
    );
    bench
        .keyed(&["find", "*", "--larger", "50K", "-s", "latest"])
        .ends(0)
        .says("in snapshot ID of alice, DATE TIME:\nDIR/source/sub/b.bin\n");
    bench.keyed(&["find", "*", "--type", "symlink", "-0"]).ends(0);
    bench.keyed(&["find", "nothing"]).ends(0).says("").complains("nothing fits\n");
    let messages = bench.keyed(&["find", "c.txt", "--json"]).ends(0).json();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["message_type"], "match");
    assert_eq!(messages[0]["type"], "file");
    assert_eq!(messages[0]["size"], 4);
}

#[test]
fn a_file_is_written_out_and_never_over_another() {
    let bench = Bench::with_snapshots();
    let file = bench.inner("source/a.txt");
    bench.keyed(&["dump", "latest", &file, "--target", "out.txt"]).ends(0).says("");
    assert_eq!(std::fs::read(bench.path("out.txt")).unwrap(), b"alpha, changed\n");
    let run = bench.keyed(&["dump", "latest~1", &file, "--target", "out.txt"]).ends(1);
    assert!(run.err.contains("hint: nothing is ever overwritten: name a new file\n"), "{}", run.err);
    assert_eq!(std::fs::read(bench.path("out.txt")).unwrap(), b"alpha, changed\n");
    let run = bench.keyed(&["dump", "latest", &bench.inner("source"), "-q"]).ends(1);
    assert_eq!(
        run.err,
        "error: DIR/source is a folder\n  hint: `strongroom restore` takes out folders and everything else\n"
    );
}

#[test]
fn differences_are_a_letter_and_a_path() {
    let bench = Bench::with_snapshots();
    let run = bench.keyed(&["diff", "latest~1", "latest"]).ends(0);
    run.says("M  DIR/source/a.txt\n+  DIR/source/c.txt\n-  DIR/source/link\n").complains(
        "snapshot ID of alice, DATE TIME\nsnapshot ID of alice, DATE TIME\n\
         added 1 file (4 B), removed 0 files, 1 other (0 B), changed 1\n",
    );
    let messages = bench.keyed(&["diff", "latest~1", "latest", "--json"]).ends(0).json();
    assert_eq!(messages.len(), 4);
    assert_eq!(messages[0]["modifier"], "M");
    assert_eq!(messages[3]["message_type"], "statistics");
    assert_eq!(messages[3]["added"]["files"], 1);
}

#[test]
fn sizes_are_told_of_a_snapshot_and_of_the_vault() {
    let bench = Bench::with_snapshots();
    let run = bench.keyed(&["stats", "latest", "-q"]).ends(0);
    assert!(run.out.starts_with("files     3\nfolders   "), "{}", run.out);
    let messages = bench.keyed(&["stats", "latest", "--mode", "raw-data", "--json"]).ends(0).json();
    assert_eq!(messages[0]["total_file_count"], 3);
    assert_eq!(messages[0]["total_size"], 100_019);
    assert!(messages[0]["total_stored_size"].as_u64().unwrap() > 0);
    let messages = bench.keyed(&["stats", "--json"]).ends(0).json();
    assert_eq!(messages[0]["snapshots_count"], 2);
}

#[test]
fn a_damaged_pack_is_said_and_never_printed() {
    let bench = Bench::with_snapshots();
    bench.damage_packs();
    let run = bench.keyed(&["dump", "latest", &bench.inner("source/sub/b.bin"), "-q"]).ends(20).says("");
    assert!(run.err.starts_with("error: object p/") && run.err.contains(" is damaged: "), "{}", run.err);
    assert!(run.err.contains("  hint: `strongroom verify --read-all` lists"), "{}", run.err);
    let run = bench.keyed(&["snapshots"]).ends(20);
    assert!(run.out.contains("(damaged)"), "{}", run.out);
}

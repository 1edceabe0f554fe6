use crate::bench::Bench;
use crate::bench::tree;

#[test]
fn a_folder_comes_back_as_it_was() {
    let bench = Bench::with_snapshots();
    let part = format!("latest:{}", bench.inner("source"));
    bench
        .keyed(&["restore", &part, "--target", "out"])
        .ends(0)
        .says("restored 3 files, 2 folders (100 kB) to out, all verified\n");
    assert_eq!(tree(&bench.path("out")), tree(&bench.path("source")));
    let part = format!("latest~1:{}", bench.inner("source"));
    bench.keyed(&["extract", &part, "--target", "old"]).ends(0);
    assert_eq!(std::fs::read(bench.path("old/a.txt")).unwrap(), b"alpha\n");
    assert_eq!(std::fs::read_link(bench.path("old/link")).unwrap().to_str(), Some("a.txt"));
}

#[test]
fn a_whole_snapshot_comes_back_with_its_folders() {
    let bench = Bench::with_snapshots();
    bench.keyed(&["restore", "latest", "--target", "out"]).ends(0);
    let inner = bench.path("out").join(bench.inner("source").trim_start_matches('/'));
    assert_eq!(tree(&inner), tree(&bench.path("source")));
}

#[test]
fn a_target_with_something_in_it_is_refused_unless_said_otherwise() {
    let bench = Bench::with_snapshots();
    bench.write("out/a.txt", b"mine");
    bench.write("out/extra", b"mine");
    let part = format!("latest:{}", bench.inner("source"));
    let run = bench.keyed(&["restore", &part, "--target", "out", "-q"]).ends(26);
    assert_eq!(
        run.err,
        "error: out is not empty\n  hint: name a new folder, or say what becomes of what is there: `--overwrite \
         if-changed`\n"
    );
    assert_eq!(std::fs::read(bench.path("out/a.txt")).unwrap(), b"mine");
    bench.keyed(&["restore", &part, "--target", "out", "--overwrite", "never"]).ends(0);
    assert_eq!(std::fs::read(bench.path("out/a.txt")).unwrap(), b"mine");
    bench.keyed(&["restore", &part, "--target", "out", "--overwrite", "always"]).ends(0);
    assert_eq!(std::fs::read(bench.path("out/a.txt")).unwrap(), b"alpha, changed\n");
    assert!(bench.path("out/extra").exists());
    let run =
        bench.keyed(&["restore", &part, "--target", "out", "--overwrite", "if-changed", "--delete"]).ends(0);
    assert!(run.out.contains("deleted 1 entry\n"), "{}", run.out);
    assert_eq!(tree(&bench.path("out")), tree(&bench.path("source")));
    bench.keyed(&["restore", &part, "--target", "out", "--delete"]).ends(2);
}

#[test]
fn a_dry_run_writes_nothing() {
    let bench = Bench::with_snapshots();
    let part = format!("latest:{}", bench.inner("source"));
    let run = bench.keyed(&["restore", &part, "--target", "out", "--dry-run"]).ends(0);
    assert!(run.out.starts_with("would restore 3 files, "), "{}", run.out);
    assert!(!bench.path("out").exists());
}

#[test]
fn only_what_is_wanted_comes_back() {
    let bench = Bench::with_snapshots();
    let part = format!("latest:{}", bench.inner("source"));
    bench.keyed(&["restore", &part, "--target", "one", "--include", "a.txt"]).ends(0);
    assert!(bench.path("one/a.txt").exists() && !bench.path("one/c.txt").exists());
    bench.keyed(&["restore", &part, "--target", "two", "--iexclude", "*.TXT"]).ends(0);
    assert!(bench.path("two/sub/b.bin").exists() && !bench.path("two/a.txt").exists());
}

#[test]
fn programs_get_a_summary() {
    let bench = Bench::with_snapshots();
    let part = format!("latest:{}", bench.inner("source"));
    let messages = bench.keyed(&["restore", &part, "--target", "out", "--json"]).ends(0).json();
    let summary = messages.last().unwrap();
    assert_eq!(summary["message_type"], "summary");
    assert_eq!(summary["files_restored"], 3);
    assert_eq!(summary["damaged"], 0);
}

#[test]
fn what_is_left_out_for_safety_is_said() {
    let bench = Bench::with_vault();
    bench.write("source/tool", b"x");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(bench.path("source/tool"), mode).unwrap();
    bench.run(&["backup", "source"]).ends(0);
    let part = format!("latest:{}", bench.inner("source"));
    let run = bench.keyed(&["restore", &part, "--target", "out"]).ends(0);
    assert!(run.err.contains("left out: 1 setuid, setgid or sticky bit\n"), "{}", run.err);
    assert!(run.err.contains("hint: `--privileged` restores what this user may set\n"), "{}", run.err);
}

#[test]
fn a_snapshot_that_is_not_there_is_said() {
    let bench = Bench::with_vault();
    bench.keyed(&["restore", "latest", "--target", "out"]).ends(1).complains(
        "error: there is no snapshot latest\n  hint: `strongroom snapshots` lists all of them; `latest` is the newest\n",
    );
    assert!(!bench.path("out").exists());
}

#[test]
fn a_damaged_index_costs_no_file_and_ends_with_its_exit_code() {
    let bench = Bench::with_snapshots();
    let file = bench.inner("source/a.txt");
    bench.damage_indexes();
    let part = format!("latest:{}", bench.inner("source"));
    let run = bench.keyed(&["restore", &part, "--target", "out"]).ends(20);
    assert!(
        run.err.contains("; it is an index, and what it leads to is looked up in the packs\n"),
        "{}",
        run.err
    );
    assert!(
        run.err.ends_with(
            "error: the vault is damaged; everything asked for was restored all the same\n  hint: `strongroom \
             verify --read-all` tells whether anything else is\n"
        ),
        "{}",
        run.err
    );
    assert!(run.out.starts_with("restored 3 files, "), "{}", run.out);
    assert_eq!(tree(&bench.path("out")), tree(&bench.path("source")));
    let run = bench.keyed(&["dump", "latest", &file, "-q"]).ends(0).says("alpha, changed\n");
    assert!(run.err.starts_with("warning: object p/"), "{}", run.err);
    let messages = bench.keyed(&["restore", &part, "--target", "again", "--json"]).ends(20).json();
    let summary = messages.last().unwrap();
    assert_eq!((&summary["damaged"], &summary["damaged_indexes"]), (&0.into(), &1.into()));
}

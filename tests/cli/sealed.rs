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

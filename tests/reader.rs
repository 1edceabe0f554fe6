//! What the program writes, read by another: the reader in Python in `tests/reader`, which was written from
//! `docs/format.md` alone.
//!
//! It takes python3 and, from PyPI, the packages of `tests/reader/requirements.txt`, each held against its hash.
//! Without them nothing is shown and each test says so; where `CI` is set and python3 is there, that is a failure.

#![allow(clippy::print_stdout, reason = "what is not shown is said")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]
#![allow(dead_code, reason = "the bench and the harness are made for more than this")]

#[path = "cli/bench.rs"]
mod bench;
mod harness;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use bench::Bench;
use harness::noise;

/// Where the reader is.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reader");

/// The Python that has what the reader takes; none if it can't be had here, which is said.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PYTHON.get_or_init(prepare) {
        Ok(python) => Some(python),
        Err(why) => {
            println!("not shown, as {why}");
            None
        }
    }
}

/// Makes an environment with the packages, once for each list of them.
fn prepare() -> Result<PathBuf, String> {
    if Command::new("python3").arg("--version").output().is_err() {
        return Err("there is no python3".to_owned());
    }
    let requirements = Path::new(FOLDER).join("requirements.txt");
    let list = strongroom::crypto::digest::digest(&fs::read(&requirements).unwrap()).to_string();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("reader-{}", &list[..16]));
    let (python, done) = (folder.join("bin/python"), folder.join("done"));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    pip.args(["--require-hashes", "-r"]).arg(&requirements);
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&folder);
    let mut steps = vec![("an environment can't be made", venv), ("the packages can't be had", pip)];
    if done.exists() {
        // Made by an earlier run, and whole.
        steps.clear();
    }
    for (what, mut step) in steps {
        let said = step.output();
        let failed = match &said {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        assert!(std::env::var_os("CI").is_none(), "{what}: {failed}");
        return Err(format!("{what}: {failed}"));
    }
    fs::write(done, b"").unwrap();
    Ok(python)
}

/// Runs the reader on `vault` in a bench's folder.
#[track_caller]
fn reads(python: &Path, bench: &Bench, vault: &str, args: &[&str]) -> String {
    let (is_done, said) = reader(python, bench, vault, args);
    assert!(is_done, "{said}");
    said
}

/// The same where it must end with one line that says why not.
#[track_caller]
fn refuses(python: &Path, bench: &Bench, vault: &str, args: &[&str]) {
    let (is_done, said) = reader(python, bench, vault, args);
    assert!(!is_done && said.starts_with("strongroom_reader: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn reader(python: &Path, bench: &Bench, vault: &str, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(python);
    // Nothing of it is to stay beside the source.
    command.arg("-B").arg(Path::new(FOLDER).join("strongroom_reader.py")).arg(vault).args(args);
    let output = command.current_dir(bench.path("")).output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Holds what the reader restored against the source: kinds, modes, times, contents and hard links.
#[track_caller]
fn same(bench: &Bench, restored: &str, source: &str) {
    assert_eq!(harness::describe(&bench.path(restored)), harness::describe(&bench.path(source)));
}

/// With a folder in which each kind of entry is that the reader brings back.
fn bench() -> Bench {
    let bench = Bench::new();
    fill(&bench);
    bench
}

fn fill(bench: &Bench) {
    bench.write("Customers/letter.txt", b"Dear customer,\n");
    bench.write("Customers/none", b"");
    bench.write("Customers/2026/scan.tif", &noise(1, 3_000_000));
    bench.write("Customers/2026/table.csv", "name,amount\n".repeat(90_000).as_bytes());
    bench.write("Customers/2026/\u{e9}t\u{e9} \u{1f3d6}", b"a name that is no ASCII");
    fs::create_dir(bench.path("Customers/empty")).unwrap();
    fs::hard_link(bench.path("Customers/2026/table.csv"), bench.path("Customers/same.csv")).unwrap();
    std::os::unix::fs::symlink("2026/scan.tif", bench.path("Customers/newest")).unwrap();
    let holes = fs::File::create(bench.path("Customers/holes")).unwrap();
    holes.set_len(2 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"in the middle", 700_000).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(bench.path("Customers/2026"), private).unwrap();
}

const FILE: &str = "Customers.strongroom";

#[test]
fn its_own_tests_pass() {
    let Some(python) = python() else { return };
    let mut tests = Command::new(python);
    tests.args(["-B", "-m", "unittest", "-q", "test_reader", "test_forged"]).current_dir(FOLDER);
    let output = tests.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_sealed_file_is_restored_and_so_is_one_that_was_sealed_again() {
    let Some(python) = python() else { return };
    let bench = bench();
    bench.keyed(&["seal", "Customers"]).ends(0);
    let key = ["--key-file", "key"];
    reads(python, &bench, FILE, &["check"]);
    reads(python, &bench, FILE, &[&key[..], &["check"]].concat());
    reads(python, &bench, FILE, &[&key[..], &["restore", "latest", "first"]].concat());
    same(&bench, "first/Customers", "Customers");

    fs::remove_file(bench.path("Customers/none")).unwrap();
    bench.write("Customers/letter.txt", b"Dear customers,\n");
    bench.write("Customers/2026/more.tif", &noise(2, 500_000));
    let run = bench.keyed(&["seal", "Customers"]).ends(0);
    assert!(run.out.contains(" MB of it kept as it was"), "{}", run.out);
    let listed = reads(python, &bench, FILE, &[&key[..], &["list"]].concat());
    assert_eq!(listed.lines().count(), 1, "{listed}");
    reads(python, &bench, FILE, &[&key[..], &["check"]].concat());
    reads(python, &bench, FILE, &[&key[..], &["restore", "latest:/Customers/2026", "second"]].concat());
    for name in ["2026/scan.tif", "2026/more.tif"] {
        let read = |folder: &str| fs::read(bench.path(folder).join(name)).unwrap();
        assert!(read("second") == read("Customers"), "{name}");
    }
    reads(python, &bench, FILE, &[&key[..], &["restore", "latest", "third"]].concat());
    same(&bench, "third/Customers", "Customers");
}

#[test]
fn a_passphrase_opens_it_there_too() {
    let Some(python) = python() else { return };
    let bench = bench();
    for (name, passphrase) in [
        ("passphrase", "tall ships at dawn in the outer harbour, Gr\u{fc}\u{df}e\n"),
        ("wrong", "tall ships at dusk in the outer harbour\n"),
    ] {
        bench.write(name, passphrase.as_bytes());
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(bench.path(name), private).unwrap();
    }
    bench.run(&["seal", "Customers", "--password-file", "passphrase"]).ends(0);
    refuses(python, &bench, FILE, &["--password-file", "wrong", "restore", "latest", "out"]);
    assert!(!bench.path("out").exists());
    reads(python, &bench, FILE, &["--password-file", "passphrase", "restore", "latest", "out"]);
    same(&bench, "out/Customers", "Customers");
}

#[test]
fn whose_slot_was_removed_reads_nothing_and_the_others_read_on() {
    let Some(python) = python() else { return };
    let bench = bench();
    bench.keyed(&["seal", "Customers"]).ends(0);
    let on_file = ["--vault", FILE, "slot"];
    bench.keyed(&[&on_file[..], &["add", "anna", "--new-key-file", "anna"]].concat()).ends(0);
    reads(python, &bench, FILE, &["--key-file", "anna", "restore", "latest", "first"]);
    same(&bench, "first/Customers", "Customers");
    bench.keyed(&[&on_file[..], &["remove", "anna"]].concat()).ends(0);
    refuses(python, &bench, FILE, &["--key-file", "anna", "list"]);
    reads(python, &bench, FILE, &["--key-file", "key", "check"]);
    reads(python, &bench, FILE, &["--key-file", "key", "restore", "latest", "second"]);
    same(&bench, "second/Customers", "Customers");
    bench.write("Customers/letter.txt", b"Dear customers,\n");
    bench.keyed(&["seal", "Customers"]).ends(0);
    reads(python, &bench, FILE, &["--key-file", "key", "check"]);
}

#[test]
fn it_says_who_signed_a_file() {
    let Some(python) = python() else { return };
    let bench = Bench::with_vault();
    fill(&bench);
    bench.keyed(&["seal", "Customers", "--sign", "--split", "1MB"]).ends(0);
    let inspection = &bench.run(&["inspect", "--json"]).ends(0).json()[0];
    let own = inspection["fingerprint"].as_str().unwrap();
    let first = "Customers.strongroom.001";
    let listed = reads(python, &bench, first, &["--key-file", "key", "list"]);
    assert!(listed.contains("  sealed by device ") && listed.trim_end().ends_with(own), "{listed}");
    reads(python, &bench, first, &["--key-file", "key", "restore", "latest", "out"]);
    same(&bench, "out/Customers", "Customers");
}

#[test]
fn a_vault_is_restored_after_its_keys_changed_and_all_of_it_was_sealed_anew() {
    let Some(python) = python() else { return };
    let bench = Bench::with_vault();
    fill(&bench);
    bench.run(&["backup", "Customers"]).ends(0);
    bench.write("Customers/letter.txt", b"Dear customers,\n");
    bench.keyed(&["rotate", "--reencrypt"]).ends(0);
    bench.run(&["backup", "Customers"]).ends(0);
    bench.keyed(&["rotate"]).ends(0);
    bench.run(&["backup", "Customers"]).ends(0);
    reads(python, &bench, "vault", &["check"]);
    reads(python, &bench, "vault", &["--key-file", "key", "check"]);
    let inner = format!("latest:{}", bench.inner("Customers"));
    reads(python, &bench, "vault", &["--recovery-code-file", "code", "restore", &inner, "out"]);
    same(&bench, "out/Customers", "Customers");
}

#[test]
fn a_file_that_was_cut_or_put_in_another_order_is_refused() {
    let Some(python) = python() else { return };
    let bench = bench();
    bench.keyed(&["seal", "Customers"]).ends(0);
    let whole = fs::read(bench.path(FILE)).unwrap();
    let members = members(&whole);
    // The first two packs.
    let packs: Vec<_> = members.iter().filter(|member| member.starts_with(b"p/")).collect();
    let at = whole.len() - packs[0].len() - packs[1].len();
    let order = whole.windows(packs[0].len()).position(|window| window == *packs[0]).unwrap();
    let swapped =
        [&whole[..order], packs[1], packs[0], &whole[order + packs[0].len() + packs[1].len()..]].concat();
    assert_eq!(swapped.len(), at + packs[0].len() + packs[1].len());
    let cut = &whole[..whole.len() / 2];
    let longer = [&whole[..], &[0; 512]].concat();
    for (what, bytes) in [("cut", cut), ("swapped", &swapped), ("longer", &longer)] {
        fs::write(bench.path(FILE), bytes).unwrap();
        refuses(python, &bench, FILE, &["--key-file", "key", "restore", "latest", "out"]);
        assert!(!bench.path("out").exists(), "{what}");
        bench.keyed(&["open", FILE, "--target", "out"]).ends(20);
    }
}

/// Header, content and padding of each member.
fn members(file: &[u8]) -> Vec<&[u8]> {
    let mut members = Vec::new();
    let mut rest = file;
    while rest[0] != 0 {
        let digits = std::str::from_utf8(&rest[124..135]).unwrap();
        let content = usize::from_str_radix(digits, 8).unwrap();
        let (member, after) = rest.split_at(512 + content.next_multiple_of(512));
        members.push(member);
        rest = after;
    }
    members
}

//! Where `seal` and `open` could lose something, and what they say instead.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::bench::Bench;
use crate::bench::tree;

/// With a folder of three files to seal.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("Customers/a.txt", b"alpha\n");
    bench.write("Customers/b.txt", b"beta\n");
    bench.write("Customers/sub/c.txt", b"gamma\n");
    bench
}

fn sealed() -> Bench {
    let bench = bench();
    bench.keyed(&["seal", "Customers"]).ends(0);
    bench
}

fn bytes(bench: &Bench) -> Vec<u8> {
    fs::read(bench.path("Customers.strongroom")).unwrap()
}

/// What lies in the folder of the test, hidden or not.
fn names(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != "home");
    names.sort();
    names
}

fn recipient() -> &'static str {
    let vectors = include_str!("../vectors/age.txt");
    vectors.lines().find_map(|line| line.strip_prefix("recipient = ")).unwrap()
}

// ---- what the file holds is replaced ----------------------------------------------------------

#[test]
fn another_folder_of_the_same_name_does_not_take_the_place_of_what_the_file_holds() {
    let bench = bench();
    bench.keyed(&["seal", "Customers", "--remove-source"]).ends(0);
    let before = bytes(&bench);
    bench.write("Customers/new.pdf", b"new\n");
    bench.keyed(&["seal", "Customers"]).ends(26).says("").complains(
        "error: none of the 3 files in Customers.strongroom is in what is sealed now: Customers/a.txt, \
         Customers/b.txt, Customers/sub/c.txt; the file stays as it is\n  hint: is this the right folder, and the \
         drive mounted? `strongroom open FILE --target DIR` opens what the file holds; `--replace` seals this in its \
         place\n",
    );
    assert_eq!(bytes(&bench), before);
    assert_eq!(names(&bench), ["Customers", "Customers.strongroom", "key"]);
    bench.keyed(&["seal", "Customers", "--replace"]).ends(0).complains(
        "none of the 3 files in Customers.strongroom is in what is sealed now, and will no longer be in it: \
         Customers/a.txt, Customers/b.txt, Customers/sub/c.txt\n",
    );
    bench.keyed(&["open", "Customers.strongroom", "-t", "out"]).ends(0);
    assert_eq!(tree(&bench.path("out")), [(PathBuf::from("new.pdf"), b"new\n".to_vec())]);
}

#[test]
fn an_empty_folder_where_the_drive_was_does_not_empty_the_file() {
    let bench = sealed();
    let before = bytes(&bench);
    fs::remove_dir_all(bench.path("Customers")).unwrap();
    fs::create_dir(bench.path("Customers")).unwrap();
    bench.keyed(&["seal", "Customers"]).ends(26);
    assert_eq!(bytes(&bench), before);
}

#[test]
fn a_few_files_go_and_are_named() {
    let bench = sealed();
    fs::remove_file(bench.path("Customers/a.txt")).unwrap();
    bench.keyed(&["seal", "Customers"]).ends(0).complains(
        "1 of the 3 files in Customers.strongroom is not in what is sealed now, and will no longer be in it: \
         Customers/a.txt\n",
    );
}

#[test]
fn files_that_have_other_names_now_are_not_lost() {
    let bench = sealed();
    fs::create_dir(bench.path("Customers/2026")).unwrap();
    for name in ["a.txt", "b.txt"] {
        fs::rename(bench.path("Customers").join(name), bench.path("Customers/2026").join(name)).unwrap();
    }
    fs::rename(bench.path("Customers/sub"), bench.path("Customers/elsewhere")).unwrap();
    bench.keyed(&["seal", "Customers"]).ends(0).complains("");
}

#[test]
fn a_person_at_a_terminal_is_asked() {
    let bench = sealed();
    let before = bytes(&bench);
    fs::remove_dir_all(bench.path("Customers")).unwrap();
    bench.write("Customers/new.pdf", b"new\n");
    for (answer, code) in [("no", 26), ("yes", 0)] {
        let mut terminal = bench.at_terminal(&["seal", "Customers"], &[("STRONGROOM_KEY_FILE", "key")]);
        terminal.sees("none of the 3 files in Customers.strongroom is in what is sealed now");
        terminal.sees("and lose them: ");
        terminal.types(answer);
        let (text, ended) = terminal.ends();
        assert_eq!(ended, code, "{text}");
        assert_eq!(bytes(&bench) == before, code != 0);
    }
}

// ---- keys in what they lock ---------------------------------------------------------------------

#[test]
fn a_key_that_would_go_with_what_it_opens_is_refused() {
    let bench = bench();
    bench.write_secret("Customers/sub/password", b"correct horse battery staple wardrobe\n");
    std::os::unix::fs::symlink("Customers/sub/password", bench.path("link")).unwrap();
    for given in ["Customers/sub/password", "link"] {
        let run = bench.run(&["seal", "Customers", "--remove-source", "--password-file", given]).ends(26);
        assert_eq!(
            run.err,
            format!(
                "error: {given} is in Customers and would be removed with it: nothing would open the file\n  \
                 hint: move the key to another place first\n"
            )
        );
        let environment = [("STRONGROOM_PASSWORD_FILE", given)];
        bench.run_with(&["seal", "Customers", "--remove-source"], &environment, b"").ends(26);
    }
    bench.run(&["seal", "Customers", "--password-file", "link"]).ends(0);
    assert!(bench.path("Customers/sub/password").exists());
}

#[test]
fn a_key_is_not_made_in_what_it_locks() {
    let bench = bench();
    let run = bench.keyed(&["seal", "Customers", "--recovery-code-out", "Customers/code"]).ends(26).says("");
    assert_eq!(
        run.err,
        "error: Customers/code would be made in Customers, which it is to open\n  hint: a key that is kept in what it \
         locks is no key: name another place\n"
    );
    bench.run(&["seal", "Customers", "--key-file", "Customers/sub/key"]).ends(26);
    assert_eq!(names(&bench), ["Customers"]);
    assert_eq!(tree(&bench.path("Customers")).len(), 3);
}

// ---- what --remove-source removes ---------------------------------------------------------------

#[test]
fn a_source_goes_with_links_and_attributes_and_names_that_share_contents() {
    let bench = bench();
    fs::hard_link(bench.path("Customers/a.txt"), bench.path("Customers/sub/a.txt")).unwrap();
    std::os::unix::fs::symlink("/etc", bench.path("Customers/link")).unwrap();
    // Where the file system has no such thing, the rest is tested.
    let _ = rustix::fs::setxattr(
        bench.path("Customers/a.txt"),
        "user.note",
        b"x",
        rustix::fs::XattrFlags::empty(),
    );
    bench.write("Letters/l.txt", b"Dear customer,\n");
    let run =
        bench.keyed(&["seal", "Customers", "Letters", "-o", "both.strongroom", "--remove-source"]).ends(0);
    assert!(run.out.ends_with("; the source was removed\n"), "{}", run.out);
    assert_eq!(names(&bench), ["both.strongroom", "key"]);
}

#[test]
fn nothing_goes_unless_all_sources_are_in_the_file() {
    let bench = bench();
    bench.write("Letters/l.txt", b"Dear customer,\n");
    bench.write("Letters/cache", b"left out");
    let args = ["seal", "Customers", "Letters", "-o", "both.strongroom", "--remove-source", "-e", "cache"];
    let run = bench.keyed(&args).ends(26);
    assert!(run.out.ends_with(", sealed for you\n"), "{}", run.out);
    assert_eq!(
        run.err,
        "error: Letters/cache is not in the file; the file was sealed, and the source stays\n"
    );
    assert_eq!(names(&bench), ["Customers", "Letters", "both.strongroom", "key"]);
    assert_eq!(tree(&bench.path("Customers")).len(), 3);
    assert_eq!(tree(&bench.path("Letters")).len(), 2);
}

/// Runs `mount` or `umount`; says if nothing can be mounted here.
fn mounts(program: &str, args: &[&std::ffi::OsStr]) -> bool {
    let done = std::process::Command::new(program).args(args).status().is_ok_and(|status| status.success());
    #[allow(clippy::print_stdout, reason = "what isn't tested is to be seen")]
    if !done {
        println!("skipped: nothing can be mounted here");
    }
    done
}

#[test]
fn what_is_mounted_below_a_source_stays_mounted() {
    let bench = bench();
    bench.write("precious/p.txt", b"precious\n");
    fs::create_dir(bench.path("Customers/mounted")).unwrap();
    let (from, to) = (bench.path("precious"), bench.path("Customers/mounted"));
    if !mounts("mount", &["--bind".as_ref(), from.as_ref(), to.as_ref()]) {
        return;
    }
    let run = bench.keyed(&["seal", "Customers", "--remove-source"]);
    assert!(mounts("umount", &[to.as_ref()]));
    assert_eq!(
        run.ends(26).err,
        "error: Customers can't be removed: something is mounted at DIR/Customers/mounted\n  \
         hint: unmount it, or seal without `--remove-source`\n"
    );
    assert!(bench.path("precious/p.txt").exists());
    assert_eq!(names(&bench), ["Customers", "precious"]);
}

#[test]
fn what_a_killed_removal_left_is_named() {
    let bench = bench();
    bench.write(".Customers.0123456789ab.removing/a.txt", b"alpha\n");
    bench.write(".Customers.note.removing/a.txt", b"alpha\n");
    bench.keyed(&["seal", "Customers"]).ends(0).complains(
        "warning: DIR/.Customers.0123456789ab.removing is what a `--remove-source` that was cut off has left of \
         Customers: look whether the file has all of it, then delete it or give it its name back\n",
    );
    assert!(bench.path(".Customers.0123456789ab.removing/a.txt").exists());
}

// ---- names and places ---------------------------------------------------------------------------

#[test]
fn an_output_that_is_a_link_stays_one() {
    let bench = sealed();
    fs::create_dir(bench.path("disk")).unwrap();
    fs::rename(bench.path("Customers.strongroom"), bench.path("disk/c.strongroom")).unwrap();
    std::os::unix::fs::symlink("disk/c.strongroom", bench.path("Customers.strongroom")).unwrap();
    let before = fs::metadata(bench.path("disk/c.strongroom")).unwrap().ino();
    bench.write("Customers/d.txt", b"delta\n");
    bench.keyed(&["seal", "Customers"]).ends(0);
    assert!(bench.path("Customers.strongroom").is_symlink());
    assert_ne!(fs::metadata(bench.path("disk/c.strongroom")).unwrap().ino(), before);
    bench.keyed(&["seal", "Customers", "--force"]).ends(0);
    assert!(bench.path("Customers.strongroom").is_symlink());
    std::os::unix::fs::symlink("nowhere", bench.path("dangling")).unwrap();
    bench.keyed(&["seal", "Customers", "-o", "dangling"]).ends(26);
}

#[test]
fn sources_in_each_other_are_refused() {
    let bench = bench();
    bench
        .keyed(&["seal", "Customers", "Customers/sub", "-o", "x.strongroom"])
        .ends(2)
        .complains("error: Customers/sub is in Customers already\n  hint: name the outer one alone\n");
    assert_eq!(names(&bench), ["Customers"]);
}

#[test]
fn a_key_that_the_environment_names_opens_nothing_that_is_sealed_for_others() {
    let bench = bench();
    bench.write_secret("password", b"correct horse battery staple wardrobe\n");
    bench.run(&["seal", "Customers", "-o", "mine.strongroom", "--key-file", "key"]).ends(0);
    for environment in [("STRONGROOM_KEY_FILE", "key"), ("STRONGROOM_PASSWORD_FILE", "password")] {
        let name = format!("{}.strongroom", environment.0);
        let to = format!("auditor={}", recipient());
        let args = ["seal", "Customers", "-o", &name, "--recipient", &to];
        let run = bench.run_with(&args, &[environment], b"").ends(0);
        assert!(run.out.ends_with("sealed for auditor\n"), "{}", run.out);
        let both = [&args[..], &["--force", "--key-file", "key"]].concat();
        let run = bench.run_with(&both, &[environment], b"").ends(0);
        assert!(run.out.ends_with("sealed for you and auditor\n"), "{}", run.out);
    }
}

// ---- opening ------------------------------------------------------------------------------------

#[test]
fn a_target_that_can_not_be_replaced_gets_all_or_nothing() {
    let bench = bench();
    for number in 0..20 {
        bench.write(&format!("Customers/many/{number}.bin"), &[number; 70_000]);
    }
    bench.keyed(&["seal", "Customers"]).ends(0);
    let disk = bench.path("disk");
    fs::create_dir(&disk).unwrap();
    let small: [&std::ffi::OsStr; 6] = [
        "-t".as_ref(),
        "tmpfs".as_ref(),
        "-o".as_ref(),
        "nr_inodes=12".as_ref(),
        "none".as_ref(),
        disk.as_ref(),
    ];
    if !mounts("mount", &small) {
        return;
    }
    let full = bench.keyed(&["open", "Customers.strongroom", "-t", "disk"]);
    let left = fs::read_dir(&disk).unwrap().count();
    let room = ["-o".as_ref(), "remount,nr_inodes=0".as_ref(), disk.as_ref()];
    assert!(mounts("mount", &room));
    fs::set_permissions(bench.path("Customers/sub"), std::os::unix::fs::PermissionsExt::from_mode(0o555))
        .unwrap();
    let whole = bench.keyed(&["open", "Customers.strongroom", "-t", "disk"]);
    let (found, hidden) = (tree(&disk), fs::read_dir(&disk).unwrap().count());
    assert!(mounts("umount", &[disk.as_ref()]));
    assert!(full.ends(1).err.contains("; nothing was opened\n"));
    assert_eq!(left, 0);
    whole.ends(0);
    assert_eq!(found, tree(&bench.path("Customers")));
    assert_eq!(hidden, 4, "a.txt, b.txt, sub and many");
}

#[test]
fn a_file_that_was_sealed_comes_back_as_one() {
    let bench = Bench::new();
    bench.write("one.pdf", b"one\n");
    bench.keyed(&["seal", "one.pdf", "--remove-source"]).ends(0);
    assert_eq!(names(&bench), ["key", "one.pdf.strongroom"]);
    bench
        .keyed(&["open", "one.pdf.strongroom"])
        .ends(0)
        .says("sender unverified: nobody signed it\none.pdf: 1 file, 4 B, all verified\n");
    assert_eq!(fs::read(bench.path("one.pdf")).unwrap(), b"one\n");
    assert_eq!(names(&bench), ["key", "one.pdf", "one.pdf.strongroom"]);
    bench.keyed(&["open", "one.pdf.strongroom"]).ends(26);
    bench.keyed(&["open", "one.pdf.strongroom", "-t", "out"]).ends(0);
    assert_eq!(fs::read(bench.path("out/one.pdf")).unwrap(), b"one\n");
    bench.keyed(&["seal", "one.pdf"]).ends(0);
}

#[test]
fn whole_files_and_parts_of_one_name_do_not_lie_side_by_side() {
    let bench = bench();
    bench.write("Customers/d.bin", &rand());
    bench.keyed(&["seal", "Customers", "--split", "100k"]).ends(0);
    bench.keyed(&["seal", "Customers", "--force"]).ends(26).complains(
        "error: Customers.strongroom.001 is a part of another file\n  hint: move all parts away, or give `--split` to \
         write new ones in their place\n",
    );
    for name in names(&bench).iter().filter(|name| name.starts_with("Customers.strongroom.")) {
        fs::remove_file(bench.path(name)).unwrap();
    }
    bench.keyed(&["seal", "Customers", "--force"]).ends(0);
    let whole = bytes(&bench);
    bench.keyed(&["seal", "Customers", "--force", "--split", "1k"]).ends(2);
    assert_eq!(bytes(&bench), whole);
    bench.keyed(&["seal", "Customers", "--force", "--split", "100k"]).ends(0);
    assert!(!bench.path("Customers.strongroom").exists());
    assert!(names(&bench).iter().all(|name| !name.ends_with(".removing")));
    bench.keyed(&["open", "Customers.strongroom.001", "-t", "out"]).ends(0);
    assert_eq!(tree(&bench.path("out")), tree(&bench.path("Customers")));
}

/// Bytes that don't compress.
fn rand() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    (0..250_000).map(|_| next()).collect()
}

#[test]
fn a_file_is_called_a_file() {
    let bench = sealed();
    let other = Bench::with_vault();
    fs::copy(other.path("key"), bench.path("wrong")).unwrap();
    let run = bench.run_with(
        &["open", "Customers.strongroom", "-t", "out"],
        &[("STRONGROOM_KEY_FILE", "wrong")],
        b"",
    );
    run.ends(12).complains(
        "error: no slot of this file opens with that key\n  hint: this key file is for something else, or its slot was \
         taken away or got another secret\n",
    );
    let run = bench.run(&["open", "Customers.strongroom", "-t", "out"]).ends(2);
    assert!(run.err.starts_with("error: this file opens with: key file; none was given\n"), "{}", run.err);
    bench.write("Customers/a.txt", b"other\n");
    let run = bench.run_with(&["seal", "Customers"], &[("STRONGROOM_KEY_FILE", "wrong")], b"").ends(12);
    assert!(run.err.starts_with("error: no slot of this file"), "{}", run.err);
    let run = bench.run_with(
        &["--vault", "Customers.strongroom", "slot", "add", "x", "--new-key-file", "k2"],
        &[("STRONGROOM_KEY_FILE", "wrong")],
        b"",
    );
    assert!(run.err.starts_with("error: no slot of this file"), "{}", run.err);
}

// ---- who signed ---------------------------------------------------------------------------------

#[test]
fn a_device_that_was_shut_out_is_not_taken_for_the_sender() {
    let bench = Bench::with_vault();
    bench.write("Customers/a.txt", b"alpha\n");
    let run = bench.keyed(&["inspect", "--json"]).ends(0);
    let vault = run.json()[0]["fingerprint"].as_str().unwrap().to_owned();
    bench.keyed(&["seal", "Customers", "--sign"]).ends(0);
    let open = |target: &str, more: &[&str]| {
        bench.keyed(&[&["open", "Customers.strongroom", "-t", target], more].concat())
    };
    let run = open("one", &["--from", &vault]).ends(0);
    assert!(run.out.starts_with("sealed by device ID of a vault that this machine knows: "), "{}", run.out);
    assert!(!run.out.contains("not checked"), "{}", run.out);

    fs::rename(bench.path("vault"), bench.path("away")).unwrap();
    let run = open("two", &[]).ends(0);
    assert!(run.out.contains("; whether it was shut out since was not checked\n"), "{}", run.out);
    fs::rename(bench.path("away"), bench.path("vault")).unwrap();

    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    bench.keyed(&["device", "revoke", &host]).ends(0);
    let run = open("three", &[]).ends(0);
    assert!(
        run.out.starts_with("sender unverified: signed by device ID, which was shut out of the vault "),
        "{}",
        run.out
    );
    open("four", &["--from", &vault])
        .ends(26)
        .says("")
        .complains("error: a device that was shut out of that vault signed this file; nothing was opened\n");
    assert!(!bench.path("four").exists());
}

#[test]
fn what_is_whole_in_a_damaged_file_can_be_had() {
    let bench = bench();
    bench.write("Customers/d.bin", &rand());
    bench.keyed(&["seal", "Customers"]).ends(0);
    let mut damaged = bytes(&bench);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(bench.path("Customers.strongroom"), damaged).unwrap();
    let run = bench.keyed(&["open", "Customers.strongroom", "-t", "out"]).ends(20).says("");
    assert!(
        run.err.contains("`strongroom restore -r Customers.strongroom latest --target DIR` gets"),
        "{}",
        run.err
    );
    assert!(!bench.path("out").exists());
    let run = bench.keyed(&["restore", "-r", "Customers.strongroom", "latest", "--target", "out"]).ends(20);
    assert!(
        run.err.ends_with(
            "error: 1 entry is damaged in the file; the rest was restored\n  hint: another copy of the file may be whole; \
             `strongroom verify --read-all` tells what is damaged\n"
        ),
        "{}",
        run.err
    );
    assert_eq!(fs::read(bench.path("out/Customers/a.txt")).unwrap(), b"alpha\n");
}

//! Archives on the way out of a vault and into it, held against GNU tar.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod harness;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use harness::Site;
use harness::noise;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::XattrFlags;
use strongroom::observe::Silent;
use strongroom::store::Memory;
use strongroom::task::browse;
use strongroom::task::export;
use strongroom::task::restore;
use strongroom::tree::path::TreePath;
use strongroom::tree::place::Policy;
use strongroom::vault::read::SnapshotReader;

/// All that GNU tar can restore.
const EVERYTHING: [&str; 4] = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"];

/// Whether there is a program on this machine; says so if there is none.
fn has(program: &str, version: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    let is_there = found.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version));
    if !is_there {
        println!("skipped: there is no {program} ({version}) on this machine");
    }
    is_there
}

/// Whether owners, devices and access lists can be made here.
fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

fn gnu_tar(directory: &Path, args: &[&str]) -> std::process::Output {
    Command::new("tar").env("LC_ALL", "C.UTF-8").current_dir(directory).args(args).output().unwrap()
}

/// Runs GNU tar, which must have nothing to complain of.
fn gnu_tar_works(directory: &Path, args: &[&str]) {
    // It warns of every time before 1970 and to come.
    let ran = gnu_tar(directory, &[&["--warning=no-timestamp"], args].concat());
    assert!(ran.status.success() && ran.stderr.is_empty(), "{args:?}: {}", ran.stderr.escape_ascii());
}

/// An access list of the kernel's form, with a user of its own.
fn access_list() -> Vec<u8> {
    let none = u32::MAX;
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [(1, 6, none), (2, 4, 1234), (4, 4, none), (16, 6, none), (32, 0, none)] {
        bytes.extend_from_slice(&u16::to_le_bytes(tag));
        bytes.extend_from_slice(&u16::to_le_bytes(permissions));
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

fn set_xattr(path: &Path, name: &[u8], value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder with every kind of entry that this user can make.
fn make_source(root: &Path) {
    fs::create_dir_all(root.join("folder/empty folder")).unwrap();
    fs::write(root.join("folder/empty"), "").unwrap();
    fs::write(root.join("folder/tiny"), "x").unwrap();
    fs::write(root.join("noise"), noise(1, 700_001)).unwrap();
    fs::write(root.join("large"), noise(2, 20_000_000)).unwrap();
    fs::write(root.join("block"), noise(3, 512)).unwrap();
    make_names(root);
    make_links(root);
    make_sparse(root);
    make_attributes(root);
    for (name, mode) in [("setuid", 0o4755), ("nothing", 0o000), ("setgid", 0o2711)] {
        fs::write(root.join(name), name).unwrap();
        set_mode(&root.join(name), mode);
    }
    fs::create_dir(root.join("sticky")).unwrap();
    set_mode(&root.join("sticky"), 0o1777);
    rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    if is_root() {
        make_owned(root);
    } else {
        println!("not root: without devices and others' files");
    }
    fs::create_dir(root.join("locked")).unwrap();
    fs::write(root.join("locked/in"), "in").unwrap();
    set_mode(&root.join("locked"), 0o555);
    for (name, seconds, nanos) in [("folder/tiny", -2, 500_000_000), ("block", -1, 0), ("noise", 1 << 33, 1)]
    {
        set_time(&root.join(name), seconds, nanos);
    }
    set_time(&root.join("folder"), 1_000_000_000, 123_456_789);
    set_time(root, 1_100_000_000, 5);
}

fn make_names(root: &Path) {
    let long = |letter: &str| letter.repeat(200);
    let deep = root.join(long("d")).join(long("e"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join(long("f")), "deep").unwrap();
    symlink(deep.join("nowhere"), deep.join("long target")).unwrap();
    fs::hard_link(deep.join(long("f")), deep.join("second name of a long one")).unwrap();
    for name in [&b"odd \xff\x1b[31m\nname"[..], &[0xfe; 150], "Größe 漢字".as_bytes(), b"back\\slash \"'*?"]
    {
        fs::write(root.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(root.join("n".repeat(99)), "99").unwrap();
    fs::create_dir(root.join("m".repeat(100))).unwrap();
    fs::create_dir(root.join("-rf")).unwrap();
}

fn make_links(root: &Path) {
    symlink("folder/tiny", root.join("link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"odd \xff"), root.join("odd link")).unwrap();
    fs::hard_link(root.join("noise"), root.join("noise too")).unwrap();
    fs::hard_link(root.join("noise"), root.join("folder/noise three")).unwrap();
    rustix::fs::linkat(CWD, root.join("link"), CWD, root.join("link too"), AtFlags::empty()).unwrap();
}

fn make_sparse(root: &Path) {
    let sparse = |name: &str, size: u64, runs: &[(u64, usize)]| {
        let file = fs::File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in runs {
            file.write_all_at(&noise(*offset, *bytes), *offset).unwrap();
        }
    };
    sparse("sparse", 50 << 20, &[(0, 4096), (20 << 20, 100_000)]);
    sparse("sparse to its end", (10 << 20) + 5, &[(10 << 20, 5)]);
    sparse("hole", 3 << 20, &[]);
    sparse(&"long sparse ".repeat(10), 3 << 20, &[(1 << 20, 1)]);
    let runs: Vec<(u64, usize)> = (0..300).map(|number| (number << 16, 7)).collect();
    sparse("many runs", 300 << 16, &runs);
}

fn make_attributes(root: &Path) {
    let file = root.join("attributes");
    fs::write(&file, "attributes").unwrap();
    set_xattr(&file, b"user.binary", b"a\n\0=\xff 12 b\n");
    set_xattr(&file, b"user.with=and%3D", b"v");
    set_xattr(&file, b"user.empty", b"");
    set_xattr(&file, b"user.\xff\xfe", b"odd");
    set_xattr(&root.join("folder"), b"user.of a folder", b"yes");
    set_xattr(&file, b"system.posix_acl_access", &access_list());
    let folder = root.join("with a default list");
    fs::create_dir(&folder).unwrap();
    set_xattr(&folder, b"system.posix_acl_default", &access_list());
}

fn make_owned(root: &Path) {
    for (name, kind, major, minor) in
        [("char", FileType::CharacterDevice, 1, 3), ("block device", FileType::BlockDevice, 259, 70_000)]
    {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    fs::write(root.join("foreign"), "foreign").unwrap();
    std::os::unix::fs::chown(root.join("foreign"), Some(3_000_000), Some(54_321)).unwrap();
    std::os::unix::fs::lchown(root.join("dangling"), Some(7), Some(7)).unwrap();
    set_xattr(&root.join("foreign"), b"trusted.strongroom", b"\0\x01");
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 1 << 16];
    let Ok(bytes) = rustix::fs::llistxattr(path, &mut list) else { return BTreeMap::new() };
    let names = list[..bytes].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let bytes = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(bytes);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Everything about what is below `root`, a line each; the time of `root` itself is left out.
fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut waiting = vec![root.to_owned()];
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    while let Some(path) = waiting.pop() {
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let what = if kind.is_dir() {
            let mut below: Vec<PathBuf> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            waiting.extend(below.into_iter().rev());
            "folder".to_owned()
        } else if kind.is_symlink() {
            format!("link to {:?}", fs::read_link(&path).unwrap())
        } else if kind.is_file() {
            let digest = strongroom::crypto::digest::digest(&fs::read(&path).unwrap());
            let is_sparse = meta.blocks() * 512 < meta.len() / 2;
            format!("file of {} bytes, {digest}, sparse {is_sparse}", meta.len())
        } else {
            format!("{} {} {}", kind.is_fifo(), kind.is_char_device(), meta.rdev())
        };
        let same = inodes.entry(meta.ino()).or_insert_with(|| name.clone());
        let same = if kind.is_dir() { PathBuf::new() } else { same.clone() };
        let owner = format!("{}:{}", meta.uid(), meta.gid());
        let mode = meta.mode() & 0o7777;
        let time = if path == root { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        let mode = if path == root { 0 } else { mode };
        let xattrs = xattrs(&path);
        lines.push(format!("{name:?}: {what}, {mode:o}, {owner}, {time:?}, same as {same:?}, {xattrs:?}"));
    }
    lines
}

/// Fails with the first lines that differ.
fn assert_same(expected: &Path, found: &Path) {
    let (expected, found) = (describe(expected), describe(found));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.len(), found.len());
}

fn with_latest<T>(site: &Site, use_it: impl FnOnce(&SnapshotReader<'_>) -> T) -> T {
    let vault = site.unlock();
    let listing = browse::snapshots(&vault);
    let which = browse::Which::parse("latest").unwrap();
    let listed = browse::choose(&listing.snapshots, &which, &browse::Filters::default()).unwrap();
    use_it(&browse::reader(&vault, listed).unwrap())
}

/// A path of this machine as it stands in a snapshot.
fn in_snapshot(path: &Path) -> TreePath {
    let path = path.canonicalize().unwrap();
    TreePath::parse(path.as_os_str().as_bytes().strip_prefix(b"/").unwrap()).unwrap()
}

fn export(site: &Site, from: &TreePath) -> Vec<u8> {
    let mut tar = Vec::new();
    with_latest(site, |reader| export::export(reader, from, &mut tar, &Silent)).unwrap();
    tar
}

/// Restores all that can be restored.
fn restore(site: &Site, from: &TreePath, target: &Path) {
    let policy = Policy { privileged: is_root(), numeric_owner: true, ..Policy::default() };
    let options = restore::Options { subpath: from.clone(), policy, ..restore::Options::default() };
    let summary = with_latest(site, |reader| restore::restore(reader, target, &options, &Silent)).unwrap();
    assert_eq!((summary.damaged_count, summary.problems), (0, 0), "{summary:?}");
}

/// Extracts an archive with GNU tar and all its options.
fn extract(tar: &[u8], target: &Path) {
    fs::create_dir(target).unwrap();
    let file = target.with_extension("tar");
    fs::write(&file, tar).unwrap();
    gnu_tar_works(target, &[&EVERYTHING[..], &["-xpf", file.to_str().unwrap()]].concat());
}

#[test]
fn gnu_tar_makes_of_an_export_what_a_restore_makes_of_the_snapshot() {
    if !has("tar", "GNU tar") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    make_source(&source);
    let site = Site::new(Arc::new(Memory::new()));
    assert_eq!(site.backup(&source).unwrap().counts.errors, 0);
    let from = in_snapshot(&source);
    let target = folder.path().join("restored");
    restore(&site, &from, &target);
    let extracted = folder.path().join("extracted");
    extract(&export(&site, &from), &extracted);
    let kept = fs::metadata(extracted.join("source")).unwrap();
    assert_eq!((kept.mtime(), kept.mtime_nsec()), (1_100_000_000, 5), "the folder itself");
    if is_root() {
        assert_same(&source, &extracted.join("source"));
    }
    // A restore makes no further names of links.
    for made in [&target, &extracted.join("source")] {
        fs::remove_file(made.join("link too")).unwrap();
    }
    assert_same(&target, &extracted.join("source"));
}

#[test]
fn an_export_begins_at_the_name_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("a/b/c"), "c").unwrap();
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    let names = |from: TreePath| -> Vec<String> {
        let tar = export(&site, &from);
        let headers =
            tar.chunks(512).filter(|block| block[257..].starts_with(b"ustar") && block[156] != b'x');
        let name = |block: &[u8]| block.split(|byte| *byte == 0).next().unwrap().escape_ascii().to_string();
        headers.map(name).collect()
    };
    let from = in_snapshot(&source);
    assert_eq!(names(from.clone()), ["source/", "source/a/", "source/a/b/", "source/a/b/c"]);
    assert_eq!(names(in_snapshot(&source.join("a/b"))), ["b/", "b/c"]);
    assert_eq!(names(in_snapshot(&source.join("a/b/c"))), ["c"]);
    let all = names(TreePath::root());
    assert_eq!(all.last(), Some(&format!("{}/a/b/c", from)));
    assert!(all.iter().all(|name| !name.starts_with(['/', '.'])), "{all:?}");
}

#[test]
fn an_archive_of_something_damaged_is_cut_short_for_every_reader() {
    let mut vault = support::TestVault::new();
    let files = [support::file("a", noise(1, 12 << 20)), support::file("b", noise(2, 100_000))];
    vault.snapshot(&[support::directory("folder", files.to_vec())], "host", &[]);
    let opened = vault.open();
    let reader = support::latest(&opened);
    let mut whole = Vec::new();
    export::export(&reader, &TreePath::root(), &mut whole, &Silent).unwrap();
    support::damage(&vault.store, &reader, &support::chunks(&reader, "folder/b")[1]);
    let again = vault.open();
    let mut broken = Vec::new();
    let reader = support::latest(&again);
    let error = export::export(&reader, &TreePath::root(), &mut broken, &Silent).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(broken.len() < whole.len() - 10_240 && !broken.ends_with(&[0; 1_024]));
    if has("tar", "GNU tar") {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("broken.tar"), broken).unwrap();
        assert_eq!(gnu_tar(folder.path(), &["-tf", "broken.tar"]).status.code(), Some(2));
    }
}

#[test]
fn pythons_tarfile_reads_an_export() {
    if !has("python3", "Python") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    make_source(&source);
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    let file = folder.path().join("export.tar");
    fs::write(&file, export(&site, &in_snapshot(&source))).unwrap();
    let script = "import hashlib, os, sys, tarfile\n\
        tar = tarfile.open(sys.argv[1])\n\
        os.chdir(sys.argv[2])\n\
        members = tar.getmembers()\n\
        for member in members:\n\
        \x20   stat = os.lstat(member.name)\n\
        \x20   assert member.islnk() or stat.st_mode & 0o7777 == member.mode, member\n\
        \x20   assert member.uid == stat.st_uid and member.gid == stat.st_gid, member\n\
        \x20   assert abs(member.mtime - stat.st_mtime) < 0.001, member\n\
        \x20   if member.issym(): assert os.readlink(member.name) == member.linkname, member\n\
        \x20   if member.isreg(): assert tar.extractfile(member).read() == open(member.name, 'rb').read(), member\n\
        print(len(members))\n";
    let ran = Command::new("python3").args(["-c", script]).arg(&file).arg(folder.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let count = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(count.trim().parse::<usize>().unwrap(), describe(&source).len());
}

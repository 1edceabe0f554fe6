//! Archives on the way out of a vault and into it, held against GNU tar.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]
#![allow(clippy::print_stdout, reason = "what is skipped is said, and why")]
#![allow(clippy::duplicate_mod, reason = "both ways of making a vault have the same samples")]

mod harness;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
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
use strongroom::task::backup;
use strongroom::task::backup::Form;
use strongroom::task::backup::Input;
use strongroom::task::backup::Stream;
use strongroom::task::browse;
use strongroom::task::error::Error;
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
    fs::write(root.join("large"), noise(2, 9_000_000)).unwrap();
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
    sparse("sparse", 5 << 20, &[(0, 4096), (2 << 20, 100_000)]);
    sparse("sparse to its end", (1 << 20) + 5, &[(1 << 20, 5)]);
    sparse("hole", 3 << 20, &[]);
    sparse(&"long sparse ".repeat(10), 3 << 20, &[(1 << 20, 1)]);
    let runs: Vec<(u64, usize)> = (0..100).map(|number| (number << 14, 7)).collect();
    sparse("many runs", 100 << 14, &runs);
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

/// Makes a snapshot of an archive.
fn import(site: &Site, archive: impl Into<Vec<u8>>) -> Result<backup::Summary, Error> {
    let form = Form::Tar { origin: "tar test.tar".to_owned(), paths: vec![TreePath::root()] };
    let stream = Stream { bytes: Box::new(Cursor::new(archive.into())), form };
    let input = Input { paths: Vec::new(), stream: Some(stream) };
    backup::backup(&mut site.device().unwrap(), input, &harness::options(), &Silent)
}

/// A folder that the oldest formats can hold: short names, whole seconds, no devices.
fn make_plain_source(root: &Path) {
    fs::create_dir_all(root.join("folder/empty folder")).unwrap();
    fs::write(root.join("folder/tiny"), "x").unwrap();
    fs::write(root.join("large"), noise(2, 3_000_000)).unwrap();
    fs::write(root.join("block"), noise(3, 512)).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"odd \xff\n")), "odd").unwrap();
    symlink("folder/tiny", root.join("link")).unwrap();
    fs::hard_link(root.join("large"), root.join("large too")).unwrap();
    set_mode(&root.join("block"), 0o4711);
}

/// What GNU tar packs of a folder with these options is imported, restored, and held against what it unpacks itself.
fn assert_imported_as_extracted(make: fn(&Path), options: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    make(&source);
    // A restore makes no further names of links.
    let _ = fs::remove_file(source.join("link too"));
    gnu_tar_works(folder.path(), &[options, &["-cf", "in.tar", "source"]].concat());
    let archive = fs::read(folder.path().join("in.tar")).unwrap();
    let site = Site::new(Arc::new(Memory::new()));
    let summary = import(&site, archive.clone()).unwrap();
    assert_eq!(summary.counts.errors, 0, "{:?}", summary.errors);
    let (target, extracted) = (folder.path().join("restored"), folder.path().join("extracted"));
    restore(&site, &TreePath::root(), &target);
    extract(&archive, &extracted);
    assert_same(&extracted, &target);
}

#[test]
fn archives_of_every_format_are_imported_as_gnu_tar_extracts_them() {
    if !has("tar", "GNU tar") {
        return;
    }
    for format in ["v7", "ustar", "oldgnu", "gnu", "posix"] {
        assert_imported_as_extracted(make_plain_source, &[&format!("--format={format}")]);
    }
}

#[test]
fn gnu_archives_with_long_names_and_holes_are_imported_as_gnu_tar_extracts_them() {
    if has("tar", "GNU tar") {
        assert_imported_as_extracted(make_source, &["--format=gnu", "--sparse"]);
    }
}

#[test]
fn pax_archives_with_all_there_is_are_imported_as_gnu_tar_extracts_them() {
    if !has("tar", "GNU tar") {
        return;
    }
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        let options = [&["--format=posix", "--sparse", &version], &EVERYTHING[..]].concat();
        assert_imported_as_extracted(make_source, &options);
    }
}

#[test]
fn access_lists_that_are_texts_alone_are_kept() {
    if !has("tar", "GNU tar") {
        return;
    }
    assert_imported_as_extracted(make_source, &["--format=posix", "--acls", "--numeric-owner"]);
}

#[test]
fn an_export_that_is_imported_is_exported_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    make_source(&source);
    let site = Site::new(Arc::new(Memory::new()));
    site.backup(&source).unwrap();
    let first = export(&site, &in_snapshot(&source));
    let other = Site::new(Arc::new(Memory::new()));
    import(&other, first.clone()).unwrap();
    assert!(first == export(&other, &TreePath::root()));
    let origin = with_latest(&other, |reader| reader.body().origin.clone());
    assert_eq!(origin.as_deref(), Some("tar test.tar"));
    let again = import(&other, first).unwrap();
    assert!(again.counts.bytes_new < 1_000, "nothing is stored twice: {:?}", again.counts);
}

/// A member as no honest program writes it.
#[derive(Clone)]
struct Forged {
    header: tar::Header,
    content: Vec<u8>,
}

impl Forged {
    fn new(name: &[u8], flag: u8, content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(tar::EntryType::new(flag));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        Self { header, content: content.to_vec() }
    }

    fn linked(mut self, target: &[u8]) -> Self {
        self.header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        self
    }

    fn header(mut self, change: impl FnOnce(&mut tar::Header)) -> Self {
        change(&mut self.header);
        self
    }

    fn bytes(mut self) -> Vec<u8> {
        self.header.set_cksum();
        let mut bytes = self.header.as_bytes().to_vec();
        bytes.extend_from_slice(&self.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

fn file(name: &str) -> Forged {
    Forged::new(name.as_bytes(), b'0', b"content")
}

/// Records for the next member, or with `g` for all.
fn records(flag: u8, records: &[(&str, &str)]) -> Forged {
    let mut written = strongroom::tree::tar::pax::Records::new();
    for (keyword, value) in records {
        written.add(keyword.as_bytes(), value.as_bytes());
    }
    Forged::new(b"records", flag, written.as_bytes())
}

fn archive(members: &[Forged]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(|member| member.clone().bytes()).collect();
    bytes.resize(bytes.len() + 1_024, 0);
    bytes
}

/// Archives that could do harm or be understood in two ways, and what is said of each.
fn hostile() -> Vec<(Vec<u8>, &'static str)> {
    let of = |members: &[Forged]| archive(members);
    let folder = || Forged::new(b"d/", b'5', b"");
    let link = |target: &str| Forged::new(b"l", b'2', b"").linked(target.as_bytes());
    let hard = |target: &str| Forged::new(b"h", b'1', b"").linked(target.as_bytes());
    let mut damaged = of(&[file("a")]);
    damaged[1] ^= 1;
    let second_damaged = [file("a").bytes(), damaged.clone()].concat();
    let dots = "has a path that is not taken: a name in it is . or ..";
    let empty = "has a path that is not taken: a name in it is empty";
    vec![
        (of(&[file("../a")]), dots),
        (of(&[file("/etc/evil")]), "/etc/evil in the archive has a name that begins with a slash"),
        (of(&[Forged::new(b"/", b'5', b"")]), "/ in the archive has a name that begins with a slash"),
        (of(&[records(b'x', &[("path", "/a")]), file("a")]), "has a name that begins with a slash"),
        (of(&[file("a"), hard("/a")]), "h in the archive has a name that begins with a slash"),
        (of(&[file("./../a")]), dots),
        (of(&[file(".//a")]), empty),
        (of(&[file("d/../../a")]), dots),
        (of(&[file("d/..")]), dots),
        (of(&[records(b'x', &[("path", "../a")]), file("a")]), dots),
        (of(&[records(b'x', &[("path", "a\0b")]), file("a")]), "a name in it holds a NUL byte"),
        (of(&[Forged::new(b"././@LongLink", b'L', b"../a\0"), file("a")]), dots),
        (of(&[file("")]), empty),
        (of(&[file("d//a")]), empty),
        (of(&[file(".")]), "is the root and no directory"),
        (of(&[records(b'x', &[("path", &"n".repeat(256))]), file("a")]), "has 256 bytes, more than 255"),
        (of(&[records(b'x', &[("path", &"d/".repeat(4_097))]), folder()]), "more than 4096 directories deep"),
        (of(&[records(b'x', &[("path", &"name/".repeat(14_000))]), folder()]), "more than 65536 bytes"),
        (of(&[file("a"), file("a")]), "a in the archive is there twice"),
        (of(&[file("a"), file("./a")]), "a in the archive is there twice"),
        (of(&[folder(), folder()]), "d in the archive is there twice"),
        (of(&[folder(), file("d")]), "d in the archive is there twice"),
        (of(&[file("a"), file("a/b")]), "a/b in the archive lies below something that is no directory"),
        (of(&[link("/etc"), file("l/passwd")]), "l/passwd in the archive lies below something"),
        (of(&[file("d/a"), file("d")]), "d in the archive is there twice"),
        (of(&[hard("nowhere")]), "h in the archive is a hard link to nowhere, which is no file before it"),
        (of(&[hard("a"), file("a")]), "is a hard link to a, which is no file before it"),
        (of(&[folder(), hard("d")]), "is a hard link to d, which is no file before it"),
        (of(&[link("d"), file("d/a"), hard("l/a")]), "is a hard link to l/a, which is no file before it"),
        (of(&[hard("../../etc/passwd")]), "is a hard link to ../../etc/passwd, which is no file before it"),
        (of(&[hard("")]), "is a hard link to , which is no file before it"),
        (
            of(&[file("a"), Forged { content: b"x".to_vec(), ..hard("a") }.header(|h| h.set_size(1))]),
            "h in the archive has content and is no file",
        ),
        (
            of(&[Forged { content: b"x".to_vec(), ..link("a") }.header(|h| h.set_size(1))]),
            "l in the archive has content and is no file",
        ),
        (of(&[link("")]), "can't be kept"),
        (of(&[Forged::new(b"v", b'V', b"")]), "is of the unknown type 'V'"),
        (of(&[Forged::new(b"m", b'M', b"")]), "is of the unknown type 'M'"),
        (of(&[records(b'x', &[("size", "3")]), file("a")]), "a in the archive has two different lengths"),
        (
            of(&[records(b'x', &[("size", "512")]), file("a").header(|h| h.set_size(0))]),
            "two different lengths",
        ),
        (of(&[records(b'x', &[("size", "+7")]), file("a")]), "has a length that can't be"),
        (
            of(&[records(b'x', &[("path", "b"), ("path", "c")]), file("a")]),
            "a record that is not taken: path",
        ),
        (
            of(&[records(b'x', &[("path", "b")]), Forged::new(b"L", b'L', b"c\0"), file("a")]),
            "a record that is not taken: path",
        ),
        (of(&[records(b'x', &[]), records(b'x', &[]), file("a")]), "the same is said twice of one member"),
        (of(&[records(b'x', &[("path", "b")])]), "records that no member follows"),
        (of(&[records(b'g', &[("size", "1")]), file("a")]), "a record that is not taken: size"),
        (of(&[records(b'g', &[("path", "b")]), file("a")]), "a record that is not taken: path"),
        (of(&[Forged::new(b"x", b'x', b"11 path=a\n"), file("a")]), "records that are none"),
        (of(&[Forged::new(b"x", b'x', b"").header(|h| h.set_size(1 << 30)), file("a")]), "are too long"),
        (of(&[records(b'x', &[("uid", "4294967296")]), file("a")]), "has an owner's number that can't be"),
        (of(&[records(b'x', &[("mtime", "now")]), file("a")]), "has a time that can't be"),
        (
            of(&[records(b'x', &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")]), file("a")]),
            "a record that is not taken: GNU.sparse.major",
        ),
        (
            of(&[records(b'x', &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,9")]), file("a")]),
            "a in the archive has holes that don't fit its data",
        ),
        (
            of(&[
                records(
                    b'x',
                    &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")],
                ),
                file("a"),
            ]),
            "has holes that don't fit its data",
        ),
        (of(&[file("a").header(|h| h.as_old_mut().mode = *b"12x4567\0")]), "has permissions that can't be"),
        ([of(&[file("a")]), of(&[file("b")])].concat(), "something follows the end of the archive"),
        ([of(&[file("a")]), b"x".to_vec()].concat(), "something follows the end of the archive"),
        ([file("a").bytes(), vec![0; 512], of(&[file("b")])].concat(), "an empty block stands alone"),
        (damaged, "this is no tar archive"),
        (second_damaged, "the archive is damaged at byte 1024: a header's sum is wrong"),
        (b"short".to_vec(), "this is no tar archive"),
        (vec![b'x'; 2_048], "this is no tar archive"),
        ([&b"\x1f\x8b"[..], &[7; 600]].concat(), "the archive is compressed"),
        ([&b"\x28\xb5\x2f\xfd"[..], &[7; 600]].concat(), "the archive is compressed"),
    ]
}

#[test]
fn archives_that_could_do_harm_or_be_understood_in_two_ways_are_refused() {
    let site = Site::new(Arc::new(Memory::new()));
    for (number, (archive, message)) in hostile().into_iter().enumerate() {
        match import(&site, archive) {
            Err(Error::Archive(error)) => {
                let said = error.to_string();
                assert!(said.contains(message), "{number}: {said:?} and not {message:?}");
            }
            Err(error) => panic!("{number}, {message}: {error:?}"),
            Ok(_) => panic!("{number} was taken and should not have been: {message}"),
        }
    }
    assert_eq!(site.snapshots(), 0);
}

#[test]
fn an_archive_that_is_cut_short_anywhere_is_refused() {
    let site = Site::new(Arc::new(Memory::new()));
    let whole = archive(&[
        file("a"),
        records(b'x', &[("path", &"long/".repeat(30))]),
        Forged::new(b"d/", b'5', b""),
        Forged::new(b"h", b'1', b"").linked(b"a"),
    ]);
    for length in (0..whole.len()).filter(|length| length % 512 < 3 || length % 97 == 0) {
        let error = import(&site, &whole[..length]).err().map(|error| error.to_string());
        let expected =
            if (1..512).contains(&length) { "this is no tar archive" } else { "the archive is cut short" };
        assert_eq!(error.as_deref(), Some(expected), "{length} bytes");
    }
    assert_eq!(site.snapshots(), 0);
    assert_eq!(import(&site, whole).unwrap().counts.files, 2);
}

#[test]
fn the_root_of_an_archive_may_be_written_in_any_way() {
    let site = Site::new(Arc::new(Memory::new()));
    let root = Forged::new(b"./", b'5', b"");
    let old_folder = Forged::new(b"old/", 0, b"");
    let members = [root, file("./a"), file("././b"), file("d/c"), old_folder, Forged::new(b"7", b'7', b"x")];
    import(&site, archive(&members)).unwrap();
    let mut paths = Vec::new();
    with_latest(&site, |reader| {
        browse::walk(reader, &TreePath::root(), true, |path, entry| {
            paths.push(format!("{path} {:o}", entry.mode));
            std::ops::ControlFlow::Continue(())
        })
    })
    .unwrap();
    assert_eq!(paths, ["7 644", "a 644", "b 644", "d 755", "d/c 644", "old 644"]);
}

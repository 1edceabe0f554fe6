use super::*;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Owner;
use crate::tree::entry::Time;
use crate::tree::entry::TreeRef;
use std::collections::BTreeMap;
use std::fs as disk;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

const NOW: Time = Time { seconds: 1_600_000_000, nanos: 123_456_789 };

fn am_root() -> bool {
    current_user() == 0
}

fn run() -> Run {
    Run { tag: [0x1a, 0x2b, 0x3c, 0x4d], marker: "snapshot 1a2b3c4d, all of it".to_owned() }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn entry(text: &str, kind: EntryKind) -> Entry {
    let owner = Owner {
        uid: current_user(),
        gid: rustix::process::getegid().as_raw(),
        user: "".into(),
        group: "".into(),
    };
    Entry { name: name(text), kind, mode: 0o640, owner, modified: NOW, xattrs: Vec::new(), link_group: None }
}

fn file(text: &str, content: &[u8]) -> Entry {
    let kind = EntryKind::File {
        size: content.len() as u64,
        content: Content::Inline(content.into()),
        sparse: None,
    };
    entry(text, kind)
}

fn link(text: &str, to: &str) -> Entry {
    entry(text, EntryKind::Symlink { target: to.as_bytes().into() })
}

fn folder(text: &str) -> Entry {
    let reference = ChunkRef { id: crate::id::ChunkId([0; 32]), length: 1 };
    let mut entry = entry(text, EntryKind::Directory { tree: TreeRef { depth: 0, reference } });
    entry.mode = 0o750;
    entry
}

/// Places one file at `directory` as a restore does.
fn place(target: &Target, directory: &str, entry: &Entry) -> Result<bool, Error> {
    let EntryKind::File { content: Content::Inline(content), .. } = &entry.kind else {
        panic!("an inline file")
    };
    match target.directory(&path(directory))?.begin_file(entry)? {
        Begin::Write(file) => {
            file.write_at(0, content)?;
            file.finish(entry)?;
            Ok(true)
        }
        Begin::Keep | Begin::Planned => Ok(false),
    }
}

/// A scratch directory with `target` in it and beside it `outside`, which nothing may change.
struct Scene {
    scratch: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        disk::create_dir(scratch.path().join("outside")).unwrap();
        disk::write(scratch.path().join("outside/victim"), "untouched").unwrap();
        Self { scratch }
    }

    fn target(&self) -> PathBuf {
        self.scratch.path().join("target")
    }

    fn outside(&self) -> PathBuf {
        self.scratch.path().join("outside")
    }

    fn make_target(&self) {
        disk::create_dir(self.target()).unwrap();
        disk::write(self.target().join("there"), "before").unwrap();
    }

    fn in_place(&self, policy: Policy) -> Target {
        Target::in_place(&self.target(), &run(), policy).unwrap()
    }

    /// Everything in the directory above the target, by name.
    fn names(&self) -> Vec<String> {
        names_of(self.scratch.path())
    }

    fn assert_outside_is_untouched(&self) {
        assert_eq!(names_of(&self.outside()), ["victim"]);
        let victim = self.outside().join("victim");
        assert_eq!(disk::read(&victim).unwrap(), b"untouched");
        let meta = disk::metadata(&victim).unwrap();
        assert_ne!(meta.mtime(), NOW.seconds);
        assert_eq!(meta.mode() & 0o7777, 0o666 & !umask());
    }
}

fn umask() -> u32 {
    let probe = tempfile::tempdir().unwrap();
    disk::write(probe.path().join("probe"), "").unwrap();
    0o666 & !disk::metadata(probe.path().join("probe")).unwrap().mode()
}

fn names_of(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = disk::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn always() -> Policy {
    Policy { overwrite: Overwrite::Always, ..Policy::default() }
}

#[test]
fn a_new_target_appears_whole_with_its_times_and_modes() {
    let scene = Scene::new();
    let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    assert!(!target.is_resumed() && target.free_bytes().unwrap() > 0);
    let mut before_1970 = file("old", b"before the epoch");
    before_1970.modified = Time { seconds: -5, nanos: 999_999_999 };
    before_1970.xattrs = vec![(b"user.colour"[..].into(), b"green"[..].into())];
    assert!(place(&target, "a/b", &file("f", b"hello")).unwrap());
    assert!(place(&target, "a", &before_1970).unwrap());
    assert_eq!(
        target.directory(&path("a")).unwrap().symlink(&link("l", "../nowhere")).unwrap(),
        Outcome::Placed
    );
    assert_eq!(
        target.directory(&path("a")).unwrap().fifo(&entry("p", EntryKind::Fifo)).unwrap(),
        Outcome::Placed
    );
    let staging = target.staging_path().unwrap().to_owned();
    assert_eq!(disk::metadata(&staging).unwrap().mode() & 0o7777, 0o700);
    assert!(!scene.target().exists());

    target.finish_directory(&path("a/b"), &folder("b")).unwrap();
    target.finish_directory(&path("a"), &folder("a")).unwrap();
    let mut root = folder("root");
    root.mode = 0o555;
    target.finish_directory(&TreePath::root(), &root).unwrap();
    target.finish().unwrap();

    assert_eq!(scene.names(), ["outside", "target"]);
    let meta = |text: &str| disk::symlink_metadata(scene.target().join(text)).unwrap();
    assert_eq!(disk::read(scene.target().join("a/b/f")).unwrap(), b"hello");
    for text in ["", "a", "a/b", "a/b/f", "a/l", "a/p"] {
        assert_eq!((meta(text).mtime(), meta(text).mtime_nsec()), (NOW.seconds, 123_456_789), "{text}");
    }
    assert_eq!((meta("a/old").mtime(), meta("a/old").mtime_nsec()), (-5, 999_999_999));
    assert_eq!(meta("").mode() & 0o7777, 0o555);
    assert_eq!(meta("a/b").mode() & 0o7777, 0o750);
    assert_eq!(meta("a/b/f").mode() & 0o7777, 0o640);
    assert_eq!(meta("a/p").mode() & 0o7777, 0o640);
    assert!(meta("a/p").file_type().is_fifo());
    assert_eq!(disk::read_link(scene.target().join("a/l")).unwrap(), Path::new("../nowhere"));
    let mut value = [0; 16];
    let length = fs::getxattr(scene.target().join("a/old"), "user.colour", &mut value).unwrap();
    assert_eq!(&value[..length], b"green");
    disk::set_permissions(scene.target(), disk::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_target_with_files_is_refused_unless_the_policy_says_more() {
    let scene = Scene::new();
    scene.make_target();
    let refused = |result: Result<Target, Error>| matches!(result, Err(Error::NotEmpty { .. }));
    assert!(refused(Target::stage(&scene.target(), &run(), always())));
    assert!(refused(Target::in_place(&scene.target(), &run(), Policy::default())));
    assert!(matches!(
        Target::stage(&scene.target().join("there"), &run(), always()),
        Err(Error::NotDirectory { .. })
    ));
    assert_eq!(scene.names(), ["outside", "target"]);
}

#[test]
fn an_empty_directory_is_replaced_and_keeps_its_mode() {
    let scene = Scene::new();
    disk::create_dir(scene.target()).unwrap();
    disk::set_permissions(scene.target(), disk::Permissions::from_mode(0o751)).unwrap();
    let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    place(&target, "", &file("f", b"1")).unwrap();
    assert!(names_of(&scene.target()).is_empty());
    target.finish().unwrap();
    assert_eq!(names_of(&scene.target()), ["f"]);
    assert_eq!(disk::metadata(scene.target()).unwrap().mode() & 0o777, 0o751);
}

#[test]
fn what_appears_at_the_target_meanwhile_is_not_replaced() {
    for plant in ["file", "directory", "link", "filled"] {
        let scene = Scene::new();
        if plant == "filled" {
            disk::create_dir(scene.target()).unwrap();
        }
        let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
        place(&target, "", &file("f", b"1")).unwrap();
        match plant {
            "file" => disk::write(scene.target(), "theirs").unwrap(),
            "directory" => disk::create_dir(scene.target()).unwrap(),
            "link" => symlink("outside", scene.target()).unwrap(),
            _ => disk::write(scene.target().join("theirs"), "x").unwrap(),
        }
        let staging = target.staging_path().unwrap().to_owned();
        assert!(matches!(target.finish(), Err(Error::Appeared { .. })), "{plant}");
        assert_eq!(disk::read(staging.join("tree/f")).unwrap(), b"1");
        scene.assert_outside_is_untouched();
    }
}

#[test]
fn an_interrupted_run_goes_on_and_another_one_is_refused() {
    let scene = Scene::new();
    let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    place(&target, "d", &file("whole", b"1234")).unwrap();
    target.finish_directory(&path("d"), &Entry { mode: 0o500, ..folder("d") }).unwrap();
    assert!(matches!(Target::stage(&scene.target(), &run(), Policy::default()), Err(Error::Busy { .. })));
    let staging = target.staging_path().unwrap().to_owned();
    drop(target);

    let other = Run { marker: "another snapshot".to_owned(), ..run() };
    assert!(matches!(Target::stage(&scene.target(), &other, Policy::default()), Err(Error::Leftover { .. })));
    disk::set_permissions(&staging, disk::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(Target::stage(&scene.target(), &run(), Policy::default()), Err(Error::Leftover { .. })));
    disk::set_permissions(&staging, disk::Permissions::from_mode(0o700)).unwrap();

    let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    assert!(target.is_resumed());
    let directory = target.directory(&path("d")).unwrap();
    let existing = directory.existing_for_reuse(&file("whole", b"1234")).unwrap().unwrap();
    let mut found = [0; 8];
    assert_eq!(existing.read_at(0, &mut found).unwrap(), 4);
    assert_eq!((existing.size(), existing.modified()), (4, NOW));
    existing.keep(&file("whole", b"1234")).unwrap();
    drop(directory);
    place(&target, "d", &file("next", b"5")).unwrap();
    target.finish_directory(&path("d"), &folder("d")).unwrap();
    target.finish().unwrap();
    assert_eq!(names_of(&scene.target().join("d")), ["next", "whole"]);
    assert_eq!(scene.names(), ["outside", "target"]);
}

#[test]
fn abandoning_removes_our_staging_directory_and_nothing_else() {
    let scene = Scene::new();
    let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    place(&target, "a/b/c", &file("f", b"1")).unwrap();
    target.directory(&path("a")).unwrap().symlink(&link("out", scene.outside().to_str().unwrap())).unwrap();
    target.finish_directory(&path("a/b"), &Entry { mode: 0o000, ..folder("b") }).unwrap();
    target.abandon().unwrap();
    assert_eq!(scene.names(), ["outside"]);
    scene.assert_outside_is_untouched();

    scene.make_target();
    let target = scene.in_place(always());
    let handle = target.directory(&TreePath::root()).unwrap();
    let Begin::Write(half) = handle.begin_file(&file("there", b"half")).unwrap() else {
        panic!("it is written")
    };
    half.write_at(0, b"ha").unwrap();
    drop(half);
    drop(handle);
    target.abandon().unwrap();
    assert_eq!(names_of(&scene.target()), ["there"]);
    assert_eq!(disk::read(scene.target().join("there")).unwrap(), b"before");
}

#[test]
fn each_way_to_overwrite_keeps_and_replaces_what_it_says() {
    let old = Time { seconds: NOW.seconds - 10, ..NOW };
    let new = Time { seconds: NOW.seconds + 10, ..NOW };
    // What stands there has the time NOW and four bytes.
    let cases = [
        (Overwrite::Always, NOW, "1234", true),
        (Overwrite::Never, new, "12345", false),
        (Overwrite::IfChanged, NOW, "4321", false),
        (Overwrite::IfChanged, NOW, "12345", true),
        (Overwrite::IfChanged, old, "4321", true),
        (Overwrite::IfNewer, old, "4321", false),
        (Overwrite::IfNewer, NOW, "4321", false),
        (Overwrite::IfNewer, new, "4321", true),
    ];
    for (overwrite, modified, content, replaced) in cases {
        let scene = Scene::new();
        scene.make_target();
        let first = scene.in_place(always());
        place(&first, "", &file("f", b"1234")).unwrap();
        drop(first);
        let target = scene.in_place(Policy { overwrite, ..Policy::default() });
        let written = place(&target, "", &Entry { modified, mode: 0o600, ..file("f", content.as_bytes()) });
        assert_eq!(written.unwrap(), replaced, "{overwrite:?}");
        let expected = if replaced { content } else { "1234" };
        assert_eq!(disk::read_to_string(scene.target().join("f")).unwrap(), expected, "{overwrite:?}");
        // A file kept because it is the same gets the mode that it should have.
        let mode = disk::metadata(scene.target().join("f")).unwrap().mode() & 0o777;
        assert_eq!(mode == 0o600, replaced || overwrite == Overwrite::IfChanged, "{overwrite:?}");
        assert_eq!(names_of(&scene.target()), ["f", "there"]);
    }
}

/// Layouts that somebody plants in the target beforehand, and what a restore over them must leave.
#[test]
fn what_was_planted_in_the_target_leads_nowhere() {
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 18] = [
        ("file is a link to a file", |at, out| symlink(out.join("victim"), at.join("d/f")).unwrap()),
        ("file is a link to a new name", |at, out| symlink(out.join("new"), at.join("d/f")).unwrap()),
        ("file is a link to a directory", |at, out| symlink(out, at.join("d/f")).unwrap()),
        ("file is a relative link", |at, _| symlink("../../outside/victim", at.join("d/f")).unwrap()),
        ("file is a hard link", |at, out| disk::hard_link(out.join("victim"), at.join("d/f")).unwrap()),
        ("file is a pipe", |at, _| {
            fs::mkfifoat(fs::CWD, at.join("d/f"), Mode::RWXU).unwrap();
        }),
        ("file is an empty directory", |at, _| disk::create_dir(at.join("d/f")).unwrap()),
        ("file is a full directory", |at, _| {
            disk::create_dir_all(at.join("d/f/g")).unwrap();
            disk::write(at.join("d/f/g/h"), "x").unwrap();
        }),
        ("file is a directory with a link out", |at, out| {
            disk::create_dir(at.join("d/f")).unwrap();
            symlink(out, at.join("d/f/out")).unwrap();
        }),
        ("file is a socket", |at, _| {
            drop(std::os::unix::net::UnixListener::bind(at.join("d/f")).unwrap());
        }),
        ("directory is a link", |at, out| {
            disk::remove_dir(at.join("d")).unwrap();
            symlink(out, at.join("d")).unwrap();
        }),
        ("directory is a link to the target's parent", |at, _| {
            disk::remove_dir(at.join("d")).unwrap();
            symlink("..", at.join("d")).unwrap();
        }),
        ("directory is a link through /proc", |at, _| {
            disk::remove_dir(at.join("d")).unwrap();
            symlink("/proc/self/cwd", at.join("d")).unwrap();
        }),
        ("directory is a dangling link", |at, out| {
            disk::remove_dir(at.join("d")).unwrap();
            symlink(out.join("new"), at.join("d")).unwrap();
        }),
        ("directory is a file", |at, _| {
            disk::remove_dir(at.join("d")).unwrap();
            disk::write(at.join("d"), "x").unwrap();
        }),
        ("directory is a hard link", |at, out| {
            disk::remove_dir(at.join("d")).unwrap();
            disk::hard_link(out.join("victim"), at.join("d")).unwrap();
        }),
        ("directory is a pipe", |at, _| {
            disk::remove_dir(at.join("d")).unwrap();
            fs::mkfifoat(fs::CWD, at.join("d"), Mode::RWXU).unwrap();
        }),
        ("temporary names are links", |at, out| {
            for serial in 0..3 {
                symlink(out.join("victim"), at.join(format!("d/.strongroom-1a2b3c4d-{serial:x}"))).unwrap();
            }
            symlink(out.join("victim"), at.join("d/f")).unwrap();
        }),
    ];
    let ways = [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never];
    for (what, plant) in plants {
        for (overwrite, has_openat2) in ways.iter().flat_map(|way| [(*way, true), (*way, false)]) {
            let scene = Scene::new();
            disk::create_dir_all(scene.target().join("d")).unwrap();
            plant(&scene.target(), &scene.outside());
            let mut target = scene.in_place(Policy { overwrite, delete: true, ..Policy::default() });
            if !has_openat2 {
                target.beneath = target.beneath.without_openat2();
            }
            let placed = place(&target, "d", &Entry { mode: 0o755, ..file("f", b"new") });
            let finished = target.finish_directory(&path("d"), &folder("d"));
            if matches!(overwrite, Overwrite::Always | Overwrite::IfChanged) {
                assert!(placed.unwrap(), "{what}");
                finished.unwrap();
                let found = disk::symlink_metadata(scene.target().join("d/f")).unwrap();
                assert!(found.is_file() && found.nlink() == 1, "{what}");
                assert_eq!(disk::read(scene.target().join("d/f")).unwrap(), b"new", "{what}");
                assert_eq!(names_of(&scene.target().join("d")), ["f"], "{what}");
            } else if let Err(error) = placed {
                assert!(matches!(error, Error::InTheWay { .. }), "{what}: {error}");
            }
            scene.assert_outside_is_untouched();
            assert_eq!(scene.names(), ["outside", "target"], "{what}");
        }
    }
}

#[test]
fn a_file_that_has_other_names_is_replaced_and_never_changed() {
    let scene = Scene::new();
    scene.make_target();
    let victim = scene.outside().join("victim");
    disk::File::open(&victim).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    disk::hard_link(&victim, scene.target().join("f")).unwrap();
    let target = scene.in_place(Policy { overwrite: Overwrite::IfChanged, ..Policy::default() });
    let mut same = file("f", b"untouched");
    same.modified = Time { seconds: 0, nanos: 0 };
    same.mode = 0o7777;
    let handle = target.directory(&TreePath::root()).unwrap();
    assert!(handle.existing_for_reuse(&same).unwrap().is_none());
    assert!(place(&target, "", &same).unwrap());
    scene.assert_outside_is_untouched();
    assert_eq!(disk::metadata(&victim).unwrap().nlink(), 1);
}

#[test]
fn rights_that_an_entry_brings_are_dropped_counted_and_placed_only_on_request() {
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut evil = file("evil", b"#!");
    evil.mode = 0o6755;
    evil.owner.uid = 12345;
    evil.owner.gid = 12345;
    evil.xattrs = vec![
        (b"security.capability"[..].into(), capability.into()),
        (b"security.evm"[..].into(), b"x"[..].into()),
        (b"strange.name"[..].into(), b"x"[..].into()),
        (b"trusted.x"[..].into(), b"x"[..].into()),
        (b"user.x"[..].into(), b"kept"[..].into()),
    ];
    let device = entry("null", EntryKind::CharDevice { major: 1, minor: 3 });
    for privileged in [false, true] {
        let scene = Scene::new();
        let policy = Policy { privileged, ..Policy::default() };
        let target = Target::stage(&scene.target(), &run(), policy).unwrap();
        place(&target, "", &evil).unwrap();
        let handle = target.directory(&TreePath::root()).unwrap();
        let outcome = handle.device(&device).unwrap();
        drop(handle);
        let dropped = target.dropped();
        target.finish().unwrap();
        let meta = disk::metadata(scene.target().join("evil")).unwrap();
        let capability_bytes =
            fs::getxattr(scene.target().join("evil"), "security.capability", &mut [0; 64]).unwrap_or(0);
        let mut kept = [0; 4];
        fs::getxattr(scene.target().join("evil"), "user.x", &mut kept).unwrap();
        assert_eq!(&kept, b"kept");
        if !privileged {
            let expected = Dropped {
                special_bits: 1,
                capabilities: 1,
                security_xattrs: 2,
                other_xattrs: 1,
                refused_xattrs: 0,
                devices: 1,
                owners: 1,
            };
            assert_eq!((outcome, dropped), (Outcome::Dropped, expected));
            assert_eq!((meta.uid(), meta.mode() & 0o7777, capability_bytes), (current_user(), 0o755, 0));
            assert_eq!(names_of(&scene.target()), ["evil"]);
        } else if am_root() {
            assert_eq!(outcome, Outcome::Placed);
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (12345, 12345, 0o6755));
            assert_eq!(capability_bytes, capability.len());
            assert_eq!((dropped.special_bits, dropped.capabilities, dropped.owners), (0, 0, 0));
            let node = disk::symlink_metadata(scene.target().join("null")).unwrap();
            assert!(node.file_type().is_char_device() && node.rdev() == fs::makedev(1, 3));
        } else {
            assert_eq!((outcome, dropped.owners, dropped.capabilities), (Outcome::Dropped, 1, 1));
        }
    }
}

#[test]
fn owners_go_by_name_first_and_by_number_if_asked() {
    if !am_root() {
        return;
    }
    for (numeric_owner, user, expected) in
        [(false, "root", 0), (true, "root", 777), (false, "nobody-of-that-name", 777), (false, "", 777)]
    {
        let scene = Scene::new();
        let policy = Policy { privileged: true, numeric_owner, ..Policy::default() };
        let target = Target::stage(&scene.target(), &run(), policy).unwrap();
        let owner = Owner { uid: 777, gid: 777, user: user.into(), group: "".into() };
        place(&target, "", &Entry { owner, ..file("f", b"") }).unwrap();
        target.directory(&TreePath::root()).unwrap();
        let owner = Owner { uid: u32::MAX, gid: u32::MAX, user: "".into(), group: "".into() };
        target.directory(&TreePath::root()).unwrap().symlink(&Entry { owner, ..link("l", "f") }).unwrap();
        target.finish().unwrap();
        let meta = disk::metadata(scene.target().join("f")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (expected, 777), "{user} {numeric_owner}");
        assert_eq!(disk::symlink_metadata(scene.target().join("l")).unwrap().uid(), 0);
    }
}

/// An access list as the kernel takes it: version 2, then tag, rights and number of each row.
fn access_list(rows: &[(u16, u16, u32)]) -> Box<[u8]> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, number) in rows {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(number.to_le_bytes());
    }
    bytes.into()
}

#[test]
fn access_lists_come_from_the_entry_and_never_from_the_directory_around() {
    const NOBODY: u32 = u32::MAX;
    let list = access_list(&[(1, 7, NOBODY), (2, 4, 1234), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]);
    let read = |path: &Path, which: &str| {
        let mut value = [0; 128];
        fs::getxattr(path, which, &mut value).map(|length| value[..length].to_vec()).ok()
    };
    let scene = Scene::new();
    let plain = rustix::fs::XattrFlags::empty();
    if fs::setxattr(scene.scratch.path(), "system.posix_acl_default", &list, plain).is_err() {
        return;
    }
    let mut listed = file("listed", b"");
    listed.xattrs = vec![(b"system.posix_acl_access"[..].into(), list.clone())];
    let staged = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    place(&staged, "d", &file("plain", b"")).unwrap();
    place(&staged, "d", &listed).unwrap();
    staged.finish_directory(&path("d"), &folder("d")).unwrap();
    staged.finish().unwrap();

    disk::create_dir(scene.scratch.path().join("other")).unwrap();
    let target = Target::in_place(&scene.scratch.path().join("other"), &run(), always()).unwrap();
    place(&target, "d", &file("plain", b"")).unwrap();
    drop(target);
    for text in ["target", "target/d", "target/d/plain", "other/d", "other/d/plain"] {
        let found = read(&scene.scratch.path().join(text), "system.posix_acl_access");
        assert_eq!(found, None, "{text}");
        assert_eq!(read(&scene.scratch.path().join(text), "system.posix_acl_default"), None, "{text}");
    }
    let found = read(&scene.target().join("d/listed"), "system.posix_acl_access");
    assert_eq!(found.as_deref(), Some(&*list));
}

#[test]
fn holes_stay_holes_and_zeros_become_them_on_request() {
    const MIB: u64 = 1 << 20;
    for sparse in [false, true] {
        let scene = Scene::new();
        let target = Target::stage(&scene.target(), &run(), Policy { sparse, ..Policy::default() }).unwrap();
        let runs = [DataRun { offset: 4 * MIB + 5, length: MIB }];
        let kind = EntryKind::File {
            size: 9 * MIB,
            content: Content::Inline(Box::default()),
            sparse: Some(runs.into()),
        };
        let holed = entry("holed", kind);
        let mut data = vec![0; 1 << 20];
        data[0] = 1;
        data[500_000] = 2;
        *data.last_mut().unwrap() = 3;
        let handle = target.directory(&TreePath::root()).unwrap();
        let Begin::Write(file) = handle.begin_file(&holed).unwrap() else { panic!("it is written") };
        file.write_at(4 * MIB + 5, &data).unwrap();
        let mut back = [9; 2];
        assert_eq!(file.read_at(4 * MIB + 4, &mut back).unwrap(), 2);
        assert_eq!(back, [0, 1]);
        file.finish(&holed).unwrap();
        drop(handle);
        target.finish().unwrap();
        let found = disk::read(scene.target().join("holed")).unwrap();
        assert_eq!(found.len() as u64, 9 * MIB);
        let start = usize::try_from(4 * MIB + 5).unwrap();
        assert!(found[start..start + data.len()] == data && found[..start].iter().all(|&byte| byte == 0));
        let bytes = disk::metadata(scene.target().join("holed")).unwrap().blocks() * 512;
        assert!(bytes < if sparse { 64 << 10 } else { 2 * MIB }, "{bytes} bytes");
    }
}

#[test]
fn hard_links_lead_only_to_what_this_run_placed() {
    for staged in [true, false] {
        let scene = Scene::new();
        let target = if staged {
            Target::stage(&scene.target(), &run(), Policy::default()).unwrap()
        } else {
            scene.make_target();
            scene.in_place(always())
        };
        let first = Entry { link_group: Some([1; 16]), ..file("first", b"shared") };
        let second = Entry { name: name("second"), ..first.clone() };
        let handle = target.directory(&path("a")).unwrap();
        let Begin::Write(file) = handle.begin_file(&first).unwrap() else { panic!("it is written") };
        file.write_at(0, b"shared").unwrap();
        let id = file.finish(&first).unwrap().id.unwrap();
        let there = target.directory(&path("b")).unwrap();
        assert_eq!(there.hard_link(&second, &id).unwrap(), Outcome::Placed);
        let base = if staged { target.staging_path().unwrap().join("tree") } else { scene.target() };
        assert_eq!(disk::metadata(base.join("b/second")).unwrap().nlink(), 2);
        if !staged {
            // Again, over itself and over something else.
            assert_eq!(there.hard_link(&second, &id).unwrap(), Outcome::Kept);
            disk::write(base.join("b/third"), "other").unwrap();
            let third = Entry { name: name("third"), ..first.clone() };
            assert_eq!(there.hard_link(&third, &id).unwrap(), Outcome::Placed);
            assert_eq!(names_of(&base.join("b")), ["second", "third"]);
        }

        disk::remove_file(base.join("a/first")).unwrap();
        disk::hard_link(scene.outside().join("victim"), base.join("a/first")).unwrap();
        let fourth = Entry { name: name("fourth"), ..first.clone() };
        assert!(matches!(there.hard_link(&fourth, &id), Err(Error::Exchanged { .. })));
        assert!(!base.join("b/fourth").exists());
    }
}

#[test]
fn names_of_255_bytes_and_paths_beyond_path_max_are_placed_and_removed() {
    let scene = Scene::new();
    let long = "é".repeat(127) + "x";
    assert_eq!(long.len(), 255);
    let target_path = scene.scratch.path().join(&long);
    let target = Target::stage(&target_path, &run(), Policy::default()).unwrap();
    assert!(target.staging_path().unwrap().file_name().unwrap().len() <= 255);
    place(&target, "", &file(&long, b"1")).unwrap();
    let deep = vec!["0123456789"; 1000].join("/");
    place(&target, &deep, &file("f", b"deep")).unwrap();
    let mut at = path(&deep);
    while !at.is_root() {
        target.finish_directory(&at, &folder("0123456789")).unwrap();
        at.pop();
    }
    target.finish().unwrap();
    assert_eq!(disk::read(target_path.join(&long)).unwrap(), b"1");

    let target = Target::in_place(&target_path, &run(), Policy { delete: true, ..always() }).unwrap();
    let mut at = path(&deep);
    let handle = target.directory(&at).unwrap();
    assert!(matches!(handle.existing_for_reuse(&file("f", b"deep")), Ok(Some(file)) if file.size() == 4));
    at.pop();
    drop(handle);
    let mut told = 0;
    let removed = target.remove_extra(&TreePath::root(), &[name(&long)], |_| told += 1).unwrap();
    assert_eq!((removed, told), (Removed { entries: 1001, mounted: 0 }, 1));
    assert_eq!(names_of(&target_path), [long]);
}

#[test]
fn another_file_system_in_the_target_is_not_entered() {
    let policy = Policy { overwrite: Overwrite::Never, dry_run: true, ..Policy::default() };
    for has_openat2 in [true, false] {
        let Ok(mut target) = Target::in_place(Path::new("/"), &run(), policy) else { return };
        if !has_openat2 {
            target.beneath = target.beneath.without_openat2();
        }
        let refused = target.directory(&path("proc"));
        assert!(matches!(refused, Err(Error::OtherFileSystem { .. })));
    }
}

#[test]
fn what_was_resumed_as_root_with_owners_and_links_is_reused() {
    let scene = Scene::new();
    let policy = Policy { privileged: true, ..Policy::default() };
    let mut first = Entry { link_group: Some([1; 16]), ..file("first", b"shared") };
    if am_root() {
        first.owner.uid = 4321;
    }
    let second = Entry { name: name("second"), ..first.clone() };
    for resumed in [false, true] {
        let target = Target::stage(&scene.target(), &run(), policy).unwrap();
        assert_eq!(target.is_resumed(), resumed);
        let handle = target.directory(&TreePath::root()).unwrap();
        let existing = handle.existing_for_reuse(&first).unwrap();
        assert_eq!(existing.is_some(), resumed);
        let finished = match existing {
            Some(existing) => existing.keep(&first).unwrap(),
            None => {
                let Begin::Write(file) = handle.begin_file(&first).unwrap() else { panic!("it is written") };
                file.write_at(0, b"shared").unwrap();
                file.finish(&first).unwrap()
            }
        };
        let expected = if resumed { Outcome::Kept } else { Outcome::Placed };
        assert_eq!(handle.hard_link(&second, &finished.id.unwrap()).unwrap(), expected);
        drop(handle);
        if resumed {
            target.finish().unwrap();
        }
    }
    assert_eq!(disk::metadata(scene.target().join("second")).unwrap().nlink(), 2);
}

#[test]
fn many_directories_need_few_descriptors() {
    let scene = Scene::new();
    let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    let open = || disk::read_dir("/proc/self/fd").unwrap().count();
    for number in 0..2000 {
        place(&target, &format!("{}/{number}", number % 7), &file("f", b"")).unwrap();
    }
    assert!(open() < 700, "{} descriptors", open());
    for number in (0..2000).rev() {
        let at = format!("{}/{number}", number % 7);
        target.finish_directory(&path(&at), &folder("x")).unwrap();
    }
    target.abandon().unwrap();
    assert_eq!(scene.names(), ["outside"]);
}

#[test]
fn delete_removes_what_is_extra_and_never_through_a_link() {
    let scene = Scene::new();
    scene.make_target();
    let at = |text: &str| scene.target().join(text);
    disk::create_dir_all(at("d/deeper/still")).unwrap();
    disk::write(at("d/deeper/still/file"), "x").unwrap();
    disk::write(at("d/keep"), "x").unwrap();
    symlink(scene.outside(), at("d/out")).unwrap();
    symlink(scene.outside(), at("d/deeper/out")).unwrap();
    disk::hard_link(scene.outside().join("victim"), at("d/deeper/hard")).unwrap();
    symlink(scene.outside(), at("link")).unwrap();

    let target = scene.in_place(always());
    assert_eq!(target.remove_extra(&path("d"), &[], |_| {}).unwrap(), Removed::default());
    drop(target);

    let policy = Policy { delete: true, ..always() };
    let target = scene.in_place(Policy { dry_run: true, ..policy });
    let mut told = Vec::new();
    let planned =
        target.remove_extra(&path("d"), &[name("keep")], |path| told.push(path.to_string())).unwrap();
    told.sort();
    assert_eq!((planned.entries, told), (2, vec!["d/deeper".to_owned(), "d/out".to_owned()]));
    assert!(at("d/deeper/still/file").exists());
    drop(target);

    let target = scene.in_place(policy);
    assert_eq!(target.remove_extra(&path("link"), &[], |_| {}).unwrap(), Removed::default());
    let removed = target.remove_extra(&path("d"), &[name("keep")], |_| {}).unwrap();
    assert_eq!(removed, Removed { entries: 6, mounted: 0 });
    assert_eq!(names_of(&at("d")), ["keep"]);
    scene.assert_outside_is_untouched();
}

#[test]
fn leftovers_of_an_interrupted_run_are_swept_and_entries_of_such_names_stay() {
    let scene = Scene::new();
    scene.make_target();
    disk::create_dir(scene.target().join("d")).unwrap();
    let leftover = "d/.strongroom-1a2b3c4d-0";
    for text in [leftover, "d/.strongroom-1a2b3c4d-x", "d/.strongroom-00000000-0"] {
        disk::write(scene.target().join(text), "half").unwrap();
    }
    let target = scene.in_place(always());
    place(&target, "d", &file("f", b"1")).unwrap();
    target.finish_directory(&path("d"), &folder("d")).unwrap();
    let expected = [".strongroom-00000000-0", ".strongroom-1a2b3c4d-x", "f"];
    assert_eq!(names_of(&scene.target().join("d")), expected);

    place(&target, "d", &file(".strongroom-1a2b3c4d-77", b"an entry")).unwrap();
    target.finish_directory(&path("d"), &folder("d")).unwrap();
    assert!(scene.target().join("d/.strongroom-1a2b3c4d-77").exists());
}

#[test]
fn a_dry_run_changes_nothing() {
    let everything = |scene: &Scene| -> BTreeMap<PathBuf, i64> {
        walkdir_of(scene.scratch.path()).into_iter().map(|at| (at.clone(), ctime(&at))).collect()
    };
    for exists in [true, false] {
        let scene = Scene::new();
        let policy = Policy { dry_run: true, delete: true, ..always() };
        let target = if exists {
            scene.make_target();
            scene.in_place(policy)
        } else {
            Target::stage(&scene.target().join("not/yet"), &run(), policy).unwrap()
        };
        let before = everything(&scene);
        assert!(target.free_bytes().unwrap() > 0);
        assert!(!place(&target, "new/dir", &file("f", b"1")).unwrap());
        assert!(!place(&target, "", &file("there", b"1")).unwrap());
        let root = target.directory(&TreePath::root()).unwrap();
        assert_eq!(root.symlink(&link("there", "x")).unwrap(), Outcome::Planned);
        assert_eq!(root.fifo(&entry("p", EntryKind::Fifo)).unwrap(), Outcome::Planned);
        drop(root);
        target.remove_extra(&TreePath::root(), &[], |_| {}).unwrap();
        target.finish_directory(&path("new/dir"), &folder("dir")).unwrap();
        target.finish_directory(&TreePath::root(), &folder("root")).unwrap();
        target.finish().unwrap();
        assert_eq!(everything(&scene), before);
    }
}

fn walkdir_of(at: &Path) -> Vec<PathBuf> {
    let mut found = vec![at.to_owned()];
    if disk::symlink_metadata(at).unwrap().is_dir() {
        for entry in disk::read_dir(at).unwrap() {
            found.extend(walkdir_of(&entry.unwrap().path()));
        }
    }
    found
}

fn ctime(at: &Path) -> i64 {
    let meta = disk::symlink_metadata(at).unwrap();
    meta.ctime() * 1_000_000_000 + meta.ctime_nsec()
}

#[test]
fn a_name_that_two_entries_share_in_a_new_target_is_an_error() {
    let scene = Scene::new();
    let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    place(&target, "", &file("f", b"1")).unwrap();
    let same = |error: Error| matches!(error, Error::SameName { .. });
    assert!(same(place(&target, "", &file("f", b"2")).unwrap_err()));
    assert!(same(place(&target, "f", &file("g", b"2")).unwrap_err()));
    assert!(same(target.directory(&TreePath::root()).unwrap().symlink(&link("f", "x")).unwrap_err()));
    target.finish().unwrap();
    assert_eq!(disk::read(scene.target().join("f")).unwrap(), b"1");
}

#[test]
fn deferred_links_come_last_and_tell_how_it_went() {
    let scene = Scene::new();
    let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    target.defer(path("d"), link("l", scene.outside().to_str().unwrap()));
    place(&target, "d", &file("f", b"1")).unwrap();
    target.defer(path("d"), link("f", "x"));
    let mut outcomes = Vec::new();
    target.place_deferred(|_, entry, outcome| outcomes.push((entry.name.to_string(), outcome.is_ok())));
    assert_eq!(outcomes, [("l".to_owned(), true), ("f".to_owned(), false)]);
    // A link that this run placed isn't followed by what comes after it either.
    assert!(matches!(place(&target, "d/l", &file("g", b"1")), Err(Error::SameName { .. })));
    scene.assert_outside_is_untouched();
}

#[test]
fn a_directory_exchanged_after_it_was_filled_is_noticed() {
    let scene = Scene::new();
    scene.make_target();
    let target = scene.in_place(always());
    place(&target, "d", &file("f", b"1")).unwrap();
    disk::rename(scene.target().join("d"), scene.target().join("aside")).unwrap();
    symlink(scene.outside(), scene.target().join("d")).unwrap();
    let exchanged = |error: Error| matches!(error, Error::Exchanged { .. });
    assert!(exchanged(target.finish_directory(&path("d"), &folder("d")).unwrap_err()));
    disk::remove_file(scene.target().join("d")).unwrap();
    disk::create_dir(scene.target().join("d")).unwrap();
    assert!(exchanged(target.finish_directory(&path("d"), &folder("d")).unwrap_err()));
    scene.assert_outside_is_untouched();
}

/// Somebody exchanges directories and files for links all the while that we place, finish and delete.
#[test]
fn nothing_lands_outside_while_directories_are_exchanged_for_links() {
    for round in 0..20 {
        let scene = Scene::new();
        for number in 0..8 {
            disk::create_dir_all(scene.target().join(format!("d{number}/s"))).unwrap();
        }
        let mut target = scene.in_place(Policy { delete: round % 2 == 0, ..always() });
        if round % 4 >= 2 {
            target.beneath = target.beneath.without_openat2();
        }
        let stop = AtomicBool::new(false);
        let swaps = AtomicU64::new(0);
        let mut written = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for number in 0..8 {
                        for inner in ["", "/s"] {
                            let at = scene.target().join(format!("d{number}{inner}"));
                            let aside = scene.target().join(format!("aside{number}"));
                            // Errors are part of the game: the other thread changes things as well.
                            let _ = disk::rename(&at, &aside);
                            let _ = symlink(scene.outside(), &at);
                            let _ = disk::remove_file(&at);
                            let _ = disk::rename(&aside, &at);
                        }
                        let file = scene.target().join(format!("d{number}/s/f1"));
                        let _ = disk::remove_file(&file);
                        let _ = symlink(scene.outside().join("victim"), &file);
                        swaps.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let started = std::time::Instant::now();
            while (written == 0 || swaps.load(Ordering::Relaxed) < 200) && started.elapsed().as_secs() < 20 {
                for number in 0..8 {
                    let directory = format!("d{number}/s");
                    for serial in 0..4 {
                        let entry = Entry { mode: 0o777, ..file(&format!("f{serial}"), b"restored") };
                        written += u32::from(place(&target, &directory, &entry).is_ok());
                    }
                    let at = path(&directory);
                    if let Ok(handle) = target.directory(&at) {
                        let _ = handle.symlink(&link("l", "x"));
                        let _ = handle.fifo(&entry("p", EntryKind::Fifo));
                    }
                    let _ = target.remove_extra(&at, &[name("f1"), name("f2")], |_| {});
                    let _ = target.finish_directory(&at, &folder("s"));
                    let _ = target.finish_directory(&at.parent().unwrap(), &folder("d"));
                }
                // As a new run would: what was met before no longer counts.
                target.directories = Directories::default();
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(written > 0, "round {round} placed nothing");
        scene.assert_outside_is_untouched();
    }
}

#[test]
fn a_full_disk_is_told_apart_and_names_are_safe_to_print() {
    let full = Error::entry(path("a/\u{1b}[31m"), "written", Errno::NOSPC);
    assert!(matches!(full, Error::NoSpace { .. }));
    assert_eq!(full.to_string(), "no space was left to write a/\\x1b[31m");
    assert!(matches!(Error::target(Path::new("/t"), "made", Errno::DQUOT), Error::NoSpace { .. }));
    let error = Error::NotEmpty { target: PathBuf::from("/t\n") };
    assert_eq!(error.to_string(), "/t\\n is not empty");
}

#[test]
fn a_link_as_target_is_followed_only_if_it_is_ours() {
    let scene = Scene::new();
    disk::create_dir(scene.scratch.path().join("real")).unwrap();
    symlink("real", scene.target()).unwrap();
    let target = Target::stage(&scene.target(), &run(), Policy::default()).unwrap();
    place(&target, "", &file("f", b"1")).unwrap();
    target.finish().unwrap();
    assert_eq!(names_of(&scene.scratch.path().join("real")), ["f"]);
    assert!(disk::symlink_metadata(scene.target()).unwrap().is_symlink());
    if am_root() {
        std::os::unix::fs::lchown(scene.target(), Some(4321), None).unwrap();
        let refused = Target::in_place(&scene.target().join(""), &run(), always());
        assert!(matches!(refused, Err(Error::ForeignLink { .. })));
    }
}

#[test]
fn missing_parents_are_made() {
    let scene = Scene::new();
    let at = scene.target().join("a/b");
    let target = Target::stage(&at, &run(), Policy::default()).unwrap();
    place(&target, "", &file("f", b"1")).unwrap();
    target.finish().unwrap();
    assert_eq!(names_of(&at), ["f"]);
}

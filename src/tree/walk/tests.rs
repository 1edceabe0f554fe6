//! The whole folder against a real disk, and the pure parts of it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::io::Seek;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::XattrFlags;
use tempfile::TempDir;

use crate::tree::entry::DataRun;
use crate::tree::entry::Xattr;
use crate::tree::filter::Marker;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::walk::Doing;
use crate::tree::walk::Error;
use crate::tree::walk::Names;
use crate::tree::walk::Owners;
use crate::tree::walk::Source;
use crate::tree::walk::SourceDir;
use crate::tree::walk::SourceKind;
use crate::tree::walk::file::keep_longest_holes;
use crate::tree::walk::machine::depth_within;
use crate::tree::walk::machine::keepable;
use crate::tree::walk::raise_open_files_limit;

fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).unwrap()
}

fn temporary() -> (TempDir, SourceDir) {
    let directory = tempfile::tempdir().unwrap();
    let source = SourceDir::load_root(directory.path()).unwrap();
    (directory, source)
}

fn is_changed<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Changed { .. }))
}

#[test]
fn hostile_names_are_listed_in_order_and_read() {
    let (directory, source) = temporary();
    let mut hostile: Vec<Vec<u8>> =
        [&b"new\nline"[..], b"\x1b[2J", b"\xff\xfe", &[0xee; 255], b"-rf", b" "].map(<[u8]>::to_vec).into();
    for bytes in &hostile {
        fs::write(directory.path().join(OsStr::from_bytes(bytes)), bytes).unwrap();
    }
    hostile.sort();
    let mut names = source.names().unwrap();
    let listed: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    assert_eq!(listed, hostile);
    assert!(names.take_refused().is_empty());
    assert_eq!((names.len(), names.is_empty()), (6, false));
    assert!(names.contains(&name(b"-rf")) && !names.contains(&name(b"-r")));
    for name in names.iter() {
        let read = source.read_whole(&name, 255).unwrap();
        assert_eq!(read.as_deref(), Some(name.as_bytes()));
    }
    assert_eq!(names.get(6), None);
}

#[test]
fn what_a_name_stands_for_is_told_without_following_it() {
    let (directory, source) = temporary();
    fs::write(directory.path().join("file"), b"12345").unwrap();
    fs::set_permissions(directory.path().join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(directory.path().join("file"), directory.path().join("other")).unwrap();
    symlink("/etc/passwd", directory.path().join("link")).unwrap();
    rustix::fs::mknodat(CWD, directory.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();

    let file = source.examine(&name(b"file")).unwrap();
    assert_eq!((file.kind, file.mode, file.size, file.links), (SourceKind::File, 0o4751, 5, 2));
    assert_eq!(file.device, source.stat().device);
    assert!(file.is_on_same_file_system(source.stat()) && !file.is_same_file(source.stat()));
    assert!(file.is_same_file(&source.examine(&name(b"other")).unwrap()));
    let link_name = name(b"link");
    let link = source.examine(&link_name).unwrap();
    assert_eq!(link.kind, SourceKind::Symlink);
    let held = source.hold(&link_name, &link).unwrap();
    assert_eq!(&*held.read_link().unwrap(), b"/etc/passwd");
    assert!(held.xattrs().is_ok() && held.stat().is_same_file(&link));
    let pipe_name = name(b"pipe");
    let pipe = source.examine(&pipe_name).unwrap();
    assert_eq!(pipe.kind, SourceKind::Fifo);
    let held = source.hold(&pipe_name, &pipe).unwrap();
    assert!(held.read_link().is_err() && held.xattrs().is_ok());
    assert_eq!(source.examine(&name(b"socket")).unwrap().kind, SourceKind::Socket);
    drop(socket);

    let names = source.names().unwrap();
    let files: Vec<Name> =
        (0..names.len()).filter(|at| names.is_file(*at)).filter_map(|at| names.get(at)).collect();
    assert_eq!(files, [name(b"file"), name(b"other")]);
    assert!(!names.is_file(names.len()));

    let missing = source.examine(&name(b"not\x1bthere")).unwrap_err();
    let path = directory.path().canonicalize().unwrap();
    let expected = format!("{}/not\\x1bthere could not be examined", path.display());
    assert_eq!(missing.to_string(), expected);
    assert!(matches!(missing, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound));
}

#[test]
fn whatever_takes_a_name_after_it_was_examined_is_not_read() {
    let (directory, source) = temporary();
    let at = directory.path().join("victim");
    fs::write(directory.path().join("secret"), b"secret").unwrap();
    fs::create_dir(directory.path().join("elsewhere")).unwrap();
    let victim = name(b"victim");

    fs::write(&at, b"harmless").unwrap();
    let file = source.examine(&victim).unwrap();
    assert!(source.open_file(&victim, &file).is_ok());
    assert!(source.open_listed_file(&victim).is_ok_and(|open| open.stat().is_same_file(&file)));
    fs::rename(&at, directory.path().join("away")).unwrap();
    symlink("secret", &at).unwrap();
    assert!(is_changed(source.open_file(&victim, &file)), "a link to a file");
    assert!(is_changed(source.open_listed_file(&victim)), "a link to a file, listed as one");
    assert!(is_changed(source.hold(&victim, &file)), "a link to a file, held");
    fs::remove_file(&at).unwrap();
    rustix::fs::mknodat(CWD, &at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(is_changed(source.open_file(&victim, &file)), "a pipe without another end");
    assert!(is_changed(source.open_listed_file(&victim)), "a pipe that was listed as a file");
    fs::remove_file(&at).unwrap();
    fs::write(&at, b"another").unwrap();
    assert!(is_changed(source.open_file(&victim, &file)), "another file");
    fs::remove_file(&at).unwrap();

    fs::create_dir(&at).unwrap();
    let folder = source.examine(&victim).unwrap();
    assert!(source.open_dir(&victim, &folder).is_ok());
    assert!(is_changed(source.open_file(&victim, &folder)), "a directory as a file");
    assert!(is_changed(source.open_listed_file(&victim)), "a directory that was listed as a file");
    fs::rename(&at, directory.path().join("moved")).unwrap();
    symlink("elsewhere", &at).unwrap();
    assert!(is_changed(source.open_dir(&victim, &folder)), "a link to a directory");
    fs::remove_file(&at).unwrap();
    fs::create_dir(&at).unwrap();
    assert!(is_changed(source.open_dir(&victim, &folder)), "another directory");
    fs::remove_dir(&at).unwrap();
    let gone = source.open_dir(&victim, &folder);
    assert!(matches!(gone, Err(Error::Io { doing: Doing::Open, .. })), "nothing");
}

#[test]
fn a_directory_is_read_where_it_was_even_if_its_path_leads_elsewhere_now() {
    let (directory, source) = temporary();
    fs::create_dir_all(directory.path().join("a/b")).unwrap();
    fs::write(directory.path().join("a/b/mine"), b"").unwrap();
    let a = source.open_dir(&name(b"a"), &source.examine(&name(b"a")).unwrap()).unwrap();
    fs::rename(directory.path().join("a"), directory.path().join("moved")).unwrap();
    symlink("/etc", directory.path().join("a")).unwrap();
    let b = a.open_dir(&name(b"b"), &a.examine(&name(b"b")).unwrap()).unwrap();
    let names: Vec<Name> = b.names().unwrap().iter().collect();
    assert_eq!(names, [name(b"mine")]);
}

#[test]
fn paths_longer_than_the_system_takes_are_walked() {
    let (_directory, source) = temporary();
    let long = name(&[b'd'; 255]);
    let mut at = rustix::io::fcntl_dupfd_cloexec(&source.handle, 0).unwrap();
    for _ in 0..40 {
        rustix::fs::mkdirat(&at, long.as_bytes(), Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, long.as_bytes(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let file = rustix::fs::openat(&at, "deep", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    rustix::io::write(&file, b"down here").unwrap();

    let mut source = source;
    let mut depth = 0;
    while let Some(next) = source.names().unwrap().get(0).filter(|name| *name == long) {
        source = source.open_dir(&next, &source.examine(&next).unwrap()).unwrap();
        depth += 1;
    }
    assert_eq!(depth, 40);
    assert!(source.path().as_bytes().len() > 10_000);
    let names: Vec<Name> = source.names().unwrap().iter().collect();
    assert_eq!(names, [name(b"deep")]);
    assert_eq!(source.read_whole(&names[0], 9).unwrap().as_deref(), Some(&b"down here"[..]));
    assert!(matches!(source.read_whole(&names[0], 8), Err(Error::TooMuch { what: "bytes", .. })));
    assert_eq!(source.read_start(&names[0], 4).unwrap().as_deref(), Some(&b"down"[..]));
    assert_eq!(source.read_start(&name(b"absent"), 4).unwrap(), None);
}

#[test]
fn a_file_is_read_from_its_start_and_at_any_place() {
    let (directory, source) = temporary();
    let path = directory.path().join("file");
    fs::write(&path, b"0123456789").unwrap();
    let file = name(b"file");
    let open = source.open_file(&file, &source.examine(&file).unwrap()).unwrap();
    open.advise_sequential();
    let mut buffer = [0; 4];
    assert_eq!(open.read_at(&mut buffer, 6).unwrap(), 4);
    assert_eq!(&buffer, b"6789");
    assert_eq!(open.read(&mut buffer).unwrap(), 4);
    assert_eq!(&buffer, b"0123");
    open.advise_done(0, 4);
    assert_eq!(open.read_at(&mut buffer, 10).unwrap(), 0);
    assert!(open.examine().unwrap().is_unchanged(open.stat()));
    assert_eq!(open.data_runs().unwrap(), None);
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    let now = open.examine().unwrap();
    assert!(!now.is_unchanged(open.stat()) && now.is_same_file(open.stat()));
    assert_eq!(now.size, 14);
}

#[test]
fn the_data_of_a_sparse_file_is_found() {
    let (directory, source) = temporary();
    let mut file = fs::File::create(directory.path().join("sparse")).unwrap();
    for offset in [1_u64 << 20, 32 << 20] {
        file.seek(io::SeekFrom::Start(offset)).unwrap();
        file.write_all(&[1; 65_536]).unwrap();
    }
    file.set_len(64 << 20).unwrap();
    fs::File::create(directory.path().join("empty hole")).unwrap().set_len(1 << 20).unwrap();

    let runs = |bytes: &[u8]| {
        let stat = source.examine(&name(bytes)).unwrap();
        source.open_file(&name(bytes), &stat).unwrap().data_runs().unwrap()
    };
    let run = |offset| DataRun { offset, length: 65_536 };
    assert_eq!(runs(b"sparse").as_deref(), Some(&[run(1 << 20), run(32 << 20)][..]));
    assert_eq!(runs(b"empty hole").as_deref(), Some(&[][..]));
}

#[test]
fn of_too_many_holes_the_longest_are_kept() {
    let run = |offset, length| DataRun { offset, length };
    let many = vec![run(0, 1), run(3, 1), run(5, 1), run(9, 1), run(11, 1), run(20, 1)];
    let kept = |count| {
        let mut runs = many.clone();
        keep_longest_holes(&mut runs, count);
        runs
    };
    assert_eq!(kept(6), many);
    assert_eq!(kept(5), [run(0, 1), run(3, 3), run(9, 1), run(11, 1), run(20, 1)]);
    assert_eq!(kept(3), [run(0, 6), run(9, 3), run(20, 1)]);
    assert_eq!(kept(1), [run(0, 21)]);
}

#[test]
fn extended_attributes_are_read_through_what_is_held() {
    let (directory, source) = temporary();
    let path = directory.path().join("file");
    fs::write(&path, b"").unwrap();
    let set = |key: &str, value: &[u8]| rustix::fs::setxattr(&path, key, value, XattrFlags::empty());
    if set("user.b", b"").is_err() {
        return; // This file system has none, so there is nothing to read.
    }
    set("user.a", &[7; 3_000]).unwrap();
    let file_name = name(b"file");
    let file = source.open_file(&file_name, &source.examine(&file_name).unwrap()).unwrap();
    let xattrs: Vec<Xattr> =
        file.xattrs().unwrap().into_iter().filter(|(key, _)| key.starts_with(b"user.")).collect();
    let expected: [Xattr; 2] =
        [(b"user.a"[..].into(), [7; 3_000][..].into()), (b"user.b"[..].into(), Box::default())];
    assert_eq!(xattrs, expected);
    let held = source.hold(&file_name, file.stat()).unwrap();
    assert_eq!(held.xattrs().unwrap(), file.xattrs().unwrap());

    rustix::fs::setxattr(directory.path(), "user.d", b"x", XattrFlags::empty()).unwrap();
    let found = Source::load(&path).unwrap();
    let passage = found.parent().xattrs().unwrap();
    assert!(passage.contains(&(b"user.d"[..].into(), b"x"[..].into())));
    assert_eq!(passage, source.xattrs().unwrap());
}

#[test]
fn a_source_is_found_through_links_but_may_be_one_itself() {
    let (directory, root) = temporary();
    fs::create_dir_all(directory.path().join("real/inner")).unwrap();
    symlink("real", directory.path().join("link")).unwrap();
    let real = |text: &str| TreePath::parse(&[root.path().as_bytes(), text.as_bytes()].concat()).unwrap();

    let found = Source::load(&directory.path().join("link/inner")).unwrap();
    assert_eq!(found.path(), &real("/real/inner"));
    assert_eq!(found.examine().unwrap().kind, SourceKind::Directory);
    assert!(found.open_dir().unwrap().names().unwrap().is_empty());
    let parents: Vec<TreePath> = found.parents().iter().map(|parent| parent.path().clone()).collect();
    assert_eq!(parents.first(), Some(&TreePath::root()));
    assert_eq!(parents.last(), Some(&real("/real")));
    assert_eq!(parents.len(), found.path().components().count());

    let found = Source::load(&directory.path().join("link")).unwrap();
    assert_eq!(found.path(), &real("/link"));
    assert_eq!(found.examine().unwrap().kind, SourceKind::Symlink);
    assert!(matches!(found.open_dir(), Err(Error::Io { doing: Doing::Open, .. })));
    for directory_asked_for in ["link/", "link/.", "link/inner/.."] {
        let found = Source::load(&directory.path().join(directory_asked_for)).unwrap();
        assert_eq!(found.path(), &real("/real"), "{directory_asked_for}");
    }

    let top = Source::load(Path::new("/")).unwrap();
    assert!(top.path().is_root() && top.parents().len() == 1);
    assert_eq!(top.examine().unwrap().kind, SourceKind::Directory);
    assert!(top.open_dir().unwrap().names().unwrap().contains(&name(b"proc")));

    let absent = Source::load(&directory.path().join("absent")).unwrap();
    assert!(absent.examine().is_err());
    let error = Source::load(&directory.path().join("no/where")).unwrap_err();
    assert!(error.to_string().ends_with("/no/where could not be found"), "{error}");
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        Source::load(Path::new("src")).unwrap().path().as_bytes(),
        &here.join("src").as_os_str().as_bytes()[1..]
    );
    assert_eq!(Source::load(Path::new(".")).unwrap().path().as_bytes(), &here.as_os_str().as_bytes()[1..]);
}

#[test]
fn a_marker_counts_only_if_it_begins_as_it_should() {
    let (directory, source) = temporary();
    let tag = directory.path().join("TAG");
    let plain = Marker::parse("TAG").unwrap();
    let signed = Marker::parse("TAG:Signature").unwrap();
    let is_marked = |marker| source.is_marked_by(marker, &source.names().unwrap()).unwrap();
    assert!(!is_marked(&plain) && !is_marked(&signed));
    fs::write(&tag, b"Sign").unwrap();
    assert!(is_marked(&plain) && !is_marked(&signed));
    fs::write(&tag, b"Signature: 1").unwrap();
    assert!(is_marked(&signed));
    fs::remove_file(&tag).unwrap();
    fs::write(directory.path().join("other"), b"Signature: 1").unwrap();
    symlink("other", &tag).unwrap();
    assert!(is_marked(&plain) && !is_marked(&signed));
}

#[test]
fn names_in_any_order_and_twice_are_sorted_and_kept_once() {
    let mut names = Names::default();
    for bytes in [&b"b"[..], b"a", b"b", b"..", b"a\xff", b"a/b"] {
        names.add(bytes, false, &TreePath::root()).unwrap();
    }
    names.sort();
    let listed: Vec<Name> = names.iter().collect();
    assert_eq!(listed, [name(b"a"), name(b"a\xff"), name(b"b")]);
    let refused: Vec<String> = names.take_refused().iter().map(ToString::to_string).collect();
    assert_eq!(
        refused,
        ["directory / holds .., which is no name", "directory / holds a/b, which is no name"]
    );
}

#[test]
fn owners_have_names_where_the_machine_knows_them() {
    let mut owners = Owners::new();
    let root = owners.owner(0, 0);
    assert_eq!((&*root.user, root.uid), ("root", 0));
    let again = owners.owner(0, 0);
    assert!(Arc::ptr_eq(&root.user, &again.user));
    let nobody = owners.owner(3_999_999_999, 3_999_999_999);
    assert_eq!((&*nobody.user, &*nobody.group), ("", ""));
    assert_eq!(&*keepable(Some("x".repeat(256))), "");
}

#[test]
fn the_depth_follows_from_the_files_that_may_be_open() {
    let depths = [Some(0), Some(1_024), Some(4_096), Some(5_464), Some(1 << 20), None].map(depth_within);
    assert_eq!(depths, [0, 768, 3_072, 4_096, 4_096, 4_096]);
}

#[test]
fn as_many_files_as_allowed_can_be_opened() {
    let limit = raise_open_files_limit();
    let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    assert_eq!((now.current, limit), (now.maximum, now.maximum));
}

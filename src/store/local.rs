//! A store in a directory: an object is a file, the parts of its name are folders.
//!
//! Every path is walked from one handle of the directory, a component at a time and never through
//! a link, so what somebody planted on the drive can't lead out of it.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::DirBuilder;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::process;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use rustix::buffer::spare_capacity;
use rustix::fs::Access;
use rustix::fs::Advice;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::Stat;
use rustix::fs::StatVfsMountFlags;
use rustix::fs::Uid;
use rustix::io::Errno;
use rustix::io::retry_on_intr;
use rustix::path::Arg;

use crate::id::ObjectName;

use super::Error;
use super::Listed;
use super::Rights;
use super::Store;
use super::rights;

/// What the files of unfinished puts are called, with the process and a number in between.
const LEFTOVER_START: &str = ".strongroom-";
const LEFTOVER_END: &str = ".part";
/// No put takes a day, so what is older belongs to none that still runs.
const LEFTOVER_SECONDS: i64 = 24 * 60 * 60;
/// From this size on, the system is told that an object will be read from end to end.
const SEQUENTIAL_BYTES_MIN: u64 = 1 << 20;

/// Flags that open a folder, and nothing else, without following a link.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Flags that open a file for reading; a planted pipe must not block, nor a terminal be adopted.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
/// Flags that make a new file.
const MAKE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that keeps objects.
pub struct Local {
    path: PathBuf,
    root: OwnedFd,
    /// Folders, each name ending in `/`, that are known to survive a power cut.
    durable: Mutex<HashSet<String>>,
    /// The number of the next temporary file.
    next: AtomicU64,
    /// Makes a file or folder survive a power cut; a test may put a failing one here.
    sync: fn(BorrowedFd<'_>) -> Result<(), Errno>,
}

/// What a walk through the directory finds.
enum Found {
    /// An object.
    Object(Listed),
    /// A temporary file: its folder, its name and when it was last written, in Unix seconds.
    Leftover(String, String, i64),
    /// Anything else. What systems put on any drive by themselves is marked so.
    Stranger { of_system: bool },
}

impl Local {
    /// Makes a directory for a new vault, with those above it, or takes one that is empty.
    ///
    /// Only the owner may enter it (mode 0700).
    ///
    /// # Errors
    /// As [`Local::check_empty`]; [`Error::ReadOnly`], [`Error::Denied`] or
    /// [`Error::Place`] if it can't be made.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let failed = |errno: Errno| place_failure(path, errno);
        let failed_io = |error: std::io::Error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        make_folders(path).map_err(failed_io)?;
        let store = Self::open_root(path).map_err(failed)?;
        store.check_empty()?;
        match rustix::fs::fchmod(&store.root, Mode::RWXU) {
            // File systems without modes, or a mount point of somebody else's: no reason to stop.
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(store),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Opens the directory of an existing vault; what is in it isn't looked at.
    ///
    /// # Errors
    /// [`Error::NoVault`] if there is no such directory; [`Error::Denied`] or [`Error::Place`] if
    /// it can't be opened.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::open_root(path).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Error::NoVault { place: path.display().to_string() },
            errno => place_failure(path, errno),
        })
    }

    /// Refuses a directory that something is in. A `lost+found` counts as empty, for a drive that was just
    /// formatted has one, and so does what a put left behind that was cut off.
    ///
    /// # Errors
    /// [`Error::NotEmpty`]; [`Error::Denied`] or [`Error::Place`] if it can't be read.
    pub fn check_empty(&self) -> Result<(), Error> {
        let failed = |errno: Errno| place_failure(&self.path, errno);
        for entry in Dir::read_from(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b".." | b"lost+found") && !is_leftover(name) {
                return Err(Error::NotEmpty { place: self.place() });
            }
        }
        Ok(())
    }

    /// Whether files lie here that are neither objects, nor what puts left behind that were cut off, nor,
    /// by their names, what systems put on any drive: `lost+found`, and what begins with a dot.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Place`] if a folder can't be read.
    pub fn holds_other_files(&self) -> Result<bool, Error> {
        let mut holds = false;
        self.walk("", |found| holds |= matches!(found, Found::Stranger { of_system: false }))?;
        Ok(holds)
    }

    /// Takes a handle of the directory. Links on the way to it are the user's own.
    fn open_root(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            root: rustix::fs::open(path, flags, Mode::empty())?,
            durable: Mutex::default(),
            next: AtomicU64::new(0),
            sync,
        })
    }

    /// Opens a folder, empty for the whole directory, walking from the root.
    fn folder(&self, folder: &str) -> Result<OwnedFd, Errno> {
        let root = rustix::fs::openat(&self.root, c".", FOLDER, Mode::empty())?;
        let parts = folder.split('/').filter(|part| !part.is_empty());
        parts
            .into_iter()
            .try_fold(root, |above, part| rustix::fs::openat(&above, part, FOLDER, Mode::empty()))
    }

    /// Opens a folder as [`Self::folder`] does, and makes what is missing of it, for good.
    fn make_folder(&self, folder: &str) -> Result<OwnedFd, Errno> {
        let mut here = rustix::fs::openat(&self.root, c".", FOLDER, Mode::empty())?;
        let mut reached = String::new();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            reached.push_str(part);
            reached.push('/');
            let (next, made) = match rustix::fs::openat(&here, part, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) => {
                    let made = match rustix::fs::mkdirat(&here, part, Mode::RWXU) {
                        Err(Errno::EXIST) => false,
                        made => made.map(|()| true)?,
                    };
                    let next = rustix::fs::openat(&here, part, FOLDER, Mode::empty())?;
                    if made {
                        self.give_to_owner(&next);
                    }
                    (next, made)
                }
                opened => (opened?, false),
            };
            // A folder found is as much at risk as one made here: another thread, or a process
            // that died, may have made it a moment ago.
            if made || !self.known_durable(&reached, false) {
                if let Err(errno) = sync_folder(here.as_fd(), self.sync) {
                    // Not to be asked again about the same change: a retry makes it anew.
                    let _ = rustix::fs::unlinkat(&here, part, AtFlags::REMOVEDIR);
                    return Err(errno);
                }
                self.known_durable(&reached, true);
            }
            here = next;
        }
        Ok(here)
    }

    /// Gives what root just made here to the owner of the directory, who could else not read his own vault
    /// any more after somebody used it as root. Where files have no owners, nothing has to be done.
    fn give_to_owner(&self, made: &OwnedFd) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        if let Ok(stat) = rustix::fs::fstat(&self.root) {
            let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            let _ = rustix::fs::fchown(made, Some(user), Some(group));
        }
    }

    /// Whether a folder is known to survive a power cut; from now on it is, if `now`.
    fn known_durable(&self, folder: &str, now: bool) -> bool {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if now { !durable.insert(folder.to_owned()) } else { durable.contains(folder) }
    }

    /// Opens an object and tells its size.
    fn open(&self, name: &ObjectName) -> Result<(OwnedFd, u64), Error> {
        let (folder, file) = split(name);
        let opened = self
            .folder(folder)
            .and_then(|folder| rustix::fs::openat(&folder, file, READ, Mode::empty()))
            .and_then(|handle| rustix::fs::fstat(&handle).map(|stat| (handle, stat)));
        let (handle, stat) = opened.map_err(|errno| self.failure(name, errno))?;
        Ok((handle, plain_size(&stat).ok_or_else(|| Error::NotAFile { name: name.clone() })?))
    }

    /// Reads `length` bytes from `offset` on; the caller has held both against the file's size.
    fn read(&self, name: &ObjectName, file: &OwnedFd, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let short = || Error::Short { name: name.clone() };
        let too_large = || Error::TooLarge { name: name.clone() };
        let wanted = usize::try_from(length).map_err(|_| too_large())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(wanted).map_err(|_| too_large())?;
        let mut at = offset;
        while bytes.len() < wanted {
            let read = retry_on_intr(|| rustix::io::pread(file, spare_capacity(&mut bytes), at))
                .map_err(|errno| self.failure(name, errno))?;
            if read == 0 {
                // It was cut while it was read.
                return Err(short());
            }
            at += u64::try_from(read).expect("a length in memory fits 64 bits");
        }
        // The system may have had room for more than was asked for.
        bytes.truncate(wanted);
        Ok(bytes)
    }

    /// Writes, syncs and places an object in its open folder.
    fn place_in(&self, folder: &OwnedFd, file: &str, bytes: &[u8]) -> Result<(), Errno> {
        let (handle, mut temporary) = self.make_temporary(folder)?;
        let mut handle = File::from(handle);
        handle.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        (self.sync)(handle.as_fd())?;
        drop(handle);
        rename_without_replacing(folder, temporary.file.as_str(), file)?;
        temporary.placed = true;
        sync_folder(folder.as_fd(), self.sync).inspect_err(|_| {
            // Whether it would survive is unknown, and asking again may get a false yes.
            let _ = rustix::fs::unlinkat(folder, file, AtFlags::empty());
        })
    }

    /// Makes a temporary file that is removed again unless it gets placed.
    fn make_temporary<'a>(&self, folder: &'a OwnedFd) -> Result<(OwnedFd, Temporary<'a>), Errno> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let file = format!("{LEFTOVER_START}{}-{number}{LEFTOVER_END}", process::id());
            match rustix::fs::openat(folder, file.as_str(), MAKE, Mode::RUSR | Mode::WUSR) {
                // Left behind by an earlier process with the same id, or one on another machine.
                Err(Errno::EXIST) => (),
                made => {
                    let handle = made?;
                    self.give_to_owner(&handle);
                    return Ok((handle, Temporary { folder, file, placed: false }));
                }
            }
        }
    }

    /// Shows `visit` all that lies in a folder, which is empty or ends in `/`, and below it.
    fn walk(&self, folder: &str, mut visit: impl FnMut(Found)) -> Result<(), Error> {
        let mut waiting = vec![folder.to_owned()];
        while let Some(folder) = waiting.pop() {
            let walked = match self.folder(&folder) {
                Ok(handle) => walk_one(&handle, &folder, &mut waiting, &mut visit),
                // Never made, gone since, or no folder: no object is below it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(errno) => Err(errno),
            };
            walked.map_err(|errno| place_failure(&self.path.join(&folder), errno))?;
        }
        Ok(())
    }

    /// What an error of the system means for an object.
    fn failure(&self, name: &ObjectName, errno: Errno) -> Error {
        let name = name.clone();
        match errno {
            Errno::NOENT => Error::Missing { name },
            Errno::EXIST => Error::Exists { name },
            Errno::NOSPC | Errno::DQUOT => Error::Full { name },
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => Error::NotAFile { name },
            Errno::ROFS => Error::ReadOnly { place: self.place() },
            Errno::ACCESS | Errno::PERM => {
                Error::Denied { place: self.path.join(name.as_str()).display().to_string() }
            }
            errno => Error::Io { name, source: errno.into() },
        }
    }
}

/// A temporary file, removed when dropped unless it got its place.
struct Temporary<'a> {
    folder: &'a OwnedFd,
    file: String,
    placed: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.placed {
            // If even this fails, `clear_leftovers` finds it a day later.
            let _ = rustix::fs::unlinkat(self.folder, self.file.as_str(), AtFlags::empty());
        }
    }
}

/// What an error of the system means for a place.
pub(super) fn place_failure(path: &Path, errno: Errno) -> Error {
    let place = path.display().to_string();
    match errno {
        Errno::ROFS => Error::ReadOnly { place },
        Errno::ACCESS | Errno::PERM => Error::Denied { place },
        Errno::NOSPC | Errno::DQUOT => Error::NoRoom { place },
        errno => Error::Place { place, source: errno.into() },
    }
}

/// A name's folder, empty at the top, and its last part.
fn split(name: &ObjectName) -> (&str, &str) {
    name.as_str().rsplit_once('/').unwrap_or(("", name.as_str()))
}

/// The size of a plain file; nothing if it is something else.
fn plain_size(stat: &Stat) -> Option<u64> {
    let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    u64::try_from(stat.st_size).ok().filter(|_| plain)
}

/// Shows what lies in one folder; folders in it that can hold objects go to `waiting`.
fn walk_one(
    handle: &OwnedFd,
    folder: &str,
    waiting: &mut Vec<String>,
    visit: &mut impl FnMut(Found),
) -> Result<(), Errno> {
    for entry in Dir::read_from(handle)? {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::statat(handle, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match found(folder, entry.file_name(), &stat) {
                Ok(found) => visit(found),
                Err(below) => waiting.push(below),
            },
            // Removed since the folder was read.
            Err(Errno::NOENT) => (),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// What an entry of `folder` is, or `Err` with the name of a folder to be walked.
fn found(folder: &str, file: &CStr, stat: &Stat) -> Result<Found, String> {
    let is_of_system = |name: &[u8]| folder.is_empty() && (name == b"lost+found" || name.starts_with(b"."));
    let stranger = Found::Stranger { of_system: is_of_system(file.to_bytes()) };
    let Ok(file) = file.to_str() else { return Ok(stranger) };
    let plain = plain_size(stat);
    if plain.is_some() && is_leftover(file.as_bytes()) {
        return Ok(Found::Leftover(folder.to_owned(), file.to_owned(), stat.st_mtime));
    }
    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match ObjectName::parse(&format!("{folder}{file}")) {
        Some(name) if is_folder => Err(format!("{name}/")),
        Some(name) => Ok(plain.map_or(stranger, |bytes| Found::Object(Listed { name, bytes }))),
        None => Ok(stranger),
    }
}

/// Whether a file is called as those of unfinished puts are.
fn is_leftover(file: &[u8]) -> bool {
    file.starts_with(LEFTOVER_START.as_bytes()) && file.ends_with(LEFTOVER_END.as_bytes())
}

/// Makes a file, or what was done in a folder, survive a power cut.
pub(super) fn sync(handle: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fsync(handle)
}

/// Makes a folder with those above it, durably: mode 0700, as far as they aren't there.
pub(super) fn make_folders(path: &Path) -> std::io::Result<()> {
    let absolute = std::path::absolute(path)?;
    let mut missing: Vec<&Path> = absolute.ancestors().take_while(|each| !each.exists()).collect();
    while let Some(each) = missing.pop() {
        match DirBuilder::new().mode(0o700).create(each) {
            // Somebody else made it in the meantime.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => (),
            made => made?,
        }
        if let Some(above) = each.parent() {
            sync_folder(File::open(above)?.as_fd(), sync)?;
        }
    }
    Ok(())
}

/// Syncs a folder with `sync`; some network file systems can't be asked to and refuse.
pub(super) fn sync_folder(
    folder: BorrowedFd<'_>,
    sync: fn(BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    match sync(folder) {
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        synced => synced,
    }
}

/// Renames `from` to `to` within a folder; `Errno::EXIST` if `to` is there.
pub(super) fn rename_without_replacing<N: ?Sized>(folder: &OwnedFd, from: &N, to: &N) -> Result<(), Errno>
where
    for<'a> &'a N: Arg,
{
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // Not known to every file system: NFS and some of those in user space refuse it.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_without_replacing(folder, from, to),
        renamed => renamed,
    }
}

/// The same by a second link, which never replaces.
fn link_without_replacing<N: ?Sized>(folder: &OwnedFd, from: &N, to: &N) -> Result<(), Errno>
where
    for<'a> &'a N: Arg,
{
    match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK) => {
            look_and_rename(folder, from, to)
        }
        linked => {
            linked?;
            // A second name for the same bytes at worst, and found by `clear_leftovers`.
            let _ = rustix::fs::unlinkat(folder, from, AtFlags::empty());
            Ok(())
        }
    }
}

/// The same where neither works: between the look and the rename another writer could come.
///
/// Nothing rests on it in a directory of objects: names carry digests, so that writer would have to bring
/// the same bytes.
fn look_and_rename<N: ?Sized>(folder: &OwnedFd, from: &N, to: &N) -> Result<(), Errno>
where
    for<'a> &'a N: Arg,
{
    match rustix::fs::statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::renameat(folder, from, folder, to),
        Err(errno) => Err(errno),
    }
}

impl Store for Local {
    /// Stores an object as a file of mode 0600.
    ///
    /// Source: R-38 and the order it names: write a temporary file, sync it, rename it, sync the
    /// folder. A sync that failed is never asked for again on the same file, because systems mark
    /// its pages clean (Rebello et al., USENIX ATC 2020): the file is removed and the error told.
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let (folder, file) = split(name);
        let put = self.make_folder(folder).and_then(|folder| {
            match rustix::fs::statat(&folder, file, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => self.place_in(&folder, file, bytes),
                Err(errno) => Err(errno),
                Ok(_) => {
                    // Who relies on the object being there may rely on it to stay.
                    sync_folder(folder.as_fd(), self.sync)?;
                    Err(Errno::EXIST)
                }
            }
        });
        put.map_err(|errno| match errno {
            // The directory itself was taken away; the object isn't what is missing.
            Errno::NOENT => Error::Io { name: name.clone(), source: errno.into() },
            errno => self.failure(name, errno),
        })
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, Error> {
        let (file, size) = self.open(name)?;
        if size > bytes_max {
            return Err(Error::TooLarge { name: name.clone() });
        }
        if size >= SEQUENTIAL_BYTES_MIN {
            // Only advice: reading works without.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        }
        self.read(name, &file, 0, size)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let (file, size) = self.open(name)?;
        match range.end.checked_sub(range.start) {
            Some(length) if range.end <= size => self.read(name, &file, range.start, length),
            _ => Err(Error::Short { name: name.clone() }),
        }
    }

    fn size(&self, name: &ObjectName) -> Result<u64, Error> {
        let (folder, file) = split(name);
        let stat = self
            .folder(folder)
            .and_then(|folder| rustix::fs::statat(&folder, file, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|errno| self.failure(name, errno))?;
        plain_size(&stat).ok_or_else(|| Error::NotAFile { name: name.clone() })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        if folder.strip_suffix('/').is_some_and(|folder| ObjectName::parse(folder).is_none()) {
            // No name begins like that, and it must not lead anywhere.
            return Ok(Vec::new());
        }
        let mut objects = Vec::new();
        self.walk(folder, |found| match found {
            Found::Object(listed) if listed.name.as_str().starts_with(prefix) => objects.push(listed),
            _ => (),
        })?;
        objects.sort_unstable();
        Ok(objects)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), Error> {
        let (folder, file) = split(name);
        let removed = self.folder(folder).and_then(|folder| {
            rustix::fs::unlinkat(&folder, file, AtFlags::empty())?;
            sync_folder(folder.as_fd(), self.sync)
        });
        removed.map_err(|errno| self.failure(name, errno))
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn writable(&self) -> Result<(), Error> {
        let mount = rustix::fs::fstatvfs(&self.root);
        if mount.is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY)) {
            return Err(Error::ReadOnly { place: self.place() });
        }
        let access = Access::WRITE_OK | Access::EXEC_OK;
        match rustix::fs::accessat(&self.root, c".", access, AtFlags::EACCESS) {
            Err(errno @ (Errno::ROFS | Errno::ACCESS | Errno::PERM)) => Err(place_failure(&self.path, errno)),
            // A system that can't tell is no reason not to try.
            _ => Ok(()),
        }
    }

    fn rights(&self, name: &ObjectName) -> Result<Rights, Error> {
        let rights = self.folder("").and_then(|root| rights::of(root, name.as_str()));
        rights.map_err(|errno| self.failure(name, errno))
    }

    fn strangers(&self) -> Result<u64, Error> {
        let mut strangers = 0;
        self.walk("", |found| strangers += u64::from(matches!(found, Found::Stranger { .. })))?;
        Ok(strangers)
    }

    fn clear_leftovers(&self, now: SystemTime) -> Result<u64, Error> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).ok();
        let now = now.and_then(|now| i64::try_from(now.as_secs()).ok()).unwrap_or(0);
        let mut old = Vec::new();
        self.walk("", |found| match found {
            Found::Leftover(folder, file, written) if written.saturating_add(LEFTOVER_SECONDS) <= now => {
                old.push((folder, file));
            }
            _ => (),
        })?;
        let mut removed = 0;
        for (folder, file) in old {
            let cleared = self
                .folder(&folder)
                .and_then(|folder| rustix::fs::unlinkat(&folder, file.as_str(), AtFlags::empty()));
            match cleared {
                Ok(()) => removed += 1,
                // Somebody else cleared it.
                Err(Errno::NOENT) => (),
                Err(errno) => return Err(place_failure(&self.path.join(folder).join(file), errno)),
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text).unwrap()
    }

    fn new() -> (TempDir, Local) {
        let directory = tempfile::tempdir().unwrap();
        let store = Local::create(&directory.path().join("vault")).unwrap();
        (directory, store)
    }

    /// All that lies in the vault of [`new`], folders left out.
    fn files(store: &Local) -> Vec<String> {
        fn walk(folder: &Path, files: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, files) } else { files.push(path.display().to_string()) }
            }
        }
        let mut files = Vec::new();
        walk(&store.path, &mut files);
        files
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn only_the_owner_can_read_what_is_stored() {
        let (_directory, store) = new();
        store.put(&name("p/00/7c/aa"), b"x").unwrap();
        assert_eq!(mode(&store.path), 0o700);
        assert_eq!(mode(&store.path.join("p")), 0o700);
        assert_eq!(mode(&store.path.join("p/00/7c")), 0o700);
        assert_eq!(mode(&store.path.join("p/00/7c/aa")), 0o600);
    }

    #[test]
    fn what_root_stores_belongs_to_the_owner_of_the_vault() {
        use std::os::unix::fs::MetadataExt as _;
        let (_directory, store) = new();
        let owner =
            if rustix::process::geteuid().is_root() { 54_321 } else { store.path.metadata().unwrap().uid() };
        std::os::unix::fs::chown(&store.path, Some(owner), None).unwrap();
        store.put(&name("u/00/7c"), b"x").unwrap();
        for path in ["u", "u/00", "u/00/7c"] {
            assert_eq!(store.path.join(path).metadata().unwrap().uid(), owner, "{path}");
        }
    }

    #[test]
    fn a_new_vault_takes_only_an_empty_directory() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("lost+found")).unwrap();
        fs::write(directory.path().join(".strongroom-7-0.part"), "half").unwrap();
        Local::create(directory.path()).unwrap();
        fs::write(directory.path().join(".hidden"), "").unwrap();
        assert!(matches!(Local::create(directory.path()), Err(Error::NotEmpty { .. })));
        let file = directory.path().join(".hidden");
        assert!(matches!(Local::create(&file), Err(Error::Place { .. })));
        assert!(matches!(Local::create(&file.join("below")), Err(Error::Place { .. })));
    }

    #[test]
    fn folders_above_a_new_vault_are_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("share/strongroom/vault");
        Local::create(&path).unwrap().put(&name("a"), b"x").unwrap();
        assert_eq!(Local::load(&path).unwrap().get(&name("a"), 1).unwrap(), b"x");
    }

    #[test]
    fn a_directory_that_is_not_there_is_no_vault() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        assert!(matches!(Local::load(&path), Err(Error::NoVault { .. })));
        fs::write(&path, "a file").unwrap();
        assert!(matches!(Local::load(&path), Err(Error::NoVault { .. })));
    }

    #[test]
    fn a_planted_link_to_a_folder_leads_nowhere() {
        let (directory, store) = new();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        symlink(&outside, store.path.join("p")).unwrap();

        let secret = name("p/secret");
        assert!(matches!(store.get(&secret, 99), Err(Error::NotAFile { .. })));
        assert!(matches!(store.get_range(&secret, 0..1), Err(Error::NotAFile { .. })));
        assert!(matches!(store.size(&secret), Err(Error::NotAFile { .. })));
        assert!(matches!(store.remove(&secret), Err(Error::NotAFile { .. })));
        assert!(matches!(store.put(&name("p/new"), b"x"), Err(Error::NotAFile { .. })));
        assert_eq!(store.list("").unwrap(), []);
        assert_eq!(store.list("p/").unwrap(), []);
        assert_eq!(store.list("../outside/").unwrap(), []);
        assert_eq!(store.strangers().unwrap(), 1);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    }

    #[test]
    fn a_planted_link_pipe_or_folder_in_place_of_an_object_is_not_read() {
        let (directory, store) = new();
        let outside = directory.path().join("outside");
        fs::write(&outside, "secret").unwrap();
        symlink(&outside, store.path.join("link")).unwrap();
        symlink("nowhere", store.path.join("dangling")).unwrap();
        rustix::fs::mknodat(&store.root, "pipe", FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::create_dir(store.path.join("folder")).unwrap();
        for planted in ["link", "dangling", "pipe", "folder"] {
            let object = name(planted);
            assert!(matches!(store.get(&object, 99), Err(Error::NotAFile { .. })), "{planted}");
            assert!(matches!(store.size(&object), Err(Error::NotAFile { .. })), "{planted}");
            assert!(matches!(store.put(&object, b"x"), Err(Error::Exists { .. })), "{planted}");
        }
        assert_eq!(store.list("").unwrap(), []);
        assert_eq!(store.strangers().unwrap(), 3);
        assert_eq!(fs::read(&outside).unwrap(), b"secret");
    }

    #[test]
    fn what_is_no_object_is_counted_and_not_listed() {
        let (_directory, store) = new();
        store.put(&name("a/1"), b"x").unwrap();
        fs::write(store.path.join(".DS_Store"), "").unwrap();
        fs::write(store.path.join("a/has space"), "").unwrap();
        fs::create_dir(store.path.join("lost+found")).unwrap();
        fs::write(store.path.join("lost+found/x"), "").unwrap();
        fs::write(store.path.join("a/.strongroom-1-0.part"), "").unwrap();
        assert_eq!(store.list("").unwrap(), [Listed { name: name("a/1"), bytes: 1 }]);
        assert_eq!(store.strangers().unwrap(), 3);
    }

    #[test]
    fn what_systems_leave_on_a_drive_is_told_from_files_of_people() {
        let (_directory, store) = new();
        store.put(&name("a/1"), b"x").unwrap();
        for of_system in [".DS_Store", "a/.strongroom-1-0.part"] {
            fs::write(store.path.join(of_system), "").unwrap();
        }
        fs::create_dir_all(store.path.join("lost+found/x")).unwrap();
        fs::create_dir(store.path.join("empty")).unwrap();
        assert!(!store.holds_other_files().unwrap());
        for of_people in ["harbour photo.jpg", "a/.hidden", "empty/Größe"] {
            fs::write(store.path.join(of_people), "").unwrap();
            assert!(store.holds_other_files().unwrap(), "{of_people}");
            fs::remove_file(store.path.join(of_people)).unwrap();
        }
    }

    #[test]
    fn leftovers_go_after_a_day_and_not_before() {
        let (_directory, store) = new();
        store.put(&name("a/1"), b"x").unwrap();
        let leftover = store.path.join("a/.strongroom-1-0.part");
        fs::write(&leftover, "half").unwrap();
        let written = fs::metadata(&leftover).unwrap().modified().unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(store.clear_leftovers(written + day - Duration::from_secs(2)).unwrap(), 0);
        assert_eq!(store.clear_leftovers(SystemTime::UNIX_EPOCH).unwrap(), 0);
        assert_eq!(store.clear_leftovers(written + day).unwrap(), 1);
        assert_eq!(files(&store), [store.path.join("a/1").display().to_string()]);
    }

    #[test]
    fn a_leftover_with_the_same_name_does_not_stop_a_put() {
        let (_directory, store) = new();
        fs::write(store.path.join(format!(".strongroom-{}-0.part", process::id())), "half").unwrap();
        store.put(&name("a"), b"x").unwrap();
        assert_eq!(store.get(&name("a"), 1).unwrap(), b"x");
    }

    /// Fails for what `fails` picks, given whether it is a folder; else does nothing.
    fn sync_that_fails(handle: BorrowedFd<'_>, fails: fn(bool) -> bool) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(handle)?;
        let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if fails(folder) { Err(Errno::IO) } else { Ok(()) }
    }

    #[test]
    fn a_failed_sync_leaves_nothing_behind_and_a_new_put_works() {
        let fails: [fn(BorrowedFd<'_>) -> Result<(), Errno>; 2] = [
            |handle| sync_that_fails(handle, |folder| folder),
            |handle| sync_that_fails(handle, |folder| !folder),
        ];
        for fail in fails {
            for object in ["a", "p/00/b"] {
                let (_directory, mut store) = new();
                store.sync = fail;
                assert!(matches!(store.put(&name(object), b"x"), Err(Error::Io { .. })));
                assert_eq!(files(&store), [""; 0]);
                assert!(matches!(store.get(&name(object), 1), Err(Error::Missing { .. })));
                store.sync = sync;
                store.put(&name(object), b"x").unwrap();
                assert_eq!(store.get(&name(object), 1).unwrap(), b"x");
            }
        }
    }

    #[test]
    fn a_folder_whose_sync_failed_is_made_anew() {
        let (_directory, mut store) = new();
        store.sync = |handle| sync_that_fails(handle, |folder| folder);
        assert!(store.put(&name("p/a"), b"x").is_err());
        assert!(!store.path.join("p").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_synced_at_all_is_no_failure() {
        let (_directory, mut store) = new();
        store.sync = |handle| sync_that_fails(handle, |folder| folder).map_err(|_| Errno::INVAL);
        store.put(&name("p/00/a"), b"x").unwrap();
        store.remove(&name("p/00/a")).unwrap();
    }

    #[test]
    fn no_way_of_placing_an_object_replaces_one() {
        type Way = fn(&OwnedFd, &str, &str) -> Result<(), Errno>;
        let (_directory, store) = new();
        let ways: [Way; 3] = [rename_without_replacing, link_without_replacing, look_and_rename];
        for way in ways {
            let write = |file: &str, text: &str| fs::write(store.path.join(file), text).unwrap();
            write("from", "new");
            write("to", "old");
            assert_eq!(way(&store.root, "from", "to"), Err(Errno::EXIST));
            assert_eq!(fs::read(store.path.join("to")).unwrap(), b"old");
            fs::remove_file(store.path.join("to")).unwrap();
            assert_eq!(way(&store.root, "from", "to"), Ok(()));
            assert_eq!(fs::read(store.path.join("to")).unwrap(), b"new");
            assert!(!store.path.join("from").exists());
        }
    }

    #[test]
    fn errors_of_the_system_are_told_apart() {
        let (_directory, store) = new();
        let object = name("a");
        let told = |errno| store.failure(&object, errno);
        assert!(matches!(told(Errno::NOSPC), Error::Full { .. }));
        assert!(matches!(told(Errno::DQUOT), Error::Full { .. }));
        assert!(matches!(told(Errno::ROFS), Error::ReadOnly { .. }));
        assert!(matches!(told(Errno::ACCESS), Error::Denied { .. }));
        assert!(matches!(told(Errno::NOENT), Error::Missing { .. }));
        assert!(matches!(told(Errno::IO), Error::Io { .. }));
    }

    #[test]
    fn a_directory_that_may_not_be_written_says_so_before_and_during_a_put() {
        let (_directory, store) = new();
        store.put(&name("a"), b"x").unwrap();
        fs::set_permissions(&store.path, fs::Permissions::from_mode(0o500)).unwrap();
        // Root may write everywhere.
        if !rustix::process::geteuid().is_root() {
            assert!(matches!(store.writable(), Err(Error::Denied { .. })));
            assert!(matches!(store.put(&name("b"), b"x"), Err(Error::Denied { .. })));
            assert!(matches!(store.remove(&name("a")), Err(Error::Denied { .. })));
        }
        assert_eq!(store.get(&name("a"), 1).unwrap(), b"x");
    }

    #[test]
    fn a_vault_whose_directory_was_removed_says_so_and_not_that_the_object_is_missing() {
        let (_directory, store) = new();
        fs::remove_dir(&store.path).unwrap();
        assert!(matches!(store.put(&name("p/a"), b"x"), Err(Error::Io { .. })));
    }
}

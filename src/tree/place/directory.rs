//! Directories beneath a target, and what stands in them beside files.

use super::Error;
use super::Overwrite;
use super::Site;
use super::Target;
use super::beneath::Identity;
use super::beneath::kind;
use super::beneath::path_of_handle;
use super::file::PlacedId;
use super::settle;
use super::settle::Held;
use super::settle::count;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Time;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use rustix::fd::AsFd as _;
use rustix::fd::BorrowedFd;
use rustix::fd::OwnedFd;
use rustix::fs;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::Mutex;

/// How many directories are held open at most: well below the usual limit of 1,024 descriptors.
const DIRECTORIES_OPEN_MAX: usize = 256;

/// How often somebody else may change a name between two looks at it before we give up.
const ATTEMPTS_MAX: usize = 8;

/// A directory of the target, open unless it is one that a dry run would have made.
pub(super) struct Directory {
    pub(super) fd: Option<OwnedFd>,
    pub(super) path: TreePath,
}

/// What is remembered of a directory for the whole run.
#[derive(Clone, Copy)]
struct Met {
    identity: Identity,
    /// Whether this run made it.
    made: bool,
    /// The mode it had.
    mode: u32,
}

/// The directories that are open, and which one each path led to.
#[derive(Default)]
pub(super) struct Directories {
    open: Mutex<Open>,
    /// By a keyed hash of the path, 40 bytes a directory however long their paths. Should two paths
    /// share one of 2^64 hashes, the run ends with an error; nothing goes astray.
    met: Mutex<HashMap<u64, Met>>,
    hasher: RandomState,
}

/// Open directories by path, each with the moment of its last use.
#[derive(Default)]
struct Open {
    by_path: HashMap<Box<[u8]>, (Arc<Directory>, u64)>,
    now: u64,
}

impl Open {
    /// The deepest open directory on the way to `path`.
    fn nearest(&mut self, path: &[u8]) -> Option<Arc<Directory>> {
        self.now += 1;
        let mut prefix = path;
        while !prefix.is_empty() {
            if let Some((directory, used)) = self.by_path.get_mut(prefix) {
                *used = self.now;
                return Some(Arc::clone(directory));
            }
            prefix = &prefix[..prefix.iter().rposition(|&byte| byte == b'/').unwrap_or(0)];
        }
        None
    }

    /// Holds `directory` open, and lets go of those not used for longest.
    fn hold(&mut self, directory: &Arc<Directory>) {
        if self.by_path.len() >= DIRECTORIES_OPEN_MAX {
            let mut used: Vec<u64> = self.by_path.values().map(|(_, used)| *used).collect();
            let (_, middle, _) = used.select_nth_unstable(DIRECTORIES_OPEN_MAX / 4);
            let oldest_kept = *middle;
            self.by_path.retain(|_, (_, used)| *used > oldest_kept);
        }
        self.now += 1;
        self.by_path.insert(directory.path.as_bytes().into(), (Arc::clone(directory), self.now));
    }
}

/// How placing something that is no file went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is there.
    Placed,
    /// The policy keeps what was there.
    Kept,
    /// The policy doesn't let it through; it was counted.
    Dropped,
    /// It would be placed, if this weren't a dry run.
    Planned,
    /// The file system has no such links, or no more of them: place the file's content instead.
    Impossible,
}

/// What is to be done about what stands where an entry belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Nothing is there.
    Free,
    /// It stays as it is.
    Keep,
    /// It is the same; its metadata may be set.
    Same,
    /// It goes.
    Replace,
}

/// A directory of the target. Cheap to clone; used by several threads.
#[derive(Clone)]
pub struct DirHandle<'t> {
    pub(super) target: &'t Target,
    pub(super) directory: Arc<Directory>,
}

impl Target {
    /// The directory at `path`, made with mode 0700 if it is missing, and so its parents.
    ///
    /// What else stands there gives way if the policy is [`Overwrite::Always`] or
    /// [`Overwrite::IfChanged`]; a link is never followed.
    ///
    /// # Errors
    /// [`Error::InTheWay`] for something that stays; [`Error::SameName`] on a file system that
    /// doesn't tell upper from lower case; [`Error::Exchanged`] if this run was there before and
    /// finds another directory now; [`Error::OtherFileSystem`]; [`Error::NoSpace`]; [`Error::Entry`].
    pub fn directory(&self, path: &TreePath) -> Result<DirHandle<'_>, Error> {
        let directory = self.resolve(path, true)?.expect("a directory that may be made is there");
        Ok(DirHandle { target: self, directory })
    }

    /// Opens the directory at `path`; if it is missing, makes it or tells that there is none.
    pub(super) fn resolve(&self, path: &TreePath, make: bool) -> Result<Option<Arc<Directory>>, Error> {
        let bytes = path.as_bytes();
        let nearest = self.directories.open.lock().expect("nobody panics while it is locked").nearest(bytes);
        let mut current = nearest.unwrap_or_else(|| Arc::clone(&self.root));
        while current.path.as_bytes().len() < bytes.len() {
            let done = current.path.as_bytes().len();
            let start = if done == 0 { 0 } else { done + 1 };
            let end =
                bytes[start..].iter().position(|&byte| byte == b'/').map_or(bytes.len(), |at| start + at);
            let prefix = TreePath::parse(&bytes[..end]).expect("the front of a path, up to a slash, is one");
            let Some(fd) = self.enter(&current, &bytes[start..end], &prefix, make)? else {
                if make && self.policy.dry_run {
                    return Ok(Some(Arc::new(Directory { fd: None, path: path.clone() })));
                }
                return Ok(None);
            };
            current = Arc::new(Directory { fd: Some(fd), path: prefix });
            self.directories.open.lock().expect("nobody panics while it is locked").hold(&current);
        }
        Ok(Some(current))
    }

    /// Opens the directory `name` in `parent`, whose path is `path`, or makes it.
    ///
    /// `None` if there is none and none may be made.
    fn enter(
        &self,
        parent: &Directory,
        name: &[u8],
        path: &TreePath,
        make: bool,
    ) -> Result<Option<OwnedFd>, Error> {
        let Some(parent) = &parent.fd else { return Ok(None) };
        let hash = self.directories.hasher.hash_one(path.as_bytes());
        let met = self.directories.met.lock().expect("nobody panics while it is locked").get(&hash).copied();
        let may_change = make && !self.policy.dry_run;
        let mut made = false;
        for _ in 0..ATTEMPTS_MAX {
            if may_change && !made && met.is_none() && self.is_fresh() {
                made = self.make_directory(parent, name, path)?;
            }
            match self.beneath.open_directory(parent.as_fd(), name, may_change) {
                Ok((fd, stat)) => {
                    if made {
                        settle::strip_inherited_lists(fd.as_fd(), true);
                    }
                    self.meet(hash, &stat, made, path)?;
                    return Ok(Some(fd));
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if met.is_some() => {
                    return Err(Error::Exchanged { path: path.clone() });
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !may_change => return Ok(None),
                Err(Errno::NOENT) => made = self.make_directory(parent, name, path)?,
                Err(Errno::NOTDIR | Errno::LOOP) => self.clear(parent.as_fd(), name, path)?,
                Err(Errno::XDEV) => return Err(Error::OtherFileSystem { path: path.clone() }),
                Err(errno) => return Err(Error::entry(path.clone(), "opened", errno)),
            }
        }
        Err(Error::Exchanged { path: path.clone() })
    }

    /// Makes the directory `name`; whether it is new.
    fn make_directory(&self, parent: &OwnedFd, name: &[u8], path: &TreePath) -> Result<bool, Error> {
        match fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(Error::entry(path.clone(), "made", errno)),
        }
    }

    /// Remembers which directory stands at a path, and holds it against what stood there before.
    fn meet(&self, hash: u64, stat: &Stat, made: bool, path: &TreePath) -> Result<(), Error> {
        let identity = Identity::of(stat);
        match self.directories.met.lock().expect("nobody panics while it is locked").entry(hash) {
            Slot::Vacant(slot) => {
                slot.insert(Met { identity, made, mode: stat.st_mode & 0o7777 });
            }
            Slot::Occupied(mut slot) if slot.get().identity == identity => slot.get_mut().made |= made,
            Slot::Occupied(_) => return Err(Error::Exchanged { path: path.clone() }),
        }
        Ok(())
    }

    /// Takes away what stands at `name`, if the policy lets us.
    pub(super) fn clear(&self, directory: BorrowedFd<'_>, name: &[u8], path: &TreePath) -> Result<(), Error> {
        let failed = |errno| Error::entry(path.clone(), "replaced", errno);
        if self.is_fresh() {
            return Err(Error::SameName { path: path.clone() });
        }
        if !self.replaces_anything() {
            return Err(Error::InTheWay { path: path.clone() });
        }
        match fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                if !self.policy.delete && matches!(self.site, Site::Direct) {
                    return Err(Error::InTheWay { path: path.clone() });
                }
                match self.remove_tree(directory, name, path)?.mounted {
                    0 => Ok(()),
                    _ => Err(Error::OtherFileSystem { path: path.clone() }),
                }
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Sets the metadata of the directory at `path`, when everything in it is placed; the deepest first.
    ///
    /// That of the root is set by [`Target::finish`]. A directory that was there before this run stays
    /// as it was under [`Overwrite::Never`]. Temporary files that an interrupted run left in it go.
    ///
    /// # Errors
    /// Those of [`Target::directory`]; [`Error::Exchanged`] if it is no longer the one that was filled.
    pub fn finish_directory(&self, path: &TreePath, entry: &Entry) -> Result<(), Error> {
        if path.is_root() {
            *self.root_entry.lock().expect("nobody panics while setting it") = Some(entry.clone());
            return Ok(());
        }
        // Opened anew in its parent, so that one exchanged meanwhile doesn't pass for the one filled.
        self.directories
            .open
            .lock()
            .expect("nobody panics while it is locked")
            .by_path
            .remove(path.as_bytes());
        let handle = self.directory(path)?;
        let Some(fd) = &handle.directory.fd else { return Ok(()) };
        if self.policy.dry_run {
            return Ok(());
        }
        self.sweep(fd.as_fd(), path)?;
        let hash = self.directories.hasher.hash_one(path.as_bytes());
        let met = self.directories.met.lock().expect("nobody panics while it is locked").get(&hash).copied();
        let settled = match met {
            Some(met) if !met.made && self.keeps_existing() => {
                // Only what we opened up to write into it is put back.
                if self.user == 0 { Ok(()) } else { fs::fchmod(fd, Mode::from_raw_mode(met.mode)) }
            }
            _ => self.settle(Held::Open(fd.as_fd()), entry),
        };
        settled.map_err(|errno| Error::entry(path.clone(), "finished", errno))
    }

    /// Whether what was there before this run is left alone.
    fn keeps_existing(&self) -> bool {
        matches!(self.site, Site::Direct) && self.policy.overwrite == Overwrite::Never
    }
}

impl DirHandle<'_> {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        &self.directory.path
    }

    /// The error of something that was tried on `name`.
    pub(super) fn failed<'a>(&'a self, name: &'a Name, tried: &'static str) -> impl Fn(Errno) -> Error + 'a {
        move |errno| Error::entry(self.path().join(name), tried, errno)
    }

    /// What stands at `name`.
    pub(super) fn existing(&self, name: &Name) -> Result<Option<Stat>, Error> {
        let Some(fd) = &self.directory.fd else { return Ok(None) };
        match fs::statat(fd, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed(name, "read")(errno)),
        }
    }

    /// What the policy says about `existing`, where `entry` belongs.
    pub(super) fn decide(&self, existing: Option<&Stat>, entry: &Entry) -> Result<Decision, Error> {
        let Some(stat) = existing else { return Ok(Decision::Free) };
        if matches!(self.target.site, Site::Staged(_)) {
            return Ok(Decision::Replace);
        }
        Ok(match self.target.policy.overwrite {
            Overwrite::Refuse => {
                return Err(Error::InTheWay { path: self.path().join(&entry.name) });
            }
            Overwrite::Always => Decision::Replace,
            Overwrite::Never => Decision::Keep,
            Overwrite::IfNewer if kind(stat) != FileType::Directory && modified(stat) >= entry.modified => {
                Decision::Keep
            }
            Overwrite::IfChanged if self.is_same(stat, entry) => Decision::Same,
            Overwrite::IfNewer | Overwrite::IfChanged => Decision::Replace,
        })
    }

    /// Whether `stat` has the kind, time and size of `entry`.
    fn is_same(&self, stat: &Stat, entry: &Entry) -> bool {
        let alike = match &entry.kind {
            EntryKind::File { size, .. } => {
                kind(stat) == FileType::RegularFile && u64::try_from(stat.st_size) == Ok(*size)
            }
            EntryKind::Directory { .. } => kind(stat) == FileType::Directory,
            EntryKind::Symlink { target } => {
                kind(stat) == FileType::Symlink && self.link_target(&entry.name).as_deref() == Some(target)
            }
            EntryKind::Fifo => kind(stat) == FileType::Fifo,
            EntryKind::CharDevice { major, minor } => {
                kind(stat) == FileType::CharacterDevice && stat.st_rdev == fs::makedev(*major, *minor)
            }
            EntryKind::BlockDevice { major, minor } => {
                kind(stat) == FileType::BlockDevice && stat.st_rdev == fs::makedev(*major, *minor)
            }
        };
        alike && modified(stat) == entry.modified
    }

    /// Where the link `name` points to.
    fn link_target(&self, name: &Name) -> Option<Box<[u8]>> {
        let fd = self.directory.fd.as_ref()?;
        fs::readlinkat(fd, name.as_bytes(), Vec::new()).ok().map(|target| target.into_bytes().into())
    }

    /// Places a symbolic link. Links come after all files.
    ///
    /// # Errors
    /// [`Error::InTheWay`], [`Error::SameName`], [`Error::Exchanged`], [`Error::NoSpace`],
    /// [`Error::Entry`].
    ///
    /// # Panics
    /// If `entry` is no symbolic link.
    pub fn symlink(&self, entry: &Entry) -> Result<Outcome, Error> {
        let EntryKind::Symlink { target } = &entry.kind else { panic!("the entry is a symbolic link") };
        self.put(entry, FileType::Symlink, |fd, name| fs::symlinkat(&**target, fd, name))
    }

    /// Places a named pipe.
    ///
    /// # Errors
    /// Those of [`DirHandle::symlink`].
    pub fn fifo(&self, entry: &Entry) -> Result<Outcome, Error> {
        self.put(entry, FileType::Fifo, |fd, name| fs::mkfifoat(fd, name, Mode::RUSR | Mode::WUSR))
    }

    /// Places a device node, if the policy is privileged and so are we; else it is counted as dropped.
    ///
    /// # Errors
    /// Those of [`DirHandle::symlink`].
    ///
    /// # Panics
    /// If `entry` is no device.
    pub fn device(&self, entry: &Entry) -> Result<Outcome, Error> {
        let (kind, device) = match entry.kind {
            EntryKind::CharDevice { major, minor } => (FileType::CharacterDevice, fs::makedev(major, minor)),
            EntryKind::BlockDevice { major, minor } => (FileType::BlockDevice, fs::makedev(major, minor)),
            _ => panic!("the entry is a device"),
        };
        if !self.target.policy.privileged {
            count(&self.target.dropped.devices);
            return Ok(Outcome::Dropped);
        }
        let mode = Mode::RUSR | Mode::WUSR;
        match self.put(entry, kind, |fd, name| fs::mknodat(fd, name, kind, mode, device)) {
            Err(Error::Entry { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                count(&self.target.dropped.devices);
                Ok(Outcome::Dropped)
            }
            other => other,
        }
    }

    /// Places a name made by `make`, gives it its metadata, and moves it to where it belongs.
    fn put(
        &self,
        entry: &Entry,
        expected: FileType,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<(), Errno>,
    ) -> Result<Outcome, Error> {
        let target = self.target;
        target.note_name(&entry.name);
        let existing = if target.is_fresh() { None } else { self.existing(&entry.name)? };
        let decision = self.decide(existing.as_ref(), entry)?;
        if matches!(decision, Decision::Keep | Decision::Same) {
            return Ok(Outcome::Kept);
        }
        let Some(fd) = self.directory.fd.as_ref().filter(|_| !target.policy.dry_run) else {
            return Ok(Outcome::Planned);
        };
        if target.is_fresh() {
            make(fd.as_fd(), entry.name.as_bytes()).map_err(|errno| match errno {
                Errno::EXIST => Error::SameName { path: self.path().join(&entry.name) },
                _ => self.failed(&entry.name, "made")(errno),
            })?;
            self.settle_at(entry.name.as_bytes(), entry, expected)?;
            return Ok(Outcome::Placed);
        }
        let (temporary, ()) = self.make_temporary(&entry.name, |name| make(fd.as_fd(), name))?;
        let placed = self
            .settle_at(temporary.as_bytes(), entry, expected)
            .and_then(|()| self.move_into_place(&temporary, &entry.name, decision));
        if placed.is_err() {
            let _ = fs::unlinkat(fd, &temporary, AtFlags::empty());
        }
        placed.map(|()| Outcome::Placed)
    }

    /// Tries `make` with one temporary name after the other until one is free.
    pub(super) fn make_temporary<T>(
        &self,
        name: &Name,
        mut make: impl FnMut(&[u8]) -> Result<T, Errno>,
    ) -> Result<(String, T), Error> {
        loop {
            let temporary = self.target.temporary_name();
            match make(temporary.as_bytes()) {
                Ok(made) => return Ok((temporary, made)),
                // Left by an interrupted run; swept when the directory is finished.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.failed(name, "made")(errno)),
            }
        }
    }

    /// Sets the metadata of what was just made at `name`, after making sure that it is what was made.
    fn settle_at(&self, name: &[u8], entry: &Entry, expected: FileType) -> Result<(), Error> {
        let Some(directory) = &self.directory.fd else { return Ok(()) };
        let exchanged = || Error::Exchanged { path: self.path().join(&entry.name) };
        let held = match self.target.beneath.open(directory.as_fd(), name, OFlags::PATH, Mode::empty()) {
            Ok(held) => held,
            Err(Errno::NOENT | Errno::LOOP | Errno::XDEV) => return Err(exchanged()),
            Err(errno) => return Err(self.failed(&entry.name, "opened")(errno)),
        };
        let stat = fs::fstat(&held).map_err(self.failed(&entry.name, "read"))?;
        // A second name, or another owner, means that somebody put a file of theirs there.
        if kind(&stat) != expected || stat.st_nlink != 1 || stat.st_uid != self.target.user {
            return Err(exchanged());
        }
        self.target.settle(Held::Path(held.as_fd()), entry).map_err(self.failed(&entry.name, "finished"))
    }

    /// Renames `temporary` to `name`, over what the policy lets go.
    pub(super) fn move_into_place(
        &self,
        temporary: &str,
        name: &Name,
        decision: Decision,
    ) -> Result<(), Error> {
        let Some(fd) = &self.directory.fd else { return Ok(()) };
        let failed = self.failed(name, "put in place");
        let in_the_way = || Error::InTheWay { path: self.path().join(name) };
        if decision == Decision::Free {
            match fs::renameat_with(fd, temporary, fd, name.as_bytes(), RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) if self.target.replaces_anything() => {}
                Err(Errno::EXIST) => return Err(in_the_way()),
                // A file system that doesn't know the flag: a look and a rename are all that is left.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    if self.existing(name)?.is_some() && !self.target.replaces_anything() {
                        return Err(in_the_way());
                    }
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
        for _ in 0..ATTEMPTS_MAX {
            match fs::renameat(fd, temporary, fd, name.as_bytes()) {
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                    self.target.clear(fd.as_fd(), name.as_bytes(), &self.path().join(name))?;
                }
                other => return other.map_err(failed),
            }
        }
        Err(Error::Exchanged { path: self.path().join(name) })
    }

    /// Places one more name of a file that this run placed.
    ///
    /// The inode is found again where it was placed and linked through its handle, so nobody can
    /// slip another file under it. [`Outcome::Impossible`] asks for the content instead.
    ///
    /// # Errors
    /// [`Error::Exchanged`] if the first name no longer leads to what was placed; else those of
    /// [`DirHandle::symlink`].
    pub fn hard_link(&self, entry: &Entry, first: &PlacedId) -> Result<Outcome, Error> {
        let target = self.target;
        target.note_name(&entry.name);
        let existing = if target.is_fresh() { None } else { self.existing(&entry.name)? };
        if existing.as_ref().is_some_and(|stat| Identity::of(stat) == first.identity) {
            return Ok(Outcome::Kept);
        }
        let decision = match self.decide(existing.as_ref(), entry)? {
            Decision::Keep => return Ok(Outcome::Kept),
            // The same content in a file of its own is not the same thing as a second name.
            Decision::Same | Decision::Replace => Decision::Replace,
            Decision::Free => Decision::Free,
        };
        let Some(fd) = self.directory.fd.as_ref().filter(|_| !target.policy.dry_run) else {
            return Ok(Outcome::Planned);
        };
        let exchanged = || Error::Exchanged { path: first.directory.join(&first.name) };
        let held = target
            .resolve(&first.directory, false)?
            .and_then(|directory| {
                let directory = directory.fd.as_ref()?;
                let name = first.name.as_bytes();
                target.beneath.open(directory.as_fd(), name, OFlags::PATH, Mode::empty()).ok()
            })
            .filter(|held| Identity::held(held) == Ok(first.identity))
            .ok_or_else(exchanged)?;
        let link = |name: &[u8]| link_handle(held.as_fd(), fd.as_fd(), name);
        let impossible = |source: &std::io::Error| {
            let errno = source.raw_os_error().map(Errno::from_raw_os_error);
            matches!(errno, Some(Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::XDEV | Errno::NOSYS))
        };

        if target.is_fresh() {
            return match link(entry.name.as_bytes()) {
                Ok(()) => Ok(Outcome::Placed),
                Err(Errno::EXIST) => Err(Error::SameName { path: self.path().join(&entry.name) }),
                Err(errno) if impossible(&errno.into()) => Ok(Outcome::Impossible),
                Err(errno) => Err(self.failed(&entry.name, "linked")(errno)),
            };
        }
        let (temporary, ()) = match self.make_temporary(&entry.name, link) {
            Err(Error::Entry { source, .. }) if impossible(&source) => return Ok(Outcome::Impossible),
            other => other?,
        };
        let moved = self.move_into_place(&temporary, &entry.name, decision);
        // Also when it went well: renaming a file over another name of itself leaves both.
        let _ = fs::unlinkat(fd, &temporary, AtFlags::empty());
        moved.map(|()| Outcome::Placed)
    }
}

/// Gives the inode that is `held` one more name.
fn link_handle(held: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match fs::linkat(fs::CWD, path_of_handle(held), directory, name, AtFlags::SYMLINK_FOLLOW) {
        // Without /proc, the kernel takes the handle itself only from root.
        Err(Errno::NOENT) => fs::linkat(held, "", directory, name, AtFlags::EMPTY_PATH),
        other => other,
    }
}

/// When `stat` says that the content was last changed.
pub(super) fn modified(stat: &Stat) -> Time {
    Time { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

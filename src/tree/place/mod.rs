//! Writing entries to the user's disk: the only place in the program that does.
//!
//! What is placed lies beneath a [`Target`] and nowhere else, whoever wrote the vault and whatever
//! somebody does to the target meanwhile: every name is opened in a held directory, links are
//! never followed, and metadata goes to inodes that are held. A target that doesn't exist yet is
//! built in a staging directory beside it, which nobody else can enter, and renamed into place as a
//! whole; in one that exists, each file comes to stand whole under its name. Rights that an entry
//! would bring along are left out and counted unless asked for, and nothing is removed but
//! our own staging directory and what the policy says.
//!
//! In order: [`Target::stage`] or [`Target::in_place`]; for each directory [`Target::directory`] and
//! its files; then links, pipes and devices; then [`Target::finish_directory`], the deepest first,
//! for metadata; then [`Target::finish`].

mod beneath;
mod directory;
mod error;
mod file;
mod remove;
mod settle;

pub use directory::DirHandle;
pub use directory::Outcome;
pub use error::Error;
pub use file::Begin;
pub use file::ExistingFile;
pub use file::Finished;
pub use file::PlacedFile;
pub use file::PlacedId;
pub use remove::Removed;
pub use settle::Dropped;

use crate::tree::entry::Entry;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use beneath::Beneath;
use beneath::Identity;
use beneath::kind;
use directory::Directories;
use directory::Directory;
use rustix::fd::AsFd as _;
use rustix::fd::OwnedFd;
use rustix::fs;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use settle::Accounts;
use settle::Counters;
use settle::Held;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// The name, in a staging directory, of the directory that becomes the target.
const STAGED_TREE: &str = "tree";

/// The name, in a staging directory, of the file that tells which restore it belongs to.
const STAGED_MARKER: &str = "marker";

/// What becomes of an existing file where one is to be placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overwrite {
    /// There is to be none: a target that isn't empty is refused.
    #[default]
    Refuse,
    /// It is replaced.
    Always,
    /// It is kept if its size and time are those of the entry, else replaced.
    IfChanged,
    /// It is replaced if the entry is newer than it, else kept.
    IfNewer,
    /// It is kept.
    Never,
}

/// What may be done to the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub struct Policy {
    /// What becomes of existing files.
    pub overwrite: Overwrite,
    /// Whether [`Target::remove_extra`] may delete what the snapshot doesn't have.
    pub delete: bool,
    /// Whether owners, setuid and its like, `security.` and `trusted.` attributes and device nodes
    /// are placed too.
    pub privileged: bool,
    /// Whether runs of zeros become holes, beyond the holes that an entry tells about.
    pub sparse: bool,
    /// Whether owners are taken by number, even where this machine knows the name.
    pub numeric_owner: bool,
    /// Whether nothing is to be written at all.
    pub dry_run: bool,
}

/// Which restore this is, so that an interrupted one can go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Eight hex digits of the names of its staging directory and temporary files.
    pub tag: [u8; 4],
    /// All that decides what is placed: the snapshot's whole id and what of it. At most 64 KiB.
    pub marker: String,
}

impl Run {
    /// The tag as it stands in names.
    fn tag(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.tag)
    }
}

/// Where the files go.
enum Site {
    /// Into a directory beside the target, renamed when all is there.
    Staged(Staging),
    /// Into the target, which exists; or nowhere, in a dry run.
    Direct,
}

/// A staging directory: `.NAME.strongroom-TAG` with a marker and the tree, 0700 and our own.
///
/// Or `.strongroom-TAG` in the target itself, out of which everything moves up at the end.
struct Staging {
    /// What holds both the staging directory and the target; the target itself, if the staging directory is in it.
    parent: OwnedFd,
    /// The target's name there; empty if it is the parent.
    target_name: Vec<u8>,
    /// The staging directory, locked.
    fd: OwnedFd,
    /// Its name in `parent`.
    name: Vec<u8>,
    /// The same as a path, to be told to people.
    path: PathBuf,
    /// Whether an earlier run left files in it.
    resumed: bool,
    /// The mode of the empty directory that stands at the target, if one does.
    replaces: Option<Mode>,
    /// The name in the tree of what becomes the target, if that isn't the tree itself.
    entry: Option<Vec<u8>>,
}

/// A directory that entries are placed beneath. Used by several threads.
pub struct Target {
    given: PathBuf,
    site: Site,
    policy: Policy,
    root: Arc<Directory>,
    /// For [`Target::free_bytes`] where there is no root yet.
    nearest: OwnedFd,
    beneath: Beneath,
    user: u32,
    group: u32,
    /// What our temporary names begin with.
    temporary_prefix: String,
    temporaries: AtomicU64,
    /// Whether the snapshot itself has such names, so that leftovers can't be told from entries.
    has_such_names: AtomicBool,
    directories: Directories,
    accounts: Accounts,
    dropped: Counters,
    /// The root's own metadata, set when the root is in place.
    root_entry: Mutex<Option<Entry>>,
    deferred: Mutex<Vec<(TreePath, Entry)>>,
}

impl Target {
    /// Starts a target that doesn't exist or is an empty directory.
    ///
    /// Missing parents are made. The files go into a staging directory beside the target, the one of
    /// an earlier run if that was of the same `run`; [`Target::finish`] renames it. Where there can
    /// be none (the empty directory is a mount point, or lies in a directory that we can't write
    /// to), they go into the target itself, each whole.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::NotDirectory`] and [`Error::ForeignLink`] for a target that
    /// can't be had; [`Error::Leftover`] and [`Error::Busy`] for its staging directory;
    /// [`Error::Target`] if the disk refuses.
    pub fn stage(path: &Path, run: &Run, policy: Policy) -> Result<Self, Error> {
        Self::stage_or(path, run, policy, Self::direct)
    }

    /// The same for a target that is to hold everything or nothing: where no staging directory can be beside it,
    /// it is in the target, and [`Target::finish`] moves what is in it up.
    ///
    /// # Errors
    /// As [`Target::stage`].
    pub fn stage_whole(path: &Path, run: &Run, policy: Policy) -> Result<Self, Error> {
        Self::stage_or(path, run, policy, |real, fd, run, policy| {
            let staging = Staging::make(fd, Vec::new(), &real, run, None)?;
            Self::staged(real, staging, run, policy)
        })
    }

    /// The same for a target that is to be the entry called `name` itself, which is no directory, and must not exist.
    ///
    /// # Errors
    /// As [`Target::stage`]; [`Error::Target`] if there is a directory.
    pub fn stage_entry(path: &Path, name: &Name, run: &Run, policy: Policy) -> Result<Self, Error> {
        match Found::look(path)? {
            Found::Nothing(real) => {
                let (parent, target_name) = Self::open_parent(&real)?;
                let staging = Staging::make(parent, target_name, &real, run, None)?;
                Self::staged(real, Staging { entry: Some(name.as_bytes().to_vec()), ..staging }, run, policy)
            }
            Found::Directory(real, _) => Err(Error::target(&real, "made", Errno::EXIST)),
        }
    }

    fn stage_or(
        path: &Path,
        run: &Run,
        policy: Policy,
        otherwise: impl Fn(PathBuf, OwnedFd, &Run, Policy) -> Result<Self, Error>,
    ) -> Result<Self, Error> {
        let found = Found::look(path)?;
        if let Found::Directory(real, fd) = &found
            && !is_empty(fd).map_err(|errno| Error::target(real, "read", errno))?
        {
            return Err(Error::NotEmpty { target: path.to_owned() });
        }
        if policy.dry_run {
            return match found {
                Found::Directory(real, fd) => Self::direct(real, fd, run, policy),
                Found::Nothing(real) => Self::planned(real, run, policy),
            };
        }
        match found {
            Found::Nothing(real) => {
                let (parent, name) = Self::open_parent(&real)?;
                let staging = Staging::make(parent, name, &real, run, None)?;
                Self::staged(real, staging, run, policy)
            }
            Found::Directory(real, fd) => {
                let Some(staging) = Self::stage_beside(&real, path, &fd, run)? else {
                    return otherwise(real, fd, run, policy);
                };
                drop(fd);
                Self::staged(real, staging, run, policy)
            }
        }
    }

    /// Starts a target that exists, and may have files in it.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if it has, and the policy is [`Overwrite::Refuse`]; [`Error::NotDirectory`]
    /// and [`Error::ForeignLink`]; [`Error::Busy`]; [`Error::Target`] if it doesn't exist or the disk
    /// refuses.
    pub fn in_place(path: &Path, run: &Run, policy: Policy) -> Result<Self, Error> {
        match Found::look(path)? {
            Found::Nothing(real) => Err(Error::target(&real, "read", Errno::NOENT)),
            Found::Directory(real, fd) => {
                let has_files = !is_empty(&fd).map_err(|errno| Error::target(&real, "read", errno))?;
                if has_files && policy.overwrite == Overwrite::Refuse {
                    return Err(Error::NotEmpty { target: path.to_owned() });
                }
                Self::direct(real, fd, run, policy)
            }
        }
    }

    /// A staging directory for the existing empty directory `real`, if there can be one beside it.
    fn stage_beside(real: &Path, given: &Path, fd: &OwnedFd, run: &Run) -> Result<Option<Staging>, Error> {
        // `.`, `..` and `/` are where somebody stands, or can't be renamed: their inode has to stay.
        if given.file_name().is_none() || real.file_name().is_none() {
            return Ok(None);
        }
        let (parent, name) = Self::open_parent(real)?;
        let stat = fs::fstat(fd).map_err(|errno| Error::target(real, "read", errno))?;
        let is_mount_point = Beneath::new(parent.as_fd(), current_user())
            .and_then(|beneath| beneath.open(parent.as_fd(), &name, OFlags::DIRECTORY, Mode::empty()))
            .and_then(Identity::held)
            .is_ok_and(|identity| identity == Identity::of(&stat));
        if !is_mount_point {
            return Ok(None);
        }
        match Staging::make(parent, name, real, run, Some(Mode::from_raw_mode(stat.st_mode))) {
            Err(Error::Target { source, .. })
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Opens what holds `path`, making it if need be; and the target's name in it.
    fn open_parent(path: &Path) -> Result<(OwnedFd, Vec<u8>), Error> {
        let name = path.file_name().ok_or_else(|| Error::NotDirectory { target: path.to_owned() })?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(|source| Error::Target {
            target: parent.to_owned(),
            tried: "made",
            source,
        })?;
        let fd = fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::target(parent, "read", errno))?;
        Ok((fd, name.as_bytes().to_vec()))
    }

    fn staged(given: PathBuf, staging: Staging, run: &Run, policy: Policy) -> Result<Self, Error> {
        let failed = |errno| Error::target(&staging.path, "made", errno);
        let beneath = Beneath::new(staging.fd.as_fd(), current_user()).map_err(failed)?;
        match fs::mkdirat(&staging.fd, STAGED_TREE, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let (root, stat) =
            beneath.open_directory(staging.fd.as_fd(), STAGED_TREE.as_bytes(), true).map_err(failed)?;
        if stat.st_uid != current_user() {
            return Err(Error::Leftover { staging: staging.path });
        }
        let nearest = staging.parent.try_clone().map_err(|source| Error::Target {
            target: given.clone(),
            tried: "read",
            source,
        })?;
        Ok(Self::assemble(given, Site::Staged(staging), Some(root), nearest, beneath, run, policy))
    }

    fn direct(given: PathBuf, root: OwnedFd, run: &Run, policy: Policy) -> Result<Self, Error> {
        lock(&root, &given)?;
        let failed = |errno: Errno| Error::target(&given, "read", errno);
        let beneath = Beneath::new(root.as_fd(), current_user()).map_err(failed)?;
        let nearest = rustix::io::fcntl_dupfd_cloexec(&root, 0).map_err(failed)?;
        Ok(Self::assemble(given, Site::Direct, Some(root), nearest, beneath, run, policy))
    }

    /// A dry run into a target that doesn't exist.
    fn planned(given: PathBuf, run: &Run, policy: Policy) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let ancestors = given.ancestors().filter(|path| !path.as_os_str().is_empty()).chain([Path::new(".")]);
        let nearest = ancestors
            .map(|path| fs::open(path, flags, Mode::empty()))
            .find(|opened| !matches!(opened, Err(Errno::NOENT)))
            .unwrap_or(Err(Errno::NOENT))
            .map_err(|errno| Error::target(&given, "read", errno))?;
        let beneath = Beneath::new(nearest.as_fd(), current_user())
            .map_err(|errno| Error::target(&given, "read", errno))?;
        Ok(Self::assemble(given, Site::Direct, None, nearest, beneath, run, policy))
    }

    fn assemble(
        given: PathBuf,
        site: Site,
        root: Option<OwnedFd>,
        nearest: OwnedFd,
        beneath: Beneath,
        run: &Run,
        policy: Policy,
    ) -> Self {
        Self {
            given,
            site,
            policy,
            root: Arc::new(Directory { fd: root, path: TreePath::root() }),
            nearest,
            beneath,
            user: current_user(),
            group: rustix::process::getegid().as_raw(),
            temporary_prefix: format!(".strongroom-{}-", run.tag()),
            temporaries: AtomicU64::new(0),
            has_such_names: AtomicBool::new(false),
            directories: Directories::default(),
            accounts: Accounts::default(),
            dropped: Counters::default(),
            root_entry: Mutex::new(None),
            deferred: Mutex::new(Vec::new()),
        }
    }

    /// Where the files are until [`Target::finish`], to be told to whoever interrupts the run.
    #[must_use]
    pub fn staging_path(&self) -> Option<&Path> {
        match &self.site {
            Site::Staged(staging) => Some(&staging.path),
            Site::Direct => None,
        }
    }

    /// Whether an earlier run of the same restore left files that this one goes on from.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        matches!(&self.site, Site::Staged(staging) if staging.resumed)
    }

    /// Whether [`Target::remove_extra`] removes anything.
    #[must_use]
    pub fn removes_extra(&self) -> bool {
        self.policy.delete || self.is_resumed()
    }

    /// What may be done to the target.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What was left out so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped.read()
    }

    /// How many bytes can still be written where the target is.
    ///
    /// # Errors
    /// [`Error::Target`] if the file system doesn't tell.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        let told = fs::fstatvfs(&self.nearest).map_err(|errno| Error::target(&self.given, "read", errno))?;
        Ok(told.f_bavail.saturating_mul(told.f_frsize))
    }

    /// Whether nobody but this run has put anything there, so every name is free but for our own.
    fn is_fresh(&self) -> bool {
        matches!(&self.site, Site::Staged(staging) if !staging.resumed)
    }

    /// Whether what stands where an entry belongs may be replaced without looking at its age.
    fn replaces_anything(&self) -> bool {
        matches!(self.site, Site::Staged(_))
            || matches!(self.policy.overwrite, Overwrite::Always | Overwrite::IfChanged)
    }

    /// A name for something that isn't whole yet.
    fn temporary_name(&self) -> String {
        format!("{}{:x}", self.temporary_prefix, self.temporaries.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes note of an entry's name before it is placed.
    fn note_name(&self, name: &Name) {
        if name.as_bytes().starts_with(self.temporary_prefix.as_bytes()) {
            self.has_such_names.store(true, Ordering::Relaxed);
        }
    }

    /// Keeps a symbolic link until all files are placed.
    ///
    /// Each takes some 200 bytes of memory; a caller with very many walks the tree a second time
    /// instead.
    pub fn defer(&self, directory: TreePath, entry: Entry) {
        self.deferred.lock().expect("nobody panics while adding to a list").push((directory, entry));
    }

    /// Places what was deferred, and tells `each` how it went; only then finish directories.
    pub fn place_deferred(&self, mut each: impl FnMut(&TreePath, &Entry, Result<Outcome, Error>)) {
        let deferred =
            std::mem::take(&mut *self.deferred.lock().expect("nobody panics while adding to a list"));
        for (path, entry) in deferred {
            let outcome = self.directory(&path).and_then(|directory| directory.symlink(&entry));
            each(&path, &entry, outcome);
        }
    }

    /// Ends the run: all that was placed is on the disk and stands at the target.
    ///
    /// # Errors
    /// [`Error::Appeared`] if something came to stand at the target meanwhile: the files stay where
    /// [`Target::staging_path`] told. [`Error::Target`] or [`Error::NoSpace`] if the disk refuses.
    pub fn finish(self) -> Result<(), Error> {
        let Some(root) = &self.root.fd else { return Ok(()) };
        if self.policy.dry_run {
            return Ok(());
        }
        self.sweep(root.as_fd(), &self.root.path)?;
        fs::syncfs(root).map_err(|errno| Error::target(&self.given, "written", errno))?;
        let mut place = root.as_fd();
        if let Site::Staged(staging) = &self.site {
            if staging.is_in_target() {
                staging.move_up(root, &self.given)?;
                // Before the target gets its metadata: this changes it.
                staging.remove_remains();
                place = staging.parent.as_fd();
            } else {
                staging.rename(root, &self.given)?;
            }
            if staging.entry.is_some() {
                // The tree stays behind, with nothing in it that was asked for.
                self.remove_staged(staging)?;
            }
        }
        // Only now: a directory that we may not write to couldn't have been renamed.
        let entry = self.root_entry.lock().expect("nobody panics while setting it").take();
        let settled = match (entry, &self.site) {
            (Some(_), Site::Direct) if self.policy.overwrite == Overwrite::Never => Ok(()),
            (Some(entry), _) => self.settle(Held::Open(place), &entry),
            (None, Site::Staged(Staging { replaces: Some(mode), .. })) => fs::fchmod(root, *mode),
            (None, _) => Ok(()),
        };
        settled.map_err(|errno| Error::target(&self.given, "written", errno))?;
        fs::fsync(place).map_err(|errno| Error::target(&self.given, "written", errno))?;
        if let Site::Staged(staging) = &self.site {
            staging.remove_remains();
            fs::fsync(&staging.parent).map_err(|errno| Error::target(&self.given, "written", errno))?;
        }
        Ok(())
    }

    /// Ends the run and removes its staging directory; in a target that existed, nothing changes.
    ///
    /// # Errors
    /// [`Error::Entry`] or [`Error::Target`] if something in it can't be removed.
    pub fn abandon(self) -> Result<(), Error> {
        let Site::Staged(staging) = &self.site else { return Ok(()) };
        self.remove_staged(staging)?;
        staging.remove_remains();
        Ok(())
    }
}

impl Staging {
    /// Makes the staging directory for the target `name` in `parent`, or takes up that of an earlier run.
    fn make(
        parent: OwnedFd,
        target_name: Vec<u8>,
        target: &Path,
        run: &Run,
        replaces: Option<Mode>,
    ) -> Result<Self, Error> {
        let name = Self::name(&target_name, run);
        let path = match target_name.is_empty() {
            true => target.join(std::ffi::OsStr::from_bytes(&name)),
            false => target.with_file_name(std::ffi::OsStr::from_bytes(&name)),
        };
        let failed = |errno| Error::target(&path, "made", errno);

        match fs::mkdirat(&parent, name.as_slice(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let beneath = Beneath::new(parent.as_fd(), current_user()).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = match beneath.open(parent.as_fd(), &name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(_) => return Err(Error::Leftover { staging: path }),
        };
        let stat = fs::fstat(&fd).map_err(failed)?;
        // The parent may lend setgid, or a default list without our own rights; what counts is that
        // nobody but us gets in.
        if stat.st_uid != current_user() || stat.st_mode & 0o077 != 0 {
            return Err(Error::Leftover { staging: path });
        }
        lock(&fd, &path)?;
        // Nothing in it takes over rights from the directory that the user happens to restore to.
        settle::strip_inherited_lists(fd.as_fd(), true);
        fs::fchmod(&fd, Mode::RWXU).map_err(failed)?;

        let resumed = !is_empty(&fd).map_err(failed)?;
        if resumed {
            if !has_marker(beneath, &fd, &run.marker) {
                return Err(Error::Leftover { staging: path });
            }
        } else {
            write_marker(&fd, &run.marker).map_err(failed)?;
        }
        Ok(Self { parent, target_name, fd, name, path, resumed, replaces, entry: None })
    }

    /// `.NAME.strongroom-TAG`, with as much of `NAME` as there is room for.
    fn name(target: &[u8], run: &Run) -> Vec<u8> {
        Self::name_with(target, &run.tag())
    }

    fn name_with(target: &[u8], tag: &str) -> Vec<u8> {
        let ending = format!(".strongroom-{tag}");
        if target.is_empty() {
            return ending.into_bytes();
        }
        let room = Name::BYTES_MAX - 1 - ending.len();
        let mut kept = &target[..target.len().min(room)];
        // Some file systems want whole characters.
        if let Err(error) = std::str::from_utf8(kept)
            && error.error_len().is_none()
        {
            kept = &kept[..error.valid_up_to()];
        }
        [b".", kept, ending.as_bytes()].concat()
    }

    /// Renames the tree, or the entry in it, to where the target is to be.
    fn rename(&self, tree: &OwnedFd, target: &Path) -> Result<(), Error> {
        let name = self.target_name.as_slice();
        let renamed = match &self.entry {
            None if self.replaces.is_some() => fs::renameat(&self.fd, STAGED_TREE, &self.parent, name),
            None => rename_over_nothing(&self.fd, STAGED_TREE.as_bytes(), &self.parent, name),
            Some(entry) => rename_over_nothing(tree, entry, &self.parent, name),
        };
        renamed.map_err(|errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR => {
                Error::Appeared { target: target.to_owned(), staging: self.path.clone() }
            }
            _ => Error::target(target, "made", errno),
        })
    }

    fn is_in_target(&self) -> bool {
        self.target_name.is_empty()
    }

    /// Moves what is in the tree up into the target, which must still hold nothing else; all of it, or as far as
    /// the disk lets us none of it.
    fn move_up(&self, tree: &OwnedFd, target: &Path) -> Result<(), Error> {
        let failed = |errno| Error::target(target, "made", errno);
        let appeared = || Error::Appeared { target: target.to_owned(), staging: self.path.clone() };
        if names_in(&self.parent).map_err(failed)? != [self.name.clone()] {
            return Err(appeared());
        }
        let names = names_in(tree).map_err(failed)?;
        for (at, name) in names.iter().enumerate() {
            if let Err(errno) = move_one(tree, &self.parent, name) {
                for moved in &names[..at] {
                    // What can't be moved back stays, and is told of with the rest.
                    let _ = move_one(&self.parent, tree, moved);
                }
                return Err(if errno == Errno::EXIST { appeared() } else { failed(errno) });
            }
        }
        Ok(())
    }

    /// Removes the marker and the staging directory, by now empty. What can't be removed is left.
    fn remove_remains(&self) {
        let _ = fs::unlinkat(&self.fd, STAGED_MARKER, AtFlags::empty());
        let _ = fs::unlinkat(&self.fd, STAGED_TREE, AtFlags::REMOVEDIR);
        let ours = fs::statat(&self.parent, self.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| Identity::held(&self.fd) == Ok(Identity::of(&stat)));
        if ours {
            let _ = fs::unlinkat(&self.parent, self.name.as_slice(), AtFlags::REMOVEDIR);
        }
    }
}

/// What stands where the user wants the target.
enum Found {
    /// Nothing.
    Nothing(PathBuf),
    /// A directory, and its path with no link at the end.
    Directory(PathBuf, OwnedFd),
}

impl Found {
    /// Looks at `path`, which the user gave: links on the way are theirs, one at the end must be.
    fn look(path: &Path) -> Result<Self, Error> {
        let failed = |errno| Error::target(path, "read", errno);
        // A slash at the end would follow a link.
        let plain: PathBuf = path.components().collect();
        let stat = match fs::statat(fs::CWD, &plain, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Self::Nothing(plain)),
            Err(errno) => return Err(failed(errno)),
        };
        let is_link = kind(&stat) == FileType::Symlink;
        if is_link && stat.st_uid != 0 && stat.st_uid != current_user() {
            return Err(Error::ForeignLink { target: path.to_owned() });
        }
        let real = if is_link || plain.file_name().is_none() {
            std::fs::canonicalize(&plain).map_err(|source| Error::Target {
                target: path.to_owned(),
                tried: "read",
                source,
            })?
        } else {
            plain
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::open(&real, flags, Mode::empty()) {
            Ok(fd) => Ok(Self::Directory(real, fd)),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(Error::NotDirectory { target: path.to_owned() }),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// Who this program acts for.
fn current_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Keeps a second run out of the directory `fd` while it is open.
fn lock(fd: &OwnedFd, path: &Path) -> Result<(), Error> {
    match fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Error::Busy { target: path.to_owned() }),
        // A file system without locks: two runs at once are then up to the user.
        _ => Ok(()),
    }
}

/// Whether a directory has no entry.
fn is_empty(fd: &OwnedFd) -> Result<bool, Errno> {
    for entry in Dir::read_from(fd)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The names in a directory.
fn names_in(fd: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Renames over nothing: `Errno::EXIST` if something has the name.
///
/// Where the file system doesn't know how to promise that, a look and a rename are all that is left.
///
/// # Errors
/// What the system says.
pub fn rename_over_nothing(
    from: impl std::os::fd::AsFd,
    name: &[u8],
    to: impl std::os::fd::AsFd,
    new_name: &[u8],
) -> Result<(), Errno> {
    let (from, to) = (from.as_fd(), to.as_fd());
    match fs::renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match fs::statat(to, new_name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => fs::renameat(from, name, to, new_name),
                Err(errno) => Err(errno),
                Ok(_) => Err(Errno::EXIST),
            }
        }
        other => other,
    }
}

/// Staging directories that runs left which were cut off before `target` was in place, and which no run is at now.
#[must_use]
pub fn leftovers(target: &Path) -> Vec<PathBuf> {
    let Some(name) = target.file_name() else { return Vec::new() };
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let pattern = Staging::name_with(name.as_bytes(), "00000000");
    let is_one = |found: &[u8]| {
        let (start, tag) = found.split_at(found.len().saturating_sub(8));
        found.len() == pattern.len()
            && pattern.starts_with(start)
            && tag.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_left = |path: &PathBuf| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::open(path, flags, Mode::empty()).is_ok_and(|fd| lock(&fd, path).is_ok())
    };
    let entries = std::fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| is_one(entry.file_name().as_bytes()))
        .map(|entry| target.with_file_name(entry.file_name()))
        .filter(is_left)
        .collect();
    found.sort();
    found
}

/// Moves a name from one directory to another, over nothing.
fn move_one(from: &OwnedFd, to: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let rename = || rename_over_nothing(from, name, to, name);
    match rename() {
        Err(Errno::ACCESS) => {}
        other => return other,
    }
    // A directory that may not be written to can't get another parent.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = fs::openat(from, name, flags, Mode::empty())?;
    let mode = Mode::from_raw_mode(fs::fstat(&held)?.st_mode);
    fs::fchmod(&held, mode | Mode::WUSR)?;
    let moved = rename();
    fs::fchmod(&held, mode)?;
    moved
}

/// Writes which restore the staging directory `fd` belongs to.
fn write_marker(fd: &OwnedFd, marker: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = fs::openat(fd, STAGED_MARKER, flags, Mode::RUSR | Mode::WUSR)?;
    file::write_all(&file, 0, marker.as_bytes())
}

/// Whether the staging directory `fd` belongs to the restore that `marker` tells.
fn has_marker(beneath: Beneath, fd: &OwnedFd, marker: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let Ok(file) = beneath.open(fd.as_fd(), STAGED_MARKER.as_bytes(), flags, Mode::empty()) else {
        return false;
    };
    let mut found = vec![0; marker.len() + 1];
    let plain = fs::fstat(&file).is_ok_and(|stat| kind(&stat) == FileType::RegularFile);
    plain && file::read_up_to(&file, 0, &mut found).is_ok_and(|length| &found[..length] == marker.as_bytes())
}

#[cfg(test)]
mod tests;

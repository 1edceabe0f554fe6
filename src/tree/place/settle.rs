//! Giving what was placed its owner, mode, attributes and time, and counting what is left out.

use super::Target;
use super::beneath::chmod_path_handle;
use super::beneath::path_of_handle;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Owner;
use crate::tree::entry::Time;
use rustix::fd::BorrowedFd;
use rustix::fs;
use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Stat;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// The mode bits that lend somebody else's rights: setuid, setgid and sticky.
const SPECIAL_BITS: u32 = 0o7000;

/// The permissions proper.
const PERMISSION_BITS: u32 = 0o777;

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACCESS_LIST: &[u8] = b"system.posix_acl_default";

/// What was left out of what was placed, each counted once an entry or attribute.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Dropped {
    /// Entries that had setuid, setgid or sticky.
    pub special_bits: u64,
    /// File capabilities (`security.capability`).
    pub capabilities: u64,
    /// Other attributes under `security.` and `trusted.`.
    pub security_xattrs: u64,
    /// Attributes of no kind known here, under `system.` or elsewhere.
    pub other_xattrs: u64,
    /// Ordinary attributes and access lists that the file system doesn't take.
    pub refused_xattrs: u64,
    /// Device nodes.
    pub devices: u64,
    /// Entries that belonged to somebody else.
    pub owners: u64,
}

/// [`Dropped`], counted by several threads.
#[derive(Default)]
pub(super) struct Counters {
    special_bits: AtomicU64,
    capabilities: AtomicU64,
    security_xattrs: AtomicU64,
    other_xattrs: AtomicU64,
    refused_xattrs: AtomicU64,
    pub(super) devices: AtomicU64,
    owners: AtomicU64,
}

impl Counters {
    /// What was counted so far.
    pub(super) fn read(&self) -> Dropped {
        Dropped {
            special_bits: self.special_bits.load(Ordering::Relaxed),
            capabilities: self.capabilities.load(Ordering::Relaxed),
            security_xattrs: self.security_xattrs.load(Ordering::Relaxed),
            other_xattrs: self.other_xattrs.load(Ordering::Relaxed),
            refused_xattrs: self.refused_xattrs.load(Ordering::Relaxed),
            devices: self.devices.load(Ordering::Relaxed),
            owners: self.owners.load(Ordering::Relaxed),
        }
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The numbers that this machine has for names, asked once each.
#[derive(Default)]
pub(super) struct Accounts {
    users: Mutex<HashMap<Arc<str>, Option<u32>>>,
    groups: Mutex<HashMap<Arc<str>, Option<u32>>>,
}

impl Accounts {
    /// The user's number here, `otherwise` if nobody has that name.
    fn user(&self, name: &Arc<str>, otherwise: u32) -> u32 {
        look_up(&self.users, name, otherwise, |name| {
            nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
        })
    }

    /// The group's number here, `otherwise` if none has that name.
    fn group(&self, name: &Arc<str>, otherwise: u32) -> u32 {
        look_up(&self.groups, name, otherwise, |name| {
            nix::unistd::Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
        })
    }
}

/// What `ask` said about `name`, remembered in `known`.
fn look_up(
    known: &Mutex<HashMap<Arc<str>, Option<u32>>>,
    name: &Arc<str>,
    otherwise: u32,
    ask: impl FnOnce(&str) -> Option<u32>,
) -> u32 {
    if name.is_empty() {
        return otherwise;
    }
    let mut known = known.lock().expect("nobody panics while asking for a number");
    known.entry(Arc::clone(name)).or_insert_with(|| ask(name)).unwrap_or(otherwise)
}

/// What metadata is set through: always an inode that is held, never a name.
#[derive(Clone, Copy)]
pub(super) enum Held<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A link, pipe or device, opened with `O_PATH`.
    Path(BorrowedFd<'a>),
}

impl Held<'_> {
    fn chown(self, owner: Option<Uid>, group: Option<Gid>) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::fchown(fd, owner, group),
            Self::Path(fd) => fs::chownat(fd, "", owner, group, AtFlags::EMPTY_PATH),
        }
    }

    fn chmod(self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Open(fd) => fs::fchmod(fd, mode),
            Self::Path(fd) => chmod_path_handle(fd, mode),
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Path(fd) => fs::setxattr(path_of_handle(fd), name, value, XattrFlags::empty()),
        }
    }

    fn set_modified(self, time: Time) -> Result<(), Errno> {
        let modified = Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
        let untouched = Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT };
        let times = Timestamps { last_access: untouched, last_modification: modified };
        match self {
            Self::Open(fd) => fs::futimens(fd, &times),
            Self::Path(fd) => fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH),
        }
    }
}

/// Takes away the access lists that a new file or directory has from the one that it was made in.
///
/// Without this, somebody whom the parent's default list names would get at what is placed there.
pub(super) fn strip_inherited_lists(fd: BorrowedFd<'_>, directory: bool) {
    // A file system without access lists, or a file without one, is what we want: errors say just that.
    let _ = fs::fremovexattr(fd, ACCESS_LIST);
    if directory {
        let _ = fs::fremovexattr(fd, DEFAULT_ACCESS_LIST);
    }
}

impl Target {
    /// Gives what is `held` all that `entry` tells about it, as far as the policy lets it through.
    ///
    /// The order matters: a change of owner clears capabilities and setuid, a user's attributes need
    /// a file that is still writable, an access list changes the mode, and all of them the times.
    pub(super) fn settle(&self, held: Held<'_>, entry: &Entry) -> Result<(), Errno> {
        self.settle_owner(held, &entry.owner)?;

        let is_list = |name: &[u8]| name == ACCESS_LIST || name == DEFAULT_ACCESS_LIST;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| !is_list(name)) {
            self.settle_xattr(held, name, value);
        }
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            self.settle_mode(held, entry)?;
        }
        held.set_modified(entry.modified)
    }

    /// Whether what `stat` tells about has the mode, and if privileged the owner, that `entry` asks for.
    pub(super) fn has_mode_and_owner(&self, stat: &Stat, entry: &Entry) -> bool {
        let bits = if self.policy.privileged { SPECIAL_BITS | PERMISSION_BITS } else { PERMISSION_BITS };
        let has_owner = !self.policy.privileged || (stat.st_uid, stat.st_gid) == self.numbers(&entry.owner);
        has_owner && stat.st_mode & bits == entry.mode & bits
    }

    /// The user and group that `owner` is on this machine.
    fn numbers(&self, owner: &Owner) -> (u32, u32) {
        if self.policy.numeric_owner || !self.policy.privileged {
            return (owner.uid, owner.gid);
        }
        (self.accounts.user(&owner.user, owner.uid), self.accounts.group(&owner.group, owner.gid))
    }

    fn settle_owner(&self, held: Held<'_>, owner: &Owner) -> Result<(), Errno> {
        let (uid, gid) = self.numbers(owner);
        if !self.policy.privileged {
            if (uid, gid) != (self.user, self.group) {
                count(&self.dropped.owners);
            }
            return Ok(());
        }
        // The highest number means "leave as it is" to the kernel, and so belongs to nobody.
        let user = (uid != u32::MAX).then(|| Uid::from_raw(uid));
        let group = (gid != u32::MAX).then(|| Gid::from_raw(gid));
        match held.chown(user, group) {
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => {
                count(&self.dropped.owners);
                Ok(())
            }
            other => other,
        }
    }

    fn settle_xattr(&self, held: Held<'_>, name: &[u8], value: &[u8]) {
        let privileged_counter = match name {
            b"security.capability" => Some(&self.dropped.capabilities),
            _ if name.starts_with(b"security.") || name.starts_with(b"trusted.") => {
                Some(&self.dropped.security_xattrs)
            }
            _ if name.starts_with(b"user.") => None,
            _ => Some(&self.dropped.other_xattrs),
        };
        match privileged_counter {
            Some(counter) if !self.policy.privileged => count(counter),
            // A full disk isn't told apart from a full inode here; it shows at the next write.
            _ if held.set_xattr(name, value).is_err() => {
                count(privileged_counter.unwrap_or(&self.dropped.refused_xattrs));
            }
            _ => {}
        }
    }

    fn settle_mode(&self, held: Held<'_>, entry: &Entry) -> Result<(), Errno> {
        let mut mode = entry.mode & PERMISSION_BITS;
        if entry.mode & SPECIAL_BITS != 0 {
            if self.policy.privileged {
                mode |= entry.mode & SPECIAL_BITS;
            } else {
                count(&self.dropped.special_bits);
            }
        }
        let list =
            |wanted: &[u8]| entry.xattrs.iter().find(|(name, _)| &**name == wanted).map(|(_, value)| value);
        let (access, default) = (list(ACCESS_LIST), list(DEFAULT_ACCESS_LIST));
        if let Held::Open(fd) = held {
            if access.is_none() {
                let _ = fs::fremovexattr(fd, ACCESS_LIST);
            }
            if default.is_none() && entry.kind.is_directory() {
                let _ = fs::fremovexattr(fd, DEFAULT_ACCESS_LIST);
            }
        }
        // Beside an access list, the mode's group bits are the list's mask and not the group's own
        // rights. They come with the list; if it can't be kept, the group gets nothing.
        held.chmod(if access.is_some() { mode & !0o070 } else { mode })?;
        for (name, value) in [(ACCESS_LIST, access), (DEFAULT_ACCESS_LIST, default)] {
            if value.is_some_and(|value| held.set_xattr(name, value).is_err()) {
                count(&self.dropped.refused_xattrs);
            }
        }
        Ok(())
    }
}

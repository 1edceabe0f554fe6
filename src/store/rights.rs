//! What the access that this user has to a folder would let somebody do to the objects in it.

use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::Statx;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;
use rustix::io::Errno;

use super::local::FOLDER;

/// A folder's bit by which only owners take something out of it.
const STICKY: u16 = 0o1000;
/// Marks of the file system that neither an owner's rights nor others' lift: `chattr +i` and `+a`.
const FIXED: StatxAttributes = StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND);

/// What can be done to an object that is there, by going around strongroom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// It can be taken away.
    pub remove: bool,
    /// Other bytes can be put in its place.
    pub overwrite: bool,
}

impl Rights {
    /// Whether there are any.
    #[must_use]
    pub fn any(self) -> bool {
        self.remove || self.overwrite
    }

    /// What either of them lets be done.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { remove: self.remove || other.remove, overwrite: self.overwrite || other.overwrite }
    }
}

/// What this user may do to the file `name` below the folder `root`. Nothing is changed to find out.
///
/// An owner counts as able to do what he can give himself the right to, and a folder that can be put elsewhere
/// takes what is in it along.
pub(super) fn of(root: OwnedFd, name: &str) -> Result<Rights, Errno> {
    let (mut folder, mut remove) = (root, false);
    let mut rest = name;
    while let Some((part, below)) = rest.split_once('/') {
        remove |= may_remove(folder.as_fd(), part)?;
        folder = rustix::fs::openat(&folder, part, FOLDER, Mode::empty())?;
        rest = below;
    }
    remove |= may_remove(folder.as_fd(), rest)?;
    // What can be taken away can be put back with other bytes.
    let overwrite = remove || may_write(folder.as_fd(), rest, &look(folder.as_fd(), rest)?);
    Ok(Rights { remove, overwrite })
}

/// Whether a file or a folder can be taken out of the one that it is in.
fn may_remove(folder: BorrowedFd<'_>, file: &str) -> Result<bool, Errno> {
    let (above, object) = (look(folder, ".")?, look(folder, file)?);
    let may_leave = above.stx_mode & STICKY == 0 || is_own(&above) || is_own(&object);
    Ok(may_leave && !is_fixed(&object) && may_write(folder, ".", &above))
}

fn look(folder: BorrowedFd<'_>, file: &str) -> Result<Statx, Errno> {
    rustix::fs::statx(folder, file, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
}

/// Whether what is in a file or a folder can be changed.
fn may_write(folder: BorrowedFd<'_>, file: &str, of: &Statx) -> bool {
    if is_fixed(of) {
        return false;
    }
    match rustix::fs::accessat(folder, file, Access::WRITE_OK, AtFlags::EACCESS) {
        Ok(()) => true,
        Err(Errno::ACCESS) => is_own(of),
        // Read-only for everybody, or the system can't tell.
        Err(_) => false,
    }
}

/// Whether this user may change its mode: its owner and root.
fn is_own(of: &Statx) -> bool {
    let user = rustix::process::geteuid();
    user.is_root() || of.stx_uid == user.as_raw()
}

fn is_fixed(of: &Statx) -> bool {
    of.stx_attributes.intersects(FIXED)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn rights(root: &Path, name: &str) -> (bool, bool) {
        let root = rustix::fs::open(root, FOLDER, Mode::empty()).unwrap();
        let rights = of(root, name).unwrap();
        (rights.remove, rights.overwrite)
    }

    #[test]
    fn an_owner_can_do_what_he_can_give_himself_the_right_to_and_what_is_not_there_has_no_rights() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("vault");
        fs::create_dir_all(root.join("a")).unwrap();
        fs::write(root.join("a/one"), "x").unwrap();
        for (mode, file_mode) in [(0o700, 0o600), (0o500, 0o400), (0o1755, 0o444)] {
            fs::set_permissions(root.join("a/one"), fs::Permissions::from_mode(file_mode)).unwrap();
            fs::set_permissions(root.join("a"), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(rights(&root, "a/one"), (true, true), "{mode:o} {file_mode:o}");
        }
        assert_eq!(fs::read(root.join("a/one")).unwrap(), b"x");
        let handle = || rustix::fs::open(&root, FOLDER, Mode::empty()).unwrap();
        for missing in ["a/two", "b/one", "a/one/two"] {
            assert!(of(handle(), missing).is_err(), "{missing}");
        }
    }
}

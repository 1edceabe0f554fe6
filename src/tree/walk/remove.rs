//! Removing a source, once somebody has held all of it against what was kept of it.
//!
//! Only what was there, and was as it is now, when the comparison began is removed. The kernel sets the time of
//! an entry's last change (`ctime`), and nobody else does: whatever is newer than the moment from which the
//! comparison counts may hold something that was not compared, and ends the removal. A mount below the source is
//! somebody else's data, or the same data once more, and is never entered.

use std::collections::HashMap;
use std::fmt;

use rustix::fd::AsFd as _;
use rustix::fd::BorrowedFd;
use rustix::fs::AtFlags;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;

use crate::tree::entry::Time;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use crate::tree::walk;
use crate::tree::walk::Doing;
use crate::tree::walk::Source;
use crate::tree::walk::SourceDir;
use crate::tree::walk::SourceKind;
use crate::tree::walk::Stat;
use crate::tree::walk::directory::Names;
use crate::tree::walk::examine;
use crate::tree::walk::io_error;

/// Why a source, or what is left of it, stays.
#[derive(Debug)]
pub enum Error {
    /// Something is mounted there.
    Mounted {
        /// The absolute path, without the leading slash.
        path: TreePath,
    },
    /// It was changed, or came to be there, after the comparison began.
    Changed {
        /// The absolute path, without the leading slash.
        path: TreePath,
    },
    /// It can't be listed, or asked what it is.
    Walk(walk::Error),
    /// The operating system refuses to remove it.
    Stays {
        /// The absolute path, without the leading slash.
        path: TreePath,
        /// Why.
        source: std::io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let absolute = |path: &TreePath| printable(&walk::absolute(path));
        match self {
            Self::Mounted { path } => write!(f, "something is mounted at {}", absolute(path)),
            Self::Changed { path } => write!(f, "{} was changed since it was compared", absolute(path)),
            Self::Walk(error) => error.fmt(f),
            Self::Stays { path, .. } => write!(f, "{} could not be removed", absolute(path)),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Walk(error) => error.source(),
            Self::Stays { source, .. } => Some(source),
            Self::Mounted { .. } | Self::Changed { .. } => None,
        }
    }
}

impl From<walk::Error> for Error {
    fn from(error: walk::Error) -> Self {
        Self::Walk(error)
    }
}

/// Looks whether a source could be removed: nothing is mounted there or below, and nothing is newer than
/// `compared`, if that is given.
///
/// # Errors
/// [`Error`] with the first thing for which it couldn't.
pub fn check_removable(source: &Source, compared: Option<Time>) -> Result<(), Error> {
    Removal { compared, is_trial: true, removed: 0, again: HashMap::new() }.run(source)
}

/// Removes a source, as far as nothing in it is newer than `compared`: how many entries went, and why the rest
/// stays, if any does.
pub fn remove(source: &Source, compared: Time) -> (u64, Result<(), Error>) {
    let mut removal =
        Removal { compared: Some(compared), is_trial: false, removed: 0, again: HashMap::new() };
    let ended = removal.run(source);
    (removal.removed, ended)
}

struct Removal {
    compared: Option<Time>,
    is_trial: bool,
    removed: u64,
    /// Of files with several names, when they were last changed by losing one of them here.
    again: HashMap<(u64, u64), Time>,
}

/// A directory on the way down.
struct Frame {
    directory: SourceDir,
    names: Names,
    at: usize,
}

impl Frame {
    fn new(directory: SourceDir) -> Result<Self, Error> {
        let mut names = directory.names()?;
        match names.take_refused().pop() {
            Some(error) => Err(error.into()),
            None => Ok(Self { directory, names, at: 0 }),
        }
    }
}

impl Removal {
    fn run(&mut self, source: &Source) -> Result<(), Error> {
        let stat = source.examine()?;
        let Some(name) = source.path().last() else {
            return Err(Error::Mounted { path: TreePath::root() });
        };
        self.check(source.parent(), &name, source.path(), &stat, &stat)?;
        if stat.kind != SourceKind::Directory {
            return self.unlink(source.parent(), &name, &stat);
        }
        let mut frames = vec![Frame::new(source.parent().open_dir(&name, &stat)?)?];
        while let Some(top) = frames.last_mut() {
            let Some(name) = top.names.get(top.at) else {
                let done = frames.pop().expect("there was a last one");
                let above = frames.last().map_or(source.parent(), |frame| &frame.directory);
                self.remove_directory(above, &done.directory)?;
                continue;
            };
            top.at += 1;
            let found = top.directory.examine(&name)?;
            self.check(&top.directory, &name, &top.directory.path().join(&name), &found, &stat)?;
            if found.kind == SourceKind::Directory {
                let below = top.directory.open_dir(&name, &found)?;
                frames.push(Frame::new(below)?);
            } else {
                self.unlink(&top.directory, &name, &found)?;
            }
        }
        Ok(())
    }

    /// Whether an entry may go. A directory is looked at before anything in it goes.
    fn check(
        &self,
        directory: &SourceDir,
        name: &Name,
        path: &TreePath,
        stat: &Stat,
        root: &Stat,
    ) -> Result<(), Error> {
        if stat.device != root.device || is_mount(directory.handle.as_fd(), name) {
            return Err(Error::Mounted { path: path.clone() });
        }
        let own = self.again.get(&(stat.device, stat.inode));
        if self.compared.is_some_and(|compared| stat.changed > compared) && own != Some(&stat.changed) {
            return Err(Error::Changed { path: path.clone() });
        }
        Ok(())
    }

    fn unlink(&mut self, directory: &SourceDir, name: &Name, stat: &Stat) -> Result<(), Error> {
        if self.is_trial {
            return Ok(());
        }
        let held = if stat.links > 1 { Some(directory.hold(name, stat)?) } else { None };
        self.go(directory, name, AtFlags::empty())?;
        if let Some(held) = held {
            let path = || directory.path().join(name);
            let now = examine(held.handle.as_fd(), b"");
            let now = now.map_err(|source| io_error(&path(), Doing::Examine, source))?;
            self.again.insert((now.device, now.inode), now.changed);
        }
        Ok(())
    }

    /// Removes a directory that is empty by now: what came into it meanwhile keeps it.
    fn remove_directory(&mut self, above: &SourceDir, directory: &SourceDir) -> Result<(), Error> {
        match directory.path().last() {
            Some(name) if !self.is_trial => {
                if !above.examine(&name)?.is_same_file(directory.stat()) {
                    return Err(Error::Changed { path: directory.path().clone() });
                }
                self.go(above, &name, AtFlags::REMOVEDIR)
            }
            _ => Ok(()),
        }
    }

    fn go(&mut self, directory: &SourceDir, name: &Name, flags: AtFlags) -> Result<(), Error> {
        rustix::fs::unlinkat(&directory.handle, name.as_bytes(), flags)
            .map_err(|errno| Error::Stays { path: directory.path().join(name), source: errno.into() })?;
        self.removed += 1;
        Ok(())
    }
}

/// Whether a name is where something is mounted, the same file system at another place included.
fn is_mount(directory: BorrowedFd<'_>, name: &Name) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    // A kernel too old to tell (before 5.8) has told the device, and doesn't remove what is mounted.
    rustix::fs::statx(directory, name.as_bytes(), flags, StatxFlags::empty())
        .is_ok_and(|statx| statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn source(folder: &tempfile::TempDir) -> Source {
        Source::load(&folder.path().canonicalize().unwrap().join("s")).unwrap()
    }

    /// A tree with a link, a file of two names, and a folder below; and the time of its last change.
    fn tree() -> (tempfile::TempDir, Time) {
        let folder = tempfile::tempdir().unwrap();
        let s = folder.path().join("s");
        fs::create_dir_all(s.join("sub/deep")).unwrap();
        fs::write(s.join("a"), b"a").unwrap();
        fs::hard_link(s.join("a"), s.join("sub/b")).unwrap();
        std::os::unix::fs::symlink("/", s.join("sub/deep/link")).unwrap();
        let last = [s.clone(), s.join("a"), s.join("sub"), s.join("sub/deep"), s.join("sub/deep/link")];
        let changed = last.map(|path| Source::load(&path).unwrap().examine().unwrap().changed);
        (folder, changed.into_iter().max().unwrap())
    }

    #[test]
    fn all_of_a_tree_goes_and_nothing_beside_it() {
        let (folder, last) = tree();
        fs::write(folder.path().join("beside"), b"").unwrap();
        check_removable(&source(&folder), Some(last)).unwrap();
        assert!(folder.path().join("s/a").exists(), "a look removes nothing");
        let (removed, ended) = remove(&source(&folder), last);
        ended.unwrap();
        assert_eq!(removed, 6);
        assert!(!folder.path().join("s").exists() && folder.path().join("beside").exists());
    }

    #[test]
    fn a_file_alone_is_a_source_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s"), b"").unwrap();
        let found = source(&folder);
        let (removed, ended) = remove(&found, found.examine().unwrap().changed);
        ended.unwrap();
        assert_eq!(removed, 1);
    }

    #[test]
    fn what_was_changed_since_stays_and_is_named() {
        let (folder, last) = tree();
        let before = Time { seconds: last.seconds - 1, nanos: 0 };
        let error = check_removable(&source(&folder), Some(before)).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error}");
        let (removed, ended) = remove(&source(&folder), before);
        assert!(ended.unwrap_err().to_string().ends_with("/s was changed since it was compared"));
        assert_eq!(removed, 0);
        assert!(folder.path().join("s/sub/deep/link").is_symlink());
    }
}

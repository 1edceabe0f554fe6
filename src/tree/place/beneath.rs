//! Opening one name in a held directory, and nothing that it might point to.
//!
//! A path is always gone step by step, each name opened in the directory opened before it; so it
//! may be longer than `PATH_MAX`, and nobody who renames directories meanwhile leads it elsewhere.

use rustix::fd::AsFd;
use rustix::fd::AsRawFd as _;
use rustix::fd::BorrowedFd;
use rustix::fd::OwnedFd;
use rustix::fs;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::ffi::CString;

/// Which inode of which file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The identity of what `stat` tells about.
    pub(super) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    /// The identity of an open file.
    pub(super) fn held(fd: impl AsFd) -> Result<Self, Errno> {
        fs::fstat(fd).map(|stat| Self::of(&stat))
    }
}

/// What kind of file `stat` tells about.
pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Opens names in held directories, never through a link and never into another file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beneath {
    /// Whether the kernel (Linux 5.6) knows `openat2`, and no filter forbids it.
    has_openat2: bool,
    /// The file system, for kernels where we must look ourselves whether we left it.
    device: u64,
    /// Who we are: only our own directories are made accessible.
    user: u32,
}

impl Beneath {
    /// Asks the kernel once what it can do, on the directory `root`.
    pub(super) fn new(root: BorrowedFd<'_>, user: u32) -> Result<Self, Errno> {
        let device = fs::fstat(root)?.st_dev;
        let probe = fs::openat2(root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), Self::RESOLVE);
        Ok(Self { has_openat2: probe.is_ok(), device, user })
    }

    const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
        .union(ResolveFlags::NO_SYMLINKS)
        .union(ResolveFlags::NO_MAGICLINKS)
        .union(ResolveFlags::NO_XDEV);

    /// The same without `openat2`, as on an old kernel.
    #[cfg(test)]
    pub(super) fn without_openat2(self) -> Self {
        Self { has_openat2: false, ..self }
    }

    /// Opens `name`, one component, in `directory`; with [`OFlags::PATH`] a link itself is opened.
    pub(super) fn open(
        self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        debug_assert!(!name.contains(&b'/') && name != b"..", "one component at a time");
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.has_openat2 {
            return fs::openat2(directory, name, flags, mode, Self::RESOLVE);
        }
        let fd = fs::openat(directory, name, flags, mode)?;
        // A directory elsewhere than its parent is a mount point. A bind mount of the same file system
        // isn't seen here: only its owner, root, can have put it there.
        if flags.contains(OFlags::DIRECTORY) && fs::fstat(&fd)?.st_dev != self.device {
            return Err(Errno::XDEV);
        }
        Ok(fd)
    }

    /// Opens the directory `name` for reading, and makes it ours to write to if it is our own.
    ///
    /// What it returns tells the mode that it had before.
    pub(super) fn open_directory(
        self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        change_mode: bool,
    ) -> Result<(OwnedFd, Stat), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = match self.open(parent, name, flags, Mode::empty()) {
            Err(Errno::ACCESS) if change_mode => {
                let closed = self.open(parent, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
                let stat = fs::fstat(&closed)?;
                if stat.st_uid != self.user {
                    return Err(Errno::ACCESS);
                }
                chmod_path_handle(closed.as_fd(), Mode::from_raw_mode(stat.st_mode) | Mode::RWXU)?;
                let opened = self.open(parent, name, flags, Mode::empty())?;
                if Identity::held(&opened)? != Identity::of(&stat) {
                    return Err(Errno::ACCESS);
                }
                return Ok((opened, stat));
            }
            other => other?,
        };
        let stat = fs::fstat(&fd)?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        // Root passes anyway, and shouldn't touch what it needn't.
        if change_mode && self.user != 0 && stat.st_uid == self.user && !mode.contains(Mode::RWXU) {
            fs::fchmod(&fd, mode | Mode::RWXU)?;
        }
        Ok((fd, stat))
    }
}

/// The name under which the kernel shows our descriptor: leads to the inode held, never another.
pub(super) fn path_of_handle(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("a number holds no NUL")
}

/// Changes the mode of what `fd`, opened with [`OFlags::PATH`], stands for; never of a link.
pub(super) fn chmod_path_handle(fd: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    fs::chmodat(fs::CWD, path_of_handle(fd), mode, fs::AtFlags::empty())
}

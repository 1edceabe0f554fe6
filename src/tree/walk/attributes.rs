//! Extended attributes of what is held.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::tree::entry::Entry;
use crate::tree::entry::Xattr;
use crate::tree::path::TreePath;
use crate::tree::walk::Doing;
use crate::tree::walk::Error;
use crate::tree::walk::absolute;
use crate::tree::walk::io_error;

/// The longest list of attribute names, and the longest value, that Linux gives: 64 KiB.
const XATTR_BUFFER_BYTES: usize = 64 << 10;

/// The longest list of attribute names or value that is read at the first try.
const XATTR_FIRST_TRY_BYTES: usize = 1_024;

/// How the extended attributes of something held are reached.
pub(super) enum Attributes<'a> {
    /// Through the handle.
    Handle(BorrowedFd<'a>),
    /// By the handle's path: a handle that isn't open for reading can't give them.
    Path(String),
}

impl Attributes<'_> {
    fn list(&self, names: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Handle(handle) => rustix::fs::flistxattr(handle, names),
            Self::Path(path) => rustix::fs::listxattr(path.as_str(), names),
        }
    }

    fn get(&self, name: &[u8], value: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Handle(handle) => rustix::fs::fgetxattr(handle, name, value),
            Self::Path(path) => rustix::fs::getxattr(path.as_str(), name, value),
        }
    }

    /// All of them, sorted by name; `path` is what an error names.
    pub(super) fn load(&self, path: impl Fn() -> TreePath) -> Result<Vec<Xattr>, Error> {
        let failed = |source: Errno| io_error(&path(), Doing::ReadAttributes, source);
        let names = match read_growing(|buffer| self.list(buffer)) {
            Ok(names) => names,
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut xattrs: Vec<Xattr> = Vec::new();
        let mut bytes = 0;
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let value = match read_growing(|buffer| self.get(name, buffer)) {
                Ok(value) => value,
                // Removed since it was listed, or listed by a file system that doesn't give it.
                Err(Errno::NODATA | Errno::NOTSUP) => continue,
                Err(source) => return Err(failed(source)),
            };
            bytes += name.len() + value.len();
            if bytes > Entry::XATTR_BYTES_MAX {
                return Err(Error::TooMuch { path: absolute(&path()), what: "extended attributes" });
            }
            xattrs.push((name.into(), value.into()));
        }
        xattrs.sort_unstable();
        xattrs.dedup_by(|later, earlier| later.0 == earlier.0);
        Ok(xattrs)
    }
}

/// What `read` puts into a buffer: a small one, or one as large as the kernel can need.
fn read_growing(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; XATTR_FIRST_TRY_BYTES];
    match read(&mut small) {
        Ok(bytes) => Ok(small[..bytes].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; XATTR_BUFFER_BYTES];
            let bytes = read(&mut large)?;
            large.truncate(bytes);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

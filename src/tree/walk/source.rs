//! The paths that somebody asked to back up, found on the disk.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::walk::Doing;
use crate::tree::walk::Error;
use crate::tree::walk::SourceKind;
use crate::tree::walk::Stat;
use crate::tree::walk::directory::SourceDir;
use crate::tree::walk::io_error;
use crate::tree::walk::open;

/// One path that somebody asked to back up, found on the disk, with its parents held.
#[derive(Debug)]
pub struct Source {
    path: TreePath,
    parents: Vec<SourceDir>,
}

impl Source {
    /// Finds what `path` names.
    ///
    /// Links among its parents are followed, as any program does; if the last name is a link, the
    /// source is that link itself, unless a slash follows it. The parents are then opened from `/`
    /// down, none of them a link any more.
    ///
    /// # Errors
    /// [`Error::Io`] if a parent can't be found or passed, [`Error::Changed`] if one is being replaced.
    /// Whether the source itself is there, [`examine`](Self::examine) tells.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = path.as_os_str().as_bytes();
        let ends_in_name = !bytes.ends_with(b"/") && !bytes.ends_with(b"/.") && bytes != b".";
        let (Some(name), true) = (path.file_name(), ends_in_name) else {
            return Self::load_real(&real_path(path, path)?);
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut real = real_path(parent.unwrap_or(Path::new(".")), path)?;
        let name = Name::new(name.as_bytes()).map_err(|source| Error::Name {
            path: bytes.into(),
            name: name.as_bytes().into(),
            source,
        })?;
        real.push(&name);
        Self::load_real(&real)
    }

    /// Opens the parents of a path that has no links among them.
    pub(super) fn load_real(path: &TreePath) -> Result<Self, Error> {
        let mut parents = vec![SourceDir::load_passage_root()?];
        let mut names: Vec<Name> = path.components().collect();
        names.pop();
        for name in names {
            let parent = parents.last().expect("the root was put in").open_passage(&name)?;
            parents.push(parent);
        }
        Ok(Self { path: path.clone(), parents })
    }

    /// Its absolute path, without the leading slash.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// The directories that lead to it: `/`, and so on down to the one that holds it, whose entry for it
    /// is the last name of [`path`](Self::path). If the source is `/`, that alone.
    ///
    /// They may be examined and asked for attributes; they can't be listed.
    #[must_use]
    pub fn parents(&self) -> &[SourceDir] {
        &self.parents
    }

    /// The directory that holds it; `/` if it is that itself.
    #[must_use]
    pub fn parent(&self) -> &SourceDir {
        self.parents.last().expect("the root was put in")
    }

    /// Asks what it is.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be told: there may be nothing.
    pub fn examine(&self) -> Result<Stat, Error> {
        match self.path.last() {
            Some(name) => self.parent().examine(&name),
            None => Ok(*self.parent().stat()),
        }
    }

    /// Opens it as a directory.
    ///
    /// # Errors
    /// [`Error::Io`] if it is none or can't be opened, [`Error::Changed`] if it is being replaced.
    pub fn open_dir(&self) -> Result<SourceDir, Error> {
        let examined = self.examine()?;
        if examined.kind != SourceKind::Directory {
            return Err(io_error(&self.path, Doing::Open, Errno::NOTDIR));
        }
        match self.path.last() {
            Some(name) => self.parent().open_dir(&name, &examined),
            None => {
                let handle = open(rustix::fs::CWD, b"/", OFlags::RDONLY | OFlags::DIRECTORY)
                    .map_err(|source| io_error(&self.path, Doing::Open, source))?;
                let path = Arc::new(TreePath::root());
                Ok(SourceDir { handle, path, stat: examined, is_passage: false })
            }
        }
    }
}

/// Where `path` really is; `asked` is what an error names.
pub(super) fn real_path(path: &Path, asked: &Path) -> Result<TreePath, Error> {
    let asked = asked.as_os_str().as_bytes();
    let real = std::fs::canonicalize(path).map_err(|source| Error::Io {
        path: asked.into(),
        doing: Doing::Resolve,
        source,
    })?;
    let bytes = real.as_os_str().as_bytes();
    TreePath::parse(bytes.strip_prefix(b"/").unwrap_or(bytes)).map_err(|source| Error::Name {
        path: asked.into(),
        name: bytes.into(),
        source,
    })
}

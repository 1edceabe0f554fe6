//! An open directory on the source disk, and its names.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::AsFd as _;
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use walkdir::WalkDir;

use crate::tree::entry::Xattr;
use crate::tree::filter::Marker;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::walk::Doing;
use crate::tree::walk::Error;
use crate::tree::walk::Source;
use crate::tree::walk::SourceKind;
use crate::tree::walk::Stat;
use crate::tree::walk::absolute;
use crate::tree::walk::attributes::Attributes;
use crate::tree::walk::examine;
use crate::tree::walk::file::SourceFile;
use crate::tree::walk::file::SourceNode;
use crate::tree::walk::handle_path;
use crate::tree::walk::io_error;
use crate::tree::walk::open;
use crate::tree::walk::source::real_path;

/// The names in a directory, sorted by their bytes: one buffer, and 8 bytes more a name.
#[derive(Default)]
pub struct Names {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    refused: Vec<Error>,
}

/// Where a name is, and whether it was listed as that of a regular file.
#[derive(Clone, Copy)]
struct Span {
    offset: u32,
    length: u8,
    is_file: bool,
}

impl Names {
    /// Adds a name, wherever it belongs.
    pub(super) fn add(&mut self, name: &[u8], is_file: bool, directory: &TreePath) -> Result<(), Error> {
        if let Err(source) = Name::new(name) {
            self.refused.push(Error::Name { path: absolute(directory), name: name.into(), source });
            return Ok(());
        }
        let too_much = |_| Error::TooMuch { path: absolute(directory), what: "names" };
        let offset = u32::try_from(self.bytes.len()).map_err(too_much)?;
        let length = u8::try_from(name.len()).expect("a name has at most 255 bytes");
        self.bytes.extend_from_slice(name);
        self.spans.push(Span { offset, length, is_file });
        Ok(())
    }

    /// Sorts them. A directory that changes while it is listed can give a name twice: it is kept once.
    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|&one, &other| slice(bytes, one).cmp(slice(bytes, other)));
        self.spans.dedup_by(|one, other| slice(bytes, *one) == slice(bytes, *other));
        self.bytes.shrink_to_fit();
        self.spans.shrink_to_fit();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The name at `index`, from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Name> {
        self.spans.get(index).map(|&span| self.name(span))
    }

    /// Whether the one at `index` was listed as that of a regular file.
    #[must_use]
    pub fn is_file(&self, index: usize) -> bool {
        self.spans.get(index).is_some_and(|span| span.is_file)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Name> + ExactSizeIterator {
        self.spans.iter().map(|&span| self.name(span))
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, name: &Name) -> bool {
        self.spans.binary_search_by(|&span| slice(&self.bytes, span).cmp(name.as_bytes())).is_ok()
    }

    /// One error for each name that the file system gave and that is none; they are not among the names.
    pub fn take_refused(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.refused)
    }

    /// The name in this stretch.
    fn name(&self, span: Span) -> Name {
        Name::new(slice(&self.bytes, span)).expect("only names are added")
    }
}

/// The stretch of `bytes` that a name has.
fn slice(bytes: &[u8], span: Span) -> &[u8] {
    let start = usize::try_from(span.offset).expect("memory has at least 32 bits");
    &bytes[start..start + usize::from(span.length)]
}

/// An open directory on the source disk.
#[derive(Debug)]
pub struct SourceDir {
    pub(super) handle: OwnedFd,
    pub(super) path: Arc<TreePath>,
    pub(super) stat: Stat,
    /// Held only to go on from, not open for reading: one may pass through directories that one can't read.
    pub(super) is_passage: bool,
}

impl SourceDir {
    /// Opens the directory that `path` leads to, following links on the way as any program does.
    ///
    /// # Errors
    /// [`Error::Io`] if there is none or it can't be read, [`Error::Changed`] if it is being replaced.
    pub fn load_root(path: &Path) -> Result<Self, Error> {
        let real = real_path(path, path)?;
        Source::load_real(&real)?.open_dir()
    }

    /// Opens `/` to go on from.
    pub(super) fn load_passage_root() -> Result<Self, Error> {
        let path = TreePath::root();
        let handle = open(rustix::fs::CWD, b"/", OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|source| io_error(&path, Doing::Open, source))?;
        let stat = examine(handle.as_fd(), b"").map_err(|source| io_error(&path, Doing::Examine, source))?;
        Ok(Self { handle, path: Arc::new(path), stat, is_passage: true })
    }

    /// Its absolute path, without the leading slash.
    #[must_use]
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// The same, to be held beside it: on a deep way down, paths are most of what is in memory.
    #[must_use]
    pub fn shared_path(&self) -> Arc<TreePath> {
        Arc::clone(&self.path)
    }

    /// What it was when it was opened.
    #[must_use]
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Lists its names, sorted.
    ///
    /// Takes about 8 bytes a name more than the names themselves, whatever else is in the directory.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be listed to its end. Also if `/proc` isn't mounted: it is listed by its
    /// handle, and that is where handles have names.
    pub fn names(&self) -> Result<Names, Error> {
        let mut names = Names::default();
        for found in WalkDir::new(handle_path(self.handle.as_fd())).min_depth(1).max_depth(1) {
            match found {
                Ok(found) => {
                    names.add(found.file_name().as_bytes(), found.file_type().is_file(), &self.path)?;
                }
                Err(error) => {
                    let source = error.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into());
                    return Err(io_error(&self.path, Doing::List, source));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Asks what `name` in it is, without following it.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be told: it may be gone.
    pub fn examine(&self, name: &Name) -> Result<Stat, Error> {
        examine(self.handle.as_fd(), name.as_bytes())
            .map_err(|source| io_error(&self.path.join(name), Doing::Examine, source))
    }

    /// Opens `name` and makes sure that it is what `is_expected` says.
    fn open(
        &self,
        name: &Name,
        flags: OFlags,
        is_expected: impl FnOnce(&Stat) -> bool,
    ) -> Result<(OwnedFd, Stat), Error> {
        let path = || self.path.join(name);
        let handle = match open(self.handle.as_fd(), name.as_bytes(), flags) {
            Ok(handle) => handle,
            // Now a link, no directory, or a pipe or socket that has no other end.
            Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {
                return Err(Error::Changed { path: absolute(&path()) });
            }
            Err(source) => return Err(io_error(&path(), Doing::Open, source)),
        };
        let stat =
            examine(handle.as_fd(), b"").map_err(|source| io_error(&path(), Doing::Examine, source))?;
        if is_expected(&stat) { Ok((handle, stat)) } else { Err(Error::Changed { path: absolute(&path()) }) }
    }

    /// Opens the directory `name`, which `examined` was about.
    ///
    /// # Errors
    /// [`Error::Changed`] if it is another one now or none, [`Error::Io`] if it can't be opened.
    pub fn open_dir(&self, name: &Name, examined: &Stat) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (handle, stat) = self.open(name, flags, |stat| stat.is_same_file(examined))?;
        Ok(Self { handle, path: Arc::new(self.path.join(name)), stat, is_passage: false })
    }

    /// Opens the directory `name` only to go on from.
    pub(super) fn open_passage(&self, name: &Name) -> Result<Self, Error> {
        let examined = self.examine(name)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let (handle, stat) = self.open(name, flags, |stat| stat.is_same_file(&examined))?;
        Ok(Self { handle, path: Arc::new(self.path.join(name)), stat, is_passage: true })
    }

    /// Opens the regular file `name`, which `examined` was about.
    ///
    /// # Errors
    /// [`Error::Changed`] if it is another one now or none, [`Error::Io`] if it can't be opened.
    pub fn open_file<'a>(&'a self, name: &'a Name, examined: &Stat) -> Result<SourceFile<'a>, Error> {
        if examined.kind != SourceKind::File {
            return Err(Error::Changed { path: absolute(&self.path.join(name)) });
        }
        let (handle, stat) = self.open(name, OFlags::RDONLY, |stat| stat.is_same_file(examined))?;
        Ok(SourceFile { handle, directory: self, name, stat })
    }

    /// Opens the regular file `name`, which was listed as one and not examined.
    ///
    /// # Errors
    /// [`Error::Changed`] if it is no regular file now, [`Error::Io`] if it can't be opened.
    pub fn open_listed_file<'a>(&'a self, name: &'a Name) -> Result<SourceFile<'a>, Error> {
        let (handle, stat) = self.open(name, OFlags::RDONLY, |stat| stat.kind == SourceKind::File)?;
        Ok(SourceFile { handle, directory: self, name, stat })
    }

    /// Takes hold of `name`, which `examined` was about, without opening it: a link, pipe, device or socket.
    ///
    /// # Errors
    /// [`Error::Changed`] if it is another one now, [`Error::Io`] if it can't be had.
    pub fn hold<'a>(&'a self, name: &'a Name, examined: &Stat) -> Result<SourceNode<'a>, Error> {
        let (handle, stat) = self.open(name, OFlags::PATH, |stat| stat.is_same_file(examined))?;
        Ok(SourceNode { handle, directory: self, name, stat })
    }

    /// Its extended attributes, sorted by name; none where the file system has no such thing.
    ///
    /// # Errors
    /// [`Error::Io`] if one can't be read, [`Error::TooMuch`] if they have more bytes than an entry takes.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, Error> {
        let handle = self.handle.as_fd();
        let by =
            if self.is_passage { Attributes::Path(handle_path(handle)) } else { Attributes::Handle(handle) };
        by.load(|| TreePath::clone(&self.path))
    }

    /// The first `bytes_max` bytes of the regular file `name`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Changed`] if it can't be read.
    pub fn read_start(&self, name: &Name, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
        let examined = match examine(self.handle.as_fd(), name.as_bytes()) {
            Ok(stat) if stat.kind == SourceKind::File => stat,
            Ok(_) | Err(Errno::NOENT) => return Ok(None),
            Err(source) => return Err(io_error(&self.path.join(name), Doing::Examine, source)),
        };
        let file = self.open_file(name, &examined)?;
        let expected = usize::try_from(examined.size).unwrap_or(usize::MAX).min(bytes_max);
        let mut bytes = vec![0; expected];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read(&mut bytes[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(Some(bytes))
    }

    /// All of the regular file `name`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::TooMuch`] if it has more than `bytes_max` bytes; [`Error::Io`] or [`Error::Changed`] if it
    /// can't be read.
    pub fn read_whole(&self, name: &Name, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
        let bytes = self.read_start(name, bytes_max.saturating_add(1))?;
        if bytes.as_ref().is_some_and(|bytes| bytes.len() > bytes_max) {
            return Err(Error::TooMuch { path: absolute(&self.path.join(name)), what: "bytes" });
        }
        Ok(bytes)
    }

    /// Whether it holds `marker`, a file that says to leave the rest of the directory out.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Changed`] if the marker's first bytes are asked for and can't be read.
    pub fn is_marked_by(&self, marker: &Marker, names: &Names) -> Result<bool, Error> {
        if !names.contains(&marker.name) {
            return Ok(false);
        }
        if marker.header.is_empty() {
            return Ok(true);
        }
        let start = self.read_start(&marker.name, marker.header.len())?;
        Ok(start.is_some_and(|start| *start == *marker.header))
    }
}

/// The bytes of all files below a path, as far as they can be seen: an estimate, before anything is opened.
#[must_use]
pub fn bytes_below(path: &Path) -> u64 {
    let entries = WalkDir::new(path).into_iter().filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

//! The way through a snapshot's tree.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::node;
use crate::tree::node::EntryReader;
use crate::tree::node::NodeKind;
use crate::tree::path::TreePath;
use crate::vault::error::Error as VaultError;
use crate::vault::read::SnapshotReader;

/// What stands at a path of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum At {
    /// The root, of which only its entries are kept.
    Root(TreeRef),
    /// Anything else.
    Entry(Entry),
}

impl At {
    /// Its entries, if it is a directory.
    #[must_use]
    pub fn tree(&self) -> Option<TreeRef> {
        match self {
            Self::Root(tree) => Some(*tree),
            Self::Entry(entry) => tree_of(entry),
        }
    }
}

pub(super) fn tree_of(entry: &Entry) -> Option<TreeRef> {
    match entry.kind {
        EntryKind::Directory { tree } => Some(tree),
        _ => None,
    }
}

/// Finds what stands at `path`, reading only the parts of directories that lead there.
///
/// # Errors
/// [`VaultError::NoSuchEntry`] if nothing does; [`Error::Vault`] or [`Error::Node`] for a directory on
/// the way that is damaged.
pub fn entry_at(reader: &SnapshotReader<'_>, path: &TreePath) -> Result<At, Error> {
    let mut at = At::Root(reader.body().root);
    for name in path.components() {
        let nothing = || VaultError::NoSuchEntry { path: path.to_string() };
        let tree = at.tree().ok_or_else(nothing)?;
        let found = node::find(&tree, &name, |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted))?;
        at = At::Entry(found.ok_or_else(nothing)?);
    }
    Ok(at)
}

/// Something of a snapshot that could not be read.
#[derive(Debug)]
pub struct Damaged {
    /// Which entry.
    pub path: TreePath,
    /// Whether it is a directory, so that entries below it are missing too.
    pub is_directory: bool,
    /// Why.
    pub error: Arc<Error>,
}

type Fetch<'r> = Box<dyn FnMut(NodeKind, &ChunkRef) -> Result<Vec<u8>, VaultError> + 'r>;
pub(super) type Entries<'r> = EntryReader<Fetch<'r>>;

pub(super) fn entries<'r>(reader: &'r SnapshotReader<'_>, tree: TreeRef) -> Entries<'r> {
    EntryReader::new(tree, Box::new(|kind, wanted| reader.node(kind, wanted)))
}

/// A directory that a [`Walk`] is in.
struct Frame<'r, T> {
    entry: Option<Entry>,
    entries: Entries<'r>,
    state: T,
}

/// What a [`Walk`] comes upon.
pub(crate) enum Step<T> {
    /// An entry of the directory that it is in. A directory is gone into only by [`Walk::enter`].
    Entry(Entry),
    /// The directory that it is in, or a part of it, can't be read; it goes on behind it.
    Damaged(Error),
    /// All of a directory was given.
    Leave {
        /// Where it is.
        path: TreePath,
        /// Its entry; that where the walk began may have none.
        entry: Option<Entry>,
        /// What was kept about it.
        state: T,
    },
}

/// Goes through a tree in the order of names, each directory's entries where its name stands.
///
/// No recursion: its depth is the tree's, in memory. Each directory on the way carries a `T`.
pub(crate) struct Walk<'r, 'v, T> {
    reader: &'r SnapshotReader<'v>,
    frames: Vec<Frame<'r, T>>,
    path: TreePath,
}

impl<'r, 'v, T> Walk<'r, 'v, T> {
    /// Begins in the directory `tree`, whose path shall be `path`.
    pub(crate) fn new(
        reader: &'r SnapshotReader<'v>,
        path: TreePath,
        tree: TreeRef,
        entry: Option<Entry>,
        state: T,
    ) -> Self {
        let frames = vec![Frame { entry, entries: entries(reader, tree), state }];
        Self { reader, frames, path }
    }

    /// The directory that it is in.
    pub(crate) fn path(&self) -> &TreePath {
        &self.path
    }

    /// What is kept about the directory that it is in.
    ///
    /// # Panics
    /// If the walk is over.
    pub(crate) fn state(&mut self) -> &mut T {
        &mut self.frames.last_mut().expect("the walk isn't over").state
    }

    /// Goes into the directory that [`Walk::step`] just gave.
    pub(crate) fn enter(&mut self, entry: Entry, state: T) {
        if let Some(tree) = tree_of(&entry) {
            self.path.push(&entry.name);
            let entries = entries(self.reader, tree);
            self.frames.push(Frame { entry: Some(entry), entries, state });
        }
    }

    /// The next step; nothing when the directory that it began in was left.
    pub(crate) fn step(&mut self) -> Option<Step<T>> {
        match self.frames.last_mut()?.entries.next() {
            Some(Ok(entry)) => Some(Step::Entry(entry)),
            Some(Err(error)) => Some(Step::Damaged(error.into())),
            None => {
                let frame = self.frames.pop()?;
                let path = self.path.clone();
                if !self.frames.is_empty() {
                    self.path.pop();
                }
                Some(Step::Leave { path, entry: frame.entry, state: frame.state })
            }
        }
    }
}

/// Shows the entries of the directory `from`, and of those below it if `recursive`; or `from` itself if
/// it is no directory. `each` may end it. Returns the directories that can't be read.
///
/// # Errors
/// As [`entry_at`].
pub fn walk(
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    recursive: bool,
    mut each: impl FnMut(&TreePath, &Entry) -> ControlFlow<()>,
) -> Result<Vec<Damaged>, Error> {
    walk_chosen(reader, from, |path, entry| match each(path, entry) {
        ControlFlow::Break(()) => ControlFlow::Break(()),
        ControlFlow::Continue(()) => ControlFlow::Continue(recursive),
    })
}

/// The same; `each` tells whether to go into a directory.
fn walk_chosen(
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    mut each: impl FnMut(&TreePath, &Entry) -> ControlFlow<(), bool>,
) -> Result<Vec<Damaged>, Error> {
    let mut damaged: Vec<Damaged> = Vec::new();
    let (tree, entry) = match entry_at(reader, from)? {
        At::Root(tree) => (tree, None),
        At::Entry(entry) => match tree_of(&entry) {
            Some(tree) => (tree, Some(entry)),
            None => {
                let _ = each(from, &entry);
                return Ok(damaged);
            }
        },
    };
    let mut walk = Walk::new(reader, from.clone(), tree, entry, ());
    while let Some(step) = walk.step() {
        match step {
            Step::Entry(entry) => match each(&walk.path().join(&entry.name), &entry) {
                ControlFlow::Break(()) => break,
                ControlFlow::Continue(true) => walk.enter(entry, ()),
                ControlFlow::Continue(false) => {}
            },
            Step::Damaged(error) => {
                let path = walk.path().clone();
                damaged.push(Damaged { path, is_directory: true, error: Arc::new(error) });
            }
            Step::Leave { .. } => {}
        }
    }
    Ok(damaged)
}

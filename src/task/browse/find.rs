//! Searching a snapshot.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::task::browse::walk::At;
use crate::task::browse::walk::Damaged;
use crate::task::browse::walk::Step;
use crate::task::browse::walk::Walk;
use crate::task::browse::walk::entry_at;
use crate::task::browse::walk::tree_of;
use crate::task::error::Error;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Time;
use crate::tree::filter::Choice;
use crate::tree::filter::Selection;
use crate::tree::path::TreePath;
use crate::vault::read::SnapshotReader;

/// The kinds of entries that a search tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Regular files.
    File,
    /// Directories.
    Directory,
    /// Symbolic links.
    Symlink,
    /// Named pipes and device nodes.
    Special,
}

impl Kind {
    /// That of an entry.
    #[must_use]
    pub fn of(kind: &EntryKind) -> Self {
        match kind {
            EntryKind::File { .. } => Self::File,
            EntryKind::Directory { .. } => Self::Directory,
            EntryKind::Symlink { .. } => Self::Symlink,
            EntryKind::Fifo | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => Self::Special,
        }
    }
}

/// What is searched for: an entry has to meet all that is given.
pub struct Search {
    /// Which paths; without patterns all.
    pub selection: Selection,
    /// Which kinds; none given, all.
    pub kinds: Vec<Kind>,
    /// Changed at this time or after.
    pub newest_before: Option<Time>,
    /// Changed at this time or before.
    pub oldest_after: Option<Time>,
    /// Files of this many bytes or more.
    pub bytes_min: Option<u64>,
    /// Files of this many bytes or fewer.
    pub bytes_max: Option<u64>,
}

impl Search {
    fn meets(&self, entry: &Entry) -> bool {
        let bytes = match entry.kind {
            EntryKind::File { size, .. } => Some(size),
            _ => None,
        };
        (self.kinds.is_empty() || self.kinds.contains(&Kind::of(&entry.kind)))
            && self.newest_before.is_none_or(|time| entry.modified >= time)
            && self.oldest_after.is_none_or(|time| entry.modified <= time)
            && self.bytes_min.is_none_or(|least| bytes.is_some_and(|bytes| bytes >= least))
            && self.bytes_max.is_none_or(|most| bytes.is_some_and(|bytes| bytes <= most))
    }
}

/// Shows every entry below the directory `from` that `search` is for. What lies below a directory whose
/// path matches is shown only if it is matched by its own name or the pattern asks for it: a search for
/// `*.jpg` shows files, one for `photos` the directory and what is in it.
///
/// # Errors
/// As [`entry_at`].
pub fn find(
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    search: &Search,
    mut each: impl FnMut(&TreePath, &Entry) -> ControlFlow<()>,
) -> Result<Vec<Damaged>, Error> {
    let (tree, entry) = match entry_at(reader, from)? {
        At::Root(tree) => (tree, None),
        At::Entry(entry) => match tree_of(&entry) {
            Some(tree) => (tree, Some(entry)),
            None => {
                let parent = search.selection.root();
                if search.selection.decides(from, false, parent) == Choice::Take && search.meets(&entry) {
                    let _ = each(from, &entry);
                }
                return Ok(Vec::new());
            }
        },
    };
    let mut damaged: Vec<Damaged> = Vec::new();
    // Patterns are tied to the snapshot's root, so what they make of the way to `from` counts.
    let mut choice = search.selection.root();
    let mut way = TreePath::root();
    for name in from.components() {
        way.push(&name);
        choice = search.selection.decides(&way, true, choice);
    }
    let mut walk = Walk::new(reader, from.clone(), tree, entry, choice);
    while let Some(step) = walk.step() {
        match step {
            Step::Entry(entry) => {
                let path = walk.path().join(&entry.name);
                let parent = *walk.state();
                let choice = search.selection.decides(&path, entry.kind.is_directory(), parent);
                if choice == Choice::Take && search.meets(&entry) && each(&path, &entry).is_break() {
                    break;
                }
                if choice != Choice::Skip {
                    walk.enter(entry, choice);
                }
            }
            Step::Damaged(error) => {
                let path = walk.path().clone();
                damaged.push(Damaged { path, is_directory: true, error: Arc::new(error) });
            }
            Step::Leave { .. } => {}
        }
    }
    Ok(damaged)
}

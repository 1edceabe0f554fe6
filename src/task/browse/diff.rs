//! How two snapshots differ.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::task::browse::content::content_digest;
use crate::task::browse::walk::Damaged;
use crate::task::browse::walk::Entries;
use crate::task::browse::walk::entries;
use crate::task::browse::walk::entry_at;
use crate::task::browse::walk::tree_of;
use crate::task::error::Error;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::path::TreePath;
use crate::vault::error::Error as VaultError;
use crate::vault::read::SnapshotReader;

/// How an entry differs between two snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'e> {
    /// Only the second has it.
    Added(&'e Entry),
    /// Only the first has it.
    Removed(&'e Entry),
    /// Both have it, and it isn't the same.
    Changed {
        /// As the first has it.
        before: &'e Entry,
        /// As the second has it.
        after: &'e Entry,
        /// Whether it is another kind of thing.
        kind: bool,
        /// Whether its bytes, its target or its device numbers are others.
        content: bool,
        /// Whether its mode, owner, time or attributes are others.
        metadata: bool,
    },
}

/// One entry's reader, with the next entry to be looked at; of a side that hasn't the directory, none.
struct Side<'r> {
    entries: Option<Peekable<Entries<'r>>>,
}

impl<'r> Side<'r> {
    fn new(reader: &'r SnapshotReader<'_>, tree: Option<TreeRef>) -> Self {
        Self { entries: tree.map(|tree| entries(reader, tree).peekable()) }
    }

    /// Takes errors off the front, then tells the next name.
    fn ready(&mut self, path: &TreePath, damaged: &mut Vec<Damaged>) -> Option<&Entry> {
        let entries = self.entries.as_mut()?;
        while let Some(Err(_)) = entries.peek() {
            if let Some(Err(error)) = entries.next() {
                let error = Arc::new(Error::from(error));
                damaged.push(Damaged { path: path.clone(), is_directory: true, error });
            }
        }
        entries.peek().and_then(|entry| entry.as_ref().ok())
    }

    fn take(&mut self) -> Option<Entry> {
        self.entries.as_mut()?.next()?.ok()
    }
}

/// Shows how the second snapshot differs from the first, below `from`, in the order of names.
///
/// Between snapshots of one device, directories and contents with the same ids are the same and are
/// passed over unread. Ids of two devices have nothing to do with each other: there, everything
/// is read, and two files of the same size and time count as the same unless `compare_bytes`, which
/// reads and compares them. Returns what can't be read; below it nothing is told.
///
/// # Errors
/// As [`entry_at`], for `from`; [`Error::Vault`] if files whose bytes are compared can't be read is
/// among what is returned.
pub fn diff(
    first: &SnapshotReader<'_>,
    second: &SnapshotReader<'_>,
    from: &TreePath,
    compare_bytes: bool,
    mut each: impl FnMut(&TreePath, Change<'_>) -> ControlFlow<()>,
) -> Result<Vec<Damaged>, Error> {
    let mut damaged = Vec::new();
    let one_device = first.history().device() == second.history().device();
    let (before, after) = (side_at(first, from)?, side_at(second, from)?);
    if before.is_none() && after.is_none() {
        return Err(Error::Vault(VaultError::NoSuchEntry { path: from.to_string() }));
    }
    if one_device && before == after {
        return Ok(damaged);
    }
    let mut path = from.clone();
    let mut frames = VecDeque::from([(Side::new(first, before), Side::new(second, after))]);
    while let Some((left, right)) = frames.back_mut() {
        let (a, b) = (left.ready(&path, &mut damaged), right.ready(&path, &mut damaged));
        let order = match (a, b) {
            (None, None) => {
                frames.pop_back();
                path.pop();
                continue;
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.name.cmp(&b.name),
        };
        let before = if order.is_le() { left.take() } else { None };
        let after = if order.is_ge() { right.take() } else { None };
        let Some(name) = before.as_ref().or(after.as_ref()).map(|entry| entry.name.clone()) else { continue };
        path.push(&name);
        let change = match (&before, &after) {
            (Some(before), None) => Some(Change::Removed(before)),
            (None, Some(after)) => Some(Change::Added(after)),
            (Some(before), Some(after)) => {
                let compared = compare((first, before), (second, after), one_device, compare_bytes);
                compared.unwrap_or_else(|error| {
                    let path = path.clone();
                    damaged.push(Damaged { path, is_directory: false, error: Arc::new(error) });
                    None
                })
            }
            (None, None) => None,
        };
        if change.is_some_and(|change| each(&path, change).is_break()) {
            break;
        }
        let trees = (before.as_ref().and_then(tree_of), after.as_ref().and_then(tree_of));
        if trees == (None, None) || (one_device && trees.0 == trees.1) {
            path.pop();
        } else {
            frames.push_back((Side::new(first, trees.0), Side::new(second, trees.1)));
        }
    }
    Ok(damaged)
}

fn side_at(reader: &SnapshotReader<'_>, path: &TreePath) -> Result<Option<TreeRef>, Error> {
    match entry_at(reader, path) {
        Ok(at) => Ok(at.tree()),
        Err(Error::Vault(VaultError::NoSuchEntry { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How two entries of one name differ, if they do.
fn compare<'e>(
    (first, before): (&SnapshotReader<'_>, &'e Entry),
    (second, after): (&SnapshotReader<'_>, &'e Entry),
    one_device: bool,
    compare_bytes: bool,
) -> Result<Option<Change<'e>>, Error> {
    let kind = std::mem::discriminant(&before.kind) != std::mem::discriminant(&after.kind);
    let content = match (&before.kind, &after.kind) {
        // What is in a directory is told of its entries.
        (EntryKind::Directory { .. }, EntryKind::Directory { .. }) => false,
        (EntryKind::File { size: a, .. }, EntryKind::File { size: b, .. }) if !one_device => {
            a != b
                || if compare_bytes {
                    content_digest(first, before)? != content_digest(second, after)?
                } else {
                    before.modified != after.modified
                }
        }
        (before, after) => before != after,
    };
    let metadata = before.mode != after.mode
        || before.owner != after.owner
        || before.modified != after.modified
        || before.xattrs != after.xattrs;
    let differs = kind || content || metadata;
    Ok(differs.then_some(Change::Changed { before, after, kind, content, metadata }))
}

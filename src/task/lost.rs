//! What a file that is sealed again would no longer hold.
//!
//! Sealing again puts a folder in the place of all that the file held. A folder of the same name that is new, or a
//! mount point with nothing mounted, would so take the place of months of data.

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::crypto::digest::Digester;
use crate::task::browse::Change;
use crate::task::browse::diff;
use crate::task::error::Error;
use crate::tree::entry::Content;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::path::TreePath;
use crate::vault::read::SnapshotReader;

/// How many files that go are told by their paths.
const NAMED_MAX: usize = 3;
/// How many paths are kept until it is known which of them only moved.
const PATHS_MAX: usize = 10_000;

/// What goes when a file is sealed again.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Lost {
    /// How many files it held.
    pub before: u64,
    /// How many of them are not in the folder any more, neither by their names nor, unchanged, by another one.
    pub files: u64,
    /// The first of those.
    pub named: Vec<TreePath>,
}

impl Lost {
    /// Whether it is so much that it may well be a mistake: more than half.
    #[must_use]
    pub fn is_most(&self) -> bool {
        self.files.saturating_mul(2) > self.before
    }
}

/// The first 16 bytes of a digest of a file's size and of what leads to its contents.
type Key = [u8; 16];

/// Compares a file's older snapshot with the newer one that takes its place: both of one device.
///
/// Of each file that goes or comes 16 bytes are kept in memory.
///
/// # Errors
/// As [`diff()`].
pub fn between(before: &SnapshotReader<'_>, after: &SnapshotReader<'_>) -> Result<Lost, Error> {
    let mut gone: Vec<Key> = Vec::new();
    let mut paths: Vec<TreePath> = Vec::new();
    let mut come: HashSet<Key> = HashSet::new();
    diff(before, after, &TreePath::root(), false, |path, change| {
        let (was, is) = match change {
            Change::Removed(was) => (Some(was), None),
            Change::Added(is) => (None, Some(is)),
            Change::Changed { before, after, kind: true, .. } => (Some(before), Some(after)),
            Change::Changed { before, after, .. } => {
                // Its older bytes may be what another file has now: that one was copied or moved over it.
                come.extend(key(after).filter(|_| key(before) != key(after)));
                return ControlFlow::Continue(());
            }
        };
        if let Some(key) = was.and_then(key) {
            gone.push(key);
            if paths.len() < PATHS_MAX {
                paths.push(path.clone());
            }
        }
        come.extend(is.and_then(key));
        ControlFlow::Continue(())
    })?;
    let is_lost = |key: &Key| !come.contains(key);
    let named = gone.iter().zip(paths).filter(|(key, _)| is_lost(key)).map(|(_, path)| path);
    let named = named.take(NAMED_MAX).collect();
    let files = gone.iter().filter(|key| is_lost(key)).count() as u64;
    Ok(Lost { before: before.body().counts.files, files, named })
}

/// What tells a file's contents from others within one device; nothing for anything but a file.
fn key(entry: &Entry) -> Option<Key> {
    let EntryKind::File { size, content, sparse } = &entry.kind else { return None };
    let mut digester = Digester::new();
    digester.update(&size.to_le_bytes());
    for run in sparse.iter().flat_map(|runs| runs.iter()) {
        digester.update(&run.offset.to_le_bytes()).update(&run.length.to_le_bytes());
    }
    match content {
        Content::Inline(bytes) => digester.update(&[0]).update(bytes),
        Content::Refs(refs) => {
            refs.iter().fold(digester.update(&[1]), |digester, one| digester.update(&one.id.0))
        }
        Content::List { depth, reference } => digester.update(&[2, *depth]).update(&reference.id.0),
    };
    let mut key = [0; 16];
    key.copy_from_slice(&digester.finish().0[..16]);
    Some(key)
}

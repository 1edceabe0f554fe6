//! What passes from planning to executing.

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;

use crate::tree::entry::ChunkRef;
use crate::tree::entry::Entry;
use crate::tree::path::TreePath;
use crate::tree::place::PlacedFile;
use crate::tree::place::PlacedId;

/// A file between being planned and being whole.
pub(super) struct Open<'t> {
    pub(super) directory: Arc<TreePath>,
    pub(super) entry: Entry,
    pub(super) state: RwLock<State<'t>>,
    /// Writes that are planned and not done, and one while more may be planned.
    pub(super) left: AtomicU64,
}

pub(super) enum State<'t> {
    Waiting,
    Writing(PlacedFile<'t>),
    /// Whole, kept, or given up.
    Settled,
}

impl<'t> Open<'t> {
    pub(super) fn new(directory: Arc<TreePath>, entry: Entry) -> Self {
        Self { directory, entry, state: RwLock::new(State::Waiting), left: AtomicU64::new(1) }
    }

    pub(super) fn path(&self) -> TreePath {
        self.directory.join(&self.entry.name)
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Settled)
    }

    pub(super) fn settle(&self) -> State<'t> {
        mem::replace(&mut *self.state.write().unwrap_or_else(PoisonError::into_inner), State::Settled)
    }
}

/// A part of a chunk that goes to one place.
pub(super) struct Write<'t> {
    pub(super) open: Arc<Open<'t>>,
    pub(super) chunk: ChunkRef,
    pub(super) offset: u64,
    pub(super) in_chunk: Range<u32>,
}

/// Files and parts of files that are restored together.
#[derive(Default)]
pub(super) struct Batch<'t> {
    pub(super) writes: Vec<Write<'t>>,
    /// Files whose bytes stand in their entries.
    pub(super) inline: Vec<Arc<Open<'t>>>,
    pub(super) inline_bytes: usize,
    pub(super) files_open: usize,
    pub(super) bytes: u64,
}

impl Batch<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.inline.is_empty()
    }
}

/// Files that are names of one inode.
pub(super) struct Group {
    /// The first that was met: it gets the content.
    pub(super) first: TreePath,
    /// What became of it, once it is whole.
    pub(super) placed: Option<PlacedId>,
}

/// Takes the batches that planning fills; false if nobody wants more.
pub(super) type Sink<'s, 't> = &'s mut dyn FnMut(Batch<'t>) -> bool;

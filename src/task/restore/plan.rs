//! Planning: how much there is, which directories it takes, and which chunks go where.

use std::collections::HashSet;
use std::collections::hash_map;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::observe::Event;
use crate::observe::Phase;
use crate::task::browse::Step;
use crate::task::browse::Walk;
use crate::task::browse::layout;
use crate::task::error::Error;
use crate::task::restore::Around;
use crate::task::restore::Restoration;
use crate::task::restore::Start;
use crate::task::restore::batch::Batch;
use crate::task::restore::batch::Group;
use crate::task::restore::batch::Open;
use crate::task::restore::batch::Sink;
use crate::task::restore::batch::Write;
use crate::task::restore::lock;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::filter::Choice;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::tree::path::TreePath;

/// How many bytes of content a batch is for. They aren't in memory at once: enough blocks for many
/// threads, and few chunks asked for twice because a block's chunks lie in two batches.
const BATCH_BYTES: u64 = 64 << 20;

/// How many files a batch is for, in a target where nothing can stand already: some 2 MB of lists.
const BATCH_FILES: usize = 4096;

/// The same where each file is begun, and so held open, before it is known what of it is needed.
const BATCH_FILES_EXISTING: usize = 128;

/// How many bytes of files that stand in their entries a batch has: these are in memory.
const BATCH_BYTES_INLINE: usize = 2 << 20;

/// How many files of a batch may need more than one chunk: each may be open until the batch is done.
const BATCH_FILES_OPEN: usize = 128;

impl<'t> Restoration<'_, '_, 't> {
    /// How much there is to do, in files and bytes; refused if there isn't room.
    ///
    /// What the body says is enough if it is all wanted and fits. Else the trees tell: without holes,
    /// each inode once, and less what the files replace.
    pub(super) fn check_room(&self, start: &Start) -> Result<(u64, u64), Error> {
        let counts = self.reader.body().counts;
        let is_all = self.options.subpath.is_root() && self.options.selection.is_everything();
        let free = if self.options.policy.dry_run { u64::MAX } else { self.target.free_bytes()? };
        if is_all && counts.bytes <= free {
            return Ok((counts.files, counts.bytes));
        }
        self.observer.event(&Event::Phase(Phase::Counting));
        let (mut files, mut bytes, mut needed) = (0_u64, 0_u64, 0_u64);
        let mut groups = HashSet::new();
        let mut count = |path: &TreePath, entry: &Entry| {
            if let EntryKind::File { size, .. } = entry.kind {
                files += 1;
                bytes = bytes.saturating_add(size);
                if entry.link_group.is_none_or(|group| groups.insert(group)) {
                    let there = self.bytes_there(path, entry);
                    needed = needed.saturating_add(entry.kind.content_bytes().saturating_sub(there));
                }
            }
        };
        match start {
            Start::Other(entry) => count(&TreePath::root(), entry),
            Start::Directory(..) => {
                let mut walk = self.walk(start);
                while let Some(step) = walk.as_mut().and_then(Walk::step) {
                    let (Step::Entry(entry), Some(walk)) = (step, walk.as_mut()) else { continue };
                    if self.stops() {
                        break;
                    }
                    let path = walk.path().join(&entry.name);
                    match self.decide(walk, &path, &entry) {
                        Choice::Skip => {}
                        choice if entry.kind.is_directory() => walk.enter(entry, Around::new(choice)),
                        _ => count(walk.path(), &entry),
                    }
                }
            }
        }
        self.check_stopped()?;
        if needed > free {
            return Err(Error::NoRoom { needed, free });
        }
        Ok((files, bytes))
    }

    /// How many bytes of a file's room are taken already, by what stands in its place.
    fn bytes_there(&self, directory: &TreePath, entry: &Entry) -> u64 {
        if self.is_fresh || self.options.policy.dry_run {
            return 0;
        }
        // Asking opens directories on the way, which have to be there anyway.
        let existing =
            self.target.directory(directory).and_then(|directory| directory.existing_for_reuse(entry));
        existing.ok().flatten().map_or(0, |existing| existing.size())
    }

    /// Makes directories and plans files. Returns the directories that could not be had.
    pub(super) fn plan(&self, start: &Start, sink: Sink<'_, 't>) -> HashSet<TreePath> {
        let mut unreachable = HashSet::new();
        let mut batch = Batch::default();
        if let Start::Other(entry) = start {
            self.plan_file(&Arc::new(TreePath::root()), entry, &mut batch, sink);
        }
        let mut walk = self.walk(start);
        let mut here = Arc::new(TreePath::root());
        while let (Some(walk), false) = (walk.as_mut(), self.stops()) {
            let Some(step) = walk.step() else { break };
            match step {
                Step::Damaged(error) => self.tell_damage(walk.path(), true, Arc::new(error)),
                Step::Leave { .. } => {}
                Step::Entry(entry) => {
                    let path = walk.path().join(&entry.name);
                    let choice = self.decide(walk, &path, &entry);
                    if choice == Choice::Skip || unreachable.contains(walk.path()) {
                        continue;
                    }
                    if choice == Choice::Take && !walk.state().wanted {
                        // The first entry that is taken here: the directory has to be there for it.
                        walk.state().wanted = true;
                        if let Err(error) = self.target.directory(walk.path()) {
                            self.tell_problem(walk.path(), error);
                            unreachable.insert(walk.path().clone());
                            continue;
                        }
                    }
                    if entry.kind.is_directory() {
                        // Here and not where files are written: two threads that make one directory
                        // couldn't tell each other from two names that are one to the file system.
                        if choice == Choice::Take
                            && let Err(error) = self.target.directory(&path)
                        {
                            self.tell_problem(&path, error);
                            unreachable.insert(path);
                        } else {
                            walk.enter(entry, Around::new(choice));
                        }
                    } else if matches!(entry.kind, EntryKind::File { .. }) {
                        if *here != *walk.path() {
                            here = Arc::new(walk.path().clone());
                        }
                        self.plan_file(&here, &entry, &mut batch, sink);
                    }
                }
            }
        }
        if !batch.is_empty() {
            sink(batch);
        }
        unreachable
    }

    /// Plans a file unless it is a further name of one that is planned.
    fn plan_file(&self, directory: &Arc<TreePath>, entry: &Entry, batch: &mut Batch<'t>, sink: Sink<'_, 't>) {
        if !matches!(entry.kind, EntryKind::File { .. }) {
            return;
        }
        if let Some(group) = entry.link_group {
            match lock(&self.groups).entry(group) {
                hash_map::Entry::Occupied(_) => return,
                hash_map::Entry::Vacant(slot) => {
                    slot.insert(Group { first: directory.join(&entry.name), placed: None });
                }
            }
        }
        self.plan_content(&Arc::new(Open::new(Arc::clone(directory), entry.clone())), batch, sink);
    }

    /// Plans the writes of a file, over as many batches as it takes.
    pub(super) fn plan_content(&self, open: &Arc<Open<'t>>, batch: &mut Batch<'t>, sink: Sink<'_, 't>) {
        let EntryKind::File { size, content, sparse } = &open.entry.kind else { return };
        let files_max = if self.is_fresh { BATCH_FILES } else { BATCH_FILES_EXISTING };
        match content {
            Content::Inline(bytes) => {
                batch.inline.push(Arc::clone(open));
                batch.inline_bytes += bytes.len();
                let is_full = batch.inline.len() >= files_max || batch.inline_bytes >= BATCH_BYTES_INLINE;
                self.send_if(is_full, batch, sink);
                return;
            }
            Content::Refs(refs) if refs.len() == 1 => {}
            _ => {
                batch.files_open += 1;
                if !self.is_fresh {
                    // It may be there already; then its lists needn't even be read.
                    self.begin(open);
                }
            }
        }
        let planned = self.plan_writes(open, *size, content, sparse.as_deref(), batch, sink);
        if let Err(error) = planned {
            self.give_up(open, &Arc::new(error));
        }
        // Before the batch goes, so that whoever writes last finds nothing else left to do.
        self.release(open, 1);
        let is_full = batch.bytes >= BATCH_BYTES
            || batch.writes.len() >= files_max
            || batch.files_open >= BATCH_FILES_OPEN;
        self.send_if(is_full, batch, sink);
    }

    fn plan_writes(
        &self,
        open: &Arc<Open<'t>>,
        size: u64,
        content: &Content,
        sparse: Option<&[DataRun]>,
        batch: &mut Batch<'t>,
        sink: Sink<'_, 't>,
    ) -> Result<(), Error> {
        let mut layout = layout(size, sparse)?;
        let fetch = |kind: NodeKind, wanted: &ChunkRef| self.reader.node(kind, wanted);
        for chunk in RefReader::new(content, open.entry.kind.content_bytes(), fetch) {
            let chunk = chunk?;
            if open.is_settled() || self.stops() {
                return Ok(());
            }
            let length = usize::try_from(chunk.length).unwrap_or(usize::MAX);
            layout.next(length, |piece| {
                let in_chunk = u32::try_from(piece.in_chunk.start).unwrap_or(u32::MAX)
                    ..u32::try_from(piece.in_chunk.end).unwrap_or(u32::MAX);
                open.left.fetch_add(1, Ordering::Relaxed);
                batch.writes.push(Write { open: Arc::clone(open), chunk, offset: piece.offset, in_chunk });
                Ok::<(), Error>(())
            })?;
            batch.bytes += u64::from(chunk.length);
            if self.send_if(batch.bytes >= BATCH_BYTES, batch, sink) {
                batch.files_open = 1;
            }
        }
        Ok(layout.finish()?)
    }

    /// Hands a full batch on; whether it was full.
    fn send_if(&self, is_full: bool, batch: &mut Batch<'t>, sink: Sink<'_, 't>) -> bool {
        if is_full && !sink(mem::take(batch)) {
            // Only a panic of whoever takes them leaves nobody: it comes up when the threads are joined.
            self.is_stopped.store(true, Ordering::Relaxed);
        }
        is_full
    }
}

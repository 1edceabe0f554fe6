//! Executing: blocks out of the vault, checked chunks into files.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use crate::crypto::digest;
use crate::observe::Event;
use crate::pack::packer::ChunkKind;
use crate::pack::unpacker::Place;
use crate::task::browse::layout;
use crate::task::error::Error;
use crate::task::restore::Restoration;
use crate::task::restore::batch::Batch;
use crate::task::restore::batch::Open;
use crate::task::restore::batch::State;
use crate::task::restore::batch::Write;
use crate::task::restore::lock;
use crate::task::restore::size_of;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::tree::place;
use crate::tree::place::Begin;
use crate::tree::place::ExistingFile;
use crate::tree::place::Overwrite;
use crate::tree::place::PlacedId;
use crate::vault::read::PackReader;

/// How many bytes of a pack are read at once, as stored: about one block that doesn't compress.
const RUN_BYTES: u64 = 1 << 20;

/// How many neighbouring blocks are read at once at most, so that there is work for all threads.
const RUN_BLOCKS: u32 = 4;

/// How many small files one thread takes at a time.
const INLINE_FILES_AT_ONCE: usize = 32;

/// A write, and where its chunk is.
struct Found<'t> {
    /// Which of the batch's packs.
    pack: usize,
    place: Place,
    write: Write<'t>,
}

/// A chunk, and its bytes if they are the right ones.
type Checked<'b> = (ChunkRef, Result<&'b [u8], Arc<Error>>);

impl<'t> Restoration<'_, '_, 't> {
    /// Restores a batch, on all threads.
    pub(super) fn execute(&self, batch: Batch<'t>) {
        if self.stops() {
            return;
        }
        let Batch { mut writes, inline, .. } = batch;
        if !self.is_fresh {
            // What is there already needn't be read from the vault.
            let mut opens: Vec<&Arc<Open<'t>>> = writes.iter().map(|write| &write.open).collect();
            opens.dedup_by(|a, b| Arc::ptr_eq(a, b));
            opens.into_par_iter().with_max_len(1).for_each(|open| self.begin(open));
        }
        let mut packs: Vec<Arc<PackReader>> = Vec::new();
        let mut numbers: HashMap<usize, usize> = HashMap::new();
        let mut found: Vec<Found<'t>> = Vec::with_capacity(writes.len());
        for write in writes.drain(..) {
            if write.open.is_settled() {
                self.release(&write.open, 1);
                continue;
            }
            match self.reader.find(&write.chunk.id) {
                Err(error) => {
                    self.give_up(&write.open, &Arc::new(error.into()));
                    self.release(&write.open, 1);
                }
                Ok((pack, place)) => {
                    // Every pack of the batch is held, so no other can come to have its address.
                    let number = *numbers.entry(Arc::as_ptr(&pack).addr()).or_insert(packs.len());
                    if number == packs.len() {
                        packs.push(pack);
                    }
                    found.push(Found { pack: number, place, write });
                }
            }
        }
        found.sort_by_key(|found| (found.pack, found.place.block, found.place.offset_in_block));

        rayon::join(
            || {
                runs(&packs, &found).into_par_iter().with_max_len(1).for_each(|run| {
                    self.execute_run(&packs[run[0].pack], run);
                });
            },
            || {
                inline.par_chunks(INLINE_FILES_AT_ONCE).for_each(|opens| {
                    for open in opens {
                        if self.stops() {
                            return;
                        }
                        self.execute_inline(open);
                    }
                });
            },
        );
    }

    /// Reads neighbouring blocks of a pack and writes what is wanted of each.
    fn execute_run(&self, pack: &PackReader, run: &[Found<'t>]) {
        if self.stops() {
            return;
        }
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
        let mut rest = run;
        pack.read_blocks(self.reader.vault(), first.place.block..last.place.block + 1, |number, block| {
            let (here, behind) = rest.split_at(rest.partition_point(|found| found.place.block <= number));
            rest = behind;
            match block {
                Ok(block) => self.write_block(pack, &block, here),
                Err(error) => {
                    let error = Arc::new(Error::from(error));
                    here.iter().for_each(|found| self.give_up(&found.write.open, &error));
                }
            }
            here.iter().for_each(|found| self.release(&found.write.open, 1));
        });
    }

    /// Checks the chunks of a block and writes each to wherever it is wanted.
    fn write_block(&self, pack: &PackReader, block: &[u8], wanted: &[Found<'t>]) {
        let mut checked: Option<Checked<'_>> = None;
        for Found { place, write, .. } in wanted {
            let known = checked.take().filter(|(chunk, _)| *chunk == write.chunk);
            let (_, chunk) = checked.insert(known.unwrap_or_else(|| {
                let bytes = place.of(block).ok_or_else(|| pack.damaged("a chunk reaches past its block"));
                let right = bytes.and_then(|bytes| {
                    self.reader.check(pack, ChunkKind::Data, &write.chunk, bytes).map(|()| bytes)
                });
                (write.chunk, right.map_err(|error| Arc::new(Error::from(error))))
            }));
            match chunk {
                Err(error) => self.give_up(&write.open, error),
                Ok(bytes) => {
                    let part = usize::try_from(write.in_chunk.start).unwrap_or(usize::MAX)
                        ..usize::try_from(write.in_chunk.end).unwrap_or(usize::MAX);
                    self.write(&write.open, write.offset, &bytes[part]);
                }
            }
        }
    }

    fn execute_inline(&self, open: &Open<'t>) {
        self.begin(open);
        if let EntryKind::File { size, content: Content::Inline(bytes), sparse } = &open.entry.kind {
            let laid_out = layout(*size, sparse.as_deref()).and_then(|mut layout| {
                layout.next(bytes.len(), |piece| {
                    self.write(open, piece.offset, &bytes[piece.in_chunk]);
                    Ok::<(), Error>(())
                })?;
                Ok(layout.finish()?)
            });
            if let Err(error) = laid_out {
                self.give_up(open, &Arc::new(error));
            }
        }
        self.release(open, 1);
    }

    /// Begins a file if nobody did, and finds out whether it needs to be written.
    pub(super) fn begin(&self, open: &Open<'t>) {
        let mut state = open.state.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Waiting) {
            return;
        }
        let path = open.path();
        self.observer.event(&Event::Entry(self.shown(&path).as_bytes()));
        *state = match self.begin_file(open) {
            Ok(Begin::Write(file)) => State::Writing(file),
            Ok(Begin::Keep) => {
                self.count_kept(&open.entry);
                self.progress(1, size_of(&open.entry));
                State::Settled
            }
            Ok(Begin::Planned) => {
                self.count_written(&open.entry);
                self.progress(1, size_of(&open.entry));
                State::Settled
            }
            Err(error) => {
                self.tell_problem(&path, error);
                State::Settled
            }
        };
    }

    fn begin_file(&self, open: &Open<'t>) -> Result<Begin<'t>, place::Error> {
        let directory = self.target.directory(&open.directory)?;
        if self.may_reuse()
            && let Some(existing) = directory.existing_for_reuse(&open.entry)?
            && existing.size() == size_of(&open.entry)
        {
            // One of the same time is what the policy means by unchanged: that is not compared.
            let is_unchanged = !self.target.is_resumed()
                && self.options.policy.overwrite == Overwrite::IfChanged
                && existing.modified() == open.entry.modified;
            if !is_unchanged && self.is_same(&existing, &open.entry) {
                let finished = existing.keep(&open.entry)?;
                self.remember(&open.entry, finished.id);
                return Ok(Begin::Keep);
            }
        }
        directory.begin_file(&open.entry)
    }

    /// Whether a file that stands there may be looked into, to be kept if it is the same.
    fn may_reuse(&self) -> bool {
        let policy = &self.options.policy;
        let replaces = matches!(policy.overwrite, Overwrite::Always | Overwrite::IfChanged);
        !self.is_fresh && !policy.dry_run && (self.target.is_resumed() || replaces)
    }

    /// Whether a file has the content of `entry`: every chunk of it gives the chunk's id.
    ///
    /// Whatever goes wrong with it only means that the file is written anew. Nor is a file with holes
    /// compared: what is in its holes has no id.
    fn is_same(&self, existing: &ExistingFile<'_>, entry: &Entry) -> bool {
        let EntryKind::File { content, sparse: None, .. } = &entry.kind else { return false };
        let mut buffer = Vec::new();
        if let Content::Inline(bytes) = content {
            buffer.resize(bytes.len(), 0);
            let read = existing.read_at(0, &mut buffer);
            return read.is_ok_and(|length| length == bytes.len()) && *buffer == **bytes;
        }
        let fetch = |kind: NodeKind, wanted: &ChunkRef| self.reader.node(kind, wanted);
        let mut offset = 0;
        for chunk in RefReader::new(content, entry.kind.content_bytes(), fetch) {
            let Ok(chunk) = chunk else { return false };
            buffer.resize(usize::try_from(chunk.length).unwrap_or(usize::MAX), 0);
            let is_there = existing.read_at(offset, &mut buffer).is_ok_and(|length| length == buffer.len());
            let id = self.reader.namer().name(ChunkKind::Data, &buffer);
            if !is_there || !digest::equal(&id.0, &chunk.id.0) || self.stops() {
                return false;
            }
            offset += u64::from(chunk.length);
        }
        true
    }

    fn write(&self, open: &Open<'t>, offset: u64, bytes: &[u8]) {
        if self.is_fresh {
            self.begin(open);
        }
        let state = open.state.read().unwrap_or_else(PoisonError::into_inner);
        let State::Writing(file) = &*state else { return };
        let written = file.write_at(offset, bytes);
        drop(state);
        match written {
            Ok(()) => self.progress(0, bytes.len() as u64),
            Err(error) => self.fail(open, error),
        }
    }

    /// Counts writes as done; with the last, the file is finished.
    pub(super) fn release(&self, open: &Open<'t>, count: u64) {
        if open.left.fetch_sub(count, Ordering::AcqRel) == count {
            self.finish(open);
        }
    }

    fn finish(&self, open: &Open<'t>) {
        if matches!(*open.state.read().unwrap_or_else(PoisonError::into_inner), State::Waiting) {
            // A file without bytes.
            self.begin(open);
        }
        // After a stop, writes are passed over and yet released; such a file isn't whole.
        let State::Writing(file) = open.settle() else { return };
        if self.is_stopped.load(Ordering::Acquire) {
            return;
        }
        match file.finish(&open.entry) {
            Ok(finished) => {
                self.remember(&open.entry, finished.id);
                self.count_written(&open.entry);
                self.progress(1, size_of(&open.entry) - open.entry.kind.content_bytes());
            }
            Err(error) => self.tell_problem(&open.path(), error),
        }
    }

    /// Remembers which inode a group of hard links has.
    fn remember(&self, entry: &Entry, id: Option<PlacedId>) {
        if let Some(group) = entry.link_group
            && let Some(group) = lock(&self.groups).get_mut(&group)
        {
            group.placed = group.placed.take().or(id);
        }
    }
}

/// Cuts what was found into runs of neighbouring blocks of one pack, to be read at once.
fn runs<'f, 't>(packs: &[Arc<PackReader>], found: &'f [Found<'t>]) -> Vec<&'f [Found<'t>]> {
    let mut runs = Vec::new();
    let mut first = 0;
    for number in 1..=found.len() {
        let goes_on = found.get(number).is_some_and(|next| {
            let (begin, last) = (&found[first], &found[number - 1]);
            let directory = packs[next.pack].directory();
            let is_near = next.pack == begin.pack
                && next.place.block <= last.place.block + 1
                && next.place.block - begin.place.block < RUN_BLOCKS;
            is_near
                && (next.place.block == begin.place.block
                    || directory.block(next.place.block).range.end
                        - directory.block(begin.place.block).range.start
                        <= RUN_BYTES)
        });
        if !goes_on {
            runs.push(&found[first..number]);
            first = number;
        }
    }
    runs
}

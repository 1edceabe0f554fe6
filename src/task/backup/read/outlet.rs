//! Chunks on their way out of the walk: what is new goes into blocks, what is known is relied on.

use std::sync::mpsc::Sender;

use crate::id::ChunkId;
use crate::pack::packer::ChunkKind;
use crate::task::backup::blocks::Blocks;
use crate::task::backup::carry::Wanted;
use crate::task::backup::known::Known;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::node::ListBuilder;
use crate::tree::node::NodeKind;
use crate::vault::namer::Namer;

/// How many chunks are taken out of packs at once, if as many are there: a block of which two lots want something
/// is unpacked twice.
const CHUNKS_CARRIED: usize = 1_024;

/// Chunks on their way: what is new goes into blocks, what is known is relied on.
pub(super) struct Outlet<'a> {
    pub(super) namer: &'a Namer,
    pub(super) known: &'a mut Known,
    pub(super) blocks: Blocks,
    /// Takes what is used out of packs that a sealed file doesn't keep, while the walk goes on.
    pub(super) carrier: Option<Sender<Wanted>>,
    pub(super) bytes_new: u64,
    /// Trees of the directories that lead to the sources, if it isn't known yet whether they are needed.
    pub(super) held_back: Vec<(ChunkKind, ChunkId, Vec<u8>)>,
    pub(super) holds_back: bool,
}

impl Outlet<'_> {
    pub(super) fn take(&mut self, kind: ChunkKind, id: ChunkId, bytes: &[u8]) -> Result<(), Error> {
        if self.known.uses(kind, &id) {
            return Ok(());
        }
        self.known.expect(kind, &id);
        self.bytes_new += bytes.len() as u64;
        self.blocks.add(kind, id, bytes)
    }

    pub(super) fn node(&mut self, kind: NodeKind, bytes: &[u8]) -> Result<ChunkRef, Error> {
        let kind = match kind {
            NodeKind::Tree => ChunkKind::Tree,
            NodeKind::List => ChunkKind::List,
        };
        let reference = reference(self.namer.name(kind, bytes), bytes.len());
        if self.holds_back {
            self.held_back.push((kind, reference.id, bytes.to_vec()));
        } else {
            self.take(kind, reference.id, bytes)?;
        }
        Ok(reference)
    }

    pub(super) fn content(&mut self, refs: &[ChunkRef]) -> Result<Content, Error> {
        let mut list = ListBuilder::new();
        for reference in refs {
            list.add(*reference, &mut |kind, bytes: Vec<u8>| self.node(kind, &bytes))?;
        }
        Ok(list.finish(&mut |kind, bytes: Vec<u8>| self.node(kind, &bytes))?)
    }

    /// A file no longer has these chunks.
    pub(super) fn drop_chunks(&mut self, refs: &[ChunkRef]) {
        if self.carrier.is_some() {
            refs.iter().for_each(|reference| self.known.spoil(&reference.id));
        }
    }

    /// Has taken out what is to be taken out so far.
    pub(super) fn carry(&mut self) -> Result<(), Error> {
        let Some(carrier) = &self.carrier else { return Ok(()) };
        let wanted = self.known.wanted(CHUNKS_CARRIED);
        // The other half has an error to tell if it has ended.
        wanted.map_or(Ok(()), |wanted| carrier.send(wanted).map_err(|_| Error::Interrupted))
    }

    /// Hands on what was held back.
    pub(super) fn release(&mut self) -> Result<(), Error> {
        for (kind, id, bytes) in std::mem::take(&mut self.held_back) {
            self.take(kind, id, &bytes)?;
        }
        Ok(())
    }

    /// Sends the last blocks on.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.blocks.finish()
    }
}

pub(super) fn reference(id: ChunkId, length: usize) -> ChunkRef {
    ChunkRef { id, length: u32::try_from(length).expect("chunks have at most 8 MiB") }
}

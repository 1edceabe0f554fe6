//! Chunks into blocks, and blocks to the half of a backup that stores them.

use std::sync::mpsc::SyncSender;

use crate::id::ChunkId;
use crate::pack::packer::Blocker;
use crate::pack::packer::ChunkKind;
use crate::pack::packer::RawBlock;
use crate::task::error::Error;

/// Gathers chunks into blocks, contents apart from trees and lists, and sends them on.
pub struct Blocks {
    to_packer: SyncSender<RawBlock>,
    data: Blocker,
    nodes: Blocker,
}

impl Blocks {
    /// Blocks on their way to whoever has the other end.
    #[must_use]
    pub fn new(to_packer: SyncSender<RawBlock>) -> Self {
        Self { to_packer, data: Blocker::new(), nodes: Blocker::new() }
    }

    /// Takes one more chunk.
    ///
    /// # Errors
    /// [`Error::Pack`] if it is empty or too long; [`Error::Interrupted`] if the other half has ended: it has an
    /// error to tell then, and this one doesn't matter.
    pub fn add(&mut self, kind: ChunkKind, id: ChunkId, bytes: &[u8]) -> Result<(), Error> {
        let blocker = if kind == ChunkKind::Data { &mut self.data } else { &mut self.nodes };
        let full = blocker.add(id, kind, bytes)?;
        full.map_or(Ok(()), |block| self.send(block))
    }

    /// Sends what is left; more can be added after it.
    ///
    /// # Errors
    /// As [`Blocks::add`].
    pub fn finish(&mut self) -> Result<(), Error> {
        let last = [self.data.finish(), self.nodes.finish()];
        last.into_iter().flatten().try_for_each(|block| self.send(block))
    }

    fn send(&self, block: RawBlock) -> Result<(), Error> {
        self.to_packer.send(block).map_err(|_| Error::Interrupted)
    }
}

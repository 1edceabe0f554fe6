//! A data pack, of which blocks are read.

use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::ObjectName;
use crate::pack::unpacker::BlockPlace;
use crate::pack::unpacker::Directory;
use crate::seal::pseal::Kind;
use crate::seal::pseal::SEGMENT_BYTES;
use crate::vault::Vault;
use crate::vault::error::Error;
use crate::vault::history::Located;
use crate::vault::read::segments::Segments;

/// A data pack of which blocks can be read.
pub struct PackReader {
    pub(super) listed: Digest,
    pub(super) segments: Segments,
    pub(super) directory: Directory,
}

impl PackReader {
    /// Which object it is, for messages.
    #[must_use]
    pub fn name(&self) -> &ObjectName {
        &self.segments.name
    }

    /// The name that its header lists it by.
    #[must_use]
    pub fn listed(&self) -> Digest {
        self.listed
    }

    /// What is in it.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Reads and unpacks one block. Its chunks are not believed yet: whoever takes one compares its
    /// id ([`SnapshotReader::check`](crate::vault::read::SnapshotReader::check)).
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Missing`] or [`Error::Store`].
    pub fn read_block(&self, vault: &Vault, block: u32) -> Result<Vec<u8>, Error> {
        let place = self.directory.block(block);
        let (plaintext, begins) = self.segments.read(vault, &place.range)?;
        self.unpack(&place, &plaintext, begins)
    }

    /// Reads one block as it is stored. Its chunks are not believed, as in [`PackReader::read_block`].
    ///
    /// # Errors
    /// Those of [`PackReader::read_block`].
    pub fn read_stored(&self, vault: &Vault, block: u32) -> Result<Vec<u8>, Error> {
        self.segments.read_exactly(vault, &self.directory.block(block).range)
    }

    /// Reads neighbouring blocks at once and hands them to `each` one by one, unpacked.
    ///
    /// Should that fail, each is read by itself, so that damage costs no more than the blocks that it
    /// hit. Nothing is believed yet, as in [`PackReader::read_block`], whose errors `each` is handed.
    pub fn read_blocks(
        &self,
        vault: &Vault,
        blocks: std::ops::Range<u32>,
        mut each: impl FnMut(u32, Result<Vec<u8>, Error>),
    ) {
        if blocks.len() < 2 {
            return blocks.for_each(|block| each(block, self.read_block(vault, block)));
        }
        let start = self.directory.block(blocks.start).range.start;
        let end = self.directory.block(blocks.end - 1).range.end;
        let together = self.segments.read(vault, &(start..end)).ok();
        for block in blocks {
            let unpacked = match &together {
                None => self.read_block(vault, block),
                Some((plaintext, begins)) => {
                    let place = self.directory.block(block);
                    let before = usize::try_from(place.range.start - start).unwrap_or(usize::MAX);
                    self.unpack(&place, plaintext, begins.saturating_add(before))
                }
            };
            each(block, unpacked);
        }
    }

    /// Unpacks the block whose bytes begin at `begins` of `plaintext`.
    fn unpack(&self, place: &BlockPlace, plaintext: &[u8], begins: usize) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(place.range.end - place.range.start).unwrap_or(usize::MAX);
        let packed = begins.checked_add(length).and_then(|end| plaintext.get(begins..end));
        let packed = packed.ok_or_else(|| self.segments.damaged(&"a block reaches past its end"))?;
        place.unpack(packed).map_err(|error| self.segments.damaged(&error))
    }

    /// That something else in this pack isn't as it should be.
    #[must_use]
    pub fn damaged(&self, what: &str) -> Error {
        self.segments.damaged(&what)
    }

    pub(super) fn load(vault: &Vault, device: DeviceId, located: &Located) -> Result<Self, Error> {
        let segments = Segments::load(vault, device, located, Kind::Data)?;
        let plaintext_bytes = segments.plaintext_bytes()?;
        let damaged = |error: &dyn std::fmt::Display| segments.damaged(error);
        // Most directories fit in the first segment, which has to be read anyhow.
        let first_bytes = plaintext_bytes.min(SEGMENT_BYTES as u64);
        let mut prefix = segments.read_exactly(vault, &(0..first_bytes))?;
        let head = prefix.first_chunk().ok_or_else(|| damaged(&"it is too short for a directory"))?;
        let needed = Directory::bytes_needed(head).map_err(|error| damaged(&error))?;
        if needed > prefix.len() {
            if needed as u64 > plaintext_bytes {
                return Err(damaged(&"its directory is longer than the pack"));
            }
            prefix.extend(segments.read_exactly(vault, &(first_bytes..needed as u64))?);
        }
        prefix.truncate(needed);
        let directory = Directory::parse(&prefix, plaintext_bytes).map_err(|error| damaged(&error))?;
        Ok(Self { listed: located.listed, segments, directory })
    }
}

//! How much a snapshot holds.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::id::ChunkId;
use crate::id::Digest;
use crate::task::browse::walk::Damaged;
use crate::task::browse::walk::walk;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::tree::path::TreePath;
use crate::vault::read::SnapshotReader;

/// How much a snapshot holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Regular files, each name of one that has several.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Of all files as their sizes say: what a restore without holes and hard links would take.
    pub bytes: u64,
    /// Different chunks of contents.
    pub chunks: u64,
    /// Bytes of different chunks.
    pub bytes_unique: u64,
    /// Bytes of the blocks, as they are stored, that hold these chunks. Such a block may hold chunks of
    /// other snapshots too. 0 unless asked for.
    pub bytes_stored: u64,
}

/// Counts what lies at and below `from`; with `stored` also how much it takes in the vault, for which
/// the directory of every pack is read. Needs some 60 bytes of memory a chunk.
///
/// # Errors
/// As [`entry_at`](crate::task::browse::entry_at). What is damaged is returned and not counted.
pub fn stats(
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    stored: bool,
) -> Result<(Stats, Vec<Damaged>), Error> {
    let mut stats = Stats::default();
    let mut chunks: HashSet<ChunkId> = HashSet::new();
    let mut blocks: HashSet<(Digest, u32)> = HashSet::new();
    let mut damaged_files = Vec::new();
    let mut count = |path: &TreePath, entry: &Entry| {
        match &entry.kind {
            EntryKind::Directory { .. } => stats.directories += 1,
            EntryKind::File { size, content, .. } => {
                stats.files += 1;
                stats.bytes = stats.bytes.saturating_add(*size);
                let fetch_list = |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
                for chunk in RefReader::new(content, entry.kind.content_bytes(), fetch_list) {
                    let counted = chunk.map_err(Error::from).and_then(|chunk| {
                        if !chunks.insert(chunk.id) {
                            return Ok(());
                        }
                        stats.chunks += 1;
                        stats.bytes_unique += u64::from(chunk.length);
                        if stored {
                            let (pack, place) = reader.find(&chunk.id)?;
                            if blocks.insert((pack.listed(), place.block)) {
                                let range = pack.directory().block(place.block).range;
                                stats.bytes_stored += range.end - range.start;
                            }
                        }
                        Ok(())
                    });
                    if let Err(error) = counted {
                        let error = Arc::new(error);
                        damaged_files.push(Damaged { path: path.clone(), is_directory: false, error });
                        break;
                    }
                }
            }
            _ => stats.others += 1,
        }
        ControlFlow::Continue(())
    };
    let mut damaged = walk(reader, from, true, &mut count)?;
    damaged.extend(damaged_files);
    Ok((stats, damaged))
}

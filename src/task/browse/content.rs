//! The bytes of a file in a snapshot.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use rayon::prelude::*;

use crate::chunk::join::Joiner;
use crate::crypto::digest::Digester;
use crate::id::Digest;
use crate::pack::packer::ChunkKind;
use crate::pack::unpacker::Place;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::vault::read::PackReader;
use crate::vault::read::SnapshotReader;

/// How many bytes of one file are read at once, by all threads; twice as many are in memory.
pub(crate) const WINDOW_BYTES: usize = 8 << 20;

/// How many windows wait to be written out: one, while the next is read.
pub(crate) const WINDOWS_WAITING: usize = 1;

/// Where the chunks of a file go, one after the other.
pub(crate) type Layout = Joiner<std::vec::IntoIter<(u64, u64)>>;

/// Where the chunks of a file of `size` bytes go, whose data is in `sparse` runs if there are any.
///
/// # Errors
/// [`Error::Join`] for runs that can't be.
pub(crate) fn layout(size: u64, sparse: Option<&[DataRun]>) -> Result<Layout, Error> {
    let runs = match sparse {
        Some(runs) => runs.iter().map(|run| (run.offset, run.length)).collect(),
        // A file without holes is one run; an empty one has none.
        None if size == 0 => Vec::new(),
        None => vec![(0, size)],
    };
    Ok(Joiner::sparse(size, runs.into_iter())?)
}

/// Reads chunks, each block once and all in parallel, in the order of `wanted`, checked.
///
/// # Errors
/// [`Error::Vault`] for what is damaged or missing.
pub(crate) fn fetch(reader: &SnapshotReader<'_>, wanted: &[ChunkRef]) -> Result<Vec<Vec<u8>>, Error> {
    struct Group {
        pack: Arc<PackReader>,
        block: u32,
        chunks: Vec<(usize, Place)>,
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<(usize, u32), usize> = HashMap::new();
    for (number, chunk) in wanted.iter().enumerate() {
        let (pack, place) = reader.find(&chunk.id)?;
        // The pack is held in its group, so no other can come to have its address.
        let key = (Arc::as_ptr(&pack).addr(), place.block);
        let group = *known.entry(key).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Group { pack, block: place.block, chunks: Vec::new() });
        }
        groups[group].chunks.push((number, place));
    }
    let read: Vec<Vec<(usize, Vec<u8>)>> = groups
        .into_par_iter()
        .with_max_len(1)
        .map(|Group { pack, block, chunks }| {
            let bytes = pack.read_block(reader.vault(), block)?;
            let take = |(number, place): (usize, Place)| {
                let chunk = place.of(&bytes).ok_or_else(|| pack.damaged("a chunk reaches past its block"))?;
                reader.check(&pack, ChunkKind::Data, &wanted[number], chunk)?;
                Ok((number, chunk.to_vec()))
            };
            chunks.into_iter().map(take).collect::<Result<Vec<_>, Error>>()
        })
        .collect::<Result<_, _>>()?;
    let mut in_order: Vec<(usize, Vec<u8>)> = read.into_iter().flatten().collect();
    in_order.sort_unstable_by_key(|(number, _)| *number);
    Ok(in_order.into_iter().map(|(_, bytes)| bytes).collect())
}

/// Reads the chunks of `content` in windows and hands them to `windows`, until nobody takes them.
fn read_ahead(
    reader: &SnapshotReader<'_>,
    content: &Content,
    bytes: u64,
    windows: &mpsc::SyncSender<Result<Vec<Vec<u8>>, Error>>,
) {
    let fetch_list = |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
    let mut refs = RefReader::new(content, bytes, fetch_list);
    let mut over = false;
    while !over {
        let (mut wanted, mut length) = (Vec::new(), 0);
        let gathered = loop {
            match refs.next() {
                None => {
                    over = true;
                    break Ok(());
                }
                Some(Err(error)) => break Err(Error::from(error)),
                Some(Ok(chunk)) => {
                    length += chunk.length as usize;
                    wanted.push(chunk);
                    if length >= WINDOW_BYTES {
                        break Ok(());
                    }
                }
            }
        };
        let window = gathered.and_then(|()| fetch(reader, &wanted));
        over |= window.is_err();
        if windows.send(window).is_err() {
            return;
        }
    }
}

/// Writes the bytes of a file to `out` as they come, holes as zeros.
///
/// Every byte was checked before it is written. If the file is damaged, what comes before the damage
/// has been written when the error is returned.
///
/// # Errors
/// [`Error::Refused`] if `entry` is no file; [`Error::Output`] if `out` fails; [`Error::Vault`],
/// [`Error::Node`] or [`Error::Join`] for what is damaged.
pub fn dump(reader: &SnapshotReader<'_>, entry: &Entry, out: &mut dyn Write) -> Result<(), Error> {
    let EntryKind::File { size, content, sparse } = &entry.kind else {
        return Err(Error::Refused { what: format!("{} is not a file", entry.name) });
    };
    let mut layout = layout(*size, sparse.as_deref())?;
    let mut written = 0;
    let mut put = |bytes: &[u8]| {
        layout.next(bytes.len(), |piece| {
            write_zeros(out, piece.offset - written)?;
            written = piece.offset + piece.in_chunk.len() as u64;
            out.write_all(&bytes[piece.in_chunk]).map_err(Error::Output)
        })
    };
    if let Content::Inline(bytes) = content {
        put(bytes)?;
    } else {
        thread::scope(|scope| {
            let (sender, windows) = mpsc::sync_channel(WINDOWS_WAITING);
            scope.spawn(move || read_ahead(reader, content, entry.kind.content_bytes(), &sender));
            for window in windows {
                for chunk in window? {
                    put(&chunk)?;
                }
            }
            Ok::<(), Error>(())
        })?;
    }
    layout.finish().map_err(Error::Join)?;
    write_zeros(out, size - written)
}

fn write_zeros(out: &mut dyn Write, mut count: u64) -> Result<(), Error> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while count > 0 {
        let part = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        out.write_all(&ZEROS[..part]).map_err(Error::Output)?;
        count -= part as u64;
    }
    Ok(())
}

/// Digests what is written to it.
struct Digesting(Digester);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The digest of a file's bytes, holes as zeros, for comparing it with one that isn't in the snapshot.
///
/// # Errors
/// As [`dump`].
pub fn content_digest(reader: &SnapshotReader<'_>, entry: &Entry) -> Result<Digest, Error> {
    let mut digester = Digesting(Digester::new());
    dump(reader, entry, &mut digester)?;
    Ok(digester.0.finish())
}

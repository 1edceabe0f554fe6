//! Lists of refs and of parts: their bytes, and where one ends and the next begins.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::id::ChunkId;
use crate::tree::entry::ChunkRef;
use crate::tree::node::CHUNK_BYTES_MAX;
use crate::tree::node::CallError;
use crate::tree::node::Error;
use crate::tree::node::HEADER_BYTES;
use crate::tree::node::LIST_BYTES_MAX;
use crate::tree::node::LIST_DEPTH_MAX;
use crate::tree::node::LIST_ROWS_MAX;
use crate::tree::node::NodeKind;
use crate::tree::node::Put;
use crate::tree::node::VERSION;
use crate::tree::node::check_ref;
use crate::tree::node::node_kind;
use crate::tree::node::read_name;
use crate::tree::node::read_ref;
use crate::tree::node::require;
use crate::tree::node::start;
use crate::tree::node::write_ref;
use crate::tree::node::write_tiny;
use crate::tree::path::Name;

/// A list is not ended by its ids before it has this many rows, so that a file of equal chunks
/// doesn't become as many lists as it has chunks.
const LIST_ROWS_MIN: usize = 512;

/// The encoded length of a [`ChunkRef`].
const REF_BYTES: usize = ChunkId::BYTES + 4;

/// A part of a directory, or a list of parts: its first name, and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The first name in it.
    pub first: Name,
    /// The tree, or the list.
    pub reference: ChunkRef,
}

/// A row of a list.
pub(super) trait Row: Sized {
    /// What a list's second byte says of such rows.
    const ROWS_ARE: u8;
    /// The shortest such row.
    const BYTES_MIN: usize;
    /// The longest such row.
    const BYTES_MAX: usize;

    /// What it refers to.
    fn reference(&self) -> &ChunkRef;
    /// The row for the list at `reference` in the list above, if `self` is that list's first row.
    fn above(&self, reference: ChunkRef) -> Self;
    /// Writes it.
    fn write(&self, writer: &mut Writer);
    /// Reads one.
    fn read(reader: &mut Reader<'_>) -> Result<Self, codec::Error>;
    /// Whether it can stand after `last`.
    fn follows(&self, last: &Self) -> bool;
    /// The longest chunk that a row of a list of this depth can refer to.
    fn bytes_max(depth: u8) -> usize;
}

impl Row for ChunkRef {
    const ROWS_ARE: u8 = 1;
    const BYTES_MIN: usize = REF_BYTES;
    const BYTES_MAX: usize = REF_BYTES;

    fn reference(&self) -> &ChunkRef {
        self
    }

    fn above(&self, reference: ChunkRef) -> Self {
        reference
    }

    fn write(&self, writer: &mut Writer) {
        write_ref(writer, self);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, codec::Error> {
        read_ref(reader)
    }

    fn follows(&self, _last: &Self) -> bool {
        true
    }

    fn bytes_max(depth: u8) -> usize {
        if depth == 1 { CHUNK_BYTES_MAX } else { LIST_BYTES_MAX }
    }
}

impl Row for Part {
    const ROWS_ARE: u8 = 2;
    const BYTES_MIN: usize = 2 + REF_BYTES;
    const BYTES_MAX: usize = 1 + Name::BYTES_MAX + REF_BYTES;

    fn reference(&self) -> &ChunkRef {
        &self.reference
    }

    fn above(&self, reference: ChunkRef) -> Self {
        Self { first: self.first.clone(), reference }
    }

    fn write(&self, writer: &mut Writer) {
        write_tiny(writer, self.first.as_bytes());
        write_ref(writer, &self.reference);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, codec::Error> {
        Ok(Self { first: read_name(reader)?, reference: read_ref(reader)? })
    }

    fn follows(&self, last: &Self) -> bool {
        self.first > last.first
    }

    fn bytes_max(depth: u8) -> usize {
        node_kind(depth - 1).bytes_max()
    }
}

/// Lays out a list of rows.
fn encode_list<R: Row>(depth: u8, rows: &[R]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(HEADER_BYTES + rows.len() * R::BYTES_MIN);
    writer.u8(VERSION).u8(R::ROWS_ARE).u8(depth).u8(0).count(rows.len());
    rows.iter().for_each(|row| row.write(&mut writer));
    writer.finish()
}

/// Reads a list of rows.
pub(super) fn decode_list<R: Row>(depth: u8, bytes: &[u8]) -> Result<Vec<R>, Error> {
    const KIND: NodeKind = NodeKind::List;
    let layout = |why| Error::Layout(KIND, why);
    let mut reader = start(KIND, bytes)?;
    reader.exactly(&[R::ROWS_ARE], "kind of rows").map_err(layout)?;
    if !(1..=LIST_DEPTH_MAX).contains(&depth) || reader.u8().map_err(layout)? != depth {
        return Err(Error::Reference(KIND));
    }
    reader.zeros(1).map_err(layout)?;
    let count = reader.count(R::BYTES_MIN).map_err(layout)?;
    require((1..=LIST_ROWS_MAX).contains(&count), "number of rows").map_err(layout)?;
    let mut rows: Vec<R> = Vec::with_capacity(count);
    for _ in 0..count {
        let row = R::read(&mut reader).map_err(layout)?;
        check_ref(row.reference(), R::bytes_max(depth)).map_err(layout)?;
        if rows.last().is_some_and(|last| !row.follows(last)) {
            return Err(Error::Order(KIND));
        }
        rows.push(row);
    }
    reader.finish().map_err(layout)?;
    Ok(rows)
}

/// Lays out the refs of a file, or of lists of them, as a list of `depth` 1 to 4.
///
/// # Errors
/// [`Error::TooLarge`] if there are none, more than [`LIST_ROWS_MAX`], or the depth isn't one.
pub fn encode_refs(depth: u8, refs: &[ChunkRef]) -> Result<Vec<u8>, Error> {
    encode_rows(depth, refs)
}

/// Reads what [`encode_refs`] wrote with the same `depth`.
///
/// # Errors
/// [`Error::Layout`] if a byte isn't as it was written, [`Error::Newer`] for another version,
/// [`Error::Reference`] for another depth, [`Error::Length`] if it is longer than a list.
pub fn decode_refs(depth: u8, bytes: &[u8]) -> Result<Vec<ChunkRef>, Error> {
    decode_list(depth, bytes)
}

/// Lays out the parts of a directory, or lists of them, as a list of `depth` 1 to 4.
///
/// # Errors
/// [`Error::TooLarge`] if there are none, too many for a list, or the depth isn't one.
pub fn encode_parts(depth: u8, parts: &[Part]) -> Result<Vec<u8>, Error> {
    encode_rows(depth, parts)
}

/// Reads what [`encode_parts`] wrote with the same `depth`.
///
/// # Errors
/// Those of [`decode_refs`], and [`Error::Order`] if first names aren't sorted strictly.
pub fn decode_parts(depth: u8, bytes: &[u8]) -> Result<Vec<Part>, Error> {
    decode_list(depth, bytes)
}

/// Lays out rows that come from outside.
fn encode_rows<R: Row>(depth: u8, rows: &[R]) -> Result<Vec<u8>, Error> {
    let fits = (1..=LIST_ROWS_MAX).contains(&rows.len()) && (1..=LIST_DEPTH_MAX).contains(&depth);
    let bytes = if fits { encode_list(depth, rows) } else { Vec::new() };
    if fits && bytes.len() <= LIST_BYTES_MAX { Ok(bytes) } else { Err(Error::TooLarge(NodeKind::List)) }
}

/// Whether a list may end after a row that refers to this: on average after 2,048.
fn ends_list(reference: &ChunkRef) -> bool {
    let [first, second, ..] = *reference.id.as_bytes();
    u16::from_le_bytes([first, second]) & 0x7ff == 0
}

/// Lists that are being filled, one a depth; the first has depth 1.
pub(super) struct Lists<R> {
    filling: Vec<Filling<R>>,
}

/// One list that is being filled.
struct Filling<R> {
    rows: Vec<R>,
    bytes: usize,
}

impl<R: Row> Lists<R> {
    pub(super) fn new() -> Self {
        Self { filling: Vec::new() }
    }

    /// Adds a row to the lowest list, and ends the lists that it ends.
    pub(super) fn add<E>(&mut self, row: R, put: &mut impl Put<E>) -> Result<(), CallError<E>> {
        let mut row = row;
        for depth in 1..=LIST_DEPTH_MAX {
            let index = usize::from(depth - 1);
            if self.filling.len() == index {
                self.filling.push(Filling { rows: Vec::new(), bytes: HEADER_BYTES });
            }
            let list = &mut self.filling[index];
            let may_end = ends_list(row.reference());
            let mut measure = Writer::new();
            row.write(&mut measure);
            list.bytes += measure.len();
            list.rows.push(row);
            let is_full = list.rows.len() == LIST_ROWS_MAX || list.bytes + R::BYTES_MAX > LIST_BYTES_MAX;
            let is_long_enough = list.rows.len() >= LIST_ROWS_MIN;
            if !(is_full || may_end && is_long_enough) {
                return Ok(());
            }
            let rows = std::mem::take(&mut list.rows);
            list.bytes = HEADER_BYTES;
            let reference = put(NodeKind::List, encode_list(depth, &rows)).map_err(CallError::Call)?;
            row = rows[0].above(reference);
        }
        // At least 512 rows in each of four lists: 2^36 refs or parts lie below.
        Err(Error::TooLarge(NodeKind::List).into())
    }

    /// Ends all lists; gives the topmost one and its depth. At least two rows were added.
    pub(super) fn finish<E>(self, put: &mut impl Put<E>) -> Result<(u8, ChunkRef), CallError<E>> {
        let mut carried: Option<R> = None;
        let depths = self.filling.len();
        for (depth, list) in (1_u8..).zip(self.filling) {
            let mut rows = list.rows;
            rows.extend(carried.take());
            let is_topmost = usize::from(depth) == depths;
            if let ([only], true, true) = (rows.as_slice(), is_topmost, depth > 1) {
                // The list below is the only one of its depth, so it is the topmost itself.
                return Ok((depth - 1, *only.reference()));
            }
            if let Some(first) = rows.first() {
                let reference = put(NodeKind::List, encode_list(depth, &rows)).map_err(CallError::Call)?;
                if is_topmost {
                    return Ok((depth, reference));
                }
                carried = Some(first.above(reference));
            }
        }
        unreachable!("the topmost list was given a row when it was begun and is ended only into one above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::node::decode_entries;
    use crate::tree::node::testing::chunk;

    #[test]
    fn a_list_passes_for_no_other_kind_of_list() {
        let refs = encode_refs(1, &[chunk(1), chunk(2)]).unwrap();
        assert_eq!(decode_refs(1, &refs), Ok(vec![chunk(1), chunk(2)]));
        assert_eq!(decode_refs(2, &refs), Err(Error::Reference(NodeKind::List)));
        let kind = Error::Layout(NodeKind::List, codec::Error::NotCanonical("kind of rows"));
        assert_eq!(decode_parts(1, &refs), Err(kind));
        let mut newer = refs.clone();
        newer[0] = 2;
        assert_eq!(decode_refs(1, &newer), Err(Error::Newer(NodeKind::List, 2)));
        assert_eq!(decode_entries(&newer), Err(Error::Newer(NodeKind::Tree, 2)));
        for wrong in [&refs[..refs.len() - 1], &[&refs[..], &[0]].concat(), &refs[..7], &[]] {
            assert!(matches!(decode_refs(1, wrong), Err(Error::Layout(NodeKind::List, _))), "{wrong:?}");
        }
        let too_many = vec![chunk(1); LIST_ROWS_MAX + 1];
        assert_eq!(encode_refs(1, &too_many), Err(Error::TooLarge(NodeKind::List)));
        assert!(encode_refs(1, &too_many[1..]).is_ok());
        for depth in [0, 5] {
            assert_eq!(encode_refs(depth, &[chunk(1)]), Err(Error::TooLarge(NodeKind::List)));
        }
        let long = Name::new(&[b'n'; 255]).unwrap();
        let wide = vec![Part { first: long, reference: chunk(1) }; LIST_ROWS_MAX];
        assert_eq!(encode_parts(1, &wide), Err(Error::TooLarge(NodeKind::List)));
    }
}

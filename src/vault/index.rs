//! Index objects: which pack holds a chunk.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::id::ChunkId;
use crate::id::Digest;

/// How many bytes of a chunk's id an index says.
pub const PREFIX_BYTES: usize = 16;
/// The bytes of an entry: the id's beginning and the number of its pack.
pub const ENTRY_BYTES: usize = PREFIX_BYTES + 4;
/// The bytes before the names of the packs.
pub const HEAD_BYTES: usize = 8;
/// The most entries of one index object; a larger index is several, cut by id. Keeps what a writer
/// and a reader hold of one object to some 20 MB.
pub const ENTRIES_MAX: usize = 1 << 20;
/// The most packs that one index object names.
pub const PACKS_MAX: usize = 1 << 20;

/// The beginning of a chunk's id.
pub type Prefix = [u8; PREFIX_BYTES];

/// The part of an id that indexes are sorted by.
#[must_use]
pub fn prefix(id: &ChunkId) -> Prefix {
    let mut prefix = [0; PREFIX_BYTES];
    prefix.copy_from_slice(&id.0[..PREFIX_BYTES]);
    prefix
}

/// Encodes one index object, without padding; `entries` ascend by prefix and name packs by their place.
///
/// # Panics
/// If a pack's number is beyond `packs`, or entries don't ascend: the writer sorts them.
#[must_use]
pub fn encode(packs: &[Digest], entries: &[(Prefix, u32)]) -> Vec<u8> {
    assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0), "index entries are sorted by their writer");
    let mut out = Writer::with_capacity(HEAD_BYTES + packs.len() * 32 + entries.len() * ENTRY_BYTES);
    out.count(packs.len()).count(entries.len());
    for pack in packs {
        out.bytes(&pack.0);
    }
    for (prefix, pack) in entries {
        assert!((*pack as usize) < packs.len(), "an entry names a pack of its own index");
        out.bytes(prefix).u32(*pack);
    }
    out.finish()
}

/// Where things stand in an index object, from its first 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// How many packs it names.
    pub packs: usize,
    /// How many chunks.
    pub entries: usize,
}

impl Layout {
    /// Reads the counts and holds them against the length of the plaintext, padding included.
    ///
    /// # Errors
    /// If the layout is broken.
    pub fn decode(head: &[u8], plaintext_bytes: u64) -> Result<Self, codec::Error> {
        let mut from = Reader::new(head);
        let (packs, entries) = (from.u32()? as usize, from.u32()? as usize);
        let layout = Self { packs, entries };
        let bounded = packs <= PACKS_MAX && entries <= ENTRIES_MAX && packs <= entries;
        if !bounded || layout.end() as u64 > plaintext_bytes {
            return Err(codec::Error::NotCanonical("counts"));
        }
        Ok(layout)
    }

    /// Where the first entry stands.
    #[must_use]
    pub fn entries_at(&self) -> usize {
        HEAD_BYTES + self.packs * 32
    }

    /// Where the padding begins.
    #[must_use]
    pub fn end(&self) -> usize {
        self.entries_at() + self.entries * ENTRY_BYTES
    }
}

/// A whole index object, checked.
pub struct Index {
    bytes: Vec<u8>,
    layout: Layout,
}

impl Index {
    /// Takes the plaintext of an index object.
    ///
    /// # Errors
    /// If counts, order, pack numbers or padding are not as its writer makes them.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, codec::Error> {
        let layout = Layout::decode(&bytes, bytes.len() as u64)?;
        let index = Self { bytes, layout };
        let mut before: Option<&[u8]> = None;
        for at in 0..layout.entries {
            let (prefix, pack) = index.entry(at);
            if before.is_some_and(|before| before >= prefix) || pack as usize >= layout.packs {
                return Err(codec::Error::NotCanonical("entries"));
            }
            before = Some(prefix);
        }
        let mut padding = Reader::new(&index.bytes[layout.end()..]);
        let length = padding.remaining();
        padding.zeros(length)?;
        Ok(index)
    }

    /// How many chunks it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layout.entries
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layout.entries == 0
    }

    /// The listed name of the pack that holds a chunk whose id begins so.
    #[must_use]
    pub fn find(&self, wanted: &Prefix) -> Option<Digest> {
        let (mut low, mut high) = (0, self.layout.entries);
        while low < high {
            let middle = low.midpoint(high);
            let (prefix, pack) = self.entry(middle);
            match prefix.cmp(wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.pack(pack as usize)),
            }
        }
        None
    }

    /// The listed names of all packs in it.
    pub fn packs(&self) -> impl Iterator<Item = Digest> {
        (0..self.layout.packs).map(|at| self.pack(at))
    }

    /// Every chunk's id, as far as it is said, with the listed name of its pack.
    pub fn entries(&self) -> impl Iterator<Item = (Prefix, Digest)> {
        (0..self.layout.entries).map(|at| {
            let (from, pack) = self.entry(at);
            let mut prefix = [0; PREFIX_BYTES];
            prefix.copy_from_slice(from);
            (prefix, self.pack(pack as usize))
        })
    }

    fn entry(&self, at: usize) -> (&[u8], u32) {
        entry_in(&self.bytes[self.layout.entries_at() + at * ENTRY_BYTES..])
    }

    fn pack(&self, at: usize) -> Digest {
        let mut name = [0; 32];
        name.copy_from_slice(&self.bytes[HEAD_BYTES + at * 32..][..32]);
        Digest(name)
    }
}

/// The entry at the front of `bytes`, which hold at least one.
#[must_use]
pub fn entry_in(bytes: &[u8]) -> (&[u8], u32) {
    let (prefix, rest) = bytes.split_at(PREFIX_BYTES);
    let pack = rest.first_chunk().map_or(u32::MAX, |pack| u32::from_le_bytes(*pack));
    (prefix, pack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let entries: Vec<(Prefix, u32)> = (0_u8..100).map(|at| ([at * 2; 16], u32::from(at % 3))).collect();
        encode(&[Digest([1; 32]), Digest([2; 32]), Digest([3; 32])], &entries)
    }

    #[test]
    fn every_chunk_is_found_in_its_pack_and_no_other_is() {
        let mut bytes = sample();
        bytes.resize(4096, 0);
        let index = Index::decode(bytes).unwrap();
        for at in 0_u8..100 {
            assert_eq!(index.find(&[at * 2; 16]), Some(Digest([at % 3 + 1; 32])));
            assert_eq!(index.find(&[at * 2 + 1; 16]), None);
        }
        assert_eq!(index.packs().count(), 3);
    }

    #[test]
    fn an_index_that_its_writer_would_not_make_is_refused() {
        let good = sample();
        let mut unsorted = good.clone();
        unsorted.swap(104, 124);
        let mut beyond = good.clone();
        beyond[104 + 16] = 3;
        let mut padded = good.clone();
        padded.extend_from_slice(&[0, 1]);
        let mut counted = good.clone();
        counted[4] = 101;
        for (case, bytes) in [("order", unsorted), ("pack", beyond), ("padding", padded), ("count", counted)]
        {
            assert!(Index::decode(bytes).is_err(), "{case}");
        }
        assert!(Index::decode(good[..good.len() - 1].to_vec()).is_err());
        assert!(Index::decode(Vec::new()).is_err());
    }
}

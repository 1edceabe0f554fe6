//! Makes trees and lists out of entries and chunks as they come.

use crate::codec::Writer;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::Entry;
use crate::tree::entry::TreeRef;
use crate::tree::node::CHUNK_BYTES_MAX;
use crate::tree::node::CallError;
use crate::tree::node::Error;
use crate::tree::node::HEADER_BYTES;
use crate::tree::node::NodeKind;
use crate::tree::node::Put;
use crate::tree::node::TREE_BYTES_MAX;
use crate::tree::node::check_ref;
use crate::tree::node::entries::check;
use crate::tree::node::entries::frame_tree;
use crate::tree::node::entries::write_entry;
use crate::tree::node::list::Lists;
use crate::tree::node::list::Part;
use crate::tree::path::Name;

/// A part of a directory is not ended by its names before it has this many bytes, 64 KiB.
const PART_BYTES_MIN: usize = 64 << 10;

/// After that it ends, on average, within this many bytes more: parts of 256 KiB.
const PART_BYTES_MORE: u64 = 192 << 10;

/// Takes the chunks of a file in order, and puts them into lists where there are many.
///
/// Holds at most [`LIST_ROWS_MAX`](crate::tree::node::LIST_ROWS_MAX) refs a depth. A list ends after
/// a ref whose id has eleven low bits of zero, once it has 512 rows, and at the latest when it is full.
pub struct ListBuilder {
    refs: Vec<ChunkRef>,
    lists: Option<Lists<ChunkRef>>,
    content_bytes: u64,
}

impl Default for ListBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ListBuilder {
    /// A file without chunks.
    #[must_use]
    pub fn new() -> Self {
        Self { refs: Vec::new(), lists: None, content_bytes: 0 }
    }

    /// How many bytes the chunks so far have.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Adds the next chunk.
    ///
    /// # Errors
    /// [`CallError::Call`] if `put` fails, [`CallError::Node`] if no file can have such a chunk or so many.
    pub fn add<E>(&mut self, reference: ChunkRef, put: &mut impl Put<E>) -> Result<(), CallError<E>> {
        check_ref(&reference, CHUNK_BYTES_MAX).map_err(|why| Error::Layout(NodeKind::List, why))?;
        self.content_bytes += u64::from(reference.length);
        if let Some(lists) = &mut self.lists {
            return lists.add(reference, put);
        }
        if self.refs.len() < Content::REFS_MAX {
            self.refs.push(reference);
            return Ok(());
        }
        let lists = self.lists.insert(Lists::new());
        for earlier in self.refs.drain(..) {
            lists.add(earlier, put)?;
        }
        lists.add(reference, put)
    }

    /// Ends the file: nothing inline if there were no chunks, else refs or a list.
    ///
    /// # Errors
    /// [`CallError::Call`] if `put` fails.
    pub fn finish<E>(self, put: &mut impl Put<E>) -> Result<Content, CallError<E>> {
        match self.lists {
            Some(lists) => {
                let (depth, reference) = lists.finish(put)?;
                Ok(Content::List { depth, reference })
            }
            None if self.refs.is_empty() => Ok(Content::Inline(Box::default())),
            None => Ok(Content::Refs(self.refs.into())),
        }
    }
}

/// A part of a directory while it is filled: entries already encoded.
struct FilledPart {
    first: Name,
    entries: usize,
    body: Writer,
}

/// Takes the entries of a directory in order, and cuts it into parts if it is long.
///
/// A directory of at most [`TREE_BYTES_MAX`] bytes becomes one tree. A longer one is cut into parts
/// after names whose keyed hash is low: on average after 256 KiB, not before 64 KiB, and before the
/// entry with which a part would become too long for a tree. Where it is cut is decided as the
/// entries come, whether or not the directory turns out to be long, so its parts stay the same when
/// it grows. Holds no more than two trees and the lists above them.
pub struct TreeBuilder<H> {
    name_hash: H,
    filling: Option<FilledPart>,
    /// Parts held back while the directory could still become one tree.
    waiting: Vec<FilledPart>,
    /// The bytes of all entries so far, up to what decides that the directory is long.
    bytes: usize,
    is_long: bool,
    last: Option<Name>,
    lists: Lists<Part>,
}

impl<H: Fn(&[u8]) -> u64> TreeBuilder<H> {
    /// A directory without entries; `name_hash` is the keyed hash that decides where it is cut.
    #[must_use]
    pub fn new(name_hash: H) -> Self {
        Self {
            name_hash,
            filling: None,
            waiting: Vec::new(),
            bytes: HEADER_BYTES,
            is_long: false,
            last: None,
            lists: Lists::new(),
        }
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`CallError::Node`] if the entry isn't canonical or doesn't come after the last one: it isn't
    /// added then, and others can be. [`CallError::Call`] if `put` fails: the builder is of no use then.
    pub fn add<E>(&mut self, entry: &Entry, put: &mut impl Put<E>) -> Result<(), CallError<E>> {
        check(entry).map_err(|why| Error::Layout(NodeKind::Tree, why))?;
        if self.last.as_ref().is_some_and(|last| *last >= entry.name) {
            return Err(Error::Order(NodeKind::Tree).into());
        }
        self.last = Some(entry.name.clone());
        let mut encoded = Writer::new();
        write_entry(&mut encoded, entry);

        if self
            .filling
            .as_ref()
            .is_some_and(|part| HEADER_BYTES + part.body.len() + encoded.len() > TREE_BYTES_MAX)
        {
            self.end_part(put)?;
        }
        let part = self.filling.get_or_insert_with(|| FilledPart {
            first: entry.name.clone(),
            entries: 0,
            body: Writer::new(),
        });
        part.body.bytes(encoded.as_slice());
        part.entries += 1;

        if !self.is_long {
            self.bytes += encoded.len();
            self.is_long = self.bytes > TREE_BYTES_MAX;
            if self.is_long {
                for waiting in std::mem::take(&mut self.waiting) {
                    self.put_part(waiting, put)?;
                }
            }
        }
        // Weighing the hash by the entry's length makes parts equally long whatever entries are like.
        let length = u64::try_from(encoded.len()).expect("an entry is shorter than a tree");
        let threshold = (u64::MAX / PART_BYTES_MORE).saturating_mul(length);
        let is_due = self.filling.as_ref().is_some_and(|part| part.body.len() >= PART_BYTES_MIN);
        if is_due && (self.name_hash)(entry.name.as_bytes()) < threshold {
            self.end_part(put)?;
        }
        Ok(())
    }

    /// How many bytes of entries it holds.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.waiting.iter().chain(&self.filling).map(|part| part.body.len()).sum()
    }

    /// Ends the part that is being filled.
    fn end_part<E>(&mut self, put: &mut impl Put<E>) -> Result<(), CallError<E>> {
        match self.filling.take() {
            Some(part) if self.is_long => self.put_part(part, put),
            Some(part) => {
                self.waiting.push(part);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Puts a part of a long directory and lists it.
    fn put_part<E>(&mut self, part: FilledPart, put: &mut impl Put<E>) -> Result<(), CallError<E>> {
        let tree = frame_tree(part.entries, &[part.body.as_slice()]);
        let reference = put(NodeKind::Tree, tree).map_err(CallError::Call)?;
        self.lists.add(Part { first: part.first, reference }, put)
    }

    /// Ends the directory.
    ///
    /// # Errors
    /// [`CallError::Call`] if `put` fails.
    pub fn finish<E>(mut self, put: &mut impl Put<E>) -> Result<TreeRef, CallError<E>> {
        self.end_part(put)?;
        if self.is_long {
            let (depth, reference) = self.lists.finish(put)?;
            return Ok(TreeRef { depth, reference });
        }
        let bodies: Vec<&[u8]> = self.waiting.iter().map(|part| part.body.as_slice()).collect();
        let entries = self.waiting.iter().map(|part| part.entries).sum();
        let reference = put(NodeKind::Tree, frame_tree(entries, &bodies)).map_err(CallError::Call)?;
        Ok(TreeRef { depth: 0, reference })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;
    use crate::tree::node::EntryReader;
    use crate::tree::node::LIST_ROWS_MAX;
    use crate::tree::node::RefReader;
    use crate::tree::node::encode_entries;
    use crate::tree::node::testing::Never;
    use crate::tree::node::testing::build;
    use crate::tree::node::testing::build_list;
    use crate::tree::node::testing::chunk;
    use crate::tree::node::testing::file;
    use crate::tree::node::testing::hash;
    use crate::tree::node::testing::inline;
    use crate::tree::node::testing::numbered;
    use crate::tree::node::testing::pipe;

    #[test]
    fn a_short_directory_is_one_tree_and_an_empty_one_too() {
        for count in [0, 1, 5_000] {
            let (tree, chunks) = build(numbered(count));
            assert_eq!((tree.depth, chunks.0.len()), (0, 1));
            let entries: Vec<Entry> = numbered(count).collect();
            assert_eq!(chunks.get(NodeKind::Tree, &tree.reference), Ok(encode_entries(&entries).unwrap()));
            let read = EntryReader::new(tree, |kind, reference: &ChunkRef| chunks.get(kind, reference));
            assert_eq!(read.collect::<Result<Vec<_>, _>>().unwrap(), entries);
        }
    }

    #[test]
    fn a_directory_of_200_000_names_is_built_and_read_one_part_at_a_time() {
        let (tree, chunks) = build(numbered(200_000));
        assert_eq!(tree.depth, 1);
        let parts = chunks.0.values().filter(|(kind, _)| *kind == NodeKind::Tree);
        let lengths: Vec<usize> = parts.map(|(_, bytes)| bytes.len()).collect();
        let average = lengths.iter().sum::<usize>() / lengths.len();
        assert!((200 << 10..320 << 10).contains(&average), "parts of {average} bytes");
        let short = lengths.iter().filter(|&&length| length < PART_BYTES_MIN).count();
        assert!(short <= 1, "only the last part is shorter than 64 KiB, not {short}");

        let mut expected = numbered(200_000);
        let read = EntryReader::new(tree, |kind, reference: &ChunkRef| chunks.get(kind, reference));
        for entry in read {
            assert_eq!(Some(entry.unwrap()), expected.next());
        }
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn a_changed_or_added_name_costs_the_parts_around_it_alone() {
        let (_, before) = build(numbered(60_000));
        let renamed = numbered(60_000).map(|entry| match entry.name.as_bytes() {
            b"customer-0030000" => file("customer-0030000-new", 21, inline(21), None),
            _ => entry,
        });
        let (_, after) = build(renamed);
        let new = after.not_in(&before);
        assert!((2..=6).contains(&new), "{new} chunks are new");

        let (_, longer) = build(numbered(60_001));
        let new = longer.not_in(&before);
        assert_eq!(new, 2, "the last part and the list");
    }

    #[test]
    fn where_a_directory_is_cut_does_not_depend_on_when_it_became_long() {
        // The first parts of one barely too long for a tree are those of one that is far longer.
        let barely = (1..).find(|&count| build(numbered(count * 100)).0.depth > 0).unwrap() * 100;
        let (_, short) = build(numbered(barely));
        let (_, long) = build(numbered(4 * barely));
        let new = short.not_in(&long);
        assert_eq!(new, 2, "the last part and the list");
    }

    #[test]
    fn entries_out_of_order_are_refused_and_later_ones_taken() {
        let mut builder = TreeBuilder::new(|name: &[u8]| hash(name));
        let mut put = |_, _: Vec<u8>| Ok::<_, Never>(chunk(0));
        builder.add(&pipe("b"), &mut put).unwrap();
        for wrong in ["a", "b"] {
            let refused = builder.add(&pipe(wrong), &mut put);
            assert_eq!(refused, Err(Error::Order(NodeKind::Tree).into()));
        }
        builder.add(&pipe("c"), &mut put).unwrap();
        assert_eq!(encode_entries(&[pipe("b"), pipe("a")]), Err(Error::Order(NodeKind::Tree)));
        assert_eq!(encode_entries(&[pipe("b"), pipe("b")]), Err(Error::Order(NodeKind::Tree)));
    }

    #[test]
    fn a_file_has_its_refs_in_its_entry_up_to_1_024_and_then_in_lists() {
        assert_eq!(build_list([]).0, Content::Inline(Box::default()));
        for (count, depth) in [(1, 0), (1_024, 0), (20_000, 2), (100_000, 2)] {
            let refs: Vec<ChunkRef> = (0..count).map(chunk).collect();
            let (content, bytes, chunks) = build_list(refs.iter().copied());
            let found = match &content {
                Content::Refs(_) => 0,
                Content::List { depth, .. } => *depth,
                Content::Inline(_) => panic!("{count} refs were lost"),
            };
            assert_eq!(found, depth, "{count} refs");
            let fetch = |kind, reference: &ChunkRef| chunks.get(kind, reference);
            let read = RefReader::new(&content, bytes, fetch).collect::<Result<Vec<_>, _>>();
            assert_eq!(read.unwrap(), refs);
            let entry = file("f", bytes, content, None);
            assert_eq!(check(&entry), Ok(()));
        }
    }

    #[test]
    fn a_list_that_is_the_only_one_of_its_depth_is_the_topmost() {
        let same = ChunkRef { id: ChunkId([1; 32]), length: 1 };
        for (count, lists) in [(1_025, 1), (LIST_ROWS_MAX, 1), (LIST_ROWS_MAX + 1, 3), (2 * LIST_ROWS_MAX, 2)]
        {
            let (content, bytes, chunks) = build_list(std::iter::repeat_n(same, count));
            let expected = if count > LIST_ROWS_MAX { 2 } else { 1 };
            assert!(
                matches!(content, Content::List { depth, .. } if depth == expected),
                "{count}: {content:?}"
            );
            assert_eq!(chunks.0.len(), lists, "{count}");
            let fetch = |kind, reference: &ChunkRef| chunks.get(kind, reference);
            let read = RefReader::new(&content, bytes, fetch).collect::<Result<Vec<_>, _>>();
            assert_eq!(read.map(|refs| refs.len()), Ok(count));
        }
    }

    #[test]
    fn a_changed_chunk_costs_its_list_and_those_above() {
        let (_, _, before) = build_list((0..100_000).map(chunk));
        let (_, _, after) =
            build_list((0..100_000).map(|number| chunk(if number == 40_000 { 999_999 } else { number })));
        let new = after.not_in(&before);
        assert!((2..=4).contains(&new), "{new} lists are new");
    }

    #[test]
    fn a_file_of_equal_chunks_that_could_each_end_a_list_has_few_lists() {
        let zero = ChunkRef { id: ChunkId([0; 32]), length: 8 << 20 };
        let (content, bytes, chunks) = build_list(std::iter::repeat_n(zero, 100_000));
        assert!(matches!(content, Content::List { depth: 2, .. }));
        assert!(chunks.0.len() <= 3);
        let fetch = |kind, reference: &ChunkRef| chunks.get(kind, reference);
        assert_eq!(RefReader::new(&content, bytes, fetch).count(), 100_000);
    }
}

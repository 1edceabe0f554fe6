//! Reads directories and the chunks of files back, one part or list in memory at a time.

use crate::codec;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::Entry;
use crate::tree::entry::TreeRef;
use crate::tree::node::CallError;
use crate::tree::node::Error;
use crate::tree::node::Fetch;
use crate::tree::node::NodeKind;
use crate::tree::node::entries::decode_entries;
use crate::tree::node::list::Part;
use crate::tree::node::list::Row;
use crate::tree::node::list::decode_list;
use crate::tree::node::node_kind;
use crate::tree::path::Name;

/// Fetches a chunk, and holds its length against its ref before and after.
fn fetch_checked<E>(
    kind: NodeKind,
    reference: &ChunkRef,
    fetch: &mut impl Fetch<E>,
) -> Result<Vec<u8>, CallError<E>> {
    let length = usize::try_from(reference.length).unwrap_or(usize::MAX);
    if length > kind.bytes_max() {
        return Err(Error::Length(kind).into());
    }
    let bytes = fetch(kind, reference).map_err(CallError::Call)?;
    if bytes.len() == length { Ok(bytes) } else { Err(Error::Length(kind).into()) }
}

/// Fetches a list of `depth`, which has a row more if it `is_topmost` than it needs below others.
fn fetch_list<R: Row, E>(
    depth: u8,
    reference: &ChunkRef,
    is_topmost: bool,
    fetch: &mut impl Fetch<E>,
) -> Result<Vec<R>, CallError<E>> {
    let rows = decode_list::<R>(depth, &fetch_checked(NodeKind::List, reference, fetch)?)?;
    if is_topmost && rows.len() < 2 {
        return Err(Error::Layout(NodeKind::List, codec::Error::NotCanonical("number of rows")).into());
    }
    Ok(rows)
}

/// Fetches the parts of a directory that a list of `depth` names, beginning with `first`.
fn fetch_parts<E>(
    depth: u8,
    reference: &ChunkRef,
    first: Option<&Name>,
    fetch: &mut impl Fetch<E>,
) -> Result<Vec<Part>, CallError<E>> {
    let parts: Vec<Part> = fetch_list(depth, reference, first.is_none(), fetch)?;
    if first.is_some_and(|first| parts[0].first != *first) {
        return Err(Error::Reference(NodeKind::List).into());
    }
    Ok(parts)
}

/// Fetches the entries of a directory, or of its part that begins with `first`.
fn fetch_entries<E>(
    reference: &ChunkRef,
    first: Option<&Name>,
    fetch: &mut impl Fetch<E>,
) -> Result<Vec<Entry>, CallError<E>> {
    let entries = decode_entries(&fetch_checked(NodeKind::Tree, reference, fetch)?)?;
    if first.is_some() && entries.first().map(|entry| &entry.name) != first {
        return Err(Error::Reference(NodeKind::Tree).into());
    }
    Ok(entries)
}

/// Gives the entries of a directory in order, one part in memory at a time.
///
/// A part that can't be read is one error; reading then goes on with the next.
pub struct EntryReader<F> {
    fetch: F,
    root: Option<TreeRef>,
    /// Rows not read yet, of the lists from the topmost down, each with the depth of what they refer to.
    lists: Vec<(u8, std::vec::IntoIter<Part>)>,
    part: std::vec::IntoIter<Entry>,
    last: Option<Name>,
}

impl<F> EntryReader<F> {
    /// Reads the directory at `tree` with chunks from `fetch`.
    pub fn new(tree: TreeRef, fetch: F) -> Self {
        Self { fetch, root: Some(tree), lists: Vec::new(), part: Vec::new().into_iter(), last: None }
    }

    /// What is to be fetched next: its depth, where it is, and its first name if a list told it.
    fn next_node(&mut self) -> Option<(u8, ChunkRef, Option<Name>)> {
        if let Some(root) = self.root.take() {
            return Some((root.depth, root.reference, None));
        }
        while let Some((depth, parts)) = self.lists.last_mut() {
            if let Some(part) = parts.next() {
                return Some((*depth, part.reference, Some(part.first)));
            }
            self.lists.pop();
        }
        None
    }

    /// Fetches the next list or part.
    fn load<E>(&mut self, depth: u8, reference: &ChunkRef, first: Option<&Name>) -> Result<(), CallError<E>>
    where
        F: Fetch<E>,
    {
        // Not only its own rows: a list's first name must come after all that was read before.
        if let (Some(last), Some(first)) = (&self.last, first)
            && last >= first
        {
            return Err(Error::Order(node_kind(depth)).into());
        }
        if depth == 0 {
            self.part = fetch_entries(reference, first, &mut self.fetch)?.into_iter();
        } else {
            let parts = fetch_parts(depth, reference, first, &mut self.fetch)?;
            self.lists.push((depth - 1, parts.into_iter()));
        }
        Ok(())
    }

    /// The next entry, and errors as they come.
    fn step<E>(&mut self) -> Option<Result<Entry, CallError<E>>>
    where
        F: Fetch<E>,
    {
        loop {
            if let Some(entry) = self.part.next() {
                self.last = Some(entry.name.clone());
                return Some(Ok(entry));
            }
            let (depth, reference, first) = self.next_node()?;
            if let Err(error) = self.load(depth, &reference, first.as_ref()) {
                return Some(Err(error));
            }
        }
    }
}

impl<E, F: FnMut(NodeKind, &ChunkRef) -> Result<Vec<u8>, E>> Iterator for EntryReader<F> {
    type Item = Result<Entry, CallError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step()
    }
}

/// Finds `name` in the directory at `tree`, reading one list a depth and one part.
///
/// # Errors
/// [`CallError::Call`] if `fetch` fails, [`CallError::Node`] if what it gives is no tree or list.
pub fn find<E>(tree: &TreeRef, name: &Name, mut fetch: impl Fetch<E>) -> Result<Option<Entry>, CallError<E>> {
    let mut reference = tree.reference;
    let mut first = None;
    for depth in (1..=tree.depth).rev() {
        let mut parts = fetch_parts(depth, &reference, first.as_ref(), &mut fetch)?;
        let after = parts.partition_point(|part| part.first <= *name);
        let Some(index) = after.checked_sub(1) else { return Ok(None) };
        let part = parts.swap_remove(index);
        reference = part.reference;
        first = Some(part.first);
    }
    let mut entries = fetch_entries(&reference, first.as_ref(), &mut fetch)?;
    let found = entries.binary_search_by(|entry| entry.name.cmp(name)).ok();
    Ok(found.map(|index| entries.swap_remove(index)))
}

/// Gives the chunks of a file in order, one list a depth in memory at a time.
///
/// A list that can't be read is one error; reading then goes on with the next. Chunks that don't add
/// up to the content are an error as soon as they are too long, or at the end.
pub struct RefReader<F> {
    fetch: F,
    root: Option<(u8, ChunkRef)>,
    /// Rows not read yet, of the lists from the topmost down, each with the depth of what they refer to.
    lists: Vec<(u8, std::vec::IntoIter<ChunkRef>)>,
    /// How many bytes can still come.
    bytes_left: u64,
    /// Whether a list couldn't be read, so that bytes are missing anyway.
    is_broken: bool,
}

impl<F> RefReader<F> {
    /// Reads the chunks of a file with this `content`, which has `content_bytes` bytes (as its
    /// [`EntryKind`](crate::tree::entry::EntryKind::content_bytes) says), with lists from `fetch`;
    /// inline content has no chunks.
    pub fn new(content: &Content, content_bytes: u64, fetch: F) -> Self {
        let (root, lists, bytes_left) = match content {
            Content::Inline(_) => (None, Vec::new(), 0),
            Content::Refs(refs) => (None, vec![(0, refs.clone().into_vec().into_iter())], content_bytes),
            Content::List { depth, reference } => (Some((*depth, *reference)), Vec::new(), content_bytes),
        };
        Self { fetch, root, lists, bytes_left, is_broken: false }
    }

    /// The next chunk, and errors as they come.
    fn step<E>(&mut self) -> Option<Result<ChunkRef, CallError<E>>>
    where
        F: Fetch<E>,
    {
        loop {
            let is_topmost = self.root.is_some();
            let next = self.root.take().or_else(|| self.next_row());
            let Some((depth, reference)) = next else {
                let is_short = !self.is_broken && self.bytes_left > 0;
                self.bytes_left = 0;
                return is_short.then(|| Err(Error::ContentLength.into()));
            };
            if depth == 0 {
                let Some(left) = self.bytes_left.checked_sub(u64::from(reference.length)) else {
                    self.bytes_left = 0;
                    self.lists.clear();
                    return Some(Err(Error::ContentLength.into()));
                };
                self.bytes_left = left;
                return Some(Ok(reference));
            }
            match fetch_list(depth, &reference, is_topmost, &mut self.fetch) {
                Ok(rows) => self.lists.push((depth - 1, rows.into_iter())),
                Err(error) => {
                    self.is_broken = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// The next row of the lowest list, with the depth of what it refers to.
    fn next_row(&mut self) -> Option<(u8, ChunkRef)> {
        while let Some((depth, rows)) = self.lists.last_mut() {
            if let Some(reference) = rows.next() {
                return Some((*depth, reference));
            }
            self.lists.pop();
        }
        None
    }
}

impl<E, F: FnMut(NodeKind, &ChunkRef) -> Result<Vec<u8>, E>> Iterator for RefReader<F> {
    type Item = Result<ChunkRef, CallError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Writer;
    use crate::tree::node::decode_parts;
    use crate::tree::node::decode_refs;
    use crate::tree::node::encode_entries;
    use crate::tree::node::encode_parts;
    use crate::tree::node::testing::Chunks;
    use crate::tree::node::testing::Missing;
    use crate::tree::node::testing::build;
    use crate::tree::node::testing::build_list;
    use crate::tree::node::testing::chunk;
    use crate::tree::node::testing::numbered;
    use std::cell::RefCell;

    #[test]
    fn one_name_is_found_with_one_list_and_one_part() {
        let (tree, chunks) = build(numbered(30_000));
        let fetched = RefCell::new(0);
        let fetch = |kind, reference: &ChunkRef| {
            *fetched.borrow_mut() += 1;
            chunks.get(kind, reference)
        };
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        for number in [0, 1, 17_171, 29_999] {
            let expected = numbered(30_000).nth(number).unwrap();
            assert_eq!(find(&tree, &expected.name, fetch), Ok(Some(expected)));
        }
        assert_eq!(*fetched.borrow(), 8);
        for absent in ["a", "customer-0017171a", "d"] {
            assert_eq!(find(&tree, &name(absent), fetch), Ok(None));
        }
    }

    #[test]
    fn a_missing_part_is_one_error_and_the_others_are_read() {
        let (tree, mut chunks) = build(numbered(30_000));
        let parts = decode_parts(1, &chunks.get(NodeKind::List, &tree.reference).unwrap()).unwrap();
        chunks.0.remove(parts[2].reference.id.as_bytes());
        let read = EntryReader::new(tree, |kind, reference: &ChunkRef| chunks.get(kind, reference));
        let (good, bad): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
        assert_eq!(bad, [Err(CallError::Call(Missing))]);
        let names: Vec<Name> = good.into_iter().map(|entry| entry.unwrap().name).collect();
        assert!(names.is_sorted() && !names.contains(&parts[2].first) && names.contains(&parts[3].first));
    }

    #[test]
    fn parts_that_are_swapped_repeated_or_named_wrongly_are_refused() {
        let (tree, mut chunks) = build(numbered(30_000));
        let parts = decode_parts(1, &chunks.get(NodeKind::List, &tree.reference).unwrap()).unwrap();
        let mut read = |parts: &[Part]| {
            let mut writer = Writer::new();
            writer.u8(1).u8(2).u8(1).u8(0).count(parts.len());
            parts.iter().for_each(|part| part.write(&mut writer));
            let reference = chunks.put(NodeKind::List, writer.finish()).unwrap();
            let tree = TreeRef { depth: 1, reference };
            let read = EntryReader::new(tree, |kind, reference: &ChunkRef| chunks.get(kind, reference));
            read.filter_map(Result::err).next()
        };
        assert_eq!(read(&parts), None);
        let [first, second] = [&parts[0], &parts[1]];
        let order = Some(CallError::Node(Error::Order(NodeKind::List)));
        assert_eq!(read(&[second.clone(), first.clone()]), order);
        assert_eq!(read(&[first.clone(), first.clone()]), order);
        let wrong = Part { first: second.first.clone(), reference: first.reference };
        let reference = Some(CallError::Node(Error::Reference(NodeKind::Tree)));
        assert_eq!(read(&[first.clone(), wrong]), reference);
        let rows = codec::Error::NotCanonical("number of rows");
        assert_eq!(read(std::slice::from_ref(first)), Some(Error::Layout(NodeKind::List, rows).into()));
        assert_eq!(read(&[]), Some(Error::Layout(NodeKind::List, rows).into()));
        // A part that holds names of its successor.
        let long = Part { first: first.first.clone(), reference: tree_of(&mut chunks, 29_000) };
        let mut read = |parts: &[Part]| {
            let reference = chunks.put(NodeKind::List, encode_parts(1, parts).unwrap()).unwrap();
            let tree = TreeRef { depth: 1, reference };
            let read = EntryReader::new(tree, |kind, reference: &ChunkRef| chunks.get(kind, reference));
            read.filter_map(Result::err).next()
        };
        assert_eq!(read(&[long, second.clone()]), Some(Error::Order(NodeKind::Tree).into()));
    }

    /// A tree of the first numbered entry and one further on.
    fn tree_of(chunks: &mut Chunks, number: usize) -> ChunkRef {
        let entries: Vec<Entry> = numbered(number + 1).step_by(number).collect();
        chunks.put(NodeKind::Tree, encode_entries(&entries).unwrap()).unwrap()
    }

    #[test]
    fn a_chunk_of_another_length_or_depth_than_said_is_refused() {
        let (tree, chunks) = build(numbered(30_000));
        let read = |tree: TreeRef| {
            let fetch = |kind, reference: &ChunkRef| chunks.get(kind, reference);
            EntryReader::new(tree, fetch).filter_map(Result::err).next()
        };
        let ChunkRef { id, length } = tree.reference;
        let longer = TreeRef { reference: ChunkRef { id, length: length + 1 }, ..tree };
        assert_eq!(read(longer), Some(Error::Length(NodeKind::List).into()));
        let huge = TreeRef { reference: ChunkRef { id, length: u32::MAX }, ..tree };
        assert_eq!(read(huge), Some(Error::Length(NodeKind::List).into()));
        assert_eq!(read(TreeRef { depth: 2, ..tree }), Some(Error::Reference(NodeKind::List).into()));
        assert_eq!(read(TreeRef { depth: 5, ..tree }), Some(Error::Reference(NodeKind::List).into()));
        assert_eq!(read(TreeRef { depth: 0, ..tree }), Some(CallError::Call(Missing)));
    }

    #[test]
    fn chunks_that_do_not_add_up_are_refused() {
        let (content, bytes, mut chunks) = build_list((0..20_000).map(chunk));
        let read = |chunks: &Chunks, bytes| {
            let fetch = |kind, reference: &ChunkRef| chunks.get(kind, reference);
            let read: Vec<_> = RefReader::new(&content, bytes, fetch).collect();
            (read.len(), read.into_iter().filter_map(Result::err).collect::<Vec<_>>())
        };
        let wrong = CallError::Node(Error::ContentLength);
        assert_eq!(read(&chunks, bytes), (20_000, vec![]));
        assert_eq!(read(&chunks, bytes + 1), (20_001, vec![wrong.clone()]));
        assert_eq!(read(&chunks, 10_000), (11, vec![wrong]));
        let Content::List { reference, .. } = &content else { panic!("20,000 refs fit into an entry") };
        let lists = decode_refs(2, &chunks.get(NodeKind::List, reference).unwrap()).unwrap();
        chunks.0.remove(lists[1].id.as_bytes());
        let (count, errors) = read(&chunks, bytes);
        assert_eq!(errors, [CallError::Call(Missing)]);
        assert!(count > 10_000 && count < 20_000);
    }
}

//! One entry, and a tree of them: what is canonical, and its bytes as the tables of
//! [`node`](crate::tree::node) have them.

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::tree::entry::Content;
use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Owner;
use crate::tree::entry::Time;
use crate::tree::entry::TreeRef;
use crate::tree::node::CHUNK_BYTES_MAX;
use crate::tree::node::Error;
use crate::tree::node::HEADER_BYTES;
use crate::tree::node::LIST_BYTES_MAX;
use crate::tree::node::LIST_DEPTH_MAX;
use crate::tree::node::NodeKind;
use crate::tree::node::TREE_BYTES_MAX;
use crate::tree::node::VERSION;
use crate::tree::node::check_ref;
use crate::tree::node::node_kind;
use crate::tree::node::read_name;
use crate::tree::node::read_ref;
use crate::tree::node::read_tiny;
use crate::tree::node::refuse;
use crate::tree::node::require;
use crate::tree::node::start;
use crate::tree::node::write_ref;
use crate::tree::node::write_tiny;
use crate::tree::path::Name;
use std::sync::Arc;

/// The shortest entry: a named pipe with a name of one byte that belongs to nobody with a name.
const ENTRY_BYTES_MIN: usize = 3 + 1 + 2 + 8 + 2 + 12;

/// The longest symbolic link in bytes: Linux's `PATH_MAX` less its NUL.
const TARGET_BYTES_MAX: usize = 4_095;

/// What an entry's type byte says.
mod entry_type {
    pub const FILE: u8 = 1;
    pub const DIRECTORY: u8 = 2;
    pub const SYMLINK: u8 = 3;
    pub const FIFO: u8 = 4;
    pub const CHAR_DEVICE: u8 = 5;
    pub const BLOCK_DEVICE: u8 = 6;
}

/// What an entry's flag byte says.
mod flag {
    pub const LINK_GROUP: u8 = 1;
    pub const XATTRS: u8 = 2;
    pub const SPARSE: u8 = 4;
}

/// How a file's content follows.
mod content_form {
    pub const INLINE: u8 = 0;
    pub const REFS: u8 = 1;
    pub const LIST: u8 = 2;
}

/// Holds a directory's tree against what can be.
fn check_tree(tree: &TreeRef) -> Result<(), codec::Error> {
    require(tree.depth <= LIST_DEPTH_MAX, "depth of a directory")?;
    check_ref(&tree.reference, node_kind(tree.depth).bytes_max())
}

/// Holds a sparse file's runs against its size.
fn check_runs(runs: &[DataRun], size: u64) -> Result<(), codec::Error> {
    const FIELD: &str = "data of a sparse file";
    require(runs.len() <= DataRun::COUNT_MAX, FIELD)?;
    let mut free_from = 0;
    for (index, run) in runs.iter().enumerate() {
        let Some(end) = run.end() else { return refuse(FIELD) };
        // A run that begins where the last one ended would be one run with it.
        let apart = if index == 0 { run.offset >= free_from } else { run.offset > free_from };
        require(apart && run.length > 0 && end <= size, FIELD)?;
        free_from = end;
    }
    let data: u64 = runs.iter().map(|run| run.length).sum();
    require(data < size, FIELD)
}

/// Holds a file's content against how many bytes it has to have.
fn check_content(content: &Content, bytes: u64) -> Result<(), codec::Error> {
    match content {
        Content::Inline(inline) => {
            require(inline.len() <= Content::INLINE_BYTES_MAX, "content of a file")?;
            require(u64::try_from(inline.len()) == Ok(bytes), "size of a file")
        }
        Content::Refs(refs) => {
            require(!refs.is_empty() && refs.len() <= Content::REFS_MAX, "refs of a file")?;
            let mut sum = 0_u64;
            for reference in refs {
                check_ref(reference, CHUNK_BYTES_MAX)?;
                sum += u64::from(reference.length);
            }
            require(sum == bytes, "size of a file")
        }
        Content::List { depth, reference } => {
            require((1..=LIST_DEPTH_MAX).contains(depth), "depth of a file")?;
            check_ref(reference, LIST_BYTES_MAX)?;
            // More chunks than fit into the entry have at least a byte each.
            require(bytes > REFS_MAX_U64, "size of a file")
        }
    }
}

/// [`Content::REFS_MAX`] as a length on disk.
const REFS_MAX_U64: u64 = 1_024;

/// Holds an entry against everything that makes one canonical, before it is written and after it is read.
///
/// # Errors
/// [`codec::Error::NotCanonical`] with the field that no canonical entry has like this.
pub fn check(entry: &Entry) -> Result<(), codec::Error> {
    require(entry.mode <= 0o7777, "permissions")?;
    require(entry.modified.nanos < 1_000_000_000, "nanoseconds")?;
    for name in [&entry.owner.user, &entry.owner.group] {
        require(name.len() <= 255 && !name.contains('\0'), "owner's name")?;
    }

    let mut xattr_bytes = 0_usize;
    let mut last: &[u8] = b"";
    for (name, value) in &entry.xattrs {
        require(!name.is_empty() && name.len() <= 255 && !name.contains(&0), "attribute's name")?;
        require(**name > *last, "order of attributes")?;
        last = name;
        xattr_bytes = xattr_bytes.saturating_add(name.len()).saturating_add(value.len());
    }
    require(
        xattr_bytes <= Entry::XATTR_BYTES_MAX && entry.xattrs.len() <= usize::from(u16::MAX),
        "attributes",
    )?;

    match &entry.kind {
        EntryKind::File { size, content, sparse } => {
            // The largest offset that an operating system can name.
            require(i64::try_from(*size).is_ok(), "size of a file")?;
            if let Some(runs) = sparse {
                check_runs(runs, *size)?;
            }
            check_content(content, entry.kind.content_bytes())
        }
        EntryKind::Directory { tree } => {
            require(entry.link_group.is_none(), "link group of a directory")?;
            check_tree(tree)
        }
        EntryKind::Symlink { target } => {
            let length = target.len();
            require((1..=TARGET_BYTES_MAX).contains(&length) && !target.contains(&0), "target of a link")
        }
        EntryKind::Fifo | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => Ok(()),
    }
}

/// Writes an entry that [`check`] has passed.
pub(super) fn write_entry(writer: &mut Writer, entry: &Entry) {
    let (entry_type, is_sparse) = match &entry.kind {
        EntryKind::File { sparse, .. } => (entry_type::FILE, sparse.is_some()),
        EntryKind::Directory { .. } => (entry_type::DIRECTORY, false),
        EntryKind::Symlink { .. } => (entry_type::SYMLINK, false),
        EntryKind::Fifo => (entry_type::FIFO, false),
        EntryKind::CharDevice { .. } => (entry_type::CHAR_DEVICE, false),
        EntryKind::BlockDevice { .. } => (entry_type::BLOCK_DEVICE, false),
    };
    let mut flags = 0;
    for (flag, set) in [
        (flag::LINK_GROUP, entry.link_group.is_some()),
        (flag::XATTRS, !entry.xattrs.is_empty()),
        (flag::SPARSE, is_sparse),
    ] {
        flags |= if set { flag } else { 0 };
    }
    writer.u8(entry_type).u8(flags);
    write_tiny(writer, entry.name.as_bytes());
    writer.u16(u16::try_from(entry.mode).expect("permissions are checked to have 12 bits"));
    writer.u32(entry.owner.uid).u32(entry.owner.gid);
    write_tiny(writer, entry.owner.user.as_bytes());
    write_tiny(writer, entry.owner.group.as_bytes());
    writer.i64(entry.modified.seconds).u32(entry.modified.nanos);
    if let Some(group) = &entry.link_group {
        writer.bytes(group);
    }
    if !entry.xattrs.is_empty() {
        writer
            .u16(u16::try_from(entry.xattrs.len()).expect("attributes are checked to be fewer than 65,536"));
        for (name, value) in &entry.xattrs {
            write_tiny(writer, name);
            writer.sized(value);
        }
    }
    match &entry.kind {
        EntryKind::File { size, content, sparse } => {
            writer.u64(*size);
            if let Some(runs) = sparse {
                writer.count(runs.len());
                for run in runs {
                    writer.u64(run.offset).u64(run.length);
                }
            }
            write_content(writer, content);
        }
        EntryKind::Directory { tree } => {
            writer.u8(tree.depth);
            write_ref(writer, &tree.reference);
        }
        EntryKind::Symlink { target } => {
            writer.sized_short(target);
        }
        EntryKind::Fifo => {}
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            writer.u32(*major).u32(*minor);
        }
    }
}

/// Writes a file's content that [`check`] has passed.
fn write_content(writer: &mut Writer, content: &Content) {
    match content {
        Content::Inline(bytes) => {
            writer.u8(content_form::INLINE).sized(bytes);
        }
        Content::Refs(refs) => {
            writer.u8(content_form::REFS);
            writer.u16(u16::try_from(refs.len()).expect("refs in an entry are checked to be at most 1,024"));
            refs.iter().for_each(|reference| write_ref(writer, reference));
        }
        Content::List { depth, reference } => {
            writer.u8(content_form::LIST).u8(*depth);
            write_ref(writer, reference);
        }
    }
}

/// The names of the owner read last, so that a directory's entries share them.
#[derive(Default)]
struct LastOwner {
    user: Option<Arc<str>>,
    group: Option<Arc<str>>,
}

/// Reads an owner's name, the same string again if it is the `last` one.
fn read_owner_name(reader: &mut Reader<'_>, last: &mut Option<Arc<str>>) -> Result<Arc<str>, codec::Error> {
    let name = std::str::from_utf8(read_tiny(reader)?).or_else(|_| refuse("owner's name"))?;
    match last {
        Some(last) if **last == *name => Ok(Arc::clone(last)),
        _ => Ok(Arc::clone(last.insert(name.into()))),
    }
}

/// Reads an entry, and checks it.
fn read_entry(reader: &mut Reader<'_>, last_owner: &mut LastOwner) -> Result<Entry, codec::Error> {
    let entry_type = reader.u8()?;
    let flags = reader.u8()?;
    require(flags & !(flag::LINK_GROUP | flag::XATTRS | flag::SPARSE) == 0, "flags")?;
    require(flags & flag::SPARSE == 0 || entry_type == entry_type::FILE, "flags")?;
    let name = read_name(reader)?;
    let mode = u32::from(reader.u16()?);
    let owner = Owner {
        uid: reader.u32()?,
        gid: reader.u32()?,
        user: read_owner_name(reader, &mut last_owner.user)?,
        group: read_owner_name(reader, &mut last_owner.group)?,
    };
    let modified = Time { seconds: reader.i64()?, nanos: reader.u32()? };
    let link_group = if flags & flag::LINK_GROUP == 0 { None } else { Some(reader.array()?) };
    let mut xattrs = Vec::new();
    if flags & flag::XATTRS != 0 {
        let count = reader.u16()?;
        require(count > 0, "attributes")?;
        for _ in 0..count {
            xattrs.push((read_tiny(reader)?.into(), reader.sized()?.into()));
        }
    }
    let kind = match entry_type {
        entry_type::FILE => {
            let size = reader.u64()?;
            let sparse = if flags & flag::SPARSE == 0 { None } else { Some(read_runs(reader)?) };
            EntryKind::File { size, content: read_content(reader)?, sparse }
        }
        entry_type::DIRECTORY => {
            EntryKind::Directory { tree: TreeRef { depth: reader.u8()?, reference: read_ref(reader)? } }
        }
        entry_type::SYMLINK => EntryKind::Symlink { target: reader.sized_short()?.into() },
        entry_type::FIFO => EntryKind::Fifo,
        entry_type::CHAR_DEVICE => EntryKind::CharDevice { major: reader.u32()?, minor: reader.u32()? },
        entry_type::BLOCK_DEVICE => EntryKind::BlockDevice { major: reader.u32()?, minor: reader.u32()? },
        _ => return refuse("type of an entry"),
    };
    let entry = Entry { name, kind, mode, owner, modified, xattrs, link_group };
    check(&entry)?;
    Ok(entry)
}

/// Reads the runs of a sparse file.
fn read_runs(reader: &mut Reader<'_>) -> Result<Box<[DataRun]>, codec::Error> {
    let count = reader.count(16)?;
    (0..count).map(|_| Ok(DataRun { offset: reader.u64()?, length: reader.u64()? })).collect()
}

/// Reads a file's content.
fn read_content(reader: &mut Reader<'_>) -> Result<Content, codec::Error> {
    match reader.u8()? {
        content_form::INLINE => Ok(Content::Inline(reader.sized()?.into())),
        content_form::REFS => {
            let count = usize::from(reader.u16()?);
            require(count <= Content::REFS_MAX, "refs of a file")?;
            Ok(Content::Refs((0..count).map(|_| read_ref(reader)).collect::<Result<_, _>>()?))
        }
        content_form::LIST => Ok(Content::List { depth: reader.u8()?, reference: read_ref(reader)? }),
        _ => refuse("content of a file"),
    }
}

/// A tree's header and its entries, already encoded.
pub(super) fn frame_tree(count: usize, bodies: &[&[u8]]) -> Vec<u8> {
    let bytes = HEADER_BYTES + bodies.iter().map(|body| body.len()).sum::<usize>();
    let mut writer = Writer::with_capacity(bytes);
    writer.u8(VERSION).zeros(3).count(count);
    for body in bodies {
        writer.bytes(body);
    }
    writer.finish()
}

/// Lays out the entries of a directory, or of a part of one, as a tree chunk.
///
/// # Errors
/// [`Error::Layout`] if an entry isn't canonical, [`Error::Order`] if names aren't sorted strictly, and
/// [`Error::TooLarge`] if the tree would have more than [`TREE_BYTES_MAX`] bytes.
pub fn encode_entries(entries: &[Entry]) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::new();
    let mut last: Option<&Name> = None;
    for entry in entries {
        check(entry).map_err(|why| Error::Layout(NodeKind::Tree, why))?;
        if last.is_some_and(|last| *last >= entry.name) {
            return Err(Error::Order(NodeKind::Tree));
        }
        last = Some(&entry.name);
        write_entry(&mut writer, entry);
        if HEADER_BYTES + writer.len() > TREE_BYTES_MAX {
            return Err(Error::TooLarge(NodeKind::Tree));
        }
    }
    Ok(frame_tree(entries.len(), &[writer.as_slice()]))
}

/// Reads what [`encode_entries`] wrote, and nothing else.
///
/// # Errors
/// [`Error::Layout`] if a byte isn't as it was written, [`Error::Newer`] for another version,
/// [`Error::Order`] if names aren't sorted strictly, [`Error::Length`] if it is longer than a tree.
pub fn decode_entries(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
    const KIND: NodeKind = NodeKind::Tree;
    let layout = |why| Error::Layout(KIND, why);
    let mut reader = start(KIND, bytes)?;
    reader.zeros(3).map_err(layout)?;
    let count = reader.count(ENTRY_BYTES_MIN).map_err(layout)?;
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    let mut last_owner = LastOwner::default();
    for _ in 0..count {
        let entry = read_entry(&mut reader, &mut last_owner).map_err(layout)?;
        if entries.last().is_some_and(|last| last.name >= entry.name) {
            return Err(Error::Order(KIND));
        }
        entries.push(entry);
    }
    reader.finish().map_err(layout)?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;
    use crate::tree::entry::ChunkRef;
    use crate::tree::node::testing::file;
    use crate::tree::node::testing::inline;
    use crate::tree::node::testing::pipe;
    use proptest::prelude::*;

    #[test]
    fn every_field_that_no_canonical_entry_has_is_refused() {
        let run = |offset, length| DataRun { offset, length };
        let refs = |lengths: &[u32]| {
            Content::Refs(lengths.iter().map(|&length| ChunkRef { id: ChunkId([1; 32]), length }).collect())
        };
        let list =
            |depth, length| Content::List { depth, reference: ChunkRef { id: ChunkId([1; 32]), length } };
        let tree = |depth, length| EntryKind::Directory {
            tree: TreeRef { depth, reference: ChunkRef { id: ChunkId([1; 32]), length } },
        };
        let xattrs = |names: &[&[u8]]| names.iter().map(|&name| (name.into(), [1][..].into())).collect();
        let with = |kind| Entry { kind, ..pipe("e") };
        let link = |target: &[u8]| with(EntryKind::Symlink { target: target.into() });
        let sparse = |size, runs: &[DataRun]| {
            let data: u64 = runs.iter().map(|run| run.length).fold(0, u64::wrapping_add);
            file("e", size, inline(usize::try_from(data.min(100)).unwrap()), Some(runs.into()))
        };

        let taken = [
            Entry { mode: 0o7777, ..pipe("e") },
            Entry { modified: Time { seconds: i64::MIN, nanos: 0 }, ..pipe("e") },
            Entry { xattrs: xattrs(&[b"user.a", b"user.b"]), link_group: Some([9; 16]), ..pipe("e") },
            link(&[b't'; 4_095]),
            with(tree(0, 1 << 20)),
            with(tree(4, 5 << 18)),
            with(EntryKind::CharDevice { major: u32::MAX, minor: 0 }),
            with(EntryKind::BlockDevice { major: 0, minor: u32::MAX }),
            file("e", 0, inline(0), None),
            file("e", 65_536, inline(65_536), None),
            file("e", 3, refs(&[1, 2]), None),
            file("e", 1_025, list(1, 40_000), None),
            sparse(1, &[]),
            sparse(i64::MAX.unsigned_abs(), &[run(0, 1), run(2, 1), run(i64::MAX.unsigned_abs() - 1, 1)]),
        ];
        for entry in taken {
            let bytes = encode_entries(std::slice::from_ref(&entry)).unwrap();
            assert_eq!(decode_entries(&bytes), Ok(vec![entry]));
        }

        let refused = [
            (Entry { mode: 0o10000, ..pipe("e") }, "permissions"),
            (Entry { modified: Time { seconds: 0, nanos: 1_000_000_000 }, ..pipe("e") }, "nanoseconds"),
            (Entry { owner: Owner { user: "a\0".into(), ..pipe("e").owner }, ..pipe("e") }, "owner's name"),
            (
                Entry { owner: Owner { group: "g".repeat(256).into(), ..pipe("e").owner }, ..pipe("e") },
                "owner's name",
            ),
            (Entry { xattrs: xattrs(&[b""]), ..pipe("e") }, "attribute's name"),
            (Entry { xattrs: xattrs(&[b"a\0"]), ..pipe("e") }, "attribute's name"),
            (Entry { xattrs: xattrs(&[&[b'a'; 256]]), ..pipe("e") }, "attribute's name"),
            (Entry { xattrs: xattrs(&[b"b", b"a"]), ..pipe("e") }, "order of attributes"),
            (Entry { xattrs: xattrs(&[b"a", b"a"]), ..pipe("e") }, "order of attributes"),
            (Entry { xattrs: vec![(b"a"[..].into(), vec![0; 512 << 10].into())], ..pipe("e") }, "attributes"),
            (Entry { kind: tree(0, 9), link_group: Some([0; 16]), ..pipe("e") }, "link group of a directory"),
            (with(tree(5, 9)), "depth of a directory"),
            (with(tree(0, 0)), "length of a chunk"),
            (with(tree(0, (1 << 20) + 1)), "length of a chunk"),
            (with(tree(1, (5 << 18) + 1)), "length of a chunk"),
            (link(b""), "target of a link"),
            (link(b"a\0"), "target of a link"),
            (link(&[b't'; 4_096]), "target of a link"),
            (file("e", u64::MAX, list(1, 40_000), None), "size of a file"),
            (file("e", 1, inline(0), None), "size of a file"),
            (file("e", 65_537, inline(65_537), None), "content of a file"),
            (file("e", 0, refs(&[]), None), "refs of a file"),
            (file("e", 1_025, refs(&[1; 1_025]), None), "refs of a file"),
            (file("e", 0, refs(&[0]), None), "length of a chunk"),
            (file("e", 9 << 20, refs(&[9 << 20]), None), "length of a chunk"),
            (file("e", 4, refs(&[1, 2]), None), "size of a file"),
            (file("e", 2_000, list(0, 40_000), None), "depth of a file"),
            (file("e", 2_000, list(5, 40_000), None), "depth of a file"),
            (file("e", 2_000, list(1, 0), None), "length of a chunk"),
            (file("e", 1_024, list(1, 40_000), None), "size of a file"),
            (sparse(0, &[]), "data of a sparse file"),
            (sparse(5, &[run(0, 5)]), "data of a sparse file"),
            (sparse(5, &[run(0, 0)]), "data of a sparse file"),
            (sparse(5, &[run(4, 2)]), "data of a sparse file"),
            (sparse(9, &[run(0, 2), run(2, 2)]), "data of a sparse file"),
            (sparse(9, &[run(4, 2), run(0, 2)]), "data of a sparse file"),
            (sparse(9, &[run(u64::MAX, 2)]), "data of a sparse file"),
            (sparse(1 << 20, &vec![run(0, 1); 4_097]), "data of a sparse file"),
        ];
        for (entry, field) in refused {
            let error = Err(Error::Layout(NodeKind::Tree, codec::Error::NotCanonical(field)));
            assert_eq!(encode_entries(std::slice::from_ref(&entry)), error, "{field}: {entry:?}");
        }
    }

    #[test]
    fn every_byte_that_no_writer_writes_is_refused() {
        let good = encode_entries(&[pipe("e")]).unwrap();
        let patched = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            decode_entries(&bytes)
        };
        let layout = |field| Err(Error::Layout(NodeKind::Tree, codec::Error::NotCanonical(field)));
        assert_eq!(patched(1, 1), layout("padding"));
        assert_eq!(patched(7, 0xff), Err(Error::Layout(NodeKind::Tree, codec::Error::TooShort)));
        assert_eq!(patched(4, 0), Err(Error::Layout(NodeKind::Tree, codec::Error::TrailingBytes)));
        assert_eq!(patched(8, 0), layout("type of an entry"));
        assert_eq!(patched(8, 7), layout("type of an entry"));
        assert_eq!(patched(9, 8), layout("flags"));
        assert_eq!(patched(9, flag::SPARSE), layout("flags"));
        assert_eq!(patched(11, b'/'), layout("name"));
        assert_eq!(patched(11, b'.'), layout("name"));
        assert_eq!(patched(13, 0xff), layout("permissions"));
        assert_eq!(patched(23, 0xff), layout("owner's name"));
        for cut in 0..good.len() {
            assert!(decode_entries(&good[..cut]).is_err(), "cut to {cut} bytes");
        }
        assert_eq!(decode_entries(&vec![1; TREE_BYTES_MAX + 1]), Err(Error::Length(NodeKind::Tree)));
    }

    prop_compose! {
        fn any_ref(bytes_max: u32)(id in any::<[u8; 32]>(), length in 1..=bytes_max) -> ChunkRef {
            ChunkRef { id: ChunkId(id), length }
        }
    }

    fn any_kind() -> impl Strategy<Value = EntryKind> {
        let inlined = prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| EntryKind::File {
            size: bytes.len() as u64,
            content: Content::Inline(bytes.into()),
            sparse: None,
        });
        let referred = prop::collection::vec(any_ref(8 << 20), 1..20).prop_map(|refs| EntryKind::File {
            size: refs.iter().map(|reference| u64::from(reference.length)).sum(),
            content: Content::Refs(refs.into()),
            sparse: None,
        });
        let listed = (1_025..1_u64 << 62, 1..=4_u8, any_ref(5 << 18)).prop_map(|(size, depth, reference)| {
            EntryKind::File { size, content: Content::List { depth, reference }, sparse: None }
        });
        let holey = prop::collection::vec((1..9_u64, 1..9_u64), 0..9).prop_map(|gaps| {
            let mut size = 0;
            let mut runs = Vec::new();
            for (hole, length) in gaps {
                runs.push(DataRun { offset: size + hole, length });
                size += hole + length;
            }
            let bytes = runs.iter().map(|run| run.length).sum::<u64>();
            let content = Content::Inline(vec![1; usize::try_from(bytes).unwrap()].into());
            EntryKind::File { size: size + 1, content, sparse: Some(runs.into()) }
        });
        let directory = (0..=4_u8, any_ref(1 << 20))
            .prop_map(|(depth, reference)| EntryKind::Directory { tree: TreeRef { depth, reference } });
        prop_oneof![
            inlined,
            referred,
            listed,
            holey,
            directory,
            prop::collection::vec(1..=255_u8, 1..99)
                .prop_map(|target| EntryKind::Symlink { target: target.into() }),
            Just(EntryKind::Fifo),
            any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
            any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
        ]
    }

    prop_compose! {
        fn any_entry()(
            name in prop::collection::vec(any::<u8>(), 1..=255).prop_filter_map("no name", |bytes| Name::new(&bytes).ok()),
            kind in any_kind(),
            mode in 0..=0o7777_u32,
            (uid, gid) in any::<(u32, u32)>(),
            (user, group) in ("[^\0]{0,20}", "[^\0]{0,20}"),
            (seconds, nanos) in (any::<i64>(), 0..1_000_000_000_u32),
            xattrs in prop::collection::btree_map(prop::collection::vec(1..=255_u8, 1..40), prop::collection::vec(any::<u8>(), 0..40), 0..3),
            link_group in any::<Option<[u8; 16]>>(),
        ) -> Entry {
            Entry {
                name,
                mode,
                owner: Owner { uid, gid, user: user.into(), group: group.into() },
                modified: Time { seconds, nanos },
                xattrs: xattrs.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
                link_group: link_group.filter(|_| !kind.is_directory()),
                kind,
            }
        }
    }

    fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
        prop::collection::vec(any_entry(), 0..6).prop_map(|mut entries| {
            entries.sort_by(|one, other| one.name.cmp(&other.name));
            entries.dedup_by(|one, other| one.name == other.name);
            entries
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(entries in any_entries()) {
            let bytes = encode_entries(&entries).unwrap();
            prop_assert_eq!(decode_entries(&bytes).unwrap(), entries);
        }

        #[test]
        fn whatever_is_decoded_is_what_would_be_encoded(
            entries in any_entries(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = encode_entries(&entries).unwrap();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(decoded) = decode_entries(&bytes) {
                prop_assert_eq!(encode_entries(&decoded).unwrap(), bytes);
            }
        }
    }
}

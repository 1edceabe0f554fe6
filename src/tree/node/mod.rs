//! How directories and long files are laid out as chunks, and how they are read back.
//!
//! Three layouts, each a chunk's whole plaintext; numbers are little-endian. The ids of trees and of
//! lists are made under keys of their own, so neither passes for the other or for a file's bytes.
//!
//! A **tree**, at most 1 MiB: a directory, or a part of one.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 3 | zero |
//! | 4 | 4 | entries |
//! | 8 | | entries, sorted strictly by name |
//!
//! An **entry**:
//!
//! | size | field |
//! |---|---|
//! | 1 | type: 1 file, 2 directory, 3 symbolic link, 4 named pipe, 5 character device, 6 block device |
//! | 1 | flags: 1 has a link group, 2 has extended attributes, 4 is sparse |
//! | 1 + n | name |
//! | 2 | permissions, at most `0o7777` |
//! | 4, 4 | user number, group number |
//! | 1 + n, 1 + n | user name, group name; UTF-8 without a NUL, or empty |
//! | 8, 4 | modified: seconds since 1970 (signed), nanoseconds |
//! | 16 | link group, if flagged |
//! | 2, n x (1 + n, 4 + n) | extended attributes, if flagged: count, names and values, sorted strictly by name |
//! | | what the type needs |
//!
//! A file then has `size u64`; if sparse, `runs u32` and as many `{offset u64, length u64}`; and a byte
//! that says how its content follows: 0, inline: `length u32`, bytes; 1, refs: `count u16`, refs; 2, a
//! list: `depth u8`, ref. A ref is `{id 32, length u32}`. A directory has `depth u8`, ref; a symbolic
//! link `length u16`, target; a device `major u32, minor u32`.
//!
//! A **list**, at most 1.25 MiB and 32,768 rows: what a file is cut into, or the parts of a directory.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | rows are: 1 refs of a file, 2 parts of a directory |
//! | 2 | 1 | depth: 1 over chunks or trees, 2 over lists of depth 1, up to 4 |
//! | 3 | 1 | zero |
//! | 4 | 4 | rows, at least 1; at least 2 in the topmost list |
//! | 8 | | refs; or parts, `{1 + n first name, ref}`, sorted strictly by name |
//!
//! Where a directory or a list is cut depends on what is there and not on what stood before, so a
//! changed name or chunk costs the parts around it and the lists above them.

mod build;
mod entries;
mod list;
mod read;
#[cfg(test)]
mod testing;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::id::ChunkId;
use crate::tree::entry::ChunkRef;
use crate::tree::path::Name;
use std::fmt;

pub use crate::tree::node::build::ListBuilder;
pub use crate::tree::node::build::TreeBuilder;
pub use crate::tree::node::entries::check;
pub use crate::tree::node::entries::decode_entries;
pub use crate::tree::node::entries::encode_entries;
pub use crate::tree::node::list::Part;
pub use crate::tree::node::list::decode_parts;
pub use crate::tree::node::list::decode_refs;
pub use crate::tree::node::list::encode_parts;
pub use crate::tree::node::list::encode_refs;
pub use crate::tree::node::read::EntryReader;
pub use crate::tree::node::read::RefReader;
pub use crate::tree::node::read::find;

/// The longest tree chunk in bytes, 1 MiB: a directory that is longer is cut into parts.
pub const TREE_BYTES_MAX: usize = 1 << 20;

/// The longest list chunk in bytes, 1.25 MiB.
pub const LIST_BYTES_MAX: usize = 5 << 18;

/// How many rows a list can have.
pub const LIST_ROWS_MAX: usize = 32_768;

/// How many lists can lie one beneath the other.
pub const LIST_DEPTH_MAX: u8 = 4;

/// The version of all three layouts.
const VERSION: u8 = 1;

/// What stands before the entries of a tree or the rows of a list.
const HEADER_BYTES: usize = 8;

/// Which of the two layouts a chunk has, and so under which key its id is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NodeKind {
    /// A directory, or a part of one.
    Tree,
    /// A list of refs or of parts.
    List,
}

impl NodeKind {
    /// The longest chunk of this kind in bytes.
    #[must_use]
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Tree => TREE_BYTES_MAX,
            Self::List => LIST_BYTES_MAX,
        }
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tree => "tree",
            Self::List => "list",
        })
    }
}

/// Why something is no tree or list, or can't become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The bytes don't have the layout, or a value isn't one that is ever written.
    Layout(NodeKind, codec::Error),
    /// The version byte is another one.
    Newer(NodeKind, u8),
    /// Names aren't sorted strictly by their bytes.
    Order(NodeKind),
    /// It begins with another name, or has another depth, than what refers to it says.
    Reference(NodeKind),
    /// A chunk has another length than its ref says, or one that no such chunk has.
    Length(NodeKind),
    /// The lengths of a file's chunks don't add up to its content.
    ContentLength,
    /// What is to be laid out doesn't fit into any number of parts or lists.
    TooLarge(NodeKind),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(kind, why) => write!(f, "a {kind} does not have its layout: {why}"),
            Self::Newer(kind, version) => {
                write!(f, "a {kind} has version {version}: made by a newer strongroom")
            }
            Self::Order(kind) => write!(f, "the names in a {kind} are not in order"),
            Self::Reference(kind) => write!(f, "a {kind} is not the one that is referred to"),
            Self::Length(kind) => write!(f, "a {kind} does not have the length that its reference says"),
            Self::ContentLength => write!(f, "the chunks of a file do not add up to its length"),
            Self::TooLarge(kind) => write!(f, "a {kind} would become too large"),
        }
    }
}

impl std::error::Error for Error {}

/// What stops a builder or a reader: the function that it was given, or what it works on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallError<E> {
    /// The function that puts or fetches chunks failed.
    Call(E),
    /// What is to be laid out, or what was fetched, is no tree or list.
    Node(Error),
}

impl<E> From<Error> for CallError<E> {
    fn from(error: Error) -> Self {
        Self::Node(error)
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Node(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call(error) => error.source(),
            Self::Node(_) => None,
        }
    }
}

/// A chunk of a kind is to be stored: gives the ref by which it will be found.
pub trait Put<E>: FnMut(NodeKind, Vec<u8>) -> Result<ChunkRef, E> {}
impl<E, F: FnMut(NodeKind, Vec<u8>) -> Result<ChunkRef, E>> Put<E> for F {}

/// A chunk of a kind is wanted: gives its bytes, already held against its id.
pub trait Fetch<E>: FnMut(NodeKind, &ChunkRef) -> Result<Vec<u8>, E> {}
impl<E, F: FnMut(NodeKind, &ChunkRef) -> Result<Vec<u8>, E>> Fetch<E> for F {}

/// [`ChunkRef::LENGTH_MAX`] as a length in memory.
const CHUNK_BYTES_MAX: usize = 8 << 20;

/// A value that is never written, by its field.
fn refuse<T>(field: &'static str) -> Result<T, codec::Error> {
    Err(codec::Error::NotCanonical(field))
}

/// Holds a condition that `field` has to meet.
fn require(condition: bool, field: &'static str) -> Result<(), codec::Error> {
    if condition { Ok(()) } else { refuse(field) }
}

/// Holds a ref against the lengths that a chunk can have.
fn check_ref(reference: &ChunkRef, bytes_max: usize) -> Result<(), codec::Error> {
    let length = usize::try_from(reference.length).unwrap_or(usize::MAX);
    require(length >= 1 && length <= bytes_max, "length of a chunk")
}

/// What lies at this depth of a directory.
fn node_kind(depth: u8) -> NodeKind {
    if depth == 0 { NodeKind::Tree } else { NodeKind::List }
}

/// Writes bytes behind their length, a `u8`.
fn write_tiny(writer: &mut Writer, bytes: &[u8]) {
    writer.u8(u8::try_from(bytes.len()).expect("names are checked to have at most 255 bytes")).bytes(bytes);
}

/// Reads bytes behind their length, a `u8`.
fn read_tiny<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], codec::Error> {
    let length = usize::from(reader.u8()?);
    reader.bytes(length)
}

/// Reads a name.
fn read_name(reader: &mut Reader<'_>) -> Result<Name, codec::Error> {
    Name::new(read_tiny(reader)?).or_else(|_| refuse("name"))
}

/// Writes a ref.
fn write_ref(writer: &mut Writer, reference: &ChunkRef) {
    writer.bytes(reference.id.as_bytes()).u32(reference.length);
}

/// Reads a ref.
fn read_ref(reader: &mut Reader<'_>) -> Result<ChunkRef, codec::Error> {
    Ok(ChunkRef { id: ChunkId(reader.array()?), length: reader.u32()? })
}

/// Reads the version of a tree or list.
fn start(kind: NodeKind, bytes: &[u8]) -> Result<Reader<'_>, Error> {
    if bytes.len() > kind.bytes_max() {
        return Err(Error::Length(kind));
    }
    let mut reader = Reader::new(bytes);
    match reader.u8() {
        Ok(VERSION) => Ok(reader),
        Ok(version) => Err(Error::Newer(kind, version)),
        Err(why) => Err(Error::Layout(kind, why)),
    }
}

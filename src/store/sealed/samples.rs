//! Sealed files made by hand, for tests to hold others against.

use crate::id::ObjectName;

use super::header;
use super::header::BLOCK_BYTES;
use super::joined::length_of;

/// A member's name and what it holds.
pub(super) type Sample<'a> = (&'a str, &'a [u8]);

pub(super) const GENESIS: Sample<'_> = ("a/0000000000000000-00", b"genesis");
pub(super) const TABLE: Sample<'_> = ("k/00000001-00", b"");
pub(super) const ADMIN_RING: Sample<'_> = ("r/00000001-00.admin", b"");
pub(super) const READ_RING: Sample<'_> = ("r/00000001-00.read", b"");
pub(super) const END: Sample<'_> = ("end", b"the end");

pub(super) fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

/// Members as they stand in a file, headers and padding with them, without the blocks that end it.
pub(super) fn members(members: &[Sample<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (text, content) in members {
        bytes.extend_from_slice(&header::encode(&name(text), length_of(content)).unwrap());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    bytes
}

/// A whole file.
pub(super) fn file(of: &[Sample<'_>]) -> Vec<u8> {
    let mut bytes = members(of);
    bytes.resize(bytes.len() + 2 * BLOCK_BYTES, 0);
    bytes
}

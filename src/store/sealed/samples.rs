//! Sealed files made by hand, for tests to hold others against.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

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

/// A folder, and a name in it.
pub(super) fn new() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.strongroom");
    (folder, path)
}

/// What lies in a folder.
pub(super) fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

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

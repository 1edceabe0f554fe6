//! Tar archives: the one door of the `tar` crate, for export and import.
//!
//! [`mod@write`] makes POSIX pax archives of entries, in the dialect that GNU tar reads back exactly. The
//! crate's `Header` lays out each header; the bytes between are written here, because the crate's
//! `Builder` ends an archive when it is dropped, and one that was broken off must never look whole.
//! [`read`] takes archives apart, ustar, GNU and pax ones and those older than all of them, block by block
//! and by its own rules: the crate's `Archive` splits records at newlines, which values may hold, and then
//! misses a size that comes after one. [`collect`] brings members, which come in any order, into that of
//! trees. Whatever could be read in two ways is an [`Error`].
//!
//! [`pax`] is the text of extended records, [`acl`] that of access lists, [`sparse`] that of holes.

pub mod acl;
pub mod collect;
mod describe;
pub mod error;
pub mod pax;
pub mod read;
pub mod sparse;
pub mod write;

pub use crate::tree::tar::collect::Collected;
pub use crate::tree::tar::error::Error;
pub use crate::tree::tar::error::Why;
pub use crate::tree::tar::read::Member;
pub use crate::tree::tar::read::TarReader;
pub use crate::tree::tar::read::What;
pub use crate::tree::tar::write::TarWriter;

/// The unit of an archive: headers are one block, and contents are padded to whole ones.
pub const BLOCK_BYTES: usize = 512;

/// What a padded block or field is filled with.
static ZEROS: [u8; 20 * BLOCK_BYTES] = [0; 20 * BLOCK_BYTES];

/// How many zeros follow `bytes` to fill the last block.
fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64) - bytes
}

/// The largest number of eleven octal digits: sizes and times.
const LARGE_NUMBER_MAX: u64 = 0o777_7777_7777;

/// The attributes that are access lists, and the keywords of their texts.
const ACCESS_LISTS: [(&[u8], &[u8]); 2] = [
    (b"system.posix_acl_access", keyword::ACCESS_LIST),
    (b"system.posix_acl_default", keyword::DEFAULT_LIST),
];

/// The pax keywords that entries are written and read with.
mod keyword {
    pub const PATH: &[u8] = b"path";
    pub const LINK_PATH: &[u8] = b"linkpath";
    pub const SIZE: &[u8] = b"size";
    pub const UID: &[u8] = b"uid";
    pub const GID: &[u8] = b"gid";
    pub const USER: &[u8] = b"uname";
    pub const GROUP: &[u8] = b"gname";
    pub const MODIFIED: &[u8] = b"mtime";
    /// Before the name of an extended attribute.
    pub const XATTR: &[u8] = b"SCHILY.xattr.";
    pub const ACCESS_LIST: &[u8] = b"SCHILY.acl.access";
    pub const DEFAULT_LIST: &[u8] = b"SCHILY.acl.default";
    pub const SPARSE_MAJOR: &[u8] = b"GNU.sparse.major";
    pub const SPARSE_MINOR: &[u8] = b"GNU.sparse.minor";
    pub const SPARSE_NAME: &[u8] = b"GNU.sparse.name";
    pub const SPARSE_SIZE: &[u8] = b"GNU.sparse.realsize";
    /// Before every keyword about holes.
    pub const SPARSE: &[u8] = b"GNU.sparse.";
    /// Size, runs and map in the forms 0.0 and 0.1.
    pub const SPARSE_OLD_SIZE: &[u8] = b"GNU.sparse.size";
    pub const SPARSE_OFFSET: &[u8] = b"GNU.sparse.offset";
    pub const SPARSE_LENGTH: &[u8] = b"GNU.sparse.numbytes";
    pub const SPARSE_MAP: &[u8] = b"GNU.sparse.map";
}

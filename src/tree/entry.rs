//! What a directory holds: one [`Entry`] a name, with all that is kept about it.
//!
//! These are plain values. Their byte layout, and what makes one canonical, is in
//! [`node`](crate::tree::node).

use crate::id::ChunkId;
use crate::tree::path::Name;
use std::sync::Arc;

/// A chunk and how many bytes it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkRef {
    /// The chunk's keyed digest.
    pub id: ChunkId,
    /// The chunk's length in bytes, 1 to [`ChunkRef::LENGTH_MAX`].
    pub length: u32,
}

impl ChunkRef {
    /// The longest chunk that can be referred to, 8 MiB: the longest block of a pack.
    pub const LENGTH_MAX: u32 = 8 << 20;
}

/// The name of an extended attribute, 1 to 255 bytes without a NUL, and its value.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// A name in a directory and all that is kept about what it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name in its directory.
    pub name: Name,
    /// What it is, and its contents.
    pub kind: EntryKind,
    /// Its permissions, with setuid, setgid and sticky: the bits `0o7777`.
    pub mode: u32,
    /// Whom it belongs to.
    pub owner: Owner,
    /// When its contents were last changed.
    pub modified: Time,
    /// Extended attributes: names and values, sorted strictly by name.
    ///
    /// Access lists and capabilities are among them as the kernel gives them
    /// (`system.posix_acl_access`, `system.posix_acl_default`, `security.capability`).
    pub xattrs: Vec<Xattr>,
    /// What all names of one hard-linked inode have in common; every one of them carries the content.
    ///
    /// Present only if the inode has several names; never on a directory.
    pub link_group: Option<[u8; 16]>,
}

impl Entry {
    /// How many bytes the names and values of all extended attributes of one entry may have, 512 KiB:
    /// far more than most file systems can hold, and little enough for an entry to fit into a tree.
    pub const XATTR_BYTES_MAX: usize = 512 << 10;
}

/// What an entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its length in bytes, holes included.
        size: u64,
        /// Its bytes, or where they are: all `size` of them, or those of `sparse` alone.
        content: Content,
        /// The runs that hold data, if the file has holes; `content` is their bytes one after the
        /// other, and everything between them is zero. `None` if the file has no holes; no runs at
        /// all if it is one hole.
        ///
        /// Runs are sorted, not empty, don't touch, end within `size` and don't fill it.
        sparse: Option<Box<[DataRun]>>,
    },
    /// A directory.
    Directory {
        /// Where its entries are.
        tree: TreeRef,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to: 1 to 4,095 bytes without a NUL, followed by nobody.
        target: Box<[u8]>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// The driver.
        major: u32,
        /// The device of that driver.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver.
        major: u32,
        /// The device of that driver.
        minor: u32,
    },
}

impl EntryKind {
    /// How many bytes its content has: a file's size less its holes, 0 for anything but a file.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        match self {
            Self::File { sparse: Some(runs), .. } => {
                runs.iter().fold(0, |bytes, run| run.length.saturating_add(bytes))
            }
            Self::File { size, .. } => *size,
            _ => 0,
        }
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

/// A stretch of a sparse file that holds data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataRun {
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// How many bytes it has, at least 1.
    pub length: u64,
}

impl DataRun {
    /// How many runs a file may have; of one with more, the shortest holes are kept as zeros.
    pub const COUNT_MAX: usize = 4_096;

    /// The first byte after it, if there is such a number.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.length)
    }
}

/// The bytes of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// The bytes themselves; always for an empty file.
    Inline(Box<[u8]>),
    /// The chunks that the bytes are cut into: 1 to 1,024 of them.
    Refs(Box<[ChunkRef]>),
    /// More chunks than that: a list of them (depth 1), a list of such lists (depth 2), up to 4.
    List {
        /// How many lists lie one beneath the other, 1 to 4.
        depth: u8,
        /// The topmost list.
        reference: ChunkRef,
    },
}

impl Content {
    /// How many bytes can stand in an entry itself, 64 KiB.
    pub const INLINE_BYTES_MAX: usize = 64 << 10;

    /// How many refs can stand in an entry itself.
    pub const REFS_MAX: usize = 1_024;
}

/// Where a directory's entries are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeRef {
    /// 0: `reference` is the tree itself; 1 to 4: it is a list of the tree's parts, of such lists, ...
    pub depth: u8,
    /// The tree, or the topmost list.
    pub reference: ChunkRef,
}

/// Whom an entry belongs to, by number and, where the machine knew one, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The user's name, at most 255 bytes; empty if the number had none.
    pub user: Arc<str>,
    /// The group's name, at most 255 bytes; empty if the number had none.
    pub group: Arc<str>,
}

/// An instant: seconds since 1970 in UTC, which may lie before, and nanoseconds after them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Time {
    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanos: u32,
}

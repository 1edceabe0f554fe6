//! Members of an archive, which come in any order, brought into the order of trees.

use std::collections::BTreeMap;
use std::collections::btree_map;

use crate::id::ChunkId;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::node;
use crate::tree::path::Name;
use crate::tree::path::TreePath;
use crate::tree::tar::error::Error;
use crate::tree::tar::error::Why;

/// How deep members may lie: what a walk takes too, and a tree's reader holds for.
pub const DEPTH_MAX: usize = 4_096;

/// How long a path may be, in bytes: the paths of all directories that lead to it are held.
pub const PATH_BYTES_MAX: usize = 16 * DEPTH_MAX;

/// How many bytes all entries may take: three million files of a usual kind, or chunks of 900 GB.
pub const BYTES_MAX: usize = 1 << 30;

/// What an entry takes in memory beside what its kind and its path add, about.
const ENTRY_BYTES: usize = size_of::<Entry>() + 64;

/// The permissions of a directory that an archive names only as a part of paths.
const IMPLIED_MODE: u32 = 0o755;

/// A directory's entries before they are laid out.
pub const NO_TREE: TreeRef = TreeRef { depth: 0, reference: ChunkRef { id: ChunkId([0; 32]), length: 1 } };

/// Members by their paths; each a path once, and none below anything but a directory.
///
/// A directory that only paths speak of gets the owner and time of the member that did so first.
#[derive(Default)]
pub struct Collected {
    /// By path, with NULs for slashes: in the order of bytes every directory then stands right before
    /// what is in it, and names within one in theirs.
    entries: BTreeMap<Box<[u8]>, Held>,
    bytes: usize,
}

struct Held {
    entry: Entry,
    is_implied: bool,
}

impl Collected {
    /// No members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member; its entry has the last name of `path`.
    ///
    /// # Errors
    /// [`Error::Refused`] if `path` is there, lies below something that is no directory or too deep, or
    /// if a snapshot can't keep the entry; [`Error::TooMuch`] beyond [`BYTES_MAX`].
    pub fn add(&mut self, path: &TreePath, entry: Entry) -> Result<(), Error> {
        let refused = |why| Error::Refused { name: path.as_bytes().into(), why };
        node::check(&entry).map_err(|why| refused(Why::Kept(why)))?;
        if path.as_bytes().len() > PATH_BYTES_MAX {
            return Err(refused(Why::Long));
        }
        if path.components().count() > DEPTH_MAX {
            return Err(refused(Why::Deep));
        }
        self.add_parents(path, &entry).map_err(refused)?;
        self.bytes = self.bytes.saturating_add(held_bytes(path, &entry));
        if self.bytes > BYTES_MAX {
            return Err(Error::TooMuch);
        }
        match self.entries.entry(key(path)) {
            btree_map::Entry::Vacant(place) => {
                place.insert(Held { entry, is_implied: false });
            }
            btree_map::Entry::Occupied(mut place) => {
                let held = place.get_mut();
                if !held.is_implied || !entry.kind.is_directory() {
                    return Err(refused(Why::Twice));
                }
                *held = Held { entry, is_implied: false };
            }
        }
        Ok(())
    }

    /// Adds a further name of the member at `target`; `group` makes of the path of a member's first name
    /// what all its names shall have in common. Returns the entry that it is.
    ///
    /// # Errors
    /// As [`Collected::add`]; [`Why::LinkTarget`] if there is no such member yet, or it is a directory.
    pub fn link(
        &mut self,
        path: &TreePath,
        target: &TreePath,
        group: impl FnOnce(&TreePath) -> [u8; 16],
    ) -> Result<&Entry, Error> {
        let refused = |why| Error::Refused { name: path.as_bytes().into(), why };
        let no_target = || refused(Why::LinkTarget(target.as_bytes().into()));
        let first = self.entries.get_mut(&key(target)).ok_or_else(no_target)?;
        if first.entry.kind.is_directory() {
            return Err(no_target());
        }
        first.entry.link_group.get_or_insert_with(|| group(target));
        let name = path.last().ok_or_else(|| refused(Why::Root))?;
        let entry = Entry { name, ..first.entry.clone() };
        self.add(path, entry)?;
        Ok(&self.entries[&key(path)].entry)
    }

    /// Each entry with its depth, 0 for what lies in the root: directories right before what is in them.
    pub fn into_entries(self) -> impl Iterator<Item = (usize, Entry)> {
        self.entries.into_iter().map(|(key, held)| {
            let depth = key.iter().filter(|byte| **byte == 0).count();
            (depth, held.entry)
        })
    }

    /// Adds the directories that lead to `path` and that nothing was said of yet.
    fn add_parents(&mut self, path: &TreePath, below: &Entry) -> Result<(), Why> {
        let mut missing: Vec<TreePath> = Vec::new();
        let mut parent = path.parent();
        while let Some(directory) = parent.filter(|parent| !parent.is_root()) {
            match self.entries.get(&key(&directory)) {
                Some(held) if held.entry.kind.is_directory() => break,
                Some(_) => return Err(Why::Below),
                None => {}
            }
            parent = directory.parent();
            missing.push(directory);
        }
        for directory in missing {
            if let Some(name) = directory.last() {
                let entry = implied(name, below);
                self.bytes = self.bytes.saturating_add(held_bytes(&directory, &entry));
                self.entries.insert(key(&directory), Held { entry, is_implied: true });
            }
        }
        Ok(())
    }
}

fn implied(name: Name, below: &Entry) -> Entry {
    Entry {
        name,
        kind: EntryKind::Directory { tree: NO_TREE },
        mode: IMPLIED_MODE,
        owner: below.owner.clone(),
        modified: below.modified,
        xattrs: Vec::new(),
        link_group: None,
    }
}

fn key(path: &TreePath) -> Box<[u8]> {
    path.as_bytes().iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

/// What a member takes in memory, about.
fn held_bytes(path: &TreePath, entry: &Entry) -> usize {
    let of_kind = match &entry.kind {
        EntryKind::File { content, sparse, .. } => {
            let runs = sparse.as_deref().map_or(0, size_of_val);
            runs + match content {
                Content::Inline(bytes) => bytes.len(),
                Content::Refs(refs) => size_of_val::<[ChunkRef]>(refs),
                Content::List { .. } => 0,
            }
        }
        EntryKind::Symlink { target } => target.len(),
        _ => 0,
    };
    let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    ENTRY_BYTES + path.as_bytes().len() + entry.name.as_bytes().len() + of_kind + xattrs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Owner;
    use crate::tree::entry::Time;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    fn entry(at: &str, kind: EntryKind) -> Entry {
        let owner = Owner { uid: 1, gid: 2, user: "anna".into(), group: "staff".into() };
        let modified = Time { seconds: 5, nanos: 0 };
        let name = path(at).last().unwrap();
        Entry { name, kind, mode: 0o640, owner, modified, xattrs: Vec::new(), link_group: None }
    }

    fn add(collected: &mut Collected, at: &str, kind: EntryKind) -> Result<(), String> {
        collected.add(&path(at), entry(at, kind)).map_err(|error| error.to_string())
    }

    fn directory() -> EntryKind {
        EntryKind::Directory { tree: NO_TREE }
    }

    fn names(collected: Collected) -> Vec<String> {
        let name = |(depth, entry): (usize, Entry)| format!("{depth} {} {:o}", entry.name, entry.mode);
        collected.into_entries().map(name).collect()
    }

    #[test]
    fn members_come_out_in_the_order_of_trees() {
        let mut collected = Collected::new();
        for at in ["a/b/c", "a-b", "a/d", "z", "a/b!"] {
            add(&mut collected, at, EntryKind::Fifo).unwrap();
        }
        add(&mut collected, "a", directory()).unwrap();
        let expected = ["0 a 640", "1 b 755", "2 c 640", "1 b! 640", "1 d 640", "0 a-b 640", "0 z 640"];
        assert_eq!(names(collected), expected);
    }

    #[test]
    fn what_could_be_meant_in_two_ways_is_refused() {
        let mut collected = Collected::new();
        for (at, kind) in [("file", EntryKind::Fifo), ("folder", directory()), ("deep/file", EntryKind::Fifo)]
        {
            add(&mut collected, at, kind).unwrap();
        }
        let twice = |at: &str| format!("{at} in the archive is there twice");
        let below = |at: &str| format!("{at} in the archive lies below something that is no directory");
        for (at, kind, message) in [
            ("file", EntryKind::Fifo, twice("file")),
            ("folder", directory(), twice("folder")),
            ("folder", EntryKind::Fifo, twice("folder")),
            ("file", directory(), twice("file")),
            ("deep", EntryKind::Fifo, twice("deep")),
            ("file/x", EntryKind::Fifo, below("file/x")),
            ("file/x/y", EntryKind::Fifo, below("file/x/y")),
        ] {
            assert_eq!(add(&mut collected, at, kind), Err(message));
        }
        let deep = vec!["d"; DEPTH_MAX + 1].join("/");
        assert!(add(&mut collected, &deep, EntryKind::Fifo).unwrap_err().ends_with("directories deep"));
    }

    #[test]
    fn a_hard_link_is_a_further_name_of_a_file_before_it() {
        let mut collected = Collected::new();
        add(&mut collected, "a/one", EntryKind::Fifo).unwrap();
        add(&mut collected, "folder", directory()).unwrap();
        let link = |collected: &mut Collected, at: &str, target: &str| {
            let linked = collected.link(&path(at), &path(target), |_| [7; 16]);
            linked.cloned().map_err(|error| error.to_string())
        };
        let two = link(&mut collected, "two", "a/one").unwrap();
        let three = link(&mut collected, "three", "two").unwrap();
        assert_eq!((two.link_group, three.link_group), (Some([7; 16]), Some([7; 16])));
        for (at, target) in [("four", "five"), ("four", "folder"), ("four", "four"), ("four", "a")] {
            let message =
                format!("four in the archive is a hard link to {target}, which is no file before it");
            assert_eq!(link(&mut collected, at, target), Err(message));
        }
        let groups: Vec<_> = collected.into_entries().map(|(_, entry)| entry.link_group.is_some()).collect();
        assert_eq!(groups, [false, true, false, true, true]);
    }
}

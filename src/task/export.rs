//! A snapshot, or a part of one, as a tar archive.
//!
//! ```text
//! walk -> windows of chunks, fetched and checked on all threads -> tar::TarWriter -> out
//! ```
//!
//! One thread goes through the tree and gathers what comes next, across files, until a window is full;
//! its chunks are then read at once, each block of a pack a single time. The caller's thread writes one
//! window while the next is read. Nothing is written that wasn't checked before; and where something is
//! damaged the archive breaks off in a way that no reader takes for an end.

use std::collections::HashMap;
use std::collections::hash_map;
use std::io::Write;
use std::sync::mpsc;
use std::thread;

use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::task::browse;
use crate::task::browse::At;
use crate::task::browse::Step;
use crate::task::browse::WINDOW_BYTES;
use crate::task::browse::WINDOWS_WAITING;
use crate::task::browse::Walk;
use crate::task::browse::entry_at;
use crate::task::error::Error;
use crate::tree::entry::ChunkRef;
use crate::tree::entry::Content;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::Xattr;
use crate::tree::node::NodeKind;
use crate::tree::node::RefReader;
use crate::tree::path::TreePath;
use crate::tree::tar::TarWriter;
use crate::vault::read::SnapshotReader;

/// What an entry without attributes or content takes in memory, about: so that a window of a million
/// links is no larger than one of data.
const ENTRY_BYTES: usize = 512;

/// What an archive holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Summary {
    /// Files, each name of a hard-linked one counted.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links, FIFOs and devices.
    pub others: u64,
    /// How many of all these are further names of an entry before them.
    pub hard_links: u64,
    /// The sizes of all files, those of further names left out.
    pub bytes: u64,
}

/// Writes what stands at `from` in a snapshot, and all below it, to `out` as a tar archive.
///
/// Paths in the archive are relative, and begin with the last name of `from`; all of a snapshot begins
/// with the names below its root. Holds twice `WINDOW_BYTES` of chunks, as much of each directory on
/// the way down as any walk does, and the path of the first name of every hard-linked file.
///
/// # Errors
/// As [`entry_at`]; [`Error::Vault`] or [`Error::Node`] for what is damaged, [`Error::Output`] if `out`
/// fails, [`Error::Interrupted`]: every reader sees then that the archive was cut short.
pub fn export(
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    out: &mut dyn Write,
    observer: &dyn Observer,
) -> Result<Summary, Error> {
    observer.event(&Event::Phase(Phase::Exporting));
    if from.is_root() {
        let counts = &reader.body().counts;
        let items = counts.files + counts.directories + counts.others;
        observer.event(&Event::Total { items, bytes: counts.bytes });
    }
    let at = entry_at(reader, from)?;
    let mut tar = TarWriter::new(out);
    let mut summary = Summary::default();
    let written = thread::scope(|scope| {
        let (sender, windows) = mpsc::sync_channel(WINDOWS_WAITING);
        let gatherer = Gatherer { reader, observer, windows: sender, window: Window::default(), filled: 0 };
        let gathering = scope.spawn(move || gatherer.gather(from, at));
        for window in windows {
            write(&mut tar, window, &mut summary, observer)?;
        }
        gathering.join().expect("the gathering thread returns its errors and never panics")
    });
    match written {
        Ok(()) => tar.finish().map_err(Error::Output)?,
        Err(error) => {
            // If that can't be written either, the archive is cut short all the same.
            let _ = tar.break_off();
            return Err(error);
        }
    }
    Ok(summary)
}

/// Something to write next.
enum Piece {
    /// An entry, at this path in the archive.
    Entry(TreePath, Box<Entry>),
    /// A further name of the entry that was written at the second path.
    HardLink(TreePath, Box<Entry>, TreePath),
    /// The next chunk of the entry before.
    Chunk,
}

/// Pieces in order, and the chunks among them.
#[derive(Default)]
struct Window {
    pieces: Vec<Piece>,
    wanted: Vec<ChunkRef>,
    chunks: Vec<Vec<u8>>,
}

/// Goes through the tree ahead of the writer.
struct Gatherer<'r, 'v> {
    reader: &'r SnapshotReader<'v>,
    observer: &'r dyn Observer,
    windows: mpsc::SyncSender<Window>,
    window: Window,
    /// About how many bytes the window has.
    filled: usize,
}

impl Gatherer<'_, '_> {
    fn gather(mut self, from: &TreePath, at: At) -> Result<(), Error> {
        let mut first_names = HashMap::new();
        // Where it lies in the archive.
        let from = from.last().map_or_else(TreePath::root, |name| TreePath::root().join(&name));
        let (tree, entry) = match at {
            At::Root(tree) => (tree, None),
            At::Entry(entry) => {
                self.entry(from.clone(), entry.clone(), &mut first_names)?;
                match entry.kind {
                    EntryKind::Directory { tree } => (tree, Some(entry)),
                    _ => return self.send(),
                }
            }
        };
        let mut walk = Walk::new(self.reader, from, tree, entry, ());
        while let Some(step) = walk.step() {
            match step {
                Step::Entry(entry) => {
                    let path = walk.path().join(&entry.name);
                    self.entry(path, entry.clone(), &mut first_names)?;
                    walk.enter(entry, ());
                }
                Step::Damaged(error) => return Err(error),
                Step::Leave { .. } => {}
            }
        }
        self.send()
    }

    /// Adds an entry and its content.
    fn entry(
        &mut self,
        path: TreePath,
        entry: Entry,
        first_names: &mut HashMap<[u8; 16], TreePath>,
    ) -> Result<(), Error> {
        self.filled += ENTRY_BYTES + path.as_bytes().len() + held_bytes(&entry);
        if let Some(group) = entry.link_group {
            match first_names.entry(group) {
                hash_map::Entry::Occupied(first) => {
                    let target = first.get().clone();
                    self.window.pieces.push(Piece::HardLink(path, Box::new(entry), target));
                    return self.send_if_full();
                }
                hash_map::Entry::Vacant(first) => {
                    first.insert(path.clone());
                }
            }
        }
        let content = match &entry.kind {
            EntryKind::File { content, .. } => content.clone(),
            _ => Content::Inline(Box::default()),
        };
        let content_bytes = entry.kind.content_bytes();
        self.window.pieces.push(Piece::Entry(path, Box::new(entry)));
        let reader = self.reader;
        let fetch_list = |kind: NodeKind, wanted: &ChunkRef| reader.node(kind, wanted);
        for chunk in RefReader::new(&content, content_bytes, fetch_list) {
            let chunk = chunk?;
            self.filled += chunk.length as usize;
            self.window.pieces.push(Piece::Chunk);
            self.window.wanted.push(chunk);
            self.send_if_full()?;
        }
        self.send_if_full()
    }

    fn send_if_full(&mut self) -> Result<(), Error> {
        if self.filled >= WINDOW_BYTES { self.send() } else { Ok(()) }
    }

    /// Reads the chunks of the window and hands it on. If nobody takes it, the writer has an error to tell.
    fn send(&mut self) -> Result<(), Error> {
        if self.observer.interrupted() {
            return Err(Error::Interrupted);
        }
        self.filled = 0;
        let mut window = std::mem::take(&mut self.window);
        window.chunks = browse::fetch(self.reader, &window.wanted)?;
        self.windows.send(window).map_err(|_| Error::Interrupted)
    }
}

/// What an entry holds beside its fixed fields, in bytes.
fn held_bytes(entry: &Entry) -> usize {
    let attribute_bytes = |(name, value): &Xattr| name.len() + value.len();
    let inline = match &entry.kind {
        EntryKind::File { content: Content::Inline(bytes), .. } => bytes.len(),
        EntryKind::File { content: Content::Refs(refs), .. } => size_of_val::<[ChunkRef]>(refs),
        EntryKind::Symlink { target } => target.len(),
        _ => 0,
    };
    inline + entry.xattrs.iter().map(attribute_bytes).sum::<usize>()
}

fn write(
    tar: &mut TarWriter<&mut dyn Write>,
    window: Window,
    summary: &mut Summary,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let mut chunks = window.chunks.iter();
    for piece in &window.pieces {
        match piece {
            Piece::Entry(path, entry) => {
                observer.event(&Event::Entry(path.as_bytes()));
                write_entry(tar, path, entry)?;
                summary.count(entry, false);
                observer.event(&Event::Progress { items: 1, bytes: 0 });
            }
            Piece::HardLink(path, entry, target) => {
                tar.hard_link(path.as_bytes(), entry, target.as_bytes()).map_err(Error::Output)?;
                summary.count(entry, true);
                observer.event(&Event::Progress { items: 1, bytes: 0 });
            }
            Piece::Chunk => {
                let chunk = chunks.next().expect("a window has a chunk for each piece that is one");
                tar.content(chunk).map_err(Error::Output)?;
                observer.event(&Event::Progress { items: 0, bytes: chunk.len() as u64 });
            }
        }
    }
    Ok(())
}

/// Writes an entry, and its content if it stands in it.
fn write_entry(tar: &mut TarWriter<&mut dyn Write>, path: &TreePath, entry: &Entry) -> Result<(), Error> {
    tar.entry(path.as_bytes(), entry).map_err(Error::Output)?;
    match &entry.kind {
        EntryKind::File { content: Content::Inline(bytes), .. } => tar.content(bytes).map_err(Error::Output),
        _ => Ok(()),
    }
}

impl Summary {
    fn count(&mut self, entry: &Entry, is_further_name: bool) {
        match entry.kind {
            EntryKind::File { size, .. } => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(if is_further_name { 0 } else { size });
            }
            EntryKind::Directory { .. } => self.directories += 1,
            _ => self.others += 1,
        }
        self.hard_links += u64::from(is_further_name);
    }
}

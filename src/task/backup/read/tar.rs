//! The members of a tar archive, which become a snapshot.
//!
//! Contents are cut and handed on as they come. Entries come in any order, and wait until all are there:
//! trees are laid out of them at the end. So nothing of an archive that is refused is in a snapshot,
//! however late in it what is wrong stands.

use std::io::Read;

use crate::observe::Event;
use crate::pack::packer::ChunkKind;
use crate::task::backup::read::INLINE_BYTES_MAX;
use crate::task::backup::read::Listing;
use crate::task::backup::read::SMALL_FILE_BYTES;
use crate::task::backup::read::Tree;
use crate::task::backup::read::Walker;
use crate::task::backup::read::content::FileContent;
use crate::task::backup::read::outlet::reference;
use crate::task::error::Error;
use crate::tree::entry::Content;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::entry::TreeRef;
use crate::tree::node::TreeBuilder;
use crate::tree::path::TreePath;
use crate::tree::tar::Collected;
use crate::tree::tar::Member;
use crate::tree::tar::TarReader;
use crate::tree::tar::What;

type Archive<'r> = TarReader<&'r mut dyn Read>;

impl<'a> Walker<'a> {
    /// Makes a snapshot of what a tar archive holds.
    ///
    /// # Errors
    /// [`Error::Archive`] if it isn't taken; [`Error::Interrupted`].
    pub fn tar(mut self, bytes: &mut dyn Read) -> Result<Listing, Error> {
        let mut archive = TarReader::new(bytes);
        let mut collected = Collected::new();
        while let Some(member) = archive.next_member()? {
            if self.observer.interrupted() {
                return Err(self.interrupted());
            }
            self.observer.event(&Event::Entry(member.path.as_bytes()));
            if let Some(lost) = &member.lost {
                self.report(&member.path, lost.clone());
            }
            // A snapshot's root has neither owner nor time.
            if !member.path.is_root() {
                self.collect(&mut collected, &mut archive, member)?;
            }
        }
        let root = self.trees(collected)?;
        self.outlet.finish()?;
        self.counts.bytes_new = self.outlet.bytes_new;
        self.sources.update(&root.reference.id.0);
        let sources = self.sources.finish();
        Ok(Listing { root, counts: self.counts, errors: self.errors, sources, files_known: 0 })
    }

    /// Keeps a member for later, and hands its content on.
    fn collect(
        &mut self,
        collected: &mut Collected,
        archive: &mut Archive<'_>,
        member: Member,
    ) -> Result<(), Error> {
        let kind = match member.what {
            What::HardLink { target } => {
                let namer = self.outlet.namer;
                let group = |first: &TreePath| namer.local_hash(b"link", first.as_bytes());
                let kind = collected.link(&member.path, &target, group)?.kind.clone();
                self.count(&kind);
                return Ok(());
            }
            What::File { size, sparse } => {
                let content = self.member_content(archive)?;
                EntryKind::File { size, content, sparse }
            }
            What::Other(kind) => kind,
        };
        self.count(&kind);
        let Some(name) = member.path.last() else { return Ok(()) };
        let Member { path, mode, owner, modified, xattrs, .. } = member;
        collected.add(&path, Entry { name, kind, mode, owner, modified, xattrs, link_group: None })?;
        Ok(())
    }

    /// Cuts the content of the member at hand.
    fn member_content(&mut self, archive: &mut Archive<'_>) -> Result<Content, Error> {
        let bytes = archive.content_bytes();
        let content = if bytes <= SMALL_FILE_BYTES {
            self.small_content(archive, bytes)?
        } else {
            let mut failure = None;
            let mut read = |buffer: &mut [u8]| archive.read(buffer).map_err(|error| failure = Some(error));
            let content = self.pieces(&mut read, bytes)?;
            failure.map_or(Ok(content), |error| Err(Error::Archive(error)))?
        };
        match content.inline {
            Some(bytes) => Ok(Content::Inline(bytes)),
            None => self.outlet.content(&content.refs),
        }
    }

    /// The same for one that is read whole.
    fn small_content(&mut self, archive: &mut Archive<'_>, bytes: u64) -> Result<FileContent, Error> {
        let mut content = vec![0; usize::try_from(bytes).expect("a small file fits into memory")];
        let mut filled = 0;
        while filled < content.len() {
            filled += archive.read(&mut content[filled..])?;
        }
        self.observer.event(&Event::Progress { items: 0, bytes });
        if content.len() <= INLINE_BYTES_MAX {
            return Ok(FileContent { refs: Vec::new(), inline: Some(content.into()) });
        }
        let mut refs = Vec::new();
        let mut rest = &content[..];
        while let Some(length) = self.cutter.next(rest, true) {
            let (chunk, after) = rest.split_at(length);
            let id = self.outlet.namer.name(ChunkKind::Data, chunk);
            self.outlet.take(ChunkKind::Data, id, chunk)?;
            refs.push(reference(id, length));
            rest = after;
        }
        Ok(FileContent { refs, inline: None })
    }

    fn count(&mut self, kind: &EntryKind) {
        match kind {
            EntryKind::File { size, .. } => {
                self.counts.files += 1;
                self.counts.files_new += 1;
                self.counts.bytes = self.counts.bytes.saturating_add(*size);
                self.observer.event(&Event::Progress { items: 1, bytes: 0 });
            }
            EntryKind::Directory { .. } => {}
            _ => self.counts.others += 1,
        }
    }

    /// Lays trees out of all entries, each directory's once all of it is there.
    fn trees(&mut self, collected: Collected) -> Result<TreeRef, Error> {
        let namer = self.outlet.namer;
        let tree = || -> Tree<'a> { TreeBuilder::new(Box::new(|name: &[u8]| namer.cut_hash(name))) };
        let mut root = tree();
        let mut open: Vec<(Entry, Tree<'a>)> = Vec::new();
        for (depth, entry) in collected.into_entries() {
            while open.len() > depth {
                self.close(&mut root, &mut open)?;
            }
            if entry.kind.is_directory() {
                open.push((entry, tree()));
            } else {
                let here = open.last_mut().map_or(&mut root, |(_, tree)| tree);
                here.add(&entry, &mut |kind, bytes: Vec<u8>| self.outlet.node(kind, &bytes))?;
            }
        }
        while !open.is_empty() {
            self.close(&mut root, &mut open)?;
        }
        Ok(root.finish(&mut |kind, bytes: Vec<u8>| self.outlet.node(kind, &bytes))?)
    }

    /// Ends the directory that was opened last, and adds it to the one that it is in.
    fn close(&mut self, root: &mut Tree<'a>, open: &mut Vec<(Entry, Tree<'a>)>) -> Result<(), Error> {
        let Some((mut entry, done)) = open.pop() else { return Ok(()) };
        let mut put = |kind, bytes: Vec<u8>| self.outlet.node(kind, &bytes);
        let tree = done.finish(&mut put)?;
        entry.kind = EntryKind::Directory { tree };
        let above = open.last_mut().map_or(root, |(_, tree)| tree);
        above.add(&entry, &mut put)?;
        self.counts.directories += 1;
        Ok(())
    }
}

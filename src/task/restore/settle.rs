//! Settling: what has to wait until every file is there.

use std::collections::HashSet;
use std::sync::Arc;

use crate::observe::Event;
use crate::task::browse::Step;
use crate::task::restore::Around;
use crate::task::restore::Restoration;
use crate::task::restore::Start;
use crate::task::restore::add;
use crate::task::restore::batch::Batch;
use crate::task::restore::batch::Open;
use crate::task::restore::batch::Sink;
use crate::task::restore::lock;
use crate::task::restore::size_of;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::filter::Choice;
use crate::tree::path::TreePath;
use crate::tree::place::Outcome;

impl<'t> Restoration<'_, '_, 't> {
    /// Walks once more, and does all that has to wait until every file is there.
    pub(super) fn settle(&self, start: &Start, unreachable: &HashSet<TreePath>) {
        if let Start::Other(entry) = start {
            self.settle_entry(&Arc::new(TreePath::root()), entry);
        }
        let mut walk = self.walk(start);
        let mut here = Arc::new(TreePath::root());
        while let (Some(walk), false) = (walk.as_mut(), self.stops()) {
            let Some(step) = walk.step() else { break };
            match step {
                // It was told when files were planned.
                Step::Damaged(_) => walk.state().damaged = true,
                Step::Leave { path, entry, state } => {
                    let is_wanted = self.settle_directory(&path, entry.as_ref(), &state);
                    if is_wanted && !path.is_root() {
                        walk.state().wanted = true;
                    }
                }
                Step::Entry(entry) => {
                    let path = walk.path().join(&entry.name);
                    let choice = self.decide(walk, &path, &entry);
                    if self.target.removes_extra() {
                        walk.state().names.push(entry.name.clone());
                    }
                    if choice == Choice::Skip || unreachable.contains(&path) {
                        continue;
                    }
                    if entry.kind.is_directory() {
                        walk.enter(entry, Around::new(choice));
                    } else if !unreachable.contains(walk.path()) {
                        walk.state().wanted = true;
                        if *here != *walk.path() {
                            here = Arc::new(walk.path().clone());
                        }
                        self.settle_entry(&here, &entry);
                    }
                }
            }
        }
    }

    /// Deletes what is extra in a directory and gives it its metadata; whether it had to be there.
    fn settle_directory(&self, path: &TreePath, entry: Option<&Entry>, state: &Around) -> bool {
        if state.choice == Choice::Take && !state.damaged {
            // In a damaged directory nobody knows what is extra.
            let removed = self.target.remove_extra(path, &state.names, |path| {
                self.observer.event(&Event::Entry(self.shown(path).as_bytes()));
            });
            match removed {
                Ok(removed) if self.options.policy.delete => add(&self.counters.removed, removed.entries),
                // Of the run before, or of whoever put it beside what that had restored.
                Ok(_) => {}
                Err(error) => self.tell_problem(path, error),
            }
        }
        // A directory that the person made, or stands in, keeps its own mode and owner.
        let is_ours = !path.is_root() || self.target.staging_path().is_some();
        if let Some(entry) = entry.filter(|_| state.wanted && is_ours) {
            match self.target.finish_directory(path, entry) {
                Ok(()) => add(&self.counters.directories, 1),
                Err(error) => self.tell_problem(path, error),
            }
        }
        state.wanted
    }

    /// Places what is no file and no directory, and further names of files.
    fn settle_entry(&self, directory: &Arc<TreePath>, entry: &Entry) {
        let path = directory.join(&entry.name);
        if matches!(entry.kind, EntryKind::File { .. }) {
            return self.settle_link(directory, &path, entry);
        }
        let placed = self.target.directory(directory).and_then(|directory| match entry.kind {
            EntryKind::Symlink { .. } => directory.symlink(entry),
            EntryKind::Fifo => directory.fifo(entry),
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => directory.device(entry),
            EntryKind::File { .. } | EntryKind::Directory { .. } => Ok(Outcome::Dropped),
        });
        match placed {
            Ok(Outcome::Placed | Outcome::Planned) => add(&self.counters.others, 1),
            Ok(Outcome::Kept) => add(&self.counters.kept, 1),
            Ok(Outcome::Dropped | Outcome::Impossible) => {}
            Err(error) => self.tell_problem(&path, error),
        }
    }

    /// Places a further name of a file: a link, or a copy where there can be none.
    fn settle_link(&self, directory: &Arc<TreePath>, path: &TreePath, entry: &Entry) {
        let first = match entry.link_group.and_then(|group| {
            let groups = lock(&self.groups);
            groups.get(&group).map(|group| (group.first == *path, group.placed.clone()))
        }) {
            None | Some((true, _)) => return,
            Some((false, placed)) => placed,
        };
        let linked = first.map(|first| {
            self.target.directory(directory).and_then(|directory| directory.hard_link(entry, &first))
        });
        match linked {
            Some(Ok(Outcome::Placed | Outcome::Planned)) => {
                add(&self.counters.hard_links, 1);
                self.count_written(entry);
                self.progress(1, size_of(entry));
            }
            Some(Ok(Outcome::Kept)) => {
                self.count_kept(entry);
                self.progress(1, size_of(entry));
            }
            Some(Err(error)) => self.tell_problem(path, error),
            // Its first name was damaged, kept or given up; or the file system has no such links.
            None | Some(Ok(Outcome::Impossible | Outcome::Dropped)) => {
                let open = Arc::new(Open::new(Arc::clone(directory), entry.clone()));
                let mut batch = Batch::default();
                let sink: Sink<'_, 't> = &mut |batch| {
                    self.execute(batch);
                    true
                };
                self.plan_content(&open, &mut batch, sink);
                if !batch.is_empty() {
                    self.execute(batch);
                }
            }
        }
    }
}

//! Which directories lead to the sources, laid out before the walk.

use std::collections::BTreeMap;

use crate::tree::entry::Xattr;
use crate::tree::path::Name;
use crate::tree::walk::Source;
use crate::tree::walk::SourceDir;
use crate::tree::walk::SourceKind;
use crate::tree::walk::Stat;

/// What to walk: the directories that lead to the sources, and the sources.
pub(super) enum Plan {
    Passage { stat: Stat, xattrs: Vec<Xattr>, below: BTreeMap<Name, Plan> },
    Source(Box<Source>),
}

/// Lays the sources out by their paths; one within another is part of that.
pub(super) fn plan(mut sources: Vec<Source>) -> Plan {
    sources.sort_by(|one, other| one.path().as_bytes().cmp(other.path().as_bytes()));
    let mut root: Option<Plan> = None;
    for source in sources {
        let mut names: Vec<Name> = source.path().components().collect();
        let Some(last) = names.pop() else { return Plan::Source(Box::new(source)) };
        let mut here = root.get_or_insert_with(|| passage(&source.parents()[0]));
        let mut within = false;
        for (name, parent) in names.iter().zip(&source.parents()[1..]) {
            let Plan::Passage { below, .. } = here else {
                within = true;
                break;
            };
            here = below.entry(name.clone()).or_insert_with(|| passage(parent));
        }
        if let (Plan::Passage { below, .. }, false) = (here, within) {
            below.insert(last, Plan::Source(Box::new(source)));
        }
    }
    root.expect("a task without any source is refused before")
}

/// Lays the sources out side by side below the root, each by its own name: a sealed file doesn't tell where
/// they lay. No two may have one name.
pub(super) fn plan_flat(sources: Vec<Source>) -> Plan {
    let mut root =
        passage(&sources.first().expect("a task without any source is refused before").parents()[0]);
    for source in sources {
        match (source.path().last(), &mut root) {
            (Some(name), Plan::Passage { below, .. }) => {
                below.insert(name, Plan::Source(Box::new(source)));
            }
            _ => return Plan::Source(Box::new(source)),
        }
    }
    root
}

pub(super) fn is_directory(source: &Source) -> bool {
    source.examine().is_ok_and(|stat| stat.kind == SourceKind::Directory)
}

fn passage(directory: &SourceDir) -> Plan {
    // A parent's attributes are a courtesy: whoever may pass through it may not always ask for them.
    let xattrs = directory.xattrs().unwrap_or_default();
    Plan::Passage { stat: *directory.stat(), xattrs, below: BTreeMap::new() }
}

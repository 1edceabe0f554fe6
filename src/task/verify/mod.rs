//! Checking a vault: what must be there is there, whole, in order and signed for.
//!
//! Without a key ([`verify_public`]): the log, every chain, both copies of every record, list, table, ring,
//! header and message, and that each object which must exist is there with its exact length; on request
//! its digest too. With a way in ([`verify_private`]): every snapshot's body, indexes and trees as well, and
//! that each chunk is found; on request every pack is opened and every chunk held against its id.
//!
//! Damage ends nothing: all of it is collected, and what it costs is told in files.

pub mod contents;
pub mod objects;
pub mod source;

use std::collections::HashMap;
use std::fmt;

use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::id::SnapshotId;
use crate::store;
use crate::tree::path::TreePath;
use crate::vault::error;
use crate::vault::fetch::SECOND;
use crate::vault::history::Why;
use crate::vault::record::Head;

pub use crate::task::verify::contents::ReadData;
pub use crate::task::verify::contents::verify_private;
pub use crate::task::verify::objects::verify_public;
pub use crate::task::verify::source::Change;
pub use crate::task::verify::source::Comparison;
pub use crate::task::verify::source::Difference;
pub use crate::task::verify::source::against_all_of_source;
pub use crate::task::verify::source::against_source;

/// How many findings are kept; all are counted.
pub const FINDINGS_MAX: usize = 10_000;
/// How many lost files are named for one finding; all are counted.
pub const LOST_MAX: usize = 1_000;
/// How many lost files are named for all findings together.
const LOST_IN_ALL_MAX: usize = 20_000;

/// What a finding is about, as far as a person has to act differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Something is damaged, missing or not what was signed.
    Integrity,
    /// The vault is older than what was seen, tells two histories, or lacks part of its own.
    History,
}

/// Something that is not as it must be.
#[derive(Debug)]
pub enum Problem {
    /// An object, a chain or the log.
    Vault(error::Error),
    /// One of an object's two copies; the other one is whole, so nothing is lost yet.
    Copy {
        /// The bad copy's name.
        name: ObjectName,
        /// Whether it isn't there at all.
        missing: bool,
    },
    /// A directory of a snapshot that reads whole and that no strongroom would have written.
    Tree {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Which.
        path: TreePath,
        /// What is wrong with it, lower case.
        what: String,
    },
    /// A receipt that another vault gave.
    OtherReceipt,
}

impl Problem {
    /// What kind it is of.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::OtherReceipt
            | Self::Vault(
                error::Error::RolledBack { .. }
                | error::Error::Forked { .. }
                | error::Error::ForkedChain { .. }
                | error::Error::Rivals { .. }
                | error::Error::OtherBranch { .. }
                | error::Error::HistoryMissing { .. }
                | error::Error::OtherVault { .. },
            ) => Class::History,
            _ => Class::Integrity,
        }
    }

    /// Whether it is no more than that the second copy of an object that is whole isn't there.
    fn is_second_missing(&self) -> bool {
        matches!(self, Self::Copy { name, missing: true } if name.as_str().starts_with(SECOND))
    }

    /// The object that it names, if it names one.
    #[must_use]
    pub fn object(&self) -> Option<&ObjectName> {
        match self {
            Self::Copy { name, .. } => Some(name),
            Self::Vault(error) => object_of(error),
            Self::Tree { .. } | Self::OtherReceipt => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault(error) => error.fmt(f),
            Self::Copy { name, missing: true } => {
                write!(f, "copy {name} is missing; the other copy is whole")
            }
            Self::Copy { name, missing: false } => {
                write!(f, "copy {name} is damaged; the other copy is whole")
            }
            Self::Tree { snapshot, path, what } => {
                write!(f, "directory {path} of snapshot {} is not as it must be: {what}", snapshot.short())
            }
            Self::OtherReceipt => write!(f, "the receipt was given by another vault"),
        }
    }
}

/// The object that an error names, if it names one.
fn object_of(error: &error::Error) -> Option<&ObjectName> {
    match error {
        error::Error::Damaged { name, .. }
        | error::Error::Missing { name }
        | error::Error::Newer { name }
        | error::Error::Store(
            store::Error::Io { name, .. }
            | store::Error::NotAFile { name }
            | store::Error::Short { name }
            | store::Error::TooLarge { name },
        ) => Some(name),
        error::Error::Unindexed(index) => object_of(index),
        _ => None,
    }
}

/// A file that can't be restored as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// Which; the root stands for the whole snapshot.
    pub path: TreePath,
    /// Whether it is a directory, or part of one: all below it may be lost.
    pub is_directory: bool,
}

/// Something found, and what it costs.
#[derive(Debug)]
pub struct Finding {
    /// What.
    pub problem: Problem,
    /// The files that it takes along: the first of them.
    pub lost: Vec<Lost>,
    /// How many there are in all.
    pub lost_total: u64,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    total: u64,
    by_object: HashMap<ObjectName, usize>,
    lost: usize,
}

impl Findings {
    /// The findings in the order in which they came; the first [`FINDINGS_MAX`] of them.
    #[must_use]
    pub fn list(&self) -> &[Finding] {
        &self.kept
    }

    /// What was found first.
    #[must_use]
    pub fn into_first(self) -> Option<Problem> {
        self.kept.into_iter().next().map(|first| first.problem)
    }

    /// How many there are in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether anything was found about this object.
    #[must_use]
    pub fn names(&self, object: &ObjectName) -> bool {
        self.by_object.contains_key(object)
    }

    /// Adds a finding; a second one about one object says nothing new. Returns its place.
    fn add(&mut self, problem: Problem) -> Option<usize> {
        if let Some(at) = problem.object().and_then(|object| self.by_object.get(object)) {
            return Some(*at);
        }
        self.total += 1;
        if self.kept.len() == FINDINGS_MAX {
            return None;
        }
        let at = self.kept.len();
        if let Some(object) = problem.object() {
            self.by_object.insert(object.clone(), at);
        }
        self.kept.push(Finding { problem, lost: Vec::new(), lost_total: 0 });
        Some(at)
    }

    /// Adds a finding, and what it takes along.
    fn add_loss(&mut self, problem: Problem, lost: Lost) {
        let Some(at) = self.add(problem) else { return };
        let finding = &mut self.kept[at];
        finding.lost_total += 1;
        if finding.lost.len() < LOST_MAX && self.lost < LOST_IN_ALL_MAX {
            finding.lost.push(lost);
            self.lost += 1;
        }
    }
}

/// What was checked beside the objects.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Walked {
    /// Snapshots whose trees were read.
    pub snapshots: u64,
    /// Directories; one that several snapshots share is read once.
    pub directories: u64,
    /// Everything else in them.
    pub files: u64,
}

/// What verifying found out.
#[derive(Debug)]
pub struct Report {
    /// Which vault.
    pub fingerprint: Fingerprint,
    /// Records of its log.
    pub records: u64,
    /// Devices ever added.
    pub devices: u64,
    /// Valid snapshots, those forgotten among them.
    pub snapshots: u64,
    /// Those that an owner hid.
    pub forgotten: u64,
    /// Headers that don't count: invalid, or of a revoked device and not what an owner chose.
    pub ignored: u64,
    /// Headers that their devices signed and that list nothing, and why.
    pub invalid: Vec<(Head, Why)>,
    /// Packs, indexes and bodies that must exist.
    pub objects: u64,
    /// Their bytes, as signed for.
    pub bytes: u64,
    /// Records, lists, tables, rings, headers, messages of which both copies were read.
    pub copied: u64,
    /// Second copies that are not there yet: whoever put the first one is still at it, or was cut off.
    pub due: Vec<ObjectName>,
    /// Objects of which every byte was read and held against its digest.
    pub read: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Whether what was read was opened too, and every chunk held against its id.
    pub opened: bool,
    /// The trees that were read, with a way in.
    pub walked: Option<Walked>,
    /// Objects that nothing names: of interrupted runs, or on their way out.
    pub strays: u64,
    /// Their bytes.
    pub stray_bytes: u64,
    /// Things in the place that are no objects.
    pub strangers: u64,
    /// What the random choice of objects was drawn with.
    pub seed: Option<u64>,
    /// Whether the log grew meanwhile, so that findings may only tell of that: check once more.
    pub moved: bool,
    /// What is not as it must be.
    pub findings: Findings,
}

impl Report {
    /// Whether all is as it must be, as far as it was checked.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.total == 0
    }

    /// The kind of the first finding.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        self.findings.kept.first().map(|finding| finding.problem.class())
    }
}

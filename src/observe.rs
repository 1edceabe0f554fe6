//! How the library tells what it does, without a terminal.

/// What a task reports while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A new part of the work begins; totals and progress count anew.
    Phase(Phase),
    /// How much there is to do in this phase, as far as known: files and bytes.
    Total {
        /// Files or objects, by phase.
        items: u64,
        /// Bytes.
        bytes: u64,
    },
    /// So much more was done.
    Progress {
        /// Files or objects, by phase.
        items: u64,
        /// Bytes.
        bytes: u64,
    },
    /// So many bytes more are in the vault.
    Stored {
        /// Of the object.
        bytes: u64,
    },
    /// The entry that is worked on now, as raw path bytes: to be escaped before it is shown.
    Entry(&'a [u8]),
    /// Something in the source or target could not be read or kept; the work goes on.
    Problem {
        /// Raw path bytes.
        path: &'a [u8],
        /// What happened, lower case.
        message: String,
    },
    /// Something a person should know, that stops nothing.
    Notice(String),
}

/// The parts of a task that a person may watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Counting what there is to do.
    Counting,
    /// Reading, packing and storing files.
    BackingUp,
    /// Writing files.
    Restoring,
    /// Checking records and objects.
    Verifying,
    /// Reading lists and trees.
    Reading,
    /// Storing the last objects and the header.
    Committing,
    /// Writing an archive.
    Exporting,
    /// Sealing objects anew under the newest keys.
    Reencrypting,
    /// Reading, packing and storing files, into a sealed file.
    Sealing,
    /// Writing out a sealed file that takes the place of an older one.
    Writing,
}

/// Receives [`Event`]s, from several threads.
pub trait Observer: Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);

    /// Whether the person wants the work to end now; asked between steps.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Watches nothing.
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: &Event<'_>) {}
}

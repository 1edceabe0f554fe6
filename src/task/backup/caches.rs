//! What this machine may forget: caches that can't be kept end no backup.
//!
//! Whether a snapshot is sound rests on none of these files: the journal of what was put, the tables of
//! chunks and of files, the ages of jobs. Without them files are read and sent again. What soundness
//! rests on is kept by `vault::device`, and a failure there is an error: the device's key and grant,
//! its pins, and `commit`, the digest of the header about to be put, without which the next run would
//! take this one's header for a stranger's.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::observe::Event;
use crate::observe::Observer;
use crate::task::error::Error;

/// Tells once that something can't be remembered, whatever else can't be after that: all of it lies
/// in one folder, and the cause is the same.
pub struct Caches<'a> {
    observer: &'a dyn Observer,
    told: AtomicBool,
}

impl<'a> Caches<'a> {
    /// Nothing failed yet.
    #[must_use]
    pub fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, told: AtomicBool::new(false) }
    }

    /// What a cache gave, if it works.
    pub fn keep<T>(&self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.failed(&error)).ok()
    }

    /// A cache doesn't work.
    pub fn failed(&self, error: &Error) {
        if !self.told.swap(true, Ordering::Relaxed) {
            self.observer.event(&Event::Notice(format!(
                "{error}; the backup goes on, and the next one may read and send more than it needs to"
            )));
        }
    }
}

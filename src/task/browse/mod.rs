//! Looking into a vault: its snapshots, what they hold, and how two of them differ.
//!
//! All that is told was checked: a snapshot's header is signed and chained, its body is named by the
//! header, and every tree and chunk is held against the id that its signed root leads to. What is
//! damaged is named, and the rest is shown all the same.

pub mod content;
pub mod diff;
pub mod find;
pub mod snapshots;
pub mod stats;
pub mod walk;

pub use crate::task::browse::content::content_digest;
pub use crate::task::browse::content::dump;
pub use crate::task::browse::diff::Change;
pub use crate::task::browse::diff::diff;
pub use crate::task::browse::find::Kind;
pub use crate::task::browse::find::Search;
pub use crate::task::browse::find::find;
pub use crate::task::browse::snapshots::Broken;
pub use crate::task::browse::snapshots::Filters;
pub use crate::task::browse::snapshots::Listed;
pub use crate::task::browse::snapshots::Listing;
pub use crate::task::browse::snapshots::Which;
pub use crate::task::browse::snapshots::choose;
pub use crate::task::browse::snapshots::reader;
pub use crate::task::browse::snapshots::snapshots;
pub use crate::task::browse::stats::Stats;
pub use crate::task::browse::stats::stats;
pub use crate::task::browse::walk::At;
pub use crate::task::browse::walk::Damaged;
pub use crate::task::browse::walk::entry_at;
pub use crate::task::browse::walk::walk;

pub(crate) use crate::task::browse::content::WINDOW_BYTES;
pub(crate) use crate::task::browse::content::WINDOWS_WAITING;
pub(crate) use crate::task::browse::content::fetch;
pub(crate) use crate::task::browse::content::layout;
pub(crate) use crate::task::browse::walk::Step;
pub(crate) use crate::task::browse::walk::Walk;

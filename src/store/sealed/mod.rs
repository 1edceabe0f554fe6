//! A whole vault in one file: the members of a strict ustar, laid out as section 26 of `docs/format.md` says.
//!
//! Only the layout is known here, and each layout has one spelling: what [`SealedFile`] takes is what
//! [`SealedDraft`] writes, byte for byte, and everything else is refused. What members hold, and whether
//! they are the right ones, is checked by who reads them.

mod aside;
mod disk;
mod draft;
mod file;
mod files;
mod header;
mod hold;
mod joined;
mod partial;
#[cfg(test)]
mod samples;
mod spool;
mod target;

pub use draft::SealedDraft;
pub use file::SealedFile;
pub use target::PART_BYTES_MIN;
pub use target::Target;

//! A whole vault in one file: the members of a strict ustar, laid out as section 26 of `docs/format.md` says.
//!
//! Only the layout is known here, and each layout has one spelling: what [`SealedFile`] takes is what
//! a draft writes, byte for byte, and everything else is refused. What members hold, and whether
//! they are the right ones, is checked by who reads them.

mod file;
mod header;
mod joined;
mod spool;

pub use file::SealedFile;

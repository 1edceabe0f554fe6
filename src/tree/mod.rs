//! The user's files: what a directory entry is, how trees are laid out, and reading a source disk.
//!
//! [`path`] and [`entry`] hold the words that everybody uses; [`node`] lays entries out as chunks and
//! reads them back; [`filter`] says what is left out; [`walk`] reads the source disk through handles,
//! and [`place`] writes to a target the same way. [`tar`] is their form outside of a vault.
pub mod entry;
pub mod filter;
pub mod node;
pub mod path;
pub mod place;
pub mod tar;
pub mod walk;

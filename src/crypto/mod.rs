//! The algorithms of the format, each behind one door, and the memory that secrets live in.
//!
//! There is one suite and no choice: `docs/format.md` names it. Nothing here does I/O but
//! [`random`], which asks the operating system, and [`memory`], which asks it to keep keys out of
//! swap and core dumps.

pub(crate) mod aead;
pub mod age;
pub(crate) mod bech32;
pub mod card;
pub(crate) mod crockford;
pub mod derive;
pub mod digest;
pub mod kdf;
pub mod kem;
pub mod memory;
pub mod random;
pub mod recipient;
pub mod secret;
pub mod shamir;
pub mod sign;
pub mod text;
#[cfg(test)]
pub(crate) mod vectors;

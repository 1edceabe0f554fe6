//! Sealed files: what was sealed comes back, what was done to a file is seen before anything of it is
//! released, and sealing again takes over what it may and nothing else. Key files only: they open at once.

#![allow(clippy::print_stdout, reason = "a random case prints its seed")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

#[path = "../harness/mod.rs"]
mod harness;

mod desk;
mod layout;

mod again;
mod parts;
mod refused;
mod round_trip;
mod sender;
mod slots;

//! The built program: output, errors and exit codes, word for word, a module a command.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod bench;

mod backup;
mod general;
mod incident;
mod init;
mod json;
mod log;
mod look;
mod people;
mod recover;
mod restore;
mod seal;
mod seal_mends;
mod sealed;
mod status;
mod tar;
mod verify;

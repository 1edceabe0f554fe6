//! Bytes to chunks to bytes: pure arithmetic, without keys, files or compression.
//!
//! [`cut`] finds where a file's content is divided, so that an edit moves few boundaries; [`join`]
//! tells where each chunk's bytes go when the file is laid out again, holes included.

pub mod cut;
pub mod join;

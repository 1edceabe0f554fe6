//! strongroom: encrypted, deduplicated, signed backups.

pub mod chunk;
pub mod codec;
pub mod crypto;
pub mod id;
pub mod observe;
pub mod pack;
pub mod seal;
pub mod store;
pub mod task;
pub mod tree;
pub mod vault;

//! strongroom: encrypted, deduplicated, signed backups.

pub mod codec;
pub mod crypto;
pub mod id;
pub mod observe;
pub mod seal;
pub mod store;

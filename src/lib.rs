//! strongroom: encrypted, deduplicated, signed backups.

pub mod codec;
pub mod id;
pub mod observe;

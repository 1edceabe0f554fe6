//! strongroom: encrypted, deduplicated, signed backups; the machine that is backed up can't read them.
//!
//! The data's way, and back:
//!
//! ```text
//! backup    tree::walk  -> chunk::cut  -> pack::packer   -> seal -> vault -> store
//! restore   tree::place <- chunk::join <- pack::unpacker <- seal <- vault <- store
//! ```
//!
//! Layers, each importing only from those below it (`tests/layers.rs` holds them to that):
//! [`cli`]; [`task`]; [`vault`]; [`pack`], [`seal`]; [`chunk`], [`tree`], [`store`], [`crypto`]; [`id`],
//! [`codec`], [`observe`]. What the bytes mean is in `docs/format.md`.

pub mod chunk;
pub mod cli;
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

//! How a device names chunks and where it cuts them: all from its dedup secret.

use std::io::Write as _;

use crate::crypto::derive::derive;
use crate::crypto::digest;
use crate::crypto::secret::Secret;
use crate::id::ChunkId;
use crate::id::Fingerprint;
use crate::pack::packer::ChunkKind;

/// A name, which has at most 255 bytes, with a label.
const NAME_HASHED_BYTES: usize = 288;

/// The keys that a dedup secret gives.
pub struct Namer {
    data: Secret<32>,
    tree: Secret<32>,
    list: Secret<32>,
    gear: Secret<32>,
    local: Secret<32>,
}

impl Namer {
    /// Derives the keys from a device's dedup secret.
    #[must_use]
    pub fn derive(fingerprint: &Fingerprint, dedup: &Secret<32>) -> Self {
        let key = |label: &str| dedup.expose(|dedup| derive::<32>(dedup, &[], label, &fingerprint.0));
        Self {
            data: key("chunk-id"),
            tree: key("tree-id"),
            list: key("list-id"),
            gear: key("gear"),
            local: key("name-hash"),
        }
    }

    /// The id of a chunk: data, trees and lists have keys of their own, so that a file's bytes never
    /// pass for a tree.
    #[must_use]
    pub fn name(&self, kind: ChunkKind, bytes: &[u8]) -> ChunkId {
        let key = match kind {
            ChunkKind::Data => &self.data,
            ChunkKind::Tree => &self.tree,
            ChunkKind::List => &self.list,
        };
        ChunkId(digest::keyed(key, &[bytes]))
    }

    /// Whether `id` is that of `bytes`, as one kind of chunk or another.
    #[must_use]
    pub fn names(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        [ChunkKind::Data, ChunkKind::Tree, ChunkKind::List]
            .into_iter()
            .any(|kind| self.name(kind, bytes) == *id)
    }

    /// The bytes that the cutter's table is made of.
    #[must_use]
    pub fn gear_bytes(&self) -> Box<[u8; 2048]> {
        let mut bytes = Box::new([0; 2048]);
        for (number, part) in (0_u32..).zip(bytes.chunks_exact_mut(32)) {
            part.copy_from_slice(&digest::keyed(&self.gear, &[&number.to_le_bytes()]));
        }
        bytes
    }

    /// Where a large directory is cut depends on this hash of a name.
    #[must_use]
    pub fn cut_hash(&self, name: &[u8]) -> u64 {
        let hash = self.hash(&[b"cut", name]);
        hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }

    /// A keyed hash of 16 bytes for what only this device compares: paths, jobs, link groups.
    #[must_use]
    pub fn local_hash(&self, label: &[u8], bytes: &[u8]) -> [u8; 16] {
        let digest = self.hash(&[label, &[0], bytes]);
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        half
    }

    /// The digest of `parts`, which are no secrets: put together if they are short, as making and wiping a digester takes
    /// longer than such a digest.
    fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut joined = [0; NAME_HASHED_BYTES];
        let mut room = &mut joined[..];
        let is_short = parts.iter().all(|part| room.write_all(part).is_ok());
        let length = NAME_HASHED_BYTES - room.len();
        if is_short {
            digest::keyed(&self.local, &[&joined[..length]])
        } else {
            digest::keyed(&self.local, parts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hash_as_their_parts_do_whatever_their_length() {
        let namer = Namer::derive(&Fingerprint([1; 32]), &Secret::take(&mut [2; 32]));
        for length in [0, 1, 255, 283, 284, 285, 286, 1_000] {
            let name = vec![b'n'; length];
            let digest = digest::keyed(&namer.local, &[b"path", &[0], &name]);
            assert_eq!(namer.local_hash(b"path", &name), digest[..16], "{length}");
            let digest = digest::keyed(&namer.local, &[b"cut", &name]);
            assert_eq!(namer.cut_hash(&name).to_le_bytes(), digest[..8], "{length}");
        }
    }
}

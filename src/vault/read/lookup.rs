//! Asking one index object, whole or where a look-up leads.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::id::DeviceId;
use crate::id::Digest;
use crate::seal::pseal::Kind;
use crate::seal::pseal::SEGMENT_BYTES;
use crate::vault::Vault;
use crate::vault::body::IndexRef;
use crate::vault::error::Error;
use crate::vault::history::History;
use crate::vault::history::Located;
use crate::vault::index;
use crate::vault::index::Index;
use crate::vault::read::segments::Segments;

/// Index objects up to this size are read whole at the first look-up; of larger ones only the
/// segments that a look-up needs, until it pays to read the rest.
const INDEX_WHOLE_BYTES: u64 = 4 << 20;
/// After so many look-ups in one index object it is read whole.
const LOOKUPS_BEFORE_WHOLE: usize = 32;

/// A part of an index: one object, read whole or where a look-up leads.
pub(super) struct IndexPart {
    listed: Digest,
    first: index::Prefix,
    segments: OnceLock<Segments>,
    whole: OnceLock<Index>,
    lookups: AtomicUsize,
    /// Why it can't be used. It isn't read again then: every look-up would fail in the same way.
    unusable: OnceLock<Arc<Error>>,
}

impl IndexPart {
    pub(super) fn new(reference: &IndexRef) -> Self {
        Self {
            listed: reference.name,
            first: reference.first,
            segments: OnceLock::new(),
            whole: OnceLock::new(),
            lookups: AtomicUsize::new(0),
            unusable: OnceLock::new(),
        }
    }

    /// The first id that may be in it.
    pub(super) fn first(&self) -> &index::Prefix {
        &self.first
    }

    /// Why it can't be used, if a look-up has found that out.
    pub(super) fn unusable(&self) -> Option<&Arc<Error>> {
        self.unusable.get()
    }

    /// The listed name of the pack that holds a chunk; nothing if it doesn't know the chunk, or if it
    /// can't be used.
    pub(super) fn find(&self, vault: &Vault, history: &History, wanted: &index::Prefix) -> Option<Digest> {
        if let Some(whole) = self.whole.get() {
            return whole.find(wanted);
        }
        if self.unusable.get().is_some() {
            return None;
        }
        self.read_and_find(vault, history, wanted).unwrap_or_else(|error| {
            self.unusable.get_or_init(|| Arc::new(error));
            None
        })
    }

    fn read_and_find(
        &self,
        vault: &Vault,
        history: &History,
        wanted: &index::Prefix,
    ) -> Result<Option<Digest>, Error> {
        let located = history.locate(vault.log(), self.listed)?;
        let lookups = self.lookups.fetch_add(1, Ordering::Relaxed);
        if u64::from(located.length) <= INDEX_WHOLE_BYTES || lookups >= LOOKUPS_BEFORE_WHOLE {
            let whole = vault.index(history.device(), &located)?;
            return Ok(self.whole.get_or_init(|| whole).find(wanted));
        }
        self.find_lazily(vault, history.device(), &located, wanted)
    }

    /// Ids are evenly spread, so where one stands can be guessed to within a segment or two.
    fn find_lazily(
        &self,
        vault: &Vault,
        device: DeviceId,
        located: &Located,
        wanted: &index::Prefix,
    ) -> Result<Option<Digest>, Error> {
        let segments = match self.segments.get() {
            Some(segments) => segments,
            None => {
                let loaded = Segments::load(vault, device, located, Kind::Index)?;
                self.segments.get_or_init(|| loaded)
            }
        };
        let plaintext_bytes = segments.plaintext_bytes()?;
        let head = segments.read_exactly(vault, &(0..index::HEAD_BYTES as u64))?;
        let layout =
            index::Layout::decode(&head, plaintext_bytes).map_err(|error| segments.damaged(&error))?;
        let entries_at = layout.entries_at() as u64;
        let (mut low, mut high) = (0_u64, layout.entries as u64);
        let (mut low_key, mut high_key) = (key(&self.first), u64::MAX);
        while low < high {
            let span = u128::from(high_key.saturating_sub(low_key)).max(1);
            let ahead = u128::from(key(wanted).saturating_sub(low_key)) * u128::from(high - low) / span;
            let guess = (low + u64::try_from(ahead).unwrap_or(u64::MAX)).min(high - 1);
            // All entries that lie whole in the guessed one's segment.
            let at = entries_at + guess * index::ENTRY_BYTES as u64;
            let segment = SEGMENT_BYTES as u64;
            let from = (at / segment * segment).max(entries_at).min(at);
            let first = (from - entries_at).div_ceil(index::ENTRY_BYTES as u64).max(low);
            let until = ((at / segment + 1) * segment).max(at + index::ENTRY_BYTES as u64);
            let last = ((until - entries_at) / index::ENTRY_BYTES as u64).min(high).max(guess + 1);
            let range =
                entries_at + first * index::ENTRY_BYTES as u64..entries_at + last * index::ENTRY_BYTES as u64;
            let bytes = segments.read_exactly(vault, &range)?;
            let entries: Vec<(&[u8], u32)> =
                bytes.chunks_exact(index::ENTRY_BYTES).map(index::entry_in).collect();
            match entries.binary_search_by(|(prefix, _)| (*prefix).cmp(&wanted[..])) {
                Ok(at) => {
                    let pack = u64::from(entries[at].1);
                    if pack >= layout.packs as u64 {
                        return Err(segments.damaged(&"an entry names no pack"));
                    }
                    let at = index::HEAD_BYTES as u64 + pack * 32;
                    let name = segments.read_exactly(vault, &(at..at + 32))?;
                    return Ok(name.first_chunk().map(|name| Digest(*name)));
                }
                Err(0) => {
                    high = first;
                    high_key = entries.first().map_or(0, |(prefix, _)| key_of(prefix));
                }
                Err(at) if at == entries.len() => {
                    low = last;
                    low_key = entries.last().map_or(u64::MAX, |(prefix, _)| key_of(prefix));
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn key(prefix: &index::Prefix) -> u64 {
    key_of(prefix)
}

fn key_of(prefix: &[u8]) -> u64 {
    prefix.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

//! Room for bytes on their way. The system takes longer to give memory than it takes to fill it, so what is done with
//! is kept for whoever needs the next.

use std::sync::Mutex;
use std::sync::PoisonError;

/// Vectors that are done with.
pub struct Room {
    /// The longest that is kept.
    each_bytes_max: usize,
    /// What all of them may take.
    bytes_max: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    vectors: Vec<Vec<u8>>,
    bytes: usize,
}

impl Room {
    /// Keeps vectors with room for up to `each_bytes_max` bytes, and for `bytes_max` together.
    #[must_use]
    pub const fn new(each_bytes_max: usize, bytes_max: usize) -> Self {
        Self { each_bytes_max, bytes_max, kept: Mutex::new(Kept { vectors: Vec::new(), bytes: 0 }) }
    }

    /// An empty vector with room for `bytes` at least.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        let kept = self.kept(|kept| {
            let vector = kept.vectors.pop()?;
            kept.bytes -= vector.capacity();
            Some(vector)
        });
        let mut vector = kept.unwrap_or_default();
        vector.clear();
        vector.reserve_exact(bytes);
        vector
    }

    /// Takes back the room of a vector that is done with.
    pub fn give_back(&self, vector: Vec<u8>) {
        self.kept(|kept| {
            let bytes = kept.bytes + vector.capacity();
            if vector.capacity() <= self.each_bytes_max && bytes <= self.bytes_max {
                kept.bytes = bytes;
                kept.vectors.push(vector);
            }
        });
    }

    fn kept<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_taken_again_empty_and_long_enough() {
        let room = Room::new(1_000, 2_000);
        let mut first = room.take(900);
        first.extend_from_slice(b"something");
        let place = first.as_ptr();
        room.give_back(first);
        let again = room.take(10);
        assert!(again.is_empty() && again.capacity() >= 900 && again.as_ptr() == place);
        room.give_back(again);
        assert!(room.take(5_000).capacity() >= 5_000);
    }

    #[test]
    fn no_more_is_kept_than_it_may_hold() {
        let room = Room::new(1_000, 2_000);
        room.give_back(Vec::with_capacity(1_001));
        (0..3).for_each(|_| room.give_back(Vec::with_capacity(900)));
        assert_eq!(room.kept(|kept| (kept.vectors.len(), kept.bytes)), (2, 1_800));
        (0..3).for_each(|_| drop(room.take(1)));
        assert_eq!(room.kept(|kept| (kept.vectors.len(), kept.bytes)), (0, 0));
    }
}

//! What was used last.

use std::collections::VecDeque;

/// A small store of what was used last.
pub(super) struct Recent<K, V> {
    kept: VecDeque<(K, V)>,
    most: usize,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { kept: VecDeque::new(), most }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let at = self.kept.iter().position(|(kept, _)| kept == key)?;
        let entry = self.kept.remove(at)?;
        let value = entry.1.clone();
        self.kept.push_front(entry);
        Some(value)
    }

    pub(super) fn put(&mut self, key: K, value: V) {
        self.kept.push_front((key, value));
        self.kept.truncate(self.most);
    }
}

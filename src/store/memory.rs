//! A store in memory: for tests, which can also damage it and roll it back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::id::ObjectName;

use super::Error;
use super::Listed;
use super::Store;

type Objects = BTreeMap<ObjectName, Arc<Vec<u8>>>;

/// Objects in memory. A clone is another handle of the same store.
#[derive(Clone, Default)]
pub struct Memory {
    objects: Arc<Mutex<Objects>>,
}

/// All that a [`Memory`] held at one moment; shares its bytes, so it is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct State(Objects);

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is in it now.
    #[must_use]
    pub fn snapshot(&self) -> State {
        State(self.lock().clone())
    }

    /// Makes it hold what it held then, and nothing else: a rollback.
    pub fn restore(&self, state: &State) {
        self.lock().clone_from(&state.0);
    }

    /// Lets `change` do what it wants with the bytes of an object.
    ///
    /// # Panics
    /// If there is no such object: a test that damages nothing proves nothing.
    pub fn with<T>(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut objects = self.lock();
        let bytes = objects.get_mut(name).unwrap_or_else(|| panic!("object {name} is there to be damaged"));
        change(Arc::make_mut(bytes))
    }

    /// Flips bit `bit` of an object, counted from the lowest of its first byte.
    ///
    /// # Panics
    /// If there is no such object or bit.
    pub fn flip(&self, name: &ObjectName, bit: usize) {
        self.with(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }

    /// Cuts an object down to its first `length` bytes.
    ///
    /// # Panics
    /// If there is no such object, or it isn't longer than that.
    pub fn cut(&self, name: &ObjectName, length: usize) {
        self.with(name, |bytes| {
            assert!(length < bytes.len(), "object {name} is longer than {length} bytes");
            bytes.truncate(length);
        });
    }

    /// Appends bytes to an object.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn extend(&self, name: &ObjectName, more: &[u8]) {
        self.with(name, |bytes| bytes.extend_from_slice(more));
    }

    /// Puts other bytes in the place of an object, or where there was none.
    pub fn replace(&self, name: &ObjectName, bytes: &[u8]) {
        self.lock().insert(name.clone(), Arc::new(bytes.to_vec()));
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        // A panic inside `with` leaves the map itself whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &ObjectName) -> Result<Arc<Vec<u8>>, Error> {
        self.lock().get(name).cloned().ok_or_else(|| Error::Missing { name: name.clone() })
    }
}

/// How many bytes these are, in the type that stores count in.
fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits 64 bits")
}

impl Store for Memory {
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Err(Error::Exists { name: name.clone() });
        }
        objects.insert(name.clone(), Arc::new(bytes.to_vec()));
        Ok(())
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.find(name)?;
        if length(&bytes) > bytes_max {
            return Err(Error::TooLarge { name: name.clone() });
        }
        Ok(bytes.to_vec())
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let bytes = self.find(name)?;
        let start = usize::try_from(range.start).ok();
        let end = usize::try_from(range.end).ok();
        start
            .zip(end)
            .and_then(|(start, end)| bytes.get(start..end))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| Error::Short { name: name.clone() })
    }

    fn size(&self, name: &ObjectName) -> Result<u64, Error> {
        Ok(length(&self.find(name)?))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let objects = self.lock();
        let listed = objects
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, bytes)| Listed { name: name.clone(), bytes: length(bytes) });
        Ok(listed.collect())
    }

    fn remove(&self, name: &ObjectName) -> Result<(), Error> {
        let removed = self.lock().remove(name);
        removed.map(drop).ok_or_else(|| Error::Missing { name: name.clone() })
    }

    fn pause(&self, turn: u32) {
        // Nothing is slow here but other threads.
        super::pause_ms(1, turn);
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn writable(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text).unwrap()
    }

    #[test]
    fn a_rollback_brings_back_removed_objects_and_takes_away_later_ones() {
        let store = Memory::new();
        store.put(&name("old"), b"old").unwrap();
        let before = store.snapshot();
        store.flip(&name("old"), 0);
        store.put(&name("new"), b"new").unwrap();
        assert!(store.snapshot() != before);
        store.restore(&before);
        assert!(store.snapshot() == before);
        assert_eq!(store.get(&name("old"), 3).unwrap(), b"old");
        assert!(matches!(store.get(&name("new"), 3), Err(Error::Missing { .. })));
    }

    #[test]
    fn damage_is_what_a_reader_gets() {
        let store = Memory::new();
        let object = name("a/1");
        store.put(&object, &[0, 0, 0]).unwrap();
        store.flip(&object, 17);
        assert_eq!(store.get(&object, 9).unwrap(), [0, 0, 2]);
        store.cut(&object, 1);
        assert_eq!(store.get(&object, 9).unwrap(), [0]);
        store.extend(&object, &[7, 8]);
        assert_eq!(store.get(&object, 9).unwrap(), [0, 7, 8]);
        store.replace(&object, b"other");
        assert_eq!(store.get(&object, 9).unwrap(), b"other");
    }

    #[test]
    fn a_clone_is_the_same_store() {
        let store = Memory::new();
        store.clone().put(&name("x"), b"1").unwrap();
        assert_eq!(store.size(&name("x")).unwrap(), 1);
    }
}

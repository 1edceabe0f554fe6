//! Any store, with a fault planned into it: power cuts, full disks, lost and repeated writes.

use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::SystemTime;

use crate::id::ObjectName;

use super::Error;
use super::Listed;
use super::Rights;
use super::Store;

/// How a faulty operation fails.
///
/// What says nothing about reading fails it with an error of the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing is done, and the system reports an error.
    Io,
    /// There is no room for what is put. Removing and reading go on working.
    Full,
    /// A put or removal reports success and does nothing. Reading goes on working.
    Lost,
    /// A put ends half-way, under a name that nobody sees, so nothing shows; an error is reported.
    Torn,
    /// A put or removal is done, then an error is reported: the answer was lost.
    AfterWrite,
}

/// Which operations a [`Fault`] counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counting {
    /// Every call that touches objects.
    Everything,
    /// `put` and `remove` only.
    Writes,
}

/// A planned fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// How it fails.
    pub kind: Kind,
    /// What is counted.
    pub counting: Counting,
    /// The number of the first operation that fails, from 1, counted since the store was made.
    pub first: u64,
    /// Whether those after it fail as well.
    ///
    /// [`Kind::Full`] and [`Kind::Lost`] then hold for every later write. After the others the
    /// power is out: each later operation, reading included, does nothing and reports an error.
    pub lasting: bool,
}

impl Fault {
    /// One failure, of the `first`-th write.
    #[must_use]
    pub fn once(kind: Kind, first: u64) -> Self {
        Self { kind, counting: Counting::Writes, first, lasting: false }
    }

    /// The `first`-th write fails as `kind` says, and so does what comes after it.
    #[must_use]
    pub fn lasting(kind: Kind, first: u64) -> Self {
        Self { kind, counting: Counting::Writes, first, lasting: true }
    }

    /// The same fault, with reads counted too.
    #[must_use]
    pub fn counting_everything(self) -> Self {
        Self { counting: Counting::Everything, ..self }
    }
}

/// What has happened so far, and what is planned.
#[derive(Default)]
struct Course {
    operations: u64,
    writes: u64,
    fault: Option<Fault>,
}

/// What an operation asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Read,
    Put,
    Remove,
}

/// A store that does what the one inside does until its fault comes, and counts.
pub struct Faulty<S> {
    inner: S,
    course: Mutex<Course>,
}

impl<S: Store> Faulty<S> {
    /// Wraps `inner`, with no fault planned.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, course: Mutex::default() }
    }

    /// Wraps `inner` and plans `fault`.
    #[must_use]
    pub fn with_fault(inner: S, fault: Fault) -> Self {
        let store = Self::new(inner);
        store.plan(Some(fault));
        store
    }

    /// Plans another fault, or none: the power is back. Counts go on from where they are.
    pub fn plan(&self, fault: Option<Fault>) {
        self.course().fault = fault;
    }

    /// How many operations were asked for, failed ones included.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.course().operations
    }

    /// How many puts and removals were asked for, failed ones included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.course().writes
    }

    /// The store inside, which has no faults.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and tells how it must fail, if it must.
    fn next(&self, operation: Operation) -> Option<Kind> {
        let mut course = self.course();
        let writes = operation != Operation::Read;
        course.operations += 1;
        course.writes += u64::from(writes);
        let fault = course.fault?;
        let (reached, counted) = match fault.counting {
            Counting::Everything => (course.operations, true),
            Counting::Writes => (course.writes, writes),
        };
        let hit = counted && reached == fault.first;
        let past = fault.lasting && reached >= fault.first;
        match fault.kind {
            _ if !(hit || past) => None,
            Kind::Full => (operation == Operation::Put).then_some(Kind::Full),
            Kind::Lost => writes.then_some(Kind::Lost),
            kind if hit && writes => Some(kind),
            _ => Some(Kind::Io),
        }
    }

    /// Does a write, or fails it as planned.
    fn write(
        &self,
        operation: Operation,
        name: &ObjectName,
        write: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self.next(operation) {
            None => write(),
            Some(Kind::Lost) => Ok(()),
            Some(Kind::Full) => Err(Error::Full { name: name.clone() }),
            Some(Kind::Io | Kind::Torn) => Err(failed(name)),
            Some(Kind::AfterWrite) => {
                write()?;
                Err(failed(name))
            }
        }
    }

    /// Fails a read if that is planned.
    fn read(&self, name: &ObjectName) -> Result<(), Error> {
        self.next(Operation::Read).map_or(Ok(()), |_| Err(failed(name)))
    }

    /// Fails a look at the whole place if that is planned.
    fn look(&self) -> Result<(), Error> {
        let source = || io::Error::other("planned fault");
        let failed = |_| Err(Error::Place { place: self.inner.place(), source: source() });
        self.next(Operation::Read).map_or(Ok(()), failed)
    }
}

fn failed(name: &ObjectName) -> Error {
    Error::Io { name: name.clone(), source: io::Error::other("planned fault") }
}

impl<S: Store> Store for Faulty<S> {
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        self.write(Operation::Put, name, || self.inner.put(name, bytes))
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, Error> {
        self.read(name)?;
        self.inner.get(name, bytes_max)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, Error> {
        self.read(name)?;
        self.inner.get_range(name, range)
    }

    fn size(&self, name: &ObjectName) -> Result<u64, Error> {
        self.read(name)?;
        self.inner.size(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        self.look()?;
        self.inner.list(prefix)
    }

    fn remove(&self, name: &ObjectName) -> Result<(), Error> {
        self.write(Operation::Remove, name, || self.inner.remove(name))
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn writable(&self) -> Result<(), Error> {
        self.inner.writable()
    }

    fn rights(&self, name: &ObjectName) -> Result<Rights, Error> {
        self.look()?;
        self.inner.rights(name)
    }

    fn strangers(&self) -> Result<u64, Error> {
        self.look()?;
        self.inner.strangers()
    }

    fn clear_leftovers(&self, now: SystemTime) -> Result<u64, Error> {
        self.look()?;
        self.inner.clear_leftovers(now)
    }

    fn is_sealed_file(&self) -> bool {
        self.inner.is_sealed_file()
    }

    fn pause(&self, turn: u32) {
        self.inner.pause(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text).unwrap()
    }

    /// Puts 1, 2, 3, then reads 1: which calls said ok, and which objects are there.
    fn run(fault: Option<Fault>) -> ([bool; 4], Vec<String>) {
        let store = Faulty::new(Memory::new());
        store.plan(fault);
        let puts = ["1", "2", "3"].map(|each| store.put(&name(each), b"x").is_ok());
        let read = store.get(&name("1"), 1).is_ok();
        assert_eq!((store.operations(), store.writes()), (4, 3));
        let there = store.inner().list("").unwrap().iter().map(|each| each.name.to_string()).collect();
        ([puts[0], puts[1], puts[2], read], there)
    }

    fn names(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn without_a_fault_all_is_done() {
        assert_eq!(run(None), ([true; 4], names("123")));
    }

    #[test]
    fn one_error_fails_one_write_as_its_kind_says() {
        let one = [true, false, true, true];
        assert_eq!(run(Some(Fault::once(Kind::Io, 2))), (one, names("13")));
        assert_eq!(run(Some(Fault::once(Kind::Torn, 2))), (one, names("13")));
        assert_eq!(run(Some(Fault::once(Kind::Full, 2))), (one, names("13")));
        assert_eq!(run(Some(Fault::once(Kind::AfterWrite, 2))), (one, names("123")));
        assert_eq!(run(Some(Fault::once(Kind::Lost, 2))), ([true; 4], names("13")));
    }

    #[test]
    fn after_a_power_cut_nothing_works_and_nothing_changes() {
        let off = [true, false, false, false];
        assert_eq!(run(Some(Fault::lasting(Kind::Io, 2))), (off, names("1")));
        assert_eq!(run(Some(Fault::lasting(Kind::Torn, 2))), (off, names("1")));
        assert_eq!(run(Some(Fault::lasting(Kind::AfterWrite, 2))), (off, names("12")));
    }

    #[test]
    fn a_full_disk_still_reads_and_removes_and_a_lying_one_says_all_is_well() {
        assert_eq!(run(Some(Fault::lasting(Kind::Full, 2))), ([true, false, false, true], names("1")));
        assert_eq!(run(Some(Fault::lasting(Kind::Lost, 2))), ([true; 4], names("1")));

        let store = Faulty::with_fault(Memory::new(), Fault::lasting(Kind::Full, 2));
        store.put(&name("1"), b"x").unwrap();
        assert!(matches!(store.put(&name("2"), b"x"), Err(Error::Full { .. })));
        store.remove(&name("1")).unwrap();
    }

    #[test]
    fn reads_count_when_everything_counts() {
        let fault = Fault::once(Kind::Io, 4).counting_everything();
        assert_eq!(run(Some(fault)), ([true, true, true, false], names("123")));
    }

    #[test]
    fn with_the_power_back_the_store_works_again() {
        let store = Faulty::with_fault(Memory::new(), Fault::lasting(Kind::Io, 1));
        assert!(store.put(&name("1"), b"x").is_err());
        assert!(matches!(store.list(""), Err(Error::Place { .. })));
        store.plan(None);
        store.put(&name("1"), b"x").unwrap();
        assert_eq!(store.list("").unwrap().len(), 1);
    }
}

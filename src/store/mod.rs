//! Named bytes kept somewhere: the [`Store`] trait and the places that implement it.
//!
//! A store knows nothing of what it keeps. It promises that an object is there whole or not at
//! all, and that one whose `put` returned survives a power cut; who reads doesn't believe it and
//! checks digests, so a store that lies is found out.

mod cached;
mod faulty;
mod local;
mod lock;
mod memory;
mod rights;
mod sealed;
pub mod state;

use std::error;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::SystemTime;

use crate::id::ObjectName;

pub use cached::forget_cached;
pub use faulty::Counting;
pub use faulty::Fault;
pub use faulty::Faulty;
pub use faulty::Kind;
pub use local::Local;
pub use memory::Memory;
pub use memory::State;
pub use rights::Rights;
pub use sealed::PART_BYTES_MIN;
pub use sealed::SealedDraft;
pub use sealed::SealedFile;
pub use sealed::Target;

/// One object of a listing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listed {
    /// What it is called.
    pub name: ObjectName,
    /// How long it is.
    pub bytes: u64,
}

/// A place that keeps named bytes, used from many threads at once.
pub trait Store: Send + Sync {
    /// Stores a whole new object, for good once this returns; until then nothing of it is seen.
    ///
    /// # Errors
    /// [`Error::Exists`] if something has this name, which stays as it was. After any other error
    /// the object may or may not be there: whoever tries again must expect [`Error::Exists`].
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Error>;

    /// All bytes of an object that has at most `bytes_max`.
    ///
    /// # Errors
    /// [`Error::Missing`] if it isn't there; [`Error::TooLarge`] if it has more bytes, none of
    /// which were read then.
    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, Error>;

    /// The bytes of `range`, all of them.
    ///
    /// # Errors
    /// [`Error::Missing`] if the object isn't there; [`Error::Short`] if it ends before the range
    /// does, or the range before it starts.
    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, Error>;

    /// How many bytes an object has.
    ///
    /// # Errors
    /// [`Error::Missing`] if it isn't there.
    fn size(&self, name: &ObjectName) -> Result<u64, Error>;

    /// All objects whose names begin with `prefix`, sorted by name.
    ///
    /// `prefix` is empty or ends in `/`, as a rule; one that ends within a name works as well.
    /// What isn't an object is left out, and counted by [`Store::strangers`].
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Place`] if part of the place can't be read.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error>;

    /// Removes an object, for good once this returns.
    ///
    /// # Errors
    /// [`Error::Missing`] if it isn't there.
    fn remove(&self, name: &ObjectName) -> Result<(), Error>;

    /// Where this is, for messages.
    fn place(&self) -> String;

    /// Asks, without writing, whether writing could work: for a clear message before work starts.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] or [`Error::Denied`]. That there is none promises nothing.
    fn writable(&self) -> Result<(), Error>;

    /// What could be done to an object that is there with the access that this program has, asked without
    /// doing it; nothing where only trying would tell.
    ///
    /// # Errors
    /// [`Error::Missing`] if the object isn't there.
    fn rights(&self, _name: &ObjectName) -> Result<Rights, Error> {
        Ok(Rights::default())
    }

    /// How many things lie here that are neither objects nor what an interrupted put left behind.
    ///
    /// # Errors
    /// As [`Store::list`].
    fn strangers(&self) -> Result<u64, Error> {
        Ok(0)
    }

    /// Removes what interrupted puts left behind a day or more before `now`, and counts it.
    ///
    /// # Errors
    /// As [`Store::list`] and [`Store::remove`].
    fn clear_leftovers(&self, _now: SystemTime) -> Result<u64, Error> {
        Ok(0)
    }

    /// Whether this is one file, which keeps no second copies and no README.
    fn is_sealed_file(&self) -> bool {
        false
    }

    /// Lets some time pass before another look at what a writer may be in the midst of; `turn` counts the
    /// looks so far, and each wait is three times as long as the one before.
    ///
    /// How long a writer takes from one operation to the next is the store's to know: here 30 ms at first.
    fn pause(&self, turn: u32) {
        pause_ms(10, turn);
    }
}

/// Waits `unit` milliseconds times 3 to the power of `turn`, of which no more than four count.
fn pause_ms(unit: u64, turn: u32) {
    thread::sleep(Duration::from_millis(unit * 3_u64.pow(turn.min(4))));
}

/// Lets a pointer to a store be a store.
macro_rules! store_by_pointer {
    ($pointer:ty) => {
        impl<S: Store + ?Sized> Store for $pointer {
            fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
                (**self).put(name, bytes)
            }
            fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, Error> {
                (**self).get(name, bytes_max)
            }
            fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, Error> {
                (**self).get_range(name, range)
            }
            fn size(&self, name: &ObjectName) -> Result<u64, Error> {
                (**self).size(name)
            }
            fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
                (**self).list(prefix)
            }
            fn remove(&self, name: &ObjectName) -> Result<(), Error> {
                (**self).remove(name)
            }
            fn place(&self) -> String {
                (**self).place()
            }
            fn writable(&self) -> Result<(), Error> {
                (**self).writable()
            }
            fn rights(&self, name: &ObjectName) -> Result<Rights, Error> {
                (**self).rights(name)
            }
            fn strangers(&self) -> Result<u64, Error> {
                (**self).strangers()
            }
            fn clear_leftovers(&self, now: SystemTime) -> Result<u64, Error> {
                (**self).clear_leftovers(now)
            }
            fn is_sealed_file(&self) -> bool {
                (**self).is_sealed_file()
            }
            fn pause(&self, turn: u32) {
                (**self).pause(turn);
            }
        }
    };
}

store_by_pointer!(&S);
store_by_pointer!(Arc<S>);
store_by_pointer!(Box<S>);

/// Why a store didn't do what it was asked to.
#[derive(Debug)]
pub enum Error {
    /// The object isn't there.
    Missing {
        /// Its name.
        name: ObjectName,
    },
    /// Something has this name already.
    Exists {
        /// The name.
        name: ObjectName,
    },
    /// The object ends before the range that was wanted.
    Short {
        /// Its name.
        name: ObjectName,
    },
    /// The object has more bytes than the reader would take.
    TooLarge {
        /// Its name.
        name: ObjectName,
    },
    /// What has this name is a link, a folder or a device, or is reached through a link.
    NotAFile {
        /// The name.
        name: ObjectName,
    },
    /// There is no room for the object, or the quota is used up.
    Full {
        /// Its name.
        name: ObjectName,
    },
    /// The place can't be written to by anyone.
    ReadOnly {
        /// Where.
        place: String,
    },
    /// The user may not do this here.
    Denied {
        /// Where.
        place: String,
    },
    /// There is no such place.
    NoVault {
        /// Where.
        place: String,
    },
    /// The place for a new vault isn't empty.
    NotEmpty {
        /// Where.
        place: String,
    },
    /// What is there is no sealed file, nor the beginning of one.
    NotSealed {
        /// Where.
        place: String,
    },
    /// A sealed file isn't laid out as sealed files are: it was cut, changed, or lacks a part.
    Malformed {
        /// Where: the file, or the part of it that doesn't fit.
        place: String,
        /// At which byte of the whole file.
        offset: u64,
        /// What is wrong there, lower case.
        what: &'static str,
    },
    /// A sealed file can't hold such an object, or not any more: what stands before packs is written.
    NoPlace {
        /// Its name.
        name: ObjectName,
    },
    /// Something has the name that a new file is to have.
    Occupied {
        /// Where.
        place: String,
    },
    /// Another writer is at work on a file.
    Busy {
        /// Where.
        place: String,
    },
    /// A file that was to be replaced isn't what it was when it was read.
    Changed {
        /// Where.
        place: String,
    },
    /// Parts of a file were set aside to be replaced, and can't be put back: all of them are there, as
    /// `.NAME.NNN.<16 hex digits>.old`.
    Unfinished {
        /// Where the whole file belongs.
        place: String,
    },
    /// A file can't be cut into parts of that size.
    PartSize {
        /// Where they were to be.
        place: String,
    },
    /// There is no room left at a place, or the quota is used up.
    NoRoom {
        /// Where.
        place: String,
    },
    /// The system failed to read or write an object.
    Io {
        /// Its name.
        name: ObjectName,
        /// What the system said.
        source: io::Error,
    },
    /// The system failed to make, open or list a place.
    Place {
        /// Where.
        place: String,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name } => write!(f, "object {name} is not in the store"),
            Self::Exists { name } => write!(f, "object {name} is already in the store"),
            Self::Short { name } => write!(f, "object {name} is shorter than it should be"),
            Self::TooLarge { name } => write!(f, "object {name} is longer than it may be"),
            Self::NotAFile { name } => write!(f, "object {name} is not a plain file inside the store"),
            Self::Full { name } => write!(f, "there is no room left for object {name}"),
            Self::ReadOnly { place } => write!(f, "{place} is read-only"),
            Self::Denied { place } => write!(f, "access to {place} is denied"),
            Self::NoVault { place } => write!(f, "there is no vault at {place}"),
            Self::NotEmpty { place } => write!(f, "{place} is not empty"),
            Self::NotSealed { place } => write!(f, "{place} is not a sealed file"),
            Self::Malformed { place, offset, what } => {
                write!(f, "{place} is not a sealed file, or is damaged: {what} at byte {offset}")
            }
            Self::NoPlace { name } => write!(f, "object {name} has no place in a sealed file at this time"),
            Self::Occupied { place } => write!(f, "{place} is there already"),
            Self::Busy { place } => write!(f, "another run is at work on {place}"),
            Self::Changed { place } => write!(f, "{place} was changed meanwhile"),
            Self::Unfinished { place } => {
                write!(f, "parts of {place} were set aside to be replaced and can't be put back")
            }
            Self::PartSize { place } => {
                write!(
                    f,
                    "{place} can't be cut into parts of that size: at least 64 KiB each, at most 999 parts"
                )
            }
            Self::NoRoom { place } => write!(f, "there is no room left for {place}"),
            Self::Io { name, .. } => write!(f, "object {name} could not be read or written"),
            Self::Place { place, .. } => write!(f, "{place} could not be used"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Place { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_thing_and_leave_the_reason_to_the_source() {
        let name = || ObjectName::parse("a/b").unwrap();
        let place = || "/vault".to_owned();
        let source = || io::Error::other("the disk is on fire");
        let table = [
            (Error::Missing { name: name() }, "object a/b is not in the store", false),
            (Error::Exists { name: name() }, "object a/b is already in the store", false),
            (Error::Short { name: name() }, "object a/b is shorter than it should be", false),
            (Error::TooLarge { name: name() }, "object a/b is longer than it may be", false),
            (Error::NotAFile { name: name() }, "object a/b is not a plain file inside the store", false),
            (Error::Full { name: name() }, "there is no room left for object a/b", false),
            (Error::ReadOnly { place: place() }, "/vault is read-only", false),
            (Error::Denied { place: place() }, "access to /vault is denied", false),
            (Error::NoVault { place: place() }, "there is no vault at /vault", false),
            (Error::NotEmpty { place: place() }, "/vault is not empty", false),
            (Error::NotSealed { place: place() }, "/vault is not a sealed file", false),
            (
                Error::Malformed { place: place(), offset: 512, what: "a member out of its order" },
                "/vault is not a sealed file, or is damaged: a member out of its order at byte 512",
                false,
            ),
            (Error::NoPlace { name: name() }, "object a/b has no place in a sealed file at this time", false),
            (Error::Occupied { place: place() }, "/vault is there already", false),
            (Error::Busy { place: place() }, "another run is at work on /vault", false),
            (Error::Changed { place: place() }, "/vault was changed meanwhile", false),
            (
                Error::Unfinished { place: place() },
                "parts of /vault were set aside to be replaced and can't be put back",
                false,
            ),
            (
                Error::PartSize { place: place() },
                "/vault can't be cut into parts of that size: at least 64 KiB each, at most 999 parts",
                false,
            ),
            (Error::NoRoom { place: place() }, "there is no room left for /vault", false),
            (Error::Io { name: name(), source: source() }, "object a/b could not be read or written", true),
            (Error::Place { place: place(), source: source() }, "/vault could not be used", true),
        ];
        for (error, message, has_source) in table {
            assert_eq!(error.to_string(), message);
            assert_eq!(error::Error::source(&error).is_some(), has_source, "{message}");
        }
    }
}

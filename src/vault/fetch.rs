//! Objects out of a store, the second copy where the first is damaged or missing.

use std::collections::BTreeMap;

use crate::crypto::digest;
use crate::id::Digest;
use crate::id::ObjectName;
use crate::store;
use crate::store::Store;
use crate::vault::error::Error;
use crate::vault::name::Place;
use crate::vault::name::README;

/// The folder of the second copies.
pub const SECOND: &str = "2/";

/// Gets an object and checks it; if that fails, does the same with its second copy.
///
/// # Errors
/// That of the first copy, if neither will do: [`Error::Missing`], [`Error::Store`], or what `check` says.
pub fn checked<T>(
    store: &dyn Store,
    name: &ObjectName,
    bytes_max: u64,
    check: impl Fn(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    let get = |name: &ObjectName| match store.get(name, bytes_max) {
        Ok(bytes) => check(&bytes),
        Err(store::Error::TooLarge { .. }) => {
            Err(Error::Damaged { name: name.clone(), what: "it is longer than any such object".to_owned() })
        }
        Err(error) => Err(error.into()),
    };
    let first = get(name);
    match &first {
        Ok(_) => first,
        // A record of a newer version is no damage, so a second copy can't mend it.
        Err(Error::Newer { .. }) => first,
        Err(_) if store.is_sealed_file() => first,
        Err(_) => get(&name.second()).or(first),
    }
}

/// Puts an object and, right after it, its second copy; into a sealed file, which has none, the object alone.
///
/// An object that is there already with the same bytes counts as put: names carry digests, so a
/// command that was cut off and runs again meets its own.
///
/// # Errors
/// [`Error::Store`].
pub fn put_twice(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
    put_once(store, name, bytes)?;
    put_second(store, name, bytes)
}

/// Puts the second copy of an object; nothing into a sealed file, which has none.
///
/// # Errors
/// [`Error::Store`].
pub fn put_second(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
    if store.is_sealed_file() { Ok(()) } else { put_once(store, &name.second(), bytes) }
}

/// Puts one copy of an object, as [`put_twice`] puts both.
///
/// # Errors
/// [`Error::Store`].
pub fn put_once(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
    match store.put(name, bytes) {
        Err(store::Error::Exists { .. })
            if store.get(name, bytes.len() as u64).is_ok_and(|there| there == bytes) =>
        {
            Ok(())
        }
        result => Ok(result?),
    }
}

/// Puts the copy that is missing of an object that was cut off between its two; `digest` is that of all
/// its bytes. Where both copies are there, or none, nothing is done.
///
/// # Errors
/// [`Error::Store`].
pub fn complete(store: &dyn Store, name: &ObjectName, digest: &Digest) -> Result<(), Error> {
    if store.is_sealed_file() {
        return Ok(());
    }
    let second = name.second();
    let (there, missing, bytes_max) = match (store.size(name), store.size(&second)) {
        (Ok(size), Err(store::Error::Missing { .. })) => (name, &second, size),
        (Err(store::Error::Missing { .. }), Ok(size)) => (&second, name, size),
        _ => return Ok(()),
    };
    let bytes = store.get(there, bytes_max)?;
    if digest::digest(&bytes) != *digest {
        // Damage, and nothing that a run left: `verify` tells of it.
        return Ok(());
    }
    match store.put(missing, &bytes) {
        Err(store::Error::Exists { .. }) => Ok(()),
        result => Ok(result?),
    }
}

/// All names below `prefix`, in first copy or second.
///
/// # Errors
/// [`Error::Store`].
pub fn list_both(store: &dyn Store, prefix: &str) -> Result<Vec<ObjectName>, Error> {
    Ok(list_copies(store, prefix)?.into_keys().collect())
}

/// All names below `prefix`, and of each whether its second copy is there.
///
/// # Errors
/// [`Error::Store`].
pub fn list_copies(store: &dyn Store, prefix: &str) -> Result<BTreeMap<ObjectName, bool>, Error> {
    let first = store.list(prefix)?.into_iter().map(|listed| (listed.name, false));
    let mut names: BTreeMap<ObjectName, bool> = first.collect();
    if store.is_sealed_file() {
        return Ok(names);
    }
    for listed in store.list(&format!("{SECOND}{prefix}"))? {
        let name = listed.name.as_str().strip_prefix(SECOND).and_then(ObjectName::parse);
        names.extend(name.map(|name| (name, true)));
    }
    Ok(names)
}

/// Whether an object has a second copy: all but packs, and what is no object of the format.
#[must_use]
pub fn has_second(place: &Place) -> bool {
    !matches!(place, Place::Pack { .. })
}

/// The text that a finder of the drive reads.
#[must_use]
pub fn readme() -> ObjectName {
    ObjectName::parse(README).expect("the name is well-formed")
}

//! Sealed files where a vault's place is named: found, loaded, and changed by writing a new one.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::store;
use crate::store::SealedDraft;
use crate::store::SealedFile;
use crate::store::Store;
use crate::store::Target;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::slot::Way;

/// How a sealed file's name ends.
pub const SUFFIX: &str = ".strongroom";
/// How the name of the first part of one that was split ends.
pub const FIRST_PART: &str = ".001";

/// Whether a place is a file, or the parts of one, and no folder.
#[must_use]
pub fn is_file(place: &Path) -> bool {
    match std::fs::metadata(place) {
        Ok(meta) => !meta.is_dir(),
        Err(_) => with_ending(place, FIRST_PART).is_file(),
    }
}

/// The file there, its layout checked.
///
/// # Errors
/// `Exit::NoVault` if it is no sealed file; `Exit::Damaged`.
pub fn load(place: &Path) -> Result<Arc<SealedFile>, Failure> {
    match SealedFile::load(place) {
        Ok(file) => Ok(Arc::new(file)),
        Err(store::Error::NoVault { place }) => {
            Err(Failure::new(Exit::NoVault, format!("there is no file {}", one_line(&place))))
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens the file at `place`, all of its end and log checked, over a draft of the one that is to take its
/// place.
///
/// # Errors
/// As [`load`]; what unlocking says.
pub fn unlock_draft(place: &Path, way: &Way) -> Result<(Vault, Arc<SealedDraft>), Failure> {
    let file = load(place)?;
    let locked = LockedVault::load_sealed_file(Arc::clone(&file))?;
    let fingerprint = locked.log().fingerprint();
    let whole = without_part(place);
    let target = match part_bytes(&whole) {
        None => Target::file(&whole),
        Some(bytes) => Target::parts(&whole, bytes),
    };
    let draft = Arc::new(SealedDraft::over(file, folder_of(&whole), target.replacing())?);
    let store: Arc<dyn Store> = Arc::<SealedDraft>::clone(&draft);
    let vault = LockedVault::load(store, Some(&fingerprint))?.unlock(way)?;
    vault.admin()?;
    Ok((vault, draft))
}

/// The folder that holds a file.
#[must_use]
pub fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The name of the whole file, if `place` is that of its first part.
#[must_use]
pub fn without_part(place: &Path) -> PathBuf {
    if place.extension().is_some_and(|number| number == "001") {
        place.with_extension("")
    } else {
        place.to_owned()
    }
}

/// The length of the parts of a file that is in parts.
fn part_bytes(whole: &Path) -> Option<u64> {
    if whole.exists() {
        return None;
    }
    with_ending(whole, FIRST_PART).metadata().ok().map(|meta| meta.len())
}

/// `path` with `ending` after its name.
#[must_use]
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

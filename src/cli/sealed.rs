//! Sealed files where a vault's place is named: found, loaded, and changed by writing a new one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;

use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::store;
use crate::store::SealedDraft;
use crate::store::SealedFile;
use crate::store::Store;
use crate::store::Target;
use crate::tree::path::printable;
use crate::tree::place;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::error::Error;
use crate::vault::slot::Way;

/// How a sealed file's name ends.
pub const SUFFIX: &str = ".strongroom";
/// How the name of the first part of one that was split ends.
pub const FIRST_PART: &str = ".001";
/// How that of the second one ends.
const SECOND_PART: &str = ".002";
/// How long the parts of a file may become that had only one shorter part, in bytes.
const ONE_PART_BYTES: u64 = 1 << 30;

/// Whether a place is a file, or the parts of one, and no folder.
#[must_use]
pub fn is_file(place: &Path) -> bool {
    match std::fs::metadata(place) {
        Ok(meta) => !meta.is_dir(),
        Err(_) => with_ending(place, FIRST_PART).is_file() || SealedFile::was_cut_off(&without_part(place)),
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

/// The sealed file of a command, and what becomes of it.
#[derive(Default)]
pub struct Opened {
    file: OnceLock<Arc<SealedFile>>,
    draft: OnceLock<Arc<SealedDraft>>,
}

impl Opened {
    /// The file at `place`: the same one throughout the command, whatever comes to have its name meanwhile.
    ///
    /// # Errors
    /// As [`load`].
    pub fn file(&self, place: &Path) -> Result<Arc<SealedFile>, Failure> {
        if let Some(file) = self.file.get() {
            return Ok(Arc::clone(file));
        }
        let file = load(place)?;
        Ok(Arc::clone(self.file.get_or_init(|| file)))
    }

    /// The draft that [`Opened::keep`] kept.
    #[must_use]
    pub fn draft(&self) -> Option<&Arc<SealedDraft>> {
        self.draft.get()
    }

    /// Keeps the draft of the file to come for when it is finished.
    pub fn keep(&self, draft: Arc<SealedDraft>) {
        self.draft.get_or_init(|| draft);
    }
}

/// Opens `file`, which stands at `place` and was checked, over a draft of the one that is to take its place, for
/// an owner who knows that it is his.
///
/// # Errors
/// What unlocking says; [`Exit::Refused`] if the key is a reader's; `Exit::History` if this machine has
/// sealed a newer one.
pub fn unlock_draft(
    context: &Context,
    file: Arc<SealedFile>,
    place: &Path,
    way: &mut Way,
) -> Result<(Vault, Arc<SealedDraft>), Failure> {
    // What a link leads to is what changes, not the link.
    let whole = without_part(place);
    let whole = if whole.is_symlink() { std::fs::canonicalize(&whole).unwrap_or(whole) } else { whole };
    let target = match part_bytes(&whole) {
        None => Target::file(&whole),
        Some(bytes) => Target::parts(&whole, bytes),
    };
    let draft = Arc::new(SealedDraft::over(file, folder_of(&whole), target.replacing())?);
    let store: Arc<dyn Store> = Arc::<SealedDraft>::clone(&draft);
    let locked = LockedVault::load(store, None)?;
    // What was taken out of it, and who, would come back with an older copy.
    let pins = context.machine()?.check(&locked).map_err(|error| older(&whole, error))?;
    let vault = context.try_typed(locked, way)?;
    vault.admin()?;
    // Whoever has somebody's public key can make a file that it opens, and that somebody else reads.
    context.confirm_recipient(&vault, pins.is_some())?;
    Ok((vault, draft))
}

/// What is said of a file that this machine has sealed in another state, and that is to be changed.
fn older(file: &Path, error: Error) -> Failure {
    let shown = printable(file.as_os_str().as_bytes());
    let message = match error {
        Error::RolledBack { .. } | Error::HistoryMissing { .. } => {
            format!("{shown} is older than what this machine has sealed of it")
        }
        Error::Forked { .. } => {
            format!("{shown} is another version of the file than this machine has sealed")
        }
        error => return error.into(),
    };
    Failure::new(Exit::History, message).hint(
        "whoever was taken out of the file since would be let in again: look for the newer one, perhaps under another \
         name; if it is lost, `strongroom open` opens this one, and `strongroom seal DIR --force` makes a new file",
    )
}

/// Tells of what runs of `open` that were killed have left beside `target`, of this state of the file or another.
pub fn tell_leftovers(context: &Context, target: &Path) {
    for left in place::leftovers(target) {
        context.warn(&format!(
            "{} holds what an `open` that was cut off has put there: look what is in it, then delete it",
            printable(left.as_os_str().as_bytes())
        ));
    }
}

/// Warns of a file that is about to be read, if this machine has sealed a newer one: it may be read.
///
/// A memory that can't be read is told by whatever needs it.
pub fn warn_if_older(context: &Context, locked: &LockedVault) {
    let Ok(machine) = context.machine() else { return };
    let what = match machine.check(locked) {
        Err(Error::RolledBack { .. } | Error::HistoryMissing { .. }) => "a newer one of this file",
        Err(Error::Forked { .. }) => "another version of this file",
        _ => return,
    };
    context.warn(&format!(
        "this machine has sealed {what}: who was taken out of it since, this one still opens for"
    ));
}

/// Remembers the state of a file that was just sealed: an older one isn't sealed again, or given other slots,
/// by mistake.
pub fn remember(context: &Context, place: &Path) {
    let remembered = load(place)
        .and_then(|file| Ok(LockedVault::load_sealed_file(file)?))
        .and_then(|locked| Ok(context.machine()?.see(&locked)?));
    if let Err(failure) = remembered {
        context.warn(&format!("{}; this state of the file will not be remembered", failure.message));
    }
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
///
/// A single part is as long as what is in it, which says nothing of how long parts may be: the file stays in
/// one part then, up to [`ONE_PART_BYTES`].
fn part_bytes(whole: &Path) -> Option<u64> {
    if whole.exists() {
        return None;
    }
    let bytes = with_ending(whole, FIRST_PART).metadata().ok()?.len();
    let is_one = with_ending(whole, SECOND_PART).symlink_metadata().is_err();
    Some(if is_one { bytes.max(ONE_PART_BYTES) } else { bytes })
}

/// `path` with `ending` after its name.
#[must_use]
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_single_part_says_nothing_of_how_long_parts_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("x.strongroom");
        let part = |ending| File::create(with_ending(&whole, ending)).unwrap();
        assert_eq!(part_bytes(&whole), None);
        let first = part(".001");
        first.set_len(70_000).unwrap();
        assert_eq!(part_bytes(&whole), Some(1 << 30));
        first.set_len(3 << 30).unwrap();
        assert_eq!(part_bytes(&whole), Some(3 << 30));
        first.set_len(70_000).unwrap();
        part(".002");
        assert_eq!(part_bytes(&whole), Some(70_000));
        File::create(&whole).unwrap();
        assert_eq!(part_bytes(&whole), None);
    }
}

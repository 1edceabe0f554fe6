//! Files that aren't whole yet, under names of their own: made, locked while they are written to, and
//! removed later if whoever wrote them was cut off.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::hold::lock;

/// How many hexadecimal digits keep such names apart.
const DIGITS: usize = 16;
/// How the name of a file that isn't whole yet ends.
const END: &[u8] = b".partial";
/// So many bytes of the name to come are in it: a name has at most 255, and 26 are added here.
const START_BYTES_MAX: usize = 200;

/// Digits that nothing else has, as a rule; they need not be secret.
pub(super) fn digits() -> String {
    format!("{:016x}", RandomState::new().hash_one(0))
}

/// Whether these are digits as [`digits`] makes them.
pub(super) fn are_digits(text: &[u8]) -> bool {
    text.len() == DIGITS && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A name for a file that isn't whole yet and will be called `name`: `.<name>.<16 hex digits>.partial`.
///
/// It needs not be secret, as files are made under it only if it is free.
pub(super) fn name_for(name: &OsStr) -> OsString {
    let mut partial = OsString::from(".");
    partial.push(OsStr::from_bytes(start_of(name.as_bytes())));
    partial.push(format!(".{}.partial", digits()));
    partial
}

/// As much of a name as a longer one has room for.
fn start_of(name: &[u8]) -> &[u8] {
    &name[..name.len().min(START_BYTES_MAX)]
}

/// Makes a file, mode 0600, that will be called `name`, and locks it; tells what it is called until then.
///
/// # Errors
/// What the system says.
pub(super) fn make(folder: &OwnedFd, name: &OsStr) -> Result<(File, OsString), Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let temporary = name_for(name);
        let file = match rustix::fs::openat(folder, &temporary, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => continue,
            made => File::from(made?),
        };
        // Before it was locked it may have been taken for what a writer left that was cut off.
        if lock(&file) && rustix::fs::fstat(&file)?.st_nlink > 0 {
            return Ok((file, temporary));
        }
    }
}

/// Removes what writers left that were cut off before a file called `name`, or its parts, were whole.
///
/// It is known by its lock, which is free. Where files can't be locked nobody can tell, and where something
/// can't be removed it stays.
pub(super) fn clear(folder: &OwnedFd, name: &OsStr) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let found = entry.file_name().to_bytes();
        if is_of(found, name.as_bytes()) {
            let _ = clear_one(folder, OsStr::from_bytes(found));
        }
    }
}

/// Removes one such file, if it is nobody's.
fn clear_one(folder: &OwnedFd, found: &OsStr) -> Result<(), Errno> {
    // A planted link or pipe must lead nowhere and not block.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, found, flags, Mode::empty())?);
    let is_plain = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile;
    if is_plain && file.try_lock().is_ok() {
        rustix::fs::unlinkat(folder, found, AtFlags::empty())?;
    }
    Ok(())
}

/// Whether this is what a file called `name`, or a part of it, is called while it isn't whole.
fn is_of(found: &[u8], name: &[u8]) -> bool {
    let Some(found) = found.strip_prefix(b".").and_then(|rest| rest.strip_suffix(END)) else { return false };
    let Some((start, digits)) = found.split_at_checked(found.len().saturating_sub(DIGITS + 1)) else {
        return false;
    };
    let is_part = |rest: &[u8]| matches!(rest, [b'.', number @ ..] if is_number(number));
    let is_whole = start == start_of(name) || start.strip_prefix(name).is_some_and(is_part);
    is_whole && digits.strip_prefix(b".").is_some_and(are_digits)
}

/// Whether this is how parts are numbered.
pub(super) fn is_number(text: &[u8]) -> bool {
    text.len() == 3 && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn even_the_longest_name_has_room_for_what_marks_it_as_partial() {
        let longest = "x".repeat(255);
        let partial = name_for(longest.as_ref());
        assert!(partial.len() <= 255);
        assert!(is_of(partial.as_bytes(), longest.as_bytes()));
    }

    #[test]
    fn what_is_nobodys_is_cleared_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let handle = OwnedFd::from(File::open(folder.path()).unwrap());
        let left = [".x.0123456789abcdef.partial", ".x.001.0123456789abcdef.partial"];
        let others = [
            ".x.0123456789abcdef.part",
            ".x.0123456789ABCDEF.partial",
            ".x.01.0123456789abcdef.partial",
            ".xy.0123456789abcdef.partial",
            ".x.001.0123456789abcdef.old",
            "x",
            "x.0123456789abcdef.partial",
        ];
        for name in left.iter().chain(&others) {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        let (_file, at_work) = make(&handle, "x".as_ref()).unwrap();
        let link = folder.path().join(".x.00000000000000ff.partial");
        std::os::unix::fs::symlink(folder.path().join("x"), &link).unwrap();
        clear(&handle, "x".as_ref());
        for name in left {
            assert!(!folder.path().join(name).exists(), "{name}");
        }
        for name in others.into_iter().map(OsStr::new).chain([at_work.as_os_str(), link.as_os_str()]) {
            assert!(folder.path().join(name).symlink_metadata().is_ok(), "{name:?}");
        }
    }
}

//! Reading a file from the disk that was just written to it.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Advice;

/// The most parts that a sealed file is cut into.
const PARTS_MAX: usize = 999;

/// Has the system forget what it keeps in memory of a sealed file, or of its parts, so that reading it shows what the
/// disk has. Where that can't be had, reading shows what the system says it has.
pub fn forget_cached(whole: &Path) {
    let part = |number: usize| {
        let mut name = OsString::from(whole);
        name.push(format!(".{number:03}"));
        PathBuf::from(name)
    };
    let parts = (1..=PARTS_MAX).map(part).take_while(|part| part.exists());
    for path in std::iter::once(whole.to_owned()).chain(parts) {
        let Ok(file) = File::open(path) else { continue };
        // Only what was written out can be forgotten.
        let _ = rustix::fs::fdatasync(&file);
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    }
}

//! The parts of a file, or a whole file, set aside while parts take their names, and put back if that breaks off.
//!
//! Names of parts can't change all at once, so they change in an order from which whoever comes later can
//! tell how far it went. Part `NAME.NNN` is renamed to `.NAME.NNN.<16 hex digits>.old`, the first part last, and a
//! whole `NAME` after that to `.NAME.whole.<16 hex digits>.old`; then new parts take the names, the first one last
//! again; then those set aside are removed, again so. The head is the first part, or the whole:
//!
//! | first part | head set aside, too | then |
//! |---|---|---|
//! | there | no | no new part has its name yet: what is set aside goes back |
//! | missing | yes | some new parts may have theirs: they lose them, and what is set aside goes back |
//! | there | yes | all new parts have theirs: what is set aside goes |

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::super::Error;
use super::super::local::place_failure;
use super::super::local::sync_folder;
use super::disk::Disk;
use super::disk::is_there;
use super::file::PARTS_MAX;
use super::file::part_of;
use super::hold::Hold;
use super::partial;
use super::partial::are_digits;
use super::partial::digits;
use super::partial::is_number;

/// How the name of a part ends that is set aside.
const END: &str = ".old";
/// The number of what is no part, but a whole file.
const WHOLE: usize = 0;
/// What stands in its name in the place of a number.
const WHOLE_WORD: &str = "whole";
/// So many bytes of a file's name are in the names of its parts set aside: a name has at most 255, and up to 28 are
/// added here.
const NAME_BYTES_MAX: usize = 220;

/// Parts of one file that are set aside.
pub(super) struct Aside<'a> {
    folder: &'a OwnedFd,
    whole: &'a Path,
    disk: Disk,
    /// What their names have in common, and no others have.
    digits: String,
    /// The last one first.
    numbers: Vec<usize>,
}

impl<'a> Aside<'a> {
    /// Sets aside what has the names of parts of `whole`.
    ///
    /// # Errors
    /// [`Error::Occupied`] if a folder has such a name; [`Error::Denied`] and others of the folder. All parts
    /// have their names then, but after [`Error::Unfinished`], which says that they can't be put back.
    pub(super) fn set(folder: &'a OwnedFd, whole: &'a Path, disk: Disk) -> Result<Self, Error> {
        // With those of an earlier writer beside its own, nobody could tell how far this one came.
        settle(whole)?;
        for earlier in Self::find(folder, whole) {
            Self { disk, ..earlier }.remove()?;
        }
        let mut there = Vec::new();
        for number in (WHOLE..=PARTS_MAX).rev() {
            if is_part(folder, &place_of(whole, number))? {
                there.push(number);
            }
        }
        let mut aside = Self { folder, whole, disk, digits: digits(), numbers: Vec::new() };
        for number in there {
            let path = place_of(whole, number);
            if let Err(errno) = (disk.rename)(folder, name_in(&path), &aside.name(number)) {
                aside.put_back()?;
                return Err(place_failure(&path, errno));
            }
            aside.numbers.push(number);
        }
        if let Err(errno) = sync_folder(folder.as_fd(), disk.sync) {
            aside.put_back()?;
            return Err(place_failure(whole, errno));
        }
        Ok(aside)
    }

    /// What is set aside of `whole`, as far as its folder can be read: more than one only if somebody
    /// else had a hand in it.
    pub(super) fn find(folder: &'a OwnedFd, whole: &'a Path) -> Vec<Self> {
        let Ok(entries) = Dir::read_from(folder) else { return Vec::new() };
        let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for entry in entries.filter_map(Result::ok) {
            if let Some((number, digits)) = parse(entry.file_name().to_bytes(), name_in(whole)) {
                found.entry(digits).or_default().push(number);
            }
        }
        let aside = |(digits, mut numbers): (String, Vec<usize>)| {
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            Self { folder, whole, disk: Disk::SYSTEM, digits, numbers }
        };
        found.into_iter().map(aside).collect()
    }

    /// Gives them their names back, the first one first.
    ///
    /// # Errors
    /// [`Error::Unfinished`] if one can't have it: it and those after it stay where they are.
    pub(super) fn put_back(&self) -> Result<(), Error> {
        for &number in self.numbers.iter().rev() {
            let path = place_of(self.whole, number);
            let is_free = is_there(self.folder, name_in(&path)) == Ok(false);
            if !is_free || (self.disk.rename)(self.folder, &self.name(number), name_in(&path)).is_err() {
                return Err(self.unfinished());
            }
        }
        // If that fails they are found where they were, and put back once more.
        let _ = sync_folder(self.folder.as_fd(), self.disk.sync);
        Ok(())
    }

    /// Removes them, the first one last.
    ///
    /// # Errors
    /// [`Error::Denied`] and others of the folder: it and those before it stay where they are.
    pub(super) fn remove(&self) -> Result<(), Error> {
        self.numbers.iter().try_for_each(|&number| {
            let name = self.name(number);
            (self.disk.unlink)(self.folder, &name)
                .map_err(|errno| place_failure(&self.whole.with_file_name(name), errno))
        })
    }

    /// What the part with this number is called now.
    fn name(&self, number: usize) -> OsString {
        let mut name = OsString::from(".");
        name.push(OsStr::from_bytes(&short(name_in(self.whole))));
        match number {
            WHOLE => name.push(format!(".{WHOLE_WORD}")),
            number => name.push(format!(".{number:03}")),
        }
        name.push(format!(".{}{END}", self.digits));
        name
    }

    /// The number of the first part or the whole, if one of them is among them.
    fn head(&self) -> Option<usize> {
        self.numbers.last().copied().filter(|number| *number <= 1)
    }

    fn unfinished(&self) -> Error {
        Error::Unfinished { place: self.whole.display().to_string() }
    }
}

/// Puts parts back that a writer of `whole` set aside who was cut off before all new ones had their names.
///
/// # Errors
/// [`Error::Busy`] if the writer is at work; [`Error::Unfinished`] if they can't be put back: they stay as
/// they are.
pub(super) fn settle(whole: &Path) -> Result<(), Error> {
    let Some(folder) = folder_of(whole) else { return Ok(()) };
    let Some(first_there) = how_far(&folder, whole)? else { return Ok(()) };
    // The lock of whoever set them aside goes with the head, whatever that is called.
    let aside = Aside::find(&folder, whole);
    let [aside] = &aside[..] else { return Ok(()) };
    let first = match aside.head() {
        Some(head) if !first_there => whole.with_file_name(aside.name(head)),
        _ => part_of(whole, 1),
    };
    let _hold = Hold::take(&first)?;
    if how_far(&folder, whole)? != Some(first_there) {
        // Its writer ended just now.
        return Ok(());
    }
    if !first_there {
        move_away(&folder, whole);
    }
    aside.put_back()
}

/// Gives parts that are no part of a whole the names of those that aren't whole yet: who reads removes
/// nothing, and the next writer does.
fn move_away(folder: &OwnedFd, whole: &Path) {
    for number in 2..=PARTS_MAX {
        let path = part_of(whole, number);
        // One that stays is in the way, and told of.
        let _ = (Disk::SYSTEM.rename)(folder, name_in(&path), &partial::name_for(name_in(&path)));
    }
}

/// Whether parts of `whole` have to be put back, and if so, whether its first part is there.
///
/// # Errors
/// [`Error::Unfinished`] if nobody can tell which of them belong together.
fn how_far(folder: &OwnedFd, whole: &Path) -> Result<Option<bool>, Error> {
    let found = Aside::find(folder, whole);
    let Some(aside) = found.first() else { return Ok(None) };
    let first_there = is_there(folder, name_in(&part_of(whole, 1)))
        .map_err(|errno| place_failure(&part_of(whole, 1), errno))?;
    match (first_there, aside.head().is_some()) {
        // Removing what is set aside is for the next writer.
        (true, true) if found.len() == 1 => Ok(None),
        (false, false) => Err(aside.unfinished()),
        _ if found.len() > 1 => Err(aside.unfinished()),
        _ => Ok(Some(first_there)),
    }
}

/// Whether parts of `whole` are set aside and its first part is missing.
pub(super) fn is_cut_off(whole: &Path) -> bool {
    whole.file_name().is_some()
        && folder_of(whole).is_some_and(|folder| {
            let first = part_of(whole, 1);
            !Aside::find(&folder, whole).is_empty() && is_there(&folder, name_in(&first)) == Ok(false)
        })
}

/// The folder of a path, if it has one that can be opened.
fn folder_of(path: &Path) -> Option<OwnedFd> {
    path.file_name()?;
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty()).ok()
}

/// Whether something has this name that can be set aside.
///
/// # Errors
/// [`Error::Occupied`] if it is a folder; [`Error::Denied`] or [`Error::Place`].
fn is_part(folder: &OwnedFd, path: &Path) -> Result<bool, Error> {
    match rustix::fs::statat(folder, name_in(path), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Err(Error::Occupied { place: path.display().to_string() })
        }
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(place_failure(path, errno)),
    }
}

/// The number and digits of a part of `whole` that is set aside under this name.
fn parse(found: &[u8], whole: &OsStr) -> Option<(usize, String)> {
    let rest = found.strip_prefix(b".")?.strip_prefix(&short(whole)[..])?.strip_prefix(b".")?;
    let (number, digits) = match rest.strip_prefix(WHOLE_WORD.as_bytes()) {
        Some(rest) => (WHOLE, rest),
        None => {
            let (number, rest) = rest.split_at_checked(3).filter(|(number, _)| is_number(number))?;
            let number = str::from_utf8(number).ok()?.parse().ok()?;
            (Some(number).filter(|number| *number != WHOLE)?, rest)
        }
    };
    let digits = digits.strip_prefix(b".")?.strip_suffix(END.as_bytes())?;
    are_digits(digits).then(|| Some((number, str::from_utf8(digits).ok()?.to_owned())))?
}

/// Where the part with this number is, or the whole.
fn place_of(whole: &Path, number: usize) -> PathBuf {
    if number == WHOLE { whole.to_owned() } else { part_of(whole, number) }
}

/// A name, or as much of it as a longer one has room for, and a sum of all of it that tells it from others.
fn short(name: &OsStr) -> Cow<'_, [u8]> {
    let bytes = name.as_bytes();
    if bytes.len() <= NAME_BYTES_MAX {
        return Cow::Borrowed(bytes);
    }
    // FNV-1a, which needs not withstand anybody: who names files in the folder can move them, too.
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut short = bytes[..NAME_BYTES_MAX - 17].to_vec();
    short.extend_from_slice(format!("~{sum:016x}").as_bytes());
    Cow::Owned(short)
}

/// The last part of a path that has one.
fn name_in(path: &Path) -> &OsStr {
    path.file_name().expect("parts and their whole end in a name, which was looked at first")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;

    use super::*;

    const OLD: &str = "0123456789abcdef.old";

    /// What [`settle`] makes of files with these names, each of which holds what it is called.
    fn settled(names: &[String]) -> (Result<(), Error>, BTreeMap<String, String>) {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let settled = settle(&folder.path().join("x"));
        let left = fs::read_dir(folder.path()).unwrap().map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            (name.clone(), fs::read_to_string(folder.path().join(name)).unwrap())
        });
        (settled, left.collect())
    }

    #[test]
    fn how_far_a_writer_came_is_told_by_the_first_part() {
        let aside = |number| format!(".x.{number:03}.{OLD}");
        let part = |number: usize| format!("x.{number:03}");
        let put_back = |left: &BTreeMap<String, String>, number: usize| left[&part(number)] == aside(number);

        let (ended, left) = settled(&[part(1), aside(2), aside(3)]);
        assert!(ended.is_ok() && left.len() == 3 && put_back(&left, 2) && put_back(&left, 3));
        assert_eq!(left[&part(1)], part(1));
        let (ended, left) = settled(&[part(2), part(9), aside(1), aside(2)]);
        assert!(ended.is_ok() && left.len() == 4 && put_back(&left, 1) && put_back(&left, 2));
        for number in [2, 9] {
            let is_moved = |name: &String| name.starts_with(&format!(".{}.", part(number)));
            let (name, content) = left.iter().find(|(name, _)| is_moved(name)).unwrap();
            assert!(name.ends_with(".partial") && *content == part(number));
        }
        let (ended, left) = settled(&[part(1), part(2), aside(1), aside(2)]);
        assert!(ended.is_ok() && left.len() == 4 && !put_back(&left, 1));
    }

    #[test]
    fn what_nobody_can_tell_stays_as_it_is() {
        let mixed: [&[&str]; 4] = [
            &[".x.002.0123456789abcdef.old"],
            &[".x.001.0123456789abcdef.old", ".x.001.0123456789abcde0.old"],
            &["x.001", ".x.001.0123456789abcdef.old", ".x.001.0123456789abcde0.old"],
            &["x.001", "x.002", ".x.002.0123456789abcdef.old"],
        ];
        for names in mixed {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let (ended, left) = settled(&names);
            assert!(matches!(ended, Err(Error::Unfinished { .. })), "{names:?}");
            assert!(names.iter().all(|name| left[name] == *name), "{names:?}");
        }
    }

    #[test]
    fn other_names_are_none_of_parts_set_aside() {
        let names = [
            ".x.000.0123456789abcdef.old",
            ".x.whole0123456789abcdef.old",
            ".x.01.0123456789abcdef.old",
            ".x.001.0123456789ABCDEF.old",
            ".xx.001.0123456789abcdef.old",
            ".x.001.0123456789abcdef.partial",
            "x.001.0123456789abcdef.old",
        ];
        assert!(names.iter().all(|name| parse(name.as_bytes(), OsStr::new("x")).is_none()));
    }

    #[test]
    fn a_whole_file_goes_back_unless_all_new_parts_have_their_names() {
        let aside = || ".x.whole.0123456789abcdef.old".to_owned();
        let (ended, left) = settled(&["x.002".to_owned(), "x.003".to_owned(), aside()]);
        assert!(ended.is_ok() && left["x"] == aside() && left.len() == 3, "{left:?}");
        assert_eq!(left.keys().filter(|name| name.ends_with(".partial")).count(), 2);
        let (ended, left) = settled(&["x.001".to_owned(), "x.002".to_owned(), aside()]);
        assert!(ended.is_ok() && left[&aside()] == aside() && left.len() == 3, "{left:?}");
    }

    #[test]
    fn long_names_have_room_for_what_marks_them_and_stay_apart() {
        let folder = OwnedFd::from(File::open("/").unwrap());
        let names = ["a", "b"].map(|end| OsString::from(format!("{}{end}", "x".repeat(250))));
        for (name, other) in [(&names[0], &names[1]), (&names[1], &names[0])] {
            let whole = Path::new("/").join(name);
            let digits = "0123456789abcdef".to_owned();
            let aside =
                Aside { folder: &folder, whole: &whole, disk: Disk::SYSTEM, digits, numbers: Vec::new() };
            for number in [WHOLE, 1, PARTS_MAX] {
                let found = aside.name(number);
                assert!(found.len() <= 255);
                assert_eq!(parse(found.as_bytes(), name).map(|(number, _)| number), Some(number));
                assert!(parse(found.as_bytes(), other).is_none());
            }
        }
    }

    #[test]
    fn a_writer_at_work_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("x");
        for number in 1..4 {
            fs::write(part_of(&whole, number), "old").unwrap();
        }
        let hold = Hold::take(&part_of(&whole, 1)).unwrap();
        let handle = OwnedFd::from(File::open(folder.path()).unwrap());
        let aside = Aside::set(&handle, &whole, Disk::SYSTEM).unwrap();
        assert!(matches!(settle(&whole), Err(Error::Busy { .. })));
        drop((aside, hold));
        settle(&whole).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}

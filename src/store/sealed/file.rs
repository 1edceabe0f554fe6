//! A sealed file that is read: all of its layout at first, its members as they are asked for.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::id::ObjectName;

use super::super::Error;
use super::super::Listed;
use super::super::Store;
use super::super::local::place_failure;
use super::aside;
use super::header;
use super::header::BLOCK_BYTES;
use super::header::BLOCK_STEP;
use super::header::GENESIS_START;
use super::header::Order;
use super::header::Rank;
use super::hold::Stamp;
use super::joined::Joined;
use super::joined::length_of;
use super::joined::within;
use super::spool;

/// How much of a pipe is taken at a time.
const STAGE_BYTES: usize = 1 << 20;
/// How many blocks of zeros end a file.
const END_BLOCKS: u64 = 2;
/// A file has at most this many parts.
pub(super) const PARTS_MAX: usize = 999;

/// A sealed file, of which nothing can be changed.
pub struct SealedFile {
    place: String,
    files: Joined,
    members: Vec<Listed>,
    /// Where the bytes of each of them begin.
    offsets: Vec<u64>,
    /// Indexes of `members`, by name.
    by_name: Vec<u32>,
    /// What each of its files was when it was loaded.
    stamps: Vec<Stamp>,
}

impl SealedFile {
    /// Opens the file at `path` and checks its layout, all but what the members hold.
    ///
    /// If nothing is at `path` but at `path.001`, or if `path` itself ends in `.001`, the parts from
    /// there on are read as one. All of them stay open, at most 999. Parts, or a whole file, that a writer set
    /// aside who was cut off before the new parts had all their names are put back first.
    ///
    /// # Errors
    /// [`Error::NoVault`] if nothing is there; [`Error::NotSealed`] if it is no plain file or nothing about
    /// its first block is that of a sealed file; [`Error::Malformed`] if it isn't laid out as one, or a part
    /// is missing or has another length; [`Error::Busy`] if its parts are being replaced, [`Error::Unfinished`]
    /// if they were and can't be put back; [`Error::Denied`] or [`Error::Place`] if it can't be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let whole = match path.extension() {
            Some(number) if number == "001" => path.with_extension(""),
            _ => match open(path)? {
                Some((file, bytes)) => {
                    return Self::parse(path.display().to_string(), Joined::one(file), bytes);
                }
                None => path.to_owned(),
            },
        };
        aside::settle(&whole)?;
        // What was set aside may have been a whole file.
        let put_back = if whole == *path { open(path)? } else { None };
        if let Some((file, bytes)) = put_back {
            return Self::parse(path.display().to_string(), Joined::one(file), bytes);
        }
        let (files, bytes) =
            join(&whole)?.ok_or_else(|| Error::NoVault { place: path.display().to_string() })?;
        Self::parse(whole.display().to_string(), files, bytes)
    }

    /// Whether nothing but parts that were set aside is left of a file in parts at `path`, since a writer was
    /// cut off: [`SealedFile::load`] puts them back.
    #[must_use]
    pub fn was_cut_off(path: &Path) -> bool {
        aside::is_cut_off(path)
    }

    /// Puts all that `reader` gives aside in a file without a name in `folder`, and reads it from there.
    ///
    /// What doesn't begin as a sealed file does is refused before it is put aside, and each header as soon as
    /// it is: of a stream that goes on in another way, or doesn't end, no more than that is taken.
    ///
    /// # Errors
    /// As [`SealedFile::load`] of what comes; [`Error::NoRoom`] and others of `folder`;
    /// [`Error::Place`] if `reader` fails.
    pub fn from_stream(mut reader: impl Read, folder: &Path) -> Result<Self, Error> {
        let place = "the stream".to_owned();
        let broken = |source| Error::Place { place: place.clone(), source };
        let mut buffer = Vec::with_capacity(STAGE_BYTES);
        reader.by_ref().take(BLOCK_STEP).read_to_end(&mut buffer).map_err(broken)?;
        check_beginning(&place, &buffer)?;
        let files = Joined::one(spool::unnamed(folder)?);
        let mut layout = Layout::new(place.clone());
        let mut at = 0;
        while !buffer.is_empty() {
            files.files()[0].write_all_at(&buffer, at).map_err(|error| spool::failure(folder, &error))?;
            at += length_of(&buffer);
            layout.read(&files, at)?;
            buffer.clear();
            let most = u64::try_from(STAGE_BYTES).expect("a constant that fits");
            reader.by_ref().take(most).read_to_end(&mut buffer).map_err(broken)?;
        }
        layout.check_whole(at)?;
        Ok(Self::new(layout, files))
    }

    /// All members in the order in which they stand in the file, `end` the last.
    #[must_use]
    pub fn members(&self) -> &[Listed] {
        &self.members
    }

    /// Reads the layout of `bytes` bytes.
    fn parse(place: String, files: Joined, bytes: u64) -> Result<Self, Error> {
        let read = |buffer: &mut [u8]| {
            files.read_exact_at(buffer, 0).map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => {
                    Error::Malformed { place: place.clone(), offset: 0, what: "it was cut while it was read" }
                }
                _ => Error::Place { place: place.clone(), source },
            })
        };
        let mut beginning = [0; BLOCK_BYTES];
        let there = usize::try_from(bytes).map_or(BLOCK_BYTES, |bytes| bytes.min(BLOCK_BYTES));
        read(&mut beginning[..there])?;
        check_beginning(&place, &beginning[..there])?;
        let stamps = files.files().iter().map(|file| Stamp::of(file)).collect::<io::Result<_>>();
        let stamps = stamps.map_err(|source| Error::Place { place: place.clone(), source })?;
        let mut layout = Layout::new(place);
        layout.read(&files, bytes)?;
        layout.check_whole(bytes)?;
        Ok(Self { stamps, ..Self::new(layout, files) })
    }

    /// A file of which the whole layout was read.
    fn new(layout: Layout, files: Joined) -> Self {
        let Layout { place, members, offsets, .. } = layout;
        let count = u32::try_from(members.len()).expect("members are at most 2^20");
        let mut by_name: Vec<u32> = (0..count).collect();
        by_name.sort_unstable_by(|&a, &b| members[index(a)].name.cmp(&members[index(b)].name));
        Self { place, files, members, offsets, by_name, stamps: Vec::new() }
    }

    /// Where the bytes of an object begin, and how many there are; nothing if it isn't there.
    pub(super) fn find(&self, name: &ObjectName) -> Option<(u64, u64)> {
        let found = self.by_name.binary_search_by(|&each| self.members[index(each)].name.cmp(name));
        let at = index(self.by_name[found.ok()?]);
        Some((self.offsets[at], self.members[at].bytes))
    }

    /// What [`SealedFile::find`] tells of an object that must be there.
    fn locate(&self, name: &ObjectName) -> Result<(u64, u64), Error> {
        self.find(name).ok_or_else(|| Error::Missing { name: name.clone() })
    }

    /// All members and where their bytes begin, in the order of the file.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Listed, u64)> {
        self.members.iter().zip(self.offsets.iter().copied())
    }

    /// What each of its files was when it was loaded; nothing of a stream.
    pub(super) fn stamps(&self) -> &[Stamp] {
        &self.stamps
    }

    /// What the members are read from.
    pub(super) fn files(&self) -> &Joined {
        &self.files
    }
}

/// The layout of a file, read from the front as far as there is something of it.
struct Layout {
    place: String,
    order: Order,
    members: Vec<Listed>,
    /// Where the bytes of each of them begin.
    offsets: Vec<u64>,
    /// Where the next header stands, or block that ends the file.
    at: u64,
    /// How many zeros before it fill up the block of a member.
    padding: usize,
    /// How many of the blocks that end the file were read.
    end_blocks: u64,
}

impl Layout {
    fn new(place: String) -> Self {
        let (members, offsets) = (Vec::new(), Vec::new());
        Self { place, order: Order::default(), members, offsets, at: 0, padding: 0, end_blocks: 0 }
    }

    /// Goes on with what `files` hold of it by now: `bytes` bytes.
    ///
    /// # Errors
    /// [`Error::NotSealed`]; [`Error::Malformed`] for what can't become right by more that comes;
    /// [`Error::Place`].
    fn read(&mut self, files: &Joined, bytes: u64) -> Result<(), Error> {
        while self.end_blocks < END_BLOCKS && self.at + BLOCK_STEP <= bytes {
            self.read_block(files)?;
        }
        if self.end_blocks == END_BLOCKS && self.at < bytes {
            return Err(self.malformed(self.at, "something after its end"));
        }
        Ok(())
    }

    /// Refuses it if anything is missing of it, now that no more than `bytes` bytes come.
    fn check_whole(&self, bytes: u64) -> Result<(), Error> {
        match self.offsets.last() {
            None => Err(Error::NotSealed { place: self.place.clone() }),
            Some(_) if self.end_blocks == END_BLOCKS => Ok(()),
            Some(offset) if self.at > bytes && self.end_blocks == 0 => {
                Err(self.malformed(offset - BLOCK_STEP, "a member that is longer than the file"))
            }
            Some(_) => Err(self.malformed(self.at, "it ends too early")),
        }
    }

    /// Takes a header, or a block that ends the file, and the zeros before it.
    fn read_block(&mut self, files: &Joined) -> Result<(), Error> {
        let mut buffer = [0; 2 * BLOCK_BYTES];
        let span = &mut buffer[..self.padding + BLOCK_BYTES];
        let start = self.at - length_of(&span[..self.padding]);
        files.read_exact_at(span, start).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.malformed(start, "it was cut while it was read"),
            _ => Error::Place { place: self.place.clone(), source },
        })?;
        let (zeros, block) = span.split_at(self.padding);
        if zeros.iter().any(|&byte| byte != 0) {
            return Err(self.malformed(start, "something where zeros belong"));
        }
        let block: &[u8; BLOCK_BYTES] = block.first_chunk().expect("a block was asked for");
        if self.end_blocks > 0 || *block == [0; BLOCK_BYTES] {
            self.take_end(block)
        } else {
            self.take_header(block)
        }
    }

    /// Takes a block that must be one of those that end the file.
    fn take_end(&mut self, block: &[u8; BLOCK_BYTES]) -> Result<(), Error> {
        if !self.order.ended() {
            return Err(self.malformed(self.at, "it ends before its last member"));
        }
        if *block != [0; BLOCK_BYTES] {
            return Err(self.malformed(self.at, "something where zeros belong"));
        }
        self.end_blocks += 1;
        self.at += BLOCK_STEP;
        self.padding = 0;
        Ok(())
    }

    /// Takes the header of a member, and goes to where the next one must stand.
    fn take_header(&mut self, block: &[u8; BLOCK_BYTES]) -> Result<(), Error> {
        let (name, length) = header::decode(block)
            .ok_or_else(|| self.malformed(self.at, "a header that is none of a member"))?;
        self.order.take(&name).map_err(|what| self.malformed(self.at, what))?;
        let offset = self.at + BLOCK_STEP;
        let end = offset + length;
        self.at = end.next_multiple_of(BLOCK_STEP);
        self.padding = usize::try_from(self.at - end).expect("less than a block");
        self.members.push(Listed { name, bytes: length });
        self.offsets.push(offset);
        Ok(())
    }

    fn malformed(&self, offset: u64, what: &'static str) -> Error {
        Error::Malformed { place: self.place.clone(), offset, what }
    }
}

/// An index of a list in memory.
fn index(number: u32) -> usize {
    usize::try_from(number).expect("a place in memory can be numbered")
}

/// Holds the first block of a file, or all of one that is shorter, against how a sealed file begins: with
/// the header of a vault's first record.
///
/// # Errors
/// [`Error::Malformed`] if it is the beginning of a sealed file that was cut or changed, or of another tar:
/// a sealed file that was packed anew is one. [`Error::NotSealed`] if it is something else altogether.
fn check_beginning(place: &str, block: &[u8]) -> Result<(), Error> {
    let malformed = |what| Err(Error::Malformed { place: place.to_owned(), offset: 0, what });
    if let Some(whole) = block.first_chunk() {
        if header::decode(whole).is_some_and(|(name, _)| Rank::of(&name) == Some(Rank::Genesis)) {
            return Ok(());
        }
        if header::is_of_some_tar(whole) {
            return malformed("a header that is not the one of a vault's first record");
        }
    }
    let named = block.len().min(GENESIS_START.len());
    if GENESIS_START.as_bytes()[..named] != block[..named] {
        return Err(Error::NotSealed { place: place.to_owned() });
    }
    malformed(if block.len() < BLOCK_BYTES {
        "it ends too early"
    } else {
        "a header that is none of a member"
    })
}

/// What the part with this number is called, from 1.
pub(super) fn part_of(whole: &Path, number: usize) -> PathBuf {
    let mut name = OsString::from(whole);
    name.push(format!(".{number:03}"));
    PathBuf::from(name)
}

/// Opens a plain file and tells its length; nothing if there is none of that name.
///
/// # Errors
/// [`Error::NotSealed`] if it isn't a plain file; [`Error::Denied`] or [`Error::Place`].
pub(super) fn open(path: &Path) -> Result<Option<(File, u64)>, Error> {
    // A pipe must not block, nor a terminal be adopted.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let place = || path.display().to_string();
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::NXIO | Errno::ISDIR) => return Err(Error::NotSealed { place: place() }),
        opened => File::from(opened.map_err(|errno| place_failure(path, errno))?),
    };
    let metadata = file.metadata().map_err(|source| Error::Place { place: place(), source })?;
    if !metadata.is_file() {
        return Err(Error::NotSealed { place: place() });
    }
    Ok(Some((file, metadata.len())))
}

/// Opens all parts of a file and tells how long they are together; nothing if there is no first one.
fn join(whole: &Path) -> Result<Option<(Joined, u64)>, Error> {
    let Some((first, part_bytes)) = open(&part_of(whole, 1))? else { return Ok(None) };
    // A division by 0 is the reason: what is empty is refused as soon as it is read.
    let mut files = Joined::of_parts(part_bytes.max(1));
    files.push(first);
    let (mut bytes, mut bytes_last) = (part_bytes, part_bytes);
    let mut number = 2;
    while number <= PARTS_MAX {
        let path = part_of(whole, number);
        let malformed =
            |path: &Path, what| Error::Malformed { place: path.display().to_string(), offset: bytes, what };
        let Some((file, length)) = open(&path)? else { break };
        if bytes_last != part_bytes {
            return Err(malformed(
                &part_of(whole, number - 1),
                "a part shorter than the first, and not the last,",
            ));
        }
        if length > part_bytes || length == 0 {
            return Err(malformed(&path, "a part of another length than the first"));
        }
        // No disk holds more; it keeps sums of offsets from running over.
        let sum = bytes.checked_add(length).filter(|&sum| sum < 1 << 62);
        let sum = sum.ok_or_else(|| malformed(&path, "a part that is too long"))?;
        files.push(file);
        (bytes, bytes_last) = (sum, length);
        number += 1;
    }
    let missing = number;
    while number <= PARTS_MAX {
        if part_of(whole, number).symlink_metadata().is_ok() {
            let place = part_of(whole, missing).display().to_string();
            return Err(Error::Malformed { place, offset: bytes, what: "a missing part" });
        }
        number += 1;
    }
    Ok(Some((files, bytes)))
}

impl Store for SealedFile {
    fn put(&self, _name: &ObjectName, _bytes: &[u8]) -> Result<(), Error> {
        Err(Error::ReadOnly { place: self.place() })
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, Error> {
        let (offset, bytes) = self.locate(name)?;
        if bytes > bytes_max {
            return Err(Error::TooLarge { name: name.clone() });
        }
        self.files.read(name, offset..offset + bytes)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let (offset, bytes) = self.locate(name)?;
        self.files.read(name, within(name, &range, offset, bytes)?)
    }

    fn size(&self, name: &ObjectName) -> Result<u64, Error> {
        Ok(self.locate(name)?.1)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let named = |&each: &u32| &self.members[index(each)];
        let start = self.by_name.partition_point(|each| named(each).name.as_str() < prefix);
        let listed = self.by_name[start..].iter().map(named);
        Ok(listed.take_while(|each| each.name.as_str().starts_with(prefix)).cloned().collect())
    }

    fn remove(&self, _name: &ObjectName) -> Result<(), Error> {
        Err(Error::ReadOnly { place: self.place() })
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn writable(&self) -> Result<(), Error> {
        Err(Error::ReadOnly { place: self.place() })
    }

    fn is_sealed_file(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::process::Command;
    use std::process::Stdio;
    use std::sync::mpsc;
    use std::thread;

    use tempfile::TempDir;

    use super::super::samples::ADMIN_RING;
    use super::super::samples::END;
    use super::super::samples::GENESIS;
    use super::super::samples::READ_RING;
    use super::super::samples::TABLE;
    use super::super::samples::file;
    use super::super::samples::members;
    use super::super::samples::name;
    use super::*;

    fn sample() -> Vec<(&'static str, &'static [u8])> {
        vec![
            GENESIS,
            ("k/00000001-aa", b"table"),
            ("r/00000001-bb.admin", b""),
            ("r/00000001-bb.read", &[7; 512]),
            ("a/0000000000000001-cc", b"record"),
            ("p/00/ff/1", &[1; 3000]),
            ("p/00/aa/2", &[2; 1024]),
            ("s/00/0000000000000000-dd", b"header"),
            END,
        ]
    }

    fn load(bytes: &[u8]) -> Result<SealedFile, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.strongroom");
        fs::write(&path, bytes).unwrap();
        SealedFile::load(&path)
    }

    /// Cuts a file into parts named as those of `folder/x.strongroom`.
    fn split(folder: &TempDir, bytes: &[u8], part_bytes: usize) -> PathBuf {
        let whole = folder.path().join("x.strongroom");
        for (index, part) in bytes.chunks(part_bytes).enumerate() {
            fs::write(part_of(&whole, index + 1), part).unwrap();
        }
        whole
    }

    fn check(sealed: &SealedFile) {
        let sample = sample();
        let listed: Vec<_> = sealed.members().iter().map(|each| (each.name.as_str(), each.bytes)).collect();
        assert_eq!(
            listed,
            sample.iter().map(|(name, content)| (*name, length_of(content))).collect::<Vec<_>>()
        );
        for (text, content) in sample {
            assert_eq!(sealed.get(&name(text), 3000).unwrap(), content, "{text}");
            assert_eq!(sealed.size(&name(text)).unwrap(), length_of(content));
        }
    }

    #[test]
    fn what_the_members_hold_is_read_from_the_file_and_nothing_is_changed() {
        let sealed = load(&file(&sample())).unwrap();
        check(&sealed);
        let pack = name("p/00/ff/1");
        assert_eq!(sealed.get_range(&pack, 2990..3000).unwrap(), [1; 10]);
        assert!(sealed.get_range(&pack, 3000..3000).unwrap().is_empty());
        #[allow(clippy::reversed_empty_ranges, reason = "a backward range is one of the refusals")]
        for range in [2990..3001, 3001..3001, 5..4, 0..u64::MAX, u64::MAX..u64::MAX] {
            assert!(matches!(sealed.get_range(&pack, range), Err(Error::Short { .. })));
        }
        assert!(matches!(sealed.get(&pack, 2999), Err(Error::TooLarge { .. })));
        assert!(matches!(sealed.get(&name("p/00/ff/2"), 9), Err(Error::Missing { .. })));
        let names = |prefix| -> Vec<String> {
            sealed.list(prefix).unwrap().into_iter().map(|each| each.name.to_string()).collect()
        };
        assert_eq!(names("p/"), ["p/00/aa/2", "p/00/ff/1"]);
        assert_eq!(names("r/00000001-bb.r"), ["r/00000001-bb.read"]);
        assert_eq!(names("z"), [""; 0]);
        assert_eq!(names("").len(), 9);
        assert!(matches!(sealed.put(&name("p/new"), b""), Err(Error::ReadOnly { .. })));
        assert!(matches!(sealed.remove(&pack), Err(Error::ReadOnly { .. })));
        assert!(matches!(sealed.writable(), Err(Error::ReadOnly { .. })));
        assert!(sealed.is_sealed_file());
    }

    #[test]
    fn a_stream_is_put_aside_and_read() {
        let folder = tempfile::tempdir().unwrap();
        check(&SealedFile::from_stream(&*file(&sample()), folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let large = vec![9; 3 * STAGE_BYTES + 77];
        let bytes = file(&[GENESIS, TABLE, ADMIN_RING, READ_RING, ("p/large", &large), END]);
        let sealed = SealedFile::from_stream(&*bytes, folder.path()).unwrap();
        assert!(sealed.get(&name("p/large"), u64::MAX).unwrap() == large);
        assert!(matches!(
            SealedFile::from_stream(&bytes[..9000], folder.path()),
            Err(Error::Malformed { offset: 2560, .. })
        ));
    }

    #[test]
    fn an_endless_stream_of_something_else_is_not_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let refused = SealedFile::from_stream(io::repeat(b'x'), folder.path());
        assert!(matches!(refused, Err(Error::NotSealed { .. })));
        let nothing = SealedFile::from_stream(io::empty(), folder.path());
        assert!(matches!(nothing, Err(Error::Malformed { offset: 0, .. })));
    }

    #[test]
    fn no_more_is_taken_of_an_endless_stream_than_up_to_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let whole = file(&sample());
        let unordered = members(&[GENESIS, ("s/00/0", b""), ("p/1", b"")]);
        for (start, at) in [(&whole, length_of(&whole)), (&whole[..1024].to_vec(), 1024), (&unordered, 1024)]
        {
            let mut taken = 0;
            let mut stream = start.chain(io::repeat(b'x'));
            let endless = Counted { inner: &mut stream, taken: &mut taken };
            let refused = SealedFile::from_stream(endless, folder.path());
            assert!(matches!(refused, Err(Error::Malformed { offset, .. }) if offset == at));
            assert!(taken <= 2 * STAGE_BYTES, "{taken}");
        }
    }

    /// Counts what is read through it.
    struct Counted<'a, R> {
        inner: R,
        taken: &'a mut usize,
    }

    impl<R: Read> Read for Counted<'_, R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.inner.read(buffer)?;
            *self.taken += read;
            Ok(read)
        }
    }

    #[test]
    fn an_archive_without_its_table_or_rings_or_with_more_of_them_is_no_sealed_file() {
        for left_out in 1..4 {
            let mut fewer = sample();
            fewer.remove(left_out);
            let told = load(&file(&fewer)).err();
            assert!(matches!(told, Some(Error::Malformed { .. })), "{left_out}: {told:?}");
        }
        for more in ["k/00000002-aa", "r/00000001-bb.second"] {
            let mut doubled = sample();
            doubled.push((more, b""));
            doubled.sort_by_key(|(text, _)| Rank::of(&name(text)));
            let told = load(&file(&doubled)).err();
            assert!(matches!(told, Some(Error::Malformed { .. })), "{more}: {told:?}");
        }
        assert!(matches!(load(&file(&[GENESIS, END])), Err(Error::Malformed { offset: 1024, .. })));
    }

    #[test]
    fn a_file_that_was_cut_is_refused_wherever_it_was_cut() {
        let whole = file(&sample());
        let blocks = (0..whole.len()).step_by(BLOCK_BYTES);
        for length in blocks.chain((1..whole.len()).step_by(97)).chain([whole.len() - 1]) {
            let told = load(&whole[..length]).err();
            assert!(matches!(told, Some(Error::Malformed { .. })), "cut to {length}: {told:?}");
        }
    }

    #[test]
    fn nothing_may_follow_the_end() {
        let whole = file(&sample());
        for more in [vec![0], vec![0; 512], vec![0; 10240], vec![1], whole.clone()] {
            let extended = [whole.clone(), more].concat();
            assert!(
                matches!(load(&extended), Err(Error::Malformed { offset, .. }) if offset == length_of(&whole))
            );
        }
        // Another one in place of the zeros.
        let joined = [members(&sample()), whole].concat();
        assert!(matches!(load(&joined), Err(Error::Malformed { what: "a member after the last one", .. })));
    }

    #[test]
    fn no_bit_of_headers_padding_and_end_can_change_unseen() {
        let whole = file(&sample());
        let sealed = load(&whole).unwrap();
        let contents: Vec<Range<u64>> = sealed
            .members
            .iter()
            .zip(&sealed.offsets)
            .map(|(member, &offset)| offset..offset + member.bytes)
            .collect();
        let (folder, mut changed) = (tempfile::tempdir().unwrap(), whole.clone());
        for at in 0..whole.len() {
            let of_layout = !contents.iter().any(|content| content.contains(&(at as u64)));
            changed[at] ^= 1 << (at % 8);
            let told = SealedFile::from_stream(&*changed, folder.path()).err();
            match told {
                None => assert!(!of_layout, "byte {at}"),
                Some(Error::Malformed { offset, .. }) => {
                    assert!(
                        of_layout && offset <= at as u64 && at as u64 - offset < 512,
                        "byte {at}: {offset}"
                    );
                }
                Some(error) => panic!("{error}"),
            }
            changed[at] = whole[at];
        }
    }

    #[test]
    fn members_in_another_order_renamed_or_doubled_are_refused() {
        let sample = sample();
        for first in 0..sample.len() - 1 {
            let mut swapped = sample.clone();
            swapped.swap(first, first + 1);
            assert_eq!(load(&file(&swapped)).is_ok(), first == 5, "{first}");
            let mut doubled = sample.clone();
            doubled.insert(first, sample[first]);
            assert!(load(&file(&doubled)).is_err(), "{first}");
            let mut renamed = sample.clone();
            renamed[first].0 = "README.txt";
            assert!(load(&file(&renamed)).is_err(), "{first}");
        }
        assert!(matches!(load(&file(&sample[..8])), Err(Error::Malformed { .. })));
        assert!(matches!(load(&file(&sample[1..])), Err(Error::Malformed { offset: 0, .. })));
        assert!(matches!(load(&file(&[])), Err(Error::NotSealed { .. })));
    }

    #[test]
    fn a_length_that_the_file_does_not_have_is_refused() {
        let longest = header::encode(&name("p/1"), header::MEMBER_BYTES_MAX).unwrap();
        let bytes = [
            members(&[GENESIS, TABLE, ADMIN_RING, READ_RING]),
            longest.to_vec(),
            members(&[END]),
            vec![0; 1024],
        ]
        .concat();
        let told = load(&bytes).err();
        assert!(matches!(
            told,
            Some(Error::Malformed { offset: 2560, what: "a member that is longer than the file", .. })
        ));
    }

    #[test]
    fn headers_of_other_kinds_of_tar_are_refused() {
        for (kind, at) in [(b'x', 1024), (b'g', 1024), (b'L', 1024), (b'K', 1024), (b'2', 1024), (b'5', 1024)]
        {
            let mut bytes = file(&sample());
            bytes[at + 156] = kind;
            let sum: u32 =
                (0..512).map(|i| if (148..156).contains(&i) { 32 } else { u32::from(bytes[at + i]) }).sum();
            bytes[at + 148..at + 154].copy_from_slice(format!("{sum:06o}").as_bytes());
            assert!(matches!(load(&bytes), Err(Error::Malformed { offset: 1024, .. })));
        }
    }

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(SealedFile::load(folder.path()), Err(Error::NotSealed { .. })));
        let none = folder.path().join("none");
        assert!(matches!(SealedFile::load(&none), Err(Error::NoVault { .. })));
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(matches!(SealedFile::load(&pipe), Err(Error::NotSealed { .. })));
        assert!(matches!(SealedFile::load(Path::new("/dev/null")), Err(Error::NotSealed { .. })));
        let link = folder.path().join("link");
        fs::write(&none, file(&sample())).unwrap();
        std::os::unix::fs::symlink(&none, &link).unwrap();
        check(&SealedFile::load(&link).unwrap());
    }

    #[test]
    fn parts_are_read_as_one_file() {
        let bytes = file(&sample());
        for part_bytes in [512, 1000, 4096, bytes.len() / 2, bytes.len() - 1, bytes.len()] {
            let folder = tempfile::tempdir().unwrap();
            let whole = split(&folder, &bytes, part_bytes);
            check(&SealedFile::load(&whole).unwrap());
            check(&SealedFile::load(&part_of(&whole, 1)).unwrap());
            assert_eq!(SealedFile::load(&whole).unwrap().place(), whole.display().to_string());
        }
    }

    #[test]
    fn parts_that_are_missing_or_of_another_length_are_refused() {
        let bytes = file(&sample());
        type Damage = (&'static str, fn(&Path));
        let damage: [Damage; 8] = [
            ("the second is missing", |whole| fs::remove_file(part_of(whole, 2)).unwrap()),
            ("the last is missing", |whole| fs::remove_file(part_of(whole, 5)).unwrap()),
            ("one is shorter", |whole| fs::write(part_of(whole, 2), [0; 99]).unwrap()),
            ("the first is shorter", |whole| fs::write(part_of(whole, 1), [0; 99]).unwrap()),
            ("the last is cut", |whole| fs::write(part_of(whole, 5), [0; 99]).unwrap()),
            ("one is empty", |whole| fs::write(part_of(whole, 3), []).unwrap()),
            ("one more is empty", |whole| fs::write(part_of(whole, 6), []).unwrap()),
            ("the second is the third", |whole| {
                assert!(fs::copy(part_of(whole, 3), part_of(whole, 2)).unwrap() > 0)
            }),
        ];
        for (what, damage) in damage {
            let folder = tempfile::tempdir().unwrap();
            let whole = split(&folder, &bytes, bytes.len().div_ceil(5));
            assert!(part_of(&whole, 5).exists() && !part_of(&whole, 6).exists());
            damage(&whole);
            let told = SealedFile::load(&whole).err();
            let expected = matches!(told, Some(Error::Malformed { .. }));
            // A first part that is empty or another file altogether isn't the beginning of anything.
            assert!(expected || what == "the first is shorter", "{what}: {told:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let whole = split(&folder, &bytes, 4096);
        fs::remove_file(part_of(&whole, 1)).unwrap();
        assert!(matches!(SealedFile::load(&whole), Err(Error::NoVault { .. })));
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_used_gives_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, file(&sample())).unwrap();
        let sealed = SealedFile::load(&path).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(600).unwrap();
        assert!(matches!(sealed.get(&name("p/00/ff/1"), 3000), Err(Error::Short { .. })));
        assert!(matches!(sealed.get_range(&name("p/00/aa/2"), 3..9), Err(Error::Short { .. })));
        assert_eq!(sealed.get(&name(GENESIS.0), 99).unwrap(), GENESIS.1);
    }

    #[test]
    fn many_threads_read_at_once() {
        let sealed = load(&file(&sample())).unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| check(&sealed)));
            }
        });
    }

    #[test]
    fn a_pipe_is_read_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let (done, wait) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                for piece in file(&sample()).chunks(300) {
                    writer.write_all(piece).unwrap();
                }
                done.send(()).unwrap();
            });
            check(&SealedFile::from_stream(reader, folder.path()).unwrap());
            wait.recv().unwrap();
        });
    }

    #[test]
    fn tar_lists_it() {
        let tar =
            Command::new("tar").args(["-tvf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        // Not every machine has one.
        let Ok(mut tar) = tar else { return };
        tar.stdin.take().unwrap().write_all(&file(&sample())).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        let listed = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = listed.lines().collect();
        assert_eq!(lines.len(), 9);
        assert!(lines[5].starts_with("-rw-------") && lines[5].ends_with(" p/00/ff/1"), "{listed}");
        assert!(lines[5].split_whitespace().any(|word| word == "3000"), "{listed}");
    }
}

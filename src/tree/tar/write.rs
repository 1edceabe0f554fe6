//! Entries as a POSIX pax archive.
//!
//! - What a ustar header can't hold stands in records before it: long paths, targets and names, large
//!   numbers, fractions of seconds. Numbers that are too large for octal digits stand in the header in
//!   base 256 as well, so that readers which skip records find the same archive.
//! - Paths and targets are written as they are, whatever their bytes: GNU tar reads them back so, and
//!   warns of a `hdrcharset` record.
//! - Extended attributes are `SCHILY.xattr.` records. Access lists stand there as the kernel has them
//!   and as `SCHILY.acl.` texts too, for `tar --acls` takes a file without a text to have no list.
//! - Sparse files have GNU's form 1.0: the runs as decimal lines before the data.
//!
//! Source: POSIX.1-2024, `pax`, "pax Interchange Format"; GNU tar 1.35 manual, "Storing Sparse Files".

use std::io;
use std::io::Write;

use tar::EntryType;
use tar::Header;

use crate::tree::entry::DataRun;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::tar::ACCESS_LISTS;
use crate::tree::tar::BLOCK_BYTES;
use crate::tree::tar::LARGE_NUMBER_MAX;
use crate::tree::tar::ZEROS;
use crate::tree::tar::acl;
use crate::tree::tar::keyword;
use crate::tree::tar::padding;
use crate::tree::tar::pax::Records;
use crate::tree::tar::pax::escape_attribute;
use crate::tree::tar::pax::time_text;

/// Archives end at a multiple of this, 20 blocks, as tape drives wanted it and `tar` still expects.
const RECORD_BYTES: u64 = 20 * BLOCK_BYTES as u64;

/// The longest path or target that a header holds.
const PATH_BYTES_MAX: usize = 100;

/// The longest owner's name that a header holds, with a NUL behind it.
const OWNER_BYTES_MAX: usize = 31;

/// The largest number of seven octal digits: owners and devices.
const SMALL_NUMBER_MAX: u32 = 0o777_7777;

/// Writes an archive, entry by entry, each with its content behind it.
///
/// Nothing but [`TarWriter::finish`] writes what ends an archive.
pub struct TarWriter<W> {
    out: W,
    written: u64,
    /// How many bytes the entry at hand still lacks, and the zeros behind them.
    content_left: u64,
    padding: u64,
}

impl<W: Write> TarWriter<W> {
    /// An archive without entries.
    pub fn new(out: W) -> Self {
        Self { out, written: 0, content_left: 0, padding: 0 }
    }

    /// Begins an entry; a file's content has to follow, less its holes.
    ///
    /// `path` is where it lies in the archive, without a slash at either end.
    ///
    /// # Errors
    /// If it can't be written; [`io::ErrorKind::InvalidInput`] for a device whose numbers no archive holds.
    ///
    /// # Panics
    /// If content of the last entry is missing.
    pub fn entry(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        match &entry.kind {
            EntryKind::File { size, sparse: Some(runs), .. } => self.sparse(path, entry, *size, runs),
            EntryKind::File { size, .. } => self.member(Member::new(EntryType::Regular, path, entry), *size),
            EntryKind::Directory { .. } => {
                let path = [path, b"/"].concat();
                self.member(Member::new(EntryType::Directory, &path, entry), 0)
            }
            EntryKind::Symlink { target } => {
                self.member(Member::new(EntryType::Symlink, path, entry).target(target), 0)
            }
            EntryKind::Fifo => self.member(Member::new(EntryType::Fifo, path, entry), 0),
            EntryKind::CharDevice { major, minor } => {
                self.member(Member::new(EntryType::Char, path, entry).device(*major, *minor)?, 0)
            }
            EntryKind::BlockDevice { major, minor } => {
                self.member(Member::new(EntryType::Block, path, entry).device(*major, *minor)?, 0)
            }
        }
    }

    /// Writes a further name of the entry at `target`, which was written before. No content follows.
    ///
    /// # Errors
    /// If it can't be written.
    ///
    /// # Panics
    /// If content of the last entry is missing.
    pub fn hard_link(&mut self, path: &[u8], entry: &Entry, target: &[u8]) -> io::Result<()> {
        self.member(Member::new(EntryType::Link, path, entry).target(target), 0)
    }

    /// Writes the next bytes of the entry's content.
    ///
    /// # Errors
    /// If they can't be written.
    ///
    /// # Panics
    /// If the entry has no such bytes.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.content_left.checked_sub(bytes.len() as u64);
        self.content_left = left.expect("an entry's content is as long as the entry says");
        self.put(bytes)
    }

    /// Ends the archive: two empty blocks, and zeros up to a whole record.
    ///
    /// # Errors
    /// If they can't be written.
    ///
    /// # Panics
    /// If content of the last entry is missing.
    pub fn finish(mut self) -> io::Result<()> {
        self.end_member()?;
        self.zeros(2 * BLOCK_BYTES as u64)?;
        self.zeros(self.written.next_multiple_of(RECORD_BYTES) - self.written)?;
        self.out.flush()
    }

    /// Leaves the archive so that every reader sees it cut short.
    ///
    /// Readers take an end between two entries for that of the archive, so there is a header then that
    /// announces records, and nothing behind it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn break_off(mut self) -> io::Result<()> {
        if self.content_left == 0 {
            self.end_member()?;
            let announced = records_header(&Header::new_ustar(), BLOCK_BYTES as u64);
            self.put(announced.as_bytes())?;
        }
        self.out.flush()
    }

    /// Writes a sparse file: its map counts as content.
    fn sparse(&mut self, path: &[u8], entry: &Entry, size: u64, runs: &[DataRun]) -> io::Result<()> {
        let map = sparse_map(size, runs);
        let mut member = Member::new(EntryType::Regular, &sparse_name(path), entry);
        member.records.add(keyword::SPARSE_MAJOR, b"1");
        member.records.add(keyword::SPARSE_MINOR, b"0");
        member.records.add(keyword::SPARSE_NAME, path);
        member.records.add(keyword::SPARSE_SIZE, size.to_string().as_bytes());
        self.member(member, map.len() as u64 + entry.kind.content_bytes())?;
        self.content(&map)
    }

    /// Writes records and header of an entry with `content_bytes` behind it.
    fn member(&mut self, mut member: Member, content_bytes: u64) -> io::Result<()> {
        self.end_member()?;
        member.size(content_bytes);
        if !member.records.as_bytes().is_empty() {
            let records = member.records.as_bytes();
            self.put(records_header(&member.header, records.len() as u64).as_bytes())?;
            self.put(records)?;
            self.zeros(padding(records.len() as u64))?;
        }
        member.header.set_cksum();
        self.put(member.header.as_bytes())?;
        self.content_left = content_bytes;
        self.padding = padding(content_bytes);
        Ok(())
    }

    fn end_member(&mut self) -> io::Result<()> {
        assert!(self.content_left == 0, "an entry's content is written before the next entry");
        let padding = std::mem::take(&mut self.padding);
        self.zeros(padding)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Writes less than a record of zeros.
    fn zeros(&mut self, count: u64) -> io::Result<()> {
        let count = usize::try_from(count).expect("a record is short");
        self.put(&ZEROS[..count])
    }
}

/// A header, and the records for what it can't hold.
struct Member {
    header: Header,
    records: Records,
}

impl Member {
    fn new(entry_type: EntryType, path: &[u8], entry: &Entry) -> Self {
        let mut member = Self { header: Header::new_ustar(), records: Records::new() };
        member.header.set_entry_type(entry_type);
        member.header.set_mode(entry.mode);
        member.path(path);
        member.owner(entry);
        member.modified(entry);
        member.attributes(entry);
        member
    }

    fn path(&mut self, path: &[u8]) {
        fill(&mut self.header.as_old_mut().name, path);
        if path.len() > PATH_BYTES_MAX {
            self.records.add(keyword::PATH, path);
        }
    }

    fn target(mut self, target: &[u8]) -> Self {
        fill(&mut self.header.as_old_mut().linkname, target);
        if target.len() > PATH_BYTES_MAX {
            self.records.add(keyword::LINK_PATH, target);
        }
        self
    }

    fn owner(&mut self, entry: &Entry) {
        let owner = &entry.owner;
        self.header.set_uid(u64::from(owner.uid));
        self.header.set_gid(u64::from(owner.gid));
        for (keyword, number) in [(keyword::UID, owner.uid), (keyword::GID, owner.gid)] {
            if number > SMALL_NUMBER_MAX {
                self.records.add(keyword, number.to_string().as_bytes());
            }
        }
        let ustar = self.header.as_ustar_mut().expect("it was made as one");
        for (field, keyword, name) in [
            (&mut ustar.uname, keyword::USER, owner.user.as_bytes()),
            (&mut ustar.gname, keyword::GROUP, owner.group.as_bytes()),
        ] {
            if name.len() <= OWNER_BYTES_MAX {
                fill(field, name);
            } else {
                self.records.add(keyword, name);
            }
        }
    }

    fn modified(&mut self, entry: &Entry) {
        let time = entry.modified;
        let seconds = u64::try_from(time.seconds).unwrap_or(0);
        self.header.set_mtime(seconds);
        if time.nanos > 0 || time.seconds < 0 || seconds > LARGE_NUMBER_MAX {
            self.records.add(keyword::MODIFIED, time_text(time).as_bytes());
        }
    }

    fn attributes(&mut self, entry: &Entry) {
        for (name, value) in &entry.xattrs {
            let list = ACCESS_LISTS.iter().find(|(attribute, _)| *attribute == &**name);
            if let Some((_, keyword)) = list
                && let Some(text) = acl::to_text(value)
            {
                self.records.add(keyword, text.as_bytes());
            }
            self.records.add(&[keyword::XATTR, &escape_attribute(name)].concat(), value);
        }
    }

    fn size(&mut self, bytes: u64) {
        self.header.set_size(bytes);
        if bytes > LARGE_NUMBER_MAX {
            self.records.add(keyword::SIZE, bytes.to_string().as_bytes());
        }
    }

    fn device(mut self, major: u32, minor: u32) -> io::Result<Self> {
        if major.max(minor) > SMALL_NUMBER_MAX {
            let what = format!("no tar archive can hold the device {major}:{minor}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        self.header.set_device_major(major)?;
        self.header.set_device_minor(minor)?;
        Ok(self)
    }
}

/// The header before records, named after the entry that they are about.
fn records_header(about: &Header, bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    let name = about.path_bytes();
    fill(&mut header.as_old_mut().name, &[b"PaxHeaders/", &*name].concat());
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header.set_cksum();
    header
}

/// As much of `bytes` as `field` holds, and zeros behind.
fn fill(field: &mut [u8], bytes: &[u8]) {
    field.fill(0);
    let count = bytes.len().min(field.len());
    field[..count].copy_from_slice(&bytes[..count]);
}

/// What a sparse file is called for readers that know no sparse files and would take its map for content.
fn sparse_name(path: &[u8]) -> Vec<u8> {
    let name_at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(name_at);
    [folder, b"GNUSparseFile.0/", name].concat()
}

/// The runs of a sparse file of `size` bytes as lines, padded; a hole at the end is a run of no bytes.
fn sparse_map(size: u64, runs: &[DataRun]) -> Vec<u8> {
    let ends_in_hole = runs.last().and_then(DataRun::end) != Some(size);
    let last = ends_in_hole.then_some(DataRun { offset: size, length: 0 });
    let mut map = format!("{}\n", runs.len() + usize::from(ends_in_hole)).into_bytes();
    for run in runs.iter().chain(&last) {
        map.extend_from_slice(format!("{}\n{}\n", run.offset, run.length).as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK_BYTES), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Content;
    use crate::tree::entry::Owner;
    use crate::tree::entry::Time;
    use crate::tree::path::Name;

    fn entry(kind: EntryKind) -> Entry {
        let owner = Owner { uid: 1, gid: 2, user: "anna".into(), group: "staff".into() };
        let modified = Time { seconds: 1_600_000_000, nanos: 0 };
        let name = Name::new(b"name").unwrap();
        Entry { name, kind, mode: 0o640, owner, modified, xattrs: Vec::new(), link_group: None }
    }

    fn file(size: u64, sparse: Option<&[DataRun]>) -> Entry {
        entry(EntryKind::File {
            size,
            content: Content::Inline(Box::default()),
            sparse: sparse.map(Into::into),
        })
    }

    /// The blocks of an archive of one entry without its content and end.
    fn blocks(path: &[u8], entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        TarWriter::new(&mut out).entry(path, entry).unwrap();
        out
    }

    fn header(block: &[u8]) -> &Header {
        Header::from_byte_slice(&block[..BLOCK_BYTES])
    }

    /// The records before an entry, as text.
    fn records(path: &[u8], entry: &Entry) -> String {
        let blocks = blocks(path, entry);
        let first = header(&blocks);
        assert_eq!(first.entry_type(), EntryType::XHeader);
        let length = usize::try_from(first.size().unwrap()).unwrap();
        String::from_utf8_lossy(&blocks[BLOCK_BYTES..BLOCK_BYTES + length]).into_owned()
    }

    #[test]
    fn what_a_header_can_hold_needs_no_records() {
        let blocks = blocks(&[b'p'; 100], &file(5, None));
        assert_eq!(blocks.len(), BLOCK_BYTES);
        let header = header(&blocks);
        assert_eq!(&*header.path_bytes(), &[b'p'; 100]);
        assert_eq!((header.size().unwrap(), header.mode().unwrap()), (5, 0o640));
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (1, 2));
        assert_eq!(header.mtime().unwrap(), 1_600_000_000);
        assert_eq!((header.username(), header.groupname()), (Ok(Some("anna")), Ok(Some("staff"))));
    }

    #[test]
    fn what_it_cannot_hold_is_in_records_and_large_numbers_in_both() {
        let mut large = file(9 << 30, None);
        large.owner = Owner { uid: 3_000_000_000, gid: 2, user: "u".repeat(40).into(), group: "g".into() };
        large.modified = Time { seconds: -2, nanos: 500_000_000 };
        let found = records(&[b'p'; 101], &large);
        for record in [
            format!("111 path={}\n", "p".repeat(101)),
            "18 uid=3000000000\n".to_owned(),
            format!("50 uname={}\n", "u".repeat(40)),
            "22 mtime=-1.500000000\n".to_owned(),
            "19 size=9663676416\n".to_owned(),
        ] {
            assert!(found.contains(&record), "{record:?} in {found:?}");
        }
        let blocks = blocks(&[b'p'; 101], &large);
        let header = header(&blocks[blocks.len() - BLOCK_BYTES..]);
        assert_eq!((header.size().unwrap(), header.uid().unwrap()), (9 << 30, 3_000_000_000));
        assert_eq!(header.mtime().unwrap(), 0);
    }

    #[test]
    fn a_link_target_of_any_length_is_kept() {
        let link = entry(EntryKind::Symlink { target: vec![b't'; 100].into() });
        assert_eq!(header(&blocks(b"l", &link)).link_name_bytes().unwrap().len(), 100);
        let link = entry(EntryKind::Symlink { target: vec![b't'; 101].into() });
        assert_eq!(records(b"l", &link), format!("115 linkpath={}\n", "t".repeat(101)));
    }

    #[test]
    fn attributes_are_bytes_and_access_lists_texts_as_well() {
        let mut file = file(0, None);
        let list = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff".to_vec();
        file.xattrs = vec![
            (b"system.posix_acl_access".as_slice().into(), list.into()),
            (b"user.a=b%".as_slice().into(), b"1\n2\0".as_slice().into()),
        ];
        let records = records(b"f", &file);
        assert!(records.starts_with("31 SCHILY.acl.access=user::rw-\n"), "{records:?}");
        assert!(records.contains(" SCHILY.xattr.system.posix_acl_access=\x02\0\0\0"), "{records:?}");
        assert!(records.ends_with("35 SCHILY.xattr.user.a%3Db%25=1\n2\0\n"), "{records:?}");
    }

    #[test]
    fn holes_are_told_by_a_map_that_ends_where_the_file_does() {
        let run = |offset, length| DataRun { offset, length };
        let map = |runs: &[DataRun]| {
            let map = sparse_map(100, runs);
            assert_eq!(map.len(), BLOCK_BYTES);
            String::from_utf8(map).unwrap().trim_end_matches('\0').to_owned()
        };
        assert_eq!(map(&[]), "1\n100\n0\n");
        assert_eq!(map(&[run(10, 5)]), "2\n10\n5\n100\n0\n");
        assert_eq!(map(&[run(0, 5), run(90, 10)]), "2\n0\n5\n90\n10\n");

        let sparse = file(100, Some(&[run(10, 5)]));
        let records = records(b"folder/f", &sparse);
        assert!(records.contains("28 GNU.sparse.name=folder/f\n"), "{records:?}");
        assert!(records.contains("27 GNU.sparse.realsize=100\n"), "{records:?}");
        let blocks = blocks(b"folder/f", &sparse);
        let header = header(&blocks[blocks.len() - 2 * BLOCK_BYTES..]);
        assert_eq!(&*header.path_bytes(), b"folder/GNUSparseFile.0/f");
        assert_eq!(header.size().unwrap(), 512 + 5, "the map and the data");
    }

    #[test]
    fn an_archive_ends_with_empty_blocks_only_if_it_is_finished() {
        let mut whole = Vec::new();
        TarWriter::new(&mut whole).finish().unwrap();
        assert_eq!(whole, [0; 10_240]);

        let mut broken = Vec::new();
        let mut tar = TarWriter::new(&mut broken);
        tar.entry(b"f", &file(3, None)).unwrap();
        tar.content(b"abc").unwrap();
        tar.break_off().unwrap();
        assert_eq!(broken.len(), 3 * BLOCK_BYTES, "nothing follows the last header");
        assert_eq!(header(&broken[2 * BLOCK_BYTES..]).size().unwrap(), 512);

        let mut inside = Vec::new();
        let mut tar = TarWriter::new(&mut inside);
        tar.entry(b"f", &file(3, None)).unwrap();
        tar.content(b"ab").unwrap();
        tar.break_off().unwrap();
        assert_eq!(inside.len(), BLOCK_BYTES + 2);
    }

    #[test]
    fn a_device_that_no_header_can_hold_is_refused() {
        let device = entry(EntryKind::CharDevice { major: 1, minor: 1 << 21 });
        let refused = TarWriter::new(Vec::new()).entry(b"d", &device).unwrap_err();
        assert_eq!(refused.to_string(), "no tar archive can hold the device 1:2097152");
    }
}

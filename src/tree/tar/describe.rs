//! What a header and the records before it say of one member.

use tar::GnuSparseHeader;
use tar::Header;

use crate::tree::entry::EntryKind;
use crate::tree::entry::Owner;
use crate::tree::entry::Time;
use crate::tree::entry::Xattr;
use crate::tree::path;
use crate::tree::path::TreePath;
use crate::tree::tar::ACCESS_LISTS;
use crate::tree::tar::LARGE_NUMBER_MAX;
use crate::tree::tar::acl;
use crate::tree::tar::acl::Whom;
use crate::tree::tar::collect::NO_TREE;
use crate::tree::tar::error::Error;
use crate::tree::tar::error::Why;
use crate::tree::tar::keyword;
use crate::tree::tar::pax;
use crate::tree::tar::pax::Record;
use crate::tree::tar::read::Member;
use crate::tree::tar::read::What;
use crate::tree::tar::sparse;
use crate::tree::walk;

/// The longest owner's name that an entry keeps.
const OWNER_BYTES_MAX: usize = 255;

/// A member's type byte.
mod flag {
    pub const FILE: u8 = b'0';
    /// A file, in archives of the seventh edition.
    pub const OLD_FILE: u8 = 0;
    pub const HARD_LINK: u8 = b'1';
    pub const SYMLINK: u8 = b'2';
    pub const CHAR_DEVICE: u8 = b'3';
    pub const BLOCK_DEVICE: u8 = b'4';
    pub const DIRECTORY: u8 = b'5';
    pub const FIFO: u8 = b'6';
    /// A file that should lie in one piece, where there is such a thing.
    pub const CONTIGUOUS: u8 = b'7';
    pub const GNU_SPARSE: u8 = b'S';
}

/// What came before a member's header and is about it.
#[derive(Default)]
pub(super) struct Before {
    pub(super) records: Option<Vec<Record>>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
}

impl Before {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_none() && self.name.is_none() && self.target.is_none()
    }
}

/// How the holes of a file are told.
pub(super) enum Holes {
    /// It has none.
    None,
    /// In records.
    Listed { size: u64, runs: Vec<(u64, u64)> },
    /// Before its data.
    InContent { size: u64 },
    /// In its header, and in blocks behind it if there are `more`.
    InHeaders { size: u64, runs: Vec<(u64, u64)>, more: bool },
}

/// A header, and the records that hold for it.
pub(super) struct Described<'h> {
    header: &'h Header,
    records: Vec<Record>,
    /// Its path as it stands in the archive, and that of what it links to.
    name: Box<[u8]>,
    target: Box<[u8]>,
}

impl<'h> Described<'h> {
    /// Records of the member itself go before those `for_all`; one without a value takes them away.
    pub(super) fn new(header: &'h Header, before: Before, for_all: &[Record]) -> Result<Self, Error> {
        let told = before.records.unwrap_or_default();
        let repeated = repeated(&told);
        let records = effective(told, for_all);
        let name = value(&records, keyword::SPARSE_NAME).or_else(|| value(&records, keyword::PATH));
        let target = value(&records, keyword::LINK_PATH);
        let doubled = match (name, &before.name, target, &before.target) {
            (Some(_), Some(_), ..) => Some(keyword::PATH),
            (_, _, Some(_), Some(_)) => Some(keyword::LINK_PATH),
            _ => None,
        };
        let in_header = header.link_name_bytes().unwrap_or_default();
        let target = target.or(before.target.as_deref()).unwrap_or(&in_header).into();
        let name = name.or(before.name.as_deref()).unwrap_or(&header.path_bytes()).into();
        let described = Self { header, name, target, records };
        match repeated.or_else(|| doubled.map(Into::into)) {
            None => Ok(described),
            Some(keyword) => Err(described.refused(Why::Record(keyword))),
        }
    }

    pub(super) fn refused(&self, why: Why) -> Error {
        Error::Refused { name: self.name.clone(), why }
    }

    fn record(&self, keyword: &[u8]) -> Option<&[u8]> {
        value(&self.records, keyword)
    }

    /// How many bytes are stored for it.
    pub(super) fn stored_bytes(&self) -> Result<u64, Error> {
        let in_header = self.header.entry_size().map_err(|_| self.refused(Why::Value("a length")))?;
        let told = match self.record(keyword::SIZE) {
            None => in_header,
            Some(text) => {
                let told = pax::parse_number(text).ok_or_else(|| self.refused(Why::Value("a length")))?;
                // A header that can't hold it has a zero, or base 256.
                let has_no_room = in_header == 0 && told > LARGE_NUMBER_MAX;
                if told != in_header && !has_no_room {
                    return Err(self.refused(Why::Size));
                }
                told
            }
        };
        // The largest offset that an operating system can name.
        if i64::try_from(told).is_err() { Err(self.refused(Why::Value("a length"))) } else { Ok(told) }
    }

    /// What it is, if it is no file.
    pub(super) fn other(&self) -> Result<Option<What>, Error> {
        let flag = self.header.entry_type().as_byte();
        let kind = match flag {
            // Archives of the seventh edition have no other way to say it.
            flag::FILE | flag::OLD_FILE if self.name.ends_with(b"/") => {
                EntryKind::Directory { tree: NO_TREE }
            }
            flag::FILE | flag::OLD_FILE | flag::CONTIGUOUS | flag::GNU_SPARSE => return Ok(None),
            flag::HARD_LINK => return self.hard_link().map(Some),
            flag::SYMLINK => EntryKind::Symlink { target: self.target.clone() },
            flag::DIRECTORY => EntryKind::Directory { tree: NO_TREE },
            flag::FIFO => EntryKind::Fifo,
            flag::CHAR_DEVICE | flag::BLOCK_DEVICE => self.device(flag)?,
            _ => return Err(self.refused(Why::Type(flag))),
        };
        self.has_no_content()?;
        Ok(Some(What::Other(kind)))
    }

    fn hard_link(&self) -> Result<What, Error> {
        self.has_no_content()?;
        if is_absolute(&self.target) {
            return Err(self.refused(Why::Absolute));
        }
        let no_target = |_| self.refused(Why::LinkTarget(self.target.clone()));
        Ok(What::HardLink { target: member_path(&self.target, false).map_err(no_target)? })
    }

    fn has_no_content(&self) -> Result<(), Error> {
        if self.stored_bytes()? == 0 { Ok(()) } else { Err(self.refused(Why::Content)) }
    }

    fn device(&self, flag: u8) -> Result<EntryKind, Error> {
        let number = |field: std::io::Result<Option<u32>>| {
            field.ok().flatten().ok_or_else(|| self.refused(Why::Value("a device's number")))
        };
        let major = number(self.header.device_major())?;
        let minor = number(self.header.device_minor())?;
        Ok(match flag {
            flag::CHAR_DEVICE => EntryKind::CharDevice { major, minor },
            _ => EntryKind::BlockDevice { major, minor },
        })
    }

    /// How a file's holes are told.
    pub(super) fn holes(&self) -> Result<Holes, Error> {
        let is_about_holes = |(keyword, _): &&Record| keyword.starts_with(keyword::SPARSE);
        let first = self.records.iter().find(is_about_holes);
        if self.header.entry_type().as_byte() == flag::GNU_SPARSE {
            return match first {
                None => self.holes_in_header(),
                Some((keyword, _)) => Err(self.refused(Why::Record(keyword.clone()))),
            };
        }
        if first.is_none() {
            return Ok(Holes::None);
        }
        match (self.record(keyword::SPARSE_MAJOR), self.record(keyword::SPARSE_MINOR)) {
            (Some(b"1"), Some(b"0")) => {
                Ok(Holes::InContent { size: self.sparse_size(keyword::SPARSE_SIZE)? })
            }
            (None, None) => {
                let size = self.sparse_size(keyword::SPARSE_OLD_SIZE)?;
                Ok(Holes::Listed { size, runs: self.listed_runs().map_err(|why| self.refused(why))? })
            }
            _ => Err(self.refused(Why::Record(keyword::SPARSE_MAJOR.into()))),
        }
    }

    fn sparse_size(&self, keyword: &[u8]) -> Result<u64, Error> {
        self.record(keyword).and_then(pax::parse_number).ok_or_else(|| self.refused(Why::Holes))
    }

    /// Runs in records: as one text in the form 0.1, as two records a run in 0.0.
    fn listed_runs(&self) -> Result<Vec<(u64, u64)>, Why> {
        if let Some(map) = self.record(keyword::SPARSE_MAP) {
            return sparse::parse_map(map, b',');
        }
        let about_runs = [keyword::SPARSE_OFFSET, keyword::SPARSE_LENGTH];
        let mut told = self.records.iter().filter(|(keyword, _)| about_runs.contains(&&**keyword));
        let mut runs = Vec::new();
        while let Some((keyword, offset)) = told.next() {
            let length = told.next().filter(|(keyword, _)| **keyword == *keyword::SPARSE_LENGTH);
            let (_, length) = length.filter(|_| **keyword == *keyword::SPARSE_OFFSET).ok_or(Why::Holes)?;
            let number = |text: &[u8]| pax::parse_number(text).ok_or(Why::Holes);
            runs.push((number(offset)?, number(length)?));
            if runs.len() > sparse::LISTED_MAX {
                return Err(Why::ManyHoles);
            }
        }
        Ok(runs)
    }

    fn holes_in_header(&self) -> Result<Holes, Error> {
        let header = self.header.as_gnu().ok_or_else(|| self.refused(Why::Type(flag::GNU_SPARSE)))?;
        let size = header.real_size().map_err(|_| self.refused(Why::Holes))?;
        let mut runs = Vec::new();
        add_listed(&mut runs, &header.sparse).map_err(|why| self.refused(why))?;
        Ok(Holes::InHeaders { size, runs, more: header.is_extended() })
    }

    /// Whom it belongs to; names are taken from `last` if they are the same.
    pub(super) fn owner(&self, last: &Owner) -> Result<Owner, Error> {
        let number = |keyword, field: std::io::Result<u64>| {
            let number = match self.record(keyword) {
                Some(text) => pax::parse_number(text),
                None => field.ok(),
            };
            let number = number.and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| self.refused(Why::Value("an owner's number")))
        };
        let name = |keyword, field: Option<&[u8]>, last: &std::sync::Arc<str>| {
            let name = self.record(keyword).or(field).unwrap_or_default();
            // As in a walk, a name that an entry can't keep is none.
            let name = std::str::from_utf8(name).ok().filter(|name| is_keepable(name)).unwrap_or_default();
            if name == &**last { last.clone() } else { name.into() }
        };
        Ok(Owner {
            uid: number(keyword::UID, self.header.uid())?,
            gid: number(keyword::GID, self.header.gid())?,
            user: name(keyword::USER, self.header.username_bytes(), &last.user),
            group: name(keyword::GROUP, self.header.groupname_bytes(), &last.group),
        })
    }

    /// The member, all but its content.
    pub(super) fn member(&self, what: What, owner: Owner) -> Result<Member, Error> {
        let is_directory = matches!(what, What::Other(EntryKind::Directory { .. }));
        if is_absolute(&self.name) {
            return Err(self.refused(Why::Absolute));
        }
        let path = member_path(&self.name, is_directory).map_err(|why| self.refused(Why::Path(why)))?;
        if path.is_root() && !is_directory {
            return Err(self.refused(Why::Root));
        }
        let mode = self.header.mode().map_err(|_| self.refused(Why::Value("permissions")))?;
        let (xattrs, lost) = self.attributes()?;
        // Some programs write what it is into the higher bits.
        Ok(Member { path, what, mode: mode & 0o7777, owner, modified: self.modified()?, xattrs, lost })
    }

    fn modified(&self) -> Result<Time, Error> {
        let time = match self.record(keyword::MODIFIED) {
            Some(text) => pax::parse_time(text),
            // What is below zero has its two's complement in base 256.
            None => self.header.mtime().ok().map(|told| Time { seconds: told.cast_signed(), nanos: 0 }),
        };
        time.ok_or_else(|| self.refused(Why::Value("a time")))
    }

    /// Its extended attributes, and what could not be made one.
    fn attributes(&self) -> Result<(Vec<Xattr>, Option<String>), Error> {
        let mut xattrs: Vec<Xattr> = Vec::new();
        for (keyword, value) in &self.records {
            if let Some(name) = keyword.strip_prefix(keyword::XATTR) {
                xattrs.push((pax::unescape_attribute(name).into(), value.clone()));
            }
        }
        let mut lost = None;
        for (name, keyword) in ACCESS_LISTS {
            let Some(text) = self.record(keyword) else { continue };
            if xattrs.iter().any(|(other, _)| **other == *name) {
                continue;
            }
            match std::str::from_utf8(text).ok().and_then(|text| acl::from_text(text, number)) {
                Some(list) if name == ACCESS_LISTS[0].0 && acl::is_minimal(&list) => {}
                Some(list) => xattrs.push((name.into(), list.into())),
                None => {
                    lost = Some(format!(
                        "its access list names somebody unknown here: {}",
                        path::printable(text)
                    ))
                }
            }
        }
        xattrs.sort();
        if xattrs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(self.refused(Why::Value("an attribute twice")));
        }
        Ok((xattrs, lost))
    }
}

/// Whether a name leads to a place of the machine, as `tar -P` writes them, and not of the folder that the archive
/// is unpacked into: programs differ in what they do with it.
fn is_absolute(name: &[u8]) -> bool {
    name.starts_with(b"/")
}

/// The path of a member of this name. A leading `./` is the root.
pub(super) fn member_path(name: &[u8], is_directory: bool) -> Result<TreePath, path::Error> {
    let mut rest = name;
    if rest.is_empty() {
        return Err(path::Error::Empty);
    }
    while let Some(below) = rest.strip_prefix(b"./") {
        rest = below;
    }
    if rest == b"." {
        return Ok(TreePath::root());
    }
    TreePath::parse(if is_directory { rest.strip_suffix(b"/").unwrap_or(rest) } else { rest })
}

/// Adds the runs that a GNU header or a block behind it lists.
pub(super) fn add_listed(runs: &mut Vec<(u64, u64)>, listed: &[GnuSparseHeader]) -> Result<(), Why> {
    for run in listed.iter().filter(|run| !run.is_empty()) {
        let number = |field: std::io::Result<u64>| field.map_err(|_| Why::Holes);
        runs.push((number(run.offset())?, number(run.length())?));
    }
    if runs.len() > sparse::LISTED_MAX { Err(Why::ManyHoles) } else { Ok(()) }
}

/// The number that this machine has for a name in an access list.
fn number(whom: Whom, name: &str) -> Option<u32> {
    match whom {
        Whom::User => walk::user_number(name),
        Whom::Group => walk::group_number(name),
    }
}

fn is_keepable(name: &str) -> bool {
    name.len() <= OWNER_BYTES_MAX && !name.contains('\0')
}

/// The records that hold for a member: its own, and those for all whose keyword it doesn't have.
fn effective(mut own: Vec<Record>, for_all: &[Record]) -> Vec<Record> {
    let others = for_all.iter().filter(|(keyword, _)| value(&own, keyword).is_none());
    let others: Vec<Record> = others.cloned().collect();
    own.extend(others);
    // Nothing is said by an empty one, but for an attribute, which may be empty.
    own.retain(|(keyword, value)| !value.is_empty() || keyword.starts_with(keyword::XATTR));
    own
}

fn value<'r>(records: &'r [Record], keyword: &[u8]) -> Option<&'r [u8]> {
    records.iter().find(|(other, _)| **other == *keyword).map(|(_, value)| &**value)
}

/// A keyword that is there more than once; those of the sparse form 0.0 may be.
fn repeated(records: &[Record]) -> Option<Box<[u8]>> {
    let may_be = [keyword::SPARSE_OFFSET, keyword::SPARSE_LENGTH];
    let mut keywords: Vec<&[u8]> = records.iter().map(|(keyword, _)| &**keyword).collect();
    keywords.retain(|keyword| !may_be.contains(keyword));
    keywords.sort_unstable();
    keywords.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].into())
}

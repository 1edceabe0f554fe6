//! Access lists, between the kernel's bytes and the text that stands in archives.
//!
//! The kernel's form, as in the attributes `system.posix_acl_access` and `system.posix_acl_default`:
//! a `u32` of 2, then entries of `{tag u16, permissions u16, id u32}`, all little-endian. The text is
//! `user::rw-,user:1234:r--,group::r--,mask::rw-,other::---`.
//!
//! Source: Linux, `include/uapi/linux/posix_acl_xattr.h`; POSIX 1003.1e draft 17, §23.3, for the text.

use crate::codec::Reader;
use crate::codec::Writer;

/// The version of the kernel's form.
const VERSION: u32 = 2;

/// What an entry is about.
mod tag {
    pub const OWNER: u16 = 0x01;
    pub const USER: u16 = 0x02;
    pub const OWNING_GROUP: u16 = 0x04;
    pub const GROUP: u16 = 0x08;
    pub const MASK: u16 = 0x10;
    pub const OTHER: u16 = 0x20;
}

/// The text of an access list with numbers for users and groups; none if `bytes` aren't the kernel's form.
#[must_use]
pub fn to_text(bytes: &[u8]) -> Option<String> {
    let mut from = Reader::new(bytes);
    if from.u32().ok()? != VERSION {
        return None;
    }
    let mut lines = Vec::new();
    while from.remaining() > 0 {
        let (tag, permissions, id) = (from.u16().ok()?, from.u16().ok()?, from.u32().ok()?);
        let whom = match tag {
            tag::OWNER => "user:".to_owned(),
            tag::USER => format!("user:{id}"),
            tag::OWNING_GROUP => "group:".to_owned(),
            tag::GROUP => format!("group:{id}"),
            tag::MASK => "mask:".to_owned(),
            tag::OTHER => "other:".to_owned(),
            _ => return None,
        };
        lines.push(format!("{whom}:{}", permission_text(permissions)?));
    }
    Some(lines.join(","))
}

/// Whose number is wanted for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whom {
    /// A user's.
    User,
    /// A group's.
    Group,
}

/// The kernel's form of the text of an access list; none if it isn't one.
///
/// Lines end with commas or newlines. A name is looked up with `number`, unless the line ends in a
/// number as `star` writes it: `user:anna:rwx:1234`.
#[must_use]
pub fn from_text(text: &str, number: impl Fn(Whom, &str) -> Option<u32>) -> Option<Vec<u8>> {
    let lines = text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
    let mut entries = lines.map(|line| parse_line(line, &number)).collect::<Option<Vec<_>>>()?;
    // The kernel takes them in this order alone.
    entries.sort_unstable();
    let mut bytes = Writer::new();
    bytes.u32(VERSION);
    for (tag, id, permissions) in entries {
        bytes.u16(tag).u16(permissions).u32(id);
    }
    Some(bytes.finish())
}

/// Whether a list in the kernel's form says no more than a file's permissions do.
#[must_use]
pub fn is_minimal(bytes: &[u8]) -> bool {
    bytes.len() <= 4 + 3 * 8
}

/// Tag, number and permissions of one line.
fn parse_line(line: &str, number: impl Fn(Whom, &str) -> Option<u32>) -> Option<(u16, u32, u16)> {
    let mut fields = line.split(':');
    let (kind, name, permissions) = (fields.next()?, fields.next()?, fields.next()?);
    let told = fields.next().and_then(|id| id.parse().ok());
    let find = |whom| told.or_else(|| name.parse().ok()).or_else(|| number(whom, name));
    let (tag, id) = match (kind, name) {
        ("user" | "u", "") => (tag::OWNER, u32::MAX),
        ("user" | "u", _) => (tag::USER, find(Whom::User)?),
        ("group" | "g", "") => (tag::OWNING_GROUP, u32::MAX),
        ("group" | "g", _) => (tag::GROUP, find(Whom::Group)?),
        ("mask" | "m", "") => (tag::MASK, u32::MAX),
        ("other" | "o", "") => (tag::OTHER, u32::MAX),
        _ => return None,
    };
    Some((tag, id, parse_permissions(permissions)?))
}

/// Reads `rwx`, with a hyphen for what isn't permitted.
fn parse_permissions(text: &str) -> Option<u16> {
    (0..=7).find(|permissions| permission_text(*permissions).as_deref() == Some(text))
}

/// `rwx`, with a hyphen for what isn't permitted.
fn permission_text(permissions: u16) -> Option<String> {
    let letter = |bit, letter| if permissions & bit == 0 { '-' } else { letter };
    (permissions <= 7).then(|| [letter(4, 'r'), letter(2, 'w'), letter(1, 'x')].iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list with every kind of entry, and its text.
    const TEXT: &str = "user::rw-,user:1234:r-x,group::r--,group:7:-w-,mask::rwx,other::---";

    fn bytes() -> Vec<u8> {
        let none = u32::MAX;
        let entries = [(1, 6, none), (2, 5, 1234), (4, 4, none), (8, 2, 7), (16, 7, none), (32, 0, none)];
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend_from_slice(&u16::to_le_bytes(tag));
            bytes.extend_from_slice(&u16::to_le_bytes(permissions));
            bytes.extend_from_slice(&u32::to_le_bytes(id));
        }
        bytes
    }

    #[test]
    fn each_entry_has_its_text() {
        assert_eq!(to_text(&bytes()).as_deref(), Some(TEXT));
    }

    #[test]
    fn a_text_is_read_back_whatever_its_order_and_its_names() {
        let nobody = |_, _: &str| None;
        assert_eq!(from_text(TEXT, nobody), Some(bytes()));
        let mixed = "other::---\nmask::rwx\ngroup:staff:-w-\nuser:anna:r-x:1234\nuser::rw-\ngroup::r--\n";
        let named = |whom, name: &str| (whom == Whom::Group && name == "staff").then_some(7);
        assert_eq!(from_text(mixed, named), Some(bytes()));
        assert_eq!(from_text(mixed, nobody), None, "nobody knows the group");
        for refused in ["user", "user::", "user::rwxr", "user::wr-", "mask:7:rwx", "who::rwx"] {
            assert_eq!(from_text(refused, nobody), None, "{refused}");
        }
        let short = from_text("user::rw-,group::r--,other::---", nobody).unwrap();
        assert!(is_minimal(&short) && !is_minimal(&bytes()));
    }

    #[test]
    fn what_is_no_list_has_no_text() {
        let whole = bytes();
        assert_eq!(to_text(&whole[..whole.len() - 1]), None);
        assert_eq!(to_text(b"\x01\0\0\0"), None);
        assert_eq!(to_text(b""), None);
        assert_eq!(to_text(b"\x02\0\0\0\x03\0\x04\0\0\0\0\0"), None, "an unknown tag");
        assert_eq!(to_text(b"\x02\0\0\0\x01\0\x08\0\0\0\0\0"), None, "an unknown permission");
    }
}

//! Access lists, between the kernel's bytes and the text that stands in archives.
//!
//! The kernel's form, as in the attributes `system.posix_acl_access` and `system.posix_acl_default`:
//! a `u32` of 2, then entries of `{tag u16, permissions u16, id u32}`, all little-endian. The text is
//! `user::rw-,user:1234:r--,group::r--,mask::rw-,other::---`.
//!
//! Source: Linux, `include/uapi/linux/posix_acl_xattr.h`; POSIX 1003.1e draft 17, §23.3, for the text.

use crate::codec::Reader;

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
    fn what_is_no_list_has_no_text() {
        let whole = bytes();
        assert_eq!(to_text(&whole[..whole.len() - 1]), None);
        assert_eq!(to_text(b"\x01\0\0\0"), None);
        assert_eq!(to_text(b""), None);
        assert_eq!(to_text(b"\x02\0\0\0\x03\0\x04\0\0\0\0\0"), None, "an unknown tag");
        assert_eq!(to_text(b"\x02\0\0\0\x01\0\x08\0\0\0\0\0"), None, "an unknown permission");
    }
}

//! The header of a member, 512 bytes of which only name, size and checksum vary, and the order of members.

use std::collections::HashSet;

use crate::id::ObjectName;

/// The unit of the file: a header has one block, and everything ends at the end of one.
pub(super) const BLOCK_BYTES: usize = 512;
/// The same, as offsets count.
pub(super) const BLOCK_STEP: u64 = 512;
/// The longest name that the field holds.
const NAME_BYTES_MAX: usize = 100;
/// The longest member that 11 octal digits can tell of.
pub(super) const MEMBER_BYTES_MAX: u64 = 0o777_7777_7777;
/// The most members that a file has: 8 TiB of packs of 8 MiB, while what is kept of each of them in memory
/// stays below 512 MiB together.
pub(super) const MEMBERS_MAX: u64 = 1 << 20;
/// How many rings a file has.
const RINGS: u64 = 2;
/// What the last member is called.
pub(super) const END: &str = "end";
/// What the name of the first one begins with.
pub(super) const GENESIS_START: &str = "a/0000000000000000-";

/// The header of a member; nothing if no header can tell of such a name or length.
pub(super) fn encode(name: &ObjectName, bytes: u64) -> Option<[u8; BLOCK_BYTES]> {
    let name = name.as_str().as_bytes();
    if name.len() > NAME_BYTES_MAX || bytes > MEMBER_BYTES_MAX {
        return None;
    }
    let mut block = [0; BLOCK_BYTES];
    let mut write = |offset: usize, field: &[u8]| block[offset..offset + field.len()].copy_from_slice(field);
    write(0, name);
    write(100, b"0000600");
    write(108, b"0000000");
    write(116, b"0000000");
    write(124, format!("{bytes:011o}").as_bytes());
    write(136, b"00000000000");
    write(148, b"        ");
    write(156, b"0");
    write(257, b"ustar\x0000");
    write(329, b"0000000");
    write(337, b"0000000");
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

/// The name and length that a header tells; nothing unless it is, byte for byte, the one that
/// [`encode`] makes of them.
pub(super) fn decode(block: &[u8; BLOCK_BYTES]) -> Option<(ObjectName, u64)> {
    let name = block[..NAME_BYTES_MAX].split(|&byte| byte == 0).next()?;
    let name = ObjectName::parse(str::from_utf8(name).ok()?)?;
    let digits = &block[124..135];
    let digit = |&byte: &u8| byte.checked_sub(b'0').filter(|&value| value < 8);
    let bytes = digits.iter().try_fold(0, |bytes, byte| Some((bytes << 3) | u64::from(digit(byte)?)))?;
    encode(&name, bytes).filter(|same| same == block).map(|_| (name, bytes))
}

/// Whether this is a header of any kind of tar.
pub(super) fn is_of_some_tar(block: &[u8; BLOCK_BYTES]) -> bool {
    block[257..].starts_with(b"ustar")
}

/// Where a kind of object stands in the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    /// The record at seq 0.
    Genesis,
    /// The slot table.
    Table,
    /// The rings.
    Rings,
    /// The rest of the log.
    Log,
    /// Lists that records name.
    Lists,
    /// Messages to devices.
    Messages,
    /// Packs, indexes and bodies.
    Packs,
    /// Snapshot headers.
    Headers,
    /// People's logs.
    People,
    /// The last member.
    End,
}

impl Rank {
    /// The rank that the first part of a name gives it; nothing if no sealed file holds such an object.
    pub(super) fn of(name: &ObjectName) -> Option<Self> {
        let text = name.as_str();
        if text == END {
            return Some(Self::End);
        }
        if text.starts_with(GENESIS_START) {
            return Some(Self::Genesis);
        }
        match text.split_once('/')?.0 {
            "k" => Some(Self::Table),
            "r" => Some(Self::Rings),
            "a" => Some(Self::Log),
            "c" => Some(Self::Lists),
            "m" => Some(Self::Messages),
            "p" => Some(Self::Packs),
            "s" => Some(Self::Headers),
            "u" => Some(Self::People),
            _ => None,
        }
    }
}

/// Holds the members of a file, one after another, against the order in which they must stand.
#[derive(Default)]
pub(super) struct Order {
    last: Option<(Rank, ObjectName)>,
    /// All others ascend, so none of those can come twice.
    packs: HashSet<ObjectName>,
    count: u64,
    tables: u64,
    rings: u64,
}

impl Order {
    /// Takes the next member, or says what is wrong with it.
    pub(super) fn take(&mut self, name: &ObjectName) -> Result<Rank, &'static str> {
        let rank = Rank::of(name).ok_or("a member of no known kind")?;
        match &self.last {
            None if rank != Rank::Genesis => return Err("a member before the vault's first record"),
            Some((Rank::End, _)) => return Err("a member after the last one"),
            Some((last, _)) if rank < *last => return Err("a member out of its order"),
            Some((_, last)) if last == name => return Err("a member that is there twice"),
            Some((Rank::Genesis, _)) if rank == Rank::Genesis => return Err("a second first record"),
            Some((last, name_before)) if rank == *last && rank != Rank::Packs && name < name_before => {
                return Err("a member out of its order");
            }
            _ => (),
        }
        self.count_ways_in(rank)?;
        if rank == Rank::Packs && !self.packs.insert(name.clone()) {
            return Err("a member that is there twice");
        }
        if self.count == MEMBERS_MAX {
            return Err("more members than a file may have");
        }
        self.count += 1;
        self.last = Some((rank, name.clone()));
        Ok(rank)
    }

    /// Counts slot tables and rings, of which a file has one and two, all before what comes after them.
    fn count_ways_in(&mut self, rank: Rank) -> Result<(), &'static str> {
        match rank {
            Rank::Table => self.tables += 1,
            Rank::Rings => self.rings += 1,
            _ => (),
        }
        match (self.tables, self.rings) {
            (2.., _) => Err("a second slot table"),
            (0, _) if rank > Rank::Table => Err("a member where the slot table belongs"),
            (_, rings) if rings > RINGS => Err("a third ring"),
            (_, rings) if rings < RINGS && rank > Rank::Rings => Err("a member where a ring belongs"),
            _ => Ok(()),
        }
    }

    /// Whether the last member was taken.
    pub(super) fn ended(&self) -> bool {
        matches!(self.last, Some((Rank::End, _)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text).unwrap()
    }

    /// What [`Order`] says of members in this order.
    fn order(names: &[&str]) -> Result<(), &'static str> {
        let mut order = Order::default();
        names.iter().try_for_each(|text| order.take(&name(text)).map(drop))
    }

    const GENESIS: &str = "a/0000000000000000-00";

    #[test]
    fn a_header_is_laid_out_byte_for_byte_as_the_format_says() {
        let block = encode(&name("k/00000001-0123456789abcdef"), 1234).unwrap();
        let mut expected = Vec::new();
        expected.extend_from_slice(b"k/00000001-0123456789abcdef");
        expected.resize(100, 0);
        expected.extend_from_slice(b"0000600\x000000000\x000000000\x0000000002322\x0000000000000\x00");
        // Reckoned apart from this program, over the bytes that stand here.
        expected.extend_from_slice(b"012450\x00 0");
        expected.resize(257, 0);
        expected.extend_from_slice(b"ustar\x0000");
        expected.resize(329, 0);
        expected.extend_from_slice(b"0000000\x000000000\x00");
        expected.resize(512, 0);
        assert_eq!(String::from_utf8_lossy(&block), String::from_utf8_lossy(&expected));
        assert_eq!(decode(&block), Some((name("k/00000001-0123456789abcdef"), 1234)));
    }

    #[test]
    fn the_longest_name_and_length_have_a_header_and_longer_ones_none() {
        let longest = name(&format!("p/{}", "a".repeat(98)));
        let block = encode(&longest, MEMBER_BYTES_MAX).unwrap();
        assert_eq!(decode(&block), Some((longest.clone(), MEMBER_BYTES_MAX)));
        assert_eq!(encode(&longest, MEMBER_BYTES_MAX + 1), None);
        assert_eq!(encode(&name(&format!("p/{}", "a".repeat(99))), 0), None);
    }

    /// Puts the right checksum into a changed header.
    fn sum_up(block: &mut [u8; BLOCK_BYTES]) {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    #[test]
    fn no_bit_of_a_header_can_change_unseen() {
        let (object, bytes) = (name("p/00/7c"), 77);
        let block = encode(&object, bytes).unwrap();
        for at in 0..BLOCK_BYTES {
            for bit in 0..8 {
                let mut changed = block;
                changed[at] ^= 1 << bit;
                assert_eq!(decode(&changed), None, "bit {bit} of byte {at}");
                // With its checksum put right, what is read differs or it isn't read at all.
                if !(148..156).contains(&at) {
                    sum_up(&mut changed);
                    let read = decode(&changed);
                    let tells = at < 100 || (124..135).contains(&at);
                    assert!(read.is_none() || (tells && read != Some((object.clone(), bytes))), "byte {at}");
                }
            }
        }
    }

    #[test]
    fn other_spellings_of_a_header_are_refused_though_their_sum_is_right() {
        let block = encode(&name("p/00/7c"), 77).unwrap();
        let spellings: [(usize, &[u8]); 22] = [
            (100, b"0000644"),
            (100, b"000600 "),
            (108, b"0001750"),
            (116, b"0001750"),
            (124, b"       115 \0"),
            (124, b"000000000115"),
            (124, b"0000000115\0 "),
            (124, b"\x80\0\0\0\0\0\0\0\0\0\0\x4d"),
            (124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            (124, b"77777777778\0"),
            (136, b"15000000000"),
            (156, b"\0"),
            (156, b"5"),
            (156, b"2"),
            (156, b"L"),
            (156, b"x"),
            (156, b"g"),
            (157, b"etc/passwd"),
            (257, b"ustar  \0"),
            (265, b"root"),
            (345, b"prefix"),
            (500, b"tail"),
        ];
        for (offset, field) in spellings {
            let mut changed = block;
            changed[offset..offset + field.len()].copy_from_slice(field);
            sum_up(&mut changed);
            assert_eq!(decode(&changed), None, "{field:?}");
        }
        for checksum in [&b"006052 \0"[..], b"  6052\0 ", b"0006052\0", b"00000006"] {
            let mut changed = block;
            changed[148..156].copy_from_slice(checksum);
            assert_eq!(decode(&changed), None);
        }
        for bad in ["", "/p/x", "p/../x", "./p", "p//x", "p/\u{e9}", "p/a b"] {
            let mut changed = block;
            changed[..100].fill(0);
            changed[..bad.len()].copy_from_slice(bad.as_bytes());
            sum_up(&mut changed);
            assert_eq!(decode(&changed), None, "{bad}");
        }
        assert_eq!(decode(&[0; BLOCK_BYTES]), None);
        assert_eq!(decode(&[0xff; BLOCK_BYTES]), None);
    }

    #[test]
    fn members_stand_in_one_order_only() {
        let all =
            [GENESIS, "k/1", "r/1", "r/2", "a/1", "a/2", "c/1", "m/1", "p/2", "p/1", "s/1", "u/1", "end"];
        assert_eq!(order(&all), Ok(()));
        assert_eq!(order(&[GENESIS, "k/1", "r/1", "r/2", "end"]), Ok(()));
        for first in 0..all.len() {
            for second in first + 1..all.len() {
                let mut swapped = all;
                swapped.swap(first, second);
                assert_eq!(order(&swapped).is_ok(), (first, second) == (8, 9), "{swapped:?}");
            }
            let mut doubled = all.to_vec();
            doubled.insert(first, all[first]);
            assert!(order(&doubled).is_err(), "{doubled:?}");
        }
        let twice = [GENESIS, "k/1", "r/1", "r/2", "p/1", "p/2", "p/1"];
        assert_eq!(order(&twice), Err("a member that is there twice"));
        assert_eq!(order(&[GENESIS, "a/0000000000000000-01"]), Err("a second first record"));
        let ended = [GENESIS, "k/1", "r/1", "r/2", "end", "end"];
        assert_eq!(order(&ended), Err("a member after the last one"));
        assert_eq!(order(&["end"]), Err("a member before the vault's first record"));
    }

    #[test]
    fn there_are_one_table_and_two_rings() {
        assert_eq!(order(&[GENESIS, "k/1", "k/2"]), Err("a second slot table"));
        assert_eq!(order(&[GENESIS, "k/1", "r/1", "r/2", "r/3"]), Err("a third ring"));
        for next in ["r/1", "a/1", "p/1", "end"] {
            assert_eq!(order(&[GENESIS, next]), Err("a member where the slot table belongs"), "{next}");
        }
        for next in ["a/1", "p/1", "end"] {
            assert_eq!(order(&[GENESIS, "k/1", next]), Err("a member where a ring belongs"), "{next}");
            assert_eq!(order(&[GENESIS, "k/1", "r/1", next]), Err("a member where a ring belongs"), "{next}");
        }
    }

    #[test]
    fn only_the_kinds_of_the_format_are_members() {
        for stranger in ["README.txt", "2/a/1", "q/1", "k", "p", "kk/1", "end/1", "END", "end.1", "K/1", "a"]
        {
            assert_eq!(order(&[GENESIS, stranger]), Err("a member of no known kind"), "{stranger}");
        }
    }
}

//! A sealed file taken apart and put together by hand, as docs/format.md section 26 says and whatever the
//! program does: what somebody without keys can make of it.

/// A member of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// How long a block is.
pub const BLOCK: usize = 512;

/// The members of a file that is whole, `end` the last.
pub fn members(file: &[u8]) -> Vec<Member> {
    let mut members = Vec::new();
    let mut at = 0;
    while file[at] != 0 {
        let header = &file[at..at + BLOCK];
        let name = header[..100].split(|byte| *byte == 0).next().unwrap();
        let digits = std::str::from_utf8(&header[124..135]).unwrap();
        let length = usize::from_str_radix(digits, 8).unwrap();
        at += BLOCK;
        let name = String::from_utf8(name.to_vec()).unwrap();
        members.push(Member { name, bytes: file[at..at + length].to_vec() });
        at += length.next_multiple_of(BLOCK);
    }
    assert_eq!(file.len(), at + 2 * BLOCK);
    members
}

/// Where each header stands.
pub fn headers(file: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut headers = Vec::new();
    for member in members(file) {
        headers.push(at);
        at += BLOCK + member.bytes.len().next_multiple_of(BLOCK);
    }
    headers
}

/// A file of these members.
pub fn file(members: &[Member]) -> Vec<u8> {
    let mut file = Vec::new();
    for member in members {
        file.extend_from_slice(&header(member));
        file.extend_from_slice(&member.bytes);
        file.resize(file.len().next_multiple_of(BLOCK), 0);
    }
    file.resize(file.len() + 2 * BLOCK, 0);
    file
}

/// The header of a member.
pub fn header(member: &Member) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let fields: [(usize, &[u8]); 9] = [
        (0, member.name.as_bytes()),
        (100, b"0000600"),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, &format!("{:011o}", member.bytes.len()).into_bytes()),
        (136, b"00000000000"),
        (156, b"0"),
        (257, b"ustar\x0000"),
        (329, b"0000000\x000000000"),
    ];
    for (at, field) in fields {
        header[at..at + field.len()].copy_from_slice(field);
    }
    sum_up(&mut header);
    header
}

/// Puts the right checksum into a header.
pub fn sum_up(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

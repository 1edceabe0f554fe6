//! Paths inside a snapshot, checked where bytes become one, and names made safe to print.
//!
//! A [`TreePath`] hangs below the root `/` of a snapshot and is written without a leading slash. It
//! can hold any byte but NUL, may be longer than the `PATH_MAX` of an operating system, and has no
//! empty name, no `.` and no `..`, so it can't lead anybody outside the directory that it is put into.

use std::borrow::Borrow;
use std::fmt;
use std::fmt::Write as _;

/// Why bytes are no name or no path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// A name is empty: two slashes in a row, or one at the beginning or the end.
    Empty,
    /// A name is `.` or `..`.
    Dots,
    /// A name holds a NUL byte.
    Nul,
    /// A name holds a slash.
    Slash,
    /// A name has more than [`Name::BYTES_MAX`] bytes; this many.
    TooLong(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a name in it is empty"),
            Self::Dots => write!(f, "a name in it is . or .."),
            Self::Nul => write!(f, "a name in it holds a NUL byte"),
            Self::Slash => write!(f, "a name holds a slash"),
            Self::TooLong(bytes) => {
                write!(f, "a name in it has {bytes} bytes, more than {}", Name::BYTES_MAX)
            }
        }
    }
}

impl std::error::Error for Error {}

/// Holds `bytes` against the rules for one name.
fn check_name(bytes: &[u8]) -> Result<(), Error> {
    match bytes {
        b"" => Err(Error::Empty),
        b"." | b".." => Err(Error::Dots),
        _ if bytes.len() > Name::BYTES_MAX => Err(Error::TooLong(bytes.len())),
        _ if bytes.contains(&0) => Err(Error::Nul),
        _ if bytes.contains(&b'/') => Err(Error::Slash),
        _ => Ok(()),
    }
}

/// One checked component of a path: 1 to 255 bytes, no slash, no NUL, not `.` or `..`.
///
/// Names are ordered by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The longest name there is, in bytes: Linux's `NAME_MAX`.
    pub const BYTES_MAX: usize = 255;

    /// Takes `bytes` as a name.
    ///
    /// # Errors
    /// One of [`Error`] if they are none.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// A path below the root of a snapshot; the empty one is the root itself.
///
/// The order is that of the bytes, in which `a-b` stands before `a/b`; a walk that takes each
/// directory's names in order meets them the other way round.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes `bytes`, names with one slash between them, as a path; no bytes are the root.
    ///
    /// # Errors
    /// One of [`Error`] for the first name that is none; a leading or trailing slash is
    /// [`Error::Empty`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if !bytes.is_empty() {
            bytes.split(|&byte| byte == b'/').try_for_each(check_name)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes down to `name`.
    pub fn push(&mut self, name: &Name) {
        if !self.is_root() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name.as_bytes());
    }

    /// Goes up by one name, and says whether there was one.
    pub fn pop(&mut self) -> bool {
        let was_below_root = !self.is_root();
        self.0.truncate(self.parent_bytes());
        was_below_root
    }

    /// The path of `name` in this directory.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.as_bytes().len());
        bytes.extend_from_slice(&self.0);
        let mut joined = Self(bytes);
        joined.push(name);
        joined
    }

    /// The directory that holds it; the root has none.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        (!self.is_root()).then(|| Self(self.0[..self.parent_bytes()].to_vec()))
    }

    /// How many of its bytes are its parent's.
    fn parent_bytes(&self) -> usize {
        self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0)
    }

    /// Its last name; the root has none.
    #[must_use]
    pub fn last(&self) -> Option<Name> {
        self.components().next_back()
    }

    /// Its names, from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = Name> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).map(|name| Name(name.into()))
    }

    /// Whether it is `other` or lies below it; everything lies below the root.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        other.is_root()
            || self.0.strip_prefix(other.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Its bytes, without a leading slash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TreePath {
    /// The path as it is safe to print, without a leading slash; the root is `/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { f.write_str(&printable(&self.0)) }
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}

/// Whether `character` could move the cursor, colour the screen or turn the direction of text.
///
/// Source: the bidirectional formatting characters are those of Unicode Standard Annex #9 §2.
fn is_unsafe_to_print(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// `bytes` as text that a terminal shows and nothing else, from which the bytes can be told (R-35).
///
/// A backslash becomes `\\`; newline, return and tab `\n`, `\r` and `\t`; other ASCII control
/// characters and bytes that aren't UTF-8 `\xNN`; C1 controls, line separators and characters that
/// turn the direction of text `\u{NNNN}`. Everything else stays.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for character in part.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                _ if character.is_ascii_control() => push_hex(&mut text, u32::from(character)),
                _ if is_unsafe_to_print(character) => text.extend(character.escape_unicode()),
                _ => text.push(character),
            }
        }
        for &byte in part.invalid() {
            push_hex(&mut text, u32::from(byte));
        }
    }
    text
}

/// Appends `\xNN`.
fn push_hex(text: &mut String, byte: u32) {
    write!(text, "\\x{byte:02x}").expect("writing to a String doesn't fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_cannot_lead_out_of_its_root() {
        let refused: [(&[u8], Error); 10] = [
            (b"/", Error::Empty),
            (b"/a", Error::Empty),
            (b"a/", Error::Empty),
            (b"a//b", Error::Empty),
            (b".", Error::Dots),
            (b"..", Error::Dots),
            (b"a/../b", Error::Dots),
            (b"a/./b", Error::Dots),
            (b"a\0b", Error::Nul),
            (&[b'x'; 256], Error::TooLong(256)),
        ];
        for (bytes, error) in refused {
            assert_eq!(TreePath::parse(bytes), Err(error), "{}", printable(bytes));
        }
        assert_eq!(Name::new(b"a/b"), Err(Error::Slash));
        assert_eq!(Name::new(b""), Err(Error::Empty));
    }

    #[test]
    fn names_of_any_other_bytes_are_taken() {
        for taken in [&b"..."[..], b"..a", b" ", b"\n", b"\x1b[31m", b"\xff\xfe", b"\\", &[0xff; 255]] {
            assert_eq!(Name::new(taken).map(|name| name.as_bytes().to_vec()), Ok(taken.to_vec()));
        }
        let long = vec![vec![b'd'; 255]; 40].join(&b'/');
        assert_eq!(TreePath::parse(&long).map(|path| path.components().count()), Ok(40));
    }

    #[test]
    fn going_down_and_up_ends_where_it_began() {
        let mut path = TreePath::root();
        for name in ["home", "anna", "photos"] {
            path.push(&Name::new(name.as_bytes()).unwrap());
        }
        assert_eq!(path, TreePath::parse(b"home/anna/photos").unwrap());
        assert_eq!(path.parent(), TreePath::parse(b"home/anna").ok());
        assert_eq!(path.last(), Name::new(b"photos").ok());
        assert!(path.pop() && path.pop() && path.pop());
        assert!(!path.pop());
        assert!(path.is_root() && path.parent().is_none() && path.last().is_none());
        assert_eq!(path.components().count(), 0);
    }

    #[test]
    fn a_path_lies_below_whole_names_only() {
        let path = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
        assert!(path("a/bc").starts_with(&path("a")));
        assert!(path("a/bc").starts_with(&path("a/bc")));
        assert!(path("a/bc").starts_with(&TreePath::root()));
        assert!(!path("a/bc").starts_with(&path("a/b")));
        assert!(!path("a").starts_with(&path("a/bc")));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        assert_eq!(printable(b"harbour.jpg"), "harbour.jpg");
        assert_eq!(printable("Größe 漢字 👩‍🚀".as_bytes()), "Größe 漢字 👩‍🚀");
        assert_eq!(printable(b"a\nb\r\t\x1b[2J\x7f\0"), "a\\nb\\r\\t\\x1b[2J\\x7f\\x00");
        assert_eq!(printable("\u{9b}31m\u{202e}\u{feff}".as_bytes()), "\\u{9b}31m\\u{202e}\\u{feff}");
        assert_eq!(printable(b"\xff\\xff"), "\\xff\\\\xff");
        assert_eq!(printable(b"\xe2\x82"), "\\xe2\\x82");
        assert_eq!(printable(b"\x9b"), "\\x9b");
    }

    /// Undoes [`printable`].
    fn parse_printable(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            rest = &rest[character.len_utf8()..];
            if character != '\\' {
                bytes.extend_from_slice(character.to_string().as_bytes());
                continue;
            }
            let (kind, after) = rest.split_at(1);
            rest = after;
            match kind {
                "\\" => bytes.push(b'\\'),
                "n" => bytes.push(b'\n'),
                "r" => bytes.push(b'\r'),
                "t" => bytes.push(b'\t'),
                "x" => {
                    bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                    rest = &rest[2..];
                }
                "u" => {
                    let (code, after) = rest[1..].split_once('}').unwrap();
                    let character = char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap();
                    bytes.extend_from_slice(character.to_string().as_bytes());
                    rest = after;
                }
                other => panic!("no such escape: {other}"),
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn the_bytes_can_be_told_from_what_is_printed(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = printable(&bytes);
            prop_assert!(!text.chars().any(is_unsafe_to_print));
            prop_assert_eq!(parse_printable(&text), bytes);
        }

        #[test]
        fn text_can_be_told_from_what_is_printed(text in "\\PC*|[\\\\nrtxu{}0-9\u{202e}\u{80}-\u{a0}]*") {
            prop_assert_eq!(parse_printable(&printable(text.as_bytes())), text.as_bytes());
        }
    }
}

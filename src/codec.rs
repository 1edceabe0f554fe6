//! Fixed binary layouts: a [`Writer`], and a [`Reader`] that can't run past its end.
//!
//! Numbers are little-endian. A reader never allocates for a length that the bytes at hand can't
//! hold, and [`Reader::finish`] refuses what is left over.

use std::fmt;

/// Why bytes don't have the layout that they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The bytes end before the field does.
    TooShort,
    /// Bytes are left over after the last field.
    TrailingBytes,
    /// A field holds a value that its writer never writes; the name of the field.
    NotCanonical(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(f, "it ends too early"),
            Self::TrailingBytes => write!(f, "bytes are left over at its end"),
            Self::NotCanonical(field) => write!(f, "its {field} is not as strongroom writes it"),
        }
    }
}

impl std::error::Error for Error {}

/// Reads fields from the front of `bytes`.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::TooShort)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Error::TooShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there is none.
    pub fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next 2 bytes as a number.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer.
    pub fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next 4 bytes as a number.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer.
    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 8 bytes as a number.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer.
    pub fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next 8 bytes as a signed number.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer.
    pub fn i64(&mut self) -> Result<i64, Error> {
        self.array().map(i64::from_le_bytes)
    }

    /// A count that stands before rows of at least `row_bytes` each, held against what is left.
    ///
    /// # Errors
    /// [`Error::TooShort`] if that many rows can't follow.
    pub fn count(&mut self, row_bytes: usize) -> Result<usize, Error> {
        let count = usize::try_from(self.u32()?).map_err(|_| Error::TooShort)?;
        match count.checked_mul(row_bytes) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(Error::TooShort),
        }
    }

    /// Bytes behind their length, a `u32`.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer.
    pub fn sized(&mut self) -> Result<&'a [u8], Error> {
        let length = self.count(1)?;
        self.bytes(length)
    }

    /// Bytes behind their length, a `u16`.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer.
    pub fn sized_short(&mut self) -> Result<&'a [u8], Error> {
        let length = usize::from(self.u16()?);
        self.bytes(length)
    }

    /// UTF-8 text behind its length, a `u16`.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer bytes; [`Error::NotCanonical`] if they aren't UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.sized_short()?).map_err(|_| Error::NotCanonical("text"))
    }

    /// `length` zero bytes.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer; [`Error::NotCanonical`] if one isn't zero.
    pub fn zeros(&mut self, length: usize) -> Result<(), Error> {
        if self.bytes(length)?.iter().all(|&byte| byte == 0) {
            Ok(())
        } else {
            Err(Error::NotCanonical("padding"))
        }
    }

    /// Exactly `expected`.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there are fewer bytes; [`Error::NotCanonical`] with `field` if they differ.
    pub fn exactly(&mut self, expected: &[u8], field: &'static str) -> Result<(), Error> {
        if self.bytes(expected.len())? == expected { Ok(()) } else { Err(Error::NotCanonical(field)) }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Error::TrailingBytes`] if anything is left.
    pub fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::TrailingBytes) }
    }
}

/// Writes fields one after the other.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `bytes` bytes, so that secrets written don't move about.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// A number in 2 bytes.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A number in 4 bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A number in 8 bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A signed number in 8 bytes.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A count of rows or bytes, as a `u32`.
    ///
    /// # Panics
    /// If it doesn't fit: whoever builds a layout bounds its parts first.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).expect("a layout's parts are bounded far below 2^32"))
    }

    /// Bytes behind their length, a `u32`.
    pub fn sized(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).bytes(bytes)
    }

    /// Bytes behind their length, a `u16`.
    ///
    /// # Panics
    /// If there are more than 65,535: whoever builds a layout bounds its parts first.
    pub fn sized_short(&mut self, bytes: &[u8]) -> &mut Self {
        self.u16(u16::try_from(bytes.len()).expect("short fields are bounded below 2^16")).bytes(bytes)
    }

    /// `length` zero bytes.
    pub fn zeros(&mut self, length: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len() + length, 0);
        self
    }

    /// Whether so many bytes more fit in without moving what is written.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= bytes
    }

    /// How many bytes are written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is written so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// All that was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_beyond() {
        let mut writer = Writer::new();
        writer.u8(1).u16(2).u32(3).u64(4).i64(-5).sized(b"six").sized_short(b"seven").zeros(3);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(2));
        assert_eq!(reader.u32(), Ok(3));
        assert_eq!(reader.u64(), Ok(4));
        assert_eq!(reader.i64(), Ok(-5));
        assert_eq!(reader.sized(), Ok(&b"six"[..]));
        assert_eq!(reader.text(), Ok("seven"));
        assert_eq!(reader.clone().finish(), Err(Error::TrailingBytes));
        assert_eq!(reader.zeros(3), Ok(()));
        assert_eq!(reader.u8(), Err(Error::TooShort));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused_before_allocating() {
        let bytes = u32::MAX.to_le_bytes();
        assert_eq!(Reader::new(&bytes).count(1), Err(Error::TooShort));
        assert_eq!(Reader::new(&bytes).sized(), Err(Error::TooShort));
    }
}

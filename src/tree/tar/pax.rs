//! Extended records of pax archives: `LENGTH KEYWORD=VALUE\n`, the length counting itself.
//!
//! Values are bytes: an extended attribute may hold newlines and NULs, so records are told apart by
//! their lengths alone.

use crate::tree::entry::Time;

/// A keyword and its value.
pub type Record = (Box<[u8]>, Box<[u8]>);

/// Records that are gathered for one entry.
#[derive(Default)]
pub struct Records(Vec<u8>);

impl Records {
    /// No records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&mut self, keyword: &[u8], value: &[u8]) {
        // A space, an equals sign and a newline.
        let rest = keyword.len() + value.len() + 3;
        let mut length = rest + digits(rest);
        if digits(length) > digits(rest) {
            length += 1;
        }
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(keyword);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// All of them, as they stand in an archive.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// How many decimal digits `number` has.
fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |power| power as usize + 1)
}

/// Takes records apart, in their order; none if they aren't laid out as records are.
#[must_use]
pub fn parse(mut bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let digits = bytes.iter().position(|byte| *byte == b' ')?;
        let length = usize::try_from(parse_number(&bytes[..digits])?).ok()?;
        let record = bytes.get(digits + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((record[..equals].into(), record[equals + 1..].into()));
        bytes = &bytes[length..];
    }
    Some(records)
}

/// Reads a number of nothing but decimal digits.
#[must_use]
pub fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads an instant; digits after the ninth behind the point are cut off.
#[must_use]
pub fn parse_time(text: &[u8]) -> Option<Time> {
    let (is_negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((text, &b""[..]), |at| (&text[..at], &text[at + 1..]));
    let seconds = i64::try_from(parse_number(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| u32::from(digit - b'0'));
    let nanos = (0..9).fold(0, |nanos, at| nanos * 10 + digit(at));
    Some(match (is_negative, nanos) {
        (false, _) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos: 0 },
        (true, _) => Time { seconds: (-seconds).checked_sub(1)?, nanos: 1_000_000_000 - nanos },
    })
}

/// An instant as records have it: seconds since 1970 with as many digits after the point as it takes.
#[must_use]
pub fn time_text(time: Time) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    if time.seconds >= 0 {
        return format!("{}.{:09}", time.seconds, time.nanos);
    }
    // The seconds are rounded down, and the fraction of a negative number counts the other way.
    let (whole, fraction) = (-(time.seconds + 1), 1_000_000_000 - time.nanos);
    format!("-{whole}.{fraction:09}")
}

/// The name of an extended attribute as a part of a keyword: `%` and `=` are escaped as GNU tar does.
#[must_use]
pub fn escape_attribute(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'%' => escaped.extend_from_slice(b"%25"),
            b'=' => escaped.extend_from_slice(b"%3D"),
            _ => escaped.push(byte),
        }
    }
    escaped
}

/// Undoes [`escape_attribute`].
#[must_use]
pub fn unescape_attribute(escaped: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(&first) = rest.first() {
        let (byte, length) = match rest {
            [b'%', b'2', b'5', ..] => (b'%', 3),
            [b'%', b'3', b'D', ..] => (b'=', 3),
            _ => (first, 1),
        };
        name.push(byte);
        rest = &rest[length..];
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for (value, length) in
            [(1, "6"), (4, "9"), (5, "11"), (93, "99"), (94, "101"), (992, "999"), (993, "1001")]
        {
            let mut records = Records::new();
            records.add(b"k", &vec![b'v'; value]);
            let text = String::from_utf8(records.as_bytes().to_vec()).unwrap();
            let told = text.split(' ').next().unwrap();
            assert_eq!(told.parse::<usize>().unwrap(), text.len(), "{value}");
            assert_eq!(told, length);
        }
    }

    #[test]
    fn times_before_1970_have_their_fraction_on_the_right_side() {
        let text = |seconds, nanos| time_text(Time { seconds, nanos });
        assert_eq!(text(1, 0), "1");
        assert_eq!(text(0, 5), "0.000000005");
        assert_eq!(text(-1, 750_000_000), "-0.250000000");
        assert_eq!(text(-2, 500_000_000), "-1.500000000");
        assert_eq!(text(-2, 0), "-2");
        assert_eq!(text(i64::MIN, 1), "-9223372036854775807.999999999");
    }

    #[test]
    fn records_are_told_apart_by_their_lengths_alone() {
        let mut records = Records::new();
        let written: [(&[u8], &[u8]); 3] =
            [(b"path", b"a=b\n12 c"), (b"SCHILY.xattr.user.x", b"\0\n9 k=v\n"), (b"empty", b"")];
        for (keyword, value) in written {
            records.add(keyword, value);
        }
        let read = parse(records.as_bytes()).unwrap();
        let read: Vec<(&[u8], &[u8])> = read.iter().map(|(keyword, value)| (&**keyword, &**value)).collect();
        assert_eq!(read, written);
        assert_eq!(parse(b""), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for refused in [
            &b"6 k=v"[..],
            b"7 k=v\n",
            b"5 k=v\n",
            b"6 kv=\n ",
            b" k=v\n",
            b"+6 k=v\n",
            b"6 kvv\n",
            b"3 \n",
            b"0 k=v\n",
        ] {
            assert_eq!(parse(refused), None, "{}", refused.escape_ascii());
        }
    }

    #[test]
    fn times_that_are_none_are_refused() {
        for refused in ["", "-", "1.2.3", "1e3", "+1", "--1", " 1", "1.-5", "0x1", "99999999999999999999"] {
            assert_eq!(parse_time(refused.as_bytes()), None, "{refused:?}");
        }
        assert_eq!(parse_time(b"1."), Some(Time { seconds: 1, nanos: 0 }));
        assert_eq!(parse_time(b"1.0000000019"), Some(Time { seconds: 1, nanos: 1 }));
    }

    proptest! {
        #[test]
        fn a_time_is_read_back(seconds in (i64::MIN + 2)..i64::MAX, nanos in 0_u32..1_000_000_000) {
            let time = Time { seconds, nanos };
            prop_assert_eq!(parse_time(time_text(time).as_bytes()), Some(time));
        }

        #[test]
        fn an_attributes_name_is_read_back(name in "[a%=23D5.]*") {
            prop_assert_eq!(unescape_attribute(&escape_attribute(name.as_bytes())), name.as_bytes());
        }
    }
}

//! Extended records of pax archives: `LENGTH KEYWORD=VALUE\n`, the length counting itself.
//!
//! Values are bytes: an extended attribute may hold newlines and NULs, so records are told apart by
//! their lengths alone.

use crate::tree::entry::Time;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}

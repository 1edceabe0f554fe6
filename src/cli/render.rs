//! What people and programs read: sizes, times, tables, JSON; names made safe to print.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Bytes as a person reads them: three digits and a unit of thousands.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut thousandths = u128::from(bytes);
    while thousandths >= 999_500 && unit + 1 < UNITS.len() {
        thousandths = (thousandths + 500) / 1_000;
        unit += 1;
    }
    let (whole, part) = (thousandths / 1_000, thousandths % 1_000);
    match whole {
        0..10 => format!("{whole}.{:02} {}", part / 10, UNITS[unit]),
        10..100 => format!("{whole}.{} {}", part / 100, UNITS[unit]),
        _ => format!("{whole} {}", UNITS[unit]),
    }
}

/// A count with its thousands set apart.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How long something took, from nanoseconds.
#[must_use]
pub fn duration(nanoseconds: u64) -> String {
    let (seconds, tenths) = (nanoseconds / 1_000_000_000, nanoseconds / 100_000_000 % 10);
    match seconds {
        0..60 => format!("{seconds}.{tenths} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

fn timestamp(seconds: i64, nanos: u32) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()
}

fn split(nanoseconds: u64) -> (i64, u32) {
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX);
    (seconds, u32::try_from(nanoseconds % 1_000_000_000).unwrap_or(0))
}

/// An instant, from nanoseconds since 1970 UTC, in the zone of this machine.
#[must_use]
pub fn local_time(nanoseconds: u64) -> String {
    local_seconds(split(nanoseconds).0)
}

/// The same with its distance from UTC, for what is read elsewhere or later.
#[must_use]
pub fn zoned_time(nanoseconds: u64) -> String {
    let seconds = split(nanoseconds).0;
    timestamp(seconds, 0).map_or_else(
        || format!("@{seconds}"),
        |time| time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
    )
}

/// An instant, from seconds since 1970 UTC, in the zone of this machine.
#[must_use]
pub fn local_seconds(seconds: i64) -> String {
    timestamp(seconds, 0).map_or_else(
        || format!("@{seconds}"),
        |time| time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// An instant, from nanoseconds since 1970 UTC, as programs read it.
#[must_use]
pub fn rfc3339(nanoseconds: u64) -> String {
    let (seconds, nanos) = split(nanoseconds);
    rfc3339_time(seconds, nanos)
}

/// An instant as programs read it.
#[must_use]
pub fn rfc3339_time(seconds: i64, nanos: u32) -> String {
    timestamp(seconds, nanos).map_or_else(|| format!("@{seconds}"), |time| time.to_string())
}

/// Path or name bytes as JSON text; what isn't UTF-8 in it is replaced.
#[must_use]
pub fn json_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Puts a path under `key`, and its bytes in base64 beside it if they aren't UTF-8.
pub fn put_path(fields: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    fields.insert(key.to_owned(), json!(json_text(bytes)));
    if std::str::from_utf8(bytes).is_err() {
        let encoded = data_encoding::BASE64.encode(bytes);
        fields.insert(format!("{key}_base64"), json!(encoded));
    }
}

/// Rows of text in columns as wide as they need.
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// A table with these words over its columns.
    #[must_use]
    pub fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()], right: Vec::new() }
    }

    /// Sets a column, counted from 0, flush right, as numbers are.
    pub fn right(&mut self, column: usize) -> &mut Self {
        self.right.push(column);
        self
    }

    /// One more row; its texts are safe to print already.
    pub fn row(&mut self, cells: Vec<String>) -> &mut Self {
        self.rows.push(cells);
        self
    }

    /// All lines, without blanks at their ends. A row may have fewer cells than there are columns.
    #[must_use]
    pub fn finish(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    line.push_str("  ");
                }
                let space = " ".repeat(widths[column] - cell.chars().count());
                if self.right.contains(&column) {
                    line.push_str(&space);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&space);
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (15_400, "15.4 kB"),
            (999_499, "999 kB"),
            (999_999, "1.00 MB"),
            (1_234_567_890, "1.23 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn counts_have_their_thousands_apart_and_durations_fit_their_length() {
        assert_eq!(
            (count(7), count(1_204), count(1_000_000)),
            ("7".into(), "1,204".into(), "1,000,000".into())
        );
        assert_eq!(duration(1_940_000_000), "1.9 s");
        assert_eq!(duration(61_000_000_000), "1 min 1 s");
        assert_eq!(duration(3_660_000_000_000), "1 h 1 min");
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells_and_sets_numbers_flush_right() {
        let mut table = Table::new(&["Name", "Files", "Tags"]);
        table.right(1);
        table.row(vec!["a".into(), "7".into(), "x".into()]).row(vec![
            "größer".into(),
            "1,204".into(),
            String::new(),
        ]);
        table.row(vec!["gone".into()]);
        assert_eq!(table.finish(), "Name    Files  Tags\na           7  x\ngrößer  1,204\ngone\n");
        assert_eq!(Table::new(&[]).finish(), "\n");
    }

    #[test]
    fn a_path_that_is_not_utf8_stands_beside_its_bytes() {
        let mut fields = Map::new();
        put_path(&mut fields, "path", b"a\xff");
        put_path(&mut fields, "target", "größer".as_bytes());
        let expected = json!({ "path": "a\u{fffd}", "path_base64": "Yf8=", "target": "größer" });
        assert_eq!(Value::Object(fields), expected);
    }

    #[test]
    fn times_before_1970_and_beyond_the_calendar_are_shown_too() {
        assert_eq!(rfc3339(1_795_428_000_000_000_000), "2026-11-23T10:00:00Z");
        assert_eq!(rfc3339_time(-1, 500_000_000), "1969-12-31T23:59:59.5Z");
        assert_eq!(rfc3339_time(i64::MAX, 0), format!("@{}", i64::MAX));
        assert_eq!(local_seconds(i64::MIN), format!("@{}", i64::MIN));
        assert_eq!(local_time(0).len(), "1970-01-01 00:00:00".len());
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }
}

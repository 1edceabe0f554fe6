//! Where the data of a sparse file lies, as archives tell it.

use crate::tree::entry::DataRun;
use crate::tree::tar::error::Why;
use crate::tree::tar::pax::parse_number;

/// How many runs a map may list: more than a snapshot keeps, as those that touch count as one there.
pub const LISTED_MAX: usize = 2 * DataRun::COUNT_MAX;

/// More than a line of a map takes with its newline: no number has more than 20 digits.
const LINE_BYTES_MAX: usize = 32;

/// The runs of a file of `size` bytes whose map lists these offsets and lengths, and whose data has
/// `data_bytes`; none if it has no holes.
///
/// # Errors
/// [`Why::Holes`] for runs out of order, beyond the file's end, or that aren't as long as the data;
/// [`Why::ManyHoles`].
pub fn runs(size: u64, listed: &[(u64, u64)], data_bytes: u64) -> Result<Option<Box<[DataRun]>>, Why> {
    let mut runs: Vec<DataRun> = Vec::new();
    let (mut end, mut bytes) = (0, 0);
    for &(offset, length) in listed {
        let after = offset.checked_add(length).filter(|after| *after <= size).ok_or(Why::Holes)?;
        if offset < end {
            return Err(Why::Holes);
        }
        match runs.last_mut() {
            _ if length == 0 => {}
            Some(last) if last.offset + last.length == offset => last.length += length,
            _ => runs.push(DataRun { offset, length }),
        }
        bytes += length;
        end = after;
    }
    if bytes != data_bytes {
        return Err(Why::Holes);
    }
    if runs.len() > DataRun::COUNT_MAX {
        return Err(Why::ManyHoles);
    }
    Ok((bytes < size).then(|| runs.into()))
}

/// Offsets and lengths that stand one after the other with `separator` between them.
///
/// # Errors
/// [`Why::Holes`] if that isn't what stands there; [`Why::ManyHoles`] beyond [`LISTED_MAX`].
pub fn parse_map(text: &[u8], separator: u8) -> Result<Vec<(u64, u64)>, Why> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = text.split(|byte| *byte == separator).map(|number| parse_number(number).ok_or(Why::Holes));
    let numbers: Vec<u64> = numbers.take(2 * LISTED_MAX + 1).collect::<Result<_, _>>()?;
    if numbers.len() > 2 * LISTED_MAX {
        return Err(Why::ManyHoles);
    }
    let pairs = numbers.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(Why::Holes);
    }
    Ok(pairs.map(|pair| (pair[0], pair[1])).collect())
}

/// Runs from lines of a count and as many offsets and lengths; none yet if `text` has too few lines.
///
/// # Errors
/// As [`parse_map`].
pub fn parse_lines(text: &[u8]) -> Result<Option<Vec<(u64, u64)>>, Why> {
    let mut lines = text.split(|byte| *byte == b'\n');
    // What follows the last newline is no line yet.
    let whole = text.iter().filter(|byte| **byte == b'\n').count();
    let Some(count) = lines.next().filter(|_| whole > 0) else {
        return if text.len() > LINE_BYTES_MAX { Err(Why::Holes) } else { Ok(None) };
    };
    let count = parse_number(count).ok_or(Why::Holes)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= LISTED_MAX).ok_or(Why::ManyHoles)?;
    if whole < 1 + 2 * count {
        return if text.len() > (1 + 2 * count) * LINE_BYTES_MAX { Err(Why::Holes) } else { Ok(None) };
    }
    let numbers: Vec<&[u8]> = lines.take(2 * count).collect();
    parse_map(&numbers.join(&b'\n'), b'\n').map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offset: u64, length: u64) -> DataRun {
        DataRun { offset, length }
    }

    #[test]
    fn runs_that_touch_are_one_and_empty_ones_none() {
        let found = runs(100, &[(0, 5), (5, 5), (20, 0), (20, 5), (30, 10), (100, 0)], 25).unwrap();
        assert_eq!(found.as_deref(), Some(&[run(0, 10), run(20, 5), run(30, 10)][..]));
        assert_eq!(runs(100, &[(100, 0)], 0).unwrap().as_deref(), Some(&[][..]));
        assert_eq!(runs(10, &[(0, 4), (4, 6)], 10), Ok(None), "it has no holes");
        assert_eq!(runs(0, &[(0, 0)], 0), Ok(None));
    }

    #[test]
    fn runs_that_cannot_be_are_refused() {
        for (listed, data_bytes) in [
            (&[(0, 5), (4, 5)][..], 10),
            (&[(50, 5), (0, 5)], 10),
            (&[(98, 5)], 5),
            (&[(u64::MAX, 2)], 2),
            (&[(0, 5)], 6),
        ] {
            assert_eq!(runs(100, listed, data_bytes), Err(Why::Holes), "{listed:?}");
        }
        let many: Vec<(u64, u64)> = (0..4_097).map(|number| (number * 2, 1)).collect();
        assert_eq!(runs(10_000, &many, 4_097), Err(Why::ManyHoles));
    }

    #[test]
    fn a_map_has_numbers_in_pairs() {
        assert_eq!(parse_map(b"", b','), Ok(Vec::new()));
        assert_eq!(parse_map(b"1,2,3,0", b','), Ok(vec![(1, 2), (3, 0)]));
        for refused in [&b"1"[..], b"1,2,", b"1,,2", b"-1,2", b"1,2,3"] {
            assert_eq!(parse_map(refused, b','), Err(Why::Holes), "{}", refused.escape_ascii());
        }
    }

    #[test]
    fn lines_are_read_once_all_of_them_are_there() {
        assert_eq!(parse_lines(b"2\n0\n5\n90\n10\n\0\0"), Ok(Some(vec![(0, 5), (90, 10)])));
        assert_eq!(parse_lines(b"0\n\0"), Ok(Some(Vec::new())));
        for short in [&b""[..], b"2", b"2\n0\n5\n90\n", b"2\n0\n5\n90\n1"] {
            assert_eq!(parse_lines(short), Ok(None), "{}", short.escape_ascii());
        }
        for refused in [&b"x\n"[..], b"1\n-1\n2\n", b"1\n\n\n", &[b'1'; 600]] {
            assert_eq!(parse_lines(refused), Err(Why::Holes), "{}", refused.escape_ascii());
        }
        assert_eq!(parse_lines(b"8193\n"), Err(Why::ManyHoles));
    }
}

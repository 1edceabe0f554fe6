//! Where content is cut into chunks.
//!
//! A gear hash of the last 64 bytes runs over the content, and a chunk ends where the hash falls
//! below a limit. Whether a place is a boundary depends on those 64 bytes, on the chunk's length up
//! to there and on nothing else, so after an edit the boundaries soon fall where they were.
//!
//! The limit is strict up to the average length and loose beyond it, which draws the lengths
//! together ("normalised chunking"). The table that the hash adds up is secret: that makes it harder
//! to tell known content by its chunk lengths, but the defence is that lengths are seen by nobody
//!
//!
//! Source: gear hash and normalised chunking, Xia et al., FastCDC, USENIX ATC 2016, §3; the strips
//! and the hash that ignores where the chunk began are our own.

use zeroize::Zeroize;

/// The longest chunk that any [`Sizes`] allow.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;

/// How many bytes the hash looks back: one for each bit, as every step shifts it by one.
const HASH_BYTES: usize = 64;

/// By how many bits the chance of a boundary falls before the average length, and rises after it.
///
/// Source: level 2, which FastCDC §3.5 finds best.
const NORMALISATION: u32 = 2;

/// How many stretches are hashed at the same time: each hash waits for its own last step, so that
/// four of them keep a core busy.
const STRIPS: usize = 4;

/// How long each of those stretches is. Longer: more bytes hashed beyond the boundary. Shorter: more
/// of them hashed twice, as each strip begins with the [`HASH_BYTES`] before it.
const STRIP_BYTES: usize = 1_024;

/// How long chunks may be, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    min: usize,
    average: usize,
    max: usize,
}

impl Sizes {
    /// Takes these lengths, or nothing if they make no chunker.
    ///
    /// `average` is a power of two from 16 KiB to 1 MiB, `min` is at least 64 and less than it, `max`
    /// more than it and no more than [`CHUNK_BYTES_MAX`].
    #[must_use]
    pub const fn new(min: usize, average: usize, max: usize) -> Option<Self> {
        let average_fits = average.is_power_of_two() && average >= 16 << 10 && average <= 1 << 20;
        let min_fits = min >= HASH_BYTES && min < average;
        let max_fits = max > average && max <= CHUNK_BYTES_MAX;
        if average_fits && min_fits && max_fits { Some(Self { min, average, max }) } else { None }
    }

    /// The lengths that suit `average`: from a quarter of it to four times as much.
    #[must_use]
    pub const fn around(average: usize) -> Option<Self> {
        Self::new(average / 4, average, average.saturating_mul(4))
    }

    /// The shortest chunk, but for the last of a file.
    #[must_use]
    pub const fn min(self) -> usize {
        self.min
    }

    /// About how long chunks are.
    #[must_use]
    pub const fn average(self) -> usize {
        self.average
    }

    /// The longest chunk, and what [`Cutter::next`] wants to see at once.
    #[must_use]
    pub const fn max(self) -> usize {
        self.max
    }
}

/// Finds the boundaries of chunks. One serves any number of files and threads.
///
/// It holds a secret table, so it can't be printed or copied, and is wiped when dropped.
pub struct Cutter {
    table: Box<[u64; 256]>,
    sizes: Sizes,
    strict: u64,
    loose: u64,
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.table.zeroize();
    }
}

impl Cutter {
    /// A cutter with the table that `table_bytes` hold: 256 little-endian numbers of 8 bytes.
    #[must_use]
    pub fn new(table_bytes: &[u8; 2_048], sizes: Sizes) -> Self {
        let mut table = Box::new([0; 256]);
        for (entry, bytes) in table.iter_mut().zip(table_bytes.as_chunks::<8>().0) {
            *entry = u64::from_le_bytes(*bytes);
        }
        // A hash is below 2^(64 - n) with a chance of 1 in 2^n.
        let bits = sizes.average.ilog2();
        let strict = 1 << (64 - bits - NORMALISATION);
        let loose = 1 << (64 - bits + NORMALISATION);
        Self { table, sizes, strict, loose }
    }

    /// The lengths that this cutter keeps to.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// How long the chunk is that `window` begins with.
    ///
    /// `window` is what comes next of one file, as much of it as the caller has; `at_end` says that
    /// the file has no more. Nothing is returned if that isn't enough to tell, so if the window is
    /// shorter than [`Sizes::max`] and not at the end, or if it is empty. The same content is cut in
    /// the same places however the windows are filled.
    #[must_use]
    pub fn next(&self, window: &[u8], at_end: bool) -> Option<usize> {
        let Sizes { min, average, max } = self.sizes;
        if window.is_empty() || (window.len() < max && !at_end) {
            return None;
        }
        let window = &window[..window.len().min(max)];
        if window.len() <= min {
            return Some(window.len());
        }
        // The byte with index i is the last of a chunk of i + 1 bytes.
        let middle = (average - 1).min(window.len());
        let boundary = self
            .find(window, min - 1, middle, self.strict)
            .or_else(|| self.find(window, middle, window.len(), self.loose));
        Some(boundary.map_or(window.len(), |last| last + 1))
    }

    /// The first index in `from..to` where the hash falls below `limit`; `from` is at least 63.
    fn find(&self, window: &[u8], from: usize, to: usize, limit: u64) -> Option<usize> {
        let mut at = from;
        let mut hash = self.hash_before(window, at);
        while let Some(group) = window[at..to].first_chunk::<{ STRIPS * STRIP_BYTES }>() {
            // The first strip goes on where the last of the group before it ended.
            let mut hashes = [hash; STRIPS];
            for (strip, hash) in hashes.iter_mut().enumerate().skip(1) {
                *hash = self.hash_before(window, at + strip * STRIP_BYTES);
            }
            match self.find_in_strips(group, hashes, limit) {
                Ok(found) => return Some(at + found),
                Err(last) => hash = last,
            }
            at += group.len();
        }
        let found = self.find_in_one(&window[at..to], hash, limit);
        found.ok().map(|found| at + found)
    }

    /// The hash of the bytes up to `at`, without the one there.
    fn hash_before(&self, window: &[u8], at: usize) -> u64 {
        let start = at.saturating_sub(HASH_BYTES);
        window[start..at].iter().fold(0, |hash, &byte| self.step(hash, byte))
    }

    #[inline(always)]
    fn step(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.table[usize::from(byte)])
    }

    /// The first index in `bytes` where the hash falls below `limit`, else the hash at their end.
    fn find_in_one(&self, bytes: &[u8], mut hash: u64, limit: u64) -> Result<usize, u64> {
        for (index, &byte) in bytes.iter().enumerate() {
            hash = self.step(hash, byte);
            if hash < limit {
                return Ok(index);
            }
        }
        Err(hash)
    }

    /// The same as [`Self::find_in_one`], four strips at a time; `hashes` are those before each.
    fn find_in_strips(
        &self,
        group: &[u8; STRIPS * STRIP_BYTES],
        hashes: [u64; STRIPS],
        limit: u64,
    ) -> Result<usize, u64> {
        let [mut a, mut b, mut c, mut d] = hashes;
        let (first, rest) = group.split_at(STRIP_BYTES);
        let (second, rest) = rest.split_at(STRIP_BYTES);
        let (third, fourth) = rest.split_at(STRIP_BYTES);
        let bytes = first.iter().zip(second).zip(third).zip(fourth);
        for (index, (((&in_a, &in_b), &in_c), &in_d)) in bytes.enumerate() {
            a = self.step(a, in_a);
            b = self.step(b, in_b);
            c = self.step(c, in_c);
            d = self.step(d, in_d);
            if a < limit || b < limit || c < limit || d < limit {
                return Ok(self.first_of_strips(group, [a, b, c, d], index, limit));
            }
        }
        Err(d)
    }

    /// The first boundary of a group when one strip has its first at `index`: a strip before it may
    /// have one further on.
    #[cold]
    fn first_of_strips(&self, group: &[u8], hashes: [u64; STRIPS], index: usize, limit: u64) -> usize {
        for (strip, hash) in hashes.into_iter().enumerate() {
            let start = strip * STRIP_BYTES;
            if hash < limit {
                return start + index;
            }
            let rest = &group[start + index + 1..start + STRIP_BYTES];
            if let Ok(found) = self.find_in_one(rest, hash, limit) {
                return start + index + 1 + found;
            }
        }
        unreachable!("one of the hashes is below the limit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that look random and are the same for ever (splitmix64).
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed;
        let words = std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (word ^ (word >> 31)).to_le_bytes()
        });
        words.flatten().take(length).collect()
    }

    fn cutter(sizes: Sizes) -> Cutter {
        let table: [u8; 2_048] = noise(1, 2_048).try_into().unwrap();
        Cutter::new(&table, sizes)
    }

    fn small() -> Sizes {
        Sizes::around(16 << 10).unwrap()
    }

    fn lengths(cutter: &Cutter, mut content: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(length) = cutter.next(content, true) {
            lengths.push(length);
            content = &content[length..];
        }
        lengths
    }

    /// What the documentation says, word for word and one byte at a time.
    fn next_slowly(cutter: &Cutter, window: &[u8]) -> usize {
        let Sizes { min, average, max } = cutter.sizes;
        let end = window.len().min(max);
        for length in min..end {
            let mut hash = 0_u64;
            for &byte in &window[length - 64..length] {
                hash = (hash << 1).wrapping_add(cutter.table[usize::from(byte)]);
            }
            let bits = average.ilog2();
            let needed = if length < average { bits + NORMALISATION } else { bits - NORMALISATION };
            if hash.leading_zeros() >= needed {
                return length;
            }
        }
        end
    }

    #[test]
    fn lengths_that_make_no_chunker_are_refused() {
        assert!(Sizes::new(64, 16 << 10, 8 << 20).is_some());
        assert_eq!(Sizes::new(63, 16 << 10, 1 << 20), None);
        assert_eq!(Sizes::new(64, 8 << 10, 1 << 20), None);
        assert_eq!(Sizes::new(64, 2 << 20, 8 << 20), None);
        assert_eq!(Sizes::new(64, 40_000, 1 << 20), None);
        assert_eq!(Sizes::new(16 << 10, 16 << 10, 1 << 20), None);
        assert_eq!(Sizes::new(64, 16 << 10, 16 << 10), None);
        assert_eq!(Sizes::new(64, 16 << 10, (8 << 20) + 1), None);
    }

    /// The golden vector: should it ever change, every vault would store all of its data again.
    #[test]
    fn the_boundaries_of_fixed_content_never_change() {
        let content = noise(2, 300_000);
        let expected = [
            20507, 14716, 22937, 19550, 16497, 17066, 25795, 22923, 21986, 18288, 19994, 24611, 7892, 16647,
            19801, 10790,
        ];
        assert_eq!(lengths(&cutter(small()), &content), expected);
    }

    #[test]
    fn four_strips_cut_where_one_byte_at_a_time_does() {
        let cutter = cutter(small());
        let noise = noise(3, 700_000);
        let text: Vec<u8> = noise.iter().map(|byte| b"etaoin shrdlu.\r\n"[usize::from(byte % 16)]).collect();
        for content in [noise, text] {
            let mut rest = &content[..];
            while !rest.is_empty() {
                let length = cutter.next(rest, true).unwrap();
                assert_eq!(length, next_slowly(&cutter, rest));
                rest = &rest[length..];
            }
        }
    }

    #[test]
    fn content_without_variety_is_cut_at_the_bounds() {
        let cutter = cutter(small());
        let lengths = lengths(&cutter, &vec![0; 200_000]);
        let (last, all) = lengths.split_last().unwrap();
        assert!(all.iter().all(|&length| length == small().min() || length == small().max()), "{all:?}");
        assert!(*last <= small().max());
    }

    #[test]
    fn more_is_asked_for_until_the_longest_chunk_fits_or_the_file_ends() {
        let cutter = cutter(small());
        let content = noise(4, small().max());
        assert_eq!(cutter.next(&content[1..], false), None);
        assert_eq!(cutter.next(&content, false), cutter.next(&content, true));
        assert_eq!(cutter.next(&[], true), None);
        assert_eq!(cutter.next(&content[..1], true), Some(1));
    }

    #[test]
    fn an_inserted_byte_moves_few_boundaries() {
        let cutter = cutter(small());
        let content = noise(5, 2_000_000);
        let mut edited = content.clone();
        edited.insert(1_000_000, 7);
        let ends = |content: &[u8]| -> Vec<usize> {
            let mut at = 0;
            lengths(&cutter, content)
                .into_iter()
                .map(|length| {
                    at += length;
                    content.len() - at
                })
                .collect()
        };
        let (before, after) = (ends(&content), ends(&edited));
        let same = after.iter().filter(|end| before.contains(end)).count();
        let before_edit = before.iter().filter(|&&end| end > 1_000_000).count();
        assert!(same + before_edit + 8 >= after.len(), "{same} of {} from the end", after.len());
    }

    #[test]
    fn the_average_is_about_what_was_asked_for() {
        let content = noise(6, 8_000_000);
        for average in [16 << 10, 64 << 10] {
            let sizes = Sizes::around(average).unwrap();
            let mean = content.len() / lengths(&cutter(sizes), &content).len();
            assert!(mean > average * 9 / 10 && mean < average * 5 / 4, "{mean} of {average}");
        }
    }

    #[test]
    fn another_table_cuts_elsewhere() {
        let table: [u8; 2_048] = noise(7, 2_048).try_into().unwrap();
        let content = noise(2, 300_000);
        assert_ne!(lengths(&Cutter::new(&table, small()), &content), lengths(&cutter(small()), &content));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn cuts_do_not_depend_on_how_the_window_is_filled(
            seed: u64,
            length in 0_usize..400_000,
            reads in prop::collection::vec(1_usize..100_000, 1..20),
        ) {
            let cutter = cutter(small());
            let content = noise(seed, length);
            let (mut window, mut lengths_found, mut read) = (Vec::new(), Vec::new(), 0);
            for step in reads.iter().cycle() {
                let until = (read + step).min(content.len());
                window.extend_from_slice(&content[read..until]);
                read = until;
                while let Some(length) = cutter.next(&window, read == content.len()) {
                    lengths_found.push(length);
                    window.drain(..length);
                }
                if read == content.len() { break }
            }
            prop_assert_eq!(lengths_found.iter().sum::<usize>(), content.len());
            prop_assert_eq!(lengths_found, lengths(&cutter, &content));
        }
    }
}

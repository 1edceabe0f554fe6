//! The only door to zstd.
//!
//! A compressed block is one zstd frame that tells its content's length, without a checksum (chunk
//! ids are checked) and without a dictionary. Levels and lengths here keep its window at 8 MiB or
//! less.

use std::cell::Cell;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use super::BLOCK_BYTES_MAX;
use super::BLOCKS;
use super::Error;

/// The fastest level, which compresses least.
pub const LEVEL_MIN: i32 = -7;

/// The level that compresses most; those above it would take windows of more than 8 MiB.
pub const LEVEL_MAX: i32 = 19;

/// The level that compresses nothing: everything is stored as it is.
pub const LEVEL_STORE: i32 = 0;

/// The level that is used if nobody asks for another.
pub const LEVEL_DEFAULT: i32 = 3;

/// How the only kind of frame begins that is read here. The zstd library knows older ones too.
///
/// Source: RFC 8878 §3.1.1.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A block has to become shorter by this part of its length, else it is stored as it is: less isn't
/// worth what decompressing costs every reader.
const GAIN: usize = 32;

/// Shorter blocks are compressed without asking whether they will shrink.
const PROBE_BYTES_MIN: usize = 64 << 10;

/// How many places of a block a probe looks at.
const PROBE_PLACES: usize = 64;

/// How many bytes it counts at each of them.
const PROBE_PLACE_BYTES: usize = 256;

/// How many of a block's words a probe remembers, as a power of two.
const PROBE_WORDS_BITS: u32 = 14;

thread_local! {
    static COMPRESSOR: Cell<Option<(i32, Compressor<'static>)>> = const { Cell::new(None) };
    static DECOMPRESSOR: Cell<Option<Decompressor<'static>>> = const { Cell::new(None) };
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Compresses a block, or tells that it is to be stored as it is.
///
/// `level` is from [`LEVEL_MIN`] to [`LEVEL_MAX`] (others become the nearest of these), or
/// [`LEVEL_STORE`]. Nothing is returned if the result would not be shorter by at least a 32nd, or if
/// zstd fails: storing is always right.
#[must_use]
pub fn compress(level: i32, raw: &[u8]) -> Option<Vec<u8>> {
    let length_fits = !raw.is_empty() && raw.len() <= BLOCK_BYTES_MAX;
    if level == LEVEL_STORE || !length_fits || !may_shrink(raw) {
        return None;
    }
    let level = level.clamp(LEVEL_MIN, LEVEL_MAX);
    let mut compressor = match COMPRESSOR.take() {
        Some((set, compressor)) if set == level => compressor,
        _ => Compressor::new(level).ok()?,
    };
    // zstd gives up early when the room doesn't suffice.
    let room = raw.len() - (raw.len() / GAIN).max(1);
    let mut scratch = SCRATCH.take();
    scratch.resize(room, 0);
    let compressed = compressor.compress_to_buffer(raw, &mut scratch[..]);
    let compressed = compressed.ok().map(|length| scratch[..length].to_vec());
    SCRATCH.set(scratch);
    COMPRESSOR.set(Some((level, compressor)));
    compressed
}

/// Decompresses a block of `raw_len` bytes.
///
/// # Errors
/// [`Error::Damaged`] if `bytes` isn't exactly one frame that holds and declares `raw_len` bytes, or if
/// that is more than [`BLOCK_BYTES_MAX`]; nothing is allocated then but for broken content.
pub fn decompress(bytes: &[u8], raw_len: usize) -> Result<Vec<u8>, Error> {
    // Anybody may say that a block is long: that much room is taken once its frame says so too.
    let mut raw = BLOCKS.take(0);
    decompress_into(bytes, raw_len, &mut raw)?;
    Ok(raw)
}

/// Decompresses a block into a buffer that this thread keeps, and lends it to `read`.
///
/// # Errors
/// Those of [`decompress`].
pub fn decompress_and<T>(bytes: &[u8], raw_len: usize, read: impl FnOnce(&[u8]) -> T) -> Result<T, Error> {
    // Taken, not borrowed: `read` may come here again.
    let mut scratch = SCRATCH.take();
    let read = decompress_into(bytes, raw_len, &mut scratch).map(|()| read(&scratch));
    SCRATCH.set(scratch);
    read
}

/// Replaces what is in `raw` by the content of `bytes`.
fn decompress_into(bytes: &[u8], raw_len: usize, raw: &mut Vec<u8>) -> Result<(), Error> {
    let declared = zstd_safe::get_frame_content_size(bytes).ok().flatten();
    let one_frame = zstd_safe::find_frame_compressed_size(bytes) == Ok(bytes.len());
    if !window_fits(bytes) || !one_frame || declared != u64::try_from(raw_len).ok() {
        return Err(Error::Damaged("a compressed block isn't one frame of the declared length"));
    }
    if raw_len > BLOCK_BYTES_MAX {
        return Err(Error::Damaged("a block is too long"));
    }
    let mut decompressor = match DECOMPRESSOR.take() {
        Some(decompressor) => decompressor,
        None => Decompressor::new().map_err(|_| Error::Damaged("zstd found no memory"))?,
    };
    // In one call zstd writes straight into the buffer, so a frame's window costs no memory, whatever
    // the frame says of it. `clear` and `reserve_exact`: nothing is zeroed first, nothing copied.
    raw.clear();
    raw.reserve_exact(raw_len);
    let length = decompressor.decompress_to_buffer(bytes, raw);
    DECOMPRESSOR.set(Some(decompressor));
    match length {
        Ok(length) if length == raw_len => Ok(()),
        _ => Err(Error::Damaged("a compressed block can't be decompressed")),
    }
}

/// Whether these bytes begin as a frame whose window is at most 8 MiB.
///
/// Source: RFC 8878 §3.1.1.1: a descriptor, then the window's size as exponent (5 bits, from 2^10) and
/// eighths (3 bits), unless the descriptor's bit 5 says that the window is as long as the content.
fn window_fits(bytes: &[u8]) -> bool {
    match bytes.strip_prefix(&MAGIC) {
        Some([descriptor, window, ..]) => descriptor & 0x20 != 0 || *window <= (23 - 10) << 3,
        _ => false,
    }
}

/// Whether a block is likely to shrink enough, for a tenth of the price of trying.
///
/// Content that doesn't is encrypted or compressed already: all bytes are about equally frequent
/// in it, and nothing comes twice. The first is counted in samples. Alone it would miss repeats of
/// incompressible content, so the second is looked for as well.
fn may_shrink(raw: &[u8]) -> bool {
    raw.len() < PROBE_BYTES_MIN || is_uneven(raw) || has_repeats(raw)
}

/// Whether some bytes are clearly more frequent than others.
fn is_uneven(raw: &[u8]) -> bool {
    let mut counts = [0_u64; 256];
    for place in places(raw.len(), PROBE_PLACE_BYTES) {
        for &byte in &raw[place..place + PROBE_PLACE_BYTES] {
            counts[usize::from(byte)] += 1;
        }
    }
    // Of n even bytes, pairs of equal ones make up n^2 / 256 + n, give or take 0.09 n. A 16th more is
    // what 2 % of zeros in random bytes, or an entropy of 7.9 bits at most, bring about.
    let sampled = 16_384_u64;
    let equal_pairs: u64 = counts.iter().map(|count| count * count).sum();
    equal_pairs > sampled * sampled / 256 * 17 / 16 + sampled
}

/// Whether some of the content comes twice, at any distance.
///
/// Words of 8 bytes are remembered at every multiple of a stride. Looked up are all words of stretches
/// as long as the stride: if a stretch is a copy, one of its words was remembered where it came from.
fn has_repeats(raw: &[u8]) -> bool {
    let stride = (raw.len() >> PROBE_WORDS_BITS).next_power_of_two().max(64);
    let word_at = |at: usize| raw[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    // Source of the factor: 2^64 divided by the golden ratio, Knuth, TAOCP 3, §6.4.
    let slot = |word: u64| word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PROBE_WORDS_BITS);
    let slot = |word: u64| usize::try_from(slot(word)).unwrap_or(0);
    let mut remembered = vec![0_u32; 1 << PROBE_WORDS_BITS];
    let mut number = 0_u32;
    for word in raw.chunks_exact(stride).filter_map(|row| row.first_chunk()) {
        number += 1;
        remembered[slot(u64::from_le_bytes(*word))] = number;
    }
    places(raw.len(), stride + 7).any(|place| {
        (place..place + stride).any(|at| {
            let word = word_at(at);
            let row = usize::try_from(remembered[slot(word)]).unwrap_or(0);
            row > 0 && (row - 1) * stride != at && word_at((row - 1) * stride) == word
        })
    })
}

/// Where a probe looks: one place of `bytes` bytes in each 64th of a block, spread evenly over the points
/// of it, so that what comes at regular distances is neither all that is seen nor never seen.
fn places(length: usize, bytes: usize) -> impl Iterator<Item = usize> {
    let span = length / PROBE_PLACES;
    let room = u64::try_from(span.saturating_sub(bytes) + 1).unwrap_or(1);
    (0_u32..).zip(0..PROBE_PLACES).map(move |(number, place)| {
        // Multiples of the golden ratio, less their whole part, in 32 bits: none falls near another.
        let within = (u64::from(number.wrapping_mul(0x9e37_79b9)) * room) >> 32;
        place * span + usize::try_from(within).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn text(length: usize) -> Vec<u8> {
        (0..)
            .flat_map(|line| format!("{line};customer {};paid\r\n", line * line % 977).into_bytes())
            .take(length)
            .collect()
    }

    #[test]
    fn what_is_compressed_decompresses_to_the_same_at_every_level() {
        for raw in [text(1 << 20), text(500), vec![0; 8 << 20], noise(1, 1000).repeat(90)] {
            for level in [LEVEL_MIN, -1, 1, 3, 9, LEVEL_MAX, i32::MIN, i32::MAX] {
                let compressed = compress(level, &raw).expect("it shrinks");
                assert!(compressed.len() <= raw.len() - raw.len() / 32);
                assert_eq!(decompress(&compressed, raw.len()).unwrap(), raw);
                assert_eq!(decompress_and(&compressed, raw.len(), <[u8]>::to_vec).unwrap(), raw);
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored() {
        for length in [0, 1, 100, 5_000, 70_000, 1 << 20, 8 << 20] {
            assert_eq!(compress(LEVEL_DEFAULT, &noise(2, length)), None, "{length}");
        }
        assert_eq!(compress(LEVEL_STORE, &text(1 << 20)), None);
        assert_eq!(compress(LEVEL_DEFAULT, &vec![0; BLOCK_BYTES_MAX + 1]), None);
    }

    #[test]
    fn random_content_is_recognised_without_trying() {
        for seed in 0..50 {
            for length in [64 << 10, 100_001, 1 << 20, (3 << 20) + 1] {
                assert!(!may_shrink(&noise(seed, length)), "seed {seed}, {length} bytes");
            }
        }
    }

    #[test]
    fn zeros_in_random_content_are_found() {
        for (seed, run) in (0..).zip([512, 4_096, 60_000]) {
            for length in [80_000_usize, 1 << 20, 5 << 20] {
                let mut raw = noise(seed, length);
                // A tenth of zeros.
                for start in (run..length.saturating_sub(run)).step_by(run * 10) {
                    raw[start..start + run].fill(0);
                }
                assert!(run * 10 > length || may_shrink(&raw), "runs of {run} in {length} bytes");
            }
        }
    }

    #[test]
    fn repeats_of_random_content_are_found_at_any_distance() {
        for length in [100_000_usize, 1 << 20, 8 << 20] {
            for distance in [1_001, 4_096, 50_021] {
                let raw: Vec<u8> = noise(3, distance).into_iter().cycle().take(length).collect();
                assert!(may_shrink(&raw), "{length} bytes, each as {distance} before");
            }
            let mut raw = noise(4, length);
            raw.copy_within(..length / 5, length / 2 + 13);
            assert!(may_shrink(&raw), "a fifth of {length} bytes is there twice");
        }
    }

    #[test]
    fn anything_but_one_whole_frame_of_the_declared_length_is_damage() {
        let raw = text(5_000);
        let good = compress(3, &raw).unwrap();
        let damaged =
            |bytes: &[u8], length: usize| matches!(decompress(bytes, length), Err(Error::Damaged(_)));
        assert!(damaged(&good, raw.len() - 1));
        assert!(damaged(&good, raw.len() + 1));
        assert!(damaged(&good, usize::MAX));
        assert!(damaged(&good[..good.len() - 1], raw.len()));
        assert!(damaged(&[], 0));
        let twice = [&good[..], &good[..]].concat();
        assert!(damaged(&twice, raw.len()));
        assert!(damaged(&twice, raw.len() * 2));
        assert!(damaged(&[&good[..], &[0]].concat(), raw.len()));
        // A skippable frame, RFC 8878 §3.1.2, before the one that counts.
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9][..], &good].concat();
        assert!(damaged(&skipped, raw.len()));
        let huge = compress(1, &vec![0; BLOCK_BYTES_MAX]).unwrap();
        assert!(damaged(&huge, BLOCK_BYTES_MAX + 1));
    }

    #[test]
    fn a_frame_that_does_not_declare_its_length_is_damage() {
        let raw = text(5_000);
        let mut compressor = Compressor::new(3).unwrap();
        compressor.set_parameter(zstd_safe::CParameter::ContentSizeFlag(false)).unwrap();
        assert!(decompress(&compressor.compress(&raw).unwrap(), raw.len()).is_err());
    }

    #[test]
    fn no_flipped_byte_makes_a_block_longer_or_shorter_or_a_panic() {
        let raw = text(3_000);
        let good = compress(3, &raw).unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x41;
            if let Ok(other) = decompress(&bytes, raw.len()) {
                assert_eq!(other.len(), raw.len());
            }
        }
    }
}

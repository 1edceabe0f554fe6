//! Crockford's base32 as people write it down: in groups, and read forgivingly.
//!
//! Source: <https://www.crockford.com/base32.html>, without its own check symbol.

/// No I, L, O or U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// How many digits stand together.
pub(crate) const GROUP: usize = 6;

/// How long the text of so many digits is.
pub(crate) const fn text_length(digits: usize) -> usize {
    digits + digits.div_ceil(GROUP).saturating_sub(1)
}

/// Appends digits, each under 32, as groups with a dash between.
pub(crate) fn append(digits: &[u8], text: &mut String) {
    for (at, digit) in digits.iter().enumerate() {
        if at > 0 && at % GROUP == 0 {
            text.push('-');
        }
        text.push(char::from(ALPHABET[usize::from(*digit)]));
    }
}

/// Reads digits as people type them: any case, O for 0, I and L for 1, blanks, line ends and dashes of
/// any kind anywhere. Tells how many there were; those that `digits` has no room for are only counted.
///
/// # Errors
/// The first character that is neither a digit nor between groups.
pub(crate) fn read(text: &str, digits: &mut [u8]) -> Result<usize, char> {
    let mut count = 0;
    for character in text.chars().filter(|character| !is_between_groups(*character)) {
        let canonical = match character.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let digit = (0..).zip(ALPHABET).find(|(_, letter)| char::from(**letter) == canonical);
        let (digit, _) = digit.ok_or(character)?;
        if let Some(place) = digits.get_mut(count) {
            *place = digit;
        }
        count += 1;
    }
    Ok(count)
}

/// Whether a character may stand between those of a code. Word processors make dashes longer.
pub(crate) fn is_between_groups(character: char) -> bool {
    character.is_whitespace() || matches!(character, '-' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// Eight digits for each five bytes, the most significant bits first.
pub(crate) fn to_digits(bytes: &[u8], digits: &mut [u8]) {
    for (bytes, digits) in bytes.chunks_exact(5).zip(digits.chunks_exact_mut(8)) {
        let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for (at, digit) in (0..8).rev().zip(digits) {
            *digit = u8::try_from(bits >> (5 * at) & 31).expect("5 bits fit");
        }
    }
}

/// Five bytes for each eight digits: the way back from [`to_digits`].
pub(crate) fn to_bytes(digits: &[u8], bytes: &mut [u8]) {
    for (bytes, digits) in bytes.chunks_exact_mut(5).zip(digits.chunks_exact(8)) {
        let bits = digits.iter().fold(0_u64, |bits, digit| bits << 5 | u64::from(*digit));
        bytes.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
}

//! Bech32, the spelling of age's keys: a prefix, `1`, base32 and six characters that check it all.
//!
//! Source: BIP-173, without its limit of 90 characters, which age's long recipients don't keep to either.

use std::sync::LazyLock;

use data_encoding::Encoding;
use data_encoding::Specification;
use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const CHECK_CHARACTERS: usize = 6;
/// What each of the five bits that leave the checksum's register adds to it.
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.extend(ALPHABET.map(char::from));
    specification.encoding().expect("the alphabet has 32 different characters")
});

/// `bytes` in lower case, or in capitals if `prefix` is.
pub(crate) fn encode(prefix: &str, bytes: &[u8]) -> Zeroizing<String> {
    let body_length = BASE32.encode_len(bytes.len());
    // With its whole room from the start, so that nothing secret is left behind when it grows.
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 1 + body_length + CHECK_CHARACTERS));
    text.push_str(prefix);
    text.push('1');
    BASE32.encode_append(bytes, &mut text);
    let digits = text.bytes().skip(prefix.len() + 1).map(|letter| digit(letter).expect("just encoded"));
    let check = checksum(prefix, digits.chain([0; CHECK_CHARACTERS])) ^ 1;
    for place in (0..CHECK_CHARACTERS).rev() {
        let digit = usize::try_from(check >> (5 * place) & 31).expect("5 bits fit");
        text.push(char::from(ALPHABET[digit]));
    }
    if is_capital(prefix) {
        text.make_ascii_uppercase();
    }
    text
}

/// The bytes of a text that begins with `prefix` and `1`, in the case of the prefix; nothing if it is
/// another, in another case, of the wrong length, or fails its check.
pub(crate) fn decode(prefix: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let data = text.strip_prefix(prefix)?.strip_prefix('1')?;
    let wrong_case = if is_capital(prefix) { u8::is_ascii_lowercase } else { u8::is_ascii_uppercase };
    if data.bytes().any(|letter| wrong_case(&letter)) {
        return None;
    }
    let data = Zeroizing::new(data.to_ascii_lowercase());
    // With room for all of it from the start: what grows leaves copies behind.
    let mut digits = Zeroizing::new(Vec::with_capacity(data.len()));
    for letter in data.bytes() {
        digits.push(digit(letter)?);
    }
    let body_length = digits.len().checked_sub(CHECK_CHARACTERS)?;
    if checksum(prefix, digits.iter().copied()) != 1 {
        return None;
    }
    BASE32.decode(&data.as_bytes()[..body_length]).ok().map(Zeroizing::new)
}

fn is_capital(prefix: &str) -> bool {
    prefix.bytes().any(|letter| letter.is_ascii_uppercase())
}

fn digit(letter: u8) -> Option<u8> {
    (0..).zip(ALPHABET).find(|(_, each)| **each == letter).map(|(digit, _)| digit)
}

/// What is left of the prefix in lower case, and `digits`, when divided by the generator.
fn checksum(prefix: &str, digits: impl Iterator<Item = u8>) -> u32 {
    let prefix = prefix.as_bytes();
    let high = prefix.iter().map(|letter| letter.to_ascii_lowercase() >> 5);
    let low = prefix.iter().map(|letter| letter.to_ascii_lowercase() & 31);
    high.chain([0]).chain(low).chain(digits).fold(1, |register: u32, digit| {
        let leaving = register >> 25;
        let register = (register & 0x1ff_ffff) << 5 ^ u32::from(digit);
        let fed_back = (0..).zip(GENERATOR).filter(|(bit, _)| leaving >> bit & 1 == 1);
        fed_back.fold(register, |register, (_, added)| register ^ added)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits at the last `1`, as BIP-173 does when it doesn't know the prefix.
    fn decode_any(text: &str) -> Option<Zeroizing<Vec<u8>>> {
        decode(text.rsplit_once('1')?.0, text)
    }

    /// Source: BIP-173's valid vectors whose data are whole bytes.
    #[test]
    fn published_texts_are_read_and_written_the_same() {
        for (text, bytes) in [
            ("A12UEL5L", Some(0)),
            ("a12uel5l", Some(0)),
            (
                "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
                Some(0),
            ),
            ("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", Some(20)),
            (
                "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
                Some(51),
            ),
            ("split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w", Some(30)),
            ("?1ezyfcl", Some(0)),
        ] {
            let decoded = decode_any(text);
            assert_eq!(decoded.as_ref().map(|bytes| bytes.len()), bytes, "{text}");
            let (prefix, _) = text.rsplit_once('1').unwrap();
            assert_eq!(*encode(prefix, &decoded.unwrap()), text);
        }
    }

    /// Source: BIP-173's invalid vectors, and slips of the same texts.
    #[test]
    fn published_mistakes_are_refused() {
        for text in [
            "x1b4n0q5v",
            "li1dgmt3",
            "A1G7SGD8",
            "split1checkupstagehandshakeupstreamerranterredcaperred2y9e2w",
            "split1cheo2y9e2w",
            "A12uEL5L",
            "a12UEL5L",
            "A12uel5l",
            "1",
            "a1",
            "",
        ] {
            assert!(decode_any(text).is_none(), "{text}");
        }
        assert!(decode("abcdef", "abcdeg1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw").is_none());
    }

    #[test]
    fn every_wrong_character_is_noticed_and_no_length_is_too_long() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_216).collect();
        let text = encode("long", &bytes);
        assert_eq!(decode("long", &text).as_deref(), Some(&bytes));
        for at in 0..text.len() {
            let mut typed = text.as_bytes().to_vec();
            typed[at] = if typed[at] == b'q' { b'p' } else { b'q' };
            assert!(decode("long", std::str::from_utf8(&typed).unwrap()).is_none(), "character {at}");
        }
    }

    #[test]
    fn bits_that_no_byte_has_are_refused_though_their_check_is_right() {
        // Two digits hold a byte and two bits more, which must be zero; one digit holds none.
        for digits in [&[0, 1][..], &[0]] {
            let check = checksum("a", digits.iter().copied().chain([0; CHECK_CHARACTERS])) ^ 1;
            let check = (0..6).rev().map(|place| u8::try_from(check >> (5 * place) & 31).unwrap());
            let digits = digits.iter().copied().chain(check);
            let data: String = digits.map(|digit| char::from(ALPHABET[usize::from(digit)])).collect();
            assert!(decode("a", &format!("a1{data}")).is_none());
        }
    }
}

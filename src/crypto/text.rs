//! Secrets and fingerprints as text that people keep, type and compare.
//!
//! Every form carries a check, so that a slip of the pen is told from a wrong key.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use data_encoding::DecodeKind;
use sha2::Digest as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::crypto::crockford;
use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::id::Fingerprint;
use crate::id::VaultId;

/// 2,048 words, 11 bits each, in alphabetical order, told apart by their first four letters.
///
/// Source: the English list of BIP-39, as the crate `bip39` 3.0.0 (CC0-1.0) has it.
const WORDS: &str = include_str!("words.txt");
/// How many letters tell a word of [`WORDS`] from all others.
const WORD_LETTERS: usize = 4;
/// 128 bits and 4 to check them.
pub const FINGERPRINT_WORDS: usize = 12;
/// A fingerprint in base32; its last character holds one bit of it.
const FINGERPRINT_CHARACTERS: usize = 52;
const KEY_FILE_KIND: &str = "strongroom-key-";
const KEY_FILE_PREFIX: &str = "strongroom-key-1:";
const KEY_FILE_CHECK: &[u8] = b"strongroom/key-file/1\0";
const CODE_CHECK: &[u8] = b"strongroom/recovery-code/1\0";
/// 160 bits in 32 characters, and 4 more to check them.
const CODE_CHARACTERS: usize = 36;
const CODE_SECRET_CHARACTERS: usize = 32;

/// Why text is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// It isn't a key file that strongroom made.
    NotKeyFile,
    /// It is a key file of a kind that this program doesn't know.
    KeyFileNewer,
    /// It is one, and a character of it is wrong.
    KeyFileCheck,
    /// A recovery code has 36 characters; this has so many.
    CodeLength(usize),
    /// A character that no recovery code has.
    CodeCharacter(char),
    /// A character of the code is wrong.
    CodeCheck,
    /// A page of text has no line that looks like a code.
    NoCode,
    /// It is no fingerprint: neither base32 nor hex.
    NotFingerprint,
    /// It has the length of a fingerprint and ends in a character that none ends in.
    FingerprintEnd,
    /// A fingerprint has 12 words; this has so many.
    WordCount(usize),
    /// This word, counted from 1, is not one of the 2,048.
    UnknownWord(usize),
    /// Each word is one of the 2,048, and one of them is wrong.
    WordsCheck,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKeyFile => write!(f, "it is not a key file that strongroom made"),
            Self::KeyFileNewer => write!(f, "it is a key file made by a newer strongroom"),
            Self::KeyFileCheck => write!(f, "it is a key file, and damaged: its check differs"),
            Self::CodeLength(length) => {
                write!(f, "a recovery code has {CODE_CHARACTERS} characters, and this has {length}")
            }
            Self::CodeCharacter(character) => {
                write!(f, "no recovery code has the character {}", character.escape_default())
            }
            Self::CodeCheck => write!(f, "a character of the recovery code is wrong: its check differs"),
            Self::NoCode => write!(f, "there is no recovery code in it"),
            Self::NotFingerprint => {
                write!(f, "a fingerprint is 52 characters of base32 or 64 hex digits")
            }
            Self::FingerprintEnd => {
                write!(f, "it has the length of a fingerprint, and no fingerprint ends in that character")
            }
            Self::WordCount(count) => {
                write!(f, "a fingerprint has {FINGERPRINT_WORDS} words, and this has {count}")
            }
            Self::UnknownWord(place) => write!(f, "word {place} is not one that fingerprints have"),
            Self::WordsCheck => write!(f, "a word is wrong, or two have changed places"),
        }
    }
}

impl std::error::Error for Error {}

/// A key file's one line, with its line feed.
///
/// `strongroom-key-1:`, then 56 characters of lower-case base32 (RFC 4648, no padding): the 32 bytes of
/// the secret and the first 3 of SHA-256 over `strongroom/key-file/1`, a zero byte and the secret.
#[must_use]
pub fn encode_key_file(secret: &Secret<32>) -> Zeroizing<String> {
    let bytes: Secret<35> =
        secret.expose(|secret| Secret::concat(&[secret, &check(KEY_FILE_CHECK, secret)[..3]]));
    // With its whole room from the start, so that the secret is not left behind when it grows.
    let mut line = Zeroizing::new(String::with_capacity(KEY_FILE_PREFIX.len() + 57));
    line.push_str(KEY_FILE_PREFIX);
    bytes.expose(|bytes| BASE32_NOPAD.encode_append(bytes, &mut line));
    line[KEY_FILE_PREFIX.len()..].make_ascii_lowercase();
    line.push('\n');
    line
}

/// Reads what [`encode_key_file`] wrote; its line may also end as Windows ends lines, or not at all.
///
/// # Errors
/// [`Error::NotKeyFile`] for anything else; [`Error::KeyFileNewer`]; [`Error::KeyFileCheck`] if what
/// follows the prefix is not what strongroom writes.
pub fn decode_key_file(text: &[u8]) -> Result<Secret<32>, Error> {
    let text = std::str::from_utf8(text).map_err(|_| Error::NotKeyFile)?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let Some(body) = line.strip_prefix(KEY_FILE_PREFIX) else {
        let kind = line.strip_prefix(KEY_FILE_KIND).and_then(|rest| rest.split_once(':'));
        let is_newer = kind.is_some_and(|(number, _)| number.parse::<u32>().is_ok_and(|number| number > 1));
        return Err(if is_newer { Error::KeyFileNewer } else { Error::NotKeyFile });
    };
    if body.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Error::KeyFileCheck);
    }
    let body = Zeroizing::new(body.to_ascii_uppercase());
    let bytes = BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| Error::KeyFileCheck)?;
    let bytes = Zeroizing::new(bytes);
    let (secret, said) = bytes.split_at_checked(32).ok_or(Error::KeyFileCheck)?;
    if check(KEY_FILE_CHECK, secret)[..3] != *said {
        return Err(Error::KeyFileCheck);
    }
    Secret::from_slice(secret).ok_or(Error::KeyFileCheck)
}

/// A recovery code as it is shown and written down: six groups of six characters.
///
/// 160 bits in 32 characters of Crockford's base32, and in 4 more the first 20 bits of SHA-256 over
/// `strongroom/recovery-code/1`, a zero byte and the code.
#[must_use]
pub fn encode_recovery_code(code: &Secret<20>) -> Zeroizing<String> {
    let mut digits = Zeroizing::new([0; CODE_CHARACTERS]);
    let (secret, check) = digits.split_at_mut(CODE_SECRET_CHARACTERS);
    code.expose(|code| crockford::to_digits(code, secret));
    check.copy_from_slice(&code.expose(|code| check_digits::<4>(CODE_CHECK, code)));
    let mut text = Zeroizing::new(String::with_capacity(crockford::text_length(digits.len())));
    crockford::append(&*digits, &mut text);
    text
}

/// Reads a recovery code as people type it: any case, O for 0, I and L for 1, blanks, line ends and
/// dashes of any kind anywhere.
///
/// # Errors
/// [`Error::CodeLength`], [`Error::CodeCharacter`] or [`Error::CodeCheck`].
pub fn decode_recovery_code(text: &str) -> Result<Secret<20>, Error> {
    let mut digits = Zeroizing::new([0; CODE_CHARACTERS]);
    let count = crockford::read(text, &mut *digits).map_err(Error::CodeCharacter)?;
    if count != CODE_CHARACTERS {
        return Err(Error::CodeLength(count));
    }
    let (secret, check) = digits.split_at(CODE_SECRET_CHARACTERS);
    let code = Secret::<20>::filled(|code| crockford::to_bytes(secret, code));
    if code.expose(|code| check_digits::<4>(CODE_CHECK, code)) != check {
        return Err(Error::CodeCheck);
    }
    Ok(code)
}

/// Finds the recovery code in a page of text: the one line that is a code, or else all of the text.
///
/// # Errors
/// [`Error::NoCode`] if nothing looks like one; else as [`decode_recovery_code`], for what does.
pub fn find_recovery_code(page: &str) -> Result<Secret<20>, Error> {
    if let Some(code) = page.lines().find_map(|line| decode_recovery_code(line).ok()) {
        return Ok(code);
    }
    // A code with a slip, or one broken into lines: say what is wrong with it, not with the page.
    let is_like = |text: &str| {
        let mut characters =
            text.chars().filter(|character| !crockford::is_between_groups(*character)).peekable();
        characters.peek().is_some() && characters.all(|character| character.is_ascii_alphanumeric())
    };
    let groups = |line: &&str| line.trim().split('-').count() == CODE_CHARACTERS / crockford::GROUP;
    let like =
        if is_like(page) { Some(page) } else { page.lines().filter(groups).find(|line| is_like(line)) };
    decode_recovery_code(like.ok_or(Error::NoCode)?)
}

/// A fingerprint's 52 characters of base32.
#[must_use]
pub fn fingerprint_base32(fingerprint: &Fingerprint) -> String {
    BASE32_NOPAD.encode(&fingerprint.0).to_ascii_lowercase()
}

/// The first 16 bytes of a fingerprint as 12 words: 128 bits, and 4 to check them, those that begin the
/// SHA-256 of the 16 bytes.
///
/// Source: BIP-39, whose English phrases of 12 words these are; they are names here, and no secret.
#[must_use]
pub fn fingerprint_words(fingerprint: &Fingerprint) -> String {
    let words: Vec<&str> = WORDS.lines().collect();
    let half = fingerprint.vault_id().0;
    let bits = u128::from_be_bytes(half);
    let word = |at: u32| {
        // Eleven bits from the front of the 132.
        let from = 11 * at;
        let value = if from + 11 <= 128 { bits >> (117 - from) } else { bits << 4 | words_check(&half) };
        words[usize::try_from(value & 2047).expect("11 bits fit")]
    };
    (0..12).map(word).collect::<Vec<_>>().join(" ")
}

/// Reads what [`fingerprint_words`] wrote, as people type it: any case, any blanks between, and of
/// each word at least the first four letters.
///
/// # Errors
/// [`Error::WordCount`], [`Error::UnknownWord`] or [`Error::WordsCheck`].
pub fn decode_fingerprint_words(text: &str) -> Result<VaultId, Error> {
    let typed: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let (last, before) = match typed.split_last() {
        Some(split) if typed.len() == FINGERPRINT_WORDS => split,
        _ => return Err(Error::WordCount(typed.len())),
    };
    let number = |place: usize, typed: &str| {
        let mut words = (0_u128..).zip(WORDS.lines());
        let found = words.find(|(_, word)| {
            *word == typed || (typed.chars().count() >= WORD_LETTERS && word.starts_with(typed))
        });
        found.map(|(number, _)| number).ok_or(Error::UnknownWord(place))
    };
    let mut bits = 0_u128;
    for (place, word) in (1..).zip(before) {
        bits = bits << 11 | number(place, word)?;
    }
    let last = number(FINGERPRINT_WORDS, last)?;
    let half = (bits << 7 | last >> 4).to_be_bytes();
    if words_check(&half) != last & 15 {
        return Err(Error::WordsCheck);
    }
    Ok(VaultId(half))
}

/// The 4 bits that stand after the 128.
fn words_check(half: &[u8; 16]) -> u128 {
    u128::from(Sha256::digest(half)[0] >> 4)
}

/// Reads a whole fingerprint: base32 or hex.
///
/// # Errors
/// [`Error::NotFingerprint`]; [`Error::FingerprintEnd`]. The 12 words are for comparing: they hold only half of it.
pub fn decode_fingerprint(text: &str) -> Result<Fingerprint, Error> {
    let text: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    if let Some(fingerprint) = Fingerprint::from_hex(&text.to_ascii_lowercase()) {
        return Ok(fingerprint);
    }
    let bytes =
        BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|error| match error.kind {
            DecodeKind::Trailing if text.len() == FINGERPRINT_CHARACTERS => Error::FingerprintEnd,
            _ => Error::NotFingerprint,
        })?;
    Ok(Fingerprint(bytes.try_into().map_err(|_| Error::NotFingerprint)?))
}

/// A passphrase of `count` words, each drawn from 2,048: 11 bits a word.
#[must_use]
pub fn generate_passphrase(count: usize) -> Zeroizing<String> {
    let words: Vec<&str> = WORDS.lines().collect();
    let longest = words.iter().map(|word| word.len()).max().unwrap_or(0);
    let mut passphrase = Zeroizing::new(String::with_capacity(count * (longest + 1)));
    for at in 0..count {
        if at > 0 {
            passphrase.push(' ');
        }
        // 2,048 divides 65,536, so no word is likelier than another.
        let draw = usize::from(u16::from_le_bytes(random::bytes()) % 2048);
        passphrase.push_str(words[draw]);
    }
    passphrase
}

/// SHA-256 over `label`, which ends in a zero byte, and `secret`.
fn check(label: &[u8], secret: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(label).chain_update(secret).finalize().into()
}

/// The first `N` digits of base32 of that [`check`]; eight at most.
pub(crate) fn check_digits<const N: usize>(label: &[u8], secret: &[u8]) -> [u8; N] {
    let mut digits = [0; 8];
    crockford::to_digits(&check(label, secret)[..5], &mut digits);
    *digits.first_chunk().expect("nobody asks for more than eight digits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbered<const N: usize>(from: u8) -> Secret<N> {
        Secret::filled(|bytes| bytes.iter_mut().zip(from..).for_each(|(byte, number)| *byte = number))
    }

    #[test]
    fn the_text_forms_never_change() {
        assert_eq!(
            *encode_key_file(&numbered(0)),
            "strongroom-key-1:aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyprk4yq\n"
        );
        assert_eq!(*encode_recovery_code(&numbered(0x20)), "40GJ48-S44MK2-EA1958-NJRB9E-5WR32C-HKRNH0");
    }

    #[test]
    fn a_key_file_with_one_wrong_character_is_damaged() {
        let line = encode_key_file(&numbered(0));
        for at in KEY_FILE_PREFIX.len()..line.trim_end().len() {
            for wrong in *b"a7A1" {
                let mut bytes = line.as_bytes().to_vec();
                if bytes[at] != wrong {
                    bytes[at] = wrong;
                    assert_eq!(decode_key_file(&bytes).err(), Some(Error::KeyFileCheck), "character {at}");
                }
            }
        }
    }

    #[test]
    fn what_strongroom_did_not_write_is_no_key_file() {
        let line = encode_key_file(&numbered(0));
        let line = line.trim_end();
        assert!(decode_key_file(format!("{line}\r\n").as_bytes()).is_ok());
        assert!(decode_key_file(line.as_bytes()).is_ok());
        for (text, error) in [
            (String::new(), Error::NotKeyFile),
            ("hello".to_owned(), Error::NotKeyFile),
            (format!(" {line}"), Error::NotKeyFile),
            (line.to_ascii_uppercase(), Error::NotKeyFile),
            (line.replace("key-1", "key-0"), Error::NotKeyFile),
            (line.replace("key-1", "key-2"), Error::KeyFileNewer),
            (format!("{line}\n\n"), Error::KeyFileCheck),
            (format!("{line} "), Error::KeyFileCheck),
            (format!("{line}{line}"), Error::KeyFileCheck),
            (line[..line.len() - 8].to_owned(), Error::KeyFileCheck),
            (KEY_FILE_PREFIX.to_owned(), Error::KeyFileCheck),
        ] {
            assert_eq!(decode_key_file(text.as_bytes()).err(), Some(error), "{text:?}");
        }
        assert_eq!(decode_key_file(b"\xff\xfe").err(), Some(Error::NotKeyFile));
    }

    #[test]
    fn a_recovery_code_is_read_as_people_type_it() {
        let text = encode_recovery_code(&numbered(0x20));
        for typed in [
            text.to_string(),
            text.to_lowercase(),
            text.replace('-', ""),
            text.replace('-', " "),
            text.replace('-', "\n"),
            text.replace('-', " \u{2013} "),
            text.replace('0', "o").replace('1', "l"),
            text.replace('0', "O").replace('1', "i"),
            format!("  {}\n", *text),
        ] {
            let read = decode_recovery_code(&typed).map(|read| *encode_recovery_code(&read) == *text);
            assert_eq!(read, Ok(true), "{typed:?}");
        }
    }

    #[test]
    fn a_slip_in_a_recovery_code_is_noticed_and_named() {
        let text = encode_recovery_code(&numbered(0x20));
        assert_eq!(decode_recovery_code(&text[1..]).err(), Some(Error::CodeLength(35)));
        assert_eq!(decode_recovery_code(&format!("{}0", *text)).err(), Some(Error::CodeLength(37)));
        assert_eq!(decode_recovery_code(&text.repeat(9)).err(), Some(Error::CodeLength(324)));
        assert_eq!(decode_recovery_code("").err(), Some(Error::CodeLength(0)));
        assert_eq!(decode_recovery_code(&text.replace('-', "!")).err(), Some(Error::CodeCharacter('!')));
        assert_eq!(decode_recovery_code(&text.replace('4', "U")).err(), Some(Error::CodeCharacter('U')));
        for at in (0..text.len()).filter(|at| text.as_bytes()[*at] != b'-') {
            for wrong in
                b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".iter().filter(|wrong| **wrong != text.as_bytes()[at])
            {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = *wrong;
                let typed = String::from_utf8(bytes).unwrap();
                assert_eq!(decode_recovery_code(&typed).err(), Some(Error::CodeCheck), "{typed}");
            }
        }
    }

    #[test]
    fn a_recovery_code_is_found_in_a_page_of_words() {
        let text = encode_recovery_code(&numbered(0x20));
        let page = |line: &str| {
            format!(
                "Recovery code\n\nOpens the vault in /srv/backup-of-the-small-office.\n\n    {line}\n\nthe end\n"
            )
        };
        assert!(find_recovery_code(&page(&text)).is_ok());
        assert!(find_recovery_code(&text).is_ok());
        assert!(find_recovery_code(&text.replace('-', "\n")).is_ok());
        let slip = text.replace("S44MK2", "S44MK3");
        assert_eq!(find_recovery_code(&page(&slip)).err(), Some(Error::CodeCheck));
        assert_eq!(find_recovery_code(&slip).err(), Some(Error::CodeCheck));
        assert_eq!(find_recovery_code(&page("gone")).err(), Some(Error::NoCode));
        assert_eq!(find_recovery_code("\n \n").err(), Some(Error::NoCode));
    }

    /// Source: the test vectors of BIP-39.
    #[test]
    fn the_words_of_a_fingerprint_are_those_of_bip_39() {
        let last = "zoo ".repeat(11) + "wrong";
        for (byte, words) in [
            (0x00, "abandon ".repeat(11) + "about"),
            (0x7f, "legal winner thank year wave sausage worth useful legal winner thank yellow".to_owned()),
            (
                0x80,
                "letter advice cage absurd amount doctor acoustic avoid letter advice cage above".to_owned(),
            ),
            (0xff, last),
        ] {
            assert_eq!(fingerprint_words(&Fingerprint([byte; 32])), words);
            assert_eq!(decode_fingerprint_words(&words), Ok(VaultId([byte; 16])));
        }
    }

    #[test]
    fn words_are_known_by_their_first_letters_and_slips_are_named() {
        let id = Ok(VaultId([0x80; 16]));
        assert_eq!(
            decode_fingerprint_words("LETT advi cage\nabsu amou doct acou avoi lett advi cage abov"),
            id
        );
        let refused = |text: &str| decode_fingerprint_words(text).err();
        let words = "letter advice cage absurd amount doctor acoustic avoid letter advice cage above";
        assert_eq!(refused(""), Some(Error::WordCount(0)));
        assert_eq!(refused(&words[7..]), Some(Error::WordCount(11)));
        assert_eq!(refused(&words.replace("amount", "amounts")), Some(Error::UnknownWord(5)));
        assert_eq!(refused(&words.replace("above", "abo")), Some(Error::UnknownWord(12)));
        assert_eq!(refused(&words.replace("amount", "zoo")), Some(Error::WordsCheck));
    }

    #[test]
    fn a_fingerprint_is_read_in_base32_and_in_hex_and_in_nothing_else() {
        let fingerprint = Fingerprint([0x3c; 32]);
        let text = fingerprint_base32(&fingerprint);
        assert_eq!(text.len(), 52);
        assert_eq!(decode_fingerprint(&text), Ok(fingerprint));
        assert_eq!(decode_fingerprint(&format!(" {}\n", text.to_uppercase())), Ok(fingerprint));
        assert_eq!(decode_fingerprint(&fingerprint.to_string()), Ok(fingerprint));
        for refused in ["", "3c", &text[1..], &format!("{text}a"), &fingerprint_words(&fingerprint)] {
            assert_eq!(decode_fingerprint(refused), Err(Error::NotFingerprint), "{refused:?}");
        }
        assert_eq!(decode_fingerprint(&format!("{}b", &text[..51])), Err(Error::FingerprintEnd));
    }

    #[test]
    fn the_word_list_is_sorted_and_four_letters_tell_its_2048_words_apart() {
        let words: Vec<&str> = WORDS.lines().collect();
        assert_eq!(words.len(), 2048);
        assert!(words.is_sorted());
        let letters = |word: &str| word.chars().take(WORD_LETTERS).collect::<String>();
        assert!(words.windows(2).all(|pair| letters(pair[0]) != letters(pair[1])));
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
    }

    #[test]
    fn a_generated_passphrase_has_as_many_words_as_asked_for_and_no_two_are_the_same() {
        let passphrase = generate_passphrase(10);
        assert!(passphrase.split(' ').all(|word| WORDS.lines().any(|each| each == word)));
        assert_eq!(passphrase.split(' ').count(), 10);
        assert_ne!(*passphrase, *generate_passphrase(10));
    }

    proptest! {
        #[test]
        fn every_secret_reads_back(key: [u8; 32], code: [u8; 20]) {
            let read = decode_key_file(encode_key_file(&Secret::from_slice(&key).unwrap()).as_bytes());
            prop_assert!(read.is_ok_and(|read| read.expose(|read| *read == key)));
            let read = decode_recovery_code(&encode_recovery_code(&Secret::from_slice(&code).unwrap()));
            prop_assert!(read.is_ok_and(|read| read.expose(|read| *read == code)));
            let fingerprint = Fingerprint(key);
            prop_assert_eq!(decode_fingerprint(&fingerprint_base32(&fingerprint)), Ok(fingerprint));
            prop_assert_eq!(decode_fingerprint_words(&fingerprint_words(&fingerprint)), Ok(fingerprint.vault_id()));
        }

        #[test]
        fn no_text_is_read_as_anything_by_accident(text in "\\PC*") {
            prop_assert!(decode_key_file(text.as_bytes()).is_err());
            prop_assert!(find_recovery_code(&text).is_err());
            prop_assert!(decode_fingerprint_words(&text).is_err());
        }
    }
}

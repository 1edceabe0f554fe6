//! Small files that age encrypted with a passphrase: how people keep their identity files.
//!
//! They are only read. Others that age makes, encrypted to somebody's key, are told apart and refused.
//!
//! Source: <https://age-encryption.org/v1> (C2SP, `age.md`): the header, the recipient type `scrypt`, the
//! payload and the ASCII armor.

use std::fmt;

use data_encoding::BASE64;
use data_encoding::BASE64_NOPAD;
use hkdf::Hkdf;
use hkdf::hmac::Hmac;
use hkdf::hmac::KeyInit;
use hkdf::hmac::Mac;
use sha2::Sha256;

use crate::crypto::aead;
use crate::crypto::aead::NONCE_BYTES;
use crate::crypto::aead::Nonce;
use crate::crypto::aead::TAG_BYTES;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;

/// The longest file that is taken, in bytes. Its payload has less than 64 KiB, so it is one segment.
pub const FILE_BYTES_MAX: usize = 64 << 10;

/// The most that a guess at the passphrase may cost, as a power of two: 1 GiB and some seconds.
///
/// age writes 18. What asks for more would keep this machine busy at its author's pleasure.
pub const WORK_FACTOR_MAX: u8 = 20;

const VERSION: &[u8] = b"age-encryption.org/v1";
/// How every version of the header begins.
const ANY_VERSION: &[u8] = b"age-encryption.org/";
const ARMOR_BEGIN: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const ARMOR_END: &[u8] = b"-----END AGE ENCRYPTED FILE-----";
/// Characters of every line of armor but the last.
const ARMOR_LINE: usize = 64;

const SALT_BYTES: usize = 16;
const FILE_KEY_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
const PAYLOAD_SALT_BYTES: usize = 16;
/// Stands before the salt, so that no other program's scrypt gives the same key.
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
/// scrypt's block size and its parallelism.
const BLOCK_SIZE: u32 = 8;
const PARALLELISM: u32 = 1;
/// The nonce of the first segment that is also the last: its number in 11 bytes, and 1.
const ONLY_SEGMENT: [u8; NONCE_BYTES] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Why a file doesn't open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// It isn't written as age writes what it encrypts with a passphrase.
    Format,
    /// It is of a later version of age's format.
    Newer,
    /// It is longer than [`FILE_BYTES_MAX`].
    TooLong,
    /// It is encrypted to somebody's key, not with a passphrase.
    Recipients,
    /// A guess at its passphrase costs more than [`WORK_FACTOR_MAX`]; no memory was asked for.
    TooExpensive,
    /// The system doesn't give the memory that scrypt takes, in MiB.
    Memory(usize),
    /// The passphrase is another one, or the header's part for it is damaged: none tells which.
    WrongPassphrase,
    /// The passphrase is right, and the rest of the header or the payload isn't what was written.
    Damaged,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => write!(f, "it is not a file as age encrypts it with a passphrase"),
            Self::Newer => write!(f, "it is encrypted in a later version of age's format"),
            Self::TooLong => write!(f, "it has over {FILE_BYTES_MAX} bytes"),
            Self::Recipients => write!(f, "it is encrypted to somebody's key, not with a passphrase"),
            Self::TooExpensive => write!(
                f,
                "to try a passphrase on it would take more than 2^{WORK_FACTOR_MAX} steps of scrypt, the most allowed"
            ),
            Self::Memory(mib) => {
                write!(f, "the {mib} MiB of memory that trying a passphrase takes can't be had")
            }
            Self::WrongPassphrase => write!(f, "the passphrase does not open it"),
            Self::Damaged => write!(f, "it is damaged"),
        }
    }
}

impl std::error::Error for Error {}

/// Whether a file begins as those that age encrypted, armored or not, whether for a passphrase or not.
#[must_use]
pub fn is_encrypted(file: &[u8]) -> bool {
    file.starts_with(ANY_VERSION) || is_armored(file)
}

fn is_armored(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(ARMOR_BEGIN)
}

/// A file that age encrypted with a passphrase, its header read and nothing of it checked yet.
pub struct EncryptedFile {
    salt: [u8; SALT_BYTES],
    work_factor: u8,
    /// The file key under the passphrase's.
    wrapped: [u8; FILE_KEY_BYTES + TAG_BYTES],
    /// What the MAC is of: the header up to the `---` before it.
    header: Vec<u8>,
    mac: [u8; MAC_BYTES],
    payload: Vec<u8>,
}

impl EncryptedFile {
    /// Reads a file, armored or not, so far as it goes without the passphrase.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::Newer`], [`Error::TooLong`], [`Error::Recipients`] or [`Error::TooExpensive`].
    pub fn decode(file: &[u8]) -> Result<Self, Error> {
        if file.len() > FILE_BYTES_MAX {
            return Err(Error::TooLong);
        }
        if is_armored(file) { Self::decode_binary(&dearmor(file)?) } else { Self::decode_binary(file) }
    }

    /// The header has four lines: the version, the stanza's arguments and its body, the MAC. A stanza for
    /// a passphrase is the only one, or what it protects could come from whoever wrote another.
    fn decode_binary(file: &[u8]) -> Result<Self, Error> {
        let (version, rest) = split_line(file)?;
        if version != VERSION {
            return Err(if is_other_version(version) { Error::Newer } else { Error::Format });
        }
        let (arguments, rest) = split_line(rest)?;
        let (salt, work_factor) = decode_stanza(arguments)?;
        let (body, rest) = split_line(rest)?;
        let (end, payload) = split_line(rest)?;
        let mac = end.strip_prefix(b"--- ").ok_or(Error::Format)?;
        let header = &file[..file.len() - rest.len() + b"---".len()];
        Ok(Self {
            salt,
            work_factor,
            wrapped: decode_base64(body)?,
            header: header.to_vec(),
            mac: decode_base64(mac)?,
            payload: payload.to_vec(),
        })
    }

    /// Decrypts the file. It takes the time and the memory that its author chose: as age writes it, a second
    /// or so and 256 MiB; [`WORK_FACTOR_MAX`] is the bound.
    ///
    /// # Errors
    /// [`Error::Memory`], [`Error::WrongPassphrase`], or [`Error::Damaged`]: nothing of the file is returned
    /// then.
    pub fn open(&self, passphrase: &SecretBytes) -> Result<SecretBytes, Error> {
        let file_key = self.unwrap(passphrase)?;
        self.check_header(&file_key)?;
        self.open_payload(&file_key)
    }

    fn unwrap(&self, passphrase: &SecretBytes) -> Result<Secret<FILE_KEY_BYTES>, Error> {
        let key = stretch(passphrase, &self.salt, self.work_factor)?;
        let (wrapped, tag) = split_tag(&self.wrapped).ok_or(Error::Format)?;
        let mut file_key = SecretBytes::from_slice(wrapped);
        let nonce = Nonce::derived([0; NONCE_BYTES]);
        file_key
            .expose_mut(|place| aead::open(&key, &nonce, place, tag))
            .map_err(|_| Error::WrongPassphrase)?;
        file_key.to_secret().ok_or(Error::Format)
    }

    fn check_header(&self, file_key: &Secret<FILE_KEY_BYTES>) -> Result<(), Error> {
        let mac = expand(file_key, &[], b"header").expose(|key| {
            let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
            mac.chain_update(&self.header)
        });
        mac.verify_slice(&self.mac).map_err(|_| Error::Damaged)
    }

    fn open_payload(&self, file_key: &Secret<FILE_KEY_BYTES>) -> Result<SecretBytes, Error> {
        let (salt, segment) = self.payload.split_at_checked(PAYLOAD_SALT_BYTES).ok_or(Error::Damaged)?;
        let (ciphertext, tag) = split_tag(segment).ok_or(Error::Damaged)?;
        let key = expand(file_key, salt, b"payload");
        let mut plaintext = SecretBytes::from_slice(ciphertext);
        plaintext
            .expose_mut(|place| aead::open(&key, &Nonce::derived(ONLY_SEGMENT), place, tag))
            .map_err(|_| Error::Damaged)?;
        Ok(plaintext)
    }
}

/// Whether a file's first line is spelled as that of a version of the format.
fn is_other_version(line: &[u8]) -> bool {
    let number = line.strip_prefix(ANY_VERSION).and_then(|version| version.strip_prefix(b"v"));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// The line that `text` begins with, without its end, and what follows.
fn split_line(text: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let at = text.iter().position(|byte| *byte == b'\n').ok_or(Error::Format)?;
    Ok((&text[..at], &text[at + 1..]))
}

/// The salt and the work factor that a stanza's first line gives.
fn decode_stanza(line: &[u8]) -> Result<([u8; SALT_BYTES], u8), Error> {
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    match arguments[..] {
        [b"->", b"scrypt", salt, factor] => Ok((decode_base64(salt)?, decode_work_factor(factor)?)),
        [b"->", b"scrypt", ..] => Err(Error::Format),
        [b"->", ..] => Err(Error::Recipients),
        _ => Err(Error::Format),
    }
}

/// A number from 1 on in decimal digits, the first of them no zero.
fn decode_work_factor(digits: &[u8]) -> Result<u8, Error> {
    if digits.is_empty() || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Error::Format);
    }
    let factor = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    factor.filter(|factor| *factor <= WORK_FACTOR_MAX).ok_or(Error::TooExpensive)
}

/// `N` bytes in base64 without padding, whose last character has no bits to spare.
fn decode_base64<const N: usize>(text: &[u8]) -> Result<[u8; N], Error> {
    let bytes = BASE64_NOPAD.decode(text).map_err(|_| Error::Format)?;
    bytes.try_into().map_err(|_| Error::Format)
}

/// What stands between the lines of armor, which may have blanks before and after.
fn dearmor(text: &[u8]) -> Result<Vec<u8>, Error> {
    let lines: Vec<&[u8]> = text
        .trim_ascii()
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect();
    let [ARMOR_BEGIN, full @ .., last, ARMOR_END] = &lines[..] else { return Err(Error::Format) };
    let is_full = |line: &&[u8]| line.len() == ARMOR_LINE && !line.contains(&b'=');
    let padding_at = last.iter().position(|byte| *byte == b'=').unwrap_or(last.len());
    let is_padded_at_the_end = last[padding_at..].iter().all(|byte| *byte == b'=');
    if !full.iter().all(is_full) || !(1..=ARMOR_LINE).contains(&last.len()) || !is_padded_at_the_end {
        return Err(Error::Format);
    }
    let text = [full.concat().as_slice(), last].concat();
    BASE64.decode(&text).map_err(|_| Error::Format)
}

fn split_tag(sealed: &[u8]) -> Option<(&[u8], &[u8; TAG_BYTES])> {
    sealed.split_last_chunk()
}

/// HKDF-SHA-256 with age's own words for what the key is for.
///
/// Source: RFC 5869.
fn expand(file_key: &Secret<FILE_KEY_BYTES>, salt: &[u8], info: &[u8]) -> Secret<32> {
    let expander = file_key.expose(|key| Hkdf::<Sha256>::new(Some(salt), key));
    Secret::filled(|out| {
        expander.expand(info, out).expect("a key is far shorter than the 8,160 bytes that HKDF gives");
    })
}

/// Stretches a passphrase into a key. Its memory goes back to the system when done.
///
/// Source: scrypt, RFC 7914.
fn stretch(passphrase: &SecretBytes, salt: &[u8; SALT_BYTES], work_factor: u8) -> Result<Secret<32>, Error> {
    let params =
        scrypt::Params::new(work_factor, BLOCK_SIZE, PARALLELISM).map_err(|_| Error::TooExpensive)?;
    check_memory(work_factor)?;
    let salt = [SALT_LABEL, salt].concat();
    Ok(Secret::filled(|key| {
        passphrase
            .expose(|passphrase| scrypt::scrypt(passphrase, &salt, &params, key))
            .expect("32 bytes are within what scrypt gives");
    }))
}

/// Asks for the memory that scrypt will take, and gives it back: scrypt itself ends the program if there
/// is none.
fn check_memory(work_factor: u8) -> Result<(), Error> {
    let bytes = (128 * BLOCK_SIZE as usize) << work_factor;
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| Error::Memory(bytes >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    const PUBLISHED: &str = include_str!("../../tests/vectors/age-passphrase.txt");

    fn word(error: Error) -> &'static str {
        match error {
            Error::Format => "format",
            Error::Newer => "newer",
            Error::TooLong => "too long",
            Error::Recipients => "recipients",
            Error::TooExpensive => "too expensive",
            Error::Memory(_) => "memory",
            Error::WrongPassphrase => "wrong passphrase",
            Error::Damaged => "damaged",
        }
    }

    #[test]
    fn what_age_encrypted_opens_and_what_it_would_not_take_is_refused() {
        for case in vectors::cases(PUBLISHED) {
            let name = case.text("case");
            let file = EncryptedFile::decode(&case.bytes("file"));
            // Where there is no passphrase, none is needed to refuse it.
            let opened = match (file, case.has("passphrase")) {
                (Ok(file), true) => file.open(&SecretBytes::from_slice(case.text("passphrase").as_bytes())),
                (Ok(_), false) => panic!("{name} should have been refused"),
                (Err(error), _) => Err(error),
            };
            if case.has("error") {
                assert_eq!(opened.err().map(word), Some(case.text("error")), "{name}");
            } else {
                opened.unwrap().expose(|opened| assert_eq!(opened, case.bytes("plaintext"), "{name}"));
            }
        }
    }

    #[test]
    fn every_bit_and_every_byte_of_a_file_counts() {
        let case = vectors::cases(PUBLISHED).into_iter().find(|case| case.text("case") == "CCTV scrypt");
        let file = case.unwrap().bytes("file");
        let passphrase = SecretBytes::from_slice(b"password");
        let opens = |file: &[u8]| EncryptedFile::decode(file).and_then(|file| file.open(&passphrase)).is_ok();
        assert!(opens(&file));
        for at in 0..file.len() {
            assert!(!opens(&file[..at]), "cut off at {at}");
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(!opens(&changed), "byte {at} changed");
        }
    }

    #[test]
    fn a_file_is_taken_for_encrypted_by_how_it_begins() {
        for file in [
            "age-encryption.org/v1\n-> scrypt abc 18\n",
            "age-encryption.org/v2",
            "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n",
            "\n  -----BEGIN AGE ENCRYPTED FILE-----\n",
        ] {
            assert!(is_encrypted(file.as_bytes()), "{file}");
        }
        for file in
            ["", "# age-encryption.org/v1", "AGE-SECRET-KEY-PQ-1", "-----BEGIN OPENSSH PRIVATE KEY-----"]
        {
            assert!(!is_encrypted(file.as_bytes()), "{file}");
        }
    }

    #[test]
    fn a_file_that_no_identities_fill_is_not_read() {
        let long = vec![b'-'; FILE_BYTES_MAX + 1];
        assert_eq!(EncryptedFile::decode(&long).err(), Some(Error::TooLong));
        assert_eq!(EncryptedFile::decode(&long[1..]).err(), Some(Error::Format));
    }
}

//! The keys of people who have one already: age's hybrid recipients and identities.
//!
//! They are X-Wing keys as ours are, so that only their spelling has to be known: `age1pq1..` is the
//! public key, `AGE-SECRET-KEY-PQ-1..` the seed, both in Bech32.
//!
//! Source: <https://age-encryption.org/v1>, the recipient type `mlkem768x25519`.

use std::fmt;

use zeroize::Zeroizing;

use crate::crypto::age;
use crate::crypto::bech32;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::secret::Secret;

const RECIPIENT: &str = "age1pq";
const IDENTITY: &str = "AGE-SECRET-KEY-PQ-";
/// How recipients of other kinds begin: age's own, SSH's, those of plugins.
const OTHER_RECIPIENTS: [&str; 2] = ["age1", "ssh-"];
/// How identities of other kinds begin.
const OTHER_IDENTITIES: [&str; 3] =
    ["AGE-SECRET-KEY-1", "AGE-PLUGIN-", "-----BEGIN OPENSSH PRIVATE KEY-----"];

/// Why text is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// It isn't a recipient.
    NotRecipient,
    /// It is a recipient of another kind: of age, of one of its plugins, or of SSH.
    OtherRecipient,
    /// It is an identity: a secret that was given for its public key.
    Secret,
    /// It begins as a hybrid recipient, and a character of it is wrong or missing.
    RecipientCheck,
    /// It is spelled as a hybrid recipient, and ML-KEM makes no such key.
    RecipientKey,
    /// It isn't an identity.
    NotIdentity,
    /// It is an identity of another kind: of age, of one of its plugins, or of SSH.
    OtherIdentity,
    /// It begins as a hybrid identity, and a character of it is wrong or missing.
    IdentityCheck,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRecipient => write!(f, "it is not an age recipient, which begins with {RECIPIENT}1"),
            Self::OtherRecipient => write!(
                f,
                "it is a recipient of another kind: age's hybrid ones are taken, which begin with {RECIPIENT}1"
            ),
            Self::Secret => {
                write!(f, "this is a secret key: give its public one, which begins with {RECIPIENT}1")
            }
            Self::RecipientCheck => {
                write!(f, "a character of the recipient is wrong or missing: its check differs")
            }
            Self::RecipientKey => write!(f, "the recipient is not a key that age makes"),
            Self::NotIdentity => write!(f, "it is not an age identity, which begins with {IDENTITY}1"),
            Self::OtherIdentity => write!(
                f,
                "it is an identity of another kind: age's hybrid ones are taken, which begin with {IDENTITY}1"
            ),
            Self::IdentityCheck => {
                write!(f, "a character of the identity is wrong or missing: its check differs")
            }
        }
    }
}

impl std::error::Error for Error {}

/// Why a file gives no identities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileError {
    /// It is encrypted, with a passphrase or to somebody: [`age::EncryptedFile`] opens it first.
    Encrypted,
    /// There is no identity in it.
    Empty,
    /// This line, counted from 1, is neither an identity nor a comment.
    Line(usize, Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encrypted => write!(f, "it is encrypted"),
            Self::Empty => write!(f, "there is no identity in it"),
            Self::Line(number, _) => write!(f, "line {number} can't be used"),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Line(_, error) => Some(error),
            Self::Encrypted | Self::Empty => None,
        }
    }
}

/// A public key as age spells it: 1,959 characters.
#[must_use]
pub fn encode_recipient(key: &KemPublicKey) -> String {
    bech32::encode(RECIPIENT, key.as_bytes()).to_string()
}

/// Reads what [`encode_recipient`] or `age-keygen -pq` wrote.
///
/// # Errors
/// Those of [`Error`] that speak of recipients.
pub fn decode_recipient(text: &str) -> Result<KemPublicKey, Error> {
    if is_secret(text) {
        return Err(Error::Secret);
    }
    if !is_spelled(RECIPIENT, text) {
        let is_other = OTHER_RECIPIENTS.iter().any(|kind| text.starts_with(kind));
        return Err(if is_other { Error::OtherRecipient } else { Error::NotRecipient });
    }
    let bytes = bech32::decode(RECIPIENT, text).ok_or(Error::RecipientCheck)?;
    KemPublicKey::from_bytes(&bytes).ok_or(Error::RecipientKey)
}

/// Whether `text` is, or was meant to be, somebody's secret key: nothing of it may be shown.
#[must_use]
pub fn is_secret(text: &str) -> bool {
    let beginnings = ["AGE-SECRET-KEY", "AGE-PLUGIN-", "-----BEGIN", "strongroom-key-"];
    let text = text.trim();
    let begins = |with: &&str| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    beginnings.iter().any(begins)
}

/// A secret key as age spells it, in capitals.
#[must_use]
pub fn encode_identity(key: &KemSecretKey) -> Zeroizing<String> {
    key.seed().expose(|seed| bech32::encode(IDENTITY, seed))
}

/// Reads what [`encode_identity`] or `age-keygen -pq` wrote.
///
/// # Errors
/// Those of [`Error`] that speak of identities.
pub fn decode_identity(text: &str) -> Result<KemSecretKey, Error> {
    if !is_spelled(IDENTITY, text) {
        let is_other = OTHER_IDENTITIES.iter().any(|kind| text.starts_with(kind));
        return Err(if is_other { Error::OtherIdentity } else { Error::NotIdentity });
    }
    let seed = bech32::decode(IDENTITY, text).and_then(|bytes| Secret::from_slice(&bytes));
    seed.map(KemSecretKey::from_seed).ok_or(Error::IdentityCheck)
}

/// All identities of a file as age reads it: one a line, with empty lines and lines from `#` on between.
///
/// # Errors
/// [`FileError::Encrypted`], [`FileError::Empty`], or [`FileError::Line`] for anything else in it.
pub fn decode_identity_file(file: &[u8]) -> Result<Vec<KemSecretKey>, FileError> {
    if age::is_encrypted(file) {
        return Err(FileError::Encrypted);
    }
    let mut identities = Vec::new();
    for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let identity = std::str::from_utf8(line).map_err(|_| Error::NotIdentity).and_then(decode_identity);
        identities.push(identity.map_err(|error| FileError::Line(number, error))?);
    }
    if identities.is_empty() { Err(FileError::Empty) } else { Ok(identities) }
}

/// Whether `text` is, or should be, Bech32 with this prefix.
fn is_spelled(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('1'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::kem;
    use crate::crypto::vectors;
    use crate::crypto::vectors::Case;

    fn published() -> Vec<Case<'static>> {
        vectors::cases(include_str!("../../tests/vectors/age.txt"))
    }

    fn refused(file: &str) -> Option<FileError> {
        decode_identity_file(file.as_bytes()).err()
    }

    #[test]
    fn keys_of_age_read_and_print_the_same_and_open_what_age_sealed() {
        for case in published() {
            let identity = decode_identity(case.text("identity")).unwrap();
            assert_eq!(*encode_identity(&identity), case.text("identity"));
            let opened = identity.decapsulate(&case.array("ciphertext"));
            if case.has("error") {
                assert_eq!((opened.err(), case.text("error")), (Some(kem::Error::Ciphertext), "ciphertext"));
                continue;
            }
            opened.unwrap().expose(|shared| assert_eq!(shared, &case.array("shared")));
            identity.seed().expose(|seed| assert_eq!(seed, &case.array("seed")));
            assert_eq!(case.text("recipient").len(), 1_959);
            let recipient = decode_recipient(case.text("recipient")).unwrap();
            assert_eq!(recipient, identity.public());
            assert_eq!(encode_recipient(&recipient), case.text("recipient"));
        }
    }

    #[test]
    fn what_is_no_hybrid_recipient_is_told_from_one_with_a_slip() {
        let cases = published();
        let text = cases[0].text("recipient");
        for (typed, error) in [
            ("", Error::NotRecipient),
            ("age", Error::NotRecipient),
            (&text.to_uppercase(), Error::NotRecipient),
            (&format!(" {text}"), Error::NotRecipient),
            ("age1pq", Error::OtherRecipient),
            ("age1tagpq1qqqq", Error::OtherRecipient),
            ("age1yubikey1qqqq", Error::OtherRecipient),
            ("ssh-ed25519 AAAA", Error::OtherRecipient),
            (cases[0].text("identity"), Error::Secret),
            (&cases[0].text("identity").to_lowercase(), Error::Secret),
            ("age1pq1", Error::RecipientCheck),
            (&text[..text.len() - 1], Error::RecipientCheck),
            (&format!("{}{}", &text[..1_000], text[1_000..].replacen('q', "p", 1)), Error::RecipientCheck),
            (&format!("{text} "), Error::RecipientCheck),
            (&bech32::encode(RECIPIENT, &[0; 32]), Error::RecipientKey),
            (&bech32::encode(RECIPIENT, &[0xff; 1_216]), Error::RecipientKey),
        ] {
            assert_eq!(decode_recipient(typed), Err(error), "{typed}");
        }
        // A key of X25519 alone, which a quantum computer breaks.
        let classic = bech32::encode("age", &[9; 32]);
        assert_eq!(decode_recipient(&classic), Err(Error::OtherRecipient));
    }

    #[test]
    fn what_is_no_hybrid_identity_is_told_from_one_with_a_slip() {
        let cases = published();
        let text = cases[0].text("identity");
        for (typed, error) in [
            ("", Error::NotIdentity),
            (&text.to_lowercase(), Error::NotIdentity),
            (cases[0].text("recipient"), Error::NotIdentity),
            (&bech32::encode("AGE-SECRET-KEY-", &[9; 32]), Error::OtherIdentity),
            ("AGE-PLUGIN-YUBIKEY-1QQQQ", Error::OtherIdentity),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", Error::OtherIdentity),
            (&text[..text.len() - 1], Error::IdentityCheck),
            (&bech32::encode(IDENTITY, &[9; 31]), Error::IdentityCheck),
            (&bech32::encode(IDENTITY, &[9; 33]), Error::IdentityCheck),
        ] {
            assert_eq!(decode_identity(typed).err(), Some(error), "{typed}");
        }
    }

    #[test]
    fn a_file_gives_all_its_identities_and_names_the_line_that_is_none() {
        let cases = published();
        let (first, other) = (cases[0].text("identity"), cases[1].text("identity"));
        let read = |file: &str| -> Vec<String> {
            let identities = decode_identity_file(file.as_bytes()).unwrap();
            identities.iter().map(|identity| encode_identity(identity).to_string()).collect()
        };
        assert_eq!(read(first), [first]);
        let public = cases[0].text("recipient");
        let keygen = format!("# created: 2026-11-26T20:00:00Z\n# public key: {public}\n{first}\n");
        assert_eq!(read(&keygen), [first]);
        assert_eq!(read(&format!("{first}\r\n\r\n# old\r\n{other}\r\n")), [first, other]);
        assert_eq!(refused(""), Some(FileError::Empty));
        assert_eq!(refused("# nothing\n\n"), Some(FileError::Empty));
        let line = |number, error| Some(FileError::Line(number, error));
        assert_eq!(refused(&format!("{first}\n\nhello\n")), line(3, Error::NotIdentity));
        assert_eq!(refused(&format!("# old\n {first}\n")), line(2, Error::NotIdentity));
        assert_eq!(refused(&format!("{}\n", &first[..50])), line(1, Error::IdentityCheck));
        assert_eq!(refused(&format!("{first}\nAGE-SECRET-KEY-1Q\n")), line(2, Error::OtherIdentity));
        assert_eq!(decode_identity_file(b"#\xff\n\xff").err(), line(2, Error::NotIdentity));
    }

    #[test]
    fn an_encrypted_file_is_known_as_one() {
        for file in [
            "age-encryption.org/v1\n-> scrypt abc 18\n",
            "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n",
            "\n  -----BEGIN AGE ENCRYPTED FILE-----\n",
        ] {
            assert_eq!(refused(file), Some(FileError::Encrypted));
        }
    }

    #[test]
    fn no_message_repeats_what_the_file_says() {
        let error = decode_identity_file(b"AGE-SECRET-KEY-PQ-1TOPSECRET\n").err().unwrap();
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(
            format!("{error}: {cause}"),
            "line 1 can't be used: a character of the identity is wrong or missing: its check differs"
        );
        assert!(!format!("{error:?}").contains("TOPSECRET"));
    }
}

//! A signed statement that nothing in the vault is readable with older keys: for whoever keeps the books.

use std::fmt;

use crate::crypto::sign::SIGNATURE_BYTES;
use crate::crypto::sign::SignatureType;
use crate::crypto::sign::SigningKey;
use crate::crypto::text;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::vault::Vault;
use crate::vault::authority::Log;
use crate::vault::authority::LogHead;
use crate::vault::error::Error;

const TITLE: &str = "strongroom statement 1";
const SIGNATURE: &str = "signature: ";

/// What is stated: at `record` of its log, the vault held nothing that keys of `epoch` or before open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Of which vault.
    pub fingerprint: Fingerprint,
    /// The newest epoch whose keys open nothing.
    pub epoch: Epoch,
    /// The record of the authority log that gave the older secrets up, or a later one.
    pub record: LogHead,
    /// When it was made, in nanoseconds since 1970 UTC, by the owner's clock.
    pub time: u64,
}

/// Why a statement is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is not written as strongroom writes one.
    Layout,
    /// It is another vault's.
    OtherVault,
    /// It names a record that the vault's log doesn't have.
    OtherHistory,
    /// It names a record beyond the end of the vault's log.
    Ahead,
    /// The vault's authority of then didn't sign it.
    Signature,
    /// At that record the secrets still existed.
    Untrue,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Layout => "it is not a statement that strongroom made",
            Self::OtherVault => "it is about another vault",
            Self::OtherHistory => "it names a state that this vault never was in",
            Self::Ahead => "it names a later state than this copy of the vault has: the copy is older, or the statement forged",
            Self::Signature => "this vault's authority didn't sign it",
            Self::Untrue => "the older secrets still existed at the state that it names",
        })
    }
}

impl Statement {
    fn signed_text(&self) -> String {
        format!(
            "{TITLE}\n\
             vault: {}\n\
             epoch: {}\n\
             record: {} {}\n\
             time: {}\n\
             No object in this vault is readable with keys of this epoch or before. Copies elsewhere are.\n",
            text::fingerprint_base32(&self.fingerprint),
            self.epoch,
            self.record.seq,
            self.record.digest,
            self.time
        )
    }

    fn sign(&self, key: &SigningKey) -> String {
        let text = self.signed_text();
        let signature = key.sign(SignatureType::Statement, text.as_bytes());
        format!("{text}{SIGNATURE}{}\n", data_encoding::HEXLOWER.encode(&signature))
    }

    fn parse(text: &str) -> Option<(Self, [u8; SIGNATURE_BYTES])> {
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next()?.strip_prefix(name);
        field(TITLE).filter(|rest| rest.is_empty())?;
        let fingerprint = text::decode_fingerprint(field("vault: ")?).ok()?;
        let epoch = Epoch(field("epoch: ")?.parse().ok()?);
        let (seq, digest) = field("record: ")?.split_once(' ')?;
        let record = LogHead { seq: seq.parse().ok()?, digest: Digest::from_hex(digest)? };
        let time = field("time: ")?.parse().ok()?;
        field("")?;
        let signature = data_encoding::HEXLOWER.decode(field(SIGNATURE)?.as_bytes()).ok()?;
        let statement = Self { fingerprint, epoch, record, time };
        // What is signed is what strongroom would write: nothing else may stand between.
        let is_whole = text == format!("{}{SIGNATURE}{}\n", statement.signed_text(), text_of(&signature));
        Some((statement, signature.try_into().ok()?)).filter(|_| is_whole)
    }

    /// Reads a statement and holds it against the vault that it is about; takes no key.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(text: &str, log: &Log) -> Result<Self, Refused> {
        let (statement, signature) = Self::parse(text).ok_or(Refused::Layout)?;
        if statement.fingerprint != log.fingerprint() {
            return Err(Refused::OtherVault);
        }
        if statement.record.seq > log.head().seq {
            return Err(Refused::Ahead);
        }
        if log.at(statement.record.seq) != Some(statement.record) {
            return Err(Refused::OtherHistory);
        }
        let (authority, oldest) = log.authority_at(statement.record.seq).ok_or(Refused::OtherHistory)?;
        authority
            .verify(SignatureType::Statement, statement.signed_text().as_bytes(), &signature)
            .map_err(|_| Refused::Signature)?;
        if oldest <= statement.epoch { Err(Refused::Untrue) } else { Ok(statement) }
    }
}

fn text_of(signature: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(signature)
}

impl Vault {
    /// States that nothing is readable with the keys before the oldest that exist. Whoever calls this has
    /// looked.
    ///
    /// # Errors
    /// [`Error::NotOwner`].
    pub fn state_older_keys_gone(&self, now: u64) -> Result<String, Error> {
        let key = SigningKey::from_seed(self.admin()?.authority_seed.duplicate());
        let log = self.log();
        let statement = Statement {
            fingerprint: log.fingerprint(),
            epoch: Epoch(log.keys().oldest.0 - 1),
            record: log.head(),
            time: now,
        };
        Ok(statement.sign(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::record::Keys;
    use crate::vault::record::Payload;
    use crate::vault::testing::Owner;

    fn raised(oldest: u32) -> Owner {
        let mut owner = Owner::new();
        let keys = Keys {
            generation: 2,
            oldest: Epoch(oldest),
            open: Epoch(2),
            newest: Epoch(2),
            ..owner.log().keys().clone()
        };
        owner.append(Payload::Keys(Box::new(keys)));
        owner
    }

    fn statement(owner: &Owner) -> Statement {
        let log = owner.log();
        Statement { fingerprint: log.fingerprint(), epoch: Epoch(1), record: log.head(), time: 5 }
    }

    #[test]
    fn a_statement_holds_for_its_vault_and_state_and_no_byte_of_it_can_change() {
        let owner = raised(2);
        let text = statement(&owner).sign(&owner.key);
        assert_eq!(Statement::check(&text, &owner.log()), Ok(statement(&owner)));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Statement::check(&changed, &owner.log()).is_err(), "byte {at}");
        }
        for changed in [text.trim_end().to_owned(), format!("{text}\n"), String::new()] {
            assert_eq!(Statement::check(&changed, &owner.log()), Err(Refused::Layout));
        }
        assert_eq!(Statement::check(&text, &raised(2).log()), Err(Refused::OtherVault));
    }

    #[test]
    fn a_statement_that_is_untrue_or_not_the_authoritys_is_refused() {
        let owner = raised(1);
        let text = statement(&owner).sign(&owner.key);
        assert_eq!(Statement::check(&text, &owner.log()), Err(Refused::Untrue));
        let owner = raised(2);
        let text = statement(&owner).sign(&SigningKey::generate());
        assert_eq!(Statement::check(&text, &owner.log()), Err(Refused::Signature));
        let later = LogHead { seq: 9, digest: Digest([1; 32]) };
        let text = Statement { record: later, ..statement(&owner) }.sign(&owner.key);
        assert_eq!(Statement::check(&text, &owner.log()), Err(Refused::Ahead));
        let other = LogHead { digest: Digest([1; 32]), ..owner.log().head() };
        let text = Statement { record: other, ..statement(&owner) }.sign(&owner.key);
        assert_eq!(Statement::check(&text, &owner.log()), Err(Refused::OtherHistory));
    }
}

//! Any error of the library -> message, hint, exit code: the only such table.

use std::fmt::Display;
use std::io;

use crate::cli::render;
use crate::store;
use crate::task;
use crate::task::verify::Class;
use crate::tree;
use crate::tree::filter;
use crate::tree::path;
use crate::tree::place;
use crate::tree::tar::Why;
use crate::tree::walk;
use crate::vault;
use crate::vault::slot::Way;

/// How the program ends; the numbers are published and don't change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed, and none of the other numbers says why.
    Failed = 1,
    /// It was asked for something that makes no sense.
    Usage = 2,
    /// Done, but some source files could not be read.
    SourceIncomplete = 3,
    /// There is no such vault.
    NoVault = 10,
    /// Another run of this device is at work.
    Locked = 11,
    /// The key opens nothing here.
    WrongKey = 12,
    /// Something is damaged, missing or not what it was signed as.
    Damaged = 20,
    /// The vault's history was rolled back or forked, or a part of it is missing.
    History = 21,
    /// The newest snapshot is too old.
    Stale = 22,
    /// Something is still under older keys.
    RotationIncomplete = 25,
    /// Refused because it would not be safe.
    Refused = 26,
    /// The person interrupted it.
    Interrupted = 130,
}

impl Exit {
    /// The number that the system gets.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// How a command ended that went all its way and told, as it went, why this isn't 0; nothing if it is. It is the
    /// last line that programs read.
    #[must_use]
    pub fn told(self) -> Option<Failure> {
        let message = match self {
            Self::Done => return None,
            Self::Usage => "a command is missing",
            Self::SourceIncomplete => "some source files could not be read",
            Self::Damaged => "something is damaged, missing or not what it was signed as",
            Self::History => "the vault's history was rolled back or forked, or a part of it is missing",
            Self::Stale => "the newest snapshot is too old",
            Self::RotationIncomplete => "something is still under older keys",
            _ => "not all is as it should be",
        };
        let failure = Failure::new(self, message);
        Some(match self {
            Self::RotationIncomplete => failure.hint("run `strongroom reencrypt` again"),
            _ => failure,
        })
    }
}

/// What a person is told when a command doesn't reach its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// What happened to which thing.
    pub message: String,
    /// What to do now.
    pub hint: Option<String>,
    /// Nobody reads what we write any more: end without a word.
    pub is_silent: bool,
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, is_silent: false }
    }

    /// Wrong use.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something of the system failed at `what`.
    #[must_use]
    pub fn io(what: impl Display, error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("{what}: {error}"))
    }

    /// With what to do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A failure to open the vault with `way`: the hint for a wrong key is of what was given.
    #[must_use]
    pub fn unlock(error: vault::error::Error, way: &Way) -> Self {
        let is_wrong_key = matches!(error, vault::error::Error::WrongKey);
        let failure = Self::from(error);
        match wrong_key_hint(way) {
            Some(hint) if is_wrong_key => failure.hint(hint),
            _ => failure,
        }
    }

    /// The same, where the vault is a sealed file.
    #[must_use]
    pub fn of_sealed_file(mut self) -> Self {
        let is_told = self.hint.as_deref().is_some_and(|hint| hint != INTERRUPTED_HINT);
        if self.exit == Exit::Interrupted && !is_told {
            return self.hint("what was there before is as it was: the same command begins anew");
        }
        self.message = self
            .message
            .replace("of this vault", "of this file")
            .replace("this vault's", "this file's")
            .replace("this vault opens", "this file opens");
        if self.exit == Exit::WrongKey && self.hint.as_deref().is_some_and(|hint| hint.contains("each vault"))
        {
            return self.hint("passphrases differ by capitals and spaces, and each file has its own");
        }
        self
    }

    /// What stands on standard error: one line, and one for the hint.
    #[must_use]
    pub fn text(&self) -> String {
        let message = one_line(&self.message);
        match &self.hint {
            None => format!("error: {message}\n"),
            Some(hint) => format!("error: {message}\n  hint: {}\n", one_line(hint)),
        }
    }

    /// The same for programs: the last line that they read.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "message_type": "exit_error",
            "schema": 1,
            "code": self.exit.code(),
            "message": one_line(&self.message),
            "hint": self.hint.as_deref().map(one_line),
        })
    }

    /// A failure to write results. A reader who went away (`| head`) is none.
    #[must_use]
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { is_silent: true, ..Self::new(Exit::Done, "") };
        }
        Self::io("the output could not be written", error)
    }
}

/// `text` without anything that moves a cursor: paths of this machine may hold such bytes (R-35).
///
/// Names from a vault are escaped where they are put into a message; what is escaped stays as it is.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut safe = parts.next().map(|part| path::printable(part.as_bytes())).unwrap_or_default();
    for part in parts {
        safe.push('\\');
        safe.push_str(&path::printable(part.as_bytes()));
    }
    safe
}

/// What to look for if a key opens nothing; none for a passphrase alone.
fn wrong_key_hint(way: &Way) -> Option<&'static str> {
    match (&way.passphrase, &way.key_file, &way.recovery_code, &way.cards) {
        (Some(_), None, None, None) if way.identities.is_empty() => None,
        (Some(_), Some(_), None, None) => Some(
            "either is wrong, or they don't belong together: passphrases differ by capitals and spaces, and the key file \
             is the one that was made with it",
        ),
        (_, Some(_), None, None) => {
            Some("this key file is for something else, or its slot was taken away or got another secret")
        }
        (_, _, Some(_), None) => {
            Some("this code is for something else, or a new one took its place: its page says what it opens")
        }
        (_, _, _, Some(_)) => Some(
            "these cards open nothing here, though they name one of its sets: were all of them typed right?",
        ),
        _ => Some(
            "no slot is sealed to this key: an owner makes one with `slot add NAME --recipient`, given its public key",
        ),
    }
}

/// An error and what lies beneath it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(source) = beneath {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        beneath = source.source();
    }
    text
}

const VERIFY_HINT: &str =
    "`strongroom verify --read-all` lists all that is damaged and every file that it touches";
/// What to do about a history that isn't the one that was seen.
pub const HISTORY_HINT: &str = "somebody may have put back an old copy or deleted snapshots: \
     keep this state as it is and compare with another copy of the vault and a receipt";

const INTERRUPTED_HINT: &str = "the vault is sound; the same command goes on where this one stopped";

const RIVALS_HINT: &str = "two owners' commands were cut off as they met: any command that takes an owner's key and \
     changes something, such as `strongroom rotate`, lets one of them stand with `--settle-fork`";

const OTHER_BRANCH_HINT: &str = "an owner's command that was cut off left it, or somebody who once was an owner put \
     it there: the same command with `--settle-fork` keeps what this machine has seen and removes it";

impl From<&vault::error::Error> for Failure {
    fn from(error: &vault::error::Error) -> Self {
        use vault::error::Error;
        let (exit, hint) = match error {
            Error::Store(error) => return error.into(),
            Error::Unindexed(index) => {
                return Self { message: chain(error), ..Self::from(&**index) };
            }
            Error::ForkedChain { device, seq } => {
                return Self::new(Exit::History, chain(error)).hint(format!(
                    "two machines have the same state, such as a copied disk or virtual machine, or somebody put back \
                     a copy: an owner's `strongroom device revoke {} --last {}` keeps what came before, then each \
                     machine is enrolled anew",
                    device.short(),
                    seq.saturating_sub(1)
                ));
            }
            Error::NoVault { .. } => (
                Exit::NoVault,
                "give its place with `--vault` or STRONGROOM_VAULT; `strongroom init` makes a new one",
            ),
            Error::Unfinished { .. } => {
                (Exit::NoVault, "it holds no data: `strongroom init` at the same place makes it anew")
            }
            Error::Memory { .. } => (
                Exit::Failed,
                "close other programs, open the vault on a larger machine, or use the key file or recovery code",
            ),
            Error::VaultExists { .. } => {
                (Exit::Refused, "a vault is never made over another one: choose another place")
            }
            Error::Damaged { .. } | Error::Missing { .. } => (Exit::Damaged, VERIFY_HINT),
            Error::Newer { .. } => (Exit::Failed, "install a newer strongroom"),
            Error::OtherVault { .. } => (
                Exit::History,
                "another vault stands at this place than before: is the right drive attached? \
                 `--fingerprint` says which one you mean",
            ),
            Error::RolledBack { .. } | Error::Forked { .. } | Error::HistoryMissing { .. } => {
                (Exit::History, HISTORY_HINT)
            }
            Error::Rivals { .. } => (Exit::History, RIVALS_HINT),
            Error::OtherBranch { .. } => (Exit::History, OTHER_BRANCH_HINT),
            Error::WrongKey => (
                Exit::WrongKey,
                "passphrases differ by capitals and spaces, and each vault has its own: \
                 `strongroom status` shows which vault this is",
            ),
            Error::NoSlotForKey { .. } => (
                Exit::WrongKey,
                "give one of those: --password-file, --password-command, --password-fd, --key-file, \
                 --recovery-code-file, --card-file or --identity",
            ),
            Error::OtherCards { .. } => (
                Exit::WrongKey,
                "they are another vault's, or were replaced by a new set: an owner's `strongroom slot list` shows which \
                 ways in there are",
            ),
            Error::ExpensiveKdf { .. } => (
                Exit::Refused,
                "if you trust this vault and have the memory, `--allow-expensive-kdf` tries all the same",
            ),
            Error::NotOwner => (Exit::Refused, "ask an owner, or use an owner's key"),
            Error::NotEnrolled { .. } => (
                Exit::Refused,
                "only an enrolled machine adds snapshots: `strongroom device request --name NAME` here asks an owner to take \
                 this one in, and with an owner's key at hand `strongroom device add --name NAME` does it at once",
            ),
            Error::NotApproved { .. } => (
                Exit::Refused,
                "ask an owner to run `strongroom device approve` with the code that `strongroom device request` shows here",
            ),
            Error::Revoked { .. } => {
                (Exit::Refused, "what it added before stays; ask an owner to enrol this machine anew")
            }
            Error::Locked { .. } => (
                Exit::Locked,
                "wait until it is done: nothing is left locked when a run ends, even if it is killed",
            ),
            Error::Cloned { .. } => (
                Exit::History,
                "if this machine was set back to an older state of itself, an owner's `strongroom device reseed NAME` \
                 lets it go on; if its state was copied and a second machine adds snapshots as this one, an owner \
                 ends it with `strongroom device revoke NAME --last N`, N its last good snapshot, and each machine \
                 is enrolled anew",
            ),
            Error::State { .. } => (
                Exit::Failed,
                "the vault itself is not affected; restore the file from a copy, or move it away if it is no key",
            ),
            Error::NoSuchSnapshot { ambiguous: true, .. } => {
                (Exit::Failed, "give more digits of the id; `strongroom snapshots` lists them")
            }
            Error::NoSuchSnapshot { .. } => {
                (Exit::Failed, "`strongroom snapshots` lists all of them; `latest` is the newest")
            }
            Error::NoSuchEntry { .. } => {
                (Exit::Failed, "`strongroom ls` and `strongroom find` show what is there")
            }
            Error::TooMuch { .. } => (Exit::Failed, "back up in several parts"),
            Error::NoRoom { .. } => (
                Exit::Refused,
                "nothing was changed; take slots away that nobody needs, and give shorter names",
            ),
            Error::SlotGone => (Exit::WrongKey, "ask an owner for a way in"),
            Error::NoSuchLabel { .. } => {
                (Exit::Failed, "`strongroom slot list` and `strongroom device list` show what there is")
            }
            Error::LabelTaken { .. } => (Exit::Refused, "choose another name"),
            Error::TooManyPassphrases => (
                Exit::Refused,
                "give a key file, cards, a recovery code or somebody's own key, or take a slot away first",
            ),
            Error::LastOwner => (Exit::Refused, "add another owner's slot first: `strongroom slot add`"),
            Error::NoSuchRequest => (
                Exit::Failed,
                "compare it with what the machine shows; `strongroom device approve` without a code lists all",
            ),
            Error::DeviceExists { .. } => (Exit::Refused, "`strongroom device list` shows it"),
            Error::EpochChanged | Error::Renamed | Error::Contended => (Exit::Failed, "try again"),
            Error::Unfaithful(_) => {
                (Exit::Failed, "nothing wrong was stored; if it happens again, test this machine's memory")
            }
        };
        Self::new(exit, chain(error)).hint(hint)
    }
}

impl From<&store::Error> for Failure {
    fn from(error: &store::Error) -> Self {
        use store::Error;
        let (exit, hint) = match error {
            Error::Missing { .. } | Error::Short { .. } | Error::TooLarge { .. } | Error::NotAFile { .. } => {
                (Exit::Damaged, VERIFY_HINT)
            }
            Error::Exists { .. } => (Exit::Failed, "another run put it there at the same moment: try again"),
            Error::Full { .. } => (
                Exit::Failed,
                "make room on the vault's disk and run the command again: what is stored is sound and is used",
            ),
            Error::ReadOnly { .. } => (Exit::Failed, "mount it so that it can be written"),
            Error::Denied { .. } => (Exit::Failed, "run this as the user who made the vault"),
            Error::NoVault { .. } => (
                Exit::NoVault,
                "give its place with `--vault` or STRONGROOM_VAULT; `strongroom init` makes a new one",
            ),
            Error::NotEmpty { .. } => {
                (Exit::Refused, "a vault takes a folder of its own: give a new or an empty one")
            }
            Error::NotSealed { .. } => {
                (Exit::NoVault, "is it the right file? the first part of one that was split ends in .001")
            }
            Error::Malformed { .. } => (
                Exit::Damaged,
                "copy it again from where it came from, with all its parts: a lost part of a sealed file is not \
                 mended by another one",
            ),
            Error::NoPlace { .. } => {
                (Exit::Failed, "nothing was written over; this is a fault of strongroom's and worth a report")
            }
            Error::Occupied { .. } => (Exit::Refused, "choose another name, or move away what is there"),
            Error::Busy { .. } => (Exit::Locked, "wait until it has ended, then run the command again"),
            Error::Changed { .. } => {
                (Exit::Refused, "nothing was replaced: run the command again, on the file as it is now")
            }
            Error::Unfinished { .. } => (
                Exit::Damaged,
                "none was removed: run the command again where that folder can be written, or give each \
                 .NAME.NNN.DIGITS.old its name NAME.NNN back, and .NAME.whole.DIGITS.old its name NAME",
            ),
            Error::PartSize { .. } => (Exit::Usage, "give another size"),
            Error::NoRoom { .. } => {
                (Exit::Failed, "make room there and run the command again: nothing of the new file was left")
            }
            Error::Place { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
                (Exit::Failed, "whatever reads it has ended, and has only a part: look there for the reason")
            }
            Error::Io { .. } | Error::Place { .. } => {
                (Exit::Failed, "is the drive still attached? nothing that was stored before is affected")
            }
        };
        Self::new(exit, chain(error)).hint(hint)
    }
}

impl From<&filter::Error> for Failure {
    fn from(error: &filter::Error) -> Self {
        Self::usage(chain(error)).hint("patterns have the syntax of .gitignore")
    }
}

impl From<&walk::Error> for Failure {
    fn from(error: &walk::Error) -> Self {
        Self::new(Exit::Failed, chain(error)).hint("no snapshot was added: check the paths that were given")
    }
}

impl From<&task::error::Error> for Failure {
    fn from(error: &task::error::Error) -> Self {
        use task::error::Error;
        let (exit, hint) = match error {
            Error::Vault(error) => return error.into(),
            Error::Source(error) => return error.into(),
            Error::Target(error) => return error.into(),
            Error::Archive(error) => return error.into(),
            Error::Refused { .. } => (Exit::Refused, None),
            Error::NoRoom { needed, free } => {
                let (needed, free) = (render::size(*needed), render::size(*free));
                let message = format!("the files have {needed}, and where they are to go {free} are free");
                return Self::new(Exit::Refused, message)
                    .hint("make room there, or name a folder on another disk");
            }
            Error::Stream(_) | Error::Output(_) => (Exit::Failed, None),
            Error::Pack(_) => (
                Exit::Failed,
                Some("nothing wrong was stored; if it happens again, test this machine's memory"),
            ),
            Error::Node(_) | Error::Join(_) => (Exit::Damaged, Some(VERIFY_HINT)),
            Error::Found(problem) => match problem.class() {
                Class::History => (Exit::History, None),
                _ => (Exit::Damaged, Some(VERIFY_HINT)),
            },
            Error::Nothing { .. } => (Exit::Usage, None),
            Error::Unsteady { .. } => (
                Exit::Failed,
                Some("no snapshot was added; does something else delete files in the vault's folder?"),
            ),
            Error::Interrupted => (Exit::Interrupted, Some(INTERRUPTED_HINT)),
        };
        let failure = Self::new(exit, chain(error));
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<&tree::tar::Error> for Failure {
    fn from(error: &tree::tar::Error) -> Self {
        use tree::tar::Error;
        let (exit, hint) = match error {
            Error::Compressed { with } => {
                return Self::new(Exit::Usage, chain(error))
                    .hint(format!("unpack it on the way: `{with} FILE | strongroom import -`"));
            }
            Error::NotTar => (Exit::Usage, "a single file is added by `strongroom backup`"),
            Error::Io(_) => (Exit::Failed, "no snapshot was added"),
            Error::CutShort | Error::Damaged { .. } => {
                (Exit::Damaged, "no snapshot was added: get the archive again from where it came")
            }
            Error::Trailing => {
                (Exit::Damaged, "no snapshot was added: archives that were joined are imported one by one")
            }
            Error::Refused { why: Why::Absolute, .. } => (
                Exit::Refused,
                "no snapshot was added: make the archive without `tar -P`, so that its names are of one folder",
            ),
            Error::Refused { .. } => (
                Exit::Refused,
                "no snapshot was added: ask whoever made the archive for one without it; programs that unpack it may do \
                 harm",
            ),
            Error::TooMuch => (Exit::Failed, "no snapshot was added: import it in several parts"),
        };
        Self::new(exit, chain(error)).hint(hint)
    }
}

impl From<&place::Error> for Failure {
    fn from(error: &place::Error) -> Self {
        use place::Error;
        let (exit, hint) = match error {
            Error::NotEmpty { .. } => (
                Exit::Refused,
                "name a new folder, or say what becomes of what is there: `--overwrite if-changed`",
            ),
            Error::NotDirectory { .. } => {
                (Exit::Refused, "a snapshot is restored into a folder: name another one")
            }
            Error::ForeignLink { .. } => (Exit::Refused, "name the folder itself"),
            Error::Busy { .. } => (Exit::Locked, "wait until it is done, or name another folder"),
            Error::Leftover { .. } => {
                (Exit::Refused, "look at what is in it, then delete it or name another folder")
            }
            Error::Appeared { .. } => (Exit::Refused, "all is restored: move the files where you want them"),
            Error::NoSpace { .. } => {
                (Exit::Failed, "make room and run the same command again: it goes on where this one stopped")
            }
            _ => (Exit::Failed, "run the same command again once the reason is gone, or name another folder"),
        };
        Self::new(exit, chain(error)).hint(hint)
    }
}

/// Lets `?` take an error by value.
macro_rules! by_value {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::from(&error)
            }
        })+
    };
}
by_value!(vault::error::Error, store::Error, filter::Error, walk::Error, task::error::Error, place::Error);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::id::DeviceId;
    use crate::id::Fingerprint;
    use crate::id::ObjectName;
    use crate::tree::path::TreePath;

    fn object() -> ObjectName {
        ObjectName::parse("p/aa/bb").unwrap()
    }

    fn vault_errors() -> Vec<(vault::error::Error, Exit)> {
        use vault::error::Error;
        let place = || "/vault".to_owned();
        let (device, fingerprint) = (DeviceId([0xab; 16]), Fingerprint([0xcd; 32]));
        vec![
            (Error::Store(store::Error::Full { name: object() }), Exit::Failed),
            (Error::NoVault { place: place() }, Exit::NoVault),
            (Error::Unfinished { place: place() }, Exit::NoVault),
            (Error::Memory { kib: 1024 }, Exit::Failed),
            (Error::VaultExists { place: place() }, Exit::Refused),
            (Error::Damaged { name: object(), what: "it is".to_owned() }, Exit::Damaged),
            (Error::Missing { name: object() }, Exit::Damaged),
            (Error::Newer { name: object() }, Exit::Failed),
            (Error::OtherVault { expected: fingerprint, found: fingerprint }, Exit::History),
            (Error::RolledBack { what: String::new() }, Exit::History),
            (Error::Forked { what: String::new() }, Exit::History),
            (Error::ForkedChain { device, seq: 4 }, Exit::History),
            (Error::Rivals { seq: 4 }, Exit::History),
            (Error::HistoryMissing { what: String::new() }, Exit::History),
            (Error::WrongKey, Exit::WrongKey),
            (Error::NoSlotForKey { kinds: vec!["key file"] }, Exit::WrongKey),
            (Error::OtherCards { given: [1; 8], known: vec![[2; 8]] }, Exit::WrongKey),
            (Error::ExpensiveKdf { name: object(), asked: "8 GiB".to_owned() }, Exit::Refused),
            (Error::NotOwner, Exit::Refused),
            (Error::NotEnrolled { fingerprint }, Exit::Refused),
            (Error::NotApproved { device }, Exit::Refused),
            (Error::Revoked { device }, Exit::Refused),
            (Error::Locked { place: place() }, Exit::Locked),
            (Error::Cloned { device, seq: 4 }, Exit::History),
            (Error::State { place: place(), what: "it is".to_owned() }, Exit::Failed),
            (Error::NoSuchSnapshot { wanted: "ab".to_owned(), ambiguous: false }, Exit::Failed),
            (Error::NoSuchSnapshot { wanted: "ab".to_owned(), ambiguous: true }, Exit::Failed),
            (Error::NoSuchEntry { path: "a".to_owned() }, Exit::Failed),
            (Error::TooMuch { what: "paths" }, Exit::Failed),
            (Error::NoRoom { what: "slots" }, Exit::Refused),
            (Error::SlotGone, Exit::WrongKey),
            (Error::NoSuchLabel { label: "anna".to_owned() }, Exit::Failed),
            (Error::LabelTaken { label: "anna".to_owned() }, Exit::Refused),
            (Error::TooManyPassphrases, Exit::Refused),
            (Error::LastOwner, Exit::Refused),
            (Error::NoSuchRequest, Exit::Failed),
            (Error::DeviceExists { device }, Exit::Refused),
            (Error::EpochChanged, Exit::Failed),
            (Error::Renamed, Exit::Failed),
            (Error::Contended, Exit::Failed),
        ]
    }

    fn store_errors() -> Vec<(store::Error, Exit)> {
        use store::Error;
        let (place, source) = (|| "/vault".to_owned(), || io::Error::other("the disk is on fire"));
        vec![
            (Error::Missing { name: object() }, Exit::Damaged),
            (Error::Exists { name: object() }, Exit::Failed),
            (Error::Short { name: object() }, Exit::Damaged),
            (Error::TooLarge { name: object() }, Exit::Damaged),
            (Error::NotAFile { name: object() }, Exit::Damaged),
            (Error::Full { name: object() }, Exit::Failed),
            (Error::ReadOnly { place: place() }, Exit::Failed),
            (Error::Denied { place: place() }, Exit::Failed),
            (Error::NoVault { place: place() }, Exit::NoVault),
            (Error::NotEmpty { place: place() }, Exit::Refused),
            (Error::NotSealed { place: place() }, Exit::NoVault),
            (Error::Malformed { place: place(), offset: 512, what: "something" }, Exit::Damaged),
            (Error::NoPlace { name: object() }, Exit::Failed),
            (Error::Occupied { place: place() }, Exit::Refused),
            (Error::Busy { place: place() }, Exit::Locked),
            (Error::Changed { place: place() }, Exit::Refused),
            (Error::Unfinished { place: place() }, Exit::Damaged),
            (Error::PartSize { place: place() }, Exit::Usage),
            (Error::NoRoom { place: place() }, Exit::Failed),
            (Error::Io { name: object(), source: source() }, Exit::Failed),
            (Error::Place { place: place(), source: source() }, Exit::Failed),
        ]
    }

    fn place_errors() -> Vec<(place::Error, Exit)> {
        use place::Error;
        let (target, path) = (|| PathBuf::from("/target"), TreePath::root);
        let source = || io::Error::other("the disk is on fire");
        vec![
            (Error::NotEmpty { target: target() }, Exit::Refused),
            (Error::NotDirectory { target: target() }, Exit::Refused),
            (Error::ForeignLink { target: target() }, Exit::Refused),
            (Error::Busy { target: target() }, Exit::Locked),
            (Error::Leftover { staging: target() }, Exit::Refused),
            (Error::Appeared { target: target(), staging: target() }, Exit::Refused),
            (Error::Target { target: target(), tried: "made", source: source() }, Exit::Failed),
            (Error::NoSpace { path: path(), source: source() }, Exit::Failed),
            (Error::Entry { path: path(), tried: "made", source: source() }, Exit::Failed),
        ]
    }

    fn archive_errors() -> Vec<(tree::tar::Error, Exit)> {
        use tree::tar::Error;
        let refused = |why| Error::Refused { name: b"a\nb".as_slice().into(), why };
        vec![
            (Error::Io(io::Error::other("it is gone")), Exit::Failed),
            (Error::NotTar, Exit::Usage),
            (Error::Compressed { with: "gzip -dc" }, Exit::Usage),
            (Error::CutShort, Exit::Damaged),
            (Error::Trailing, Exit::Damaged),
            (Error::Damaged { at: 512, what: "it is" }, Exit::Damaged),
            (Error::TooMuch, Exit::Failed),
            (refused(Why::Twice), Exit::Refused),
            (refused(Why::Absolute), Exit::Refused),
            (refused(Why::Type(b'\n')), Exit::Refused),
            (refused(Why::LinkTarget(b"\x1b[2J".as_slice().into())), Exit::Refused),
        ]
    }

    #[test]
    fn every_error_has_its_exit_code_and_a_hint_and_one_line_of_message() {
        let mut all: Vec<(Failure, Exit)> = Vec::new();
        all.extend(vault_errors().iter().map(|(error, exit)| (error.into(), *exit)));
        all.extend(store_errors().iter().map(|(error, exit)| (error.into(), *exit)));
        all.extend(place_errors().iter().map(|(error, exit)| (error.into(), *exit)));
        all.extend(archive_errors().iter().map(|(error, exit)| (error.into(), *exit)));
        let interrupted = &task::error::Error::Interrupted;
        all.push((interrupted.into(), Exit::Interrupted));
        for (failure, exit) in all {
            assert_eq!(failure.exit, exit, "{failure:?}");
            let hint = failure.hint.as_deref().unwrap_or_default();
            assert!(!hint.is_empty(), "{failure:?}");
            assert!(!hint.ends_with('.') && !failure.message.ends_with('.'), "{failure:?}");
            assert_eq!(failure.text().lines().count(), 2, "{failure:?}");
        }
    }

    #[test]
    fn the_reason_stands_behind_the_message() {
        let error = store::Error::Io { name: object(), source: io::Error::other("the disk is on fire") };
        let failure = Failure::from(error);
        assert_eq!(failure.message, "object p/aa/bb could not be read or written: the disk is on fire");
    }

    #[test]
    fn nothing_in_a_message_moves_a_cursor_and_what_is_escaped_stays() {
        let failure = Failure::new(Exit::Failed, "a\\x1b b\u{1b}[31m\nc").hint("d\u{202e}");
        assert_eq!(failure.text(), "error: a\\x1b b\\x1b[31m\\nc\n  hint: d\\u{202e}\n");
    }

    #[test]
    fn exit_codes_are_the_published_ones() {
        let table = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::SourceIncomplete, 3),
            (Exit::NoVault, 10),
            (Exit::Locked, 11),
            (Exit::WrongKey, 12),
            (Exit::Damaged, 20),
            (Exit::History, 21),
            (Exit::Stale, 22),
            (Exit::RotationIncomplete, 25),
            (Exit::Refused, 26),
            (Exit::Interrupted, 130),
        ];
        for (exit, code) in table {
            assert_eq!(exit.code(), code);
        }
    }

    #[test]
    fn a_program_gets_the_same_in_one_line_of_json() {
        let failure = Failure::usage("no").hint("do");
        assert_eq!(
            failure.json().to_string(),
            r#"{"message_type":"exit_error","schema":1,"code":2,"message":"no","hint":"do"}"#
        );
    }

    #[test]
    fn a_sealed_file_is_called_so_and_a_pipe_no_drive() {
        let failure = Failure::from(vault::error::Error::WrongKey).of_sealed_file();
        assert_eq!(failure.message, "no slot of this file opens with that key");
        assert!(!failure.text().contains("vault"), "{failure:?}");
        let failure = Failure::from(task::error::Error::Interrupted).of_sealed_file();
        assert_eq!(failure.exit, Exit::Interrupted);
        assert!(failure.text().ends_with("the same command begins anew\n"), "{failure:?}");
        let source = io::ErrorKind::BrokenPipe.into();
        let failure = Failure::from(store::Error::Place { place: "the output".to_owned(), source });
        assert!(failure.exit == Exit::Failed && !failure.text().contains("drive"), "{failure:?}");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_silent && failure.exit == Exit::Done);
    }
}

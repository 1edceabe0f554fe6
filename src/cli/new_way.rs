//! A way in that is being made: what locks it, where it comes from, and where its secret is kept.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use crate::cli::args::passphrase_from;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::pages;
use crate::cli::qr::Qr;
use crate::cli::secrets;
use crate::cli::terminal;
use crate::crypto::card::Card;
use crate::crypto::kdf::Argon2Settings;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::recipient;
use crate::crypto::secret::Secret;
use crate::id::Fingerprint;
use crate::tree::path::printable;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::change::DraftSlot;
use crate::vault::error::Error;
use crate::vault::slot;
use crate::vault::slot::CardSet;
use crate::vault::slot::Lock;
use crate::vault::slot::Role;
use crate::vault::slot::SlotKeys;
use crate::vault::slot::Way;

/// The way in to be made; with none of these a new passphrase is asked for.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "The new way in")]
pub struct NewWayArgs {
    /// File that holds the new passphrase
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,

    /// Command that prints the new passphrase; run directly, not by a shell
    #[arg(long, value_name = "COMMAND")]
    new_password_command: Option<String>,

    /// Open file descriptor to read the new passphrase from
    #[arg(long, value_name = "NUMBER")]
    new_password_fd: Option<u32>,

    /// Key file; made if it isn't there. Beside a new passphrase both are needed
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,

    /// A recovery code, shown and typed back
    #[arg(long)]
    new_recovery_code: bool,

    /// A recovery code, written to this file, which must not exist yet
    #[arg(long, value_name = "FILE", conflicts_with = "new_recovery_code")]
    recovery_code_out: Option<PathBuf>,

    /// Cards for N people, any K of whom open the vault together, such as 2/3
    #[arg(long, value_name = "K/N", value_parser = parse_cards, requires = "cards_out")]
    cards: Option<(u8, u8)>,

    /// Folder, made if it isn't there, that the cards are written to, each as a text and a QR code
    #[arg(long, value_name = "FOLDER")]
    cards_out: Option<PathBuf>,

    /// Somebody's own public key, as `age-keygen -pq` makes it: age1pq1...
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Option<String>,

    /// Take a passphrase that is easy to guess
    #[arg(long)]
    allow_weak_passphrase: bool,
}

/// What will lock the new slot.
enum New {
    Locked(Box<Way>),
    Recipient(KemPublicKey),
}

/// A way in whose secret its holder has by now, in his head, in a file or on paper.
pub struct NewWay {
    new: New,
    /// What its holder has to keep, a line each.
    pub keep: Vec<String>,
    /// The files that were written for it.
    files: Vec<PathBuf>,
}

impl NewWayArgs {
    /// Makes the way in: asks, draws, writes files and has codes typed back, before the vault changes.
    ///
    /// # Errors
    /// [`Exit::Usage`] if nothing is given and nobody can be asked, or things are given that make no one
    /// way; [`Exit::Refused`] for a weak passphrase or a file that exists.
    pub fn make(&self, context: &Context, place: &str, fingerprint: &Fingerprint) -> Result<NewWay, Failure> {
        let by_passphrase = self.new_password_file.is_some()
            || self.new_password_command.is_some()
            || self.new_password_fd.is_some();
        let by_code = self.new_recovery_code || self.recovery_code_out.is_some();
        let by_person = by_passphrase || self.new_key_file.is_some();
        let kinds = [by_person, by_code, self.cards.is_some(), self.recipient.is_some()];
        if kinds.iter().filter(|given| **given).count() > 1 {
            return Err(Failure::usage("one slot has one way in")
                .hint("a passphrase and a key file together are one; add the others as slots of their own"));
        }
        if by_code {
            return self.recovery_code(context, place, fingerprint);
        }
        if let Some((threshold, count)) = self.cards {
            return self.deal(threshold, count, fingerprint);
        }
        if let Some(text) = &self.recipient {
            let key = recipient::decode_recipient(text.trim())
                .map_err(|error| Failure::usage(format!("{}: {error}", beginning(text.trim()))))?;
            return Ok(NewWay { new: New::Recipient(key), keep: Vec::new(), files: Vec::new() });
        }
        self.by_person(context, by_passphrase)
    }

    /// Refuses a secret key where a public one belongs, before anything of it is written down.
    ///
    /// # Errors
    /// [`Exit::Usage`], without a character of it.
    pub fn refuse_secret(&self) -> Result<(), Failure> {
        self.recipient.as_deref().map_or(Ok(()), refuse_secret)
    }

    /// What is asked for, as the log of who did what tells it; empty for a passphrase of a person.
    #[must_use]
    pub fn words(&self) -> String {
        if self.new_recovery_code || self.recovery_code_out.is_some() {
            return " --new-recovery-code".to_owned();
        }
        match (&self.cards, &self.recipient) {
            (Some((threshold, count)), _) => format!(" --cards {threshold}/{count}"),
            (None, Some(recipient)) => format!(" --recipient {}", beginning(recipient.trim())),
            (None, None) if self.new_key_file.is_some() => " --new-key-file".to_owned(),
            (None, None) => String::new(),
        }
    }

    /// Where the new key file is, if one is asked for.
    #[must_use]
    pub fn key_file(&self) -> Option<&Path> {
        self.new_key_file.as_deref()
    }

    fn is_of_person(&self) -> bool {
        self.new_password_file.is_some()
            || self.new_password_command.is_some()
            || self.new_password_fd.is_some()
            || self.new_key_file.is_some()
            || self.cards.is_some()
            || self.recipient.is_some()
    }

    /// Makes a person's way in and a recovery code beside it, for commands that make both. What can be known
    /// to fail does so before anything is asked or written.
    ///
    /// # Errors
    /// As [`NewWayArgs::make`].
    pub fn make_with_code(
        &self,
        context: &Context,
        place: &str,
        fingerprint: &Fingerprint,
    ) -> Result<(NewWay, NewWay), Failure> {
        if !terminal::is_there() {
            if !self.is_of_person() {
                return Err(Failure::usage("nothing says what the new way in is, and nobody can be asked")
                    .hint("give --new-password-file, --new-key-file, --cards or --recipient"));
            }
            if self.recovery_code_out.is_none() {
                return Err(no_terminal_for_code());
            }
        }
        if let Some(file) = &self.recovery_code_out {
            pages::check_absent(file)?;
        }
        let person = Self { new_recovery_code: false, recovery_code_out: None, ..self.clone() };
        let person = person.make(context, place, fingerprint)?;
        Ok((person, self.recovery_code(context, place, fingerprint)?))
    }

    fn by_person(&self, context: &Context, by_passphrase: bool) -> Result<NewWay, Failure> {
        let mut way = Way::default();
        let (mut keep, mut files) = (Vec::new(), Vec::new());
        if by_passphrase {
            let new = passphrase_from(
                self.new_password_file.as_deref(),
                self.new_password_command.as_deref(),
                self.new_password_fd,
            )?;
            // Beside a key file a passphrase can't be guessed without the file.
            secrets::check_strength(&new, self.allow_weak_passphrase || self.new_key_file.is_some())?;
            way.passphrase = Some(new);
        }
        if let Some(path) = &self.new_key_file {
            let is_there = path.symlink_metadata().is_ok();
            let secret = if is_there { secrets::read_key_file(path)? } else { pages::create_key_file(path)? };
            way.key_file = Some(secret);
            files.extend((!is_there).then(|| path.clone()));
            keep.push(format!("{} key file {}", if is_there { "the" } else { "the new" }, shown(path)));
        }
        if way.passphrase.is_none() && way.key_file.is_none() {
            if !terminal::is_there() {
                return Err(Failure::usage("nothing says what the new way in is, and nobody can be asked")
                    .hint(
                        "give --new-password-file, --new-key-file, --recovery-code-out, --cards or --recipient",
                    ));
            }
            way.passphrase = Some(secrets::new_passphrase(self.allow_weak_passphrase)?);
        }
        way.allow_expensive_kdf = context.secrets.allow_expensive_kdf;
        Ok(NewWay { new: New::Locked(Box::new(way)), keep, files })
    }

    fn recovery_code(
        &self,
        context: &Context,
        place: &str,
        fingerprint: &Fingerprint,
    ) -> Result<NewWay, Failure> {
        let code = Secret::<20>::generate();
        let keep = match &self.recovery_code_out {
            Some(path) => {
                let page = match context.sealed.draft() {
                    Some(_) => pages::file_recovery_page(place, fingerprint, &code),
                    None => pages::recovery_page(place, fingerprint, &code),
                };
                pages::write_new(path, page.as_bytes())?;
                format!("the recovery code, now in {}: move it away", shown(path))
            }
            None if !terminal::is_there() => {
                return Err(no_terminal_for_code());
            }
            None => {
                secrets::confirm_recovery_code(&code)?;
                "the recovery code, on paper".to_owned()
            }
        };
        let way = Way { recovery_code: Some(code), ..Way::default() };
        let files = self.recovery_code_out.iter().cloned().collect();
        Ok(NewWay { new: New::Locked(Box::new(way)), keep: vec![keep], files })
    }

    fn deal(&self, threshold: u8, count: u8, fingerprint: &Fingerprint) -> Result<NewWay, Failure> {
        let folder = self.cards_out.as_deref().unwrap_or(Path::new("."));
        let (secret, cards) =
            Card::deal(threshold, count).map_err(|error| Failure::usage(error.to_string()))?;
        let set = cards.first().map(Card::set).unwrap_or_default();
        // Whoever looks into it reads them all.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| Failure::io(shown(folder), &error))?;
        let mut files = Vec::new();
        for card in &cards {
            let file = |ending: &str| folder.join(format!("card-{}-of-{count}.{ending}", card.index()));
            pages::write_new(&file("txt"), card_page(card, fingerprint).as_bytes())?;
            files.push(file("txt"));
            if let Some(qr) = Qr::new(&card.encode()) {
                pages::write_new(&file("svg"), qr.svg().as_bytes())?;
                files.push(file("svg"));
            }
        }
        let keep = format!(
            "{count} cards, now in {}: give each to another person, {threshold} of whom open the vault \
             together, and delete the files",
            shown(folder)
        );
        let cards = Some(CardSet { set, threshold, count, secret });
        let way = Way { cards, ..Way::default() };
        Ok(NewWay { new: New::Locked(Box::new(way)), keep: vec![keep], files })
    }
}

fn no_terminal_for_code() -> Failure {
    Failure::usage("there is no terminal to show the recovery code at")
        .hint("`--recovery-code-out FILE` writes it to a file")
}

/// One card as a page of text.
fn card_page(card: &Card, fingerprint: &Fingerprint) -> Zeroizing<String> {
    let text = card.encode();
    let drawn = Qr::new(&text).map(|qr| qr.plain()).unwrap_or_default();
    let head = format!(
        "strongroom card {} of {}; any {} of them open the vault together\n\nvault:  {}\n\ncard:\n\n    ",
        card.index(),
        card.count(),
        card.threshold(),
        crate::crypto::text::fingerprint_words(fingerprint),
    );
    let parts = [head.as_str(), &text, "\n\n", &drawn, "\n"];
    let mut page = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        page.push_str(part);
    }
    page
}

impl NewWay {
    /// The slot that this way opens.
    ///
    /// # Errors
    /// [`Error::Memory`] if a passphrase takes more memory than there is.
    pub fn slot(&self, fingerprint: &Fingerprint, role: Role, label: &str) -> Result<Locked, Error> {
        let (keys, lock) = match &self.new {
            New::Recipient(key) => slot::for_recipient(key.clone(), label),
            New::Locked(way) => slot::generate(fingerprint, role, way, &Argon2Settings::DEFAULT, label)?,
        };
        Ok(Locked { role, keys, lock })
    }

    /// Refuses a key that is a way in already: who takes one of its slots away would think that its holder is
    /// shut out. A passphrase isn't tried on other people's slots.
    ///
    /// # Errors
    /// [`Exit::Refused`] naming the slot that it opens; as [`Vault::slot_of`].
    pub fn check_new(&self, vault: &Vault) -> Result<(), Failure> {
        let slots = &vault.admin()?.slots;
        let (opens, what) = match &self.new {
            New::Recipient(key) => {
                (slots.iter().find(|slot| slot.kem_key == *key).map(|slot| slot.id), "this recipient's key")
            }
            New::Locked(way) => (vault.slot_of(way)?, "this key"),
        };
        let Some(slot) = opens else { return Ok(()) };
        let label = vault.slot_label(slot).map_or_else(|| slot.short(), |label| printable(label.as_bytes()));
        Err(Failure::new(Exit::Refused, format!("{what} opens slot {label} already"))
            .hint("nothing was changed; give another key, as whoever holds this one would keep it when one slot goes"))
    }

    /// Says with an error that ended the change what becomes of what was made for it.
    #[must_use]
    pub fn unused(ways: &[&Self], error: Error, what_opens: &str) -> Failure {
        let files: Vec<String> = ways.iter().flat_map(|way| &way.files).map(|file| shown(file)).collect();
        let mut now = format!("{what_opens}, and what was made now opens nothing");
        if !files.is_empty() {
            now.push_str(&format!(": delete {}", files.join(", ")));
        }
        let failure = Failure::from(error);
        let hint = failure.hint.as_deref().map_or_else(|| now.clone(), |hint| format!("{now}; {hint}"));
        failure.hint(hint)
    }

    /// Opens the vault with what its holder has by now, to know that it does. Nothing for an outside recipient,
    /// whose key is his own and can't be tried.
    ///
    /// # Errors
    /// As [`LockedVault::unlock`].
    pub fn open(&self, vault: LockedVault) -> Result<Option<Vault>, Error> {
        match &self.new {
            New::Recipient(_) => Ok(None),
            New::Locked(way) => vault.unlock(way).map(Some),
        }
    }
}

/// A slot that is locked and not yet in the vault.
pub struct Locked {
    role: Role,
    keys: SlotKeys,
    lock: Lock,
}

impl Locked {
    /// The words for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.lock.word()
    }

    /// The same for a draft, which may be thought out more than once.
    #[must_use]
    pub fn draft(&self) -> DraftSlot {
        DraftSlot { role: self.role, keys: self.keys.duplicate(), lock: self.lock.clone() }
    }
}

/// Refuses what is somebody's secret key and was given for the public one.
///
/// # Errors
/// [`Exit::Usage`], without a character of it.
pub fn refuse_secret(text: &str) -> Result<(), Failure> {
    if !recipient::is_secret(text) {
        return Ok(());
    }
    Err(Failure::usage(recipient::Error::Secret.to_string()).hint(
        "whoever could see the command has it now: make another one with `age-keygen -pq`, which prints its public key",
    ))
}

/// As much of a recipient, which has 1,959 characters, as tells it from others.
fn beginning(text: &str) -> String {
    const SHOWN: usize = 24;
    let shown: String = text.chars().take(SHOWN).collect();
    let rest = if text.chars().nth(SHOWN).is_some() { "..." } else { "" };
    format!("{}{rest}", printable(shown.as_bytes()))
}

fn parse_cards(text: &str) -> Result<(u8, u8), String> {
    let wrong = || format!("{text:?} is no number of cards: write 2/3 for any 2 of 3");
    let (threshold, count) = text.split_once('/').ok_or_else(wrong)?;
    let (threshold, count) = (threshold.parse().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?);
    if threshold < 2 || threshold > count {
        return Err(format!("{text:?}: at least 2 cards are needed, and no more than there are"));
    }
    Ok((threshold, count))
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// What a label must be like.
///
/// # Errors
/// [`Exit::Usage`] if it is empty or too long.
pub fn check_label(label: &str) -> Result<(), Failure> {
    if label.is_empty() || label.len() > crate::vault::change::LABEL_BYTES_MAX {
        return Err(Failure::new(Exit::Usage, "a name has 1 to 255 bytes"));
    }
    Ok(())
}

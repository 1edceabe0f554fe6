//! Secrets from a terminal, a file, a descriptor or a command; never from the arguments (R-40).

use std::fs::File;
use std::io;
use std::io::IsTerminal as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::render;
use crate::cli::terminal::Input;
use crate::cli::terminal::TRIES;
use crate::cli::terminal::ask_hidden;
use crate::cli::terminal::ask_shown;
use crate::cli::terminal::is_there;
use crate::cli::terminal::read_to_end;
use crate::cli::terminal::show;
use crate::cli::terminal::tell;
use crate::cli::trusted;
use crate::cli::trusted::Kept;
use crate::cli::trusted::shown;
use crate::crypto::age;
use crate::crypto::age::EncryptedFile;
use crate::crypto::card;
use crate::crypto::card::Card;
use crate::crypto::digest;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::recipient;
use crate::crypto::secret::Secret;
use crate::crypto::secret::SecretBytes;
use crate::crypto::shamir;
use crate::crypto::text;
use crate::vault::slot::CardSet;

/// The longest passphrase, in bytes.
const PASSPHRASE_BYTES_MAX: usize = 1_024;
/// The most that is read for a secret, in bytes: a page with a recovery code and words around it.
const SECRET_FILE_BYTES_MAX: usize = 64 << 10;
/// The words of a passphrase that we draw: 110 bits.
const PASSPHRASE_WORDS: usize = 10;
/// zxcvbn's scores go from 0 to 4; below this one a passphrase falls to a patient guesser.
const SCORE_MIN: u8 = 3;

/// Asks for the passphrase of a vault.
///
/// # Errors
/// If the terminal gives none.
pub fn ask_passphrase(prompt: &str) -> Result<SecretBytes, Failure> {
    passphrase(&ask_hidden(prompt)?)
}

/// Asks for a new passphrase, or draws one that the person keeps.
///
/// # Errors
/// If none comes of it.
pub fn new_passphrase(allow_weak: bool) -> Result<SecretBytes, Failure> {
    tell("Choose a passphrase, or press Enter to have one made.");
    for _ in 0..TRIES {
        let typed = ask_hidden("New passphrase: ")?;
        if typed.is_empty() {
            return generated_passphrase();
        }
        let new = match passphrase(&typed) {
            Ok(new) => new,
            Err(failure) => {
                tell(&format!("{}.", failure.message));
                continue;
            }
        };
        let strength = Strength::of(&new);
        tell(&strength.words());
        if !strength.is_enough() && !allow_weak {
            tell("Choose a longer one, or press Enter to have one made.");
            continue;
        }
        let again = ask_hidden("The same again: ")?;
        // What is no passphrase at all is not the same either.
        let is_same = |again: SecretBytes| new.expose(|new| again.expose(|again| digest::equal(new, again)));
        if passphrase(&again).is_ok_and(is_same) {
            return Ok(new);
        }
        tell("These were not the same. Once more, from the start.");
    }
    Err(Failure::new(Exit::Failed, "no passphrase was set")
        .hint("nothing was made; run it again when you are ready"))
}

fn generated_passphrase() -> Result<SecretBytes, Failure> {
    let made = text::generate_passphrase(PASSPHRASE_WORDS);
    tell("\nYour passphrase. Write it down now: it is not shown again.");
    show(&made);
    for _ in 0..TRIES {
        let typed = ask_shown("Type it back: ")?;
        if typed.expose(|typed| are_same_words(typed, &made)) {
            return passphrase(&SecretBytes::from_slice(made.as_bytes()));
        }
        tell("That is not what stands above.");
    }
    Err(Failure::new(Exit::Failed, "the passphrase was not typed back")
        .hint("nothing was made; run it again"))
}

/// Whether somebody typed these words, in whatever case and with whatever blanks between.
fn are_same_words(typed: &[u8], words: &str) -> bool {
    let Ok(typed) = std::str::from_utf8(typed) else { return false };
    let same = |(one, other): (&str, &str)| one.eq_ignore_ascii_case(other);
    typed.split_whitespace().count() == words.split_whitespace().count()
        && typed.split_whitespace().zip(words.split_whitespace()).all(same)
}

/// How long a passphrase withstands guessing, as zxcvbn estimates it.
struct Strength {
    /// 0 to 4.
    score: u8,
    /// How many guesses find it, as a power of ten.
    guesses_log10: f64,
    /// What is weak about it, and what would help.
    advice: Vec<String>,
}

impl Strength {
    fn of(new: &SecretBytes) -> Self {
        let estimate = new.expose(|new| {
            let text = std::str::from_utf8(new).expect("a passphrase is UTF-8");
            zxcvbn::zxcvbn(text, &["strongroom", "backup", "vault"])
        });
        let feedback = estimate.feedback();
        let warning = feedback.and_then(|feedback| feedback.warning()).map(|warning| warning.to_string());
        let suggestions = feedback.map(|feedback| feedback.suggestions()).unwrap_or_default();
        let advice = warning.into_iter().chain(suggestions.iter().map(ToString::to_string)).collect();
        Self { score: u8::from(estimate.score()), guesses_log10: estimate.guesses_log10(), advice }
    }

    fn is_enough(&self) -> bool {
        self.score >= SCORE_MIN
    }

    /// One line: the verdict, the estimate behind it, and advice if there is any.
    fn words(&self) -> String {
        let verdict = match self.score {
            0 | 1 => "very weak",
            2 => "weak",
            3 => "good",
            _ => "strong",
        };
        let mut text = format!("This passphrase is {verdict}: {} find it.", guesses(self.guesses_log10));
        for advice in &self.advice {
            text.push(' ');
            text.push_str(advice.trim_end_matches('.'));
            text.push('.');
        }
        text
    }
}

/// A number of guesses in words.
#[allow(clippy::cast_possible_truncation, reason = "a power of ten below 10^5")]
fn guesses(log10: f64) -> String {
    match log10.round().max(0.0) {
        ..1.0 => "a few guesses".to_owned(),
        few @ ..5.0 => format!("about {} guesses", render::count(10_f64.powf(few) as u64)),
        many => format!("about 10^{many:.0} guesses"),
    }
}

/// Refuses a passphrase that a patient guesser finds.
///
/// # Errors
/// [`Exit::Refused`] with what is weak about it, unless `allow_weak`.
pub fn check_strength(new: &SecretBytes, allow_weak: bool) -> Result<(), Failure> {
    let strength = Strength::of(new);
    if strength.is_enough() || allow_weak {
        return Ok(());
    }
    let words = strength.words();
    let message = words.trim_end_matches('.').replacen('T', "t", 1);
    Err(Failure::new(Exit::Refused, message)
        .hint("several unrelated words are strong; `--allow-weak-passphrase` takes it all the same"))
}

/// Shows a recovery code and has it typed back.
///
/// # Errors
/// [`Exit::Failed`] if it isn't.
pub fn confirm_recovery_code(code: &Secret<20>) -> Result<(), Failure> {
    tell("\nYour recovery code. It opens the vault when every other way in is lost.");
    tell("Write it on paper, and keep it apart from this machine and from the vault.");
    show(&text::encode_recovery_code(code));
    for _ in 0..TRIES {
        let typed = ask_shown("Type it back from the paper: ")?;
        let typed = typed.expose(|typed| {
            // What isn't text has characters that no code has, and is told so.
            text::decode_recovery_code(std::str::from_utf8(typed).unwrap_or("\u{fffd}"))
        });
        match typed {
            Ok(typed) if typed.expose(|typed| code.expose(|code| digest::equal(typed, code))) => {
                return Ok(());
            }
            Ok(_) => tell("That is another code."),
            Err(error) => tell(&format!("That is not it: {error}.")),
        }
    }
    Err(Failure::new(Exit::Failed, "the recovery code was not typed back")
        .hint("nothing was made; run it again"))
}

/// Reads a passphrase file.
///
/// # Errors
/// If it isn't there, others can read or change it, or it holds no passphrase.
pub fn read_password_file(path: &Path) -> Result<SecretBytes, Failure> {
    passphrase(&read_secret_file(path)?)
        .map_err(|failure| Failure { message: format!("{}: {}", shown(path), failure.message), ..failure })
}

/// Reads a passphrase from a descriptor that the caller has opened.
///
/// # Errors
/// If it isn't open or gives no passphrase; [`Exit::Usage`] for a terminal, which would show what is typed.
pub fn read_password_fd(number: u32) -> Result<SecretBytes, Failure> {
    let failed = |error: io::Error| Failure::io(format!("descriptor {number} could not be read"), &error);
    let terminal = || {
        Failure::usage(format!("descriptor {number} is a terminal, which shows what is typed"))
            .hint("without --password-fd you are asked, and nothing is shown")
    };
    let bytes = if number == 0 {
        if io::stdin().is_terminal() {
            return Err(terminal());
        }
        read_to_end(&mut Input, SECRET_FILE_BYTES_MAX)
    } else {
        // To take the descriptor itself would need `unsafe`: who promises that nothing else owns it?
        let mut file = File::open(format!("/proc/self/fd/{number}")).map_err(failed)?;
        if file.is_terminal() {
            return Err(terminal());
        }
        read_to_end(&mut file, SECRET_FILE_BYTES_MAX)
    };
    let too_long = || Failure::usage(format!("descriptor {number} gives more than a passphrase"));
    passphrase(&bytes.map_err(failed)?.ok_or_else(too_long)?)
}

/// Runs a command and takes what it prints for the passphrase. No shell is involved.
///
/// # Errors
/// If it can't be run, fails or prints no passphrase.
pub fn run_password_command(command: &str) -> Result<SecretBytes, Failure> {
    let words = split_words(command)?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::usage("the password command is empty"));
    };
    let program_shown = one_line(program);
    let failed = |error: io::Error| {
        Failure::io(format!("the password command {program_shown} could not be run"), &error)
    };
    // It may ask for something itself, so it keeps the terminal.
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut printed = child.stdout.take().expect("its output was asked for as a pipe");
    let bytes = read_to_end(&mut printed, SECRET_FILE_BYTES_MAX);
    // Closed before the command is waited for, or one that prints for ever would never end.
    drop(printed);
    let status = child.wait().map_err(failed)?;
    let Some(bytes) = bytes.map_err(failed)? else {
        return Err(Failure::new(
            Exit::Failed,
            format!("the password command {program_shown} prints more than a passphrase"),
        ));
    };
    if !status.success() {
        return Err(Failure::new(
            Exit::Failed,
            format!("the password command {program_shown} failed: {status}"),
        ));
    }
    passphrase(&bytes).map_err(|failure| Failure {
        message: format!("the password command {program_shown}: {}", failure.message),
        ..failure
    })
}

/// Splits a command as a shell would, without anything else that a shell does.
///
/// # Errors
/// [`Exit::Usage`] if a quote isn't closed, or nothing follows a backslash.
///
/// Source: quoting, POSIX.1-2024, Shell Command Language §2.2.
fn split_words(command: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), character) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let Some(next) = characters.next() else {
                    return Err(Failure::usage("the password command ends in a backslash"));
                };
                let word = word.get_or_insert_default();
                // Between double quotes a backslash is one of its own before all other characters.
                if quote.is_some() && !matches!(next, '$' | '`' | '"' | '\\') {
                    word.push('\\');
                }
                word.push(next);
            }
            (None, character) if character.is_whitespace() => words.extend(word.take()),
            (_, character) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err(Failure::usage("a quote in the password command isn't closed"));
    }
    words.extend(word);
    Ok(words)
}

/// Reads a key file.
///
/// # Errors
/// If it isn't there, others can read or change it, or strongroom didn't make it.
pub fn read_key_file(path: &Path) -> Result<Secret<32>, Failure> {
    let bytes = read_secret_file(path)?;
    bytes.expose(text::decode_key_file).map_err(|error| {
        let failure = Failure::usage(format!("{}: {error}", shown(path)));
        match error {
            text::Error::KeyFileNewer => failure.hint("install a newer strongroom"),
            text::Error::KeyFileCheck => failure.hint("take another copy of it"),
            _ => failure.hint("`strongroom init --key-file` makes one if the file doesn't exist"),
        }
    })
}

/// Reads a file that holds a recovery code, with or without words around it.
///
/// # Errors
/// If it isn't there, others can read or change it, or it holds no code.
pub fn read_recovery_code(path: &Path) -> Result<Secret<20>, Failure> {
    let bytes = read_secret_file(path)?;
    bytes.expose(|bytes| {
        let page = std::str::from_utf8(bytes)
            .map_err(|_| Failure::usage(format!("{} is not a text with a recovery code", shown(path))))?;
        text::find_recovery_code(page).map_err(|error| Failure::usage(format!("{}: {error}", shown(path))))
    })
}

/// Reads the secret that the cards in files share; nothing if no file is given.
///
/// # Errors
/// As [`read_each_card`]; [`Exit::Usage`] if one is there twice; [`Exit::WrongKey`] if they are of different sets or too
/// few.
pub fn read_cards(files: &[PathBuf]) -> Result<Option<CardSet>, Failure> {
    let cards = read_each_card(files)?;
    if cards.is_empty() { Ok(None) } else { join_cards(&cards).map(Some) }
}

/// Reads cards out of files: a card on each line, with or without words around them.
///
/// # Errors
/// [`Exit::Usage`] if a card is mistyped, or a file holds none.
pub fn read_each_card(files: &[PathBuf]) -> Result<Vec<Card>, Failure> {
    let mut cards = Vec::new();
    for path in files {
        let before = cards.len();
        let page = read_secret_file(path)?;
        page.expose(|page| {
            let page = std::str::from_utf8(page)
                .map_err(|_| Failure::usage(format!("{} is not a text with a card", shown(path))))?;
            for line in page.lines().filter(|line| Card::is_like(line)) {
                cards.push(read_card(line, &shown(path))?);
            }
            Ok::<_, Failure>(())
        })?;
        if cards.len() == before {
            return Err(Failure::usage(format!("{} holds no card", shown(path))).hint(
                "a card is one line that begins with STRONGROOM-CARD-1: and goes on with 72 characters",
            ));
        }
    }
    Ok(cards)
}

/// Reads one card.
///
/// # Errors
/// [`Exit::Usage`] naming where it came from.
pub fn read_card(text: &str, from: &str) -> Result<Card, Failure> {
    Card::decode(text.trim()).map_err(|error| {
        let failure = Failure::usage(format!("{from}: {error}"));
        match error {
            card::Error::Newer => failure,
            _ => failure.hint(
                "compare it with the paper letter by letter, and with its QR code; any other cards of the set do as \
                 well, if they are enough",
            ),
        }
    })
}

/// The secret that cards have together.
///
/// # Errors
/// As [`read_cards`].
pub fn join_cards(cards: &[Card]) -> Result<CardSet, Failure> {
    let secret = card::join_cards(cards).map_err(|error| {
        // One card that is given twice is a slip; all else is good cards that aren't the key.
        let exit = match error {
            card::Error::Shares(shamir::Error::Twice(_)) => Exit::Usage,
            _ => Exit::WrongKey,
        };
        Failure::new(exit, error.to_string()).hint("give enough cards of one set, each with --card-file")
    })?;
    let first = cards.first().ok_or_else(|| Failure::usage("no card was given"))?;
    Ok(CardSet { set: first.set(), threshold: first.threshold(), count: first.count(), secret })
}

/// Reads identity files, as `age-keygen -pq` makes them and as `age -p` encrypts those. Of the latter the
/// passphrase is asked for.
///
/// # Errors
/// If one isn't there, others can read or change it, it holds no identity, or it is encrypted and doesn't open.
pub fn read_identities(files: &[PathBuf]) -> Result<Vec<KemSecretKey>, Failure> {
    let mut identities = Vec::new();
    for path in files {
        let mut bytes = read_secret_file(path)?;
        if bytes.expose(age::is_encrypted) {
            bytes = decrypt_identity_file(&bytes, &shown(path))?;
        }
        let found = bytes.expose(recipient::decode_identity_file);
        let is_key_file = bytes.expose(|bytes| text::decode_key_file(bytes).is_ok());
        identities.extend(found.map_err(|error| no_identity(&shown(path), error, is_key_file))?);
    }
    Ok(identities)
}

/// Says of a file that gives no identities why, and what it may be.
fn no_identity(shown: &str, error: recipient::FileError, is_key_file: bool) -> Failure {
    if is_key_file {
        return Failure::usage(format!("{shown} is a key file that strongroom made, and no identity of age"))
            .hint("give it with `--key-file`");
    }
    let recipient::FileError::Line(_, why) = error else {
        return Failure::usage(format!("{shown}: {error}"));
    };
    let failure = Failure::usage(format!("{shown}: {error}: {why}"));
    match why {
        recipient::Error::OtherIdentity => failure.hint(
            "slots are sealed to keys that `age-keygen -pq` makes: give that key; this one opens nothing here",
        ),
        _ => failure.hint("an identity file is what `age-keygen -pq` writes"),
    }
}

/// Asks for the passphrase of an identity file, and decrypts it. The options for the vault's passphrase
/// don't speak of this one, which is another.
///
/// # Errors
/// [`Exit::Usage`] if there is nobody to ask, or no passphrase opens such a file; [`Exit::Refused`] if to try
/// one costs too much; [`Exit::WrongKey`] if it is wrong; [`Exit::Damaged`] if the rest of the file is.
fn decrypt_identity_file(file: &SecretBytes, shown: &str) -> Result<SecretBytes, Failure> {
    let failure = |error| identity_file_failure(shown, error);
    let file = file.expose(EncryptedFile::decode).map_err(failure)?;
    if !is_there() {
        let message = format!("{shown} is encrypted, and there is no terminal to ask for its passphrase at");
        return Err(Failure::usage(message).hint(DECRYPT_HINT));
    }
    // Not as the vault's passphrases are taken: age leaves one as it is typed.
    let typed = ask_hidden(&format!("Passphrase for the identity file {shown}: "))?;
    file.open(&typed).map_err(failure)
}

const DECRYPT_HINT: &str = "decrypt it with `age -d`; a shell's `-i <(age -d FILE)` leaves no copy of it";

fn identity_file_failure(shown: &str, error: age::Error) -> Failure {
    let (exit, hint) = match error {
        age::Error::WrongPassphrase => {
            (Exit::WrongKey, "it is the one that `age -p` asked for, not one of a vault")
        }
        age::Error::Damaged => (Exit::Damaged, "take another copy of it"),
        age::Error::TooExpensive => (Exit::Refused, DECRYPT_HINT),
        age::Error::Memory(_) => (Exit::Failed, "close other programs, or use a larger machine"),
        age::Error::Format | age::Error::TooLong => (Exit::Usage, "take another copy of it"),
        age::Error::Newer | age::Error::Recipients => (Exit::Usage, DECRYPT_HINT),
    };
    Failure::new(exit, format!("{shown}: {error}")).hint(hint)
}

/// Reads a file that nobody but this user and root may read or change (R-32, R-40).
fn read_secret_file(path: &Path) -> Result<SecretBytes, Failure> {
    let mut file = trusted::open(path, Kept::Secret)?;
    let read = read_to_end(&mut file, SECRET_FILE_BYTES_MAX);
    let read = read.map_err(|error| Failure::io(format!("{} could not be read", shown(path)), &error))?;
    read.ok_or_else(|| Failure::usage(format!("{} is too large to hold a secret", shown(path))))
}

/// Takes bytes for a passphrase: UTF-8 in NFC, without one line end, neither empty nor endless.
fn passphrase(bytes: &SecretBytes) -> Result<SecretBytes, Failure> {
    bytes.expose(|bytes| {
        let text =
            std::str::from_utf8(bytes).map_err(|_| Failure::usage("the passphrase is not UTF-8 text"))?;
        let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if line.is_empty() {
            return Err(Failure::usage("the passphrase is empty"));
        }
        if line.len() > PASSPHRASE_BYTES_MAX {
            return Err(Failure::usage(format!("the passphrase has over {PASSPHRASE_BYTES_MAX} bytes")));
        }
        // NFC triples the bytes of a text at most, Unicode Standard Annex #15 §9.
        let mut normal = Zeroizing::new(String::with_capacity(3 * line.len()));
        normal.extend(line.nfc());
        Ok(SecretBytes::from_slice(normal.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pages::write_new;
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::PermissionsExt as _;

    fn exposed(text: &str) -> Option<Vec<u8>> {
        passphrase(&SecretBytes::from_slice(text.as_bytes())).ok().map(|secret| secret.expose(<[u8]>::to_vec))
    }

    fn exit<T>(result: Result<T, Failure>) -> Option<Exit> {
        result.err().map(|failure| failure.exit)
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_passphrase_loses_one_line_end_and_is_the_same_however_its_accents_are_typed() {
        assert_eq!(exposed("secret\n"), Some(b"secret".to_vec()));
        assert_eq!(exposed("secret\r\n"), Some(b"secret".to_vec()));
        assert_eq!(exposed(" secret \n\n"), Some(b" secret \n".to_vec()));
        assert_eq!(exposed("secret\r"), Some(b"secret\r".to_vec()));
        assert_eq!(exposed("u\u{308}"), exposed("\u{fc}"));
    }

    #[test]
    fn a_passphrase_is_neither_empty_nor_endless_nor_bytes() {
        assert_eq!(exposed(""), None);
        assert_eq!(exposed("\n"), None);
        assert_eq!(exposed(&"x".repeat(1_024)).map(|bytes| bytes.len()), Some(1_024));
        assert_eq!(exposed(&"x".repeat(1_025)), None);
        assert_eq!(exit(passphrase(&SecretBytes::from_slice(b"\xff"))), Some(Exit::Usage));
    }

    #[test]
    fn a_command_is_split_as_a_shell_would_and_no_shell_runs() {
        let words = |text: &str| split_words(text).map(|words| words.join("|")).ok();
        for (command, split) in [
            ("pass show vault", "pass|show|vault"),
            ("  a\t'b c'  \"d e\" ", "a|b c|d e"),
            ("a\\ b 'c\\d' \"e\\f\\\"g\\$h\"", "a b|c\\d|e\\f\"g$h"),
            ("a'b'\"c\"d ''", "abcd|"),
            ("echo $HOME;ls *", "echo|$HOME;ls|*"),
            ("", ""),
        ] {
            assert_eq!(words(command).as_deref(), Some(split), "{command}");
        }
        for refused in ["a 'b", "a \"b", "a \\"] {
            assert_eq!(words(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_command_gives_the_passphrase_that_it_prints() {
        let run = |command: &str| run_password_command(command).map(|secret| secret.expose(<[u8]>::to_vec));
        assert_eq!(run("printf 'correct horse\\n'"), Ok(b"correct horse".to_vec()));
        assert_eq!(exit(run("false")), Some(Exit::Failed));
        assert_eq!(exit(run("true")), Some(Exit::Usage));
        assert_eq!(exit(run("")), Some(Exit::Usage));
        assert_eq!(exit(run("/no/such/program")), Some(Exit::Failed));
    }

    #[test]
    fn a_command_that_prints_for_ever_is_given_up() {
        assert_eq!(exit(run_password_command("yes")), Some(Exit::Failed));
    }

    #[test]
    fn a_descriptor_gives_the_passphrase_that_was_written_to_it() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"correct horse\n").unwrap();
        drop(writer);
        let number = u32::try_from(reader.as_raw_fd()).unwrap();
        let read = read_password_fd(number).map(|secret| secret.expose(<[u8]>::to_vec));
        assert_eq!(read, Ok(b"correct horse".to_vec()));
        assert_eq!(exit(read_password_fd(1_000_000)), Some(Exit::Failed));
    }

    #[test]
    fn a_generated_passphrase_is_typed_back_in_any_case_and_with_any_blanks() {
        assert!(are_same_words(b" Violet\tANCHOR  tundra\r", "violet anchor tundra"));
        for wrong in [&b"violet anchor"[..], b"violet anchor tundra kettle", b"violet anchor tundrb", b"\xff"]
        {
            assert!(!are_same_words(wrong, "violet anchor tundra"));
        }
    }

    #[test]
    fn weak_passphrases_are_refused_unless_insisted_on() {
        let weak = SecretBytes::new(b"password1".to_vec());
        let failure = check_strength(&weak, false).err().unwrap();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(
            failure.message.starts_with("this passphrase is very weak: about 100 guesses find it. "),
            "{}",
            failure.message
        );
        assert!(!failure.message.contains("password1"));
        assert_eq!((guesses(0.2), guesses(4.1)), ("a few guesses".into(), "about 10,000 guesses".into()));
        assert_eq!(guesses(11.6), "about 10^12 guesses");
        assert!(check_strength(&weak, true).is_ok());
        let made = text::generate_passphrase(PASSPHRASE_WORDS);
        assert!(check_strength(&SecretBytes::from_slice(made.as_bytes()), false).is_ok());
    }

    #[test]
    fn a_secret_that_others_can_read_or_change_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        write_new(&path, b"correct horse\n").unwrap();
        for mode in [0o640, 0o620, 0o604, 0o602, 0o644] {
            set_mode(&path, mode);
            assert_eq!(exit(read_password_file(&path)), Some(Exit::Refused), "{mode:o}");
        }
        set_mode(&path, 0o400);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_password_file(&link).is_ok());
    }

    #[test]
    fn what_is_no_secret_file_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(exit(read_password_file(&path)), Some(Exit::Failed));
        assert_eq!(exit(read_password_file(folder.path())), Some(Exit::Usage));
        assert_eq!(exit(read_password_file(Path::new("/dev/zero"))), Some(Exit::Usage));
        write_new(&path, &[b'x'; SECRET_FILE_BYTES_MAX + 1]).unwrap();
        let failure = read_password_file(&path).err().unwrap();
        assert!(failure.message.ends_with("is too large to hold a secret"), "{}", failure.message);
        assert_eq!(exit(read_key_file(&path)), Some(Exit::Usage));
    }
}

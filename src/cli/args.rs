//! Flags that several commands share, turned into the library's types.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::secrets;
use crate::crypto::secret::SecretBytes;
use crate::crypto::text;
use crate::id::Fingerprint;
use crate::id::VaultId;
use crate::vault::receipt::Receipt;
use crate::vault::slot::Way;

/// Which vault.
#[derive(Args, Clone, Debug)]
pub struct VaultArgs {
    /// Folder of the vault; without it the default one, ~/.local/share/strongroom/vault
    #[arg(
        short = 'r',
        long,
        visible_alias = "repo",
        env = "STRONGROOM_VAULT",
        hide_env_values = true,
        value_name = "FOLDER",
        global = true
    )]
    pub vault: Option<OsString>,

    /// The vault's fingerprint in base32 or hex; nothing happens if the vault has another
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse_fingerprint, global = true)]
    pub fingerprint: Option<Fingerprint>,

    /// If two histories claim the vault, keep the one that this machine has seen; or the one with this record,
    /// by the beginning of its digest; or the one of this receipt. For commands that take an owner's key and
    /// change something
    #[arg(
        long,
        value_name = "DIGEST|RECEIPT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_parser = parse_settle,
        global = true
    )]
    pub settle_fork: Option<Settle>,
}

/// Which of two histories of a vault is to stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settle {
    /// As this machine has seen, or as it follows from what there is.
    Decided,
    /// The one with the record whose digest begins so.
    Record(String),
    /// The one that a receipt names.
    Receipt(Receipt),
}

fn parse_settle(given: &str) -> Result<Settle, String> {
    if let Some(receipt) = Receipt::parse(given) {
        return Ok(Settle::Receipt(receipt));
    }
    let digits = given.to_ascii_lowercase();
    match digits.len() {
        0 => Ok(Settle::Decided),
        DIGITS_MIN..=64 if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(Settle::Record(digits)),
        _ => Err(format!("give {DIGITS_MIN} or more hex digits of a record's digest, or a receipt")),
    }
}

/// The fewest hex digits by which a record is called.
const DIGITS_MIN: usize = 4;

/// How results are shown.
#[derive(Args, Clone, Debug)]
pub struct OutputArgs {
    /// Print JSON, one message a line
    #[arg(long, global = true)]
    pub json: bool,

    /// Print results and problems only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print more; twice for every file
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,

    /// Draw no progress bar
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// What opens a vault. A secret itself never stands in the arguments or the environment.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Ways in")]
pub struct SecretArgs {
    /// File that holds the passphrase [env: STRONGROOM_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub password_file: Option<PathBuf>,

    /// Command that prints the passphrase; run directly, not by a shell [env: STRONGROOM_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", global = true)]
    pub password_command: Option<String>,

    /// Open file descriptor to read the passphrase from [env: STRONGROOM_PASSWORD_FD]
    #[arg(long, value_name = "NUMBER", global = true)]
    pub password_fd: Option<u32>,

    /// Key file that strongroom made
    #[arg(long, env = "STRONGROOM_KEY_FILE", hide_env_values = true, value_name = "FILE", global = true)]
    pub key_file: Option<PathBuf>,

    /// File that holds the recovery code
    #[arg(
        long,
        env = "STRONGROOM_RECOVERY_CODE_FILE",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    pub recovery_code_file: Option<PathBuf>,

    /// File that holds one or more cards, a card on each line; given for each file
    #[arg(long, value_name = "FILE", global = true)]
    pub card_file: Vec<PathBuf>,

    /// File with your own key, as `age-keygen -pq` makes it, encrypted by `age -p` or not; given for each file
    #[arg(
        short,
        long,
        env = "STRONGROOM_IDENTITY",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    pub identity: Vec<PathBuf>,

    /// Try passphrase slots that ask for more memory or time than strongroom's own
    #[arg(long, global = true)]
    pub allow_expensive_kdf: bool,

    /// Whether the environment named the key file, and no option.
    #[arg(skip)]
    pub is_key_file_of_environment: bool,

    /// The same of the recovery code's file.
    #[arg(skip)]
    pub is_recovery_code_file_of_environment: bool,

    /// The same of the file with the person's own key.
    #[arg(skip)]
    pub is_identity_of_environment: bool,

    /// Whether what the environment names counts for nothing.
    #[arg(skip)]
    ignores_environment: bool,
}

impl SecretArgs {
    /// What the options alone give, without what the environment names for every command.
    #[must_use]
    pub fn of_options(&self) -> Self {
        let mut options = Self { ignores_environment: true, ..self.clone() };
        options.key_file.take_if(|_| self.is_key_file_of_environment);
        options.recovery_code_file.take_if(|_| self.is_recovery_code_file_of_environment);
        if self.is_identity_of_environment {
            options.identity.clear();
        }
        options
    }

    fn own_passphrase_source(&self) -> Result<Option<Source>, Failure> {
        self.passphrase_source(&|name| if self.ignores_environment { None } else { std::env::var_os(name) })
    }

    /// What these options hold; nothing if none was given.
    ///
    /// # Errors
    /// If a file, command or descriptor gives no such secret.
    pub fn way(&self) -> Result<Option<Way>, Failure> {
        let passphrase = self.passphrase()?;
        let key_file = self.key_file.as_deref().map(secrets::read_key_file).transpose()?;
        let recovery_code =
            self.recovery_code_file.as_deref().map(secrets::read_recovery_code).transpose()?;
        let cards = secrets::read_cards(&self.card_file)?;
        let identities = secrets::read_identities(&self.identity)?;
        let is_nothing = passphrase.is_none()
            && key_file.is_none()
            && recovery_code.is_none()
            && cards.is_none()
            && identities.is_empty();
        if is_nothing {
            return Ok(None);
        }
        let allow_expensive_kdf = self.allow_expensive_kdf;
        Ok(Some(Way { passphrase, key_file, recovery_code, cards, identities, allow_expensive_kdf }))
    }

    /// The passphrase that these options give, or else the environment names.
    ///
    /// # Errors
    /// If more than one is given, or the one can't be had.
    pub fn passphrase(&self) -> Result<Option<SecretBytes>, Failure> {
        self.own_passphrase_source()?.map(Source::read).transpose()
    }

    /// The files that a key is read from, or written to if there is none yet.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let by_options = [&self.password_file, &self.key_file, &self.recovery_code_file];
        let mut files: Vec<PathBuf> = by_options.into_iter().flatten().cloned().collect();
        files.extend(self.card_file.iter().chain(&self.identity).cloned());
        if let Ok(Some(Source::File(file))) = self.own_passphrase_source() {
            files.push(file);
        }
        files
    }

    /// Whether a key is given, in the options or by the environment.
    ///
    /// # Errors
    /// If the passphrase is given in more than one way.
    pub fn is_given(&self) -> Result<bool, Failure> {
        let by_file = self.key_file.is_some()
            || self.recovery_code_file.is_some()
            || !self.card_file.is_empty()
            || !self.identity.is_empty();
        Ok(by_file || self.own_passphrase_source()?.is_some())
    }

    /// Where the passphrase comes from. An option goes before the environment, so that somebody whose
    /// service sets one of these variables can still open another vault by hand.
    fn passphrase_source(&self, environment: &Environment<'_>) -> Result<Option<Source>, Failure> {
        let given = [
            self.password_file.clone().map(Source::File),
            self.password_command.clone().map(Source::Command),
            self.password_fd.map(Source::Descriptor),
        ];
        if let Some(source) = only(given, "--password-file, --password-command and --password-fd")? {
            return Ok(Some(source));
        }
        let text = |name: &str| {
            let value = environment(name).filter(|value| !value.is_empty());
            let value = value.map(|value| value.into_string());
            value.transpose().map_err(|_| Failure::usage(format!("{name} is not UTF-8 text")))
        };
        let file = environment("STRONGROOM_PASSWORD_FILE").filter(|value| !value.is_empty());
        let number = text("STRONGROOM_PASSWORD_FD")?.map(|value| value.parse());
        let number =
            number.transpose().map_err(|_| Failure::usage("STRONGROOM_PASSWORD_FD is not a number"))?;
        let named = [
            file.map(|file| Source::File(file.into())),
            text("STRONGROOM_PASSWORD_COMMAND")?.map(Source::Command),
            number.map(Source::Descriptor),
        ];
        only(named, "STRONGROOM_PASSWORD_FILE, STRONGROOM_PASSWORD_COMMAND and STRONGROOM_PASSWORD_FD")
    }
}

/// Looks up a variable.
type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Where a passphrase comes from.
#[derive(PartialEq, Eq, Debug)]
enum Source {
    File(PathBuf),
    Command(String),
    Descriptor(u32),
}

impl Source {
    fn read(self) -> Result<SecretBytes, Failure> {
        match self {
            Self::File(file) => secrets::read_password_file(&file),
            Self::Command(command) => secrets::run_password_command(&command),
            Self::Descriptor(number) => secrets::read_password_fd(number),
        }
    }
}

/// The passphrase that one of three options gives.
///
/// # Errors
/// If more than one is given or none, or the one can't be had.
pub fn passphrase_from(
    file: Option<&Path>,
    command: Option<&str>,
    descriptor: Option<u32>,
) -> Result<SecretBytes, Failure> {
    let given = [
        file.map(|file| Source::File(file.to_owned())),
        command.map(|command| Source::Command(command.to_owned())),
        descriptor.map(Source::Descriptor),
    ];
    let source = only(given, "--new-password-file, --new-password-command and --new-password-fd")?;
    source.ok_or_else(|| Failure::usage("no passphrase was given"))?.read()
}

fn only(sources: [Option<Source>; 3], names: &str) -> Result<Option<Source>, Failure> {
    let mut sources = sources.into_iter().flatten();
    let first = sources.next();
    if sources.next().is_some() {
        return Err(Failure::usage("the passphrase is given in more than one way")
            .hint(format!("give one of {names}")));
    }
    Ok(first)
}

/// Refuses a secret in the environment, where other programs can read it.
///
/// # Errors
/// [`Exit::Usage`](crate::cli::failure::Exit::Usage) if `STRONGROOM_PASSWORD` or the like is set.
pub fn refuse_secret_environment() -> Result<(), Failure> {
    refuse_secrets(&|name| std::env::var_os(name))
}

fn refuse_secrets(environment: &Environment<'_>) -> Result<(), Failure> {
    for (name, instead) in [
        ("STRONGROOM_PASSWORD", "STRONGROOM_PASSWORD_FILE"),
        ("STRONGROOM_PASSPHRASE", "STRONGROOM_PASSWORD_FILE"),
        ("STRONGROOM_KEY", "STRONGROOM_KEY_FILE"),
        ("STRONGROOM_RECOVERY_CODE", "STRONGROOM_RECOVERY_CODE_FILE"),
    ] {
        if environment(name).is_some() {
            return Err(Failure::usage(format!(
                "{name} is set: a secret in the environment can be read by other programs"
            ))
            .hint(format!("unset it and set {instead} to a file that only you can read")));
        }
    }
    Ok(())
}

/// What to tell somebody who has given no key but has set a variable that another program reads.
#[must_use]
pub fn other_programs_hint() -> Option<String> {
    other_programs(&|name| std::env::var_os(name))
}

fn other_programs(environment: &Environment<'_>) -> Option<String> {
    let names = [
        ("RESTIC_PASSWORD", "STRONGROOM_PASSWORD_FILE"),
        ("RESTIC_PASSWORD_FILE", "STRONGROOM_PASSWORD_FILE"),
        ("RESTIC_PASSWORD_COMMAND", "STRONGROOM_PASSWORD_COMMAND"),
        ("BORG_PASSPHRASE", "STRONGROOM_PASSWORD_FILE"),
        ("BORG_PASSCOMMAND", "STRONGROOM_PASSWORD_COMMAND"),
        ("BORG_PASSPHRASE_FD", "STRONGROOM_PASSWORD_FD"),
    ];
    let (name, instead) = names.into_iter().find(|(name, _)| environment(name).is_some())?;
    Some(format!("{name} is set, and strongroom doesn't read it: set {instead}"))
}

/// Takes the address of a vault for a folder: a path, or one after `file:`.
///
/// # Errors
/// [`Exit::Usage`](crate::cli::failure::Exit::Usage) if it is empty, holds a password, or is one of
/// another kind. None of these repeats the address, in which a password may stand.
pub fn local_path(given: &OsStr) -> Result<PathBuf, Failure> {
    let bytes = given.as_bytes();
    let (scheme, rest) = match bytes.iter().position(|byte| *byte == b':') {
        Some(at) if !bytes[..at].contains(&b'/') => (&bytes[..at], &bytes[at + 1..]),
        _ => (&b""[..], bytes),
    };
    let is_url = rest.starts_with(b"//") && !scheme.is_empty();
    let host = rest.strip_prefix(b"//").unwrap_or(rest);
    let host = host.split(|byte| *byte == b'/').next().unwrap_or_default();
    let user = host.iter().rposition(|byte| *byte == b'@').map(|at| &host[..at]);
    let is_known = REMOTE_SCHEMES.iter().any(|known| known.as_bytes() == scheme.to_ascii_lowercase());
    if (is_url || is_known) && user.is_some_and(|user| user.contains(&b':')) {
        return Err(Failure::usage("the vault's address holds a password")
            .hint("addresses are shown and logged: take the password out of it"));
    }
    let path = if scheme == b"file" {
        // file:///srv/vault is /srv/vault; a host before the path would be another machine's.
        match rest.strip_prefix(b"//") {
            Some(path) if path.is_empty() || path.starts_with(b"/") => path,
            Some(_) => return Err(elsewhere("file://HOST").hint("write file:/FOLDER or just /FOLDER")),
            None => rest,
        }
    } else if is_known || is_url {
        let kind =
            if is_known { String::from_utf8_lossy(scheme).to_ascii_lowercase() } else { "URLs".to_owned() };
        return Err(elsewhere(&kind).hint("a folder of a mounted drive or share can be given as a path"));
    } else if scheme.contains(&b'@') {
        return Err(elsewhere("USER@HOST").hint("a folder with such a name is written with ./ in front"));
    } else {
        bytes
    };
    if path.is_empty() {
        return Err(Failure::usage("the vault's place is empty")
            .hint("give a folder with `--vault` or STRONGROOM_VAULT"));
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

/// What other programs keep their vaults in.
const REMOTE_SCHEMES: [&str; 22] = [
    "s3", "sftp", "ssh", "rest", "http", "https", "b2", "gs", "gcs", "az", "azure", "swift", "rclone",
    "webdav", "webdavs", "dav", "davs", "ftp", "ftps", "smb", "nfs", "opendal",
];

fn elsewhere(kind: &str) -> Failure {
    Failure::usage(format!("this version keeps vaults in folders, not at {kind}"))
}

/// Reads a vault's fingerprint.
///
/// # Errors
/// What it looks like.
pub fn parse_fingerprint(text: &str) -> Result<Fingerprint, text::Error> {
    text::decode_fingerprint(text)
}

/// The vault that a person means: its whole fingerprint, or the first half of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// All of it.
    Whole(Fingerprint),
    /// As twelve words.
    Half(VaultId),
}

impl Named {
    /// Reads base32, hex or twelve words.
    ///
    /// # Errors
    /// What it looks like.
    pub fn parse(text: &str) -> Result<Self, text::Error> {
        if text.split_whitespace().count() == text::FINGERPRINT_WORDS {
            return text::decode_fingerprint_words(text).map(Self::Half);
        }
        text::decode_fingerprint(text).map(Self::Whole)
    }

    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, fingerprint: &Fingerprint) -> bool {
        match self {
            Self::Whole(whole) => whole == fingerprint,
            Self::Half(half) => *half == fingerprint.vault_id(),
        }
    }
}

/// Reads a receipt.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_receipt(text: &str) -> Result<Receipt, String> {
    Receipt::parse(text).ok_or_else(|| {
        "this is no receipt: it is one line of 132 characters that begins with strongroom1:".to_owned()
    })
}

/// Reads a number of bytes: `500`, `10K`, `1.5M`, `2GB` (thousands), `1GiB` (1024s).
///
/// # Errors
/// What a size looks like.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write 500, 10K, 1.5M, 2GB or 1GiB");
    let at =
        text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 6 || (whole.is_empty() && part.is_empty()) || (factor == 1 && number.contains('.')) {
        return Err(wrong());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let millionths: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    let bytes =
        u128::from(whole) * u128::from(factor) + u128::from(millionths) * u128::from(factor) / 1_000_000;
    u64::try_from(bytes).map_err(|_| wrong())
}

/// Reads a length of time: `90s`, `20m`, `26h`, `2d`, `1w`, or several in a row.
///
/// # Errors
/// What a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 90s, 20m, 26h, 2d or 1w");
    let mut seconds = 0_u64;
    let mut number = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let count: u64 = std::mem::take(&mut number).parse().map_err(|_| wrong())?;
        seconds = count.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
    }
    if !number.is_empty() || text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

/// Reads an instant as nanoseconds since 1970 UTC: RFC 3339, or a local date with or without a time.
///
/// # Errors
/// What an instant looks like.
pub fn parse_time(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no time: write 2026-11-23, \"2026-11-23 10:00\" or 2026-11-23T10:00:00Z");
    let instant = text.parse::<jiff::Timestamp>().or_else(|_| {
        let local = text.parse::<jiff::civil::DateTime>().map_err(|_| wrong())?;
        local.to_zoned(jiff::tz::TimeZone::system()).map(|zoned| zoned.timestamp()).map_err(|_| wrong())
    })?;
    u64::try_from(instant.as_nanosecond()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &'static str, value: &'static str) -> impl Fn(&str) -> Option<OsString> {
        move |asked| (asked == name).then(|| value.into())
    }

    #[test]
    fn an_option_goes_before_the_environment() {
        let file = environment("STRONGROOM_PASSWORD_FILE", "/etc/password");
        let none = SecretArgs::default();
        assert_eq!(none.passphrase_source(&|_| None), Ok(None));
        assert_eq!(none.passphrase_source(&file), Ok(Some(Source::File("/etc/password".into()))));
        let command = SecretArgs { password_command: Some("pass show".to_owned()), ..SecretArgs::default() };
        assert_eq!(command.passphrase_source(&file), Ok(Some(Source::Command("pass show".to_owned()))));
        let number = environment("STRONGROOM_PASSWORD_FD", "3");
        assert_eq!(none.passphrase_source(&number), Ok(Some(Source::Descriptor(3))));
        assert_eq!(none.passphrase_source(&environment("STRONGROOM_PASSWORD_FILE", "")), Ok(None));
    }

    #[test]
    fn one_passphrase_is_given_in_one_way() {
        let both =
            SecretArgs { password_file: Some("a".into()), password_fd: Some(3), ..SecretArgs::default() };
        assert!(both.passphrase_source(&|_| None).is_err());
        let named = |_: &str| Some("3".into());
        assert!(SecretArgs::default().passphrase_source(&named).is_err());
        let wrong = environment("STRONGROOM_PASSWORD_FD", "three");
        assert!(SecretArgs::default().passphrase_source(&wrong).is_err());
    }

    #[test]
    fn a_secret_in_the_environment_is_refused_and_never_repeated() {
        for name in
            ["STRONGROOM_PASSWORD", "STRONGROOM_PASSPHRASE", "STRONGROOM_KEY", "STRONGROOM_RECOVERY_CODE"]
        {
            let text = refuse_secrets(&environment(name, "hunter2")).err().map(|failure| failure.text());
            let text = text.unwrap();
            assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
        }
        assert_eq!(refuse_secrets(&environment("STRONGROOM_PASSWORD_FILE", "/etc/password")), Ok(()));
        assert_eq!(refuse_secrets(&environment("RESTIC_PASSWORD", "hunter2")), Ok(()));
        let hint = other_programs(&environment("RESTIC_PASSWORD", "hunter2")).unwrap();
        assert_eq!(
            hint,
            "RESTIC_PASSWORD is set, and strongroom doesn't read it: set STRONGROOM_PASSWORD_FILE"
        );
        assert_eq!(other_programs(&|_| None), None);
    }

    #[test]
    fn a_folder_is_given_as_a_path_or_after_file() {
        for (given, path) in [
            ("/srv/vault", "/srv/vault"),
            ("vault", "vault"),
            ("file:/srv/vault", "/srv/vault"),
            ("file:vault", "vault"),
            ("file:///srv/vault", "/srv/vault"),
            ("./anna@nas:vault", "./anna@nas:vault"),
            ("/srv/s3:vault", "/srv/s3:vault"),
            ("C:vault", "C:vault"),
        ] {
            assert_eq!(local_path(OsStr::new(given)), Ok(PathBuf::from(path)), "{given}");
        }
        let bytes = OsStr::from_bytes(b"/srv/\xff");
        assert_eq!(local_path(bytes), Ok(PathBuf::from(bytes)));
    }

    #[test]
    fn an_address_of_another_kind_is_refused_without_being_repeated() {
        for (given, message) in [
            ("", "the vault's place is empty"),
            ("file:", "the vault's place is empty"),
            ("file://", "the vault's place is empty"),
            ("file://nas/vault", "this version keeps vaults in folders, not at file://HOST"),
            ("s3://bucket/prefix", "this version keeps vaults in folders, not at s3"),
            ("S3:bucket", "this version keeps vaults in folders, not at s3"),
            ("sftp://anna@nas/vault", "this version keeps vaults in folders, not at sftp"),
            ("gopher://nas/vault", "this version keeps vaults in folders, not at URLs"),
            ("anna@nas:/vault", "this version keeps vaults in folders, not at USER@HOST"),
            ("sftp://anna:hunter2@nas/vault", "the vault's address holds a password"),
            ("gopher://anna:hunter2@nas/vault", "the vault's address holds a password"),
            ("rest:https://anna:hunter2@nas/vault", "this version keeps vaults in folders, not at rest"),
            ("sftp:anna:hunter2@nas:/vault", "the vault's address holds a password"),
        ] {
            let failure = local_path(OsStr::new(given)).err().unwrap();
            assert_eq!(failure.message, message, "{given}");
            assert!(!failure.text().contains("hunter2"));
        }
    }

    #[test]
    fn sizes_are_read_in_thousands_and_in_1024s() {
        for (text, bytes) in
            [("0", 0), ("500", 500), ("10K", 10_000), ("1.5M", 1_500_000), ("1GiB", 1 << 30), (".5k", 500)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in
            ["", ".", "x", "1X", "-1", "1..2", "1.5", "1.2.3M", "1,5M", "99999999999999T", "1.1234567M"]
        {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_their_units() {
        assert_eq!(parse_duration("1d2h"), Ok(Duration::from_secs(93_600)));
        for text in
            ["", "5", "h", "1x", "1d2", "-1d", "1.5h", "99999999999999999999w", "9999999999999999999w"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_rfc_3339_or_as_local_dates() {
        assert_eq!(parse_time("2026-11-23T10:00:00Z"), Ok(1_795_428_000_000_000_000));
        assert_eq!(parse_time("2026-11-23 11:00+01:00"), Ok(1_795_428_000_000_000_000));
        assert!(parse_time("2026-11-23").is_ok());
        assert!(parse_time("2026-11-23 10:00").is_ok());
        for text in ["", "yesterday", "1960-01-01T00:00:00Z", "2026-13-01"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}

//! `strongroom init`: a new vault, a way in, and a recovery code, before anything is backed up.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::cli::args::SecretArgs;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::pages;
use crate::cli::powers::Powers;
use crate::cli::secrets;
use crate::cli::terminal;
use crate::crypto::kdf::Argon2Settings;
use crate::crypto::secret::Secret;
use crate::crypto::text;
use crate::id::Fingerprint;
use crate::store;
use crate::store::Local;
use crate::store::Store;
use crate::tree::path::printable;
use crate::vault::LockedVault;
use crate::vault::device::DeviceKeys;
use crate::vault::error::Error;
use crate::vault::init::DeviceHome;
use crate::vault::init::NewSlot;
use crate::vault::init::NewVault;
use crate::vault::init::Opens;
use crate::vault::init::left_behind;
use crate::vault::slot::Role;
use crate::vault::slot::Way;

/// Makes a vault, an owner's way in, and a recovery code, and enrols this machine.
///
/// The way in is a passphrase (asked for, or from --password-file and its like), a key file
/// (--key-file; made if it isn't there), or both together.
#[derive(Args)]
pub struct InitArgs {
    #[command(flatten)]
    new: NewVaultArgs,
}

/// What a new vault needs to know.
#[derive(Args)]
pub struct NewVaultArgs {
    /// What this machine is called in the vault [default: its host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Write the recovery code to this file, which must not exist yet, in place of showing it
    #[arg(long, value_name = "FILE", conflicts_with = "without_recovery_code")]
    recovery_code_out: Option<PathBuf>,

    /// Make no recovery code: whoever loses the only way in loses everything
    #[arg(long)]
    without_recovery_code: bool,

    /// Take a passphrase that is easy to guess
    #[arg(long)]
    allow_weak_passphrase: bool,

    /// Make a vault where this machine knows another one, which isn't there any more
    #[arg(long)]
    replace_known: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Refused`] if something is at the place; [`Exit::Usage`] if something must be asked and there
/// is nobody to ask.
pub fn run(context: &Context, args: &InitArgs) -> Result<Exit, Failure> {
    make(context, &args.new)?;
    Ok(Exit::Done)
}

/// Where the recovery code goes.
enum Code {
    /// Shown, typed back.
    Typed(Secret<20>),
    /// Into a new file.
    File(Secret<20>, PathBuf),
    /// Nowhere: the person wants none.
    None,
}

impl Code {
    fn secret(&self) -> Option<&Secret<20>> {
        match self {
            Self::Typed(secret) | Self::File(secret, _) => Some(secret),
            Self::None => None,
        }
    }
}

/// Makes a vault at the context's place. Everything is decided and confirmed before anything is put.
///
/// # Errors
/// As [`run`].
pub fn make(context: &Context, args: &NewVaultArgs) -> Result<Fingerprint, Failure> {
    let place = context.place()?;
    let is_begun = check_place(&place)?;
    check_unknown(context, args)?;
    let machine = context.machine()?;
    let name = args.name.clone().unwrap_or_else(host_name);
    if name.is_empty() || name.len() > 255 {
        return Err(Failure::usage("a machine's name has 1 to 255 bytes"));
    }
    if !args.without_recovery_code && args.recovery_code_out.is_none() && !terminal::is_there() {
        return Err(Failure::usage("there is no terminal to show the recovery code at")
            .hint("`--recovery-code-out FILE` writes it to a file; `--without-recovery-code` makes none"));
    }
    if let Some(file) = &args.recovery_code_out {
        pages::check_absent(file)?;
    }

    let (way, new_key_file) = owner_way(&context.secrets, args.allow_weak_passphrase)?;
    let code = recovery_code(args)?;

    let device = DeviceKeys::generate();
    let code_way =
        code.secret().map(|secret| Way { recovery_code: Some(secret.duplicate()), ..Way::default() });
    let mut slots = vec![NewSlot { opens: Opens::Way(&way), label: "owner", role: Role::Owner }];
    slots.extend(code_way.as_ref().map(|way| NewSlot {
        opens: Opens::Way(way),
        label: "recovery code",
        role: Role::Owner,
    }));
    let new = {
        let _spinner = context.bars().spinner("making keys");
        NewVault::generate(
            &slots,
            &Argon2Settings::DEFAULT,
            (&device, &name),
            DeviceHome::Machine,
            context.now,
        )?
    };
    let fingerprint = new.fingerprint();

    // What opens the vault must exist before the vault does.
    if let Some((path, secret)) = &new_key_file {
        let line = text::encode_key_file(secret);
        pages::write_new(path, line.as_bytes())?;
    }
    if let Code::File(secret, path) = &code {
        let page = pages::recovery_page(&place.to_string_lossy(), &fingerprint, secret);
        pages::write_new(path, page.as_bytes())?;
    }
    let store = if is_begun { Local::load(&place)? } else { Local::create(&place)? };
    let store: Arc<dyn Store> = Arc::new(store);
    new.put(&store, &device, &machine.vault_state(&fingerprint), context.now)
        .map_err(|error| half_made(&error))?;
    machine.remember(&store.place(), &fingerprint)?;

    let powers = Powers::over(&*store);
    let made = Made {
        place: &store.place(),
        fingerprint,
        name: &name,
        device: &device,
        way: &way,
        code: &code,
        powers,
    };
    made.tell(context, new_key_file.as_ref().map(|(path, _)| path.as_path()))?;
    powers.tell(context);
    Ok(fingerprint)
}

/// Refuses a place where this machine knows a vault. Backups would go on into the new one without a word,
/// though the old one is on a drive that isn't attached, or was taken away by somebody.
///
/// # Errors
/// [`Exit::Refused`], unless the person says that the old one is to be replaced.
pub fn check_unknown(context: &Context, args: &NewVaultArgs) -> Result<(), Failure> {
    let place = context.place()?;
    let Some(known) = context.machine()?.known(&place.display().to_string())? else { return Ok(()) };
    if args.replace_known {
        return Ok(());
    }
    let words = text::fingerprint_words(&known);
    let place = printable(place.as_os_str().as_bytes());
    Err(Failure::new(
        Exit::Refused,
        format!("this machine knows a vault in {place}, and it is not there: {words}"),
    )
    .hint(
        "is the right drive attached, and is the vault whole on it? If it is gone for good, or was moved, \
             `--replace-known` makes a new one in its place",
    ))
}

fn half_made(error: &Error) -> Failure {
    let mut failure = Failure::from(error);
    if matches!(error, Error::VaultExists { .. }) {
        return failure;
    }
    failure.hint = Some(
        "the vault is not finished and holds no data: once the reason is gone, `strongroom init` at the same \
         place makes it anew, with a new recovery code"
            .to_owned(),
    );
    failure
}

/// What this machine calls itself.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Finds out what can be known before anything is asked: a vault, other files, a folder that is not ours.
/// Returns whether a vault was begun here and never finished.
fn check_place(place: &Path) -> Result<bool, Failure> {
    let shown = || printable(place.as_os_str().as_bytes());
    match std::fs::metadata(place) {
        Ok(meta) if !meta.is_dir() => {
            return Err(Failure::new(Exit::Refused, format!("{} is not a folder", shown()))
                .hint("a vault takes a folder of its own: give a new or an empty one"));
        }
        Ok(_) => {
            let store = Local::load(place)?;
            let mut entries = std::fs::read_dir(place).map_err(|error| Failure::io(shown(), &error))?;
            if entries.any(|entry| entry.is_ok_and(|entry| !is_of_beginning(entry.file_name().as_bytes()))) {
                // Without a look at all of it, for it may be anything: a home, a whole drive.
                let place = store.place();
                return Err(match LockedVault::load(Arc::new(store), None) {
                    Err(Error::NoVault { .. }) => store::Error::NotEmpty { place }.into(),
                    // Whatever is the matter with it: it is a vault.
                    _ => Error::VaultExists { place }.into(),
                });
            }
            if !left_behind(&store)?.is_empty() {
                return match store.holds_other_files()? {
                    true => Err(store::Error::NotEmpty { place: store.place() }.into()),
                    false => Ok(true),
                };
            }
            store.check_empty()?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::io(shown(), &error)),
    }
    let existing = place.ancestors().find(|each| each.exists()).unwrap_or(place);
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).map_err(|errno| {
        Failure::io(format!("a vault can't be made in {}", shown()), &errno.into())
            .hint("choose a place that this user may write to")
    })?;
    Ok(false)
}

/// Whether a vault that was only begun may have something of this name at its top.
fn is_of_beginning(name: &[u8]) -> bool {
    matches!(name, b"README.txt" | b"a" | b"k" | b"r" | b"m" | b"2" | b"lost+found") || name.starts_with(b".")
}

/// The owner's way in, and the key file that has to be written for it, if it is new.
///
/// # Errors
/// [`Exit::Usage`] if nothing is given and nobody can be asked; [`Exit::Refused`] for a weak passphrase.
pub fn owner_way(
    given: &SecretArgs,
    allow_weak_passphrase: bool,
) -> Result<(Way, Option<(PathBuf, Secret<32>)>), Failure> {
    if given.recovery_code_file.is_some() {
        return Err(Failure::usage("a recovery code is made here and can't be given")
            .hint("`--recovery-code-out FILE` says where to write it"));
    }
    let mut way = Way { passphrase: given.passphrase()?, ..Way::default() };
    if let Some(passphrase) = &way.passphrase {
        // Beside a key file a passphrase can't be guessed without the file.
        secrets::check_strength(passphrase, allow_weak_passphrase || given.key_file.is_some())?;
    }
    let mut new_key_file = None;
    if let Some(path) = &given.key_file {
        if path.symlink_metadata().is_ok() {
            way.key_file = Some(secrets::read_key_file(path)?);
        } else {
            let secret = Secret::<32>::generate();
            way.key_file = Some(secret.duplicate());
            new_key_file = Some((path.clone(), secret));
        }
    }
    if way.passphrase.is_none() && way.key_file.is_none() {
        if !terminal::is_there() {
            return Err(Failure::usage(
                "there has to be a way in, and there is no terminal to ask for a passphrase at",
            )
            .hint("give --password-file, --password-command, --password-fd or --key-file"));
        }
        way.passphrase = Some(secrets::new_passphrase(allow_weak_passphrase)?);
    }
    Ok((way, new_key_file))
}

fn recovery_code(args: &NewVaultArgs) -> Result<Code, Failure> {
    if args.without_recovery_code {
        return Ok(Code::None);
    }
    let secret = Secret::<20>::generate();
    if let Some(path) = &args.recovery_code_out {
        return Ok(Code::File(secret, path.clone()));
    }
    secrets::confirm_recovery_code(&secret)?;
    Ok(Code::Typed(secret))
}

/// What is now true.
struct Made<'a> {
    place: &'a str,
    fingerprint: Fingerprint,
    name: &'a str,
    device: &'a DeviceKeys,
    way: &'a Way,
    code: &'a Code,
    powers: Powers,
}

impl Made<'_> {
    fn ways(&self) -> Vec<&'static str> {
        let mut ways = vec![match (&self.way.passphrase, &self.way.key_file) {
            (Some(_), Some(_)) => "passphrase + key file",
            (Some(_), None) => "passphrase",
            _ => "key file",
        }];
        if self.code.secret().is_some() {
            ways.push("recovery code");
        }
        ways
    }

    fn tell(&self, context: &Context, new_key_file: Option<&Path>) -> Result<(), Failure> {
        let shown = |path: &Path| printable(path.as_os_str().as_bytes());
        let words = text::fingerprint_words(&self.fingerprint);
        let base32 = text::fingerprint_base32(&self.fingerprint);
        if context.output.json {
            let code_file = match self.code {
                Code::File(_, path) => Some(shown(path)),
                _ => None,
            };
            return context.json(&json!({
                "message_type": "initialized",
                "schema": 1,
                "id": self.fingerprint.vault_id().to_string(),
                "repository": self.place,
                "fingerprint": base32,
                "fingerprint_words": words,
                "device": self.device.device.to_string(),
                "device_name": self.name,
                "slots": self.ways(),
                "key_file_created": new_key_file.map(shown),
                "recovery_code_file": code_file,
                "can_remove": self.powers.all().remove,
                "can_overwrite": self.powers.all().overwrite,
            }));
        }
        let place = printable(self.place.as_bytes());
        context.line(&format!("vault        {place}"))?;
        context.line(&format!("fingerprint  {words}"))?;
        context.line(&format!("             {base32}"))?;
        context.line(&format!("ways in      {}", self.ways().join(", ")))?;
        context.line(&format!(
            "device       {} ({})",
            printable(self.name.as_bytes()),
            self.device.device.short()
        ))?;
        context.line("")?;
        context.line("Keep apart from this machine and from the vault:")?;
        match self.code {
            Code::Typed(_) => context.line("  - the recovery code, on paper")?,
            Code::File(_, path) => {
                context.line(&format!("  - the recovery code, now in {}: move it away", shown(path)))?;
            }
            Code::None => {}
        }
        match (new_key_file, &self.way.key_file) {
            (Some(path), _) => context.line(&format!("  - a copy of the new key file {}", shown(path)))?,
            (None, Some(_)) => context.line("  - a copy of the key file")?,
            (None, None) => {}
        }
        context.line("  - the fingerprint, to know this vault again")?;
        context.line("")?;
        if matches!(self.code, Code::None) {
            context.warn("there is no recovery code: whoever loses the only way in loses everything");
        }
        context.line(
            "This machine can now add snapshots to the vault, and can't read them: strongroom backup PATH",
        )
    }
}

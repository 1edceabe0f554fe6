//! `strongroom seal`: a folder into one file, which those open whom it is sealed for.

mod recipients;
mod remove;
mod replace;
mod sources;
mod written;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rustix::fs::Access;
use serde_json::json;

use crate::cli::args::SecretArgs;
use crate::cli::args::parse_size;
use crate::cli::backup::ExcludeArgs;
use crate::cli::backup::PROGRAM;
use crate::cli::backup::parse_level;
use crate::cli::context::Context;
use crate::cli::context::clock;
use crate::cli::diff::plural;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::init;
use crate::cli::pages;
use crate::cli::render;
use crate::cli::seal::recipients::Recipient;
use crate::cli::seal::recipients::recipients;
use crate::cli::seal::remove::remove_sources;
use crate::cli::seal::written::Written;
use crate::cli::sealed;
use crate::cli::sealed::SUFFIX;
use crate::crypto::kdf::Argon2Settings;
use crate::crypto::secret::Secret;
use crate::store::SealedDraft;
use crate::store::SealedFile;
use crate::store::Target;
use crate::store::state::StateDir;
use crate::task::backup::Input;
use crate::task::backup::Options;
use crate::task::backup::Sealing;
use crate::task::lost::Lost;
use crate::task::seal;
use crate::task::seal::Summary;
use crate::tree::path::printable;
use crate::tree::walk;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::device::DeviceKeys;
use crate::vault::error::Error;
use crate::vault::init::DeviceHome;
use crate::vault::init::NewSlot;
use crate::vault::init::NewVault;
use crate::vault::init::Opens;
use crate::vault::sender::Signer;
use crate::vault::slot::Role;
use crate::vault::slot::Way;

/// Data that compresses to less than a part in this many is rare: where there isn't room for that, sealing
/// isn't begun.
const SHRINKS_MOST: u64 = 20;

/// Seals folders into one file, which opens by a passphrase, a key file, or somebody's own key.
///
/// `strongroom seal Customers` makes Customers.strongroom beside it, and `strongroom open` brings the folder
/// back. Sealed again into its own file, only what changed is compressed and encrypted anew.
///
/// A key file that `--key-file` names for a new file is made if it isn't there, and told: without it, it doesn't open.
#[derive(Args, Clone)]
pub struct SealArgs {
    /// What to seal
    #[arg(value_name = "DIR", required = true)]
    paths: Vec<PathBuf>,

    /// The file to make; - writes it to a pipe [default: the folder's name and .strongroom, beside it]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Make a new file, whatever has its name
    #[arg(long)]
    force: bool,

    /// Somebody whose own key opens it, as `age-keygen -pq` makes them: age1pq1..., or NAME=age1pq1...
    ///
    /// With this or `--recipients-file`, you open it too only if an option of this command names a passphrase or key
    /// file: what the environment names (STRONGROOM_KEY_FILE and the like) doesn't count.
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Vec<String>,

    /// File with such recipients, one a line
    #[arg(short = 'R', long, value_name = "FILE")]
    recipients_file: Vec<PathBuf>,

    /// Write a recovery code that opens it, too, to this file, which must not exist yet
    #[arg(long, value_name = "FILE")]
    recovery_code_out: Option<PathBuf>,

    /// Take a passphrase that is easy to guess
    #[arg(long)]
    allow_weak_passphrase: bool,

    /// Remove what was sealed once the file was read back from the disk, opened and compared with it
    #[arg(long)]
    remove_source: bool,

    /// Seal a folder into its file though most of what the file holds is no longer in the folder
    #[arg(long)]
    replace: bool,

    /// Cut the file into parts of this size, such as 4GB: FILE.001, FILE.002 ...
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    split: Option<u64>,

    /// Sign it with this machine's key in the vault that --vault names: who opens it sees who sealed it
    #[arg(long)]
    sign: bool,

    #[command(flatten)]
    excludes: ExcludeArgs,

    /// How hard to compress: 1 (fast) to 19 (small), or none
    #[arg(long, value_name = "LEVEL", default_value = "3", value_parser = parse_level)]
    compression: i32,
}

/// Where the file goes.
enum Output {
    File(PathBuf),
    Pipe,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Refused`] if another file has the name, or there is no room; [`Exit::Usage`]; what reading and
/// writing say. [`Exit::SourceIncomplete`] at the end if something could not be read.
pub fn run(context: &Context, args: &SealArgs) -> Result<Exit, Failure> {
    seal_all(context, args).map_err(Failure::of_sealed_file)
}

fn seal_all(context: &Context, args: &SealArgs) -> Result<Exit, Failure> {
    let args = &SealArgs { paths: args.paths.iter().map(|path| behind_link(path)).collect(), ..args.clone() };
    sources::tell_leftovers(context, &args.paths);
    check_names(&args.paths)?;
    let output = output(args)?;
    let recipients = recipients(args)?;
    // Whoever names recipients means those: his own key, set for all commands, is not one of them.
    let secrets = if recipients.is_empty() { context.secrets.clone() } else { context.secrets.of_options() };
    sources::check(&secrets, args)?;
    if let Output::File(file) = &output {
        sources::check_apart(&secrets, args, file)?;
    }
    let signer = if args.sign { Some(signer(context)?) } else { None };
    let made = match &output {
        Output::File(file) if sealed::is_file(file) && !args.force => {
            check_own_file(args, file, &recipients)?;
            again(context, args, file, signer)?
        }
        Output::File(file) if file.symlink_metadata().is_ok() && !args.force => {
            return Err(occupied(file, "is no sealed file"));
        }
        Output::File(file) if args.force => {
            replace::check_parts(args, file)?;
            anew(context, &secrets, args, &output, &recipients, signer)?
        }
        _ => anew(context, &secrets, args, &output, &recipients, signer)?,
    };
    if let Output::File(file) = &output {
        sealed::remember(context, file);
    }
    let errors = made.summary.backup.counts.errors;
    let removed = match (&output, &made.way) {
        (Output::File(file), Some(way)) if args.remove_source && errors == 0 => {
            remove_sources(context, args, file, way).map(|()| true)
        }
        _ => Ok(false),
    };
    // The file is there, whatever became of the source.
    let told = made.tell(context, &output, matches!(removed, Ok(true)));
    removed?;
    if errors > 0 {
        let number = plural(errors, "entry", "entries");
        let stays = if args.remove_source { ", and the source stays" } else { "" };
        return Err(Failure::new(
            Exit::SourceIncomplete,
            format!("{number} could not be read; the file holds everything else{stays}"),
        )
        .hint(
            "they are named above: run this as a user who may read them, or leave them out with `--exclude`",
        ));
    }
    told.map(|()| Exit::Done)
}

/// What came of it.
struct Made {
    summary: Summary,
    /// Whom it is sealed for.
    people: Vec<String>,
    /// The way in of whoever sealed it.
    way: Option<Way>,
    /// What was made for them.
    written: Written,
    is_again: bool,
    is_signed: bool,
}

/// A new file.
fn anew(
    context: &Context,
    own_secrets: &SecretArgs,
    args: &SealArgs,
    output: &Output,
    recipients: &[Recipient],
    signer: Option<Signer>,
) -> Result<Made, Failure> {
    check_writable(output)?;
    check_room(args, output)?;
    if let Some(file) = &args.recovery_code_out {
        pages::check_absent(file)?;
    }
    let wants_own = recipients.is_empty() || own_secrets.is_given()?;
    let (own, new_key_file) = match wants_own {
        true => {
            let (way, file) = init::owner_way(own_secrets, args.allow_weak_passphrase)?;
            (Some(way), file)
        }
        false => (None, None),
    };
    if args.remove_source && own.is_none() {
        return Err(Failure::usage("what only others can open can't be checked before the source goes")
            .hint("give yourself a way in, too: a passphrase or a key file"));
    }
    let code = args.recovery_code_out.as_ref().map(|_| Secret::<20>::generate());
    let code_way = code.as_ref().map(|code| Way { recovery_code: Some(code.duplicate()), ..Way::default() });

    let mut slots = Vec::new();
    slots.extend(own.as_ref().map(|way| NewSlot { opens: Opens::Way(way), label: "you", role: Role::Owner }));
    let code_slot = |way| NewSlot { opens: Opens::Way(way), label: "recovery code", role: Role::Owner };
    slots.extend(code_way.as_ref().map(code_slot));
    // Somebody has to be able to change it.
    let role = if slots.is_empty() { Role::Owner } else { Role::Reader };
    slots.extend(recipients.iter().map(|each| NewSlot {
        opens: Opens::Recipient(&each.key),
        label: &each.label,
        role,
    }));
    let people = slots.iter().map(|slot| slot.label.to_owned()).collect();

    let device = DeviceKeys::generate();
    let new = {
        let _spinner = context.bars().spinner("making keys");
        let settings = Argon2Settings::DEFAULT;
        NewVault::generate(&slots, &settings, (&device, "sealed file"), DeviceHome::Ring, context.now)?
    };
    let target = target(args, output);
    let draft = Arc::new(SealedDraft::stream(target)?);
    let is_signed = signer.is_some();
    let sealing = Sealing { signer, ..Sealing::new(memory(context, args, output)?) };
    let options = options(context, args, sealing)?;
    // From here on Ctrl-C leaves the time to take back what was written.
    let bars = context.watched_bars();
    let fingerprint = new.fingerprint();
    let mut written = Written::default();
    let make = || -> Result<Summary, Failure> {
        if let Some((path, secret)) = &new_key_file {
            written.key_file(path, secret)?;
        }
        if let (Some(path), Some(code)) = (&args.recovery_code_out, &code) {
            written.page(path, output, &fingerprint, code)?;
        }
        Ok(seal::seal(&draft, new, device, input(args), &options, &bars)?)
    };
    match make() {
        Ok(summary) => Ok(Made { summary, people, way: own, written, is_again: false, is_signed }),
        Err(failure) => Err(written.take_back(output, &fingerprint, failure)),
    }
}

/// The same file once more.
fn again(context: &Context, args: &SealArgs, file: &Path, signer: Option<Signer>) -> Result<Made, Failure> {
    check_writable(&Output::File(file.to_owned()))?;
    let opened = SealedFile::load(file).map(Arc::new).map_err(|error| match error {
        crate::store::Error::NotSealed { .. } => occupied(file, "is no sealed file"),
        error => error.into(),
    })?;
    let locked = LockedVault::load_sealed_file(Arc::clone(&opened))?;
    let found = locked.log().fingerprint();
    // With `--sign` it is that of the vault which signs.
    let expected = context.vault.fingerprint.filter(|_| !args.sign);
    if let Some(expected) = expected.filter(|expected| *expected != found) {
        return Err(Error::OtherVault { expected, found }.into());
    }
    let mut way = context.way(&locked)?;
    drop(locked);
    let (vault, draft) = sealed::unlock_draft(context, opened, file, &mut way)?;
    check_same(args, &vault, file)?;
    let people: Vec<String> =
        vault.slots().slots.iter().filter_map(|slot| vault.slot_label(slot.id)).map(str::to_owned).collect();
    let is_signed = signer.is_some();
    let memory = memory(context, args, &Output::File(file.to_owned()))?;
    let options = options(context, args, Sealing { signer, ..Sealing::new(memory) })?;
    let bars = context.watched_bars();
    let check = |lost: &Lost| replace::check(context, args.replace, file, lost);
    let summary = seal::seal_again_if(vault, &draft, input(args), options, &check, &bars)?;
    Ok(Made { summary, people, way: Some(way), written: Written::default(), is_again: true, is_signed })
}

fn target(args: &SealArgs, output: &Output) -> Target {
    let target = match (output, args.split) {
        (Output::Pipe, _) => Target::stream(Box::new(io::stdout())),
        (Output::File(file), None) => Target::file(file),
        (Output::File(file), Some(bytes)) => Target::parts(file, bytes),
    };
    if args.force { target.replacing() } else { target }
}

fn input(args: &SealArgs) -> Input {
    Input { paths: args.paths.clone(), stream: None }
}

/// Where this machine remembers what was sealed; nowhere if it can't come to be sealed again.
fn memory(context: &Context, args: &SealArgs, output: &Output) -> Result<StateDir, Failure> {
    match output {
        Output::File(_) if !args.remove_source => Ok(context.machine()?.sealed(context.now)?),
        _ => Ok(StateDir::forgetful()),
    }
}

fn options(
    context: &Context,
    args: &SealArgs,
    sealing: Sealing<'static>,
) -> Result<Options<'static>, Failure> {
    Ok(Options {
        // Whoever opens it has no business with this machine's name.
        host: String::new(),
        tags: Vec::new(),
        time: None,
        now: context.now,
        clock,
        level: args.compression,
        dry_run: false,
        skip_if_unchanged: false,
        paranoid: false,
        force: false,
        ignore_ctime: false,
        ignore_inode: false,
        filter: args.excludes.filter()?,
        profile: String::new(),
        left_out: vec![context.machine()?.folder().to_owned()],
        program: PROGRAM.to_owned(),
        sealing: Some(sealing),
    })
}

/// What a source is called in the file.
fn name_of(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = || printable(path.as_os_str().as_bytes());
    let real = std::fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Exit::Failed, format!("there is no {} to seal", shown())),
        _ => Failure::io(shown(), &error),
    })?;
    let given = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/."));
    let name = given.or_else(|| real.file_name()).map(|name| name.as_bytes().to_vec());
    name.ok_or_else(|| Failure::usage(format!("{} has no name to seal it under", shown())))
}

fn check_names(paths: &[PathBuf]) -> Result<(), Failure> {
    let mut names = paths.iter().map(|path| name_of(path)).collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Failure::usage(format!("two of the folders are called {}", printable(&pair[0])))
            .hint("in the file each has its own name: seal them into two files, or rename one")),
    }
}

fn output(args: &SealArgs) -> Result<Output, Failure> {
    let file = match &args.output {
        Some(file) if file == Path::new("-") => {
            if args.remove_source || args.split.is_some() {
                return Err(Failure::usage("`--remove-source` and `--split` take a file, not a pipe"));
            }
            if io::stdout().is_terminal() {
                return Err(Failure::usage("a sealed file is not for a terminal")
                    .hint("send it on: `strongroom seal -o - DIR | ssh HOST 'cat > FILE'`"));
            }
            return Ok(Output::Pipe);
        }
        Some(file) => file.clone(),
        None => beside(&args.paths)?,
    };
    let file = if file.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
        // What the link leads to is the file, and the link stays one.
        std::fs::canonicalize(&file).map_err(|_| {
            let shown = printable(file.as_os_str().as_bytes());
            Failure::new(Exit::Refused, format!("{shown} is a link that leads nowhere"))
                .hint("name the file itself, or remove the link")
        })?
    } else {
        file
    };
    let folder = sealed::folder_of(&file);
    let shown = printable(folder.as_os_str().as_bytes());
    let folder = std::fs::canonicalize(folder).map_err(|error| Failure::io(shown, &error))?;
    for path in &args.paths {
        if std::fs::canonicalize(path).is_ok_and(|real| folder.starts_with(real)) {
            return Err(Failure::new(Exit::Refused, "the file would be inside what it seals")
                .hint("`-o FILE` says where else it is to be"));
        }
    }
    Ok(Output::File(file))
}

/// The folder's name and the suffix, beside the folder.
fn beside(paths: &[PathBuf]) -> Result<PathBuf, Failure> {
    let [path] = paths else {
        return Err(Failure::usage("of several folders, none gives the file its name").hint("give `-o FILE`"));
    };
    let mut name = name_of(path)?;
    name.extend_from_slice(SUFFIX.as_bytes());
    let real = std::fs::canonicalize(path)
        .map_err(|error| Failure::io(printable(path.as_os_str().as_bytes()), &error))?;
    let parent = match path.parent() {
        // As it was given, so that what is told has the person's own words.
        Some(parent) if path.file_name().is_some() => parent.to_owned(),
        _ => real.parent().map(Path::to_owned).unwrap_or_default(),
    };
    Ok(parent.join(OsStr::from_bytes(&name)))
}

/// Whoever seals a link means what it leads to.
fn behind_link(path: &Path) -> PathBuf {
    let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    if is_link { std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()) } else { path.to_owned() }
}

/// Whoever seals into a file that is there means that file as it is.
fn check_own_file(args: &SealArgs, file: &Path, recipients: &[Recipient]) -> Result<(), Failure> {
    let hint = if !recipients.is_empty() || args.recovery_code_out.is_some() {
        "without `--recipient`, `--recipients-file` and `--recovery-code-out` it is sealed again for those; `strongroom slot \
         add` and `slot remove` change who they are, and `--force` makes a new file in its place"
    } else if args.split.is_some() {
        "without `--split` it is sealed again in the parts that it has; `--force` makes a new file in its place, for \
         whom this command names"
    } else {
        return Ok(());
    };
    let what =
        if args.split.is_some() { "is cut as it was made" } else { "is sealed for those it was made for" };
    Err(taken(file, what).hint(hint))
}

fn taken(file: &Path, what: &str) -> Failure {
    let shown = printable(file.as_os_str().as_bytes());
    Failure::new(Exit::Refused, format!("{shown} is there already, and {what}"))
        .hint("`strongroom slot add` and `slot remove` change who opens a sealed file; `--force` makes a new one in its place")
}

/// What is there is nothing that could be sealed again.
fn occupied(file: &Path, what: &str) -> Failure {
    let shown = printable(file.as_os_str().as_bytes());
    Failure::new(Exit::Refused, format!("{shown} is there already, and {what}"))
        .hint("`-o FILE` names another file; `--force` makes a new one in its place")
}

/// The file must hold what is sealed into it now: by a slip of the hand something else would be lost.
fn check_same(args: &SealArgs, vault: &Vault, file: &Path) -> Result<(), Failure> {
    let reader = seal::reader(vault)?.ok_or_else(|| taken(file, "holds nothing"))?;
    let body = reader.body();
    let mut names = args.paths.iter().map(|path| name_of(path)).collect::<Result<Vec<_>, _>>()?;
    let mut held: Vec<Vec<u8>> =
        body.paths.iter().map(|path| path.strip_prefix(b"/").unwrap_or(path).to_vec()).collect();
    names.sort_unstable();
    held.sort_unstable();
    if names == held {
        return Ok(());
    }
    let held: Vec<String> = held.iter().map(|name| printable(name)).collect();
    let shown = printable(file.as_os_str().as_bytes());
    let those =
        if held.len() == 1 { "a folder or file of that name" } else { "all of those, by these names" };
    Err(taken(file, &format!("holds something else: {}", held.join(", "))).hint(format!(
        "it is sealed again from {those}: rename yours, then `strongroom seal {} -o {shown}`; `-o FILE` makes another \
         file, `--force` a new one in its place, for whom this command names",
        held.join(" ")
    )))
}

/// This machine's hand in the vault that is named, or in the default one.
fn signer(context: &Context) -> Result<Signer, Failure> {
    let (locked, _) = context.locked()?;
    let fingerprint = locked.log().fingerprint();
    let state = context.machine()?.vault_state(&fingerprint);
    let keys = DeviceKeys::load(&fingerprint, &state)?.ok_or(Error::NotEnrolled { fingerprint })?;
    Ok(Signer::load(locked.store(), locked.log(), keys)?)
}

/// Refuses to begin where no file can be made, before anything is asked.
fn check_writable(output: &Output) -> Result<(), Failure> {
    let Output::File(file) = output else { return Ok(()) };
    let folder = sealed::folder_of(file);
    let may = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK);
    may.map_err(|errno| {
        let shown = printable(folder.as_os_str().as_bytes());
        Failure::io(format!("no file can be made in {shown}"), &errno.into())
            .hint("`-o FILE` makes it in another folder")
    })
}

/// Refuses to begin where there can't be room.
fn check_room(args: &SealArgs, output: &Output) -> Result<(), Failure> {
    let Output::File(file) = output else { return Ok(()) };
    let folder = sealed::folder_of(file);
    let Ok(room) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    // Mostly there is no need to look at every file: a source has no more than the disk that it is on.
    let used_beside = |path: &PathBuf| {
        rustix::fs::statvfs(path)
            .map_or(u64::MAX, |disk| disk.f_blocks.saturating_sub(disk.f_bfree).saturating_mul(disk.f_frsize))
    };
    let used = args.paths.iter().map(used_beside).fold(0, u64::saturating_add);
    if free >= used / SHRINKS_MOST {
        return Ok(());
    }
    let bytes: u64 = args.paths.iter().map(|path| walk::bytes_below(path)).sum();
    if free >= bytes / SHRINKS_MOST {
        return Ok(());
    }
    let shown = printable(folder.as_os_str().as_bytes());
    Err(Failure::new(
        Exit::Refused,
        format!("{} are to be sealed and {} are free in {shown}", render::size(bytes), render::size(free)),
    )
    .hint("make room, or give `-o FILE` on another disk"))
}

impl Made {
    fn tell(&self, context: &Context, output: &Output, removed: bool) -> Result<(), Failure> {
        let counts = &self.summary.backup.counts;
        let file = match output {
            Output::File(file) => file.as_os_str().as_bytes(),
            Output::Pipe => b"-",
        };
        if context.output.json {
            let mut message = json!({
                "message_type": "sealed",
                "schema": 1,
                "key_file_created": null,
                "recovery_code_file": null,
                "files": counts.files,
                "dirs": counts.directories,
                "bytes": counts.bytes,
                "file_bytes": self.summary.file_bytes,
                "bytes_kept": self.summary.bytes_kept,
                "sealed_for": self.people,
                "again": self.is_again,
                "signed": self.is_signed,
                "source_removed": removed,
                "errors": counts.errors,
            });
            if let Some(fields) = message.as_object_mut() {
                render::put_path(fields, "file", file);
                for (key, path) in
                    [("key_file_created", &self.written.key_file), ("recovery_code_file", &self.written.page)]
                {
                    if let Some(path) = path {
                        render::put_path(fields, key, path.as_os_str().as_bytes());
                    }
                }
            }
            return match output {
                Output::File(_) => context.json(&message),
                Output::Pipe => {
                    crate::cli::context::say(&format!("{message}\n"));
                    Ok(())
                }
            };
        }
        if removed {
            context.note(
                "note: what was deleted may still be on the disk: flash storage can't be wiped; encrypt the disk \
                 to be safe from its thief",
            );
        }
        // Whoever took himself for a recipient, too, has two slots of one name.
        let mut people = self.people.iter().map(|name| printable(name.as_bytes())).collect::<Vec<_>>();
        let mut seen = HashSet::new();
        people.retain(|name| seen.insert(name.clone()));
        let people = match people.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
            None => "nobody".to_owned(),
        };
        let mut lines = self.made_lines();
        let mut line = format!(
            "{}: {}, {} in {}, sealed for {people}",
            if let Output::Pipe = output { "to the pipe".to_owned() } else { printable(file) },
            plural(counts.files, "file", "files"),
            render::size(counts.bytes),
            render::size(self.summary.file_bytes),
        );
        if self.is_again && self.summary.bytes_kept > 0 {
            line.push_str(&format!("; {} of it kept as it was", render::size(self.summary.bytes_kept)));
        }
        if self.is_signed {
            line.push_str("; signed");
        }
        if removed {
            line.push_str("; the source was removed");
        }
        lines.push(line);
        lines.iter().try_for_each(|line| match output {
            Output::File(_) => context.line(line),
            Output::Pipe => {
                context.note(line);
                Ok(())
            }
        })
    }

    /// What was made and has to be kept.
    fn made_lines(&self) -> Vec<String> {
        let shown = |path: &Path| printable(path.as_os_str().as_bytes());
        let by_both = self.way.as_ref().is_some_and(|way| way.passphrase.is_some());
        let opens = match self.people.len() {
            _ if by_both => "the passphrase alone opens nothing",
            1 => "without it nobody opens the file",
            _ => "it opens the file",
        };
        let key = self.written.key_file.iter().map(|path| format!("made {}: keep it; {opens}", shown(path)));
        let page =
            |path| format!("made {}: print it, keep it apart from the file, and delete it", shown(path));
        key.chain(self.written.page.as_deref().map(page)).collect()
    }
}

//! `strongroom open`: a sealed file back into a folder, all of it checked before anything appears.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::cli::args::Named;
use crate::cli::context::Context;
use crate::cli::diff::plural;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::render;
use crate::cli::sealed;
use crate::cli::sealed::SUFFIX;
use crate::cli::sender::Known;
use crate::cli::sender::Standing;
use crate::crypto::text;
use crate::id::Fingerprint;
use crate::store;
use crate::store::SealedFile;
use crate::task::browse::At;
use crate::task::browse::entry_at;
use crate::task::error::Error;
use crate::task::restore::Options;
use crate::task::restore::Summary;
use crate::task::restore::restore;
use crate::task::seal;
use crate::tree::entry::EntryKind;
use crate::tree::filter::Selection;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use crate::tree::place;
use crate::tree::place::Policy;
use crate::vault::LockedVault;
use crate::vault::read::SnapshotReader;
use crate::vault::sender::Sender;

/// Opens a sealed file: what was sealed comes back as a folder, or nothing does.
///
/// The whole file is checked before anything appears. `ls`, `find`, `dump`, `restore`, `verify`, `slot` and
/// `inspect` work on a sealed file as on a vault: give it as --vault.
#[derive(Args)]
pub struct OpenArgs {
    /// The file, or the first of its parts; - reads a pipe
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The folder to open it into, which must not exist or be empty [default: the file's name without .strongroom]
    #[arg(short, long, value_name = "DIR")]
    target: Option<PathBuf>,

    /// Only if a device of the vault with this fingerprint sealed it: in base32, or its twelve words in quotes
    #[arg(long, value_name = "FINGERPRINT", value_parser = Named::parse)]
    from: Option<Named>,

    /// Restore owners, setuid bits, security attributes and device nodes, too
    #[arg(long)]
    privileged: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::NoVault`] if it is no sealed file; [`Exit::Damaged`]; [`Exit::WrongKey`]; [`Exit::Refused`] if the
/// target has something in it, or the sender isn't the one that was asked for.
pub fn run(context: &Context, args: &OpenArgs) -> Result<Exit, Failure> {
    open_all(context, args).map_err(Failure::of_sealed_file)
}

fn open_all(context: &Context, args: &OpenArgs) -> Result<Exit, Failure> {
    let target = target(args)?;
    check_target(&target)?;
    let locked = load(context, args, &target)?;
    {
        let bars = context.watched_bars();
        seal::check(&locked, &bars).map_err(|error| refused_whole(args, error))?;
    }
    sealed::warn_if_older(context, &locked);
    let mut way = context.way(&locked)?;
    let vault = context.unlock_typed(locked, true, &mut way)?;
    let reader = seal::reader(&vault)?
        .ok_or_else(|| Failure::new(Exit::Damaged, "nothing was sealed into this file"))?;
    let body = reader.body();
    let sender = sender(context, args, &body.sender, &vault.log().fingerprint(), &body.root)?;
    if !context.output.json {
        // Before anything appears: whoever doesn't expect it from there can stop it.
        let nobody = || "sender unverified: nobody signed it".to_owned();
        context.line(&sender.as_ref().map_or_else(nobody, Known::line))?;
    }
    let subpath = inner(body.paths.as_slice());
    let is_itself = args.target.is_none() && is_single(&reader, &subpath)?;
    if is_itself && target.symlink_metadata().is_ok() {
        return Err(occupied(&target, "and a folder, where a file is to be"));
    }
    let options = Options {
        subpath,
        policy: Policy { privileged: args.privileged, sparse: true, ..Policy::default() },
        selection: Selection::everything(),
        all_or_nothing: true,
        is_itself,
    };
    let restored = {
        let bars = context.watched_bars();
        restore(&reader, &target, &options, &bars)
    };
    sealed::tell_leftovers(context, &target);
    let summary = restored.map_err(nothing_opened)?;
    if let Some(first) = summary.damaged.first() {
        return Err(Failure::new(
            Exit::Damaged,
            format!("{} is damaged in the file: {}; nothing was opened", first.path, first.error),
        ));
    }
    if summary.problems > 0 {
        let number = plural(summary.problems, "entry", "entries");
        return Err(Failure::new(Exit::Failed, format!("{number} could not be written; nothing was opened"))
            .hint("the reasons are named above; `--target` opens it elsewhere"));
    }
    tell(context, &target, &summary, sender.as_ref())?;
    Ok(Exit::Done)
}

/// Part of the file is damaged, and the rest of it may be what somebody needs.
fn refused_whole(args: &OpenArgs, error: Error) -> Failure {
    let failure = Failure::from(error);
    if failure.exit != Exit::Damaged || is_pipe(&args.file) {
        return failure;
    }
    let shown = printable(args.file.as_os_str().as_bytes());
    failure.hint(format!(
        "nothing was opened; `strongroom restore -r {shown} latest --target DIR` gets what is whole in it, and another \
         copy of the file may be whole"
    ))
}

/// A restore that failed leaves nothing, and can't go on where it stopped.
fn nothing_opened(error: Error) -> Failure {
    if matches!(&error, Error::Target(place::Error::Appeared { .. })) {
        // All of it is there, under another name that the message tells.
        return Failure::from(error);
    }
    let is_full = matches!(&error, Error::Target(place::Error::NoSpace { .. }));
    let failure = Failure::from(error);
    let message = format!("{}; nothing was opened", failure.message);
    let failure = Failure { message, ..failure };
    if is_full { failure.hint("make room, or open it on another disk with `--target`") } else { failure }
}

/// Whether what is opened is one thing that is no folder, and comes back as that.
fn is_single(reader: &SnapshotReader<'_>, path: &TreePath) -> Result<bool, Failure> {
    Ok(match entry_at(reader, path)? {
        At::Entry(entry) => !matches!(entry.kind, EntryKind::Directory { .. }),
        At::Root(_) => false,
    })
}

/// Where it is opened to.
fn target(args: &OpenArgs) -> Result<PathBuf, Failure> {
    if let Some(target) = &args.target {
        return Ok(target.clone());
    }
    if is_pipe(&args.file) {
        return Err(Failure::usage("a pipe has no name to open it under").hint("give `--target DIR`"));
    }
    let whole = sealed::without_part(&args.file);
    let name = whole.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
    match name.strip_suffix(SUFFIX.as_bytes()) {
        // A name of dots alone is none to open anything under.
        Some(stem) if !stem.iter().all(|byte| *byte == b'.') => {
            Ok(whole.with_file_name(std::ffi::OsStr::from_bytes(stem)))
        }
        _ if args.file.is_dir() => {
            Err(Failure::usage(format!("{} is a folder, and no sealed file", printable(&name)))
                .hint("`strongroom seal` makes NAME.strongroom of it, which `open` takes"))
        }
        // Whatever it is called, it may be none.
        _ => sealed::load(&args.file).and_then(|_| {
            Err(Failure::usage(format!("{} does not end in {SUFFIX}", printable(&name)))
                .hint("give `--target DIR` to say where it is to be opened"))
        }),
    }
}

fn check_target(target: &Path) -> Result<(), Failure> {
    match target.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(meta) if meta.is_dir() && is_empty(target) => Ok(()),
        Ok(meta) => {
            let what = if meta.is_dir() { "and not empty: is it open already?" } else { "and no folder" };
            Err(occupied(target, what))
        }
    }
}

fn occupied(target: &Path, what: &str) -> Failure {
    let shown = printable(target.as_os_str().as_bytes());
    Failure::new(Exit::Refused, format!("{shown} is there already, {what}"))
        .hint("nothing is written over what is there: `--target DIR` opens the file elsewhere")
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn is_pipe(file: &Path) -> bool {
    file == Path::new("-")
}

fn load(context: &Context, args: &OpenArgs, target: &Path) -> Result<LockedVault, Failure> {
    let file = if is_pipe(&args.file) {
        let _spinner = context.bars().spinner("reading the pipe");
        let read = SealedFile::from_stream(io::stdin().lock(), sealed::folder_of(target));
        Arc::new(read.map_err(|error| match error {
            store::Error::NoRoom { .. } => Failure::from(error).hint(
                "what comes from a pipe is put aside beside the target first: make room there, or give `--target` on \
                 another disk",
            ),
            error => error.into(),
        })?)
    } else {
        sealed::load(&args.file)?
    };
    let locked = LockedVault::load_sealed_file(file)?;
    let found = locked.log().fingerprint();
    match context.vault.fingerprint {
        Some(expected) if expected != found => {
            Err(crate::vault::error::Error::OtherVault { expected, found }.into())
        }
        _ => Ok(locked),
    }
}

/// Who sealed it, if it says so.
fn sender(
    context: &Context,
    args: &OpenArgs,
    sender: &Option<Vec<u8>>,
    fingerprint: &Fingerprint,
    root: &crate::tree::entry::TreeRef,
) -> Result<Option<Known>, Failure> {
    let refused = |what: &str| Failure::new(Exit::Refused, format!("{what}; nothing was opened"));
    let found = match sender {
        None => None,
        Some(bytes) => {
            let found = Sender::check(bytes, fingerprint, root)
                .map_err(|refused| Failure::new(Exit::Damaged, format!("{refused}; nothing was opened")))?;
            let is_named = args.from.is_some_and(|from| from.is(&found.vault));
            Some(Known::find(context, found, bytes, is_named)?)
        }
    };
    match (&args.from, &found) {
        (Some(from), Some(found)) if !from.is(&found.sender.vault) => {
            return Err(refused("a device of another vault sealed this file"));
        }
        (Some(_), Some(found)) if found.standing == Standing::Revoked => {
            return Err(refused("a device that was shut out of that vault signed this file"));
        }
        (Some(_), Some(found)) if !found.is_good() => {
            return Err(refused("a device that isn't in that vault signed this file"));
        }
        (Some(_), None) => {
            return Err(refused("nobody signed this file")
                .hint("whoever seals it signs it with `strongroom seal --sign`"));
        }
        _ => {}
    }
    Ok(found)
}

/// What is opened: one folder's contents, or else all that was sealed.
fn inner(paths: &[Vec<u8>]) -> TreePath {
    match paths {
        [only] => {
            TreePath::parse(only.strip_prefix(b"/").unwrap_or(only)).unwrap_or_else(|_| TreePath::root())
        }
        _ => TreePath::root(),
    }
}

fn tell(context: &Context, target: &Path, summary: &Summary, sender: Option<&Known>) -> Result<(), Failure> {
    let shown = printable(target.as_os_str().as_bytes());
    // Those of a run before that was cut off are there as well.
    let (files, bytes) = (summary.files + summary.files_kept, summary.bytes + summary.bytes_kept);
    if context.output.json {
        let mut message = json!({
            "message_type": "opened",
            "schema": 1,
            "files": files,
            "dirs": summary.directories,
            "others": summary.others + summary.kept - summary.files_kept,
            "bytes": bytes,
            "sender_vault": sender.map(|known| text::fingerprint_base32(&known.sender.vault)),
            "sender_device": sender.map(|known| known.sender.device.to_string()),
            "sender_known": sender.is_some_and(|known| (known.is_vault_known || known.is_named) && known.is_good()),
            "sender_standing": sender.map(Known::word),
        });
        if let Some(fields) = message.as_object_mut() {
            render::put_path(fields, "target", target.as_os_str().as_bytes());
        }
        return context.json(&message);
    }
    if let Some(dropped) = crate::cli::restore::dropped(&summary.dropped) {
        context.note(&format!("left out: {dropped}\n  hint: `--privileged` restores what this user may set"));
    }
    context.line(&format!(
        "{shown}: {}, {}, all verified",
        plural(files, "file", "files"),
        render::size(bytes)
    ))
}

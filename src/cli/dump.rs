//! `strongroom dump`: one file of a snapshot to standard output.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::snapshots;
use crate::cli::snapshots::FilterArgs;
use crate::cli::snapshots::Part;
use crate::cli::snapshots::shown;
use crate::task::browse;
use crate::task::browse::At;
use crate::task::error::Error;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::vault::read::SnapshotReader;

/// Prints one file of a snapshot; every byte is verified before it is printed.
#[derive(Args)]
pub struct DumpArgs {
    /// Which snapshot: latest, latest~1, 3f9a0c12
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,

    /// The file in it, if it isn't given with the snapshot
    #[arg(value_name = "PATH")]
    path: Option<OsString>,

    #[command(flatten)]
    filters: FilterArgs,

    /// Write to this file, which must not exist yet, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    target: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says; [`Exit::Damaged`] if the file is: what came before the damage has been
/// printed then, and nothing is left of a `--target`.
pub fn run(context: &Context, args: &DumpArgs) -> Result<Exit, Failure> {
    let mut part = Part::parse(args.snapshot.clone())?;
    if let Some(path) = &args.path {
        part.path = snapshots::tree_path(path.as_bytes())?;
    }
    let vault = context.unlock_to_choose()?;
    let reader = snapshots::choose(context, &vault, "dump", &part, &args.filters)?;
    let path = part.path;
    let entry = match browse::entry_at(&reader, &path)? {
        At::Entry(entry) if matches!(entry.kind, EntryKind::File { .. }) => entry,
        at => {
            let what = if at.tree().is_some() { "a folder" } else { "neither a file nor a folder" };
            return Err(Failure::new(Exit::Failed, format!("{} is {what}", shown(&path)))
                .hint("`strongroom restore` takes out folders and everything else"));
        }
    };
    match &args.target {
        None => {
            let mut out = io::BufWriter::with_capacity(1 << 20, io::stdout().lock());
            browse::dump(&reader, &entry, &mut out).map_err(output)?;
            out.flush().map_err(|error| Failure::output(&error))?;
        }
        Some(target) => {
            write_new(&reader, &entry, target)?;
            context.note(&format!("{} is in {}", shown(&path), one_line(&target.to_string_lossy())));
        }
    }
    snapshots::warn_of_indexes(context, &reader);
    Ok(Exit::Done)
}

/// A reader that went away is no failure of the vault.
fn output(error: Error) -> Failure {
    match error {
        Error::Output(error) => Failure::output(&error),
        error => error.into(),
    }
}

fn write_new(reader: &SnapshotReader<'_>, entry: &Entry, target: &Path) -> Result<(), Failure> {
    let place = one_line(&target.to_string_lossy());
    let failed = |error: &io::Error| Failure::io(format!("{place} could not be written"), error);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
    let mut file = file.map_err(|error| {
        let failure = failed(&error);
        match error.kind() {
            io::ErrorKind::AlreadyExists => failure.hint("nothing is ever overwritten: name a new file"),
            _ => failure,
        }
    })?;
    let written = browse::dump(reader, entry, &mut file)
        .map_err(|error| match error {
            Error::Output(error) => failed(&error),
            error => error.into(),
        })
        .and_then(|()| file.sync_all().map_err(|error| failed(&error)));
    if written.is_err() {
        // It is ours and not whole: a file that looks like the wanted one must not stay.
        let _ = std::fs::remove_file(target);
    }
    written
}

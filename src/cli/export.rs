//! `strongroom export`: a snapshot, or a part of one, as a tar archive.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use rustix::fs::CWD;
use rustix::fs::renameat;
use rustix::io::Errno;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::diff::plural;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::render;
use crate::cli::snapshots;
use crate::cli::snapshots::FilterArgs;
use crate::cli::snapshots::Part;
use crate::task::error::Error;
use crate::task::export;
use crate::task::export::Summary;
use crate::tree::path::TreePath;
use crate::tree::place::rename_over_nothing;
use crate::vault::read::SnapshotReader;

/// How many bytes are gathered before they are written out.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes a snapshot, or a part of one, as a tar archive; every byte is verified.
///
/// The archive is a POSIX pax one with owners, times, attributes, access lists, hard links and holes. As
/// root, `tar --xattrs --xattrs-include='*' --acls -xpf` restores all of that from it.
#[derive(Args)]
pub struct ExportArgs {
    /// Which snapshot, perhaps with a path in it: latest, latest~1, 3f9a0c12:home/anna
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,

    #[command(flatten)]
    filters: FilterArgs,

    /// Write to this file in place of standard output; it appears once all of it is there
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: Option<PathBuf>,

    /// Replace the file if there is one
    #[arg(long, requires = "file")]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says; [`Exit::Damaged`] if something is: the archive breaks off then without its
/// end, and there is no `--output` file.
pub fn run(context: &Context, args: &ExportArgs) -> Result<Exit, Failure> {
    let part = Part::parse(args.snapshot.clone())?;
    match &args.file {
        Some(file) if !args.force && fs::symlink_metadata(file).is_ok() => return Err(exists(file)),
        None if context.output.json => {
            return Err(Failure::usage("--json and the archive can't both go to standard output")
                .hint("name a file with `--output`"));
        }
        None if io::stdout().is_terminal() => {
            return Err(Failure::usage("an archive is nothing for a terminal")
                .hint("name a file with `--output`, or pipe it into another program"));
        }
        _ => {}
    }
    let vault = context.unlock_to_choose()?;
    let reader = snapshots::choose(context, &vault, "export", &part, &args.filters)?;
    let summary = match &args.file {
        None => to_stdout(context, &reader, &part.path)?,
        Some(file) => {
            let unfinished = Unfinished::create(file)?;
            let summary = write(context, &reader, &part.path, &unfinished.file)
                .map_err(|error| explain(error, |error| unfinished.failed(error)))?;
            unfinished.finish(args.force)?;
            summary
        }
    };
    snapshots::warn_of_indexes(context, &reader);
    tell(context, args, &summary, &reader.snapshot().id().to_string())?;
    Ok(Exit::Done)
}

fn to_stdout(context: &Context, reader: &SnapshotReader<'_>, from: &TreePath) -> Result<Summary, Failure> {
    write(context, reader, from, io::stdout().lock()).map_err(|error| explain(error, Failure::output))
}

fn write(
    context: &Context,
    reader: &SnapshotReader<'_>,
    from: &TreePath,
    out: impl io::Write,
) -> Result<Summary, Error> {
    let bars = context.watched_bars();
    let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, out);
    export::export(reader, from, &mut out, &bars)
}

/// What to say of an export that failed; `output` says it of writing.
fn explain(error: Error, output: impl FnOnce(&io::Error) -> Failure) -> Failure {
    match error {
        Error::Output(error) => output(&error),
        Error::Interrupted => Failure::new(Exit::Interrupted, "interrupted: the archive is not whole")
            .hint("the vault is sound; run the same command again"),
        error => {
            let failure = Failure::from(error);
            if failure.exit == Exit::Damaged {
                let message = format!("the archive breaks off and is not whole: {}", failure.message);
                return Failure { message, ..failure };
            }
            failure
        }
    }
}

fn exists(file: &Path) -> Failure {
    Failure::new(Exit::Refused, format!("{} is there already", shown(file)))
        .hint("name a new file, or replace this one with `--force`")
}

fn shown(file: &Path) -> String {
    one_line(&file.to_string_lossy())
}

/// A file that gets its name once all of it is there, and is removed if it doesn't come to that.
struct Unfinished {
    file: File,
    /// Where it lies until then: beside its place, as a hidden file.
    at: PathBuf,
    target: PathBuf,
    is_finished: bool,
}

impl Unfinished {
    fn create(target: &Path) -> Result<Self, Failure> {
        let Some(name) = target.file_name() else {
            return Err(Failure::usage(format!("{} is not the name of a file", shown(target))));
        };
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let at = target.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at);
        let file = file.map_err(|error| could_not_write(target, &error))?;
        Ok(Self { file, at, target: target.to_owned(), is_finished: false })
    }

    fn failed(&self, error: &io::Error) -> Failure {
        could_not_write(&self.target, error)
    }

    /// Gives it its name, over another file only if `force` says so.
    fn finish(mut self, force: bool) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        let (from, to) = (self.at.as_os_str().as_bytes(), self.target.as_os_str().as_bytes());
        let renamed =
            if force { renameat(CWD, from, CWD, to) } else { rename_over_nothing(CWD, from, CWD, to) };
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(exists(&self.target)),
            Err(error) => return Err(self.failed(&error.into())),
        }
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            // It is ours and not whole; if it can't be removed, its name says so.
            let _ = fs::remove_file(&self.at);
        }
    }
}

fn could_not_write(target: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("{} could not be written", shown(target)), error)
}

/// Tells what was exported: as a result if there is a file, else beside the archive.
fn tell(context: &Context, args: &ExportArgs, summary: &Summary, snapshot: &str) -> Result<(), Failure> {
    if context.output.json {
        return context.json(&json!({
            "message_type": "summary",
            "schema": 1,
            "snapshot_id": snapshot,
            "files_exported": summary.files,
            "dirs_exported": summary.directories,
            "others_exported": summary.others,
            "hard_links": summary.hard_links,
            "bytes_exported": summary.bytes,
        }));
    }
    let mut parts =
        vec![plural(summary.files, "file", "files"), plural(summary.directories, "folder", "folders")];
    if summary.others > 0 {
        parts.push(plural(summary.others, "other entry", "other entries"));
    }
    let what = format!("{} ({}), all verified", parts.join(", "), render::size(summary.bytes));
    match &args.file {
        None => {
            context.note(&format!("exported {what}"));
            Ok(())
        }
        Some(file) => context.line(&format!("exported {what}, to {}", shown(file))),
    }
}

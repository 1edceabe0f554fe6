//! `strongroom backup`: a snapshot of files, of a stream, or of what a command prints.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use clap::Args;
use serde_json::json;

use crate::cli::args::parse_size;
use crate::cli::args::parse_time;
use crate::cli::context::Context;
use crate::cli::diff::plural;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::init;
use crate::cli::init::NewVaultArgs;
use crate::cli::progress;
use crate::cli::render;
use crate::cli::snapshots;
use crate::cli::terminal;
use crate::cli::trusted;
use crate::cli::trusted::Kept;
use crate::pack::compress;
use crate::task::backup;
use crate::task::backup::Form;
use crate::task::backup::Input;
use crate::task::backup::Options;
use crate::task::backup::Stream;
use crate::task::backup::Summary;
use crate::task::error::Error;
use crate::tree::filter::Filter;
use crate::tree::filter::FilterBuilder;
use crate::tree::filter::IGNORE_FILE_BYTES_MAX;
use crate::tree::filter::Marker;
use crate::tree::path::printable;
use crate::tree::walk::Owners;
use crate::vault::device::DeviceVault;

/// What snapshots are made with.
pub(super) const PROGRAM: &str = concat!("strongroom ", env!("CARGO_PKG_VERSION"));

/// The most that a list of paths has, in bytes.
const PATHS_BYTES_MAX: u64 = 256 << 20;

/// Adds a snapshot of files and folders to the vault.
///
/// It takes no passphrase: this machine holds a key that can add to the vault and can't read it.
#[derive(Args)]
pub struct BackupArgs {
    /// What to back up; with --stdin-from-command, the command and its arguments
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// Make the vault first, as `strongroom init` does
    #[arg(long)]
    init: bool,

    #[command(flatten)]
    new: NewVaultArgs,

    #[command(flatten)]
    excludes: ExcludeArgs,

    /// Back up the paths in this file too, one a line, as they stand there; - is standard input
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,

    /// The same, each path ended by a zero byte
    #[arg(long, value_name = "FILE")]
    files_from_raw: Vec<PathBuf>,

    /// Back up standard input as one file
    #[arg(long, conflicts_with_all = ["paths", "files_from", "files_from_raw"])]
    stdin: bool,

    /// Back up what a command prints as one file; if the command fails, so does the backup
    #[arg(long, requires = "paths", conflicts_with_all = ["stdin", "files_from", "files_from_raw"])]
    stdin_from_command: bool,

    /// What that file is called in the snapshot
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    stdin_filename: OsString,

    /// Store nothing and tell what would be stored
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Add no snapshot if what is backed up is as the last one of the same paths has it
    #[arg(long)]
    skip_if_unchanged: bool,

    /// Say this of the snapshot
    #[arg(long, value_name = "TAG[,TAG..]", value_delimiter = ',')]
    tag: Vec<String>,

    /// The host's name in the snapshot [default: this machine's]
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Option<String>,

    /// The snapshot's time in place of now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<u64>,

    /// Read every file, changed or not
    #[arg(short, long)]
    force: bool,

    /// Take a file for unchanged whatever its change time is
    #[arg(long)]
    ignore_ctime: bool,

    /// Take a file for unchanged whatever its inode is, as on network drives
    #[arg(long)]
    ignore_inode: bool,

    /// Open everything that was encrypted once more, not only a sample, before it is stored
    #[arg(long)]
    paranoid: bool,

    /// How hard to compress: 1 (fast) to 19 (small), or none
    #[arg(long, value_name = "LEVEL", default_value = "3", value_parser = parse_level)]
    compression: i32,
}

/// What is left out. Patterns have the syntax of .gitignore; a .strongroomignore in a folder holds for
/// what is below it.
#[derive(Args, Clone)]
pub struct ExcludeArgs {
    /// Leave out what matches
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// The same, whatever the case of letters
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,

    /// Leave out what the lines of this file match
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,

    /// The same, whatever the case of letters
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,

    /// Leave out the contents of folders that a CACHEDIR.TAG marks as caches
    #[arg(long)]
    exclude_caches: bool,

    /// Leave out the contents of folders that hold a file of this name (and beginning)
    #[arg(long, value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<String>,

    /// Leave out files larger than this, such as 500M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    exclude_larger_than: Option<u64>,

    /// Leave out what is in other file systems
    #[arg(short = 'x', long)]
    one_file_system: bool,

    /// Take no notice of .strongroomignore files
    #[arg(long)]
    no_ignore_files: bool,
}

impl ExcludeArgs {
    /// What these options leave out.
    ///
    /// # Errors
    /// If a file can't be read or a pattern makes no sense.
    pub fn filter(&self) -> Result<Filter, Failure> {
        let mut builder = FilterBuilder::new();
        for (files, any_case) in [(&self.exclude_file, false), (&self.iexclude_file, true)] {
            for file in files {
                let lines = read_file(file, IGNORE_FILE_BYTES_MAX as u64)?;
                builder.exclude_lines(file.as_os_str().as_bytes(), &lines, any_case)?;
            }
        }
        for (patterns, any_case) in [(&self.exclude, false), (&self.iexclude, true)] {
            for pattern in patterns {
                builder.exclude(pattern, any_case)?;
            }
        }
        if self.exclude_caches {
            builder.exclude_caches();
        }
        for marker in &self.exclude_if_present {
            builder.exclude_if_present(Marker::parse(marker)?);
        }
        if let Some(bytes) = self.exclude_larger_than {
            builder.exclude_larger_than(bytes);
        }
        if self.one_file_system {
            builder.one_file_system();
        }
        if self.no_ignore_files {
            builder.without_ignore_files();
        }
        Ok(builder.build()?)
    }
}

/// Runs the command.
///
/// # Errors
/// What the vault, the device's state and the sources say; [`Exit::SourceIncomplete`] at the end if
/// something could not be read.
pub fn run(context: &Context, args: &BackupArgs) -> Result<Exit, Failure> {
    let filter = args.excludes.filter()?;
    let host = args.host.clone().unwrap_or_else(init::host_name);
    // A command is started only once there is a vault to put its output into; all else that may be
    // wrong with the arguments is said before one is made.
    let early = if args.stdin_from_command { None } else { Some(input(args)?) };
    if args.init {
        init::make(context, &args.new)?;
    }
    let mut vault = match context.device() {
        Err(missing) if missing.exit == Exit::NoVault => first_run(context, args, missing)?,
        loaded => loaded?,
    };
    let (input, what) = match early {
        Some(early) => early,
        None => input(args)?,
    };
    let options = Options {
        host,
        tags: args.tag.clone(),
        time: args.time,
        now: context.now,
        clock,
        level: args.compression,
        dry_run: args.dry_run,
        skip_if_unchanged: args.skip_if_unchanged,
        paranoid: args.paranoid,
        force: args.force,
        ignore_ctime: args.ignore_ctime,
        ignore_inode: args.ignore_inode,
        filter,
        profile: String::new(),
        left_out: vec![context.place()?, context.machine()?.folder().to_owned()],
        program: PROGRAM.to_owned(),
        sealing: None,
    };
    let summary = {
        let bars = context.watched_bars();
        backup::backup(&mut vault, input, &options, &bars).map_err(|error| explain(error, what.as_deref()))?
    };
    // Whether or not anybody reads what is told, the exit code says how it ended.
    let told = tell(context, &summary, args.dry_run);
    if summary.counts.errors == 0 {
        return told.map(|()| Exit::Done);
    }
    let number = plural(summary.counts.errors, "entry", "entries");
    let message = if args.dry_run {
        format!("{number} could not be read")
    } else {
        format!("{number} could not be read; the snapshot holds everything else")
    };
    Err(Failure::new(Exit::SourceIncomplete, message).hint(
        "they are named above: run this as a user who may read them, or leave them out with `--exclude`",
    ))
}

/// Now, in nanoseconds since 1970 UTC.
pub(super) fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

fn explain(error: Error, command: Option<&str>) -> Failure {
    if progress::is_interrupted() {
        // Ctrl-C reaches the command too, and it ends first.
        return Error::Interrupted.into();
    }
    match (&error, command) {
        (Error::Stream(_), Some(_)) => {
            Failure::from(error).hint("a command that fails leaves no snapshot: the vault is as it was")
        }
        _ => error.into(),
    }
}

/// Offers to make a vault at the default place, where none is.
fn first_run(context: &Context, args: &BackupArgs, missing: Failure) -> Result<DeviceVault, Failure> {
    if context.vault.vault.is_some() {
        return Err(missing.hint(
            "is the drive attached? `--init` makes a new vault there, with the options of `strongroom init`",
        ));
    }
    if !terminal::is_there() || context.output.json || args.dry_run {
        return Err(missing);
    }
    init::check_unknown(context, &args.new)?;
    let place = printable(context.place()?.as_os_str().as_bytes());
    if !terminal::ask_yes(&format!("There is no vault yet in {place}. Make one now?"))? {
        return Err(missing);
    }
    init::make(context, &args.new)?;
    context.device()
}

/// What is backed up, and the command that prints it, if one does.
fn input(args: &BackupArgs) -> Result<(Input, Option<String>), Failure> {
    let name = || snapshots::tree_path(args.stdin_filename.as_bytes());
    let owner =
        || Owners::new().owner(rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    if args.stdin {
        let form = Form::File { path: name()?, owner: owner() };
        let stream = Stream { bytes: Box::new(io::stdin()), form };
        return Ok((Input { paths: Vec::new(), stream: Some(stream) }, None));
    }
    if args.stdin_from_command {
        let output = CommandOutput::start(&args.paths)?;
        let command = output.command.clone();
        let stream = Stream { bytes: Box::new(output), form: Form::File { path: name()?, owner: owner() } };
        return Ok((Input { paths: Vec::new(), stream: Some(stream) }, Some(command)));
    }
    let mut paths: Vec<PathBuf> = args.paths.iter().map(PathBuf::from).collect();
    for (files, end) in [(&args.files_from, b'\n'), (&args.files_from_raw, 0)] {
        for file in files {
            let bytes = read_file(file, PATHS_BYTES_MAX)?;
            let listed = bytes.split(|byte| *byte == end).filter(|path| !path.is_empty());
            paths.extend(listed.map(|path| PathBuf::from(OsStr::from_bytes(path))));
        }
    }
    if paths.is_empty() {
        return Err(Failure::usage("there is nothing to back up: no path was given")
            .hint("`strongroom backup PATH..`, or --files-from, --stdin or --stdin-from-command"));
    }
    Ok((Input { paths, stream: None }, None))
}

/// All bytes of a file that nobody else can change, or of standard input for `-`.
fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let shown = trusted::shown(path);
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(trusted::open(path, Kept::Unchanged)?)
    };
    let mut bytes = Vec::new();
    source
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io(format!("{shown} could not be read"), &error))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Failure::new(
            Exit::Failed,
            format!("{shown} is longer than {}", render::size(bytes_max)),
        ));
    }
    Ok(bytes)
}

/// What a command prints; its end is an error unless the command succeeds.
struct CommandOutput {
    command: String,
    child: Child,
    output: ChildStdout,
    is_done: bool,
}

impl CommandOutput {
    fn start(words: &[OsString]) -> Result<Self, Failure> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(Failure::usage("no command was given"));
        };
        let command = printable(program.as_bytes());
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| {
            Failure::io(format!("the command {command} could not be started"), &error)
                .hint("give the command after `--`, word by word, as no shell reads it")
        })?;
        let output = child.stdout.take().expect("its standard output is a pipe that was just asked for");
        Ok(Self { command, child, output, is_done: false })
    }
}

impl Read for CommandOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        let status = self.child.wait()?;
        self.is_done = true;
        if status.success() {
            return Ok(0);
        }
        Err(io::Error::other(format!("the command {} failed: {status}", self.command)))
    }
}

impl Drop for CommandOutput {
    fn drop(&mut self) {
        if !self.is_done {
            // Nobody takes what it prints any more.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Tells what was added.
pub(super) fn tell(context: &Context, summary: &Summary, dry_run: bool) -> Result<(), Failure> {
    let counts = &summary.counts;
    if context.output.json {
        return context.json(&json!({
            "message_type": "summary",
            "schema": 1,
            "dry_run": dry_run,
            "files_new": counts.files_new,
            "files_changed": counts.files_changed,
            "files_unmodified": counts.files_unchanged,
            "dirs_processed": counts.directories,
            "others_processed": counts.others,
            "skipped": counts.skipped,
            "errors": counts.errors,
            "data_added": counts.bytes_new,
            "data_added_packed": counts.bytes_stored,
            "total_files_processed": counts.files,
            "total_bytes_processed": counts.bytes,
            "total_duration": summary.took as f64 / 1e9,
            "resumed_packs": summary.resumed_packs,
            "unchanged_snapshot_id": summary.standing.map(|id| id.to_string()),
            "snapshot_id": summary.id.map(|id| id.to_string()),
            "receipt": summary.committed.map(|committed| committed.receipt.to_string()),
        }));
    }
    context.line(&format!(
        "files     {} new, {} changed, {} unchanged ({})",
        render::count(counts.files_new),
        render::count(counts.files_changed),
        render::count(counts.files_unchanged),
        render::size(counts.bytes)
    ))?;
    let (would, verb) = if dry_run { ("would add", "stored") } else { ("added", "stored") };
    context.line(&format!(
        "{would:9} {} ({verb} {})",
        render::size(counts.bytes_new),
        render::size(counts.bytes_stored)
    ))?;
    if counts.skipped > 0 {
        context.line(&format!(
            "skipped   {}",
            plural(counts.skipped, "socket or the like", "sockets and the like")
        ))?;
    }
    if summary.resumed_packs > 0 {
        let packs = u64::try_from(summary.resumed_packs).unwrap_or(u64::MAX);
        context.line(&format!("resumed   {} of an interrupted run", plural(packs, "pack", "packs")))?;
    }
    context.line(&format!("took      {}", render::duration(summary.took)))?;
    if let Some(id) = &summary.standing {
        return context.line(&format!("nothing changed: snapshot {} stands, and none was added", id.short()));
    }
    match (&summary.id, &summary.committed) {
        (Some(id), Some(committed)) => {
            context.line(&format!("snapshot  {}", id.short()))?;
            context.line(&format!("receipt   {}", committed.receipt))
        }
        _ => context.line("nothing was stored: this was a dry run"),
    }
}

/// Reads a compression level.
pub fn parse_level(text: &str) -> Result<i32, String> {
    let wrong = || format!("it is 1 to {}, or none", compress::LEVEL_MAX);
    match text {
        "none" | "off" => Ok(compress::LEVEL_STORE),
        "auto" => Ok(compress::LEVEL_DEFAULT),
        "max" => Ok(compress::LEVEL_MAX),
        _ => text.parse().ok().filter(|level| (1..=compress::LEVEL_MAX).contains(level)).ok_or_else(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_number_that_zstd_takes_or_a_word() {
        assert_eq!(parse_level("none"), Ok(0));
        assert_eq!(parse_level("19"), Ok(19));
        for refused in ["0", "20", "-3", "", "fast"] {
            assert!(parse_level(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_command_that_fails_is_an_error_at_its_end() {
        let run = |script: &str| {
            let words = ["sh", "-c", script].map(OsString::from);
            let mut printed = Vec::new();
            CommandOutput::start(&words).unwrap().read_to_end(&mut printed).map(|_| printed)
        };
        assert_eq!(run("printf abc").unwrap(), b"abc");
        assert_eq!(
            run("printf abc; exit 3").unwrap_err().to_string(),
            "the command sh failed: exit status: 3"
        );
    }
}

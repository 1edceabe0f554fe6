//! `strongroom import`: a tar archive as a snapshot.

use std::fs::File;
use std::io;
use std::io::IsTerminal as _;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;

use crate::cli::args::parse_time;
use crate::cli::backup as backup_command;
use crate::cli::context::Context;
use crate::cli::diff::plural;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::init;
use crate::cli::snapshots;
use crate::cli::trusted::shown;
use crate::task::backup;
use crate::task::backup::Form;
use crate::task::backup::Input;
use crate::task::backup::Options;
use crate::task::backup::Stream;
use crate::tree::filter::FilterBuilder;
use crate::tree::path::TreePath;
use crate::tree::path::printable;

/// Adds a snapshot of what is in a tar archive to the vault.
///
/// It takes no passphrase, and no folder to unpack it into. Archives of any kind are read: ustar, GNU and
/// pax ones, with attributes, access lists, hard links and holes. One that could be understood in two
/// ways, or that would lead out of the folder that it is unpacked into, is refused.
#[derive(Args)]
pub struct ImportArgs {
    /// The archive, not compressed; - is standard input
    #[arg(value_name = "FILE.tar")]
    file: PathBuf,

    /// List the snapshot with this path, as if that had been backed up [default: /]
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,

    /// Store nothing and tell what would be stored
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Say this of the snapshot
    #[arg(long, value_name = "TAG[,TAG..]", value_delimiter = ',')]
    tag: Vec<String>,

    /// The host's name in the snapshot [default: this machine's]
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Option<String>,

    /// The snapshot's time in place of now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<u64>,

    /// Open everything that was encrypted once more, not only a sample, before it is stored
    #[arg(long)]
    paranoid: bool,

    /// How hard to compress: 1 (fast) to 19 (small), or none
    #[arg(long, value_name = "LEVEL", default_value = "3", value_parser = backup_command::parse_level)]
    compression: i32,
}

/// Runs the command.
///
/// # Errors
/// What the vault and the device's state say. [`Exit::Usage`] if the file is no archive or compressed,
/// [`Exit::Damaged`] if it is damaged or cut short, [`Exit::Refused`] if something in it isn't taken: no
/// snapshot is added then. [`Exit::SourceIncomplete`] at the end if an access list could not be kept.
pub fn run(context: &Context, args: &ImportArgs) -> Result<Exit, Failure> {
    let input = Input { paths: Vec::new(), stream: Some(stream(args)?) };
    let options = options(context, args)?;
    let mut vault = context.device()?;
    let summary = {
        let bars = context.watched_bars();
        backup::backup(&mut vault, input, &options, &bars)?
    };
    let told = backup_command::tell(context, &summary, args.dry_run);
    if summary.counts.errors == 0 {
        return told.map(|()| Exit::Done);
    }
    let number = plural(summary.counts.errors, "access list", "access lists");
    Err(Failure::new(
        Exit::SourceIncomplete,
        format!("{number} could not be kept; the snapshot holds everything else"),
    )
    .hint("they name users or groups that this machine doesn't know: make those first, or import on another"))
}

fn stream(args: &ImportArgs) -> Result<Stream, Failure> {
    let path = |path: &PathBuf| snapshots::tree_path(path.as_os_str().as_bytes());
    let mut paths = args.path.iter().map(path).collect::<Result<Vec<_>, _>>()?;
    if paths.is_empty() {
        paths.push(TreePath::root());
    }
    let (bytes, name): (Box<dyn Read + Send>, _) = if args.file == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(Failure::usage("there is no archive at a terminal")
                .hint("name a file, or pipe an archive into this command"));
        }
        (Box::new(io::stdin()), "standard input".to_owned())
    } else {
        let file = File::open(&args.file);
        let file =
            file.map_err(|error| Failure::io(format!("{} could not be opened", shown(&args.file)), &error))?;
        let name = args.file.file_name().unwrap_or(args.file.as_os_str());
        (Box::new(file), printable(name.as_bytes()))
    };
    Ok(Stream { bytes, form: Form::Tar { origin: format!("tar {name}"), paths } })
}

fn options(context: &Context, args: &ImportArgs) -> Result<Options<'static>, Failure> {
    Ok(Options {
        host: args.host.clone().unwrap_or_else(init::host_name),
        tags: args.tag.clone(),
        time: args.time,
        now: context.now,
        clock: backup_command::clock,
        level: args.compression,
        dry_run: args.dry_run,
        skip_if_unchanged: false,
        paranoid: args.paranoid,
        force: false,
        ignore_ctime: false,
        ignore_inode: false,
        filter: FilterBuilder::new().build()?,
        profile: String::new(),
        left_out: Vec::new(),
        program: backup_command::PROGRAM.to_owned(),
        sealing: None,
    })
}

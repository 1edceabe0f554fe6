//! `strongroom restore`: a snapshot, or a part of one, back into a folder.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::Args;
use clap::ValueEnum;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::diff::plural;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::render;
use crate::cli::snapshots;
use crate::cli::snapshots::FilterArgs;
use crate::cli::snapshots::Part;
use crate::task::browse;
use crate::task::restore;
use crate::task::restore::Options;
use crate::task::restore::Summary;
use crate::tree::filter::Selection;
use crate::tree::filter::TypedPattern;
use crate::tree::path::printable;
use crate::tree::place::Dropped;
use crate::tree::place::Overwrite;
use crate::tree::place::Policy;
use crate::vault::Vault;

/// Takes out a snapshot, or a part of one, into a folder; every byte is verified.
#[derive(Args, Default)]
pub struct RestoreArgs {
    /// Which snapshot, perhaps with a path in it: latest, latest~1, 3f9a0c12:home/anna
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,

    #[command(flatten)]
    filters: FilterArgs,

    /// The folder to restore to; made if it isn't there
    #[arg(short, long, value_name = "DIR")]
    target: PathBuf,

    /// Only what matches, in the syntax of .gitignore
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,

    /// The same, whatever the case of letters
    #[arg(long, value_name = "PATTERN")]
    iinclude: Vec<String>,

    /// Not what matches
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// The same, whatever the case of letters
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,

    /// What becomes of files that are in the target already; without this, a target with anything in
    /// it is refused
    #[arg(long, value_enum, value_name = "WHEN")]
    overwrite: Option<OverwriteArg>,

    /// Delete what is in the target and not in the snapshot
    #[arg(long, requires = "overwrite")]
    delete: bool,

    /// Write nothing and tell what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Restore owners, setuid bits, security attributes and device nodes, too
    #[arg(long)]
    privileged: bool,

    /// Take owners by number, even where this machine knows the name
    #[arg(long)]
    numeric_owner: bool,

    /// Write runs of zeros that were no holes as zeros
    #[arg(long)]
    no_sparse: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum OverwriteArg {
    /// They are replaced
    Always,
    /// They are replaced unless size and time are the same
    IfChanged,
    /// They are replaced by newer ones
    IfNewer,
    /// They stay
    Never,
}

impl RestoreArgs {
    /// A snapshot into a folder, and nothing else asked.
    #[must_use]
    pub fn new(snapshot: OsString, target: PathBuf) -> Self {
        Self { snapshot, target, ..Self::default() }
    }
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says; as [`take_out`].
pub fn run(context: &Context, args: &RestoreArgs) -> Result<Exit, Failure> {
    // What is wrong with the arguments is told before a key is asked for.
    understood(args)?;
    take_out(context, &context.unlock_to_choose()?, args)
}

fn understood(args: &RestoreArgs) -> Result<(Part, Options), Failure> {
    let part = Part::parse(args.snapshot.clone())?;
    let subpath = part.path.clone();
    Ok((part, Options { subpath, policy: policy(args), selection: selection(args)?, ..Options::default() }))
}

/// Sees to it that [`take_out`] can begin, without a word in the person's log.
///
/// # Errors
/// [`Exit::Failed`] if there is no such snapshot or nothing at that path in it; what the target says.
pub fn check(context: &Context, vault: &Vault, args: &RestoreArgs) -> Result<(), Failure> {
    let (part, options) = understood(args)?;
    let (listing, _) = snapshots::listing(context, vault);
    let listed = browse::choose(&listing.snapshots, &part.which, &args.filters.filters()?)?;
    let reader = browse::reader(vault, listed)?;
    Ok(restore::check(&reader, &args.target, &options)?)
}

/// Restores from a vault that is open.
///
/// # Errors
/// What the target says. [`Exit::Damaged`] at the end if some files are damaged, or if none is and an index
/// is: somebody should look at that vault. [`Exit::Failed`] if some could not be written.
pub fn take_out(context: &Context, vault: &Vault, args: &RestoreArgs) -> Result<Exit, Failure> {
    let (part, options) = understood(args)?;
    let reader = snapshots::choose(context, vault, "restore", &part, &args.filters)?;
    let summary = {
        let bars = context.watched_bars();
        restore::restore(&reader, &args.target, &options, &bars)?
    };
    for each in &summary.damaged {
        context.problem(
            &snapshots::raw(&each.path),
            &format!("{} is damaged and was not restored: {}", snapshots::shown(&each.path), each.error),
        );
    }
    for error in &summary.unusable_indexes {
        context.warn(&snapshots::without_index(error));
    }
    // Whether or not anybody reads what is told, the exit code says how it ended.
    let told = tell(context, args, &summary, &reader.snapshot().id().to_string());
    if summary.damaged_count > 0 {
        let number = plural(summary.damaged_count, "entry is", "entries are");
        let (what, hint) = if vault.store().is_sealed_file() {
            (
                "file",
                "another copy of the file may be whole; `strongroom verify --read-all` tells what is damaged",
            )
        } else {
            (
                "vault",
                "an older snapshot may still hold them: `strongroom find` shows where, `verify --read-all` why",
            )
        };
        let message = format!("{number} damaged in the {what}; the rest was restored");
        return Err(Failure::new(Exit::Damaged, message).hint(hint));
    }
    if summary.problems > 0 {
        let number = plural(summary.problems, "entry", "entries");
        return Err(Failure::new(
            Exit::Failed,
            format!("{number} could not be written; the rest was restored"),
        )
        .hint("run the same command with `--overwrite if-changed` once the reasons above are gone"));
    }
    if !summary.unusable_indexes.is_empty() {
        told?;
        return Err(Failure::new(
            Exit::Damaged,
            "the vault is damaged; everything asked for was restored all the same",
        )
        .hint("`strongroom verify --read-all` tells whether anything else is"));
    }
    told.map(|()| Exit::Done)
}

fn tell(context: &Context, args: &RestoreArgs, summary: &Summary, id: &str) -> Result<(), Failure> {
    if context.output.json {
        return context.json(&as_json(summary, id));
    }
    let target = printable(args.target.as_os_str().as_bytes());
    for line in words(summary, &target) {
        context.line(&line)?;
    }
    if let Some(dropped) = dropped(&summary.dropped) {
        context.note(&format!("left out: {dropped}\n  hint: `--privileged` restores what this user may set"));
    }
    Ok(())
}

fn policy(args: &RestoreArgs) -> Policy {
    Policy {
        overwrite: match args.overwrite {
            None => Overwrite::Refuse,
            Some(OverwriteArg::Always) => Overwrite::Always,
            Some(OverwriteArg::IfChanged) => Overwrite::IfChanged,
            Some(OverwriteArg::IfNewer) => Overwrite::IfNewer,
            Some(OverwriteArg::Never) => Overwrite::Never,
        },
        delete: args.delete,
        privileged: args.privileged,
        sparse: !args.no_sparse,
        numeric_owner: args.numeric_owner,
        dry_run: args.dry_run,
    }
}

fn selection(args: &RestoreArgs) -> Result<Selection, Failure> {
    let include = patterns(&args.include, &args.iinclude);
    let exclude = patterns(&args.exclude, &args.iexclude);
    Ok(Selection::new(&include, &exclude)?)
}

fn patterns<'a>(exact: &'a [String], any_case: &'a [String]) -> Vec<TypedPattern<'a>> {
    let exact = exact.iter().map(|pattern| (pattern.as_str(), false));
    exact.chain(any_case.iter().map(|pattern| (pattern.as_str(), true))).collect()
}

fn words(summary: &Summary, target: &str) -> Vec<String> {
    let done = if summary.dry_run { "would restore" } else { "restored" };
    let mut parts = vec![plural(summary.files, "file", "files")];
    parts.push(plural(summary.directories, "folder", "folders"));
    if summary.others > 0 {
        parts.push(plural(summary.others, "other entry", "other entries"));
    }
    // Where all is damaged there is nothing to say it of.
    let is_nothing = summary.files + summary.others + summary.kept == 0 && summary.damaged_count > 0;
    let verified = if summary.dry_run || is_nothing { "" } else { ", all verified" };
    let size = render::size(summary.bytes);
    let mut lines = vec![format!("{done} {} ({size}) to {target}{verified}", parts.join(", "))];
    if summary.resumed {
        let kept = plural(summary.kept, "entry was", "entries were");
        lines.push(format!(
            "went on where an interrupted restore had stopped: {kept} there and as they should be"
        ));
    } else if summary.kept > 0 {
        lines.push(format!("left {} as they were", plural(summary.kept, "entry", "entries")));
    }
    if summary.removed > 0 {
        let done = if summary.dry_run { "would delete" } else { "deleted" };
        lines.push(format!("{done} {}", plural(summary.removed, "entry", "entries")));
    }
    lines
}

/// What was left out, in words.
#[must_use]
pub fn dropped(dropped: &Dropped) -> Option<String> {
    let table = [
        (dropped.owners, "owner", "owners"),
        (dropped.special_bits, "setuid, setgid or sticky bit", "setuid, setgid or sticky bits"),
        (dropped.capabilities, "file capability", "file capabilities"),
        (dropped.security_xattrs, "security attribute", "security attributes"),
        (dropped.other_xattrs, "unknown attribute", "unknown attributes"),
        (
            dropped.refused_xattrs,
            "attribute that the file system refuses",
            "attributes that the file system refuses",
        ),
        (dropped.devices, "device node", "device nodes"),
    ];
    let parts: Vec<String> = table
        .iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| plural(*number, one, many))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn as_json(summary: &Summary, snapshot: &str) -> serde_json::Value {
    let dropped = &summary.dropped;
    json!({
        "message_type": "summary",
        "schema": 1,
        "snapshot_id": snapshot,
        "dry_run": summary.dry_run,
        "files_restored": summary.files,
        "dirs_restored": summary.directories,
        "others_restored": summary.others,
        "files_skipped": summary.kept,
        "files_deleted": summary.removed,
        "bytes_restored": summary.bytes,
        "hard_links": summary.hard_links,
        "damaged": summary.damaged_count,
        "damaged_indexes": summary.unusable_indexes.len(),
        "errors": summary.problems,
        "resumed": summary.resumed,
        "dropped": {
            "owners": dropped.owners,
            "special_bits": dropped.special_bits,
            "capabilities": dropped.capabilities,
            "security_xattrs": dropped.security_xattrs,
            "other_xattrs": dropped.other_xattrs,
            "refused_xattrs": dropped.refused_xattrs,
            "devices": dropped.devices,
        },
    })
}

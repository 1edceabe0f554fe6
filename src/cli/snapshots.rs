//! `strongroom snapshots`, and how all commands choose a snapshot.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::args::parse_time;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::render;
use crate::task::browse;
use crate::task::browse::Broken;
use crate::task::browse::Damaged;
use crate::task::browse::Filters;
use crate::task::browse::Listed;
use crate::task::browse::Listing;
use crate::task::browse::Which;
use crate::task::error as task;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use crate::vault::Vault;
use crate::vault::acts::Deed;
use crate::vault::error::Error;
use crate::vault::read::SnapshotReader;

/// Which snapshots count; without any of these, those of all hosts do.
#[derive(Args, Default)]
pub struct FilterArgs {
    /// Only snapshots of this host
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Vec<String>,

    /// Only snapshots with all of these tags; given again, or with all of those
    #[arg(long, value_name = "TAG[,TAG..]")]
    tag: Vec<String>,

    /// Only snapshots of this path
    #[arg(long = "path", id = "filter_path", value_name = "PATH")]
    path: Vec<PathBuf>,

    /// Only snapshots begun at this time or before, such as 2026-11-24 or "2026-11-24 18:30"
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<u64>,
}

impl FilterArgs {
    /// The same for the library.
    ///
    /// # Errors
    /// If a path can't be made absolute.
    pub fn filters(&self) -> Result<Filters, Failure> {
        let paths = self.path.iter().map(|path| {
            let absolute = std::path::absolute(path)
                .map_err(|error| Failure::io(printable(path.as_os_str().as_bytes()), &error))?;
            Ok(absolute.as_os_str().as_bytes().to_vec())
        });
        Ok(Filters {
            hosts: self.host.clone(),
            tags: self.tag.iter().map(|set| set.split(',').map(str::to_owned).collect()).collect(),
            paths: paths.collect::<Result<_, Failure>>()?,
            before: self.time,
        })
    }
}

/// A snapshot, or a part of one: `latest`, `latest~2`, `3f9a0c12`, each perhaps with `:sub/path`.
#[derive(Clone)]
pub struct Part {
    /// Which snapshot.
    pub which: Which,
    /// Which part of it.
    pub path: TreePath,
}

impl Part {
    /// Reads `SNAPSHOT[:PATH]`.
    ///
    /// # Errors
    /// What is wrong with it, for the parser of arguments.
    pub fn parse(text: OsString) -> Result<Self, Failure> {
        let bytes = text.as_bytes();
        let (which, path) = match bytes.iter().position(|byte| *byte == b':') {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (bytes, &b""[..]),
        };
        let which = std::str::from_utf8(which).ok().and_then(Which::parse).ok_or_else(|| {
            Failure::usage(format!("{} names no snapshot", printable(which))).hint(
                "it is `latest`, `latest~1` or the first digits of an id: `strongroom snapshots` lists them",
            )
        })?;
        Ok(Self { which, path: tree_path(path)? })
    }
}

/// A path inside a snapshot; a slash in front or behind doesn't matter.
///
/// # Errors
/// [`Exit::Usage`] if it is none.
pub fn tree_path(bytes: &[u8]) -> Result<TreePath, Failure> {
    let mut inner = bytes;
    while let Some(rest) = inner.strip_prefix(b"/") {
        inner = rest;
    }
    while let Some(rest) = inner.strip_suffix(b"/") {
        inner = rest;
    }
    if inner.is_empty() {
        return Ok(TreePath::root());
    }
    TreePath::parse(inner)
        .map_err(|error| Failure::usage(format!("{} is no path in a snapshot: {error}", printable(bytes))))
}

/// A path of a snapshot as people see it.
#[must_use]
pub fn shown(path: &TreePath) -> String {
    format!("/{}", printable(path.as_bytes()))
}

/// The same for programs, as bytes.
#[must_use]
pub fn raw(path: &TreePath) -> Vec<u8> {
    [b"/", path.as_bytes()].concat()
}

/// All snapshots, with a warning for each device whose chain can't be read to its end; and how a command ends that
/// means to see all of them.
#[must_use]
pub fn listing<'v>(context: &Context, vault: &'v Vault) -> (Listing<'v>, Exit) {
    let listing = browse::snapshots(vault);
    for broken in &listing.broken {
        warn_of_chain(context, vault, broken);
    }
    let exit = worst_of(&listing.broken).map_or(Exit::Done, |error| Failure::from(error).exit);
    (listing, exit)
}

/// Says of a chain that can't be read to its end why, and what to do.
pub fn warn_of_chain(context: &Context, vault: &Vault, broken: &Broken) {
    let name =
        vault.device_name(broken.device).map_or_else(String::new, |name| format!(" ({})", one_line(name)));
    let counts = if matches!(broken.error, Error::ForkedChain { .. }) { "counts" } else { "can be read" };
    let which = match broken.from {
        1 => "none of its snapshots".to_owned(),
        from => format!("none of its snapshots from number {from} on"),
    };
    let hint =
        Failure::from(&broken.error).hint.map_or_else(String::new, |hint| format!(". What to do: {hint}"));
    context.warn(&format!(
        "device {}{name}: {}; {which} {counts}{hint}",
        broken.device.short(),
        broken.error
    ));
}

/// What to say first: a history that is forked or not all there, before damage.
fn worst_of(broken: &[Broken]) -> Option<&Error> {
    let is_history = |broken: &&Broken| Failure::from(&broken.error).exit == Exit::History;
    broken.iter().find(is_history).or(broken.first()).map(|broken| &broken.error)
}

/// The snapshot that is meant. That there is none is no answer where some can't be listed.
///
/// # Errors
/// [`Exit::Failed`] if none fits, or several do; what is wrong with a chain if that may be why.
pub fn meant<'l, 'v>(
    listing: &'l Listing<'v>,
    which: &Which,
    filters: &Filters,
) -> Result<&'l Listed<'v>, Failure> {
    let chosen = browse::choose(&listing.snapshots, which, filters);
    match (chosen, worst_of(&listing.broken)) {
        (Err(task::Error::Vault(error @ Error::NoSuchSnapshot { ambiguous: false, .. })), Some(broken)) => {
            let Failure { exit, hint, .. } = Failure::from(broken);
            Err(Failure { hint, ..Failure::new(exit, format!("{error} among those that count")) })
        }
        (chosen, _) => Ok(chosen?),
    }
}

/// The chosen snapshot, ready to be read from `path` on; the person's log says so from here on.
///
/// # Errors
/// [`Exit::Failed`] if none fits; [`Exit::Damaged`] if it can't be read.
pub fn choose<'v>(
    context: &Context,
    vault: &'v Vault,
    command: &str,
    part: &Part,
    filters: &FilterArgs,
) -> Result<SnapshotReader<'v>, Failure> {
    let [reader] = choose_each(context, vault, command, [&part.which], &part.path, filters)?;
    Ok(reader)
}

/// As [`choose`], for several snapshots at the same path.
///
/// # Errors
/// As [`choose`].
pub fn choose_each<'v, const N: usize>(
    context: &Context,
    vault: &'v Vault,
    command: &str,
    which: [&Which; N],
    path: &TreePath,
    filters: &FilterArgs,
) -> Result<[SnapshotReader<'v>; N], Failure> {
    let (listing, _) = listing(context, vault);
    let filters = filters.filters()?;
    let chosen = which.map(|which| meant(&listing, which, &filters));
    if !listing.broken.is_empty() && which.iter().any(|which| matches!(which, Which::Latest { .. })) {
        context.warn(
            "the newest snapshot that counts is taken; newer ones may stand where the history is forked",
        );
    }
    let snapshots = chosen.iter().flatten().map(|listed| listed.snapshot.id()).collect();
    context.record(vault, command, Deed::Reads { snapshots, path: path.as_bytes().to_vec() });
    let mut readers = Vec::with_capacity(N);
    for listed in chosen {
        let listed = listed?;
        let reader = browse::reader(vault, listed)?;
        context.note(&format!(
            "snapshot {}{}, {}",
            listed.snapshot.id().short(),
            of_host(&reader.body().host),
            render::local_time(listed.time())
        ));
        readers.push(reader);
    }
    Ok(readers.try_into().unwrap_or_else(|_| unreachable!("there is a reader for each")))
}

/// ` of HOST`; nothing for the snapshot of a sealed file, which tells of no machine.
#[must_use]
pub fn of_host(host: &str) -> String {
    if host.is_empty() { String::new() } else { format!(" of {}", printable(host.as_bytes())) }
}

/// Names what could not be read, and says so with the exit code.
#[must_use]
pub fn report_damaged(context: &Context, damaged: &[Damaged]) -> Exit {
    for each in damaged {
        let what = if each.is_directory { "directory " } else { "" };
        context.problem(&raw(&each.path), &format!("{what}{} is damaged: {}", shown(&each.path), each.error));
    }
    if damaged.is_empty() { Exit::Done } else { Exit::Damaged }
}

/// Tells which indexes could not be used. It costs time and no file, so it doesn't count as a failure.
pub fn warn_of_indexes(context: &Context, reader: &SnapshotReader<'_>) {
    for error in reader.unusable_indexes() {
        context.warn(&without_index(error));
    }
}

/// What to say of an index that can't be used.
#[must_use]
pub fn without_index(error: &Error) -> String {
    format!("{error}; it is an index, and what it leads to is looked up in the packs")
}

/// Lists snapshots.
#[derive(Args)]
pub struct SnapshotsArgs {
    /// Only this snapshot
    #[arg(value_name = "SNAPSHOT")]
    which: Vec<String>,

    #[command(flatten)]
    filters: FilterArgs,

    /// Only the newest so many of each host and set of paths
    #[arg(long, value_name = "COUNT")]
    latest: Option<usize>,
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says. [`Exit::Damaged`] at the end if anything is.
pub fn run(context: &Context, args: &SnapshotsArgs) -> Result<Exit, Failure> {
    let filters = args.filters.filters()?;
    let wanted = args.which.iter().map(|text| Ok(Part::parse(text.into())?.which));
    let wanted = wanted.collect::<Result<Vec<_>, Failure>>()?;
    let vault = context.unlock("snapshots", &args.which.join(" "))?;
    let (listing, exit) = listing(context, &vault);
    let mut chosen: Vec<&Listed<'_>> = if wanted.is_empty() {
        listing.read_bodies();
        listing.snapshots.iter().filter(|listed| !listed.forgotten && filters.pass(listed)).collect()
    } else {
        let each = wanted.iter().map(|which| meant(&listing, which, &filters));
        each.collect::<Result<_, _>>()?
    };
    if let Some(latest) = args.latest {
        chosen = newest_of_each(chosen, latest);
    }
    let damaged: Vec<_> =
        chosen.iter().filter_map(|listed| error_of(listed).map(|error| (*listed, error))).collect();
    if context.output.json {
        for listed in &chosen {
            context.json(&as_json(&vault, listed))?;
        }
    } else {
        show(context, &vault, &chosen)?;
    }
    for (listed, error) in &damaged {
        context.warn(&format!("snapshot {} can't be read: {error}", listed.snapshot.id().short()));
    }
    Ok(if damaged.is_empty() { exit } else { Exit::Damaged })
}

/// Why there is no body, though there must be one.
fn error_of<'l>(listed: &'l Listed<'_>) -> Option<&'l Error> {
    listed.body().err().filter(|_| !listed.forgotten)
}

/// The newest `count` of each host and set of paths, oldest first as before.
fn newest_of_each<'l, 'v>(listed: Vec<&'l Listed<'v>>, count: usize) -> Vec<&'l Listed<'v>> {
    let mut seen: HashMap<(String, Vec<Vec<u8>>), usize> = HashMap::new();
    let mut kept: Vec<&Listed<'_>> = listed
        .into_iter()
        .rev()
        .filter(|listed| {
            let Ok(body) = listed.body() else { return true };
            let number = match seen.entry((body.host.clone(), body.paths.clone())) {
                Entry::Occupied(entry) => {
                    let number = entry.into_mut();
                    *number += 1;
                    *number
                }
                Entry::Vacant(entry) => *entry.insert(1),
            };
            number <= count
        })
        .collect();
    kept.reverse();
    kept
}

fn as_json(vault: &Vault, listed: &Listed<'_>) -> serde_json::Value {
    let id = listed.snapshot.id();
    let mut message = json!({
        "message_type": "snapshot",
        "schema": 1,
        "id": id.to_string(),
        "short_id": id.short(),
        "time": render::rfc3339(listed.time()),
        "device": listed.device.to_string(),
        "device_name": vault.device_name(listed.device),
        "seq": listed.snapshot.header.seq,
        "damaged": error_of(listed).is_some(),
    });
    let Ok(body) = listed.body() else { return message };
    let counts = &body.counts;
    let rest = json!({
        "hostname": body.host,
        "tags": body.tags,
        "paths": body.paths.iter().map(|path| render::json_text(path)).collect::<Vec<_>>(),
        "program_version": body.program,
        "summary": {
            "files_new": counts.files_new,
            "files_changed": counts.files_changed,
            "files_unmodified": counts.files_unchanged,
            "total_files_processed": counts.files,
            "total_bytes_processed": counts.bytes,
            "data_added": counts.bytes_new,
            "data_added_packed": counts.bytes_stored,
            "errors": counts.errors,
            "total_duration": body.took as f64 / 1e9,
        },
    });
    if let (Some(message), serde_json::Value::Object(rest)) = (message.as_object_mut(), rest) {
        message.extend(rest);
        if body.paths.iter().any(|path| std::str::from_utf8(path).is_err()) {
            let encoded = body.paths.iter().map(|path| data_encoding::BASE64.encode(path));
            message.insert("paths_base64".to_owned(), json!(encoded.collect::<Vec<_>>()));
        }
    }
    message
}

fn show(context: &Context, vault: &Vault, chosen: &[&Listed<'_>]) -> Result<(), Failure> {
    if chosen.is_empty() {
        context.note("no snapshot fits");
        return Ok(());
    }
    let mut table = render::Table::new(&["ID", "Time", "Host", "Device", "Tags", "Files", "Size", "Paths"]);
    table.right(5).right(6);
    for listed in chosen {
        let device = vault.device_name(listed.device);
        let device = device.map_or_else(|| listed.device.short(), |name| printable(name.as_bytes()));
        let text = |text: &str| printable(text.as_bytes());
        let (id, time) = (listed.snapshot.id().short(), render::local_time(listed.time()));
        table.row(match listed.body() {
            Ok(body) => vec![
                id,
                time,
                text(&body.host),
                device,
                body.tags.iter().map(|tag| text(tag)).collect::<Vec<_>>().join(","),
                render::count(body.counts.files),
                render::size(body.counts.bytes),
                body.paths.iter().map(|path| printable(path)).collect::<Vec<_>>().join(", "),
            ],
            Err(_) => {
                let what = if listed.forgotten { "(forgotten)" } else { "(damaged)" };
                vec![id, time, what.to_owned(), device]
            }
        });
    }
    context.bytes(table.finish().as_bytes())?;
    context.line(&super::status::count(chosen.len(), "snapshot"))
}

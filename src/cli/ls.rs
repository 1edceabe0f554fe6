//! `strongroom ls`: what is in a snapshot.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;

use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::context::Lines;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::render;
use crate::cli::snapshots;
use crate::cli::snapshots::FilterArgs;
use crate::cli::snapshots::Part;
use crate::cli::snapshots::raw;
use crate::cli::snapshots::shown;
use crate::task::browse;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;
use crate::tree::path::TreePath;
use crate::tree::path::printable;

/// Shows what is in a snapshot.
#[derive(Args)]
pub struct LsArgs {
    /// Which snapshot, perhaps with a path in it: latest, latest~1, 3f9a0c12:home/anna
    #[arg(value_name = "SNAPSHOT[:PATH]", default_value = "latest")]
    snapshot: OsString,

    /// The path, if it isn't given with the snapshot
    #[arg(value_name = "PATH")]
    path: Option<OsString>,

    #[command(flatten)]
    filters: FilterArgs,

    #[command(flatten)]
    listing: ListingArgs,

    /// Show what is in folders below, too
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// How entries are shown.
#[derive(Args)]
pub struct ListingArgs {
    /// Show mode, owner, size and time too
    #[arg(short, long)]
    long: bool,

    /// End each path with a zero byte and escape nothing, for other programs
    #[arg(short = '0', long)]
    null: bool,
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says, or if there is nothing at the path. [`Exit::Damaged`] at the end if
/// anything is.
pub fn run(context: &Context, args: &LsArgs) -> Result<Exit, Failure> {
    let mut part = Part::parse(args.snapshot.clone())?;
    if let Some(path) = &args.path {
        part.path = snapshots::tree_path(path.as_bytes())?;
    }
    let vault = context.unlock_to_choose()?;
    let reader = snapshots::choose(context, &vault, "ls", &part, &args.filters)?;
    let mut lines = context.lines();
    let mut failed = None;
    let damaged = browse::walk(&reader, &part.path, args.recursive, |path, entry| {
        match args.listing.show(context, &mut lines, "node", None, path, entry) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                failed = Some(failure);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    lines.finish()?;
    snapshots::warn_of_indexes(context, &reader);
    Ok(snapshots::report_damaged(context, &damaged))
}

impl ListingArgs {
    /// Whether only paths are wanted, each with a zero byte.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.null
    }

    /// Shows one entry.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn show(
        &self,
        context: &Context,
        lines: &mut Lines,
        message_type: &str,
        snapshot: Option<&str>,
        path: &TreePath,
        entry: &Entry,
    ) -> Result<(), Failure> {
        if context.output.json {
            return lines.line(&as_json(message_type, snapshot, path, entry).to_string());
        }
        if self.null {
            lines.bytes(&raw(path))?;
            return lines.bytes(b"\0");
        }
        if !self.long {
            return lines.line(&shown(path));
        }
        let target = match &entry.kind {
            EntryKind::Symlink { target } => format!(" -> {}", printable(target)),
            _ => String::new(),
        };
        lines.line(&format!(
            "{} {:8} {:8} {:>12} {} {}{target}",
            permissions(entry),
            name_or_number(&entry.owner.user, entry.owner.uid),
            name_or_number(&entry.owner.group, entry.owner.gid),
            size_of(entry).map_or_else(|| "-".to_owned(), |size| size.to_string()),
            render::local_seconds(entry.modified.seconds),
            shown(path)
        ))
    }
}

fn name_or_number(name: &str, number: u32) -> String {
    if name.is_empty() { number.to_string() } else { printable(name.as_bytes()) }
}

fn size_of(entry: &Entry) -> Option<u64> {
    match entry.kind {
        EntryKind::File { size, .. } => Some(size),
        _ => None,
    }
}

/// The kind as restic's programs name it.
fn kind_word(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory { .. } => "dir",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::CharDevice { .. } => "chardev",
        EntryKind::BlockDevice { .. } => "dev",
    }
}

/// Kind and mode as `ls -l` shows them.
fn permissions(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::File { .. } => '-',
        EntryKind::Directory { .. } => 'd',
        EntryKind::Symlink { .. } => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::CharDevice { .. } => 'c',
        EntryKind::BlockDevice { .. } => 'b',
    };
    let mut text = String::from(kind);
    for shift in [6, 3, 0] {
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if entry.mode >> shift & bit != 0 { letter } else { '-' });
        }
    }
    let specials = [(0o4000, 3, 's'), (0o2000, 6, 's'), (0o1000, 9, 't')];
    for (bit, at, letter) in specials {
        if entry.mode & bit != 0 {
            let executable = text.as_bytes().get(at) == Some(&b'x');
            let letter = if executable { letter } else { letter.to_ascii_uppercase() };
            text.replace_range(at..=at, letter.encode_utf8(&mut [0; 4]));
        }
    }
    text
}

fn as_json(message_type: &str, snapshot: Option<&str>, path: &TreePath, entry: &Entry) -> serde_json::Value {
    let mut message = json!({ "message_type": message_type, "schema": 1 });
    let Some(fields) = message.as_object_mut() else { return message };
    if let Some(snapshot) = snapshot {
        fields.insert("snapshot".to_owned(), json!(snapshot));
    }
    render::put_path(fields, "path", &raw(path));
    fields.insert("name".to_owned(), json!(render::json_text(entry.name.as_bytes())));
    fields.insert("type".to_owned(), json!(kind_word(&entry.kind)));
    if let Some(size) = size_of(entry) {
        fields.insert("size".to_owned(), json!(size));
    }
    if let EntryKind::Symlink { target } = &entry.kind {
        render::put_path(fields, "linktarget", target);
    }
    let rest = json!({
        "mode": entry.mode,
        "permissions": permissions(entry),
        "uid": entry.owner.uid,
        "gid": entry.owner.gid,
        "user": &*entry.owner.user,
        "group": &*entry.owner.group,
        "mtime": render::rfc3339_time(entry.modified.seconds, entry.modified.nanos),
    });
    if let serde_json::Value::Object(rest) = rest {
        fields.extend(rest);
    }
    message
}

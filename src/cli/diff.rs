//! `strongroom diff`: how two snapshots differ.

use std::ffi::OsString;
use std::ops::ControlFlow;

use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::render;
use crate::cli::snapshots;
use crate::cli::snapshots::FilterArgs;
use crate::cli::snapshots::Part;
use crate::cli::snapshots::raw;
use crate::cli::snapshots::shown;
use crate::task::browse;
use crate::task::browse::Change;
use crate::tree::entry::Entry;
use crate::tree::entry::EntryKind;

/// Shows how two snapshots differ.
///
/// A line for each difference: + added, - removed, T now another kind of thing, M other contents, U
/// other metadata.
#[derive(Args)]
pub struct DiffArgs {
    /// The one before: latest~1
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    first: OsString,

    /// The one after: latest
    #[arg(value_name = "SNAPSHOT")]
    second: OsString,

    #[command(flatten)]
    filters: FilterArgs,

    /// Show entries of which only mode, owner, time or attributes changed, too
    #[arg(long)]
    metadata: bool,

    /// Between snapshots of two devices, read and compare files whose size and time are the same
    #[arg(long)]
    contents: bool,
}

/// How many of each kind, and how many bytes.
#[derive(Default)]
struct Sum {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        match entry.kind {
            EntryKind::File { size, .. } => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(size);
            }
            EntryKind::Directory { .. } => self.directories += 1,
            _ => self.others += 1,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "files": self.files, "dirs": self.directories, "others": self.others, "bytes": self.bytes })
    }

    fn words(&self) -> String {
        let mut parts = vec![plural(self.files, "file", "files")];
        if self.directories > 0 {
            parts.push(plural(self.directories, "folder", "folders"));
        }
        if self.others > 0 {
            parts.push(plural(self.others, "other", "others"));
        }
        format!("{} ({})", parts.join(", "), render::size(self.bytes))
    }
}

/// `1 file`, `2 files`.
#[must_use]
pub fn plural(number: u64, one: &str, several: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {several}", render::count(number)) }
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says. [`Exit::Damaged`] at the end if anything is.
pub fn run(context: &Context, args: &DiffArgs) -> Result<Exit, Failure> {
    let (first, second) = (Part::parse(args.first.clone())?, Part::parse(args.second.clone())?);
    if !second.path.is_root() && second.path != first.path {
        return Err(Failure::usage("both snapshots are compared at the same path")
            .hint("give the path with the first of them only"));
    }
    let vault = context.unlock_to_choose()?;
    let both = [&first.which, &second.which];
    let [before, after] = snapshots::choose_each(context, &vault, "diff", both, &first.path, &args.filters)?;
    let mut lines = context.lines();
    let (mut added, mut removed, mut changed, mut failed) = (Sum::default(), Sum::default(), 0_u64, None);
    let damaged = browse::diff(&before, &after, &first.path, args.contents, |path, change| {
        let modifier = match change {
            Change::Added(entry) => {
                added.add(entry);
                "+"
            }
            Change::Removed(entry) => {
                removed.add(entry);
                "-"
            }
            Change::Changed { kind: true, .. } => "T",
            Change::Changed { content: true, .. } => "M",
            Change::Changed { .. } if args.metadata => "U",
            Change::Changed { .. } => return ControlFlow::Continue(()),
        };
        if matches!(change, Change::Changed { .. }) {
            changed += 1;
        }
        let written = if context.output.json {
            let mut message = json!({ "message_type": "change", "schema": 1, "modifier": modifier });
            if let Some(fields) = message.as_object_mut() {
                render::put_path(fields, "path", &raw(path));
            }
            lines.line(&message.to_string())
        } else {
            lines.line(&format!("{modifier}  {}", shown(path)))
        };
        match written {
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
    let ids = [&before, &after].map(|reader| reader.snapshot().id().to_string());
    if context.output.json {
        lines.line(
            &json!({
                "message_type": "statistics",
                "schema": 1,
                "source_snapshot": ids[0],
                "target_snapshot": ids[1],
                "added": added.json(),
                "removed": removed.json(),
                "changed": changed,
            })
            .to_string(),
        )?;
        lines.finish()?;
    } else {
        lines.finish()?;
        context.note(&format!("added {}, removed {}, changed {changed}", added.words(), removed.words()));
    }
    snapshots::warn_of_indexes(context, &before);
    snapshots::warn_of_indexes(context, &after);
    Ok(snapshots::report_damaged(context, &damaged))
}

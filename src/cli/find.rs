//! `strongroom find`: where something is, in all snapshots.

use std::ffi::OsString;
use std::ops::ControlFlow;

use clap::Args;
use clap::ValueEnum;

use crate::cli::args::parse_size;
use crate::cli::args::parse_time;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::ls::ListingArgs;
use crate::cli::render;
use crate::cli::snapshots;
use crate::cli::snapshots::FilterArgs;
use crate::cli::snapshots::Part;
use crate::task::browse;
use crate::task::browse::Kind;
use crate::task::browse::Listed;
use crate::task::browse::Search;
use crate::tree::entry::Time;
use crate::tree::filter::Selection;
use crate::tree::path::TreePath;

/// Finds files by name, kind, size and time, in all snapshots.
#[derive(Args)]
pub struct FindArgs {
    /// What to find, in the syntax of .gitignore: *.pdf, invoices/2026, /home/anna/notes.txt
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,

    /// Only in this snapshot, or this part of one
    #[arg(short, long, value_name = "SNAPSHOT[:PATH]")]
    snapshot: Vec<OsString>,

    #[command(flatten)]
    filters: FilterArgs,

    #[command(flatten)]
    listing: ListingArgs,

    /// Take capital and small letters for the same
    #[arg(long)]
    ignore_case: bool,

    /// Only things of this kind
    #[arg(long = "type", value_name = "KIND")]
    kinds: Vec<KindArg>,

    /// Only what was changed at this time or after
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    newer: Option<u64>,

    /// Only what was changed at this time or before
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    older: Option<u64>,

    /// Only files of this size or larger, such as 10M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    larger: Option<u64>,

    /// Only files of this size or smaller
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    smaller: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindArg {
    #[value(alias = "f")]
    File,
    #[value(alias = "d")]
    Dir,
    #[value(alias = "l")]
    Symlink,
    Special,
}

impl KindArg {
    fn kind(self) -> Kind {
        match self {
            Self::File => Kind::File,
            Self::Dir => Kind::Directory,
            Self::Symlink => Kind::Symlink,
            Self::Special => Kind::Special,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says. [`Exit::Damaged`] at the end if anything is.
pub fn run(context: &Context, args: &FindArgs) -> Result<Exit, Failure> {
    let patterns: Vec<(&str, bool)> =
        args.patterns.iter().map(|pattern| (pattern.as_str(), args.ignore_case)).collect();
    let search = Search {
        selection: Selection::new(&patterns, &[])?,
        kinds: args.kinds.iter().map(|kind| kind.kind()).collect(),
        newest_before: args.newer.map(time),
        oldest_after: args.older.map(time),
        bytes_min: args.larger,
        bytes_max: args.smaller,
    };
    let parts = args.snapshot.iter().cloned().map(Part::parse).collect::<Result<Vec<_>, _>>()?;
    let filters = args.filters.filters()?;
    let vault = context.unlock("find", &asked(args))?;
    let (listing, mut exit) = snapshots::listing(context, &vault);
    let mut places: Vec<(&Listed<'_>, TreePath)> = Vec::new();
    for part in &parts {
        places.push((snapshots::meant(&listing, &part.which, &filters)?, part.path.clone()));
    }
    if parts.is_empty() {
        listing.read_bodies();
        let all = listing.snapshots.iter().rev().filter(|listed| !listed.forgotten && filters.pass(listed));
        places.extend(all.map(|listed| (listed, TreePath::root())));
    }
    let mut lines = context.lines();
    let (mut found, mut failed) = (0_usize, None);
    for (listed, from) in places {
        let id = listed.snapshot.id();
        let reader = match browse::reader(&vault, listed) {
            Ok(reader) => reader,
            Err(error) => {
                context.warn(&format!("snapshot {} is not searched: {error}", id.short()));
                exit = Exit::Damaged;
                continue;
            }
        };
        let mut here = 0_usize;
        let damaged = browse::find(&reader, &from, &search, |path, entry| {
            here += 1;
            let mut show = || {
                if here == 1 && !context.output.json && !args.listing.is_raw() {
                    let host = snapshots::of_host(&reader.body().host);
                    let time = render::local_time(listed.time());
                    lines.line(&format!("in snapshot {}{host}, {time}:", id.short()))?;
                }
                args.listing.show(context, &mut lines, "match", Some(&id.to_string()), path, entry)
            };
            match show() {
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
        found += here;
        snapshots::warn_of_indexes(context, &reader);
        if snapshots::report_damaged(context, &damaged) != Exit::Done {
            exit = Exit::Damaged;
        }
    }
    lines.finish()?;
    if found == 0 {
        context.note("nothing fits");
    }
    Ok(exit)
}

/// What was looked for, and in which snapshots if not in all.
fn asked(args: &FindArgs) -> String {
    let patterns = args.patterns.join(" ");
    let snapshots: Vec<_> = args.snapshot.iter().map(|part| part.to_string_lossy()).collect();
    if snapshots.is_empty() { patterns } else { format!("{patterns} in {}", snapshots.join(" ")) }
}

fn time(nanos: u64) -> Time {
    let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
    Time { seconds, nanos: u32::try_from(nanos % 1_000_000_000).unwrap_or_default() }
}

//! `strongroom stats`: how large things are.

use std::ffi::OsString;

use clap::Args;
use clap::ValueEnum;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::render;
use crate::cli::snapshots;
use crate::cli::snapshots::FilterArgs;
use crate::cli::snapshots::Part;
use crate::task::browse;
use crate::vault::witness::Whole;

/// Tells how large a snapshot, or the whole vault, is.
#[derive(Args)]
pub struct StatsArgs {
    /// Which snapshot, or part of one; without it, the whole vault
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,

    #[command(flatten)]
    filters: FilterArgs,

    /// What is counted
    #[arg(long, value_enum, default_value_t = Mode::RestoreSize)]
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// What a restore would write
    RestoreSize,
    /// Also what different contents there are, and what they take in the vault
    RawData,
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says. [`Exit::Damaged`] at the end if anything is.
pub fn run(context: &Context, args: &StatsArgs) -> Result<Exit, Failure> {
    match &args.snapshot {
        Some(snapshot) => of_snapshot(context, args, &Part::parse(snapshot.clone())?),
        None => of_vault(context, args),
    }
}

fn of_snapshot(context: &Context, args: &StatsArgs, part: &Part) -> Result<Exit, Failure> {
    let vault = context.unlock_to_choose()?;
    let reader = snapshots::choose(context, &vault, "stats", part, &args.filters)?;
    let raw = args.mode == Mode::RawData;
    let spinner = context.bars().spinner("counting");
    let (stats, damaged) = browse::stats(&reader, &part.path, raw)?;
    drop(spinner);
    if context.output.json {
        let mut message = json!({
            "message_type": "stats",
            "schema": 1,
            "snapshot": reader.snapshot().id().to_string(),
            "snapshots_count": 1,
            "total_file_count": stats.files,
            "total_dir_count": stats.directories,
            "total_other_count": stats.others,
            "total_size": stats.bytes,
        });
        if raw {
            message["total_blob_count"] = json!(stats.chunks);
            message["total_uncompressed_size"] = json!(stats.bytes_unique);
            message["total_stored_size"] = json!(stats.bytes_stored);
        }
        context.json(&message)?;
    } else {
        context.line(&format!("files     {}", render::count(stats.files)))?;
        context.line(&format!("folders   {}", render::count(stats.directories)))?;
        context.line(&format!("others    {}", render::count(stats.others)))?;
        context.line(&format!("size      {}", render::size(stats.bytes)))?;
        if raw {
            let unique = render::size(stats.bytes_unique);
            context.line(&format!("different {unique} in {} chunks", render::count(stats.chunks)))?;
            context.line(&format!("stored    {}", render::size(stats.bytes_stored)))?;
        }
    }
    snapshots::warn_of_indexes(context, &reader);
    Ok(snapshots::report_damaged(context, &damaged))
}

fn of_vault(context: &Context, args: &StatsArgs) -> Result<Exit, Failure> {
    let filters = args.filters.filters()?;
    let vault = context.unlock("stats", "")?;
    let (listing, exit) = snapshots::listing(context, &vault);
    listing.read_bodies();
    let chosen: Vec<_> =
        listing.snapshots.iter().filter(|listed| !listed.forgotten && filters.pass(listed)).collect();
    let counts = chosen.iter().filter_map(|listed| listed.body().ok()).map(|body| body.counts);
    let (mut files, mut bytes) = (0_u64, 0_u64);
    for counts in counts {
        files = files.saturating_add(counts.files);
        bytes = bytes.saturating_add(counts.bytes);
    }
    let (mut objects, mut stored) = (0_usize, 0_u64);
    for device in vault.log().devices().keys() {
        // A device whose chain is broken has had its warning.
        let Ok(Whole { history, .. }) = vault.locked().whole_history(*device) else { continue };
        for located in history.must_exist(vault.log()) {
            objects += 1;
            stored = stored.saturating_add(u64::from(located.length));
        }
    }
    if context.output.json {
        context.json(&json!({
            "message_type": "stats",
            "schema": 1,
            "snapshots_count": chosen.len(),
            "total_file_count": files,
            "total_size": bytes,
            "total_object_count": objects,
            "total_stored_size": stored,
        }))?;
    } else {
        context.line(&format!("snapshots {}", chosen.len()))?;
        context.line(&format!("files     {} in all of them", render::count(files)))?;
        context.line(&format!("size      {} in all of them", render::size(bytes)))?;
        context.line(&format!(
            "stored    {} in {} objects",
            render::size(stored),
            render::count(objects as u64)
        ))?;
    }
    Ok(exit)
}

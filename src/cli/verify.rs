//! `strongroom verify`: whether all that was ever stored is there, whole, in order and signed for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::args::parse_receipt;
use crate::cli::args::parse_size;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::HISTORY_HINT;
use crate::cli::failure::one_line;
use crate::cli::render;
use crate::cli::snapshots;
use crate::cli::snapshots::FilterArgs;
use crate::cli::snapshots::Part;
use crate::cli::status::count;
use crate::id::Epoch;
use crate::id::ObjectName;
use crate::task;
use crate::task::reencrypt;
use crate::task::reencrypt::Exposed;
use crate::task::verify;
use crate::task::verify::Change;
use crate::task::verify::Class;
use crate::task::verify::Comparison;
use crate::task::verify::Difference;
use crate::task::verify::Finding;
use crate::task::verify::Problem;
use crate::task::verify::ReadData;
use crate::task::verify::Report;
use crate::tree::path::TreePath;
use crate::tree::path::printable;
use crate::vault::pins::Pins;
use crate::vault::read::SnapshotReader;
use crate::vault::receipt::Receipt;
use crate::vault::statement::Refused;
use crate::vault::statement::Statement;

/// How many lost files of one finding are printed unless more are asked for.
const LOST_SHOWN: usize = 20;
const STATEMENT_HINT: &str = "believe it only of the vault that it names, as its re-encryption wrote it";
const AHEAD_HINT: &str = "hold it against the newest copy of the vault; if there is none newer, somebody has put an old \
    one back or made the statement up";
/// How often a vault that changes meanwhile is looked at before its findings are believed.
const TRIES: usize = 3;

/// Checks that all snapshots are there, whole, in order and signed for.
///
/// Without a key it checks every record, signature, chain and copy, and that every object is there
/// with its length; --read-all also reads every byte. With a key it reads every snapshot's trees and
/// finds every chunk, and --read-all opens every pack, decompresses it and checks each chunk. Damage is
/// listed with the files that it touches.
#[derive(Args)]
pub struct VerifyArgs {
    /// With --against-source: which snapshot, or part of one; without it, the newest
    #[arg(value_name = "SNAPSHOT[:PATH]", requires = "against_source")]
    snapshot: Option<OsString>,

    #[command(flatten)]
    filters: FilterArgs,

    /// Read every byte
    #[arg(long, visible_alias = "read-data", conflicts_with = "read_data_subset")]
    read_all: bool,

    /// Read a part: 2/7 (the second of seven that together are all), 5% or 10G (drawn at random)
    #[arg(long, value_name = "N/T|X%|SIZE", value_parser = parse_subset)]
    read_data_subset: Option<ReadData>,

    /// Use no key, even if one is given
    #[arg(long, conflicts_with = "against_source")]
    public: bool,

    /// A receipt that a backup printed: the vault must hold that state or a later one
    #[arg(long, value_name = "RECEIPT", value_parser = parse_receipt)]
    expect: Vec<Receipt>,

    /// A statement that a re-encryption has signed: does it hold for this vault, and is it so now?
    #[arg(long, value_name = "FILE", conflicts_with_all = ["against_source", "read_all", "read_data_subset"])]
    statement: Option<PathBuf>,

    /// Compare a snapshot with the disk; FOLDER stands for its /, or for the PATH that is named
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["read_all", "read_data_subset"])]
    against_source: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says. [`Exit::Damaged`] or [`Exit::History`] at the end if anything was found.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, Failure> {
    if let Some(folder) = &args.against_source {
        return against_source(context, args, folder);
    }
    if let Some(file) = &args.statement {
        return check_statement(context, file);
    }
    let read = match args.read_data_subset {
        Some(subset) => subset,
        None if args.read_all => ReadData::All,
        None => ReadData::None,
    };
    let mut report = check(context, args, &read)?;
    for _ in 1..TRIES {
        if !report.moved {
            break;
        }
        context.note("the vault changed meanwhile: looking again");
        report = check(context, args, &read)?;
    }
    show(context, &report, &read)
}

/// Holds a signed statement against the vault's log, and against what is stored by now; takes no key.
fn check_statement(context: &Context, file: &Path) -> Result<Exit, Failure> {
    let (locked, _) = context.locked()?;
    let shown = printable(file.as_os_str().as_bytes());
    let text = std::fs::read_to_string(file).map_err(|error| Failure::io(shown.clone(), &error))?;
    let statement = Statement::check(&text, locked.log()).map_err(|refused| {
        let (exit, hint) = match refused {
            Refused::Ahead => (Exit::History, AHEAD_HINT),
            _ => (Exit::Damaged, STATEMENT_HINT),
        };
        Failure::new(exit, format!("{shown}: {refused}")).hint(hint)
    })?;
    let bars = context.watched_bars();
    let found = reencrypt::exposed(&locked, statement.epoch, &bars);
    bars.clear();
    let found = found.map_err(ended)?;
    let holds = found.old.objects == 0 && found.unread == 0;
    if context.output.json {
        context.json(&json!({
            "message_type": "statement",
            "schema": 1,
            "holds": holds,
            "epoch": statement.epoch.0,
            "time": render::rfc3339(statement.time),
            "objects": found.all.objects,
            "objects_older": found.old.objects,
            "bytes_older": found.old.bytes,
            "objects_unread": found.unread,
        }))?;
    } else {
        context.line(&format!(
            "This vault's authority stated on {} that no object in it is readable with keys of epoch {} or before",
            render::local_time(statement.time),
            statement.epoch
        ))?;
    }
    if !holds {
        return Err(untrue_by_now(&found, statement.epoch));
    }
    if !context.output.json {
        context
            .line(&format!("None of the {} that are here now is", counted(found.all.objects, "object")))?;
    }
    Ok(Exit::Done)
}

/// What a statement says and is not so, or can't be told.
fn untrue_by_now(found: &Exposed, epoch: Epoch) -> Failure {
    if found.old.objects == 0 {
        let what = format!("{} here can't be told to be of a later epoch", counted(found.unread, "object"));
        return Failure::new(Exit::Damaged, what).hint("`strongroom verify --read-all` says what is damaged");
    }
    let what = format!(
        "{} ({}) that keys of epoch {epoch} or before open: here now, whatever was here then",
        counted(found.old.objects, "object"),
        render::size(found.old.bytes)
    );
    Failure::new(Exit::RotationIncomplete, what).hint(
        "a backup that was under way as the keys changed leaves such objects, and so can a thief with a machine's \
         old key: an owner's `strongroom reencrypt` ends it, and states it anew",
    )
}

fn check(context: &Context, args: &VerifyArgs, read: &ReadData) -> Result<Report, Failure> {
    let (store, machine) = (context.store()?, context.machine()?);
    let expected = context.expected(&*store, &machine)?;
    let locked = context.locked_as_found(expected.as_ref(), &args.expect)?;
    let pins = machine.pins(&locked.log().fingerprint())?;
    // Findings about the history are listed with the others, not ended with.
    let is_history_sound = machine.check(&locked).is_ok();
    let is_known = expected.is_some();
    if !args.public && is_history_sound && (context.secrets.is_given()? || !is_known) {
        return keyed(context, args, read, pins.as_ref());
    }
    if !is_history_sound && !args.public {
        context.note("this is not the history that this machine has seen: no key is asked for or used");
    }
    if !is_known && !store.is_sealed_file() {
        context.warn(
            "nothing on this machine says which vault this has to be: give --fingerprint to be sure that it \
             is not another one",
        );
    }
    let bars = context.watched_bars();
    let report = verify::verify_public(&locked, pins.as_ref(), &args.expect, read, &bars);
    bars.clear();
    let report = report.map_err(ended)?;
    if report.is_sound() && is_known {
        context.pin_quietly(&machine, &locked);
    }
    Ok(report)
}

fn keyed(
    context: &Context,
    args: &VerifyArgs,
    read: &ReadData,
    pins: Option<&Pins>,
) -> Result<Report, Failure> {
    let vault = context.unlock("verify", "")?;
    let bars = context.watched_bars();
    let report = verify::verify_private(&vault, pins, &args.expect, read, &bars);
    bars.clear();
    report.map_err(ended)
}

/// A check that was interrupted says nothing of the vault, and leaves nothing to go on from.
fn ended(error: task::error::Error) -> Failure {
    match error {
        task::error::Error::Interrupted => Failure::from(error).hint(
            "not all was looked at, and the next run begins anew; `--read-data-subset 1/7` reads a part",
        ),
        error => error.into(),
    }
}

// ---- what was found ----------------------------------------------------------------------------

fn show(context: &Context, report: &Report, read: &ReadData) -> Result<Exit, Failure> {
    let exit = match report.class() {
        None => Exit::Done,
        Some(Class::Integrity) => Exit::Damaged,
        Some(Class::History) => Exit::History,
    };
    for finding in report.findings.list() {
        if context.output.json {
            context.json(&finding_json(finding))?;
        } else {
            show_finding(context, finding)?;
        }
    }
    if context.output.json {
        context.json(&summary_json(report, read, exit))?;
        return Ok(exit);
    }
    if let Some(seed) = report.seed {
        context.note(&format!("drawn at random with seed {seed:016x}"));
    }
    if report.strays > 0 {
        context.note(&format!(
            "{} ({}) {} named by nothing: of interrupted runs, or on the way out",
            counted(report.strays, "object"),
            render::size(report.stray_bytes),
            if report.strays == 1 { "is" } else { "are" }
        ));
    }
    for name in &report.due {
        context.note(&due(name));
    }
    if report.strangers > 0 {
        context.note(&format!(
            "{} in the vault's folder are not strongroom's",
            counted(report.strangers, "thing")
        ));
    }
    for (head, why) in &report.invalid {
        let device = head.device.short();
        context.note(&format!("snapshot {} of device {device} does not count: {why}", head.seq));
    }
    let past = report.ignored.saturating_sub(report.invalid.len() as u64);
    if past > 0 {
        let count = if past == 1 { "counts" } else { "count" };
        context.note(&format!("{} of revoked devices {count} for nothing", counted(past, "snapshot")));
    }
    context.line(&last_line(report, read))?;
    match report.class() {
        Some(Class::Integrity) if report.walked.is_none() => {
            context.note("with a key, verify lists the files that damage touches");
        }
        Some(Class::History) if context.is_sealed_file()? => context.note(
            "this machine has sealed a newer one of this file, or another version of it: look for that; `strongroom open` \
             opens this one",
        ),
        Some(Class::History) => {
            let of_history = |finding: &&Finding| finding.problem.class() == Class::History;
            let first = report.findings.list().iter().find(of_history);
            context.note(&first.map_or_else(String::new, what_to_do));
        }
        _ => {}
    }
    Ok(exit)
}

/// What to do about a finding of the vault's history.
fn what_to_do(finding: &Finding) -> String {
    let hint = match &finding.problem {
        Problem::Vault(error) => Failure::from(error).hint,
        _ => None,
    };
    hint.unwrap_or_else(|| HISTORY_HINT.to_owned())
}

fn show_finding(context: &Context, finding: &Finding) -> Result<(), Failure> {
    let word = match finding.problem.class() {
        Class::Integrity => "damage",
        Class::History => "history",
    };
    let mut problem = finding.problem.to_string();
    if context.is_sealed_file()? {
        problem = problem.replace("the vault was", "the file was").replace("the vault's", "the file's");
    }
    context.line(&format!("{word}: {}", one_line(&problem)))?;
    let most = if context.output.verbose > 0 { usize::MAX } else { LOST_SHOWN };
    for lost in finding.lost.iter().take(most) {
        let what = match (lost.path.is_root(), lost.is_directory) {
            (true, _) => "everything".to_owned(),
            (_, true) => format!("all or part of /{}", printable(lost.path.as_bytes())),
            (_, false) => format!("/{}", printable(lost.path.as_bytes())),
        };
        context.line(&format!("  touches {what} in snapshot {}", lost.snapshot.short()))?;
    }
    let shown = finding.lost.len().min(most) as u64;
    if finding.lost_total > shown {
        context.line(&format!("  and {} more", render::count(finding.lost_total - shown)))?;
    }
    Ok(())
}

/// That a second copy isn't there yet, and what puts it.
fn due(name: &ObjectName) -> String {
    let by = match name.as_str().get(2..3) {
        Some("a") => "next owner's command that changes something, or the next backup,",
        Some("s") => "next backup of its machine",
        Some("u") => "next command of its holder",
        _ => "same `strongroom device request`",
    };
    format!(
        "copy {name} is not there yet, and the other one is whole: its writer was cut off, or is at work; the {by} puts it"
    )
}

fn counted(number: u64, thing: &str) -> String {
    usize::try_from(number).map_or_else(|_| format!("{number} {thing}s"), |number| count(number, thing))
}

/// What is now known to be true, and what isn't known.
fn last_line(report: &Report, read: &ReadData) -> String {
    if !report.is_sound() {
        let total = counted(report.findings.total(), "finding");
        return format!("{total}: what is not listed here was found whole, as far as it was checked");
    }
    let objects = counted(report.objects, "object");
    let snapshots = counted(report.snapshots - report.forgotten, "snapshot");
    let is_there = format!("all {objects} of {snapshots} are there, in order and signed for");
    let unread = "contents were not read: add --read-all";
    match (read, &report.walked) {
        (ReadData::None, None) => format!("{is_there}; {unread}"),
        (ReadData::All, None) => {
            format!(
                "{is_there}, and every byte is as it was signed for; no key was used, so nothing was opened"
            )
        }
        (ReadData::None, Some(_)) => {
            format!("{is_there}; every directory reads whole and every chunk is found; {unread}")
        }
        (ReadData::All, Some(_)) => {
            format!(
                "{is_there}; every directory reads whole, and every chunk was opened and is what its id names"
            )
        }
        (_, walked) => {
            let how = if walked.is_some() { "opened and found whole" } else { "read and are as signed for" };
            format!(
                "{is_there}; {} ({}) were {how}, the others were not read",
                counted(report.read, "object"),
                render::size(report.read_bytes)
            )
        }
    }
}

fn finding_json(finding: &Finding) -> Value {
    let lost = finding.lost.iter().map(|lost| {
        let mut fields = serde_json::Map::new();
        fields.insert("snapshot".to_owned(), json!(lost.snapshot.to_string()));
        render::put_path(&mut fields, "path", &snapshots::raw(&lost.path));
        fields.insert("is_directory".to_owned(), json!(lost.is_directory));
        Value::Object(fields)
    });
    json!({
        "message_type": "finding",
        "schema": 1,
        "class": class_word(finding.problem.class()),
        "object": finding.problem.object().map(ToString::to_string),
        "message": one_line(&finding.problem.to_string()),
        "lost": lost.collect::<Vec<_>>(),
        "lost_total": finding.lost_total,
    })
}

fn class_word(class: Class) -> &'static str {
    match class {
        Class::Integrity => "integrity",
        Class::History => "history",
    }
}

fn summary_json(report: &Report, read: &ReadData, exit: Exit) -> Value {
    let walked = report.walked.map(|walked| {
        json!({ "snapshots": walked.snapshots, "directories": walked.directories, "others": walked.files })
    });
    json!({
        "message_type": "summary",
        "schema": 1,
        "fingerprint": report.fingerprint.to_string(),
        "is_sound": report.is_sound(),
        "exit_code": exit.code(),
        "findings": report.findings.total(),
        "records": report.records,
        "devices": report.devices,
        "snapshots": report.snapshots,
        "snapshots_forgotten": report.forgotten,
        "snapshots_ignored": report.ignored,
        "objects": report.objects,
        "bytes": report.bytes,
        "objects_copied": report.copied,
        "copies_due": report.due.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "objects_read": report.read,
        "bytes_read": report.read_bytes,
        "contents_opened": report.opened,
        "walked": walked,
        "stray_objects": report.strays,
        "stray_bytes": report.stray_bytes,
        "strangers": report.strangers,
        "seed": report.seed.map(|seed| format!("{seed:016x}")),
        "message": last_line(report, read),
    })
}

// ---- against the source ------------------------------------------------------------------------

fn against_source(context: &Context, args: &VerifyArgs, folder: &Path) -> Result<Exit, Failure> {
    let part = Part::parse(args.snapshot.clone().unwrap_or_else(|| "latest".into()))?;
    let vault = context.unlock_to_choose()?;
    let reader = snapshots::choose(context, &vault, "verify --against-source", &part, &args.filters)?;
    let (mut compared, mut bytes, mut total, mut damaged) = (0, 0, 0, 0);
    for (path, place) in parts(&reader, &part, folder)? {
        let bars = context.watched_bars();
        let found = verify::against_source(&reader, &place, &path, &bars);
        bars.clear();
        let found = found.map_err(ended)?;
        let Comparison { differences, total: more, compared: entries, bytes: read, damaged: bad } = found;
        for difference in &differences {
            show_difference(context, difference)?;
        }
        compared += entries;
        bytes += read;
        total += more;
        damaged += bad;
    }
    let id = reader.snapshot().id();
    if context.output.json {
        context.json(&json!({
            "message_type": "summary",
            "schema": 1,
            "snapshot": id.to_string(),
            "differences": total,
            "damaged": damaged,
            "compared": compared,
            "bytes_read": bytes,
        }))?;
    } else if total == 0 {
        let read = render::size(bytes);
        let entries = counted(compared, "entry").replace("entrys", "entries");
        context.line(&format!(
            "{entries} and {read} of contents on the disk are what snapshot {} holds",
            id.short()
        ))?;
    } else {
        context.line(&format!(
            "{} between the disk and snapshot {}",
            counted(total, "difference"),
            id.short()
        ))?;
    }
    Ok(match (damaged, total) {
        (1.., _) => Exit::Damaged,
        (0, 1..) => Exit::Failed,
        (0, 0) => Exit::Done,
    })
}

/// What is compared with what: the part that was named with the folder itself, else each path that was
/// backed up with its place below the folder.
fn parts(
    reader: &SnapshotReader<'_>,
    part: &Part,
    folder: &Path,
) -> Result<Vec<(TreePath, PathBuf)>, Failure> {
    let paths = &reader.body().paths;
    if !part.path.is_root() || paths.is_empty() {
        return Ok(vec![(part.path.clone(), folder.to_owned())]);
    }
    paths
        .iter()
        .map(|path| {
            let inner = snapshots::tree_path(path)?;
            let place = folder.join(std::ffi::OsStr::from_bytes(inner.as_bytes()));
            Ok((inner, place))
        })
        .collect()
}

fn show_difference(context: &Context, difference: &Difference) -> Result<(), Failure> {
    let words: Vec<String> = difference.changes.iter().map(change_word).collect();
    if context.output.json {
        let mut fields = serde_json::Map::new();
        fields.insert("message_type".to_owned(), json!("difference"));
        fields.insert("schema".to_owned(), json!(1));
        render::put_path(&mut fields, "path", &snapshots::raw(&difference.path));
        fields.insert("changes".to_owned(), json!(words));
        context.json(&Value::Object(fields))
    } else {
        context.line(&format!("{}: {}", snapshots::shown(&difference.path), words.join(", ")))
    }
}

fn change_word(change: &Change) -> String {
    match change {
        Change::OnlyInSnapshot => "only in the snapshot".to_owned(),
        Change::OnlyOnDisk => "only on the disk".to_owned(),
        Change::Kind => "another kind".to_owned(),
        Change::Size => "another size".to_owned(),
        Change::Content => "other contents".to_owned(),
        Change::Mode => "other permissions".to_owned(),
        Change::Modified => "another time of change".to_owned(),
        Change::Target => "points elsewhere".to_owned(),
        Change::Owner => "another owner".to_owned(),
        Change::Attributes => "other attributes".to_owned(),
        Change::Links => "other names for the same contents".to_owned(),
        Change::Unreadable(why) => format!("can't be read on the disk ({})", one_line(why)),
        Change::Damaged(why) => format!("can't be read in the vault ({})", one_line(why)),
    }
}

// ---- arguments ---------------------------------------------------------------------------------

/// Reads `2/7`, `5%` or a size.
fn parse_subset(text: &str) -> Result<ReadData, String> {
    let wrong = || format!("{text:?} is no part: write 2/7, 5% or 10G");
    if let Some((number, of)) = text.split_once('/') {
        let (number, of): (u32, u32) =
            (number.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
        return if (1..=of).contains(&number) { Ok(ReadData::Subset { number, of }) } else { Err(wrong()) };
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| wrong())?;
        return if percent > 0.0 && percent <= 100.0 { Ok(ReadData::Percent(percent)) } else { Err(wrong()) };
    }
    parse_size(text).map(ReadData::Bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_copy_that_is_due_is_told_with_what_puts_it() {
        let said = |name: &str| due(&ObjectName::parse(name).unwrap());
        assert_eq!(
            said("2/s/00/11"),
            "copy 2/s/00/11 is not there yet, and the other one is whole: its writer was cut off, or is at work; the \
             next backup of its machine puts it"
        );
        assert!(
            said("2/a/00").contains("the next owner's command that changes something, or the next backup,")
        );
        assert!(said("2/u/00/11").contains("the next command of its holder puts it"));
        assert!(said("2/q/00").contains("the same `strongroom device request` puts it"));
    }

    #[test]
    fn parts_to_read_are_given_in_three_ways() {
        assert_eq!(parse_subset("2/7"), Ok(ReadData::Subset { number: 2, of: 7 }));
        assert_eq!(parse_subset("2.5%"), Ok(ReadData::Percent(2.5)));
        assert_eq!(parse_subset("10G"), Ok(ReadData::Bytes(10_000_000_000)));
        for text in ["", "0/7", "8/7", "1/0", "/", "0%", "101%", "nan%", "-1%", "%", "x"] {
            assert!(parse_subset(text).is_err(), "{text}");
        }
    }
}

//! `strongroom incident`: after a theft, shuts out what was stolen and says what its thief has.

mod report;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgGroup;
use clap::Args;
use serde_json::json;

use crate::cli::args::parse_duration;
use crate::cli::args::parse_time;
use crate::cli::context::Context;
use crate::cli::context::wait_for_others;
use crate::cli::device;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::html;
use crate::cli::incident::report::Section;
use crate::cli::incident::report::sections;
use crate::cli::pages;
use crate::cli::render;
use crate::cli::rotate;
use crate::cli::slot;
use crate::cli::slot::finish;
use crate::cli::trusted::shown;
use crate::crypto::text;
use crate::id::SlotId;
use crate::task::incident::Done;
use crate::task::incident::Exposure;
use crate::task::incident::Halted;
use crate::task::incident::Resealed;
use crate::task::incident::Stolen;
use crate::task::incident::StolenSlot;
use crate::task::incident::Was;
use crate::task::incident::seconds_a_guess;
use crate::task::reencrypt::Ended;
use crate::task::reencrypt::Summary;
use crate::vault::Vault;

/// What is remembered of a slot that was taken away, in the folder of its vault: a file each, named by its id.
const FORMER_FILE: &str = "incident-";
/// More than any such file has, in bytes.
const FORMER_BYTES_MAX: u64 = 64;
/// What the page of a report has at most, in bytes.
const REPORT_BYTES_MAX: u64 = 64 << 20;

/// Tells what the theft of a machine or of a way in exposes; with --yes also shuts it out.
///
/// Without --yes nothing is changed. With it the machine is revoked, or the slot taken away, the vault gets new
/// keys, and all that is in it is sealed under them. The report says what the stolen thing could and couldn't
/// read, since when, what was added by it, what guessing costs, and what remains to be done. Run again, it goes on
/// where it was ended: what is shut out stays so, and new keys are made once.
#[derive(Args)]
#[command(group(ArgGroup::new("stolen").required(true).args(["device", "slot"])))]
pub struct IncidentArgs {
    /// The stolen machine's name, or the first digits of its id
    #[arg(long, value_name = "NAME")]
    device: Option<String>,

    /// The stolen way in: its slot's name, or the first digits of its id; also one that was taken away before
    #[arg(long, value_name = "LABEL")]
    slot: Option<String>,

    /// When the theft happened, such as 2026-11-24 or "2026-11-24 18:30": what was added from then on is listed
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,

    /// The last of the machine's snapshots that counts, by its place in the machine's chain; 0 for none. Those
    /// after it are lost for good [default: the newest, so that all stay]
    #[arg(long, value_name = "NUMBER", conflicts_with = "slot")]
    last: Option<u64>,

    /// Do it
    #[arg(long)]
    yes: bool,

    /// Write the report as a page of HTML, too; over no file but this report's own of an earlier run
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Stop re-encryption after this time, such as 20m, and leave the rest to `reencrypt`; exit code 25 then
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "yes")]
    budget: Option<Duration>,
}

/// Runs the command.
///
/// # Errors
/// As unlocking; [`Exit::Refused`] if the key is a reader's, the slot is the last owner's or the one that was
/// opened; [`Exit::Failed`] if nothing has that name. As `reencrypt` at the end.
pub fn run(context: &Context, args: &IncidentArgs) -> Result<Exit, Failure> {
    let about = args.device.as_deref().or(args.slot.as_deref()).unwrap_or_default();
    if args.since.is_some_and(|since| since > context.now) {
        context.warn("`--since` is later than now by this machine's clock");
    }
    if args.yes {
        return context.as_owner("incident", &format!("{about} --yes"), |vault| act(context, args, vault));
    }
    let vault = context.unlock("incident", about)?;
    let exposure = expose(context, &vault, args)?;
    if let Some(file) = &args.report {
        check_report(file, &exposure)?;
    }
    publish(context, &vault, args, &exposure)?;
    Ok(Exit::Done)
}

/// Shuts out what was stolen, makes new keys and seals everything anew.
fn act(context: &Context, args: &IncidentArgs, vault: &mut Vault) -> Result<Exit, Failure> {
    let mut exposure = expose(context, vault, args)?;
    if let Some(file) = &args.report {
        check_report(file, &exposure)?;
    }
    refuse_to_guess(&exposure, args.last)?;
    remember(context, &exposure);
    let shut_out = {
        let _spinner = context.bars().spinner("shutting it out, and making new keys");
        exposure.shut_out(vault, &wait_for_others)
    };
    let epoch = match shut_out {
        Ok(epoch) => epoch,
        Err(halted) => return Err(half_done(context, vault, args, exposure, halted)),
    };
    // However this ends, the report is written: the first half is done, and the second one may be cut off.
    exposure.done = Some(Done { epoch, resealed: Resealed::Begun });
    if let Err(unwritten) = write_report(args, &exposure) {
        context.warn(&unwritten.message);
    }
    finish(context, vault);
    let sealed = rotate::seal_anew(context, vault, args.budget);
    let resealed = match &sealed {
        Ok(summary) => resealed(summary),
        Err(failure) => Resealed::Stopped(failure.message.clone()),
    };
    exposure.done = Some(Done { epoch, resealed });
    let published = publish(context, vault, args, &exposure);
    let exit = rotate::tell(context, vault, sealed?, None)?;
    published.map(|()| exit)
}

/// Keeps what the vault doesn't keep of a slot, so that this command can be run again once the slot is gone.
fn remember(context: &Context, exposure: &Exposure) {
    let Stolen::Slot(StolenSlot { id, was: Some(was), is_gone: false, .. }) = &exposure.stolen else {
        return;
    };
    let Ok(machine) = context.machine() else { return };
    let state = machine.vault_state(&exposure.fingerprint);
    if let Err(error) = state.replace(&format!("{FORMER_FILE}{id}"), &was.encode()) {
        context.warn(&format!("what {} was could not be kept: {error}", id.short()));
    }
}

/// What this machine remembers of a slot that is gone.
fn remembered(context: &Context, vault: &Vault, id: SlotId) -> Option<Was> {
    let state = context.machine().ok()?.vault_state(&vault.log().fingerprint());
    let bytes = state.read(&format!("{FORMER_FILE}{id}"), FORMER_BYTES_MAX).ok()??;
    Was::decode(&bytes).ok()
}

/// The slot that a person means, a former one if no present one fits; of those of one name the one that went last.
fn find_slot(vault: &Vault, wanted: &str) -> Result<SlotId, Failure> {
    let unknown = match slot::find(vault, wanted) {
        Ok((id, ..)) => return Ok(id),
        Err(error) => error,
    };
    let former = &vault.admin()?.former;
    if let Some(named) = former.iter().rev().find(|slot| slot.label == wanted && !wanted.is_empty()) {
        return Ok(named.id);
    }
    let is_it = |id: &SlotId| wanted.len() >= 4 && id.to_string().starts_with(wanted);
    let mut ids: Vec<SlotId> = former.iter().map(|slot| slot.id).filter(is_it).collect();
    // A slot is there once more for each log key that it had.
    ids.sort_unstable();
    ids.dedup();
    match &ids[..] {
        [only] => Ok(*only),
        _ => Err(unknown.into()),
    }
}

/// Says, and writes into the report, what was done if there are no new keys.
fn half_done(
    context: &Context,
    vault: &Vault,
    args: &IncidentArgs,
    mut exposure: Exposure,
    halted: Halted,
) -> Failure {
    let failure = Failure::from(halted.error);
    if !halted.is_shut_out {
        return failure;
    }
    finish(context, vault);
    let resealed = Resealed::NoKeys(failure.message.clone());
    exposure.done = Some(Done { epoch: vault.log().keys().newest, resealed });
    if let Err(unpublished) = publish(context, vault, args, &exposure) {
        context.warn(&unpublished.message);
    }
    let why = failure.hint.as_deref().map_or_else(String::new, |hint| format!("; {hint}"));
    let shut_out = match &exposure.stolen {
        Stolen::Device(_) => "the machine is shut out",
        Stolen::Slot(_) => "the way in is taken away",
    };
    failure.hint(format!(
        "{shut_out}, and the keys are as they were: `strongroom rotate --reencrypt` does the rest{why}"
    ))
}

/// Where a chain can't be read to its end, a person says where it ends: nobody else knows which of what stands
/// there is his, and what is dropped is lost.
fn refuse_to_guess(exposure: &Exposure, last: Option<u64>) -> Result<(), Failure> {
    let Stolen::Device(stolen) = &exposure.stolen else { return Ok(()) };
    let (Some(hindrance), None) = (&stolen.hindrance, last) else { return Ok(()) };
    let last = stolen.last.map_or(0, |head| head.seq);
    let what = format!(
        "what {} has after number {last} of its snapshots can't be told from what a thief put there: {hindrance}",
        stolen.named()
    );
    Err(Failure::new(Exit::Refused, what).hint(format!(
        "`--last {last}` ends its chain there and shuts it out; what comes after it, which the report without --yes \
         lists, is lost then"
    )))
}

fn expose(context: &Context, vault: &Vault, args: &IncidentArgs) -> Result<Exposure, Failure> {
    let exposed = match (&args.device, &args.slot) {
        (Some(name), _) => {
            let (device, _) = device::find(vault, name)?;
            Exposure::of_device(vault, device, args.since, args.last, context.now)
        }
        (None, label) => {
            let id = find_slot(vault, label.as_deref().unwrap_or_default())?;
            Exposure::of_slot(vault, id, remembered(context, vault, id), args.since, context.now)
        }
    };
    exposed.map_err(|error| {
        let failure = Failure::from(error);
        match failure.hint {
            Some(_) => failure,
            None if args.device.is_some() => failure.hint("the report without `--last` lists its snapshots"),
            None => {
                failure.hint("open the vault with another owner's way in; `strongroom slot add` makes one")
            }
        }
    })
}

fn resealed(summary: &Summary) -> Resealed {
    match summary.ended {
        Ended::Complete { .. } if summary.kept == 0 => {
            Resealed::All { done: summary.done, behind: summary.behind.len() }
        }
        _ => Resealed::Part { done: summary.done, left: summary.left, kept: summary.kept },
    }
}

fn publish(
    context: &Context,
    vault: &Vault,
    args: &IncidentArgs,
    exposure: &Exposure,
) -> Result<(), Failure> {
    let sections = sections(exposure);
    write_report(args, exposure)?;
    if context.output.json {
        return context.json(&message(vault, args, exposure, &sections));
    }
    for section in &sections {
        context.line(section.title)?;
        for line in &section.lines {
            context.line(&format!("  - {line}"))?;
        }
        context.line("")?;
    }
    if let Some(file) = &args.report {
        context.line(&format!("the report is in {}", shown(file)))?;
    }
    Ok(())
}

/// Refuses to write over what is not this theft's own report.
fn check_report(file: &Path, exposure: &Exposure) -> Result<(), Failure> {
    let is_own = || {
        let mut text = String::new();
        let read = File::open(file).and_then(|file| file.take(REPORT_BYTES_MAX).read_to_string(&mut text));
        read.is_ok() && text.contains(&heading(exposure))
    };
    match pages::check_absent(file) {
        Err(_) if is_own() => Ok(()),
        Err(failure) => {
            Err(failure
                .hint("nothing but an earlier report on the same theft is overwritten: name a new file"))
        }
        Ok(()) => Ok(()),
    }
}

/// Writes the page, whole or not at all, in place of what an earlier run wrote.
fn write_report(args: &IncidentArgs, exposure: &Exposure) -> Result<(), Failure> {
    let Some(file) = &args.report else { return Ok(()) };
    let page = page(exposure, &sections(exposure));
    if file.symlink_metadata().is_err() {
        return pages::write_new(file, page.as_bytes());
    }
    check_report(file, exposure)?;
    let mut part = file.clone().into_os_string();
    part.push(".strongroom-part");
    // Of a run that was cut off.
    let _ = std::fs::remove_file(&part);
    pages::write_new(Path::new(&part), page.as_bytes())?;
    let renamed = std::fs::rename(&part, file);
    renamed.map_err(|error| Failure::io(format!("{} could not be written", shown(file)), &error))
}

/// What stands at the top of each report on one theft, and on no other.
fn heading(exposure: &Exposure) -> String {
    let about = match &exposure.stolen {
        Stolen::Device(stolen) => format!("machine <code>{}</code>", stolen.device),
        Stolen::Slot(stolen) => format!("way in <code>{}</code>", stolen.id),
    };
    format!(
        "<h1>Exposure report</h1>\n<p>{}<br>About {about}<br>",
        text::fingerprint_words(&exposure.fingerprint)
    )
}

fn page(exposure: &Exposure, sections: &[Section]) -> zeroize::Zeroizing<String> {
    let mut body = format!(
        "{}Vault <code>{}</code><br>Written {}</p>\n",
        heading(exposure),
        html::escape(&exposure.place),
        render::zoned_time(exposure.now),
    );
    for section in sections {
        body.push_str(&format!("<h2>{}</h2>\n<ul>\n", html::escape(section.title)));
        for line in &section.lines {
            body.push_str(&format!("<li>{}</li>\n", html::prose(line)));
        }
        body.push_str("</ul>\n");
    }
    html::page("strongroom exposure report", &[&body])
}

fn message(
    vault: &Vault,
    args: &IncidentArgs,
    exposure: &Exposure,
    sections: &[Section],
) -> serde_json::Value {
    let (device, slot) = match &exposure.stolen {
        Stolen::Device(stolen) => {
            let suspects: Vec<_> = stolen
                .suspects
                .iter()
                .map(|suspect| {
                    json!({
                        "seq": suspect.seq,
                        "snapshot_id": suspect.id.to_string(),
                        "time": render::rfc3339(suspect.time),
                        "known_from_before": suspect.is_known_from_before,
                        "counts": suspect.counts,
                    })
                })
                .collect();
            let device = json!({
                "device": stolen.device.to_string(),
                "name": stolen.name,
                "last": stolen.last.map_or(0, |head| head.seq),
                "clock_is_off": stolen.is_clock_off,
                "hindrance": stolen.hindrance.as_deref().map(one_line),
                "unreadable": stolen.beyond.len(),
                "past": stolen.past.len(),
                "paths": stolen.paths.iter().map(|path| render::json_text(path)).collect::<Vec<_>>(),
                "suspects": suspects,
            });
            (Some(device), None)
        }
        Stolen::Slot(stolen) => {
            let slot = json!({
                "id": stolen.id.to_string(),
                "label": stolen.label,
                "role": stolen.was.map(|was| was.role.word()),
                "kind": stolen.was.map(|was| was.key.word()),
                "gone": stolen.is_gone,
                "made": stolen.made.as_ref().map(|made| render::rfc3339(made.time)),
                "first_used": stolen.first_used.map(render::rfc3339),
                "seconds_a_guess": stolen.settings().map(|settings| seconds_a_guess(&settings)),
            });
            (None, Some(slot))
        }
    };
    let complete = exposure.done.as_ref().map(|done| matches!(done.resealed, Resealed::All { .. }));
    let sections: Vec<_> = sections
        .iter()
        .map(|section| json!({ "name": section.name, "title": section.title, "lines": section.lines }))
        .collect();
    json!({
        "message_type": "incident",
        "schema": 1,
        "dry_run": exposure.done.is_none(),
        "since": exposure.since.map(render::rfc3339),
        "device": device,
        "slot": slot,
        "newest_epoch": vault.log().keys().newest.0,
        "complete": complete,
        "report": args.report.as_deref().map(shown),
        "sections": sections,
    })
}

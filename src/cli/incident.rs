//! `strongroom incident`: after a theft, shuts out what was stolen and says what its thief has.

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
use crate::cli::diff::plural;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::html;
use crate::cli::log;
use crate::cli::render;
use crate::cli::rotate;
use crate::cli::secrets;
use crate::cli::slot;
use crate::cli::slot::finish;
use crate::cli::trusted::shown;
use crate::crypto::kdf::Argon2Settings;
use crate::crypto::text;
use crate::id::SlotId;
use crate::task::incident::BODIES_READ;
use crate::task::incident::Done;
use crate::task::incident::Exposure;
use crate::task::incident::Halted;
use crate::task::incident::KeyKind;
use crate::task::incident::Resealed;
use crate::task::incident::Stolen;
use crate::task::incident::StolenDevice;
use crate::task::incident::StolenSlot;
use crate::task::incident::Suspect;
use crate::task::incident::Was;
use crate::task::incident::seconds_a_guess;
use crate::task::reencrypt::Amount;
use crate::task::reencrypt::Ended;
use crate::task::reencrypt::Summary;
use crate::tree::path::printable;
use crate::vault::Vault;
use crate::vault::slot::Role;

/// How many snapshots that can't be read are listed.
const BEYOND_SHOWN: usize = 20;
/// How many paths that were backed up are listed.
const PATHS_SHOWN: usize = 20;

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

/// A part of the report, in the words that terminal, JSON and page share.
struct Section {
    name: &'static str,
    title: &'static str,
    lines: Vec<String>,
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
    match secrets::check_absent(file) {
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
        return secrets::write_new(file, page.as_bytes());
    }
    check_report(file, exposure)?;
    let mut part = file.clone().into_os_string();
    part.push(".strongroom-part");
    // Of a run that was cut off.
    let _ = std::fs::remove_file(&part);
    secrets::write_new(Path::new(&part), page.as_bytes())?;
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

fn sections(exposure: &Exposure) -> Vec<Section> {
    let section = |name, title, lines| Section { name, title, lines };
    let (stolen, could, could_not, added, guessing) = match &exposure.stolen {
        Stolen::Device(stolen) => (
            stolen.about(),
            stolen.could(),
            stolen.could_not(),
            stolen.added(exposure.since),
            vec![
                "There is no passphrase to guess: the machine's key lay on it, and it opens nothing in the vault"
                    .to_owned(),
            ],
        ),
        Stolen::Slot(stolen) => (
            stolen.about(exposure),
            stolen.could(exposure),
            stolen.could_not(),
            stolen.added(exposure.since),
            stolen.guessing(),
        ),
    };
    vec![
        section("stolen", "What was stolen", stolen),
        section("could", "What its thief could do until now", could),
        section("could_not", "What its thief could not do", could_not),
        section("added", "What was added after the theft", added),
        section("guessing", "What guessing costs", guessing),
        section("copies", "What stays as it is", copies(exposure)),
        section("done", done_title(exposure), done(exposure)),
        section("remains", "What remains to be done", remains(exposure)),
    ]
}

fn objects(amount: &Amount) -> String {
    format!("{} ({})", plural(amount.objects, "object", "objects"), render::size(amount.bytes))
}

impl StolenDevice {
    fn named(&self) -> String {
        if self.name.is_empty() { self.device.short() } else { one_line(&self.name) }
    }

    fn about(&self) -> Vec<String> {
        let taken_in = render::zoned_time(self.added);
        let number = plural(self.snapshots, "snapshot", "snapshots");
        let newest = self.newest.map_or_else(String::new, |newest| {
            format!(", the newest of {} by its own clock", render::zoned_time(newest))
        });
        vec![
            format!("{} ({}), a machine that was taken in on {taken_in}", self.named(), self.device.short()),
            format!("It held a key that adds snapshots and reads nothing. {number} of it counted{newest}"),
            self.backed_up(),
        ]
    }

    /// What lay on it, as far as it was backed up.
    fn backed_up(&self) -> String {
        let paths: Vec<String> = self.paths.iter().map(|path| printable(path)).collect();
        let more = if self.snapshots > BODIES_READ as u64 {
            format!(", by its newest {BODIES_READ} snapshots")
        } else {
            String::new()
        };
        match &paths[..] {
            [] => "What of it was backed up can't be told: none of its snapshots can be read".to_owned(),
            paths if paths.len() > PATHS_SHOWN => {
                let shown = paths[..PATHS_SHOWN].join(", ");
                format!("Backed up of it was{more}: {shown}, and {} more", paths.len() - PATHS_SHOWN)
            }
            paths => format!("Backed up of it was{more}: {}", paths.join(", ")),
        }
    }

    fn could(&self) -> Vec<String> {
        vec![
            "Read what lay on the machine's own disk, unless the disk was encrypted".to_owned(),
            "Add snapshots in the machine's name, and, if the machine's access to the storage allowed it, delete \
             objects: `strongroom verify` tells whether any is missing"
                .to_owned(),
            "With the machine's dedup secret and its cache, test guesses: was a file that the thief has already in \
             this machine's latest snapshots (of the jobs that ran in the last 45 days)? Nothing else answers them"
                .to_owned(),
        ]
    }

    fn could_not(&self) -> Vec<String> {
        vec![
            "Read anything in the vault: no file, no name, not even this machine's own snapshots".to_owned(),
            "Change or take away what was committed, by this machine or any other, unseen by who has used the vault \
             before or holds a receipt"
                .to_owned(),
            "Test any guess about other machines, or about what only older snapshots of this one held"
                .to_owned(),
        ]
    }

    fn added(&self, since: Option<u64>) -> Vec<String> {
        let mut lines: Vec<String> = self.suspects.iter().map(Suspect::words).collect();
        lines.extend(self.unreadable());
        lines.extend(self.past());
        match since {
            None => lines.push(
                "Not known, as no time of the theft was given: --since lists the machine's snapshots from then on"
                    .to_owned(),
            ),
            Some(since) if self.suspects.is_empty() && self.beyond.is_empty() && self.past.is_empty() => lines.push(format!(
                "No snapshot of the machine is of {} or later",
                render::zoned_time(since)
            )),
            Some(_) => {}
        }
        if self.is_clock_off {
            lines.push(
                "One of these claims a time before the theft and was made after one that claims a later: the \
                 machine's clock was wrong, or somebody wrote what he liked, and all of them may be good"
                    .to_owned(),
            );
        }
        if self.suspects.iter().any(|suspect| !suspect.counts) {
            lines.push(
                "What counts no more can't be restored, and is gone for good once all is sealed anew"
                    .to_owned(),
            );
        }
        if let Some(first) = self.suspects.first().filter(|first| first.counts && !self.is_last_given) {
            lines.push(format!(
                "They stay, as no clock may cost a good snapshot. Look at what they changed, with `strongroom diff`, \
                 before you restore one; to let those from {} on count no more, give `--last {}`, here or to \
                 `strongroom device revoke`",
                first.seq,
                first.seq - 1
            ));
        }
        lines.push(
            "Times are those of the machine's own clock: who holds its key can write any, so look at the newest \
             ones before as well"
                .to_owned(),
        );
        lines
    }
}

impl StolenDevice {
    /// What stands past where it was shut out.
    fn past(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .past
            .iter()
            .take(BEYOND_SHOWN)
            .map(|(seq, id)| {
                let id = data_encoding::HEXLOWER.encode(id);
                format!(
                    "Snapshot {seq} ({}) stands past where the machine was shut out, put there before or since: it \
                     counts for nothing",
                    &id[..8]
                )
            })
            .collect();
        if self.past.len() > BEYOND_SHOWN {
            lines.push(format!("And {} more of those", self.past.len() - BEYOND_SHOWN));
        }
        lines
    }

    /// What stands where the chain can't be read any more.
    fn unreadable(&self) -> Vec<String> {
        let Some(hindrance) = &self.hindrance else { return Vec::new() };
        let last = self.last.map_or(0, |head| head.seq);
        let mut lines = vec![format!(
            "Its chain can't be read to its end: {}. That happens if somebody adds snapshots with its key beside it",
            one_line(hindrance)
        )];
        let shown = self.beyond.iter().take(BEYOND_SHOWN);
        lines.extend(shown.map(|(seq, id)| {
            let id = data_encoding::HEXLOWER.encode(id);
            format!("Snapshot {seq} ({}): by the machine or by its thief; can't count", &id[..8])
        }));
        if self.beyond.len() > BEYOND_SHOWN {
            lines.push(format!("And {} more after those", self.beyond.len() - BEYOND_SHOWN));
        }
        lines.push(format!("With `--last {last}` its chain ends before them, and they are lost"));
        lines
    }
}

impl Suspect {
    fn words(&self) -> String {
        format!(
            "Snapshot {} ({}) of {}: {}{}",
            self.seq,
            self.id.short(),
            render::zoned_time(self.time),
            if self.counts { "goes on counting" } else { "counts no more once the machine is shut out" },
            if self.is_known_from_before {
                "; an owner's record from before the theft knows it, so it is no thief's"
            } else {
                ""
            }
        )
    }
}

impl StolenSlot {
    fn named(&self) -> String {
        if self.label.is_empty() { self.id.short() } else { one_line(&self.label) }
    }

    fn settings(&self) -> Option<Argon2Settings> {
        match self.was?.key {
            KeyKind::Passphrase(settings) | KeyKind::PassphraseAndKeyFile(settings) => Some(settings),
            _ => None,
        }
    }

    /// What its holder could do; of one that is gone and not remembered, the most.
    fn role(&self) -> Role {
        self.was.map_or(Role::Owner, |was| was.role)
    }

    fn about(&self, exposure: &Exposure) -> Vec<String> {
        vec![
            match self.was {
                Some(was) => format!(
                    "{} ({}), a way in: {}, as {}",
                    self.named(),
                    self.id.short(),
                    was.key.word(),
                    was.role.word()
                ),
                None => format!(
                    "{} ({}), a way in that was taken away before. What it was, and whether an owner's, the vault \
                     doesn't keep: this is told as if it had been an owner's",
                    self.named(),
                    self.id.short()
                ),
            },
            self.since_when(exposure),
        ]
    }

    /// Since when it opened the vault, as far as that is known.
    fn since_when(&self, exposure: &Exposure) -> String {
        match (&self.made, self.first_used) {
            (Some(made), _) => format!(
                "It opened the vault since {}, as the log of who did what has it: {}",
                render::zoned_time(made.time),
                log::words(made)
            ),
            (None, Some(used)) => format!(
                "Nothing says when it was made: it was in use on {}, and is at most as old as the vault, of {}",
                render::zoned_time(used),
                render::zoned_time(exposure.made)
            ),
            (None, None) => format!(
                "Nothing says when it was made: it is at most as old as the vault, of {}",
                render::zoned_time(exposure.made)
            ),
        }
    }

    fn could(&self, exposure: &Exposure) -> Vec<String> {
        let held = &exposure.held;
        let mut lines = vec![format!(
            "Read everything, of all machines: now {} of {}, {}, and whatever the vault held since the slot was \
             made, what was there before it included",
            plural(held.snapshots, "snapshot", "snapshots"),
            plural(held.devices, "machine", "machines"),
            objects(&held.amount)
        )];
        if held.unread > 0 {
            lines.push(format!(
                "{} could not be looked at to the end: `strongroom verify` says why",
                plural(held.unread, "machine", "machines")
            ));
        }
        if self.role() == Role::Owner {
            lines.push(
                "Sign: take machines and ways in into the vault, shut them out, change the keys. The authority's \
                 signing key is another one once the slot is gone"
                    .to_owned(),
            );
        }
        let Some(was) = self.was else { return lines };
        lines.push(match was.key {
            KeyKind::PassphraseAndKeyFile(_) => {
                "That takes both, passphrase and key file; with one alone, nothing can be read".to_owned()
            }
            KeyKind::Cards { threshold, count } => {
                format!("That takes {threshold} of the {count} cards; with fewer, nothing can be read")
            }
            KeyKind::Passphrase(_) => {
                "That takes the passphrase; who has a copy of the vault and not the passphrase can guess at it"
                    .to_owned()
            }
            KeyKind::KeyFile | KeyKind::RecoveryCode => {
                format!("That takes the {} and a copy of the vault; either alone reads nothing", was.key.word())
            }
            KeyKind::Recipient => {
                "That takes the outside recipient's private key and a copy of the vault; either alone reads nothing"
                    .to_owned()
            }
        });
        lines
    }

    fn could_not(&self) -> Vec<String> {
        match self.role() {
            Role::Reader => vec![
                "Change anything: a reader's key doesn't sign, so it takes in no machine and no way in, and shuts \
                 none out"
                    .to_owned(),
                "Add or remove a snapshot so that it counts".to_owned(),
            ],
            Role::Owner => vec![
                "Change what was committed without a trace: records are signed and chained, and machines that have \
                 seen the vault notice if its history is put back or forked"
                    .to_owned(),
            ],
        }
    }

    fn added(&self, since: Option<u64>) -> Vec<String> {
        if self.role() == Role::Reader {
            return vec!["Nothing: a reader's key adds nothing".to_owned()];
        }
        let Some(since) = since else {
            return vec![
                "Not known, as no time of the theft was given: --since lists the machines and ways in that were taken \
                 in from then on"
                    .to_owned(),
            ];
        };
        let ways = self.ways_since.iter().map(|done| {
            format!(
                "Way in, made on {} with {} ({}): {}",
                render::zoned_time(done.time),
                done.slot.short(),
                printable(done.act.host.as_bytes()),
                log::words(done)
            )
        });
        let machines = self.devices_since.iter().map(|(device, name, added)| {
            format!(
                "Machine {} ({}) was taken in on {}: if it is none of yours, `strongroom device revoke {}`",
                one_line(name),
                device.short(),
                render::zoned_time(*added),
                device.short()
            )
        });
        let mut lines: Vec<String> = ways.chain(machines).collect();
        if self.ways_since.is_empty() {
            lines.push(format!("No way in was made since {}", render::zoned_time(since)));
        }
        if self.devices_since.is_empty() {
            lines.push(format!("No machine was taken in since {}", render::zoned_time(since)));
        }
        lines.push(
            "A thief with an owner's key can write any time into a record, and can have made ways in: look through \
             `strongroom slot list` and `strongroom device list`, and take away what is none of yours"
                .to_owned(),
        );
        lines
    }

    fn guessing(&self) -> Vec<String> {
        let price = |settings: &Argon2Settings| {
            let seconds = seconds_a_guess(settings);
            let guesses = [6, 9, 12]
                .map(|power| format!("10^{power} guesses {}", core_time(seconds * 10_f64.powi(power))));
            vec![
                format!(
                    "Each guess at the passphrase takes {} MiB of memory, {} and about {seconds:.2} seconds \
                     of one processor core (measured: 1.12 for 256 MiB and 4 passes; others in proportion)",
                    settings.memory_kib / 1024,
                    plural(settings.passes.into(), "pass", "passes"),
                ),
                format!("On one core: {}. A thief with a thousand cores is a thousand times as fast", guesses.join(", ")),
                "A passphrase that strongroom made takes 10^33 guesses; one that people choose often takes fewer \
                 than 10^9"
                    .to_owned(),
            ]
        };
        let Some(was) = &self.was else {
            return vec![
                "What opened it is not known here: the report of the run that took it away says what guessing costs"
                    .to_owned(),
            ];
        };
        match &was.key {
            KeyKind::Passphrase(settings) => price(settings),
            KeyKind::PassphraseAndKeyFile(settings) => {
                let without = "Without the key file, 256 random bits, no guess can be tested. With it:".to_owned();
                std::iter::once(without).chain(price(settings)).collect()
            }
            KeyKind::KeyFile => vec!["A key file has 256 random bits: it can't be guessed, only copied".to_owned()],
            KeyKind::RecoveryCode => {
                vec!["A recovery code has 160 random bits: it can't be guessed, only copied".to_owned()]
            }
            KeyKind::Cards { threshold, count } => vec![format!(
                "{threshold} of {count} cards give 256 random bits; fewer than {threshold} tell nothing, and can't \
                 be guessed further"
            )],
            KeyKind::Recipient => vec![
                "An outside recipient's slot rests on X-Wing alone, X25519 and ML-KEM-768 together: the key can't \
                 be guessed, only copied, with whatever protects it where it is kept"
                    .to_owned(),
            ],
        }
    }
}

/// So many seconds of one core, in words.
fn core_time(seconds: f64) -> String {
    const DAY: f64 = 86_400.0;
    match seconds {
        ..DAY => format!("take {:.0} hours", seconds / 3_600.0),
        ..63_115_200.0 => format!("take {:.0} days", seconds / DAY),
        _ => format!("take {:.0} years", seconds / (365.25 * DAY)),
    }
}

fn copies(exposure: &Exposure) -> Vec<String> {
    match &exposure.stolen {
        Stolen::Device(_) => vec![
            "What lay on the machine's disk: the vault can't take it back".to_owned(),
            "The snapshots that count: they can be restored as before".to_owned(),
        ],
        Stolen::Slot(_) => vec![
            "What was copied before stays readable to whoever has that copy and the stolen key: new keys don't reach \
             copies"
                .to_owned(),
            "So do other copies of the storage: a second drive, versions or snapshots that a bucket or a NAS keeps, \
             blocks of a worn disk. Remove the versions from before where they are kept"
                .to_owned(),
            "The machines' dedup secrets: every way in leads to them, and new keys don't change them. By themselves \
             they answer nothing, as what they could be tried on is sealed, in the vault and in the machines' caches"
                .to_owned(),
        ],
    }
}

fn done_title(exposure: &Exposure) -> &'static str {
    if exposure.done.is_some() { "What was done" } else { "What would be done: nothing was changed" }
}

fn done(exposure: &Exposure) -> Vec<String> {
    let (shut_out, why) = match &exposure.stolen {
        Stolen::Device(stolen) => {
            let name = stolen.named();
            let shut_out = match stolen.last {
                _ if stolen.is_shut_out => format!("{name} was shut out before, and stays so"),
                None => format!("{name} is shut out; none of its snapshots counts"),
                Some(last) => format!("{name} is shut out; its snapshots up to number {} count", last.seq),
            };
            let why = "Against reading that isn't needed, as the machine never could; with it no key that it held is \
                       in use any more";
            (shut_out, why)
        }
        Stolen::Slot(stolen) => (
            if stolen.is_gone {
                format!("{} was taken away before, and opens the vault no more", stolen.named())
            } else {
                format!("{} no longer opens the vault", stolen.named())
            },
            "What is added from now on takes them to read",
        ),
    };
    let Some(done) = &exposure.done else {
        return vec![
            format!("With --yes: {shut_out}"),
            if exposure.has_new_keys {
                format!("No other new keys: those of epoch {} were made since. {why}", exposure.newest)
            } else {
                format!("New keys for the vault. {why}")
            },
            format!("Sealed anew under them: up to {}", objects(&exposure.held.amount)),
        ];
    };
    let mut lines = vec![shut_out];
    if exposure.has_new_keys {
        lines.push(format!("Epoch {} had begun since, with new keys. {why}", done.epoch));
    } else if !matches!(done.resealed, Resealed::NoKeys(_)) {
        lines.push(format!("Epoch {} has begun, with new keys. {why}", done.epoch));
    }
    lines.push(match &done.resealed {
        Resealed::All { done, .. } => format!("{} sealed anew; the older keys are gone", objects(done)),
        Resealed::Part { done, left, kept: 0 } => {
            format!("{} sealed anew; {} still under older keys", objects(done), objects(left))
        }
        Resealed::Part { done, left, kept } => format!(
            "{} sealed anew; {} still under older keys; {} that stand for nothing any more the store did not remove",
            objects(done),
            objects(left),
            plural(*kept, "object", "objects")
        ),
        Resealed::Begun => {
            "Sealing anew what was there has begun: this was written before it ended".to_owned()
        }
        Resealed::Stopped(why) => format!("Sealing anew what was there has stopped: {}", one_line(why)),
        Resealed::NoKeys(why) => format!("No new keys were made: {}", one_line(why)),
    });
    lines
}

fn remains(exposure: &Exposure) -> Vec<String> {
    let mut lines = Vec::new();
    match &exposure.done {
        None => lines.push("Run the same with --yes".to_owned()),
        Some(Done { resealed: Resealed::All { behind: 0, .. }, .. }) => {}
        Some(Done { resealed: Resealed::All { .. }, .. }) => lines.push(
            "Run `strongroom reencrypt` again after the next backup of every machine: one that was at work as the keys \
             changed may still add something under older ones, so nothing is stated and signed yet"
                .to_owned(),
        ),
        Some(Done { resealed: Resealed::NoKeys(_), .. }) => lines.push(
            "Run `strongroom rotate --reencrypt`: it makes the new keys and seals what is there under them"
                .to_owned(),
        ),
        Some(_) => lines.push(
            "Run `strongroom reencrypt` until it ends with 0: until then the older keys open what is left"
                .to_owned(),
        ),
    }
    match &exposure.stolen {
        Stolen::Device(_) => {
            lines.push(
                "Take the machine's access to the storage away, where the storage is kept, so that its thief can't \
                 delete"
                    .to_owned(),
            );
            lines.push(
                "If a key file, a passphrase or a recovery code was on it or with it, run `strongroom incident --slot \
                 LABEL` for that, too"
                    .to_owned(),
            );
            lines.push("Run `strongroom verify`: is everything there that was ever added?".to_owned());
        }
        Stolen::Slot(stolen) => {
            lines.push("Give its holder another way in: `strongroom slot add`".to_owned());
            if stolen.is_last_code {
                lines.push(
                    "The vault has no recovery code any more: `strongroom slot add CODE --role owner \
                     --new-recovery-code`"
                        .to_owned(),
                );
            }
            if stolen.role() == Role::Owner {
                lines.push(
                    "Give people who check receipts a new one: `strongroom device list` prints it".to_owned(),
                );
            }
            lines.push("Decide whom you have to tell about what could be read".to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_is_priced_by_what_the_slot_is_locked_with() {
        let says = |key| {
            let (id, label) = (crate::id::SlotId([7; 16]), "anna".to_owned());
            let devices_since = Vec::new();
            let was = Some(Was { role: Role::Reader, key });
            let slot = StolenSlot {
                id,
                label,
                was,
                is_gone: false,
                made: None,
                first_used: None,
                ways_since: Vec::new(),
                devices_since,
                is_last_code: false,
            };
            slot.guessing().join("\n")
        };
        let own = says(KeyKind::Passphrase(Argon2Settings::DEFAULT));
        for part in
            ["256 MiB of memory, 3 passes and about 0.84 seconds", "10^6 guesses take 10 days", "27 years"]
        {
            assert!(own.contains(part), "{part}\n{own}");
        }
        let weaker = Argon2Settings { memory_kib: 64 * 1024, passes: 1, lanes: 1 };
        assert!(
            says(KeyKind::Passphrase(weaker)).contains("64 MiB of memory, 1 pass and about 0.07 seconds")
        );
        let both = says(KeyKind::PassphraseAndKeyFile(Argon2Settings::DEFAULT));
        assert!(
            both.starts_with("Without the key file, 256 random bits, no guess can be tested.")
                && both.ends_with(&own)
        );
        for (key, part) in [
            (KeyKind::KeyFile, "256 random bits"),
            (KeyKind::RecoveryCode, "160 random bits"),
            (KeyKind::Cards { threshold: 2, count: 3 }, "2 of 3 cards give"),
            (KeyKind::Recipient, "rests on X-Wing alone"),
        ] {
            assert!(says(key).contains(part) && !says(key).contains("Each guess"), "{part}");
        }
    }

    #[test]
    fn the_time_of_a_core_is_told_in_a_unit_that_says_enough() {
        for (seconds, words) in
            [(7_200.0, "take 2 hours"), (864_000.0, "take 10 days"), (8.4e11, "take 26618 years")]
        {
            assert_eq!(core_time(seconds), words);
        }
    }
}

//! `strongroom recover`: on a bare machine, with the vault and one way in, back to having both.
//!
//! What lets a person in again comes first: a new owner's slot and a new recovery code, of which the person
//! holds all that there is to hold before one record puts both into force and retires the code or the cards
//! that were used. So at no moment is the vault without a code. Files come after that.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::context::wait_for_others;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::new_way::NewWay;
use crate::cli::new_way::NewWayArgs;
use crate::cli::new_way::check_label;
use crate::cli::render;
use crate::cli::restore;
use crate::cli::restore::RestoreArgs;
use crate::cli::secrets;
use crate::cli::slot::finish;
use crate::cli::snapshots;
use crate::cli::snapshots::Part;
use crate::cli::terminal;
use crate::cli::trusted::quoted;
use crate::cli::trusted::shown;
use crate::crypto::card::Card;
use crate::crypto::secret::SecretBytes;
use crate::crypto::text;
use crate::id::DeviceId;
use crate::id::SlotId;
use crate::id::SnapshotId;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::acts::Deed;
use crate::vault::error::Error;
use crate::vault::slot::Lock;
use crate::vault::slot::Role;
use crate::vault::slot::Way;

/// Where a restore that is offered goes if no folder is named.
const TARGET: &str = "Restored";
/// What a new recovery code is called.
const CODE_LABEL: &str = "recovery code";

/// On a bare machine: opens the vault, makes a new way in and a new recovery code, and restores.
///
/// Takes the recovery code, the cards, or any other way in. Lists what every machine backed up, makes a new
/// owner's slot and a new recovery code, retires the code or the cards that were used, and offers to restore
/// the newest snapshot. Without a terminal, give --new-key-file or its like, --recovery-code-out, and
/// --restore with --target.
#[derive(Args)]
pub struct RecoverArgs {
    /// What the new owner's slot is called [default: owner (recovered DATE)]
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,

    /// Then restore this snapshot, or a part of it: latest, 3f9a0c12:home/anna
    #[arg(long, value_name = "SNAPSHOT[:PATH]", requires = "target")]
    restore: Option<OsString>,

    /// The folder to restore to; made if it isn't there
    #[arg(short, long, value_name = "DIR")]
    target: Option<PathBuf>,

    #[command(flatten)]
    new: NewWayArgs,
}

/// Runs the command.
///
/// # Errors
/// As unlocking; [`Exit::Refused`] if the slot is a reader's, which lists and restores and makes no slots.
pub fn run(context: &Context, args: &RecoverArgs) -> Result<Exit, Failure> {
    if let Some(snapshot) = &args.restore {
        Part::parse(snapshot.clone())?;
    }
    if let Some(label) = &args.label {
        check_label(label)?;
    }
    args.new.refuse_secret()?;
    let mut vault = open(context)?;
    let found = devices(context, &vault);
    show(context, &vault, &found)?;
    check_restore(context, &vault, args)?;
    if vault.admin().is_err() {
        return by_reader(context, &vault, args, &found);
    }
    let made = let_in(context, &mut vault, args)?;
    made.tell(context)?;
    let restored = restore(context, &vault, args, &found);
    if !context.output.json {
        next(context, restored.as_ref().is_ok_and(Option::is_some))?;
    }
    restored.map(|exit| exit.unwrap_or(Exit::Done))
}

/// Sees to it that what is asked to be restored can be: the code is retired only after that.
fn check_restore(context: &Context, vault: &Vault, args: &RecoverArgs) -> Result<(), Failure> {
    let (Some(snapshot), Some(target)) = (&args.restore, &args.target) else { return Ok(()) };
    let asked = RestoreArgs::new(snapshot.clone(), target.clone());
    restore::check(context, vault, &asked).map_err(|failure| {
        let hint = match failure.hint.as_deref() {
            Some(hint) if !hint.contains("--overwrite") => format!("nothing was changed; {hint}"),
            _ => "nothing was changed; name a new folder with `--target`".to_owned(),
        };
        failure.hint(hint)
    })
}

/// Opens the vault with what the options give; at a terminal, a code or cards can be typed.
fn open(context: &Context) -> Result<Vault, Failure> {
    let asked = context.settle_fork()?;
    let (locked, pins) = context.locked()?;
    let given = if asked.is_some() { asked } else { context.secrets.way()? };
    let way = match given {
        Some(way) => way,
        None if terminal::is_there() => ask_way(context, &locked)?,
        None => context.way(&locked)?,
    };
    let vault = context.unlock_by(locked, pins.is_some(), &way)?;
    // A reader only reads.
    match vault.admin() {
        Ok(_) => context.record_change(&vault, "recover", "")?,
        Err(_) => context.record(&vault, "recover", Deed::Given(String::new())),
    }
    Ok(vault)
}

fn ask_way(context: &Context, locked: &LockedVault) -> Result<Way, Failure> {
    terminal::tell("Type the recovery code, or one of the cards, or press Enter to give a passphrase.");
    for _ in 0..terminal::TRIES {
        let typed = terminal::ask_shown("Recovery code or card: ")?;
        if typed.is_empty() {
            return context.way(locked);
        }
        match understood(&typed) {
            Ok(Typed::Code(way)) => return Ok(*way),
            Ok(Typed::Card(card)) => return ask_cards(card),
            Err(error) => terminal::tell(&format!("That is not it: {error}.")),
        }
    }
    Err(Failure::new(Exit::WrongKey, "no recovery code and no card was typed")
        .hint("`--recovery-code-file` and `--card-file` read them from files"))
}

enum Typed {
    Code(Box<Way>),
    Card(Card),
}

fn understood(typed: &SecretBytes) -> Result<Typed, String> {
    typed.expose(|typed| {
        // What isn't text has characters that no code has, and is told so.
        let typed = std::str::from_utf8(typed).unwrap_or("\u{fffd}");
        if Card::is_like(typed) {
            return Card::decode(typed.trim()).map(Typed::Card).map_err(|error| error.to_string());
        }
        let code = text::decode_recovery_code(typed).map_err(|error| error.to_string())?;
        Ok(Typed::Code(Box::new(Way { recovery_code: Some(code), ..Way::default() })))
    })
}

fn ask_cards(first: Card) -> Result<Way, Failure> {
    let threshold = first.threshold();
    let mut cards = vec![first];
    let mut slips = 0;
    while cards.len() < usize::from(threshold) {
        let typed = terminal::ask_shown(&format!("Card {} of {threshold}: ", cards.len() + 1))?;
        match understood(&typed) {
            Ok(Typed::Card(card)) => cards.push(card),
            _ if slips + 1 == terminal::TRIES => {
                return Err(Failure::new(Exit::WrongKey, "too few cards were typed")
                    .hint("`--card-file` reads them from files"));
            }
            Ok(Typed::Code(_)) => {
                slips += 1;
                terminal::tell("That is a recovery code and no card.");
            }
            Err(error) => {
                slips += 1;
                terminal::tell(&format!("That is not it: {error}."));
            }
        }
    }
    Ok(Way { cards: Some(secrets::join_cards(&cards)?), ..Way::default() })
}

/// The newest snapshot of one machine under one name.
struct Newest {
    id: SnapshotId,
    time: u64,
    host: String,
}

/// A machine and what it backed up, for each name that it had, the newest last.
struct Found {
    device: DeviceId,
    name: String,
    is_revoked: bool,
    newest: Vec<Newest>,
}

/// All machines of all names: whoever is on a new one must see what the others had.
fn devices(context: &Context, vault: &Vault) -> Vec<Found> {
    let (listing, _) = snapshots::listing(context, vault);
    listing.read_bodies();
    let mut found: Vec<Found> = vault
        .log()
        .devices()
        .iter()
        .map(|(device, known)| Found {
            device: *device,
            name: vault.device_name(*device).map_or_else(String::new, one_line),
            is_revoked: known.revoked.is_some(),
            newest: Vec::new(),
        })
        .collect();
    let mut seen = HashSet::new();
    for listed in listing.snapshots.iter().rev().filter(|listed| !listed.forgotten) {
        let host = listed.body().map_or_else(|_| "(damaged)".to_owned(), |body| one_line(&body.host));
        let of = found.iter_mut().find(|found| found.device == listed.device);
        if let (Some(of), true) = (of, seen.insert((listed.device, host.clone()))) {
            of.newest.insert(0, Newest { id: listed.snapshot.id(), time: listed.time(), host });
        }
    }
    found
}

fn show(context: &Context, vault: &Vault, found: &[Found]) -> Result<(), Failure> {
    let (slot, role) = vault.slot();
    let kind = used(vault).map_or("", Lock::word);
    let fingerprint = vault.log().fingerprint();
    if context.output.json {
        context.json(&json!({
            "message_type": "recover_opened",
            "schema": 1,
            "vault": vault.store().place(),
            "fingerprint": text::fingerprint_base32(&fingerprint),
            "kind": kind,
            "role": role.word(),
            "label": vault.slot_label(slot.id),
        }))?;
        for of in found {
            let newest = of.newest.last();
            context.json(&json!({
                "message_type": "recover_device",
                "schema": 1,
                "device": of.device.to_string(),
                "name": vault.device_name(of.device),
                "revoked": of.is_revoked,
                "snapshot_id": newest.map(|newest| newest.id.to_string()),
                "newest": newest.map(|newest| render::rfc3339(newest.time)),
                "hosts": of.newest.iter().map(|newest| newest.host.as_str()).collect::<Vec<_>>(),
            }))?;
        }
        return Ok(());
    }
    context.line(&format!("vault        {}", one_line(&vault.store().place())))?;
    context.line(&format!("fingerprint  {}", text::fingerprint_words(&fingerprint)))?;
    context.line(&format!("             {}", text::fingerprint_base32(&fingerprint)))?;
    context.line(&format!("opened by    {kind}, as {}", role.word()))?;
    context.line("")?;
    let mut table = render::Table::new(&["Device", "Name", "Host", "Newest snapshot", "ID"]);
    for of in found {
        let mark = if of.is_revoked { " (revoked)" } else { "" };
        let (device, name) = (of.device.short(), format!("{}{mark}", of.name));
        if of.newest.is_empty() {
            table.row(vec![device.clone(), name.clone(), String::new(), "none yet".to_owned()]);
        }
        for newest in of.newest.iter().rev() {
            let (host, time) = (newest.host.clone(), render::local_time(newest.time));
            table.row(vec![device.clone(), name.clone(), host, time, newest.id.short()]);
        }
    }
    context.bytes(table.finish().as_bytes())?;
    context.line("")
}

/// What locks the slot that was opened.
fn used(vault: &Vault) -> Option<&Lock> {
    let id = vault.slot().0.id;
    vault.slots().slots.iter().find(|slot| slot.id == id).map(|slot| &slot.lock)
}

/// A reader restores; the rest is an owner's.
fn by_reader(context: &Context, vault: &Vault, args: &RecoverArgs, found: &[Found]) -> Result<Exit, Failure> {
    let restored = restore(context, vault, args, found)?;
    let what = "the slot that was opened is a reader's: it lists and restores, and can't make new ways in";
    let failure = Failure::new(Exit::Refused, what);
    Err(failure.hint(if restored.is_some() {
        "ask an owner for a way in, or run this with an owner's recovery code or cards"
    } else {
        "`strongroom restore latest --target DIR` takes the files out; for the rest ask an owner, or use an \
         owner's recovery code or cards"
    }))
}

/// What lets the person in from now on.
struct Made {
    label: String,
    kind: &'static str,
    code_label: String,
    /// What was used and opens the vault no more.
    retired: Option<&'static str>,
    /// Another recovery code or set of cards that still opens it.
    older_codes: usize,
    keep: Vec<String>,
}

/// `wanted`, or that with the first number that makes it no other slot's.
fn free_label(taken: &[&str], wanted: &str) -> String {
    let numbered = (2_u64..).map(|number| format!("{wanted} {number}"));
    let mut labels = std::iter::once(wanted.to_owned()).chain(numbered);
    labels.find(|label| !taken.contains(&label.as_str())).expect("there are more numbers than slots")
}

/// Makes the slot and the code; all that the person must hold is with him before the vault changes.
fn let_in(context: &Context, vault: &mut Vault, args: &RecoverArgs) -> Result<Made, Failure> {
    let slots = &vault.admin()?.slots;
    let mut taken: Vec<&str> = slots.iter().map(|slot| slot.label.as_str()).collect();
    let today = render::local_time(context.now);
    let today = today.split(' ').next().unwrap_or_default();
    let label = match &args.label {
        Some(label) if taken.contains(&label.as_str()) => {
            return Err(Error::LabelTaken { label: label.clone() }.into());
        }
        Some(label) => label.clone(),
        None => free_label(&taken, &format!("owner (recovered {today})")),
    };
    taken.push(&label);
    let retires = retired(vault);
    let code_label = match retires {
        // The new code is that code's successor.
        Some((id, "recovery code")) => vault.slot_label(id).unwrap_or(CODE_LABEL).to_owned(),
        _ => free_label(&taken, CODE_LABEL),
    };

    let fingerprint = vault.log().fingerprint();
    let (person, code) = args.new.make_with_code(context, &vault.store().place(), &fingerprint)?;
    person.check_new(vault)?;
    let spinner = context.bars().spinner("making keys");
    let (slot, code_slot) =
        (person.slot(&fingerprint, Role::Owner, &label)?, code.slot(&fingerprint, Role::Owner, &code_label)?);
    let changed = vault.change_keys(context.now, &wait_for_others, &|draft| {
        draft.add_slot(slot.draft())?;
        match retires {
            None => draft.add_slot(code_slot.draft()),
            Some((id, _)) => draft.replace_slot(id, code_slot.draft()),
        }
    });
    changed
        .map_err(|error| NewWay::unused(&[&person, &code], error, "what you used still opens the vault"))?;
    for way in [&code, &person] {
        let vouched = Some(vault.log().head().into());
        let opened = way.open(LockedVault::load_from(context.store()?, Some(&fingerprint), vouched)?)?;
        // What was used is no way in any more, and signs no entry of the log: from here on the new one does.
        if let (Some(opened), Some(_)) = (opened, retires) {
            *vault = opened;
        }
    }
    drop(spinner);
    finish(context, vault);

    let codes = vault.slots().slots.iter().filter(|slot| slot.lock.is_code()).count();
    let new_codes = 1 + usize::from(slot.kind() == "cards");
    Ok(Made {
        label,
        kind: slot.kind(),
        code_label,
        retired: retires.map(|(_, kind)| kind),
        older_codes: codes.saturating_sub(new_codes),
        keep: person.keep.into_iter().chain(code.keep).collect(),
    })
}

/// The slot that was opened, if it is one to be used once: a code or cards that were taken out of their
/// hiding place and typed into a machine.
fn retired(vault: &Vault) -> Option<(SlotId, &'static str)> {
    let lock = used(vault)?;
    let is_for_once = lock.is_code();
    is_for_once.then(|| (vault.slot().0.id, lock.word()))
}

impl Made {
    fn tell(&self, context: &Context) -> Result<(), Failure> {
        if context.output.json {
            return context.json(&json!({
                "message_type": "recovered",
                "schema": 1,
                "label": self.label,
                "kind": self.kind,
                "role": "owner",
                "recovery_code_label": self.code_label,
                "retired": self.retired,
                "older_codes": self.older_codes,
                "keep": self.keep,
            }));
        }
        for line in &self.keep {
            context.line(&format!("keep         {line}"))?;
        }
        context.line(&format!("{} opens the vault by {}, as owner", one_line(&self.label), self.kind))?;
        context.line(&format!(
            "The new recovery code opens it too, and was tried; `slot list` calls it {}",
            one_line(&self.code_label)
        ))?;
        if let Some(kind) = self.retired {
            let (the, opens) = if kind == "cards" { ("cards", "open") } else { (kind, "opens") };
            context.line(&format!(
                "The {the} that you used no longer {opens} it; with an old copy of the vault and the {the}, what \
                 is added until the keys change can still be read: if somebody else may have both, run \
                 `strongroom rotate --reencrypt`"
            ))?;
        }
        if self.older_codes > 0 {
            context.line(&older_codes(self.older_codes))?;
        }
        Ok(())
    }
}

fn older_codes(number: usize) -> String {
    let still = match number {
        1 => "1 recovery code or set of cards from before still opens it".to_owned(),
        _ => format!("{number} recovery codes or sets of cards from before still open it"),
    };
    format!("{still}: `strongroom slot list`, and `slot remove` for what you no longer have")
}

/// Restores as the options say, or what a person says yes to. None if nothing was to be restored.
fn restore(
    context: &Context,
    vault: &Vault,
    args: &RecoverArgs,
    found: &[Found],
) -> Result<Option<Exit>, Failure> {
    let target = args.target.clone().unwrap_or_else(|| PathBuf::from(TARGET));
    if let Some(snapshot) = &args.restore {
        return take_out(context, vault, args, snapshot.clone(), target).map(Some);
    }
    let newest = found.iter().flat_map(|of| of.newest.iter().map(move |newest| (of, newest)));
    let Some((of, newest)) = newest.max_by_key(|(_, newest)| newest.time) else { return Ok(None) };
    let target = free_folder(&target);
    if context.output.json || !terminal::is_there() || !ask_restore(of, newest, &target)? {
        return Ok(None);
    }
    take_out(context, vault, args, newest.id.to_string().into(), target).map(Some)
}

/// `wanted`, or that with the first number with which it can be restored to: one that is not there, or empty.
fn free_folder(wanted: &Path) -> PathBuf {
    let numbered = (2_u64..).map(|number| {
        let mut name = wanted.as_os_str().to_owned();
        name.push(format!("-{number}"));
        PathBuf::from(name)
    });
    let is_free = |folder: &PathBuf| match folder.read_dir() {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => folder.symlink_metadata().is_err(),
    };
    let mut folders = std::iter::once(wanted.to_owned()).chain(numbered);
    folders.find(is_free).expect("there are more numbers than folders")
}

/// Restores; if that fails, the rest is done all the same, and another command goes on.
fn take_out(
    context: &Context,
    vault: &Vault,
    args: &RecoverArgs,
    snapshot: OsString,
    target: PathBuf,
) -> Result<Exit, Failure> {
    let key = match args.new.key_file() {
        Some(file) if vault.admin().is_ok() => format!("--key-file {} ", quoted(&shown(file))),
        _ => String::new(),
    };
    let command = format!(
        "strongroom {key}restore {} --target {}",
        quoted(&one_line(&snapshot.to_string_lossy())),
        quoted(&shown(&target))
    );
    restore::take_out(context, vault, &RestoreArgs::new(snapshot, target)).map_err(|failure| {
        let overwrite = match failure.hint.as_deref() {
            Some(hint) if hint.contains("--overwrite") => " --overwrite if-changed",
            _ => "",
        };
        match failure.exit {
            // What is damaged stays so.
            Exit::Damaged => failure,
            _ => {
                failure.hint(format!("`{command}{overwrite}` takes the files out; this command did the rest"))
            }
        }
    })
}

fn ask_restore(of: &Found, newest: &Newest, target: &Path) -> Result<bool, Failure> {
    let name = if of.name.is_empty() { &newest.host } else { &of.name };
    let time = render::local_time(newest.time);
    let question = format!("Restore the newest snapshot of {name}, of {time}, into {} now?", shown(target));
    terminal::ask_yes(&question)
}

/// What is left to do.
fn next(context: &Context, is_restored: bool) -> Result<(), Failure> {
    context.line("")?;
    context.line("What to do next:")?;
    if !is_restored {
        context.line(
            "  strongroom restore latest --target DIR   take files out; `snapshots` lists all there are",
        )?;
    }
    context.line("  strongroom device add --name NAME        let this machine add snapshots")?;
    context.line("  strongroom device revoke NAME            shut out each machine that is gone;")?;
    context
        .line("  strongroom incident --device NAME        or, if it was stolen, see what its thief has")?;
    context.line(
        "  strongroom recovery-kit --out FILE --recovery-code-file CODE   a page to print for the next time",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_codes_are_counted_in_words_that_fit() {
        assert!(older_codes(1).starts_with("1 recovery code or set of cards from before still opens it: "));
        assert!(older_codes(2).starts_with("2 recovery codes or sets of cards from before still open it: "));
    }

    #[test]
    fn a_label_that_is_taken_gets_the_first_free_number() {
        assert_eq!(free_label(&["owner"], CODE_LABEL), "recovery code");
        assert_eq!(free_label(&["recovery code"], CODE_LABEL), "recovery code 2");
        assert_eq!(free_label(&["recovery code 2", "recovery code"], CODE_LABEL), "recovery code 3");
    }
}

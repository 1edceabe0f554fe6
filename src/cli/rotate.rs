//! `strongroom rotate` and `reencrypt`: new keys for all that is added, then for all that is there.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::args::parse_duration;
use crate::cli::context::Context;
use crate::cli::context::clock;
use crate::cli::context::wait_for_others;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::pages;
use crate::cli::render;
use crate::cli::slot::finish;
use crate::cli::status::count;
use crate::cli::trusted::shown;
use crate::id::DeviceId;
use crate::task::reencrypt;
use crate::task::reencrypt::Ended;
use crate::task::reencrypt::Options;
use crate::task::reencrypt::Summary;
use crate::tree::path::printable;
use crate::vault::Vault;

/// How many machines that have not backed up since are named.
const BEHIND_SHOWN: usize = 10;

/// Gives the vault new keys: what is added from here on takes them to read.
///
/// All remaining slots go on opening the vault, and nobody but the caller is asked for anything. Devices
/// take their part up at their next backup. What is in the vault already stays under the older keys until
/// it is re-encrypted.
#[derive(Args)]
pub struct RotateArgs {
    /// Then re-encrypt all that is in the vault
    #[arg(long)]
    reencrypt: bool,

    /// Stop re-encryption after this time, such as 20m, and leave the rest to `reencrypt`; exit code 25 then
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "reencrypt")]
    budget: Option<Duration>,

    /// Where to write the signed statement that nothing is left under older keys, once there is one; a new file
    #[arg(long, value_name = "FILE", requires = "reencrypt")]
    statement: Option<PathBuf>,
}

/// Seals all that is under older keys anew, while backups and restores go on.
///
/// It can be ended at any time and goes on where it was. When nothing is left under older keys, their
/// secrets are removed from the vault.
#[derive(Args)]
pub struct ReencryptArgs {
    /// Stop after this time, such as 20m, and leave the rest to the next run; exit code 25 then
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    budget: Option<Duration>,

    /// Where to write the signed statement that nothing is left under older keys, once there is one; a new file
    #[arg(long, value_name = "FILE")]
    statement: Option<PathBuf>,
}

/// Runs `rotate`.
///
/// # Errors
/// As unlocking; [`Exit::Refused`] if the key is a reader's.
pub fn run(context: &Context, args: &RotateArgs) -> Result<Exit, Failure> {
    check_statement_absent(args.statement.as_deref())?;
    let about = if args.reencrypt { "--reencrypt" } else { "" };
    context.as_owner("rotate", about, |vault| {
        rotate(context, vault)?;
        if args.reencrypt {
            return reencrypt_all(context, vault, args.budget, args.statement.as_deref());
        }
        if !context.output.json {
            context.line(
                "What was in the vault before stays under the older keys until `strongroom reencrypt` is done",
            )?;
        }
        Ok(Exit::Done)
    })
}

/// Starts the next epoch and says what is now true.
///
/// # Errors
/// As [`run`].
pub fn rotate(context: &Context, vault: &mut Vault) -> Result<(), Failure> {
    {
        let _spinner = context.bars().spinner("making new keys");
        vault.change_keys(context.now, &wait_for_others, &|draft| {
            draft.start_epoch();
            Ok(())
        })?;
    }
    finish(context, vault);
    let log = vault.log();
    let epoch = log.keys().newest;
    let devices = log.devices().values().filter(|device| device.revoked.is_none()).count();
    let slots = vault.slots().slots.len();
    if context.output.json {
        return context.json(&json!({
            "message_type": "rotated",
            "schema": 1,
            "epoch": epoch.0,
            "generation": log.keys().generation,
            "slots": slots,
            "devices": devices,
        }));
    }
    context.line(&format!(
        "Epoch {epoch} has begun: new keys for reading, for owners and for the authority, in {}",
        count(slots, "slot")
    ))?;
    context.line(&format!(
        "{} will seal under them from the next backup on; nobody has to do anything",
        count(devices, "device")
    ))
}

/// Runs `reencrypt`.
///
/// # Errors
/// As unlocking; [`Exit::Refused`] if the key is a reader's; [`Exit::Damaged`] if objects can't be opened.
pub fn run_reencrypt(context: &Context, args: &ReencryptArgs) -> Result<Exit, Failure> {
    check_statement_absent(args.statement.as_deref())?;
    context.as_owner("reencrypt", "", |vault| {
        reencrypt_all(context, vault, args.budget, args.statement.as_deref())
    })
}

fn check_statement_absent(file: Option<&Path>) -> Result<(), Failure> {
    file.map_or(Ok(()), pages::check_absent)
}

/// Re-encrypts, and says what is now true.
///
/// # Errors
/// As [`run_reencrypt`].
pub fn reencrypt_all(
    context: &Context,
    vault: &mut Vault,
    budget: Option<Duration>,
    statement: Option<&Path>,
) -> Result<Exit, Failure> {
    let summary = seal_anew(context, vault, budget)?;
    tell(context, vault, summary, statement)
}

/// Re-encrypts, and says nothing.
///
/// # Errors
/// As [`reencrypt::reencrypt`].
pub fn seal_anew(context: &Context, vault: &mut Vault, budget: Option<Duration>) -> Result<Summary, Failure> {
    let until =
        budget.map(|budget| context.now.saturating_add(u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX)));
    let options = Options { until, clock, wait: &wait_for_others };
    let bars = context.watched_bars();
    let summary = reencrypt::reencrypt(vault, &options, &bars);
    drop(bars);
    let summary = summary.map_err(|error| goes_on(error.into()))?;
    context.pin_quietly(&context.machine()?, vault.locked());
    Ok(summary)
}

/// What goes on from here, whichever command this was a part of: `rotate` once more would make other keys.
fn goes_on(failure: Failure) -> Failure {
    const HOW: &str = "`strongroom reencrypt` goes on where this one stopped";
    let hint = match &failure.hint {
        Some(why) if failure.exit != Exit::Interrupted => format!("{why}; then {HOW}"),
        _ => format!("the vault is sound; {HOW}"),
    };
    failure.hint(hint)
}

/// Says what a run of re-encryption did, and writes what can be stated of it, to `file` too.
///
/// # Errors
/// [`Exit::Damaged`] if objects can't be opened.
pub fn tell(
    context: &Context,
    vault: &Vault,
    summary: Summary,
    file: Option<&Path>,
) -> Result<Exit, Failure> {
    let statement = write_statement(context, vault, &summary, file)?;
    if context.output.json {
        context.json(&message(vault, &summary, statement.as_deref()))?;
    }
    let Summary { done, left, kept, behind, ended } = summary;
    let amount = |amount: reencrypt::Amount| {
        let objects = usize::try_from(amount.objects).unwrap_or(usize::MAX);
        format!("{} ({})", count(objects, "object"), render::size(amount.bytes))
    };
    let text = |line: String| if context.output.json { Ok(()) } else { context.line(&line) };
    if done.objects > 0 {
        text(format!("{} sealed anew", amount(done)))?;
    }
    if kept > 0 {
        context.warn(&format!(
            "the store kept {kept} objects that older keys open: remove them where the store is kept, then run \
             `strongroom reencrypt` again"
        ));
    }
    match ended {
        Ended::Complete { dropped: None } => {
            text("There has only ever been one epoch: nothing is under older keys".to_owned())?;
            Ok(Exit::Done)
        }
        Ended::Complete { .. } if kept > 0 => Ok(Exit::RotationIncomplete),
        Ended::Complete { dropped: Some(epoch) } => {
            text(format!(
                "No object that was here is readable with keys of epoch {epoch} or before; copies elsewhere are"
            ))?;
            if !behind.is_empty() {
                context.note(&note_behind(vault, &behind));
            }
            if let Some(path) = statement {
                text(format!(
                    "This is stated and signed in {path}; `strongroom verify --statement` checks it"
                ))?;
            }
            Ok(Exit::Done)
        }
        Ended::OutOfTime => {
            text(format!("{} still under older keys: run `strongroom reencrypt` again", amount(left)))?;
            Ok(Exit::RotationIncomplete)
        }
        Ended::Hindered(problems) => {
            let first = problems.first().map(Failure::from);
            let history = first.clone().filter(|first| first.exit == Exit::History);
            for problem in problems.iter().skip(usize::from(history.is_some())) {
                context.warn(&problem.to_string());
            }
            if let Some(history) = history {
                return Err(history);
            }
            let failure = Failure::new(
                first.map_or(Exit::Failed, |first| first.exit),
                format!("{} can't be sealed anew, so the older keys are still needed", amount(left)),
            );
            Err(failure.hint("`strongroom verify --read-all` lists what is damaged and which files it costs"))
        }
    }
}

fn note_behind(vault: &Vault, behind: &[DeviceId]) -> String {
    let name = |device: &DeviceId| match vault.device_name(*device) {
        Some(name) if !name.is_empty() => one_line(name),
        _ => device.short(),
    };
    let mut names: Vec<String> = behind.iter().take(BEHIND_SHOWN).map(name).collect();
    if behind.len() > BEHIND_SHOWN {
        names.push(format!("{} more", behind.len() - BEHIND_SHOWN));
    }
    format!(
        "note: {} not backed up since the keys changed ({}): a backup that was under way then may still add objects \
         under older keys, so nothing is stated and signed yet. Run `strongroom reencrypt` again after the next \
         one; shut out what makes none any more: `strongroom device revoke`",
        if behind.len() == 1 { "1 device has".to_owned() } else { format!("{} devices have", behind.len()) },
        names.join(", ")
    )
}

/// Keeps a signed statement in `file`, or else beside what this machine remembers of the vault, if there is something
/// to state and
/// no device can be about to make it untrue. A machine that can't keep it loses nothing: the next run states it
/// anew.
fn write_statement(
    context: &Context,
    vault: &Vault,
    summary: &Summary,
    file: Option<&Path>,
) -> Result<Option<String>, Failure> {
    let (Ended::Complete { dropped: Some(epoch) }, 0, true) =
        (&summary.ended, summary.kept, summary.behind.is_empty())
    else {
        return Ok(None);
    };
    let text = vault.state_older_keys_gone(context.now)?;
    if let Some(file) = file {
        pages::write_new(file, text.as_bytes())?;
        return Ok(Some(shown(file)));
    }
    let state = context.machine()?.vault_state(&vault.log().fingerprint());
    let name = format!("statement-epoch-{epoch}.txt");
    match state.replace(&name, text.as_bytes()) {
        Ok(()) => Ok(Some(printable(state.path().join(name).as_os_str().as_bytes()))),
        Err(error) => {
            context.warn(&format!("the statement could not be kept: {error}"));
            Ok(None)
        }
    }
}

fn message(vault: &Vault, summary: &Summary, statement: Option<&str>) -> serde_json::Value {
    let keys = vault.log().keys();
    json!({
        "message_type": "reencrypted",
        "schema": 1,
        "complete": matches!(summary.ended, Ended::Complete { .. }) && summary.kept == 0,
        "objects": summary.done.objects,
        "bytes": summary.done.bytes,
        "objects_left": summary.left.objects,
        "bytes_left": summary.left.bytes,
        "objects_kept_by_store": summary.kept,
        "devices_behind": summary.behind.len(),
        "oldest_epoch": keys.oldest.0,
        "newest_epoch": keys.newest.0,
        "statement": statement,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::error::Error;

    #[test]
    fn what_was_cut_off_goes_on_without_other_keys() {
        let interrupted = goes_on(Error::Interrupted.into());
        let hint = "the vault is sound; `strongroom reencrypt` goes on where this one stopped";
        assert_eq!((interrupted.exit, interrupted.hint.as_deref()), (Exit::Interrupted, Some(hint)));
        let full = goes_on(Failure::new(Exit::Failed, "the disk is full").hint("make room"));
        let hint = "make room; then `strongroom reencrypt` goes on where this one stopped";
        assert_eq!(full.hint.as_deref(), Some(hint));
    }
}

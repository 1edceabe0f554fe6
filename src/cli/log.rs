//! `strongroom log`: who did what with which way in.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::args::parse_duration;
use crate::cli::args::parse_time;
use crate::cli::context::Context;
use crate::cli::context::ENDED;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::render;
use crate::id::SlotId;
use crate::tree::path::printable;
use crate::vault::Vault;
use crate::vault::acts::Act;
use crate::vault::acts::ActHead;
use crate::vault::acts::Deed;
use crate::vault::acts::Done;
use crate::vault::error::Error;
use crate::vault::slot::Role;

/// The commands that a reader is refused, as they stand in the log.
const OWNERS_COMMANDS: [&str; 11] = [
    "slot add",
    "slot remove",
    "slot passwd",
    "device approve",
    "device add",
    "device revoke",
    "device reseed",
    "rotate",
    "reencrypt",
    "incident",
    "log",
];

/// Lists who did what with which way in, oldest first; takes an owner's key.
///
/// Each command that opens the vault to read or to change it has an entry, signed with the slot that opened
/// it, if the vault could be written then. Who has a key and a copy of the files can read them elsewhere and
/// leaves no entry. If entries are gone, the newest ones too, this machine notices as far as it has seen them.
#[derive(Args)]
pub struct LogArgs {
    /// Only what was done with this slot, present or former: its name, or the first digits of its id
    #[arg(long, value_name = "LABEL")]
    slot: Option<String>,

    /// Only what was done from this time on, such as 2026-11-24, or no longer ago than this, such as 2d
    #[arg(long, value_name = "TIME|DURATION", value_parser = parse_since)]
    since: Option<Since>,
}

/// From when on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Since {
    /// In nanoseconds since 1970 UTC.
    Time(u64),
    /// So long ago.
    Ago(Duration),
}

/// Runs the command.
///
/// # Errors
/// As unlocking; [`Exit::Refused`] if the key is a reader's. [`Exit::Damaged`] or [`Exit::History`] at the
/// end if entries are damaged or missing.
pub fn run(context: &Context, args: &LogArgs) -> Result<Exit, Failure> {
    let vault = context.unlock("log", args.slot.as_deref().unwrap_or_default())?;
    let slots = args.slot.as_deref().map(|wanted| find(&vault, wanted)).transpose()?;
    let mut acts = vault.acts()?;
    let pins = context.machine()?.pins(&vault.log().fingerprint())?;
    let gone = vault.locked().acts_gone(pins.iter().flat_map(|pins| &pins.acts))?;
    acts.problems.extend(gone.iter().map(ActHead::is_gone));
    context.see_acts(vault.locked(), &acts.heads);
    let since = match args.since {
        None => 0,
        Some(Since::Time(time)) => time,
        Some(Since::Ago(ago)) => {
            context.now.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX))
        }
    };
    let is_wanted =
        |done: &Done| done.time >= since && slots.as_ref().is_none_or(|slots| slots.contains(&done.slot));
    let chosen: Vec<(&Done, Option<u8>)> =
        with_ends(&acts.done).into_iter().filter(|(done, _)| is_wanted(done)).collect();
    if context.output.json {
        for (done, ended_with) in &chosen {
            context.json(&as_json(&vault, done, *ended_with))?;
        }
    } else if chosen.is_empty() {
        context.note("no entry fits");
    } else {
        let mut table = render::Table::new(&["Time", "Slot", "Role", "Host", "What"]);
        for (done, ended_with) in &chosen {
            let host = printable(done.act.host.as_bytes());
            let role = role(&vault, done.slot);
            let refused = if is_refused(role, &done.act.command) { " (refused)" } else { "" };
            let retired = if done.is_by_retired_key { " (signed by a key that was retired)" } else { "" };
            let ended = ended_with.map_or_else(String::new, |code| format!(" (ended with exit code {code})"));
            let what = format!("{}{refused}{ended}{retired}", words(done));
            let role = role.map_or("", Role::word).to_owned();
            table.row(vec![render::local_time(done.time), label(&vault, done.slot), role, host, what]);
        }
        context.bytes(table.finish().as_bytes())?;
    }
    for problem in &acts.problems {
        context.warn(&problem.to_string());
    }
    Ok(acts.problems.into_iter().next().map_or(Exit::Done, |first| Failure::from(first).exit))
}

/// The slots that a person means, former ones too: one that got another secret is two of one name.
fn find(vault: &Vault, wanted: &str) -> Result<Vec<SlotId>, Error> {
    let admin = vault.admin()?;
    let present = admin.slots.iter().map(|slot| (slot.id, &slot.label));
    let all: Vec<_> = present.chain(admin.former.iter().map(|slot| (slot.id, &slot.label))).collect();
    let ids = |is_it: &dyn Fn(&SlotId, &str) -> bool| -> Vec<SlotId> {
        all.iter().filter(|(id, label)| is_it(id, label)).map(|(id, _)| *id).collect()
    };
    let named = ids(&|_, label| label == wanted);
    let mut by_id = ids(&|id, _| wanted.len() >= 4 && id.to_string().starts_with(wanted));
    // A slot is there once more for each log key that it had.
    by_id.sort_unstable();
    by_id.dedup();
    match (named.is_empty(), by_id.len()) {
        (false, _) => Ok(named),
        (true, 1) => Ok(by_id),
        _ => Err(Error::NoSuchLabel { label: one_line(wanted) }),
    }
}

fn label(vault: &Vault, slot: SlotId) -> String {
    vault.slot_label(slot).map_or_else(|| slot.short(), |label| printable(label.as_bytes()))
}

/// What the holder of a slot may do; nothing if it is gone, as that is not kept.
fn role(vault: &Vault, slot: SlotId) -> Option<Role> {
    vault.slots().slots.iter().find(|each| each.id == slot).map(|each| each.role)
}

/// Whether a command was refused for the role of its slot. An owner's command that fails says so itself, unless
/// it is killed: an entry is put before the command is begun.
fn is_refused(role: Option<Role>, command: &str) -> bool {
    role == Some(Role::Reader) && OWNERS_COMMANDS.contains(&command)
}

/// All acts, each with the exit code that a later entry of its slot says it ended with. That entry is told as a
/// part of it; one that names nothing that is there stands for itself.
fn with_ends(done: &[Done]) -> Vec<(&Done, Option<u8>)> {
    let mut all: Vec<(&Done, Option<u8>)> = Vec::with_capacity(done.len());
    for each in done {
        let begun = end_of(each).and_then(|(code, what)| {
            let is_it = |(before, ended): &&mut (&Done, Option<u8>)| {
                ended.is_none()
                    && (before.slot, &before.act.host) == (each.slot, &each.act.host)
                    && given(&before.act).as_deref() == Some(what)
            };
            all.iter_mut().rev().find(is_it).map(|found| (found, code))
        });
        match begun {
            Some((found, code)) => found.1 = Some(code),
            None => all.push((each, None)),
        }
    }
    all
}

/// The exit code and the command of an entry that says how a command failed.
fn end_of(done: &Done) -> Option<(u8, &str)> {
    let Deed::Given(about) = &done.act.deed else { return None };
    let (code, what) = about.split_once(' ')?;
    Some((code.parse().ok()?, what)).filter(|_| done.act.command == ENDED)
}

/// A command and what it was given, as the entry of its end repeats it.
fn given(act: &Act) -> Option<String> {
    let Deed::Given(about) = &act.deed else { return None };
    Some(format!("{} {about}", act.command).trim_end().to_owned())
}

/// What was done, safe to print.
#[must_use]
pub fn words(done: &Done) -> String {
    let command = printable(done.act.command.as_bytes());
    match &done.act.deed {
        Deed::Given(about) if about.is_empty() => command,
        Deed::Given(about) => format!("{command} {}", printable(about.as_bytes())),
        Deed::Reads { snapshots, .. } if snapshots.is_empty() => format!("{command} (no such snapshot)"),
        Deed::Reads { snapshots, path } => {
            let snapshots: Vec<String> = snapshots.iter().map(|id| id.short()).collect();
            format!("{command} {} /{}", snapshots.join(" "), printable(path))
        }
        Deed::Newer(_) => format!("{command} (something that a newer strongroom did)"),
    }
}

fn as_json(vault: &Vault, done: &Done, ended_with: Option<u8>) -> serde_json::Value {
    let mut message = json!({
        "message_type": "act",
        "schema": 1,
        "time": render::rfc3339(done.time),
        "slot": done.slot.to_string(),
        "label": vault.slot_label(done.slot),
        "role": role(vault, done.slot).map(Role::word),
        "refused": is_refused(role(vault, done.slot), &done.act.command),
        "ended_with": ended_with,
        "seq": done.seq,
        "hostname": done.act.host,
        "command": done.act.command,
        "retired_key": done.is_by_retired_key,
    });
    let Some(fields) = message.as_object_mut() else { return message };
    match &done.act.deed {
        Deed::Given(about) => {
            fields.insert("about".to_owned(), json!(about));
        }
        Deed::Reads { snapshots, path } => {
            let ids: Vec<String> = snapshots.iter().map(ToString::to_string).collect();
            fields.insert("snapshots".to_owned(), json!(ids));
            render::put_path(fields, "path", &[b"/", &path[..]].concat());
        }
        Deed::Newer(ty) => {
            fields.insert("newer_type".to_owned(), json!(ty));
        }
    }
    message
}

fn parse_since(text: &str) -> Result<Since, String> {
    let time = parse_time(text).map(Since::Time);
    time.or_else(|_| parse_duration(text).map(Since::Ago)).map_err(|_| {
        format!(
            "{text:?} is neither a time nor a duration: write 2026-11-23, \"2026-11-23 10:00\", 26h or 2d"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_time_or_how_long_ago() {
        assert_eq!(parse_since("2d"), Ok(Since::Ago(Duration::from_secs(172_800))));
        assert_eq!(parse_since("2026-11-23T10:00:00Z"), Ok(Since::Time(1_795_428_000_000_000_000)));
        for text in ["", "yesterday", "5", "-1d"] {
            assert!(parse_since(text).is_err(), "{text}");
        }
    }
}

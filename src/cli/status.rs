//! `strongroom status`: how old the newest snapshots are, without any key.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::args::parse_duration;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::crypto::text;
use crate::id::DeviceId;
use crate::observe::Silent;
use crate::task::reencrypt;
use crate::vault::LockedVault;
use crate::vault::error::Error;
use crate::vault::slot::Lock;
use crate::vault::witness::Whole;

/// Shows how old each device's newest snapshot is; takes no key.
#[derive(Args)]
pub struct StatusArgs {
    /// End with exit code 22 if a device's newest snapshot is older than this, such as 26h or 2d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_age: Option<Duration>,

    /// Look at these devices only; the first digits of their ids are enough
    #[arg(long, value_name = "ID")]
    device: Vec<String>,
}

/// What is known of one device without a key.
struct DeviceState {
    device: DeviceId,
    is_own: bool,
    is_revoked: bool,
    snapshots: usize,
    /// When the newest was made, by the device's clock.
    newest: Option<u64>,
    /// Up to which place its chain can be read.
    whole: u64,
    /// Why it can't be read further.
    problem: Option<Error>,
}

impl DeviceState {
    fn age(&self, now: u64) -> Option<Duration> {
        self.newest.map(|newest| Duration::from_nanos(now.saturating_sub(newest)))
    }

    fn is_stale(&self, now: u64, max_age: Option<Duration>) -> bool {
        let Some(max_age) = max_age else { return false };
        !self.is_revoked && self.age(now).is_none_or(|age| age > max_age)
    }
}

/// Runs the command.
///
/// # Errors
/// What opening the vault says, and [`Exit::Failed`] for a `--device` that the vault doesn't have.
pub fn run(context: &Context, args: &StatusArgs) -> Result<Exit, Failure> {
    let (locked, pins) = context.locked()?;
    let machine = context.machine()?;
    let fingerprint = locked.log().fingerprint();
    let own = machine.device(&fingerprint)?;
    let mut devices = Vec::new();
    for (device, known) in locked.log().devices() {
        let wanted = args.device.is_empty()
            || args.device.iter().any(|prefix| device.to_string().starts_with(prefix.as_str()));
        if !wanted {
            continue;
        }
        let Whole { history, hindrance, .. } = locked.whole_history(*device)?;
        let kept =
            history.snapshots().iter().filter(|each| !locked.log().is_forgotten(*device, each.header.seq));
        devices.push(DeviceState {
            device: *device,
            is_own: own == Some(*device),
            is_revoked: known.revoked.is_some(),
            snapshots: kept.count(),
            newest: history.snapshots().last().map(|snapshot| snapshot.header.time),
            whole: history.head().map_or(0, |head| head.seq),
            problem: hindrance,
        });
    }
    if devices.is_empty() && !args.device.is_empty() {
        return Err(Failure::new(Exit::Failed, "the vault has no such device")
            .hint("`strongroom status` without --device lists all of them"));
    }
    // A vault that nobody has said to be the right one is not taken for it because its age was asked.
    if pins.is_some() || context.vault.fingerprint.is_some() {
        context.pin_quietly(&machine, &locked);
    }
    let is_sealed_file = locked.store().is_sealed_file();
    let keys = locked.log().keys();
    let older = if keys.oldest < keys.newest { Some(reencrypt::survey(&locked, &Silent)?) } else { None };
    let slots = slots(&locked)?;
    let has_code = slots.keys().any(|kind| *kind == "recovery code" || *kind == "cards");
    let stale: Vec<&DeviceState> =
        devices.iter().filter(|device| device.is_stale(context.now, args.max_age)).collect();
    let no_device = args.max_age.is_some() && devices.iter().all(|device| device.is_revoked);

    if context.output.json {
        let devices: Vec<_> = devices
            .iter()
            .map(|device| {
                json!({
                    "device": device.device.to_string(),
                    "this_machine": device.is_own,
                    "revoked": device.is_revoked,
                    "snapshots": device.snapshots,
                    "newest": device.newest.map(crate::cli::render::rfc3339),
                    "age_seconds": device.age(context.now).map(|age| age.as_secs()),
                    "stale": device.is_stale(context.now, args.max_age),
                    "problem": device.problem.as_ref().map(ToString::to_string),
                })
            })
            .collect();
        context.json(&json!({
            "message_type": "vault_status",
            "schema": 1,
            "vault": locked.store().place(),
            "fingerprint": text::fingerprint_base32(&fingerprint),
            "seen_before": pins.is_some(),
            "devices": devices,
            "slots": slots,
            "recovery_code": has_code,
            "oldest_epoch": keys.oldest.0,
            "newest_epoch": keys.newest.0,
            "under_older_epochs": older.as_ref().map(|older| json!({
                "objects": older.left.objects,
                "bytes": older.left.bytes,
                "of_objects": older.all.objects,
                "of_bytes": older.all.bytes,
            })),
            "stale": !stale.is_empty() || no_device,
        }))?;
    } else {
        let what = if is_sealed_file { "sealed file" } else { "vault" };
        context.line(&format!("{what:<11}  {}", crate::cli::failure::one_line(&locked.store().place())))?;
        context.line(&format!("fingerprint  {}", text::fingerprint_words(&fingerprint)))?;
        context.line(&format!("             {}", text::fingerprint_base32(&fingerprint)))?;
        let list: Vec<String> = slots.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        context.line(&format!("ways in      {}", list.join(", ")))?;
        for device in &devices {
            context.line(&device_line(device, context.now, args.max_age))?;
        }
        if devices.is_empty() {
            context.line("device       none")?;
        }
        if let Some(older) = &older {
            context.line(&format!(
                "epoch        {}; {} of {} still under older keys, {} of {}: `strongroom reencrypt` goes on with it",
                keys.newest,
                crate::cli::render::count(older.left.objects),
                count(usize::try_from(older.all.objects).unwrap_or(usize::MAX), "object"),
                crate::cli::render::size(older.left.bytes),
                crate::cli::render::size(older.all.bytes),
            ))?;
        }
    }
    // Another file under the same name is another file, and nobody is told to know it.
    if pins.is_none() && !is_sealed_file {
        context.note(
            "this machine has not seen this vault before: compare the fingerprint with the one you noted",
        );
    }
    if !has_code && !is_sealed_file {
        context
            .warn("this vault has no recovery code: whoever loses all other ways in loses everything in it");
    }
    if let Some(problem) = devices.iter().find_map(|device| device.problem.as_ref()) {
        return Err(problem.into());
    }
    if stale.is_empty() && !no_device {
        return Ok(Exit::Done);
    }
    let what = match stale.as_slice() {
        [] => "no device adds snapshots to this vault".to_owned(),
        [device] => format!("the newest snapshot of device {} is too old", device.device.short()),
        several => format!("the newest snapshots of {} devices are too old", several.len()),
    };
    Err(Failure::new(Exit::Stale, what)
        .hint("see why the last backups did not run: `strongroom backup` says it"))
}

fn device_line(device: &DeviceState, now: u64, max_age: Option<Duration>) -> String {
    let mut line = format!("device       {}", device.device.short());
    if device.is_own {
        line.push_str(" (this machine)");
    }
    if device.is_revoked {
        line.push_str(" (revoked)");
    }
    match (device.newest, device.age(now)) {
        (Some(newest), Some(age)) => line.push_str(&format!(
            ": {}, the newest of {}, {} ago",
            count(device.snapshots, "snapshot"),
            crate::cli::render::local_time(newest),
            in_words(age)
        )),
        _ => line.push_str(": no snapshot yet"),
    }
    if device.is_stale(now, max_age) {
        line.push_str(", too old");
    }
    match &device.problem {
        None => {}
        Some(Error::ForkedChain { seq, .. }) => line.push_str(&format!(", forked at number {seq}")),
        Some(_) => line.push_str(&format!(", unreadable after number {}", device.whole)),
    }
    line
}

/// `1 snapshot`, `2 snapshots`.
#[must_use]
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// A span of time in its largest unit that has at least two of them.
#[must_use]
pub fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

/// How many slots of each kind the vault has, as anybody who holds it can see.
fn slots(locked: &LockedVault) -> Result<BTreeMap<&'static str, usize>, Failure> {
    let (table, _) = locked.slot_table()?;
    let mut kinds = BTreeMap::new();
    for slot in &table.slots {
        *kinds.entry(Lock::word(&slot.lock)).or_default() += 1;
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_a_unit_that_says_enough() {
        let table = [
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7_200, "2 hours"),
            (200_000, "2 days"),
        ];
        for (seconds, words) in table {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}

//! `strongroom device`: the machines that may add snapshots.

use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use serde_json::json;

use crate::cli::args::parse_receipt;
use crate::cli::context::Context;
use crate::cli::context::wait_for_others;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::init::host_name;
use crate::cli::new_way::check_label;
use crate::cli::powers::Powers;
use crate::cli::render;
use crate::cli::slot::finish;
use crate::cli::snapshots;
use crate::cli::status::count;
use crate::cli::status::in_words;
use crate::cli::terminal;
use crate::id::DeviceId;
use crate::store::state::StateDir;
use crate::task::browse::Broken;
use crate::task::error as task;
use crate::task::reseed;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::change::withdraw;
use crate::vault::device;
use crate::vault::device::DeviceKeys;
use crate::vault::error::Error;
use crate::vault::join;
use crate::vault::join::Request;
use crate::vault::join::RequestCode;
use crate::vault::receipt::Receipt;
use crate::vault::record::Head;
use crate::vault::witness::Whole;

/// Takes machines into the vault, lists them and shuts them out.
#[derive(Args)]
pub struct DeviceArgs {
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(Subcommand)]
enum DeviceCommand {
    /// On a new machine: asks to be taken in, and shows a code for an owner to compare
    Request(RequestArgs),
    /// Takes a machine in that asked; takes an owner's key
    Approve(ApproveArgs),
    /// Takes this machine in at once; takes an owner's key
    Add(AddArgs),
    /// Lists all machines with their newest snapshots
    List,
    /// Shuts a machine out: what it adds from here on counts nowhere; takes an owner's key
    Revoke(RevokeArgs),
    /// Gives a machine its memory back, if it lost it or was set back to an older state; takes an owner's key
    Reseed(ReseedArgs),
}

#[derive(Args)]
struct RequestArgs {
    /// What this machine is to be called; it is told to the owner and is not put into the vault in the clear
    /// [default: its host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// A receipt that a backup printed: the vault must hold that state or a later one
    #[arg(long, value_name = "RECEIPT", value_parser = parse_receipt)]
    expect: Vec<Receipt>,
}

#[derive(Args)]
struct ApproveArgs {
    /// The code that the machine shows; without it all requests are listed
    code: Option<String>,

    /// What the machine will be called; only owners see it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Args)]
struct AddArgs {
    /// What this machine will be called; only owners see it [default: its host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Args)]
struct RevokeArgs {
    /// The machine's name, or the first digits of its id
    device: String,

    /// The last of its snapshots that counts, by its place in the machine's chain; 0 for none
    /// [default: the newest in the vault]
    #[arg(long, value_name = "NUMBER")]
    last: Option<u64>,
}

#[derive(Args)]
struct ReseedArgs {
    /// The machine's name, or the first digits of its id
    device: String,
}

/// Runs the command.
///
/// # Errors
/// As unlocking; [`Exit::Refused`] if the key is a reader's.
pub fn run(context: &Context, args: &DeviceArgs) -> Result<Exit, Failure> {
    match &args.command {
        DeviceCommand::Request(args) => request(context, args),
        DeviceCommand::Approve(args) => approve(context, args),
        DeviceCommand::Add(args) => add(context, args),
        DeviceCommand::List => list(context),
        DeviceCommand::Revoke(args) => revoke(context, args),
        DeviceCommand::Reseed(args) => reseed(context, args),
    }
}

/// This machine's keys for the vault, made now if it has none; refuses a machine that is a device already.
fn own_keys(context: &Context, locked: &LockedVault) -> Result<DeviceKeys, Failure> {
    let fingerprint = locked.log().fingerprint();
    let state = context.machine()?.vault_state(&fingerprint);
    if let Some(keys) = DeviceKeys::load(&fingerprint, &state)? {
        if let Some(known) = locked.log().devices().get(&keys.device) {
            let device = keys.device;
            return Err(if known.revoked.is_some() {
                Failure::from(Error::Revoked { device })
                    .hint(format!("to enrol it anew, move {} away first", state.path().display()))
            } else {
                Error::DeviceExists { device }.into()
            });
        }
        pin(&keys, locked, &state)?;
        return Ok(keys);
    }
    let keys = DeviceKeys::generate();
    keys.save(&fingerprint, &state)?;
    pin(&keys, locked, &state)?;
    Ok(keys)
}

/// From here on the device follows this log: who forks it before the device's first backup, knowing an
/// older authority's key, is noticed.
fn pin(keys: &DeviceKeys, locked: &LockedVault, state: &StateDir) -> Result<(), Error> {
    match device::device_pins(&locked.log().fingerprint(), state)? {
        Some(pins) => pins.check_log(locked.log()),
        None => device::pin(keys, locked.log(), state),
    }
}

/// Holds a vault that this machine sees for the first time against what another one has seen of it, before
/// anything of it is believed.
fn check_receipts(locked: &LockedVault, receipts: &[Receipt]) -> Result<(), Failure> {
    let vault = locked.log().fingerprint().vault_id();
    for receipt in receipts {
        if receipt.vault != vault {
            return Err(Failure::new(Exit::History, "the receipt was given by another vault").hint(
                "look whether `--vault` names the right place, and whether the receipt is this vault's",
            ));
        }
        receipt.check(locked)?;
    }
    Ok(())
}

fn request(context: &Context, args: &RequestArgs) -> Result<Exit, Failure> {
    let name = args.name.clone().unwrap_or_else(host_name);
    check_label(&name)?;
    let (locked, pins) = context.locked()?;
    check_receipts(&locked, &args.expect)?;
    context.confirm_vault(&locked, pins.is_some())?;
    let keys = own_keys(context, &locked)?;
    let fingerprint = locked.log().fingerprint();
    let code = Request::put(&fingerprint, &keys, locked.store())?;
    let machine = context.machine()?;
    context.pin_quietly(&machine, &locked);
    machine.remember(&locked.store().place(), &fingerprint)?;
    let powers = Powers::tried(&keys, &fingerprint, locked.store());
    if context.output.json {
        context.json(&json!({
            "message_type": "device_request",
            "schema": 1,
            "device": keys.device.to_string(),
            "code": code.to_string(),
            "can_remove": powers.all().remove,
            "can_overwrite": powers.all().overwrite,
        }))?;
        return Ok(Exit::Done);
    }
    context.line(&format!("device  {}", keys.device.short()))?;
    context.line(&format!("code    {code}"))?;
    context.line("")?;
    context.line("An owner takes this machine in, wherever the vault can be reached, by")?;
    context.line(&format!("    strongroom device approve {code} --name {}", quoted(&name)))?;
    context.line("after which `strongroom backup PATH` works here.")?;
    powers.tell(context);
    Ok(Exit::Done)
}

fn approve(context: &Context, args: &ApproveArgs) -> Result<Exit, Failure> {
    let about = args.code.as_deref().unwrap_or_default();
    context.as_owner("device approve", about, |vault| approve_in(context, args, vault))
}

fn approve_in(context: &Context, args: &ApproveArgs, vault: &mut Vault) -> Result<Exit, Failure> {
    let waiting = join::requests(vault.store(), &vault.log().fingerprint())?;
    let text = match &args.code {
        Some(text) => text.clone(),
        None => {
            show_requests(context, vault, &waiting)?;
            if waiting.is_empty() || context.output.json {
                return Ok(Exit::Done);
            }
            if !terminal::is_there() {
                context.note(
                    "compare with what the machine shows, and give its code: `device approve CODE --name NAME`",
                );
                return Ok(Exit::Done);
            }
            terminal::ask_line("Type the code that the machine shows: ")?
        }
    };
    let code = RequestCode::parse(&text)
        .ok_or_else(|| Failure::usage("that is no code: it has 16 letters and digits"))?;
    let found = waiting.iter().find_map(|each| match &each.request {
        Ok((request, of)) if *of == code => Some((request, &each.name)),
        _ => None,
    });
    let (request, object) = found.ok_or_else(|| no_such_request(&waiting))?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None if terminal::is_there() => terminal::ask_line("What is the machine called? ")?,
        None => return Err(Failure::usage("the machine has no name yet").hint("give it with `--name NAME`")),
    };
    check_label(&name)?;
    vault.add_device(request, &name, context.now, &wait_for_others)?;
    // It has done its work; left behind it would be no more than a line in a list.
    let _ = withdraw(vault.store(), object);
    finish(context, vault);
    joined(
        context,
        request.device,
        &name,
        None,
        "It finds its keys in the vault at its next `strongroom backup PATH`.",
    )
}

/// Why no request has a code. One that is damaged may be the one that is meant.
fn no_such_request(waiting: &[join::Waiting]) -> Failure {
    let damaged = waiting.iter().filter_map(|each| each.request.as_ref().err()).map(Failure::from);
    match damaged.into_iter().find(|failure| failure.exit == Exit::Damaged) {
        None => Error::NoSuchRequest.into(),
        Some(Failure { message, .. }) => {
            let what = format!("no request that can be read has that code, and one can't be: {message}");
            Failure::new(Exit::Damaged, what).hint(
                "run `strongroom device request` on that machine once more: it puts its request there anew",
            )
        }
    }
}

fn show_requests(context: &Context, vault: &Vault, waiting: &[join::Waiting]) -> Result<(), Failure> {
    for each in waiting {
        match &each.request {
            Ok((request, code)) if context.output.json => context.json(&json!({
                "message_type": "device_request",
                "schema": 1,
                "device": request.device.to_string(),
                "code": code.to_string(),
                "is_device": vault.log().devices().contains_key(&request.device),
            }))?,
            // Its code is for comparing with what the machine shows: read off here it would compare nothing.
            Ok((request, _)) => {
                let known = vault.log().devices().contains_key(&request.device);
                let mark = if known { ", and is a device already" } else { "" };
                context.line(&format!("{}  asks to be taken in{mark}", request.device.short()))?;
            }
            Err(error) => context.warn(&error.to_string()),
        }
    }
    if waiting.is_empty() {
        context.note("no machine asks to be taken in: run `strongroom device request` there");
    }
    Ok(())
}

fn add(context: &Context, args: &AddArgs) -> Result<Exit, Failure> {
    let name = args.name.clone().unwrap_or_else(host_name);
    check_label(&name)?;
    context.as_owner("device add", &name, |vault| add_to(context, &name, vault))
}

fn add_to(context: &Context, name: &str, vault: &mut Vault) -> Result<Exit, Failure> {
    let keys = own_keys(context, vault.locked())?;
    let fingerprint = vault.log().fingerprint();
    let request = Request::new(fingerprint.vault_id(), &keys);
    // A request stands for a moment, to see what the storage lets this machine do.
    let powers = match Request::put(&fingerprint, &keys, vault.store()) {
        Ok(_) => Powers::tried(&keys, &fingerprint, vault.store()),
        Err(_) => Powers::over(vault.store()),
    };
    vault.add_device(&request, name, context.now, &wait_for_others)?;
    for waiting in join::requests(vault.store(), &fingerprint)? {
        if matches!(&waiting.request, Ok((of, _)) if of.device == keys.device) {
            let _ = withdraw(vault.store(), &waiting.name);
        }
    }
    finish(context, vault);
    powers.tell(context);
    context.machine()?.remember(&vault.store().place(), &fingerprint)?;
    joined(
        context,
        keys.device,
        name,
        Some(powers),
        "This machine can now add snapshots, and can't read them: strongroom backup PATH",
    )
}

/// Says that a machine is in; `powers` are what it can do to the storage, if it is this one.
fn joined(
    context: &Context,
    device: DeviceId,
    name: &str,
    powers: Option<Powers>,
    what: &str,
) -> Result<Exit, Failure> {
    if context.output.json {
        context.json(&json!({
            "message_type": "device_added",
            "schema": 1,
            "device": device.to_string(),
            "name": name,
            "can_remove": powers.map(|powers| powers.all().remove),
            "can_overwrite": powers.map(|powers| powers.all().overwrite),
        }))?;
    } else {
        context.line(&format!("device  {} ({})", one_line(name), device.short()))?;
        context.line(what)?;
    }
    Ok(Exit::Done)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let vault = context.unlock("device list", "")?;
    let own = context.machine()?.device(&vault.log().fingerprint())?;
    let mut exit = Exit::Done;
    for (device, known) in vault.log().devices() {
        let name = vault.device_name(*device);
        let (history, from, error) = match vault.locked().whole_history(*device) {
            Ok(Whole { history, hindrance, .. }) => {
                let from = history.head().map_or(0, |head| head.seq) + 1;
                (Some(history), from, hindrance)
            }
            Err(error) => (None, 1, Some(error)),
        };
        let problem = error.as_ref().map(ToString::to_string);
        if let Some(error) = error {
            let broken = Broken { device: *device, from, error };
            snapshots::warn_of_chain(context, &vault, &broken);
            exit = Failure::from(broken.error).exit;
        }
        let Some(history) = history else { continue };
        let newest = history.snapshots().last();
        let receipt = newest.map(|snapshot| {
            let head = Head { device: *device, seq: snapshot.header.seq, digest: snapshot.digest };
            Receipt::new(vault.log().fingerprint().vault_id(), vault.log().head(), &head).to_string()
        });
        if context.output.json {
            context.json(&json!({
                "message_type": "device",
                "schema": 1,
                "device": device.to_string(),
                "name": name,
                "this_machine": own == Some(*device),
                "added": render::rfc3339(known.added),
                "revoked": known.revoked.is_some(),
                "snapshots": history.snapshots().len(),
                "newest": newest.map(|snapshot| render::rfc3339(snapshot.header.time)),
                "epoch": newest.map(|snapshot| snapshot.header.epoch.0),
                "receipt": receipt,
                "ignored": history.ignored(),
                "problem": problem,
            }))?;
            continue;
        }
        let mut line = format!("{}  {}", device.short(), name.map_or_else(String::new, one_line));
        if own == Some(*device) {
            line.push_str(" (this machine)");
        }
        if known.revoked.is_some() {
            line.push_str(" (revoked)");
        }
        match newest {
            None if history.ignored() > 0 => line.push_str(": none of its snapshots counts"),
            None => line.push_str(": no snapshot yet"),
            Some(snapshot) => {
                let age = Duration::from_nanos(context.now.saturating_sub(snapshot.header.time));
                line.push_str(&format!(
                    ": snapshot {} of {}, {} ago, epoch {}",
                    snapshot.header.seq,
                    render::local_time(snapshot.header.time),
                    in_words(age),
                    snapshot.header.epoch
                ));
            }
        }
        context.line(&line)?;
        if let Some(receipt) = receipt {
            context.line(&format!("          {receipt}"))?;
        }
        if newest.is_some() && history.ignored() > 0 {
            let count = if history.ignored() == 1 { "doesn't count" } else { "don't count" };
            context.line(&format!("          {} of its snapshots {count}", history.ignored()))?;
        }
    }
    Ok(exit)
}

/// A device as a person can mean it.
struct Known {
    device: DeviceId,
    name: String,
    is_revoked: bool,
}

/// The device that a person means: its name, or the first digits of its id.
///
/// The name of a machine that was shut out is free for another one, and the old one keeps it for showing: so
/// a name means the machine that isn't shut out.
///
/// # Errors
/// [`Exit::Failed`] if none fits, or several do: then their ids are listed; [`Exit::Refused`] if the key is a
/// reader's.
pub fn find(vault: &Vault, wanted: &str) -> Result<(DeviceId, String), Failure> {
    vault.admin()?;
    let devices = vault.log().devices().iter();
    let known: Vec<Known> = devices
        .map(|(device, known)| Known {
            device: *device,
            name: vault.device_name(*device).unwrap_or_default().to_owned(),
            is_revoked: known.revoked.is_some(),
        })
        .collect();
    match &meant(&known, wanted)[..] {
        [only] => Ok((only.device, only.name.clone())),
        [] => Err(Error::NoSuchLabel { label: one_line(wanted) }.into()),
        several => Err(ambiguous(several, wanted)),
    }
}

/// All that `wanted` can mean: an id, else a name, else the beginning of an id.
fn meant<'a>(known: &'a [Known], wanted: &str) -> Vec<&'a Known> {
    let which = |is_it: &dyn Fn(&Known) -> bool| known.iter().filter(|each| is_it(each)).collect::<Vec<_>>();
    let by_beginning = |each: &Known| wanted.len() >= 4 && each.device.to_string().starts_with(wanted);
    [
        which(&|each| each.device.to_string() == wanted),
        which(&|each| each.name == wanted && !each.is_revoked),
        which(&|each| each.name == wanted),
        which(&by_beginning),
    ]
    .into_iter()
    .find(|found| !found.is_empty())
    .unwrap_or_default()
}

fn ambiguous(several: &[&Known], wanted: &str) -> Failure {
    let ids: Vec<String> = several
        .iter()
        .map(|each| format!("{}{}", each.device, if each.is_revoked { " (revoked)" } else { "" }))
        .collect();
    let what = format!("{} machines can be meant by {}: {}", several.len(), one_line(wanted), ids.join(", "));
    Failure::new(Exit::Failed, what).hint(
        "give the first digits of the id of one of them; `strongroom device list` shows their snapshots",
    )
}

fn revoke(context: &Context, args: &RevokeArgs) -> Result<Exit, Failure> {
    context.as_owner("device revoke", &args.device, |vault| revoke_in(context, args, vault))
}

fn revoke_in(context: &Context, args: &RevokeArgs, vault: &mut Vault) -> Result<Exit, Failure> {
    let (device, name) = find(vault, &args.device)?;
    let last = last_that_counts(vault, device, args.last)?;
    vault.revoke_device(device, last, context.now, &wait_for_others)?;
    finish(context, vault);
    let ignored = vault.locked().history(device).map_or(0, |history| history.ignored());
    let name = if name.is_empty() { device.short() } else { one_line(&name) };
    if context.output.json {
        context.json(&json!({
            "message_type": "device_revoked",
            "schema": 1,
            "device": device.to_string(),
            "last": last.map_or(0, |head| head.seq),
            "ignored": ignored,
        }))?;
        return Ok(Exit::Done);
    }
    let ignored = usize::try_from(ignored).unwrap_or(usize::MAX);
    match last {
        None if ignored > 0 => {
            let lost = count(ignored, "snapshot");
            context.line(&format!("{name} is shut out; nothing of it counts any more: {lost}"))?;
        }
        None => context.line(&format!("{name} is shut out; none of its snapshots counts"))?,
        Some(head) => {
            let lost = match ignored {
                0 => String::new(),
                1 => "; 1 other snapshot of it counts no more".to_owned(),
                several => format!("; {several} other snapshots of it count no more"),
            };
            context.line(&format!(
                "{name} is shut out; its snapshots up to number {} stay and can be restored{lost}",
                head.seq
            ))?;
        }
    }
    context.line(
        "It held no key that reads. Take away its access to the storage too, so that it can't delete: that is done \
         where the storage is kept",
    )?;
    Ok(Exit::Done)
}

fn reseed(context: &Context, args: &ReseedArgs) -> Result<Exit, Failure> {
    context.as_owner("device reseed", &args.device, |vault| reseed_in(context, args, vault))
}

fn reseed_in(context: &Context, args: &ReseedArgs, vault: &mut Vault) -> Result<Exit, Failure> {
    let (device, name) = find(vault, &args.device)?;
    let bars = context.watched_bars();
    let done = match reseed::reseed(vault, device, context.now, &wait_for_others, &bars) {
        Err(task::Error::Nothing { .. }) => None,
        done => Some(done?),
    };
    drop(bars);
    let Some(done) = done else { return nothing_to_reseed(context, device, &name) };
    finish(context, vault);
    if context.output.json {
        context.json(&json!({
            "message_type": "device_reseeded",
            "schema": 1,
            "device": device.to_string(),
            "jobs": done.jobs,
            "chunks": done.chunks,
            "chunks_left_out": done.left_out,
            "damaged": done.damaged,
            "last": done.head.seq,
        }))?;
        return Ok(Exit::Done);
    }
    let name = if name.is_empty() { device.short() } else { one_line(&name) };
    context.line(&format!(
        "Sealed to {name}: the ids of {} of {}, those of the newest snapshot of each and no more",
        count(done.chunks, "chunk"),
        count(done.jobs, "job")
    ))?;
    if done.left_out > 0 {
        context.line(&format!("{} left out; {name} sends them again", count(done.left_out, "chunk")))?;
    }
    context.line(&format!(
        "{name} goes on where its newest snapshot (number {}) is, at its next backup",
        done.head.seq
    ))?;
    Ok(Exit::Done)
}

/// Says of a machine without a snapshot that it needs nothing.
fn nothing_to_reseed(context: &Context, device: DeviceId, name: &str) -> Result<Exit, Failure> {
    if context.output.json {
        context.json(&json!({
            "message_type": "device_reseeded",
            "schema": 1,
            "device": device.to_string(),
            "jobs": 0,
            "chunks": 0,
            "chunks_left_out": 0,
            "damaged": 0,
            "last": 0,
        }))?;
        return Ok(Exit::Done);
    }
    let name = if name.is_empty() { device.short() } else { one_line(name) };
    context.line(&format!(
        "{name} has no snapshot in the vault: there is nothing to give it, and nothing was changed"
    ))?;
    Ok(Exit::Done)
}

/// The header that a revocation pins: the one asked for, or the newest that counts.
///
/// # Errors
/// [`Exit::Failed`] if the chain has no such place; [`Exit::History`] if it is forked and none was named.
pub fn last_that_counts(
    vault: &Vault,
    device: DeviceId,
    wanted: Option<u64>,
) -> Result<Option<Head>, Failure> {
    if wanted == Some(0) {
        return Ok(None);
    }
    let Some(seq) = wanted else {
        let history = vault.locked().history(device).map_err(|error| match error {
            error @ Error::ForkedChain { .. } => Failure::from(error),
            error => Failure::from(error).hint(
                "its newest snapshots can't be read: `--last NUMBER` keeps those up to that place of its chain, \
                 `strongroom verify` tells which is the last whole one",
            ),
        })?;
        return Ok(history.head());
    };
    // What comes after that place may be anything: it is why the device is shut out.
    let history = vault.locked().history_until(device, seq)?;
    let ended = vault.log().devices().get(&device).and_then(|known| known.revoked);
    history.at(seq).map(Some).ok_or_else(|| match ended {
        Some(end) if seq > end.seq && seq <= end.seq.saturating_add(history.ignored()) => Failure::new(
            Exit::Failed,
            format!("snapshot {seq} of device {} counts no more: it was shut out at number {}", device.short(), end.seq),
        )
        .hint("a chain that an owner has ended is never made longer; `--last` with a lower number ends it earlier"),
        _ => Failure::new(Exit::Failed, format!("device {} has no snapshot number {seq}", device.short()))
            .hint("`strongroom device list` shows the newest one"),
    })
}

/// A name as a shell takes it.
fn quoted(name: &str) -> String {
    format!("'{}'", one_line(name).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(id: u8, name: &str, is_revoked: bool) -> Known {
        Known { device: DeviceId([id; 16]), name: name.to_owned(), is_revoked }
    }

    #[test]
    fn a_name_means_the_machine_that_is_not_shut_out_and_several_are_told_by_their_ids() {
        let known =
            [machine(0x11, "laptop", true), machine(0x22, "laptop", false), machine(0x33, "old", true)];
        let ids = |known: &[Known], wanted: &str| -> Vec<u8> {
            meant(known, wanted).iter().map(|each| each.device.0[0]).collect()
        };
        assert_eq!(ids(&known, "laptop"), [0x22]);
        assert_eq!(ids(&known, "1111"), [0x11]);
        assert_eq!(ids(&known, "old"), [0x33], "as long as nobody else has the name");
        assert_eq!((ids(&known, "111").len(), ids(&known, "lap").len()), (0, 0));

        let known = [machine(0x11, "old", true), machine(0x12, "old", true)];
        assert_eq!(ids(&known, "old"), [0x11, 0x12]);
        let failure = ambiguous(&meant(&known, "old"), "old");
        assert_eq!(
            failure.message,
            format!(
                "2 machines can be meant by old: {} (revoked), {} (revoked)",
                "11".repeat(16),
                "12".repeat(16)
            )
        );
        assert_eq!(ids(&[machine(0x11, "2222", false), machine(0x22, "", false)], "2222"), [0x11]);
    }
}
